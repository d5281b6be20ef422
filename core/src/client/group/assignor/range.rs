//! `range`: the partitions of each topic in their order, parted among the members that want it.
//!
//! The result is that of Kafka's assignor for members without racks; racks are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assignment, Member};
use crate::ids::PartitionIndex;
use crate::wire::KafkaString;

/// Parts each topic. The first members get one partition more where it does not come out even.
pub(super) fn assign(members: &[&Member], counts: &BTreeMap<KafkaString, i32>) -> Assignment {
    let mut assignment: Assignment =
        members.iter().map(|member| (member.member_id.clone(), BTreeSet::new())).collect();
    let mut wanted_by: BTreeMap<&KafkaString, Vec<&Member>> = BTreeMap::new();
    for member in members {
        for topic in &member.topics {
            wanted_by.entry(topic).or_default().push(member);
        }
    }
    for (topic, readers) in wanted_by {
        let count = counts.get(topic).copied().unwrap_or(0).max(0);
        let each = count / readers.len() as i32;
        let extra = count % readers.len() as i32;
        let mut next = 0;
        for (index, member) in readers.iter().enumerate() {
            let end = next + each + i32::from((index as i32) < extra);
            let given = assignment.get_mut(&member.member_id).expect("every member is there");
            given.extend((next..end).map(|at| (topic.clone(), PartitionIndex(at))));
            next = end;
        }
    }
    assignment
}
