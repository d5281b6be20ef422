//! `ListPartitionReassignments` (key 46): tells which partitions are on the move.
//!
//! Source: Kafka protocol guide; KIP-455.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    ListPartitionReassignmentsRequest versions [0] flexible [0] {
        timeout_ms [0+]: i32 = 60_000;
        topics [0+] null [0+]: Option<Vec<ListReassignmentsTopic>> = None;
    }
    /// Partitions of one topic.
    ListReassignmentsTopic {
        name [0+]: KafkaString;
        partition_indexes [0+]: Vec<i32>;
    }
    /// The response.
    ListPartitionReassignmentsResponse versions [0] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString>;
        topics [0+]: Vec<OngoingTopicReassignment>;
    }
    /// Partitions of one topic that are on the move.
    OngoingTopicReassignment {
        name [0+]: KafkaString;
        partitions [0+]: Vec<OngoingPartitionReassignment>;
    }
    /// A partition that is on the move.
    OngoingPartitionReassignment {
        partition_index [0+]: i32;
        replicas [0+]: Vec<i32>;
        adding_replicas [0+]: Vec<i32>;
        removing_replicas [0+]: Vec<i32>;
    }
}
