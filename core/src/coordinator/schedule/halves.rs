//! Half messages, and which of them wait for their verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::digest::Digest;
use crate::ids::Offset;

/// What a half message has besides, from its acceptance to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HalfMessage {
    /// Milliseconds before the first check, -1 for the topic's setting.
    pub(super) check_after_ms: i64,
    /// Checks that were sent.
    pub(super) checks: u32,
    /// The note by which the next one is about to be sent.
    pub(super) intent: Option<Offset>,
    /// Whether it is asked for no more.
    pub(super) is_parked: bool,
    /// Where it was committed: once that is, so is the verdict.
    pub(super) committed: Option<Offset>,
}

impl HalfMessage {
    pub(super) const NEW: Self =
        Self { check_after_ms: -1, checks: 0, intent: None, is_parked: false, committed: None };

    /// Returns whether the verdict is out.
    pub(super) const fn is_undecided(&self) -> bool {
        self.committed.is_none()
    }
}

/// All that were taken as half messages, and wait.
///
/// Invariant: `undecided` has those of `all` without a verdict, `parked` those of them that are parked.
#[derive(Clone, Default, Debug)]
pub(super) struct Halves {
    all: BTreeMap<Offset, HalfMessage>,
    undecided: BTreeSet<Offset>,
    parked: BTreeSet<Offset>,
}

impl Halves {
    /// Adds one, or takes over what it has become.
    pub(super) fn insert(&mut self, ticket: Offset, half: HalfMessage) {
        let put = |set: &mut BTreeSet<Offset>, is_in: bool| {
            if is_in {
                set.insert(ticket);
            } else {
                set.remove(&ticket);
            }
        };
        put(&mut self.undecided, half.is_undecided());
        put(&mut self.parked, half.is_undecided() && half.is_parked);
        self.all.insert(ticket, half);
    }

    /// Changes one, if it is there.
    pub(super) fn change(&mut self, ticket: Offset, change: impl FnOnce(&mut HalfMessage)) {
        if let Some(mut half) = self.all.get(&ticket).cloned() {
            change(&mut half);
            self.insert(ticket, half);
        }
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, ticket: Offset) -> Option<HalfMessage> {
        self.undecided.remove(&ticket);
        self.parked.remove(&ticket);
        self.all.remove(&ticket)
    }

    /// Returns one.
    pub(super) fn of(&self, ticket: Offset) -> Option<&HalfMessage> {
        self.all.get(&ticket)
    }

    /// Returns how many there are: all, without a verdict, and parked.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.all.len(), self.undecided.len(), self.parked.len())
    }

    /// Returns those without a verdict behind a ticket, or the parked ones of them alone.
    pub(super) fn undecided_after(
        &self,
        after: Option<Offset>,
        parked: bool,
    ) -> impl Iterator<Item = Offset> {
        let bounds = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let set = if parked { &self.parked } else { &self.undecided };
        set.range(bounds).copied()
    }

    /// Takes everything into a digest.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.shown(&self.all);
    }
}
