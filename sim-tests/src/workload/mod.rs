//! What clients do: they send, send again, read and purge, over byte streams and the wire codec.

pub mod line;
pub mod machine_producer;
pub mod producer;
pub mod purger;
pub mod reader;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mainspring_core::ids::{PartitionIndex, TopicPartition, Uuid};

/// What all clients of a run know of each other.
#[derive(Debug, Default)]
pub struct Shared {
    /// Ids of the topics, as the first answer to a Metadata request told them.
    pub topics: BTreeMap<String, Uuid>,
    /// How many producers have not finished.
    pub producers: usize,
}

/// A handle to what all clients know.
pub type SharedRef = Rc<RefCell<Shared>>;

/// What is worked on.
#[derive(Clone, Debug)]
pub struct Load {
    /// Names of the topics.
    pub topics: Vec<String>,
    /// Partitions of each.
    pub partitions: i32,
    /// Mean time between two sends of a client, in nanoseconds.
    pub pause: u64,
    /// Most records of a batch.
    pub records: u64,
    /// Mean size of a value in bytes.
    pub bytes: u64,
    /// Sends of a client, after which it only finishes.
    pub sends: u64,
}

/// Returns the partition as facts name it, once its topic's id is known.
pub fn place(shared: &SharedRef, topic: &str, partition: i32) -> Option<TopicPartition> {
    let topic_id = *shared.borrow().topics.get(topic)?;
    Some(TopicPartition { topic_id, partition: PartitionIndex(partition) })
}
