//! Transactions: how many a second, how long a commit takes, and what they cost over idempotent produce.
//!
//! A producer speaks as one of KIP-890 does: its first batch takes the partition into the transaction, one
//! `EndTxn` ends it and brings the epoch of the next. It has one request on its way at a time, as an application
//! that waits for its commit. Where a broker says that the transaction before is still being ended, it asks
//! again after 20 ms, as Kafka's clients do; that counts as time of the transaction.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainspring_core::error::ErrorCode;
use mainspring_core::wire::api::end_txn::EndTxnRequest;
use mainspring_core::wire::api::find_coordinator::FindCoordinatorRequest;
use mainspring_core::wire::api::init_producer_id::InitProducerIdRequest;

use crate::bench::arms::{Arm, Arms};
use crate::bench::{Plan, Row, conditions, limits, percentile, to_json, to_table};
use crate::checks::Outcome;
use crate::client::{Client, batch, produce_request, produced, transactional_batch};

/// The first version of Produce whose batches take their partition into a transaction, with names of topics.
const PRODUCE: i16 = 12;
/// The first version of `EndTxn` that brings the next epoch.
const END: i16 = 5;
/// Bytes of a record's value.
const RECORD: usize = 100;
/// Pause of clients while the transaction before is still being ended.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a broker may take until it has a coordinator.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures transactions and prints them.
pub(crate) fn run(quick: bool, as_json: bool) -> Outcome {
    let plan = Plan::new(quick);
    let arms = Arms::start()?;
    let mut rows = Vec::new();
    for producers in [1, 32] {
        for messages in [1, 10, 1000] {
            rows.extend(cell(&arms, &plan, producers, messages)?);
        }
    }
    let conditions = conditions();
    if as_json {
        println!("{}", to_json(&rows, &conditions));
    } else {
        print!("{}", to_table(&rows, &conditions));
    }
    Ok(())
}

/// So many producers, each with so many messages in a transaction.
fn cell(arms: &Arms, plan: &Plan, producers: usize, messages: usize) -> Outcome<Vec<Row>> {
    let what = format!("transactions of {messages} x {RECORD} B, {producers} at a time");
    let mut rate = Row::new(&what, "txn/s");
    let mut middle = Row::new(&format!("{what}: commit, p50"), "us");
    let mut high = Row::new(&format!("{what}: commit, p99"), "us");
    let mut share = Row::new(&format!("{what}: rate over that of idempotent produce alone"), "%");
    for round in 0..plan.rounds {
        for arm in arms.all().iter().filter(|arm| arm.stores) {
            let topic = format!("x{producers}-{messages}-{round}");
            arm.make_partitions(&topic, producers as i32)?;
            let load = Load { arm, topic: &topic, producers, messages, length: plan.length };
            let plain = load.run(false)?;
            let mut done = load.run(true)?;
            rate.add(arm.name, done.rate());
            middle.add(arm.name, percentile(&mut done.commits, 0.5));
            high.add(arm.name, percentile(&mut done.commits, 0.99));
            share.add(arm.name, 100.0 * done.rate() / plain.rate());
            arm.drop_topic(&topic);
        }
        if producers == 1 {
            // The records, the decision and the marker, each of which rests on the one before.
            let (_, mut writes) = limits::overwrite(plan.length, 4 << 10)?;
            let mut trips = limits::round_trip(plan.length, messages * RECORD)?;
            let micros = 3.0 * percentile(&mut writes, 0.5) + 2.0 * percentile(&mut trips, 0.5);
            rate.add("limit: three 4 KiB flushes + two round trips", 1e6 / micros);
        }
    }
    Ok(vec![rate, middle, high, share])
}

struct Load<'a> {
    arm: &'a Arm,
    topic: &'a str,
    producers: usize,
    messages: usize,
    length: Duration,
}

/// What producers have done together.
struct Done {
    count: u64,
    seconds: f64,
    /// Microseconds of each commit.
    commits: Vec<f64>,
}

impl Done {
    fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

impl Load<'_> {
    /// Runs all producers at once, each with its partition, in transactions or without.
    fn run(&self, in_transactions: bool) -> Outcome<Done> {
        let barrier = Barrier::new(self.producers);
        let results: Vec<Outcome<(u64, f64, Vec<f64>)>> = std::thread::scope(|scope| {
            let run = |index| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let producer = self.producer(index, in_transactions);
                    // Whoever cannot begin keeps nobody waiting.
                    barrier.wait();
                    producer?.run(self.length)
                })
            };
            let threads: Vec<_> = (0..self.producers).map(run).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err("a producer has panicked".to_owned()))
            };
            threads.into_iter().map(join).collect()
        });
        let mut done = Done { count: 0, seconds: 0.0, commits: Vec::new() };
        for result in results {
            let (count, seconds, commits) =
                result.map_err(|why| format!("{}: {}: {why}", self.arm.name, self.topic))?;
            done.count += count;
            done.seconds = done.seconds.max(seconds);
            done.commits.extend(commits);
        }
        Ok(done)
    }

    fn producer(&self, index: usize, in_transactions: bool) -> Outcome<Producer> {
        let mut client = Client::connect(&self.arm.address)?;
        let transactional_id = in_transactions.then(|| format!("{}-{index}", self.topic));
        let identity = take_id(&mut client, transactional_id.as_deref())?;
        Ok(Producer {
            client,
            transactional_id,
            identity,
            topic: self.topic.to_owned(),
            partition: index as i32,
            values: vec![Bytes::from(vec![b'x'; RECORD]); self.messages],
            sequence: 0,
        })
    }
}

/// Takes a producer id, once the broker has one to give and, for a transactional id, a coordinator.
fn take_id(client: &mut Client, id: Option<&str>) -> Outcome<(i64, i16)> {
    let init = InitProducerIdRequest {
        transactional_id: id.map(Into::into),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    let begun = Instant::now();
    loop {
        if let Some(id) = id {
            // There is one node, so that it is the coordinator; asking makes the topic of transactions.
            let find = FindCoordinatorRequest {
                key_type: 1,
                coordinator_keys: vec![id.into()],
                ..FindCoordinatorRequest::default()
            };
            client.call(&find, 4)?;
        }
        let answer = client.call(&init, 4)?;
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => return Ok((answer.producer_id, answer.producer_epoch)),
            Some(code) if code.is_retriable() && begun.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
            }
            code => return Err(format!("no producer id: {code:?}")),
        }
    }
}

struct Producer {
    client: Client,
    transactional_id: Option<String>,
    identity: (i64, i16),
    topic: String,
    partition: i32,
    values: Vec<Bytes>,
    sequence: i32,
}

impl Producer {
    /// Produces batch after batch, each in its transaction if it has an id, and returns how many, in how many
    /// seconds, and the microseconds of each commit.
    fn run(mut self, length: Duration) -> Outcome<(u64, f64, Vec<f64>)> {
        let mut commits = Vec::new();
        let mut count = 0;
        let start = Instant::now();
        while start.elapsed() < length {
            self.produce()?;
            if self.transactional_id.is_some() {
                let sent = Instant::now();
                self.commit()?;
                commits.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            count += 1;
        }
        Ok((count, start.elapsed().as_secs_f64(), commits))
    }

    fn produce(&mut self) -> Outcome {
        let producer = (self.identity.0, self.identity.1, self.sequence);
        let sealed = match &self.transactional_id {
            Some(_) => transactional_batch(&self.values, producer),
            None => batch(&self.values, Some(producer)),
        };
        let mut request = produce_request(&self.topic, self.partition, sealed);
        request.transactional_id = self.transactional_id.as_deref().map(Into::into);
        let begun = Instant::now();
        loop {
            let answer = produced(self.client.call(&request, PRODUCE)?)?;
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => break,
                // The transaction before is being ended, or the leader has only just been told.
                Some(code) if code.is_retriable() && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE);
                }
                code => return Err(format!("produce: {code:?}")),
            }
        }
        self.sequence += self.values.len() as i32;
        Ok(())
    }

    fn commit(&mut self) -> Outcome {
        let request = EndTxnRequest {
            transactional_id: self.transactional_id.as_deref().unwrap_or_default().into(),
            producer_id: self.identity.0,
            producer_epoch: self.identity.1,
            committed: true,
        };
        loop {
            let answer = self.client.call(&request, END)?;
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => {
                    self.identity = (answer.producer_id, answer.producer_epoch);
                    self.sequence = 0;
                    return Ok(());
                }
                Some(ErrorCode::ConcurrentTransactions) => std::thread::sleep(PAUSE),
                code => return Err(format!("commit: {code:?}")),
            }
        }
    }
}
