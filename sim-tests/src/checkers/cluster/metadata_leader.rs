//! L2: five seconds after the last fault somebody who is well leads the metadata log.

use std::collections::BTreeSet;

use mainspring_core::ids::TopicPartition;
use mainspring_core::observe::ClusterEvent;

use super::ghost::Ghost;
use crate::checkers::Checker;
use crate::history::Fact;

/// How soon there must be one, in nanoseconds.
const WITHIN: u64 = 5_000_000_000;

/// Waits for a leader once everything is healed.
#[derive(Debug, Default)]
pub struct MetadataLeader {
    ghost: Ghost,
    core: BTreeSet<usize>,
    until: Option<u64>,
    /// Whether a voter's disk was emptied, which votes no more: one that still ends when the faults do may be
    /// needed.
    is_scarce: bool,
    last: u64,
    evaluations: u64,
}

impl MetadataLeader {
    fn check(&mut self, at: u64) -> Result<(), String> {
        if self.until.is_none_or(|until| at < until) {
            return Ok(());
        }
        self.until = None;
        self.evaluations += 1;
        let mut leaders = self.ghost.leaders(TopicPartition::CLUSTER_METADATA);
        if leaders.any(|(node, _)| self.core.contains(&node)) {
            return Ok(());
        }
        Err(format!(
            "none of nodes {:?} leads the metadata log {} s after the last fault",
            self.core,
            WITHIN / 1_000_000_000
        ))
    }
}

impl Checker for MetadataLeader {
    fn id(&self) -> &'static str {
        "L2"
    }

    fn promise(&self) -> &'static str {
        "Five seconds after the last fault the metadata log has a leader among the nodes that are well."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        self.last = at;
        self.check(at)?;
        match fact {
            Fact::Core { nodes } => {
                self.core = nodes.iter().copied().collect();
                let within = if self.is_scarce { 3 * WITHIN } else { WITHIN };
                self.until = Some(at + within);
            }
            Fact::Reverted { .. } => self.is_scarce = true,
            // Who was told to stop before, and has only now ended, starts once more.
            Fact::Reported { node, event: ClusterEvent::Opened { partition, .. } }
                if *partition == TopicPartition::CLUSTER_METADATA && self.core.contains(node) =>
            {
                self.until = self.until.map(|until| until.max(at + WITHIN));
            }
            _ => {}
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

    fn healed(before: &[Fact], meanwhile: &[Fact]) -> Result<u64, String> {
        let mut checker = MetadataLeader::default();
        for fact in before {
            checker.observe(1, fact)?;
        }
        checker.observe(2, &Fact::Core { nodes: vec![1, 2] })?;
        for fact in meanwhile {
            checker.observe(WITHIN, fact)?;
        }
        checker.observe(2 + WITHIN, &Fact::Gentle)?;
        if meanwhile
            .iter()
            .any(|fact| matches!(fact, Fact::Reported { event: ClusterEvent::Opened { .. }, .. }))
        {
            assert_eq!(checker.evaluations(), 0, "who starts anew is given time");
        }
        checker.observe(2 + 2 * WITHIN, &Fact::Gentle)?;
        checker.finish()?;
        Ok(checker.evaluations())
    }

    #[test]
    fn a_leader_of_before_or_of_meanwhile_passes() {
        assert_eq!(healed(&[led_of(META, 1, 3, 0)], &[]), Ok(1));
        assert_eq!(healed(&[], &[led_of(META, 2, 3, 0)]), Ok(1));
    }

    #[test]
    fn none_or_one_that_is_lost_or_has_died_is_found() {
        healed(&[], &[]).expect_err("there is none");
        healed(&[led_of(META, 0, 3, 0)], &[]).expect_err("it is not well");
        healed(&[led_of(META, 1, 3, 0)], &[opened_of(META, 1, 0)])
            .expect_err("it has started anew");
    }
}
