//! One node of one or three shards, with producers and readers, under faults: `log` and
//! `disk-full`.

use std::sync::Arc;

use mainspring_core::broker::Shard;
use mainspring_core::config::{NodeConfig, ShardConfig};
use mainspring_core::ids::ShardId;
use mainspring_core::io::{Effect, Input};
use mainspring_core::time::{Instant, Now};

use super::Scenario;
use crate::disk::FileKind;
use crate::rng::{Rng, Stream};
use crate::schedule::{ClientPlan, GRACE, NodePlan, Plan, SnapshotPlan, Strike, Work, WorldPlan};
use crate::swarm::{self, Kind, Scope};
use crate::world::{Birth, DiskTrouble, Factory, Fault, MILLISECOND, Machine, SECOND};

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
                Kind::Storm,
                Kind::CrashInRecovery,
                Kind::CrashLoop,
                Kind::StopKilled,
                Kind::Suspend,
                Kind::WallLeap,
                Kind::Strobe,
                Kind::Link,
                Kind::Link,
                Kind::Flap,
                Kind::Swizzle,
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
        ("crash-in-recovery", 50),
        ("crash-loop", 20),
        ("stop-killed", 10),
        ("suspend", 3),
        ("wall-jump", 50),
        ("flap", 50),
        ("link-cut", 50),
        ("link-delay", 3),
        ("link-stall", 3),
        ("link-slow", 3),
        ("link-clog", 3),
        ("link-crumble", 3),
        ("link-reset", 3),
        ("link-silent", 3),
        ("lost-piece", 3),
    ],
    armed: &[
        "I01", "I03", "I04", "I05", "I06", "I07", "I10", "I13", "I14", "I15", "I16", "I17", "I18",
        "I19", "I37", "I40", "I41", "L1", "L3",
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

/// A disk that does wrong, and never takes the last good copy of what was acknowledged.
pub const DISK_FAULTS: Scenario = Scenario {
    name: "disk-faults",
    about: "one node whose disk lacks, lies and fails, but keeps a good copy of everything",
    draw: |seed| {
        draw(
            seed,
            &[
                Kind::Kill,
                Kind::Kill,
                Kind::Kill,
                Kind::PowerCut,
                Kind::PowerCut,
                Kind::PowerCut,
                Kind::CrashInRecovery,
                Kind::FlushErrors,
                Kind::ReadErrors,
                Kind::SlowDisk,
                Kind::Disk(DiskTrouble::WriteErrors),
                Kind::Disk(DiskTrouble::ShortWrites),
                Kind::Disk(DiskTrouble::NoSpace),
                Kind::Disk(DiskTrouble::Exhausted),
                Kind::Disk(DiskTrouble::ReadOnly),
                Kind::Disk(DiskTrouble::SlowFlushes),
                Kind::Disk(DiskTrouble::Stuck),
                Kind::Disk(DiskTrouble::FlippedReads),
                Kind::Disk(DiskTrouble::MisdirectedReads),
                Kind::Damage(FileKind::OffsetIndex),
                Kind::Damage(FileKind::TimeIndex),
                Kind::Damage(FileKind::Snapshot),
                Kind::Damage(FileKind::Producers),
                Kind::Damage(FileKind::Epochs),
                Kind::Damage(FileKind::PartitionMetadata),
                Kind::Damage(FileKind::Checkpoint),
                Kind::Damage(FileKind::Starts),
                Kind::Damage(FileKind::MetadataSnapshot),
                Kind::Junk,
                Kind::DropCaches,
            ],
        )
    },
    floors: &[
        ("acks", 5000),
        ("final-logs", 150),
        ("starts", 150),
        ("flush-error", 10),
        ("write-error", 3),
        ("short-write", 10),
        ("exhausted", 30),
        ("read-only-refusal", 5),
        ("slow-flush", 8),
        ("stuck-operation", 10),
        ("damaged-offset-index", 10),
        ("damaged-snapshot", 5),
        ("damaged-producers", 5),
        ("damaged-epochs", 2),
        ("damaged-checkpoint", 10),
        ("damaged-starts", 8),
        ("damaged-metadata-snapshot", 3),
        ("SnapshotWritten", 100),
        ("SnapshotLoaded", 50),
        ("SnapshotDamaged", 1),
        ("damaged-partition-metadata", 10),
        ("junk", 8),
        ("dropped-caches", 2),
        ("read-errors", 5),
        ("flipped-reads", 5),
        ("misdirected-reads", 10),
    ],
    armed: &["I01", "I03", "I04", "I05", "I13", "I14", "I18", "I19", "I40", "I41", "L1", "L3"],
};

/// A disk that takes what was acknowledged.
pub const UNRECOVERABLE: Scenario = Scenario {
    name: "unrecoverable",
    about: "one node whose disk takes what was acknowledged: the node says so, with the place",
    draw: |seed| {
        draw(
            seed,
            &[
                Kind::Kill,
                Kind::PowerCut,
                Kind::Rot,
                Kind::FlushErrors,
                Kind::Disk(DiskTrouble::MisdirectedWrites),
                Kind::Disk(DiskTrouble::LostWrites),
                Kind::Disk(DiskTrouble::StaleReads),
                Kind::Damage(FileKind::Segment),
                Kind::Damage(FileKind::Segment),
                Kind::Damage(FileKind::Journal),
                Kind::Damage(FileKind::Checkpoint),
                Kind::Damage(FileKind::Identity),
                Kind::Wipe,
                Kind::OldCopy,
                Kind::DropCaches,
            ],
        )
    },
    floors: &[
        ("acks", 5000),
        ("fatal", 20),
        ("told-damaged", 50),
        ("rot", 5),
        ("wipe", 5),
        ("restore", 3),
        ("lost-write", 10),
        ("misdirected-write", 20),
        ("stale-reads", 5),
        ("damaged-segment", 5),
        ("damaged-journal", 5),
        ("damaged-identity", 5),
    ],
    armed: &["I41", "L10"],
};

/// Faults so short that nobody may feel them for long.
pub const FLAPS: Scenario = Scenario {
    name: "flaps",
    about: "one node under faults of at most 100 ms each, which must leave nothing behind",
    draw: |seed| {
        let mut plan = draw(seed, &[Kind::Flap, Kind::Swizzle, Kind::Pause, Kind::Cut]);
        if let Plan::World(world) = &mut plan {
            for strike in &mut world.faults {
                strike.fault.shorten(100 * MILLISECOND);
            }
            world.faults.retain(|strike| strike.fault.time().is_some());
            (world.net.reset, world.net.half_open, world.disk.slow) = (0, 0, 0);
            // Nothing waits for its turn on a line that is too narrow for the load.
            world.net.window = 1 << 20;
            for client in &mut world.clients {
                client.pause = client.pause.max(60 * MILLISECOND);
            }
            world.node.buggify = None;
            world.permanent.clear();
        }
        plan
    },
    floors: &[
        ("acks", 4_000),
        ("final-logs", 150),
        ("flap", 500),
        ("link-cut", 200),
        ("pause", 50),
    ],
    armed: &["I01", "I03", "I04", "I41", "L3", "L9"],
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

/// Returns whether a fault lets clocks say something else than what time it is.
const fn changes_time(kind: Kind) -> bool {
    matches!(kind, Kind::WallJump | Kind::WallLeap | Kind::Strobe | Kind::Drift | Kind::Suspend)
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
    let mut kinds: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| retention_ms.is_none() || !changes_time(*kind))
        .collect();
    let mut added = Rng::new(seed, Stream::Added);
    if retention_ms.is_some() && kinds.contains(&Kind::Link) && added.chance(500) {
        // A clock that is so wrong lets nothing go.
        kinds.push(Kind::WallYears);
    }
    let unrecoverable = kinds.contains(&Kind::Wipe);
    let mut node = NodePlan::draw(&mut rng, retention_ms, 0);
    if kinds.contains(&Kind::ReadErrors) {
        // What is read from memory meets no fault.
        node.tail_cache_bytes = 0;
    }
    node.any_time = kinds.contains(&Kind::WallLeap) || kinds.contains(&Kind::WallYears);
    let nodes = if kinds.contains(&Kind::Link) { [1, 1, 1, 3, 5][rng.index(5)] } else { 1 };
    let mut clients = Vec::new();
    let mut client = |work, pause, operations| {
        let home = clients.len() % nodes;
        clients.push(ClientPlan { number: clients.len(), work, pause, operations, home });
    };
    let acks = if rng.chance(250) { 1 } else { -1 };
    // One of each for every node first: whoever reads last must find whom to wait for.
    for _ in 0..nodes {
        client(Work::Producer { acks }, pause * nodes as u64, Some(SENDS / nodes as u64));
    }
    for _ in 0..nodes {
        client(
            Work::Reader { version: [11, 12, 13, 17, 5][rng.index(5)], recorder: true },
            0,
            None,
        );
    }
    for _ in 0..rng.below(4) {
        client(Work::Producer { acks }, pause, Some(SENDS));
    }
    if rng.chance(600) {
        client(Work::MachineProducer, pause, Some(SENDS));
    }
    for _ in 0..rng.below(3) {
        let version = [11, 12, 13, 17, 5][rng.index(5)];
        client(Work::Reader { version, recorder: false }, 0, None);
    }
    if rng.chance(350) && !unrecoverable {
        client(Work::Purger, [100, 500, 2_000][rng.index(3)] * MILLISECOND, None);
    }
    let scope = Scope { nodes, clients: clients.len() };
    if added.chance(200) {
        let (number, pause) = (clients.len(), 50 * MILLISECOND);
        let work = Work::Stranger;
        clients.push(ClientPlan { number, work, pause, operations: None, home: 0 });
    }
    let mut faults = swarm::faults(&mut Rng::new(seed, Stream::Faults), &kinds, scope, time);
    if kinds.contains(&Kind::PowerCut) && rng.chance(500) {
        // What was acknowledged last must survive, too.
        let last = Fault::PowerCut { node: 0, effects: 0, down: 100 * MILLISECOND };
        faults.push(Strike { at: time - 100 * MILLISECOND, fault: last });
    }
    // What stays wrong for good is nothing in most seeds.
    let permanent = if rng.chance(400) && !unrecoverable && retention_ms.is_none() {
        swarm::permanent(&mut rng, scope)
    } else {
        Vec::new()
    };
    let mut plan = WorldPlan {
        nodes,
        cluster: None,
        unrecoverable,
        permanent,
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
    };
    // A node alone writes little there but its starts.
    plan.node.snapshots = SnapshotPlan::draw(&mut rng, [1, 100, 500]);
    Plan::World(Box::new(plan))
}

/// Returns what makes the shards of a start.
pub(crate) fn factory(configs: Vec<Arc<NodeConfig>>) -> Factory<ShardMachine> {
    Box::new(move |birth: Birth| {
        ShardMachine(Shard::new(ShardConfig {
            shard: ShardId(birth.shard),
            node: Arc::clone(&configs[birth.node]),
            seed: birth.seed,
        }))
    })
}
