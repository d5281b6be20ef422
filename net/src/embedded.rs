//! A broker for programs that are not asynchronous: one node, or the nodes of a cluster, on threads of their
//! own in this process. Every wait can be given up.
//!
//! Each node may be killed, held still and started again by itself. Its ports stay its own meanwhile.

mod formed;
mod ports;
mod seat;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainspring_core::config::NodeConfig;
use mainspring_core::ids::{NodeId, Uuid};

use self::seat::Seat;
use crate::address::HostPort;
use crate::node::{End, StartError};
use crate::rt;

/// Most nodes of a cluster in one process: as many as `serve` takes voters.
const NODES_MAX: i64 = 9;
/// How often a wait asks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(50);
/// How long the nodes of a cluster may take to serve.
const FORMED_WITHIN: Duration = Duration::from_mins(1);

/// What a broker in this process is made of.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// What every node is told. Its number is the first node's, those of the others follow; where they listen,
    /// who their peers are and whether they live in memory is filled in.
    pub node: NodeConfig,
    /// How many nodes, 1 to 9.
    pub nodes: i64,
    /// Where clients reach the first node; port 0 asks for free ports, otherwise those of the other nodes follow.
    pub listen: HostPort,
    /// Where the data is: of one node itself, of several in a folder `node-N` for each. Only a node alone can do
    /// without, and lives in memory then: one that forgot what it has voted for could make its cluster lose
    /// records.
    pub data_dir: Option<PathBuf>,
}

/// Why there is no embedded broker, or none any more, or why it does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It, or the node that is named, cannot serve or has ended by itself: what, where and what to do.
    #[error("{0}")]
    Failed(String),
    /// What was asked for cannot be: why, and what can.
    #[error("{0}")]
    Refused(String),
    /// The broker was stopped before.
    #[error("this broker was stopped; make a new one")]
    Stopped,
    /// The wait was given up.
    #[error("the wait was given up")]
    GivenUp,
    /// It took longer than it was given to stop.
    #[error("the broker took longer than {0:?} to stop; nothing acknowledged is lost")]
    StopTimedOut(Duration),
    /// A node took longer than it was given to serve, and goes on with it.
    #[error(
        "node {node} does not serve after {limit:?}, and goes on trying; more than half of the nodes must run: \
         see which do"
    )]
    ServeTimedOut {
        /// The node.
        node: NodeId,
        /// What it was given.
        limit: Duration,
    },
}

/// What a node of an embedded broker does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// It recovers, or waits for others.
    Starting,
    /// It serves clients.
    Running,
    /// It is held still.
    Paused,
    /// It was killed.
    Killed,
    /// It has ended by itself, for this reason.
    Failed(String),
    /// It was stopped.
    Stopped,
}

/// A broker in this process, which serves clients until it is stopped or dropped.
#[derive(Debug)]
pub struct Embedded {
    seats: Vec<Seat>,
    cluster_id: Uuid,
    stopped: AtomicBool,
}

impl Embedded {
    /// Starts the nodes and waits until they serve clients and all know each other. `wanted` is asked every
    /// 50 ms, on this thread; the wait ends soon after it has said no, and the nodes with it.
    ///
    /// # Errors
    /// [`EmbeddedError::Refused`] where there cannot be such a broker, [`EmbeddedError::Start`] or
    /// [`EmbeddedError::Failed`] where a node cannot serve, [`EmbeddedError::ServeTimedOut`] after a minute where
    /// there are several, [`EmbeddedError::GivenUp`].
    pub fn start(
        options: EmbeddedOptions,
        mut wanted: impl FnMut() -> bool,
    ) -> Result<Self, EmbeddedError> {
        let seats = seat::seats(options)?;
        let limit = if seats.len() > 1 { FORMED_WITHIN } else { Duration::MAX };
        let mut broker = Self { seats, cluster_id: Uuid::ZERO, stopped: AtomicBool::new(false) };
        let all: Vec<&Seat> = broker.seats.iter().collect();
        match broker.begin(&all, limit, &mut wanted) {
            Ok(cluster_id) => broker.cluster_id = cluster_id,
            Err(error) => {
                // Who tries again finds ports and directories free; why it failed counts for more than this.
                let _ = broker.kill(&[]);
                return Err(error);
            }
        }
        Ok(broker)
    }

    /// Returns where clients reach the nodes, whether they run or not, in the order of their numbers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.seats.iter().map(Seat::address).collect()
    }

    /// Returns the id of the cluster.
    pub const fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    /// Returns whether clients are served, by one node at least.
    pub fn is_ready(&self) -> bool {
        self.seats.iter().any(|seat| seat.state() == NodeState::Running)
    }

    /// Returns what each node does, in the order of their numbers.
    pub fn nodes(&self) -> Vec<(NodeId, SocketAddr, NodeState)> {
        self.seats.iter().map(|seat| (seat.id(), seat.address(), seat.state())).collect()
    }

    /// Kills nodes, or all that live where none is named: each [at once](crate::node::Node::kill).
    ///
    /// # Errors
    /// [`EmbeddedError::Refused`] where one is not there or does not live; then nothing is done.
    pub fn kill(&self, nodes: &[NodeId]) -> Result<(), EmbeddedError> {
        for seat in self.named(nodes, "kill", Seat::is_alive)? {
            rt::block_on(seat.kill()).map_err(system)?;
        }
        Ok(())
    }

    /// Starts nodes that were killed or have failed, or all of these where none is named, and waits until they
    /// serve and are known to the others.
    ///
    /// # Errors
    /// [`EmbeddedError::Refused`] where one is not there or lives; then nothing is done. Otherwise as
    /// [`Embedded::start`], after `limit`.
    pub fn restart(
        &self,
        nodes: &[NodeId],
        limit: Duration,
        mut wanted: impl FnMut() -> bool,
    ) -> Result<(), EmbeddedError> {
        let seats = self.named(nodes, "restart", |seat| !seat.is_alive())?;
        self.begin(&seats, limit, &mut wanted).map(drop)
    }

    /// Holds nodes still, or all that run where none is named, and returns when they [stand](crate::node::Node::pause).
    ///
    /// # Errors
    /// [`EmbeddedError::Refused`] where one is not there, does not live or is held; then nothing is done.
    pub fn pause(&self, nodes: &[NodeId]) -> Result<(), EmbeddedError> {
        let runs = |seat: &Seat| seat.is_alive() && seat.state() != NodeState::Paused;
        self.named(nodes, "pause", runs)?.into_iter().for_each(Seat::pause);
        Ok(())
    }

    /// Lets nodes go on that are held, or all of these where none is named.
    ///
    /// # Errors
    /// [`EmbeddedError::Refused`] where one is not there or not held; then nothing is done.
    pub fn resume(&self, nodes: &[NodeId]) -> Result<(), EmbeddedError> {
        let is_held = |seat: &Seat| seat.state() == NodeState::Paused;
        self.named(nodes, "resume", is_held)?.into_iter().for_each(Seat::resume);
        Ok(())
    }

    /// Stops all nodes, those that are held too: connections are answered and closed, everything acknowledged is
    /// made durable. Stopping it again does nothing.
    ///
    /// # Errors
    /// [`EmbeddedError::Failed`] where a node has ended by itself, [`EmbeddedError::StopTimedOut`],
    /// [`EmbeddedError::GivenUp`].
    pub fn stop(
        &self,
        limit: Duration,
        mut wanted: impl FnMut() -> bool,
    ) -> Result<(), EmbeddedError> {
        self.stopped.store(true, Ordering::SeqCst);
        for seat in &self.seats {
            seat.stop();
        }
        let stopping = async {
            let mut failed = None;
            for seat in &self.seats {
                if let Some(End::Failed(message)) = seat.ended().await {
                    failed.get_or_insert_with(|| self.of(seat, &message));
                }
            }
            failed.map_or(Ok(()), Err)
        };
        let ended = rt::block_on(async {
            rt::select_biased! {
                ended = while_wanted(stopping, &mut wanted) => ended?,
                () = rt::sleep(limit) => Err(EmbeddedError::StopTimedOut(limit)),
            }
        });
        ended.map_err(system)?
    }

    /// Returns the named nodes, or all that are fit where none is named.
    fn named(
        &self,
        nodes: &[NodeId],
        verb: &str,
        is_fit: impl Fn(&Seat) -> bool,
    ) -> Result<Vec<&Seat>, EmbeddedError> {
        if self.stopped.load(Ordering::SeqCst) {
            return Err(EmbeddedError::Stopped);
        }
        if nodes.is_empty() {
            return Ok(self.seats.iter().filter(|seat| is_fit(seat)).collect());
        }
        let find = |node: &NodeId| {
            let seat = self.seats.iter().find(|seat| seat.id() == *node).ok_or_else(|| {
                let known: Vec<String> =
                    self.seats.iter().map(|seat| seat.id().to_string()).collect();
                let nodes = if known.len() == 1 { "the node" } else { "the nodes" };
                EmbeddedError::Refused(format!(
                    "cannot {verb} node {node}: this broker has {nodes} {}",
                    known.join(", ")
                ))
            })?;
            if !is_fit(seat) {
                let why = match seat.state() {
                    NodeState::Starting | NodeState::Running => "it already runs",
                    NodeState::Paused => "it is paused; resume it first",
                    NodeState::Killed | NodeState::Failed(_) | NodeState::Stopped => {
                        "it does not run; restart it first"
                    }
                };
                return Err(EmbeddedError::Refused(format!("cannot {verb} node {node}: {why}")));
            }
            Ok(seat)
        };
        nodes.iter().map(find).collect()
    }

    /// Starts nodes and waits until they serve and everybody who runs knows it.
    fn begin(
        &self,
        seats: &[&Seat],
        limit: Duration,
        wanted: &mut impl FnMut() -> bool,
    ) -> Result<Uuid, EmbeddedError> {
        let began = rt::block_on(async {
            for seat in seats {
                seat.start().await.map_err(|error| {
                    if self.is_alone() { error.into() } else { self.of(seat, &error.to_string()) }
                })?;
            }
            let serving = async {
                let mut cluster_id = self.cluster_id;
                for seat in seats {
                    cluster_id = seat.ready().await.map_err(|why| self.of(seat, &why))?;
                }
                if !self.is_alone() {
                    formed::settled(&self.seats).await;
                }
                Ok(cluster_id)
            };
            rt::select_biased! {
                served = while_wanted(serving, wanted) => served?,
                () = rt::sleep(limit) => {
                    let is_late = |seat: &&&Seat| seat.state() == NodeState::Starting;
                    let late = seats.iter().find(is_late).or_else(|| seats.first());
                    let node = late.map_or(NodeId(0), |seat| seat.id());
                    Err(EmbeddedError::ServeTimedOut { node, limit })
                }
            }
        });
        began.map_err(system)?
    }

    fn is_alone(&self) -> bool {
        self.seats.len() == 1
    }

    /// Says which node something is about, where there are several.
    fn of(&self, seat: &Seat, message: &str) -> EmbeddedError {
        EmbeddedError::Failed(if self.is_alone() {
            message.to_owned()
        } else {
            format!("node {}: {message}", seat.id())
        })
    }
}

fn system(source: std::io::Error) -> StartError {
    StartError::System { what: "a runtime", source }
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
