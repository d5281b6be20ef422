//! Reading from segment files: fetches of old data, and lookups by time.
//!
//! Every byte that leaves here has been checked: a batch's framing, its CRC, that its offsets follow
//! the batch before and lie within its segment, and that the log knows its epoch at that offset.
//! A wrong CRC that is there when it is read once more is rot: the read says so, and the log takes no more
//! appends.
//!
//! Invariants:
//! 1. A read returns whole batches, in order, below its end.
//! 2. An index only says where to begin; a doubtful one is dropped and the segment is read from its
//!    beginning, never taken for rot.

use std::sync::Arc;

use bytes::Bytes;

use crate::buggify::Site;
use crate::digest::Digest;
use crate::ids::{Offset, TopicPartition};
use crate::io::{Completion, Counter, DiskError, DiskErrorKind, Effects, Mark};
use crate::log::api::{FileRange, FoundRecord, LogEvent, ReadError, ReadTicket, TimeLookup};
use crate::log::offset_index::{OffsetIndex, SegmentExtent};
use crate::log::operations::{Op, Purpose};
use crate::log::partition_log::PartitionLog;
use crate::log::segment::{Extent, Indexes, segment_file};
use crate::log::store::{LogStore, Phase};
use crate::log::time_index::TimeIndex;
use crate::record::batch::{Batch, HEADER_LEN};
use crate::record::iterate::OpenBatch;
use crate::time::Now;

/// Bytes read at once at least, and at most unless one batch is larger.
const READ_MIN: u64 = 64 << 10;
const READ_MAX: u64 = 4 << 20;
/// Largest index file that is looked at.
const INDEX_MAX: u64 = 16 << 20;
/// Most bytes out of one compressed batch, where a lookup by time opens it.
const OPENED_MAX: usize = 256 << 20;

#[derive(Clone, Debug)]
enum Goal {
    Fetch {
        end: Offset,
        max_bytes: u64,
        at_least_one: bool,
        parts: Vec<Bytes>,
        bytes: u64,
    },
    Time {
        lookup: TimeLookup,
        end: Offset,
        /// The record with the largest timestamp so far.
        best: Option<FoundRecord>,
    },
}

#[derive(Clone, Debug)]
enum State {
    OffsetIndex,
    TimeIndex {
        offsets: Bytes,
    },
    /// The indexes are built by reading the segment from its beginning.
    Rebuilding {
        indexes: Box<Indexes>,
    },
    Batches,
}

/// One read under way.
#[derive(Clone, Debug)]
pub(super) struct ReadJob {
    ticket: ReadTicket,
    log: TopicPartition,
    goal: Goal,
    state: State,
    /// The segment that is read.
    extent: Extent,
    position: u64,
    want: u64,
    /// How many bytes the read under way asked for.
    asked: u64,
    /// The first offset that is wanted.
    from: Offset,
    /// The one that was wanted at first.
    first: Offset,
    /// Whether its log was cut back since: what is read now counts for nothing.
    stale: bool,
    /// Whether the segment was already read from its beginning.
    from_beginning: bool,
    /// Up to where batches that seemed damaged were read once more.
    doubted: u64,
    /// Indexes that were loaded for this read, of the segment with that base: a segment that has
    /// grown meanwhile does not keep them.
    loaded: Option<(Offset, Box<Indexes>)>,
}

impl Goal {
    /// Returns whether nothing wanted can lie in a segment with this largest timestamp.
    const fn skips(&self, max_timestamp: i64) -> bool {
        match self {
            Self::Fetch { .. } => false,
            Self::Time { lookup: TimeLookup::AtLeast(target), .. } => max_timestamp < *target,
            Self::Time { best: Some(best), .. } => max_timestamp <= best.timestamp,
            Self::Time { best: None, .. } => max_timestamp < 0,
        }
    }
}

impl LogStore {
    /// Reads a range of a segment file, checks it, and answers with [`LogEvent::Read`].
    pub fn read(&mut self, now: Now, range: FileRange, ticket: ReadTicket, fx: &mut Effects) {
        let _ = now;
        fx.mark(Mark::FetchFromFile);
        let is_short = range.at_least_one && self.buggify.strikes(Site::ShortFetch);
        let goal = Goal::Fetch {
            end: range.end,
            max_bytes: if is_short { 1 } else { range.max_bytes },
            at_least_one: range.at_least_one,
            parts: Vec::new(),
            bytes: 0,
        };
        self.begin_read(range.log, range.from, goal, ticket, fx);
    }

    /// Looks for a record by its time below `end`; answers with [`LogEvent::Found`].
    pub fn find_by_time(
        &mut self,
        now: Now,
        log: TopicPartition,
        lookup: TimeLookup,
        end: Offset,
        ticket: ReadTicket,
        fx: &mut Effects,
    ) {
        let _ = now;
        let Some(partition) = self.logs.get(&log) else {
            self.events.push_back(LogEvent::Found { ticket, result: Err(ReadError::Gone) });
            return;
        };
        let from = partition.start;
        self.begin_read(log, from, Goal::Time { lookup, end, best: None }, ticket, fx);
    }

    fn begin_read(
        &mut self,
        log: TopicPartition,
        from: Offset,
        goal: Goal,
        ticket: ReadTicket,
        fx: &mut Effects,
    ) {
        let empty = Extent {
            base: from,
            end: from,
            bytes: 0,
            max_timestamp: -1,
            first_append: crate::time::UnixMillis(0),
            last_append: crate::time::UnixMillis(0),
        };
        let job = ReadJob {
            ticket,
            log,
            goal,
            state: State::Batches,
            extent: empty,
            position: 0,
            want: 0,
            asked: 0,
            from,
            first: from,
            stale: false,
            from_beginning: false,
            doubted: 0,
            loaded: None,
        };
        self.next_segment(job, fx);
    }

    /// Goes on with the first segment at or after the offset that the job wants.
    fn next_segment(&mut self, mut job: ReadJob, fx: &mut Effects) {
        if let Phase::Poisoned(why) = &self.phase {
            let why = Arc::clone(why);
            return self.fail(&job, ReadError::Disk(why));
        }
        let Some(partition) = self.logs.get(&job.log) else {
            return self.fail(&job, ReadError::Gone);
        };
        if job.from < partition.start {
            if let Goal::Time { .. } = job.goal {
                // What went meanwhile is not looked for; what is left may hold the time.
                return self.read_again(job, fx);
            }
            return self.fail(&job, ReadError::Gone);
        }
        let in_files = partition.written_end.min(partition.tail_start());
        let mut at = partition.segment_position(job.from).unwrap_or(partition.segments.len());
        while let Some(segment) = partition.segments.get(at)
            && job.from < in_files
            && job.goal.skips(segment.extent.max_timestamp)
        {
            job.from = segment.extent.end;
            at += 1;
        }
        if job.from >= in_files || at >= partition.segments.len() {
            return self.finish_in_memory(job);
        }
        let segment = &partition.segments[at];
        job.extent = readable_extent(partition, at);
        job.from_beginning = false;
        job.doubted = 0;
        let loaded = job
            .loaded
            .as_ref()
            .filter(|(base, _)| *base == segment.extent.base)
            .map(|(_, indexes)| indexes.as_ref());
        let Some(indexes) = segment.indexes.as_ref().or(loaded) else {
            job.state = State::OffsetIndex;
            return self.read_index(job, "index", fx);
        };
        job.state = State::Batches;
        if let Goal::Time { lookup: TimeLookup::AtLeast(target), .. } = job.goal {
            // Everything before is earlier.
            job.from = job.from.max(indexes.times.lookup(target)).min(job.extent.end);
        }
        let position = indexes.offsets.lookup(job.from);
        job.position = if position < job.extent.bytes { position } else { 0 };
        job.from_beginning = job.position == 0;
        job.want = first_want(&job);
        if self.buggify.strikes(Site::SmallRead) {
            job.want = HEADER_LEN as u64;
        }
        self.read_on(job, fx);
    }

    fn read_index(&mut self, job: ReadJob, ending: &str, fx: &mut Effects) {
        let Some(partition) = self.logs.get(&job.log) else {
            return self.fail(&job, ReadError::Gone);
        };
        let file = segment_file(&partition.folder, job.extent.base, ending);
        self.submit_read(job, Op::Read { file, position: 0, length: INDEX_MAX }, fx);
    }

    /// Reads the next bytes of the job's segment.
    fn read_on(&mut self, mut job: ReadJob, fx: &mut Effects) {
        let Some(partition) = self.logs.get(&job.log) else {
            return self.fail(&job, ReadError::Gone);
        };
        let file = segment_file(&partition.folder, job.extent.base, "log");
        let length = job.want.min(job.extent.bytes - job.position);
        let position = job.position;
        job.asked = length;
        self.submit_read(job, Op::Read { file, position, length }, fx);
    }

    fn submit_read(&mut self, job: ReadJob, op: Op, fx: &mut Effects) {
        let number = self.next_read;
        self.next_read += 1;
        self.reads.insert(number, job);
        self.ops.submit(op, Purpose::Read(number), fx);
    }

    pub(super) fn on_read_done(
        &mut self,
        now: Now,
        number: u64,
        outcome: Result<Completion, DiskError>,
        fx: &mut Effects,
    ) {
        let _ = now;
        let Some(mut job) = self.reads.remove(&number) else { return };
        if job.stale {
            return self.read_again(job, fx);
        }
        let bytes = match outcome {
            Ok(Completion::Read(bytes)) => bytes,
            Ok(_) => unreachable!("a read is answered by a read"),
            Err(error) => {
                let index = matches!(job.state, State::OffsetIndex | State::TimeIndex { .. });
                if index {
                    // What an index says can be told from its segment, whatever has become of it.
                    if error.kind != DiskErrorKind::NotFound {
                        fx.warn(format!("{error}; it is built anew from its segment"));
                    }
                    Bytes::new()
                } else {
                    let gone = !self.logs.contains_key(&job.log)
                        || self.logs[&job.log].start >= job.extent.end;
                    if !gone && error.kind == DiskErrorKind::NotFound {
                        job.from_beginning = true;
                        return self.corrupt(job, "the file is gone", fx);
                    }
                    let is_there = self.logs.contains_key(&job.log);
                    if gone && is_there && matches!(job.goal, Goal::Time { .. }) {
                        return self.read_again(job, fx);
                    }
                    let error = if gone {
                        ReadError::Gone
                    } else {
                        ReadError::Disk(error.to_string().into())
                    };
                    return self.fail(&job, error);
                }
            }
        };
        match std::mem::replace(&mut job.state, State::Batches) {
            State::OffsetIndex => {
                job.state = State::TimeIndex { offsets: bytes };
                self.read_index(job, "timeindex", fx);
            }
            State::TimeIndex { offsets } => self.take_indexes(job, &offsets, &bytes, fx),
            State::Rebuilding { indexes } => self.rebuild_on(job, *indexes, &bytes, fx),
            State::Batches => {
                fx.count(Counter::SegmentBytesRead, bytes.len() as u64);
                self.take_batches(job, &bytes, fx);
            }
        }
    }

    /// Reads under way of a log that now ends at `end` begin once more.
    pub(super) fn cut_reads(&mut self, log: TopicPartition, end: Offset) {
        for job in self.reads.values_mut().filter(|job| job.log == log) {
            job.stale = true;
            match &mut job.goal {
                Goal::Fetch { end: until, .. } | Goal::Time { end: until, .. } => {
                    *until = (*until).min(end);
                }
            }
        }
    }

    fn read_again(&mut self, mut job: ReadJob, fx: &mut Effects) {
        job.stale = false;
        job.loaded = None;
        job.from = job.first;
        match &mut job.goal {
            Goal::Fetch { parts, bytes, .. } => {
                parts.clear();
                *bytes = 0;
            }
            Goal::Time { best, .. } => {
                *best = None;
                job.from = self.logs.get(&job.log).map_or(job.first, |log| log.start);
            }
        }
        self.next_segment(job, fx);
    }

    fn take_indexes(&mut self, mut job: ReadJob, offsets: &[u8], times: &[u8], fx: &mut Effects) {
        let Some(partition) = self.logs.get_mut(&job.log) else {
            return self.fail(&job, ReadError::Gone);
        };
        let interval = partition.settings.index_interval_bytes;
        let extent = SegmentExtent {
            end_offset: job.extent.end,
            bytes: job.extent.bytes,
            max_gap: interval + READ_MAX,
        };
        let base = job.extent.base;
        let found = OffsetIndex::decode(offsets, base, interval, &extent).zip(TimeIndex::decode(
            times,
            base,
            job.extent.end,
        ));
        if let Some((offsets, times)) = found {
            // What the time index lacks behind its last entry makes lookups begin earlier, not later.
            let indexes = Indexes { offsets, times };
            job.loaded = Some((base, Box::new(indexes.clone())));
            self.set_indexes(&job, indexes, false);
            return self.next_segment(job, fx);
        }
        let indexes =
            Indexes { offsets: OffsetIndex::new(base, interval), times: TimeIndex::new(base) };
        job.state = State::Rebuilding { indexes: Box::new(indexes) };
        job.position = 0;
        job.want = READ_MAX;
        if job.extent.bytes == 0 {
            return self.fail(&job, ReadError::Gone);
        }
        self.read_on(job, fx);
    }

    fn rebuild_on(
        &mut self,
        mut job: ReadJob,
        mut indexes: Indexes,
        bytes: &Bytes,
        fx: &mut Effects,
    ) {
        let mut rest = bytes.clone();
        loop {
            match next_batch(&job, &rest) {
                Next::Batch(batch) => {
                    let size = batch.size() as u64;
                    indexes.times.note_batch(batch.max_timestamp(), batch.last_offset());
                    if indexes.offsets.note_batch(batch.last_offset(), job.position, size) {
                        indexes.times.add_entry();
                    }
                    let _ = rest.split_to(batch.size());
                    job.position += size;
                }
                Next::More(want)
                    if job.position < job.extent.bytes && (rest.len() as u64) < want =>
                {
                    job.want = READ_MAX.max(want);
                    let is_short = (bytes.len() as u64) < job.asked;
                    if is_short || job.position + want > job.extent.bytes {
                        break;
                    }
                    job.state = State::Rebuilding { indexes: Box::new(indexes) };
                    return self.read_on(job, fx);
                }
                Next::More(_) | Next::Corrupt(_) => break,
            }
        }
        // What lies behind damage has no entries; a read that gets there says what is wrong.
        indexes.times.add_entry();
        fx.mark(Mark::IndexBuiltAnew);
        job.loaded = Some((job.extent.base, Box::new(indexes.clone())));
        self.set_indexes(&job, indexes, true);
        job.state = State::Batches;
        self.next_segment(job, fx);
    }

    fn set_indexes(&mut self, job: &ReadJob, mut indexes: Indexes, rebuilt: bool) {
        let Some(partition) = self.logs.get_mut(&job.log) else { return };
        let whole =
            |extent: &Extent| extent.base == job.extent.base && extent.bytes == job.extent.bytes;
        if let Some(segment) = partition.segments.iter_mut().find(|s| whole(&s.extent)) {
            // The segment may go on, and its next entry speaks for what has no entry yet, too.
            let Extent { base, end, max_timestamp, .. } = segment.extent;
            if base < end {
                indexes.times.note_batch(max_timestamp, end.plus(-1));
            }
            segment.indexes = Some(indexes);
            segment.indexes_dirty = rebuilt;
            partition.dirty |= rebuilt;
        }
    }

    fn take_batches(&mut self, mut job: ReadJob, bytes: &Bytes, fx: &mut Effects) {
        let mut rest = bytes.clone();
        loop {
            // Behind the end lie batches that are cut, until it is known where they begin.
            if job.position >= job.extent.bytes || job.from >= job.extent.end {
                job.from = job.from.max(job.extent.end);
                return self.next_segment_or_finish(job, fx);
            }
            match next_batch(&job, &rest) {
                Next::More(want) => {
                    let is_short = (bytes.len() as u64) < job.asked;
                    if is_short || job.position + want > job.extent.bytes {
                        return self.corrupt(job, "a batch is cut off", fx);
                    }
                    if rest.len() < bytes.len() && Self::has_enough(&job) {
                        return self.finish_fetch(job);
                    }
                    job.want = want.max(READ_MIN);
                    if self.buggify.strikes(Site::SmallRead) {
                        job.want = want;
                    }
                    return self.read_on(job, fx);
                }
                Next::Corrupt(why) => return self.corrupt(job, why, fx),
                Next::Batch(batch) => {
                    let size = batch.size();
                    let whole = rest.split_to(size);
                    job.position += size as u64;
                    if batch.last_offset() < job.from {
                        continue;
                    }
                    if !self.logs.contains_key(&job.log) {
                        return self.fail(&job, ReadError::Gone);
                    }
                    if let Some(why) = self.doubt(&job, &batch) {
                        job.position -= size as u64;
                        return self.corrupt(job, why, fx);
                    }
                    match self.use_batch(&mut job, &batch, whole) {
                        Used::GoOn => job.from = batch.next_offset(),
                        Used::Done => return self.finish_fetch(job),
                    }
                }
            }
        }
    }

    fn use_batch(&self, job: &mut ReadJob, batch: &Batch, whole: Bytes) -> Used {
        match &mut job.goal {
            Goal::Fetch { end, max_bytes, at_least_one, parts, bytes } => {
                let size = whole.len() as u64;
                let fits = *bytes + size <= *max_bytes || (*bytes == 0 && *at_least_one);
                if batch.next_offset() > *end || !fits {
                    return Used::Done;
                }
                *bytes += size;
                parts.push(whole);
                Used::GoOn
            }
            Goal::Time { lookup, end, best } => {
                if batch.base_offset() >= *end {
                    return Used::Done;
                }
                let start = self.logs.get(&job.log).map_or(Offset::ZERO, |log| log.start);
                match lookup {
                    TimeLookup::AtLeast(target) => {
                        let found = find_in_batch(batch, *target, start, *end);
                        if found.is_some() {
                            *best = found;
                            return Used::Done;
                        }
                    }
                    TimeLookup::Largest => {
                        let target = best.map_or(0, |best| best.timestamp.saturating_add(1));
                        // The first of the largest: each that is found raises what the next must reach.
                        let mut target = target;
                        while let Some(found) = find_in_batch(batch, target, start, *end) {
                            *best = Some(found);
                            target = found.timestamp.saturating_add(1);
                        }
                    }
                }
                Used::GoOn
            }
        }
    }

    /// Whether a fetch that has something may answer without another read.
    fn has_enough(job: &ReadJob) -> bool {
        matches!(&job.goal, Goal::Fetch { bytes, .. } if *bytes > 0)
    }

    fn doubt(&self, job: &ReadJob, batch: &Batch) -> Option<&'static str> {
        if !batch.crc_is_valid() {
            return Some("a batch has a wrong CRC");
        }
        // The base offset lies outside the CRC; nothing makes holes in a log.
        if batch.base_offset() > job.from {
            return Some("the offsets do not follow");
        }
        let log = self.logs.get(&job.log)?;
        let known = log.epochs.epoch_at(batch.base_offset());
        (known.is_some_and(|epoch| epoch != batch.leader_epoch())
            && batch.base_offset() >= log.start)
            .then_some("a batch has the epoch of another place")
    }

    fn next_segment_or_finish(&mut self, job: ReadJob, fx: &mut Effects) {
        match &job.goal {
            Goal::Fetch { bytes, end, .. } if *bytes > 0 || job.from >= *end => {
                self.finish_fetch(job);
            }
            Goal::Fetch { .. } | Goal::Time { .. } => self.next_segment(job, fx),
        }
    }

    fn finish_fetch(&mut self, job: ReadJob) {
        match job.goal {
            Goal::Fetch { parts, .. } => {
                self.events.push_back(LogEvent::Read { ticket: job.ticket, result: Ok(parts) });
            }
            Goal::Time { best, .. } => {
                self.events.push_back(LogEvent::Found { ticket: job.ticket, result: Ok(best) });
            }
        }
    }

    /// What the segments did not hold, memory does.
    fn finish_in_memory(&mut self, mut job: ReadJob) {
        let Some(partition) = self.logs.get(&job.log) else {
            return self.fail(&job, ReadError::Gone);
        };
        let first = partition.tail.partition_point(|batch| batch.next <= job.from);
        let batches: Vec<Batch> = match &job.goal {
            Goal::Time { lookup: TimeLookup::AtLeast(target), .. } => partition
                .tail
                .range(first..)
                .map(super::partition_log::TailBatch::batch)
                .filter(|batch| batch.max_timestamp() >= *target)
                .collect(),
            Goal::Time { .. } | Goal::Fetch { .. } => {
                partition.tail.range(first..).map(super::partition_log::TailBatch::batch).collect()
            }
        };
        for batch in batches {
            match self.use_batch(&mut job, &batch, batch.to_bytes()) {
                Used::GoOn => {}
                Used::Done => break,
            }
        }
        self.finish_fetch(job);
    }

    fn corrupt(&mut self, mut job: ReadJob, why: &'static str, fx: &mut Effects) {
        if !job.from_beginning {
            // The index may have led to the middle of a batch.
            if let Some(partition) = self.logs.get_mut(&job.log)
                && let Some(segment) =
                    partition.segments.iter_mut().find(|s| s.extent.base == job.extent.base)
            {
                let interval = partition.settings.index_interval_bytes;
                let active = partition.end == segment.extent.end;
                if !active {
                    segment.indexes = Some(Indexes {
                        offsets: OffsetIndex::new(job.extent.base, interval),
                        times: TimeIndex::new(job.extent.base),
                    });
                }
                job.position = 0;
                job.from_beginning = true;
                job.want = READ_MAX;
                return self.read_on(job, fx);
            }
        }
        if let Goal::Fetch { bytes, .. } = &job.goal
            && *bytes > 0
        {
            // What comes before the damage is good; the next fetch meets it first.
            return self.finish_fetch(job);
        }
        if job.doubted <= job.position {
            // A bit may have flipped on the way and not on the disk.
            job.doubted = job.position + 1;
            job.want = READ_MAX;
            fx.mark(Mark::DamageReadAgain);
            return self.read_on(job, fx);
        }
        let Some(partition) = self.logs.get_mut(&job.log) else {
            return self.fail(&job, ReadError::Gone);
        };
        let at = job.from;
        let file = segment_file(&partition.folder, job.extent.base, "log");
        let message = format!(
            "{file} is damaged at byte {}: {why} (offset {at}); the rest of the partition is served, \
             and it takes no produce until that range is repaired",
            job.position
        );
        if partition.damaged.is_none() {
            partition.damaged = Some(at);
            fx.mark(Mark::RotFoundOnRead);
            fx.warn(message.clone());
        }
        self.fail(&job, ReadError::Corrupt(message.into()));
    }

    fn fail(&mut self, job: &ReadJob, error: ReadError) {
        let ticket = job.ticket;
        match job.goal {
            Goal::Fetch { .. } => {
                self.events.push_back(LogEvent::Read { ticket, result: Err(error) });
            }
            Goal::Time { .. } => {
                self.events.push_back(LogEvent::Found { ticket, result: Err(error) });
            }
        }
    }

    pub(super) fn digest_reads(&self, digest: &mut Digest) {
        digest.number(self.reads.len() as u64).number(self.next_read);
        for (id, job) in &self.reads {
            digest.number(*id).number(job.position).number(job.doubted);
            digest.number(u64::from(job.stale));
        }
    }
}

enum Used {
    GoOn,
    Done,
}

enum Next {
    Batch(Batch),
    /// So many bytes are needed from here.
    More(u64),
    Corrupt(&'static str),
}

/// Takes the batch at the front of what was read at the job's position.
fn next_batch(job: &ReadJob, rest: &Bytes) -> Next {
    let here = job.extent.bytes - job.position;
    if rest.len() < HEADER_LEN {
        return Next::More(HEADER_LEN as u64);
    }
    let Ok(total) = Batch::peek_len(rest) else {
        return Next::Corrupt("no batch begins there");
    };
    if total as u64 > here {
        return Next::Corrupt("a batch reaches beyond its segment");
    }
    if rest.len() < total {
        return Next::More(total as u64);
    }
    match Batch::split_from(&mut rest.clone()) {
        Ok(batch) => {
            let inside = batch.base_offset() >= job.extent.base
                && batch.last_offset() >= batch.base_offset()
                && batch.next_offset() <= job.extent.end;
            if inside { Next::Batch(batch) } else { Next::Corrupt("a batch of another place") }
        }
        Err(_) => Next::Corrupt("no batch begins there"),
    }
}

/// What of a segment is in its file: all of it, or what write-behind has written of the active one.
fn readable_extent(partition: &PartitionLog, at: usize) -> Extent {
    let mut extent = partition.segments[at].extent;
    if extent.end > partition.written_end {
        extent.end = partition.written_end;
        if let Some(place) = partition.tail_position(partition.written_end)
            && partition.tail[place].segment == extent.base
        {
            extent.bytes = partition.tail[place].position;
        }
    }
    extent
}

fn first_want(job: &ReadJob) -> u64 {
    match &job.goal {
        Goal::Fetch { max_bytes, .. } => {
            max_bytes.saturating_add(READ_MIN).clamp(READ_MIN, READ_MAX)
        }
        Goal::Time { .. } => READ_MIN * 4,
    }
}

/// Returns the first record of a batch with at least that timestamp, between two offsets.
fn find_in_batch(batch: &Batch, target: i64, start: Offset, end: Offset) -> Option<FoundRecord> {
    if batch.max_timestamp() < target || batch.is_control() {
        return None;
    }
    let leader_epoch = batch.leader_epoch();
    if batch.is_log_append_time() && !batch.is_partial() {
        return (batch.base_offset() < end).then_some(FoundRecord {
            offset: batch.base_offset().max(start),
            timestamp: batch.max_timestamp(),
            leader_epoch,
        });
    }
    let open = OpenBatch::open(batch, OPENED_MAX).ok()?;
    let found = open.records().map_while(Result::ok).find(|record| {
        record.timestamp >= target && record.offset >= start && record.offset < end
    })?;
    Some(FoundRecord { offset: found.offset, timestamp: found.timestamp, leader_epoch })
}
