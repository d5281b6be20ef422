//! I21: readers of committed records are shown all of them, in order, and nothing else.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use super::WholeLog;
use crate::history::{Fact, SeenRecord};

/// Remembers what readers were shown until the whole logs are read.
#[derive(Debug, Default)]
pub struct CommittedReads {
    reads: Vec<Read>,
    logs: BTreeMap<TopicPartition, WholeLog>,
    evaluations: u64,
}

#[derive(Debug)]
struct Read {
    client: usize,
    partition: TopicPartition,
    from: i64,
    to: i64,
    records: Vec<SeenRecord>,
    aborted: Option<Vec<(i64, i64)>>,
}

impl Read {
    fn judge(&self, log: &WholeLog) -> Result<(), String> {
        let Self { client, partition, from, to, records, aborted } = self;
        let mut seen = records.iter().filter(|record| record.offset >= log.start);
        for wanted in log.shown((*from).max(log.start), *to) {
            match seen.next() {
                Some(record) if (record.offset, record.hash) == (wanted.offset, wanted.hash) => {}
                Some(record) if record.offset < wanted.offset => {
                    return Err(format!(
                        "client {client} was shown offset {} of {partition}, which is not committed",
                        record.offset
                    ));
                }
                found => {
                    return Err(format!(
                        "client {client} read {partition} from {from} to {to} and was not shown committed \
                         offset {}, but {:?}",
                        wanted.offset,
                        found.map(|record| record.offset)
                    ));
                }
            }
        }
        if let Some(record) = seen.next() {
            return Err(format!(
                "client {client} was shown offset {} of {partition}, which is not committed",
                record.offset
            ));
        }
        if let Some(aborted) = aborted.as_ref().filter(|_| log.start == 0) {
            let wanted = log.aborted(*from, *to);
            if *aborted != wanted {
                return Err(format!(
                    "client {client} was told of {aborted:?} as aborted in {partition} from {from} to {to}, \
                     where these are: {wanted:?}"
                ));
            }
        }
        Ok(())
    }
}

impl Checker for CommittedReads {
    fn id(&self) -> &'static str {
        "I21"
    }

    fn promise(&self) -> &'static str {
        "Readers of committed records are shown all that are committed, in order, and nothing else."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::ReadCommitted {
                client,
                partition,
                from,
                to,
                records,
                last_stable_offset,
                aborted,
                ..
            } => {
                if let Some(stable) = last_stable_offset.filter(|stable| to > stable && to > from) {
                    return Err(format!(
                        "client {client} was given {partition} up to {to}, beyond the last stable offset \
                         {stable}"
                    ));
                }
                self.reads.push(Read {
                    client: *client,
                    partition: *partition,
                    from: *from,
                    to: *to,
                    records: records.clone(),
                    aborted: aborted.clone().filter(|_| to > from),
                });
            }
            Fact::FinalLog { partition, log_start, records } => {
                self.logs.insert(*partition, WholeLog::of(*log_start, records));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        for read in &self.reads {
            if let Some(log) = self.logs.get(&read.partition) {
                self.evaluations += 1;
                read.judge(log)?;
            }
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

    fn shown(from: i64, to: i64, offsets: &[i64], aborted: &[(i64, i64)]) -> Fact {
        Fact::ReadCommitted {
            client: 1,
            partition: P,
            from,
            to,
            records: offsets.iter().map(|at| data(*at, 9, *at as u64 + 10)).collect(),
            high_watermark: 6,
            last_stable_offset: Some(6),
            aborted: Some(aborted.to_vec()),
        }
    }

    fn verdict_on(read: Fact) -> Result<u64, String> {
        let log = [
            data(0, 9, 10),
            data(1, 8, 11),
            marker(2, 9, false),
            data(3, 8, 13),
            marker(4, 8, true),
            seen(5, 15),
        ];
        verdict(CommittedReads::default(), &[read, whole(&log)])
    }

    #[test]
    fn what_is_committed_passes() {
        for read in [
            shown(0, 6, &[1, 3, 5], &[(9, 0)]),
            shown(3, 5, &[3], &[]),
            shown(2, 3, &[], &[(9, 0)]),
            shown(5, 5, &[], &[(9, 0)]),
        ] {
            assert_eq!(verdict_on(read), Ok(1));
        }
    }

    #[test]
    fn an_aborted_record_that_is_shown_is_found() {
        verdict_on(shown(0, 6, &[0, 1, 3, 5], &[(9, 0)])).expect_err("offset 0 is aborted");
        verdict_on(shown(0, 1, &[0], &[(9, 0)])).expect_err("offset 0 is aborted");
    }

    #[test]
    fn a_committed_record_that_is_passed_over_is_found() {
        verdict_on(shown(0, 6, &[1, 5], &[(9, 0)])).expect_err("offset 3 is missing");
        verdict_on(shown(0, 6, &[1, 3], &[(9, 0)])).expect_err("offset 5 is missing");
    }

    #[test]
    fn a_list_of_aborted_transactions_that_is_not_exact_is_found() {
        verdict_on(shown(0, 6, &[1, 3, 5], &[])).expect_err("one is missing");
        verdict_on(shown(3, 5, &[3], &[(9, 0)])).expect_err("one does not overlap");
    }

    #[test]
    fn what_is_given_beyond_the_last_stable_offset_is_found() {
        let Fact::ReadCommitted {
            client,
            partition,
            from,
            to,
            records,
            high_watermark,
            aborted,
            ..
        } = shown(0, 6, &[1, 3, 5], &[(9, 0)])
        else {
            unreachable!("it is a read")
        };
        verdict_on(Fact::ReadCommitted {
            client,
            partition,
            from,
            to,
            records,
            high_watermark,
            last_stable_offset: Some(4),
            aborted,
        })
        .expect_err("it ends at 6");
    }
}
