//! The logs of one shard: its journal, the segments behind it, and how both are read back.
//!
//! [`LogStore`] is the only way in. Appends go to the journal, whose flush makes them
//! [`Stable`]; segments in Kafka's format are written behind; a checkpoint makes
//! journal space reusable. Nothing outside this module knows that there is a journal.

mod api;
mod appends;
pub mod block;
mod checkpoint;
mod checkpointing;
pub mod dump;
mod forming;
pub mod fuzz;
mod identity;
mod journal;
pub mod leader_epoch;
pub mod offset_index;
mod operations;
mod partition_log;
pub mod producer_snapshot;
pub mod producer_state;
mod read;
mod rebuild;
mod recovery;
mod replay;
mod retention;
mod scan;
mod segment;
mod snapshots;
mod space;
pub mod stable;
pub mod store;
#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "the disk of the tests takes file effects only")]
pub(crate) mod testing;
pub mod time_index;
pub mod transactions;
mod truncation;
pub mod txn_index;
pub mod verify;
mod views;
mod write_behind;

pub use api::{
    AppendError, FetchPlan, FileRange, FlushPolicy, FoundRecord, LogConfig, LogEvent, LogSettings,
    ReadError, ReadTicket, Sequence, Storage, TimeLookup,
};
pub use stable::Stable;
pub use store::LogStore;
