//! `InitProducerId`, and the fresh producer ids that it and others need.

use std::collections::VecDeque;
use std::time::Duration;

use super::api::{InitProducerId, ProducerAnswer, Request, Response, Ticket};
use super::decide::{Decision, Expected, NO_EPOCH, Refusal, created};
use super::replies::{append_error, fenced_below, no_producer};
use super::{Cx, Timer, TransactionCoordinator};
use crate::error::ErrorCode;
use crate::ids::ProducerId;
use crate::wire::KafkaString;
use crate::wire::transaction_record::TransactionStatus;

/// First version in which a fenced producer is told so.
const FIRST_VERSION_WITH_FENCED: i16 = 4;

/// Who waits for a fresh producer id.
#[derive(Clone, Debug)]
enum Waiting {
    /// Somebody who asked.
    Request(Ticket, Request),
    /// The abort of a transaction that has been open for its timeout.
    Timeout(KafkaString),
}

/// Fresh producer ids, and who waits for more.
#[derive(Clone, Default, Debug)]
pub(super) struct ProducerIds {
    fresh: VecDeque<ProducerId>,
    is_asked: bool,
    waiting: VecDeque<Waiting>,
}

impl ProducerIds {
    /// Returns the next fresh id, which is still fresh then.
    pub(super) fn first(&self) -> Option<ProducerId> {
        self.fresh.front().copied()
    }

    /// Takes the next fresh id: it is in the log.
    pub(super) fn take(&mut self) {
        let taken = self.fresh.pop_front();
        assert!(taken.is_some(), "an id is used where there is one");
    }

    /// Returns whether another id is to be asked for, once for each.
    pub(super) fn ask(&mut self) -> bool {
        let asks = !self.is_asked && self.fresh.is_empty() && !self.waiting.is_empty();
        self.is_asked |= asks;
        asks
    }

    /// Lets a request wait for the next one.
    pub(super) fn wait(&mut self, ticket: Ticket, request: Request) {
        self.waiting.push_back(Waiting::Request(ticket, request));
    }

    /// Lets the abort of a transaction wait for the next one.
    pub(super) fn wait_to_abort(&mut self, id: KafkaString) {
        self.waiting.push_back(Waiting::Timeout(id));
    }

    /// Refuses every request that waits.
    pub(super) fn refuse_all(&mut self, error: ErrorCode) -> Vec<(Ticket, Response)> {
        let waiting = std::mem::take(&mut self.waiting);
        let requests = waiting.into_iter().filter_map(|waiting| match waiting {
            Waiting::Request(ticket, request) => Some((ticket, request.refused(error))),
            Waiting::Timeout(_) => None,
        });
        requests.collect()
    }
}

/// What `InitProducerId` comes to.
enum Step {
    Store(Decision),
    /// The open transaction is aborted first.
    Abort,
}

impl TransactionCoordinator {
    pub(super) fn init_producer_id(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &InitProducerId,
    ) {
        let id = &request.transactional_id;
        let refused = |error| {
            let error = fenced_below(request.version, FIRST_VERSION_WITH_FENCED, error);
            Response::InitProducerId(no_producer(error))
        };
        let response = match self.initialize(cx, request) {
            Ok(Step::Store(decision)) => match self.store(cx, id, &decision) {
                Ok(_) => Response::InitProducerId(ProducerAnswer {
                    error: ErrorCode::None,
                    producer_id: decision.next.producer_id,
                    producer_epoch: decision.next.producer_epoch,
                }),
                Err(error) => refused(append_error(error)),
            },
            Ok(Step::Abort) => match self.abort(cx, id) {
                // The producer comes again; the epoch rises once more then.
                Ok(decided_at) => {
                    let response = refused(ErrorCode::ConcurrentTransactions);
                    return self.wait_for_end(cx.now, decided_at, ticket, response);
                }
                Err(Refusal::NeedsProducerId) => {
                    return self
                        .producer_ids
                        .wait(ticket, Request::InitProducerId(request.clone()));
                }
                Err(Refusal::Error(error)) => refused(error),
            },
            Err(Refusal::NeedsProducerId) => {
                return self.producer_ids.wait(ticket, Request::InitProducerId(request.clone()));
            }
            Err(Refusal::Error(error)) => refused(error),
        };
        self.replies.push(ticket, response);
    }

    fn initialize(&self, cx: &Cx<'_>, request: &InitProducerId) -> Result<Step, Refusal> {
        let has_id = request.producer_id != ProducerId::NONE;
        let has_epoch = request.producer_epoch != NO_EPOCH;
        if request.transactional_id.is_empty() || has_id != has_epoch {
            return Err(ErrorCode::InvalidRequest.into());
        }
        let timeout_ms = request.transaction_timeout_ms;
        let timeout = u64::try_from(timeout_ms).map_or(Duration::ZERO, Duration::from_millis);
        if timeout.is_zero() || timeout > self.config.timeout_max {
            return Err(ErrorCode::InvalidTransactionTimeout.into());
        }
        let expected: Expected = has_id.then_some((request.producer_id, request.producer_epoch));
        let fresh = self.producer_ids.first();
        let Some(transaction) = self.stored.transaction(&request.transactional_id) else {
            if self.stored.transactions().len() >= self.config.ids_max {
                return Err(ErrorCode::PolicyViolation.into());
            }
            let first = self.config.first_epoch;
            return created(cx.now.wall, timeout_ms, first, fresh).map(Step::Store);
        };
        match transaction.status {
            TransactionStatus::PrepareCommit | TransactionStatus::PrepareAbort => {
                Err(ErrorCode::ConcurrentTransactions.into())
            }
            TransactionStatus::Ongoing => {
                transaction.may_be_fenced_by(expected)?;
                Ok(Step::Abort)
            }
            TransactionStatus::Empty
            | TransactionStatus::CompleteCommit
            | TransactionStatus::CompleteAbort => {
                transaction.initialized(cx.now.wall, timeout_ms, expected, fresh).map(Step::Store)
            }
        }
    }

    pub(super) fn on_producer_id(&mut self, cx: &mut Cx<'_>, id: Result<ProducerId, ErrorCode>) {
        self.producer_ids.is_asked = false;
        match id {
            Ok(id) => self.producer_ids.fresh.push_back(id),
            Err(error) => {
                tracing::info!(%error, "there is no producer id for those who wait for one");
                // Retriable everywhere; with 15 or 16 clients would look for another coordinator.
                let error = ErrorCode::CoordinatorLoadInProgress;
                let again = cx.now.mono + self.config.retry_max;
                for waiting in &self.producer_ids.waiting {
                    if let Waiting::Timeout(id) = waiting {
                        self.timers.set(Timer::Timeout(id.clone()), again);
                    }
                }
                for (ticket, response) in self.producer_ids.refuse_all(error) {
                    self.replies.push(ticket, response);
                }
            }
        }
        // Whoever needs none any more leaves it for the next one.
        while self.producer_ids.first().is_some()
            && let Some(waiting) = self.producer_ids.waiting.pop_front()
        {
            match waiting {
                Waiting::Request(ticket, request) => {
                    self.handle(cx.now, cx.log, ticket, &request);
                }
                Waiting::Timeout(id) => self.on_timeout(cx, id),
            }
        }
    }
}
