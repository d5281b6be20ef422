//! One log: its segments, its recent batches in memory, its epochs and its producers.
//!
//! It decides places and remembers; the store does the rest: journal, disk, events.
//!
//! Invariants:
//! 1. `start <= written_end <= end` and `stable <= end`.
//! 2. The batches in `tail` are contiguous and end at `end`; everything below the first of them is
//!    in segment files.
//! 3. A batch leaves memory only after its segment write has completed.
//! 4. Every change goes through [`PartitionLog::take_in`], [`PartitionLog::move_start`],
//!    [`PartitionLog::cut_back`] and [`PartitionLog::begin_anew`], live and at replay alike.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::digest::Digest;
use crate::ids::{LeaderEpoch, Offset, TopicName, TopicPartition};
use crate::io::FileName;
use crate::log::api::{LogSettings, Storage};
use crate::log::leader_epoch::LeaderEpochs;
use crate::log::producer_state::{ProducerStates, Undo};
use crate::log::segment::{Extent, Indexes, Segment, segment_file};
use crate::record::batch::Batch;
use crate::time::{Instant, UnixMillis};

#[derive(Clone, Debug)]
pub(super) enum TailBytes {
    /// As it was appended.
    Fresh(Batch),
    /// A slice of the sealed journal block.
    Sealed(Bytes),
}

#[derive(Clone, Debug)]
pub(super) struct TailBatch {
    pub(super) base: Offset,
    pub(super) next: Offset,
    pub(super) size: u64,
    /// Bytes of this log appended before this batch, in this life of the process.
    pub(super) before: u64,
    pub(super) segment: Offset,
    pub(super) position: u64,
    pub(super) bytes: TailBytes,
    /// What takes back what it told of its producer.
    undo: Option<Box<Undo>>,
}

impl TailBatch {
    pub(super) fn push_parts(&self, parts: &mut Vec<Bytes>) {
        match &self.bytes {
            TailBytes::Fresh(batch) => {
                parts.push(Bytes::copy_from_slice(batch.header()));
                parts.push(batch.rest().clone());
            }
            TailBytes::Sealed(bytes) => parts.push(bytes.clone()),
        }
    }

    /// Returns the batch whole, sharing its payload.
    pub(super) fn batch(&self) -> Batch {
        match &self.bytes {
            TailBytes::Fresh(batch) => batch.clone(),
            TailBytes::Sealed(bytes) => {
                Batch::split_from(&mut bytes.clone()).expect("a sealed batch was whole when sealed")
            }
        }
    }
}

/// A run of batches on its way to a segment.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) file: FileName,
    pub(super) position: u64,
    pub(super) parts: Vec<Bytes>,
    pub(super) end: Offset,
}

/// State of a log's folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Folder {
    /// Does not exist yet.
    Absent,
    /// Being made.
    Making,
    /// There, with its `partition.metadata`.
    Made,
}

/// What the producer files of a log are worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ProducerFiles {
    /// They say what they should.
    Sound,
    /// They are damaged and what they said is known again: the next checkpoint writes them anew.
    Lost,
    /// They are damaged and so are the segments: every start looks again.
    Unknown,
}

/// What a checkpoint says of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LogImage {
    pub(super) name: TopicName,
    pub(super) storage: Storage,
    pub(super) start: Offset,
    pub(super) end: Offset,
    /// The first offset that a memory log may not give out without a further reservation.
    pub(super) reserved: Offset,
    /// Offset in the names of the producer snapshot files, `None` where there were no producers.
    pub(super) producers_at: Option<Offset>,
    pub(super) epochs: Vec<(LeaderEpoch, Offset)>,
    pub(super) segments: Vec<Extent>,
}

#[derive(Clone, Debug)]
pub(super) struct PartitionLog {
    pub(super) id: TopicPartition,
    pub(super) name: TopicName,
    pub(super) folder: FileName,
    pub(super) folder_state: Folder,
    /// Whether the creation is durable.
    pub(super) created: bool,
    pub(super) settings: LogSettings,
    pub(super) start: Offset,
    /// Where the start will be once the journal's entries about it are durable.
    pub(super) coming_start: Offset,
    pub(super) end: Offset,
    pub(super) stable: Offset,
    pub(super) written_end: Offset,
    pub(super) writing: bool,
    /// Where the segment write under way ends, as far as it counts.
    pub(super) run_end: Offset,
    /// Whether its files are being cut, so that nothing is written to them.
    pub(super) cutting: bool,
    /// Truncations that the journal has not flushed yet, in their order: where each ends, `None` where the
    /// log begins anew. What was appended before and reaches beyond counts for nothing.
    pub(super) cuts: VecDeque<Option<Offset>>,
    /// The number of the last truncation.
    pub(super) last_cut: u64,
    /// The lowest end of a truncation since the checkpoint that a start has read.
    pub(super) lowest_cut: Option<Offset>,
    pub(super) reserved: Offset,
    pub(super) reserved_stable: Offset,
    pub(super) segments: VecDeque<Segment>,
    pub(super) tail: VecDeque<TailBatch>,
    appended_bytes: u64,
    pub(super) producers: ProducerStates,
    /// What the producer files that the last checkpoint names are worth.
    pub(super) producer_files: ProducerFiles,
    pub(super) epochs: LeaderEpochs,
    /// Whether people were told that it takes records that are past its retention.
    pub(super) told_of_past: bool,
    /// Where rot was found: nothing is appended any more.
    pub(super) damaged: Option<Offset>,
    /// Whether something happened that the last checkpoint does not cover.
    pub(super) dirty: bool,
    /// What the last durable checkpoint says, and what the one being made will say.
    pub(super) image: Option<LogImage>,
    pub(super) next_image: Option<LogImage>,
    /// When what waits for its segment must be written at the latest.
    pub(super) write_due: Option<Instant>,
    pub(super) append_limits: AppendLimits,
    /// Retention takes nothing at or beyond this offset.
    pub(super) hold_from: Option<Offset>,
    /// Up to where it would have taken more.
    pub(super) wish: Option<Offset>,
    /// Bytes that would be written again so that all may go that is held.
    pub(super) copied_bytes: u64,
}

/// Bounds that every append of the node knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendLimits {
    pub(super) producer_ids_max: usize,
}

impl PartitionLog {
    pub(super) fn new(
        id: TopicPartition,
        name: TopicName,
        settings: LogSettings,
        append_limits: AppendLimits,
    ) -> Self {
        let folder = FileName::new(format!("{name}-{}", id.partition));
        Self {
            id,
            name,
            folder,
            folder_state: Folder::Absent,
            created: false,
            settings,
            start: Offset::ZERO,
            coming_start: Offset::ZERO,
            end: Offset::ZERO,
            stable: Offset::ZERO,
            written_end: Offset::ZERO,
            writing: false,
            run_end: Offset::ZERO,
            cutting: false,
            cuts: VecDeque::new(),
            last_cut: 0,
            lowest_cut: None,
            reserved: Offset::ZERO,
            reserved_stable: Offset::ZERO,
            segments: VecDeque::new(),
            tail: VecDeque::new(),
            appended_bytes: 0,
            producers: ProducerStates::new(),
            producer_files: ProducerFiles::Sound,
            epochs: LeaderEpochs::new(),
            told_of_past: false,
            damaged: None,
            dirty: true,
            image: None,
            next_image: None,
            write_due: None,
            append_limits,
            hold_from: None,
            wish: None,
            copied_bytes: 0,
        }
    }

    pub(super) fn from_image(
        id: TopicPartition,
        image: &LogImage,
        settings: LogSettings,
        append_limits: AppendLimits,
    ) -> Self {
        let mut log = Self::new(id, image.name.clone(), settings, append_limits);
        log.start = image.start;
        log.end = image.end;
        log.stable = image.end;
        log.written_end = image.end;
        log.reserved = image.reserved;
        log.reserved_stable = image.reserved;
        log.segments = image.segments.iter().map(|&extent| Segment::from_extent(extent)).collect();
        for &(epoch, start) in &image.epochs {
            log.epochs.assign(epoch, start).expect("a checkpoint holds rising epochs");
        }
        log.dirty = false;
        log.image = Some(image.clone());
        log.folder_state = match image.storage {
            Storage::Disk => Folder::Made,
            Storage::Memory => Folder::Absent,
        };
        log
    }

    pub(super) const fn is_memory(&self) -> bool {
        matches!(self.settings.storage, Storage::Memory)
    }

    /// Returns what a checkpoint made at this moment would say.
    pub(super) fn image_now(&self) -> LogImage {
        let memory = self.is_memory();
        // The checkpoint waits for the entries that move the start; their block may lie below its cut.
        let start = self.start.max(self.coming_start);
        let last = self.segments.len().saturating_sub(1);
        LogImage {
            name: self.name.clone(),
            storage: self.settings.storage,
            start: if memory { self.reserved } else { start },
            end: if memory { self.reserved } else { self.end },
            reserved: self.reserved,
            producers_at: (!memory && !self.producers.knows_nothing()).then_some(self.end),
            epochs: if memory { Vec::new() } else { self.epochs.iter().collect() },
            segments: if memory {
                Vec::new()
            } else {
                let kept = self
                    .segments
                    .iter()
                    .enumerate()
                    .filter(|(at, segment)| segment.extent.end > start || *at == last);
                kept.map(|(_, segment)| segment.extent).collect()
            },
        }
    }

    /// Returns whether the next batch begins a segment.
    pub(super) fn rolls(&self, wall: UnixMillis, batch_bytes: u64) -> bool {
        let Some(active) = self.segments.back() else { return true };
        if active.indexes.is_none() || active.closed {
            // Its index was not loaded since the start, so it takes no more entries.
            return true;
        }
        if active.is_empty() {
            return false;
        }
        let is_full = active.indexes.as_ref().is_some_and(Indexes::are_full);
        let age = wall.0.saturating_sub(active.extent.first_append.0);
        let limit = self.settings.segment_bytes.min(u64::from(u32::MAX >> 1));
        let relative = self.end.0 - active.extent.base.0;
        active.extent.bytes + batch_bytes > limit
            || age > self.settings.segment_ms
            || is_full
            || relative > i64::from(i32::MAX >> 1)
    }

    /// Returns whether what lies below an offset may go.
    pub(super) fn lets_go(&self, below: Offset) -> bool {
        self.hold_from.is_none_or(|hold| below <= hold)
    }

    /// Returns whether the active segment holds anything.
    pub(super) fn holds_in_active(&self) -> bool {
        self.segments.back().is_some_and(|active| !active.is_empty())
    }

    /// Takes in a batch that has its offsets: live, right after it went to the journal, and at replay.
    pub(super) fn take_in(&mut self, mono: Instant, batch: Batch, append: UnixMillis, rolls: bool) {
        assert_eq!(batch.base_offset(), self.end, "batches of a log are contiguous");
        assert!(batch.last_offset() >= self.end, "a batch holds at least one offset");
        if rolls || self.segments.is_empty() {
            if let Some(closed) = self.segments.back_mut()
                && let Some(indexes) = &mut closed.indexes
            {
                indexes.times.add_entry();
            }
            let interval = self.settings.index_interval_bytes;
            self.segments.push_back(Segment::new(self.end, append, interval));
        }
        let epoch = batch.leader_epoch();
        if self.epochs.latest().is_none_or(|(latest, _)| latest < epoch) {
            self.epochs.assign(epoch, self.end).expect("epochs of a log rise");
        }
        let ids_max = self.append_limits.producer_ids_max;
        let undo = self.producers.take_in(mono, &batch, append.0, ids_max);
        let size = batch.size() as u64;
        let next = batch.next_offset();
        let active = self.segments.back_mut().expect("there is an active segment");
        active.transactions_dirty |= batch.is_control();
        let position = active.take_in(&batch, append);
        self.tail.push_back(TailBatch {
            base: self.end,
            next,
            size,
            before: self.appended_bytes,
            segment: active.extent.base,
            position,
            bytes: TailBytes::Fresh(batch),
            undo,
        });
        self.appended_bytes += size;
        self.end = next;
        self.dirty = true;
    }

    /// Replaces a fresh batch by its slice of the sealed block.
    pub(super) fn seal(&mut self, base: Offset, bytes: Bytes) {
        if let Some(at) = self.tail_position(base)
            && self.tail[at].base == base
        {
            assert_eq!(self.tail[at].size, bytes.len() as u64, "sealing keeps the size");
            self.tail[at].bytes = TailBytes::Sealed(bytes);
        }
    }

    /// Returns whether the log begins anew, and that is not durable yet: a crash brings what was there back.
    pub(super) fn begins_anew(&self) -> bool {
        self.cuts.contains(&None)
    }

    /// Returns whether a batch that the journal has just flushed is still a part of the log.
    pub(super) fn survives_cuts(&self, next: Offset) -> bool {
        // While the place of a cut is looked for, the end alone tells of it.
        next <= self.end && self.cuts.iter().all(|cut| cut.is_some_and(|end| next <= end))
    }

    /// Removes every batch from `end` on, which is where a batch begins. `segment` is the last segment that
    /// is left, and its length. Returns the segments that have gone.
    ///
    /// Of producers the batches in memory are taken back; what others have told is left to the caller.
    pub(super) fn cut_back(&mut self, end: Offset, segment: Option<(Offset, u64)>) -> Vec<Extent> {
        assert!(self.start <= end && end <= self.end, "a log is cut within its bounds");
        while self.tail.back().is_some_and(|batch| batch.base >= end) {
            let batch = self.tail.pop_back().expect("there is one");
            self.appended_bytes = batch.before;
            if let Some(undo) = batch.undo {
                self.producers.undo(*undo);
            }
        }
        let mut gone = Vec::new();
        while self.segments.back().is_some_and(|segment| segment.extent.base >= end) {
            gone.extend(self.segments.pop_back().map(|segment| segment.extent));
        }
        if let (Some(last), Some((base, bytes))) = (self.segments.back_mut(), segment) {
            assert_eq!(last.extent.base, base, "the segment that is left is the last one");
            last.cut(end, bytes);
        }
        self.epochs.truncate_from_end(end);
        self.damaged = self.damaged.filter(|at| *at < end);
        self.stable = self.stable.min(end);
        self.end_at(end);
        gone
    }

    /// Forgets all batches and begins anew at `start`. Returns the segments that have gone.
    pub(super) fn begin_anew(&mut self, start: Offset) -> Vec<Extent> {
        self.tail.clear();
        self.producers = ProducerStates::new();
        self.epochs = LeaderEpochs::new();
        self.damaged = None;
        self.start = start;
        self.coming_start = start;
        self.stable = start;
        self.written_end = start;
        self.run_end = start;
        self.end_at(start);
        self.segments.drain(..).map(|segment| segment.extent).collect()
    }

    /// Takes the end of the log back, and says that what checkpoints know of the rest is out of date.
    pub(super) fn end_at(&mut self, end: Offset) {
        self.end = end;
        self.stable = self.stable.min(end);
        self.written_end = self.written_end.min(end);
        self.run_end = self.run_end.min(end);
        self.dirty = true;
        if self.producer_files == ProducerFiles::Sound || self.damaged.is_none() {
            // Of the same name there may be others; and what could not be learned was behind what is left.
            self.producer_files = ProducerFiles::Lost;
        }
        // These copies say what is flushed; the checkpoint under way has its own.
        if let Some(image) = &mut self.image {
            image.segments.retain(|extent| extent.end <= end);
            image.epochs.clear();
        }
        if let Some(image) = &mut self.next_image {
            image.segments.retain(|extent| extent.base < end);
            image.epochs.clear();
        }
    }

    /// Returns how many bytes of a segment's batches are in its file, `None` where it is not there.
    pub(super) fn written_bytes_of(&self, base: Offset) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| segment.extent.base == base)?;
        if self.written_end <= base {
            return None;
        }
        let tail = self.tail_position(self.written_end).map(|at| &self.tail[at]);
        let unwritten = tail.filter(|batch| batch.segment == base);
        Some(unwritten.map_or(segment.extent.bytes, |batch| batch.position))
    }

    /// Returns the segment that is the last one below `end`, where that is the end of a batch in it or
    /// the batch there is in memory: its base and its length up to there.
    pub(super) fn place_of(&self, end: Offset) -> Option<(Offset, u64)> {
        let at = self.segments.partition_point(|segment| segment.extent.base < end);
        let segment = &self.segments[at.checked_sub(1)?];
        let extent = segment.extent;
        if extent.end <= end {
            return Some((extent.base, extent.bytes));
        }
        let batch = &self.tail[self.tail_position(end)?];
        assert!(batch.base == end && batch.segment == extent.base, "a batch begins at the cut");
        Some((extent.base, batch.position))
    }

    /// Returns the place of a batch as [`place_of`](Self::place_of) does; `None` where none begins there in memory.
    pub(super) fn place_in_memory(&self, end: Offset) -> Option<(Offset, u64)> {
        let at = self.segments.partition_point(|segment| segment.extent.base < end);
        let extent = self.segments[at.checked_sub(1)?].extent;
        if extent.end <= end {
            return Some((extent.base, extent.bytes));
        }
        let batch = &self.tail[self.tail_position(end)?];
        (batch.base == end && batch.segment == extent.base).then_some((extent.base, batch.position))
    }

    /// Moves the log's start up. Returns the segments that have nothing above it.
    pub(super) fn move_start(&mut self, start: Offset) -> Vec<Extent> {
        if start <= self.start {
            return Vec::new();
        }
        assert!(start <= self.end, "the start of a log stays within it");
        self.start = start;
        self.dirty = true;
        self.epochs.truncate_from_start(start);
        self.producers.forget_below(start);
        self.trim_segments()
    }

    /// Takes out the segments that have nothing above the start and nothing to be written any more.
    pub(super) fn trim_segments(&mut self) -> Vec<Extent> {
        if self.cutting {
            // What one has above the start may be cut by an entry that a crash takes.
            return Vec::new();
        }
        let (start, written, memory) = (self.start, self.written_end, self.is_memory());
        let done = |segment: &Segment| {
            segment.extent.end <= start && (memory || segment.extent.end <= written)
        };
        let mut gone = Vec::new();
        while self.segments.len() > 1 && done(&self.segments[0]) {
            gone.extend(self.segments.pop_front().map(|segment| segment.extent));
        }
        let quiet = !self.writing && self.segments.len() == 1;
        if quiet && !self.segments[0].is_empty() && done(&self.segments[0]) {
            gone.extend(self.segments.pop_front().map(|segment| segment.extent));
        }
        gone
    }

    /// Returns the place in the tail of the batch that holds `offset`.
    pub(super) fn tail_position(&self, offset: Offset) -> Option<usize> {
        let at = self.tail.partition_point(|batch| batch.next <= offset);
        (at < self.tail.len() && self.tail[at].base <= offset).then_some(at)
    }

    /// Returns the first offset that is in memory.
    pub(super) fn tail_start(&self) -> Offset {
        self.tail.front().map_or(self.end, |batch| batch.base)
    }

    /// Returns the batches that may go to the segment next, in one run within one segment.
    pub(super) fn next_run(&self, most: u64) -> Option<Run> {
        if self.writing || self.cutting || self.is_memory() || self.folder_state != Folder::Made {
            return None;
        }
        let first = self.tail_position(self.written_end)?;
        let segment = self.tail[first].segment;
        let position = self.tail[first].position;
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut end = self.written_end;
        for batch in self.tail.range(first..) {
            if batch.segment != segment
                || batch.next > self.stable
                || (bytes > 0 && bytes + batch.size > most)
            {
                break;
            }
            bytes += batch.size;
            end = batch.next;
            batch.push_parts(&mut parts);
        }
        (bytes > 0).then(|| Run {
            file: segment_file(&self.folder, segment, "log"),
            position,
            parts,
            end,
        })
    }

    /// Returns bytes of batches that are not in a segment yet.
    pub(super) fn unwritten_bytes(&self) -> u64 {
        let first = self.tail.partition_point(|batch| batch.next <= self.written_end);
        self.tail.get(first).map_or(0, |batch| self.appended_bytes - batch.before)
    }

    /// Returns whether batches below `end` are neither written nor being written.
    pub(super) fn lags(&self, end: Offset) -> bool {
        self.written_end < end && !self.is_memory()
    }

    /// Drops the oldest batch from memory if its segment write has completed; returns its size.
    pub(super) fn evict(&mut self, base: Offset) -> Option<u64> {
        let front = self.tail.front()?;
        if front.base > base || front.next > self.written_end {
            return None;
        }
        let size = front.size;
        self.tail.pop_front();
        Some(size)
    }

    /// Returns bytes in segments and memory.
    pub(super) fn size(&self) -> u64 {
        if self.is_memory() {
            return self.tail.front().map_or(0, |front| self.appended_bytes - front.before);
        }
        self.segments.iter().map(|segment| segment.extent.bytes).sum()
    }

    /// Returns the place among the segments of the one that holds `offset` or begins after it.
    pub(super) fn segment_position(&self, offset: Offset) -> Option<usize> {
        let at = self.segments.partition_point(|segment| segment.extent.end <= offset);
        (at < self.segments.len()).then_some(at)
    }

    /// Returns readable bytes between two offsets, exactly in memory, by the indexes in segments.
    pub(super) fn readable(&self, from: Offset, end: Offset, enough: u64) -> u64 {
        if from >= end {
            return 0;
        }
        let in_memory = {
            let first = self.tail.partition_point(|batch| batch.next <= from);
            let last = self.tail.partition_point(|batch| batch.next <= end);
            match (self.tail.get(first), last.checked_sub(1).and_then(|at| self.tail.get(at))) {
                (Some(first), Some(last)) if last.before >= first.before => {
                    last.before + last.size - first.before
                }
                _ => 0,
            }
        };
        if from >= self.tail_start() || in_memory >= enough {
            return in_memory;
        }
        let mut total = in_memory;
        for segment in &self.segments {
            if segment.extent.end <= from {
                continue;
            }
            let skipped = if segment.extent.base < from {
                segment.indexes.as_ref().map_or(0, |indexes| indexes.offsets.lookup(from))
            } else {
                0
            };
            total += segment.extent.bytes - skipped;
            if total >= enough {
                break;
            }
        }
        total
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.bytes(&self.id.topic_id.0).signed(i64::from(self.id.partition.0));
        digest.text(self.name.as_str());
        digest.signed(self.start.0).signed(self.end.0).signed(self.stable.0);
        digest.signed(self.written_end.0).signed(self.reserved.0);
        for segment in &self.segments {
            segment.digest(digest);
        }
        for batch in &self.tail {
            match &batch.bytes {
                TailBytes::Fresh(fresh) => digest.bytes(fresh.header()),
                TailBytes::Sealed(sealed) => digest.bytes(&sealed[..61]),
            };
        }
        digest.signed(self.coming_start.0).signed(self.run_end.0).signed(self.reserved_stable.0);
        digest.shown(&(self.writing, self.created, self.dirty, self.folder_state, self.damaged));
        digest.shown(&(self.write_due, self.producer_files, &self.image, &self.next_image));
        digest.shown(&(self.cutting, &self.cuts, self.last_cut));
        digest.shown(&(self.hold_from, self.wish, self.copied_bytes));
        self.producers.digest(digest);
        self.epochs.digest(digest);
    }
}
