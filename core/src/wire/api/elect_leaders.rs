//! `ElectLeaders` (key 43): elects the preferred leaders of partitions, or any replica on an explicit
//! order.
//!
//! Source: Kafka protocol guide; KIP-183, 460.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    ElectLeadersRequest versions [0-2] flexible [2] {
        election_type [1+]: i8;
        topic_partitions [0+] null [0+]: Option<Vec<ElectLeadersTopic>>;
        timeout_ms [0+]: i32 = 60_000;
    }
    /// Partitions of one topic.
    ElectLeadersTopic {
        topic [0+]: KafkaString;
        partitions [0+]: Vec<i32>;
    }
    /// The response.
    ElectLeadersResponse versions [0-2] flexible [2] {
        throttle_time_ms [0+]: i32;
        error_code [1+]: i16;
        replica_election_results [0+]: Vec<ElectLeadersTopicResult>;
    }
    /// What came of the elections of one topic.
    ElectLeadersTopicResult {
        topic [0+]: KafkaString;
        partition_result [0+]: Vec<ElectLeadersPartitionResult>;
    }
    /// What came of one election.
    ElectLeadersPartitionResult {
        partition_id [0+]: i32;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString>;
    }
}
