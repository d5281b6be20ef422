//! I26: a committed offset is the last one that was accepted, it is accepted from a member of the current
//! generation alone, and it survives.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, Membership, OperationId};

/// One write of a committed offset.
#[derive(Clone, Debug)]
struct Write {
    offset: i64,
    began: u64,
    /// When it was confirmed, if it was.
    ended: Option<u64>,
}

/// A commit under way.
#[derive(Debug)]
struct Commit {
    place: (u32, TopicPartition),
    member: Membership,
    offset: i64,
    began: u64,
    /// The newest generation that anybody had been given a share of.
    generation: i32,
    is_member: bool,
}

/// A question under way.
#[derive(Debug)]
struct Question {
    place: (u32, TopicPartition),
    /// When the newest write that was confirmed before it began had begun.
    settled: Option<u64>,
}

/// Every committed offset as a register: a question is answered with a write that may be the last.
#[derive(Debug, Default)]
pub struct CommitGate {
    generations: BTreeMap<u32, i32>,
    members: BTreeSet<(u32, Membership)>,
    commits: BTreeMap<OperationId, Commit>,
    /// All writes that were not refused.
    writes: BTreeMap<(u32, TopicPartition), Vec<Write>>,
    questions: BTreeMap<OperationId, Question>,
    evaluations: u64,
}

impl CommitGate {
    fn accepted(&mut self, at: u64, commit: &Commit) -> Result<(), String> {
        let (group, partition) = commit.place;
        let Membership { id, generation } = &commit.member;
        self.evaluations += 1;
        if *generation < commit.generation || !commit.is_member {
            return Err(format!(
                "a commit of {partition} by {id} in generation {generation} of group {group} was \
                 accepted, and generation {} had begun",
                commit.generation
            ));
        }
        let writes = self.writes.entry(commit.place).or_default();
        for write in writes.iter_mut() {
            if write.began == commit.began && write.offset == commit.offset {
                write.ended = Some(at);
            }
        }
        Ok(())
    }
}

impl Checker for CommitGate {
    fn id(&self) -> &'static str {
        "I26"
    }

    fn promise(&self) -> &'static str {
        "A committed offset is the last one accepted, only from members of the current generation, and it \
         survives."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Assigned { group, member, .. } => {
                let newest = self.generations.entry(*group).or_insert(0);
                *newest = (*newest).max(member.generation);
                self.members.insert((*group, member.clone()));
            }
            Fact::CommitAsked { operation, group, member, partition, offset } => {
                let place = (*group, *partition);
                self.commits.insert(
                    *operation,
                    Commit {
                        place,
                        member: member.clone(),
                        offset: *offset,
                        began: at,
                        generation: self.generations.get(group).copied().unwrap_or(0),
                        is_member: self.members.contains(&(*group, member.clone())),
                    },
                );
                let write = Write { offset: *offset, began: at, ended: None };
                self.writes.entry(place).or_default().push(write);
            }
            Fact::CommitAnswered { operation, code } => {
                let Some(commit) = self.commits.remove(operation) else { return Ok(()) };
                if *code == 0 {
                    return self.accepted(at, &commit);
                }
                // Refused: it never was a write.
                if let Some(writes) = self.writes.get_mut(&commit.place) {
                    writes.retain(|write| {
                        (write.began, write.offset) != (commit.began, commit.offset)
                    });
                }
            }
            Fact::AskedCommitted { operation, group, partition } => {
                let place = (*group, *partition);
                let confirmed = self.writes.get(&place).into_iter().flatten();
                let settled =
                    confirmed.filter(|write| write.ended.is_some()).map(|write| write.began).max();
                self.questions.insert(*operation, Question { place, settled });
            }
            Fact::ToldCommitted { operation, offset } => {
                let Some(Question { place, settled }) = self.questions.remove(operation) else {
                    return Ok(());
                };
                self.evaluations += 1;
                let found = self.writes.get(&place).into_iter().flatten().any(|write| {
                    write.offset == *offset
                        // Over before the newest confirmed one began: it was written over.
                        && settled.is_none_or(|began| write.ended.is_none_or(|end| end >= began))
                });
                let was_none = *offset == -1 && settled.is_none();
                if !found && !was_none {
                    let (group, partition) = place;
                    return Err(format!(
                        "group {group} is told {offset} for {partition}, which is not its last \
                         commit: {:?}",
                        self.writes.get(&place)
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
    use super::super::testing::*;
    use super::*;

    fn joined(id: &str, generation: i32) -> Fact {
        Fact::Assigned {
            group: 0,
            member: member(id, generation),
            instance: None,
            partitions: vec![P],
        }
    }

    fn commit(number: u64, id: &str, generation: i32, offset: i64) -> Fact {
        Fact::CommitAsked {
            operation: op(number),
            group: 0,
            member: member(id, generation),
            partition: P,
            offset,
        }
    }

    fn answered(number: u64, code: i16) -> Fact {
        Fact::CommitAnswered { operation: op(number), code }
    }

    fn ask(number: u64) -> Fact {
        Fact::AskedCommitted { operation: op(number), group: 0, partition: P }
    }

    fn told(number: u64, offset: i64) -> Fact {
        Fact::ToldCommitted { operation: op(number), offset }
    }

    #[test]
    fn an_offset_that_is_lost_or_goes_back_is_found() {
        let start = [joined("a", 1), commit(1, "a", 1, 5), answered(1, 0), ask(9)];
        passes(CommitGate::default(), &[&start[..], &[told(9, 5)]].concat());
        fails(CommitGate::default(), &[&start[..], &[told(9, -1)]].concat());
        fails(CommitGate::default(), &[&start[..], &[told(9, 6)]].concat());
        let more = [commit(2, "a", 1, 7), answered(2, 0), ask(10)];
        passes(CommitGate::default(), &[&start[..], &more[..], &[told(10, 7)]].concat());
        fails(CommitGate::default(), &[&start[..], &more[..], &[told(10, 5)]].concat());
    }

    #[test]
    fn a_commit_without_an_answer_may_be_the_last_or_not() {
        let start =
            [joined("a", 1), commit(1, "a", 1, 5), answered(1, 0), commit(2, "a", 1, 7), ask(9)];
        passes(CommitGate::default(), &[&start[..], &[told(9, 5)]].concat());
        passes(CommitGate::default(), &[&start[..], &[told(9, 7)]].concat());
        fails(CommitGate::default(), &[&start[..], &[answered(2, 27), told(9, 7)]].concat());
    }

    #[test]
    fn a_commit_of_a_past_generation_that_is_accepted_is_found() {
        let late = [joined("a", 1), joined("b", 2), commit(1, "a", 1, 5)];
        passes(
            CommitGate::default(),
            &[&late[..], &[answered(1, 22), ask(9), told(9, -1)]].concat(),
        );
        fails(CommitGate::default(), &[&late[..], &[answered(1, 0)]].concat());
    }

    #[test]
    fn a_commit_of_somebody_who_is_no_member_is_found() {
        fails(CommitGate::default(), &[joined("a", 1), commit(1, "x", 1, 5), answered(1, 0)]);
    }
}
