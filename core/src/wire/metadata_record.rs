//! Records of the metadata log, and the control record with which its leaders begin.
//!
//! The value of such a record is a frame version (1), the type of the record and its version, each
//! an unsigned varint, and then the body. Kafka's dump tool reads what is written here.
//! Source: KIP-500, 631, 746 (frames), 778 (features), 966, 858 (directories), 595.

use bytes::Bytes;

use crate::ids::Uuid;
use crate::wire::codec::Message;
use crate::wire::error::{DecodeError, DecodeErrorKind};
use crate::wire::reader::Reader;
use crate::wire::string::KafkaString;
use crate::wire::writer::{Sink, Writer};

/// The only version of the frame around a record.
const FRAME_VERSION: u32 = 1;

messages! {
    /// A topic was made.
    TopicRecord versions [0] flexible [0] {
        name [0+]: KafkaString;
        topic_id [0+]: Uuid;
    }
    /// A partition was made, or is told whole.
    PartitionRecord versions [0-2] flexible [0] {
        partition_id [0+]: i32 = -1;
        topic_id [0+]: Uuid;
        replicas [0+]: Vec<i32>;
        isr [0+]: Vec<i32>;
        removing_replicas [0+]: Vec<i32>;
        adding_replicas [0+]: Vec<i32>;
        leader [0+]: i32 = -1;
        leader_epoch [0+]: i32 = -1;
        partition_epoch [0+]: i32 = -1;
        directories [1+]: Vec<Uuid>;
        leader_recovery_state [0+] tag 0: i8;
        eligible_leader_replicas [2+] null [2+] tag 1: Option<Vec<i32>> = None;
        last_known_elr [2+] null [2+] tag 2: Option<Vec<i32>> = None;
    }
    /// A broker was taken out of the cluster.
    UnregisterBrokerRecord versions [0] flexible [0] {
        broker_id [0+]: i32;
        broker_epoch [0+]: i64;
    }
    /// A broker was fenced. Read only: [`BrokerRegistrationChangeRecord`] is written.
    FenceBrokerRecord versions [0] flexible [0] {
        id [0+]: i32;
        epoch [0+]: i64;
    }
    /// A broker was unfenced. Read only: [`BrokerRegistrationChangeRecord`] is written.
    UnfenceBrokerRecord versions [0] flexible [0] {
        id [0+]: i32;
        epoch [0+]: i64;
    }
    /// A setting of a resource; null takes it away.
    ConfigRecord versions [0] flexible [0] {
        resource_type [0+]: i8;
        resource_name [0+]: KafkaString;
        name [0+]: KafkaString;
        value [0+] null [0+]: Option<KafkaString>;
    }
    /// A topic was deleted, with its partitions and settings.
    RemoveTopicRecord versions [0] flexible [0] {
        topic_id [0+]: Uuid;
    }
    /// A feature was settled at a level; 0 takes it away.
    FeatureLevelRecord versions [0] flexible [0] {
        name [0+]: KafkaString;
        feature_level [0+]: i16;
    }
    /// A start of a broker was registered.
    RegisterBrokerRecord versions [0-4] flexible [0] {
        broker_id [0+]: i32;
        is_migrating_zk_broker [2+]: bool;
        incarnation_id [0+]: Uuid;
        broker_epoch [0+]: i64;
        end_points [0+]: Vec<BrokerEndpoint>;
        features [0+]: Vec<BrokerFeature>;
        rack [0+] null [0+]: Option<KafkaString>;
        fenced [0+]: bool = true;
        in_controlled_shutdown [1+]: bool;
        log_dirs [3+] tag 0: Vec<Uuid>;
        cordoned_log_dirs [4+] null [4+] tag 1: Option<Vec<Uuid>> = None;
    }
    /// A listener of the broker.
    BrokerEndpoint {
        name [0+]: KafkaString;
        host [0+]: KafkaString;
        port [0+]: u16;
        security_protocol [0+]: i16;
    }
    /// A feature and the levels that the broker could serve.
    BrokerFeature {
        name [0+]: KafkaString;
        min_supported_version [0+]: i16;
        max_supported_version [0+]: i16;
    }
    /// A block of producer ids was handed out; `next_producer_id` follows it.
    ProducerIdsRecord versions [0] flexible [0] {
        broker_id [0+]: i32;
        broker_epoch [0+]: i64 = -1;
        next_producer_id [0+]: i64;
    }
    /// Nothing; moves the end of the log forward.
    NoOpRecord versions [0] flexible [0] {}
    /// A registration changed; fields at their default stay as they were.
    BrokerRegistrationChangeRecord versions [0-3] flexible [0] {
        broker_id [0+]: i32;
        broker_epoch [0+]: i64;
        fenced [0+] tag 0: i8;
        in_controlled_shutdown [1+] tag 1: i8;
        log_dirs [2+] tag 2: Vec<Uuid>;
        cordoned_log_dirs [3+] null [3+] tag 3: Option<Vec<Uuid>> = None;
    }
    /// A partition changed; fields at their default stay as they were.
    PartitionChangeRecord versions [0-2] flexible [0] {
        partition_id [0+]: i32 = -1;
        topic_id [0+]: Uuid;
        isr [0+] null [0+] tag 0: Option<Vec<i32>> = None;
        leader [0+] tag 1: i32 = -2;
        replicas [0+] null [0+] tag 2: Option<Vec<i32>> = None;
        removing_replicas [0+] null [0+] tag 3: Option<Vec<i32>> = None;
        adding_replicas [0+] null [0+] tag 4: Option<Vec<i32>> = None;
        leader_recovery_state [0+] tag 5: i8 = -1;
        eligible_leader_replicas [2+] null [2+] tag 6: Option<Vec<i32>> = None;
        last_known_elr [2+] null [2+] tag 7: Option<Vec<i32>> = None;
        directories [1+] null [1+] tag 8: Option<Vec<Uuid>> = None;
    }
    /// A leader was elected that was not known to hold everything, on an operator's order. Ours; Kafka has
    /// none.
    UncleanElectionRecord versions [0] flexible [0] {
        topic_id [0+]: Uuid;
        partition_id [0+]: i32 = -1;
        leader [0+]: i32 = -1;
        /// Its epoch: what earlier ones wrote may be lost.
        leader_epoch [0+]: i32 = -1;
        /// The first offset that may be lost; -1 where nobody knows.
        lost_from [0+]: i64 = -1;
    }
    /// Topics whose deletion is on record: nobody takes their names' later owners for them, and their logs may
    /// go. Ours, in snapshots alone; Kafka forgets them.
    RemovedTopicsRecord versions [0] flexible [0] {
        topic_ids [0+]: Vec<Uuid>;
    }
    /// What the snapshot is one of, so that another file in its place is known. Ours, in snapshots alone.
    SnapshotEndRecord versions [0] flexible [0] {
        /// The first offset that it does not hold.
        end_offset [0+]: i64;
        /// The epoch of the last record that it holds.
        epoch [0+]: i32;
    }
    /// Value of the control record with which a leader begins its epoch (KIP-595).
    LeaderChangeMessage versions [0-1] flexible [0] {
        version [0+]: i16;
        leader_id [0+]: i32;
        voters [0+]: Vec<Voter>;
        granting_voters [0+]: Vec<Voter>;
    }
    /// A voter of the quorum.
    Voter {
        voter_id [0+]: i32;
        voter_directory_id [1+]: Uuid;
    }
}

macro_rules! metadata_records {
    ($($id:literal $name:ident $version:literal;)*) => {
        /// Any record of the metadata log that is known.
        #[derive(Clone, PartialEq, Debug)]
        pub enum MetadataRecord {
            $(#[doc = concat!("Type ", stringify!($id), ", [`", stringify!($name), "`].")]
            $name($name),)*
        }

        impl MetadataRecord {
            /// Returns the number of its type.
            pub const fn id(&self) -> i16 {
                match self {
                    $(Self::$name(_) => $id,)*
                }
            }

            /// Returns the version that is written: what metadata version 4.3-IV0 settles.
            pub const fn version(&self) -> i16 {
                match self {
                    $(Self::$name(_) => $version,)*
                }
            }

            /// Returns the whole value of the record, frame included.
            pub fn encode(&self) -> Bytes {
                self.encode_version(self.version())
            }

            fn encode_version(&self, version: i16) -> Bytes {
                let mut writer = Writer::default();
                writer.put_unsigned_varint(FRAME_VERSION);
                writer.put_unsigned_varint(self.id() as u32);
                writer.put_unsigned_varint(version as u32);
                match self {
                    $(Self::$name(body) => body.encode(version, &mut writer),)*
                }
                writer.into_bytes()
            }

            /// Reads the whole value of a record, frame included, in any version that is known.
            ///
            /// # Errors
            /// [`DecodeError`] where it is none, of a type or version that is not known, or has
            /// bytes left over.
            pub fn decode(value: Bytes) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(value);
                let (id, version) = decode_frame(&mut reader)?;
                let record = match id {
                    $($id => <$name as Message>::decode(&mut reader, version).map(Self::$name),)*
                    other => {
                        Err(reader.error(DecodeErrorKind::UnknownValue(i64::from(other))))
                    }
                }?;
                if reader.remaining() > 0 {
                    let left = reader.remaining();
                    return Err(reader.error(DecodeErrorKind::Trailing(left)));
                }
                Ok(record)
            }

            /// Returns the record in Kafka's JSON form, as the version that is written.
            #[cfg(any(test, feature = "json"))]
            pub fn to_json(&self) -> super::json::Json {
                self.to_json_version(self.version())
            }

            #[cfg(any(test, feature = "json"))]
            fn to_json_version(&self, version: i16) -> super::json::Json {
                use super::codec::Wire;
                match self {
                    $(Self::$name(body) => body.to_json(<$name as Message>::form(version)),)*
                }
            }

            #[cfg(test)]
            fn from_json_version(
                id: u32,
                version: i16,
                json: &super::json::Json,
            ) -> Result<Self, super::json::JsonError> {
                use super::codec::Wire;
                match id {
                    $($id => {
                        Wire::from_json(json, <$name as Message>::form(version)).map(Self::$name)
                    })*
                    _ => Err(super::json::JsonError::expected("known record")),
                }
            }
        }

        $(
            impl From<$name> for MetadataRecord {
                fn from(record: $name) -> Self {
                    Self::$name(record)
                }
            }
        )*
    };
}

metadata_records! {
    0 RegisterBrokerRecord 4;
    1 UnregisterBrokerRecord 0;
    2 TopicRecord 0;
    3 PartitionRecord 2;
    4 ConfigRecord 0;
    5 PartitionChangeRecord 2;
    7 FenceBrokerRecord 0;
    8 UnfenceBrokerRecord 0;
    9 RemoveTopicRecord 0;
    12 FeatureLevelRecord 0;
    15 ProducerIdsRecord 0;
    17 BrokerRegistrationChangeRecord 3;
    20 NoOpRecord 0;
    31000 UncleanElectionRecord 0;
    31001 RemovedTopicsRecord 0;
    31002 SnapshotEndRecord 0;
}

fn decode_frame(reader: &mut Reader) -> Result<(u32, i16), DecodeError> {
    let frame_version = reader.unsigned_varint()?;
    if frame_version != FRAME_VERSION {
        return Err(reader.error(DecodeErrorKind::UnknownValue(i64::from(frame_version))));
    }
    let id = reader.unsigned_varint()?;
    let version = reader.unsigned_varint()?;
    let version = i16::try_from(version)
        .map_err(|_| reader.error(DecodeErrorKind::UnknownValue(i64::from(version))))?;
    Ok((id, version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::golden::{bytes_of, lines};

    #[test]
    fn records_of_kafkas_own_classes_are_read_and_written_byte_for_byte() {
        let mut seen = std::collections::BTreeSet::new();
        for line in lines("metadata_records.jsonl") {
            let case = format!("{} v{} {}", line["record"], line["version"], line["case"]);
            let value = bytes_of(&line["hex"]);
            let version = line["version"].as_i64().expect("a version") as i16;
            let id = line["id"].as_u64().expect("a type") as u32;

            let record = MetadataRecord::decode(value.clone()).expect(&case);
            let built = MetadataRecord::from_json_version(id, version, &line["json"]).expect(&case);

            assert_eq!(record.to_json_version(version), line["json"], "{case}");
            assert_eq!(built.encode_version(version), value, "{case}");
            assert_eq!(built, record, "{case}");
            for end in 0..value.len() {
                assert!(MetadataRecord::decode(value.slice(..end)).is_err(), "{case} cut at {end}");
            }
            seen.insert((id, version));
        }
        assert_eq!(seen.len(), 24, "every version of every record");
    }

    #[test]
    fn a_record_with_bytes_behind_it_is_refused() {
        let mut value = MetadataRecord::from(NoOpRecord::default()).encode().to_vec();
        value.push(0);
        let error = MetadataRecord::decode(value.into()).expect_err("one byte too many");
        assert_eq!(error.kind, DecodeErrorKind::Trailing(1));
    }

    #[test]
    fn a_record_of_an_unknown_type_is_refused_and_named() {
        let error =
            MetadataRecord::decode(Bytes::from_static(&[1, 99, 0, 0])).expect_err("type 99");
        assert_eq!(error.kind, DecodeErrorKind::UnknownValue(99));
    }
}
