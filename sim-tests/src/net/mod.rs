//! The network: byte streams between any two addresses.
//!
//! Within one stream bytes keep their order; nothing else does. What is sent is cut into pieces
//! down to one byte, delayed, and joined again by chance; a stream may be reset behind any byte and
//! stay half open after its peer has died. Each way from one address to another may be in trouble of its
//! own: cut, late, lossy, slow, narrow, crumbling, resetting, or silent about deaths.
//!
//! Invariants:
//! 1. A receiver that does not read fills the window, and then the sender waits.
//! 2. A closed stream delivers what was sent before the close, a reset one need not.

mod link;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::rng::Rng;
use link::Link;
pub use link::LinkTrouble;

/// Whom one can connect to or from: a node or a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// A node.
    Node(usize),
    /// A client.
    Client(usize),
}

impl Address {
    /// Returns a number of its own, for chance.
    fn number(self) -> u64 {
        match self {
            Self::Node(node) => node as u64,
            Self::Client(client) => (1 << 32) | client as u64,
        }
    }
}

/// One stream, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StreamId(pub u64);

/// An end of a stream: 0 for who opened it, 1 for who accepted it.
pub type Side = usize;

/// What the network is like. Probabilities are in 1/1000.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetOptions {
    /// Mean delay of a piece, in nanoseconds.
    pub latency: u64,
    /// Most bytes that are under way or wait to be read, for each direction.
    pub window: usize,
    /// How often a send is cut into pieces.
    pub split: u32,
    /// How often a send ends in a reset of the stream behind one of its bytes.
    pub reset: u32,
    /// How often an end learns nothing of the death of the other.
    pub half_open: u32,
    /// How often what is under way on a stream that its sender drops arrives all the same, much later.
    pub lingering: u32,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            latency: 100_000,
            window: 256 * 1024,
            split: 200,
            reset: 0,
            half_open: 0,
            lingering: 0,
        }
    }
}

/// How often the network did what.
#[derive(Clone, Copy, Default, Debug)]
pub struct NetCounters {
    /// Streams opened.
    pub opened: u64,
    /// Bytes delivered.
    pub delivered: u64,
    /// Sends that were cut into pieces.
    pub splits: u64,
    /// Streams that were reset.
    pub resets: u64,
    /// Ends that were left half open.
    pub half_open: u64,
    /// Streams that were dropped, and what was under way on them came late.
    pub lingering: u64,
    /// Pieces held up by a cut.
    pub held: u64,
    /// Pieces that were lost and sent again.
    pub stalls: u64,
}

/// What an end is told.
#[derive(Debug)]
pub enum Delivery {
    /// Bytes arrived.
    Received(BytesMut),
    /// That many bytes were taken over by the operating system.
    Transmitted(u64),
    /// The stream is gone.
    Closed,
}

/// A moment at which an end may have something to learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// When.
    pub at: u64,
    /// Which stream.
    pub stream: StreamId,
    /// Which end.
    pub side: Side,
}

/// The way from one end to the other, seen from the receiver.
#[derive(Debug)]
struct Way {
    /// What the sender has not yet got rid of.
    queued: VecDeque<Bytes>,
    queued_bytes: usize,
    /// What is under way, with the time of arrival.
    flying: VecDeque<(u64, Bytes)>,
    /// What has arrived and is not read yet.
    arrived: BytesMut,
    flying_bytes: usize,
    last_arrival: u64,
    /// The sender said that no more will come.
    ended: bool,
    /// What happens on this way, whatever happens on others.
    chance: Rng,
}

impl Way {
    fn new(chance: Rng) -> Self {
        Self {
            queued: VecDeque::new(),
            queued_bytes: 0,
            flying: VecDeque::new(),
            arrived: BytesMut::new(),
            flying_bytes: 0,
            last_arrival: 0,
            ended: false,
            chance,
        }
    }

    /// Loses all that is under way.
    fn clear(&mut self) {
        *self = Self { last_arrival: self.last_arrival, ..Self::new(self.chance.clone()) };
    }

    /// Draws the delay of a piece around `latency`.
    fn delay(&mut self, latency: u64) -> u64 {
        self.chance.exponential(latency) + 1
    }

    fn room(&self, window: usize) -> usize {
        window.saturating_sub(self.flying_bytes + self.arrived.len())
    }

    fn is_drained(&self) -> bool {
        self.queued.is_empty() && self.flying.is_empty() && self.arrived.is_empty()
    }
}

#[derive(Debug)]
struct End {
    address: Address,
    reading: bool,
    want: usize,
    /// Bytes taken over that the end has not been told of.
    transmitted: u64,
    /// When the end has learnt, or will learn, that the stream is gone.
    closed: Option<u64>,
    /// The end exists no more; nothing is told to it.
    gone: bool,
    /// The end itself has dropped the stream, so no trouble on the way keeps it from knowing.
    dropped: bool,
}

#[derive(Debug)]
struct Stream {
    ends: [End; 2],
    /// The ways towards end 0 and towards end 1.
    ways: [Way; 2],
}

/// All streams.
#[derive(Debug)]
pub struct SimNet {
    options: NetOptions,
    streams: BTreeMap<StreamId, Stream>,
    /// What is wrong between two addresses, in one direction.
    links: BTreeMap<(Address, Address), Link>,
    next: u64,
    /// How many streams there were between two addresses.
    opened: BTreeMap<(Address, Address), u64>,
    rng: Rng,
    counters: NetCounters,
}

/// How much later that is, in the mean, in nanoseconds.
const LINGERS: u64 = 1_500_000_000;

const DEFAULT_WANT: usize = 64 * 1024;

impl SimNet {
    /// Makes a network without streams.
    pub fn new(options: NetOptions, rng: Rng) -> Self {
        Self {
            options,
            streams: BTreeMap::new(),
            links: BTreeMap::new(),
            next: 0,
            opened: BTreeMap::new(),
            rng,
            counters: NetCounters::default(),
        }
    }

    /// Returns the options, for a fault to change them.
    pub fn options_mut(&mut self) -> &mut NetOptions {
        &mut self.options
    }

    /// Returns how often what happened.
    pub fn counters(&self) -> NetCounters {
        self.counters
    }

    /// Opens a stream between two addresses. Also returns how long it takes to be there.
    pub fn open(&mut self, from: Address, to: Address) -> (StreamId, u64) {
        let end = |address| End {
            address,
            reading: true,
            want: DEFAULT_WANT,
            transmitted: 0,
            closed: None,
            gone: false,
            dropped: false,
        };
        let id = StreamId(self.next);
        self.next += 1;
        self.counters.opened += 1;
        let nth = self.opened.entry((from, to)).or_insert(0);
        let chance = self.rng.child(from.number()).child(to.number()).child(*nth);
        *nth += 1;
        let mut ways = [0, 1].map(|side| Way::new(chance.child(side)));
        let delay = ways[1].delay(self.options.latency);
        self.streams.insert(id, Stream { ends: [end(from), end(to)], ways });
        (id, delay)
    }

    /// Returns the number that the next stream will have.
    pub fn next_stream(&self) -> u64 {
        self.next
    }

    /// Returns whether nothing passes from one address to the other.
    pub fn is_cut(&self, from: Address, to: Address) -> bool {
        self.link(from, to).cut
    }

    fn link(&self, from: Address, to: Address) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Puts the way from one address to the other into trouble. What a cut stops is held until it ends.
    pub fn trouble(&mut self, from: Address, to: Address, trouble: LinkTrouble) {
        self.links.entry((from, to)).or_default().set(trouble);
    }

    /// Ends a trouble; what was held arrives from now on.
    pub fn relieve(
        &mut self,
        at: u64,
        (from, to): (Address, Address),
        trouble: LinkTrouble,
        out: &mut Vec<Notice>,
    ) {
        if let Some(link) = self.links.get_mut(&(from, to)) {
            link.clear(trouble);
        }
        self.look_again(
            at,
            |stream, side| (stream.ends[1 - side].address, stream.ends[side].address) == (from, to),
            out,
        );
    }

    /// Ends every trouble between addresses; what was held arrives from now on.
    pub fn heal(&mut self, at: u64, out: &mut Vec<Notice>) {
        self.links.clear();
        self.look_again(at, |_, _| true, out);
    }

    /// Lets the ends look again that may have something to learn now.
    fn look_again(
        &mut self,
        at: u64,
        concerns: impl Fn(&Stream, Side) -> bool,
        out: &mut Vec<Notice>,
    ) {
        let mut waiting = Vec::new();
        for (&stream, state) in &self.streams {
            for side in (0..2).filter(|side| concerns(state, *side)) {
                let way = &state.ways[side];
                if !way.flying.is_empty() || state.ends[side].closed.is_some() {
                    out.push(Notice { at: at + 1, stream, side });
                }
                if !way.queued.is_empty() {
                    waiting.push((stream, 1 - side));
                }
            }
        }
        // A window that was made small may have grown.
        for (stream, side) in waiting {
            self.pump(at, stream, side, out);
        }
    }

    /// Sends bytes from one end.
    pub fn send(
        &mut self,
        at: u64,
        stream: StreamId,
        side: Side,
        parts: impl IntoIterator<Item = Bytes>,
        out: &mut Vec<Notice>,
    ) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if state.ends[side].closed.is_some() || state.ends[side].gone {
            return;
        }
        let way = &mut state.ways[1 - side];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            way.queued_bytes += part.len();
            way.queued.push_back(part);
        }
        let link = (state.ends[side].address, state.ends[1 - side].address);
        let link = self.links.get(&link).copied().unwrap_or_default();
        let reset = way.chance.chance(self.options.reset.max(link.reset));
        self.pump(at, stream, side, out);
        if reset {
            self.reset_behind_a_byte(at, stream, side, out);
        }
    }

    /// Moves queued bytes of an end into the window.
    fn pump(&mut self, at: u64, stream: StreamId, side: Side, out: &mut Vec<Notice>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let other = 1 - side;
        let mut taken = 0;
        let addresses = (state.ends[side].address, state.ends[other].address);
        let mut link = self.links.get(&addresses).copied().unwrap_or_default();
        let window = link.window(self.options.window);
        loop {
            let way = &mut state.ways[other];
            let room = way.room(window);
            let Some(front) = way.queued.front_mut() else { break };
            // A window that opens byte by byte would be filled byte by byte for ever.
            if room < front.len().min(window / 4).max(1) {
                break;
            }
            let mut most = front.len().min(room);
            if way.chance.chance(self.options.split.max(link.split)) {
                self.counters.splits += 1;
                most = if link.split > 0 || way.chance.chance(300) {
                    1
                } else {
                    1 + way.chance.index(most)
                };
            }
            most = link.piece(most);
            let piece = front.split_to(most);
            if front.is_empty() {
                way.queued.pop_front();
            }
            way.queued_bytes -= most;
            taken += most as u64;
            let mut delay = way.delay(self.options.latency) + link.delay(&mut way.chance);
            if way.chance.chance(link.stall) {
                self.counters.stalls += 1;
                delay += link::RESEND + way.chance.exponential(link::RESEND);
            }
            let arrival = (link.passes(at, most) + delay).max(way.last_arrival + 1);
            way.last_arrival = arrival;
            way.flying_bytes += most;
            way.flying.push_back((arrival, piece));
            out.push(Notice { at: arrival, stream, side: other });
        }
        if let Some(known) = self.links.get_mut(&addresses) {
            *known = link;
        }
        if taken > 0 {
            state.ends[side].transmitted += taken;
            out.push(Notice { at: at + 1, stream, side });
        }
        let way = &state.ways[other];
        if way.ended && way.queued.is_empty() {
            out.push(Notice { at: way.last_arrival.max(at) + 1, stream, side: other });
            out.push(Notice { at: at + 1, stream, side });
        }
    }

    fn reset_behind_a_byte(
        &mut self,
        at: u64,
        stream: StreamId,
        side: Side,
        out: &mut Vec<Notice>,
    ) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let way = &mut state.ways[1 - side];
        // What is beyond the byte never arrives; what is before it does, and then the reset.
        let keep = way.chance.index(way.flying_bytes + 1);
        let mut kept = 0;
        let mut flying = VecDeque::new();
        for (arrival, mut piece) in std::mem::take(&mut way.flying) {
            piece.truncate(keep - kept);
            kept += piece.len();
            if !piece.is_empty() {
                flying.push_back((arrival, piece));
            }
        }
        let last = flying.back().map_or(at, |(arrival, _)| *arrival);
        (way.flying, way.flying_bytes) = (flying, kept);
        // A window that opens meanwhile brings none of it.
        way.queued.clear();
        way.queued_bytes = 0;
        self.counters.resets += 1;
        self.close_both(stream, [last + 1, last + 1], out);
    }

    /// Resets a stream; what is under way is lost.
    pub fn reset(&mut self, at: u64, stream: StreamId, out: &mut Vec<Notice>) {
        if let Some(state) = self.streams.get_mut(&stream) {
            let times = state.ways.each_mut().map(|way| {
                way.clear();
                at + way.delay(self.options.latency)
            });
            self.counters.resets += 1;
            self.close_both(stream, times, out);
        }
    }

    /// Drops a stream from one end, which knows at once; the other end learns of it as of a reset.
    pub fn abort(&mut self, at: u64, stream: StreamId, side: Side, out: &mut Vec<Notice>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.ends[side].dropped = true;
        let way = &mut state.ways[1 - side];
        let most = self.options.lingering;
        if most == 0 || way.flying.is_empty() || !way.chance.chance(most) {
            return self.reset(at, stream, out);
        }
        self.counters.lingering += 1;
        let later = way.chance.exponential(LINGERS);
        way.queued.clear();
        way.queued_bytes = 0;
        for (arrival, _) in &mut way.flying {
            *arrival += later;
            out.push(Notice { at: *arrival, stream, side: 1 - side });
        }
        way.last_arrival += later;
        let last = way.last_arrival;
        state.ways[side].clear();
        let mut times = [last + 1; 2];
        times[side] = at + 1;
        self.close_both(stream, times, out);
    }

    /// Returns whether a stream that is being opened is still wanted.
    pub fn is_wanted(&self, stream: StreamId) -> bool {
        self.streams
            .get(&stream)
            .is_some_and(|state| state.ends[0].closed.is_none() && !state.ways[1].ended)
    }

    fn close_both(&mut self, stream: StreamId, times: [u64; 2], out: &mut Vec<Notice>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        for (side, at) in times.into_iter().enumerate() {
            let end = &mut state.ends[side];
            if end.closed.is_none() {
                end.closed = Some(at);
                out.push(Notice { at, stream, side });
            }
        }
    }

    /// Closes a stream from one end, once what it has sent is on its way.
    pub fn close(&mut self, at: u64, stream: StreamId, side: Side, out: &mut Vec<Notice>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.ways[1 - side].ended = true;
        // The closing end reads no more.
        state.ends[side].reading = false;
        self.pump(at, stream, side, out);
    }

    /// The process at one end dies. The other end learns of it as of a reset, or never.
    pub fn die(&mut self, at: u64, stream: StreamId, side: Side, out: &mut Vec<Notice>) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let link = (state.ends[side].address, state.ends[1 - side].address);
        let silent = self.links.get(&link).is_some_and(|link| link.silent);
        let way = &mut state.ways[1 - side];
        let half_open = silent || way.chance.chance(self.options.half_open);
        let delay = way.delay(self.options.latency);
        state.ends[side].gone = true;
        state.ways[1 - side].queued.clear();
        state.ways[1 - side].queued_bytes = 0;
        if half_open {
            self.counters.half_open += 1;
            return;
        }
        let last = state.ways[1 - side].last_arrival.max(at + delay) + 1;
        let other = &mut state.ends[1 - side];
        if other.closed.is_none() {
            other.closed = Some(last);
            out.push(Notice { at: last, stream, side: 1 - side });
        }
    }

    /// Says whether an end reads.
    pub fn set_reading(
        &mut self,
        at: u64,
        stream: StreamId,
        side: Side,
        on: bool,
        out: &mut Vec<Notice>,
    ) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.ends[side].reading = on;
            if on {
                out.push(Notice { at: at + 1, stream, side });
            }
        }
    }

    /// Says how many bytes an end takes at most at once.
    pub fn set_want(&mut self, stream: StreamId, side: Side, bytes: usize) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.ends[side].want = bytes.max(1);
        }
    }

    /// Returns what an end is told at that moment, at most one thing for each call: call again
    /// until there is none.
    pub fn deliver(
        &mut self,
        at: u64,
        stream: StreamId,
        side: Side,
        out: &mut Vec<Notice>,
    ) -> Option<Delivery> {
        let state = self.streams.get_mut(&stream)?;
        if state.ends[side].gone {
            return None;
        }
        let link = (state.ends[1 - side].address, state.ends[side].address);
        let held = self.links.get(&link).is_some_and(|link| link.cut);
        let way = &mut state.ways[side];
        let arrived = way.flying.iter().take_while(|(arrival, _)| *arrival <= at).count();
        for (_, piece) in way.flying.drain(..if held { 0 } else { arrived }) {
            way.flying_bytes -= piece.len();
            way.arrived.extend_from_slice(&piece);
        }
        self.counters.held += u64::from(held);
        if state.ends[side].transmitted > 0 {
            let bytes = std::mem::take(&mut state.ends[side].transmitted);
            return Some(Delivery::Transmitted(bytes));
        }
        if state.ends[side].reading && !way.arrived.is_empty() {
            let most = state.ends[side].want.min(way.arrived.len());
            let bytes = way.arrived.split_to(most);
            self.counters.delivered += bytes.len() as u64;
            // The window has opened: the other end may go on.
            self.pump(at, stream, 1 - side, out);
            return Some(Delivery::Received(BytesMut::from(&bytes[..])));
        }
        let own_end = state.ways[1 - side].ended && state.ways[1 - side].queued.is_empty();
        let way = &state.ways[side];
        let peer_end = !held && way.ended && way.is_drained();
        let closed = state.ends[side].closed.is_some_and(|closes| {
            closes <= at
                && (!held || state.ends[side].dropped)
                && (way.flying.is_empty() && way.arrived.is_empty() || !state.ends[side].reading)
        });
        if own_end || peer_end || closed {
            state.ends[side].gone = true;
            state.ends[side].closed = Some(at);
            if state.ends.iter().all(|end| end.gone) {
                self.streams.remove(&stream);
            }
            return Some(Delivery::Closed);
        }
        None
    }

    /// Returns how many bytes the senders at an address have not yet got rid of, on the fullest
    /// stream.
    pub fn most_queued(&self, address: Address) -> u64 {
        let queued = |stream: &Stream, side: Side| stream.ways[1 - side].queued_bytes as u64;
        self.streams
            .values()
            .flat_map(|stream| (0..2).map(move |side| (stream, side)))
            .filter(|(stream, side)| stream.ends[*side].address == address)
            .map(|(stream, side)| queued(stream, side))
            .max()
            .unwrap_or(0)
    }

    /// Returns the streams that end at an address, each with its side.
    pub fn streams_of(&self, address: Address) -> Vec<(StreamId, Side)> {
        let mut found = Vec::new();
        for (&id, stream) in &self.streams {
            for side in 0..2 {
                if stream.ends[side].address == address && !stream.ends[side].gone {
                    found.push((id, side));
                }
            }
        }
        found
    }
}
