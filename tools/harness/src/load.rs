//! Idempotent writers that go on through any number of crashes, and the check of what they wrote.
//!
//! Each writer owns one partition, so that its record number N must stand at offset N: lost,
//! doubled or reordered records all show as a number at a wrong offset.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainspring_core::error::ErrorCode;
use mainspring_core::wire::api::produce::ProduceRequest;
use mainspring_sim::blackbox::{self, Action, Ending, Operation};

use crate::checks::{Outcome, ensure};
use crate::client::{Client, PRODUCE, batch, produce_request, produced};
use crate::cluster::nodes::leader;
use crate::random::Random;

/// Batches of one producer and partition that may be under way at a time (KIP-98).
const IN_FLIGHT: usize = 5;

/// How long refusals may come over and over: from one broker, and from a cluster whose nodes come and go.
const REFUSED_MAX: [Duration; 2] = [Duration::from_secs(2), Duration::from_mins(1)];

/// Where the brokers are at the moment; writers look here whenever they connect.
#[derive(Clone, Default)]
pub(crate) struct Address(Arc<Mutex<Vec<String>>>);

impl Address {
    /// Tells all writers where the one broker is.
    pub(crate) fn set(&self, address: &str) {
        *self.0.lock().expect("no writer panics with it") = vec![address.to_owned()];
    }

    /// The nodes of a cluster, each at an address that stays.
    pub(crate) fn of_cluster(addresses: Vec<String>) -> Self {
        Self(Arc::new(Mutex::new(addresses)))
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("no writer panics with it").clone()
    }

    fn patience(&self) -> Duration {
        REFUSED_MAX[usize::from(self.all().len() > 1)]
    }

    /// Connects to the broker, of a cluster to the one that leads the partition.
    pub(crate) fn connect(&self, topic: &str, partition: i32) -> Outcome<Client> {
        let addresses = self.all();
        if let [address] = &addresses[..] {
            return Client::connect(address);
        }
        let leader = leader(&addresses, topic, partition)?;
        // A node that stands still answers nothing; another may lead by then.
        Client::connect_for(&leader, Duration::from_secs(2))
    }
}

/// A running writer.
pub(crate) struct Writer {
    /// Its topic.
    pub(crate) topic: String,
    /// Its partition.
    pub(crate) partition: i32,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Outcome>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    /// Each acknowledged batch: its first number, how many there are, and the offset that was told.
    told: Mutex<Vec<(u64, u64, i64)>>,
    /// When the last acknowledgement came, and the longest time between two.
    rhythm: Mutex<(Option<Instant>, Duration)>,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Vec<(u64, u64, i64)>> {
        self.told.lock().expect("no writer panics with it")
    }

    fn beat(&self) {
        let mut rhythm = self.rhythm.lock().expect("no writer panics with it");
        let now = Instant::now();
        if let Some(before) = rhythm.0.replace(now) {
            rhythm.1 = rhythm.1.max(now - before);
        }
    }
}

impl Writer {
    /// Starts a writer with a pause between its batches.
    pub(crate) fn start(address: &Address, topic: &str, partition: i32, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let state = State {
            address: address.clone(),
            topic: topic.to_owned(),
            partition,
            shared: Arc::clone(&shared),
            random: Random::new(seed),
            producer: None,
            next: 0,
            pending: VecDeque::new(),
            refused_since: None,
        };
        let thread = std::thread::spawn(move || state.run());
        Self { topic: topic.to_owned(), partition, shared, thread: Some(thread) }
    }

    /// Returns how many of its records, from the first, were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Returns the longest time between two acknowledgements since it was last asked for.
    pub(crate) fn longest_pause(&self) -> Duration {
        let mut rhythm = self.shared.rhythm.lock().expect("no writer panics with it");
        std::mem::take(&mut rhythm.1)
    }

    /// Ends the writer once everything that it sent is acknowledged.
    pub(crate) fn finish(&mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::SeqCst);
        let name = format!("writer of {}-{}", self.topic, self.partition);
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(problem))) => Err(format!("{name}: {problem}")),
            Some(Err(_)) => Err(format!("{name} panicked")),
        }
    }

    /// Returns whether it gave up.
    pub(crate) fn gave_up(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Checks that the first `acknowledged` records stand at their offsets, and that nothing stands
    /// twice; reads from `from` on.
    pub(crate) fn verify(&self, client: &mut Client, acknowledged: u64, from: i64) -> Outcome<u64> {
        let name = format!("{}-{}", self.topic, self.partition);
        let log = client.read(&self.topic, self.partition, from)?;
        if from == 0 {
            self.judge(&name, &log.records)?;
        }
        let mut expected = from;
        for (offset, value) in &log.records {
            ensure(*offset == expected, || {
                format!("{name}: offset {offset} after {}", expected - 1)
            })?;
            ensure(*value == value_of(*offset as u64), || {
                let start = String::from_utf8_lossy(value.get(..24).unwrap_or(value)).into_owned();
                format!("{name}: offset {offset} holds {start:?}")
            })?;
            expected += 1;
        }
        ensure(expected as u64 >= acknowledged, || {
            format!("{name}: {acknowledged} records were acknowledged, {expected} are there")
        })?;
        Ok(log.records.len() as u64)
    }
}

impl Writer {
    /// Holds what the writer was told, and a reading from the first offset on, against each other from
    /// outside.
    fn judge(&self, name: &str, records: &[(i64, Bytes)]) -> Outcome {
        let told = self.shared.told().clone();
        let sends = told.iter().flat_map(|(first, count, offset)| {
            (0..*count).map(move |nth| Action::Send {
                key: name.to_owned(),
                value: first + nth,
                offset: Some(offset + nth as i64),
            })
        });
        let records = records.iter().map(|(offset, value)| (*offset, number_of(value))).collect();
        let poll = Action::Poll { key: name.to_owned(), records, subscribed: false };
        let operations = sends.map(|action| (0, action)).chain([(1, poll)]);
        let history: Vec<Operation> = operations
            .map(|(process, action)| Operation { process, action, ending: Ending::Ok })
            .collect();
        match blackbox::check(&history, false).first() {
            Some(anomaly) => Err(anomaly.to_string()),
            None => Ok(()),
        }
    }
}

/// Returns the number of a record by its value, the largest for one that has none.
fn number_of(value: &[u8]) -> u64 {
    let digits = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

/// The value of record `number`, whose length varies with it.
pub(crate) fn value_of(number: u64) -> Bytes {
    let mut value = format!("{number} ").into_bytes();
    value.resize(20 + (number.wrapping_mul(7919) % 200) as usize, b'.');
    value.into()
}

struct Pending {
    count: u64,
    request: ProduceRequest,
}

struct State {
    address: Address,
    topic: String,
    partition: i32,
    shared: Arc<Shared>,
    random: Random,
    producer: Option<(i64, i16)>,
    next: u64,
    pending: VecDeque<Pending>,
    refused_since: Option<Instant>,
}

impl State {
    fn run(mut self) -> Outcome {
        let mut tries = 0;
        loop {
            let before = self.shared.acknowledged.load(Ordering::SeqCst);
            match self.talk() {
                Ok(Talk::Done) => return Ok(()),
                Err(Broken::Fatal(problem)) => return Err(problem),
                Err(Broken::Connection) if self.stopped() => {
                    // Nobody restarts a broker for a writer that is to end, so tries are bounded.
                    tries += 1;
                    if tries > 500 {
                        return Err("no answer to its last batches".to_owned());
                    }
                }
                Ok(Talk::Again) | Err(Broken::Connection) => {}
            }
            if self.shared.acknowledged.load(Ordering::SeqCst) > before {
                tries = 0;
                self.refused_since = None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::SeqCst)
    }

    /// Talks over one connection until it breaks or there is nothing left to do.
    fn talk(&mut self) -> Result<Talk, Broken> {
        let mut client = self.address.connect(&self.topic, self.partition)?;
        if self.producer.is_none() {
            self.producer = Some(client.init_producer_id()?);
        }
        // What had no answer is sent again, under the sequences that it had.
        for pending in &self.pending {
            client.send(&pending.request, PRODUCE)?;
        }
        loop {
            while self.pending.len() < IN_FLIGHT && !self.stopped() {
                // It is kept before it is sent: a send that fails must not leave a gap.
                let pending = self.make();
                self.pending.push_back(pending);
                let last = self.pending.back().expect("there is one");
                client.send(&last.request, PRODUCE)?;
                std::thread::sleep(Duration::from_micros(self.random.below(1000)));
            }
            if self.pending.is_empty() {
                return Ok(Talk::Done);
            }
            let answer = client.receive::<ProduceRequest>(PRODUCE)?;
            let answer = produced(answer).map_err(Broken::Fatal)?;
            let first = self.shared.acknowledged.load(Ordering::SeqCst);
            if answer.error_code != 0 {
                return self.refused(answer.error_code);
            }
            if answer.base_offset != first as i64 {
                let offset = answer.base_offset;
                return Err(Broken::Fatal(format!("record {first} was acknowledged at {offset}")));
            }
            if let Some(pending) = self.pending.pop_front() {
                let told = (first, pending.count, answer.base_offset);
                self.shared.told().push(told);
                self.shared.acknowledged.fetch_add(pending.count, Ordering::SeqCst);
                self.shared.beat();
            }
        }
    }

    /// A refusal may pass; the same one over and over does not.
    fn refused(&mut self, code: i16) -> Result<Talk, Broken> {
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        let code = ErrorCode::from_code(code).ok_or_else(|| format!("unknown error {code}"));
        let code = code.map_err(Broken::Fatal)?;
        let passing = code.is_retriable() || code == ErrorCode::OutOfOrderSequenceNumber;
        if passing && since.elapsed() < self.address.patience() {
            return Ok(Talk::Again);
        }
        let acknowledged = self.shared.acknowledged.load(Ordering::SeqCst);
        let (producer, next) = (self.producer, self.next);
        let connected = self.address.connect(&self.topic, self.partition);
        let there = connected
            .and_then(|mut client| client.read(&self.topic, self.partition, acknowledged as i64))
            .map(|log| log.next);
        let pending: Vec<u64> = self.pending.iter().map(|pending| pending.count).collect();
        Err(Broken::Fatal(format!(
            "record {acknowledged} refused with {code:?}, for {:?} (producer {producer:?}, \
             made {next} in {pending:?}, the log ends at {there:?})",
            since.elapsed()
        )))
    }

    fn make(&mut self) -> Pending {
        let count = 1 + self.random.below(20);
        let values: Vec<Bytes> = (self.next..self.next + count).map(value_of).collect();
        let (id, epoch) = self.producer.expect("asked for before the first batch");
        // Sequences wrap at 2^31, far beyond what a test sends.
        let bytes = batch(&values, Some((id, epoch, self.next as i32)));
        self.next += count;
        Pending { count, request: produce_request(&self.topic, self.partition, bytes) }
    }
}

enum Talk {
    Done,
    Again,
}

enum Broken {
    Connection,
    Fatal(String),
}

impl From<String> for Broken {
    fn from(_: String) -> Self {
        Self::Connection
    }
}
