//! I01: what a committed offset holds never changes.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, OperationId};

/// Remembers the record at each offset from the first time that anybody was shown it.
#[derive(Debug, Default)]
pub struct CommitOnce {
    committed: BTreeMap<TopicPartition, BTreeMap<i64, u64>>,
    sent: BTreeMap<OperationId, (TopicPartition, Vec<u64>)>,
    evaluations: u64,
}

impl CommitOnce {
    fn commit(
        &mut self,
        partition: TopicPartition,
        records: impl Iterator<Item = (i64, u64)>,
    ) -> Result<(), String> {
        let committed = self.committed.entry(partition).or_default();
        for (offset, hash) in records {
            self.evaluations += 1;
            let first = *committed.entry(offset).or_insert(hash);
            if first != hash {
                return Err(format!(
                    "offset {offset} of {partition} held {first:016x} and holds {hash:016x}"
                ));
            }
        }
        Ok(())
    }
}

impl Checker for CommitOnce {
    fn id(&self) -> &'static str {
        "I01"
    }

    fn promise(&self) -> &'static str {
        "Once a record is committed, its offset holds that record and never another."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, records.clone()));
            }
            Fact::Acked { operation, base_offset } => {
                let Some((partition, records)) = self.sent.remove(operation) else {
                    return Ok(());
                };
                self.commit(partition, (*base_offset..).zip(records))?;
            }
            Fact::Read { partition, records, .. } | Fact::FinalLog { partition, records, .. } => {
                self.commit(*partition, records.iter().map(|record| (record.offset, record.hash)))?;
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

    #[test]
    fn an_offset_that_changes_its_record_is_found() {
        passes(CommitOnce::default(), &[read(0, &[(0, 5)], 1), read(0, &[(0, 5), (1, 6)], 2)]);
        fails(CommitOnce::default(), &[read(0, &[(0, 5)], 1), read(0, &[(0, 6)], 1)]);
    }

    #[test]
    fn an_acked_offset_that_holds_another_record_is_found() {
        fails(
            CommitOnce::default(),
            &[invoked(1, &[5, 6]), acked(1, 0), final_log(&[(0, 5), (1, 7)])],
        );
    }
}
