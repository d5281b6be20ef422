//! `cargo sim`: the network code under the deterministic runtime.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::{cargo, root};

/// What `cargo sim` was asked for.
struct Wanted {
    seed: u64,
    seeds: u64,
    check: bool,
    test: Option<String>,
}

/// Builds the tests with the runtime swapped, then runs each of them over the seeds.
///
/// The flag travels in `CARGO_ENCODED_RUSTFLAGS`, because a flag in an alias is dropped in silence
/// where the environment holds `RUSTFLAGS`; the build has a target directory of its own, so that it
/// and the ordinary build do not undo each other.
pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let wanted = match read(arguments) {
        Ok(wanted) => wanted,
        Err(message) => {
            println!("cargo sim: {message}");
            return ExitCode::from(2);
        }
    };
    let Some(binary) = build() else {
        println!("0 passed, 1 failed");
        return ExitCode::FAILURE;
    };
    let (mut passed, mut failed) = (0, 0);
    for name in tests(&binary) {
        if wanted.test.as_ref().is_some_and(|part| !name.contains(part.as_str())) {
            continue;
        }
        let start = Instant::now();
        let outcome = if wanted.check {
            twice(&binary, &name, &wanted)
        } else {
            once(&binary, &name, &wanted)
        };
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(seeds) => {
                passed += 1;
                println!("{name}: {seeds} seeds from {} in {seconds:.1} s", wanted.seed);
            }
            Err((seed, said)) => {
                failed += 1;
                println!("{said}");
                let check = if wanted.check { " --check" } else { "" };
                println!("{name} fails\nreplay: cargo sim --test {name} --seed {seed}{check}");
            }
        }
    }
    if passed + failed == 0 {
        println!("no test was run: nothing is shown by that");
        failed += 1;
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How lines begin that a run prints: the hash of its trace, and a count of a state.
const TRACE: &str = "trace of seed ";
const REACHED: &str = "reached in seed ";
/// Seeds over which every state that a test is about must have been reached.
const MANY: u64 = 50;

/// What the runs of a test came to.
#[derive(Default)]
struct Told {
    /// The hash of the trace of each, by its seed.
    traces: Vec<(u64, String)>,
    /// How often the states were reached that the test is about.
    reached: BTreeMap<String, u64>,
}

impl Told {
    /// Reads what the runs have printed.
    fn read(out: &str) -> Self {
        let mut told = Self::default();
        for line in out.lines() {
            // The first line of a run stands behind the name of the test.
            let line = line.rsplit_once("... ").map_or(line, |(_, rest)| rest);
            let Some((what, value)) = line.split_once(": ") else { continue };
            if let Some(Ok(seed)) = what.strip_prefix(TRACE).map(str::parse) {
                told.traces.push((seed, value.to_owned()));
            } else if what.starts_with(REACHED)
                && let Some((count, state)) = value.split_once(' ')
            {
                *told.reached.entry(state.to_owned()).or_default() += count.parse().unwrap_or(0);
            }
        }
        told
    }

    /// Checks that each seed has come to its end, once, and that many of them have reached all that the
    /// test is about.
    fn is_enough(&self, first: u64, seeds: u64) -> Result<(), String> {
        let mut ended: Vec<u64> = self.traces.iter().map(|(seed, _)| *seed).collect();
        ended.sort_unstable();
        if !ended.iter().copied().eq(first..first + seeds) {
            return Err(format!(
                "{seeds} seeds were asked for, and {} came to an end",
                ended.len()
            ));
        }
        let none = self.reached.iter().filter(|(_, count)| **count == 0);
        let none: Vec<&str> = none.map(|(state, _)| state.as_str()).collect();
        if seeds >= MANY && !none.is_empty() {
            return Err(format!("vacuous: there were no {}", none.join(", no ")));
        }
        Ok(())
    }

    /// Checks that these are so many equal traces of one seed.
    fn is_one(&self, seed: u64, runs: usize) -> Result<(), String> {
        let is_same = |trace: &(u64, String)| *trace == self.traces[0] && trace.0 == seed;
        if self.traces.len() != runs || !self.traces.iter().all(is_same) {
            return Err(format!("{runs} runs of one seed differ: {:?}", self.traces));
        }
        Ok(())
    }
}

/// A seed that failed, and what was said of it.
type Failure = (u64, String);

/// Runs a test over all seeds in one process. Every seed must have come to its end.
fn once(binary: &str, name: &str, wanted: &Wanted) -> Result<u64, Failure> {
    let mut test = process(binary, name, wanted.seed);
    test.env("MADSIM_TEST_NUM", wanted.seeds.to_string()).env("MADSIM_TEST_JOBS", "2");
    let told = told(test, wanted.seed)?;
    told.is_enough(wanted.seed, wanted.seeds).map_err(|said| (wanted.seed, said))?;
    for (state, count) in &told.reached {
        println!("{count:>9} {state}");
    }
    Ok(wanted.seeds)
}

/// Runs a test over all seeds, each three times in two processes, which must have equal traces.
///
/// The runtime looks at one seed in a process when it compares what two runs draw by chance.
fn twice(binary: &str, name: &str, wanted: &Wanted) -> Result<u64, Failure> {
    for seed in wanted.seed..wanted.seed + wanted.seeds {
        let mut compared = process(binary, name, seed);
        compared.env("MADSIM_TEST_CHECK_DETERMINISM", "1");
        let mut all = told(compared, seed)?;
        all.traces.extend(told(process(binary, name, seed), seed)?.traces);
        all.is_one(seed, 3).map_err(|said| (seed, said))?;
    }
    Ok(wanted.seeds)
}

fn process(binary: &str, name: &str, seed: u64) -> Command {
    let mut test = Command::new(binary);
    test.current_dir(root().join("sim-tests"))
        .args(["--exact", name, "--nocapture"])
        .env("MADSIM_TEST_SEED", seed.to_string())
        .env("MADSIM_TEST_TIME_LIMIT", "1200")
        .stdin(Stdio::null());
    test
}

/// Runs a process to its end, and returns what its runs have told.
fn told(mut test: Command, first: u64) -> Result<Told, Failure> {
    let output = test.output().map_err(|error| (first, error.to_string()))?;
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // The runtime names the seed; without it the first one is as good as any.
        let seed = err.split("MADSIM_TEST_SEED=").nth(1);
        let digits = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
        let is_of_others = |line: &&str| line.contains(TRACE) || line.contains(REACHED);
        let out: Vec<&str> = out.lines().filter(|line| !is_of_others(line)).collect();
        return Err((seed.and_then(digits).unwrap_or(first), format!("{}\n{err}", out.join("\n"))));
    }
    Ok(Told::read(&out))
}

fn read(arguments: &[&str]) -> Result<Wanted, String> {
    let mut wanted = Wanted { seed: 1, seeds: 1, check: false, test: None };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value"));
        let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
        match *argument {
            "--seed" => wanted.seed = number(value()?)?,
            "--seeds" => wanted.seeds = number(value()?)?,
            "--test" => wanted.test = Some((*value()?).to_owned()),
            "--check" => wanted.check = true,
            other => return Err(format!("there is no option {other}")),
        }
    }
    if wanted.seeds == 0 {
        return Err("at least one seed is needed".to_owned());
    }
    Ok(wanted)
}

/// Builds the tests and returns the path of their binary.
fn build() -> Option<String> {
    let mut build =
        cargo(&["test", "--profile", "sim", "-p", "mainspring-sim", "--test", "madsim"]);
    let output = build
        .args(["--no-run", "--color", "never"])
        .env("CARGO_TARGET_DIR", root().join("target/sim"))
        .env("MAINSPRING_SIM", "1")
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg\u{1f}madsim")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        println!("{text}");
        return None;
    }
    let line = text.lines().find(|line| line.trim_start().starts_with("Executable"))?;
    let path = line.rsplit_once('(')?.1.strip_suffix(')')?;
    Some(root().join(path).to_string_lossy().into_owned())
}

/// Lists the tests of the binary.
fn tests(binary: &str) -> Vec<String> {
    let output = Command::new(binary).arg("--list").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| line.strip_suffix(": test").map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What 60 runs print, without the end of some.
    fn printed(lacks: &[u64], count: u64) -> String {
        let runs = (7..67).filter(|seed| !lacks.contains(seed)).map(|seed| {
            format!(
                "trace of seed {seed}: 00ff over 3 facts\n\
                 reached in seed {seed}: {count} peers cut off\n"
            )
        });
        format!("running 1 test\ntest rooms::a_claim ... {}", runs.collect::<String>())
    }

    #[test]
    fn every_seed_that_was_asked_for_must_come_to_its_end() {
        assert_eq!(Told::read(&printed(&[], 2)).is_enough(7, 60), Ok(()));
        assert!(Told::read(&printed(&[30], 2)).is_enough(7, 60).is_err());
        assert!(Told::read(&printed(&[], 2)).is_enough(8, 60).is_err());
        assert!(Told::read("running 0 tests\n").is_enough(7, 60).is_err());
    }

    #[test]
    fn many_seeds_that_never_reach_a_state_are_vacuous() {
        let told = Told::read(&printed(&[], 0)).is_enough(7, 60);
        assert_eq!(told, Err("vacuous: there were no peers cut off".to_owned()));
        assert_eq!(Told::read(&printed(&[], 2)).reached["peers cut off"], 120);
    }

    #[test]
    fn runs_of_one_seed_must_be_as_many_as_asked_for_and_equal() {
        let read = |hashes: &[&str]| {
            let line = |hash: &&str| format!("trace of seed 7: {hash}\n");
            Told::read(&hashes.iter().map(line).collect::<String>())
        };
        assert_eq!(read(&["a", "a", "a"]).is_one(7, 3), Ok(()));
        assert!(read(&["a", "a", "b"]).is_one(7, 3).is_err());
        assert!(read(&["a", "a"]).is_one(7, 3).is_err());
        assert!(read(&[]).is_one(7, 3).is_err());
        assert!(read(&["a", "a", "a"]).is_one(8, 3).is_err());
    }
}
