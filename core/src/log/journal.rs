//! The journal of one shard: a ring of pre-written files into which every change goes first.
//!
//! Entries are gathered into blocks. While the journal is idle a block leaves with the entry that
//! begins it; while one is in flight the next gathers, so a flush is shared by all that arrive
//! during it and nobody waits for a timer.
//!
//! Invariants:
//! 1. A block that holds acknowledged bytes is never written over before its file is released.
//! 2. The durable mark covers a gapless prefix: a block counts as durable only when every block
//!    before it is, lazily written ones and those of other files included. Until a start has written
//!    the tail that it found once more, marks say no more than was proven before.
//! 3. A file's head is durable before its first block is written; where a start cannot tell, it writes
//!    the head again.
//! 4. A flush that failed is never tried again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::buggify::{Buggify, Site};
use crate::digest::Digest;
use crate::ids::Incarnation;
use crate::io::{Counter, CreateKind, Effects, FileName, Mark, Sync, WriteBody};
use crate::log::api::LogConfig;
use crate::log::block::{ALIGNMENT, BlockHeader, BlockPlan, BlockSequence, Entry, FileHead};
use crate::log::operations::{JournalStep, Op, Operations, Purpose};
use crate::time::{Instant, Now, UnixMillis};

/// How long lazily written blocks may wait for their flush.
const LAZY_FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How long the journal is idle before it writes a block that proves the last one.
const PROOF_AFTER: Duration = Duration::from_millis(200);

/// How long entries wait where a simulation has it so.
const LATE_BLOCK: Duration = Duration::from_millis(3);

/// How long to wait before a file is added again after there was no room for one.
const GROW_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What must have happened to an entry before those who wait for it are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// Its block is written.
    Written,
    /// Its block is flushed.
    Flushed,
}

#[derive(Clone, Debug)]
pub(super) struct RingFile {
    pub(super) name: FileName,
    pub(super) length: u64,
    pub(super) state: FileState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileState {
    /// May be taken into use.
    Free,
    /// Takes the blocks.
    Active,
    /// Holds blocks up to this one that a checkpoint does not cover yet.
    Sealed(BlockSequence),
}

#[derive(Clone, Debug)]
enum Busy {
    Idle,
    Block {
        plan: BlockPlan,
        sync: Sync,
    },
    /// The active file is flushed, either because lazy blocks waited long enough or because the
    /// journal goes on in another file.
    Flush {
        up_to: BlockSequence,
    },
    Head {
        file: usize,
    },
}

/// A block that has reached what its entries needed.
#[derive(Debug)]
pub(super) struct BlockDone {
    pub(super) plan: BlockPlan,
    /// The block as it was written.
    pub(super) block: Bytes,
}

#[derive(Clone, Debug)]
pub(super) struct Journal {
    folder: FileName,
    first_file_bytes: u64,
    file_bytes: u64,
    max_bytes: u64,
    block_bytes: usize,
    pub(super) id: u64,
    incarnation: Incarnation,
    next_counter: u64,
    files: Vec<RingFile>,
    next_file_number: u64,
    active: Option<usize>,
    position: u64,
    gathered: VecDeque<(Entry, Need)>,
    gathered_bytes: usize,
    busy: Busy,
    /// The last block that was built.
    built: BlockSequence,
    /// The last block whose write has completed.
    written: BlockSequence,
    /// The end of the gapless durable prefix.
    durable: BlockSequence,
    /// What the marks of durable blocks prove.
    proven: BlockSequence,
    /// While the tail that a start found is written again, what marks may say, and how many entries that tail has.
    /// What stands there already proves nothing: a flush may have failed before, and one now says nothing of it.
    rewriting: Option<(BlockSequence, u64)>,
    /// The last block that holds more than a mark.
    last_content: BlockSequence,
    proof_wanted: bool,
    unsynced_since: Option<Instant>,
    idle_since: Instant,
    growing: Option<u64>,
    /// No file is added before this moment, because the last try found no room.
    grow_after: Instant,
    starved: Option<usize>,
    /// What the head of the active file says, where it may live in the page cache alone: a flush that failed
    /// before this start left it there. It is written again before any block.
    head_in_doubt: Option<BlockSequence>,
    enqueued: u64,
    done: u64,
    pub(super) wall: UnixMillis,
    /// What each block tells of the hold on deletion by age, in minutes.
    pub(super) hold_minutes: u16,
    /// Whether entries that wait must be written before any file can be released: recovery, or a
    /// checkpoint that covers them. The ring grows beyond its bound then, by what they need.
    pub(super) urgent: bool,
    /// Bytes that a file may take, `None` where that is not known.
    pub(super) spare: Option<u64>,
    /// Until when entries wait although they could be written.
    held_until: Option<Instant>,
    buggify: Buggify,
}

/// Where a journal stands at the end of recovery.
#[derive(Clone, Debug)]
pub(super) struct JournalState {
    pub(super) id: u64,
    pub(super) incarnation: Incarnation,
    pub(super) files: Vec<RingFile>,
    pub(super) next_file_number: u64,
    pub(super) active: Option<(usize, u64)>,
    pub(super) last: BlockSequence,
    /// Up to where something proves that blocks are on the device; those behind may live in the page
    /// cache alone.
    pub(super) durable: BlockSequence,
    /// The first sequence of the active file where nothing proves that its head is on the device.
    pub(super) head_in_doubt: Option<BlockSequence>,
}

impl Journal {
    pub(super) fn folder_name(config: &LogConfig) -> FileName {
        FileName::new(format!("journal/{}", config.shard))
    }

    pub(super) fn file_name(folder: &FileName, number: u64) -> FileName {
        folder.join(&format!("{number:08}.journal"))
    }

    pub(super) fn resume(config: &LogConfig, state: JournalState, now: Now) -> Self {
        let (active, position) = match state.active {
            Some((file, position)) => (Some(file), position),
            None => (None, 0),
        };
        Self {
            folder: Self::folder_name(config),
            first_file_bytes: config.journal_first_file_bytes,
            file_bytes: config.journal_file_bytes,
            max_bytes: config.journal_max_bytes,
            block_bytes: config.journal_block_bytes,
            id: state.id,
            incarnation: state.incarnation,
            next_counter: 1,
            files: state.files,
            next_file_number: state.next_file_number,
            active,
            position,
            gathered: VecDeque::new(),
            gathered_bytes: 0,
            busy: Busy::Idle,
            built: state.last,
            written: state.last,
            durable: state.durable,
            proven: state.durable,
            rewriting: None,
            last_content: state.durable,
            proof_wanted: false,
            unsynced_since: None,
            idle_since: now.mono,
            growing: None,
            grow_after: Instant::ZERO,
            starved: None,
            head_in_doubt: state.head_in_doubt,
            enqueued: 0,
            done: 0,
            wall: now.wall,
            hold_minutes: 0,
            urgent: true,
            spare: None,
            held_until: None,
            buggify: Buggify::new(config.buggify, config.seed ^ 2),
        }
    }

    /// Adds an entry behind all others.
    pub(super) fn enqueue(&mut self, entry: Entry, need: Need) {
        self.gathered_bytes += entry.encoded_len();
        self.gathered.push_back((entry, need));
        self.enqueued += 1;
    }

    /// Says that all entries so far are those of the tail that the start has found.
    pub(super) fn rewrites_tail(&mut self) {
        self.rewriting = (self.durable < self.written).then_some((self.durable, self.enqueued));
    }

    /// Asks for a block that carries the mark of everything durable so far.
    pub(super) fn want_proof(&mut self) {
        self.proof_wanted = true;
    }

    /// Returns how many entries were ever added, and how many of these have what they need.
    pub(super) const fn progress(&self) -> (u64, u64) {
        (self.enqueued, self.done)
    }

    /// Returns bytes of entries that wait for a block.
    pub(super) const fn gathered_bytes(&self) -> usize {
        self.gathered_bytes
    }

    /// Returns whether the journal waits for a file to be released or added.
    pub(super) const fn is_starved(&self) -> bool {
        self.starved.is_some()
    }

    /// Returns the number of this start.
    pub(super) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Returns the last block that was built.
    pub(super) const fn built(&self) -> BlockSequence {
        self.built
    }

    /// Returns what durable marks prove.
    pub(super) const fn proven(&self) -> BlockSequence {
        self.proven
    }

    pub(super) const fn durable(&self) -> BlockSequence {
        self.durable
    }

    /// Returns whether a file waits for a checkpoint.
    pub(super) fn has_sealed(&self) -> bool {
        self.files.iter().any(|file| matches!(file.state, FileState::Sealed(_)))
    }

    pub(super) const fn in_flight(&self) -> bool {
        !matches!(self.busy, Busy::Idle)
    }

    /// Returns whether nothing waits: every entry has what it needs and is durable.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.busy, Busy::Idle) && self.gathered.is_empty() && self.durable == self.written
    }

    /// Makes every file free whose blocks a durable checkpoint covers.
    pub(super) fn release(&mut self, cut: BlockSequence) {
        for file in &mut self.files {
            if matches!(file.state, FileState::Sealed(last) if last <= cut) {
                file.state = FileState::Free;
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.in_flight() {
            return None;
        }
        if self.held_until.is_some() {
            return self.held_until;
        }
        if self.starved.is_some() {
            return (self.grow_after > Instant::ZERO && self.growing.is_none())
                .then_some(self.grow_after);
        }
        let flush = self.unsynced_since.map(|since| since + LAZY_FLUSH_AFTER);
        let proof = (self.proven < self.last_content && self.unsynced_since.is_none())
            .then(|| self.idle_since + PROOF_AFTER);
        match (flush, proof) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Does what can be done: writes a block, goes on in another file, adds a file, flushes.
    pub(super) fn pump(&mut self, now: Now, ops: &mut Operations, fx: &mut Effects) {
        if !self.in_flight() {
            self.begin_next(now, ops, fx);
        }
        self.grow_if_needed(now, ops, fx);
    }

    /// Flushes lazily written blocks at once, because the journal is being closed.
    pub(super) fn flush_soon(&mut self) {
        if self.unsynced_since.is_some() {
            self.unsynced_since = Some(Instant::ZERO);
        }
    }

    fn begin_next(&mut self, now: Now, ops: &mut Operations, fx: &mut Effects) {
        if self.gathered.is_empty() {
            if self.unsynced_since.is_some_and(|since| since + LAZY_FLUSH_AFTER <= now.mono) {
                self.begin_flush(ops, fx);
                return;
            }
            if self.proven >= self.last_content {
                self.proof_wanted = false;
                return;
            }
            let due = self.proof_wanted || self.idle_since + PROOF_AFTER <= now.mono;
            if !due || self.last_content > self.durable {
                return;
            }
            fx.mark(Mark::ProofWritten);
            self.enqueue(Entry::Close, Need::Flushed);
        }
        if self.waits(now) {
            return;
        }
        if let (Some(first), Some(active)) = (self.head_in_doubt.take(), self.active) {
            self.write_head(active, first, ops, fx);
            return;
        }
        let (count, entries_len) = self.next_block();
        let length = BlockPlan::sealed_len_of(entries_len) as u64;
        let fits =
            self.active.is_some_and(|file| self.files[file].length >= self.position + length);
        if !fits {
            self.switch_file(length, ops, fx);
            return;
        }
        self.write_block(now, count, ops, fx);
    }

    /// Returns whether entries wait for a moment, as they would for a slow disk.
    fn waits(&mut self, now: Now) -> bool {
        if let Some(until) = self.held_until {
            if until > now.mono {
                return true;
            }
            self.held_until = None;
        } else if self.buggify.strikes(Site::LateBlock) {
            self.held_until = Some(now.mono + LATE_BLOCK);
            return true;
        }
        false
    }

    /// Returns how many entries the next block takes, and their bytes.
    fn next_block(&mut self) -> (usize, usize) {
        let mut bytes = 0;
        let mut count = 0;
        let alone = self.gathered.len() > 1 && self.buggify.strikes(Site::SmallBlock);
        for (entry, _) in &self.gathered {
            let len = entry.encoded_len();
            if count > 0 && (alone || bytes + len > self.block_bytes) {
                break;
            }
            bytes += len;
            count += 1;
        }
        (count, bytes)
    }

    fn write_block(&mut self, now: Now, count: usize, ops: &mut Operations, fx: &mut Effects) {
        let mut flushed = false;
        let taken = self.gathered.drain(..count).map(|(entry, need)| {
            flushed |= need == Need::Flushed;
            entry
        });
        let entries: Vec<Entry> = taken.collect();
        // Under steady lazy traffic no idle moment comes: what waited long enough is flushed along,
        // and so is a block that has to prove the one before it.
        let overdue = self.unsynced_since.is_some_and(|since| since + LAZY_FLUSH_AFTER <= now.mono);
        let sync = if flushed || overdue || self.proof_wanted { Sync::Data } else { Sync::None };
        if sync == Sync::Data && self.last_content <= self.durable {
            self.proof_wanted = false;
        }
        self.gathered_bytes -= entries.iter().map(Entry::encoded_len).sum::<usize>();
        if count > 1 {
            fx.mark(Mark::BlockGathered);
        }
        let sequence = BlockSequence::new(self.incarnation, self.next_counter);
        self.next_counter += 1;
        let header = BlockHeader {
            journal_id: self.id,
            sequence,
            position: self.position,
            durable_mark: self.rewriting.map_or(self.durable, |(mark, _)| mark),
            wall: self.wall,
            hold_minutes: self.hold_minutes,
        };
        if entries.iter().any(|entry| !matches!(entry, Entry::Close)) {
            self.last_content = sequence;
        }
        let plan = BlockPlan::new(header, entries);
        let file = &self.files[self.active.expect("a block fits only an active file")];
        let op = Op::Write {
            file: file.name.clone(),
            position: self.position,
            body: WriteBody::Block(plan.clone()),
            sync,
        };
        self.position += plan.sealed_len() as u64;
        assert!(self.position <= file.length, "a block stays inside its file");
        self.built = sequence;
        fx.count(Counter::JournalBlocks, 1);
        fx.count(Counter::JournalBytes, plan.sealed_len() as u64);
        ops.submit(op, Purpose::Journal(JournalStep::Block), fx);
        self.busy = Busy::Block { plan, sync };
    }

    fn begin_flush(&mut self, ops: &mut Operations, fx: &mut Effects) {
        let file = &self.files[self.active.expect("unsynced blocks lie in the active file")];
        ops.submit(Op::Sync { file: file.name.clone() }, Purpose::Journal(JournalStep::Flush), fx);
        self.busy = Busy::Flush { up_to: self.written };
    }

    fn switch_file(&mut self, length: u64, ops: &mut Operations, fx: &mut Effects) {
        if self.unsynced_since.is_some() {
            // The mark of the first block in the other file must not pass a gap.
            self.begin_flush(ops, fx);
            return;
        }
        let needed = length + ALIGNMENT as u64;
        let free = self
            .files
            .iter()
            .position(|file| file.state == FileState::Free && file.length >= needed);
        let Some(free) = free else {
            if self.starved.is_none() {
                fx.mark(Mark::JournalStarved);
            }
            self.starved = Some(needed as usize);
            return;
        };
        self.starved = None;
        let first = BlockSequence::new(self.incarnation, self.next_counter);
        self.write_head(free, first, ops, fx);
    }

    fn write_head(
        &mut self,
        file: usize,
        first_sequence: BlockSequence,
        ops: &mut Operations,
        fx: &mut Effects,
    ) {
        let head = FileHead { journal_id: self.id, first_sequence };
        ops.submit(
            Op::Write {
                file: self.files[file].name.clone(),
                position: 0,
                body: WriteBody::Parts(vec![head.encode()]),
                sync: Sync::Data,
            },
            Purpose::Journal(JournalStep::Head),
            fx,
        );
        self.busy = Busy::Head { file };
    }

    fn grow_if_needed(&mut self, now: Now, ops: &mut Operations, fx: &mut Effects) {
        if self.growing.is_some() || self.grow_after > now.mono {
            return;
        }
        self.grow_after = Instant::ZERO;
        let has_free = self.files.iter().any(|file| {
            file.state == FileState::Free
                && self.starved.is_none_or(|needed| file.length >= needed as u64)
        });
        let half_used = self.active.is_none_or(|file| self.position > self.files[file].length / 2);
        // A large block may not fit although little is used.
        if has_free || !(half_used || self.starved.is_some()) {
            return;
        }
        let needed = self.starved.map_or(0, |needed| needed as u64).next_multiple_of(4096);
        let wanted = if self.files.is_empty() { self.first_file_bytes } else { self.file_bytes };
        let fits = |length: u64| self.spare.is_none_or(|spare| length <= spare);
        let length = [wanted, self.first_file_bytes]
            .map(|length| length.max(needed))
            .into_iter()
            .find(|&length| fits(length) || self.urgent);
        if let Some(length) = length {
            self.grow(length, ops, fx);
        }
    }

    fn grow(&mut self, length: u64, ops: &mut Operations, fx: &mut Effects) {
        let total: u64 = self.files.iter().map(|file| file.length).sum();
        // Two files are kept back, so that urgent growth seldom passes the bound.
        let bound = self.max_bytes.saturating_sub(2 * self.file_bytes);
        let allowed = total + length <= bound || self.files.len() < 2;
        if !(allowed || (self.urgent && self.starved.is_some())) {
            return;
        }
        self.growing = Some(length);
        ops.submit(
            Op::Create {
                file: Self::file_name(&self.folder, self.next_file_number),
                kind: CreateKind::Filled { length },
            },
            Purpose::Journal(JournalStep::Grow),
            fx,
        );
    }

    /// The added file is filled; its directory entry must be durable before it is used.
    pub(super) fn on_grown(&self, ops: &mut Operations, fx: &mut Effects) {
        ops.submit(
            Op::SyncDir { directory: self.folder.clone() },
            Purpose::Journal(JournalStep::GrowDirectory),
            fx,
        );
    }

    pub(super) fn on_grown_durably(&mut self, fx: &mut Effects) {
        let length = self.growing.take().expect("a file was being added");
        self.files.push(RingFile {
            name: Self::file_name(&self.folder, self.next_file_number),
            length,
            state: FileState::Free,
        });
        self.next_file_number += 1;
        fx.mark(Mark::JournalGrew);
    }

    /// There was no room for the file. What was made of it goes; a smaller one may fit.
    pub(super) fn on_grow_failed(&self, ops: &mut Operations, fx: &mut Effects) {
        fx.mark(Mark::JournalGrowthFailed);
        ops.submit(
            Op::Remove { file: Self::file_name(&self.folder, self.next_file_number) },
            Purpose::Journal(JournalStep::GrowFailed),
            fx,
        );
    }

    /// Tries a smaller file, or waits a while.
    pub(super) fn on_grow_failure_cleaned(
        &mut self,
        now: Now,
        ops: &mut Operations,
        fx: &mut Effects,
    ) {
        let tried = self.growing.take().expect("a file was being added");
        let needed = self.starved.map_or(0, |needed| needed as u64).next_multiple_of(4096);
        let smaller = self.first_file_bytes.max(needed);
        if smaller < tried {
            self.grow(smaller, ops, fx);
        }
        if self.growing.is_none() {
            self.grow_after = now.mono + GROW_AGAIN_AFTER;
        }
    }

    /// Takes the completion of a block's write.
    pub(super) fn on_block_written(
        &mut self,
        now: Now,
        block: Bytes,
        fx: &mut Effects,
    ) -> BlockDone {
        let Busy::Block { plan, sync } = std::mem::replace(&mut self.busy, Busy::Idle) else {
            unreachable!("a block was in flight");
        };
        let sequence = plan.header().sequence;
        assert!(sequence > self.written, "blocks complete in their order");
        self.written = sequence;
        self.idle_since = now.mono;
        match sync {
            Sync::Data => {
                self.durable = sequence;
                self.proven = self.proven.max(plan.header().durable_mark);
                self.unsynced_since = None;
                fx.count(Counter::JournalFlushes, 1);
            }
            Sync::None => {
                self.unsynced_since.get_or_insert(now.mono);
            }
        }
        self.done += plan.entries().len() as u64;
        let done = self.done;
        self.rewriting.take_if(|(_, entries)| *entries <= done);
        BlockDone { plan, block }
    }

    /// Takes the completion of a flush of lazily written blocks.
    pub(super) fn on_flushed(&mut self, fx: &mut Effects) {
        let Busy::Flush { up_to } = std::mem::replace(&mut self.busy, Busy::Idle) else {
            unreachable!("a flush was in flight");
        };
        self.durable = up_to;
        self.unsynced_since = None;
        fx.count(Counter::JournalFlushes, 1);
    }

    /// The head of the next file is durable: the journal goes on there.
    pub(super) fn on_head_written(&mut self, fx: &mut Effects) {
        let Busy::Head { file } = std::mem::replace(&mut self.busy, Busy::Idle) else {
            unreachable!("a head was in flight");
        };
        if self.active == Some(file) {
            return;
        }
        if let Some(old) = self.active {
            self.files[old].state = FileState::Sealed(self.built);
            fx.mark(Mark::JournalRecycled);
        }
        self.files[file].state = FileState::Active;
        self.active = Some(file);
        self.position = ALIGNMENT as u64;
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.number(self.id).number(self.built.0).number(self.written.0).number(self.durable.0);
        digest.number(self.proven.0).number(self.last_content.0).number(self.position);
        digest.shown(&(self.active, &self.unsynced_since, self.idle_since, self.proof_wanted));
        digest.shown(&(self.growing, self.grow_after, self.starved, self.urgent, self.spare));
        digest.shown(&(self.head_in_doubt, self.rewriting));
        digest.number(self.enqueued).number(self.done).signed(self.wall.0);
        digest.number(u64::from(self.hold_minutes)).number(self.next_file_number);
        digest.number(match &self.busy {
            Busy::Idle => 0,
            Busy::Block { sync: Sync::None, .. } => 1,
            Busy::Block { sync: Sync::Data, .. } => 2,
            Busy::Flush { .. } => 3,
            Busy::Head { .. } => 4,
        });
        for (entry, need) in &self.gathered {
            match entry {
                Entry::Append { log, batch, .. } => digest.shown(log).bytes(batch.header()),
                Entry::Truncate { .. }
                | Entry::LogStart { .. }
                | Entry::Create { .. }
                | Entry::Delete { .. }
                | Entry::Vote { .. }
                | Entry::Reserve { .. }
                | Entry::Close => digest.shown(entry),
            };
            digest.shown(need);
        }
        for file in &self.files {
            digest.text(file.name.as_str()).number(file.length);
            digest.number(match file.state {
                FileState::Free => 0,
                FileState::Active => 1,
                FileState::Sealed(last) => last.0,
            });
        }
    }
}
