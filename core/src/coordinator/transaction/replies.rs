//! Replies that wait until what they rest on is committed, and refusals in the form of each request.
//!
//! A reply may rest on any record that was applied before it was decided, errors and reads too. Only one
//! whose decision was fixed by an earlier record (the answer to `EndTxn`, which waits for markers) rests on
//! that record alone. And one may be released, where whoever hears it tells nobody before that.

use std::collections::BTreeMap;

use super::api::{
    AddPartitionsToTxnAnswer, DescribeTransactionAnswer, ListTransactionsAnswer, ProducerAnswer,
    Request, Response, Ticket, TxnTopic, TxnTopicErrors,
};
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::wire::KafkaString;
use crate::wire::transaction_record::TransactionStatus;

/// Replies by the end of the log that must be committed before they leave, then by their order.
#[derive(Clone, Default, Debug)]
pub(super) struct Replies {
    held: BTreeMap<(Offset, u64), (Ticket, Response)>,
    count: u64,
    end: Offset,
    high_watermark: Offset,
}

impl Replies {
    /// Notes that the log ends there, with everything applied.
    pub(super) fn rest_on(&mut self, end: Offset) {
        assert!(end >= self.end, "a coordinator's log does not shrink under it");
        self.end = end;
    }

    /// Returns the end of the log, with everything applied.
    pub(super) const fn end(&self) -> Offset {
        self.end
    }

    /// Returns what is committed.
    pub(super) const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Notes that everything below is committed.
    pub(super) fn committed(&mut self, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(high_watermark);
    }

    /// Puts in a reply that rests on everything applied so far.
    pub(super) fn push(&mut self, ticket: Ticket, response: Response) {
        self.push_at(self.end, ticket, response);
    }

    /// Puts in a reply that rests on what is below `needs`.
    pub(super) fn push_at(&mut self, needs: Offset, ticket: Ticket, response: Response) {
        assert!(needs <= self.end, "a reply rests on what is applied");
        self.held.insert((needs, self.count), (ticket, response));
        self.count += 1;
    }

    /// Lets a reply leave that was just put in, if it says that partitions are in a transaction.
    pub(super) fn release(&mut self, ticket: Ticket) {
        // What was put in last rests on all there is, and stands behind all others.
        let Some(last) = self.held.last_entry() else { return };
        let count = last.key().1;
        if last.get().0 == ticket && last.get().1.takes_in_all() {
            let reply = last.remove();
            self.held.insert((Offset::ZERO, count), reply);
        }
    }

    /// Takes the next reply that may leave.
    pub(super) fn pop(&mut self) -> Option<(Ticket, Response)> {
        let entry = self.held.first_entry()?;
        if entry.key().0 > self.high_watermark {
            return None;
        }
        Some(entry.remove())
    }

    /// Takes every reply, committed or not.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Ticket, Response)> {
        std::mem::take(&mut self.held).into_values()
    }
}

impl Request {
    /// Returns the answer that says no to the whole request.
    pub fn refused(&self, error: ErrorCode) -> Response {
        match self {
            Self::InitProducerId(_) => Response::InitProducerId(no_producer(error)),
            Self::AddPartitionsToTxn(request) => {
                partitions_answer(&request.transactional_id, &request.topics, error)
            }
            Self::AddOffsetsToTxn(_) => Response::AddOffsetsToTxn(error),
            Self::EndTxn(_) => Response::EndTxn(no_producer(error)),
            Self::DescribeTransaction(request) => {
                Response::DescribeTransaction(no_description(&request.transactional_id, error))
            }
            Self::ListTransactions(_) => Response::ListTransactions(no_list(error)),
            Self::AbortTransaction(_) => Response::AbortTransaction(error),
        }
    }
}

impl Response {
    /// Returns whether it says of every partition that it is in the transaction.
    fn takes_in_all(&self) -> bool {
        let Self::AddPartitionsToTxn(answer) = self else { return false };
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.all(|(_, error)| *error == ErrorCode::None)
    }

    /// Returns the answer that says no instead, to the same request.
    #[must_use]
    pub fn refused(&self, error: ErrorCode) -> Self {
        match self {
            Self::InitProducerId(_) => Self::InitProducerId(no_producer(error)),
            Self::AddPartitionsToTxn(answer) => {
                let mut answer = answer.clone();
                for (_, was) in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    *was = error;
                }
                Self::AddPartitionsToTxn(answer)
            }
            Self::AddOffsetsToTxn(_) => Self::AddOffsetsToTxn(error),
            Self::EndTxn(_) => Self::EndTxn(no_producer(error)),
            Self::DescribeTransaction(answer) => {
                Self::DescribeTransaction(no_description(&answer.transactional_id, error))
            }
            Self::ListTransactions(_) => Self::ListTransactions(no_list(error)),
            Self::AbortTransaction(_) => Self::AbortTransaction(error),
        }
    }
}

/// Returns an answer without a producer.
pub(super) const fn no_producer(error: ErrorCode) -> ProducerAnswer {
    ProducerAnswer { error, producer_id: ProducerId::NONE, producer_epoch: ProducerEpoch(-1) }
}

/// Returns the answer that says the same of every partition.
pub(super) fn partitions_answer(
    transactional_id: &KafkaString,
    topics: &[TxnTopic],
    error: ErrorCode,
) -> Response {
    let topics = topics
        .iter()
        .map(|topic| TxnTopicErrors {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(|&partition| (partition, error)).collect(),
        })
        .collect();
    let transactional_id = transactional_id.clone();
    Response::AddPartitionsToTxn(AddPartitionsToTxnAnswer { transactional_id, topics })
}

/// Returns what is said of a transactional id that nothing can be told of.
pub(super) fn no_description(
    transactional_id: &KafkaString,
    error: ErrorCode,
) -> DescribeTransactionAnswer {
    DescribeTransactionAnswer {
        error,
        transactional_id: transactional_id.clone(),
        status: TransactionStatus::Empty,
        transaction_timeout_ms: 0,
        transaction_start_ms: -1,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch(-1),
        topics: Vec::new(),
    }
}

const fn no_list(error: ErrorCode) -> ListTransactionsAnswer {
    ListTransactionsAnswer { error, unknown_state_filters: Vec::new(), transactions: Vec::new() }
}

/// Returns what a client is told where the log has taken nothing, in Kafka's words: it is to look for the
/// coordinator again, or to give up where trying again would not help.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are told as they are")]
pub(super) const fn append_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize
        | ErrorCode::CorruptMessage => ErrorCode::UnknownServerError,
        other => other,
    }
}

/// Returns what a fenced producer is told below `version`, which does not know the word.
pub(super) fn fenced_below(version: i16, first_with_fenced: i16, error: ErrorCode) -> ErrorCode {
    if error == ErrorCode::ProducerFenced && version < first_with_fenced {
        ErrorCode::InvalidProducerEpoch
    } else {
        error
    }
}
