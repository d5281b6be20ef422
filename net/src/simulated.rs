//! What simulations need of this crate besides what programs use: its sockets under the
//! deterministic runtime, for peers that are not clients of ours, and its console.

use std::io;
use std::sync::Arc;

use mainspring_core::ids::{IoToken, ListenerIndex, ShardId};

use crate::address::HostPort;
use crate::console;
use crate::disk::{Disk, Operation};
pub use crate::lane::Machine;
use crate::lane::{self, Inbox, LaneParts, Phase, SharedLane};
use crate::listener::{self, Admission};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::rt;
pub use crate::rt::simulated::{TcpListener, TcpStream};
use crate::watched;

/// Serves a node's console at an address, on a task of the current simulated process.
pub async fn serve_console(address: &HostPort, node: Arc<Node>) -> io::Result<()> {
    let listener = console::listen(address).await?;
    rt::spawn(console::serve(listener, node));
    Ok(())
}

/// Drives a machine that stores nothing, with a listener at an address of the current simulated process,
/// until it says `Stopped`.
pub async fn drive(machine: Box<dyn Machine>, address: (&str, u16)) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let (phase, _phases) = watched::channel(Phase::Starting);
    let (keep, stopping) = watched::channel(false);
    let metrics = Arc::new(Metrics::default());
    let lane = SharedLane::new(LaneParts {
        shard: ShardId(0),
        machine,
        disk: Arc::new(NoDisk),
        inboxes: vec![Inbox::new()],
        metrics: Arc::clone(&metrics),
        phase,
        security: Arc::default(),
    });
    let admission = Arc::new(Admission::new(u64::MAX, metrics));
    rt::spawn(listener::serve(listener, ListenerIndex(0), lane.clone(), admission, None, stopping));
    lane::run(lane.clone()).await;
    lane.close_all(std::time::Duration::from_millis(500)).await;
    keep.change(|stop| !std::mem::replace(stop, true));
    Ok(())
}

struct NoDisk;

impl Disk for NoDisk {
    fn submit(&self, _: IoToken, operation: Operation) {
        unreachable!("the machine stores nothing, and asks for {operation:?}");
    }
}
