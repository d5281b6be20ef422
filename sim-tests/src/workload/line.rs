//! The connections of a client: frames out, frames in, matched by their correlation ids.
//!
//! A client of a node alone has one, to that node. In a cluster it has one to a node that it asks in general,
//! and others to the leaders that it is told of.

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
/// How long a node of a cluster may take to answer an attempt to connect, in nanoseconds.
const CONNECT_WITHIN: u64 = 2 * SECOND;
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

/// Connections to the client's node, or to the nodes of its cluster, that are made again when they are lost.
#[derive(Debug)]
pub struct Line<T> {
    wires: BTreeMap<usize, Wire<T>>,
    /// The node that is asked in general; the client's home until another one is chosen.
    contact: Option<usize>,
    leaders: BTreeMap<(String, i32), usize>,
    /// Leaders may have changed, and when that may be asked next.
    stale: bool,
    ask_at: u64,
    next: i32,
}

/// One connection.
#[derive(Debug)]
struct Wire<T> {
    stream: Option<StreamId>,
    /// When the stream was asked for.
    opened: u64,
    connected: bool,
    received: BytesMut,
    sent: BTreeMap<i32, Sent<T>>,
    retry_at: u64,
}

impl<T> Default for Wire<T> {
    fn default() -> Self {
        Self {
            stream: None,
            opened: 0,
            connected: false,
            received: BytesMut::new(),
            sent: BTreeMap::new(),
            retry_at: 0,
        }
    }
}

impl<T> Wire<T> {
    /// Returns whether the connection stands; asks for it if there is none.
    fn is_ready(&mut self, hands: &mut Hands<'_>, node: usize) -> bool {
        // Who has but one node waits for it.
        let late =
            hands.cluster > 1 && !self.connected && hands.now >= self.opened + CONNECT_WITHIN;
        if let Some(stream) = self.stream.filter(|_| late) {
            hands.close(stream);
            self.forget(hands);
        }
        if self.stream.is_none() && hands.now >= self.retry_at {
            self.stream = Some(hands.connect(node));
            self.opened = hands.now;
        }
        self.connected
    }

    fn forget(&mut self, hands: &mut Hands<'_>) -> Vec<T> {
        self.stream = None;
        self.connected = false;
        self.received.clear();
        self.retry_at = hands.now + 10_000_000 + hands.rng.below(100_000_000);
        std::mem::take(&mut self.sent).into_values().map(|sent| sent.about).collect()
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            wires: BTreeMap::new(),
            contact: None,
            leaders: BTreeMap::new(),
            stale: false,
            ask_at: 0,
            next: 0,
        }
    }
}

impl<T> Line<T> {
    /// Returns whether requests can be sent in general; makes the connection if there is none.
    pub fn is_ready(&mut self, hands: &mut Hands<'_>) -> bool {
        let late = |(node, wire): (&usize, &Wire<T>)| {
            let (_, oldest) = wire.sent.first_key_value()?;
            let is_late = hands.now >= oldest.at + ANSWER_WITHIN;
            is_late.then_some((*node, oldest.key, oldest.at, wire.opened))
        };
        if let Some((node, key, since, opened)) = self.wires.iter().find_map(late) {
            // Whoever joins a group waits for others.
            if !matches!(key, ApiKey::JoinGroup | ApiKey::SyncGroup) {
                hands.tell(Fact::Unanswered { node, since, opened });
            }
            self.drop_stream(hands);
        }
        let contact = *self.contact.get_or_insert(hands.home);
        let wire = self.wires.entry(contact).or_default();
        let (asked, ready) = (wire.stream.is_some(), wire.is_ready(hands, contact));
        if asked && wire.stream.is_none() {
            self.wander(hands);
        }
        ready
    }

    /// Asks any node in general from now on: the one that was asked may know less than others.
    pub fn wander(&mut self, hands: &mut Hands<'_>) {
        if hands.cluster > 1 {
            self.contact = Some(hands.rng.index(hands.cluster));
        }
    }

    /// Returns how many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.wires.values().map(|wire| wire.sent.len()).sum()
    }

    /// Returns what is under way.
    pub fn about(&self) -> impl Iterator<Item = &T> {
        self.wires.values().flat_map(|wire| wire.sent.values()).map(|sent| &sent.about)
    }

    /// Sends a request to the node that is asked in general.
    pub fn send<M: RequestMessage>(
        &mut self,
        hands: &mut Hands<'_>,
        message: &M,
        version: i16,
        about: T,
    ) {
        let contact = self.contact.unwrap_or(hands.home);
        self.send_to(hands, contact, message, version, about);
    }

    /// Sends a request to the leader of a partition, as far as it is [known](Self::reaches).
    pub fn send_to_leader<M: RequestMessage>(
        &mut self,
        hands: &mut Hands<'_>,
        (topic, partition): (&str, i32),
        message: &M,
        version: i16,
        about: T,
    ) {
        if let Some(node) = self.leader(hands, topic, partition) {
            self.send_to(hands, node, message, version, about);
        }
    }

    fn send_to<M: RequestMessage>(
        &mut self,
        hands: &mut Hands<'_>,
        node: usize,
        message: &M,
        version: i16,
        about: T,
    ) {
        let wire = self.wires.entry(node).or_default();
        let Some(stream) = wire.stream else { return };
        self.next += 1;
        let parts = frame_request(self.next, Some("mainspring-sim"), message, version);
        hands.send(stream, parts);
        wire.sent.insert(self.next, Sent { about, key: M::KEY, version, at: hands.now });
    }

    fn leader(&self, hands: &Hands<'_>, topic: &str, partition: i32) -> Option<usize> {
        if hands.cluster == 1 {
            return Some(self.contact.unwrap_or(hands.home));
        }
        self.leaders.get(&(topic.to_owned(), partition)).copied()
    }

    /// Returns whether requests can be sent to the leader of a partition; makes the connection if there is
    /// none.
    pub fn reaches(&mut self, hands: &mut Hands<'_>, topic: &str, partition: i32) -> bool {
        let Some(node) = self.leader(hands, topic, partition) else {
            self.stale = true;
            return false;
        };
        let wire = self.wires.entry(node).or_default();
        let (asked, ready) = (wire.stream.is_some(), wire.is_ready(hands, node));
        // Who takes no connection may lead no more.
        self.stale |= asked && wire.stream.is_none();
        ready
    }

    /// Notes that leaders may have changed.
    pub const fn leaders_changed(&mut self) {
        self.stale = true;
    }

    /// Returns whether the leaders are to be asked for again.
    pub fn wants_leaders(&mut self, hands: &mut Hands<'_>) -> bool {
        if !self.stale || hands.cluster == 1 || hands.now < self.ask_at {
            return false;
        }
        self.ask_at = hands.now + 200_000_000;
        // One node may not know yet, or not any more, what another one knows.
        self.wander(hands);
        self.is_ready(hands)
    }

    /// Asks another node in general from now on, where nodes differ.
    pub fn turn_to(&mut self, hands: &mut Hands<'_>, node_id: i32) {
        let node = usize::try_from(node_id - 1).ok().filter(|node| *node < hands.cluster);
        if let (Some(node), true) = (node, hands.cluster > 1) {
            let before = self.contact.replace(node).filter(|before| *before != node);
            let idle = before.and_then(|before| self.wires.get_mut(&before));
            if let Some(wire) = idle.filter(|wire| wire.sent.is_empty())
                && let Some(stream) = wire.stream
            {
                hands.close(stream);
                wire.forget(hands);
            }
        }
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

    /// Notes the ids of the topics that an answer names, and their leaders. Returns whether all are there.
    pub fn learn(
        &mut self,
        hands: &Hands<'_>,
        shared: &SharedRef,
        response: &MetadataResponse,
        wanted: &[String],
    ) -> bool {
        let mut shared = shared.borrow_mut();
        self.stale = false;
        for topic in &response.topics {
            if let (0, Some(name)) = (topic.error_code, &topic.name) {
                shared.topics.insert(name.as_str().to_owned(), topic.topic_id);
                for partition in &topic.partitions {
                    let node = usize::try_from(partition.leader_id - 1).ok();
                    let place = (name.as_str().to_owned(), partition.partition_index);
                    match node.filter(|node| *node < hands.cluster) {
                        Some(node) => self.leaders.insert(place, node),
                        None => self.leaders.remove(&place),
                    };
                }
            }
        }
        wanted.iter().all(|name| shared.topics.contains_key(name))
    }

    /// Notes that a stream stands.
    pub fn connected(&mut self, stream: StreamId) {
        if let Some(wire) = self.wires.values_mut().find(|wire| wire.stream == Some(stream)) {
            wire.connected = true;
        }
    }

    /// Takes bytes in, and returns the answers that are whole.
    pub fn received(&mut self, stream: StreamId, bytes: &BytesMut) -> Vec<Answer<T>> {
        let wire = self.wires.values_mut().find(|wire| wire.stream == Some(stream));
        let Some(wire) = wire else { return Vec::new() };
        wire.received.extend_from_slice(bytes);
        let mut answers = Vec::new();
        while wire.received.len() >= 4 {
            let size = i32::from_be_bytes([
                wire.received[0],
                wire.received[1],
                wire.received[2],
                wire.received[3],
            ]);
            let size = usize::try_from(size).expect("a node's frame has a size");
            if wire.received.len() < 4 + size {
                break;
            }
            wire.received.advance(4);
            let frame: Bytes = wire.received.split_to(size).freeze();
            let correlation = i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
            let Some(Sent { about, key, version, .. }) = wire.sent.remove(&correlation) else {
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
        let mut wires = self.wires.iter_mut();
        let Some((&node, wire)) = wires.find(|(_, wire)| wire.stream == Some(stream)) else {
            return Vec::new();
        };
        let lost = wire.forget(hands);
        self.stale = true;
        if self.contact == Some(node) {
            self.wander(hands);
        }
        lost
    }

    /// Gives all connections up.
    pub fn drop_stream(&mut self, hands: &mut Hands<'_>) {
        let contact = self.contact.unwrap_or(hands.home);
        self.wires.entry(contact).or_default();
        for wire in self.wires.values_mut() {
            if let Some(stream) = wire.stream {
                hands.close(stream);
            }
            wire.forget(hands);
        }
        self.stale = true;
        self.wander(hands);
    }
}

#[cfg(test)]
mod tests {
    use mainspring_core::wire::api::metadata::{MetadataResponsePartition, MetadataResponseTopic};

    use super::*;
    use crate::rng::{Rng, Stream};
    use crate::world::Action;

    fn opened(hands: &Hands<'_>) -> Vec<usize> {
        let node = |action: &Action| match action {
            Action::Open(node) => Some(*node),
            _ => None,
        };
        hands.actions().iter().filter_map(node).collect()
    }

    fn metadata(leader_id: i32) -> MetadataResponse {
        MetadataResponse {
            topics: vec![MetadataResponseTopic {
                name: Some(KafkaString::from("t")),
                partitions: vec![MetadataResponsePartition {
                    leader_id,
                    ..MetadataResponsePartition::default()
                }],
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponse::default()
        }
    }

    #[test]
    fn a_client_of_a_cluster_goes_where_it_is_sent_and_asks_again_when_that_is_lost() {
        let (mut line, shared) = (Line::<u8>::default(), SharedRef::default());
        let mut rng = Rng::new(1, Stream::Workload);
        let mut hands = Hands::idle(1, 3, 0, &mut rng);
        assert!(!line.is_ready(&mut hands) && opened(&hands) == [0]);
        line.connected(StreamId(0));
        assert!(line.is_ready(&mut hands));
        assert!(line.learn(&hands, &shared, &metadata(3), &["t".to_owned()]));
        assert!(!line.reaches(&mut hands, "t", 0) && opened(&hands) == [0, 2]);
        line.connected(StreamId(1));
        assert!(line.reaches(&mut hands, "t", 0));
        let request = MetadataRequest::default();
        line.send_to_leader(&mut hands, ("t", 0), &request, METADATA_VERSION, 7);
        assert!(matches!(hands.actions().last(), Some(Action::Send(StreamId(1), _))));
        assert!(!line.wants_leaders(&mut hands), "it knows them");
        assert_eq!(line.disconnected(&mut hands, StreamId(1)), [7]);
        assert_eq!(line.in_flight(), 0);
        let mut asks = 0;
        for at in 1..20 {
            hands.now = at * SECOND;
            asks += u32::from(line.wants_leaders(&mut hands));
        }
        assert!(asks > 0, "one of the nodes that it has a connection to is asked");
        // A leader that takes no connection is asked after, too.
        assert!(line.learn(&hands, &shared, &metadata(3), &["t".to_owned()]));
        for at in 20..24 {
            hands.now = at * SECOND;
            assert!(!line.reaches(&mut hands, "t", 0));
        }
        assert!(line.stale);
    }

    #[test]
    fn a_node_that_never_answers_is_not_waited_for_where_there_are_others() {
        for (cluster, others) in [(1, false), (3, true)] {
            let mut line = Line::<u8>::default();
            let mut rng = Rng::new(1, Stream::Workload);
            let mut hands = Hands::idle(0, cluster, 0, &mut rng);
            for at in 0..40 {
                hands.now = at * SECOND;
                assert!(!line.is_ready(&mut hands));
            }
            assert_eq!(opened(&hands).iter().any(|node| *node > 0), others);
            assert!(others || opened(&hands).len() == 1);
        }
    }
}
