//! `DescribeProducers` (key 61): tells which producers a partition knows, and their open transactions.
//!
//! Source: Kafka protocol guide; KIP-664.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DescribeProducersRequest versions [0] flexible [0] {
        topics [0+]: Vec<DescribeProducersTopic>;
    }
    /// Partitions of one topic.
    DescribeProducersTopic {
        name [0+]: KafkaString;
        partition_indexes [0+]: Vec<i32>;
    }
    /// The response.
    DescribeProducersResponse versions [0] flexible [0] {
        throttle_time_ms [0+]: i32;
        topics [0+]: Vec<DescribedProducersTopic>;
    }
    /// The partitions of one topic.
    DescribedProducersTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<DescribedProducersPartition>;
    }
    /// The producers of one partition.
    DescribedProducersPartition {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString> = None;
        active_producers [0+]: Vec<DescribedProducer>;
    }
    /// One producer.
    DescribedProducer {
        producer_id [0+]: i64;
        producer_epoch [0+]: i32;
        last_sequence [0+]: i32 = -1;
        last_timestamp [0+]: i64 = -1;
        coordinator_epoch [0+]: i32;
        current_txn_start_offset [0+]: i64 = -1;
    }
}
