//! What is done to records that wait: who is chosen, and what becomes of it.

use super::delayer::{DELAY_MAX, DELAY_MEAN};
use super::{SentLater, SharedRef};
use crate::history::{Fact, OperationId, Waiting};
use crate::world::{Hands, MILLISECOND};

/// What a command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// It never comes.
    Cancel,
    /// It comes at once.
    DeliverNow,
    /// It comes at that time, in Unix milliseconds.
    Reschedule(i64),
    /// The verdict on a half message.
    Verdict {
        /// Whether it is committed.
        committed: bool,
    },
}

impl Command {
    /// Chooses something that was sent lately, or that a verdict was asked for; `None` where that has no name of its
    /// own.
    pub fn choose(hands: &mut Hands<'_>, shared: &SharedRef) -> Option<SentLater> {
        let mut shared = shared.borrow_mut();
        let asked = hands.rng.chance(300).then(|| shared.questions.pop()).flatten();
        let sent = &shared.delayed;
        let last = sent.len().checked_sub(1)?;
        let back = hands.rng.exponential(20).min(last as u64) as usize;
        let chosen = asked.unwrap_or_else(|| sent[last - back].clone());
        chosen.is_named.then_some(chosen)
    }

    /// Draws what is done to it at a moment in Unix milliseconds, and tells that it is asked for.
    pub fn ask(
        hands: &mut Hands<'_>,
        shared: &SharedRef,
        command: OperationId,
        (about, waits): (OperationId, Waiting),
        now_ms: i64,
    ) -> Self {
        match (waits, hands.rng.below(4)) {
            (Waiting::Verdict, number) => {
                let committed = number > 0;
                hands.tell(Fact::VerdictAsked { command, about, committed });
                Self::Verdict { committed }
            }
            (Waiting::Recurs, _) | (_, 0 | 1) => {
                hands.tell(Fact::CancelAsked { command, about });
                Self::Cancel
            }
            (_, 2) => {
                hands.tell(Fact::MoveAsked { command, about, due_ms: now_ms });
                Self::DeliverNow
            }
            _ => {
                let delay = hands.rng.exponential(DELAY_MEAN).min(DELAY_MAX);
                let due_ms = now_ms + (delay / MILLISECOND) as i64;
                hands.tell(Fact::MoveAsked { command, about, due_ms });
                shared.borrow_mut().comes_later(about, hands.now + delay);
                Self::Reschedule(due_ms)
            }
        }
    }

    /// Tells what became of it.
    pub fn answered(self, hands: &mut Hands<'_>, command: OperationId, code: i16) {
        hands.tell(match self {
            Self::Verdict { .. } => Fact::VerdictAnswered { command, code },
            Self::Cancel => Fact::CancelAnswered { command, code },
            Self::DeliverNow | Self::Reschedule(_) => Fact::MoveAnswered { command, code },
        });
    }
}
