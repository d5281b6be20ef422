//! `Heartbeat` (key 12): a member of a classic group says that it lives.
//!
//! Source: Kafka protocol guide; KIP-62, 345.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    HeartbeatRequest versions [0-4] flexible [4] {
        group_id [0+]: KafkaString;
        generation_id [0+]: i32;
        member_id [0+]: KafkaString;
        group_instance_id [3+] null [3+]: Option<KafkaString> = None;
    }
    /// The response.
    HeartbeatResponse versions [0-4] flexible [4] {
        throttle_time_ms [1+]: i32;
        error_code [0+]: i16;
    }
}
