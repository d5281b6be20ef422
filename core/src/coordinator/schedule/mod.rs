//! What comes later in a partition: delayed, scheduled and recurring records, half messages, and the hashes of
//! what must not be stored twice.
//!
//! One [`Schedule`] serves one partition and keeps its state in that partition's own log, in notes (see
//! [`hidden`](crate::record::hidden)). The leader decides with a look at the state
//! ([`admit`](Schedule::admit), [`alter`](Schedule::alter), [`fire`](Schedule::fire) and others), appends, and
//! gives every batch that it appended to [`apply`](Schedule::apply), which also takes in the whole log when a
//! leader begins; then it is [`loaded`](Schedule::loaded). If the log is lost or cut, the schedule is dropped and
//! the log is read anew; nothing is patched back. Answers wait until the log is committed up to where they rest.
//!
//! This module appends nothing, reads no log and no clock.
//!
//! Invariants:
//! 1. What is [`stored`](Schedule::replicated_digest) is a function of the batches applied, in order, live as in
//!    replay.
//! 2. A note that names a batch counts if and only if that batch comes right behind it.
//! 3. Nothing is delivered before it is due by the leader's wall clock, as far as that is believed; nothing that
//!    an open transaction decides about is delivered.
//! 4. What is delivered ends, or comes next at a later time, by the very note that delivers it. So it comes
//!    once, and never if its cancelling is in the log before.
//! 5. What comes, comes by due time, and equal times in the order of acceptance.
//! 6. No error is final that rests on what may yet be lost.
//! 7. What is remembered for a time is not forgotten before, whatever wall clocks do, but for ends beyond their
//!    greatest number.
//!
//! Sources: KIP-98 for transactions; the page on scheduled messages for the rest, which Kafka does not have.

mod admit;
mod aside;
mod checks;
mod clock;
mod copies;
mod ends;
mod fire;
mod halves;
mod judge;
mod open;
mod queue;
mod report;
mod seen;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod unread;

use std::sync::Arc;

pub use self::admit::Admission;
pub use self::checks::Check;
pub use self::judge::Refusal;
pub use self::report::{EntryStatus, EntryView, ScheduleStats};
pub use self::settings::{CronNext, ScheduleSettings};

use self::aside::Aside;
use self::clock::{Guard, Stamps};
use self::seen::Sighting;
use self::state::State;
use self::unread::Unread;
use crate::digest::Digest;
use crate::ids::{LeaderEpoch, Offset};
use crate::record::batch::Batch;
use crate::time::Now;
use crate::wire::DecodeError;

/// What one partition remembers for later.
#[derive(Clone, Debug)]
pub struct Schedule {
    settings: Arc<ScheduleSettings>,
    next_cron: CronNext,
    state: State,
    /// `None` while the log is read.
    stamps: Option<Stamps>,
    leader_epoch: LeaderEpoch,
    /// Where the log ended when this leader began.
    loaded_to: Offset,
    guard: Option<Guard>,
    aside: Aside,
    unread: Unread,
    /// What is in notes below is to be written again.
    copies_below: Offset,
}

impl Schedule {
    /// Begins with a log that says nothing. `next_cron` computes when a recurring entry comes next.
    pub fn new(settings: Arc<ScheduleSettings>, next_cron: CronNext) -> Self {
        Self {
            state: State::new(settings.clone()),
            settings,
            next_cron,
            stamps: None,
            leader_epoch: LeaderEpoch::UNKNOWN,
            loaded_to: Offset::ZERO,
            guard: None,
            aside: Aside::default(),
            unread: Unread::default(),
            copies_below: Offset::ZERO,
        }
    }

    /// Goes on with other settings. What was accepted under others stays.
    pub fn configure(&mut self, settings: Arc<ScheduleSettings>) {
        self.state.configure(settings.clone());
        self.settings = settings;
    }

    /// Takes in the next batch of the log, with its offset and leader epoch: while the log is read, and each one
    /// that this leader appended, markers included.
    ///
    /// # Errors
    /// [`DecodeError`] where it is a note that cannot be read. The partition must not be led then: what it says
    /// would be missing.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), DecodeError> {
        self.state.apply(batch)
    }

    /// Begins to serve as the leader of this epoch: the log was applied up to its end. Half messages are asked
    /// about after their whole time, as if they had come now.
    pub fn loaded(&mut self, now: Now, leader_epoch: LeaderEpoch) {
        assert!(self.stamps.is_none(), "a log is read once");
        self.stamps = Some(Stamps::new(now));
        self.leader_epoch = leader_epoch;
        self.loaded_to = self.state.next_offset();
        self.guard = Some(Guard::new(now));
        self.state.holds_records = true;
    }

    /// Returns the digest of what is stored: equal for two that have taken in the same log.
    pub fn replicated_digest(&self) -> u64 {
        let mut digest = Digest::default();
        self.state.digest(&mut digest);
        digest.finish()
    }

    /// Takes the whole state into a digest, clocks and timers included.
    pub fn digest(&self, digest: &mut Digest) {
        self.state.digest(digest);
        digest.shown(&(&self.stamps, self.leader_epoch, self.loaded_to, &self.guard));
        digest.shown(&(&self.state.checks, &self.state.clock, self.copies_below, &self.unread));
        digest.signed(self.state.queue.first_absent().map_or(-1, |(_, ticket)| ticket.0));
    }

    /// Returns the wall clock in Unix milliseconds as far as it is believed.
    fn wall_ms(&self, now: Now) -> i64 {
        let (step_ms, hold_ms) =
            (self.settings.clock_step_max_ms, self.settings.clock_step_hold_ms);
        self.guard.as_ref().map_or(now.wall.0, |guard| guard.wall_ms(now, step_ms, hold_ms))
    }

    fn observe(&mut self, now: Now) -> i64 {
        let (step_ms, hold_ms) =
            (self.settings.clock_step_max_ms, self.settings.clock_step_hold_ms);
        self.guard.as_mut().map_or(now.wall.0, |guard| guard.observe(now, step_ms, hold_ms))
    }

    /// Returns the time that has passed on the log's own clock.
    fn elapsed_ms(&self, now: Now) -> i64 {
        let clock = &self.state.clock;
        let own = self.stamps.filter(|_| clock.epoch() == self.leader_epoch);
        own.map_or_else(|| clock.elapsed_ms(), |stamps| clock.elapsed_at(stamps.at(now)))
    }

    /// Returns whether a hash is past the window.
    fn is_forgotten(&self, now: Now, sighting: &Sighting) -> bool {
        let window_ms = self.settings.dedup_window_ms;
        let age_ms = self.elapsed_ms(now).saturating_sub(sighting.stored_at_ms);
        // What came before this leader is as old as it, at the least.
        let led_ms = self.stamps.map_or(0, |stamps| stamps.elapsed_ms(now));
        let before = sighting.place < self.loaded_to && led_ms >= window_ms;
        sighting.held_by.is_none() && (age_ms >= window_ms || before)
    }
}
