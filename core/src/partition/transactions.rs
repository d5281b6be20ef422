//! Transactions at the leader of a partition: who may begin one, how it ends, and what readers of committed
//! records are given (KIP-98, KIP-890).
//!
//! The first batch of a transaction is taken only with the coordinator's word that the transaction is under
//! way, because a batch that comes late would otherwise open one that nobody ends. That word is asked for
//! under a [guard](VerificationGuard): a marker that is written meanwhile makes it worthless.

use std::collections::BTreeMap;

use crate::broker::post::{AbortedTransaction, FetchItem, FetchRefusal, Fetched};
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::io::{Effects, Mark};
use crate::log::producer_state::IDLE;
use crate::log::transactions::end_of;
use crate::log::{AppendError, LogStore};
use crate::partition::leader::{Partition, Waiter};
use crate::record::batch::Batch;
use crate::record::marker::TxnMarker;
use crate::time::{Instant, Now};

/// Most producers for which coordinators are asked at once, for each partition.
pub const VERIFYING_MAX: usize = 100_000;

/// Goes with a question to a coordinator whether a producer's transaction is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerificationGuard {
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    leader_epoch: LeaderEpoch,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Verification {
    guard: VerificationGuard,
    /// The lowest first sequence of the batches that wait for the answer.
    lowest_sequence: i32,
    at: Instant,
}

/// The questions under way at one partition.
#[derive(Clone, Default, Debug)]
pub(super) struct Verifications {
    of: BTreeMap<ProducerId, Verification>,
    begun: u64,
}

impl Verifications {
    fn begin(
        &mut self,
        mono: Instant,
        batch: &Batch,
        leader_epoch: LeaderEpoch,
        max: usize,
    ) -> Result<VerificationGuard, ErrorCode> {
        let (id, epoch) = (batch.producer_id(), batch.producer_epoch());
        if let Some(known) = self.of.get_mut(&id) {
            if epoch < known.guard.producer_epoch {
                return Err(ErrorCode::InvalidProducerEpoch);
            }
            if epoch == known.guard.producer_epoch {
                known.lowest_sequence = known.lowest_sequence.min(batch.base_sequence());
                known.at = mono;
                return Ok(known.guard);
            }
        } else if self.of.len() >= max {
            self.of.retain(|_, it| mono.since(it.at) < IDLE);
            if self.of.len() >= max {
                return Err(ErrorCode::NotEnoughReplicas);
            }
        }
        self.begun += 1;
        let (producer_id, producer_epoch, number) = (id, epoch, self.begun);
        let guard = VerificationGuard { producer_id, producer_epoch, leader_epoch, number };
        let lowest_sequence = batch.base_sequence();
        self.of.insert(id, Verification { guard, lowest_sequence, at: mono });
        Ok(guard)
    }

    pub(super) fn end(&mut self, id: ProducerId) {
        self.of.remove(&id);
    }

    /// Forgets all: the answers to what was asked are worth nothing.
    pub(super) fn clear(&mut self) {
        self.of.clear();
    }
}

impl Partition {
    /// Returns whether a coordinator must say that a transaction is under way before the batch is taken: it
    /// belongs to one that has not begun here, and is no repetition.
    pub fn needs_verification(&self, now: Now, batch: &Batch, log: &LogStore) -> bool {
        batch.is_transactional()
            && !log.has_open_transaction(self.id, batch.producer_id(), batch.producer_epoch())
            && !log.is_duplicate(now, self.id, batch)
    }

    /// Begins to ask a coordinator. What it grants is handed to [`produce`](Self::produce) with the batch.
    /// Batches of one producer that are asked for together share a guard.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` 47 where a newer epoch of the producer is asked for, `NOT_ENOUGH_REPLICAS`
    /// 19, which clients try again, where too many are.
    pub fn begin_verification(
        &mut self,
        now: Now,
        batch: &Batch,
    ) -> Result<VerificationGuard, ErrorCode> {
        self.verifications.begin(now.mono, batch, self.leader_epoch, VERIFYING_MAX)
    }

    /// Takes in that a coordinator has refused what was asked for under a guard. Where it does not know this
    /// producer in this epoch, the question is as if it had never been asked: an epoch that somebody made up
    /// must not fence the producer that has the id.
    pub fn refuse_verification(&mut self, guard: VerificationGuard, code: ErrorCode) {
        let is_unknown = code == ErrorCode::InvalidProducerEpoch
            || code == ErrorCode::ProducerFenced
            || code == ErrorCode::InvalidProducerIdMapping;
        if is_unknown && self.is_guarded_by(guard) {
            self.verifications.end(guard.producer_id);
        }
    }

    /// Returns whether what a coordinator was asked for under a guard is still the question.
    pub fn is_guarded_by(&self, guard: VerificationGuard) -> bool {
        let known = self.verifications.of.get(&guard.producer_id);
        known.is_some_and(|known| known.guard == guard)
    }

    /// Judges a batch by what a coordinator has granted.
    pub(super) fn check_verified(
        &self,
        now: Now,
        batch: &Batch,
        verified: Option<VerificationGuard>,
        log: &LogStore,
    ) -> Result<(), ErrorCode> {
        if !self.needs_verification(now, batch, log) {
            return Ok(());
        }
        let known = self.verifications.of.get(&batch.producer_id()).filter(|known| {
            verified == Some(known.guard) && batch.producer_epoch() == known.guard.producer_epoch
        });
        let Some(known) = known else { return Err(ErrorCode::InvalidTxnState) };
        // One before it may be on its way; where the producer is known its sequences tell.
        if batch.base_sequence() > known.lowest_sequence
            && !log.knows_producer(self.id, batch.producer_id())
        {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        Ok(())
    }

    /// Writes the marker that ends a transaction. The answer comes out of
    /// [`take_committed`](Self::take_committed), once the marker is below the high watermark.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` 47 for an epoch that has passed, and
    /// `TRANSACTION_COORDINATOR_FENCED` 52 for a coordinator of an earlier epoch; others pass.
    pub fn append_marker(
        &mut self,
        now: Now,
        marker: &TxnMarker,
        transaction_version: i8,
        waiter: Waiter,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Result<(), ErrorCode> {
        self.admit_marker(marker, transaction_version, log, fx)?;
        let batch = marker.build(now.wall.0);
        let base_offset =
            self.append_own(now, batch, log, fx).map_err(|error| refused_marker(&error))?;
        // An answer of the coordinator that is on its way speaks of the transaction that ends here.
        self.verifications.end(marker.producer_id);
        log.resolve_transactions(self.id, self.high_watermark());
        self.wait_for_all(base_offset, waiter);
        Ok(())
    }

    fn admit_marker(
        &self,
        marker: &TxnMarker,
        transaction_version: i8,
        log: &LogStore,
        fx: &mut Effects,
    ) -> Result<(), ErrorCode> {
        if self.in_sync().live() < self.min_insync_replicas() {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        log.check_marker(self.id, marker, transaction_version).inspect_err(|code| {
            if *code == ErrorCode::InvalidProducerEpoch {
                fx.mark(Mark::ProducerFenced);
            }
        })
    }

    /// Returns the end of what readers of committed transactions are given: the high watermark, or the first
    /// offset of any transaction that is open or whose marker is not below it.
    pub fn last_stable_offset(&self, log: &LogStore) -> Offset {
        log.last_stable_offset(self.id, self.high_watermark())
    }
}

const fn refused_marker(error: &AppendError) -> ErrorCode {
    // The marker is sent again until it is written.
    if matches!(error, AppendError::Damaged(_)) {
        ErrorCode::KafkaStorageError
    } else {
        error.code()
    }
}

impl Fetched {
    /// Adds the aborted transactions that overlap the records, where they were asked for: from the first
    /// offset that was wanted to the end of the last batch.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` 1 where the log begins behind that offset meanwhile, and what it knew of the
    /// transactions before has gone with them.
    pub fn with_aborted(mut self, item: &FetchItem, log: &LogStore) -> Result<Self, FetchRefusal> {
        let end = end_of(&self.records);
        if let Some(end) = end.filter(|_| item.read_committed) {
            if log.log_start_offset(item.partition).is_none_or(|start| start > item.offset) {
                return Err(FetchRefusal::Code(ErrorCode::OffsetOutOfRange));
            }
            let found = log.aborted_transactions(item.partition, item.offset, end);
            let told = found.map_err(FetchRefusal::Code)?.into_iter().map(|it| {
                let (producer_id, first_offset) = (it.producer_id, it.first_offset);
                AbortedTransaction { producer_id, first_offset }
            });
            self.aborted = Some(told.collect());
        }
        Ok(self)
    }
}

#[cfg(test)]
#[path = "transactions_test.rs"]
mod tests;
