//! Consumer groups of the classic protocol, and committed offsets.
//!
//! This module opens no log and sends no frame: it asks for appends by a trait, and hands out replies
//! once they may leave.
//!
//! Sources: Kafka protocol guide; KIP-62, 134, 211, 345, 394, 429, 735, 800, 814; the behaviour of
//! Apache Kafka 4.3.

pub mod api;
pub mod config;
pub mod placement;

pub use api::{GroupLog, LogRecord, Request, Response, Ticket};
pub use config::GroupConfig;
pub use placement::partition_of;
