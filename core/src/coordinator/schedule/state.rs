//! What the log says: which entries wait, how others ended, what open transactions asked for, and which hashes
//! must not come twice.
//!
//! This is the replicated part of a schedule. It is a function of the batches that were applied, in order, and
//! it is changed by nothing else, live as in replay. What rides along (the records in the queue, the timers of
//! checks) follows from it and may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::checks::Checks;
use super::clock::LogClock;
use super::ends::{End, Ends};
use super::halves::{HalfMessage, Halves};
use super::open::{Open, Step};
use super::queue::{Queue, bytes_of, held};
use super::seen::{Seen, Sighting};
use super::settings::ScheduleSettings;
use crate::digest::Digest;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::record::batch::Batch;
use crate::record::hidden::{Alteration, Change, CheckStep, Entry, Hidden, Note, Outcome, Ticket};
use crate::record::marker::TxnMarker;
use crate::time::Instant;
use crate::wire::DecodeError;

/// What a producer calls an entry.
pub(super) type Name = Arc<[u8]>;

/// An entry that waits. One takes 48 bytes here, 16 in the queue, 16 in the index of places, and what its name
/// takes: about 120 with what the trees leave free.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Live {
    /// When it comes, in Unix milliseconds; of an undecided half message, -1 for at once.
    pub(super) due_ms: i64,
    /// The note that holds its record.
    pub(super) place: Offset,
    /// What the producer calls it.
    pub(super) id: Option<Name>,
    /// What its record counts for.
    pub(super) bytes: u32,
    /// Size of the batch that holds the note, in `NOTE_UNIT`.
    note_size: u16,
    /// Whether its transaction is open.
    pub(super) is_staged: bool,
}

/// By what sizes of notes are counted, in bytes.
const NOTE_UNIT: u64 = 4_096;

fn note_size(bytes: usize) -> u16 {
    u16::try_from((bytes as u64).div_ceil(NOTE_UNIT)).unwrap_or(u16::MAX)
}

impl Live {
    /// Returns about how many bytes the batch that holds the note has, no less than it has up to 256 MiB.
    pub(super) fn note_bytes(&self) -> u64 {
        u64::from(self.note_size) * NOTE_UNIT
    }
}

/// A note whose batch comes next, or never.
#[derive(Clone, Debug)]
struct Expected {
    at: Offset,
    epoch: LeaderEpoch,
    link: u32,
    note: Note,
    note_bytes: usize,
}

impl Expected {
    fn is_followed_by(&self, batch: &Batch) -> bool {
        batch.base_offset() == self.at.plus(1)
            && batch.leader_epoch() == self.epoch
            && batch.crc() == self.link
    }
}

/// What makes a change take effect.
#[derive(Clone, Copy, Debug)]
struct Cause {
    /// The note.
    place: Offset,
    /// The last offset that it rests on.
    settled: Offset,
    /// Where the batch behind the note begins.
    link: Option<Offset>,
    /// The transaction of that batch.
    transaction: Option<(ProducerId, ProducerEpoch)>,
    /// The stamp of the note.
    stamp_ms: i64,
    /// Bytes of the batch that holds the note.
    note_bytes: usize,
}

/// The replicated part of a schedule.
#[derive(Clone, Debug)]
pub(super) struct State {
    settings: Arc<ScheduleSettings>,
    entries: BTreeMap<Offset, Live>,
    bytes: u64,
    by_id: BTreeMap<Name, Offset>,
    by_place: BTreeSet<(Offset, Offset)>,
    pub(super) halves: Halves,
    pub(super) ends: Ends,
    pub(super) open: Open,
    pub(super) seen: Seen,
    pub(super) clock: LogClock,
    expected: Option<Expected>,
    next_offset: Offset,
    /// Whether records of what is due soon are held as they come.
    pub(super) holds_records: bool,
    pub(super) queue: Queue,
    pub(super) checks: Checks,
}

impl State {
    /// Begins with a log that says nothing.
    pub(super) fn new(settings: Arc<ScheduleSettings>) -> Self {
        let mut queue = Queue::default();
        queue.set_bytes_max(settings.prefetch_max_bytes);
        Self {
            settings,
            entries: BTreeMap::new(),
            bytes: 0,
            by_id: BTreeMap::new(),
            by_place: BTreeSet::new(),
            halves: Halves::default(),
            ends: Ends::default(),
            open: Open::default(),
            seen: Seen::default(),
            clock: LogClock::default(),
            expected: None,
            next_offset: Offset::ZERO,
            holds_records: false,
            queue,
            checks: Checks::default(),
        }
    }

    /// Goes on with other settings.
    pub(super) fn configure(&mut self, settings: Arc<ScheduleSettings>) {
        self.queue.set_bytes_max(settings.prefetch_max_bytes);
        self.settings = settings;
    }

    /// Takes in the next batch of the log.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<(), DecodeError> {
        self.next_offset = batch.next_offset();
        if let Some(expected) = self.expected.take()
            && expected.is_followed_by(batch)
        {
            let producer = (batch.producer_id(), batch.producer_epoch());
            let cause = Cause {
                place: expected.at,
                settled: batch.last_offset(),
                link: Some(batch.base_offset()),
                transaction: batch.is_transactional().then_some(producer),
                stamp_ms: expected.note.at_ms,
                note_bytes: expected.note_bytes,
            };
            self.apply_note(expected.note, cause);
        }
        if Hidden::of(batch) == Some(Hidden::Note) {
            let note = Note::read(batch)?;
            let (at, epoch) = (batch.base_offset(), batch.leader_epoch());
            self.clock.take(epoch, note.at_ms);
            let note_bytes = batch.size();
            if let Some(link) = note.link {
                self.expected = Some(Expected { at, epoch, link, note, note_bytes });
            } else {
                let cause = Cause {
                    place: at,
                    settled: at,
                    link: None,
                    transaction: None,
                    stamp_ms: note.at_ms,
                    note_bytes,
                };
                self.apply_note(note, cause);
            }
        } else if let Some(marker) = TxnMarker::of(batch) {
            self.apply_marker(&marker, batch.last_offset());
        }
        Ok(())
    }

    fn apply_note(&mut self, note: Note, cause: Cause) {
        let turn = 256 + 4 * note.changes.len();
        let mut delivered = cause.link;
        if let Some((producer, epoch)) = cause.transaction {
            self.open.join(producer, epoch, cause.place);
        }
        for change in note.changes {
            self.apply_change(change, cause, &mut delivered);
        }
        let (settings, now_ms) = (&self.settings, self.clock.elapsed_ms());
        self.seen.forget(now_ms, settings.dedup_window_ms, turn);
        let (age_ms, max) = (settings.decided_retention_ms, settings.decided_max_records);
        self.ends.forget(now_ms, age_ms, max, turn);
    }

    fn apply_change(&mut self, change: Change, cause: Cause, delivered: &mut Option<Offset>) {
        match change {
            Change::Entry(Ticket::At(ticket), entry) => self.restate(ticket, entry, cause),
            Change::Entry(ticket @ Ticket::InLink(_), entry) => {
                if let Some(link) = cause.link {
                    self.accept(ticket.resolve(link), entry, cause);
                }
            }
            Change::Alter { ticket, what, due_ms, by } => match cause.transaction {
                Some((producer, _)) if by.is_some() => {
                    self.open.add(producer, Step::Alter { ticket, what, due_ms });
                    self.hold(producer, ticket);
                }
                Some(_) | None => self.alter(ticket, what, due_ms, cause.settled, cause.stamp_ms),
            },
            Change::Fired { ticket, next_due_ms } => {
                if let Some(offset) = *delivered {
                    *delivered = Some(offset.plus(1));
                    self.fired(ticket, offset, next_due_ms);
                }
            }
            Change::Check { ticket, attempt, step } => self.checked(ticket, attempt, step, cause),
            // That a record was left out changes nothing; it is for whoever asks later why.
            Change::Duplicate { .. } => {}
            Change::Stored { ticket, hash, at_ms } => {
                let ticket = match (ticket, cause.link) {
                    (Ticket::At(offset), _) => offset,
                    (Ticket::InLink(_), Some(link)) => ticket.resolve(link),
                    (Ticket::InLink(_), None) => return,
                };
                let held_by = cause.transaction.map(|(producer, _)| producer);
                if let Some((producer, epoch)) = cause.transaction {
                    self.open.join(producer, epoch, cause.place).hashes.push(hash);
                }
                let stored_at_ms = self.aged(at_ms, cause.stamp_ms);
                let place = cause.place;
                self.seen.put(hash, Sighting { ticket, held_by, place, stored_at_ms });
            }
            Change::Ended { ticket, id, outcome, offset, at_ms } => {
                if self.entries.contains_key(&ticket) {
                    // Of an entry that waits it says that this was a half message once.
                    let committed = Some(cause.settled);
                    self.halves.insert(ticket, HalfMessage { committed, ..HalfMessage::NEW });
                    return;
                }
                let end = End {
                    outcome,
                    offset,
                    settled: cause.settled,
                    place: cause.place,
                    ended_at_ms: self.aged(at_ms, cause.stamp_ms),
                    id: id.as_deref().map(Arc::from),
                };
                self.ends.put(ticket, end);
            }
        }
    }

    /// Returns when that was on the log's own clock, where a note of `stamp_ms` says that it was at `at_ms`.
    fn aged(&self, at_ms: i64, stamp_ms: i64) -> i64 {
        let age_ms = if at_ms < 0 { 0 } else { stamp_ms.saturating_sub(at_ms).max(0) };
        self.clock.elapsed_ms().saturating_sub(age_ms)
    }

    fn accept(&mut self, ticket: Offset, entry: Entry, cause: Cause) {
        if self.entries.contains_key(&ticket) {
            return;
        }
        let id: Option<Name> = entry.id.as_deref().map(Arc::from);
        self.add(ticket, &entry, id.clone(), cause);
        let Some((producer, epoch)) = cause.transaction else {
            self.activate(ticket, cause.settled, Some((entry, cause)));
            return;
        };
        if let Some(live) = self.entries.get_mut(&ticket) {
            live.is_staged = true;
        }
        self.open.join(producer, epoch, cause.place);
        if let Some(id) = id {
            let committed = self.by_id.get(&id).copied();
            let own = self.open.take_name(producer, id, ticket);
            for older in own.into_iter().chain(committed) {
                self.open.touch(producer, older, Alteration::Cancel);
            }
            if let Some(older) = committed {
                self.hold(producer, older);
            }
        }
        self.open.add(producer, Step::Accept(ticket));
    }

    /// Adds an entry that is nowhere but in the table, the sums and the index of places.
    fn add(&mut self, ticket: Offset, entry: &Entry, id: Option<Name>, cause: Cause) {
        let bytes = u32::try_from(bytes_of(entry)).unwrap_or(u32::MAX);
        let (due_ms, place) = (entry.due_ms, cause.place);
        self.bytes += u64::from(bytes);
        self.by_place.insert((place, ticket));
        let note_size = note_size(cause.note_bytes);
        let live = Live { due_ms, place, id, bytes, note_size, is_staged: false };
        self.entries.insert(ticket, live);
        if let Some(half) = &entry.half {
            let half = HalfMessage {
                check_after_ms: half.check_after_ms,
                checks: half.checks,
                is_parked: half.is_parked,
                ..HalfMessage::NEW
            };
            self.halves.insert(ticket, half);
        }
    }

    /// Lets an entry of the table count: it has its name, and comes or waits for its verdict. Its record, where
    /// it is at hand, came with the cause.
    fn activate(&mut self, ticket: Offset, settled: Offset, record: Option<(Entry, Cause)>) {
        let Some(live) = self.entries.get_mut(&ticket) else { return };
        live.is_staged = false;
        if let Some(id) = live.id.clone()
            && let Some(older) = self.by_id.insert(id.clone(), ticket)
            && older != ticket
        {
            self.end(older, Outcome::Replaced, ticket, settled);
        }
        self.enqueue(ticket, record);
    }

    /// Lets an entry come, or wait for its verdict, unless a transaction holds it.
    fn enqueue(&mut self, ticket: Offset, record: Option<(Entry, Cause)>) {
        let Some(live) = self.entries.get(&ticket) else { return };
        if self.open.holder(ticket).is_some() {
            return;
        }
        if self.is_undecided(ticket) {
            self.checks.restart(ticket);
            return;
        }
        let record = record.filter(|(_, cause)| self.is_soon(live.due_ms, cause.stamp_ms));
        let record = record.map(|(entry, cause)| held(entry, cause.note_bytes));
        self.queue.insert((live.due_ms, ticket), record);
    }

    fn is_soon(&self, due_ms: i64, now_ms: i64) -> bool {
        let prefetch_ms = self.settings.prefetch.as_millis() as i64;
        self.holds_records && due_ms.saturating_sub(now_ms) <= prefetch_ms
    }

    /// Makes a committed entry wait for a transaction.
    fn hold(&mut self, producer: ProducerId, ticket: Offset) {
        let Some(live) = self.entries.get(&ticket) else { return };
        if !live.is_staged && self.open.hold(producer, ticket) {
            self.queue.remove((live.due_ms, ticket));
            self.checks.stop(ticket);
        }
    }

    /// Takes in what is written again of an entry so that its old place may go.
    fn restate(&mut self, ticket: Offset, entry: Entry, cause: Cause) {
        let Some(live) = self.entries.get_mut(&ticket) else {
            let id: Option<Name> = entry.id.as_deref().map(Arc::from);
            self.add(ticket, &entry, id, cause);
            self.activate(ticket, cause.settled, Some((entry, cause)));
            return;
        };
        self.by_place.remove(&(live.place, ticket));
        (live.place, live.note_size) = (cause.place, note_size(cause.note_bytes));
        self.by_place.insert((cause.place, ticket));
        // Its settlements are as new as the copy: a later leader knows no older ones.
        self.halves.change(ticket, |half| {
            half.intent = None;
            half.committed = half.committed.map(|_| cause.settled);
        });
    }

    fn alter(
        &mut self,
        ticket: Offset,
        what: Alteration,
        due_ms: i64,
        settled: Offset,
        stamp_ms: i64,
    ) {
        let Some(live) = self.entries.get(&ticket).filter(|live| !live.is_staged) else { return };
        let before_ms = live.due_ms;
        let is_undecided = self.is_undecided(ticket);
        match what {
            Alteration::Cancel => self.end(ticket, Outcome::Cancelled, NOWHERE, settled),
            Alteration::Reschedule if !is_undecided => self.come_at(ticket, due_ms, stamp_ms),
            Alteration::DeliverNow if !is_undecided => {
                self.come_at(ticket, due_ms.min(before_ms), stamp_ms);
            }
            Alteration::Commit if is_undecided => {
                self.halves.change(ticket, |half| {
                    half.committed = Some(settled);
                    (half.intent, half.is_parked) = (None, false);
                });
                self.checks.stop(ticket);
                let due_ms = if before_ms < 0 { due_ms } else { before_ms };
                self.come_at(ticket, due_ms, stamp_ms);
            }
            Alteration::Rollback if is_undecided => {
                self.end(ticket, Outcome::RolledBack, NOWHERE, settled);
            }
            Alteration::Reschedule
            | Alteration::DeliverNow
            | Alteration::Commit
            | Alteration::Rollback => {}
        }
    }

    fn come_at(&mut self, ticket: Offset, due_ms: i64, now_ms: i64) {
        let is_soon = self.is_soon(due_ms, now_ms);
        let is_held = self.open.holder(ticket).is_some();
        let Some(live) = self.entries.get_mut(&ticket) else { return };
        let record = self.queue.remove((live.due_ms, ticket)).filter(|_| is_soon);
        live.due_ms = due_ms;
        if !is_held {
            self.queue.insert((due_ms, ticket), record);
        }
    }

    fn fired(&mut self, ticket: Offset, offset: Offset, next_due_ms: i64) {
        if next_due_ms >= 0 {
            let stamp_ms = self.clock.stamp_ms();
            self.come_at(ticket, next_due_ms, stamp_ms);
        } else {
            self.end(ticket, Outcome::Fired, offset, offset);
        }
    }

    /// Ends an entry.
    fn end(&mut self, ticket: Offset, outcome: Outcome, offset: Offset, settled: Offset) {
        let Some(live) = self.take_out(ticket) else { return };
        // Whatever came of it then: a verdict is final and answered alike for ever.
        let was_committed = self.halves.remove(ticket).is_some_and(|half| !half.is_undecided());
        let delivered = if outcome == Outcome::Fired { offset } else { NOWHERE };
        let (outcome, offset) =
            if was_committed { (Outcome::Committed, delivered) } else { (outcome, offset) };
        let ended_at_ms = self.clock.elapsed_ms();
        let end = End { outcome, offset, settled, place: live.place, ended_at_ms, id: live.id };
        self.ends.put(ticket, end);
    }

    /// Takes an entry out of all tables but that of half messages.
    fn take_out(&mut self, ticket: Offset) -> Option<Live> {
        let live = self.entries.remove(&ticket)?;
        self.bytes -= u64::from(live.bytes);
        self.by_place.remove(&(live.place, ticket));
        self.queue.remove((live.due_ms, ticket));
        self.checks.stop(ticket);
        self.open.release(ticket);
        if let Some(id) = &live.id
            && self.by_id.get(id) == Some(&ticket)
        {
            self.by_id.remove(id);
        }
        Some(live)
    }

    fn checked(&mut self, ticket: Offset, attempt: u32, step: CheckStep, cause: Cause) {
        if !self.is_undecided(ticket) {
            return;
        }
        self.halves.change(ticket, |half| match step {
            CheckStep::Intent => half.intent = Some(cause.place),
            CheckStep::Sent => (half.checks, half.intent) = (attempt, None),
            CheckStep::Parked => (half.is_parked, half.intent) = (true, None),
        });
        match step {
            CheckStep::Intent => {}
            CheckStep::Sent | CheckStep::Parked => {
                self.checks.stop(ticket);
                self.enqueue(ticket, None);
            }
        }
    }

    /// Returns an entry that waits.
    pub(super) fn live(&self, ticket: Offset) -> Option<&Live> {
        self.entries.get(&ticket)
    }

    /// Returns every entry that waits, by ticket.
    pub(super) const fn entries(&self) -> &BTreeMap<Offset, Live> {
        &self.entries
    }

    /// Returns the entry that counts and is called so.
    pub(super) fn ticket_of(&self, id: &[u8]) -> Option<Offset> {
        self.by_id.get(id).copied()
    }

    /// Returns what an entry that was taken as a half message has besides.
    pub(super) fn half(&self, ticket: Offset) -> Option<&HalfMessage> {
        self.halves.of(ticket)
    }

    /// Returns whether an entry is a half message without a verdict.
    pub(super) fn is_undecided(&self, ticket: Offset) -> bool {
        self.halves.of(ticket).is_some_and(HalfMessage::is_undecided)
    }

    /// Returns what the records of all that waits count for.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the offset behind the last batch.
    pub(super) const fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Returns the entries whose records are in the note at an offset.
    pub(super) fn placed_at(&self, place: Offset) -> impl Iterator<Item = Offset> {
        let placed = self.by_place.range((place, Offset(i64::MIN))..=(place, Offset(i64::MAX)));
        placed.map(|(_, ticket)| *ticket)
    }

    /// Makes those entries wait until then whose note cannot be read: what is due behind them comes.
    pub(super) fn pass_by(&mut self, place: Offset, until: Instant) {
        let placed = self.by_place.range((place, Offset(i64::MIN))..=(place, Offset(i64::MAX)));
        for (_, ticket) in placed {
            if let Some(live) = self.entries.get(ticket) {
                self.queue.pass_by((live.due_ms, *ticket));
                self.checks.put_off(*ticket, until);
            }
        }
    }

    /// Makes the others wait again for the records of those entries: their note was read.
    pub(super) fn wait_for(&mut self, place: Offset) {
        let placed = self.by_place.range((place, Offset(i64::MIN))..=(place, Offset(i64::MAX)));
        for (_, ticket) in placed {
            if let Some(live) = self.entries.get(ticket) {
                self.queue.wait_for((live.due_ms, *ticket));
            }
        }
    }

    /// Returns the entries whose records are in notes below, the lowest first.
    pub(super) fn placed_below(&self, below: Offset) -> impl Iterator<Item = (Offset, Offset)> {
        self.by_place.range(..(below, Offset(i64::MIN))).copied()
    }

    /// Returns the first offset whose note still counts.
    pub(super) fn floor(&self) -> Option<Offset> {
        let entries = self.by_place.first().map(|(place, _)| *place);
        let expected = self.expected.as_ref().map(|expected| expected.at);
        let others = [self.ends.floor(), self.seen.floor(), self.open.floor(), expected];
        others.into_iter().chain([entries]).flatten().min()
    }

    /// Takes everything that the log says into a digest.
    pub(super) fn digest(&self, digest: &mut Digest) {
        let now_ms = self.clock.elapsed_ms();
        digest.number(self.entries.len() as u64).number(self.bytes);
        for (ticket, live) in &self.entries {
            digest.signed(ticket.0).signed(live.due_ms).signed(live.place.0);
            digest.number(u64::from(live.bytes)).number(u64::from(live.is_staged));
            digest.bytes(live.id.as_deref().unwrap_or_default());
        }
        digest.shown(&self.by_id);
        self.halves.digest(digest);
        digest.number(self.by_place.len() as u64);
        digest.number(self.queue.len() as u64);
        for key in self.queue.after(None) {
            digest.signed(key.0).signed(key.1.0);
        }
        self.ends.digest(now_ms, digest);
        self.seen.digest(now_ms, digest);
        self.open.digest(digest);
        let expected = self.expected.as_ref();
        digest.shown(&expected.map(|it| (it.at, it.epoch, it.link)));
    }

    fn apply_marker(&mut self, marker: &TxnMarker, at: Offset) {
        let producer = marker.producer_id;
        let Some(transaction) = self.open.end(producer, marker.producer_epoch) else { return };
        for hash in transaction.hashes {
            self.seen.end(hash, producer, marker.committed);
        }
        for &ticket in &transaction.holds {
            self.enqueue(ticket, None);
        }
        let stamp_ms = self.clock.stamp_ms();
        for step in transaction.steps {
            match step {
                Step::Accept(ticket) if marker.committed => self.activate(ticket, at, None),
                Step::Accept(ticket) => {
                    self.take_out(ticket);
                    self.halves.remove(ticket);
                }
                Step::Alter { ticket, what, due_ms } if marker.committed => {
                    self.alter(ticket, what, due_ms, at, stamp_ms);
                }
                Step::Alter { .. } => {}
            }
        }
    }
}

/// Stands for no offset.
pub(super) const NOWHERE: Offset = Offset(-1);
