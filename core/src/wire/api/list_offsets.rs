//! `ListOffsets` (key 2): finds offsets by time or by their place in the log.
//!
//! Source: Kafka protocol guide; KIP-79, 98, 207, 320, 734, 405, 1005, 1023. Timestamps below zero name places: -1 the end, -2 the
//! start, -3 the largest timestamp.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    ListOffsetsRequest versions [1-11] flexible [6] {
        replica_id [0+]: i32;
        isolation_level [2+]: i8;
        topics [0+]: Vec<ListOffsetsTopic>;
        timeout_ms [10+]: i32;
    }
    /// What is asked about one topic.
    ListOffsetsTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<ListOffsetsPartition>;
    }
    /// What is asked about one partition.
    ListOffsetsPartition {
        partition_index [0+]: i32;
        current_leader_epoch [4+]: i32 = -1;
        timestamp [0+]: i64;
    }
    /// The response.
    ListOffsetsResponse versions [1-11] flexible [6] {
        throttle_time_ms [2+]: i32;
        topics [0+]: Vec<ListOffsetsTopicResponse>;
    }
    /// What was found in one topic.
    ListOffsetsTopicResponse {
        name [0+]: KafkaString;
        partitions [0+]: Vec<ListOffsetsPartitionResponse>;
    }
    /// What was found in one partition; offset and timestamp are -1 where nothing fits.
    ListOffsetsPartitionResponse {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        timestamp [1+]: i64 = -1;
        offset [1+]: i64 = -1;
        leader_epoch [4+]: i32 = -1;
    }
}
