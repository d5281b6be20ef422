//! The features whose levels a cluster settles (KIP-584).
//!
//! A level is written to the metadata log, so all brokers of a cluster act alike; one that cannot serve a level
//! that is settled is not registered.

/// A feature, and the levels that this build can work at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feature {
    /// Its name on the wire.
    pub name: &'static str,
    /// The lowest level.
    pub min: i16,
    /// The highest level, at which a new cluster begins.
    pub max: i16,
}

/// What the metadata records mean; 30 is that of Kafka 4.3.
pub const METADATA_VERSION: Feature = Feature { name: "metadata.version", min: 7, max: 30 };
/// How transactions are guarded: at 2, the second kind (KIP-890).
pub const TRANSACTION_VERSION: Feature = Feature { name: "transaction.version", min: 0, max: 2 };

/// All of them.
pub const FEATURES: [Feature; 2] = [METADATA_VERSION, TRANSACTION_VERSION];
