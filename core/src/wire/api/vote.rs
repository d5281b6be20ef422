//! `Vote` (key 52): asks a voter of the metadata quorum for its vote or pre-vote. Between nodes only.
//!
//! Source: KIP-595, 853 (directory ids), 996 (pre-vote).

use crate::ids::Uuid;
use crate::wire::api::quorum_parts::QuorumNode;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    VoteRequest versions [0-2] flexible [0] {
        cluster_id [0+] null [0+]: Option<KafkaString> = None;
        voter_id [1+]: i32 = -1;
        topics [0+]: Vec<VoteTopic>;
    }
    /// The topic of the log.
    VoteTopic {
        topic_name [0+]: KafkaString;
        partitions [0+]: Vec<VotePartition>;
    }
    /// Who asks whom, and how far its log goes.
    VotePartition {
        partition_index [0+]: i32;
        replica_epoch [0+]: i32;
        replica_id [0+]: i32;
        replica_directory_id [1+]: Uuid;
        voter_directory_id [1+]: Uuid;
        last_offset_epoch [0+]: i32;
        last_offset [0+]: i64;
        pre_vote [2+]: bool;
    }
    /// The response.
    VoteResponse versions [0-2] flexible [0] {
        error_code [0+]: i16;
        topics [0+]: Vec<VoteTopicResponse>;
        node_endpoints [1+] tag 0: Vec<QuorumNode>;
    }
    /// The topic of the log.
    VoteTopicResponse {
        topic_name [0+]: KafkaString;
        partitions [0+]: Vec<VotePartitionResponse>;
    }
    /// What the voter says.
    VotePartitionResponse {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        leader_id [0+]: i32;
        leader_epoch [0+]: i32;
        vote_granted [0+]: bool;
    }
}
