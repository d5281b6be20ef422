//! Which moments an alarm speaks of: those that contradict each other.

use std::collections::BTreeSet;

use mainspring_core::ids::TopicPartition;

use super::{Moment, Story, What};
use crate::checkers::Alarm;
use crate::history::{Fact, OperationId};

/// Most moments that are named.
const MOST: usize = 12;

/// What the words of an alarm speak of.
struct Subject {
    message: String,
    /// Numbers in it, offsets among them.
    numbers: BTreeSet<i64>,
}

/// Returns the places of the moments that belong to an alarm, oldest first. The last is the fact that raised
/// it. The others are found by what its words name: partitions, offsets, records, operations and groups;
/// and the crash before it is among them, if there was one in between.
pub fn evidence(story: &Story, alarm: &Alarm) -> Vec<usize> {
    let subject = Subject::of(&alarm.message);
    let last = story.moments.iter().rposition(|moment| matches!(moment.what, What::Fact(_)));
    let Some(last) = last else { return Vec::new() };
    let mut found: Vec<usize> =
        (0..last).filter(|at| subject.concerns(story, &story.moments[*at])).collect();
    // The first is mostly how it came to be, and the newest what became of it.
    if found.len() > MOST {
        let newest = found.split_off(found.len() - MOST / 2);
        found.truncate(MOST / 2);
        found.extend(newest);
    }
    let first = found.first().copied().unwrap_or(last);
    let crash = (first..last).rev().find(|at| matches!(story.moments[*at].what, What::End { .. }));
    found.extend(crash);
    found.push(last);
    found.sort_unstable();
    found.dedup();
    found
}

impl Subject {
    fn of(message: &str) -> Self {
        let words = message.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
        let numbers = words.filter_map(|word| word.parse().ok()).collect();
        Self { message: message.to_owned(), numbers }
    }

    fn names(&self, partition: TopicPartition) -> bool {
        self.message.contains(&partition.to_string())
    }

    fn names_operation(&self, operation: OperationId) -> bool {
        self.message.contains(&format!("{operation:?}"))
    }

    fn names_hash(&self, hash: u64) -> bool {
        self.message.contains(&format!("{hash:016x}"))
    }

    fn names_any(&self, mut offsets: impl Iterator<Item = i64>) -> bool {
        offsets.any(|offset| self.numbers.contains(&offset))
    }

    fn concerns(&self, story: &Story, moment: &Moment) -> bool {
        let What::Fact(fact) = &moment.what else { return false };
        match fact {
            Fact::Invoked { operation, partition, records } => {
                self.names_operation(*operation)
                    || (self.names(*partition) && records.iter().any(|hash| self.names_hash(*hash)))
            }
            Fact::Acked { operation, base_offset } => {
                let Some((partition, records)) = story.sent.get(operation) else { return false };
                self.names_operation(*operation)
                    || (self.names(*partition)
                        && self.names_any((*base_offset..).take(records.len())))
            }
            Fact::Refused { operation, .. }
            | Fact::Fenced { operation }
            | Fact::Judged { operation, .. } => self.names_operation(*operation),
            Fact::Read { partition, records, .. } => {
                self.names(*partition) && self.names_any(records.iter().map(|record| record.offset))
            }
            Fact::AskedPurge { partition, .. }
            | Fact::Purged { partition, .. }
            | Fact::FinalLog { partition, .. }
            | Fact::Bounds { partition, .. } => self.names(*partition),
            Fact::Stored { partition, end, durable, .. } => {
                *durable && self.names(*partition) && self.names_any([*end, end - 1].into_iter())
            }
            Fact::Assigned { group, member, .. } => {
                self.message.contains(&format!("group {group}"))
                    && (self.message.contains(&*member.id)
                        || self.numbers.contains(&i64::from(member.generation)))
            }
            Fact::CommitAsked { group, partition, offset, .. } => {
                self.names(*partition)
                    && self.message.contains(&format!("group {group}"))
                    && self.numbers.contains(offset)
            }
            Fact::GroupAtRest { group, .. } | Fact::GroupHealed { group, .. } => {
                self.message.contains(&format!("group {group}"))
            }
            _ => false,
        }
    }
}
