//! I24: what a group makes of records in transactions it makes of each once, in order.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::{TopicId, TopicPartition};

use super::super::Checker;
use super::{Outcome, WholeLog};
use crate::history::{Fact, OperationId};

/// Remembers what each group took in and made of it, until the whole logs are read.
#[derive(Debug, Default)]
pub struct Pipeline {
    sent: BTreeMap<OperationId, (TopicPartition, Vec<u64>)>,
    sends: BTreeMap<OperationId, Vec<OperationId>>,
    taken: Vec<Taken>,
    /// What each send is made of.
    made: BTreeMap<OperationId, (u32, TopicPartition, i64)>,
    /// Groups that have read to the end.
    read: BTreeSet<u32>,
    logs: BTreeMap<TopicPartition, WholeLog>,
    evaluations: u64,
}

#[derive(Debug)]
struct Taken {
    transaction: OperationId,
    group: u32,
    partition: TopicPartition,
    offsets: Vec<i64>,
}

impl Pipeline {
    /// Returns the transactions of which something is committed, and where each committed record stands.
    fn committed(&self) -> (BTreeSet<OperationId>, BTreeMap<OperationId, (TopicPartition, i64)>) {
        let mut places = BTreeMap::new();
        for (partition, log) in &self.logs {
            for (hash, record, outcome) in log.outcomes() {
                if outcome == Outcome::Committed {
                    places.insert((*partition, hash), record.offset);
                }
            }
        }
        let (mut transactions, mut placed) = (BTreeSet::new(), BTreeMap::new());
        for (transaction, sends) in &self.sends {
            for send in sends {
                let Some((partition, hashes)) = self.sent.get(send) else { continue };
                for hash in hashes {
                    if let Some(offset) = places.get(&(*partition, *hash)) {
                        transactions.insert(*transaction);
                        placed.insert(*send, (*partition, *offset));
                    }
                }
            }
        }
        (transactions, placed)
    }

    /// What a group makes of one partition stands in each partition in the order of what it is made of.
    fn judge_order(
        &self,
        placed: &BTreeMap<OperationId, (TopicPartition, i64)>,
    ) -> Result<(), String> {
        let mut outputs: BTreeMap<_, Vec<(i64, i64)>> = BTreeMap::new();
        for (send, (to, at)) in placed {
            if let Some((group, from, offset)) = self.made.get(send) {
                outputs.entry((*group, *from, *to)).or_default().push((*at, *offset));
            }
        }
        for ((group, from, to), mut pairs) in outputs {
            pairs.sort_unstable();
            if let Some(pair) = pairs.windows(2).find(|pair| pair[0].1 > pair[1].1) {
                return Err(format!(
                    "what group {group} made of offset {} of {from} stands at {} of {to}, before what it made \
                     of offset {}",
                    pair[0].1, pair[0].0, pair[1].1
                ));
            }
        }
        Ok(())
    }
}

impl Checker for Pipeline {
    fn id(&self) -> &'static str {
        "I24"
    }

    fn promise(&self) -> &'static str {
        "A group that works in transactions deals with each committed record exactly once, and in order."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, records.clone()));
            }
            Fact::SentIn { transaction, operation } => {
                self.sends.entry(*transaction).or_default().push(*operation);
            }
            Fact::TakenIn { transaction, group, partition, records, .. } => {
                self.taken.push(Taken {
                    transaction: *transaction,
                    group: *group,
                    partition: *partition,
                    offsets: records.iter().map(|(offset, _)| *offset).collect(),
                });
            }
            Fact::MadeOf { operation, group, partition, offset } => {
                self.made.insert(*operation, (*group, *partition, *offset));
            }
            Fact::PipelineRead { group } => {
                self.read.insert(*group);
            }
            Fact::FinalLog { partition, log_start, records } => {
                self.logs.insert(*partition, WholeLog::of(*log_start, records));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.logs.is_empty() {
            return Ok(());
        }
        let (committed, placed) = self.committed();
        let mut dealt: BTreeMap<(u32, TopicPartition), BTreeMap<i64, OperationId>> =
            BTreeMap::new();
        let mut inputs: BTreeSet<(u32, TopicId)> = BTreeSet::new();
        for Taken { transaction, group, partition, offsets } in &self.taken {
            inputs.insert((*group, partition.topic_id));
            if !committed.contains(transaction) {
                continue;
            }
            let dealt = dealt.entry((*group, *partition)).or_default();
            for offset in offsets {
                self.evaluations += 1;
                if let Some(other) = dealt.insert(*offset, *transaction) {
                    return Err(format!(
                        "group {group} dealt with offset {offset} of {partition} in {other:?} and in \
                         {transaction:?}, and both are committed"
                    ));
                }
            }
        }
        for (group, topic_id) in inputs.iter().filter(|(group, _)| self.read.contains(group)) {
            for (partition, log) in &self.logs {
                if partition.topic_id != *topic_id {
                    continue;
                }
                let none = BTreeMap::new();
                let dealt = dealt.get(&(*group, *partition)).unwrap_or(&none);
                let left =
                    log.shown(log.start, i64::MAX).find(|it| !dealt.contains_key(&it.offset));
                if let Some(record) = left {
                    return Err(format!(
                        "group {group} has read to the end, and nothing that it made of offset {} of \
                         {partition} is committed",
                        record.offset
                    ));
                }
            }
        }
        self.judge_order(&placed)
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use mainspring_core::ids::Uuid;

    use super::super::super::testing::*;
    use super::super::testing::*;
    use super::*;

    const OUTPUT: TopicPartition = TopicPartition { topic_id: Uuid([8; 16]), ..P };

    /// A transaction that makes one record of another.
    fn work(transaction: u64, offset: i64) -> Vec<Fact> {
        let hash = 100 + transaction;
        let operation = op(transaction);
        let transaction = op(transaction);
        vec![
            Fact::TakenIn {
                transaction,
                group: 1,
                partition: P,
                records: vec![(offset, 10 + offset as u64)],
                to: offset + 1,
            },
            Fact::Invoked { operation, partition: OUTPUT, records: vec![hash] },
            Fact::SentIn { transaction, operation },
            Fact::MadeOf { operation, group: 1, partition: P, offset },
        ]
    }

    fn logs(outputs: &[SeenRecord]) -> [Fact; 3] {
        [
            Fact::PipelineRead { group: 1 },
            final_log(&[(0, 10), (1, 11)]),
            Fact::FinalLog { partition: OUTPUT, log_start: 0, records: outputs.to_vec() },
        ]
    }

    use crate::history::SeenRecord;

    fn story(works: &[(u64, i64)], outputs: &[SeenRecord]) -> Vec<Fact> {
        let mut facts: Vec<Fact> =
            works.iter().flat_map(|(transaction, offset)| work(*transaction, *offset)).collect();
        facts.extend(logs(outputs));
        facts
    }

    #[test]
    fn each_once_passes_whatever_was_aborted() {
        let outputs = [
            data(0, 9, 101),
            marker(1, 9, false),
            data(2, 9, 102),
            marker(3, 9, true),
            data(4, 9, 103),
            marker(5, 9, true),
        ];
        passes(Pipeline::default(), &story(&[(1, 0), (2, 0), (3, 1)], &outputs));
    }

    #[test]
    fn a_record_that_is_dealt_with_twice_is_found() {
        let outputs = [101, 102, 103].map(|hash| data(hash as i64 - 101, 9, hash));
        let outputs = [&outputs[..], &[marker(3, 9, true)]].concat();
        fails(Pipeline::default(), &story(&[(1, 0), (2, 0), (3, 1)], &outputs));
    }

    #[test]
    fn a_record_that_is_never_dealt_with_is_found() {
        let outputs = [data(0, 9, 101), marker(1, 9, true)];
        fails(Pipeline::default(), &story(&[(1, 0)], &outputs));
        let outputs = [data(0, 9, 101), data(1, 9, 102), marker(2, 9, false)];
        fails(Pipeline::default(), &story(&[(1, 0), (2, 1)], &outputs));
    }

    #[test]
    fn what_stands_in_another_order_is_found() {
        let outputs = [data(0, 9, 101), marker(1, 9, true), data(2, 9, 102), marker(3, 9, true)];
        fails(Pipeline::default(), &story(&[(1, 1), (2, 0)], &outputs));
    }
}
