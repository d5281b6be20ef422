//! I19: behind the first batch of a producer's epoch stands none of an older epoch of that producer.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, SeenRecord};

/// Follows the epochs of every producer along the offsets of each partition.
#[derive(Debug, Default)]
pub struct Fencing {
    /// The offset at which each epoch of a producer was first seen.
    first: BTreeMap<(TopicPartition, i64, i16), i64>,
    evaluations: u64,
}

impl Fencing {
    fn look(&mut self, partition: TopicPartition, records: &[SeenRecord]) -> Result<(), String> {
        // Of a run of one producer and epoch its ends tell as much as all of it.
        let runs = records.chunk_by(|one, next| {
            (one.producer_id, one.producer_epoch) == (next.producer_id, next.producer_epoch)
        });
        for run in runs {
            let [begin, ..] = run else { continue };
            let record = run.last().unwrap_or(begin);
            let (producer, epoch) = (record.producer_id, record.producer_epoch);
            if producer < 0 {
                continue;
            }
            let first = self.first.entry((partition, producer, epoch)).or_insert(begin.offset);
            *first = (*first).min(begin.offset);
            let newer =
                (partition, producer, epoch.saturating_add(1))..=(partition, producer, i16::MAX);
            for (&(_, _, fence), &since) in self.first.range(newer).filter(|_| epoch < i16::MAX) {
                self.evaluations += 1;
                if since < record.offset {
                    return Err(format!(
                        "offset {} of {partition} is of epoch {epoch} of producer {producer}, whose \
                         epoch {fence} began at offset {since}",
                        record.offset
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Checker for Fencing {
    fn id(&self) -> &'static str {
        "I19"
    }

    fn promise(&self) -> &'static str {
        "Behind the first batch of a producer's newer epoch stands nothing of an older one."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Read { partition, records, .. } | Fact::FinalLog { partition, records, .. } => {
                self.look(*partition, records)
            }
            _ => Ok(()),
        }
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn log(epochs: &[i16]) -> [Fact; 1] {
        let records = (0..)
            .zip(epochs)
            .map(|(offset, &producer_epoch)| SeenRecord {
                producer_id: 9,
                producer_epoch,
                ..seen(offset, offset as u64)
            })
            .collect();
        [Fact::FinalLog { partition: P, log_start: 0, records }]
    }

    #[test]
    fn a_batch_behind_a_newer_epoch_is_found() {
        // The second reading has an older epoch before a newer one to compare.
        passes(Fencing::default(), &[log(&[0, 0, 1, 3]), log(&[0, 0, 1, 3])].concat());
        fails(Fencing::default(), &log(&[0, 1, 0]));
        fails(Fencing::default(), &log(&[2, 1]));
    }

    #[test]
    fn a_batch_behind_a_newer_epoch_is_found_over_two_reads() {
        let [Fact::FinalLog { records, .. }] = log(&[0, 1, 0]) else { unreachable!("one log") };
        let read = |records: &[SeenRecord]| Fact::Read {
            client: 1,
            partition: P,
            from: records[0].offset,
            records: records.to_vec(),
            crc_valid: true,
            high_watermark: 3,
            log_start: 0,
        };
        fails(Fencing::default(), &[read(&records[..2]), read(&records[2..])]);
    }
}
