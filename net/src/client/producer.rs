//! A producer in the background: any thread hands records over, a task sends them.
//!
//! A record is copied once, into a chunk that the task takes as a whole, and encoded there. What a
//! thread pays for a record is a short lock and the copy. Its report is kept with its chunk for as
//! long as somebody holds a [`Delivery`] of it.

mod chunk;
mod report;
mod sending;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainspring_core::client::ClientError;
use mainspring_core::client::producer::{Producer, ProducerConfig};
use mainspring_core::record::builder::RECORD_OVERHEAD_MAX;
use mainspring_core::time::Now;
use mainspring_core::wire::KafkaString;

use self::chunk::{CHUNK_BYTES, Chunk, Plain};
pub use self::report::Delivery;
use self::report::Reports;
use self::sending::Sending;
use super::background::{Background, Door, run};
use super::call::{Call, Promise};
use super::producer_transactions::{Gate, GroupOffsets, TransactionError, Transactions, Undone};

/// Chunks that may wait for the task before whoever sends does better to let it catch up: memory that was
/// just used is used again then, and fresh memory costs more than the copying.
const AHEAD_MAX: usize = 8;
/// Bytes that may wait in the machine for their turn before the same holds: requests on their way are then
/// followed by others at once, and more would only be more memory.
const WAITING_MAX: usize = 4 << 20;
/// How long a producer goes on that is dropped and was not closed.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// Chunks whose memory is kept to be used again.
const SPARE_MAX: usize = AHEAD_MAX + 2;

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

/// Records that were not stored, and of which nobody holds a [`Delivery`].
#[derive(Clone, PartialEq, Debug)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// The topic of the first.
    pub topic: KafkaString,
    /// Its partition, -1 where none was chosen.
    pub partition: i32,
    /// Why it was not stored.
    pub error: ClientError,
}

/// What threads and the task share.
#[derive(Debug)]
struct Shared {
    /// What was lost and not told yet.
    lost: Mutex<Option<Lost>>,
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
            lost: Mutex::new(None),
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

    /// Takes what was not stored since this was last asked, of records whose deliveries nobody holds: those of
    /// [`Many::push`], and those that were dropped. Transactions tell of theirs by themselves.
    pub fn take_lost(&self) -> Option<Lost> {
        self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner).take()
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

impl BackgroundProducer {
    /// Closes it for whoever holds it no more: what was taken is still sent, within 30 s, and a warning tells of what had
    /// no report by then. One that is closed already ends as it was told to.
    pub fn leave(&self) -> Call<usize> {
        if self.shared.inbox().is_closed {
            return Call::ready(0);
        }
        self.door.order(|sending, _| sending.is_left = true);
        self.close(LEFT_ALONE)
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

/// Sends what was taken, as [`BackgroundProducer::leave`].
impl Drop for BackgroundProducer {
    fn drop(&mut self) {
        self.leave();
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
