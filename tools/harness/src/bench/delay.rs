//! Records that come later: what one that waits costs, how soon a broker with a million of them is back, and how late
//! they come.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mainspring_core::record::builder::{BatchBuilder, NewHeader};
use mainspring_core::record::compress::Codec;
use mainspring_core::wire::api::produce::ProduceRequest;

use crate::bench::arms::resident;
use crate::bench::{Row, conditions, percentile, to_json, to_table};
use crate::broker::{Broker, Folder, Serve};
use crate::checks::Outcome;
use crate::client::{Client, PRODUCE, produce_request, produced};
use crate::delays::unix_ms;
use crate::random::Random;

/// Bytes of a record's value.
const RECORD: usize = 100;
/// Records of a batch.
const BATCH: usize = 500;
/// Batches on their way at a time.
const IN_FLIGHT: usize = 5;
const ARM: &str = "mainspring";
/// How long a reader waits for what is due.
const PATIENCE: Duration = Duration::from_mins(2);

/// Measures records that come later and prints it.
pub(crate) fn run(quick: bool, as_json: bool) -> Outcome {
    let (pending, rounds) = if quick { (100_000, 1) } else { (1_000_000, 3) };
    let mut bench = Bench::new(pending);
    for _ in 0..rounds {
        bench.round(quick)?;
    }
    let rows = bench.rows;
    let conditions = conditions();
    if as_json {
        println!("{}", to_json(&rows, &conditions));
    } else {
        print!("{}", to_table(&rows, &conditions));
    }
    Ok(())
}

struct Bench {
    pending: usize,
    rows: Vec<Row>,
}

impl Bench {
    const fn new(pending: usize) -> Self {
        Self { pending, rows: Vec::new() }
    }

    fn add(&mut self, name: &str, unit: &'static str, arm: &str, value: f64) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            return row.add(arm, value);
        }
        let mut row = Row::new(name, unit);
        row.add(arm, value);
        self.rows.push(row);
    }

    fn round(&mut self, quick: bool) -> Outcome {
        let folder = Folder::new();
        let serve = Serve::within(folder.path());
        let broker = serve.start()?;
        let mut client = Client::connect(&broker.address)?;
        client.create_topic("plain", 1, &[])?;
        let configs = [
            ("mainspring.features", "schedule"),
            ("mainspring.schedule.max.pending.records", "2000000"),
        ];
        client.create_topic("later", 1, &configs)?;
        once_it_takes(&mut client)?;
        let pending = self.pending;

        let name = format!("produce {RECORD} B, {BATCH} a batch, {IN_FLIGHT} in flight");
        let plain = send(&mut client, "plain", pending, None)?;
        self.add(&name, "records/s", "without a delay", plain);
        let before = resident(broker.pid());
        let due = unix_ms() + 24 * 3_600_000;
        let later = send(&mut client, "later", pending, Some(&mut || due))?;
        self.add(&name, "records/s", "with a delay of a day", later);
        let memory = (resident(broker.pid()) - before) * 1e6 / pending as f64;
        self.add(&format!("memory for each of {pending} that wait"), "B", ARM, memory);

        self.lateness(&mut client, &broker, quick)?;
        self.at_once(&mut client, &broker, quick)?;

        broker.kill();
        let start = Instant::now();
        let broker = serve.start()?;
        let millis = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
        self.add("start to ready after kill -9", "ms", ARM, millis(start));
        let mut client = Client::connect(&broker.address)?;
        let from = end(&mut client, "later")?;
        once_it_takes(&mut client)?;
        arrivals(&broker, "later", from, 1)?;
        self.add(
            &format!("start to firing after kill -9, {pending} wait"),
            "ms",
            ARM,
            millis(start),
        );
        Ok(())
    }

    /// Records that are due at moments of their own.
    fn lateness(&mut self, client: &mut Client, broker: &Broker, quick: bool) -> Outcome {
        let count = if quick { 2_000 } else { 10_000 };
        let from = end(client, "later")?;
        let mut random = Random::new(Random::fresh_seed());
        let first = unix_ms() + 2_000;
        let mut due = || first + random.below(10_000) as i64;
        send(client, "later", count, Some(&mut due))?;
        let mut late: Vec<f64> =
            arrivals(broker, "later", from, count)?.into_iter().map(|(at, due)| at - due).collect();
        let name = format!("{count} records due within 10 s: how late a reader has them");
        self.add(&format!("{name}, p50"), "ms", ARM, percentile(&mut late, 0.5));
        self.add(&format!("{name}, p99"), "ms", ARM, percentile(&mut late, 0.99));
        self.add(&format!("{name}, most"), "ms", ARM, percentile(&mut late, 1.0));
        Ok(())
    }

    /// Records that are due at one moment.
    fn at_once(&mut self, client: &mut Client, broker: &Broker, quick: bool) -> Outcome {
        let count = if quick { 10_000 } else { 100_000 };
        let from = end(client, "later")?;
        let due = unix_ms() + 5_000;
        send(client, "later", count, Some(&mut || due))?;
        let all = arrivals(broker, "later", from, count)?;
        let last = all.iter().map(|(at, due)| at - due).fold(0.0, f64::max);
        self.add(
            &format!("{count} records due at one millisecond: the last is read after"),
            "ms",
            ARM,
            last,
        );
        Ok(())
    }
}

/// Sends a record that is due at once. Until its log is read a topic with features has clients ask again.
fn once_it_takes(client: &mut Client) -> Outcome {
    let limit = Instant::now() + PATIENCE;
    while let Err(why) = send(client, "later", 1, Some(&mut unix_ms)) {
        if Instant::now() > limit {
            return Err(why);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Produces so many records, and returns how many a second.
fn send(
    client: &mut Client,
    topic: &str,
    count: usize,
    mut due: Option<&mut dyn FnMut() -> i64>,
) -> Outcome<f64> {
    let value = [b'x'; RECORD];
    let start = Instant::now();
    let (mut made, mut in_flight) = (0, 0);
    while made < count || in_flight > 0 {
        while in_flight < IN_FLIGHT && made < count {
            let mut builder = BatchBuilder::new(Codec::None);
            let now = unix_ms();
            for _ in 0..BATCH.min(count - made) {
                let at = due.as_mut().map(|due| due().to_string());
                let header: Option<NewHeader<'_>> =
                    at.as_ref().map(|at| (&b"mainspring-deliver-at"[..], Some(at.as_bytes())));
                builder.push(now, None, Some(&value), header.as_slice());
                made += 1;
            }
            let sealed: Bytes = builder.build().to_bytes();
            client.send(&produce_request(topic, 0, sealed), PRODUCE)?;
            in_flight += 1;
        }
        let answer = produced(client.receive::<ProduceRequest>(PRODUCE)?)?;
        in_flight -= 1;
        if answer.error_code != 0 {
            let (code, why) = (answer.error_code, answer.error_message);
            return Err(format!(
                "produce to {topic} after {made} of {count}: error {code} {why:?}"
            ));
        }
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Returns the end of what a reader sees.
fn end(client: &mut Client, topic: &str) -> Outcome<i64> {
    Ok(client.fetch(topic, 0, 0, 0)?.high_watermark)
}

/// Reads until so many records have come, and returns when each did and was due, in Unix milliseconds.
fn arrivals(broker: &Broker, topic: &str, from: i64, count: usize) -> Outcome<Vec<(f64, f64)>> {
    let mut client = Client::connect(&broker.address)?;
    let limit = Instant::now() + PATIENCE;
    let (mut next, mut all) = (from, Vec::with_capacity(count));
    while all.len() < count {
        if Instant::now() > limit {
            return Err(format!("{} of {count} records came of {topic}", all.len()));
        }
        let data = client.fetch(topic, 0, next, 500)?;
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        let now = now.as_secs_f64() * 1e3;
        let (records, end) = crate::delays::seen(data, next)?;
        next = end;
        all.extend(records.iter().filter_map(|record| Some((now, record.due? as f64))));
    }
    Ok(all)
}
