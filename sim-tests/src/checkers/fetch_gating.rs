//! I13: a fetch returns committed, undamaged records and nothing else.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::Fact;

/// Looks at every read.
#[derive(Debug, Default)]
pub struct FetchGating {
    committed: BTreeMap<TopicPartition, i64>,
    evaluations: u64,
}

impl Checker for FetchGating {
    fn id(&self) -> &'static str {
        "I13"
    }

    fn promise(&self) -> &'static str {
        "A fetch returns committed and undamaged records, and nothing else."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::HighWatermark { partition, offset, .. } => {
                let committed = self.committed.entry(*partition).or_insert(0);
                *committed = (*committed).max(*offset);
            }
            // A node that has recovered has committed what it recovered, and says so only when the
            // high watermark next moves.
            Fact::Ready { .. } => self.committed.clear(),
            Fact::Read { partition, records, crc_valid, high_watermark, .. } => {
                if !crc_valid {
                    return Err(format!("a batch of {partition} was served with a wrong CRC"));
                }
                let Some(last) = records.last().map(|record| record.offset) else {
                    return Ok(());
                };
                self.evaluations += 1;
                if last >= *high_watermark {
                    return Err(format!(
                        "offset {last} of {partition} was served beyond the high watermark \
                         {high_watermark}"
                    ));
                }
                if let Some(&committed) = self.committed.get(partition)
                    && last >= committed
                {
                    return Err(format!(
                        "offset {last} of {partition} was served, and no node had committed it: \
                         the largest high watermark was {committed}"
                    ));
                }
            }
            Fact::Viewed { partition, batches, .. } => {
                let Some(last) = batches.last().map(|batch| batch.last) else { return Ok(()) };
                self.evaluations += 1;
                if self.committed.get(partition).is_some_and(|&committed| last >= committed) {
                    return Err(format!(
                        "offset {last} of {partition} was served, and no node had committed it"
                    ));
                }
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
    use crate::history::ServedBatch;

    #[test]
    fn a_record_beyond_the_high_watermark_is_found() {
        passes(FetchGating::default(), &[read(0, &[(0, 5)], 1)]);
        fails(FetchGating::default(), &[read(0, &[(0, 5), (1, 6)], 1)]);
    }

    #[test]
    fn a_record_that_no_node_has_committed_is_found() {
        let moved = Fact::HighWatermark { node: 0, partition: P, offset: 1 };
        fails(FetchGating::default(), &[moved, read(0, &[(0, 5), (1, 6)], 2)]);
    }

    #[test]
    fn what_comes_later_is_committed_too() {
        let moved = Fact::HighWatermark { node: 0, partition: P, offset: 2 };
        let viewed = |last| {
            let (base, last_record) = (0, Some(last));
            let batch = ServedBatch { base, last, last_record, is_hidden: false, crc_valid: true };
            let (high_watermark, last_stable_offset) = (last + 1, last + 1);
            Fact::Viewed {
                client: 1,
                partition: P,
                from: 0,
                batches: vec![batch],
                high_watermark,
                last_stable_offset,
            }
        };
        passes(FetchGating::default(), &[moved.clone(), viewed(1)]);
        fails(FetchGating::default(), &[moved, viewed(2)]);
    }

    #[test]
    fn a_wrong_crc_is_found() {
        let Fact::Read { client, partition, from, records, high_watermark, log_start, .. } =
            read(0, &[(0, 5)], 1)
        else {
            unreachable!("read makes a read")
        };
        let damaged = Fact::Read {
            client,
            partition,
            from,
            records,
            high_watermark,
            log_start,
            crc_valid: false,
        };
        fails(FetchGating::default(), &[damaged]);
    }
}
