//! What the replicas of a cluster report of themselves, for the simulator's checkers and for traces.
//!
//! No decision reads any of it. A node alone reports nothing of this; one with
//! [peers](crate::config::NodeConfig::peers) reports each at the moment that is named with it, as
//! `Effect::Observe`, in the order in which it happens: what is told of a log first is true of it before what is
//! told next. The metadata log is a partition as any other here, [`TopicPartition::CLUSTER_METADATA`].
//!
//! Beside these every replica tells how far it knows its log to be committed, the metadata log among them, as
//! [`HighWatermark`](crate::io::Event::HighWatermark) and [`LogBounds`](crate::io::Event::LogBounds).

use crate::ids::{LeaderEpoch, NodeId, Offset, TopicPartition};

/// One thing that a replica, a leader or the controller reports.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// A replica's log was taken up: at a start once it is recovered, or when the replica is made. Everything
    /// that is told of it later begins with this.
    Opened {
        /// The partition.
        partition: TopicPartition,
        /// The first offset of the log.
        log_start_offset: Offset,
        /// The offset after its last record, durable or not.
        log_end_offset: Offset,
    },
    /// A replica put a batch at the end of its log, before it is durable.
    Appended {
        /// The partition.
        partition: TopicPartition,
        /// The offset of the batch's first record.
        base_offset: Offset,
        /// The offset after its last record.
        end_offset: Offset,
        /// The epoch that stands in the batch.
        leader_epoch: LeaderEpoch,
        /// The CRC that stands in the batch.
        crc: u32,
        /// Whether the replica leads and gave the offsets, rather than fetched them.
        as_leader: bool,
    },
    /// A replica cut its log, and from now on neither serves nor counts anything beyond.
    Truncated {
        /// The partition.
        partition: TopicPartition,
        /// The offset after the last record that is left.
        end: Offset,
    },
    /// A snapshot has taken the place of all of the metadata log: nothing of what was before is kept, and the log
    /// begins and ends at its end.
    SnapshotInstalled {
        /// The first offset that the snapshot does not hold.
        end: Offset,
    },
    /// The log of a replica that follows begins later from now on: durably, or where it begins anew, as far as
    /// that cut is durable.
    StartMoved {
        /// The partition.
        partition: TopicPartition,
        /// The first offset of the log.
        log_start_offset: Offset,
    },
    /// This node leads a partition from now on, and may append to it. For the metadata log: it has won the
    /// election of that epoch.
    Led {
        /// The partition.
        partition: TopicPartition,
        /// The epoch that it leads.
        leader_epoch: LeaderEpoch,
        /// The end of its log at this moment, before anything of this epoch.
        end: Offset,
    },
    /// This node follows a leader from now on.
    Followed {
        /// The partition.
        partition: TopicPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The leader.
        leader: NodeId,
    },
    /// This node led a partition until now, and leads it no more. Not told at the end of a process.
    Resigned {
        /// The partition.
        partition: TopicPartition,
        /// The epoch that it led.
        leader_epoch: LeaderEpoch,
    },
    /// A leader's maximal in-sync set: its high watermark rests on all of these from now on.
    Quorum {
        /// The partition.
        partition: TopicPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// Those it waits for, itself among them, in order.
        members: Vec<NodeId>,
    },
    /// A node applied a committed record about a partition: this is what holds in the cluster. Every node
    /// tells it of every partition, at its start for all that the image holds.
    Decided {
        /// The partition.
        partition: TopicPartition,
        /// Counts the decisions of the partition.
        partition_epoch: i32,
        /// Who leads, `None` where nobody may.
        leader: Option<NodeId>,
        /// The epoch of the leader.
        leader_epoch: LeaderEpoch,
        /// Those that hold copies, in the order of preference.
        replicas: Vec<NodeId>,
        /// The in-sync set, with fenced members.
        isr: Vec<NodeId>,
    },
    /// A vote is about to leave this node: an answer that grants it, or its own candidacy.
    Voted {
        /// The epoch of the vote.
        epoch: LeaderEpoch,
        /// For whom.
        candidate: NodeId,
    },
    /// Whether this node votes in the metadata quorum from now on, as its log says.
    Votes(bool),
    /// A node applied the committed metadata up to an offset. In simulations alone, because a digest walks
    /// the whole image.
    Applied {
        /// The offset after the last applied record.
        end: Offset,
        /// Digest of the metadata image.
        digest: u64,
    },
}
