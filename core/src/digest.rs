//! Digests of machine states: walked on demand, never kept, and equal on every machine.
//!
//! A batch enters with its header and stands by its CRC for the rest, so a digest costs no walk of
//! payload bytes. No derived `Hash` is used, because its order of fields is no promise.

use std::fmt::{self, Write as _};

/// Collects the state of a machine into 64 bits (FNV-1a over fixed-width big-endian values).
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Takes in raw bytes, preceded by their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// Takes in one number.
    pub fn number(&mut self, value: u64) -> &mut Self {
        for byte in value.to_be_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// Takes in one signed number.
    pub fn signed(&mut self, value: i64) -> &mut Self {
        self.number(value as u64)
    }

    /// Takes in text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Takes in how a value shows itself to a developer: for small parts of a state, without payloads,
    /// of which every field matters.
    pub fn shown(&mut self, value: &impl fmt::Debug) -> &mut Self {
        write!(self, "{value:?}").expect("a digest takes in everything");
        self
    }

    /// Returns the digest of all that was taken in.
    pub const fn finish(self) -> u64 {
        self.0
    }
}
