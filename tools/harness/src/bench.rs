//! The benchmark matrix: each row with its yardstick and its peers measured in the same rounds.
//!
//! The client is the harness's own: it builds its batches beforehand and decodes nothing, so that what
//! is measured is the broker. Rounds of all arms are interleaved, and medians are reported with
//! their least and greatest value. Nothing here passes or fails.

mod arms;
pub(crate) mod client;
pub(crate) mod delay;
mod limits;
pub(crate) mod txn;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::bench::arms::{Arm, Arms};
use crate::checks::Outcome;
use crate::client::{Client, FETCH, PRODUCE, batch, fetch_request, produce_request, produced};
use mainspring_core::wire::api::fetch::FetchRequest;
use mainspring_core::wire::api::produce::ProduceRequest;

/// Bytes that the fetch rows read over and over.
const FETCHED_BYTES: usize = 256 << 20;

/// How long and how often.
pub(crate) struct Plan {
    rounds: usize,
    length: Duration,
}

impl Plan {
    /// A plan for a look, or for figures to publish.
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { rounds: 2, length: Duration::from_secs(1) }
        } else {
            Self { rounds: 5, length: Duration::from_secs(3) }
        }
    }
}

/// One measured cell: the values of all rounds.
struct Cell {
    arm: String,
    values: Vec<f64>,
}

/// One row of the matrix.
struct Row {
    name: String,
    unit: &'static str,
    cells: Vec<Cell>,
}

impl Row {
    fn new(name: &str, unit: &'static str) -> Self {
        Self { name: name.to_owned(), unit, cells: Vec::new() }
    }

    fn add(&mut self, arm: &str, value: f64) {
        if let Some(cell) = self.cells.iter_mut().find(|cell| cell.arm == arm) {
            cell.values.push(value);
        } else {
            self.cells.push(Cell { arm: arm.to_owned(), values: vec![value] });
        }
    }
}

/// Runs the whole matrix and prints it.
pub(crate) fn run(quick: bool, as_json: bool) -> Outcome {
    let plan = Plan::new(quick);
    let arms = Arms::start()?;
    let mut rows = Vec::new();
    for (record, per_batch) in [(100, 160), (1024, 64), (10 * 1024, 24)] {
        rows.extend(throughput(&arms, &plan, record, per_batch)?);
    }
    for record in [100, 1024] {
        rows.extend(latency(&arms, &plan, record)?);
    }
    rows.push(fetch(&arms, &plan)?);
    rows.push(idempotence(&arms, &plan)?);
    rows.extend(arms.life(&plan)?);
    let conditions = conditions();
    if as_json {
        println!("{}", to_json(&rows, &conditions));
    } else {
        print!("{}", to_table(&rows, &conditions));
    }
    Ok(())
}

/// Saturating produce over one connection with five batches in flight.
fn throughput(arms: &Arms, plan: &Plan, record: usize, per_batch: usize) -> Outcome<Vec<Row>> {
    let name = format!("produce {record} B, {per_batch} a batch, 5 in flight");
    let mut row = Row::new(&name, "MB/s");
    let values = vec![Bytes::from(vec![b'x'; record]); per_batch];
    let sealed = batch(&values, None);
    for round in 0..plan.rounds {
        for arm in arms.all() {
            let topic = format!("p{record}-{round}");
            arm.make_topic(&topic)?;
            let rate = saturate(arm, &topic, &sealed, plan.length)?;
            row.add(arm.name, rate);
            arm.drop_topic(&topic);
        }
        row.add("limit: overwrite + flush", limits::overwrite(plan.length, 256 << 10)?.0);
        row.add("limit: loopback copy", limits::loopback(plan.length, sealed.len())?);
    }
    Ok(vec![row])
}

fn saturate(arm: &Arm, topic: &str, sealed: &Bytes, length: Duration) -> Outcome<f64> {
    let mut client = Client::connect(&arm.address)?;
    let request = produce_request(topic, 0, sealed.clone());
    let mut acknowledged = 0_u64;
    let mut in_flight = 0;
    let start = Instant::now();
    while start.elapsed() < length || in_flight > 0 {
        while in_flight < 5 && start.elapsed() < length {
            client.send(&request, PRODUCE)?;
            in_flight += 1;
        }
        let answer = produced(client.receive::<ProduceRequest>(PRODUCE)?)?;
        in_flight -= 1;
        if answer.error_code != 0 {
            return Err(format!("{}: produce: error {}", arm.name, answer.error_code));
        }
        acknowledged += sealed.len() as u64;
    }
    Ok(acknowledged as f64 / start.elapsed().as_secs_f64() / 1e6)
}

/// One record at a time: the time from send to acknowledgement.
fn latency(arms: &Arms, plan: &Plan, record: usize) -> Outcome<Vec<Row>> {
    let mut middle = Row::new(&format!("produce {record} B, one in flight, p50"), "us");
    let mut high = Row::new(&format!("produce {record} B, one in flight, p99"), "us");
    let sealed = batch(&[vec![b'x'; record].into()], None);
    for round in 0..plan.rounds {
        for arm in arms.all() {
            let topic = format!("l{record}-{round}");
            arm.make_topic(&topic)?;
            let mut client = Client::connect(&arm.address)?;
            let request = produce_request(&topic, 0, sealed.clone());
            let mut times = Vec::new();
            let start = Instant::now();
            while start.elapsed() < plan.length {
                let sent = Instant::now();
                let answer = produced(client.call(&request, PRODUCE)?)?;
                times.push(sent.elapsed().as_secs_f64() * 1e6);
                if answer.error_code != 0 {
                    return Err(format!("{}: produce: error {}", arm.name, answer.error_code));
                }
            }
            middle.add(arm.name, percentile(&mut times, 0.5));
            high.add(arm.name, percentile(&mut times, 0.99));
            arm.drop_topic(&topic);
        }
        let (_, mut writes) = limits::overwrite(plan.length, 4 << 10)?;
        let mut trips = limits::round_trip(plan.length, sealed.len())?;
        let sum = |p: f64, a: &mut Vec<f64>, b: &mut Vec<f64>| percentile(a, p) + percentile(b, p);
        middle.add("limit: 4 KiB flush + round trip", sum(0.5, &mut writes, &mut trips));
        high.add("limit: 4 KiB flush + round trip", sum(0.99, &mut writes, &mut trips));
    }
    Ok(vec![middle, high])
}

/// Reads the same records over and over with one connection.
fn fetch(arms: &Arms, plan: &Plan) -> Outcome<Row> {
    let mut row = Row::new("fetch of 1 KiB records, 4 MiB an answer", "MB/s");
    let values = vec![Bytes::from(vec![b'x'; 1024]); 256];
    let sealed = batch(&values, None);
    // The broker that stores nothing cannot be read from.
    let arms: Vec<&Arm> = arms.all().iter().filter(|arm| arm.stores).collect();
    for arm in &arms {
        arm.make_topic("fetched")?;
        let mut client = Client::connect(&arm.address)?;
        for _ in 0..FETCHED_BYTES / sealed.len() {
            client.produce("fetched", 0, sealed.clone())?;
        }
    }
    for _ in 0..plan.rounds {
        for arm in &arms {
            let mut client = Client::connect(&arm.address)?;
            let (mut offset, mut bytes) = (0, 0_u64);
            let start = Instant::now();
            while start.elapsed() < plan.length {
                let request = fetch_request("fetched", 0, offset, 0);
                let answer = client.call::<FetchRequest>(&request, FETCH)?;
                let data = answer.responses.first().and_then(|topic| topic.partitions.first());
                let data = data.ok_or("an answer about no partition")?;
                let found = data.records.as_ref().map_or(0, mainspring_core::wire::Parts::len);
                bytes += found as u64;
                // All batches have one size, so the next offset follows from the bytes.
                offset += (found / sealed.len() * values.len()) as i64;
                if found < sealed.len() || offset >= data.high_watermark {
                    offset = 0;
                }
            }
            row.add(arm.name, bytes as f64 / start.elapsed().as_secs_f64() / 1e6);
        }
        row.add("limit: loopback copy", limits::loopback(plan.length, 4 << 20)?);
    }
    for arm in &arms {
        arm.drop_topic("fetched");
    }
    Ok(row)
}

/// The same load with and without idempotence, in turn, on our broker.
fn idempotence(arms: &Arms, plan: &Plan) -> Outcome<Row> {
    let mut row = Row::new("produce 100 B, 10 a batch, built anew, idempotence off and on", "MB/s");
    let values = vec![Bytes::from(vec![b'x'; 100]); 10];
    let arm = &arms.all()[0];
    for round in 0..plan.rounds * 2 {
        let topic = format!("i-{round}");
        arm.make_topic(&topic)?;
        let mut client = Client::connect(&arm.address)?;
        let producer = client.init_producer_id()?;
        let (mut sequence, mut in_flight, mut bytes) = (0, 0, 0);
        let start = Instant::now();
        while start.elapsed() < plan.length || in_flight > 0 {
            while in_flight < 5 && start.elapsed() < plan.length {
                // Both arms build each batch, so that they differ in the broker's work alone.
                let id = (round % 2 == 1).then_some((producer.0, producer.1, sequence));
                let sealed = batch(&values, id);
                sequence += values.len() as i32;
                bytes += sealed.len();
                client.send(&produce_request(&topic, 0, sealed), PRODUCE)?;
                in_flight += 1;
            }
            let answer = produced(client.receive::<ProduceRequest>(PRODUCE)?)?;
            in_flight -= 1;
            if answer.error_code != 0 {
                return Err(format!("produce: error {}", answer.error_code));
            }
        }
        let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
        row.add(if round % 2 == 1 { "idempotent" } else { "plain" }, rate);
        arm.drop_topic(&topic);
    }
    Ok(row)
}

/// Returns the value below which that share of all values lies.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    // Of two in the middle the lower one counts, so that a rate is never flattered.
    let at = (values.len().saturating_sub(1) as f64 * share) as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// What else the machine was doing.
fn conditions() -> String {
    let line = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores, load {}, cpu pressure {}, io pressure {}, congestion control {}",
        line("/proc/loadavg"),
        line("/proc/pressure/cpu"),
        line("/proc/pressure/io"),
        line("/proc/sys/net/ipv4/tcp_congestion_control")
    )
}

fn to_table(rows: &[Row], conditions: &str) -> String {
    let mut out = format!(
        "{conditions}\n\n| row | arm | median | least | greatest |\n|---|---|---|---|---|\n"
    );
    for row in rows {
        for cell in &row.cells {
            let mut values = cell.values.clone();
            let middle = percentile(&mut values, 0.5);
            let (least, most) = (values[0], values[values.len() - 1]);
            let (name, arm, unit) = (&row.name, &cell.arm, row.unit);
            out.extend([
                format!("| {name} | {arm} | {middle:.1} {unit} "),
                format!("| {least:.1} | {most:.1} |\n"),
            ]);
        }
    }
    out
}

fn to_json(rows: &[Row], conditions: &str) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let cells: Vec<Value> = row
                .cells
                .iter()
                .map(|cell| json!({"arm": cell.arm, "values": cell.values}))
                .collect();
            json!({"row": row.name, "unit": row.unit, "cells": cells})
        })
        .collect();
    json!({"conditions": conditions, "rows": rows})
}
