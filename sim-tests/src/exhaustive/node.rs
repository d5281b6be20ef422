//! One node whose next step somebody chooses: messages, disk operations, timers, posts and crashes.
//!
//! Between two steps nothing happens, and no time passes but up to a timer that is chosen.
//!
//! Invariants:
//! 1. All effects of a shard are carried out before its next input; operations of the disk are only
//!    begun, and requests, answers and posts only queued.
//! 2. Messages of one connection and posts between two shards keep their order, and so do operations
//!    on one file; everything else may come in any order.
//! 3. A copy of a node is a node of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use mainspring_core::broker::Shard;
use mainspring_core::broker::post::Post;
use mainspring_core::config::{NodeConfig, ShardConfig};
use mainspring_core::digest::Digest;
use mainspring_core::ids::{ConnectionId, ListenerIndex, ShardId, TopicPartition};
use mainspring_core::io::{Effect, Event, Input};

use super::search::Broken;
use crate::clock::Clock;
use crate::disk::{DiskOptions, OperationId, SimDisk};
use crate::rng::{Rng, Stream};
use crate::trace::TraceHash;

/// A connection: whole requests and answers on their way.
#[derive(Clone, Debug)]
struct Line {
    shard: u16,
    requests: VecDeque<Bytes>,
    answers: VecDeque<Bytes>,
    /// The beginning of an answer that is not whole yet.
    partial: BytesMut,
    is_read: bool,
}

/// A node and everything on its way to and from it.
#[derive(Clone)]
pub(super) struct Node {
    config: Arc<NodeConfig>,
    /// What the disk was like at the start of this life, for as long as the start takes.
    found: u64,
    shards: Vec<Rc<Shard>>,
    disk: SimDisk,
    now: u64,
    lives: u32,
    ready: BTreeSet<u16>,
    stopped: BTreeSet<u16>,
    lines: BTreeMap<ConnectionId, Line>,
    next_connection: u64,
    posts: BTreeMap<(u16, u16), VecDeque<Vec<Post>>>,
    /// The end of what each partition was said to have committed in this life.
    watermarks: BTreeMap<TopicPartition, i64>,
    /// Connections that the node has closed.
    closed: Vec<ConnectionId>,
}

/// What may happen to a node next, faults aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Move {
    /// The next request of a connection arrives.
    Request(ConnectionId),
    /// The next answer of a connection arrives; what it does is the client's matter.
    Answer(ConnectionId),
    /// A disk operation ends.
    Disk(OperationId),
    /// The next posts from one shard to another arrive.
    Post(u16, u16),
    /// Time passes up to the next deadline.
    Timer,
}

/// A way in which a node may end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Crash {
    /// The process dies.
    Kill,
    /// Power is lost.
    PowerCut,
}

impl Node {
    /// Makes a node with an empty disk, which has not been started.
    pub(super) fn new(config: Arc<NodeConfig>, sector: u64) -> Self {
        let options = DiskOptions { sector, ..DiskOptions::default() };
        Self {
            config,
            found: 0,
            shards: Vec::new(),
            disk: SimDisk::new(options, Rng::new(0, Stream::Disk(0))),
            now: 1,
            lives: 0,
            ready: BTreeSet::new(),
            stopped: BTreeSet::new(),
            lines: BTreeMap::new(),
            next_connection: 1,
            posts: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            closed: Vec::new(),
        }
    }

    /// Returns its disk.
    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Returns what its shards are told.
    pub(super) fn config(&self) -> &Arc<NodeConfig> {
        &self.config
    }

    /// Returns whether clients are served by all shards.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.len() == usize::from(self.config.shards)
    }

    /// Returns the end of what each partition was said to have committed in this life.
    pub(super) fn watermarks(&self) -> &BTreeMap<TopicPartition, i64> {
        &self.watermarks
    }

    /// Starts the process.
    pub(super) fn start(&mut self) -> Result<(), Broken> {
        self.found = self.disk.state_hash();
        self.lives += 1;
        for shard in 0..self.config.shards {
            let config = ShardConfig {
                shard: ShardId(shard),
                node: Arc::clone(&self.config),
                seed: u64::from(self.lives) << 16 | u64::from(shard),
            };
            self.shards.push(Rc::new(Shard::new(config)));
        }
        for shard in 0..self.config.shards {
            self.handle(shard, Input::Start)?;
        }
        Ok(())
    }

    /// Ends the process with what it had on its way, and starts it with this disk.
    pub(super) fn start_with(&mut self, disk: SimDisk) -> Result<(), Broken> {
        self.disk = disk;
        self.shards.clear();
        self.ready.clear();
        self.stopped.clear();
        self.lines.clear();
        self.posts.clear();
        self.watermarks.clear();
        self.closed.clear();
        self.start()
    }

    /// Stops the process in good order and starts it again, so that nothing is pending on the disk but
    /// what that start writes.
    pub(super) fn begin_anew(&mut self) -> Result<(), Broken> {
        for shard in 0..self.config.shards {
            self.handle(shard, Input::Stop)?;
        }
        self.settle(false)?;
        while self.stopped.len() < usize::from(self.config.shards) {
            // Only a timer can bring it on now.
            self.make(Move::Timer)?;
            self.settle(false)?;
        }
        let disk = self.disk.after_power_loss(|_| true);
        self.now = 1;
        self.start_with(disk)?;
        self.settle(true)?;
        self.settle(false)
    }

    /// Opens a connection to a shard.
    pub(super) fn connect(&mut self, shard: u16) -> Result<ConnectionId, Broken> {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let line = Line {
            shard,
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            partial: BytesMut::new(),
            is_read: true,
        };
        self.lines.insert(connection, line);
        let (listener, peer) = (ListenerIndex(0), Arc::from("client"));
        self.handle(shard, Input::Connected { connection, listener, peer })?;
        Ok(connection)
    }

    /// Breaks a connection, with all that is on its way.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Result<(), Broken> {
        let Some(line) = self.lines.remove(&connection) else { return Ok(()) };
        self.handle(line.shard, Input::Disconnected(connection))
    }

    /// Puts a request onto its way.
    pub(super) fn send(&mut self, connection: ConnectionId, frame: Bytes) {
        if let Some(line) = self.lines.get_mut(&connection) {
            line.requests.push_back(frame);
        }
    }

    /// Takes the next answer of a connection, without its size.
    pub(super) fn take_answer(&mut self, connection: ConnectionId) -> Option<Bytes> {
        self.lines.get_mut(&connection)?.answers.pop_front()
    }

    /// Takes the connections that the node has closed of its own accord.
    pub(super) fn take_closed(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.closed)
    }

    /// Returns what may happen next. Timers later than `horizon` never fire, unless their time has come.
    pub(super) fn moves(&self, horizon: u64) -> Vec<Move> {
        let mut moves = Vec::new();
        for (connection, line) in &self.lines {
            if !line.requests.is_empty() && line.is_read {
                moves.push(Move::Request(*connection));
            }
            if !line.answers.is_empty() {
                moves.push(Move::Answer(*connection));
            }
        }
        moves.extend(self.disk.may_end().into_iter().map(Move::Disk));
        moves.extend(self.posts.keys().map(|(from, to)| Move::Post(*from, *to)));
        if self.deadline().is_some_and(|at| at <= horizon.max(self.now)) {
            moves.push(Move::Timer);
        }
        moves
    }

    fn deadline(&self) -> Option<u64> {
        let clock = Clock::new(0, 0, 0, 0);
        self.shards
            .iter()
            .filter_map(|shard| shard.next_deadline())
            .map(|(at, _)| clock.true_time_of(at))
            .min()
    }

    /// Makes a move. An answer is left for the client to take.
    pub(super) fn make(&mut self, choice: Move) -> Result<(), Broken> {
        match choice {
            Move::Request(connection) => {
                let Some(line) = self.lines.get_mut(&connection) else { return Ok(()) };
                let (shard, Some(frame)) = (line.shard, line.requests.pop_front()) else {
                    return Ok(());
                };
                self.handle(shard, Input::Received(connection, BytesMut::from(&frame[..])))
            }
            Move::Answer(_) => Ok(()),
            Move::Disk(operation) => {
                let Some(done) = self.disk.finish(operation) else { return Ok(()) };
                let input = Input::Completed { token: done.token, result: done.result };
                self.handle(done.shard.0, input)
            }
            Move::Post(from, to) => {
                let Some(queue) = self.posts.get_mut(&(from, to)) else { return Ok(()) };
                let batch = queue.pop_front();
                if queue.is_empty() {
                    self.posts.remove(&(from, to));
                }
                let Some(batch) = batch else { return Ok(()) };
                self.handle(to, Input::Posted { from: ShardId(from), batch })
            }
            Move::Timer => {
                let Some(at) = self.deadline() else { return Ok(()) };
                self.now = self.now.max(at);
                let now = Clock::new(0, 0, 0, 0).at(self.now).mono;
                for shard in 0..self.config.shards {
                    let due = self.shards[usize::from(shard)].next_deadline();
                    if due.is_some_and(|(at, _)| at <= now) {
                        self.handle(shard, Input::Wakeup)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Makes moves in their order until none is left but timers whose time has not come, or the node is
    /// ready, whichever is asked for. Answers stay where they are.
    pub(super) fn settle(&mut self, until_ready: bool) -> Result<(), Broken> {
        for _ in 0..100_000 {
            if until_ready && self.is_ready() {
                return Ok(());
            }
            let next = self.moves(0).into_iter().find(|choice| !matches!(choice, Move::Answer(_)));
            match next {
                Some(choice) => self.make(choice)?,
                None if until_ready => return Err(Broken::new("I41", "a start that never ends")),
                None => return Ok(()),
            }
        }
        Err(Broken::new("I41", "work without end"))
    }

    /// Returns every disk that a crash of that kind may leave now, each once. Of more pieces than
    /// `units` not every subset is there.
    pub(super) fn after(&self, crash: Crash, units: usize) -> Vec<SimDisk> {
        let mut seen = BTreeSet::new();
        let mut images = match crash {
            Crash::Kill => self.disk.after_kills(),
            Crash::PowerCut => after_power_cuts(&self.disk, units),
        };
        images.retain(|image| seen.insert(image.state_hash()));
        images
    }

    fn handle(&mut self, shard: u16, input: Input) -> Result<(), Broken> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = Clock::new(0, 0, 0, 0).at(self.now);
            let machine = Rc::make_mut(&mut self.shards[usize::from(shard)]);
            machine.handle(now, input);
            while let Some(effect) =
                Rc::get_mut(&mut self.shards[usize::from(shard)]).and_then(Shard::poll_effect)
            {
                self.perform(shard, effect, &mut inputs)?;
            }
        }
        Ok(())
    }

    fn perform(
        &mut self,
        shard: u16,
        effect: Effect,
        inputs: &mut VecDeque<Input>,
    ) -> Result<(), Broken> {
        let Err(effect) = self.disk.submit(self.now, ShardId(shard), effect) else {
            return Ok(());
        };
        match effect {
            Effect::Transmit { connection, parts } => {
                let bytes: usize = parts.iter().map(Bytes::len).sum();
                if let Some(line) = self.lines.get_mut(&connection) {
                    line.take(&parts);
                    inputs.push_back(Input::Transmitted(connection, bytes as u64));
                }
            }
            Effect::Reading { connection, on } => {
                if let Some(line) = self.lines.get_mut(&connection) {
                    line.is_read = on;
                }
            }
            Effect::Close { connection } | Effect::Abort { connection }
                if self.lines.remove(&connection).is_some() =>
            {
                self.closed.push(connection);
                inputs.push_back(Input::Disconnected(connection));
            }
            Effect::Post { shard: to, batch } => {
                self.posts.entry((shard, to.0)).or_default().push_back(batch);
            }
            Effect::Ready => {
                self.ready.insert(shard);
            }
            Effect::Stopped => {
                self.stopped.insert(shard);
            }
            Effect::Fatal { message } => {
                return Err(Broken::new("I41", format!("gave up without a fault: {message}")));
            }
            Effect::Observe(Event::HighWatermark { partition, offset }) => {
                self.watermark(partition, offset.0)?;
            }
            Effect::Observe(Event::LogBounds { partition, high_watermark, .. }) => {
                self.watermark(partition, high_watermark.0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn watermark(&mut self, partition: TopicPartition, offset: i64) -> Result<(), Broken> {
        let known = self.watermarks.entry(partition).or_insert(offset);
        if offset < *known {
            let message =
                format!("the high watermark of {partition} fell from {known} to {offset}");
            return Err(Broken::new("I05", message));
        }
        *known = offset;
        Ok(())
    }

    /// Takes everything into a hash that what follows depends on. What the shards are made of follows
    /// from what the start has found, until they are ready.
    pub(super) fn hash(&self, hash: &mut TraceHash) {
        hash.number(self.now);
        hash.number(self.lives.into());
        if !self.is_ready() {
            hash.number(self.found);
        }
        hash.number(self.disk.state_hash());
        for shard in &self.shards {
            hash.number(shard.digest());
        }
        for shard in &self.ready {
            hash.number(u64::from(*shard));
        }
        for (connection, line) in &self.lines {
            hash.number(connection.0);
            hash.number(u64::from(line.shard) << 1 | u64::from(line.is_read));
            for messages in [&line.requests, &line.answers] {
                hash.number(messages.len() as u64);
                for message in messages {
                    hash.bytes(message);
                }
            }
        }
        for ((from, to), batches) in &self.posts {
            let mut digest = Digest::default();
            digest.shown(&(from, to, batches));
            hash.number(digest.finish());
        }
    }

    /// Says what a move is, for a person.
    pub(super) fn describe(&self, choice: Move) -> String {
        match choice {
            Move::Request(connection) => {
                format!("a request of connection {} arrives", connection.0)
            }
            Move::Answer(connection) => format!("an answer of connection {} arrives", connection.0),
            Move::Disk(operation) => {
                let place = self.disk.in_flight().position(|id| id == operation);
                let words = self.disk.describe_in_flight();
                let word = place.and_then(|place| words.get(place));
                format!("the disk ends: {}", word.map_or("nothing", String::as_str))
            }
            Move::Post(from, to) => format!("shard {from} reaches shard {to}"),
            Move::Timer => {
                let at = self.deadline().unwrap_or(0);
                format!("time passes to {}.{:03} ms", at / 1_000_000, at / 1_000 % 1_000)
            }
        }
    }
}

impl Line {
    /// Takes bytes that the node sends, and splits whole answers off.
    fn take(&mut self, parts: &[Bytes]) {
        for part in parts {
            self.partial.extend_from_slice(part);
        }
        while let Some(size) = self.partial.first_chunk::<4>().copied() {
            let size = u32::from_be_bytes(size) as usize;
            if self.partial.len() < 4 + size {
                break;
            }
            self.partial.advance(4);
            self.answers.push_back(self.partial.split_to(size).freeze());
        }
    }
}

/// Returns what a power cut may leave: every subset of the pending pieces where they are at most
/// `units`, else none, all, prefixes, suffixes, single holes and pairs.
fn after_power_cuts(disk: &SimDisk, units: usize) -> Vec<SimDisk> {
    let pending = disk.with_in_flight();
    let count = pending.pending_units();
    let keep = |survives: &dyn Fn(usize) -> bool| {
        let mut image = pending.clone();
        image.lose_power_but(survives);
        image
    };
    if count <= units {
        return (0..1_u64 << count).map(|mask| keep(&|unit| mask >> unit & 1 == 1)).collect();
    }
    let mut images = vec![keep(&|_| true)];
    for at in 0..count {
        images.push(keep(&|unit| unit < at));
        images.push(keep(&|unit| unit > at));
        images.push(keep(&|unit| unit != at));
        images.extend((at..count).map(|other| keep(&|unit| unit == at || unit == other)));
    }
    images
}
