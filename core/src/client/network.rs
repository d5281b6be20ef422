//! The connections of one client machine, and the metadata that say where to connect to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Completed, Connection, FinalizedFeatures};
use super::metadata::{Address, Metadata};
use super::{ClientError, Effect, Input, Link};
use crate::ids::NodeId;
use crate::time::Instant;
use crate::wire::{ApiKey, KafkaString, Request, Response};

/// What all client machines are told at their birth. Names are those of Kafka's clients.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Brokers to ask first (`bootstrap.servers`).
    pub bootstrap: Vec<Address>,
    /// Name that the client gives itself (`client.id`).
    pub client_id: KafkaString,
    /// Longest wait for an answer (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// Longest wait for a connection (`socket.connection.setup.timeout.ms`).
    pub connect_timeout: Duration,
    /// First pause before a lost connection is made again (`reconnect.backoff.ms`).
    pub reconnect_backoff: Duration,
    /// Longest such pause; it doubles up to it (`reconnect.backoff.max.ms`).
    pub reconnect_backoff_max: Duration,
    /// First pause before something that was refused is tried again (`retry.backoff.ms`).
    pub retry_backoff: Duration,
    /// Longest such pause; it doubles up to it (`retry.backoff.max.ms`, KIP-580).
    pub retry_backoff_max: Duration,
    /// Age at which metadata is asked for again (`metadata.max.age.ms`).
    pub metadata_max_age: Duration,
    /// Most unanswered requests of a connection (`max.in.flight.requests.per.connection`).
    pub max_in_flight: usize,
    /// Largest answer in bytes that is taken.
    pub max_frame_bytes: usize,
    /// Whether asking for a topic may make it (`allow.auto.create.topics`).
    pub allow_auto_topic_creation: bool,
}

impl NetworkConfig {
    /// Kafka's defaults, for brokers at these addresses.
    pub fn new(bootstrap: Vec<Address>) -> Self {
        Self {
            bootstrap,
            client_id: KafkaString::from_static("mainspring"),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_mins(5),
            max_in_flight: 5,
            max_frame_bytes: 128 << 20,
            allow_auto_topic_creation: true,
        }
    }
}

/// A broker by the way in which it is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Peer {
    /// By its number in the metadata.
    Node(NodeId),
    /// By its place among the bootstrap addresses.
    Bootstrap(usize),
}

/// What is remembered of a broker between connections.
#[derive(Clone, Debug, Default)]
struct Attempts {
    link: Option<Link>,
    failures: u32,
    retry_at: Instant,
}

/// Why a request was sent.
#[derive(Clone, Debug)]
enum Purpose<T> {
    Metadata,
    Machine(T),
}

/// Whom a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Any broker.
    Any,
    /// Any broker, and others besides those that there are connections to: what was said before was of no help.
    Others,
    /// This broker.
    Node(NodeId),
    /// The broker that takes administrative requests.
    Controller,
}

/// The connections of one client machine. `T` names what a request was sent for.
#[derive(Clone, Debug)]
pub struct Network<T> {
    config: NetworkConfig,
    metadata: Metadata,
    metadata_in_flight: bool,
    /// Metadata is due, but no connection could take the question: one of them wakes us.
    metadata_waits: bool,
    pauses_until: Option<Instant>,
    peers: BTreeMap<Peer, Attempts>,
    links: BTreeMap<Link, (Peer, Connection<Purpose<T>>)>,
    next_link: u64,
    /// What brokers have told that the cluster has settled on: the latest word of them.
    features: FinalizedFeatures,
    /// Who was asked last of what any broker may be asked.
    asked_last: Option<Address>,
    effects: VecDeque<Effect>,
    finished: VecDeque<Completed<Purpose<T>>>,
    completed: VecDeque<Completed<T>>,
}

impl<T> Network<T> {
    /// Connects to nothing yet.
    pub fn new(config: NetworkConfig) -> Self {
        let metadata = Metadata::new(
            config.allow_auto_topic_creation,
            config.metadata_max_age,
            config.retry_backoff,
            config.retry_backoff_max,
        );
        Self {
            config,
            metadata,
            metadata_in_flight: false,
            metadata_waits: false,
            pauses_until: None,
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
            features: FinalizedFeatures { epoch: -1, ..FinalizedFeatures::default() },
            asked_last: None,
            effects: VecDeque::new(),
            finished: VecDeque::new(),
            completed: VecDeque::new(),
        }
    }

    /// Returns the settings.
    pub const fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Returns what is known of the cluster.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Begins to follow a topic.
    pub fn want(&mut self, topic: &KafkaString) {
        self.metadata.want(topic);
    }

    /// Follows these topics and no others.
    pub fn want_only(&mut self, topics: &BTreeSet<KafkaString>) {
        self.metadata.want_only(topics);
    }

    /// Begins to follow all topics there are, or goes back to those that are wanted.
    pub fn want_every(&mut self, every: bool) {
        self.metadata.want_every(every);
    }

    /// Returns how many attempts to connect to a broker have failed since it last answered.
    pub fn failures(&self, node: NodeId) -> u32 {
        self.peers.get(&Peer::Node(node)).map_or(0, |attempts| attempts.failures)
    }

    /// Closes the connection to a broker, and with it what it has not answered.
    pub fn disconnect(&mut self, now: Instant, node: NodeId) {
        let link = self.peers.get(&Peer::Node(node)).and_then(|attempts| attempts.link);
        if let Some(link) = link {
            self.drop_link(now, link, &ClientError::Disconnected, true);
            self.on_finished(now);
        }
    }

    /// Returns the level that the cluster has settled on for a feature, 0 where no broker has told one.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.levels.get(name).copied().unwrap_or(0)
    }

    /// Returns the version in which a request would be sent on a connection, at most `max_version`;
    /// `None` where there is none that both sides speak.
    pub fn version(&self, link: Link, api_key: ApiKey, max_version: i16) -> Option<i16> {
        self.links.get(&link)?.1.version(api_key, max_version)
    }

    /// Says that what is known of the cluster seems wrong.
    pub fn mark_stale(&mut self, now: Instant) {
        self.metadata.mark_stale();
        self.metadata.hasten(now);
    }

    /// Takes what people should be told of topics, a line each.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let missing = self.metadata.take_missing().into_iter();
        let told = |topic| format!("there is no topic {topic}; asking for it again by itself");
        missing.map(told).collect()
    }

    /// Takes the next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Takes the next request that came to its end.
    pub fn poll_completed(&mut self) -> Option<Completed<T>> {
        self.completed.pop_front()
    }

    /// Returns when to come back at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let links = self.links.values().filter_map(|(_, connection)| connection.deadline());
        let metadata =
            (!self.metadata_in_flight && !self.metadata_waits).then(|| self.metadata.next_update());
        links.chain(self.pauses_until).chain(metadata).min()
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Connected(link) => {
                if let Some((_, connection)) = self.links.get_mut(&link) {
                    let parts = connection.on_connected(now);
                    self.effects.push_back(Effect::Transmit { link, parts });
                }
            }
            Input::Received(link, bytes) => {
                let Some((_, connection)) = self.links.get_mut(&link) else {
                    return;
                };
                match connection.on_received(now, bytes, &mut self.finished) {
                    Ok(question) => {
                        if let Some(parts) = question {
                            self.effects.push_back(Effect::Transmit { link, parts });
                        }
                        self.note_success(link);
                    }
                    Err(error) => self.drop_link(now, link, &error, true),
                }
            }
            Input::ConnectFailed(link) | Input::Disconnected(link) => {
                self.drop_link(now, link, &ClientError::Disconnected, false);
            }
            Input::Wakeup => {}
        }
        self.on_finished(now);
    }

    /// Gives up what has waited for too long, and asks for metadata where they are due. To be
    /// called last after each input, and after each change of what is wanted.
    pub fn maintain(&mut self, now: Instant) {
        let late: Vec<Link> = self
            .links
            .iter()
            .filter(|(_, (_, connection))| connection.deadline().is_some_and(|at| at <= now))
            .map(|(link, _)| *link)
            .collect();
        for link in late {
            self.drop_link(now, link, &ClientError::TimedOut, true);
        }
        self.on_finished(now);
        self.metadata_waits = false;
        if self.metadata.is_due(now) && !self.metadata_in_flight {
            self.metadata_waits = true;
            if let Some(link) = self.ready(now, Target::Any) {
                let request = self.metadata.request(now).into();
                self.metadata_in_flight = self.transmit(
                    now,
                    link,
                    &request,
                    ApiKey::Metadata.max_version(),
                    Purpose::Metadata,
                );
                self.metadata_waits = false;
            }
            self.on_finished(now);
        }
        self.pauses_until = self
            .peers
            .values()
            .filter(|attempts| attempts.link.is_none() && attempts.retry_at > now)
            .map(|attempts| attempts.retry_at)
            .min();
    }

    /// Returns a connection on which a request can be sent at once, or begins to make one.
    pub fn ready(&mut self, now: Instant, target: Target) -> Option<Link> {
        match target {
            Target::Node(node) => self.ready_peer(now, Peer::Node(node)),
            Target::Controller => match self.metadata.controller() {
                Some(node) => self.ready_peer(now, Peer::Node(node)),
                None => self.ready(now, Target::Any),
            },
            Target::Any => self.ready_any(now, false),
            Target::Others => self.ready_any(now, true),
        }
    }

    /// Returns a connection to another broker than was asked last, where there is one: a broker that is cut off
    /// from its cluster answers as it knows, for ever.
    fn ready_any(&mut self, now: Instant, is_in_doubt: bool) -> Option<Link> {
        let links = || {
            let links = self.links.iter();
            links.filter_map(|(link, (peer, it))| Some((self.address(*peer)?, *link, it)))
        };
        let is_open = |it: &Connection<Purpose<T>>| self.has_room(it) && !it.is_parked();
        let last = self.asked_last.as_ref();
        let next = |address: &Address| last.is_some_and(|last| address <= last);
        let open = links()
            .filter(|(_, _, it)| is_open(it))
            .min_by_key(|(address, link, _)| (next(address), *address, *link))
            .map(|(address, link, _)| (address.clone(), link));
        if let Some((address, link)) = open {
            if is_in_doubt || self.metadata.is_in_doubt() {
                // Others may know better, who are busy for a while or are to be connected to.
                let is_same = last == Some(&address);
                if is_same && links().any(|(other, _, it)| *other != address && it.is_parked()) {
                    return None;
                }
                if let Some(other) = self.unconnected() {
                    self.ready_peer(now, other);
                }
            }
            self.asked_last = Some(address);
            return Some(link);
        }
        if !self.links.is_empty() && self.links.values().any(|(_, link)| !link.is_ready()) {
            return None;
        }
        // The one with the fewest failures, so that a dead broker does not hide a live one.
        // Those that have a connection are too busy.
        let nodes = self.metadata.brokers().keys().map(|node| Peer::Node(*node));
        let bootstrap = (0..self.config.bootstrap.len()).map(Peer::Bootstrap);
        let peer = nodes.chain(bootstrap).min_by_key(|peer| {
            self.peers.get(peer).map_or((false, 0), |known| (known.link.is_some(), known.failures))
        })?;
        self.ready_peer(now, peer)
    }

    fn address(&self, peer: Peer) -> Option<&Address> {
        match peer {
            Peer::Node(node) => self.metadata.brokers().get(&node),
            Peer::Bootstrap(index) => self.config.bootstrap.get(index),
        }
    }

    /// Returns who could be connected to as well, at an address that no connection goes to yet. A broker that is cut
    /// off may know of no other that lives: then the addresses that were given first are left.
    fn unconnected(&self) -> Option<Peer> {
        let connected: BTreeSet<&Address> =
            self.links.values().filter_map(|(peer, _)| self.address(*peer)).collect();
        let nodes = self.metadata.brokers().keys().map(|node| Peer::Node(*node));
        let bootstrap = (0..self.config.bootstrap.len()).map(Peer::Bootstrap);
        nodes
            .chain(bootstrap)
            .filter(|&peer| self.address(peer).is_some_and(|it| !connected.contains(it)))
            .min_by_key(|peer| self.peers.get(peer).map_or(0, |known| known.failures))
    }

    fn has_room(&self, connection: &Connection<Purpose<T>>) -> bool {
        connection.is_ready() && connection.in_flight() < self.config.max_in_flight
    }

    fn ready_peer(&mut self, now: Instant, peer: Peer) -> Option<Link> {
        let attempts = self.peers.entry(peer).or_default();
        if let Some(link) = attempts.link {
            let (_, connection) = &self.links[&link];
            return self.has_room(connection).then_some(link);
        }
        if attempts.retry_at > now {
            return None;
        }
        let (host, port): (Arc<str>, u16) = match peer {
            Peer::Node(node) => self.metadata.brokers().get(&node)?.clone(),
            Peer::Bootstrap(index) => self.config.bootstrap[index].clone(),
        };
        let link = Link(self.next_link);
        self.next_link += 1;
        attempts.link = Some(link);
        let connection = Connection::new(
            self.config.client_id.clone(),
            now + self.config.connect_timeout,
            self.config.request_timeout,
            self.config.max_frame_bytes,
        );
        self.links.insert(link, (peer, connection));
        self.effects.push_back(Effect::Connect { link, host, port });
        None
    }

    /// Sends a request in the highest version that both sides speak, at most `max_version`. What
    /// becomes of it comes by [`Network::poll_completed`].
    pub fn send(&mut self, now: Instant, link: Link, request: &Request, max_version: i16, tag: T) {
        self.transmit(now, link, request, max_version, Purpose::Machine(tag));
        self.on_finished(now);
    }

    /// Sends a request whose answer the broker may hold back for `patience`. Meanwhile nothing else
    /// is sent on that connection but what is sent for its node.
    pub fn send_parked(
        &mut self,
        now: Instant,
        link: Link,
        request: &Request,
        max_version: i16,
        tag: T,
        patience: Duration,
    ) {
        let (_, connection) = self.links.get_mut(&link).expect("`ready` has named it");
        let api_key = request.api_key();
        if let Some(version) = connection.version(api_key, max_version) {
            let tag = Purpose::Machine(tag);
            let parts = connection.send_parked(request, version, tag, now + patience);
            self.effects.push_back(Effect::Transmit { link, parts });
        } else {
            let result = Err(ClientError::UnsupportedApi(api_key.name()));
            self.completed.push_back(Completed { tag, version: -1, result });
        }
    }

    /// Sends a request that the broker does not answer. Returns whether there is a version of it.
    pub fn send_unanswered(&mut self, link: Link, request: &Request, max_version: i16) -> bool {
        let Some((_, connection)) = self.links.get_mut(&link) else {
            return false;
        };
        let Some(version) = connection.version(request.api_key(), max_version) else {
            return false;
        };
        let parts = connection.send_unanswered(request, version);
        self.effects.push_back(Effect::Transmit { link, parts });
        true
    }

    fn transmit(
        &mut self,
        now: Instant,
        link: Link,
        request: &Request,
        max_version: i16,
        tag: Purpose<T>,
    ) -> bool {
        let (_, connection) = self.links.get_mut(&link).expect("`ready` has named it");
        let api_key = request.api_key();
        let Some(version) = connection.version(api_key, max_version) else {
            let result = Err(ClientError::UnsupportedApi(api_key.name()));
            self.finished.push_back(Completed { tag, version: -1, result });
            return false;
        };
        let parts = connection.send(now, request, version, tag);
        self.effects.push_back(Effect::Transmit { link, parts });
        true
    }

    fn note_success(&mut self, link: Link) {
        if let Some((peer, connection)) = self.links.get(&link)
            && connection.is_ready()
            && let Some(attempts) = self.peers.get_mut(peer)
        {
            attempts.failures = 0;
        }
        let told = self.links.get(&link).and_then(|(_, connection)| connection.features());
        if let Some(told) = told.filter(|told| told.epoch > self.features.epoch) {
            self.features = told.clone();
        }
    }

    fn drop_link(&mut self, now: Instant, link: Link, error: &ClientError, close: bool) {
        let Some((peer, connection)) = self.links.remove(&link) else {
            return;
        };
        if close {
            self.effects.push_back(Effect::Close { link });
        }
        let attempts = self.peers.entry(peer).or_default();
        attempts.link = None;
        let pause = self
            .config
            .reconnect_backoff
            .saturating_mul(1 << attempts.failures.min(16))
            .min(self.config.reconnect_backoff_max);
        attempts.failures = attempts.failures.saturating_add(1);
        attempts.retry_at = now + pause;
        connection.fail(error, &mut self.finished);
        // A broker that went away may have left its partitions to others.
        self.mark_stale(now);
    }

    /// Keeps the answers about metadata and passes the others on.
    fn on_finished(&mut self, now: Instant) {
        while let Some(Completed { tag, version, result }) = self.finished.pop_front() {
            match tag {
                Purpose::Machine(tag) => {
                    self.completed.push_back(Completed { tag, version, result });
                }
                Purpose::Metadata => {
                    self.metadata_in_flight = false;
                    match result {
                        Ok(Response::Metadata(response)) => self.metadata.apply(now, response),
                        Ok(_) | Err(_) => self.mark_stale(now),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::test_broker::TestBroker;

    fn settle(network: &mut Network<()>, broker: &mut TestBroker) {
        loop {
            network.maintain(broker.now.mono);
            while let Some(effect) = network.poll_effect() {
                broker.take(effect);
            }
            let Some(input) = broker.inputs.pop_front() else { return };
            network.handle(broker.now.mono, input);
        }
    }

    #[test]
    fn who_answers_nothing_new_to_doubts_is_not_the_only_one_asked() {
        let mut broker = TestBroker::new(&[("t", 1)]);
        let address = |name: &str| (Arc::from(name), 9092);
        let mut network =
            Network::<()>::new(NetworkConfig::new(vec![address("one"), address("two")]));
        network.want(&KafkaString::from_static("t"));
        settle(&mut network, &mut broker);
        let before = broker.connects;
        for _ in 0..2 {
            network.mark_stale(broker.now.mono);
            broker.pass(Duration::from_secs(2));
            settle(&mut network, &mut broker);
        }
        assert_eq!(broker.connects, before, "one answer may have come too early");
        network.mark_stale(broker.now.mono);
        broker.pass(Duration::from_secs(2));
        settle(&mut network, &mut broker);
        assert!(broker.connects > before, "nobody else was asked");
    }

    #[test]
    fn whoever_asks_others_is_not_left_with_the_one_that_there_is_a_connection_to() {
        let mut broker = TestBroker::new(&[("t", 1)]);
        let address = |name: &str| (Arc::from(name), 9092);
        let mut network =
            Network::<()>::new(NetworkConfig::new(vec![address("one"), address("two")]));
        settle(&mut network, &mut broker);
        let now = broker.now.mono;
        while network.ready(now, Target::Any).is_none() {
            settle(&mut network, &mut broker);
        }
        let before = broker.connects;
        let first = network.ready(now, Target::Any);
        assert_eq!(network.ready(now, Target::Any), first);
        settle(&mut network, &mut broker);
        assert_eq!(broker.connects, before);

        network.ready(now, Target::Others);
        settle(&mut network, &mut broker);

        assert!(broker.connects > before);
        assert_ne!(network.ready(now, Target::Any), network.ready(now, Target::Any), "in turn");
    }
}
