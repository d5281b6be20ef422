//! Disk operations under way: what each completion is for, and what is tried again.
//!
//! Never tried again: a flush that failed. What lacks space or descriptors is tried again later.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::digest::Digest;
use crate::ids::{IoToken, TopicPartition};
use crate::io::{CreateKind, Effect, Effects, FileName, Mark, Sync, WriteBody};
use crate::log::snapshots::SnapshotStep;
use crate::time::Instant;

/// How long to wait before an operation that lacked space or descriptors is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One disk operation, kept whole so that it can be tried again.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Write { file: FileName, position: u64, body: WriteBody, sync: Sync },
    Read { file: FileName, position: u64, length: u64 },
    Create { file: FileName, kind: CreateKind },
    Sync { file: FileName },
    SyncDir { directory: FileName },
    Rename { from: FileName, to: FileName },
    Remove { file: FileName },
    Truncate { file: FileName, length: u64 },
    List { directory: FileName },
    Space,
}

impl Op {
    fn effect(self, token: IoToken) -> Effect {
        match self {
            Self::Write { file, position, body, sync } => {
                Effect::Write { file, position, body, sync, token }
            }
            Self::Read { file, position, length } => Effect::Read { file, position, length, token },
            Self::Create { file, kind } => Effect::Create { file, kind, token },
            Self::Sync { file } => Effect::Sync { file, token },
            Self::SyncDir { directory } => Effect::SyncDir { directory, token },
            Self::Rename { from, to } => Effect::Rename { from, to, token },
            Self::Remove { file } => Effect::Remove { file, token },
            Self::Truncate { file, length } => Effect::Truncate { file, length, token },
            Self::List { directory } => Effect::List { directory, token },
            Self::Space => Effect::Space { token },
        }
    }
}

/// What an operation was for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// A step of the journal.
    Journal(JournalStep),
    /// A step of recovery, with a number that recovery gave it.
    Recovery(usize),
    /// A run of batches of a log goes to its segment.
    WriteBehind(TopicPartition),
    /// A log's folder comes into being.
    Folder(TopicPartition),
    /// A step of the checkpoint.
    Checkpoint,
    /// A step of the deletion of a log's files, or of one file of a segment.
    Cleanup,
    /// A list of what a deleted log's folder holds.
    CleanupList(FileName),
    /// A step of a read.
    Read(u64),
    /// A step of cutting a log back.
    Cut(TopicPartition, CutStep),
    /// How much room there is.
    Space,
    /// A step on the way of the identity file.
    Identity,
    /// Something about snapshots of the metadata log.
    Snapshot(SnapshotStep),
}

/// Steps of cutting a log back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CutStep {
    /// The batch at the cut is looked for, by the search of this number.
    Find(u64),
    /// A file is cut or removed.
    File,
}

/// The journal's operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum JournalStep {
    Block,
    Head,
    Flush,
    Grow,
    GrowDirectory,
    GrowFailed,
}

/// All operations under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Operations {
    under_way: BTreeMap<IoToken, (Purpose, Op)>,
    again: VecDeque<(Instant, Purpose, Op)>,
}

impl Operations {
    pub(super) fn submit(&mut self, op: Op, purpose: Purpose, fx: &mut Effects) {
        let token = fx.token();
        fx.push(op.clone().effect(token));
        self.under_way.insert(token, (purpose, op));
    }

    pub(super) fn complete(&mut self, token: IoToken) -> Option<(Purpose, Op)> {
        self.under_way.remove(&token)
    }

    pub(super) fn retry_later(&mut self, now: Instant, purpose: Purpose, op: Op) {
        self.again.push_back((now + RETRY_AFTER, purpose, op));
    }

    pub(super) fn retry_due(&mut self, now: Instant, fx: &mut Effects) {
        while self.again.front().is_some_and(|(at, _, _)| *at <= now) {
            if let Some((_, purpose, op)) = self.again.pop_front() {
                fx.mark(Mark::OperationTriedAgain);
                self.submit(op, purpose, fx);
            }
        }
    }

    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.again.front().map(|(at, _, _)| *at)
    }

    /// Takes in what is under way, in the order of its beginning, and what is tried again. Tokens are
    /// names and stay out of it.
    pub(super) fn digest(&self, digest: &mut Digest) {
        for (purpose, op) in self.under_way.values() {
            digest.shown(purpose).shown(&std::mem::discriminant(op));
        }
        for (at, purpose, op) in &self.again {
            digest.shown(at).shown(purpose).shown(&std::mem::discriminant(op));
        }
    }

    /// Forgets everything, because the directory has failed or is closed.
    pub(super) fn forget(&mut self) {
        self.under_way.clear();
        self.again.clear();
    }
}
