//! The other side: machines that speak to brokers as a producer, a reader, a member of a group or an
//! administrator.
//!
//! Like every machine of this crate they open no socket and know no clock. A driver feeds
//! [`Input`]s and carries out [`Effect`]s; the command line does so with real sockets, the
//! simulator with its own network. Each machine owns its connections.
//!
//! Invariants:
//! 1. A record that was taken is reported exactly once: delivered, or failed with a reason.
//! 2. An idempotent producer never sends a batch again under another sequence while the broker may
//!    have stored it.
//! 3. Nothing waits without a deadline: requests time out, connections are made again after a pause
//!    that grows, records fail at their delivery timeout.
//!
//! Source: Kafka protocol guide; KIP-19, 35, 91, 98, 320, 360, 447, 480, 511, 890.

pub mod admin;
pub mod connection;
pub mod consumer;
pub mod entries;
pub mod fetcher;
pub mod group;
pub mod metadata;
pub mod network;
pub mod producer;
pub mod settings;
#[cfg(test)]
mod test_broker;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::error::ErrorCode;

/// A connection of one client machine, numbered by it and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Link(pub u64);

/// The pause after so many failures in a row, which doubles up to the longest (KIP-580, without its
/// randomness).
fn backoff(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(longest.max(first))
}

/// What happened in the world.
#[derive(Debug)]
pub enum Input {
    /// The connection that `Effect::Connect` asked for stands.
    Connected(Link),
    /// It could not be made.
    ConnectFailed(Link),
    /// Bytes arrived.
    Received(Link, BytesMut),
    /// The connection is gone, for whatever reason.
    Disconnected(Link),
    /// The deadline that `next_deadline` named has passed.
    Wakeup,
}

/// What is to be done in the world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Connect to a broker; answered by `Connected` or `ConnectFailed`.
    Connect {
        /// The number of the connection.
        link: Link,
        /// Name or address of the host.
        host: Arc<str>,
        /// TCP port.
        port: u16,
    },
    /// Send bytes.
    Transmit {
        /// On which connection.
        link: Link,
        /// The bytes, part after part.
        parts: Vec<Bytes>,
    },
    /// Close a connection, or stop trying to make it. Nothing is reported about it any more.
    Close {
        /// Which one.
        link: Link,
    },
}

/// Why something could not be done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The broker refused it, and said no more than the code does.
    #[error("{}: {}", .0, .0.message())]
    Broker(ErrorCode),
    /// The broker refused it, and said why in words of its own.
    #[error("{code}: {message}")]
    Refused {
        /// The code.
        code: ErrorCode,
        /// The broker's words on one line, cut to [`ClientError::WORDS_MAX`] characters.
        message: Arc<str>,
    },
    /// The broker answered with a number that stands for no error that is known.
    #[error("the broker answered with the unknown error code {0}")]
    UnknownCode(i16),
    /// The connection was lost before the answer came.
    #[error("the connection was lost before the broker answered")]
    Disconnected,
    /// No answer came in time.
    #[error("no answer came in time")]
    TimedOut,
    /// The broker speaks no version of this API that is known here.
    #[error("the broker serves no version of {0} that this client speaks")]
    UnsupportedApi(&'static str),
    /// The broker's answer could not be understood.
    #[error("the answer could not be understood: {0}")]
    Malformed(String),
    /// Whether the broker has stored the record cannot be found out any more.
    #[error("the broker may or may not have stored the record{}", last_said(last.as_deref()))]
    Unknown {
        /// What the broker last answered about it; `None` where it never answered.
        last: Option<Arc<Self>>,
    },
    /// The group has no offset for a partition, and no rule says where to begin.
    #[error("no offset is stored for the partition, and auto.offset.reset is none")]
    NoStoredOffset,
    /// The topic has no such partition, as brokers have said again and again.
    #[error("the topic has no such partition: it has {0}, numbered from 0")]
    NoPartition(usize),
    /// The record alone is larger than a request may be.
    #[error("the record of {0} bytes is larger than a request may be")]
    TooLarge(usize),
    /// A transactional producer was handed a record while no transaction was open.
    #[error("no transaction is open; begin one before records are sent")]
    NoTransaction,
    /// The transaction was aborted before the record was sent.
    #[error("the transaction was aborted before the record was sent")]
    Aborted,
    /// Whoever ran the client ended without an answer, by a fault of its own. No machine says so.
    #[error("a task of the client has panicked; what it said is on standard error")]
    Abandoned,
}

/// The end of a sentence that says what a broker last answered.
fn last_said(last: Option<&ClientError>) -> String {
    last.map_or_else(String::new, |last| format!("; the last that it said was {last}"))
}

impl ClientError {
    /// Most characters that are kept of a broker's words.
    pub const WORDS_MAX: usize = 1000;

    /// Makes an error of a code of the wire, `None` where it says that nothing went wrong.
    pub fn from_code(code: i16) -> Option<Self> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => None,
            Some(code) => Some(Self::Broker(code)),
            None => Some(Self::UnknownCode(code)),
        }
    }

    /// Makes an error of a code of the wire and the words that came with it, `None` where the code
    /// says that nothing went wrong. Words that only repeat Kafka's own are left out.
    pub fn from_answer(code: i16, message: Option<&str>) -> Option<Self> {
        let error = Self::from_code(code)?;
        let Self::Broker(code) = error else {
            return Some(error);
        };
        let message = message.map_or("", str::trim);
        if message.is_empty() || message == code.message() {
            return Some(error);
        }
        // Another's words go to terminals and logs: they start no line and move no cursor there.
        let message: String = message
            .chars()
            .take(Self::WORDS_MAX)
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        Some(Self::Refused { code, message: message.into() })
    }

    /// Returns the code with which the broker refused it, if that is what happened.
    pub const fn refused_with(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker(code) | Self::Refused { code, .. } => Some(*code),
            Self::UnknownCode(_)
            | Self::Disconnected
            | Self::TimedOut
            | Self::UnsupportedApi(_)
            | Self::Malformed(_)
            | Self::Unknown { .. }
            | Self::NoStoredOffset
            | Self::NoPartition(_)
            | Self::TooLarge(_)
            | Self::NoTransaction
            | Self::Aborted
            | Self::Abandoned => None,
        }
    }

    /// Returns whether it is what the broker answered, and not the lack of an answer.
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::Broker(_) | Self::Refused { .. } | Self::UnknownCode(_))
    }

    /// Returns whether trying again may help.
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Broker(code) | Self::Refused { code, .. } => code.is_retriable(),
            Self::Disconnected | Self::TimedOut => true,
            Self::UnknownCode(_)
            | Self::UnsupportedApi(_)
            | Self::Malformed(_)
            | Self::Unknown { .. }
            | Self::NoStoredOffset
            | Self::NoPartition(_)
            | Self::TooLarge(_)
            | Self::NoTransaction
            | Self::Aborted
            | Self::Abandoned => false,
        }
    }

    /// Returns whether the broker does not know the topic, or the partition.
    pub const fn is_unknown_topic(&self) -> bool {
        matches!(
            self.refused_with(),
            Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
        )
    }

    /// Returns whether it may be due to metadata that has changed since they were asked for.
    pub const fn is_stale_metadata(&self) -> bool {
        match self {
            Self::Broker(code) | Self::Refused { code, .. } => matches!(
                code,
                ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::ReplicaNotAvailable
                    | ErrorCode::NotController
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::ListenerNotFound
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::UnknownLeaderEpoch
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::InconsistentTopicId
            ),
            Self::Disconnected | Self::TimedOut => true,
            Self::UnknownCode(_)
            | Self::UnsupportedApi(_)
            | Self::Malformed(_)
            | Self::Unknown { .. }
            | Self::NoStoredOffset
            | Self::NoPartition(_)
            | Self::TooLarge(_)
            | Self::NoTransaction
            | Self::Aborted
            | Self::Abandoned => false,
        }
    }

    /// Returns whether the broker said that it did not carry out what was asked. Otherwise it may
    /// have.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Broker(code) | Self::Refused { code, .. } => !matches!(
                code,
                ErrorCode::RequestTimedOut
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::NetworkException
                    | ErrorCode::UnknownServerError
                    | ErrorCode::KafkaStorageError
            ),
            Self::UnsupportedApi(_)
            | Self::NoStoredOffset
            | Self::NoPartition(_)
            | Self::TooLarge(_)
            | Self::NoTransaction
            | Self::Aborted => true,
            Self::UnknownCode(_)
            | Self::Disconnected
            | Self::TimedOut
            | Self::Malformed(_)
            | Self::Unknown { .. }
            | Self::Abandoned => false,
        }
    }
}
