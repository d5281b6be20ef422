//! Time as a schedule counts it: a wall clock that is doubted when it leaps, and the age of what is
//! remembered, which no wall clock can change.

use std::time::Duration;

use crate::ids::LeaderEpoch;
use crate::time::{Instant, Now};

/// The wall clock by which entries come due. It follows the node's at once where that falls behind; where it
/// leaps ahead of the monotonic clock, only after it has stayed there.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// The last moment at which the wall clock was believed.
    believed: Now,
    /// Since when the wall clock has been ahead of what can be, and by how many milliseconds.
    doubt: Option<(Instant, i64)>,
}

/// What the guard makes of a moment.
struct Judgement {
    wall_ms: i64,
    is_believed: bool,
    doubt: Option<(Instant, i64)>,
}

impl Guard {
    /// Begins with a clock that is believed.
    pub(super) const fn new(now: Now) -> Self {
        Self { believed: now, doubt: None }
    }

    fn judge(&self, now: Now, step_max_ms: i64, hold_ms: i64) -> Judgement {
        let elapsed = millis(now.mono.since(self.believed.mono));
        let expected = self.believed.wall.0.saturating_add(elapsed);
        let ahead = now.wall.0.saturating_sub(expected);
        let believed = Judgement { wall_ms: now.wall.0, is_believed: true, doubt: None };
        if ahead <= step_max_ms {
            return believed;
        }
        // A clock that leaps on while it is doubted is another one.
        let same = |by: i64| ahead.saturating_sub(by).saturating_abs() <= step_max_ms;
        let doubt = self.doubt.filter(|&(_, by)| same(by)).unwrap_or((now.mono, ahead));
        if millis(now.mono.since(doubt.0)) >= hold_ms {
            return believed;
        }
        Judgement { wall_ms: expected, is_believed: false, doubt: Some(doubt) }
    }

    /// Returns the wall clock in Unix milliseconds as far as it is believed.
    pub(super) fn wall_ms(&self, now: Now, step_max_ms: i64, hold_ms: i64) -> i64 {
        self.judge(now, step_max_ms, hold_ms).wall_ms
    }

    /// Looks at the clocks, and returns the wall clock as far as it is believed.
    pub(super) fn observe(&mut self, now: Now, step_max_ms: i64, hold_ms: i64) -> i64 {
        let judgement = self.judge(now, step_max_ms, hold_ms);
        if judgement.is_believed {
            self.believed = now;
        }
        self.doubt = judgement.doubt;
        judgement.wall_ms
    }

    /// Returns when a doubt will be settled, if there is one.
    pub(super) fn settled_at(&self, hold_ms: i64) -> Option<Instant> {
        let (since, _) = self.doubt?;
        Some(since + Duration::from_millis(hold_ms.max(0) as u64))
    }
}

/// The clock that a leader stamps its notes with: the wall clock of its beginning, and the monotonic one from
/// there on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    began: Now,
}

impl Stamps {
    /// Begins to count.
    pub(super) const fn new(now: Now) -> Self {
        Self { began: now }
    }

    /// Returns the stamp of this moment, in Unix milliseconds.
    pub(super) const fn at(&self, now: Now) -> i64 {
        self.began.wall.plus(self.elapsed_ms(now)).0
    }

    /// Returns milliseconds since the beginning.
    pub(super) const fn elapsed_ms(&self, now: Now) -> i64 {
        millis(now.mono.since(self.began.mono))
    }
}

/// How much time has passed under the leaders of a log by their monotonic clocks, as far as the stamps of its
/// notes tell: what lies between two notes of one leader counts, what lies between leaders does not. So what is
/// remembered for a while is never forgotten early, whatever wall clocks did.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogClock {
    epoch: LeaderEpoch,
    stamp_ms: i64,
    elapsed_ms: i64,
}

impl Default for LogClock {
    fn default() -> Self {
        Self { epoch: LeaderEpoch::UNKNOWN, stamp_ms: 0, elapsed_ms: 0 }
    }
}

impl LogClock {
    /// Takes in the stamp of the next note.
    pub(super) fn take(&mut self, epoch: LeaderEpoch, stamp_ms: i64) {
        if epoch == self.epoch {
            self.elapsed_ms =
                self.elapsed_ms.saturating_add(stamp_ms.saturating_sub(self.stamp_ms).max(0));
            self.stamp_ms = self.stamp_ms.max(stamp_ms);
        } else {
            (self.epoch, self.stamp_ms) = (epoch, stamp_ms);
        }
    }

    /// Returns the time that has passed up to the last note, in milliseconds.
    pub(super) const fn elapsed_ms(&self) -> i64 {
        self.elapsed_ms
    }

    /// Returns who wrote the last note.
    pub(super) const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Returns the stamp of the last note, in Unix milliseconds.
    pub(super) const fn stamp_ms(&self) -> i64 {
        self.stamp_ms
    }

    /// Returns the time that has passed when the leader that wrote the last note stamps so.
    pub(super) fn elapsed_at(&self, stamp_ms: i64) -> i64 {
        self.elapsed_ms.saturating_add(stamp_ms.saturating_sub(self.stamp_ms).max(0))
    }
}

/// Returns whole milliseconds.
pub(super) const fn millis(duration: Duration) -> i64 {
    duration.as_millis() as i64
}
