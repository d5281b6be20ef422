//! I10 on replicas: no cut, and no start, takes a committed record below the copies that it must have.

use mainspring_core::ids::TopicPartition;
use mainspring_core::observe::ClusterEvent;

use super::ghost::Ghost;
use crate::checkers::Checker;
use crate::history::Fact;

/// Counts what is left of each committed batch that a replica gives up.
#[derive(Debug, Default)]
pub struct Truncation {
    ghost: Ghost,
    evaluations: u64,
}

impl Truncation {
    /// Looks at a log that is about to end at `end`.
    fn check(&mut self, node: usize, partition: TopicPartition, end: i64) -> Result<(), String> {
        let ghost = &self.ghost;
        let (Some(log), Some(committed)) = (ghost.log(partition, node), ghost.committed(partition))
        else {
            return Ok(());
        };
        self.evaluations += 1;
        if ghost.is_exempt(partition) {
            return Ok(());
        }
        let Some(least) = ghost.least_copies(partition) else { return Ok(()) };
        // A batch goes as a whole.
        let lost = committed.between(log.start, committed.end).filter(|batch| batch.end > end);
        for batch in lost.filter(|batch| batch.end <= log.durable && log.holds(*batch)) {
            let has = |other: &usize| {
                let log = ghost.log(partition, *other);
                log.is_some_and(|log| batch.end <= log.durable && log.holds(batch))
            };
            let left: Vec<usize> = (0..ghost.nodes).filter(|it| *it != node).filter(has).collect();
            if left.len() < least.min(left.len() + 1) {
                return Err(format!(
                    "node {node} cuts {partition} to {end}, and with it the committed {batch:?}, of which only \
                     nodes {left:?} have a copy then"
                ));
            }
        }
        Ok(())
    }
}

impl Checker for Truncation {
    fn id(&self) -> &'static str {
        "I10R"
    }

    fn promise(&self) -> &'static str {
        "No replica gives up its copy of a committed record while too few others have one."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        let verdict = match fact {
            Fact::Reported { node, event: ClusterEvent::Truncated { partition, end } } => {
                self.check(*node, *partition, end.0)
            }
            Fact::Reported {
                node,
                event: ClusterEvent::Opened { partition, log_end_offset, .. },
            } => self.check(*node, *partition, log_end_offset.0),
            _ => Ok(()),
        };
        self.ghost.observe(fact);
        verdict
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
    fn what_was_never_committed_may_be_cut() {
        passes(Truncation::default(), &then(&[took(0, 2, 1, 30), flushed(0, 3), cut(0, 2)]));
    }

    #[test]
    fn a_copy_may_go_as_long_as_enough_are_left() {
        passes(Truncation::default(), &then(&[cut(2, 1)]));
        fails(Truncation::default(), &then(&[cut(2, 1), cut(1, 1)]));
    }

    #[test]
    fn a_start_that_lacks_what_was_flushed_is_found() {
        passes(Truncation::default(), &then(&[opened(1, 2), opened(2, 2)]));
        fails(Truncation::default(), &then(&[opened(1, 1), opened(2, 1)]));
    }
}
