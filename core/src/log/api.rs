//! What others say to the logs and hear from them: settings, plans, events and errors.

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::Cluster;
use crate::error::ErrorCode;
use crate::ids::SnapshotId;
use crate::ids::{Incarnation, LeaderEpoch, NodeId, Offset, ShardId, TopicPartition, Uuid};
use crate::log::stable::Stable;

/// What the log room is told at its birth.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Which shard's logs these are; the shard's journal has a folder of its own.
    pub shard: ShardId,
    /// The node whose data directory it is; a directory of another node is refused.
    pub node_id: NodeId,
    /// A random number of this start, for ids that are made on an empty directory.
    pub seed: u64,
    /// Whether the node is one of several, so that an empty directory belongs to no cluster before
    /// [`LogStore::form`](crate::log::LogStore::form).
    pub is_member: bool,
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
    /// Bytes of the file system that producers leave alone, `None` for a twentieth of it but at
    /// most 1 GiB (`mainspring.disk.reserve.bytes`).
    pub disk_reserve_bytes: Option<u64>,
    /// Most producer ids remembered for each partition (`mainspring.producer.ids.max`).
    pub producer_ids_max: usize,
    /// Idle time after which a producer id is forgotten, in milliseconds (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: i64,
    /// What chooses the [rare ways](crate::buggify) that the code takes on purpose.
    pub buggify: Option<u64>,
    /// Whether appends are [reported](crate::observe), as a node of a cluster does.
    pub reports: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            shard: ShardId(0),
            node_id: NodeId(1),
            seed: 0,
            is_member: false,
            memory_only: false,
            journal_first_file_bytes: 4 << 20,
            journal_file_bytes: 64 << 20,
            journal_max_bytes: 1 << 30,
            journal_block_bytes: 256 << 10,
            unwritten_max_bytes: 256 << 20,
            tail_cache_bytes: 64 << 20,
            retention_check_interval_ms: 300_000,
            disk_reserve_bytes: None,
            producer_ids_max: 100_000,
            producer_id_expiration_ms: 86_400_000,
            buggify: None,
            reports: false,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// Whether retention may delete at all: false for logs of the broker's own.
    pub delete: bool,
    /// Whether appends may use the room that is kept in reserve: for what the broker itself needs.
    pub may_use_reserve: bool,
}

/// Names a read that the store was asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadTicket(pub u64);

/// Where the bytes of a fetch come from. Ends on a batch boundary.
#[derive(Clone, Debug)]
pub enum FetchPlan {
    /// Whole batches in memory, one after the other; empty where there is nothing to read.
    Memory(Vec<Bytes>),
    /// A range of a segment file, to be handed to [`LogStore::read`](crate::log::LogStore::read).
    File(FileRange),
}

/// A range of one log that lies in a segment file.
#[derive(Clone, Copy, Debug)]
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
    /// A log in memory is too large, and nothing of it may go yet: a transaction is open, replicas have not got it, or
    /// it waits to be delivered; try again later (`KAFKA_STORAGE_ERROR`).
    #[error(
        "the partition keeps {bytes} bytes in memory, of which none may go before open transactions end and replicas \
         have them"
    )]
    MemoryFull {
        /// How large it is.
        bytes: u64,
    },
    /// The log holds rot and takes no produce until it is repaired (`CORRUPT_MESSAGE`).
    #[error("the log is damaged at offset {0}")]
    Damaged(Offset),
    /// The log directory is poisoned by a failed write or flush (`KAFKA_STORAGE_ERROR`).
    #[error("the log directory has failed: {0}")]
    Poisoned(Arc<str>),
    /// The log is being cut back and it is not known yet where it ends exactly; try again once
    /// [`LogEvent::Truncated`] has come (`NOT_LEADER_OR_FOLLOWER`).
    #[error("the log is being cut back")]
    Cutting,
    /// A leader's batch does not continue the log: it begins elsewhere than at the log's end, holds no
    /// offset, or is of an earlier epoch than the log's last one. The replica has to find out where both
    /// logs part.
    #[error(
        "a batch of epoch {epoch} at offset {base} does not continue the log, which ends at {end}"
    )]
    Apart {
        /// Base offset of the batch.
        base: Offset,
        /// Leader epoch of the batch.
        epoch: LeaderEpoch,
        /// Where the log ends.
        end: Offset,
    },
}

impl AppendError {
    /// Returns what a client is told of it: a leader gives batches their place itself, so that none is
    /// [apart](Self::Apart) but where it leads no more.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::UnknownTopicOrPartition,
            Self::Apart { .. } | Self::Cutting => ErrorCode::NotLeaderOrFollower,
            Self::DiskFull(_) | Self::MemoryFull { .. } | Self::Poisoned(_) => {
                ErrorCode::KafkaStorageError
            }
            Self::Damaged(_) => ErrorCode::CorruptMessage,
        }
    }
}

/// What the store tells its shard.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LogEvent {
    /// Recovery is done: the logs are there and may be used.
    Recovered {
        /// The number of this start.
        incarnation: Incarnation,
        /// The cluster this directory belongs to. On an empty one it is made from the seed, or zero for
        /// one of several nodes.
        cluster_id: Uuid,
        /// The same with its voters, where it was formed with several nodes.
        cluster: Option<Arc<Cluster>>,
        /// Identifies the directory for its whole life.
        directory_id: Uuid,
        /// The largest epoch in which this node voted in the metadata quorum, and for whom: node -1
        /// where that was nobody, or an earlier build has not noted it. `None` if it never voted.
        vote: Option<(LeaderEpoch, NodeId)>,
    },
    /// The cluster that the directory was [given](crate::log::LogStore::form) is durable.
    Formed,
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
        /// For whom.
        candidate: NodeId,
    },
    /// A log's creation is durable and it may be used.
    Created(TopicPartition),
    /// A log's deletion is durable; its files are on their way out.
    Deleted(TopicPartition),
    /// The start of a log has moved, durably (`DeleteRecords` or retention).
    LogStartMoved {
        /// The log.
        log: TopicPartition,
        /// Its new first offset.
        start: Offset,
    },
    /// Retention would take more of a log than it [may](crate::log::LogStore::hold); told each time it looks.
    RetentionWish(TopicPartition),
    /// A log was cut back, durably ([`LogStore::truncate`](crate::log::LogStore::truncate) or
    /// [`reset`](crate::log::LogStore::reset)).
    Truncated {
        /// The log.
        log: TopicPartition,
        /// The offset after the last record that was left.
        end: Offset,
    },
    /// A read ended. Every byte has been checked; parts are whole batches.
    Read {
        /// Which one.
        ticket: ReadTicket,
        /// What was read, or the range that is damaged.
        result: Result<Vec<Bytes>, ReadError>,
    },
    /// The snapshots that are there from before [count](crate::log::LogStore::snapshots).
    SnapshotsFound,
    /// What was handed over of a snapshot is written, not durably.
    SnapshotPiece(SnapshotId),
    /// A snapshot is whole and durable, and counts.
    SnapshotWritten(SnapshotId),
    /// A piece of a snapshot was read, shorter than asked for at its end alone. Nothing of it is checked.
    SnapshotRead {
        /// Which read.
        ticket: ReadTicket,
        /// What was read.
        result: Result<Bytes, ReadError>,
    },
    /// A lookup by time ended.
    Found {
        /// Which one.
        ticket: ReadTicket,
        /// The record found: offset, timestamp and leader epoch; `None` where there is none.
        result: Result<Option<FoundRecord>, ReadError>,
    },
    /// Appends are welcome again after [`LogStore::is_congested`](crate::log::LogStore::is_congested) was true.
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
