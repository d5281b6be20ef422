//! I37: the books balance: what was acknowledged is there, was purged, has expired, or went with its topic.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::{TopicId, TopicPartition};

use super::Checker;
use crate::history::{Fact, Keeping, OperationId};

/// Keeps a book for each partition.
#[derive(Debug, Default)]
pub struct Conservation {
    sent: BTreeMap<OperationId, (TopicPartition, u64)>,
    acked: BTreeMap<TopicPartition, u64>,
    /// Acknowledged records by partition and offset, each once.
    places: BTreeSet<(TopicPartition, i64)>,
    last: BTreeMap<TopicPartition, (i64, BTreeSet<i64>)>,
    asked: BTreeMap<TopicPartition, i64>,
    deleted: BTreeSet<TopicId>,
    memory: BTreeSet<TopicId>,
    retention: bool,
    evaluations: u64,
}

impl Checker for Conservation {
    fn id(&self) -> &'static str {
        "I37"
    }

    fn promise(&self) -> &'static str {
        "The books balance: every acknowledged record is there, was purged, has expired, or went with its \
         topic."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, records.len() as u64));
            }
            Fact::Acked { operation, base_offset } => {
                if let Some((partition, count)) = self.sent.remove(operation) {
                    *self.acked.entry(partition).or_insert(0) += count;
                    let offsets = (*base_offset..).take(count as usize);
                    self.places.extend(offsets.map(|offset| (partition, offset)));
                }
            }
            Fact::AskedPurge { partition, before } => {
                let asked = self.asked.entry(*partition).or_insert(0);
                *asked = (*asked).max(*before);
            }
            Fact::Retention { .. } => self.retention = true,
            Fact::AskedDeletion { topic_id } => {
                self.deleted.insert(*topic_id);
            }
            Fact::TopicMade { topic_id, keeping: Keeping::Memory } => {
                self.memory.insert(*topic_id);
            }
            Fact::FinalLog { partition, log_start, records } => {
                let offsets = records.iter().map(|record| record.offset).collect();
                self.last.insert(*partition, (*log_start, offsets));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.last.is_empty() {
            return Ok(());
        }
        for (partition, acked) in &self.acked {
            if self.deleted.contains(&partition.topic_id) {
                continue;
            }
            self.evaluations += 1;
            let Some((start, offsets)) = self.last.get(partition) else {
                return Err(format!("{acked} acknowledged records went with {partition}"));
            };
            let asked = self.asked.get(partition).copied().unwrap_or(0);
            let may_go = self.retention || self.memory.contains(&partition.topic_id);
            let (mut live, mut purged, mut expired) = (0, 0, 0);
            for (_, offset) in self.places.range((*partition, i64::MIN)..=(*partition, i64::MAX)) {
                live += u64::from(offset >= start && offsets.contains(offset));
                purged += u64::from(offset < start && *offset < asked);
                expired += u64::from(offset < start && *offset >= asked && may_go);
            }
            if live + purged + expired != *acked {
                return Err(format!(
                    "{acked} records of {partition} were acknowledged; {live} are there, {purged} were \
                     purged and {expired} have expired"
                ));
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

    fn story(last: Fact, between: &[Fact]) -> Vec<Fact> {
        let mut facts = vec![invoked(1, &[5, 6]), acked(1, 0), invoked(2, &[7]), acked(2, 2)];
        facts.extend_from_slice(between);
        facts.push(last);
        facts
    }

    fn log(log_start: i64, records: &[(i64, u64)]) -> Fact {
        let Fact::FinalLog { partition, records, .. } = final_log(records) else { unreachable!() };
        Fact::FinalLog { partition, log_start, records }
    }

    #[test]
    fn books_that_balance_pass() {
        passes(Conservation::default(), &story(log(0, &[(0, 5), (1, 6), (2, 7)]), &[]));
        let purge = Fact::AskedPurge { partition: P, before: 2 };
        passes(Conservation::default(), &story(log(2, &[(2, 7)]), &[purge]));
        let retention = Fact::Retention { age: 1 };
        passes(Conservation::default(), &story(log(3, &[]), &[retention]));
    }

    #[test]
    fn a_record_without_an_account_is_found() {
        fails(Conservation::default(), &story(log(0, &[(0, 5), (2, 7)]), &[]));
        fails(Conservation::default(), &story(log(2, &[(2, 7)]), &[]));
        let purge = Fact::AskedPurge { partition: P, before: 1 };
        fails(Conservation::default(), &story(log(2, &[(2, 7)]), &[purge]));
    }

    #[test]
    fn one_offset_told_for_two_sends_is_found() {
        let facts =
            [invoked(1, &[5]), acked(1, 0), invoked(2, &[6]), acked(2, 0), final_log(&[(0, 5)])];
        fails(Conservation::default(), &facts);
    }

    #[test]
    fn a_partition_that_is_gone_is_found_unless_its_topic_was_deleted() {
        let other = Fact::FinalLog {
            partition: TopicPartition { topic_id: mainspring_core::ids::Uuid([8; 16]), ..P },
            log_start: 0,
            records: vec![],
        };
        fails(Conservation::default(), &story(other.clone(), &[]));
        let deletion = Fact::AskedDeletion { topic_id: P.topic_id };
        verdict(Conservation::default(), &story(other, &[deletion])).expect("it went with it");
    }
}
