//! The real network code under a deterministic runtime: `cargo sim`.
//!
//! Sockets, tasks and timers are those of `mainspring-net`, over madsim's network and clock and this
//! crate's disk. Time is virtual: a `sleep` in these tests is a moment in a schedule, costs nothing, and
//! waits for no other thread. A plain `cargo test` cannot build them, because the runtime is swapped by
//! `--cfg madsim`; the one ignored test below tells so by name, where nothing at all would pass for
//! success.
#![cfg_attr(
    madsim,
    expect(
        clippy::wildcard_enum_match_arm,
        reason = "answers are open enums, of which a test expects one"
    )
)]

#[cfg(madsim)]
mod broker;
#[cfg(madsim)]
mod cluster;
#[cfg(madsim)]
mod connections;
#[cfg(madsim)]
mod console;
#[cfg(madsim)]
mod dials;
#[cfg(madsim)]
mod groups;
#[cfg(madsim)]
mod kills;
#[cfg(madsim)]
mod lifecycle;
#[cfg(madsim)]
mod listener;
#[cfg(madsim)]
mod log;
#[cfg(madsim)]
mod peer;
#[cfg(madsim)]
mod run;
#[cfg(madsim)]
mod sockets;

#[cfg(not(madsim))]
#[test]
#[ignore = "run cargo sim"]
fn network_simulations_need_cargo_sim() {}
