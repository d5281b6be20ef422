//! Coordinators: machines that keep their state in an internal topic, one for each partition of it.
//!
//! A coordinator decides, appends records to its partition, and takes them in by the same code that
//! replays them after a restart; answers wait until what they rest on is committed.

pub mod group;
pub mod schedule;
mod timers;
pub mod transaction;
