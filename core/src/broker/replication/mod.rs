//! Replication of partitions, as a shard does it: who leads and who follows here, and what leaders and
//! followers tell each other.
//!
//! `roles` gives each partition of the shard its role; `fetch` is the follower's side; `serve` the leader's;
//! `in_sync` asks the controller for other in-sync sets.

mod fetch;
mod in_sync;
mod near;
mod roles;
mod serve;

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{NodeId, TopicPartition};
use crate::time::Instant;

pub(in crate::broker) use fetch::Fetched;
use fetch::Leader;
use near::SentAway;

/// What a shard remembers of its replicas beside their own state.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Replication {
    /// The nodes that partitions of this shard follow.
    leaders: BTreeMap<NodeId, Leader>,
    /// Partitions of which something became stable that their leader has not been told.
    news: BTreeSet<TopicPartition>,
    /// Partitions led here whose in-sync set may have to change.
    in_sync_due: BTreeSet<TopicPartition>,
    /// Those of which it is not known what the controller made of a request.
    ask_again: BTreeSet<TopicPartition>,
    /// Partitions of which it was said that what their leader sends is not taken.
    complained: BTreeSet<TopicPartition>,
    /// Clients that were sent to the replica near by.
    pub(in crate::broker) sent_away: SentAway,
    /// When fetches are tried again, and in-sync sets looked at.
    armed: Option<Instant>,
    look_at: Option<Instant>,
    ask_again_at: Option<Instant>,
}
