//! Body of the fuzz target for the splitting of a stream into frames.

use bytes::BytesMut;

use super::frame::{FRAME_BYTES_MIN, Splitter};

const FRAME_BYTES_MAX: usize = 1 << 16;

/// A stream, whole and byte by byte: the same frames, each within its limits, and no byte lost.
///
/// # Panics
/// Where that does not hold.
pub fn frames(bytes: &[u8]) {
    let mut whole = Splitter::default();
    whole.push(BytesMut::from(bytes));
    let mut split = Splitter::default();
    let mut pieces = bytes.iter();
    let mut taken = 0;
    loop {
        let frame = whole.next(FRAME_BYTES_MAX);
        let again = loop {
            let again = split.next(FRAME_BYTES_MAX);
            let Ok(None) = again else { break again };
            let Some(piece) = pieces.next() else { break again };
            split.push(BytesMut::from(&[*piece][..]));
        };
        assert_eq!(frame, again, "the pieces that a stream comes in make no difference");
        let Ok(Some(frame)) = frame else { break };
        assert!((FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&frame.len()));
        taken += 4 + frame.len();
        assert_eq!(frame, bytes[taken - frame.len()..taken]);
    }
    assert!(taken + whole.len() == bytes.len(), "every byte is in a frame or held");
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_stream_of_frames_is_split_however_it_comes() {
        let frame = |length: usize| {
            let size = u32::try_from(length).expect("small").to_be_bytes();
            [&size[..], &vec![7; length]].concat()
        };
        super::frames(&[frame(8), frame(300), frame(9)].concat());
        super::frames(&[frame(8), frame(7)].concat());
        super::frames(&[0xff; 9]);
        super::frames(&frame(20)[..11]);
    }
}
