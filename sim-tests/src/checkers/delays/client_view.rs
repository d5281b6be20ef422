//! F19, F20: clients are served no hidden batch, each batch ends at a record, and who has read to the shown end has
//! no lag.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use crate::history::Fact;

/// Looks at what is served.
#[derive(Debug, Default)]
pub struct ClientView {
    /// The offsets of batches that were served: the last one of each by the first.
    served: BTreeMap<(TopicPartition, i64), i64>,
    /// Partitions in which something recurs.
    grows: BTreeSet<TopicPartition>,
    evaluations: u64,
}

impl Checker for ClientView {
    fn id(&self) -> &'static str {
        "F19"
    }

    fn promise(&self) -> &'static str {
        "Clients are served no hidden batch, and who has read to the shown end has no lag."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Viewed {
                partition, from, batches, high_watermark, last_stable_offset, ..
            } => {
                if last_stable_offset > high_watermark {
                    return Err(format!(
                        "{partition} is shown stable to {last_stable_offset} and ends at {high_watermark}"
                    ));
                }
                let mut next = None;
                for batch in batches {
                    self.evaluations += 1;
                    let says = |what: &str| {
                        Err(format!(
                            "asked from {from} of {partition}, a client was served a batch {}..={} {what}",
                            batch.base, batch.last
                        ))
                    };
                    if batch.is_hidden {
                        return says("that is hidden");
                    }
                    if batch.last_record != Some(batch.last) {
                        return says("that does not end at a record");
                    }
                    if !batch.crc_valid {
                        return says("without a sound CRC");
                    }
                    if batch.last < *from || next.is_some_and(|next| batch.base < next) {
                        return says("out of order");
                    }
                    if batch.last >= *high_watermark {
                        return says("beyond the shown end");
                    }
                    next = Some(batch.last + 1);
                    let before = self.served.insert((*partition, batch.base), batch.last);
                    if before.is_some_and(|before| before != batch.last) {
                        return says("that ended elsewhere before");
                    }
                }
            }
            Fact::Recurring { partition, .. } => {
                self.grows.insert(*partition);
            }
            // Where something recurs, more has come since the end was told.
            Fact::ViewedWhole { partition, position, latest, .. }
                if position < latest || (position > latest && !self.grows.contains(partition)) =>
            {
                return Err(format!(
                    "a reader of {partition} has read all up to {position} and is told of the end {latest}"
                ));
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
    use super::super::super::testing::*;
    use super::*;
    use crate::history::ServedBatch;

    const GOOD: ServedBatch =
        ServedBatch { base: 3, last: 5, last_record: Some(5), is_hidden: false, crc_valid: true };

    fn served(batches: &[ServedBatch], high_watermark: i64) -> Fact {
        Fact::Viewed {
            client: 1,
            partition: P,
            from: 4,
            batches: batches.to_vec(),
            high_watermark,
            last_stable_offset: high_watermark,
        }
    }

    #[test]
    fn a_sound_view_passes() {
        let later = ServedBatch { base: 9, last: 9, last_record: Some(9), ..GOOD };
        let end = Fact::ViewedWhole { client: 1, partition: P, position: 10, latest: 10 };
        passes(ClientView::default(), &[served(&[GOOD, later], 10), end]);
    }

    #[test]
    fn hidden_empty_and_broken_batches_are_found() {
        for bad in [
            ServedBatch { is_hidden: true, ..GOOD },
            ServedBatch { last_record: None, ..GOOD },
            ServedBatch { last_record: Some(4), ..GOOD },
            ServedBatch { crc_valid: false, ..GOOD },
            ServedBatch { base: 1, last: 2, last_record: Some(2), ..GOOD },
        ] {
            fails(ClientView::default(), &[served(&[bad], 10)]);
        }
        fails(ClientView::default(), &[served(&[GOOD], 5)]);
        fails(ClientView::default(), &[served(&[GOOD, GOOD], 10)]);
    }

    #[test]
    fn a_lag_at_the_end_is_found() {
        let end = Fact::ViewedWhole { client: 1, partition: P, position: 10, latest: 12 };
        fails(ClientView::default(), &[end]);
        let end = Fact::ViewedWhole { client: 1, partition: P, position: 10, latest: 9 };
        fails(ClientView::default(), &[end]);
    }
}
