//! Clients that read from the replica in their own rack (KIP-392).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::pending::RequestContext;
use crate::broker::post::Answer;
use crate::broker::shard::Shard;
use crate::ids::{ConnectionId, NodeId, Offset, TopicPartition};
use crate::metadata::PartitionImage;
use crate::time::{Instant, Now};

/// How long who comes back with the offset with which it was sent away is served here.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Most places that are remembered. With more of them in that time all are forgotten: who comes back then is sent
/// away once more.
const PLACES_MAX: usize = 10_000;

/// Where clients were sent away to the replica near by: who comes back with the same offset did not get it there.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct SentAway(BTreeMap<(ConnectionId, TopicPartition), (Offset, Instant)>);

impl SentAway {
    /// Notes that a client was sent away.
    pub(in crate::broker) fn note(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        place: (TopicPartition, Offset),
    ) {
        let (partition, offset) = place;
        if self.0.len() >= PLACES_MAX {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() >= PLACES_MAX {
            self.0.clear();
        }
        self.0.insert((connection, partition), (offset, now + BACK_WITHIN));
    }

    /// Returns whether a client was sent away with that offset a short while ago.
    fn knows(
        &self,
        now: Instant,
        connection: ConnectionId,
        (partition, offset): (TopicPartition, Offset),
    ) -> bool {
        let known = self.0.get(&(connection, partition));
        known.is_some_and(|&(before, until)| before == offset && now < until)
    }

    /// Forgets a connection.
    pub(in crate::broker) fn forget(&mut self, connection: ConnectionId) {
        self.0.retain(|(of, _), _| *of != connection);
    }
}

impl Shard {
    /// Returns the replica that a client in a rack had better ask, where it is not this node: an unfenced one in
    /// sync, in the order of the replicas, so that not all partitions fall to one.
    pub(in crate::broker) fn near_replica(
        &self,
        now: Now,
        ctx: &RequestContext,
        (partition, place): (&PartitionImage, (TopicPartition, Offset)),
        rack: &str,
    ) -> Option<NodeId> {
        let me = self.config.node.node_id;
        let is_near = |node: NodeId| {
            let broker = self.image.broker(node);
            broker.is_some_and(|it| it.rack.as_deref() == Some(rack) && !it.fenced)
        };
        // Who is told of a node must have been told where it is.
        let is_known = |node: NodeId| self.address(node, ctx.listener).is_some();
        if partition.leader != me
            || is_near(me)
            || self.replication.sent_away.knows(now.mono, ctx.id.connection, place)
        {
            return None;
        }
        let mut replicas = partition.replicas.iter().copied();
        replicas.find(|&node| partition.isr.contains(&node) && is_near(node) && is_known(node))
    }

    /// Tells the clients that wait at a partition that follows what has become readable.
    pub(in crate::broker) fn wake_near(&mut self, now: Now, id: TopicPartition) {
        let Self { followers, log, .. } = self;
        let Some(follower) = followers.get_mut(&id) else { return };
        if follower.fetches.is_empty() {
            return;
        }
        let mut fetches = std::mem::take(&mut follower.fetches);
        let news = fetches.news(|item| follower.readable(item, log));
        follower.fetches = fetches;
        for (waiter, readable) in news {
            self.answer_waiter(now, waiter, Answer::Readable(readable));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PartitionIndex, TopicId};

    #[test]
    fn who_comes_back_with_the_same_offset_is_served_for_a_while() {
        let partition = TopicPartition { topic_id: TopicId::ZERO, partition: PartitionIndex(0) };
        let (one, other) = (ConnectionId(1), ConnectionId(2));
        let mut sent = SentAway::default();
        let later = |seconds| Instant::ZERO + Duration::from_secs(seconds);

        sent.note(Instant::ZERO, one, (partition, Offset(7)));

        assert!(sent.knows(later(9), one, (partition, Offset(7))));
        assert!(!sent.knows(later(11), one, (partition, Offset(7))));
        assert!(!sent.knows(later(9), one, (partition, Offset(8))), "it got something");
        assert!(!sent.knows(later(9), other, (partition, Offset(7))));
        sent.forget(one);
        assert!(!sent.knows(later(9), one, (partition, Offset(7))));
    }

    #[test]
    fn whoever_names_many_places_takes_no_more_memory() {
        let mut sent = SentAway::default();
        for number in 0..3 * PLACES_MAX as i32 {
            let partition = PartitionIndex(number);
            let partition = TopicPartition { topic_id: TopicId::ZERO, partition };
            sent.note(Instant::ZERO, ConnectionId(1), (partition, Offset(0)));
        }
        assert!(sent.0.len() <= PLACES_MAX);
    }
}
