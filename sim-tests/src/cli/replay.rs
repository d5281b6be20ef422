//! `sim replay`: one seed again, to be read.

use std::fmt::Write as _;

use super::options::Options;
use super::{say, wrong};
use crate::scenarios::RunOptions;
use crate::world::{Outcome, SECOND};

/// Returns the line that repeats a seed.
pub(super) fn replay_line(options: &Options, seed: u64, outcome: &Outcome) -> String {
    let mutant = options.mutant.as_ref().map_or_else(String::new, |id| format!(" --mutant {id}"));
    let alarm = outcome.alarm.as_ref().map_or_else(String::new, |alarm| {
        let step = alarm.step;
        format!("   # {} at step {step} (--until {step})", alarm.checker)
    });
    format!("replay: mainspring sim replay {} --seed {seed}{mutant}{alarm}", options.scenario.name)
}

/// Runs one seed and keeps its trace.
pub(super) fn replay(options: &Options) -> i32 {
    if options.seeds.end - options.seeds.start != 1 {
        return wrong("replay needs --seed N");
    }
    let seed = options.seeds.start;
    let how = RunOptions { until: options.until, keep_lines: true };
    let outcome = options.scenario.run(seed, &how);
    for line in &outcome.lines {
        say(line);
    }
    let mut end = format!(
        "{} seed {seed}: {} events, {}.{:03} s, trace {:016x}",
        options.scenario.name,
        outcome.events,
        outcome.time / SECOND,
        outcome.time % SECOND / 1_000_000,
        outcome.trace_hash
    );
    if let Some(alarm) = &outcome.alarm {
        let _infallible = write!(end, "\n{alarm}");
    }
    say(&end);
    i32::from(outcome.alarm.is_some())
}
