//! What differs from seed to seed: each draws its own world, load and faults, and leaves about
//! half of all kinds out.

use crate::disk::{DiskOptions, FileKind};
use crate::net::{Address, LinkTrouble, NetOptions};
use crate::rng::Rng;
use crate::schedule::Strike;
use crate::world::{Damage, DiskTrouble, Fault, MILLISECOND, SECOND};

mod among;

pub use among::{Among, minority};

/// The kinds of faults that a scenario may draw from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The process dies.
    Kill,
    /// Power is lost.
    PowerCut,
    /// Several nodes, or one again and again, die within a second.
    Storm,
    /// The process dies, and so does its next start.
    CrashInRecovery,
    /// The process dies, and so do several starts behind it.
    CrashLoop,
    /// The process is told to stop.
    Stop,
    /// The process is told to stop and dies while it does.
    StopKilled,
    /// The process stands still.
    Pause,
    /// The machine stands still, with its clocks.
    Suspend,
    /// The wall clock jumps by less than half an hour.
    WallJump,
    /// The wall clock jumps by an hour, or by ten years.
    WallLeap,
    /// The wall clock jumps by ten years.
    WallYears,
    /// The wall clock jumps to and fro.
    Strobe,
    /// The clocks drift.
    Drift,
    /// Streams are reset.
    ResetStreams,
    /// One direction is cut between a node and all others.
    Cut,
    /// One way between two addresses is in some trouble.
    Link,
    /// A node is cut off for less than 100 ms, several times.
    Flap,
    /// Ways are cut one by one and mended in another order.
    Swizzle,
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
    /// The disk does something wrong for a while.
    Disk(DiskTrouble),
    /// A file of that kind is damaged at rest.
    Damage(FileKind),
    /// A file that is not ours appears.
    Junk,
    /// The page cache is dropped.
    DropCaches,
    /// The disk is exchanged for an empty one.
    Wipe,
    /// A copy of the disk is put away, and comes back later.
    OldCopy,
    /// Something that only nodes of a cluster feel.
    Among(Among),
}

/// What faults can strike.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many clients there are.
    pub clients: usize,
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
        lingering: 0,
    }
}

/// Draws when which faults strike within `time` nanoseconds. A quarter of the stretches stays empty.
pub fn faults(rng: &mut Rng, kinds: &[Kind], scope: Scope, time: u64) -> Vec<Strike> {
    let chosen: Vec<Kind> = kinds.iter().copied().filter(|_| rng.chance(550)).collect();
    let chosen = if chosen.is_empty() { kinds.to_vec() } else { chosen };
    // A crash storm has one every tenth of a second; a gentle seed one in several seconds.
    let mean = [150 * MILLISECOND, 700 * MILLISECOND, 3 * SECOND][rng.index(3)];
    // How hard what strikes for a while does so.
    let hard = 1 + rng.below(3) as u32;
    let mut plan = Vec::new();
    let mut at = 200 * MILLISECOND;
    while at < time {
        if !(at / (2 * SECOND)).is_multiple_of(4) || rng.chance(300) {
            let kind = chosen[rng.index(chosen.len())];
            strike(rng, kind, scope, hard, at, &mut plan);
        }
        at += rng.exponential(mean) + MILLISECOND;
    }
    plan
}

/// Draws what a kind does from `at` on.
fn strike(rng: &mut Rng, kind: Kind, scope: Scope, hard: u32, at: u64, plan: &mut Vec<Strike>) {
    let node = rng.index(scope.nodes);
    let down = rng.exponential(200 * MILLISECOND);
    let time = rng.exponential(700 * MILLISECOND);
    let effects = rng.exponential(20) as u32;
    let fault = match kind {
        Kind::Kill => Fault::Kill { node, effects, down },
        Kind::PowerCut => Fault::PowerCut { node, effects, down },
        Kind::CrashInRecovery => {
            let (power, effects) = (rng.chance(500), rng.exponential(40) as u32);
            Fault::CrashLoop { node, times: 1, effects, power, down }
        }
        Kind::CrashLoop => {
            let (power, effects) = (rng.chance(500), rng.exponential(60) as u32);
            let times = 2 + rng.below(6) as u32;
            Fault::CrashLoop { node, times, effects, power, down: down / 4 }
        }
        Kind::Stop => Fault::Stop { node, down },
        Kind::StopKilled => Fault::StopKilled { node, effects, down },
        Kind::Pause => Fault::Pause { node, time },
        Kind::Suspend => Fault::Suspend { node, time: 3 * time, set_right: rng.chance(500) },
        // Less than the hour by which a record's time may be ahead of the broker's.
        Kind::WallJump => {
            Fault::WallJump { node, millis: rng.between(0, 3_000_000) as i64 - 1_500_000 }
        }
        Kind::WallLeap => {
            let most = if rng.chance(500) { HOUR_MS } else { 10 * YEAR_MS };
            Fault::WallJump { node, millis: if rng.chance(500) { most } else { -most } }
        }
        Kind::WallYears => {
            let most = 10 * YEAR_MS;
            Fault::WallJump { node, millis: if rng.chance(500) { most } else { -most } }
        }
        Kind::Drift => Fault::Drift { node, ppm: rng.between(0, 200_000) as i64 - 100_000 },
        Kind::ResetStreams => Fault::ResetStreams { node },
        Kind::Cut => Fault::Cut { node, outbound: rng.chance(500), time },
        Kind::DiskFull => Fault::DiskFull { node, room: rng.exponential(20_000), time },
        Kind::FlushErrors => {
            let file = rng.chance(500).then_some(FileKind::Segment);
            Fault::FlushErrors { node, time, file }
        }
        // Reads are rare, so what strikes them does so for long.
        Kind::ReadErrors => Fault::ReadErrors { node, time: 3 * time },
        Kind::SlowDisk => Fault::SlowDisk { node, time },
        Kind::Rot => Fault::Rot { node },
        Kind::Disk(trouble) => {
            let reads = matches!(
                trouble,
                DiskTrouble::FlippedReads | DiskTrouble::MisdirectedReads | DiskTrouble::StaleReads
            );
            let time = if reads { 5 * time } else { time };
            Fault::Disk { node, trouble, permille: share(trouble, hard), time }
        }
        Kind::Damage(file) => {
            let damage = Damage::ALL[rng.index(Damage::ALL.len())];
            Fault::Damage { node, damage, file, pick: rng.bits() >> 16 }
        }
        Kind::Junk => Fault::Junk { node, pick: rng.bits() >> 16 },
        Kind::DropCaches => Fault::DropCaches { node },
        Kind::Wipe => Fault::Wipe { node, down },
        Kind::Link => {
            for _ in 0..rng.below(4) {
                let (from, to) = way(rng, scope);
                let fault = Fault::Link { from, to, trouble: link_trouble(rng), time: 2 * time };
                plan.push(Strike { at, fault });
            }
            let (from, to) = way(rng, scope);
            Fault::Link { from, to, trouble: link_trouble(rng), time: 2 * time }
        }
        Kind::Among(among) => return among.strike(rng, scope, at, plan),
        Kind::Storm | Kind::Strobe | Kind::Flap | Kind::Swizzle | Kind::OldCopy => {
            return series(rng, kind, scope, at, plan);
        }
    };
    plan.push(Strike { at, fault });
}

/// Draws the faults of which some kinds consist.
fn series(rng: &mut Rng, kind: Kind, scope: Scope, at: u64, plan: &mut Vec<Strike>) {
    let node = rng.index(scope.nodes);
    match kind {
        Kind::Storm => {
            for _ in 0..3 + rng.below(8) {
                let (node, down) = (rng.index(scope.nodes), rng.exponential(60 * MILLISECOND));
                let (effects, later) = (rng.exponential(60) as u32, rng.below(SECOND));
                let fault = if rng.chance(500) {
                    Fault::Kill { node, effects, down }
                } else {
                    Fault::PowerCut { node, effects, down }
                };
                plan.push(Strike { at: at + later, fault });
            }
        }
        Kind::Strobe => {
            let most = rng.between(1, 1_500_000) as i64;
            let every = rng.between(MILLISECOND, 100 * MILLISECOND);
            for nth in 0..20 {
                let millis = if nth % 2 == 0 { most } else { -most };
                let fault = Fault::WallJump { node, millis };
                plan.push(Strike { at: at + nth * every, fault });
            }
        }
        Kind::Flap => {
            let mut begins = at;
            for _ in 0..=rng.below(8) {
                let (up, time) = (rng.exponential(100 * MILLISECOND), rng.below(100 * MILLISECOND));
                for outbound in [false, true] {
                    let fault = Fault::Cut { node, outbound, time };
                    plan.push(Strike { at: begins, fault });
                }
                begins += time + up;
            }
        }
        Kind::Swizzle => {
            let mut ways: Vec<(Address, Address)> = (0..scope.clients)
                .flat_map(|client| both(Address::Client(client), Address::Node(node)))
                .filter(|_| rng.chance(500))
                .collect();
            rng.shuffle(&mut ways);
            let ends = at + SECOND;
            for (nth, (from, to)) in (0..).zip(ways) {
                let begins = at + nth * 20 * MILLISECOND;
                let time = ends + rng.below(SECOND) - begins.min(ends);
                let fault = Fault::Link { from, to, trouble: LinkTrouble::Cut, time };
                plan.push(Strike { at: begins, fault });
            }
        }
        Kind::OldCopy => {
            let later = rng.exponential(2 * SECOND) + SECOND;
            plan.push(Strike { at, fault: Fault::Save { node } });
            let fault = Fault::Restore { node, down: 50 * MILLISECOND };
            plan.push(Strike { at: at + later, fault });
        }
        _ => unreachable!("the others are one fault each"),
    }
}

/// Draws what stays wrong, or begins to be, when everything else is healed: nothing that a node or client
/// could not live with.
pub fn permanent(rng: &mut Rng, scope: Scope) -> Vec<Fault> {
    let time = 1_000 * SECOND;
    (0..=rng.below(3))
        .map(|_| {
            let node = rng.index(scope.nodes);
            let (from, to) = way(rng, scope);
            let link = |trouble| Fault::Link { from, to, trouble, time };
            match rng.below(5) {
                0 => Fault::Disk { node, trouble: DiskTrouble::SlowFlushes, permille: 10, time },
                1 => Fault::Drift { node, ppm: rng.between(0, 200_000) as i64 - 100_000 },
                2 => link(LinkTrouble::Delay(rng.between(1, 30) * MILLISECOND)),
                3 => link(LinkTrouble::Crumble(300)),
                _ => Fault::Damage {
                    node,
                    damage: Damage::Lose,
                    file: FileKind::OffsetIndex,
                    pick: rng.bits() >> 16,
                },
            }
        })
        .collect()
}

const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

const fn both(a: Address, b: Address) -> [(Address, Address); 2] {
    [(a, b), (b, a)]
}

/// Draws two addresses between which something may pass.
fn way(rng: &mut Rng, scope: Scope) -> (Address, Address) {
    let node = rng.index(scope.nodes);
    let here = Address::Node(node);
    let there = if scope.nodes > 1 && rng.chance(300) {
        Address::Node((node + 1 + rng.index(scope.nodes - 1)) % scope.nodes)
    } else {
        Address::Client(rng.index(scope.clients.max(1)))
    };
    if rng.chance(500) { (here, there) } else { (there, here) }
}

fn link_trouble(rng: &mut Rng) -> LinkTrouble {
    match rng.below(8) {
        0 => LinkTrouble::Cut,
        1 => LinkTrouble::Delay(rng.between(5, 400) * MILLISECOND),
        2 => LinkTrouble::Stall(rng.between(10, 300) as u32),
        3 => LinkTrouble::Bandwidth([1 << 10, 16 << 10, 256 << 10][rng.index(3)]),
        4 => LinkTrouble::Clog(rng.between(1, 2_000)),
        5 => LinkTrouble::Crumble(rng.between(300, 1_000) as u32),
        6 => LinkTrouble::Reset(rng.between(5, 100) as u32),
        _ => LinkTrouble::Silent,
    }
}

/// Returns the share of operations that a trouble strikes, in 1/1000.
const fn share(trouble: DiskTrouble, hard: u32) -> u32 {
    match trouble {
        DiskTrouble::ReadOnly => 1000,
        DiskTrouble::Stuck => 10 * hard,
        // What is read wrong three times in a row is taken for rot, as it should be.
        DiskTrouble::FlippedReads | DiskTrouble::MisdirectedReads | DiskTrouble::StaleReads => {
            10 * hard
        }
        DiskTrouble::SlowFlushes
        | DiskTrouble::WriteErrors
        | DiskTrouble::MisdirectedWrites
        | DiskTrouble::LostWrites => 30 * hard,
        DiskTrouble::ShortWrites | DiskTrouble::NoSpace | DiskTrouble::Exhausted => 100 * hard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn every_node_is_struck_and_every_kind_of_trouble_is_drawn() {
        let scope = Scope { nodes: 3, clients: 2 };
        let mut rng = Rng::new(1, Stream::Faults);
        let mut struck = [0; 3];
        let mut links = std::collections::BTreeSet::new();
        for _ in 0..200 {
            for Strike { fault, .. } in
                faults(&mut rng, &[Kind::Kill, Kind::Link], scope, 10 * SECOND)
            {
                match fault {
                    Fault::Kill { node, .. } => struck[node] += 1,
                    Fault::Link { trouble, .. } => {
                        links.insert(trouble.kind());
                    }
                    _ => {}
                }
            }
        }
        assert!(struck.iter().all(|struck| *struck > 100), "{struck:?}");
        assert_eq!(links.len(), 8, "{links:?}");
    }

    #[test]
    fn a_flap_is_short_and_a_swizzle_mends_in_another_order() {
        let scope = Scope { nodes: 1, clients: 4 };
        let mut rng = Rng::new(2, Stream::Faults);
        let mut plan = Vec::new();
        series(&mut rng, Kind::Flap, scope, SECOND, &mut plan);
        assert!(plan.iter().all(|strike| strike.fault.time() < Some(100 * MILLISECOND)));
        let mut orders = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let mut plan = Vec::new();
            series(&mut rng, Kind::Swizzle, scope, SECOND, &mut plan);
            let ends: Vec<u64> = plan
                .iter()
                .map(|strike| strike.at + strike.fault.time().expect("a cut lasts"))
                .collect();
            orders.insert(ends.is_sorted());
        }
        assert!(orders.contains(&false));
    }
}
