//! `SyncGroup` (key 14): the leader hands out the assignment of a round, members get theirs.
//!
//! Source: Kafka protocol guide; KIP-62, 345, 559.

use bytes::Bytes;

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    SyncGroupRequest versions [0-5] flexible [4] {
        group_id [0+]: KafkaString;
        generation_id [0+]: i32;
        member_id [0+]: KafkaString;
        group_instance_id [3+] null [3+]: Option<KafkaString> = None;
        protocol_type [5+] null [5+]: Option<KafkaString> = None;
        protocol_name [5+] null [5+]: Option<KafkaString> = None;
        assignments [0+]: Vec<SyncGroupRequestAssignment>;
    }
    /// What one member is assigned.
    SyncGroupRequestAssignment {
        member_id [0+]: KafkaString;
        assignment [0+]: Bytes;
    }
    /// The response.
    SyncGroupResponse versions [0-5] flexible [4] {
        throttle_time_ms [1+]: i32;
        error_code [0+]: i16;
        protocol_type [5+] null [5+]: Option<KafkaString> = None;
        protocol_name [5+] null [5+]: Option<KafkaString> = None;
        assignment [0+]: Bytes;
    }
}
