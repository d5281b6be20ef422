//! What open transactions have asked for: it takes effect with their markers, in its order (KIP-98).

use std::collections::{BTreeMap, BTreeSet};

use super::state::Name;
use crate::digest::Digest;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::record::hidden::Alteration;

/// One thing that is to take effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The entry with this ticket is accepted.
    Accept(Offset),
    /// An entry is altered; the due time as in [`Change::Alter`](crate::record::hidden::Change::Alter).
    Alter {
        /// The entry.
        ticket: Offset,
        /// What is done.
        what: Alteration,
        /// The due time.
        due_ms: i64,
    },
}

/// What a batch or a transaction does to an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Touch {
    /// Whether it lets out a half message.
    pub(super) commits: bool,
    /// The last that it does.
    pub(super) last: Alteration,
}

/// What a batch or a transaction does, by entry.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Touches(BTreeMap<Offset, Touch>);

impl Touches {
    /// Adds something that is done to an entry.
    pub(super) fn add(&mut self, ticket: Offset, what: Alteration) {
        let commits = self.of(ticket).is_some_and(|touch| touch.commits);
        let commits = commits || what == Alteration::Commit;
        self.0.insert(ticket, Touch { commits, last: what });
    }

    /// Returns what is done to an entry.
    pub(super) fn of(&self, ticket: Offset) -> Option<Touch> {
        self.0.get(&ticket).copied()
    }
}

/// A transaction whose marker has not come.
#[derive(Clone, Debug)]
pub(super) struct OpenTransaction {
    epoch: ProducerEpoch,
    /// Its first note: the log may not be without it.
    first: Offset,
    /// What it asked for.
    pub(super) steps: Vec<Step>,
    /// Its entries.
    pub(super) entries: BTreeSet<Offset>,
    /// Its entries by what the producer calls them, the last one each.
    names: BTreeMap<Name, Offset>,
    /// What it does to entries.
    pub(super) touches: Touches,
    /// Committed entries that wait for what it comes to.
    pub(super) holds: BTreeSet<Offset>,
    /// Hashes that it stored.
    pub(super) hashes: Vec<u128>,
}

/// The open transactions that asked for anything.
#[derive(Clone, Default, Debug)]
pub(super) struct Open {
    by_producer: BTreeMap<ProducerId, OpenTransaction>,
    /// Their first notes, so that the first of all is found without a walk.
    firsts: BTreeSet<(Offset, ProducerId)>,
    holders: BTreeMap<Offset, ProducerId>,
    /// Who may use a name until its transaction has ended.
    names: BTreeMap<Name, ProducerId>,
    steps: usize,
}

impl Open {
    /// Returns the producer's transaction, begun with the note at `place` if it was not open.
    pub(super) fn join(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        place: Offset,
    ) -> &mut OpenTransaction {
        let new = || OpenTransaction {
            epoch,
            first: place,
            steps: Vec::new(),
            entries: BTreeSet::new(),
            names: BTreeMap::new(),
            touches: Touches::default(),
            holds: BTreeSet::new(),
            hashes: Vec::new(),
        };
        let transaction = self.by_producer.entry(producer).or_insert_with(new);
        self.firsts.insert((transaction.first, producer));
        transaction.epoch = transaction.epoch.max(epoch);
        transaction
    }

    /// Adds what is to take effect.
    pub(super) fn add(&mut self, producer: ProducerId, step: Step) {
        let Some(transaction) = self.by_producer.get_mut(&producer) else { return };
        match step {
            Step::Accept(ticket) => {
                transaction.entries.insert(ticket);
            }
            Step::Alter { ticket, what, .. } => {
                transaction.touches.add(ticket, what);
            }
        }
        transaction.steps.push(step);
        self.steps += 1;
    }

    /// Keeps a name for the producer's transaction and its entry, and returns the entry of that transaction which
    /// had the name before. Nobody else may use it meanwhile: the log could not begin behind this entry if it
    /// replaced one that came later.
    pub(super) fn take_name(
        &mut self,
        producer: ProducerId,
        name: Name,
        ticket: Offset,
    ) -> Option<Offset> {
        let transaction = self.by_producer.get_mut(&producer)?;
        self.names.entry(name.clone()).or_insert(producer);
        transaction.names.insert(name, ticket)
    }

    /// Returns the entry of this name which a transaction keeps it for.
    pub(super) fn named(&self, name: &[u8], asker: Option<ProducerId>) -> Option<Offset> {
        let of = |producer| self.of(producer)?.names.get(name).copied();
        asker.and_then(of).or_else(|| of(*self.names.get(name)?))
    }

    /// Makes a committed entry wait for the producer's transaction, unless it waits for another.
    pub(super) fn hold(&mut self, producer: ProducerId, ticket: Offset) -> bool {
        let Some(transaction) = self.by_producer.get_mut(&producer) else { return false };
        let holder = *self.holders.entry(ticket).or_insert(producer);
        holder == producer && transaction.holds.insert(ticket)
    }

    /// Lets an entry go that is no more.
    pub(super) fn release(&mut self, ticket: Offset) {
        let Some(producer) = self.holders.remove(&ticket) else { return };
        if let Some(transaction) = self.by_producer.get_mut(&producer) {
            transaction.holds.remove(&ticket);
        }
    }

    /// Ends the producer's transaction at a marker of this epoch. One of a later epoch is not meant.
    pub(super) fn end(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Option<OpenTransaction> {
        if self.by_producer.get(&producer)?.epoch > epoch {
            return None;
        }
        let transaction = self.by_producer.remove(&producer)?;
        self.firsts.remove(&(transaction.first, producer));
        self.steps -= transaction.steps.len();
        for name in transaction.names.keys() {
            if self.names.get(name) == Some(&producer) {
                self.names.remove(name);
            }
        }
        for ticket in &transaction.holds {
            self.holders.remove(ticket);
        }
        Some(transaction)
    }

    /// Adds to what the producer's open transaction does to an entry.
    pub(super) fn touch(&mut self, producer: ProducerId, ticket: Offset, what: Alteration) {
        if let Some(transaction) = self.by_producer.get_mut(&producer) {
            transaction.touches.add(ticket, what);
        }
    }

    /// Returns the producer's open transaction.
    pub(super) fn of(&self, producer: ProducerId) -> Option<&OpenTransaction> {
        self.by_producer.get(&producer)
    }

    /// Returns whose transaction a committed entry waits for.
    pub(super) fn holder(&self, ticket: Offset) -> Option<ProducerId> {
        self.holders.get(&ticket).copied()
    }

    /// Returns how much is to take effect in all.
    pub(super) const fn steps(&self) -> usize {
        self.steps
    }

    /// Returns how many committed entries wait for transactions.
    pub(super) fn held(&self) -> usize {
        self.holders.len()
    }

    /// Returns the first note that the log may not be without.
    pub(super) fn floor(&self) -> Option<Offset> {
        self.firsts.first().map(|(first, _)| *first)
    }

    /// Takes everything into a digest.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.shown(&self.by_producer).shown(&self.holders).shown(&self.names);
    }
}
