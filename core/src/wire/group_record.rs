//! Records of `__consumer_offsets` that classic groups and committed offsets are made of.
//!
//! A key is the number of its kind and then the body; a value is its version and then the body. A
//! record without a value takes the key away. Kafka's dump tool and tools that tell the lag read
//! what is written here; every version that Kafka 4.3 reads is read.
//!
//! Source: the record schemas of Apache Kafka's group coordinator; KIP-211 (v2), 320 and 345 (v3),
//! 848 (kinds from 3 on, which are named and not read).

use bytes::Bytes;

use super::codec::Message;
use super::error::{DecodeError, DecodeErrorKind};
use super::reader::Reader;
use super::string::KafkaString;
use super::writer::{Sink, Writer};
use crate::ids::Uuid;

/// Kinds of keys of committed offsets: the first in name alone.
const OFFSET_COMMIT_KINDS: [i16; 2] = [0, 1];
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

messages! {
    /// Names a committed offset.
    OffsetCommitKey versions [0] flexible [never] {
        group [0+]: KafkaString;
        topic [0+]: KafkaString;
        partition [0+]: i32;
    }
    /// A committed offset. Times are milliseconds since 1970.
    OffsetCommitValue versions [0-4] flexible [4] {
        offset [0+]: i64;
        leader_epoch [3+]: i32 = -1;
        metadata [0+]: KafkaString;
        commit_timestamp [0+]: i64;
        expire_timestamp [1]: i64 = -1;
        topic_id [4+] tag 0: Uuid;
    }
    /// Names a group.
    GroupMetadataKey versions [0] flexible [never] {
        group [0+]: KafkaString;
    }
    /// A group between two rebalances.
    GroupMetadataValue versions [0-4] flexible [4] {
        protocol_type [0+]: KafkaString;
        generation [0+]: i32;
        protocol [0+] null [0+]: Option<KafkaString>;
        leader [0+] null [0+]: Option<KafkaString>;
        current_state_timestamp [2+]: i64 = -1;
        members [0+]: Vec<MemberMetadata>;
    }
    /// A member of a group. Times are milliseconds.
    MemberMetadata {
        member_id [0+]: KafkaString;
        group_instance_id [3+] null [3+]: Option<KafkaString> = None;
        client_id [0+]: KafkaString;
        client_host [0+]: KafkaString;
        rebalance_timeout [1+]: i32 = -1;
        session_timeout [0+]: i32;
        subscription [0+]: Bytes;
        assignment [0+]: Bytes;
    }
}

/// A record that classic groups and committed offsets are made of.
#[derive(Clone, PartialEq, Debug)]
pub enum GroupRecord {
    /// An offset was committed, or taken away.
    OffsetCommit(OffsetCommitKey, Option<OffsetCommitValue>),
    /// A group changed, or was taken away.
    GroupMetadata(GroupMetadataKey, Option<GroupMetadataValue>),
}

impl GroupRecord {
    /// Returns key and value as they stand in the log, in the versions that Kafka 4.3 writes.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        match self {
            Self::OffsetCommit(key, value) => (
                prefixed(OFFSET_COMMIT, 0, key),
                value.as_ref().map(|value| {
                    // Only version 1 can say when the offset expires.
                    let version = if value.expire_timestamp == -1 { 4 } else { 1 };
                    prefixed(version, version, value)
                }),
            ),
            Self::GroupMetadata(key, value) => (
                prefixed(GROUP_METADATA, 0, key),
                value.as_ref().map(|value| prefixed(3, 3, value)),
            ),
        }
    }

    /// Reads a record, in any version that Kafka 4.3 reads; `None` for a kind of key that is of
    /// another purpose (groups of KIP-848 and KIP-932, or of a later release).
    ///
    /// # Errors
    /// [`DecodeError`] where key or value of a known kind is cut short, has bytes left over, or is
    /// of an unknown version.
    pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(key);
        let kind = reader.i16()?;
        if OFFSET_COMMIT_KINDS.contains(&kind) {
            let key = whole(reader, 0)?;
            Ok(Some(Self::OffsetCommit(key, value.map(versioned).transpose()?)))
        } else if kind == GROUP_METADATA {
            let key = whole(reader, 0)?;
            Ok(Some(Self::GroupMetadata(key, value.map(versioned).transpose()?)))
        } else {
            Ok(None)
        }
    }
}

pub(super) fn prefixed<T: Message>(prefix: i16, version: i16, body: &T) -> Bytes {
    let mut writer = Writer::default();
    writer.put(&prefix.to_be_bytes());
    body.encode(version, &mut writer);
    writer.into_bytes()
}

pub(super) fn versioned<T: Message>(value: Bytes) -> Result<T, DecodeError> {
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    if !(T::MIN_VERSION..=T::MAX_VERSION).contains(&version) {
        return Err(reader.error(DecodeErrorKind::UnknownVersion(version)).within(T::NAME));
    }
    whole(reader, version)
}

pub(super) fn whole<T: Message>(mut reader: Reader, version: i16) -> Result<T, DecodeError> {
    let body = T::decode(&mut reader, version)?;
    let left = reader.remaining();
    if left > 0 {
        return Err(reader.error(DecodeErrorKind::Trailing(left)).within(T::NAME));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Json;
    use crate::wire::tests::golden::{bytes_of, lines};

    const LINES: &str = "group_records.jsonl";

    #[test]
    fn keys_and_values_of_kafkas_own_classes_are_read_and_written_byte_for_byte() {
        let mut seen = std::collections::BTreeSet::new();
        for line in lines(LINES) {
            match (line["record"].as_str().expect("a name"), line["part"].as_str()) {
                ("OffsetCommit" | "LegacyOffsetCommit", Some("key")) => {
                    part::<OffsetCommitKey>(&line);
                }
                ("OffsetCommit", Some("value")) => part::<OffsetCommitValue>(&line),
                ("GroupMetadata", Some("key")) => part::<GroupMetadataKey>(&line),
                ("GroupMetadata", Some("value")) => part::<GroupMetadataValue>(&line),
                _ => continue,
            }
            seen.insert(format!("{} {} v{}", line["record"], line["part"], line["version"]));
        }
        assert_eq!(seen.len(), 13, "every version of every key and value: {seen:?}");
    }

    #[test]
    fn records_of_kafkas_own_coordinator_are_read_and_written_byte_for_byte() {
        let mut seen = 0;
        for line in lines(LINES) {
            if line["part"].as_str() != Some("record") {
                continue;
            }
            let case = line["case"].to_string();
            let key = bytes_of(&line["key_hex"]);
            let value = line["value_hex"].as_str().map(|_| bytes_of(&line["value_hex"]));

            let read = GroupRecord::decode(key.clone(), value.clone()).expect(&case);

            if !matches!(line["record"].as_str(), Some("OffsetCommit" | "GroupMetadata")) {
                assert_eq!(read, None, "{case}: of another purpose");
                continue;
            }
            let read = read.expect(&case);
            assert_eq!(read.encode(), (key.clone(), value.clone()), "{case}");
            for end in 0..key.len() {
                assert!(GroupRecord::decode(key.slice(..end), None).is_err(), "{case} at {end}");
            }
            for end in 0..value.as_ref().map_or(0, Bytes::len) {
                let cut = value.as_ref().map(|value| value.slice(..end));
                assert!(GroupRecord::decode(key.clone(), cut).is_err(), "{case} at {end}");
            }
            seen += 1;
        }
        assert_eq!(seen, 7);
    }

    #[test]
    fn a_value_of_a_later_version_or_with_bytes_behind_it_is_refused() {
        let record = GroupRecord::OffsetCommit(
            OffsetCommitKey::default(),
            Some(OffsetCommitValue::default()),
        );
        let (key, value) = record.encode();
        let mut later = value.clone().expect("a value").to_vec();
        later[1] = 5;
        let mut longer = value.expect("a value").to_vec();
        longer.push(0);

        let later = GroupRecord::decode(key.clone(), Some(later.into())).expect_err("version 5");
        let longer = GroupRecord::decode(key, Some(longer.into())).expect_err("one byte more");

        assert_eq!(later.kind, DecodeErrorKind::UnknownVersion(5));
        assert_eq!(longer.kind, DecodeErrorKind::Trailing(1));
    }

    fn part<T: Message + std::fmt::Debug>(line: &Json) {
        let case =
            format!("{} {} v{} {}", line["record"], line["part"], line["version"], line["case"]);
        let version = line["version"].as_i64().expect("a version") as i16;
        let bytes = bytes_of(&line["hex"]);

        let read: T = whole(Reader::new(bytes.slice(2..)), version).expect(&case);
        let built = T::from_json(&line["json"], T::form(version)).expect(&case);

        assert_eq!(read, built, "{case}");
        assert_eq!(read.to_json(T::form(version)), line["json"], "{case}");
        assert_eq!(prefixed(i16::from_be_bytes([bytes[0], bytes[1]]), version, &built), bytes);
    }
}
