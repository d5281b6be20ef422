//! The standard load, by which speed is measured: it draws little, so that figures can be compared.

use super::Scenario;
use crate::net::NetOptions;
use crate::rng::{Rng, Stream};
use crate::schedule::{ClientPlan, GRACE, NodePlan, Plan, Strike, Work, WorldPlan};
use crate::swarm;
use crate::workload::machine_consumer::Habits;
use crate::world::{Fault, MILLISECOND, SECOND};

/// Eight clients at a steady rate, and a crash every ten seconds.
pub const SCENARIO: Scenario = Scenario {
    name: "standard",
    about: "three shards, 8 clients, 16 partitions, 1,000 acknowledged records/s, a crash every 10 s",
    draw,
    floors: &[
        ("acks", 2_000_000),
        // Nine hundred for each of the 60 seconds.
        ("final-records", 5_400_000),
        ("reads", 300_000),
        ("final-logs", 1_600),
        ("starts", 600),
        ("kill", 150),
        ("power-cut", 150),
    ],
    armed: &[
        "I01", "I03", "I04", "I05", "I06", "I07", "I10", "I13", "I14", "I16", "I18", "I19", "I27",
        "I37", "I40", "I41", "L3", "T3",
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
/// The machine of core: about 150 records a second, up to 16 at a time.
const MACHINES: usize = 2;
const READERS: usize = 2;
/// The machine of core, in one group.
const MEMBERS: usize = 2;

fn draw(seed: u64) -> Plan {
    let mut rng = Rng::new(seed, Stream::Swarm);
    let node = NodePlan::draw(&mut rng, None, 0);
    let mut clients = Vec::new();
    let mut client = |work, pause| {
        clients.push(ClientPlan { number: clients.len(), work, pause, operations: None, home: 0 });
    };
    for _ in 0..BY_HAND {
        client(Work::Producer { acks: -1 }, 18 * MILLISECOND);
    }
    for _ in 0..MACHINES {
        client(Work::MachineProducer, 56 * MILLISECOND);
    }
    for nth in 0..READERS {
        client(Work::Reader { version: 17, recorder: nth == 0 }, 0);
    }
    for _ in 0..MEMBERS {
        let habits = Habits {
            group: 0,
            cooperative: true,
            auto_commit: true,
            prefetch: 64 << 10,
            restless: 0,
        };
        client(Work::MachineConsumer(habits), MILLISECOND);
    }
    Plan::World(Box::new(WorldPlan {
        cluster: None,
        nodes: 1,
        unrecoverable: false,
        permanent: Vec::new(),
        shards: SHARDS,
        topics: TOPICS,
        partitions: PARTITIONS,
        records: 16,
        bytes: 100,
        node,
        disk: swarm::disk(&mut rng),
        net: NetOptions {
            latency: rng.between(20_000, 3_000_000),
            window: 1 << 20,
            split: 50,
            reset: 0,
            half_open: 0,
            lingering: 0,
        },
        drift_ppm: rng.below(500),
        heal_at: TIME,
        grace: GRACE,
        clients,
        faults: crashes(&mut Rng::new(seed, Stream::Faults)),
    }))
}

/// Draws what each crash is like.
fn crashes(rng: &mut Rng) -> Vec<Strike> {
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
            Strike { at, fault: crash }
        })
        .collect()
}
