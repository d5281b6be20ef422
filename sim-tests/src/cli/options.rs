//! The flags of `run`, `replay` and `shrink`.

use std::ops::Range;
use std::path::PathBuf;
#[cfg(mutants)]
use std::sync::atomic::Ordering;

use super::nearest::nearest;
use super::{NOT_FOUND, wrong};
use crate::scenarios::{self, Scenario};
use crate::schedule::{Profile, Schedule};

/// Seeds of a run that names none.
const DEFAULT_SEEDS: Range<u64> = 1..101;

/// Most bytes of a file that is read.
const FILE_MAX: u64 = 64 << 20;

/// A command with the flags that it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) flags: &'static [&'static str],
    pub(super) run: fn(&Options) -> i32,
}

/// What the flags say.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) scenario: &'static Scenario,
    pub(super) seeds: Range<u64>,
    /// One seed was asked for.
    pub(super) seed: Option<u64>,
    /// A schedule was handed in, from that file.
    pub(super) schedule: Option<(String, Schedule)>,
    pub(super) faults: Profile,
    pub(super) until: Option<u64>,
    pub(super) mutant: Option<String>,
    pub(super) jobs: usize,
    pub(super) json: bool,
    pub(super) full: bool,
    pub(super) html: Option<PathBuf>,
    pub(super) trace: Option<PathBuf>,
    pub(super) out: Option<PathBuf>,
}

impl Options {
    /// Returns the schedule of a seed.
    pub(super) fn schedule_of(&self, seed: u64) -> Schedule {
        let mut schedule = self.scenario.schedule(seed);
        self.faults.apply(&mut schedule.plan);
        schedule
    }

    /// Returns the one schedule that was asked for.
    ///
    /// # Errors
    /// Says what is missing where there is none.
    pub(super) fn one(&self, command: &str) -> Result<Schedule, String> {
        match (&self.schedule, self.seed) {
            (Some((_, schedule)), None) => Ok(schedule.clone()),
            (None, Some(seed)) => Ok(self.schedule_of(seed)),
            (Some(_), Some(_)) => Err(format!("{command} takes --seed or --schedule, not both")),
            (None, None) => Err(format!("{command} needs --seed N or --schedule FILE")),
        }
    }

    /// Returns the flags that belong to the run itself, as the lines to repeat it have them.
    pub(super) fn particulars(&self) -> String {
        let mut flags = String::new();
        if self.faults != Profile::All {
            flags.push_str(" --faults ");
            flags.push_str(self.faults.name());
        }
        if let Some(id) = &self.mutant {
            flags.push_str(" --mutant ");
            flags.push_str(id);
        }
        flags
    }
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The words make no sense.
    WrongUse(String),
    /// There is no such thing.
    NotFound(String),
}

/// Reads the flags, plants the bug that they name, and goes on.
pub(super) fn with_options(command: &Command, args: Vec<String>) -> i32 {
    let planted = parse(command, args).and_then(|options| {
        set_mutant(options.mutant.as_deref()).map_err(Refusal::WrongUse)?;
        Ok(options)
    });
    match planted {
        Ok(options) => (command.run)(&options),
        Err(Refusal::WrongUse(what)) => wrong(&what),
        Err(Refusal::NotFound(what)) => {
            eprintln!("mainspring sim: {what}");
            NOT_FOUND
        }
    }
}

fn parse(command: &Command, args: Vec<String>) -> Result<Options, Refusal> {
    let wrong = Refusal::WrongUse;
    let mut args = args.into_iter().peekable();
    let scenario = match args.next_if(|word| !word.starts_with('-')) {
        Some(name) => Some(find(&name)?),
        None => None,
    };
    let mut options = Options {
        scenario: scenario.unwrap_or(&scenarios::ALL[0]),
        seeds: DEFAULT_SEEDS,
        seed: None,
        schedule: None,
        faults: Profile::All,
        until: None,
        mutant: None,
        jobs: 1,
        json: false,
        full: false,
        html: None,
        trace: None,
        out: None,
    };
    while let Some(flag) = args.next() {
        if !command.flags.contains(&flag.as_str()) {
            let instead = nearest(&flag, command.flags.iter().copied());
            return Err(wrong(format!("{} does not take {flag}{instead}", command.name)));
        }
        match flag.as_str() {
            "--json" => options.json = true,
            "--full" => options.full = true,
            _ => {
                let value = args.next().filter(|value| !value.starts_with("--"));
                let value = value.ok_or_else(|| wrong(format!("{flag} needs a value")))?;
                set(&mut options, &flag, value)?;
            }
        }
    }
    if let Some((_, schedule)) = &options.schedule {
        let named = find(&schedule.scenario)?;
        if scenario.is_some_and(|scenario| scenario.name != named.name) {
            return Err(wrong(format!("the schedule is of {}", named.name)));
        }
        options.scenario = named;
    } else if scenario.is_none() {
        return Err(wrong(format!("{} needs a scenario; `list` names them", command.name)));
    }
    if !options.faults.apply(&mut (options.scenario.draw)(0)) {
        let name = options.scenario.name;
        return Err(wrong(format!("{name} is no world of clients, and --faults chooses nothing")));
    }
    Ok(options)
}

fn set(options: &mut Options, flag: &str, value: String) -> Result<(), Refusal> {
    let bad = || Refusal::WrongUse(format!("{flag} does not take {value:?}"));
    match flag {
        "--seeds" => options.seeds = parse_seeds(&value).ok_or_else(bad)?,
        "--seed" => {
            let seed: u64 = value.parse().map_err(|_| bad())?;
            options.seeds = seed..seed.checked_add(1).ok_or_else(bad)?;
            options.seed = Some(seed);
        }
        "--nodes" => {
            let nodes: usize = value.parse().map_err(|_| bad())?;
            if nodes != 1 {
                return Err(Refusal::WrongUse(
                    "only --nodes 1 runs: there is no cluster to simulate".to_owned(),
                ));
            }
        }
        "--faults" => {
            let names = Profile::ALL.iter().map(|(name, _)| *name);
            let known = Profile::ALL.iter().find(|(name, _)| *name == value);
            let Some((_, profile)) = known else {
                let all = names.clone().collect::<Vec<&str>>().join(", ");
                let instead = nearest(&value, names);
                return Err(Refusal::WrongUse(format!(
                    "--faults takes one of {all}, not {value:?}{instead}"
                )));
            };
            options.faults = *profile;
        }
        "--until" => options.until = Some(value.parse().map_err(|_| bad())?),
        "--jobs" => {
            options.jobs =
                value.parse().ok().filter(|jobs| (1..=1_000).contains(jobs)).ok_or_else(bad)?;
        }
        "--mutant" => options.mutant = Some(value),
        "--html" => options.html = Some(value.into()),
        "--trace" => options.trace = Some(value.into()),
        "--out" => options.out = Some(value.into()),
        "--schedule" => options.schedule = Some((value.clone(), read_schedule(&value)?)),
        _ => return Err(bad()),
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Scenario, Refusal> {
    scenarios::find(name).ok_or_else(|| {
        let names = scenarios::ALL.iter().map(|scenario| scenario.name);
        let known = names.clone().collect::<Vec<&str>>().join(", ");
        let instead = nearest(name, names);
        Refusal::NotFound(format!("there is no scenario {name:?}{instead}; there are {known}"))
    })
}

fn read_schedule(path: &str) -> Result<Schedule, Refusal> {
    let size = std::fs::metadata(path);
    let size = size.map_err(|error| Refusal::NotFound(format!("{path}: {error}")))?.len();
    if size > FILE_MAX {
        return Err(Refusal::WrongUse(format!("{path}: {size} bytes are no schedule")));
    }
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Refusal::WrongUse(format!("{path}: {error}")))?;
    Schedule::read(&text).map_err(|error| Refusal::WrongUse(format!("{path}: {error}")))
}

/// Reads `A..B` (without B) or one seed.
pub(super) fn parse_seeds(text: &str) -> Option<Range<u64>> {
    if let Some((from, to)) = text.split_once("..") {
        let range = from.parse().ok()?..to.parse().ok()?;
        return (!range.is_empty()).then_some(range);
    }
    let seed: u64 = text.parse().ok()?;
    Some(seed..seed.checked_add(1)?)
}

/// Plants the bug of that name, in a build that has them.
pub(super) fn set_mutant(id: Option<&str>) -> Result<(), String> {
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
