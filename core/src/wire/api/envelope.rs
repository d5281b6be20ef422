//! `Envelope` (key 58): carries a request of a client to the controller, with who sent it. Between nodes
//! only.
//!
//! Source: KIP-590.

use bytes::Bytes;

messages! {
    /// The request.
    EnvelopeRequest versions [0] flexible [0] {
        request_data [0+]: Bytes;
        request_principal [0+] null [0+]: Option<Bytes>;
        client_host_address [0+]: Bytes;
    }
    /// The response.
    EnvelopeResponse versions [0] flexible [0] {
        response_data [0+] null [0+]: Option<Bytes> = None;
        error_code [0+]: i16;
    }
}
