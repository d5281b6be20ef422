//! Whole frames: a size of four bytes, a header, a body.

use bytes::Bytes;

use super::api_key::RequestMessage;
use super::codec::Message;
use super::header::RequestHeader;
use super::writer::{Counter, Sink, Writer};

/// Bytes of the size before a frame.
pub const SIZE_BYTES: usize = 4;

/// Returns the frame of a response, its size first, as parts: records of 64 bytes and more are
/// parts of their own and are not copied.
pub fn frame_response<M: Message>(
    correlation_id: i32,
    header_version: i16,
    message: &M,
    version: i16,
) -> Vec<Bytes> {
    let body = message.encoded(version);
    let tags: &[u8] = if header_version >= 1 { &[0] } else { &[] };
    let header = 4 + tags.len();
    let mut writer = Writer::with_capacity(SIZE_BYTES + header + body.copied());
    writer.put(&((header + body.total()) as i32).to_be_bytes());
    writer.put(&correlation_id.to_be_bytes());
    writer.put(tags);
    message.encode(version, &mut writer);
    writer.into_parts()
}

/// Returns the frame of a request, its size first, as parts.
pub fn frame_request<M: RequestMessage>(
    correlation_id: i32,
    client_id: Option<&str>,
    message: &M,
    version: i16,
) -> Vec<Bytes> {
    let header_version = M::KEY.request_header_version(version);
    let header = RequestHeader {
        api_key: M::KEY.key(),
        api_version: version,
        correlation_id,
        client_id: client_id.map(Into::into),
    };
    let mut counter = Counter::default();
    header.write(&mut counter, header_version);
    let body = message.encoded(version);
    let mut writer = Writer::with_capacity(SIZE_BYTES + counter.total() + body.copied());
    writer.put(&((counter.total() + body.total()) as i32).to_be_bytes());
    header.write(&mut writer, header_version);
    message.encode(version, &mut writer);
    writer.into_parts()
}
