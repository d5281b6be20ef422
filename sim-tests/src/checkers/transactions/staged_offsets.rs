//! I24O: offsets that are committed in a transaction are stored when it is committed, and never otherwise.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use crate::history::{Fact, OperationId};

/// Follows what each transaction would store of each group.
#[derive(Debug, Default)]
pub struct StagedOffsets {
    staged: BTreeMap<OperationId, BTreeMap<(u32, TopicPartition), i64>>,
    /// What transactions store that somebody has asked to commit.
    asked: BTreeMap<(u32, TopicPartition), BTreeSet<i64>>,
    /// What those stored at the least that are told to be committed.
    stored: BTreeMap<(u32, TopicPartition), i64>,
    questions: BTreeMap<OperationId, (u32, TopicPartition, i64)>,
    evaluations: u64,
}

impl Checker for StagedOffsets {
    fn id(&self) -> &'static str {
        "I24O"
    }

    fn promise(&self) -> &'static str {
        "Offsets of a transaction are stored once it is committed, and never if it is not."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::TakenIn { transaction, group, partition, to, .. } => {
                let staged = self.staged.entry(*transaction).or_default();
                let offset = staged.entry((*group, *partition)).or_insert(*to);
                *offset = (*offset).max(*to);
            }
            Fact::EndAsked { transaction, committed: true } => {
                for (place, offset) in self.staged.get(transaction).into_iter().flatten() {
                    self.asked.entry(*place).or_default().insert(*offset);
                }
            }
            Fact::TransactionEnded { transaction, committed: true } => {
                for (place, offset) in self.staged.get(transaction).into_iter().flatten() {
                    let stored = self.stored.entry(*place).or_insert(*offset);
                    *stored = (*stored).max(*offset);
                }
            }
            Fact::AskedStable { operation, group, partition } => {
                let least = self.stored.get(&(*group, *partition)).copied().unwrap_or(-1);
                self.questions.insert(*operation, (*group, *partition, least));
            }
            Fact::ToldStable { operation, offset } => {
                let Some((group, partition, least)) = self.questions.remove(operation) else {
                    return Ok(());
                };
                self.evaluations += 1;
                if *offset < least {
                    return Err(format!(
                        "group {group} is told to stand at {offset} of {partition} after a transaction that \
                         stored {least} was committed"
                    ));
                }
                let asked = self.asked.get(&(group, partition));
                if *offset >= 0 && !asked.is_some_and(|asked| asked.contains(offset)) {
                    return Err(format!(
                        "group {group} is told to stand at {offset} of {partition}, which no transaction has \
                         stored that anybody asked to commit"
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

    fn staged(transaction: u64, to: i64) -> Fact {
        let transaction = op(transaction);
        Fact::TakenIn { transaction, group: 1, partition: P, records: Vec::new(), to }
    }

    fn told(offset: i64) -> [Fact; 2] {
        [
            Fact::AskedStable { operation: op(1), group: 1, partition: P },
            Fact::ToldStable { operation: op(1), offset },
        ]
    }

    #[test]
    fn offsets_of_committed_transactions_pass() {
        let facts = [&told(-1)[..], &[staged(1, 5)], &ended(1, true), &told(5)].concat();
        passes(StagedOffsets::default(), &facts);
        // Whoever asks in between may be told either.
        for offset in [-1, 5] {
            let facts = [&[staged(1, 5)], &ended(1, true)[..1], &told(offset)].concat();
            passes(StagedOffsets::default(), &facts);
        }
    }

    #[test]
    fn offsets_of_an_open_or_aborted_transaction_are_found() {
        fails(StagedOffsets::default(), &[&[staged(1, 5)][..], &told(5)].concat());
        let facts = [&[staged(1, 5)], &ended(1, false)[..], &told(5)].concat();
        fails(StagedOffsets::default(), &facts);
    }

    #[test]
    fn offsets_that_are_lost_with_their_transaction_committed_are_found() {
        let facts = [&[staged(1, 5)], &ended(1, true)[..], &told(-1)].concat();
        fails(StagedOffsets::default(), &facts);
    }
}
