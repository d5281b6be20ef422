//! Record batches that Apache Kafka wrote, read and written again; and its verdicts on damaged ones.

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::builder::{
    BatchBuilder, NewHeader, Producer, TransactionResult, leader_change, transaction_marker,
};
use mainspring_core::record::compress::Codec;
use mainspring_core::record::iterate::{OpenBatch, Record};
use mainspring_core::record::produce::{TimestampType, TopicRules, check_produced};
use mainspring_core::time::UnixMillis;
use serde_json::Value;

const RECORDS: &[u8] = include_bytes!("data/records/records.jsonl.gz");
const LEADER_CHANGE: &str = include_str!("data/records/leader-change.jsonl");
/// The clock of the log that judged the batches.
const NOW: UnixMillis = UnixMillis(1_770_000_000_000);
const MAX_BYTES: usize = 1 << 20;

/// Damage inside the records, which a batch that stays closed takes along. Kafka opens every batch.
const UNSEEN_IN_A_CLOSED_BATCH: [&str; 30] = [
    "compressed_bytes_after_end_snappy",
    "compressed_bytes_after_end_zstd",
    "compressed_cut_off_gzip",
    "compressed_cut_off_lz4",
    "compressed_cut_off_snappy",
    "compressed_cut_off_zstd",
    "compressed_garbage_gzip",
    "compressed_garbage_lz4",
    "compressed_garbage_snappy",
    "compressed_garbage_zstd",
    "compressed_payload_empty_gzip",
    "compressed_payload_empty_lz4",
    "compressed_payload_empty_snappy",
    "compressed_payload_empty_zstd",
    "compressed_wrong_codec_bit",
    "bytes_after_last_record",
    "header_count_huge",
    "header_count_negative",
    "header_count_too_high",
    "header_key_null",
    "key_length_beyond_record",
    "key_length_minus_2",
    "record_length_beyond_batch",
    "record_length_negative",
    "record_length_too_long_by_1",
    "record_length_too_short",
    "record_length_varint_too_long",
    "record_length_zero",
    "timestamp_delta_varlong_too_long",
    "value_length_beyond_record",
];

#[test]
fn every_batch_of_kafka_is_read_field_by_field() {
    let mut batches = 0;
    for line in lines().iter().filter(|line| line["ok"] == true) {
        let mut bytes = unhex(&line["hex"]);
        for expected in array(&line["batches"]) {
            let batch = Batch::split_from(&mut bytes).expect("whole");
            assert_header(&batch, expected, &line["case"]);
            assert_records(&batch, expected, &line["case"]);
            batches += 1;
        }
        assert!(Batch::split_from(&mut bytes).is_err(), "{}: nothing more is whole", line["case"]);
    }
    assert!(batches > 80, "{batches}");
}

#[test]
fn long_values_are_equal_whatever_codec_they_came_by() {
    let mut by_hash: BTreeMap<String, (Vec<u8>, usize)> = BTreeMap::new();
    for line in lines().iter().filter(|line| line["ok"] == true) {
        let mut bytes = unhex(&line["hex"]);
        for expected in array(&line["batches"]) {
            let batch = Batch::split_from(&mut bytes).expect("whole");
            let open = OpenBatch::open(&batch, MAX_BYTES).expect("sound");
            for (placed, expected) in open.records().zip(array(&expected["records"])) {
                let Some(hash) = expected["value_sha256"].as_str() else { continue };
                let value = placed.expect("sound").record.value.expect("not null").to_vec();
                let (first, seen) =
                    by_hash.entry(hash.to_owned()).or_insert_with(|| (value.clone(), 0));
                assert!(*first == value, "{}", line["case"]);
                *seen += 1;
            }
        }
    }
    let seen: Vec<usize> = by_hash.values().map(|(_, seen)| *seen).collect();
    assert_eq!(seen.iter().sum::<usize>(), 6);
    assert!(by_hash.values().all(|(_, seen)| *seen >= 2), "{seen:?}");
}

#[test]
fn batches_are_built_byte_for_byte_as_kafka_builds_them() {
    let mut built = 0;
    for line in lines().iter().filter(|line| line["ok"] == true) {
        let mut bytes = unhex(&line["hex"]);
        for expected in array(&line["batches"]) {
            let batch = Batch::split_from(&mut bytes).expect("whole");
            let last = i64::from(batch.last_offset_delta());
            let made_by_cleaner = i64::from(batch.records_count()) != last + 1;
            if made_by_cleaner {
                continue;
            }
            let again = if batch.is_control() { marker(&batch, expected) } else { rebuild(&batch) };
            if batch.codec() == 0 {
                assert_eq!(again.to_bytes(), batch.to_bytes(), "{}", line["case"]);
            } else {
                let open = OpenBatch::open(&batch, MAX_BYTES).expect("sound");
                assert_eq!(again.rest(), open.payload(), "{}", line["case"]);
            }
            built += 1;
        }
    }
    assert!(built > 80, "{built}");
}

#[test]
fn the_batch_that_begins_a_leaders_epoch_is_kafkas() {
    let line: Value = serde_json::from_str(LEADER_CHANGE.trim()).expect("JSON");
    let expected = Batch::split_from(&mut unhex(&line["batch_hex"])).expect("whole");
    let nodes = |field: &str| -> Vec<NodeId> {
        array(&line["value_json"][field])
            .iter()
            .map(|voter| NodeId(i32::try_from(number(&voter["voterId"])).expect("i32")))
            .collect()
    };
    let leader = NodeId(i32::try_from(number(&line["value_json"]["leaderId"])).expect("i32"));
    let mut batch =
        leader_change(leader, &nodes("voters"), &nodes("grantingVoters"), expected.max_timestamp());
    batch.assign(expected.base_offset(), expected.leader_epoch());
    assert_eq!(batch.to_bytes(), expected.to_bytes());
}

#[test]
fn sound_batches_are_stored_with_the_bytes_that_kafka_stores() {
    let mut stored = 0;
    for line in &lines() {
        for (topic, rules) in topics() {
            let verdict = if line["ok"] == true { &line[topic] } else { &line["kafka"][topic] };
            if verdict["result"] != "appended" || refused_as_request(line) {
                continue;
            }
            for open in [true, false] {
                let rules = TopicRules { open, ..rules.clone() };
                let batch = check_produced(unhex(&line["hex"]), 9, &rules, NOW);
                let mut batch =
                    batch.unwrap_or_else(|refusal| panic!("{} {topic}: {refusal}", line["case"]));
                batch.assign(Offset::ZERO, LeaderEpoch(3));
                // A closed batch keeps the largest timestamp that its header claims.
                let header_lies = case(line).starts_with("max_timestamp_wrong");
                if open || !(header_lies && rules.timestamp_type == TimestampType::CreateTime) {
                    let expected = unhex(&verdict["stored_hex"]);
                    assert_eq!(batch.to_bytes(), expected, "{} {topic} {open}", line["case"]);
                }
                assert!(batch.crc_is_valid());
                stored += 1;
            }
        }
    }
    assert!(stored > 100, "{stored}");
}

#[test]
fn an_open_batch_is_refused_with_kafkas_code() {
    let mut refused = 0;
    for line in lines().iter().filter(|line| line["ok"] == false) {
        for (topic, rules) in topics() {
            let Some(expected) = kafka_code(line, topic) else { continue };
            let rules = TopicRules { open: true, ..rules };
            let code = check_produced(unhex(&line["hex"]), 9, &rules, NOW);
            let code = code.map_or_else(|refusal| refusal.code.code(), |_| 0);
            assert!(agrees(code, expected), "{} {topic}: {code}, not {expected}", line["case"]);
            refused += usize::from(code != 0);
        }
    }
    assert!(refused > 60, "{refused}");
}

#[test]
fn a_closed_batch_is_refused_with_kafkas_code_unless_the_damage_lies_inside_its_records() {
    let mut unseen = Vec::new();
    for line in lines().iter().filter(|line| line["ok"] == false) {
        let Some(expected) = kafka_code(line, "log_append") else { continue };
        let code = check_produced(unhex(&line["hex"]), 9, &TopicRules::default(), NOW);
        let code = code.map_or_else(|refusal| refusal.code.code(), |_| 0);
        if code == 0 && expected != 0 {
            unseen.push(case(line).to_owned());
        } else {
            assert!(agrees(code, expected), "{}: {code}, not {expected}", line["case"]);
        }
    }
    unseen.sort();
    let mut expected = UNSEEN_IN_A_CLOSED_BATCH;
    expected.sort_unstable();
    assert_eq!(unseen, expected);
}

#[test]
fn an_old_produce_request_is_refused_zstd_with_kafkas_code() {
    for line in lines().iter().filter(|line| line["ok"] == false) {
        let verdict = &line["kafka"]["produce_request_v6"];
        let Some(76) = verdict["error_code"].as_i64() else { continue };
        let refusal = check_produced(unhex(&line["hex"]), 6, &TopicRules::default(), NOW);
        let code = refusal.err().map(|refusal| refusal.code);
        assert_eq!(code, Some(ErrorCode::UnsupportedCompressionType), "{}", line["case"]);
    }
}

#[test]
fn the_records_to_blame_are_kafkas() {
    let mut compared = 0;
    for line in lines().iter().filter(|line| line["ok"] == false) {
        for (topic, rules) in topics() {
            let Some(errors) = line["kafka"][topic]["record_errors"].as_array() else { continue };
            let refusal = check_produced(unhex(&line["hex"]), 9, &rules, NOW);
            let refusal = refusal.expect_err("Kafka refuses it");
            let blamed: Vec<i64> =
                refusal.records.iter().map(|record| i64::from(record.index)).collect();
            let expected: Vec<i64> =
                errors.iter().map(|error| number(&error["batch_index"])).collect();
            assert_eq!(blamed, expected, "{} {topic}", line["case"]);
            compared += 1;
        }
    }
    assert_eq!(compared, 3);
}

/// The topics that Kafka judged the batches for.
fn topics() -> [(&'static str, TopicRules); 3] {
    let create_time = TopicRules::default();
    let append_time =
        TopicRules { timestamp_type: TimestampType::LogAppendTime, ..create_time.clone() };
    let compacted = TopicRules { keys_required: true, ..create_time.clone() };
    [
        ("log_append", create_time),
        ("log_append_logappendtime", append_time),
        ("log_append_compacted", compacted),
    ]
}

fn refused_as_request(line: &Value) -> bool {
    line["ok"] == false && line["kafka"]["produce_request_v9"]["result"] != "ok"
}

/// What a client sees: the verdict on the request, then that of the log; 0 for appended.
fn kafka_code(line: &Value, topic: &str) -> Option<i64> {
    let verdicts = &line["kafka"];
    let request = verdicts["produce_request_v9"]["error_code"].as_i64();
    request.or_else(|| {
        let verdict = verdicts.get(topic)?;
        Some(verdict["error_code"].as_i64().unwrap_or(0))
    })
}

/// -1 is an exception that Kafka did not foresee: a better code will do, acceptance will not.
fn agrees(code: i16, kafka: i64) -> bool {
    if kafka == -1 { matches!(code, 2 | 87) } else { i64::from(code) == kafka }
}

fn assert_header(batch: &Batch, expected: &Value, case: &Value) {
    let fields = [
        ("size", batch.size() as i64),
        ("base_offset", batch.base_offset().0),
        ("partition_leader_epoch", i64::from(batch.leader_epoch().0)),
        ("crc", i64::from(batch.crc())),
        ("attributes", i64::from(batch.attributes())),
        ("last_offset_delta", i64::from(batch.last_offset_delta())),
        ("base_timestamp", batch.base_timestamp()),
        ("max_timestamp", batch.max_timestamp()),
        ("producer_id", batch.producer_id().0),
        ("producer_epoch", i64::from(batch.producer_epoch().0)),
        ("base_sequence", i64::from(batch.base_sequence())),
        ("records_count", i64::from(batch.records_count())),
    ];
    for (name, value) in fields {
        assert_eq!(value, number(&expected[name]), "{case} {name}");
    }
    let derived = &expected["derived"];
    assert!(batch.crc_is_valid(), "{case}");
    assert_eq!(batch.last_offset().0, number(&derived["last_offset"]), "{case}");
    assert_eq!(batch.next_offset().0, number(&derived["next_offset"]), "{case}");
    assert_eq!(i64::from(batch.last_sequence()), number(&derived["last_sequence"]), "{case}");
    assert_eq!(batch.is_transactional(), derived["transactional"] == true, "{case}");
    assert_eq!(batch.is_control(), derived["control"] == true, "{case}");
    let appended = derived["timestamp_type"] == "LogAppendTime";
    assert_eq!(batch.is_log_append_time(), appended, "{case}");
    let codec = Codec::from_number(batch.codec()).expect("known");
    assert_eq!(codec.name(), derived["codec"], "{case}");
}

fn assert_records(batch: &Batch, expected: &Value, case: &Value) {
    let open = OpenBatch::open(batch, MAX_BYTES).expect("sound");
    if let Some(length) = expected["records_uncompressed_length"].as_u64() {
        assert_eq!(open.payload().len() as u64, length, "{case}");
    }
    if expected["records_uncompressed_hex"].is_string() {
        assert_eq!(open.payload(), &unhex(&expected["records_uncompressed_hex"]), "{case}");
    }
    let records: Vec<_> = open.records().map(|record| record.expect("sound")).collect();
    assert_eq!(records.len(), array(&expected["records"]).len(), "{case}");
    for (placed, expected) in records.iter().zip(array(&expected["records"])) {
        let record: Record<'_> = placed.record;
        assert_eq!(placed.offset.0, number(&expected["offset"]), "{case}");
        assert_eq!(placed.timestamp, number(&expected["timestamp"]), "{case}");
        assert_eq!(i64::from(record.attributes), number(&expected["attributes"]), "{case}");
        assert_eq!(record.timestamp_delta, number(&expected["timestamp_delta"]), "{case}");
        assert_eq!(i64::from(record.offset_delta), number(&expected["offset_delta"]), "{case}");
        assert_eq!(record.key, unhex_nullable(&expected["key"]).as_deref(), "{case}");
        match expected["value_length"].as_u64() {
            Some(length) => {
                assert_eq!(record.value.map(|value| value.len() as u64), Some(length), "{case}");
            }
            None => {
                assert_eq!(record.value, unhex_nullable(&expected["value"]).as_deref(), "{case}");
            }
        }
        let headers: Vec<_> = record.headers.iter().collect();
        assert_eq!(headers.len(), array(&expected["headers"]).len(), "{case}");
        for (header, expected) in headers.iter().zip(array(&expected["headers"])) {
            assert_eq!(String::from_utf8_lossy(header.key), text(&expected["key"]), "{case}");
            assert_eq!(header.value, unhex_nullable(&expected["value"]).as_deref(), "{case}");
        }
    }
}

fn rebuild(batch: &Batch) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None);
    if batch.producer_id().0 >= 0 {
        builder = builder.producer(Producer {
            id: batch.producer_id(),
            epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
        });
    }
    if batch.is_transactional() {
        builder = builder.transactional();
    }
    if batch.is_log_append_time() {
        builder = builder.append_time(batch.max_timestamp());
    }
    let open = OpenBatch::open(batch, MAX_BYTES).expect("sound");
    for placed in open.records() {
        let record = placed.expect("sound").record;
        let headers: Vec<NewHeader<'_>> =
            record.headers.iter().map(|header| (header.key, header.value)).collect();
        let timestamp = batch.base_timestamp() + record.timestamp_delta;
        builder.push(timestamp, record.key, record.value, &headers);
    }
    let mut again = builder.build();
    again.assign(batch.base_offset(), batch.leader_epoch());
    again
}

fn marker(batch: &Batch, expected: &Value) -> Batch {
    let control = &expected["records"][0]["control"];
    let result = if control["type"] == "COMMIT" {
        TransactionResult::Commit
    } else {
        TransactionResult::Abort
    };
    let mut again = transaction_marker(
        ProducerId(number(&expected["producer_id"])),
        ProducerEpoch(batch.producer_epoch().0),
        result,
        i32::try_from(number(&control["coordinator_epoch"])).expect("i32"),
        batch.max_timestamp(),
    );
    again.assign(batch.base_offset(), batch.leader_epoch());
    again
}

fn lines() -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(RECORDS).read_to_string(&mut text).expect("gzip");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn case(line: &Value) -> &str {
    line["case"].as_str().expect("a name")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

fn number(value: &Value) -> i64 {
    value.as_i64().expect("a number")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn unhex(value: &Value) -> Bytes {
    let hex = text(value).as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect::<Vec<u8>>().into()
}

fn unhex_nullable(value: &Value) -> Option<Bytes> {
    (!value.is_null()).then(|| unhex(value))
}
