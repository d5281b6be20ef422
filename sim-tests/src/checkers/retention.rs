//! I15: a record goes when its time is over or when somebody asked for it, and never before; what was
//! confirmed to be gone does not come back.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, OperationId};

/// Parts in a thousand by which clocks may be wrong about an age.
const CLOCKS: u64 = 10;

/// Remembers when each record was sent and what was asked to go.
#[derive(Debug, Default)]
pub struct Retention {
    age: Option<u64>,
    sent: BTreeMap<OperationId, (TopicPartition, u64, usize)>,
    /// When the record at each offset was sent, as long as it has not been seen to be gone.
    there: BTreeMap<(TopicPartition, i64), u64>,
    asked: BTreeMap<TopicPartition, i64>,
    confirmed: BTreeMap<TopicPartition, i64>,
    evaluations: u64,
}

impl Retention {
    fn began(&mut self, at: u64, partition: TopicPartition, start: i64) -> Result<(), String> {
        let asked = self.asked.get(&partition).copied().unwrap_or(0);
        let gone: Vec<(i64, u64)> = self
            .there
            .range((partition, i64::MIN)..(partition, start))
            .map(|(&(_, offset), &sent)| (offset, sent))
            .collect();
        for (offset, sent) in gone {
            self.there.remove(&(partition, offset));
            self.evaluations += 1;
            let aged = |age: u64| at.saturating_sub(sent) >= age - age / 1_000 * CLOCKS;
            if offset >= asked && !self.age.is_some_and(aged) {
                return Err(format!(
                    "{partition} starts at {start}, and offset {offset} is gone {} ms after it was \
                     sent; the start was asked to be {asked}",
                    at.saturating_sub(sent) / 1_000_000
                ));
            }
        }
        Ok(())
    }
}

impl Checker for Retention {
    fn id(&self) -> &'static str {
        "I15"
    }

    fn promise(&self) -> &'static str {
        "A record goes when its time is over or when its deletion was asked for, never before, and then \
         stays gone."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Retention { age } => self.age = Some(*age),
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, at, records.len()));
            }
            Fact::Acked { operation, base_offset } => {
                if let Some((partition, sent, count)) = self.sent.remove(operation) {
                    for offset in (*base_offset..).take(count) {
                        self.there.insert((partition, offset), sent);
                    }
                }
            }
            Fact::AskedPurge { partition, before } => {
                let asked = self.asked.entry(*partition).or_insert(0);
                *asked = (*asked).max(*before);
            }
            Fact::Purged { partition, log_start } => {
                let confirmed = self.confirmed.entry(*partition).or_insert(0);
                *confirmed = (*confirmed).max(*log_start);
                return self.began(at, *partition, *log_start);
            }
            Fact::Read { partition, log_start, .. } => {
                return self.began(at, *partition, *log_start);
            }
            Fact::FinalLog { partition, log_start, .. } => {
                let confirmed = self.confirmed.get(partition).copied().unwrap_or(0);
                self.evaluations += 1;
                if *log_start < confirmed {
                    return Err(format!(
                        "{partition} starts at {log_start}, and {confirmed} had been confirmed"
                    ));
                }
                return self.began(at, *partition, *log_start);
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

    fn starts_at(log_start: i64) -> Fact {
        Fact::FinalLog { partition: P, log_start, records: vec![] }
    }

    #[test]
    fn what_goes_before_its_time_is_found() {
        let sent = [invoked(1, &[5, 6]), acked(1, 0)];
        passes(Retention::default(), &[&sent[..], &[starts_at(0)]].concat());
        fails(Retention::default(), &[&sent[..], &[starts_at(1)]].concat());
        // The facts of a history lie a nanosecond apart, so the records are 3 ns old.
        let with_age = |age| [&[Fact::Retention { age }], &sent[..], &[starts_at(1)]].concat();
        passes(Retention::default(), &with_age(2));
        fails(Retention::default(), &with_age(4));
    }

    #[test]
    fn more_than_was_asked_to_go_is_found() {
        let sent = [invoked(1, &[5, 6]), acked(1, 0)];
        let asked = [Fact::AskedPurge { partition: P, before: 1 }];
        passes(Retention::default(), &[&sent[..], &asked[..], &[starts_at(1)]].concat());
        fails(Retention::default(), &[&sent[..], &asked[..], &[starts_at(2)]].concat());
    }

    #[test]
    fn a_confirmed_purge_that_is_forgotten_is_found() {
        let purged = [
            Fact::AskedPurge { partition: P, before: 2 },
            Fact::Purged { partition: P, log_start: 2 },
        ];
        passes(Retention::default(), &[&purged[..], &[starts_at(2)]].concat());
        fails(Retention::default(), &[&purged[..], &[starts_at(0)]].concat());
    }
}
