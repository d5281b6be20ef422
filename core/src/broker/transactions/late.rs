//! Markers of other nodes that come late: on a connection that their sender has left, or from before this node
//! became the leader.
//!
//! A marker of the first kind of transactions names nothing but a producer and its epoch, which all of the
//! producer's transactions have in common, so that one that was held up somewhere would end the next one. A node
//! asks again only once it has given up the connection on which it asked, so what comes in by that one later has
//! been written already: by a newer connection of the same link, or at a leader in between. Both are turned away,
//! and the connection is closed; whoever still waits for an answer asks again by another.

use std::collections::BTreeMap;

use crate::broker::post::Arrival;
use crate::ids::{ConnectionId, NodeId, TopicPartition};
use crate::time::Instant;

/// Most links that are remembered: each node has a few.
const LINKS_MAX: usize = 4096;

/// The newest connection of each link, and since when partitions are led.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Arrivals {
    newest: BTreeMap<(NodeId, i32), ConnectionId>,
    /// The newest connection of a link that is remembered no more.
    forgotten: Option<ConnectionId>,
    led_since: BTreeMap<TopicPartition, Instant>,
}

impl Arrivals {
    /// Takes in that this node leads a partition, in an epoch that begins.
    pub(in crate::broker) fn led(&mut self, partition: TopicPartition, now: Instant) {
        self.led_since.insert(partition, now);
    }

    /// Takes in that it does so no more.
    pub(in crate::broker) fn resigned(&mut self, partition: TopicPartition) {
        self.led_since.remove(&partition);
    }

    /// Returns whether a marker for a partition may be written.
    pub(super) fn admits(&mut self, partition: TopicPartition, arrival: &Arrival) -> bool {
        let Arrival { node, link, connection, greeted_at } = *arrival;
        let newest = self.newest.get(&(node, link)).copied().max(self.forgotten);
        if newest.is_some_and(|newest| connection < newest) {
            return false;
        }
        if self.led_since.get(&partition).is_some_and(|since| greeted_at <= *since) {
            return false;
        }
        self.newest.insert((node, link), connection);
        if self.newest.len() > LINKS_MAX {
            let oldest = self.newest.iter().min_by_key(|(_, connection)| **connection);
            if let Some((&oldest, &connection)) = oldest {
                self.newest.remove(&oldest);
                self.forgotten = self.forgotten.max(Some(connection));
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{PartitionIndex, Uuid};

    const P: TopicPartition =
        TopicPartition { topic_id: Uuid([1; 16]), partition: PartitionIndex(0) };
    const Q: TopicPartition =
        TopicPartition { topic_id: Uuid([1; 16]), partition: PartitionIndex(1) };

    fn at(nanos: u64) -> Instant {
        Instant::ZERO + Duration::from_nanos(nanos)
    }

    fn by(connection: u64) -> Arrival {
        let greeted_at = at(connection);
        Arrival { node: NodeId(2), link: 5, connection: ConnectionId(connection), greeted_at }
    }

    #[test]
    fn what_comes_on_a_connection_that_was_left_is_turned_away() {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.admits(P, &by(5)));
        assert!(arrivals.admits(P, &by(9)), "it has connected anew");
        assert!(!arrivals.admits(P, &by(5)));
        assert!(!arrivals.admits(Q, &by(5)), "whatever the marker is for");
        assert!(arrivals.admits(P, &by(9)));
        assert!(arrivals.admits(P, &Arrival { link: 6, ..by(5) }), "of another link");
        assert!(arrivals.admits(P, &Arrival { node: NodeId(3), ..by(5) }), "of another node");
    }

    #[test]
    fn what_came_before_the_partition_was_led_is_turned_away() {
        let mut arrivals = Arrivals::default();
        arrivals.led(P, at(7));
        assert!(!arrivals.admits(P, &by(7)));
        assert!(arrivals.admits(Q, &by(7)), "another partition");
        assert!(arrivals.admits(P, &by(8)));
        arrivals.led(P, at(10));
        assert!(!arrivals.admits(P, &by(8)), "another may have led in between");
        arrivals.resigned(P);
        assert!(arrivals.led_since.is_empty());
    }

    #[test]
    fn as_many_links_are_remembered_as_there_is_room_for() {
        let mut arrivals = Arrivals::default();
        for link in 0..=LINKS_MAX as i32 {
            assert!(arrivals.admits(P, &Arrival { link, ..by(link as u64 + 10) }));
        }
        assert_eq!(arrivals.newest.len(), LINKS_MAX);
        assert!(!arrivals.admits(P, &Arrival { link: 0, ..by(9) }), "it was forgotten, not let in");
    }
}
