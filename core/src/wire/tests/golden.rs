//! Every message that Apache Kafka's own classes wrote is read and written byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use crate::wire::json::Json;
use crate::wire::{ApiKey, DecodeError, Reader, Request, Response};

/// The lines of a file of golden data, unpacked where it is packed.
pub(crate) fn lines(name: &str) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name);
    let raw = std::fs::read(&path).expect("the golden data is part of the sources");
    let text = if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*raw).read_to_string(&mut text).expect("whole gzip");
        text
    } else {
        String::from_utf8(raw).expect("ASCII")
    };
    text.lines().map(|line| serde_json::from_str(line).expect("one JSON value a line")).collect()
}

/// The bytes that hexadecimal text stands for.
pub(crate) fn bytes_of(hex: &Json) -> Bytes {
    let digits = hex.as_str().expect("hexadecimal text").as_bytes();
    digits
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("ASCII");
            u8::from_str_radix(pair, 16).expect("hexadecimal digits")
        })
        .collect::<Vec<_>>()
        .into()
}

/// The body of a request or of a response.
#[derive(PartialEq, Debug)]
pub(super) enum Body {
    Request(Request),
    Response(Response),
}

/// What a line of golden data says about its message.
pub(super) struct Case {
    pub(super) api_key: ApiKey,
    pub(super) version: i16,
    is_request: bool,
    pub(super) name: String,
}

impl Case {
    pub(super) fn of(line: &Json) -> Self {
        let key = line["key"].as_i64().expect("a key") as i16;
        Self {
            api_key: ApiKey::from_key(key).expect("an API that is served"),
            version: line["version"].as_i64().expect("a version") as i16,
            is_request: line["kind"] == "request",
            name: format!("{} {} v{} {}", line["api"], line["kind"], line["version"], line["case"]),
        }
    }

    pub(super) fn decode(&self, reader: &mut Reader) -> Result<Body, DecodeError> {
        if self.is_request {
            Request::decode(self.api_key, self.version, reader).map(Body::Request)
        } else {
            Response::decode(self.api_key, self.version, reader).map(Body::Response)
        }
    }

    pub(super) fn build(&self, json: &Json) -> Body {
        if self.is_request {
            Body::Request(Request::from_json(self.api_key, self.version, json).expect("a request"))
        } else {
            Body::Response(
                Response::from_json(self.api_key, self.version, json).expect("a response"),
            )
        }
    }
}

impl Body {
    pub(super) fn to_json(&self, version: i16) -> Json {
        match self {
            Self::Request(body) => body.to_json(version),
            Self::Response(body) => body.to_json(version),
        }
    }

    pub(super) fn to_bytes(&self, version: i16) -> Bytes {
        match self {
            Self::Request(body) => body.to_bytes(version),
            Self::Response(body) => body.to_bytes(version),
        }
    }

    pub(super) fn size(&self, version: i16) -> usize {
        match self {
            Self::Request(body) => body.size(version),
            Self::Response(body) => body.size(version),
        }
    }
}

#[test]
fn bodies_of_kafkas_own_classes_are_read_and_written_byte_for_byte() {
    for line in lines("messages.jsonl.gz") {
        let case = Case::of(&line);
        let body = bytes_of(&line["body_hex"]);
        let mut reader = Reader::new(body.clone());

        let decoded =
            case.decode(&mut reader).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let built = case.build(&line["json"]);

        assert_eq!(reader.remaining(), 0, "{}", case.name);
        assert_eq!(decoded.to_json(case.version), line["json"], "{}", case.name);
        // Unknown tagged fields are skipped, not repeated.
        let expected = line.get("reencoded_hex").map_or(body, bytes_of);
        assert_eq!(built.to_bytes(case.version), expected, "{}", case.name);
        assert_eq!(built.size(case.version), expected.len(), "{}", case.name);
        assert_eq!(built, decoded, "{}", case.name);
    }
}

#[test]
fn no_strict_prefix_of_a_body_is_a_body() {
    for line in lines("messages.jsonl.gz") {
        let case = Case::of(&line);
        let body = bytes_of(&line["body_hex"]);
        // The records of large bodies are long runs of the same case: look at each edge only.
        let step = 1 + body.len() / 2_000;
        for end in (0..body.len()).step_by(step) {
            let cut = case.decode(&mut Reader::new(body.slice(..end)));
            assert!(cut.is_err(), "{} cut at {end}", case.name);
        }
    }
}

#[test]
fn the_golden_data_holds_every_version_that_is_decoded() {
    let mut seen: BTreeMap<(i16, bool), BTreeSet<i16>> = BTreeMap::new();
    for line in lines("messages.jsonl.gz") {
        let case = Case::of(&line);
        seen.entry((case.api_key.key(), case.is_request)).or_default().insert(case.version);
    }
    let of_kafka = ApiKey::ALL.iter().filter(|api| api.key() < ApiKey::FIRST_OWN_KEY);
    for &api in of_kafka {
        // Kafka has no classes for Produce 0-2, which are read only to be refused.
        let from = if api == ApiKey::Produce { 3 } else { api.min_version() };
        let decoded: BTreeSet<i16> = (from..=api.max_version()).collect();
        assert_eq!(seen[&(api.key(), true)], decoded, "{api:?} requests");
        assert_eq!(seen[&(api.key(), false)], decoded, "{api:?} responses");
    }
}

/// What Kafka's reader lets pass, and this one refuses on purpose: no client sends it, and each of
/// them is a value that two readers could take for two things.
const STRICTER_THAN_KAFKA: &[&str] = &[
    // Kafka takes any negative count for null.
    "count_minus_2",
    "count_min",
    // Kafka drops the bits beyond the 32nd.
    "varint_five_bytes_too_big",
    // Kafka takes tagged fields in any order, and the last of several.
    "tags_descending",
    "tag_repeated",
    "known_tag_twice",
    "known_tag_after_unknown",
    // Kafka reads a known tagged field by its type and ignores its size.
    "known_tag_size_too_small",
    "known_tag_size_too_large",
    // Kafka puts U+FFFD in the place of what is not UTF-8.
    "utf8_bad_continuation",
    "utf8_surrogate",
    "utf8_overlong",
    "utf8_lone_ff",
];

#[test]
fn what_kafka_refuses_is_refused_and_what_it_takes_is_read_alike() {
    let mut refused_on_purpose = BTreeSet::new();
    for line in lines("malformed.jsonl") {
        let case = Case::of(&line);
        let name = line["case"].as_str().expect("a name");
        let mut reader = Reader::new(bytes_of(&line["body_hex"]));

        let decoded = case.decode(&mut reader);

        if line["accepted"] == false {
            assert!(decoded.is_err(), "{}: {decoded:?}", case.name);
        } else if STRICTER_THAN_KAFKA.contains(&name) {
            assert!(decoded.is_err(), "{}: {decoded:?}", case.name);
            refused_on_purpose.insert(name.to_owned());
        } else {
            let decoded = decoded.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            assert_eq!(decoded.to_json(case.version), line["json"], "{}", case.name);
            assert_eq!(reader.remaining() as u64, line["left_over"].as_u64().expect("a count"));
        }
    }
    assert_eq!(refused_on_purpose.len(), STRICTER_THAN_KAFKA.len(), "{refused_on_purpose:?}");
}
