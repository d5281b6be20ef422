//! What can be run: each scenario makes a whole run out of a seed.

pub mod broker;
pub mod crash_points;
pub mod groups;
mod journal_rot;
pub mod standard;

use mainspring_core::io::Mark;

use crate::world::Outcome;

/// How a run is to be made.
#[derive(Clone, Copy, Default, Debug)]
pub struct RunOptions {
    /// The seed.
    pub seed: u64,
    /// How many nodes, where the scenario leaves a choice.
    pub nodes: Option<usize>,
    /// The event at which to stop.
    pub until: Option<u64>,
    /// Whether the last lines of the trace are kept.
    pub keep_lines: bool,
}

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Makes a run.
    pub run: fn(RunOptions) -> Outcome,
    /// What a hundred seeds together must have counted at least; less is no evidence.
    pub floors: &'static [(&'static str, u64)],
    /// The checkers that must have had something to compare.
    pub armed: &'static [&'static str],
}

/// Every scenario, in order of their names.
pub const ALL: &[Scenario] =
    &[crash_points::SCENARIO, broker::DISK_FULL, groups::SCENARIO, broker::LOG, standard::SCENARIO];

/// Every mark, so that one that nobody reaches is known.
pub const MARKS: &[Mark] = &[
    Mark::BlockGathered,
    Mark::JournalRecycled,
    Mark::JournalGrew,
    Mark::TornTailCut,
    Mark::TailRewritten,
    Mark::DuplicateAnswered,
    Mark::SegmentRolled,
    Mark::DiskFull,
    Mark::BackPressure,
    Mark::FetchFromFile,
    Mark::FetchWoken,
];

/// Returns a scenario by its name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
