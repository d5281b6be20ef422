//! Reading a data directory back after a start, and making an empty one.
//!
//! The checkpoint says what segments hold; above its cut the journal is the only truth. What the
//! journal holds above the last proven durable mark may live in the page cache alone, so it is
//! written again, as blocks behind the last valid one, and flushed before anything is served
//! (KAFKA-10101). A crash at any point of this leaves a directory that is read back the same way.
//!
//! Invariants:
//! 1. Nothing is written before identity, checkpoint and journal have been read. What refuses the
//!    directory later finds the start counted, and no record changed.
//! 2. No block is written over; recovery appends.
//! 3. Nothing is removed because it looks corrupt.

use bytes::Bytes;

use crate::buggify::Buggify;
use crate::digest::Digest;
use crate::ids::{Incarnation, TopicPartition, Uuid};
use crate::io::{
    Completion, CreateKind, DirectoryEntry, DiskError, DiskErrorKind, Effect, Effects, EntryKind,
    FileName, Mark, Sync, WriteBody,
};
use crate::log::block::{ALIGNMENT, BlockSequence};
use crate::log::checkpoint::{self, Checkpoint, CheckpointError};
use crate::log::identity::{Identity, IdentityError, META_FILE, META_TEMPORARY, SLOT_LEN, Starts};
use crate::log::journal::{FileState, Journal, RingFile};
use crate::log::operations::{Op, Purpose};
use crate::log::rebuild::{Fault, Rebuild};
use crate::log::scan::{FoundFile, Scan, ScanError, Scanned, first_block_claim, read_head};
use crate::log::store::{LogStore, Phase, random_ids};
use crate::log::write_behind::TRASH;
use crate::time::Now;

/// How far the count of starts goes on where it was lost: further than starts can have been cut short
/// since the last one that the journal tells of, so that no block of theirs is taken for a later one.
const LOST_STARTS: u32 = 1_024;
const JOURNAL_GONE: &str = "the journal's files are gone although a checkpoint speaks of them; \
                            restore the directory from a backup";
/// Largest small file that is read whole.
const SMALL_FILE: u64 = 1 << 20;

/// Reads the head of a file of the journal, and that of its first block.
fn head_of(file: &FileName) -> Op {
    Op::Read { file: file.clone(), position: 0, length: 2 * ALIGNMENT as u64 }
}

fn heads(outcomes: Vec<Option<Outcome>>) -> Result<Vec<Bytes>, String> {
    let brought = outcomes.into_iter().map(|outcome| {
        let bytes =
            content(outcome).map_err(|error| format!("cannot read the journal: {error}"))?;
        Ok(bytes.unwrap_or_default())
    });
    brought.collect()
}

fn has_head(bytes: &[u8], name: &FileName) -> bool {
    matches!(read_head(bytes, name), Ok(Some(_)))
}

/// What an empty directory's checkpoint says.
pub(super) const EMPTY: Checkpoint =
    Checkpoint { cut: BlockSequence(0), vote: None, logs: Vec::new() };

pub(super) type Outcome = Result<Completion, DiskError>;

#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Everything that says what the directory is.
    Survey,
    /// The heads of the journal's files.
    Heads {
        files: Vec<(u64, FileName, u64)>,
    },
    /// What brought no head is read `again` once: a read that went astray must not make a journal look like
    /// one that was never used.
    DoubtedHeads {
        files: Vec<(u64, FileName, u64)>,
        heads: Vec<Bytes>,
        again: Vec<usize>,
    },
    Scan(Box<Scan>),
    /// Directories are made, the start is counted.
    Directories,
    Unlinks,
    Writes,
    Renames,
    Flushes,
    /// Producer sidecars of the logs that have any.
    Producers {
        logs: Vec<TopicPartition>,
    },
    /// Segments of logs whose sidecars are damaged.
    Rebuild(Box<Rebuild>),
    /// Folders of logs whose journal entries lie above the checkpoint, and the trash.
    Folders {
        folders: Vec<FileName>,
    },
    /// The tail of the journal is written again.
    Rewrite,
}

/// Recovery under way.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    pub(super) stage: Stage,
    outcomes: Vec<Option<Outcome>>,
    outstanding: usize,
    pub(super) root: Vec<DirectoryEntry>,
    pub(super) identity: Option<Identity>,
    identity_is_new: bool,
    pub(super) starts: Option<Starts>,
    /// The slot of the incarnation file that takes the count of this start, `None` where the whole
    /// file is to be written.
    slot: Option<u64>,
    /// Whether somebody was told that the start waits for room on the disk.
    told_of_room: bool,
    pub(super) checkpoint: Option<Checkpoint>,
    /// The earliest block that a sound copy of the checkpoint goes by.
    pub(super) earliest_cut: BlockSequence,
    pub(super) files: Vec<RingFile>,
    pub(super) next_file_number: u64,
    pub(super) journal_id: u64,
    /// Files with a head, in the order of the scan: their places in `files` and first sequences.
    pub(super) found: Vec<(usize, BlockSequence)>,
    pub(super) scanned: Option<Scanned>,
    /// What is wrong with segments of logs whose producers are learned from them.
    pub(super) faults: Vec<Fault>,
    /// Files that logs without an image found in their folders. They may be those of a deleted log of
    /// the same name, whose deletion the page cache alone may hold: they go once it is flushed.
    pub(super) stale: Vec<FileName>,
}

impl Recovery {
    fn new() -> Self {
        Self {
            stage: Stage::Survey,
            outcomes: Vec::new(),
            outstanding: 0,
            root: Vec::new(),
            identity: None,
            identity_is_new: false,
            starts: None,
            slot: None,
            told_of_room: false,
            checkpoint: None,
            earliest_cut: BlockSequence::default(),
            files: Vec::new(),
            next_file_number: 0,
            journal_id: 0,
            found: Vec::new(),
            scanned: None,
            faults: Vec::new(),
            stale: Vec::new(),
        }
    }
}

impl Recovery {
    /// Takes in how far it has come. What it has read is for others to tell: it is what the start found.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.shown(&std::mem::discriminant(&self.stage)).number(self.outstanding as u64);
        if let Stage::Scan(scan) = &self.stage {
            scan.digest(digest);
        }
        for outcome in &self.outcomes {
            digest.number(u64::from(outcome.is_some()));
        }
    }
}

/// A file's content, `None` where there is no such file.
pub(super) fn content(outcome: Option<Outcome>) -> Result<Option<Bytes>, DiskError> {
    match outcome.expect("all operations of a stage have ended") {
        Ok(Completion::Read(bytes)) => Ok(Some(bytes)),
        Ok(_) => unreachable!("a read is answered by a read"),
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn listing(outcome: Option<Outcome>) -> Result<Vec<DirectoryEntry>, DiskError> {
    match outcome.expect("all operations of a stage have ended") {
        Ok(Completion::Listed(mut entries)) => {
            entries.sort();
            Ok(entries)
        }
        Ok(_) => unreachable!("a list is answered by a list"),
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl LogStore {
    pub(super) fn recovery(&mut self) -> &mut Recovery {
        match &mut self.phase {
            Phase::Recovering(recovery) => recovery,
            Phase::Unborn
            | Phase::Running
            | Phase::Stopping { .. }
            | Phase::Closed
            | Phase::Poisoned(_) => unreachable!("recovery is under way"),
        }
    }

    fn path(&self, name: &str) -> FileName {
        FileName::new(name.replace("{}", &self.config.shard.to_string()))
    }

    pub(super) fn enter(&mut self, stage: Stage, ops: Vec<Op>, fx: &mut Effects) {
        let recovery = self.recovery();
        recovery.stage = stage;
        recovery.outcomes = ops.iter().map(|_| None).collect();
        recovery.outstanding = ops.len();
        for (slot, op) in ops.into_iter().enumerate() {
            self.ops.submit(op, Purpose::Recovery(slot), fx);
        }
    }

    pub(super) fn begin_recovery(&mut self, fx: &mut Effects) {
        self.phase = Phase::Recovering(Box::new(Recovery::new()));
        let read = |file| Op::Read { file, position: 0, length: u64::from(u32::MAX) };
        let small = |file| Op::Read { file, position: 0, length: SMALL_FILE };
        let mut ops = vec![
            Op::List { directory: FileName::root() },
            small(FileName::new(META_FILE)),
            Op::List { directory: self.path("journal/{}") },
            small(self.path("journal/{}/incarnation")),
        ];
        ops.extend(checkpoint::files(self.config.shard).map(read));
        self.enter(Stage::Survey, ops, fx);
    }

    pub(super) fn on_recovery_done(
        &mut self,
        now: Now,
        slot: usize,
        outcome: Outcome,
        fx: &mut Effects,
    ) {
        let recovery = self.recovery();
        recovery.outcomes[slot] = Some(outcome);
        recovery.outstanding -= 1;
        if recovery.outstanding > 0 {
            return;
        }
        let outcomes = std::mem::take(&mut recovery.outcomes);
        let stage = std::mem::replace(&mut recovery.stage, Stage::Rewrite);
        if let Err(message) = self.advance_recovery(now, stage, outcomes, fx) {
            self.ops.forget();
            self.phase = Phase::Closed;
            fx.mark(Mark::StartRefused);
            fx.push(Effect::Fatal { message });
        }
    }

    fn advance_recovery(
        &mut self,
        now: Now,
        stage: Stage,
        mut outcomes: Vec<Option<Outcome>>,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let cannot = |error: DiskError| {
            format!("cannot use the data directory: {error}; check its owner, mode and disk")
        };
        match stage {
            Stage::Survey => self.survey(outcomes, fx),
            Stage::Heads { files } => self.read_heads(files, heads(outcomes)?, fx),
            Stage::DoubtedHeads { files, heads: mut found, again } => {
                let expected = self.recovery().starts.map(|starts| starts.journal_id);
                for (place, bytes) in again.into_iter().zip(heads(outcomes)?) {
                    let claimed = first_block_claim(&found[place], expected).is_some();
                    if has_head(&bytes, &files[place].1) || !claimed {
                        found[place] = bytes;
                    }
                }
                self.take_heads(files, found, fx)
            }
            Stage::Scan(mut scan) => {
                let bytes = content(outcomes.remove(0)).map_err(cannot)?.unwrap_or_default();
                scan.on_read(&bytes).map_err(|error| refuse(&error))?;
                self.go_on_scanning(*scan, fx)
            }
            Stage::Directories => {
                all_done(outcomes).map_err(cannot)?;
                let mut ops = vec![
                    Op::Create { file: self.path("journal/{}"), kind: CreateKind::Directory },
                    Op::Remove { file: self.path("journal/{}/incarnation.tmp") },
                ];
                for file in checkpoint::files(self.config.shard) {
                    ops.push(Op::Remove { file: checkpoint::temporary(&file) });
                }
                // Shard 0 alone writes it, while the others may still be on their way here.
                if self.config.shard.0 == 0 {
                    ops.push(Op::Remove { file: FileName::new(META_TEMPORARY) });
                }
                self.enter(Stage::Unlinks, ops, fx);
                Ok(())
            }
            Stage::Unlinks => {
                all_done(outcomes).map_err(cannot)?;
                self.count_start(fx);
                Ok(())
            }
            Stage::Writes => {
                all_done(outcomes).map_err(cannot)?;
                let mut ops = Vec::new();
                if self.recovery().slot.is_none() {
                    ops.push(Op::Rename {
                        from: self.path("journal/{}/incarnation.tmp"),
                        to: self.path("journal/{}/incarnation"),
                    });
                }
                if self.recovery().checkpoint.is_none() {
                    ops.extend(
                        checkpoint::files(self.config.shard)
                            .map(|to| Op::Rename { from: checkpoint::temporary(&to), to }),
                    );
                }
                if self.recovery().identity_is_new {
                    ops.push(Op::Rename {
                        from: FileName::new(META_TEMPORARY),
                        to: FileName::new(META_FILE),
                    });
                }
                if ops.is_empty() {
                    self.flush_directories(fx);
                } else {
                    self.enter(Stage::Renames, ops, fx);
                }
                Ok(())
            }
            Stage::Renames => {
                all_done(outcomes).map_err(cannot)?;
                self.flush_directories(fx);
                Ok(())
            }
            Stage::Flushes => {
                all_done(outcomes).map_err(cannot)?;
                self.read_producers(now, fx)
            }
            Stage::Rebuild(rebuild) => {
                self.on_rebuild_read(now, rebuild, outcomes.pop().flatten(), fx)
            }
            Stage::Producers { logs } => self.build_and_replay(now, &logs, outcomes, fx),
            Stage::Folders { folders } => {
                for (folder, outcome) in folders.iter().zip(outcomes) {
                    let entries = listing(outcome).map_err(cannot)?;
                    self.clean_folder(folder, &entries, fx);
                }
                self.resume_journal(now, fx);
                Ok(())
            }
            Stage::Rewrite => unreachable!("rewriting has no operations of its own"),
        }
    }

    fn survey(
        &mut self,
        mut outcomes: Vec<Option<Outcome>>,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let cannot = |error: DiskError| {
            format!("cannot use the data directory: {error}; check its owner, mode and disk")
        };
        let other = content(outcomes.pop().flatten()).map_err(cannot)?;
        let first = content(outcomes.pop().flatten()).map_err(cannot)?;
        let starts = content(outcomes.pop().flatten()).map_err(cannot)?;
        let journal = listing(outcomes.pop().flatten()).map_err(cannot)?;
        let meta = content(outcomes.pop().flatten()).map_err(cannot)?;
        let root = listing(outcomes.pop().flatten()).map_err(cannot)?;
        let node_id = self.config.node_id;
        let identity = match meta {
            Some(bytes) => Some(Identity::decode(&bytes).map_err(|error| {
                format!("cannot use {META_FILE}: {error}; start a build that knows it")
            })?),
            None => None,
        };
        if let Some(identity) = &identity
            && identity.node_id != node_id
        {
            return Err(format!(
                "the data directory belongs to node {}, this is node {node_id}; use the directory \
                 of node {node_id} or set node.id={}",
                identity.node_id, identity.node_id
            ));
        }
        let (starts, slot) = match starts.map(|bytes| Starts::decode(&bytes)) {
            Some(Ok((starts, slot))) => (Some(starts), slot),
            Some(Err(error @ IdentityError::Newer(_))) => {
                return Err(format!(
                    "cannot use {}: {error}; start a build that knows it",
                    self.path("journal/{}/incarnation")
                ));
            }
            // Counted anew, see `count_start`.
            Some(Err(_)) | None => (None, None),
        };
        let checkpoint = self.take_checkpoint([first, other], fx)?;
        let mut files = Vec::new();
        for entry in journal {
            let number = entry.name.strip_suffix(".journal").filter(|digits| digits.len() == 8);
            let number = number.and_then(|digits| digits.parse::<u64>().ok());
            if let (Some(number), EntryKind::File) = (number, entry.kind) {
                let name = Journal::file_name(&Journal::folder_name(&self.config), number);
                files.push((number, name, entry.length));
            }
        }
        if identity.is_none() && !files.is_empty() && self.config.shard.0 == 0 {
            return Err(format!(
                "the data directory has a journal but no {META_FILE}; restore that file from a backup"
            ));
        }
        let (cluster_id, directory_id, journal_id) = random_ids(self.config.seed);
        // One of several belongs to no cluster before that is formed; one alone is its own.
        let cluster_id = if self.config.is_member { Uuid::default() } else { cluster_id };
        let mut is_new = identity.is_none();
        let mut identity = identity.unwrap_or_else(|| {
            let voters = Vec::new();
            Identity { cluster_id, node_id, directory_id, voters }
        });
        if identity.cluster_id.is_zero() && !cluster_id.is_zero() {
            identity.cluster_id = cluster_id;
            is_new = true;
        }
        let recovery = self.recovery();
        recovery.root = root;
        recovery.identity_is_new = is_new;
        recovery.identity = Some(identity);
        recovery.starts = starts;
        recovery.slot = slot;
        recovery.checkpoint = checkpoint;
        recovery.journal_id = starts.map_or(journal_id, |starts| starts.journal_id);
        recovery.next_file_number = files.iter().map(|(number, ..)| number + 1).max().unwrap_or(0);
        if files.is_empty() {
            let used = recovery.checkpoint.as_ref().is_some_and(|found| found.cut.0 > 0);
            if used {
                return Err(JOURNAL_GONE.to_owned());
            }
            self.make_directories(fx);
            return Ok(());
        }
        let ops = files.iter().map(|(_, file, _)| head_of(file)).collect();
        self.enter(Stage::Heads { files }, ops, fx);
        Ok(())
    }

    /// Returns the later of the checkpoints that are sound, `None` where there is none at all. What
    /// the earlier one needs is kept until both places hold the same again.
    fn take_checkpoint(
        &mut self,
        found: [Option<Bytes>; 2],
        fx: &mut Effects,
    ) -> Result<Option<Checkpoint>, String> {
        let mut sound: Option<Checkpoint> = None;
        let mut unusable = Vec::new();
        let mut cuts = Vec::new();
        let mut newer = false;
        for (file, bytes) in checkpoint::files(self.config.shard).into_iter().zip(found) {
            let found = bytes.map(Checkpoint::decode);
            if let Some(Ok(checkpoint)) = &found {
                cuts.push(checkpoint.cut);
            }
            match found {
                Some(Ok(checkpoint))
                    if sound.as_ref().is_none_or(|other| other.cut < checkpoint.cut) =>
                {
                    sound = Some(checkpoint);
                }
                // A version that is not known may be a damaged one, where the other copy is sound.
                Some(Err(error)) => {
                    newer |= matches!(error, CheckpointError::Newer(_));
                    unusable.push(format!("{file}: {error}"));
                }
                // A directory of an earlier build has one copy.
                Some(Ok(_)) | None => {}
            }
        }
        self.checkpoint.copy_is_behind = cuts.first() != cuts.last() || cuts.len() == 1;
        self.recovery().earliest_cut = cuts.into_iter().min().unwrap_or_default();
        let told = unusable.join(", ");
        if sound.is_none() && !unusable.is_empty() {
            let then =
                if newer { "start a build that knows it" } else { "restore it from a backup" };
            return Err(format!("cannot use the checkpoint ({told}); {then}"));
        }
        if !unusable.is_empty() {
            fx.mark(Mark::CheckpointCopyUsed);
            fx.warn(format!("{told}; the other copy of the checkpoint is used"));
        }
        Ok(sound)
    }

    fn read_heads(
        &mut self,
        files: Vec<(u64, FileName, u64)>,
        heads: Vec<Bytes>,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let doubted = files.iter().zip(&heads).enumerate();
        let doubted = doubted.filter(|(_, ((_, name, _), bytes))| !has_head(bytes, name));
        let again: Vec<usize> = doubted.map(|(place, _)| place).collect();
        if again.is_empty() {
            return self.take_heads(files, heads, fx);
        }
        let ops = again.iter().map(|&place| head_of(&files[place].1)).collect();
        self.enter(Stage::DoubtedHeads { files, heads, again }, ops, fx);
        Ok(())
    }

    fn take_heads(
        &mut self,
        files: Vec<(u64, FileName, u64)>,
        heads: Vec<Bytes>,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let expected = self.recovery().starts.map(|starts| starts.journal_id);
        let (mut found, mut headless) = (Vec::new(), Vec::new());
        for ((_, name, length), bytes) in files.into_iter().zip(heads) {
            let head = read_head(&bytes, &name).map_err(|error| error.to_string())?;
            let recovery = self.recovery();
            let place = recovery.files.len();
            recovery.files.push(RingFile {
                name: name.clone(),
                // A file that was being added when the node stopped is shorter than it should be.
                length: length - length % ALIGNMENT as u64,
                state: FileState::Free,
            });
            let Some(head) = head else {
                if let Some(claims) = first_block_claim(&bytes, expected) {
                    headless.push((name, claims));
                }
                continue;
            };
            if let Some(expected) = expected
                && head.journal_id != expected
            {
                return Err(format!(
                    "{name} belongs to another journal; the directory was mixed with another: \
                     restore it from a backup"
                ));
            }
            recovery.journal_id = head.journal_id;
            recovery.found.push((place, head.first_sequence));
            found.push(FoundFile { name, length, first_sequence: head.first_sequence });
        }
        let recovery = self.recovery();
        let cut = recovery.checkpoint.as_ref().map(|checkpoint| checkpoint.cut);
        if cut.is_none() && !found.is_empty() {
            return Err(format!(
                "{} and its copy are gone, without which nobody knows what the segments hold; restore \
                 one from a backup",
                self.path("checkpoint/{}")
            ));
        }
        if found.is_empty() && cut.is_some_and(|cut| cut.0 > 0) {
            return Err(JOURNAL_GONE.to_owned());
        }
        let journal_id = recovery.journal_id;
        let buggify = Buggify::new(self.config.buggify, self.config.seed ^ 3);
        let scan =
            Scan::new(journal_id, found, cut, headless, buggify).map_err(|error| refuse(&error))?;
        self.go_on_scanning(scan, fx)
    }

    fn go_on_scanning(&mut self, mut scan: Scan, fx: &mut Effects) -> Result<(), String> {
        if let Some((file, position, length)) = scan.next_read() {
            let op = Op::Read { file, position, length };
            self.enter(Stage::Scan(Box::new(scan)), vec![op], fx);
            return Ok(());
        }
        let scanned = scan.finish().map_err(|error| refuse(&error))?;
        if scanned.torn {
            fx.mark(Mark::TornTailCut);
        }
        self.recovery().scanned = Some(scanned);
        self.make_directories(fx);
        Ok(())
    }

    fn make_directories(&mut self, fx: &mut Effects) {
        let ops = ["journal", "checkpoint", TRASH]
            .map(|name| Op::Create { file: FileName::new(name), kind: CreateKind::Directory })
            .into();
        self.enter(Stage::Directories, ops, fx);
    }

    fn flush_directories(&mut self, fx: &mut Effects) {
        let ops = ["journal/{}", "journal", "checkpoint", ""]
            .map(|name| Op::SyncDir { directory: self.path(name) })
            .into();
        self.enter(Stage::Flushes, ops, fx);
    }

    /// An operation of the start found no room or no descriptor: the start waits for some.
    pub(super) fn on_recovery_without_room(&mut self, error: &DiskError, fx: &mut Effects) {
        let recovery = self.recovery();
        if !std::mem::replace(&mut recovery.told_of_room, true) {
            fx.mark(Mark::StartWaits);
            fx.warn(format!("the start waits, because something is used up ({error}); free some"));
        }
    }

    /// Counts this start durably, before anything of it is written to the journal.
    fn count_start(&mut self, fx: &mut Effects) {
        let shard = self.config.shard;
        let file = self.path("journal/{}/incarnation");
        let temporary = self.path("journal/{}/incarnation.tmp");
        let lost =
            format!("{file} is gone or damaged; starts are counted from far beyond the journal");
        let recovery = self.recovery();
        let seen =
            recovery.scanned.as_ref().map_or(Incarnation(0), |scanned| scanned.last.incarnation());
        let counted = recovery.starts.map_or(Incarnation(0), |starts| starts.incarnation);
        let is_lost = recovery.starts.is_none() && !recovery.files.is_empty();
        let further = if is_lost { LOST_STARTS } else { 1 };
        if is_lost {
            fx.mark(Mark::StartsCountLost);
            fx.warn(lost);
        }
        let incarnation = Incarnation(seen.max(counted).0 + further);
        let starts = Starts { journal_id: recovery.journal_id, incarnation };
        recovery.starts = Some(starts);
        recovery.identity_is_new &= shard.0 == 0;
        let whole = |file, bytes: Bytes| Op::Write {
            file,
            position: 0,
            body: WriteBody::Parts(vec![bytes]),
            sync: Sync::Data,
        };
        let mut ops = vec![match recovery.slot {
            // In place, which needs no room: a full disk does not keep a node from starting.
            Some(slot) => Op::Write {
                file,
                position: slot * SLOT_LEN as u64,
                body: WriteBody::Parts(vec![starts.encode_slot()]),
                sync: Sync::Data,
            },
            None => whole(temporary, starts.encode_file()),
        }];
        if recovery.checkpoint.is_none() {
            // So that one that is missing later is known to have been lost.
            let files = checkpoint::files(shard);
            ops.extend(files.map(|file| whole(checkpoint::temporary(&file), EMPTY.encode())));
        }
        if recovery.identity_is_new {
            let identity = recovery.identity.as_ref().expect("the survey found or made it");
            let text = identity.encode().into();
            ops.push(whole(FileName::new(META_TEMPORARY), text));
        }
        self.enter(Stage::Writes, ops, fx);
    }
}

/// What the operator is told about a journal that cannot be used.
fn refuse(error: &ScanError) -> String {
    if matches!(error, ScanError::Unknown { .. }) {
        return format!("{error}; start a build that knows it");
    }
    format!(
        "{error}; the node does not start, because acknowledged records would be lost: restore the \
         directory from a backup, or move it away to begin anew"
    )
}

fn all_done(outcomes: Vec<Option<Outcome>>) -> Result<(), DiskError> {
    for outcome in outcomes {
        outcome.expect("all operations of a stage have ended")?;
    }
    Ok(())
}
