//! Which of the pieces that a power cut may take are taken.

use std::collections::BTreeSet;

use crate::rng::Rng;

/// Pending pieces up to which every subset is tried.
const EXHAUSTIVE_UNITS: usize = 12;

/// Subsets by chance where there are too many pieces for all of them.
const RANDOM: usize = 1_000;

/// Returns every subset of `units` pieces up to twelve of them; of more none, all, every prefix, suffix,
/// single hole and pair, and a thousand by chance.
pub(super) fn all(units: usize, rng: &mut Rng) -> Vec<BTreeSet<usize>> {
    if units <= EXHAUSTIVE_UNITS {
        return every(units);
    }
    let whole: BTreeSet<usize> = (0..units).collect();
    let mut chosen = vec![BTreeSet::new(), whole.clone()];
    for at in 0..units {
        chosen.push((0..at).collect());
        chosen.push((at..units).collect());
        chosen.push(whole.iter().copied().filter(|unit| *unit != at).collect());
        chosen.extend((at..units).map(|other| BTreeSet::from([at, other])));
    }
    chosen.extend((0..RANDOM).map(|_| whole.iter().copied().filter(|_| rng.chance(500)).collect()));
    chosen
}

fn every(units: usize) -> Vec<BTreeSet<usize>> {
    (0..1_usize << units)
        .map(|mask| (0..units).filter(|unit| mask >> unit & 1 == 1).collect())
        .collect()
}

/// Returns subsets of `units` pieces: all of them where they are few and `most` allows it, else a
/// choice of prefixes, suffixes, single holes, pairs and random ones.
pub(super) fn some(units: usize, most: usize, rng: &mut Rng) -> Vec<BTreeSet<usize>> {
    let all: BTreeSet<usize> = (0..units).collect();
    if units <= EXHAUSTIVE_UNITS && 1 << units <= most {
        return every(units);
    }
    let mut chosen = vec![BTreeSet::new(), all.clone()];
    while chosen.len() < most.max(2) {
        let at = rng.index(units);
        let subset = match rng.below(5) {
            0 => (0..at).collect(),
            1 => (at..units).collect(),
            2 => all.iter().copied().filter(|unit| *unit != at).collect(),
            3 => BTreeSet::from([at, rng.index(units)]),
            _ => all.iter().copied().filter(|_| rng.chance(500)).collect(),
        };
        chosen.push(subset);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn few_pieces_are_tried_in_every_subset() {
        let mut rng = Rng::new(1, Stream::Faults);
        let found: BTreeSet<_> = some(4, 16, &mut rng).into_iter().collect();
        assert_eq!(found.len(), 16);
    }

    #[test]
    fn of_many_pieces_none_all_and_a_choice_are_tried() {
        let mut rng = Rng::new(1, Stream::Faults);
        let found = some(40, 50, &mut rng);
        assert_eq!(found.len(), 50);
        assert!(found.iter().any(BTreeSet::is_empty) && found.iter().any(|set| set.len() == 40));
    }

    #[test]
    fn twelve_pieces_are_tried_in_every_subset_and_thirteen_in_every_simple_one() {
        let mut rng = Rng::new(1, Stream::Faults);
        assert_eq!(all(12, &mut rng).into_iter().collect::<BTreeSet<_>>().len(), 4_096);
        let thirteen: BTreeSet<_> = all(13, &mut rng).into_iter().collect();
        assert!(thirteen.len() > 900);
        for at in 0..13 {
            assert!(
                thirteen.contains(&(0..at).collect()) && thirteen.contains(&(at..13).collect())
            );
            assert!(thirteen.contains(&(0..13).filter(|unit| *unit != at).collect()));
            assert!((0..13).all(|other| thirteen.contains(&BTreeSet::from([at, other]))));
        }
    }
}
