//! `OffsetForLeaderEpoch` (key 23): tells where a leader epoch ends in a log.
//!
//! Source: Kafka protocol guide; KIP-101, 279, 320.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    OffsetForLeaderEpochRequest versions [2-4] flexible [4] {
        replica_id [3+]: i32 = -2;
        topics [0+]: Vec<OffsetForLeaderTopic>;
    }
    /// What is asked about one topic.
    OffsetForLeaderTopic {
        topic [0+]: KafkaString;
        partitions [0+]: Vec<OffsetForLeaderPartition>;
    }
    /// What is asked about one partition.
    OffsetForLeaderPartition {
        partition [0+]: i32;
        current_leader_epoch [2+]: i32 = -1;
        leader_epoch [0+]: i32;
    }
    /// The response.
    OffsetForLeaderEpochResponse versions [2-4] flexible [4] {
        throttle_time_ms [2+]: i32;
        topics [0+]: Vec<OffsetForLeaderTopicResult>;
    }
    /// What was found in one topic.
    OffsetForLeaderTopicResult {
        topic [0+]: KafkaString;
        partitions [0+]: Vec<EpochEndOffset>;
    }
    /// The largest epoch not above the one asked about, and its end offset, exclusive; -1 and -1 if
    /// unknown.
    EpochEndOffset {
        error_code [0+]: i16;
        partition [0+]: i32;
        leader_epoch [1+]: i32 = -1;
        end_offset [0+]: i64 = -1;
    }
}
