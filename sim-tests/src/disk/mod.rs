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
//! 4. What a fault of the device does to a file is seen at once by who reads the device, and by others
//!    only once the page cache is gone.

mod choices;
mod damage;
mod inode;
mod operation;
mod options;
mod power;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use mainspring_core::ids::{IoToken, ShardId};
use mainspring_core::io::{
    Completion, CreateKind, DirectoryEntry, DiskError, DiskErrorKind, Effect, EntryKind, FileName,
    Sync,
};

use crate::rng::Rng;
pub use damage::FileKind;
use operation::{InFlight, Operation, content};
pub use options::{DiskCounters, DiskOptions};
use tree::{Refusal, Tree};

/// The end of an operation that does not end by itself.
pub const NEVER: u64 = u64::MAX;

/// How long a slow flush takes, in nanoseconds.
const SLOW_FLUSH: u64 = 1_000_000_000;

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

/// The disk of one node. Copies share the files that neither of them has changed since.
#[derive(Clone, Debug)]
pub struct SimDisk {
    options: DiskOptions,
    tree: Tree,
    in_flight: BTreeMap<OperationId, InFlight>,
    /// When the last operation on each name ends.
    busy: BTreeMap<FileName, u64>,
    /// Operations that do not end by themselves.
    stuck: BTreeSet<OperationId>,
    next: u64,
    /// All files as they were at [`save`](Self::save).
    saved: Option<Tree>,
    rng: Rng,
    counters: DiskCounters,
    /// Where files were read last.
    recent: VecDeque<(FileName, u64)>,
}

/// How many places are remembered at which files were read.
const RECENT: usize = 16;

impl SimDisk {
    /// Makes an empty disk.
    pub fn new(options: DiskOptions, rng: Rng) -> Self {
        Self {
            options,
            tree: Tree::default(),
            in_flight: BTreeMap::new(),
            busy: BTreeMap::new(),
            stuck: BTreeSet::new(),
            next: 0,
            saved: None,
            recent: VecDeque::new(),
            rng,
            counters: DiskCounters::default(),
        }
    }

    /// Returns the options, for a fault to change them.
    pub fn options_mut(&mut self) -> &mut DiskOptions {
        &mut self.options
    }

    /// Draws chance from another stream from here on.
    pub fn set_chance(&mut self, rng: Rng) {
        self.rng = rng;
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
        let flushes = operation.flushes();
        let mean = if flushes { self.options.flush_latency } else { self.options.latency };
        let mut takes = self.rng.exponential(mean) + 1;
        if self.rng.chance(self.options.slow) {
            self.counters.slow += 1;
            takes *= 100;
        }
        if flushes && self.rng.chance(self.options.slow_flush) {
            self.counters.slow_flushes += 1;
            takes += SLOW_FLUSH;
        }
        let begins = self.free_at(&operation).max(at);
        let mut ends = begins.saturating_add(takes);
        if self.rng.chance(self.options.stuck) {
            self.counters.stuck += 1;
            ends = NEVER;
        }
        let id = OperationId(self.next);
        self.next += 1;
        if ends == NEVER {
            self.stuck.insert(id);
        }
        self.occupy(&operation, ends);
        self.in_flight.insert(id, InFlight { shard, token, operation });
        Ok((id, ends))
    }

    /// Returns when the last operation on the names of this one ends.
    fn free_at(&self, operation: &Operation) -> u64 {
        let of = |name: &FileName| self.busy.get(name).copied().unwrap_or(0);
        match operation {
            Operation::Rename { from, to } => of(from).max(of(to)),
            other => of(other.name()),
        }
    }

    fn occupy(&mut self, operation: &Operation, ends: u64) {
        self.busy.insert(operation.name().clone(), ends);
        if let Operation::Rename { to, .. } = operation {
            self.busy.insert(to.clone(), ends);
        }
    }

    /// Lets the operations go on that do not end by themselves, in the order of their names'
    /// queues. Returns when each of them ends.
    pub fn release(&mut self, at: u64) -> Vec<(OperationId, u64)> {
        let stuck = std::mem::take(&mut self.stuck);
        self.busy.retain(|_, ends| *ends != NEVER);
        let mut released = Vec::new();
        for id in stuck {
            let Some(InFlight { operation, .. }) = self.in_flight.get(&id) else { continue };
            let takes = self.rng.exponential(self.options.latency) + 1;
            let ends = self.free_at(operation).max(at) + takes;
            let names = match operation {
                Operation::Rename { from, to } => vec![from.clone(), to.clone()],
                other => vec![other.name().clone()],
            };
            for name in names {
                self.busy.insert(name, ends);
            }
            released.push((id, ends));
        }
        released
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
        self.check_process(operation)?;
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
                if self.rng.chance(self.options.short_write) {
                    self.counters.short_writes += 1;
                    let part = self.rng.index(bytes.len() + 1);
                    self.tree.file_or_create(file)?.write(*position, &bytes[..part], sector);
                    return Err((DiskErrorKind::NoSpace, "no space left on device"));
                }
                self.tree.file_or_create(file)?.write(*position, &bytes, sector);
                self.counters.writes += 1;
                if *sync == Sync::Data {
                    self.flush(file)?;
                }
                Ok(Completion::Written(sealed.then_some(bytes)))
            }
            Operation::Read { file, position, length } => {
                self.tree.file(file)?;
                if self.rng.chance(self.options.read_error) {
                    self.counters.read_errors += 1;
                    return Err((DiskErrorKind::Other, "input/output error"));
                }
                Ok(Completion::Read(self.read(file, *position, *length)?))
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

    /// Reads a range, perhaps of another place or time, perhaps with a flipped bit.
    fn read(&mut self, file: &FileName, position: u64, length: u64) -> Result<Bytes, Refusal> {
        let sector = self.options.sector;
        let (stale, misdirected, flipped) = (
            self.rng.chance(self.options.stale_read),
            self.rng.chance(self.options.misdirected_read),
            self.rng.chance(self.options.flipped_read),
        );
        let inode = self.tree.file(file)?;
        let right = slice(inode.page(), position, length);
        let mut bytes = right.to_vec();
        if stale {
            bytes = slice(inode.durable(), position, length).to_vec();
            self.counters.stale_reads += u64::from(bytes != right);
        }
        if misdirected && !bytes.is_empty() {
            let sectors = inode.page().len() as u64 / sector + 1;
            let mut elsewhere = (position / sector + 1 + self.rng.below(sectors)) % sectors
                * sector
                + position % sector;
            // Or with the answer to what was asked before.
            if let Some((_, before)) =
                self.recent.iter().find(|(name, at)| name == file && *at != position)
                && self.rng.chance(500)
            {
                elsewhere = *before;
            }
            let mut other = slice(inode.page(), elsewhere, length).to_vec();
            other.resize(bytes.len(), 0);
            self.counters.misdirected_reads += u64::from(bytes != other);
            bytes = other;
        }
        self.recent.push_front((file.clone(), position));
        self.recent.truncate(RECENT);
        if flipped && !bytes.is_empty() {
            self.counters.flipped_reads += 1;
            let at = self.rng.index(bytes.len());
            bytes[at] ^= 1 << self.rng.below(8);
        }
        Ok(bytes.into())
    }

    /// Checks that the process may do this at all.
    fn check_process(&mut self, operation: &Operation) -> Result<(), Refusal> {
        if self.options.read_only && operation.changes() {
            self.counters.read_only += 1;
            return Err((DiskErrorKind::NotPermitted, "read-only file system"));
        }
        // An error of a flush is never one of these: what it was to cover is in doubt.
        let opens = !matches!(operation, Operation::Sync { .. } | Operation::SyncDir { .. });
        if opens && self.rng.chance(self.options.exhausted) {
            self.counters.exhausted += 1;
            let words = ["too many open files", "cannot allocate memory", "interrupted"];
            return Err((DiskErrorKind::Exhausted, words[self.rng.index(words.len())]));
        }
        Ok(())
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
        let only = self.options.flush_error_of;
        let is_struck = only.is_none_or(|kind| FileKind::of(name.as_str()) == Some(kind));
        let luck = if is_struck { self.check_flush() } else { Ok(()) };
        let sector = self.options.sector;
        let lost = self.rng.chance(self.options.lost_write);
        let misdirected = self.rng.chance(self.options.misdirected_write);
        let by = if misdirected { 1 + self.rng.below(3) } else { 0 };
        let file = self.tree.file_mut(name)?;
        luck.inspect_err(|_| file.fail_flush())?;
        if lost && file.pending_units() > 0 {
            file.fail_flush();
            self.counters.lost_writes += 1;
        } else if misdirected && file.pending_units() > 0 {
            file.flush_elsewhere(sector, by);
            self.counters.misdirected_writes += 1;
        } else {
            file.flush(sector);
        }
        self.counters.flushes += 1;
        Ok(())
    }

    /// Returns the bytes of all files.
    pub fn used(&self) -> u64 {
        self.tree.used()
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
}

/// Returns what lies in a range, cut at the end.
fn slice(bytes: &[u8], position: u64, length: u64) -> &[u8] {
    let end = bytes.len() as u64;
    let from = position.min(end);
    let to = position.saturating_add(length).min(end).max(from);
    &bytes[from as usize..to as usize]
}
