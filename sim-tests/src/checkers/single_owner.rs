//! I25: in a generation of a group a partition has one owner, and who owned it in an earlier one cannot
//! commit any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, Membership};

/// Who was given a partition, and under which instance id.
type Owner = (Membership, Option<Arc<str>>);

/// Remembers who was given what in each generation.
#[derive(Debug, Default)]
pub struct SingleOwner {
    owners: BTreeMap<(u32, i32, TopicPartition), Owner>,
    given: BTreeMap<(u32, Membership), Vec<TopicPartition>>,
    evaluations: u64,
}

impl Checker for SingleOwner {
    fn id(&self) -> &'static str {
        "I25"
    }

    fn promise(&self) -> &'static str {
        "In one generation of a group a partition belongs to one member."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        let Fact::Assigned { group, member, instance, partitions } = fact else { return Ok(()) };
        self.evaluations += 1;
        let before =
            self.given.entry((*group, member.clone())).or_insert_with(|| partitions.clone());
        if before != partitions {
            return Err(format!(
                "member {} of group {group} was given {before:?} in generation {}, and then \
                 {partitions:?}",
                member.id, member.generation
            ));
        }
        for partition in partitions {
            let place = (*group, member.generation, *partition);
            let now = (member.clone(), instance.clone());
            let owner = self.owners.entry(place).or_insert_with(|| now.clone());
            // A static member comes back under another id, and the one before is fenced.
            if owner.0 != *member && (instance.is_none() || owner.1 != *instance) {
                return Err(format!(
                    "{partition} has two owners in generation {} of group {group}: {} and {}",
                    member.generation, owner.0.id, member.id
                ));
            }
            *owner = now;
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

    fn assigned_to(
        id: &str,
        instance: Option<&str>,
        generation: i32,
        partitions: &[TopicPartition],
    ) -> Fact {
        Fact::Assigned {
            group: 0,
            member: member(id, generation),
            instance: instance.map(Arc::from),
            partitions: partitions.to_vec(),
        }
    }

    fn assigned(id: &str, generation: i32, partitions: &[TopicPartition]) -> Fact {
        assigned_to(id, None, generation, partitions)
    }

    #[test]
    fn a_partition_with_two_owners_is_found() {
        passes(SingleOwner::default(), &[assigned("a", 1, &[P]), assigned("b", 2, &[P])]);
        fails(SingleOwner::default(), &[assigned("a", 1, &[P]), assigned("b", 1, &[P])]);
    }

    #[test]
    fn a_static_member_may_come_back_and_no_other_may_take_its_place() {
        let with =
            |instance| [assigned_to("a", Some("s"), 1, &[P]), assigned_to("b", instance, 1, &[P])];
        passes(SingleOwner::default(), &with(Some("s")));
        fails(SingleOwner::default(), &with(Some("t")));
        fails(SingleOwner::default(), &with(None));
    }

    #[test]
    fn an_assignment_that_changes_within_a_generation_is_found() {
        passes(SingleOwner::default(), &[assigned("a", 1, &[P]), assigned("a", 1, &[P])]);
        fails(SingleOwner::default(), &[assigned("a", 1, &[P]), assigned("a", 1, &[])]);
    }
}
