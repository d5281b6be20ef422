//! What a log says, read plainly: the offsets that it leaves, and those that a transaction holds.

use super::super::*;
use crate::wire::group_record::GroupRecord;

/// A group and a partition.
pub(super) type Place = (String, i32);

/// The offsets of a log. With each stands the place of its record.
#[derive(Default, PartialEq, Debug)]
pub(super) struct Reading {
    pub(super) stored: BTreeMap<Place, (usize, TopicId, i64)>,
    staged: BTreeMap<i64, Transaction>,
}

#[derive(Default, PartialEq, Debug)]
struct Transaction {
    first: usize,
    offsets: BTreeMap<Place, (usize, TopicId, i64)>,
}

impl Reading {
    /// Reads the whole log, whatever its start.
    pub(super) fn of(log: &TestLog) -> Self {
        let mut reading = Self::default();
        for (at, record) in log.records.iter().enumerate() {
            reading.take(at, record, log.transactional.get(&at));
        }
        reading
    }

    fn take(&mut self, at: usize, record: &LogRecord, part: Option<&Part>) {
        if let Some(Part::Marker(producer, committed)) = part {
            let Some(transaction) = self.staged.remove(&producer.id.0) else { return };
            for (place, staged) in transaction.offsets {
                let last = self.stored.get(&place).map(|(at, ..)| *at);
                if *committed && last.is_none_or(|at| at < staged.0) {
                    self.stored.insert(place, staged);
                }
            }
            return;
        }
        let Some(GroupRecord::OffsetCommit(key, value)) = decoded(record) else { return };
        let place = (key.group.to_string(), key.partition);
        let Some(value) = value else {
            self.stored.remove(&place);
            for transaction in self.staged.values_mut() {
                transaction.offsets.remove(&place);
            }
            return;
        };
        let found = (at, value.topic_id, value.offset);
        match part {
            Some(Part::Staged(producer)) => {
                let new = || Transaction { first: at, offsets: BTreeMap::new() };
                let transaction = self.staged.entry(producer.id.0).or_insert_with(new);
                transaction.offsets.insert(place, found);
            }
            Some(Part::Marker(..)) | None => {
                self.stored.insert(place, found);
            }
        }
    }

    /// The stored offsets with their topics, without their places.
    pub(super) fn values(&self) -> BTreeMap<&Place, (TopicId, i64)> {
        self.stored
            .iter()
            .map(|(place, (_, topic_id, offset))| (place, (*topic_id, *offset)))
            .collect()
    }

    pub(super) fn is_staged(&self, place: &Place) -> bool {
        self.staged.values().any(|transaction| transaction.offsets.contains_key(place))
    }

    /// How many offsets a producer has staged.
    pub(super) fn staged_of(&self, producer: i64) -> usize {
        self.staged.get(&producer).map_or(0, |transaction| transaction.offsets.len())
    }

    /// The first record of an open transaction.
    pub(super) fn first_open(&self) -> Option<usize> {
        self.staged.values().map(|transaction| transaction.first).min()
    }
}

/// A record of groups or offsets; none for a marker.
pub(super) fn decoded(record: &LogRecord) -> Option<GroupRecord> {
    let marker = record.key.len() == 4 && record.value.is_none();
    let decode = || GroupRecord::decode(record.key.clone(), record.value.clone());
    (!marker).then(|| decode().expect("its own records").expect("of this purpose"))
}
