//! I19: behind the first batch of a producer's epoch stands none of an older epoch of that producer, and nothing
//! of an older epoch takes effect once a producer has been given its own.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, SeenRecord};

/// Follows the epochs of every producer along the offsets of each partition.
#[derive(Debug, Default)]
pub struct Fencing {
    /// The offset at which each epoch of a producer was first seen.
    first: BTreeMap<(TopicPartition, i64, i16), i64>,
    /// How far each partition is known to be committed.
    committed: BTreeMap<TopicPartition, i64>,
    /// How far each was when a producer was given an epoch.
    fences: BTreeMap<(i64, i16), BTreeMap<TopicPartition, i64>>,
    evaluations: u64,
}

impl Fencing {
    /// Whoever is given an epoch takes the place of all before: what those had written was committed, and what
    /// was under way is refused.
    fn look_at_fences(
        &mut self,
        partition: TopicPartition,
        record: &SeenRecord,
    ) -> Result<(), String> {
        let (producer, epoch) = (record.producer_id, record.producer_epoch);
        let newer = (producer, epoch.saturating_add(1))..=(producer, i16::MAX);
        for ((_, fence), committed) in self.fences.range(newer).filter(|_| epoch < i16::MAX) {
            self.evaluations += 1;
            let committed = committed.get(&partition).copied().unwrap_or(0);
            if record.offset >= committed {
                return Err(format!(
                    "offset {} of {partition} is of epoch {epoch} of producer {producer}, and was written after \
                     epoch {fence} was given out, when {committed} offsets were committed",
                    record.offset
                ));
            }
        }
        Ok(())
    }

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
            if !record.is_control() {
                self.look_at_fences(partition, record)?;
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
        "Once a producer has a newer epoch, nothing of an older one is written any more."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::HighWatermark { partition, offset: committed, .. }
            | Fact::Bounds { partition, high_watermark: committed, .. } => {
                let known = self.committed.entry(*partition).or_insert(*committed);
                *known = (*known).max(*committed);
                Ok(())
            }
            Fact::ProducerReady { producer_id, producer_epoch, .. } => {
                let producer = (*producer_id, *producer_epoch);
                let committed = || self.committed.clone();
                self.fences.entry(producer).or_insert_with(committed);
                Ok(())
            }
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

    #[test]
    fn what_is_written_after_a_newer_epoch_was_given_out_is_found() {
        let committed = Fact::HighWatermark { node: 0, partition: P, offset: 1 };
        let ready = Fact::ProducerReady { client: 1, producer_id: 9, producer_epoch: 1 };
        let [before, after] = [[log(&[0])], [log(&[0, 0])]].map(|logs| logs.concat());
        let story = |log: &[Fact]| [&[committed.clone(), ready.clone()], log].concat();
        passes(Fencing::default(), &story(&before));
        fails(Fencing::default(), &story(&after));
    }
}
