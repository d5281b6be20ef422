//! What the world needs of a shard, and of a client.

use mainspring_core::io::{Effect, Input};
use mainspring_core::time::{Instant, Now};

use crate::history::Fact;
use crate::net::StreamId;

/// One shard: inputs in, effects out, no other way in or out.
pub trait Machine {
    /// Takes one input.
    fn handle(&mut self, now: Now, input: Input);

    /// Takes the oldest effect.
    fn poll_effect(&mut self) -> Option<Effect>;

    /// Returns when the machine wants to be woken.
    fn next_deadline(&self) -> Option<Instant>;

    /// Says who wants to be woken, for a person.
    fn who_waits(&self) -> String {
        String::new()
    }

    /// Returns a digest of its state.
    fn digest(&self) -> u64;
}

/// What a start of a node is given.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// Which node.
    pub node: usize,
    /// Which of its shards.
    pub shard: u16,
    /// How many shards it has.
    pub shards: u16,
    /// A seed never given before.
    pub seed: u64,
}

/// What a client is told.
#[derive(Debug)]
pub enum ActorEvent {
    /// The run has begun, or a time that it asked for has come.
    Wake,
    /// A stream that it opened is there.
    Connected(StreamId),
    /// Bytes arrived.
    Received(StreamId, bytes::BytesMut),
    /// A stream is gone, or was never made.
    Disconnected(StreamId),
    /// No more faults come: finish what is begun and begin nothing.
    Finish,
}

/// What a client wants done.
#[derive(Debug)]
pub enum Action {
    /// Open a stream to that node.
    Open(usize),
    /// Send bytes.
    Send(StreamId, Vec<bytes::Bytes>),
    /// Close a stream.
    Close(StreamId),
    /// Be woken at that time, if no earlier time was asked for since.
    WakeAt(u64),
    /// Tell the checkers.
    Tell(Fact),
}

/// The hands of a client.
#[derive(Debug)]
pub struct Hands<'a> {
    /// True time, which the client uses as its own clock.
    pub now: u64,
    /// Chance for what clients do.
    pub rng: &'a mut crate::rng::Rng,
    /// The node that it takes for the whole cluster, or that it asks first.
    pub home: usize,
    /// How many nodes are one cluster with it; 1 where it knows no other.
    pub cluster: usize,
    pub(super) next_stream: u64,
    pub(super) actions: Vec<Action>,
}

impl Hands<'_> {
    /// Returns the node of a host that a client was told: `node-N` is the one with the id N.
    pub fn node_of(&self, host: &str) -> usize {
        let id: Option<usize> = host.strip_prefix("node-").and_then(|id| id.parse().ok());
        match id {
            Some(id @ 1..) if self.cluster > 1 && id <= self.cluster => id - 1,
            _ => self.home,
        }
    }

    /// Opens a stream to a node; `Connected` or `Disconnected` follows.
    pub fn connect(&mut self, node: usize) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        self.actions.push(Action::Open(node));
        stream
    }

    /// Sends bytes.
    pub fn send(&mut self, stream: StreamId, parts: Vec<bytes::Bytes>) {
        self.actions.push(Action::Send(stream, parts));
    }

    /// Closes a stream; `Disconnected` follows.
    pub fn close(&mut self, stream: StreamId) {
        self.actions.push(Action::Close(stream));
    }

    /// Asks to be woken at a true time.
    pub fn wake_at(&mut self, at: u64) {
        self.actions.push(Action::WakeAt(at));
    }

    /// Tells the checkers what was seen.
    pub fn tell(&mut self, fact: Fact) {
        self.actions.push(Action::Tell(fact));
    }
}

#[cfg(test)]
impl<'a> Hands<'a> {
    /// Makes hands that only note what is done with them.
    pub(crate) fn idle(
        now: u64,
        cluster: usize,
        next_stream: u64,
        rng: &'a mut crate::rng::Rng,
    ) -> Self {
        Self { now, rng, home: 0, cluster, next_stream, actions: Vec::new() }
    }

    /// Returns what was done.
    pub(crate) fn actions(&self) -> &[Action] {
        &self.actions
    }
}

/// A client of the nodes, with a will of its own.
pub trait Actor {
    /// Takes one event.
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent);

    /// Says what it still waits for; `None` where it has finished.
    fn pending(&self) -> Option<String>;

    /// Returns whether it takes part in the run.
    fn takes_part(&self) -> bool {
        true
    }
}
