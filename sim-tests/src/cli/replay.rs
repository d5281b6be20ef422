//! `sim replay`: one run again, told as a story.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use super::numbers::{seconds, thousands};
use super::options::Options;
use super::{say, wrong};
use crate::scenarios::RunOptions;
use crate::schedule::Schedule;
use crate::story::{Class, Story, evidence, page, plan_words};
use crate::trace::Sink;
use crate::world::Outcome;

/// Moments before the end that are told where the full story was not asked for.
const LAST: usize = 40;

/// Returns the lines that repeat a seed and make it smaller.
pub(super) fn replay_lines(options: &Options, seed: u64, outcome: &Outcome) -> String {
    let (name, particulars) = (options.scenario.name, options.particulars());
    let alarm = outcome.alarm.as_ref().map_or_else(String::new, |alarm| match alarm.step {
        0 => format!("   # {}", alarm.checker),
        step => format!("   # {} at step {step} (--until {step})", alarm.checker),
    });
    format!(
        "replay: mainspring sim replay {name} --seed {seed}{particulars}{alarm}\n\
         shrink: mainspring sim shrink {name} --seed {seed}{particulars}"
    )
}

/// Runs one schedule and tells its story.
pub(super) fn replay(options: &Options) -> i32 {
    let schedule = match options.one("replay") {
        Ok(schedule) => schedule,
        Err(what) => return wrong(&what),
    };
    match write_files(options, &schedule) {
        Ok((text, failed)) => {
            say(&text);
            i32::from(failed)
        }
        Err((path, error)) => {
            eprintln!("mainspring sim: {}: {error}", path.display());
            1
        }
    }
}

fn write_files<'a>(
    options: &'a Options,
    schedule: &Schedule,
) -> Result<(String, bool), (&'a Path, io::Error)> {
    let sink = match &options.trace {
        Some(path) => {
            let file = File::create(path).map_err(|error| (path.as_path(), error))?;
            Some(Sink::new(BufWriter::new(file)))
        }
        None => None,
    };
    let how = RunOptions { until: options.until, sink: sink.clone(), story: true };
    let outcome = schedule.run(&how);
    if let (Some(path), Some(sink)) = (&options.trace, sink) {
        sink.close().map_err(|error| (path.as_path(), error))?;
    }
    let story = outcome.story.clone().unwrap_or_default();
    if let Some(path) = &options.html {
        let html = page(&story, schedule, outcome.alarm.as_ref());
        std::fs::write(path, html).map_err(|error| (path.as_path(), error))?;
    }
    Ok((tell(schedule, &story, &outcome, options.full), outcome.alarm.is_some()))
}

/// Returns the story as text: what was drawn, what happened, and which promise broke.
pub(super) fn tell(schedule: &Schedule, story: &Story, outcome: &Outcome, full: bool) -> String {
    let mut text = format!("{} seed {}\n", schedule.scenario, schedule.seed);
    for line in plan_words(schedule) {
        let _infallible = writeln!(text, "  {line}");
    }
    text.push('\n');
    let named = outcome.alarm.as_ref().map(|alarm| evidence(story, alarm)).unwrap_or_default();
    let told: Vec<usize> = (0..story.moments.len())
        .filter(|at| full || story.moments[*at].class() != Class::Detail || named.contains(at))
        .collect();
    let from = if full { 0 } else { told.len().saturating_sub(LAST) };
    if from > 0 {
        let _infallible =
            writeln!(text, "  ... {} moments before (--full tells all)", thousands(from as u64));
    }
    for at in &told[from..] {
        let mark = if named.contains(at) { '>' } else { ' ' };
        let _infallible = writeln!(text, "{mark} {}", story.line(&story.moments[*at]));
    }
    let _infallible = write!(
        text,
        "\n{} events, {} s, trace {:016x}\n",
        thousands(outcome.events),
        seconds(outcome.time),
        outcome.trace_hash
    );
    let Some(alarm) = &outcome.alarm else {
        text.push_str("no promise was broken");
        return text;
    };
    let _infallible = write!(
        text,
        "\n{} is broken at step {}: {}\n  {}\n",
        alarm.checker,
        alarm.step,
        alarm.promise,
        story.with_names(&alarm.message)
    );
    if !named.is_empty() {
        text.push_str("These contradict each other:\n");
        for at in named {
            let _infallible = writeln!(text, "> {}", story.line(&story.moments[at]));
        }
    }
    text.truncate(text.trim_end().len());
    text
}
