//! Fetch (key 1): probe, wait where there is too little, read (KIP-74, KIP-227, KIP-320, KIP-516).
//!
//! Sessions are never opened: every answer carries session id 0, which is legal and keeps clients on
//! full fetches. A fetch that goes on with a session gets `FETCH_SESSION_ID_NOT_FOUND`, because what
//! it leaves out is not known here.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::pending::{
    FetchOutcome, FetchSlot, FetchStage, FetchedTopic, Pending, PendingFetch, RequestContext,
};
use crate::broker::post::{Answer, Ask, FetchItem, FetchRefusal, Fetched};
use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::connection::RequestId;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ShardId, TopicPartition};
use crate::io::{Counter, Mark};
use crate::time::Now;
use crate::wire::Parts;
use crate::wire::api::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    PartitionData,
};

impl Shard {
    pub(in crate::broker) fn on_fetch(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &FetchRequest,
    ) {
        if request.session_epoch > 0 {
            let error_code = ErrorCode::FetchSessionIdNotFound.code();
            return self.respond(&ctx, FetchResponse { error_code, ..FetchResponse::default() });
        }
        let by_id = ctx.version >= 13;
        let mut fetch = PendingFetch {
            ctx,
            topics: Vec::with_capacity(request.topics.len()),
            slots: Vec::new(),
            stage: FetchStage::Probing,
            outstanding: 0,
            min_bytes: request.min_bytes.max(0) as u64,
            max_bytes: (request.max_bytes.max(0) as u64).min(self.limits().fetch_bytes_max),
            granted: 0,
            read_committed: request.isolation_level == 1,
            deadline: now.mono
                + Duration::from_millis(request.max_wait_ms.max(0) as u64)
                    .min(self.limits().fetch_wait_max),
        };
        for topic in &request.topics {
            let found = self.find_topic(&topic.topic, topic.topic_id, by_id);
            for asked in &topic.partitions {
                let (partition, outcome) = match self.find_partition(found, asked.partition) {
                    Ok(id) => (id, FetchOutcome::Readable(0)),
                    Err(code) => {
                        let partition = PartitionIndex(asked.partition);
                        let id = TopicPartition { topic_id: topic.topic_id, partition };
                        (id, FetchOutcome::Refused(FetchRefusal::Code(code)))
                    }
                };
                let item = FetchItem {
                    index: fetch.slots.len() as u32,
                    partition,
                    offset: Offset(asked.fetch_offset),
                    max_bytes: (asked.partition_max_bytes.max(0) as u64).min(fetch.max_bytes),
                    at_least_one: false,
                    current_leader_epoch: LeaderEpoch(asked.current_leader_epoch),
                    last_fetched_epoch: LeaderEpoch(asked.last_fetched_epoch.max(-1)),
                    known_readable: 0,
                };
                let is_unknown = matches!(outcome, FetchOutcome::Refused(_));
                let partition = asked.partition;
                fetch.slots.push(FetchSlot { partition, item, is_unknown, outcome });
            }
            fetch.topics.push(FetchedTopic {
                name: topic.topic.clone(),
                id: topic.topic_id,
                partitions: topic.partitions.len(),
            });
        }
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
        let mut response = FetchResponse::default();
        let mut slots = fetch.slots.into_iter();
        let mut bytes = 0;
        for topic in fetch.topics {
            let partitions = slots
                .by_ref()
                .take(topic.partitions)
                .map(|slot| self.partition_data(&topic, slot, fetch.read_committed, &mut bytes))
                .collect();
            response.responses.push(FetchableTopicResponse {
                topic: topic.name,
                topic_id: topic.id,
                partitions,
            });
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

    fn partition_data(
        &self,
        topic: &FetchedTopic,
        slot: FetchSlot,
        read_committed: bool,
        bytes: &mut u64,
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
            FetchOutcome::Fetched(Fetched { high_watermark, log_start_offset, records }) => {
                data.high_watermark = high_watermark.0;
                data.last_stable_offset = high_watermark.0;
                data.log_start_offset = log_start_offset.0;
                let records = Parts::from(records);
                *bytes += records.len() as u64;
                data.records = Some(records);
            }
            FetchOutcome::Refused(FetchRefusal::Diverging { epoch, end_offset }) => {
                data.diverging_epoch = EpochEndOffset { epoch: epoch.0, end_offset: end_offset.0 };
            }
            FetchOutcome::Refused(FetchRefusal::Code(code)) => {
                data.error_code = code.code();
                if matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch) {
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
