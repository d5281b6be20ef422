//! The checkers of a cluster: what its replicas, their leaders and the metadata quorum promise together.
//!
//! They take part where nodes are one cluster, and believe what nodes [report](crate::history::Fact::Reported)
//! of themselves, held against what ledgers and other nodes tell.

pub mod acked_copies;
pub mod copies;
pub mod epoch_matching;
pub mod leader_complete;
pub mod leaders_again;
pub mod metadata_leader;
pub mod metadata_quorum;
pub mod one_writer;
pub mod quorum_superset;
pub mod replica_commit;
pub mod replica_stored;
pub mod replicas_alike;
pub mod truncation;

mod ghost;

use super::Checker;

/// Returns all of them.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(replica_commit::ReplicaCommit::default()),
        Box::new(leader_complete::LeaderComplete::default()),
        Box::new(replica_stored::ReplicaStored::default()),
        Box::new(acked_copies::AckedCopies::default()),
        Box::new(epoch_matching::EpochMatching::default()),
        Box::new(one_writer::OneWriter::default()),
        Box::new(truncation::Truncation::default()),
        Box::new(quorum_superset::QuorumSuperset::default()),
        Box::new(metadata_quorum::MetadataQuorum::default()),
        Box::new(copies::Copies::default()),
        Box::new(leaders_again::LeadersAgain::default()),
        Box::new(metadata_leader::MetadataLeader::default()),
        Box::new(replicas_alike::ReplicasAlike::default()),
    ]
}

#[cfg(test)]
mod testing {
    use mainspring_core::ids::{LeaderEpoch, NodeId, Offset, TopicPartition};
    use mainspring_core::observe::ClusterEvent;

    pub(super) use super::super::testing::*;
    use crate::history::Fact;

    pub(super) const META: TopicPartition = TopicPartition::CLUSTER_METADATA;

    /// Three nodes, two copies at least.
    pub(super) fn cluster() -> Fact {
        Fact::Cluster { nodes: 3, min_in_sync: 2 }
    }

    pub(super) fn ids(nodes: &[usize]) -> Vec<NodeId> {
        nodes.iter().map(|node| NodeId(*node as i32 + 1)).collect()
    }

    pub(super) fn told(node: usize, event: ClusterEvent) -> Fact {
        Fact::Reported { node, event }
    }

    pub(super) fn opened_of(partition: TopicPartition, node: usize, end: i64) -> Fact {
        let (start, end) = (Offset(0), Offset(end));
        let opened =
            ClusterEvent::Opened { partition, log_start_offset: start, log_end_offset: end };
        told(node, opened)
    }

    pub(super) fn opened(node: usize, end: i64) -> Fact {
        opened_of(P, node, end)
    }

    /// A batch of one record.
    pub(super) fn appended_to(
        partition: TopicPartition,
        (node, as_leader): (usize, bool),
        base: i64,
        (epoch, crc): (i32, u32),
    ) -> Fact {
        told(
            node,
            ClusterEvent::Appended {
                partition,
                base_offset: Offset(base),
                end_offset: Offset(base + 1),
                leader_epoch: LeaderEpoch(epoch),
                crc,
                as_leader,
            },
        )
    }

    /// A follower took a batch of one record.
    pub(super) fn fetched(node: usize, base: i64, epoch: i32, crc: u32) -> Fact {
        appended_to(P, (node, false), base, (epoch, crc))
    }

    /// A leader took a batch of one record.
    pub(super) fn took(node: usize, base: i64, epoch: i32, crc: u32) -> Fact {
        appended_to(P, (node, true), base, (epoch, crc))
    }

    pub(super) fn flushed(node: usize, end: i64) -> Fact {
        Fact::Stored { node, partition: P, end, durable: true }
    }

    pub(super) fn high(node: usize, offset: i64) -> Fact {
        Fact::HighWatermark { node, partition: P, offset }
    }

    pub(super) fn cut(node: usize, end: i64) -> Fact {
        told(node, ClusterEvent::Truncated { partition: P, end: Offset(end) })
    }

    pub(super) fn led_of(partition: TopicPartition, node: usize, epoch: i32, end: i64) -> Fact {
        let (leader_epoch, end) = (LeaderEpoch(epoch), Offset(end));
        told(node, ClusterEvent::Led { partition, leader_epoch, end })
    }

    pub(super) fn led(node: usize, epoch: i32, end: i64) -> Fact {
        led_of(P, node, epoch, end)
    }

    pub(super) fn waits_for(node: usize, epoch: i32, members: &[usize]) -> Fact {
        let (leader_epoch, members) = (LeaderEpoch(epoch), ids(members));
        told(node, ClusterEvent::Quorum { partition: P, leader_epoch, members })
    }

    /// A decision with all three nodes as replicas, told by node 0.
    pub(super) fn decided(
        partition_epoch: i32,
        leader: Option<usize>,
        epoch: i32,
        isr: &[usize],
    ) -> Fact {
        decided_with(partition_epoch, leader, epoch, (&[0, 1, 2], isr))
    }

    pub(super) fn decided_with(
        partition_epoch: i32,
        leader: Option<usize>,
        epoch: i32,
        (replicas, isr): (&[usize], &[usize]),
    ) -> Fact {
        told(
            0,
            ClusterEvent::Decided {
                partition: P,
                partition_epoch,
                leader: leader.map(|node| NodeId(node as i32 + 1)),
                leader_epoch: LeaderEpoch(epoch),
                replicas: ids(replicas),
                isr: ids(isr),
            },
        )
    }

    /// Node 0 leads epoch 1 of the partition with all three in sync; two records are everywhere, flushed and
    /// committed.
    pub(super) fn healthy() -> Vec<Fact> {
        let mut facts = vec![cluster(), decided(1, Some(0), 1, &[0, 1, 2])];
        facts.extend((0..3).map(|node| opened(node, 0)));
        facts.extend([led(0, 1, 0), waits_for(0, 1, &[0, 1, 2])]);
        for base in 0..2 {
            facts.push(took(0, base, 1, 10 + base as u32));
            facts.extend([1, 2].map(|node| fetched(node, base, 1, 10 + base as u32)));
        }
        facts.extend((0..3).map(|node| flushed(node, 2)));
        facts.push(high(0, 2));
        facts
    }

    /// A healthy cluster, and what happens then.
    pub(super) fn then(facts: &[Fact]) -> Vec<Fact> {
        let mut all = healthy();
        all.extend_from_slice(facts);
        all
    }
}
