//! Notes that could not be read: they are tried again after a while, and what is due behind their entries does not
//! wait for them for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Schedule;
use crate::coordinator::timers::Timers;
use crate::ids::Offset;
use crate::time::{Instant, Now};

/// How often a note is tried before what is due behind its entries comes without them.
const TRIES: u32 = 3;
/// How long after a failure the next try comes.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The same once nobody waits for it.
const SOME_TIME_AFTER: Duration = Duration::from_secs(10);

/// Notes that could not be read.
#[derive(Clone, Default, Debug)]
pub(super) struct Unread {
    /// How often in a row.
    tries: BTreeMap<Offset, u32>,
    /// When each may be tried again.
    rests: Timers<Offset>,
}

impl Unread {
    /// Returns whether a note is not to be tried now.
    pub(super) fn rests(&self, now: Now, place: Offset) -> bool {
        self.rests.deadline(&place).is_some_and(|at| at > now.mono)
    }

    /// Returns the notes that nobody waits for and that are to be tried again.
    pub(super) fn to_try(&self, now: Now) -> impl Iterator<Item = Offset> {
        let over = self.rests.over(now.mono).copied();
        over.filter(|place| self.tries.get(place).is_some_and(|tries| *tries >= TRIES))
    }

    /// Takes in that a note was read, or is needed no more.
    pub(super) fn forget(&mut self, place: Offset) {
        if self.tries.remove(&place).is_some() {
            self.rests.cancel(&place);
        }
    }

    /// Returns whether a note could not be read and may be needed.
    #[cfg(test)]
    pub(super) fn knows(&self, place: Offset) -> bool {
        self.tries.contains_key(&place)
    }

    /// Returns when the next one may be tried again.
    pub(super) fn next(&self, now: Now) -> Option<Instant> {
        self.rests.next_after(now.mono)
    }
}

impl Schedule {
    /// Forgets the notes of which nothing is needed any more.
    pub(super) fn tidy_unread(&mut self, now: Now) {
        let over = self.unread.rests.over(now.mono).copied();
        let gone = over.filter(|place| self.state.placed_at(*place).next().is_none());
        for place in gone.collect::<Vec<_>>() {
            self.unread.forget(place);
        }
    }

    /// Takes in that a note that was [wanted](Self::wanted) could not be read. It is wanted again after a while.
    /// After a few times its records are late, and no others for their sake.
    pub fn not_read(&mut self, now: Now, place: Offset) {
        if self.state.placed_at(place).next().is_none() {
            return self.unread.forget(place);
        }
        let Unread { tries, rests } = &mut self.unread;
        let tries = tries.entry(place).or_insert(0);
        *tries = tries.saturating_add(1);
        let is_passed_by = *tries >= TRIES;
        let until = now.mono + if is_passed_by { SOME_TIME_AFTER } else { AGAIN_AFTER };
        rests.set(place, until);
        if is_passed_by {
            self.state.pass_by(place, until);
        }
    }
}
