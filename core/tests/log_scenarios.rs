//! Sequences of appends to one log, judged by Apache Kafka: every append, duplicate and refusal.
//!
//! Markers that Kafka's log took are taken in, and those that it refused are left out: judging them
//! is the transaction coordinator's and its partition's affair.

use std::io::Read;

use bytes::Bytes;
use mainspring_core::ids::{LeaderEpoch, Offset, ProducerId};
use mainspring_core::log::Sequence;
use mainspring_core::log::producer_state::{ProducerState, ProducerStates};
use mainspring_core::record::batch::Batch;
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
        let mut end = Offset::ZERO;
        for (step, what) in scenario["steps"].as_array().expect("steps").iter().enumerate() {
            let place = format!("{case} step {step} {kept:?}: {what}");
            match what["op"].as_str().expect("an operation") {
                "append" => {
                    append(&mut states, &mut end, what, &place);
                    compared += 1;
                }
                "marker" if what["result"]["base_offset"].is_i64() => {
                    let mut batch = Batch::split_from(&mut unhex(&what["hex"])).expect("whole");
                    batch.assign(end, LeaderEpoch(3));
                    states.update(MONO, &batch, NOW.0, IDS_MAX);
                    end = batch.next_offset();
                }
                "marker" | "delete_records" => {}
                other => panic!("an unknown operation: {other}"),
            }
            assert_eq!(end.0, what["log_end_offset"].as_i64().expect("an offset"), "{place}");
            if let Kept::InTheSidecar = kept {
                let file = states.encode_sidecar();
                states = ProducerStates::decode_sidecar(&file, MONO).expect("sound");
            }
        }
        assert_eq!(described(&states), expected(&scenario), "{case}");
    }
    compared
}

fn append(states: &mut ProducerStates, end: &mut Offset, step: &Value, place: &str) {
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
            batch.assign(*end, LeaderEpoch(3));
            assert_eq!(expected["base_offset"], end.0, "{place}");
            assert_eq!(expected["last_offset"], batch.last_offset().0, "{place}");
            assert!(expected["duplicate"].is_null(), "{place}");
            states.update(MONO, &batch, NOW.0, IDS_MAX);
            *end = batch.next_offset();
        }
    }
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
