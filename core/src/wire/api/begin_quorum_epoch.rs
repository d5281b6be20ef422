//! `BeginQuorumEpoch` (key 53): a leader of the metadata quorum tells a voter that it leads. Between nodes
//! only.
//!
//! Source: KIP-595, 853.

use crate::ids::Uuid;
use crate::wire::api::quorum_parts::{QuorumListener, QuorumNode};
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    BeginQuorumEpochRequest versions [0-1] flexible [1] {
        cluster_id [0+] null [0+]: Option<KafkaString> = None;
        voter_id [1+]: i32 = -1;
        topics [0+]: Vec<BeginQuorumEpochTopic>;
        leader_endpoints [1+]: Vec<QuorumListener>;
    }
    /// The topic of the log.
    BeginQuorumEpochTopic {
        topic_name [0+]: KafkaString;
        partitions [0+]: Vec<BeginQuorumEpochPartition>;
    }
    /// Who leads, and who is told.
    BeginQuorumEpochPartition {
        partition_index [0+]: i32;
        voter_directory_id [1+]: Uuid;
        leader_id [0+]: i32;
        leader_epoch [0+]: i32;
    }
    /// The response.
    BeginQuorumEpochResponse versions [0-1] flexible [1] {
        error_code [0+]: i16;
        topics [0+]: Vec<BeginQuorumEpochTopicResponse>;
        node_endpoints [1+] tag 0: Vec<QuorumNode>;
    }
    /// The topic of the log.
    BeginQuorumEpochTopicResponse {
        topic_name [0+]: KafkaString;
        partitions [0+]: Vec<BeginQuorumEpochPartitionResponse>;
    }
    /// What the voter says.
    BeginQuorumEpochPartitionResponse {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        leader_id [0+]: i32;
        leader_epoch [0+]: i32;
    }
}
