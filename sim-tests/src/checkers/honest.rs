//! L10: what cannot be recovered is said, with its place, and never passed over in silence.
//!
//! For seeds whose faults may take the last good copy. Whatever is served is what was sent; an acknowledged
//! record is there, or its offset is told as damaged, or the node refuses to serve and says why. What a lone
//! node cannot know of, an older disk or a device that lied about a flush, is no lie of the node.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, OperationId};

/// Compares what is served with what was sent and acknowledged.
#[derive(Debug, Default)]
pub struct Honest {
    sent: BTreeMap<OperationId, (TopicPartition, Vec<u64>)>,
    hashes: BTreeSet<(TopicPartition, u64)>,
    anywhere: BTreeSet<u64>,
    acked: BTreeMap<(TopicPartition, i64), u64>,
    damaged: BTreeSet<(TopicPartition, i64)>,
    reverted: bool,
    evaluations: u64,
}

impl Honest {
    /// Checks a range that was served: nothing made up, and nothing acknowledged left out.
    fn served(
        &mut self,
        partition: TopicPartition,
        (from, end): (i64, i64),
        records: &BTreeMap<i64, u64>,
    ) -> Result<(), String> {
        for (offset, hash) in records {
            self.evaluations += 1;
            // What was sent to a topic that a wiped disk has forgotten goes to the next one of its name.
            let was_sent = self.hashes.contains(&(partition, *hash))
                || (self.reverted && self.anywhere.contains(hash));
            if !was_sent {
                return Err(format!(
                    "{hash:016x} at offset {offset} of {partition} was never sent"
                ));
            }
        }
        if self.reverted {
            return Ok(());
        }
        for ((_, offset), hash) in self.acked.range((partition, from)..(partition, end)) {
            let is_told = self.damaged.contains(&(partition, *offset));
            if records.get(offset) != Some(hash) && !is_told {
                return Err(format!(
                    "acknowledged {hash:016x} at offset {offset} of {partition} is passed over in \
                     silence"
                ));
            }
        }
        Ok(())
    }
}

/// Returns whether words name a place, and what somebody can do.
fn names_a_place(message: &str) -> bool {
    let place =
        ["/", "journal", "checkpoint", "__cluster_metadata", "meta.properties", "directory"];
    let help = ["restore", "check", "start", "use", "move"];
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    has(&place) && has(&help)
}

impl Checker for Honest {
    fn id(&self) -> &'static str {
        "L10"
    }

    fn promise(&self) -> &'static str {
        "What is lost for good is said, with its place: nothing made up is served, and nothing is left out in silence."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                self.hashes.extend(records.iter().map(|hash| (*partition, *hash)));
                self.anywhere.extend(records);
                self.sent.insert(*operation, (*partition, records.clone()));
            }
            Fact::Acked { operation, base_offset } => {
                if let Some((partition, records)) = self.sent.remove(operation) {
                    for (offset, hash) in (*base_offset..).zip(records) {
                        self.acked.insert((partition, offset), hash);
                    }
                }
            }
            Fact::Reverted { .. } => self.reverted = true,
            Fact::ToldDamaged { partition, offset } => {
                self.damaged.insert((*partition, *offset));
            }
            Fact::Read { partition, from, records, crc_valid, .. } => {
                if !crc_valid {
                    return Err(format!(
                        "a batch of {partition} behind {from} is damaged and served"
                    ));
                }
                let end = records.last().map_or(*from, |last| last.offset + 1);
                let records = records.iter().map(|record| (record.offset, record.hash)).collect();
                return self.served(*partition, (*from, end), &records);
            }
            Fact::FinalLog { partition, log_start, records } => {
                let records = records.iter().map(|record| (record.offset, record.hash)).collect();
                return self.served(*partition, (*log_start, i64::MAX), &records);
            }
            Fact::Fatal { node, message, .. } if !names_a_place(message) => {
                return Err(format!("node {node} gave up without saying where: {message}"));
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
    fn what_is_served_was_sent() {
        let sent = [invoked(1, &[5]), acked(1, 0)];
        passes(Honest::default(), &[&sent[..], &[read(0, &[(0, 5)], 1)]].concat());
        fails(Honest::default(), &[&sent[..], &[read(0, &[(0, 6)], 1)]].concat());
        let reverted = Fact::Reverted { node: 0 };
        fails(Honest::default(), &[&sent[..], &[reverted, read(0, &[(0, 6)], 1)]].concat());
    }

    #[test]
    fn an_acknowledged_record_is_there_or_told_as_damaged() {
        let sent = [invoked(1, &[5, 6]), acked(1, 0), read(0, &[(0, 5)], 2)];
        let last = [final_log(&[(0, 5)])];
        fails(Honest::default(), &[&sent[..], &last].concat());
        let told = Fact::ToldDamaged { partition: P, offset: 1 };
        passes(Honest::default(), &[&sent[..], &[told], &last].concat());
        let reverted = Fact::Reverted { node: 0 };
        passes(Honest::default(), &[&sent[..], &[reverted], &last].concat());
        fails(Honest::default(), &[invoked(1, &[5, 6]), acked(1, 0), read(0, &[(1, 6)], 2)]);
    }

    #[test]
    fn who_gives_up_says_where() {
        let fatal = |message: &str| Fact::Fatal { node: 0, message: message.into(), excused: true };
        let sent = [invoked(1, &[5]), acked(1, 0), read(0, &[(0, 5)], 1)];
        let good = "the journal is damaged in journal/0/1.journal at byte 4096: restore it";
        passes(Honest::default(), &[&sent[..], &[fatal(good)]].concat());
        fails(Honest::default(), &[&sent[..], &[fatal("oops")]].concat());
    }
}
