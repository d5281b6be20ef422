//! I37 of what comes later: at rest each accepted record has come, is cancelled, replaced or rolled back, or is listed as one that waits;
//! and what is listed waits for nothing but a verdict.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use crate::history::{Fact, OperationId, Waiting};

/// What comes by time.
const FOR_ITS_TIME: i8 = 1;
/// A half message without a verdict, and one that is parked.
const WITHOUT_VERDICT: [i8; 2] = [4, 5];

#[derive(Debug)]
struct Sent {
    partition: TopicPartition,
    waits: Waiting,
    ticket: Option<i64>,
    came: bool,
    /// Verdicts that were sent and have no clear answer, and cancels of what recurs.
    unknown: BTreeSet<OperationId>,
    /// A verdict was acknowledged, or the cancel of what recurs.
    is_judged: bool,
}

/// Keeps the book.
#[derive(Debug, Default)]
pub struct Ledger {
    sent: BTreeMap<OperationId, Sent>,
    verdicts: BTreeMap<OperationId, OperationId>,
    listed: BTreeMap<TopicPartition, BTreeMap<i64, i8>>,
    evaluations: u64,
}

impl Ledger {
    fn judge(&self, operation: &OperationId, sent: &Sent) -> Result<(), String> {
        let (Some(ticket), Some(listed)) = (sent.ticket, self.listed.get(&sent.partition)) else {
            return Ok(());
        };
        let Sent { partition, waits, came, is_judged, .. } = sent;
        let state = listed.get(&ticket);
        let stays = matches!(waits, Waiting::Verdict | Waiting::Recurs);
        if let Some(state) = state {
            let right: &[i8] =
                if *waits == Waiting::Recurs { &[FOR_ITS_TIME] } else { &WITHOUT_VERDICT };
            let why = match (came, is_judged, stays) {
                (true, _, _) => "and it has come",
                (_, true, _) => "and it is judged, or cancelled",
                (_, _, false) => "and its time is long over",
                _ if !right.contains(state) => "and it waits for something else",
                _ => return Ok(()),
            };
            return Err(format!(
                "{operation:?} is listed at {partition} with ticket {ticket} in state {state}, {why}"
            ));
        }
        if stays && !came && !is_judged && sent.unknown.is_empty() {
            return Err(format!(
                "nobody has judged or cancelled {operation:?} with ticket {ticket}, and {partition} does not list it"
            ));
        }
        Ok(())
    }
}

impl Checker for Ledger {
    fn id(&self) -> &'static str {
        "I37L"
    }

    fn promise(&self) -> &'static str {
        "At rest each accepted record has come or ended otherwise, or is listed as one that waits."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            // What is not delayed is no entry.
            Fact::Scheduled { operation, partition, waits, .. } if *waits != Waiting::Not => {
                let sent = Sent {
                    partition: *partition,
                    waits: *waits,
                    ticket: None,
                    came: false,
                    unknown: BTreeSet::new(),
                    is_judged: false,
                };
                self.sent.insert(*operation, sent);
            }
            Fact::Recurring { operation, partition, .. } => {
                let sent = Sent {
                    partition: *partition,
                    waits: Waiting::Recurs,
                    ticket: None,
                    came: false,
                    unknown: BTreeSet::new(),
                    is_judged: false,
                };
                self.sent.insert(*operation, sent);
            }
            Fact::EntryTaken { operation, ticket } => {
                if let Some(sent) = self.sent.get_mut(operation) {
                    sent.ticket = Some(*ticket);
                }
            }
            Fact::VerdictAsked { command, about, .. } | Fact::CancelAsked { command, about } => {
                self.verdicts.insert(*command, *about);
                if let Some(sent) = self.sent.get_mut(about) {
                    sent.unknown.insert(*command);
                }
            }
            Fact::VerdictAnswered { command, code } | Fact::CancelAnswered { command, code } => {
                let about = self.verdicts.get(command);
                let Some(sent) = about.and_then(|about| self.sent.get_mut(about)) else {
                    return Ok(());
                };
                if *code == 0 {
                    sent.is_judged = true;
                    sent.unknown.remove(command);
                }
            }
            Fact::Came { operation, .. } => {
                if let Some(sent) = self.sent.get_mut(operation) {
                    sent.came = true;
                }
            }
            Fact::Waits { partition, entries } => {
                self.listed.insert(*partition, entries.iter().copied().collect());
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        for (operation, sent) in &self.sent {
            if sent.ticket.is_some() && self.listed.contains_key(&sent.partition) {
                self.evaluations += 1;
            }
            self.judge(operation, sent)?;
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

    fn half(rest: &[Fact]) -> Vec<Fact> {
        [&[sent(1, 5, Waiting::Verdict, None), taken(1, 4)], rest].concat()
    }

    #[test]
    fn what_waits_for_a_verdict_is_listed() {
        passes(Ledger::default(), &half(&[waits(&[(4, 5)])]));
        passes(Ledger::default(), &half(&[verdict_on(2, 1, true), judged(2, 0), waits(&[])]));
        passes(Ledger::default(), &half(&[verdict_on(2, 1, true), waits(&[])]));
        fails(Ledger::default(), &half(&[waits(&[])]));
        fails(Ledger::default(), &half(&[waits(&[(3, 5)])]));
    }

    #[test]
    fn what_has_ended_is_not_listed() {
        fails(Ledger::default(), &half(&[verdict_on(2, 1, true), judged(2, 0), waits(&[(4, 4)])]));
        fails(Ledger::default(), &half(&[verdict_on(2, 1, true), came(1, 9, 4), waits(&[(4, 4)])]));
        fails(Ledger::default(), &[scheduled(1, 5), taken(1, 4), waits(&[(4, 1)])]);
        passes(Ledger::default(), &[scheduled(1, 5), taken(1, 4), came(1, 7, 4), waits(&[])]);
        fails(Ledger::default(), &half(&[waits(&[(4, 3)])]));
    }

    #[test]
    fn what_recurs_is_listed_until_it_is_cancelled() {
        let recurring = Fact::Recurring {
            operation: op(1),
            partition: P,
            period_ms: 2_000,
            is_aligned: true,
            content: 1,
        };
        let story = |rest: &[Fact]| [&[recurring.clone(), taken(1, 4)], rest].concat();
        passes(Ledger::default(), &story(&[waits(&[(4, 1)])]));
        fails(Ledger::default(), &story(&[waits(&[])]));
        let cancelled = [cancel(2, 1), cancelled(2, 0)];
        passes(Ledger::default(), &story(&[&cancelled[..], &[waits(&[])]].concat()));
        fails(Ledger::default(), &story(&[&cancelled[..], &[waits(&[(4, 1)])]].concat()));
    }
}
