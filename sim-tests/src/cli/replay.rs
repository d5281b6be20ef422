//! `sim replay`: one run again, to be read.

use std::fmt::Write as _;

use super::options::Options;
use super::{say, wrong};
use crate::scenarios::RunOptions;
use crate::world::{Outcome, SECOND};

/// Returns the lines that repeat a seed and make it smaller.
pub(super) fn replay_lines(options: &Options, seed: u64, outcome: &Outcome) -> String {
    let (name, particulars) = (options.scenario.name, options.particulars());
    let alarm = outcome.alarm.as_ref().map_or_else(String::new, |alarm| {
        let step = alarm.step;
        format!("   # {} at step {step} (--until {step})", alarm.checker)
    });
    format!(
        "replay: mainspring sim replay {name} --seed {seed}{particulars}{alarm}\n\
         shrink: mainspring sim shrink {name} --seed {seed}{particulars}"
    )
}

/// Runs one schedule and keeps its trace.
pub(super) fn replay(options: &Options) -> i32 {
    let schedule = match options.one("replay") {
        Ok(schedule) => schedule,
        Err(what) => return wrong(&what),
    };
    let how = RunOptions { until: options.until, keep_lines: true };
    let outcome = schedule.run(&how);
    for line in &outcome.lines {
        say(line);
    }
    let mut end = format!(
        "{} seed {}: {} events, {}.{:03} s, trace {:016x}",
        schedule.scenario,
        schedule.seed,
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
