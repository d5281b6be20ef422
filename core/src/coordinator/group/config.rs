//! What group coordinators are told at their start, under the names of Kafka's broker settings.

use std::time::Duration;

/// Settings and limits of group coordinators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// Shortest session that a member may ask for (`group.min.session.timeout.ms`).
    pub session_timeout_min: Duration,
    /// Longest session that a member may ask for (`group.max.session.timeout.ms`).
    pub session_timeout_max: Duration,
    /// How long an empty group waits for more members once the first one has come; extended while
    /// new ones come, within their rebalance timeout (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay: Duration,
    /// How long the `JoinGroup` of a new member may wait before it is given up; a client that is
    /// still there asks again. Kafka's figure, no setting.
    pub new_member_join_timeout: Duration,
    /// Most members of one group (`group.max.size`).
    // Differs from Kafka: 10,000 and not 2^31 - 1, because nothing may grow without a bound.
    pub members_max: usize,
    /// Most bytes of the protocols that a member joins with; more is refused with
    /// `INVALID_REQUEST`. A larger one could never be stored with its group.
    // Differs from Kafka: there is a limit, because nothing may grow without a bound.
    pub member_bytes_max: usize,
    /// Most bytes that the members of all groups of one coordinator take: their ids, names, protocols
    /// and assignments, and 512 bytes for each. New members, and words and assignments that are
    /// longer than before, are refused with `POLICY_VIOLATION` beyond that.
    // Differs from Kafka: there is a limit, because nothing may grow without a bound.
    pub members_bytes_max: usize,
    /// Most bytes of the metadata string of a committed offset (`offset.metadata.max.bytes`).
    pub offset_metadata_bytes_max: usize,
    /// How long offsets are kept after their group has become empty, or after their commit where
    /// there is no group (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// How often offsets that are past their retention are looked for
    /// (`offsets.retention.check.interval.ms`).
    pub offsets_retention_check_interval: Duration,
    /// Most groups with members of one coordinator, and as many that only store offsets; further
    /// ones are refused with `POLICY_VIOLATION`.
    pub groups_max: usize,
    /// Most committed offsets of one coordinator, those that wait for their transaction among them; a
    /// commit of further partitions is refused with `POLICY_VIOLATION`.
    pub offsets_max: usize,
    /// How many dead records the coordinator's log must hold before the live ones are copied
    /// forward.
    pub dead_records_min: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_mins(30),
            initial_rebalance_delay: Duration::from_secs(3),
            new_member_join_timeout: Duration::from_mins(5),
            members_max: 10_000,
            member_bytes_max: 1 << 20,
            members_bytes_max: 256 << 20,
            offset_metadata_bytes_max: 4096,
            offsets_retention: Duration::from_hours(7 * 24),
            offsets_retention_check_interval: Duration::from_mins(10),
            groups_max: 50_000,
            offsets_max: 2_000_000,
            dead_records_min: 20_000,
        }
    }
}
