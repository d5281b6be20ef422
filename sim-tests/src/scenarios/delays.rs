//! Records that come later, cancels of them, and readers of what they see: on one node, and in a cluster.

use super::{Scenario, cluster};
use crate::rng::{Rng, Stream};
use crate::schedule::{ClientPlan, GRACE, NodePlan, Plan, Work, WorldPlan};
use crate::swarm::{self, Kind, Scope};
use crate::world::{DiskTrouble, Fault, MILLISECOND, SECOND};

/// One node.
pub const SCENARIO: Scenario = Scenario {
    name: "delays",
    about: "records that come later, and cancels of them, on a node that crashes and whose clocks err",
    draw,
    floors: FLOORS,
    armed: ARMED,
};

/// A cluster.
pub const CLUSTER: Scenario = Scenario {
    name: "cluster-delays",
    about: "records that come later in a cluster of three or five nodes under deaths and parted networks",
    draw: draw_cluster,
    floors: FLOORS,
    armed: ARMED,
};

const FLOORS: &[(&str, u64)] = &[
    ("entries-taken", 3_000),
    ("entries-came", 3_000),
    ("cancels", 200),
    ("cancels-refused", 100),
    ("moves", 100),
    ("moves-refused", 30),
    ("sent-again", 200),
    ("verdicts", 100),
    ("verdicts-refused", 30),
    ("questions", 100),
    ("halves-parked", 30),
    ("waits-listed", 50),
    ("recurred", 300),
    ("purges", 100),
    ("viewed-whole", 100),
    ("kill", 100),
    ("power-cut", 100),
    ("starts", 300),
];

const ARMED: &[&str] = &[
    "I13", "I32", "I33", "I34", "I35", "I36", "I37L", "F02", "F10", "F14", "F19", "I40", "I41",
    "L1", "L3",
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
    Kind::Flap,
    Kind::Disk(DiskTrouble::Exhausted),
];

/// Draws who takes part, for some nodes.
fn clients(rng: &mut Rng, nodes: usize) -> Vec<ClientPlan> {
    let mut clients = Vec::new();
    let pause = rng.between(5, 200) * MILLISECOND;
    let mut client = |work, pause, operations| {
        let home = clients.len() % nodes;
        clients.push(ClientPlan { number: clients.len(), work, pause, operations, home });
    };
    client(Work::Reader { version: 17, recorder: true }, 0, Some(50));
    for committed in [false, true] {
        let version = [5, 11, 12, 13, 17][rng.index(5)];
        client(Work::DelayReader { version, committed }, 20 * MILLISECOND, None);
    }
    for _ in 0..rng.between(1, 3) {
        client(Work::Delayer { cancels: false }, pause, Some(400));
    }
    for _ in 0..rng.between(0, 2) {
        client(Work::Delayer { cancels: true }, 2 * pause, Some(200));
    }
    if rng.chance(500) {
        client(Work::DelayPurger, 300 * MILLISECOND, None);
    }
    if rng.chance(500) {
        client(Work::Alterer, 2 * pause, Some(200));
    }
    // Where nobody is asked, the topic of the questions is missing.
    if rng.chance(800) {
        client(Work::Judge, 50 * MILLISECOND, None);
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
    // Where clocks are sound, nothing may come early by a millisecond.
    let is_sound = rng.chance(500);
    let errs = |kind: &Kind| matches!(kind, Kind::WallJump | Kind::Drift | Kind::Suspend);
    let mut chance = Rng::new(seed, Stream::Faults).child(1);
    let kinds: Vec<Kind> = KINDS.iter().copied().filter(|kind| !is_sound || !errs(kind)).collect();
    let mut plan = WorldPlan {
        cluster: None,
        nodes: 1,
        unrecoverable: false,
        permanent: Vec::new(),
        shards,
        topics: 1,
        partitions,
        records: rng.between(1, 6),
        bytes: [20, 200, 1_000][rng.index(3)],
        node,
        disk: swarm::disk(&mut rng),
        net: swarm::net(&mut rng),
        drift_ppm: if is_sound { 0 } else { rng.below(500) },
        heal_at: time,
        grace: GRACE,
        clients,
        faults: swarm::faults(&mut Rng::new(seed, Stream::Faults), &kinds, scope, time),
    };
    bound_clocks(&mut plan, &mut chance);
    Plan::World(Box::new(plan))
}

/// Keeps wall clocks so near the truth that all which waits by them comes before the run ends. They stay wrong when
/// all else is healed.
fn bound_clocks(plan: &mut WorldPlan, rng: &mut Rng) {
    // What leaps further than a minute is doubted for a while.
    let most = if rng.chance(300) { 75_000 } else { 10_000 };
    let faults = plan.faults.iter_mut().map(|strike| &mut strike.fault);
    for fault in faults.chain(&mut plan.permanent) {
        match fault {
            Fault::WallJump { millis, .. } => *millis = (*millis).clamp(-most, most),
            Fault::Drift { ppm, .. } => *ppm = (*ppm).clamp(-2_000, 2_000),
            _ => {}
        }
    }
    plan.grace = 3 * GRACE;
}

/// The nodes, networks and faults of `cluster`, with other clients.
fn draw_cluster(seed: u64) -> Plan {
    let mut plan = cluster::draw(seed);
    if let Plan::World(world) = &mut plan {
        let mut rng = Rng::new(seed, Stream::Swarm).child(1);
        world.clients = clients(&mut rng, world.nodes);
        world.topics = 1;
        bound_clocks(world, &mut rng);
    }
    plan
}
