//! Segments behind the journal: writing runs of batches, making folders, and removing what has gone.
//!
//! Invariants:
//! 1. A log has at most one segment write under way, so its segments grow without holes.
//! 2. A folder or file is removed only after the journal entry that allows it is durable.
//! 3. Only names made here are removed: what else lies in a folder stays, and so does the folder.

use std::time::Duration;

use bytes::Bytes;

use crate::buggify::Site;
use crate::ids::{Offset, TopicPartition};
use crate::io::{Completion, CreateKind, Effects, EntryKind, FileName, Mark, Sync, WriteBody};
use crate::log::api::{LogEvent, Storage};
use crate::log::operations::{Op, Purpose};
use crate::log::partition_log::{Folder, PartitionLog};
use crate::log::segment::{Extent, segment_file};
use crate::log::snapshots::is_snapshot;
use crate::log::store::LogStore;
use crate::time::Now;

/// How long a batch may wait in memory before its segment write begins.
const WRITE_BEHIND_AFTER: Duration = Duration::from_secs(1);
/// Bytes of one log that begin a segment write at once.
const WRITE_BEHIND_BYTES: u64 = 1 << 20;
/// Most bytes of one segment write.
const RUN_BYTES: u64 = 4 << 20;
/// Kafka's file that names the topic of a folder. Flushed by the first checkpoint of the log; the
/// journal tells of the log until then.
pub(super) const METADATA_FILE: &str = "partition.metadata";
/// Folder that takes the folders of deleted logs until they are empty.
pub(super) const TRASH: &str = "trash";

/// A deleted log whose files are still there.
#[derive(Clone, Debug)]
pub(super) struct Doomed {
    folder: FileName,
    folder_state: Folder,
    writing: bool,
    /// Files that are still being cut.
    cuts: usize,
    durable: bool,
}

impl Doomed {
    /// Returns whether the deletion is durable.
    pub(super) const fn is_durable(&self) -> bool {
        self.durable
    }

    pub(super) const fn on_file_cut(&mut self) {
        self.cuts -= 1;
    }
}

impl LogStore {
    /// Sees to it that what became stable reaches its segment in time.
    pub(super) fn schedule_write(&mut self, now: Now, log: TopicPartition, fx: &mut Effects) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        if partition.is_memory() || partition.writing {
            return;
        }
        let now_or_never = self.checkpoint.waits_for(log)
            || (partition.lags(partition.stable) && self.buggify.strikes(Site::EarlyWrite));
        if partition.unwritten_bytes() >= WRITE_BEHIND_BYTES || now_or_never {
            self.begin_run(log, fx);
        } else if partition.write_due.is_none() && partition.lags(partition.stable) {
            let due = now.mono + WRITE_BEHIND_AFTER;
            partition.write_due = Some(due);
            self.write_due.insert((due, log));
        }
    }

    /// Writes the next run of a log, if there is one and none is under way.
    pub(super) fn begin_run(&mut self, log: TopicPartition, fx: &mut Effects) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        let most = if self.buggify.strikes(Site::SmallRun) { 1 } else { RUN_BYTES };
        let Some(run) = partition.next_run(most) else { return };
        partition.writing = true;
        partition.run_end = run.end;
        let op = Op::Write {
            file: run.file,
            position: run.position,
            body: WriteBody::Parts(run.parts),
            sync: Sync::None,
        };
        self.ops.submit(op, Purpose::WriteBehind(log), fx);
    }

    pub(super) fn on_run_written(&mut self, log: TopicPartition, fx: &mut Effects) {
        if let Some(doomed) = self.doomed.get_mut(&log) {
            doomed.writing = false;
            return;
        }
        self.on_space_again(fx);
        let Some(partition) = self.logs.get_mut(&log) else { return };
        let before = partition.unwritten_bytes();
        partition.writing = false;
        partition.written_end = partition.run_end;
        let left = partition.unwritten_bytes();
        self.unwritten_bytes -= before - left;
        let gone = partition.trim_segments();
        let folder = partition.folder.clone();
        for extent in gone {
            self.remove_segment(&folder, extent, fx);
        }
        let Some(partition) = self.logs.get_mut(&log) else { return };
        let wanted = left >= WRITE_BEHIND_BYTES
            || self.checkpoint.waits_for(log)
            || (partition.write_due.is_none() && partition.lags(partition.stable));
        if wanted {
            self.begin_run(log, fx);
        }
        self.evict(fx);
    }

    /// Drops the oldest batches from memory beyond the budget, as far as their segments are written.
    pub(super) fn evict(&mut self, fx: &mut Effects) {
        let budget =
            if self.buggify.strikes(Site::CacheMiss) { 0 } else { self.config.tail_cache_bytes };
        while self.cache_bytes > budget {
            let Some(&(log, base, size)) = self.cache.front() else { return };
            if let Some(partition) = self.logs.get_mut(&log)
                && partition.tail_start() <= base
                && partition.evict(base).is_none()
            {
                self.begin_run(log, fx);
                return;
            }
            self.cache.pop_front();
            self.cache_bytes -= size;
        }
    }

    /// Makes the folder of a log whose creation is durable, with Kafka's `partition.metadata`.
    pub(super) fn make_folder(&mut self, log: TopicPartition, fx: &mut Effects) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        if partition.settings.storage == Storage::Memory
            || partition.folder_state != Folder::Absent
            || !partition.created
            || self.leaving.contains(&partition.folder)
        {
            return;
        }
        partition.folder_state = Folder::Making;
        let op = Op::Create { file: partition.folder.clone(), kind: CreateKind::Directory };
        self.ops.submit(op, Purpose::Folder(log), fx);
    }

    pub(super) fn on_folder_made(&mut self, log: TopicPartition, op: &Op, fx: &mut Effects) {
        if let Op::Create { file: folder, .. } = op {
            let text = format!("version: 0\ntopic_id: {}", log.topic_id);
            let op = Op::Write {
                file: folder.join(METADATA_FILE),
                position: 0,
                body: WriteBody::Parts(vec![Bytes::from(text)]),
                sync: Sync::None,
            };
            self.ops.submit(op, Purpose::Folder(log), fx);
            return;
        }
        if let Some(doomed) = self.doomed.get_mut(&log) {
            doomed.folder_state = Folder::Made;
            return;
        }
        if let Some(partition) = self.logs.get_mut(&log) {
            partition.folder_state = Folder::Made;
            self.begin_run(log, fx);
        }
    }

    /// Sets a deleted log aside until its deletion is durable.
    pub(super) fn begin_deletion(&mut self, partition: PartitionLog) {
        let doomed = Doomed {
            folder_state: partition.folder_state,
            writing: partition.writing,
            cuts: self.cutting.remove(&partition.id).map_or(0, |cutting| cutting.outstanding()),
            durable: false,
            folder: partition.folder,
        };
        self.leaving.insert(doomed.folder.clone());
        self.doomed.insert(partition.id, doomed);
    }

    pub(super) fn on_deletion_durable(&mut self, log: TopicPartition) {
        if let Some(doomed) = self.doomed.get_mut(&log) {
            doomed.durable = true;
        }
    }

    /// Renames the folders of deleted logs away, once nothing writes to them.
    pub(super) fn finish_deletions(&mut self, fx: &mut Effects) {
        // A removal that is still under way must not meet a later folder of the same name.
        let untouched = self.checkpoint.is_idle() || self.checkpoint.is_draining();
        if !untouched || self.cleanups > 0 {
            return;
        }
        let ready: Vec<TopicPartition> = self
            .doomed
            .iter()
            .filter(|(_, doomed)| {
                doomed.durable
                    && !doomed.writing
                    && doomed.cuts == 0
                    && doomed.folder_state != Folder::Making
            })
            .map(|(log, _)| *log)
            .collect();
        let mut left = Vec::new();
        for log in ready {
            let doomed = self.doomed.remove(&log).expect("it was listed");
            if doomed.folder_state == Folder::Made {
                self.discard_folder(log, doomed.folder, fx);
            } else {
                left.push(doomed.folder);
            }
        }
        // A name is free once no deleted log has it any more and none is on its way to the trash.
        for folder in left {
            let taken = self.moving.contains(&folder)
                || self.doomed.values().any(|doomed| doomed.folder == folder);
            if !taken {
                self.on_folder_left(&folder, fx);
            }
        }
    }

    /// A write for a deleted log found no space: it is not tried again.
    pub(super) fn give_up_on(&mut self, log: TopicPartition, op: &Op) -> bool {
        let Some(doomed) = self.doomed.get_mut(&log) else { return false };
        doomed.writing = false;
        if doomed.folder_state == Folder::Making {
            let made = matches!(op, Op::Write { .. });
            doomed.folder_state = if made { Folder::Made } else { Folder::Absent };
        }
        true
    }

    /// Moves a folder to the trash, from where its files are removed one by one.
    pub(super) fn discard_folder(
        &mut self,
        log: TopicPartition,
        folder: FileName,
        fx: &mut Effects,
    ) {
        let to = FileName::new(TRASH).join(&format!("{}-{}", log.topic_id, log.partition));
        self.leaving.insert(folder.clone());
        self.moving.insert(folder.clone());
        self.cleanups += 1;
        self.ops.submit(Op::Rename { from: folder, to }, Purpose::Cleanup, fx);
    }

    pub(super) fn on_cleanup(&mut self, op: &Op, fx: &mut Effects) {
        self.cleanups -= 1;
        match op {
            Op::Rename { from, to } => {
                self.moving.remove(from);
                if !self.doomed.values().any(|doomed| doomed.folder == *from) {
                    self.on_folder_left(from, fx);
                }
                self.cleanups += 1;
                self.ops.submit(
                    Op::List { directory: to.clone() },
                    Purpose::CleanupList(to.clone()),
                    fx,
                );
            }
            Op::Remove { file } => {
                let folder = file.parent();
                if let Some(left) = self.emptying.get_mut(&folder) {
                    *left -= 1;
                    if *left == 0 {
                        self.emptying.remove(&folder);
                        self.remove(folder, fx);
                    }
                }
            }
            Op::List { .. } | Op::Truncate { .. } => {}
            Op::Write { .. }
            | Op::Read { .. }
            | Op::Create { .. }
            | Op::Sync { .. }
            | Op::SyncDir { .. }
            | Op::Space => unreachable!("cleaning up removes and renames"),
        }
        self.on_space_again(fx);
    }

    /// A folder's name is free: a log that was waiting for it gets its folder.
    fn on_folder_left(&mut self, folder: &FileName, fx: &mut Effects) {
        self.leaving.remove(folder);
        let waiting: Vec<TopicPartition> = self
            .logs
            .values()
            .filter(|log| log.folder == *folder && log.folder_state == Folder::Absent)
            .map(|log| log.id)
            .collect();
        for log in waiting {
            self.make_folder(log, fx);
        }
    }

    pub(super) fn on_cleanup_list(
        &mut self,
        folder: &FileName,
        completion: Completion,
        fx: &mut Effects,
    ) {
        self.cleanups -= 1;
        let Completion::Listed(entries) = completion else {
            unreachable!("a list is answered by a list");
        };
        let all = entries.len();
        let ours: Vec<String> = entries
            .into_iter()
            .filter(|entry| entry.kind == EntryKind::File && is_ours(&entry.name))
            .map(|entry| entry.name)
            .collect();
        let foreign = all - ours.len();
        if foreign > 0 {
            fx.mark(Mark::ForeignNameFound);
            fx.warn(format!("{folder} holds {foreign} names that are not ours; it stays"));
        } else if ours.is_empty() {
            self.remove(folder.clone(), fx);
        } else {
            // The folder goes once everything in it has gone.
            self.emptying.insert(folder.clone(), ours.len());
        }
        for name in ours {
            self.remove(folder.join(&name), fx);
        }
    }

    pub(super) fn remove(&mut self, file: FileName, fx: &mut Effects) {
        self.cleanups += 1;
        self.ops.submit(Op::Remove { file }, Purpose::Cleanup, fx);
    }

    /// Returns whether an operation flushes a segment that its log still has.
    pub(super) fn is_live_segment(&self, op: &Op) -> bool {
        let Op::Sync { file } = op else { return true };
        self.logs.values().any(|log| {
            log.folder == file.parent()
                && log
                    .segments
                    .iter()
                    .any(|segment| segment_file(&log.folder, segment.extent.base, "log") == *file)
        })
    }

    /// A log's start has moved durably: its segments below go.
    pub(super) fn on_start_durable(
        &mut self,
        log: TopicPartition,
        start: Offset,
        fx: &mut Effects,
    ) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        if partition.begins_anew() {
            // It has begun anew since.
            return;
        }
        let gone = partition.move_start(start);
        let folder = partition.folder.clone();
        for extent in gone {
            self.remove_segment(&folder, extent, fx);
        }
        self.events.push_back(LogEvent::LogStartMoved { log, start });
    }

    pub(super) fn remove_segment(&mut self, folder: &FileName, extent: Extent, fx: &mut Effects) {
        fx.mark(Mark::SegmentRemoved);
        fx.count(crate::io::Counter::SegmentsDeleted, 1);
        for ending in ["log", "index", "timeindex", "txnindex"] {
            self.remove(segment_file(folder, extent.base, ending), fx);
        }
    }
}

/// Returns whether a name in a partition's folder is one that this build makes.
pub(super) fn is_ours(name: &str) -> bool {
    if matches!(name, METADATA_FILE | "leader-epoch-checkpoint" | "leader-epoch-checkpoint.tmp") {
        return true;
    }
    if is_snapshot(name) {
        return true;
    }
    let Some((digits, ending)) = name.split_once('.') else { return false };
    digits.len() == 20
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(
            ending,
            "log"
                | "index"
                | "timeindex"
                | "txnindex"
                | "index.tmp"
                | "timeindex.tmp"
                | "txnindex.tmp"
                | "snapshot"
                | "producers"
        )
}
