//! One lane: the driver of one shard.
//!
//! It takes inputs one at a time, hands each to the shard and carries out all effects before the
//! next. It decides nothing. A request runs to completion on the lane's thread: the connection's
//! task reads, the shard decides, and the same task writes the answer; only file operations leave
//! the thread, and their completions come back through the [`Inbox`].
//!
//! Invariants:
//! 1. Every input is followed by draining the effects, in their order, before the next input.
//! 2. The lane is never held across an await (it is a mutex that nobody contends for).
//! 3. After `Disconnected(c)` no input names `c`, and effects for `c` are dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mainspring_core::ids::{ConnectionId, IoToken, ListenerIndex, NodeId, ShardId, Uuid};
use mainspring_core::io::{Effect, Event, Input};
use mainspring_core::time::{Instant, Now};

use crate::clock::Clock;
use crate::connection;
use crate::disk::{Disk, Operation, Outcome};
use crate::metrics::Metrics;
use crate::rt::{self, Notify};
use crate::secure::Security;
use crate::watched::Writer;

/// The shape of a shard, as its driver sees it.
#[cfg_attr(
    not(madsim),
    expect(unreachable_pub, reason = "simulations drive machines of their own")
)]
pub trait Machine: Send {
    /// Takes one input.
    fn handle(&mut self, now: Now, input: Input);
    /// Gives the oldest effect.
    fn poll_effect(&mut self) -> Option<Effect>;
    /// Returns when the machine wants `Input::Wakeup`.
    fn next_deadline(&self) -> Option<Instant>;
    /// Returns the id of the cluster, known once the machine is ready.
    fn cluster_id(&self) -> Uuid;
}

/// Where a shard stands in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// It recovers.
    Starting,
    /// It serves clients.
    Ready {
        /// The id of the cluster.
        cluster_id: Uuid,
    },
    /// Everything is durable and it may end.
    Stopped,
    /// It cannot go on, for the reason given.
    Failed(String),
}

/// Inputs that come from outside the lane's thread: disk completions, posts, the order to stop.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Vec<Input>>,
    notify: Arc<Notify>,
}

impl Inbox {
    /// Makes an empty inbox.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), notify: rt::notifier() })
    }

    /// Adds an input and wakes the lane.
    pub(crate) fn push(&self, input: Input) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(input);
        self.notify.notify_one();
    }

    /// Adds the completion of a disk operation.
    pub(crate) fn complete(&self, token: IoToken, result: Outcome) {
        self.push(Input::Completed { token, result });
    }

    fn take(&self) -> Vec<Input> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a lane is made of.
pub(crate) struct LaneParts {
    pub(crate) shard: ShardId,
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) disk: Arc<dyn Disk>,
    /// The inboxes of all shards of the node, this one's among them, by their numbers.
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) phase: Writer<Phase>,
    /// How it speaks with other nodes.
    pub(crate) security: Arc<Security>,
}

/// One shard with all that it drives.
pub(crate) struct Lane {
    parts: LaneParts,
    clock: Clock,
    connections: BTreeMap<ConnectionId, Line>,
    /// Connections that the shard has asked for and that no task makes yet.
    dials: Vec<Dial>,
    /// The moment that the timer of [`run`] waits for.
    armed: Option<Instant>,
    /// Where reads of ordinary size go first, so that an idle connection owns no buffer.
    scratch: BytesMut,
}

/// What the shard has said about one connection and its task has not yet taken.
#[derive(Debug)]
struct Line {
    parts: VecDeque<Bytes>,
    orders: Orders,
    waker: Option<Waker>,
}

impl Line {
    const fn new() -> Self {
        let orders = Orders { reading: true, want: WANT, closing: false, aborting: false };
        Self { parts: VecDeque::new(), orders, waker: None }
    }

    /// Remembers whom to wake when the shard says something.
    fn wake_by(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }
}

/// A connection to be made.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) connection: ConnectionId,
    #[cfg_attr(madsim, expect(dead_code, reason = "TLS alone verifies who is there"))]
    pub(crate) node: NodeId,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

/// What the task of a connection is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Orders {
    /// Read, or leave bytes where they are.
    pub(crate) reading: bool,
    /// Most bytes of one read.
    pub(crate) want: usize,
    /// Close once everything has been written.
    pub(crate) closing: bool,
    /// Close at once.
    pub(crate) aborting: bool,
}

/// A lane as its tasks share it.
#[derive(Clone)]
pub(crate) struct SharedLane(Arc<Mutex<Lane>>);

/// Most bytes of a read until the shard says otherwise.
const WANT: usize = 64 << 10;
/// A read of at most so many bytes is copied out of the scratch buffer rather than given away with
/// all of its 64 KiB.
const COPY_MAX: usize = 16 << 10;

impl SharedLane {
    /// Makes a lane; nothing happens before its first input.
    pub(crate) fn new(parts: LaneParts) -> Self {
        let lane = Lane {
            parts,
            clock: Clock::default(),
            connections: BTreeMap::new(),
            dials: Vec::new(),
            armed: None,
            scratch: BytesMut::new(),
        };
        Self(Arc::new(Mutex::new(lane)))
    }

    /// Closes all connections once their last answers are written, and waits at most so long.
    pub(crate) async fn close_all(&self, patience: Duration) {
        const STEP: Duration = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        self.lock().close_all();
        while waited < patience && !self.lock().connections.is_empty() {
            rt::sleep(STEP).await;
            waited += STEP;
        }
    }

    /// Takes the lane for a moment. Never hold it across an await.
    ///
    /// Panics where an earlier holder did: the task that drives the lane then ends, and the node with it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Lane> {
        self.0.lock().expect("a shard that panicked is never used again")
    }
}

/// Feeds the lane from its inbox and its timer, from `Input::Start` on, until it has ended.
pub(crate) async fn run(lane: SharedLane) {
    let inbox = {
        let mut lane = lane.lock();
        lane.handle(Input::Start);
        Arc::clone(&lane.parts.inboxes[usize::from(lane.parts.shard.0)])
    };
    loop {
        let (pause, dials) = {
            let mut lane = lane.lock();
            for input in inbox.take() {
                lane.handle(input);
            }
            lane.wake_if_due();
            if lane.has_ended() {
                return;
            }
            (lane.arm(), std::mem::take(&mut lane.dials))
        };
        for dial in dials {
            rt::spawn(connection::dial(dial, lane.clone()));
        }
        rt::select_biased! {
            () = inbox.notify.notified() => {}
            () = rt::sleep(pause) => {}
        }
    }
}

impl Lane {
    /// Hands one input to the shard and carries out all that follows from it.
    pub(crate) fn handle(&mut self, input: Input) {
        if self.has_ended() {
            return;
        }
        let now = self.clock.now();
        self.parts.machine.handle(now, input);
        while let Some(effect) = self.parts.machine.poll_effect() {
            self.carry_out(effect);
        }
        let deadline = self.parts.machine.next_deadline();
        if deadline.is_some_and(|at| self.armed.is_none_or(|armed| at < armed)) {
            self.armed = deadline;
            self.notify();
        }
        if !self.dials.is_empty() {
            self.notify();
        }
    }

    /// Returns how this node speaks with others.
    pub(crate) fn security(&self) -> Arc<Security> {
        Arc::clone(&self.parts.security)
    }

    /// Lets the task that runs the lane look again.
    fn notify(&self) {
        self.parts.inboxes[usize::from(self.parts.shard.0)].notify.notify_one();
    }

    /// Tells the shard of a connection that was accepted.
    pub(crate) fn connected(
        &mut self,
        connection: ConnectionId,
        listener: ListenerIndex,
        peer: Arc<str>,
    ) {
        self.connections.insert(connection, Line::new());
        self.handle(Input::Connected { connection, listener, peer });
    }

    /// Tells the shard that a connection that it asked for is there.
    pub(crate) fn opened(&mut self, connection: ConnectionId) {
        if self.connections.contains_key(&connection) {
            self.handle(Input::Opened(connection));
        }
    }

    /// Returns whether the shard still wants a connection that is being made, and remembers whom to wake
    /// when it says something of it.
    pub(crate) fn is_wanted(&mut self, connection: ConnectionId, waker: &Waker) -> bool {
        let Some(line) = self.connections.get_mut(&connection) else { return false };
        line.wake_by(waker);
        !line.orders.closing && !line.orders.aborting
    }

    /// Tells the shard that a connection is gone.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId) {
        if self.connections.remove(&connection).is_some() {
            self.handle(Input::Disconnected(connection));
        }
    }

    /// Moves what is to be written on a connection into `out`, and remembers whom to wake for more.
    ///
    /// Returns `None` for a connection that the lane does not know.
    pub(crate) fn collect(
        &mut self,
        connection: ConnectionId,
        out: &mut VecDeque<Bytes>,
        waker: &Waker,
    ) -> Option<Orders> {
        let line = self.connections.get_mut(&connection)?;
        out.append(&mut line.parts);
        line.wake_by(waker);
        Some(line.orders)
    }

    /// Reads once by `read`, into memory of the lane, and hands what came to the shard.
    ///
    /// `read` is given the buffer to append to. Returns how many bytes came.
    pub(crate) fn receive(
        &mut self,
        connection: ConnectionId,
        context: &mut Context<'_>,
        read: impl FnOnce(&mut BytesMut, &mut Context<'_>) -> Poll<std::io::Result<usize>>,
    ) -> Poll<std::io::Result<usize>> {
        if self.scratch.capacity() < WANT {
            self.scratch = BytesMut::with_capacity(WANT);
        }
        let Poll::Ready(outcome) = read(&mut self.scratch, context) else { return Poll::Pending };
        if let Ok(count @ 1..) = outcome {
            let bytes = if count <= COPY_MAX {
                let bytes = BytesMut::from(&self.scratch[..]);
                self.scratch.clear();
                bytes
            } else {
                std::mem::take(&mut self.scratch)
            };
            self.handle(Input::Received(connection, bytes));
        }
        Poll::Ready(outcome)
    }

    /// Returns whether the shard has stopped or failed.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.parts.phase.get(), Phase::Stopped | Phase::Failed(_))
    }

    fn close_all(&mut self) {
        for dial in std::mem::take(&mut self.dials) {
            self.connections.remove(&dial.connection);
        }
        for line in self.connections.values_mut() {
            line.orders.closing = true;
            if let Some(waker) = line.waker.take() {
                waker.wake();
            }
        }
    }

    fn wake_if_due(&mut self) {
        let now = self.clock.now();
        if self.parts.machine.next_deadline().is_some_and(|at| at <= now.mono) {
            self.handle(Input::Wakeup);
        }
    }

    /// Notes the next deadline as the one waited for, and returns how long to sleep at most.
    fn arm(&mut self) -> Duration {
        self.armed = self.parts.machine.next_deadline();
        let now = self.clock.now().mono;
        self.armed.map_or(rt::TIMER_SLICE, |at| at.since(now).min(rt::TIMER_SLICE))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "file effects were taken out before")]
    fn carry_out(&mut self, effect: Effect) {
        let effect = match Operation::from_effect(effect) {
            Ok((token, operation)) => {
                self.parts.disk.submit(token, operation);
                return;
            }
            Err(effect) => effect,
        };
        match effect {
            Effect::Connect { connection, node, host, port } => {
                self.connections.insert(connection, Line::new());
                self.dials.push(Dial { connection, node, host, port });
            }
            Effect::Transmit { connection, parts } => {
                self.instruct(connection, |line| {
                    line.parts.extend(parts.into_iter().filter(Buf::has_remaining));
                });
            }
            Effect::Reading { connection, on } => {
                self.instruct(connection, |line| line.orders.reading = on);
            }
            Effect::Want { connection, bytes } => {
                self.instruct(connection, |line| line.orders.want = bytes);
            }
            Effect::Close { connection } => {
                self.instruct(connection, |line| line.orders.closing = true);
            }
            Effect::Abort { connection } => {
                self.instruct(connection, |line| line.orders.aborting = true);
            }
            Effect::Post { shard, batch } => {
                let from = self.parts.shard;
                self.parts.inboxes[usize::from(shard.0)].push(Input::Posted { from, batch });
            }
            Effect::Ready => {
                let cluster_id = self.parts.machine.cluster_id();
                self.enter(Phase::Ready { cluster_id });
            }
            Effect::Stopped => self.enter(Phase::Stopped),
            Effect::Fatal { message } => self.enter(Phase::Failed(message)),
            Effect::Observe(event) => self.observe(event),
            other => unreachable!("the driver carries out every effect: {other:?}"),
        }
    }

    fn instruct(&mut self, connection: ConnectionId, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.connections.get_mut(&connection) {
            change(line);
            if let Some(waker) = line.waker.take() {
                waker.wake();
            }
        }
    }

    /// Enters a phase, unless the lane has ended: the first end is the one that counts.
    fn enter(&self, phase: Phase) {
        self.parts.phase.change(|present| {
            let ended = matches!(present, Phase::Stopped | Phase::Failed(_));
            if !ended {
                *present = phase;
            }
            !ended
        });
    }

    fn observe(&self, event: Event) {
        let groups = &self.parts.metrics.groups;
        match event {
            Event::Count(counter, by) => self.parts.metrics.count(counter, by),
            Event::DiskFull(full) => {
                self.parts
                    .metrics
                    .disk_full
                    .store(u64::from(full), std::sync::atomic::Ordering::Relaxed);
            }
            Event::RetentionHeld(held) => {
                self.parts
                    .metrics
                    .retention_held
                    .store(u64::from(held), std::sync::atomic::Ordering::Relaxed);
            }
            Event::Warning(message) => tracing::warn!("{message}"),
            Event::Info(message) => tracing::info!("{message}"),
            Event::Mark(mark) => tracing::trace!(?mark, "rare state"),
            Event::HighWatermark { partition, offset } => {
                tracing::trace!(%partition, %offset, "high watermark");
                groups.high_watermark(partition, offset);
            }
            Event::LogBounds { partition, log_start_offset, high_watermark } => {
                groups.bounds(partition, log_start_offset, high_watermark);
            }
            Event::Cluster(event) => tracing::trace!(?event, "cluster"),
            Event::PartitionGone(partition) => groups.gone(partition),
            Event::CommittedOffset { group, topic, partition, committed } => {
                groups.committed(group, topic, partition, committed);
            }
            Event::GroupStates { coordinator, states } => groups.states(coordinator, states),
            Event::Scheduled { partition, topic, waits } => {
                self.parts.metrics.schedules.told(partition, topic, waits);
            }
            Event::Pinned { partition, topic, by } => {
                self.parts.metrics.transactions.pinned(partition, topic, by);
            }
            other => tracing::trace!(?other, "event"),
        }
    }
}

#[cfg(all(test, not(madsim)))]
#[expect(clippy::wildcard_enum_match_arm, reason = "scripts look at the inputs they are about")]
mod tests;
