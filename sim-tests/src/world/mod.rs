//! The world: any number of nodes of any number of shards, their clients, and one heap of events.
//!
//! Everything happens in one thread. The event with the least time is next; a random key breaks
//! ties. What an event brings about enters the trace and is shown to the checkers.
//!
//! Invariants:
//! 1. Between two inputs of a shard all of its effects are carried out, unless a crash strikes
//!    between two of them.
//! 2. Posts between two shards of a node arrive in the order in which they were sent.
//! 3. Nothing that belongs to a dead incarnation reaches a living one.

mod fault;
mod machine;
mod node;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mainspring_core::ids::{ConnectionId, ListenerIndex, ShardId};
use mainspring_core::io::{Effect, Event as Observed, Input, Mark};

pub use fault::{Fault, FaultCounts};
pub use machine::{Action, Actor, ActorEvent, Birth, Hands, Machine};

use crate::checkers::{Alarm, Checker};
use crate::clock::Clock;
use crate::disk::{DiskOptions, OperationId, SimDisk};
use crate::history::Fact;
use crate::net::{Address, Delivery, NetOptions, Notice, SimNet, StreamId};
use crate::rng::{Rng, Stream};
use crate::trace::Trace;
use node::{Down, Node};

/// Nanoseconds of a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000 * MILLISECOND;

/// Most effects of one input: more is a machine that never comes to rest.
const EFFECTS_MAX: usize = 1_000_000;

/// Wakeups one after the other that change nothing: more is a machine that spins.
const IDLE_WAKEUPS_MAX: u32 = 100;

/// Makes the shard of a start.
pub type Factory<M> = Box<dyn Fn(Birth) -> M>;

/// What a world is made of.
pub struct WorldOptions {
    /// The seed of all chance.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many shards each has.
    pub shards: u16,
    /// What the disks are like.
    pub disk: DiskOptions,
    /// What the network is like.
    pub net: NetOptions,
    /// How far the clocks of a node may drift at its start, in millionths.
    pub drift_ppm: u64,
    /// What strikes when, in nanoseconds.
    pub faults: Vec<(u64, Fault)>,
    /// When the last fault is healed and the clients are told to finish.
    pub heal_at: u64,
    /// How long after that everything must have come to an end.
    pub grace: u64,
    /// Whether lines of the trace are kept.
    pub keep_lines: bool,
    /// The event at which to stop, for looking at it.
    pub until: Option<u64>,
}

/// What a run amounts to.
#[derive(Debug)]
pub struct Outcome {
    /// The first alarm, if there was one.
    pub alarm: Option<Alarm>,
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// Hash at each checkpoint.
    pub checkpoints: Vec<u64>,
    /// How many events there were.
    pub events: u64,
    /// How much true time passed, in nanoseconds.
    pub time: u64,
    /// Faults that struck.
    pub faults: FaultCounts,
    /// Marks that were reached, with how often.
    pub marks: BTreeMap<Mark, u64>,
    /// What clients and checkers counted.
    pub counts: BTreeMap<&'static str, u64>,
    /// How often each checker had something to compare.
    pub evaluations: BTreeMap<&'static str, u64>,
    /// The last lines of the trace, if they were kept.
    pub lines: Vec<String>,
}

#[derive(Debug)]
enum Event {
    Input { node: usize, shard: u16, life: u64, input: Input },
    Posts { node: usize, life: u64, from: u16, to: u16 },
    Timer { node: usize, shard: u16, life: u64, round: u64 },
    Disk { node: usize, life: u64, operation: OperationId },
    Net(Notice),
    Accept { stream: StreamId },
    Actor { client: usize, round: u64 },
    Strike(Fault),
    Lift(Lift),
    Start { node: usize, life: u64 },
    Heal,
    Deadline,
}

/// The end of a fault that lasts.
#[derive(Clone, Copy, Debug)]
enum Lift {
    Cuts,
    Pause(usize, u64),
    Capacity(usize),
    FlushErrors(usize),
    ReadErrors(usize),
    Slowness(usize),
}

impl Event {
    /// Returns numbers for the trace: what it is and whom it concerns.
    fn numbers(&self) -> (u64, u64) {
        match self {
            Self::Input { node, shard, .. } => (1, place(*node, *shard)),
            Self::Posts { node, to, .. } => (2, place(*node, *to)),
            Self::Timer { node, shard, .. } => (3, place(*node, *shard)),
            Self::Disk { node, .. } => (4, place(*node, 0)),
            Self::Net(notice) => (5, notice.stream.0 * 2 + notice.side as u64),
            Self::Accept { stream } => (6, stream.0),
            Self::Actor { client, .. } => (7, *client as u64),
            Self::Strike(_) => (9, 0),
            Self::Lift(_) => (10, 0),
            Self::Start { node, .. } => (11, place(*node, 0)),
            Self::Heal => (12, 0),
            Self::Deadline => (13, 0),
        }
    }
}

const fn place(node: usize, shard: u16) -> u64 {
    ((node as u64) << 16) | shard as u64
}

/// An event with its time and its place among those of the same time.
#[derive(Debug)]
struct Due {
    at: u64,
    tie: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie, self.number).cmp(&(other.at, other.tie, other.number))
    }
}

struct Client {
    actor: Box<dyn Actor>,
    round: u64,
}

/// Who is at the accepting end of a stream.
#[derive(Clone, Copy, Debug)]
struct Accepted {
    node: usize,
    shard: u16,
    connection: ConnectionId,
}

/// Nodes, clients, network and time.
pub struct World<M> {
    now: u64,
    heap: BinaryHeap<Reverse<Due>>,
    number: u64,
    schedule: Rng,
    workload: Rng,
    chance: Rng,
    net: SimNet,
    nodes: Vec<Node<M>>,
    clients: Vec<Client>,
    /// The opening end of each stream.
    openers: BTreeMap<StreamId, (usize, usize)>,
    accepted: BTreeMap<StreamId, Accepted>,
    trace: Trace,
    checkers: Vec<Box<dyn Checker>>,
    alarm: Option<Alarm>,
    factory: Factory<M>,
    faults: FaultCounts,
    marks: BTreeMap<Mark, u64>,
    counts: BTreeMap<&'static str, u64>,
    healed: bool,
    over: bool,
    options: WorldOptions,
    notices: Vec<Notice>,
    /// What waits for a paused process.
    deferred: Vec<Vec<Event>>,
}

impl<M: Machine> World<M> {
    /// Makes a world in which nothing has happened.
    pub fn new(
        options: WorldOptions,
        factory: Factory<M>,
        actors: Vec<Box<dyn Actor>>,
        checkers: Vec<Box<dyn Checker>>,
    ) -> Self {
        let seed = options.seed;
        let nodes = (0..options.nodes)
            .map(|node| {
                let chance = Rng::new(seed, Stream::Node(node as u32));
                let disk =
                    SimDisk::new(options.disk.clone(), Rng::new(seed, Stream::Disk(node as u32)));
                Node::new(disk, chance)
            })
            .collect();
        let mut world = Self {
            now: 0,
            heap: BinaryHeap::new(),
            number: 0,
            schedule: Rng::new(seed, Stream::Schedule),
            workload: Rng::new(seed, Stream::Workload),
            chance: Rng::new(seed, Stream::Faults),
            net: SimNet::new(options.net.clone(), Rng::new(seed, Stream::Net)),
            nodes,
            clients: actors.into_iter().map(|actor| Client { actor, round: 0 }).collect(),
            openers: BTreeMap::new(),
            accepted: BTreeMap::new(),
            trace: Trace::new(options.keep_lines),
            checkers,
            alarm: None,
            factory,
            faults: FaultCounts::default(),
            marks: BTreeMap::new(),
            counts: BTreeMap::new(),
            healed: false,
            over: false,
            options,
            notices: Vec::new(),
            deferred: Vec::new(),
        };
        for node in 0..world.nodes.len() {
            world.deferred.push(Vec::new());
            world.push(1, Event::Start { node, life: 0 });
        }
        for client in 0..world.clients.len() {
            let at = world.schedule.between(2, 50 * MILLISECOND);
            world.push(at, Event::Actor { client, round: 0 });
        }
        for (at, fault) in std::mem::take(&mut world.options.faults) {
            world.push(at, Event::Strike(fault));
        }
        world.push(world.options.heal_at, Event::Heal);
        world.push(world.options.heal_at + world.options.grace, Event::Deadline);
        world
    }

    /// Lets the disk of a node be looked at.
    pub fn disk(&self, node: usize) -> &SimDisk {
        &self.nodes[node].disk
    }

    /// Runs until everything has come to an end, or to an alarm.
    pub fn run(mut self) -> Outcome {
        while self.alarm.is_none() && !self.over {
            let Some(Reverse(due)) = self.heap.pop() else { break };
            if self.options.until.is_some_and(|until| self.trace.events() >= until) {
                break;
            }
            self.step(due);
        }
        if self.alarm.is_none() && self.over {
            self.finish();
        }
        self.outcome()
    }

    fn outcome(mut self) -> Outcome {
        for node in &self.nodes {
            let disk = node.disk.counters();
            for (kind, count) in [
                ("read-error", disk.read_errors),
                ("write-error", disk.write_errors),
                ("flush-error", disk.flush_errors),
                ("no-space", disk.no_space),
                ("slow-operation", disk.slow),
                ("torn-operation", disk.torn),
                ("lost-unit", disk.lost_units),
                ("rotted-bit", disk.rotted),
            ] {
                self.faults.add(kind, count);
            }
        }
        let net = self.net.counters();
        for (kind, count) in [
            ("split-send", net.splits),
            ("reset", net.resets),
            ("half-open", net.half_open),
            ("held-piece", net.held),
        ] {
            self.faults.add(kind, count);
        }
        Outcome {
            trace_hash: self.trace.hash(),
            checkpoints: self.trace.checkpoints().to_vec(),
            events: self.trace.events(),
            time: self.now,
            evaluations: self
                .checkers
                .iter()
                .map(|checker| (checker.id(), checker.evaluations()))
                .collect(),
            lines: self.trace.lines().map(str::to_owned).collect(),
            alarm: self.alarm,
            faults: self.faults,
            marks: self.marks,
            counts: self.counts,
        }
    }

    fn finish(&mut self) {
        for checker in &mut self.checkers {
            if let Err(message) = checker.finish() {
                self.alarm = Some(Alarm {
                    checker: checker.id(),
                    message,
                    step: self.trace.events(),
                    at: self.now,
                });
                return;
            }
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        let tie = self.schedule.bits();
        self.number += 1;
        self.heap.push(Reverse(Due { at, tie, number: self.number, event }));
    }

    /// Shows a fact to every checker.
    fn tell(&mut self, fact: &Fact) {
        if self.alarm.is_some() {
            return;
        }
        self.trace.line(|| format!("{:>15} {fact:?}", self.now));
        let counted = match fact {
            Fact::Acked { .. } => Some("acks"),
            Fact::Invoked { .. } => Some("sends"),
            Fact::Refused { .. } => Some("refusals"),
            Fact::Read { records, .. } if !records.is_empty() => Some("reads"),
            Fact::Latest { .. } => Some("ends-told"),
            Fact::Ready { .. } => Some("starts"),
            Fact::Fatal { .. } => Some("fatal"),
            Fact::FinalLog { .. } => Some("final-logs"),
            _ => None,
        };
        if let Some(counted) = counted {
            *self.counts.entry(counted).or_insert(0) += 1;
        }
        for checker in &mut self.checkers {
            if let Err(message) = checker.observe(self.now, fact) {
                self.alarm = Some(Alarm {
                    checker: checker.id(),
                    message,
                    step: self.trace.events(),
                    at: self.now,
                });
                return;
            }
        }
    }

    fn step(&mut self, due: Due) {
        self.now = self.now.max(due.at);
        if let Some(node) = self.concerned(&due.event)
            && self.nodes[node].paused
        {
            // What waits for a paused process keeps its order.
            self.deferred[node].push(due.event);
            return;
        }
        let (kind, whom) = due.event.numbers();
        if self.trace.begin(self.now, kind, whom) {
            self.checkpoint();
        }
        match due.event {
            Event::Input { node, shard, life, input } => {
                if self.nodes[node].life == life {
                    self.handle(node, shard, input);
                }
            }
            Event::Posts { node, life, from, to } => {
                if self.nodes[node].life == life
                    && let Some(batch) = self.nodes[node].take_post(from, to)
                {
                    self.handle(node, to, Input::Posted { from: ShardId(from), batch });
                }
            }
            Event::Timer { node, shard, life, round } => {
                if self.nodes[node].life == life && self.nodes[node].is_round(shard, round) {
                    self.handle(node, shard, Input::Wakeup);
                }
            }
            Event::Disk { node, life, operation } => {
                if self.nodes[node].life == life
                    && let Some(finished) = self.nodes[node].disk.finish(operation)
                {
                    let input = Input::Completed { token: finished.token, result: finished.result };
                    self.handle(node, finished.shard.0, input);
                }
            }
            Event::Net(notice) => self.notice(notice),
            Event::Accept { stream } => self.accept(stream),
            Event::Actor { client, round } => {
                if self.clients[client].round == round {
                    self.act(client, ActorEvent::Wake);
                }
            }
            Event::Strike(fault) => self.strike(&fault),
            Event::Lift(lift) => self.lift(lift),
            Event::Start { node, life } => {
                if self.nodes[node].life == life && self.nodes[node].shards.is_empty() {
                    self.start(node);
                }
            }
            Event::Heal => self.heal(),
            Event::Deadline => self.deadline(),
        }
    }

    /// Returns the node whose process must be running for an event to reach it.
    fn concerned(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Input { node, .. }
            | Event::Posts { node, .. }
            | Event::Timer { node, .. }
            | Event::Disk { node, .. } => Some(*node),
            Event::Net(notice) if notice.side == 1 => {
                self.accepted.get(&notice.stream).map(|accepted| accepted.node)
            }
            Event::Accept { stream } => self.openers.get(stream).map(|(_, node)| *node),
            Event::Net(_)
            | Event::Actor { .. }
            | Event::Strike(_)
            | Event::Lift(_)
            | Event::Start { .. }
            | Event::Heal
            | Event::Deadline => None,
        }
    }

    fn checkpoint(&mut self) {
        let digests: Vec<u64> = self
            .nodes
            .iter()
            .flat_map(|node| node.shards.iter().map(|shard| shard.machine.digest()))
            .collect();
        for digest in digests {
            self.trace.number(digest);
        }
        for node in 0..self.nodes.len() {
            let queued = self.net.most_queued(Address::Node(node));
            self.tell(&Fact::Size {
                what: "answer bytes that wait for one client",
                size: queued,
                bound: 64 << 20,
            });
            let in_flight = self.nodes[node].disk.in_flight().count() as u64;
            self.tell(&Fact::Size {
                what: "disk operations in flight",
                size: in_flight,
                bound: 10_000,
            });
        }
    }

    fn handle(&mut self, node: usize, shard: u16, input: Input) {
        let now = self.nodes[node].clock.at(self.now);
        self.trace.input(self.now, node, shard, &input);
        let Some(state) = self.nodes[node].shards.get_mut(usize::from(shard)) else { return };
        let woken = matches!(input, Input::Wakeup);
        state.idle_wakeups = if woken { state.idle_wakeups + 1 } else { 0 };
        if state.idle_wakeups > IDLE_WAKEUPS_MAX {
            let who = state.machine.who_waits();
            self.tell(&Fact::Stuck {
                what: format!("shard {shard} of node {node} spins on a deadline of {who}"),
            });
            return;
        }
        let machine = &mut state.machine;
        let caught = catch_unwind(AssertUnwindSafe(|| machine.handle(now, input)));
        if caught.is_err() {
            self.panicked(node);
            return;
        }
        let life = self.nodes[node].life;
        for _ in 0..EFFECTS_MAX {
            if self.nodes[node].life != life || self.alarm.is_some() {
                return;
            }
            let Some(state) = self.nodes[node].shards.get_mut(usize::from(shard)) else { return };
            let machine = &mut state.machine;
            let Ok(effect) = catch_unwind(AssertUnwindSafe(|| machine.poll_effect())) else {
                self.panicked(node);
                return;
            };
            let Some(effect) = effect else {
                self.rearm(node, shard);
                return;
            };
            state.idle_wakeups = 0;
            if let Some(down) = self.nodes[node].countdown() {
                self.crash(node, down);
                return;
            }
            self.trace.effect(self.now, node, shard, &effect);
            self.perform(node, shard, effect);
        }
        self.tell(&Fact::Stuck { what: format!("shard {shard} of node {node} never rests") });
    }

    fn panicked(&mut self, node: usize) {
        let message = crate::process::take_panic();
        self.tell(&Fact::Panicked { node, message });
    }

    /// Keeps one timer event for each shard, at its deadline.
    fn rearm(&mut self, node: usize, shard: u16) {
        let state = &mut self.nodes[node];
        let life = state.life;
        let Some(shard_state) = state.shards.get_mut(usize::from(shard)) else { return };
        let deadline = shard_state.machine.next_deadline();
        if deadline == shard_state.armed {
            return;
        }
        shard_state.armed = deadline;
        shard_state.round += 1;
        let round = shard_state.round;
        if let Some(deadline) = deadline {
            // A deadline that has passed is due at once, and time goes on all the same.
            let at = state.clock.true_time_of(deadline).max(self.now + 1);
            self.push(at, Event::Timer { node, shard, life, round });
        }
    }

    fn perform(&mut self, node: usize, shard: u16, effect: Effect) {
        let life = self.nodes[node].life;
        let effect = match self.nodes[node].disk.submit(self.now, ShardId(shard), effect) {
            Ok((operation, ends)) => {
                self.push(ends, Event::Disk { node, life, operation });
                return;
            }
            Err(effect) => effect,
        };
        match effect {
            Effect::Transmit { connection, parts } => {
                if let Some(stream) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.send(self.now, stream, 1, parts, &mut self.notices);
                }
            }
            Effect::Reading { connection, on } => {
                if let Some(stream) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.set_reading(self.now, stream, 1, on, &mut self.notices);
                }
            }
            Effect::Want { connection, bytes } => {
                if let Some(stream) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.set_want(stream, 1, bytes);
                }
            }
            Effect::Close { connection } => {
                if let Some(stream) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.close(self.now, stream, 1, &mut self.notices);
                }
            }
            Effect::Abort { connection } => {
                if let Some(stream) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.reset(self.now, stream, &mut self.notices);
                }
            }
            Effect::Post { shard: to, batch } => {
                let delay = self.schedule.below(20_000);
                let at = self.nodes[node].post(self.now, shard, to.0, batch, delay);
                self.push(at, Event::Posts { node, life, from: shard, to: to.0 });
            }
            Effect::Ready => {
                let ready = self.nodes[node].ready(shard);
                if ready {
                    self.tell(&Fact::Ready { node });
                }
            }
            Effect::Stopped => {
                if let Some(down) = self.nodes[node].stopped(shard) {
                    self.crash(node, Down { power: false, time: down, counted: false });
                }
            }
            Effect::Fatal { message } => self.fatal(node, message),
            Effect::Observe(Observed::Mark(mark)) => {
                *self.marks.entry(mark).or_insert(0) += 1;
            }
            Effect::Observe(Observed::HighWatermark { partition, offset }) => {
                self.tell(&Fact::HighWatermark { node, partition, offset: offset.0 });
            }
            _ => {}
        }
        self.flush_notices();
    }

    fn flush_notices(&mut self) {
        for notice in std::mem::take(&mut self.notices) {
            self.push(notice.at, Event::Net(notice));
        }
    }

    fn notice(&mut self, notice: Notice) {
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
                    Delivery::Closed => self.act(client, ActorEvent::Disconnected(stream)),
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

    fn accept(&mut self, stream: StreamId) {
        let Some((client, node)) = self.openers.get(&stream).copied() else { return };
        let cut = self.net.is_cut(Address::Client(client), Address::Node(node))
            || self.net.is_cut(Address::Node(node), Address::Client(client));
        if !self.nodes[node].is_ready() || cut {
            self.net.reset(self.now, stream, &mut self.notices);
            self.flush_notices();
            return;
        }
        let shard = self.schedule.below(u64::from(self.options.shards)) as u16;
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

    fn act(&mut self, client: usize, event: ActorEvent) {
        let mut hands = Hands {
            now: self.now,
            rng: &mut self.workload,
            next_stream: self.net.next_stream(),
            actions: Vec::new(),
        };
        self.clients[client].actor.handle(&mut hands, event);
        for action in hands.actions {
            match action {
                Action::Open(node) => {
                    let stream = self.net.open(Address::Client(client), Address::Node(node));
                    self.openers.insert(stream, (client, node));
                    let at = self.now + self.net.delay();
                    self.push(at, Event::Accept { stream });
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

    fn start(&mut self, node: usize) {
        let shards = self.options.shards;
        let state = &mut self.nodes[node];
        let zero = state.chance.below(1_000 * SECOND);
        let drift = self.options.drift_ppm;
        let ppm = state.chance.below(2 * drift + 1) as i64 - drift as i64;
        state.clock = Clock::new(self.now, zero, ppm, state.wall_ahead_ms);
        let births: Vec<Birth> = (0..shards)
            .map(|shard| Birth { node, shard, shards, seed: state.chance.bits() })
            .collect();
        for birth in births {
            let machine = (self.factory)(birth);
            self.nodes[node].begin(machine);
        }
        let life = self.nodes[node].life;
        for shard in 0..shards {
            self.push(self.now, Event::Input { node, shard, life, input: Input::Start });
        }
    }

    /// Ends the life of a node's process.
    fn crash(&mut self, node: usize, down: Down) {
        let state = &mut self.nodes[node];
        if state.shards.is_empty() {
            return;
        }
        if down.power {
            state.disk.lose_power();
        } else {
            state.disk.crash();
        }
        let life = state.end();
        for (stream, side) in self.net.streams_of(Address::Node(node)) {
            self.net.die(self.now, stream, side, &mut self.notices);
            self.accepted.remove(&stream);
        }
        self.flush_notices();
        self.resume(node);
        if down.counted {
            self.faults.add(if down.power { "power-cut" } else { "kill" }, 1);
            self.tell(&Fact::Crashed { node, power: down.power });
        }
        self.push(self.now + down.time.max(1), Event::Start { node, life });
    }

    fn fatal(&mut self, node: usize, message: String) {
        // A disk without any room is reason enough not to start.
        let full = self.nodes[node].disk.counters().no_space > 0 && !self.nodes[node].is_ready();
        let excused = self.nodes[node].excuse || full;
        self.tell(&Fact::Fatal { node, message, excused });
        self.crash(node, Down { power: false, time: SECOND, counted: false });
    }

    fn strike(&mut self, fault: &Fault) {
        if self.healed {
            return;
        }
        self.trace.line(|| format!("{:>15} {fault:?}", self.now));
        let (kind, now) = (fault.kind(), self.now);
        match *fault {
            Fault::Kill { node, effects, down } => {
                self.nodes[node].doom(effects, Down { power: false, time: down, counted: true });
                return;
            }
            Fault::PowerCut { node, effects, down } => {
                self.nodes[node].doom(effects, Down { power: true, time: down, counted: true });
                return;
            }
            Fault::Stop { node, down } => {
                if !self.nodes[node].is_ready() {
                    return;
                }
                self.nodes[node].stopping = Some(down);
                let life = self.nodes[node].life;
                for shard in 0..self.options.shards {
                    self.push(now, Event::Input { node, shard, life, input: Input::Stop });
                }
            }
            Fault::Pause { node, time } => {
                self.nodes[node].paused = true;
                let life = self.nodes[node].life;
                self.push(now + time, Event::Lift(Lift::Pause(node, life)));
            }
            Fault::WallJump { node, millis } => {
                self.nodes[node].wall_ahead_ms += millis;
                self.nodes[node].clock.jump(millis);
            }
            Fault::Drift { node, ppm } => self.nodes[node].clock.set_drift(now, ppm),
            Fault::ResetStreams { node } => {
                for (stream, _) in self.net.streams_of(Address::Node(node)) {
                    self.net.reset(now, stream, &mut self.notices);
                }
                self.flush_notices();
            }
            Fault::Cut { node, outbound, time } => {
                for client in 0..self.clients.len() {
                    let (client, node) = (Address::Client(client), Address::Node(node));
                    if outbound {
                        self.net.cut(node, client);
                    } else {
                        self.net.cut(client, node);
                    }
                }
                self.push(now + time, Event::Lift(Lift::Cuts));
            }
            Fault::DiskFull { node, room, time } => {
                let disk = &mut self.nodes[node].disk;
                let used = disk.used();
                disk.options_mut().capacity = Some(used + room);
                self.push(now + time, Event::Lift(Lift::Capacity(node)));
            }
            Fault::FlushErrors { node, time } => {
                self.nodes[node].excuse = true;
                self.nodes[node].disk.options_mut().flush_error = 300;
                self.push(now + time, Event::Lift(Lift::FlushErrors(node)));
            }
            Fault::ReadErrors { node, time } => {
                self.nodes[node].excuse = true;
                self.nodes[node].disk.options_mut().read_error = 300;
                self.push(now + time, Event::Lift(Lift::ReadErrors(node)));
            }
            Fault::SlowDisk { node, time } => {
                self.nodes[node].disk.options_mut().slow = 100;
                self.push(now + time, Event::Lift(Lift::Slowness(node)));
            }
            Fault::Rot { node } => {
                if !self.rot(node) {
                    return;
                }
            }
        }
        self.faults.add(kind, 1);
    }

    /// Flips a bit of a segment file.
    fn rot(&mut self, node: usize) -> bool {
        let disk = &mut self.nodes[node].disk;
        let segments: Vec<(String, u64)> = disk
            .files()
            .into_iter()
            .filter(|name| name.rsplit_once('.').is_some_and(|(_, kind)| kind == "log"))
            .map(|name| {
                let length = disk.page_image(&name).map_or(0, <[u8]>::len) as u64;
                (name, length)
            })
            .filter(|(_, length)| *length > 0)
            .collect();
        if segments.is_empty() {
            return false;
        }
        let (name, length) = &segments[self.chance.index(segments.len())];
        let (at, bit) = (self.chance.below(*length), self.chance.below(8) as u8);
        self.nodes[node].excuse = true;
        self.nodes[node].disk.rot(name, at, bit)
    }

    fn lift(&mut self, lift: Lift) {
        match lift {
            Lift::Cuts => {
                self.net.heal(self.now, &mut self.notices);
                self.flush_notices();
            }
            Lift::Pause(node, life) => {
                if self.nodes[node].life == life {
                    self.resume(node);
                }
            }
            Lift::Capacity(node) => {
                self.nodes[node].disk.options_mut().capacity = self.options.disk.capacity;
            }
            Lift::FlushErrors(node) => self.nodes[node].disk.options_mut().flush_error = 0,
            Lift::ReadErrors(node) => self.nodes[node].disk.options_mut().read_error = 0,
            Lift::Slowness(node) => {
                self.nodes[node].disk.options_mut().slow = self.options.disk.slow;
            }
        }
    }

    /// Lets a paused process go on.
    fn resume(&mut self, node: usize) {
        self.nodes[node].paused = false;
        for (after, event) in (1..).zip(std::mem::take(&mut self.deferred[node])) {
            self.push(self.now + after, event);
        }
    }

    /// No more faults: everything is mended, and the clients are told to finish.
    fn heal(&mut self) {
        self.healed = true;
        self.net.heal(self.now, &mut self.notices);
        let net = self.net.options_mut();
        (net.reset, net.half_open) = (0, 0);
        self.flush_notices();
        for node in 0..self.nodes.len() {
            let state = &mut self.nodes[node];
            state.doomed = None;
            let disk = state.disk.options_mut();
            (disk.flush_error, disk.read_error, disk.write_error, disk.no_space, disk.slow) =
                (0, 0, 0, 0, 0);
            disk.capacity = self.options.disk.capacity;
        }
        for node in 0..self.nodes.len() {
            self.resume(node);
        }
        for client in 0..self.clients.len() {
            self.act(client, ActorEvent::Finish);
        }
    }

    fn deadline(&mut self) {
        let waits = self.clients.iter().find_map(|client| client.actor.pending());
        if let Some(what) = waits {
            self.tell(&Fact::Stuck {
                what: format!("{} s after the last fault: {what}", self.options.grace / SECOND),
            });
        }
        self.over = true;
    }
}

#[cfg(test)]
mod tests;
