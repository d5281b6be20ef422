//! What clients do: they send, send again, read and purge, over byte streams and the wire codec.

pub mod absent;
pub mod alterer;
pub mod churner;
pub mod commands;
pub mod committed_reader;
pub mod delay_reader;
pub mod delayer;
pub mod held;
pub mod judge;
pub mod line;
pub mod links;
pub mod machine_consumer;
pub mod machine_producer;
pub mod member;
pub mod passing;
pub mod pipeline;
pub mod producer;
pub mod purger;
pub mod reader;
pub mod stranger;
pub mod transactional;
pub mod watcher;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use mainspring_core::ids::{PartitionIndex, TopicPartition, Uuid};

use crate::history::{OperationId, Waiting};

/// What all clients of a run know of each other.
#[derive(Debug, Default)]
pub struct Shared {
    /// Ids of the topics, as the first answer to a Metadata request told them.
    pub topics: BTreeMap<String, Uuid>,
    /// How many producers have not finished.
    pub producers: usize,
    /// How many of those who make records of others have not finished.
    pub pipelines: usize,
    /// When one of them last had something to do, in nanoseconds.
    pub pipeline_news: u64,
    /// How many of those who wait for everything to become stable have not seen that.
    pub unstable: usize,
    /// Whether there is a topic that comes and goes under transactions.
    pub is_passing_there: bool,
    /// What those know who make and delete topics.
    pub churned: churner::Names,
    /// What was sent to come later.
    pub delayed: Vec<SentLater>,
    /// What a verdict was asked for.
    pub questions: Vec<SentLater>,
    /// How many read what comes later, and what of each partition each of them has read.
    pub viewers: usize,
    /// The same by topic and partition, and by client.
    pub viewed: BTreeMap<(String, i32), BTreeMap<usize, i64>>,
    /// What the members of each group know of each other.
    pub groups: BTreeMap<u32, SharedGroup>,
}

/// What the members of a group know of each other, by their numbers as clients.
#[derive(Debug, Default)]
pub struct SharedGroup {
    /// Those that will be there at the end.
    pub members: BTreeSet<usize>,
    /// Those that last heard that all is well, with the generation.
    pub well: BTreeMap<usize, i32>,
    /// Since when all of them are well in one generation, in nanoseconds.
    pub since: Option<u64>,
    /// Whether one of them leaves for good at the end.
    pub parting: bool,
}

/// A record that was sent to come later.
#[derive(Clone, Debug)]
pub struct SentLater {
    /// The send.
    pub operation: OperationId,
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub index: i32,
    /// When it is due at the latest, in nanoseconds.
    pub latest: u64,
    /// What it waits for.
    pub waits: Waiting,
    /// Whether it has a name of its own, by which it can be cancelled.
    pub is_named: bool,
    /// Whether it was sent once more: its ticket may be that of either.
    pub again: bool,
    /// Its ticket, once that is told.
    pub ticket: Option<i64>,
}

impl Shared {
    /// Returns up to where everybody who reads what comes later has read a partition.
    pub fn viewed_by_all(&self, topic: &str, index: i32) -> i64 {
        let viewed = self.viewed.get(&(topic.to_owned(), index));
        let all = viewed.filter(|viewed| viewed.len() == self.viewers);
        all.and_then(|viewed| viewed.values().min()).copied().unwrap_or(0)
    }

    /// Notes that something may come as late as that.
    pub fn comes_later(&mut self, operation: OperationId, latest: u64) {
        let mut lately = self.delayed.iter_mut().rev();
        if let Some(sent) = lately.find(|sent| sent.operation == operation) {
            sent.latest = sent.latest.max(latest);
        }
    }

    /// Notes what a producer was told of what it sent.
    pub fn took(&mut self, operation: OperationId, ticket: i64) {
        let mut lately = self.delayed.iter_mut().rev();
        if let Some(sent) = lately.find(|sent| sent.operation == operation && !sent.again) {
            sent.ticket = Some(ticket);
        }
    }

    /// Returns whether nobody writes any more, and all that was written is stable.
    pub const fn is_written(&self) -> bool {
        self.producers + self.pipelines + self.unstable == 0
    }
}

impl SharedGroup {
    /// Notes how a member is, and since when all are well.
    pub fn note(&mut self, at: u64, client: usize, generation: Option<i32>) {
        let before = match generation {
            Some(generation) => self.well.insert(client, generation),
            None => self.well.remove(&client),
        };
        let mut generations = self.members.iter().map(|member| self.well.get(member));
        let first = generations.next().flatten();
        let same = first.is_some() && generations.all(|other| other == first);
        if !same {
            self.since = None;
        } else if before != generation || self.since.is_none() {
            self.since = Some(at);
        }
    }

    /// Takes out a member that left for good.
    pub fn part(&mut self, client: usize) {
        self.members.remove(&client);
        self.well.remove(&client);
        self.since = None;
    }
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
    /// Mean time between two operations of a client, in nanoseconds.
    pub pause: u64,
    /// Most records of a batch.
    pub records: u64,
    /// Mean size of a value in bytes.
    pub bytes: u64,
    /// Operations that a client begins (sends, fetches, purges, turns of work), after which it only
    /// finishes what it must.
    pub operations: u64,
    /// How many nodes are one cluster; 1 for a node alone.
    pub cluster: usize,
    /// Whether it gives up in the end what a node refuses again and again, because the node may have lost
    /// it for good.
    pub gives_up: bool,
    /// The rack that a client of a cluster is in.
    pub rack: Option<String>,
}

/// How often a client that gives up tries before it does.
pub(crate) const PATIENCE: u32 = 40;

/// The longest timeout of a transaction, in nanoseconds.
pub const TRANSACTION_TIMEOUT_MAX: u64 = 10_000_000_000;

/// Returns where client machines ask first: every node of a cluster, or the node that a client has.
pub(crate) fn bootstrap(cluster: usize) -> Vec<(Arc<str>, u16)> {
    (1..=cluster).map(|node| (Arc::from(format!("node-{node}")), CLIENT_PORT)).collect()
}

/// The port at which nodes of a cluster listen for clients.
pub(crate) const CLIENT_PORT: u16 = 9092;
/// The port at which they listen for each other.
pub(crate) const PEER_PORT: u16 = 9093;

/// Returns the partition as facts name it, once its topic's id is known.
pub fn place(shared: &SharedRef, topic: &str, partition: i32) -> Option<TopicPartition> {
    let topic_id = *shared.borrow().topics.get(topic)?;
    Some(TopicPartition { topic_id, partition: PartitionIndex(partition) })
}
