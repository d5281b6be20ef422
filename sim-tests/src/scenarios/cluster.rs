//! Three or five nodes that are one cluster, with producers, readers and members of groups, under faults of
//! nodes and of the ways between them.

use super::Scenario;
use crate::rng::{Rng, Stream};
use crate::schedule::{
    ClientPlan, ClusterPlan, GRACE, NodePlan, Plan, SnapshotPlan, Work, WorldPlan,
};
use crate::swarm::{self, Among, Kind, Scope};
use crate::workload::machine_consumer::Habits;
use crate::world::{MILLISECOND, SECOND};

/// The scenario.
pub const SCENARIO: Scenario = Scenario {
    name: "cluster",
    about: "three or five nodes as one cluster under deaths, parted networks and clocks",
    draw,
    floors: &[
        ("acks", 5_000),
        ("reads", 3_000),
        ("final-logs", 100),
        ("starts", 300),
        ("kill", 100),
        ("power-cut", 100),
        ("part", 30),
        ("one-way-part", 10),
        ("isolation", 50),
        ("bridge", 20),
        ("kill-together", 10),
        ("power-cut-together", 10),
        ("link-cut", 100),
        ("pause", 20),
        ("wipe", 10),
        ("FollowerRead", 500),
        ("SnapshotWritten", 300),
        ("SnapshotLoaded", 100),
        ("SnapshotInstalled", 8),
    ],
    armed: &[
        "I01", "I01R", "I02", "I03", "I04", "I05", "I06R", "I07", "I08", "I09", "I10", "I10R",
        "I11", "I12", "I13", "I14", "I16", "I17", "I18", "I19", "I37", "I38", "I40", "I41", "L1",
        "L1C", "L2", "L3", "L4",
    ],
};

const KINDS: &[Kind] = &[
    Kind::Kill,
    Kind::Kill,
    Kind::PowerCut,
    Kind::PowerCut,
    Kind::Stop,
    Kind::Pause,
    Kind::Suspend,
    Kind::WallJump,
    Kind::Drift,
    Kind::ResetStreams,
    Kind::Cut,
    Kind::Link,
    Kind::Storm,
    Kind::CrashInRecovery,
    Kind::CrashLoop,
    Kind::Wipe,
    Kind::SlowDisk,
    Kind::Among(Among::Part),
    Kind::Among(Among::Isolate),
    Kind::Among(Among::Isolate),
    Kind::Among(Among::Bridge),
    Kind::Among(Among::Flap),
    Kind::Among(Among::Swizzle),
    Kind::Among(Among::Links),
    Kind::Among(Among::Links),
    Kind::Among(Among::KillAll),
    Kind::Among(Among::PowerAll),
    Kind::Among(Among::KillMajority),
    Kind::Among(Among::LongPause),
];

/// Most sends of a producer.
const SENDS: u64 = 1_000;
/// How many replicas a topic has that asks for no number.
const REPLICAS: usize = 3;
/// How many of them must have what is acknowledged. So many may be lost for good that as many are left.
const MIN: usize = 2;
/// By then all nodes know each other if nothing strikes them.
const FORMED: u64 = 3 * SECOND;
/// How long a healed cluster goes on: replicas must be alike a minute later.
const LINGER: u64 = 65 * SECOND;

pub(super) fn draw(seed: u64) -> Plan {
    draw_on(seed, &[3, 3, 5], &[])
}

/// Draws one of these numbers of nodes, and from more kinds of faults.
pub(super) fn draw_on(seed: u64, sizes: &[usize], more: &[Kind]) -> Plan {
    let mut rng = Rng::new(seed, Stream::Swarm);
    let nodes = sizes[rng.index(sizes.len())];
    let shards = if rng.chance(700) { 1 } else { 3 };
    let pause = rng.between(5, 60) * MILLISECOND;
    let time = rng.between(8, 20) * SECOND;
    let node = NodePlan::draw(&mut rng, None, 0);
    let mut clients = Vec::new();
    let mut client = |work, pause, operations| {
        let home = clients.len() % nodes;
        clients.push(ClientPlan { number: clients.len(), work, pause, operations, home });
    };
    client(Work::Producer { acks: -1 }, pause, Some(SENDS));
    client(Work::Reader { version: [11, 12, 13, 17][rng.index(4)], recorder: true }, 0, None);
    if rng.chance(700) {
        client(Work::MachineProducer, pause, Some(SENDS));
    }
    for _ in 0..rng.below(3) {
        let version = [11, 12, 13, 17][rng.index(4)];
        client(Work::Reader { version, recorder: false }, 10 * MILLISECOND, None);
    }
    // A group that loses what it would have read next passes over it, and rightly.
    if rng.chance(300) {
        client(Work::Purger, [500, 2_000][rng.index(2)] * MILLISECOND, None);
    } else if rng.chance(500) {
        for _ in 0..2 {
            let habits = Habits {
                group: 0,
                cooperative: true,
                auto_commit: rng.chance(500),
                prefetch: 64 << 10,
                restless: 0,
            };
            client(Work::MachineConsumer(habits), 10 * MILLISECOND, None);
        }
    }
    let scope = Scope { nodes, clients: clients.len() };
    let kinds = [KINDS, more].concat();
    let mut faults = swarm::faults(&mut Rng::new(seed, Stream::Faults), &kinds, scope, time);
    let (mut lost, mut permanent) = swarm::minority(&mut rng, nodes, REPLICAS - MIN);
    if rng.chance(300) {
        // While the cluster forms nobody is there yet who could be done without.
        (lost, permanent) = (Vec::new(), Vec::new());
    } else {
        faults.retain(|strike| strike.at > FORMED);
    }
    let racks = [0, 0, 2, 3][Rng::new(seed, Stream::Added).index(4)];
    let cluster = ClusterPlan { min_in_sync: MIN, lost, linger: LINGER, racks };
    let mut plan = WorldPlan {
        nodes,
        cluster: Some(cluster),
        shards,
        topics: rng.between(1, 2) as usize,
        partitions: rng.between(1, 3) as i32,
        records: rng.between(1, 6),
        bytes: [20, 200, 1_000][rng.index(3)],
        node,
        disk: swarm::disk(&mut rng),
        net: swarm::net(&mut rng),
        drift_ppm: rng.below(500),
        heal_at: time,
        grace: GRACE,
        clients,
        faults,
        unrecoverable: false,
        permanent,
    };
    plan.node.snapshots = SnapshotPlan::draw(&mut rng, [300, 1_500, 6_000]);
    Plan::World(Box::new(plan))
}
