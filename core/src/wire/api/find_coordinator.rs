//! `FindCoordinator` (key 10): tells which broker coordinates a group or a transactional id.
//!
//! Source: Kafka protocol guide; KIP-98 (key types), 699 (several keys), 932 (share groups).

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    FindCoordinatorRequest versions [0-6] flexible [3] {
        key [0-3]: KafkaString;
        /// 0 for groups, 1 for transactional ids, 2 for share groups.
        key_type [1+]: i8;
        coordinator_keys [4+]: Vec<KafkaString>;
    }
    /// The response.
    FindCoordinatorResponse versions [0-6] flexible [3] {
        throttle_time_ms [1+]: i32;
        error_code [0-3]: i16;
        error_message [1-3] null [1-3]: Option<KafkaString>;
        node_id [0-3]: i32;
        host [0-3]: KafkaString;
        port [0-3]: i32;
        coordinators [4+]: Vec<Coordinator>;
    }
    /// The coordinator of one key.
    Coordinator {
        key [4+]: KafkaString;
        node_id [4+]: i32;
        host [4+]: KafkaString;
        port [4+]: i32;
        error_code [4+]: i16;
        error_message [4+] null [4+]: Option<KafkaString>;
    }
}
