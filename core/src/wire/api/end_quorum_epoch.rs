//! `EndQuorumEpoch` (key 54): a leader of the metadata quorum tells that it leads no more. Between nodes
//! only.
//!
//! Source: KIP-595, 853.

use crate::ids::Uuid;
use crate::wire::api::quorum_parts::{QuorumListener, QuorumNode};
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    EndQuorumEpochRequest versions [0-1] flexible [1] {
        cluster_id [0+] null [0+]: Option<KafkaString> = None;
        topics [0+]: Vec<EndQuorumEpochTopic>;
        leader_endpoints [1+]: Vec<QuorumListener>;
    }
    /// The topic of the log.
    EndQuorumEpochTopic {
        topic_name [0+]: KafkaString;
        partitions [0+]: Vec<EndQuorumEpochPartition>;
    }
    /// Who led, and who should be next, the best first.
    EndQuorumEpochPartition {
        partition_index [0+]: i32;
        leader_id [0+]: i32;
        leader_epoch [0+]: i32;
        preferred_successors [0]: Vec<i32>;
        preferred_candidates [1+]: Vec<ReplicaInfo>;
    }
    /// A voter that could be next.
    ReplicaInfo {
        candidate_id [1+]: i32;
        candidate_directory_id [1+]: Uuid;
    }
    /// The response.
    EndQuorumEpochResponse versions [0-1] flexible [1] {
        error_code [0+]: i16;
        topics [0+]: Vec<EndQuorumEpochTopicResponse>;
        node_endpoints [1+] tag 0: Vec<QuorumNode>;
    }
    /// The topic of the log.
    EndQuorumEpochTopicResponse {
        topic_name [0+]: KafkaString;
        partitions [0+]: Vec<EndQuorumEpochPartitionResponse>;
    }
    /// What the voter says.
    EndQuorumEpochPartitionResponse {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        leader_id [0+]: i32;
        leader_epoch [0+]: i32;
    }
}
