//! A producer in the background: any thread hands records over, a task sends them.
//!
//! A record is copied once, into a chunk that the task takes as a whole, and encoded there. What a
//! thread pays for a record is a short lock and the copy. Its report is kept with its chunk for as
//! long as somebody holds a [`Delivery`] of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainspring_core::client::producer::accumulator::Ticket;
use mainspring_core::client::producer::{Producer, ProducerConfig, RecordRef, Report, ValuesRef};
use mainspring_core::client::{ClientError, Effect, Input};
use mainspring_core::ids::{Offset, PartitionIndex};
use mainspring_core::record::builder::RECORD_OVERHEAD_MAX;
use mainspring_core::time::{Instant, Now};
use mainspring_core::wire::KafkaString;

use super::Machine;
use super::background::{Background, Door, Work, run};
use super::call::{Call, Promise, Waiter};
use super::producer_transactions::{Gate, GroupOffsets, TransactionError, Transactions, Undone};

/// Bytes at which a chunk is handed to the task at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Records at which it is.
const CHUNK_RECORDS: usize = 8192;
/// Chunks that may wait for the task before whoever sends does better to let it catch up: memory that was
/// just used is used again then, and fresh memory costs more than the copying.
const AHEAD_MAX: usize = 8;
/// Bytes that may wait in the machine for their turn before the same holds: requests on their way are then
/// followed by others at once, and more would only be more memory.
const WAITING_MAX: usize = 4 << 20;
/// Chunks whose memory is kept to be used again.
const SPARE_MAX: usize = AHEAD_MAX + 2;
/// Longest time for which records are gathered before the task takes them, where they may linger.
const GATHER: Duration = Duration::from_millis(1);

/// A record to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; chosen by the key, or in turn, where none is named.
    pub partition: Option<i32>,
    /// Unix milliseconds; the time of sending where none is named.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// Headers in their order; names may repeat.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

impl Outgoing<'_> {
    /// How many bytes of the buffer it takes.
    fn size(&self) -> usize {
        let part = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + part(*value) + 10);
        part(self.key) + part(self.value) + headers.sum::<usize>() + RECORD_OVERHEAD_MAX
    }
}

/// Why a record was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// The buffer has no room at present; [`BackgroundProducer::room`] tells when it does.
    Full,
    /// The record alone is larger, in bytes, than the buffer or a request may be.
    TooLarge(usize),
    /// The producer is closed.
    Closed,
    /// It has a transactional id, and no transaction is open.
    NoTransaction,
    /// The transaction is to be aborted, or the producer is of no more use, as
    /// [`BackgroundProducer::transaction_error`] says.
    TransactionFailed,
    /// The task that sends records has panicked.
    Panicked,
}

/// A topic and partition as one producer knows it.
#[derive(Clone, Copy, Debug)]
pub struct Place(Plain);

/// Where a record was stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The topic.
    pub topic: KafkaString,
    /// The partition.
    pub partition: i32,
    /// The offset; `None` where the broker does not tell it (no acknowledgements).
    pub offset: Option<i64>,
    /// Unix milliseconds: the record's own time, or that of the broker where the topic wants it.
    pub timestamp: i64,
}

/// A piece of a chunk's bytes.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    const NONE: Self = Self { start: u32::MAX, end: u32::MAX };

    fn add(data: &mut Vec<u8>, bytes: Option<&[u8]>) -> Self {
        let Some(bytes) = bytes else {
            return Self::NONE;
        };
        let start = data.len() as u32;
        data.extend_from_slice(bytes);
        Self { start, end: data.len() as u32 }
    }

    fn of(self, data: &[u8]) -> Option<&[u8]> {
        (self.start != u32::MAX).then(|| &data[self.start as usize..self.end as usize])
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    topic: u32,
    /// -1 for none.
    partition: i32,
    timestamp: Option<i64>,
    key: Span,
    value: Span,
    /// Its headers in the chunk's list.
    headers: Span,
}

/// Where records go that are no more than a value each: topic and partition, -1 for none.
type Plain = (u32, i32);

/// Records that were handed over and not yet taken by the task.
#[derive(Debug, Default)]
struct Chunk {
    /// Keys, values and headers, in the order of the records.
    data: Vec<u8>,
    /// Where all of its records go, while they are values and nothing else: then there are no entries.
    plain: Option<Plain>,
    /// The length of each value, while they are.
    lengths: Vec<u32>,
    entries: Vec<Entry>,
    headers: Vec<(Span, Span)>,
    /// Bytes of the buffer that each record takes, while they are not.
    sizes: Vec<u32>,
    reports: Owed,
}

impl Chunk {
    /// Makes an empty one of one whose records were all appended, so that its memory is used again.
    fn emptied(mut self) -> Self {
        self.data.clear();
        self.plain = None;
        self.lengths.clear();
        self.entries.clear();
        self.headers.clear();
        self.sizes.clear();
        self
    }

    /// Returns how many records there are.
    const fn len(&self) -> usize {
        if self.plain.is_some() { self.lengths.len() } else { self.entries.len() }
    }

    /// Whether it is better to begin another one before a record of so many bytes.
    const fn is_full(&self, bytes: usize) -> bool {
        let count = self.len();
        count >= CHUNK_RECORDS || (count > 0 && self.data.len() + bytes > CHUNK_BYTES)
    }

    /// Whether values for that place may be put in as such.
    fn takes_plain(&self, place: Plain) -> bool {
        self.plain == Some(place) || self.len() == 0
    }

    fn push_plain(&mut self, place: Plain, value: &[u8]) {
        self.plain = Some(place);
        self.data.extend_from_slice(value);
        self.lengths.push(value.len() as u32);
    }

    fn push(&mut self, topic: u32, record: &Outgoing<'_>, size: usize) {
        self.make_general();
        let first = self.headers.len() as u32;
        for (name, value) in record.headers {
            let name = Span::add(&mut self.data, Some(name));
            let value = Span::add(&mut self.data, *value);
            self.headers.push((name, value));
        }
        self.entries.push(Entry {
            topic,
            partition: record.partition.unwrap_or(-1),
            timestamp: record.timestamp,
            key: Span::add(&mut self.data, record.key),
            value: Span::add(&mut self.data, record.value),
            headers: Span { start: first, end: self.headers.len() as u32 },
        });
        self.sizes.push(size as u32);
    }

    /// Lets it take records of any kind.
    fn make_general(&mut self) {
        let Some((topic, partition)) = self.plain.take() else {
            return;
        };
        let mut start = 0;
        for length in self.lengths.drain(..) {
            let value = Span { start, end: start + length };
            start = value.end;
            let (key, headers) = (Span::NONE, Span { start: 0, end: 0 });
            self.entries.push(Entry { topic, partition, timestamp: None, key, value, headers });
            self.sizes.push(length + RECORD_OVERHEAD_MAX as u32);
        }
    }

    /// Appends what comes behind the first `done` records, whose values are `start` bytes where it is
    /// plain, counts both on, and returns whether that was all.
    fn append_to(
        &self,
        producer: &mut Producer,
        now: Now,
        topics: &[KafkaString],
        done: &mut usize,
        start: &mut usize,
    ) -> bool {
        if let Some((topic, partition)) = self.plain {
            let values = ValuesRef {
                topic: &topics[topic as usize],
                partition: (partition >= 0).then_some(PartitionIndex(partition)),
                bytes: &self.data[*start..],
                lengths: &self.lengths[*done..],
            };
            let count = producer.append_values(now, &values);
            *start += values.lengths[..count].iter().map(|length| *length as usize).sum::<usize>();
            *done += count;
            return *done == self.lengths.len();
        }
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
        for entry in &self.entries[*done..] {
            headers.clear();
            let range = entry.headers.start as usize..entry.headers.end as usize;
            headers.extend(self.headers[range].iter().map(|(name, value)| {
                (name.of(&self.data).unwrap_or_default(), value.of(&self.data))
            }));
            let record = RecordRef {
                topic: &topics[entry.topic as usize],
                partition: (entry.partition >= 0).then_some(PartitionIndex(entry.partition)),
                timestamp: entry.timestamp,
                key: entry.key.of(&self.data),
                value: entry.value.of(&self.data),
                headers: &headers,
            };
            if producer.append(now, &record).is_err() {
                return false;
            }
            *done += 1;
        }
        true
    }

    /// Gives the sizes of its records, which leave it.
    fn take_sizes(&mut self) -> Vec<u32> {
        if self.plain.is_some() {
            // The lengths are needed where they are until all is appended.
            let sizes = self.lengths.iter().map(|length| length + RECORD_OVERHEAD_MAX as u32);
            return sizes.collect();
        }
        std::mem::take(&mut self.sizes)
    }
}

/// What became of the records of a chunk.
#[derive(Debug, Default)]
struct Reports {
    inner: Mutex<ReportsInner>,
    changed: Condvar,
}

/// The side of reports that brings them. Dropped, it leaves the word that those which are missing will
/// never come.
#[derive(Debug, Default)]
struct Owed(Arc<Reports>);

impl Drop for Owed {
    fn drop(&mut self) {
        // Nobody can get hold of a report any more who has not done so.
        if Arc::strong_count(&self.0) > 1 {
            self.0.abandon();
        }
    }
}

#[derive(Default)]
struct ReportsInner {
    /// For each record its batch among `batches` and its place in it. Empty until the chunk is taken.
    places: Vec<(u32, u32)>,
    batches: Vec<BatchReport>,
    waiters: Vec<(u32, Waiter)>,
    /// Whether no more reports come.
    is_abandoned: bool,
    /// When the chunk was taken: the time of records that brought none.
    taken_at: i64,
    /// The times of all records, where one brought its own.
    timestamps: Vec<i64>,
}

impl std::fmt::Debug for ReportsInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReportsInner").field("batches", &self.batches).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct BatchReport {
    topic: KafkaString,
    partition: i32,
    result: Result<Option<Offset>, ClientError>,
    log_append_time: Option<i64>,
}

const UNREPORTED: u32 = u32::MAX;

impl Reports {
    fn lock(&self) -> MutexGuard<'_, ReportsInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a batch's report for some of the chunk's records, and wakes who waits for them.
    fn note(&self, report: BatchReport, records: impl Iterator<Item = (usize, u32)>) {
        let woken = {
            let mut inner = self.lock();
            let batch = inner.batches.len() as u32;
            inner.batches.push(report);
            for (index, nth) in records {
                inner.places[index] = (batch, nth);
            }
            let waiters = std::mem::take(&mut inner.waiters);
            let (woken, left): (Vec<_>, Vec<_>) = waiters
                .into_iter()
                .partition(|(index, _)| inner.places[*index as usize].0 != UNREPORTED);
            inner.waiters = left;
            woken
        };
        self.changed.notify_all();
        for (_, waiter) in woken {
            waiter();
        }
    }

    /// Leaves those without an answer who still wait, and tells them.
    fn abandon(&self) {
        let waiters = {
            let mut inner = self.lock();
            inner.is_abandoned = true;
            std::mem::take(&mut inner.waiters)
        };
        self.changed.notify_all();
        for (_, waiter) in waiters {
            waiter();
        }
    }
}

impl ReportsInner {
    /// Returns the record's batch among `batches` and its place in it.
    fn place(&self, index: u32) -> Option<(u32, u32)> {
        self.places.get(index as usize).copied().filter(|(batch, _)| *batch != UNREPORTED)
    }

    fn is_settled(&self, index: u32) -> bool {
        self.is_abandoned || self.place(index).is_some()
    }
}

/// The report of one record, which is there or will be.
#[derive(Clone, Debug)]
pub struct Delivery {
    reports: Arc<Reports>,
    index: u32,
}

impl Delivery {
    /// Returns whether the record was reported.
    pub fn is_done(&self) -> bool {
        self.reports.lock().is_settled(self.index)
    }

    /// Waits for the report for as long as is given, and returns whether it is there.
    pub fn wait(&self, limit: Duration) -> bool {
        let inner = self.reports.lock();
        let index = self.index;
        let waited =
            self.reports.changed.wait_timeout_while(inner, limit, |inner| !inner.is_settled(index));
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.is_settled(index)
    }

    /// Calls `waiter` once the report is there: at once where it is.
    pub fn on_done(&self, waiter: Waiter) {
        let mut inner = self.reports.lock();
        if !inner.is_settled(self.index) {
            inner.waiters.push((self.index, waiter));
            return;
        }
        drop(inner);
        waiter();
    }

    /// Returns the report, `None` where there is none yet.
    pub fn result(&self) -> Option<Result<Stored, ClientError>> {
        let inner = self.reports.lock();
        let Some((batch, nth)) = inner.place(self.index) else {
            return inner.is_abandoned.then_some(Err(ClientError::Abandoned));
        };
        let report = &inner.batches[batch as usize];
        let own = inner.timestamps.get(self.index as usize).copied().unwrap_or(inner.taken_at);
        Some(report.result.clone().map(|base| Stored {
            topic: report.topic.clone(),
            partition: report.partition,
            offset: base.map(|base| base.0 + i64::from(nth)),
            timestamp: report.log_append_time.unwrap_or(own),
        }))
    }
}

/// What threads and the task share.
#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    /// Bytes of records without a report.
    reserved: AtomicUsize,
    /// Records without one.
    pending: AtomicUsize,
    limit: usize,
    max_record: usize,
    is_transactional: bool,
    /// Whether what is in the inbox waits for no more.
    is_urgent: AtomicBool,
    /// Chunks that were begun and not yet appended.
    ahead: AtomicUsize,
    /// Bytes that wait for their turn in the machine.
    waiting: AtomicUsize,
    /// Counts reports and chunks that were appended, as signs of progress.
    progress: AtomicUsize,
    /// What `progress` was when somebody waited for it in vain.
    stalled_at: AtomicUsize,
}

#[derive(Debug)]
struct Inbox {
    /// Which records are taken.
    gate: Gate,
    chunks: VecDeque<Chunk>,
    topics: Vec<KafkaString>,
    by_name: BTreeMap<KafkaString, u32>,
    last: usize,
    /// Answered once there is room again; one for all who wait for it, however often they ask.
    room: Option<Promise<()>>,
    /// Chunks that are empty again, at most [`SPARE_MAX`].
    spare: Vec<Chunk>,
    /// Answered once the task has caught up.
    caught_up: Option<Promise<()>>,
    /// Whether a chunk was ever filled: then the next ones may be as well.
    has_filled: bool,
    is_closed: bool,
}

impl Inbox {
    fn new(gate: Gate) -> Self {
        Self {
            gate,
            chunks: VecDeque::new(),
            topics: Vec::new(),
            by_name: BTreeMap::new(),
            last: 0,
            room: None,
            spare: Vec::new(),
            caught_up: None,
            has_filled: false,
            is_closed: false,
        }
    }

    fn topic(&mut self, name: &str) -> u32 {
        if self.topics.get(self.last).is_some_and(|topic| topic.as_bytes() == name.as_bytes()) {
            return self.last as u32;
        }
        let index = self.by_name.get(name).copied().unwrap_or_else(|| {
            let index = self.topics.len() as u32;
            let topic = KafkaString::from(name);
            self.topics.push(topic.clone());
            self.by_name.insert(topic, index);
            index
        });
        self.last = index as usize;
        index
    }

    /// Begins a chunk.
    fn begin(&mut self) -> &mut Chunk {
        let mut chunk = self.spare.pop().unwrap_or_default();
        if self.has_filled {
            chunk.data.reserve(CHUNK_BYTES);
        }
        self.chunks.push_back(chunk);
        self.chunks.back_mut().expect("one was pushed right here")
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more records, and gives what was taken without being seen by the task.
    fn shut(&self) -> (VecDeque<Chunk>, Vec<Promise<()>>) {
        let mut inbox = self.inbox();
        inbox.is_closed = true;
        inbox.spare.clear();
        let waiting = inbox.room.take().into_iter().chain(inbox.caught_up.take());
        let waiting = waiting.collect();
        (std::mem::take(&mut inbox.chunks), waiting)
    }
}

/// A producer that any thread may use.
#[derive(Debug)]
pub struct BackgroundProducer {
    shared: Arc<Shared>,
    door: Door<Sending>,
}

impl BackgroundProducer {
    /// Connects to nothing before the first record, unless it has a transactional id: it takes the
    /// place of whoever had that before at once.
    pub fn start(background: &Background, config: ProducerConfig) -> Self {
        let is_transactional = config.transactional_id.is_some();
        let gate = if is_transactional { Gate::Closed } else { Gate::Open };
        let shared = Arc::new(Shared {
            inbox: Mutex::new(Inbox::new(gate)),
            is_transactional,
            reserved: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            limit: config.buffer_bytes,
            max_record: config.max_request_bytes.min(config.buffer_bytes),
            is_urgent: AtomicBool::new(false),
            ahead: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            progress: AtomicUsize::new(0),
            stalled_at: AtomicUsize::new(usize::MAX),
        });
        let sending = Sending::new(config, Arc::clone(&shared));
        Self { shared, door: run(background, sending) }
    }

    /// Takes a record.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn send(&self, record: &Outgoing<'_>) -> Result<Delivery, NotTaken> {
        let mut many = self.many();
        many.send(record).map(|(reports, index)| Delivery { reports: Arc::clone(reports), index })
    }

    /// Begins to take many records under one lock, which is held until the end of them.
    pub fn many(&self) -> Many<'_> {
        let inbox = self.shared.inbox();
        // Only threads that hold the lock add to it.
        let room = self.shared.limit.saturating_sub(self.shared.reserved.load(Ordering::Acquire));
        Many { producer: self, inbox, room, reserved: 0, count: 0, wakes: false }
    }

    /// Returns whether so much waits to be sent that whoever sends does better to wait for
    /// [`caught_up`](Self::caught_up) for a while: what was just sent is memory to be used again.
    /// Nothing is refused for that, and while nothing moves there is nothing to wait for.
    pub fn is_ahead(&self) -> bool {
        let shared = &*self.shared;
        let is_ahead = shared.ahead.load(Ordering::Relaxed) > AHEAD_MAX
            || shared.waiting.load(Ordering::Relaxed) > WAITING_MAX;
        is_ahead
            && shared.progress.load(Ordering::Relaxed) != shared.stalled_at.load(Ordering::Relaxed)
    }

    /// Returns a call that is answered when the task has caught up with whoever sends.
    pub fn caught_up(&self) -> Call<()> {
        let mut inbox = self.shared.inbox();
        if inbox.is_closed || !self.is_ahead() {
            return Call::ready(());
        }
        inbox.caught_up.get_or_insert_with(|| Promise::new(self.door.fate())).call()
    }

    /// Says that waiting for the task was in vain: nobody waits for it again before something moves.
    pub fn note_stall(&self) {
        let progress = self.shared.progress.load(Ordering::Relaxed);
        self.shared.stalled_at.store(progress, Ordering::Relaxed);
    }

    /// Sends what was taken so far without waiting for more.
    pub fn hurry(&self) {
        self.shared.is_urgent.store(true, Ordering::Release);
        self.door.order(|sending, _| sending.hurry = true);
    }

    /// Sends what was taken so far; the answer comes when all of it is reported.
    pub fn flush(&self) -> Call<()> {
        self.shared.is_urgent.store(true, Ordering::Release);
        self.door.request_or((), |sending, _, promise| sending.flushes_asked.push(promise))
    }

    /// Returns a call that is answered when there is room in the buffer again.
    pub fn room(&self) -> Call<()> {
        let mut inbox = self.shared.inbox();
        if inbox.is_closed || self.shared.reserved.load(Ordering::Acquire) <= self.shared.limit / 2
        {
            return Call::ready(());
        }
        let call = inbox.room.get_or_insert_with(|| Promise::new(self.door.fate())).call();
        drop(inbox);
        // A full buffer is sent whatever its age; what fills it may be here still.
        self.shared.is_urgent.store(true, Ordering::Release);
        self.door.poke();
        call
    }

    /// Begins a transaction: what is sent once it is begun is part of it. Waits for one that is being
    /// ended. Like every call about transactions it is answered within `max.block.ms`.
    pub fn begin_transaction(&self) -> Call<Result<(), Undone>> {
        self.about_transactions(|transactions, _, now, promise| transactions.begin(now, promise))
    }

    /// Makes offsets of a group part of the transaction: they are stored when it is committed.
    pub fn send_offsets(&self, group: GroupOffsets) -> Call<Result<(), Undone>> {
        self.about_transactions(move |transactions, producer, now, promise| {
            transactions.send_offsets(producer, now, group, promise);
        })
    }

    /// Commits the transaction with all that was sent before; nothing is taken behind it until the next
    /// one is begun.
    pub fn commit_transaction(&self) -> Call<Result<(), Undone>> {
        self.end_transaction(true)
    }

    /// Aborts the transaction. Records that did not leave yet fail.
    pub fn abort_transaction(&self) -> Call<Result<(), Undone>> {
        self.end_transaction(false)
    }

    /// Returns why the transaction must be aborted, or why the producer is of no more use.
    pub fn transaction_error(&self) -> Option<TransactionError> {
        match &self.shared.inbox().gate {
            Gate::Open | Gate::Closed => None,
            Gate::Failed(error) => Some(error.clone()),
        }
    }

    fn end_transaction(&self, committed: bool) -> Call<Result<(), Undone>> {
        if self.shared.is_transactional {
            self.shared.inbox().gate = Gate::Closed;
            self.shared.is_urgent.store(true, Ordering::Release);
        }
        self.about_transactions(move |transactions, _, now, promise| {
            transactions.end(now, committed, promise);
        })
    }

    fn about_transactions(
        &self,
        act: impl FnOnce(&mut Transactions, &mut Producer, Now, Promise<Result<(), Undone>>)
        + Send
        + 'static,
    ) -> Call<Result<(), Undone>> {
        if self.shared.inbox().is_closed {
            // Nobody keeps the promise.
            return Promise::new(self.door.fate()).call();
        }
        self.door.request(|sending, now, promise| match &mut sending.transactions {
            Some(transactions) => act(transactions, &mut sending.producer, now, promise),
            None => promise.complete(Err(Undone::NoTransactionalId)),
        })
    }

    /// Returns how many records have no report yet.
    pub fn pending(&self) -> usize {
        self.shared.pending.load(Ordering::Acquire)
    }

    /// Returns whether it was closed. One whose task has panicked was not: closing it says so.
    pub fn is_closed(&self) -> bool {
        self.shared.inbox().is_closed && !self.door.is_panicked()
    }

    /// Takes no more records, sends those that were taken, and ends after `limit` at the latest; a
    /// transaction that is open is aborted. The answer tells how many had no report by then; each of those is reported as unknown.
    pub fn close(&self, limit: Duration) -> Call<usize> {
        self.shared.inbox().is_closed = true;
        self.shared.is_urgent.store(true, Ordering::Release);
        self.door.request_or(0, move |sending, now, promise| {
            let until = now.mono + limit;
            sending.close_by = Some(sending.close_by.map_or(until, |by| by.min(until)));
            sending.closes.push(promise);
        })
    }
}

/// For tests of what becomes of those who wait.
#[cfg(debug_assertions)]
impl BackgroundProducer {
    /// Has the task panic.
    pub fn break_down(&self) {
        self.door.break_down();
    }
}

impl Drop for BackgroundProducer {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

/// Records being taken, one after the other, under one lock.
#[derive(Debug)]
pub struct Many<'a> {
    producer: &'a BackgroundProducer,
    inbox: MutexGuard<'a, Inbox>,
    /// Bytes that the buffer still had room for in the beginning.
    room: usize,
    /// Bytes that were taken since, of so many records.
    reserved: usize,
    count: usize,
    wakes: bool,
}

impl Many<'_> {
    /// Takes a record and tells where its report will be.
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(&Arc<Reports>, u32), NotTaken> {
        let size = record.size();
        self.reserve(size)?;
        let topic = self.inbox.topic(record.topic);
        let chunk = self.chunk(size - RECORD_OVERHEAD_MAX);
        let index = chunk.len() as u32;
        if let (Some(value), None, None, []) =
            (record.value, record.key, record.timestamp, record.headers)
            && chunk.takes_plain((topic, record.partition.unwrap_or(-1)))
        {
            chunk.push_plain((topic, record.partition.unwrap_or(-1)), value);
        } else {
            chunk.push(topic, record, size);
        }
        let chunk = self.inbox.chunks.back().expect("it was used right here");
        Ok((&chunk.reports.0, index))
    }

    /// Takes a record without keeping its report.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn push(&mut self, record: &Outgoing<'_>) -> Result<(), NotTaken> {
        self.send(record).map(|_| ())
    }

    /// Takes a value for a topic and partition that [`place`](Self::place) has given.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn push_value(&mut self, place: Place, value: &[u8]) -> Result<(), NotTaken> {
        self.reserve(value.len() + RECORD_OVERHEAD_MAX)?;
        let chunk = self.chunk(value.len());
        if chunk.takes_plain(place.0) {
            chunk.push_plain(place.0, value);
        } else {
            let (topic, partition) = place.0;
            let partition = (partition >= 0).then_some(partition);
            let record = Outgoing { partition, value: Some(value), ..Outgoing::default() };
            chunk.push(topic, &record, value.len() + RECORD_OVERHEAD_MAX);
        }
        Ok(())
    }

    /// Names a topic and partition for [`push_value`](Self::push_value); without a partition that is
    /// chosen as the settings say.
    pub fn place(&mut self, topic: &str, partition: Option<i32>) -> Place {
        Place((self.inbox.topic(topic), partition.unwrap_or(-1)))
    }

    /// Finds room in the buffer.
    fn reserve(&mut self, size: usize) -> Result<(), NotTaken> {
        if size > self.producer.shared.max_record {
            return Err(NotTaken::TooLarge(size));
        }
        if self.inbox.is_closed {
            let is_panicked = self.producer.door.is_panicked();
            return Err(if is_panicked { NotTaken::Panicked } else { NotTaken::Closed });
        }
        match self.inbox.gate {
            Gate::Open => {}
            Gate::Closed => return Err(NotTaken::NoTransaction),
            Gate::Failed(_) => return Err(NotTaken::TransactionFailed),
        }
        if self.reserved + size > self.room {
            return Err(NotTaken::Full);
        }
        self.reserved += size;
        self.count += 1;
        Ok(())
    }

    /// Returns the chunk that a record of so many bytes goes to.
    fn chunk(&mut self, bytes: usize) -> &mut Chunk {
        let inbox = &mut *self.inbox;
        let is_first = inbox.chunks.is_empty();
        let is_full = inbox.chunks.back().is_some_and(|chunk| chunk.is_full(bytes));
        if is_full {
            inbox.has_filled = true;
            self.producer.shared.is_urgent.store(true, Ordering::Release);
        }
        self.wakes |= is_first || is_full;
        if is_first || is_full {
            self.producer.shared.ahead.fetch_add(1, Ordering::Relaxed);
            return inbox.begin();
        }
        inbox.chunks.back_mut().expect("there is one")
    }
}

impl Drop for Many<'_> {
    fn drop(&mut self) {
        // Under the lock still: the task must not report what is not counted.
        self.producer.shared.reserved.fetch_add(self.reserved, Ordering::AcqRel);
        self.producer.shared.pending.fetch_add(self.count, Ordering::AcqRel);
        if self.wakes {
            self.producer.door.poke();
        }
    }
}

/// A chunk whose records wait for their reports.
#[derive(Debug)]
struct Flying {
    first: u64,
    sizes: Vec<u32>,
    left: usize,
    reports: Owed,
}

/// A chunk that the task has taken.
struct Taken {
    chunk: Chunk,
    /// How many of its records are appended.
    done: usize,
    /// The bytes of those, where it is plain.
    start: usize,
}

impl From<Chunk> for Taken {
    fn from(chunk: Chunk) -> Self {
        Self { chunk, done: 0, start: 0 }
    }
}

/// The producer with what is on its way to it.
struct Sending {
    producer: Producer,
    transactions: Option<Transactions>,
    shared: Arc<Shared>,
    linger: Duration,
    topics: Vec<KafkaString>,
    /// Taken from the inbox, and not all of it appended yet.
    taken: VecDeque<Taken>,
    flying: VecDeque<Flying>,
    next_ticket: u64,
    gather_until: Option<Instant>,
    hurry: bool,
    flushes_asked: Vec<Promise<()>>,
    /// Those to be answered once no record before this ticket waits for its report.
    flushes: VecDeque<(u64, Promise<()>)>,
    close_by: Option<Instant>,
    closes: Vec<Promise<usize>>,
    is_over: bool,
}

impl Sending {
    fn new(config: ProducerConfig, shared: Arc<Shared>) -> Self {
        Self {
            linger: config.linger,
            transactions: shared.is_transactional.then(|| Transactions::new(config.max_block)),
            producer: Producer::new(config),
            shared,
            topics: Vec::new(),
            taken: VecDeque::new(),
            flying: VecDeque::new(),
            next_ticket: 0,
            gather_until: None,
            hurry: false,
            flushes_asked: Vec::new(),
            flushes: VecDeque::new(),
            close_by: None,
            closes: Vec::new(),
            is_over: false,
        }
    }

    /// Takes what is in the inbox, unless it is better to let it gather for a moment.
    fn take_inbox(&mut self, now: Now) -> Option<Duration> {
        let mut inbox = self.shared.inbox();
        if inbox.chunks.is_empty() {
            self.gather_until = None;
            self.shared.is_urgent.store(false, Ordering::Release);
            return None;
        }
        let gather = GATHER.min(self.linger / 4);
        if !self.shared.is_urgent.load(Ordering::Acquire) && !gather.is_zero() {
            let until = *self.gather_until.get_or_insert(now.mono + gather);
            if now.mono < until {
                return Some(until.since(now.mono));
            }
        }
        self.gather_until = None;
        self.shared.is_urgent.store(false, Ordering::Release);
        let chunks = std::mem::take(&mut inbox.chunks);
        self.topics.extend(inbox.topics[self.topics.len()..].iter().cloned());
        drop(inbox);
        self.taken.extend(chunks.into_iter().map(Taken::from));
        None
    }

    fn append_taken(&mut self, now: Now) {
        while let Some(Taken { chunk, done, start }) = self.taken.front_mut() {
            let before = *done;
            if before == 0 {
                // Nobody can get hold of a report once the chunk has left the inbox.
                if Arc::strong_count(&chunk.reports.0) > 1 {
                    let mut inner = chunk.reports.0.lock();
                    inner.places = vec![(UNREPORTED, 0); chunk.len()];
                    inner.taken_at = now.wall.0;
                    if chunk.entries.iter().any(|entry| entry.timestamp.is_some()) {
                        let own = |entry: &Entry| entry.timestamp.unwrap_or(now.wall.0);
                        inner.timestamps = chunk.entries.iter().map(own).collect();
                    }
                }
                self.flying.push_back(Flying {
                    first: self.next_ticket,
                    left: chunk.len(),
                    sizes: chunk.take_sizes(),
                    reports: std::mem::take(&mut chunk.reports),
                });
            }
            let is_done = chunk.append_to(&mut self.producer, now, &self.topics, done, start);
            self.next_ticket += (*done - before) as u64;
            if !is_done {
                // Reports make room; nothing is lost meanwhile.
                return;
            }
            if let Some(Taken { chunk, .. }) = self.taken.pop_front() {
                self.release(chunk);
            }
        }
    }

    /// Gives the memory of a chunk back.
    fn release(&self, chunk: Chunk) {
        self.shared.ahead.fetch_sub(1, Ordering::Relaxed);
        self.shared.progress.fetch_add(1, Ordering::Relaxed);
        let mut inbox = self.shared.inbox();
        if inbox.spare.len() < SPARE_MAX && chunk.data.capacity() <= 2 * CHUNK_BYTES {
            inbox.spare.push(chunk.emptied());
        }
    }

    /// Tells how far the task is behind, and whoever waits for it once it is not.
    fn tell_waiting(&self) {
        let waiting = self.producer.waiting_bytes();
        self.shared.waiting.store(waiting, Ordering::Relaxed);
        let ahead = self.shared.ahead.load(Ordering::Relaxed);
        if ahead <= AHEAD_MAX / 2 && waiting <= WAITING_MAX / 2 {
            let promise = self.shared.inbox().caught_up.take();
            if let Some(promise) = promise {
                promise.complete(());
            }
        }
    }

    fn take_reports(&mut self) {
        let mut freed = false;
        while let Some(report) = self.producer.poll_report() {
            self.note(&report);
            freed = true;
        }
        while self.flying.front().is_some_and(|flying| flying.left == 0) {
            self.flying.pop_front();
        }
        if !freed {
            return;
        }
        let first = self.flying.front().map_or(self.next_ticket, |flying| {
            // Only whole chunks count; the first record without a report is in this one.
            flying.first
        });
        while self.flushes.front().is_some_and(|(to, _)| *to <= first) {
            if let Some((_, call)) = self.flushes.pop_front() {
                call.complete(());
            }
        }
        if self.shared.reserved.load(Ordering::Acquire) <= self.shared.limit / 2 {
            let waiting = self.shared.inbox().room.take();
            if let Some(call) = waiting {
                call.complete(());
            }
        }
    }

    fn note(&mut self, report: &Report) {
        let to_keep = BatchReport {
            topic: report.topic.clone(),
            partition: report.partition.map_or(-1, |partition| partition.0),
            result: report.result.clone(),
            log_append_time: report.log_append_time,
        };
        let tickets = &report.tickets;
        let mut at = 0;
        let mut bytes = 0;
        while at < tickets.len() {
            let first = tickets[at].0;
            let chunk = self.flying.partition_point(|flying| flying.first <= first) - 1;
            let flying = &mut self.flying[chunk];
            let end = flying.first + flying.sizes.len() as u64;
            let count = tickets[at..].partition_point(|ticket| ticket.0 < end);
            let index = |ticket: &Ticket| (ticket.0 - flying.first) as usize;
            bytes += tickets[at..at + count]
                .iter()
                .map(|ticket| flying.sizes[index(ticket)] as usize)
                .sum::<usize>();
            flying.left -= count;
            if Arc::strong_count(&flying.reports.0) > 1 {
                let nth = (at as u32..).zip(&tickets[at..at + count]);
                let records = nth.map(|(nth, ticket)| (index(ticket), nth));
                flying.reports.0.note(to_keep.clone(), records);
            }
            at += count;
        }
        self.shared.reserved.fetch_sub(bytes, Ordering::AcqRel);
        self.shared.pending.fetch_sub(tickets.len(), Ordering::AcqRel);
        self.shared.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether anything that was taken has no report yet.
    fn is_busy(&self) -> bool {
        self.shared.pending.load(Ordering::Acquire) > 0
    }

    /// Drives transactions on once the machine has what was taken, and says how long somebody waits.
    fn drive_transactions(&mut self, now: Now) -> Option<Duration> {
        let transactions = self.transactions.as_mut()?;
        let pause = transactions.after_records(&mut self.producer, now, self.taken.is_empty());
        self.take_reports();
        let transactions = self.transactions.as_mut()?;
        if let Some(gate) = transactions.take_gate() {
            self.shared.inbox().gate = gate;
        }
        transactions.answer();
        pause
    }

    /// Ends, and reports what has no report yet as unknown.
    fn end(&mut self) {
        self.is_over = true;
        let left = self.shared.pending.load(Ordering::Acquire);
        let (chunks, waiting) = self.shared.shut();
        self.taken.extend(chunks.into_iter().map(Taken::from));
        let unknown = BatchReport {
            topic: KafkaString::default(),
            partition: -1,
            result: Err(ClientError::Unknown { last: None }),
            log_append_time: None,
        };
        for Taken { chunk, done, .. } in std::mem::take(&mut self.taken) {
            if done == 0 {
                chunk.reports.0.lock().places = vec![(UNREPORTED, 0); chunk.len()];
                let never = BatchReport { result: Err(ClientError::TimedOut), ..unknown.clone() };
                chunk.reports.0.note(never, (0..chunk.len()).map(|index| (index, 0)));
            }
        }
        for flying in std::mem::take(&mut self.flying) {
            let open: Vec<usize> = {
                let inner = flying.reports.0.lock();
                let places = inner.places.iter().enumerate();
                places.filter(|(_, (batch, _))| *batch == UNREPORTED).map(|(at, _)| at).collect()
            };
            flying.reports.0.note(unknown.clone(), open.into_iter().map(|index| (index, 0)));
        }
        self.shared.pending.store(0, Ordering::Release);
        self.shared.reserved.store(0, Ordering::Release);
        for call in waiting {
            call.complete(());
        }
        for (_, call) in std::mem::take(&mut self.flushes) {
            call.complete(());
        }
        for call in std::mem::take(&mut self.flushes_asked) {
            call.complete(());
        }
        for call in std::mem::take(&mut self.closes) {
            call.complete(left);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_over {
            // Its task is gone: what waits in the inbox waits for nobody.
            let abandoned = self.shared.shut();
            self.shared.pending.store(0, Ordering::Release);
            self.shared.reserved.store(0, Ordering::Release);
            drop(abandoned);
        }
    }
}

impl Machine for Sending {
    fn handle(&mut self, now: Now, input: Input) {
        self.producer.handle(now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.producer.poll_effect()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.producer.next_deadline()
    }
}

impl Work for Sending {
    fn work(&mut self, now: Now) -> Option<Duration> {
        let asked = !self.flushes_asked.is_empty() || std::mem::take(&mut self.hurry);
        if let Some(transactions) = self.transactions.as_mut().filter(|_| self.close_by.is_some()) {
            transactions.abandon();
        }
        let ends = self.transactions.as_ref().is_some_and(Transactions::hurries);
        let hurries = asked || ends || self.close_by.is_some();
        if hurries {
            self.shared.is_urgent.store(true, Ordering::Release);
        }
        let mut pause = self.take_inbox(now);
        self.take_reports();
        if let Some(transactions) = &mut self.transactions {
            transactions.before_records(&mut self.producer, now);
        }
        self.append_taken(now);
        if hurries {
            self.producer.flush(now);
        } else {
            self.producer.advance(now);
        }
        self.take_reports();
        let until_timeout = self.drive_transactions(now);
        pause = pause.into_iter().chain(until_timeout).min();
        self.tell_waiting();
        // What waits for room in the machine comes in once reports have made some.
        let waiting: u64 =
            self.taken.iter().map(|taken| (taken.chunk.len() - taken.done) as u64).sum();
        let to = self.next_ticket + waiting;
        for call in std::mem::take(&mut self.flushes_asked) {
            if self.is_busy() {
                self.flushes.push_back((to, call));
            } else {
                call.complete(());
            }
        }
        if let Some(by) = self.close_by {
            let ends = self.transactions.as_ref().is_some_and(Transactions::is_busy);
            if (!self.is_busy() && !ends) || now.mono >= by {
                self.end();
            } else {
                let left = by.since(now.mono);
                pause = Some(pause.map_or(left, |pause| pause.min(left)));
            }
        }
        pause
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}
