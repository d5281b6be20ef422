//! Which sequence each batch of an idempotent producer has (KIP-98), and how order is found again
//! after a gap (KIP-360).
//!
//! A partition whose sequences have a gap goes on under the next epoch of the producer, from 0. The
//! broker then refuses whatever of the epoch before it may still come. Other partitions keep the
//! epoch that they have until nothing of theirs is on its way.

use std::collections::{BTreeMap, BTreeSet};

use super::accumulator::{PendingBatch, QueueId, Ticket, next_sequence};
use crate::ids::{ProducerEpoch, ProducerId};
use crate::record::builder::Producer as ProducerOfBatch;

/// A producer id and its epoch.
type Identity = (ProducerId, ProducerEpoch);

const fn identity(producer: ProducerOfBatch) -> Identity {
    (producer.id, producer.epoch)
}

/// The sequences of one partition.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    identity: Identity,
    next: i32,
    /// Whether the broker has taken a batch of them. Before, it would take any sequence for the
    /// first, so that the second batch could pass the first.
    is_known: bool,
}

/// The sequences of all partitions, and the batches that are on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequences {
    current: Option<Identity>,
    places: BTreeMap<QueueId, Sequence>,
    in_flight: BTreeMap<QueueId, BTreeMap<Ticket, Option<Identity>>>,
    /// Batches that were taken while an earlier one of their partition was not settled.
    passed: BTreeMap<QueueId, BTreeSet<Ticket>>,
}

impl Sequences {
    /// Returns whether there is a producer id.
    pub(super) const fn has_id(&self) -> bool {
        self.current.is_some()
    }

    /// Returns the producer id and its epoch.
    pub(super) const fn identity(&self) -> Option<Identity> {
        self.current
    }

    /// Takes a producer id that a broker has given out.
    pub(super) const fn set(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        self.current = Some((id, epoch));
    }

    /// Returns whether a batch still counts under the sequence that it was sent with.
    pub(super) fn is_alive(&self, id: QueueId, batch: &PendingBatch) -> bool {
        batch.producer.is_some_and(|producer| {
            self.places.get(&id).is_some_and(|known| known.identity == identity(producer))
        })
    }

    /// Whether another batch of a partition may go on its way beside those that are.
    pub(super) fn may_send(&self, id: QueueId, batch: &PendingBatch, most: usize) -> bool {
        let none = BTreeMap::new();
        let in_flight = self.in_flight.get(&id).unwrap_or(&none);
        // Nothing of one identity overtakes what is on its way of another.
        let next = batch.producer.map(identity).or(self.current);
        let most = match self.places.get(&id) {
            Some(sequence) if batch.producer.is_none() && !sequence.is_known => 1,
            Some(_) | None => most,
        };
        let passed = self.passed_since(id, self.first_unsettled(id, batch));
        in_flight.len() + passed < most && in_flight.values().all(|other| *other == next)
    }

    /// Returns the first batch of a partition that is on its way or was, where `front` is the first that waits.
    fn first_unsettled(&self, id: QueueId, front: &PendingBatch) -> Option<Ticket> {
        let waits = front.producer.map(|_| front.first_ticket());
        waits.into_iter().chain(self.first_in_flight(id)).min()
    }

    /// Returns how many batches were taken behind one that is not settled. The broker remembers no more than the
    /// last five of a partition: one that came back behind more would not be known again, stored as it may be.
    fn passed_since(&self, id: QueueId, first: Option<Ticket>) -> usize {
        match (self.passed.get(&id), first) {
            (Some(passed), Some(first)) => passed.range(first..).count(),
            _ => 0,
        }
    }

    /// Gives the next sequence of a partition to a batch of `count` records. `None` without an id.
    pub(super) fn take(&mut self, id: QueueId, count: usize) -> Option<ProducerOfBatch> {
        let current = self.current?;
        let fresh = Sequence { identity: current, next: 0, is_known: false };
        let sequence = self.places.entry(id).or_insert(fresh);
        if sequence.identity != current {
            *sequence = fresh;
        }
        let base_sequence = sequence.next;
        sequence.next = next_sequence(base_sequence, count);
        Some(ProducerOfBatch { id: current.0, epoch: current.1, base_sequence })
    }

    /// Notes that a batch is on its way.
    pub(super) fn sent(&mut self, id: QueueId, batch: &PendingBatch) {
        let first = self.first_unsettled(id, batch);
        if let Some(passed) = self.passed.get_mut(&id) {
            *passed = first.map_or_else(BTreeSet::new, |first| passed.split_off(&first));
            if passed.is_empty() {
                self.passed.remove(&id);
            }
        }
        self.in_flight
            .entry(id)
            .or_default()
            .insert(batch.first_ticket(), batch.producer.map(identity));
    }

    /// Notes that a batch is not on its way any more.
    pub(super) fn landed(&mut self, id: QueueId, batch: &PendingBatch) {
        if let Some(in_flight) = self.in_flight.get_mut(&id) {
            in_flight.remove(&batch.first_ticket());
            if in_flight.is_empty() {
                self.in_flight.remove(&id);
            }
        }
    }

    /// Notes that the broker has taken a batch.
    pub(super) fn delivered(&mut self, id: QueueId, batch: &PendingBatch) {
        if self.is_alive(id, batch)
            && let Some(sequence) = self.places.get_mut(&id)
        {
            sequence.is_known = true;
        }
    }

    /// Notes that the broker has taken a batch, and an earlier one of the partition is not settled.
    pub(super) fn passes(&mut self, id: QueueId, batch: &PendingBatch) {
        self.passed.entry(id).or_default().insert(batch.first_ticket());
    }

    /// Returns the first batch of a partition that is on its way.
    pub(super) fn first_in_flight(&self, id: QueueId) -> Option<Ticket> {
        self.in_flight.get(&id)?.first_key_value().map(|(ticket, _)| *ticket)
    }

    /// The sequences of a partition have a gap: it goes on under the next epoch.
    pub(super) fn break_off(&mut self, id: QueueId) {
        self.passed.remove(&id);
        let Some(Sequence { identity, .. }) = self.places.remove(&id) else {
            return;
        };
        if Some(identity) == self.current {
            let (producer, epoch) = identity;
            self.current = epoch.0.checked_add(1).map(|next| (producer, ProducerEpoch(next)));
        }
    }

    /// The broker does not take the producer id: another one must be asked for.
    pub(super) fn give_up(&mut self, id: QueueId) {
        self.passed.remove(&id);
        if let Some(Sequence { identity, .. }) = self.places.remove(&id)
            && Some(identity) == self.current
        {
            self.current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(0);
    const MOST: usize = 5;

    fn batch(sequences: &mut Sequences, number: u64) -> PendingBatch {
        let producer = sequences.take(QUEUE, 1).expect("there is an id");
        PendingBatch::sent(Ticket(number), producer)
    }

    #[test]
    fn no_more_is_taken_behind_one_that_is_not_settled_than_the_broker_remembers() {
        let mut sequences = Sequences::default();
        sequences.set(ProducerId(7), ProducerEpoch(0));
        let batches: Vec<PendingBatch> = (0..6).map(|n| batch(&mut sequences, n)).collect();
        for batch in &batches[..5] {
            sequences.sent(QUEUE, batch);
        }
        // The first is on its way to a leader that is cut off; another takes the next ones.
        for batch in &batches[1..5] {
            sequences.landed(QUEUE, batch);
            sequences.delivered(QUEUE, batch);
            sequences.passes(QUEUE, batch);
        }
        assert!(!sequences.may_send(QUEUE, &batches[5], MOST), "the sixth of them");
        // It comes back, waits, and is sent again, before all others.
        sequences.landed(QUEUE, &batches[0]);
        assert!(sequences.may_send(QUEUE, &batches[0], MOST));
        sequences.sent(QUEUE, &batches[0]);
        assert!(!sequences.may_send(QUEUE, &batches[5], MOST), "still");
        sequences.landed(QUEUE, &batches[0]);
        sequences.delivered(QUEUE, &batches[0]);
        assert!(sequences.may_send(QUEUE, &batches[5], MOST), "everything before is settled");
    }
}
