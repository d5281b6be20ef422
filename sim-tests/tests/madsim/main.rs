//! The real network code under a deterministic runtime: `cargo sim`.
//!
//! Sockets, tasks and timers are those of `mainspring-net`, over madsim's network and clock and this
//! crate's disk. Time is virtual: a `sleep` in these tests is a moment in a schedule, costs nothing, and
//! waits for no other thread. A plain `cargo test` cannot build them, because the runtime is swapped by
//! `--cfg madsim`; the one ignored test below tells so by name, where nothing at all would pass for
//! success.

#[cfg(madsim)]
mod broker;
#[cfg(madsim)]
mod kills;

#[cfg(not(madsim))]
#[test]
#[ignore = "run cargo sim"]
fn network_simulations_need_cargo_sim() {}
