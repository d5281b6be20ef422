//! L1 in clusters: ten seconds after the last fault every partition with a complete replica among the nodes that
//! are well has a leader among them.

use std::collections::BTreeSet;

use super::ghost::{Ghost, place};
use crate::checkers::Checker;
use crate::history::Fact;

/// How soon there must be one, in nanoseconds.
const WITHIN: u64 = 10_000_000_000;

/// Waits for leaders once everything is healed.
#[derive(Debug, Default)]
pub struct LeadersAgain {
    ghost: Ghost,
    core: BTreeSet<usize>,
    until: Option<u64>,
    last: u64,
    evaluations: u64,
}

impl LeadersAgain {
    fn check(&mut self, at: u64) -> Result<(), String> {
        if self.until.is_none_or(|until| at < until) {
            return Ok(());
        }
        self.until = None;
        let ghost = &self.ghost;
        for (partition, decided) in ghost.decisions() {
            if ghost.is_deleted(partition) {
                continue;
            }
            let upto = ghost.committed(partition).map_or(0, |committed| committed.end);
            let complete = decided.isr.iter().map(|id| place(*id)).find(|node| {
                self.core.contains(node) && (upto == 0 || ghost.has_copy(partition, *node, upto))
            });
            let Some(complete) = complete else { continue };
            self.evaluations += 1;
            let leads = |(node, epoch): (usize, i32)| {
                self.core.contains(&node) && epoch == decided.leader_epoch
            };
            if !ghost.leaders(partition).any(leads) {
                return Err(format!(
                    "nobody leads {partition} {} s after the last fault, and node {complete} has all of it: {:?}",
                    WITHIN / 1_000_000_000,
                    decided
                ));
            }
        }
        Ok(())
    }
}

impl Checker for LeadersAgain {
    fn id(&self) -> &'static str {
        "L1C"
    }

    fn promise(&self) -> &'static str {
        "Ten seconds after the last fault every partition that can have a leader has one."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        self.last = at;
        self.check(at)?;
        if let Fact::Core { nodes } = fact {
            self.core = nodes.iter().copied().collect();
            self.until = Some(at + WITHIN);
        }
        self.ghost.observe(fact);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.check(self.last)
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// Runs a healthy cluster, of which these nodes are well, and what happens within the time.
    fn healed(well: &[usize], meanwhile: &[Fact]) -> Result<u64, String> {
        let mut checker = LeadersAgain::default();
        for fact in healthy() {
            checker.observe(1, &fact)?;
        }
        checker.observe(2, &Fact::Core { nodes: well.to_vec() })?;
        for fact in meanwhile {
            checker.observe(3, fact)?;
        }
        checker.observe(2 + WITHIN, &Fact::Gentle)?;
        checker.finish()?;
        Ok(checker.evaluations())
    }

    #[test]
    fn a_leader_that_is_well_passes() {
        assert_eq!(healed(&[0, 1], &[]), Ok(1));
        let next = [decided(2, Some(1), 2, &[1, 2]), led(1, 2, 2)];
        assert_eq!(healed(&[1, 2], &next), Ok(1));
    }

    #[test]
    fn a_partition_that_nobody_leads_is_found() {
        healed(&[1, 2], &[]).expect_err("its leader is lost");
        healed(&[0, 1], &[opened(0, 2)])
            .expect_err("its leader has started anew, and does not lead");
        healed(&[0, 1], &[decided(2, Some(1), 2, &[0, 1])])
            .expect_err("nobody took the new epoch up");
    }

    #[test]
    fn nobody_need_lead_what_is_deleted() {
        let asked = Fact::AskedDeletion { topic_id: P.topic_id };
        assert_eq!(healed(&[1, 2], &[asked]), Ok(0));
    }

    #[test]
    fn a_partition_without_a_complete_replica_may_wait() {
        let lost = decided(2, None, 2, &[0]);
        assert_eq!(healed(&[1, 2], &[lost]), Ok(0));
    }
}
