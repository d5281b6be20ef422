//! Sequences of appends to one log, judged by Apache Kafka: every append, duplicate, marker and refusal, the
//! last stable offset behind each, and what readers of committed records are told in the end.

use std::io::Read;

use bytes::Bytes;
use mainspring_core::ids::{LeaderEpoch, Offset, ProducerId};
use mainspring_core::log::Sequence;
use mainspring_core::log::producer_state::{ProducerState, ProducerStates};
use mainspring_core::log::txn_index;
use mainspring_core::record::batch::Batch;
use mainspring_core::record::marker::TxnMarker;
use mainspring_core::record::produce::{TopicRules, check_produced};
use mainspring_core::time::{Instant, UnixMillis};
use serde_json::Value;

const SCENARIOS: &[u8] = include_bytes!("data/records/log-scenarios.jsonl.gz");
const NOW: UnixMillis = UnixMillis(1_770_000_000_000);
const MONO: Instant = Instant::ZERO;
const IDS_MAX: usize = 1_000;

/// How the states are kept between two steps.
#[derive(Clone, Copy, Debug)]
enum Kept {
    InMemory,
    InTheSidecar,
}

#[test]
fn every_append_ends_as_in_kafkas_log() {
    assert!(run(Kept::InMemory) > 900);
}

#[test]
fn it_ends_so_after_a_restart_before_each_step_too() {
    assert!(run(Kept::InTheSidecar) > 900);
}

/// Runs all scenarios and returns the number of appends that were compared.
fn run(kept: Kept) -> usize {
    let mut compared = 0;
    for scenario in scenarios() {
        let case = scenario["case"].as_str().expect("a name");
        let mut states = ProducerStates::new();
        let (mut start, mut end) = (Offset::ZERO, Offset::ZERO);
        let mut batches = Vec::new();
        for (step, what) in scenario["steps"].as_array().expect("steps").iter().enumerate() {
            let place = format!("{case} step {step} {kept:?}: {what}");
            match what["op"].as_str().expect("an operation") {
                "append" => {
                    append(&mut states, &mut batches, end, what, &place);
                    compared += 1;
                }
                "marker" => {
                    mark(&mut states, &mut batches, end, what, &place);
                    compared += 1;
                }
                "delete_records" => start = Offset(offset(&what["before_offset"])).max(start),
                other => panic!("an unknown operation: {other}"),
            }
            end = batches.last().map_or(end, Batch::next_offset);
            assert_eq!(end.0, offset(&what["log_end_offset"]), "{place}");
            let stable = states.first_unstable(end).unwrap_or(end).max(start);
            // Kafka's is that of the batch that holds the start of the log, where it would be before it.
            let expected = offset(&what["last_stable_offset"]).max(start.0);
            assert_eq!(stable.0, expected, "{place}");
            if let Kept::InTheSidecar = kept {
                let file = states.encode_sidecar();
                states = ProducerStates::decode_sidecar(&file, MONO).expect("sound");
            }
        }
        assert_eq!(described(&states), expected(&scenario), "{case}");
        aborted_index(&states, start, &scenario, case);
        for read in scenario["read_committed"].as_array().expect("fetches") {
            read_committed(&states, &batches, read, case);
        }
    }
    compared
}

fn append(
    states: &mut ProducerStates,
    batches: &mut Vec<Batch>,
    end: Offset,
    step: &Value,
    place: &str,
) {
    let rules = TopicRules { open: true, ..TopicRules::default() };
    let mut batch = check_produced(unhex(&step["hex"]), 9, &rules, NOW).expect("sound");
    let expected = &step["result"];
    match states.check(MONO, &batch) {
        Err(code) => {
            let wanted = expected["error_code"].as_i64();
            assert_eq!(Some(i64::from(code.code())), wanted, "{place}");
        }
        Ok(Sequence::Duplicate { base_offset, last_offset, .. }) => {
            assert_eq!(expected["duplicate"], true, "{place}");
            assert_eq!(expected["base_offset"], base_offset.0, "{place}");
            assert_eq!(expected["last_offset"], last_offset.0, "{place}");
        }
        Ok(Sequence::Append) => {
            batch.assign(end, LeaderEpoch(3));
            assert_eq!(expected["base_offset"], end.0, "{place}");
            assert_eq!(expected["last_offset"], batch.last_offset().0, "{place}");
            assert!(expected["duplicate"].is_null(), "{place}");
            states.update(MONO, &batch, NOW.0, IDS_MAX);
            batches.push(batch);
        }
    }
}

fn mark(
    states: &mut ProducerStates,
    batches: &mut Vec<Batch>,
    end: Offset,
    step: &Value,
    place: &str,
) {
    let mut batch = Batch::split_from(&mut unhex(&step["hex"])).expect("whole");
    let marker = TxnMarker::of(&batch).expect("a marker");
    assert_eq!(marker.build(batch.max_timestamp()).rest(), batch.rest(), "{place}");
    assert_eq!(marker.committed, step["type"] == "COMMIT", "{place}");
    let version = offset(&step["transaction_version"]) as i8;
    let verdict = states.check_marker(&marker, version).map_err(|code| i64::from(code.code()));
    assert_eq!(verdict.err(), step["result"]["error_code"].as_i64(), "{place}");
    if verdict.is_ok() {
        batch.assign(end, LeaderEpoch(3));
        states.update(MONO, &batch, NOW.0, IDS_MAX);
        batches.push(batch);
    }
}

fn aborted_index(states: &ProducerStates, start: Offset, scenario: &Value, case: &str) {
    let index = states.aborted_at(start, Offset(i64::MAX));
    let index = txn_index::decode(&txn_index::encode(&index)).expect("sound");
    let index: Vec<[i64; 4]> =
        index.into_iter().map(|(id, first, last, lso)| [id.0, first.0, last.0, lso.0]).collect();
    let fields = ["producer_id", "first_offset", "last_offset", "last_stable_offset"];
    let expected = scenario["aborted_index"].as_array().expect("an index");
    let expected: Vec<[i64; 4]> =
        expected.iter().map(|entry| fields.map(|field| offset(&entry[field]))).collect();
    assert_eq!(index, expected, "{case}");
}

/// Kafka tells of more than what overlaps, and in the order of the markers.
fn read_committed(states: &ProducerStates, batches: &[Batch], read: &Value, case: &str) {
    let from = Offset(offset(&read["fetch_offset"]));
    let Some(last) = read["batches"].as_array().expect("batches").last() else { return };
    let to = Offset(offset(&last[1]) + 1);
    let told = states.aborted(from, to);
    let told: Vec<(i64, i64)> =
        told.into_iter().map(|it| (it.first_offset.0, it.producer_id.0)).collect();
    let kafkas = read["aborted_transactions"].as_array().expect("a list");
    let mut kafkas: Vec<(i64, i64)> =
        kafkas.iter().map(|entry| (offset(&entry[1]), offset(&entry[0]))).collect();
    kafkas.sort_unstable();
    kafkas.retain(|(first, _)| *first < to.0);
    assert_eq!(told, kafkas, "{case} {read}");
    for batch in batches.iter().filter(|batch| batch.is_transactional() && !batch.is_control()) {
        if batch.last_offset() < from || batch.base_offset() >= to {
            continue;
        }
        let id = batch.producer_id();
        let ends = |marker: &&Batch| {
            marker.base_offset() > batch.base_offset() && marker.producer_id() == id
        };
        let marker = batches.iter().filter(|batch| batch.is_control()).find(ends).expect("decided");
        let is_told = told.iter().any(|told| told.1 == id.0 && told.0 <= batch.base_offset().0);
        let is_aborted = TxnMarker::of(marker).is_some_and(|marker| !marker.committed);
        assert!(is_told || !is_aborted, "{case} {read}: {}", batch.base_offset());
    }
}

fn offset(value: &Value) -> i64 {
    value.as_i64().expect("a number")
}

/// The producers as `DescribeProducers` has them.
type Described = Vec<(i64, i64, i64, i64, i64)>;

fn described(states: &ProducerStates) -> Described {
    let describe = |(ProducerId(id), state): (ProducerId, &ProducerState)| {
        let last_sequence = state.batches.last().map_or(-1, |batch| batch.last_sequence);
        let transaction = state.transaction_first_offset.map_or(-1, |offset| offset.0);
        let coordinator_epoch = i64::from(state.coordinator_epoch);
        (id, i64::from(state.epoch.0), i64::from(last_sequence), coordinator_epoch, transaction)
    };
    states.iter().map(describe).collect()
}

fn expected(scenario: &Value) -> Described {
    let mut producers: Described = scenario["producers"]
        .as_array()
        .expect("producers")
        .iter()
        .map(|producer| {
            let field = |name: &str| producer[name].as_i64().expect("a number");
            (
                field("producer_id"),
                field("producer_epoch"),
                field("last_sequence"),
                field("coordinator_epoch"),
                field("current_txn_start_offset"),
            )
        })
        .collect();
    producers.sort_unstable();
    producers
}

fn scenarios() -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(SCENARIOS).read_to_string(&mut text).expect("gzip");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn unhex(value: &Value) -> Bytes {
    let hex = value.as_str().expect("text").as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect::<Vec<u8>>().into()
}
