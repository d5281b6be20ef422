//! ApiVersions (key 18): what is served, at any time and to anyone (KIP-35, KIP-511, KIP-584).

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::metadata::features::FEATURES;
use crate::wire::api::api_versions::{
    ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::wire::{ApiKey, advertised};

impl Shard {
    pub(in crate::broker) fn on_api_versions(
        &mut self,
        ctx: RequestContext,
        request: &ApiVersionsRequest,
    ) {
        let names = [&request.client_software_name, &request.client_software_version];
        if ctx.version >= 3 && !names.into_iter().all(|name| is_software_word(name)) {
            let response = ApiVersionsResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                ..ApiVersionsResponse::default()
            };
            return self.respond(&ctx, response);
        }
        let api_keys = advertised(self.is_for_peers(ctx.listener));
        let mut response = ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() };
        if ctx.version >= 3 {
            // Old clients fail on features that begin at 0 (KAFKA-17011).
            let told = FEATURES.into_iter().filter(|it| it.min > 0 || ctx.version >= 4);
            response.supported_features = told
                .map(|feature| SupportedFeatureKey {
                    name: feature.name.into(),
                    min_version: feature.min,
                    max_version: feature.max,
                })
                .collect();
            // Our own APIs, which are not among the keys.
            response.supported_features.push(SupportedFeatureKey {
                name: ApiKey::OWN_FEATURE.into(),
                min_version: 1,
                max_version: 1,
            });
            let finalized = self.image.features().map(|(name, level)| FinalizedFeatureKey {
                name: name.into(),
                max_version_level: level,
                min_version_level: level,
            });
            response.finalized_features = finalized.collect();
            response.finalized_features_epoch = self.image.end_offset().0 - 1;
        }
        self.respond(&ctx, response);
    }
}

/// Kafka's rule: letters, digits, dots and dashes, of which dots and dashes at no end.
fn is_software_word(word: &str) -> bool {
    let bytes = word.as_bytes();
    let is_inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let is_end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_words_are_those_of_kafka() {
        for good in ["a", "apache-kafka-java", "librdkafka", "2.0.2", "a.-b"] {
            assert!(is_software_word(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "a_b", "\u{e4}"] {
            assert!(!is_software_word(bad), "{bad}");
        }
    }
}
