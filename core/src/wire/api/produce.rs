//! Produce (key 0): appends one record batch for each partition.
//!
//! Source: Kafka protocol guide; Versions 0-2 are read only to be refused: librdkafka before 2.11.1 turns compression off unless
//! the range starts at 0. KIP-98, 467, 951, 516 (topic ids from 13).

use bytes::Bytes;

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    ProduceRequest versions [0-13] flexible [9] {
        transactional_id [3+] null [3+]: Option<KafkaString> = None;
        acks [0+]: i16;
        timeout_ms [0+]: i32;
        topic_data [0+]: Vec<TopicProduceData>;
    }
    /// The batches for one topic.
    TopicProduceData {
        name [0-12]: KafkaString;
        topic_id [13+]: Uuid;
        partition_data [0+]: Vec<PartitionProduceData>;
    }
    /// The batch for one partition; `records` holds exactly one from version 3 on.
    PartitionProduceData {
        index [0+]: i32;
        records [0+] null [0+]: Option<Bytes> = None;
    }
    /// The response.
    ProduceResponse versions [0-13] flexible [9] {
        responses [0+]: Vec<TopicProduceResponse>;
        throttle_time_ms [1+]: i32;
        node_endpoints [10+] tag 0: Vec<NodeEndpoint>;
    }
    /// The outcome for one topic.
    TopicProduceResponse {
        name [0-12]: KafkaString;
        topic_id [13+]: Uuid;
        partition_responses [0+]: Vec<PartitionProduceResponse>;
    }
    /// The outcome for one partition.
    PartitionProduceResponse {
        index [0+]: i32;
        error_code [0+]: i16;
        base_offset [0+]: i64;
        log_append_time_ms [2+]: i64 = -1;
        log_start_offset [5+]: i64 = -1;
        record_errors [8+]: Vec<BatchIndexAndErrorMessage>;
        error_message [8+] null [8+]: Option<KafkaString> = None;
        current_leader [10+] tag 0: LeaderIdAndEpoch;
    }
    /// One record of the batch that was refused, and why (KIP-467).
    BatchIndexAndErrorMessage {
        batch_index [8+]: i32;
        batch_index_error_message [8+] null [8+]: Option<KafkaString> = None;
    }
    /// Where the leader is, for a client that asked the wrong node (KIP-951).
    LeaderIdAndEpoch {
        leader_id [10+]: i32 = -1;
        leader_epoch [10+]: i32 = -1;
    }
    /// The address of a leader named in the response (KIP-951).
    NodeEndpoint {
        node_id [10+]: i32;
        host [10+]: KafkaString;
        port [10+]: i32;
        rack [10+] null [10+]: Option<KafkaString> = None;
    }
}
