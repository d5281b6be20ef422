//! `AlterPartitionReassignments` (key 45): moves partitions to other nodes, or takes such a move back.
//!
//! Source: Kafka protocol guide; KIP-455, 860 (changes of the replication factor).

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    AlterPartitionReassignmentsRequest versions [0-1] flexible [0] {
        timeout_ms [0+]: i32 = 60_000;
        allow_replication_factor_change [1+]: bool = true;
        topics [0+]: Vec<ReassignableTopic>;
    }
    /// What is to be moved of one topic.
    ReassignableTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<ReassignablePartition>;
    }
    /// Where one partition is to be; null takes a move back.
    ReassignablePartition {
        partition_index [0+]: i32;
        replicas [0+] null [0+]: Option<Vec<i32>> = None;
    }
    /// The response.
    AlterPartitionReassignmentsResponse versions [0-1] flexible [0] {
        throttle_time_ms [0+]: i32;
        allow_replication_factor_change [1+]: bool = true;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString>;
        responses [0+]: Vec<ReassignableTopicResponse>;
    }
    /// What came of the order for one topic.
    ReassignableTopicResponse {
        name [0+]: KafkaString;
        partitions [0+]: Vec<ReassignablePartitionResponse>;
    }
    /// What came of the order for one partition.
    ReassignablePartitionResponse {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString>;
    }
}
