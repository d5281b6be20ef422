//! One segment of a log: a file of record batches in Kafka's format, and what is known of it.
//!
//! Positions are given out at append time; the bytes follow later. What lies above the last
//! checkpoint is rewritten after a crash, never trusted.

use crate::digest::Digest;
use crate::ids::Offset;
use crate::io::FileName;
use crate::log::offset_index::{self, OffsetIndex};
use crate::log::time_index::{self, TimeIndex};
use crate::record::batch::Batch;
use crate::time::UnixMillis;

/// Largest size of an index file, in bytes: Kafka's default of `segment.index.bytes`, which cannot be
/// set.
const INDEX_MAX_BYTES: usize = 10 << 20;

/// What is known of a segment without opening it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// Offset of its first record, which names its file.
    pub(super) base: Offset,
    /// The offset after its last record.
    pub(super) end: Offset,
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// The largest timestamp of its batches, as their headers claim it; -1 for none.
    pub(super) max_timestamp: i64,
    /// When its first batch was appended.
    pub(super) first_append: UnixMillis,
    /// When its last batch was appended.
    pub(super) last_append: UnixMillis,
}

/// Both indexes of a segment.
#[derive(Clone, Debug)]
pub(super) struct Indexes {
    pub(super) offsets: OffsetIndex,
    pub(super) times: TimeIndex,
}

impl Indexes {
    /// Returns whether one of the files has reached `segment.index.bytes`. The last entry of the file
    /// of times is kept for the end of the segment, as in Kafka.
    pub(super) fn are_full(&self) -> bool {
        self.offsets.len() >= INDEX_MAX_BYTES / offset_index::ENTRY_LEN
            || self.times.len() + 1 >= INDEX_MAX_BYTES / time_index::ENTRY_LEN
    }
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) extent: Extent,
    /// `None` for a segment from before this start that nobody has looked into yet.
    pub(super) indexes: Option<Indexes>,
    /// Whether the index files lack something.
    pub(super) indexes_dirty: bool,
    /// Whether the file of aborted transactions may lack something.
    pub(super) transactions_dirty: bool,
    /// Whether it takes no more batches, because its end was cut off.
    pub(super) closed: bool,
    /// Whether its file may be longer than it should be, so that its length is to be flushed.
    pub(super) resized: bool,
}

impl Segment {
    pub(super) fn new(base: Offset, append: UnixMillis, interval_bytes: u64) -> Self {
        Self {
            extent: Extent {
                base,
                end: base,
                bytes: 0,
                max_timestamp: -1,
                first_append: append,
                last_append: append,
            },
            indexes: Some(Indexes {
                offsets: OffsetIndex::new(base, interval_bytes),
                times: TimeIndex::new(base),
            }),
            indexes_dirty: true,
            transactions_dirty: false,
            closed: false,
            resized: false,
        }
    }

    pub(super) const fn from_extent(extent: Extent) -> Self {
        Self {
            extent,
            indexes: None,
            indexes_dirty: false,
            transactions_dirty: false,
            closed: false,
            resized: false,
        }
    }

    /// Gives a batch its place; returns the position.
    pub(super) fn take_in(&mut self, batch: &Batch, append: UnixMillis) -> u64 {
        let position = self.extent.bytes;
        if let Some(indexes) = &mut self.indexes {
            indexes.times.note_batch(batch.max_timestamp(), batch.last_offset());
            if indexes.offsets.note_batch(batch.last_offset(), position, batch.size() as u64) {
                indexes.times.add_entry();
            }
            self.indexes_dirty = true;
        }
        self.extent.bytes += batch.size() as u64;
        self.extent.end = batch.next_offset();
        self.extent.max_timestamp = self.extent.max_timestamp.max(batch.max_timestamp());
        self.extent.last_append = append;
        position
    }

    /// Forgets what lies at or beyond `end`, which begins at byte `bytes`. The times of what is left are
    /// not known exactly, so those of before bound them; no batch follows in this segment.
    pub(super) fn cut(&mut self, end: Offset, bytes: u64) {
        self.extent.end = end;
        self.extent.bytes = bytes;
        self.closed = true;
        self.resized = true;
        self.transactions_dirty = true;
        if let Some(indexes) = &mut self.indexes {
            indexes.offsets.truncate(end, bytes);
            indexes.times.truncate(end);
            self.indexes_dirty = true;
        }
    }

    /// The age basis of retention: the largest timestamp, or the last append where that is earlier.
    pub(super) fn retention_time(&self) -> UnixMillis {
        if self.extent.max_timestamp < 0 {
            return self.extent.last_append;
        }
        UnixMillis(self.extent.max_timestamp.min(self.extent.last_append.0))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.extent.bytes == 0
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.signed(self.extent.base.0).signed(self.extent.end.0).number(self.extent.bytes);
        digest.signed(self.extent.max_timestamp).signed(self.extent.last_append.0);
    }
}

/// Name of a segment's file with one of Kafka's endings, such as `log` or `timeindex`.
pub(super) fn segment_file(folder: &FileName, base: Offset, ending: &str) -> FileName {
    folder.join(&format!("{:020}.{ending}", base.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PartitionIndex, TopicName, TopicPartition, Uuid};
    use crate::log::api::{LogSettings, Storage};
    use crate::log::partition_log::{AppendLimits, PartitionLog};

    fn indexes() -> Indexes {
        Indexes { offsets: OffsetIndex::new(Offset::ZERO, 0), times: TimeIndex::new(Offset::ZERO) }
    }

    #[test]
    fn indexes_are_full_where_kafkas_are() {
        let mut by_offset = indexes();
        by_offset.offsets.note_batch(Offset::ZERO, 0, 1);
        for entry in 1..=1_310_720_i64 {
            assert!(!by_offset.are_full(), "{entry}");
            by_offset.offsets.note_batch(Offset(entry), entry as u64, 1);
        }
        assert!(by_offset.are_full());
        let mut by_time = indexes();
        for entry in 1..=873_812_i64 {
            assert!(!by_time.are_full(), "{entry}");
            by_time.times.note_batch(entry, Offset(entry));
            by_time.times.add_entry();
        }
        assert!(by_time.are_full());

        let id = TopicPartition { topic_id: Uuid([1; 16]), partition: PartitionIndex(0) };
        let name = TopicName::parse("t").expect("a name");
        let settings = LogSettings::until_configured(Storage::Disk);
        let limits = AppendLimits { producer_ids_max: 1 };
        let mut log = PartitionLog::new(id, name, settings, limits);
        let mut active = Segment::new(Offset::ZERO, UnixMillis(0), 0);
        active.extent.bytes = 1;
        log.segments.push_back(active);
        assert!(!log.rolls(UnixMillis(0), 1));
        log.segments[0].indexes = Some(by_time);
        assert!(log.rolls(UnixMillis(0), 1));
    }
}
