//! What shards of one node tell each other.

/// One message from a shard to another of the same node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Post {}
