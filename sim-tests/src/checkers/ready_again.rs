//! L1: a node serves again within ten seconds of the end of its faults.

use std::collections::BTreeMap;

use super::Checker;
use crate::history::Fact;

/// How long a start may take where nothing strikes it, in nanoseconds.
const WITHIN: u64 = 10_000_000_000;

/// Waits for nodes that did not serve when their faults ended.
#[derive(Debug, Default)]
pub struct ReadyAgain {
    /// Until when each has to serve.
    waiting: BTreeMap<usize, u64>,
    /// When something was seen last.
    last: u64,
    evaluations: u64,
}

impl ReadyAgain {
    fn check(&self, at: u64) -> Result<(), String> {
        match self.waiting.iter().find(|(_, until)| at > **until) {
            Some((node, until)) => Err(format!(
                "node {node} serves nobody {} s after the last of its faults",
                (at - until + WITHIN) / 1_000_000_000
            )),
            None => Ok(()),
        }
    }
}

impl Checker for ReadyAgain {
    fn id(&self) -> &'static str {
        "L1"
    }

    fn promise(&self) -> &'static str {
        "Once the last fault of a node has ended, it serves within 10 seconds, without anybody's help."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        self.last = at;
        self.check(at)?;
        match fact {
            Fact::Healed { node, serves } => {
                self.evaluations += 1;
                if !serves {
                    self.waiting.insert(*node, at + WITHIN);
                }
            }
            Fact::Ready { node } | Fact::Fatal { node, excused: true, .. } => {
                self.waiting.remove(node);
            }
            _ => {}
        }
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

    fn seen(checker: &mut ReadyAgain, at: u64, fact: &Fact) -> Result<(), String> {
        checker.observe(at, fact)
    }

    #[test]
    fn a_node_that_serves_or_comes_back_in_time_is_fine() {
        let ready = Fact::Ready { node: 0 };
        passes(ReadyAgain::default(), &[Fact::Healed { node: 0, serves: true }]);
        passes(ReadyAgain::default(), &[Fact::Healed { node: 0, serves: false }, ready]);
    }

    #[test]
    fn a_node_that_does_not_come_back_in_time_is_found() {
        let mut checker = ReadyAgain::default();
        seen(&mut checker, 5, &Fact::Healed { node: 1, serves: false }).expect("it has time");
        seen(&mut checker, WITHIN, &Fact::Ready { node: 0 }).expect("it has time");
        seen(&mut checker, WITHIN + 6, &Fact::Ready { node: 1 }).expect_err("it came too late");
    }
}
