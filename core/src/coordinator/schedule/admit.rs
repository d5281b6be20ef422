//! What a produced batch comes to: which of its records are stored, and what is noted of the others.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Schedule;
use super::judge::{Effect, Refusal, Standing, after};
use super::open::Touches;
use super::queue::bytes_of;
use super::seen::Sighting;
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerId};
use crate::record::batch::Batch;
use crate::record::features::{Action, Command, CommandTarget, EntryWish, RecordWish};
use crate::record::hidden::{Alteration, Change, Entry, Half, Note, Outcome, Ticket};
use crate::record::iterate::{OpenBatch, PlacedRecord};
use crate::time::Now;
use crate::wire::KafkaString;

/// Most different recurring schedules of one batch.
const TIMES_MAX: usize = 500;
/// Most that one transaction asks for: all of it takes effect at once, with its marker.
const STEPS_MAX: usize = 50_000;

/// What a produced batch comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// Which of its records are stored, by their places.
    pub keep: Vec<bool>,
    at_ms: i64,
    changes: Vec<Change>,
}

impl Admission {
    /// Returns whether a note must come right before the batch.
    pub fn has_note(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Returns the note, if there is one. `stored` is what is put into the log right behind it, with its final
    /// CRC: the batch, what is kept of it, or the void batch that stands for it.
    pub fn note(&self, stored: &Batch) -> Option<Note> {
        let changes = self.changes.clone();
        let note = || Note { at_ms: self.at_ms, link: Some(stored.crc()), changes };
        self.has_note().then(note)
    }
}

/// What the records so far come to.
struct Draft<'a> {
    schedule: &'a Schedule,
    now: Now,
    at_ms: i64,
    high_watermark: Offset,
    /// Where the batch will begin if there is a note before it.
    link: Offset,
    /// Whose transaction the batch is part of.
    transaction: Option<ProducerId>,
    changes: Vec<Change>,
    /// Entries of the batch, and whether they are half messages.
    entries: BTreeMap<Offset, bool>,
    names: BTreeMap<Bytes, Offset>,
    touches: Touches,
    hashes: BTreeMap<u128, Offset>,
    /// When recurring entries come first, by expression and time zone.
    times: BTreeMap<(KafkaString, KafkaString), Option<i64>>,
    bytes: u64,
    /// Entries that end with the batch.
    freed: BTreeSet<Offset>,
}

impl Schedule {
    /// Decides what a produced batch comes to; nothing is changed by it. `records` is the batch, opened, and
    /// `wishes` are those of its records. With a note, the caller appends the note at `log_end` and what is
    /// stored of the batch behind it, and applies both; the answer rests on both being committed.
    ///
    /// # Errors
    /// [`Refusal`] of the whole batch, where one of its records cannot have what it asks for.
    pub fn admit(
        &self,
        now: Now,
        log_end: Offset,
        high_watermark: Offset,
        batch: &Batch,
        wishes: &[RecordWish],
        records: &OpenBatch,
    ) -> Result<Admission, Refusal> {
        let stamps = self.stamps.ok_or_else(Self::loading)?;
        let mut draft = Draft {
            schedule: self,
            now,
            at_ms: stamps.at(now),
            high_watermark,
            link: log_end.plus(1),
            transaction: batch.is_transactional().then(|| batch.producer_id()),
            changes: Vec::new(),
            entries: BTreeMap::new(),
            names: BTreeMap::new(),
            touches: Touches::default(),
            hashes: BTreeMap::new(),
            times: BTreeMap::new(),
            bytes: 0,
            freed: BTreeSet::new(),
        };
        let mut keep = Vec::with_capacity(wishes.len());
        for ((index, wish), record) in (0..).zip(wishes).zip(records.records()) {
            let record = record.map_err(|error| {
                Refusal::new(ErrorCode::InvalidRecord, error.to_string()).at(index)
            })?;
            let kept = draft.take(index, wish, record, records);
            let kept = kept.and_then(|is_kept| draft.check_steps().map(|()| is_kept));
            keep.push(kept.map_err(|refusal| refusal.at(index))?);
        }
        assert_eq!(keep.len(), wishes.len(), "there is a wish for each record");
        Ok(Admission { keep, at_ms: draft.at_ms, changes: draft.changes })
    }
}

impl Draft<'_> {
    /// Takes the next record, and returns whether it is stored.
    fn take(
        &mut self,
        index: u32,
        wish: &RecordWish,
        record: PlacedRecord<'_>,
        records: &OpenBatch,
    ) -> Result<bool, Refusal> {
        let ticket = self.link.plus(i64::from(index));
        if let Some(hash) = wish.dedup
            && let Some(original) = self.original(hash)?
        {
            self.changes.push(Change::Duplicate { index, original });
            return Ok(false);
        }
        let (is_kept, is_remembered) = match &wish.action {
            Action::Store => (true, true),
            Action::Wait(wish) => (false, self.wait(index, ticket, wish, record, records)?),
            Action::Command(target, command) => {
                self.command(index, target, *command)?;
                (false, true)
            }
        };
        if let Some(hash) = wish.dedup.filter(|_| is_remembered) {
            self.note_hash(hash, index)?;
        }
        Ok(is_kept)
    }

    /// Checks that what the transaction asks for so far may take effect at once.
    fn check_steps(&self) -> Result<(), Refusal> {
        let Some(producer) = self.transaction else { return Ok(()) };
        let before = self.schedule.state.open.of(producer).map_or(0, |open| open.steps.len());
        if before + self.changes.len() <= STEPS_MAX {
            return Ok(());
        }
        let message = format!(
            "a transaction may ask for {STEPS_MAX} things at a partition: delays, half messages, commands"
        );
        Err(Refusal::new(ErrorCode::PolicyViolation, message))
    }

    /// Returns where the record with this hash is that makes another one a duplicate.
    fn original(&self, hash: u128) -> Result<Option<Offset>, Refusal> {
        if let Some(original) = self.hashes.get(&hash) {
            return Ok(Some(*original));
        }
        let sighting = self.schedule.state.seen.of(hash);
        let Some(sighting) = sighting.filter(|it| !self.schedule.is_forgotten(self.now, it)) else {
            return Ok(None);
        };
        if sighting.held_by.is_some() && sighting.held_by != self.transaction {
            return Err(Refusal::new(
                ErrorCode::NotEnoughReplicas,
                "a record that would make this one a duplicate is part of an open transaction",
            ));
        }
        Ok(Some(sighting.ticket))
    }

    fn note_hash(&mut self, hash: u128, index: u32) -> Result<(), Refusal> {
        let (state, max) = (&self.schedule.state, self.schedule.settings.dedup_max_entries);
        if state.seen.len() + self.hashes.len() >= max {
            let is_forgotten = |it: &Sighting| self.schedule.is_forgotten(self.now, it);
            let forgotten = state.seen.old(self.hashes.len() + 1, is_forgotten);
            if state.seen.len() - forgotten + self.hashes.len() >= max {
                return Err(Refusal::new(
                    ErrorCode::PolicyViolation,
                    format!(
                        "the partition remembers {max} records, as mainspring.dedup.max.entries allows"
                    ),
                ));
            }
        }
        self.hashes.insert(hash, self.link.plus(i64::from(index)));
        self.changes.push(Change::Stored {
            ticket: Ticket::InLink(index),
            hash,
            at_ms: self.at_ms,
        });
        Ok(())
    }

    fn named(&self, id: &[u8]) -> Option<Offset> {
        let own = self.names.get(id).copied();
        own.or_else(|| self.schedule.named(id, self.transaction))
    }

    fn standing(&self, ticket: Offset) -> Standing<'_> {
        let standing = match self.entries.get(&ticket) {
            Some(true) => Standing::Half,
            Some(false) => Standing::Waits,
            None => self.schedule.standing(ticket, self.transaction),
        };
        match (standing, self.touches.of(ticket)) {
            (Standing::Busy, _) | (_, None) => standing,
            (_, Some(touch)) => after(standing, touch),
        }
    }

    /// Takes an entry, and returns whether it is one: a half message of a name that is decided is not.
    fn wait(
        &mut self,
        index: u32,
        ticket: Offset,
        wish: &EntryWish,
        record: PlacedRecord<'_>,
        records: &OpenBatch,
    ) -> Result<bool, Refusal> {
        if let Some(id) = &wish.id
            && let Some(older) = self.named(id)
        {
            let is_decided = match self.standing(older) {
                Standing::Busy => {
                    return Err(Refusal::new(
                        ErrorCode::NotEnoughReplicas,
                        "an open transaction decides about the entry of this name; try again when it has ended",
                    ));
                }
                Standing::Released(_)
                | Standing::EndedHere(Outcome::Committed | Outcome::RolledBack) => true,
                Standing::Ended(end) => {
                    matches!(end.outcome, Outcome::Committed | Outcome::RolledBack)
                }
                Standing::Unknown | Standing::Waits | Standing::Half | Standing::EndedHere(_) => {
                    false
                }
            };
            if is_decided && wish.half.is_some() {
                self.changes.push(Change::Duplicate { index, original: older });
                return Ok(false);
            }
            match self.standing(older) {
                Standing::Waits | Standing::Half | Standing::Released(_) => {
                    self.touches.add(older, Alteration::Cancel);
                    self.freed.insert(older);
                }
                Standing::Unknown
                | Standing::Busy
                | Standing::Ended(_)
                | Standing::EndedHere(_) => {}
            }
        }
        let next_ms = match &wish.cron {
            Some((expression, zone)) => self.next_time(expression, zone)?,
            None => None,
        };
        let entry = self.entry(wish, next_ms, record, records)?;
        self.bytes += bytes_of(&entry) as u64;
        self.entries.insert(ticket, wish.half.is_some());
        self.check_limits()?;
        if let Some(id) = &wish.id {
            self.names.insert(id.clone(), ticket);
        }
        self.changes.push(Change::Entry(Ticket::InLink(index), entry));
        Ok(true)
    }

    /// Returns when a recurring entry comes first.
    fn next_time(
        &mut self,
        expression: &KafkaString,
        zone: &KafkaString,
    ) -> Result<Option<i64>, Refusal> {
        let key = (expression.clone(), zone.clone());
        if let Some(known) = self.times.get(&key) {
            return Ok(*known);
        }
        if self.times.len() >= TIMES_MAX {
            let message = format!("a batch may have {TIMES_MAX} different recurring schedules");
            return Err(Refusal::new(ErrorCode::PolicyViolation, message));
        }
        let schedule = self.schedule;
        let next_ms = (schedule.next_cron)(expression, zone, schedule.wall_ms(self.now));
        self.times.insert(key, next_ms);
        Ok(next_ms)
    }

    fn entry(
        &self,
        wish: &EntryWish,
        next_ms: Option<i64>,
        record: PlacedRecord<'_>,
        records: &OpenBatch,
    ) -> Result<Entry, Refusal> {
        let schedule = self.schedule;
        let due_ms = match (wish.when, &wish.cron, &wish.half) {
            (Some(when), _, _) => schedule.due_ms(self.now, when)?,
            (None, Some(_), _) => next_ms.ok_or_else(|| {
                Refusal::new(ErrorCode::InvalidRecord, "mainspring-cron names no time to come")
            })?,
            (None, None, Some(_)) => -1,
            (None, None, None) => schedule.wall_ms(self.now),
        };
        let slice = |bytes: &[u8]| records.payload().slice_ref(bytes);
        let headers = record.record.headers.iter();
        Ok(Entry {
            due_ms,
            id: wish.id.clone(),
            timestamp: record.timestamp,
            key: record.record.key.map(slice),
            value: record.record.value.map(slice),
            headers: headers.map(|it| (slice(it.key), it.value.map(slice))).collect(),
            cron: wish.cron.clone(),
            half: wish.half.clone().map(|check_group| Half {
                check_group,
                check_after_ms: wish.check_after_ms,
                checks: 0,
                is_parked: false,
            }),
        })
    }

    fn command(
        &mut self,
        index: u32,
        target: &CommandTarget,
        command: Command,
    ) -> Result<(), Refusal> {
        let ticket = match target {
            CommandTarget::Ticket(ticket) => Some(*ticket),
            CommandTarget::Id(id) => self.named(id),
        };
        let standing = ticket.map_or(Standing::Unknown, |ticket| self.standing(ticket));
        let effect = self.schedule.judge(self.now, self.high_watermark, standing, command)?;
        let (Effect::Alter { what, due_ms }, Some(ticket)) = (effect, ticket) else {
            return Ok(());
        };
        self.touches.add(ticket, what);
        match what {
            Alteration::Cancel | Alteration::Rollback => {
                self.freed.insert(ticket);
            }
            Alteration::Reschedule | Alteration::DeliverNow | Alteration::Commit => {}
        }
        self.changes.push(Change::Alter { ticket, what, due_ms, by: Some(index) });
        self.check_limits()
    }

    fn check_limits(&self) -> Result<(), Refusal> {
        let (state, settings) = (&self.schedule.state, &self.schedule.settings);
        let full = |setting: &str, max: u64| {
            let message =
                format!("{max} are waiting already, as mainspring.schedule.{setting} allows");
            Err(Refusal::new(ErrorCode::PolicyViolation, message))
        };
        // What a transaction ends is there until its marker.
        let freed = if self.transaction.is_some() { 0 } else { self.freed.len() };
        let records = state.entries().len() + self.entries.len();
        if records > settings.max_pending_records + freed {
            return full("max.pending.records", settings.max_pending_records as u64);
        }
        let freed: u64 = if self.transaction.is_some() {
            0
        } else {
            let live = self.freed.iter().filter_map(|ticket| state.live(*ticket));
            live.map(|live| u64::from(live.bytes)).sum()
        };
        let bytes = state.bytes() + self.bytes;
        if bytes > settings.max_pending_bytes + freed {
            return full("max.pending.bytes", settings.max_pending_bytes);
        }
        // What waits is written again and again so that what is older may go: it must be the smaller part.
        if let Some(max) = settings.memory_max_bytes
            && bytes > max / 2 + freed
        {
            let message = format!(
                "{} bytes may wait in memory, half of what mainspring.memory.max.bytes allows",
                max / 2
            );
            return Err(Refusal::new(ErrorCode::PolicyViolation, message));
        }
        if self.transaction.is_some()
            && state.open.steps() + self.changes.len() > settings.max_pending_records
        {
            return full("max.pending.records", settings.max_pending_records as u64);
        }
        Ok(())
    }
}
