//! `DescribeCluster` (key 60).
//!
//! Source: Kafka protocol guide; KIP-700, 919.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DescribeClusterRequest versions [0-2] flexible [0] {
        include_cluster_authorized_operations [0+]: bool;
        endpoint_type [1+]: i8 = 1;
        include_fenced_brokers [2+]: bool;
    }
    /// The response.
    DescribeClusterResponse versions [0-2] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString> = None;
        endpoint_type [1+]: i8 = 1;
        cluster_id [0+]: KafkaString;
        controller_id [0+]: i32 = -1;
        brokers [0+]: Vec<DescribeClusterBroker>;
        cluster_authorized_operations [0+]: i32 = i32::MIN;
    }
    /// One broker.
    DescribeClusterBroker {
        broker_id [0+]: i32;
        host [0+]: KafkaString;
        port [0+]: i32;
        rack [0+] null [0+]: Option<KafkaString> = None;
        is_fenced [2+]: bool;
    }
}
