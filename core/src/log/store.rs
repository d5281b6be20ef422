//! The one way into the logs of a shard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{
    Incarnation, IoToken, LeaderEpoch, Offset, PartitionIndex, TopicName, TopicPartition, Uuid,
};
use crate::io::{Completion, Counter, DiskError, DiskErrorKind, Effects, FileName, Mark};
use crate::log::api::{
    AppendError, FetchPlan, FileRange, FlushPolicy, LogConfig, LogEvent, LogSettings, Sequence,
    Storage,
};
use crate::log::block::{BlockSequence, Entry};
use crate::log::checkpointing::Checkpointing;
use crate::log::journal::{BlockDone, Journal, Need};
use crate::log::operations::{JournalStep, Op, Operations, Purpose};
use crate::log::partition_log::{AppendLimits, PartitionLog};
use crate::log::read::ReadJob;
use crate::log::recovery::Recovery;
use crate::log::retention::RetentionClock;
use crate::log::segment::Extent;
use crate::log::space::SpaceWatch;
use crate::log::stable::Stable;
use crate::log::write_behind::Doomed;
use crate::record::batch::Batch;
use crate::time::{Instant, Now, UnixMillis};

/// How long the store may take to close before it leaves the rest to the next start's recovery.
const CLOSE_WITHIN: Duration = Duration::from_secs(4);
/// Closing writes a checkpoint only if no more logs than this changed since the last one.
const CLOSE_CHECKPOINT_LOGS: usize = 500;
/// Offsets of a memory log that one journal entry reserves.
const RESERVE_OFFSETS: i64 = 1 << 20;
/// Bytes waiting for a block beyond which producers wait.
const GATHERED_MAX_BYTES: usize = 64 << 20;

/// Where the store is in its life.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Unborn,
    Recovering(Box<Recovery>),
    Running,
    Stopping { deadline: Instant, checkpoint: bool, closing: bool },
    Closed,
    Poisoned(Arc<str>),
}

/// Who waits for a durable mark that covers a block.
#[derive(Clone, Debug)]
pub(super) enum Unproven {
    Vote(LeaderEpoch),
    Log(TopicPartition, Offset),
}

/// The logs of one shard.
#[derive(Clone, Debug)]
pub struct LogStore {
    pub(super) config: LogConfig,
    pub(super) phase: Phase,
    pub(super) ops: Operations,
    pub(super) journal: Option<Journal>,
    pub(super) logs: BTreeMap<TopicPartition, PartitionLog>,
    pub(super) events: VecDeque<LogEvent>,
    /// Batches in memory, in the order of their appends: log, base offset, and the bytes that go
    /// with it. The last batch of a journal block stands for all of the block that is no batch.
    pub(super) cache: VecDeque<(TopicPartition, Offset, u64)>,
    pub(super) cache_bytes: u64,
    pub(super) unwritten_bytes: u64,
    pub(super) write_due: BTreeSet<(Instant, TopicPartition)>,
    pub(super) checkpoint: Checkpointing,
    pub(super) reads: BTreeMap<u64, ReadJob>,
    pub(super) next_read: u64,
    pub(super) unproven: VecDeque<(BlockSequence, Unproven)>,
    pub(super) vote_epoch: LeaderEpoch,
    pub(super) space: SpaceWatch,
    /// Removals and renames under way.
    pub(super) cleanups: usize,
    /// Folders that are being renamed away.
    pub(super) leaving: BTreeSet<FileName>,
    /// Deleted logs whose files are still there.
    pub(super) doomed: BTreeMap<TopicPartition, Doomed>,
    /// Folders of deleted logs, and how many of their files are still there.
    pub(super) emptying: BTreeMap<FileName, usize>,
    /// Logs that the journal deleted, whose folders may still be there after a start.
    pub(super) recovered_deletions: Vec<(TopicPartition, FileName)>,
    /// Segments below a start that the journal moved, to be removed once recovery has flushed it.
    pub(super) recovered_removals: Vec<(FileName, Extent)>,
    /// Folders on their way to the trash.
    pub(super) moving: BTreeSet<FileName>,
    /// Names in the data directory that are not ours.
    pub(super) foreign: BTreeSet<String>,
    pub(super) retention: RetentionClock,
    congested: bool,
}

impl LogStore {
    /// Makes the store; nothing happens before [`start`](Self::start).
    pub fn new(config: LogConfig) -> Self {
        Self {
            config,
            phase: Phase::Unborn,
            ops: Operations::default(),
            journal: None,
            logs: BTreeMap::new(),
            events: VecDeque::new(),
            cache: VecDeque::new(),
            cache_bytes: 0,
            unwritten_bytes: 0,
            write_due: BTreeSet::new(),
            checkpoint: Checkpointing::default(),
            reads: BTreeMap::new(),
            next_read: 0,
            unproven: VecDeque::new(),
            vote_epoch: LeaderEpoch::UNKNOWN,
            space: SpaceWatch::default(),
            cleanups: 0,
            leaving: BTreeSet::new(),
            doomed: BTreeMap::new(),
            emptying: BTreeMap::new(),
            moving: BTreeSet::new(),
            recovered_deletions: Vec::new(),
            recovered_removals: Vec::new(),
            foreign: BTreeSet::new(),
            retention: RetentionClock::default(),
            congested: false,
        }
    }

    /// Begins recovery. Ends with [`LogEvent::Recovered`] or `Effect::Fatal`.
    pub fn start(&mut self, now: Now, fx: &mut Effects) {
        assert!(matches!(self.phase, Phase::Unborn), "a store starts once");
        if self.config.memory_only {
            let ids = random_ids(self.config.seed);
            self.phase = Phase::Running;
            self.retention.begin(now, None, self.config.retention_check_interval_ms);
            self.events.push_back(LogEvent::Recovered {
                incarnation: Incarnation(1),
                cluster_id: ids.0,
                directory_id: ids.1,
                vote_epoch: LeaderEpoch::UNKNOWN,
            });
            return;
        }
        self.begin_recovery(fx);
    }

    /// Takes the completion of a disk operation that the store asked for.
    pub fn handle_completion(
        &mut self,
        now: Now,
        token: IoToken,
        result: Result<Completion, DiskError>,
        fx: &mut Effects,
    ) {
        let Some((purpose, op)) = self.ops.complete(token) else { return };
        match result {
            Ok(completion) => self.on_done(now, purpose, &op, completion, fx),
            Err(error) => self.on_failed(now, purpose, op, error, fx),
        }
        self.pump(now, fx);
    }

    fn on_done(
        &mut self,
        now: Now,
        purpose: Purpose,
        op: &Op,
        completion: Completion,
        fx: &mut Effects,
    ) {
        if matches!(purpose, Purpose::Folder(_) | Purpose::Checkpoint) {
            self.on_space_again(fx);
        }
        match purpose {
            Purpose::Journal(step) => self.on_journal_done(now, step, completion, fx),
            Purpose::Recovery(slot) => self.on_recovery_done(now, slot, Ok(completion), fx),
            Purpose::WriteBehind(log) => self.on_run_written(log, fx),
            Purpose::Folder(log) => self.on_folder_made(log, op, fx),
            Purpose::Checkpoint => self.on_checkpoint_step(fx),
            Purpose::Cleanup => self.on_cleanup(op, fx),
            Purpose::CleanupList(folder) => self.on_cleanup_list(&folder, completion, fx),
            Purpose::Read(job) => self.on_read_done(now, job, Ok(completion), fx),
            Purpose::Space => self.on_space(now, Some(&completion), fx),
        }
    }

    fn on_failed(
        &mut self,
        now: Now,
        purpose: Purpose,
        op: Op,
        error: DiskError,
        fx: &mut Effects,
    ) {
        match &purpose {
            Purpose::Recovery(slot) => {
                let slot = *slot;
                self.on_recovery_done(now, slot, Err(error), fx);
                return;
            }
            Purpose::Read(job) => {
                let job = *job;
                if error.kind == DiskErrorKind::Exhausted {
                    self.ops.retry_later(now.mono, purpose, op);
                } else {
                    self.on_read_done(now, job, Err(error), fx);
                }
                return;
            }
            Purpose::Cleanup | Purpose::CleanupList(_) if error.kind == DiskErrorKind::NotFound => {
                self.on_cleanup(&op, fx);
                return;
            }
            Purpose::Space => {
                self.on_space(now, None, fx);
                return;
            }
            Purpose::Cleanup if error.kind == DiskErrorKind::AlreadyExists => {
                // Somebody put a thing of theirs where a deleted log should go.
                fx.warn(format!("{error}; it is left alone"));
                self.cleanups -= 1;
                if let Op::Rename { from, .. } = &op {
                    self.moving.remove(from);
                    self.foreign.insert(from.as_str().to_owned());
                }
                return;
            }
            // A segment that retention removed meanwhile needs no flush any more.
            Purpose::Checkpoint
                if error.kind == DiskErrorKind::NotFound && !self.is_live_segment(&op) =>
            {
                self.on_checkpoint_step(fx);
                return;
            }
            Purpose::Journal(_)
            | Purpose::WriteBehind(_)
            | Purpose::Folder(_)
            | Purpose::Checkpoint
            | Purpose::Cleanup
            | Purpose::CleanupList(_) => {}
        }
        match error.kind {
            DiskErrorKind::NoSpace => {
                if let Purpose::WriteBehind(log) | Purpose::Folder(log) = purpose
                    && self.give_up_on(log, &op)
                {
                    return;
                }
                self.on_no_space(&error, fx);
                if purpose == Purpose::Journal(JournalStep::Grow) {
                    let journal = self.journal.as_mut().expect("the journal asked for a file");
                    journal.on_grow_failed(&mut self.ops, fx);
                } else {
                    self.ops.retry_later(now.mono, purpose, op);
                }
            }
            DiskErrorKind::Exhausted => self.ops.retry_later(now.mono, purpose, op),
            DiskErrorKind::NotFound
            | DiskErrorKind::AlreadyExists
            | DiskErrorKind::NotPermitted
            | DiskErrorKind::Flush
            | DiskErrorKind::Other => self.poison(&error, fx),
        }
    }

    fn on_journal_done(
        &mut self,
        now: Now,
        step: JournalStep,
        completion: Completion,
        fx: &mut Effects,
    ) {
        let journal = self.journal.as_mut().expect("the journal asked for it");
        match step {
            JournalStep::Block => {
                let Completion::Written(Some(block)) = completion else {
                    unreachable!("the driver gives a sealed block back");
                };
                let done = journal.on_block_written(now, block, fx);
                self.on_block_done(now, &done, fx);
            }
            JournalStep::Flush => journal.on_flushed(fx),
            JournalStep::Head => journal.on_head_written(fx),
            JournalStep::Grow => journal.on_grown(&mut self.ops, fx),
            JournalStep::GrowDirectory => {
                journal.on_grown_durably(fx);
                self.on_space_again(fx);
            }
            JournalStep::GrowFailed => {
                journal.on_grow_failure_cleaned(now, &mut self.ops, fx);
            }
        }
        self.release_proven(now, fx);
    }

    /// Tells everybody whose entries have what they need.
    fn on_block_done(&mut self, now: Now, done: &BlockDone, fx: &mut Effects) {
        if matches!(self.phase, Phase::Recovering(_)) {
            self.on_rewritten(done);
            return;
        }
        let mut moved: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        let sequence = done.plan.header().sequence;
        let mut around = done.block.len() as u64;
        for (entry, range) in done.plan.placed() {
            match *entry {
                Entry::Append { log, ref batch, .. } => {
                    if let Some(partition) = self.logs.get_mut(&log) {
                        let range = range.expect("an append has a batch");
                        let size = range.len() as u64;
                        partition.seal(batch.base_offset(), done.block.slice(range));
                        moved.insert(log, batch.next_offset());
                        self.cache.push_back((log, batch.base_offset(), size));
                        self.cache_bytes += size;
                        around -= size;
                    }
                }
                Entry::LogStart { log, start } => self.on_start_durable(log, start, fx),
                Entry::Create { log, .. } => {
                    self.events.push_back(LogEvent::Created(log));
                    if let Some(partition) = self.logs.get_mut(&log) {
                        partition.created = true;
                    }
                    self.make_folder(log, fx);
                }
                Entry::Delete { log } => {
                    self.on_deletion_durable(log);
                    self.events.push_back(LogEvent::Deleted(log));
                }
                Entry::Vote { epoch, .. } => {
                    self.unproven.push_back((sequence, Unproven::Vote(epoch)));
                }
                Entry::Reserve { log, end } => {
                    if let Some(partition) = self.logs.get_mut(&log) {
                        partition.reserved_stable = partition.reserved_stable.max(end);
                        self.stabilize_memory(log);
                    }
                }
                Entry::Close => {}
            }
        }
        if !moved.is_empty()
            && let Some((.., bytes)) = self.cache.back_mut()
        {
            // A small batch keeps a whole block in memory, many times its size.
            *bytes += around;
            self.cache_bytes += around;
        }
        for (log, end) in moved {
            if log == TopicPartition::CLUSTER_METADATA {
                self.unproven.push_back((sequence, Unproven::Log(log, end)));
            } else {
                self.on_stable(now, log, end, fx);
            }
        }
        if !self.unproven.is_empty()
            && let Some(journal) = &mut self.journal
        {
            journal.want_proof();
        }
    }

    /// The tail of an earlier start stands in the journal once more; everybody knows of it already.
    fn on_rewritten(&mut self, done: &BlockDone) {
        for (entry, range) in done.plan.placed() {
            if let (Entry::Append { log, batch, .. }, Some(range)) = (entry, range)
                && let Some(partition) = self.logs.get_mut(log)
            {
                partition.seal(batch.base_offset(), done.block.slice(range));
            }
        }
    }

    fn release_proven(&mut self, now: Now, fx: &mut Effects) {
        let Some(journal) = &self.journal else { return };
        let proven = journal.proven();
        while self.unproven.front().is_some_and(|(sequence, _)| *sequence <= proven) {
            match self.unproven.pop_front() {
                Some((_, Unproven::Vote(epoch))) => {
                    self.events.push_back(LogEvent::Voted { epoch });
                }
                Some((_, Unproven::Log(log, end))) => {
                    self.on_stable(now, log, end, fx);
                }
                None => break,
            }
        }
    }

    fn on_stable(&mut self, now: Now, log: TopicPartition, end: Offset, fx: &mut Effects) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        if end <= partition.stable {
            return;
        }
        partition.stable = end;
        let end = match partition.settings.flush {
            FlushPolicy::Ack => Stable::flushed(end),
            FlushPolicy::Lazy => Stable::written(end),
        };
        self.events.push_back(LogEvent::Stable { log, end });
        self.schedule_write(now, log, fx);
    }

    /// Makes what a memory log holds stable as far as its offsets are reserved.
    fn stabilize_memory(&mut self, log: TopicPartition) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        let end = if self.config.memory_only {
            partition.end
        } else {
            partition.end.min(partition.reserved_stable)
        };
        if end > partition.stable {
            partition.stable = end;
            self.events.push_back(LogEvent::Stable { log, end: Stable::memory(end) });
        }
    }

    /// Does what is due: write-behind by age, retention, closing blocks, retries after a full disk.
    pub fn handle_wakeup(&mut self, now: Now, fx: &mut Effects) {
        if !matches!(self.phase, Phase::Running | Phase::Stopping { .. } | Phase::Recovering(_)) {
            return;
        }
        self.ops.retry_due(now.mono, fx);
        while let Some(&(due, log)) = self.write_due.first()
            && due <= now.mono
        {
            self.write_due.remove(&(due, log));
            if let Some(partition) = self.logs.get_mut(&log) {
                partition.write_due = None;
                self.begin_run(log, fx);
            }
        }
        if matches!(self.phase, Phase::Running) {
            self.ask_for_space(now, fx);
            if self.retention.is_due(now) {
                self.enforce_retention(now, fx);
            }
        }
        self.pump(now, fx);
    }

    /// Returns when [`handle_wakeup`](Self::handle_wakeup) wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        let closing = match self.phase {
            Phase::Closed | Phase::Poisoned(_) | Phase::Unborn => return None,
            Phase::Stopping { deadline, closing: false, .. } => Some(deadline),
            Phase::Stopping { .. } | Phase::Recovering(_) => None,
            Phase::Running => Some(self.retention.next()),
        };
        let running = matches!(self.phase, Phase::Running) && !self.config.memory_only;
        [
            closing,
            self.space.next().filter(|_| running),
            self.ops.next_retry(),
            self.write_due.first().map(|(due, _)| *due),
            self.journal.as_ref().and_then(Journal::next_deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes the oldest event. Drain to `None` after every call that may change something.
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// Makes everything durable and closes; ends with [`LogEvent::Closed`].
    pub fn stop(&mut self, now: Now, fx: &mut Effects) {
        match self.phase {
            Phase::Running => {}
            Phase::Unborn | Phase::Recovering(_) | Phase::Poisoned(_) => {
                self.ops.forget();
                self.phase = Phase::Closed;
                self.events.push_back(LogEvent::Closed);
                return;
            }
            Phase::Stopping { .. } | Phase::Closed => return,
        }
        let dirty = self.logs.values().filter(|log| log.dirty).count();
        self.phase = Phase::Stopping {
            deadline: now.mono + CLOSE_WITHIN,
            checkpoint: !self.config.memory_only && dirty <= CLOSE_CHECKPOINT_LOGS,
            closing: false,
        };
        if let Some(journal) = &mut self.journal {
            journal.flush_soon();
        }
        self.pump(now, fx);
    }

    /// Goes on with everything that can go on. Called after every change.
    pub(super) fn pump(&mut self, now: Now, fx: &mut Effects) {
        if !matches!(self.phase, Phase::Running | Phase::Stopping { .. } | Phase::Recovering(_)) {
            return;
        }
        if let Some(journal) = &mut self.journal {
            journal.wall = self.retention.accepted_wall(now);
            journal.spare = self.space.spare();
            journal.urgent = match &self.phase {
                Phase::Recovering(_) => true,
                Phase::Unborn
                | Phase::Running
                | Phase::Stopping { .. }
                | Phase::Closed
                | Phase::Poisoned(_) => {
                    self.checkpoint.needs(journal)
                        || (self.checkpoint.awaits_deletions()
                            && (!self.unproven.is_empty()
                                || !self.doomed.values().all(Doomed::is_durable)))
                }
            };
            journal.pump(now, &mut self.ops, fx);
        }
        if matches!(self.phase, Phase::Recovering(_)) {
            self.finish_recovery_when_flushed(now, fx);
            return;
        }
        self.advance_checkpoint(fx);
        self.advance_stop(now, fx);
        self.update_congestion(fx);
    }

    fn advance_stop(&mut self, now: Now, fx: &mut Effects) {
        let Phase::Stopping { deadline, checkpoint, closing } = self.phase else { return };
        let Some(journal) = &mut self.journal else {
            self.phase = Phase::Closed;
            self.events.push_back(LogEvent::Closed);
            return;
        };
        let late = deadline <= now.mono;
        if checkpoint && !late {
            if self.may_begin_checkpoint() {
                self.phase = Phase::Stopping { deadline, checkpoint: false, closing: false };
                self.begin_checkpoint(fx);
                self.advance_checkpoint(fx);
            }
            return;
        }
        if !(self.checkpoint.is_idle() || late) {
            return;
        }
        if !closing {
            self.phase = Phase::Stopping { deadline, checkpoint: false, closing: true };
            journal.enqueue(Entry::Close, Need::Flushed);
            journal.pump(now, &mut self.ops, fx);
            return;
        }
        if journal.is_settled() {
            self.phase = Phase::Closed;
            self.ops.forget();
            self.events.push_back(LogEvent::Closed);
        }
    }

    fn update_congestion(&mut self, fx: &mut Effects) {
        // With a full disk producers are told so, instead of waiting without a word.
        let congested = self.space.refusal().is_none()
            && (self.unwritten_bytes > self.config.unwritten_max_bytes
                || self.journal.as_ref().is_some_and(|journal| {
                    journal.is_starved() || journal.gathered_bytes() > GATHERED_MAX_BYTES
                }));
        if self.congested && !congested {
            self.events.push_back(LogEvent::Relieved);
        }
        if congested && !self.congested {
            fx.mark(Mark::BackPressure);
        }
        self.congested = congested;
    }

    /// Returns whether producers must wait: too much is not yet written behind, or the journal is full.
    pub const fn is_congested(&self) -> bool {
        self.congested
    }

    /// Returns every log there is, in order, with its topic's name.
    pub fn logs(&self) -> impl Iterator<Item = (TopicPartition, &TopicName)> + '_ {
        self.logs.iter().map(|(id, log)| (*id, &log.name))
    }

    /// Returns what stands in the way of a folder for this partition: a name in the data directory
    /// that is not ours.
    pub fn name_conflict(&self, name: &TopicName, partition: PartitionIndex) -> Option<String> {
        let folder = format!("{name}-{partition}");
        self.foreign.contains(&folder).then_some(folder)
    }

    /// Creates a log, empty at offset 0. Usable at once; [`LogEvent::Created`] says it is durable.
    pub fn create(
        &mut self,
        now: Now,
        log: TopicPartition,
        name: &TopicName,
        settings: LogSettings,
        fx: &mut Effects,
    ) {
        assert!(!self.logs.contains_key(&log), "a log is created once");
        let storage = if self.config.memory_only { Storage::Memory } else { settings.storage };
        let settings = LogSettings { storage, ..settings };
        let partition = PartitionLog::new(log, name.clone(), settings, self.append_limits());
        self.logs.insert(log, partition);
        if let Some(journal) = &mut self.journal {
            let name = Bytes::copy_from_slice(name.as_str().as_bytes());
            journal.enqueue(Entry::Create { log, storage, name }, Need::Flushed);
        } else {
            self.events.push_back(LogEvent::Created(log));
        }
        self.pump(now, fx);
    }

    pub(super) const fn append_limits(&self) -> AppendLimits {
        AppendLimits { producer_ids_max: self.config.producer_ids_max }
    }

    /// Changes a log's settings; where its bytes live stays as it was created.
    pub fn configure(&mut self, log: TopicPartition, settings: LogSettings) {
        if let Some(partition) = self.logs.get_mut(&log) {
            let storage = partition.settings.storage;
            partition.settings = LogSettings { storage, ..settings };
        }
    }

    /// Deletes a log and, once that is durable, its files.
    pub fn delete(&mut self, now: Now, log: TopicPartition, fx: &mut Effects) {
        let Some(partition) = self.logs.remove(&log) else { return };
        if !partition.is_memory() {
            self.unwritten_bytes -= partition.unwritten_bytes();
        }
        if let Some(due) = partition.write_due {
            self.write_due.remove(&(due, log));
        }
        if let Some(journal) = &mut self.journal {
            journal.enqueue(Entry::Delete { log }, Need::Flushed);
            self.begin_deletion(partition);
        } else {
            self.events.push_back(LogEvent::Deleted(log));
        }
        self.pump(now, fx);
    }

    /// Appends a batch at the end of a log, which gives it base offset and leader epoch.
    ///
    /// The caller has checked the batch (CRC, sequence, size). Its stability comes as
    /// [`LogEvent::Stable`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written then. For want of room the batch counts as
    /// [refused](Self::refuse_first).
    pub fn append(
        &mut self,
        now: Now,
        log: TopicPartition,
        leader_epoch: LeaderEpoch,
        mut batch: Batch,
        fx: &mut Effects,
    ) -> Result<Offset, AppendError> {
        if let Phase::Poisoned(why) = &self.phase {
            return Err(AppendError::Poisoned(Arc::clone(why)));
        }
        assert!(!matches!(self.phase, Phase::Recovering(_)), "appends wait for recovery");
        let partition = self.logs.get_mut(&log).ok_or(AppendError::Unknown)?;
        if let Some(at) = partition.damaged {
            return Err(AppendError::Damaged(at));
        }
        if !partition.is_memory()
            && let Some(why) = self.space_refusal(log, fx)
        {
            self.refuse_first(now, log, &batch);
            return Err(AppendError::DiskFull(why));
        }
        let partition = self.logs.get_mut(&log).expect("it was just found");
        let base = partition.end;
        batch.assign(base, leader_epoch);
        let append_ms = now.wall;
        let rolls = partition.rolls(append_ms, batch.size() as u64);
        if rolls && base > partition.start {
            fx.mark(Mark::SegmentRolled);
        }
        let size = batch.size() as u64;
        fx.count(Counter::BatchesAppended, 1);
        fx.count(Counter::RecordsAppended, u64::try_from(batch.records_count()).unwrap_or(0));
        fx.count(Counter::BytesAppended, size);
        if partition.is_memory() {
            self.append_in_memory(now, log, &batch, append_ms, rolls);
        } else {
            let need = match partition.settings.flush {
                FlushPolicy::Ack => Need::Flushed,
                FlushPolicy::Lazy => Need::Written,
            };
            let journal = self.journal.as_mut().expect("a store with a disk has a journal");
            journal.enqueue(Entry::Append { log, append_ms, rolls, batch: batch.clone() }, need);
            partition.take_in(now.mono, batch, append_ms, rolls);
            self.unwritten_bytes += size;
        }
        self.pump(now, fx);
        Ok(base)
    }

    fn append_in_memory(
        &mut self,
        now: Now,
        log: TopicPartition,
        batch: &Batch,
        append_ms: UnixMillis,
        rolls: bool,
    ) {
        let partition = self.logs.get_mut(&log).expect("the log was found");
        // The copy lets go of the connection's receive buffer.
        let copy = Batch::split_from(&mut batch.to_bytes()).expect("a batch is whole");
        partition.take_in(now.mono, copy, append_ms, rolls);
        if let Some(journal) = &mut self.journal
            && partition.end > partition.reserved
        {
            partition.reserved = partition.end.plus(RESERVE_OFFSETS);
            journal.enqueue(Entry::Reserve { log, end: partition.reserved }, Need::Flushed);
        }
        while partition.size() > partition.settings.memory_max_bytes
            && partition.tail.len() > 1
            && partition.tail[0].next <= partition.stable
        {
            let front = partition.tail.pop_front().expect("there is one");
            partition.move_start(front.next);
            self.events.push_back(LogEvent::LogStartMoved { log, start: front.next });
        }
        self.stabilize_memory(log);
    }

    /// Checks a produced batch against what the log knows of its producer (KIP-98), and makes room
    /// for a producer that it does not know.
    ///
    /// # Errors
    /// The wire code to answer with: 45 for a gap, 47 for an old epoch, and so on.
    pub fn check_sequence(
        &mut self,
        now: Now,
        log: TopicPartition,
        batch: &Batch,
    ) -> Result<Sequence, ErrorCode> {
        let ids_max = self.config.producer_ids_max;
        let partition = self.logs.get_mut(&log).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let verdict = partition.producers.check(now.mono, batch)?;
        if verdict == Sequence::Append {
            partition.producers.admit(now.mono, batch, ids_max)?;
        }
        Ok(verdict)
    }

    /// Remembers that a batch was refused for a passing reason, so that a later one of the same
    /// pipeline cannot pass it.
    pub fn refuse_first(&mut self, now: Now, log: TopicPartition, batch: &Batch) {
        if let Some(partition) = self.logs.get_mut(&log) {
            partition.producers.refuse_first(now.mono, batch);
        }
    }

    /// Moves the start of a log up; [`LogEvent::LogStartMoved`] says that it is durable.
    ///
    /// `start` is at most the stable end. Moving it to where it is already answers at once.
    pub fn move_log_start(
        &mut self,
        now: Now,
        log: TopicPartition,
        start: Offset,
        fx: &mut Effects,
    ) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        assert!(start <= partition.stable, "only what is stable is deleted");
        if start <= partition.start {
            let start = partition.start;
            self.events.push_back(LogEvent::LogStartMoved { log, start });
            return;
        }
        if partition.is_memory() {
            while partition.tail.front().is_some_and(|batch| batch.next <= start) {
                partition.tail.pop_front();
            }
            partition.move_start(start);
            self.events.push_back(LogEvent::LogStartMoved { log, start });
            return;
        }
        let journal = self.journal.as_mut().expect("a store with a disk has a journal");
        journal.enqueue(Entry::LogStart { log, start }, Need::Flushed);
        partition.coming_start = partition.coming_start.max(start);
        partition.dirty = true;
        self.pump(now, fx);
    }

    /// Records durably that this node votes for itself in `epoch`; ends with [`LogEvent::Voted`].
    pub fn vote(&mut self, now: Now, epoch: LeaderEpoch, fx: &mut Effects) {
        assert!(epoch > self.vote_epoch, "a node votes once in an epoch");
        self.vote_epoch = epoch;
        if let Some(journal) = &mut self.journal {
            let candidate = self.config.node_id;
            journal.enqueue(Entry::Vote { epoch, candidate }, Need::Flushed);
            self.pump(now, fx);
        } else {
            self.events.push_back(LogEvent::Voted { epoch });
        }
    }

    /// Returns the first offset of a log, `None` for an unknown one.
    pub fn log_start_offset(&self, log: TopicPartition) -> Option<Offset> {
        self.logs.get(&log).map(|log| log.start)
    }

    /// Returns the offset after the last record of a log, stable or not.
    pub fn log_end_offset(&self, log: TopicPartition) -> Option<Offset> {
        self.logs.get(&log).map(|log| log.end)
    }

    /// Returns the offset after the last stable record of a log.
    pub fn stable_end(&self, log: TopicPartition) -> Option<Stable<Offset>> {
        let log = self.logs.get(&log)?;
        Some(match (log.settings.storage, log.settings.flush) {
            (Storage::Memory, _) => Stable::memory(log.stable),
            (Storage::Disk, FlushPolicy::Ack) => Stable::flushed(log.stable),
            (Storage::Disk, FlushPolicy::Lazy) => Stable::written(log.stable),
        })
    }

    /// Returns the bytes of a log, segments and unwritten batches together.
    pub fn size(&self, log: TopicPartition) -> Option<u64> {
        self.logs.get(&log).map(PartitionLog::size)
    }

    /// Returns where rot was found in a log, if so.
    pub fn damaged_at(&self, log: TopicPartition) -> Option<Offset> {
        self.logs.get(&log).and_then(|log| log.damaged)
    }

    /// Returns the largest epoch at most `epoch` that the log knows and the offset where it ends
    /// (KIP-101, KIP-279), `None` where it knows none. An epoch before all that it knows ends where
    /// these begin, as in Kafka: its records went with retention.
    pub fn end_of_epoch(
        &self,
        log: TopicPartition,
        epoch: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        let log = self.logs.get(&log)?;
        let older_than_all = || log.epochs.first().map(|(_, start)| (epoch, start));
        log.epochs.end_of(epoch, log.end).or_else(older_than_all)
    }

    /// Returns the epoch of the last record, `None` for an empty log.
    pub fn latest_epoch(&self, log: TopicPartition) -> Option<LeaderEpoch> {
        self.logs.get(&log)?.epochs.latest().map(|(epoch, _)| epoch)
    }

    /// Plans a fetch of whole batches from `from` on, below `end`, of at most `max_bytes`.
    ///
    /// `from` must lie between the log's start and `end`.
    pub fn plan_fetch(
        &self,
        log: TopicPartition,
        from: Offset,
        end: Offset,
        max_bytes: u64,
        at_least_one: bool,
    ) -> FetchPlan {
        let Some(partition) = self.logs.get(&log) else { return FetchPlan::Memory(Vec::new()) };
        if from >= end {
            return FetchPlan::Memory(Vec::new());
        }
        if from < partition.tail_start() {
            return FetchPlan::File(FileRange { log, from, end, max_bytes, at_least_one });
        }
        let first = partition.tail.partition_point(|batch| batch.next <= from);
        let mut parts = Vec::new();
        let mut bytes = 0;
        for batch in partition.tail.range(first..) {
            let fits = bytes + batch.size <= max_bytes || (bytes == 0 && at_least_one);
            if batch.next > end || !fits {
                break;
            }
            bytes += batch.size;
            batch.push_parts(&mut parts);
        }
        FetchPlan::Memory(parts)
    }

    /// Returns how many bytes could be fetched from `from` up to `end`, counting no further than `enough`.
    pub fn readable_bytes(
        &self,
        log: TopicPartition,
        from: Offset,
        end: Offset,
        enough: u64,
    ) -> u64 {
        self.logs.get(&log).map_or(0, |log| log.readable(from, end, enough))
    }

    /// Takes the store's state into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        if let Some(journal) = &self.journal {
            journal.digest(digest);
        }
        digest.number(self.logs.len() as u64);
        for log in self.logs.values() {
            log.digest(digest);
        }
        self.digest_reads(digest);
        digest.number(self.unwritten_bytes).number(self.ops.under_way() as u64);
        digest.number(u64::from(self.space.refusal().is_some())).number(u64::from(self.congested));
    }

    /// Stops using the directory: a write or flush has failed, and what it covered may be lost.
    pub(super) fn poison(&mut self, error: &DiskError, fx: &mut Effects) {
        if matches!(self.phase, Phase::Poisoned(_) | Phase::Closed) {
            return;
        }
        let why: Arc<str> = format!(
            "the data directory has failed ({error}); nothing it may have lost was acknowledged: \
             check the disk, then start again"
        )
        .into();
        self.phase = Phase::Poisoned(Arc::clone(&why));
        self.ops.forget();
        self.reads.clear();
        fx.warn(why.to_string());
        self.events.push_back(LogEvent::Poisoned(why));
    }
}

/// Draws the ids of an empty directory: cluster, directory.
pub(super) fn random_ids(seed: u64) -> (Uuid, Uuid, u64) {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut uuid = || {
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        // Version 4, variant 1, as Kafka's ids have.
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Uuid(bytes)
    };
    let (cluster, directory) = (uuid(), uuid());
    (cluster, directory, random.next_u64())
}

#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_in_result,
    reason = "a test looks for one event among all"
)]
#[path = "store_test.rs"]
mod tests;
