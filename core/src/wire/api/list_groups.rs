//! `ListGroups` (key 16): tells the groups that this broker coordinates.
//!
//! Source: Kafka protocol guide; KIP-518 (states), 848 (types).

use crate::wire::string::KafkaString;

messages! {
    /// The request. An empty filter lets everything pass.
    ListGroupsRequest versions [0-5] flexible [3] {
        states_filter [4+]: Vec<KafkaString>;
        types_filter [5+]: Vec<KafkaString>;
    }
    /// The response.
    ListGroupsResponse versions [0-5] flexible [3] {
        throttle_time_ms [1+]: i32;
        error_code [0+]: i16;
        groups [0+]: Vec<ListedGroup>;
    }
    /// One group.
    ListedGroup {
        group_id [0+]: KafkaString;
        protocol_type [0+]: KafkaString;
        group_state [4+]: KafkaString;
        group_type [5+]: KafkaString;
    }
}
