//! I33, L7: what is due comes soon, or soon after faults are over.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Checker;
use super::moves::Moves;
use crate::clock::EPOCH_MS;
use crate::history::{Fact, OperationId, Waiting};

/// How long after it is due, or after all faults are over, a record comes at the latest, in milliseconds.
const WITHIN_MS: i64 = 15_000;

/// Remembers when what was sent is due, and when it was seen.
#[derive(Debug, Default)]
pub struct OnTime {
    /// Until when each is to be seen, where that counts from its acceptance, as long as it is not accepted.
    sent: BTreeMap<OperationId, (i64, Option<u64>)>,
    due_ms: BTreeMap<OperationId, i64>,
    /// What has come, perhaps before its send was answered.
    came: BTreeSet<OperationId>,
    moves: Moves,
    late_ms: i64,
    healed_ms: i64,
    evaluations: u64,
}

impl Checker for OnTime {
    fn id(&self) -> &'static str {
        "I33"
    }

    fn promise(&self) -> &'static str {
        "What is due comes soon, or soon after faults are over."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        let now_ms = EPOCH_MS + (at / 1_000_000) as i64;
        self.moves.observe(at, fact);
        match fact {
            Fact::ClocksErr { late_ms, .. } => self.late_ms = *late_ms,
            Fact::Scheduled { operation, due_ms, is_delay, waits: Waiting::Due, .. } => {
                self.sent.insert(*operation, (*due_ms, is_delay.then_some(at)));
            }
            Fact::EntryTaken { operation, .. } => {
                if let Some((due_ms, since)) = self.sent.remove(operation)
                    && !self.came.contains(operation)
                {
                    let later = since.map_or(0, |since| ((at - since) / 1_000_000) as i64);
                    // A moment that has passed counts from when it was taken.
                    self.due_ms.insert(*operation, (due_ms + later).max(now_ms));
                }
            }
            Fact::Healed { .. } => self.healed_ms = now_ms,
            // A start behind that is one of its consequences.
            Fact::Ready { .. } if self.healed_ms > 0 => self.healed_ms = now_ms,
            Fact::Came { operation, partition, offset, .. } => {
                self.came.insert(*operation);
                let Some(due_ms) = self.due_ms.remove(operation) else { return Ok(()) };
                let due_ms = self.moves.due(operation, due_ms).latest_ms;
                if self.healed_ms == 0 {
                    return Ok(());
                }
                self.evaluations += 1;
                let late_ms = now_ms - due_ms.max(self.healed_ms) - self.late_ms - WITHIN_MS;
                if late_ms > 0 {
                    return Err(format!(
                        "{operation:?} came at offset {offset} of {partition} only {late_ms} ms after the last \
                         moment"
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

    fn story(came_at_s: u64) -> Result<(), String> {
        let mut checker = OnTime::default();
        let second = 1_000_000_000;
        checker.observe(1_000_000, &Fact::Healed { node: 0, serves: true })?;
        checker.observe(2_000_000, &scheduled(1, EPOCH_MS + 1_000))?;
        checker.observe(3_000_000, &taken(1, 4))?;
        checker.observe(came_at_s * second, &came(1, 9, 4))?;
        assert_eq!(checker.evaluations(), 1);
        Ok(())
    }

    #[test]
    fn what_comes_soon_passes() {
        assert_eq!(story(3), Ok(()));
    }

    #[test]
    fn what_came_before_its_send_was_answered_is_not_late_when_it_is_read_again() {
        let mut checker = OnTime::default();
        let second = 1_000_000_000;
        for (at, fact) in [
            (0, Fact::Healed { node: 0, serves: true }),
            (1, scheduled(1, EPOCH_MS + 1_000)),
            (2, came(1, 9, 4)),
            (3, taken(1, 4)),
            (90, came(1, 9, 4)),
        ] {
            assert_eq!(checker.observe(at * second, &fact), Ok(()));
        }
    }

    #[test]
    fn what_was_moved_is_due_at_its_new_time() {
        for (code, is_late) in [(0, true), (87, false)] {
            let mut checker = OnTime::default();
            let second = 1_000_000_000;
            for (at, fact) in [
                (0, Fact::Healed { node: 0, serves: true }),
                (1, scheduled(1, EPOCH_MS + 100_000)),
                (2, taken(1, 4)),
                (3, moving(2, 1, EPOCH_MS + 3_000)),
                (4, moved(2, code)),
            ] {
                assert_eq!(checker.observe(at * second, &fact), Ok(()));
            }
            assert_eq!(checker.observe(40 * second, &came(1, 9, 4)).is_err(), is_late);
        }
    }

    #[test]
    fn what_comes_much_later_is_found() {
        story(40).expect_err("it is late");
        let never_due = [scheduled(1, EPOCH_MS), came(1, 3, 0)];
        assert_eq!(verdict(OnTime::default(), &never_due), Ok(0), "it was never accepted");
    }
}
