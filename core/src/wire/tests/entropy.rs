//! Turns arbitrary bytes into values, so that shrinking the bytes shrinks the values.

use bytes::Bytes;

/// A source of choices. When its bytes are used up every choice is the smallest one.
#[derive(Debug)]
pub struct Entropy {
    bytes: std::vec::IntoIter<u8>,
}

impl Entropy {
    /// Chooses by these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into_iter() }
    }

    fn byte(&mut self) -> u8 {
        self.bytes.next().unwrap_or(0)
    }

    /// True once in `count` times, false when the bytes are used up.
    pub fn one_in(&mut self, count: u8) -> bool {
        self.byte() % count == count - 1
    }

    /// A count of elements.
    pub fn small(&mut self) -> usize {
        usize::from(self.byte() % 4)
    }

    /// Integers around the edges of all widths, and any other.
    pub fn integer(&mut self) -> i64 {
        match self.byte() % 8 {
            0 => 0,
            1 => -1,
            2 => 1,
            3 => i64::MAX,
            4 => i64::MIN,
            5 => i64::from(i32::MAX),
            6 => i64::from(self.byte()),
            _ => (0..8).fold(0, |value, _| value << 8 | i64::from(self.byte())),
        }
    }

    /// Text, sometimes too long for a one-byte length and sometimes outside of ASCII.
    pub fn text(&mut self) -> String {
        let piece = ["a", "orders", "\u{e4}\u{1f600}", "\0"][usize::from(self.byte() % 4)];
        piece.repeat(usize::from(self.byte() % 64))
    }

    /// Bytes on both sides of the length from which they are a part of their own.
    pub fn bytes(&mut self) -> Bytes {
        let length = usize::from(self.byte());
        vec![self.byte(); length].into()
    }
}
