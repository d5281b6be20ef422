//! L4: a minute after the last fault all replicas that are well are in sync and hold the same, and all nodes that
//! are well vote, those with new disks too.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;
use mainspring_core::observe::ClusterEvent;

use super::ghost::{Ghost, place};
use crate::checkers::Checker;
use crate::history::Fact;

/// How soon they must be alike, in nanoseconds. What is to be carried in a world takes no time beside it.
const WITHIN: u64 = 60_000_000_000;

/// Compares replicas at the end of a run that has gone on for long enough.
#[derive(Debug, Default)]
pub struct ReplicasAlike {
    ghost: Ghost,
    core: BTreeSet<usize>,
    /// Which nodes vote, as each said last.
    votes: BTreeMap<usize, bool>,
    until: Option<u64>,
    last: u64,
    evaluations: u64,
}

impl ReplicasAlike {
    fn compare(
        &mut self,
        partition: TopicPartition,
        nodes: &BTreeSet<usize>,
    ) -> Result<(), String> {
        let ghost = &self.ghost;
        let Some(committed) = ghost.committed(partition) else { return Ok(()) };
        for node in nodes {
            self.evaluations += 1;
            if !ghost.has_copy(partition, *node, committed.end) {
                return Err(format!(
                    "node {node} has flushed {:?} of {partition} {} s after the last fault, of which {} is \
                     committed",
                    ghost.log(partition, *node).map(|log| log.durable),
                    WITHIN / 1_000_000_000,
                    committed.end
                ));
            }
        }
        Ok(())
    }
}

impl Checker for ReplicasAlike {
    fn id(&self) -> &'static str {
        "L4"
    }

    fn promise(&self) -> &'static str {
        "A minute after the last fault all replicas on nodes that are well are in sync and hold the same, and those \
         nodes vote."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        self.last = at;
        if let Fact::Reported { node, event: ClusterEvent::Votes(votes) } = fact {
            self.votes.insert(*node, *votes);
        }
        if let Fact::Core { nodes } = fact {
            self.core = nodes.iter().copied().collect();
            self.until = Some(at + WITHIN);
        }
        self.ghost.observe(fact);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.until.is_none_or(|until| self.last < until) {
            return Ok(());
        }
        let core = self.core.clone();
        for node in &core {
            self.evaluations += 1;
            if self.votes.get(node) == Some(&false) {
                return Err(format!(
                    "node {node} does not vote {} s after the last fault",
                    WITHIN / 1_000_000_000
                ));
            }
        }
        let decided: Vec<_> = self.ghost.decisions().map(|(p, it)| (p, it.clone())).collect();
        for (partition, decided) in decided {
            if self.ghost.is_deleted(partition) {
                continue;
            }
            let well: BTreeSet<usize> = decided
                .replicas
                .iter()
                .map(|id| place(*id))
                .filter(|node| core.contains(node))
                .collect();
            // Without anybody in sync who is well, nobody could tell the others what to hold.
            if !decided.isr.iter().any(|id| core.contains(&place(*id))) {
                continue;
            }
            self.evaluations += 1;
            let out = well.iter().find(|node| !decided.isr.iter().any(|id| place(*id) == **node));
            if let Some(out) = out {
                return Err(format!(
                    "node {out} is not in sync with {partition} {} s after the last fault: {decided:?}",
                    WITHIN / 1_000_000_000
                ));
            }
            self.compare(partition, &well)?;
        }
        self.compare(TopicPartition::CLUSTER_METADATA, &core)
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn healed(facts: &[Fact], time: u64) -> Result<u64, String> {
        let mut checker = ReplicasAlike::default();
        for fact in facts {
            checker.observe(1, fact)?;
        }
        checker.observe(2, &Fact::Core { nodes: vec![0, 1] })?;
        checker.observe(2 + time, &Fact::Gentle)?;
        checker.finish()?;
        Ok(checker.evaluations())
    }

    #[test]
    fn replicas_that_are_alike_pass_and_the_lost_one_is_nobodys_concern() {
        assert!(healed(&healthy(), WITHIN) > Ok(0));
        let without = then(&[decided(2, Some(0), 1, &[0, 1]), cut(2, 0)]);
        assert!(healed(&without, WITHIN) > Ok(0));
    }

    #[test]
    fn a_replica_that_is_behind_or_out_of_sync_is_found() {
        healed(&then(&[cut(1, 1)]), WITHIN).expect_err("it lacks a record");
        healed(&then(&[decided(2, Some(0), 1, &[0, 2])]), WITHIN).expect_err("it is out of sync");
        let other = then(&[cut(1, 1), fetched(1, 1, 0, 99), flushed(1, 2)]);
        healed(&other, WITHIN).expect_err("it holds another record");
    }

    #[test]
    fn a_node_that_was_given_no_vote_is_found() {
        let votes = |node, votes| told(node, ClusterEvent::Votes(votes));
        healed(&then(&[votes(1, false)]), WITHIN).expect_err("its disk is new, and it never votes");
        assert!(healed(&then(&[votes(1, false), votes(1, true), votes(2, false)]), WITHIN) > Ok(0));
    }

    #[test]
    fn a_run_that_ends_early_shows_nothing() {
        assert_eq!(healed(&then(&[cut(1, 1)]), WITHIN - 1), Ok(0));
    }
}
