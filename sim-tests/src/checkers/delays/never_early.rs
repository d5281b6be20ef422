//! I32: a record that waits is not visible before its time.

use std::collections::BTreeMap;

use super::super::Checker;
use super::moves::Moves;
use crate::clock::EPOCH_MS;
use crate::history::{Fact, OperationId};

/// Remembers when what was sent is due.
#[derive(Debug, Default)]
pub struct NeverEarly {
    due_ms: BTreeMap<OperationId, i64>,
    moves: Moves,
    ahead_ms: i64,
    evaluations: u64,
}

impl Checker for NeverEarly {
    fn id(&self) -> &'static str {
        "I32"
    }

    fn promise(&self) -> &'static str {
        "A delayed record is never visible before its time by the leader's clock."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        self.moves.observe(at, fact);
        match fact {
            Fact::ClocksErr { ahead_ms, .. } => self.ahead_ms = *ahead_ms,
            Fact::Scheduled { operation, due_ms, .. } => {
                // Of what is sent twice the first counts.
                self.due_ms.entry(*operation).or_insert(*due_ms);
            }
            Fact::Came { operation, partition, offset, .. } => {
                let Some(due_ms) = self.due_ms.get(operation) else { return Ok(()) };
                let due_ms = self.moves.due(operation, *due_ms).earliest_ms;
                self.evaluations += 1;
                let now_ms = EPOCH_MS + (at / 1_000_000) as i64;
                let early_ms = due_ms - now_ms - self.ahead_ms;
                if early_ms > 0 {
                    return Err(format!(
                        "{operation:?} came at offset {offset} of {partition}, {early_ms} ms before clocks can \
                         have shown its time"
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
    use super::super::super::testing::*;
    use super::super::testing::*;
    use super::*;

    fn clocks(ahead_ms: i64) -> Fact {
        Fact::ClocksErr { ahead_ms, late_ms: 0 }
    }

    #[test]
    fn what_comes_at_its_time_passes() {
        passes(NeverEarly::default(), &[scheduled(1, EPOCH_MS), came(1, 5, 0)]);
    }

    #[test]
    fn a_record_that_comes_early_is_found() {
        fails(NeverEarly::default(), &[scheduled(1, EPOCH_MS + 5), came(1, 5, 0)]);
        fails(NeverEarly::default(), &[clocks(4), scheduled(1, EPOCH_MS + 5), came(1, 5, 0)]);
    }

    #[test]
    fn what_was_moved_comes_at_its_new_time() {
        let sent = [scheduled(1, EPOCH_MS), moving(2, 1, EPOCH_MS + 5)];
        let unknown = [&sent[..], &[came(1, 5, 0)]].concat();
        passes(NeverEarly::default(), &unknown);
        fails(NeverEarly::default(), &[&sent[..], &[moved(2, 0), came(1, 5, 0)]].concat());
        let sooner = [scheduled(1, EPOCH_MS + 5), moving(2, 1, EPOCH_MS), came(1, 5, 0)];
        passes(NeverEarly::default(), &sooner);
    }

    #[test]
    fn as_early_as_clocks_are_ahead_is_not_early() {
        passes(NeverEarly::default(), &[clocks(5), scheduled(1, EPOCH_MS + 5), came(1, 5, 0)]);
    }
}
