//! One node of one or three shards, with producers and readers, under faults: `log` and
//! `disk-full`.

use std::sync::Arc;

use mainspring_core::broker::Shard;
use mainspring_core::config::{NodeConfig, ShardConfig};
use mainspring_core::ids::ShardId;
use mainspring_core::io::{Effect, Input};
use mainspring_core::time::{Instant, Now};

use super::Scenario;
use crate::rng::{Rng, Stream};
use crate::schedule::{ClientPlan, GRACE, NodePlan, Plan, Strike, Work, WorldPlan};
use crate::swarm::{self, Kind};
use crate::world::{Birth, Factory, Fault, MILLISECOND, Machine, SECOND};

/// Crashes, resets and clocks.
pub const LOG: Scenario = Scenario {
    name: "log",
    about: "one node of 1 or 3 shards under kills, power cuts, resets and clock faults",
    draw: |seed| {
        draw(
            seed,
            &[
                Kind::Kill,
                Kind::Kill,
                Kind::PowerCut,
                Kind::PowerCut,
                Kind::Stop,
                Kind::Pause,
                Kind::WallJump,
                Kind::Drift,
                Kind::ResetStreams,
                Kind::Cut,
                Kind::SlowDisk,
            ],
        )
    },
    floors: &[
        ("acks", 10_000),
        ("reads", 5_000),
        ("final-logs", 200),
        ("starts", 300),
        ("kill", 100),
        ("power-cut", 100),
        ("reset", 20),
        ("lost-unit", 100),
        ("fenced-batches", 100),
        ("purges", 150),
        ("reads-refused", 30),
    ],
    armed: &[
        "I01", "I03", "I04", "I05", "I06", "I07", "I10", "I13", "I14", "I15", "I16", "I18", "I19",
        "I37", "I40", "I41", "L3",
    ],
};

/// A disk that is full at times.
pub const DISK_FULL: Scenario = Scenario {
    name: "disk-full",
    about: "one node whose disk is full at times, with kills and power cuts",
    draw: |seed| {
        draw(seed, &[Kind::DiskFull, Kind::DiskFull, Kind::DiskFull, Kind::Kill, Kind::PowerCut])
    },
    floors: &[("acks", 10_000), ("disk-full", 50), ("no-space", 50), ("final-logs", 200)],
    armed: &[
        "I01", "I03", "I04", "I05", "I06", "I07", "I10", "I13", "I14", "I16", "I18", "I19", "I37",
        "I41", "L3",
    ],
};

/// Most sends of a producer.
const SENDS: u64 = 2_000;

/// The shard of core as the world sees it.
pub(crate) struct ShardMachine(Shard);

impl Machine for ShardMachine {
    fn handle(&mut self, now: Now, input: Input) {
        self.0.handle(now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.0.poll_effect()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline().map(|(at, _)| at)
    }

    fn who_waits(&self) -> String {
        self.0.next_deadline().map_or_else(String::new, |(_, timer)| format!("{timer:?}"))
    }

    fn digest(&self) -> u64 {
        self.0.digest()
    }
}

fn draw(seed: u64, kinds: &[Kind]) -> Plan {
    let mut rng = Rng::new(seed, Stream::Swarm);
    let shards = if rng.chance(500) { 1 } else { 3 };
    let partitions = rng.between(1, 3) as i32;
    let topics = rng.between(1, 3) as usize;
    let pause = rng.between(2, 40) * MILLISECOND;
    let records = rng.between(1, 8);
    let bytes = [20, 200, 1_000][rng.index(3)];
    let time = rng.between(4, 12) * SECOND;
    // Records go by themselves only where wall clocks can be trusted to say when.
    let retention_ms = rng.chance(250).then(|| rng.between(500, 3_000));
    let kinds: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| retention_ms.is_none() || !matches!(kind, Kind::WallJump | Kind::Drift))
        .collect();
    let node = NodePlan::draw(&mut rng, retention_ms, 0);
    let mut clients = Vec::new();
    let mut client = |work, pause, operations| {
        clients.push(ClientPlan { number: clients.len(), work, pause, operations });
    };
    let acks = if rng.chance(250) { 1 } else { -1 };
    for _ in 0..rng.between(1, 4) {
        client(Work::Producer { acks }, pause, Some(SENDS));
    }
    if rng.chance(600) {
        client(Work::MachineProducer, pause, Some(SENDS));
    }
    for nth in 0..rng.between(1, 3) {
        let version = [11, 12, 13, 17, 5][rng.index(5)];
        client(Work::Reader { version, recorder: nth == 0 }, 0, None);
    }
    if rng.chance(350) {
        client(Work::Purger, [100, 500, 2_000][rng.index(3)] * MILLISECOND, None);
    }
    let mut faults = swarm::faults(&mut Rng::new(seed, Stream::Faults), &kinds, time);
    if kinds.contains(&Kind::PowerCut) && rng.chance(500) {
        // What was acknowledged last must survive, too.
        let last = Fault::PowerCut { node: 0, effects: 0, down: 100 * MILLISECOND };
        faults.push(Strike { at: time - 100 * MILLISECOND, fault: last });
    }
    Plan::World(Box::new(WorldPlan {
        shards,
        topics,
        partitions,
        records,
        bytes,
        node,
        disk: swarm::disk(&mut rng),
        net: swarm::net(&mut rng),
        drift_ppm: rng.below(500),
        heal_at: time,
        grace: GRACE,
        clients,
        faults,
    }))
}

/// Returns what makes the shards of a start.
pub(crate) fn factory(config: Arc<NodeConfig>) -> Factory<ShardMachine> {
    Box::new(move |birth: Birth| {
        ShardMachine(Shard::new(ShardConfig {
            shard: ShardId(birth.shard),
            node: Arc::clone(&config),
            seed: birth.seed,
        }))
    })
}
