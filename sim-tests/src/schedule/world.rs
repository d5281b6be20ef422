//! The plan of a world: its nodes, its clients and what strikes it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use mainspring_core::config::{ListenerConfig, NodeConfig, PeerConfig};
use mainspring_core::ids::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ScheduleError;
use crate::checkers;
use crate::disk::DiskOptions;
use crate::net::NetOptions;
use crate::rng::Rng;
use crate::scenarios::{RunOptions, broker};
use crate::workload::absent::Absent;
use crate::workload::alterer::Alterer;
use crate::workload::churner::Churner;
use crate::workload::committed_reader::CommittedReader;
use crate::workload::delay_reader::DelayReader;
use crate::workload::delayer::Delayer;
use crate::workload::judge::Judge;
use crate::workload::machine_consumer::{Habits, MachineConsumer};
use crate::workload::machine_producer::MachineProducer;
use crate::workload::member::Member;
use crate::workload::passing::Passing;
use crate::workload::pipeline::{Making, Pipeline};
use crate::workload::producer::Producer;
use crate::workload::purger::Purger;
use crate::workload::reader::Reader;
use crate::workload::stranger::Stranger;
use crate::workload::transactional::{Conduct, Transactional};
use crate::workload::watcher::Watcher;
use crate::workload::{CLIENT_PORT, Load, PEER_PORT, SharedRef, TRANSACTION_TIMEOUT_MAX};
use crate::world::{
    Actor, ClusterOptions, Fault, MILLISECOND, Outcome, SECOND, World, WorldOptions,
};

/// A fault and when it strikes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strike {
    /// When, in nanoseconds.
    pub at: u64,
    /// What.
    pub fault: Fault,
}

/// What a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Work {
    /// A producer that speaks the wire by hand.
    Producer {
        /// The acknowledgements it asks for: -1 or 1.
        acks: i16,
    },
    /// The producer machine of core.
    MachineProducer,
    /// A reader.
    Reader {
        /// The version of Fetch, 4 to 17.
        version: i16,
        /// Whether it reads everything once more at the end.
        recorder: bool,
    },
    /// Whoever deletes records.
    Purger,
    /// A member of a consumer group.
    Member {
        /// Which group.
        group: u32,
        /// Whether it comes back as itself under an instance id.
        is_static: bool,
    },
    /// The consumer machine of core.
    MachineConsumer(Habits),
    /// The producer machine of core with a transactional id.
    Transactional(Conduct),
    /// A reader of committed records.
    CommittedReader {
        /// The version of Fetch, 5 to 17.
        version: i16,
    },
    /// A member of a group that makes records of records, in transactions.
    Pipeline(Making),
    /// Whoever makes a topic that transactions write to, and deletes it.
    Passing,
    /// Somebody who speaks no Kafka.
    Stranger,
    /// Whoever asks for the committed offsets of a group of members.
    Watcher {
        /// The group.
        group: u32,
    },
    /// Whoever sends records that come later, or commands that cancel them.
    Delayer {
        /// Whether it sends commands.
        cancels: bool,
    },
    /// Whoever deletes records of topics in which something comes later, as far as all have read them.
    DelayPurger,
    /// Whoever is asked for the verdicts on half messages.
    Judge,
    /// Whoever alters what comes later by requests of its own.
    Alterer,
    /// A reader of what comes later.
    DelayReader {
        /// The version of Fetch, 5 to 17.
        version: i16,
        /// Whether it reads what is committed alone.
        committed: bool,
    },
    /// Whoever makes topics, uses them and deletes them.
    Churner {
        /// Whether it reads everything once more at the end.
        recorder: bool,
    },
}

/// One client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientPlan {
    /// Its number, by which facts name it and chance goes.
    pub number: usize,
    /// What it is.
    pub work: Work,
    /// Mean time between two of its operations, in nanoseconds.
    pub pause: u64,
    /// How many operations it begins before it only finishes; `None` for no limit.
    pub operations: Option<u64>,
    /// The node that it takes for the whole cluster.
    #[serde(default)]
    pub home: usize,
}

/// What is particular to the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Size of a journal file in bytes.
    pub journal_file_bytes: u64,
    /// Size of a block of the journal in bytes.
    pub journal_block_bytes: usize,
    /// Size of the cache of each log's tail in bytes.
    pub tail_cache_bytes: u64,
    /// Age at which a segment is rolled, in milliseconds.
    pub roll_ms: u64,
    /// Age at which records go, in milliseconds; `None` for never.
    pub retention_ms: Option<u64>,
    /// How long an empty group waits for more members, in milliseconds.
    pub rebalance_delay_ms: u64,
    /// What chooses the rarer ways that the code takes on purpose; `None` for none.
    #[serde(default)]
    pub buggify: Option<u64>,
    /// Whether records of any time are taken, because wall clocks leap.
    #[serde(default)]
    pub any_time: bool,
    /// The epoch with which the producer of a new transactional id begins.
    #[serde(default)]
    pub epoch_first: i16,
    /// When snapshots of the metadata log are made; `None` for so rarely that none is.
    #[serde(default)]
    pub snapshots: Option<SnapshotPlan>,
}

/// Snapshots of the metadata log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotPlan {
    /// Bytes of the log between two of them.
    pub between_bytes: u64,
    /// Most bytes of one that nodes send each other at a time.
    pub piece_bytes: u64,
}

impl SnapshotPlan {
    /// Draws as few bytes as one of these, in most of the seeds.
    pub fn draw(rng: &mut Rng, between_bytes: [u64; 3]) -> Option<Self> {
        let between_bytes = between_bytes[rng.index(3)];
        let piece_bytes = [100, 1_000, 1 << 20][rng.index(3)];
        rng.chance(600).then_some(Self { between_bytes, piece_bytes })
    }
}

impl NodePlan {
    /// Draws a node with small sizes, so that every edge comes early.
    pub fn draw(rng: &mut Rng, retention_ms: Option<u64>, rebalance_delay_ms: u64) -> Self {
        Self {
            journal_file_bytes: [64 << 10, 256 << 10][rng.index(2)],
            journal_block_bytes: [8 << 10, 24 << 10][rng.index(2)],
            tail_cache_bytes: [4 << 10, 256 << 10][rng.index(2)],
            // Segments cannot be small, so they are rolled by their age.
            roll_ms: [300, 2_000, 3_600_000][rng.index(3)],
            retention_ms,
            rebalance_delay_ms,
            buggify: rng.chance(500).then(|| rng.bits()),
            any_time: false,
            epoch_first: 0,
            snapshots: None,
        }
    }

    /// Returns the configuration.
    pub fn config(&self, shards: u16, partitions: i32) -> Arc<NodeConfig> {
        let mut config = NodeConfig { shards, ..NodeConfig::default() };
        config.buggify = self.buggify;
        config.log.journal_first_file_bytes = 64 << 10;
        config.log.journal_file_bytes = self.journal_file_bytes;
        config.log.journal_max_bytes = 1 << 20;
        config.log.journal_block_bytes = self.journal_block_bytes;
        config.log.unwritten_max_bytes = 96 << 10;
        config.log.tail_cache_bytes = self.tail_cache_bytes;
        // Logs of coordinators are copied forward many times in a run.
        config.limits.coordinator_dead_records_min = 40;
        config.limits.producer_epoch_first = self.epoch_first;
        if let Some(SnapshotPlan { between_bytes, piece_bytes }) = self.snapshots {
            config.limits.metadata_snapshot_bytes = between_bytes;
            config.limits.metadata_snapshot_piece_bytes = piece_bytes;
        }
        let retention = self.retention_ms.map_or_else(|| "-1".to_owned(), |ms| ms.to_string());
        for (key, value) in [
            ("num.partitions", partitions.to_string().as_str()),
            ("log.roll.ms", &self.roll_ms.to_string()),
            // A batch must fit a journal file.
            ("message.max.bytes", "24000"),
            ("log.index.interval.bytes", "512"),
            ("log.retention.ms", &retention),
            ("log.retention.check.interval.ms", "500"),
            ("group.initial.rebalance.delay.ms", &self.rebalance_delay_ms.to_string()),
        ] {
            config.settings.set(key, value).expect("a setting that is known");
        }
        if self.any_time {
            let (key, value) = ("log.message.timestamp.after.max.ms", i64::MAX.to_string());
            config.settings.set(key, &value).expect("a setting that is known");
        }
        Arc::new(config)
    }
}

/// Nodes that are one cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterPlan {
    /// How many copies an acknowledged record has at least (`min.insync.replicas`).
    pub min_in_sync: usize,
    /// Nodes that the others must do without when all else is healed, less than half. What keeps them away
    /// stands among the permanent faults.
    #[serde(default)]
    pub lost: Vec<usize>,
    /// How long the run goes on at the least once all else is healed, in nanoseconds.
    #[serde(default)]
    pub linger: u64,
    /// Over how many racks nodes and clients are spread in turn; 0 for none.
    #[serde(default)]
    pub racks: usize,
}

impl ClusterPlan {
    /// Returns the rack of a node or a client.
    fn rack(&self, number: usize) -> Option<String> {
        let rack = number.checked_rem(self.racks)?;
        Some(format!("rack-{rack}"))
    }
}

/// Nodes, their clients, and what strikes them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldPlan {
    /// How many nodes there are.
    #[serde(default = "one")]
    pub nodes: usize,
    /// What makes the nodes one cluster; without it they know nothing of each other.
    #[serde(default)]
    pub cluster: Option<ClusterPlan>,
    /// How many shards each has.
    pub shards: u16,
    /// How many topics there are.
    pub topics: usize,
    /// How many partitions each has.
    pub partitions: i32,
    /// Most records of a batch.
    pub records: u64,
    /// Mean size of a value in bytes.
    pub bytes: u64,
    /// What each node is like.
    pub node: NodePlan,
    /// Its disk.
    pub disk: DiskOptions,
    /// The network.
    pub net: NetOptions,
    /// How far the clocks of a node may drift at its start, in millionths.
    pub drift_ppm: u64,
    /// When the last fault is healed and the clients are told to finish, in nanoseconds.
    pub heal_at: u64,
    /// How long after that everything must have come to an end, in nanoseconds.
    pub grace: u64,
    /// The clients.
    pub clients: Vec<ClientPlan>,
    /// What strikes when.
    pub faults: Vec<Strike>,
    /// Whether faults may take the last good copy of what was acknowledged.
    #[serde(default)]
    pub unrecoverable: bool,
    /// What stays wrong, or goes wrong then, when all else is healed.
    #[serde(default)]
    pub permanent: Vec<Fault>,
}

const fn one() -> usize {
    1
}

/// How long after the last fault everything must have come to an end.
pub(crate) const GRACE: u64 = 200 * SECOND;

impl WorldPlan {
    /// Runs it; `seed` is that of all chance.
    pub fn run(&self, seed: u64, how: &RunOptions) -> Outcome {
        let configs = self.configs();
        let options = WorldOptions {
            seed,
            nodes: self.nodes,
            shards: self.shards,
            disk: self.disk.clone(),
            net: self.net.clone(),
            drift_ppm: self.drift_ppm,
            faults: self.faults.iter().map(|strike| (strike.at, strike.fault.clone())).collect(),
            heal_at: self.heal_at,
            grace: self.grace,
            homes: self.homes(),
            cluster: self.cluster.as_ref().map(|cluster| ClusterOptions {
                min_in_sync: cluster.min_in_sync,
                lost: cluster.lost.clone(),
                linger: cluster.linger,
            }),
            unrecoverable: self.unrecoverable,
            permanent: self.permanent.clone(),
            sink: how.sink.clone(),
            story: how.story,
            until: how.until,
        };
        let mut checkers =
            if self.unrecoverable { checkers::under_damage() } else { checkers::all() };
        if self.cluster.is_some() && !self.unrecoverable {
            checkers.extend(checkers::cluster::all());
        }
        let (actors, shared) = self.actors();
        let world = World::new(options, broker::factory(configs), actors, checkers);
        let mut outcome = world.run();
        if let Some(story) = &mut outcome.story {
            for shared in shared {
                let shared = shared.borrow();
                let names = shared.topics.iter().map(|(name, id)| (*id, name.clone()));
                story.topics.extend(names);
            }
        }
        outcome
    }

    /// Returns by how many milliseconds wall clocks may differ from true time and from themselves, and how late
    /// what goes by them may be.
    fn clock_error(&self) -> (i64, i64) {
        let (mut ahead, mut behind, mut ppm) = (0, 0, self.drift_ppm as i64);
        for fault in self.faults.iter().map(|strike| &strike.fault).chain(&self.permanent) {
            match fault {
                Fault::WallJump { millis, .. } => {
                    ahead = ahead.max(*millis);
                    behind = behind.max(-*millis);
                }
                Fault::Drift { ppm: by, .. } => ppm = ppm.max(by.abs()),
                // A machine that stood still may find its clock behind.
                Fault::Suspend { time, .. } => behind += (*time / MILLISECOND) as i64,
                _ => {}
            }
        }
        let drift = ppm * ((self.heal_at + self.grace) / MILLISECOND) as i64 / 1_000_000;
        let spread = ahead + behind + 2 * drift + 2;
        // A clock that leaps ahead is doubted for a while.
        (spread, spread + 10_000)
    }

    /// Returns the configuration of each node.
    fn configs(&self) -> Vec<Arc<NodeConfig>> {
        let alone = self.node.config(self.shards, self.partitions);
        let Some(cluster) = &self.cluster else { return vec![alone; self.nodes] };
        let mut common = NodeConfig::clone(&alone);
        let (key, value) = ("min.insync.replicas", cluster.min_in_sync.to_string());
        common.settings.set(key, &value).expect("a setting that is known");
        let host = |id: i32| format!("node-{id}");
        let peers: Vec<PeerConfig> = (1..=self.nodes as i32)
            .map(|id| PeerConfig { node_id: NodeId(id), host: host(id).into(), port: PEER_PORT })
            .collect();
        (1..=self.nodes as i32)
            .map(|id| {
                let listener = |name: &str, advertised_port, peers| ListenerConfig {
                    name: name.to_owned(),
                    advertised_host: host(id),
                    advertised_port,
                    peers,
                };
                let mut settings = common.settings.clone();
                if let Some(rack) = cluster.rack(id as usize) {
                    settings.set("broker.rack", &rack).expect("a setting that is known");
                }
                Arc::new(NodeConfig {
                    node_id: NodeId(id),
                    settings,
                    listeners: vec![
                        listener("PLAINTEXT", CLIENT_PORT, false),
                        listener("PEERS", PEER_PORT, true),
                    ],
                    peers: peers.clone(),
                    ..common.clone()
                })
            })
            .collect()
    }

    /// Returns the node of each client.
    fn homes(&self) -> Vec<usize> {
        let most = self.clients.iter().map(|client| client.number + 1).max().unwrap_or(0);
        let mut homes = vec![0; most];
        for client in &self.clients {
            homes[client.number] = client.home;
        }
        homes
    }

    /// Makes the clients, each at the place of its number, and what those of each node know of each other.
    fn actors(&self) -> (Vec<Box<dyn Actor>>, Vec<SharedRef>) {
        let mut shared: Vec<SharedRef> = (0..self.nodes).map(|_| Rc::default()).collect();
        if self.cluster.is_some() {
            shared = vec![Rc::default(); self.nodes];
        }
        let most = self.clients.iter().map(|client| client.number + 1).max().unwrap_or(0);
        let mut actors: Vec<Box<dyn Actor>> = Vec::new();
        actors.resize_with(most, || Box::new(Absent));
        for client in &self.clients {
            actors[client.number] = self.actor(client, Rc::clone(&shared[client.home]));
        }
        (actors, shared)
    }

    fn actor(&self, client: &ClientPlan, shared: SharedRef) -> Box<dyn Actor> {
        let number = client.number;
        let load = Load {
            topics: (0..self.topics).map(|n| format!("topic-{n}")).collect(),
            partitions: self.partitions,
            pause: client.pause,
            records: self.records,
            bytes: self.bytes,
            operations: client.operations.unwrap_or(u64::MAX),
            cluster: if self.cluster.is_some() { self.nodes } else { 1 },
            gives_up: self.unrecoverable,
            rack: self.cluster.as_ref().and_then(|cluster| cluster.rack(number)),
        };
        match client.work {
            Work::Producer { acks } => Box::new(Producer::new(number, load, shared, acks)),
            Work::MachineProducer => Box::new(MachineProducer::new(number, load, shared)),
            Work::Reader { version, recorder } => {
                let age = self.node.retention_ms.map(|ms| ms * MILLISECOND);
                Box::new(Reader::new(number, load, shared, version, recorder, age))
            }
            Work::Passing => Box::new(Passing::new(load, shared)),
            Work::Stranger => Box::new(Stranger::new(client.pause)),
            Work::Watcher { group } => Box::new(Watcher::new(number, group, load, shared)),
            Work::DelayPurger => Box::new(Purger::sparing(number, later(&load), shared)),
            Work::Purger => Box::new(Purger::new(number, load, shared)),
            Work::Member { group, is_static } => {
                Box::new(Member::new(number, group, is_static, load, shared))
            }
            Work::MachineConsumer(habits) => {
                Box::new(MachineConsumer::new(number, load, shared, habits))
            }
            Work::Transactional(conduct) => {
                Box::new(Transactional::new(number, load, shared, conduct))
            }
            Work::CommittedReader { version } => {
                Box::new(CommittedReader::new(number, load, shared, version))
            }
            Work::Delayer { cancels } => {
                Box::new(Delayer::new(number, later(&load), shared, cancels))
            }
            Work::DelayReader { version, committed } => {
                let clocks = self.clock_error();
                let load = later(&load);
                Box::new(DelayReader::new(number, load, shared, version, committed, clocks))
            }
            Work::Alterer => Box::new(Alterer::new(number, later(&load), shared)),
            Work::Judge => Box::new(Judge::new(later(&load), shared, self.clock_error().1)),
            Work::Pipeline(making) => Box::new(Pipeline::new(number, load, shared, making)),
            Work::Churner { recorder } => {
                let names = (0..self.topics).map(|n| format!("churn-{n}")).collect();
                Box::new(Churner::new(number, names, shared, client.pause, recorder))
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), ScheduleError> {
        let Self { shards, topics, partitions, records, bytes, .. } = *self;
        let ranges = [
            ("nodes", self.nodes as u64, 1, 9),
            ("shards", u64::from(shards), 1, 64),
            ("topics", topics as u64, 1, 1_000),
            ("partitions", partitions as u64, 1, 1_000),
            ("min_in_sync", self.cluster.as_ref().map_or(1, |c| c.min_in_sync) as u64, 1, 9),
            ("records", records, 0, 1_000),
            ("bytes", bytes, 0, 20_000),
            ("drift_ppm", self.drift_ppm, 0, 500_000),
            ("heal_at", self.heal_at, 1, TIME_MAX),
            ("grace", self.grace, 1, TIME_MAX),
            ("node.journal_file_bytes", self.node.journal_file_bytes, 64 << 10, 1 << 30),
            ("node.journal_block_bytes", self.node.journal_block_bytes as u64, 8 << 10, 32 << 10),
            ("node.tail_cache_bytes", self.node.tail_cache_bytes, 0, 1 << 30),
            ("node.roll_ms", self.node.roll_ms, 1, 1 << 40),
            ("node.epoch_first", self.node.epoch_first.max(0) as u64, 0, 32_766),
            ("node.retention_ms", self.node.retention_ms.unwrap_or(1), 1, 1 << 40),
            ("node.rebalance_delay_ms", self.node.rebalance_delay_ms, 0, 1 << 30),
            ("net.window", self.net.window as u64, 1 << 10, 1 << 30),
            ("net.latency", self.net.latency, 0, SECOND),
            ("disk.latency", self.disk.latency, 0, SECOND),
            ("disk.flush_latency", self.disk.flush_latency, 0, SECOND),
            ("the number of clients", self.clients.len() as u64, 0, 10_000),
            ("the number of faults", self.faults.len() as u64, 0, 100_000),
        ];
        for (what, value, from, to) in ranges {
            if !(from..=to).contains(&value) {
                return Err(ScheduleError::range(what, value));
            }
        }
        check_sector(self.disk.sector)?;
        if let Some(ClusterPlan { lost, linger, .. }) = &self.cluster
            && (lost.iter().any(|node| *node >= self.nodes)
                || 2 * lost.len() >= self.nodes
                || *linger > self.grace)
        {
            return Err(ScheduleError::range("the cluster", format!("{lost:?}, {linger}")));
        }
        let mut numbers = BTreeSet::new();
        for ClientPlan { number, work, pause, home, .. } in &self.clients {
            if *home >= self.nodes {
                return Err(ScheduleError::range("the node of a client", home));
            }
            if *number >= 10_000 || !numbers.insert(*number) {
                return Err(ScheduleError::range("the number of a client", number));
            }
            if *pause > TIME_MAX {
                return Err(ScheduleError::range("the pause of a client", pause));
            }
            let in_range = match work {
                Work::Producer { acks } => matches!(acks, -1 | 1),
                Work::Reader { version, .. } => (4..=17).contains(version),
                Work::MachineConsumer(habits) => habits.restless <= 1_000,
                Work::CommittedReader { version } | Work::DelayReader { version, .. } => {
                    (5..=17).contains(version)
                }
                Work::Transactional(Conduct { version, timeout_ms, .. })
                | Work::Pipeline(Making { version, timeout_ms, .. }) => {
                    let most = TRANSACTION_TIMEOUT_MAX / MILLISECOND;
                    // Those who make records need three topics.
                    let is_making = matches!(work, Work::Pipeline(_));
                    matches!(version, 1 | 2)
                        && (1..=most).contains(timeout_ms)
                        && (topics >= 3 || !is_making)
                }
                Work::MachineProducer
                | Work::Passing
                | Work::Stranger
                | Work::Watcher { .. }
                | Work::Delayer { .. }
                | Work::DelayPurger
                | Work::Judge
                | Work::Alterer
                | Work::Purger
                | Work::Member { .. }
                | Work::Churner { .. } => true,
            };
            if !in_range {
                return Err(ScheduleError::range("the work of a client", format!("{work:?}")));
            }
        }
        let at = self.heal_at;
        let last = self.permanent.iter().map(|fault| Strike { at, fault: fault.clone() });
        self.faults.iter().cloned().chain(last).try_for_each(|strike| check_strike(&strike, self))
    }
}

/// Returns the load of who deals with what comes later, which has topics of its own.
fn later(load: &Load) -> Load {
    let topics = (0..load.topics.len()).map(|n| format!("later-{n}")).collect();
    Load { topics, ..load.clone() }
}

const TIME_MAX: u64 = 7 * 24 * 3_600 * SECOND;

pub(super) fn check_sector(sector: u64) -> Result<(), ScheduleError> {
    if matches!(sector, 512 | 4096) { Ok(()) } else { Err(ScheduleError::range("sector", sector)) }
}

/// Checks that there is such a node or client.
fn check_address(value: &Value, world: &WorldPlan) -> Result<(), ScheduleError> {
    let clients = world.clients.iter().map(|client| client.number as u64 + 1).max().unwrap_or(0);
    let most = [("node", world.nodes as u64), ("client", clients)];
    let is_there =
        |(kind, count): &(&str, u64)| value[kind].as_u64().is_some_and(|number| number < *count);
    if most.iter().any(is_there) { Ok(()) } else { Err(ScheduleError::range("an address", value)) }
}

/// Checks a fault by the names of its values, whatever its kind.
fn check_strike(strike: &Strike, world: &WorldPlan) -> Result<(), ScheduleError> {
    let Strike { at, fault } = strike;
    if *at > TIME_MAX {
        return Err(ScheduleError::range("the time of a fault", at));
    }
    let form = |error: serde_json::Error| ScheduleError::Form(error.to_string());
    let value = serde_json::to_value(fault).map_err(form)?;
    for (name, value) in value.as_object().into_iter().flatten() {
        let most: u64 = match (name.as_str(), value) {
            ("from" | "to", Value::Object(_)) => {
                check_address(value, world)?;
                continue;
            }
            ("nodes", Value::Array(nodes)) => {
                let there = |node: &Value| node.as_u64().is_some_and(|n| n < world.nodes as u64);
                if !nodes.iter().all(there) {
                    return Err(ScheduleError::range("the nodes of a fault", value));
                }
                continue;
            }
            ("bridge", _) if value.is_null() => continue,
            ("node" | "bridge", _) => world.nodes as u64 - 1,
            ("ppm", _) => 500_000,
            // Twenty years, in milliseconds.
            ("millis", _) => 20 * 365 * 24 * 3_600_000,
            (_, Value::Number(_)) => TIME_MAX,
            _ => continue,
        };
        if value.as_i64().is_none_or(|number| number.unsigned_abs() > most) {
            return Err(ScheduleError::range(format!("{name} of {}", fault.kind()), value));
        }
    }
    Ok(())
}
