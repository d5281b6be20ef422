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
use mainspring_core::client::producer::{Producer, ProducerConfig, RecordRef, Report};
use mainspring_core::client::{ClientError, Effect, Input};
use mainspring_core::ids::{Offset, PartitionIndex};
use mainspring_core::record::builder::RECORD_OVERHEAD_MAX;
use mainspring_core::time::{Instant, Now};
use mainspring_core::wire::KafkaString;

use super::Machine;
use super::background::{Background, Door, Work, run};
use super::call::{Call, Waiter};

/// Bytes at which a chunk is handed to the task at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Records at which it is.
const CHUNK_RECORDS: usize = 8192;
/// Chunks whose memory is kept to be used again.
const SPARE_MAX: usize = 8;
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
}

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

/// Records that were handed over and not yet taken by the task.
#[derive(Debug)]
struct Chunk {
    data: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<(Span, Span)>,
    sizes: Vec<u32>,
    reports: Arc<Reports>,
}

impl Chunk {
    fn new() -> Self {
        Self {
            data: Vec::new(),
            entries: Vec::new(),
            headers: Vec::new(),
            sizes: Vec::new(),
            reports: Arc::default(),
        }
    }

    /// Makes an empty one of one whose records were all appended, so that its memory is used again:
    /// fresh memory costs more than the copying.
    fn emptied(mut self) -> Self {
        self.data.clear();
        self.entries.clear();
        self.headers.clear();
        self.sizes.clear();
        self.reports = Arc::default();
        self
    }

    fn is_full(&self) -> bool {
        self.data.len() >= CHUNK_BYTES || self.entries.len() >= CHUNK_RECORDS
    }

    fn push(&mut self, topic: u32, record: &Outgoing<'_>, size: usize) {
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
}

/// What became of the records of a chunk.
#[derive(Debug, Default)]
struct Reports {
    inner: Mutex<ReportsInner>,
    changed: Condvar,
}

#[derive(Default)]
struct ReportsInner {
    /// For each record its batch among `batches` and its place in it. Empty until the chunk is taken.
    places: Vec<(u32, u32)>,
    batches: Vec<BatchReport>,
    waiters: Vec<(u32, Waiter)>,
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
}

impl ReportsInner {
    fn is_reported(&self, index: u32) -> bool {
        self.places.get(index as usize).is_some_and(|(batch, _)| *batch != UNREPORTED)
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
        self.reports.lock().is_reported(self.index)
    }

    /// Waits for the report for as long as is given, and returns whether it is there.
    pub fn wait(&self, limit: Duration) -> bool {
        let inner = self.reports.lock();
        let index = self.index;
        let waited = self
            .reports
            .changed
            .wait_timeout_while(inner, limit, |inner| !inner.is_reported(index));
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.is_reported(index)
    }

    /// Calls `waiter` once the report is there: at once where it is.
    pub fn on_done(&self, waiter: Waiter) {
        let mut inner = self.reports.lock();
        if !inner.is_reported(self.index) {
            inner.waiters.push((self.index, waiter));
            return;
        }
        drop(inner);
        waiter();
    }

    /// Returns the report, `None` where there is none yet.
    pub fn result(&self) -> Option<Result<Stored, ClientError>> {
        let inner = self.reports.lock();
        if !inner.is_reported(self.index) {
            return None;
        }
        let (batch, nth) = inner.places[self.index as usize];
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
    /// Whether what is in the inbox waits for no more.
    is_urgent: AtomicBool,
}

#[derive(Debug, Default)]
struct Inbox {
    chunks: VecDeque<Chunk>,
    topics: Vec<KafkaString>,
    by_name: BTreeMap<KafkaString, u32>,
    last: usize,
    /// Answered once there is room again; one for all who wait for it, however often they ask.
    room: Option<Call<()>>,
    /// Chunks that are empty again, at most [`SPARE_MAX`].
    spare: Vec<Chunk>,
    is_closed: bool,
}

impl Inbox {
    fn topic(&mut self, name: &str) -> u32 {
        if self.topics.get(self.last).is_some_and(|topic| topic.as_str() == name) {
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
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A producer that any thread may use.
#[derive(Debug)]
pub struct BackgroundProducer {
    shared: Arc<Shared>,
    door: Door<Sending>,
}

impl BackgroundProducer {
    /// Connects to nothing before the first record.
    pub fn start(background: &Background, config: ProducerConfig) -> Self {
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            reserved: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            limit: config.buffer_bytes,
            max_record: config.max_request_bytes.min(config.buffer_bytes),
            is_urgent: AtomicBool::new(false),
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
        Many { producer: self, inbox: self.shared.inbox(), wakes: false }
    }

    /// Sends what was taken so far without waiting for more.
    pub fn hurry(&self) {
        self.shared.is_urgent.store(true, Ordering::Release);
        self.door.order(|sending, _| sending.hurry = true);
    }

    /// Sends what was taken so far; the answer comes when all of it is reported.
    pub fn flush(&self) -> Call<()> {
        let call = Call::default();
        let answer = call.clone();
        self.shared.is_urgent.store(true, Ordering::Release);
        if !self.door.order(move |sending, _| sending.flushes_asked.push(answer)) {
            call.complete(());
        }
        call
    }

    /// Returns a call that is answered when there is room in the buffer again.
    pub fn room(&self) -> Call<()> {
        let mut inbox = self.shared.inbox();
        if inbox.is_closed || self.shared.reserved.load(Ordering::Acquire) <= self.shared.limit / 2
        {
            return Call::ready(());
        }
        let call = inbox.room.get_or_insert_default().clone();
        drop(inbox);
        // A full buffer is sent whatever its age; what fills it may be here still.
        self.shared.is_urgent.store(true, Ordering::Release);
        self.door.poke();
        call
    }

    /// Returns how many records have no report yet.
    pub fn pending(&self) -> usize {
        self.shared.pending.load(Ordering::Acquire)
    }

    /// Returns whether no record is taken any more.
    pub fn is_closed(&self) -> bool {
        self.shared.inbox().is_closed
    }

    /// Takes no more records, sends those that were taken, and ends after `limit` at the latest. The
    /// answer tells how many had no report by then; each of those is reported as unknown.
    pub fn close(&self, limit: Duration) -> Call<usize> {
        self.shared.inbox().is_closed = true;
        self.shared.is_urgent.store(true, Ordering::Release);
        let call = Call::default();
        let answer = call.clone();
        let asked = self.door.order(move |sending, now| {
            let until = now.mono + limit;
            sending.close_by = Some(sending.close_by.map_or(until, |by| by.min(until)));
            sending.closes.push(answer);
        });
        if !asked {
            call.complete(0);
        }
        call
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
    wakes: bool,
}

impl Many<'_> {
    /// Takes a record and tells where its report will be.
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(&Arc<Reports>, u32), NotTaken> {
        let shared = &*self.producer.shared;
        let size = record.size();
        if size > shared.max_record {
            return Err(NotTaken::TooLarge(size));
        }
        let inbox = &mut *self.inbox;
        if inbox.is_closed {
            return Err(NotTaken::Closed);
        }
        // Only threads that hold the lock add to it.
        if shared.reserved.load(Ordering::Acquire) + size > shared.limit {
            return Err(NotTaken::Full);
        }
        shared.reserved.fetch_add(size, Ordering::AcqRel);
        shared.pending.fetch_add(1, Ordering::AcqRel);
        let topic = inbox.topic(record.topic);
        if inbox.chunks.is_empty() {
            self.wakes = true;
        }
        if inbox.chunks.back().is_none_or(Chunk::is_full) {
            let chunk = inbox.spare.pop().unwrap_or_else(Chunk::new);
            inbox.chunks.push_back(chunk);
        }
        let chunk = inbox.chunks.back_mut().expect("one was pushed where there was none");
        let index = chunk.entries.len() as u32;
        chunk.push(topic, record, size);
        if chunk.is_full() {
            shared.is_urgent.store(true, Ordering::Release);
            self.wakes = true;
        }
        Ok((&chunk.reports, index))
    }

    /// Takes a record without keeping its report.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn push(&mut self, record: &Outgoing<'_>) -> Result<(), NotTaken> {
        self.send(record).map(|_| ())
    }
}

impl Drop for Many<'_> {
    fn drop(&mut self) {
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
    reports: Arc<Reports>,
}

/// The producer with what is on its way to it.
struct Sending {
    producer: Producer,
    shared: Arc<Shared>,
    linger: Duration,
    topics: Vec<KafkaString>,
    /// Taken from the inbox, and not all of it appended yet.
    taken: VecDeque<(Chunk, usize)>,
    flying: VecDeque<Flying>,
    next_ticket: u64,
    gather_until: Option<Instant>,
    hurry: bool,
    flushes_asked: Vec<Call<()>>,
    /// Calls to be answered once no record before this ticket waits for its report.
    flushes: VecDeque<(u64, Call<()>)>,
    close_by: Option<Instant>,
    closes: Vec<Call<usize>>,
    is_over: bool,
}

impl Sending {
    fn new(config: ProducerConfig, shared: Arc<Shared>) -> Self {
        Self {
            linger: config.linger,
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
        self.taken.extend(chunks.into_iter().map(|chunk| (chunk, 0)));
        None
    }

    fn append_taken(&mut self, now: Now) {
        while let Some((chunk, done)) = self.taken.front_mut() {
            if *done == 0 {
                let mut inner = chunk.reports.lock();
                inner.places = vec![(UNREPORTED, 0); chunk.entries.len()];
                inner.taken_at = now.wall.0;
                if chunk.entries.iter().any(|entry| entry.timestamp.is_some()) {
                    let own = |entry: &Entry| entry.timestamp.unwrap_or(now.wall.0);
                    inner.timestamps = chunk.entries.iter().map(own).collect();
                }
                drop(inner);
                self.flying.push_back(Flying {
                    first: self.next_ticket,
                    sizes: std::mem::take(&mut chunk.sizes),
                    left: chunk.entries.len(),
                    reports: Arc::clone(&chunk.reports),
                });
            }
            let mut headers: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
            for entry in &chunk.entries[*done..] {
                headers.clear();
                let range = entry.headers.start as usize..entry.headers.end as usize;
                headers.extend(chunk.headers[range].iter().map(|(name, value)| {
                    (name.of(&chunk.data).unwrap_or_default(), value.of(&chunk.data))
                }));
                let record = RecordRef {
                    topic: &self.topics[entry.topic as usize],
                    partition: (entry.partition >= 0).then_some(PartitionIndex(entry.partition)),
                    timestamp: entry.timestamp,
                    key: entry.key.of(&chunk.data),
                    value: entry.value.of(&chunk.data),
                    headers: &headers,
                };
                if self.producer.append(now, &record).is_err() {
                    // Reports make room; nothing is lost meanwhile.
                    return;
                }
                self.next_ticket += 1;
                *done += 1;
            }
            if let Some((chunk, _)) = self.taken.pop_front() {
                let mut inbox = self.shared.inbox();
                if inbox.spare.len() < SPARE_MAX && chunk.data.capacity() <= 2 * CHUNK_BYTES {
                    inbox.spare.push(chunk.emptied());
                }
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
            // Nobody can get hold of a report once the chunk has left the inbox.
            if Arc::strong_count(&flying.reports) > 1 {
                let nth = (at as u32..).zip(&tickets[at..at + count]);
                let records = nth.map(|(nth, ticket)| (index(ticket), nth));
                flying.reports.note(to_keep.clone(), records);
            }
            at += count;
        }
        self.shared.reserved.fetch_sub(bytes, Ordering::AcqRel);
        self.shared.pending.fetch_sub(tickets.len(), Ordering::AcqRel);
    }

    /// Whether anything that was taken has no report yet.
    fn is_busy(&self) -> bool {
        self.shared.pending.load(Ordering::Acquire) > 0
    }

    /// Ends, and reports what has no report yet as unknown.
    fn end(&mut self) {
        self.is_over = true;
        let left = self.shared.pending.load(Ordering::Acquire);
        let mut inbox = self.shared.inbox();
        inbox.is_closed = true;
        let chunks = std::mem::take(&mut inbox.chunks);
        let waiting = inbox.room.take();
        self.topics.extend(inbox.topics[self.topics.len()..].iter().cloned());
        drop(inbox);
        self.taken.extend(chunks.into_iter().map(|chunk| (chunk, 0)));
        let unknown = BatchReport {
            topic: KafkaString::default(),
            partition: -1,
            result: Err(ClientError::Unknown { last: None }),
            log_append_time: None,
        };
        for (chunk, done) in std::mem::take(&mut self.taken) {
            if done == 0 {
                chunk.reports.lock().places = vec![(UNREPORTED, 0); chunk.entries.len()];
                let never = BatchReport { result: Err(ClientError::TimedOut), ..unknown.clone() };
                chunk.reports.note(never, (0..chunk.entries.len()).map(|index| (index, 0)));
            }
        }
        for flying in std::mem::take(&mut self.flying) {
            let open: Vec<usize> = {
                let inner = flying.reports.lock();
                let places = inner.places.iter().enumerate();
                places.filter(|(_, (batch, _))| *batch == UNREPORTED).map(|(at, _)| at).collect()
            };
            flying.reports.note(unknown.clone(), open.into_iter().map(|index| (index, 0)));
        }
        self.shared.pending.store(0, Ordering::Release);
        self.shared.reserved.store(0, Ordering::Release);
        if let Some(call) = waiting {
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
        let hurries = asked || self.close_by.is_some();
        if hurries {
            self.shared.is_urgent.store(true, Ordering::Release);
        }
        let mut pause = self.take_inbox(now);
        self.take_reports();
        self.append_taken(now);
        if hurries {
            self.producer.flush(now);
        } else {
            self.producer.advance(now);
        }
        self.take_reports();
        // What waits for room in the machine comes in once reports have made some.
        let waiting: u64 =
            self.taken.iter().map(|(chunk, done)| (chunk.entries.len() - done) as u64).sum();
        let to = self.next_ticket + waiting;
        for call in std::mem::take(&mut self.flushes_asked) {
            if self.is_busy() {
                self.flushes.push_back((to, call));
            } else {
                call.complete(());
            }
        }
        if let Some(by) = self.close_by {
            if !self.is_busy() || now.mono >= by {
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
