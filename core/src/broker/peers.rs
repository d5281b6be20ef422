//! The other nodes of the cluster, as a shard sees them: its links to them, and their connections to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::pending::RequestContext;
use crate::broker::post::Arrival;
use crate::broker::replication::Fetched;
use crate::broker::shard::Shard;
use crate::broker::start::Phase;
use crate::broker::timers::Timer;
use crate::config::PeerConfig;
use crate::connection::RequestId;
use crate::error::ErrorCode;
use crate::ids::{ConnectionId, NodeId, ShardId, Uuid};
use crate::metadata::controller::Origin;
use crate::peer::{Identity, Lane, PeerEvent, Peers};
use crate::quorum::ReplicaKey;
use crate::quorum::messages::Ask;
use crate::time::{Instant, Now};
use crate::wire::api::peer_hello::{PeerHelloRequest, PeerHelloResponse};
use crate::wire::{KafkaString, Request};

/// Most refusals that are said: who can reach the listener shall not fill the log.
const SAID_MAX: usize = 100;

/// What a request to another node was sent for.
#[derive(Clone, Debug)]
pub(in crate::broker) enum PeerTag {
    /// The metadata quorum.
    Quorum(Ask),
    /// A command for the controller.
    Command(Origin),
    /// A fetch of partitions that are followed.
    Replicate(Fetched),
    /// What is said of clusters before there is one.
    Form,
    /// Something that a shard asks for itself.
    Internal(RequestId),
}

/// Who has come in by a listener for peers.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Guest {
    /// Who it is.
    identity: Identity,
    /// Which of its links it came by.
    link: i32,
    /// When it said so.
    greeted_at: Instant,
}

/// Links, and who has come in.
#[derive(Clone, Debug)]
pub(in crate::broker) struct PeerTable {
    pub(in crate::broker) links: Peers<PeerTag>,
    /// Who is at the other end of a connection that came in by a listener for peers.
    pub(in crate::broker) guests: BTreeMap<ConnectionId, Guest>,
    armed: Option<Instant>,
    /// What was said of nodes that were refused.
    said: BTreeSet<String>,
}

impl PeerTable {
    pub(in crate::broker) fn new(links: Peers<PeerTag>) -> Self {
        Self { links, guests: BTreeMap::new(), armed: None, said: BTreeSet::new() }
    }
}

impl Shard {
    /// Returns who this node is, as its own directory says.
    pub(in crate::broker) fn peer_identity(&self, listed: Arc<[NodeId]>) -> Identity {
        Identity {
            cluster_id: self.identity.cluster_id,
            node_id: self.config.node.node_id,
            directory_id: self.identity.directory_id,
            incarnation: i64::from(self.identity.incarnation.0),
            listed,
        }
    }

    /// Returns whether a request of a node names another one as its sender.
    pub(in crate::broker) fn is_forged(&self, connection: ConnectionId, request: &Request) -> bool {
        let named = if let Request::BrokerRegistration(request) = request {
            request.broker_id
        } else if let Request::BrokerHeartbeat(request) = request {
            request.broker_id
        } else if let Request::AlterPartition(request) = request {
            request.broker_id
        } else if let Request::AllocateProducerIds(request) = request {
            request.broker_id
        } else if let Request::ReplicaAck(request) = request {
            request.node_id
        } else if let Request::FetchSnapshot(request) = request {
            request.replica_id
        } else {
            return false;
        };
        self.peer_of(connection).is_none_or(|peer| peer.node.0 != named)
    }

    /// Says who this node is, and where the others are.
    pub(in crate::broker) fn meet_peers(
        &mut self,
        now: Now,
        identity: Identity,
        places: &[PeerConfig],
    ) {
        let me = identity.node_id;
        self.peers.links.identify(identity);
        for peer in places.iter().filter(|peer| peer.node_id != me) {
            let Self { peers, fx, .. } = self;
            peers.links.locate(peer.node_id, Arc::clone(&peer.host), peer.port, fx);
            if self.config.shard.0 == 0 {
                peers.links.connect(now.mono, peer.node_id, Lane::Control, fx);
            }
        }
        // Who asked before this shard knew who it is may ask now.
        if !self.is_alone() {
            self.unblock();
        }
    }

    /// Returns who is at the other end of a connection, where it is another node of this one's cluster.
    pub(in crate::broker) fn peer_of(&self, connection: ConnectionId) -> Option<ReplicaKey> {
        let ours = self.identity.cluster_id;
        let guest = self.peers.guests.get(&connection)?;
        let Identity { cluster_id, node_id: node, directory_id: directory, .. } = guest.identity;
        (!ours.is_zero() && cluster_id == ours).then_some(ReplicaKey { node, directory })
    }

    /// Returns by which way another node of this one's cluster has come in.
    pub(in crate::broker) fn arrival(&self, connection: ConnectionId) -> Option<Arrival> {
        let node = self.peer_of(connection)?.node;
        let Guest { link, greeted_at, .. } = *self.peers.guests.get(&connection)?;
        Some(Arrival { node, link, connection, greeted_at })
    }

    /// `PeerHello` (key 31000): another node says who it is.
    pub(in crate::broker) fn on_peer_hello(
        &mut self,
        now: Now,
        ctx: &RequestContext,
        hello: &PeerHelloRequest,
    ) {
        let ours = self.peers.links.identity().clone();
        let both = |a: Uuid, b: Uuid| !a.is_zero() && !b.is_zero();
        let refusal =
            if both(ours.cluster_id, hello.cluster_id) && ours.cluster_id != hello.cluster_id {
                let why = format!("this is cluster {}, not {}", ours.cluster_id, hello.cluster_id);
                Some((ErrorCode::InconsistentClusterId, why))
            } else if hello.node_id == ours.node_id.0 {
                let why = format!("this node has the number {} too", hello.node_id);
                Some((ErrorCode::DuplicateBrokerRegistration, why))
            } else if hello.wanted_node_id != ours.node_id.0 {
                let why = format!("this is node {}, not {}", ours.node_id, hello.wanted_node_id);
                Some((ErrorCode::InvalidRequest, why))
            } else {
                None
            };
        let (code, message) = match refusal {
            None => (ErrorCode::None, None),
            Some((code, why)) => {
                let line = format!("node {} is refused as a peer: {why}", hello.node_id);
                self.warn_of_peer(line);
                (code, Some(KafkaString::from(why)))
            }
        };
        if code == ErrorCode::None {
            let identity = Identity {
                cluster_id: hello.cluster_id,
                node_id: NodeId(hello.node_id),
                directory_id: hello.directory_id,
                incarnation: hello.incarnation,
                listed: hello.listed.iter().copied().map(NodeId).collect(),
            };
            let guest = Guest { identity, link: hello.link, greeted_at: now.mono };
            self.peers.guests.insert(ctx.id.connection, guest);
        }
        let response = PeerHelloResponse {
            error_code: code.code(),
            error_message: message,
            cluster_id: ours.cluster_id,
            node_id: ours.node_id.0,
            directory_id: ours.directory_id,
            incarnation: ours.incarnation,
            listed: ours.listed.iter().map(|node| node.0).collect(),
        };
        self.respond(ctx, response);
    }

    /// Takes in what the links have to say. Returns whether there was anything.
    pub(in crate::broker) fn hear_peers(&mut self, now: Now) -> bool {
        let Some(event) = self.peers.links.poll_event() else { return false };
        match event {
            PeerEvent::Ready { lane, peer, .. } => {
                if lane == Lane::Control {
                    self.on_peer_greeted(now, peer);
                }
                self.on_node_reachable(now);
            }
            PeerEvent::Done { node, tag, response } => match tag {
                PeerTag::Quorum(ask) => self.on_quorum_answer(now, node, &ask, response),
                PeerTag::Replicate(asked) => {
                    self.on_replica_fetched(now, node, &asked, response);
                }
                PeerTag::Form => self.on_form_answer(now, node, response),
                PeerTag::Command(origin) => self.on_command_response(now, origin, response),
                PeerTag::Internal(id) => self.on_internal_response(now, id, response),
            },
            PeerEvent::Unreachable(node) => self.on_node_unreachable(now, node),
            PeerEvent::Away(node) => self.on_node_away(node),
            PeerEvent::Refused { why, .. } => self.fx.warn(why),
        }
        true
    }

    /// Warns of something that comes again and again.
    fn warn_of_peer(&mut self, line: String) {
        if self.peers.said.len() < SAID_MAX && self.peers.said.insert(line.clone()) {
            self.fx.warn(line);
        }
    }

    /// Says for whom this node may be waiting before it serves.
    fn on_node_away(&mut self, node: NodeId) {
        if self.phase != Phase::Joining {
            return;
        }
        let listed = self.config.node.peers.iter().find(|peer| peer.node_id == node);
        let place = listed.map(|peer| format!(" at {}:{}", peer.host, peer.port));
        let needed = if self.identity.cluster.is_some() {
            "this node serves once a majority of the voters runs"
        } else {
            "a new cluster is formed once all of its voters run"
        };
        let place = place.unwrap_or_default();
        self.warn_of_peer(format!("node {node}{place} does not answer: {needed}"));
    }

    /// Takes in who leads the metadata log.
    pub(in crate::broker) fn take_quorum_leader(&mut self, now: Now, leader: Option<NodeId>) {
        self.quorum_leader = leader;
        if self.config.shard == ShardId(0) && leader.is_some() {
            self.report_to_new_controller(now);
        }
    }

    /// Returns the number of the controller as clients are told it, -1 where none is known.
    pub(in crate::broker) fn controller_id(&self) -> i32 {
        if self.is_alone() {
            return self.config.node.node_id.0;
        }
        self.quorum_leader.map_or(-1, |leader| leader.0)
    }

    /// Returns the node to which clients take what is for the controller, of the brokers that they are told
    /// of.
    ///
    /// One that is not among them, as at the formation of a cluster and after a fail-over, a client could not
    /// reach; librdkafka waits minutes for it. In its place stands this node, which passes everything on to the
    /// controller, as any broker of Kafka's does; -1 where it is not listed either.
    pub(in crate::broker) fn controller_among(&self, listed: &[i32]) -> i32 {
        let candidates = [self.controller_id(), self.config.node.node_id.0];
        candidates.into_iter().find(|id| listed.contains(id)).unwrap_or(-1)
    }

    pub(in crate::broker) fn on_peers_timer(&mut self, now: Now) {
        self.peers.armed = None;
        let Self { peers, fx, .. } = self;
        peers.links.maintain(now.mono, fx);
    }

    /// Arms the timer of the links.
    pub(in crate::broker) fn arm_peers_timer(&mut self) {
        let next = self.peers.links.next_deadline();
        if next == self.peers.armed {
            return;
        }
        if let Some(at) = self.peers.armed {
            self.timers.disarm(at, Timer::Peers);
        }
        self.peers.armed = next;
        if let Some(at) = next {
            self.timers.arm(at, Timer::Peers);
        }
    }
}
