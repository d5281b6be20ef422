//! The fuzz bodies over a small corpus: Kafka's batches, and files of ours, whole and damaged.
//!
//! The damage is the same in every run.

use std::io::Read;

use mainspring_core::ids::{LeaderEpoch, Offset};
use mainspring_core::log::leader_epoch::LeaderEpochs;
use mainspring_core::log::offset_index::OffsetIndex;
use mainspring_core::log::producer_state::ProducerStates;
use mainspring_core::log::time_index::TimeIndex;
use mainspring_core::record::batch::{Batch, HEADER_LEN};
use mainspring_core::record::fuzz;
use mainspring_core::time::Instant;
use serde_json::Value;

const RECORDS: &[u8] = include_bytes!("data/records/records.jsonl.gz");
/// Longer inputs of the corpus are left out: they would only repeat their damage slowly.
const LEN_MAX: usize = 2_000;
const DAMAGED_EACH: u64 = 60;

#[test]
fn produced_bytes() {
    for bytes in batches() {
        damaged(&bytes, fuzz::produced);
        // With a right CRC, so that the damage is seen behind it.
        damaged(&bytes, |bytes| fuzz::produced(&resealed(bytes)));
    }
}

#[test]
fn batches_of_a_log() {
    for bytes in batches() {
        damaged(&bytes, fuzz::batches);
    }
}

#[test]
fn records_and_compressed_streams() {
    for bytes in batches().iter().filter(|bytes| bytes.len() > HEADER_LEN) {
        damaged(&bytes[HEADER_LEN - 4..], fuzz::records);
        let mut stream = vec![bytes[22] & 7];
        stream.extend_from_slice(&bytes[HEADER_LEN..]);
        damaged(&stream, fuzz::compressed);
    }
}

#[test]
fn files_of_a_log() {
    for file in files() {
        fuzz::log_files(&file);
        damaged(&file, fuzz::log_files);
    }
}

/// Calls `body` with the bytes as they are, then cut, then with some bytes changed.
fn damaged(bytes: &[u8], body: impl Fn(&[u8])) {
    body(bytes);
    let mut random = Random(bytes.len() as u64);
    for _ in 0..DAMAGED_EACH {
        let mut bytes = bytes.to_vec();
        if random.below(4) == 0 {
            bytes.truncate(random.below(bytes.len() + 1));
        }
        for _ in 0..random.below(4) {
            if !bytes.is_empty() {
                let at = random.below(bytes.len());
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, random.next() as u8][random.below(6)];
            }
        }
        body(&bytes);
    }
}

fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if let Ok(batch) = Batch::split_from(&mut out.clone().into()) {
        out[17..21].copy_from_slice(&batch.compute_crc().to_be_bytes());
    }
    out
}

fn batches() -> Vec<Vec<u8>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(RECORDS).read_to_string(&mut text).expect("gzip");
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|line| {
            let hex = line["hex"].as_str().expect("hex").as_bytes();
            hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect::<Vec<u8>>()
        })
        .filter(|bytes| bytes.len() <= LEN_MAX)
        .collect()
}

fn files() -> Vec<Vec<u8>> {
    let mut offsets = OffsetIndex::new(Offset(5), 100);
    let mut times = TimeIndex::new(Offset(5));
    let mut epochs = LeaderEpochs::new();
    let mut states = ProducerStates::new();
    let mut base = Offset(5);
    for bytes in batches().into_iter().filter(|bytes| bytes.len() > HEADER_LEN) {
        let Ok(mut batch) = Batch::split_from(&mut bytes.into()) else { continue };
        if batch.last_offset_delta() != batch.records_count() - 1 {
            continue;
        }
        batch.assign(base, LeaderEpoch(i32::try_from(base.0 / 10).expect("small")));
        offsets.note_batch(base, 100 * base.0 as u64, 101);
        times.note_batch(base.0, batch.last_offset());
        times.add_entry();
        epochs.assign(batch.leader_epoch(), base).expect("both rise");
        states.update(Instant::ZERO, &batch, 1_000, 100);
        base = batch.next_offset();
    }
    assert!(!offsets.is_empty() && !times.is_empty() && !epochs.is_empty() && !states.is_empty());
    vec![
        offsets.encode(),
        times.encode(),
        epochs.encode_checkpoint().into_bytes(),
        states.encode_snapshot(),
        states.encode_sidecar(),
    ]
}

/// A small generator (splitmix64), so that each run does the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
