//! Bodies of the fuzz targets: plain functions, replayed over the kept inputs by an ordinary test.
//!
//! `core/fuzz` wraps each of them for libFuzzer. They return nothing; a panic is a finding.

use bytes::Bytes;

use super::api_key::{ApiKey, Request, Response};
use super::consumer_protocol::{Blob, ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use super::group_record::GroupRecord;
use super::header::RequestHeader;
use super::metadata_record::MetadataRecord;
use super::reader::Reader;

/// A frame without its size: request header, then the body that the header names.
pub fn request(data: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let Ok(header) = RequestHeader::decode(&mut reader) else {
        return;
    };
    let api_key = ApiKey::from_key(header.api_key).expect("the header was read by its key");
    let version = header.api_version;
    let Ok(body) = Request::decode(api_key, version, &mut reader) else {
        return;
    };
    let encoded = body.to_bytes(version);
    assert_eq!(encoded.len(), body.size(version));
    assert_eq!(Request::decode(api_key, version, &mut Reader::new(encoded)), Ok(body));
}

/// Two bytes of key, two of version, then the body of a response.
pub fn response(data: &[u8]) {
    let Some((head, body)) = data.split_first_chunk::<4>() else {
        return;
    };
    let Some(api_key) = ApiKey::from_key(i16::from_be_bytes([head[0], head[1]])) else {
        return;
    };
    let version = i16::from_be_bytes([head[2], head[3]]);
    let mut reader = Reader::new(Bytes::copy_from_slice(body));
    let Ok(body) = Response::decode(api_key, version, &mut reader) else {
        return;
    };
    let encoded = body.to_bytes(version);
    assert_eq!(encoded.len(), body.size(version));
    assert_eq!(Response::decode(api_key, version, &mut Reader::new(encoded)), Ok(body));
}

/// The value of a record of the metadata log.
pub fn metadata_record(data: &[u8]) {
    if let Ok(record) = MetadataRecord::decode(Bytes::copy_from_slice(data)) {
        // Written in the newest version, it may have lost what only an older one carries, but it
        // must be readable.
        assert!(MetadataRecord::decode(record.encode()).is_ok());
    }
}

/// What members of a group tell each other, read as a subscription and as an assignment.
pub fn consumer_protocol(data: &[u8]) {
    blob::<ConsumerProtocolSubscription>(data);
    blob::<ConsumerProtocolAssignment>(data);
}

fn blob<T: Blob + PartialEq + std::fmt::Debug>(data: &[u8]) {
    if let Ok(read) = T::from_blob(Bytes::copy_from_slice(data)) {
        assert_eq!(T::from_blob(read.to_blob(T::MAX_VERSION)), Ok(read));
    }
}

/// Two bytes of length, a key of a coordinator's record, and the value; none where nothing follows.
pub fn group_record(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let Some((key, value)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*head))) else {
        return;
    };
    let value = (!value.is_empty()).then(|| Bytes::copy_from_slice(value));
    if let Ok(Some(record)) = GroupRecord::decode(Bytes::copy_from_slice(key), value) {
        // Written as Kafka 4.3 writes it, it may have lost what only an older version carries.
        let (key, value) = record.encode();
        let again = GroupRecord::decode(key.clone(), value.clone());
        let again = again.expect("its own").expect("of the same kind");
        assert_eq!(again.encode(), (key, value));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs a target over its kept inputs and returns how many there are.
    fn replay(target: &str, run: fn(&[u8])) -> usize {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let inputs = std::fs::read_dir(&folder).expect("the corpus is part of the sources");
        let mut count = 0;
        for input in inputs {
            let path = input.expect("a readable folder").path();
            run(&std::fs::read(&path).expect("a readable file"));
            count += 1;
        }
        count
    }

    #[test]
    fn kept_inputs_of_the_request_target_are_decoded_or_refused() {
        assert!(replay("wire_request", request) >= ApiKey::ALL.len(), "one for each API");
    }

    #[test]
    fn kept_inputs_of_the_response_target_are_decoded_or_refused() {
        assert!(replay("wire_response", response) >= ApiKey::ALL.len(), "one for each API");
    }

    #[test]
    fn kept_inputs_of_the_metadata_record_target_are_decoded_or_refused() {
        assert!(replay("metadata_record", metadata_record) >= 10, "one for each record");
    }
}
