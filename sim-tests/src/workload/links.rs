//! The connections of a client machine of core, over the streams of the simulated network.

use std::collections::BTreeMap;

use mainspring_core::client::{Effect, Input, Link};
use mainspring_core::time::{Instant, Now, UnixMillis};

use crate::clock::EPOCH_MS;
use crate::net::StreamId;
use crate::world::{ActorEvent, Hands, MILLISECOND};

/// Which stream stands for which connection.
#[derive(Debug, Default)]
pub struct Links {
    streams: BTreeMap<Link, StreamId>,
    links: BTreeMap<StreamId, Link>,
}

impl Links {
    /// Carries out what a machine wants done.
    pub fn carry_out(&mut self, hands: &mut Hands<'_>, effect: Effect) {
        match effect {
            Effect::Connect { link, host, .. } => {
                let stream = hands.connect(hands.node_of(&host));
                self.streams.insert(link, stream);
                self.links.insert(stream, link);
            }
            Effect::Transmit { link, parts } => {
                if let Some(&stream) = self.streams.get(&link) {
                    hands.send(stream, parts);
                }
            }
            Effect::Close { link } => {
                if let Some(stream) = self.streams.remove(&link) {
                    self.links.remove(&stream);
                    hands.close(stream);
                }
            }
        }
    }

    /// Returns what an event is to the machine; `None` where it is of a stream that is not the machine's.
    pub fn input(&mut self, event: &ActorEvent) -> Option<Input> {
        match event {
            ActorEvent::Connected(stream) => Some(Input::Connected(*self.links.get(stream)?)),
            ActorEvent::Received(stream, bytes) => {
                Some(Input::Received(*self.links.get(stream)?, bytes.clone()))
            }
            ActorEvent::Disconnected(stream) => {
                let link = self.links.remove(stream)?;
                self.streams.remove(&link);
                Some(Input::Disconnected(link))
            }
            ActorEvent::Wake | ActorEvent::Finish => None,
        }
    }

    /// Takes a connection from the machine. What comes of its stream, which stays open, is not the machine's any more.
    pub fn leave(&mut self, link: Link) -> Option<StreamId> {
        let stream = self.streams.remove(&link)?;
        self.links.remove(&stream);
        Some(stream)
    }

    /// Gives all of them up, as the end of a process does.
    pub fn close_all(&mut self, hands: &mut Hands<'_>) {
        self.streams.clear();
        for stream in std::mem::take(&mut self.links).into_keys() {
            hands.close(stream);
        }
    }
}

/// Returns the time as a machine is told it.
pub fn now(hands: &Hands<'_>) -> Now {
    Now {
        mono: Instant::from_nanos(hands.now),
        wall: UnixMillis(EPOCH_MS + (hands.now / MILLISECOND) as i64),
    }
}
