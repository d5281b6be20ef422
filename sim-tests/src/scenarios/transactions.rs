//! Producers with transactional ids, groups that make records of records, and readers of committed records: on one
//! node, and in a cluster.

use super::{Scenario, cluster};
use crate::rng::{Rng, Stream};
use crate::schedule::{ClientPlan, GRACE, NodePlan, Plan, Work, WorldPlan};
use crate::swarm::{self, Kind, Scope};
use crate::workload::pipeline::Making;
use crate::workload::transactional::Conduct;
use crate::world::{DiskTrouble, MILLISECOND, SECOND};

/// One node.
pub const SCENARIO: Scenario = Scenario {
    name: "transactions",
    about: "transactions that commit, abort, time out and fence each other, on a node that crashes",
    draw,
    floors: &[
        ("acks", 10_000),
        ("transactions-committed", 3_000),
        ("transactions-aborted", 700),
        ("transactions-left", 80),
        ("producers-fenced", 150),
        ("TransactionTimedOut", 50),
        ("TransactionFenced", 150),
        ("committed-reads", 5_000),
        ("inputs-taken", 2_000),
        ("stable-told", 300),
        ("pipelines-read", 60),
        ("kill", 100),
        ("power-cut", 100),
        ("starts", 300),
    ],
    armed: ARMED,
};

/// A cluster.
pub const CLUSTER: Scenario = Scenario {
    name: "cluster-transactions",
    about: "transactions in a cluster of three or five nodes under deaths and parted networks",
    draw: draw_cluster,
    floors: &[
        ("acks", 5_000),
        ("transactions-committed", 1_000),
        ("transactions-aborted", 300),
        ("producers-fenced", 100),
        ("TransactionTimedOut", 60),
        ("committed-reads", 3_000),
        ("inputs-taken", 500),
        ("kill", 100),
        ("power-cut", 100),
        ("starts", 300),
    ],
    armed: ARMED,
};

/// Five nodes.
pub const WIDE: Scenario = Scenario {
    name: "wide-transactions",
    about: "transactions on five nodes that purge and delete, with epochs that end and full disks",
    draw: draw_wide,
    floors: &[
        ("acks", 5_000),
        ("transactions-committed", 1_000),
        ("transactions-aborted", 300),
        ("producers-fenced", 100),
        ("TransactionTimedOut", 60),
        ("ProducerEpochsUsedUp", 20),
        ("LateMarkerRefused", 1),
        ("lingering", 20),
        ("topics-deleted", 50),
        ("purges", 30),
        ("disk-full", 20),
        ("committed-reads", 3_000),
        ("inputs-taken", 300),
        ("kill", 100),
        ("power-cut", 100),
        ("part", 20),
        ("isolation", 30),
        ("pause", 20),
        ("wall-jump", 10),
        ("starts", 300),
    ],
    armed: ARMED,
};

const ARMED: &[&str] = &[
    "I01", "I03", "I04", "I05", "I07", "I13", "I14", "I18", "I19", "I19C", "I20", "I21", "I22",
    "I23", "I24", "I24O", "I37", "I40", "I41", "L1", "L3", "L5",
];

const KINDS: &[Kind] = &[
    Kind::Kill,
    Kind::Kill,
    Kind::PowerCut,
    Kind::PowerCut,
    Kind::Stop,
    Kind::StopKilled,
    Kind::Pause,
    Kind::Suspend,
    Kind::WallJump,
    Kind::Drift,
    Kind::ResetStreams,
    Kind::Cut,
    Kind::SlowDisk,
    Kind::Storm,
    Kind::CrashInRecovery,
    Kind::Link,
    Kind::Link,
    Kind::Flap,
    Kind::Disk(DiskTrouble::Exhausted),
];

/// The last epoch that a producer is given.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// Topics: two that groups read, and one where what they make ends.
const TOPICS: usize = 3;

/// Draws who takes part, for some nodes.
fn clients(rng: &mut Rng, nodes: usize) -> Vec<ClientPlan> {
    let mut clients = Vec::new();
    let pause = rng.between(5, 200) * MILLISECOND;
    let mut client = |work, pause, operations| {
        let home = clients.len() % nodes;
        clients.push(ClientPlan { number: clients.len(), work, pause, operations, home });
    };
    client(Work::Reader { version: 17, recorder: true }, 0, Some(200));
    for _ in 0..rng.between(1, 2) {
        let version = [5, 11, 12, 13, 17][rng.index(5)];
        client(Work::CommittedReader { version }, 20 * MILLISECOND, None);
    }
    // Two of them have one name at times.
    let names = rng.between(1, 3) as u32;
    let late = if rng.chance(500) { 30 } else { 0 };
    let restless = [0, 50, 200][rng.index(3)];
    for nth in 0..rng.between(1, 4) as u32 {
        let version = if rng.chance(600) { 2 } else { 1 };
        let conduct = Conduct {
            name: nth % names,
            version,
            timeout_ms: [1_000, 3_000, 10_000][rng.index(3)],
            aborts: [0, 100, 500][rng.index(3)],
            restless,
            late,
            passing: 0,
        };
        client(Work::Transactional(conduct), pause, Some(500));
    }
    if rng.chance(400) {
        client(Work::MachineProducer, 4 * pause, Some(200));
    }
    if rng.chance(600) {
        let restless = [0, 50, 200][rng.index(3)];
        for group in 0..rng.between(1, 2) as u32 {
            for _ in 0..rng.between(1, 3) {
                let making = Making {
                    group,
                    version: if rng.chance(600) { 2 } else { 1 },
                    timeout_ms: [1_000, 3_000, 10_000][rng.index(3)],
                    restless,
                    // It says less, and each word counts.
                    late: 4 * late,
                };
                client(Work::Pipeline(making), pause, None);
            }
        }
    }
    clients
}

fn draw(seed: u64) -> Plan {
    let mut rng = Rng::new(seed, Stream::Swarm);
    let shards = if rng.chance(500) { 1 } else { 3 };
    let partitions = rng.between(1, 3) as i32;
    let time = rng.between(8, 30) * SECOND;
    let node = NodePlan::draw(&mut rng, None, 0);
    let clients = clients(&mut rng, 1);
    let scope = Scope { nodes: 1, clients: clients.len() };
    Plan::World(Box::new(WorldPlan {
        cluster: None,
        nodes: 1,
        unrecoverable: false,
        permanent: Vec::new(),
        shards,
        topics: TOPICS,
        partitions,
        records: rng.between(1, 6),
        bytes: [20, 200, 1_000][rng.index(3)],
        node,
        disk: swarm::disk(&mut rng),
        net: swarm::net(&mut rng),
        drift_ppm: rng.below(500),
        heal_at: time,
        // Pipelines behind one another, with transactions that time out, need long for what piled up.
        grace: 3 * GRACE,
        clients,
        faults: swarm::faults(&mut Rng::new(seed, Stream::Faults), KINDS, scope, time),
    }))
}

/// The nodes, networks and faults of `cluster`, with other clients.
fn draw_cluster(seed: u64) -> Plan {
    let mut plan = cluster::draw(seed);
    if let Plan::World(world) = &mut plan {
        let mut rng = Rng::new(seed, Stream::Swarm).child(1);
        world.clients = clients(&mut rng, world.nodes);
        world.topics = TOPICS;
        world.net.lingering = if rng.chance(500) { 300 } else { 0 };
    }
    plan
}

/// Five nodes whose disks are full at times, of topics that are purged or go altogether, and of producers that
/// are near the end of their epochs.
fn draw_wide(seed: u64) -> Plan {
    let mut plan = cluster::draw_on(seed, &[5], &[Kind::DiskFull]);
    if let Plan::World(world) = &mut plan {
        let mut rng = Rng::new(seed, Stream::Swarm).child(2);
        world.clients = clients(&mut rng, world.nodes);
        world.topics = TOPICS;
        world.net.lingering = if rng.chance(500) { 300 } else { 0 };
        if rng.chance(500) {
            world.node.epoch_first = LAST_EPOCH - rng.below(20) as i16;
        }
        let (nodes, is_making) = (world.nodes, world.clients.iter().any(is_pipeline));
        let client = |clients: &mut Vec<ClientPlan>, work, pause| {
            let home = clients.len() % nodes;
            clients.push(ClientPlan { number: clients.len(), work, pause, operations: None, home });
        };
        if rng.chance(500) {
            for other in &mut world.clients {
                if let Work::Transactional(conduct) = &mut other.work {
                    conduct.passing = 100;
                }
            }
            let pause = [500, 3_000][rng.index(2)] * MILLISECOND;
            client(&mut world.clients, Work::Passing, pause);
        }
        // Whoever makes records of records passes over what has gone, and rightly.
        if !is_making && rng.chance(500) {
            let pause = [500, 2_000][rng.index(2)] * MILLISECOND;
            client(&mut world.clients, Work::Purger, pause);
        }
    }
    plan
}

const fn is_pipeline(client: &ClientPlan) -> bool {
    matches!(client.work, Work::Pipeline(_))
}
