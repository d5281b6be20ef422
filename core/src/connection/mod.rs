//! One client connection: bytes in, frames out; answers in, bytes out, in the order of the requests.
//!
//! A connection never looks into a request beyond its key, and decides nothing about its content.
//!
//! Invariants:
//! 1. Answers leave in the order in which their requests came, whatever is finished first.
//! 2. Memory is charged as bytes arrive, never as a size field announces.
//! 3. Requests decided and not answered are bounded in number and bytes; one frame always passes.
//! 4. A peer that does not read its answers is not read from, and is not waited for without end.
//! 5. After it was closed a connection has no effect.
//!
//! Sources: Kafka protocol guide, "Network" and "Common Request and Response Structure"; KIP-498.

pub mod flow;
pub mod frame;
pub mod fuzz;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::config::Limits;
use crate::digest::Digest;
use crate::ids::{ConnectionId, ListenerIndex};
use crate::io::{Effect, Effects};
use crate::time::Instant;

use flow::Flow;
use frame::{FrameError, Splitter};

/// Bytes of unread answers that never hold up the next request.
const UNREAD_BYTES_SMALL: u64 = 1 << 20;

/// Names a request: its connection and its place there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId {
    /// The connection.
    pub connection: ConnectionId,
    /// Its place among the requests of the connection, from 0.
    pub sequence: u64,
}

impl RequestId {
    /// Returns the range of every request of a connection.
    pub const fn all_of(connection: ConnectionId) -> RangeInclusive<Self> {
        Self { connection, sequence: 0 }..=Self { connection, sequence: u64::MAX }
    }
}

/// State of one connection.
#[derive(Clone, Debug)]
pub struct Connection {
    id: ConnectionId,
    listener: ListenerIndex,
    peer: Arc<str>,
    opened: Instant,
    splitter: Splitter,
    /// A whole frame that came in and may not be decided yet.
    held: Option<Bytes>,
    /// Requests decided and not yet answered, and answers that wait for earlier ones.
    slots: VecDeque<Slot>,
    /// Sequence of the first slot.
    first_sequence: u64,
    bytes_in_flight: usize,
    /// Bytes of answers that wait for earlier ones.
    waiting_bytes: u64,
    /// Bytes not yet handed over of each answer that was transmitted.
    unread: VecDeque<u64>,
    unread_bytes: u64,
    flow: Flow,
    /// When a request came, an answer left or the peer took bytes.
    last_progress: Instant,
    partial: Option<PartialFrame>,
    /// Whether somebody watches the deadline of an unfinished frame.
    is_partial_timer_armed: bool,
    closed: bool,
    aborted: bool,
}

/// How much of its peer's bytes a connection may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// None.
    Stopped,
    /// Up to its share, in small reads: the pool of unfinished frames is full.
    Shared,
    /// As many as come.
    Free,
}

/// A frame that is not whole.
#[derive(Clone, Copy, Debug)]
struct PartialFrame {
    /// More of it must have come by then.
    deadline: Instant,
    /// How much of it was there when it was looked at last.
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    request_bytes: usize,
    answer: Answer,
}

#[derive(Clone, Debug)]
enum Answer {
    /// Not decided yet.
    Pending,
    /// Decided: there is none (acks=0).
    Silent,
    /// Decided: these bytes.
    Parts(Vec<Bytes>),
}

impl Connection {
    /// Makes the state of a connection that has just been opened.
    pub fn new(id: ConnectionId, listener: ListenerIndex, peer: Arc<str>, now: Instant) -> Self {
        Self {
            id,
            listener,
            peer,
            opened: now,
            splitter: Splitter::default(),
            held: None,
            slots: VecDeque::new(),
            first_sequence: 0,
            bytes_in_flight: 0,
            waiting_bytes: 0,
            unread: VecDeque::new(),
            unread_bytes: 0,
            flow: Flow::default(),
            last_progress: now,
            partial: None,
            is_partial_timer_armed: false,
            closed: false,
            aborted: false,
        }
    }

    /// Returns when it was opened.
    pub const fn opened(&self) -> Instant {
        self.opened
    }

    /// Returns the listener that it came in by.
    pub const fn listener(&self) -> ListenerIndex {
        self.listener
    }

    /// Returns the other side's address, for words to people.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Returns whether it was closed by this side.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns how many bytes of unfinished or undecided frames it holds.
    pub fn buffered_bytes(&self) -> usize {
        self.splitter.len() + self.held.as_ref().map_or(0, Bytes::len)
    }

    /// Returns how many answer bytes it holds: those that the peer has not taken yet, and those that
    /// wait for earlier answers.
    pub const fn answer_bytes(&self) -> u64 {
        self.unread_bytes + self.waiting_bytes
    }

    /// Returns whether a frame has begun to come in and is not whole.
    pub fn is_receiving(&self) -> bool {
        self.held.is_none() && self.splitter.is_partial()
    }

    /// Returns whether any request waits for its answer.
    pub fn is_waiting(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Takes bytes that arrived.
    pub fn receive(&mut self, bytes: BytesMut) {
        if !self.closed {
            self.splitter.push(bytes);
        }
    }

    /// Takes the next whole frame, without its size field, if one is there and may be decided.
    ///
    /// # Errors
    /// [`FrameError`]: the peer does not speak the protocol and is to be closed.
    pub fn next_frame(
        &mut self,
        now: Instant,
        limits: &Limits,
    ) -> Result<Option<Bytes>, FrameError> {
        if self.closed || !self.admits(limits) {
            return Ok(None);
        }
        let frame = match self.held.take() {
            Some(frame) => Some(frame),
            None => self.splitter.next(limits.frame_bytes_max)?,
        };
        if frame.is_some() {
            self.last_progress = now;
            self.partial = None;
        }
        Ok(frame)
    }

    /// Puts a frame back that may not be decided yet; it comes first out of `next_frame`.
    pub fn hold(&mut self, frame: Bytes) {
        assert!(self.held.is_none(), "one frame at a time is taken and put back");
        self.held = Some(frame);
    }

    /// Returns whether another request may be decided.
    ///
    /// A peer that reads none of its answers gets no more of them once they are many and large, though
    /// it may have sent more requests in one piece.
    fn admits(&self, limits: &Limits) -> bool {
        if self.unread.len() >= limits.unread_answers_max && self.unread_bytes > UNREAD_BYTES_SMALL
        {
            return false;
        }
        self.slots.is_empty()
            || (self.slots.len() < limits.requests_in_flight_max
                && self.bytes_in_flight < limits.bytes_in_flight_max)
    }

    /// Opens the slot of a request of that many bytes and returns its sequence.
    pub fn begin(&mut self, request_bytes: usize) -> u64 {
        self.bytes_in_flight += request_bytes;
        self.slots.push_back(Slot { request_bytes, answer: Answer::Pending });
        self.first_sequence + self.slots.len() as u64 - 1
    }

    /// Decides the answer of a request; `None` for one that has none. Returns whether it was open.
    pub fn answer(&mut self, sequence: u64, parts: Option<Vec<Bytes>>) -> bool {
        if self.closed {
            return false;
        }
        let Some(index) = sequence.checked_sub(self.first_sequence) else { return false };
        let Some(slot) = self.slots.get_mut(index as usize) else { return false };
        if !matches!(slot.answer, Answer::Pending) {
            return false;
        }
        self.waiting_bytes += parts.iter().flatten().map(|part| part.len() as u64).sum::<u64>();
        slot.answer = parts.map_or(Answer::Silent, Answer::Parts);
        true
    }

    /// Sends every answer whose turn it is.
    pub fn flush(&mut self, now: Instant, fx: &mut Effects) {
        if self.closed {
            return;
        }
        let mut out = Vec::new();
        while let Some(slot) =
            self.slots.pop_front_if(|slot| !matches!(slot.answer, Answer::Pending))
        {
            self.first_sequence += 1;
            self.bytes_in_flight -= slot.request_bytes;
            self.last_progress = now;
            if let Answer::Parts(parts) = slot.answer {
                let bytes = parts.iter().map(|part| part.len() as u64).sum();
                self.unread.push_back(bytes);
                self.unread_bytes += bytes;
                self.waiting_bytes -= bytes;
                if out.is_empty() {
                    out = parts;
                } else {
                    out.extend(parts);
                }
            }
        }
        if !out.is_empty() {
            fx.push(Effect::Transmit { connection: self.id, parts: out });
        }
    }

    /// Takes note that the peer's side took bytes of earlier answers, and returns how many of them
    /// were owed.
    pub fn transmitted(&mut self, now: Instant, bytes: u64) -> u64 {
        let taken = bytes.min(self.unread_bytes);
        if taken > 0 {
            self.last_progress = now;
        }
        let mut left = taken;
        self.unread_bytes -= taken;
        while let Some(first) = self.unread.front_mut() {
            if *first > left {
                *first -= left;
                break;
            }
            left -= *first;
            self.unread.pop_front();
        }
        taken
    }

    /// Tells the driver to read or not, and how much, where that changes.
    ///
    /// `pace` is the shard's own word on it.
    pub fn steer(&mut self, now: Instant, limits: &Limits, pace: Pace, fx: &mut Effects) {
        if self.closed {
            return;
        }
        let is_welcome = match pace {
            Pace::Stopped => false,
            Pace::Shared => self.buffered_bytes() < limits.receive_share_bytes,
            Pace::Free => true,
        };
        let on = is_welcome
            && self.held.is_none()
            && self.admits(limits)
            && self.unread.len() < limits.unread_answers_max;
        // A peer that is not read from cannot be blamed for an unfinished frame.
        let is_timed = on && self.splitter.is_partial();
        self.partial = is_timed.then(|| self.timed(now, limits));
        let want = match pace {
            Pace::Shared => flow::READ_BYTES_SHARED,
            Pace::Stopped | Pace::Free => flow::want(self.splitter.missing()),
        };
        self.flow.steer(self.id, on, want, fx);
    }

    /// Puts the deadline of the unfinished frame off by what has come of it.
    fn timed(&self, now: Instant, limits: &Limits) -> PartialFrame {
        let bytes = self.splitter.len();
        let Some(before) = self.partial else {
            return PartialFrame { deadline: now + limits.partial_frame_grace, bytes };
        };
        let came = bytes.saturating_sub(before.bytes) as u64;
        let rate = limits.partial_frame_bytes_per_second.max(1);
        let earned = Duration::from_nanos(came.saturating_mul(1_000_000_000) / rate);
        // What came in one piece buys no hours.
        let latest = now + limits.partial_frame_credit_max;
        PartialFrame { deadline: (before.deadline + earned).min(latest), bytes }
    }

    /// Returns when an unfinished frame will have been too slow, `None` while there is none.
    pub fn partial_frame_deadline(&self) -> Option<Instant> {
        self.partial.map(|partial| partial.deadline)
    }

    /// Returns the deadline of an unfinished frame that nobody watches yet; it is watched from here.
    pub fn arm_partial_frame_timer(&mut self) -> Option<Instant> {
        if self.is_partial_timer_armed {
            return None;
        }
        let deadline = self.partial_frame_deadline();
        self.is_partial_timer_armed = deadline.is_some();
        deadline
    }

    /// Takes note that the deadline of an unfinished frame was looked at.
    pub const fn partial_frame_timer_fired(&mut self) {
        self.is_partial_timer_armed = false;
    }

    /// Returns when it will have been idle for too long, `None` while the shard owes an answer.
    ///
    /// A peer that takes nothing of what it was sent is idle, whatever it asked for.
    pub fn idle_deadline(&self, limits: &Limits) -> Option<Instant> {
        if self.closed {
            return (self.unread_bytes > 0).then(|| self.last_progress + limits.close_linger);
        }
        self.slots.is_empty().then(|| self.last_progress + limits.idle_max)
    }

    /// Closes it, once what was to be transmitted has gone.
    pub fn close(&mut self, fx: &mut Effects) {
        if !self.closed {
            self.closed = true;
            self.slots.clear();
            self.waiting_bytes = 0;
            self.held = None;
            self.splitter = Splitter::default();
            self.partial = None;
            fx.push(Effect::Close { connection: self.id });
        }
    }

    /// Ends a connection whose peer takes nothing of what it was sent, with what is unsent.
    pub fn abort(&mut self, fx: &mut Effects) {
        if !self.aborted {
            self.aborted = true;
            fx.push(Effect::Abort { connection: self.id });
        }
    }

    /// Takes the connection's state into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest
            .number(self.id.0)
            .number(self.first_sequence)
            .number(self.slots.len() as u64)
            .number(self.buffered_bytes() as u64)
            .number(self.unread_bytes)
            .number(self.waiting_bytes)
            .number(self.bytes_in_flight as u64)
            .number(u64::from(self.held.is_some()))
            .number(self.last_progress.as_nanos())
            .shown(&(&self.unread, &self.flow, &self.partial, self.is_partial_timer_armed))
            .shown(&(self.closed, self.aborted));
        for slot in &self.slots {
            digest.number(slot.request_bytes as u64);
            match &slot.answer {
                Answer::Pending => digest.number(0),
                Answer::Silent => digest.number(1),
                Answer::Parts(parts) => {
                    for part in parts {
                        digest.bytes(part);
                    }
                    digest.number(2)
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { requests_in_flight_max: 3, bytes_in_flight_max: 100, ..Limits::default() }
    }

    fn connection() -> Connection {
        Connection::new(ConnectionId(7), ListenerIndex(0), "peer".into(), Instant::ZERO)
    }

    fn frames(count: usize, body: usize) -> BytesMut {
        let mut out = BytesMut::new();
        for _ in 0..count {
            out.extend_from_slice(&(body as u32).to_be_bytes());
            out.extend_from_slice(&vec![1; body]);
        }
        out
    }

    fn transmitted(fx: &mut Effects) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(effect) = fx.pop() {
            if let Effect::Transmit { parts, .. } = effect {
                out.extend(parts.concat());
            }
        }
        out
    }

    #[test]
    fn answers_leave_in_the_order_of_the_requests() {
        let (mut c, mut fx) = (connection(), Effects::default());
        let (a, b, d) = (c.begin(10), c.begin(10), c.begin(10));
        assert!(c.answer(b, Some(vec![Bytes::from_static(b"b")])));
        c.flush(Instant::ZERO, &mut fx);
        assert!(fx.pop().is_none(), "the first request has no answer yet");
        assert!(c.answer(a, None));
        assert!(c.answer(d, Some(vec![Bytes::from_static(b"d")])));
        c.flush(Instant::ZERO, &mut fx);
        assert_eq!(transmitted(&mut fx), b"bd");
        assert!(!c.is_waiting());
        assert!(!c.answer(a, None), "a request is answered once");
    }

    #[test]
    fn requests_in_flight_are_bounded_in_number_and_bytes() {
        let mut c = connection();
        c.receive(frames(4, 20));
        for _ in 0..3 {
            let frame = c.next_frame(Instant::ZERO, &limits()).expect("good").expect("whole");
            c.begin(frame.len());
        }
        assert_eq!(c.next_frame(Instant::ZERO, &limits()), Ok(None));

        let mut c = connection();
        c.receive(frames(2, 1000));
        let frame = c.next_frame(Instant::ZERO, &limits()).expect("good").expect("one passes");
        c.begin(frame.len());
        assert_eq!(c.next_frame(Instant::ZERO, &limits()), Ok(None));
    }

    #[test]
    fn a_peer_that_does_not_read_its_answers_is_not_read_from() {
        let (mut c, mut fx) = (connection(), Effects::default());
        for _ in 0..5 {
            let sequence = c.begin(10);
            c.answer(sequence, Some(vec![Bytes::from_static(b"1234")]));
        }
        c.flush(Instant::ZERO, &mut fx);
        c.steer(Instant::ZERO, &Limits::default(), Pace::Free, &mut fx);
        let mut reading = Vec::new();
        while let Some(effect) = fx.pop() {
            if let Effect::Reading { on, .. } = effect {
                reading.push(on);
            }
        }
        assert_eq!(reading, [false]);
        c.transmitted(Instant::ZERO, 3);
        c.steer(Instant::ZERO, &Limits::default(), Pace::Free, &mut fx);
        assert!(fx.pop().is_none(), "five answers are still not taken whole");
        c.transmitted(Instant::ZERO, 1);
        c.steer(Instant::ZERO, &Limits::default(), Pace::Free, &mut fx);
        assert!(matches!(fx.pop(), Some(Effect::Reading { on: true, .. })));
    }

    #[test]
    fn the_bytes_of_a_slow_frame_put_its_deadline_off_and_a_burst_buys_no_hours() {
        let (mut c, mut fx) = (connection(), Effects::default());
        let limits = Limits::default();
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let mut bytes = frames(1, 10 << 20);
        let mut come = |c: &mut Connection, ms, count| {
            c.receive(bytes.split_to(count));
            assert_eq!(c.next_frame(at(ms), &limits), Ok(None));
            c.steer(at(ms), &limits, Pace::Free, &mut fx);
            c.partial_frame_deadline()
        };
        assert_eq!(come(&mut c, 0, 100), Some(at(10_000)));
        assert_eq!(come(&mut c, 4000, 512), Some(at(10_500)));
        assert_eq!(come(&mut c, 9000, 2048), Some(at(12_500)));
        assert_eq!(come(&mut c, 9000, 5 << 20), Some(at(69_000)), "a minute at most");
        let rest = bytes.len();
        c.receive(bytes.split_to(rest));
        assert!(c.next_frame(at(9000), &limits).expect("good").is_some());
        c.steer(at(9000), &limits, Pace::Free, &mut fx);
        assert_eq!(c.partial_frame_deadline(), None);
    }

    #[test]
    fn a_peer_that_takes_nothing_is_idle_and_one_that_takes_a_little_is_not() {
        let (mut c, mut fx) = (connection(), Effects::default());
        let limits = Limits::default();
        let sequence = c.begin(10);
        assert_eq!(c.idle_deadline(&limits), None, "an answer is owed");
        c.answer(sequence, Some(vec![Bytes::from_static(b"1234")]));
        let (one, two) = (Instant::from_nanos(1_000_000_000), Instant::from_nanos(2_000_000_000));
        c.flush(one, &mut fx);
        assert_eq!(c.idle_deadline(&limits), Some(one + limits.idle_max));
        c.transmitted(two, 1);
        assert_eq!(c.idle_deadline(&limits), Some(two + limits.idle_max));
        c.close(&mut fx);
        assert_eq!(c.idle_deadline(&limits), Some(two + limits.close_linger));
        c.transmitted(two, 3);
        assert_eq!(c.idle_deadline(&limits), None, "the driver closes it");
    }

    #[test]
    fn a_closed_connection_has_no_effect() {
        let (mut c, mut fx) = (connection(), Effects::default());
        let sequence = c.begin(10);
        c.close(&mut fx);
        assert!(matches!(fx.pop(), Some(Effect::Close { .. })));
        assert!(!c.answer(sequence, Some(vec![Bytes::from_static(b"x")])));
        c.flush(Instant::ZERO, &mut fx);
        c.steer(Instant::ZERO, &limits(), Pace::Free, &mut fx);
        c.close(&mut fx);
        assert!(fx.pop().is_none());
    }
}
