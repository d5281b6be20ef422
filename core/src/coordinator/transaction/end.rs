//! How transactions come to their end: by `EndTxn`, by a newer producer, by their timeout, by an operator.

use super::api::{AbortTransaction, EndTxn, ProducerAnswer, Request, Response, Ticket};
use super::decide::{Refusal, V1, V2};
use super::replies::{append_error, fenced_below, no_producer};
use super::stored::Transaction;
use super::{Cx, Timer, TransactionCoordinator};
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::io::Mark;
use crate::wire::KafkaString;
use crate::wire::transaction_record::TransactionStatus;

/// First version in which a fenced producer is told so.
const FIRST_VERSION_WITH_FENCED: i16 = 2;
/// First version in which the producer gets its next epoch.
const FIRST_VERSION_WITH_EPOCH: i16 = 5;

impl TransactionCoordinator {
    pub(super) fn end_txn(&mut self, cx: &mut Cx<'_>, ticket: Ticket, request: &EndTxn) {
        let is_v2 = request.version >= FIRST_VERSION_WITH_EPOCH;
        let done = |transaction: &Transaction| {
            let mut answer = no_producer(ErrorCode::None);
            if is_v2 {
                let (producer_id, producer_epoch) = transaction.after_completion();
                answer = ProducerAnswer { error: ErrorCode::None, producer_id, producer_epoch };
            }
            Response::EndTxn(answer)
        };
        let id = &request.transactional_id;
        let response = match self.end(cx, request, if is_v2 { V2 } else { V1 }) {
            Ok(decided_at) => {
                let transaction = self.stored.transaction(id).expect("it was just decided");
                let response = done(transaction);
                self.wait_for_end(cx.now, decided_at, ticket, response);
                return self.start_ahead(cx, decided_at);
            }
            Err(Refusal::NeedsProducerId) => {
                return self.producer_ids.wait(ticket, Request::EndTxn(request.clone()));
            }
            Err(Refusal::Error(ErrorCode::None)) => {
                cx.log.mark(Mark::TransactionEndRepeated);
                done(self.stored.transaction(id).expect("it has ended before"))
            }
            Err(Refusal::Error(error)) => {
                let error = fenced_below(request.version, FIRST_VERSION_WITH_FENCED, error);
                Response::EndTxn(no_producer(error))
            }
        };
        self.replies.push(ticket, response);
    }

    fn end(&mut self, cx: &mut Cx<'_>, request: &EndTxn, version: i16) -> Result<Offset, Refusal> {
        let id = &request.transactional_id;
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest.into());
        }
        let transaction = self.stored.transaction(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let (producer_id, epoch) = (request.producer_id, request.producer_epoch);
        transaction.end_asked(producer_id, epoch, request.committed, version)?;
        let fresh = self.producer_ids.first();
        let decision = transaction.ended(cx.now.wall, request.committed, version, fresh)?;
        Ok(self.store(cx, id, &decision).map_err(append_error)?)
    }

    /// Aborts the open transaction of an id and fences its producer.
    pub(super) fn abort(&mut self, cx: &mut Cx<'_>, id: &KafkaString) -> Result<Offset, Refusal> {
        let transaction = self.stored.transaction(id).expect("whoever aborts has looked");
        let decision = transaction.fenced(cx.now.wall, self.producer_ids.first())?;
        let decided_at = self.store(cx, id, &decision).map_err(append_error)?;
        cx.log.mark(Mark::TransactionFenced);
        Ok(decided_at)
    }

    /// Aborts a transaction that has been open for its timeout.
    pub(super) fn on_timeout(&mut self, cx: &mut Cx<'_>, id: KafkaString) {
        let transaction = self.stored.transaction(&id);
        if transaction.is_none_or(|one| one.status != TransactionStatus::Ongoing) {
            return;
        }
        match self.abort(cx, &id) {
            Ok(_) => cx.log.mark(Mark::TransactionTimedOut),
            Err(Refusal::NeedsProducerId) => self.producer_ids.wait_to_abort(id),
            Err(Refusal::Error(error)) => {
                tracing::info!(%error, %id, "a transaction is still to be aborted");
                self.timers.set(Timer::Timeout(id), cx.now.mono + self.config.retry_max);
            }
        }
    }

    pub(super) fn abort_transaction(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &AbortTransaction,
    ) {
        let id = &request.transactional_id;
        let error = match self.stored.transaction(id).map(|transaction| transaction.status) {
            None => ErrorCode::TransactionalIdNotFound,
            Some(TransactionStatus::Ongoing) => match self.abort(cx, id) {
                Ok(decided_at) => {
                    let response = Response::AbortTransaction(ErrorCode::None);
                    return self.wait_for_end(cx.now, decided_at, ticket, response);
                }
                Err(Refusal::NeedsProducerId) => {
                    let request = Request::AbortTransaction(request.clone());
                    return self.producer_ids.wait(ticket, request);
                }
                Err(Refusal::Error(error)) => error,
            },
            // It is being aborted.
            Some(TransactionStatus::PrepareAbort) => ErrorCode::None,
            Some(
                TransactionStatus::Empty
                | TransactionStatus::PrepareCommit
                | TransactionStatus::CompleteCommit
                | TransactionStatus::CompleteAbort,
            ) => ErrorCode::InvalidTxnState,
        };
        self.replies.push(ticket, Response::AbortTransaction(error));
    }
}
