//! The sparse offset index of one segment, in memory and in Kafka's `.index` file.
//!
//! An entry says: the batch with this base offset begins at this position. One is added for each
//! `index.interval.bytes` of log, so a lookup ends with a short scan. An index only saves time: one
//! that is missing, cut, padded or zeroed is rebuilt from the segment and never believed.
//!
//! Invariants:
//! 1. Offsets and positions both rise strictly from entry to entry.
//! 2. No entry names the segment's first batch: position 0 needs none.
//!
//! Source: Kafka documentation, "Log"; entries of 8 bytes, relative offset and position, both u32
//! big-endian. Kafka writes the last offset of the batch where we write the base offset: either way
//! everything before the position lies below the entry's offset, which is all that a lookup needs.

use crate::digest::Digest;
use crate::ids::Offset;

/// Bytes of one entry in the file.
pub const ENTRY_LEN: usize = 8;

/// The index of one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetIndex {
    base_offset: Offset,
    interval_bytes: u64,
    bytes_since_entry: u64,
    /// Relative offset and position.
    entries: Vec<(u32, u32)>,
}

/// What is known of a segment, to judge an index file by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentExtent {
    /// The offset after the segment's last record.
    pub end_offset: Offset,
    /// Its length in bytes.
    pub bytes: u64,
    /// The largest distance in bytes without an entry that is plausible: the index interval and one
    /// batch. A larger one is a cut index.
    pub max_gap: u64,
}

impl OffsetIndex {
    /// Makes the empty index of a segment with that first offset.
    ///
    /// `interval_bytes` is `index.interval.bytes`: more than so many bytes lie between two entries.
    pub const fn new(base_offset: Offset, interval_bytes: u64) -> Self {
        Self { base_offset, interval_bytes, bytes_since_entry: 0, entries: Vec::new() }
    }

    /// Notes a batch appended at `position` of the segment; returns whether it got an entry.
    ///
    /// As in Kafka's files an entry holds the batch's last offset and where the batch begins.
    ///
    /// A batch whose offset or position does not fit 32 bits is not indexed; segments end long before.
    pub fn note_batch(&mut self, last_offset: Offset, position: u64, batch_bytes: u64) -> bool {
        let due = self.bytes_since_entry > self.interval_bytes;
        let added = due && self.push(last_offset, position);
        if added {
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(batch_bytes);
        added
    }

    fn push(&mut self, offset: Offset, position: u64) -> bool {
        let relative = offset.0.checked_sub(self.base_offset.0).map(u32::try_from);
        let (Some(Ok(relative)), Ok(position)) = (relative, u32::try_from(position)) else {
            return false;
        };
        let (last_relative, last_position) = self.entries.last().copied().unwrap_or((0, 0));
        if relative <= last_relative || position <= last_position {
            return false;
        }
        self.entries.push((relative, position));
        true
    }

    /// Returns a position at or before the batch that holds `target`, to scan forward from.
    pub fn lookup(&self, target: Offset) -> u64 {
        let relative = target.0.saturating_sub(self.base_offset.0);
        let above = self.entries.partition_point(|entry| i64::from(entry.0) <= relative);
        above.checked_sub(1).map_or(0, |at| u64::from(self.entries[at].1))
    }

    /// Forgets entries at or beyond an offset, where the segment was cut at `position`.
    pub fn truncate(&mut self, end_offset: Offset, position: u64) {
        let relative = end_offset.0.saturating_sub(self.base_offset.0);
        self.entries
            .retain(|&(offset, at)| i64::from(offset) < relative && u64::from(at) < position);
        let last = self.entries.last().map_or(0, |entry| u64::from(entry.1));
        self.bytes_since_entry = position.saturating_sub(last);
    }

    /// Returns the number of entries.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no entry.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns every entry, offset and position, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Offset, u64)> + '_ {
        self.entries
            .iter()
            .map(|&(relative, at)| (self.base_offset.plus(i64::from(relative)), u64::from(at)))
    }

    /// Writes Kafka's `.index`, without padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * ENTRY_LEN);
        for (relative, position) in &self.entries {
            out.extend_from_slice(&relative.to_be_bytes());
            out.extend_from_slice(&position.to_be_bytes());
        }
        out
    }

    /// Reads Kafka's `.index` of a segment of that extent.
    ///
    /// `None` means: rebuild it from the segment. A length that is no multiple of an entry, entries
    /// that do not rise (zero padding among them), entries beyond the segment, and a stretch without
    /// entries longer than `extent.max_gap` are not believed.
    pub fn decode(
        bytes: &[u8],
        base_offset: Offset,
        interval_bytes: u64,
        extent: &SegmentExtent,
    ) -> Option<Self> {
        let mut index = Self::new(base_offset, interval_bytes);
        let (entries, cut) = bytes.as_chunks::<ENTRY_LEN>();
        if !cut.is_empty() {
            return None;
        }
        let mut last_position = 0;
        for &[a, b, c, d, e, f, g, h] in entries {
            let relative = u32::from_be_bytes([a, b, c, d]);
            let position = u64::from(u32::from_be_bytes([e, f, g, h]));
            let offset = Offset(base_offset.0.checked_add(i64::from(relative))?);
            let inside = offset < extent.end_offset && position < extent.bytes;
            if !inside || !index.push(offset, position) || position - last_position > extent.max_gap
            {
                return None;
            }
            last_position = position;
        }
        index.bytes_since_entry = extent.bytes - last_position;
        (index.bytes_since_entry <= extent.max_gap).then_some(index)
    }

    /// Takes the index into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest.signed(self.base_offset.0).number(self.bytes_since_entry);
        digest.number(self.entries.len() as u64);
        for &(relative, position) in &self.entries {
            digest.number(u64::from(relative)).number(u64::from(position));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Offset = Offset(1_000);

    /// Batches of (records, bytes): their base offset, next offset and position.
    fn segment(batches: &[(i64, u64)]) -> (OffsetIndex, Vec<(i64, i64, u64)>, SegmentExtent) {
        let mut index = OffsetIndex::new(BASE, 100);
        let (mut offset, mut position, mut placed) = (BASE, 0, Vec::new());
        for &(records, bytes) in batches {
            index.note_batch(offset.plus(records - 1), position, bytes);
            placed.push((offset.0, offset.0 + records, position));
            offset = offset.plus(records);
            position += bytes;
        }
        (index, placed, SegmentExtent { end_offset: offset, bytes: position, max_gap: 100 + 80 })
    }

    fn batches() -> impl Strategy<Value = Vec<(i64, u64)>> {
        prop::collection::vec((1..20i64, 61..=80u64), 0..60)
    }

    #[test]
    fn an_entry_is_added_when_more_than_the_interval_has_passed() {
        let (index, _, _) = segment(&[(1, 70); 5]);
        assert_eq!(index.iter().collect::<Vec<_>>(), [(Offset(1_002), 140), (Offset(1_004), 280)]);
        assert_eq!(index.encode(), [0, 0, 0, 2, 0, 0, 0, 140, 0, 0, 0, 4, 0, 0, 1, 24]);
    }

    #[test]
    fn a_damaged_index_is_not_believed() {
        let (index, _, extent) = segment(&[(3, 70); 40]);
        let good = index.encode();
        let decode = |bytes: &[u8]| OffsetIndex::decode(bytes, BASE, 100, &extent);
        assert_eq!(decode(&good), Some(index));
        assert_eq!(decode(&[]), None, "missing or cut to nothing");
        for cut in 1..good.len() {
            assert_eq!(decode(&good[..cut]), None, "cut to {cut} bytes");
        }
        assert_eq!(decode(&vec![0; good.len()]), None, "zeroed");
        assert_eq!(decode(&[&good[..], &[0; 8]].concat()), None, "padded with zeros");
        assert_eq!(decode(&[&good[..], &[0xff; 8]].concat()), None, "beyond the segment");
        assert_eq!(decode(&[&good[8..], &good[..8]].concat()), None, "out of order");
    }

    #[test]
    fn the_empty_index_of_a_short_segment_is_believed() {
        let (index, _, extent) = segment(&[(1, 70)]);
        assert_eq!(OffsetIndex::decode(&[], BASE, 100, &extent), Some(index));
    }

    proptest! {
        #[test]
        fn a_lookup_never_lies_behind_the_batch_and_never_far_before_it(batches in batches()) {
            let (index, placed, extent) = segment(&batches);
            for &(base, next, position) in &placed {
                for target in base..next {
                    let found = index.lookup(Offset(target));
                    prop_assert!(found <= position);
                    prop_assert!(position - found <= extent.max_gap);
                    prop_assert!(placed.iter().any(|batch| batch.2 == found));
                }
            }
            prop_assert_eq!(index.lookup(Offset(0)), 0);
        }

        #[test]
        fn an_index_survives_its_file(batches in batches()) {
            let (index, _, extent) = segment(&batches);
            prop_assert_eq!(OffsetIndex::decode(&index.encode(), BASE, 100, &extent), Some(index));
        }

        #[test]
        fn a_truncated_index_is_that_of_the_shorter_segment(batches in batches(), keep in 0..60usize) {
            let keep = keep.min(batches.len());
            let (mut index, _, _) = segment(&batches);
            let (short, _, extent) = segment(&batches[..keep]);
            index.truncate(extent.end_offset, extent.bytes);
            prop_assert_eq!(index, short);
        }

        #[test]
        fn reading_an_index_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let extent = SegmentExtent { end_offset: Offset(i64::MAX), bytes: u64::MAX, max_gap: 9 };
            prop_assert!(OffsetIndex::decode(&bytes, Offset(i64::MAX), 1, &extent).is_none());
        }
    }
}
