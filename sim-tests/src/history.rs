//! What the checkers are told: facts that clients, disks and processes bring about.
//!
//! True time is the world's. A fact says what was seen, never what it means.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mainspring_core::ids::{TopicId, TopicPartition};
use mainspring_core::observe::ClusterEvent;

use crate::trace::TraceHash;

/// One send of a client, retries included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OperationId {
    /// Who sent.
    pub client: usize,
    /// Its number with that client.
    pub number: u64,
}

/// A record that came out of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenRecord {
    /// Its offset.
    pub offset: i64,
    /// Hash of its key, value and timestamp.
    pub hash: u64,
    /// The producer id of its batch, -1 for none.
    pub producer_id: i64,
    /// The producer epoch of its batch, -1 for none.
    pub producer_epoch: i16,
    /// Its sequence, -1 for none.
    pub sequence: i32,
    /// What it is to transactions.
    pub kind: RecordKind,
}

impl SeenRecord {
    /// Returns whether it says something of a log rather than for its readers.
    pub const fn is_control(&self) -> bool {
        matches!(self.kind, RecordKind::Marker { .. } | RecordKind::Control)
    }
}

/// What a record is to transactions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// It is part of none.
    #[default]
    Plain,
    /// It is part of its producer's.
    Transactional,
    /// Its producer's transaction ends here.
    Marker {
        /// Whether it is committed.
        committed: bool,
    },
    /// Something else that readers are not shown.
    Control,
}

/// What a topic promises of a record that is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Keeping {
    /// It is flushed: it survives the loss of power.
    Flushed,
    /// It is written: it survives the end of the process (`mainspring.flush=lazy`).
    Written,
    /// It is in memory: it lives as long as the process (`mainspring.storage=memory`).
    Memory,
}

/// What a topic was used for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TopicUse {
    /// Records were sent to it.
    Produce,
    /// Records were asked of it.
    Read,
    /// An offset was committed.
    Commit,
}

/// One log as it stands on a disk.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageLog {
    /// Whether it is kept short by copying forward what lives, so that it may begin later unasked.
    pub copied_forward: bool,
    /// Whether it is the metadata log and a whole snapshot is there behind which it goes on, so that it may begin
    /// later unasked.
    pub behind_snapshot: bool,
    /// Its first offset.
    pub start: i64,
    /// The offset after its last record.
    pub end: i64,
    /// Its batches in order. A batch that was seen before is the same object again.
    pub batches: Vec<Arc<[SeenRecord]>>,
}

impl fmt::Debug for ImageLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} in {} batches", self.start, self.end, self.batches.len())
    }
}

impl ImageLog {
    /// Returns the record at an offset.
    pub fn record(&self, offset: i64) -> Option<&SeenRecord> {
        let at = self
            .batches
            .partition_point(|batch| batch.last().is_some_and(|last| last.offset < offset));
        self.batches.get(at)?.iter().find(|record| record.offset == offset)
    }
}

/// As whom a client speaks to the coordinator of its group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Membership {
    /// The id that the coordinator gave it.
    pub id: Arc<str>,
    /// The generation.
    pub generation: i32,
}

/// What becomes of a record that is sent to a partition with features.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Waiting {
    /// It is stored where it is produced.
    Not,
    /// It comes at its time.
    Due,
    /// It comes when it is committed.
    Verdict,
    /// It comes again and again.
    Recurs,
}

/// A batch as a client was served it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServedBatch {
    /// Its first offset by its header.
    pub base: i64,
    /// Its last offset by its header.
    pub last: i64,
    /// The offset of its last record, `None` where it has none.
    pub last_record: Option<i64>,
    /// Whether it is a control batch and no marker of a transaction.
    pub is_hidden: bool,
    /// Whether its CRC holds.
    pub crc_valid: bool,
}

/// Something that was seen to happen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fact {
    /// How wrong the wall clocks of nodes may be.
    ClocksErr {
        /// At most that many milliseconds ahead of true time.
        ahead_ms: i64,
        /// At most that many milliseconds behind it, and as long a leap ahead may be doubted.
        late_ms: i64,
    },
    /// A client sends a record that is to come later.
    Scheduled {
        /// The send.
        operation: OperationId,
        /// Where to.
        partition: TopicPartition,
        /// When it is due at the earliest, in Unix milliseconds of true time.
        due_ms: i64,
        /// Whether the time counts from when it is taken.
        is_delay: bool,
        /// What it waits for.
        waits: Waiting,
        /// Its name among those that replace each other in the partition; without one it has a name of its own.
        name: Option<u32>,
        /// What is in it, by [`content_hash`].
        content: u64,
    },
    /// A client sends the same record once more, as another send. A header says that it must not be stored twice.
    SentAgain {
        /// The first send.
        operation: OperationId,
    },
    /// A client sends a verdict on a half message.
    VerdictAsked {
        /// The command.
        command: OperationId,
        /// The half message.
        about: OperationId,
        /// Whether it is committed.
        committed: bool,
    },
    /// A client was told what became of its verdict.
    VerdictAnswered {
        /// The command.
        command: OperationId,
        /// The code of the answer.
        code: i16,
    },
    /// A client sends a record that comes again and again.
    Recurring {
        /// The send.
        operation: OperationId,
        /// Where to.
        partition: TopicPartition,
        /// How often, in milliseconds.
        period_ms: i64,
        /// Whether its times are those that the period divides.
        is_aligned: bool,
        /// What is in it, by [`content_hash`].
        content: u64,
    },
    /// A client was served such a record.
    Recurred {
        /// Who.
        client: usize,
        /// The send.
        operation: OperationId,
        /// Where.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
        /// The time that it came for, in Unix milliseconds.
        due_ms: i64,
        /// What is in it, by [`content_hash`].
        content: u64,
    },
    /// Who is asked for verdicts has read a question.
    Questioned {
        /// The half message.
        operation: OperationId,
        /// Where that is.
        partition: TopicPartition,
        /// Where the question stands in the check topic.
        offset: i64,
        /// The ticket that it names.
        ticket: i64,
        /// Which question it is, from 1 on.
        attempt: u32,
        /// Whether it says that no other follows.
        is_parked: bool,
        /// What is in it, by [`content_hash`].
        content: u64,
    },
    /// Whoever asked was told all that waits at a partition, where nothing is due any more and all questions are read.
    Waits {
        /// Where.
        partition: TopicPartition,
        /// Tickets, and states as the answer numbers them.
        entries: Vec<(i64, i8)>,
    },
    /// A client was told that what it sent will come later.
    EntryTaken {
        /// The send.
        operation: OperationId,
        /// The ticket.
        ticket: i64,
    },
    /// A client sends a command that cancels what it sent before.
    CancelAsked {
        /// The command.
        command: OperationId,
        /// The send that it is about.
        about: OperationId,
    },
    /// A client was told what became of its command.
    CancelAnswered {
        /// The command.
        command: OperationId,
        /// The code of the answer.
        code: i16,
    },
    /// A client sends a command that changes when a record comes which it sent before.
    MoveAsked {
        /// The command.
        command: OperationId,
        /// The send that it is about.
        about: OperationId,
        /// When it is to come now, in Unix milliseconds of true time.
        due_ms: i64,
    },
    /// A client was told what became of it.
    MoveAnswered {
        /// The command.
        command: OperationId,
        /// The code of the answer.
        code: i16,
    },
    /// A client was served a record that had waited.
    Came {
        /// Who.
        client: usize,
        /// The send.
        operation: OperationId,
        /// Where.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
        /// The ticket that it carries.
        ticket: i64,
        /// What is in it, by [`content_hash`].
        content: u64,
    },
    /// A client was served a range of a partition that holds what waits.
    Viewed {
        /// Who.
        client: usize,
        /// Where.
        partition: TopicPartition,
        /// What was asked for.
        from: i64,
        /// What came.
        batches: Vec<ServedBatch>,
        /// The end that was shown.
        high_watermark: i64,
        /// The last stable offset that was shown.
        last_stable_offset: i64,
    },
    /// A client has read a partition from its start to its shown end, and nothing will be due any more.
    ViewedWhole {
        /// Who.
        client: usize,
        /// Where.
        partition: TopicPartition,
        /// Its position.
        position: i64,
        /// The end as it was told by ListOffsets.
        latest: i64,
    },
    /// A client sends records for the first time.
    Invoked {
        /// The send.
        operation: OperationId,
        /// Where to.
        partition: TopicPartition,
        /// Hashes of the records, in order.
        records: Vec<u64>,
    },
    /// A client was told that its send is committed.
    Acked {
        /// The send.
        operation: OperationId,
        /// Offset of its first record.
        base_offset: i64,
    },
    /// A client was told that nothing of its send was or will be written.
    Refused {
        /// The send.
        operation: OperationId,
        /// The code of the answer, 0 where the client gave up by itself.
        code: i16,
    },
    /// A batch of an epoch that is over was refused.
    Fenced {
        /// The send.
        operation: OperationId,
    },
    /// A retry of an acknowledged send was not recognised.
    Judged {
        /// The send.
        operation: OperationId,
        /// The code of the answer.
        code: i16,
    },
    /// A read was answered with an error.
    ReadFailed {
        /// Which partition.
        partition: TopicPartition,
        /// The code of the answer.
        code: i16,
    },
    /// How long records stay, where they go by themselves.
    Retention {
        /// Age from which they may go, in nanoseconds.
        age: u64,
    },
    /// A client asks for a partition to begin later.
    AskedPurge {
        /// Which partition.
        partition: TopicPartition,
        /// The first offset that is to stay.
        before: i64,
    },
    /// A client was told that a partition begins later.
    Purged {
        /// Which partition.
        partition: TopicPartition,
        /// Its first offset.
        log_start: i64,
    },
    /// A client asks for the end of a partition.
    AskedLatest {
        /// The question.
        operation: OperationId,
        /// Which partition.
        partition: TopicPartition,
    },
    /// A client was told the end of a partition.
    Latest {
        /// The question.
        operation: OperationId,
        /// The answer: the high watermark.
        offset: i64,
    },
    /// A client looked for a time that it knew a record of.
    FoundByTime {
        /// Where.
        partition: TopicPartition,
        /// The time, in Unix milliseconds.
        time: i64,
        /// The record that it knew.
        known: i64,
        /// What it was told: an offset and its time; `None` where there is said to be no such record.
        found: Option<(i64, i64)>,
    },
    /// A client was given a range of a partition.
    Read {
        /// Who read.
        client: usize,
        /// Which partition.
        partition: TopicPartition,
        /// What it asked for.
        from: i64,
        /// What it got.
        records: Vec<SeenRecord>,
        /// Whether every batch had a valid CRC.
        crc_valid: bool,
        /// The high watermark that came along.
        high_watermark: i64,
        /// The log start that came along.
        log_start: i64,
    },
    /// The whole content of a partition at the end, when nothing more happens.
    FinalLog {
        /// Which partition.
        partition: TopicPartition,
        /// Its first offset.
        log_start: i64,
        /// All of its records.
        records: Vec<SeenRecord>,
    },
    /// A member was given its share of a generation of its group.
    Assigned {
        /// Which group.
        group: u32,
        /// Who.
        member: Membership,
        /// The name under which it comes back as itself, if it has one.
        instance: Option<Arc<str>>,
        /// What it was given.
        partitions: Vec<TopicPartition>,
    },
    /// A member took the records before `to` into work, beginning at `from`.
    Processed {
        /// Which group.
        group: u32,
        /// Which partition.
        partition: TopicPartition,
        /// The first of them.
        from: i64,
        /// The first that is left.
        to: i64,
    },
    /// A member commits an offset.
    CommitAsked {
        /// The commit.
        operation: OperationId,
        /// Which group.
        group: u32,
        /// As whom.
        member: Membership,
        /// Which partition.
        partition: TopicPartition,
        /// The offset.
        offset: i64,
    },
    /// A member was told what became of its commit.
    CommitAnswered {
        /// The commit.
        operation: OperationId,
        /// The code of the answer.
        code: i16,
    },
    /// A client asks for a committed offset.
    AskedCommitted {
        /// The question.
        operation: OperationId,
        /// Which group.
        group: u32,
        /// Which partition.
        partition: TopicPartition,
    },
    /// A client was told a committed offset.
    ToldCommitted {
        /// The question.
        operation: OperationId,
        /// The answer, -1 for none.
        offset: i64,
    },
    /// A member has read for its group until nothing more came.
    GroupRead {
        /// Which group.
        group: u32,
    },
    /// A member has dealt with records in transactions for its group until nothing more came.
    PipelineRead {
        /// Which group.
        group: u32,
    },
    /// Faults are over for a group: from here on it has to come to rest.
    GroupHealed {
        /// Which group.
        group: u32,
        /// Within how many nanoseconds.
        within: u64,
    },
    /// A member has seen its whole group at rest.
    GroupAtRest {
        /// Which group.
        group: u32,
        /// Who.
        client: usize,
        /// The generation.
        generation: i32,
        /// What it holds.
        partitions: Vec<TopicPartition>,
        /// How many members there are.
        members: usize,
        /// How many partitions there are to hold.
        total: usize,
    },
    /// A producer wants to take the place of whoever had its transactional id before: a request for an epoch leaves.
    ProducerAsked {
        /// Who.
        client: usize,
        /// The transactional id.
        name: u32,
    },
    /// A producer has taken the place of whoever had its transactional id before.
    ProducerReady {
        /// Who.
        client: usize,
        /// The producer id that it was given.
        producer_id: i64,
        /// The epoch.
        producer_epoch: i16,
    },
    /// A client begins a transaction.
    TransactionBegun {
        /// The transaction, with a number of its own count.
        transaction: OperationId,
        /// The transactional id.
        name: u32,
        /// How long it may be open, in nanoseconds.
        timeout: u64,
    },
    /// A send is part of a transaction. Told before it is acknowledged.
    SentIn {
        /// The transaction.
        transaction: OperationId,
        /// The send.
        operation: OperationId,
    },
    /// Records that a client was given led to what it does in a transaction.
    TakenIn {
        /// The transaction.
        transaction: OperationId,
        /// The group that the client reads for.
        group: u32,
        /// Their partition.
        partition: TopicPartition,
        /// Their offsets and hashes.
        records: Vec<(i64, u64)>,
        /// The first offset that is left, which the transaction commits.
        to: i64,
    },
    /// A send is what a group makes of a record.
    MadeOf {
        /// The send.
        operation: OperationId,
        /// The group.
        group: u32,
        /// The partition of the record.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
    },
    /// A client asks for the end of its transaction.
    EndAsked {
        /// The transaction.
        transaction: OperationId,
        /// Whether it is to be committed.
        committed: bool,
    },
    /// A client was told that its transaction has ended as it asked.
    TransactionEnded {
        /// The transaction.
        transaction: OperationId,
        /// Whether it is committed.
        committed: bool,
    },
    /// A client will not hear any more of its transaction: the client is gone.
    TransactionLeft {
        /// The transaction.
        transaction: OperationId,
    },
    /// A client was told that another one has taken its place.
    ProducerFenced {
        /// Who.
        client: usize,
        /// The transaction that it was in, if it was in one.
        transaction: Option<OperationId>,
    },
    /// A client was told that it cannot go on for another reason.
    ProducerBroken {
        /// Who.
        client: usize,
        /// Why.
        why: String,
    },
    /// A reader of committed records was given a range of a partition.
    ReadCommitted {
        /// Who read.
        client: usize,
        /// Which partition.
        partition: TopicPartition,
        /// What it asked for.
        from: i64,
        /// What it would ask for next.
        to: i64,
        /// What it was shown.
        records: Vec<SeenRecord>,
        /// The high watermark that came along.
        high_watermark: i64,
        /// The last stable offset that came along, where the client can tell.
        last_stable_offset: Option<i64>,
        /// The aborted transactions that came along, where the client can tell: producers and first
        /// offsets.
        aborted: Option<Vec<(i64, i64)>>,
    },
    /// A client asks for the offset of a group that no transaction can take back.
    AskedStable {
        /// The question.
        operation: OperationId,
        /// Which group.
        group: u32,
        /// Which partition.
        partition: TopicPartition,
    },
    /// A client was told that offset.
    ToldStable {
        /// The question.
        operation: OperationId,
        /// The answer, -1 for none.
        offset: i64,
    },
    /// A topic was made that keeps another promise than [`Keeping::Flushed`].
    TopicMade {
        /// Which topic.
        topic_id: TopicId,
        /// What it promises.
        keeping: Keeping,
    },
    /// A client asks for a topic to be deleted.
    AskedDeletion {
        /// Which topic.
        topic_id: TopicId,
    },
    /// A client was told that a topic is made.
    Created {
        /// Which topic.
        topic_id: TopicId,
    },
    /// A client was told that a topic is deleted.
    Deleted {
        /// Which topic.
        topic_id: TopicId,
    },
    /// A topic that was named by its id was used, or that was refused.
    Used {
        /// Which topic.
        topic_id: TopicId,
        /// For what.
        what: TopicUse,
        /// When it was asked for, in nanoseconds.
        asked: u64,
        /// The code of the answer.
        code: i16,
    },
    /// A client commits an offset to a group that it alone has.
    OffsetAsked {
        /// Who.
        client: usize,
        /// Which partition.
        partition: TopicPartition,
        /// The offset.
        offset: i64,
    },
    /// It was told that this offset is committed.
    OffsetStored {
        /// Who.
        client: usize,
        /// Which partition.
        partition: TopicPartition,
        /// The offset.
        offset: i64,
    },
    /// It asked which offset is committed, and was told.
    OffsetFound {
        /// Who.
        client: usize,
        /// Which partition.
        partition: TopicPartition,
        /// The answer, -1 for none.
        offset: i64,
    },
    /// A block of a journal reached the disk, and with it a log.
    Stored {
        /// The node.
        node: usize,
        /// The partition.
        partition: TopicPartition,
        /// The offset after the last record that is there, everything before it included.
        end: i64,
        /// Whether it is flushed, rather than written alone.
        durable: bool,
    },
    /// What stands on the disk of a node, read from its files by nobody who wrote them.
    Image {
        /// The node.
        node: usize,
        /// Whether it is what power loss would leave at the least, rather than what reads see.
        durable: bool,
        /// Every log.
        logs: Arc<BTreeMap<TopicPartition, ImageLog>>,
    },
    /// The files of a node do not fit each other.
    Unreadable {
        /// The node.
        node: usize,
        /// Whether that is what power loss would leave at the least.
        durable: bool,
        /// What is wrong.
        message: String,
    },
    /// A node took up a partition, or the start of its log moved.
    Bounds {
        /// The node.
        node: usize,
        /// The partition.
        partition: TopicPartition,
        /// The first offset.
        log_start: i64,
        /// The offset after the last committed record.
        high_watermark: i64,
    },
    /// A node's high watermark moved.
    HighWatermark {
        /// The node.
        node: usize,
        /// The partition.
        partition: TopicPartition,
        /// The offset after the last committed record.
        offset: i64,
    },
    /// A log was recovered from an image of a disk.
    Recovered {
        /// Which log.
        partition: TopicPartition,
        /// What the image had been promised to hold: offset and hash.
        acked: Vec<(i64, u64)>,
        /// What had ever been appended: offset and hash.
        written: Vec<(i64, u64)>,
        /// What was recovered.
        recovered: Vec<(i64, u64)>,
        /// What was recovered from what the first recovery left behind.
        again: Vec<(i64, u64)>,
    },
    /// A process died.
    Crashed {
        /// The node.
        node: usize,
        /// Whether power was lost too.
        power: bool,
    },
    /// A node's machine stands still, and its clocks with it.
    StoodStill {
        /// The node.
        node: usize,
    },
    /// It goes on, and does not know that time has passed.
    WentOn {
        /// The node.
        node: usize,
    },
    /// All nodes are one cluster: node 0 is the one with the id 1.
    Cluster {
        /// How many there are.
        nodes: usize,
        /// How many copies an acknowledged record has at least.
        min_in_sync: usize,
    },
    /// A node of a cluster reported something of its replicas.
    Reported {
        /// The node.
        node: usize,
        /// What.
        event: ClusterEvent,
    },
    /// A vote is about to leave a node.
    Voted {
        /// The node.
        node: usize,
        /// The epoch and the id of the candidate.
        vote: (i32, i32),
        /// The vote that power loss would leave on its disk at this moment, where it can be read.
        durable: Option<(i32, i32)>,
    },
    /// Nothing strikes a cluster any more, but what keeps the other nodes away.
    Core {
        /// The nodes that are well.
        nodes: Vec<usize>,
    },
    /// The world has only faults of 100 ms at most.
    Gentle,
    /// A fault strikes, and ends by itself.
    Strikes {
        /// When it ends, in nanoseconds.
        until: u64,
    },
    /// A request was not answered for so long that its client gave up.
    Unanswered {
        /// The node that was asked.
        node: usize,
        /// When it was sent, in nanoseconds.
        since: u64,
        /// When its connection was asked for, in nanoseconds.
        opened: u64,
    },
    /// A client was told that an offset is damaged, and reads on behind it.
    ToldDamaged {
        /// Which partition.
        partition: TopicPartition,
        /// Which offset.
        offset: i64,
    },
    /// A node may have lost or taken back what it had acknowledged, and cannot know.
    Reverted {
        /// The node.
        node: usize,
    },
    /// A fault struck a node for which it may fail to read, or give its directory up.
    Troubled {
        /// The node.
        node: usize,
    },
    /// No more faults come to a node, and what could be mended is.
    Healed {
        /// The node.
        node: usize,
        /// Whether it serves clients.
        serves: bool,
    },
    /// A node serves clients.
    Ready {
        /// The node.
        node: usize,
    },
    /// A node gave up its data directory.
    Fatal {
        /// The node.
        node: usize,
        /// Its words.
        message: String,
        /// Whether a fault was injected that entitles it to.
        excused: bool,
    },
    /// Code of core panicked.
    Panicked {
        /// The node.
        node: usize,
        /// The words of the panic.
        message: String,
    },
    /// Work is pending and nothing goes on.
    Stuck {
        /// What is pending.
        what: String,
    },
    /// The size of something that has a bound.
    Size {
        /// What it is.
        what: &'static str,
        /// How large it is.
        size: u64,
        /// How large it may be.
        bound: u64,
    },
    /// Two runs of one seed ended.
    RanTwice {
        /// The hash of the first.
        first: u64,
        /// The hash of the second.
        second: u64,
    },
}

/// Returns the hash that stands for a record.
pub fn record_hash(timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hash = TraceHash::default();
    hash.number(timestamp as u64);
    for part in [key, value] {
        hash.number(u64::from(part.is_some()));
        hash.bytes(part.unwrap_or_default());
    }
    hash.finish()
}

/// Returns the hash of what a record holds that its sender gave it, wherever and whenever it is stored: key, value
/// and the headers that are not for the broker.
pub fn content_hash<'a>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> u64 {
    let own = headers.filter(|(name, _)| !name.starts_with(b"mainspring-"));
    own.fold(record_hash(0, key, value), |hash, (name, value)| {
        record_hash(hash.cast_signed(), Some(name), value)
    })
}
