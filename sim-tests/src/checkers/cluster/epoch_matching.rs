//! I08: where two replicas have the same offset of the same epoch, everything before it is the same.

use std::collections::BTreeMap;

use mainspring_core::ids::{Offset, TopicPartition};
use mainspring_core::observe::ClusterEvent;

use super::ghost::{Batch, Ghost};
use crate::checkers::Checker;
use crate::history::Fact;

/// Holds each batch, and the one before it, against the same place of other logs.
#[derive(Debug, Default)]
pub struct EpochMatching {
    ghost: Ghost,
    /// Each batch by its epoch and offset, with the one before it where that is known.
    seen: BTreeMap<(TopicPartition, i32, i64), (Batch, Option<Batch>)>,
    /// The largest start that any log of a partition has told: nobody reads what lies before it, and a follower
    /// may still have something else there.
    starts: BTreeMap<TopicPartition, i64>,
    evaluations: u64,
}

impl Checker for EpochMatching {
    fn id(&self) -> &'static str {
        "I08"
    }

    fn promise(&self) -> &'static str {
        "Logs that have a record of the same epoch at the same offset are the same up to it."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        if let Fact::Reported {
            node,
            event:
                ClusterEvent::Appended { partition, base_offset, end_offset, leader_epoch, crc, .. },
        } = fact
        {
            let (base, end, epoch) = (base_offset.0, end_offset.0, leader_epoch.0);
            let batch = Batch { base, end, epoch, crc: *crc };
            let log = self.ghost.log(*partition, *node);
            let start = self.starts.get(partition).copied().unwrap_or(0);
            let before = log
                .and_then(super::ghost::Log::last)
                .filter(|before| before.end == base && before.base >= start);
            let known = self.seen.entry((*partition, epoch, base)).or_insert((batch, before));
            self.evaluations += 1;
            let differs = known.1.is_some_and(|known| before.is_some_and(|before| known != before));
            if known.0 != batch || differs {
                return Err(format!(
                    "node {node} has {batch:?} behind {before:?} in {partition}, where another node has {:?} \
                     behind {:?}",
                    known.0, known.1
                ));
            }
            known.1 = known.1.or(before);
        }
        let (Fact::Bounds { partition, log_start: start, .. }
        | Fact::Reported {
            event: ClusterEvent::Opened { partition, log_start_offset: Offset(start), .. },
            ..
        }) = fact
        else {
            self.ghost.observe(fact);
            return Ok(());
        };
        let known = self.starts.entry(*partition).or_insert(0);
        *known = (*known).max(*start);
        self.ghost.observe(fact);
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
    fn logs_that_part_at_an_epoch_pass() {
        let apart = [took(0, 2, 1, 30), led(1, 2, 2), took(1, 2, 2, 40), fetched(2, 2, 2, 40)];
        passes(EpochMatching::default(), &then(&apart));
    }

    #[test]
    fn two_batches_at_one_offset_of_an_epoch_are_found() {
        fails(EpochMatching::default(), &then(&[took(0, 2, 1, 30), fetched(1, 2, 1, 31)]));
    }

    #[test]
    fn the_same_batch_behind_different_ones_is_found() {
        let apart = [cut(1, 1), fetched(1, 1, 0, 50), took(0, 2, 1, 30), fetched(1, 2, 1, 30)];
        fails(EpochMatching::default(), &then(&apart));
    }

    #[test]
    fn what_lies_before_the_start_of_another_log_may_differ() {
        let started = told(
            0,
            ClusterEvent::Opened {
                partition: P,
                log_start_offset: Offset(2),
                log_end_offset: Offset(2),
            },
        );
        let apart =
            [cut(1, 1), fetched(1, 1, 0, 50), started, took(0, 2, 1, 30), fetched(1, 2, 1, 30)];
        passes(EpochMatching::default(), &then(&apart));
    }
}
