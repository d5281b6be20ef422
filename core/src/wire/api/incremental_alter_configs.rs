//! `IncrementalAlterConfigs` (key 44): changes single settings of a resource.
//!
//! Source: Kafka protocol guide; KIP-339. Operations: 0 set, 1 delete, 2 append, 3 subtract.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    IncrementalAlterConfigsRequest versions [0-1] flexible [1] {
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
        config_operation [0+]: i8;
        value [0+] null [0+]: Option<KafkaString>;
    }
    /// The response.
    IncrementalAlterConfigsResponse versions [0-1] flexible [1] {
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
