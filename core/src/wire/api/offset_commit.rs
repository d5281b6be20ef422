//! `OffsetCommit` (key 8): stores offsets of a group.
//!
//! Source: Kafka protocol guide; KIP-211 (no retention time from v5), 320, 345, 848.

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    OffsetCommitRequest versions [2-10] flexible [8] {
        group_id [0+]: KafkaString;
        generation_id_or_member_epoch [1+]: i32 = -1;
        member_id [1+]: KafkaString;
        group_instance_id [7+] null [7+]: Option<KafkaString> = None;
        retention_time_ms [2-4]: i64 = -1;
        topics [0+]: Vec<OffsetCommitRequestTopic>;
    }
    /// Offsets of one topic.
    OffsetCommitRequestTopic {
        name [0-9]: KafkaString;
        topic_id [10+]: Uuid;
        partitions [0+]: Vec<OffsetCommitRequestPartition>;
    }
    /// The offset of one partition.
    OffsetCommitRequestPartition {
        partition_index [0+]: i32;
        committed_offset [0+]: i64;
        committed_leader_epoch [6+]: i32 = -1;
        committed_metadata [0+] null [0+]: Option<KafkaString>;
    }
    /// The response.
    OffsetCommitResponse versions [2-10] flexible [8] {
        throttle_time_ms [3+]: i32;
        topics [0+]: Vec<OffsetCommitResponseTopic>;
    }
    /// The outcome for one topic.
    OffsetCommitResponseTopic {
        name [0-9]: KafkaString;
        topic_id [10+]: Uuid;
        partitions [0+]: Vec<OffsetCommitResponsePartition>;
    }
    /// The outcome for one partition.
    OffsetCommitResponsePartition {
        partition_index [0+]: i32;
        error_code [0+]: i16;
    }
}
