//! Records of `__transaction_state`: how each transactional id stands.
//!
//! A key is the number of its kind and then the body; a value is its version and then the body. A record
//! without a value takes the transactional id away. Kafka's dump tool reads what is written here; both
//! versions that Kafka 4.3 reads are read.
//!
//! Source: the record schemas of Apache Kafka's transaction coordinator; KIP-98, 890 (value version 1).

use bytes::Bytes;

use super::error::{DecodeError, DecodeErrorKind};
use super::group_record::{prefixed, versioned, whole};
use super::reader::Reader;
use super::string::KafkaString;

/// The one kind of key.
const TRANSACTION_LOG: i16 = 0;
/// The version of the values that are written, with tagged fields.
const VALUE_VERSION: i16 = 1;

messages! {
    /// Names a transactional id.
    TransactionLogKey versions [0] flexible [never] {
        transactional_id [0+]: KafkaString;
    }
    /// How a transactional id stands. Times are milliseconds, since 1970 where they are moments.
    TransactionLogValue versions [0-1] flexible [1] {
        producer_id [0+]: i64;
        producer_epoch [0+]: i16;
        transaction_timeout_ms [0+]: i32;
        /// A [`TransactionStatus`].
        transaction_status [0+]: i8;
        transaction_partitions [0+] null [0+]: Option<Vec<TransactionLogPartitions>>;
        transaction_last_update_timestamp_ms [0+]: i64;
        /// -1 for none.
        transaction_start_timestamp_ms [0+]: i64;
        /// The producer id of the state before this one, -1 for none.
        previous_producer_id [1+] tag 0: i64 = -1;
        /// The producer id that the producer goes on with once this transaction is complete; -1 where it
        /// keeps its own.
        next_producer_id [1+] tag 1: i64 = -1;
        /// Which protocol of transactions the producer spoke last; 2 for KIP-890.
        client_transaction_version [1+] tag 2: i16;
        /// Of distributed transactions (KIP-939).
        next_producer_epoch [1+] tag 3: i16 = -1;
        /// The epoch that was raised to this one by a request that may be repeated, -1 for none. Ours; Kafka
        /// keeps it in memory alone and passes over the tag.
        last_producer_epoch [1+] tag 31000: i16 = -1;
    }
    /// Partitions of one topic that are in the transaction.
    TransactionLogPartitions {
        topic [0+]: KafkaString;
        partition_ids [0+]: Vec<i32>;
    }
}

/// The state of a transactional id, by its number in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(i8)]
pub enum TransactionStatus {
    /// There has been no transaction since the producer was initialized.
    Empty = 0,
    /// A transaction is open.
    Ongoing = 1,
    /// It is decided that it commits.
    PrepareCommit = 2,
    /// It is decided that it aborts.
    PrepareAbort = 3,
    /// It has committed in every partition.
    CompleteCommit = 4,
    /// It has aborted in every partition.
    CompleteAbort = 5,
}

impl TransactionStatus {
    /// Every state that stands in a log.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Returns the number.
    pub const fn code(self) -> i8 {
        self as i8
    }

    /// Returns the state with this number; `None` for a number that never stands in a log.
    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// Returns Kafka's name of the state.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

/// A record of `__transaction_state`.
#[derive(Clone, PartialEq, Debug)]
pub struct TransactionRecord {
    /// Whom it is about.
    pub key: TransactionLogKey,
    /// How it stands; `None` takes it away.
    pub value: Option<TransactionLogValue>,
}

impl TransactionRecord {
    /// Returns key and value as they stand in the log.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let value = self.value.as_ref();
        (
            prefixed(TRANSACTION_LOG, 0, &self.key),
            value.map(|value| prefixed(VALUE_VERSION, VALUE_VERSION, value)),
        )
    }

    /// Reads a record; `None` for a kind of key of a later release.
    ///
    /// # Errors
    /// [`DecodeError`] where key or value is cut short, has bytes left over, is of an unknown version, or
    /// tells a state that never stands in a log.
    pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(key);
        if reader.i16()? != TRANSACTION_LOG {
            return Ok(None);
        }
        let key = whole(reader, 0)?;
        let value: Option<TransactionLogValue> = value.map(versioned).transpose()?;
        if let Some(value) = &value {
            let code = value.transaction_status;
            if TransactionStatus::from_code(code).is_none() {
                return Err(DecodeError {
                    field: "TransactionLogValue.transaction_status",
                    offset: 0,
                    kind: DecodeErrorKind::UnknownValue(i64::from(code)),
                });
            }
        }
        Ok(Some(Self { key, value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;
    use crate::wire::json::Json;
    use crate::wire::tests::golden::{bytes_of, lines};

    const LINES: &str = "transaction_records.jsonl";

    #[test]
    fn keys_and_values_of_kafkas_own_classes_are_read_and_written_byte_for_byte() {
        let mut seen = std::collections::BTreeSet::new();
        for line in lines(LINES) {
            match line["part"].as_str() {
                Some("key") => part::<TransactionLogKey>(&line),
                Some("value") => part::<TransactionLogValue>(&line),
                _ => continue,
            }
            seen.insert(format!("{} v{}", line["part"], line["version"]));
        }
        assert_eq!(seen.len(), 3, "every version of key and value: {seen:?}");
    }

    #[test]
    fn records_of_kafkas_own_coordinator_are_read_and_written_byte_for_byte() {
        let mut states = std::collections::BTreeSet::new();
        let mut seen = 0;
        for line in lines(LINES) {
            if line["part"].as_str() != Some("record") {
                continue;
            }
            let case = line["case"].to_string();
            let key = bytes_of(&line["key_hex"]);
            let value = line["value_hex"].as_str().map(|_| bytes_of(&line["value_hex"]));

            let read = TransactionRecord::decode(key.clone(), value.clone()).expect(&case);

            let read = read.expect(&case);
            assert_eq!(read.encode().0, key, "{case}");
            if let (Some(stored), Some(bytes)) = (&read.value, &value) {
                let version = line["value_version"].as_i64().expect("a version") as i16;
                assert_eq!(prefixed(version, version, stored), bytes, "{case}");
                let status = TransactionStatus::from_code(stored.transaction_status);
                let status = status.expect("a state that is known");
                assert!(case.contains(status.name()), "{case}: {status:?}");
                states.insert(status);
                // What is written is of the later version, and says the same.
                let again = TransactionRecord::decode(key.clone(), read.encode().1).expect(&case);
                assert_eq!(again.as_ref(), Some(&read), "{case}");
            }
            for end in 0..key.len() {
                assert!(TransactionRecord::decode(key.slice(..end), None).is_err(), "{case} {end}");
            }
            for end in 0..value.as_ref().map_or(0, Bytes::len) {
                let cut = value.as_ref().map(|value| value.slice(..end));
                assert!(TransactionRecord::decode(key.clone(), cut).is_err(), "{case} at {end}");
            }
            seen += 1;
        }
        assert_eq!((seen, states.len()), (19, TransactionStatus::ALL.len()));
    }

    #[test]
    fn the_epoch_that_kafka_does_not_store_comes_back_from_a_tag_of_ours() {
        let value =
            TransactionLogValue { last_producer_epoch: 7, ..TransactionLogValue::default() };
        let record = TransactionRecord { key: TransactionLogKey::default(), value: Some(value) };
        let (key, value) = record.encode();

        let read = TransactionRecord::decode(key, value.clone()).expect("its own record");

        assert_eq!(read, Some(record));
        // One tagged field: its number in three bytes, a length of two, the epoch.
        let bytes = value.expect("a value");
        assert!(bytes.ends_with(&[1, 0x98, 0xf2, 0x01, 2, 0, 7]), "{bytes:?}");
    }

    #[test]
    fn a_state_or_a_version_that_is_not_known_is_refused_and_another_kind_passed_over() {
        let value = TransactionLogValue { transaction_status: 6, ..TransactionLogValue::default() };
        let record = TransactionRecord { key: TransactionLogKey::default(), value: Some(value) };
        let (key, value) = record.encode();
        let mut later = value.clone().expect("a value").to_vec();
        later[1] = 2;

        let dead = TransactionRecord::decode(key.clone(), value).expect_err("a state of memory");
        let later = TransactionRecord::decode(key, Some(later.into())).expect_err("version 2");
        let other = TransactionRecord::decode(Bytes::from_static(&[0, 1, 9]), None);

        assert_eq!(dead.kind, DecodeErrorKind::UnknownValue(6));
        assert_eq!(later.kind, DecodeErrorKind::UnknownVersion(2));
        assert_eq!(other, Ok(None));
    }

    fn part<T: Message + std::fmt::Debug>(line: &Json) {
        let case = format!("{} v{} {}", line["part"], line["version"], line["case"]);
        let version = line["version"].as_i64().expect("a version") as i16;
        let bytes = bytes_of(&line["hex"]);

        let read: T = whole(Reader::new(bytes.slice(2..)), version).expect(&case);
        let built = T::from_json(&line["json"], T::form(version)).expect(&case);

        assert_eq!(read, built, "{case}");
        assert_eq!(read.to_json(T::form(version)), line["json"], "{case}");
        assert_eq!(prefixed(i16::from_be_bytes([bytes[0], bytes[1]]), version, &built), bytes);
    }
}
