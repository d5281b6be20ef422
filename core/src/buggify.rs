//! Rare ways of the code, taken on purpose: what a crowded disk, a small machine or bad timing would make
//! happen now and then happens often, and stays correct.
//!
//! A node in production has none of it. Where a node's configuration holds a seed, the seed chooses a
//! part of the sites for the whole run, and each visit of a chosen one draws whether it strikes. Nothing
//! that a site does may be visible to clients but in time, in sizes and in the places where things stand.
//! (The idea is that of `FoundationDB`.)

/// A place in the code that can take a rarer way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Site {
    /// A journal block takes one entry and leaves the others to the next.
    SmallBlock,
    /// Entries wait for a moment although the journal is idle.
    LateBlock,
    /// A checkpoint begins although no journal file waits for one.
    EarlyCheckpoint,
    /// Memory lets go of batches as if there was no budget for them.
    CacheMiss,
    /// A fetch from a file brings one batch.
    ShortFetch,
    /// A segment is read a few bytes at a time.
    SmallRead,
    /// A journal is read one page at a time.
    SmallScan,
    /// A segment that holds anything is rolled.
    EarlyRoll,
    /// What became stable goes to its segment at once.
    EarlyWrite,
    /// A segment write takes one batch.
    SmallRun,
    /// Posts to another shard leave one by one.
    SplitPosts,
    /// A parked fetch is answered long before its time.
    EarlyDeadline,
    /// A link is given up as soon as markers have been sent on it.
    LeftMarkers,
}

/// Every site, in the order of their numbers.
pub const SITES: [Site; 13] = [
    Site::SmallBlock,
    Site::LateBlock,
    Site::EarlyCheckpoint,
    Site::CacheMiss,
    Site::ShortFetch,
    Site::SmallRead,
    Site::SmallScan,
    Site::EarlyRoll,
    Site::EarlyWrite,
    Site::SmallRun,
    Site::SplitPosts,
    Site::EarlyDeadline,
    Site::LeftMarkers,
];

impl Site {
    /// Returns how often it strikes where it is chosen, in 1/256.
    const fn odds(self) -> u64 {
        match self {
            // Visited at every turn of a shard.
            Self::EarlyCheckpoint => 2,
            Self::LateBlock | Self::EarlyRoll | Self::EarlyDeadline | Self::LeftMarkers => 26,
            Self::CacheMiss | Self::EarlyWrite => 64,
            Self::SmallBlock
            | Self::ShortFetch
            | Self::SmallRead
            | Self::SmallScan
            | Self::SmallRun
            | Self::SplitPosts => 128,
        }
    }
}

/// Which sites take the rarer way, and when. The default is none, ever.
#[derive(Clone, Default, Debug)]
pub struct Buggify(Option<Box<Active>>);

#[derive(Clone, Debug)]
struct Active {
    sites: u16,
    state: u64,
}

impl Buggify {
    /// Chooses about half of the sites by `seed`, for all starts that are given it, and draws by `start`,
    /// which differs between starts and shards.
    pub fn new(seed: Option<u64>, start: u64) -> Self {
        Self(seed.map(|seed| {
            let sites = mix(seed ^ 0x5157_4553) as u16;
            Box::new(Active { sites, state: mix(seed ^ mix(start)) })
        }))
    }

    /// Makes every site strike at its odds, for tests.
    #[cfg(test)]
    pub(crate) fn everywhere(seed: u64) -> Self {
        Self(Some(Box::new(Active { sites: u16::MAX, state: seed })))
    }

    /// Returns whether this visit takes the rarer way.
    #[inline]
    pub fn strikes(&mut self, site: Site) -> bool {
        self.0.as_mut().is_some_and(|active| active.draw(site))
    }
}

impl Active {
    #[cold]
    fn draw(&mut self, site: Site) -> bool {
        if self.sites & (1 << site as u8) == 0 {
            return false;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state) >> 56 < site.odds()
    }
}

/// The mixing of `SplitMix64`.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(seed: Option<u64>, start: u64) -> Vec<Vec<bool>> {
        let mut buggify = Buggify::new(seed, start);
        SITES.map(|site| (0..2_000).map(|_| buggify.strikes(site)).collect()).into()
    }

    #[test]
    fn without_a_seed_nothing_strikes() {
        assert!(struck(None, 7).iter().flatten().all(|struck| !struck));
    }

    #[test]
    fn a_seed_chooses_the_same_sites_at_every_start_and_each_start_draws_its_own() {
        let chosen = |visits: &[Vec<bool>]| -> Vec<bool> {
            visits.iter().map(|visits| visits.contains(&true)).collect()
        };
        let mut numbers = [0; SITES.len()];
        for seed in 0..200 {
            let (a, b) = (struck(Some(seed), 1), struck(Some(seed), 2));
            assert_eq!(a, struck(Some(seed), 1));
            assert_eq!(chosen(&a), chosen(&b), "seed {seed}");
            assert!(a != b || !chosen(&a).contains(&true));
            for (number, is_chosen) in numbers.iter_mut().zip(chosen(&a)) {
                *number += u32::from(is_chosen);
            }
        }
        assert!(numbers.iter().all(|number| (60..140).contains(number)), "{numbers:?}");
    }

    #[test]
    fn a_chosen_site_strikes_at_its_odds() {
        let mut buggify = Buggify::everywhere(3);
        for site in SITES {
            let visits = 40_000;
            let struck = (0..visits).filter(|_| buggify.strikes(site)).count() as u64;
            let expected = visits * site.odds() / 256;
            assert!((expected / 2..expected * 2).contains(&struck), "{site:?}: {struck}");
        }
    }
}
