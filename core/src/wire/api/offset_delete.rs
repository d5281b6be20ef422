//! `OffsetDelete` (key 47): deletes stored offsets of a group.
//!
//! Source: Kafka protocol guide; KIP-496.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    OffsetDeleteRequest versions [0] flexible [never] {
        group_id [0+]: KafkaString;
        topics [0+]: Vec<OffsetDeleteRequestTopic>;
    }
    /// Partitions of one topic.
    OffsetDeleteRequestTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<OffsetDeleteRequestPartition>;
    }
    /// One partition.
    OffsetDeleteRequestPartition {
        partition_index [0+]: i32;
    }
    /// The response.
    OffsetDeleteResponse versions [0] flexible [never] {
        error_code [0+]: i16;
        throttle_time_ms [0+]: i32;
        topics [0+]: Vec<OffsetDeleteResponseTopic>;
    }
    /// The outcome for one topic.
    OffsetDeleteResponseTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<OffsetDeleteResponsePartition>;
    }
    /// The outcome for one partition.
    OffsetDeleteResponsePartition {
        partition_index [0+]: i32;
        error_code [0+]: i16;
    }
}
