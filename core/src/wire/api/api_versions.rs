//! `ApiVersions` (key 18): tells which APIs, versions and features are served.
//!
//! Source: Kafka protocol guide; KIP-35, 511, 584. The response header of this API never has tagged fields.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    ApiVersionsRequest versions [0-4] flexible [3] {
        client_software_name [3+]: KafkaString;
        client_software_version [3+]: KafkaString;
    }
    /// The response.
    ApiVersionsResponse versions [0-4] flexible [3] {
        error_code [0+]: i16;
        api_keys [0+]: Vec<ApiVersion>;
        throttle_time_ms [1+]: i32;
        supported_features [3+] tag 0: Vec<SupportedFeatureKey>;
        finalized_features_epoch [3+] tag 1: i64 = -1;
        finalized_features [3+] tag 2: Vec<FinalizedFeatureKey>;
        zk_migration_ready [3+] tag 3: bool;
    }
    /// One API and the range of its versions.
    ApiVersion {
        api_key [0+]: i16;
        min_version [0+]: i16;
        max_version [0+]: i16;
    }
    /// A feature and the levels that this broker could serve.
    SupportedFeatureKey {
        name [3+]: KafkaString;
        min_version [3+]: i16;
        max_version [3+]: i16;
    }
    /// A feature and the levels that the cluster has settled on.
    FinalizedFeatureKey {
        name [3+]: KafkaString;
        max_version_level [3+]: i16;
        min_version_level [3+]: i16;
    }
}
