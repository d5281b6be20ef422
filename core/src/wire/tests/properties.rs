//! Properties of every message in every version.

use proptest::prelude::*;

use super::entropy::Entropy;
use crate::wire::json::{base64, parse_base64};
use crate::wire::{ApiKey, Reader, Request, Response};

fn versions(api: ApiKey) -> impl Iterator<Item = i16> {
    api.min_version()..=api.max_version()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_read_as_it_was_written(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for &api in ApiKey::ALL {
            for version in versions(api) {
                let request = Request::arbitrary(api, version, &mut Entropy::new(bytes.clone()));
                let encoded = request.to_bytes(version);
                let mut reader = Reader::new(encoded.clone());

                let decoded = Request::decode(api, version, &mut reader);

                prop_assert_eq!(reader.remaining(), 0);
                prop_assert_eq!(request.size(version), encoded.len());
                prop_assert_eq!(decoded, Ok(request));
            }
        }
    }

    #[test]
    fn every_response_is_read_as_it_was_written(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for &api in ApiKey::ALL {
            for version in versions(api) {
                let response = Response::arbitrary(api, version, &mut Entropy::new(bytes.clone()));
                let encoded = response.to_bytes(version);
                let mut reader = Reader::new(encoded.clone());

                let decoded = Response::decode(api, version, &mut reader);

                prop_assert_eq!(reader.remaining(), 0);
                prop_assert_eq!(response.size(version), encoded.len());
                prop_assert_eq!(&decoded, &Ok(response.clone()));
                let json = response.to_json(version);
                prop_assert_eq!(Response::from_json(api, version, &json), Ok(response));
            }
        }
    }

    #[test]
    fn a_request_with_a_changed_byte_is_decoded_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        for &api in ApiKey::ALL {
            let version = api.max_version();
            let request = Request::arbitrary(api, version, &mut Entropy::new(bytes.clone()));
            let mut encoded = request.to_bytes(version).to_vec();
            if encoded.is_empty() {
                continue;
            }
            let at = at.index(encoded.len());
            encoded[at] = value;
            // Whatever it is read as can be written again.
            if let Ok(decoded) = Request::decode(api, version, &mut Reader::new(encoded.into())) {
                prop_assert_eq!(decoded.to_bytes(version).len(), decoded.size(version));
            }
        }
    }

    #[test]
    fn base64_is_read_as_it_was_written(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(parse_base64(&base64(&bytes)), Some(bytes));
    }
}
