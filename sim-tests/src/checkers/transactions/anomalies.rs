//! I22: what a transaction rests on is committed, is not its own, and does not rest on it in turn.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use super::{Outcome, WholeLog};
use crate::history::{Fact, OperationId, SeenRecord};

/// Remembers which transaction wrote what, and which took it in.
///
/// Only what transactions read of each other counts: as in Kafka, their writes to one partition may
/// interleave.
#[derive(Debug, Default)]
pub struct Anomalies {
    sent: BTreeMap<OperationId, (TopicPartition, Vec<u64>)>,
    writers: BTreeMap<(TopicPartition, u64), OperationId>,
    taken: BTreeMap<OperationId, BTreeSet<(TopicPartition, i64, u64)>>,
    logs: BTreeMap<TopicPartition, Vec<SeenRecord>>,
    evaluations: u64,
}

impl Anomalies {
    /// Finds a transaction that rests on itself.
    fn cycle(rests_on: &BTreeMap<OperationId, BTreeSet<OperationId>>) -> Option<OperationId> {
        let mut sound: BTreeSet<OperationId> = BTreeSet::new();
        for start in rests_on.keys() {
            let mut path = vec![(*start, false)];
            let mut on_path = BTreeSet::new();
            while let Some((id, is_left)) = path.pop() {
                if is_left {
                    on_path.remove(&id);
                    sound.insert(id);
                    continue;
                }
                if sound.contains(&id) || !on_path.insert(id) {
                    continue;
                }
                path.push((id, true));
                for next in rests_on.get(&id).into_iter().flatten() {
                    if on_path.contains(next) {
                        return Some(*next);
                    }
                    path.push((*next, false));
                }
            }
        }
        None
    }
}

impl Checker for Anomalies {
    fn id(&self) -> &'static str {
        "I22"
    }

    fn promise(&self) -> &'static str {
        "Whoever reads committed records in a transaction rests on committed ones of others, and no two rest on \
         each other."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, records.clone()));
            }
            Fact::SentIn { transaction, operation } => {
                if let Some((partition, records)) = self.sent.remove(operation) {
                    let wrote = records.into_iter().map(|hash| ((partition, hash), *transaction));
                    self.writers.extend(wrote);
                }
            }
            Fact::TakenIn { transaction, partition, records, .. } => {
                let taken = self.taken.entry(*transaction).or_default();
                for &(offset, hash) in records {
                    self.evaluations += 1;
                    let writer = self.writers.get(&(*partition, hash));
                    if writer == Some(transaction) {
                        return Err(format!(
                            "{transaction:?} was shown offset {offset} of {partition}, which is its own"
                        ));
                    }
                    taken.insert((*partition, offset, hash));
                }
            }
            Fact::FinalLog { partition, records, .. } => {
                self.logs.insert(*partition, records.clone());
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let mut outcomes = BTreeMap::new();
        let mut committed = BTreeSet::new();
        for (partition, records) in &self.logs {
            for (hash, _, outcome) in WholeLog::of(0, records).outcomes() {
                outcomes.insert((*partition, hash), outcome);
                if outcome == Outcome::Committed
                    && let Some(writer) = self.writers.get(&(*partition, hash))
                {
                    committed.insert(*writer);
                }
            }
        }
        let mut rests_on: BTreeMap<OperationId, BTreeSet<OperationId>> = BTreeMap::new();
        for (reader, taken) in &self.taken {
            for &(partition, offset, hash) in taken {
                let outcome = outcomes.get(&(partition, hash));
                if let Some(Outcome::Aborted | Outcome::Open) = outcome {
                    return Err(format!(
                        "{reader:?} was shown offset {offset} of {partition}, which is {outcome:?}"
                    ));
                }
                if let Some(writer) = self.writers.get(&(partition, hash))
                    && committed.contains(reader)
                {
                    rests_on.entry(*reader).or_default().insert(*writer);
                }
            }
        }
        match Self::cycle(&rests_on) {
            Some(id) => Err(format!("{id:?} rests on what rests on it")),
            None => Ok(()),
        }
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

    fn taken(transaction: u64, records: &[(i64, u64)]) -> Fact {
        Fact::TakenIn {
            transaction: op(transaction),
            group: 1,
            partition: P,
            records: records.to_vec(),
            to: 9,
        }
    }

    #[test]
    fn what_rests_on_what_was_committed_before_passes() {
        let mut facts = Vec::new();
        facts.extend(sent(1, 1, 10));
        facts.push(taken(2, &[(0, 10)]));
        facts.extend(sent(2, 2, 11));
        facts.push(whole(&[
            data(0, 9, 10),
            marker(1, 9, true),
            data(2, 8, 11),
            marker(3, 8, true),
        ]));
        passes(Anomalies::default(), &facts);
    }

    #[test]
    fn an_aborted_record_that_was_taken_in_is_found() {
        let facts = [
            &sent(1, 1, 10)[..],
            &[taken(2, &[(0, 10)]), whole(&[data(0, 9, 10), marker(1, 9, false)])],
        ];
        fails(Anomalies::default(), &facts.concat());
    }

    #[test]
    fn a_transaction_that_is_shown_its_own_record_is_found() {
        fails(Anomalies::default(), &[&sent(1, 1, 10)[..], &[taken(1, &[(0, 10)])]].concat());
    }

    #[test]
    fn two_transactions_that_rest_on_each_other_are_found() {
        let mut facts = Vec::new();
        facts.extend(sent(1, 1, 10));
        facts.extend(sent(2, 2, 11));
        facts.extend([taken(1, &[(1, 11)]), taken(2, &[(0, 10)])]);
        facts.push(whole(&[
            data(0, 9, 10),
            data(1, 8, 11),
            marker(2, 9, true),
            marker(3, 8, true),
        ]));
        fails(Anomalies::default(), &facts);
    }
}
