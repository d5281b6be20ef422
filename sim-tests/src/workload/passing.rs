//! Whoever makes a topic that transactions write to, and deletes it while some of them may be open.
//!
//! Nobody reads it: what is held against a node is that the transactions come to their end all the same.

use mainspring_core::ids::{TopicId, Uuid};
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::create_topics::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse,
};
use mainspring_core::wire::api::delete_topics::{
    DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use mainspring_core::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};

use super::line::{Answer, Line};
use super::{Load, SharedRef};
use crate::history::Fact;
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND};

/// The name of the topic.
pub(super) const TOPIC: &str = "passing";

/// A topic of that name is there already.
const EXISTS: i16 = 36;
/// There is no topic of that id.
const UNKNOWN: i16 = 100;

#[derive(Clone, Copy, Debug)]
enum About {
    Create,
    Describe,
    Delete,
}

/// Whoever makes and deletes the topic.
#[derive(Debug)]
pub struct Passing {
    load: Load,
    shared: SharedRef,
    line: Line<About>,
    next: u64,
    topic_id: Option<TopicId>,
    finished: bool,
}

impl Passing {
    /// Makes whoever makes the topic.
    pub fn new(load: Load, shared: SharedRef) -> Self {
        let line = Line::default();
        Self { load, shared, line, next: 0, topic_id: None, finished: false }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        if self.finished && self.line.in_flight() == 0 {
            return;
        }
        hands.wake_at(hands.now + 20 * MILLISECOND);
        let is_ready = self.line.is_ready(hands) && self.line.in_flight() == 0;
        if self.finished || !is_ready || hands.now < self.next {
            return;
        }
        self.next = hands.now + hands.rng.exponential(self.load.pause);
        if let Some(topic_id) = self.topic_id {
            let request = DeleteTopicsRequest {
                topics: vec![DeleteTopicState { name: None, topic_id }],
                timeout_ms: 10_000,
                ..DeleteTopicsRequest::default()
            };
            hands.tell(Fact::AskedDeletion { topic_id });
            self.line.send(hands, &request, 6, About::Delete);
        } else {
            let request = CreateTopicsRequest {
                topics: vec![CreatableTopic {
                    name: KafkaString::from_static(TOPIC),
                    num_partitions: 1,
                    replication_factor: -1,
                    ..CreatableTopic::default()
                }],
                ..CreateTopicsRequest::default()
            };
            self.line.send(hands, &request, 7, About::Create);
        }
    }

    fn describe(&mut self, hands: &mut Hands<'_>) {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                topic_id: Uuid::ZERO,
                name: Some(KafkaString::from_static(TOPIC)),
            }]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        self.line.send(hands, &request, 12, About::Describe);
    }

    fn answer(&mut self, hands: &mut Hands<'_>, mut answer: Answer<About>) {
        match answer.about {
            About::Create => {
                let response: CreateTopicsResponse = answer.body();
                let made = &response.topics[0];
                if made.error_code == 0 {
                    hands.tell(Fact::Created { topic_id: made.topic_id });
                    self.topic_id = Some(made.topic_id);
                } else if made.error_code == EXISTS {
                    self.describe(hands);
                }
            }
            About::Describe => {
                let response: MetadataResponse = answer.body();
                let found = &response.topics[0];
                self.topic_id = (found.error_code == 0).then_some(found.topic_id);
            }
            About::Delete => {
                let response: DeleteTopicsResponse = answer.body();
                let gone = &response.responses[0];
                if let (0, Some(topic_id)) = (gone.error_code, self.topic_id) {
                    hands.tell(Fact::Deleted { topic_id });
                }
                if matches!(gone.error_code, 0 | UNKNOWN) {
                    self.topic_id = None;
                }
            }
        }
        self.shared.borrow_mut().is_passing_there = self.topic_id.is_some() && !self.finished;
    }
}

impl Actor for Passing {
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
            ActorEvent::Finish => {
                self.finished = true;
                self.shared.borrow_mut().is_passing_there = false;
            }
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        None
    }
}
