//! Any sequence of what can happen to a cluster keeps its rules.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Cluster, TOPIC, reassignments::order, registration};
use crate::digest::Digest;
use crate::ids::NodeId;
use crate::metadata::decide_brokers::{controlled_shutdown, fence, register_broker, unfence};
use crate::metadata::decide_partitions::alter_partition;
use crate::metadata::elections::{NO_LEADER, balance_leaders};
use crate::metadata::reassign::alter_reassignments;
use crate::metadata::{MetadataImage, PartitionImage};
use crate::wire::MetadataRecord;

const BROKERS: i32 = 4;
const PARTITIONS: &[&[i32]] = &[&[1, 2, 3], &[2, 3, 4], &[4, 1], &[3]];

#[derive(Clone, Debug)]
enum Event {
    Start { node: i32, new_directory: bool },
    Fence { one: i32, other: i32 },
    Unfence(i32),
    Stop(i32),
    Alter { partition: i32, members: u8, stale: bool },
    Move { partition: i32, members: u8 },
    TakeBack(i32),
    Balance,
}

fn event() -> impl Strategy<Value = Event> {
    let node = 1..=BROKERS;
    let partition = 0..PARTITIONS.len() as i32;
    prop_oneof![
        2 => (node.clone(), prop::bool::weighted(0.3))
            .prop_map(|(node, new_directory)| Event::Start { node, new_directory }),
        3 => (node.clone(), node.clone()).prop_map(|(one, other)| Event::Fence { one, other }),
        4 => node.clone().prop_map(Event::Unfence),
        1 => node.prop_map(Event::Stop),
        8 => (partition.clone(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(partition, members, stale)| Event::Alter { partition, members, stale }),
        1 => (partition.clone(), any::<u8>())
            .prop_map(|(partition, members)| Event::Move { partition, members }),
        1 => partition.prop_map(Event::TakeBack),
        1 => Just(Event::Balance),
    ]
}

struct Model {
    cluster: Cluster,
    directories: [u8; BROKERS as usize],
    starts: u32,
    directories_made: u8,
}

impl Model {
    fn new(min: usize) -> Self {
        Self {
            cluster: Cluster::with_topic(BROKERS, min, PARTITIONS),
            directories: [1, 2, 3, 4],
            starts: 1,
            directories_made: BROKERS as u8,
        }
    }

    fn decide(&mut self, event: &Event) -> Vec<MetadataRecord> {
        let image = &self.cluster.image;
        let members = |mask: u8| (1..=BROKERS).filter(move |node| mask & (1 << node) != 0);
        match *event {
            Event::Start { node, new_directory } => {
                self.starts += 1;
                let own = &mut self.directories[node as usize - 1];
                let directory = if new_directory { self.directories_made + 1 } else { *own };
                let request = registration(node, directory, self.starts);
                match register_broker(image, super::CLUSTER, &request) {
                    Ok(decision) => {
                        self.directories_made = self.directories_made.max(directory);
                        *own = directory;
                        decision.records
                    }
                    Err(_) => Vec::new(),
                }
            }
            Event::Fence { one, other } => fence(image, &[NodeId(one), NodeId(other)]),
            Event::Unfence(node) => unfence(image, NodeId(node)),
            Event::Stop(node) => controlled_shutdown(image, NodeId(node)),
            Event::Alter { partition, members: mask, stale } => {
                let leader = self.cluster.leader(partition);
                let replicas = &self.cluster.partition(partition).replicas;
                let isr: Vec<i32> = members(mask)
                    .filter(|&node| node != leader && replicas.contains(&NodeId(node)))
                    .chain([leader])
                    .collect();
                let mut request = self.cluster.asks_for(partition, &isr);
                request.topics[0].partitions[0].partition_epoch -= i32::from(stale);
                alter_partition(image, &request, 3).records
            }
            Event::Move { partition, members: mask } => {
                let target: Vec<i32> = members(mask).collect();
                alter_reassignments(image, &order(partition, Some(&target))).records
            }
            Event::TakeBack(partition) => {
                alter_reassignments(image, &order(partition, None)).records
            }
            Event::Balance => balance_leaders(image, 2).records,
        }
    }
}

/// What must hold of a partition at any time.
fn check(image: &MetadataImage, partition: &PartitionImage) -> Result<(), TestCaseError> {
    let isr: BTreeSet<NodeId> = partition.isr.iter().copied().collect();
    prop_assert_eq!(isr.len(), partition.isr.len(), "no member twice");
    prop_assert!(isr.iter().all(|node| partition.replicas.contains(node)), "{:?}", partition);
    if partition.leader == NO_LEADER {
        let may_lead = |node: &NodeId| image.is_active(*node) && isr.contains(node);
        prop_assert!(!partition.replicas.iter().any(may_lead), "somebody could: {:?}", partition);
    } else {
        prop_assert!(isr.contains(&partition.leader), "{:?}", partition);
        prop_assert!(image.is_active(partition.leader), "{:?}", partition);
    }
    let moves = partition.adding.iter().chain(&partition.removing);
    prop_assert!(moves.clone().all(|node| partition.replicas.contains(node)));
    Ok(())
}

/// What must hold of a change of a partition.
fn check_change(
    image: &MetadataImage,
    old: &PartitionImage,
    new: &PartitionImage,
    incomplete: Option<NodeId>,
) -> Result<(), TestCaseError> {
    prop_assert!(new.partition_epoch >= old.partition_epoch);
    prop_assert!(new.leader_epoch >= old.leader_epoch);
    if new != old {
        prop_assert!(new.partition_epoch > old.partition_epoch, "{:?} {:?}", old, new);
    }
    if new.leader != old.leader {
        prop_assert!(new.leader_epoch > old.leader_epoch);
    }
    // The set never falls below MIN, nor further below it, but by the one that is known incomplete.
    let topic = image.topic(TOPIC).expect("there");
    let lost = usize::from(incomplete.is_some_and(|node| old.isr.contains(&node)));
    let least = image.min_isr(topic, old).min(image.min_isr(topic, new)).min(old.isr.len());
    prop_assert!(new.isr.len() + lost >= least, "{:?} {:?} {}", old, new, least);
    if let Some(node) = incomplete {
        prop_assert!(!new.isr.contains(&node), "known incomplete and in sync");
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_rules_of_partitions_hold_whatever_happens(
        min in 1_usize..4,
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut model = Model::new(min);
        for event in &events {
            let before = model.cluster.image.clone();
            let own = model.directories;
            let records = model.decide(event);
            model.cluster.apply(&records);
            let image = &model.cluster.image;
            let incomplete =
                (1..=BROKERS).zip(0..).find(|&(_, at)| own[at] != model.directories[at]);
            let incomplete = incomplete.map(|(node, _)| NodeId(node));
            for index in 0..PARTITIONS.len() {
                let old = &before.topic(TOPIC).expect("there").partitions[index];
                let new = &image.topic(TOPIC).expect("there").partitions[index];
                check(image, new)?;
                check_change(image, old, new, incomplete)?;
            }
        }
    }

    #[test]
    fn the_same_events_give_the_same_records(
        min in 1_usize..4,
        events in prop::collection::vec(event(), 1..40),
    ) {
        let (mut one, mut other) = (Model::new(min), Model::new(min));
        for event in &events {
            let records = one.decide(event);
            prop_assert_eq!(&records, &other.decide(event));
            one.cluster.apply(&records);
            other.cluster.apply(&records);
        }
        let digest = |model: &Model| {
            let mut digest = Digest::default();
            model.cluster.image.digest(&mut digest);
            digest.finish()
        };
        prop_assert_eq!(digest(&one), digest(&other));
        prop_assert_eq!(one.cluster.image, other.cluster.image);
    }
}
