//! Moving partitions to other nodes: `AlterPartitionReassignments` and its list.
//!
//! While it moves, a partition has its new replicas and the old ones. Once all the new ones are in sync, the
//! others go in the same change. A move may be taken back, or turned elsewhere. Sources: KIP-455, 860.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ErrorCode;
use crate::ids::NodeId;
use crate::metadata::decide::{Decision, Refusal, refuse};
use crate::metadata::draft::{Draft, change_record, find_by_name};
use crate::metadata::elections::settle;
use crate::metadata::image::{MetadataImage, PartitionImage, numbers};
use crate::wire::KafkaString;
use crate::wire::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::wire::api::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};

/// `AlterPartitionReassignments` (key 45).
pub fn alter_reassignments(
    image: &MetadataImage,
    request: &AlterPartitionReassignmentsRequest,
) -> Decision<AlterPartitionReassignmentsResponse> {
    let mut draft = Draft::new(image);
    let may_change_factor = request.allow_replication_factor_change;
    let mut responses = Vec::new();
    for topic in &request.topics {
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let outcome = reassign(&mut draft, topic.name.as_str(), asked, may_change_factor);
            let (code, error_message) = match outcome {
                Ok(()) => (ErrorCode::None, None),
                Err((code, why)) => (code, Some(KafkaString::from(why))),
            };
            partitions.push(ReassignablePartitionResponse {
                partition_index: asked.partition_index,
                error_code: code.code(),
                error_message,
            });
        }
        responses.push(ReassignableTopicResponse { name: topic.name.clone(), partitions });
    }
    let response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_factor,
        error_message: None,
        responses,
        ..AlterPartitionReassignmentsResponse::default()
    };
    Decision { records: draft.into_records(), response }
}

fn reassign(
    draft: &mut Draft,
    topic: &str,
    asked: &ReassignablePartition,
    may_change_factor: bool,
) -> Result<(), Refusal> {
    let image = draft.image();
    let (id, topic, old) = find_by_name(image, topic, asked.partition_index)
        .ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition))?;
    let mut new = match &asked.replicas {
        None => taken_back(image.min_isr(topic, old), old)?,
        Some(target) => {
            let target = checked_target(image, target)?;
            if !may_change_factor && target.len() != old.original().count() {
                let why = "The replication factor would change.";
                return Err((ErrorCode::InvalidReplicationFactor, why.to_owned()));
            }
            moved(old, target)
        }
    };
    settle(image, topic, &mut new);
    if let Some(record) = change_record(id, old, &new) {
        draft.push(record);
    }
    Ok(())
}

fn checked_target(image: &MetadataImage, target: &[i32]) -> Result<Vec<NodeId>, Refusal> {
    let refused = |why: String| Err((ErrorCode::InvalidReplicaAssignment, why));
    if target.is_empty() {
        return refused("A partition needs a replica.".to_owned());
    }
    let mut seen = BTreeSet::new();
    for &id in target {
        if !seen.insert(id) {
            return refused(format!("Broker {id} is assigned twice."));
        }
        if image.broker(NodeId(id)).is_none() {
            return refused(format!("Broker {id} is not registered."));
        }
    }
    Ok(target.iter().copied().map(NodeId).collect())
}

/// The partition on its way to other replicas.
fn moved(old: &PartitionImage, target: Vec<NodeId>) -> PartitionImage {
    let original: Vec<NodeId> = old.original().collect();
    let adding = target.iter().copied().filter(|node| !original.contains(node)).collect();
    // What an earlier move has added goes with the rest, and holds the records until then.
    let removing: Vec<NodeId> =
        old.replicas.iter().copied().filter(|node| !target.contains(node)).collect();
    let replicas = target.into_iter().chain(removing.iter().copied()).collect();
    PartitionImage { replicas, adding, removing, ..old.clone() }
}

/// The partition without the replicas that its move has added.
fn taken_back(min: usize, old: &PartitionImage) -> Result<PartitionImage, Refusal> {
    if !old.is_reassigning() {
        return Err(refuse(ErrorCode::NoReassignmentInProgress));
    }
    let is_added = |node: &NodeId| old.adding.contains(node);
    let isr: Vec<NodeId> = old.isr.iter().copied().filter(|node| !is_added(node)).collect();
    if isr.len() < min.min(old.isr.len()) {
        let why = "Too few of the former replicas are in sync.";
        return Err((ErrorCode::InvalidReplicaAssignment, why.to_owned()));
    }
    Ok(PartitionImage {
        replicas: old.original().collect(),
        isr,
        adding: Vec::new(),
        removing: Vec::new(),
        ..old.clone()
    })
}

/// `ListPartitionReassignments` (key 46).
pub fn list_reassignments(
    image: &MetadataImage,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let asked: Option<BTreeMap<&str, &[i32]>> = request.topics.as_ref().map(|topics| {
        topics.iter().map(|it| (it.name.as_str(), &it.partition_indexes[..])).collect()
    });
    let mut topics = Vec::new();
    for topic in image.topics() {
        let wanted = match &asked {
            None => None,
            Some(asked) => match asked.get(topic.name.as_str()) {
                Some(indexes) => Some(*indexes),
                None => continue,
            },
        };
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .zip(0..)
            .filter(|(it, index)| {
                it.is_reassigning() && wanted.is_none_or(|wanted| wanted.contains(index))
            })
            .map(|(it, partition_index)| OngoingPartitionReassignment {
                partition_index,
                replicas: numbers(&it.replicas),
                adding_replicas: numbers(&it.adding),
                removing_replicas: numbers(&it.removing),
            })
            .collect();
        if !partitions.is_empty() {
            topics.push(OngoingTopicReassignment { name: topic.name.as_str().into(), partitions });
        }
    }
    ListPartitionReassignmentsResponse {
        error_message: None,
        topics,
        ..ListPartitionReassignmentsResponse::default()
    }
}
