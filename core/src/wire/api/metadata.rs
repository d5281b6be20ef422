//! Metadata (key 3): tells brokers, topics, partitions and their leaders.
//!
//! Source: Kafka protocol guide; KIP-4, 430, 516, 700, 1102.

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    MetadataRequest versions [0-13] flexible [9] {
        topics [0+] null [1+]: Option<Vec<MetadataRequestTopic>>;
        allow_auto_topic_creation [4+]: bool = true;
        include_cluster_authorized_operations [8-10]: bool;
        include_topic_authorized_operations [8+]: bool;
    }
    /// A topic asked about, by name or by id.
    MetadataRequestTopic {
        topic_id [10+]: Uuid;
        name [0+] null [10+]: Option<KafkaString>;
    }
    /// The response.
    MetadataResponse versions [0-13] flexible [9] {
        throttle_time_ms [3+]: i32;
        brokers [0+]: Vec<MetadataResponseBroker>;
        cluster_id [2+] null [2+]: Option<KafkaString> = None;
        controller_id [1+]: i32 = -1;
        topics [0+]: Vec<MetadataResponseTopic>;
        cluster_authorized_operations [8-10]: i32 = i32::MIN;
        error_code [13+]: i16;
    }
    /// One broker, with the address advertised by the listener that was asked.
    MetadataResponseBroker {
        node_id [0+]: i32;
        host [0+]: KafkaString;
        port [0+]: i32;
        rack [1+] null [1+]: Option<KafkaString> = None;
    }
    /// One topic.
    MetadataResponseTopic {
        error_code [0+]: i16;
        name [0+] null [12+]: Option<KafkaString>;
        topic_id [10+]: Uuid;
        is_internal [1+]: bool;
        partitions [0+]: Vec<MetadataResponsePartition>;
        topic_authorized_operations [8+]: i32 = i32::MIN;
    }
    /// One partition.
    MetadataResponsePartition {
        error_code [0+]: i16;
        partition_index [0+]: i32;
        leader_id [0+]: i32;
        leader_epoch [7+]: i32 = -1;
        replica_nodes [0+]: Vec<i32>;
        isr_nodes [0+]: Vec<i32>;
        offline_replicas [5+]: Vec<i32>;
    }
}
