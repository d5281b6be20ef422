//! A consumer in the background: a task reads ahead and stays in the group, a program's thread asks
//! for one event after the other.
//!
//! What an event told counts as processed as far as the program says by [`BackgroundConsumer::note`],
//! which costs it one store; commits and the poll interval follow from that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainspring_core::client::consumer::{Consumer, ConsumerConfig, ConsumerEvent};
use mainspring_core::client::fetcher::Start;
use mainspring_core::client::group::{OffsetsId, StoredOffset};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::client::{ClientError, Effect, Input};
use mainspring_core::ids::Offset;
use mainspring_core::time::{Instant, Now};

use super::Machine;
use super::background::{Background, Door, Work, run};
use super::call::{Call, Promise};

/// What became of a commit, partition by partition.
pub type Committed = BTreeMap<Place, Result<(), ClientError>>;
/// What is stored, partition by partition.
pub type Fetched = BTreeMap<Place, Result<Option<StoredOffset>, ClientError>>;

/// What a program's thread has done of the records that it was told last.
#[derive(Debug, Default)]
struct Progress {
    place: Mutex<Option<Place>>,
    /// The offset below which everything is processed, -1 where nothing is new.
    processed: AtomicI64,
    /// Changes whenever the program shows that it is alive.
    beats: AtomicU64,
    /// Whether partitions are to be taken away, for which the program must ask.
    is_interrupted: AtomicBool,
}

impl Progress {
    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consumer that any thread may use.
#[derive(Debug)]
pub struct BackgroundConsumer {
    progress: Arc<Progress>,
    door: Door<Reading>,
}

impl BackgroundConsumer {
    /// Connects to nothing before it is told what to read.
    pub fn start(background: &Background, config: ConsumerConfig) -> Self {
        let progress = Arc::new(Progress { processed: AtomicI64::new(-1), ..Progress::default() });
        // What counts as processed is what the program says.
        let config = ConsumerConfig { auto_store: false, ..config };
        let reading = Reading {
            consumer: Consumer::new(config),
            progress: Arc::clone(&progress),
            seen: 0,
            asked: VecDeque::new(),
            commits: BTreeMap::new(),
            questions: BTreeMap::new(),
            closes: Vec::new(),
            close_by: None,
            is_cut_off: false,
            is_over: false,
        };
        Self { progress, door: run(background, reading) }
    }

    /// Has something done to the machine, and answers with what comes of it.
    pub fn with<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Consumer, Now) -> T + Send + 'static,
    ) -> Call<T> {
        self.door.ask(|reading, now| {
            reading.take_progress(now);
            action(&mut reading.consumer, now)
        })
    }

    /// Asks for the next event. What the one before it told counts as dealt with, records of it as
    /// far as they were noted.
    pub fn ask(&self) -> Call<ConsumerEvent> {
        self.door.request_or(ConsumerEvent::Closed, |reading, _, promise| {
            reading.asked.push_back(promise);
        })
    }

    /// Says which records the program works on from now on.
    pub fn begin(&self, place: &Place) {
        let mut current = self.progress.place();
        self.progress.processed.store(-1, Ordering::Release);
        *current = Some(place.clone());
    }

    /// Says that everything below an offset is processed of what it works on.
    pub fn note(&self, offset: i64) {
        self.progress.processed.store(offset, Ordering::Release);
        // Only one thread works on records at a time.
        let beats = self.progress.beats.load(Ordering::Relaxed);
        self.progress.beats.store(beats.wrapping_add(1), Ordering::Release);
    }

    /// Returns whether the group waits for partitions, so that the rest of what was told is better
    /// given back.
    pub fn is_interrupted(&self) -> bool {
        self.progress.is_interrupted.load(Ordering::Acquire)
    }

    /// Goes back to an offset of a partition, since what was told from there on is not worked on.
    pub fn give_back(&self, place: Place, offset: i64) {
        self.door.order(move |reading, now| {
            reading.take_progress(now);
            reading.consumer.seek(now, &place, Start::Offset(Offset(offset)));
        });
    }

    /// Stores offsets in the group: those that are named, else all that is processed.
    pub fn commit(
        &self,
        offsets: Option<BTreeMap<Place, StoredOffset>>,
    ) -> Call<Result<Committed, ClientError>> {
        self.door.request(move |reading, now, promise| {
            reading.take_progress(now);
            if offsets.as_ref().is_some_and(BTreeMap::is_empty) {
                promise.complete(Ok(BTreeMap::new()));
                return;
            }
            match reading.consumer.commit(now, offsets) {
                Ok(id) => {
                    reading.commits.insert(id, promise);
                }
                Err(error) => promise.complete(Err(error)),
            }
        })
    }

    /// Asks for what is stored in the group.
    pub fn committed(&self, places: BTreeSet<Place>) -> Call<Result<Fetched, ClientError>> {
        self.door.request(move |reading, now, promise| {
            match reading.consumer.committed(now, places) {
                Ok(id) => {
                    reading.questions.insert(id, promise);
                }
                Err(error) => promise.complete(Err(error)),
            }
        })
    }

    /// Stores what is processed, where that is done automatically, and leaves the group, within
    /// `limit`.
    pub fn close(&self, limit: Duration) -> Call<()> {
        self.door.request_or((), move |reading, now, promise| {
            reading.take_progress(now);
            let until = now.mono + limit;
            reading.close_by = Some(reading.close_by.map_or(until, |by| by.min(until)));
            reading.closes.push(promise);
            reading.consumer.close(now);
        })
    }
}

/// For tests of what becomes of those who wait.
#[cfg(debug_assertions)]
impl BackgroundConsumer {
    /// Has the task panic.
    pub fn break_down(&self) {
        self.door.break_down();
    }
}

impl Drop for BackgroundConsumer {
    fn drop(&mut self) {
        self.door.order(|reading, _| reading.is_over = true);
    }
}

/// The consumer with what is asked of it.
struct Reading {
    consumer: Consumer,
    progress: Arc<Progress>,
    /// The beat that was seen last.
    seen: u64,
    asked: VecDeque<Promise<ConsumerEvent>>,
    commits: BTreeMap<OffsetsId, Promise<Result<Committed, ClientError>>>,
    questions: BTreeMap<OffsetsId, Promise<Result<Fetched, ClientError>>>,
    closes: Vec<Promise<()>>,
    close_by: Option<Instant>,
    /// Whether it was closed before its group knew.
    is_cut_off: bool,
    is_over: bool,
}

impl Reading {
    /// Learns what the program has processed since.
    fn take_progress(&mut self, now: Now) {
        let beats = self.progress.beats.load(Ordering::Acquire);
        if beats == self.seen {
            return;
        }
        self.seen = beats;
        self.consumer.touch(now);
        let place = self.progress.place();
        let processed = self.progress.processed.load(Ordering::Acquire);
        if let Some(place) = &*place
            && processed >= 0
        {
            self.consumer.store(place, Offset(processed));
        }
    }

    fn take_answers(&mut self) {
        while let Some(event) = self.consumer.poll_answer() {
            match event {
                ConsumerEvent::Committed { id, results } => {
                    if let Some(call) = self.commits.remove(&id) {
                        call.complete(Ok(results));
                    }
                }
                ConsumerEvent::Fetched { id, results } => {
                    if let Some(call) = self.questions.remove(&id) {
                        call.complete(Ok(results));
                    }
                }
                ConsumerEvent::Records { .. }
                | ConsumerEvent::Assigned { .. }
                | ConsumerEvent::Revoked(_)
                | ConsumerEvent::Lost(_)
                | ConsumerEvent::PartitionFailed { .. }
                | ConsumerEvent::TopicFailed { .. }
                | ConsumerEvent::Failed(_)
                | ConsumerEvent::Closed => {}
            }
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        for call in std::mem::take(&mut self.asked) {
            call.complete(ConsumerEvent::Closed);
        }
        for call in std::mem::take(&mut self.commits).into_values() {
            call.complete(Err(ClientError::TimedOut));
        }
        for call in std::mem::take(&mut self.questions).into_values() {
            call.complete(Err(ClientError::TimedOut));
        }
        for call in std::mem::take(&mut self.closes) {
            call.complete(());
        }
    }
}

impl Machine for Reading {
    fn handle(&mut self, now: Now, input: Input) {
        self.take_progress(now);
        self.consumer.handle(now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.consumer.poll_effect()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.consumer.next_deadline()
    }

    fn take_warnings(&mut self) -> Vec<String> {
        let mut told = self.consumer.take_warnings();
        if std::mem::take(&mut self.is_cut_off) {
            told.push(
                "a consumer was closed before its group had answered: offsets of what it processed last may \
                 not be stored, and others may read that again"
                    .to_owned(),
            );
        }
        told
    }
}

impl Work for Reading {
    fn work(&mut self, now: Now) -> Option<Duration> {
        self.take_answers();
        if self.is_over {
            self.end();
            return None;
        }
        if let Some(by) = self.close_by {
            // What was told before does not matter any more.
            while !self.consumer.is_closed() && self.consumer.poll_event(now).is_some() {}
            self.take_answers();
            if self.consumer.is_closed() || now.mono >= by {
                self.is_cut_off = !self.consumer.is_closed() && self.consumer.has_group();
                self.end();
                return None;
            }
            return Some(by.since(now.mono));
        }
        while !self.asked.is_empty() {
            self.take_progress(now);
            let event = self.consumer.poll_event(now);
            self.take_answers();
            let Some(event) = event else {
                break;
            };
            if let Some(promise) = self.asked.pop_front() {
                promise.complete(event);
            }
        }
        let interrupted = self.consumer.is_interrupted();
        self.progress.is_interrupted.store(interrupted, Ordering::Release);
        None
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}
