//! Clients that read from the replica in their own rack (KIP-392).

use crate::broker::post::Answer;
use crate::broker::shard::Shard;
use crate::ids::{ListenerIndex, NodeId, TopicPartition};
use crate::metadata::PartitionImage;
use crate::partition::Waiter;
use crate::time::Now;

impl Shard {
    /// Returns the replica that a client in a rack had better ask, where it is not this node: an unfenced one in
    /// sync, in the order of the replicas, so that not all partitions fall to one.
    pub(in crate::broker) fn near_replica(
        &self,
        partition: &PartitionImage,
        rack: &str,
        listener: ListenerIndex,
    ) -> Option<NodeId> {
        let me = self.config.node.node_id;
        let is_near = |node: NodeId| {
            let broker = self.image.broker(node);
            broker.is_some_and(|it| it.rack.as_deref() == Some(rack) && !it.fenced)
        };
        // Who is told of a node must have been told where it is.
        let is_known = |node: NodeId| self.address(node, listener).is_some();
        if partition.leader != me || is_near(me) {
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
        let mut told = Vec::new();
        let mut fetches = std::mem::take(&mut follower.fetches);
        for ((shard, request), item) in fetches.iter_mut() {
            let readable = follower.readable(item, log);
            if readable != Ok(item.known_readable) {
                item.known_readable = readable.unwrap_or(0);
                let waiter = Waiter { shard, request, index: item.index };
                told.push((waiter, Answer::Readable(readable)));
            }
        }
        follower.fetches = fetches;
        for (waiter, answer) in told {
            self.answer_waiter(now, waiter, answer);
        }
    }
}
