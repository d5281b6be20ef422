//! `OffsetFetch` (key 9): tells the offsets that groups have stored.
//!
//! Source: Kafka protocol guide; KIP-88, 447 (`require_stable`), 709 (several groups), 848.

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request. Up to version 7 it asks for one group, from 8 on for several.
    OffsetFetchRequest versions [1-10] flexible [6] {
        group_id [0-7]: KafkaString;
        topics [0-7] null [2-7]: Option<Vec<OffsetFetchRequestTopic>>;
        groups [8+]: Vec<OffsetFetchRequestGroup>;
        require_stable [7+]: bool;
    }
    /// A topic asked about, up to version 7.
    OffsetFetchRequestTopic {
        name [0-7]: KafkaString;
        partition_indexes [0-7]: Vec<i32>;
    }
    /// A group asked about. Null topics are all of which it has offsets.
    OffsetFetchRequestGroup {
        group_id [8+]: KafkaString;
        member_id [9+] null [9+]: Option<KafkaString> = None;
        member_epoch [9+]: i32 = -1;
        topics [8+] null [8+]: Option<Vec<OffsetFetchRequestTopics>>;
    }
    /// A topic asked about.
    OffsetFetchRequestTopics {
        name [8-9]: KafkaString;
        topic_id [10+]: Uuid;
        partition_indexes [8+]: Vec<i32>;
    }
    /// The response.
    OffsetFetchResponse versions [1-10] flexible [6] {
        throttle_time_ms [3+]: i32;
        topics [0-7]: Vec<OffsetFetchResponseTopic>;
        error_code [2-7]: i16;
        groups [8+]: Vec<OffsetFetchResponseGroup>;
    }
    /// Offsets of one topic, up to version 7.
    OffsetFetchResponseTopic {
        name [0-7]: KafkaString;
        partitions [0-7]: Vec<OffsetFetchResponsePartition>;
    }
    /// The offset of one partition, up to version 7.
    OffsetFetchResponsePartition {
        partition_index [0-7]: i32;
        committed_offset [0-7]: i64;
        committed_leader_epoch [5-7]: i32 = -1;
        metadata [0-7] null [0-7]: Option<KafkaString>;
        error_code [0-7]: i16;
    }
    /// Offsets of one group.
    OffsetFetchResponseGroup {
        group_id [8+]: KafkaString;
        topics [8+]: Vec<OffsetFetchResponseTopics>;
        error_code [8+]: i16;
    }
    /// Offsets of one topic.
    OffsetFetchResponseTopics {
        name [8-9]: KafkaString;
        topic_id [10+]: Uuid;
        partitions [8+]: Vec<OffsetFetchResponsePartitions>;
    }
    /// The offset of one partition.
    OffsetFetchResponsePartitions {
        partition_index [8+]: i32;
        committed_offset [8+]: i64;
        committed_leader_epoch [8+]: i32 = -1;
        metadata [8+] null [8+]: Option<KafkaString>;
        error_code [8+]: i16;
    }
}
