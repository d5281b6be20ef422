//! How each type of the protocol stands on the wire, and what a message is.

use bytes::Bytes;

use super::error::{DecodeError, DecodeErrorKind};
#[cfg(any(test, feature = "json"))]
use super::json::{Json, JsonError};
use super::reader::Reader;
use super::string::KafkaString;
#[cfg(test)]
use super::tests::entropy::Entropy;
use super::writer::{Counter, Sink, Writer};
use crate::ids::Uuid;

/// What decides the form of a value besides its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// Version of the message.
    pub version: i16,
    /// Whether the version has compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether null is allowed here.
    pub nullable: bool,
}

impl Form {
    /// Returns the same form with or without null.
    #[must_use]
    pub const fn nullable(self, nullable: bool) -> Self {
        Self { nullable, ..self }
    }
}

/// A type of the protocol.
pub trait Wire: Sized + Clone + PartialEq {
    /// Returns Kafka's default where the table names none: zero, empty, false.
    fn initial() -> Self;

    /// Takes a value off the reader.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes hold none.
    fn read(reader: &mut Reader, form: Form) -> Result<Self, DecodeError>;

    /// Writes the value.
    fn write<S: Sink>(&self, sink: &mut S, form: Form);

    /// Returns the length of the type's smallest encoding in bytes.
    fn least(form: Form) -> usize;

    /// Returns the value as Kafka's JSON.
    #[cfg(any(test, feature = "json"))]
    fn to_json(&self, form: Form) -> Json;

    /// Takes the value from Kafka's JSON.
    ///
    /// # Errors
    /// [`JsonError`] where it is of another kind.
    #[cfg(any(test, feature = "json"))]
    fn from_json(json: &Json, form: Form) -> Result<Self, JsonError>;

    /// Makes any value of the form, shaped by a source of arbitrary bytes.
    #[cfg(test)]
    fn arbitrary(entropy: &mut Entropy, form: Form) -> Self;
}

/// A type that has a form for null. `Option` of it is a type of the protocol too.
pub trait Nullable: Wire {
    /// Takes a value or null off the reader.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes hold neither.
    fn read_nullable(reader: &mut Reader, form: Form) -> Result<Option<Self>, DecodeError>;

    /// Writes null.
    fn write_null<S: Sink>(sink: &mut S, form: Form);

    /// Writes the value where null could stand.
    fn write_present<S: Sink>(&self, sink: &mut S, form: Form) {
        self.write(sink, form);
    }

    /// Returns the length of null in bytes.
    fn least_nullable(form: Form) -> usize;
}

impl<T: Nullable> Wire for Option<T> {
    fn initial() -> Self {
        Some(T::initial())
    }

    fn read(reader: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        if form.nullable { T::read_nullable(reader, form) } else { T::read(reader, form).map(Some) }
    }

    /// A null where the version has none is a fault of whoever built the message. It is written as
    /// the type's empty value, so that a peer cannot stop a node through such a fault.
    fn write<S: Sink>(&self, sink: &mut S, form: Form) {
        match self {
            Some(value) if form.nullable => value.write_present(sink, form),
            Some(value) => value.write(sink, form),
            None if form.nullable => T::write_null(sink, form),
            None => {
                debug_assert!(false, "null in version {} that has none", form.version);
                T::initial().write(sink, form);
            }
        }
    }

    fn least(form: Form) -> usize {
        if form.nullable { T::least_nullable(form) } else { T::least(form) }
    }

    #[cfg(any(test, feature = "json"))]
    fn to_json(&self, form: Form) -> Json {
        self.as_ref().map_or(Json::Null, |value| value.to_json(form))
    }

    #[cfg(any(test, feature = "json"))]
    fn from_json(json: &Json, form: Form) -> Result<Self, JsonError> {
        if json.is_null() { Ok(None) } else { T::from_json(json, form).map(Some) }
    }

    #[cfg(test)]
    fn arbitrary(entropy: &mut Entropy, form: Form) -> Self {
        if form.nullable && entropy.one_in(3) { None } else { Some(T::arbitrary(entropy, form)) }
    }
}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl Wire for $ty {
            fn initial() -> Self {
                0
            }

            fn read(reader: &mut Reader, _: Form) -> Result<Self, DecodeError> {
                reader.array().map(Self::from_be_bytes)
            }

            fn write<S: Sink>(&self, sink: &mut S, _: Form) {
                sink.put(&self.to_be_bytes());
            }

            fn least(_: Form) -> usize {
                size_of::<Self>()
            }

            #[cfg(any(test, feature = "json"))]
            fn to_json(&self, _: Form) -> Json {
                Json::from(*self)
            }

            #[cfg(any(test, feature = "json"))]
            fn from_json(json: &Json, _: Form) -> Result<Self, JsonError> {
                json.as_i64()
                    .and_then(|number| Self::try_from(number).ok())
                    .ok_or(JsonError::expected(stringify!($ty)))
            }

            #[cfg(test)]
            fn arbitrary(entropy: &mut Entropy, _: Form) -> Self {
                entropy.integer() as Self
            }
        }
    )*};
}

integers!(i8 i16 i32 i64 u16);

impl Wire for bool {
    fn initial() -> Self {
        false
    }

    /// Any byte but zero is true, as in Kafka.
    fn read(reader: &mut Reader, _: Form) -> Result<Self, DecodeError> {
        reader.u8().map(|byte| byte != 0)
    }

    fn write<S: Sink>(&self, sink: &mut S, _: Form) {
        sink.put(&[u8::from(*self)]);
    }

    fn least(_: Form) -> usize {
        1
    }

    #[cfg(any(test, feature = "json"))]
    fn to_json(&self, _: Form) -> Json {
        Json::Bool(*self)
    }

    #[cfg(any(test, feature = "json"))]
    fn from_json(json: &Json, _: Form) -> Result<Self, JsonError> {
        json.as_bool().ok_or(JsonError::expected("bool"))
    }

    #[cfg(test)]
    fn arbitrary(entropy: &mut Entropy, _: Form) -> Self {
        entropy.one_in(2)
    }
}

impl Wire for Uuid {
    fn initial() -> Self {
        Self::ZERO
    }

    fn read(reader: &mut Reader, _: Form) -> Result<Self, DecodeError> {
        reader.uuid()
    }

    fn write<S: Sink>(&self, sink: &mut S, _: Form) {
        sink.put(&self.0);
    }

    fn least(_: Form) -> usize {
        16
    }

    #[cfg(any(test, feature = "json"))]
    fn to_json(&self, _: Form) -> Json {
        Json::String(self.to_string())
    }

    #[cfg(any(test, feature = "json"))]
    fn from_json(json: &Json, _: Form) -> Result<Self, JsonError> {
        json.as_str().and_then(Self::parse).ok_or(JsonError::expected("uuid"))
    }

    #[cfg(test)]
    fn arbitrary(entropy: &mut Entropy, _: Form) -> Self {
        Self(u128::from(entropy.integer() as u64).to_be_bytes())
    }
}

impl Wire for KafkaString {
    fn initial() -> Self {
        Self::default()
    }

    fn read(reader: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        Self::read_nullable(reader, form)?.ok_or_else(|| reader.error(DecodeErrorKind::Null))
    }

    fn write<S: Sink>(&self, sink: &mut S, form: Form) {
        let bytes = self.as_bytes();
        sink.put_length(Some(bytes.len()), form.flexible, true);
        sink.put(bytes);
    }

    fn least(form: Form) -> usize {
        Self::least_nullable(form)
    }

    #[cfg(any(test, feature = "json"))]
    fn to_json(&self, _: Form) -> Json {
        Json::String(self.to_string())
    }

    #[cfg(any(test, feature = "json"))]
    fn from_json(json: &Json, _: Form) -> Result<Self, JsonError> {
        json.as_str().map(Self::from).ok_or(JsonError::expected("string"))
    }

    #[cfg(test)]
    fn arbitrary(entropy: &mut Entropy, _: Form) -> Self {
        entropy.text().into()
    }
}

impl Nullable for KafkaString {
    fn read_nullable(reader: &mut Reader, form: Form) -> Result<Option<Self>, DecodeError> {
        match reader.length(form.flexible, true)? {
            Some(length) => reader.string(length).map(Some),
            None => Ok(None),
        }
    }

    fn write_null<S: Sink>(sink: &mut S, form: Form) {
        sink.put_length(None, form.flexible, true);
    }

    fn least_nullable(form: Form) -> usize {
        if form.flexible { 1 } else { 2 }
    }
}

/// `bytes` and `records` have the same form.
impl Wire for Bytes {
    fn initial() -> Self {
        Self::new()
    }

    fn read(reader: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        Self::read_nullable(reader, form)?.ok_or_else(|| reader.error(DecodeErrorKind::Null))
    }

    fn write<S: Sink>(&self, sink: &mut S, form: Form) {
        sink.put_length(Some(self.len()), form.flexible, false);
        sink.put_shared(self);
    }

    fn least(form: Form) -> usize {
        Self::least_nullable(form)
    }

    #[cfg(any(test, feature = "json"))]
    fn to_json(&self, _: Form) -> Json {
        Json::String(super::json::base64(self))
    }

    #[cfg(any(test, feature = "json"))]
    fn from_json(json: &Json, _: Form) -> Result<Self, JsonError> {
        json.as_str()
            .and_then(super::json::parse_base64)
            .map(Self::from)
            .ok_or(JsonError::expected("base64"))
    }

    #[cfg(test)]
    fn arbitrary(entropy: &mut Entropy, _: Form) -> Self {
        entropy.bytes()
    }
}

impl Nullable for Bytes {
    fn read_nullable(reader: &mut Reader, form: Form) -> Result<Option<Self>, DecodeError> {
        match reader.length(form.flexible, false)? {
            Some(length) => reader.slice(length).map(Some),
            None => Ok(None),
        }
    }

    fn write_null<S: Sink>(sink: &mut S, form: Form) {
        sink.put_length(None, form.flexible, false);
    }

    fn least_nullable(form: Form) -> usize {
        if form.flexible { 1 } else { 4 }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn initial() -> Self {
        Self::new()
    }

    fn read(reader: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        Self::read_nullable(reader, form)?.ok_or_else(|| reader.error(DecodeErrorKind::Null))
    }

    fn write<S: Sink>(&self, sink: &mut S, form: Form) {
        sink.put_length(Some(self.len()), form.flexible, false);
        let form = form.nullable(false);
        for element in self {
            element.write(sink, form);
        }
    }

    fn least(form: Form) -> usize {
        Self::least_nullable(form)
    }

    #[cfg(any(test, feature = "json"))]
    fn to_json(&self, form: Form) -> Json {
        let form = form.nullable(false);
        Json::Array(self.iter().map(|element| element.to_json(form)).collect())
    }

    #[cfg(any(test, feature = "json"))]
    fn from_json(json: &Json, form: Form) -> Result<Self, JsonError> {
        let elements = json.as_array().ok_or(JsonError::expected("array"))?;
        elements.iter().map(|element| T::from_json(element, form.nullable(false))).collect()
    }

    #[cfg(test)]
    fn arbitrary(entropy: &mut Entropy, form: Form) -> Self {
        let count = entropy.small();
        (0..count).map(|_| T::arbitrary(entropy, form.nullable(false))).collect()
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn read_nullable(reader: &mut Reader, form: Form) -> Result<Option<Self>, DecodeError> {
        let Some(count) = reader.length(form.flexible, false)? else {
            return Ok(None);
        };
        let form = form.nullable(false);
        reader.reserve(count, T::least(form), size_of::<T>())?;
        let mut out = Self::with_capacity(count);
        for _ in 0..count {
            out.push(T::read(reader, form)?);
        }
        Ok(Some(out))
    }

    fn write_null<S: Sink>(sink: &mut S, form: Form) {
        sink.put_length(None, form.flexible, false);
    }

    fn least_nullable(form: Form) -> usize {
        if form.flexible { 1 } else { 4 }
    }
}

/// A request, a response or a stored record: one of the tables of this module.
pub trait Message: Wire + Default + std::fmt::Debug {
    /// Kafka's name of it.
    const NAME: &'static str;
    /// The lowest version there is a form for.
    const MIN_VERSION: i16;
    /// The highest version there is a form for.
    const MAX_VERSION: i16;
    /// The first flexible version (KIP-482), `i16::MAX` where there is none.
    const FIRST_FLEXIBLE_VERSION: i16;

    /// Returns the form of the whole message in `version`.
    fn form(version: i16) -> Form {
        Form { version, flexible: version >= Self::FIRST_FLEXIBLE_VERSION, nullable: false }
    }

    /// Takes a message off the reader. What stands behind it is left alone.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes hold none of this version, or there is no such version.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if !(Self::MIN_VERSION..=Self::MAX_VERSION).contains(&version) {
            return Err(reader.error(DecodeErrorKind::UnknownVersion(version)).within(Self::NAME));
        }
        Self::read(reader, Self::form(version))
    }

    /// Writes the message. Fields that the version does not have are left out.
    fn encode(&self, version: i16, writer: &mut Writer) {
        self.write(writer, Self::form(version));
    }

    /// Counts the bytes of the encoding without making it.
    fn encoded(&self, version: i16) -> Counter {
        let mut counter = Counter::default();
        self.write(&mut counter, Self::form(version));
        counter
    }

    /// Returns the length of the encoding in bytes.
    fn size(&self, version: i16) -> usize {
        self.encoded(version).total()
    }

    /// Returns the encoding in one piece.
    fn to_bytes(&self, version: i16) -> Bytes {
        let mut writer = Writer::with_capacity(self.size(version));
        self.encode(version, &mut writer);
        writer.into_bytes()
    }
}
