//! I20: of a transaction all records count, in every partition, or none does.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use super::{Outcome, WholeLog};
use crate::history::{Fact, OperationId, SeenRecord};

/// Follows every transaction until the whole logs are read.
#[derive(Debug, Default)]
pub struct Atomicity {
    sent: BTreeMap<OperationId, (TopicPartition, Vec<u64>)>,
    acked: BTreeSet<OperationId>,
    transactions: BTreeMap<OperationId, Transaction>,
    logs: BTreeMap<TopicPartition, Vec<SeenRecord>>,
    starts: BTreeMap<TopicPartition, i64>,
    evaluations: u64,
}

#[derive(Debug, Default)]
struct Transaction {
    sends: Vec<OperationId>,
    commit_asked: bool,
    /// What its client was told.
    committed: Option<bool>,
}

/// A record as it stands in its log.
#[derive(Clone, Copy, Debug)]
struct Placed {
    offset: i64,
    producer: (i64, i16),
    outcome: Outcome,
}

impl Atomicity {
    fn judge(
        &self,
        id: OperationId,
        transaction: &Transaction,
        placed: &BTreeMap<(TopicPartition, u64), Placed>,
    ) -> Result<(), String> {
        let mut outcomes: BTreeMap<Outcome, (TopicPartition, Placed)> = BTreeMap::new();
        let mut producers: BTreeMap<(i64, i16), (TopicPartition, i64)> = BTreeMap::new();
        let mut missing = None;
        for (operation, (partition, hashes)) in
            transaction.sends.iter().filter_map(|send| Some((send, self.sent.get(send)?)))
        {
            for hash in hashes {
                if let Some(found) = placed.get(&(*partition, *hash)) {
                    outcomes.entry(found.outcome).or_insert((*partition, *found));
                    producers.entry(found.producer).or_insert((*partition, found.offset));
                } else if self.starts.get(partition) == Some(&0) {
                    missing = Some((operation, partition));
                }
            }
        }
        let words = |(partition, placed): &(TopicPartition, Placed)| {
            format!("offset {} of {partition} is {:?}", placed.offset, placed.outcome)
        };
        if outcomes.len() > 1 {
            let all: Vec<String> = outcomes.values().map(words).collect();
            return Err(format!("{id:?} is torn: {}", all.join(", ")));
        }
        if producers.len() > 1 {
            return Err(format!("records of {id:?} are of several producers: {producers:?}"));
        }
        let Some((outcome, place)) = outcomes.first_key_value() else {
            return match (transaction.committed, missing) {
                (Some(true), Some((operation, partition))) => Err(format!(
                    "{id:?} was told to be committed, and {operation:?} is not in {partition}"
                )),
                _ => Ok(()),
            };
        };
        let is_committed = *outcome == Outcome::Committed;
        if *outcome == Outcome::Plain {
            return Err(format!("a record of {id:?} is part of no transaction: {}", words(place)));
        }
        if let Some(told) = transaction.committed
            && (told != is_committed || *outcome == Outcome::Open)
        {
            let told = if told { "committed" } else { "aborted" };
            return Err(format!("{id:?} was told to be {told}, and {}", words(place)));
        }
        if is_committed && !transaction.commit_asked {
            return Err(format!("nobody asked to commit {id:?}, and {}", words(place)));
        }
        if let (true, Some((operation, partition))) = (is_committed, missing) {
            return Err(format!(
                "{id:?} is committed ({}), and {operation:?} is not in {partition}",
                words(place)
            ));
        }
        Ok(())
    }

    /// Behind the records of a transaction its marker comes before those of another one of its producer.
    fn judge_order(
        &self,
        whose: &BTreeMap<(TopicPartition, u64), OperationId>,
    ) -> Result<(), String> {
        for (partition, records) in &self.logs {
            let mut open: BTreeMap<i64, (OperationId, i64)> = BTreeMap::new();
            for record in records {
                if record.is_control() {
                    open.remove(&record.producer_id);
                } else if let Some(&id) = whose.get(&(*partition, record.hash)) {
                    let (first, since) =
                        *open.entry(record.producer_id).or_insert((id, record.offset));
                    if first != id {
                        return Err(format!(
                            "offset {} of {partition} is of {id:?}, and {first:?} of the same producer, \
                             with offset {since}, has no marker before it",
                            record.offset
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Checker for Atomicity {
    fn id(&self) -> &'static str {
        "I20"
    }

    fn promise(&self) -> &'static str {
        "Of a transaction all records count, in every partition, or none does; and as its producer was told."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, records.clone()));
            }
            Fact::Acked { operation, .. } => {
                self.acked.insert(*operation);
            }
            Fact::SentIn { transaction, operation } => {
                self.transactions.entry(*transaction).or_default().sends.push(*operation);
            }
            Fact::EndAsked { transaction, committed: true } => {
                self.transactions.entry(*transaction).or_default().commit_asked = true;
            }
            Fact::TransactionEnded { transaction, committed } => {
                let state = self.transactions.entry(*transaction).or_default();
                state.committed = Some(*committed);
                let unknown = state.sends.iter().find(|send| !self.acked.contains(send));
                if let (true, Some(send)) = (*committed, unknown) {
                    return Err(format!(
                        "{transaction:?} is committed, and its {send:?} was not acknowledged"
                    ));
                }
            }
            Fact::FinalLog { partition, log_start, records } => {
                self.starts.insert(*partition, *log_start);
                self.logs.insert(*partition, records.clone());
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.logs.is_empty() {
            return Ok(());
        }
        let mut placed = BTreeMap::new();
        for (partition, records) in &self.logs {
            let log = WholeLog::of(self.starts[partition], records);
            for (hash, record, outcome) in log.outcomes() {
                let producer = (record.producer_id, record.producer_epoch);
                let found = Placed { offset: record.offset, producer, outcome };
                placed.insert((*partition, hash), found);
            }
        }
        let mut whose = BTreeMap::new();
        for (id, transaction) in &self.transactions {
            self.evaluations += transaction.sends.len() as u64;
            self.judge(*id, transaction, &placed)?;
            for (partition, hashes) in
                transaction.sends.iter().filter_map(|send| self.sent.get(send))
            {
                whose.extend(hashes.iter().map(|hash| ((*partition, *hash), *id)));
            }
        }
        self.judge_order(&whose)
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

    /// One transaction of two records, which its client commits.
    fn story(told: bool, log: &[SeenRecord]) -> Vec<Fact> {
        let mut facts = Vec::new();
        facts.extend(sent(1, 1, 10));
        facts.extend(sent(1, 2, 11));
        facts.extend([acked(1, 0), acked(2, 1)]);
        facts.extend_from_slice(&ended(1, true)[..=usize::from(told)]);
        facts.push(whole(log));
        facts
    }

    #[test]
    fn all_or_nothing_passes() {
        let committed = [data(0, 9, 10), data(1, 9, 11), marker(2, 9, true)];
        passes(Atomicity::default(), &story(true, &committed));
        passes(Atomicity::default(), &story(false, &committed));
        let aborted = [data(0, 9, 10), data(1, 9, 11), marker(2, 9, false)];
        passes(Atomicity::default(), &story(false, &aborted));
        // Twice the same end is one.
        let twice = [&committed[..], &[marker(3, 9, true)]].concat();
        passes(Atomicity::default(), &story(true, &twice));
    }

    #[test]
    fn a_transaction_that_is_torn_is_found() {
        let torn = [data(0, 9, 10), marker(1, 9, true), data(2, 9, 11), marker(3, 9, false)];
        fails(Atomicity::default(), &story(false, &torn));
        let open = [data(0, 9, 10), marker(1, 9, true), data(2, 9, 11)];
        fails(Atomicity::default(), &story(false, &open));
        fails(Atomicity::default(), &story(true, &[data(0, 9, 10), marker(1, 9, true)]));
    }

    #[test]
    fn an_end_other_than_was_told_or_asked_for_is_found() {
        let aborted = [data(0, 9, 10), data(1, 9, 11), marker(2, 9, false)];
        fails(Atomicity::default(), &story(true, &aborted));
        let committed = [data(0, 9, 10), marker(1, 9, true)];
        let facts = [&sent(1, 1, 10)[..], &[acked(1, 0), whole(&committed)]].concat();
        fails(Atomicity::default(), &facts);
    }

    #[test]
    fn a_commit_without_an_acknowledgement_is_found() {
        fails(Atomicity::default(), &[&sent(1, 1, 10)[..], &ended(1, true)].concat());
    }

    #[test]
    fn a_marker_that_comes_behind_the_next_transaction_is_found() {
        let mut facts = Vec::new();
        facts.extend(sent(1, 1, 10));
        facts.extend(sent(2, 2, 11));
        facts.push(whole(&[data(0, 9, 10), data(1, 9, 11), marker(2, 9, false)]));
        fails(Atomicity::default(), &facts);
    }

    #[test]
    fn records_of_two_producers_in_one_transaction_are_found() {
        let log = [data(0, 9, 10), marker(1, 9, true), data(2, 8, 11), marker(3, 8, true)];
        fails(Atomicity::default(), &story(true, &log));
    }
}
