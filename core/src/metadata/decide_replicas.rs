//! Which nodes hold the partitions that a request makes: chosen here, or named by the request.
//!
//! Sources: KIP-4, 195; error codes as Apache Kafka's controller answers them.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ErrorCode;
use crate::ids::{NodeId, TopicId};
use crate::metadata::decide::{Deciding, Refusal};
use crate::metadata::elections::NO_LEADER;
use crate::metadata::placement::place;
use crate::wire::MetadataRecord;
use crate::wire::api::create_topics::CreatableTopic;
use crate::wire::metadata_record::PartitionRecord;

/// Most replicas of a topic whose creation names no number.
pub const DEFAULT_REPLICATION_MAX: usize = 3;

impl Deciding<'_> {
    /// Returns the replicas of each partition that the request asks for.
    pub(in crate::metadata) fn assignment(
        &self,
        topic: &CreatableTopic,
        pending: usize,
    ) -> Result<Vec<Vec<NodeId>>, Refusal> {
        if topic.assignments.is_empty() {
            let count = match topic.num_partitions {
                -1 => self.node.settings.number("num.partitions").unwrap_or(1) as i32,
                count => count,
            };
            self.check_partition_count(count)?;
            return self.placed(count as usize, topic.replication_factor, pending);
        }
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            let why = "Beside an assignment, partitions and replication factor must be -1.";
            return Err((ErrorCode::InvalidRequest, why.to_owned()));
        }
        let mut by_index = BTreeMap::new();
        for entry in &topic.assignments {
            let replicas = self.checked_replicas(&entry.broker_ids)?;
            if by_index.insert(entry.partition_index, replicas).is_some() {
                let why = format!("Partition {} is assigned twice.", entry.partition_index);
                return Err((ErrorCode::InvalidReplicaAssignment, why));
            }
        }
        self.check_partition_count(by_index.len() as i32)?;
        if !by_index.keys().copied().eq(0..by_index.len() as i32) {
            let why = "Partitions of an assignment must run from 0 without a gap.";
            return Err((ErrorCode::InvalidReplicaAssignment, why.to_owned()));
        }
        let factor = by_index.values().next().map_or(0, Vec::len);
        if by_index.values().any(|replicas| replicas.len() != factor) {
            let why = "All partitions must have the same number of replicas.";
            return Err((ErrorCode::InvalidReplicaAssignment, why.to_owned()));
        }
        Ok(by_index.into_values().collect())
    }

    pub(in crate::metadata) fn check_partition_count(&self, count: i32) -> Result<(), Refusal> {
        if count < 1 {
            let why = "The number of partitions must be at least 1.";
            return Err((ErrorCode::InvalidPartitions, why.to_owned()));
        }
        let most = self.node.limits.partitions_per_topic_max;
        if count > most {
            let why = format!("A topic has at most {most} partitions here.");
            return Err((ErrorCode::InvalidPartitions, why));
        }
        Ok(())
    }

    /// Places partitions on the active brokers; -1 stands for as many replicas as there are voters, three
    /// at most. `pending` partitions come before them in the same batch.
    pub(in crate::metadata) fn placed(
        &self,
        count: usize,
        factor: i16,
        pending: usize,
    ) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let factor = match factor {
            -1 => self.voters.clamp(1, DEFAULT_REPLICATION_MAX),
            factor if factor < 1 => {
                let why = "The replication factor must be at least 1.";
                return Err((ErrorCode::InvalidReplicationFactor, why.to_owned()));
            }
            factor => factor as usize,
        };
        let start = self.image.partition_count() + pending;
        place(self.image, count, factor, start).ok_or_else(|| {
            let active = self.image.brokers().filter(|(_, broker)| broker.is_active()).count();
            let why = format!(
                "Unable to replicate the partition {factor} time(s): only {active} broker(s) are registered."
            );
            (ErrorCode::InvalidReplicationFactor, why)
        })
    }

    pub(in crate::metadata) fn checked_replicas(
        &self,
        ids: &[i32],
    ) -> Result<Vec<NodeId>, Refusal> {
        let mut seen = BTreeSet::new();
        for &id in ids {
            if !seen.insert(id) {
                let why = format!("Broker {id} is assigned twice.");
                return Err((ErrorCode::InvalidReplicaAssignment, why));
            }
            if self.image.broker(NodeId(id)).is_none() {
                let why = format!("Broker {id} is not registered.");
                return Err((ErrorCode::InvalidReplicaAssignment, why));
            }
        }
        if ids.is_empty() {
            let why = "A partition needs a replica.";
            return Err((ErrorCode::InvalidReplicaAssignment, why.to_owned()));
        }
        if !ids.iter().any(|&id| self.image.is_active(NodeId(id))) {
            let why = "All brokers of the assignment are fenced or about to stop.";
            return Err((ErrorCode::InvalidReplicaAssignment, why.to_owned()));
        }
        Ok(ids.iter().copied().map(NodeId).collect())
    }

    pub(in crate::metadata) fn partition_record(
        &self,
        topic_id: TopicId,
        index: i32,
        replicas: &[NodeId],
    ) -> MetadataRecord {
        // A fenced replica of an explicit assignment joins when it can.
        let isr: Vec<i32> =
            replicas.iter().filter(|&&node| self.image.is_active(node)).map(|it| it.0).collect();
        let directory = |&node: &NodeId| {
            let broker = self.image.broker(node);
            broker.and_then(|it| it.directories.first()).copied().unwrap_or(self.directory_id)
        };
        PartitionRecord {
            partition_id: index,
            topic_id,
            leader: isr.first().copied().unwrap_or(NO_LEADER.0),
            leader_epoch: 0,
            partition_epoch: 0,
            directories: replicas.iter().map(directory).collect(),
            isr,
            replicas: replicas.iter().map(|node| node.0).collect(),
            ..PartitionRecord::default()
        }
        .into()
    }
}
