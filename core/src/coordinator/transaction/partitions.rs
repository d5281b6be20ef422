//! `AddPartitionsToTxn` and `AddOffsetsToTxn`: what is in a transaction.

use std::collections::BTreeSet;

use super::api::{
    AddOffsetsToTxn, AddPartitionsToTxn, AddPartitionsToTxnAnswer, Response, Ticket, TxnTopic,
    TxnTopicErrors,
};
use super::decide::{Decision, V1, V2};
use super::replies::{append_error, fenced_below, partitions_answer};
use super::stored::{Partitions, Transaction};
use super::{Cx, TransactionCoordinator};
use crate::error::ErrorCode;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::wire::KafkaString;
use crate::wire::transaction_record::TransactionStatus;

/// First version in which a fenced producer is told so.
const FIRST_VERSION_WITH_FENCED: i16 = 2;
/// First version that comes from a broker, for a producer of KIP-890.
const FIRST_VERSION_OF_BROKERS: i16 = 4;
/// What a partition, and a topic besides its name, take in a record.
const PARTITION_BYTES: usize = 4;
const TOPIC_BYTES: usize = 8;

impl TransactionCoordinator {
    pub(super) fn add_partitions(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &AddPartitionsToTxn,
    ) {
        let is_of_broker = request.version >= FIRST_VERSION_OF_BROKERS;
        let id = &request.transactional_id;
        let producer = (request.producer_id, request.producer_epoch);
        if is_of_broker && request.verify_only {
            let response = match self.producer_of(id, producer) {
                Ok(transaction) => verified(transaction, request),
                Err(error) => partitions_answer(id, &request.topics, error),
            };
            return self.replies.push(ticket, response);
        }
        let version = if is_of_broker { V2 } else { V1 };
        let added = distinct(&request.topics);
        let error = self.add(cx, id, producer, &added, version).err().unwrap_or(ErrorCode::None);
        let error = fenced_below(request.version, FIRST_VERSION_WITH_FENCED, error);
        self.replies.push(ticket, partitions_answer(id, &request.topics, error));
    }

    pub(super) fn add_offsets(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &AddOffsetsToTxn,
    ) {
        let producer = (request.producer_id, request.producer_epoch);
        let partition = BTreeSet::from([request.partition.0]);
        let added = Partitions::from([(request.topic.clone(), partition)]);
        let added = self.add(cx, &request.transactional_id, producer, &added, V1);
        let error = added.err().unwrap_or(ErrorCode::None);
        let error = fenced_below(request.version, FIRST_VERSION_WITH_FENCED, error);
        self.replies.push(ticket, Response::AddOffsetsToTxn(error));
    }

    fn add(
        &mut self,
        cx: &mut Cx<'_>,
        id: &KafkaString,
        producer: (ProducerId, ProducerEpoch),
        added: &Partitions,
        version: i16,
    ) -> Result<(), ErrorCode> {
        let transaction = self.producer_of(id, producer)?;
        let is_open = transaction.status == TransactionStatus::Ongoing;
        let are_in = added.iter().all(|(topic, partitions)| {
            transaction.partitions.get(topic).is_some_and(|known| partitions.is_subset(known))
        });
        if is_open && are_in {
            return Ok(());
        }
        let next = transaction.with_partitions(cx.now.wall, added, version);
        let (count, bytes) = next.partitions.iter().fold((0, 0), |(count, bytes), (topic, all)| {
            let of_topic = topic.len() + TOPIC_BYTES + all.len() * PARTITION_BYTES;
            (count + all.len(), bytes + of_topic)
        });
        if count > self.config.partitions_max || bytes > self.config.partition_bytes_max {
            return Err(ErrorCode::PolicyViolation);
        }
        let decision = Decision { next, takes_id: false };
        self.store(cx, id, &decision).map(drop).map_err(append_error)
    }

    /// Returns the transaction that this producer may add to, or may have added to.
    fn producer_of(
        &self,
        id: &KafkaString,
        (producer_id, epoch): (ProducerId, ProducerEpoch),
    ) -> Result<&Transaction, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let transaction = self.stored.transaction(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if transaction.is_preparing() && transaction.is_next(producer_id, epoch) {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if transaction.producer_id != producer_id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if transaction.producer_epoch != epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if transaction.is_preparing() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(transaction)
    }
}

/// Returns which partitions of the request are in the transaction.
fn verified(transaction: &Transaction, request: &AddPartitionsToTxn) -> Response {
    let of_topic = |topic: &TxnTopic| {
        let known = transaction.partitions.get(&topic.name);
        let error = |partition: i32| {
            if known.is_some_and(|known| known.contains(&partition)) {
                ErrorCode::None
            } else {
                ErrorCode::TransactionAbortable
            }
        };
        let partitions = topic.partitions.iter().map(|&one| (one, error(one.0))).collect();
        TxnTopicErrors { name: topic.name.clone(), partitions }
    };
    Response::AddPartitionsToTxn(AddPartitionsToTxnAnswer {
        transactional_id: request.transactional_id.clone(),
        topics: request.topics.iter().map(of_topic).collect(),
    })
}

fn distinct(topics: &[TxnTopic]) -> Partitions {
    let mut out = Partitions::new();
    for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let partitions = topic.partitions.iter().map(|partition| partition.0);
        out.entry(topic.name.clone()).or_default().extend(partitions);
    }
    out
}
