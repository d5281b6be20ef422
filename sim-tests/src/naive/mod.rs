//! What a data directory holds, read from `docs/files.md` alone and without a thought for speed: it
//! shares no line with the code that writes and recovers it.
//!
//! It reads a whole and sound directory, as power loss or the death of a process leaves it. Where it
//! finds rot it says so.

mod checkpoint;
mod crc;
mod journal;
mod snapshot;

use std::collections::BTreeMap;

use bytes::Bytes;
use mainspring_core::ids::TopicPartition;

use crate::disk::SimDisk;
use checkpoint::Checkpoint;
use journal::{Entry, be32, be64};

const BATCH_HEADER: usize = 61;

/// A record batch as it stands in a log.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Offset of its first record.
    pub base: i64,
    /// Offset of its last record.
    pub last: i64,
    /// All of it.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// Reads the batch at the beginning of `bytes`; `None` where there is no whole one.
    fn split_from(bytes: &mut Bytes) -> Option<Self> {
        if bytes.len() < BATCH_HEADER {
            return None;
        }
        let size = be32(bytes, 8) as usize + 12;
        if size < BATCH_HEADER || bytes.len() < size {
            return None;
        }
        let bytes = bytes.split_to(size);
        let base = be64(&bytes, 0) as i64;
        let last = base + i64::from(be32(&bytes, 23));
        Some(Self { base, last, bytes })
    }

    /// Returns its CRC as it stands in it.
    pub fn crc(&self) -> u32 {
        be32(&self.bytes, 17)
    }

    /// Returns whether its CRC is right.
    pub fn is_sound(&self) -> bool {
        crc::crc32c(&[&self.bytes[21..]]) == self.crc()
    }
}

/// One log of a directory.
#[derive(Clone, Debug)]
pub struct StoredLog {
    /// Name of its topic.
    pub name: String,
    /// Whether its records live in memory alone.
    pub memory: bool,
    /// Its first offset.
    pub start: i64,
    /// The offset after its last record; for one in memory, after the last offset that may have been
    /// given out.
    pub end: i64,
    /// What it holds, by base offsets.
    pub batches: BTreeMap<i64, StoredBatch>,
    /// Of the metadata log: the ends of its whole snapshots.
    pub snapshots: Vec<i64>,
}

/// Reads every log of every shard.
///
/// # Errors
/// Says what of the directory is not as it should be.
pub fn read(disk: &SimDisk, shards: u16) -> Result<BTreeMap<TopicPartition, StoredLog>, String> {
    let files = disk.files();
    let mut logs = BTreeMap::new();
    for shard in 0..shards {
        let Some((checkpoint, journal)) = open(disk, &files, shard) else {
            // The first start had not come to an end, so nothing was served.
            continue;
        };
        logs.extend(read_shard(disk, &checkpoint, &journal)?);
    }
    if let Some(log) = logs.get_mut(&TopicPartition::CLUSTER_METADATA) {
        behind_snapshots(disk, &files, log);
    }
    Ok(logs)
}

/// Takes in what the snapshots of the metadata log say: where the log does not go on behind the newest, it begins
/// there, and nothing of what it held counts.
fn behind_snapshots(disk: &SimDisk, files: &[String], log: &mut StoredLog) {
    let named = files.iter().filter_map(|name| Some((snapshot::named(name)?, name)));
    let mut whole: Vec<snapshot::Snapshot> = named
        .filter(|(id, name)| {
            content(disk, name).is_some_and(|bytes| snapshot::is_whole(*id, bytes))
        })
        .map(|(id, _)| id)
        .collect();
    whole.sort_unstable();
    log.snapshots = whole.iter().map(|id| id.end).collect();
    let Some(newest) = whole.last() else { return };
    let before = log.batches.range(..newest.end).next_back().map(|(_, batch)| batch);
    let is_in_log = before.is_some_and(|batch| {
        let epoch = be32(&batch.bytes, 12) as i32;
        batch.last == newest.end - 1 && epoch == newest.epoch
    });
    if log.start != newest.end && !is_in_log {
        log.batches.clear();
        (log.start, log.end) = (newest.end, newest.end);
    }
}

/// Reads the last vote of a node: its epoch and its candidate. `None` where nothing can be read.
pub fn vote(disk: &SimDisk) -> Option<(i32, i32)> {
    let (checkpoint, journal) = open(disk, &disk.files(), 0)?;
    let entries = journal::read(&journal, checkpoint.cut).ok()?;
    let votes = entries.iter().filter_map(|entry| match entry {
        Entry::Vote { epoch, candidate } => Some((*epoch, *candidate)),
        _ => None,
    });
    votes.last().or(Some(checkpoint.vote))
}

/// Returns the newer checkpoint of a shard, and the files of its journal.
fn open(disk: &SimDisk, files: &[String], shard: u16) -> Option<(Checkpoint, Vec<Bytes>)> {
    let place = format!("journal/{shard}/");
    let journal: Vec<Bytes> = files
        .iter()
        .filter(|name| name.starts_with(&place) && name.ends_with(".journal"))
        .filter_map(|name| content(disk, name))
        .collect();
    let copies = [format!("checkpoint/{shard}"), format!("{place}checkpoint")];
    let copies = copies.iter().filter_map(|name| checkpoint::read(&content(disk, name)?));
    Some((copies.max_by_key(|checkpoint| checkpoint.cut)?, journal))
}

fn content(disk: &SimDisk, name: &str) -> Option<Bytes> {
    disk.page_image(name).map(Bytes::copy_from_slice)
}

fn read_shard(
    disk: &SimDisk,
    checkpoint: &Checkpoint,
    journal: &[Bytes],
) -> Result<BTreeMap<TopicPartition, StoredLog>, String> {
    let entries = journal::read(journal, checkpoint.cut)?;
    let mut logs = BTreeMap::new();
    let deleted = |id: TopicPartition| {
        entries.iter().any(|entry| matches!(entry, Entry::Delete { log } if *log == id))
    };
    // A log may begin later by now, and the files before its start may have gone.
    let mut starts = BTreeMap::new();
    for entry in &entries {
        if let Entry::LogStart { log, start } = entry {
            let latest = starts.entry(*log).or_insert(*start);
            *latest = (*latest).max(*start);
        }
    }
    // One may be cut back by now, and the files beyond may have gone or be those of later batches.
    let mut lowest = BTreeMap::new();
    for entry in &entries {
        if let Entry::Truncate { log, end, anew, .. } = entry {
            let from = if *anew { 0 } else { *end };
            let known = lowest.entry(*log).or_insert(from);
            *known = (*known).min(from);
        }
    }
    for (id, log) in &checkpoint.logs {
        // The folder of one that is deleted behind the checkpoint may have gone.
        if !deleted(*id) {
            let start = starts.get(id).copied().unwrap_or(0).max(log.start);
            logs.insert(*id, read_segments(disk, *id, log, start, lowest.get(id).copied())?);
        }
    }
    let mut cuts = BTreeMap::new();
    for entry in &entries {
        apply(&mut logs, &mut cuts, entry)?;
    }
    for log in logs.values_mut() {
        let start = log.start;
        log.batches.retain(|_, batch| batch.last >= start);
        log.end = log.end.max(start);
    }
    Ok(logs)
}

fn read_segments(
    disk: &SimDisk,
    id: TopicPartition,
    log: &checkpoint::Log,
    start: i64,
    lowest: Option<i64>,
) -> Result<StoredLog, String> {
    // What lies beyond will be cut.
    let readable = lowest.unwrap_or(log.end).min(log.end);
    let mut stored = StoredLog {
        name: log.name.clone(),
        memory: log.memory,
        start,
        end: if log.memory { log.reserved } else { log.end },
        batches: BTreeMap::new(),
        snapshots: Vec::new(),
    };
    if log.memory {
        stored.start = stored.end;
        return Ok(stored);
    }
    let mut next = None;
    let needed = |segment: &&checkpoint::Segment| segment.end > start && segment.base < readable;
    for segment in log.segments.iter().filter(needed) {
        let name = format!("{}-{}/{:020}.log", log.name, id.partition.0, segment.base);
        let mut bytes = content(disk, &name).unwrap_or_default();
        if (bytes.len() as u64) < segment.bytes && segment.end <= readable {
            return Err(format!(
                "{name} has {} bytes, and the checkpoint says {}",
                bytes.len(),
                segment.bytes
            ));
        }
        bytes.truncate(segment.bytes as usize);
        while !bytes.is_empty() {
            if next == Some(readable) {
                break;
            }
            let Some(batch) = StoredBatch::split_from(&mut bytes) else {
                return Err(format!("{name} holds no batch {} bytes before its end", bytes.len()));
            };
            if next.is_some_and(|next| next != batch.base) {
                return Err(format!("{name} has offset {} behind {next:?}", batch.base));
            }
            next = Some(batch.last + 1);
            stored.batches.insert(batch.base, batch);
        }
    }
    // Below a start that has moved nothing is read.
    if next.unwrap_or(readable) != readable {
        return Err(format!(
            "the segments of {}-{} end at {next:?}, the checkpoint says {}",
            log.name, id.partition.0, log.end
        ));
    }
    Ok(stored)
}

/// `cuts` are the numbers of the last truncations: one that a start wrote once more does nothing.
fn apply(
    logs: &mut BTreeMap<TopicPartition, StoredLog>,
    cuts: &mut BTreeMap<TopicPartition, u64>,
    entry: &Entry,
) -> Result<(), String> {
    match entry {
        Entry::Truncate { log: id, number, end, anew } => {
            let Some(log) = logs.get_mut(id).filter(|log| !log.memory) else { return Ok(()) };
            let last = cuts.entry(*id).or_insert(0);
            if *number <= *last {
                return Ok(());
            }
            *last = *number;
            if *anew {
                log.batches.clear();
                (log.start, log.end) = (*end, *end);
            } else if *end <= log.end {
                log.batches.retain(|_, batch| batch.last < *end);
                log.end = *end;
            }
        }
        Entry::Create { log, memory, name } => {
            logs.entry(*log).or_insert_with(|| StoredLog {
                name: name.clone(),
                memory: *memory,
                start: 0,
                end: 0,
                batches: BTreeMap::new(),
                snapshots: Vec::new(),
            });
        }
        Entry::Delete { log } => {
            logs.remove(log);
        }
        Entry::LogStart { log, start } => {
            if let Some(log) = logs.get_mut(log) {
                log.start = log.start.max(*start);
            }
        }
        Entry::Reserve { log, end } => {
            if let Some(log) = logs.get_mut(log) {
                log.end = log.end.max(*end);
                log.start = log.end;
            }
        }
        Entry::Vote { .. } => {}
        Entry::Append { log: id, batch } => {
            let Some(log) = logs.get_mut(id) else { return Ok(()) };
            let Some(batch) = StoredBatch::split_from(&mut batch.clone()) else {
                return Err(format!("an entry of the journal for {id} holds no batch"));
            };
            // One that a start wrote once more.
            if batch.base < log.end {
                return Ok(());
            }
            if batch.base > log.end && batch.base > log.start {
                return Err(format!(
                    "the journal goes on at offset {} of {id}, which ends at {}",
                    batch.base, log.end
                ));
            }
            log.end = batch.last + 1;
            log.batches.insert(batch.base, batch);
        }
    }
    Ok(())
}
