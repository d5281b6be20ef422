//! I04: a partition is one list: appends, reads and its end agree with one order in time.
//!
//! One thing is promised less of: a leader whose machine stood still, clocks and all, may tell the end of
//! when it fell asleep, until its lease is over by its own clock (`mainspring.leader.lease.ms`).

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, OperationId};
use crate::world::{MILLISECOND, SECOND};

/// Remembers how far each partition had been acknowledged when an operation began.
#[derive(Debug, Default)]
pub struct Offsets {
    acked_end: BTreeMap<TopicPartition, i64>,
    begun: BTreeMap<OperationId, (TopicPartition, i64, usize)>,
    is_cluster: bool,
    /// Nodes of a cluster whose machines stand still, or may not know yet that they did, with how far everything was
    /// acknowledged before, and until when that may be so.
    asleep: BTreeMap<usize, (BTreeMap<TopicPartition, i64>, u64)>,
    evaluations: u64,
}

/// How long a leader acts by what it was last told, with what clocks may differ by.
const LEASE: u64 = 2 * SECOND + 10 * MILLISECOND;

impl Offsets {
    /// How far a partition was acknowledged, as the node must know that is furthest behind and may answer.
    fn known_end(&self, at: u64, partition: &TopicPartition) -> i64 {
        let known =
            |ends: &BTreeMap<TopicPartition, i64>| ends.get(partition).copied().unwrap_or(0);
        let asleep = self.asleep.values().filter(|(_, until)| at <= *until);
        asleep.map(|(ends, _)| known(ends)).fold(known(&self.acked_end), i64::min)
    }
}

impl Checker for Offsets {
    fn id(&self) -> &'static str {
        "I04"
    }

    fn promise(&self) -> &'static str {
        "A partition is one list of records: what appends, reads and ends tell of it fits one order in time."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                let floor = self.acked_end.get(partition).copied().unwrap_or(0);
                self.begun.insert(*operation, (*partition, floor, records.len()));
            }
            Fact::Cluster { nodes, .. } => self.is_cluster = *nodes > 1,
            Fact::StoodStill { node } if self.is_cluster => {
                // Of one that has been asleep before, and does not know it, the first time counts.
                let known = self.asleep.remove(node).filter(|(_, until)| at <= *until);
                let ends = known.map_or_else(|| self.acked_end.clone(), |(ends, _)| ends);
                self.asleep.insert(*node, (ends, u64::MAX));
            }
            Fact::WentOn { node } => {
                if let Some((_, until)) = self.asleep.get_mut(node) {
                    *until = at + LEASE;
                }
            }
            Fact::AskedLatest { operation, partition } => {
                let floor = self.known_end(at, partition);
                self.begun.insert(*operation, (*partition, floor, 0));
            }
            Fact::Acked { operation, base_offset } => {
                let Some((partition, floor, count)) = self.begun.remove(operation) else {
                    return Ok(());
                };
                self.evaluations += 1;
                if *base_offset < floor {
                    return Err(format!(
                        "{operation:?} got offset {base_offset} of {partition}, which had been \
                         acknowledged up to {floor} before it began"
                    ));
                }
                let end = self.acked_end.entry(partition).or_insert(0);
                *end = (*end).max(base_offset + count as i64);
            }
            Fact::Latest { operation, offset } => {
                let Some((partition, floor, _)) = self.begun.remove(operation) else {
                    return Ok(());
                };
                self.evaluations += 1;
                if *offset < floor {
                    return Err(format!(
                        "the end of {partition} is told as {offset} after an acknowledgement up \
                         to {floor}"
                    ));
                }
            }
            Fact::Read { partition, from, records, .. } => {
                for (expected, record) in (*from..).zip(records) {
                    self.evaluations += 1;
                    if record.offset != expected {
                        return Err(format!(
                            "a read of {partition} from {from} has offset {} where {expected} \
                             follows",
                            record.offset
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn an_offset_below_one_acknowledged_earlier_is_found() {
        let start = [invoked(1, &[5, 6]), acked(1, 0), invoked(2, &[7])];
        passes(Offsets::default(), &[&start[..], &[acked(2, 2)]].concat());
        fails(Offsets::default(), &[&start[..], &[acked(2, 1)]].concat());
    }

    #[test]
    fn sends_that_overlap_in_time_may_have_any_order() {
        passes(Offsets::default(), &[invoked(1, &[5]), invoked(2, &[6]), acked(1, 1), acked(2, 0)]);
    }

    #[test]
    fn a_hole_in_a_read_is_found() {
        fails(Offsets::default(), &[read(0, &[(0, 5), (2, 6)], 3)]);
        fails(Offsets::default(), &[read(0, &[(1, 5)], 3)]);
    }

    #[test]
    fn an_end_below_what_was_acknowledged_before_the_question_is_found() {
        let ask = Fact::AskedLatest { operation: op(9), partition: P };
        let answer = |offset| Fact::Latest { operation: op(9), offset };
        let start = [invoked(1, &[5]), acked(1, 0), ask];
        passes(Offsets::default(), &[&start[..], &[answer(1)]].concat());
        fails(Offsets::default(), &[&start[..], &[answer(0)]].concat());
    }

    #[test]
    fn a_leader_that_was_asleep_tells_what_it_knew_until_its_lease_is_over_and_in_a_cluster_alone()
    {
        let told = |nodes: usize, asked: u64, end: i64| {
            let cluster = Fact::Cluster { nodes, min_in_sync: 2 };
            let facts = [
                (0, cluster),
                (1, invoked(1, &[5])),
                (2, acked(1, 0)),
                (3, Fact::StoodStill { node: 2 }),
                (4, invoked(2, &[6])),
                (5, acked(2, 1)),
                (SECOND, Fact::WentOn { node: 2 }),
                (asked, Fact::AskedLatest { operation: op(9), partition: P }),
                (asked, Fact::Latest { operation: op(9), offset: end }),
            ];
            let mut checker = Offsets::default();
            facts.iter().try_for_each(|(at, fact)| checker.observe(*at, fact))
        };
        assert_eq!(told(3, 2 * SECOND, 1), Ok(()));
        assert!(told(3, 2 * SECOND, 0).is_err(), "what it knew when it fell asleep");
        assert!(told(3, 4 * SECOND, 1).is_err(), "the lease is over");
        assert!(told(1, 2 * SECOND, 1).is_err(), "one node has nobody to be behind");
    }
}
