//! One replica of a partition: what may be appended, what may be read, and who waits for either.
//!
//! A node holds a partition in one of two roles: [`Partition`] leads, [`Follower`] follows. The high
//! watermark is the smallest stable end of the [in-sync replicas](in_sync); with one replica, its own. What
//! never happens here: an answer to a producer with acks=all, or a byte to a consumer, beyond it.
//!
//! Invariants:
//! 1. The high watermark never falls, and never passes the stable end of the log.
//! 2. A duplicate is answered only once its original is below the high watermark.
//! 3. Leader epochs never fall.
//!
//! Sources: KIP-74, KIP-98, KIP-101, KIP-279, KIP-320, KIP-497, KIP-966; Kafka's `ReplicaManager` and `Partition`.

pub mod client_view;
mod copying;
pub mod delayed_fetch;
pub mod follower;
mod follower_reads;
pub mod in_sync;
pub mod leader;
pub mod listing;
pub mod loading;
mod pace;
pub mod scheduled;
pub mod transactions;
pub mod viewed;

pub use client_view::ClientView;
pub use follower::Follower;
pub use in_sync::{FollowerId, InSync, Verdict};
pub use leader::{Partition, Waiter};
pub use transactions::VerificationGuard;
