//! The transactions of one log: which are open, and which have ended lately or were aborted.
//!
//! An ended transaction is remembered
//! - while its marker is not known to be committed, because the last stable offset waits for it, and
//!   because a log that is cut back between both has it open again;
//! - while the log holds its marker, if it was aborted, because readers of committed records are told.
//!
//! Invariants:
//! 1. `open` holds the first offset of each producer's open transaction, and nothing else.
//! 2. `ended` is in the order of the markers.
//! 3. A transaction that ends behind another begins at or behind that one's `last_stable_offset`.
//!
//! Source: KIP-98; Kafka's `ProducerStateManager`, `ProducerAppendInfo` and `TransactionIndex`.

use std::collections::{BTreeSet, VecDeque};

use crate::digest::Digest;
use crate::ids::{Offset, ProducerId};

/// A transaction that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its marker.
    pub last_offset: Offset,
    /// The first offset of the transactions that were open behind its marker, or the offset after the
    /// marker where none was.
    pub last_stable_offset: Offset,
    /// Whether its records are to be read.
    pub committed: bool,
}

/// The transactions of one log.
#[derive(Clone, Default, Debug)]
pub(super) struct Transactions {
    open: BTreeSet<(Offset, ProducerId)>,
    ended: VecDeque<EndedTransaction>,
    /// Markers below this are committed.
    resolved: Offset,
}

impl Transactions {
    pub(super) const fn new() -> Self {
        Self { open: BTreeSet::new(), ended: VecDeque::new(), resolved: Offset::ZERO }
    }

    /// Takes in what a producer's open transaction was, and what it is.
    pub(super) fn change(&mut self, id: ProducerId, was: Option<Offset>, is: Option<Offset>) {
        if was != is {
            if let Some(first) = was {
                self.open.remove(&(first, id));
            }
            if let Some(first) = is {
                self.open.insert((first, id));
            }
        }
    }

    /// Takes in the end of a transaction that is in `open` no more.
    pub(super) fn end(&mut self, id: ProducerId, first: Offset, last: Offset, committed: bool) {
        let follows = self.ended.back().is_none_or(|ended| ended.last_offset < last);
        if first >= last || !follows {
            // Files may tell of a first offset that cannot be.
            return;
        }
        let ended = EndedTransaction {
            producer_id: id,
            first_offset: first,
            last_offset: last,
            last_stable_offset: self.first_open().unwrap_or_else(|| last.plus(1)),
            committed,
        };
        self.ended.push_back(ended);
    }

    /// Puts in an ended transaction that a file tells of; `false` where that cannot be.
    pub(super) fn load_ended(&mut self, ended: EndedTransaction) -> bool {
        let follows = self.ended.back().is_none_or(|back| back.last_offset < ended.last_offset);
        let possible = ended.first_offset >= Offset::ZERO && ended.first_offset < ended.last_offset;
        if follows && possible {
            self.ended.push_back(ended);
        }
        follows && possible
    }

    /// Takes back the end of whatever ended at or beyond an offset.
    pub(super) fn reopen_from(&mut self, offset: Offset) {
        while self.ended.back().is_some_and(|ended| ended.last_offset >= offset) {
            self.ended.pop_back();
        }
    }

    pub(super) fn first_open(&self) -> Option<Offset> {
        self.open.first().map(|(first, _)| *first)
    }

    pub(super) fn open(&self) -> impl Iterator<Item = (Offset, ProducerId)> + '_ {
        self.open.iter().copied()
    }

    pub(super) fn ended(&self) -> impl Iterator<Item = &EndedTransaction> + '_ {
        self.ended.iter()
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Returns the first offset of any transaction that is open or whose marker is not below
    /// `high_watermark`.
    pub(super) fn first_unstable(&self, high_watermark: Offset) -> Option<Offset> {
        self.first_undecided(high_watermark).map(|(first, _)| first)
    }

    /// The same, with whose transaction it is.
    pub(super) fn first_undecided(&self, high_watermark: Offset) -> Option<(Offset, ProducerId)> {
        let undecided = self.ended.iter().rev();
        undecided
            .take_while(|ended| ended.last_offset >= high_watermark)
            .map(|ended| (ended.first_offset, ended.producer_id))
            .chain(self.open.first().copied())
            .min()
    }

    /// Returns the aborted transactions with an offset in `from..to`, by their first offsets.
    pub(super) fn aborted(&self, from: Offset, to: Offset) -> Vec<EndedTransaction> {
        let at = self.ended.partition_point(|ended| ended.last_offset < from);
        let mut found = Vec::new();
        for ended in self.ended.range(at..) {
            if !ended.committed && ended.first_offset < to {
                found.push(*ended);
            }
            if ended.last_stable_offset >= to {
                // Whatever ends later begins there or behind.
                break;
            }
        }
        found.sort_unstable_by_key(|ended| (ended.first_offset, ended.last_offset));
        found
    }

    /// Returns the aborted transactions whose markers are in `from..to`, by these.
    pub(super) fn aborted_at(&self, from: Offset, to: Offset) -> Vec<EndedTransaction> {
        let place = |at: Offset| self.ended.partition_point(|ended| ended.last_offset < at);
        self.ended.range(place(from)..place(to)).filter(|it| !it.committed).copied().collect()
    }

    /// What is below this is committed.
    pub(super) fn resolve(&mut self, high_watermark: Offset) {
        if high_watermark <= self.resolved {
            return;
        }
        let before = std::mem::replace(&mut self.resolved, high_watermark);
        let from = self.ended.partition_point(|ended| ended.last_offset < before);
        let is_due =
            |ended: &EndedTransaction| ended.committed && ended.last_offset < high_watermark;
        if self.ended.range(from..).any(is_due) {
            let left: Vec<_> = self.ended.drain(from..).filter(|ended| !is_due(ended)).collect();
            self.ended.extend(left);
        }
    }

    /// The log begins here: who reads it is told of nothing before.
    pub(super) fn forget_below(&mut self, start: Offset) {
        while self.ended.front().is_some_and(|ended| ended.last_offset < start) {
            self.ended.pop_front();
        }
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.shown(&(&self.open, self.resolved)).number(self.ended.len() as u64);
        for ended in &self.ended {
            digest.signed(ended.producer_id.0).signed(ended.first_offset.0);
            digest.signed(ended.last_offset.0).signed(ended.last_stable_offset.0);
            digest.number(u64::from(ended.committed));
        }
    }
}
