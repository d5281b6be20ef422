//! The real network code under a deterministic runtime: `cargo sim`.
//!
//! Sockets, tasks and timers are those of `mainspring-net`, over madsim's network and clock and this
//! crate's disk. A plain `cargo test` says that it leaves them out.

#[cfg(madsim)]
mod broker;
#[cfg(madsim)]
mod kills;

#[cfg(not(madsim))]
#[test]
#[ignore = "run cargo sim"]
fn network_simulations_need_cargo_sim() {}
