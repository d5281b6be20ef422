//! Clients, and the streams between them and the nodes, and between nodes.

use std::sync::Arc;

use mainspring_core::ids::{ConnectionId, ListenerIndex, NodeId};
use mainspring_core::io::Input;

use super::event::Event;
use super::{Action, ActorEvent, Attached, Hands, Machine, Opener, SECOND, World};
use crate::net::{Address, Delivery, Notice, Side, StreamId};
use crate::story::What;

/// The listener by which clients come in.
const CLIENTS: ListenerIndex = ListenerIndex(0);
/// The listener by which other nodes come in.
const PEERS: ListenerIndex = ListenerIndex(1);

/// How long an attempt to connect to a node waits for an answer, as the driver for real sockets does.
const CONNECT_WITHIN: u64 = SECOND;

impl<M: Machine> World<M> {
    pub(super) fn flush_notices(&mut self) {
        for notice in std::mem::take(&mut self.notices) {
            self.push(notice.at, Event::Net(notice));
        }
    }

    /// Returns the shard at an end of a stream, if there is one.
    pub(super) fn attached(&self, stream: StreamId, side: Side) -> Option<Attached> {
        if side == 1 {
            return self.accepted.get(&stream).copied();
        }
        match self.openers.get(&stream) {
            Some((Opener::Shard(attached), _)) => Some(*attached),
            Some((Opener::Client(_), _)) | None => None,
        }
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        let Notice { stream, side, .. } = notice;
        while let Some(delivery) = self.net.deliver(self.now, stream, side, &mut self.notices) {
            if let Some(attached) = self.attached(stream, side) {
                self.deliver(stream, side, attached, delivery);
            } else if let (0, Some((Opener::Client(client), _))) = (side, self.openers.get(&stream))
            {
                let client = *client;
                match delivery {
                    Delivery::Received(bytes) => {
                        self.trace.bytes(&bytes);
                        self.act(client, ActorEvent::Received(stream, bytes));
                    }
                    Delivery::Transmitted(_) => {}
                    Delivery::Closed => {
                        self.write_down(|| What::Disconnected { client });
                        self.act(client, ActorEvent::Disconnected(stream));
                    }
                }
            }
        }
        self.flush_notices();
    }

    fn deliver(&mut self, stream: StreamId, side: Side, end: Attached, delivery: Delivery) {
        let Attached { node, shard, connection } = end;
        let input = match delivery {
            Delivery::Received(bytes) => Input::Received(connection, bytes),
            Delivery::Transmitted(bytes) => Input::Transmitted(connection, bytes),
            Delivery::Closed => {
                if side == 1 {
                    self.accepted.remove(&stream);
                } else if let Some((_, to)) = self.openers.remove(&stream) {
                    self.write_down(|| What::Unlinked { node, shard, to });
                }
                self.nodes[node].streams.remove(&connection);
                Input::Disconnected(connection)
            }
        };
        self.handle(node, shard, input);
    }

    pub(super) fn accept(&mut self, stream: StreamId) {
        let Some((opener, node)) = self.openers.get(&stream).copied() else { return };
        let (from, to) = (opener.address(), Address::Node(node));
        let cut = self.net.is_cut(from, to) || self.net.is_cut(to, from);
        if let Opener::Shard(_) = opener {
            if !self.net.is_wanted(stream) {
                return;
            }
            if cut {
                // Nobody says no: what was sent is lost, and so would be the answer.
                self.push(self.now + CONNECT_WITHIN, Event::Unanswered { stream });
                return;
            }
        }
        let listens = match opener {
            Opener::Client(_) => self.nodes[node].is_ready(),
            Opener::Shard(_) => self.nodes[node].is_reachable(),
        };
        if !listens || cut {
            self.net.reset(self.now, stream, &mut self.notices);
            self.flush_notices();
            return;
        }
        let shards = u64::from(self.options.shards);
        let shard = match opener {
            Opener::Client(client) => self.clients[client].landings.below(shards) as u16,
            Opener::Shard(end) => (end.connection.0 % shards) as u16,
        };
        let connection = self.nodes[node].attach(stream);
        self.accepted.insert(stream, Attached { node, shard, connection });
        let (listener, peer) = match opener {
            Opener::Client(client) => {
                self.write_down(|| What::Connected { client, shard });
                self.act(client, ActorEvent::Connected(stream));
                (CLIENTS, format!("client-{client}"))
            }
            Opener::Shard(Attached { node: from, shard, connection }) => {
                self.write_down(|| What::Linked { node: from, shard, to: node });
                self.handle(from, shard, Input::Opened(connection));
                (PEERS, format!("node-{from}"))
            }
        };
        self.handle(node, shard, Input::Connected { connection, listener, peer: Arc::from(peer) });
    }

    /// Opens a stream that a shard has asked for.
    pub(super) fn dial(&mut self, node: usize, shard: u16, connection: ConnectionId, to: NodeId) {
        assert!(connection.is_outgoing(), "core numbers its own connections apart: {connection}");
        let Some(to) = self.node_of(to) else {
            let (life, input) = (self.nodes[node].life, Input::Disconnected(connection));
            self.push(self.now + 1, Event::Input { node, shard, life, input });
            return;
        };
        let (stream, delay) = self.net.open(Address::Node(node), Address::Node(to));
        let known = self.nodes[node].streams.insert(connection, (stream, 0));
        assert!(known.is_none(), "core gives a number once: {connection}");
        let opener = Opener::Shard(Attached { node, shard, connection });
        self.openers.insert(stream, (opener, to));
        self.push(self.now + delay, Event::Accept { stream });
    }

    /// Returns the place of a node by its number in the cluster.
    fn node_of(&self, id: NodeId) -> Option<usize> {
        usize::try_from(id.0 - 1).ok().filter(|node| *node < self.nodes.len())
    }

    /// An attempt to connect has met nothing but silence for as long as a driver waits.
    pub(super) fn unanswered(&mut self, stream: StreamId) {
        self.net.abort(self.now, stream, 0, &mut self.notices);
        self.flush_notices();
    }

    pub(super) fn act(&mut self, client: usize, event: ActorEvent) {
        let home = self.home_of(client);
        let cluster = if self.options.cluster.is_some() { self.nodes.len() } else { 1 };
        let state = &mut self.clients[client];
        let mut hands = Hands {
            now: self.now,
            rng: &mut state.chance,
            home,
            cluster,
            next_stream: self.net.next_stream(),
            actions: Vec::new(),
        };
        state.actor.handle(&mut hands, event);
        for action in hands.actions {
            match action {
                Action::Open(node) => {
                    let (stream, delay) =
                        self.net.open(Address::Client(client), Address::Node(node));
                    self.openers.insert(stream, (Opener::Client(client), node));
                    self.push(self.now + delay, Event::Accept { stream });
                }
                Action::Send(stream, parts) => {
                    self.net.send(self.now, stream, 0, parts, &mut self.notices);
                }
                Action::Close(stream) => {
                    self.net.close(self.now, stream, 0, &mut self.notices);
                }
                Action::WakeAt(at) => {
                    self.clients[client].round += 1;
                    let round = self.clients[client].round;
                    self.push(at.max(self.now + 1), Event::Actor { client, round });
                }
                Action::Tell(fact) => self.tell(&fact),
            }
        }
        self.flush_notices();
        self.end_if_all_is_done();
    }

    /// The run is over once no client waits for anything but nodes that gave up for good.
    pub(super) fn end_if_all_is_done(&mut self) {
        let linger = self.options.cluster.as_ref().map_or(0, |cluster| cluster.linger);
        if !self.healed || self.now < self.options.heal_at + linger {
            return;
        }
        let waits =
            self.clients.iter().enumerate().any(|(client, state)| {
                !self.has_given_up(client) && state.actor.pending().is_some()
            });
        self.over |= !waits;
    }

    /// Returns whether a client has no node any more that could serve it.
    pub(super) fn has_given_up(&self, client: usize) -> bool {
        match &self.options.cluster {
            Some(_) => self.nodes.iter().all(|node| node.given_up),
            None => self.nodes[self.home_of(client)].given_up,
        }
    }

    /// Returns the node that a client takes for the whole cluster.
    pub(super) fn home_of(&self, client: usize) -> usize {
        self.options.homes.get(client).copied().unwrap_or(0)
    }
}
