//! `DescribeGroups` (key 15): tells state and members of classic groups.
//!
//! Source: Kafka protocol guide; KIP-345, 430, 1043 (an unknown group is an error from v6).

use bytes::Bytes;

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DescribeGroupsRequest versions [0-6] flexible [5] {
        groups [0+]: Vec<KafkaString>;
        include_authorized_operations [3+]: bool;
    }
    /// The response.
    DescribeGroupsResponse versions [0-6] flexible [5] {
        throttle_time_ms [1+]: i32;
        groups [0+]: Vec<DescribedGroup>;
    }
    /// One group.
    DescribedGroup {
        error_code [0+]: i16;
        error_message [6+] null [6+]: Option<KafkaString> = None;
        group_id [0+]: KafkaString;
        group_state [0+]: KafkaString;
        protocol_type [0+]: KafkaString;
        protocol_data [0+]: KafkaString;
        members [0+]: Vec<DescribedGroupMember>;
        authorized_operations [3+]: i32 = i32::MIN;
    }
    /// One member.
    DescribedGroupMember {
        member_id [0+]: KafkaString;
        group_instance_id [4+] null [4+]: Option<KafkaString> = None;
        client_id [0+]: KafkaString;
        client_host [0+]: KafkaString;
        member_metadata [0+]: Bytes;
        member_assignment [0+]: Bytes;
    }
}
