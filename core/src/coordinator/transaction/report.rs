//! What others want to know of a coordinator: the answers to `DescribeTransactions` and `ListTransactions`, and
//! views of its state by which nothing is decided.

use super::TransactionCoordinator;
use std::collections::BTreeSet;

use super::api::{
    DescribeTransaction, DescribeTransactionAnswer, ListTransactions, ListTransactionsAnswer,
    ListedTransaction, Response, Ticket, TxnTopic,
};
use super::pattern::Pattern;
use super::replies::no_description;
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, ProducerEpoch, ProducerId};
use crate::time::Now;
use crate::wire::KafkaString;
use crate::wire::transaction_record::TransactionStatus;

/// How a transactional id stands, as it is shown to people and checkers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactionView<'a> {
    /// The id.
    pub transactional_id: &'a KafkaString,
    /// Its state.
    pub status: TransactionStatus,
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// How many partitions are in the transaction.
    pub partitions: usize,
    /// When the transaction was begun, in milliseconds since 1970; -1 for none.
    pub started_ms: i64,
}

/// A marker that a decided transaction waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MissingMarker<'a> {
    /// The id whose transaction it is.
    pub transactional_id: &'a KafkaString,
    /// The topic.
    pub topic: &'a KafkaString,
    /// The partition.
    pub partition: PartitionIndex,
    /// How often it has failed.
    pub failures: u32,
    /// How it failed last, `NONE` where it has not.
    pub error: ErrorCode,
}

impl TransactionCoordinator {
    pub(super) fn describe(&mut self, ticket: Ticket, request: &DescribeTransaction) {
        let id = &request.transactional_id;
        let answer = match self.stored.transaction(id) {
            _ if id.is_empty() => no_description(id, ErrorCode::InvalidRequest),
            None => no_description(id, ErrorCode::TransactionalIdNotFound),
            Some(transaction) => DescribeTransactionAnswer {
                error: ErrorCode::None,
                transactional_id: id.clone(),
                status: transaction.status,
                transaction_timeout_ms: transaction.timeout_ms,
                transaction_start_ms: transaction.started_ms,
                producer_id: transaction.producer_id,
                producer_epoch: transaction.producer_epoch,
                topics: transaction
                    .partitions
                    .iter()
                    .map(|(topic, partitions)| TxnTopic {
                        name: topic.clone(),
                        partitions: partitions.iter().copied().map(PartitionIndex).collect(),
                    })
                    .collect(),
            },
        };
        self.replies.push(ticket, Response::DescribeTransaction(answer));
    }

    pub(super) fn list(&mut self, now: Now, ticket: Ticket, request: &ListTransactions) {
        let by_name = |name: &KafkaString| {
            TransactionStatus::ALL.into_iter().find(|status| name == status.name())
        };
        // Kafka knows two more states, which no id is seen in.
        let is_unseen = |name: &KafkaString| *name == "Dead" || *name == "PrepareEpochFence";
        let states: Vec<TransactionStatus> =
            request.state_filters.iter().filter_map(by_name).collect();
        let unknown_state_filters = request
            .state_filters
            .iter()
            .filter(|name| by_name(name).is_none() && !is_unseen(name))
            .cloned()
            .collect();
        let pattern = match request.pattern.as_ref().map(|text| Pattern::parse(text)).transpose() {
            Ok(pattern) => pattern,
            Err(error) => {
                let transactions = Vec::new();
                let answer = ListTransactionsAnswer { error, unknown_state_filters, transactions };
                return self.replies.push(ticket, Response::ListTransactions(answer));
            }
        };
        let producers = &request.producer_id_filters;
        let wanted = self.views().filter(|view| {
            (request.state_filters.is_empty() || states.contains(&view.status))
                && (producers.is_empty() || producers.contains(&view.producer_id))
                && (request.duration_filter_ms < 0
                    || now.wall.0.saturating_sub(view.started_ms) > request.duration_filter_ms)
                && pattern.as_ref().is_none_or(|pattern| pattern.matches(view.transactional_id))
        });
        let transactions = wanted
            .map(|view| ListedTransaction {
                transactional_id: view.transactional_id.clone(),
                producer_id: view.producer_id,
                status: view.status,
            })
            .collect();
        let error = ErrorCode::None;
        let answer = ListTransactionsAnswer { error, unknown_state_filters, transactions };
        self.replies.push(ticket, Response::ListTransactions(answer));
    }

    /// Returns how every transactional id stands, in order.
    pub fn views(&self) -> impl Iterator<Item = TransactionView<'_>> {
        self.stored.transactions().iter().map(|(id, transaction)| TransactionView {
            transactional_id: id,
            status: transaction.status,
            producer_id: transaction.producer_id,
            producer_epoch: transaction.producer_epoch,
            partitions: transaction.partitions.values().map(BTreeSet::len).sum(),
            started_ms: transaction.started_ms,
        })
    }

    /// Returns how many transactional ids are in each state, by Kafka's name of it.
    pub fn states(&self) -> [(&'static str, usize); 6] {
        let mut counts = TransactionStatus::ALL.map(|status| (status.name(), 0));
        for transaction in self.stored.transactions().values() {
            let name = transaction.status.name();
            for (state, count) in &mut counts {
                *count += usize::from(*state == name);
            }
        }
        counts
    }

    /// Returns every marker that is not known to be written, and whose decision is committed.
    pub fn missing_markers(&self) -> impl Iterator<Item = MissingMarker<'_>> {
        self.endings.values().flat_map(|ending| {
            ending.markers.iter().flatten().map(|(_, marker)| MissingMarker {
                transactional_id: &ending.transactional_id,
                topic: &marker.topic,
                partition: marker.partition,
                failures: marker.failures,
                error: marker.error,
            })
        })
    }
}
