//! I02: whoever becomes leader has everything that is committed.

use mainspring_core::observe::ClusterEvent;

use super::ghost::Ghost;
use crate::checkers::Checker;
use crate::history::Fact;

/// Looks at the log of each new leader.
#[derive(Debug, Default)]
pub struct LeaderComplete {
    ghost: Ghost,
    evaluations: u64,
}

impl Checker for LeaderComplete {
    fn id(&self) -> &'static str {
        "I02"
    }

    fn promise(&self) -> &'static str {
        "A new leader has every record that was ever committed, so that no change of leaders loses one."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        self.ghost.observe(fact);
        let Fact::Reported { node, event: ClusterEvent::Led { partition, leader_epoch, end } } =
            fact
        else {
            return Ok(());
        };
        let ghost = &self.ghost;
        self.evaluations += 1;
        let Some(committed) = ghost.committed(*partition).filter(|_| !ghost.is_exempt(*partition))
        else {
            return Ok(());
        };
        if end.0 < committed.end {
            return Err(format!(
                "node {node} leads epoch {leader_epoch} of {partition} with a log up to {end}, and {} is \
                 committed",
                committed.end
            ));
        }
        if ghost.log(*partition, *node).is_some_and(|log| !log.agrees(committed, committed.end)) {
            return Err(format!(
                "node {node} leads epoch {leader_epoch} of {partition} with another log than what is \
                 committed up to {}",
                committed.end
            ));
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
    fn a_leader_with_everything_passes() {
        passes(LeaderComplete::default(), &then(&[led(1, 2, 2)]));
    }

    #[test]
    fn a_leader_that_lacks_something_is_found() {
        fails(LeaderComplete::default(), &then(&[cut(1, 1), led(1, 2, 1)]));
        // Nor does it help to say otherwise.
        fails(LeaderComplete::default(), &then(&[cut(1, 1), led(1, 2, 2)]));
    }

    #[test]
    fn a_leader_with_another_record_is_found() {
        fails(LeaderComplete::default(), &then(&[cut(1, 1), fetched(1, 1, 0, 99), led(1, 2, 2)]));
    }
}
