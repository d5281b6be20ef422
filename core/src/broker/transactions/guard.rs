//! Requests of old clients that come late: on a connection that their producer has left, or from before this node
//! became the coordinator.
//!
//! Transactions of the first kind have one epoch for all of a producer's transactions, so that an `EndTxn` that was
//! held up somewhere would end the next one (librdkafka#5423). A client that has made a new connection does not use
//! the old one any more: what comes in by it is turned away, and the connection closed, so that whoever still lives
//! makes another. Transactions of the second kind need none of this (KIP-890).

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ConnectionId, TopicPartition};
use crate::wire::KafkaString;

/// Most transactional ids that are remembered; of more, the one on the oldest connection is forgotten first.
const IDS_MAX: usize = 100_000;

/// A transactional id and the coordinator that keeps it.
type Name = (TopicPartition, KafkaString);

/// Which connection spoke last for each transactional id.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Guard {
    newest: BTreeMap<Name, ConnectionId>,
    by_age: BTreeSet<(ConnectionId, Name)>,
    /// What had been accepted when a coordinator was loaded.
    loaded_behind: BTreeMap<TopicPartition, ConnectionId>,
}

impl Guard {
    /// Takes in that a coordinator was loaded, and the newest connection of that moment; `None` where nothing can
    /// have been said to it before.
    pub(super) fn loaded(&mut self, coordinator: TopicPartition, newest: Option<ConnectionId>) {
        self.dropped(coordinator);
        if let Some(newest) = newest {
            self.loaded_behind.insert(coordinator, newest);
        }
    }

    /// Forgets a coordinator that has gone.
    pub(super) fn dropped(&mut self, coordinator: TopicPartition) {
        self.loaded_behind.remove(&coordinator);
        self.newest.retain(|(of, _), _| *of != coordinator);
        self.by_age.retain(|(_, (of, _))| *of != coordinator);
    }

    /// Judges a request of the first kind. Returns whether it may be decided. One that begins a new epoch (`begins`)
    /// leaves what was said before it without effect, so it may come by a connection of before.
    pub(super) fn admits(
        &mut self,
        coordinator: TopicPartition,
        transactional_id: &KafkaString,
        connection: ConnectionId,
        begins: bool,
    ) -> bool {
        let name = (coordinator, transactional_id.clone());
        let before = self.newest.get(&name).copied();
        match before {
            Some(newest) if connection < newest => return false,
            Some(newest) if connection == newest => return true,
            Some(_) | None => {}
        }
        let is_from_before =
            self.loaded_behind.get(&coordinator).is_some_and(|newest| connection <= *newest);
        if is_from_before && !begins {
            return false;
        }
        let name = (coordinator, transactional_id.detached());
        if let Some(newest) = before {
            self.by_age.remove(&(newest, name.clone()));
        }
        self.newest.insert(name.clone(), connection);
        self.by_age.insert((connection, name));
        if self.newest.len() > IDS_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.newest.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PartitionIndex, Uuid};

    const COORDINATOR: TopicPartition =
        TopicPartition { topic_id: Uuid([1; 16]), partition: PartitionIndex(0) };
    const ID: KafkaString = KafkaString::from_static("etl");

    fn ends(guard: &mut Guard, id: &KafkaString, connection: u64) -> bool {
        guard.admits(COORDINATOR, id, ConnectionId(connection), false)
    }

    #[test]
    fn what_comes_on_a_connection_that_was_left_is_turned_away() {
        let mut guard = Guard::default();
        assert!(ends(&mut guard, &ID, 5));
        assert!(ends(&mut guard, &ID, 5));
        assert!(ends(&mut guard, &ID, 9), "it has connected anew");
        assert!(!ends(&mut guard, &ID, 5));
        assert!(!guard.admits(COORDINATOR, &ID, ConnectionId(5), true));
        assert!(ends(&mut guard, &"other".into(), 5), "of another producer");
    }

    #[test]
    fn who_was_connected_before_the_coordinator_was_loaded_begins_an_epoch_or_connects_anew() {
        let mut guard = Guard::default();
        guard.loaded(COORDINATOR, Some(ConnectionId(7)));
        assert!(!ends(&mut guard, &ID, 7));
        assert!(ends(&mut guard, &ID, 8));
        let other = KafkaString::from_static("other");
        assert!(guard.admits(COORDINATOR, &other, ConnectionId(3), true));
        assert!(ends(&mut guard, &other, 3), "what was said before has another epoch");
        guard.loaded(COORDINATOR, Some(ConnectionId(9)));
        assert!(!ends(&mut guard, &other, 3), "it was loaded once more");
        guard.dropped(COORDINATOR);
        guard.loaded(COORDINATOR, None);
        assert!(ends(&mut guard, &ID, 2));
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room_for() {
        let mut guard = Guard::default();
        for nth in 0..=IDS_MAX as u64 {
            let id = KafkaString::from(format!("id-{nth}").as_str());
            assert!(ends(&mut guard, &id, nth + 1));
        }
        assert_eq!((guard.newest.len(), guard.by_age.len()), (IDS_MAX, IDS_MAX));
        assert!(!guard.newest.contains_key(&(COORDINATOR, "id-0".into())), "the oldest");
    }
}
