//! `DeleteRecords` (key 21): moves the start of logs forward.
//!
//! Source: Kafka protocol guide; KIP-107.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DeleteRecordsRequest versions [0-2] flexible [2] {
        topics [0+]: Vec<DeleteRecordsTopic>;
        timeout_ms [0+]: i32;
    }
    /// Where the logs of one topic are to start.
    DeleteRecordsTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<DeleteRecordsPartition>;
    }
    /// Where the log of one partition is to start; -1 is the high watermark.
    DeleteRecordsPartition {
        partition_index [0+]: i32;
        offset [0+]: i64;
    }
    /// The response.
    DeleteRecordsResponse versions [0-2] flexible [2] {
        throttle_time_ms [0+]: i32;
        topics [0+]: Vec<DeleteRecordsTopicResult>;
    }
    /// The outcome for one topic.
    DeleteRecordsTopicResult {
        name [0+]: KafkaString;
        partitions [0+]: Vec<DeleteRecordsPartitionResult>;
    }
    /// The outcome for one partition.
    DeleteRecordsPartitionResult {
        partition_index [0+]: i32;
        low_watermark [0+]: i64;
        error_code [0+]: i16;
    }
}
