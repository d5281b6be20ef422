//! Records that were read for other things than their delivery: for a question, or to be written again.

use std::collections::BTreeMap;

use super::queue::bytes_of;
use crate::ids::Offset;
use crate::record::hidden::Entry;

/// Most bytes that are held; one record is always held.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// Records by ticket.
#[derive(Clone, Default, Debug)]
pub(super) struct Aside {
    records: BTreeMap<Offset, Entry>,
    bytes: usize,
}

impl Aside {
    /// Holds a record, if there is room.
    pub(super) fn put(&mut self, ticket: Offset, entry: Entry) {
        let bytes = bytes_of(&entry);
        if self.records.is_empty() || self.bytes + bytes <= BYTES_MAX {
            self.take(ticket);
            self.bytes += bytes;
            self.records.insert(ticket, entry);
        }
    }

    /// Takes a record, if it is held.
    pub(super) fn take(&mut self, ticket: Offset) -> Option<Entry> {
        let entry = self.records.remove(&ticket)?;
        self.bytes -= bytes_of(&entry);
        Some(entry)
    }

    /// Returns a record, if it is held.
    pub(super) fn of(&self, ticket: Offset) -> Option<&Entry> {
        self.records.get(&ticket)
    }

    /// Drops what is wanted no more, once much is held.
    pub(super) fn tidy(&mut self, is_wanted: impl Fn(Offset) -> bool) {
        if self.bytes > BYTES_MAX / 2 {
            self.records.retain(|ticket, _| is_wanted(*ticket));
            self.bytes = self.records.values().map(bytes_of).sum();
        }
    }

    /// Returns how many bytes are held.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}
