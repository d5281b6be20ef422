//! The disk of one node: page image and durable image, and every way in which they differ.
//!
//! A process crash leaves what had reached the page image, with the operations in flight applied
//! wholly, partly or not at all. Power loss leaves the durable image and any subset of what was
//! pending: sectors, lengths and changes of names, each for itself.
//!
//! Invariants:
//! 1. Operations on one name complete in the order of their submission, others in any order.
//! 2. A flush that succeeds covers what was written to the file before it; one that fails drops
//!    it from what will ever be durable, although it reads back.
//! 3. An operation of a dead incarnation never completes.

mod choices;
mod inode;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainspring_core::ids::{IoToken, ShardId};
use mainspring_core::io::{
    Completion, CreateKind, DirectoryEntry, DiskError, DiskErrorKind, Effect, EntryKind, FileName,
    Sync, WriteBody,
};

use crate::rng::Rng;
use crate::trace::TraceHash;
use tree::{Refusal, Tree};

/// What a disk is like and how it misbehaves. Probabilities are in 1/1000 of operations.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// What is written whole or not at all: 512 or 4096 bytes.
    pub sector: u64,
    /// Most bytes of all files together, `None` for no limit.
    pub capacity: Option<u64>,
    /// Mean time of an operation that need not reach the device, in nanoseconds.
    pub latency: u64,
    /// Mean time of a flush, in nanoseconds.
    pub flush_latency: u64,
    /// How often an operation takes a hundred times as long.
    pub slow: u32,
    /// How often a read fails.
    pub read_error: u32,
    /// How often a write fails after a part of it.
    pub write_error: u32,
    /// How often a flush fails.
    pub flush_error: u32,
    /// How often an operation that needs space finds none, whatever the capacity.
    pub no_space: u32,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            sector: 4096,
            capacity: None,
            latency: 50_000,
            flush_latency: 1_000_000,
            slow: 0,
            read_error: 0,
            write_error: 0,
            flush_error: 0,
            no_space: 0,
        }
    }
}

/// How often the disk did what.
#[derive(Clone, Copy, Default, Debug)]
pub struct DiskCounters {
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Flushes that failed.
    pub flush_errors: u64,
    /// Operations that found no space.
    pub no_space: u64,
    /// Operations that took a hundred times as long.
    pub slow: u64,
    /// Operations in flight at a crash of the process that were applied in part.
    pub torn: u64,
    /// Pieces that power loss took.
    pub lost_units: u64,
    /// Bits flipped at rest.
    pub rotted: u64,
}

/// A finished operation.
#[derive(Debug)]
pub struct Finished {
    /// The shard that asked for it.
    pub shard: ShardId,
    /// Its token.
    pub token: IoToken,
    /// How it ended.
    pub result: Result<Completion, DiskError>,
}

/// Names an operation in flight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OperationId(u64);

#[derive(Clone, Debug)]
struct InFlight {
    shard: ShardId,
    token: IoToken,
    operation: Operation,
}

/// An effect that touches files, without its token.
#[derive(Clone, Debug)]
enum Operation {
    Write { file: FileName, position: u64, body: WriteBody, sync: Sync },
    Read { file: FileName, position: u64, length: u64 },
    Create { file: FileName, kind: CreateKind },
    Sync { file: FileName },
    SyncDir { directory: FileName },
    Rename { from: FileName, to: FileName },
    Remove { file: FileName },
    Truncate { file: FileName, length: u64 },
    List { directory: FileName },
    Space { directory: FileName },
}

impl Operation {
    fn of(effect: Effect) -> Result<(Self, IoToken), Effect> {
        Ok(match effect {
            Effect::Write { file, position, body, sync, token } => {
                (Self::Write { file, position, body, sync }, token)
            }
            Effect::Read { file, position, length, token } => {
                (Self::Read { file, position, length }, token)
            }
            Effect::Create { file, kind, token } => (Self::Create { file, kind }, token),
            Effect::Sync { file, token } => (Self::Sync { file }, token),
            Effect::SyncDir { directory, token } => (Self::SyncDir { directory }, token),
            Effect::Rename { from, to, token } => (Self::Rename { from, to }, token),
            Effect::Remove { file, token } => (Self::Remove { file }, token),
            Effect::Truncate { file, length, token } => (Self::Truncate { file, length }, token),
            Effect::List { directory, token } => (Self::List { directory }, token),
            Effect::Space { token } => (Self::Space { directory: FileName::root() }, token),
            other => return Err(other),
        })
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Read { .. } => "read",
            Self::Create { .. } => "create",
            Self::Sync { .. } => "fsync",
            Self::SyncDir { .. } => "fsync of the directory",
            Self::Rename { .. } => "rename",
            Self::Remove { .. } => "remove",
            Self::Truncate { .. } => "truncate",
            Self::List { .. } => "list",
            Self::Space { .. } => "space",
        }
    }

    /// Returns the name that an error speaks of.
    fn name(&self) -> &FileName {
        match self {
            Self::Write { file, .. }
            | Self::Read { file, .. }
            | Self::Create { file, .. }
            | Self::Sync { file }
            | Self::Rename { from: file, .. }
            | Self::Remove { file }
            | Self::Truncate { file, .. }
            | Self::SyncDir { directory: file }
            | Self::List { directory: file }
            | Self::Space { directory: file } => file,
        }
    }

    /// Returns how many bytes it writes.
    fn len(&self) -> u64 {
        if let Self::Write { body, .. } = self {
            body.len()
        } else if let Self::Create { kind: CreateKind::Filled { length }, .. } = self {
            *length
        } else {
            0
        }
    }

    fn flushes(&self) -> bool {
        matches!(
            self,
            Self::Write { sync: Sync::Data, .. }
                | Self::Sync { .. }
                | Self::SyncDir { .. }
                | Self::Create { kind: CreateKind::Filled { .. }, .. }
        )
    }

    fn error(&self, (kind, message): Refusal) -> DiskError {
        DiskError {
            operation: self.word(),
            file: self.name().clone(),
            kind,
            message: message.into(),
        }
    }
}

/// The disk of one node. Copies share the files that neither of them has changed since.
#[derive(Clone, Debug)]
pub struct SimDisk {
    options: DiskOptions,
    tree: Tree,
    in_flight: BTreeMap<OperationId, InFlight>,
    /// When the last operation on each name ends.
    busy: BTreeMap<FileName, u64>,
    next: u64,
    rng: Rng,
    counters: DiskCounters,
}

impl SimDisk {
    /// Makes an empty disk.
    pub fn new(options: DiskOptions, rng: Rng) -> Self {
        Self {
            options,
            tree: Tree::default(),
            in_flight: BTreeMap::new(),
            busy: BTreeMap::new(),
            next: 0,
            rng,
            counters: DiskCounters::default(),
        }
    }

    /// Returns the options, for a fault to change them.
    pub fn options_mut(&mut self) -> &mut DiskOptions {
        &mut self.options
    }

    /// Returns how often what happened.
    pub fn counters(&self) -> DiskCounters {
        self.counters
    }

    /// Takes an effect that touches files. Returns the operation and when it will end; `finish` is
    /// to be called at that moment.
    ///
    /// # Errors
    /// Hands back an effect that touches no file.
    pub fn submit(
        &mut self,
        at: u64,
        shard: ShardId,
        effect: Effect,
    ) -> Result<(OperationId, u64), Effect> {
        let (operation, token) = Operation::of(effect)?;
        let mean =
            if operation.flushes() { self.options.flush_latency } else { self.options.latency };
        let mut takes = self.rng.exponential(mean) + 1;
        if self.rng.chance(self.options.slow) {
            self.counters.slow += 1;
            takes *= 100;
        }
        let mut begins = at.max(self.busy.get(operation.name()).copied().unwrap_or(0));
        if let Operation::Rename { to, .. } = &operation {
            begins = begins.max(self.busy.get(to).copied().unwrap_or(0));
        }
        let ends = begins + takes;
        self.busy.insert(operation.name().clone(), ends);
        if let Operation::Rename { to, .. } = &operation {
            self.busy.insert(to.clone(), ends);
        }
        let id = OperationId(self.next);
        self.next += 1;
        self.in_flight.insert(id, InFlight { shard, token, operation });
        Ok((id, ends))
    }

    /// Carries out an operation whose time has come. `None` if a crash has taken it.
    pub fn finish(&mut self, id: OperationId) -> Option<Finished> {
        let InFlight { shard, token, operation } = self.in_flight.remove(&id)?;
        let result = self.carry_out(&operation).map_err(|refusal| operation.error(refusal));
        Some(Finished { shard, token, result })
    }

    /// Returns the operations in flight, oldest first.
    pub fn in_flight(&self) -> impl Iterator<Item = OperationId> + '_ {
        self.in_flight.keys().copied()
    }

    /// Describes the operations in flight, oldest first, for a person.
    pub fn describe_in_flight(&self) -> Vec<String> {
        let describe = |InFlight { operation, .. }: &InFlight| {
            let place = if let Operation::Write { position, .. } = operation {
                format!(" at {position}, {} bytes", operation.len())
            } else {
                String::new()
            };
            format!("{} of {}{place}", operation.word(), operation.name())
        };
        self.in_flight.values().map(describe).collect()
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<Completion, Refusal> {
        let sector = self.options.sector;
        match operation {
            Operation::Write { file, position, body, sync } => {
                let (bytes, sealed) = content(body);
                self.check_space(file, position + bytes.len() as u64)?;
                if self.rng.chance(self.options.write_error) {
                    self.counters.write_errors += 1;
                    let part = self.rng.index(bytes.len() + 1);
                    self.tree.file_or_create(file)?.write(*position, &bytes[..part], sector);
                    return Err((DiskErrorKind::Other, "input/output error"));
                }
                self.tree.file_or_create(file)?.write(*position, &bytes, sector);
                self.counters.writes += 1;
                if *sync == Sync::Data {
                    self.flush(file)?;
                }
                Ok(Completion::Written(sealed.then_some(bytes)))
            }
            Operation::Read { file, position, length } => {
                let page = self.tree.file(file)?.page();
                if self.rng.chance(self.options.read_error) {
                    self.counters.read_errors += 1;
                    return Err((DiskErrorKind::Other, "input/output error"));
                }
                let from = (*position).min(page.len() as u64);
                let to = position.saturating_add(*length).min(page.len() as u64).max(from);
                Ok(Completion::Read(Bytes::copy_from_slice(&page[from as usize..to as usize])))
            }
            Operation::Create { file, kind } => {
                match kind {
                    CreateKind::Directory => {
                        self.check_luck()?;
                        self.tree.create_directory(file)?;
                    }
                    CreateKind::Filled { length } => {
                        self.check_space(file, *length)?;
                        self.tree.file_or_create(file)?.fill(*length, sector);
                        self.flush(file)?;
                    }
                }
                Ok(Completion::Done)
            }
            Operation::Sync { file } => {
                self.flush(file)?;
                Ok(Completion::Done)
            }
            Operation::SyncDir { directory } => {
                self.check_flush()?;
                self.tree.flush_directory(directory)?;
                self.counters.flushes += 1;
                Ok(Completion::Done)
            }
            Operation::Rename { from, to } => {
                self.tree.rename(from, to)?;
                Ok(Completion::Done)
            }
            Operation::Remove { file } => {
                self.tree.remove(file)?;
                Ok(Completion::Done)
            }
            Operation::Truncate { file, length } => {
                self.tree.file_mut(file)?.set_length(*length);
                Ok(Completion::Done)
            }
            Operation::Space { .. } => {
                let total = self.options.capacity.unwrap_or(1 << 40);
                Ok(Completion::Space { free: total.saturating_sub(self.used()), total })
            }
            Operation::List { directory } => {
                let mut entries: Vec<DirectoryEntry> = self
                    .tree
                    .list(directory)?
                    .into_iter()
                    .map(|(name, directory, length)| DirectoryEntry {
                        name,
                        kind: if directory { EntryKind::Directory } else { EntryKind::File },
                        length,
                    })
                    .collect();
                self.rng.shuffle(&mut entries);
                Ok(Completion::Listed(entries))
            }
        }
    }

    fn check_luck(&mut self) -> Result<(), Refusal> {
        if self.rng.chance(self.options.no_space) {
            self.counters.no_space += 1;
            return Err((DiskErrorKind::NoSpace, "no space left on device"));
        }
        Ok(())
    }

    /// Checks that `file` may have bytes up to `end`.
    fn check_space(&mut self, file: &FileName, end: u64) -> Result<(), Refusal> {
        self.check_luck()?;
        let Some(capacity) = self.options.capacity else { return Ok(()) };
        let has = self.tree.file(file).map_or(0, |file| file.page().len() as u64);
        if end > has && self.tree.used() + (end - has) > capacity {
            self.counters.no_space += 1;
            return Err((DiskErrorKind::NoSpace, "no space left on device"));
        }
        Ok(())
    }

    fn check_flush(&mut self) -> Result<(), Refusal> {
        if self.rng.chance(self.options.flush_error) {
            self.counters.flush_errors += 1;
            return Err((DiskErrorKind::Flush, "input/output error"));
        }
        Ok(())
    }

    fn flush(&mut self, name: &FileName) -> Result<(), Refusal> {
        let luck = self.check_flush();
        let sector = self.options.sector;
        let file = self.tree.file_mut(name)?;
        if luck.is_err() {
            file.fail_flush();
        } else {
            file.flush(sector);
            self.counters.flushes += 1;
        }
        luck
    }

    /// Applies what an operation in flight does before its flush, up to `bytes` bytes of it.
    fn apply_in_flight(&mut self, operation: &Operation, bytes: Option<usize>) {
        let sector = self.options.sector;
        // An operation that would have failed leaves nothing, as it would have in the end.
        let _refused = match operation {
            Operation::Write { file, position, body, .. } => {
                let (content, _) = content(body);
                let part = bytes.map_or(content.len(), |bytes| bytes.min(content.len()));
                self.tree
                    .file_or_create(file)
                    .map(|inode| inode.write(*position, &content[..part], sector))
            }
            Operation::Create { file, kind: CreateKind::Directory } => {
                self.tree.create_directory(file)
            }
            Operation::Create { file, kind: CreateKind::Filled { length } } => {
                let part = bytes.map_or(*length, |bytes| (bytes as u64).min(*length));
                self.tree.file_or_create(file).map(|inode| inode.fill(part, sector))
            }
            Operation::Rename { from, to } => self.tree.rename(from, to),
            Operation::Remove { file } => self.tree.remove(file),
            Operation::Truncate { file, length } => {
                self.tree.file_mut(file).map(|inode| inode.set_length(*length))
            }
            Operation::Read { .. }
            | Operation::Sync { .. }
            | Operation::SyncDir { .. }
            | Operation::List { .. }
            | Operation::Space { .. } => Ok(()),
        };
    }

    /// The process dies: operations in flight are applied wholly, partly or not at all.
    pub fn crash(&mut self) {
        let mut stopped = BTreeSet::new();
        for InFlight { operation, .. } in std::mem::take(&mut self.in_flight).into_values() {
            // What follows an unfinished operation on the same name had not begun.
            if stopped.contains(operation.name()) {
                continue;
            }
            match self.rng.below(3) {
                0 => {
                    stopped.insert(operation.name().clone());
                }
                1 => {
                    let part = self.rng.below(operation.len() + 1) as usize;
                    self.counters.torn += 1;
                    self.apply_in_flight(&operation, Some(part));
                    stopped.insert(operation.name().clone());
                }
                _ => self.apply_in_flight(&operation, None),
            }
        }
        self.busy.clear();
    }

    /// Lets everything in flight reach the page image and nothing of it the device, so that the
    /// pieces are there for [`lose_power_but`](Self::lose_power_but) to choose from.
    pub fn begin_in_flight(&mut self) {
        for InFlight { operation, .. } in std::mem::take(&mut self.in_flight).into_values() {
            self.apply_in_flight(&operation, None);
        }
        self.busy.clear();
    }

    /// Returns how many pieces a power loss would take or leave, without those in flight.
    pub fn pending_units(&self) -> usize {
        self.tree.pending_units()
    }

    /// Returns how many of the pieces are changes of names; they come last.
    pub fn pending_changes(&self) -> usize {
        self.tree.pending_changes()
    }

    /// Power is lost; of the pending pieces those remain for which `survives` says so.
    pub fn lose_power_but(&mut self, mut survives: impl FnMut(usize) -> bool) {
        self.begin_in_flight();
        let lost = &mut self.counters.lost_units;
        self.tree.lose_power(self.options.sector, |unit| {
            let survives = survives(unit);
            *lost += u64::from(!survives);
            survives
        });
    }

    /// Power is lost; chance decides what remains. A quarter of the times nothing does.
    pub fn lose_power(&mut self) {
        let share = [0, 1, 500, 900][self.rng.index(4)];
        let mut rng = self.rng.clone();
        self.lose_power_but(|_| rng.chance(share));
        self.rng = rng;
    }

    /// Returns the disk as a power loss at this moment leaves it at the least, ready for a start.
    #[must_use]
    pub fn durable_image(&self) -> Self {
        let mut image = self.copy();
        image.in_flight.clear();
        image.lose_power_but(|_| false);
        image
    }

    /// Returns a disk with the same content, without operations in flight and without faults.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            options: DiskOptions {
                sector: self.options.sector,
                capacity: self.options.capacity,
                ..DiskOptions::default()
            },
            tree: self.tree.clone(),
            in_flight: BTreeMap::new(),
            busy: BTreeMap::new(),
            next: 0,
            rng: self.rng.clone(),
            counters: DiskCounters::default(),
        }
    }

    /// Returns a disk as it would be after a power loss at this moment of which just the pieces
    /// remain for which `survives` says so, those in flight included, ready for a start.
    #[must_use]
    pub fn after_power_loss(&self, survives: impl FnMut(usize) -> bool) -> Self {
        let mut after = self.with_in_flight();
        after.lose_power_but(survives);
        after
    }

    /// Returns a copy in which everything in flight has become pending pieces.
    #[must_use]
    pub fn with_in_flight(&self) -> Self {
        let mut copy = self.copy();
        for InFlight { operation, .. } in self.in_flight.values() {
            copy.apply_in_flight(operation, None);
        }
        copy
    }

    /// Returns the bytes of all files.
    pub fn used(&self) -> u64 {
        self.tree.used()
    }

    /// Returns a hash of all files with what reads see of them and what is durable.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = TraceHash::default();
        for (name, inode) in self.tree.walk() {
            hash.bytes(name.as_bytes());
            hash.bytes(inode.page());
            hash.number(u64::from(inode.page() == inode.durable()));
        }
        hash.number(self.tree.pending_units() as u64);
        hash.finish()
    }

    /// Returns the names of all files, in order.
    pub fn files(&self) -> Vec<String> {
        self.tree.walk().into_iter().map(|(name, _)| name).collect()
    }

    /// Returns what reads see of a file.
    pub fn page_image(&self, file: &str) -> Option<&[u8]> {
        self.tree.file(&FileName::new(file)).ok().map(inode::Inode::page)
    }

    /// Returns what is sure to be in a file after power loss, if its name survives.
    pub fn durable_content(&self, file: &str) -> Option<&[u8]> {
        self.tree.file(&FileName::new(file)).ok().map(inode::Inode::durable)
    }

    /// Flips a bit of a file at rest. Returns whether there is such a byte.
    pub fn rot(&mut self, file: &str, at: u64, bit: u8) -> bool {
        let hit = self.tree.file_mut(&FileName::new(file)).is_ok_and(|inode| inode.rot(at, bit));
        self.counters.rotted += u64::from(hit);
        hit
    }
}

/// Returns what a body writes, and whether the completion carries it.
fn content(body: &WriteBody) -> (Bytes, bool) {
    match body {
        WriteBody::Block(plan) => {
            let mut block = vec![0; plan.sealed_len()];
            plan.seal(&mut block);
            (block.into(), true)
        }
        WriteBody::Parts(parts) => (parts.concat().into(), false),
    }
}

#[cfg(test)]
mod tests;
