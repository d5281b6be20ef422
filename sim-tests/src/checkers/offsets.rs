//! I04: a partition is one list: appends, reads and its end agree with one order in time.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, OperationId};

/// Remembers how far each partition had been acknowledged when an operation began.
#[derive(Debug, Default)]
pub struct Offsets {
    acked_end: BTreeMap<TopicPartition, i64>,
    begun: BTreeMap<OperationId, (TopicPartition, i64, usize)>,
    evaluations: u64,
}

impl Checker for Offsets {
    fn id(&self) -> &'static str {
        "I04"
    }

    fn promise(&self) -> &'static str {
        "A partition is one list of records: what appends, reads and ends tell of it fits one order in time."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                let floor = self.acked_end.get(partition).copied().unwrap_or(0);
                self.begun.insert(*operation, (*partition, floor, records.len()));
            }
            Fact::AskedLatest { operation, partition } => {
                let floor = self.acked_end.get(partition).copied().unwrap_or(0);
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
}
