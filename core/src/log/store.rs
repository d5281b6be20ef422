//! The one way into the logs of a shard: its life, and what becomes of completions and deadlines.
//! What changes logs stands in `appends`, what is asked about them in `views`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::buggify::Buggify;
use crate::digest::Digest;
use crate::ids::{Incarnation, IoToken, LeaderEpoch, NodeId, Offset, TopicPartition, Uuid};
use crate::io::{Completion, DiskError, DiskErrorKind, Effects, FileName, Mark};
use crate::log::api::{FlushPolicy, LogConfig, LogEvent};
use crate::log::block::{BlockSequence, Entry};
use crate::log::checkpointing::Checkpointing;
use crate::log::journal::{BlockDone, Journal, Need};
use crate::log::operations::{CutStep, JournalStep, Op, Operations, Purpose};
use crate::log::partition_log::PartitionLog;
use crate::log::read::ReadJob;
use crate::log::recovery::Recovery;
use crate::log::retention::RetentionClock;
use crate::log::segment::Extent;
use crate::log::snapshots::Snapshots;
use crate::log::space::SpaceWatch;
use crate::log::stable::Stable;
use crate::log::truncation::Cutting;
use crate::log::write_behind::Doomed;
use crate::time::{Instant, Now};

/// How long the store may take to close before it leaves the rest to the next start's recovery.
const CLOSE_WITHIN: Duration = Duration::from_secs(4);
/// Closing writes a checkpoint only if no more logs than this changed since the last one.
const CLOSE_CHECKPOINT_LOGS: usize = 500;
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
    Vote(LeaderEpoch, NodeId),
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
    /// The last vote, durable or on its way.
    pub(super) vote: Option<(LeaderEpoch, NodeId)>,
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
    /// Logs that are being cut back, and how many truncations there were in this start.
    pub(super) cutting: BTreeMap<TopicPartition, Cutting>,
    pub(super) cuts_made: u64,
    pub(super) snapshots: Snapshots,
    /// Names in the data directory that are not ours.
    pub(super) foreign: BTreeSet<String>,
    pub(super) retention: RetentionClock,
    pub(super) congested: bool,
    /// Whether anything was appended since the turn began.
    pub(super) has_appended: bool,
    pub(super) buggify: Buggify,
}

impl LogStore {
    /// Makes the store; nothing happens before [`start`](Self::start).
    pub fn new(config: LogConfig) -> Self {
        Self {
            buggify: Buggify::new(config.buggify, config.seed ^ 1),
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
            vote: None,
            space: SpaceWatch::default(),
            cleanups: 0,
            leaving: BTreeSet::new(),
            doomed: BTreeMap::new(),
            emptying: BTreeMap::new(),
            moving: BTreeSet::new(),
            cutting: BTreeMap::new(),
            cuts_made: 0,
            snapshots: Snapshots::default(),
            recovered_deletions: Vec::new(),
            recovered_removals: Vec::new(),
            foreign: BTreeSet::new(),
            retention: RetentionClock::default(),
            congested: false,
            has_appended: false,
        }
    }

    /// Begins recovery. Ends with [`LogEvent::Recovered`] or `Effect::Fatal`.
    pub fn start(&mut self, now: Now, fx: &mut Effects) {
        assert!(matches!(self.phase, Phase::Unborn), "a store starts once");
        if self.config.memory_only {
            let ids = random_ids(self.config.seed);
            self.phase = Phase::Running;
            self.retention.begin(now, None, self.config.retention_check_interval_ms);
            let cluster_id = if self.config.is_member { Uuid::default() } else { ids.0 };
            self.events.push_back(LogEvent::Recovered {
                incarnation: Incarnation(1),
                cluster_id,
                cluster: None,
                directory_id: ids.1,
                vote: None,
            });
            return;
        }
        self.begin_recovery(fx);
    }

    pub(super) fn digest_phase(&self, digest: &mut Digest) {
        if let Phase::Recovering(recovery) = &self.phase {
            // The rest follows from the files that the start has found.
            recovery.digest(digest);
        } else {
            digest.shown(&self.phase);
        }
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
        if matches!(purpose, Purpose::Folder(_) | Purpose::Checkpoint | Purpose::Identity) {
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
            Purpose::Cut(log, CutStep::Find(search)) => {
                self.on_find_read(now, log, search, Ok(completion), fx);
            }
            Purpose::Cut(log, CutStep::File) => self.on_file_cut(log, fx),
            Purpose::Space => self.on_space(now, Some(&completion), fx),
            Purpose::Identity => self.on_identity_step(op, fx),
            Purpose::Snapshot(step) => self.on_snapshot_done(step, completion, fx),
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
            Purpose::Recovery(_)
                if matches!(error.kind, DiskErrorKind::NoSpace | DiskErrorKind::Exhausted) =>
            {
                self.on_recovery_without_room(&error, fx);
                self.ops.retry_later(now.mono, purpose, op);
                return;
            }
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
            &Purpose::Cut(log, CutStep::Find(search)) if error.kind != DiskErrorKind::Exhausted => {
                self.on_find_read(now, log, search, Err(error), fx);
                return;
            }
            &Purpose::Cut(log, CutStep::File) if error.kind == DiskErrorKind::NotFound => {
                self.on_file_cut(log, fx);
                return;
            }
            Purpose::Space => {
                self.on_space(now, None, fx);
                return;
            }
            &Purpose::Snapshot(step) if self.on_snapshot_failed(step, &error) => return,
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
            | Purpose::Identity
            | Purpose::WriteBehind(_)
            | Purpose::Folder(_)
            | Purpose::Checkpoint
            | Purpose::Cleanup
            | Purpose::CleanupList(_)
            | Purpose::Snapshot(_)
            | Purpose::Cut(..) => {}
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
                    if let Some(partition) = self.logs.get_mut(&log)
                        && partition.survives_cuts(batch.next_offset())
                    {
                        let range = range.expect("an append has a batch");
                        let size = range.len() as u64;
                        partition.seal(batch.base_offset(), done.block.slice(range));
                        moved.insert(log, batch.next_offset());
                        self.cache.push_back((log, batch.base_offset(), size));
                        self.cache_bytes += size;
                        around -= size;
                    }
                }
                Entry::Truncate { log, ref cut } => self.on_cut_durable(log, cut.end),
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
                Entry::Vote { epoch, candidate } => {
                    self.unproven.push_back((sequence, Unproven::Vote(epoch, candidate)));
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
                Some((_, Unproven::Vote(epoch, candidate))) => {
                    self.events.push_back(LogEvent::Voted { epoch, candidate });
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
        assert!(end <= partition.end, "nothing is stable beyond the end of its log");
        partition.stable = end;
        let end = match partition.settings.flush {
            FlushPolicy::Ack => Stable::flushed(end),
            FlushPolicy::Lazy => Stable::written(end),
        };
        self.events.push_back(LogEvent::Stable { log, end });
        self.schedule_write(now, log, fx);
    }

    /// Makes what a memory log holds stable as far as its offsets are reserved, and lets go of what may go
    /// with that.
    pub(super) fn stabilize_memory(&mut self, log: TopicPartition) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        let end = if self.config.memory_only {
            partition.end
        } else {
            partition.end.min(partition.reserved_stable)
        };
        if end > partition.stable {
            partition.stable = end;
            self.events.push_back(LogEvent::Stable { log, end: Stable::memory(end) });
            self.shorten_memory(log);
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

    /// Lets leave what was appended, and returns whether anything was. The owner calls it when it has done
    /// all that an input asks for, so that the appends of one input share a block and its flush.
    pub fn end_turn(&mut self, now: Now, fx: &mut Effects) -> bool {
        let has_appended = std::mem::take(&mut self.has_appended);
        if has_appended {
            self.pump(now, fx);
        }
        has_appended
    }

    /// Goes on with everything that can go on. Called after every change but an append, which waits for the
    /// end of the turn.
    pub(super) fn pump(&mut self, now: Now, fx: &mut Effects) {
        if !matches!(self.phase, Phase::Running | Phase::Stopping { .. } | Phase::Recovering(_)) {
            return;
        }
        if let Some(journal) = &mut self.journal {
            journal.wall = self.retention.accepted_wall(now);
            journal.hold_minutes = self.retention.hold_minutes(now);
            journal.spare = self.space.spare();
            journal.urgent = match &self.phase {
                Phase::Recovering(_) => true,
                Phase::Unborn
                | Phase::Running
                | Phase::Stopping { .. }
                | Phase::Closed
                | Phase::Poisoned(_) => {
                    // No checkpoint begins before deletions are durable, none is written before.
                    let awaits_deletions =
                        self.checkpoint.is_idle() || self.checkpoint.awaits_deletions();
                    self.checkpoint.needs(journal)
                        || !self.cutting.is_empty()
                        || (self.checkpoint.awaits_deletions() && !self.unproven.is_empty())
                        || (awaits_deletions && !self.doomed.values().all(Doomed::is_durable))
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
                fx.mark(Mark::CheckpointAtClose);
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

    pub(super) fn update_congestion(&mut self, fx: &mut Effects) {
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

    /// Returns how large a batch may be to fit a file of the journal, with what a block has besides.
    pub const fn batch_bytes_max(&self) -> usize {
        if self.config.memory_only {
            return usize::MAX;
        }
        (self.config.journal_file_bytes / 4 * 3) as usize
    }

    /// Returns whether producers must wait: too much is not yet written behind, or the journal is full.
    pub const fn is_congested(&self) -> bool {
        self.congested
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
        fx.mark(Mark::LogDirectoryFailed);
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
