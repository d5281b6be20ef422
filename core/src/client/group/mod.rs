//! Membership of a classic consumer group.

pub mod assignor;
