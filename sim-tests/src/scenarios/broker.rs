//! One node of one or three shards, with producers and readers, under faults: `log` and
//! `disk-full`.

use std::rc::Rc;
use std::sync::Arc;

use mainspring_core::broker::Shard;
use mainspring_core::config::{NodeConfig, ShardConfig};
use mainspring_core::ids::ShardId;
use mainspring_core::io::{Effect, Input};
use mainspring_core::time::{Instant, Now};

use super::{RunOptions, Scenario};
use crate::checkers;
use crate::rng::{Rng, Stream};
use crate::swarm::{self, Kind};
use crate::workload::machine_producer::MachineProducer;
use crate::workload::producer::Producer;
use crate::workload::purger::Purger;
use crate::workload::reader::Reader;
use crate::workload::{Load, Shared, SharedRef};
use crate::world::{
    Actor, Birth, Factory, Fault, MILLISECOND, Machine, Outcome, SECOND, World, WorldOptions,
};

/// Crashes, resets and clocks.
pub const LOG: Scenario = Scenario {
    name: "log",
    about: "one node of 1 or 3 shards under kills, power cuts, resets and clock faults",
    run: |options| {
        run(
            options,
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
        "I40", "I41", "L3",
    ],
};

/// A disk that is full at times.
pub const DISK_FULL: Scenario = Scenario {
    name: "disk-full",
    about: "one node whose disk is full at times, with kills and power cuts",
    run: |options| {
        run(options, &[Kind::DiskFull, Kind::DiskFull, Kind::DiskFull, Kind::Kill, Kind::PowerCut])
    },
    floors: &[("acks", 10_000), ("disk-full", 50), ("no-space", 50), ("final-logs", 200)],
    armed: &[
        "I01", "I03", "I04", "I05", "I06", "I07", "I10", "I13", "I14", "I16", "I18", "I19", "I41",
        "L3",
    ],
};

/// The shard of core as the world sees it.
pub(super) struct ShardMachine(Shard);

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

/// Makes a configuration with small sizes, so that every edge comes early.
pub(super) fn node_config(
    rng: &mut Rng,
    shards: u16,
    partitions: i32,
    retention_ms: Option<u64>,
    rebalance_delay_ms: u64,
) -> Arc<NodeConfig> {
    let mut config = NodeConfig { shards, ..NodeConfig::default() };
    config.log.journal_first_file_bytes = 64 << 10;
    config.log.journal_file_bytes = [64 << 10, 256 << 10][rng.index(2)];
    config.log.journal_max_bytes = 1 << 20;
    config.log.journal_block_bytes = [8 << 10, 24 << 10][rng.index(2)];
    config.log.unwritten_max_bytes = 96 << 10;
    config.log.tail_cache_bytes = [4 << 10, 256 << 10][rng.index(2)];
    // Segments cannot be small, so they are rolled by their age.
    let roll = [300, 2_000, 3_600_000][rng.index(3)].to_string();
    let retention = retention_ms.map_or_else(|| "-1".to_owned(), |ms| ms.to_string());
    for (key, value) in [
        ("num.partitions", partitions.to_string().as_str()),
        ("log.roll.ms", &roll),
        // A batch must fit a journal file.
        ("message.max.bytes", "24000"),
        ("log.index.interval.bytes", "512"),
        ("log.retention.ms", &retention),
        ("log.retention.check.interval.ms", "500"),
        ("group.initial.rebalance.delay.ms", &rebalance_delay_ms.to_string()),
    ] {
        config.settings.set(key, value).expect("a setting that is known");
    }
    Arc::new(config)
}

fn run(options: RunOptions, kinds: &[Kind]) -> Outcome {
    let mut rng = Rng::new(options.seed, Stream::Swarm);
    let shards = if rng.chance(500) { 1 } else { 3 };
    let partitions = rng.between(1, 3) as i32;
    let load = Load {
        topics: (0..rng.between(1, 3)).map(|n| format!("topic-{n}")).collect(),
        partitions,
        pause: rng.between(2, 40) * MILLISECOND,
        records: rng.between(1, 8),
        bytes: [20, 200, 1_000][rng.index(3)],
        sends: 2_000,
    };
    let time = rng.between(4, 12) * SECOND;
    // Records go by themselves only where wall clocks can be trusted to say when.
    let retention_ms = rng.chance(250).then(|| rng.between(500, 3_000));
    let kinds: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| retention_ms.is_none() || !matches!(kind, Kind::WallJump | Kind::Drift))
        .collect();
    let config = node_config(&mut rng, shards, partitions, retention_ms, 0);
    let shared: SharedRef = Rc::<std::cell::RefCell<Shared>>::default();
    let mut actors: Vec<Box<dyn Actor>> = Vec::new();
    let acks = if rng.chance(250) { 1 } else { -1 };
    for _ in 0..rng.between(1, 4) {
        let client = actors.len();
        actors.push(Box::new(Producer::new(client, load.clone(), Rc::clone(&shared), acks)));
    }
    if rng.chance(600) {
        let client = actors.len();
        actors.push(Box::new(MachineProducer::new(client, load.clone(), Rc::clone(&shared))));
    }
    for nth in 0..rng.between(1, 3) {
        let client = actors.len();
        let version = [11, 12, 13, 17, 5][rng.index(5)];
        let age = retention_ms.map(|ms| ms * MILLISECOND);
        let reader = Reader::new(client, load.clone(), Rc::clone(&shared), version, nth == 0, age);
        actors.push(Box::new(reader));
    }
    if rng.chance(350) {
        let pause = [100, 500, 2_000][rng.index(3)] * MILLISECOND;
        let client = actors.len();
        actors.push(Box::new(Purger::new(client, load.clone(), Rc::clone(&shared), pause)));
    }
    let mut faults = swarm::faults(&mut Rng::new(options.seed, Stream::Faults), &kinds, time);
    if kinds.contains(&Kind::PowerCut) && rng.chance(500) {
        // What was acknowledged last must survive, too.
        let last = Fault::PowerCut { node: 0, effects: 0, down: 100 * MILLISECOND };
        faults.push((time - 100 * MILLISECOND, last));
    }
    let world = WorldOptions {
        seed: options.seed,
        nodes: 1,
        shards,
        disk: swarm::disk(&mut rng),
        net: swarm::net(&mut rng),
        drift_ppm: rng.below(500),
        faults,
        heal_at: time,
        grace: 200 * SECOND,
        keep_lines: options.keep_lines,
        until: options.until,
    };
    World::new(world, factory(config), actors, checkers::all()).run()
}

/// Returns what makes the shards of a start.
pub(super) fn factory(config: Arc<NodeConfig>) -> Factory<ShardMachine> {
    Box::new(move |birth: Birth| {
        ShardMachine(Shard::new(ShardConfig {
            shard: ShardId(birth.shard),
            node: Arc::clone(&config),
            seed: birth.seed,
        }))
    })
}
