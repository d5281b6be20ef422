//! When records are due whose senders have changed that since.

use std::collections::BTreeMap;

use crate::clock::EPOCH_MS;
use crate::history::{Fact, OperationId};

/// When a record may be due that was moved, in Unix milliseconds of true time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Due {
    /// At the earliest.
    pub(super) earliest_ms: i64,
    /// At the latest.
    pub(super) latest_ms: i64,
}

/// Follows commands that move records.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// What each command is about.
    commands: BTreeMap<OperationId, OperationId>,
    /// By record: whether it is known that it was moved, as it was asked for once.
    due: BTreeMap<OperationId, (Due, bool)>,
}

impl Moves {
    /// Takes in what happens at a moment in nanoseconds.
    pub(super) fn observe(&mut self, at: u64, fact: &Fact) {
        match fact {
            Fact::MoveAsked { command, about, due_ms } => {
                let due = Due { earliest_ms: *due_ms, latest_ms: *due_ms };
                if let Some((known, is_settled)) = self.due.get_mut(about) {
                    known.earliest_ms = known.earliest_ms.min(*due_ms);
                    known.latest_ms = known.latest_ms.max(*due_ms);
                    *is_settled = false;
                } else {
                    self.commands.insert(*command, *about);
                    self.due.insert(*about, (due, false));
                }
            }
            Fact::MoveAnswered { command, code: 0 } => {
                let about = self.commands.get(command);
                if let Some((due, is_settled)) = about.and_then(|about| self.due.get_mut(about))
                    && due.earliest_ms == due.latest_ms
                {
                    *is_settled = true;
                    // A moment that has passed counts from when it was taken.
                    due.latest_ms = due.latest_ms.max(EPOCH_MS + (at / 1_000_000) as i64);
                }
            }
            _ => {}
        }
    }

    /// Returns when a record is due that was to be due at `due_ms` when it was sent.
    pub(super) fn due(&self, operation: &OperationId, due_ms: i64) -> Due {
        match self.due.get(operation) {
            None => Due { earliest_ms: due_ms, latest_ms: due_ms },
            Some((due, true)) => *due,
            Some((due, false)) => Due {
                earliest_ms: due.earliest_ms.min(due_ms),
                latest_ms: due.latest_ms.max(due_ms),
            },
        }
    }

    /// Returns whether anybody has asked for another time of a record.
    pub(super) fn knows(&self, operation: &OperationId) -> bool {
        self.due.contains_key(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::super::testing::*;
    use super::*;

    /// When the first record may be due, from the beginning on; it was sent to come after 50 ms.
    fn due(facts: &[Fact]) -> (i64, i64) {
        let mut moves = Moves::default();
        for (second, fact) in (1..).zip(facts) {
            moves.observe(second * 10_000_000, fact);
        }
        let due = moves.due(&op(1), EPOCH_MS + 50);
        (due.earliest_ms - EPOCH_MS, due.latest_ms - EPOCH_MS)
    }

    fn to(command: u64, after_ms: i64) -> Fact {
        moving(command, 1, EPOCH_MS + after_ms)
    }

    #[test]
    fn what_is_acknowledged_counts_and_all_else_may() {
        assert_eq!(due(&[]), (50, 50));
        assert_eq!(due(&[to(2, 90)]), (50, 90));
        assert_eq!(due(&[to(2, 90), moved(2, 87)]), (50, 90));
        assert_eq!(due(&[to(2, 90), moved(2, 0)]), (90, 90));
        assert_eq!(due(&[to(2, 5), moved(2, 0)]), (5, 20), "when it was taken");
        assert_eq!(due(&[to(2, 90), moved(2, 0), to(3, 20)]), (20, 90));
        assert_eq!(due(&[to(2, 90), to(3, 20), moved(2, 0), moved(3, 0)]), (20, 90));
    }
}
