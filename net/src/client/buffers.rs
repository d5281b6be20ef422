//! The buffers that a connection reads answers into. An answer stays where it was read for as long as
//! somebody holds a part of it; once nobody does, its memory is read into again. Fresh memory costs more
//! than all else that is done to an answer.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Bytes that are read at once, at least.
const READ: usize = 64 << 10;
/// Largest buffer that is made for more than one answer.
const SHARED_MAX: usize = 4 << 20;
/// Most bytes of buffers that are kept until their answers are let go.
const KEPT_MAX: usize = 16 << 20;

/// The buffers of one connection.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// What is read into, with the beginning of an answer.
    current: BytesMut,
    /// Empty ends of buffers in which answers lie, and how large these are; oldest first.
    kept: VecDeque<(BytesMut, usize)>,
    kept_bytes: usize,
    /// How large the buffer is that is read into.
    size: usize,
    /// Bytes of the largest answers so far.
    largest: usize,
}

impl Buffers {
    /// Gives a buffer with room for a read, of which so many bytes are missing for the next answer.
    pub(super) fn for_read(&mut self, missing: usize) -> &mut BytesMut {
        let wanted = READ.max(missing);
        let there = self.current.len();
        if self.current.capacity() - there >= wanted
            || (self.fits(self.size) && self.current.try_reclaim(wanted))
        {
            return &mut self.current;
        }
        let free = self.kept.iter_mut().position(|(end, _)| end.try_reclaim(there + wanted));
        let found = free.and_then(|index| self.kept.remove(index));
        let (mut next, size) = if let Some((next, size)) = found {
            self.kept_bytes -= size;
            (next, size)
        } else {
            let size = (there + wanted).max((2 * self.least()).min(SHARED_MAX));
            (BytesMut::with_capacity(size), size)
        };
        next.extend_from_slice(&self.current);
        let mut left = std::mem::replace(&mut self.current, next);
        left.clear();
        let left_size = std::mem::replace(&mut self.size, size);
        self.keep(left, left_size);
        &mut self.current
    }

    /// Takes the first bytes of what was read: whole answers.
    pub(super) fn take(&mut self, whole: usize) -> BytesMut {
        self.largest = self.largest.max(whole);
        self.current.split_to(whole)
    }

    /// Returns how large a buffer is at least that holds answers such as have come.
    const fn least(&self) -> usize {
        self.largest + READ
    }

    /// Returns whether a buffer is neither too small for such answers nor made for one out of the common.
    fn fits(&self, size: usize) -> bool {
        size >= self.least().min(SHARED_MAX) && size <= KEPT_MAX
    }

    fn keep(&mut self, left: BytesMut, size: usize) {
        if !self.fits(size) {
            return;
        }
        self.kept.push_back((left, size));
        self.kept_bytes += size;
        while self.kept_bytes > KEPT_MAX
            && let Some((_, size)) = self.kept.pop_front()
        {
            self.kept_bytes -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an answer of so many bytes in one piece.
    fn answer(buffers: &mut Buffers, size: usize) -> BytesMut {
        let buffer = buffers.for_read(size);
        buffer.extend_from_slice(&vec![7; size]);
        buffers.take(size)
    }

    #[test]
    fn memory_is_read_into_again_once_nobody_holds_what_was_in_it() {
        let mut buffers = Buffers::default();
        // The first one shows how large answers are.
        drop(answer(&mut buffers, 500_000));
        let first = answer(&mut buffers, 500_000);
        let second = answer(&mut buffers, 500_000);
        let places = [first.as_ptr(), second.as_ptr()];
        assert_ne!(places[0], places[1], "what is held is not overwritten");
        assert_eq!(second, vec![7; 500_000]);
        let held = first.freeze().slice(10..20);
        drop(second);
        let third = answer(&mut buffers, 500_000);
        assert_ne!(third.as_ptr(), places[0], "a part that is held keeps all of it");
        drop(third);
        drop(held);
        let again: Vec<_> = (0..4).map(|_| answer(&mut buffers, 500_000)).collect();
        assert!(again.iter().any(|answer| answer.as_ptr() == places[0]), "it is used again");
    }

    #[test]
    fn the_beginning_of_an_answer_moves_along() {
        let mut buffers = Buffers::default();
        let held = answer(&mut buffers, 1000);
        buffers.for_read(0).extend_from_slice(b"begin");
        let buffer = buffers.for_read(5_000_000);
        assert_eq!(&buffer[..], b"begin");
        assert!(buffer.capacity() >= 5_000_005);
        buffer.extend_from_slice(b" and end");
        assert_eq!(&buffers.take(13)[..], b"begin and end");
        assert_eq!(held, vec![7; 1000]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut buffers = Buffers::default();
        let held: Vec<_> = (0..40).map(|_| answer(&mut buffers, 1 << 20)).collect();
        assert!(buffers.kept_bytes <= KEPT_MAX);
        assert_eq!(buffers.kept_bytes, buffers.kept.iter().map(|(_, size)| size).sum::<usize>());
        drop(held);
        drop(answer(&mut buffers, 20 << 20));
        drop(answer(&mut buffers, 20 << 20));
        assert!(buffers.kept_bytes <= KEPT_MAX);
    }
}
