//! One node in this process: its lane, its listeners and its disk, started and stopped as a whole.
//!
//! The command `serve` runs one; tests and programs that embed a broker run as many as they like.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainspring_core::broker::{Shard, ShardConfig};
use mainspring_core::config::{ListenerConfig, NodeConfig};
use mainspring_core::ids::{IoToken, ListenerIndex, ShardId, Uuid};
use mainspring_core::io::{DiskError, DiskErrorKind, Effect, Input};
use mainspring_core::time::{Instant, Now};

use crate::address::HostPort;
use crate::data_dir::{DataDir, DataDirError};
use crate::disk::{Complete, Disk, Flushes, Operation, PowerCut, RealFiles, ThreadedDisk};
use crate::lane::{self, Inbox, LaneParts, Machine, Phase, SharedLane};
use crate::listener::{self, Admission};
use crate::metrics::Metrics;
use crate::reins::{ReinedFiles, Reins};
use crate::rt::{self, TcpListener, oneshot};
use crate::secure::Security;
#[cfg(not(madsim))]
pub use crate::secure::{ClusterSecret, SecretError};
use crate::watched::{self, Reader, Writer};

/// Most descriptors set aside for the files of the log.
const FILE_DESCRIPTORS_MAX: u64 = 512;
/// Descriptors set aside for everything else: the runtime, the console, standard streams.
const OTHER_DESCRIPTORS: u64 = 96;
/// How long connections may take to write their last answers once the shard has stopped.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// What its core is told. The listeners in it are made from `listeners`.
    pub node: NodeConfig,
    /// Where it listens, at least one.
    pub listeners: Vec<ListenerOptions>,
    /// Its data directory; `None` keeps everything in memory and opens no file.
    pub data_dir: Option<PathBuf>,
    /// What the nodes of the cluster are verified by: the first is presented, all are accepted. With none of them
    /// the nodes speak without TLS.
    #[cfg(not(madsim))]
    pub secrets: Vec<ClusterSecret>,
}

/// One listener of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerOptions {
    /// Its name.
    pub name: String,
    /// Where it listens. Port 0 asks for a free one.
    pub listen: HostPort,
    /// What clients are told; the address it listens on where that is `None`, and its port where
    /// the port is 0.
    pub advertise: Option<HostPort>,
    /// Whether it is for the other nodes of the cluster.
    pub peers: bool,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// It cannot listen on an address.
    #[error(
        "cannot listen on {address}: {why}; stop what uses it or choose another address {whom}"
    )]
    Listen {
        /// The address.
        address: HostPort,
        /// Who is to reach the node there: `for clients` or `for other nodes`.
        whom: &'static str,
        /// What the system says.
        why: String,
    },
    /// Something that every process needs is missing.
    #[error("cannot start {what}: {source}; the system lacks threads, memory or descriptors")]
    System {
        /// What was to be started.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// How a running node ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// It was asked to stop and everything is durable.
    Stopped,
    /// It cannot go on, in the words of the core: what, where and what to do, in one line.
    Failed(String),
}

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    addresses: Vec<SocketAddr>,
    inbox: Arc<Inbox>,
    phase: Reader<Phase>,
    stop_listening: Writer<bool>,
    /// Closed when the lane has ended, and with it all connections.
    finished: Reader<()>,
    reins: Arc<Reins>,
    metrics: Arc<Metrics>,
    // Held until the node is gone, so that the directory stays locked while its threads write.
    #[cfg_attr(madsim, expect(dead_code, reason = "it is held, and let go by a kill"))]
    data_dir: Mutex<Option<Arc<DataDir>>>,
}

/// Makes the disk of a node, given where its completions go.
pub type MakeDisk = Box<dyn FnOnce(Complete) -> Result<Arc<dyn Disk>, StartError> + Send>;

impl Node {
    /// Starts a node on its own thread: locks its data directory, listens, and begins recovery.
    ///
    /// Connections wait in the system's queue until the node is [`ready`](Self::ready).
    pub async fn start(options: NodeOptions) -> Result<Self, StartError> {
        let data_dir = options.data_dir.as_deref().map(DataDir::lock).transpose()?.map(Arc::new);
        let reins = Reins::new();
        let make_disk = disk_of(data_dir.clone(), Arc::clone(&reins));
        Self::start_on(options, data_dir, make_disk, reins).await
    }

    /// Starts a node on a disk that the caller makes; `options.data_dir` is not looked at.
    pub async fn start_with(options: NodeOptions, disk: MakeDisk) -> Result<Self, StartError> {
        Self::start_on(options, None, disk, Reins::new()).await
    }

    async fn start_on(
        options: NodeOptions,
        data_dir: Option<Arc<DataDir>>,
        make_disk: MakeDisk,
        reins: Arc<Reins>,
    ) -> Result<Self, StartError> {
        let (started, outcome) = oneshot::channel();
        let (phase, phases) = watched::channel(Phase::Starting);
        let (stop_listening, stopping) = watched::channel(false);
        let inbox = Inbox::new();
        let metrics = Arc::new(Metrics::default());
        let begin = Begin {
            options,
            make_disk,
            phase,
            phases: phases.clone(),
            stopping,
            inbox: Arc::clone(&inbox),
            metrics: Arc::clone(&metrics),
        };
        let held = data_dir.clone();
        let (finish, finished) = watched::channel(());
        let (reined, guard) = (Arc::clone(&reins), reins.lane());
        rt::spawn_lane("lane-0", async move {
            let living = async {
                match begin.lane().await {
                    Ok((lane, addresses)) => {
                        // Nobody waits for a start that was given up.
                        if started.send(Ok(addresses)).is_ok() {
                            lane::run(lane.clone()).await;
                            lane.close_all(LAST_WORDS).await;
                        }
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            };
            rt::select_biased! {
                () = reined.ended() => {}
                () = living => {}
            }
            (guard, held, finish)
        })
        .map_err(|source| StartError::System { what: "a lane", source })?;
        let addresses = outcome.await.unwrap_or_else(|_| {
            Err(StartError::System { what: "a lane", source: io::Error::other("it ended") })
        })?;
        Ok(Self {
            addresses,
            inbox,
            phase: phases,
            stop_listening,
            finished,
            reins,
            metrics,
            data_dir: Mutex::new(data_dir),
        })
    }

    /// Returns where the node listens, listener by listener.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until recovery is done and clients are served; returns the id of the cluster.
    pub async fn ready(&self) -> Result<Uuid, End> {
        match self.phase.wait_for(|phase| *phase != Phase::Starting).await {
            Some(Phase::Ready { cluster_id }) => Ok(cluster_id),
            Some(Phase::Failed(message)) => Err(End::Failed(message)),
            Some(Phase::Stopped | Phase::Starting) => Err(End::Stopped),
            None => Err(lost()),
        }
    }

    /// Waits until the node has ended, by [`stop`](Self::stop) or by itself.
    pub async fn ended(&self) -> End {
        let ended = self.phase.wait_for(|phase| matches!(phase, Phase::Stopped | Phase::Failed(_)));
        let end = match ended.await {
            Some(Phase::Failed(message)) => End::Failed(message),
            Some(Phase::Stopped | Phase::Starting | Phase::Ready { .. }) => End::Stopped,
            None => lost(),
        };
        self.gone().await;
        end
    }

    async fn gone(&self) {
        let never = self.finished.wait_for(|()| false).await;
        assert!(never.is_none(), "the wait ends with the lane");
    }

    /// Returns whether clients are served.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase.get(), Phase::Ready { .. })
    }

    /// Asks the node to stop: no new connections, everything acknowledged made durable.
    pub fn stop(&self) {
        self.stop_listening.change(|stop| !std::mem::replace(stop, true));
        self.inbox.push(Input::Stop);
    }

    /// Returns what the node counts, in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.metrics.ready.store(u64::from(self.is_ready()), Ordering::Relaxed);
        self.metrics.text()
    }
}

/// What else may befall a node that lives in a process with others. The simulator has means of its own.
#[cfg(not(madsim))]
impl Node {
    /// Ends the node at once, as `kill -9` ends a process: nothing more is written, and its sockets close. What
    /// it has handed to the system stays as it is. Waits for the operations on files that are under way,
    /// which nothing can break off.
    pub async fn kill(&self) {
        self.reins.end();
        self.gone().await;
        // The next start may come before everybody has let go of this one.
        drop(self.data_dir.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
    }

    /// Holds the node, as SIGSTOP holds a process, and returns when it stands: it neither reads nor writes, and
    /// its timers do not run. Connections stay, and new ones wait for it.
    pub fn pause(&self) {
        self.reins.hold();
    }

    /// Lets a node that is held go on; the time that has passed has passed for it too.
    pub fn resume(&self) {
        self.reins.release();
    }

    /// Returns how the node has ended; `None` while it lives.
    pub fn end(&self) -> Option<End> {
        match self.phase.get() {
            Phase::Stopped => Some(End::Stopped),
            Phase::Failed(message) => Some(End::Failed(message)),
            Phase::Starting | Phase::Ready { .. } => self.finished.is_closed().then(lost),
        }
    }
}

/// A node that nobody holds any more stops, in its own time.
impl Drop for Node {
    fn drop(&mut self) {
        self.reins.release();
        self.stop();
    }
}

/// The end of a lane that panicked.
fn lost() -> End {
    End::Failed(
        "the node has ended by an error of its own; nothing acknowledged is lost: start it again \
         and report the lines above"
            .to_owned(),
    )
}

/// What a lane needs to begin, on its own thread.
struct Begin {
    options: NodeOptions,
    make_disk: MakeDisk,
    phase: Writer<Phase>,
    phases: Reader<Phase>,
    stopping: Reader<bool>,
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
}

impl Begin {
    /// Listens, makes disk and shard, and starts to accept once the shard is ready.
    async fn lane(self) -> Result<(SharedLane, Vec<SocketAddr>), StartError> {
        let security = Arc::new(security(&self.options)?);
        let mut node = self.options.node;
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        node.listeners.clear();
        for options in self.options.listeners {
            let (listener, address) = listen(&options).await?;
            node.listeners.push(advertised(&options, address.port()));
            listeners.push((listener, options.peers));
            addresses.push(address);
        }
        let inbox = Arc::clone(&self.inbox);
        let disk =
            (self.make_disk)(Arc::new(move |token, outcome| inbox.complete(token, outcome)))?;
        node.shards = 1;
        let connections_max = node.limits.connections_max as u64;
        let seed = seed().map_err(|source| StartError::System { what: "a node", source })?;
        let config = ShardConfig { shard: ShardId(0), node: Arc::new(node), seed };
        let lane = SharedLane::new(LaneParts {
            shard: ShardId(0),
            machine: Box::new(Shard::new(config)),
            disk,
            inboxes: vec![self.inbox],
            metrics: Arc::clone(&self.metrics),
            phase: self.phase,
            security: Arc::clone(&security),
        });
        let admission = Arc::new(Admission::new(
            connections_max.min(Descriptors::of_process().connections),
            self.metrics,
        ));
        rt::spawn(accept(listeners, lane.clone(), admission, security, self.phases, self.stopping));
        Ok((lane, addresses))
    }
}

impl Machine for Shard {
    fn handle(&mut self, now: Now, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Self::poll_effect(self)
    }

    fn next_deadline(&self) -> Option<Instant> {
        Self::next_deadline(self).map(|(at, _)| at)
    }

    fn cluster_id(&self) -> Uuid {
        Self::cluster_id(self)
    }
}

/// Serves the listeners of peers at once, because nodes talk before any of them serves clients, and all
/// others when the shard is ready. The task that begins the lane has handed it `Start` by then.
async fn accept(
    listeners: Vec<(TcpListener, bool)>,
    lane: SharedLane,
    admission: Arc<Admission>,
    security: Arc<Security>,
    phases: Reader<Phase>,
    stopping: Reader<bool>,
) {
    let serve = |index, listener, security| {
        let (lane, admission) = (lane.clone(), Arc::clone(&admission));
        rt::spawn(listener::serve(listener, index, lane, admission, security, stopping.clone()));
    };
    let mut later = Vec::new();
    for (index, (listener, peers)) in (0..).map(ListenerIndex).zip(listeners) {
        if peers {
            serve(index, listener, Some(Arc::clone(&security)));
        } else {
            later.push((index, listener));
        }
    }
    let reached = phases.wait_for(|phase| *phase != Phase::Starting).await;
    if !matches!(reached, Some(Phase::Ready { .. })) {
        return;
    }
    for (index, listener) in later {
        serve(index, listener, None);
    }
}

#[cfg(not(madsim))]
fn security(options: &NodeOptions) -> Result<Security, StartError> {
    Security::new(&options.secrets, options.node.node_id)
        .map_err(|source| StartError::System { what: "TLS between nodes", source })
}

#[cfg(madsim)]
#[expect(clippy::unnecessary_wraps, reason = "there is nothing to be made, and so nothing to fail")]
fn security(_: &NodeOptions) -> Result<Security, StartError> {
    Ok(Security)
}

async fn listen(options: &ListenerOptions) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = &options.listen;
    let whom = if options.peers { "for other nodes" } else { "for clients" };
    let failed = |error: io::Error| cannot_listen(address, whom, &error);
    let listener =
        TcpListener::bind((address.host.as_str(), address.port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Makes the error of an address that cannot be listened on; `whom` says who is to reach the node there.
pub(crate) fn cannot_listen(
    address: &HostPort,
    whom: &'static str,
    error: &io::Error,
) -> StartError {
    let text = error.to_string();
    let why = text.split(" (os error").next().unwrap_or(&text).to_owned();
    StartError::Listen { address: address.clone(), whom, why }
}

fn advertised(options: &ListenerOptions, port: u16) -> ListenerConfig {
    let told = options.advertise.as_ref().unwrap_or(&options.listen);
    ListenerConfig {
        name: options.name.clone(),
        advertised_host: told.host.clone(),
        advertised_port: if told.port == 0 || options.advertise.is_none() {
            port
        } else {
            told.port
        },
        peers: options.peers,
    }
}

/// A random number for this start, from the operating system.
fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// How the descriptors of this process are shared out, so that no client can take those that the
/// log needs.
struct Descriptors {
    files: u64,
    connections: u64,
}

impl Descriptors {
    /// Raises the limit as far as the process may, and shares out what there is.
    fn of_process() -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let raised = Rlimit { current: limit.maximum, ..limit };
            if setrlimit(Resource::Nofile, raised).is_ok() {
                limit = raised;
            }
        }
        Self::share(limit.current.unwrap_or(u64::MAX))
    }

    fn share(all: u64) -> Self {
        let files = FILE_DESCRIPTORS_MAX.min(all / 4);
        let left = all.saturating_sub(files + OTHER_DESCRIPTORS);
        Self { files, connections: left.max(1) }
    }
}

/// Returns what makes the disk of a locked directory, or the one that refuses all work.
fn disk_of(data_dir: Option<Arc<DataDir>>, reins: Arc<Reins>) -> MakeDisk {
    Box::new(move |complete| {
        let Some(data_dir) = data_dir else { return Ok(Arc::new(NoDisk(complete))) };
        let path = data_dir.path();
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        let real =
            RealFiles::open(path, Descriptors::of_process().files as usize).map_err(unusable)?;
        let failed = |source| StartError::System { what: "the threads of the disk", source };
        let disk = match test_disk() {
            None => ThreadedDisk::start(Arc::new(ReinedFiles::new(real, reins)), complete)
                .map_err(failed)?,
            Some(flushes) => {
                tracing::warn!(
                    ?flushes,
                    "a disk for tests: what is not flushed dies with the process"
                );
                let files = PowerCut::open(real, flushes)
                    .map_err(|error| unusable(io::Error::other(error.to_string())))?;
                ThreadedDisk::start(Arc::new(ReinedFiles::new(files, reins)), complete)
                    .map_err(failed)?
            }
        };
        Ok(Arc::new(disk) as Arc<dyn Disk>)
    })
}

/// Which disk for tests `MAINSPRING_TEST_DISK` asks for; never one in a build for users.
fn test_disk() -> Option<Flushes> {
    if !cfg!(debug_assertions) {
        return None;
    }
    match std::env::var("MAINSPRING_TEST_DISK").as_deref() {
        Ok("power-cut") => Some(Flushes::Kept),
        Ok("no-flush") => Some(Flushes::LeftOut),
        Ok(_) | Err(_) => None,
    }
}

/// The disk of a node in memory: it has none, and says so should it be asked.
struct NoDisk(Complete);

impl Disk for NoDisk {
    fn submit(&self, token: IoToken, operation: Operation) {
        let error = DiskError {
            operation: operation.verb(),
            file: operation.subject().clone(),
            kind: DiskErrorKind::Other,
            message: "this node keeps everything in memory".to_owned(),
        };
        (self.0)(token, Err(error));
    }
}

#[cfg(not(madsim))]
/// Reads the clock that nodes run by; for measuring how long something took.
pub(crate) fn monotonic_now() -> Instant {
    crate::clock::Clock::default().now().mono
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;
    use crate::test_support::TempDir;

    fn options(data_dir: Option<PathBuf>) -> NodeOptions {
        NodeOptions {
            node: NodeConfig::default(),
            listeners: vec![ListenerOptions {
                name: "PLAINTEXT".to_owned(),
                listen: HostPort { host: "127.0.0.1".to_owned(), port: 0 },
                advertise: None,
                peers: false,
            }],
            data_dir,
            secrets: Vec::new(),
        }
    }

    #[test]
    fn a_node_that_is_dropped_frees_its_directory() {
        let directory = TempDir::new();
        let path = directory.path().to_owned();
        rt::block_on(async {
            let node = Node::start(options(Some(path.clone()))).await.expect("it starts");
            let first = node.ready().await.expect("it recovers");
            let refused = Node::start(options(Some(path.clone()))).await;
            assert!(matches!(refused, Err(StartError::DataDir(DataDirError::Locked { .. }))));
            drop(node);
            let mut again = Node::start(options(Some(path.clone()))).await;
            while again.is_err() {
                rt::sleep(Duration::from_millis(1)).await;
                again = Node::start(options(Some(path.clone()))).await;
            }
            let again = again.expect("the loop ends with a node");
            assert_eq!(again.ready().await, Ok(first));
            again.stop();
            assert_eq!(again.ended().await, End::Stopped);
        })
        .expect("a runtime starts");
    }

    #[test]
    fn descriptors_for_files_are_set_aside_before_connections_get_any() {
        for all in [256, 1024, 20_000, u64::MAX] {
            let Descriptors { files, connections } = Descriptors::share(all);
            assert!(files >= 64 && connections >= 64, "{all}");
            assert!(files + connections + OTHER_DESCRIPTORS <= all, "{all}");
        }
        assert_eq!(Descriptors::share(0).connections, 1);
    }
}
