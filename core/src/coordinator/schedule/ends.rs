//! How entries ended, remembered for a while: for who comes too late, who asks twice, and who looks.

use std::collections::{BTreeMap, BTreeSet};

use super::state::Name;
use crate::digest::Digest;
use crate::ids::Offset;
use crate::record::hidden::Outcome;

/// How an entry ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct End {
    /// How.
    pub(super) outcome: Outcome,
    /// Where it was delivered, or the ticket of what replaced it; -1 for nowhere.
    pub(super) offset: Offset,
    /// The last offset of what ended it: once that is committed, so is the end.
    pub(super) settled: Offset,
    /// The note that the log may not be without.
    pub(super) place: Offset,
    /// When, on the log's own clock.
    pub(super) ended_at_ms: i64,
    /// What the producer called it.
    pub(super) id: Option<Name>,
}

impl End {
    /// Returns whether it was delivered.
    pub(super) const fn is_delivered(&self) -> bool {
        self.offset.0 >= 0 && matches!(self.outcome, Outcome::Fired | Outcome::Committed)
    }
}

/// The ends that are remembered.
#[derive(Clone, Default, Debug)]
pub(super) struct Ends {
    ended: BTreeMap<Offset, End>,
    /// The last that was called so.
    names: BTreeMap<Name, Offset>,
    ages: BTreeSet<(i64, Offset)>,
    places: BTreeSet<(Offset, Offset)>,
    /// Bytes of what they were called.
    name_bytes: usize,
}

impl Ends {
    /// Remembers an end, in place of what was known of that entry.
    pub(super) fn put(&mut self, ticket: Offset, end: End) {
        self.remove(ticket);
        if let Some(id) = &end.id {
            self.name_bytes += id.len();
            self.names.insert(id.clone(), ticket);
        }
        self.ages.insert((end.ended_at_ms, ticket));
        self.places.insert((end.place, ticket));
        self.ended.insert(ticket, end);
    }

    fn remove(&mut self, ticket: Offset) {
        let Some(end) = self.ended.remove(&ticket) else { return };
        self.ages.remove(&(end.ended_at_ms, ticket));
        self.places.remove(&(end.place, ticket));
        if let Some(id) = &end.id {
            self.name_bytes -= id.len();
            if self.names.get(id) == Some(&ticket) {
                self.names.remove(id);
            }
        }
    }

    /// Forgets what is older than `age_ms` (-1 keeps it), and the oldest beyond `max`. Of the former at most
    /// `turn` at a time, so that no batch waits long.
    pub(super) fn forget(&mut self, now_ms: i64, age_ms: i64, max: usize, turn: usize) {
        let mut left = turn;
        while let Some(&(ended_at_ms, ticket)) = self.ages.first() {
            let is_old = age_ms >= 0 && now_ms.saturating_sub(ended_at_ms) >= age_ms && left > 0;
            if !is_old && self.ages.len() <= max {
                break;
            }
            left = left.saturating_sub(1);
            self.remove(ticket);
        }
    }

    /// Returns how an entry ended.
    pub(super) fn of(&self, ticket: Offset) -> Option<&End> {
        self.ended.get(&ticket)
    }

    /// Returns the last ended entry that was called so.
    pub(super) fn ticket_of(&self, id: &[u8]) -> Option<Offset> {
        self.names.get(id).copied()
    }

    /// Returns the first note that the log may not be without.
    pub(super) fn floor(&self) -> Option<Offset> {
        self.places.first().map(|(place, _)| *place)
    }

    /// Returns what rests on notes below, the lowest first.
    pub(super) fn below(&self, below: Offset) -> impl Iterator<Item = (Offset, &End)> {
        let placed = self.places.range(..(below, Offset(i64::MIN)));
        placed.filter_map(|(_, ticket)| Some((*ticket, self.ended.get(ticket)?)))
    }

    /// Returns how many bytes there are of what they were called.
    pub(super) const fn name_bytes(&self) -> usize {
        self.name_bytes
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.ended.len()
    }

    /// Takes everything into a digest. Ages are part of it, the clock that they were taken by is not.
    pub(super) fn digest(&self, now_ms: i64, digest: &mut Digest) {
        digest.number(self.ended.len() as u64);
        for (ticket, end) in &self.ended {
            digest.signed(ticket.0).signed(end.outcome as i64).signed(end.offset.0);
            digest.signed(end.settled.0).signed(end.place.0).signed(now_ms - end.ended_at_ms);
            digest.bytes(end.id.as_deref().unwrap_or_default());
        }
        digest.shown(&self.names);
    }
}
