//! F10: the verdict on a half message is asked for from its time on, once by each attempt and no more often than the
//! topic says; what nobody decides is parked, and never gone.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Checker;
use crate::history::{Fact, OperationId, Waiting};
use crate::workload::judge::{CHECK_AFTER_MS, CHECK_INTERVAL_MS, CHECK_MAX};

#[derive(Debug)]
struct Half {
    /// When it was sent, in nanoseconds.
    sent_at: u64,
    content: u64,
    ticket: Option<i64>,
    /// A verdict was sent.
    is_judged: bool,
    attempts: BTreeSet<u32>,
    is_parked: bool,
}

/// Follows the questions for each half message.
#[derive(Debug, Default)]
pub struct Questions {
    kept: BTreeMap<OperationId, Half>,
    is_whole: bool,
    evaluations: u64,
}

impl Questions {
    fn question(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        let Fact::Questioned { operation, offset, ticket, attempt, is_parked, content, .. } = fact
        else {
            return Ok(());
        };
        let Some(half) = self.kept.get_mut(operation) else {
            return Err(format!(
                "{operation:?} is asked about at {offset}, and is no half message"
            ));
        };
        self.evaluations += 1;
        if half.content != *content {
            return Err(format!("the question at {offset} shows {operation:?} with other content"));
        }
        if half.ticket.is_some_and(|told| told != *ticket) {
            return Err(format!(
                "the question at {offset} gives {operation:?} the ticket {ticket}, and its answer was {:?}",
                half.ticket
            ));
        }
        let after_ms = CHECK_AFTER_MS + (i64::from(*attempt) - 1) * CHECK_INTERVAL_MS;
        // Timers may run as wrong as clocks drift.
        let early_ms = after_ms * 99 / 100 - ((at - half.sent_at) / 1_000_000) as i64;
        if early_ms > 0 {
            return Err(format!(
                "{operation:?} was asked about {early_ms} ms before the time of attempt {attempt}"
            ));
        }
        if half.is_parked {
            return Err(format!("{operation:?} was asked about at {offset} after it was parked"));
        }
        if *is_parked {
            half.is_parked = true;
            if half.attempts.len() < CHECK_MAX as usize || *attempt != CHECK_MAX + 1 {
                return Err(format!(
                    "{operation:?} was parked after {} questions of {CHECK_MAX}",
                    half.attempts.len()
                ));
            }
            return Ok(());
        }
        if !(1..=CHECK_MAX).contains(attempt) || !half.attempts.insert(*attempt) {
            return Err(format!(
                "{operation:?} was asked about at {offset} by attempt {attempt}, and before by {:?}",
                half.attempts
            ));
        }
        Ok(())
    }
}

impl Checker for Questions {
    fn id(&self) -> &'static str {
        "F10"
    }

    fn promise(&self) -> &'static str {
        "The verdict on a half message is asked for once by each attempt, from its time on, and what nobody decides is \
         parked."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Scheduled { operation, waits: Waiting::Verdict, content, .. } => {
                let half = Half {
                    sent_at: at,
                    content: *content,
                    ticket: None,
                    is_judged: false,
                    attempts: BTreeSet::new(),
                    is_parked: false,
                };
                self.kept.insert(*operation, half);
            }
            Fact::EntryTaken { operation, ticket } => {
                if let Some(half) = self.kept.get_mut(operation) {
                    half.ticket = Some(*ticket);
                }
            }
            Fact::VerdictAsked { about, .. } => {
                if let Some(half) = self.kept.get_mut(about) {
                    half.is_judged = true;
                }
            }
            Fact::Questioned { .. } => self.question(at, fact)?,
            // It is told once all questions are read.
            Fact::Waits { .. } => self.is_whole = true,
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if !self.is_whole {
            return Ok(());
        }
        for (operation, half) in &self.kept {
            if half.ticket.is_none() || half.is_judged {
                continue;
            }
            self.evaluations += 1;
            if !half.is_parked {
                return Err(format!(
                    "nobody has judged {operation:?}, it was asked about by {:?} and never parked",
                    half.attempts
                ));
            }
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

    /// What comes `millis` after the half message.
    fn run(story: &[(u64, Fact)]) -> Result<(), String> {
        let mut checker = Questions::default();
        checker.observe(0, &sent(1, 5, Waiting::Verdict, None))?;
        checker.observe(0, &taken(1, 4))?;
        for (millis, fact) in story {
            checker.observe(millis * 1_000_000, fact)?;
        }
        checker.finish()
    }

    fn all() -> Vec<(u64, Fact)> {
        vec![
            (1_500, asked(1, 0, 1, false)),
            (2_500, asked(1, 1, 2, false)),
            (3_500, asked(1, 2, 3, false)),
            (4_500, asked(1, 3, 4, true)),
            (9_000, waits(&[(4, 5)])),
        ]
    }

    #[test]
    fn all_attempts_and_then_a_parked_one_pass() {
        assert_eq!(run(&all()), Ok(()));
        assert_eq!(run(&[(0, verdict_on(2, 1, true)), (9_000, waits(&[]))]), Ok(()));
        assert_eq!(run(&all()[..2]), Ok(()), "who has not read all knows nothing");
    }

    #[test]
    fn a_question_before_its_time_is_found() {
        assert!(run(&[(1_400, asked(1, 0, 1, false))]).is_err());
        assert!(run(&[(1_500, asked(1, 0, 1, false)), (2_400, asked(1, 1, 2, false))]).is_err());
    }

    #[test]
    fn an_attempt_that_is_put_twice_or_is_one_too_many_is_found() {
        let again = [&all()[..2], &[(8_000, asked(1, 2, 2, false))]].concat();
        assert!(run(&again).is_err());
        let more = [&all()[..3], &[(8_000, asked(1, 3, 4, false))]].concat();
        assert!(run(&more).is_err());
        let after = [&all()[..4], &[(8_000, asked(1, 4, 4, true))]].concat();
        assert!(run(&after).is_err());
    }

    #[test]
    fn one_that_is_parked_too_early_or_never_is_found() {
        let early = [&all()[..2], &[(8_000, asked(1, 2, 4, true))]].concat();
        assert!(run(&early).is_err());
        let never = [&all()[..3], &[(9_000, waits(&[(4, 4)]))]].concat();
        assert!(run(&never).is_err());
    }

    #[test]
    fn another_content_or_ticket_is_found() {
        for change in [
            |fact: &mut Fact| {
                if let Fact::Questioned { content, .. } = fact {
                    *content += 1;
                }
            },
            |fact: &mut Fact| {
                if let Fact::Questioned { ticket, .. } = fact {
                    *ticket += 1;
                }
            },
        ] {
            let mut fact = asked(1, 0, 1, false);
            change(&mut fact);
            assert!(run(&[(1_500, fact)]).is_err());
        }
        assert!(run(&[(1_500, asked(3, 0, 1, false))]).is_err());
    }
}
