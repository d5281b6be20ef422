//! The way from one address to another, and what can be wrong with it.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// How long a lost piece waits before it is sent again, at the least, in nanoseconds.
pub(super) const RESEND: u64 = 200_000_000;

/// What is wrong with a way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkTrouble {
    /// Nothing passes; what is sent is held.
    Cut,
    /// Pieces take that much longer in the mean, in nanoseconds.
    Delay(u64),
    /// That share of pieces is lost and comes when it is sent again, in 1/1000.
    Stall(u32),
    /// That many bytes pass in a second.
    Bandwidth(u64),
    /// That many bytes are under way or wait to be read at most.
    Clog(u64),
    /// That share of pieces is one byte long, in 1/1000.
    Crumble(u32),
    /// That share of sends ends in a reset behind one of its bytes, in 1/1000.
    Reset(u32),
    /// Nothing is learnt of the death of who sends.
    Silent,
}

impl LinkTrouble {
    /// Returns its name, for the counts.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Cut => "link-cut",
            Self::Delay(_) => "link-delay",
            Self::Stall(_) => "link-stall",
            Self::Bandwidth(_) => "link-slow",
            Self::Clog(_) => "link-clog",
            Self::Crumble(_) => "link-crumble",
            Self::Reset(_) => "link-reset",
            Self::Silent => "link-silent",
        }
    }
}

/// The state of one way.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Link {
    pub(super) cut: bool,
    delay: u64,
    pub(super) stall: u32,
    /// Bytes per second, 0 for no limit.
    bandwidth: u64,
    /// When the last byte has passed.
    free_at: u64,
    pub(super) clog: Option<usize>,
    pub(super) split: u32,
    pub(super) reset: u32,
    pub(super) silent: bool,
}

impl Link {
    pub(super) fn set(&mut self, trouble: LinkTrouble) {
        match trouble {
            LinkTrouble::Cut => self.cut = true,
            LinkTrouble::Delay(mean) => self.delay = mean,
            LinkTrouble::Stall(share) => self.stall = share,
            LinkTrouble::Bandwidth(bytes) => (self.bandwidth, self.free_at) = (bytes, 0),
            LinkTrouble::Clog(bytes) => self.clog = Some(bytes.max(1) as usize),
            LinkTrouble::Crumble(share) => self.split = share,
            LinkTrouble::Reset(share) => self.reset = share,
            LinkTrouble::Silent => self.silent = true,
        }
    }

    pub(super) fn clear(&mut self, trouble: LinkTrouble) {
        match trouble {
            LinkTrouble::Cut => self.cut = false,
            LinkTrouble::Clog(_) => self.clog = None,
            LinkTrouble::Silent => self.silent = false,
            LinkTrouble::Delay(_) => self.set(LinkTrouble::Delay(0)),
            LinkTrouble::Stall(_) => self.set(LinkTrouble::Stall(0)),
            LinkTrouble::Bandwidth(_) => self.set(LinkTrouble::Bandwidth(0)),
            LinkTrouble::Crumble(_) => self.set(LinkTrouble::Crumble(0)),
            LinkTrouble::Reset(_) => self.set(LinkTrouble::Reset(0)),
        }
    }

    /// Returns how many bytes may be under way or wait to be read, where it would be `most` without trouble.
    pub(super) fn window(&self, most: usize) -> usize {
        let clog = self.clog.unwrap_or(most);
        // A slow line holds a second's worth of bytes, so that it is well again soon behind its trouble.
        let slow = if self.bandwidth == 0 { most } else { self.bandwidth.max(256) as usize };
        most.min(clog).min(slow)
    }

    /// Returns how many bytes go in one piece.
    pub(super) fn piece(&self, most: usize) -> usize {
        if self.bandwidth == 0 { most } else { most.min((self.bandwidth / 8).max(1) as usize) }
    }

    /// Draws by how much a piece is late.
    pub(super) fn delay(&self, chance: &mut Rng) -> u64 {
        if self.delay == 0 { 0 } else { chance.exponential(self.delay) }
    }

    /// Lets that many bytes pass from `at` on. Returns when the last one has.
    pub(super) fn passes(&mut self, at: u64, bytes: usize) -> u64 {
        if self.bandwidth == 0 {
            return at;
        }
        self.free_at = self.free_at.max(at) + bytes as u64 * 1_000_000_000 / self.bandwidth;
        self.free_at
    }
}
