//! Bytes that no honest client sends: refused, with bounded memory and without a panic.

use bytes::Bytes;

use crate::wire::api::metadata::MetadataRequest;
use crate::wire::api::produce::ProduceRequest;
use crate::wire::header::RequestHeader;
use crate::wire::reader::MAX_TAGGED_FIELDS;
use crate::wire::{ApiKey, DecodeErrorKind, Message, Reader, Request, Response};

#[test]
fn a_produce_body_of_twelve_bytes_that_announces_two_billion_topics_reserves_nothing() {
    // Null transactional id, acks 1, timeout 30000, then the count i32::MAX and no topic.
    let body = Bytes::from_static(&[
        0xff, 0xff, 0, 1, 0, 0, 0x75, 0x30, 0x7f, 0xff, 0xff, 0xff, //
    ]);

    let error = ProduceRequest::decode(&mut Reader::new(body), 3).expect_err("no such topics");

    assert_eq!(error.field, "ProduceRequest.topic_data");
    assert_eq!(error.offset, 12);
    assert_eq!(error.kind, DecodeErrorKind::Count { count: i32::MAX as usize, left: 0 });
}

#[test]
fn a_count_that_the_bytes_could_hold_but_memory_should_not_is_refused() {
    // A thousand empty topic names take 2 bytes each on the wire and far more in memory.
    let mut body = 1_000_i32.to_be_bytes().to_vec();
    body.extend_from_slice(&[0; 2_000]);

    let error = MetadataRequest::decode(&mut Reader::with_budget(body.into(), 10_000), 0)
        .expect_err("over the budget");

    assert_eq!(error.kind, DecodeErrorKind::Budget);
}

#[test]
fn the_budget_counts_all_arrays_of_a_message_together() {
    // Two topics with 50 partitions each: either alone would fit.
    let mut body = vec![0xff, 0xff, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2];
    for _ in 0..2 {
        body.extend_from_slice(&[0, 1, b'a', 0, 0, 0, 50]);
        for _ in 0..50 {
            body.extend_from_slice(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        }
    }
    let decode =
        |budget| ProduceRequest::decode(&mut Reader::with_budget(body.clone().into(), budget), 3);

    assert!(decode(10_000).is_ok());
    assert_eq!(decode(3_000).expect_err("too much").kind, DecodeErrorKind::Budget);
}

#[test]
fn too_many_tagged_fields_are_refused() {
    let body = |count: u32| {
        let mut body = vec![1, 1, 0, 0, count as u8];
        for tag in 0..count {
            body.extend_from_slice(&[tag as u8, 0]);
        }
        Bytes::from(body)
    };

    let most = MetadataRequest::decode(&mut Reader::new(body(MAX_TAGGED_FIELDS)), 9);
    let more = MetadataRequest::decode(&mut Reader::new(body(MAX_TAGGED_FIELDS + 1)), 9);

    assert!(most.is_ok());
    assert_eq!(
        more.expect_err("one too many").kind,
        DecodeErrorKind::TooManyTags(MAX_TAGGED_FIELDS + 1)
    );
}

#[test]
fn a_string_beyond_kafkas_limit_is_refused() {
    // One topic whose compact name announces 32,768 bytes, which are all there.
    let mut body = vec![2];
    body.extend_from_slice(&[0x81, 0x80, 0x02]);
    body.extend_from_slice(&vec![b'a'; 32_768]);
    body.extend_from_slice(&[0, 1, 0, 0, 0]);

    let error = MetadataRequest::decode(&mut Reader::new(body.into()), 9).expect_err("too long");

    assert_eq!(error.field, "MetadataRequestTopic.name");
    assert_eq!(error.kind, DecodeErrorKind::StringTooLong(32_768));
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    // A bad continuation, a surrogate, an overlong form, a lone byte. Kafka puts U+FFFD in their
    // place, which would change a name in silence.
    for text in [&[0xc3, 0x28][..], &[0xed, 0xa0, 0x80], &[0xc0, 0x80], &[0xff]] {
        let mut body = vec![0, 0, 0, 1, 0, text.len() as u8];
        body.extend_from_slice(text);
        body.push(1);

        let error = MetadataRequest::decode(&mut Reader::new(body.into()), 4).expect_err("no text");

        assert_eq!(error.kind, DecodeErrorKind::NotUtf8);
    }
}

#[test]
fn a_header_of_an_api_that_is_not_served_is_refused_by_its_key() {
    let header = Bytes::from_static(&[0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    let error = RequestHeader::decode(&mut Reader::new(header)).expect_err("key 999");
    assert_eq!(error.kind, DecodeErrorKind::UnknownKey(999));
}

#[test]
fn an_error_says_where_and_what_in_one_line() {
    let body = Bytes::from_static(&[0, 0, 0, 1, 0, 3, b'a']);
    let error = MetadataRequest::decode(&mut Reader::new(body), 4).expect_err("cut off");
    assert_eq!(error.to_string(), "MetadataRequestTopic.name at byte 6: needs 3 bytes, 1 are left");
}

#[test]
fn any_run_of_one_byte_is_decoded_or_refused_by_every_message() {
    for byte in [0x00, 0x01, 0x02, 0x7f, 0x80, 0xff] {
        for length in [0, 1, 7, 64, 1_000] {
            let body = Bytes::from(vec![byte; length]);
            for &api in ApiKey::ALL {
                for version in api.min_version()..=api.max_version() {
                    // Reaching the end of the loop is the claim: nothing panics or hangs.
                    let _ = Request::decode(api, version, &mut Reader::new(body.clone()));
                    let _ = Response::decode(api, version, &mut Reader::new(body.clone()));
                }
            }
        }
    }
}
