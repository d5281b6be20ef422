//! `AlterPartition` (key 56): the leader of a partition asks the controller for another in-sync set.
//! Between nodes only.
//!
//! Source: KIP-497, 704, 841, 903 (broker epochs).

use crate::ids::Uuid;

messages! {
    /// The request.
    AlterPartitionRequest versions [2-3] flexible [0] {
        broker_id [0+]: i32;
        broker_epoch [0+]: i64 = -1;
        topics [0+]: Vec<AlterPartitionTopic>;
    }
    /// Partitions of one topic.
    AlterPartitionTopic {
        topic_id [2+]: Uuid;
        partitions [0+]: Vec<AlterPartitionPartition>;
    }
    /// The set that is asked for.
    AlterPartitionPartition {
        partition_index [0+]: i32;
        leader_epoch [0+]: i32;
        new_isr [0-2]: Vec<i32>;
        new_isr_with_epochs [3+]: Vec<BrokerState>;
        leader_recovery_state [1+]: i8;
        partition_epoch [0+]: i32;
    }
    /// A member of the set, by its registration.
    BrokerState {
        broker_id [3+]: i32;
        broker_epoch [3+]: i64 = -1;
    }
    /// The response.
    AlterPartitionResponse versions [2-3] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        topics [0+]: Vec<AlterPartitionTopicResponse>;
    }
    /// Partitions of one topic.
    AlterPartitionTopicResponse {
        topic_id [2+]: Uuid;
        partitions [0+]: Vec<AlterPartitionPartitionResponse>;
    }
    /// The state of the partition after the request.
    AlterPartitionPartitionResponse {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        leader_id [0+]: i32;
        leader_epoch [0+]: i32;
        isr [0+]: Vec<i32>;
        leader_recovery_state [1+]: i8;
        partition_epoch [0+]: i32;
    }
}
