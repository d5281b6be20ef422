//! The story of a run: what happened, in the words of whoever it happened to.
//!
//! A world that is asked for its story writes down a [`Moment`] for each fact, fault, start, end and flush. It
//! changes nothing of the run. Names of topics and what a send held are looked up when the story is told.

mod evidence;
mod losses;
mod page;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::{TopicPartition, Uuid};
use mainspring_core::io::Mark;
use mainspring_core::observe::ClusterEvent;

pub use evidence::evidence;
pub(crate) use losses::Contents;
pub use page::page;
pub use words::plan_words;

use crate::history::{Fact, OperationId};
use crate::world::Fault;

/// Where something happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Everywhere.
    World,
    /// A node.
    Node(usize),
    /// A shard of a node.
    Shard(usize, u16),
    /// The disk of a node.
    Disk(usize),
    /// A consumer group.
    Group(u32),
    /// A client.
    Client(usize),
}

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A fault struck or ended.
    Fault,
    /// A process started, served or ended.
    Life,
    /// A client did or was told something.
    Client,
    /// A disk kept, lost or refused something.
    Disk,
    /// What is told in the full story alone.
    Detail,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// Something that the checkers were told.
    Fact(Fact),
    /// A fault struck.
    Fault(Fault),
    /// A fault ended.
    Lifted(String),
    /// The last fault is over, and the clients are told to finish.
    Healed,
    /// The process of a node starts.
    Start {
        /// The node.
        node: usize,
        /// How many lives it had before.
        life: u64,
    },
    /// The process of a node ends.
    End {
        /// The node.
        node: usize,
        /// Whether power is lost too.
        power: bool,
        /// Whether a fault did it.
        counted: bool,
        /// What was under way to the disk.
        in_flight: Vec<String>,
        /// What of the files is not there any more.
        lost: Vec<String>,
    },
    /// A client has a connection.
    Connected {
        /// The client.
        client: usize,
        /// The shard on which it landed.
        shard: u16,
    },
    /// A client has lost a connection.
    Disconnected {
        /// The client.
        client: usize,
    },
    /// A shard has a connection to another node.
    Linked {
        /// The node.
        node: usize,
        /// The shard.
        shard: u16,
        /// The other node.
        to: usize,
    },
    /// A shard has lost a connection to another node, or could not make it.
    Unlinked {
        /// The node.
        node: usize,
        /// The shard.
        shard: u16,
        /// The other node.
        to: usize,
    },
    /// A disk operation failed.
    Failed {
        /// The node.
        node: usize,
        /// The error.
        error: String,
        /// There is no such file, as a start finds it where nothing was yet.
        missing: bool,
    },
    /// A shard reached a rare state.
    Mark {
        /// The node.
        node: usize,
        /// The shard.
        shard: u16,
        /// The state.
        mark: Mark,
    },
    /// Whatever a scenario has to say.
    Note(Lane, String),
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Moment {
    /// At which event.
    pub step: u64,
    /// At which true time, in nanoseconds.
    pub at: u64,
    /// What.
    pub what: What,
}

/// All that happened, in its order.
#[derive(Clone, Default, Debug)]
pub struct Story {
    /// What happened.
    pub moments: Vec<Moment>,
    /// Names of topics.
    pub topics: BTreeMap<Uuid, String>,
    sent: BTreeMap<OperationId, (TopicPartition, Vec<u64>)>,
    asked: BTreeMap<OperationId, TopicPartition>,
}

impl Story {
    /// Writes down what happened.
    pub fn note(&mut self, step: u64, at: u64, what: What) {
        match &what {
            // What has a bound is looked at often and seldom worth a word.
            What::Fact(Fact::Size { size, bound, .. }) if size <= bound => return,
            What::Fact(Fact::Invoked { operation, partition, records }) => {
                self.sent.insert(*operation, (*partition, records.clone()));
            }
            What::Fact(
                Fact::AskedLatest { operation, partition }
                | Fact::CommitAsked { operation, partition, .. }
                | Fact::AskedCommitted { operation, partition, .. },
            ) => {
                self.asked.insert(*operation, *partition);
            }
            _ => {}
        }
        self.moments.push(Moment { step, at, what });
    }

    /// Returns the name of a partition.
    pub fn name(&self, partition: TopicPartition) -> String {
        let index = partition.partition.0;
        match self.topics.get(&partition.topic_id) {
            Some(name) => format!("{name}-{index}"),
            None if partition == TopicPartition::CLUSTER_METADATA => {
                format!("__cluster_metadata-{index}")
            }
            None => partition.to_string(),
        }
    }

    /// Returns the names of all partitions that were sent to or asked for.
    pub fn partitions(&self) -> Vec<String> {
        let sent = self.sent.values().map(|(partition, _)| partition);
        let all: BTreeSet<&TopicPartition> = sent.chain(self.asked.values()).collect();
        all.into_iter().map(|partition| self.name(*partition)).collect()
    }

    /// Returns a text in which partitions have their names.
    pub fn with_names(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (id, name) in &self.topics {
            text = text.replace(&id.to_string(), name);
        }
        let metadata = TopicPartition::CLUSTER_METADATA;
        text = text.replace(&metadata.to_string(), &self.name(metadata));
        text
    }
}

impl Moment {
    /// Returns where it happened.
    pub fn lane(&self) -> Lane {
        match &self.what {
            What::Fact(fact) => lane_of(fact),
            What::Fault(fault) => Lane::Node(words::node_of(fault)),
            What::Start { node, .. } | What::End { node, .. } => Lane::Node(*node),
            What::Lifted(_) | What::Healed => Lane::World,
            What::Connected { client, .. } | What::Disconnected { client } => Lane::Client(*client),
            What::Failed { node, .. } => Lane::Disk(*node),
            What::Linked { node, shard, .. }
            | What::Unlinked { node, shard, .. }
            | What::Mark { node, shard, .. } => Lane::Shard(*node, *shard),
            What::Note(lane, _) => *lane,
        }
    }

    /// Returns what kind of thing it is.
    pub fn class(&self) -> Class {
        match &self.what {
            What::Fault(_) | What::Lifted(_) | What::Healed => Class::Fault,
            What::Fact(fact) => class_of(fact),
            What::Connected { .. }
            | What::Linked { .. }
            | What::Unlinked { .. }
            | What::Mark { .. }
            | What::Failed { missing: true, .. } => Class::Detail,
            What::Disconnected { .. } => Class::Client,
            What::Failed { .. } | What::Note(Lane::Disk(_), _) => Class::Disk,
            What::Start { .. } | What::End { .. } | What::Note(..) => Class::Life,
        }
    }
}

fn lane_of(fact: &Fact) -> Lane {
    match fact {
        Fact::Invoked { operation, .. }
        | Fact::Acked { operation, .. }
        | Fact::Refused { operation, .. }
        | Fact::Fenced { operation }
        | Fact::Judged { operation, .. }
        | Fact::AskedLatest { operation, .. }
        | Fact::Latest { operation, .. }
        | Fact::CommitAsked { operation, .. }
        | Fact::CommitAnswered { operation, .. }
        | Fact::AskedCommitted { operation, .. }
        | Fact::ToldCommitted { operation, .. } => Lane::Client(operation.client),
        Fact::Read { client, .. } | Fact::GroupAtRest { client, .. } => Lane::Client(*client),
        Fact::Assigned { group, .. }
        | Fact::Processed { group, .. }
        | Fact::GroupHealed { group, .. } => Lane::Group(*group),
        Fact::Stored { node, .. } | Fact::Image { node, .. } | Fact::Unreadable { node, .. } => {
            Lane::Disk(*node)
        }
        Fact::Bounds { node, .. }
        | Fact::HighWatermark { node, .. }
        | Fact::Reported { node, .. }
        | Fact::Voted { node, .. }
        | Fact::Crashed { node, .. }
        | Fact::StoodStill { node }
        | Fact::WentOn { node }
        | Fact::Ready { node }
        | Fact::Fatal { node, .. }
        | Fact::Panicked { node, .. } => Lane::Node(*node),
        Fact::Recovered { .. } => Lane::Disk(0),
        _ => Lane::World,
    }
}

fn class_of(fact: &Fact) -> Class {
    match fact {
        Fact::Stored { durable: true, .. } | Fact::Unreadable { .. } | Fact::Recovered { .. } => {
            Class::Disk
        }
        Fact::Bounds { .. }
        | Fact::Ready { .. }
        | Fact::StoodStill { .. }
        | Fact::WentOn { .. }
        | Fact::Fatal { .. }
        | Fact::Panicked { .. }
        | Fact::Stuck { .. }
        | Fact::Core { .. }
        | Fact::Reported {
            event:
                ClusterEvent::Led { .. }
                | ClusterEvent::Resigned { .. }
                | ClusterEvent::SnapshotInstalled { .. }
                | ClusterEvent::Truncated { .. },
            ..
        } => Class::Life,
        Fact::Stored { .. }
        | Fact::Image { .. }
        | Fact::Reported { .. }
        | Fact::Voted { .. }
        | Fact::HighWatermark { .. }
        | Fact::Processed { .. }
        // The end of the process says it.
        | Fact::Crashed { .. } => Class::Detail,
        Fact::Read { records, .. } if records.is_empty() => Class::Detail,
        _ => Class::Client,
    }
}

#[cfg(test)]
mod tests;
