//! The task of a producer: takes what threads have handed over, has the machine send it, and notes what became
//! of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mainspring_core::client::producer::accumulator::Ticket;
use mainspring_core::client::producer::{Producer, ProducerConfig, Report};
use mainspring_core::client::{ClientError, Effect, Input};
use mainspring_core::time::{Instant, Now};
use mainspring_core::wire::KafkaString;

use super::chunk::{CHUNK_BYTES, Chunk, Entry};
use super::report::{BatchReport, Owed, UNREPORTED};
use super::{AHEAD_MAX, Lost, SPARE_MAX, Shared, WAITING_MAX};
use crate::client::Machine;
use crate::client::background::Work;
use crate::client::call::Promise;
use crate::client::producer_transactions::Transactions;

/// Longest time for which records are gathered before the task takes them, where they may linger.
const GATHER: Duration = Duration::from_millis(1);

/// Reasons for failures that are told apart, and the least time between two words about them.
const FAILURES_MAX: usize = 16;
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A chunk whose records wait for their reports.
#[derive(Debug)]
pub(super) struct Flying {
    pub(super) first: u64,
    pub(super) sizes: Vec<u32>,
    pub(super) left: usize,
    pub(super) reports: Owed,
}

/// A chunk that the task has taken.
pub(super) struct Taken {
    pub(super) chunk: Chunk,
    /// How many of its records are appended.
    pub(super) done: usize,
    /// The bytes of those, where it is plain.
    pub(super) start: usize,
}

impl From<Chunk> for Taken {
    fn from(chunk: Chunk) -> Self {
        Self { chunk, done: 0, start: 0 }
    }
}

/// The producer with what is on its way to it.
pub(super) struct Sending {
    pub(super) producer: Producer,
    pub(super) transactions: Option<Transactions>,
    pub(super) shared: Arc<Shared>,
    pub(super) linger: Duration,
    pub(super) topics: Vec<KafkaString>,
    /// Taken from the inbox, and not all of it appended yet.
    pub(super) taken: VecDeque<Taken>,
    pub(super) flying: VecDeque<Flying>,
    pub(super) next_ticket: u64,
    pub(super) gather_until: Option<Instant>,
    pub(super) hurry: bool,
    pub(super) flushes_asked: Vec<Promise<()>>,
    /// Those to be answered once no record before this ticket waits for its report.
    pub(super) flushes: VecDeque<(u64, Promise<()>)>,
    pub(super) close_by: Option<Instant>,
    pub(super) closes: Vec<Promise<usize>>,
    pub(super) is_over: bool,
    /// Whether nobody holds the producer any more.
    pub(super) is_left: bool,
    /// When it last worked.
    now: Instant,
    /// What was not stored and is to be told: why, and how many records.
    failures: BTreeMap<String, u64>,
    tell_failures_at: Instant,
}

impl Sending {
    pub(super) fn new(config: ProducerConfig, shared: Arc<Shared>) -> Self {
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
            is_left: false,
            now: Instant::ZERO,
            failures: BTreeMap::new(),
            tell_failures_at: Instant::ZERO,
        }
    }

    /// Takes what is in the inbox, unless it is better to let it gather for a moment.
    pub(super) fn take_inbox(&mut self, now: Now) -> Option<Duration> {
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

    pub(super) fn append_taken(&mut self, now: Now) {
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
    pub(super) fn release(&self, chunk: Chunk) {
        self.shared.ahead.fetch_sub(1, Ordering::Relaxed);
        self.shared.progress.fetch_add(1, Ordering::Relaxed);
        let mut inbox = self.shared.inbox();
        if inbox.spare.len() < SPARE_MAX && chunk.data.capacity() <= 2 * CHUNK_BYTES {
            inbox.spare.push(chunk.emptied());
        }
    }

    /// Tells how far the task is behind, and whoever waits for it once it is not.
    pub(super) fn tell_waiting(&self) {
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

    pub(super) fn take_reports(&mut self) {
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

    pub(super) fn note(&mut self, report: &Report) {
        let to_keep = BatchReport {
            topic: report.topic.clone(),
            partition: report.partition.map_or(-1, |partition| partition.0),
            result: report.result.clone(),
            log_append_time: report.log_append_time,
        };
        let tickets = &report.tickets;
        let mut at = 0;
        let mut bytes = 0;
        let mut unseen = 0;
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
            let held = Arc::strong_count(&flying.reports.0) - 1;
            unseen += count.saturating_sub(held) as u64;
            if held > 0 {
                let nth = (at as u32..).zip(&tickets[at..at + count]);
                let records = nth.map(|(nth, ticket)| (index(ticket), nth));
                flying.reports.0.note(to_keep.clone(), records);
            }
            at += count;
        }
        if let Err(error) = to_keep.result
            && !self.shared.is_transactional
        {
            let count = tickets.len() as u64;
            let lost = Lost { count, topic: to_keep.topic, partition: to_keep.partition, error };
            self.note_lost(lost, unseen);
        }
        self.shared.reserved.fetch_sub(bytes, Ordering::AcqRel);
        self.shared.pending.fetch_sub(tickets.len(), Ordering::AcqRel);
        self.shared.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that records were not stored, of some of which nobody holds a delivery.
    fn note_lost(&mut self, lost: Lost, unseen: u64) {
        let Lost { count, topic, partition, error } = &lost;
        let what = if *partition < 0 {
            format!("of topic {topic}: {error}")
        } else {
            format!("of topic {topic}, partition {partition}: {error}")
        };
        if self.failures.len() < FAILURES_MAX || self.failures.contains_key(&what) {
            *self.failures.entry(what).or_default() += count;
        } else {
            *self.failures.entry("of other topics or partitions".to_owned()).or_default() += count;
        }
        if unseen > 0 {
            let mut known = self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *known {
                Some(known) => known.count += unseen,
                None => *known = Some(Lost { count: unseen, ..lost }),
            }
        }
    }

    /// Says what was not stored, once a second at most, and at the end.
    fn tell_failures(&mut self) -> Vec<String> {
        let is_time = self.now >= self.tell_failures_at;
        if self.failures.is_empty() || !(is_time || self.is_over) {
            return Vec::new();
        }
        self.tell_failures_at = self.now + TELL_AGAIN_AFTER;
        let failures = std::mem::take(&mut self.failures).into_iter();
        let told = |(what, count): (String, u64)| match count {
            1 => format!("1 record was not stored, {what}"),
            _ => format!("{count} records were not stored, {what}"),
        };
        failures.map(told).collect()
    }

    /// Whether anything that was taken has no report yet.
    pub(super) fn is_busy(&self) -> bool {
        self.shared.pending.load(Ordering::Acquire) > 0
    }

    /// Drives transactions on once the machine has what was taken, and says how long somebody waits.
    pub(super) fn drive_transactions(&mut self, now: Now) -> Option<Duration> {
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
    pub(super) fn end(&mut self) {
        self.is_over = true;
        let left = self.shared.pending.load(Ordering::Acquire);
        if left > 0 && self.is_left && !self.shared.is_transactional {
            let what =
                "as far as is known: their producer was dropped, and no broker answered in time";
            *self.failures.entry(what.to_owned()).or_default() += left as u64;
        }
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

    fn take_warnings(&mut self) -> Vec<String> {
        let mut told = self.producer.take_warnings();
        told.extend(self.tell_failures());
        told
    }
}

impl Work for Sending {
    fn work(&mut self, now: Now) -> Option<Duration> {
        self.now = now.mono;
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
