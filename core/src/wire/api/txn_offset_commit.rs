//! `TxnOffsetCommit` (key 28): stores offsets of a group that count once a transaction commits.
//!
//! Source: Kafka protocol guide; KIP-98, 320 (v2), 447 (v3), 890 (v4 and v5).

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    TxnOffsetCommitRequest versions [0-5] flexible [3] {
        transactional_id [0+]: KafkaString;
        group_id [0+]: KafkaString;
        producer_id [0+]: i64;
        producer_epoch [0+]: i16;
        generation_id_or_member_epoch [3+]: i32 = -1;
        member_id [3+]: KafkaString;
        group_instance_id [3+] null [3+]: Option<KafkaString> = None;
        topics [0+]: Vec<TxnOffsetCommitRequestTopic>;
    }
    /// Offsets of one topic.
    TxnOffsetCommitRequestTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<TxnOffsetCommitRequestPartition>;
    }
    /// The offset of one partition.
    TxnOffsetCommitRequestPartition {
        partition_index [0+]: i32;
        committed_offset [0+]: i64;
        committed_leader_epoch [2+]: i32 = -1;
        committed_metadata [0+] null [0+]: Option<KafkaString>;
    }
    /// The response.
    TxnOffsetCommitResponse versions [0-5] flexible [3] {
        throttle_time_ms [0+]: i32;
        topics [0+]: Vec<TxnOffsetCommitResponseTopic>;
    }
    /// The outcome for one topic.
    TxnOffsetCommitResponseTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<TxnOffsetCommitResponsePartition>;
    }
    /// The outcome for one partition.
    TxnOffsetCommitResponsePartition {
        partition_index [0+]: i32;
        error_code [0+]: i16;
    }
}
