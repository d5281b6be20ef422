//! The sparse time index of one segment, in memory and in Kafka's `.timeindex` file.
//!
//! An entry (T, O) says: T is the largest timestamp up to offset O, and no later entry has a smaller
//! one. So every record later than T comes after O. Entries are added together with those of the
//! offset index. An index that is missing, cut within an entry, padded or zeroed is rebuilt.
//!
//! Invariant: timestamps and offsets both rise strictly from entry to entry.
//!
//! Source: KIP-33; entries of 12 bytes, timestamp i64 and relative offset u32, both big-endian.
//! What a header claims as its largest timestamp is the caller's to bound before it comes here.

use crate::digest::Digest;
use crate::ids::Offset;

/// Bytes of one entry in the file.
pub const ENTRY_LEN: usize = 12;

/// The index of one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeIndex {
    base_offset: Offset,
    /// The largest timestamp so far, and the last offset of the first batch that has it.
    largest: Option<(i64, Offset)>,
    /// Timestamp and relative offset.
    entries: Vec<(i64, u32)>,
}

impl TimeIndex {
    /// Makes the empty index of a segment with that first offset.
    pub const fn new(base_offset: Offset) -> Self {
        Self { base_offset, largest: None, entries: Vec::new() }
    }

    /// Notes a batch by its largest timestamp (Unix milliseconds, below 0 for none) and last offset.
    pub fn note_batch(&mut self, max_timestamp: i64, last_offset: Offset) {
        if max_timestamp >= 0 && self.largest.is_none_or(|(largest, _)| max_timestamp > largest) {
            self.largest = Some((max_timestamp, last_offset));
        }
    }

    /// Adds an entry for what was noted, if it is later than the last entry. Called when the offset
    /// index gets an entry, and once more when the segment is closed. Returns whether one was added.
    pub fn add_entry(&mut self) -> bool {
        let Some((timestamp, offset)) = self.largest else { return false };
        let relative = offset.0.checked_sub(self.base_offset.0).map(u32::try_from);
        let Some(Ok(relative)) = relative else { return false };
        if self.entries.last().is_some_and(|last| timestamp <= last.0 || relative <= last.1) {
            return false;
        }
        self.entries.push((timestamp, relative));
        true
    }

    /// Returns the largest timestamp of the segment, and the last offset of the first batch that has it.
    pub const fn largest(&self) -> Option<(i64, Offset)> {
        self.largest
    }

    /// Returns an offset before which every record is earlier than `timestamp`, to scan forward from.
    pub fn lookup(&self, timestamp: i64) -> Offset {
        let later = self.entries.partition_point(|entry| entry.0 < timestamp);
        later
            .checked_sub(1)
            .map_or(self.base_offset, |at| self.base_offset.plus(i64::from(self.entries[at].1) + 1))
    }

    /// Forgets entries at or beyond an offset, where the segment was cut.
    ///
    /// What remains may be lower than the truth: the batches after the last entry must be noted
    /// again, from [`noted_until`](Self::noted_until) on.
    pub fn truncate(&mut self, end_offset: Offset) {
        let relative = end_offset.0.saturating_sub(self.base_offset.0);
        self.entries.retain(|entry| i64::from(entry.1) < relative);
        self.largest = self.last_entry();
    }

    /// Returns the offset up to which entries speak for the batches; those from it on must be noted
    /// after [`truncate`](Self::truncate) or [`decode`](Self::decode).
    pub fn noted_until(&self) -> Offset {
        self.last_entry().map_or(self.base_offset, |(_, offset)| offset.plus(1))
    }

    /// Returns the number of entries.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no entry.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns every entry, timestamp and offset, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, Offset)> + '_ {
        self.entries.iter().map(|&(time, at)| (time, self.base_offset.plus(i64::from(at))))
    }

    /// Writes Kafka's `.timeindex`, without padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * ENTRY_LEN);
        for (timestamp, relative) in &self.entries {
            out.extend_from_slice(&timestamp.to_be_bytes());
            out.extend_from_slice(&relative.to_be_bytes());
        }
        out
    }

    /// Reads Kafka's `.timeindex` of a closed segment that ends before `end_offset`.
    ///
    /// `None` means: rebuild it from the segment. A length that is no multiple of an entry, entries
    /// that do not rise (zero padding among them), entries beyond the segment, a zero entry and an
    /// empty file of a segment with records are not believed. A file cut at a whole entry cannot
    /// be told from a shorter one: whoever knows the largest timestamp compares it.
    pub fn decode(bytes: &[u8], base_offset: Offset, end_offset: Offset) -> Option<Self> {
        let (entries, cut) = bytes.as_chunks::<ENTRY_LEN>();
        if !cut.is_empty() || (entries.is_empty() && base_offset < end_offset) {
            return None;
        }
        let mut index = Self::new(base_offset);
        for &[a, b, c, d, e, f, g, h, i, j, k, l] in entries {
            let timestamp = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
            let relative = u32::from_be_bytes([i, j, k, l]);
            let offset = Offset(base_offset.0.checked_add(i64::from(relative))?);
            let doubtful = timestamp < 0 || offset >= end_offset || (timestamp, relative) == (0, 0);
            index.largest = Some((timestamp, offset));
            if doubtful || !index.add_entry() {
                return None;
            }
        }
        Some(index)
    }

    /// Takes the index into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest.signed(self.base_offset.0);
        let (timestamp, offset) = self.largest.unwrap_or((-1, Offset(-1)));
        digest.signed(timestamp).signed(offset.0).number(self.entries.len() as u64);
        for &(timestamp, relative) in &self.entries {
            digest.signed(timestamp).number(u64::from(relative));
        }
    }

    fn last_entry(&self) -> Option<(i64, Offset)> {
        self.entries.last().map(|&(time, at)| (time, self.base_offset.plus(i64::from(at))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Offset = Offset(500);

    /// Batches of (records, largest timestamp, whether the offset index gets an entry before it).
    fn segment(batches: &[(i64, i64, bool)]) -> (TimeIndex, Vec<(i64, i64, i64)>) {
        let mut index = TimeIndex::new(BASE);
        let (mut offset, mut placed) = (BASE, Vec::new());
        for &(records, timestamp, entry) in batches {
            if entry {
                index.add_entry();
            }
            index.note_batch(timestamp, offset.plus(records - 1));
            placed.push((offset.0, offset.0 + records, timestamp));
            offset = offset.plus(records);
        }
        index.add_entry();
        (index, placed)
    }

    fn batches() -> impl Strategy<Value = Vec<(i64, i64, bool)>> {
        prop::collection::vec((1..5i64, -1..60i64, any::<bool>()), 0..40)
    }

    #[test]
    fn a_file_has_kafkas_layout() {
        let (index, _) = segment(&[(2, 0x0102, true), (1, 0x0103, true)]);
        let expected =
            [[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 2]].concat();
        assert_eq!(index.encode(), expected);
    }

    #[test]
    fn a_damaged_index_is_not_believed() {
        let (index, placed) =
            segment(&[(2, 10, true), (3, 30, true), (1, 20, true), (1, 40, true)]);
        let end = Offset(placed[3].1);
        let good = index.encode();
        let decode = |bytes: &[u8]| TimeIndex::decode(bytes, BASE, end);
        assert_eq!(decode(&good), Some(index));
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&good[..good.len() - 1]), None);
        assert_eq!(decode(&vec![0; good.len()]), None);
        assert_eq!(decode(&[0; 12]), None);
        assert_eq!(decode(&[&good[..], &[0; 12]].concat()), None);
        assert_eq!(decode(&[&good[..], &[0x7f; 12]].concat()), None);
        assert_eq!(decode(&[0xff; 12]), None);
    }

    proptest! {
        #[test]
        fn nothing_before_a_lookup_is_as_late_as_what_is_looked_for(
            batches in batches(), target in 0..70i64,
        ) {
            let (index, placed) = segment(&batches);
            let from = index.lookup(target);
            for &(_, next, timestamp) in &placed {
                prop_assert!(next > from.0 || timestamp < target);
            }
            let largest = placed.iter().map(|batch| batch.2).max().filter(|time| *time >= 0);
            let first = placed.iter().find(|batch| Some(batch.2) == largest);
            prop_assert_eq!(index.largest(), first.map(|batch| (batch.2, Offset(batch.1 - 1))));
        }

        #[test]
        fn an_index_survives_its_file(batches in batches()) {
            let (index, placed) = segment(&batches);
            prop_assume!(!index.is_empty() && index.iter().next() != Some((0, BASE)));
            let end = Offset(placed.last().map_or(BASE.0, |batch| batch.1));
            prop_assert_eq!(TimeIndex::decode(&index.encode(), BASE, end), Some(index));
        }

        #[test]
        fn a_truncated_index_is_right_once_the_rest_is_noted_again(
            batches in batches(), keep in 0..40usize, target in 0..70i64,
        ) {
            let keep = keep.min(batches.len());
            let (mut index, placed) = segment(&batches);
            let end = placed.get(keep).map_or(i64::MAX, |batch| batch.0);
            index.truncate(Offset(end));
            let until = index.noted_until();
            for &(base, next, timestamp) in placed[..keep].iter().filter(|b| b.0 >= until.0) {
                prop_assert!(base >= until.0);
                index.note_batch(timestamp, Offset(next - 1));
            }
            let (short, _) = segment(&batches[..keep]);
            prop_assert_eq!(index.largest(), short.largest());
            let from = index.lookup(target);
            for &(_, next, timestamp) in &placed[..keep] {
                prop_assert!(next > from.0 || timestamp < target);
            }
        }

        #[test]
        fn reading_an_index_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = TimeIndex::decode(&bytes, Offset(i64::MAX), Offset(i64::MAX));
            let _ = TimeIndex::decode(&bytes, BASE, Offset(i64::MAX));
        }
    }
}
