//! The place of one node in an embedded broker: what it is told at each start, and the node while it is there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainspring_core::config::PeerConfig;
use mainspring_core::ids::{NodeId, Uuid};

use super::ports::Reserved;
use super::{EmbeddedError, EmbeddedOptions, NODES_MAX, NodeState};
use crate::address::HostPort;
use crate::node::{End, ListenerOptions, Node, NodeOptions, StartError};
use crate::rt::Semaphore;

/// How long the last nodes of a cluster that stops may try to hand over what they lead: there is nobody left.
const HAND_OVER: Duration = Duration::from_millis(500);
/// Where the nodes of a cluster listen for each other.
const LOOPBACK: &str = "127.0.0.1";
/// What the folder of a node begins with, within the directory of its cluster.
const FOLDER: &str = "node-";
/// The file that every directory of a node has.
const IDENTITY: &str = "meta.properties";

/// The place of one node.
#[derive(Debug)]
pub(super) struct Seat {
    options: NodeOptions,
    address: SocketAddr,
    slot: Mutex<Slot>,
    /// One at a time starts the node or ends it.
    turn: Semaphore,
    /// The ports of its listeners, held for as long as the broker is there.
    _ports: Vec<Reserved>,
}

#[derive(Debug)]
enum Slot {
    Down(NodeState),
    Up { node: Arc<Node>, is_held: bool },
}

/// Makes the places of all nodes, with their ports; nothing is started and no directory made.
pub(super) fn seats(options: EmbeddedOptions) -> Result<Vec<Seat>, EmbeddedError> {
    let EmbeddedOptions { node, nodes, listen, data_dir } = options;
    let refuse = |why: String| Err(EmbeddedError::Refused(why));
    if !(1..=NODES_MAX).contains(&nodes) {
        return refuse(format!("a broker has 1 to {NODES_MAX} nodes, and {nodes} were asked for"));
    }
    let first = node.node_id.0;
    let ids: Vec<NodeId> = (0..nodes as i32)
        .filter_map(|nth| first.checked_add(nth))
        .filter(|id| *id >= 0)
        .map(NodeId)
        .collect();
    if ids.len() < nodes as usize {
        return refuse(format!("node ids are 0 to {}, and {first} was asked for", i32::MAX));
    }
    if i64::from(listen.port) + nodes - 1 > i64::from(u16::MAX) {
        let port = listen.port;
        return refuse(format!("{nodes} nodes from port {port} on end beyond {}", u16::MAX));
    }
    let folders = match data_dir {
        None if nodes == 1 => vec![None],
        None => return refuse(format!("{nodes} nodes need a directory for what they vote for")),
        Some(directory) => folders(directory, &ids)?,
    };
    // Before those that may be any.
    let clients = (0..).take(ids.len()).map(|nth| {
        let port = if listen.port == 0 { 0 } else { listen.port + nth };
        Reserved::new(&HostPort { host: listen.host.clone(), port })
    });
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let peers = peers(&ids)?;
    let peer_configs: Vec<PeerConfig> = peers.iter().map(|(config, _)| config.clone()).collect();
    let mut seats = Vec::new();
    let mut peers = peers.into_iter();
    for ((node_id, data_dir), reserved) in ids.into_iter().zip(folders).zip(clients) {
        let address = reserved.address();
        let mut listeners = vec![ListenerOptions {
            name: "PLAINTEXT".to_owned(),
            listen: HostPort { host: listen.host.clone(), port: address.port() },
            advertise: None,
            peers: false,
        }];
        let mut ports = vec![reserved];
        let mut node = node.clone();
        node.node_id = node_id;
        node.memory_only = data_dir.is_none();
        node.peers.clone_from(&peer_configs);
        if let Some((peer, reserved)) = peers.next() {
            node.limits.stop_wait = HAND_OVER;
            listeners.push(ListenerOptions {
                name: "PEERS".to_owned(),
                listen: HostPort { host: peer.host.to_string(), port: peer.port },
                advertise: None,
                peers: true,
            });
            ports.push(reserved);
        }
        seats.push(Seat {
            options: NodeOptions { node, listeners, data_dir, secrets: Vec::new() },
            address,
            slot: Mutex::new(Slot::Down(NodeState::Stopped)),
            turn: Semaphore::new(1),
            _ports: ports,
        });
    }
    Ok(seats)
}

/// Chooses where the nodes of a cluster reach each other; a node alone has no peers.
fn peers(ids: &[NodeId]) -> Result<Vec<(PeerConfig, Reserved)>, StartError> {
    if ids.len() == 1 {
        return Ok(Vec::new());
    }
    let place = HostPort { host: LOOPBACK.to_owned(), port: 0 };
    let peer = |&node_id: &NodeId| {
        let reserved = Reserved::new(&place)?;
        let port = reserved.address().port();
        Ok((PeerConfig { node_id, host: LOOPBACK.into(), port }, reserved))
    };
    ids.iter().map(peer).collect()
}

/// Returns the directory of each node; refuses one that holds nodes which are none of these, since without them
/// it would look as if records were gone.
fn folders(directory: PathBuf, ids: &[NodeId]) -> Result<Vec<Option<PathBuf>>, EmbeddedError> {
    let there = cluster_in(&directory);
    let path = directory.display();
    let wanted: BTreeSet<i32> = ids.iter().map(|id| id.0).collect();
    let is_alone = ids.len() == 1;
    if let Some(first) = there.first()
        && (is_alone || !there.is_subset(&wanted))
    {
        let nodes: Vec<String> = there.iter().map(ToString::to_string).collect();
        return Err(EmbeddedError::Refused(format!(
            "the data directory {path} holds a cluster with the nodes {}; ask for nodes={} and node_id={first}, \
             or choose another directory",
            nodes.join(", "),
            there.len()
        )));
    }
    if is_alone {
        return Ok(vec![Some(directory)]);
    }
    if directory.join(IDENTITY).exists() {
        return Err(EmbeddedError::Refused(format!(
            "the data directory {path} holds a broker of one node; ask for nodes=1, or choose another directory"
        )));
    }
    Ok(ids.iter().map(|id| Some(directory.join(format!("{FOLDER}{id}")))).collect())
}

/// Returns the nodes that have a folder in the directory of a cluster.
fn cluster_in(directory: &Path) -> BTreeSet<i32> {
    // One that is missing or cannot be read is told of by whoever opens it.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().join(IDENTITY).exists())
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(FOLDER)?.parse().ok())
        .collect()
}

impl Seat {
    pub(super) const fn id(&self) -> NodeId {
        self.options.node.node_id
    }

    /// Returns where clients reach the node.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn state(&self) -> NodeState {
        match &*self.slot() {
            Slot::Down(state) => state.clone(),
            Slot::Up { node, is_held } => match node.end() {
                Some(End::Failed(message)) => NodeState::Failed(message),
                Some(End::Stopped) => NodeState::Stopped,
                None if *is_held => NodeState::Paused,
                None if node.is_ready() => NodeState::Running,
                None => NodeState::Starting,
            },
        }
    }

    /// Whether there is a node, which may be held or still starting.
    pub(super) fn is_alive(&self) -> bool {
        match self.state() {
            NodeState::Starting | NodeState::Running | NodeState::Paused => true,
            NodeState::Killed | NodeState::Failed(_) | NodeState::Stopped => false,
        }
    }

    /// Starts the node, unless it lives; it is not ready then.
    pub(super) async fn start(&self) -> Result<(), StartError> {
        let _turn = self.turn.acquire().await;
        if self.is_alive() {
            return Ok(());
        }
        // One that has failed goes first, with its lock.
        *self.slot() = Slot::Down(NodeState::Stopped);
        let node = Arc::new(Node::start(self.options.clone()).await?);
        *self.slot() = Slot::Up { node, is_held: false };
        Ok(())
    }

    /// Waits until the node serves; fails with the reason why it will not.
    pub(super) async fn ready(&self) -> Result<Uuid, String> {
        let Some(node) = self.node() else { return Err(GONE.to_owned()) };
        match node.ready().await {
            Ok(cluster_id) => Ok(cluster_id),
            Err(End::Failed(message)) if self.node().is_some() => Err(message),
            Err(End::Failed(_) | End::Stopped) => Err(GONE.to_owned()),
        }
    }

    /// Ends the node at once.
    pub(super) async fn kill(&self) {
        let _turn = self.turn.acquire().await;
        let Some(node) = self.node() else { return };
        *self.slot() = Slot::Down(NodeState::Killed);
        node.kill().await;
    }

    /// Holds the node, and returns when it stands.
    pub(super) fn pause(&self) {
        if let Slot::Up { node, is_held } = &mut *self.slot() {
            *is_held = true;
            node.pause();
        }
    }

    /// Lets the node go on.
    pub(super) fn resume(&self) {
        if let Slot::Up { node, is_held } = &mut *self.slot() {
            *is_held = false;
            node.resume();
        }
    }

    /// Asks the node to stop.
    pub(super) fn stop(&self) {
        self.resume();
        if let Some(node) = self.node() {
            node.stop();
        }
    }

    /// Waits until the node has ended, and forgets it; `None` where there is none.
    pub(super) async fn ended(&self) -> Option<End> {
        let end = self.node()?.ended().await;
        *self.slot() = Slot::Down(NodeState::Stopped);
        Some(end)
    }

    fn node(&self) -> Option<Arc<Node>> {
        match &*self.slot() {
            Slot::Up { node, .. } => Some(Arc::clone(node)),
            Slot::Down(_) => None,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const GONE: &str = "it was killed or stopped while it started";
