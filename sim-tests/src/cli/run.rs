//! `sim run`: a range of seeds, and what they amount to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use mainspring_core::io::Mark;

use super::options::Options;
use super::replay::replay_lines;
use super::say;
use crate::checkers::determinism::Determinism;
use crate::checkers::{Alarm, Checker as _};
use crate::history::Fact;
use crate::scenarios::{self, RunOptions, Scenario};
use crate::schedule::Profile;
use crate::trace::CHECKPOINT_EVENTS;
use crate::world::{FaultCounts, Outcome, SECOND};

/// Fewer seeds than this may miss anything by chance.
const FLOOR_SEEDS: u64 = 50;

/// One seed in so many is run twice in this process; the swarm of the test command compares processes.
const TWICE_EVERY: u64 = 16;

/// What all seeds of a run amount to.
#[derive(Default)]
struct Total {
    outcomes: u64,
    failed: BTreeMap<u64, String>,
    events: u64,
    time: u64,
    hash: u64,
    faults: FaultCounts,
    marks: BTreeMap<Mark, u64>,
    counts: BTreeMap<&'static str, u64>,
    evaluations: BTreeMap<&'static str, u64>,
}

impl Total {
    /// Takes in an outcome. The order of seeds does not matter to the hash.
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.outcomes += 1;
        self.events += outcome.events;
        self.time += outcome.time;
        let mixed = outcome.trace_hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = self.hash.wrapping_add(mixed.wrapping_mul(0xff51_afd7_ed55_8ccd));
        self.faults.merge(&outcome.faults);
        for (mark, count) in &outcome.marks {
            *self.marks.entry(*mark).or_insert(0) += count;
        }
        for (what, count) in &outcome.counts {
            *self.counts.entry(what).or_insert(0) += count;
        }
        for (checker, count) in &outcome.evaluations {
            *self.evaluations.entry(checker).or_insert(0) += count;
        }
        if let Some(alarm) = &outcome.alarm {
            self.failed.insert(seed, alarm.to_string());
        }
    }

    /// Says what did not happen often enough to be evidence.
    fn vacuous(&self, scenario: &Scenario) -> Vec<String> {
        let mut missing = Vec::new();
        if self.outcomes < FLOOR_SEEDS {
            return missing;
        }
        for (what, floor) in scenario.floors {
            let mark = || self.marks.iter().find(|(mark, _)| format!("{mark:?}") == *what);
            let counted = self.counts.get(what).or_else(|| mark().map(|(_, count)| count));
            let counted = counted.copied().unwrap_or_else(|| self.faults.of(what));
            let wanted = floor * self.outcomes / 100;
            if counted < wanted {
                missing.push(format!("{what}: {counted} of {wanted}"));
            }
        }
        for checker in scenario.armed {
            if self.evaluations.get(checker).copied().unwrap_or(0) == 0 {
                missing.push(format!("{checker} had nothing to look at"));
            }
        }
        missing
    }
}

/// Runs the seeds, on as many threads as asked for.
pub(super) fn run(options: &Options) -> i32 {
    let began = Instant::now();
    let mut total = Total::default();
    let next = AtomicU64::new(options.seeds.start);
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for _ in 0..options.jobs.max(1) {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.seeds.end {
                        return;
                    }
                    if send.send((seed, one(options, seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let terminal = std::io::stderr().is_terminal();
        for (seed, outcome) in receive {
            total.add(seed, &outcome);
            if terminal {
                let (done, all) = (total.outcomes, options.seeds.end - options.seeds.start);
                eprint!("\r{done} of {all} seeds, {} failed   \r", total.failed.len());
            }
            if let Some(alarm) = &outcome.alarm {
                eprintln!("seed {seed}: {alarm}");
                eprintln!("{}", replay_lines(options, seed, &outcome));
            }
        }
    });
    let chosen = options.mutant.is_some() || options.faults != Profile::All;
    let vacuous = if chosen || !total.failed.is_empty() {
        Vec::new()
    } else {
        total.vacuous(options.scenario)
    };
    for missing in &vacuous {
        eprintln!("vacuous: {missing}");
    }
    let wall = began.elapsed().as_secs_f64();
    if options.json {
        say(&json(options, &total, wall));
    } else {
        say(&table(options, &total, wall));
    }
    i32::from(!total.failed.is_empty() || !vacuous.is_empty())
}

/// Runs one seed; some of them twice, to see that it is the same run.
fn one(options: &Options, seed: u64) -> Outcome {
    let how = RunOptions { until: options.until, ..RunOptions::default() };
    let mut outcome = options.schedule_of(seed).run(&how);
    if outcome.alarm.is_none() && seed.is_multiple_of(TWICE_EVERY) {
        let again = options.schedule_of(seed).run(&how);
        let mut checker = Determinism::default();
        let fact = Fact::RanTwice { first: outcome.trace_hash, second: again.trace_hash };
        let verdict = checker.observe(outcome.time, &fact);
        *outcome.evaluations.entry(checker.id()).or_insert(0) += checker.evaluations();
        if let Err(message) = verdict {
            let same = outcome.checkpoints.iter().zip(&again.checkpoints);
            let same = same.take_while(|(one, two)| one == two).count() as u64;
            let message =
                format!("{message}; they are the same up to event {}", same * CHECKPOINT_EVENTS);
            let (step, at) = (outcome.events, outcome.time);
            let (id, promise) = (checker.id(), checker.promise());
            outcome.alarm = Some(Alarm { checker: id, promise, message, step, at });
        }
    }
    outcome
}

fn table(options: &Options, total: &Total, wall: f64) -> String {
    let mut text = format!(
        "{}: {} seeds, {} failed, {} events, {} s simulated in {wall:.1} s, trace {:016x}\n",
        options.scenario.name,
        total.outcomes,
        total.failed.len(),
        total.events,
        total.time / SECOND,
        total.hash
    );
    let mut row = |title: &str, pairs: Vec<(String, u64)>| {
        let words: Vec<String> =
            pairs.into_iter().map(|(what, count)| format!("{what} {count}")).collect();
        let _infallible = writeln!(text, "{title:<8} {}", words.join(", "));
    };
    let owned = |map: &BTreeMap<&'static str, u64>| {
        map.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
    };
    row("counts", owned(&total.counts));
    row("faults", owned(&total.faults.0));
    row("checks", owned(&total.evaluations));
    row("marks", total.marks.iter().map(|(mark, count)| (format!("{mark:?}"), *count)).collect());
    text.trim_end().to_owned()
}

fn json(options: &Options, total: &Total, wall: f64) -> String {
    let object = |map: &BTreeMap<&'static str, u64>| {
        let fields: Vec<String> =
            map.iter().map(|(name, count)| format!("\"{name}\":{count}")).collect();
        format!("{{{}}}", fields.join(","))
    };
    let failed: Vec<String> = total
        .failed
        .iter()
        .map(|(seed, alarm)| {
            let checker = alarm.split(' ').next().unwrap_or_default();
            format!("{{\"seed\":{seed},\"checker\":\"{checker}\",\"message\":{alarm:?}}}")
        })
        .collect();
    let missed: Vec<String> = scenarios::MARKS
        .iter()
        .filter(|mark| !total.marks.contains_key(mark))
        .map(|mark| format!("\"{mark:?}\""))
        .collect();
    format!(
        "{{\"scenario\":\"{}\",\"seeds\":{},\"failed\":[{}],\"events\":{},\"sim_seconds\":{},\
         \"wall_seconds\":{wall:.3},\"trace_hash\":\"{:016x}\",\"counts\":{},\"faults\":{},\
         \"checks\":{},\"marks\":{{\"hit\":{},\"missed\":[{}]}}}}",
        options.scenario.name,
        total.outcomes,
        failed.join(","),
        total.events,
        total.time / SECOND,
        total.hash,
        object(&total.counts),
        object(&total.faults.0),
        object(&total.evaluations),
        total.marks.len(),
        missed.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_its_floor_is_vacuous() {
        let total = Total { outcomes: 100, ..Total::default() };
        let scenario = scenarios::find("crash-points").expect("a scenario");
        assert!(!total.vacuous(scenario).is_empty());
    }
}
