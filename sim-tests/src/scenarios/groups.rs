//! One node with consumer groups: members that come, go, die, sleep and lie, under crashes, power cuts and
//! cut connections.

use std::rc::Rc;

use super::broker::{factory, node_config};
use super::{RunOptions, Scenario};
use crate::checkers;
use crate::rng::{Rng, Stream};
use crate::swarm::{self, Kind};
use crate::workload::member::Member;
use crate::workload::{Load, Shared, SharedRef};
use crate::world::{Actor, MILLISECOND, Outcome, SECOND, World, WorldOptions};

/// Consumer groups.
pub const SCENARIO: Scenario = Scenario {
    name: "groups",
    about: "consumer groups of up to 100 members that come, go, die and lie, on a node that crashes",
    run,
    floors: &[
        ("assignments", 2_000),
        ("commits", 10_000),
        ("commits-refused", 100),
        ("committed-told", 2_000),
        ("members-at-rest", 300),
        ("kill", 100),
        ("power-cut", 100),
        ("starts", 300),
    ],
    armed: &["I25", "I26", "I27", "I28", "I40", "I41", "L6"],
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

fn run(options: RunOptions) -> Outcome {
    let mut rng = Rng::new(options.seed, Stream::Swarm);
    let shards = if rng.chance(500) { 1 } else { 3 };
    let partitions = rng.between(1, 6) as i32;
    let load = Load {
        topics: (0..rng.between(1, 2)).map(|n| format!("topic-{n}")).collect(),
        partitions,
        pause: rng.between(100, 1_000) * MILLISECOND,
        records: 0,
        bytes: 0,
        sends: 0,
    };
    let time = rng.between(20, 60) * SECOND;
    let delay = [0, 500, 3_000][rng.index(3)];
    let config = node_config(&mut rng, shards, partitions, None, delay);
    let shared: SharedRef = Rc::<std::cell::RefCell<Shared>>::default();
    let mut actors: Vec<Box<dyn Actor>> = Vec::new();
    // A crowd now and then; most groups are of a few.
    let most = if rng.chance(60) { 100 } else { 8 };
    for group in 0..rng.between(1, 3) as u32 {
        for _ in 0..rng.between(1, most) {
            let (client, is_static) = (actors.len(), rng.chance(200));
            let (load, shared) = (load.clone(), Rc::clone(&shared));
            actors.push(Box::new(Member::new(client, group, is_static, load, shared)));
        }
    }
    let world = WorldOptions {
        seed: options.seed,
        nodes: 1,
        shards,
        disk: swarm::disk(&mut rng),
        net: swarm::net(&mut rng),
        drift_ppm: rng.below(500),
        faults: swarm::faults(&mut Rng::new(options.seed, Stream::Faults), KINDS, time),
        heal_at: time,
        grace: 200 * SECOND,
        keep_lines: options.keep_lines,
        until: options.until,
    };
    World::new(world, factory(config), actors, checkers::all()).run()
}
