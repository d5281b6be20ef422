//! One node with consumer groups: members that come, go, die, sleep and lie, under crashes, power cuts and
//! cut connections.

use super::Scenario;
use crate::rng::{Rng, Stream};
use crate::schedule::{ClientPlan, GRACE, NodePlan, Plan, Work, WorldPlan};
use crate::swarm::{self, Kind, Scope};
use crate::workload::machine_consumer::Habits;
use crate::world::{DiskTrouble, MILLISECOND, SECOND};

/// Consumer groups.
pub const SCENARIO: Scenario = Scenario {
    name: "groups",
    about: "consumer groups of up to 100 members that come, go, die and lie, on a node that crashes",
    draw,
    floors: &[
        ("assignments", 2_000),
        ("reads", 5_000),
        ("commits", 10_000),
        ("commits-refused", 100),
        ("committed-told", 2_000),
        ("members-at-rest", 300),
        ("kill", 100),
        ("power-cut", 100),
        ("starts", 300),
    ],
    armed: &[
        "I03", "I06", "I07", "I10", "I25", "I26", "I27", "I28", "I37", "I40", "I41", "L6", "T3",
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
    Kind::CrashInRecovery,
    Kind::StopKilled,
    Kind::Link,
    Kind::Flap,
    Kind::Disk(DiskTrouble::Exhausted),
];

fn draw(seed: u64) -> Plan {
    let mut rng = Rng::new(seed, Stream::Swarm);
    let shards = if rng.chance(500) { 1 } else { 3 };
    let partitions = rng.between(1, 6) as i32;
    let topics = rng.between(1, 2) as usize;
    let pause = rng.between(100, 1_000) * MILLISECOND;
    let time = rng.between(20, 60) * SECOND;
    let delay = [0, 500, 3_000][rng.index(3)];
    let node = NodePlan::draw(&mut rng, None, delay);
    let mut clients = Vec::new();
    // A crowd now and then; most groups are of a few.
    let most = if rng.chance(60) { 100 } else { 8 };
    for group in 0..rng.between(1, 3) as u32 {
        for _ in 0..rng.between(1, most) {
            let work = Work::Member { group, is_static: rng.chance(200) };
            clients.push(ClientPlan {
                number: clients.len(),
                work,
                pause,
                operations: None,
                home: 0,
            });
        }
    }
    if rng.chance(500) {
        machines(&mut rng, &mut clients);
    }
    let scope = Scope { nodes: 1, clients: clients.len() };
    if Rng::new(seed, Stream::Added).chance(500) {
        let (number, pause) = (clients.len(), 30 * MILLISECOND);
        let work = Work::Watcher { group: 0 };
        clients.push(ClientPlan { number, work, pause, operations: None, home: 0 });
    }
    Plan::World(Box::new(WorldPlan {
        cluster: None,
        nodes: 1,
        unrecoverable: false,
        permanent: Vec::new(),
        shards,
        topics,
        partitions,
        records: 4,
        bytes: 60,
        node,
        disk: swarm::disk(&mut rng),
        net: swarm::net(&mut rng),
        drift_ppm: rng.below(500),
        heal_at: time,
        grace: GRACE,
        clients,
        faults: swarm::faults(&mut Rng::new(seed, Stream::Faults), KINDS, scope, time),
    }))
}

/// Adds groups of the consumer that ships, with records for it to read.
fn machines(rng: &mut Rng, clients: &mut Vec<ClientPlan>) {
    let pause = rng.between(20, 200) * MILLISECOND;
    let mut client = |work, operations| {
        clients.push(ClientPlan { number: clients.len(), work, pause, operations, home: 0 });
    };
    client(Work::Producer { acks: -1 }, Some(400));
    client(Work::Reader { version: 17, recorder: true }, None);
    for group in 100..100 + rng.between(1, 2) as u32 {
        let habits = Habits {
            group,
            cooperative: rng.chance(500),
            auto_commit: rng.chance(500),
            prefetch: [0, 2_000, 100_000][rng.index(3)],
            restless: [0, 5, 30][rng.index(3)],
        };
        for _ in 0..rng.between(1, 4) {
            client(Work::MachineConsumer(habits), None);
        }
    }
}
