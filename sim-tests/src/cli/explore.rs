//! `explore`: every state of small worlds, counted.

use std::fmt::Write as _;
use std::time::Instant;

use super::options::set_mutant;
use super::{NOT_FOUND, say, wrong};
use crate::exhaustive::search::{Bounds, Report};
use crate::exhaustive::{self, Exploration};

/// Bounds of a search that names none. States that are still to be looked at stay in memory, some tens of
/// kilobytes each.
const DEFAULT: Bounds = Bounds { states: 100_000, depth: u32::MAX };

/// Explores the models that are named, or all of them, and returns the exit code.
pub(super) fn explore(args: Vec<String>) -> i32 {
    match parse(args) {
        Ok((models, bounds, json)) => {
            let mut failed = false;
            for model in models {
                let began = Instant::now();
                let report = (model.explore)(bounds);
                let wall = began.elapsed().as_secs_f64();
                say(&if json {
                    as_json(model, &report, wall)
                } else {
                    as_text(model, &report, wall)
                });
                failed |= report.broken.is_some();
            }
            i32::from(failed)
        }
        Err((NOT_FOUND, what)) => {
            eprintln!("mainspring sim: {what}");
            NOT_FOUND
        }
        Err((_, what)) => wrong(&what),
    }
}

type Wanted = (Vec<&'static Exploration>, Bounds, bool);

fn parse(args: Vec<String>) -> Result<Wanted, (i32, String)> {
    let (mut models, mut bounds, mut json) = (Vec::new(), DEFAULT, false);
    let mut args = args.into_iter();
    while let Some(word) = args.next() {
        if word == "--json" {
            json = true;
            continue;
        }
        if !word.starts_with('-') {
            models.push(exhaustive::find(&word).ok_or_else(|| {
                let known: Vec<&str> = exhaustive::ALL.iter().map(|model| model.name).collect();
                (NOT_FOUND, format!("there is no model {word:?}; there are {}", known.join(", ")))
            })?);
            continue;
        }
        let value = args.next().ok_or_else(|| (2, format!("{word} needs a value")))?;
        let bad = |_| (2, format!("{word} does not take {value:?}"));
        match word.as_str() {
            "--states" => bounds.states = value.parse().map_err(bad)?,
            "--depth" => bounds.depth = value.parse().map_err(bad)?,
            "--mutant" => set_mutant(Some(&value)).map_err(|what| (2, what))?,
            _ => return Err((2, format!("there is no flag {word}"))),
        }
    }
    if models.is_empty() {
        models.extend(exhaustive::ALL);
    }
    Ok((models, bounds, json))
}

fn as_text(model: &Exploration, report: &Report, wall: f64) -> String {
    let mut text = format!(
        "{}: {} states, {} transitions, depth {}, {} terminal, {} in {wall:.1} s\ncounts   ",
        model.name,
        report.states,
        report.transitions,
        report.depth,
        report.terminal,
        if report.closed { "closed" } else { "not closed" },
    );
    let counts: Vec<String> =
        report.counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    text.push_str(&counts.join(", "));
    if let Some((broken, way)) = &report.broken {
        for (at, step) in way.iter().enumerate() {
            let _infallible = write!(text, "\n{:>4}  {step}", at + 1);
        }
        let _infallible = write!(text, "\n{} {}", broken.promise, broken.message);
    }
    text
}

fn as_json(model: &Exploration, report: &Report, wall: f64) -> String {
    let counts: Vec<String> =
        report.counts.iter().map(|(what, count)| format!("\"{what}\":{count}")).collect();
    let broken = report.broken.as_ref().map_or_else(
        || "null".to_owned(),
        |(broken, way)| {
            let (promise, message) = (broken.promise, &broken.message);
            format!("{{\"checker\":\"{promise}\",\"message\":{message:?},\"steps\":{}}}", way.len())
        },
    );
    format!(
        "{{\"model\":\"{}\",\"states\":{},\"transitions\":{},\"depth\":{},\"terminal\":{},\
         \"closed\":{},\"wall_seconds\":{wall:.3},\"counts\":{{{}}},\"broken\":{broken}}}",
        model.name,
        report.states,
        report.transitions,
        report.depth,
        report.terminal,
        report.closed,
        counts.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn models_and_bounds_are_read_in_any_order() {
        let (models, bounds, json) = parse(args("--states 7 log --json --depth 3")).expect("good");
        assert_eq!((models.len(), models[0].name), (1, "log"));
        assert_eq!((bounds.states, bounds.depth, json), (7, 3, true));
        assert_eq!(parse(args("")).expect("good").0.len(), exhaustive::ALL.len());
    }

    #[test]
    fn wrong_use_and_unknown_models_have_their_codes() {
        for (words, code) in [("nowhere", 3), ("--states", 2), ("--states x", 2), ("--fly 1", 2)] {
            assert_eq!(parse(args(words)).expect_err("bad").0, code, "{words}");
        }
    }
}
