//! Whoever alters records that wait by requests of their own: it cancels them, lets them come at another time or at
//! once, or gives the verdict on half messages; by their names, or by their tickets.

use bytes::Bytes;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::entry_alter::{
    EntryAlterRequest, EntryAlterResponse, EntryAlterTopic, EntryAlteration,
};
use mainspring_core::wire::api::metadata::MetadataResponse;

use super::delayer::{DELAY_MAX, DELAY_MEAN, name_of};
use super::line::{Answer, Line};
use super::links::now;
use super::{Load, SentLater, SharedRef, place};
use crate::history::{Fact, OperationId, Waiting};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND};

const CANCEL: i8 = 1;
const RESCHEDULE: i8 = 2;
const DELIVER_NOW: i8 = 3;
const COMMIT: i8 = 4;
const ROLLBACK: i8 = 5;

#[derive(Clone, Copy, Debug)]
enum About {
    Metadata,
    /// A command, and what it does.
    Alter(OperationId, i8),
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

    /// Chooses something that was sent lately, or that a verdict was asked for.
    fn choose(&self, hands: &mut Hands<'_>) -> Option<SentLater> {
        let mut shared = self.shared.borrow_mut();
        let asked = hands.rng.chance(300).then(|| shared.questions.pop()).flatten();
        let sent = &shared.delayed;
        let back = hands.rng.exponential(20).min(sent.len().checked_sub(1)? as u64) as usize;
        let chosen = asked.unwrap_or_else(|| sent[sent.len() - 1 - back].clone());
        chosen.is_named.then_some(chosen)
    }

    fn alter(&mut self, hands: &mut Hands<'_>) {
        let Some(about) = self.choose(hands) else { return };
        let name = name_of(&about);
        let SentLater { operation, topic, index, waits, ticket, .. } = about;
        // The id of a topic is learnt from those who have made it.
        if place(&self.shared, &topic, index).is_none() || !self.line.reaches(hands, &topic, index)
        {
            return;
        }
        self.operations_left -= 1;
        let command = OperationId { client: self.client, number: self.next_operation };
        self.next_operation += 1;
        let now_ms = now(hands).wall.0;
        let mut due_ms = -1;
        let what = match (waits, hands.rng.below(4)) {
            (Waiting::Verdict, number) => {
                let committed = number > 0;
                hands.tell(Fact::VerdictAsked { command, about: operation, committed });
                if committed { COMMIT } else { ROLLBACK }
            }
            (Waiting::Recurs, _) | (_, 0 | 1) => {
                hands.tell(Fact::CancelAsked { command, about: operation });
                CANCEL
            }
            (_, 2) => {
                hands.tell(Fact::MoveAsked { command, about: operation, due_ms: now_ms });
                DELIVER_NOW
            }
            _ => {
                let delay = hands.rng.exponential(DELAY_MEAN).min(DELAY_MAX);
                due_ms = now_ms + (delay / MILLISECOND) as i64;
                hands.tell(Fact::MoveAsked { command, about: operation, due_ms });
                self.shared.borrow_mut().comes_later(operation, hands.now + delay);
                RESCHEDULE
            }
        };
        let by_ticket = ticket.filter(|_| hands.rng.chance(500));
        let id = by_ticket.is_none().then(|| Bytes::from(name));
        let alteration = EntryAlteration {
            partition_index: index,
            ticket: by_ticket.unwrap_or(-1),
            id,
            operation: what,
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
                hands.tell(match what {
                    COMMIT | ROLLBACK => Fact::VerdictAnswered { command, code },
                    CANCEL => Fact::CancelAnswered { command, code },
                    _ => Fact::MoveAnswered { command, code },
                });
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
