//! What is due when, and the records of what is due soon.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::ids::Offset;
use crate::record::hidden::Entry;

/// Orders what comes: by due time in Unix milliseconds, then as it was accepted.
pub(super) type Key = (i64, Offset);

/// Bytes that an entry counts for beyond those of its record.
const ENTRY_OVERHEAD: usize = 64;

/// Entries that come when they are due, with the records of the first ones.
///
/// Invariant: a key is in exactly one of `absent`, `late` and `present`, and those in `present` have their record
/// in `records`.
#[derive(Clone, Default, Debug)]
pub(super) struct Queue {
    absent: BTreeSet<Key>,
    /// Absent ones that the others do not wait for.
    late: BTreeSet<Key>,
    present: BTreeSet<Key>,
    records: BTreeMap<Offset, Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Queue {
    /// Sets how many bytes of records are held at most, or one record more; one is always held.
    pub(super) const fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Adds an entry, with its record if that is to be held.
    pub(super) fn insert(&mut self, key: Key, record: Option<Entry>) {
        let Some(record) = record else {
            self.absent.insert(key);
            return;
        };
        self.absent.remove(&key);
        self.late.remove(&key);
        self.present.insert(key);
        self.bytes += bytes_of(&record);
        if let Some(before) = self.records.insert(key.1, record) {
            self.bytes -= bytes_of(&before);
        }
        // What comes last is read again when its time is near. One for which another had to go stays, though it be
        // larger: else none of them would be held, and both be asked for in turns.
        let is_last = self.present.last() == Some(&key);
        while self.bytes > self.bytes_max && self.present.len() > 1 {
            let Some(last) = self.present.last().copied().filter(|last| is_last || *last != key)
            else {
                break;
            };
            let Some(_) = self.remove(last) else { break };
            self.absent.insert(last);
        }
    }

    /// Takes an entry out, and returns its record if that was held.
    pub(super) fn remove(&mut self, key: Key) -> Option<Entry> {
        if !self.present.remove(&key) {
            self.absent.remove(&key);
            self.late.remove(&key);
            return None;
        }
        let record = self.records.remove(&key.1)?;
        self.bytes -= bytes_of(&record);
        Some(record)
    }

    /// Returns whether the record of this entry is awaited.
    pub(super) fn lacks(&self, key: Key) -> bool {
        self.absent.contains(&key) || self.late.contains(&key)
    }

    /// Lets the others wait no longer for the record of this entry.
    pub(super) fn pass_by(&mut self, key: Key) {
        if self.absent.remove(&key) {
            self.late.insert(key);
        }
    }

    /// Lets the others wait again for the record of this entry.
    pub(super) fn wait_for(&mut self, key: Key) {
        if self.late.remove(&key) {
            self.absent.insert(key);
        }
    }

    /// Returns the record of an entry, if it is held.
    pub(super) fn record(&self, ticket: Offset) -> Option<&Entry> {
        self.records.get(&ticket)
    }

    /// Returns the first entry that comes.
    pub(super) fn first(&self) -> Option<Key> {
        self.present.first().into_iter().chain(self.absent.first()).min().copied()
    }

    /// Returns the first entry whose record is not held.
    pub(super) fn first_absent(&self) -> Option<Key> {
        self.absent.first().copied()
    }

    /// Returns what is due at `wall_ms` and can be delivered, in order: it ends at the first whose record is
    /// not held.
    pub(super) fn due(&self, wall_ms: i64) -> impl Iterator<Item = (Key, &Entry)> {
        let end = self.first_absent().unwrap_or((i64::MAX, Offset(i64::MAX)));
        let keys = self.present.range(..end).take_while(move |(due_ms, _)| *due_ms <= wall_ms);
        keys.filter_map(|&key| Some((key, self.records.get(&key.1)?)))
    }

    /// Returns what is due up to `wall_ms` and lacks its record, in order.
    pub(super) fn lacking(&self, wall_ms: i64) -> impl Iterator<Item = Key> {
        self.absent.iter().take_while(move |(due_ms, _)| *due_ms <= wall_ms).copied()
    }

    /// Returns whether a record of this size would be held, besides `more` bytes of others that are to come:
    /// there is room, or it comes before one that is held.
    pub(super) fn would_hold(&self, key: Key, bytes: usize, more: usize) -> bool {
        let last = self.present.last();
        let is_first = last.is_none() && more == 0;
        is_first
            || last.is_some_and(|last| key < *last)
            || self.bytes + bytes + more <= self.bytes_max
    }

    /// Returns the entries behind `after`, in order.
    pub(super) fn after(&self, after: Option<Key>) -> impl Iterator<Item = Key> {
        use std::ops::Bound;
        let bounds = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut present = self.present.range(bounds).peekable();
        let mut absent = self.absent.range(bounds).peekable();
        let mut late = self.late.range(bounds).peekable();
        std::iter::from_fn(move || {
            let first = [present.peek(), absent.peek(), late.peek()];
            let first = first.into_iter().flatten().copied().min()?;
            let next = |key: &&Key| *key == first;
            present.next_if(next).or_else(|| absent.next_if(next)).or_else(|| late.next_if(next))
        })
        .copied()
    }

    /// Returns how many bytes of records are held.
    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many entries come.
    pub(super) fn len(&self) -> usize {
        self.present.len() + self.absent.len() + self.late.len()
    }
}

/// Returns what an entry counts for.
pub(super) fn bytes_of(entry: &Entry) -> usize {
    let field = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = entry.headers.iter().map(|(name, value)| 8 + name.len() + field(value));
    let cron = entry.cron.as_ref().map_or(0, |(expression, zone)| expression.len() + zone.len());
    let size = ENTRY_OVERHEAD + field(&entry.id) + field(&entry.key) + field(&entry.value);
    size + headers.sum::<usize>() + cron
}

/// Returns the entry such that it keeps no more memory than a few times its own, where it is part of `whole`
/// bytes that would stay for its sake.
pub(super) fn held(mut entry: Entry, whole: usize) -> Entry {
    if bytes_of(&entry) * 2 >= whole {
        return entry;
    }
    let detach = |bytes: &mut Bytes| *bytes = Bytes::copy_from_slice(bytes);
    let fields = [&mut entry.id, &mut entry.key, &mut entry.value];
    fields.into_iter().flatten().for_each(detach);
    for (name, value) in &mut entry.headers {
        detach(name);
        value.iter_mut().for_each(detach);
    }
    if let Some((expression, zone)) = &mut entry.cron {
        (*expression, *zone) = (expression.detached(), zone.detached());
    }
    if let Some(half) = &mut entry.half {
        half.check_group = half.check_group.detached();
    }
    entry
}
