//! Reading from the replica in the client's own rack (KIP-392).
//!
//! A leader names the replica instead of sending records, and it is asked from then on, until the leader's epoch
//! changes, it fails, or [`metadata_max_age`](super::super::network::NetworkConfig::metadata_max_age) has passed.
//! A replica that has failed is left alone for a while: meanwhile the leader is not told of the rack.

use std::time::Duration;

use crate::client::metadata::{Leader, Metadata};
use crate::ids::{LeaderEpoch, NodeId};
use crate::time::Instant;

/// How long the leader is asked for records once a replica near by has failed.
const LEADER_FOR: Duration = Duration::from_secs(10);

/// Which replica of a partition is asked.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Near {
    replica: Option<Replica>,
    /// Until when the leader alone is asked.
    leader_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Replica {
    node: NodeId,
    /// The epoch of the leader that named it.
    epoch: LeaderEpoch,
    until: Instant,
}

impl Near {
    /// Returns whom to ask.
    pub(super) fn node(&self, now: Instant, leader: Leader, metadata: &Metadata) -> NodeId {
        let is_current = |it: &&Replica| {
            it.epoch == leader.epoch && now < it.until && metadata.brokers().contains_key(&it.node)
        };
        self.replica.as_ref().filter(is_current).map_or(leader.node, |it| it.node)
    }

    /// Returns whether the leader may name a replica.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.leader_until.is_none_or(|until| until <= now)
    }

    /// Takes in that a leader has named a replica, to be asked for so long.
    pub(super) fn named(&mut self, now: Instant, node: NodeId, epoch: LeaderEpoch, time: Duration) {
        self.replica = Some(Replica { node, epoch, until: now + time });
    }

    /// Takes in that a leader has named a replica that nobody knows: it is to send records itself for a while.
    pub(super) fn is_unknown(&mut self, now: Instant) {
        (self.replica, self.leader_until) = (None, Some(now + LEADER_FOR));
    }

    /// Returns whether a node is the replica that a leader has named.
    pub(super) fn is_at(&self, node: NodeId) -> bool {
        self.replica.is_some_and(|it| it.node == node)
    }

    /// Takes in that a node could not serve. Returns whether that was the replica, and not the leader.
    pub(super) fn failed(&mut self, now: Instant, node: NodeId) -> bool {
        let was_asked = self.is_at(node);
        if was_asked {
            (self.replica, self.leader_until) = (None, Some(now + LEADER_FOR));
        }
        was_asked
    }
}
