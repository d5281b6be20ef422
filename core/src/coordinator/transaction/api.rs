//! The door of a transaction coordinator: what it is asked, what it answers, what it wants done, and what it
//! needs around it.
//!
//! One coordinator serves one partition of `__transaction_state` and owns the transactional ids that
//! [`partition_of`](super::partition_of) puts there. Requests that name several transactional ids are split
//! before they come here. Names, numbers and defaults are those of the protocol; what differs between
//! versions is decided by the `version` that a request carries.
//!
//! Whoever calls has checked that the client may do it, and has answered partitions that do not exist by
//! itself. Where one partition of an `AddPartitionsToTxn` of a client (versions 0 to 3) is refused there, the
//! others are answered `OPERATION_NOT_ATTEMPTED` and nothing comes here.

use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex, ProducerEpoch, ProducerId};
use crate::io::Mark;
use crate::time::{Now, UnixMillis};
use crate::wire::KafkaString;
use crate::wire::transaction_record::TransactionStatus;

pub use crate::coordinator::group::{LogRecord, Ticket};

/// What a coordinator needs around it while it decides.
pub trait TransactionLog {
    /// Appends the records as one batch to the coordinator's partition, and returns the offset of the
    /// first. They need not be stable yet: whatever rests on them waits for the high watermark.
    ///
    /// # Errors
    /// The code that a produce of this batch would be answered with. Nothing was appended then.
    fn append(&mut self, records: &[LogRecord]) -> Result<Offset, ErrorCode>;

    /// Returns whether this log precedes a partition's: what is appended there from now on is durable only
    /// together with all that was appended here before, and is told to nobody earlier.
    fn precedes(&self, _topic: &KafkaString, _partition: PartitionIndex) -> bool {
        false
    }

    /// Reports that a rare state was reached.
    fn mark(&mut self, _mark: Mark) {}

    /// Returns the wall time that retention counts by; `None` while the clock is in doubt, and nothing
    /// expires then.
    fn retention_time(&mut self, now: Now) -> Option<UnixMillis>;
}

/// What a coordinator is asked.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Give a producer its id and epoch, and fence those before it.
    InitProducerId(InitProducerId),
    /// Take partitions into a transaction, or tell whether they are in.
    AddPartitionsToTxn(AddPartitionsToTxn),
    /// Take the offsets of a group into a transaction.
    AddOffsetsToTxn(AddOffsetsToTxn),
    /// Commit or abort.
    EndTxn(EndTxn),
    /// Tell how a transactional id stands.
    DescribeTransaction(DescribeTransaction),
    /// Name the transactional ids.
    ListTransactions(ListTransactions),
    /// Abort whatever is open, by word of an operator.
    AbortTransaction(AbortTransaction),
}

/// What a coordinator answers, by the request of the same name.
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    /// To [`Request::InitProducerId`].
    InitProducerId(ProducerAnswer),
    /// To [`Request::AddPartitionsToTxn`].
    AddPartitionsToTxn(AddPartitionsToTxnAnswer),
    /// To [`Request::AddOffsetsToTxn`].
    AddOffsetsToTxn(ErrorCode),
    /// To [`Request::EndTxn`].
    EndTxn(ProducerAnswer),
    /// To [`Request::DescribeTransaction`].
    DescribeTransaction(DescribeTransactionAnswer),
    /// To [`Request::ListTransactions`].
    ListTransactions(ListTransactionsAnswer),
    /// To [`Request::AbortTransaction`].
    AbortTransaction(ErrorCode),
}

/// Give a producer its id and epoch, and fence those before it.
#[derive(Clone, PartialEq, Debug)]
pub struct InitProducerId {
    /// Version of the request: below 4 a fenced producer is told `INVALID_PRODUCER_EPOCH`.
    pub version: i16,
    /// Who the producer is, however often it starts. A producer without one has no coordinator.
    pub transactional_id: KafkaString,
    /// Its transactions are aborted when they are open for longer.
    pub transaction_timeout_ms: i32,
    /// The id that it has, -1 for none (KIP-360).
    pub producer_id: ProducerId,
    /// The epoch that it has, -1 for none.
    pub producer_epoch: ProducerEpoch,
}

/// What a producer goes on with; for `EndTxn` from version 5 on alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerAnswer {
    /// `NONE`, or why not.
    pub error: ErrorCode,
    /// Its id, -1 with an error.
    pub producer_id: ProducerId,
    /// Its epoch, -1 with an error.
    pub producer_epoch: ProducerEpoch,
}

/// Take partitions into a transaction, or tell whether they are in.
#[derive(Clone, PartialEq, Debug)]
pub struct AddPartitionsToTxn {
    /// Version of the request: from 4 on it comes from a broker for a producer of KIP-890. Below 2 a fenced
    /// producer is told `INVALID_PRODUCER_EPOCH`, below 5 a partition that is not in `INVALID_TXN_STATE`.
    pub version: i16,
    /// The transactional id.
    pub transactional_id: KafkaString,
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Whether nothing is to be added (version 4 and up).
    pub verify_only: bool,
    /// The partitions.
    pub topics: Vec<TxnTopic>,
}

/// Partitions of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnTopic {
    /// The name of the topic.
    pub name: KafkaString,
    /// The partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// How it went, partition by partition in the order of the request.
#[derive(Clone, PartialEq, Debug)]
pub struct AddPartitionsToTxnAnswer {
    /// The transactional id.
    pub transactional_id: KafkaString,
    /// The topics.
    pub topics: Vec<TxnTopicErrors>,
}

/// What became of the partitions of one topic.
#[derive(Clone, PartialEq, Debug)]
pub struct TxnTopicErrors {
    /// As it was named.
    pub name: KafkaString,
    /// Each partition with `NONE`, or why it is not in the transaction.
    pub partitions: Vec<(PartitionIndex, ErrorCode)>,
}

/// Take the offsets of a group into a transaction.
#[derive(Clone, PartialEq, Debug)]
pub struct AddOffsetsToTxn {
    /// Version of the request: below 2 a fenced producer is told `INVALID_PRODUCER_EPOCH`.
    pub version: i16,
    /// The transactional id.
    pub transactional_id: KafkaString,
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// `__consumer_offsets`.
    pub topic: KafkaString,
    /// The partition of it that keeps the group.
    pub partition: PartitionIndex,
}

/// Commit or abort.
#[derive(Clone, PartialEq, Debug)]
pub struct EndTxn {
    /// Version of the request: from 5 on the producer gets its next epoch with it (KIP-890). Below 2 a
    /// fenced producer is told `INVALID_PRODUCER_EPOCH`.
    pub version: i16,
    /// The transactional id.
    pub transactional_id: KafkaString,
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Whether to commit, else to abort.
    pub committed: bool,
}

/// Tell how a transactional id stands.
#[derive(Clone, PartialEq, Debug)]
pub struct DescribeTransaction {
    /// The transactional id.
    pub transactional_id: KafkaString,
}

/// How a transactional id stands.
#[derive(Clone, PartialEq, Debug)]
pub struct DescribeTransactionAnswer {
    /// `NONE`, or why it cannot be told; the rest is without meaning then.
    pub error: ErrorCode,
    /// The transactional id.
    pub transactional_id: KafkaString,
    /// Its state.
    pub status: TransactionStatus,
    /// How long its transactions may be open.
    pub transaction_timeout_ms: i32,
    /// When the open one was begun, or the last one, in milliseconds since 1970; -1 for none.
    pub transaction_start_ms: i64,
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The partitions that are in the transaction.
    pub topics: Vec<TxnTopic>,
}

/// Name the transactional ids.
#[derive(Clone, PartialEq, Debug)]
pub struct ListTransactions {
    /// Only those in these states, by Kafka's names; empty for all.
    pub state_filters: Vec<KafkaString>,
    /// Only those of these producers; empty for all.
    pub producer_id_filters: Vec<ProducerId>,
    /// Only those that were begun more than so many milliseconds ago; all below 0.
    pub duration_filter_ms: i64,
    /// Only those that match this regular expression as a whole (KIP-1152).
    pub pattern: Option<KafkaString>,
}

/// The transactional ids.
#[derive(Clone, PartialEq, Debug)]
pub struct ListTransactionsAnswer {
    /// `NONE`, or why they cannot be named.
    pub error: ErrorCode,
    /// The filters that are no state.
    pub unknown_state_filters: Vec<KafkaString>,
    /// The ids, in order.
    pub transactions: Vec<ListedTransaction>,
}

/// A transactional id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedTransaction {
    /// The id.
    pub transactional_id: KafkaString,
    /// The producer.
    pub producer_id: ProducerId,
    /// Its state.
    pub status: TransactionStatus,
}

/// Abort whatever is open, by word of an operator.
#[derive(Clone, PartialEq, Debug)]
pub struct AbortTransaction {
    /// The transactional id.
    pub transactional_id: KafkaString,
}

/// Names a marker until it is written: the place of the record that decided, and the partition's number among
/// those of the transaction. It means the same for a coordinator that was loaded anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MarkerId {
    /// Where the deciding record stands.
    pub decided_at: Offset,
    /// Which partition.
    pub index: u32,
}

/// What a coordinator wants done.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Write this marker to that partition: the driver sends it to the leader, on this node or another, and
    /// reports by [`on_marker_written`](super::TransactionCoordinator::on_marker_written), once, however it
    /// went. The decision behind it is committed, or its log [precedes](TransactionLog::precedes) that of the
    /// partition, and then the marker is written at once.
    WriteMarker {
        /// Names it in the report.
        id: MarkerId,
        /// The topic.
        topic: KafkaString,
        /// The partition.
        partition: PartitionIndex,
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the marker.
        producer_epoch: ProducerEpoch,
        /// Whether the transaction commits, else aborts.
        committed: bool,
        /// Epoch of the leader of the coordinator's partition.
        coordinator_epoch: i32,
        /// 2 where the marker's epoch is above that of the records (KIP-890), else 0.
        transaction_version: i8,
    },
    /// One fresh producer id is wanted, to be given by
    /// [`give_producer_id`](super::TransactionCoordinator::give_producer_id). Asked once until given.
    WantProducerId,
}
