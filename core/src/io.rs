//! The door: everything that enters the core and everything that leaves it.
//!
//! A driver (tokio in production, a simulator in tests) feeds one [`Input`] at a time to a shard
//! and then drains its [`Effect`]s until there is none, before the next input. The order of the
//! effects is part of their meaning: there is one queue, first in first out.
//!
//! Invariants:
//! 1. The driver decides nothing: it carries out each effect as it stands and reports completions.
//! 2. Disk operations may complete in any order. Where order matters, core waits for completions.
//! 3. After `Disconnected(c)` no input names `c` again, and effects for `c` are ignored.
//! 4. A connection that core asks for by `Connect` is `Opened` once, or `Disconnected`, or both in that
//!    order; from `Opened` on it is as one that was accepted.
//! 5. File names are relative to the data directory and are made by core alone, never from a peer.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::broker::post::Post;
use crate::ids::{ConnectionId, IoToken, ListenerIndex, NodeId, ShardId};
use crate::log::block::BlockPlan;
use crate::observe::ClusterEvent;

/// What happened in the world.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// The first input of a shard's life: begin recovery.
    Start,
    /// Somebody connected to one of the listeners.
    Connected {
        /// The new connection, a number never used before in this process.
        connection: ConnectionId,
        /// The listener it came in by, which decides the addresses that it is told.
        listener: ListenerIndex,
        /// The other side's address, for logs and quotas only.
        peer: Arc<str>,
    },
    /// A connection that `Effect::Connect` asked for is there. One that cannot be made is
    /// `Disconnected` without this.
    Opened(ConnectionId),
    /// Bytes arrived, at most as many as the last `Want` named.
    Received(ConnectionId, BytesMut),
    /// That many bytes of earlier `Transmit`s have been handed to the operating system.
    Transmitted(ConnectionId, u64),
    /// The connection is gone, for whatever reason.
    Disconnected(ConnectionId),
    /// Another shard of this node sent these, in this order.
    Posted {
        /// The sender.
        from: ShardId,
        /// What it sent.
        batch: Vec<Post>,
    },
    /// A disk operation ended.
    Completed {
        /// Which one.
        token: IoToken,
        /// How.
        result: Result<Completion, DiskError>,
    },
    /// The deadline that `next_deadline` named has passed.
    Wakeup,
    /// Stop: take no new work, make everything acknowledged durable, say `Effect::Stopped`.
    Stop,
}

/// The good end of a disk operation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Completion {
    /// A `Write` is done; for a block, with the sealed bytes that were written.
    Written(Option<Bytes>),
    /// What a `Read` found. Shorter than asked for only at the end of the file.
    Read(Bytes),
    /// What a `List` found.
    Listed(Vec<DirectoryEntry>),
    /// How much room the file system has.
    Space {
        /// Bytes that may still be written.
        free: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Any other operation is done.
    Done,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirectoryEntry {
    /// The last component of its path, with characters outside UTF-8 replaced.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its length in bytes, 0 for anything but a file.
    pub length: u64,
}

/// Kind of a directory entry. Symbolic links are not followed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: never opened, never changed.
    Other,
}

/// A disk operation that failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{operation} of {file}: {message}")]
pub struct DiskError {
    /// What was tried, in one word.
    pub operation: &'static str,
    /// On which file.
    pub file: FileName,
    /// What kind of failure it was, which decides what it means.
    pub kind: DiskErrorKind,
    /// The operating system's words.
    pub message: String,
}

/// What a failed disk operation means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DiskErrorKind {
    /// There is no such file or directory.
    NotFound,
    /// Something of that name exists.
    AlreadyExists,
    /// No space or quota is left (ENOSPC, EDQUOT). Nothing is known to be written.
    NoSpace,
    /// The process lacks something that comes back (EMFILE, ENFILE, ENOMEM, EAGAIN).
    Exhausted,
    /// The directory or file may not be written (EACCES, EROFS).
    NotPermitted,
    /// A flush failed: what was written before it may be lost although it reads back.
    Flush,
    /// Anything else, EIO among it.
    Other,
}

/// Name of a file or directory, relative to the data directory, with `/` between components.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Arc<str>);

impl FileName {
    /// The data directory itself.
    pub fn root() -> Self {
        Self("".into())
    }

    /// Makes a name. Only core makes names, from parts that it has checked.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// Returns the name of `child` in this directory.
    #[must_use]
    pub fn join(&self, child: &str) -> Self {
        if self.0.is_empty() {
            Self(child.into())
        } else {
            Self(format!("{}/{child}", self.0).into())
        }
    }

    /// Returns the name as text; empty for the data directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the directory that holds it, the root for a name with one component.
    #[must_use]
    pub fn parent(&self) -> Self {
        self.0.rfind('/').map_or_else(Self::root, |at| Self(self.0[..at].into()))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a write must be on stable storage before it completes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    /// It completes when the operating system has it: process crashes are survived.
    None,
    /// It completes when it, and every earlier write to the file, is flushed (`fdatasync`).
    Data,
}

/// What a write writes.
#[derive(Clone, Debug)]
pub enum WriteBody {
    /// A journal block: the driver calls [`BlockPlan::seal`] into a buffer of its own.
    Block(BlockPlan),
    /// These parts, one after the other.
    Parts(Vec<Bytes>),
}

impl WriteBody {
    /// Returns how many bytes will be written.
    pub fn len(&self) -> u64 {
        match self {
            Self::Block(plan) => plan.sealed_len() as u64,
            Self::Parts(parts) => parts.iter().map(|part| part.len() as u64).sum(),
        }
    }

    /// Returns whether nothing will be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What `Create` makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateKind {
    /// A directory. An existing one is no error.
    Directory,
    /// A file filled with `length` zero bytes, written and flushed before it completes. An
    /// existing file is truncated first.
    Filled {
        /// Its length in bytes.
        length: u64,
    },
}

/// What is to be done in the world.
#[derive(Debug)]
#[non_exhaustive]
pub enum Effect {
    /// Writes to a file at a position, making the file if there is none. Completes as `Written`.
    Write {
        /// The file.
        file: FileName,
        /// First byte to be written.
        position: u64,
        /// What to write.
        body: WriteBody,
        /// Whether the completion means flushed.
        sync: Sync,
        /// Names the completion.
        token: IoToken,
    },
    /// Reads at most `length` bytes. Completes as `Read`.
    Read {
        /// The file.
        file: FileName,
        /// First byte.
        position: u64,
        /// Most bytes.
        length: u64,
        /// Names the completion.
        token: IoToken,
    },
    /// Makes a directory or a filled file. Completes as `Done`.
    Create {
        /// Its name.
        file: FileName,
        /// What it is.
        kind: CreateKind,
        /// Names the completion.
        token: IoToken,
    },
    /// Flushes a file (`fdatasync`, its length included). Completes as `Done`.
    Sync {
        /// The file.
        file: FileName,
        /// Names the completion.
        token: IoToken,
    },
    /// Flushes the entries of a directory. Completes as `Done`.
    SyncDir {
        /// The directory.
        directory: FileName,
        /// Names the completion.
        token: IoToken,
    },
    /// Renames within the data directory, replacing what has the new name. Completes as `Done`.
    Rename {
        /// The old name.
        from: FileName,
        /// The new name.
        to: FileName,
        /// Names the completion.
        token: IoToken,
    },
    /// Removes a file or an empty directory; one that is not there is no error. Completes as `Done`.
    Remove {
        /// Its name.
        file: FileName,
        /// Names the completion.
        token: IoToken,
    },
    /// Cuts a file to `length` bytes. Completes as `Done`.
    Truncate {
        /// The file.
        file: FileName,
        /// Its new length.
        length: u64,
        /// Names the completion.
        token: IoToken,
    },
    /// Lists a directory, in any order. Completes as `Listed`.
    List {
        /// The directory.
        directory: FileName,
        /// Names the completion.
        token: IoToken,
    },
    /// Asks how much room the file system of the data directory has. Completes as `Space`.
    Space {
        /// Names the completion.
        token: IoToken,
    },
    /// Opens a connection to a peer. `Opened` or `Disconnected` follows; a driver may give up in its own
    /// time, and `Abort` or `Close` ends the attempt as it ends a connection.
    Connect {
        /// The connection's number, chosen by core: an [outgoing](ConnectionId::outgoing) one.
        connection: ConnectionId,
        /// The node that should be there. The driver need not look at it.
        node: NodeId,
        /// Name or address of its host.
        host: Arc<str>,
        /// The port of its listener for peers.
        port: u16,
    },
    /// Sends bytes on a connection; what has been handed over comes back as `Transmitted`.
    Transmit {
        /// To whom.
        connection: ConnectionId,
        /// The bytes, part after part.
        parts: Vec<Bytes>,
    },
    /// Reads from a connection, or stops doing so. A new connection is read.
    Reading {
        /// Which one.
        connection: ConnectionId,
        /// Whether to read.
        on: bool,
    },
    /// Says how many bytes a read may bring at most; 64 KiB until it is said.
    Want {
        /// Which connection.
        connection: ConnectionId,
        /// Most bytes of the next `Received`.
        bytes: usize,
    },
    /// Closes a connection once what was to be transmitted has gone. `Disconnected` follows.
    Close {
        /// Which one.
        connection: ConnectionId,
    },
    /// Drops a connection at once, with what was to be transmitted. `Disconnected` follows.
    Abort {
        /// Which one.
        connection: ConnectionId,
    },
    /// Hands events to another shard of this node.
    Post {
        /// To whom.
        shard: ShardId,
        /// What, in order.
        batch: Vec<Post>,
    },
    /// Recovery is done and clients may be served.
    Ready,
    /// The answer to `Stop`: everything is durable, the process may end.
    Stopped,
    /// The node cannot go on with this data directory. The driver prints the words and exits with 1.
    Fatal {
        /// What happened, where exactly, and what an operator can do: one line.
        message: String,
    },
    /// Something worth counting or tracing; never read back by any decision.
    Observe(Event),
}

/// How much waits at a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waits {
    /// Records that wait for their time, or for the transaction that they are of.
    pub scheduled: u64,
    /// Half messages without a verdict, parked ones included.
    pub half: u64,
    /// When the next record is due, in Unix milliseconds.
    pub next_due_ms: Option<i64>,
}

/// What machines report about themselves, for metrics, traces and the simulator.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A counter moved.
    Count(Counter, u64),
    /// A warning for people, one line, said once per occasion.
    Warning(String),
    /// A line for people about normal life.
    Info(String),
    /// A rare state was reached; the simulator demands that each is reached at times.
    Mark(Mark),
    /// Whether producers are refused because the disk is full or nearly so.
    DiskFull(bool),
    /// Whether nothing is deleted by age, because the wall clock is in doubt.
    RetentionHeld(bool),
    /// An invariant's subject moved: the high watermark of a partition.
    HighWatermark {
        /// The partition.
        partition: crate::ids::TopicPartition,
        /// The offset after the last committed record.
        offset: crate::ids::Offset,
    },
    /// A partition was taken up, or the start of its log moved.
    LogBounds {
        /// The partition.
        partition: crate::ids::TopicPartition,
        /// The first offset of the log.
        log_start_offset: crate::ids::Offset,
        /// The offset after the last committed record.
        high_watermark: crate::ids::Offset,
    },
    /// What replicas and their leaders report in a cluster.
    Cluster(ClusterEvent),
    /// A partition was given up, because its topic is deleted.
    PartitionGone(crate::ids::TopicPartition),
    /// A group commits an offset, or a committed offset goes.
    CommittedOffset {
        /// The group.
        group: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
        /// The partition of the topic.
        partition: crate::ids::PartitionIndex,
        /// The topic's id and the next offset to read, `None` where it is gone.
        committed: Option<(crate::ids::TopicId, i64)>,
    },
    /// What holds the last stable offset of a led partition back has changed, so that readers of committed
    /// records see less than all that is committed.
    Pinned {
        /// The partition.
        partition: crate::ids::TopicPartition,
        /// The topic's name.
        topic: Arc<str>,
        /// The last stable offset and whose transaction holds it; `None` where it is the high watermark.
        by: Option<(crate::ids::Offset, crate::ids::ProducerId)>,
    },
    /// How much waits at a led partition with features has changed, told at most once a second.
    Scheduled {
        /// The partition.
        partition: crate::ids::TopicPartition,
        /// The topic's name.
        topic: Arc<str>,
        /// How much; `None` where the partition is led here no more.
        waits: Option<Waits>,
    },
    /// How many groups of a coordinator are in each state, told at most once a second.
    GroupStates {
        /// The coordinator's partition of `__consumer_offsets`.
        coordinator: crate::ids::TopicPartition,
        /// Groups by Kafka's name of their state.
        states: Vec<(&'static str, usize)>,
    },
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Counter {
    /// Journal blocks written.
    JournalBlocks,
    /// Bytes of journal blocks written.
    JournalBytes,
    /// Journal writes that were flushed.
    JournalFlushes,
    /// Checkpoints completed.
    Checkpoints,
    /// Batches appended.
    BatchesAppended,
    /// Records appended.
    RecordsAppended,
    /// Payload bytes appended.
    BytesAppended,
    /// Batches recognised as duplicates.
    DuplicateBatches,
    /// Bytes read from segments for fetches.
    SegmentBytesRead,
    /// Segments deleted by retention.
    SegmentsDeleted,
    /// Records appended in batches that were past `retention.ms` then.
    RecordsPastRetention,
    /// Requests answered.
    Requests,
    /// Connections closed because their peer broke the protocol.
    ProtocolErrors,
    /// Fetches parked.
    FetchesParked,
    /// Fetch payload bytes sent.
    BytesFetched,
    /// Offsets that groups committed.
    OffsetsCommitted,
    /// Assignments that groups stored at the end of a rebalance.
    GroupAssignments,
}

/// Rare states that a good test run must have reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Mark {
    /// A block gathered batches while another was in flight.
    BlockGathered,
    /// The journal went on in a recycled file.
    JournalRecycled,
    /// The journal grew by a file.
    JournalGrew,
    /// Recovery cut a torn tail.
    TornTailCut,
    /// Recovery rewrote blocks above the last proven durable mark.
    TailRewritten,
    /// A retry of an idempotent batch was answered with its first offset.
    DuplicateAnswered,
    /// A segment was rolled.
    SegmentRolled,
    /// A produce was refused because the disk is full.
    DiskFull,
    /// A producer had to wait because too much was unwritten.
    BackPressure,
    /// A fetch was served from a segment file.
    FetchFromFile,
    /// A fetch waited for data and was woken by it.
    FetchWoken,
    /// A fetch waited to its deadline.
    FetchTimedOut,
    /// What seemed damaged was read once more.
    DamageReadAgain,
    /// Damage in a segment was found by a read, and its partition takes no more produce.
    RotFoundOnRead,
    /// A log was cut back.
    LogCut,
    /// An index was built anew from its segment.
    IndexBuiltAnew,
    /// Producers of a log were learned again from its segments.
    ProducersBuiltAnew,
    /// One copy of a checkpoint was unusable and the other was taken.
    CheckpointCopyUsed,
    /// A checkpoint was made because its two copies differed.
    CheckpointMadeAlike,
    /// A checkpoint was made while the node was closing.
    CheckpointAtClose,
    /// The count of starts was lost and goes on from far beyond.
    StartsCountLost,
    /// A start had to wait for room or descriptors.
    StartWaits,
    /// A start refused its data directory.
    StartRefused,
    /// A node was told to stop before it served.
    StoppedBeforeServing,
    /// Something of a data directory is not ours.
    ForeignNameFound,
    /// A start found segments below the start of a log that a journal had moved.
    RemovalRecovered,
    /// A start removed files that its checkpoint does not know.
    StaleFilesRemoved,
    /// The journal had to wait for a file.
    JournalStarved,
    /// There was no room for another journal file.
    JournalGrowthFailed,
    /// A block was written for no other reason than to prove the one before it.
    ProofWritten,
    /// An operation that lacked room or descriptors is tried again.
    OperationTriedAgain,
    /// The log directory failed, and nothing of it is acknowledged any more.
    LogDirectoryFailed,
    /// Nothing is deleted by age, because the wall clock is in doubt.
    RetentionHeld,
    /// Retention or a purge removed a segment.
    SegmentRemoved,
    /// A batch of an older epoch of its producer was refused.
    ProducerFenced,
    /// A batch was refused because one before it is missing.
    SequenceGap,
    /// A peer is not read from, because it does not take its answers or asks for too much.
    PeerHeldBack,
    /// Something for this shard came before it could serve.
    PostHeld,
    /// A member of a group was silent for its session.
    SessionExpired,
    /// A generation began without members that did not come in time.
    LateMemberDropped,
    /// Members did not fetch their assignment in time.
    SyncTimedOut,
    /// A member came back under its instance id while its group went on undisturbed.
    StaticMemberReplaced,
    /// A commit of an older generation, or of nobody's member, was refused.
    CommitRefused,
    /// A coordinator was loaded from segments.
    CoordinatorReadFromFile,
    /// A coordinator's log was shortened by copying what lives in it.
    CoordinatorCleaned,
    /// An open transaction was aborted, and its producer fenced.
    TransactionFenced,
    /// That was because it had been open for its timeout.
    TransactionTimedOut,
    /// The end of a transaction was asked for again, and answered as before.
    TransactionEndRepeated,
    /// A marker had to be sent again.
    MarkerRetried,
    /// A producer with a transactional id had used up its epochs and was given another id.
    ProducerEpochsUsedUp,
    /// A coordinator's log could not be read and is tried again.
    CoordinatorReadAgain,
    /// A node of a cluster was elected controller.
    ControllerElected,
    /// A request about a transaction came on a connection that its producer has left.
    LateRequestRefused,
    /// A marker came on a connection that the node that sent it has left.
    LateMarkerRefused,
    /// Records that waited were delivered.
    EntriesDelivered,
    /// The metadata log says that others vote from here on.
    VotersChanged,
    /// The controller fenced a broker that was silent.
    BrokerFenced,
    /// A follower cut its metadata log where it parted from the leader's.
    MetadataTruncated,
    /// A follower cut its log where it parted from the leader's.
    ReplicaTruncated,
    /// A follower began anew, because the leader's log begins later than its own ends.
    ReplicaReset,
    /// A client was told to fetch from the replica in its rack.
    SentNear,
    /// A follower served a client.
    FollowerRead,
    /// A snapshot of the metadata log was made.
    SnapshotWritten,
    /// A start began with a snapshot of the metadata log.
    SnapshotLoaded,
    /// A start found a snapshot that its metadata log does not go on behind, and begins anew behind it.
    SnapshotResumed,
    /// A snapshot of the leader has taken the place of a metadata log.
    SnapshotInstalled,
    /// A snapshot of the metadata log was found damaged.
    SnapshotDamaged,
}

/// The one queue of effects, and the source of tokens. Machines write into it and allocate nothing else.
#[derive(Debug, Default)]
pub struct Effects {
    queue: VecDeque<Effect>,
    next_token: u64,
}

impl Clone for Effects {
    /// Copies the token counter. A shard is cloned between inputs, when the queue is empty.
    fn clone(&self) -> Self {
        assert!(self.queue.is_empty(), "a shard is cloned only when its effects are drained");
        Self { queue: VecDeque::new(), next_token: self.next_token }
    }
}

impl Effects {
    /// Appends an effect.
    pub fn push(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    /// Takes the oldest effect.
    pub fn pop(&mut self) -> Option<Effect> {
        self.queue.pop_front()
    }

    /// Returns a token never given before.
    pub fn token(&mut self) -> IoToken {
        self.next_token += 1;
        IoToken(self.next_token)
    }

    /// Reports that a counter moved.
    pub fn count(&mut self, counter: Counter, by: u64) {
        self.push(Effect::Observe(Event::Count(counter, by)));
    }

    /// Reports that a rare state was reached.
    pub fn mark(&mut self, mark: Mark) {
        self.push(Effect::Observe(Event::Mark(mark)));
    }

    /// Reports what a replica, a leader or the controller did.
    pub fn cluster(&mut self, event: ClusterEvent) {
        self.push(Effect::Observe(Event::Cluster(event)));
    }

    /// Says something to people that should be looked at.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.push(Effect::Observe(Event::Warning(message.into())));
    }

    /// Says something to people.
    pub fn info(&mut self, message: impl Into<String>) {
        self.push(Effect::Observe(Event::Info(message.into())));
    }
}
