//! One file for each API: what its request asks of the shard, and how its answer is made.

mod alter_configs;
mod api_versions;
pub(in crate::broker) mod committed_offsets;
mod create_partitions;
mod create_topics;
pub(in crate::broker) mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_topic_partitions;
pub(in crate::broker) mod entries;
mod fetch;
pub(in crate::broker) mod find_coordinator;
pub(in crate::broker) mod groups;
mod incremental_alter_configs;
pub(in crate::broker) mod init_producer_id;
mod list_config_resources;
pub(in crate::broker) mod list_offsets;
mod metadata;
mod node_endpoints;
pub(in crate::broker) mod offset_for_leader_epoch;
mod only_decoded;
mod operations;
pub(in crate::broker) mod produce;
mod reassignments;
pub(in crate::broker) mod transactions;
