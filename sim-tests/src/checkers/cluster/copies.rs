//! I38: moving, draining and taking in replicas never takes the copies of what is committed below
//! min(MIN, copies before).

use mainspring_core::ids::NodeId;
use mainspring_core::observe::ClusterEvent;

use super::ghost::{Ghost, decision, place};
use crate::checkers::Checker;
use crate::history::Fact;

/// Counts copies whenever the replicas of a partition change.
#[derive(Debug, Default)]
pub struct Copies {
    ghost: Ghost,
    evaluations: u64,
}

impl Checker for Copies {
    fn id(&self) -> &'static str {
        "I38"
    }

    fn promise(&self) -> &'static str {
        "A change of replicas never leaves fewer copies than there must be, or than there were."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        let before = match fact {
            Fact::Reported { event: ClusterEvent::Decided { partition, .. }, .. } => {
                self.ghost.decided(*partition).cloned().map(|before| (*partition, before))
            }
            _ => None,
        };
        self.ghost.observe(fact);
        let (Some((partition, before)), Fact::Reported { event, .. }) = (before, fact) else {
            return Ok(());
        };
        let Some(after) = decision(event) else { return Ok(()) };
        if after.partition_epoch <= before.partition_epoch {
            return Ok(());
        }
        self.evaluations += 1;
        let ghost = &self.ghost;
        let Some(committed) = ghost.committed(partition).filter(|_| !ghost.is_exempt(partition))
        else {
            return Ok(());
        };
        let copies = ghost.copies(partition, committed.end);
        let among = |replicas: &[NodeId]| {
            replicas.iter().filter(|id| copies.contains(&place(**id))).count()
        };
        let (had, has) = (among(&before.replicas), among(&after.replicas));
        let least = ghost.least_copies(partition).unwrap_or(1).min(had);
        if has < least {
            return Err(format!(
                "{partition} moves from {:?} to {:?}, of which {has} have what is committed up to {}; before it \
                 were {had}",
                before.replicas, after.replicas, committed.end
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
    fn a_replica_that_goes_while_enough_stay_passes() {
        let gone = decided_with(2, Some(0), 1, (&[0, 1], &[0, 1]));
        passes(Copies::default(), &then(&[gone]));
    }

    #[test]
    fn a_move_to_a_node_that_has_nothing_yet_is_found() {
        let mut facts = then(&[Fact::Cluster { nodes: 4, min_in_sync: 2 }, opened(3, 0)]);
        facts.push(decided_with(2, Some(0), 1, (&[0, 3], &[0])));
        fails(Copies::default(), &facts);
        // Once it has everything it may take the place of the others.
        let at = facts.len() - 1;
        facts.splice(at..at, [fetched(3, 0, 1, 10), fetched(3, 1, 1, 11), flushed(3, 2)]);
        passes(Copies::default(), &facts);
    }

    #[test]
    fn an_empty_disk_is_no_copy() {
        let gone = decided_with(2, Some(0), 1, (&[0, 1], &[0]));
        fails(Copies::default(), &then(&[Fact::Reverted { node: 1 }, gone]));
    }
}
