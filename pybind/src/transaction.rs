//! What producers and consumers have to do with transactions, as Python sees it.

use mainspring_core::client::ClientError;
use mainspring_core::error::ErrorCode;
use mainspring_net::client::call::Call as NetCall;
use mainspring_net::client::producer_transactions::{
    GroupOffsets as NetOffsets, TransactionCall, TransactionError, Undone,
};
use pyo3::prelude::*;

use crate::call::Call;
use crate::errors::{client_error, error, error_with};

/// Offsets of a consumer's group that are to be part of a transaction.
#[pyclass(frozen, module = "mainspring._native")]
pub(crate) struct GroupOffsets(pub(crate) NetOffsets);

/// Wraps what a producer with this transactional id was asked.
pub(crate) fn call(call: NetCall<Result<(), Undone>>, id: &str) -> Call {
    let id = id.to_owned();
    Call::new(call, move |py, result| match result {
        Ok(()) => Ok(py.None()),
        Err(undone) => Err(why(py, &undone, &id)),
    })
}

/// Makes the error of what a producer with this transactional id could not do.
pub(crate) fn why(py: Python<'_>, undone: &Undone, id: &str) -> PyErr {
    let context = [("transactional_id", id.to_owned())];
    match undone {
        Undone::Refused(TransactionError::Fenced) => {
            client_error(py, &ClientError::Broker(ErrorCode::ProducerFenced), &context)
        }
        Undone::Refused(TransactionError::Expired { open, timeout }) => {
            let message = format!(
                "the transaction was open for {:.1} s, longer than transaction_timeout_ms ({}) allows: the \
                 broker has aborted it, none of it counts, and this producer is of no more use; make a new \
                 one, and commit more often or raise transaction_timeout_ms",
                open.as_secs_f64(),
                timeout.as_millis()
            );
            error_with(py, "ProducerFenced", &message, &context)
        }
        Undone::Refused(TransactionError::Abortable(cause)) => abortable(py, cause, &context),
        Undone::Refused(TransactionError::Fatal(cause)) => {
            let fatal = client_error(py, cause, &context);
            // Whatever it is at other times.
            match fatal.value(py).setattr("fatal", true) {
                Ok(()) => fatal,
                Err(problem) => problem,
            }
        }
        Undone::Refused(TransactionError::Misplaced { call, state }) => {
            error_with(py, "TransactionStateError", &misplaced(*call, state), &context)
        }
        Undone::Refused(_) => error_with(py, "MainspringError", undone, &context),
        Undone::TimedOut(call) => error_with(py, "OperationTimeout", &timed_out(*call), &context),
        Undone::NoTransactionalId => no_id(py),
    }
}

/// Makes the error of a producer that has no transactional id.
pub(crate) fn no_id(py: Python<'_>) -> PyErr {
    let message = "this producer has no transactional_id, and so no transactions; make one by \
                   Producer(..., transactional_id=\"NAME\")";
    error(py, "TransactionStateError", &message)
}

fn abortable(py: Python<'_>, cause: &ClientError, context: &[(&str, String)]) -> PyErr {
    let cause_error = client_error(py, cause, &[]);
    let retriable = may_succeed(cause);
    let next = if retriable { "; the same again, in another transaction, may succeed" } else { "" };
    let said = cause_error.value(py).to_string();
    let message = format!("the transaction is to be aborted, and none of it counts: {said}{next}");
    let error = error_with(py, "TransactionAborted", &message, context);
    let marked = error.value(py).setattr("retriable", retriable);
    error.set_cause(py, Some(cause_error));
    match marked {
        Ok(()) => error,
        Err(problem) => problem,
    }
}

/// Whether the same records and offsets may be committed by another transaction.
const fn may_succeed(cause: &ClientError) -> bool {
    match cause.refused_with() {
        Some(code) => !matches!(
            code,
            // Of the records.
            ErrorCode::MessageTooLarge
                | ErrorCode::RecordListTooLarge
                | ErrorCode::InvalidTopicException
                | ErrorCode::InvalidRecord
                | ErrorCode::InvalidTimestamp
                | ErrorCode::PolicyViolation
                | ErrorCode::TopicAuthorizationFailed
                | ErrorCode::GroupAuthorizationFailed
                // Of the offsets: others read what was read.
                | ErrorCode::RebalanceInProgress
                | ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::FencedInstanceId
        ),
        None => !matches!(
            cause,
            ClientError::TooLarge(_) | ClientError::NoPartition(_) | ClientError::UnsupportedApi(_)
        ),
    }
}

fn misplaced(call: TransactionCall, state: &str) -> String {
    match (call, state) {
        (TransactionCall::Begin, "has a transaction open") => {
            "a transaction of this producer is open; end it before the next one begins, or make \
             another producer with a transactional_id of its own"
                .to_owned()
        }
        (_, "has no transaction open") => {
            "no transaction is open; begin one by `with producer.transaction() as tx:`".to_owned()
        }
        (call, state) => format!("{call} does not fit a producer that {state}"),
    }
}

const fn timed_out(call: TransactionCall) -> &'static str {
    match call {
        TransactionCall::Init | TransactionCall::Begin => {
            "beginning a transaction takes longer than max_block_ms; see whether the broker can be \
             reached at this address, and try again"
        }
        TransactionCall::SendOffsets => {
            "offsets are not part of the transaction after max_block_ms; abort it, and try again"
        }
        TransactionCall::Commit => {
            "the commit takes longer than max_block_ms and goes on; whether it succeeds is not known \
             yet: tx.commit() waits for it again"
        }
        TransactionCall::Abort => {
            "the abort takes longer than max_block_ms and goes on; the next transaction waits for it"
        }
    }
}
