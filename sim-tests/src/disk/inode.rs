//! One file: what reads see, what power loss leaves, and the writes in between.

use std::sync::OnceLock;

use crate::trace::TraceHash;

/// Something written that power loss may take or leave.
#[derive(Clone, Debug)]
enum Pending {
    /// The content of one sector as it was after a write.
    Sector {
        /// Which sector of the file.
        index: u64,
        /// Its whole content: a device writes whole sectors, so what an earlier lost write put
        /// beside the new bytes comes along.
        content: Box<[u8]>,
    },
    /// The length, grown or cut.
    Length(u64),
}

/// The images of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    page: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// The hash of all that, once it was asked for and until something changes.
    hash: OnceLock<u64>,
}

impl Inode {
    /// Returns what reads see.
    pub(super) fn page(&self) -> &[u8] {
        &self.page
    }

    /// Returns what is sure to be there after power loss.
    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    /// Returns a hash of both images and of what is pending.
    pub(super) fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            let mut hash = TraceHash::default();
            hash.bytes(&self.page);
            if self.page == self.durable {
                hash.number(1);
            } else {
                hash.bytes(&self.durable);
            }
            for pending in &self.pending {
                match pending {
                    Pending::Sector { index, content } => {
                        hash.number(*index);
                        hash.bytes(content);
                    }
                    Pending::Length(length) => hash.number(!length),
                }
            }
            hash.finish()
        })
    }

    /// Returns whether power loss would change nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.page == self.durable
    }

    /// Returns how many pieces power loss may take or leave.
    pub(super) fn pending_units(&self) -> usize {
        self.pending.len()
    }

    /// Writes into the page image; every sector touched becomes pending.
    pub(super) fn write(&mut self, position: u64, bytes: &[u8], sector: u64) {
        self.hash.take();
        if bytes.is_empty() {
            return;
        }
        let (from, to) = (position as usize, position as usize + bytes.len());
        if self.page.len() < to {
            self.page.resize(to, 0);
        }
        // Where a flush that failed has dropped a length, file systems still make a file as long as what is written
        // and flushed later needs.
        if self.length_to_come() < to as u64 {
            self.pending.push(Pending::Length(to as u64));
        }
        self.page[from..to].copy_from_slice(bytes);
        for index in position / sector..=(to as u64 - 1) / sector {
            let start = (index * sector) as usize;
            let end = self.page.len().min(start + sector as usize);
            let content = self.page[start..end].into();
            self.pending.push(Pending::Sector { index, content });
        }
    }

    /// Returns how long the file is once all that is pending is durable.
    fn length_to_come(&self) -> u64 {
        let last = self.pending.iter().rev().find_map(|pending| match pending {
            Pending::Length(length) => Some(*length),
            Pending::Sector { .. } => None,
        });
        last.unwrap_or(self.durable.len() as u64)
    }

    /// Sets the length; what is cut off reads as zeros if the file grows again.
    pub(super) fn set_length(&mut self, length: u64) {
        self.hash.take();
        if self.page.len() as u64 != length {
            self.page.resize(length as usize, 0);
            self.pending.push(Pending::Length(length));
        }
    }

    /// Makes everything written so far durable.
    ///
    /// What an earlier failed flush dropped stays lost: only sectors that were written again
    /// since carry it along.
    pub(super) fn flush(&mut self, sector: u64) {
        self.settle(sector, |_| true);
    }

    /// A flush failed: the kernel marks the pages clean, so they read back and will never be
    /// written, and the next flush succeeds.
    pub(super) fn fail_flush(&mut self) {
        self.hash.take();
        self.pending.clear();
    }

    /// The device reports everything written so far as durable, and has put it `by` sectors further
    /// on: what was there is gone, and where it belongs the old bytes stay.
    pub(super) fn flush_elsewhere(&mut self, sector: u64, by: u64) {
        for pending in &mut self.pending {
            if let Pending::Sector { index, .. } = pending {
                *index += by;
            }
        }
        let length = self.page.len() as u64;
        self.pending.push(Pending::Length(length));
        self.settle(sector, |_| true);
    }

    /// The page cache lets go of the file: reads see what the device has, and what is on its way there.
    pub(super) fn drop_cache(&mut self, sector: u64) {
        let mut device = self.clone();
        device.settle(sector, |_| true);
        self.page = device.durable;
        self.hash.take();
    }

    /// Changes what is at rest, behind everything written so far.
    pub(super) fn damage(&mut self, sector: u64, change: impl FnOnce(&mut Vec<u8>)) {
        self.settle(sector, |_| true);
        change(&mut self.durable);
        self.page.clone_from(&self.durable);
        self.hash.take();
    }

    /// Makes the pieces durable for which `survives` says so, in order, and forgets the others.
    fn settle(&mut self, sector: u64, mut survives: impl FnMut(usize) -> bool) {
        self.hash.take();
        let mut length = self.durable.len() as u64;
        for (unit, pending) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if !survives(unit) {
                continue;
            }
            match pending {
                Pending::Sector { index, content } => {
                    let start = (index * sector) as usize;
                    if self.durable.len() < start + content.len() {
                        self.durable.resize(start + content.len(), 0);
                    }
                    self.durable[start..start + content.len()].copy_from_slice(&content);
                }
                Pending::Length(new) => {
                    if new < length {
                        self.durable.truncate(new as usize);
                    }
                    length = new;
                }
            }
        }
        // Sectors beyond a length that did not survive are gone, and a length that survived
        // without its sectors shows zeros.
        self.durable.resize(length as usize, 0);
    }

    /// Power is lost: the pieces for which `survives` says so remain, and reads see just that.
    pub(super) fn lose_power(&mut self, sector: u64, survives: impl FnMut(usize) -> bool) {
        self.settle(sector, survives);
        self.page.clone_from(&self.durable);
    }

    /// Flips one bit at rest. Returns whether there is such a byte.
    pub(super) fn rot(&mut self, at: u64, bit: u8) -> bool {
        self.hash.take();
        let mut hit = false;
        for image in [&mut self.page, &mut self.durable] {
            if let Some(byte) = image.get_mut(at as usize) {
                *byte ^= 1 << (bit & 7);
                hit = true;
            }
        }
        hit
    }

    /// Makes the file hold that many zero bytes, written and not yet flushed.
    pub(super) fn fill(&mut self, length: u64, sector: u64) {
        self.set_length(0);
        let zeros = vec![0; length as usize];
        self.write(0, &zeros, sector);
    }
}
