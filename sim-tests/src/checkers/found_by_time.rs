//! I17: who looks for a time is told the first record of that time or a later one.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::Fact;

/// Knows which records may have gone.
#[derive(Debug, Default)]
pub struct FoundByTime {
    asked: BTreeMap<TopicPartition, i64>,
    /// Records go by themselves, so that nobody can say what should have been found.
    expires: bool,
    evaluations: u64,
}

impl Checker for FoundByTime {
    fn id(&self) -> &'static str {
        "I17"
    }

    fn promise(&self) -> &'static str {
        "Who looks for a time is told the first record of that time or a later one."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Retention { .. } => self.expires = true,
            Fact::AskedPurge { partition, before } => {
                let asked = self.asked.entry(*partition).or_insert(0);
                *asked = (*asked).max(*before);
            }
            Fact::FoundByTime { partition, time, known, found } if !self.expires => {
                let gone = self.asked.get(partition).copied().unwrap_or(0);
                if *known < gone {
                    return Ok(());
                }
                self.evaluations += 1;
                let passed = found.is_none_or(|(offset, found)| offset > *known || found < *time);
                if passed {
                    return Err(format!(
                        "the first record of {time} ms or later in {partition} is told to be \
                         {found:?}, and offset {known} has that time"
                    ));
                }
            }
            _ => {}
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

    fn told(found: Option<(i64, i64)>) -> Fact {
        Fact::FoundByTime { partition: P, time: 50, known: 7, found }
    }

    #[test]
    fn a_record_that_is_passed_over_is_found() {
        passes(FoundByTime::default(), &[told(Some((7, 50))), told(Some((3, 60)))]);
        fails(FoundByTime::default(), &[told(Some((8, 50)))]);
        fails(FoundByTime::default(), &[told(Some((7, 49)))]);
        fails(FoundByTime::default(), &[told(None)]);
    }

    #[test]
    fn what_was_to_go_need_not_be_found() {
        let purged = Fact::AskedPurge { partition: P, before: 8 };
        let found = told(Some((7, 50)));
        passes(FoundByTime::default(), &[found.clone(), purged, told(None)]);
        passes(FoundByTime::default(), &[found, Fact::Retention { age: 5 }, told(None)]);
    }
}
