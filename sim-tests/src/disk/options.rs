//! What a disk is like, how it misbehaves, and how often it did.

use serde::{Deserialize, Serialize};

use super::damage::FileKind;

/// What a disk is like and how it misbehaves. Probabilities are in 1/1000 of operations.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
    /// How often a flush takes a second more.
    pub slow_flush: u32,
    /// How often an operation does not end before [`SimDisk::release`](super::SimDisk::release), and
    /// with it all that follow on the same name.
    pub stuck: u32,
    /// How often a read fails.
    pub read_error: u32,
    /// How often a write fails after a part of it.
    pub write_error: u32,
    /// How often a write finds no space behind a part of it.
    pub short_write: u32,
    /// How often a flush fails.
    pub flush_error: u32,
    /// Of which files alone.
    pub flush_error_of: Option<FileKind>,
    /// How often an operation that needs space finds none, whatever the capacity.
    pub no_space: u32,
    /// How often the process lacks a descriptor, memory or time for an operation (EMFILE, ENFILE,
    /// ENOMEM, EINTR, EAGAIN); nothing of it is done.
    pub exhausted: u32,
    /// Whether the file system was mounted again for reading only.
    pub read_only: bool,
    /// How often a bit of what is read is flipped, and not on the disk.
    pub flipped_read: u32,
    /// How often a read answers with another place of the file.
    pub misdirected_read: u32,
    /// How often a read answers with what the device holds, without what was not flushed yet.
    pub stale_read: u32,
    /// How often a write goes to another place of the file, and is reported as done.
    pub misdirected_write: u32,
    /// How often a flush is reported as done and the device keeps what it had.
    pub lost_write: u32,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            sector: 4096,
            capacity: None,
            latency: 50_000,
            flush_latency: 1_000_000,
            slow: 0,
            slow_flush: 0,
            stuck: 0,
            read_error: 0,
            write_error: 0,
            short_write: 0,
            flush_error: 0,
            flush_error_of: None,
            no_space: 0,
            exhausted: 0,
            read_only: false,
            flipped_read: 0,
            misdirected_read: 0,
            stale_read: 0,
            misdirected_write: 0,
            lost_write: 0,
        }
    }
}

impl DiskOptions {
    /// Returns a disk of the same size and speed without any fault.
    #[must_use]
    pub fn sound(&self) -> Self {
        Self {
            sector: self.sector,
            capacity: self.capacity,
            latency: self.latency,
            flush_latency: self.flush_latency,
            ..Self::default()
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
    /// Writes that found no space behind a part.
    pub short_writes: u64,
    /// Flushes that failed.
    pub flush_errors: u64,
    /// Operations that found no space.
    pub no_space: u64,
    /// Operations that lacked a descriptor or memory.
    pub exhausted: u64,
    /// Operations that were refused because the disk was read-only.
    pub read_only: u64,
    /// Operations that took a hundred times as long.
    pub slow: u64,
    /// Flushes that took a second more.
    pub slow_flushes: u64,
    /// Operations that did not end.
    pub stuck: u64,
    /// Operations in flight at a crash of the process that were applied in part.
    pub torn: u64,
    /// Pieces that power loss took.
    pub lost_units: u64,
    /// Bits flipped at rest.
    pub rotted: u64,
    /// Reads with a flipped bit.
    pub flipped_reads: u64,
    /// Reads of another place.
    pub misdirected_reads: u64,
    /// Reads of what the device held before.
    pub stale_reads: u64,
    /// Writes to another place.
    pub misdirected_writes: u64,
    /// Flushes that were none.
    pub lost_writes: u64,
    /// Files that were cut, removed or made up.
    pub damaged_files: u64,
}

impl DiskCounters {
    /// Returns every count of something that went wrong, with its name.
    pub fn faults(&self) -> [(&'static str, u64); 18] {
        [
            ("read-error", self.read_errors),
            ("write-error", self.write_errors),
            ("short-write", self.short_writes),
            ("flush-error", self.flush_errors),
            ("no-space", self.no_space),
            ("exhausted", self.exhausted),
            ("read-only-refusal", self.read_only),
            ("slow-operation", self.slow),
            ("slow-flush", self.slow_flushes),
            ("stuck-operation", self.stuck),
            ("torn-operation", self.torn),
            ("lost-unit", self.lost_units),
            ("rotted-bit", self.rotted),
            ("flipped-read", self.flipped_reads),
            ("misdirected-read", self.misdirected_reads),
            ("stale-read", self.stale_reads),
            ("misdirected-write", self.misdirected_writes),
            ("lost-write", self.lost_writes),
        ]
    }
}
