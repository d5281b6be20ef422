//! Bytes that lie in several places and stand together on the wire.

use bytes::Bytes;

use super::codec::{Form, Nullable, Wire};
use super::error::DecodeError;
#[cfg(any(test, feature = "json"))]
use super::json::{Json, JsonError};
use super::reader::Reader;
#[cfg(test)]
use super::tests::entropy::Entropy;
use super::writer::Sink;

/// A field of bytes that is written part after part, so that what lies apart is not copied together.
///
/// A decoded one has a single part, a slice of its frame.
#[derive(Clone, Default, Debug)]
pub struct Parts(Vec<Bytes>);

impl Parts {
    /// Returns how many bytes there are in all parts.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Returns whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// Returns everything in one piece, copying only where there is more than one part.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0[..] {
            [] => Bytes::new(),
            [part] => part.clone(),
            parts => parts.concat().into(),
        }
    }
}

/// Equal are the bytes, wherever they lie.
impl PartialEq for Parts {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.0.iter().flatten().eq(other.0.iter().flatten())
    }
}

impl From<Vec<Bytes>> for Parts {
    fn from(parts: Vec<Bytes>) -> Self {
        Self(parts)
    }
}

impl From<Bytes> for Parts {
    fn from(part: Bytes) -> Self {
        Self(vec![part])
    }
}

impl From<Vec<u8>> for Parts {
    fn from(part: Vec<u8>) -> Self {
        Self(vec![part.into()])
    }
}

impl Wire for Parts {
    fn initial() -> Self {
        Self::default()
    }

    fn read(reader: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        Bytes::read(reader, form).map(Self::from)
    }

    fn write<S: Sink>(&self, sink: &mut S, form: Form) {
        sink.put_length(Some(self.len()), form.flexible, false);
        for part in &self.0 {
            sink.put_shared(part);
        }
    }

    fn least(form: Form) -> usize {
        Bytes::least(form)
    }

    #[cfg(any(test, feature = "json"))]
    fn to_json(&self, form: Form) -> Json {
        self.to_bytes().to_json(form)
    }

    #[cfg(any(test, feature = "json"))]
    fn from_json(json: &Json, form: Form) -> Result<Self, JsonError> {
        Bytes::from_json(json, form).map(Self::from)
    }

    #[cfg(test)]
    fn arbitrary(entropy: &mut Entropy, form: Form) -> Self {
        Bytes::arbitrary(entropy, form).into()
    }
}

impl Nullable for Parts {
    fn read_nullable(reader: &mut Reader, form: Form) -> Result<Option<Self>, DecodeError> {
        Ok(Bytes::read_nullable(reader, form)?.map(Self::from))
    }

    fn write_null<S: Sink>(sink: &mut S, form: Form) {
        Bytes::write_null(sink, form);
    }

    fn least_nullable(form: Form) -> usize {
        Bytes::least_nullable(form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::writer::Writer;

    #[test]
    fn parts_stand_on_the_wire_as_their_bytes_and_are_not_copied() {
        let form = Form { version: 0, flexible: false, nullable: false };
        let large = Bytes::from(vec![7; 1000]);
        let parts = Parts::from(vec![Bytes::from_static(b"head"), large.clone()]);
        let mut writer = Writer::default();
        parts.write(&mut writer, form);
        let written = writer.into_parts();
        assert_eq!(written.last().expect("parts").as_ptr(), large.as_ptr());
        let mut whole = Writer::default();
        parts.to_bytes().write(&mut whole, form);
        assert_eq!(written.concat(), whole.into_bytes());
    }
}
