//! `JoinGroup` (key 11): a member enters a round of a classic group.
//!
//! Source: Kafka protocol guide; KIP-62, 345 (static members), 394 (member ids), 559, 800, 814.

use bytes::Bytes;

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    JoinGroupRequest versions [0-9] flexible [6] {
        group_id [0+]: KafkaString;
        session_timeout_ms [0+]: i32;
        rebalance_timeout_ms [1+]: i32 = -1;
        member_id [0+]: KafkaString;
        group_instance_id [5+] null [5+]: Option<KafkaString> = None;
        protocol_type [0+]: KafkaString;
        protocols [0+]: Vec<JoinGroupRequestProtocol>;
        reason [8+] null [8+]: Option<KafkaString> = None;
    }
    /// A protocol that the member speaks, in its order of preference.
    JoinGroupRequestProtocol {
        name [0+]: KafkaString;
        metadata [0+]: Bytes;
    }
    /// The response.
    JoinGroupResponse versions [0-9] flexible [6] {
        throttle_time_ms [2+]: i32;
        error_code [0+]: i16;
        generation_id [0+]: i32 = -1;
        protocol_type [7+] null [7+]: Option<KafkaString> = None;
        protocol_name [0+] null [7+]: Option<KafkaString>;
        leader [0+]: KafkaString;
        skip_assignment [9+]: bool;
        member_id [0+]: KafkaString;
        members [0+]: Vec<JoinGroupResponseMember>;
    }
    /// A member of the group, told to its leader alone.
    JoinGroupResponseMember {
        member_id [0+]: KafkaString;
        group_instance_id [5+] null [5+]: Option<KafkaString> = None;
        metadata [0+]: Bytes;
    }
}
