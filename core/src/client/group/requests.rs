//! Requests about a group and what their answers say, for members and administrators alike.

use std::collections::{BTreeMap, BTreeSet};

use super::StoredOffset;
use crate::client::ClientError;
use crate::client::producer::accumulator::Place;
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex};
use crate::wire::KafkaString;
use crate::wire::api::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use crate::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};

/// The last versions of `OffsetCommit` and `OffsetFetch` that name topics.
pub const LAST_OFFSETS_VERSION_BY_NAME: i16 = 9;
/// The kind of key that names a group.
const KEY_TYPE_GROUP: i8 = 0;
/// The kind of key that names a transactional producer.
const KEY_TYPE_TRANSACTION: i8 = 1;

/// What is stored for each partition, `None` where nothing is.
pub type Stored = BTreeMap<Place, Result<Option<StoredOffset>, ClientError>>;

/// Asks which broker coordinates a group.
pub fn find_coordinator(group_id: &KafkaString) -> FindCoordinatorRequest {
    FindCoordinatorRequest {
        key: group_id.clone(),
        key_type: KEY_TYPE_GROUP,
        coordinator_keys: vec![group_id.clone()],
    }
}

/// Asks which broker coordinates the transactions of a transactional id.
pub fn find_transaction_coordinator(transactional_id: &KafkaString) -> FindCoordinatorRequest {
    FindCoordinatorRequest {
        key: transactional_id.clone(),
        key_type: KEY_TYPE_TRANSACTION,
        coordinator_keys: vec![transactional_id.clone()],
    }
}

/// Reads which broker coordinates the group, or the transactional id, that was asked about.
///
/// # Errors
/// What the broker says instead.
pub fn found_coordinator(response: &FindCoordinatorResponse) -> Result<NodeId, ClientError> {
    let (code, message, node_id) = match response.coordinators.first() {
        Some(found) => (found.error_code, found.error_message.as_ref(), found.node_id),
        None => (response.error_code, response.error_message.as_ref(), response.node_id),
    };
    match ClientError::from_answer(code, message.map(KafkaString::as_str)) {
        Some(error) => Err(error),
        None => Ok(NodeId(node_id)),
    }
}

/// Stores offsets: those of a member in its generation, or in -1 without a member id.
pub fn commit_offsets(
    group_id: &KafkaString,
    generation_id: i32,
    member_id: KafkaString,
    instance_id: Option<KafkaString>,
    offsets: &BTreeMap<Place, StoredOffset>,
) -> OffsetCommitRequest {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for ((topic, partition), stored) in offsets {
        let partition = OffsetCommitRequestPartition {
            partition_index: partition.0,
            committed_offset: stored.offset.0,
            committed_leader_epoch: stored.leader_epoch.0,
            committed_metadata: Some(stored.metadata.clone()),
        };
        match topics.last_mut().filter(|last| last.name == *topic) {
            Some(last) => last.partitions.push(partition),
            None => topics.push(OffsetCommitRequestTopic {
                name: topic.clone(),
                partitions: vec![partition],
                ..OffsetCommitRequestTopic::default()
            }),
        }
    }
    OffsetCommitRequest {
        group_id: group_id.clone(),
        generation_id_or_member_epoch: generation_id,
        member_id,
        group_instance_id: instance_id,
        topics,
        ..OffsetCommitRequest::default()
    }
}

/// Reads what became of one of the offsets that were to be stored.
pub fn commit_error(response: &OffsetCommitResponse, place: &Place) -> Option<ClientError> {
    let partition = response
        .topics
        .iter()
        .filter(|topic| topic.name == place.0)
        .flat_map(|topic| &topic.partitions)
        .find(|partition| partition.partition_index == place.1.0);
    match partition {
        Some(partition) => ClientError::from_code(partition.error_code),
        None => Some(no_word(place)),
    }
}

/// Asks for stored offsets: of these partitions, or of all that have any.
pub fn fetch_offsets(
    group_id: &KafkaString,
    places: Option<&BTreeSet<Place>>,
    require_stable: bool,
) -> OffsetFetchRequest {
    let by_topic = places.map(|places| {
        let mut by_topic: BTreeMap<&KafkaString, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in places {
            by_topic.entry(topic).or_default().push(partition.0);
        }
        by_topic
    });
    let topics = by_topic.as_ref().map(|topics| {
        let topics = topics.iter().map(|(name, partitions)| OffsetFetchRequestTopic {
            name: (*name).clone(),
            partition_indexes: partitions.clone(),
        });
        topics.collect()
    });
    let topics_of_group = by_topic.as_ref().map(|topics| {
        let topics = topics.iter().map(|(name, partitions)| OffsetFetchRequestTopics {
            name: (*name).clone(),
            partition_indexes: partitions.clone(),
            ..OffsetFetchRequestTopics::default()
        });
        topics.collect()
    });
    OffsetFetchRequest {
        group_id: group_id.clone(),
        topics,
        groups: vec![OffsetFetchRequestGroup {
            group_id: group_id.clone(),
            topics: topics_of_group,
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable,
    }
}

/// Reads stored offsets, in either form of the answer.
///
/// # Errors
/// What the broker says of the whole group instead.
pub fn fetched_offsets(response: OffsetFetchResponse) -> Result<Stored, ClientError> {
    let mut out = BTreeMap::new();
    let mut put = |topic: &KafkaString, index: i32, code: i16, stored: StoredOffset| {
        let result = match ClientError::from_code(code) {
            Some(error) => Err(error),
            None => Ok((stored.offset.0 >= 0).then_some(stored)),
        };
        out.insert((topic.detached(), PartitionIndex(index)), result);
    };
    let stored = |offset: i64, epoch: i32, metadata: Option<KafkaString>| StoredOffset {
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(epoch),
        metadata: metadata.map_or_else(KafkaString::default, |words| words.detached()),
    };
    let code = response.groups.first().map_or(response.error_code, |group| group.error_code);
    if let Some(error) = ClientError::from_code(code) {
        return Err(error);
    }
    for topic in response.topics {
        for one in topic.partitions {
            let value = stored(one.committed_offset, one.committed_leader_epoch, one.metadata);
            put(&topic.name, one.partition_index, one.error_code, value);
        }
    }
    for topic in response.groups.into_iter().flat_map(|group| group.topics) {
        for one in topic.partitions {
            let value = stored(one.committed_offset, one.committed_leader_epoch, one.metadata);
            put(&topic.name, one.partition_index, one.error_code, value);
        }
    }
    Ok(out)
}

/// An answer that leaves out a partition.
pub(super) fn no_word((topic, partition): &Place) -> ClientError {
    ClientError::Malformed(format!("no word about {topic}-{partition}"))
}
