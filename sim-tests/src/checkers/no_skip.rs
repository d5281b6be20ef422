//! I27: what lies before a committed offset was taken into work by some member, so nothing is passed over.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::Fact;

/// Follows how far each partition was taken into work without a hole.
#[derive(Debug, Default)]
pub struct NoSkip {
    done: BTreeMap<(u32, TopicPartition), i64>,
    evaluations: u64,
}

impl Checker for NoSkip {
    fn id(&self) -> &'static str {
        "I27"
    }

    fn promise(&self) -> &'static str {
        "A group goes on no further than it has worked, so that no record is passed over."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Processed { group, partition, from, to } => {
                self.evaluations += 1;
                let done = self.done.entry((*group, *partition)).or_insert(0);
                if from > done {
                    return Err(format!(
                        "a member of group {group} goes on at offset {from} of {partition}, and \
                         nobody has had what begins at {done}"
                    ));
                }
                *done = (*done).max(*to);
            }
            Fact::CommitAsked { group, partition, offset, .. } => {
                let done = self.done.get(&(*group, *partition)).copied().unwrap_or(0);
                if *offset > done {
                    return Err(format!(
                        "offset {offset} of {partition} is committed in group {group}, and only \
                         what is before {done} was worked on"
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

    fn processed(from: i64, to: i64) -> Fact {
        Fact::Processed { group: 0, partition: P, from, to }
    }

    #[test]
    fn a_member_that_begins_behind_what_was_done_is_found() {
        passes(NoSkip::default(), &[processed(0, 5), processed(3, 9), processed(9, 10)]);
        fails(NoSkip::default(), &[processed(0, 5), processed(6, 9)]);
    }

    #[test]
    fn a_commit_of_what_nobody_had_is_found() {
        let commit = |offset| Fact::CommitAsked {
            operation: op(1),
            group: 0,
            member: member("a", 1),
            partition: P,
            offset,
        };
        passes(NoSkip::default(), &[processed(0, 5), commit(5)]);
        fails(NoSkip::default(), &[processed(0, 5), commit(6)]);
    }
}
