//! One shard of a node: owns its machines and routes inputs to them and events between them.

pub mod post;
