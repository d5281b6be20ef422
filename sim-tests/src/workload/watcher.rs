//! Somebody who watches how far a group has come, as lag exporters do: it asks for committed offsets and is no member.

use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse,
};

use super::line::{Answer, Line};
use super::{Load, SharedRef, place};
use crate::history::{Fact, OperationId};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND};

/// Whoever watches a group.
#[derive(Debug)]
pub struct Watcher {
    client: usize,
    group: u32,
    load: Load,
    shared: SharedRef,
    line: Line<(KafkaString, OperationId)>,
    next: u64,
    next_operation: u64,
    finished: bool,
}

impl Watcher {
    /// Makes whoever watches a group.
    pub fn new(client: usize, group: u32, load: Load, shared: SharedRef) -> Self {
        let line = Line::default();
        Self { client, group, load, shared, line, next: 0, next_operation: 0, finished: false }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        if self.finished {
            return;
        }
        hands.wake_at(hands.now + 5 * MILLISECOND);
        // Whoever has lost the connection asks again at once: a start may still be loading then.
        if !self.line.is_ready(hands) || self.line.in_flight() > 0 || hands.now < self.next {
            return;
        }
        self.next = hands.now + hands.rng.exponential(self.load.pause);
        let topic = &self.load.topics[hands.rng.index(self.load.topics.len())];
        let index = hands.rng.below(self.load.partitions.max(1) as u64) as i32;
        let Some(partition) = place(&self.shared, topic, index) else { return };
        let operation = OperationId { client: self.client, number: self.next_operation };
        self.next_operation += 1;
        hands.tell(Fact::AskedCommitted { operation, group: self.group, partition });
        let name = KafkaString::from(topic.as_str());
        let request = OffsetFetchRequest {
            group_id: super::member::group_id(self.group),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: name.clone(),
                partition_indexes: vec![index],
            }]),
            ..OffsetFetchRequest::default()
        };
        let version = [5, 7][hands.rng.index(2)];
        self.line.send(hands, &request, version, (name, operation));
    }

    fn answer(hands: &mut Hands<'_>, mut answer: Answer<(KafkaString, OperationId)>) {
        let response: OffsetFetchResponse = answer.body();
        let (name, operation) = answer.about;
        let found = response.topics.iter().find(|topic| topic.name == name);
        let found = found.and_then(|topic| topic.partitions.first());
        if let Some(found) = found.filter(|it| response.error_code == 0 && it.error_code == 0) {
            let offset = found.committed_offset;
            hands.tell(Fact::ToldCommitted { operation, offset });
        }
    }
}

impl Actor for Watcher {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        match event {
            ActorEvent::Wake => {}
            ActorEvent::Connected(stream) => self.line.connected(stream),
            ActorEvent::Received(stream, bytes) => {
                for answer in self.line.received(stream, &bytes) {
                    Self::answer(hands, answer);
                }
            }
            ActorEvent::Disconnected(stream) => {
                self.line.disconnected(hands, stream);
                self.next = 0;
            }
            ActorEvent::Finish => self.finished = true,
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        None
    }
}
