//! What the cluster agrees on: topics, partitions and their leaders, settings, brokers, features,
//! producer-id blocks.
//!
//! Every change is decided against the image ([`decide`]), appended to the metadata log as Kafka's
//! own records, and taken in by the only mutator ([`apply`]). Recovery is a replay of the same
//! `apply`. This module reads and writes no log itself and answers nobody.
//!
//! Invariants:
//! 1. The image is a function of the records applied to it, in order.
//! 2. A topic id is never given to two topics; a partition's leader epoch never falls.
//! 3. Nothing a peer sends reaches a record unchecked.
//!
//! Sources: KIP-500, KIP-631, KIP-516; Kafka protocol guide.

pub mod apply;
pub mod broker_sessions;
pub mod controller;
pub mod decide;
pub mod decide_brokers;
pub mod decide_configs;
pub mod decide_partitions;
pub mod decide_replicas;
mod draft;
pub mod elections;
pub mod features;
pub mod image;
pub mod placement;
pub mod reassign;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod topic_config;

pub use controller::{Command, CommandAnswer, Controller};
pub use image::{BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage};
pub use snapshot::{Snapshot, SnapshotError, SnapshotReader};
