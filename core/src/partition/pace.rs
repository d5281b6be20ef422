//! How much is done at one moment: the rest comes a moment later, so that nobody waits long for a shard.

use std::time::Duration;

use crate::time::{Instant, Now};

/// How long a moment is.
const MOMENT: Duration = Duration::from_millis(1);

/// Counts what is done in the moment that it is.
#[derive(Clone, Default, Debug)]
pub(super) struct Pace {
    /// When the next moment begins.
    next: Instant,
    done: usize,
    is_over: bool,
}

impl Pace {
    /// Returns whether one more of so many may be done, and counts it.
    pub(super) fn takes(&mut self, now: Now, most: usize) -> bool {
        if self.next <= now.mono {
            *self = Self { next: now.mono + MOMENT, done: 0, is_over: false };
        }
        self.is_over = self.done >= most;
        self.done += 1;
        !self.is_over
    }

    /// Takes in that there may be more to do, which no event tells of.
    pub(super) const fn pause(&mut self) {
        self.is_over = true;
    }

    /// Returns when to go on, if more was to be done than may.
    pub(super) fn resumes(&self, now: Now) -> Option<Instant> {
        (self.is_over && self.next > now.mono).then_some(self.next)
    }
}
