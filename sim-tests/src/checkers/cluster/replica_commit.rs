//! I01 on every replica: what a committed offset holds is the same everywhere, and never changes.

use mainspring_core::ids::TopicPartition;
use mainspring_core::observe::ClusterEvent;

use super::ghost::{Batch, Ghost};
use crate::checkers::Checker;
use crate::history::Fact;

/// Compares each log with what is committed, whenever a high watermark or the log moves.
#[derive(Debug, Default)]
pub struct ReplicaCommit {
    ghost: Ghost,
    evaluations: u64,
}

impl ReplicaCommit {
    fn compare(
        &mut self,
        node: usize,
        partition: TopicPartition,
        offset: i64,
    ) -> Result<(), String> {
        let ghost = &self.ghost;
        let (Some(log), Some(committed)) = (ghost.log(partition, node), ghost.committed(partition))
        else {
            return Ok(());
        };
        if ghost.is_exempt(partition) || offset <= log.start {
            return Ok(());
        }
        self.evaluations += 1;
        if offset > log.end {
            return Err(format!(
                "the high watermark of {partition} on node {node} is {offset}, and its log ends at {}",
                log.end
            ));
        }
        if !log.agrees(committed, offset) {
            return Err(format!(
                "the log of {partition} on node {node} holds something else below its high watermark {offset} \
                 than what was committed there"
            ));
        }
        Ok(())
    }
}

impl Checker for ReplicaCommit {
    fn id(&self) -> &'static str {
        "I01R"
    }

    fn promise(&self) -> &'static str {
        "What is committed at an offset is the same record on every replica."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        self.ghost.observe(fact);
        match fact {
            Fact::HighWatermark { node, partition, offset }
            | Fact::Bounds { node, partition, high_watermark: offset, .. } => {
                self.compare(*node, *partition, *offset)
            }
            Fact::Reported {
                node,
                event:
                    ClusterEvent::Appended {
                        partition, base_offset, end_offset, leader_epoch, crc, ..
                    },
            } => {
                let Some(committed) = self.ghost.committed(*partition) else { return Ok(()) };
                if base_offset.0 >= committed.end || base_offset.0 < committed.start {
                    return Ok(());
                }
                self.evaluations += 1;
                let (base, end) = (base_offset.0, end_offset.0);
                let batch = Batch { base, end, epoch: leader_epoch.0, crc: *crc };
                if committed.holds(batch) || self.ghost.is_exempt(*partition) {
                    return Ok(());
                }
                // A replica that is behind may hold what it will have to cut, but only of an epoch that is over.
                let newest = committed.last().map(|it| it.epoch);
                if newest.is_some_and(|newest| leader_epoch.0 < newest) {
                    return Ok(());
                }
                Err(format!(
                    "node {node} puts {batch:?} into {partition}, where something else is committed up to {}",
                    committed.end
                ))
            }
            _ => Ok(()),
        }
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
    fn replicas_that_hold_the_same_pass() {
        passes(ReplicaCommit::default(), &then(&[high(1, 2), high(2, 1)]));
    }

    #[test]
    fn another_record_below_a_high_watermark_is_found() {
        let mut facts = healthy();
        let at = facts.len() - 4;
        facts.splice(at - 1..at - 1, [cut(2, 1), fetched(2, 1, 1, 99)]);
        passes(ReplicaCommit::default(), &facts);
        facts.push(high(2, 2));
        fails(ReplicaCommit::default(), &facts);
    }

    #[test]
    fn a_high_watermark_beyond_the_end_of_a_log_is_found() {
        fails(ReplicaCommit::default(), &then(&[high(1, 3)]));
    }

    #[test]
    fn an_append_where_something_else_is_committed_is_found() {
        fails(ReplicaCommit::default(), &then(&[cut(1, 1), took(1, 1, 2, 77)]));
        // Of an epoch that was over already it is one that will be cut.
        let mut facts = then(&[led(1, 2, 2), took(1, 2, 2, 20), fetched(2, 2, 2, 20)]);
        facts.extend([flushed(1, 3), flushed(2, 3), high(1, 3), took(0, 2, 1, 30)]);
        passes(ReplicaCommit::default(), &facts);
    }
}
