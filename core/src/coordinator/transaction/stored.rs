//! What the log says: how each transactional id stands.
//!
//! This is the replicated part of a coordinator. It is a function of the records that were applied, in order,
//! and [`Stored::apply`] is the only one that changes it, live as in replay.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::wire::KafkaString;
use crate::wire::transaction_record::{
    TransactionLogKey, TransactionLogPartitions, TransactionLogValue, TransactionRecord,
    TransactionStatus,
};

/// Partitions by topic, without a topic that has none.
pub(super) type Partitions = BTreeMap<KafkaString, BTreeSet<i32>>;

/// How a transactional id stands.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Transaction {
    /// Where its record stands in the log.
    pub(super) at: Offset,
    /// The producer.
    pub(super) producer_id: ProducerId,
    /// The producer of the state before this one.
    pub(super) previous_producer_id: ProducerId,
    /// The producer that goes on once this transaction is complete, if it is another.
    pub(super) next_producer_id: ProducerId,
    /// The newest epoch.
    pub(super) producer_epoch: ProducerEpoch,
    /// The epoch that was raised to it by a request that may be repeated; -1 for none.
    pub(super) last_producer_epoch: ProducerEpoch,
    /// How long a transaction may be open.
    pub(super) timeout_ms: i32,
    /// The state.
    pub(super) status: TransactionStatus,
    /// What the open transaction, or the one that is being ended, is in.
    pub(super) partitions: Partitions,
    /// When the transaction was begun, in milliseconds since 1970; -1 for none.
    pub(super) started_ms: i64,
    /// When the record was made, in milliseconds since 1970.
    pub(super) updated_ms: i64,
    /// Which protocol of transactions was spoken last.
    pub(super) client_version: i16,
}

impl Transaction {
    fn of_record(at: Offset, value: &TransactionLogValue) -> Self {
        let code = value.transaction_status;
        let mut partitions = Partitions::new();
        for topic in value.transaction_partitions.iter().flatten() {
            if !topic.partition_ids.is_empty() {
                partitions.entry(topic.topic.detached()).or_default().extend(&topic.partition_ids);
            }
        }
        Self {
            at,
            producer_id: ProducerId(value.producer_id),
            previous_producer_id: ProducerId(value.previous_producer_id),
            next_producer_id: ProducerId(value.next_producer_id),
            producer_epoch: ProducerEpoch(value.producer_epoch),
            last_producer_epoch: ProducerEpoch(value.last_producer_epoch),
            timeout_ms: value.transaction_timeout_ms,
            status: TransactionStatus::from_code(code).expect("a record is decoded with its state"),
            partitions,
            started_ms: value.transaction_start_timestamp_ms,
            updated_ms: value.transaction_last_update_timestamp_ms,
            client_version: value.client_transaction_version,
        }
    }

    /// Returns the record that says the same of this id.
    pub(super) fn to_record(&self, transactional_id: &KafkaString) -> TransactionRecord {
        let partitions =
            self.partitions.iter().map(|(topic, partitions)| TransactionLogPartitions {
                topic: topic.clone(),
                partition_ids: partitions.iter().copied().collect(),
            });
        let value = TransactionLogValue {
            producer_id: self.producer_id.0,
            producer_epoch: self.producer_epoch.0,
            transaction_timeout_ms: self.timeout_ms,
            transaction_status: self.status.code(),
            // As Kafka has it: only an id that has no transaction has none of them.
            transaction_partitions: (self.status != TransactionStatus::Empty)
                .then(|| partitions.collect()),
            transaction_last_update_timestamp_ms: self.updated_ms,
            transaction_start_timestamp_ms: self.started_ms,
            previous_producer_id: self.previous_producer_id.0,
            next_producer_id: self.next_producer_id.0,
            client_transaction_version: self.client_version,
            next_producer_epoch: -1,
            last_producer_epoch: self.last_producer_epoch.0,
        };
        TransactionRecord { key: key(transactional_id), value: Some(value) }
    }
}

/// Returns the record that takes an id away.
pub(super) fn tombstone(transactional_id: &KafkaString) -> TransactionRecord {
    TransactionRecord { key: key(transactional_id), value: None }
}

fn key(transactional_id: &KafkaString) -> TransactionLogKey {
    TransactionLogKey { transactional_id: transactional_id.clone() }
}

/// The replicated part of a coordinator.
#[derive(Clone, Default, Debug)]
pub(super) struct Stored {
    transactions: BTreeMap<KafkaString, Transaction>,
    /// Which id each live record is the latest of.
    by_place: BTreeMap<Offset, KafkaString>,
}

impl Stored {
    /// Takes in the record at `at`.
    pub(super) fn apply(&mut self, at: Offset, record: &TransactionRecord) {
        let id = &record.key.transactional_id;
        if let Some(value) = &record.value {
            let known = self.transactions.get_key_value(id);
            let id = known.map_or_else(|| id.detached(), |(id, _)| id.clone());
            let transaction = Transaction::of_record(at, value);
            if let Some(before) = self.transactions.insert(id.clone(), transaction) {
                self.by_place.remove(&before.at);
            }
            self.by_place.insert(at, id);
        } else if let Some(before) = self.transactions.remove(id) {
            self.by_place.remove(&before.at);
        }
    }

    /// Returns how an id stands.
    pub(super) fn transaction(&self, transactional_id: &str) -> Option<&Transaction> {
        self.transactions.get(transactional_id)
    }

    /// Returns how every id stands.
    pub(super) const fn transactions(&self) -> &BTreeMap<KafkaString, Transaction> {
        &self.transactions
    }

    /// Returns the ids by the place of their latest record.
    pub(super) const fn by_place(&self) -> &BTreeMap<Offset, KafkaString> {
        &self.by_place
    }

    /// Takes everything into a digest. Places in the log are part of it.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.number(self.by_place.len() as u64).number(self.transactions.len() as u64);
        for (at, id) in &self.by_place {
            let transaction = self.transactions.get(id).expect("the index names ids that live");
            let (key, value) = transaction.to_record(id).encode();
            digest.signed(at.0).bytes(&key).bytes(&value.unwrap_or_default());
        }
    }
}
