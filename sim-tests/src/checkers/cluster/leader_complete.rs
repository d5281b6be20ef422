//! I02: whoever becomes leader has everything that was committed in the epochs before its own.
//!
//! A node that catches up takes roles up that are long past; what later leaders have committed since is not
//! held against it.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;
use mainspring_core::observe::ClusterEvent;

use super::ghost::Ghost;
use crate::checkers::Checker;
use crate::history::Fact;

/// Looks at the log of each new leader.
#[derive(Debug, Default)]
pub struct LeaderComplete {
    ghost: Ghost,
    /// How far each epoch's leader has committed.
    ends: BTreeMap<(TopicPartition, i32), i64>,
    evaluations: u64,
}

impl LeaderComplete {
    /// Takes a fact in, and keeps in whose epoch something was committed.
    fn follow(&mut self, fact: &Fact) {
        self.ghost.observe(fact);
        let (Fact::HighWatermark { node, partition, .. } | Fact::Bounds { node, partition, .. }) =
            fact
        else {
            return;
        };
        let (node, partition) = (*node, *partition);
        let Some(committed) = self.ghost.committed(partition) else { return };
        let told = self.ends.range((partition, i32::MIN)..=(partition, i32::MAX));
        if told.map(|(_, end)| *end).max() >= Some(committed.end) {
            return;
        }
        // Who follows knows it from its leader, who told it before.
        let decided = || self.ghost.decided(partition).map(|it| it.leader_epoch);
        let epoch = self.ghost.leading(partition, node).or_else(decided).unwrap_or(i32::MIN);
        self.ends.insert((partition, epoch), committed.end);
    }
}

impl Checker for LeaderComplete {
    fn id(&self) -> &'static str {
        "I02"
    }

    fn promise(&self) -> &'static str {
        "A new leader has every record that was ever committed, so that no change of leaders loses one."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        self.follow(fact);
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
        let earlier = self.ends.range((*partition, i32::MIN)..(*partition, leader_epoch.0));
        let Some(before) = earlier.map(|(_, end)| *end).max() else { return Ok(()) };
        if end.0 < before {
            return Err(format!(
                "node {node} leads epoch {leader_epoch} of {partition} with a log up to {end}, and {before} \
                 was committed before"
            ));
        }
        if ghost.log(*partition, *node).is_some_and(|log| !log.agrees(committed, before)) {
            return Err(format!(
                "node {node} leads epoch {leader_epoch} of {partition} with another log than what was \
                 committed before up to {before}"
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
    fn an_old_role_is_not_held_against_what_was_committed_since() {
        passes(LeaderComplete::default(), &then(&[cut(1, 1), led(1, 0, 1)]));
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
