//! The world: any number of nodes of any number of shards, their clients, and one heap of events.
//!
//! Everything happens in one thread. The event with the least time is next; a random key, which depends on
//! the event alone, breaks ties. What an event brings about enters the trace and is shown to the checkers.
//!
//! Invariants:
//! 1. Between two inputs of a shard all of its effects are carried out, unless a crash strikes
//!    between two of them.
//! 2. Posts between two shards of a node arrive in the order in which they were sent.
//! 3. Nothing that belongs to a dead incarnation reaches a living one.

mod atlas;
mod event;
mod fault;
mod ledger;
mod look;
mod machine;
mod node;
mod processes;
mod shards;
mod streams;
mod strikes;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use mainspring_core::ids::{ConnectionId, ShardId};
use mainspring_core::io::{DiskErrorKind, Input, Mark};

pub use fault::{Damage, DiskTrouble, Fault, FaultCounts};
pub use machine::{Action, Actor, ActorEvent, Birth, Hands, Machine};

use crate::checkers::{Alarm, Checker};
use crate::disk::{DiskOptions, SimDisk};
use crate::history::Fact;
use crate::net::{Address, NetOptions, Notice, SimNet, StreamId};
use crate::rng::{Rng, Stream};
use crate::story::{Story, What};
use crate::trace::{Sink, Trace};
use event::{Due, Event};
use ledger::Ended;
use node::Node;
use strikes::SHORT;

/// Nanoseconds of a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000 * MILLISECOND;

/// How many checkpoints of the trace pass between two looks at the disks, beside those at each start and
/// each end of a process.
const LOOK_EVERY: usize = 16;

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
    /// Which node each client takes for the whole cluster, or asks first; node 0 for those that are not
    /// named.
    pub homes: Vec<usize>,
    /// Whether all nodes are one cluster, and what is promised of it; `None` for nodes that know nothing of
    /// each other.
    pub cluster: Option<ClusterOptions>,
    /// Whether faults may take the last good copy of what was acknowledged.
    pub unrecoverable: bool,
    /// What stays wrong when everything else is healed.
    pub permanent: Vec<Fault>,
    /// Where the lines of the trace go.
    pub sink: Option<Sink>,
    /// Whether the story is written down.
    pub story: bool,
    /// The event at which to stop, for looking at it.
    pub until: Option<u64>,
}

/// Nodes that are one cluster. Each has the number behind its place: node 0 is the one with the id 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterOptions {
    /// How many copies an acknowledged record has at least (`min.insync.replicas`).
    pub min_in_sync: usize,
    /// Nodes that are not well again when all else is healed, less than half: the others must do without
    /// them.
    pub lost: Vec<usize>,
    /// How long the run goes on at the least once all else is healed, in nanoseconds.
    pub linger: u64,
}

/// What a run amounts to.
#[derive(Default, Debug)]
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
    /// The story, if it was asked for.
    pub story: Option<Story>,
}

struct Client {
    actor: Box<dyn Actor>,
    round: u64,
    /// What it does.
    chance: Rng,
    /// On which shards its connections land.
    landings: Rng,
}

/// A shard at an end of a stream.
#[derive(Clone, Copy, Debug)]
struct Attached {
    node: usize,
    shard: u16,
    connection: ConnectionId,
}

/// Who opened a stream.
#[derive(Clone, Copy, Debug)]
enum Opener {
    Client(usize),
    Shard(Attached),
}

impl Opener {
    const fn address(self) -> Address {
        match self {
            Self::Client(client) => Address::Client(client),
            Self::Shard(attached) => Address::Node(attached.node),
        }
    }
}

/// Nodes, clients, network and time.
pub struct World<M> {
    now: u64,
    heap: BinaryHeap<Reverse<Due>>,
    number: u64,
    schedule: Rng,
    chance: Rng,
    net: SimNet,
    nodes: Vec<Node<M>>,
    clients: Vec<Client>,
    /// The opening end of each stream, and the node that it was opened to.
    openers: BTreeMap<StreamId, (Opener, usize)>,
    accepted: BTreeMap<StreamId, Attached>,
    trace: Trace,
    story: Option<Story>,
    checkers: Vec<Box<dyn Checker>>,
    alarm: Option<Alarm>,
    factory: Factory<M>,
    faults: FaultCounts,
    marks: BTreeMap<Mark, u64>,
    counts: BTreeMap<&'static str, u64>,
    healed: bool,
    /// Whether any node has served at any time. Nodes that are no cluster yet need all of them to become one.
    has_served: bool,
    /// Whose disk was exchanged for an empty one, of a cluster that can do without it.
    wiped: Option<usize>,
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
            .map(|node| Node::new(options.disk.clone(), seed, node as u32))
            .collect();
        let schedule = Rng::new(seed, Stream::Schedule);
        let clients = (0..)
            .zip(actors)
            .map(|(number, actor)| Client {
                actor,
                round: 0,
                chance: Rng::new(seed, Stream::Workload).child(number),
                landings: schedule.child(number),
            })
            .collect();
        let mut world = Self {
            now: 0,
            heap: BinaryHeap::new(),
            number: 0,
            schedule,
            chance: Rng::new(seed, Stream::Faults),
            net: SimNet::new(options.net.clone(), Rng::new(seed, Stream::Net)),
            nodes,
            clients,
            openers: BTreeMap::new(),
            accepted: BTreeMap::new(),
            trace: Trace::new(options.sink.clone()),
            story: options.story.then(Story::default),
            checkers,
            alarm: None,
            factory,
            faults: FaultCounts::default(),
            marks: BTreeMap::new(),
            counts: BTreeMap::new(),
            healed: false,
            has_served: false,
            wiped: None,
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
            if !world.clients[client].actor.takes_part() {
                continue;
            }
            let at = world.clients[client].chance.between(2, 50 * MILLISECOND);
            world.push(at, Event::Actor { client, round: 0 });
        }
        if let Some(ClusterOptions { min_in_sync, linger, .. }) = world.options.cluster {
            world.push(world.options.heal_at + linger, Event::Lingered);
            let nodes = world.nodes.len();
            world.tell(&Fact::Cluster { nodes, min_in_sync });
        }
        let faults = &world.options.faults;
        let is_short = |(_, fault): &(u64, Fault)| {
            fault.leaves_nothing() && fault.time().is_some_and(|time| time <= SHORT)
        };
        let is_gentle = world.options.permanent.is_empty() && faults.iter().all(is_short);
        if !faults.is_empty() && is_gentle {
            world.tell(&Fact::Gentle);
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
            for node in 0..self.nodes.len() {
                self.look(node);
            }
            self.finish();
        }
        self.outcome()
    }

    fn outcome(mut self) -> Outcome {
        for node in &self.nodes {
            for (kind, count) in node.disk.counters().faults() {
                self.faults.add(kind, count);
            }
        }
        let net = self.net.counters();
        for (kind, count) in [
            ("split-send", net.splits),
            ("reset", net.resets),
            ("half-open", net.half_open),
            ("lingering", net.lingering),
            ("held-piece", net.held),
            ("lost-piece", net.stalls),
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
            story: self.story,
            alarm: self.alarm,
            faults: self.faults,
            marks: self.marks,
            counts: self.counts,
        }
    }

    fn finish(&mut self) {
        for checker in &mut self.checkers {
            if let Err(message) = checker.finish() {
                self.alarm = Some(Alarm::of(&**checker, message, self.trace.events(), self.now));
                return;
            }
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        let (kind, whom) = event.numbers();
        let tie = self.schedule.child(at).child(kind).child(whom).bits();
        self.number += 1;
        self.heap.push(Reverse(Due { at, tie, number: self.number, event }));
    }

    /// Writes down what happens, where somebody wants the story.
    fn write_down(&mut self, what: impl FnOnce() -> What) {
        if let Some(story) = &mut self.story {
            story.note(self.trace.events(), self.now, what());
        }
    }

    /// Shows a fact to every checker.
    fn tell(&mut self, fact: &Fact) {
        if self.alarm.is_some() {
            return;
        }
        self.trace.line(|| format!("{:>15} {fact:?}", self.now));
        self.write_down(|| What::Fact(fact.clone()));
        let counted = match fact {
            Fact::Acked { .. } => Some("acks"),
            Fact::Invoked { .. } => Some("sends"),
            Fact::Refused { .. } => Some("refusals"),
            Fact::Read { records, .. } if !records.is_empty() => Some("reads"),
            Fact::Latest { .. } => Some("ends-told"),
            Fact::Fenced { .. } => Some("fenced-batches"),
            Fact::Purged { .. } => Some("purges"),
            Fact::Assigned { .. } => Some("assignments"),
            Fact::CommitAsked { .. } => Some("commits-asked"),
            Fact::CommitAnswered { code: 0, .. } => Some("commits"),
            Fact::CommitAnswered { .. } => Some("commits-refused"),
            Fact::ToldCommitted { offset: -1, .. } => Some("committed-none"),
            Fact::ToldCommitted { .. } => Some("committed-told"),
            Fact::TransactionBegun { .. } => Some("transactions"),
            Fact::TransactionEnded { committed: true, .. } => Some("transactions-committed"),
            Fact::TransactionEnded { .. } => Some("transactions-aborted"),
            Fact::TransactionLeft { .. } => Some("transactions-left"),
            Fact::ProducerReady { .. } => Some("producers-ready"),
            Fact::ProducerFenced { .. } => Some("producers-fenced"),
            Fact::TakenIn { .. } => Some("inputs-taken"),
            Fact::ReadCommitted { records, .. } if !records.is_empty() => Some("committed-reads"),
            Fact::ToldStable { offset: -1, .. } => Some("stable-none"),
            Fact::ToldStable { .. } => Some("stable-told"),
            Fact::PipelineRead { .. } => Some("pipelines-read"),
            Fact::EntryTaken { .. } => Some("entries-taken"),
            Fact::Came { .. } => Some("entries-came"),
            Fact::CancelAnswered { code: 0, .. } => Some("cancels"),
            Fact::CancelAnswered { .. } => Some("cancels-refused"),
            Fact::MoveAnswered { code: 0, .. } => Some("moves"),
            Fact::MoveAnswered { .. } => Some("moves-refused"),
            Fact::VerdictAnswered { code: 0, .. } => Some("verdicts"),
            Fact::VerdictAnswered { .. } => Some("verdicts-refused"),
            Fact::SentAgain { .. } => Some("sent-again"),
            Fact::Questioned { is_parked: true, .. } => Some("halves-parked"),
            Fact::Questioned { .. } => Some("questions"),
            Fact::Waits { .. } => Some("waits-listed"),
            Fact::Recurred { .. } => Some("recurred"),
            Fact::ViewedWhole { .. } => Some("viewed-whole"),
            Fact::GroupAtRest { .. } => Some("members-at-rest"),
            Fact::ReadFailed { .. } => Some("reads-refused"),
            Fact::Created { .. } => Some("topics-made"),
            Fact::Deleted { .. } => Some("topics-deleted"),
            Fact::OffsetStored { .. } => Some("offsets-stored"),
            Fact::Ready { .. } => Some("starts"),
            Fact::Fatal { .. } => Some("fatal"),
            Fact::ToldDamaged { .. } => Some("told-damaged"),
            Fact::FinalLog { .. } => Some("final-logs"),
            _ => None,
        };
        if let Some(counted) = counted {
            *self.counts.entry(counted).or_insert(0) += 1;
        }
        if let Fact::FinalLog { records, .. } = fact {
            *self.counts.entry("final-records").or_insert(0) += records.len() as u64;
        }
        for checker in &mut self.checkers {
            if let Err(message) = checker.observe(self.now, fact) {
                self.alarm = Some(Alarm::of(&**checker, message, self.trace.events(), self.now));
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
                    self.stored(node, operation, Ended::of(&finished.result));
                    if let Err(error) = &finished.result {
                        let missing = error.kind == DiskErrorKind::NotFound;
                        let error = error.to_string();
                        self.write_down(|| What::Failed { node, error, missing });
                    }
                    let input = Input::Completed { token: finished.token, result: finished.result };
                    self.handle(node, finished.shard.0, input);
                }
            }
            Event::Net(notice) => self.notice(notice),
            Event::Accept { stream } => self.accept(stream),
            Event::Unanswered { stream } => self.unanswered(stream),
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
            Event::Lingered => self.end_if_all_is_done(),
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
            Event::Net(notice) => self.attached(notice.stream, notice.side).map(|end| end.node),
            Event::Accept { stream } => self.openers.get(stream).map(|(_, node)| *node),
            Event::Unanswered { stream } => self.attached(*stream, 0).map(|end| end.node),
            Event::Actor { .. }
            | Event::Strike(_)
            | Event::Lift(_)
            | Event::Start { .. }
            | Event::Heal
            | Event::Lingered
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
        let looks = self.trace.checkpoints().len().is_multiple_of(LOOK_EVERY);
        for node in 0..self.nodes.len() {
            if looks && self.nodes[node].is_ready() {
                self.look(node);
            }
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
}

#[cfg(test)]
mod tests;
