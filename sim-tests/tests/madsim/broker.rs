//! A broker of the real network code on a simulated node, with a simulated disk.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use madsim::runtime::{Handle, NodeHandle};
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::config::{Limits, NodeConfig, PeerConfig};
use mainspring_core::ids::{IoToken, NodeId, ShardId};
use mainspring_net::address::HostPort;
use mainspring_net::disk::{Complete, Disk, Operation};
use mainspring_net::node::{End, ListenerOptions, Node, NodeOptions, StartError};
use mainspring_net::simulated::serve_console;
use mainspring_sim::disk::{DiskOptions, SimDisk};
use mainspring_sim::rng::{Rng, Stream};

use crate::run::{note, note_effect, now, until};

pub(crate) const ADDRESS: &str = "10.0.0.1";
pub(crate) const PORT: u16 = 9092;
pub(crate) const CONSOLE_PORT: u16 = 9780;
/// Where brokers of one cluster listen for each other.
const PEER_PORT: u16 = 9093;

/// Longest time of a stop, by what the parts of it may take: answers that are owed, the logs, and
/// the last words of connections.
pub(crate) const STOP_MAX: Duration = Duration::from_millis(4000 + 4000 + 500 + 200);

/// How a broker is made.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) disk: DiskOptions,
    pub(crate) has_console: bool,
    /// Its place in a cluster, from 1 on, and how many nodes that has. Alone it has none.
    pub(crate) seat: Option<(u8, u8)>,
}

impl Setup {
    fn number(&self) -> u8 {
        self.seat.map_or(1, |(number, _)| number)
    }

    /// The name of its machine.
    fn name(&self) -> String {
        format!("broker {}", self.number())
    }

    fn address(&self) -> String {
        format!("10.0.0.{}", self.number())
    }
}

/// A broker whose disk outlives its process.
pub(crate) struct Broker {
    node: NodeHandle,
    shared: Arc<Shared>,
}

struct Shared {
    setup: Setup,
    disk: SharedDisk,
    life: Mutex<Life>,
}

/// What is known of the process that lives now.
#[derive(Default)]
struct Life {
    node: Option<Arc<Node>>,
    /// When it was asked to stop.
    asked_at: Option<u64>,
    end: Option<End>,
}

impl Shared {
    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().expect("nothing panics while it holds the state")
    }
}

impl Broker {
    /// Starts the broker on a node of its own.
    pub(crate) fn start(seed: u64, setup: Setup) -> Self {
        let number = setup.number();
        let rng = Rng::new(seed, Stream::Disk(u32::from(number) - 1));
        let disk = SharedDisk(Arc::new(Mutex::new(SimDisk::new(setup.disk.clone(), rng))));
        let name = setup.name();
        let shared = Arc::new(Shared { setup, disk, life: Mutex::default() });
        let of_node = Arc::clone(&shared);
        let node = Handle::current()
            .create_node()
            .name(name)
            .ip(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
            .init(move || run(Arc::clone(&of_node)))
            .build();
        Self { node, shared }
    }

    /// Returns the simulated machine.
    pub(crate) const fn machine(&self) -> &NodeHandle {
        &self.node
    }

    /// Returns the node, once it has been made.
    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.shared.life().node.clone()
    }

    /// Waits until clients are served.
    pub(crate) async fn ready(&self) {
        until("the broker is ready", || self.node().is_some_and(|node| node.is_ready())).await;
        note("ready");
    }

    /// Kills the process and, where asked, cuts the power; then starts it again.
    pub(crate) async fn crash(&self, power: bool) {
        self.kill(power).await;
        self.restart();
    }

    /// Kills the process and, where asked, cuts the power.
    pub(crate) async fn kill(&self, power: bool) {
        note(format_args!("kill, power {power}"));
        Handle::current().kill(self.node.id());
        // Tasks end at their next poll, which must not reach the disk of the next incarnation.
        madsim::time::sleep(Duration::from_millis(1)).await;
        let mut disk = self.shared.disk.lock();
        disk.crash();
        if power {
            disk.lose_power();
        }
    }

    /// Starts the process again after its end.
    pub(crate) fn restart(&self) {
        *self.shared.life() = Life::default();
        Handle::current().restart(self.node.id());
    }

    /// Asks the process to stop.
    pub(crate) fn stop(&self) {
        note("stop");
        let mut life = self.shared.life();
        life.asked_at = Some(now());
        life.node.as_ref().expect("it has started").stop();
    }

    /// Waits for the end of a stop. It comes within its bound, nothing of the process is left, and
    /// its answers were all written.
    pub(crate) async fn stopped(&self) {
        until("the broker has stopped", || self.shared.life().end.is_some()).await;
        let end = self.shared.life().end.clone();
        assert_eq!(end, Some(End::Stopped));
        note("stopped");
    }

    /// Waits until the process does nothing but listen: no connection has left a task behind.
    pub(crate) async fn at_rest(&self) {
        let idle = 3 + usize::from(self.shared.setup.has_console);
        let start = now();
        while tasks(&self.shared.setup) > idle {
            madsim::time::sleep(Duration::from_millis(10)).await;
            let waited = Duration::from_nanos(now() - start);
            let all = || Handle::current().metrics().num_tasks_by_node_by_spawn();
            assert!(waited < Duration::from_mins(2), "tasks are left behind: {}", all());
        }
    }
}

/// What clients of the broker are told.
pub(crate) fn network() -> NetworkConfig {
    network_of(1)
}

/// What clients of a cluster of so many nodes are told.
pub(crate) fn network_of(nodes: u8) -> NetworkConfig {
    let address = |number: u8| (Arc::from(format!("10.0.0.{number}")), PORT);
    NetworkConfig::new((1..=nodes).map(address).collect())
}

/// Makes a machine for a client.
pub(crate) fn client(number: u8) -> NodeHandle {
    Handle::current()
        .create_node()
        .name(format!("client {number}"))
        .ip(IpAddr::V4(Ipv4Addr::new(10, 0, 1, number)))
        .build()
}

/// Returns how many tasks a broker has.
fn tasks(setup: &Setup) -> usize {
    Handle::current().metrics().num_tasks_by_node().get(&setup.name()).copied().unwrap_or(0)
}

fn options(setup: &Setup) -> NodeOptions {
    let listener = |name: &str, port, peers| ListenerOptions {
        name: name.to_owned(),
        listen: HostPort { host: setup.address(), port },
        advertise: None,
        peers,
    };
    let mut listeners = vec![listener("PLAINTEXT", PORT, false)];
    let mut node = NodeConfig { limits: setup.limits.clone(), ..NodeConfig::default() };
    if let Some((number, nodes)) = setup.seat {
        listeners.push(listener("PEERS", PEER_PORT, true));
        let peer = |number: u8| PeerConfig {
            node_id: NodeId(i32::from(number)),
            host: format!("10.0.0.{number}").into(),
            port: PEER_PORT,
        };
        node.node_id = NodeId(i32::from(number));
        node.peers = (1..=nodes).map(peer).collect();
    }
    NodeOptions { node, listeners, data_dir: None }
}

async fn run(shared: Arc<Shared>) {
    let setup = &shared.setup;
    let disk = shared.disk.clone();
    let make = Box::new(move |complete| Ok(Arc::new(Driven { disk, complete }) as Arc<dyn Disk>));
    let node = Node::start_with(options(setup), make).await;
    let node = Arc::new(node.expect("the address is free"));
    if setup.has_console {
        let address = HostPort { host: ADDRESS.to_owned(), port: CONSOLE_PORT };
        serve_console(&address, Arc::clone(&node)).await.expect("the address is free");
    }
    shared.life().node = Some(Arc::clone(&node));
    let end = node.ended().await;
    let asked_at = shared.life().asked_at.expect("the broker has not ended by itself");
    let took = Duration::from_nanos(now() - asked_at);
    assert!(took <= STOP_MAX, "the stop took {took:?}");
    shared.life().node = None;
    drop(node);
    // Connections that were closed linger for a second.
    madsim::time::sleep(Duration::from_secs(2)).await;
    let most = 1 + usize::from(setup.has_console);
    let tasks = || tasks(setup);
    let all = || Handle::current().metrics().num_tasks_by_node_by_spawn();
    assert!(tasks() <= most, "tasks outlive the node: {}", all());
    shared.life().end = Some(end);
}

/// Starts a broker in memory at an address, in the process of the caller.
pub(crate) async fn start_in_memory(address: &str) -> Result<Node, StartError> {
    let mut options = options(&Setup::default());
    options.node.memory_only = true;
    address.clone_into(&mut options.listeners[0].listen.host);
    Node::start(options).await
}

#[derive(Clone)]
struct SharedDisk(Arc<Mutex<SimDisk>>);

impl SharedDisk {
    fn lock(&self) -> MutexGuard<'_, SimDisk> {
        self.0.lock().expect("nothing panics while it holds the disk")
    }
}

/// The simulated disk behind the door that the network code uses.
struct Driven {
    disk: SharedDisk,
    complete: Complete,
}

impl Disk for Driven {
    fn submit(&self, token: IoToken, operation: Operation) {
        // The disk counts from any zero; madsim's wall clock never steps.
        let at = now();
        let effect = operation.into_effect(token);
        note_effect(&effect);
        let submitted = self.disk.lock().submit(at, ShardId(0), effect);
        let (id, ends) = submitted.expect("a file operation is one for the disk");
        let (disk, complete) = (self.disk.clone(), Arc::clone(&self.complete));
        madsim::task::spawn(async move {
            madsim::time::sleep(Duration::from_nanos(ends - at)).await;
            let finished = disk.lock().finish(id);
            // A crash may have taken the operation.
            if let Some(finished) = finished {
                complete(finished.token, finished.result);
            }
        });
    }
}
