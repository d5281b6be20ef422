//! Kill -9 in the middle of firing: every record that was to come later comes once, none before its time, and what
//! was cancelled never.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{ProducerEpoch, ProducerId};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::builder::{BatchBuilder, NewHeader, Producer};
use mainspring_core::record::compress::Codec;
use mainspring_core::record::iterate::OpenBatch;
use mainspring_core::wire::api::fetch::PartitionData;
use mainspring_core::wire::api::produce::ProduceRequest;

use crate::broker::{Broker, Folder, Serve};
use crate::checks::{Checks, Outcome, ensure};
use crate::client::{Client, PRODUCE, produce_request, produced};
use crate::load::Address;
use crate::random::Random;

const TOPIC: &str = "later";
/// Partitions, each with a sender of its own.
const PARTITIONS: i32 = 2;
/// How long a sender tries in vain.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest delay, in milliseconds.
const DELAY_MAX: u64 = 1_500;
/// Settings that let files turn over and what waits be copied within a short run.
const SETTINGS: [&str; 2] = ["log.segment.bytes=1048576", "log.retention.check.interval.ms=500"];

/// Runs the cycles.
pub(crate) fn run(checks: &mut Checks, cycles: u64, seed: Option<u64>) {
    let seed = seed.unwrap_or_else(Random::fresh_seed);
    println!("seed {seed}");
    checks.note("kill -9 while records fire: each once, none early, none that was cancelled", {
        Cycles::new(seed).and_then(|mut run| run.all(cycles))
    });
}

/// Unix milliseconds.
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// A batch of one record with headers, of no producer.
pub(crate) fn command(headers: &[NewHeader<'_>]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(unix_ms(), None, None, headers);
    builder.build().to_bytes()
}

/// A record as a reader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) offset: i64,
    /// Unix milliseconds of its delivery.
    pub(crate) timestamp: i64,
    pub(crate) value: Bytes,
    /// When it was due.
    pub(crate) due: Option<i64>,
}

/// Reads a partition from an offset to its end, and returns the records and where to go on.
pub(crate) fn read(
    client: &mut Client,
    topic: &str,
    partition: i32,
    mut next: i64,
) -> Outcome<(Vec<Seen>, i64)> {
    let mut all = Vec::new();
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let data = client.fetch(topic, partition, next, 0)?;
        let (before, high_watermark) = (next, data.high_watermark);
        let (records, end) = seen(data, next)?;
        all.extend(records);
        next = end;
        if next >= high_watermark {
            return Ok((all, next));
        }
        if next == before {
            // Right after a start the broker reads the log before it serves it.
            ensure(Instant::now() < limit, || {
                format!("nothing comes of {topic}-{partition}@{next} below {high_watermark}")
            })?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Returns the records of an answer to a fetch from `next`, and where to go on.
pub(crate) fn seen(data: PartitionData, mut next: i64) -> Outcome<(Vec<Seen>, i64)> {
    ensure(data.error_code == 0, || format!("fetch from {next}: error {}", data.error_code))?;
    let mut all = Vec::new();
    let mut bytes = data.records.unwrap_or_default().to_bytes();
    while Batch::peek_len(&bytes).is_ok_and(|length| length <= bytes.len()) {
        let batch = Batch::split_from(&mut bytes).map_err(|error| error.to_string())?;
        ensure(batch.crc_is_valid(), || format!("wrong CRC at {}", batch.base_offset().0))?;
        let open = OpenBatch::open(&batch, 64 << 20).map_err(|error| error.to_string())?;
        for placed in open.records() {
            let placed = placed.map_err(|error| error.to_string())?;
            let number = |name: &[u8]| {
                let value = placed.record.headers.find_last(name)?.value?;
                std::str::from_utf8(value).ok()?.parse().ok()
            };
            if placed.offset.0 >= next {
                all.push(Seen {
                    offset: placed.offset.0,
                    timestamp: placed.timestamp,
                    value: Bytes::copy_from_slice(placed.record.value.unwrap_or_default()),
                    due: number(b"mainspring-scheduled-for"),
                });
            }
        }
        next = batch.next_offset().0.max(next);
    }
    Ok((all, next))
}

/// What a sender knows of its records, by their numbers.
#[derive(Default)]
struct Known {
    /// When each is due, from before it was sent.
    due: BTreeMap<u64, i64>,
    acknowledged: BTreeSet<u64>,
    /// Those whose cancel was acknowledged.
    cancelled: BTreeSet<u64>,
    /// Those whose cancel came too late.
    late: BTreeSet<u64>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    known: Mutex<Known>,
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics with it")
    }
}

struct Sender {
    partition: i32,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Outcome>>,
}

impl Sender {
    fn start(address: &Address, partition: i32, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let state = State {
            address: address.clone(),
            partition,
            shared: Arc::clone(&shared),
            random: Random::new(seed),
            producer: None,
            next: 0,
            pending: None,
            cancels: VecDeque::new(),
        };
        let thread = std::thread::spawn(move || state.run());
        Self { partition, shared, thread: Some(thread) }
    }

    fn finish(&mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(problem))) => Err(format!("sender of {}: {problem}", self.partition)),
            Some(Err(_)) => Err(format!("the sender of {} panicked", self.partition)),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

struct State {
    address: Address,
    partition: i32,
    shared: Arc<Shared>,
    random: Random,
    producer: Option<(i64, i16)>,
    next: u64,
    /// A batch without an answer: its first number and how many there are.
    pending: Option<(u64, u64, ProduceRequest)>,
    /// What is to be cancelled, and when.
    cancels: VecDeque<(Instant, u64)>,
}

enum Broken {
    /// It is tried again.
    Passing,
    Fatal(String),
}

impl From<String> for Broken {
    fn from(_: String) -> Self {
        Self::Passing
    }
}

impl State {
    fn run(mut self) -> Outcome {
        let mut since = Instant::now();
        while since.elapsed() < PATIENCE {
            let before = (self.next, self.cancels.len());
            match self.talk() {
                Ok(()) => return Ok(()),
                Err(Broken::Fatal(problem)) => return Err(problem),
                Err(Broken::Passing) => {}
            }
            if (self.next, self.cancels.len()) != before {
                since = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("nothing has come of its tries for {PATIENCE:?}"))
    }

    fn talk(&mut self) -> Result<(), Broken> {
        let mut client = self.address.connect(TOPIC, self.partition)?;
        if self.producer.is_none() {
            self.producer = Some(client.init_producer_id()?);
        }
        loop {
            let stopped = self.shared.stop.load(Ordering::SeqCst);
            if self.pending.is_none() && !stopped {
                self.pending = Some(self.make());
            }
            if let Some((first, count, request)) = &self.pending {
                client.send(request, PRODUCE)?;
                let answer = client.receive::<ProduceRequest>(PRODUCE)?;
                let answer = produced(answer).map_err(Broken::Fatal)?;
                if answer.error_code != 0 {
                    return Err(refusal(answer.error_code, "records that come later"));
                }
                self.shared.known().acknowledged.extend(*first..*first + *count);
                for number in (*first..*first + *count).filter(|number| has_name(*number)) {
                    let after = Duration::from_millis(self.random.below(2 * DELAY_MAX));
                    self.cancels.push_back((Instant::now() + after, number));
                }
                self.pending = None;
            }
            while let Some((at, number)) = self.cancels.front().copied() {
                if at > Instant::now() && !stopped {
                    break;
                }
                self.cancel(&mut client, number)?;
                self.cancels.pop_front();
            }
            if stopped {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(self.random.below(2_000)));
        }
    }

    fn cancel(&self, client: &mut Client, number: u64) -> Result<(), Broken> {
        let name = format!("n-{number}");
        let headers: [NewHeader<'_>; 2] =
            [(b"mainspring-op", Some(b"cancel")), (b"mainspring-id", Some(name.as_bytes()))];
        let answer = client.produce(TOPIC, self.partition, command(&headers))?;
        let mut known = self.shared.known();
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => known.cancelled.insert(number),
            Some(ErrorCode::InvalidRecord) => known.late.insert(number),
            _ => return Err(refusal(answer.error_code, "a cancel")),
        };
        Ok(())
    }

    fn make(&mut self) -> (u64, u64, ProduceRequest) {
        let count = 1 + self.random.below(20);
        let (id, epoch) = self.producer.expect("asked for before the first batch");
        let producer = Producer {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: self.next as i32,
        };
        let mut builder = BatchBuilder::new(Codec::None).producer(producer);
        let together = self.random.below(3) == 0;
        let mut due = unix_ms() + self.random.below(DELAY_MAX) as i64;
        let mut known = self.shared.known();
        for number in self.next..self.next + count {
            if !together {
                due = unix_ms() + self.random.below(DELAY_MAX) as i64;
            }
            known.due.insert(number, due);
            let (at, name) = (due.to_string(), format!("n-{number}"));
            let mut headers: Vec<NewHeader<'_>> =
                vec![(b"mainspring-deliver-at", Some(at.as_bytes()))];
            if has_name(number) {
                headers.push((b"mainspring-id", Some(name.as_bytes())));
            }
            let value = format!("{number} {}", ".".repeat((number % 200) as usize));
            builder.push(unix_ms(), None, Some(value.as_bytes()), &headers);
        }
        drop(known);
        let first = self.next;
        self.next += count;
        (first, count, produce_request(TOPIC, self.partition, builder.build().to_bytes()))
    }
}

/// Whether a record has a name, by which it is cancelled later.
const fn has_name(number: u64) -> bool {
    number.is_multiple_of(7)
}

fn refusal(code: i16, of: &str) -> Broken {
    match ErrorCode::from_code(code) {
        Some(code) if code.is_retriable() => Broken::Passing,
        code => Broken::Fatal(format!("{of}: {code:?}")),
    }
}

/// What a reader has seen of a partition.
#[derive(Default)]
struct Read {
    next: i64,
    /// Where each number stands.
    seen: BTreeMap<u64, i64>,
}

impl Read {
    /// Reads on, and judges what has come.
    fn go_on(&mut self, client: &mut Client, sender: &Sender) -> Outcome {
        // What is cancelled before this reading never comes; what is cancelled during it may be found already.
        let cancelled = sender.shared.known().cancelled.clone();
        let (records, next) = read(client, TOPIC, sender.partition, self.next)?;
        let now = unix_ms();
        self.next = next;
        let known = sender.shared.known();
        for record in records {
            let text = String::from_utf8_lossy(&record.value);
            let number = text.split(' ').next().and_then(|digits| digits.parse().ok());
            let number: u64 = number.ok_or_else(|| format!("nobody has sent {record:?}"))?;
            let due = *known.due.get(&number).ok_or_else(|| format!("nobody has sent {number}"))?;
            let there = || format!("{number} of {} at {}", sender.partition, record.offset);
            ensure(record.due == Some(due), || format!("{}: due {due}, {record:?}", there()))?;
            // Its timestamp is the broker's own word; it was read by now at the latest.
            ensure(due <= now, || format!("{}: read {} ms early", there(), due - now))?;
            ensure(record.timestamp >= due, || {
                format!("{}: {} ms early", there(), due - record.timestamp)
            })?;
            ensure(!cancelled.contains(&number), || format!("{}: it was cancelled", there()))?;
            if let Some(before) = self.seen.insert(number, record.offset) {
                return Err(format!("{}: it stands at {before} too", there()));
            }
        }
        Ok(())
    }
}

struct Cycles {
    serve: Serve,
    random: Random,
    address: Address,
    senders: Vec<Sender>,
    reads: Vec<Read>,
    broker: Option<Broker>,
    slowest: Duration,
    _folder: Folder,
}

impl Cycles {
    fn new(seed: u64) -> Outcome<Self> {
        let folder = Folder::new();
        let serve = Serve::within(folder.path()).set(&SETTINGS);
        let broker = serve.start()?;
        let configs = [("mainspring.features", "schedule")];
        Client::connect(&broker.address)?.create_topic(TOPIC, PARTITIONS, &configs)?;
        let address = Address::default();
        address.set(&broker.address);
        let sender = |partition| Sender::start(&address, partition, seed + partition as u64);
        let senders: Vec<Sender> = (0..PARTITIONS).map(sender).collect();
        Ok(Self {
            serve,
            random: Random::new(seed),
            reads: senders.iter().map(|_| Read::default()).collect(),
            senders,
            address,
            broker: Some(broker),
            slowest: Duration::ZERO,
            _folder: folder,
        })
    }

    fn all(&mut self, cycles: u64) -> Outcome<String> {
        for cycle in 0..cycles {
            self.cycle(cycle).map_err(|problem| format!("cycle {cycle}: {problem}"))?;
        }
        for sender in &mut self.senders {
            sender.finish()?;
        }
        let (mut fired, mut cancelled, mut late) = (0, 0, 0);
        let address = self.broker.as_ref().ok_or("no broker runs")?.address.clone();
        let mut client = Client::connect(&address)?;
        for (sender, read) in self.senders.iter().zip(&mut self.reads) {
            // Everything is due by then; what is not there a long time after is lost.
            let limit = Instant::now() + Duration::from_mins(1);
            loop {
                read.go_on(&mut client, sender)?;
                let known = sender.shared.known();
                let expected = known.acknowledged.difference(&known.cancelled).copied();
                let missing: Vec<u64> =
                    expected.filter(|number| !read.seen.contains_key(number)).collect();
                if missing.is_empty() {
                    break;
                }
                drop(known);
                ensure(Instant::now() < limit, || {
                    let some = &missing[..missing.len().min(5)];
                    format!("{} of {} never came: {some:?}..", missing.len(), sender.partition)
                })?;
                std::thread::sleep(Duration::from_millis(50));
            }
            let known = sender.shared.known();
            if let Some(number) =
                known.cancelled.iter().find(|number| read.seen.contains_key(number))
            {
                let partition = sender.partition;
                return Err(format!(
                    "{number} of {partition} came, and its cancel was acknowledged"
                ));
            }
            fired += read.seen.len();
            cancelled += known.cancelled.len();
            late += known.late.len();
        }
        ensure(fired as u64 > cycles * 20 && cancelled > 0 && late > 0, || {
            format!("only {fired} came, {cancelled} were cancelled, {late} too late")
        })?;
        if let Some(broker) = self.broker.take() {
            let (status, _) = broker.stop(Duration::from_secs(10))?;
            ensure(status.success(), || format!("the last stop ended with {status}"))?;
        }
        let slowest = self.slowest.as_millis();
        Ok(format!(
            "{cycles} kills, {fired} came, {cancelled} were cancelled, {late} too late for it, slowest restart \
             {slowest} ms"
        ))
    }

    fn cycle(&mut self, cycle: u64) -> Outcome {
        std::thread::sleep(Duration::from_millis(20 + self.random.below(180)));
        if let Some(broker) = self.broker.take() {
            broker.kill();
        }
        // Some starts are killed too, in the middle of their recovery; some take so long that much is due at once.
        if self.random.below(5) == 0 {
            let mut child = self.serve.spawn()?;
            std::thread::sleep(Duration::from_millis(self.random.below(40)));
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.random.below(10) == 0 {
            std::thread::sleep(Duration::from_millis(DELAY_MAX / 2));
        }
        let start = Instant::now();
        let broker = self.serve.start()?;
        self.slowest = self.slowest.max(start.elapsed());
        self.address.set(&broker.address);
        let mut client = Client::connect(&broker.address)?;
        self.broker = Some(broker);
        for (sender, read) in self.senders.iter().zip(&mut self.reads) {
            if cycle % 10 == 9 {
                // What was read before a kill still stands where it did.
                let mut again = Read::default();
                again.go_on(&mut client, sender)?;
                let differs =
                    read.seen.iter().find(|(number, at)| again.seen.get(number) != Some(at));
                if let Some((number, at)) = differs {
                    let now = again.seen.get(number);
                    return Err(format!(
                        "{number} of {} stood at {at}, now at {now:?}; read up to {}, now to {}",
                        sender.partition, read.next, again.next
                    ));
                }
                *read = again;
            } else {
                read.go_on(&mut client, sender)?;
            }
        }
        if self.senders.iter().any(|it| it.thread.as_ref().is_some_and(JoinHandle::is_finished)) {
            for sender in &mut self.senders {
                sender.finish()?;
            }
        }
        Ok(())
    }
}
