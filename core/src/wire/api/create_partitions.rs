//! `CreatePartitions` (key 37): adds partitions to topics.
//!
//! Source: Kafka protocol guide; KIP-195, 599.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    CreatePartitionsRequest versions [0-3] flexible [2] {
        topics [0+]: Vec<CreatePartitionsTopic>;
        timeout_ms [0+]: i32;
        validate_only [0+]: bool;
    }
    /// The partitions that one topic is to have; `count` is the total.
    CreatePartitionsTopic {
        name [0+]: KafkaString;
        count [0+]: i32;
        assignments [0+] null [0+]: Option<Vec<CreatePartitionsAssignment>>;
    }
    /// The replicas of one added partition.
    CreatePartitionsAssignment {
        broker_ids [0+]: Vec<i32>;
    }
    /// The response.
    CreatePartitionsResponse versions [0-3] flexible [2] {
        throttle_time_ms [0+]: i32;
        results [0+]: Vec<CreatePartitionsTopicResult>;
    }
    /// The outcome for one topic.
    CreatePartitionsTopicResult {
        name [0+]: KafkaString;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString> = None;
    }
}
