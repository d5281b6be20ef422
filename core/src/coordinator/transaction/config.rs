//! What transaction coordinators are told at their start, under the names of Kafka's broker settings.

use std::time::Duration;

use crate::ids::ProducerEpoch;

/// Settings and limits of transaction coordinators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionConfig {
    /// Longest timeout that a producer may ask for (`transaction.max.timeout.ms`).
    pub timeout_max: Duration,
    /// How long a transactional id is kept that no transaction is open of
    /// (`transactional.id.expiration.ms`).
    pub id_expiration: Duration,
    /// How often ids that are past it are looked for
    /// (`transaction.remove.expired.transaction.cleanup.interval.ms`).
    pub id_expiration_check_interval: Duration,
    /// How long the answer to `EndTxn` waits for the markers. With them the client can go on at once; Kafka
    /// answers before, and the client's next request is told to come again.
    pub end_wait: Duration,
    /// How long after a first failure a marker is sent again; doubled with each further one.
    pub retry_min: Duration,
    /// Longest time between two attempts.
    pub retry_max: Duration,
    /// Most partitions of one transaction; more are refused with `POLICY_VIOLATION`.
    // Differs from Kafka: there is a limit, because nothing may grow without a bound.
    pub partitions_max: usize,
    /// Most bytes that the names and numbers of the partitions of one transaction take in its record, which
    /// must still fit the log when the transaction ends; more are refused with `POLICY_VIOLATION`.
    // Differs from Kafka: there a transaction may grow so large that it cannot be ended.
    pub partition_bytes_max: usize,
    /// Most transactional ids of one coordinator; further ones are refused with `POLICY_VIOLATION`.
    // Differs from Kafka: there is a limit, because nothing may grow without a bound.
    pub ids_max: usize,
    /// How many dead records the coordinator's log must hold before the live ones are copied forward.
    pub dead_records_min: i64,
    /// The epoch with which the producer of a new transactional id begins: 0. A high one brings the end of the
    /// epochs near, for tests.
    pub first_epoch: ProducerEpoch,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            timeout_max: Duration::from_mins(15),
            id_expiration: Duration::from_hours(7 * 24),
            id_expiration_check_interval: Duration::from_hours(1),
            end_wait: Duration::from_millis(100),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(1),
            partitions_max: 10_000,
            partition_bytes_max: 512 << 10,
            ids_max: 200_000,
            dead_records_min: 20_000,
            first_epoch: ProducerEpoch(0),
        }
    }
}
