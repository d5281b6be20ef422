//! The steps from one state of a transactional id to the next. All of them are pure: they look at what is
//! stored and say what is to be stored.
//!
//! A step that leaves an epoch that is used up needs a fresh producer id; without one at hand it is
//! [`Refusal::NeedsProducerId`], and is taken again once there is one.
//!
//! Sources: KIP-98, 360, 890; KAFKA-18660, 19367, 20090 (epochs that are used up).

use super::stored::{Partitions, Transaction};
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::time::UnixMillis;
use crate::wire::transaction_record::TransactionStatus;

/// The newest epoch that a producer may have. The one above is for the coordinator alone, so that every
/// producer can be fenced.
pub(super) const LAST_EPOCH: ProducerEpoch = ProducerEpoch(i16::MAX - 1);
/// No epoch.
pub(super) const NO_EPOCH: ProducerEpoch = ProducerEpoch(-1);
/// Protocol of transactions in which each one has its own epoch (KIP-890), and the one before.
pub(super) const V2: i16 = 2;
pub(super) const V1: i16 = 0;

/// What is to be stored.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Decision {
    /// How the transactional id stands then.
    pub(super) next: Transaction,
    /// Whether it has taken the fresh producer id.
    pub(super) takes_id: bool,
}

/// Why nothing is to be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// It is refused, or is done already (`NONE`).
    Error(ErrorCode),
    /// A fresh producer id must be there first.
    NeedsProducerId,
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self::Error(error)
    }
}

/// What a producer says it is, where it says so.
pub(super) type Expected = Option<(ProducerId, ProducerEpoch)>;

/// Returns the first state of a transactional id, whose producer begins with `producer_epoch`.
pub(super) fn created(
    now: UnixMillis,
    timeout_ms: i32,
    producer_epoch: ProducerEpoch,
    fresh: Option<ProducerId>,
) -> Result<Decision, Refusal> {
    let producer_id = fresh.ok_or(Refusal::NeedsProducerId)?;
    let next = Transaction {
        at: Offset::ZERO,
        producer_id,
        previous_producer_id: ProducerId::NONE,
        next_producer_id: ProducerId::NONE,
        producer_epoch,
        last_producer_epoch: NO_EPOCH,
        timeout_ms,
        status: TransactionStatus::Empty,
        partitions: Partitions::new(),
        started_ms: -1,
        updated_ms: now.0,
        client_version: V1,
    };
    Ok(Decision { next, takes_id: true })
}

impl Transaction {
    /// Returns whether the epoch is one that no further one follows for a producer.
    pub(super) fn is_exhausted(&self) -> bool {
        self.producer_epoch >= LAST_EPOCH
    }

    /// Returns whether it is decided how the transaction ends, and not yet done.
    pub(super) const fn is_preparing(&self) -> bool {
        matches!(self.status, TransactionStatus::PrepareCommit | TransactionStatus::PrepareAbort)
    }

    /// Returns whether this is the producer as it stands.
    pub(super) fn is_of(&self, producer_id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.producer_id == producer_id && self.producer_epoch == epoch
    }

    /// Returns whether this is the producer as it goes on once the transaction is complete.
    pub(super) fn is_next(&self, producer_id: ProducerId, epoch: ProducerEpoch) -> bool {
        let (next_id, next_epoch) = self.after_completion();
        next_id == producer_id && next_epoch == epoch
    }

    /// Returns id and epoch of the producer once the transaction is complete.
    pub(super) fn after_completion(&self) -> (ProducerId, ProducerEpoch) {
        if self.next_producer_id == ProducerId::NONE {
            (self.producer_id, self.producer_epoch)
        } else {
            (self.next_producer_id, ProducerEpoch(0))
        }
    }

    fn changed(&self, now: UnixMillis) -> Self {
        Self { previous_producer_id: self.producer_id, updated_ms: now.0, ..self.clone() }
    }

    /// Returns what a producer is told that wants to be initialized while a transaction is open, before that
    /// one is aborted.
    pub(super) fn may_be_fenced_by(&self, expected: Expected) -> Result<(), ErrorCode> {
        // Differs from Kafka: a producer that has another epoch than the open transaction does not abort it. It
        // is fenced already, or its request was repeated and comes late.
        match expected {
            Some((id, epoch)) if !self.is_of(id, epoch) => Err(ErrorCode::ProducerFenced),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the state after `InitProducerId`, where no transaction is open or being ended.
    pub(super) fn initialized(
        &self,
        now: UnixMillis,
        timeout_ms: i32,
        expected: Expected,
        fresh: Option<ProducerId>,
    ) -> Result<Decision, Refusal> {
        if let Some((id, epoch)) = expected {
            // The one before may be named by a producer that has not heard of the change.
            let is_before = id == self.previous_producer_id && epoch >= LAST_EPOCH;
            if id != self.producer_id && !is_before {
                return Err(ErrorCode::ProducerFenced.into());
            }
        }
        let mut next = Self {
            timeout_ms,
            status: TransactionStatus::Empty,
            partitions: Partitions::new(),
            started_ms: -1,
            next_producer_id: ProducerId::NONE,
            ..self.changed(now)
        };
        next.last_producer_epoch = match expected {
            None => NO_EPOCH,
            Some((id, epoch)) if self.is_of(id, epoch) => self.producer_epoch,
            Some((_, epoch)) if epoch == self.last_producer_epoch => {
                // A request that was answered is repeated: whoever came since would have left no last epoch.
                if self.producer_epoch <= LAST_EPOCH {
                    next.previous_producer_id = self.previous_producer_id;
                    return Ok(Decision { next, takes_id: false });
                }
                epoch
            }
            Some(_) => return Err(ErrorCode::ProducerFenced.into()),
        };
        if self.is_exhausted() {
            next.producer_id = fresh.ok_or(Refusal::NeedsProducerId)?;
            next.producer_epoch = ProducerEpoch(0);
            return Ok(Decision { next, takes_id: true });
        }
        next.producer_epoch = ProducerEpoch(self.producer_epoch.0 + 1);
        Ok(Decision { next, takes_id: false })
    }

    /// Returns the state with more partitions in the transaction, which is begun if none is open.
    pub(super) fn with_partitions(
        &self,
        now: UnixMillis,
        added: &Partitions,
        client_version: i16,
    ) -> Self {
        let mut next = self.changed(now);
        if self.status != TransactionStatus::Ongoing {
            next.started_ms = now.0;
        }
        next.status = TransactionStatus::Ongoing;
        next.client_version = client_version;
        for (topic, partitions) in added.iter().filter(|(_, partitions)| !partitions.is_empty()) {
            next.partitions.entry(topic.clone()).or_default().extend(partitions);
        }
        next
    }

    /// Returns the state in which it is decided how the transaction ends. From [`V2`] on the epoch rises with
    /// it, so that nothing that comes late takes part in the next one.
    pub(super) fn ended(
        &self,
        now: UnixMillis,
        committed: bool,
        version: i16,
        fresh: Option<ProducerId>,
    ) -> Result<Decision, Refusal> {
        let mut next = self.changed(now);
        next.status = if committed {
            TransactionStatus::PrepareCommit
        } else {
            TransactionStatus::PrepareAbort
        };
        if self.status != TransactionStatus::Ongoing {
            next.started_ms = now.0;
        }
        next.next_producer_id = ProducerId::NONE;
        next.client_version = version;
        if version < V2 {
            return Ok(Decision { next, takes_id: false });
        }
        if self.is_exhausted() {
            next.next_producer_id = fresh.ok_or(Refusal::NeedsProducerId)?;
        }
        if self.producer_epoch.0 == i16::MAX {
            // No log of ours has an open transaction with the last of all epochs. Its marker has that epoch.
            next.client_version = V1;
        } else {
            next.last_producer_epoch = self.producer_epoch;
            next.producer_epoch = ProducerEpoch(self.producer_epoch.0 + 1);
        }
        let takes_id = next.next_producer_id != ProducerId::NONE;
        Ok(Decision { next, takes_id })
    }

    /// Returns the state in which the open transaction is aborted and its producer fenced, whichever protocol
    /// it speaks.
    pub(super) fn fenced(
        &self,
        now: UnixMillis,
        fresh: Option<ProducerId>,
    ) -> Result<Decision, Refusal> {
        assert!(self.status == TransactionStatus::Ongoing, "only what is open is aborted");
        self.ended(now, false, V2, fresh)
    }

    /// Returns the state after the last marker.
    pub(super) fn completed(&self, now: UnixMillis) -> Self {
        assert!(self.is_preparing(), "only what is decided is completed");
        let (producer_id, producer_epoch) = self.after_completion();
        Self {
            producer_id,
            producer_epoch,
            next_producer_id: ProducerId::NONE,
            status: if self.status == TransactionStatus::PrepareCommit {
                TransactionStatus::CompleteCommit
            } else {
                TransactionStatus::CompleteAbort
            },
            partitions: Partitions::new(),
            ..self.changed(now)
        }
    }

    /// Returns what comes of an `EndTxn` in this state: what the transaction ends as, or what is answered at
    /// once, `NONE` for what is done already.
    pub(super) fn end_asked(
        &self,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        committed: bool,
        version: i16,
    ) -> Result<(), ErrorCode> {
        if version < V2 {
            self.end_asked_v1(producer_id, epoch, committed)
        } else {
            self.end_asked_v2(producer_id, epoch, committed)
        }
    }

    fn end_asked_v1(
        &self,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        committed: bool,
    ) -> Result<(), ErrorCode> {
        if producer_id != self.producer_id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if epoch != self.producer_epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        match (self.status, committed) {
            (TransactionStatus::Ongoing, _) => Ok(()),
            (TransactionStatus::CompleteCommit, true)
            | (TransactionStatus::CompleteAbort, false) => Err(ErrorCode::None),
            (TransactionStatus::PrepareCommit, true) | (TransactionStatus::PrepareAbort, false) => {
                Err(ErrorCode::ConcurrentTransactions)
            }
            (TransactionStatus::CompleteCommit | TransactionStatus::PrepareCommit, false)
            | (TransactionStatus::CompleteAbort | TransactionStatus::PrepareAbort, true)
            | (TransactionStatus::Empty, _) => Err(ErrorCode::InvalidTxnState),
        }
    }

    /// With an epoch for each transaction the one before tells a repeated request from the next one.
    fn end_asked_v2(
        &self,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        committed: bool,
    ) -> Result<(), ErrorCode> {
        let is_current = self.is_of(producer_id, epoch);
        match self.status {
            TransactionStatus::Empty | TransactionStatus::Ongoing => {
                if producer_id != self.producer_id {
                    Err(ErrorCode::InvalidProducerIdMapping)
                } else if !is_current {
                    Err(ErrorCode::ProducerFenced)
                } else if self.status == TransactionStatus::Ongoing || !committed {
                    // An abort with nothing begun raises the epoch all the same: what was sent and has not come
                    // yet is fenced with it.
                    Ok(())
                } else {
                    Err(ErrorCode::InvalidTxnState)
                }
            }
            TransactionStatus::PrepareCommit | TransactionStatus::PrepareAbort => {
                if self.is_repeated(producer_id, epoch) {
                    let same = committed == (self.status == TransactionStatus::PrepareCommit);
                    Err(if same {
                        ErrorCode::ConcurrentTransactions
                    } else {
                        ErrorCode::InvalidTxnState
                    })
                } else if self.is_next(producer_id, epoch) {
                    // Differs from Kafka, which fences a producer that goes on before it can.
                    Err(ErrorCode::ConcurrentTransactions)
                } else if producer_id == self.producer_id {
                    Err(ErrorCode::ProducerFenced)
                } else {
                    Err(ErrorCode::InvalidProducerIdMapping)
                }
            }
            TransactionStatus::CompleteCommit | TransactionStatus::CompleteAbort => {
                if self.is_repeated(producer_id, epoch) {
                    let same = committed == (self.status == TransactionStatus::CompleteCommit);
                    Err(if same { ErrorCode::None } else { ErrorCode::InvalidTxnState })
                } else if producer_id != self.producer_id {
                    Err(ErrorCode::InvalidProducerIdMapping)
                } else if !is_current {
                    Err(ErrorCode::ProducerFenced)
                } else if committed {
                    Err(ErrorCode::InvalidTxnState)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Returns whether a request with this epoch has brought the transaction to its end before.
    fn is_repeated(&self, producer_id: ProducerId, epoch: ProducerEpoch) -> bool {
        // Differs from Kafka: where the epoch was not raised by the end of the transaction, nobody of the epoch
        // before has ended it.
        if self.client_version < V2 {
            return false;
        }
        let is_bumped = producer_id == self.producer_id
            && i32::from(epoch.0) + 1 == i32::from(self.producer_epoch.0);
        let has_overflown = producer_id == self.previous_producer_id
            && producer_id != self.producer_id
            && epoch == LAST_EPOCH
            && self.producer_epoch == ProducerEpoch(0);
        is_bumped || has_overflown
    }
}
