//! The tokio shell of Mainspring: sockets, files, clocks, console and command line.
//!
//! It drives the state machine of `mainspring-core`: what comes in becomes an input, what the
//! machine wants done is done as it stands. It decides nothing about records, logs or clients.

pub mod address;
#[cfg(not(madsim))]
pub mod cli;
pub mod client;
pub mod data_dir;
pub mod disk;
#[cfg(not(madsim))]
pub mod embedded;
pub mod node;
#[cfg(madsim)]
pub mod simulated;

mod clock;
mod connection;
mod console;
mod lane;
mod listener;
mod metrics;
#[cfg(not(madsim))]
mod nearby;
mod reins;
mod rt;
mod secure;
#[cfg(test)]
mod test_support;
mod watched;
