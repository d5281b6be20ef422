//! A broker of the real network code on a simulated node, with a simulated disk.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use madsim::runtime::{Handle, NodeHandle};
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::config::NodeConfig;
use mainspring_core::ids::{IoToken, ShardId};
use mainspring_net::address::HostPort;
use mainspring_net::disk::{Complete, Disk, Operation};
use mainspring_net::node::{ListenerOptions, Node, NodeOptions};
use mainspring_sim::disk::{DiskOptions, SimDisk};
use mainspring_sim::rng::{Rng, Stream};

const ADDRESS: &str = "10.0.0.1";
const PORT: u16 = 9092;

/// A broker whose disk outlives its process.
pub(crate) struct Broker {
    node: NodeHandle,
    disk: SharedDisk,
}

impl Broker {
    /// Starts the broker on a node of its own.
    pub(crate) fn start(seed: u64) -> Self {
        let rng = Rng::new(seed, Stream::Disk(0));
        let disk = SharedDisk(Arc::new(Mutex::new(SimDisk::new(DiskOptions::default(), rng))));
        let of_node = disk.clone();
        let node = Handle::current()
            .create_node()
            .name("broker")
            .ip(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)))
            .init(move || run(of_node.clone()))
            .build();
        Self { node, disk }
    }

    /// Kills the process and, where asked, cuts the power; then starts it again.
    pub(crate) async fn crash(&self, power: bool) {
        let handle = Handle::current();
        handle.kill(self.node.id());
        // Tasks end at their next poll, which must not reach the disk of the next incarnation.
        madsim::time::sleep(Duration::from_millis(1)).await;
        {
            let mut disk = self.disk.lock();
            disk.crash();
            if power {
                disk.lose_power();
            }
        }
        handle.restart(self.node.id());
    }
}

/// What clients of the broker are told.
pub(crate) fn network() -> NetworkConfig {
    NetworkConfig::new(vec![(Arc::from(ADDRESS), PORT)])
}

async fn run(disk: SharedDisk) {
    let options = NodeOptions {
        node: NodeConfig::default(),
        listeners: vec![ListenerOptions {
            name: "PLAINTEXT".to_owned(),
            listen: HostPort { host: ADDRESS.to_owned(), port: PORT },
            advertise: None,
        }],
        data_dir: None,
    };
    let make = Box::new(move |complete| Ok(Arc::new(Driven { disk, complete }) as Arc<dyn Disk>));
    let node = Node::start_with(options, make).await.expect("the address is free");
    let end = node.ended().await;
    panic!("the broker has ended: {end:?}");
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
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = now.expect("it is this century").as_nanos() as u64;
        let effect = operation.into_effect(token);
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
