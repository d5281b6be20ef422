//! I28: a group at rest holds every partition once, spread evenly, in one generation.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::Fact;

#[derive(Debug)]
struct Share {
    generation: i32,
    partitions: Vec<TopicPartition>,
    members: usize,
    total: usize,
}

/// Gathers what the members of each group hold at the end.
#[derive(Debug, Default)]
pub struct Assignment {
    shares: BTreeMap<u32, BTreeMap<usize, Share>>,
    evaluations: u64,
}

impl Checker for Assignment {
    fn id(&self) -> &'static str {
        "I28"
    }

    fn promise(&self) -> &'static str {
        "A group at rest holds every partition once, spread evenly, in one generation."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        if let Fact::GroupAtRest { group, client, generation, partitions, members, total } = fact {
            let share = Share {
                generation: *generation,
                partitions: partitions.clone(),
                members: *members,
                total: *total,
            };
            self.shares.entry(*group).or_default().insert(*client, share);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        for (group, shares) in &self.shares {
            self.evaluations += 1;
            let Some(first) = shares.values().next() else { continue };
            if shares.values().any(|share| share.generation != first.generation) {
                return Err(format!("group {group} rests in two generations"));
            }
            if shares.len() != first.members {
                let (told, members) = (shares.len(), first.members);
                return Err(format!("{told} of {members} members of group {group} are at rest"));
            }
            let mut held = BTreeSet::new();
            for partition in shares.values().flat_map(|share| &share.partitions) {
                if !held.insert(*partition) {
                    return Err(format!("{partition} has two owners in group {group} at rest"));
                }
            }
            if held.len() != first.total {
                return Err(format!(
                    "group {group} at rest holds {} of {} partitions",
                    held.len(),
                    first.total
                ));
            }
            let sizes = || shares.values().map(|share| share.partitions.len());
            if sizes().max() > sizes().min().map(|least| least + 1) {
                let sizes: Vec<usize> = sizes().collect();
                return Err(format!("group {group} at rest is uneven: {sizes:?}"));
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
    use mainspring_core::ids::PartitionIndex;

    use super::super::testing::*;
    use super::*;

    fn at_rest(client: usize, generation: i32, indexes: &[i32]) -> Fact {
        let partitions = indexes
            .iter()
            .map(|&index| TopicPartition { partition: PartitionIndex(index), ..P })
            .collect();
        Fact::GroupAtRest { group: 0, client, generation, partitions, members: 2, total: 3 }
    }

    #[test]
    fn a_group_that_rests_otherwise_than_whole_once_and_even_is_found() {
        let with = |second| [at_rest(1, 4, &[0, 1]), second];
        passes(Assignment::default(), &with(at_rest(2, 4, &[2])));
        fails(Assignment::default(), &with(at_rest(2, 3, &[2])));
        fails(Assignment::default(), &with(at_rest(2, 4, &[1, 2])));
        fails(Assignment::default(), &with(at_rest(2, 4, &[])));
        fails(Assignment::default(), &[at_rest(1, 4, &[0, 1, 2]), at_rest(2, 4, &[])]);
        fails(Assignment::default(), &[at_rest(1, 4, &[0, 1, 2])]);
    }
}
