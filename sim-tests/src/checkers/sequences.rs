//! I18: the batches of an idempotent producer stand in a log once, in order and without gaps.

use std::collections::BTreeMap;

use super::Checker;
use crate::history::{Fact, OperationId};

/// Looks at the final logs and at repeated acknowledgements.
#[derive(Debug, Default)]
pub struct Sequences {
    acked: BTreeMap<OperationId, i64>,
    evaluations: u64,
}

impl Checker for Sequences {
    fn id(&self) -> &'static str {
        "I18"
    }

    fn promise(&self) -> &'static str {
        "The batches of an idempotent producer stand in the log in the order of sending, once each, \
         without gaps."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Acked { operation, base_offset } => {
                let first = *self.acked.entry(*operation).or_insert(*base_offset);
                if first != *base_offset {
                    return Err(format!(
                        "{operation:?} was acknowledged at offset {first} and, on a retry, at \
                         {base_offset}"
                    ));
                }
            }
            // Out of order, duplicate, old epoch, unknown producer: it was the last of its producer.
            Fact::Judged { operation, code: code @ (45 | 46 | 47 | 59) } => {
                return Err(format!(
                    "a retry of {operation:?}, which was acknowledged, is answered with code {code}"
                ));
            }
            Fact::FinalLog { partition, records, .. } => {
                let mut next = BTreeMap::new();
                for record in records.iter().filter(|it| it.producer_id >= 0 && it.sequence >= 0) {
                    self.evaluations += 1;
                    let producer = (record.producer_id, record.producer_epoch);
                    let follows = record.sequence.checked_add(1).unwrap_or(0);
                    if let Some(expected) = next.insert(producer, follows)
                        && expected != record.sequence
                    {
                        return Err(format!(
                            "offset {} of {partition} has sequence {} of producer {} epoch {}, \
                             {expected} follows",
                            record.offset,
                            record.sequence,
                            record.producer_id,
                            record.producer_epoch
                        ));
                    }
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
    use crate::history::SeenRecord;

    fn log(sequences: &[i32]) -> [Fact; 1] {
        let records = (0..)
            .zip(sequences)
            .map(|(offset, &sequence)| SeenRecord {
                producer_id: 9,
                producer_epoch: 0,
                sequence,
                ..seen(offset, offset as u64)
            })
            .collect();
        [Fact::FinalLog { partition: P, log_start: 0, records }]
    }

    #[test]
    fn a_sequence_that_is_there_twice_or_missing_is_found() {
        passes(Sequences::default(), &log(&[0, 1, 2]));
        passes(Sequences::default(), &log(&[i32::MAX, 0]));
        fails(Sequences::default(), &log(&[0, 1, 1]));
        fails(Sequences::default(), &log(&[0, 2]));
    }

    #[test]
    fn a_retry_that_is_not_recognised_is_found() {
        fails(Sequences::default(), &[acked(1, 4), Fact::Judged { operation: op(1), code: 45 }]);
    }

    #[test]
    fn a_retry_acknowledged_elsewhere_is_found() {
        fails(Sequences::default(), &[acked(1, 4), acked(1, 9)]);
    }
}
