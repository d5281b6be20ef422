//! How nodes become a cluster: the machine that lets a node with an empty directory found one with the
//! others that it was told of, or join one that is there.
//!
//! The listed node with the lowest number founds the cluster once every listed node has said, over a link
//! that still stands, that it belongs to none and was told of the same nodes. It draws the cluster's id,
//! makes it durable together with the voters, and only then tells anybody. Whoever belongs to a cluster
//! tells whoever says that it belongs to none. A node that is told of a cluster belongs to it once that is
//! durable; what it votes for is decided by the directories that the cluster names.
//!
//! The machine sends and writes nothing: what is to be done comes out as [`Action`]s.
//!
//! Invariants:
//! 1. A node belongs to one cluster for as long as its directory lives.
//! 2. Nobody is told of a cluster, more than that there is one, before it is durable with the one who tells.
//! 3. No cluster is founded while any listed node says that it belongs to one.
//!
//! Source: `docs/cluster.md`, "Formation"; compare KIP-853, "Standalone and controller quorum bootstrap".

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::cluster::{Cluster, Nodes, Voter};
use crate::digest::Digest;
use crate::ids::{NodeId, Uuid};
use crate::quorum::ReplicaKey;

#[cfg(test)]
mod tests;

/// Most that is said to people: others choose the words of some of it.
const SAID_MAX: usize = 100;

/// What the machine is told at its birth.
#[derive(Clone, Debug)]
pub struct FormationConfig {
    /// This replica.
    pub me: ReplicaKey,
    /// The voters of the first formation and where other nodes reach them.
    pub listed: BTreeMap<NodeId, (Arc<str>, u16)>,
    /// The id of the cluster if this node founds it: drawn for this start, never zero.
    pub cluster_id: Uuid,
}

/// What another node says of itself over a link to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Who it is.
    pub replica: ReplicaKey,
    /// Its cluster, zero while it belongs to none.
    pub cluster_id: Uuid,
    /// The voters of the first formation as it was told of them.
    pub listed: Arc<[NodeId]>,
}

/// What is to be done. `C` names whoever waits for an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action<C> {
    /// Make this durable, then call [`Formation::persisted`].
    Persist(Arc<Cluster>),
    /// Tell a node of the cluster, or ask it for its own where there is none. What it answers goes to
    /// [`Formation::on_answer`].
    Tell {
        /// Whom.
        node: NodeId,
        /// The cluster of this node.
        cluster: Option<Arc<Cluster>>,
    },
    /// Answer who told of a cluster or asked for it.
    Answer {
        /// Who.
        caller: C,
        /// The cluster of this node, or why it does not take that of the caller.
        answer: Result<Option<Arc<Cluster>>, String>,
    },
    /// This node belongs to a cluster, durably.
    Formed(Arc<Cluster>),
    /// People should know.
    Warn(String),
}

/// How far it has come.
#[derive(Clone, Debug)]
enum State<C> {
    /// The node belongs to no cluster.
    Open,
    /// Its cluster is on its way to the disk; these are answered then.
    Writing { cluster: Arc<Cluster>, callers: Vec<C> },
    /// It belongs to a cluster.
    Formed(Arc<Cluster>),
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Formation<C> {
    config: FormationConfig,
    state: State<C>,
    heard: BTreeMap<NodeId, Hello>,
    said: BTreeSet<String>,
    actions: VecDeque<Action<C>>,
}

impl<C> Formation<C> {
    /// Makes the machine of a node whose directory names this cluster, or none.
    pub fn new(config: FormationConfig, formed: Option<Arc<Cluster>>) -> Self {
        Self {
            config,
            state: formed.map_or(State::Open, State::Formed),
            heard: BTreeMap::new(),
            said: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// Returns the cluster that the node belongs to, durably.
    pub const fn cluster(&self) -> Option<&Arc<Cluster>> {
        match &self.state {
            State::Formed(cluster) => Some(cluster),
            State::Open | State::Writing { .. } => None,
        }
    }

    /// Returns the cluster that the node says it belongs to, durable or not: whoever heard of none would
    /// found another.
    pub const fn said(&self) -> Option<&Arc<Cluster>> {
        match &self.state {
            State::Writing { cluster, .. } | State::Formed(cluster) => Some(cluster),
            State::Open => None,
        }
    }

    /// Takes the next thing to be done.
    pub fn poll_action(&mut self) -> Option<Action<C>> {
        self.actions.pop_front()
    }

    /// Takes in what a node says of itself over a link that was just made. `stands` tells whether the link
    /// to a node stands still.
    pub fn on_hello(&mut self, hello: Hello, stands: impl Fn(NodeId) -> bool) {
        let node = hello.replica.node;
        match &self.state {
            State::Formed(cluster) => {
                if hello.cluster_id.is_zero() {
                    let cluster = Some(Arc::clone(cluster));
                    self.actions.push_back(Action::Tell { node, cluster });
                }
            }
            State::Open if hello.cluster_id.is_zero() => {
                self.heard.insert(node, hello);
                self.found(stands);
            }
            State::Open => {
                self.heard.insert(node, hello);
                self.actions.push_back(Action::Tell { node, cluster: None });
            }
            State::Writing { .. } => {}
        }
    }

    /// Founds the cluster, if that is this node's to do and all listed nodes are ready for it.
    fn found(&mut self, stands: impl Fn(NodeId) -> bool) {
        let me = self.config.me;
        self.heard.retain(|&node, _| stands(node));
        let listed: Vec<NodeId> = self.config.listed.keys().copied().collect();
        let others = || listed.iter().filter(|&&node| node != me.node);
        let strange: Vec<String> = others()
            .filter_map(|node| self.heard.get(node))
            .filter(|hello| hello.cluster_id.is_zero() && *hello.listed != *listed)
            .map(|hello| {
                format!(
                    "node {} was started with the voters {}, this node with {}; no cluster is formed \
                     before all of them name the same",
                    hello.replica.node,
                    Nodes(&hello.listed),
                    Nodes(&listed)
                )
            })
            .collect();
        for why in strange {
            self.warn_once(why);
        }
        if listed.first() != Some(&me.node) {
            return;
        }
        let mut voters = Vec::new();
        for (&node, (host, port)) in &self.config.listed {
            let directory_id = if node == me.node {
                me.directory
            } else {
                match self.heard.get(&node) {
                    Some(hello) if hello.cluster_id.is_zero() && *hello.listed == *listed => {
                        hello.replica.directory
                    }
                    Some(_) | None => return,
                }
            };
            voters.push(Voter { node_id: node, directory_id, host: Arc::clone(host), port: *port });
        }
        self.take(Arc::new(Cluster { id: self.config.cluster_id, voters }), Vec::new());
    }

    /// Belongs to a cluster from now on, once that is durable.
    fn take(&mut self, cluster: Arc<Cluster>, callers: Vec<C>) {
        assert!(matches!(self.state, State::Open), "a node belongs to one cluster");
        self.actions.push_back(Action::Persist(Arc::clone(&cluster)));
        self.state = State::Writing { cluster, callers };
    }

    /// Takes in that a node tells of its cluster, or asks for this node's.
    pub fn on_form(&mut self, caller: C, told: Option<Arc<Cluster>>) {
        let answer = match (&mut self.state, told) {
            (State::Formed(cluster), told) => match told.filter(|told| told.id != cluster.id) {
                None => Ok(Some(Arc::clone(cluster))),
                Some(_) => Err(belongs(cluster)),
            },
            (State::Open, None) => Ok(None),
            (State::Writing { callers, .. }, None) => return callers.push(caller),
            (State::Open, Some(told)) if told.is_sound() => return self.take(told, vec![caller]),
            (State::Open, Some(_)) => Err("what it is told of a cluster makes no sense".to_owned()),
            (State::Writing { cluster, callers }, Some(told)) if told.id == cluster.id => {
                return callers.push(caller);
            }
            (State::Writing { cluster, .. }, Some(_)) => Err(belongs(cluster)),
        };
        self.actions.push_back(Action::Answer { caller, answer });
    }

    /// Takes in what a node answers to [`Action::Tell`]. Where it could not be asked, nothing is to be done:
    /// once the link stands again it says of itself what it is.
    pub fn on_answer(&mut self, node: NodeId, answer: Result<Option<Arc<Cluster>>, String>) {
        match answer {
            Ok(Some(cluster)) => {
                if matches!(self.state, State::Open) && cluster.is_sound() {
                    self.take(cluster, Vec::new());
                }
            }
            Ok(None) => {}
            Err(why) => {
                self.warn_once(format!("node {node} does not join this node's cluster: {why}"));
            }
        }
    }

    /// Takes in that the cluster is durable. Where nothing was asked for, there is nothing to take in.
    pub fn persisted(&mut self) {
        let State::Writing { cluster, callers } = &mut self.state else { return };
        let (cluster, callers) = (Arc::clone(cluster), std::mem::take(callers));
        self.state = State::Formed(Arc::clone(&cluster));
        self.heard.clear();
        for caller in callers {
            let answer = Ok(Some(Arc::clone(&cluster)));
            self.actions.push_back(Action::Answer { caller, answer });
        }
        self.actions.push_back(Action::Formed(cluster));
    }

    fn warn_once(&mut self, why: String) {
        if self.said.len() < SAID_MAX && self.said.insert(why.clone()) {
            self.actions.push_back(Action::Warn(why));
        }
    }

    /// Takes the machine's state into a digest.
    pub fn digest(&self, digest: &mut Digest)
    where
        C: std::fmt::Debug,
    {
        digest.shown(&self.state).shown(&self.heard).number(self.said.len() as u64);
    }
}

fn belongs(cluster: &Cluster) -> String {
    format!("it belongs to cluster {}", cluster.id)
}
