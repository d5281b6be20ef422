//! `DescribeTopicPartitions` (key 75): pages through the partitions of topics.
//!
//! Source: Kafka protocol guide; KIP-966.

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DescribeTopicPartitionsRequest versions [0] flexible [0] {
        topics [0+]: Vec<TopicRequest>;
        response_partition_limit [0+]: i32 = 2000;
        cursor [0+] null [0+]: Option<Cursor> = None;
    }
    /// A topic asked about.
    TopicRequest {
        name [0+]: KafkaString;
    }
    /// Where a page begins.
    Cursor {
        topic_name [0+]: KafkaString;
        partition_index [0+]: i32;
    }
    /// The response.
    DescribeTopicPartitionsResponse versions [0] flexible [0] {
        throttle_time_ms [0+]: i32;
        topics [0+]: Vec<DescribeTopicPartitionsResponseTopic>;
        next_cursor [0+] null [0+]: Option<Cursor> = None;
    }
    /// One topic.
    DescribeTopicPartitionsResponseTopic {
        error_code [0+]: i16;
        name [0+] null [0+]: Option<KafkaString>;
        topic_id [0+]: Uuid;
        is_internal [0+]: bool;
        partitions [0+]: Vec<DescribeTopicPartitionsResponsePartition>;
        topic_authorized_operations [0+]: i32 = i32::MIN;
    }
    /// One partition.
    DescribeTopicPartitionsResponsePartition {
        error_code [0+]: i16;
        partition_index [0+]: i32;
        leader_id [0+]: i32;
        leader_epoch [0+]: i32 = -1;
        replica_nodes [0+]: Vec<i32>;
        isr_nodes [0+]: Vec<i32>;
        eligible_leader_replicas [0+] null [0+]: Option<Vec<i32>> = None;
        last_known_elr [0+] null [0+]: Option<Vec<i32>> = None;
        offline_replicas [0+]: Vec<i32>;
    }
}
