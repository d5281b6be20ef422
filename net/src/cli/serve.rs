//! `mainspring serve`: runs a node until it is told to stop.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainspring_core::config::{BROKER_SETTINGS, NodeConfig};
use serde::Serialize;

use super::failure::{Code, Failure, words};
use super::output::{Output, Stop};
use super::secret;
use super::settings::{Settings, Values};
use crate::address::HostPort;
use crate::console;
use crate::node::{self, ClusterSecret, End, Node, NodeOptions, StartError};
use crate::rt::{self, StopSignals};

/// How long a stopping node may take, within the ten seconds that container runtimes allow.
const PATIENCE: Duration = Duration::from_secs(9);
const FILE: &str = "mainspring.toml";

/// Flags of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory for the data, made if missing [default: ./mainspring-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep everything in memory and open no file
    #[arg(long)]
    memory: bool,
    /// Where clients connect [default: 127.0.0.1:9092]; port 0 asks for a free one
    #[arg(long, value_name = "[NAME://]HOST:PORT")]
    listen: Vec<String>,
    /// What clients are told to connect to [default: the address listened on]
    #[arg(long, value_name = "[NAME://]HOST:PORT")]
    advertise: Vec<String>,
    /// Where HTTP is served [default: 127.0.0.1:9780]
    #[arg(long, value_name = "HOST:PORT|off")]
    console: Option<String>,
    /// Number of this node in its cluster [default: 1]
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// All nodes that the cluster is first made of, and where each listens for the others
    #[arg(long, value_name = "ID@HOST:PORT,...")]
    voters: Vec<String>,
    /// Where the other nodes connect [default: this node's entry of --voters]
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// File with the secret by which nodes verify each other; repeat it to accept a second one
    #[arg(long, value_name = "FILE")]
    cluster_secret: Vec<PathBuf>,
    /// Configuration file [default: ./mainspring.toml where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets a broker setting by Kafka's name, as in log.retention.ms=60000
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Check the configuration, print it and exit
    #[arg(long)]
    check_config: bool,
    /// Allow listening beyond this machine without TLS or authentication
    #[arg(long)]
    insecure: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let settings = settings(args, &variables)?;
    let secrets = secret::load(&settings.cluster_secret)?;
    if args.check_config {
        return print(&Checked::new(&settings, &secrets));
    }
    for variable in &settings.unknown_variables {
        tracing::warn!("the variable {variable} begins like a setting, but none has its name");
    }
    if let Some(doubt) = settings.voters.doubt() {
        tracing::warn!("{doubt}");
    }
    rt::block_on(serve(settings, secrets)).map_err(|error| system("a runtime", &error))?
}

fn settings(args: &Args, variables: &BTreeMap<String, String>) -> Result<Settings, Failure> {
    let mut flags = Values::default();
    if let Some(path) = &args.data_dir {
        flags.add("data-dir", path.to_string_lossy(), "--data-dir");
    }
    for path in &args.cluster_secret {
        flags.add("cluster-secret", path.to_string_lossy(), "--cluster-secret");
    }
    for (key, given) in [("memory", args.memory), ("insecure", args.insecure)] {
        if given {
            flags.add(key, "true", format!("--{key}"));
        }
    }
    let repeated =
        [("listen", &args.listen), ("advertise", &args.advertise), ("voters", &args.voters)];
    for (key, values) in repeated {
        for value in values {
            flags.add(key, value, format!("--{key}"));
        }
    }
    let single = [
        ("console", &args.console),
        ("node-id", &args.node_id),
        ("peer-listen", &args.peer_listen),
    ];
    for (key, value) in single {
        if let Some(value) = value {
            flags.add(key, value, format!("--{key}"));
        }
    }
    let mut set = BTreeMap::new();
    for pair in &args.set {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure::usage(
                format!("cannot use --set {pair}"),
                "it has no =",
                "write it as --set log.retention.ms=60000",
            )
        })?;
        // As in Kafka's own files, the last of several is the one that counts.
        set.insert(key.trim(), value);
    }
    for (key, value) in set {
        flags.add(key, value, "--set");
    }
    Settings::resolve(flags, variables, file(args, variables)?)
}

/// Reads the one configuration file: named by flag or variable, else the one in this directory.
fn file(args: &Args, variables: &BTreeMap<String, String>) -> Result<Values, Failure> {
    let variable = || variables.get("MAINSPRING_CONFIG").map(PathBuf::from);
    let named = args.config.clone().or_else(variable);
    let path = named.clone().unwrap_or_else(|| FILE.into());
    match fs::read_to_string(&path) {
        Ok(text) => Values::from_file(&text, &path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            Ok(Values::default())
        }
        Err(error) => {
            let missing = error.kind() == io::ErrorKind::NotFound;
            Err(Failure::new(
                if missing { Code::NotFound } else { Code::Usage },
                format!("cannot read the configuration file {}", path.display()),
                words(&error),
                "name another with --config",
            ))
        }
    }
}

async fn serve(settings: Settings, secrets: Vec<ClusterSecret>) -> Result<(), Stop> {
    let began = node::monotonic_now();
    let mut signals = StopSignals::new().map_err(|error| system("signal handling", &error))?;
    let http = match &settings.console {
        None => None,
        Some(address) => Some(console::listen(address).await.map_err(|error| {
            Failure::new(
                Code::Failed,
                format!("cannot open the console on {address}"),
                words(&error),
                "choose another address with --console, or --console off",
            )
        })?),
    };
    let node = Node::start(options(&settings, secrets)).await;
    let node = Arc::new(node.map_err(|error| not_started(&error))?);
    let console = http.map(|listener| {
        let address = listener.local_addr().map(|address| address.to_string());
        rt::spawn(console::serve(listener, Arc::clone(&node)));
        address.unwrap_or_default()
    });
    let cluster_id = rt::select_biased! {
        signal = signals.next() => {
            // Nothing has been acknowledged yet, and recovery survives a kill at any point.
            tracing::info!("{signal}: stopping before recovery was done");
            return Ok(());
        }
        ready = node.ready() => match ready {
            Ok(cluster_id) => cluster_id,
            Err(end) => return ended(end),
        },
    };
    let mut listen: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
    // The listener for peers is the last one.
    let peer_listen = listen.split_off(settings.listeners.len()).pop();
    let recovery = node::monotonic_now().since(began);
    let printed = print(&Ready {
        event: "ready",
        node_id: settings.node_id.0,
        cluster_id: cluster_id.to_string(),
        listen: listen[0].clone(),
        listeners: settings.listeners.iter().map(|one| one.name.clone()).zip(listen).collect(),
        peer_listen,
        console,
        recovery_ms: u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX),
    });
    // Clients are served all the same where nobody has use for the line.
    if let Err(Stop::Failed(failure)) = printed {
        tracing::warn!("{failure}");
    }
    rt::select_biased! {
        end = node.ended() => return ended(end),
        signal = signals.next() => tracing::info!("{signal}: stopping"),
    }
    node.stop();
    rt::select_biased! {
        end = node.ended() => ended(end),
        signal = signals.next() => Err(Failure::new(
            Code::Failed,
            "stopped at once",
            format!("a second signal, {signal}, came"),
            "nothing acknowledged is lost: the next start recovers",
        ).into()),
        () = rt::sleep(PATIENCE) => Err(Failure::new(
            Code::Failed,
            "stopped without closing the log",
            format!("that took longer than {} seconds", PATIENCE.as_secs()),
            "nothing acknowledged is lost: the next start recovers",
        ).into()),
    }
}

fn options(settings: &Settings, secrets: Vec<ClusterSecret>) -> NodeOptions {
    let mut node = NodeConfig {
        node_id: settings.node_id,
        peers: settings.voters.peers.clone(),
        memory_only: settings.data_dir.is_none(),
        settings: settings.broker.clone(),
        ..NodeConfig::default()
    };
    settings.broker.apply_to(&mut node.limits);
    let clients = settings.listeners.iter().cloned();
    let listeners = clients.chain(settings.voters.listener.clone()).collect();
    NodeOptions { node, listeners, data_dir: settings.data_dir.clone(), secrets }
}

fn ended(end: End) -> Result<(), Stop> {
    match end {
        End::Stopped => Ok(()),
        End::Failed(message) => Err(Failure::from_line(Code::Failed, &message).into()),
    }
}

fn not_started(error: &StartError) -> Failure {
    Failure::from_line(Code::Failed, &error.to_string())
}

fn system(what: &str, error: &io::Error) -> Stop {
    Failure::new(
        Code::Failed,
        format!("cannot start {what}"),
        words(error),
        "the system lacks threads, memory or descriptors",
    )
    .into()
}

fn print(value: &impl Serialize) -> Result<(), Stop> {
    let mut output = Output::new();
    output.json(value)?;
    output.flush()
}

/// The line that says that clients are served.
#[derive(Serialize)]
struct Ready {
    event: &'static str,
    node_id: i32,
    cluster_id: String,
    listen: String,
    listeners: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_listen: Option<String>,
    console: Option<String>,
    recovery_ms: u64,
}

/// What `--check-config` prints.
#[derive(Serialize)]
struct Checked {
    event: &'static str,
    data_dir: Option<PathBuf>,
    listen: Vec<String>,
    advertise: Vec<String>,
    console: Option<String>,
    node_id: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_listen: Option<String>,
    /// Fingerprints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cluster_secrets: Vec<String>,
    settings: BTreeMap<&'static str, String>,
}

impl Checked {
    fn new(settings: &Settings, secrets: &[ClusterSecret]) -> Self {
        let explicit = BROKER_SETTINGS.iter().filter_map(|def| {
            settings.broker.explicit(def.name).map(|value| (def.name, value.to_owned()))
        });
        let mut listen = Vec::new();
        let mut advertise = Vec::new();
        for one in &settings.listeners {
            listen.push(format!("{}://{}", one.name, one.listen));
            let told = one.advertise.as_ref().unwrap_or(&one.listen);
            advertise.push(format!("{}://{told}", one.name));
        }
        Self {
            event: "config",
            data_dir: settings.data_dir.clone(),
            listen,
            advertise,
            console: settings.console.as_ref().map(ToString::to_string),
            node_id: settings.node_id.0,
            voters: settings
                .voters
                .peers
                .iter()
                .map(|peer| {
                    let address = HostPort { host: peer.host.to_string(), port: peer.port };
                    format!("{}@{address}", peer.node_id)
                })
                .collect(),
            peer_listen: settings.voters.listener.as_ref().map(|one| one.listen.to_string()),
            cluster_secrets: secrets.iter().map(ClusterSecret::fingerprint).collect(),
            settings: explicit.collect(),
        }
    }
}
