//! Python's byte objects as slices of bytes.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// The bytes of an argument: those of a `bytes` object as they lie there, those of other buffers
/// copied.
pub(crate) enum Payload<'a> {
    /// `None`.
    Null,
    /// Of `bytes`.
    Borrowed(&'a [u8]),
    /// Of `bytearray`, `memoryview` and the like.
    Owned(Vec<u8>),
}

impl<'a> Payload<'a> {
    /// Reads an argument that is called `what` in messages.
    pub(crate) fn of(argument: &'a Bound<'_, PyAny>, what: &str) -> PyResult<Self> {
        if let Ok(bytes) = argument.cast::<PyBytes>() {
            return Ok(Self::Borrowed(bytes.as_bytes()));
        }
        if argument.is_none() {
            return Ok(Self::Null);
        }
        if argument.is_instance_of::<PyString>() {
            let message = format!(
                "the {what} is a str, and a record holds bytes; pass {what}.encode(), or send to a \
                 Topic with the serializer Utf8()"
            );
            return Err(PyTypeError::new_err(message));
        }
        let copied = PyBuffer::<u8>::get(argument).and_then(|buffer| buffer.to_vec(argument.py()));
        copied.map(Self::Owned).map_err(|_| {
            let kind = argument.get_type().name().map(|name| name.to_string()).unwrap_or_default();
            PyTypeError::new_err(format!(
                "the {what} is of type {kind}, and a record holds bytes; serialize it first, or send to a \
                 Topic with a serializer such as Json()"
            ))
        })
    }

    /// The bytes, `None` for `None`.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Null => None,
            Self::Borrowed(bytes) => Some(bytes),
            Self::Owned(bytes) => Some(bytes),
        }
    }
}
