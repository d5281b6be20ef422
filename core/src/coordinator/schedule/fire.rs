//! Delivery: what is due becomes one batch of ordinary records and the note that says so.

use std::collections::{BTreeMap, BTreeSet};

use super::Schedule;
use super::aside;
use super::queue::{bytes_of, held};
use super::state::Live;
use crate::ids::Offset;
use crate::record::batch::Batch;
use crate::record::builder::BatchBuilder;
use crate::record::compress::Codec;
use crate::record::delivered::delivered;
use crate::record::hidden::{Change, Note};
use crate::time::{Instant, Now};
use crate::wire::DecodeError;

/// Most bytes that delivery adds to a record.
const ADDED_MAX: usize = 160;

/// Most notes that are asked for at once.
const WANTED_MAX: usize = 1_024;
/// Most bytes of them, whole as they are read; one is always asked for.
const WANTED_BYTES_MAX: u64 = 8 << 20;
/// Most times of recurring entries that are worked out for one batch.
const TIMES_MAX: usize = 100;

/// Notes that are asked for, each once.
#[derive(Default)]
struct Wanted {
    places: Vec<Offset>,
    known: BTreeSet<Offset>,
    bytes: u64,
}

impl Wanted {
    /// Asks for the note of an entry too, and returns whether there was room.
    fn add(&mut self, live: &Live) -> bool {
        if self.known.contains(&live.place) {
            return true;
        }
        let bytes = self.bytes + live.note_bytes();
        if self.places.len() >= WANTED_MAX || (bytes > WANTED_BYTES_MAX && self.bytes > 0) {
            return false;
        }
        self.bytes = bytes;
        self.known.insert(live.place);
        self.places.push(live.place);
        true
    }
}

impl Schedule {
    /// Returns whether anything is due whose record is at hand.
    pub fn is_due(&mut self, now: Now) -> bool {
        let wall_ms = self.observe(now);
        self.state.queue.due(wall_ms).next().is_some()
    }

    /// Delivers what is due, as far as its records are at hand: returns a note, and the batch that must come
    /// right behind it. The caller appends both and applies both; the note names the batch as it is. Call it
    /// again until it returns `None`. Where the caller appends nothing, nothing has happened.
    pub fn fire(&mut self, now: Now) -> Option<(Note, Batch)> {
        let stamps = self.stamps?;
        let wall_ms = self.observe(now);
        let settings = &self.settings;
        let mut builder = BatchBuilder::new(Codec::None);
        let mut changes = Vec::new();
        // Entries of one schedule come at one time.
        let mut times: BTreeMap<(&str, &str, i64), Option<i64>> = BTreeMap::new();
        for ((due_ms, ticket), entry) in self.state.queue.due(wall_ms) {
            let size = builder.uncompressed_size() + bytes_of(entry) + ADDED_MAX;
            let is_full = builder.len() >= settings.fire_max_records
                || size > settings.fire_max_bytes
                || (entry.cron.is_some() && times.len() >= TIMES_MAX);
            if is_full && !builder.is_empty() {
                break;
            }
            delivered(entry, ticket, due_ms, &mut builder, wall_ms);
            let next = entry.cron.as_ref().and_then(|(expression, zone)| {
                let mut next = |after_ms| {
                    let time = times.entry((expression, zone, after_ms));
                    *time.or_insert_with(|| (self.next_cron)(expression, zone, after_ms))
                };
                // However many times were missed, they come once.
                let soon = next(due_ms).filter(|next_ms| *next_ms > wall_ms);
                soon.or_else(|| next(wall_ms)).filter(|next_ms| *next_ms > wall_ms)
            });
            changes.push(Change::Fired { ticket, next_due_ms: next.unwrap_or(-1) });
        }
        if changes.is_empty() {
            return None;
        }
        let batch = builder.build();
        Some((Note { at_ms: stamps.at(now), link: Some(batch.crc()), changes }, batch))
    }

    /// Returns when the schedule is to be looked at next, by [`fire`](Self::fire),
    /// [`checks_due`](Self::checks_due) and [`wanted`](Self::wanted). What waits for a record that is wanted, or
    /// for something to be committed, waits for no time.
    pub fn next_deadline(&mut self, now: Now) -> Option<Instant> {
        self.stamps?;
        self.arm_checks(now);
        self.tidy_unread(now);
        let (state, below) = (&self.state, self.copies_below);
        self.aside.tidy(|ticket| {
            state.checks.ready.contains(&ticket)
                || state.live(ticket).is_some_and(|live| live.place < below)
        });
        let wall_ms = self.observe(now);
        let queue = &self.state.queue;
        let absent = queue.first_absent();
        let due = queue.first().filter(|first| Some(*first) != absent);
        let due = due.map(|(due_ms, _)| due_ms);
        let prefetch_ms = self.settings.prefetch.as_millis() as i64;
        let wanted = absent.map(|(due_ms, _)| due_ms.saturating_sub(prefetch_ms));
        let wanted = wanted.filter(|at_ms| *at_ms > wall_ms);
        let by_wall = due.into_iter().chain(wanted).min().map(|at_ms| {
            let wait_ms = at_ms.saturating_sub(wall_ms).max(0) as u64;
            now.mono + std::time::Duration::from_millis(wait_ms)
        });
        let settled = self.guard.as_ref();
        let settled = settled.and_then(|it| it.settled_at(self.settings.clock_step_hold_ms));
        let others = [settled, self.next_check(now), self.unread.next(now)];
        by_wall.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Returns the notes whose records are needed soon and are not at hand, the most urgent first. The caller
    /// reads them, asks for none twice while it reads it, and gives them to
    /// [`take_records`](Self::take_records).
    pub fn wanted(&self, now: Now) -> Vec<Offset> {
        if self.stamps.is_none() {
            return Vec::new();
        }
        let mut wanted = Wanted::default();
        let mut bytes = 0;
        for key in self.state.queue.lacking(self.soon_ms(now)) {
            let Some(live) = self.state.live(key.1) else { continue };
            if self.unread.rests(now, live.place) {
                // Nothing comes before it.
                break;
            }
            let size = live.bytes as usize;
            if !self.state.queue.would_hold(key, size, bytes) || !wanted.add(live) {
                break;
            }
            bytes += size;
        }
        let tried_again = self.unread.to_try(now).filter_map(|place| {
            let ticket = self.state.placed_at(place).next()?;
            self.state.live(ticket)
        });
        for live in tried_again {
            wanted.add(live);
        }
        let asked = self.state.checks.ready.iter().copied();
        let copied = self.to_copy(self.copies_below).map(|(ticket, _)| ticket);
        let mut bytes = self.aside.bytes();
        for ticket in asked.chain(copied) {
            let is_held =
                self.aside.of(ticket).or_else(|| self.state.queue.record(ticket)).is_some();
            let Some(live) = self.state.live(ticket).filter(|_| !is_held) else { continue };
            if self.unread.rests(now, live.place) {
                continue;
            }
            let is_first = bytes == 0;
            bytes += live.bytes as usize;
            if (bytes > aside::BYTES_MAX && !is_first) || !wanted.add(live) {
                break;
            }
        }
        wanted.places
    }

    /// Takes the records that are needed from a note that was read.
    ///
    /// # Errors
    /// [`DecodeError`] where the batch is no note that can be read.
    pub fn take_records(&mut self, now: Now, batch: &Batch) -> Result<(), DecodeError> {
        let (place, size) = (batch.base_offset(), batch.size());
        let soon_ms = self.soon_ms(now);
        let note = Note::read(batch)?;
        self.unread.forget(place);
        self.state.wait_for(place);
        let mut needed = Vec::new();
        for change in note.changes {
            let Change::Entry(ticket, entry) = change else { continue };
            let ticket = ticket.resolve(place.plus(1));
            let Some(live) = self.state.live(ticket).filter(|live| live.place == place) else {
                continue;
            };
            let key = (live.due_ms, ticket);
            let queue = &self.state.queue;
            let is_soon = queue.lacks(key) && live.due_ms <= soon_ms;
            let comes = is_soon && queue.would_hold(key, bytes_of(&entry), 0);
            let is_needed = self.state.checks.ready.contains(&ticket) || place < self.copies_below;
            if !comes && !is_needed {
                continue;
            }
            let entry = held(entry, size);
            if is_needed {
                needed.push((ticket, entry.clone()));
            }
            if comes {
                self.state.queue.insert(key, Some(entry));
            }
        }
        // One that was let in may have had to go for another.
        for (ticket, entry) in needed {
            if self.state.queue.record(ticket).is_none() {
                self.aside.put(ticket, entry);
            }
        }
        Ok(())
    }

    fn soon_ms(&self, now: Now) -> i64 {
        self.wall_ms(now).saturating_add(self.settings.prefetch.as_millis() as i64)
    }
}
