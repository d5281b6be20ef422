//! The logs of one shard: its journal, the segments behind it, and how both are read back.
//!
//! [`LogStore`] is the only way in. Appends go to the journal, whose flush makes them
//! [`Stable`](stable::Stable); segments in Kafka's format are written behind; a checkpoint makes
//! journal space reusable. Nothing outside this module knows that there is a journal.

pub mod block;
pub mod dump;
pub mod leader_epoch;
pub mod offset_index;
pub mod producer_snapshot;
pub mod producer_state;
pub mod stable;
pub mod store;
pub mod time_index;
pub mod verify;

pub use stable::Stable;
pub use store::{
    AppendError, FetchPlan, FileRange, FlushPolicy, FoundRecord, LogConfig, LogEvent, LogSettings,
    LogStore, ReadError, ReadTicket, Sequence, Storage, TimeLookup,
};
