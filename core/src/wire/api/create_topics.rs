//! `CreateTopics` (key 19).
//!
//! Source: Kafka protocol guide; KIP-4, 464, 516, 525, 599.

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    CreateTopicsRequest versions [2-7] flexible [5] {
        topics [0+]: Vec<CreatableTopic>;
        timeout_ms [0+]: i32 = 60000;
        validate_only [1+]: bool;
    }
    /// A topic to be made. -1 partitions or replicas mean the defaults.
    CreatableTopic {
        name [0+]: KafkaString;
        num_partitions [0+]: i32;
        replication_factor [0+]: i16;
        assignments [0+]: Vec<CreatableReplicaAssignment>;
        configs [0+]: Vec<CreatableTopicConfig>;
    }
    /// The replicas of one partition.
    CreatableReplicaAssignment {
        partition_index [0+]: i32;
        broker_ids [0+]: Vec<i32>;
    }
    /// One setting.
    CreatableTopicConfig {
        name [0+]: KafkaString;
        value [0+] null [0+]: Option<KafkaString>;
    }
    /// The response.
    CreateTopicsResponse versions [2-7] flexible [5] {
        throttle_time_ms [2+]: i32;
        topics [0+]: Vec<CreatableTopicResult>;
    }
    /// The outcome for one topic.
    CreatableTopicResult {
        name [0+]: KafkaString;
        topic_id [7+]: Uuid;
        error_code [0+]: i16;
        error_message [1+] null [0+]: Option<KafkaString>;
        num_partitions [5+]: i32 = -1;
        replication_factor [5+]: i16 = -1;
        configs [5+] null [5+]: Option<Vec<CreatableTopicConfigs>>;
        topic_config_error_code [5+] tag 0: i16;
    }
    /// One setting of the topic made, as `DescribeConfigs` would tell it (KIP-525).
    CreatableTopicConfigs {
        name [5+]: KafkaString;
        value [5+] null [5+]: Option<KafkaString>;
        read_only [5+]: bool;
        config_source [5+]: i8 = -1;
        is_sensitive [5+]: bool;
    }
}
