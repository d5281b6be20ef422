//! I06 on replicas: a high watermark passes nothing that fewer than MIN replicas, or not the whole in-sync
//! set, have flushed; of the metadata log, less than a majority.

use mainspring_core::ids::TopicPartition;

use super::ghost::{Ghost, place};
use crate::checkers::Checker;
use crate::history::Fact;

/// Looks at the disks of all replicas whenever the largest high watermark moves.
#[derive(Debug, Default)]
pub struct ReplicaStored {
    ghost: Ghost,
    evaluations: u64,
}

impl ReplicaStored {
    fn check(&mut self, node: usize, partition: TopicPartition, offset: i64) -> Result<(), String> {
        let ghost = &self.ghost;
        if ghost.is_exempt(partition) {
            return Ok(());
        }
        let Some(least) = ghost.least_copies(partition) else { return Ok(()) };
        self.evaluations += 1;
        let copies = ghost.copies(partition, offset);
        // What a disk has lost since is counted by I10 and I38.
        if copies.len() + ghost.reverted() < least {
            return Err(format!(
                "node {node} commits {partition} up to {offset}, which is flushed on nodes {copies:?} alone, \
                 and {least} must have it"
            ));
        }
        let epoch = ghost.leading(partition, node);
        let decision = epoch.and_then(|epoch| ghost.of_epoch(partition, epoch));
        let lacks = |member: &usize| !copies.contains(member) && !ghost.was_reverted(*member);
        let members = decision.iter().flat_map(|decision| &decision.isr).map(|id| place(*id));
        if let Some(member) = members.into_iter().find(lacks) {
            return Err(format!(
                "node {node} commits {partition} up to {offset}, and node {member} is in sync and has flushed \
                 {:?} of it",
                ghost.log(partition, member).map(|log| log.durable)
            ));
        }
        Ok(())
    }
}

impl Checker for ReplicaStored {
    fn id(&self) -> &'static str {
        "I06R"
    }

    fn promise(&self) -> &'static str {
        "A record counts as committed only when enough replicas, and all that are in sync, have flushed it."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        let moved = match fact {
            Fact::HighWatermark { node, partition, offset }
            | Fact::Bounds { node, partition, high_watermark: offset, .. } => {
                let before = self.ghost.committed(*partition).map_or(0, |committed| committed.end);
                (*offset > before).then_some((*node, *partition, *offset))
            }
            _ => None,
        };
        self.ghost.observe(fact);
        moved.map_or(Ok(()), |(node, partition, offset)| self.check(node, partition, offset))
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// A healthy cluster in which a third record is flushed by these.
    fn third(by: &[usize]) -> Vec<Fact> {
        let mut facts = then(&[took(0, 2, 1, 20), fetched(1, 2, 1, 20), fetched(2, 2, 1, 20)]);
        facts.extend(by.iter().map(|node| flushed(*node, 3)));
        facts
    }

    #[test]
    fn what_all_in_sync_replicas_have_flushed_may_be_committed() {
        let mut facts = third(&[0, 1, 2]);
        facts.push(high(0, 3));
        passes(ReplicaStored::default(), &facts);
        // Without the third one where it is out.
        let mut facts = third(&[0, 1]);
        facts.extend([decided(2, Some(0), 1, &[0, 1]), high(0, 3)]);
        passes(ReplicaStored::default(), &facts);
    }

    #[test]
    fn what_one_that_is_in_sync_has_not_flushed_is_found() {
        let mut facts = third(&[0, 1]);
        facts.push(high(0, 3));
        fails(ReplicaStored::default(), &facts);
    }

    #[test]
    fn what_too_few_have_flushed_is_found() {
        let mut facts = third(&[0]);
        facts.extend([decided(2, Some(0), 1, &[0]), high(0, 3)]);
        fails(ReplicaStored::default(), &facts);
    }

    #[test]
    fn a_copy_that_differs_counts_for_nothing() {
        let mut facts = then(&[took(0, 2, 1, 20), fetched(1, 2, 1, 21), fetched(2, 2, 1, 20)]);
        facts.extend((0..3).map(|node| flushed(node, 3)));
        facts.push(high(0, 3));
        fails(ReplicaStored::default(), &facts);
    }

    #[test]
    fn the_metadata_log_needs_a_majority() {
        let story = |by: &[usize]| {
            let mut facts = vec![cluster()];
            facts.extend((0..3).map(|node| opened_of(META, node, 0)));
            facts.push(led_of(META, 0, 1, 0));
            facts.extend((0..3).map(|node| appended_to(META, (node, node == 0), 0, (1, 5))));
            facts.extend(by.iter().map(|node| Fact::Stored {
                node: *node,
                partition: META,
                end: 1,
                durable: true,
            }));
            facts.push(Fact::HighWatermark { node: 0, partition: META, offset: 1 });
            facts
        };
        passes(ReplicaStored::default(), &story(&[0, 2]));
        fails(ReplicaStored::default(), &story(&[2]));
    }
}
