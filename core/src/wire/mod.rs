//! The Kafka protocol: messages as types, bounded decoding, encoding into parts.
//!
//! All messages are tables of one form (`table.rs`); struct, decoding, encoding, size and JSON come
//! from the same line, so they cannot disagree. Names are Kafka's.
//!
//! What it never does: it decides nothing about a request, and it copies no payload. Decoded
//! strings and records are slices of the frame; records of 64 bytes and more leave as parts of
//! their own.
//!
//! Invariants:
//! 1. No input makes decoding panic, and none makes it reserve more memory than its budget.
//! 2. Every count is checked against the bytes that are left before anything is reserved.
//! 3. What `ApiVersions` advertises on a listener is exactly what is served there, our own APIs for tools
//!    excepted, and what is served there [`Request::decode`] decodes.
//! 4. The size before a frame equals the bytes that follow it.
//!
//! Source: Kafka protocol guide; KIP-482 (flexible versions), KIP-511 (`ApiVersions`).

#[macro_use]
mod table;

pub mod api;
pub mod api_key;
pub mod codec;
pub mod consumer_protocol;
pub mod control_record;
pub mod error;
pub mod frame;
pub mod fuzz;
pub mod group_record;
pub mod header;
pub mod hidden_record;
#[cfg(any(test, feature = "json"))]
pub mod json;
pub mod metadata_record;
pub mod parts;
pub mod reader;
pub mod string;
#[cfg(test)]
pub mod tests;
pub mod transaction_record;
pub mod writer;

pub use api_key::{
    ApiKey, Request, RequestMessage, Response, advertised, unsupported_api_versions,
};
pub use codec::Message;
pub use error::{DecodeError, DecodeErrorKind};
pub use frame::{frame_request, frame_response};
pub use header::{RequestHeader, decode_response_header};
pub use metadata_record::MetadataRecord;
pub use parts::Parts;
pub use reader::Reader;
pub use string::KafkaString;
pub use writer::Writer;
