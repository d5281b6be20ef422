//! `AlterPartition`: a leader asks for another in-sync set, and the controller alone decides it.
//!
//! The request names the leader epoch, the partition epoch and the registrations of the members, so that
//! nothing is decided on what is out of date. A set never shrinks below MIN here: members that the leader
//! leaves out stay in as far as that needs them, and the answer has the set that is in force. Sources:
//! KIP-497, 841, 903, 966.

use std::collections::BTreeSet;

use crate::error::ErrorCode;
use crate::ids::{NodeId, PartitionIndex, TopicPartition};
use crate::metadata::decide::Decision;
use crate::metadata::decide_brokers::check_broker_epoch;
use crate::metadata::draft::{change_record, find};
use crate::metadata::elections::settle;
use crate::metadata::image::{MetadataImage, PartitionImage, TopicImage, numbers};
use crate::wire::api::alter_partition::{
    AlterPartitionPartition, AlterPartitionPartitionResponse, AlterPartitionRequest,
    AlterPartitionResponse, AlterPartitionTopicResponse, BrokerState,
};
use crate::wire::metadata_record::PartitionChangeRecord;

/// `AlterPartition` (key 56), in this version.
pub fn alter_partition(
    image: &MetadataImage,
    request: &AlterPartitionRequest,
    version: i16,
) -> Decision<AlterPartitionResponse> {
    let mut records = Vec::new();
    let mut response = AlterPartitionResponse::default();
    let asker = NodeId(request.broker_id);
    if let Err(code) = check_broker_epoch(image, asker, request.broker_epoch) {
        response.error_code = code.code();
        return Decision { records, response };
    }
    let mut seen = BTreeSet::new();
    for topic in &request.topics {
        let mut answered =
            AlterPartitionTopicResponse { topic_id: topic.topic_id, partitions: Vec::new() };
        for asked in &topic.partitions {
            let partition = PartitionIndex(asked.partition_index);
            let id = TopicPartition { topic_id: topic.topic_id, partition };
            // The second of two changes would be decided on what is out of date.
            let outcome = if seen.insert(id) {
                alter(image, asker, id, asked, version)
            } else {
                Err(ErrorCode::InvalidRequest)
            };
            let partition_index = asked.partition_index;
            let failed = |code: ErrorCode| AlterPartitionPartitionResponse {
                partition_index,
                error_code: code.code(),
                ..AlterPartitionPartitionResponse::default()
            };
            answered.partitions.push(match outcome {
                Ok((record, new)) => {
                    records.extend(record.map(Into::into));
                    if new.leader == asker {
                        AlterPartitionPartitionResponse {
                            partition_index,
                            error_code: ErrorCode::None.code(),
                            leader_id: new.leader.0,
                            leader_epoch: new.leader_epoch.0,
                            isr: numbers(&new.isr),
                            leader_recovery_state: 0,
                            partition_epoch: new.partition_epoch,
                        }
                    } else {
                        failed(ErrorCode::NewLeaderElected)
                    }
                }
                Err(code) => failed(code),
            });
        }
        response.topics.push(answered);
    }
    Decision { records, response }
}

fn alter(
    image: &MetadataImage,
    asker: NodeId,
    id: TopicPartition,
    asked: &AlterPartitionPartition,
    version: i16,
) -> Result<(Option<PartitionChangeRecord>, PartitionImage), ErrorCode> {
    let topic = image.topic(id.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    let (_, old) = find(image, id).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    // Who knows later epochs than the controller has heard of a later controller.
    if asked.leader_epoch > old.leader_epoch.0 || asked.partition_epoch > old.partition_epoch {
        return Err(ErrorCode::NotController);
    }
    if asked.leader_epoch < old.leader_epoch.0 {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if asker != old.leader {
        return Err(ErrorCode::InvalidRequest);
    }
    if asked.partition_epoch < old.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    let members: Vec<BrokerState> = if version >= 3 {
        asked.new_isr_with_epochs.clone()
    } else {
        asked.new_isr.iter().map(|&broker_id| BrokerState { broker_id, broker_epoch: -1 }).collect()
    };
    let wanted: Vec<NodeId> = members.iter().map(|member| NodeId(member.broker_id)).collect();
    let distinct: BTreeSet<NodeId> = wanted.iter().copied().collect();
    let is_set_of_replicas = distinct.len() == wanted.len()
        && distinct.iter().all(|node| old.replicas.contains(node))
        && distinct.contains(&asker);
    if !is_set_of_replicas || asked.leader_recovery_state != 0 {
        return Err(ErrorCode::InvalidRequest);
    }
    for member in &members {
        let node = NodeId(member.broker_id);
        if !old.isr.contains(&node) && !is_eligible(image, node, member.broker_epoch) {
            return Err(ErrorCode::IneligibleReplica);
        }
    }
    let mut new = PartitionImage { isr: wanted, ..old.clone() };
    keep_to_min(image, topic, old, &mut new);
    settle(image, topic, &mut new);
    let record = change_record(id, old, &new);
    if let Some(record) = &record {
        new.partition_epoch += 1;
        new.leader_epoch.0 += i32::from(record.leader != PartitionChangeRecord::default().leader);
    }
    Ok((record, new))
}

/// Returns whether a replica may join: what an older registration had may be gone.
fn is_eligible(image: &MetadataImage, node: NodeId, broker_epoch: i64) -> bool {
    image.broker(node).is_some_and(|broker| {
        broker.is_active() && (broker_epoch == -1 || broker_epoch == broker.broker_epoch)
    })
}

/// Puts members back that were left out, as far as MIN needs them: active ones first, in their order.
fn keep_to_min(
    image: &MetadataImage,
    topic: &TopicImage,
    old: &PartitionImage,
    new: &mut PartitionImage,
) {
    let least = image.min_isr(topic, old).min(old.isr.len());
    let is_active = |&&node: &&NodeId| image.is_active(node);
    let (active, others): (Vec<&NodeId>, Vec<&NodeId>) = old.isr.iter().partition(is_active);
    for &node in active.into_iter().chain(others) {
        if new.isr.len() >= least {
            break;
        }
        if !new.isr.contains(&node) {
            new.isr.push(node);
        }
    }
}
