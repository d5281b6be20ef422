//! Cutting a log back: a follower removes what its leader has not got.
//!
//! In memory it takes effect at once: nothing at or beyond the new end is served, counted as stable or
//! confused with what is appended there afterwards. The journal's entry says what is left, the state of
//! producers included, so that a start need not read segments. Once it is durable, and nothing else
//! touches the log's files, they are cut; until then nothing is written to them.
//!
//! Where the batch at the cut is no longer in memory, its place is looked for in the segment. Until it
//! is found the log takes no appends.
//!
//! Invariants:
//! 1. A file is cut only after the entry is durable, and while no write, checkpoint or removal uses it.
//! 2. No checkpoint begins, and none is written, while a log is being cut.
//! 3. What a block in flight held of a log beyond a cut neither makes it stable nor is kept in memory.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::ids::{Offset, TopicPartition};
use crate::io::{Completion, DiskError, Effects, Mark};
use crate::log::api::LogEvent;
use crate::log::block::{BlockSequence, Cut, Entry};
use crate::log::journal::Need;
use crate::log::operations::{CutStep, Op, Purpose};
use crate::log::partition_log::Folder;
use crate::log::producer_state::ProducerStates;
use crate::log::rebuild::{Next, Walk};
use crate::log::segment::{Extent, segment_file};
use crate::log::store::{LogStore, Phase, Unproven};
use crate::time::Now;

/// A log that is being cut back.
#[derive(Clone, Debug, Default)]
pub(super) struct Cutting {
    finding: Option<Finding>,
    /// Segments whose files go, by their base offsets.
    gone: BTreeSet<Offset>,
    /// Segments whose files may be too long.
    shortened: BTreeSet<Offset>,
    /// Operations on files under way.
    outstanding: usize,
}

impl Cutting {
    /// Returns how many operations on its files are under way.
    pub(super) const fn outstanding(&self) -> usize {
        self.outstanding
    }

    fn has_files(&self) -> bool {
        !self.gone.is_empty() || !self.shortened.is_empty()
    }
}

/// The batch at a cut is looked for in its segment.
#[derive(Clone, Debug)]
struct Finding {
    /// Tells one search from another.
    number: u64,
    to: Offset,
    extent: Extent,
    walk: Walk,
    /// What the batches of the segment before the cut tell of producers.
    seen: ProducerStates,
}

/// What a search has found.
struct Found {
    /// The last segment that is left, and its length.
    segment: Option<(Offset, u64)>,
    producers: ProducerStates,
}

impl LogStore {
    /// Removes every batch of a log that holds an offset at or beyond `to`; ends with
    /// [`LogEvent::Truncated`], which names the new end. Where `to` is at or beyond the end nothing changes.
    ///
    /// `to` below the log's start counts as the start. A log of which nothing is left begins at its
    /// start.
    pub fn truncate(&mut self, now: Now, log: TopicPartition, to: Offset, fx: &mut Effects) {
        assert!(!matches!(self.phase, Phase::Recovering(_)), "truncations wait for recovery");
        let Some(partition) = self.logs.get(&log) else { return };
        // A start that is on its way to the journal comes before the cut.
        let to = to.max(partition.start.max(partition.coming_start));
        let end = partition.end;
        if to >= end {
            if self.is_finding(log) {
                return;
            }
            if partition.cuts.is_empty() {
                self.events.push_back(LogEvent::Truncated { log, end });
                return;
            }
            // What cut it before is not durable yet: behind that comes the answer.
            self.cut(log, end, None, fx);
        } else if let Some(at) = partition.tail_position(to) {
            let end = partition.tail[at].base;
            self.cut(log, end, None, fx);
        } else if partition.producers.knows_nothing()
            && partition.segments.iter().any(|segment| segment.extent.base == to)
        {
            self.cut(log, to, None, fx);
        } else {
            self.begin_finding(log, to, fx);
        }
        self.pump(now, fx);
    }

    /// Removes all of a log, which goes on empty at `start`, wherever it began and ended before; ends with
    /// [`LogEvent::Truncated`].
    pub fn reset(&mut self, now: Now, log: TopicPartition, start: Offset, fx: &mut Effects) {
        assert!(!matches!(self.phase, Phase::Recovering(_)), "truncations wait for recovery");
        if self.logs.contains_key(&log) {
            self.begin_anew(log, start.max(Offset::ZERO), fx);
            self.pump(now, fx);
        }
    }

    /// Returns whether it is not known yet where a log ends exactly; [`LogEvent::Truncated`] tells.
    pub fn is_finding(&self, log: TopicPartition) -> bool {
        self.cutting.get(&log).is_some_and(|cutting| cutting.finding.is_some())
    }

    /// Cuts a log at `end`, where a batch begins.
    fn cut(&mut self, log: TopicPartition, end: Offset, found: Option<Found>, fx: &mut Effects) {
        let partition = self.logs.get_mut(&log).expect("the caller has found it");
        let start = partition.start.max(partition.coming_start);
        if end < start {
            // The batch at the cut holds the start as well.
            self.begin_anew(log, start, fx);
            return;
        }
        let before = partition.unwritten_bytes();
        let segment = match &found {
            Some(found) => found.segment,
            None => partition.place_of(end),
        };
        let gone = partition.cut_back(end, segment);
        if let Some(found) = found {
            partition.producers = found.producers;
        }
        if !partition.is_memory() {
            self.unwritten_bytes -= before - partition.unwritten_bytes();
        }
        self.note_cut(log, end, false, segment, &gone, fx);
    }

    fn begin_anew(&mut self, log: TopicPartition, start: Offset, fx: &mut Effects) {
        let partition = self.logs.get_mut(&log).expect("the caller has found it");
        if !partition.is_memory() {
            self.unwritten_bytes -= partition.unwritten_bytes();
        }
        let gone = partition.begin_anew(start);
        self.note_cut(log, start, true, None, &gone, fx);
    }

    /// Tells everybody who remembers offsets of the log, the journal first of all.
    fn note_cut(
        &mut self,
        log: TopicPartition,
        end: Offset,
        anew: bool,
        segment: Option<(Offset, u64)>,
        gone: &[Extent],
        fx: &mut Effects,
    ) {
        fx.mark(Mark::LogCut);
        self.forget_beyond(log, if anew { Offset::ZERO } else { end }, end);
        let partition = self.logs.get_mut(&log).expect("the caller has found it");
        if partition.is_memory() {
            self.events.push_back(LogEvent::Truncated { log, end });
            return;
        }
        let journal = self.journal.as_mut().expect("a store with a disk has a journal");
        self.cuts_made += 1;
        let number = BlockSequence::new(journal.incarnation(), self.cuts_made).0;
        partition.last_cut = number;
        partition.cuts.push_back((!anew).then_some(end));
        partition.cutting = true;
        let producers = if partition.producers.knows_nothing() {
            Bytes::new()
        } else {
            partition.producers.encode_sidecar().into()
        };
        let cut = Cut { number, end, anew, segment, producers };
        journal.enqueue(Entry::Truncate { log, cut }, Need::Flushed);
        self.note_files(log, segment, gone);
    }

    /// Remembers which files are to be cut.
    pub(super) fn note_files(
        &mut self,
        log: TopicPartition,
        segment: Option<(Offset, u64)>,
        gone: &[Extent],
    ) {
        let cutting = self.cutting.entry(log).or_default();
        cutting.finding = None;
        cutting.gone.extend(gone.iter().map(|extent| extent.base));
        cutting.shortened.extend(segment.map(|(base, _)| base));
    }

    /// Batches from `from` on are in memory no more, and nothing of the log lies beyond `end`.
    pub(super) fn forget_beyond(&mut self, log: TopicPartition, from: Offset, end: Offset) {
        let mut bytes = 0;
        self.cache.retain(|&(of, base, size)| {
            let stays = of != log || base < from;
            bytes += if stays { 0 } else { size };
            stays
        });
        self.cache_bytes -= bytes;
        for (_, unproven) in &mut self.unproven {
            match unproven {
                Unproven::Log(of, proven) if *of == log => *proven = (*proven).min(end),
                Unproven::Log(..) | Unproven::Vote(..) => {}
            }
        }
        // Its owner may cut the log before it has heard what was stable.
        for event in &mut self.events {
            if let LogEvent::Stable { log: of, end: told } = event
                && *of == log
            {
                *told = told.at_most(end);
            }
        }
        self.checkpoint.lower_goal(log, end);
        self.cut_reads(log, end);
    }

    /// A truncation is durable.
    pub(super) fn on_cut_durable(&mut self, log: TopicPartition, end: Offset) {
        if let Some(partition) = self.logs.get_mut(&log) {
            partition.cuts.pop_front();
            self.events.push_back(LogEvent::Truncated { log, end });
        }
    }

    /// Cuts the files of logs whose truncations are durable, where nothing else touches them.
    pub(super) fn advance_cuts(&mut self, fx: &mut Effects) {
        if self.cutting.is_empty() || self.cleanups > 0 {
            return;
        }
        let logs = &self.logs;
        let is_ready = |log: &TopicPartition, cutting: &Cutting| {
            cutting.finding.is_none()
                && cutting.outstanding == 0
                && logs.get(log).is_some_and(|log| log.cuts.is_empty() && !log.writing)
        };
        let ready = self.cutting.iter().filter(|(log, cutting)| is_ready(log, cutting));
        let ready: Vec<TopicPartition> = ready.map(|(log, _)| *log).collect();
        for log in ready {
            self.cut_files(log, fx);
        }
    }

    fn cut_files(&mut self, log: TopicPartition, fx: &mut Effects) {
        let partition = &self.logs[&log];
        let cutting = self.cutting.get_mut(&log).expect("it is being cut");
        let (gone, shortened) =
            (std::mem::take(&mut cutting.gone), std::mem::take(&mut cutting.shortened));
        let mut ops = Vec::new();
        if partition.folder_state == Folder::Made {
            for base in gone {
                for ending in ["log", "index", "timeindex", "txnindex"] {
                    ops.push(Op::Remove { file: segment_file(&partition.folder, base, ending) });
                }
            }
            for base in shortened {
                if let Some(length) = partition.written_bytes_of(base) {
                    let file = segment_file(&partition.folder, base, "log");
                    ops.push(Op::Truncate { file, length });
                }
                // The next checkpoint writes it anew, if anything is left of it.
                let file = segment_file(&partition.folder, base, "txnindex");
                ops.push(Op::Remove { file });
            }
        }
        cutting.outstanding = ops.len();
        if ops.is_empty() {
            self.end_cutting(log, fx);
        }
        for op in ops {
            self.ops.submit(op, Purpose::Cut(log, CutStep::File), fx);
        }
    }

    /// A file is cut.
    pub(super) fn on_file_cut(&mut self, log: TopicPartition, fx: &mut Effects) {
        if let Some(doomed) = self.doomed.get_mut(&log) {
            doomed.on_file_cut();
            return;
        }
        let Some(cutting) = self.cutting.get_mut(&log) else { return };
        cutting.outstanding -= 1;
        let is_over = cutting.outstanding == 0 && cutting.finding.is_none() && !cutting.has_files();
        if is_over && self.logs.get(&log).is_some_and(|log| log.cuts.is_empty()) {
            self.end_cutting(log, fx);
        }
        self.on_space_again(fx);
    }

    fn end_cutting(&mut self, log: TopicPartition, fx: &mut Effects) {
        self.cutting.remove(&log);
        let Some(partition) = self.logs.get_mut(&log) else { return };
        partition.cutting = false;
        let gone = partition.trim_segments();
        let folder = partition.folder.clone();
        for extent in gone {
            self.remove_segment(&folder, extent, fx);
        }
        self.begin_run(log, fx);
    }

    /// Looks for the batch at `to` in its segment. Meanwhile the log ends there.
    fn begin_finding(&mut self, log: TopicPartition, to: Offset, fx: &mut Effects) {
        let partition = self.logs.get_mut(&log).expect("the caller has found it");
        let at = partition.segment_position(to).expect("what is not in memory is in a segment");
        let extent = partition.segments[at].extent;
        self.unwritten_bytes -= partition.unwritten_bytes();
        partition.tail.clear();
        partition.epochs.truncate_from_end(to);
        partition.end_at(to);
        partition.cutting = true;
        self.forget_beyond(log, to, to);
        self.cuts_made += 1;
        let number = self.cuts_made;
        let (walk, seen) = (Walk::new(extent.base), ProducerStates::new());
        let cutting = self.cutting.entry(log).or_default();
        cutting.finding = Some(Finding { number, to, extent, walk, seen });
        self.find_on(log, fx);
    }

    fn find_on(&mut self, log: TopicPartition, fx: &mut Effects) {
        let finding = self.cutting.get(&log).and_then(|cutting| cutting.finding.as_ref());
        let (Some(finding), Some(partition)) = (finding, self.logs.get(&log)) else { return };
        let (extent, walk) = (&finding.extent, &finding.walk);
        let op = Op::Read {
            file: segment_file(&partition.folder, extent.base, "log"),
            position: walk.position,
            length: walk.want.min(extent.bytes - walk.position),
        };
        self.ops.submit(op, Purpose::Cut(log, CutStep::Find(finding.number)), fx);
    }

    /// Takes what was read of the segment.
    pub(super) fn on_find_read(
        &mut self,
        now: Now,
        log: TopicPartition,
        number: u64,
        outcome: Result<Completion, DiskError>,
        fx: &mut Effects,
    ) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        let Some(cutting) = self.cutting.get_mut(&log) else { return };
        let Some(finding) = cutting.finding.as_mut().filter(|finding| finding.number == number)
        else {
            return;
        };
        let Finding { to, extent, walk, seen, .. } = finding;
        let (mut rest, mut damage) = match outcome {
            Ok(Completion::Read(bytes)) => (bytes, None),
            Ok(_) => unreachable!("a read is answered by a read"),
            Err(error) => (Bytes::new(), Some(error.to_string())),
        };
        let is_all = rest.len() as u64 >= walk.want.min(extent.bytes - walk.position);
        while damage.is_none() && walk.position < extent.bytes {
            match walk.next_batch(&rest, extent) {
                Next::Batch(batch) if batch.next_offset() > *to => break,
                Next::Batch(batch) => {
                    let ids_max = partition.append_limits.producer_ids_max;
                    seen.update(now.mono, &batch, extent.last_append.0, ids_max);
                    rest = rest.slice(batch.size()..);
                    walk.pass(&batch);
                }
                Next::More(want) if is_all && walk.position + want <= extent.bytes => {
                    walk.ask(want);
                    return self.find_on(log, fx);
                }
                Next::More(_) => damage = Some("a batch is cut off".to_owned()),
                Next::Damage(why) => damage = Some(why.to_owned()),
            }
        }
        let (end, position, extent) = (walk.expected, walk.position, *extent);
        if let Some(why) = damage {
            fx.mark(Mark::RotFoundOnRead);
            let file = segment_file(&partition.folder, extent.base, "log");
            // A leader has it once more.
            fx.warn(format!(
                "{file} is damaged at byte {position}: {why} (offset {end}); the partition is cut there"
            ));
        }
        let producers = partition.producers.before(end, std::mem::take(seen));
        let segment = if position > 0 {
            Some((extent.base, position))
        } else {
            partition
                .segments
                .iter()
                .rev()
                .map(|segment| segment.extent)
                .find(|other| other.base < extent.base)
                .map(|other| (other.base, other.bytes))
        };
        self.cut(log, end, Some(Found { segment, producers }), fx);
    }
}
