//! `UpdateFeatures` (key 57): settles features at levels.
//!
//! Source: Kafka protocol guide; KIP-584, 778, 1022.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    UpdateFeaturesRequest versions [0-2] flexible [0] {
        timeout_ms [0+]: i32 = 60_000;
        feature_updates [0+]: Vec<FeatureUpdate>;
        validate_only [1+]: bool;
    }
    /// One feature and its new level; 0 takes it away.
    FeatureUpdate {
        feature [0+]: KafkaString;
        max_version_level [0+]: i16;
        allow_downgrade [0]: bool;
        upgrade_type [1+]: i8 = 1;
    }
    /// The response.
    UpdateFeaturesResponse versions [0-2] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString>;
        results [0-1]: Vec<FeatureUpdateResult>;
    }
    /// What came of one feature.
    FeatureUpdateResult {
        feature [0+]: KafkaString;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString>;
    }
}
