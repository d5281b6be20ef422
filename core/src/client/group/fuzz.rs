//! The body of a fuzz target: what other members of a group say to its leader.
//!
//! It returns nothing; a panic is a finding.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::assignor::{Assignor, Member};
use crate::wire::KafkaString;

/// The subscription of a member, which a leader gives partitions by, beside one that wants the same.
pub fn subscription(data: &[u8]) {
    let (id, other) = (KafkaString::from_static("a"), KafkaString::from_static("b"));
    let member = Member::from_blob(&id, None, Bytes::copy_from_slice(data));
    let counts: BTreeMap<KafkaString, i32> =
        member.topics.iter().map(|topic| (topic.clone(), 3)).collect();
    let same = Member { member_id: other.clone(), ..member.clone() };
    let members = [member, same];
    for assignor in Assignor::ALL {
        let assignment = assignor.assign(&members, &counts);
        let (one, two) = (&assignment[&id], &assignment[&other]);
        assert!(one.is_disjoint(two), "a partition has one owner");
        assert!(one.len() + two.len() <= 3 * counts.len(), "only what is there is given");
    }
}
