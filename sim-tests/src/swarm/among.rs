//! What strikes the nodes of a cluster together, and the ways between them.

use super::{Scope, link_trouble};
use crate::net::{Address, LinkTrouble};
use crate::rng::Rng;
use crate::schedule::Strike;
use crate::world::{Fault, MILLISECOND, SECOND};

/// A kind of trouble among nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Among {
    /// They fall into two sides, in both directions or in one.
    Part,
    /// One of them reaches no other.
    Isolate,
    /// Two sides have one node in common.
    Bridge,
    /// One of them is cut off for less than 100 ms, several times.
    Flap,
    /// The ways between them are cut one by one and mended in another order.
    Swizzle,
    /// Ways between them are late, lossy, slow, narrow, crumbling or silent.
    Links,
    /// All of them die.
    KillAll,
    /// All of them lose power.
    PowerAll,
    /// More than half of them die or lose power.
    KillMajority,
    /// One of them stands still for longer than any session.
    LongPause,
}

impl Among {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Part,
        Self::Isolate,
        Self::Bridge,
        Self::Flap,
        Self::Swizzle,
        Self::Links,
        Self::KillAll,
        Self::PowerAll,
        Self::KillMajority,
        Self::LongPause,
    ];

    /// Draws what it does from `at` on. A node alone feels nothing of most.
    pub(super) fn strike(self, rng: &mut Rng, scope: Scope, at: u64, plan: &mut Vec<Strike>) {
        let mut order: Vec<usize> = (0..scope.nodes).collect();
        rng.shuffle(&mut order);
        // Half of what parts nodes is over before anybody is given up, and half is not.
        let mean = [300 * MILLISECOND, 5 * SECOND][rng.index(2)];
        let time = rng.exponential(mean);
        let part = |nodes: &[usize], bridge, one_way, time| {
            let nodes = nodes.to_vec();
            Fault::Part { nodes, bridge, one_way, time }
        };
        let mut strike = |at, fault| plan.push(Strike { at, fault });
        match self {
            Self::Part => {
                let side = 1 + rng.index((scope.nodes - 1).max(1));
                strike(at, part(&order[..side], None, rng.chance(400), time));
            }
            Self::Isolate => strike(at, part(&order[..1], None, false, time)),
            Self::Bridge => {
                let side = (scope.nodes / 2).max(1);
                let bridge = order.last().copied().filter(|_| scope.nodes > 2);
                strike(at, part(&order[..side], bridge, false, time));
            }
            Self::Flap => {
                let mut begins = at;
                for _ in 0..=rng.below(8) {
                    let (up, time) =
                        (rng.exponential(100 * MILLISECOND), rng.below(100 * MILLISECOND));
                    strike(begins, part(&order[..1], None, rng.chance(300), time));
                    begins += time + up;
                }
            }
            Self::Swizzle => {
                let mut ways = ways(scope.nodes);
                ways.retain(|_| rng.chance(500));
                rng.shuffle(&mut ways);
                let ends = at + SECOND;
                for (nth, (from, to)) in (0..).zip(ways) {
                    let begins = at + nth * 20 * MILLISECOND;
                    let time = ends + rng.below(3 * SECOND) - begins.min(ends);
                    strike(begins, Fault::Link { from, to, trouble: LinkTrouble::Cut, time });
                }
            }
            Self::Links => {
                for _ in 0..=rng.below(3) {
                    let ways = ways(scope.nodes);
                    if ways.is_empty() {
                        return;
                    }
                    let (from, to) = ways[rng.index(ways.len())];
                    strike(
                        at,
                        Fault::Link { from, to, trouble: link_trouble(rng), time: 2 * time },
                    );
                }
            }
            Self::KillAll | Self::PowerAll => {
                let power = self == Self::PowerAll;
                strike(at, together(rng, &order, power));
            }
            Self::KillMajority => {
                let power = rng.chance(500);
                strike(at, together(rng, &order[..=scope.nodes / 2], power));
            }
            Self::LongPause => {
                let time = 2 * SECOND + rng.exponential(3 * SECOND);
                strike(at, Fault::Pause { node: order[0], time });
            }
        }
    }
}

fn together(rng: &mut Rng, nodes: &[usize], power: bool) -> Fault {
    let (effects, down) = (rng.exponential(20) as u32, rng.exponential(200 * MILLISECOND));
    Fault::Together { nodes: nodes.to_vec(), power, effects, down }
}

/// Returns every way from a node to another.
fn ways(nodes: usize) -> Vec<(Address, Address)> {
    (0..nodes)
        .flat_map(|from| (0..nodes).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .map(|(from, to)| (Address::Node(from), Address::Node(to)))
        .collect()
}

/// Draws less than half of the nodes, `most` of them at most and none at times, and what keeps them away from
/// the others for good once all else is healed.
pub fn minority(rng: &mut Rng, nodes: usize, most: usize) -> (Vec<usize>, Vec<Fault>) {
    const FOR_GOOD: u64 = 10_000 * SECOND;
    let mut order: Vec<usize> = (0..nodes).collect();
    rng.shuffle(&mut order);
    order.truncate(rng.index(nodes.div_ceil(2).min(most + 1)));
    order.sort_unstable();
    let each = order.iter().copied();
    let faults = match rng.below(3) {
        _ if order.is_empty() => Vec::new(),
        0 => each.map(|node| Fault::PowerCut { node, effects: 0, down: FOR_GOOD }).collect(),
        1 => each.map(|node| Fault::Pause { node, time: FOR_GOOD }).collect(),
        _ => {
            let nodes = order.clone();
            vec![Fault::Part { nodes, bridge: None, one_way: false, time: FOR_GOOD }]
        }
    };
    (order, faults)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rng::Stream;

    #[test]
    fn every_kind_strikes_within_the_cluster_and_is_counted_by_its_name() {
        let mut rng = Rng::new(1, Stream::Faults);
        let mut kinds = BTreeSet::new();
        for nodes in [3, 5] {
            let scope = Scope { nodes, clients: 1 };
            for among in Among::ALL {
                let mut plan = Vec::new();
                for _ in 0..20 {
                    among.strike(&mut rng, scope, SECOND, &mut plan);
                }
                for Strike { fault, .. } in plan {
                    kinds.insert(fault.kind());
                    if let Fault::Part { nodes: side, bridge, .. } = &fault {
                        assert!(!side.is_empty() && side.len() < nodes, "{fault:?}");
                        assert!(bridge.is_none_or(|bridge| !side.contains(&bridge)), "{fault:?}");
                    }
                }
            }
        }
        for kind in [
            "part",
            "one-way-part",
            "isolation",
            "bridge",
            "kill-together",
            "power-cut-together",
            "pause",
            "link-cut",
            "link-slow",
            "link-clog",
        ] {
            assert!(kinds.contains(kind), "{kind} of {kinds:?}");
        }
    }

    #[test]
    fn less_than_half_is_lost_for_good_in_every_way() {
        let mut rng = Rng::new(2, Stream::Faults);
        let mut kinds = BTreeSet::new();
        for nodes in [1, 3, 5] {
            let mut sizes = BTreeSet::new();
            for _ in 0..60 {
                let (lost, faults) = minority(&mut rng, nodes, nodes);
                assert!(2 * lost.len() < nodes, "{lost:?}");
                assert_eq!(lost.is_empty(), faults.is_empty());
                sizes.insert(lost.len());
                kinds.extend(faults.iter().map(Fault::kind));
            }
            assert_eq!(sizes.len(), nodes.div_ceil(2));
        }
        assert_eq!(kinds.len(), 4, "{kinds:?}");
    }
}
