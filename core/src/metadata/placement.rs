//! Which nodes hold a new partition.
//!
//! The brokers stand in a row that goes from rack to rack. The first replicas of a topic's partitions walk
//! along it; the others follow at a distance that grows by one with each round, so that the partitions of a
//! lost leader fall to many. No rack holds a second replica before each has one. Nothing is drawn: where the
//! walk begins follows from how many partitions there are. Source: KIP-36 (`AdminUtils` of Apache Kafka).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::NodeId;
use crate::metadata::image::MetadataImage;

/// Places `count` partitions of `factor` replicas each on the active brokers; `start` turns the walk. `None`
/// where there are fewer of them than that.
pub fn place(
    image: &MetadataImage,
    count: usize,
    factor: usize,
    start: usize,
) -> Option<Vec<Vec<NodeId>>> {
    let row = row(image);
    if factor == 0 || row.len() < factor {
        return None;
    }
    Some((start..start + count).map(|turn| replicas(&row, factor, turn)).collect())
}

/// The active brokers and their racks, from rack to rack.
fn row(image: &MetadataImage) -> Vec<(NodeId, &str)> {
    let mut racks: BTreeMap<&str, VecDeque<NodeId>> = BTreeMap::new();
    for (node, broker) in image.brokers().filter(|(_, broker)| broker.is_active()) {
        racks.entry(broker.rack.as_deref().unwrap_or_default()).or_default().push_back(node);
    }
    let mut row = Vec::new();
    loop {
        let before = row.len();
        for (&rack, nodes) in &mut racks {
            row.extend(nodes.pop_front().map(|node| (node, rack)));
        }
        if row.len() == before {
            return row;
        }
    }
}

fn replicas(row: &[(NodeId, &str)], factor: usize, turn: usize) -> Vec<NodeId> {
    let all_racks = row.iter().map(|&(_, rack)| rack).collect::<BTreeSet<_>>().len();
    let first = turn % row.len();
    let shift = turn / row.len();
    let others = row.len() - 1;
    let mut racks = BTreeSet::from([row[first].1]);
    let mut chosen = vec![row[first].0];
    // Twice along the row: once while racks are left that hold none, once for all others.
    for step in 0..2 * others {
        if chosen.len() == factor {
            break;
        }
        let (node, rack) = row[(first + 1 + (shift + step) % others) % row.len()];
        if chosen.contains(&node) || racks.contains(rack) && racks.len() < all_racks {
            continue;
        }
        racks.insert(rack);
        chosen.push(node);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::metadata_record::RegisterBrokerRecord;

    /// A cluster of brokers from 1 on, each in its rack or in none.
    fn cluster(racks: &[Option<&str>]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (rack, broker_id) in racks.iter().zip(1..) {
            let record = RegisterBrokerRecord {
                broker_id,
                rack: rack.map(Into::into),
                fenced: false,
                ..RegisterBrokerRecord::default()
            };
            image.apply(image.end_offset(), &record.into()).expect("applies");
        }
        image
    }

    fn numbers(placed: &[Vec<NodeId>]) -> Vec<Vec<i32>> {
        placed.iter().map(|it| crate::metadata::image::numbers(it)).collect()
    }

    #[test]
    fn leaders_walk_along_the_brokers_and_followers_shift_with_each_round() {
        let image = cluster(&[None; 3]);
        let placed = place(&image, 6, 2, 0).expect("enough brokers");
        let expected = [[1, 2], [2, 3], [3, 1], [1, 3], [2, 1], [3, 2]];
        assert_eq!(numbers(&placed), expected);
    }

    #[test]
    fn a_lone_broker_holds_everything() {
        let placed = place(&cluster(&[None]), 3, 1, 7).expect("enough brokers");
        assert_eq!(numbers(&placed), [[1], [1], [1]]);
    }

    #[test]
    fn more_replicas_than_active_brokers_are_refused() {
        assert_eq!(place(&cluster(&[None; 2]), 1, 3, 0), None);
        assert_eq!(place(&cluster(&[None; 2]), 1, 0, 0), None);
    }

    proptest! {
        #[test]
        fn replicas_differ_spread_over_racks_and_leaders_are_even(
            racks in prop::collection::vec(0_usize..3, 1..9),
            factor in 1_usize..5,
            start in 0_usize..100,
        ) {
            const NAMES: [Option<&str>; 3] = [None, Some("a"), Some("b")];
            let image = cluster(&racks.iter().map(|&it| NAMES[it]).collect::<Vec<_>>());
            let rounds = 3;
            let Some(placed) = place(&image, rounds * racks.len(), factor, start) else {
                prop_assert!(factor > racks.len());
                return Ok(());
            };
            let all: BTreeSet<usize> = racks.iter().copied().collect();
            let mut led = vec![0; racks.len()];
            for replicas in &placed {
                let differing: BTreeSet<_> = replicas.iter().collect();
                let held: BTreeSet<_> =
                    replicas.iter().map(|node| racks[node.0 as usize - 1]).collect();
                prop_assert_eq!(differing.len(), factor);
                prop_assert_eq!(held.len(), factor.min(all.len()));
                led[replicas[0].0 as usize - 1] += 1;
            }
            prop_assert!(led.iter().all(|&count| count == rounds));
        }
    }
}
