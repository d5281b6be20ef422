//! The standard load, by which speed is measured: it draws little, so that figures can be compared.

use std::rc::Rc;

use super::broker::{factory, node_config};
use super::{RunOptions, Scenario};
use crate::checkers;
use crate::net::NetOptions;
use crate::rng::{Rng, Stream};
use crate::swarm;
use crate::workload::machine_producer::MachineProducer;
use crate::workload::member::Member;
use crate::workload::producer::Producer;
use crate::workload::reader::Reader;
use crate::workload::{Load, Shared, SharedRef};
use crate::world::{Actor, Fault, MILLISECOND, Outcome, SECOND, World, WorldOptions};

/// Eight clients at a steady rate, and a crash every ten seconds.
pub const SCENARIO: Scenario = Scenario {
    name: "standard",
    about: "three shards, 8 clients, 16 partitions, 1,000 acknowledged records/s, a crash every 10 s",
    run,
    floors: &[
        ("acks", 2_000_000),
        // Nine hundred for each of the 60 seconds.
        ("final-records", 5_400_000),
        ("reads", 300_000),
        ("final-logs", 1_600),
        ("commits", 80_000),
        ("members-at-rest", 100),
        ("starts", 600),
        ("kill", 150),
        ("power-cut", 150),
    ],
    armed: &[
        "I01", "I03", "I04", "I05", "I06", "I07", "I10", "I13", "I14", "I16", "I18", "I19", "I25",
        "I26", "I27", "I28", "I40", "I41", "L3", "L6",
    ],
};

const SHARDS: u16 = 3;
const TOPICS: usize = 4;
const PARTITIONS: i32 = 4;
/// How long clients work before they are told to finish.
const TIME: u64 = 60 * SECOND;
const CRASH_EVERY: u64 = 10 * SECOND;

/// Producers that speak the wire by hand: about 350 records a second, 8.5 in a batch.
const BY_HAND: usize = 2;
/// The machine of core: about 150 records a second, mostly each in a batch of its own.
const MACHINES: usize = 2;
const READERS: usize = 2;
/// In one group.
const MEMBERS: usize = 2;

fn run(options: RunOptions) -> Outcome {
    let mut rng = Rng::new(options.seed, Stream::Swarm);
    let config = node_config(&mut rng, SHARDS, PARTITIONS, None, 0);
    let shared: SharedRef = Rc::<std::cell::RefCell<Shared>>::default();
    let load = Load {
        topics: (0..TOPICS).map(|n| format!("topic-{n}")).collect(),
        partitions: PARTITIONS,
        pause: 18 * MILLISECOND,
        records: 16,
        bytes: 100,
        sends: u64::MAX,
    };
    let mut actors: Vec<Box<dyn Actor>> = Vec::new();
    for _ in 0..BY_HAND {
        let client = actors.len();
        actors.push(Box::new(Producer::new(client, load.clone(), Rc::clone(&shared), -1)));
    }
    let singly = Load { pause: 6_600_000, ..load.clone() };
    for _ in 0..MACHINES {
        let client = actors.len();
        actors.push(Box::new(MachineProducer::new(client, singly.clone(), Rc::clone(&shared))));
    }
    for nth in 0..READERS {
        let client = actors.len();
        let (load, shared) = (load.clone(), Rc::clone(&shared));
        actors.push(Box::new(Reader::new(client, load, shared, 17, nth == 0, None)));
    }
    let at_ease = Load { pause: 200 * MILLISECOND, ..load };
    for _ in 0..MEMBERS {
        let (client, load, shared) = (actors.len(), at_ease.clone(), Rc::clone(&shared));
        actors.push(Box::new(Member::new(client, 0, false, load, shared)));
    }
    let world = WorldOptions {
        seed: options.seed,
        nodes: 1,
        shards: SHARDS,
        disk: swarm::disk(&mut rng),
        net: NetOptions {
            latency: rng.between(20_000, 3_000_000),
            window: 1 << 20,
            split: 50,
            reset: 0,
            half_open: 0,
        },
        drift_ppm: rng.below(500),
        faults: crashes(&mut Rng::new(options.seed, Stream::Faults)),
        heal_at: TIME,
        grace: 200 * SECOND,
        keep_lines: options.keep_lines,
        until: options.until,
    };
    World::new(world, factory(config), actors, checkers::all()).run()
}

/// Draws what each crash is like.
fn crashes(rng: &mut Rng) -> Vec<(u64, Fault)> {
    (CRASH_EVERY / 2..TIME)
        .step_by(CRASH_EVERY as usize)
        .map(|at| {
            let (node, effects) = (0, rng.exponential(20) as u32);
            let down = rng.exponential(200 * MILLISECOND);
            let crash = if rng.chance(500) {
                Fault::Kill { node, effects, down }
            } else {
                Fault::PowerCut { node, effects, down }
            };
            (at, crash)
        })
        .collect()
}
