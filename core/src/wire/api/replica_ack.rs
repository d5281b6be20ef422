//! `ReplicaAck` (key 31001): a follower tells a leader how far its logs are durable. Ours; Kafka has none.
//!
//! One-way: it is never answered, so that a parked fetch holds no acknowledgement back.

use crate::ids::Uuid;

messages! {
    /// The request.
    ReplicaAckRequest versions [0] flexible [0] {
        /// The follower.
        node_id [0+]: i32;
        /// Which registration of the follower speaks; what an older one had may be gone.
        broker_epoch [0+]: i64 = -1;
        topics [0+]: Vec<ReplicaAckTopic>;
    }
    /// Partitions of one topic.
    ReplicaAckTopic {
        topic_id [0+]: Uuid;
        partitions [0+]: Vec<ReplicaAckPartition>;
    }
    /// How far one partition is.
    ReplicaAckPartition {
        partition [0+]: i32;
        /// The epoch of the leader that the follower follows.
        leader_epoch [0+]: i32;
        /// Every record below is durable at the follower.
        stable_offset [0+]: i64;
    }
    /// The type of an answer that is never sent.
    ReplicaAckResponse versions [0] flexible [0] {}
}
