//! `mainspring bench`: how fast a broker takes and gives records, with this program's own client, beside
//! what the machine does at best.

mod limits;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use mainspring_core::client::fetcher::{FetchEvent, Fetcher, FetcherConfig, Start};
use mainspring_core::client::producer::accumulator::Ticket;
use mainspring_core::client::producer::{Producer, ProducerConfig, RecordRef};
use mainspring_core::ids::PartitionIndex;
use mainspring_core::time::Instant;
use mainspring_core::wire::KafkaString;
use serde_json::{Value, json};

use super::connect::{self, Connection, Requests, check_reachable, refused, topic_name};
use super::failure::{Code, Failure};
use super::output::{Output, Stop};
use super::topic;
use crate::client::Driver;
use crate::rt;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Kind {
    /// Records being stored
    Produce,
    /// Records that are there being read, from the first on
    Consume,
    /// The time from a record's due moment to its being read
    E2e,
}

/// Flags of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure
    kind: Kind,
    /// Topic to use; it is made where the broker makes topics by itself, and never deleted
    #[arg(short, long, default_value = "mainspring-bench")]
    topic: String,
    /// Bytes of a value, such as 100 or 1k
    #[arg(long, value_name = "BYTES", default_value = "1k", value_parser = size)]
    size: usize,
    /// Records a second [default: as many as go; 1000 for e2e]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Seconds to measure for
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    duration: u32,
    /// Bytes of a batch
    #[arg(long, value_name = "BYTES", default_value = "256k", value_parser = size)]
    batch: usize,
    /// One object of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Reads a number of bytes.
fn size(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.trim_end_matches(['k', 'K']) {
        digits if digits.len() + 1 == text.len() => (digits, 1 << 10),
        _ => (text, 1),
    };
    digits
        .parse::<usize>()
        .ok()
        .and_then(|count| count.checked_mul(factor))
        .filter(|bytes| (1..=16 << 20).contains(bytes))
        .ok_or_else(|| "it is a number of bytes up to 16384k, such as 100 or 1k".to_owned())
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    let topic = topic_name(&args.topic)?;
    connect::block_on(async {
        let mut bench = Bench {
            args,
            topic,
            value: (0..args.size).map(|at| b'a' + (at % 26) as u8).collect(),
            records: 0,
            latency: Latency::default(),
            told: None,
        };
        let spent = match args.kind {
            Kind::Produce => bench.produce().await?,
            Kind::Consume => bench.consume().await?,
            Kind::E2e => bench.end_to_end().await?,
        };
        bench.print(spent, &limits::probe())
    })
}

struct Bench<'a> {
    args: &'a Args,
    topic: KafkaString,
    value: Vec<u8>,
    records: u64,
    latency: Latency,
    /// When progress was told last.
    told: Option<Instant>,
}

impl Bench<'_> {
    fn producer(&self, linger: Duration) -> Result<Driver<Producer>, Failure> {
        let config = ProducerConfig {
            batch_bytes: self.args.batch,
            linger,
            // More would only wait for longer.
            buffer_bytes: (8 * self.args.batch).max(4 * self.args.size + (1 << 20)),
            max_request_bytes: 64 << 20,
            delivery_timeout: self.args.connection.timeout()?,
            ..ProducerConfig::new(self.args.connection.network()?)
        };
        Ok(Driver::new(Producer::new(config)))
    }

    fn length(&self) -> Duration {
        Duration::from_secs(u64::from(self.args.duration))
    }

    /// Makes connection and topic by one record that does not count.
    async fn warm_up(&self, driver: &mut Driver<Producer>) -> Result<(), Failure> {
        let now = driver.now();
        let record = RecordRef { value: Some(b"warm up"), ..RecordRef::new(&self.topic) };
        let taken = driver.machine().append(now, &record);
        taken.map_err(|full| failed("cannot begin", full.to_string()))?;
        driver.machine().flush(now);
        while driver.machine().pending() > 0 {
            driver.turn(None).await;
            check_reachable(driver, &self.args.connection)?;
        }
        while let Some(report) = driver.machine().poll_report() {
            report.result.map_err(|error| self.refused(&error))?;
        }
        Ok(())
    }

    fn refused(&self, error: &mainspring_core::client::ClientError) -> Failure {
        refused(format!("cannot measure with the topic {}", self.topic), error, None)
    }

    async fn produce(&mut self) -> Result<Duration, Failure> {
        let mut driver = self.producer(Duration::from_millis(5))?;
        self.warm_up(&mut driver).await?;
        let begin = driver.now().mono;
        let mut pace = Pace::new(begin, self.args.rate);
        // When each record was due, in groups by their first ticket.
        let mut due: VecDeque<(Ticket, Instant)> = VecDeque::new();
        let mut is_over = false;
        while !is_over || driver.machine().pending() > 0 {
            let now = driver.now();
            is_over |= now.mono >= begin + self.length();
            let mut count = if is_over { 0 } else { pace.due(now.mono) };
            while count > 0 {
                let record = RecordRef { value: Some(&self.value), ..RecordRef::new(&self.topic) };
                let Ok(ticket) = driver.machine().append(now, &record) else {
                    break;
                };
                let at = pace.took();
                due.push_back((ticket, if self.args.rate.is_some() { at } else { now.mono }));
                count -= 1;
            }
            if is_over {
                driver.machine().flush(now);
            } else {
                driver.machine().advance(now);
            }
            if driver.machine().pending() > 0 || !is_over {
                driver.turn(pace.next().filter(|_| !is_over)).await;
            }
            check_reachable(&driver, &self.args.connection)?;
            let now = driver.now().mono;
            while let Some(report) = driver.machine().poll_report() {
                report.result.map_err(|error| self.refused(&error))?;
                self.records += report.tickets.len() as u64;
                for ticket in report.tickets {
                    // With one partition they come in order; elsewhere a few are passed over.
                    while due.front().is_some_and(|(first, _)| *first < ticket) {
                        due.pop_front();
                    }
                    if let Some((_, at)) = due.front().filter(|(first, _)| *first == ticket) {
                        self.latency.add(now.since(*at));
                        due.pop_front();
                    }
                }
            }
            self.progress(begin, now);
        }
        Ok(driver.now().mono.since(begin))
    }

    /// Begins to read all partitions of the topic.
    async fn fetcher(&self, start: Start) -> Result<Driver<Fetcher>, Failure> {
        let mut requests = Requests::new(&self.args.connection)?;
        let names = [self.args.topic.clone()];
        let topics = topic::find(&mut requests, &names, "cannot measure with").await?;
        let config = FetcherConfig::new(self.args.connection.network_of_reader()?);
        let mut driver = Driver::new(Fetcher::new(config));
        let now = driver.now();
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            let index = PartitionIndex(partition.partition_index);
            driver.machine().assign(now, &self.topic, index, start);
        }
        Ok(driver)
    }

    async fn consume(&mut self) -> Result<Duration, Failure> {
        let mut driver = self.fetcher(Start::Earliest).await?;
        let begin = driver.now().mono;
        let until = begin + self.length();
        let mut last = begin;
        loop {
            let now = driver.now();
            // What is there has been read, or the time is over.
            let idle = now.mono.since(last) >= Duration::from_secs(1) && self.records > 0;
            if now.mono >= until || idle {
                break;
            }
            let Some(event) = driver.machine().poll_event(now) else {
                driver.turn(Some(until.min(now.mono + Duration::from_millis(100)))).await;
                check_reachable(&driver, &self.args.connection)?;
                continue;
            };
            match event {
                FetchEvent::Records { records, .. } => {
                    self.records += records.len() as u64;
                    last = driver.now().mono;
                }
                FetchEvent::Failed { error, .. } => return Err(self.refused(&error)),
            }
            self.progress(begin, last);
        }
        Ok(last.since(begin))
    }

    async fn end_to_end(&mut self) -> Result<Duration, Failure> {
        let mut producer = self.producer(Duration::ZERO)?;
        self.warm_up(&mut producer).await?;
        let mut fetcher = self.fetcher(Start::Latest).await?;
        let partitions = fetcher.machine().assigned();
        while !partitions
            .iter()
            .all(|(topic, index)| fetcher.machine().position(topic, *index).is_some())
        {
            fetcher.turn(None).await;
            check_reachable(&fetcher, &self.args.connection)?;
        }
        let begin = producer.now().mono;
        let reading_begin = fetcher.now().mono;
        let until = begin + self.length();
        let mut pace = Pace::new(begin, Some(self.args.rate.unwrap_or(1000)));
        let mut sent = 0_u64;
        // Those that are sent at the end are waited for.
        let patience = until + self.args.connection.timeout()?;
        while producer.now().mono < until || (self.records < sent && producer.now().mono < patience)
        {
            let now = producer.now();
            let count = if now.mono < until { pace.due(now.mono) } else { 0 };
            for _ in 0..count {
                // Its due time travels in the record.
                let at = pace.peek().since(begin).as_nanos() as u64;
                let mut value = at.to_be_bytes().to_vec();
                value.extend(self.value.iter().skip(8));
                let record = RecordRef { value: Some(&value), ..RecordRef::new(&self.topic) };
                if producer.machine().append(now, &record).is_err() {
                    break;
                }
                pace.took();
                sent += 1;
            }
            producer.machine().advance(now);
            let wake = pace.next().unwrap_or(until).min(now.mono + Duration::from_millis(100));
            let reading = fetcher.now().mono + wake.since(now.mono);
            rt::select_biased! {
                () = producer.turn(Some(wake)) => {}
                () = fetcher.turn(Some(reading)) => {}
            }
            while let Some(report) = producer.machine().poll_report() {
                report.result.map_err(|error| self.refused(&error))?;
            }
            loop {
                let now = fetcher.now();
                match fetcher.machine().poll_event(now) {
                    None => break,
                    Some(FetchEvent::Failed { error, .. }) => return Err(self.refused(&error)),
                    Some(FetchEvent::Records { records, .. }) => {
                        for record in &records {
                            let due = record.value.and_then(|value| value.first_chunk::<8>());
                            let due = due.map_or(0, |due| u64::from_be_bytes(*due));
                            let spent = now.mono.since(reading_begin);
                            self.latency.add(spent.saturating_sub(Duration::from_nanos(due)));
                        }
                        self.records += records.len() as u64;
                    }
                }
            }
            let now = producer.now().mono;
            self.progress(begin, now);
        }
        if self.records < sent {
            let why = format!("{} of {sent} records were not read", sent - self.records);
            return Err(failed("cannot tell the time to the reader", why));
        }
        Ok(producer.now().mono.since(begin))
    }

    /// Tells a terminal how far it is, once a second.
    fn progress(&mut self, begin: Instant, now: Instant) {
        let last = *self.told.get_or_insert(begin);
        if now.since(last) < Duration::from_secs(1) || !io::stderr().is_terminal() {
            return;
        }
        self.told = Some(now);
        // Whoever closes the terminal reads nothing.
        let _ = write!(
            io::stderr(),
            "\r{} of {} s, {} records ",
            now.since(begin).as_secs(),
            self.args.duration,
            self.records
        );
    }

    fn print(&self, spent: Duration, limits: &Value) -> Result<(), Stop> {
        let seconds = spent.as_secs_f64().max(1e-9);
        let rate = self.records as f64 / seconds;
        let megabytes = rate * self.args.size as f64 / 1e6;
        if self.told.is_some() && io::stderr().is_terminal() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        let mut output = Output::new();
        if self.args.json {
            let latency = self.latency.json();
            output.json(&json!({
                "kind": format!("{:?}", self.args.kind).to_lowercase(),
                "size": self.args.size,
                "records": self.records,
                "seconds": seconds,
                "records_per_second": rate,
                "megabytes_per_second": megabytes,
                "latency_us": latency,
                "limits": limits,
            }))?;
            return output.flush();
        }
        output.line(&format!(
            "{} records of {} bytes in {seconds:.1} s: {rate:.0} a second, {megabytes:.1} MB/s",
            self.records, self.args.size
        ))?;
        if let Value::Object(latency) = self.latency.json() {
            let parts: Vec<String> =
                latency.iter().map(|(name, value)| format!("{name} {value} µs")).collect();
            output.line(&format!("latency: {}", parts.join(", ")))?;
        }
        if let Value::Object(limits) = limits {
            let parts: Vec<String> = limits
                .iter()
                .map(|(name, value)| format!("{} {value}", name.replace('_', " ")))
                .collect();
            output.line(&format!("this machine: {}", parts.join(", ")))?;
        }
        output.flush()
    }
}

fn failed(what: &str, why: String) -> Failure {
    Failure::new(Code::Failed, what, why, "try again with a longer --timeout, or a lower --rate")
}

/// When records are due.
struct Pace {
    begin: Instant,
    rate: Option<u32>,
    taken: u64,
}

impl Pace {
    const fn new(begin: Instant, rate: Option<u32>) -> Self {
        Self { begin, rate, taken: 0 }
    }

    /// How many are due that were not taken.
    fn due(&self, now: Instant) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(rate) => {
                let due = now.since(self.begin).as_nanos() * u128::from(rate) / 1_000_000_000;
                (due as u64 + 1).saturating_sub(self.taken)
            }
        }
    }

    /// When the next one is due.
    fn peek(&self) -> Instant {
        let rate = u128::from(self.rate.unwrap_or(u32::MAX));
        let nanos = u128::from(self.taken) * 1_000_000_000 / rate;
        self.begin + Duration::from_nanos(nanos as u64)
    }

    /// Takes one, and returns when it was due.
    fn took(&mut self) -> Instant {
        let at = self.peek();
        self.taken += 1;
        at
    }

    fn next(&self) -> Option<Instant> {
        self.rate.map(|_| self.peek())
    }
}

/// How long things took: counts by nanoseconds, to a thirty-second part.
#[derive(Debug)]
struct Latency {
    counts: Vec<u64>,
    total: u64,
}

const STEPS_BITS: u32 = 5;

impl Default for Latency {
    fn default() -> Self {
        Self { counts: vec![0; 64 << STEPS_BITS], total: 0 }
    }
}

impl Latency {
    fn add(&mut self, time: Duration) {
        let nanos = (time.as_nanos() as u64).max(1 << STEPS_BITS);
        let power = nanos.ilog2();
        let step = (nanos >> (power - STEPS_BITS)) as usize & ((1 << STEPS_BITS) - 1);
        self.counts[((power as usize) << STEPS_BITS) + step] += 1;
        self.total += 1;
    }

    /// The time that so many of a thousand did not exceed, in microseconds.
    fn within(&self, permille: u64) -> u64 {
        let wanted = (self.total * permille).div_ceil(1000);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let (power, step) = (index >> STEPS_BITS, index & ((1 << STEPS_BITS) - 1));
                let nanos = (1_u128 << power) * ((1 << STEPS_BITS) + step as u128 + 1);
                return (nanos >> STEPS_BITS) as u64 / 1000;
            }
        }
        0
    }

    fn json(&self) -> Value {
        if self.total == 0 {
            return Value::Null;
        }
        json!({
            "p50": self.within(500),
            "p95": self.within(950),
            "p99": self.within(990),
            "p999": self.within(999),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_bytes_or_kibibytes() {
        assert_eq!((size("100"), size("1k"), size("16384k")), (Ok(100), Ok(1024), Ok(16 << 20)));
        for text in ["", "0", "k", "1kk", "-1", "1m", "16385k"] {
            size(text).expect_err(text);
        }
    }

    #[test]
    fn latencies_are_told_to_a_thirty_second_part() {
        let mut latency = Latency::default();
        assert_eq!(latency.json(), Value::Null);
        for micros in 1..=1000 {
            latency.add(Duration::from_micros(micros));
        }
        for (permille, exact) in [(500, 500.0), (950, 950.0), (990, 990.0), (999, 999.0)] {
            let told = latency.within(permille) as f64;
            assert!(told >= exact * 0.99 && told <= exact * 1.04, "{permille}: {told}");
        }
    }

    #[test]
    fn records_are_due_at_the_rate_whatever_happened_before() {
        let begin = Instant::from_nanos(5);
        let mut pace = Pace::new(begin, Some(1000));
        assert_eq!(pace.due(begin), 1);
        assert_eq!(pace.due(begin + Duration::from_millis(10)), 11);
        pace.took();
        assert_eq!(pace.took(), begin + Duration::from_millis(1));
        assert_eq!(pace.due(begin + Duration::from_millis(10)), 9);
    }
}
