//! Hashes of records that must not be stored twice within a window.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::ids::{Offset, ProducerId};

/// A hash that is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sighting {
    /// Where the record is.
    pub(super) ticket: Offset,
    /// Whose open transaction it is part of.
    pub(super) held_by: Option<ProducerId>,
    /// The note that the log may not be without.
    pub(super) place: Offset,
    /// When it was stored, on the log's own clock.
    pub(super) stored_at_ms: i64,
}

/// The hashes that are remembered.
#[derive(Clone, Default, Debug)]
pub(super) struct Seen {
    sightings: BTreeMap<u128, Sighting>,
    ages: BTreeSet<(i64, u128)>,
    places: BTreeSet<(Offset, u128)>,
}

impl Seen {
    /// Remembers a hash, in place of what was known of it.
    pub(super) fn put(&mut self, hash: u128, sighting: Sighting) {
        self.remove(hash);
        self.ages.insert((sighting.stored_at_ms, hash));
        self.places.insert((sighting.place, hash));
        self.sightings.insert(hash, sighting);
    }

    fn remove(&mut self, hash: u128) {
        let Some(sighting) = self.sightings.remove(&hash) else { return };
        self.ages.remove(&(sighting.stored_at_ms, hash));
        self.places.remove(&(sighting.place, hash));
    }

    /// Ends what the transaction of this producer holds of a hash: it is stored, or never was.
    pub(super) fn end(&mut self, hash: u128, producer: ProducerId, committed: bool) {
        let Some(sighting) = self.sightings.get_mut(&hash) else { return };
        if sighting.held_by != Some(producer) {
            return;
        }
        if committed {
            sighting.held_by = None;
        } else {
            self.remove(hash);
        }
    }

    /// Forgets what is older than the window, at most `turn` at a time, so that no batch waits long. What an
    /// open transaction holds stays until it ends.
    pub(super) fn forget(&mut self, now_ms: i64, window_ms: i64, turn: usize) {
        let is_old = |at: i64| now_ms.saturating_sub(at) >= window_ms;
        let old = self.ages.iter().take(turn).take_while(|(at, _)| is_old(*at));
        let old: Vec<u128> = old.map(|(_, hash)| *hash).collect();
        for hash in old {
            if self.sightings.get(&hash).is_some_and(|sighting| sighting.held_by.is_none()) {
                self.remove(hash);
            }
        }
    }

    /// Returns what is known of a hash.
    pub(super) fn of(&self, hash: u128) -> Option<&Sighting> {
        self.sightings.get(&hash)
    }

    /// Returns how many of the oldest hashes, at most `up_to`, are past what `is_old` says.
    pub(super) fn old(&self, up_to: usize, is_old: impl Fn(&Sighting) -> bool) -> usize {
        let oldest = self.ages.iter().take(up_to);
        oldest.filter(|(_, hash)| self.sightings.get(hash).is_some_and(&is_old)).count()
    }

    /// Returns the first note that the log may not be without.
    pub(super) fn floor(&self) -> Option<Offset> {
        self.places.first().map(|(place, _)| *place)
    }

    /// Returns what rests on notes below, the lowest first.
    pub(super) fn below(&self, below: Offset) -> impl Iterator<Item = (u128, &Sighting)> {
        let placed = self.places.range(..(below, 0));
        placed.filter_map(|(_, hash)| Some((*hash, self.sightings.get(hash)?)))
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.sightings.len()
    }

    /// Takes everything into a digest. Ages are part of it, the clock that they were taken by is not.
    pub(super) fn digest(&self, now_ms: i64, digest: &mut Digest) {
        digest.number(self.sightings.len() as u64);
        for (hash, sighting) in &self.sightings {
            digest.bytes(&hash.to_be_bytes()).signed(sighting.ticket.0).signed(sighting.place.0);
            digest.signed(sighting.held_by.map_or(-1, |producer| producer.0));
            digest.signed(now_ms - sighting.stored_at_ms);
        }
    }
}
