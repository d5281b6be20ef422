//! Clients, and the streams between them and the nodes.

use std::sync::Arc;

use mainspring_core::ids::ListenerIndex;
use mainspring_core::io::Input;

use super::event::Event;
use super::{Accepted, Action, ActorEvent, Hands, Machine, World};
use crate::net::{Address, Delivery, Notice, StreamId};
use crate::story::What;

impl<M: Machine> World<M> {
    pub(super) fn flush_notices(&mut self) {
        for notice in std::mem::take(&mut self.notices) {
            self.push(notice.at, Event::Net(notice));
        }
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        let Notice { stream, side, .. } = notice;
        while let Some(delivery) = self.net.deliver(self.now, stream, side, &mut self.notices) {
            if side == 0 {
                let Some((client, _)) = self.openers.get(&stream).copied() else { continue };
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
            } else {
                let Some(accepted) = self.accepted.get(&stream).copied() else { continue };
                let Accepted { node, shard, connection } = accepted;
                let input = match delivery {
                    Delivery::Received(bytes) => Input::Received(connection, bytes),
                    Delivery::Transmitted(bytes) => Input::Transmitted(connection, bytes),
                    Delivery::Closed => {
                        self.accepted.remove(&stream);
                        self.nodes[node].streams.remove(&connection);
                        Input::Disconnected(connection)
                    }
                };
                self.handle(node, shard, input);
            }
        }
        self.flush_notices();
    }

    pub(super) fn accept(&mut self, stream: StreamId) {
        let Some((client, node)) = self.openers.get(&stream).copied() else { return };
        let cut = self.net.is_cut(Address::Client(client), Address::Node(node))
            || self.net.is_cut(Address::Node(node), Address::Client(client));
        if !self.nodes[node].is_ready() || cut {
            self.net.reset(self.now, stream, &mut self.notices);
            self.flush_notices();
            return;
        }
        let shards = u64::from(self.options.shards);
        let shard = self.clients[client].landings.below(shards) as u16;
        self.write_down(|| What::Connected { client, shard });
        let connection = self.nodes[node].accept(stream);
        self.accepted.insert(stream, Accepted { node, shard, connection });
        self.act(client, ActorEvent::Connected(stream));
        self.handle(
            node,
            shard,
            Input::Connected {
                connection,
                listener: ListenerIndex(0),
                peer: Arc::from(format!("client-{client}")),
            },
        );
    }

    pub(super) fn act(&mut self, client: usize, event: ActorEvent) {
        let state = &mut self.clients[client];
        let mut hands = Hands {
            now: self.now,
            rng: &mut state.chance,
            next_stream: self.net.next_stream(),
            actions: Vec::new(),
        };
        state.actor.handle(&mut hands, event);
        for action in hands.actions {
            match action {
                Action::Open(node) => {
                    let (stream, delay) =
                        self.net.open(Address::Client(client), Address::Node(node));
                    self.openers.insert(stream, (client, node));
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
        if self.healed && self.clients.iter().all(|client| client.actor.pending().is_none()) {
            self.over = true;
        }
    }
}
