//! Requests that arrive late, on connections that their clients have left: a client was told that a connection is
//! gone and made another, and what it had said on the first one was on its way all the same.

use bytes::Bytes;
use mainspring_core::client::{Input, Link};

use super::links::Links;
use crate::net::StreamId;
use crate::world::{ActorEvent, Hands, SECOND};

/// How many requests of a client may be on their way like that.
const MOST: usize = 8;

/// What is on its way, and the connections on which it comes.
#[derive(Debug, Default)]
pub struct Held {
    /// When it arrives, and on which stream.
    requests: Vec<(u64, StreamId, Vec<Bytes>)>,
    /// Streams on which it has arrived. Nobody waits for the answers.
    arrived: Vec<StreamId>,
}

impl Held {
    /// Holds a request up, and takes its connection from the machine, which is told so by what is returned. Returns
    /// the request where that cannot be.
    pub fn hold(
        &mut self,
        hands: &mut Hands<'_>,
        links: &mut Links,
        link: Link,
        parts: Vec<Bytes>,
    ) -> Result<Input, Vec<Bytes>> {
        if self.requests.len() >= MOST {
            return Err(parts);
        }
        let Some(stream) = links.leave(link) else { return Err(parts) };
        // Into the transaction that is open by then, or into a much later one.
        let mean = [SECOND / 20, SECOND][hands.rng.index(2)];
        let later = hands.now + hands.rng.exponential(mean);
        self.requests.push((later, stream, parts));
        Ok(Input::Disconnected(link))
    }

    /// Returns when the next one arrives.
    pub fn next(&self) -> Option<u64> {
        self.requests.iter().map(|(at, ..)| *at).min()
    }

    /// Lets arrive what is due, or gives up what has not arrived.
    pub fn arrive(&mut self, hands: &mut Hands<'_>, finishing: bool) {
        for (at, stream, parts) in std::mem::take(&mut self.requests) {
            if finishing {
                hands.close(stream);
            } else if at > hands.now {
                self.requests.push((at, stream, parts));
            } else {
                hands.send(stream, parts);
                self.arrived.push(stream);
            }
        }
    }

    /// Takes in what comes on a connection that was left. Returns whether it was one.
    pub fn hear(&mut self, hands: &mut Hands<'_>, event: &ActorEvent) -> bool {
        let (ActorEvent::Connected(stream)
        | ActorEvent::Received(stream, _)
        | ActorEvent::Disconnected(stream)) = event
        else {
            return false;
        };
        let waits = self.requests.iter().any(|(_, held, _)| held == stream);
        let has_arrived = self.arrived.contains(stream);
        if matches!(event, ActorEvent::Disconnected(_)) {
            self.requests.retain(|(_, held, _)| held != stream);
            self.arrived.retain(|arrived| arrived != stream);
        } else if has_arrived {
            self.arrived.retain(|arrived| arrived != stream);
            hands.close(*stream);
        }
        waits || has_arrived
    }
}
