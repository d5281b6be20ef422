//! Who votes: the set that the cluster was formed with, and every one that a record of the log has put in its
//! place since (KIP-853).
//!
//! A set counts from the moment its record stands in the log, committed or not, and no longer once the record is
//! cut off. One member comes or goes at a time, so any two majorities of two sets in a row share a node; the next
//! change waits until the last one is committed, and the first of a leader until its epoch has a record that is
//! (Ongaro 2014, section 4, and his correction of 2015).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{NodeId, Offset};
use crate::quorum::leader::{Observer, Progress};
use crate::quorum::{LogView, Quorum, ReplicaKey, Role};
use crate::time::Instant;

/// The sets, as far back as they may be wanted.
#[derive(Clone, Debug)]
pub(super) struct Voters {
    formed: BTreeSet<ReplicaKey>,
    /// By the offsets of their records, in order.
    changes: Vec<(Offset, BTreeSet<ReplicaKey>)>,
}

impl Voters {
    pub(super) const fn new(formed: BTreeSet<ReplicaKey>) -> Self {
        Self { formed, changes: Vec::new() }
    }

    /// Returns those that vote now.
    pub(super) fn current(&self) -> &BTreeSet<ReplicaKey> {
        self.changes.last().map_or(&self.formed, |(_, voters)| voters)
    }

    /// Returns whether the last change is committed.
    fn is_settled(&self, high_watermark: Offset) -> bool {
        self.changes.last().is_none_or(|(offset, _)| *offset < high_watermark)
    }

    fn cut(&mut self, end: Offset) {
        self.changes.retain(|(offset, _)| *offset < end);
    }

    /// Returns those that vote by what the log says below an offset, `None` where it says nothing.
    fn before(&self, end: Offset) -> Option<&BTreeSet<ReplicaKey>> {
        let changes = self.changes.iter().rev();
        changes.into_iter().find(|(offset, _)| *offset < end).map(|(_, voters)| voters)
    }
}

impl Quorum {
    /// Returns those that vote.
    pub fn voters(&self) -> &BTreeSet<ReplicaKey> {
        self.voters.current()
    }

    /// Returns whether this replica votes.
    pub fn is_voter(&self) -> bool {
        self.voters().contains(&self.config.me)
    }

    /// Returns whether a node may be one that votes, as far as this one knows: nobody else can lead, whatever is said.
    pub(super) fn may_vote(&self, node: NodeId) -> bool {
        let Voters { formed, changes } = &self.voters;
        let sets = std::iter::once(formed).chain(changes.iter().map(|(_, voters)| voters));
        self.config.known.contains(&node) || sets.flatten().any(|voter| voter.node == node)
    }

    pub(super) fn is_alone(&self) -> bool {
        self.is_voter() && self.voters().len() == 1
    }

    /// Returns how many voters are a majority.
    pub(super) fn majority(&self) -> usize {
        self.voters().len() / 2 + 1
    }

    /// Returns the other voters.
    pub(super) fn others(&self) -> Vec<NodeId> {
        let me = self.config.me.node;
        self.voters().iter().map(|voter| voter.node).filter(|&node| node != me).collect()
    }

    /// Takes in that a record at `offset` of the log says who votes from now on.
    pub fn voters_changed(
        &mut self,
        now: Instant,
        offset: Offset,
        voters: BTreeSet<ReplicaKey>,
        log: &impl LogView,
    ) {
        self.voters.cut(offset);
        self.voters.changes.push((offset, voters));
        let (others, alone, patience) = (self.others(), self.is_alone(), self.patience());
        if let Role::Leader(leading) = &mut self.role {
            leading.voters.retain(|node, _| others.contains(node));
            for node in others {
                // It has just fetched; how far it is proven it says next.
                leading.voters.entry(node).or_insert_with(|| Progress::heard(now));
            }
            leading.observers.retain(|replica, _| !self.voters.current().contains(replica));
            leading.resign_at = match leading.resign_at {
                _ if alone => None,
                before => before.or(Some(now + patience)),
            };
            self.advance(log);
        }
    }

    /// Returns those that vote by what the log says below an offset; `None` where it says nothing, so that those vote
    /// that the cluster was formed with.
    pub fn voters_before(&self, end: Offset) -> Option<&BTreeSet<ReplicaKey>> {
        self.voters.before(end)
    }

    /// Takes in what a snapshot that ends at `end` says of voters, in the place of all that the log has said.
    pub fn restore_voters(&mut self, end: Offset, voters: Option<BTreeSet<ReplicaKey>>) {
        self.voters.changes.clear();
        // Where the record stood nobody needs to know, but that it is committed.
        self.voters.changes.extend(voters.map(|voters| (Offset(end.0 - 1), voters)));
    }

    /// Takes in that the log now ends at `end`.
    pub fn cut(&mut self, end: Offset) {
        self.voters.cut(end);
    }

    /// Returns who should vote once a replica is let in that does not vote yet and has all that is committed: another
    /// directory of its node, which it comes in the place of, leaves first. `None` while it may not be.
    pub fn voters_with(&self, now: Instant, replica: ReplicaKey) -> Option<BTreeSet<ReplicaKey>> {
        let Role::Leader(leading) = &self.role else { return None };
        let voters = self.voters();
        let has_begun = leading.begun.is_some_and(|begun| begun < self.high_watermark);
        if !has_begun || !self.voters.is_settled(self.high_watermark) || voters.contains(&replica) {
            return None;
        }
        let observer = leading.observers.get(&replica)?;
        if observer.end < self.high_watermark || now.since(observer.fetched_at) > CAUGHT_UP_WITHIN {
            return None;
        }
        let mut next = voters.clone();
        match voters.iter().find(|voter| voter.node == replica.node) {
            Some(&before) => next.remove(&before),
            None => next.insert(replica),
        };
        (!next.is_empty()).then_some(next)
    }

    /// Returns those that follow and do not vote, with the end of what they asked for last and when that was. Nobody
    /// but the leader knows.
    pub fn observers(&self) -> impl Iterator<Item = (ReplicaKey, Offset, Instant)> {
        let leading = match &self.role {
            Role::Leader(leading) => Some(leading),
            Role::Unattached { .. }
            | Role::Prospective(_)
            | Role::Candidate(_)
            | Role::Follower(_) => None,
        };
        let observers = leading.into_iter().flat_map(|leading| &leading.observers);
        observers.map(|(&replica, &Observer { end, fetched_at })| (replica, end, fetched_at))
    }
}

/// How long ago a replica may have fetched that is let in.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(1);
