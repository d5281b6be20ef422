//! Splits a stream of bytes into frames: a size of four bytes, then that many bytes.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a size field.
const SIZE_LEN: usize = 4;
/// The smallest request: key, version and correlation id.
pub const FRAME_BYTES_MIN: usize = 8;

/// Why a stream holds no frame. The peer is closed without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The size field is below the smallest request or above the largest.
    #[error("a request announces {0} bytes")]
    Size(i32),
}

/// The bytes of a stream that are not yet a whole frame.
#[derive(Clone, Default, Debug)]
pub struct Splitter {
    buffer: BytesMut,
}

impl Splitter {
    /// Takes the next bytes. Free where they continue the same buffer, else one copy.
    pub fn push(&mut self, bytes: BytesMut) {
        if self.buffer.is_empty() {
            self.buffer = bytes;
        } else {
            self.buffer.unsplit(bytes);
        }
    }

    /// Takes the first frame off, without its size, if it is whole.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the size field itself is out of bounds.
    pub fn next(&mut self, frame_bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
        let Some(announced) = self.announced() else { return Ok(None) };
        let size = usize::try_from(announced)
            .ok()
            .filter(|size| (FRAME_BYTES_MIN..=frame_bytes_max).contains(size))
            .ok_or(FrameError::Size(announced))?;
        if self.buffer.len() < SIZE_LEN + size {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(SIZE_LEN + size);
        frame.advance(SIZE_LEN);
        Ok(Some(frame.freeze()))
    }

    fn announced(&self) -> Option<i32> {
        let size = self.buffer.get(..SIZE_LEN)?;
        Some(i32::from_be_bytes([size[0], size[1], size[2], size[3]]))
    }

    /// Returns how many bytes are held.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns whether no bytes are held.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Returns whether a frame has begun and is not whole.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty() && self.missing() > 0
    }

    /// Returns how many bytes the first frame lacks by its size field, 0 for none begun.
    pub fn missing(&self) -> usize {
        if self.buffer.is_empty() {
            return 0;
        }
        let Some(announced) = self.announced() else { return SIZE_LEN - self.buffer.len() };
        usize::try_from(announced)
            .map_or(0, |size| (SIZE_LEN + size).saturating_sub(self.buffer.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        for body in [&b"first frame"[..], b"the second"] {
            out.extend((body.len() as u32).to_be_bytes());
            out.extend(body);
        }
        out
    }

    #[test]
    fn frames_are_the_same_however_the_stream_is_cut() {
        let stream = stream();
        for step in 1..=stream.len() {
            let mut splitter = Splitter::default();
            let mut frames = Vec::new();
            for piece in stream.chunks(step) {
                splitter.push(BytesMut::from(piece));
                while let Some(frame) = splitter.next(100).expect("good sizes") {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"first frame"[..], b"the second"], "{step}");
            assert!(splitter.is_empty());
        }
    }

    #[test]
    fn a_size_out_of_bounds_is_refused_before_its_bytes_come() {
        for size in [-1, i32::MIN, 0, 7, 101, i32::MAX] {
            let mut splitter = Splitter::default();
            splitter.push(BytesMut::from(&size.to_be_bytes()[..]));
            assert_eq!(splitter.next(100), Err(FrameError::Size(size)));
        }
    }

    #[test]
    fn pieces_of_one_buffer_are_joined_without_a_copy() {
        let mut whole = BytesMut::from(&stream()[..]);
        let at = whole.as_ptr();
        let tail = whole.split_off(9);
        let mut splitter = Splitter::default();
        splitter.push(whole);
        assert_eq!(splitter.next(100), Ok(None));
        splitter.push(tail);
        let frame = splitter.next(100).expect("good").expect("whole");
        assert_eq!(frame.as_ptr(), at.wrapping_add(SIZE_LEN));
    }
}
