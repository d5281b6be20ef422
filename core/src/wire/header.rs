//! The header before every request.
//!
//! Version 1 ends with the client id; version 2 (flexible requests) adds tagged fields, but its
//! client id keeps the old two-byte length. Source: Kafka protocol guide, "Protocol Messages".

use super::api_key::ApiKey;
use super::codec::{Form, Wire};
use super::error::{DecodeError, DecodeErrorKind};
use super::reader::Reader;
use super::string::KafkaString;
use super::writer::Sink;

/// What stands before the body of a request.
#[derive(Clone, PartialEq, Debug)]
pub struct RequestHeader {
    /// Key of the API.
    pub api_key: i16,
    /// Version of the body.
    pub api_version: i16,
    /// Chosen by the client; the answer repeats it.
    pub correlation_id: i32,
    /// Name that the client gives itself. Null means the same as empty.
    pub client_id: Option<KafkaString>,
}

/// The client id has the old form in every version.
const CLIENT_ID: Form = Form { version: 1, flexible: false, nullable: true };

impl RequestHeader {
    /// Takes a header off the reader. The version need not be one that is served: the form of the
    /// header follows from whether it would be flexible.
    ///
    /// # Errors
    /// [`DecodeErrorKind::UnknownKey`] for an API that is not served, whose header has a form that
    /// nobody knows; other kinds where the bytes hold no header.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Self::read(reader).map_err(|error| error.within("header"))
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let key = reader.i16()?;
        let api_version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let api_key = ApiKey::from_key(key).ok_or(DecodeError {
            field: "header",
            offset: 0,
            kind: DecodeErrorKind::UnknownKey(key),
        })?;
        let client_id = Wire::read(reader, CLIENT_ID)?;
        if api_key.request_header_version(api_version) >= 2 {
            reader.skip_tags()?;
        }
        Ok(Self { api_key: key, api_version, correlation_id, client_id })
    }

    /// Writes the header in the given version of it.
    pub fn write<S: Sink>(&self, sink: &mut S, header_version: i16) {
        sink.put(&self.api_key.to_be_bytes());
        sink.put(&self.api_version.to_be_bytes());
        sink.put(&self.correlation_id.to_be_bytes());
        Wire::write(&self.client_id, sink, CLIENT_ID);
        if header_version >= 2 {
            sink.put_unsigned_varint(0);
        }
    }
}

/// Takes the header of a response off the reader and returns its correlation id.
///
/// # Errors
/// [`DecodeError`] where the bytes hold none.
pub fn decode_response_header(
    reader: &mut Reader,
    header_version: i16,
) -> Result<i32, DecodeError> {
    let read = |reader: &mut Reader| {
        let correlation_id = reader.i32()?;
        if header_version >= 1 {
            reader.skip_tags()?;
        }
        Ok(correlation_id)
    };
    read(reader).map_err(|error: DecodeError| error.within("header"))
}
