//! One replica of a partition: what may be appended, what may be read, and who waits for either.
//!
//! With one replica the high watermark is the end of what is stable. What never happens here: an
//! answer to a producer, or a byte to a consumer, beyond it.
//!
//! Invariants:
//! 1. The high watermark never falls, and never passes the stable end of the log.
//! 2. A duplicate is answered only once its original is below the high watermark.
//! 3. Leader epochs never fall.
//!
//! Sources: KIP-74, KIP-98, KIP-101, KIP-279, KIP-320; Kafka's `ReplicaManager` and `Partition`.

pub mod delayed_fetch;
pub mod leader;

pub use leader::{Partition, Replicas, Waiter};
