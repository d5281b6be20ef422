//! What one log knows of its producers, so that a repeated batch is not stored twice (KIP-98, KIP-360).
//!
//! For each producer id: its epoch, its last five batches, and when it was last heard. The state is
//! derived from the log alone: a follower and a recovery get it by [`ProducerStates::update`] with
//! the same batches. It outlives the retention of its batches. With it goes what is known of
//! [transactions](EndedTransaction). A void batch counts as the produced one that it stands for, and a
//! note is of nobody ([`Hidden`]).
//!
//! Invariants:
//! 1. All batches of one producer's state have the producer's epoch and rising offsets; at most five.
//! 2. `check` changes nothing, and what it lets pass leaves the sequences of an epoch consecutive.
//! 3. At most `ids_max` producers and [`REFUSED_MAX`] refused first batches are remembered; but a
//!    producer with an open transaction is never forgotten.

mod transactions;
mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::log::api::Sequence;
use crate::log::producer_state::transactions::Transactions;
use crate::record::batch::Batch;
use crate::record::hidden::Hidden;
use crate::record::marker::TxnMarker;
use crate::time::Instant;

pub use transactions::EndedTransaction;
pub(in crate::log) use undo::Undo;

/// Batches remembered for each producer, as many as a client may have in flight.
pub const BATCHES_KEPT: usize = 5;
/// Refused first batches remembered for each log.
pub const REFUSED_MAX: usize = 1_024;
/// How long a producer must be silent before a full table forgets it, and how long a refused first
/// batch is waited for.
pub const IDLE: Duration = Duration::from_mins(10);

/// One appended batch of a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducedBatch {
    /// Sequence of the first record.
    pub first_sequence: i32,
    /// Sequence of the last record, inclusive.
    pub last_sequence: i32,
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Offset of the last record, inclusive.
    pub last_offset: Offset,
    /// Largest timestamp as the batch's header has it, in Unix milliseconds.
    pub timestamp: i64,
}

/// What is known of one producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerState {
    /// The newest epoch.
    pub epoch: ProducerEpoch,
    /// Its last batches in that epoch, the oldest first, at most [`BATCHES_KEPT`].
    pub batches: Vec<ProducedBatch>,
    /// Append time of its last batch or marker in Unix milliseconds.
    pub last_append_ms: i64,
    /// Epoch of the transaction coordinator that wrote its last marker, -1 for none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_first_offset: Option<Offset>,
    /// When it was last heard, or loaded, by the monotonic clock.
    last_heard: Instant,
}

impl ProducerState {
    pub(in crate::log) const fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            batches: Vec::new(),
            last_append_ms: -1,
            coordinator_epoch: -1,
            transaction_first_offset: None,
            last_heard: Instant::ZERO,
        }
    }

    /// Sets the epoch; the batches of another epoch are worth nothing.
    fn enter(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    fn check(&self, batch: &Batch) -> Result<Sequence, ErrorCode> {
        let (epoch, first, last) =
            (batch.producer_epoch(), batch.base_sequence(), batch.last_sequence());
        if epoch == self.epoch {
            let same = |b: &&ProducedBatch| b.first_sequence == first && b.last_sequence == last;
            if let Some(stored) = self.batches.iter().find(same) {
                return Ok(Sequence::Duplicate {
                    base_offset: stored.first_offset,
                    last_offset: stored.last_offset,
                    timestamp: stored.timestamp,
                });
            }
        }
        if epoch < self.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let expected = if epoch == self.epoch {
            // Without a batch in this epoch (a marker has opened it) it begins at 0.
            self.batches.last().map_or(0, |last| next_sequence(last.last_sequence))
        } else {
            0
        };
        let state_is_blank = self.epoch.0 < 0;
        if first != expected && !state_is_blank {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        if self.transaction_first_offset.is_some() && !batch.is_transactional() {
            return Err(ErrorCode::InvalidTxnState);
        }
        Ok(Sequence::Append)
    }
}

/// Returns the sequence that follows: they wrap from 2^31-1 to 0.
pub const fn next_sequence(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

/// A first batch of an unknown producer that was refused for a passing reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct RefusedFirst {
    epoch: ProducerEpoch,
    sequence: i32,
    at: Instant,
}

/// The producers of one log.
#[derive(Clone, Debug, Default)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, ProducerState>,
    /// The same producers by when they were last heard.
    by_last_heard: BTreeSet<(Instant, ProducerId)>,
    refused: BTreeMap<ProducerId, RefusedFirst>,
    transactions: Transactions,
}

impl PartialEq for ProducerStates {
    /// Compares what is derived from the log, which is what a copy of the log must agree in.
    fn eq(&self, other: &Self) -> bool {
        let derived = |(id, state): (&ProducerId, &ProducerState)| {
            (*id, ProducerState { last_heard: Instant::ZERO, ..state.clone() })
        };
        self.producers.iter().map(derived).eq(other.producers.iter().map(derived))
            && self.aborted_at(Offset::ZERO, Offset(i64::MAX))
                == other.aborted_at(Offset::ZERO, Offset(i64::MAX))
    }
}

impl Eq for ProducerStates {}

impl ProducerStates {
    /// Makes an empty table.
    pub const fn new() -> Self {
        Self {
            producers: BTreeMap::new(),
            by_last_heard: BTreeSet::new(),
            refused: BTreeMap::new(),
            transactions: Transactions::new(),
        }
    }

    /// Judges the sequence of a batch that a client produced. A batch without producer id is appended.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` 47 for an older epoch; `OUT_OF_ORDER_SEQUENCE_NUMBER` 45 for a gap, a
    /// repeat older than the last five batches, a newer epoch that does not begin at 0, and a batch
    /// that would pass an earlier one refused by [`refuse_first`](Self::refuse_first);
    /// `INVALID_TXN_STATE` 48 for a plain batch while the producer's transaction is open.
    pub fn check(&self, mono: Instant, batch: &Batch) -> Result<Sequence, ErrorCode> {
        let id = batch.producer_id();
        if id.0 < 0 {
            return Ok(Sequence::Append);
        }
        let Some(state) = self.producers.get(&id) else {
            return self.check_first(mono, batch);
        };
        state.check(batch)
    }

    fn check_first(&self, mono: Instant, batch: &Batch) -> Result<Sequence, ErrorCode> {
        let passes_refused = self.refused.get(&batch.producer_id()).is_some_and(|refused| {
            mono.since(refused.at) < IDLE
                && refused.epoch == batch.producer_epoch()
                && batch.base_sequence() > refused.sequence
        });
        // Differs from Kafka: it accepts any sequence here, because it never refuses a first batch
        // and then takes the second one of the same pipeline.
        if passes_refused { Err(ErrorCode::OutOfOrderSequenceNumber) } else { Ok(Sequence::Append) }
    }

    /// Asks whether there is room for the batch's producer, and makes it: of a full table the longest
    /// silent producer is forgotten, if it was silent for [`IDLE`] and has no open transaction.
    ///
    /// Called before an append, after [`check`](Self::check).
    ///
    /// # Errors
    /// `NOT_ENOUGH_REPLICAS` 19, which every client retries after a pause, where no producer can be
    /// forgotten yet. The batch counts as [refused](Self::refuse_first) then.
    pub fn admit(&mut self, mono: Instant, batch: &Batch, ids_max: usize) -> Result<(), ErrorCode> {
        let id = batch.producer_id();
        if id.0 < 0 || self.producers.contains_key(&id) {
            return Ok(());
        }
        while self.producers.len() >= ids_max {
            let idle = self.longest_silent(|silent_since| mono.since(silent_since) >= IDLE);
            let Some(idle) = idle else {
                self.refuse_first(mono, batch);
                return Err(ErrorCode::NotEnoughReplicas);
            };
            self.forget(idle);
        }
        Ok(())
    }

    /// Remembers that a batch was refused for a passing reason, if its producer is unknown: until it
    /// has come (or ten minutes have passed), a later batch of the producer does not pass it.
    pub fn refuse_first(&mut self, mono: Instant, batch: &Batch) {
        let id = batch.producer_id();
        if id.0 < 0 || self.producers.contains_key(&id) {
            return;
        }
        let refused = RefusedFirst {
            epoch: batch.producer_epoch(),
            sequence: batch.base_sequence(),
            at: mono,
        };
        if let Some(known) = self.refused.get_mut(&id) {
            let replaces = refused.epoch > known.epoch
                || refused.sequence <= known.sequence
                || mono.since(known.at) >= IDLE;
            if replaces {
                *known = refused;
            }
            return;
        }
        if self.refused.len() >= REFUSED_MAX {
            self.refused.retain(|_, refused| mono.since(refused.at) < IDLE);
        }
        if self.refused.len() >= REFUSED_MAX {
            let oldest = self.refused.iter().min_by_key(|(_, refused)| refused.at);
            if let Some((&oldest, _)) = oldest {
                self.refused.remove(&oldest);
            }
        }
        self.refused.insert(id, refused);
    }

    /// Takes in a batch that was appended, by whichever way: produced, replicated or replayed.
    ///
    /// `append_ms` is its append time in Unix milliseconds; `ids_max` bounds the table, which forgets
    /// the longest silent producer for a further one, because a log that was accepted elsewhere is
    /// never refused here.
    pub fn update(&mut self, mono: Instant, batch: &Batch, append_ms: i64, ids_max: usize) {
        let _undo = self.take_in(mono, batch, append_ms, ids_max);
    }

    /// Does the same, and returns what [`undo`](Self::undo) needs to take it back.
    pub(in crate::log) fn take_in(
        &mut self,
        mono: Instant,
        batch: &Batch,
        append_ms: i64,
        ids_max: usize,
    ) -> Option<Box<Undo>> {
        let id = batch.producer_id();
        if id.0 < 0 {
            return None;
        }
        let marker = TxnMarker::of(batch);
        let mut undo = Undo::new(id, self.producers.get(&id), batch);
        self.refused.remove(&id);
        let is_further = !self.producers.contains_key(&id) && self.producers.len() >= ids_max;
        if is_further && let Some(silent) = self.longest_silent(|_| true) {
            undo.displaces(silent, self.producers.get(&silent));
            self.forget(silent);
        }
        let state =
            self.producers.entry(id).or_insert_with(|| ProducerState::new(batch.producer_epoch()));
        state.enter(batch.producer_epoch());
        let was_open = state.transaction_first_offset;
        if let Some(marker) = marker {
            state.coordinator_epoch = marker.coordinator_epoch;
            state.transaction_first_offset = None;
        } else if stands_for_records(batch) && batch.is_transactional() && was_open.is_none() {
            state.transaction_first_offset = Some(batch.base_offset());
        }
        if is_remembered(batch) {
            if state.batches.len() == BATCHES_KEPT {
                state.batches.remove(0);
            }
            state.batches.push(ProducedBatch {
                first_sequence: batch.base_sequence(),
                last_sequence: batch.last_sequence(),
                first_offset: batch.base_offset(),
                last_offset: batch.last_offset(),
                timestamp: batch.max_timestamp(),
            });
        }
        state.last_append_ms = append_ms;
        let heard_before = std::mem::replace(&mut state.last_heard, mono);
        self.transactions.change(id, was_open, state.transaction_first_offset);
        if let (Some(first), Some(marker)) = (was_open, marker) {
            self.transactions.end(id, first, batch.last_offset(), marker.committed);
        }
        self.by_last_heard.remove(&(heard_before, id));
        self.by_last_heard.insert((mono, id));
        Some(Box::new(undo))
    }

    /// Forgets producers that appended nothing for `expiration_ms` (`producer.id.expiration.ms`) and
    /// have no open transaction. Returns how many.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let expired = |state: &ProducerState| {
            state.transaction_first_offset.is_none()
                && now_ms.saturating_sub(state.last_append_ms) >= expiration_ms
        };
        let ids: Vec<ProducerId> =
            self.producers.iter().filter(|(_, state)| expired(state)).map(|(&id, _)| id).collect();
        for &id in &ids {
            self.forget(id);
        }
        ids.len()
    }

    /// Judges a marker that a coordinator wants to write. `transaction_version` is the level of the
    /// feature that the coordinator goes by: since 2 each marker raises the epoch, but one that is
    /// written once more, behind a transaction that has ended, is right.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` 47 for an epoch that has passed, `TRANSACTION_COORDINATOR_FENCED` 52 for
    /// a coordinator of an earlier epoch.
    pub fn check_marker(
        &self,
        marker: &TxnMarker,
        transaction_version: i8,
    ) -> Result<(), ErrorCode> {
        let Some(state) = self.producers.get(&marker.producer_id) else { return Ok(()) };
        let must_rise = transaction_version >= 2 && state.transaction_first_offset.is_some();
        let epoch = marker.producer_epoch;
        if epoch < state.epoch || (must_rise && epoch == state.epoch) {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if marker.coordinator_epoch < state.coordinator_epoch {
            return Err(ErrorCode::TransactionCoordinatorFenced);
        }
        Ok(())
    }

    /// Returns whether a transaction of the producer is open in this epoch.
    pub fn has_open_transaction(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        let is_open = |state: &ProducerState| {
            state.epoch == epoch && state.transaction_first_offset.is_some()
        };
        self.producers.get(&id).is_some_and(is_open)
    }

    /// Returns the first offset of any transaction that is open or whose marker is not below
    /// `high_watermark`.
    pub fn first_unstable(&self, high_watermark: Offset) -> Option<Offset> {
        self.transactions.first_unstable(high_watermark)
    }

    /// The same, with whose transaction it is.
    pub fn first_undecided(&self, high_watermark: Offset) -> Option<(Offset, ProducerId)> {
        self.transactions.first_undecided(high_watermark)
    }

    /// Returns the aborted transactions with an offset in `from..to`, by their first offsets.
    pub fn aborted(&self, from: Offset, to: Offset) -> Vec<EndedTransaction> {
        self.transactions.aborted(from, to)
    }

    /// Returns the aborted transactions whose markers are in `from..to`, by these.
    pub fn aborted_at(&self, from: Offset, to: Offset) -> Vec<EndedTransaction> {
        self.transactions.aborted_at(from, to)
    }

    /// Takes in what is known to be committed: markers below it count.
    pub(in crate::log) fn resolve(&mut self, high_watermark: Offset) {
        self.transactions.resolve(high_watermark);
    }

    /// Forgets transactions that ended before the log begins.
    pub(in crate::log) fn forget_below(&mut self, start: Offset) {
        self.transactions.forget_below(start);
    }

    /// Returns whether nothing is known, of producers and of transactions.
    pub(in crate::log) fn knows_nothing(&self) -> bool {
        self.producers.is_empty() && !self.transactions.has_ended()
    }

    /// Returns the number of producers.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Returns whether no producer is known.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Returns what is known of a producer.
    pub fn get(&self, id: ProducerId) -> Option<&ProducerState> {
        self.producers.get(&id)
    }

    /// Returns every producer, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> + '_ {
        self.producers.iter().map(|(&id, state)| (id, state))
    }

    /// Takes the table into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest.number(self.producers.len() as u64);
        for (id, state) in &self.producers {
            digest.signed(id.0).signed(i64::from(state.epoch.0)).signed(state.last_append_ms);
            digest.signed(i64::from(state.coordinator_epoch));
            digest.signed(state.transaction_first_offset.map_or(-1, |offset| offset.0));
            digest.number(state.last_heard.as_nanos()).number(state.batches.len() as u64);
            for batch in &state.batches {
                digest.signed(i64::from(batch.first_sequence));
                digest.signed(i64::from(batch.last_sequence));
                digest.signed(batch.first_offset.0).signed(batch.last_offset.0);
                digest.signed(batch.timestamp);
            }
        }
        digest.number(self.refused.len() as u64);
        for (id, refused) in &self.refused {
            digest.signed(id.0).signed(i64::from(refused.epoch.0));
            digest.signed(i64::from(refused.sequence)).number(refused.at.as_nanos());
        }
        self.transactions.digest(digest);
    }

    /// Puts in what a file told; `false` where the id is there already.
    pub(in crate::log) fn load(
        &mut self,
        mono: Instant,
        id: ProducerId,
        mut state: ProducerState,
    ) -> bool {
        state.last_heard = mono;
        if self.producers.contains_key(&id) {
            return false;
        }
        self.by_last_heard.insert((mono, id));
        self.transactions.change(id, None, state.transaction_first_offset);
        self.producers.insert(id, state);
        true
    }

    /// Puts in an ended transaction that a file told of; `false` where that cannot be.
    pub(in crate::log) fn load_ended(&mut self, ended: EndedTransaction) -> bool {
        self.transactions.load_ended(ended)
    }

    /// Returns the ended transactions that are remembered, by their markers.
    pub(in crate::log) fn ended(&self) -> impl Iterator<Item = &EndedTransaction> + '_ {
        self.transactions.ended()
    }

    fn longest_silent(&self, silent_enough: impl Fn(Instant) -> bool) -> Option<ProducerId> {
        self.by_last_heard
            .iter()
            .take_while(|(heard, _)| silent_enough(*heard))
            .map(|&(_, id)| id)
            .find(|id| self.producers[id].transaction_first_offset.is_none())
    }

    fn forget(&mut self, id: ProducerId) {
        if let Some(state) = self.producers.remove(&id) {
            let known = self.by_last_heard.remove(&(state.last_heard, id));
            assert!(known, "both tables hold the same producers");
            self.transactions.change(id, state.transaction_first_offset, None);
        }
    }
}

/// Returns whether a producer has sent the batch, or one that is void.
fn stands_for_records(batch: &Batch) -> bool {
    !batch.is_control() || Hidden::of(batch) == Some(Hidden::Void)
}

/// Returns whether a batch has sequences: not a marker, nor what a coordinator writes.
fn is_remembered(batch: &Batch) -> bool {
    stands_for_records(batch) && batch.base_sequence() >= 0
}

#[cfg(test)]
#[path = "producer_state/transactions_test.rs"]
mod transactions_test;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    use crate::ids::LeaderEpoch;

    const NOW: Instant = Instant::from_nanos(1);
    const IDS_MAX: usize = 3;

    struct Produced {
        id: i64,
        epoch: i16,
        sequence: i32,
        records: i32,
        transactional: bool,
    }

    fn produced(id: i64, epoch: i16, sequence: i32, records: i32) -> Produced {
        Produced { id, epoch, sequence, records, transactional: false }
    }

    fn batch(of: &Produced, base_offset: i64) -> Batch {
        let mut bytes = vec![0; 61];
        bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
        bytes[16] = 2;
        bytes[22] = if of.transactional { 0x10 } else { 0 };
        bytes[23..27].copy_from_slice(&(of.records - 1).to_be_bytes());
        bytes[35..43].copy_from_slice(&1_000_i64.to_be_bytes());
        bytes[43..51].copy_from_slice(&of.id.to_be_bytes());
        bytes[51..53].copy_from_slice(&of.epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&of.sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&of.records.to_be_bytes());
        let mut batch = Batch::split_from(&mut Bytes::from(bytes)).expect("whole");
        batch.assign(Offset(base_offset), LeaderEpoch(0));
        batch
    }

    /// Transaction marker as Kafka's coordinator writes it.
    fn marker(id: i64, epoch: i16, coordinator_epoch: i32) -> Batch {
        let mut header = batch(&produced(id, epoch, -1, 1), 0).header().to_vec();
        header[8..12].copy_from_slice(&(49_i32 + 17).to_be_bytes());
        header[22] = 0x30;
        let record = [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0];
        header.extend_from_slice(&record);
        header.extend_from_slice(&coordinator_epoch.to_be_bytes());
        header.push(0);
        Batch::split_from(&mut Bytes::from(header)).expect("whole")
    }

    fn append(states: &mut ProducerStates, of: &Produced, base_offset: i64) {
        let batch = batch(of, base_offset);
        assert_eq!(states.check(NOW, &batch), Ok(Sequence::Append));
        states.update(NOW, &batch, 5_000, IDS_MAX);
    }

    fn check(states: &ProducerStates, of: &Produced) -> Result<Sequence, ErrorCode> {
        states.check(NOW, &batch(of, 0))
    }

    #[test]
    fn each_of_the_last_five_batches_is_a_duplicate_and_an_older_one_out_of_order() {
        let mut states = ProducerStates::new();
        for i in 0..6 {
            append(&mut states, &produced(7, 0, 2 * i, 2), 100 + 2 * i64::from(i));
        }
        assert_eq!(check(&states, &produced(7, 0, 0, 2)), Err(ErrorCode::OutOfOrderSequenceNumber));
        for i in 1..6 {
            assert_eq!(
                check(&states, &produced(7, 0, 2 * i, 2)),
                Ok(Sequence::Duplicate {
                    base_offset: Offset(100 + 2 * i64::from(i)),
                    last_offset: Offset(101 + 2 * i64::from(i)),
                    timestamp: 1_000,
                })
            );
        }
        let partial_overlap = produced(7, 0, 9, 2);
        assert_eq!(check(&states, &partial_overlap), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn a_gap_is_out_of_order_and_sequences_wrap_to_zero() {
        let mut states = ProducerStates::new();
        append(&mut states, &produced(7, 0, i32::MAX - 1, 2), 0);
        assert_eq!(check(&states, &produced(7, 0, 1, 1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        append(&mut states, &produced(7, 0, 0, 1), 2);
        let across = produced(8, 0, i32::MAX, 3);
        append(&mut states, &across, 3);
        append(&mut states, &produced(8, 0, 2, 1), 6);
        assert!(matches!(check(&states, &across), Ok(Sequence::Duplicate { .. })));
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero() {
        let mut states = ProducerStates::new();
        append(&mut states, &produced(7, 3, 10, 1), 0);
        assert_eq!(check(&states, &produced(7, 2, 11, 1)), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(check(&states, &produced(7, 2, 10, 1)), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(
            check(&states, &produced(7, 4, 11, 1)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        append(&mut states, &produced(7, 4, 0, 1), 1);
        assert_eq!(check(&states, &produced(7, 3, 10, 1)), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn without_state_or_producer_id_any_sequence_is_appended() {
        let states = ProducerStates::new();
        assert_eq!(check(&states, &produced(7, 3, 1_234, 1)), Ok(Sequence::Append));
        assert_eq!(check(&states, &produced(-1, -1, -1, 1)), Ok(Sequence::Append));
    }

    #[test]
    fn a_marker_closes_the_transaction_and_its_epoch_begins_at_zero() {
        let mut states = ProducerStates::new();
        append(&mut states, &Produced { transactional: true, ..produced(7, 0, 0, 1) }, 40);
        let state = |states: &ProducerStates| states.get(ProducerId(7)).expect("known").clone();
        assert_eq!(state(&states).transaction_first_offset, Some(Offset(40)));
        assert_eq!(check(&states, &produced(7, 0, 1, 1)), Err(ErrorCode::InvalidTxnState));

        states.update(NOW, &marker(7, 1, 0x0102), 6_000, IDS_MAX);

        assert_eq!(state(&states).transaction_first_offset, None);
        assert_eq!(state(&states).coordinator_epoch, 0x0102);
        assert_eq!(check(&states, &produced(7, 1, 1, 1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(check(&states, &produced(7, 1, 0, 1)), Ok(Sequence::Append));
    }

    #[test]
    fn a_full_table_forgets_the_longest_silent_producer_and_only_after_ten_minutes() {
        let mut states = ProducerStates::new();
        for id in 1..=3 {
            let at = Instant::from_nanos(id as u64);
            states.update(at, &batch(&produced(id, 0, 0, 1), id), 0, IDS_MAX);
        }
        states.update(Instant::from_nanos(4), &batch(&produced(1, 0, 1, 1), 9), 0, IDS_MAX);
        let fresh = batch(&produced(50, 0, 0, 1), 0);
        let just_before = Instant::from_nanos(1) + IDLE;
        assert_eq!(states.admit(just_before, &fresh, IDS_MAX), Err(ErrorCode::NotEnoughReplicas));
        let known = batch(&produced(3, 0, 1, 1), 0);
        assert_eq!(states.admit(just_before, &known, IDS_MAX), Ok(()));

        assert_eq!(states.admit(Instant::from_nanos(2) + IDLE, &fresh, IDS_MAX), Ok(()));

        let left: Vec<i64> = states.iter().map(|(id, _)| id.0).collect();
        assert_eq!(left, [1, 3]);
        assert!(ErrorCode::NotEnoughReplicas.is_retriable());
    }

    #[test]
    fn the_next_batch_of_a_producer_without_room_does_not_pass_its_first() {
        let mut states = ProducerStates::new();
        states.update(NOW, &batch(&produced(1, 0, 0, 1), 0), 0, 1);
        let (first, second) = (produced(2, 0, 0, 1), produced(2, 0, 1, 1));
        assert!(states.admit(NOW, &batch(&first, 0), 1).is_err());
        // Room comes between the two.
        assert_eq!(states.expire(1_000, 1_000), 1);
        assert_eq!(check(&states, &second), Err(ErrorCode::OutOfOrderSequenceNumber));
        append(&mut states, &first, 1);
        append(&mut states, &second, 2);
    }

    #[test]
    fn a_producer_with_an_open_transaction_is_never_forgotten_for_another() {
        let mut states = ProducerStates::new();
        let open = Produced { transactional: true, ..produced(1, 0, 0, 1) };
        states.update(NOW, &batch(&open, 0), 0, 1);
        let later = NOW + 2 * IDLE;
        let fresh = batch(&produced(2, 0, 0, 1), 0);
        assert_eq!(states.admit(later, &fresh, 1), Err(ErrorCode::NotEnoughReplicas));
        assert_eq!(states.expire(i64::MAX, 1), 0);
    }

    #[test]
    fn a_replayed_batch_is_taken_in_by_a_full_table_without_growing_it() {
        let mut states = ProducerStates::new();
        for id in 1..=5 {
            let at = Instant::from_nanos(id as u64);
            states.update(at, &batch(&produced(id, 0, 0, 1), id), 0, IDS_MAX);
        }
        let left: Vec<i64> = states.iter().map(|(id, _)| id.0).collect();
        assert_eq!(left, [3, 4, 5]);
    }

    #[test]
    fn a_producer_expires_by_append_time_and_not_by_its_records_time() {
        let mut states = ProducerStates::new();
        states.update(NOW, &batch(&produced(7, 0, 0, 1), 0), 5_000, IDS_MAX);
        assert_eq!(states.expire(5_999, 1_000), 0);
        assert_eq!(states.expire(6_000, 1_000), 1);
        assert!(states.is_empty());
    }

    #[test]
    fn a_later_batch_does_not_pass_a_first_one_that_was_refused() {
        let mut states = ProducerStates::new();
        let (first, second) = (produced(7, 0, 40, 2), produced(7, 0, 42, 1));
        states.refuse_first(NOW, &batch(&first, 0));
        assert_eq!(check(&states, &second), Err(ErrorCode::OutOfOrderSequenceNumber));
        // The refusal of the second does not make it the first.
        states.refuse_first(NOW, &batch(&second, 0));
        assert_eq!(check(&states, &second), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(check(&states, &produced(8, 0, 42, 1)), Ok(Sequence::Append));
        assert_eq!(states.check(NOW + IDLE, &batch(&second, 0)), Ok(Sequence::Append));
        append(&mut states, &first, 0);
        append(&mut states, &second, 2);
    }

    #[test]
    fn refused_first_batches_are_remembered_up_to_a_bound() {
        let mut states = ProducerStates::new();
        for id in 0..=REFUSED_MAX as i64 {
            let at = Instant::from_nanos(id as u64);
            states.refuse_first(at, &batch(&produced(id, 0, 0, 1), 0));
        }
        assert_eq!(states.refused.len(), REFUSED_MAX);
        assert_eq!(check(&states, &produced(0, 0, 1, 1)), Ok(Sequence::Append));
        let last = produced(REFUSED_MAX as i64, 0, 1, 1);
        assert_eq!(check(&states, &last), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    proptest! {
        /// The model keeps every record of the producer's newest epoch and the batches they came in.
        #[test]
        fn check_agrees_with_a_model_that_keeps_everything(
            start in prop_oneof![Just(0), Just(i32::MAX - 7)],
            tries in prop::collection::vec((0..3i16, -6..3i32, 1..4i32), 1..40),
        ) {
            let mut states = ProducerStates::new();
            let mut epoch = -1;
            let mut appended: Vec<(i32, i32, i64)> = Vec::new();
            let mut next = start;
            let mut end = 0;
            for (tried_epoch, jump, records) in tries {
                let sequence = next.wrapping_add(jump) & i32::MAX;
                let tried = batch(&produced(7, tried_epoch, sequence, records), end);
                let last = tried.last_sequence();
                let recent = &appended[appended.len().saturating_sub(5)..];
                let same = recent.iter().find(|batch| (batch.0, batch.1) == (sequence, last));
                let expected = if epoch >= 0 && tried_epoch < epoch {
                    Err(ErrorCode::InvalidProducerEpoch)
                } else if let (true, Some(same)) = (tried_epoch == epoch, same) {
                    Ok(Sequence::Duplicate {
                        base_offset: Offset(same.2),
                        last_offset: Offset(same.2 + i64::from(last.wrapping_sub(sequence) & i32::MAX)),
                        timestamp: 1_000,
                    })
                } else if epoch < 0
                    || (tried_epoch == epoch && sequence == next)
                    || (tried_epoch > epoch && sequence == 0)
                {
                    Ok(Sequence::Append)
                } else {
                    Err(ErrorCode::OutOfOrderSequenceNumber)
                };
                prop_assert_eq!(states.check(NOW, &tried), expected);
                if expected == Ok(Sequence::Append) {
                    if tried_epoch != epoch {
                        appended.clear();
                    }
                    epoch = tried_epoch;
                    appended.push((sequence, last, end));
                    next = next_sequence(last);
                    end += i64::from(records);
                    states.update(NOW, &tried, 0, IDS_MAX);
                    let kept = &states.get(ProducerId(7)).expect("known").batches;
                    prop_assert_eq!(kept.len(), appended.len().min(BATCHES_KEPT));
                }
            }
        }
    }
}
