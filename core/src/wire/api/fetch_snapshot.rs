//! `FetchSnapshot` (key 59): reads a piece of a snapshot of the metadata log. Between nodes only.
//!
//! Source: KIP-630, 853.

use bytes::Bytes;

use crate::ids::Uuid;
use crate::wire::api::quorum_parts::QuorumNode;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    FetchSnapshotRequest versions [0-1] flexible [0] {
        replica_id [0+]: i32 = -1;
        max_bytes [0+]: i32 = i32::MAX;
        topics [0+]: Vec<FetchSnapshotTopic>;
        cluster_id [0+] null [0+] tag 0: Option<KafkaString> = None;
    }
    /// The topic of the log.
    FetchSnapshotTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<FetchSnapshotPartition>;
    }
    /// Which snapshot, and from where in it.
    FetchSnapshotPartition {
        partition [0+]: i32;
        current_leader_epoch [0+]: i32;
        snapshot_id [0+]: FetchSnapshotId;
        position [0+]: i64;
        replica_directory_id [1+] tag 0: Uuid;
    }
    /// A snapshot: what it ends before.
    FetchSnapshotId {
        end_offset [0+]: i64;
        epoch [0+]: i32;
    }
    /// The response.
    FetchSnapshotResponse versions [0-1] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        topics [0+]: Vec<FetchSnapshotTopicResponse>;
        node_endpoints [1+] tag 0: Vec<QuorumNode>;
    }
    /// The topic of the log.
    FetchSnapshotTopicResponse {
        name [0+]: KafkaString;
        partitions [0+]: Vec<FetchSnapshotPartitionResponse>;
    }
    /// A piece of the snapshot.
    FetchSnapshotPartitionResponse {
        index [0+]: i32;
        error_code [0+]: i16;
        snapshot_id [0+]: FetchSnapshotId;
        size [0+]: i64;
        position [0+]: i64;
        unaligned_records [0+]: Bytes;
        current_leader [0+] tag 0: SnapshotLeader;
    }
    /// Who leads, for one that asked the wrong node.
    SnapshotLeader {
        leader_id [0+]: i32;
        leader_epoch [0+]: i32;
    }
}
