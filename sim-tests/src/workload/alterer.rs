//! Whoever alters records that wait by requests of their own: it cancels them, lets them come at another time or at
//! once, or gives the verdict on half messages; by their names, or by their tickets.

use bytes::Bytes;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::entry_alter::{
    EntryAlterRequest, EntryAlterResponse, EntryAlterTopic, EntryAlteration,
};
use mainspring_core::wire::api::metadata::MetadataResponse;

use super::commands::Command;
use super::delayer::name_of;
use super::line::{Answer, Line};
use super::links::now;
use super::{Load, SharedRef, place};
use crate::history::OperationId;
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND};

#[derive(Clone, Copy, Debug)]
enum About {
    Metadata,
    /// A command, and what it does.
    Alter(OperationId, Command),
}

/// Who alters.
#[derive(Debug)]
pub struct Alterer {
    client: usize,
    load: Load,
    shared: SharedRef,
    line: Line<About>,
    operations_left: u64,
    next_operation: u64,
    next: u64,
    finished: bool,
    done: bool,
}

impl Alterer {
    /// Makes one, which counts as a producer that has not finished.
    pub fn new(client: usize, load: Load, shared: SharedRef) -> Self {
        shared.borrow_mut().producers += 1;
        let operations_left = load.operations;
        let line = Line::default();
        let (next_operation, next, finished, done) = (0, 0, false, false);
        Self { client, load, shared, line, operations_left, next_operation, next, finished, done }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        if self.done {
            return;
        }
        hands.wake_at(hands.now + 20 * MILLISECOND);
        if !self.line.is_ready(hands) {
            // What is under way and has no answer was not told what became of it.
            self.end_if_idle();
            return;
        }
        if self.line.in_flight() > 0 {
            return;
        }
        self.end_if_idle();
        if self.done || hands.now < self.next {
            return;
        }
        // Whoever asks for a topic that is not there makes it, without the features that it is to have.
        let is_made = |topic: &String| place(&self.shared, topic, 0).is_some();
        if !self.load.topics.iter().all(is_made) {
            return;
        }
        if self.line.wants_leaders(hands) {
            let topics = self.load.topics.clone();
            self.line.ask_metadata(hands, &topics, About::Metadata);
            return;
        }
        self.next = hands.now + hands.rng.exponential(self.load.pause);
        self.alter(hands);
    }

    fn end_if_idle(&mut self) {
        if (self.finished || self.operations_left == 0) && self.line.in_flight() == 0 {
            self.done = true;
            self.shared.borrow_mut().producers -= 1;
        }
    }

    fn alter(&mut self, hands: &mut Hands<'_>) {
        let Some(sent) = Command::choose(hands, &self.shared) else { return };
        let (topic, index) = (sent.topic.clone(), sent.index);
        if !self.line.reaches(hands, &topic, index) {
            return;
        }
        self.operations_left -= 1;
        let command = OperationId { client: self.client, number: self.next_operation };
        self.next_operation += 1;
        let about = (sent.operation, sent.waits);
        let now_ms = now(hands).wall.0;
        let what = Command::ask(hands, &self.shared, command, about, now_ms);
        let (operation, due_ms) = match what {
            Command::Cancel => (1, -1),
            Command::Reschedule(due_ms) => (2, due_ms),
            Command::DeliverNow => (3, -1),
            Command::Verdict { committed: true } => (4, -1),
            Command::Verdict { committed: false } => (5, -1),
        };
        let by_ticket = sent.ticket.filter(|_| hands.rng.chance(500));
        let id = by_ticket.is_none().then(|| Bytes::from(name_of(&sent)));
        let alteration = EntryAlteration {
            partition_index: index,
            ticket: by_ticket.unwrap_or(-1),
            id,
            operation,
            due_ms,
            delay_ms: -1,
        };
        let request = EntryAlterRequest {
            topics: vec![EntryAlterTopic {
                name: KafkaString::from(topic.as_str()),
                alterations: vec![alteration],
            }],
        };
        let about = About::Alter(command, what);
        self.line.send_to_leader(hands, (&topic, index), &request, 0, about);
    }

    fn answer(&mut self, hands: &mut Hands<'_>, mut answer: Answer<About>) {
        match answer.about {
            About::Metadata => {
                let response: MetadataResponse = answer.body();
                self.line.learn(hands, &self.shared, &response, &self.load.topics);
            }
            About::Alter(command, what) => {
                let response: EntryAlterResponse = answer.body();
                let altered = response.topics.first().and_then(|topic| topic.alterations.first());
                let Some(code) = altered.map(|altered| altered.error_code) else { return };
                what.answered(hands, command, code);
                if code != 0 {
                    self.line.leaders_changed();
                }
            }
        }
    }
}

impl Actor for Alterer {
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
        (!self.done).then(|| {
            let waits = self.line.in_flight();
            format!("who alters waits for {waits} answers to {} requests", self.next_operation)
        })
    }
}
