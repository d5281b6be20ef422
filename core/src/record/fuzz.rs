//! Bodies of fuzz targets for everything that reads batches and the small files of a log.
//!
//! Each takes arbitrary bytes and asserts what must hold whatever they are; libFuzzer wrappers and an
//! ordinary test over a kept corpus call the same functions.

use bytes::Bytes;

use crate::ids::{LeaderEpoch, Offset};
use crate::log::leader_epoch::LeaderEpochs;
use crate::log::offset_index::{OffsetIndex, SegmentExtent};
use crate::log::producer_state::ProducerStates;
use crate::log::time_index::TimeIndex;
use crate::record::batch::Batch;
use crate::record::compress::{Codec, decompress};
use crate::record::cron::{Cron, DUE_MS_MAX};
use crate::record::features::{Action, Features};
use crate::record::hidden::Hidden;
use crate::record::iterate::{OpenBatch, Records};
use crate::record::keep::{Stored, stored, trimmed};
use crate::record::produce::{TimestampType, TopicRules, check_produced};
use crate::time::{Instant, UnixMillis};

const MAX_BYTES: usize = 1 << 16;
const NOW: UnixMillis = UnixMillis(1_770_000_000_000);

/// A Produce request's bytes for one partition: what is taken is sound, and would be taken again.
///
/// # Panics
/// Where that does not hold.
pub fn produced(bytes: &[u8]) {
    for version in [3, 9] {
        for open in [false, true] {
            for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
                let rules = TopicRules {
                    open,
                    timestamp_type,
                    decompressed_max_bytes: MAX_BYTES,
                    ..TopicRules::default()
                };
                let Ok(batch) = check_produced(Bytes::copy_from_slice(bytes), version, &rules, NOW)
                else {
                    continue;
                };
                assert!(batch.crc_is_valid() && batch.records_count() > 0);
                if open {
                    let records = OpenBatch::open(&batch, MAX_BYTES).expect("it was opened before");
                    assert!(records.records().all(|record| record.is_ok()));
                }
                // Under the append time's bit, which is cleared, each record has the batch's time; as
                // in Kafka its largest time is read with the bit, and would be read anew without.
                let has_append_time = bytes.get(22).is_some_and(|attributes| attributes & 8 != 0);
                if timestamp_type == TimestampType::CreateTime && !has_append_time {
                    let again = check_produced(batch.to_bytes(), version, &rules, NOW);
                    assert_eq!(again.expect("taken before").to_bytes(), batch.to_bytes());
                }
            }
        }
    }
}

/// A Produce request's bytes for a partition with features, after a byte that says which: what is taken has a wish for
/// each record, and what is kept of it is read at its place.
///
/// # Panics
/// Where that does not hold.
pub fn wishes(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let features = Features {
        schedule: which & 1 != 0,
        half: which & 2 != 0,
        dedup: which & 4 != 0,
        dedup_by_key: which & 8 != 0,
        default_delay_ms: i64::from(which & 16),
    };
    let mut sealed = bytes.to_vec();
    let Ok(batch) = Batch::split_from(&mut Bytes::copy_from_slice(bytes)) else { return };
    sealed[17..21].copy_from_slice(&batch.compute_crc().to_be_bytes());
    let rules = TopicRules { decompressed_max_bytes: MAX_BYTES, ..TopicRules::default() };
    let Ok(batch) = check_produced(sealed.into(), 9, &rules, NOW) else { return };
    let Ok(Some((wishes, open))) = features.wishes(&batch, NOW.0, MAX_BYTES) else { return };
    assert_eq!(wishes.len(), batch.records_count() as usize);
    let keep: Vec<bool> = wishes.iter().map(|wish| wish.action == Action::Store).collect();
    let kept = keep.iter().filter(|keep| **keep).count();
    match stored(&batch, &keep, &open) {
        Stored::Whole(whole) => assert!(kept == keep.len() && whole.crc() == batch.crc()),
        Stored::Void(void) => assert!(kept == 0 && Hidden::of(&void) == Some(Hidden::Void)),
        Stored::Partial(partial) => {
            let served = trimmed(&partial);
            assert!(partial.crc_is_valid() && served.crc_is_valid());
            let open = OpenBatch::open(&served, MAX_BYTES).expect("it is not compressed");
            let read: Vec<_> =
                open.records().map(|record| record.expect("it was read before")).collect();
            assert_eq!(read.len(), kept);
            assert_eq!(read.last().map(|record| record.offset), Some(served.last_offset()));
        }
    }
}

/// A moment in eight bytes, and a line with the name of a time zone before a cron expression: occurrences come one after
/// the other, and never none where the expression was taken.
///
/// # Panics
/// Where that does not hold.
pub fn cron(bytes: &[u8]) {
    let Some((after, text)) = bytes.split_first_chunk::<8>() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Some((zone, expression)) = text.split_once('\n') else { return };
    let Ok(cron) = Cron::parse(expression, zone) else { return };
    assert!(cron.next(NOW.0).is_some(), "it was taken and never comes");
    let mut after = i64::from_be_bytes(*after);
    for _ in 0..10 {
        let Some(next) = cron.next(after) else { break };
        assert!(next > after && next <= DUE_MS_MAX);
        after = next;
    }
}

/// A log's bytes, batch after batch: framing and header never panic and never read beyond the bytes.
///
/// # Panics
/// Where that does not hold.
pub fn batches(bytes: &[u8]) {
    let mut rest = Bytes::copy_from_slice(bytes);
    while let Ok(mut batch) = Batch::split_from(&mut rest) {
        assert!(batch.size() <= bytes.len());
        let _ = (batch.next_offset(), batch.last_sequence(), batch.crc_is_valid());
        if let Ok(open) = OpenBatch::open(&batch, MAX_BYTES) {
            let _ = open.records().filter_map(Result::ok).count();
        }
        let mut states = ProducerStates::new();
        if states.check(Instant::ZERO, &batch).is_ok() {
            states.update(Instant::ZERO, &batch, 0, 10);
        }
        batch.assign(Offset(7), LeaderEpoch(1));
    }
}

/// Uncompressed records, after four bytes that claim their number.
///
/// # Panics
/// Where the iteration gives more records than there are bytes, or goes on after an error.
pub fn records(bytes: &[u8]) {
    let Some((count, payload)) = bytes.split_first_chunk::<4>() else { return };
    let mut given = 0;
    let mut failed = false;
    for record in Records::new(payload, i32::from_be_bytes(*count)) {
        assert!(!failed, "it goes on after an error");
        match record {
            Ok(record) => {
                given += 1;
                assert_eq!(record.headers.iter().count(), record.headers.len());
            }
            Err(_) => failed = true,
        }
    }
    assert!(given <= payload.len());
}

/// A compressed stream, after one byte that chooses the codec: output stays within its limit.
///
/// # Panics
/// Where it does not.
pub fn compressed(bytes: &[u8]) {
    let Some((number, payload)) = bytes.split_first() else { return };
    let Some(codec) = Codec::from_number(number % 5) else { return };
    for max_bytes in [0, 100, MAX_BYTES] {
        if let Ok(out) = decompress(codec, payload, max_bytes) {
            assert!(out.len() <= max_bytes);
        }
    }
}

/// An index, an epoch checkpoint or a file of producer states: what is believed survives being written.
///
/// # Panics
/// Where it does not.
pub fn log_files(bytes: &[u8]) {
    let extent = SegmentExtent { end_offset: Offset(1 << 33), bytes: 1 << 33, max_gap: 1 << 33 };
    if let Some(index) = OffsetIndex::decode(bytes, Offset(5), 4_096, &extent) {
        assert_eq!(index.encode(), bytes);
    }
    if let Some(index) = TimeIndex::decode(bytes, Offset(5), Offset(1 << 33)) {
        assert_eq!(index.encode(), bytes);
    }
    if let Ok(epochs) = LeaderEpochs::decode_checkpoint(bytes) {
        let written = epochs.encode_checkpoint();
        assert_eq!(LeaderEpochs::decode_checkpoint(written.as_bytes()), Ok(epochs));
    }
    if let Ok(states) = ProducerStates::decode_snapshot(bytes, Instant::ZERO) {
        let written = states.encode_snapshot();
        assert_eq!(ProducerStates::decode_snapshot(&written, Instant::ZERO), Ok(states));
    }
    if let Ok(states) = ProducerStates::decode_sidecar(bytes, Instant::ZERO) {
        let written = states.encode_sidecar();
        assert_eq!(ProducerStates::decode_sidecar(&written, Instant::ZERO), Ok(states));
    }
}
