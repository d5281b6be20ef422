//! The follower's side: fetches from each leader, what comes of them, and what leaders are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::peers::PeerTag;
use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicPartition};
use crate::io::Mark;
use crate::observe::ClusterEvent;
use crate::partition::follower::{FollowStep, Outcome, Position};
use crate::peer::{Lane, Question};
use crate::record::batch::Batch;
use crate::time::{Instant, Now};
use crate::wire::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData, ReplicaState,
};
use crate::wire::api::replica_ack::{ReplicaAckPartition, ReplicaAckRequest, ReplicaAckTopic};
use crate::wire::{Request, Response};

/// Most bytes of one partition in a fetch.
const PARTITION_BYTES: i32 = 1 << 20;
/// Most bytes of a fetch.
const FETCH_BYTES: i32 = 8 << 20;
/// Pause before a fetch that failed is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Fetches under way to one leader: the second overtakes the first where there is more to follow.
const IN_FLIGHT_MAX: u8 = 2;

/// What was asked of a leader: where each partition stood.
pub(in crate::broker) type Fetched = Arc<[Position]>;

/// A node that partitions here follow.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Leader {
    in_flight: u8,
    /// Whether there is something to ask that is not under way.
    wanted: bool,
    /// When to ask again after a failure.
    retry_at: Option<Instant>,
}

impl Shard {
    /// Says that a leader is to be asked for more than is under way.
    pub(super) fn want_fetch(&mut self, leader: NodeId) {
        if leader.0 >= 0 && leader != self.config.node.node_id {
            self.replication.leaders.entry(leader).or_default().wanted = true;
        }
    }

    /// Sends what is due: fetches, acknowledgements, in-sync sets. Returns whether there was anything.
    pub(in crate::broker) fn replicate(&mut self, now: Now) -> bool {
        if self.is_alone() || !self.has_role || self.poisoned.is_some() {
            return false;
        }
        self.tell_leaders();
        let due = |leader: &Leader| {
            leader.wanted && leader.in_flight < IN_FLIGHT_MAX && leader.retry_at.is_none()
        };
        let leaders: Vec<NodeId> =
            self.replication.leaders.iter().filter(|(_, it)| due(it)).map(|(&id, _)| id).collect();
        let mut sent = false;
        for leader in leaders {
            sent |= self.fetch_from(now, leader);
        }
        let asked = self.ask_for_in_sync(now);
        self.arm_replication_timer(now);
        sent || asked
    }

    fn fetch_from(&mut self, now: Now, leader: NodeId) -> bool {
        let Self { followers, log, .. } = self;
        let positions: Vec<Position> = followers
            .values()
            .filter(|follower| follower.leader() == leader)
            .map(|follower| follower.position(log))
            .collect();
        if positions.is_empty() {
            self.replication.leaders.remove(&leader);
            return false;
        }
        let me = self.config.node.node_id;
        let Some(broker_epoch) = self.image.broker(me).map(|broker| broker.broker_epoch) else {
            return false;
        };
        let wait = self.config.node.limits.replica_fetch_wait;
        let request = request(me, broker_epoch, wait, &positions, log_starts(self, &positions));
        let state = self.replication.leaders.entry(leader).or_default();
        state.wanted = false;
        state.in_flight += 1;
        let tag = PeerTag::Replicate(positions.into());
        let Self { peers, fx, .. } = self;
        let question = Question { request, patience: Some(wait), tag };
        peers.links.ask(now.mono, leader, Lane::Replication, question, fx);
        true
    }

    /// Takes the answer of a leader, or that there is none.
    pub(in crate::broker) fn on_replica_fetched(
        &mut self,
        now: Now,
        leader: NodeId,
        asked: &Fetched,
        response: Option<Response>,
    ) {
        let retry = now.mono + RETRY;
        if let Some(state) = self.replication.leaders.get_mut(&leader) {
            state.in_flight = state.in_flight.saturating_sub(1);
        }
        let pause = match response {
            Some(Response::Fetch(response)) if response.error_code == 0 => {
                self.take_replicas(now, leader, asked, response)
            }
            Some(_) | None => {
                // What it was told may be lost with the link.
                for position in asked.iter() {
                    if let Some(follower) = self.followers.get_mut(&position.partition) {
                        follower.untold();
                        self.replication.news.insert(position.partition);
                    }
                }
                true
            }
        };
        let Self { followers, log, replication, .. } = self;
        let is_behind = asked.iter().any(|position| {
            let follower = followers.get(&position.partition);
            follower.is_none_or(|follower| follower.position(log) != *position)
        });
        if let Some(state) = replication.leaders.get_mut(&leader) {
            // Two that overtake each other with nothing to say would do so for ever.
            state.wanted |= is_behind || state.in_flight == 0;
            if pause {
                state.retry_at = Some(retry);
            }
        }
    }

    /// Returns whether to pause before the next fetch.
    fn take_replicas(
        &mut self,
        now: Now,
        leader: NodeId,
        asked: &Fetched,
        response: FetchResponse,
    ) -> bool {
        let mut pause = false;
        for topic in response.responses {
            for data in topic.partitions {
                let partition = PartitionIndex(data.partition_index);
                let id = TopicPartition { topic_id: topic.topic_id, partition };
                if let Some(position) = asked.iter().find(|it| it.partition == id) {
                    pause |= self.take_replica(now, leader, position, data);
                }
            }
        }
        pause
    }

    fn take_replica(
        &mut self,
        now: Now,
        leader: NodeId,
        asked: &Position,
        data: PartitionData,
    ) -> bool {
        let id = asked.partition;
        let Some(follower) = self.followers.get(&id).filter(|it| it.leader() == leader) else {
            return false;
        };
        let outcome = outcome(&data);
        match follower.answer(asked, outcome, &self.log) {
            FollowStep::Append => {
                let records = data.records.map(|records| records.to_bytes()).unwrap_or_default();
                if let Err(why) = self.append_fetched(now, id, asked.leader_epoch, records) {
                    if self.log.is_cutting(id) {
                        // The place of a cut is searched for; what comes is taken after that.
                        return true;
                    }
                    // It is asked for again and again.
                    if self.replication.complained.insert(id) {
                        self.fx.warn(format!(
                            "what node {leader} sent of partition {} of topic {} is not taken: {why}",
                            id.partition, id.topic_id
                        ));
                    }
                    return true;
                }
                self.replication.complained.remove(&id);
                let Outcome::Records { high_watermark, log_start } = outcome else { return false };
                let Some(follower) = self.followers.get_mut(&id) else { return false };
                let start = follower.agreed(high_watermark, log_start, &mut self.log);
                // Retention is the leader's: what is needed it alone knows.
                self.log.hold(id, Some(start));
                if self.log.log_start_offset(id).is_some_and(|own| own < start) {
                    self.log.move_log_start(now, id, start, &mut self.fx);
                }
                self.replication.news.insert(id);
                self.wake_near(now, id);
                false
            }
            FollowStep::Truncate(to) => {
                self.fx.mark(Mark::ReplicaTruncated);
                self.fx.cluster(ClusterEvent::Truncated { partition: id, end: to });
                self.log.truncate(now, id, to, &mut self.fx);
                // One that changes nothing would be asked for again at once, for ever.
                self.log.log_end_offset(id) == Some(asked.offset)
            }
            FollowStep::Reset(start) => {
                self.fx.mark(Mark::ReplicaReset);
                self.fx.cluster(ClusterEvent::Truncated { partition: id, end: start });
                let (partition, log_start_offset) = (id, start);
                self.fx.cluster(ClusterEvent::StartMoved { partition, log_start_offset });
                self.log.reset(now, id, start, &mut self.fx);
                false
            }
            FollowStep::Nothing => false,
            FollowStep::Pause => true,
            FollowStep::Broken(why) => {
                self.fx.warn(format!(
                    "partition {} of topic {} does not follow node {leader}: {why}",
                    id.partition, id.topic_id
                ));
                true
            }
        }
    }

    /// Appends what a leader sent. Nothing of it is trusted.
    fn append_fetched(
        &mut self,
        now: Now,
        id: TopicPartition,
        leader_epoch: LeaderEpoch,
        mut records: Bytes,
    ) -> Result<(), String> {
        while !records.is_empty() {
            let batch = Batch::split_from(&mut records).map_err(|error| error.to_string())?;
            if !batch.crc_is_valid() {
                return Err(format!("the CRC at offset {} is wrong", batch.base_offset()));
            }
            if batch.leader_epoch() > leader_epoch {
                return Err(format!(
                    "the batch at offset {} has the leader epoch {}, beyond {leader_epoch}",
                    batch.base_offset(),
                    batch.leader_epoch()
                ));
            }
            self.begin_within(now, id, &batch);
            self.log
                .append_replica(now, id, batch, now.wall, &mut self.fx)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Begins an empty log at the first offset of a batch that holds its start: a purge may have moved the
    /// leader's start into the middle of a batch, which comes whole.
    fn begin_within(&mut self, now: Now, id: TopicPartition, batch: &Batch) {
        let start = self.log.log_start_offset(id);
        let is_empty = start == self.log.log_end_offset(id);
        let holds = |start| batch.base_offset() < start && start <= batch.last_offset();
        if is_empty && start.is_some_and(holds) && !self.log.is_cutting(id) {
            let base = batch.base_offset();
            self.fx.cluster(ClusterEvent::Truncated { partition: id, end: base });
            self.log.reset(now, id, base, &mut self.fx);
        }
    }

    /// Takes in that more of a partition that follows is stable here.
    pub(in crate::broker) fn on_replica_stable(&mut self, id: TopicPartition) {
        if self.followers.contains_key(&id) {
            self.replication.news.insert(id);
        }
    }

    /// Tells leaders what has become durable here, in one message for each.
    fn tell_leaders(&mut self) {
        if self.replication.news.is_empty() {
            return;
        }
        let me = self.config.node.node_id;
        let broker_epoch = self.image.broker(me).map_or(-1, |broker| broker.broker_epoch);
        let mut acks: BTreeMap<NodeId, Vec<(TopicPartition, LeaderEpoch, Offset)>> =
            BTreeMap::new();
        for id in std::mem::take(&mut self.replication.news) {
            if let Some(follower) = self.followers.get(&id)
                && let Some(stable) = follower.news(&self.log)
            {
                let ack = (id, follower.leader_epoch(), stable);
                acks.entry(follower.leader()).or_default().push(ack);
            }
        }
        for (leader, items) in acks {
            let request = ack_request(me, broker_epoch, &items);
            let Self { peers, fx, .. } = self;
            if peers.links.tell(leader, Lane::Replication, &request, fx) {
                for (id, _, stable) in items {
                    if let Some(follower) = self.followers.get_mut(&id) {
                        follower.told(stable);
                    }
                }
            }
        }
    }

    fn arm_replication_timer(&mut self, now: Now) {
        let look_at = *self
            .replication
            .look_at
            .get_or_insert(now.mono + self.config.node.limits.replica_lag_max / 2);
        let retries = self.replication.leaders.values().filter_map(|leader| leader.retry_at);
        if self.replication.ask_again.is_empty() {
            self.replication.ask_again_at = None;
        } else {
            self.replication.ask_again_at.get_or_insert(now.mono + RETRY);
        }
        let next = retries.chain([look_at]).chain(self.replication.ask_again_at).min();
        if next == self.replication.armed {
            return;
        }
        if let Some(at) = self.replication.armed {
            self.timers.disarm(at, Timer::Replication);
        }
        self.replication.armed = next;
        if let Some(at) = next {
            self.timers.arm(at, Timer::Replication);
        }
    }

    pub(in crate::broker) fn on_replication_timer(&mut self, now: Now) {
        self.replication.armed = None;
        for leader in self.replication.leaders.values_mut() {
            if leader.retry_at.is_some_and(|at| at <= now.mono) {
                leader.retry_at = None;
            }
        }
        if self.replication.ask_again_at.is_some_and(|at| at <= now.mono) {
            self.replication.ask_again_at = None;
            let again = std::mem::take(&mut self.replication.ask_again);
            self.replication.in_sync_due.extend(again);
        }
        if self.replication.look_at.is_some_and(|at| at <= now.mono) {
            self.replication.look_at = None;
            self.look_at_in_sync();
        }
        self.arm_replication_timer(now);
    }
}

/// Returns where the logs begin, -1 where that is not known or not durable yet.
fn log_starts(shard: &Shard, positions: &[Position]) -> Vec<i64> {
    let log = &shard.log;
    let start = |position: &Position| {
        let start = log.log_start_offset(position.partition);
        start.filter(|_| !log.begins_anew(position.partition))
    };
    positions.iter().map(|position| start(position).map_or(-1, |start| start.0)).collect()
}

fn request(
    me: NodeId,
    broker_epoch: i64,
    wait: Duration,
    positions: &[Position],
    starts: Vec<i64>,
) -> Request {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (position, log_start_offset) in positions.iter().zip(starts) {
        let partition = FetchPartition {
            partition: position.partition.partition.0,
            current_leader_epoch: position.leader_epoch.0,
            fetch_offset: position.offset.0,
            last_fetched_epoch: position.last_epoch.0,
            log_start_offset,
            partition_max_bytes: PARTITION_BYTES,
            ..FetchPartition::default()
        };
        let topic_id = position.partition.topic_id;
        match topics.last_mut().filter(|topic| topic.topic_id == topic_id) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic_id,
                partitions: vec![partition],
                ..FetchTopic::default()
            }),
        }
    }
    FetchRequest {
        max_wait_ms: wait.as_millis() as i32,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        // No session: everything is named each time.
        session_epoch: -1,
        topics,
        replica_state: ReplicaState { replica_id: me.0, replica_epoch: broker_epoch },
        ..FetchRequest::default()
    }
    .into()
}

fn ack_request(
    me: NodeId,
    broker_epoch: i64,
    items: &[(TopicPartition, LeaderEpoch, Offset)],
) -> Request {
    let mut topics: Vec<ReplicaAckTopic> = Vec::new();
    for (id, leader_epoch, stable) in items {
        let partition = ReplicaAckPartition {
            partition: id.partition.0,
            leader_epoch: leader_epoch.0,
            stable_offset: stable.0,
        };
        match topics.last_mut().filter(|topic| topic.topic_id == id.topic_id) {
            Some(topic) => topic.partitions.push(partition),
            None => {
                topics.push(ReplicaAckTopic { topic_id: id.topic_id, partitions: vec![partition] });
            }
        }
    }
    ReplicaAckRequest { node_id: me.0, broker_epoch, topics }.into()
}

fn outcome(data: &PartitionData) -> Outcome {
    if data.error_code == ErrorCode::OffsetOutOfRange.code() {
        return Outcome::OutOfRange { log_start: Offset(data.log_start_offset) };
    }
    if data.error_code != 0 {
        return Outcome::Refused;
    }
    let diverging = &data.diverging_epoch;
    if diverging.end_offset >= 0 {
        return Outcome::Diverging {
            epoch: LeaderEpoch(diverging.epoch),
            end: Offset(diverging.end_offset),
        };
    }
    Outcome::Records {
        high_watermark: Offset(data.high_watermark.max(0)),
        log_start: Offset(data.log_start_offset.max(0)),
    }
}
