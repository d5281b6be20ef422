//! One connection of a client: frames out, frames in, matched by their correlation ids.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use mainspring_core::ids::Uuid;
use mainspring_core::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use mainspring_core::wire::{
    ApiKey, KafkaString, Message, Reader, RequestMessage, decode_response_header, frame_request,
};

use super::SharedRef;
use crate::history::Fact;
use crate::net::StreamId;
use crate::world::{Hands, SECOND};

/// Version of Metadata that is spoken; it has topic ids.
const METADATA_VERSION: i16 = 12;
/// How long an answer may take, in nanoseconds: half-open connections are given up then.
pub const ANSWER_WITHIN: u64 = 8 * SECOND;

/// A request under way.
#[derive(Debug)]
pub struct Sent<T> {
    /// What it is about.
    pub about: T,
    key: ApiKey,
    version: i16,
    at: u64,
}

/// An answer that came.
#[derive(Debug)]
pub struct Answer<T> {
    /// What it is about.
    pub about: T,
    version: i16,
    reader: Reader,
}

impl<T> Answer<T> {
    /// Reads the body.
    ///
    /// # Panics
    /// Where it cannot be read: an answer that a client cannot understand is a bug of the node.
    pub fn body<M: Message>(&mut self) -> M {
        M::decode(&mut self.reader, self.version).expect("a node's answer follows the protocol")
    }
}

/// A connection to the client's node that is made again when it is lost.
#[derive(Debug)]
pub struct Line<T> {
    stream: Option<StreamId>,
    /// When the stream was asked for.
    opened: u64,
    connected: bool,
    received: BytesMut,
    sent: BTreeMap<i32, Sent<T>>,
    next: i32,
    retry_at: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            stream: None,
            opened: 0,
            connected: false,
            received: BytesMut::new(),
            sent: BTreeMap::new(),
            next: 0,
            retry_at: 0,
        }
    }
}

impl<T> Line<T> {
    /// Returns whether requests can be sent; makes the connection if there is none.
    pub fn is_ready(&mut self, hands: &mut Hands<'_>) -> bool {
        let overdue =
            self.sent.values().next().is_some_and(|sent| hands.now >= sent.at + ANSWER_WITHIN);
        if overdue {
            let oldest = self.sent.values().next();
            // Whoever joins a group waits for others.
            if let Some(Sent { key, at, .. }) = oldest
                && !matches!(key, ApiKey::JoinGroup | ApiKey::SyncGroup)
            {
                hands.tell(Fact::Unanswered { since: *at, opened: self.opened });
            }
            self.drop_stream(hands);
        }
        if self.stream.is_none() && hands.now >= self.retry_at {
            self.stream = Some(hands.connect(hands.home));
            self.opened = hands.now;
        }
        self.connected
    }

    /// Returns how many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// Returns what is under way.
    pub fn about(&self) -> impl Iterator<Item = &T> {
        self.sent.values().map(|sent| &sent.about)
    }

    /// Sends a request.
    pub fn send<M: RequestMessage>(
        &mut self,
        hands: &mut Hands<'_>,
        message: &M,
        version: i16,
        about: T,
    ) {
        let Some(stream) = self.stream else { return };
        self.next += 1;
        let parts = frame_request(self.next, Some("mainspring-sim"), message, version);
        hands.send(stream, parts);
        self.sent.insert(self.next, Sent { about, key: M::KEY, version, at: hands.now });
    }

    /// Asks for the topics, which creates them.
    pub fn ask_metadata(&mut self, hands: &mut Hands<'_>, topics: &[String], about: T) {
        let topics = topics
            .iter()
            .map(|name| MetadataRequestTopic {
                topic_id: Uuid::ZERO,
                name: Some(KafkaString::from(name.as_str())),
            })
            .collect();
        let request = MetadataRequest {
            topics: Some(topics),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        self.send(hands, &request, METADATA_VERSION, about);
    }

    /// Notes the ids of the topics that an answer names. Returns whether all are there.
    pub fn learn(shared: &SharedRef, response: &MetadataResponse, wanted: &[String]) -> bool {
        let mut shared = shared.borrow_mut();
        for topic in &response.topics {
            if let (0, Some(name)) = (topic.error_code, &topic.name) {
                shared.topics.insert(name.as_str().to_owned(), topic.topic_id);
            }
        }
        wanted.iter().all(|name| shared.topics.contains_key(name))
    }

    /// Notes that a stream stands.
    pub fn connected(&mut self, stream: StreamId) {
        self.connected |= self.stream == Some(stream);
    }

    /// Takes bytes in, and returns the answers that are whole.
    pub fn received(&mut self, stream: StreamId, bytes: &BytesMut) -> Vec<Answer<T>> {
        if self.stream != Some(stream) {
            return Vec::new();
        }
        self.received.extend_from_slice(bytes);
        let mut answers = Vec::new();
        while self.received.len() >= 4 {
            let size = i32::from_be_bytes([
                self.received[0],
                self.received[1],
                self.received[2],
                self.received[3],
            ]);
            let size = usize::try_from(size).expect("a node's frame has a size");
            if self.received.len() < 4 + size {
                break;
            }
            self.received.advance(4);
            let frame: Bytes = self.received.split_to(size).freeze();
            let correlation = i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
            let Some(Sent { about, key, version, .. }) = self.sent.remove(&correlation) else {
                panic!("a node answered correlation id {correlation}, which was not asked");
            };
            let mut reader = Reader::new(frame);
            decode_response_header(&mut reader, key.response_header_version(version))
                .expect("a node's answer has a header");
            answers.push(Answer { about, version, reader });
        }
        answers
    }

    /// Notes that a stream is gone. Returns what was under way on it.
    pub fn disconnected(&mut self, hands: &mut Hands<'_>, stream: StreamId) -> Vec<T> {
        if self.stream != Some(stream) {
            return Vec::new();
        }
        self.forget(hands)
    }

    /// Gives the connection up.
    pub fn drop_stream(&mut self, hands: &mut Hands<'_>) {
        if let Some(stream) = self.stream {
            hands.close(stream);
        }
        self.forget(hands);
    }

    fn forget(&mut self, hands: &mut Hands<'_>) -> Vec<T> {
        self.stream = None;
        self.connected = false;
        self.received.clear();
        self.retry_at = hands.now + 10_000_000 + hands.rng.below(100_000_000);
        std::mem::take(&mut self.sent).into_values().map(|sent| sent.about).collect()
    }
}
