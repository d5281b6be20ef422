//! Which sequence each batch of an idempotent producer has (KIP-98), and how order is found again
//! after a gap (KIP-360).
//!
//! A partition whose sequences have a gap goes on under the next epoch of the producer, from 0. The
//! broker then refuses whatever of the epoch before it may still come. Other partitions keep the
//! epoch that they have until nothing of theirs is on its way.

use std::collections::BTreeMap;

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
}

impl Sequences {
    /// Returns whether there is a producer id.
    pub(super) const fn has_id(&self) -> bool {
        self.current.is_some()
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
        let Some(in_flight) = self.in_flight.get(&id) else {
            return true;
        };
        // Nothing of one identity overtakes what is on its way of another.
        let next = batch.producer.map(identity).or(self.current);
        let most = match self.places.get(&id) {
            Some(sequence) if batch.producer.is_none() && !sequence.is_known => 1,
            Some(_) | None => most,
        };
        in_flight.len() < most && in_flight.values().all(|other| *other == next)
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

    /// Returns the first batch of a partition that is on its way.
    pub(super) fn first_in_flight(&self, id: QueueId) -> Option<Ticket> {
        self.in_flight.get(&id)?.first_key_value().map(|(ticket, _)| *ticket)
    }

    /// The sequences of a partition have a gap: it goes on under the next epoch.
    pub(super) fn break_off(&mut self, id: QueueId) {
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
        if let Some(Sequence { identity, .. }) = self.places.remove(&id)
            && Some(identity) == self.current
        {
            self.current = None;
        }
    }
}
