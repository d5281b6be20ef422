//! Record batches, version 2 (KIP-98; Kafka documentation, "Message format").
//!
//! A produced batch is opaque: its header and its CRC are checked once on the way in, and only
//! topics whose configuration asks for it have their records opened. Nothing here allocates on the
//! word of a peer.

pub mod batch;
pub mod builder;
pub mod compress;
pub mod cron;
pub mod delivered;
pub mod features;
pub mod fuzz;
pub mod headers;
pub mod hidden;
pub mod iterate;
pub mod keep;
pub mod marker;
pub mod produce;
#[cfg(test)]
pub(crate) mod testing;
