//! `DeleteGroups` (key 42): deletes groups without members, with their offsets.
//!
//! Source: Kafka protocol guide; KIP-229.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DeleteGroupsRequest versions [0-2] flexible [2] {
        groups_names [0+]: Vec<KafkaString>;
    }
    /// The response.
    DeleteGroupsResponse versions [0-2] flexible [2] {
        throttle_time_ms [0+]: i32;
        results [0+]: Vec<DeletableGroupResult>;
    }
    /// The outcome for one group.
    DeletableGroupResult {
        group_id [0+]: KafkaString;
        error_code [0+]: i16;
    }
}
