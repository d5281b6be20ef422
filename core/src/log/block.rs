//! A journal block: what one write to the journal holds, and how it is sealed.

/// Everything a block will hold, decided; sealing it is a pure function of it.
#[derive(Clone, Debug)]
pub struct BlockPlan {}

impl BlockPlan {
    /// Returns how many bytes the sealed block has: a multiple of 4 KiB.
    pub const fn sealed_len(&self) -> usize {
        0
    }

    /// Writes the block into `out`, which has exactly [`sealed_len`](Self::sealed_len) bytes.
    pub fn seal(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.sealed_len(), "the buffer fits the block");
    }
}
