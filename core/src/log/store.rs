//! The one way into the logs of a shard.

use std::sync::Arc;

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{
    Incarnation, IoToken, LeaderEpoch, NodeId, Offset, ShardId, TopicName, TopicPartition, Uuid,
};
use crate::io::{Completion, DiskError, Effects};
use crate::log::stable::Stable;
use crate::record::batch::Batch;
use crate::time::{Instant, Now};

/// What the log room is told at its birth.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Which shard's logs these are; the shard's journal has a folder of its own.
    pub shard: ShardId,
    /// The node whose data directory it is; a directory of another node is refused.
    pub node_id: NodeId,
    /// A random number of this start, for ids that are made on an empty directory.
    pub seed: u64,
    /// Whether all logs live in memory and no file is ever opened.
    pub memory_only: bool,
    /// Length of the first journal file in bytes (4 MiB).
    pub journal_first_file_bytes: u64,
    /// Length of every other journal file in bytes (64 MiB).
    pub journal_file_bytes: u64,
    /// Most bytes of all journal files together (1 GiB).
    pub journal_max_bytes: u64,
    /// Largest block gathered while another is in flight, in bytes (256 KiB).
    pub journal_block_bytes: usize,
    /// Most bytes of batches not yet written to a segment (`mainspring.unwritten.max.bytes`, 256 MiB).
    pub unwritten_max_bytes: u64,
    /// Bytes of recent batches kept in memory for fetches (64 MiB).
    pub tail_cache_bytes: u64,
    /// How often retention is looked at, in milliseconds (`log.retention.check.interval.ms`).
    pub retention_check_interval_ms: i64,
    /// Most producer ids remembered for each partition (`mainspring.producer.ids.max`).
    pub producer_ids_max: usize,
    /// Idle time after which a producer id is forgotten, in milliseconds (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            shard: ShardId(0),
            node_id: NodeId(1),
            seed: 0,
            memory_only: false,
            journal_first_file_bytes: 4 << 20,
            journal_file_bytes: 64 << 20,
            journal_max_bytes: 1 << 30,
            journal_block_bytes: 256 << 10,
            unwritten_max_bytes: 256 << 20,
            tail_cache_bytes: 64 << 20,
            retention_check_interval_ms: 300_000,
            producer_ids_max: 100_000,
            producer_id_expiration_ms: 86_400_000,
        }
    }
}

/// Where the bytes of a log live. Fixed at its creation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// In the journal and in segment files.
    Disk,
    /// In memory alone; gone with the process.
    Memory,
}

/// When an append to a log on disk is stable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlushPolicy {
    /// When the journal's flush has completed.
    Ack,
    /// When the journal's write has completed (`mainspring.flush=lazy`).
    Lazy,
}

/// Settings of one log that may change while it lives, `storage` excepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// Where its bytes live.
    pub storage: Storage,
    /// When an append is stable.
    pub flush: FlushPolicy,
    /// Size at which a segment is rolled, in bytes (`segment.bytes`).
    pub segment_bytes: u64,
    /// Age at which a segment is rolled, in milliseconds (`segment.ms`).
    pub segment_ms: i64,
    /// Age at which records may go, in milliseconds, -1 for never (`retention.ms`).
    pub retention_ms: i64,
    /// Size that retention leaves at least, in bytes, -1 for no limit (`retention.bytes`).
    pub retention_bytes: i64,
    /// Bytes of log between two entries of an index (`index.interval.bytes`).
    pub index_interval_bytes: u64,
    /// Most bytes of a memory log; its oldest batches go first (`mainspring.memory.max.bytes`).
    pub memory_max_bytes: u64,
    /// Whether retention may delete at all: false for the metadata log.
    pub delete: bool,
}

/// Names a read that the store was asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadTicket(pub u64);

/// Where the bytes of a fetch come from. Ends on a batch boundary.
#[derive(Clone, Debug)]
pub enum FetchPlan {
    /// Whole batches in memory, one after the other; empty where there is nothing to read.
    Memory(Vec<Bytes>),
    /// A range of a segment file, to be handed to [`LogStore::read`].
    File(FileRange),
}

/// A range of one log that lies in a segment file.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The log.
    pub log: TopicPartition,
    /// The first offset wanted.
    pub from: Offset,
    /// Nothing at or beyond this offset is returned.
    pub end: Offset,
    /// Most bytes to return.
    pub max_bytes: u64,
    /// Whether the first batch is returned even if it is larger than `max_bytes` (KIP-74).
    pub at_least_one: bool,
}

/// What the sequence of a produced batch says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequence {
    /// It is the next one, or there is nothing to compare it with: append it.
    Append,
    /// It was appended before, within the last five batches of its producer.
    Duplicate {
        /// Where it was appended.
        base_offset: Offset,
        /// Its last offset, inclusive: the answer waits until this is committed.
        last_offset: Offset,
        /// The largest timestamp of the stored batch in Unix milliseconds.
        timestamp: i64,
    },
}

/// What is looked for by time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeLookup {
    /// The first record whose timestamp is at least this many Unix milliseconds.
    AtLeast(i64),
    /// The record with the largest timestamp, the first of them.
    Largest,
}

/// Why an append was refused. Nothing was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// There is no such log here.
    #[error("the log is not known")]
    Unknown,
    /// The disk is full; try again later (`KAFKA_STORAGE_ERROR`).
    #[error("{0}")]
    DiskFull(Arc<str>),
    /// The log holds rot and takes no produce until it is repaired (`CORRUPT_MESSAGE`).
    #[error("the log is damaged at offset {0}")]
    Damaged(Offset),
    /// The log directory is poisoned by a failed write or flush (`KAFKA_STORAGE_ERROR`).
    #[error("the log directory has failed: {0}")]
    Poisoned(Arc<str>),
}

/// What the store tells its shard.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LogEvent {
    /// Recovery is done: the logs are there and may be used.
    Recovered {
        /// The number of this start.
        incarnation: Incarnation,
        /// The cluster this directory belongs to; made from the seed on an empty directory.
        cluster_id: Uuid,
        /// Identifies the directory for its whole life.
        directory_id: Uuid,
        /// The largest epoch in which this node voted in the metadata quorum, -1 for none.
        vote_epoch: LeaderEpoch,
    },
    /// Everything of a log below the offset is stable.
    Stable {
        /// The log.
        log: TopicPartition,
        /// The offset after the last stable record.
        end: Stable<Offset>,
    },
    /// A vote is durable, and so is a block that carries its mark.
    Voted {
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// A log's creation is durable and it may be used.
    Created(TopicPartition),
    /// A log's deletion is durable; its files are on their way out.
    Deleted(TopicPartition),
    /// The start of a log has moved, durably (DeleteRecords or retention).
    LogStartMoved {
        /// The log.
        log: TopicPartition,
        /// Its new first offset.
        start: Offset,
    },
    /// A read ended. Every byte has been checked; parts are whole batches.
    Read {
        /// Which one.
        ticket: ReadTicket,
        /// What was read, or the range that is damaged.
        result: Result<Vec<Bytes>, ReadError>,
    },
    /// A lookup by time ended.
    Found {
        /// Which one.
        ticket: ReadTicket,
        /// The record found: offset, timestamp and leader epoch; `None` where there is none.
        result: Result<Option<FoundRecord>, ReadError>,
    },
    /// Appends are welcome again after [`LogStore::is_congested`] was true.
    Relieved,
    /// The log directory has failed; nothing of it may be acknowledged any more.
    Poisoned(Arc<str>),
    /// Everything is durable and closed, as `stop` asked.
    Closed,
}

/// A record found by its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundRecord {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in Unix milliseconds.
    pub timestamp: i64,
    /// The epoch of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
}

/// Why a read returned nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The range is damaged (`CORRUPT_MESSAGE`).
    #[error("{0}")]
    Corrupt(Arc<str>),
    /// The range has gone in the meantime (`OFFSET_OUT_OF_RANGE`).
    #[error("the range is no longer in the log")]
    Gone,
    /// The disk failed (`KAFKA_STORAGE_ERROR`).
    #[error("{0}")]
    Disk(Arc<str>),
}

/// The logs of one shard.
#[derive(Clone, Debug)]
pub struct LogStore {
    config: LogConfig,
}

impl LogStore {
    /// Makes the store; nothing happens before [`start`](Self::start).
    pub fn new(config: LogConfig) -> Self {
        Self { config }
    }

    /// Begins recovery. Ends with [`LogEvent::Recovered`] or `Effect::Fatal`.
    pub fn start(&mut self, now: Now, fx: &mut Effects) {
        let _ = (now, fx, &self.config);
        todo!()
    }

    /// Takes the completion of a disk operation that the store asked for.
    pub fn handle_completion(
        &mut self,
        now: Now,
        token: IoToken,
        result: Result<Completion, DiskError>,
        fx: &mut Effects,
    ) {
        let _ = (now, token, result, fx);
        todo!()
    }

    /// Does what is due: write-behind by age, retention, closing blocks, retries after a full disk.
    pub fn handle_wakeup(&mut self, now: Now, fx: &mut Effects) {
        let _ = (now, fx);
        todo!()
    }

    /// Returns when [`handle_wakeup`](Self::handle_wakeup) wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Takes the oldest event. Drain to `None` after every call that may change something.
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        todo!()
    }

    /// Makes everything durable and closes; ends with [`LogEvent::Closed`].
    pub fn stop(&mut self, now: Now, fx: &mut Effects) {
        let _ = (now, fx);
        todo!()
    }

    /// Returns whether producers must wait: too much is not yet written behind, or the journal is full.
    pub fn is_congested(&self) -> bool {
        todo!()
    }

    /// Returns every log there is, in order, with its topic's name.
    pub fn logs(&self) -> impl Iterator<Item = (TopicPartition, &TopicName)> + '_ {
        std::iter::empty()
    }

    /// Creates a log, empty at offset 0. Usable at once; [`LogEvent::Created`] says it is durable.
    pub fn create(
        &mut self,
        now: Now,
        log: TopicPartition,
        name: &TopicName,
        settings: LogSettings,
        fx: &mut Effects,
    ) {
        let _ = (now, log, name, settings, fx);
        todo!()
    }

    /// Changes a log's settings. After recovery every log has defaults until it is configured.
    pub fn configure(&mut self, log: TopicPartition, settings: LogSettings) {
        let _ = (log, settings);
        todo!()
    }

    /// Deletes a log and, once that is durable, its files.
    pub fn delete(&mut self, now: Now, log: TopicPartition, fx: &mut Effects) {
        let _ = (now, log, fx);
        todo!()
    }

    /// Appends a batch at the end of a log, which gives it base offset and leader epoch.
    ///
    /// The caller has checked the batch (CRC, sequence, size). Its stability comes as
    /// [`LogEvent::Stable`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written then.
    pub fn append(
        &mut self,
        now: Now,
        log: TopicPartition,
        leader_epoch: LeaderEpoch,
        batch: Batch,
        fx: &mut Effects,
    ) -> Result<Offset, AppendError> {
        let _ = (now, log, leader_epoch, batch, fx);
        todo!()
    }

    /// Checks a produced batch against what the log knows of its producer (KIP-98). Changes nothing.
    ///
    /// # Errors
    /// The wire code to answer with: 45 for a gap, 47 for an old epoch, and so on.
    pub fn check_sequence(
        &self,
        now: Now,
        log: TopicPartition,
        batch: &Batch,
    ) -> Result<Sequence, ErrorCode> {
        let _ = (now, log, batch);
        todo!()
    }

    /// Moves the start of a log up; [`LogEvent::LogStartMoved`] says that it is durable.
    pub fn move_log_start(
        &mut self,
        now: Now,
        log: TopicPartition,
        start: Offset,
        fx: &mut Effects,
    ) {
        let _ = (now, log, start, fx);
        todo!()
    }

    /// Records durably that this node votes for itself in `epoch`; ends with [`LogEvent::Voted`].
    pub fn vote(&mut self, now: Now, epoch: LeaderEpoch, fx: &mut Effects) {
        let _ = (now, epoch, fx);
        todo!()
    }

    /// Returns the first offset of a log, `None` for an unknown one.
    pub fn log_start_offset(&self, log: TopicPartition) -> Option<Offset> {
        let _ = log;
        todo!()
    }

    /// Returns the offset after the last record of a log, stable or not.
    pub fn log_end_offset(&self, log: TopicPartition) -> Option<Offset> {
        let _ = log;
        todo!()
    }

    /// Returns the offset after the last stable record of a log.
    pub fn stable_end(&self, log: TopicPartition) -> Option<Stable<Offset>> {
        let _ = log;
        todo!()
    }

    /// Returns the bytes of a log, segments and unwritten batches together.
    pub fn size(&self, log: TopicPartition) -> Option<u64> {
        let _ = log;
        todo!()
    }

    /// Returns the largest epoch at most `epoch` that the log knows and the offset where it ends
    /// (KIP-101, KIP-279), `None` where it knows none.
    pub fn end_of_epoch(
        &self,
        log: TopicPartition,
        epoch: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        let _ = (log, epoch);
        todo!()
    }

    /// Returns the epoch of the last record, `None` for an empty log.
    pub fn latest_epoch(&self, log: TopicPartition) -> Option<LeaderEpoch> {
        let _ = log;
        todo!()
    }

    /// Plans a fetch of whole batches from `from` on, below `end`, of at most `max_bytes`.
    ///
    /// `from` must lie between the log's start and `end`.
    pub fn plan_fetch(
        &self,
        log: TopicPartition,
        from: Offset,
        end: Offset,
        max_bytes: u64,
        at_least_one: bool,
    ) -> FetchPlan {
        let _ = (log, from, end, max_bytes, at_least_one);
        todo!()
    }

    /// Returns how many bytes could be fetched from `from` up to `end`, counting no further than `enough`.
    pub fn readable_bytes(
        &self,
        log: TopicPartition,
        from: Offset,
        end: Offset,
        enough: u64,
    ) -> u64 {
        let _ = (log, from, end, enough);
        todo!()
    }

    /// Reads a range of a segment file, checks it, and answers with [`LogEvent::Read`].
    pub fn read(&mut self, now: Now, range: FileRange, ticket: ReadTicket, fx: &mut Effects) {
        let _ = (now, range, ticket, fx);
        todo!()
    }

    /// Looks for a record by its time below `end`; answers with [`LogEvent::Found`].
    pub fn find_by_time(
        &mut self,
        now: Now,
        log: TopicPartition,
        lookup: TimeLookup,
        end: Offset,
        ticket: ReadTicket,
        fx: &mut Effects,
    ) {
        let _ = (now, log, lookup, end, ticket, fx);
        todo!()
    }

    /// Takes the store's state into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        let _ = digest;
        todo!()
    }
}
