//! What the log says: groups between two rebalances, committed offsets, and offsets that wait for the
//! end of their transaction.
//!
//! This is the replicated part of a coordinator. It is a function of the records and markers that
//! were applied, in order: [`Stored::apply`] and [`Stored::end_transaction`] are the only ones that
//! change it, live as in replay.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::api::{TransactionalProducer, VisibleOffset};
use super::staged::Staged;
use crate::digest::Digest;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::wire::KafkaString;
use crate::wire::group_record::{
    GroupMetadataKey, GroupMetadataValue, GroupRecord, OffsetCommitKey, OffsetCommitValue,
};

/// A committed offset.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct StoredOffset {
    /// Where its record stands in the log.
    pub(super) at: Offset,
    /// The next offset to read.
    pub(super) offset: i64,
    /// Epoch of the last record that was read.
    pub(super) leader_epoch: LeaderEpoch,
    /// The client's own words.
    pub(super) metadata: KafkaString,
    /// When it was committed, in milliseconds since 1970.
    pub(super) commit_timestamp_ms: i64,
    /// When it expires whatever the broker's rule says.
    pub(super) expire_timestamp_ms: Option<i64>,
    /// The topic; zero where it is not known.
    pub(super) topic_id: TopicId,
}

impl StoredOffset {
    fn new(at: Offset, value: &OffsetCommitValue) -> Self {
        Self {
            at,
            offset: value.offset,
            leader_epoch: LeaderEpoch(value.leader_epoch),
            metadata: value.metadata.detached(),
            commit_timestamp_ms: value.commit_timestamp,
            expire_timestamp_ms: (value.expire_timestamp != -1).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
        }
    }
}

/// A group between two rebalances.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct StoredGroup {
    /// Where its record stands in the log.
    pub(super) at: Offset,
    /// What the record says.
    pub(super) value: GroupMetadataValue,
}

/// Offsets of a group, by partition within topic.
pub(super) type TopicOffsets = BTreeMap<KafkaString, BTreeMap<i32, StoredOffset>>;

/// A key that lives: its latest record is no tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum LiveKey {
    /// Of a group.
    Group(KafkaString),
    /// Of a committed offset.
    Offset(KafkaString, KafkaString, i32),
}

/// The replicated part of a coordinator.
#[derive(Clone, Default, Debug)]
pub(super) struct Stored {
    groups: BTreeMap<KafkaString, StoredGroup>,
    offsets: BTreeMap<KafkaString, TopicOffsets>,
    /// Which key each live record is the latest of.
    by_place: BTreeMap<Offset, LiveKey>,
    offset_count: usize,
    staged: Staged,
    /// Groups that have offsets, stored or staged.
    with_offsets: BTreeSet<KafkaString>,
}

impl Stored {
    /// Takes in the record at `at`, which is part of the producer's transaction if there is one. A
    /// group in it must not keep a frame alive ([`detached`]).
    pub(super) fn apply(
        &mut self,
        at: Offset,
        producer: Option<TransactionalProducer>,
        record: &GroupRecord,
    ) {
        match record {
            GroupRecord::OffsetCommit(key, Some(value)) => {
                let offset = StoredOffset::new(at, value);
                match producer {
                    Some(producer) => self.staged.put(producer, key, offset),
                    None => self.put_offset(&key.group, &key.topic, key.partition, offset),
                }
                self.note_offsets_of(&key.group);
            }
            GroupRecord::OffsetCommit(key, None) => {
                self.remove_offset(key);
                self.staged.remove(key);
                self.note_offsets_of(&key.group);
            }
            GroupRecord::GroupMetadata(key, Some(value)) => {
                let group = StoredGroup { at, value: value.clone() };
                let id = key.group.detached();
                if let Some(before) = self.groups.insert(id.clone(), group) {
                    self.by_place.remove(&before.at);
                }
                self.by_place.insert(at, LiveKey::Group(id));
            }
            GroupRecord::GroupMetadata(key, None) => {
                if let Some(before) = self.groups.remove(&key.group) {
                    self.by_place.remove(&before.at);
                }
            }
        }
    }

    /// Takes in a marker: what the producer has staged is stored, or dropped. Of an offset that was
    /// stored meanwhile the later record counts, whatever the marker's place.
    pub(super) fn end_transaction(
        &mut self,
        producer: TransactionalProducer,
        committed: bool,
    ) -> Vec<VisibleOffset> {
        let mut visible = Vec::new();
        let Some(transaction) = self.staged.end(producer) else { return visible };
        for ((group, topic, partition), staged) in transaction.into_offsets() {
            let before = self.offset(&group, &topic, partition);
            if committed && before.is_none_or(|stored| stored.at < staged.at) {
                visible.push(VisibleOffset {
                    group_id: group.clone(),
                    topic: topic.clone(),
                    partition: PartitionIndex(partition),
                    topic_id: staged.topic_id,
                    offset: staged.offset,
                });
                self.put_offset(&group, &topic, partition, staged);
            }
            self.note_offsets_of(&group);
        }
        visible
    }

    fn note_offsets_of(&mut self, group: &KafkaString) {
        if !self.offsets.contains_key(group) && !self.staged.has_group(group) {
            self.with_offsets.remove(group);
        } else if !self.with_offsets.contains(group) {
            self.with_offsets.insert(group.detached());
        }
    }

    fn put_offset(
        &mut self,
        group: &KafkaString,
        topic: &KafkaString,
        partition: i32,
        stored: StoredOffset,
    ) {
        let at = stored.at;
        // Names are copied once for each key, and shared with the index by place.
        let group = shared_key(&self.offsets, group);
        let topics = self.offsets.entry(group.clone()).or_default();
        let topic = shared_key(topics, topic);
        match topics.entry(topic.clone()).or_default().insert(partition, stored) {
            Some(before) => {
                self.by_place.remove(&before.at);
            }
            None => self.offset_count += 1,
        }
        self.by_place.insert(at, LiveKey::Offset(group, topic, partition));
    }

    fn remove_offset(&mut self, key: &OffsetCommitKey) {
        let Some(topics) = self.offsets.get_mut(&key.group) else { return };
        let Some(partitions) = topics.get_mut(&key.topic) else { return };
        if let Some(before) = partitions.remove(&key.partition) {
            self.by_place.remove(&before.at);
            self.offset_count -= 1;
        }
        if partitions.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.offsets.remove(&key.group);
        }
    }

    /// Returns a group that has had members.
    pub(super) fn group(&self, group_id: &str) -> Option<&StoredGroup> {
        self.groups.get(group_id)
    }

    /// Returns every group that has had members.
    pub(super) const fn groups(&self) -> &BTreeMap<KafkaString, StoredGroup> {
        &self.groups
    }

    /// Returns the offsets of a group, if it has any.
    pub(super) fn offsets(&self, group_id: &str) -> Option<&TopicOffsets> {
        self.offsets.get(group_id)
    }

    /// Returns the offsets of every group that has any.
    pub(super) const fn all_offsets(&self) -> &BTreeMap<KafkaString, TopicOffsets> {
        &self.offsets
    }

    /// Returns a committed offset.
    pub(super) fn offset(
        &self,
        group_id: &str,
        topic: &str,
        partition: i32,
    ) -> Option<&StoredOffset> {
        self.offsets.get(group_id)?.get(topic)?.get(&partition)
    }

    /// Returns how many offsets are stored.
    pub(super) const fn offset_count(&self) -> usize {
        self.offset_count
    }

    /// Returns the offsets that wait for the end of their transaction.
    pub(super) const fn staged(&self) -> &Staged {
        &self.staged
    }

    /// Returns the groups that have offsets, stored or staged.
    pub(super) const fn groups_with_offsets(&self) -> &BTreeSet<KafkaString> {
        &self.with_offsets
    }

    /// Returns whether the group has offsets, stored or staged.
    pub(super) fn has_offsets(&self, group_id: &str) -> bool {
        self.with_offsets.contains(group_id)
    }

    /// Returns every offset of the group, stored or staged, once.
    pub(super) fn offset_names(&self, group_id: &str) -> BTreeSet<(KafkaString, i32)> {
        let stored =
            self.offsets(group_id).into_iter().flatten().flat_map(|(topic, partitions)| {
                partitions.keys().map(|&partition| (topic.clone(), partition))
            });
        let staged = self.staged.of_group(group_id);
        stored.chain(staged.map(|(topic, partition)| (topic.clone(), partition))).collect()
    }

    /// Returns the keys that live, by the place of their latest record.
    pub(super) const fn by_place(&self) -> &BTreeMap<Offset, LiveKey> {
        &self.by_place
    }

    /// Returns the latest record of a key that lives.
    pub(super) fn record(&self, key: &LiveKey) -> Option<GroupRecord> {
        match key {
            LiveKey::Group(group) => self.groups.get(group).map(|stored| {
                GroupRecord::GroupMetadata(
                    GroupMetadataKey { group: group.clone() },
                    Some(stored.value.clone()),
                )
            }),
            LiveKey::Offset(group, topic, partition) => {
                let stored = self.offset(group, topic, *partition)?;
                let key = OffsetCommitKey {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                };
                let value = OffsetCommitValue {
                    offset: stored.offset,
                    leader_epoch: stored.leader_epoch.0,
                    metadata: stored.metadata.clone(),
                    commit_timestamp: stored.commit_timestamp_ms,
                    expire_timestamp: stored.expire_timestamp_ms.unwrap_or(-1),
                    topic_id: stored.topic_id,
                };
                Some(GroupRecord::OffsetCommit(key, Some(value)))
            }
        }
    }

    /// Takes everything into a digest. Places in the log are part of it.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.number(self.by_place.len() as u64);
        for (at, key) in &self.by_place {
            digest.signed(at.0);
            let record = self.record(key).expect("the index names keys that live");
            let (key, value) = record.encode();
            digest.bytes(&key).bytes(&value.unwrap_or_default());
        }
        digest.number(self.groups.len() as u64).number(self.offset_count as u64);
        self.staged.digest(digest);
        digest.number(self.with_offsets.len() as u64);
    }
}

/// Returns the key of the map that equals `text`, or a copy of `text` that keeps no frame alive.
pub(super) fn shared_key<V>(map: &BTreeMap<KafkaString, V>, text: &KafkaString) -> KafkaString {
    map.get_key_value(text).map_or_else(|| text.detached(), |(key, _)| key.clone())
}

/// Returns the group as it is, so that it keeps no frame alive.
pub(super) fn detached(mut value: GroupMetadataValue) -> GroupMetadataValue {
    value.protocol_type = value.protocol_type.detached();
    value.protocol = value.protocol.map(|text| text.detached());
    value.leader = value.leader.map(|text| text.detached());
    for member in &mut value.members {
        member.member_id = member.member_id.detached();
        member.group_instance_id = member.group_instance_id.take().map(|text| text.detached());
        member.client_id = member.client_id.detached();
        member.client_host = member.client_host.detached();
        member.subscription = Bytes::copy_from_slice(&member.subscription);
        member.assignment = Bytes::copy_from_slice(&member.assignment);
    }
    value
}
