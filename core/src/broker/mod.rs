//! One shard of a node: owns its machines and routes inputs to them and events between them.
//!
//! A request is decided when its frame is whole, in the order of arrival on its connection. What it
//! asks of partitions goes to the shards that own them ([`post`]); what must wait, for the disk,
//! for data, for the controller, waits in one table until its answer is complete or its time is
//! up. With one shard the same functions run, without a post between.
//!
//! What a shard never does: it reads no clock, and it answers nothing that rests on what is not
//! stable.
//!
//! Invariants:
//! 1. Every request of a live connection is answered once, or its connection is closed, or it is a
//!    produce with acks=0.
//! 2. A request waits at one place only, with a deadline where it waits for anything but its own
//!    disk.
//! 3. Shards apply metadata in the order of its log, and only what is committed.

mod api;
mod appender;
mod applied;
mod connections;
mod early_refusals;
mod fetch_sessions;
mod formation;
mod forward;
mod gather;
mod groups;
mod internal;
mod loading;
mod membership;
mod owner;
mod peers;
mod pending;
pub mod post;
pub mod quorum;
mod receive_pool;
mod replication;
mod schedules;
mod shard;
mod start;
mod stop;
mod timers;
mod transactions;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use shard::Shard;
pub use timers::Timer;

pub use crate::config::ShardConfig;
