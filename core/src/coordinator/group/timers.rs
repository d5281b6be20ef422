//! What a coordinator waits for by the clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Instant;
use crate::wire::KafkaString;

/// Why a coordinator wants to be woken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// A member, or an id that was handed out, has not been heard of for its session.
    Session(KafkaString, KafkaString),
    /// Members had time enough to join again.
    Join(KafkaString),
    /// Members had time enough to fetch their assignment.
    Sync(KafkaString),
    /// Offsets of topics that were deleted are to be taken away.
    DeletedTopics,
    /// Offsets that are past their retention are to be looked for.
    Retention,
}

/// The timers that run, each with one deadline.
#[derive(Clone, Default, Debug)]
pub(super) struct Timers {
    deadlines: BTreeMap<Timer, Instant>,
    by_time: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Starts a timer, in place of one that runs for the same.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.deadlines.insert(timer.clone(), at) {
            self.by_time.remove(&(before, timer.clone()));
        }
        self.by_time.insert((at, timer));
    }

    /// Stops a timer, if it runs.
    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.deadlines.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    /// Returns the deadline of the next timer.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the next timer whose deadline has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_set_again_fires_once_and_at_its_last_deadline() {
        let mut timers = Timers::default();
        timers.set(Timer::Retention, Instant::from_nanos(5));
        timers.set(Timer::Join("g".into()), Instant::from_nanos(6));
        timers.set(Timer::Sync("g".into()), Instant::from_nanos(6));

        timers.set(Timer::Retention, Instant::from_nanos(9));
        timers.cancel(&Timer::Sync("g".into()));

        assert_eq!(timers.next_deadline(), Some(Instant::from_nanos(6)));
        assert_eq!(timers.pop(Instant::from_nanos(5)), None);
        assert_eq!(timers.pop(Instant::from_nanos(9)), Some(Timer::Join("g".into())));
        assert_eq!(timers.pop(Instant::from_nanos(9)), Some(Timer::Retention));
        assert_eq!(timers.pop(Instant::from_nanos(9)), None);
    }
}
