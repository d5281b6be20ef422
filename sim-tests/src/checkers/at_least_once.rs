//! A group whose members read to the end has been given every acknowledged record that is left.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, OperationId};

/// Follows what each group takes into work.
#[derive(Debug, Default)]
pub struct AtLeastOnce {
    sent: BTreeMap<OperationId, (TopicPartition, usize)>,
    acked: BTreeMap<TopicPartition, BTreeSet<i64>>,
    starts: BTreeMap<TopicPartition, i64>,
    /// Ranges that were taken into work, by their beginnings.
    work: BTreeMap<(u32, TopicPartition), BTreeMap<i64, i64>>,
    read: BTreeSet<u32>,
    evaluations: u64,
}

impl Checker for AtLeastOnce {
    fn id(&self) -> &'static str {
        "T3"
    }

    fn promise(&self) -> &'static str {
        "A group that reads to the end gets every acknowledged record at least once."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, records.len()));
            }
            Fact::Acked { operation, base_offset } => {
                if let Some((partition, count)) = self.sent.remove(operation) {
                    let offsets = (*base_offset..).take(count);
                    self.acked.entry(partition).or_default().extend(offsets);
                }
            }
            Fact::FinalLog { partition, log_start, .. } => {
                self.starts.insert(*partition, *log_start);
            }
            Fact::Processed { group, partition, from, to } => {
                let work = self.work.entry((*group, *partition)).or_default();
                let reach = work.entry(*from).or_insert(*to);
                *reach = (*reach).max(*to);
            }
            Fact::GroupRead { group } => {
                self.read.insert(*group);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        for group in &self.read {
            for (partition, start) in &self.starts {
                let none = BTreeMap::new();
                let work = self.work.get(&(*group, *partition)).unwrap_or(&none);
                let (mut ranges, mut reach) = (work.iter().peekable(), *start);
                let acked = self.acked.get(partition).into_iter().flatten();
                for offset in acked.filter(|offset| *offset >= start) {
                    self.evaluations += 1;
                    while let Some((_, to)) = ranges.next_if(|(from, _)| *from <= offset) {
                        reach = reach.max(*to);
                    }
                    if *offset >= reach {
                        return Err(format!(
                            "group {group} never got acknowledged offset {offset} of {partition}"
                        ));
                    }
                }
            }
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

    fn work(from: i64, to: i64) -> Fact {
        Fact::Processed { group: 1, partition: P, from, to }
    }

    fn story(work: &[Fact]) -> Vec<Fact> {
        let mut facts = vec![invoked(1, &[5, 6, 7]), acked(1, 0)];
        facts.extend_from_slice(work);
        facts.push(Fact::GroupRead { group: 1 });
        facts.push(final_log(&[(0, 5), (1, 6), (2, 7)]));
        facts
    }

    #[test]
    fn a_group_that_got_everything_once_or_twice_passes() {
        passes(AtLeastOnce::default(), &story(&[work(0, 2), work(1, 3)]));
    }

    #[test]
    fn a_record_that_a_group_never_got_is_found() {
        fails(AtLeastOnce::default(), &story(&[work(0, 2)]));
        fails(AtLeastOnce::default(), &story(&[work(0, 1), work(2, 3)]));
        fails(AtLeastOnce::default(), &story(&[]));
    }
}
