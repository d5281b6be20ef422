//! `DeleteTopics` (key 20), by name and from version 6 by id.
//!
//! Source: Kafka protocol guide; KIP-4, 516, 599.

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DeleteTopicsRequest versions [1-6] flexible [4] {
        topics [6+]: Vec<DeleteTopicState>;
        topic_names [0-5]: Vec<KafkaString>;
        timeout_ms [0+]: i32;
    }
    /// A topic to be deleted, by name or by id.
    DeleteTopicState {
        name [6+] null [6+]: Option<KafkaString> = None;
        topic_id [6+]: Uuid;
    }
    /// The response.
    DeleteTopicsResponse versions [1-6] flexible [4] {
        throttle_time_ms [1+]: i32;
        responses [0+]: Vec<DeletableTopicResult>;
    }
    /// The outcome for one topic.
    DeletableTopicResult {
        name [0+] null [6+]: Option<KafkaString>;
        topic_id [6+]: Uuid;
        error_code [0+]: i16;
        error_message [5+] null [5+]: Option<KafkaString> = None;
    }
}
