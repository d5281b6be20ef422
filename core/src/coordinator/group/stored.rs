//! What the log says: groups between two rebalances, and committed offsets.
//!
//! This is the replicated part of a coordinator. It is a function of the records that were applied,
//! in order, and [`Stored::apply`] is the only one that changes it, live as in replay.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::digest::Digest;
use crate::ids::{LeaderEpoch, Offset, TopicId};
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
}

impl Stored {
    /// Takes in the record at `at`. A group in it must not keep a frame alive ([`detached`]).
    pub(super) fn apply(&mut self, at: Offset, record: &GroupRecord) {
        match record {
            GroupRecord::OffsetCommit(key, Some(value)) => self.put_offset(at, key, value),
            GroupRecord::OffsetCommit(key, None) => self.remove_offset(key),
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

    fn put_offset(&mut self, at: Offset, key: &OffsetCommitKey, value: &OffsetCommitValue) {
        let stored = StoredOffset {
            at,
            offset: value.offset,
            leader_epoch: LeaderEpoch(value.leader_epoch),
            metadata: value.metadata.detached(),
            commit_timestamp_ms: value.commit_timestamp,
            expire_timestamp_ms: (value.expire_timestamp != -1).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
        };
        // Names are copied once for each key, and shared with the index by place.
        let group = shared_key(&self.offsets, &key.group);
        let topics = self.offsets.entry(group.clone()).or_default();
        let topic = shared_key(topics, &key.topic);
        match topics.entry(topic.clone()).or_default().insert(key.partition, stored) {
            Some(before) => {
                self.by_place.remove(&before.at);
            }
            None => self.offset_count += 1,
        }
        self.by_place.insert(at, LiveKey::Offset(group, topic, key.partition));
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
    }
}

/// Returns the key of the map that equals `text`, or a copy of `text` that keeps no frame alive.
fn shared_key<V>(map: &BTreeMap<KafkaString, V>, text: &KafkaString) -> KafkaString {
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
