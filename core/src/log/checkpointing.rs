//! Making a checkpoint: everything the journal holds up to a cut reaches its segments durably, then
//! the checkpoint says so, then journal files are free.
//!
//! Each arrow is a barrier: segment bytes written -> segments, indexes, epochs and producer
//! snapshots flushed -> directories flushed -> checkpoint written beside, flushed, renamed,
//! directory flushed, in both its places -> journal files free.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::buggify::Site;
use crate::digest::Digest;
use crate::ids::{Offset, TopicPartition};
use crate::io::{Counter, Effects, FileName, Mark, Sync, WriteBody};
use crate::log::block::BlockSequence;
use crate::log::checkpoint::{self, Checkpoint};
use crate::log::journal::Journal;
use crate::log::leader_epoch;
use crate::log::operations::{Op, Purpose};
use crate::log::partition_log::{Folder, LogImage, PartitionLog, ProducerFiles};
use crate::log::segment::segment_file;
use crate::log::store::{LogStore, Phase};
use crate::log::txn_index;
use crate::log::write_behind::{Doomed, METADATA_FILE};

/// The epoch checkpoint of a log while it is written.
const EPOCHS_TEMPORARY: &str = "leader-epoch-checkpoint.tmp";

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// Segment writes catch up with the journal.
    Draining,
    /// Leftovers of an interrupted checkpoint give up their names.
    Unlinks,
    /// Files are flushed.
    Files,
    /// Files written beside others take their names.
    Renames,
    /// Directories are flushed.
    Directories,
    /// Logs deleted meanwhile were not flushed; their deletions must be durable.
    Settling,
    Written,
    Renamed,
    Done,
}

/// The checkpoint under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Checkpointing {
    step: Step,
    cut: BlockSequence,
    /// Every log as it was at the beginning: one that is deleted meanwhile is still told of, because
    /// the entry that deletes it lies above the cut.
    logs: Vec<(TopicPartition, LogImage)>,
    /// What must be written before, for each log.
    goals: BTreeMap<TopicPartition, Offset>,
    /// Entries of the journal that must be durable before.
    entries: u64,
    /// Producer snapshots as they were at the beginning.
    snapshots: Vec<(TopicPartition, FileName, Vec<u8>)>,
    /// Segments to be flushed.
    flushes: Vec<FileName>,
    outstanding: usize,
    renames: Vec<(FileName, FileName)>,
    /// Folders whose entries must be durable, those of logs deleted meanwhile among them.
    directories: Vec<FileName>,
    /// Whether the start found one sound copy only, or two that differ: a checkpoint is due, which
    /// makes both anew.
    pub(super) copy_is_behind: bool,
}

impl Checkpointing {
    pub(super) fn is_idle(&self) -> bool {
        self.step == Step::Idle
    }

    /// Takes in how far it has come, and what it will say.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.shown(&(self.step, self.cut, self.entries, self.outstanding, self.copy_is_behind));
        digest.shown(&(&self.logs, &self.goals, &self.flushes, &self.renames, &self.directories));
        for (log, file, content) in &self.snapshots {
            digest.shown(&(log, file)).bytes(content);
        }
    }

    /// Returns whether the checkpoint waits for the journal.
    pub(super) fn needs(&self, journal: &Journal) -> bool {
        self.is_draining() && (journal.progress().1 < self.entries || journal.durable() < self.cut)
    }

    /// Returns whether segment writes are catching up.
    pub(super) fn is_draining(&self) -> bool {
        self.step == Step::Draining
    }

    /// Returns whether the checkpoint waits until deletions are durable.
    pub(super) fn awaits_deletions(&self) -> bool {
        matches!(self.step, Step::Draining | Step::Settling)
    }

    /// A log is cut back: what lies beyond need not be written.
    pub(super) fn lower_goal(&mut self, log: TopicPartition, end: Offset) {
        if let Some(goal) = self.goals.get_mut(&log) {
            *goal = (*goal).min(end);
        }
    }

    /// Returns whether the checkpoint waits for a log's segment writes.
    pub(super) fn waits_for(&self, log: TopicPartition) -> bool {
        self.step == Step::Draining && self.goals.contains_key(&log)
    }
}

impl LogStore {
    /// Returns whether nothing is on its way out that only the journal would still tell of.
    pub(super) fn may_begin_checkpoint(&self) -> bool {
        let is_idle = self.checkpoint.is_idle() && self.cutting.is_empty();
        is_idle && self.cleanups == 0 && self.doomed.is_empty()
    }

    /// Begins a checkpoint of everything appended so far.
    pub(super) fn begin_checkpoint(&mut self, fx: &mut Effects) {
        assert!(self.checkpoint.is_idle(), "one checkpoint at a time");
        let journal = self.journal.as_ref().expect("a store with a disk has a journal");
        let mut next = Checkpointing {
            step: Step::Draining,
            cut: journal.built(),
            entries: journal.progress().0,
            ..Checkpointing::default()
        };
        for (id, log) in &mut self.logs {
            if !log.dirty {
                next.logs.extend(log.image.clone().map(|image| (*id, image)));
                continue;
            }
            log.dirty = false;
            let mut image = log.image_now();
            // What a durable checkpoint names is not touched; at the same offset it says the same.
            let named = log.image.as_ref().and_then(|old| old.producers_at);
            let unknown = log.producer_files == ProducerFiles::Unknown;
            if unknown {
                // The next start finds no file of ours there, and looks into the segments again. The one before tells
                // of a log that ended earlier: taken for this one's, it would let a batch in twice.
                image.producers_at = Some(log.end);
            }
            next.logs.push((*id, image.clone()));
            if !log.is_memory() {
                next.goals.insert(*id, log.end);
            }
            let lost = log.producer_files == ProducerFiles::Lost;
            if lost {
                log.producer_files = ProducerFiles::Sound;
            }
            if let Some(at) = image.producers_at.filter(|at| lost || named != Some(*at)) {
                if !unknown {
                    next.snapshots.push((
                        *id,
                        segment_file(&log.folder, at, "producers"),
                        log.producers.encode_sidecar(),
                    ));
                }
                next.snapshots.push((
                    *id,
                    segment_file(&log.folder, at, "snapshot"),
                    log.producers.encode_snapshot(),
                ));
            }
            log.next_image = Some(image);
        }
        self.checkpoint = next;
        let logs: Vec<TopicPartition> = self.checkpoint.goals.keys().copied().collect();
        for log in logs {
            self.begin_run(log, fx);
        }
    }

    /// Begins a checkpoint where one is due, and goes on with one under way.
    pub(super) fn advance_checkpoint(&mut self, fx: &mut Effects) {
        // While segment writes catch up no operation of the checkpoint touches a folder.
        if self.checkpoint.is_idle() || self.checkpoint.is_draining() {
            self.finish_deletions(fx);
            self.advance_cuts(fx);
        }
        if self.checkpoint.is_idle() {
            let due = matches!(self.phase, Phase::Running)
                && self.may_begin_checkpoint()
                && (self.checkpoint.copy_is_behind
                    || self.journal.as_ref().is_some_and(Journal::has_sealed)
                    || self.buggify.strikes(Site::EarlyCheckpoint));
            if due {
                if self.checkpoint.copy_is_behind {
                    fx.mark(Mark::CheckpointMadeAlike);
                }
                self.begin_checkpoint(fx);
            }
        }
        if self.checkpoint.step == Step::Settling {
            self.write_when_settled(fx);
        }
        if self.checkpoint.step == Step::Draining {
            let logs = &self.logs;
            self.checkpoint.goals.retain(|id, end| {
                logs.get(id).is_some_and(|log| log.lags(*end) || log.folder_state != Folder::Made)
            });
            let journal = self.journal.as_ref().expect("a store with a disk has a journal");
            let durable = journal.progress().1 >= self.checkpoint.entries
                && journal.durable() >= self.checkpoint.cut;
            // A log deleted meanwhile is not written any more, so its deletion must be durable.
            // What is cut meanwhile is told of as it was, so the entry must be durable that cuts it.
            let settled = self.cleanups == 0
                && self.cutting.is_empty()
                && self.doomed.values().all(Doomed::is_durable);
            if self.checkpoint.goals.is_empty() && durable && settled {
                self.unlink_temporaries(fx);
            }
        }
    }

    fn unlink_temporaries(&mut self, fx: &mut Effects) {
        self.checkpoint.step = Step::Unlinks;
        let mut ops: Vec<Op> = checkpoint::files(self.config.shard)
            .iter()
            .map(|file| Op::Remove { file: checkpoint::temporary(file) })
            .collect();
        // A log that was deleted meanwhile may never have had a folder.
        let logs = &self.logs;
        self.checkpoint.snapshots.retain(|(id, ..)| logs.contains_key(id));
        for (_, file, _) in &self.checkpoint.snapshots {
            ops.push(Op::Remove { file: file.clone() });
        }
        for log in self.logs.values() {
            if log.writes_epochs() {
                ops.push(Op::Remove { file: log.folder.join(EPOCHS_TEMPORARY) });
            }
            let dirty = log.segments.iter().filter(|segment| segment.indexes_dirty);
            let written = log.next_image.is_some() && !log.is_memory();
            for segment in dirty.filter(|_| written) {
                for ending in ["index.tmp", "timeindex.tmp"] {
                    let file = segment_file(&log.folder, segment.extent.base, ending);
                    ops.push(Op::Remove { file });
                }
            }
            let dirty = log.segments.iter().filter(|segment| segment.transactions_dirty);
            for segment in dirty.filter(|_| written) {
                let file = segment_file(&log.folder, segment.extent.base, "txnindex.tmp");
                ops.push(Op::Remove { file });
            }
        }
        self.note_flushes();
        self.submit_step(ops, fx);
    }

    /// Notes which segments are to be flushed. What is cut from now on is flushed nevertheless.
    fn note_flushes(&mut self) {
        for log in self.logs.values_mut() {
            let Some(image) = log.next_image.as_ref().filter(|_| !log.is_memory()) else {
                continue;
            };
            for extent in &image.segments {
                let same = log.image.as_ref().is_some_and(|old| old.segments.contains(extent));
                // One that was cut off whole and begun anew may have no file yet.
                if log.written_bytes_of(extent.base).is_none() {
                    continue;
                }
                let segment = log.segments.iter_mut().find(|it| it.extent.base == extent.base);
                let Some(segment) = segment else { continue };
                if !same || std::mem::take(&mut segment.resized) {
                    let file = segment_file(&log.folder, extent.base, "log");
                    self.checkpoint.flushes.push(file);
                }
            }
        }
    }

    fn flush_files(&mut self, fx: &mut Effects) {
        self.checkpoint.step = Step::Files;
        let mut ops = Vec::new();
        self.checkpoint.directories.push(FileName::root());
        for (_, file, bytes) in std::mem::take(&mut self.checkpoint.snapshots) {
            ops.push(whole_file(file, bytes));
        }
        let flushes = std::mem::take(&mut self.checkpoint.flushes);
        ops.extend(flushes.into_iter().map(|file| Op::Sync { file }));
        for log in self.logs.values_mut() {
            let Some(image) = &log.next_image else { continue };
            if log.is_memory() {
                continue;
            }
            self.checkpoint.directories.push(log.folder.clone());
            let known = log.image.as_ref();
            if known.is_none() {
                ops.push(Op::Sync { file: log.folder.join(METADATA_FILE) });
            }
            if log.writes_epochs() {
                let file = log.folder.join(leader_epoch::CHECKPOINT_FILE);
                let temporary = log.folder.join(EPOCHS_TEMPORARY);
                ops.push(whole_file(
                    temporary.clone(),
                    log.epochs.encode_checkpoint().into_bytes(),
                ));
                self.checkpoint.renames.push((temporary, file));
            }
            for segment in &mut log.segments {
                let base = segment.extent.base;
                let told = image.segments.iter().find(|extent| extent.base == base);
                // Of a log that is cut now the next checkpoint tells.
                let Some(told) = told.filter(|_| !log.cutting) else { continue };
                if segment.transactions_dirty {
                    // What came meanwhile may not survive.
                    segment.transactions_dirty = segment.extent.end > told.end;
                    let aborted = log.producers.aborted_at(base, told.end);
                    let temporary = segment_file(&log.folder, base, "txnindex.tmp");
                    // Kafka has no file where there is nothing to tell.
                    if !aborted.is_empty() {
                        ops.push(whole_file(temporary.clone(), txn_index::encode(&aborted)));
                        let file = segment_file(&log.folder, base, "txnindex");
                        self.checkpoint.renames.push((temporary, file));
                    }
                }
                let Some(indexes) = &mut segment.indexes else { continue };
                if !std::mem::take(&mut segment.indexes_dirty) {
                    continue;
                }
                // With its largest timestamp in it the file tells all to the next start.
                indexes.times.add_entry();
                // Written beside and renamed: a longer one of an earlier life must not shine through.
                for (ending, bytes) in
                    [("index", indexes.offsets.encode()), ("timeindex", indexes.times.encode())]
                {
                    let temporary = segment_file(&log.folder, base, &format!("{ending}.tmp"));
                    ops.push(whole_file(temporary.clone(), bytes));
                    let file = segment_file(&log.folder, base, ending);
                    self.checkpoint.renames.push((temporary, file));
                }
            }
        }
        self.submit_step(ops, fx);
    }

    fn submit_step(&mut self, ops: Vec<Op>, fx: &mut Effects) {
        self.checkpoint.outstanding = ops.len();
        for op in ops {
            self.ops.submit(op, Purpose::Checkpoint, fx);
        }
        if self.checkpoint.outstanding == 0 {
            self.next_step(fx);
        }
    }

    pub(super) fn on_checkpoint_step(&mut self, fx: &mut Effects) {
        self.checkpoint.outstanding -= 1;
        if self.checkpoint.outstanding == 0 {
            self.next_step(fx);
        }
    }

    fn next_step(&mut self, fx: &mut Effects) {
        match self.checkpoint.step {
            Step::Idle | Step::Draining => unreachable!("these steps have no operations"),
            Step::Unlinks => self.flush_files(fx),
            Step::Files => {
                self.checkpoint.step = Step::Renames;
                let renames = std::mem::take(&mut self.checkpoint.renames);
                let ops = renames.into_iter().map(|(from, to)| Op::Rename { from, to }).collect();
                self.submit_step(ops, fx);
            }
            Step::Renames => {
                self.checkpoint.step = Step::Directories;
                let directories = std::mem::take(&mut self.checkpoint.directories);
                let ops =
                    directories.into_iter().map(|directory| Op::SyncDir { directory }).collect();
                self.submit_step(ops, fx);
            }
            Step::Directories => {
                self.checkpoint.step = Step::Settling;
                self.write_when_settled(fx);
            }
            Step::Settling => unreachable!("settling has no operations"),
            Step::Written => {
                self.checkpoint.step = Step::Renamed;
                let ops = checkpoint::files(self.config.shard)
                    .map(|to| Op::Rename { from: checkpoint::temporary(&to), to })
                    .into();
                self.submit_step(ops, fx);
            }
            Step::Renamed => {
                self.checkpoint.step = Step::Done;
                let ops = checkpoint::files(self.config.shard)
                    .map(|file| Op::SyncDir { directory: file.parent() })
                    .into();
                self.submit_step(ops, fx);
            }
            Step::Done => self.finish_checkpoint(fx),
        }
    }

    /// Writes the checkpoint beside the old one, once every deletion it does not tell of is durable.
    fn write_when_settled(&mut self, fx: &mut Effects) {
        if !self.doomed.values().all(Doomed::is_durable) {
            return;
        }
        self.checkpoint.step = Step::Written;
        let logs = std::mem::take(&mut self.checkpoint.logs);
        let checkpoint = Checkpoint { cut: self.checkpoint.cut, vote: self.vote, logs };
        let bytes = checkpoint.encode();
        let ops = checkpoint::files(self.config.shard)
            .map(|file| whole_file(checkpoint::temporary(&file), bytes.clone()))
            .into();
        self.submit_step(ops, fx);
    }

    fn finish_checkpoint(&mut self, fx: &mut Effects) {
        let cut = self.checkpoint.cut;
        self.checkpoint = Checkpointing::default();
        if let Some(journal) = &mut self.journal {
            journal.release(cut);
        }
        fx.count(Counter::Checkpoints, 1);
        let mut stale = Vec::new();
        for log in self.logs.values_mut() {
            let Some(image) = log.next_image.take() else { continue };
            let old = log.image.replace(image);
            let Some(old_at) = old.and_then(|old| old.producers_at) else { continue };
            if log.image.as_ref().is_some_and(|image| image.producers_at != Some(old_at)) {
                stale.push(segment_file(&log.folder, old_at, "producers"));
                stale.push(segment_file(&log.folder, old_at, "snapshot"));
            }
        }
        for file in stale {
            self.remove(file, fx);
        }
        self.finish_deletions(fx);
    }
}

impl PartitionLog {
    /// Returns whether the checkpoint under way writes Kafka's epoch file of this log anew.
    fn writes_epochs(&self) -> bool {
        let Some(image) = &self.next_image else { return false };
        !self.is_memory() && self.image.as_ref().is_none_or(|old| old.epochs != image.epochs)
    }
}

/// Writes a file that does not exist yet, whole and flushed.
fn whole_file(file: FileName, bytes: impl Into<Bytes>) -> Op {
    Op::Write { file, position: 0, body: WriteBody::Parts(vec![bytes.into()]), sync: Sync::Data }
}
