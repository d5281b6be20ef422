//! The clocks of one node. True time belongs to the world and the checkers alone.

use std::time::Duration;

use mainspring_core::time::{Instant, Now, UnixMillis};

/// True time 0 as wall time: 2023-11-14T22:13:20Z.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

const MILLION: i128 = 1_000_000;

/// A wall clock that drifts and jumps, and a monotonic clock that drifts.
#[derive(Clone, Debug)]
pub struct Clock {
    /// True time at which `mono` was last fixed.
    since: u64,
    /// What the monotonic clock showed then.
    mono: u64,
    /// How much faster than true time both clocks run, in millionths.
    drift_ppm: i64,
    /// How far the wall clock is ahead of true time as the monotonic clock counts it.
    wall_ahead_ms: i64,
}

impl Clock {
    /// Makes a clock that starts at true time `at` with an arbitrary zero.
    pub fn new(at: u64, zero: u64, drift_ppm: i64, wall_ahead_ms: i64) -> Self {
        let zero_ms = (zero / 1_000_000) as i64;
        let wall_ahead_ms = wall_ahead_ms + (at / 1_000_000) as i64 - zero_ms;
        Self { since: at, mono: zero, drift_ppm, wall_ahead_ms }
    }

    /// Returns what both clocks show at true time `at`.
    pub fn at(&self, at: u64) -> Now {
        let mono = self.mono_at(at);
        Now {
            mono: Instant::from_nanos(mono),
            wall: UnixMillis(EPOCH_MS + self.wall_ahead_ms + (mono / 1_000_000) as i64),
        }
    }

    fn mono_at(&self, at: u64) -> u64 {
        let passed = i128::from(at.saturating_sub(self.since));
        self.mono + (passed * (MILLION + i128::from(self.drift_ppm)) / MILLION) as u64
    }

    /// Returns the first true time at which the monotonic clock shows `mono` or more.
    pub fn true_time_of(&self, mono: Instant) -> u64 {
        let ahead = i128::from(mono.as_nanos().saturating_sub(self.mono));
        let rate = MILLION + i128::from(self.drift_ppm);
        let passed = (ahead * MILLION + rate - 1) / rate;
        self.since.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Moves the wall clock.
    pub fn jump(&mut self, millis: i64) {
        self.wall_ahead_ms += millis;
    }

    /// Changes how fast both clocks run from `at` on.
    pub fn set_drift(&mut self, at: u64, drift_ppm: i64) {
        self.mono = self.mono_at(at);
        self.since = at;
        self.drift_ppm = drift_ppm;
    }

    /// Both clocks stood still from one true time to another.
    pub fn stand_still(&mut self, from: u64, to: u64) {
        self.mono = self.mono_at(from);
        self.since = to;
    }

    /// Lets the monotonic clock leap, as after the suspension of a machine.
    pub fn leap(&mut self, by: Duration) {
        self.mono += by.as_nanos() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_jump_leaves_the_monotonic_clock_alone() {
        let mut clock = Clock::new(0, 0, 0, 0);
        let before = clock.at(5_000_000_000);
        clock.jump(-3_600_000);
        let after = clock.at(5_000_000_000);
        assert_eq!(before.mono, after.mono);
        assert_eq!(after.wall.0, before.wall.0 - 3_600_000);
    }

    #[test]
    fn a_deadline_is_reached_at_its_true_time_and_not_before() {
        for drift in [-100_000, -1, 0, 7, 100_000] {
            let mut clock = Clock::new(10, 1_000, drift, 0);
            clock.set_drift(77, drift);
            let deadline = Instant::from_nanos(123_456_789);
            let at = clock.true_time_of(deadline);
            assert!(clock.at(at).mono >= deadline, "{drift}");
            assert!(clock.at(at - 1).mono < deadline, "{drift}");
        }
    }

    #[test]
    fn clocks_that_stood_still_go_on_from_where_they_stood() {
        let mut clock = Clock::new(0, 500, 100_000, 7);
        let before = clock.at(2_000_000_000);
        clock.stand_still(2_000_000_000, 9_000_000_000);
        assert_eq!(clock.at(9_000_000_000), before);
        let after = clock.at(10_000_000_000);
        assert_eq!(after.mono.since(before.mono), Duration::from_millis(1_100));
        assert_eq!(after.wall.0 - before.wall.0, 1_100);
    }

    #[test]
    fn a_change_of_drift_never_turns_the_monotonic_clock_back() {
        let mut clock = Clock::new(0, 0, 50_000, 0);
        let before = clock.at(1_000_000).mono;
        clock.set_drift(1_000_000, -50_000);
        assert!(clock.at(1_000_000).mono >= before);
    }
}
