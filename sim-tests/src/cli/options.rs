//! The flags of `run` and `replay`.

use std::ops::Range;
#[cfg(mutants)]
use std::sync::atomic::Ordering;

use super::wrong;
use crate::scenarios::{self, Scenario};

/// Seeds of a run that names none.
const DEFAULT_SEEDS: Range<u64> = 1..101;

/// What the flags say.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) scenario: &'static Scenario,
    pub(super) seeds: Range<u64>,
    pub(super) nodes: Option<usize>,
    pub(super) until: Option<u64>,
    pub(super) mutant: Option<String>,
    pub(super) jobs: usize,
    pub(super) json: bool,
}

/// Reads the flags, plants the bug that they name, and goes on.
pub(super) fn with_options(args: Vec<String>, then: fn(&Options) -> i32) -> i32 {
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
pub(super) fn parse_seeds(text: &str) -> Option<Range<u64>> {
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
