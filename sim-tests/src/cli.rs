//! The command line of the simulator: `list`, `run` and `replay`.
//!
//! Exit codes are those of every command of Mainspring: 0 done, 1 failed, 2 wrong use, 3 not
//! found.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use mainspring_core::io::Mark;

use crate::process;
use crate::scenarios::{self, RunOptions, Scenario};
use crate::world::{FaultCounts, Outcome, SECOND};

const USAGE: &str = "usage: mainspring sim list [-o table|json]
       mainspring sim run SCENARIO [--seeds A..B] [--nodes N] [--mutant ID] [--jobs J] [--json]
       mainspring sim replay SCENARIO --seed N [--until STEP] [--mutant ID]";

/// Seeds of a run that names none.
const DEFAULT_SEEDS: Range<u64> = 1..101;

/// Fewer seeds than this may miss anything by chance.
const FLOOR_SEEDS: u64 = 50;

/// Runs a command. `args` are the words behind `mainspring sim`.
///
/// Returns the exit code.
pub fn main(args: Vec<String>) -> i32 {
    process::keep_panics_quiet();
    let mut args = args.into_iter();
    match args.next().as_deref() {
        Some("list") => {
            list_as(&args.collect::<Vec<String>>()).map_or_else(|what| wrong(&what), list)
        }
        Some("run") => with_options(args.collect(), run),
        Some("replay") => with_options(args.collect(), replay),
        Some("--help" | "-h" | "help") => {
            say(USAGE);
            0
        }
        _ => wrong("say list, run or replay"),
    }
}

#[expect(clippy::print_stdout, reason = "what a command answers goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}

fn wrong(what: &str) -> i32 {
    eprintln!("mainspring sim: {what}\n{USAGE}");
    2
}

/// Reads whether a list is wanted as JSON.
fn list_as(args: &[String]) -> Result<bool, String> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["-o" | "--output", "table"] => Ok(false),
        ["-o" | "--output", "json"] => Ok(true),
        _ => Err(format!("list takes -o table or -o json, not {:?}", words.join(" "))),
    }
}

fn list(json: bool) -> i32 {
    for scenario in scenarios::ALL {
        if json {
            say(&format!(
                "{{\"scenario\":\"{}\",\"about\":\"{}\"}}",
                scenario.name, scenario.about
            ));
        } else {
            say(&format!("{:<14} {}", scenario.name, scenario.about));
        }
    }
    0
}

/// What the flags say.
#[derive(Debug)]
struct Options {
    scenario: &'static Scenario,
    seeds: Range<u64>,
    nodes: Option<usize>,
    until: Option<u64>,
    mutant: Option<String>,
    jobs: usize,
    json: bool,
}

fn with_options(args: Vec<String>, then: fn(&Options) -> i32) -> i32 {
    match parse(args) {
        Ok(options) => match set_mutant(options.mutant.as_deref()) {
            Ok(()) => then(&options),
            Err(what) => wrong(&what),
        },
        Err((code, what)) if code == 3 => {
            eprintln!("mainspring sim: {what}");
            code
        }
        Err((_, what)) => wrong(&what),
    }
}

fn parse(args: Vec<String>) -> Result<Options, (i32, String)> {
    let mut args = args.into_iter();
    let name = args.next().ok_or_else(|| (2, "a scenario is missing".to_owned()))?;
    let scenario = scenarios::find(&name).ok_or_else(|| {
        let known: Vec<&str> = scenarios::ALL.iter().map(|scenario| scenario.name).collect();
        (3, format!("there is no scenario {name:?}; there are {}", known.join(", ")))
    })?;
    let mut options = Options {
        scenario,
        seeds: DEFAULT_SEEDS,
        nodes: None,
        until: None,
        mutant: None,
        jobs: 1,
        json: false,
    };
    while let Some(flag) = args.next() {
        if flag == "--json" {
            options.json = true;
            continue;
        }
        let value = args.next().ok_or_else(|| (2, format!("{flag} needs a value")))?;
        let bad = || (2, format!("{flag} does not take {value:?}"));
        match flag.as_str() {
            "--seeds" => options.seeds = parse_seeds(&value).ok_or_else(bad)?,
            "--seed" => {
                let seed: u64 = value.parse().map_err(|_| bad())?;
                options.seeds = seed..seed.checked_add(1).ok_or_else(bad)?;
            }
            "--nodes" => options.nodes = Some(value.parse().map_err(|_| bad())?),
            "--until" => options.until = Some(value.parse().map_err(|_| bad())?),
            "--jobs" => options.jobs = value.parse().map_err(|_| bad())?,
            "--mutant" => options.mutant = Some(value),
            _ => return Err((2, format!("there is no flag {flag}"))),
        }
    }
    if options.nodes.is_some_and(|nodes| nodes != 1) {
        return Err((2, "only --nodes 1 runs: there is no cluster to simulate".to_owned()));
    }
    Ok(options)
}

/// Reads `A..B` (without B) or one seed.
fn parse_seeds(text: &str) -> Option<Range<u64>> {
    if let Some((from, to)) = text.split_once("..") {
        let range = from.parse().ok()?..to.parse().ok()?;
        return (!range.is_empty()).then_some(range);
    }
    let seed: u64 = text.parse().ok()?;
    Some(seed..seed.checked_add(1)?)
}

/// Plants the bug of that name, in a build that has them.
fn set_mutant(id: Option<&str>) -> Result<(), String> {
    let Some(id) = id else { return Ok(()) };
    plant(id)
}

#[cfg(mutants)]
fn plant(id: &str) -> Result<(), String> {
    let number = match id {
        "null" => 0,
        "canary" => 9_999,
        _ => id
            .strip_prefix('P')
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| format!("there is no mutant {id:?}"))?,
    };
    mainspring_core::ACTIVE.store(number, Ordering::Relaxed);
    Ok(())
}

#[cfg(not(mutants))]
fn plant(id: &str) -> Result<(), String> {
    Err(format!("this build has no mutant {id:?}: `cargo xtask mutants` makes one that has"))
}

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
            let counted = self.counts.get(what).copied().unwrap_or_else(|| self.faults.of(what));
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

fn run(options: &Options) -> i32 {
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
                    let run = RunOptions {
                        seed,
                        nodes: options.nodes,
                        until: options.until,
                        keep_lines: false,
                    };
                    if send.send((seed, (options.scenario.run)(run))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (seed, outcome) in receive {
            total.add(seed, &outcome);
            if let Some(alarm) = &outcome.alarm {
                eprintln!("seed {seed}: {alarm}");
                eprintln!("{}", replay_line(options, seed, &outcome));
            }
        }
    });
    let vacuous = if options.mutant.is_some() || !total.failed.is_empty() {
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

fn replay_line(options: &Options, seed: u64, outcome: &Outcome) -> String {
    let mutant = options.mutant.as_ref().map_or_else(String::new, |id| format!(" --mutant {id}"));
    let alarm = outcome.alarm.as_ref().map_or_else(String::new, |alarm| {
        let step = alarm.step;
        format!("   # {} at step {step} (--until {step})", alarm.checker)
    });
    format!("replay: mainspring sim replay {} --seed {seed}{mutant}{alarm}", options.scenario.name)
}

fn replay(options: &Options) -> i32 {
    if options.seeds.end - options.seeds.start != 1 {
        return wrong("replay needs --seed N");
    }
    let seed = options.seeds.start;
    let outcome = (options.scenario.run)(RunOptions {
        seed,
        nodes: options.nodes,
        until: options.until,
        keep_lines: true,
    });
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

    fn args(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn seeds_are_a_range_without_its_end_or_one_seed() {
        assert_eq!(parse_seeds("3..7"), Some(3..7));
        assert_eq!(parse_seeds("3"), Some(3..4));
        assert_eq!(parse_seeds("7..3"), None);
        assert_eq!(parse_seeds("x"), None);
    }

    #[test]
    fn a_list_is_a_table_unless_json_is_asked_for() {
        assert_eq!(list_as(&[]), Ok(false));
        assert_eq!(list_as(&args("-o table")), Ok(false));
        assert_eq!(list_as(&args("--output json")), Ok(true));
        for wrong in ["-o", "-o yaml", "json", "-o json more"] {
            assert!(list_as(&args(wrong)).is_err(), "{wrong}");
            assert_eq!(main(args(&format!("list {wrong}"))), 2);
        }
    }

    #[test]
    fn wrong_use_and_unknown_scenarios_have_their_codes() {
        assert_eq!(main(args("fly")), 2);
        assert_eq!(main(args("run nowhere")), 3);
        assert_eq!(main(args("run crash-points --seeds")), 2);
        assert_eq!(main(args("run crash-points --nodes 3")), 2);
        assert_eq!(main(args("replay crash-points --seeds 1..3")), 2);
    }

    #[test]
    fn a_run_without_its_floor_is_vacuous() {
        let total = Total { outcomes: 100, ..Total::default() };
        let scenario = scenarios::find("crash-points").expect("a scenario");
        assert!(!total.vacuous(scenario).is_empty());
    }
}
