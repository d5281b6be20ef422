//! Fetch (key 1): probe, wait where there is too little, read (KIP-74, KIP-227, KIP-320, KIP-516).
//!
//! A fetch of a session (`fetch_sessions`) is one that names all of the session's partitions; only
//! its answer is shorter.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::rand_core::Rng;

use crate::broker::fetch_sessions::{
    Asked, FINAL_EPOCH, FetchSession, INITIAL_EPOCH, Key, Place, SessionBounds, Told,
};
use crate::broker::pending::{
    FetchOutcome, FetchSlot, FetchStage, FetchedTopic, Pending, PendingFetch, RequestContext,
    SessionUse,
};
use crate::broker::post::{self, Answer, Ask, FetchItem, FetchRefusal};
use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::buggify::Site;
use crate::connection::RequestId;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use crate::io::{Counter, Mark};
use crate::partition::FollowerId;
use crate::time::Now;
use crate::wire::api::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, PartitionData,
};
use crate::wire::{KafkaString, Parts};

impl Shard {
    pub(in crate::broker) fn on_fetch(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &FetchRequest,
    ) {
        let by_id = ctx.version >= 13;
        let replica = match self.fetching_replica(now, &ctx, request) {
            Ok(replica) => replica,
            Err(code) => {
                let error_code = code.code();
                return self
                    .respond(&ctx, FetchResponse { error_code, ..FetchResponse::default() });
            }
        };
        let (session, asked) = match self.fetch_session(now, request, by_id) {
            Ok(found) => found,
            Err(code) => {
                let error_code = code.code();
                return self
                    .respond(&ctx, FetchResponse { error_code, ..FetchResponse::default() });
            }
        };
        let mut wait = Duration::from_millis(request.max_wait_ms.max(0) as u64)
            .min(self.limits().fetch_wait_max);
        if self.buggify.strikes(Site::EarlyDeadline) {
            wait /= 16;
        }
        let mut fetch = PendingFetch {
            ctx,
            topics: Vec::with_capacity(request.topics.len()),
            slots: Vec::with_capacity(asked.len()),
            session,
            stage: FetchStage::Probing,
            outstanding: 0,
            min_bytes: request.min_bytes.max(0) as u64,
            max_bytes: (request.max_bytes.max(0) as u64).min(self.limits().fetch_bytes_max),
            granted: 0,
            read_committed: request.isolation_level == 1,
            deadline: now.mono + wait,
        };
        self.add_slots(now, &mut fetch, asked, by_id, (replica, &request.rack_id));
        let asks = self.open_items(&fetch);
        fetch.outstanding = asks.values().map(Vec::len).sum();
        let nothing_to_probe = fetch.outstanding == 0;
        self.pending.insert(ctx.id, Pending::Fetch(fetch));
        if nothing_to_probe {
            return self.after_probe(now, ctx.id);
        }
        for (shard, items) in asks {
            self.ask(now, shard, ctx.id, Ask::Probe(items));
        }
    }

    /// Returns which follower fetches, `None` for a client.
    fn fetching_replica(
        &mut self,
        now: Now,
        ctx: &RequestContext,
        request: &FetchRequest,
    ) -> Result<Option<FollowerId>, ErrorCode> {
        let Some(peer) = self.peer_of(ctx.id.connection) else { return Ok(None) };
        let state = &request.replica_state;
        if NodeId(state.replica_id) != peer.node {
            return Err(ErrorCode::InvalidRequest);
        }
        if self.is_stale(peer.node, state.replica_epoch) {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        self.answer_overtaken(now, ctx);
        Ok(Some(FollowerId { node: peer.node, broker_epoch: state.replica_epoch }))
    }

    /// Returns what a request asks for, that of its session included.
    fn fetch_session(
        &mut self,
        now: Now,
        request: &FetchRequest,
        by_id: bool,
    ) -> Result<(SessionUse, Vec<(Place, Asked)>), ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let bounds = self.session_bounds();
        if epoch != INITIAL_EPOCH && epoch != FINAL_EPOCH {
            let changes = (asked(request, by_id, true), forgotten(request, by_id));
            let resumed =
                self.fetch_sessions.resume(now.mono, (id, epoch), by_id, bounds, changes)?;
            return Ok(match resumed {
                Some(partitions) => (SessionUse::Incremental { id, epoch }, partitions),
                None => (SessionUse::None, numbered(asked(request, by_id, false))),
            });
        }
        // A full fetch that names a session closes it.
        self.fetch_sessions.close(id);
        if epoch == FINAL_EPOCH || bounds.sessions == 0 {
            return Ok((SessionUse::None, numbered(asked(request, by_id, false))));
        }
        let mut session = FetchSession::new(now.mono, by_id);
        let asked = asked(request, by_id, true);
        let asked = asked.into_iter().map(|asked| (session.ask(asked.clone()), asked)).collect();
        Ok((SessionUse::Opening(Box::new(session)), asked))
    }

    /// A node's sessions are spread over its shards.
    fn session_bounds(&self) -> SessionBounds {
        let limits = self.limits();
        let shards = usize::from(self.config.node.shards.max(1));
        SessionBounds {
            sessions: limits.fetch_sessions_max.div_ceil(shards),
            bytes: limits.fetch_session_bytes_max,
        }
    }

    /// Adds a slot for each partition, those of one topic that follow each other together.
    fn add_slots(
        &self,
        now: Now,
        fetch: &mut PendingFetch,
        asked: Vec<(Place, Asked)>,
        by_id: bool,
        (replica, rack): (Option<FollowerId>, &KafkaString),
    ) {
        let rack = Some(rack.as_str()).filter(|rack| replica.is_none() && !rack.is_empty());
        let me = self.config.node.node_id;
        let mut found = Err(ErrorCode::UnknownTopicOrPartition);
        for (place, asked) in asked {
            let Key { topic, topic_id, partition: index } = asked.key;
            match fetch.topics.last_mut() {
                Some(last) if last.name == topic && last.id == topic_id => last.partitions += 1,
                _ => {
                    found = self.find_topic(&topic, topic_id, by_id);
                    fetch.topics.push(FetchedTopic { name: topic, id: topic_id, partitions: 1 });
                }
            }
            // Of who has a rack the replica may be asked too that leads nothing.
            let near = rack.and_then(|rack| {
                let topic = found.ok()?;
                Some((topic.id, topic.partition(PartitionIndex(index))?, rack))
            });
            let follows = near.filter(|(_, state, _)| state.isr.contains(&me));
            let (partition, outcome) = match (self.find_partition(found, index), follows) {
                (Ok(id), _) => (id, FetchOutcome::Readable(0)),
                (Err(_), Some((topic_id, ..))) => {
                    let id = TopicPartition { topic_id, partition: PartitionIndex(index) };
                    (id, FetchOutcome::Readable(0))
                }
                (Err(code), None) => {
                    let id = TopicPartition { topic_id, partition: PartitionIndex(index) };
                    (id, FetchOutcome::Refused(FetchRefusal::Code(code)))
                }
            };
            let item = FetchItem {
                index: fetch.slots.len() as u32,
                partition,
                offset: Offset(asked.fetch_offset),
                max_bytes: (asked.max_bytes.max(0) as u64).min(fetch.max_bytes),
                at_least_one: false,
                current_leader_epoch: LeaderEpoch(asked.current_leader_epoch),
                last_fetched_epoch: LeaderEpoch(asked.last_fetched_epoch.max(-1)),
                known_readable: 0,
                replica,
                log_start: Offset(asked.log_start_offset),
                read_committed: fetch.read_committed && replica.is_none(),
                may_follow: follows.is_some(),
                near: near.and_then(|(_, state, rack)| {
                    let place = (partition, Offset(asked.fetch_offset));
                    self.near_replica(now, &fetch.ctx, (state, place), rack)
                }),
            };
            let is_unknown = matches!(outcome, FetchOutcome::Refused(_));
            fetch.slots.push(FetchSlot { partition: index, place, item, is_unknown, outcome });
        }
    }

    /// Returns the partitions of a fetch that are not refused, by the shard that owns them.
    fn open_items(&self, fetch: &PendingFetch) -> BTreeMap<ShardId, Vec<FetchItem>> {
        let mut out: BTreeMap<ShardId, Vec<FetchItem>> = BTreeMap::new();
        for slot in &fetch.slots {
            if let FetchOutcome::Readable(readable) = slot.outcome {
                let item = FetchItem { known_readable: readable, ..slot.item };
                out.entry(self.owner(item.partition)).or_default().push(item);
            }
        }
        out
    }

    /// Returns the shards that may watch for a fetch.
    pub(in crate::broker) fn shards_of(&self, fetch: &PendingFetch) -> Vec<ShardId> {
        let gone = |slot: &FetchSlot| self.image.topic(slot.item.partition.topic_id).is_none();
        if fetch.slots.iter().any(gone) {
            // Nobody knows any more whose the partitions of a deleted topic were.
            return (0..self.config.node.shards).map(ShardId).collect();
        }
        let mut out: Vec<ShardId> =
            fetch.slots.iter().map(|slot| self.owner(slot.item.partition)).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    pub(in crate::broker) fn deliver_fetch(
        &mut self,
        now: Now,
        id: RequestId,
        index: u32,
        answer: Answer,
    ) {
        let Some(Pending::Fetch(fetch)) = self.pending.get_mut(&id) else { return };
        let Some(slot) = fetch.slots.get_mut(index as usize) else { return };
        match (answer, fetch.stage) {
            (Answer::Readable(readable), FetchStage::Probing) => {
                if matches!(readable, Err(FetchRefusal::Near { .. })) {
                    self.fx.mark(Mark::SentNear);
                    let place = (slot.item.partition, slot.item.offset);
                    self.replication.sent_away.note(now.mono, id.connection, place);
                }
                slot.outcome = outcome(readable);
                fetch.outstanding -= 1;
                if fetch.outstanding == 0 {
                    self.after_probe(now, id);
                }
            }
            (Answer::Readable(readable), FetchStage::Parked) => {
                slot.outcome = outcome(readable);
                if is_enough(fetch) {
                    self.fx.mark(Mark::FetchWoken);
                    self.read_fetch(now, id);
                }
            }
            (Answer::Read(read), FetchStage::Reading) => {
                slot.outcome = match read {
                    Ok(fetched) => FetchOutcome::Fetched(fetched),
                    Err(refusal) => FetchOutcome::Refused(refusal),
                };
                fetch.outstanding -= 1;
                if fetch.outstanding == 0 {
                    self.answer_fetch(now, id);
                }
            }
            // A watch that fired while the read was under way.
            _ => {}
        }
    }

    fn after_probe(&mut self, now: Now, id: RequestId) {
        let room = self.parked_fetches < self.limits().parked_fetches_max;
        let stopping = self.phase.is_stopping();
        let Some(Pending::Fetch(fetch)) = self.pending.get_mut(&id) else { return };
        if is_enough(fetch) || fetch.deadline <= now.mono || !room || stopping {
            return self.read_fetch(now, id);
        }
        fetch.stage = FetchStage::Parked;
        for topic in &mut fetch.topics {
            // A parked request keeps what it needs, not its whole frame.
            topic.name = topic.name.detached();
        }
        let deadline = fetch.deadline;
        self.parked_fetches += 1;
        self.count(Counter::FetchesParked, 1);
        self.timers.arm(deadline, Timer::Request(id));
        let Some(Pending::Fetch(fetch)) = self.pending.get(&id) else { return };
        for (shard, items) in self.open_items(fetch) {
            // This shard's own answer may have come meanwhile, and ended the wait.
            if !self.is_parked(id) {
                return;
            }
            self.ask(now, shard, id, Ask::Watch(items));
        }
    }

    fn is_parked(&self, id: RequestId) -> bool {
        let pending = self.pending.get(&id);
        matches!(pending, Some(Pending::Fetch(fetch)) if fetch.stage == FetchStage::Parked)
    }

    /// Reads what there is, in the order of the request, within the bounds of the answer (KIP-74).
    pub(in crate::broker) fn read_fetch(&mut self, now: Now, id: RequestId) {
        // With the pool full a fetch still brings one batch, so that every consumer goes on.
        let used = self.answer_bytes + self.granted_bytes;
        let room = self.limits().answer_pool_bytes.saturating_sub(used);
        let Some(Pending::Fetch(fetch)) = self.pending.get_mut(&id) else { return };
        if fetch.stage == FetchStage::Reading {
            return;
        }
        let was_parked = fetch.stage == FetchStage::Parked;
        if was_parked {
            self.parked_fetches -= 1;
            self.timers.disarm(fetch.deadline, Timer::Request(id));
        }
        fetch.stage = FetchStage::Reading;
        let budget = fetch.max_bytes.min(room);
        let mut left = budget;
        let mut is_first = true;
        for slot in &mut fetch.slots {
            if let FetchOutcome::Readable(readable) = slot.outcome {
                let granted = slot.item.max_bytes.min(left);
                slot.item.at_least_one = readable > 0 && is_first;
                slot.item.max_bytes = if readable > 0 { granted } else { 0 };
                is_first &= readable == 0;
                left -= granted.min(readable);
            }
        }
        // Until it is answered nobody else is given the same room.
        fetch.granted = budget - left;
        self.granted_bytes += fetch.granted;
        let Some(Pending::Fetch(fetch)) = self.pending.get(&id) else { return };
        let asks = self.open_items(fetch);
        let outstanding = asks.values().map(Vec::len).sum();
        // Owners that are asked to read forget their watches with it; the others are told.
        let others: Vec<ShardId> = if was_parked {
            self.shards_of(fetch).into_iter().filter(|shard| !asks.contains_key(shard)).collect()
        } else {
            Vec::new()
        };
        if let Some(Pending::Fetch(fetch)) = self.pending.get_mut(&id) {
            fetch.outstanding = outstanding;
        }
        for shard in others {
            self.ask(now, shard, id, Ask::Unwatch);
        }
        if outstanding == 0 {
            return self.answer_fetch(now, id);
        }
        for (shard, items) in asks {
            self.ask(now, shard, id, Ask::Read(items));
        }
    }

    fn answer_fetch(&mut self, now: Now, id: RequestId) {
        let Some(Pending::Fetch(fetch)) = self.forget(now, id) else { return };
        let mut session = fetch.session;
        let mut response = FetchResponse::default();
        if let SessionUse::Incremental { id, epoch } = session {
            // Another request of the session may have overtaken this one, on another connection.
            if let Err(code) = self.fetch_sessions.answering(id, epoch) {
                (response.error_code, response.session_id) = (code.code(), id);
                return self.respond(&fetch.ctx, response);
            }
            response.session_id = id;
        }
        let mut slots = fetch.slots.into_iter();
        let mut bytes = 0;
        for topic in fetch.topics {
            let mut partitions = Vec::with_capacity(topic.partitions);
            for slot in slots.by_ref().take(topic.partitions) {
                let place = slot.place;
                let data = self.partition_data(&topic, slot, &fetch.ctx, fetch.read_committed);
                bytes += data.records.as_ref().map_or(0, |records| records.len() as u64);
                if self.is_told(&mut session, place, &data) {
                    partitions.push(data);
                }
            }
            if !partitions.is_empty() {
                response.responses.push(FetchableTopicResponse {
                    topic: topic.name,
                    topic_id: topic.id,
                    partitions,
                });
            }
        }
        if let SessionUse::Opening(session) = session {
            let bounds = self.session_bounds();
            let Self { fetch_sessions, rng, .. } = self;
            let random = || (rng.next_u32() >> 1) as i32;
            response.session_id = fetch_sessions.open(now.mono, *session, bounds, random);
        }
        self.count(Counter::BytesFetched, bytes);
        if fetch.ctx.version >= 16 {
            let leaders = response
                .responses
                .iter()
                .flat_map(|topic| &topic.partitions)
                .map(|partition| partition.current_leader.leader_id);
            response.node_endpoints = self.fetch_endpoints(&fetch.ctx, leaders);
        }
        self.respond(&fetch.ctx, response);
    }

    /// Returns whether the answer about a partition leaves, which without a session it always does.
    fn is_told(&mut self, session: &mut SessionUse, place: Place, data: &PartitionData) -> bool {
        let told = Told {
            high_watermark: data.high_watermark,
            log_start_offset: data.log_start_offset,
            has_records: data.records.as_ref().is_some_and(|records| !records.is_empty()),
            is_refused: data.error_code != 0
                || data.diverging_epoch.epoch >= 0
                || data.preferred_read_replica >= 0,
        };
        match session {
            SessionUse::None => true,
            SessionUse::Opening(session) => {
                session.told_first(place, told);
                true
            }
            SessionUse::Incremental { id, epoch } => self
                .fetch_sessions
                .answering(*id, *epoch)
                .is_ok_and(|session| session.tell(place, told)),
        }
    }

    fn partition_data(
        &self,
        topic: &FetchedTopic,
        slot: FetchSlot,
        ctx: &RequestContext,
        read_committed: bool,
    ) -> PartitionData {
        // Kafka answers for what does not exist without a look at the partition; then the list is
        // empty, else null where nobody asks for committed records alone.
        let is_listed = read_committed || slot.is_unknown;
        let mut data = PartitionData {
            partition_index: slot.partition,
            high_watermark: -1,
            aborted_transactions: is_listed.then(Vec::new),
            records: Some(Parts::default()),
            ..PartitionData::default()
        };
        match slot.outcome {
            FetchOutcome::Fetched(fetched) => {
                data.high_watermark = fetched.high_watermark.0;
                data.last_stable_offset = fetched.last_stable_offset.0;
                data.log_start_offset = fetched.log_start_offset.0;
                data.records = Some(Parts::from(fetched.records));
                let told = |it: post::AbortedTransaction| AbortedTransaction {
                    producer_id: it.producer_id.0,
                    first_offset: it.first_offset.0,
                };
                data.aborted_transactions =
                    fetched.aborted.map(|aborted| aborted.into_iter().map(told).collect());
            }
            FetchOutcome::Refused(FetchRefusal::Diverging { epoch, end_offset }) => {
                data.diverging_epoch = EpochEndOffset { epoch: epoch.0, end_offset: end_offset.0 };
            }
            FetchOutcome::Refused(FetchRefusal::Near {
                replica,
                high_watermark,
                last_stable_offset,
                log_start_offset,
            }) => {
                data.preferred_read_replica = replica.0;
                data.high_watermark = high_watermark.0;
                data.last_stable_offset = last_stable_offset.0;
                data.log_start_offset = log_start_offset.0;
            }
            FetchOutcome::Refused(FetchRefusal::OutOfRange { log_start }) => {
                data.error_code = ErrorCode::OffsetOutOfRange.code();
                data.log_start_offset = log_start.0;
            }
            FetchOutcome::Refused(FetchRefusal::Code(code)) => {
                data.error_code = code.code();
                let is_led_elsewhere =
                    matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
                // Before version 16 there is no room for its address, and Kafka tells neither.
                if is_led_elsewhere && ctx.version >= 16 {
                    let found = self
                        .image
                        .topic(topic.id)
                        .or_else(|| self.image.topic_by_name(&topic.name));
                    if let Some(state) = found.and_then(|t| t.partition(slot.partition.into())) {
                        data.current_leader = LeaderIdAndEpoch {
                            leader_id: state.leader.0,
                            leader_epoch: state.leader_epoch.0,
                        };
                    }
                }
            }
            FetchOutcome::Readable(_) => {}
        }
        data
    }
}

/// Returns what a request names, each partition once. As in Kafka the last word on a partition
/// counts, at the place of the first. `is_kept` says whether it outlives the request's frame.
fn asked(request: &FetchRequest, by_id: bool, is_kept: bool) -> Vec<Asked> {
    let mut out: Vec<Asked> = Vec::new();
    let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let (mut topics, mut places) = (BTreeMap::new(), BTreeMap::new());
    for topic in &request.topics {
        let name = if is_kept { topic.topic.detached() } else { topic.topic.clone() };
        let number = topics.len();
        let number = *topics.entry((&topic.topic, topic.topic_id)).or_insert(number);
        for partition in &topic.partitions {
            let asked = Asked {
                key: key(by_id, &name, topic.topic_id, partition.partition),
                fetch_offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start_offset: partition.log_start_offset,
            };
            let known = if count > 1 {
                places.insert((number, partition.partition), out.len())
            } else {
                None
            };
            match known {
                None => out.push(asked),
                Some(place) => {
                    places.insert((number, partition.partition), place);
                    out[place] = asked;
                }
            }
        }
    }
    out
}

fn forgotten(request: &FetchRequest, by_id: bool) -> Vec<Key> {
    let topics = &request.forgotten_topics_data;
    let keys = topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(move |&partition| key(by_id, &topic.topic, topic.topic_id, partition))
    });
    keys.collect()
}

fn key(by_id: bool, name: &KafkaString, topic_id: TopicId, partition: i32) -> Key {
    if by_id {
        Key { topic: KafkaString::default(), topic_id, partition }
    } else {
        Key { topic: name.clone(), topic_id: TopicId::ZERO, partition }
    }
}

fn numbered(asked: Vec<Asked>) -> Vec<(Place, Asked)> {
    (0..).zip(asked).collect()
}

fn outcome(readable: Result<u64, FetchRefusal>) -> FetchOutcome {
    match readable {
        Ok(readable) => FetchOutcome::Readable(readable),
        Err(refusal) => FetchOutcome::Refused(refusal),
    }
}

/// Returns whether a fetch is to be answered: enough bytes, any error, or nothing asked for.
fn is_enough(fetch: &PendingFetch) -> bool {
    let mut bytes = 0;
    for slot in &fetch.slots {
        match slot.outcome {
            FetchOutcome::Readable(readable) => bytes += readable,
            FetchOutcome::Refused(_) | FetchOutcome::Fetched(_) => return true,
        }
    }
    fetch.slots.is_empty() || bytes >= fetch.min_bytes
}
