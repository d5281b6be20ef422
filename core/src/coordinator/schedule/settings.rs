//! What the schedule of a partition is told, under the names of the topic's settings.

use std::time::Duration;

use crate::record::features::Features;

/// Computes when a recurring entry comes next: from its expression, the name of its time zone, and the Unix
/// milliseconds after which; `None` where it never does.
pub type CronNext = fn(&str, &str, i64) -> Option<i64>;

/// Settings and limits of what one partition remembers for later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleSettings {
    /// Which features the topic has.
    pub features: Features,
    /// How long a hash is remembered, in milliseconds (`mainspring.dedup.window.ms`).
    pub dedup_window_ms: i64,
    /// Most hashes that are remembered at a time; records with further ones are refused with
    /// `POLICY_VIOLATION`, since a window that is shorter than it says would be a lie
    /// (`mainspring.dedup.max.entries`).
    pub dedup_max_entries: usize,
    /// Most entries that wait, half messages and those of open transactions included; more are refused with
    /// `POLICY_VIOLATION` (`mainspring.schedule.max.pending.records`).
    pub max_pending_records: usize,
    /// Most bytes of their records (`mainspring.schedule.max.pending.bytes`).
    pub max_pending_bytes: u64,
    /// Most bytes of the log where that is in memory: no more than half of it may wait
    /// (`mainspring.memory.max.bytes`).
    pub memory_max_bytes: Option<u64>,
    /// How far ahead a due time may be, in milliseconds, -1 for as far as the calendar goes; what is beyond is
    /// refused with `POLICY_VIOLATION` (`mainspring.schedule.max.horizon.ms`).
    pub horizon_max_ms: i64,
    /// Most entries that are delivered at once (`mainspring.schedule.fire.max.records`).
    pub fire_max_records: usize,
    /// Most bytes of them; one always goes.
    pub fire_max_bytes: usize,
    /// How long it is remembered how an entry ended, in milliseconds
    /// (`mainspring.schedule.decided.retention.ms`).
    pub decided_retention_ms: i64,
    /// Most ends that are remembered; the oldest are forgotten before their time where there are more.
    pub decided_max_records: usize,
    /// When the verdict on a half message is first asked for, in milliseconds after it was taken
    /// (`mainspring.half.check.after.ms`).
    pub check_after_ms: i64,
    /// How long after that it is asked for again, in milliseconds (`mainspring.half.check.interval.ms`).
    pub check_interval_ms: i64,
    /// How often it is asked for before the half message is parked (`mainspring.half.check.max`).
    pub check_max: u32,
    /// How long a parked half message is kept before it is rolled back, in milliseconds, -1 for ever
    /// (`mainspring.half.parked.retention.ms`).
    pub parked_retention_ms: i64,
    /// How far the wall clock may run ahead of the monotonic one before it is doubted, in milliseconds
    /// (`mainspring.clock.step.max.ms`).
    pub clock_step_max_ms: i64,
    /// How long a doubted clock must hold before it is believed, in milliseconds
    /// (`mainspring.clock.step.hold.ms`).
    pub clock_step_hold_ms: i64,
    /// How long before they are due records are read.
    pub prefetch: Duration,
    /// Most bytes of records that are held in memory for that; one is always held.
    pub prefetch_max_bytes: usize,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            features: Features::default(),
            dedup_window_ms: 300_000,
            dedup_max_entries: 1_000_000,
            max_pending_records: 1_000_000,
            max_pending_bytes: 10 << 30,
            memory_max_bytes: None,
            horizon_max_ms: -1,
            fire_max_records: 500,
            fire_max_bytes: 1 << 20,
            decided_retention_ms: 86_400_000,
            decided_max_records: 1_000_000,
            check_after_ms: 10_000,
            check_interval_ms: 30_000,
            check_max: 15,
            parked_retention_ms: -1,
            clock_step_max_ms: 60_000,
            clock_step_hold_ms: 10_000,
            prefetch: Duration::from_secs(2),
            prefetch_max_bytes: 64 << 20,
        }
    }
}
