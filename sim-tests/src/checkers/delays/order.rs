//! I35: what is due at one moment comes in the order in which it was accepted.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use super::moves::Moves;
use crate::history::{Fact, OperationId, Waiting};

/// Keeps what is due at each moment, by ticket.
#[derive(Debug, Default)]
pub struct Order {
    /// When what was sent with a moment is due, in Unix milliseconds.
    due_ms: BTreeMap<OperationId, i64>,
    moves: Moves,
    /// Where each came, by its ticket.
    came: BTreeMap<(TopicPartition, i64), BTreeMap<i64, i64>>,
    evaluations: u64,
}

impl Checker for Order {
    fn id(&self) -> &'static str {
        "I35"
    }

    fn promise(&self) -> &'static str {
        "What is due at one moment comes in the order in which it was accepted."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        self.moves.observe(at, fact);
        match fact {
            // When a delay ends depends on when it was taken.
            Fact::Scheduled { operation, due_ms, is_delay: false, waits: Waiting::Due, .. } => {
                self.due_ms.insert(*operation, *due_ms);
            }
            Fact::Came { operation, partition, offset, ticket, .. } => {
                let due_ms = self.due_ms.get(operation).filter(|_| !self.moves.knows(operation));
                let Some(due_ms) = due_ms else { return Ok(()) };
                let came = self.came.entry((*partition, *due_ms)).or_default();
                let before = came.range(..*ticket).next_back();
                let after = came.range(ticket + 1..).next();
                self.evaluations += u64::from(before.is_some() || after.is_some());
                let is_behind = before.is_none_or(|(_, before)| before < offset);
                let is_in_front = after.is_none_or(|(_, after)| offset < after);
                if !(is_behind && is_in_front) {
                    return Err(format!(
                        "{operation:?} with the ticket {ticket} came to {partition} at {offset}, between {before:?} \
                         and {after:?}, which are due at the same moment"
                    ));
                }
                came.insert(*ticket, *offset);
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

    #[test]
    fn in_order_passes_whenever_it_is_seen() {
        let sent = [scheduled(1, 5), scheduled(2, 5), scheduled(3, 5)];
        let seen = [came(3, 9, 2), came(1, 7, 0), came(2, 8, 1), came(1, 7, 0)];
        passes(Order::default(), &[&sent[..], &seen[..]].concat());
    }

    #[test]
    fn out_of_order_is_found() {
        let sent = [scheduled(1, 5), scheduled(2, 5)];
        fails(Order::default(), &[&sent[..], &[came(1, 8, 0), came(2, 7, 1)]].concat());
        fails(Order::default(), &[&sent[..], &[came(2, 7, 1), came(1, 8, 0)]].concat());
    }

    #[test]
    fn another_moment_is_another_order() {
        let facts = [scheduled(1, 6), scheduled(2, 5), came(2, 7, 1), came(1, 8, 0)];
        assert_eq!(verdict(Order::default(), &facts), Ok(0));
        let sent = [scheduled(1, 5), scheduled(2, 5), moving(3, 1, 6)];
        let moved = [&sent[..], &[came(1, 8, 0), came(2, 7, 1)]].concat();
        assert_eq!(verdict(Order::default(), &moved), Ok(0));
    }
}
