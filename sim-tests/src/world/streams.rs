//! Clients, and the streams between them and the nodes, and between nodes.

use std::sync::Arc;

use mainspring_core::ids::ListenerIndex;
use mainspring_core::io::Input;

use super::event::Event;
use super::{Action, ActorEvent, Attached, Hands, Machine, Opener, World};
use crate::net::{Address, Delivery, Notice, Side, StreamId};
use crate::story::What;

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
                } else {
                    self.openers.remove(&stream);
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
        if !self.nodes[node].is_ready() || cut {
            self.net.reset(self.now, stream, &mut self.notices);
            self.flush_notices();
            return;
        }
        let shards = u64::from(self.options.shards);
        let shard = match opener {
            Opener::Client(client) => self.clients[client].landings.below(shards) as u16,
            Opener::Shard(end) => (end.connection.0 % shards) as u16,
        };
        let connection = self.nodes[node].attach(stream, 1);
        self.accepted.insert(stream, Attached { node, shard, connection });
        let listener = ListenerIndex(0);
        let peer = match opener {
            Opener::Client(client) => {
                self.write_down(|| What::Connected { client, shard });
                self.act(client, ActorEvent::Connected(stream));
                format!("client-{client}")
            }
            Opener::Shard(Attached { node: from, shard, connection }) => {
                let peer = Arc::from(format!("node-{node}"));
                self.handle(from, shard, Input::Connected { connection, listener, peer });
                format!("node-{from}")
            }
        };
        self.handle(node, shard, Input::Connected { connection, listener, peer: Arc::from(peer) });
    }

    /// Opens the streams that a shard has asked for.
    pub(super) fn dial(&mut self, node: usize, shard: u16) {
        loop {
            let connection = self.nodes[node].next_connection();
            let Some(state) = self.nodes[node].shards.get_mut(usize::from(shard)) else { return };
            let Some(to) = state.machine.poll_dial(connection) else { return };
            let (stream, delay) = self.net.open(Address::Node(node), Address::Node(to));
            self.nodes[node].attach(stream, 0);
            let opener = Opener::Shard(Attached { node, shard, connection });
            self.openers.insert(stream, (opener, to));
            self.push(self.now + delay, Event::Accept { stream });
        }
    }

    pub(super) fn act(&mut self, client: usize, event: ActorEvent) {
        let home = self.home_of(client);
        let state = &mut self.clients[client];
        let mut hands = Hands {
            now: self.now,
            rng: &mut state.chance,
            home,
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
        if !self.healed {
            return;
        }
        let waits = self.clients.iter().enumerate().any(|(client, state)| {
            !self.nodes[self.home_of(client)].given_up && state.actor.pending().is_some()
        });
        self.over |= !waits;
    }

    /// Returns the node that a client takes for the whole cluster.
    pub(super) fn home_of(&self, client: usize) -> usize {
        self.options.homes.get(client).copied().unwrap_or(0)
    }
}
