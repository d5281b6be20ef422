//! What differs from seed to seed: each draws its own world, load and faults, and leaves about
//! half of all kinds out.

use crate::disk::DiskOptions;
use crate::net::NetOptions;
use crate::rng::Rng;
use crate::schedule::Strike;
use crate::world::{Fault, MILLISECOND, SECOND};

/// The kinds of faults that a scenario may draw from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The process dies.
    Kill,
    /// Power is lost.
    PowerCut,
    /// The process is told to stop.
    Stop,
    /// The process stands still.
    Pause,
    /// The wall clock jumps.
    WallJump,
    /// The clocks drift.
    Drift,
    /// Streams are reset.
    ResetStreams,
    /// One direction is cut.
    Cut,
    /// The disk is full.
    DiskFull,
    /// Flushes fail.
    FlushErrors,
    /// Reads fail.
    ReadErrors,
    /// The disk is slow.
    SlowDisk,
    /// Bits flip at rest.
    Rot,
}

/// Draws what a disk is like.
pub fn disk(rng: &mut Rng) -> DiskOptions {
    DiskOptions {
        sector: if rng.chance(500) { 512 } else { 4096 },
        latency: rng.between(5_000, 200_000),
        flush_latency: rng.between(50_000, 8_000_000),
        slow: if rng.chance(300) { 5 } else { 0 },
        ..DiskOptions::default()
    }
}

/// Draws what the network is like.
pub fn net(rng: &mut Rng) -> NetOptions {
    NetOptions {
        latency: rng.between(20_000, 3_000_000),
        window: [2 << 10, 32 << 10, 1 << 20][rng.index(3)],
        split: [0, 100, 700][rng.index(3)],
        reset: if rng.chance(400) { 4 } else { 0 },
        half_open: if rng.chance(400) { 300 } else { 0 },
    }
}

/// Draws when which faults strike within `time` nanoseconds. A quarter of the stretches stays empty.
pub fn faults(rng: &mut Rng, kinds: &[Kind], time: u64) -> Vec<Strike> {
    let chosen: Vec<Kind> = kinds.iter().copied().filter(|_| rng.chance(550)).collect();
    let chosen = if chosen.is_empty() { kinds.to_vec() } else { chosen };
    // A crash storm has one every tenth of a second; a gentle seed one in several seconds.
    let mean = [150 * MILLISECOND, 700 * MILLISECOND, 3 * SECOND][rng.index(3)];
    let mut plan = Vec::new();
    let mut at = 200 * MILLISECOND;
    while at < time {
        if !(at / (2 * SECOND)).is_multiple_of(4) || rng.chance(300) {
            let kind = chosen[rng.index(chosen.len())];
            plan.push(Strike { at, fault: fault(rng, kind) });
        }
        at += rng.exponential(mean) + MILLISECOND;
    }
    plan
}

fn fault(rng: &mut Rng, kind: Kind) -> Fault {
    let node = 0;
    let down = rng.exponential(200 * MILLISECOND);
    let time = rng.exponential(700 * MILLISECOND);
    let effects = rng.exponential(20) as u32;
    match kind {
        Kind::Kill => Fault::Kill { node, effects, down },
        Kind::PowerCut => Fault::PowerCut { node, effects, down },
        Kind::Stop => Fault::Stop { node, down },
        Kind::Pause => Fault::Pause { node, time },
        // Less than the hour by which a record's time may be ahead of the broker's.
        Kind::WallJump => {
            Fault::WallJump { node, millis: rng.between(0, 3_000_000) as i64 - 1_500_000 }
        }
        Kind::Drift => Fault::Drift { node, ppm: rng.between(0, 200_000) as i64 - 100_000 },
        Kind::ResetStreams => Fault::ResetStreams { node },
        Kind::Cut => Fault::Cut { node, outbound: rng.chance(500), time },
        Kind::DiskFull => Fault::DiskFull { node, room: rng.exponential(20_000), time },
        Kind::FlushErrors => Fault::FlushErrors { node, time },
        Kind::ReadErrors => Fault::ReadErrors { node, time },
        Kind::SlowDisk => Fault::SlowDisk { node, time },
        Kind::Rot => Fault::Rot { node },
    }
}
