//! The logs of one shard on a disk of their own, without broker, network or clients.
//!
//! It drives a [`LogStore`] effect by effect, so that its owner may stop, look, and cut the power
//! between any two of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use mainspring_core::ids::{
    Incarnation, LeaderEpoch, NodeId, Offset, PartitionIndex, ShardId, TopicName, TopicPartition,
    Uuid,
};
use mainspring_core::io::{Effect, Effects, Event, Mark};
use mainspring_core::log::{
    FetchPlan, FileRange, FlushPolicy, LogConfig, LogEvent, LogSettings, LogStore, ReadTicket,
    Storage,
};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::iterate::OpenBatch;
use mainspring_core::time::Instant;

use crate::clock::Clock;
use crate::disk::{OperationId, SimDisk};
use crate::history::record_hash;
use crate::world::MILLISECOND;

/// Most bytes of a batch whose payload is opened.
const OPEN_MAX: usize = 1 << 20;

/// Small sizes, so that every edge comes early.
pub fn small_config(seed: u64) -> LogConfig {
    LogConfig {
        seed,
        journal_first_file_bytes: 32 << 10,
        journal_file_bytes: 64 << 10,
        journal_max_bytes: 512 << 10,
        journal_block_bytes: 16 << 10,
        unwritten_max_bytes: 24 << 10,
        tail_cache_bytes: 8 << 10,
        ..LogConfig::default()
    }
}

/// Settings of the logs: small segments, and nothing goes by time.
pub fn small_settings(flush: FlushPolicy) -> LogSettings {
    LogSettings {
        storage: Storage::Disk,
        flush,
        segment_bytes: 6 << 10,
        segment_ms: 3_600_000,
        retention_ms: -1,
        retention_bytes: -1,
        index_interval_bytes: 512,
        memory_max_bytes: 1 << 20,
        delete: true,
        may_use_reserve: false,
    }
}

/// Returns the number `n`'s log: its id and its name.
pub fn log(n: u8) -> (TopicPartition, TopicName) {
    let id = TopicPartition { topic_id: Uuid([n + 1; 16]), partition: PartitionIndex(0) };
    (id, TopicName::parse(&format!("topic-{n}")).expect("a good name"))
}

/// Who a recovered directory says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The number of the start.
    pub incarnation: Incarnation,
    /// The cluster.
    pub cluster_id: Uuid,
    /// The directory.
    pub directory_id: Uuid,
    /// The largest epoch voted in, and for whom.
    pub vote: Option<(LeaderEpoch, NodeId)>,
}

/// What a log holds.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Content {
    /// Its first offset.
    pub start: i64,
    /// Offset and hash of each record.
    pub records: Vec<(i64, u64)>,
}

/// Why a bench went no further.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The store gave up its directory.
    Fatal(String),
    /// The store panicked.
    Panic(String),
    /// The store waits and nothing is under way.
    Stuck(&'static str),
    /// What it served is wrong.
    Wrong(String),
}

/// A store, its disk, and what it has said.
#[derive(Debug)]
pub struct LogBench {
    /// The store.
    pub store: LogStore,
    /// Its disk.
    pub disk: SimDisk,
    /// What it said of itself at its recovery.
    pub identity: Option<Identity>,
    /// Stable end of each log as the store announced it.
    pub stable: BTreeMap<TopicPartition, i64>,
    /// Logs whose creation, deletion or start the store has confirmed.
    pub created: Vec<TopicPartition>,
    /// Logs whose deletion the store has confirmed.
    pub deleted: Vec<TopicPartition>,
    /// Confirmed log starts.
    pub starts: BTreeMap<TopicPartition, i64>,
    /// Logs of which a truncation was confirmed.
    pub truncated: BTreeSet<TopicPartition>,
    /// How many truncations of each log were confirmed.
    pub cuts: BTreeMap<TopicPartition, u64>,
    /// Confirmed votes.
    pub voted: Option<(LeaderEpoch, NodeId)>,
    /// Marks that were reached.
    pub marks: BTreeMap<Mark, u64>,
    /// How many effects there were.
    pub effects: u64,
    fx: Effects,
    clock: Clock,
    now: u64,
    due: BinaryHeap<Reverse<(u64, OperationId)>>,
    read: Option<Result<Vec<Bytes>, String>>,
    next_ticket: u64,
    stop: Option<Stop>,
    closed: bool,
}

impl LogBench {
    /// Puts an unborn store onto a disk.
    pub fn new(config: LogConfig, disk: SimDisk) -> Self {
        Self {
            store: LogStore::new(config),
            disk,
            identity: None,
            stable: BTreeMap::new(),
            created: Vec::new(),
            deleted: Vec::new(),
            starts: BTreeMap::new(),
            truncated: BTreeSet::new(),
            cuts: BTreeMap::new(),
            voted: None,
            marks: BTreeMap::new(),
            effects: 0,
            fx: Effects::default(),
            clock: Clock::new(0, 0, 0, 0),
            now: 1,
            due: BinaryHeap::new(),
            read: None,
            next_ticket: 0,
            stop: None,
            closed: false,
        }
    }

    /// Returns true time.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Lets the store do something, and then carries out its effects; `look` sees the bench behind
    /// each of them.
    ///
    /// # Errors
    /// [`Stop`] where the store panicked or gave up.
    pub fn act<T>(
        &mut self,
        act: impl FnOnce(&mut LogStore, mainspring_core::time::Now, &mut Effects) -> T,
        look: &mut dyn FnMut(&Self),
    ) -> Result<T, Stop> {
        let now = self.clock.at(self.now);
        let (store, fx) = (&mut self.store, &mut self.fx);
        let turn = || {
            let done = act(store, now, fx);
            store.end_turn(now, fx);
            done
        };
        let done = catch_unwind(AssertUnwindSafe(turn))
            .map_err(|_| Stop::Panic(crate::process::take_panic()))?;
        self.take_events();
        while let Some(effect) = self.fx.pop() {
            self.effects += 1;
            match self.disk.submit(self.now, ShardId(0), effect) {
                Ok((operation, ends)) => {
                    self.due.push(Reverse((ends, operation)));
                    look(self);
                }
                Err(Effect::Fatal { message }) => {
                    self.stop = Some(Stop::Fatal(message.clone()));
                    return Err(Stop::Fatal(message));
                }
                Err(Effect::Observe(Event::Mark(mark))) => {
                    *self.marks.entry(mark).or_insert(0) += 1;
                }
                Err(_) => {}
            }
        }
        Ok(done)
    }

    fn take_events(&mut self) {
        while let Some(event) = self.store.poll_event() {
            match event {
                LogEvent::Recovered { incarnation, cluster_id, directory_id, vote, .. } => {
                    self.identity = Some(Identity { incarnation, cluster_id, directory_id, vote });
                }
                LogEvent::Stable { log, end } => {
                    self.stable.insert(log, end.value().0);
                }
                LogEvent::Voted { epoch, candidate } => self.voted = Some((epoch, candidate)),
                LogEvent::Truncated { log, .. } => {
                    self.truncated.insert(log);
                    *self.cuts.entry(log).or_insert(0) += 1;
                }
                LogEvent::Created(log) => self.created.push(log),
                LogEvent::Deleted(log) => self.deleted.push(log),
                LogEvent::LogStartMoved { log, start } => {
                    self.starts.insert(log, start.0);
                }
                LogEvent::Read { result, .. } => {
                    self.read = Some(result.map_err(|error| error.to_string()));
                }
                LogEvent::Poisoned(message) => {
                    self.stop = Some(Stop::Fatal(message.to_string()));
                }
                LogEvent::Closed => self.closed = true,
                _ => {}
            }
        }
    }

    /// Begins recovery.
    ///
    /// # Errors
    /// [`Stop`] where the store panicked or gave up.
    pub fn start(&mut self, look: &mut dyn FnMut(&Self)) -> Result<(), Stop> {
        self.act(LogStore::start, look)
    }

    /// Carries out the operation that ends first, or wakes the store at its deadline if that is
    /// earlier and `until` allows it. Returns whether there was anything.
    ///
    /// # Errors
    /// [`Stop`] where the store panicked or gave up.
    pub fn turn(&mut self, until: u64, look: &mut dyn FnMut(&Self)) -> Result<bool, Stop> {
        let deadline = self.store.next_deadline().map(|at: Instant| self.clock.true_time_of(at));
        let ends = self.due.peek().map(|Reverse((ends, _))| *ends);
        match (ends, deadline) {
            (Some(ends), deadline) if deadline.is_none_or(|deadline| ends <= deadline) => {
                let Some(Reverse((_, operation))) = self.due.pop() else { return Ok(false) };
                self.now = self.now.max(ends);
                let Some(finished) = self.disk.finish(operation) else { return Ok(true) };
                look(self);
                self.act(
                    |store, now, fx| {
                        store.handle_completion(now, finished.token, finished.result, fx);
                    },
                    look,
                )?;
                Ok(true)
            }
            (_, Some(deadline)) if deadline <= until => {
                self.now = self.now.max(deadline);
                self.act(LogStore::handle_wakeup, look)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Lets everything happen that happens within `time` nanoseconds.
    ///
    /// # Errors
    /// [`Stop`] where the store panicked or gave up.
    pub fn pass(&mut self, time: u64, look: &mut dyn FnMut(&Self)) -> Result<(), Stop> {
        let until = self.now + time;
        while self.next_at().is_some_and(|at| at <= until) {
            let before = self.now;
            self.turn(until, look)?;
            // A store whose deadline stands still would never let time pass.
            if self.now == before {
                self.now += 1;
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn next_at(&self) -> Option<u64> {
        let deadline = self.store.next_deadline().map(|at| self.clock.true_time_of(at));
        let ends = self.due.peek().map(|Reverse((ends, _))| *ends);
        [deadline, ends].into_iter().flatten().min()
    }

    /// Recovers to the end.
    ///
    /// # Errors
    /// [`Stop`] where that does not end well.
    pub fn recover(&mut self, look: &mut dyn FnMut(&Self)) -> Result<Identity, Stop> {
        self.start(look)?;
        for _ in 0..100_000 {
            if let Some(identity) = self.identity {
                return Ok(identity);
            }
            if let Some(stop) = self.stop.clone() {
                return Err(stop);
            }
            if !self.turn(self.now + 1_000 * MILLISECOND, look)? {
                return Err(Stop::Stuck("recovery waits for nothing"));
            }
        }
        Err(Stop::Stuck("recovery never ends"))
    }

    /// Stops the store in good order.
    ///
    /// # Errors
    /// [`Stop`] where that does not end well.
    pub fn close(&mut self, look: &mut dyn FnMut(&Self)) -> Result<(), Stop> {
        self.act(LogStore::stop, look)?;
        for _ in 0..100_000 {
            if self.closed {
                return Ok(());
            }
            if !self.turn(self.now + 10_000 * MILLISECOND, look)? {
                return Err(Stop::Stuck("closing waits for nothing"));
            }
        }
        Err(Stop::Stuck("closing never ends"))
    }

    /// Reads a log from its start to its stable end.
    ///
    /// # Errors
    /// [`Stop`] where a read fails, or returns something damaged or out of place.
    pub fn content(&mut self, log: TopicPartition) -> Result<Content, Stop> {
        let (Some(start), Some(end)) =
            (self.store.log_start_offset(log), self.store.stable_end(log))
        else {
            return Ok(Content::default());
        };
        let end = end.value();
        let mut content = Content { start: start.0, records: Vec::new() };
        let mut next = start;
        while next < end {
            let parts = match self.store.plan_fetch(log, next, end, 4 << 10, true) {
                FetchPlan::Memory(parts) => parts,
                FetchPlan::File(range) => self.read_file(range)?,
            };
            let mut bytes = Bytes::from(parts.concat());
            let before = next;
            while !bytes.is_empty() {
                let batch = Batch::split_from(&mut bytes)
                    .map_err(|error| Stop::Wrong(format!("{log} at {next}: {error}")))?;
                if !batch.crc_is_valid() {
                    return Err(Stop::Wrong(format!("{log} at {next}: a wrong CRC is served")));
                }
                for (offset, hash) in hashes(&batch) {
                    if offset >= next.0 {
                        content.records.push((offset, hash));
                    }
                }
                next = batch.next_offset();
            }
            if next == before {
                return Err(Stop::Wrong(format!("{log}: nothing is served at {next} of {end}")));
            }
        }
        Ok(content)
    }

    fn read_file(&mut self, range: FileRange) -> Result<Vec<Bytes>, Stop> {
        let ticket = ReadTicket(self.next_ticket);
        self.next_ticket += 1;
        let log = range.log;
        self.read = None;
        self.act(|store, now, fx| store.read(now, range, ticket, fx), &mut |_| {})?;
        loop {
            if let Some(read) = self.read.take() {
                return read.map_err(|error| Stop::Wrong(format!("a read of {log}: {error}")));
            }
            if !self.turn(self.now + 1_000 * MILLISECOND, &mut |_| {})? {
                return Err(Stop::Stuck("a read waits for nothing"));
            }
        }
    }
}

/// Returns offset and hash of each record of a batch.
pub fn hashes(batch: &Batch) -> Vec<(i64, u64)> {
    let Ok(open) = OpenBatch::open(batch, OPEN_MAX) else { return Vec::new() };
    open.records()
        .filter_map(Result::ok)
        .map(|placed| {
            let Offset(offset) = placed.offset;
            (offset, record_hash(placed.timestamp, placed.record.key, placed.record.value))
        })
        .collect()
}
