//! F14: of what is sent twice with one dedup id a partition shows one record.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use crate::history::{Fact, OperationId};

/// Remembers where what was sent twice came.
#[derive(Debug, Default)]
pub struct Dedup {
    again: BTreeSet<OperationId>,
    came: BTreeMap<(OperationId, TopicPartition), i64>,
    evaluations: u64,
}

impl Checker for Dedup {
    fn id(&self) -> &'static str {
        "F14"
    }

    fn promise(&self) -> &'static str {
        "Of records with one dedup id within the window a partition shows one."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::SentAgain { operation } => {
                self.again.insert(*operation);
            }
            Fact::Came { operation, partition, offset, .. } if self.again.contains(operation) => {
                self.evaluations += 1;
                let before = self.came.insert((*operation, *partition), *offset);
                if let Some(before) = before.filter(|before| before != offset) {
                    return Err(format!(
                        "{operation:?} was sent twice with one dedup id and came to {partition} at {before} and \
                         at {offset}"
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
    use super::super::super::testing::*;
    use super::super::testing::*;
    use super::*;

    #[test]
    fn one_of_two_passes() {
        passes(Dedup::default(), &[scheduled(1, 5), again(1), came(1, 7, 0), came(1, 7, 0)]);
    }

    #[test]
    fn both_of_two_are_found() {
        fails(Dedup::default(), &[scheduled(1, 5), again(1), came(1, 7, 0), came(1, 8, 1)]);
    }
}
