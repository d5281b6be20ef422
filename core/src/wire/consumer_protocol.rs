//! What the members of a classic group tell each other through the coordinator, which does not look
//! at it: subscriptions on the way to the leader, assignments on the way back.
//!
//! A blob is the version and then the body. One of a later version is read as the newest that is
//! known, and bytes behind the body are ignored, so that members of several releases agree.
//!
//! Source: Kafka's `ConsumerProtocol`; KIP-429 (owned partitions), 792 (generation), 881 (rack).

use bytes::Bytes;

use super::codec::Message;
use super::error::{DecodeError, DecodeErrorKind};
use super::reader::Reader;
use super::string::KafkaString;
use super::writer::{Sink, Writer};

/// Protocol type under which consumers join a group.
pub const PROTOCOL_TYPE: &str = "consumer";

messages! {
    /// What a member wants, and what it holds.
    ConsumerProtocolSubscription versions [0-3] flexible [never] {
        topics [0+]: Vec<KafkaString>;
        user_data [0+] null [0+]: Option<Bytes> = None;
        owned_partitions [1+]: Vec<OwnedPartitions>;
        generation_id [2+]: i32 = -1;
        rack_id [3+] null [3+]: Option<KafkaString> = None;
    }
    /// Partitions of one topic that a member holds.
    OwnedPartitions {
        topic [1+]: KafkaString;
        partitions [1+]: Vec<i32>;
    }
    /// What a member is given.
    ConsumerProtocolAssignment versions [0-3] flexible [never] {
        assigned_partitions [0+]: Vec<AssignedPartitions>;
        user_data [0+] null [0+]: Option<Bytes> = None;
    }
    /// Partitions of one topic that a member is given.
    AssignedPartitions {
        topic [0+]: KafkaString;
        partitions [0+]: Vec<i32>;
    }
}

/// A message whose version stands before it.
pub trait Blob: Message {
    /// Returns the blob in a version.
    fn to_blob(&self, version: i16) -> Bytes {
        let mut writer = Writer::default();
        writer.put(&version.to_be_bytes());
        self.encode(version, &mut writer);
        writer.into_bytes()
    }

    /// Reads a blob.
    ///
    /// # Errors
    /// [`DecodeError`] where it is cut short, or is none.
    fn from_blob(blob: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(blob);
        let version = reader.i16()?;
        if version < Self::MIN_VERSION {
            return Err(reader.error(DecodeErrorKind::UnknownVersion(version)).within(Self::NAME));
        }
        Self::decode(&mut reader, version.min(Self::MAX_VERSION))
    }
}

impl Blob for ConsumerProtocolSubscription {}
impl Blob for ConsumerProtocolAssignment {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Json;
    use crate::wire::tests::golden::{bytes_of, lines};

    fn check<T: Blob + std::fmt::Debug>(line: &Json) {
        let case = format!("{} v{} {}", line["record"], line["version"], line["case"]);
        let blob = bytes_of(&line["hex"]);
        let told = line["version"].as_i64().expect("a version") as i16;
        let version = told.min(T::MAX_VERSION);

        let read = T::from_blob(blob.clone()).expect(&case);
        let built = T::from_json(&line["json"], T::form(version)).expect(&case);

        assert_eq!(read, built, "{case}");
        if told == version {
            assert_eq!(built.to_blob(version), blob, "{case}");
            for end in 0..blob.len() {
                assert!(T::from_blob(blob.slice(..end)).is_err(), "{case} cut at {end}");
            }
        }
        // Whatever stands in a byte, it is read or refused.
        for at in 0..blob.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = blob.to_vec();
                bytes[at] = value;
                let _ = T::from_blob(bytes.into());
            }
        }
    }

    #[test]
    fn blobs_of_kafkas_own_classes_are_read_and_written_byte_for_byte() {
        let lines = lines("consumer_protocol.jsonl");
        for line in &lines {
            if line["record"] == "ConsumerProtocolSubscription" {
                check::<ConsumerProtocolSubscription>(line);
            } else {
                check::<ConsumerProtocolAssignment>(line);
            }
        }
        assert_eq!(lines.len(), 49);
    }

    #[test]
    fn a_version_below_zero_and_a_huge_count_are_refused() {
        for hex in [&[0xff, 0xff][..], &[0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0], &[0], &[]] {
            let blob = Bytes::copy_from_slice(hex);
            assert!(ConsumerProtocolSubscription::from_blob(blob.clone()).is_err(), "{hex:?}");
            assert!(ConsumerProtocolAssignment::from_blob(blob).is_err(), "{hex:?}");
        }
    }
}
