//! Which role each partition of the shard has, by the committed metadata.

use std::collections::BTreeSet;

use crate::broker::post::{Answer, FetchRefusal};
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::ids::{NodeId, Offset, TopicPartition};
use crate::metadata::image::InternalTopic;
use crate::metadata::{PartitionImage, TopicImage};
use crate::observe::ClusterEvent;
use crate::partition::delayed_fetch::DelayedFetches;
use crate::partition::{Follower, InSync, Partition, Waiter};
use crate::time::Now;

impl Shard {
    /// Gives a partition that belongs to this shard the role that the image has for it.
    pub(in crate::broker) fn take_up(&mut self, now: Now, id: TopicPartition) {
        if self.owner(id) != self.config.shard {
            return;
        }
        let Some(topic) = self.image.topic(id.topic_id).cloned() else { return };
        let Some(state) = topic.partition(id.partition) else { return };
        let me = self.config.node.node_id;
        self.tell_decided(id, state);
        if state.leader == me {
            self.lead(now, id, &topic, state);
        } else if state.replicas.contains(&me) {
            self.follow(now, id, &topic, state);
        } else {
            self.resign(now, id, ErrorCode::NotLeaderOrFollower);
            if self.stop_following(now, id, ErrorCode::NotLeaderOrFollower).is_some() {
                self.log.delete(now, id, &mut self.fx);
            }
        }
    }

    fn open_log(&mut self, now: Now, id: TopicPartition, topic: &TopicImage) {
        let config = self.topic_config(topic);
        if self.log.log_end_offset(id).is_none() {
            self.log.create(now, id, &topic.name, config.log, &mut self.fx);
        } else {
            self.log.configure(id, config.log);
        }
        self.tell_opened(id);
    }

    /// Tells checkers that a log was taken up.
    pub(in crate::broker) fn tell_opened(&mut self, id: TopicPartition) {
        if self.is_alone() {
            return;
        }
        let (start, end) = (self.log.log_start_offset(id), self.log.log_end_offset(id));
        self.fx.cluster(ClusterEvent::Opened {
            partition: id,
            log_start_offset: start.unwrap_or(Offset::ZERO),
            log_end_offset: end.unwrap_or(Offset::ZERO),
        });
    }

    fn lead(&mut self, now: Now, id: TopicPartition, topic: &TopicImage, state: &PartitionImage) {
        let epoch = state.leader_epoch;
        let fenced = self.fenced_replicas(state);
        if let Some(partition) = self.partitions.get_mut(&id) {
            if partition.leader_epoch() == epoch {
                partition.in_sync_mut().update(now.mono, state, fenced);
                self.after_in_sync_changed(now, id);
                return;
            }
            let in_sync = self.begin_epoch(now, id, state, fenced);
            self.refuse_lists(now, id, ErrorCode::NotLeaderOrFollower);
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.raise_epoch(epoch, in_sync);
            }
            self.after_in_sync_changed(now, id);
            self.load_schedule(now, id);
            return;
        }
        let config = self.topic_config(topic);
        let followed = self.stop_following(now, id, ErrorCode::NotLeaderOrFollower);
        let known = followed.map(|follower| follower.high_watermark());
        if known.is_none() {
            self.open_log(now, id, topic);
        }
        let in_sync = self.begin_epoch(now, id, state, fenced);
        let mut partition = Partition::new(id, config, epoch, in_sync, known, &self.log);
        // Retention takes nothing beyond what is stable.
        partition.settle(&mut self.log);
        self.partitions.insert(id, partition);
        self.tell_bounds(id);
        self.after_in_sync_changed(now, id);
        match InternalTopic::of(topic.name.as_str()) {
            Some(InternalTopic::ConsumerOffsets) => self.load_coordinator(now, id),
            Some(InternalTopic::TransactionState) => self.load_transactions(now, id),
            None => self.load_schedule(now, id),
        }
    }

    fn begin_epoch(
        &mut self,
        now: Now,
        id: TopicPartition,
        state: &PartitionImage,
        fenced: BTreeSet<NodeId>,
    ) -> InSync {
        let end = self.log.log_end_offset(id).unwrap_or(Offset::ZERO);
        self.transactions.arrivals.led(id, now.mono);
        if !self.is_alone() {
            let leader_epoch = state.leader_epoch;
            self.fx.cluster(ClusterEvent::Led { partition: id, leader_epoch, end });
        }
        let start = self.log.log_start_offset(id).unwrap_or(Offset::ZERO);
        InSync::new(now.mono, self.config.node.node_id, state, fenced, (start, end))
    }

    fn follow(&mut self, now: Now, id: TopicPartition, topic: &TopicImage, state: &PartitionImage) {
        let known = self.partitions.get(&id).map(Partition::high_watermark);
        self.resign(now, id, ErrorCode::NotLeaderOrFollower);
        let (leader, epoch) = (state.leader, state.leader_epoch);
        if !self.followers.contains_key(&id) {
            let config = self.topic_config(topic);
            if known.is_none() {
                self.open_log(now, id, topic);
            }
            let start = self.log.log_start_offset(id).unwrap_or(Offset::ZERO);
            // What may go of it is the leader's to say.
            self.log.hold(id, Some(start));
            let high_watermark = known.unwrap_or(start);
            let nobody = NodeId(-1);
            let follower =
                Follower::new(id, config, nobody, crate::ids::LeaderEpoch::UNKNOWN, high_watermark);
            self.followers.insert(id, follower);
        }
        let Some(follower) = self.followers.get_mut(&id) else { return };
        if (follower.leader(), follower.leader_epoch()) == (leader, epoch) {
            return;
        }
        follower.follow(leader, epoch);
        self.wake_near(now, id);
        self.fx.cluster(ClusterEvent::Followed { partition: id, leader_epoch: epoch, leader });
        self.want_fetch(leader);
    }

    /// Leads a partition no more: who waits there asks elsewhere.
    pub(in crate::broker) fn resign(&mut self, now: Now, id: TopicPartition, code: ErrorCode) {
        self.refuse_lists(now, id, code);
        let Some(mut partition) = self.partitions.remove(&id) else { return };
        self.tell_pin(id);
        self.tell_schedule(id);
        self.replication.in_sync_due.remove(&id);
        self.drop_coordinator(now, id);
        self.drop_transactions(now, id);
        self.transactions.arrivals.resigned(id);
        self.arm_schedule(id, None);
        if !self.is_alone() {
            let leader_epoch = partition.leader_epoch();
            self.fx.cluster(ClusterEvent::Resigned { partition: id, leader_epoch });
        }
        for waiter in partition.abandon() {
            self.answer_waiter(now, waiter, Answer::Produced(Err(code.into())));
        }
        for waiter in partition.abandon_moves() {
            self.answer_waiter(now, waiter, Answer::LogStart(Err(code)));
        }
        self.refuse_fetches(now, std::mem::take(&mut partition.fetches), code);
    }

    /// Follows a partition no more: clients that wait here ask elsewhere.
    pub(in crate::broker) fn stop_following(
        &mut self,
        now: Now,
        id: TopicPartition,
        code: ErrorCode,
    ) -> Option<Follower> {
        let mut follower = self.followers.remove(&id)?;
        self.refuse_fetches(now, std::mem::take(&mut follower.fetches), code);
        Some(follower)
    }

    fn refuse_fetches(&mut self, now: Now, mut fetches: DelayedFetches, code: ErrorCode) {
        for ((shard, request), item) in fetches.iter_mut() {
            let refusal = FetchRefusal::Code(code);
            let waiter = Waiter { shard, request, index: item.index };
            self.answer_waiter(now, waiter, Answer::Readable(Err(refusal)));
        }
    }

    fn fenced_replicas(&self, state: &PartitionImage) -> BTreeSet<NodeId> {
        let is_fenced = |node: &&NodeId| self.image.broker(**node).is_none_or(|it| it.fenced);
        state.replicas.iter().filter(is_fenced).copied().collect()
    }

    fn tell_decided(&mut self, id: TopicPartition, state: &PartitionImage) {
        if self.is_alone() {
            return;
        }
        self.fx.cluster(ClusterEvent::Decided {
            partition: id,
            partition_epoch: state.partition_epoch,
            leader: (state.leader.0 >= 0).then_some(state.leader),
            leader_epoch: state.leader_epoch,
            replicas: state.replicas.clone(),
            isr: state.isr.clone(),
        });
    }
}
