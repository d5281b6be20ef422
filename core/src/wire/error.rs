//! Why bytes are no message.

use std::fmt;

/// What a peer's bytes got wrong. Made without any allocation, so a flood of bad frames stays cheap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field} at byte {offset}: {kind}")]
pub struct DecodeError {
    /// The field that was being read, as `Struct.field`; `header` or `body` outside of any.
    pub field: &'static str,
    /// Where in the frame, counted from the first byte behind the size.
    pub offset: usize,
    /// What was wrong with it.
    pub kind: DecodeErrorKind,
}

/// The kinds of [`DecodeError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The bytes end before the value does.
    Cut {
        /// Bytes that the value still needs.
        need: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A length or count below zero that does not mean null.
    NegativeLength(i32),
    /// Null where the version does not allow it.
    Null,
    /// A count of more elements than the bytes left could hold.
    Count {
        /// The announced count.
        count: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A string of more than 32,767 bytes.
    StringTooLong(usize),
    /// A string that is not UTF-8.
    NotUtf8,
    /// A variable-length integer of more bytes than its width takes.
    Varint,
    /// More than [`super::reader::MAX_TAGGED_FIELDS`] tagged fields in one place.
    TooManyTags(u32),
    /// Tagged fields that repeat or do not ascend.
    TagOrder(u32),
    /// A known tagged field whose value is not as long as its size says.
    TagSize(u32),
    /// The decoded form would take more memory than one message may.
    Budget,
    /// No API has this key.
    UnknownKey(i16),
    /// The API, or the stored record, has no such version.
    UnknownVersion(i16),
    /// Bytes behind what should have been everything.
    Trailing(usize),
    /// A number that stands for nothing: a record type, a marker of presence.
    UnknownValue(i64),
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { need, left } => write!(f, "needs {need} bytes, {left} are left"),
            Self::NegativeLength(length) => write!(f, "length {length} is below zero"),
            Self::Null => f.write_str("is null where it must not be"),
            Self::Count { count, left } => {
                write!(f, "{count} elements cannot stand in the {left} bytes that are left")
            }
            Self::StringTooLong(length) => write!(f, "string of {length} bytes is too long"),
            Self::NotUtf8 => f.write_str("string is not UTF-8"),
            Self::Varint => f.write_str("variable-length integer is too long"),
            Self::TooManyTags(count) => write!(f, "{count} tagged fields are too many"),
            Self::TagOrder(tag) => write!(f, "tagged field {tag} is out of order"),
            Self::TagSize(tag) => write!(f, "tagged field {tag} has another size than it says"),
            Self::Budget => f.write_str("takes too much memory when decoded"),
            Self::UnknownKey(key) => write!(f, "no API has key {key}"),
            Self::UnknownVersion(version) => write!(f, "there is no version {version}"),
            Self::Trailing(left) => write!(f, "{left} bytes are left over"),
            Self::UnknownValue(value) => write!(f, "{value} stands for nothing"),
        }
    }
}

impl DecodeError {
    /// The name of no field in particular, replaced by the first field that the error passes.
    pub(crate) const UNNAMED: &'static str = "body";

    /// Names the field, unless one further inside has been named.
    #[must_use]
    pub(crate) fn within(mut self, field: &'static str) -> Self {
        if self.field == Self::UNNAMED {
            self.field = field;
        }
        self
    }
}
