//! `DescribeConfigs` (key 32).
//!
//! Source: Kafka protocol guide; KIP-133, 226, 569.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DescribeConfigsRequest versions [1-4] flexible [4] {
        resources [0+]: Vec<DescribeConfigsResource>;
        include_synonyms [1+]: bool;
        include_documentation [3+]: bool;
    }
    /// A resource asked about; null keys mean all.
    DescribeConfigsResource {
        resource_type [0+]: i8;
        resource_name [0+]: KafkaString;
        configuration_keys [0+] null [0+]: Option<Vec<KafkaString>>;
    }
    /// The response.
    DescribeConfigsResponse versions [1-4] flexible [4] {
        throttle_time_ms [0+]: i32;
        results [0+]: Vec<DescribeConfigsResult>;
    }
    /// The settings of one resource.
    DescribeConfigsResult {
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString>;
        resource_type [0+]: i8;
        resource_name [0+]: KafkaString;
        configs [0+]: Vec<DescribeConfigsResourceResult>;
    }
    /// One setting.
    DescribeConfigsResourceResult {
        name [0+]: KafkaString;
        value [0+] null [0+]: Option<KafkaString>;
        read_only [0+]: bool;
        config_source [1+]: i8 = -1;
        is_sensitive [0+]: bool;
        synonyms [1+]: Vec<DescribeConfigsSynonym>;
        config_type [3+]: i8;
        documentation [3+] null [0+]: Option<KafkaString>;
    }
    /// A place that a setting could come from, in order of precedence.
    DescribeConfigsSynonym {
        name [1+]: KafkaString;
        value [1+] null [0+]: Option<KafkaString>;
        source [1+]: i8;
    }
}
