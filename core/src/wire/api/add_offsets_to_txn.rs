//! `AddOffsetsToTxn` (key 25): takes the offsets of a group into a transaction.
//!
//! Source: Kafka protocol guide; KIP-98, 360 (`PRODUCER_FENCED` from v2), 890 (v4).

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    AddOffsetsToTxnRequest versions [0-4] flexible [3] {
        transactional_id [0+]: KafkaString;
        producer_id [0+]: i64;
        producer_epoch [0+]: i16;
        group_id [0+]: KafkaString;
    }
    /// The response.
    AddOffsetsToTxnResponse versions [0-4] flexible [3] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
    }
}
