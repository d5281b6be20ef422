//! The network: byte streams between any two addresses.
//!
//! Within one stream bytes keep their order; nothing else does. What is sent is cut into pieces
//! down to one byte, delayed, and joined again by chance; a stream may be reset behind any byte,
//! stay half open after its peer has died, and be held up by a cut between two addresses.
//!
//! Invariants:
//! 1. A receiver that does not read fills the window, and then the sender waits.
//! 2. A closed stream delivers what was sent before the close, a reset one need not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// Whom one can connect to or from: a node or a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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
}

impl Default for NetOptions {
    fn default() -> Self {
        Self { latency: 100_000, window: 256 * 1024, split: 200, reset: 0, half_open: 0 }
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
    /// Pieces held up by a cut.
    pub held: u64,
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
    cuts: BTreeSet<(Address, Address)>,
    next: u64,
    /// How many streams there were between two addresses.
    opened: BTreeMap<(Address, Address), u64>,
    rng: Rng,
    counters: NetCounters,
}

const DEFAULT_WANT: usize = 64 * 1024;

impl SimNet {
    /// Makes a network without streams.
    pub fn new(options: NetOptions, rng: Rng) -> Self {
        Self {
            options,
            streams: BTreeMap::new(),
            cuts: BTreeSet::new(),
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
        self.cuts.contains(&(from, to))
    }

    /// Stops everything from one address to the other; it is held until the cut is healed.
    pub fn cut(&mut self, from: Address, to: Address) {
        self.cuts.insert((from, to));
    }

    /// Heals every cut; what was held arrives from now on.
    pub fn heal(&mut self, at: u64, out: &mut Vec<Notice>) {
        self.cuts.clear();
        for (&stream, state) in &self.streams {
            for side in 0..2 {
                if !state.ways[side].flying.is_empty() || state.ends[side].closed.is_some() {
                    out.push(Notice { at: at + 1, stream, side });
                }
            }
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
        let reset = way.chance.chance(self.options.reset);
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
        loop {
            let way = &mut state.ways[other];
            let room = way.room(self.options.window);
            let Some(front) = way.queued.front_mut() else { break };
            // A window that opens byte by byte would be filled byte by byte for ever.
            if room < front.len().min(self.options.window / 4).max(1) {
                break;
            }
            let mut most = front.len().min(room);
            if way.chance.chance(self.options.split) {
                self.counters.splits += 1;
                most = if way.chance.chance(300) { 1 } else { 1 + way.chance.index(most) };
            }
            let piece = front.split_to(most);
            if front.is_empty() {
                way.queued.pop_front();
            }
            way.queued_bytes -= most;
            taken += most as u64;
            let arrival = (at + way.delay(self.options.latency)).max(way.last_arrival + 1);
            way.last_arrival = arrival;
            way.flying_bytes += most;
            way.flying.push_back((arrival, piece));
            out.push(Notice { at: arrival, stream, side: other });
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
        let way = &mut state.ways[1 - side];
        let half_open = way.chance.chance(self.options.half_open);
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
        let held = self.cuts.contains(&link);
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
                && !held
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream as Chance;

    const A: Address = Address::Client(0);
    const B: Address = Address::Node(0);

    struct Bench {
        net: SimNet,
        notices: Vec<Notice>,
        received: [Vec<u8>; 2],
        largest: usize,
        transmitted: [u64; 2],
        closed: [bool; 2],
        at: u64,
    }

    impl Bench {
        fn new(options: NetOptions, seed: u64) -> (Self, StreamId) {
            let mut net = SimNet::new(options, Rng::new(seed, Chance::Net));
            let (stream, _) = net.open(A, B);
            let bench = Self {
                net,
                notices: Vec::new(),
                received: [Vec::new(), Vec::new()],
                largest: 0,
                transmitted: [0; 2],
                closed: [false; 2],
                at: 0,
            };
            (bench, stream)
        }

        fn send(&mut self, stream: StreamId, side: Side, bytes: &[u8]) {
            let bytes = Bytes::copy_from_slice(bytes);
            self.net.send(self.at, stream, side, [bytes], &mut self.notices);
        }

        /// Lets time pass until nothing more happens.
        fn settle(&mut self) {
            while !self.notices.is_empty() {
                self.notices.sort_by_key(|notice| std::cmp::Reverse(notice.at));
                let notice = self.notices.pop().expect("not empty");
                self.at = self.at.max(notice.at);
                while let Some(delivery) =
                    self.net.deliver(self.at, notice.stream, notice.side, &mut self.notices)
                {
                    match delivery {
                        Delivery::Received(bytes) => {
                            self.largest = self.largest.max(bytes.len());
                            self.received[notice.side].extend_from_slice(&bytes);
                        }
                        Delivery::Transmitted(bytes) => self.transmitted[notice.side] += bytes,
                        Delivery::Closed => self.closed[notice.side] = true,
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_arrive_in_order_however_they_are_cut() {
        let sent: Vec<u8> = (0..5000).map(|i| i as u8).collect();
        for seed in 0..20 {
            let (mut bench, stream) =
                Bench::new(NetOptions { split: 900, ..NetOptions::default() }, seed);
            for piece in sent.chunks(700) {
                bench.send(stream, 0, piece);
            }
            bench.settle();
            assert_eq!(bench.received[1], sent);
            assert_eq!(bench.transmitted[0], 5000);
        }
    }

    #[test]
    fn pieces_down_to_one_byte_are_delivered_and_joined() {
        let (mut bench, stream) =
            Bench::new(NetOptions { split: 1000, ..NetOptions::default() }, 3);
        bench.net.set_want(stream, 1, 7);
        bench.send(stream, 0, &[1; 500]);
        bench.settle();
        assert_eq!(bench.received[1].len(), 500);
        assert!(bench.largest <= 7 && bench.net.counters().splits > 5);
    }

    #[test]
    fn a_full_window_does_not_crumble_what_follows() {
        let options = NetOptions { split: 700, window: 2_048, ..NetOptions::default() };
        let (mut bench, stream) = Bench::new(options, 5);
        bench.send(stream, 0, &vec![1; 100_000]);
        bench.settle();
        assert_eq!(bench.received[1].len(), 100_000);
        let splits = bench.net.counters().splits;
        assert!(splits < 1_000, "{splits} pieces of 100 bytes or less on the average");
    }

    #[test]
    fn who_does_not_read_stops_the_sender_at_the_window() {
        let (mut bench, stream) =
            Bench::new(NetOptions { window: 1000, ..NetOptions::default() }, 1);
        bench.net.set_reading(0, stream, 1, false, &mut bench.notices);
        bench.send(stream, 0, &[1; 5000]);
        bench.settle();
        assert_eq!((bench.transmitted[0], bench.received[1].len()), (1000, 0));

        bench.net.set_reading(bench.at, stream, 1, true, &mut bench.notices);
        bench.settle();
        assert_eq!((bench.transmitted[0], bench.received[1].len()), (5000, 5000));
    }

    #[test]
    fn a_close_lets_what_was_sent_arrive_and_tells_both_ends() {
        let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
        bench.send(stream, 1, &[1; 3000]);
        bench.net.close(0, stream, 1, &mut bench.notices);
        bench.settle();
        assert_eq!(bench.received[0].len(), 3000);
        assert_eq!(bench.closed, [true, true]);
    }

    #[test]
    fn a_reset_strikes_behind_any_byte() {
        let mut lengths = BTreeSet::new();
        for seed in 0..60 {
            let (mut bench, stream) =
                Bench::new(NetOptions { reset: 1000, ..NetOptions::default() }, seed);
            bench.send(stream, 0, &[1; 10]);
            bench.settle();
            assert_eq!(bench.closed, [true, true]);
            lengths.insert(bench.received[1].len());
        }
        assert!(lengths.contains(&0) && lengths.contains(&10) && lengths.len() > 6, "{lengths:?}");
    }

    #[test]
    fn a_peer_that_died_half_open_is_never_heard_of() {
        for (half_open, told) in [(0, true), (1000, false)] {
            let (mut bench, stream) =
                Bench::new(NetOptions { half_open, ..NetOptions::default() }, 1);
            bench.net.die(0, stream, 1, &mut bench.notices);
            bench.settle();
            assert_eq!(bench.closed, [told, false]);
        }
    }

    #[test]
    fn a_cut_holds_one_direction_until_it_is_healed() {
        let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
        bench.net.cut(A, B);
        bench.send(stream, 0, b"held");
        bench.send(stream, 1, b"passes");
        bench.settle();
        assert_eq!((&bench.received[1][..], &bench.received[0][..]), (&b""[..], &b"passes"[..]));

        let at = bench.at;
        bench.net.heal(at, &mut bench.notices);
        bench.settle();
        assert_eq!(bench.received[1], b"held");
    }
}
