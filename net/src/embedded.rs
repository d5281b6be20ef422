//! A node for programs that are not asynchronous: it runs on threads of its own, and every wait can be
//! given up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainspring_core::ids::Uuid;

use crate::node::{End, Node, NodeOptions, StartError};
use crate::rt;

/// How often a wait asks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(50);

/// Why there is no embedded node, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It has ended, in the words of the core: what, where and what to do.
    #[error("{0}")]
    Failed(String),
    /// The wait was given up.
    #[error("the wait was given up")]
    GivenUp,
    /// It took longer than it was given.
    #[error("the broker took longer than {0:?} to stop; nothing acknowledged is lost")]
    TimedOut(Duration),
}

/// A node in this process, which serves clients until it is stopped or dropped.
#[derive(Debug)]
pub struct Embedded {
    /// Until it has stopped; its directory is locked as long as it is here.
    node: Mutex<Option<Arc<Node>>>,
    addresses: Vec<SocketAddr>,
    cluster_id: Uuid,
}

impl Embedded {
    /// Starts a node and waits until it serves clients. `wanted` is asked every 50 ms, on this
    /// thread; the wait ends soon after it has said no, and the node with it.
    ///
    /// # Errors
    /// [`EmbeddedError::Start`] or [`EmbeddedError::Failed`] where the node cannot serve,
    /// [`EmbeddedError::GivenUp`].
    pub fn start(
        options: NodeOptions,
        mut wanted: impl FnMut() -> bool,
    ) -> Result<Self, EmbeddedError> {
        let started = rt::block_on(async {
            let node = Node::start(options).await?;
            let ready = async { node.ready().await };
            let cluster_id = while_wanted(ready, &mut wanted).await?.map_err(failed)?;
            let addresses = node.addresses().to_vec();
            Ok(Self { node: Mutex::new(Some(Arc::new(node))), addresses, cluster_id })
        });
        started.map_err(|source| StartError::System { what: "a runtime", source })?
    }

    /// Returns where the node listens, listener by listener.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the id of the cluster.
    pub const fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    /// Returns whether clients are served.
    pub fn is_ready(&self) -> bool {
        self.node().as_deref().is_some_and(Node::is_ready)
    }

    /// Stops the node: connections are answered and closed, everything acknowledged is made durable.
    /// Stopping it again does nothing.
    ///
    /// # Errors
    /// [`EmbeddedError::Failed`] where the node ended by itself, [`EmbeddedError::TimedOut`],
    /// [`EmbeddedError::GivenUp`].
    pub fn stop(
        &self,
        limit: Duration,
        mut wanted: impl FnMut() -> bool,
    ) -> Result<(), EmbeddedError> {
        let Some(node) = self.node() else { return Ok(()) };
        node.stop();
        let ended = rt::block_on(async {
            rt::select_biased! {
                ended = while_wanted(node.ended(), &mut wanted) => ended,
                () = rt::sleep(limit) => Err(EmbeddedError::TimedOut(limit)),
            }
        });
        let end = ended.map_err(|source| StartError::System { what: "a runtime", source })??;
        *self.slot() = None;
        match end {
            End::Stopped => Ok(()),
            End::Failed(message) => Err(EmbeddedError::Failed(message)),
        }
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Node>>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(end: End) -> EmbeddedError {
    match end {
        End::Stopped => EmbeddedError::Failed("the node was stopped while it started".to_owned()),
        End::Failed(message) => EmbeddedError::Failed(message),
    }
}

async fn while_wanted<T>(
    future: impl Future<Output = T>,
    wanted: &mut impl FnMut() -> bool,
) -> Result<T, EmbeddedError> {
    let mut future = std::pin::pin!(future);
    loop {
        rt::select_biased! {
            done = &mut future => return Ok(done),
            () = rt::sleep(SLICE) => if !wanted() {
                return Err(EmbeddedError::GivenUp);
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use mainspring_core::config::NodeConfig;

    use super::*;
    use crate::node::ListenerOptions;
    use crate::test_support::TempDir;

    fn options() -> NodeOptions {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let listener =
            ListenerOptions { name: "PLAINTEXT".into(), listen, advertise: None, peers: false };
        let node = NodeConfig { memory_only: true, ..NodeConfig::default() };
        NodeOptions { node, listeners: vec![listener], data_dir: None }
    }

    #[test]
    fn a_node_serves_until_it_is_stopped_and_may_be_stopped_twice() {
        let node = Embedded::start(options(), || true).expect("it starts");
        assert!(node.is_ready());
        let address = node.addresses()[0];
        let mut client = std::net::TcpStream::connect(address).expect("it serves");

        node.stop(Duration::from_secs(10), || true).expect("it stops");
        node.stop(Duration::from_secs(10), || true).expect("again");

        assert!(!node.is_ready());
        // The port itself says nothing: another program may have taken it by now.
        let left = client.read(&mut [0]);
        assert!(matches!(left, Ok(0) | Err(_)), "its connections are closed: {left:?}");
    }

    #[test]
    fn a_directory_is_free_again_when_its_node_has_stopped() {
        let folder = TempDir::new();
        let data_dir = Some(folder.path().to_owned());
        let on_disk =
            || NodeOptions { node: NodeConfig::default(), data_dir: data_dir.clone(), ..options() };
        let first = Embedded::start(on_disk(), || true).expect("it starts");
        first.stop(Duration::from_secs(10), || true).expect("it stops");

        let second = Embedded::start(on_disk(), || true).expect("the directory is free");

        assert_eq!(second.cluster_id(), first.cluster_id());
        second.stop(Duration::from_secs(10), || true).expect("it stops");
    }

    #[test]
    fn an_address_in_use_is_told() {
        let node = Embedded::start(options(), || true).expect("it starts");
        let mut second = options();
        second.listeners[0].listen = node.addresses()[0].to_string().parse().expect("an address");

        let error = Embedded::start(second, || true).expect_err("the port is taken");

        assert!(error.to_string().contains("cannot listen on 127.0.0.1"), "{error}");
    }
}
