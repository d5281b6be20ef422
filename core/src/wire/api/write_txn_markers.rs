//! `WriteTxnMarkers` (key 27): a transaction coordinator ends transactions in partitions.
//!
//! Source: Kafka protocol guide; KIP-98, 1228 (v2).

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    WriteTxnMarkersRequest versions [1-2] flexible [1] {
        markers [0+]: Vec<WritableTxnMarker>;
    }
    /// One marker, for some partitions.
    WritableTxnMarker {
        producer_id [0+]: i64;
        producer_epoch [0+]: i16;
        /// Whether the transaction is committed, else aborted.
        transaction_result [0+]: bool;
        topics [0+]: Vec<WritableTxnMarkerTopic>;
        /// Epoch of the partition of `__transaction_state` that decided.
        coordinator_epoch [0+]: i32;
        /// From 2 on the epoch of the marker is above that of the records (KIP-890).
        transaction_version [2+]: i8;
    }
    /// Partitions of one topic.
    WritableTxnMarkerTopic {
        name [0+]: KafkaString;
        partition_indexes [0+]: Vec<i32>;
    }
    /// The response.
    WriteTxnMarkersResponse versions [1-2] flexible [1] {
        markers [0+]: Vec<WritableTxnMarkerResult>;
    }
    /// The outcome of one marker.
    WritableTxnMarkerResult {
        producer_id [0+]: i64;
        topics [0+]: Vec<WritableTxnMarkerTopicResult>;
    }
    /// The outcome in one topic.
    WritableTxnMarkerTopicResult {
        name [0+]: KafkaString;
        partitions [0+]: Vec<WritableTxnMarkerPartitionResult>;
    }
    /// The outcome in one partition.
    WritableTxnMarkerPartitionResult {
        partition_index [0+]: i32;
        error_code [0+]: i16;
    }
}
