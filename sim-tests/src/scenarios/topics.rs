//! One node whose topics are made, used, deleted and made again under load and faults.

use super::Scenario;
use crate::rng::{Rng, Stream};
use crate::schedule::{ClientPlan, GRACE, NodePlan, Plan, SnapshotPlan, Work, WorldPlan};
use crate::swarm::{self, Kind, Scope};
use crate::world::{MILLISECOND, SECOND};

/// Topics that come and go.
pub const SCENARIO: Scenario = Scenario {
    name: "topics",
    about: "topics that are made, deleted and made again under load, on a node that crashes",
    draw,
    floors: &[
        ("acks", 10_000),
        ("reads", 5_000),
        ("topics-made", 1_000),
        ("topics-deleted", 500),
        ("offsets-stored", 1_000),
        ("final-logs", 200),
        ("kill", 50),
        ("power-cut", 50),
        ("starts", 200),
        ("SnapshotWritten", 300),
        ("SnapshotLoaded", 50),
    ],
    armed: &[
        "I01", "I03", "I04", "I05", "I06", "I07", "I10", "I13", "I14", "I16", "I37", "I41", "T1",
        "T2",
    ],
};

const KINDS: &[Kind] = &[
    Kind::Kill,
    Kind::Kill,
    Kind::PowerCut,
    Kind::PowerCut,
    Kind::Stop,
    Kind::Pause,
    Kind::WallJump,
    Kind::ResetStreams,
    Kind::Cut,
    Kind::SlowDisk,
];

fn draw(seed: u64) -> Plan {
    let mut rng = Rng::new(seed, Stream::Swarm);
    let shards = if rng.chance(500) { 1 } else { 3 };
    let time = rng.between(6, 15) * SECOND;
    let node = NodePlan::draw(&mut rng, None, 0);
    let topics = rng.between(1, 4) as usize;
    let mut clients = Vec::new();
    let mut client = |work, pause, operations| {
        clients.push(ClientPlan { number: clients.len(), work, pause, operations, home: 0 });
    };
    for nth in 0..rng.between(2, 5) {
        let pause = rng.between(3, 40) * MILLISECOND;
        client(Work::Churner { recorder: nth == 0 }, pause, None);
    }
    // Topics that stay, whose clients must not notice.
    client(Work::Producer { acks: -1 }, rng.between(5, 40) * MILLISECOND, Some(2_000));
    client(Work::Reader { version: 17, recorder: true }, 0, None);
    let scope = Scope { nodes: 1, clients: clients.len() };
    let mut plan = WorldPlan {
        cluster: None,
        nodes: 1,
        unrecoverable: false,
        permanent: Vec::new(),
        shards,
        topics,
        partitions: 1,
        records: 4,
        bytes: 100,
        node,
        disk: swarm::disk(&mut rng),
        net: swarm::net(&mut rng),
        drift_ppm: rng.below(500),
        heal_at: time,
        grace: GRACE,
        clients,
        faults: swarm::faults(&mut Rng::new(seed, Stream::Faults), KINDS, scope, time),
    };
    plan.node.snapshots = SnapshotPlan::draw(&mut rng, [300, 1_500, 6_000]);
    Plan::World(Box::new(plan))
}
