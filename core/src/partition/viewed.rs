//! How the leader of a log with hidden batches serves clients: by its [`ClientView`].
//!
//! What never happens here: a hidden batch in an answer, an empty answer below the end that is shown (but
//! for want of room in it), or a start of the log beyond that end or beyond what is needed.
//!
//! Until the view covers what is committed, nobody can say what is shown. Fetches wait then, and who asks for
//! an end is told to ask again.

use bytes::Bytes;

use crate::broker::post::{FetchItem, FetchRefusal, Fetched};
use crate::coordinator::schedule::Schedule;
use crate::ids::Offset;
use crate::io::Effects;
use crate::log::{AppendError, FetchPlan, LogStore};
use crate::partition::client_view::{ClientView, Served, serve};
use crate::partition::leader::{Partition, Reading};
use crate::partition::scheduled::Scheduled;
use crate::record::batch::Batch;
use crate::time::Now;

/// Bytes that are read at a time at least, where some of them may be hidden.
const LOOK_BYTES: u64 = 64 << 10;

impl Partition {
    /// Says what clients see of the log, or that they see it as it is. A view that does not cover the log yet
    /// is to be [noted to](Self::note) in the order of the log, from its start to its end; what is appended
    /// meanwhile is noted at its turn. Nothing of the log goes before [`set_floor`](Self::set_floor) says that
    /// it may.
    pub fn set_view(&mut self, view: Option<ClientView>, log: &mut LogStore) {
        let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        self.floor = view.is_some().then_some(start);
        self.view = view;
        self.settle(log);
    }

    /// Takes in the next batch of the log, where a view wants to know. Whoever notes the last one calls
    /// [`settle`](Self::settle) and wakes the fetches that wait.
    pub fn note(&mut self, batch: &Batch) {
        if let Some(view) = &mut self.view {
            view.note(batch);
        }
    }

    /// Appends a batch, and takes it into the view.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written then.
    pub fn append_batch(
        &mut self,
        now: Now,
        batch: Batch,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Result<Offset, AppendError> {
        let noted = self.view.is_some().then(|| batch.clone());
        let base_offset = log.append(now, self.id, self.leader_epoch, batch, fx)?;
        if let Some(mut batch) = noted {
            batch.assign(base_offset, self.leader_epoch);
            self.note(&batch);
        }
        Ok(base_offset)
    }

    /// Returns the end of what is shown below `end`, which is the high watermark or the last stable offset;
    /// `None` while that is not known.
    pub(super) fn shown(&self, end: Offset, log_start: Offset) -> Option<Offset> {
        let Some(view) = &self.view else { return Some(end) };
        view.covers(end).then(|| view.shown(end, log_start))
    }

    /// Returns the end of what clients are shown of what is committed, `None` while that is not known.
    pub fn shown_high_watermark(&self, log: &LogStore) -> Option<Offset> {
        let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        self.shown(self.high_watermark(), start)
    }

    /// Returns the view where one fetches by it: followers are given the log as it is.
    pub(super) fn view_for(&self, item: &FetchItem) -> Option<&ClientView> {
        self.view.as_ref().filter(|_| item.replica.is_none())
    }

    /// Returns how many bytes a client would find. What is hidden counts for nothing, as far as the view
    /// remembers it.
    pub(super) fn readable_in(&self, view: &ClientView, item: &FetchItem, log: &LogStore) -> u64 {
        let end = self.readable_end(item, log);
        let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        if self.shown(end, start).is_none_or(|shown| item.offset >= shown) {
            return 0;
        }
        let from = view.skip(item.offset);
        let (end, hidden) = view.measure(from, end);
        let bytes = log.readable_bytes(self.id, from, end, item.max_bytes.saturating_add(hidden));
        // There is a served batch, whatever an index says of the bytes before it.
        bytes.saturating_sub(hidden).max(1)
    }

    /// Reads what a client may have from `from` on, which is where it asked for or where a read has ended
    /// that brought nothing for it.
    pub(super) fn read_in(
        &self,
        view: &ClientView,
        item: &FetchItem,
        mut from: Offset,
        log: &LogStore,
    ) -> Result<Reading, FetchRefusal> {
        let mut fetched = self.bounds(item, log);
        let end = self.readable_end(item, log);
        let shown = self.shown(end, fetched.log_start_offset).unwrap_or(from);
        if item.max_bytes == 0 && !item.at_least_one {
            return Ok(Reading::Done(fetched));
        }
        loop {
            from = view.skip(from);
            if from >= shown {
                return Ok(Reading::Done(fetched));
            }
            // Of what is read some may be left out, so the bounds of the answer are kept behind it.
            let parts =
                match log.plan_fetch(self.id, from, end, item.max_bytes.max(LOOK_BYTES), true) {
                    FetchPlan::File(range) => return Ok(Reading::File(range, fetched)),
                    FetchPlan::Memory(parts) if parts.is_empty() => {
                        return Ok(Reading::Done(fetched));
                    }
                    FetchPlan::Memory(parts) => parts,
                };
            match serve(parts, item.offset, item.max_bytes, item.at_least_one) {
                Served::Nothing(next) => from = next,
                Served::Batches(records) => {
                    fetched.records = records;
                    return fetched.with_aborted(item, log).map(Reading::Done);
                }
            }
        }
    }

    /// Takes what was read from a file for a client, and reads on where all of it is hidden.
    ///
    /// # Errors
    /// [`FetchRefusal`].
    pub fn read_on(
        &self,
        item: &FetchItem,
        mut fetched: Fetched,
        parts: Vec<Bytes>,
        log: &LogStore,
    ) -> Result<Reading, FetchRefusal> {
        let Some(view) = self.view_for(item) else {
            fetched.records = parts;
            return fetched.with_aborted(item, log).map(Reading::Done);
        };
        match serve(parts, item.offset, item.max_bytes, item.at_least_one) {
            Served::Nothing(next) if next > item.offset => self.read_in(view, item, next, log),
            Served::Nothing(_) => Ok(Reading::Done(fetched)),
            Served::Batches(records) => {
                fetched.records = records;
                fetched.with_aborted(item, log).map(Reading::Done)
            }
        }
    }

    /// Returns the answer to a client's fetch but for its records: its ends are those that are shown, and at
    /// least what it asked for, as far as that is committed. While nobody can say what is shown they are those of the
    /// log, so that an answer without records is not taken for the end of what there is to read.
    fn bounds(&self, item: &FetchItem, log: &LogStore) -> Fetched {
        let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        let shown = |end: Offset| {
            let shown = self.shown(end, start);
            shown.map_or(end, |shown| shown.max(item.offset.min(end)))
        };
        Fetched {
            high_watermark: shown(self.high_watermark()),
            last_stable_offset: shown(self.last_stable_offset(log)),
            log_start_offset: start,
            records: Vec::new(),
            aborted: item.read_committed.then(Vec::new),
        }
    }

    /// Says from where on the log is needed, `None` if clients alone need it. Moves of the start that wait for
    /// that go on.
    pub fn set_floor(
        &mut self,
        now: Now,
        floor: Option<Offset>,
        log: &mut LogStore,
        fx: &mut Effects,
    ) {
        self.floor = floor;
        self.settle(log);
        let wanted = self.moving.iter().map(|(wanted, _)| *wanted).max();
        let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        if let Some(wanted) = wanted {
            let reached = floor.map_or(wanted, |floor| wanted.min(floor));
            if reached > start {
                log.move_log_start(now, self.id, reached, fx);
            }
        }
    }

    /// Returns how far retention or who asked for it wants the start of the log to go, where that is beyond
    /// what is [needed](Self::set_floor); never beyond what is shown, and by retention never beyond what is stable.
    pub fn wish(&self, log: &LogStore) -> Option<Offset> {
        let shown = self.shown_high_watermark(log)?;
        let asked = self.moving.iter().map(|(wanted, _)| *wanted).max();
        let stable = self.last_stable_offset(log);
        let by_retention = log.retention_wish(self.id).map(|wish| wish.min(stable));
        let wish = asked.max(by_retention)?.min(shown);
        self.floor.is_some_and(|floor| floor < wish).then_some(wish)
    }

    /// Tells the view and the log what has become committed: what nobody asks for is forgotten, and what
    /// clients, open transactions or followers may still ask for stays. Called whenever the high watermark or
    /// the start of the log moves.
    pub fn settle(&mut self, log: &mut LogStore) {
        let stable = self.last_stable_offset(log);
        if self.view.is_none() {
            log.hold(self.id, Some(self.floor.map_or(stable, |floor| floor.min(stable))));
            return;
        }
        let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        let shown = self.shown(self.high_watermark(), start).unwrap_or(start);
        if let Some(view) = self.view.as_mut().filter(|view| view.covers(stable)) {
            view.settle(stable, start);
        }
        let held = self.floor.map_or(shown, |floor| floor.min(shown)).min(stable);
        log.hold(self.id, Some(held));
        let machine = self.scheduled.as_deref().and_then(Scheduled::machine);
        log.expect_copies(self.id, machine.map_or(0, Schedule::copied_bytes));
    }
}
