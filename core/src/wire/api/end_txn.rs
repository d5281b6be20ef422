//! `EndTxn` (key 26): commits or aborts a transaction.
//!
//! Source: Kafka protocol guide; KIP-98, 360 (`PRODUCER_FENCED` from v2), 890 (v4; v5 gives the producer
//! its next epoch).

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    EndTxnRequest versions [0-5] flexible [3] {
        transactional_id [0+]: KafkaString;
        producer_id [0+]: i64;
        producer_epoch [0+]: i16;
        committed [0+]: bool;
    }
    /// The response.
    EndTxnResponse versions [0-5] flexible [3] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        producer_id [5+]: i64 = -1;
        producer_epoch [5+]: i16 = -1;
    }
}
