//! Who leads a partition and who counts as in sync, as it follows from the brokers.
//!
//! A leader is an active member of the in-sync set, in the order of the replicas; without one the partition
//! has none. A member that is not active is removed while at least MIN remain; the others stay, so that the
//! set never shrinks below MIN (what Kafka keeps apart as eligible leader replicas, KIP-966, are the members
//! that are fenced). Sources: KIP-183, 460, 966; KIP-455 for the end of a move.

use crate::error::ErrorCode;
use crate::ids::{NodeId, TopicPartition};
use crate::metadata::decide::{Decision, Refusal, refuse};
use crate::metadata::draft::{Draft, change_record, find, find_by_name, partitions};
use crate::metadata::image::{MetadataImage, PartitionImage, TopicImage, numbers};
use crate::wire::KafkaString;
use crate::wire::api::elect_leaders::{
    ElectLeadersPartitionResult, ElectLeadersRequest, ElectLeadersResponse, ElectLeadersTopicResult,
};
use crate::wire::metadata_record::{PartitionChangeRecord, UncleanElectionRecord};

/// The leader of a partition that has none.
pub const NO_LEADER: NodeId = NodeId(-1);

/// Kinds of `ElectLeaders`.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Brings a partition to what follows from its in-sync set: ends a move whose targets are all active and in sync,
/// drops members that are not active, and chooses a leader.
pub(in crate::metadata) fn settle(
    image: &MetadataImage,
    topic: &TopicImage,
    partition: &mut PartitionImage,
) {
    let is_there = |node: NodeId| image.is_active(node) && partition.isr.contains(&node);
    if partition.is_reassigning() && partition.target().all(is_there) {
        partition.replicas = partition.target().collect();
        partition.isr.retain(|node| partition.replicas.contains(node));
        partition.adding.clear();
        partition.removing.clear();
    }
    let min = image.min_isr(topic, partition);
    for &node in partition.replicas.iter().rev() {
        if partition.isr.len() <= min {
            break;
        }
        if !image.is_active(node) {
            partition.isr.retain(|&member| member != node);
        }
    }
    let may_lead = |node: NodeId| image.is_active(node) && partition.isr.contains(&node);
    if !(may_lead(partition.leader) && partition.replicas.contains(&partition.leader)) {
        let next = partition.replicas.iter().copied().find(|&node| may_lead(node));
        partition.leader = next.unwrap_or(NO_LEADER);
    }
}

/// Gives partitions back to their preferred leaders, the first of their replicas, where those may lead; at
/// most `max` of them.
pub fn balance_leaders(image: &MetadataImage, max: usize) -> Decision<usize> {
    let is_elsewhere = |partition: &PartitionImage| {
        !partition.is_reassigning() && preferred_election(image, partition).is_ok()
    };
    let records: Vec<_> = partitions(image, is_elsewhere)
        .into_iter()
        .take(max)
        .filter_map(|id| {
            let (_, old) = find(image, id)?;
            let leader = preferred_election(image, old).ok()?;
            change_record(id, old, &PartitionImage { leader, ..old.clone() })
        })
        .map(Into::into)
        .collect();
    let response = records.len();
    Decision { records, response }
}

/// `ElectLeaders` (key 43). An unclean election takes any active replica, if the partition has no leader and
/// no member of its in-sync set can lead; it is on record as one.
pub fn elect_leaders(
    image: &MetadataImage,
    request: &ElectLeadersRequest,
) -> Decision<ElectLeadersResponse> {
    let mut draft = Draft::new(image);
    let mut response = ElectLeadersResponse::default();
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        response.error_code = ErrorCode::InvalidRequest.code();
        return Decision { records: Vec::new(), response };
    }
    let asked: Vec<(KafkaString, Vec<i32>)> = match &request.topic_partitions {
        Some(topics) => {
            topics.iter().map(|asked| (asked.topic.clone(), asked.partitions.clone())).collect()
        }
        None => image
            .topics()
            .map(|it| (it.name.as_str().into(), (0..it.partitions.len() as i32).collect()))
            .collect(),
    };
    for (topic, indexes) in asked {
        let mut results = Vec::new();
        for index in indexes {
            let outcome = elect(&mut draft, topic.as_str(), index, request.election_type);
            let (code, error_message) = match outcome {
                Ok(()) => (ErrorCode::None, None),
                // Of all partitions only those are told of that could have had an election.
                Err((ErrorCode::ElectionNotNeeded, _)) if request.topic_partitions.is_none() => {
                    continue;
                }
                Err((code, why)) => (code, Some(why.into())),
            };
            results.push(ElectLeadersPartitionResult {
                partition_id: index,
                error_code: code.code(),
                error_message,
            });
        }
        if !results.is_empty() {
            response
                .replica_election_results
                .push(ElectLeadersTopicResult { topic, partition_result: results });
        }
    }
    Decision { records: draft.into_records(), response }
}

fn elect(draft: &mut Draft, topic: &str, index: i32, kind: i8) -> Result<(), Refusal> {
    let image = draft.image();
    let (id, _, old) = find_by_name(image, topic, index)
        .ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition))?;
    if kind == PREFERRED {
        let leader = preferred_election(image, old)?;
        if let Some(record) = change_record(id, old, &PartitionImage { leader, ..old.clone() }) {
            draft.push(record);
        }
        return Ok(());
    }
    let mut records = unclean_election(image, id, old)?;
    draft.push(records.0);
    if let Some(unclean) = records.1.take() {
        draft.push(unclean);
    }
    Ok(())
}

/// Returns the preferred leader where it may and does not lead.
fn preferred_election(
    image: &MetadataImage,
    partition: &PartitionImage,
) -> Result<NodeId, Refusal> {
    let preferred = partition.replicas.first().copied().unwrap_or(NO_LEADER);
    if partition.leader == preferred {
        return Err(refuse(ErrorCode::ElectionNotNeeded));
    }
    if image.is_active(preferred) && partition.isr.contains(&preferred) {
        Ok(preferred)
    } else {
        Err(refuse(ErrorCode::PreferredLeaderNotAvailable))
    }
}

/// Returns the change that gives a partition without a leader one, and the entry of the ledger where it may
/// cost records.
fn unclean_election(
    image: &MetadataImage,
    id: TopicPartition,
    old: &PartitionImage,
) -> Result<(PartitionChangeRecord, Option<UncleanElectionRecord>), Refusal> {
    if old.leader != NO_LEADER {
        return Err(refuse(ErrorCode::ElectionNotNeeded));
    }
    let mut active = old.replicas.iter().copied().filter(|&node| image.is_active(node));
    let clean = active.clone().find(|node| old.isr.contains(node));
    let leader = clean
        .or_else(|| active.next())
        .ok_or_else(|| refuse(ErrorCode::EligibleLeadersNotAvailable))?;
    let mut new = PartitionImage { leader, ..old.clone() };
    if clean.is_none() {
        new.isr = vec![leader];
    }
    let change = PartitionChangeRecord {
        partition_id: id.partition.0,
        topic_id: id.topic_id,
        leader: leader.0,
        isr: (new.isr != old.isr).then(|| numbers(&new.isr)),
        ..PartitionChangeRecord::default()
    };
    let ledger = clean.is_none().then(|| UncleanElectionRecord {
        topic_id: id.topic_id,
        partition_id: id.partition.0,
        leader: leader.0,
        leader_epoch: old.leader_epoch.0 + 1,
        ..UncleanElectionRecord::default()
    });
    Ok((change, ledger))
}
