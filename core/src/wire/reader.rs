//! Reads primitives off a frame, within bounds.
//!
//! Invariants:
//! 1. No byte is read beyond the end, and no input makes it panic.
//! 2. Nothing is reserved by an announced count before the bytes that are left could hold it and
//!    the message's budget of decoded memory allows it.
//! 3. Strings and bytes are slices of the frame, never copies.
//!
//! Source: Kafka protocol guide, "Protocol Primitive Types"; KIP-482 for compact forms and tags.

use bytes::Bytes;

use super::error::{DecodeError, DecodeErrorKind};
use super::string::KafkaString;
use crate::ids::Uuid;

/// Most tagged fields in one place; no message of Kafka has more than a handful.
pub const MAX_TAGGED_FIELDS: u32 = 64;
/// Longest string in bytes, as in Kafka's own reader.
pub const MAX_STRING_BYTES: usize = 32_767;
/// Most memory in bytes that the arrays of one decoded message may take, unless said otherwise.
pub const DEFAULT_BUDGET_BYTES: usize = 64 << 20;

/// A place in a frame, from which values are taken one after the other.
#[derive(Clone, Debug)]
pub struct Reader {
    frame: Bytes,
    position: usize,
    end: usize,
    budget: usize,
}

impl Reader {
    /// Reads `frame` from its first byte, with the usual budget.
    pub fn new(frame: Bytes) -> Self {
        Self::with_budget(frame, DEFAULT_BUDGET_BYTES)
    }

    /// Reads `frame` with a budget of `budget` bytes for all decoded arrays together.
    pub fn with_budget(frame: Bytes, budget: usize) -> Self {
        let end = frame.len();
        Self { frame, position: 0, end, budget }
    }

    /// Returns how many bytes have been read.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Returns how many bytes are left.
    pub const fn remaining(&self) -> usize {
        self.end - self.position
    }

    pub(crate) const fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { field: DecodeError::UNNAMED, offset: self.position, kind }
    }

    fn advance(&mut self, count: usize) -> Result<usize, DecodeError> {
        if count > self.remaining() {
            let left = self.remaining();
            return Err(self.error(DecodeErrorKind::Cut { need: count, left }));
        }
        let from = self.position;
        self.position += count;
        Ok(from)
    }

    /// Takes the next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let from = self.advance(N)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.frame[from..from + N]);
        Ok(out)
    }

    /// Takes the next `count` bytes as a slice of the frame.
    pub(crate) fn slice(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        let from = self.advance(count)?;
        Ok(self.frame.slice(from..from + count))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let from = self.advance(1)?;
        Ok(self.frame[from])
    }

    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.array().map(Uuid)
    }

    /// Takes the mark before a struct that may be null: -1 for null, 1 for present.
    pub(crate) fn present(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? as i8 {
            -1 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(DecodeErrorKind::UnknownValue(i64::from(other)))),
        }
    }

    /// Takes an unsigned variable-length integer of at most five bytes.
    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value: u64 = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // Kafka drops bits beyond the 32nd; a number that needs them is refused here.
                return u32::try_from(value).map_err(|_| self.error(DecodeErrorKind::Varint));
            }
        }
        Err(self.error(DecodeErrorKind::Varint))
    }

    /// Takes a length: compact (n + 1, 0 for null) or of two or four bytes (-1 for null).
    pub(crate) fn length(
        &mut self,
        compact: bool,
        short: bool,
    ) -> Result<Option<usize>, DecodeError> {
        if compact {
            return Ok((self.unsigned_varint()? as usize).checked_sub(1));
        }
        let at = self.position;
        let length = if short { i32::from(self.i16()?) } else { self.i32()? };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            // Kafka reads any negative length as null; no client sends one.
            Err(_) => Err(DecodeError {
                field: DecodeError::UNNAMED,
                offset: at,
                kind: DecodeErrorKind::NegativeLength(length),
            }),
        }
    }

    /// Takes a string of `length` bytes.
    pub(crate) fn string(&mut self, length: usize) -> Result<KafkaString, DecodeError> {
        if length > MAX_STRING_BYTES {
            return Err(self.error(DecodeErrorKind::StringTooLong(length)));
        }
        let at = self.position;
        // Kafka puts U+FFFD in place of what is not UTF-8; a name changed in silence is worse.
        KafkaString::from_utf8(self.slice(length)?).map_err(|_| DecodeError {
            field: DecodeError::UNNAMED,
            offset: at,
            kind: DecodeErrorKind::NotUtf8,
        })
    }

    /// Checks that `count` elements of at least `least` bytes on the wire, and of `size` bytes each
    /// in memory, may be reserved.
    pub(crate) fn reserve(
        &mut self,
        count: usize,
        least: usize,
        size: usize,
    ) -> Result<(), DecodeError> {
        if count > self.remaining() / least.max(1) {
            let left = self.remaining();
            return Err(self.error(DecodeErrorKind::Count { count, left }));
        }
        let bytes = count.saturating_mul(size);
        let Some(left) = self.budget.checked_sub(bytes) else {
            return Err(self.error(DecodeErrorKind::Budget));
        };
        self.budget = left;
        Ok(())
    }

    /// Begins a section of tagged fields.
    pub(crate) fn tags(&mut self) -> Result<Tags, DecodeError> {
        let left = self.unsigned_varint()?;
        if left > MAX_TAGGED_FIELDS {
            return Err(self.error(DecodeErrorKind::TooManyTags(left)));
        }
        Ok(Tags { left, previous: None, current: None })
    }

    /// Reads a section of tagged fields of which none is known.
    pub(crate) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        let mut tags = self.tags()?;
        while tags.next(self)?.is_some() {
            tags.skip(self);
        }
        Ok(())
    }
}

/// A section of tagged fields while it is being read.
#[derive(Debug)]
pub(crate) struct Tags {
    left: u32,
    previous: Option<u32>,
    current: Option<(u32, usize)>,
}

impl Tags {
    /// Comes to the next tagged field and narrows the reader to its value.
    ///
    /// The value must then be passed by [`Tags::skip`] or [`Tags::leave`].
    pub(crate) fn next(&mut self, reader: &mut Reader) -> Result<Option<u32>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let tag = reader.unsigned_varint()?;
        // Kafka takes any order, and the last of several; every known writer sends them ascending.
        if self.previous.is_some_and(|previous| previous >= tag) {
            return Err(reader.error(DecodeErrorKind::TagOrder(tag)));
        }
        self.previous = Some(tag);
        let size = reader.unsigned_varint()? as usize;
        if size > reader.remaining() {
            let left = reader.remaining();
            return Err(reader.error(DecodeErrorKind::Cut { need: size, left }));
        }
        self.current = Some((tag, reader.end));
        reader.end = reader.position + size;
        Ok(Some(tag))
    }

    /// Passes over the value and widens the reader again.
    pub(crate) fn skip(&mut self, reader: &mut Reader) {
        if let Some((_, end)) = self.current.take() {
            reader.position = reader.end;
            reader.end = end;
        }
    }

    /// Checks that the value was read to its end and widens the reader again.
    pub(crate) fn leave(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        if let Some((tag, end)) = self.current.take() {
            if reader.remaining() != 0 {
                return Err(reader.error(DecodeErrorKind::TagSize(tag)));
            }
            reader.end = end;
        }
        Ok(())
    }
}
