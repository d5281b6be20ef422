//! What clients see of a log with hidden batches: its served batches, and ends that are theirs.
//!
//! A batch is *served* if it is a marker of a transaction or holds records; void batches, notes and batches
//! without a record are hidden ([`Hidden`]). A partial batch is served up to its last stored record: the
//! offsets behind that are hidden too. The view keeps the *runs* of hidden offsets, so that it can say where
//! the part that is shown ends, and jump over any number of hidden batches.
//!
//! Invariants:
//! 1. Runs are in order, and there is a served offset between any two that lie next to each other in the log.
//! 2. Every run that reaches to [`settled`](ClientView::settle) or beyond is kept. [`shown`](ClientView::shown)
//!    is asked for the high watermark and the last stable offset, which never fall below that.
//! 3. Of older runs short ones are forgotten, the oldest first, where there are very many. A fetch reads
//!    through these.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::digest::Digest;
use crate::ids::Offset;
use crate::record::batch::{Batch, HEADER_LEN};
use crate::record::hidden::Hidden;
use crate::record::keep::{last_stored_delta, trimmed};

/// How many of the older runs are kept, whatever their length.
const RUNS_KEPT: usize = 65_536;
/// A run of so many offsets is kept as long as the log has it.
const LONG: i64 = 1_024;

/// Offsets of which none is served, as many as there are in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    /// The first one, where the part that is shown ends.
    from: Offset,
    /// Where the first batch begins that lies in it as a whole: behind `from` if that lies in a partial one.
    whole: Offset,
    /// The offset after the last one.
    to: Offset,
    /// Bytes of the batches that lie in it as a whole.
    bytes: u64,
    /// The same of all the runs before it, those included that were forgotten.
    before: u64,
}

/// Which offsets of a log no client is served.
#[derive(Clone, Debug)]
pub struct ClientView {
    runs: VecDeque<Run>,
    /// Everything below it was noted.
    next: Offset,
    settled: Offset,
    /// How many older ones are kept, whatever their length.
    kept: usize,
    /// How many runs there may be before some are forgotten.
    runs_max: usize,
}

impl ClientView {
    /// Begins at the start of a log. Every batch from there on is to be [noted](Self::note).
    pub const fn new(log_start: Offset) -> Self {
        Self {
            runs: VecDeque::new(),
            next: log_start,
            settled: log_start,
            kept: RUNS_KEPT,
            runs_max: 2 * RUNS_KEPT,
        }
    }

    /// Takes in a batch of the log. One that was noted before, and one that does not come next, changes
    /// nothing: while a log is read from its start, what is appended meanwhile comes again at its turn.
    pub fn note(&mut self, batch: &Batch) {
        let (base, next) = (batch.base_offset(), batch.next_offset());
        if base > self.next || next <= self.next {
            return;
        }
        let served_end = served_delta(batch).map(|last| base.plus(i64::from(last) + 1));
        let from = served_end.unwrap_or(base).max(self.next);
        let bytes = if served_end.is_none() { batch.size() as u64 } else { 0 };
        self.next = next;
        if from >= next {
            return;
        }
        if let Some(last) = self.runs.back_mut().filter(|last| last.to == from) {
            last.to = next;
            last.bytes += bytes;
            return;
        }
        let before = self.runs.back().map_or(0, |last| last.before + last.bytes);
        let whole = if served_end.is_none() { from } else { next };
        self.runs.push_back(Run { from, whole, to: next, bytes, before });
    }

    /// Takes in that the log begins at `log_start` now: where the view has not come so far, what lies below is never
    /// noted any more.
    pub fn pass_over(&mut self, log_start: Offset) {
        self.next = self.next.max(log_start);
    }

    /// Returns the end of what was noted.
    pub const fn end(&self) -> Offset {
        self.next
    }

    /// Returns whether everything below `end` was noted.
    pub fn covers(&self, end: Offset) -> bool {
        self.next >= end
    }

    /// Returns the end of the last served batch that ends at or below `end`, and at least `log_start`.
    ///
    /// `end` is where a batch of the log begins or ends, not below what was [settled](Self::settle), and
    /// [covered](Self::covers).
    pub fn shown(&self, end: Offset, log_start: Offset) -> Offset {
        self.run_at(end).map_or(end, |run| run.from).max(log_start)
    }

    /// Returns the first offset at or behind this one that is not known to be hidden.
    pub fn skip(&self, offset: Offset) -> Offset {
        let run = self.run_at(offset.plus(1)).filter(|run| offset < run.to);
        run.map_or(offset, |run| run.to)
    }

    /// Returns where the last served batch below `end` ends as the log has it, and the bytes of hidden
    /// batches between an offset that is [not hidden](Self::skip) and there.
    pub fn measure(&self, from: Offset, end: Offset) -> (Offset, u64) {
        let end = self.run_at(end).map_or(end, |run| run.whole.min(end));
        let first = self.runs.partition_point(|run| run.from < from);
        let last = self.runs.partition_point(|run| run.to < end);
        let hidden =
            match (self.runs.get(first), last.checked_sub(1).and_then(|at| self.runs.get(at))) {
                (Some(first), Some(last)) if first.from <= last.from => {
                    last.before + last.bytes - first.before
                }
                _ => 0,
            };
        (end, hidden)
    }

    /// Takes in that nobody asks for a [shown](Self::shown) end below `stable` any more, the last stable
    /// offset, and that the log begins at `log_start`.
    pub fn settle(&mut self, stable: Offset, log_start: Offset) {
        self.settled = self.settled.max(stable);
        while self.runs.pop_front_if(|run| run.to <= log_start).is_some() {}
        if self.runs.len() < self.runs_max {
            return;
        }
        let old = self.runs.partition_point(|run| run.to < self.settled);
        let doubtful = old.saturating_sub(self.kept);
        let recent = self.runs.split_off(doubtful);
        self.runs.retain(|run| run.to.0 - run.from.0 >= LONG);
        self.runs.extend(recent);
        self.runs_max = self.runs.len() + self.kept;
    }

    /// Returns the run with offsets below `end` and none served between them and `end`.
    fn run_at(&self, end: Offset) -> Option<&Run> {
        let at = self.runs.partition_point(|run| run.from < end);
        let run = self.runs.get(at.checked_sub(1)?)?;
        (end <= run.to).then_some(run)
    }

    /// Keeps so few of the older runs, but for the long ones.
    #[cfg(test)]
    pub(crate) const fn forgetful(log_start: Offset, kept: usize) -> Self {
        let mut view = Self::new(log_start);
        (view.kept, view.runs_max) = (kept, 2 * kept);
        view
    }

    /// Takes the view into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest.signed(self.next.0).signed(self.settled.0).number(self.runs.len() as u64);
        if let Some(last) = self.runs.back() {
            digest.signed(last.from.0).signed(last.to.0).number(last.before + last.bytes);
        }
    }
}

/// What of a read is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Served {
    /// These: whole batches, each in one part or in two, header and payload. None, where the first one does
    /// not fit.
    Batches(Vec<Bytes>),
    /// All that was read is hidden: read on from here.
    Nothing(Offset),
}

/// Takes out of the batches that a read has brought what clients are served from `from` on, of at most
/// `max_bytes`; `at_least_one` lets a first batch pass that is larger.
pub fn serve(parts: Vec<Bytes>, from: Offset, max_bytes: u64, at_least_one: bool) -> Served {
    let (mut served, mut bytes, mut next) = (Vec::new(), 0, from);
    let mut parts = parts.into_iter().peekable();
    while let Some(part) = parts.next() {
        let Ok(total) = Batch::peek_len(&part) else { continue };
        let mut split = None;
        let batch = if part.len() < total {
            // The payload comes behind its header.
            let rest = parts.next().unwrap_or_default();
            let Some(header) = part.first_chunk::<HEADER_LEN>() else { continue };
            let batch = Batch::from_parts(*header, rest.clone());
            split = Some(rest);
            batch
        } else {
            let Ok(batch) = Batch::split_from(&mut part.clone()) else { continue };
            batch
        };
        next = batch.next_offset();
        let Some(last) = served_delta(&batch) else { continue };
        if batch.base_offset().plus(i64::from(last)) < from {
            continue;
        }
        let size = batch.size() as u64;
        if bytes + size > max_bytes && !(at_least_one && bytes == 0) {
            return Served::Batches(served);
        }
        bytes += size;
        if last < batch.last_offset_delta() {
            let shorter = trimmed(&batch);
            served.push(Bytes::copy_from_slice(shorter.header()));
            served.push(shorter.rest().clone());
        } else {
            served.push(part);
            served.extend(split);
        }
    }
    if served.is_empty() { Served::Nothing(next) } else { Served::Batches(served) }
}

/// Returns the delta of the last offset of a batch that is served, `None` if it is hidden. A batch is opened
/// only if it has fewer records than offsets; those are never compressed.
fn served_delta(batch: &Batch) -> Option<i32> {
    if batch.is_control() {
        return Hidden::of(batch).is_none().then(|| batch.last_offset_delta());
    }
    (batch.records_count() > 0).then(|| last_stored_delta(batch))
}

#[cfg(test)]
#[path = "client_view_test.rs"]
mod tests;
