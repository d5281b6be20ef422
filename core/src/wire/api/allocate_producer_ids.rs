//! `AllocateProducerIds` (key 67): a broker asks the controller for a block of producer ids. Between nodes
//! only.
//!
//! Source: KIP-730.

messages! {
    /// The request.
    AllocateProducerIdsRequest versions [0] flexible [0] {
        broker_id [0+]: i32;
        broker_epoch [0+]: i64 = -1;
    }
    /// The response.
    AllocateProducerIdsResponse versions [0] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        producer_id_start [0+]: i64;
        producer_id_len [0+]: i32;
    }
}
