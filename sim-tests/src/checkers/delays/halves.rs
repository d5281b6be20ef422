//! I36: a half message is shown to nobody before it is committed; then it comes, and never if it is rolled back. The
//! first verdict is final.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use crate::history::{Fact, OperationId, Waiting};

#[derive(Debug)]
struct Half {
    partition: TopicPartition,
    /// A commit was sent.
    commit_asked: bool,
    /// The verdict that was acknowledged.
    verdict: Option<bool>,
    came: Option<i64>,
}

/// Follows each half message.
#[derive(Debug, Default)]
pub struct Halves {
    kept: BTreeMap<OperationId, Half>,
    /// What each verdict is about, and what it is.
    verdicts: BTreeMap<OperationId, (OperationId, bool)>,
    whole: BTreeSet<TopicPartition>,
    evaluations: u64,
}

impl Checker for Halves {
    fn id(&self) -> &'static str {
        "I36"
    }

    fn promise(&self) -> &'static str {
        "A half message comes if it is committed and not before, never if it is rolled back, and the first verdict is \
         final."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Scheduled { operation, partition, waits: Waiting::Verdict, .. } => {
                let half =
                    Half { partition: *partition, commit_asked: false, verdict: None, came: None };
                self.kept.insert(*operation, half);
            }
            Fact::VerdictAsked { command, about, committed } => {
                self.verdicts.insert(*command, (*about, *committed));
                if let Some(half) = self.kept.get_mut(about) {
                    half.commit_asked |= committed;
                }
            }
            Fact::VerdictAnswered { command, code: 0 } => {
                let Some((about, committed)) = self.verdicts.get(command) else { return Ok(()) };
                let Some(half) = self.kept.get_mut(about) else { return Ok(()) };
                self.evaluations += 1;
                if half.verdict.is_some_and(|before| before != *committed) {
                    return Err(format!("{about:?} was committed and rolled back"));
                }
                if let (Some(offset), false) = (half.came, *committed) {
                    return Err(format!("{about:?} came at {offset} and was rolled back"));
                }
                half.verdict = Some(*committed);
            }
            Fact::Came { operation, partition, offset, .. } => {
                let Some(half) = self.kept.get_mut(operation) else { return Ok(()) };
                self.evaluations += 1;
                if !half.commit_asked {
                    return Err(format!(
                        "{operation:?} came to {partition} at {offset}, and nobody has committed it"
                    ));
                }
                if half.verdict == Some(false) {
                    return Err(format!(
                        "{operation:?} came to {partition} at {offset} and is rolled back"
                    ));
                }
                half.came = Some(*offset);
            }
            Fact::ViewedWhole { partition, .. } => {
                self.whole.insert(*partition);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        for (operation, half) in &self.kept {
            if !self.whole.contains(&half.partition) {
                continue;
            }
            self.evaluations += 1;
            if half.verdict == Some(true) && half.came.is_none() {
                return Err(format!("{operation:?} was committed and never came"));
            }
        }
        Ok(())
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::super::testing::*;
    use super::*;

    fn story(rest: &[Fact]) -> Vec<Fact> {
        [&[sent(1, 5, Waiting::Verdict, None), taken(1, 0)], rest].concat()
    }

    #[test]
    fn committed_and_rolled_back_ones_pass() {
        let committed = [verdict_on(2, 1, true), came(1, 7, 0), judged(2, 0), whole(8)];
        passes(Halves::default(), &story(&committed));
        let rolled_back = [
            verdict_on(2, 1, false),
            judged(2, 0),
            verdict_on(3, 1, true),
            judged(3, 87),
            whole(8),
        ];
        passes(Halves::default(), &story(&rolled_back));
        passes(Halves::default(), &story(&[whole(8)]));
    }

    #[test]
    fn one_that_comes_without_a_commit_is_found() {
        fails(Halves::default(), &story(&[came(1, 7, 0)]));
        fails(Halves::default(), &story(&[verdict_on(2, 1, false), came(1, 7, 0)]));
    }

    #[test]
    fn one_that_comes_and_is_rolled_back_is_found() {
        let both = [verdict_on(2, 1, true), verdict_on(3, 1, false)];
        let then = |rest: [Fact; 2]| story(&[&both[..], &rest[..]].concat());
        fails(Halves::default(), &then([judged(3, 0), came(1, 7, 0)]));
        fails(Halves::default(), &then([came(1, 7, 0), judged(3, 0)]));
        fails(Halves::default(), &then([judged(2, 0), judged(3, 0)]));
    }

    #[test]
    fn a_committed_one_that_never_comes_is_found() {
        fails(Halves::default(), &story(&[verdict_on(2, 1, true), judged(2, 0), whole(8)]));
    }
}
