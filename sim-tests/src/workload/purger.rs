//! Whoever deletes records: it asks for the end of a partition and lets the log begin there, or at some
//! offset before it.

use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use mainspring_core::wire::api::list_offsets::ListOffsetsResponse;
use mainspring_core::wire::api::metadata::MetadataResponse;

use super::line::{Answer, Line};
use super::reader::{LATEST, list_offsets};
use super::{Load, SharedRef, place};
use crate::history::Fact;
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND};

#[derive(Clone, Copy, Debug)]
enum About {
    Metadata,
    Latest(usize),
    Delete(usize),
}

/// The purger.
#[derive(Debug)]
pub struct Purger {
    client: usize,
    load: Load,
    shared: SharedRef,
    operations_left: u64,
    line: Line<About>,
    next: u64,
    finished: bool,
    /// Whether it leaves what has not been read by all who read what comes later.
    spares: bool,
}

impl Purger {
    /// Makes a purger.
    pub fn new(client: usize, load: Load, shared: SharedRef) -> Self {
        let operations_left = load.operations;
        let line = Line::default();
        let (next, finished, spares) = (0, false, false);
        Self { client, load, shared, operations_left, line, next, finished, spares }
    }

    /// Makes one that deletes no more than has been read by all who read what comes later.
    pub fn sparing(client: usize, load: Load, shared: SharedRef) -> Self {
        Self { spares: true, ..Self::new(client, load, shared) }
    }

    fn topic_of(&self, place: usize) -> (&str, i32) {
        let partitions = self.load.partitions as usize;
        (&self.load.topics[place / partitions], (place % partitions) as i32)
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        if self.operations_left == 0 && self.line.in_flight() == 0 {
            return;
        }
        hands.wake_at(hands.now + 20 * MILLISECOND);
        if self.finished || !self.line.is_ready(hands) || self.line.in_flight() > 0 {
            return;
        }
        let at = hands.rng.index(self.load.topics.len() * self.load.partitions as usize);
        let (topic, index) = self.topic_of(at);
        if hands.now < self.next || place(&self.shared, topic, index).is_none() {
            return;
        }
        let place = (topic.to_owned(), index);
        if !self.line.reaches(hands, &place.0, index) {
            if self.line.wants_leaders(hands) {
                let topics = self.load.topics.clone();
                self.line.ask_metadata(hands, &topics, About::Metadata);
            }
            return;
        }
        let request = list_offsets(&place.0, index, LATEST);
        self.next = hands.now + hands.rng.exponential(self.load.pause);
        self.operations_left -= 1;
        self.line.send_to_leader(hands, (&place.0, index), &request, 6, About::Latest(at));
    }

    fn answer(&mut self, hands: &mut Hands<'_>, mut answer: Answer<About>) {
        match answer.about {
            About::Metadata => {
                let response: MetadataResponse = answer.body();
                self.line.learn(hands, &self.shared, &response, &self.load.topics);
            }
            About::Latest(at) => {
                let response: ListOffsetsResponse = answer.body();
                let found = &response.topics[0].partitions[0];
                if found.error_code == 0 {
                    self.delete(hands, at, found.offset);
                } else {
                    self.line.leaders_changed();
                }
            }
            About::Delete(at) => {
                let response: DeleteRecordsResponse = answer.body();
                let outcome = &response.topics[0].partitions[0];
                if outcome.error_code != 0 {
                    self.line.leaders_changed();
                }
                let (topic, index) = self.topic_of(at);
                if let (0, Some(partition)) =
                    (outcome.error_code, place(&self.shared, topic, index))
                {
                    hands.tell(Fact::Purged { partition, log_start: outcome.low_watermark });
                }
            }
        }
    }

    fn delete(&mut self, hands: &mut Hands<'_>, at: usize, end: i64) {
        let (topic, index) = self.topic_of(at);
        let Some(partition) = place(&self.shared, topic, index) else { return };
        let before =
            if hands.rng.chance(600) { end } else { hands.rng.below(end as u64 + 1) as i64 };
        let viewed = self.shared.borrow().viewed_by_all(topic, index);
        let before = if self.spares { before.min(viewed) } else { before };
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: KafkaString::from(topic),
                partitions: vec![DeleteRecordsPartition { partition_index: index, offset: before }],
            }],
            timeout_ms: 10_000,
        };
        hands.tell(Fact::AskedPurge { partition, before });
        let place = (topic.to_owned(), index);
        self.line.send_to_leader(hands, (&place.0, index), &request, 2, About::Delete(at));
    }
}

impl Actor for Purger {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        match event {
            ActorEvent::Wake => {}
            ActorEvent::Connected(stream) => self.line.connected(stream),
            ActorEvent::Received(stream, bytes) => {
                for answer in self.line.received(stream, &bytes) {
                    self.answer(hands, answer);
                }
            }
            ActorEvent::Disconnected(stream) => {
                self.line.disconnected(hands, stream);
            }
            ActorEvent::Finish => self.finished = true,
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.finished).then(|| format!("purger {} was not told to finish", self.client))
    }
}
