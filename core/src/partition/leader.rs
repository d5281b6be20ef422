//! The leader of a partition: appends, and reads up to the high watermark.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::post::{
    FetchItem, FetchRefusal, Fetched, ListOffsetsItem, ListedOffset, ProduceRefusal, Produced,
};
use crate::connection::RequestId;
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, NodeId, Offset, ShardId, TopicPartition};
use crate::io::{Counter, Effects, Mark};
use crate::log::{AppendError, FetchPlan, FileRange, LogStore, Sequence, Stable, TimeLookup};
use crate::metadata::topic_config::TopicConfig;
use crate::partition::client_view::ClientView;
use crate::partition::delayed_fetch::DelayedFetches;
use crate::partition::in_sync::{FollowerId, InSync};
use crate::partition::scheduled::Scheduled;
use crate::partition::transactions::{VerificationGuard, Verifications};
use crate::record::produce::{TimestampType, check_produced};
use crate::time::Now;

/// Which partition of which request waits for an answer, and at which shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Waiter {
    /// The shard of the connection.
    pub shard: ShardId,
    /// The request.
    pub request: RequestId,
    /// The place of the partition in it.
    pub index: u32,
}

/// A produced batch that waits for the high watermark.
#[derive(Clone, Copy, Debug)]
struct WaitingProduce {
    /// The high watermark must reach this offset.
    needs: Offset,
    waiter: Waiter,
    base_offset: Offset,
    log_append_time_ms: i64,
}

/// How a produce is to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acks {
    /// Version of the request.
    pub version: i16,
    /// Whether `min.insync.replicas` counts (acks=-1).
    pub all_replicas: bool,
    /// Whether the answer waits for stability (acks other than 0).
    pub wait: bool,
}

/// What a read comes to.
#[derive(Clone, Debug)]
pub enum Reading {
    /// What was fetched, at once.
    Done(Fetched),
    /// A range of a file must be read; the rest of the answer stands beside it.
    File(FileRange, Fetched),
}

impl Reading {
    /// Reads what stands below `end`, from memory or, later, from a file; `fetched` is the answer but for that.
    ///
    /// # Errors
    /// [`FetchRefusal`], as of [`Fetched::with_aborted`].
    pub(super) fn up_to(
        end: Offset,
        item: &FetchItem,
        mut fetched: Fetched,
        log: &LogStore,
    ) -> Result<Self, FetchRefusal> {
        if item.offset >= end || (item.max_bytes == 0 && !item.at_least_one) {
            return Ok(Self::Done(fetched));
        }
        let (id, most) = (item.partition, item.max_bytes);
        match log.plan_fetch(id, item.offset, end, most, item.at_least_one) {
            FetchPlan::Memory(records) => {
                fetched.records = records;
                fetched.with_aborted(item, log).map(Self::Done)
            }
            FetchPlan::File(range) => Ok(Self::File(range, fetched)),
        }
    }
}

/// What a lookup comes to.
#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    /// The answer.
    Done(ListedOffset),
    /// The log must be searched by time, below this offset.
    Search(TimeLookup, Offset),
}

/// One replica, which leads.
#[derive(Clone, Debug)]
pub struct Partition {
    pub(super) id: TopicPartition,
    pub(super) config: Arc<TopicConfig>,
    pub(super) leader_epoch: LeaderEpoch,
    in_sync: InSync,
    high_watermark: Offset,
    /// How far the log is stable here.
    stable: Offset,
    /// Produces that wait for the high watermark.
    waiting: VecDeque<WaitingProduce>,
    /// Produces that wait for this replica alone (acks=1).
    waiting_here: VecDeque<WaitingProduce>,
    /// Moves of the log start that are not durable yet, or wait until nothing below is needed any more.
    pub(super) moving: VecDeque<(Offset, Waiter)>,
    /// What clients see of the log, where it may hold what they do not.
    pub(super) view: Option<ClientView>,
    /// The first offset that the start of the log may not pass, because it is needed.
    pub(super) floor: Option<Offset>,
    /// Coordinators that are asked whether a transaction is under way.
    pub(super) verifications: Verifications,
    /// What a topic with features has besides.
    pub(super) scheduled: Option<Box<Scheduled>>,
    /// Fetches that wait for more.
    pub fetches: DelayedFetches,
}

impl Partition {
    /// Takes up leadership in `leader_epoch`, with what of the log is stable. `known` is what was known to be
    /// committed before, where this replica followed.
    pub fn new(
        id: TopicPartition,
        config: Arc<TopicConfig>,
        leader_epoch: LeaderEpoch,
        in_sync: InSync,
        known: Option<Offset>,
        log: &LogStore,
    ) -> Self {
        let stable = log.stable_end(id).map_or(Offset::ZERO, Stable::value);
        let start = log.log_start_offset(id).unwrap_or(Offset::ZERO);
        let high_watermark = known.unwrap_or(start).max(start).min(stable);
        // Where the end is still looked for, nothing behind what is committed is sure to be there.
        let stable = if log.is_finding(id) { high_watermark } else { stable };
        // What counts in the log of a topic with features nobody knows before it is read.
        let floor = config.features.is_some().then_some(start);
        let mut partition = Self {
            id,
            config,
            leader_epoch,
            in_sync,
            high_watermark,
            stable,
            waiting: VecDeque::new(),
            waiting_here: VecDeque::new(),
            moving: VecDeque::new(),
            view: None,
            floor,
            verifications: Verifications::default(),
            scheduled: None,
            fetches: DelayedFetches::default(),
        };
        partition.recompute();
        partition
    }

    /// Returns the end of what is committed.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Returns the epoch in which it leads.
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Returns the settings in force.
    pub const fn config(&self) -> &Arc<TopicConfig> {
        &self.config
    }

    /// Takes over settings.
    pub fn configure(&mut self, config: Arc<TopicConfig>) {
        self.config = config;
    }

    /// Takes up a later epoch as leader once more. Call [`recompute`](Self::recompute) after it.
    pub fn raise_epoch(&mut self, leader_epoch: LeaderEpoch, in_sync: InSync) {
        assert!(leader_epoch >= self.leader_epoch, "leader epochs never fall");
        self.leader_epoch = leader_epoch;
        self.in_sync = in_sync;
        self.verifications.clear();
        // As at every beginning, what waits is what the log says.
        self.scheduled = None;
    }

    /// Returns who holds the partition.
    pub const fn in_sync(&self) -> &InSync {
        &self.in_sync
    }

    /// Changes who holds the partition. Call [`recompute`](Self::recompute) after it.
    pub const fn in_sync_mut(&mut self) -> &mut InSync {
        &mut self.in_sync
    }

    /// Appends a produced batch. `None` where the answer comes out of [`advance`](Self::advance).
    ///
    /// `verified` is the guard under which a coordinator has said that the batch's transaction is under way,
    /// where it [must](Self::needs_verification); without, the answer is `INVALID_TXN_STATE` 48.
    #[expect(clippy::too_many_arguments, reason = "each comes from another place")]
    pub fn produce(
        &mut self,
        now: Now,
        records: Bytes,
        acks: Acks,
        verified: Option<VerificationGuard>,
        waiter: Waiter,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Option<Result<Produced, ProduceRefusal>> {
        let decided = self.append(now, records, acks, verified, log, fx);
        let (needs, produced, waits_for_all) = match decided {
            Ok(appended) => appended,
            Err(refusal) => return Some(Err(self.with_start(refusal, log))),
        };
        // What is promised for later must not be lost with a leader.
        let (reached, queue) = if acks.all_replicas || waits_for_all {
            (self.high_watermark, &mut self.waiting)
        } else {
            (self.stable, &mut self.waiting_here)
        };
        if !acks.wait || needs <= reached {
            return Some(Ok(self.real_start(produced, log)));
        }
        queue.push_back(WaitingProduce {
            needs,
            waiter,
            base_offset: produced.base_offset,
            log_append_time_ms: produced.log_append_time_ms,
        });
        None
    }

    /// Waits until an append is below the high watermark.
    pub(super) fn wait_for_all(&mut self, base_offset: Offset, waiter: Waiter) {
        let needs = base_offset.plus(1);
        self.waiting.push_back(WaitingProduce {
            needs,
            waiter,
            base_offset,
            log_append_time_ms: -1,
        });
    }

    fn append(
        &mut self,
        now: Now,
        records: Bytes,
        acks: Acks,
        verified: Option<VerificationGuard>,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Result<(Offset, Produced, bool), ProduceRefusal> {
        let batch = check_produced(records, acks.version, &self.config.rules, now.wall)?;
        self.check_readable()?;
        if acks.all_replicas && self.in_sync.live() < self.min_insync_replicas() {
            // Its next batch may be in flight behind it and must not pass it.
            log.refuse_first(now, self.id, &batch);
            return Err(ErrorCode::NotEnoughReplicas.into());
        }
        let produced = |base_offset, log_append_time_ms| Produced {
            base_offset,
            log_append_time_ms,
            log_start_offset: Offset::ZERO,
        };
        self.check_verified(now, &batch, verified, log)?;
        let sequence = log.check_sequence(now, self.id, &batch).inspect_err(|code| {
            if *code == ErrorCode::InvalidProducerEpoch {
                fx.mark(Mark::ProducerFenced);
            } else if *code == ErrorCode::OutOfOrderSequenceNumber {
                fx.mark(Mark::SequenceGap);
            }
        })?;
        match sequence {
            Sequence::Duplicate { base_offset, last_offset, timestamp } => {
                fx.count(Counter::DuplicateBatches, 1);
                fx.mark(Mark::DuplicateAnswered);
                // It may have been one that waited for all.
                let waits = self.scheduled.is_some();
                return Ok((last_offset.plus(1), produced(base_offset, timestamp), waits));
            }
            Sequence::Append => {}
        }
        let log_append_time_ms = match self.config.rules.timestamp_type {
            TimestampType::CreateTime => -1,
            TimestampType::LogAppendTime => batch.max_timestamp(),
        };
        let count = i64::from(batch.last_offset_delta()) + 1;
        let begins = batch.is_transactional().then(|| batch.producer_id());
        let admitted = self.admit(now, &batch, log).inspect_err(|refused| {
            if refused.code == ErrorCode::NotEnoughReplicas {
                log.refuse_first(now, self.id, &batch);
            }
        })?;
        let (batch, waits) = match admitted {
            None => (batch, false),
            Some(admitted) => {
                if let Some(note) = admitted.note {
                    self.append_own(now, note, log, fx).map_err(|error| refusal(&error))?;
                }
                (admitted.batch, admitted.waits_for_all)
            }
        };
        match self.append_own(now, batch, log, fx) {
            Ok(base_offset) => {
                if let Some(id) = begins {
                    self.verifications.end(id);
                }
                Ok((base_offset.plus(count), produced(base_offset, log_append_time_ms), waits))
            }
            Err(error) => Err(refusal(&error)),
        }
    }

    /// Returns how many replicas must be in sync for acks=all. As in Kafka no more are asked for than
    /// there are, so that a setting above the replication factor refuses nothing.
    pub fn min_insync_replicas(&self) -> usize {
        self.config.min_insync_replicas.min(self.in_sync.assigned())
    }

    /// Adds the first offset of the log where the log was looked at: Kafka leaves it out where the
    /// request is wrong as such, and for these codes.
    fn with_start(&self, mut refusal: ProduceRefusal, log: &LogStore) -> ProduceRefusal {
        let untold = matches!(
            refusal.code,
            ErrorCode::CorruptMessage
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::MessageTooLarge
                | ErrorCode::KafkaStorageError
        );
        if !untold && !refusal.is_malformed {
            refusal.log_start_offset = log.log_start_offset(self.id).unwrap_or(Offset(-1));
        }
        refusal
    }

    fn real_start(&self, produced: Produced, log: &LogStore) -> Produced {
        let log_start_offset = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        Produced { log_start_offset, ..produced }
    }

    /// Takes in how far the log is stable. Returns whether the high watermark moved.
    pub fn advance(&mut self, stable_end: Offset) -> bool {
        self.stable = self.stable.max(stable_end);
        self.recompute()
    }

    /// Returns how far the log is stable here.
    pub const fn stable(&self) -> Offset {
        self.stable
    }

    /// Moves the high watermark to what the in-sync replicas have. Returns whether it moved.
    pub fn recompute(&mut self) -> bool {
        let committed = self.in_sync.committed(self.stable, self.min_insync_replicas());
        let moved = committed.is_some_and(|committed| committed > self.high_watermark);
        if let Some(committed) = committed.filter(|_| moved) {
            self.high_watermark = committed.min(self.stable);
        }
        moved
    }

    /// Takes the next produce that has what it waits for.
    pub fn take_committed(&mut self, log: &LogStore) -> Option<(Waiter, Produced)> {
        // A duplicate may need less than the batch before it; it waits its turn all the same.
        let (high_watermark, stable) = (self.high_watermark, self.stable);
        let done = self
            .waiting
            .pop_front_if(|waiting| waiting.needs <= high_watermark)
            .or_else(|| self.waiting_here.pop_front_if(|waiting| waiting.needs <= stable))?;
        let produced = Produced {
            base_offset: done.base_offset,
            log_append_time_ms: done.log_append_time_ms,
            log_start_offset: Offset::ZERO,
        };
        Some((done.waiter, self.real_start(produced, log)))
    }

    /// Takes every produce that waits, because it cannot be answered any more.
    pub fn abandon(&mut self) -> Vec<Waiter> {
        let all = self.waiting.drain(..).chain(self.waiting_here.drain(..));
        all.map(|waiting| waiting.waiter).collect()
    }

    /// Returns whether any produce waits.
    pub fn is_waiting(&self) -> bool {
        !(self.waiting.is_empty() && self.waiting_here.is_empty())
    }

    /// Checks the epoch that a client knows against this one's (KIP-320).
    ///
    /// # Errors
    /// `FENCED_LEADER_EPOCH` (74) for an older one, `UNKNOWN_LEADER_EPOCH` (75) for a newer one.
    pub fn check_epoch(&self, known: LeaderEpoch) -> Result<(), ErrorCode> {
        match known {
            LeaderEpoch::UNKNOWN => Ok(()),
            known if known < self.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            known if known > self.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    fn check_fetch(&self, item: &FetchItem, log: &LogStore) -> Result<(), FetchRefusal> {
        self.check_epoch(item.current_leader_epoch).map_err(FetchRefusal::Code)?;
        if item.replica.is_none() {
            self.check_readable().map_err(FetchRefusal::Code)?;
        }
        if item.last_fetched_epoch != LeaderEpoch::UNKNOWN {
            let (epoch, end_offset) = self.epoch_end(item.last_fetched_epoch, log);
            if epoch == LeaderEpoch::UNKNOWN {
                return Err(FetchRefusal::Code(ErrorCode::OffsetOutOfRange));
            }
            if epoch < item.last_fetched_epoch || end_offset < item.offset {
                return Err(FetchRefusal::Diverging { epoch, end_offset });
            }
        }
        let start = log.log_start_offset(self.id);
        let end = log.log_end_offset(self.id);
        match (start, end) {
            (Some(start), Some(end)) if start <= item.offset && item.offset <= end => Ok(()),
            (Some(log_start), Some(_)) if item.replica.is_some() => {
                Err(FetchRefusal::OutOfRange { log_start })
            }
            (Some(_), Some(_)) => Err(FetchRefusal::Code(ErrorCode::OffsetOutOfRange)),
            _ => Err(FetchRefusal::Code(ErrorCode::UnknownTopicOrPartition)),
        }
    }

    /// Returns whether a follower has what a client asks for. Of a topic with features this node alone knows what
    /// clients are shown.
    fn is_served_by(&self, follower: NodeId, item: &FetchItem) -> bool {
        self.config.features.is_none()
            && self.view.is_none()
            && self.knows_committed()
            && self.in_sync.reaches(follower, item.offset)
    }

    /// Returns where the part of the log ends that may be read: followers read all of it, before it is stable.
    pub(super) fn readable_end(&self, item: &FetchItem, log: &LogStore) -> Offset {
        match item.replica {
            None if item.read_committed => self.last_stable_offset(log),
            None => self.high_watermark,
            Some(_) => log.log_end_offset(self.id).unwrap_or(Offset::ZERO),
        }
    }

    /// Takes in that a follower fetches, where its log agrees.
    pub fn note_follower(&mut self, now: Now, item: &FetchItem, log: &LogStore) {
        if let Some(follower) = item.replica
            && self.check_fetch(item, log).is_ok()
        {
            let end = log.log_end_offset(self.id).unwrap_or(Offset::ZERO);
            self.in_sync.fetched(now.mono, follower, (item.offset, item.log_start), end);
        }
    }

    /// Takes in what a follower has durable. Returns whether the high watermark moved.
    pub fn acknowledged(
        &mut self,
        now: Now,
        follower: FollowerId,
        leader_epoch: LeaderEpoch,
        stable: Offset,
        log: &LogStore,
    ) -> bool {
        // A peer is not believed beyond the end of this log.
        let end = log.log_end_offset(self.id).unwrap_or(Offset::ZERO);
        if leader_epoch != self.leader_epoch || stable > end {
            return false;
        }
        self.in_sync.acknowledged(now.mono, follower, stable, self.stable) && self.recompute()
    }

    /// Returns how many bytes a fetch would find, counted up to what it may take.
    ///
    /// # Errors
    /// [`FetchRefusal`], which answers the whole fetch at once.
    pub fn readable(&self, item: &FetchItem, log: &LogStore) -> Result<u64, FetchRefusal> {
        self.check_fetch(item, log)?;
        if let Some(replica) = item.near.filter(|&near| self.is_served_by(near, item)) {
            return Err(FetchRefusal::Near {
                replica,
                high_watermark: self.high_watermark,
                last_stable_offset: self.last_stable_offset(log),
                log_start_offset: log.log_start_offset(self.id).unwrap_or(Offset::ZERO),
            });
        }
        if let Some(view) = self.view_for(item) {
            return Ok(self.readable_in(view, item, log));
        }
        let end = self.readable_end(item, log);
        if item.offset >= end {
            return Ok(0);
        }
        Ok(log.readable_bytes(self.id, item.offset, end, item.max_bytes))
    }

    /// Reads what a fetch may have.
    ///
    /// # Errors
    /// [`FetchRefusal`].
    pub fn read(&self, item: &FetchItem, log: &LogStore) -> Result<Reading, FetchRefusal> {
        self.check_fetch(item, log)?;
        if let Some(view) = self.view_for(item) {
            return self.read_in(view, item, item.offset, log);
        }
        let fetched = Fetched {
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset(log),
            log_start_offset: log.log_start_offset(self.id).unwrap_or(Offset::ZERO),
            records: Vec::new(),
            aborted: item.read_committed.then(Vec::new),
        };
        Reading::up_to(self.readable_end(item, log), item, fetched, log)
    }

    /// Returns whether its high watermark holds all that the leaders before it had committed (KIP-207).
    pub fn knows_committed(&self) -> bool {
        !self.in_sync.has_followers() || self.high_watermark >= self.in_sync.epoch_start()
    }

    /// Finds an offset by its place, or says what to search for (KIP-79, 734, 405, 1005, 1023).
    ///
    /// # Errors
    /// The code to answer with.
    pub fn list_offset(&self, item: &ListOffsetsItem, log: &LogStore) -> Result<Lookup, ErrorCode> {
        self.check_epoch(item.current_leader_epoch)?;
        self.check_readable()?;
        let end =
            if item.read_committed { self.last_stable_offset(log) } else { self.high_watermark };
        let start = log.log_start_offset(self.id).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let place = |offset, leader_epoch| {
            Ok(Lookup::Done(ListedOffset { offset, timestamp: -1, leader_epoch }))
        };
        match item.timestamp {
            // What the leaders before it had committed may lie beyond what it knows yet (KIP-207).
            -1 | -3 if !self.knows_committed() => Err(ErrorCode::OffsetNotAvailable),
            -1 => place(
                self.shown(end, start).ok_or(ErrorCode::OffsetNotAvailable)?,
                self.leader_epoch,
            ),
            -2 | -4 => place(start, self.epoch_at(start, log)),
            -3 => Ok(Lookup::Search(TimeLookup::Largest, end)),
            // Nothing is tiered: no offset is in a remote tier, and none waits to go there.
            -5 | -6 => Ok(Lookup::Done(ListedOffset::NONE)),
            timestamp if timestamp >= 0 => Ok(Lookup::Search(TimeLookup::AtLeast(timestamp), end)),
            _ => Err(ErrorCode::InvalidRequest),
        }
    }

    /// Returns the epoch of the record at an offset; at the end of the log, the one that it will get.
    fn epoch_at(&self, offset: Offset, log: &LogStore) -> LeaderEpoch {
        if log.log_end_offset(self.id) == Some(offset) {
            return self.leader_epoch;
        }
        log.epoch_at(self.id, offset).unwrap_or(LeaderEpoch::UNKNOWN)
    }

    /// Returns the largest epoch at most the one asked about and where it ends, -1 and -1 where none
    /// is known. It speaks of the log, not of what is committed.
    pub fn epoch_end(&self, epoch: LeaderEpoch, log: &LogStore) -> (LeaderEpoch, Offset) {
        const UNKNOWN: (LeaderEpoch, Offset) = (LeaderEpoch::UNKNOWN, Offset(-1));
        if epoch == self.leader_epoch {
            return log.log_end_offset(self.id).map_or(UNKNOWN, |end| (epoch, end));
        }
        if epoch > self.leader_epoch || epoch < LeaderEpoch(0) {
            return UNKNOWN;
        }
        // A log without a record knows no epoch: this leader's begins at its end, and any before it ends there.
        let begins = || log.log_end_offset(self.id).map(|end| (epoch, end));
        log.end_of_epoch(self.id, epoch).or_else(begins).unwrap_or(UNKNOWN)
    }

    /// Moves the start of the log. `None` where the answer waits until that is durable.
    pub fn delete_records(
        &mut self,
        now: Now,
        offset: i64,
        waiter: Waiter,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Option<Result<Offset, ErrorCode>> {
        let Some(start) = log.log_start_offset(self.id) else {
            return Some(Err(ErrorCode::UnknownTopicOrPartition));
        };
        if let Err(code) = self.check_readable() {
            return Some(Err(code));
        }
        // Nobody is told to ask elsewhere for long: clients ask the same leader again.
        let Some(shown) = self.shown(self.high_watermark, start) else {
            return Some(Err(ErrorCode::LeaderNotAvailable));
        };
        let wanted = if offset == -1 { shown } else { Offset(offset) };
        if wanted < Offset::ZERO || wanted > self.high_watermark {
            return Some(Err(ErrorCode::OffsetOutOfRange));
        }
        // Who has read to the end that is shown stands there, and stays within the log.
        let wanted = wanted.min(shown);
        if wanted <= self.in_sync.lowest_start(start) && self.moving.is_empty() {
            return Some(Ok(start));
        }
        self.moving.push_back((wanted, waiter));
        let reached = self.floor.map_or(wanted, |floor| wanted.min(floor));
        if reached > start {
            log.move_log_start(now, self.id, reached, fx);
        }
        None
    }

    /// Takes everybody whose move of the log start is durable, here and on the members that live.
    pub fn take_moved(&mut self, log: &LogStore) -> Vec<(Waiter, Offset)> {
        if self.moving.is_empty() {
            return Vec::new();
        }
        let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        let lowest = self.in_sync.lowest_start(start);
        let mut out = Vec::new();
        self.moving.retain(|&(wanted, waiter)| {
            if wanted <= lowest {
                out.push((waiter, lowest));
            }
            wanted > lowest
        });
        if !out.is_empty() {
            self.in_sync.told(lowest);
        }
        out
    }

    /// Takes everybody who waits for the log start to move.
    pub fn abandon_moves(&mut self) -> Vec<Waiter> {
        self.moving.drain(..).map(|(_, waiter)| waiter).collect()
    }

    /// Takes the partition's state into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest
            .bytes(&self.id.topic_id.0)
            .signed(i64::from(self.id.partition.0))
            .signed(i64::from(self.leader_epoch.0))
            .signed(self.high_watermark.0)
            .signed(self.stable.0)
            .shown(&self.in_sync)
            .shown(&(&self.waiting, &self.waiting_here))
            .shown(&(&self.moving, &self.verifications))
            .shown(&(&self.fetches, self.floor));
        if let Some(scheduled) = &self.scheduled {
            scheduled.digest(digest);
        }
        if let Some(view) = &self.view {
            view.digest(digest);
        }
    }
}

/// What a producer is told of an append that failed.
fn refusal(error: &AppendError) -> ProduceRefusal {
    ProduceRefusal { message: Some(error.to_string().into()), ..ProduceRefusal::from(error.code()) }
}
