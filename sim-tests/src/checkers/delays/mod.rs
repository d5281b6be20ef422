//! What is promised of records that come later.

pub mod client_view;
pub mod dedup;
pub mod halves;
pub mod ledger;
mod moves;
pub mod never_early;
pub mod on_time;
pub mod once;
pub mod order;
pub mod questions;
pub mod recurring;

use super::Checker;

/// Returns the checkers of records that come later.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(never_early::NeverEarly::default()),
        Box::new(on_time::OnTime::default()),
        Box::new(once::Once::default()),
        Box::new(order::Order::default()),
        Box::new(halves::Halves::default()),
        Box::new(questions::Questions::default()),
        Box::new(ledger::Ledger::default()),
        Box::new(recurring::Recurring::default()),
        Box::new(dedup::Dedup::default()),
        Box::new(client_view::ClientView::default()),
    ]
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::testing::{P, op};
    use crate::history::{Fact, Waiting};

    pub(in crate::checkers) fn scheduled(number: u64, due_ms: i64) -> Fact {
        sent(number, due_ms, Waiting::Due, None)
    }

    pub(in crate::checkers) fn sent(
        number: u64,
        due_ms: i64,
        waits: Waiting,
        name: Option<u32>,
    ) -> Fact {
        let operation = op(number);
        Fact::Scheduled {
            operation,
            partition: P,
            due_ms,
            is_delay: false,
            waits,
            name,
            content: number,
        }
    }

    pub(in crate::checkers) fn moving(command: u64, about: u64, due_ms: i64) -> Fact {
        Fact::MoveAsked { command: op(command), about: op(about), due_ms }
    }

    pub(in crate::checkers) fn moved(command: u64, code: i16) -> Fact {
        Fact::MoveAnswered { command: op(command), code }
    }

    pub(in crate::checkers) fn again(number: u64) -> Fact {
        Fact::SentAgain { operation: op(number) }
    }

    pub(in crate::checkers) fn verdict_on(command: u64, about: u64, committed: bool) -> Fact {
        Fact::VerdictAsked { command: op(command), about: op(about), committed }
    }

    pub(in crate::checkers) fn judged(command: u64, code: i16) -> Fact {
        Fact::VerdictAnswered { command: op(command), code }
    }

    pub(in crate::checkers) fn taken(number: u64, ticket: i64) -> Fact {
        Fact::EntryTaken { operation: op(number), ticket }
    }

    pub(in crate::checkers) fn came(number: u64, offset: i64, ticket: i64) -> Fact {
        let operation = op(number);
        Fact::Came { client: 1, operation, partition: P, offset, ticket, content: number }
    }

    pub(in crate::checkers) fn cancel(command: u64, about: u64) -> Fact {
        Fact::CancelAsked { command: op(command), about: op(about) }
    }

    pub(in crate::checkers) fn cancelled(command: u64, code: i16) -> Fact {
        Fact::CancelAnswered { command: op(command), code }
    }

    pub(in crate::checkers) fn asked(
        about: u64,
        offset: i64,
        attempt: u32,
        is_parked: bool,
    ) -> Fact {
        let (operation, content) = (op(about), about);
        Fact::Questioned { operation, partition: P, offset, ticket: 4, attempt, is_parked, content }
    }

    pub(in crate::checkers) fn waits(entries: &[(i64, i8)]) -> Fact {
        Fact::Waits { partition: P, entries: entries.to_vec() }
    }

    pub(in crate::checkers) fn whole(position: i64) -> Fact {
        Fact::ViewedWhole { client: 1, partition: P, position, latest: position }
    }
}
