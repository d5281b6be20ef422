//! Fetch (key 1): reads record batches from partitions.
//!
//! Source: Kafka protocol guide; KIP-74, 98, 227 (sessions), 320, 392, 516 (topic ids from 13),
//! 595, 903, 951.

use crate::ids::Uuid;
use crate::wire::parts::Parts;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    FetchRequest versions [4-18] flexible [12] {
        replica_id [0-14]: i32 = -1;
        max_wait_ms [0+]: i32;
        min_bytes [0+]: i32;
        max_bytes [3+]: i32 = i32::MAX;
        isolation_level [4+]: i8;
        session_id [7+]: i32;
        session_epoch [7+]: i32 = -1;
        topics [0+]: Vec<FetchTopic>;
        forgotten_topics_data [7+]: Vec<ForgottenTopic>;
        rack_id [11+]: KafkaString;
        cluster_id [12+] null [12+] tag 0: Option<KafkaString> = None;
        replica_state [15+] tag 1: ReplicaState;
    }
    /// Which follower asks, and its epoch (KIP-903).
    ReplicaState {
        replica_id [15+]: i32 = -1;
        replica_epoch [15+]: i64 = -1;
    }
    /// What is to be read of one topic.
    FetchTopic {
        topic [0-12]: KafkaString;
        topic_id [13+]: Uuid;
        partitions [0+]: Vec<FetchPartition>;
    }
    /// What is to be read of one partition.
    FetchPartition {
        partition [0+]: i32;
        current_leader_epoch [9+]: i32 = -1;
        fetch_offset [0+]: i64;
        last_fetched_epoch [12+]: i32 = -1;
        log_start_offset [5+]: i64 = -1;
        partition_max_bytes [0+]: i32;
        replica_directory_id [17+] tag 0: Uuid;
        high_watermark [18+] tag 1: i64 = i64::MAX;
    }
    /// Partitions to be taken out of the session (KIP-227).
    ForgottenTopic {
        topic [7-12]: KafkaString;
        topic_id [13+]: Uuid;
        partitions [7+]: Vec<i32>;
    }
    /// The response.
    FetchResponse versions [4-18] flexible [12] {
        throttle_time_ms [1+]: i32;
        error_code [7+]: i16;
        session_id [7+]: i32;
        responses [0+]: Vec<FetchableTopicResponse>;
        node_endpoints [16+] tag 0: Vec<NodeEndpoint>;
    }
    /// What was read of one topic.
    FetchableTopicResponse {
        topic [0-12]: KafkaString;
        topic_id [13+]: Uuid;
        partitions [0+]: Vec<PartitionData>;
    }
    /// What was read of one partition.
    PartitionData {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        high_watermark [0+]: i64;
        last_stable_offset [4+]: i64 = -1;
        log_start_offset [5+]: i64 = -1;
        aborted_transactions [4+] null [4+]: Option<Vec<AbortedTransaction>>;
        preferred_read_replica [11+]: i32 = -1;
        records [0+] null [0+]: Option<Parts> = None;
        diverging_epoch [12+] tag 0: EpochEndOffset;
        current_leader [12+] tag 1: LeaderIdAndEpoch;
        snapshot_id [12+] tag 2: SnapshotId;
    }
    /// Where the log of the leader parts from that of the follower (KIP-320).
    EpochEndOffset {
        epoch [12+]: i32 = -1;
        end_offset [12+]: i64 = -1;
    }
    /// Where the leader is, for a client that asked the wrong node (KIP-951).
    LeaderIdAndEpoch {
        leader_id [12+]: i32 = -1;
        leader_epoch [12+]: i32 = -1;
    }
    /// The snapshot that a follower must fetch first (KIP-630).
    SnapshotId {
        end_offset [0+]: i64 = -1;
        epoch [0+]: i32 = -1;
    }
    /// A transaction that overlaps the records read and was aborted.
    AbortedTransaction {
        producer_id [4+]: i64;
        first_offset [4+]: i64;
    }
    /// The address of a leader named in the response (KIP-951).
    NodeEndpoint {
        node_id [16+]: i32;
        host [16+]: KafkaString;
        port [16+]: i32;
        rack [16+] null [16+]: Option<KafkaString> = None;
    }
}
