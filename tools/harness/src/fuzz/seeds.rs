//! The inputs that fuzzing starts from: kept ones, and the golden bytes of the tests.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mainspring_core::ids::{LeaderEpoch, Offset};
use mainspring_core::log::leader_epoch::LeaderEpochs;
use mainspring_core::log::offset_index::OffsetIndex;
use mainspring_core::log::producer_state::ProducerStates;
use mainspring_core::log::time_index::TimeIndex;
use mainspring_core::record::batch::{Batch, HEADER_LEN};
use mainspring_core::record::builder::BatchBuilder;
use mainspring_core::record::compress::Codec;
use mainspring_core::record::headers;
use mainspring_core::time::Instant;
use serde_json::Value;

/// Longer ones are left out: they would only repeat their damage slowly.
const LEN_MAX: usize = 4_000;

/// What a compressed file begins with.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

fn core() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../core")
}

/// Returns the inputs that are kept for a target.
pub(crate) fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = core().join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
    files.sort();
    files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
}

/// Returns the lines of a file of golden data, compressed or not.
fn lines(file: &str) -> Vec<Value> {
    let bytes = std::fs::read(core().join("tests/data").join(file)).unwrap_or_default();
    let mut text = String::new();
    let read = if bytes.starts_with(&GZIP_MAGIC) {
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text)
    } else {
        bytes.as_slice().read_to_string(&mut text)
    };
    if read.is_err() {
        return Vec::new();
    }
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn hex(value: &Value) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = value.as_str()?.as_bytes().chunks_exact(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Returns whole frames of Kafka's, sizes included.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let frames = lines("golden/frames.jsonl.gz");
    frames.iter().filter_map(|line| hex(&line["frame_hex"])).collect()
}

/// Returns requests of every API and version: a header, then Kafka's body.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let mut requests = kept("wire_request");
    for line in lines("golden/messages.jsonl.gz") {
        let (Some("request"), Some(body)) = (line["kind"].as_str(), hex(&line["body_hex"])) else {
            continue;
        };
        let mut request = head(&line);
        request.extend_from_slice(&[0, 0, 0, 7, 0, 1, b'c']);
        if line["header_version"] == 2 {
            request.push(0);
        }
        request.extend_from_slice(&body);
        requests.push(request);
    }
    bounded(requests)
}

/// Returns answers of every API and version: key, version, then Kafka's body.
pub(crate) fn responses() -> Vec<Vec<u8>> {
    let mut responses = kept("wire_response");
    for line in lines("golden/messages.jsonl.gz") {
        if let (Some("response"), Some(body)) = (line["kind"].as_str(), hex(&line["body_hex"])) {
            let mut response = head(&line);
            response.extend_from_slice(&body);
            responses.push(response);
        }
    }
    bounded(responses)
}

/// Key and version of a golden message.
fn head(line: &Value) -> Vec<u8> {
    let number = |name: &str| line[name].as_i64().and_then(|n| i16::try_from(n).ok());
    let key = number("key").unwrap_or_default().to_be_bytes();
    let version = number("version").unwrap_or_default().to_be_bytes();
    [key, version].concat()
}

fn bounded(mut inputs: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    inputs.retain(|input| input.len() <= LEN_MAX);
    inputs
}

/// Returns subscriptions and assignments of Kafka's consumers.
pub(crate) fn consumer_protocol() -> Vec<Vec<u8>> {
    let lines = lines("golden/consumer_protocol.jsonl");
    lines.iter().filter_map(|line| hex(&line["hex"])).collect()
}

/// Returns keys and values of Kafka's group coordinator, by twos of one kind of record.
fn group_parts() -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = lines("golden/group_records.jsonl");
    let of = |record: &str, part: &str| -> Vec<Vec<u8>> {
        let wanted = lines.iter().filter(|line| line["record"] == record && line["part"] == part);
        wanted.filter_map(|line| hex(&line["hex"])).collect()
    };
    let mut pairs = Vec::new();
    for record in ["OffsetCommit", "GroupMetadata"] {
        let keys = of(record, "key");
        for (index, value) in of(record, "value").into_iter().enumerate() {
            let Some(key) = keys.get(index % keys.len().max(1)) else { continue };
            pairs.push((key.clone(), value));
        }
    }
    pairs
}

fn with_length(part: &[u8]) -> Vec<u8> {
    let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), part].concat()
}

/// Returns records of Kafka's group coordinator.
pub(crate) fn group_records() -> Vec<Vec<u8>> {
    let pairs = group_parts();
    bounded(pairs.iter().map(|(key, value)| [with_length(key), value.clone()].concat()).collect())
}

/// Returns logs of such records, of one and of all together.
pub(crate) fn group_logs() -> Vec<Vec<u8>> {
    let record =
        |(key, value): &(Vec<u8>, Vec<u8>)| [with_length(key), with_length(value)].concat();
    let mut logs: Vec<Vec<u8>> = group_parts().iter().map(record).collect();
    logs.extend(logs.chunks(8).map(<[Vec<u8>]>::concat).collect::<Vec<_>>());
    bounded(logs)
}

/// Returns logs of Kafka's transaction coordinator, of one record and of several.
pub(crate) fn transaction_logs() -> Vec<Vec<u8>> {
    let lines = lines("golden/transaction_records.jsonl");
    let records = lines.iter().filter_map(|line| {
        let (key, value) = (hex(&line["key_hex"])?, hex(&line["value_hex"]));
        Some([with_length(&key), with_length(&value.unwrap_or_default())].concat())
    });
    let mut logs: Vec<Vec<u8>> = records.collect();
    logs.extend(logs.chunks(6).map(<[Vec<u8>]>::concat).collect::<Vec<_>>());
    bounded(logs)
}

/// Returns Kafka's batches, good and bad.
pub(crate) fn batches() -> Vec<Vec<u8>> {
    let lines = lines("records/records.jsonl.gz");
    bounded(lines.iter().filter_map(|line| hex(&line["hex"])).collect())
}

/// Returns batches whose records ask for what features of a topic do, behind a byte for those that are on.
pub(crate) fn wishes() -> Vec<Vec<u8>> {
    let pairs: [&[(&[u8], &[u8])]; 9] = [
        &[],
        &[(headers::DELAY_MS, b"5000"), (headers::ID, b"order-1")],
        &[(headers::DELIVER_AT, b"1800000000000")],
        &[(headers::CRON, b"0 30 2 * * MON-FRI"), (headers::CRON_TIMEZONE, b"Europe/Berlin")],
        &[(headers::HALF, b"orders"), (headers::ID, b"o-1"), (headers::CHECK_AFTER_MS, b"10")],
        &[(headers::OP, b"cancel"), (headers::TICKET, b"77")],
        &[(headers::OP, b"reschedule"), (headers::ID, b"order-1"), (headers::DELAY_MS, b"1")],
        &[(headers::OP, b"commit"), (headers::ID, b"o-1")],
        &[(headers::DEDUP_ID, b"payment-9")],
    ];
    let build = |codec, wishes: &[&[(&[u8], &[u8])]]| {
        let mut builder = BatchBuilder::new(codec);
        for pairs in wishes {
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                pairs.iter().map(|(name, value)| (*name, Some(*value))).collect();
            builder.push(1_770_000_000_000, Some(b"key"), Some(b"value"), &headers);
        }
        builder.build().to_bytes()
    };
    let mut seeds = Vec::new();
    for codec in [Codec::None, Codec::Lz4] {
        for which in [7_u8, 31] {
            seeds.push([&[which], &build(codec, &pairs)[..]].concat());
            seeds.extend(pairs.iter().map(|one| [&[which], &build(codec, &[*one])[..]].concat()));
        }
    }
    seeds
}

/// Returns cron expressions, behind a moment and a time zone.
pub(crate) fn crons() -> Vec<Vec<u8>> {
    let moment = 1_774_744_200_000_i64.to_be_bytes();
    let zones =
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"];
    let expressions = [
        "0 30 2 * * *",
        "*/7 10-50/3 * ? JAN,Jul mon-FRI",
        "0 0 0 L * ?",
        "0 0 12 29 2 *",
        "5/10 0 1,2,3 31 * 7",
        "@every 1500",
        "@monthly",
    ];
    let pairs = zones.iter().flat_map(|zone| expressions.iter().map(move |it| (zone, it)));
    pairs.map(|(zone, it)| [&moment[..], format!("{zone}\n{it}").as_bytes()].concat()).collect()
}

/// Returns what follows the header of a batch, behind the number of records.
pub(crate) fn records() -> Vec<Vec<u8>> {
    let batches = batches();
    let long = batches.iter().filter(|bytes| bytes.len() > HEADER_LEN);
    long.map(|bytes| bytes[HEADER_LEN - 4..].to_vec()).collect()
}

/// Returns what follows the header of a batch, behind its codec.
pub(crate) fn compressed() -> Vec<Vec<u8>> {
    let batches = batches();
    let long = batches.iter().filter(|bytes| bytes.len() > HEADER_LEN);
    long.map(|bytes| [&[bytes[22] & 7], &bytes[HEADER_LEN..]].concat()).collect()
}

/// Returns indexes, epochs and producer states as a log writes them.
pub(crate) fn log_files() -> Vec<Vec<u8>> {
    let mut offsets = OffsetIndex::new(Offset(5), 100);
    let mut times = TimeIndex::new(Offset(5));
    let mut epochs = LeaderEpochs::new();
    let mut states = ProducerStates::new();
    let mut base = Offset(5);
    for bytes in batches().into_iter().filter(|bytes| bytes.len() > HEADER_LEN) {
        let Ok(mut batch) = Batch::split_from(&mut Bytes::from(bytes)) else { continue };
        if batch.last_offset_delta() != batch.records_count() - 1 {
            continue;
        }
        batch.assign(base, LeaderEpoch((base.0 / 10) as i32));
        offsets.note_batch(base, 100 * base.0 as u64, 101);
        times.note_batch(base.0, batch.last_offset());
        times.add_entry();
        if epochs.assign(batch.leader_epoch(), base).is_err() {
            continue;
        }
        states.update(Instant::ZERO, &batch, 1_000, 100);
        base = batch.next_offset();
    }
    vec![
        offsets.encode(),
        times.encode(),
        epochs.encode_checkpoint().into_bytes(),
        states.encode_snapshot(),
        states.encode_sidecar(),
    ]
}
