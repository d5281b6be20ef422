//! Links to the other nodes of the cluster: outgoing connections that speak Kafka's protocol, made again
//! when they are lost.
//!
//! A link begins with the negotiation of versions and [`PeerHello`](crate::wire::api::peer_hello), by which
//! both sides know that they are who the other means. What is asked before that waits in the link, within
//! bounds. What never happens here: an answer taken from a node of another cluster, or from another node
//! than the one meant.
//!
//! Source: `docs/cluster.md`, "Who talks to whom".

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use crate::client::connection::{Completed, Connection};
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{ConnectionId, NodeId, ShardId, Uuid};
use crate::io::{Effect, Effects};
use crate::time::Instant;
use crate::wire::api::peer_hello::{PeerHelloRequest, PeerHelloResponse};
use crate::wire::{KafkaString, Request, Response};

#[cfg(test)]
mod tests;

/// Most requests that wait for a link to stand.
const QUEUE_MAX: usize = 64;
/// Longest wait for a connection, or for an answer that is not held back.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// First pause before a lost connection is made again; it doubles from failure to failure.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// After so many failures in a row, about three seconds of refused connections, somebody is away.
const AWAY_AFTER: u32 = 10;
/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_millis(500);
/// Most bytes of one read of answers.
const READ_BYTES: usize = 1 << 20;
/// Largest answer that is taken: a fetch may bring one batch beyond its bounds.
const FRAME_MAX: usize = 128 << 20;

/// What a link is for. Each has its own, so that an answer that is held back delays no other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Votes, registrations, heartbeats: answered soon.
    Control,
    /// Requests that are forwarded to the controller: answered once they are decided and applied.
    Command,
    /// Fetches of the metadata log: held back until there is something.
    Quorum,
    /// Fetches of partitions: held back too.
    Replication,
    /// Questions for coordinators of transactions: answered once they are committed.
    Transactions,
    /// Markers of transactions: answered once the replicas have them.
    Markers,
}

impl Lane {
    const ALL: [Self; 6] = [
        Self::Control,
        Self::Command,
        Self::Quorum,
        Self::Replication,
        Self::Transactions,
        Self::Markers,
    ];

    /// Returns the number by which the other side knows the link of a shard.
    const fn number(self, shard: ShardId) -> i32 {
        ((shard.0 as i32) << 8) | self as i32
    }
}

/// Who this node is, as it tells the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its cluster; zero while it knows none.
    pub cluster_id: Uuid,
    /// The node.
    pub node_id: NodeId,
    /// Its directory.
    pub directory_id: Uuid,
    /// Which start it is.
    pub incarnation: i64,
    /// The voters of the first formation as it was told of them; nobody once it has a cluster.
    pub listed: Arc<[NodeId]>,
}

/// What became of links and requests.
#[derive(Clone, Debug)]
pub enum PeerEvent<T> {
    /// A link stands.
    Ready {
        /// To whom.
        node: NodeId,
        /// For what.
        lane: Lane,
        /// Who the other side is.
        peer: Identity,
    },
    /// A request was answered, or never will be.
    Done {
        /// Who was asked.
        node: NodeId,
        /// What for.
        tag: T,
        /// The answer; `None` where the link was lost or refused.
        response: Option<Response>,
    },
    /// A link stood, was lost, and the other side refuses a new one: its process is gone.
    Unreachable(NodeId),
    /// Nobody has answered for some seconds, on the link for votes: said once for each time it was lost.
    Away(NodeId),
    /// The other side is not who is meant, or does not take this node for one of its cluster: said once
    /// for each reason.
    Refused {
        /// Who.
        node: NodeId,
        /// Why, in one line.
        why: String,
    },
}

/// What a request was sent for: the link's own, or its owner's.
#[derive(Clone, Debug)]
enum Purpose<T> {
    Hello,
    Owner(T),
}

/// What a node is asked.
#[derive(Clone, Debug)]
pub struct Question<T> {
    /// The request.
    pub request: Request,
    /// How long its answer may be held back; `None` where it comes soon.
    pub patience: Option<Duration>,
    /// What it is asked for.
    pub tag: T,
}

#[derive(Clone, Debug)]
struct Link<T> {
    connection: Option<(ConnectionId, Connection<Purpose<T>>)>,
    /// Whether the connection was opened, and whether both sides know each other.
    opened: bool,
    greeted: bool,
    /// Whether the link stood and was lost, with no new one since.
    lost: bool,
    /// Whether a new one was refused since.
    is_refused: bool,
    failures: u32,
    retry_at: Instant,
    queue: VecDeque<Question<T>>,
    said: Option<String>,
}

/// The links of one shard. `T` names what a request was sent for.
#[derive(Clone, Debug)]
pub struct Peers<T> {
    identity: Identity,
    shard: ShardId,
    addresses: BTreeMap<NodeId, (Arc<str>, u16)>,
    links: BTreeMap<(NodeId, Lane), Link<T>>,
    names: BTreeMap<ConnectionId, (NodeId, Lane)>,
    next_connection: u64,
    events: VecDeque<PeerEvent<T>>,
}

impl<T> Peers<T> {
    /// Knows nobody yet.
    pub fn new(identity: Identity, shard: ShardId) -> Self {
        Self {
            identity,
            shard,
            addresses: BTreeMap::new(),
            links: BTreeMap::new(),
            names: BTreeMap::new(),
            next_connection: 0,
            events: VecDeque::new(),
        }
    }

    /// Returns who this node says it is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Says who this node is from now on. Links that stand keep what they were told.
    pub fn identify(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Makes every link anew, so that the other nodes are told who this one is from now on.
    pub fn renew(&mut self, fx: &mut Effects) {
        let keys: Vec<(NodeId, Lane)> = self.links.keys().copied().collect();
        for (node, lane) in keys {
            self.drop_link(node, lane, true, fx);
            if let Some(link) = self.links.get_mut(&(node, lane)) {
                (link.lost, link.is_refused, link.retry_at) = (false, false, Instant::ZERO);
            }
        }
    }

    /// Gives up what a node is asked about transactions: it leads nothing any more, and its answers may be held back
    /// for long, or never come where it has died without a word.
    pub fn forsake(&mut self, now: Instant, node: NodeId, fx: &mut Effects) {
        for lane in [Lane::Transactions, Lane::Markers] {
            self.drop_link(node, lane, true, fx);
            if let Some(link) = self.links.get_mut(&(node, lane)) {
                (link.lost, link.is_refused, link.retry_at) = (false, false, now);
            }
        }
    }

    /// Takes in where a node is reached. A link to another address of it is given up.
    pub fn locate(&mut self, node: NodeId, host: Arc<str>, port: u16, fx: &mut Effects) {
        let before = self.addresses.insert(node, (Arc::clone(&host), port));
        if before.is_some_and(|before| before != (host, port)) {
            for lane in Lane::ALL {
                self.drop_link(node, lane, true, fx);
            }
        }
    }

    /// Returns the nodes whose links of a lane stood, were lost, and were refused since.
    pub fn refusing(&self, lane: Lane) -> impl Iterator<Item = NodeId> {
        self.links
            .iter()
            .filter(move |((_, of), link)| *of == lane && link.is_refused)
            .map(|((node, _), _)| *node)
    }

    /// Returns whether a link stands.
    pub fn is_ready(&self, node: NodeId, lane: Lane) -> bool {
        self.links.get(&(node, lane)).is_some_and(|link| link.greeted)
    }

    /// Begins a link, if there is none; requests do so by themselves.
    pub fn connect(&mut self, now: Instant, node: NodeId, lane: Lane, fx: &mut Effects) {
        let Some((host, port)) = self.addresses.get(&node).cloned() else { return };
        let link = self.links.entry((node, lane)).or_insert_with(|| Link {
            connection: None,
            opened: false,
            greeted: false,
            lost: false,
            is_refused: false,
            failures: 0,
            retry_at: Instant::ZERO,
            queue: VecDeque::new(),
            said: None,
        });
        if link.connection.is_some() || link.retry_at > now {
            return;
        }
        let number = (self.next_connection << 16) | u64::from(self.shard.0);
        self.next_connection += 1;
        let id = ConnectionId::outgoing(number);
        let client_id = KafkaString::from(format!("node-{}", self.identity.node_id.0).as_str());
        let connection = Connection::new(client_id, now + ANSWER_WITHIN, ANSWER_WITHIN, FRAME_MAX);
        link.connection = Some((id, connection));
        (link.opened, link.greeted) = (false, false);
        self.names.insert(id, (node, lane));
        fx.push(Effect::Connect { connection: id, node, host, port });
    }

    /// Asks a node; what comes of it is [`PeerEvent::Done`].
    pub fn ask(
        &mut self,
        now: Instant,
        node: NodeId,
        lane: Lane,
        question: Question<T>,
        fx: &mut Effects,
    ) {
        self.connect(now, node, lane, fx);
        match self.links.get_mut(&(node, lane)) {
            Some(link) if link.greeted => self.transmit(now, node, lane, question, fx),
            Some(link) if link.connection.is_some() && link.queue.len() < QUEUE_MAX => {
                link.queue.push_back(question);
            }
            Some(_) | None => self.fail(node, question.tag),
        }
    }

    /// Tells a node something that is not answered. Where the link does not stand it is dropped.
    pub fn tell(&mut self, node: NodeId, lane: Lane, request: &Request, fx: &mut Effects) -> bool {
        let Some(link) = self.links.get_mut(&(node, lane)).filter(|link| link.greeted) else {
            return false;
        };
        let Some((id, connection)) = &mut link.connection else { return false };
        let api_key = request.api_key();
        let Some(version) = connection.version(api_key, api_key.max_version()) else {
            return false;
        };
        let parts = connection.send_unanswered(request, version);
        fx.push(Effect::Transmit { connection: *id, parts });
        true
    }

    fn fail(&mut self, node: NodeId, tag: T) {
        self.events.push_back(PeerEvent::Done { node, tag, response: None });
    }

    fn transmit(
        &mut self,
        now: Instant,
        node: NodeId,
        lane: Lane,
        question: Question<T>,
        fx: &mut Effects,
    ) {
        let Question { request, patience, tag } = question;
        let link = self.links.get_mut(&(node, lane));
        let Some((id, connection)) = link.and_then(|link| link.connection.as_mut()) else {
            return self.fail(node, tag);
        };
        let api_key = request.api_key();
        let Some(version) = connection.version(api_key, api_key.max_version()) else {
            let why = format!("node {node} does not serve {}", api_key.name());
            self.events.push_back(PeerEvent::Refused { node, why });
            return self.fail(node, tag);
        };
        let tag = Purpose::Owner(tag);
        let parts = match patience {
            None => connection.send(now, &request, version, tag),
            Some(patience) => {
                connection.send_parked(&request, version, tag, now + patience + ANSWER_WITHIN)
            }
        };
        fx.push(Effect::Transmit { connection: *id, parts });
    }

    /// Takes in that a connection is there.
    pub fn on_opened(&mut self, now: Instant, connection: ConnectionId, fx: &mut Effects) {
        let Some(&(node, lane)) = self.names.get(&connection) else {
            return fx.push(Effect::Abort { connection });
        };
        let Some(link) = self.links.get_mut(&(node, lane)) else { return };
        link.opened = true;
        if let Some((id, connection)) = &mut link.connection {
            let parts = connection.on_connected(now);
            fx.push(Effect::Want { connection: *id, bytes: READ_BYTES });
            fx.push(Effect::Transmit { connection: *id, parts });
        }
    }

    /// Takes bytes of a link in.
    pub fn on_received(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        bytes: BytesMut,
        fx: &mut Effects,
    ) {
        let Some(&(node, lane)) = self.names.get(&connection) else { return };
        let Some(link) = self.links.get_mut(&(node, lane)) else { return };
        let Some((id, machine)) = &mut link.connection else { return };
        let mut completed = VecDeque::new();
        match machine.on_received(now, bytes, &mut completed) {
            Ok(question) => {
                if let Some(parts) = question {
                    fx.push(Effect::Transmit { connection: *id, parts });
                }
                let ready = machine.is_ready();
                if ready && !link.greeted && machine.in_flight() == 0 && completed.is_empty() {
                    self.greet(now, node, lane, fx);
                }
            }
            Err(error) => {
                self.refused(
                    now,
                    node,
                    lane,
                    format!("node {node} breaks the protocol: {error}"),
                    fx,
                );
            }
        }
        self.on_completed(now, node, lane, completed, fx);
    }

    /// Says who this node is, and asks the other side the same.
    fn greet(&mut self, now: Instant, node: NodeId, lane: Lane, fx: &mut Effects) {
        let identity = &self.identity;
        let hello = PeerHelloRequest {
            cluster_id: identity.cluster_id,
            node_id: identity.node_id.0,
            directory_id: identity.directory_id,
            incarnation: identity.incarnation,
            wanted_node_id: node.0,
            listed: identity.listed.iter().map(|node| node.0).collect(),
            link: lane.number(self.shard),
        };
        let link = self.links.get_mut(&(node, lane));
        let Some((id, connection)) = link.and_then(|link| link.connection.as_mut()) else { return };
        let request = Request::from(hello);
        let api_key = request.api_key();
        if let Some(version) = connection.version(api_key, api_key.max_version()) {
            let parts = connection.send(now, &request, version, Purpose::Hello);
            return fx.push(Effect::Transmit { connection: *id, parts });
        }
        let why = format!(
            "what answers at the address of node {node} is no listener for peers of Mainspring"
        );
        self.refused(now, node, lane, why, fx);
    }

    fn on_completed(
        &mut self,
        now: Instant,
        node: NodeId,
        lane: Lane,
        completed: VecDeque<Completed<Purpose<T>>>,
        fx: &mut Effects,
    ) {
        for Completed { tag, result, .. } in completed {
            match tag {
                Purpose::Owner(tag) => {
                    let response = result.ok();
                    self.events.push_back(PeerEvent::Done { node, tag, response });
                }
                Purpose::Hello => {
                    if let Ok(Response::PeerHello(hello)) = result {
                        self.on_hello(now, node, lane, &hello, fx);
                    }
                }
            }
        }
    }

    fn on_hello(
        &mut self,
        now: Instant,
        node: NodeId,
        lane: Lane,
        hello: &PeerHelloResponse,
        fx: &mut Effects,
    ) {
        let ours = self.identity.cluster_id;
        let strange = !ours.is_zero() && !hello.cluster_id.is_zero() && hello.cluster_id != ours;
        if hello.error_code != ErrorCode::None.code() || hello.node_id != node.0 || strange {
            let said = hello.error_message.as_deref().unwrap_or("it gives no reason");
            // Another's words begin no line of their own.
            let said = said.replace(char::is_control, " ");
            let why = if hello.error_code == ErrorCode::None.code() {
                format!(
                    "at the address of node {node} answers node {} of cluster {}",
                    hello.node_id, hello.cluster_id
                )
            } else {
                format!("node {node} refuses this node: {said}")
            };
            return self.refused(now, node, lane, why, fx);
        }
        let Some(link) = self.links.get_mut(&(node, lane)) else { return };
        link.greeted = true;
        (link.lost, link.is_refused) = (false, false);
        link.failures = 0;
        link.said = None;
        let peer = Identity {
            cluster_id: hello.cluster_id,
            node_id: node,
            directory_id: hello.directory_id,
            incarnation: hello.incarnation,
            listed: hello.listed.iter().copied().map(NodeId).collect(),
        };
        let queue = std::mem::take(&mut link.queue);
        self.events.push_back(PeerEvent::Ready { node, lane, peer });
        for queued in queue {
            self.transmit(now, node, lane, queued, fx);
        }
    }

    /// Gives a link up because of what the other side is or says.
    fn refused(&mut self, now: Instant, node: NodeId, lane: Lane, why: String, fx: &mut Effects) {
        if let Some(link) = self.links.get_mut(&(node, lane))
            && link.said.as_ref() != Some(&why)
        {
            link.said = Some(why.clone());
            self.events.push_back(PeerEvent::Refused { node, why });
        }
        self.drop_link(node, lane, true, fx);
        self.back_off(now, node, lane);
    }

    /// Takes in that a connection is gone, or was never made.
    pub fn on_disconnected(&mut self, now: Instant, connection: ConnectionId, fx: &mut Effects) {
        let Some(&(node, lane)) = self.names.get(&connection) else { return };
        let link = self.links.get(&(node, lane));
        let refused = link.is_some_and(|link| link.lost && !link.opened);
        self.drop_link(node, lane, false, fx);
        self.back_off(now, node, lane);
        if refused {
            if let Some(link) = self.links.get_mut(&(node, lane)) {
                link.is_refused = true;
            }
            self.events.push_back(PeerEvent::Unreachable(node));
        }
    }

    fn back_off(&mut self, now: Instant, node: NodeId, lane: Lane) {
        if let Some(link) = self.links.get_mut(&(node, lane)) {
            let pause = RETRY_FIRST * (1 << link.failures.min(5));
            // The first attempt after a loss is made at once: it tells a dead process from a lost packet.
            link.retry_at = if link.failures == 0 { now } else { now + pause.min(RETRY_MAX) };
            link.failures += 1;
            // Who refuses this node does answer, and has said why.
            if lane == Lane::Control && link.failures == AWAY_AFTER && link.said.is_none() {
                self.events.push_back(PeerEvent::Away(node));
            }
        }
    }

    fn drop_link(&mut self, node: NodeId, lane: Lane, abort: bool, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(&(node, lane)) else { return };
        let stood = std::mem::take(&mut link.greeted);
        link.lost |= stood;
        if stood {
            link.failures = 0;
        }
        link.opened = false;
        let queue = std::mem::take(&mut link.queue);
        if let Some((id, connection)) = link.connection.take() {
            self.names.remove(&id);
            if abort {
                fx.push(Effect::Abort { connection: id });
            }
            let mut completed = VecDeque::new();
            connection.fail(&crate::client::ClientError::Disconnected, &mut completed);
            for Completed { tag, .. } in completed {
                if let Purpose::Owner(tag) = tag {
                    self.fail(node, tag);
                }
            }
        }
        for queued in queue {
            self.fail(node, queued.tag);
        }
    }

    /// Gives up what has waited for too long, and connects again where it is time.
    pub fn maintain(&mut self, now: Instant, fx: &mut Effects) {
        let keys: Vec<(NodeId, Lane)> = self.links.keys().copied().collect();
        for (node, lane) in keys {
            let Some(link) = self.links.get(&(node, lane)) else { continue };
            match &link.connection {
                Some((_, connection)) if connection.deadline().is_some_and(|at| at <= now) => {
                    self.drop_link(node, lane, true, fx);
                    self.back_off(now, node, lane);
                    self.connect(now, node, lane, fx);
                }
                None if link.retry_at <= now => self.connect(now, node, lane, fx),
                Some(_) | None => {}
            }
        }
    }

    /// Returns when [`maintain`](Self::maintain) wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.links
            .values()
            .filter_map(|link| match &link.connection {
                Some((_, connection)) => connection.deadline(),
                None => Some(link.retry_at),
            })
            .min()
    }

    /// Takes the oldest event.
    pub fn poll_event(&mut self) -> Option<PeerEvent<T>> {
        self.events.pop_front()
    }

    /// Takes the links into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        for ((node, lane), link) in &self.links {
            digest
                .signed(i64::from(node.0))
                .number(*lane as u64)
                .shown(&(link.opened, link.greeted, link.lost, link.is_refused))
                .shown(&(link.failures, link.retry_at))
                .number(link.queue.len() as u64)
                .shown(&link.connection.as_ref().map(|(id, connection)| {
                    (*id, connection.is_ready(), connection.in_flight(), connection.deadline())
                }));
        }
    }
}
