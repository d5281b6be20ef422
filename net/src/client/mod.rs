//! The driver of core's client machines: sockets and timers for a producer, a reader or an
//! administrator of one task.
//!
//! Each connection has two small tasks, one for each direction. What a machine has sent and the socket
//! has not taken yet is bounded by the machine's own limits of requests in flight.

#[cfg(not(madsim))]
pub mod admin;
#[cfg(not(madsim))]
pub mod administrator;
#[cfg(not(madsim))]
pub mod background;
mod buffers;
#[cfg(not(madsim))]
pub mod call;
pub mod cluster;
#[cfg(not(madsim))]
pub mod consumer;
pub mod entries;
pub mod operations;
#[cfg(not(madsim))]
pub mod producer;
#[cfg(not(madsim))]
pub mod producer_transactions;
pub mod reach;
#[cfg(all(test, not(madsim)))]
mod tests;
pub mod transactions;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use mainspring_core::client::admin::Admin;
use mainspring_core::client::consumer::Consumer;
use mainspring_core::client::fetcher::Fetcher;
use mainspring_core::client::producer::Producer;
use mainspring_core::client::{Effect, Input, Link};
use mainspring_core::time::{Instant, Now};

use self::buffers::Buffers;
use self::reach::{Reach, Reachable};
use crate::clock::Clock;
#[cfg(not(madsim))]
use crate::nearby;
use crate::rt::{self, AsyncReadExt, AsyncWriteExt, JoinHandle, TcpStream, mpsc};

/// A client machine, as its driver sees it.
pub trait Machine {
    /// Takes an input in.
    fn handle(&mut self, now: Now, input: Input);
    /// Takes the next thing to be done.
    fn poll_effect(&mut self) -> Option<Effect>;
    /// Returns when the machine wants to be woken.
    fn next_deadline(&self) -> Option<Instant>;
    /// Takes what people should be told, a line each.
    fn take_warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

impl Machine for Admin {
    fn handle(&mut self, now: Now, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Self::poll_effect(self)
    }

    fn next_deadline(&self) -> Option<Instant> {
        Self::next_deadline(self)
    }
}

impl Machine for Producer {
    fn handle(&mut self, now: Now, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Self::poll_effect(self)
    }

    fn next_deadline(&self) -> Option<Instant> {
        Self::next_deadline(self)
    }

    fn take_warnings(&mut self) -> Vec<String> {
        Self::take_warnings(self)
    }
}

impl Machine for Consumer {
    fn handle(&mut self, now: Now, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Self::poll_effect(self)
    }

    fn next_deadline(&self) -> Option<Instant> {
        Self::next_deadline(self)
    }

    fn take_warnings(&mut self) -> Vec<String> {
        Self::take_warnings(self)
    }
}

impl Machine for Fetcher {
    fn handle(&mut self, now: Now, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Self::poll_effect(self)
    }

    fn next_deadline(&self) -> Option<Instant> {
        Self::next_deadline(self)
    }

    fn take_warnings(&mut self) -> Vec<String> {
        Self::take_warnings(self)
    }
}

/// A machine with its connections.
pub struct Driver<M> {
    machine: M,
    clock: Clock,
    links: BTreeMap<Link, Wire>,
    events: mpsc::UnboundedReceiver<Event>,
    report: mpsc::UnboundedSender<Event>,
    was_connected: bool,
    last_failure: Option<(io::Error, u32)>,
    reachable: Reachable,
    /// What there is to tell of brokers that come and go, while somebody takes it.
    told: Option<Vec<Reach>>,
}

/// What a connection's task tells the driver.
enum Event {
    Input(Input),
    /// It could not be made, and why.
    Refused(Link, io::Error),
    /// Whoever shares something with the machine has changed it.
    Poked,
}

/// Ends a driver's [`turn`](Driver::turn), from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Poke(mpsc::UnboundedSender<Event>);

impl Poke {
    /// Ends the turn that is under way, or the next one.
    pub(crate) fn poke(&self) {
        // A driver that is gone needs no wake-up.
        let _ = self.0.send(Event::Poked);
    }
}

/// One connection that is being made or stands. Dropped, it closes.
struct Wire {
    output: mpsc::UnboundedSender<Vec<Bytes>>,
    task: Task,
}

impl Wire {
    /// Lets the task write what it has, and waits for its end.
    async fn finish(self) {
        let Self { output, mut task } = self;
        drop(output);
        // A task that was ended or has panicked writes nothing more either.
        let _ = (&mut task.0).await;
    }
}

/// A task that ends with its handle.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Larger answers are handed on piece by piece.
const GATHER_MAX: usize = 128 << 20;

impl<M: Machine> Driver<M> {
    /// Drives a machine.
    pub fn new(machine: M) -> Self {
        let (report, events) = mpsc::unbounded_channel();
        Self {
            machine,
            clock: Clock::default(),
            links: BTreeMap::new(),
            events,
            report,
            was_connected: false,
            last_failure: None,
            reachable: Reachable::default(),
            told: None,
        }
    }

    /// Takes what people should be told since the last time, a line each: brokers that came and went, the first
    /// time begins that, and what the machine warns of.
    pub fn take_told(&mut self) -> Vec<String> {
        let reached = std::mem::take(self.told.get_or_insert_default());
        let mut told: Vec<String> = reached.iter().map(ToString::to_string).collect();
        told.extend(self.machine.take_warnings());
        told
    }

    fn tell(&mut self, reach: Option<Reach>) {
        if let (Some(told), Some(reach)) = (&mut self.told, reach) {
            told.push(reach);
        }
    }

    /// Gives what ends a turn from elsewhere.
    #[cfg(not(madsim))]
    pub(crate) fn poke(&self) -> Poke {
        Poke(self.report.clone())
    }

    /// Reads the clocks.
    pub fn now(&mut self) -> Now {
        self.clock.now()
    }

    /// Gives the machine, to ask it for something; [`turn`](Self::turn) then does it.
    pub const fn machine(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Whether any broker was ever reached.
    pub const fn was_connected(&self) -> bool {
        self.was_connected
    }

    /// The last attempt to connect that failed, and how many have.
    pub fn last_failure(&self) -> Option<(&io::Error, u32)> {
        self.last_failure.as_ref().map(|(error, count)| (error, *count))
    }

    /// Waits until the sockets have taken everything that was sent.
    pub async fn drained(&mut self) {
        self.carry_out();
        for wire in std::mem::take(&mut self.links).into_values() {
            wire.finish().await;
        }
    }

    /// Does what the machine wants done, then waits for one event, its deadline, or `until`.
    pub async fn turn(&mut self, until: Option<Instant>) {
        self.carry_out();
        let now = self.now().mono;
        let deadline = self.machine.next_deadline();
        let wake = deadline.into_iter().chain(until).min();
        let pause = wake.map_or(rt::TIMER_SLICE, |at| at.since(now).min(rt::TIMER_SLICE));
        let event = rt::select_biased! {
            event = self.events.recv() => event,
            () = rt::sleep(pause) => None,
        };
        if let Some(event) = event {
            self.take(event);
            // What else has come is taken in the same turn.
            while let Ok(event) = self.events.try_recv() {
                self.take(event);
            }
        }
        let now = self.now();
        if self.machine.next_deadline().is_some_and(|at| at <= now.mono) {
            self.machine.handle(now, Input::Wakeup);
        }
        self.carry_out();
    }

    fn take(&mut self, event: Event) {
        let input = match event {
            Event::Poked => return,
            Event::Refused(link, error) => {
                let count = self.last_failure.as_ref().map_or(0, |(_, count)| *count);
                let told = self.reachable.fails(link, &error.to_string());
                self.tell(told);
                self.last_failure = Some((error, count + 1));
                Input::ConnectFailed(link)
            }
            Event::Input(input) => input,
        };
        // Nothing is reported of a connection that the machine has closed.
        let is_known = match &input {
            Input::Connected(link) => {
                self.was_connected = true;
                self.links.contains_key(link)
            }
            Input::Received(link, _) => {
                let told = self.reachable.answers(*link);
                self.tell(told);
                self.links.contains_key(link)
            }
            Input::ConnectFailed(link) | Input::Disconnected(link) => {
                let told = self.reachable.fails(*link, "the connection was lost");
                self.tell(told);
                self.links.remove(link).is_some()
            }
            Input::Wakeup => false,
        };
        if is_known {
            let now = self.now();
            self.machine.handle(now, input);
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Connect { link, host, port } => {
                    self.reachable.connects(link, &host, port);
                    let (output, queue) = mpsc::unbounded_channel();
                    let report = self.report.clone();
                    let task = Task(rt::spawn(connection(link, host, port, queue, report)));
                    self.links.insert(link, Wire { output, task });
                }
                Effect::Transmit { link, parts } => {
                    if let Some(wire) = self.links.get(&link) {
                        // A task that has ended has reported that already.
                        let _ = wire.output.send(parts);
                    }
                }
                Effect::Close { link } => {
                    let told = self.reachable.fails(link, "it does not answer");
                    self.tell(told);
                    self.links.remove(&link);
                }
            }
        }
    }
}

/// Makes a connection and carries bytes both ways until one of them ends.
async fn connection(
    link: Link,
    host: Arc<str>,
    port: u16,
    queue: mpsc::UnboundedReceiver<Vec<Bytes>>,
    report: mpsc::UnboundedSender<Event>,
) {
    let stream = TcpStream::connect((&*host, port)).await;
    let stream = match stream.and_then(|stream| rt::set_options(&stream).map(|()| stream)) {
        Ok(stream) => stream,
        Err(error) => {
            // Nobody listens once the driver is gone.
            let _ = report.send(Event::Refused(link, error));
            return;
        }
    };
    #[cfg(not(madsim))]
    nearby::tune(&stream);
    let _ = report.send(Event::Input(Input::Connected(link)));
    let (reader, writer) = rt::split(stream);
    // However this ends, by a panic too, the machine learns of it.
    let _farewell = Farewell(link, &report);
    rt::select_biased! {
        () = read(link, reader, &report) => {}
        () = write(writer, queue) => {}
    }
}

/// Says that a connection is gone.
struct Farewell<'a>(Link, &'a mpsc::UnboundedSender<Event>);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        // Nobody listens once the driver is gone.
        let _ = self.1.send(Event::Input(Input::Disconnected(self.0)));
    }
}

async fn read(
    link: Link,
    mut reader: rt::ReadHalf<TcpStream>,
    report: &mpsc::UnboundedSender<Event>,
) {
    let mut buffers = Buffers::default();
    let mut missing = 0;
    loop {
        // An answer that comes in many pieces is gathered where it ends up: nobody copies it.
        let buffer = buffers.for_read(missing);
        if !matches!(reader.read_buf(buffer).await, Ok(1..)) {
            return;
        }
        let whole;
        (whole, missing) = frames(buffer);
        if whole == 0 {
            continue;
        }
        let frames = buffers.take(whole);
        if report.send(Event::Input(Input::Received(link, frames))).is_err() {
            return;
        }
    }
}

/// Returns how many bytes of the front can be handed on, and how many the frame behind them lacks.
fn frames(bytes: &[u8]) -> (usize, usize) {
    let mut whole = 0;
    while let Some(size) = bytes[whole..].first_chunk::<4>() {
        let size = u32::from_be_bytes(*size) as usize;
        if size > GATHER_MAX {
            // What becomes of it is for the machine to say.
            return (bytes.len(), 0);
        }
        let left = bytes.len() - whole - 4;
        if left < size {
            return (whole, size - left);
        }
        whole += 4 + size;
    }
    (whole, 0)
}

async fn write(
    mut writer: rt::WriteHalf<TcpStream>,
    mut queue: mpsc::UnboundedReceiver<Vec<Bytes>>,
) {
    let mut output = Output::default();
    while let Some(parts) = queue.recv().await {
        output.add(parts);
        // What else is there leaves with the same call.
        while let Ok(parts) = queue.try_recv() {
            output.add(parts);
        }
        if writer.write_all_buf(&mut output).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

/// Parts that are to be written, in as few calls as the system needs.
#[derive(Debug, Default)]
struct Output {
    parts: VecDeque<Bytes>,
    left: usize,
}

impl Output {
    fn add(&mut self, parts: Vec<Bytes>) {
        self.left += parts.iter().map(Bytes::len).sum::<usize>();
        self.parts.extend(parts.into_iter().filter(|part| !part.is_empty()));
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| &part[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let count = slices.len().min(self.parts.len());
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.left, "no more is written than there is");
        self.left -= count;
        while let Some(part) = self.parts.front_mut().filter(|_| count > 0) {
            let taken = count.min(part.len());
            part.advance(taken);
            count -= taken;
            if part.is_empty() {
                self.parts.pop_front();
            }
        }
    }
}
