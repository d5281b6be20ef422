//! `DescribeQuorum` (key 55): tells who leads the metadata quorum and how far its members are.
//!
//! Source: Kafka protocol guide; KIP-595, 836, 853.

use crate::ids::Uuid;
use crate::wire::api::quorum_parts::QuorumListener;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DescribeQuorumRequest versions [0-2] flexible [0] {
        topics [0+]: Vec<DescribeQuorumTopic>;
    }
    /// The topic of the log.
    DescribeQuorumTopic {
        topic_name [0+]: KafkaString;
        partitions [0+]: Vec<DescribeQuorumPartition>;
    }
    /// The partition of the log.
    DescribeQuorumPartition {
        partition_index [0+]: i32;
    }
    /// The response.
    DescribeQuorumResponse versions [0-2] flexible [0] {
        error_code [0+]: i16;
        error_message [2+] null [2+]: Option<KafkaString>;
        topics [0+]: Vec<DescribeQuorumTopicResponse>;
        nodes [2+]: Vec<DescribeQuorumNode>;
    }
    /// The topic of the log.
    DescribeQuorumTopicResponse {
        topic_name [0+]: KafkaString;
        partitions [0+]: Vec<DescribeQuorumPartitionResponse>;
    }
    /// Where one member is reached.
    DescribeQuorumNode {
        node_id [2+]: i32;
        listeners [2+]: Vec<QuorumListener>;
    }
    /// The state of the quorum.
    DescribeQuorumPartitionResponse {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        error_message [2+] null [2+]: Option<KafkaString>;
        leader_id [0+]: i32;
        leader_epoch [0+]: i32;
        high_watermark [0+]: i64;
        current_voters [0+]: Vec<QuorumReplicaState>;
        observers [0+]: Vec<QuorumReplicaState>;
    }
    /// How far one member is.
    QuorumReplicaState {
        replica_id [0+]: i32;
        replica_directory_id [2+]: Uuid;
        log_end_offset [0+]: i64;
        last_fetch_timestamp [1+]: i64 = -1;
        last_caught_up_timestamp [1+]: i64 = -1;
    }
}
