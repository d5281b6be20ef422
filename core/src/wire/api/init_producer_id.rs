//! `InitProducerId` (key 22): hands out producer ids and fences older producers.
//!
//! Source: Kafka protocol guide; KIP-98, 360, 890.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    InitProducerIdRequest versions [0-5] flexible [2] {
        transactional_id [0+] null [0+]: Option<KafkaString>;
        transaction_timeout_ms [0+]: i32;
        producer_id [3+]: i64 = -1;
        producer_epoch [3+]: i16 = -1;
    }
    /// The response.
    InitProducerIdResponse versions [0-5] flexible [2] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        producer_id [0+]: i64 = -1;
        producer_epoch [0+]: i16;
    }
}
