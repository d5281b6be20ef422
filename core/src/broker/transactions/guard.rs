//! Requests of old clients that come late: on a connection that their producer has left, or from before this node
//! became the coordinator, be it of transactions or of a group whose offsets are part of one.
//!
//! Transactions of the first kind have one epoch for all of a producer's transactions, so that an `EndTxn` that was
//! held up somewhere would end the next one (librdkafka#5423). A client that has made a new connection does not use
//! the old one any more: what comes in by it is turned away, and the connection closed, so that whoever still lives
//! makes another. Offsets of a transaction that was given up may come before the next one has said anything to the
//! group's coordinator; so after an abort a producer commits offsets by later connections alone. Transactions of the
//! second kind need none of this (KIP-890).

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::post::Speaker;
use crate::ids::{ConnectionId, ProducerId, TopicPartition};
use crate::time::Instant;
use crate::wire::KafkaString;

/// Most transactional ids that are remembered; of more, the one on the oldest connection is forgotten first. As many
/// aborts are.
const IDS_MAX: usize = 100_000;

/// A transactional id and the coordinator that is spoken to.
type Name = (TopicPartition, KafkaString);
/// A producer and the coordinator of groups that it commits offsets with.
type Committer = (TopicPartition, ProducerId);

/// Which connection spoke last for each transactional id.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Guard {
    newest: BTreeMap<Name, ConnectionId>,
    by_age: BTreeSet<(ConnectionId, Name)>,
    /// When each coordinator was loaded.
    loaded_at: BTreeMap<TopicPartition, Instant>,
    /// When a transaction was aborted last.
    aborted_at: BTreeMap<Committer, Instant>,
    aborts_by_age: BTreeSet<(Instant, Committer)>,
}

impl Guard {
    /// Takes in when a coordinator was loaded; `None` where nothing can have been said to it before.
    pub(in crate::broker) fn loaded(&mut self, coordinator: TopicPartition, at: Option<Instant>) {
        self.dropped(coordinator);
        if let Some(at) = at {
            self.loaded_at.insert(coordinator, at);
        }
    }

    /// Forgets a coordinator that has gone.
    pub(in crate::broker) fn dropped(&mut self, coordinator: TopicPartition) {
        self.loaded_at.remove(&coordinator);
        self.newest.retain(|(of, _), _| *of != coordinator);
        self.by_age.retain(|(_, (of, _))| *of != coordinator);
        self.aborted_at.retain(|(of, _), _| *of != coordinator);
        self.aborts_by_age.retain(|(_, (of, _))| *of != coordinator);
    }

    /// Takes in that a transaction of the first kind is aborted: no offsets of before are taken into the next one.
    pub(in crate::broker) fn aborted(
        &mut self,
        coordinator: TopicPartition,
        producer_id: ProducerId,
        at: Instant,
    ) {
        let committer = (coordinator, producer_id);
        if let Some(before) = self.aborted_at.insert(committer, at) {
            self.aborts_by_age.remove(&(before, committer));
        }
        self.aborts_by_age.insert((at, committer));
        if self.aborted_at.len() > IDS_MAX
            && let Some((_, oldest)) = self.aborts_by_age.pop_first()
        {
            self.aborted_at.remove(&oldest);
        }
    }

    /// Judges offsets that are committed in a transaction of the first kind.
    pub(in crate::broker) fn admits_offsets(
        &mut self,
        coordinator: TopicPartition,
        transactional_id: &KafkaString,
        producer_id: ProducerId,
        speaker: Speaker,
    ) -> bool {
        let aborted_at = self.aborted_at.get(&(coordinator, producer_id));
        aborted_at.is_none_or(|&at| speaker.since > at)
            && self.admits(coordinator, transactional_id, speaker, false)
    }

    /// Judges a request of the first kind. Returns whether it may be decided. One that begins a new epoch (`begins`)
    /// leaves what was said before it without effect, so it may come by a connection of before.
    pub(super) fn admits(
        &mut self,
        coordinator: TopicPartition,
        transactional_id: &KafkaString,
        speaker: Speaker,
        begins: bool,
    ) -> bool {
        let name = (coordinator, transactional_id.clone());
        let connection = speaker.connection;
        let before = self.newest.get(&name).copied();
        match before {
            Some(newest) if connection < newest => return false,
            Some(newest) if connection == newest => return true,
            Some(_) | None => {}
        }
        let is_from_before =
            self.loaded_at.get(&coordinator).is_some_and(|at| speaker.since <= *at);
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
    const PRODUCER: ProducerId = ProducerId(7);

    /// Returns a connection that was opened at the nanosecond of its number.
    fn by(connection: u64) -> Speaker {
        Speaker { connection: ConnectionId(connection), since: at(connection) }
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn ends(guard: &mut Guard, id: &KafkaString, connection: u64) -> bool {
        guard.admits(COORDINATOR, id, by(connection), false)
    }

    fn commits(guard: &mut Guard, connection: u64) -> bool {
        guard.admits_offsets(COORDINATOR, &ID, PRODUCER, by(connection))
    }

    #[test]
    fn what_comes_on_a_connection_that_was_left_is_turned_away() {
        let mut guard = Guard::default();
        assert!(ends(&mut guard, &ID, 5));
        assert!(ends(&mut guard, &ID, 5));
        assert!(ends(&mut guard, &ID, 9), "it has connected anew");
        assert!(!ends(&mut guard, &ID, 5));
        assert!(!guard.admits(COORDINATOR, &ID, by(5), true));
        assert!(ends(&mut guard, &"other".into(), 5), "of another producer");
    }

    #[test]
    fn who_was_connected_before_the_coordinator_was_loaded_begins_an_epoch_or_connects_anew() {
        let mut guard = Guard::default();
        guard.loaded(COORDINATOR, Some(at(7)));
        assert!(!ends(&mut guard, &ID, 7));
        assert!(ends(&mut guard, &ID, 8));
        let other = KafkaString::from_static("other");
        assert!(guard.admits(COORDINATOR, &other, by(3), true));
        assert!(ends(&mut guard, &other, 3), "what was said before has another epoch");
        guard.loaded(COORDINATOR, Some(at(9)));
        assert!(!ends(&mut guard, &other, 3), "it was loaded once more");
        guard.dropped(COORDINATOR);
        guard.loaded(COORDINATOR, None);
        assert!(ends(&mut guard, &ID, 2));
    }

    #[test]
    fn offsets_that_come_on_a_connection_of_before_an_abort_are_turned_away() {
        let mut guard = Guard::default();
        assert!(commits(&mut guard, 5));
        guard.aborted(COORDINATOR, PRODUCER, at(6));
        assert!(!commits(&mut guard, 4));
        assert!(!commits(&mut guard, 5));
        assert!(
            guard.admits_offsets(COORDINATOR, &ID, ProducerId(8), by(5)),
            "of another producer"
        );
        assert!(commits(&mut guard, 7));
        assert!(!commits(&mut guard, 5), "it was left");
        guard.aborted(COORDINATOR, PRODUCER, at(8));
        assert!(!commits(&mut guard, 7));
        guard.dropped(COORDINATOR);
        assert!(commits(&mut guard, 7));
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room_for() {
        let mut guard = Guard::default();
        for nth in 0..=IDS_MAX as u64 {
            let id = KafkaString::from(format!("id-{nth}").as_str());
            assert!(ends(&mut guard, &id, nth + 1));
            guard.aborted(COORDINATOR, ProducerId(nth as i64), at(nth));
        }
        assert_eq!((guard.newest.len(), guard.by_age.len()), (IDS_MAX, IDS_MAX));
        assert!(!guard.newest.contains_key(&(COORDINATOR, "id-0".into())), "the oldest");
        assert_eq!((guard.aborted_at.len(), guard.aborts_by_age.len()), (IDS_MAX, IDS_MAX));
        assert!(!guard.aborted_at.contains_key(&(COORDINATOR, ProducerId(0))), "the oldest");
    }
}
