//! Control records of the metadata log: who leads, who votes, and the frame of a snapshot.
//!
//! The key is a version (0) and the kind, both i16; the value is a message of its own at version 0, whose
//! first field repeats that version. Source: KIP-595, 630, 853.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::Uuid;
use crate::wire::api::quorum_parts::QuorumListener;
use crate::wire::codec::Message;
use crate::wire::error::{DecodeError, DecodeErrorKind};
use crate::wire::metadata_record::LeaderChangeMessage;
use crate::wire::reader::Reader;
use crate::wire::writer::Writer;

messages! {
    /// Begins a snapshot.
    SnapshotHeaderRecord versions [0] flexible [0] {
        version [0+]: i16;
        /// Append time of the last record that the snapshot holds, in milliseconds.
        last_contained_log_timestamp [0+]: i64;
    }
    /// Ends a snapshot; one without it is not whole.
    SnapshotFooterRecord versions [0] flexible [0] {
        version [0+]: i16;
    }
    /// Which rules of the quorum are in force; 1 has voters in the log.
    KRaftVersionRecord versions [0] flexible [0] {
        version [0+]: i16;
        k_raft_version [0+]: i16;
    }
    /// The voters of the quorum from this record on, even before it is committed.
    VotersRecord versions [0] flexible [0] {
        version [0+]: i16;
        voters [0+]: Vec<QuorumVoter>;
    }
    /// A voter: a node with a directory.
    QuorumVoter {
        voter_id [0+]: i32;
        voter_directory_id [0+]: Uuid;
        endpoints [0+]: Vec<QuorumListener>;
        k_raft_version_feature [0+]: KRaftVersionRange;
    }
    /// The rules that the voter could follow.
    KRaftVersionRange {
        min_supported_version [0+]: i16;
        max_supported_version [0+]: i16;
    }
}

/// A control record of the metadata log.
#[derive(Clone, PartialEq, Debug)]
pub enum ControlRecord {
    /// Kind 2: a leader begins its epoch.
    LeaderChange(LeaderChangeMessage),
    /// Kind 3: a snapshot begins.
    SnapshotHeader(SnapshotHeaderRecord),
    /// Kind 4: a snapshot ends.
    SnapshotFooter(SnapshotFooterRecord),
    /// Kind 5: the rules of the quorum.
    KRaftVersion(KRaftVersionRecord),
    /// Kind 6: the voters.
    Voters(VotersRecord),
}

impl ControlRecord {
    /// Returns the number of its kind.
    pub const fn kind(&self) -> i16 {
        match self {
            Self::LeaderChange(_) => 2,
            Self::SnapshotHeader(_) => 3,
            Self::SnapshotFooter(_) => 4,
            Self::KRaftVersion(_) => 5,
            Self::Voters(_) => 6,
        }
    }

    /// Returns the key and the value of the record.
    pub fn encode(&self) -> (Bytes, Bytes) {
        let mut key = BytesMut::with_capacity(4);
        key.put_i16(0);
        key.put_i16(self.kind());
        let value = match self {
            // Kafka writes version 1 only where voters are in the log by directory.
            Self::LeaderChange(body) => value(body, body.version.clamp(0, 1)),
            Self::SnapshotHeader(body) => value(body, 0),
            Self::SnapshotFooter(body) => value(body, 0),
            Self::KRaftVersion(body) => value(body, 0),
            Self::Voters(body) => value(body, 0),
        };
        (key.freeze(), value)
    }

    /// Reads a control record from its key and value.
    ///
    /// # Errors
    /// [`DecodeError`] where it is none of the metadata log, or of a version that is not known.
    pub fn decode(key: Bytes, value: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(key);
        let version = reader.i16()?;
        let kind = reader.i16()?;
        if version < 0 {
            return Err(reader.error(DecodeErrorKind::UnknownVersion(version)));
        }
        match kind {
            2 => body(value, 1).map(Self::LeaderChange),
            3 => body(value, 0).map(Self::SnapshotHeader),
            4 => body(value, 0).map(Self::SnapshotFooter),
            5 => body(value, 0).map(Self::KRaftVersion),
            6 => body(value, 0).map(Self::Voters),
            other => Err(reader.error(DecodeErrorKind::UnknownValue(i64::from(other)))),
        }
    }
}

fn value<M: Message>(body: &M, version: i16) -> Bytes {
    let mut writer = Writer::default();
    body.encode(version, &mut writer);
    writer.into_bytes()
}

/// Reads a value whose first two bytes are its version.
fn body<M: Message>(value: Bytes, newest: i16) -> Result<M, DecodeError> {
    let version = Reader::new(value.clone()).i16()?;
    let mut reader = Reader::new(value);
    if !(0..=newest).contains(&version) {
        return Err(reader.error(DecodeErrorKind::UnknownVersion(version)));
    }
    let body = M::decode(&mut reader, version)?;
    match reader.remaining() {
        0 => Ok(body),
        left => Err(reader.error(DecodeErrorKind::Trailing(left))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::batch::Batch;
    use crate::record::builder::quorum_control;
    use crate::wire::tests::golden::{bytes_of, lines};

    #[test]
    fn control_records_of_kafkas_own_classes_are_read_and_written_byte_for_byte() {
        let mut kinds = std::collections::BTreeSet::new();
        for line in lines("control_records.jsonl") {
            let case = line["case"].to_string();
            let (key, value) = (bytes_of(&line["key_hex"]), bytes_of(&line["value_hex"]));

            let record = ControlRecord::decode(key.clone(), value.clone()).expect(&case);

            assert_eq!(record.encode(), (key.clone(), value.clone()), "{case}");
            let expected = Batch::split_from(&mut bytes_of(&line["batch_hex"])).expect(&case);
            let mut batch = quorum_control(record.kind(), &value, expected.max_timestamp());
            batch.assign(expected.base_offset(), expected.leader_epoch());
            assert_eq!(batch.to_bytes(), expected.to_bytes(), "{case}");
            for end in 0..value.len() {
                let cut = ControlRecord::decode(key.clone(), value.slice(..end));
                assert!(cut.is_err(), "{case} cut at {end}");
            }
            kinds.insert(record.kind());
        }
        assert_eq!(kinds, (2..=6).collect(), "every kind of the metadata log");
    }

    #[test]
    fn voters_are_read_field_by_field() {
        let line = lines("control_records.jsonl")
            .into_iter()
            .find(|line| line["case"] == "voters_3")
            .expect("three voters");
        let record =
            ControlRecord::decode(bytes_of(&line["key_hex"]), bytes_of(&line["value_hex"]));
        let Ok(ControlRecord::Voters(record)) = record else {
            unreachable!("the line holds voters")
        };

        let second = &record.voters[1];

        assert_eq!(record.voters.len(), 3);
        assert_eq!(second.voter_id, 2);
        assert_eq!(second.endpoints[1].name, "CONTROLLER_TLS");
        assert_eq!(second.endpoints[1].port, 65_535);
        assert_eq!(second.k_raft_version_feature.max_supported_version, 1);
    }

    #[test]
    fn a_control_record_of_another_log_is_refused() {
        let commit = Bytes::from_static(&[0, 0, 0, 1]);
        let error = ControlRecord::decode(commit, Bytes::from_static(&[0; 6])).expect_err("kind 1");
        assert_eq!(error.kind, DecodeErrorKind::UnknownValue(1));
    }
}
