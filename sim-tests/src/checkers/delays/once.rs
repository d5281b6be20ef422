//! I34, F04: an accepted record comes once, to every reader, or never if its cancel was acknowledged or another one
//! of its name has replaced it; never both. A cancel that is refused was too late.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use crate::history::{Fact, OperationId, Waiting};

/// There is no such entry, or it is too late.
const INVALID_RECORD: i16 = 87;

#[derive(Debug, Default)]
struct Sent {
    partition: Option<TopicPartition>,
    content: u64,
    waits: Option<Waiting>,
    /// It may have been replaced by another one of its name.
    has_rivals: bool,
    /// It was sent once more.
    again: bool,
    ticket: Option<i64>,
    /// Where it came.
    came: Option<i64>,
    /// The ticket that it came with.
    carried: Option<i64>,
    /// Who has seen it.
    shown_to: BTreeSet<usize>,
    /// Cancels without an answer, or with one that says nothing of the outcome.
    unknown: BTreeSet<OperationId>,
    cancelled: bool,
    /// A cancel that was sent after it was accepted was refused.
    refused: bool,
}

/// Follows each record by its token.
#[derive(Debug, Default)]
pub struct Once {
    sent: BTreeMap<OperationId, Sent>,
    /// What each command is about, and whether that was accepted before.
    commands: BTreeMap<OperationId, (OperationId, bool)>,
    /// What was sent under each name of a partition.
    named: BTreeMap<(TopicPartition, u32), Vec<OperationId>>,
    /// Who has read all of each partition.
    whole: BTreeMap<TopicPartition, BTreeSet<usize>>,
    evaluations: u64,
}

impl Once {
    /// Notes that a record may replace others of its name, and they it, where the order is not known.
    fn take_name(&mut self, operation: OperationId, name: (TopicPartition, u32)) {
        let others = self.named.entry(name).or_default();
        let mut has_rivals = false;
        for other in others.iter() {
            let other = self.sent.entry(*other).or_default();
            other.has_rivals = true;
            has_rivals |= other.ticket.is_none();
        }
        others.push(operation);
        self.sent.entry(operation).or_default().has_rivals |= has_rivals;
    }

    /// What was accepted under a name between the acceptance of another one and its delivery has replaced that.
    fn judge_names(&self) -> Result<(), String> {
        for named in self.named.values() {
            let all = || named.iter().filter_map(|id| Some((id, self.sent.get(id)?)));
            for (id, sent) in all() {
                let (Some(ticket), Some(offset)) = (sent.carried, sent.came) else { continue };
                let mut newer =
                    all().filter_map(|(_, other)| other.ticket.filter(|_| !other.again));
                let newer = newer.find(|newer| (ticket + 1..offset).contains(newer));
                if let Some(newer) = newer {
                    return Err(format!(
                        "{id:?} with the ticket {ticket} came at {offset}, and {newer} had replaced it"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Checker for Once {
    fn id(&self) -> &'static str {
        "I34"
    }

    fn promise(&self) -> &'static str {
        "A delayed record comes once, or never if its cancel was acknowledged."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Scheduled { operation, partition, waits, name, content, .. } => {
                let sent = self.sent.entry(*operation).or_default();
                (sent.partition, sent.waits) = (Some(*partition), Some(*waits));
                sent.content = *content;
                if let Some(name) = name {
                    self.take_name(*operation, (*partition, *name));
                }
            }
            Fact::SentAgain { operation } => {
                self.sent.entry(*operation).or_default().again = true;
            }
            Fact::EntryTaken { operation, ticket } => {
                self.sent.entry(*operation).or_default().ticket = Some(*ticket);
            }
            Fact::CancelAsked { command, about } => {
                let sent = self.sent.entry(*about).or_default();
                sent.unknown.insert(*command);
                self.commands.insert(*command, (*about, sent.ticket.is_some()));
            }
            Fact::CancelAnswered { command, code } => {
                let Some((about, accepted)) = self.commands.get(command) else { return Ok(()) };
                let sent = self.sent.entry(*about).or_default();
                if *code == 0 {
                    sent.cancelled = true;
                    sent.unknown.remove(command);
                } else if *code == INVALID_RECORD {
                    sent.refused |= accepted;
                    sent.unknown.remove(command);
                }
            }
            Fact::Came { client, operation, partition, offset, ticket, content } => {
                let Some(sent) = self.sent.get_mut(operation) else {
                    return Err(format!("{operation:?} came to {partition} and was never sent"));
                };
                self.evaluations += 1;
                if sent.came.is_some_and(|before| before != *offset) && !sent.again {
                    return Err(format!(
                        "{operation:?} came to {partition} at {:?} and at {offset}",
                        sent.came
                    ));
                }
                if sent.partition != Some(*partition) {
                    return Err(format!(
                        "{operation:?} came to {partition}, where it was not sent"
                    ));
                }
                if sent.content != *content {
                    return Err(format!(
                        "{operation:?} came to {partition} at {offset} with other content than it was sent with"
                    ));
                }
                let told = sent.ticket.filter(|_| !sent.again);
                let is_right = if sent.waits == Some(Waiting::Not) {
                    *ticket < 0 && told.is_none_or(|told| told == *offset)
                } else {
                    *ticket >= 0 && ticket < offset && told.is_none_or(|told| told == *ticket)
                };
                if !is_right {
                    return Err(format!(
                        "{operation:?} came at {offset} with the ticket {ticket}, and its answer was {:?}",
                        sent.ticket
                    ));
                }
                sent.came = Some(*offset);
                sent.carried = Some(*ticket).filter(|ticket| *ticket >= 0);
                sent.shown_to.insert(*client);
            }
            Fact::ViewedWhole { client, partition, .. } => {
                self.whole.entry(*partition).or_default().insert(*client);
            }
            _ => {}
        }
        // Told at once, so that it is known when.
        if let Fact::Came { operation, .. } = fact
            && self.sent.get(operation).is_some_and(|sent| sent.cancelled)
        {
            return Err(format!("{operation:?} came although its cancel was acknowledged"));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.judge_names()?;
        for (operation, sent) in &self.sent {
            let viewers = sent.partition.and_then(|partition| self.whole.get(&partition));
            let Some(viewers) = viewers else { continue };
            self.evaluations += 1;
            if let (Some(offset), Some(client)) =
                (sent.came, viewers.difference(&sent.shown_to).next())
            {
                return Err(format!(
                    "{operation:?} came at {offset}, and client {client}, who has read all, was not shown it"
                ));
            }
            // What becomes of a half message is another promise.
            if sent.waits == Some(Waiting::Verdict) {
                continue;
            }
            match (sent.came, sent.cancelled) {
                (Some(offset), true) => {
                    return Err(format!(
                        "{operation:?} came at {offset}, and its cancel was acknowledged"
                    ));
                }
                (None, false) if sent.refused && sent.unknown.is_empty() => {
                    return Err(format!(
                        "{operation:?} never came, and its cancel was refused as too late"
                    ));
                }
                (None, false)
                    if sent.ticket.is_some() && sent.unknown.is_empty() && !sent.has_rivals =>
                {
                    return Err(format!("{operation:?} was accepted and never came"));
                }
                _ => {}
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
    use super::super::super::testing::*;
    use super::super::testing::*;
    use super::*;

    #[test]
    fn once_or_cancelled_passes() {
        let facts = [
            scheduled(1, 5),
            taken(1, 0),
            came(1, 7, 0),
            came(1, 7, 0),
            scheduled(2, 5),
            taken(2, 1),
            cancel(3, 2),
            cancelled(3, 0),
            cancel(4, 1),
            cancelled(4, 87),
            whole(8),
        ];
        passes(Once::default(), &facts);
    }

    #[test]
    fn a_second_time_is_found() {
        fails(Once::default(), &[scheduled(1, 5), came(1, 7, 0), came(1, 8, 0)]);
    }

    #[test]
    fn one_that_comes_with_other_content_is_found() {
        let mut other = came(1, 7, 0);
        if let Fact::Came { content, .. } = &mut other {
            *content += 1;
        }
        fails(Once::default(), &[scheduled(1, 5), taken(1, 0), other]);
    }

    #[test]
    fn one_that_never_comes_is_found() {
        fails(Once::default(), &[scheduled(1, 5), taken(1, 0), whole(8)]);
        let unknown = [scheduled(1, 5), taken(1, 0), cancel(2, 1), whole(8)];
        passes(Once::default(), &unknown);
        let refused = [scheduled(1, 5), taken(1, 0), cancel(2, 1), cancelled(2, 87), whole(8)];
        fails(Once::default(), &refused);
    }

    #[test]
    fn one_that_comes_although_it_was_cancelled_is_found() {
        let sent = [scheduled(1, 5), taken(1, 0), cancel(2, 1)];
        let then = |rest: &[Fact]| [&sent[..], rest].concat();
        fails(Once::default(), &then(&[cancelled(2, 0), came(1, 7, 0)]));
        fails(Once::default(), &then(&[came(1, 7, 0), cancelled(2, 0), whole(8)]));
    }

    #[test]
    fn the_last_of_a_name_comes() {
        let named = |number| sent(number, 5, Waiting::Due, Some(2));
        let two = [named(1), taken(1, 0), named(2), taken(2, 4), came(2, 9, 4), whole(10)];
        passes(Once::default(), &two);
        fails(Once::default(), &[named(1), taken(1, 0), named(2), taken(2, 4), whole(10)]);
        let at_once = [named(1), named(2), taken(2, 4), taken(1, 6), came(1, 9, 6), whole(10)];
        passes(Once::default(), &at_once);
        let after = [named(1), taken(1, 0), came(1, 3, 0), named(2), taken(2, 4), came(2, 9, 4)];
        passes(Once::default(), &after);
        let both = [named(1), taken(1, 0), named(2), taken(2, 4), came(1, 8, 0), came(2, 9, 4)];
        fails(Once::default(), &both);
    }

    #[test]
    fn one_that_a_reader_of_all_is_not_shown_is_found() {
        let other = Fact::ViewedWhole { client: 2, partition: P, position: 8, latest: 8 };
        let story = [scheduled(1, 5), taken(1, 0), came(1, 7, 0), whole(8)];
        passes(Once::default(), &story);
        fails(Once::default(), &[&story[..], &[other]].concat());
    }

    #[test]
    fn what_does_not_wait_stands_where_its_answer_says() {
        let plain = sent(1, 5, Waiting::Not, None);
        passes(Once::default(), &[plain.clone(), taken(1, 3), came(1, 3, -1), whole(4)]);
        fails(Once::default(), &[plain.clone(), taken(1, 3), came(1, 5, -1)]);
        fails(Once::default(), &[plain, taken(1, 3), came(1, 5, 3)]);
        fails(Once::default(), &[scheduled(1, 5), taken(1, 3), came(1, 3, -1)]);
    }

    #[test]
    fn a_ticket_that_is_not_the_one_of_the_answer_is_found() {
        fails(Once::default(), &[scheduled(1, 5), taken(1, 0), came(1, 7, 1)]);
        fails(Once::default(), &[scheduled(1, 5), came(1, 7, 7)]);
        fails(Once::default(), &[came(1, 7, 0)]);
    }
}
