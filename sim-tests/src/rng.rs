//! Chance: independent streams drawn from one seed.
//!
//! Each concern has a stream of its own (workload, faults, one for each node), and each part of a concern
//! a [child](Rng::child) of it (one client, one way of one connection, what follows one fault), so that
//! taking a fault or a client away does not shift what the others draw. That is what makes a failing run
//! small enough to read.
//!
//! The generator is `SplitMix64`: a stream of its own costs a few multiplications, so that there can be one for
//! every connection and every event.

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Which options a seed has.
    Swarm,
    /// Order of events at equal times, and delays.
    Schedule,
    /// What clients do.
    Workload,
    /// When which fault strikes.
    Faults,
    /// The network.
    Net,
    /// What scenarios draw since they have drawn all else: an option more shifts nothing of the others.
    Added,
    /// The disk of a node.
    Disk(u32),
    /// The seed that a start of a node is given.
    Node(u32),
}

impl Stream {
    fn number(self) -> u64 {
        match self {
            Self::Swarm => 1,
            Self::Schedule => 2,
            Self::Workload => 3,
            Self::Faults => 4,
            Self::Net => 5,
            Self::Added => 6,
            Self::Disk(node) => (1 << 32) | u64::from(node),
            Self::Node(node) => (2 << 32) | u64::from(node),
        }
    }
}

/// The step of `SplitMix64`, and a number to mix others with.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One stream of chance.
#[derive(Clone, Debug)]
pub struct Rng {
    /// Where it began, for its children.
    root: u64,
    state: u64,
}

impl Rng {
    /// Opens the stream of `seed` that is for `stream`.
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self::rooted(mix(seed.wrapping_add(GOLDEN))).child(stream.number())
    }

    const fn rooted(root: u64) -> Self {
        Self { root, state: root }
    }

    /// Opens a stream of its own for one part of what this one is for. It depends on the part alone and
    /// not on what was drawn before.
    #[must_use]
    pub fn child(&self, part: u64) -> Self {
        Self::rooted(mix(self.root ^ mix(part.wrapping_add(GOLDEN))))
    }

    /// Draws 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Draws a number in `0..below`; 0 where `below` is 0.
    pub fn below(&mut self, below: u64) -> u64 {
        // The bias of one part in 2^64 / below is of no interest here.
        ((u128::from(self.bits()) * u128::from(below)) >> 64) as u64
    }

    /// Draws a number in `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// Draws an index into something of that length.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Returns true with the probability `permille` / 1000. Draws nothing where it is 0.
    pub fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    /// Draws a duration around `mean`, exponentially spread and at most sixteen times it.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        // -ln(u) in integers: the number of leading zeros of a draw is geometric, and the bits
        // behind the first one spread it evenly. No float, so it is equal on every machine.
        let draw = self.bits();
        let zeros = u64::from(draw.leading_zeros()).min(15);
        let fraction = (draw.wrapping_shl(draw.leading_zeros() + 1) >> 48) & 0xffff;
        // Each halving is worth ln 2 = 0.693 of the mean.
        let scaled = (zeros << 16) + (0x1_0000 - fraction);
        ((u128::from(mean) * u128::from(scaled) * 693 / 1000) >> 16) as u64
    }

    /// Shuffles a slice.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index(last + 1);
            items.swap(last, other);
        }
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_are_independent_and_repeatable() {
        let mut a = Rng::new(7, Stream::Faults);
        let mut b = Rng::new(7, Stream::Workload);
        let mut again = Rng::new(7, Stream::Faults);
        assert_ne!(a.bits(), b.bits());
        again.bits();
        assert_eq!(a.bits(), again.bits());
    }

    #[test]
    fn a_part_draws_the_same_whatever_its_whole_has_drawn() {
        let mut whole = Rng::new(7, Stream::Net);
        let before = whole.child(3).bits();
        whole.bits();
        assert_eq!(whole.child(3).bits(), before);
        assert_ne!(whole.child(4).bits(), before);
        assert_ne!(whole.child(3).child(3).bits(), before);
        assert_ne!(Rng::new(8, Stream::Net).child(3).bits(), before);
    }

    #[test]
    fn draws_spread_evenly() {
        let mut counts = [0_u32; 64];
        for part in 0..1_000 {
            let mut rng = Rng::new(part, Stream::Schedule).child(part);
            for _ in 0..64 {
                counts[rng.index(64)] += 1;
            }
        }
        // 1,000 are expected of each; the standard deviation is about 31.
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut rng = Rng::new(1, Stream::Schedule);
        for _ in 0..10_000 {
            assert!((5..=9).contains(&rng.between(5, 9)));
            assert!(rng.exponential(100) <= 1600);
        }
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn exponential_draws_have_about_their_mean() {
        let mut rng = Rng::new(2, Stream::Schedule);
        let sum: u64 = (0..20_000).map(|_| rng.exponential(1_000)).sum();
        assert!((900..1_200).contains(&(sum / 20_000)), "{}", sum / 20_000);
    }
}
