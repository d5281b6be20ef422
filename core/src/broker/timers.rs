//! Everything that waits for a time, in one ordered set.

use std::collections::BTreeSet;

use crate::connection::RequestId;
use crate::ids::{ConnectionId, TopicPartition};
use crate::time::Instant;

/// Who waits for a time, and why.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// The logs: write-behind, retention, retries.
    Log,
    /// A request that waits for something: its answer must leave then.
    Request(RequestId),
    /// A connection that may have been idle for too long.
    Idle(ConnectionId),
    /// A connection whose unfinished frame may be too slow.
    PartialFrame(ConnectionId),
    /// A coordinator: members that may be gone, rounds that end, offsets that grow old, or the next
    /// piece of its log.
    Coordinator(TopicPartition),
    /// A partition with features: what is due next, or the next piece of its log.
    Schedule(TopicPartition),
    /// Metrics want to know how much waits at a partition.
    ScheduleReport(TopicPartition),
    /// Metrics want to know in which states a coordinator's groups are.
    GroupReport(TopicPartition),
    /// A stopping shard: what it still owes will not come.
    Stop,
    /// The metadata quorum: elections, silence, fetches that are held back.
    Quorum,
    /// Brokers whose sessions run out.
    Controller,
    /// Fetches of followers that are tried again, and in-sync sets that are looked at.
    Replication,
    /// What is to be told to the controller.
    Membership,
    /// The links to other nodes: what is to be made again, and what is late.
    Peers,
}

/// The armed timers of a shard, those of its logs excepted.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Timers {
    armed: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub(in crate::broker) fn arm(&mut self, at: Instant, timer: Timer) {
        self.armed.insert((at, timer));
    }

    pub(in crate::broker) fn disarm(&mut self, at: Instant, timer: Timer) {
        self.armed.remove(&(at, timer));
    }

    pub(in crate::broker) fn first(&self) -> Option<(Instant, Timer)> {
        self.armed.first().copied()
    }

    /// Takes the oldest timer that is due.
    pub(in crate::broker) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.armed.first()?;
        if at > now {
            return None;
        }
        self.armed.pop_first();
        Some(timer)
    }
}
