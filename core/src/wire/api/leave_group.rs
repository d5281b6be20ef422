//! `LeaveGroup` (key 13): members leave a group, or are removed from it.
//!
//! Source: Kafka protocol guide; KIP-345 (several members), 800 (reason).

use crate::wire::string::KafkaString;

messages! {
    /// The request. Up to version 2 it names one member, from 3 on several.
    LeaveGroupRequest versions [0-5] flexible [4] {
        group_id [0+]: KafkaString;
        member_id [0-2]: KafkaString;
        members [3+]: Vec<MemberIdentity>;
    }
    /// A member that leaves. A static one may be named by its instance id alone.
    MemberIdentity {
        member_id [3+]: KafkaString;
        group_instance_id [3+] null [3+]: Option<KafkaString> = None;
        reason [5+] null [5+]: Option<KafkaString> = None;
    }
    /// The response.
    LeaveGroupResponse versions [0-5] flexible [4] {
        throttle_time_ms [1+]: i32;
        error_code [0+]: i16;
        members [3+]: Vec<MemberResponse>;
    }
    /// The outcome for one member.
    MemberResponse {
        member_id [3+]: KafkaString;
        group_instance_id [3+] null [3+]: Option<KafkaString>;
        error_code [3+]: i16;
    }
}
