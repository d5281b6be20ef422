//! Takes the bytes of a message: counted first, then written into parts.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes from which on a byte field is a part of its own, never copied.
pub const SHARED_FROM_BYTES: usize = 64;

/// Where an encoding goes to.
pub trait Sink {
    /// Takes bytes by copying them.
    fn put(&mut self, bytes: &[u8]);

    /// Takes bytes that are shared already, without copying where they are many.
    fn put_shared(&mut self, bytes: &Bytes);

    /// Takes an unsigned variable-length integer.
    fn put_unsigned_varint(&mut self, mut value: u32) {
        let mut out = [0; 5];
        let mut length = 0;
        while value >= 0x80 {
            out[length] = (value as u8 & 0x7f) | 0x80;
            value >>= 7;
            length += 1;
        }
        out[length] = value as u8;
        self.put(&out[..=length]);
    }

    /// Takes a length: compact (n + 1, 0 for null) or of two or four bytes (-1 for null).
    ///
    /// Lengths fit: whoever builds a message keeps strings below 32 KiB and arrays below 2^31.
    fn put_length(&mut self, length: Option<usize>, compact: bool, short: bool) {
        if compact {
            self.put_unsigned_varint(length.map_or(0, |length| length as u32 + 1));
        } else if short {
            self.put(&length.map_or(-1, |length| length as i16).to_be_bytes());
        } else {
            self.put(&length.map_or(-1, |length| length as i32).to_be_bytes());
        }
    }
}

/// Counts an encoding without writing it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counter {
    total: usize,
    shared: usize,
}

impl Counter {
    /// Returns how many bytes the encoding has.
    pub const fn total(self) -> usize {
        self.total
    }

    /// Returns how many of them will be copied; the others are parts of their own.
    pub const fn copied(self) -> usize {
        self.total - self.shared
    }
}

impl Sink for Counter {
    fn put(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        self.total += bytes.len();
        if bytes.len() >= SHARED_FROM_BYTES {
            self.shared += bytes.len();
        }
    }
}

/// Writes an encoding into parts: copied bytes and shared ones alternate, none is empty.
#[derive(Debug, Default)]
pub struct Writer {
    parts: Vec<Bytes>,
    open: BytesMut,
}

impl Writer {
    /// Makes a writer with room for `copied` bytes before it has to grow.
    pub fn with_capacity(copied: usize) -> Self {
        Self { parts: Vec::new(), open: BytesMut::with_capacity(copied) }
    }

    /// Returns the parts, in order.
    pub fn into_parts(mut self) -> Vec<Bytes> {
        self.close_part();
        self.parts
    }

    /// Returns everything in one piece, copying where there is more than one part.
    pub fn into_bytes(self) -> Bytes {
        let mut parts = self.into_parts();
        match parts.len() {
            0 => Bytes::new(),
            1 => parts.swap_remove(0),
            _ => parts.concat().into(),
        }
    }

    fn close_part(&mut self) {
        if !self.open.is_empty() {
            self.parts.push(self.open.split().freeze());
        }
    }
}

impl Sink for Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.open.put_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() >= SHARED_FROM_BYTES {
            self.close_part();
            self.parts.push(bytes.clone());
        } else {
            self.open.put_slice(bytes);
        }
    }
}
