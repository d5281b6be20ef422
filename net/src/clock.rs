//! The two clocks of a node.

use mainspring_core::time::{Instant, Now, UnixMillis};

/// Reads both clocks of the machine. The monotonic one never falls between two readings.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Instant,
}

impl Clock {
    /// Reads the clocks.
    pub(crate) fn now(&mut self) -> Now {
        // The kernel promises that it does not fall; a replayed run rests on it, so it is held.
        self.last = self.last.max(monotonic());
        Now { mono: self.last, wall: UnixMillis(wall_millis()) }
    }
}

/// Time since the machine started, with the time that it was suspended: a session or a lock must
/// not last longer because a laptop slept.
#[cfg(not(madsim))]
fn monotonic() -> Instant {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Instant::from_nanos(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// madsim takes over the standard library's clocks, not the kernel's.
#[cfg(madsim)]
#[expect(clippy::disallowed_methods, reason = "the clocks are read here alone")]
fn monotonic() -> Instant {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map_or(0, |time| time.as_nanos());
    Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "the clocks are read here alone")]
fn wall_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_falls_and_the_wall_clock_is_of_this_century() {
        let mut clock = Clock::default();
        let mut last = clock.now();
        assert!(last.wall.0 > 1_700_000_000_000);
        for _ in 0..1000 {
            let now = clock.now();
            assert!(now.mono >= last.mono);
            last = now;
        }
    }

    #[test]
    fn a_clock_that_falls_stands_still() {
        let ahead = Instant::from_nanos(u64::MAX / 2);
        let mut clock = Clock { last: ahead };
        assert_eq!(clock.now().mono, ahead);
    }
}
