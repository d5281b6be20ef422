//! Offsets that wait for the end of their transaction (KIP-98).
//!
//! A staged offset is no committed one: nobody reads it until the marker of its transaction says that
//! it counts. All of this is a function of the records and markers that were applied, in order.
//!
//! Invariants:
//! 1. A transaction is known from the first of its records on until its marker, whatever becomes of
//!    its offsets meanwhile: the log is kept from its first record on.
//! 2. `by_key` names, for each offset, the producers that have staged it; `count` counts the pairs.

use std::collections::{BTreeMap, BTreeSet};

use super::api::TransactionalProducer;
use super::stored::{StoredOffset, shared_key};
use crate::digest::Digest;
use crate::ids::{Offset, ProducerEpoch, ProducerId, TopicId};
use crate::wire::KafkaString;
use crate::wire::group_record::OffsetCommitKey;

/// Names an offset: group, topic, partition.
pub(super) type OffsetName = (KafkaString, KafkaString, i32);

/// A transaction whose marker has not come.
#[derive(Clone, Debug)]
pub(super) struct OpenTransaction {
    epoch: ProducerEpoch,
    /// Where its first record stands in the log.
    first: Offset,
    offsets: BTreeMap<OffsetName, StoredOffset>,
}

impl OpenTransaction {
    /// Returns what it would commit.
    pub(super) fn into_offsets(self) -> impl Iterator<Item = (OffsetName, StoredOffset)> {
        self.offsets.into_iter()
    }
}

/// Producers that have staged an offset, by partition within topic.
type Stagers = BTreeMap<KafkaString, BTreeMap<i32, BTreeSet<ProducerId>>>;

/// The offsets of all open transactions.
#[derive(Clone, Default, Debug)]
pub(super) struct Staged {
    open: BTreeMap<ProducerId, OpenTransaction>,
    by_key: BTreeMap<KafkaString, Stagers>,
    count: usize,
}

impl Staged {
    /// Takes in an offset that stands in the log as part of the producer's transaction.
    pub(super) fn put(
        &mut self,
        producer: TransactionalProducer,
        key: &OffsetCommitKey,
        value: StoredOffset,
    ) {
        let group = shared_key(&self.by_key, &key.group);
        let topics = self.by_key.entry(group.clone()).or_default();
        let topic = shared_key(topics, &key.topic);
        let partitions = topics.entry(topic.clone()).or_default();
        if partitions.entry(key.partition).or_default().insert(producer.id) {
            self.count += 1;
        }
        let new =
            || OpenTransaction { epoch: producer.epoch, first: value.at, offsets: BTreeMap::new() };
        let transaction = self.open.entry(producer.id).or_insert_with(new);
        transaction.epoch = transaction.epoch.max(producer.epoch);
        transaction.offsets.insert((group, topic, key.partition), value);
    }

    /// Drops an offset from every transaction: a tombstone came after it.
    pub(super) fn remove(&mut self, key: &OffsetCommitKey) {
        let Some(topics) = self.by_key.get_mut(&key.group) else { return };
        let Some(partitions) = topics.get_mut(&key.topic) else { return };
        let producers = partitions.remove(&key.partition).unwrap_or_default();
        if partitions.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.by_key.remove(&key.group);
        }
        let name = (key.group.clone(), key.topic.clone(), key.partition);
        for producer in producers {
            if let Some(transaction) = self.open.get_mut(&producer) {
                self.count -= usize::from(transaction.offsets.remove(&name).is_some());
            }
        }
    }

    /// Ends the producer's transaction at a marker of this epoch, and returns it. One of a later
    /// epoch is not meant.
    pub(super) fn end(&mut self, producer: TransactionalProducer) -> Option<OpenTransaction> {
        if self.open.get(&producer.id)?.epoch > producer.epoch {
            return None;
        }
        let transaction = self.open.remove(&producer.id)?;
        for (group, topic, partition) in transaction.offsets.keys() {
            self.forget(producer.id, group, topic, *partition);
        }
        self.count -= transaction.offsets.len();
        Some(transaction)
    }

    fn forget(&mut self, producer: ProducerId, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.by_key.get_mut(group) else { return };
        let Some(partitions) = topics.get_mut(topic) else { return };
        if let Some(producers) = partitions.get_mut(&partition) {
            producers.remove(&producer);
            if producers.is_empty() {
                partitions.remove(&partition);
            }
        }
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.by_key.remove(group);
        }
    }

    /// Returns whether a transaction may yet change the offset.
    pub(super) fn has(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.stagers(group, topic, partition).is_some()
    }

    /// Returns whether this producer has staged the offset.
    pub(super) fn has_of(&self, id: ProducerId, group: &str, topic: &str, partition: i32) -> bool {
        self.stagers(group, topic, partition).is_some_and(|producers| producers.contains(&id))
    }

    fn stagers(&self, group: &str, topic: &str, partition: i32) -> Option<&BTreeSet<ProducerId>> {
        self.by_key.get(group)?.get(topic)?.get(&partition)
    }

    /// Returns whether a transaction may yet change an offset of the group.
    pub(super) fn has_group(&self, group: &str) -> bool {
        self.by_key.contains_key(group)
    }

    /// Returns the staged partitions of a group, by topic.
    pub(super) fn of_group(&self, group: &str) -> impl Iterator<Item = (&KafkaString, i32)> {
        self.by_key.get(group).into_iter().flatten().flat_map(|(topic, partitions)| {
            partitions.keys().map(move |&partition| (topic, partition))
        })
    }

    /// Returns every staged offset, with the id of its topic.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&OffsetName, TopicId)> {
        let offsets = self.open.values().flat_map(|transaction| &transaction.offsets);
        offsets.map(|(name, staged)| (name, staged.topic_id))
    }

    /// Returns where the first record of an open transaction stands.
    pub(super) fn first(&self) -> Option<Offset> {
        self.open.values().map(|transaction| transaction.first).min()
    }

    /// Returns how many offsets are staged; one that several producers have staged counts for each.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Takes everything into a digest. Places in the log are part of it.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.number(self.open.len() as u64).number(self.count as u64);
        for (id, transaction) in &self.open {
            digest.signed(id.0).signed(i64::from(transaction.epoch.0)).signed(transaction.first.0);
            digest.shown(&transaction.offsets);
        }
        digest.number(self.by_key.len() as u64);
    }
}
