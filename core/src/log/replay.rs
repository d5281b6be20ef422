//! What a start makes of the checkpoint and the journal that it has read: the logs, with everything
//! above the cut replayed by the functions that take appends in; then the journal, whose unproven
//! tail is written again. The stages around it and their invariants are those of `recovery`.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{Offset, TopicName, TopicPartition};
use crate::io::{DirectoryEntry, Effects, EntryKind, FileName, Mark};
use crate::log::api::{FlushPolicy, LogEvent, LogSettings, Storage};
use crate::log::block::{BlockSequence, Cut, Entry};
use crate::log::checkpoint::NOBODY;
use crate::log::identity::META_FILE;
use crate::log::journal::{FileState, Journal, JournalState, Need};
use crate::log::operations::{Op, Purpose};
use crate::log::partition_log::{Folder, PartitionLog};
use crate::log::producer_state::ProducerStates;
use crate::log::rebuild::Rebuild;
use crate::log::recovery::{EMPTY, Outcome, Stage, content};
use crate::log::segment::segment_file;
use crate::log::store::{LogStore, Phase};
use crate::log::write_behind::{TRASH, is_ours};
use crate::time::Now;

/// Names in the data directory that belong to the node and not to a log.
const OUR_NAMES: [&str; 6] =
    ["journal", "checkpoint", TRASH, META_FILE, "meta.properties.tmp", ".lock"];
impl LogStore {
    pub(super) fn read_producers(&mut self, now: Now, fx: &mut Effects) -> Result<(), String> {
        let mut logs = Vec::new();
        let mut ops = Vec::new();
        if let Some(checkpoint) = &self.recovery().checkpoint {
            for (id, image) in &checkpoint.logs {
                let Some(at) = image.producers_at else { continue };
                let folder = FileName::new(format!("{}-{}", image.name, id.partition));
                logs.push(*id);
                for ending in ["producers", "snapshot"] {
                    ops.push(Op::Read {
                        file: segment_file(&folder, at, ending),
                        position: 0,
                        length: u64::from(u32::MAX),
                    });
                }
            }
        }
        if ops.is_empty() {
            return self.build_and_replay(now, &logs, Vec::new(), fx);
        }
        self.enter(Stage::Producers { logs }, ops, fx);
        Ok(())
    }

    /// Makes the logs as the checkpoint has them and applies the journal to them.
    pub(super) fn build_and_replay(
        &mut self,
        now: Now,
        logs: &[TopicPartition],
        outcomes: Vec<Option<Outcome>>,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let unreadable = self.build_logs(now, logs, outcomes, fx);
        self.go_on_rebuilding(now, Box::new(Rebuild::new(unreadable)), fx)
    }

    /// Applies the journal to the logs and looks into their folders.
    pub(super) fn replay_and_list(&mut self, now: Now, fx: &mut Effects) -> Result<(), String> {
        self.replay(now)?;
        self.judge_segments(fx);
        self.list_folders(fx);
        Ok(())
    }

    /// Makes the logs that the checkpoint names. Returns those of whose producers or transactions not all
    /// can be read.
    fn build_logs(
        &mut self,
        now: Now,
        logs: &[TopicPartition],
        outcomes: Vec<Option<Outcome>>,
        fx: &mut Effects,
    ) -> VecDeque<TopicPartition> {
        let mut unreadable = VecDeque::new();
        let without = self.without_producer_files();
        let limits = self.append_limits();
        let checkpoint = self.recovery().checkpoint.clone().unwrap_or(EMPTY);
        self.vote = checkpoint.vote;
        for (id, image) in &checkpoint.logs {
            let settings = LogSettings::until_configured(image.storage);
            self.logs.insert(*id, PartitionLog::from_image(*id, image, settings, limits));
        }
        let mut outcomes = outcomes.into_iter();
        for id in logs {
            let mut read = || content(outcomes.next().flatten()).unwrap_or_default();
            let (sidecar, snapshot): (Option<Bytes>, Option<Bytes>) = (read(), read());
            let sidecar = ProducerStates::decode_sidecar(&sidecar.unwrap_or_default(), now.mono);
            let log = self.logs.get_mut(id).expect("it was just made");
            match sidecar {
                Ok(states) => log.producers = states,
                Err(_) if without.contains(id) => {}
                Err(error) => {
                    // Kafka's file tells of producers whose batches have gone.
                    let snapshot = snapshot.unwrap_or_default();
                    log.producers =
                        ProducerStates::decode_snapshot(&snapshot, now.mono).unwrap_or_default();
                    fx.warn(format!(
                        "what partition {}-{} knows of its producers is read from its segments: \
                         {error}",
                        log.name, id.partition
                    ));
                    unreadable.push_back(*id);
                }
            }
        }
        unreadable
    }

    /// Applies what the journal holds above the cut.
    fn replay(&mut self, now: Now) -> Result<(), String> {
        let recovery = self.recovery();
        let cut =
            recovery.checkpoint.as_ref().map_or_else(BlockSequence::default, |found| found.cut);
        let mut scanned = recovery.scanned.take();
        if let Some(scanned) = &mut scanned {
            let mut dead = vec![false; scanned.entries.len()];
            let tail = scanned.entries.partition_point(|(block, _)| *block <= scanned.durable);
            for (at, (sequence, entry)) in scanned.entries.iter().enumerate() {
                if *sequence <= cut {
                    continue;
                }
                match self.replay_entry(now, entry.clone())? {
                    Replayed::Vain => dead[at] = true,
                    Replayed::Cut => note_dead(&scanned.entries[..at], entry, &mut dead),
                    Replayed::Deleted(log) if at >= tail => {
                        note_deleted(&scanned.entries[tail..at], log, &mut dead[tail..]);
                    }
                    Replayed::Done | Replayed::Deleted(_) => {}
                }
            }
            // They are not written again. Behind the truncation they would come to life once more; and a start that is
            // killed while it writes the tail again leaves a part of it twice, of which the next would make thrice.
            let mut dead = dead.into_iter();
            scanned.entries.retain(|_| dead.next() == Some(false));
        }
        for log in self.logs.values_mut() {
            log.stable = log.end;
            log.reserved_stable = log.reserved;
            log.created = true;
        }
        self.recovery().scanned = scanned;
        Ok(())
    }

    /// Applies an entry, and tells what it has done.
    fn replay_entry(&mut self, now: Now, entry: Entry) -> Result<Replayed, String> {
        match entry {
            Entry::Create { log, storage, name } => {
                if self.logs.contains_key(&log) {
                    return Ok(Replayed::Vain);
                }
                let name = std::str::from_utf8(&name)
                    .ok()
                    .and_then(|name| TopicName::parse(name).ok())
                    .ok_or_else(|| {
                        format!("the journal holds a partition {log} with an impossible name")
                    })?;
                let settings = LogSettings::until_configured(storage);
                let limits = self.append_limits();
                self.logs.insert(log, PartitionLog::new(log, name, settings, limits));
            }
            Entry::Delete { log } => {
                let Some(partition) = self.logs.remove(&log) else { return Ok(Replayed::Vain) };
                self.cutting.remove(&log);
                self.unwritten_bytes -= partition.unwritten_bytes();
                if !partition.is_memory() {
                    let folder = partition.folder;
                    self.recovered_deletions.push((log, folder));
                }
                return Ok(Replayed::Deleted(log));
            }
            Entry::Truncate { log, cut } => return self.replay_cut(now, log, &cut),
            Entry::LogStart { log, start } => {
                let Some(partition) = self.logs.get_mut(&log) else { return Ok(Replayed::Vain) };
                // A start above the end: the batches between lay in blocks that were cut with it.
                let start = start.min(partition.end);
                if start <= partition.start {
                    return Ok(Replayed::Vain);
                }
                // The entry may live in the page cache alone: its segments go once it is flushed.
                let gone = partition.move_start(start);
                let folder = &partition.folder;
                self.recovered_removals
                    .extend(gone.into_iter().map(|extent| (folder.clone(), extent)));
            }
            Entry::Append { log, append_ms, rolls, batch } => {
                let Some(partition) = self.logs.get_mut(&log) else { return Ok(Replayed::Vain) };
                if batch.base_offset() < partition.end {
                    return Ok(Replayed::Vain);
                }
                if batch.base_offset() > partition.end {
                    return Err(format!(
                        "the journal goes on at offset {} of partition {}-{}, whose segments end at \
                         {}; restore the directory from a backup",
                        batch.base_offset(),
                        partition.name,
                        log.partition,
                        partition.end
                    ));
                }
                let size = batch.size() as u64;
                let base = batch.base_offset();
                partition.take_in(now.mono, batch, append_ms, rolls);
                self.unwritten_bytes += size;
                self.cache.push_back((log, base, size));
                self.cache_bytes += size;
            }
            Entry::Vote { epoch, candidate } => {
                // In the same epoch the journal may know for whom, where a checkpoint of an earlier build
                // or an earlier entry, written once more, does not.
                let is_news = self.vote.is_none_or(|(latest, chosen)| {
                    latest < epoch || (latest == epoch && chosen == NOBODY)
                });
                if !is_news {
                    return Ok(Replayed::Vain);
                }
                self.vote = Some((epoch, candidate));
            }
            Entry::Reserve { log, end } => {
                let Some(partition) = self.logs.get_mut(&log) else { return Ok(Replayed::Vain) };
                // Nothing of a memory log is left; it goes on where no offset was given out.
                let reserved = partition.reserved.max(end);
                let is_known =
                    [partition.reserved, partition.start, partition.end, partition.written_end];
                if is_known == [reserved; 4] {
                    return Ok(Replayed::Vain);
                }
                partition.reserved = reserved;
                partition.start = reserved;
                partition.end = reserved;
                partition.written_end = reserved;
            }
            Entry::Close => return Ok(Replayed::Vain),
        }
        Ok(Replayed::Done)
    }

    /// Cuts a log back as it was. One that was carried out already, because a start wrote its entry once
    /// more, is passed over; so is one whose log ends before the cut, because what was between was cut by
    /// a later one and not written again.
    fn replay_cut(&mut self, now: Now, log: TopicPartition, cut: &Cut) -> Result<Replayed, String> {
        let Some(partition) = self.logs.get_mut(&log) else { return Ok(Replayed::Vain) };
        if cut.number <= partition.last_cut {
            return Ok(Replayed::Vain);
        }
        partition.last_cut = cut.number;
        if partition.is_memory() || (!cut.anew && cut.end > partition.end) {
            return Ok(Replayed::Done);
        }
        let before = partition.unwritten_bytes();
        let last = partition.segments.iter().rev().map(|segment| segment.extent);
        let last = last.into_iter().find(|extent| extent.base < cut.end);
        let segment = cut.segment.and_then(|(base, bytes)| match last {
            Some(last) if last.base == base && bytes <= last.bytes => Some((base, bytes)),
            // A start that was moved before let go of what the segment had then: what came behind it stands in
            // one of its own here, and is all in memory.
            Some(last) if last.base > base => partition.place_in_memory(cut.end),
            Some(_) | None => None,
        });
        let fits = segment.is_some() || last.is_none_or(|last| last.end <= cut.end);
        if !cut.anew && (!fits || cut.end < partition.start) {
            return Err(format!(
                "the journal cuts partition {}-{} at offset {}, where none of its segments can be cut; \
                 restore the directory from a backup",
                partition.name, log.partition, cut.end
            ));
        }
        let gone = if cut.anew {
            partition.begin_anew(cut.end)
        } else {
            partition.cut_back(cut.end, segment)
        };
        partition.producers = if cut.producers.is_empty() {
            ProducerStates::new()
        } else {
            ProducerStates::decode_sidecar(&cut.producers, now.mono).map_err(|error| {
                format!(
                    "the journal tells of the producers of partition {}-{} what makes no sense: \
                     {error}; restore the directory from a backup",
                    partition.name, log.partition
                )
            })?
        };
        let lowest = if cut.anew { Offset::ZERO } else { cut.end };
        partition.lowest_cut = Some(partition.lowest_cut.map_or(lowest, |low| low.min(lowest)));
        partition.cutting = true;
        self.unwritten_bytes -= before - partition.unwritten_bytes();
        self.forget_beyond(log, lowest, cut.end);
        self.note_files(log, segment, &gone);
        Ok(Replayed::Cut)
    }

    /// Looks into the folders that may hold files from after the checkpoint.
    fn list_folders(&mut self, fx: &mut Effects) {
        let mut folders = vec![FileName::new(TRASH)];
        for log in self.logs.values() {
            let touched = log.dirty && !log.is_memory();
            if touched {
                folders.push(log.folder.clone());
            }
        }
        let ops = folders.iter().map(|folder| Op::List { directory: folder.clone() }).collect();
        self.enter(Stage::Folders { folders }, ops, fx);
    }

    /// Removes files of segments that were begun after the checkpoint and will be written again, where
    /// the checkpoint itself says that they are of this log; the others go once the journal is flushed.
    pub(super) fn clean_folder(
        &mut self,
        folder: &FileName,
        entries: &[DirectoryEntry],
        fx: &mut Effects,
    ) {
        if folder.as_str() == TRASH {
            for entry in entries {
                if entry.kind == EntryKind::Directory {
                    let folder = folder.join(&entry.name);
                    self.cleanups += 1;
                    self.ops.submit(
                        Op::List { directory: folder.clone() },
                        Purpose::CleanupList(folder),
                        fx,
                    );
                }
            }
            return;
        }
        let Some(log) = self.logs.values().find(|log| log.folder == *folder) else { return };
        let (id, lowest_cut) = (log.id, log.lowest_cut);
        let told = self.recovery().checkpoint.as_ref().map(|checkpoint| &checkpoint.logs);
        let image = told.into_iter().flatten().find(|(log, _)| *log == id).map(|(_, image)| image);
        let is_known = image.is_some();
        let known: Vec<Offset> = image
            .map(|image| image.segments.iter().map(|extent| extent.base).collect())
            .unwrap_or_default();
        let told_end = image.map_or(Offset::ZERO, |image| image.end);
        let end = lowest_cut.map_or(told_end, |cut| cut.min(told_end));
        // What is cut below what the checkpoint tells of goes once the journal is flushed.
        let active = image.filter(|_| end == told_end).and_then(|it| it.segments.last().copied());
        let mut stale = Vec::new();
        for entry in entries {
            if entry.kind != EntryKind::File || !is_ours(&entry.name) {
                continue;
            }
            let Some((digits, ending)) = entry.name.split_once('.') else { continue };
            let Ok(base) = digits.parse::<i64>() else { continue };
            let base = Offset(base);
            let later = matches!(ending, "log" | "index" | "timeindex" | "txnindex")
                && base >= end
                && !known.contains(&base);
            if later || matches!(ending, "index.tmp" | "timeindex.tmp" | "txnindex.tmp") {
                stale.push(folder.join(&entry.name));
            }
        }
        if !is_known {
            self.recovery().stale.append(&mut stale);
        }
        for file in stale {
            self.remove(file, fx);
        }
        if let Some(active) = active {
            self.cleanups += 1;
            self.ops.submit(
                Op::Truncate {
                    file: segment_file(folder, active.base, "log"),
                    length: active.bytes,
                },
                Purpose::Cleanup,
                fx,
            );
        }
    }

    /// Takes the journal up again behind its last block, and writes its unproven tail once more.
    pub(super) fn resume_journal(&mut self, now: Now, fx: &mut Effects) {
        let config = self.config.clone();
        let recovery = self.recovery();
        let mut files = std::mem::take(&mut recovery.files);
        let scanned = recovery.scanned.take();
        let starts = recovery.starts.expect("the start was counted");
        let cut =
            recovery.checkpoint.as_ref().map_or_else(BlockSequence::default, |found| found.cut);
        let (last, end, durable, wall) = match &scanned {
            Some(scanned) => (scanned.last, scanned.end, scanned.durable, scanned.wall),
            None => (BlockSequence::default(), None, BlockSequence::default(), None),
        };
        let found = std::mem::take(&mut recovery.found);
        let active = end.map(|(place, position)| (found[place].0, position));
        // The checkpoint covers everything before the file in which the cut lies; an earlier copy of
        // it, which a later start may have to go by, covers less.
        let earliest = recovery.earliest_cut;
        let needed =
            found.iter().map(|(_, first)| *first).filter(|first| first.0 <= earliest.0 + 1).max();
        for &(place, first) in &found {
            files[place].state = if active.is_some_and(|(file, _)| file == place) {
                FileState::Active
            } else if scanned.is_some()
                && last > earliest
                && needed.is_none_or(|needed| first >= needed)
            {
                // Released by the first checkpoint of this start.
                FileState::Sealed(last)
            } else {
                FileState::Free
            };
        }
        let durable = durable.min(last);
        // A durable block proves the head before it.
        let head_in_doubt = active.and_then(|(file, _)| {
            let first = found.iter().find(|(place, _)| *place == file).map(|(_, first)| *first);
            first.filter(|first| durable < *first)
        });
        let state = JournalState {
            id: recovery.journal_id,
            incarnation: starts.incarnation,
            files,
            next_file_number: recovery.next_file_number,
            active,
            last,
            durable,
            head_in_doubt,
        };
        let mut journal = Journal::resume(&config, state, now);
        let mut rewritten = false;
        for (sequence, entry) in scanned.into_iter().flat_map(|scanned| scanned.entries) {
            if sequence > cut && sequence > durable {
                rewritten |= !matches!(entry, Entry::Close);
                journal.enqueue(entry, Need::Flushed);
            }
        }
        if rewritten {
            fx.mark(Mark::TailRewritten);
        } else {
            journal.enqueue(Entry::Close, Need::Flushed);
        }
        journal.rewrites_tail();
        self.journal = Some(journal);
        self.retention.begin(now, wall, config.retention_check_interval_ms);
        self.note_foreign(fx);
        self.recovery().stage = Stage::Rewrite;
    }

    fn note_foreign(&mut self, fx: &mut Effects) {
        let root = std::mem::take(&mut self.recovery().root);
        let mut ours: BTreeSet<String> = OUR_NAMES.iter().map(|&name| name.to_owned()).collect();
        ours.extend(self.logs.values().map(|log| log.folder.as_str().to_owned()));
        ours.extend(self.recovered_deletions.iter().map(|(_, folder)| folder.as_str().to_owned()));
        for entry in root {
            if ours.contains(&entry.name) {
                continue;
            }
            if self.config.shard.0 == 0 {
                fx.mark(Mark::ForeignNameFound);
                fx.warn(format!(
                    "the data directory holds {:?}, which is not ours: left alone",
                    entry.name
                ));
            }
            self.foreign.insert(entry.name);
        }
    }

    /// Ends recovery once the rewritten tail is durable.
    pub(super) fn finish_recovery_when_flushed(&mut self, now: Now, fx: &mut Effects) {
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        let settled = self.journal.as_ref().is_some_and(Journal::is_settled);
        let clean = self.cleanups == 0;
        if !matches!(recovery.stage, Stage::Rewrite) || !settled || !clean {
            return;
        }
        let stale = std::mem::take(&mut recovery.stale);
        if !stale.is_empty() {
            fx.mark(Mark::StaleFilesRemoved);
            // Before anybody makes files of these names.
            for file in stale {
                self.remove(file, fx);
            }
            return;
        }
        let identity = recovery.identity.clone().expect("the survey found or made it");
        let starts = recovery.starts.expect("the start was counted");
        self.phase = Phase::Running;
        for (log, folder) in std::mem::take(&mut self.recovered_deletions) {
            if !self
                .logs
                .values()
                .any(|other| other.folder == folder && other.folder_state == Folder::Made)
            {
                self.discard_folder(log, folder, fx);
            }
        }
        for (folder, extent) in std::mem::take(&mut self.recovered_removals) {
            fx.mark(Mark::RemovalRecovered);
            self.remove_segment(&folder, extent, fx);
        }
        let (mut absent, mut unwritten) = (Vec::new(), Vec::new());
        for log in self.logs.values() {
            if log.is_memory() {
                continue;
            }
            if log.folder_state == Folder::Absent {
                absent.push(log.id);
            } else if log.lags(log.stable) {
                unwritten.push(log.id);
            }
        }
        for log in absent {
            self.make_folder(log, fx);
        }
        for log in unwritten {
            self.schedule_write(now, log, fx);
        }
        self.events.push_back(LogEvent::Recovered {
            incarnation: starts.incarnation,
            cluster_id: identity.cluster_id,
            cluster: identity.cluster().map(Arc::new),
            directory_id: identity.directory_id,
            vote: self.vote,
        });
        self.advance_cuts(fx);
    }
}

/// What an entry of the journal has done to the logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Replayed {
    /// Nothing: what it says was so before.
    Vain,
    /// What it says.
    Done,
    /// It has cut a log back.
    Cut,
    /// It has deleted a log.
    Deleted(TopicPartition),
}

/// Notes which earlier entries of the tail need not be written again, because their log is deleted. Where the
/// log was made in the tail, that is: for the files that it may have, the deletion must find it.
fn note_deleted(earlier: &[(BlockSequence, Entry)], of: TopicPartition, dead: &mut [bool]) {
    let mut is_first = true;
    for ((_, entry), dead) in earlier.iter().zip(dead) {
        let made = matches!(entry, Entry::Create { log, .. } if *log == of);
        let is_of = match entry {
            Entry::Append { log, .. }
            | Entry::LogStart { log, .. }
            | Entry::Truncate { log, .. }
            | Entry::Create { log, .. }
            | Entry::Delete { log }
            | Entry::Reserve { log, .. } => *log == of,
            Entry::Vote { .. } | Entry::Close => false,
        };
        *dead |= is_of && !(made && is_first);
        is_first &= !is_of;
    }
}

/// Notes which earlier entries count for nothing, because a truncation has taken back what they did.
fn note_dead(earlier: &[(BlockSequence, Entry)], truncation: &Entry, dead: &mut [bool]) {
    let Entry::Truncate { log: of, cut } = truncation else { return };
    for ((_, entry), dead) in earlier.iter().zip(dead) {
        *dead |= match entry {
            Entry::Append { log, batch, .. } => {
                log == of && (cut.anew || batch.next_offset() > cut.end)
            }
            Entry::LogStart { log, .. } => log == of && cut.anew,
            Entry::Truncate { .. }
            | Entry::Create { .. }
            | Entry::Delete { .. }
            | Entry::Vote { .. }
            | Entry::Reserve { .. }
            | Entry::Close => false,
        };
    }
}

impl LogSettings {
    /// What holds for a recovered log until its shard configures it: nothing is deleted or rolled.
    pub(super) const fn until_configured(storage: Storage) -> Self {
        Self {
            storage,
            flush: FlushPolicy::Ack,
            segment_bytes: 1 << 30,
            segment_ms: i64::MAX,
            retention_ms: -1,
            retention_bytes: -1,
            index_interval_bytes: 4096,
            memory_max_bytes: 256 << 20,
            delete: false,
            may_use_reserve: false,
        }
    }
}
