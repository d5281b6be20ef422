//! Errors as the classes of `mainspring.errors`, which are written in Python.

use std::collections::BTreeMap;
use std::fmt::Display;

use mainspring_core::client::ClientError;
use mainspring_core::error::ErrorCode;
use mainspring_net::client::call::Abandoned;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyType};

/// Makes an error of one of Python's classes.
pub(crate) fn error(py: Python<'_>, class: &str, message: &dyn Display) -> PyErr {
    error_with(py, class, message, &[])
}

/// Makes an error of one of Python's classes, with what is known about it. Partitions and offsets
/// become numbers.
pub(crate) fn error_with(
    py: Python<'_>,
    class: &str,
    message: &dyn Display,
    context: &[(&str, String)],
) -> PyErr {
    make(py, class, &message.to_string(), context, None).unwrap_or_else(|problem| problem)
}

/// Makes an error of what a client machine says: what failed, why, and what to do next.
pub(crate) fn client_error(
    py: Python<'_>,
    problem: &ClientError,
    context: &[(&str, String)],
) -> PyErr {
    let (class, next) = meaning(problem);
    let code = if let ClientError::UnknownCode(code) = problem {
        Some(*code)
    } else {
        problem.refused_with().map(ErrorCode::code)
    };
    // Whether the broker's mark or the class speaks for a new attempt.
    let retriable = problem.is_retriable() || class == "RebalanceInProgress";
    let code = code.map(|code| (code, retriable));
    let why = problem.to_string();
    let why = why.trim_end_matches('.');
    let message = match subject(context) {
        Some(subject) => format!("{subject}: {why}; {next}"),
        None => format!("{why}; {next}"),
    };
    make(py, class, &message, context, code).unwrap_or_else(|problem| problem)
}

/// Makes the error of an answer that will never come.
pub(crate) fn abandoned(py: Python<'_>, reason: Abandoned) -> PyErr {
    match reason {
        Abandoned::Ended => error(py, "ClosedError", &format!("{reason}; make another one")),
        Abandoned::Panicked => panicked(py),
    }
}

/// Makes the error of everything that is asked of a client whose task has panicked.
pub(crate) fn panicked(py: Python<'_>) -> PyErr {
    client_error(py, &ClientError::Abandoned, &[])
}

/// Returns every code of the protocol that is known: number, name, and whether a new attempt may
/// help.
#[pyfunction]
pub(crate) fn error_codes() -> Vec<(i16, &'static str, bool)> {
    ErrorCode::ALL.iter().map(|code| (code.code(), code.name(), code.is_retriable())).collect()
}

/// Makes the error of a broker's answer: its code, and words of its own if it had any. `None` where
/// the code says that nothing went wrong.
#[pyfunction]
#[pyo3(signature = (code, message=None, **context))]
pub(crate) fn error_of_answer(
    py: Python<'_>,
    code: i16,
    message: Option<&str>,
    context: Option<BTreeMap<String, String>>,
) -> Option<PyErr> {
    let problem = ClientError::from_answer(code, message)?;
    let context = context.unwrap_or_default();
    let context: Vec<(&str, String)> =
        context.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    Some(client_error(py, &problem, &context))
}

fn make(
    py: Python<'_>,
    class: &str,
    message: &str,
    context: &[(&str, String)],
    code: Option<(i16, bool)>,
) -> PyResult<PyErr> {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let errors =
        ERRORS.get_or_try_init(py, || py.import("mainspring.errors").map(Bound::unbind))?;
    let class = errors.bind(py).getattr(class)?.cast_into::<PyType>()?;
    if context.is_empty() && code.is_none() {
        return Ok(PyErr::from_type(class, message.to_owned()));
    }
    let known = PyDict::new(py);
    for (name, value) in context {
        match value.parse::<i64>() {
            Ok(number) if matches!(*name, "partition" | "offset") => {
                known.set_item(name, number)?;
            }
            Ok(_) | Err(_) => known.set_item(name, value)?,
        }
    }
    let arguments = PyDict::new(py);
    arguments.set_item("context", known)?;
    if let Some((code, retriable)) = code {
        arguments.set_item("code", code)?;
        arguments.set_item("retriable", retriable)?;
    }
    Ok(PyErr::from_value(class.call((message,), Some(&arguments))?))
}

/// What an error is about, as the beginning of a sentence.
fn subject(context: &[(&str, String)]) -> Option<String> {
    let find = |wanted: &str| context.iter().find(|(name, _)| *name == wanted);
    let Some((_, topic)) = find("topic") else {
        return find("group").map(|(_, group)| format!("group {group}"));
    };
    let mut subject = format!("topic {topic}");
    for name in ["partition", "offset"] {
        if let Some((_, value)) = find(name) {
            subject = format!("{subject}, {name} {value}");
        }
    }
    Some(subject)
}

/// The class of an error, and what to do next about it.
fn meaning(problem: &ClientError) -> (&'static str, &'static str) {
    match problem {
        ClientError::Broker(code) | ClientError::Refused { code, .. } => of_the_broker(*code),
        ClientError::UnknownCode(_) => ("KafkaError", "look the number up in the broker's manual"),
        ClientError::Disconnected => {
            ("ConnectionLost", "see whether the broker runs, and try again")
        }
        ClientError::TimedOut => (
            "OperationTimeout",
            "see whether the broker can be reached at this address, and try again",
        ),
        ClientError::UnsupportedApi(_) => {
            ("UnsupportedByBroker", "use another release of the broker")
        }
        ClientError::Malformed(_) => {
            ("ProtocolError", "see whether this address is that of a Kafka broker")
        }
        ClientError::Unknown { .. } => {
            ("OutcomeUnknown", "read the topic to see whether the record is there")
        }
        ClientError::NoStoredOffset => (
            "NoStoredOffset",
            "say where to begin by start=\"earliest\" or \"latest\", or store an offset",
        ),
        ClientError::NoPartition(_) => (
            "TopicNotFound",
            "name one that there is, or leave the partition out; Admin.alter_topic adds some",
        ),
        ClientError::TooLarge(_) => (
            "MessageTooLarge",
            "send less in one record, or raise max_request_size here and max.message.bytes of the \
             topic",
        ),
        ClientError::Abandoned => ("InternalError", "report it, and make another client"),
        ClientError::NoTransaction => {
            ("TransactionStateError", "begin one by `with producer.transaction() as tx:`")
        }
        ClientError::Aborted => ("TransactionAborted", "send it again, in another transaction"),
        _ => ("MainspringError", "try again"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these codes mean something of their own")]
fn of_the_broker(code: ErrorCode) -> (&'static str, &'static str) {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            ("TopicNotFound", "create it first, or see Admin.topics() for those that there are")
        }
        ErrorCode::InvalidTopicException => (
            "KafkaError",
            "a topic's name has up to 249 letters, digits, dots, dashes and underscores",
        ),
        ErrorCode::TopicAlreadyExists => {
            ("TopicAlreadyExists", "choose another name, or pass exist_ok=True")
        }
        ErrorCode::GroupIdNotFound => {
            ("GroupNotFound", "see Admin.groups() for those that there are")
        }
        ErrorCode::NonEmptyGroup => ("GroupNotEmpty", "stop its members first"),
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed
        | ErrorCode::DelegationTokenAuthorizationFailed
        | ErrorCode::SaslAuthenticationFailed => {
            ("AuthorizationError", "ask an operator for the right")
        }
        ErrorCode::RequestTimedOut => ("RequestTimedOut", "try again, with more time"),
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            ("MessageTooLarge", "send less in one record, or raise max.message.bytes of the topic")
        }
        ErrorCode::OffsetOutOfRange => {
            ("OffsetOutOfRange", "seek to an offset that is there, or set auto_offset_reset")
        }
        ErrorCode::RebalanceInProgress
        | ErrorCode::IllegalGeneration
        | ErrorCode::UnknownMemberId => (
            "RebalanceInProgress",
            "go on reading: whoever has the partitions now reads again what was not stored",
        ),
        ErrorCode::FencedInstanceId => (
            "MemberFenced",
            "give each consumer a group_instance_id of its own, and make this one anew",
        ),
        ErrorCode::InconsistentGroupProtocol => (
            "KafkaError",
            "the group's members use another rule; name one of theirs by \
             partition_assignment_strategy",
        ),
        ErrorCode::ProducerFenced => (
            "ProducerFenced",
            "let one producer at a time have the transactional_id, and end this one; a new one takes \
             the place back",
        ),
        // The coordinator tells which of the two, once the transaction is aborted.
        ErrorCode::InvalidProducerEpoch => (
            "TransactionAborted",
            "the transaction took longer than transaction_timeout_ms, or another producer has the \
             transactional_id",
        ),
        ErrorCode::TransactionAbortable => {
            ("TransactionAborted", "the same again, in another transaction, may succeed")
        }
        ErrorCode::InvalidTransactionTimeout => (
            "KafkaError",
            "lower transaction_timeout_ms, or raise transaction.max.timeout.ms of the broker",
        ),
        code if code.is_retriable() => ("KafkaError", "try again in a while"),
        _ => ("KafkaError", "correct it and try again"),
    }
}
