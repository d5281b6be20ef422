//! Requests and answers as whole frames.

use bytes::Bytes;
use mainspring_core::wire::{
    Message, Reader, RequestMessage, decode_response_header, frame_request,
};

use super::search::Broken;

/// Returns a request as it stands on the wire.
pub(super) fn framed<M: RequestMessage>(request: &M, version: i16, correlation: i32) -> Bytes {
    frame_request(correlation, Some("explorer"), request, version).concat().into()
}

/// Reads the answer to a request of kind `R`.
pub(super) fn decoded<R: RequestMessage, M: Message>(
    frame: Bytes,
    version: i16,
) -> Result<M, Broken> {
    let mut reader = Reader::new(frame);
    decode_response_header(&mut reader, R::KEY.response_header_version(version))
        .and_then(|_| M::decode(&mut reader, version))
        .map_err(|error| Broken::new("I13", format!("an answer cannot be read: {error}")))
}
