//! Which member of a group reads which partition: what the leader decides after each join.
//!
//! An assignor is a pure function of the members and the partition counts, and its result does not
//! depend on the order in which the members come. What members say about themselves may be wrong or
//! old; it never stops an assignment.
//!
//! Invariants of each result:
//! 1. Every partition of a topic that a member wants is given to exactly one member that wants it,
//!    but for those that the cooperative protocol holds back for one round.
//! 2. `cooperative-sticky` gives no partition to a member while another one says that it holds it.
//!
//! Source: Kafka's `RangeAssignor`; KIP-54 (sticky), 429 (cooperative), 792 (generations).

mod range;
mod sticky;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::client::producer::accumulator::Place;
use crate::ids::PartitionIndex;
use crate::wire::KafkaString;
use crate::wire::consumer_protocol::{
    AssignedPartitions, Blob, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    OwnedPartitions,
};

/// The newest version of the consumer protocol's blobs, in which they are written.
const BLOB_VERSION: i16 = 3;

/// How partitions change hands (KIP-429).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RebalanceProtocol {
    /// Every member gives up everything before it joins.
    Eager,
    /// Members keep what they have, and give up only what the assignment takes from them.
    Cooperative,
}

/// A rule by which partitions are given out. Names are those of Kafka's assignors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Assignor {
    /// `range`: of each topic, every member gets neighbouring partitions.
    Range,
    /// `cooperative-sticky`: balanced over all topics, and each member keeps what it has.
    CooperativeSticky,
}

impl Assignor {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Range, Self::CooperativeSticky];

    /// Returns the name under which members agree on it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Finds the one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Returns how partitions change hands under it.
    pub const fn protocol(self) -> RebalanceProtocol {
        match self {
            Self::Range => RebalanceProtocol::Eager,
            Self::CooperativeSticky => RebalanceProtocol::Cooperative,
        }
    }

    /// Returns the blob with which a member joins: the topics it wants, and what it holds since the
    /// assignment of `generation_id`, -1 for none.
    pub fn subscription(
        self,
        topics: &BTreeSet<KafkaString>,
        owned: &BTreeSet<Place>,
        generation_id: i32,
        rack: Option<&KafkaString>,
    ) -> Bytes {
        let user_data = match self {
            Self::Range => None,
            // Leaders from before KIP-792 look for the generation here.
            Self::CooperativeSticky => Some(Bytes::copy_from_slice(&generation_id.to_be_bytes())),
        };
        let owned_partitions = by_topic(owned)
            .into_iter()
            .map(|(topic, partitions)| OwnedPartitions { topic, partitions })
            .collect();
        ConsumerProtocolSubscription {
            topics: topics.iter().cloned().collect(),
            user_data,
            owned_partitions,
            generation_id,
            rack_id: rack.cloned(),
        }
        .to_blob(BLOB_VERSION)
    }

    /// Gives the partitions of the members' topics out. `counts` holds how many partitions each
    /// topic has; a topic that is not there has none.
    pub fn assign(self, members: &[Member], counts: &BTreeMap<KafkaString, i32>) -> Assignment {
        let mut sorted: Vec<&Member> = members.iter().collect();
        sorted.sort_by(|left, right| left.order(right));
        match self {
            Self::Range => range::assign(&sorted, counts),
            Self::CooperativeSticky => sticky::assign(&sorted, counts),
        }
    }
}

/// What each member is given, by member id. Every member is there.
pub type Assignment = BTreeMap<KafkaString, BTreeSet<Place>>;

/// A member of the group, as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id.
    pub member_id: KafkaString,
    /// The name that a static member keeps over restarts (`group.instance.id`).
    pub instance_id: Option<KafkaString>,
    /// The topics it wants.
    pub topics: BTreeSet<KafkaString>,
    /// The partitions it says it holds.
    pub owned: BTreeSet<Place>,
    /// The generation in which they were given to it, -1 where it does not say.
    pub generation_id: i32,
}

impl Member {
    /// Makes a member of the blob that it joined with. One whose blob cannot be read wants nothing
    /// and holds nothing, so that it stops no one else.
    pub fn from_blob(
        member_id: &KafkaString,
        instance_id: Option<&KafkaString>,
        blob: Bytes,
    ) -> Self {
        let read = ConsumerProtocolSubscription::from_blob(blob).unwrap_or_default();
        let told = read.user_data.as_ref().and_then(|data| data.first_chunk::<4>());
        let generation_id = if read.generation_id >= 0 {
            read.generation_id
        } else {
            told.map_or(-1, |bytes| i32::from_be_bytes(*bytes)).max(-1)
        };
        let owned = read.owned_partitions.iter().flat_map(|of_topic| {
            let topic = of_topic.topic.detached();
            of_topic
                .partitions
                .iter()
                .map(move |partition| (topic.clone(), PartitionIndex(*partition)))
        });
        Self {
            member_id: member_id.detached(),
            instance_id: instance_id.map(KafkaString::detached),
            topics: read.topics.iter().map(KafkaString::detached).collect(),
            owned: owned.collect(),
            generation_id,
        }
    }

    /// The order in which Kafka's assignors take members: static ones first, by their names. Java
    /// compares strings by their UTF-16 units.
    fn order(&self, other: &Self) -> Ordering {
        let units = |text: &KafkaString| text.encode_utf16().collect::<Vec<u16>>();
        match (&self.instance_id, &other.instance_id) {
            (Some(own), Some(others)) => units(own).cmp(&units(others)),
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => Ordering::Equal,
        }
        .then_with(|| units(&self.member_id).cmp(&units(&other.member_id)))
    }
}

/// Returns the blob that tells a member what it is given.
pub fn assignment_blob(places: &BTreeSet<Place>) -> Bytes {
    let assigned_partitions = by_topic(places)
        .into_iter()
        .map(|(topic, partitions)| AssignedPartitions { topic, partitions })
        .collect();
    ConsumerProtocolAssignment { assigned_partitions, user_data: None }.to_blob(BLOB_VERSION)
}

/// Reads the blob that tells a member what it is given; an empty one gives nothing.
///
/// # Errors
/// Where it is cut short, or is none.
pub fn read_assignment(blob: Bytes) -> Result<BTreeSet<Place>, crate::wire::DecodeError> {
    if blob.is_empty() {
        return Ok(BTreeSet::new());
    }
    let read = ConsumerProtocolAssignment::from_blob(blob)?;
    let mut places = BTreeSet::new();
    for of_topic in read.assigned_partitions {
        let topic = of_topic.topic.detached();
        places.extend(
            of_topic.partitions.into_iter().map(|index| (topic.clone(), PartitionIndex(index))),
        );
    }
    Ok(places)
}

fn by_topic(places: &BTreeSet<Place>) -> BTreeMap<KafkaString, Vec<i32>> {
    let mut topics: BTreeMap<KafkaString, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic.clone()).or_default().push(partition.0);
    }
    topics
}
