//! What a coordinator waits for by the clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Instant;

/// The timers that run, each with one deadline.
#[derive(Clone, Debug)]
pub(super) struct Timers<T> {
    deadlines: BTreeMap<T, Instant>,
    by_time: BTreeSet<(Instant, T)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { deadlines: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<T: Clone + Ord> Timers<T> {
    /// Starts a timer, in place of one that runs for the same.
    pub(super) fn set(&mut self, timer: T, at: Instant) {
        if let Some(before) = self.deadlines.insert(timer.clone(), at) {
            self.by_time.remove(&(before, timer.clone()));
        }
        self.by_time.insert((at, timer));
    }

    /// Stops a timer, if it runs.
    pub(super) fn cancel(&mut self, timer: &T) {
        if let Some(at) = self.deadlines.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    /// Returns whether one runs for this.
    pub(super) fn contains(&self, timer: &T) -> bool {
        self.deadlines.contains_key(timer)
    }

    /// Returns when one ends.
    pub(super) fn deadline(&self, timer: &T) -> Option<Instant> {
        self.deadlines.get(timer).copied()
    }

    /// Returns those whose deadline has come and that were not taken.
    pub(super) fn over(&self, now: Instant) -> impl Iterator<Item = &T> {
        self.by_time.iter().take_while(move |(at, _)| *at <= now).map(|(_, timer)| timer)
    }

    /// Returns the first deadline that has not come.
    pub(super) fn next_after(&self, now: Instant) -> Option<Instant> {
        let coming = self.by_time.iter().skip_while(|(at, _)| *at <= now);
        coming.map(|(at, _)| *at).next()
    }

    /// Returns those that run, in the order in which they end.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.by_time.iter().map(|(_, timer)| timer)
    }

    /// Returns how many run.
    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Returns the deadline of the next timer.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the next timer whose deadline has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
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
        timers.set("retention", Instant::from_nanos(5));
        timers.set("join", Instant::from_nanos(6));
        timers.set("sync", Instant::from_nanos(6));

        timers.set("retention", Instant::from_nanos(9));
        timers.cancel(&"sync");

        assert_eq!(timers.next_deadline(), Some(Instant::from_nanos(6)));
        assert_eq!(timers.pop(Instant::from_nanos(5)), None);
        assert_eq!(timers.pop(Instant::from_nanos(9)), Some("join"));
        assert_eq!(timers.pop(Instant::from_nanos(9)), Some("retention"));
        assert_eq!(timers.pop(Instant::from_nanos(9)), None);
    }
}
