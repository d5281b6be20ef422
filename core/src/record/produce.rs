//! What a broker asks of a produced batch before it is appended.
//!
//! The order of the checks is Kafka's, because the first one that fails decides the answer. A batch
//! of an ordinary topic stays closed: its header and its CRC are checked, its records are not looked
//! at. Only what a topic's configuration needs the records for opens them, and then everything
//! is checked as Kafka does.
//!
//! Never done here: sequences (the log knows them), authorization, offsets.
//!
//! Sources: Kafka's `ProduceRequest`, `UnifiedLog` and `LogValidator`; KIP-467 (record errors).

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::record::batch::{Batch, BatchError, HEADER_LEN, LENGTH_OVERHEAD};
use crate::record::compress::{Codec, CompressError, compress};
use crate::record::iterate::{OpenBatch, RecordError};
use crate::time::UnixMillis;

/// Most records named in one refusal; a batch with more bad ones is refused for these.
pub const RECORD_ERRORS_MAX: usize = 100;

/// Bytes up to and with the magic, below which trailing bytes are no batch.
const MAGIC_END: usize = 17;
/// Bytes of the smallest record: its length, attributes, two deltas, and no key, value or headers.
const RECORD_BYTES_MIN: usize = 7;
/// The smallest length field of a message of any version.
const LENGTH_MIN: i32 = 14;

/// Which time a topic's records carry (`message.timestamp.type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    /// The one that the producer gave them.
    #[default]
    CreateTime,
    /// The one at which they were appended.
    LogAppendTime,
}

/// What a topic's configuration says about produced batches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicRules {
    /// Most bytes of a batch (`max.message.bytes`).
    pub max_message_bytes: usize,
    /// Which time the records carry.
    pub timestamp_type: TimestampType,
    /// The codec that stored batches have, `None` to keep the producer's (`compression.type`).
    pub compression: Option<Codec>,
    /// How far back a record's time may lie, in milliseconds (`message.timestamp.before.max.ms`).
    pub before_max_ms: i64,
    /// How far ahead a record's time may lie, in milliseconds (`message.timestamp.after.max.ms`).
    pub after_max_ms: i64,
    /// Whether every record must have a key (`cleanup.policy=compact`).
    pub keys_required: bool,
    /// Whether records are looked at even if nothing else asks for it.
    pub open: bool,
    /// Most bytes of a batch's records uncompressed.
    pub decompressed_max_bytes: usize,
}

impl Default for TopicRules {
    fn default() -> Self {
        Self {
            max_message_bytes: (1 << 20) + 12,
            timestamp_type: TimestampType::CreateTime,
            compression: None,
            before_max_ms: i64::MAX,
            after_max_ms: 3_600_000,
            keys_required: false,
            open: false,
            decompressed_max_bytes: 128 << 20,
        }
    }
}

/// A record that is to blame for the refusal of its batch (KIP-467).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedRecord {
    /// Its index in the batch.
    pub index: i32,
    /// What is wrong with it.
    pub message: String,
}

/// Why a produced batch is not appended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The code to answer with.
    pub code: ErrorCode,
    /// What is wrong, for people.
    pub message: Cow<'static, str>,
    /// The records to blame, where single ones are; at most [`RECORD_ERRORS_MAX`].
    pub records: Vec<RefusedRecord>,
    /// Whether the request is wrong as such, whatever the topic asks for.
    pub is_malformed: bool,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), records: Vec::new(), is_malformed: false }
    }

    fn malformed(self) -> Self {
        Self { is_malformed: true, ..self }
    }

    pub(in crate::record) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRecord, message)
    }

    fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::CorruptMessage, message)
    }
}

/// Checks what a Produce request of `version` brings for one partition and returns the batch as it is
/// to be stored, still without its offset.
///
/// Bytes behind the batch that are too short for another one are ignored, as in Kafka.
///
/// # Errors
/// [`Refusal`] with `INVALID_RECORD` 87, `CORRUPT_MESSAGE` 2, `MESSAGE_TOO_LARGE` 10,
/// `INVALID_TIMESTAMP` 32 or `UNSUPPORTED_COMPRESSION_TYPE` 76.
pub fn check_produced(
    bytes: Bytes,
    version: i16,
    rules: &TopicRules,
    now: UnixMillis,
) -> Result<Batch, Refusal> {
    let mut batch = single_batch(bytes).map_err(Refusal::malformed)?;
    if batch.codec() == Codec::Zstd.number() && version < 7 {
        return Err(Refusal::new(
            ErrorCode::UnsupportedCompressionType,
            "zstd needs version 7 of the produce request",
        )
        .malformed());
    }
    if batch.base_offset().0 != 0 {
        return Err(Refusal::invalid("the base offset of a produced batch is not 0"));
    }
    check_size(&batch, rules)?;
    if !batch.crc_is_valid() {
        return Err(Refusal::corrupt("the record batch fails its CRC"));
    }
    check_header(&batch)?;
    let codec = Codec::from_number(batch.codec())
        .ok_or_else(|| Refusal::invalid(format!("there is no codec {}", batch.codec())))?;

    let recompress = rules.compression.filter(|&wanted| wanted != codec);
    if rules.open || rules.keys_required || recompress.is_some() {
        let open = OpenBatch::open(&batch, rules.decompressed_max_bytes).map_err(unreadable)?;
        let max_timestamp = check_records(&open, &batch, rules, now)?;
        if let Some(wanted) = recompress {
            let payload = compress(wanted, open.payload());
            batch = batch.recompressed(wanted.number(), payload.into());
            check_size(&batch, rules)?;
        }
        let is_wrong = batch.max_timestamp() != max_timestamp;
        if is_wrong && rules.timestamp_type == TimestampType::CreateTime {
            batch.set_max_timestamp(max_timestamp);
        }
    } else {
        check_header_timestamps(&batch, rules, now)?;
    }

    match rules.timestamp_type {
        TimestampType::LogAppendTime => batch.stamp_append_time(now.0),
        TimestampType::CreateTime if batch.is_log_append_time() => batch.clear_append_time(),
        TimestampType::CreateTime => {}
    }
    Ok(batch)
}

/// Takes the one batch of version 2 that a produce request may have for a partition.
fn single_batch(mut bytes: Bytes) -> Result<Batch, Refusal> {
    let magic = match peek(&bytes)? {
        Peeked::Batch { magic, .. } => magic,
        Peeked::Cut => return Err(Refusal::invalid("no whole record batch was sent")),
    };
    if magic != 2 {
        return Err(Refusal::invalid("message formats before version 2 are not taken (KIP-724)"));
    }
    let batch = Batch::split_from(&mut bytes).map_err(|error| match error {
        BatchError::Cut { .. } => Refusal::invalid("no whole record batch was sent"),
        BatchError::Length(_) | BatchError::Magic(_) => Refusal::corrupt(error.to_string()),
    })?;
    match peek(&bytes)? {
        Peeked::Batch { .. } => Err(Refusal::invalid("more than one record batch was sent")),
        Peeked::Cut => Ok(batch),
    }
}

enum Peeked {
    Batch { magic: i8 },
    Cut,
}

/// Looks at the front of `bytes` as Kafka's log input stream does, whatever the version of what is there.
fn peek(bytes: &[u8]) -> Result<Peeked, Refusal> {
    if bytes.len() < MAGIC_END {
        return Ok(Peeked::Cut);
    }
    let length = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if length < LENGTH_MIN {
        return Err(Refusal::corrupt(format!("a record batch announces {length} bytes")));
    }
    let magic = bytes[16] as i8;
    if !(0..=2).contains(&magic) {
        return Err(Refusal::corrupt(format!("a record batch has magic {magic}")));
    }
    let total = length as usize + LENGTH_OVERHEAD;
    if magic == 2 && total < HEADER_LEN {
        return Err(Refusal::corrupt(format!("a record batch announces {length} bytes")));
    }
    Ok(if bytes.len() < total { Peeked::Cut } else { Peeked::Batch { magic } })
}

fn check_size(batch: &Batch, rules: &TopicRules) -> Result<(), Refusal> {
    if batch.size() <= rules.max_message_bytes {
        return Ok(());
    }
    let (size, max) = (batch.size(), rules.max_message_bytes);
    Err(Refusal::new(
        ErrorCode::MessageTooLarge,
        format!("the record batch has {size} bytes, max.message.bytes is {max}"),
    ))
}

fn check_header(batch: &Batch) -> Result<(), Refusal> {
    let count = batch.records_count();
    if count <= 0 || i64::from(batch.last_offset_delta()) + 1 != i64::from(count) {
        let last = batch.last_offset_delta();
        return Err(Refusal::invalid(format!(
            "a batch with {count} records has the last offset delta {last}"
        )));
    }
    // A closed batch is not counted, but readers reserve by the count, and offsets are taken by it.
    if batch.codec() == Codec::None.number()
        && count as usize > batch.rest().len() / RECORD_BYTES_MIN
    {
        let bytes = batch.rest().len();
        return Err(Refusal::invalid(format!("{count} records cannot be in {bytes} bytes")));
    }
    if batch.is_control() {
        return Err(Refusal::invalid("clients may not write control batches"));
    }
    if batch.producer_id().0 >= 0 && batch.base_sequence() < 0 {
        return Err(Refusal::invalid("a batch with a producer id has no sequence"));
    }
    Ok(())
}

/// Judges the times of a batch that stays closed by what its header says.
fn check_header_timestamps(
    batch: &Batch,
    rules: &TopicRules,
    now: UnixMillis,
) -> Result<(), Refusal> {
    let bad = match rules.timestamp_type {
        TimestampType::LogAppendTime => batch.is_log_append_time(),
        TimestampType::CreateTime => {
            let claimed = [batch.base_timestamp(), batch.max_timestamp()];
            claimed.into_iter().any(|timestamp| is_out_of_range(timestamp, rules, now))
                || (batch.is_log_append_time() && batch.max_timestamp() == -1)
        }
    };
    if !bad {
        return Ok(());
    }
    // Refused in any case; opening it only finds the records to blame.
    match OpenBatch::open(batch, rules.decompressed_max_bytes) {
        Ok(open) => check_records(&open, batch, rules, now)?,
        Err(error) => return Err(unreadable(error)),
    };
    Err(invalid_timestamp())
}

fn invalid_timestamp() -> Refusal {
    Refusal::new(
        ErrorCode::InvalidTimestamp,
        "one or more records have been rejected due to an invalid timestamp",
    )
}

/// Looks at each record; returns the largest timestamp.
fn check_records(
    open: &OpenBatch,
    batch: &Batch,
    rules: &TopicRules,
    now: UnixMillis,
) -> Result<i64, Refusal> {
    let mut max_timestamp = -1;
    let mut blamed = Vec::new();
    let mut any_timestamp = false;
    for (index, placed) in open.records().enumerate() {
        let placed = placed.map_err(unreadable)?;
        max_timestamp = max_timestamp.max(placed.timestamp);
        let message = if rules.keys_required && placed.record.key.is_none() {
            "a compacted topic takes no record without a key".to_owned()
        } else if let Some(message) = blame_timestamp(placed.timestamp, batch, rules, now) {
            any_timestamp = true;
            message
        } else {
            continue;
        };
        if blamed.len() < RECORD_ERRORS_MAX {
            blamed.push(RefusedRecord { index: index as i32, message });
        }
    }
    if blamed.is_empty() {
        return Ok(max_timestamp);
    }
    let refusal = if any_timestamp {
        invalid_timestamp()
    } else {
        Refusal::invalid("one or more records have been rejected")
    };
    Err(Refusal { records: blamed, ..refusal })
}

fn blame_timestamp(
    timestamp: i64,
    batch: &Batch,
    rules: &TopicRules,
    now: UnixMillis,
) -> Option<String> {
    if rules.timestamp_type == TimestampType::CreateTime && timestamp != -1 {
        return is_out_of_range(timestamp, rules, now).then(|| {
            let earliest = now.0.saturating_sub(rules.before_max_ms);
            let latest = now.0.saturating_add(rules.after_max_ms);
            format!("timestamp {timestamp} is not within [{earliest}, {latest}]")
        });
    }
    batch
        .is_log_append_time()
        .then(|| "a producer may not set the timestamp type to LogAppendTime".to_owned())
}

const fn is_out_of_range(timestamp: i64, rules: &TopicRules, now: UnixMillis) -> bool {
    timestamp != -1
        && (now.0.saturating_sub(timestamp) > rules.before_max_ms
            || timestamp.saturating_sub(now.0) > rules.after_max_ms)
}

/// Nothing that can be said about records is cured by sending the same bytes again, so the code is
/// never the retriable `CORRUPT_MESSAGE`.
pub(in crate::record) fn unreadable(error: RecordError) -> Refusal {
    let code = match error {
        RecordError::Compress(CompressError::TooLarge(_)) => ErrorCode::MessageTooLarge,
        RecordError::Varint
        | RecordError::Cut
        | RecordError::Negative
        | RecordError::Length
        | RecordError::Trailing
        | RecordError::Codec(_)
        | RecordError::Compress(CompressError::Damaged(_)) => ErrorCode::InvalidRecord,
    };
    Refusal::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
    use crate::record::builder::{BatchBuilder, Producer, TransactionResult, transaction_marker};

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn batch(codec: Codec, timestamps: &[i64]) -> Bytes {
        let mut builder = BatchBuilder::new(codec);
        for &timestamp in timestamps {
            builder.push(timestamp, Some(b"key"), Some(&[b'v'; 100]), &[]);
        }
        builder.build().to_bytes()
    }

    fn check(bytes: Bytes, rules: &TopicRules) -> Result<Batch, ErrorCode> {
        check_produced(bytes, 9, rules, NOW).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_closed_batch_keeps_the_payload_it_arrived_with() {
        let bytes = batch(Codec::None, &[NOW.0, NOW.0]);
        let stored = check(bytes.clone(), &TopicRules::default()).expect("sound");
        assert_eq!(stored.rest().as_ptr(), bytes[HEADER_LEN..].as_ptr(), "not copied");
        assert_eq!(stored.to_bytes(), bytes);
    }

    #[test]
    fn a_batch_of_exactly_the_limit_is_taken_and_one_byte_more_is_too_large() {
        let bytes = batch(Codec::None, &[NOW.0]);
        let rules = TopicRules { max_message_bytes: bytes.len(), ..TopicRules::default() };
        assert!(check(bytes.clone(), &rules).is_ok());
        let rules = TopicRules { max_message_bytes: bytes.len() - 1, ..rules };
        assert_eq!(check(bytes, &rules).err(), Some(ErrorCode::MessageTooLarge));
    }

    #[test]
    fn size_is_judged_before_the_crc_and_the_base_offset_before_both() {
        let mut bytes = batch(Codec::None, &[NOW.0]).to_vec();
        bytes[20] ^= 1;
        let small = TopicRules { max_message_bytes: 10, ..TopicRules::default() };
        let code =
            |bytes: &[u8], rules: &TopicRules| check(Bytes::copy_from_slice(bytes), rules).err();
        assert_eq!(code(&bytes, &TopicRules::default()), Some(ErrorCode::CorruptMessage));
        assert_eq!(code(&bytes, &small), Some(ErrorCode::MessageTooLarge));
        bytes[7] = 1;
        assert_eq!(code(&bytes, &small), Some(ErrorCode::InvalidRecord));
    }

    #[test]
    fn short_bytes_behind_the_batch_are_ignored_and_a_second_batch_is_not() {
        let one = batch(Codec::None, &[NOW.0]);
        for (behind, expected) in [
            (&one[..16], None),
            (&one[..one.len() - 1], None),
            (&one[..], Some(ErrorCode::InvalidRecord)),
            (&[0; 17][..], Some(ErrorCode::CorruptMessage)),
        ] {
            let both = Bytes::from([&one[..], behind].concat());
            assert_eq!(check(both, &TopicRules::default()).err(), expected, "{}", behind.len());
        }
    }

    #[test]
    fn zstd_needs_version_7() {
        let bytes = batch(Codec::Zstd, &[NOW.0]);
        let rules = TopicRules::default();
        let code = check_produced(bytes.clone(), 6, &rules, NOW).map_err(|refusal| refusal.code);
        assert_eq!(code.err(), Some(ErrorCode::UnsupportedCompressionType));
        assert!(check_produced(bytes, 7, &rules, NOW).is_ok());
    }

    #[test]
    fn a_marker_from_a_client_is_refused() {
        let marker = transaction_marker(
            ProducerId(1),
            ProducerEpoch(0),
            TransactionResult::Commit,
            0,
            NOW.0,
        );
        let code = check(marker.to_bytes(), &TopicRules::default()).err();
        assert_eq!(code, Some(ErrorCode::InvalidRecord));
    }

    #[test]
    fn a_producer_id_without_a_sequence_is_refused() {
        let mut builder = BatchBuilder::new(Codec::None).producer(Producer {
            id: ProducerId(7),
            epoch: ProducerEpoch(0),
            base_sequence: -1,
        });
        builder.push(NOW.0, None, None, &[]);
        let code = check(builder.build().to_bytes(), &TopicRules::default()).err();
        assert_eq!(code, Some(ErrorCode::InvalidRecord));
    }

    #[test]
    fn times_out_of_range_are_refused_with_the_records_to_blame() {
        let rules = TopicRules { before_max_ms: 100, after_max_ms: 100, ..TopicRules::default() };
        for codec in Codec::ALL {
            for open in [false, true] {
                let rules = TopicRules { open, ..rules.clone() };
                let inside = batch(codec, &[NOW.0 - 100, -1, NOW.0 + 100]);
                assert!(check(inside, &rules).is_ok());
                let outside = batch(codec, &[NOW.0 - 101, NOW.0, NOW.0 + 101]);
                let refusal = check_produced(outside, 9, &rules, NOW).expect_err("out of range");
                let blamed: Vec<i32> = refusal.records.iter().map(|record| record.index).collect();
                assert_eq!((refusal.code, blamed), (ErrorCode::InvalidTimestamp, vec![0, 2]));
            }
        }
    }

    #[test]
    fn a_closed_batch_is_judged_by_its_header_and_an_open_one_by_its_records() {
        let mut lying = batch(Codec::None, &[NOW.0]).to_vec();
        lying[35..43].copy_from_slice(&(NOW.0 + 86_400_000).to_be_bytes());
        let mut batch = Batch::split_from(&mut Bytes::from(lying)).expect("whole");
        batch.set_max_timestamp(NOW.0 + 86_400_000);
        let rules = TopicRules::default();
        let code = check(batch.to_bytes(), &rules).err();
        assert_eq!(code, Some(ErrorCode::InvalidTimestamp));
        let rules = TopicRules { open: true, ..rules };
        let stored = check(batch.to_bytes(), &rules).expect("its records are sound");
        assert_eq!(stored.max_timestamp(), NOW.0);
        assert!(stored.crc_is_valid());
    }

    #[test]
    fn a_closed_batch_has_no_more_records_than_its_bytes_could_hold() {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..3 {
            builder.push(NOW.0, None, None, &[]);
        }
        let honest = builder.build();
        assert_eq!(honest.rest().len(), 3 * RECORD_BYTES_MIN, "these are the smallest records");
        let claims = |count: i32| {
            let mut bytes = honest.to_bytes().to_vec();
            bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            check(bytes.into(), &TopicRules::default()).err()
        };
        assert_eq!(claims(3), None);
        assert_eq!(claims(4), Some(ErrorCode::InvalidRecord));
        assert_eq!(claims(i32::MAX), Some(ErrorCode::InvalidRecord));
    }

    #[test]
    fn the_append_time_is_stamped_where_the_topic_wants_it() {
        let rules =
            TopicRules { timestamp_type: TimestampType::LogAppendTime, ..TopicRules::default() };
        let stored = check(batch(Codec::None, &[5]), &rules).expect("sound");
        assert!(stored.is_log_append_time() && stored.crc_is_valid());
        assert_eq!(stored.max_timestamp(), NOW.0);
    }

    #[test]
    fn a_batch_is_recompressed_where_the_topic_names_a_codec() {
        for wanted in Codec::ALL {
            for given in Codec::ALL {
                let rules = TopicRules { compression: Some(wanted), ..TopicRules::default() };
                let bytes = batch(given, &[NOW.0, NOW.0 + 1]);
                let stored = check(bytes.clone(), &rules).expect("sound");
                assert_eq!(stored.codec(), wanted.number());
                assert!(stored.crc_is_valid());
                let original = Batch::split_from(&mut bytes.clone()).expect("whole");
                let open = |batch| OpenBatch::open(batch, 10_000).expect("sound");
                assert_eq!(open(&stored).payload(), open(&original).payload());
                assert_eq!(given == wanted, stored.to_bytes() == bytes);
            }
        }
    }

    #[test]
    fn a_bomb_is_too_large_where_it_must_be_opened() {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        builder.push(NOW.0, None, Some(&vec![0; 1 << 20]), &[]);
        let bytes = builder.build().to_bytes();
        let rules =
            TopicRules { open: true, decompressed_max_bytes: 1 << 20, ..TopicRules::default() };
        assert_eq!(check(bytes, &rules).err(), Some(ErrorCode::MessageTooLarge));
    }

    #[test]
    fn no_more_records_are_blamed_than_the_bound() {
        let rules = TopicRules { after_max_ms: 0, open: true, ..TopicRules::default() };
        let refusal = check_produced(batch(Codec::None, &[NOW.0 + 1; 500]), 9, &rules, NOW)
            .expect_err("out of range");
        assert_eq!(refusal.records.len(), RECORD_ERRORS_MAX);
    }

    #[test]
    fn a_checked_batch_may_be_given_its_place() {
        let mut stored =
            check(batch(Codec::None, &[NOW.0]), &TopicRules::default()).expect("sound");
        stored.assign(Offset(9), LeaderEpoch(1));
        assert!(stored.crc_is_valid());
    }
}
