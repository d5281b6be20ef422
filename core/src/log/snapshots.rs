//! Snapshots of the metadata log: whole files beside its segments, written once and read in pieces.
//!
//! What stands in one is nothing to this module. A draft is written beside its name, flushed, renamed, and the
//! directories are flushed; only then it counts. There is one draft at a time, and whoever makes it hands its
//! bytes over piece by piece.
//!
//! Invariants:
//! 1. A snapshot counts only when it survives a loss of power: what a start finds counts once the directories are
//!    flushed.
//! 2. A draft is never written over another's bytes, and one that is given up is removed before the next begins.
//! 3. Nothing is removed because it looks corrupt: what is [not sound](LogStore::distrust_snapshot) is neither
//!    used nor served, and goes as others do, once newer ones make it needless.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::ids::{Offset, SnapshotId, TopicPartition};
use crate::io::{
    Completion, DirectoryEntry, DiskError, DiskErrorKind, Effects, EntryKind, FileName,
};
use crate::io::{Sync, WriteBody};
use crate::log::api::{LogEvent, ReadError, ReadTicket};
use crate::log::operations::{Op, Purpose};
use crate::log::partition_log::Folder;
use crate::log::store::{LogStore, Phase};

const METADATA: TopicPartition = TopicPartition::CLUSTER_METADATA;
const FOLDER: &str = "__cluster_metadata-0";
/// What a draft's name ends in.
const TEMPORARY: &str = ".tmp";

/// What an operation on snapshots was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SnapshotStep {
    /// The folder is looked through.
    Find,
    /// The directories are flushed, so that what was found counts.
    FindFlush,
    /// The draft goes on.
    Draft,
    /// A piece is read.
    Read(ReadTicket),
}

/// The snapshots of the metadata log.
#[derive(Clone, Default, Debug)]
pub(super) struct Snapshots {
    kept: BTreeMap<SnapshotId, Kept>,
    /// Flushes until what was found counts.
    finding: usize,
    draft: Option<Draft>,
}

#[derive(Clone, Debug)]
struct Kept {
    bytes: u64,
    /// All of it, where no file is ever opened.
    memory: Option<Bytes>,
    is_sound: bool,
}

/// One that is being written.
#[derive(Clone, Debug)]
struct Draft {
    id: SnapshotId,
    /// Bytes that are written or being written.
    bytes: u64,
    waiting: VecDeque<Vec<Bytes>>,
    memory: Vec<Bytes>,
    step: DraftStep,
    is_whole: bool,
    is_given_up: bool,
    outstanding: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DraftStep {
    Unlinking,
    Ready,
    Writing,
    Flushing,
    Renaming,
    Directories,
    Removing,
}

fn file(id: SnapshotId) -> FileName {
    FileName::new(FOLDER).join(&id.file_name())
}

fn temporary(id: SnapshotId) -> FileName {
    FileName::new(format!("{}{TEMPORARY}", file(id)))
}

/// Returns whether a name in the folder of the metadata log is that of a snapshot or a draft.
pub(super) fn is_snapshot(name: &str) -> bool {
    SnapshotId::of_file_name(name.strip_suffix(TEMPORARY).unwrap_or(name)).is_some()
}

impl LogStore {
    /// Looks for snapshots that are there from before; ends with [`LogEvent::SnapshotsFound`].
    pub fn find_snapshots(&mut self, fx: &mut Effects) {
        if self.config.memory_only {
            self.events.push_back(LogEvent::SnapshotsFound);
            return;
        }
        let op = Op::List { directory: FileName::new(FOLDER) };
        self.ops.submit(op, Purpose::Snapshot(SnapshotStep::Find), fx);
    }

    fn on_snapshots_listed(&mut self, entries: Vec<DirectoryEntry>, fx: &mut Effects) {
        for entry in entries.into_iter().filter(|entry| entry.kind == EntryKind::File) {
            if let Some(id) = SnapshotId::of_file_name(&entry.name) {
                let kept = Kept { bytes: entry.length, memory: None, is_sound: true };
                self.snapshots.kept.insert(id, kept);
            } else if is_snapshot(&entry.name) {
                self.remove(FileName::new(FOLDER).join(&entry.name), fx);
            }
        }
        if self.snapshots.kept.is_empty() {
            self.events.push_back(LogEvent::SnapshotsFound);
            return;
        }
        self.snapshots.finding = 2;
        for directory in [FileName::new(FOLDER), FileName::root()] {
            let op = Op::SyncDir { directory };
            self.ops.submit(op, Purpose::Snapshot(SnapshotStep::FindFlush), fx);
        }
    }

    /// Returns the snapshots that count and are not known to be damaged, with their sizes in bytes, the oldest
    /// first.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = (SnapshotId, u64)> + '_ {
        let sound = self.snapshots.kept.iter().filter(|(_, kept)| kept.is_sound);
        sound.map(|(id, kept)| (*id, kept.bytes))
    }

    /// Returns the newest of them.
    pub fn latest_snapshot(&self) -> Option<SnapshotId> {
        self.snapshots().next_back().map(|(id, _)| id)
    }

    /// Neither uses nor serves a snapshot from now on, because it is damaged.
    pub fn distrust_snapshot(&mut self, id: SnapshotId) {
        if let Some(kept) = self.snapshots.kept.get_mut(&id) {
            kept.is_sound = false;
        }
    }

    /// Removes the snapshots that end before an offset. The caller has seen to it that nobody needs them.
    pub fn remove_snapshots_before(&mut self, end: Offset, fx: &mut Effects) {
        let gone = self.snapshots.kept.keys().filter(|id| id.end_offset < end);
        let gone: Vec<SnapshotId> = gone.copied().collect();
        for id in gone {
            let kept = self.snapshots.kept.remove(&id);
            if kept.is_some_and(|kept| kept.memory.is_none()) {
                self.remove(file(id), fx);
            }
        }
    }

    /// Reads a piece of a snapshot; ends with [`LogEvent::SnapshotRead`]. Nothing of it is checked.
    pub fn read_snapshot(
        &mut self,
        id: SnapshotId,
        (position, length): (u64, u64),
        ticket: ReadTicket,
        fx: &mut Effects,
    ) {
        let Some(kept) = self.snapshots.kept.get(&id) else {
            let result = Err(ReadError::Gone);
            self.events.push_back(LogEvent::SnapshotRead { ticket, result });
            return;
        };
        if let Some(bytes) = &kept.memory {
            let from = position.min(kept.bytes) as usize;
            let to = position.saturating_add(length).min(kept.bytes) as usize;
            let result = Ok(bytes.slice(from..to));
            self.events.push_back(LogEvent::SnapshotRead { ticket, result });
            return;
        }
        let op = Op::Read { file: file(id), position, length };
        self.ops.submit(op, Purpose::Snapshot(SnapshotStep::Read(ticket)), fx);
    }

    /// Returns whether a snapshot is being written, or one that was given up is still there.
    pub const fn is_drafting(&self) -> bool {
        self.snapshots.draft.is_some()
    }

    /// Begins to write a snapshot. Returns whether that can be done now.
    pub fn begin_snapshot(&mut self, id: SnapshotId, fx: &mut Effects) -> bool {
        let is_memory = self.config.memory_only;
        let has_folder = self
            .logs
            .get(&METADATA)
            .is_some_and(|log| is_memory || log.folder_state == Folder::Made);
        if self.is_drafting() || !has_folder || !matches!(self.phase, Phase::Running) {
            return false;
        }
        let step = if is_memory { DraftStep::Ready } else { DraftStep::Unlinking };
        self.snapshots.draft = Some(Draft {
            id,
            bytes: 0,
            waiting: VecDeque::new(),
            memory: Vec::new(),
            step,
            is_whole: false,
            is_given_up: false,
            outstanding: 0,
        });
        if !is_memory {
            self.draft_op(Op::Remove { file: temporary(id) }, fx);
        }
        true
    }

    /// Hands over the next bytes of the draft; ends with [`LogEvent::SnapshotPiece`].
    pub fn append_to_snapshot(&mut self, parts: Vec<Bytes>, fx: &mut Effects) {
        let draft = self.snapshots.draft.as_mut().expect("a draft was begun");
        draft.waiting.push_back(parts);
        self.go_on_drafting(fx);
    }

    /// Says that the draft is whole; ends with [`LogEvent::SnapshotWritten`], and there is no way back.
    pub fn finish_snapshot(&mut self, fx: &mut Effects) {
        let draft = self.snapshots.draft.as_mut().expect("a draft was begun");
        draft.is_whole = true;
        self.go_on_drafting(fx);
    }

    /// Gives the draft up, unless it is whole.
    pub fn give_up_snapshot(&mut self, fx: &mut Effects) {
        let Some(draft) = &mut self.snapshots.draft else { return };
        if draft.is_whole {
            return;
        }
        draft.is_given_up = true;
        draft.waiting.clear();
        if self.config.memory_only {
            self.snapshots.draft = None;
            return;
        }
        self.go_on_drafting(fx);
    }

    fn draft_op(&mut self, op: Op, fx: &mut Effects) {
        if let Some(draft) = &mut self.snapshots.draft {
            draft.outstanding += 1;
            self.ops.submit(op, Purpose::Snapshot(SnapshotStep::Draft), fx);
        }
    }

    /// Does what is next, where nothing is under way.
    fn go_on_drafting(&mut self, fx: &mut Effects) {
        if self.config.memory_only {
            return self.draft_in_memory();
        }
        let Some(draft) = &mut self.snapshots.draft else { return };
        if draft.step != DraftStep::Ready || draft.outstanding > 0 {
            return;
        }
        let op = if draft.is_given_up {
            draft.step = DraftStep::Removing;
            Op::Remove { file: temporary(draft.id) }
        } else if let Some(parts) = draft.waiting.pop_front() {
            draft.step = DraftStep::Writing;
            let position = draft.bytes;
            draft.bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
            let (file, body) = (temporary(draft.id), WriteBody::Parts(parts));
            Op::Write { file, position, body, sync: Sync::None }
        } else if draft.is_whole {
            draft.step = DraftStep::Flushing;
            Op::Sync { file: temporary(draft.id) }
        } else {
            return;
        };
        self.draft_op(op, fx);
    }

    fn draft_in_memory(&mut self) {
        let Some(draft) = &mut self.snapshots.draft else { return };
        let id = draft.id;
        for parts in std::mem::take(&mut draft.waiting) {
            draft.memory.extend(parts);
            self.events.push_back(LogEvent::SnapshotPiece(id));
        }
        if draft.is_whole {
            let bytes = Bytes::from(draft.memory.concat());
            let kept = Kept { bytes: bytes.len() as u64, memory: Some(bytes), is_sound: true };
            self.snapshots.draft = None;
            self.snapshots.kept.insert(id, kept);
            self.events.push_back(LogEvent::SnapshotWritten(id));
        }
    }

    fn on_draft_step(&mut self, fx: &mut Effects) {
        let Some(draft) = &mut self.snapshots.draft else { return };
        let (id, bytes) = (draft.id, draft.bytes);
        draft.outstanding -= 1;
        if draft.outstanding > 0 {
            return;
        }
        match draft.step {
            DraftStep::Ready => unreachable!("nothing is under way"),
            DraftStep::Unlinking => draft.step = DraftStep::Ready,
            DraftStep::Writing => {
                draft.step = DraftStep::Ready;
                if !draft.is_given_up {
                    self.events.push_back(LogEvent::SnapshotPiece(id));
                }
            }
            DraftStep::Flushing => {
                draft.step = DraftStep::Renaming;
                return self.draft_op(Op::Rename { from: temporary(id), to: file(id) }, fx);
            }
            DraftStep::Renaming => {
                draft.step = DraftStep::Directories;
                // The folder itself may be as new.
                for directory in [FileName::new(FOLDER), FileName::root()] {
                    self.draft_op(Op::SyncDir { directory }, fx);
                }
                return;
            }
            DraftStep::Directories => {
                self.snapshots.draft = None;
                let kept = Kept { bytes, memory: None, is_sound: true };
                self.snapshots.kept.insert(id, kept);
                self.events.push_back(LogEvent::SnapshotWritten(id));
            }
            DraftStep::Removing => self.snapshots.draft = None,
        }
        self.go_on_drafting(fx);
    }

    pub(super) fn on_snapshot_done(
        &mut self,
        step: SnapshotStep,
        completion: Completion,
        fx: &mut Effects,
    ) {
        match step {
            SnapshotStep::Find => {
                let Completion::Listed(entries) = completion else {
                    unreachable!("a list is answered by a list");
                };
                self.on_snapshots_listed(entries, fx);
            }
            SnapshotStep::FindFlush => {
                self.snapshots.finding -= 1;
                if self.snapshots.finding == 0 {
                    self.events.push_back(LogEvent::SnapshotsFound);
                }
            }
            SnapshotStep::Draft => {
                self.on_space_again(fx);
                self.on_draft_step(fx);
            }
            SnapshotStep::Read(ticket) => {
                let Completion::Read(bytes) = completion else {
                    unreachable!("a read is answered by a read");
                };
                self.events.push_back(LogEvent::SnapshotRead { ticket, result: Ok(bytes) });
            }
        }
    }

    /// Takes in that an operation failed. Returns whether that is all there is to it.
    pub(super) fn on_snapshot_failed(&mut self, step: SnapshotStep, error: &DiskError) -> bool {
        match step {
            // There is no folder yet.
            SnapshotStep::Find if error.kind == DiskErrorKind::NotFound => {
                self.events.push_back(LogEvent::SnapshotsFound);
                true
            }
            SnapshotStep::Read(ticket) if error.kind != DiskErrorKind::Exhausted => {
                let result = Err(if error.kind == DiskErrorKind::NotFound {
                    ReadError::Gone
                } else {
                    ReadError::Disk(error.to_string().into())
                });
                self.events.push_back(LogEvent::SnapshotRead { ticket, result });
                true
            }
            SnapshotStep::Find
            | SnapshotStep::FindFlush
            | SnapshotStep::Draft
            | SnapshotStep::Read(_) => false,
        }
    }
}
