//! I03: at the end every acknowledged record is at its offset, exactly once.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::{TopicId, TopicPartition};

use super::Checker;
use crate::history::{Fact, OperationId};

/// Remembers every acknowledged record until the final logs are read.
#[derive(Debug, Default)]
pub struct NoAckedLoss {
    sent: BTreeMap<OperationId, (TopicPartition, Vec<u64>)>,
    acked: BTreeMap<(TopicPartition, i64), u64>,
    last: BTreeMap<TopicPartition, (i64, BTreeMap<i64, u64>)>,
    deleted: BTreeSet<TopicId>,
    evaluations: u64,
}

impl Checker for NoAckedLoss {
    fn id(&self) -> &'static str {
        "I03"
    }

    fn promise(&self) -> &'static str {
        "Every record whose send was acknowledged is in the log: at the offset that was told, once, and \
         readable."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, records.clone()));
            }
            Fact::Acked { operation, base_offset } => {
                if let Some((partition, records)) = self.sent.remove(operation) {
                    for (offset, hash) in (*base_offset..).zip(records) {
                        self.acked.insert((partition, offset), hash);
                    }
                }
            }
            // A reader that passes over an acknowledged offset has been shown its loss at once.
            Fact::Read { partition, from, records, high_watermark, .. } => {
                let end = records.last().map_or(*from, |last| last.offset + 1);
                let read: BTreeMap<_, _> =
                    records.iter().map(|record| (record.offset, record.hash)).collect();
                for ((_, offset), hash) in self.acked.range((*partition, *from)..(*partition, end))
                {
                    self.evaluations += 1;
                    if read.get(offset) != Some(hash) {
                        return Err(format!(
                            "a read of {partition} from {from} misses acknowledged {hash:016x} \
                             at offset {offset} (high watermark {high_watermark})"
                        ));
                    }
                }
            }
            // Its records may be gone from then on.
            Fact::AskedDeletion { topic_id } => {
                self.deleted.insert(*topic_id);
            }
            Fact::FinalLog { partition, log_start, records } => {
                // Two markers may say the same.
                let records = records.iter().filter(|record| !record.is_control());
                let all = records.map(|record| (record.offset, record.hash)).collect();
                self.last.insert(*partition, (*log_start, all));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.last.is_empty() {
            return Ok(());
        }
        for (&(partition, offset), hash) in &self.acked {
            if self.deleted.contains(&partition.topic_id) {
                continue;
            }
            let Some((log_start, log)) = self.last.get(&partition) else {
                return Err(format!("{partition} with acknowledged records is gone"));
            };
            self.evaluations += 1;
            if offset >= *log_start && log.get(&offset) != Some(hash) {
                return Err(format!(
                    "acknowledged {hash:016x} at offset {offset} of {partition} is lost, the log \
                     ends at {}",
                    log.last_key_value().map_or(*log_start, |(last, _)| last + 1)
                ));
            }
        }
        for (partition, (_, log)) in &self.last {
            let mut places = BTreeMap::new();
            for (offset, hash) in log {
                if let Some(other) = places.insert(hash, offset) {
                    return Err(format!(
                        "{hash:016x} is at offsets {other} and {offset} of {partition}"
                    ));
                }
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
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_lost_acknowledged_record_is_found() {
        let start = [invoked(1, &[5]), acked(1, 0)];
        passes(NoAckedLoss::default(), &[&start[..], &[final_log(&[(0, 5)])]].concat());
        fails(NoAckedLoss::default(), &[&start[..], &[final_log(&[])]].concat());
        fails(NoAckedLoss::default(), &[&start[..], &[final_log(&[(0, 6), (1, 5)])]].concat());
    }

    #[test]
    fn a_record_that_is_there_twice_is_found() {
        fails(
            NoAckedLoss::default(),
            &[invoked(1, &[5]), acked(1, 0), final_log(&[(0, 5), (1, 5)])],
        );
    }

    #[test]
    fn a_reader_that_skips_an_acknowledged_offset_is_found() {
        fails(NoAckedLoss::default(), &[invoked(1, &[5]), acked(1, 0), read(0, &[(1, 6)], 2)]);
    }
}
