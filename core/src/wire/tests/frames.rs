//! Whole frames: headers of both versions, sizes, and the byte-exact rules of `ApiVersions`.

use bytes::Bytes;

use super::golden::{Body, Case, bytes_of, lines};
use crate::wire::api::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use crate::wire::api::produce::ProduceRequest;
use crate::wire::header::{RequestHeader, decode_response_header};
use crate::wire::writer::{Sink, Writer};
use crate::wire::{
    ApiKey, KafkaString, Message, Reader, Request, advertised, frame_request, frame_response,
    unsupported_api_versions,
};

/// The frame without its size, after a check that the size is right.
fn unframed(frame: &Bytes) -> Bytes {
    let mut size = [0; 4];
    size.copy_from_slice(&frame[..4]);
    assert_eq!(i32::from_be_bytes(size) as usize, frame.len() - 4);
    frame.slice(4..)
}

#[test]
fn request_frames_of_kafkas_own_classes_are_read_and_written_byte_for_byte() {
    let mut seen = 0;
    for line in lines("frames.jsonl.gz") {
        if line["kind"] != "request" {
            continue;
        }
        let case = Case::of(&line);
        let frame = bytes_of(&line["frame_hex"]);
        let mut reader = Reader::new(unframed(&frame));

        let header = RequestHeader::decode(&mut reader).expect(&case.name);

        assert_eq!(header.api_key, case.api_key.key(), "{}", case.name);
        assert_eq!(header.api_version, case.version, "{}", case.name);
        assert_eq!(i64::from(header.correlation_id), line["header"]["correlationId"]);
        assert_eq!(header.client_id.as_deref(), line["header"]["clientId"].as_str());
        assert_eq!(reader.position() + 4, line["body_offset"].as_u64().expect("a count") as usize);
        seen += 1;
        if line["json"].is_null() {
            continue;
        }
        let Body::Request(body) = case.decode(&mut reader).expect(&case.name) else {
            unreachable!("a request is decoded as one")
        };
        assert_eq!(body.to_json(case.version), line["json"], "{}", case.name);
        if line["case"] != "header_unknown_tags" {
            let mut writer = Writer::default();
            writer.put(&frame[..4]);
            header.write(&mut writer, case.api_key.request_header_version(case.version));
            writer.put(&body.to_bytes(case.version));
            assert_eq!(writer.into_bytes(), frame, "{}", case.name);
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn response_frames_of_kafkas_own_classes_are_read_and_written_byte_for_byte() {
    let mut seen = 0;
    for line in lines("frames.jsonl.gz") {
        if line["kind"] != "response" || line["json"].is_null() {
            continue;
        }
        let case = Case::of(&line);
        let frame = bytes_of(&line["frame_hex"]);
        let header_version = case.api_key.response_header_version(case.version);
        let mut reader = Reader::new(unframed(&frame));

        let correlation_id = decode_response_header(&mut reader, header_version).expect(&case.name);
        let Body::Response(body) = case.decode(&mut reader).expect(&case.name) else {
            unreachable!("a response is decoded as one")
        };

        assert_eq!(i64::from(correlation_id), line["header"]["correlationId"], "{}", case.name);
        assert_eq!(body.to_json(case.version), line["json"], "{}", case.name);
        if line["case"] != "header_unknown_tags" {
            let written = body.frame(correlation_id, case.version).concat();
            assert_eq!(Bytes::from(written), frame, "{}", case.name);
        }
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn a_request_frame_is_written_as_kafkas_classes_write_it() {
    for line in lines("frames.jsonl.gz") {
        if line["case"] != "minimal" || line["api"] != "Produce" || line["kind"] != "request" {
            continue;
        }
        let case = Case::of(&line);
        let Body::Request(Request::Produce(body)) = case.build(&line["json"]) else {
            unreachable!("the line holds a Produce request")
        };
        let header = &line["header"];
        let correlation_id = header["correlationId"].as_i64().expect("a number") as i32;

        let written =
            frame_request(correlation_id, header["clientId"].as_str(), &body, case.version);

        assert_eq!(Bytes::from(written.concat()), bytes_of(&line["frame_hex"]), "{}", case.name);
    }
}

#[test]
fn an_unsupported_api_versions_request_is_answered_in_strict_version_zero() {
    let frame = unsupported_api_versions(7).concat();
    let expected = [
        0, 0, 0, 0x10, 0, 0, 0, 7, 0, 0x23, 0, 0, 0, 1, 0, 0x12, 0, 0, 0, 4, //
    ];
    assert_eq!(frame, expected);
}

#[test]
fn api_versions_is_answered_without_tagged_fields_in_the_header() {
    for version in 0..=4 {
        assert_eq!(ApiKey::ApiVersions.response_header_version(version), 0);
    }
    assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
}

#[test]
fn what_is_advertised_is_what_is_served_and_decoded() {
    // Key, lowest and highest version of Kafka 4.3, for what clients are served.
    let expected = [
        (0, 0, 13),
        (1, 4, 18),
        (2, 1, 11),
        (3, 0, 13),
        (8, 2, 10),
        (9, 1, 10),
        (10, 0, 6),
        (11, 0, 9),
        (12, 0, 4),
        (13, 0, 5),
        (14, 0, 5),
        (15, 0, 6),
        (16, 0, 5),
        (18, 0, 4),
        (19, 2, 7),
        (20, 1, 6),
        (21, 0, 2),
        (22, 0, 5),
        (23, 2, 4),
        (24, 0, 5),
        (25, 0, 4),
        (26, 0, 5),
        (27, 1, 2),
        (28, 0, 5),
        (32, 1, 4),
        (33, 0, 2),
        (35, 1, 5),
        (37, 0, 3),
        (42, 0, 2),
        (43, 0, 2),
        (44, 0, 1),
        (45, 0, 1),
        (46, 0, 0),
        (47, 0, 0),
        (55, 0, 2),
        (60, 0, 2),
        (61, 0, 0),
        (65, 0, 0),
        (66, 0, 2),
        (74, 0, 1),
        (75, 0, 0),
    ];
    let ranges: Vec<_> = advertised(false)
        .iter()
        .map(|range| (range.api_key, range.min_version, range.max_version))
        .collect();
    assert_eq!(ranges, expected);
    let all: Vec<i16> = advertised(true).iter().map(|range| range.api_key).collect();
    assert!(all.iter().copied().eq(ApiKey::ALL.iter().map(|api| api.key())), "{all:?}");

    for &api in ApiKey::ALL {
        for version in [api.min_version() - 1, api.max_version() + 1] {
            let refused = Request::decode(api, version, &mut Reader::new(Bytes::new()));
            assert!(refused.is_err(), "{api:?} {version}");
            assert!(!api.serves(version));
        }
    }
}

#[test]
fn records_of_a_response_are_parts_of_their_own_and_not_copied() {
    let records = Bytes::from(vec![7; 100_000]);
    let partition =
        PartitionData { records: Some(records.clone().into()), ..PartitionData::default() };
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: KafkaString::from_static("orders"),
            partitions: vec![partition.clone(), partition],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };

    let parts = frame_response(1, 1, &response, 12);

    let shared: Vec<_> = parts.iter().filter(|part| part.as_ptr() == records.as_ptr()).collect();
    assert_eq!(shared.len(), 2);
    assert_eq!(parts.len(), 5, "head, records, between, records, tail");
    let total: usize = parts.iter().map(Bytes::len).sum();
    assert_eq!(parts[0][..4], ((total - 4) as i32).to_be_bytes());
}

#[test]
fn strings_and_records_of_a_request_are_slices_of_its_frame() {
    for line in lines("messages.jsonl.gz") {
        if line["api"] != "Produce" || line["kind"] != "request" || line["case"] != "minimal" {
            continue;
        }
        let version = Case::of(&line).version;
        let frame = bytes_of(&line["body_hex"]);
        let range = frame.as_ptr() as usize..frame.as_ptr() as usize + frame.len();

        let request =
            ProduceRequest::decode(&mut Reader::new(frame.clone()), version).expect("golden data");

        let topic = &request.topic_data[0];
        let records = topic.partition_data[0].records.as_ref().expect("records");
        assert!(range.contains(&(records.as_ptr() as usize)), "records of version {version}");
        if version < 13 {
            let name = topic.name.as_bytes();
            assert!(range.contains(&(name.as_ptr() as usize)), "name of version {version}");
        }
    }
}
