//! The deterministic simulator of Mainspring: world, network, disk, clocks, faults and checkers.
//!
//! Everything runs in one thread on virtual time and draws chance from one seed, so a seed is a
//! whole run. The library knows `mainspring-core` and nothing of sockets, files, threads' timing
//! or async runtimes.
#![forbid(unsafe_code)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "facts, inputs and effects are open enums, of which each part here picks its subject"
)]

pub mod blackbox;
pub mod checkers;
pub mod cli;
pub mod clock;
pub mod disk;
pub mod exhaustive;
pub mod history;
pub mod log_bench;
pub mod naive;
pub mod net;
pub mod process;
pub mod rng;
pub mod scenarios;
pub mod schedule;
pub mod shrink;
pub mod story;
pub mod swarm;
pub mod trace;
pub mod workload;
pub mod world;
