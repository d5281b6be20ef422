//! `AddPartitionsToTxn` (key 24): takes partitions into transactions, or asks whether they are in.
//!
//! Clients send versions 0 to 3, for one transaction; brokers send the later ones, for many.
//!
//! Source: Kafka protocol guide; KIP-98, 360 (`PRODUCER_FENCED` from v2), 890 (v4 and v5).

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    AddPartitionsToTxnRequest versions [0-5] flexible [3] {
        transactions [4+]: Vec<AddPartitionsToTxnTransaction>;
        v3_and_below_transactional_id [0-3]: KafkaString;
        v3_and_below_producer_id [0-3]: i64;
        v3_and_below_producer_epoch [0-3]: i16;
        v3_and_below_topics [0-3]: Vec<AddPartitionsToTxnTopic>;
    }
    /// One transaction.
    AddPartitionsToTxnTransaction {
        transactional_id [0+]: KafkaString;
        producer_id [0+]: i64;
        producer_epoch [0+]: i16;
        /// Whether nothing is to be added.
        verify_only [0+]: bool;
        topics [0+]: Vec<AddPartitionsToTxnTopic>;
    }
    /// Partitions of one topic.
    AddPartitionsToTxnTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<i32>;
    }
    /// The response.
    AddPartitionsToTxnResponse versions [0-5] flexible [3] {
        throttle_time_ms [0+]: i32;
        error_code [4+]: i16;
        results_by_transaction [4+]: Vec<AddPartitionsToTxnResult>;
        results_by_topic_v3_and_below [0-3]: Vec<AddPartitionsToTxnTopicResult>;
    }
    /// The outcome for one transaction.
    AddPartitionsToTxnResult {
        transactional_id [0+]: KafkaString;
        topic_results [0+]: Vec<AddPartitionsToTxnTopicResult>;
    }
    /// The outcome for partitions of one topic.
    AddPartitionsToTxnTopicResult {
        name [0+]: KafkaString;
        results_by_partition [0+]: Vec<AddPartitionsToTxnPartitionResult>;
    }
    /// The outcome for one partition.
    AddPartitionsToTxnPartitionResult {
        partition_index [0+]: i32;
        partition_error_code [0+]: i16;
    }
}
