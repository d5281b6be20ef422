//! Retention by time and by size, and the clock that it may trust.
//!
//! Deletion cannot be undone, so a wall clock that jumped far ahead deletes nothing: retention counts
//! by the last accepted wall time plus the monotonic time since.
//!
//! - While running, forward steps add up; beyond one hour they are not accepted.
//! - At a start, a step ahead of the last block's time of less than 30 days is taken for downtime
//!   after ten minutes; a larger one is not accepted.
//! - Time that is not accepted lets nothing be deleted for 24 hours of running.
//! - Every journal block tells how much of that is left, and a start goes on with it. Where it finds
//!   the clock more than 30 days ahead once more, the 24 hours begin anew.

use std::time::Duration;

use crate::ids::{Offset, TopicPartition};
use crate::io::{Effect, Effects, Event, Mark};
use crate::log::api::LogEvent;
use crate::log::block::Entry;
use crate::log::journal::Need;
use crate::log::partition_log::PartitionLog;
use crate::log::store::LogStore;
use crate::record::batch::Batch;
use crate::time::{Instant, Now, UnixMillis};

/// Sum of forward steps of a running clock that is still believed, in milliseconds.
const STEP_MAX_MS: i64 = 3_600_000;
/// Largest step ahead at a start that is taken for downtime, in milliseconds.
const DOWNTIME_MAX_MS: i64 = 30 * 24 * 3_600_000;
/// How long a step at a start waits before it is taken for downtime.
const DOWNTIME_WAIT: Duration = Duration::from_mins(10);
/// How long nothing is deleted after a step that is not believed.
const DISTRUST: Duration = Duration::from_hours(24);
/// How often the journal is told of a hold by a block of its own, in minutes.
const TELL_EVERY_MINUTES: u16 = 60;

/// When retention looks, and which time it goes by.
#[derive(Clone, Debug, Default)]
pub(super) struct RetentionClock {
    next: Instant,
    every: Duration,
    /// The last accepted wall time, and the monotonic moment of it.
    accepted: UnixMillis,
    accepted_at: Instant,
    /// Forward steps since the start, in milliseconds.
    stepped_ms: i64,
    /// Until when nothing is deleted.
    hold_until: Instant,
    /// Whether the wall clock is ahead by more than is believed, until then.
    distrusts: bool,
    /// What the journal and people were last told of the hold, in minutes.
    told_minutes: u16,
}

impl RetentionClock {
    /// Begins with the wall time of the last journal block and what it tells of a hold, in minutes, if
    /// there is one.
    pub(super) fn begin(&mut self, now: Now, last: Option<(UnixMillis, u16)>, every_ms: i64) {
        self.every = Duration::from_millis(u64::try_from(every_ms).unwrap_or(1).max(1));
        self.next = now.mono + self.every;
        self.accepted = now.wall;
        self.accepted_at = now.mono;
        self.hold_until = now.mono;
        self.distrusts = false;
        self.stepped_ms = 0;
        self.told_minutes = 0;
        let Some((last, left)) = last else { return };
        let ahead = now.wall.0.saturating_sub(last.0);
        let left = Duration::from_mins(u64::from(left)).min(DISTRUST);
        if ahead > DOWNTIME_MAX_MS || !left.is_zero() {
            self.accepted = last;
            self.distrusts = true;
        }
        let wait = if ahead > DOWNTIME_MAX_MS {
            DISTRUST
        } else if ahead > STEP_MAX_MS {
            DOWNTIME_WAIT
        } else {
            Duration::ZERO
        };
        self.hold_until = now.mono + left.max(wait);
    }

    /// Returns for how many minutes nothing is deleted by age yet, the last of them counted whole.
    pub(super) fn hold_minutes(&self, now: Now) -> u16 {
        let left = self.hold_until.since(now.mono).min(DISTRUST);
        u16::try_from(left.as_secs().div_ceil(60)).unwrap_or(u16::MAX)
    }

    /// Returns what is left of a hold, in minutes, where that is news: it began, an hour of it has
    /// gone, or it has ended.
    fn news(&mut self, now: Now) -> Option<u16> {
        let (told, left) = (self.told_minutes, self.hold_minutes(now));
        let is_news = (told == 0) != (left == 0) || told.abs_diff(left) >= TELL_EVERY_MINUTES;
        is_news.then(|| {
            self.told_minutes = left;
            left
        })
    }

    /// Returns the wall time that is believed, taking in what the clock says.
    pub(super) fn accepted_wall(&mut self, now: Now) -> UnixMillis {
        let elapsed =
            i64::try_from(now.mono.since(self.accepted_at).as_millis()).unwrap_or(i64::MAX);
        let expected = self.accepted.plus(elapsed);
        let step = now.wall.0.saturating_sub(expected.0);
        if self.distrusts && self.hold_until > now.mono {
            // Whole milliseconds are counted on, so that frequent calls lose no time.
            self.accepted = expected;
            self.accepted_at = self.accepted_at + Duration::from_millis(elapsed.unsigned_abs());
            return expected;
        }
        self.accepted_at = now.mono;
        if self.distrusts {
            // It has stood for a day: it is taken for right.
            self.distrusts = false;
            self.stepped_ms = 0;
            self.accepted = now.wall;
            return now.wall;
        }
        if step > 1_000 {
            self.stepped_ms = self.stepped_ms.saturating_add(step);
            if self.stepped_ms > STEP_MAX_MS {
                self.stepped_ms = 0;
                self.hold_until = now.mono + DISTRUST;
                self.distrusts = true;
                self.accepted = expected;
                return expected;
            }
        }
        self.accepted = now.wall;
        self.accepted
    }

    fn may_delete(&self, now: Now) -> bool {
        self.hold_until <= now.mono
    }

    pub(super) fn is_due(&self, now: Now) -> bool {
        self.next <= now.mono
    }

    pub(super) const fn next(&self) -> Instant {
        self.next
    }
}

impl LogStore {
    /// Deletes what the settings of each log say may go.
    pub(super) fn enforce_retention(&mut self, now: Now, fx: &mut Effects) {
        self.retention.next = now.mono + self.retention.every;
        let wall = self.retention.accepted_wall(now);
        let by_time = self.retention.may_delete(now);
        self.tell_of_hold(now, fx);
        let mut moves = Vec::new();
        for log in self.logs.values_mut() {
            // Batches are stamped by the wall clock as it is; with it in doubt nobody's last one is old.
            if by_time {
                log.producers.expire(wall.0, self.config.producer_id_expiration_ms);
            }
            if !log.settings.delete {
                continue;
            }
            let (start, wish) = retained_from(log, wall, by_time);
            log.wish = wish;
            if wish.is_some() {
                self.events.push_back(LogEvent::RetentionWish(log.id));
            }
            if let Some(start) = start {
                moves.push((log.id, start));
            }
        }
        for (log, start) in moves {
            self.retire(now, log, start, fx);
        }
    }

    /// Tells people and the journal that the clock is in doubt, or is so no more. A block of its own
    /// carries it to the next start where nothing else is written.
    fn tell_of_hold(&mut self, now: Now, fx: &mut Effects) {
        let told = self.retention.told_minutes;
        let Some(left) = self.retention.news(now) else { return };
        if (told == 0) != (left == 0) {
            if left > 0 {
                fx.mark(Mark::RetentionHeld);
            }
            fx.push(Effect::Observe(Event::RetentionHeld(left > 0)));
            // A start after an hour or more without the node is no occasion for words.
            if self.retention.distrusts {
                fx.warn(format!(
                    "the wall clock is further ahead than is believed: nothing is deleted by age \
                     for {left} minutes of running; set the clock right before"
                ));
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.enqueue(Entry::Close, Need::Flushed);
            self.pump(now, fx);
        }
    }

    /// Returns the wall time that may be counted by to forget something, `None` while the clock is in
    /// doubt: deletion cannot be undone.
    pub fn retention_time(&mut self, now: Now) -> Option<UnixMillis> {
        let wall = self.retention.accepted_wall(now);
        self.retention.may_delete(now).then_some(wall)
    }

    fn retire(&mut self, now: Now, log: TopicPartition, start: Offset, fx: &mut Effects) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        if partition.is_memory() {
            while partition.tail.front().is_some_and(|batch| batch.next <= start) {
                partition.tail.pop_front();
            }
            partition.move_start(start);
            self.events.push_back(LogEvent::LogStartMoved { log, start });
            return;
        }
        if start == partition.end {
            fx.mark(Mark::SegmentRolled);
        }
        let journal = self.journal.as_mut().expect("a store with a disk has a journal");
        journal.enqueue(Entry::LogStart { log, start }, Need::Flushed);
        partition.coming_start = partition.coming_start.max(start);
        partition.dirty = true;
        self.pump(now, fx);
    }
}

impl LogStore {
    /// Lets retention take nothing of a log at or beyond `from`, `None` to let it take what it wants. What
    /// [moves the start](Self::move_log_start) is not held up.
    pub fn hold(&mut self, log: TopicPartition, from: Option<Offset>) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        let before = std::mem::replace(&mut partition.hold_from, from);
        if before != from && partition.is_memory() {
            self.shorten_memory(log);
        }
    }

    /// Takes in how many bytes would be written again so that all of a log could go that is
    /// [held](Self::hold). It is not wished to be smaller than twice that: of what would go, less would be gone
    /// than came anew.
    pub fn expect_copies(&mut self, log: TopicPartition, bytes: u64) {
        if let Some(partition) = self.logs.get_mut(&log) {
            partition.copied_bytes = bytes;
        }
    }

    /// Returns whether a log is [held](Self::hold) anywhere.
    pub fn is_held(&self, log: TopicPartition) -> bool {
        self.logs.get(&log).is_some_and(|log| log.hold_from.is_some())
    }

    /// Returns up to where retention would have taken a log that is [held](Self::hold) before, as it looked
    /// last; `None` where it took what it wanted.
    pub fn retention_wish(&self, log: TopicPartition) -> Option<Offset> {
        let log = self.logs.get(&log)?;
        log.wish.filter(|wish| *wish > log.start)
    }
}

impl PartitionLog {
    /// Takes in up to where a log in memory that is held should go, to be as small as it should.
    pub(super) fn wish_for_memory(&mut self) {
        if self.hold_from.is_none() {
            return;
        }
        let limit = self.settings.memory_max_bytes.max(self.smallest_size());
        let room = self.size().saturating_sub(limit);
        if room == 0 {
            self.wish = None;
            return;
        }
        let first = self.tail.front().map_or(0, |front| front.before);
        let excess = self.tail.partition_point(|batch| batch.before < first + room);
        let last = excess.checked_sub(1).and_then(|at| self.tail.get(at));
        self.wish = last.map(|last| last.next.min(self.stable));
    }

    /// Returns how small the log may be wished to be where something in it has to be written again for that.
    const fn smallest_size(&self) -> u64 {
        self.copied_bytes.saturating_mul(2)
    }

    /// Returns whether all records of a batch are past retention by age before they are appended.
    pub(super) fn is_past_retention(&self, wall: UnixMillis, batch: &Batch) -> bool {
        let (time, limit) = (batch.max_timestamp(), self.settings.retention_ms);
        self.settings.delete && limit >= 0 && time >= 0 && wall.0.saturating_sub(time) > limit
    }
}

/// Returns the offset below which a log may go, if that is above its start; and the one below which it
/// would, if a [hold](LogStore::hold) is in the way.
///
/// By time: segments whose age basis is expired, the active one among them once it holds anything.
/// By size: a segment goes only if what remains still reaches the limit; where it is held, only if that is no
/// less than [worth it](LogStore::expect_copies).
fn retained_from(
    log: &PartitionLog,
    wall: UnixMillis,
    by_time: bool,
) -> (Option<Offset>, Option<Offset>) {
    let (mut start, mut wish) = (log.start, None);
    let mut left = log.size();
    // Of the first segment of a memory log the oldest batches may have gone already.
    let rest: u64 = log.segments.iter().skip(1).map(|segment| segment.extent.bytes).sum();
    let first_bytes = left.saturating_sub(rest);
    for (at, segment) in log.segments.iter().enumerate() {
        let extent = segment.extent;
        let bytes = if at == 0 { first_bytes } else { extent.bytes };
        if extent.end > log.stable || segment.is_empty() {
            break;
        }
        let age = wall.0.saturating_sub(segment.retention_time().0);
        let expired = by_time && log.settings.retention_ms >= 0 && age > log.settings.retention_ms;
        let limit = u64::try_from(log.settings.retention_bytes).ok();
        let active = extent.end == log.end;
        let too_large = !active && limit.is_some_and(|limit| left.saturating_sub(bytes) >= limit);
        if !(expired || too_large) {
            break;
        }
        left = left.saturating_sub(bytes);
        if log.lets_go(extent.end) {
            start = extent.end;
        } else if expired || left >= log.smallest_size() {
            wish = Some(extent.end);
        } else {
            break;
        }
    }
    ((start > log.start).then_some(start), wish)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, wall_ms: i64) -> Now {
        Now { mono: Instant::from_nanos(seconds * 1_000_000_000), wall: UnixMillis(wall_ms) }
    }

    #[test]
    fn a_clock_that_jumps_ahead_lets_nothing_be_deleted_for_a_day() {
        let mut clock = RetentionClock::default();
        clock.begin(at(0, 1_000_000), None, 1_000);
        clock.accepted_wall(at(10, 1_010_000));
        assert!(clock.may_delete(at(10, 1_010_000)));
        clock.accepted_wall(at(20, 1_020_000 + 2 * STEP_MAX_MS));
        assert!(!clock.may_delete(at(20, 0)));
        let later = at(20 + 24 * 3600, 1_020_000 + 2 * STEP_MAX_MS + 24 * 3_600_000);
        assert_eq!(clock.accepted_wall(later), later.wall);
        assert!(clock.may_delete(later));
        let soon = at(30 + 24 * 3600, later.wall.0 + 10_000);
        assert_eq!(clock.accepted_wall(soon), soon.wall);
        assert!(clock.may_delete(soon));
    }

    #[test]
    fn small_steps_add_up() {
        let mut clock = RetentionClock::default();
        clock.begin(at(0, 0), None, 1_000);
        let mut wall = 0;
        for step in 1..=4 {
            wall += 1_000 + STEP_MAX_MS / 3;
            clock.accepted_wall(at(step, wall));
        }
        assert!(!clock.may_delete(at(4, wall)));
    }

    #[test]
    fn downtime_is_believed_after_ten_minutes_and_years_are_not() {
        let mut clock = RetentionClock::default();
        clock.begin(at(0, DOWNTIME_MAX_MS - 1), Some((UnixMillis(0), 0)), 1_000);
        assert!(!clock.may_delete(at(1, 0)));
        assert!(clock.may_delete(at(600, 0)));
        clock.begin(at(0, 10 * DOWNTIME_MAX_MS), Some((UnixMillis(0), 0)), 1_000);
        assert!(!clock.may_delete(at(600, 0)));
    }

    #[test]
    fn what_is_left_of_a_hold_is_waited_for_and_a_worse_step_waits_longer() {
        let mut clock = RetentionClock::default();
        let jumped = 2 * STEP_MAX_MS;
        for (wall, left, seconds) in [
            (0, 30, 1_800),
            (jumped, 30, 1_800),
            (jumped, 2, 600),
            (2 * DOWNTIME_MAX_MS, 2, 24 * 3_600),
            (0, u16::MAX, 24 * 3_600),
        ] {
            clock.begin(at(0, wall), Some((UnixMillis(0), left)), 1_000);
            assert_eq!(clock.hold_minutes(at(0, 0)), (seconds / 60) as u16);
            assert!(!clock.may_delete(at(seconds - 1, 0)), "{wall} {left}");
            assert!(clock.may_delete(at(seconds, 0)), "{wall} {left}");
        }
    }

    #[test]
    fn a_clock_in_doubt_loses_no_time_to_frequent_calls() {
        let mut clock = RetentionClock::default();
        clock.begin(at(0, 0), Some((UnixMillis(0), 60)), 1_000);
        for tenth in 1..=10_000 {
            let mono = Instant::from_nanos(tenth * 100_000);
            clock.accepted_wall(Now { mono, wall: UnixMillis(0) });
        }
        assert_eq!(clock.accepted, UnixMillis(1_000));
    }
}
