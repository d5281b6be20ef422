//! F02 for what recurs: it comes once at each of its times and in their order, as long as nobody cancels it, and times
//! that were missed come once together.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use crate::clock::EPOCH_MS;
use crate::history::{Fact, OperationId};

/// How long after its time the last one may be missing from what a reader has read to the end, in milliseconds.
const SETTLES_MS: i64 = 20_000;

#[derive(Debug)]
struct Kept {
    partition: TopicPartition,
    period_ms: i64,
    is_aligned: bool,
    content: u64,
    ticket: Option<i64>,
    is_cancel_asked: bool,
    /// When it was known that it is cancelled.
    cancelled_ms: Option<i64>,
    /// Where it came, by the time that it was due.
    came: BTreeMap<i64, i64>,
}

impl Kept {
    /// Judges that it came at an offset, at the time that it says it was due.
    fn judge(&self, due_ms: i64, offset: i64) -> Result<(), String> {
        if self.is_aligned && due_ms % self.period_ms != 0 {
            return Err(format!("at {offset} for {due_ms}, which is none of its times"));
        }
        if let Some(cancelled_ms) = self.cancelled_ms.filter(|at| due_ms > *at) {
            return Err(format!(
                "at {offset} for {due_ms}, and at {cancelled_ms} it was known that it is cancelled"
            ));
        }
        if let Some(before) = self.came.get(&due_ms).filter(|before| **before != offset) {
            return Err(format!("for {due_ms} at {before} and at {offset}"));
        }
        let earlier = self.came.range(..due_ms).next_back();
        let later = self.came.range(due_ms + 1..).next();
        let near = |(other, _): &(&i64, &i64)| (**other - due_ms).abs() < self.period_ms;
        if let Some((other, _)) = earlier.filter(near).or_else(|| later.filter(near)) {
            return Err(format!(
                "for {other} and for {due_ms}, and recurs every {}",
                self.period_ms
            ));
        }
        let is_sorted = earlier.is_none_or(|(_, before)| *before < offset)
            && later.is_none_or(|(_, behind)| *behind > offset);
        if !is_sorted {
            return Err(format!(
                "for {due_ms} at {offset}, and for others elsewhere: {:?}",
                self.came
            ));
        }
        Ok(())
    }
}

/// Follows each record that recurs.
#[derive(Debug, Default)]
pub struct Recurring {
    kept: BTreeMap<OperationId, Kept>,
    cancels: BTreeMap<OperationId, OperationId>,
    clocks: (i64, i64),
    /// When each partition was read to its end.
    whole: BTreeMap<TopicPartition, i64>,
    evaluations: u64,
}

impl Checker for Recurring {
    fn id(&self) -> &'static str {
        "F02"
    }

    fn promise(&self) -> &'static str {
        "What recurs comes once at each of its times, in their order, until it is cancelled."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        let now_ms = EPOCH_MS + (at / 1_000_000) as i64;
        match fact {
            Fact::ClocksErr { ahead_ms, late_ms } => self.clocks = (*ahead_ms, *late_ms),
            Fact::Recurring { operation, partition, period_ms, is_aligned, content } => {
                let kept = Kept {
                    partition: *partition,
                    period_ms: *period_ms,
                    is_aligned: *is_aligned,
                    content: *content,
                    ticket: None,
                    is_cancel_asked: false,
                    cancelled_ms: None,
                    came: BTreeMap::new(),
                };
                self.kept.insert(*operation, kept);
            }
            Fact::EntryTaken { operation, ticket } => {
                if let Some(kept) = self.kept.get_mut(operation) {
                    kept.ticket = Some(*ticket);
                }
            }
            Fact::CancelAsked { command, about } => {
                if let Some(kept) = self.kept.get_mut(about) {
                    kept.is_cancel_asked = true;
                    self.cancels.insert(*command, *about);
                }
            }
            Fact::CancelAnswered { command, code: 0 } => {
                let about = self.cancels.get(command);
                if let Some(kept) = about.and_then(|about| self.kept.get_mut(about)) {
                    kept.cancelled_ms.get_or_insert(now_ms + self.clocks.0);
                }
            }
            Fact::Recurred { operation, partition, offset, due_ms, content, .. } => {
                let Some(kept) = self.kept.get_mut(operation) else {
                    return Err(format!("{operation:?} came to {partition} and was never sent"));
                };
                self.evaluations += 1;
                if kept.partition != *partition || kept.content != *content {
                    return Err(format!("{operation:?} came to {partition} with other content"));
                }
                let early_ms = due_ms - now_ms - self.clocks.0;
                if early_ms > 0 {
                    return Err(format!("{operation:?} came at {offset}, {early_ms} ms too early"));
                }
                kept.judge(*due_ms, *offset)
                    .map_err(|why| format!("{operation:?} came to {partition} {why}"))?;
                kept.came.insert(*due_ms, *offset);
            }
            Fact::ViewedWhole { partition, .. } => {
                self.whole.insert(*partition, now_ms);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        for (operation, kept) in &self.kept {
            let Some(whole_ms) = self.whole.get(&kept.partition) else { continue };
            if kept.ticket.is_none() || kept.is_cancel_asked {
                continue;
            }
            self.evaluations += 1;
            let last = kept.came.last_key_value().map(|(due_ms, _)| *due_ms);
            let since = whole_ms - kept.period_ms - self.clocks.1 - SETTLES_MS;
            if last.is_none_or(|last| last < since) {
                return Err(format!(
                    "{operation:?} recurs every {} ms, last came for {last:?}, and {} was read to its end at \
                     {whole_ms}",
                    kept.period_ms, kept.partition
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
    use super::super::super::testing::*;
    use super::super::testing::*;
    use super::*;

    const S: i64 = 1_000;

    /// What comes at seconds, of a record that recurs every two of them.
    fn run(story: &[(i64, Fact)]) -> Result<(), String> {
        let mut checker = Recurring::default();
        let recurring = Fact::Recurring {
            operation: op(1),
            partition: P,
            period_ms: 2 * S,
            is_aligned: true,
            content: 1,
        };
        checker.observe(0, &recurring)?;
        checker.observe(0, &taken(1, 0))?;
        for (second, fact) in story {
            checker.observe((second * S * 1_000_000) as u64, fact)?;
        }
        checker.finish()
    }

    fn recurred(second: i64, offset: i64) -> Fact {
        let due_ms = EPOCH_MS + second * S;
        Fact::Recurred { client: 1, operation: op(1), partition: P, offset, due_ms, content: 1 }
    }

    #[test]
    fn once_at_each_time_passes_and_missed_ones_together() {
        let story = [(2, recurred(2, 3)), (4, recurred(4, 5)), (9, recurred(8, 7))];
        assert_eq!(run(&story), Ok(()));
        assert_eq!(run(&[&story[..], &[(9, recurred(4, 5)), (20, whole(8))]].concat()), Ok(()));
    }

    #[test]
    fn a_second_one_of_a_time_or_one_between_is_found() {
        assert!(run(&[(2, recurred(2, 3)), (3, recurred(2, 4))]).is_err());
        assert!(run(&[(2, recurred(2, 3)), (3, recurred(3, 4))]).is_err());
    }

    #[test]
    fn an_early_one_and_one_out_of_order_are_found() {
        assert!(run(&[(1, recurred(2, 3))]).is_err());
        assert!(run(&[(4, recurred(4, 3)), (5, recurred(2, 4))]).is_err());
    }

    #[test]
    fn one_that_comes_no_more_is_found_unless_it_is_cancelled() {
        assert!(run(&[(2, recurred(2, 3)), (60, whole(8))]).is_err());
        assert!(run(&[(60, whole(8))]).is_err());
        let cancelled = [(3, cancel(2, 1)), (3, cancelled(2, 0))];
        let then = |fact| [&cancelled[..], &[fact]].concat();
        assert_eq!(run(&then((60, whole(8)))), Ok(()));
        assert_eq!(run(&then((5, recurred(2, 4)))), Ok(()), "it came before, and was read late");
        assert!(run(&then((5, recurred(4, 4)))).is_err());
    }
}
