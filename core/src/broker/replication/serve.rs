//! The leader's side: what followers have durable, and fetches of theirs that are overtaken.

use std::collections::BTreeMap;

use crate::broker::pending::{FetchStage, Pending, RequestContext};
use crate::broker::post::Post;
use crate::broker::shard::Shard;
use crate::connection::RequestId;
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, ShardId, TopicPartition};
use crate::io::{Effect, Event};
use crate::partition::FollowerId;
use crate::time::Now;
use crate::wire::api::replica_ack::ReplicaAckRequest;

/// A partition, the leader epoch that a follower follows, and what it has durable.
type Ack = (TopicPartition, LeaderEpoch, Offset);

impl Shard {
    /// `ReplicaAck` (key 31001): a follower says what it has durable.
    pub(in crate::broker) fn on_replica_ack(
        &mut self,
        now: Now,
        ctx: &RequestContext,
        request: &ReplicaAckRequest,
    ) {
        self.send(ctx.id, None);
        let Some(peer) = self.peer_of(ctx.id.connection) else { return };
        if self.is_stale(peer.node, request.broker_epoch) {
            return;
        }
        let follower = FollowerId { node: peer.node, broker_epoch: request.broker_epoch };
        let mut by_owner: BTreeMap<ShardId, Vec<Ack>> = BTreeMap::new();
        for topic in &request.topics {
            for item in &topic.partitions {
                let partition = PartitionIndex(item.partition);
                let id = TopicPartition { topic_id: topic.topic_id, partition };
                let ack = (id, LeaderEpoch(item.leader_epoch), Offset(item.stable_offset));
                by_owner.entry(self.owner(id)).or_default().push(ack);
            }
        }
        for (shard, items) in by_owner {
            if shard == self.config.shard {
                self.take_acks(now, follower, &items);
            } else {
                self.post(shard, Post::ReplicaAck { follower, items });
            }
        }
    }

    /// Returns whether a node speaks with another registration than the one in force (KIP-903).
    pub(in crate::broker) fn is_stale(&self, node: NodeId, broker_epoch: i64) -> bool {
        self.image.broker(node).is_none_or(|broker| broker.broker_epoch != broker_epoch)
    }

    pub(in crate::broker) fn take_acks(&mut self, now: Now, follower: FollowerId, items: &[Ack]) {
        for &(id, leader_epoch, stable) in items {
            let Self { partitions, log, replication, .. } = self;
            let Some(partition) = partitions.get_mut(&id) else { continue };
            let moved = partition.acknowledged(now, follower, leader_epoch, stable, log);
            replication.in_sync_due.insert(id);
            self.after_progress(now, id, moved);
        }
    }

    /// Tells everybody who waits at a partition what has become of its high watermark.
    pub(in crate::broker) fn after_progress(&mut self, now: Now, id: TopicPartition, moved: bool) {
        let Some(partition) = self.partitions.get(&id) else { return };
        if moved {
            let offset = partition.high_watermark();
            self.fx.push(Effect::Observe(Event::HighWatermark { partition: id, offset }));
            self.tell_pin(id);
        }
        let is_mute = self.refused_by_lease(now, id).is_some();
        while !is_mute
            && let Some((waiter, produced)) = self
                .partitions
                .get_mut(&id)
                .and_then(|partition| partition.take_committed(&self.log))
        {
            let answer = crate::broker::post::Answer::Produced(Ok(produced));
            self.answer_waiter(now, waiter, answer);
        }
        if let Some(partition) = self.partitions.get_mut(&id) {
            if moved {
                partition.settle(&mut self.log);
            }
            let high_watermark = partition.high_watermark();
            self.coordinator_committed(now, id, high_watermark);
            self.transactions_committed(now, id, high_watermark);
        }
        self.schedule_committed(now, id);
        self.wake_fetches(now, id);
    }

    /// A follower that asks again on the same connection wants an answer to what it asked before, whatever
    /// there is: it follows more now, or otherwise.
    pub(in crate::broker) fn answer_overtaken(&mut self, now: Now, ctx: &RequestContext) {
        let parked: Vec<RequestId> = self
            .pending
            .range(RequestId::all_of(ctx.id.connection))
            .filter(|(_, pending)| {
                matches!(pending, Pending::Fetch(fetch) if fetch.stage == FetchStage::Parked)
            })
            .map(|(&id, _)| id)
            .collect();
        for id in parked {
            self.read_fetch(now, id);
        }
    }
}
