//! I09: in an epoch one node appends, the one that was named for it.

use std::collections::BTreeMap;

use mainspring_core::ids::{NodeId, TopicPartition};
use mainspring_core::observe::ClusterEvent;

use super::ghost::{Ghost, decision, place};
use crate::checkers::Checker;
use crate::history::Fact;

/// Remembers who leads and who writes in each epoch.
#[derive(Debug, Default)]
pub struct OneWriter {
    ghost: Ghost,
    writers: BTreeMap<(TopicPartition, i32), usize>,
    evaluations: u64,
}

impl OneWriter {
    fn writes(&mut self, node: usize, partition: TopicPartition, epoch: i32) -> Result<(), String> {
        self.evaluations += 1;
        let writer = *self.writers.entry((partition, epoch)).or_insert(node);
        if writer != node {
            return Err(format!(
                "nodes {writer} and {node} both lead epoch {epoch} of {partition}"
            ));
        }
        let named = self.ghost.of_epoch(partition, epoch).and_then(|it| it.leader).map(place);
        if named.is_some_and(|named| named != node) {
            return Err(format!(
                "node {node} leads epoch {epoch} of {partition}, for which node {named:?} was named"
            ));
        }
        Ok(())
    }
}

impl Checker for OneWriter {
    fn id(&self) -> &'static str {
        "I09"
    }

    fn promise(&self) -> &'static str {
        "In each epoch of a partition one node alone appends, the one that was named as its leader."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        self.ghost.observe(fact);
        let Fact::Reported { node, event } = fact else { return Ok(()) };
        match event {
            ClusterEvent::Led { partition, leader_epoch, .. } => {
                self.writes(*node, *partition, leader_epoch.0)
            }
            ClusterEvent::Appended { partition, leader_epoch, as_leader: true, .. } => {
                let epoch = leader_epoch.0;
                if self.ghost.leading(*partition, *node) != Some(epoch) {
                    return Err(format!(
                        "node {node} appends to {partition} in epoch {epoch}, which it does not lead"
                    ));
                }
                self.writes(*node, *partition, epoch)
            }
            ClusterEvent::Decided { partition, .. } => {
                let Some(decided) = decision(event) else { return Ok(()) };
                let NodeId(named) = decided.leader.unwrap_or(NodeId(-1));
                let writer = self.writers.get(&(*partition, decided.leader_epoch));
                match writer {
                    Some(writer) if named > 0 && place(NodeId(named)) != *writer => Err(format!(
                        "node {writer} led epoch {} of {partition}, for which node {} is named",
                        decided.leader_epoch,
                        named - 1
                    )),
                    _ => Ok(()),
                }
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
    fn one_leader_behind_the_other_passes() {
        let next = [decided(2, Some(1), 2, &[0, 1, 2]), led(1, 2, 2), took(1, 2, 2, 30)];
        passes(OneWriter::default(), &then(&next));
    }

    #[test]
    fn two_leaders_of_one_epoch_are_found() {
        fails(OneWriter::default(), &then(&[led(1, 1, 2)]));
    }

    #[test]
    fn a_leader_that_nobody_named_is_found() {
        let next = decided(2, Some(1), 2, &[0, 1, 2]);
        fails(OneWriter::default(), &then(&[next.clone(), led(2, 2, 2)]));
        fails(OneWriter::default(), &then(&[led(2, 2, 2), next]));
    }

    #[test]
    fn an_append_of_one_that_does_not_lead_is_found() {
        fails(OneWriter::default(), &then(&[took(1, 2, 2, 30)]));
        let follows = ClusterEvent::Followed {
            partition: P,
            leader_epoch: mainspring_core::ids::LeaderEpoch(2),
            leader: NodeId(2),
        };
        fails(OneWriter::default(), &then(&[told(0, follows), took(0, 2, 1, 30)]));
    }
}
