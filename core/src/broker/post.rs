//! What shards of one node tell each other.
//!
//! Asks travel to the shard that owns the partitions, answers back, one for each partition. First in
//! first out per pair of shards; the same functions serve a shard's asks to itself.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::quorum::serve::{NodeAsk, Reply};
use crate::cluster::Cluster;
use crate::config::PeerConfig;
use crate::connection::RequestId;
use crate::coordinator::group::api as group;
use crate::coordinator::schedule;
use crate::coordinator::transaction::api as transaction;
use crate::error::ErrorCode;
use crate::ids::{ConnectionId, LeaderEpoch, NodeId, Offset, ProducerId, TopicPartition, Uuid};
use crate::metadata::controller::{Asker, Command, CommandAnswer, Delta};
use crate::metadata::image::MetadataImage;
use crate::partition::FollowerId;
use crate::partition::scheduled::{Listing, Query};
use crate::peer::Identity;
use crate::record::features::{Command as EntryCommand, CommandTarget};
use crate::record::marker::TxnMarker;
use crate::record::produce::{Refusal, RefusedRecord};
use crate::time::Instant;
use crate::wire::KafkaString;
use crate::wire::api::describe_producers::DescribedProducer;

/// One message from a shard to another of the same node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Post {
    /// Do something with partitions of yours.
    Ask {
        /// The request that asks.
        request: RequestId,
        /// What.
        ask: Ask,
    },
    /// What came of an ask, for one partition.
    Answer {
        /// The request that asked.
        request: RequestId,
        /// The place of the partition in it.
        index: u32,
        /// What.
        answer: Answer,
    },
    /// The whole committed metadata, at the start.
    Image {
        /// The image.
        image: Arc<MetadataImage>,
        /// The cluster's id.
        cluster_id: Uuid,
    },
    /// Who this node is to other nodes, and where they are.
    Introduced {
        /// Who it is.
        identity: Identity,
        /// Where the others are.
        places: Arc<[PeerConfig]>,
        /// Whether its cluster is durable, if it says one.
        is_formed: bool,
    },
    /// Another node tells of its cluster or asks for this one's, by a connection here.
    Form {
        /// The request that asks.
        request: RequestId,
        /// The other's cluster.
        told: Option<Arc<Cluster>>,
    },
    /// The whole committed metadata, in the place of what was known before.
    Snapshot(Arc<MetadataImage>),
    /// Metadata that became committed together.
    Deltas(Arc<[Delta]>),
    /// Who leads the metadata log, as far as it is known.
    QuorumLeader(Option<NodeId>),
    /// Another node asks the quorum something, by a connection here.
    NodeAsk {
        /// The request that asks.
        request: RequestId,
        /// What.
        asked: NodeAsk,
    },
    /// What the quorum answers it.
    QuorumReply {
        /// The request that asked.
        request: RequestId,
        /// What.
        reply: Reply,
    },
    /// All metadata below this offset has been applied here.
    Applied(Offset),
    /// Decide this; only shard 0 can.
    Command {
        /// Who waits here.
        asker: Asker,
        /// What.
        command: Command,
    },
    /// What came of a command.
    CommandAnswer {
        /// Who waited.
        asker: Asker,
        /// What.
        answer: CommandAnswer,
    },
    /// The controller has heard this node: until then it may act as a leader.
    Lease(Instant),
    /// The controller lets this node go.
    MayStop,
    /// A follower has this much durable.
    ReplicaAck {
        /// The follower.
        follower: FollowerId,
        /// Partitions, with the leader epoch that it follows and the offset.
        items: Vec<(TopicPartition, LeaderEpoch, Offset)>,
    },
    /// Whether producers for partitions of this shard must wait.
    Congested(bool),
    /// The log directory has failed.
    Poisoned(Arc<str>),
}

/// What a shard is asked to do with its partitions.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Append a batch to each.
    Produce {
        /// Version of the request.
        version: i16,
        /// Whether the answer waits for the in-sync replicas (acks=-1).
        all_replicas: bool,
        /// Whether the answer waits for stability at all (acks other than 0).
        wait: bool,
        /// The transaction that transactional batches are part of.
        transaction: Option<TransactionRef>,
        /// The batches.
        items: Vec<ProduceItem>,
    },
    /// Say how much can be fetched.
    Probe(Vec<FetchItem>),
    /// Say so whenever it becomes more than what is remembered, until the read.
    Watch(Vec<FetchItem>),
    /// Forget the watches of the request.
    Unwatch,
    /// Read, and forget the watches of the request.
    Read(Vec<FetchItem>),
    /// Find offsets.
    ListOffsets(Vec<ListOffsetsItem>),
    /// Move log starts.
    DeleteRecords(Vec<DeleteRecordsItem>),
    /// Find the ends of epochs.
    EpochEnd(Vec<EpochEndItem>),
    /// Say how large the logs are.
    Sizes(Vec<SizeItem>),
    /// Decide what groups are asked.
    Group(Vec<GroupItem>),
    /// Decide what coordinators of transactions are asked.
    Transaction(Vec<TransactionItem>),
    /// Write markers, each answered as a produce is.
    Markers(Vec<MarkerItem>),
    /// Say what is known of producers.
    Producers(Vec<SizeItem>),
    /// Say what waits at partitions.
    Entries(Vec<EntriesItem>),
    /// Do something to what waits, each answered as a produce is.
    AlterEntries(Vec<AlterEntryItem>),
}

/// A batch for a partition.
#[derive(Clone, Debug)]
pub struct ProduceItem {
    /// The place of the partition in the request.
    pub index: u32,
    /// The partition.
    pub partition: TopicPartition,
    /// What is said to be a batch.
    pub records: Bytes,
    /// Whether a batch before it was refused by the shard that asks.
    pub passes: bool,
}

/// What is to be fetched of a partition.
#[derive(Clone, Copy, Debug)]
pub struct FetchItem {
    /// The place of the partition in the request.
    pub index: u32,
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset wanted.
    pub offset: Offset,
    /// Most bytes.
    pub max_bytes: u64,
    /// Whether a first batch larger than that is returned all the same (KIP-74).
    pub at_least_one: bool,
    /// The epoch that the client knows, -1 for none.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record that the client has, -1 for none.
    pub last_fetched_epoch: LeaderEpoch,
    /// How much was readable when it was asked last.
    pub known_readable: u64,
    /// Which follower asks, where it is no client.
    pub replica: Option<FollowerId>,
    /// Where the follower's log begins.
    pub log_start: Offset,
    /// Whether a client is given committed transactions alone (KIP-98).
    pub read_committed: bool,
    /// Whether a client has said in which rack it is, and this node is in sync: it may read here where another
    /// leads (KIP-392).
    pub may_follow: bool,
    /// The replica in the client's rack that it had better ask, where this node is not in that rack.
    pub near: Option<NodeId>,
}

/// What offset is looked for.
#[derive(Clone, Copy, Debug)]
pub struct ListOffsetsItem {
    /// The place of the partition in the request.
    pub index: u32,
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch that the client knows, -1 for none.
    pub current_leader_epoch: LeaderEpoch,
    /// Unix milliseconds, or one of Kafka's negative names of places.
    pub timestamp: i64,
    /// Whether committed transactions alone are looked at (KIP-98).
    pub read_committed: bool,
}

/// Where a log is to start.
#[derive(Clone, Copy, Debug)]
pub struct DeleteRecordsItem {
    /// The place of the partition in the request.
    pub index: u32,
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset that stays, -1 for the high watermark.
    pub offset: i64,
}

/// Which epoch's end is looked for.
#[derive(Clone, Copy, Debug)]
pub struct EpochEndItem {
    /// The place of the partition in the request.
    pub index: u32,
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch that the client knows, -1 for none.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch asked about.
    pub leader_epoch: LeaderEpoch,
}

/// A log whose size is asked for.
#[derive(Clone, Copy, Debug)]
pub struct SizeItem {
    /// The place of the partition in the request.
    pub index: u32,
    /// The partition.
    pub partition: TopicPartition,
}

/// What a coordinator is asked.
#[derive(Clone, Debug)]
pub struct GroupItem {
    /// The place of the answer in the request.
    pub index: u32,
    /// The coordinator's partition of `__consumer_offsets`.
    pub partition: TopicPartition,
    /// What.
    pub request: group::Request,
    /// The transaction that offsets are part of.
    pub transaction: Option<TransactionRef>,
    /// Version of the client's request.
    pub version: i16,
}

/// The transaction that a request writes in.
#[derive(Clone, PartialEq, Debug)]
pub struct TransactionRef {
    /// The transactional id.
    pub transactional_id: KafkaString,
    /// Whether the partition is to be taken into the transaction, rather than found there.
    pub adds: bool,
    /// Who commits offsets in a transaction of the first kind.
    pub spoken: Option<Speaker>,
}

/// The connection by which a client speaks whose transactions are of the first kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Speaker {
    /// Which. Numbers rise over all shards of a node.
    pub connection: ConnectionId,
    /// When it was opened.
    pub since: Instant,
}

/// What a coordinator of transactions is asked.
#[derive(Clone, Debug)]
pub struct TransactionItem {
    /// The place of the answer in the request.
    pub index: u32,
    /// The coordinator's partition of `__transaction_state`.
    pub partition: TopicPartition,
    /// What.
    pub request: transaction::Request,
    /// Who speaks for which transactional id, where its transactions are of the first kind.
    pub spoken: Option<(Speaker, KafkaString)>,
    /// Whether to say that partitions are in the transaction ahead of the commit of that: whoever asks writes
    /// behind it, and tells nobody before what is written is durable, with all before it.
    pub is_ahead: bool,
}

/// A marker for a partition.
#[derive(Clone, Copy, Debug)]
pub struct MarkerItem {
    /// The place of the partition in the request.
    pub index: u32,
    /// The partition.
    pub partition: TopicPartition,
    /// The marker.
    pub marker: TxnMarker,
    /// 2 where the marker's epoch is above that of the records (KIP-890), else below.
    pub transaction_version: i8,
    /// By which way it has come from another node.
    pub arrival: Option<Arrival>,
}

/// By which way a marker has come from another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The node.
    pub node: NodeId,
    /// Which of its links.
    pub link: i32,
    /// The connection.
    pub connection: ConnectionId,
    /// When the node said on it who it is: before any marker.
    pub greeted_at: Instant,
}

/// What is to be listed of what waits at a partition.
#[derive(Clone, Debug)]
pub struct EntriesItem {
    /// The place of the partition in the request.
    pub index: u32,
    /// The partition.
    pub partition: TopicPartition,
    /// Which.
    pub query: Query,
}

/// What is to be done to what waits at a partition.
#[derive(Clone, Debug)]
pub struct AlterEntryItem {
    /// The place of the answer in the request.
    pub index: u32,
    /// The partition.
    pub partition: TopicPartition,
    /// Which entry.
    pub target: CommandTarget,
    /// What.
    pub command: EntryCommand,
}

/// What came of an ask for one partition.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of a produce.
    Produced(Result<Produced, ProduceRefusal>),
    /// Of a probe or a watch: readable bytes, capped by what was asked for.
    Readable(Result<u64, FetchRefusal>),
    /// Of a read.
    Read(Result<Fetched, FetchRefusal>),
    /// Of a lookup.
    Offset(Result<ListedOffset, ErrorCode>),
    /// Of a move of the log start: where it is.
    LogStart(Result<Offset, ErrorCode>),
    /// Of an epoch's end: the epoch and its end offset, -1 and -1 where unknown.
    EpochEnd(Result<(LeaderEpoch, Offset), ErrorCode>),
    /// Of a question for size: bytes, `None` for a log that is not here.
    Size(Option<u64>),
    /// Of a coordinator, or why there is none.
    Group(Result<group::Response, ErrorCode>),
    /// Of a coordinator of transactions, or why there is none.
    Transaction(Result<transaction::Response, ErrorCode>),
    /// To a request about a transaction on a connection that its producer, or the node that sent it, has left.
    Late,
    /// Of a question for producers.
    Producers(Result<Vec<DescribedProducer>, ErrorCode>),
    /// Of a question for what waits.
    Entries(Result<Listing, ErrorCode>),
}

/// A batch that is stored, stable as far as it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Produced {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The append time in Unix milliseconds, -1 where the producer's times stand.
    pub log_append_time_ms: i64,
    /// The first offset of the log.
    pub log_start_offset: Offset,
}

/// A batch that was not stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceRefusal {
    /// Why.
    pub code: ErrorCode,
    /// Why, in words; Kafka's own words for the code where there is none.
    pub message: Option<Cow<'static, str>>,
    /// The records to blame.
    pub records: Vec<RefusedRecord>,
    /// Whether the request is wrong as such, whatever the log holds.
    pub is_malformed: bool,
    /// The first offset of the log, -1 where it is not told.
    pub log_start_offset: Offset,
}

impl From<Refusal> for ProduceRefusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            message: Some(refusal.message),
            records: refusal.records,
            is_malformed: refusal.is_malformed,
            ..Self::from(refusal.code)
        }
    }
}

impl From<schedule::Refusal> for ProduceRefusal {
    fn from(refusal: schedule::Refusal) -> Self {
        let schedule::Refusal { error, index, message } = refusal;
        let blamed =
            index.map(|index| RefusedRecord { index: index as i32, message: message.clone() });
        Self {
            records: blamed.into_iter().collect(),
            message: Some(message.into()),
            ..Self::from(error)
        }
    }
}

impl From<ErrorCode> for ProduceRefusal {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
            records: Vec::new(),
            is_malformed: false,
            log_start_offset: Offset(-1),
        }
    }
}

/// Why nothing was fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchRefusal {
    /// An error.
    Code(ErrorCode),
    /// A follower asks for what is not there: where the log begins.
    OutOfRange {
        /// The first offset of the log.
        log_start: Offset,
    },
    /// The client's log parts from ours: the largest epoch that both know, and where it ends here.
    Diverging {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Its end.
        end_offset: Offset,
    },
    /// None: a replica in the client's rack has it too (KIP-392).
    Near {
        /// Whom to ask.
        replica: NodeId,
        /// The end of what is committed.
        high_watermark: Offset,
        /// The end of what is decided.
        last_stable_offset: Offset,
        /// The first offset of the log.
        log_start_offset: Offset,
    },
}

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The end of what is committed.
    pub high_watermark: Offset,
    /// The end of what readers of committed transactions are given.
    pub last_stable_offset: Offset,
    /// The first offset of the log.
    pub log_start_offset: Offset,
    /// Whole batches.
    pub records: Vec<Bytes>,
    /// The aborted transactions that overlap the records, by their first offsets; `None` where nobody
    /// asked.
    pub aborted: Option<Vec<AbortedTransaction>>,
}

/// A transaction whose records are not to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
}

/// An offset that was found; -1 and -1 where nothing fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedOffset {
    /// The offset.
    pub offset: Offset,
    /// Its timestamp in Unix milliseconds.
    pub timestamp: i64,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
}

impl ListedOffset {
    /// The answer where nothing fits.
    pub const NONE: Self =
        Self { offset: Offset(-1), timestamp: -1, leader_epoch: LeaderEpoch::UNKNOWN };
}
