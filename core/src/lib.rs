//! The state machine of Mainspring, a Kafka-compatible message queue.
//!
//! Everything that decides something lives here: connections and their frames, the wire codec,
//! record batches, the journal and the logs, partitions, metadata, groups, and the client machines.
//! Bytes and completions come in as [`io::Input`], what is to be done leaves as [`io::Effect`];
//! time comes with each input.
//!
//! What this crate never does: it names no clock, no source of randomness, no socket, no file, no
//! thread, no environment variable and no async runtime, and it iterates no unordered map. A test
//! over the dependency tree and a clippy wall hold that.
#![forbid(unsafe_code)]

pub mod broker;
pub mod buggify;
pub mod client;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod coordinator;
pub mod digest;
pub mod error;
pub mod ids;
pub mod io;
pub mod log;
pub mod metadata;
pub mod observe;
pub mod partition;
pub mod peer;
pub mod quorum;
pub mod record;
pub mod time;
pub mod wire;
