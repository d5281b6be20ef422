//! `AlterConfigs` (key 33): replaces all settings of a resource.
//!
//! Source: Kafka protocol guide; KIP-133.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    AlterConfigsRequest versions [0-2] flexible [2] {
        resources [0+]: Vec<AlterConfigsResource>;
        validate_only [0+]: bool;
    }
    /// What is to be changed in one resource.
    AlterConfigsResource {
        resource_type [0+]: i8;
        resource_name [0+]: KafkaString;
        configs [0+]: Vec<AlterableConfig>;
    }
    /// One setting.
    AlterableConfig {
        name [0+]: KafkaString;
        value [0+] null [0+]: Option<KafkaString>;
    }
    /// The response.
    AlterConfigsResponse versions [0-2] flexible [2] {
        throttle_time_ms [0+]: i32;
        responses [0+]: Vec<AlterConfigsResourceResponse>;
    }
    /// The outcome for one resource.
    AlterConfigsResourceResponse {
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString>;
        resource_type [0+]: i8;
        resource_name [0+]: KafkaString;
    }
}
