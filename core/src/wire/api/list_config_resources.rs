//! `ListConfigResources` (key 74): tells which resources have settings.
//!
//! Source: Kafka protocol guide; KIP-714 (client metrics, v0), 1142 (all types, v1).

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    ListConfigResourcesRequest versions [0-1] flexible [0] {
        /// Types asked about; none means all.
        resource_types [1+]: Vec<i8>;
    }
    /// The response.
    ListConfigResourcesResponse versions [0-1] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        config_resources [0+]: Vec<ConfigResource>;
    }
    /// One resource.
    ConfigResource {
        resource_name [0+]: KafkaString;
        resource_type [1+]: i8 = 16;
    }
}
