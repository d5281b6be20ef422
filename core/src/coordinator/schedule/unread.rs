//! Notes that could not be read: they are tried again after a while, and what is due behind their entries does not
//! wait for them for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Schedule;
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
    /// How often in a row, and when each is tried again.
    notes: BTreeMap<Offset, (u32, Instant)>,
}

impl Unread {
    /// Returns whether a note is not to be tried now.
    pub(super) fn rests(&self, now: Now, place: Offset) -> bool {
        self.notes.get(&place).is_some_and(|(_, at)| *at > now.mono)
    }

    /// Returns the notes that nobody waits for and that are to be tried again.
    pub(super) fn to_try(&self, now: Now) -> impl Iterator<Item = Offset> {
        let due =
            self.notes.iter().filter(move |(_, (tries, at))| *tries >= TRIES && *at <= now.mono);
        due.map(|(place, _)| *place)
    }

    /// Takes in that a note was read.
    pub(super) fn read(&mut self, place: Offset) {
        self.notes.remove(&place);
    }

    /// Returns when the next one may be tried again.
    pub(super) fn next(&self, now: Now) -> Option<Instant> {
        self.notes.values().map(|(_, at)| *at).filter(|at| *at > now.mono).min()
    }
}

impl Schedule {
    /// Takes in that a note that was [wanted](Self::wanted) could not be read. It is wanted again after a while.
    /// After a few times its records are late, and no others for their sake.
    pub fn not_read(&mut self, now: Now, place: Offset) {
        if self.state.placed_at(place).next().is_none() {
            return self.unread.read(place);
        }
        let (tries, at) = self.unread.notes.entry(place).or_insert((0, now.mono));
        *tries = tries.saturating_add(1);
        let is_passed_by = *tries >= TRIES;
        *at = now.mono + if is_passed_by { SOME_TIME_AFTER } else { AGAIN_AFTER };
        if is_passed_by {
            let until = *at;
            self.state.pass_by(place, until);
        }
    }
}
