//! Calls the simulator's small binary: the swarm of fresh seeds, and what the mutants need of it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broker::{root, wait};
use crate::checks::{Checks, Outcome, ensure};
use crate::random::Random;

/// A built simulator.
#[derive(Clone)]
pub(crate) struct Simulator {
    path: PathBuf,
    /// How many seeds run at a time.
    jobs: u32,
}

/// What a range of seeds came to.
pub(crate) struct Run {
    /// The summary, as the simulator's JSON.
    pub(crate) summary: Value,
    /// Seeds that failed, each with the checker that said so.
    pub(crate) failed: Vec<(u64, String)>,
    /// What it wrote for people: alarms and lines to replay them.
    pub(crate) said: String,
}

impl Simulator {
    /// The one of the ordinary build.
    pub(crate) fn ordinary() -> Self {
        Self::within(&root().join("target"))
    }

    /// The one in a target directory.
    pub(crate) fn within(target: &Path) -> Self {
        Self { path: target.join("world/mainspring-sim"), jobs: 2 }
    }

    /// The same, which runs one seed at a time.
    pub(crate) fn one_by_one(&self) -> Self {
        Self { path: self.path.clone(), jobs: 1 }
    }

    /// Returns the names of its scenarios.
    pub(crate) fn scenarios(&self) -> Outcome<Vec<String>> {
        let output = Command::new(&self.path).arg("list").output();
        let output = output.map_err(|error| format!("{}: {error}", self.path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let names: Vec<String> = text
            .lines()
            .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
            .collect();
        ensure(!names.is_empty(), || "the simulator has no scenarios".to_owned())?;
        Ok(names)
    }

    /// Runs the seeds from `from` on, with a mutant where one is named.
    pub(crate) fn run(
        &self,
        scenario: &str,
        from: u64,
        count: u64,
        mutant: Option<&str>,
    ) -> Outcome<Run> {
        let mut command = Command::new(&self.path);
        command.args(["run", scenario, "--json", "--jobs", &self.jobs.to_string(), "--seeds"]);
        command.arg(format!("{from}..{}", from + count));
        if let Some(mutant) = mutant {
            command.args(["--mutant", mutant]);
        }
        let range = format!("{scenario}, seeds {from}..{}", from + count);
        let (status, text, said) = bounded(command, limit(count), &range)?;
        let line = text.lines().next_back().unwrap_or_default();
        let summary: Value = serde_json::from_str(line)
            .map_err(|error| format!("{range}: no summary ({error}): {line:?} {said}"))?;
        let failed: Vec<(u64, String)> = summary["failed"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| Some((one["seed"].as_u64()?, one["checker"].as_str()?.to_owned())))
            .collect();
        if !status.success() && failed.is_empty() {
            return Err(format!("{range}: {said}"));
        }
        Ok(Run { summary, failed, said })
    }
}

/// Runs a command to its end, or to a bound that only a run that hangs can reach. Returns its
/// status, its standard output and its standard error.
pub(crate) fn bounded(
    mut command: Command,
    limit: Duration,
    what: &str,
) -> Outcome<(ExitStatus, String, String)> {
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        started.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let out = collect(child.stdout.take().expect("standard output was asked for"));
    let err = collect(child.stderr.take().expect("standard error was asked for"));
    let Some(status) = wait(&mut child, limit) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{what}: no end after {} s", limit.as_secs()));
    };
    Ok((status, out.join().unwrap_or_default(), err.join().unwrap_or_default()))
}

/// Returns how long so many seeds may take before they count as hung.
fn limit(seeds: u64) -> Duration {
    Duration::from_secs(60 + 5 * seeds)
}

/// Reads a pipe to its end on a thread of its own.
fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs every scenario over fresh seeds until the time is up, and each first seed in a second
/// process, whose trace must be the same.
pub(crate) fn swarm(checks: &mut Checks, seconds: u64) {
    let simulator = Simulator::ordinary();
    let scenarios = match simulator.scenarios() {
        Ok(scenarios) => scenarios,
        Err(problem) => return checks.note("the simulator", Err(problem)),
    };
    let share = Duration::from_secs(seconds) / scenarios.len() as u32;
    let mut random = Random::new(Random::fresh_seed());
    for scenario in &scenarios {
        let first = random.below(1 << 40);
        checks.note(&format!("{scenario} repeats itself in another process"), {
            repeats(&simulator, scenario, first)
        });
        checks.note(&format!("{scenario} over fresh seeds"), {
            over_seeds(&simulator, scenario, first, share)
        });
    }
}

fn repeats(simulator: &Simulator, scenario: &str, seed: u64) -> Outcome<String> {
    let hash = || -> Outcome<Value> {
        Ok(simulator.run(scenario, seed, 3, None)?.summary["trace_hash"].clone())
    };
    let (one, two) = (hash()?, hash()?);
    ensure(one == two && one.is_string(), || format!("seeds {seed}..: traces {one} and {two}"))?;
    Ok(String::new())
}

fn over_seeds(
    simulator: &Simulator,
    scenario: &str,
    first: u64,
    share: Duration,
) -> Outcome<String> {
    let start = Instant::now();
    let (mut seeds, mut events, mut simulated, mut next, mut count) = (0, 0, 0, first, 10);
    while start.elapsed() < share {
        let began = Instant::now();
        let run = simulator.run(scenario, next, count, None)?;
        ensure(run.failed.is_empty(), || run.said.clone())?;
        seeds += count;
        events += run.summary["events"].as_u64().unwrap_or(0);
        simulated += run.summary["sim_seconds"].as_u64().unwrap_or(0);
        next += count;
        // Chunks of a few seconds keep to the time, and tell more exactly which seeds hang.
        if began.elapsed() < Duration::from_secs(2) && count < 40 {
            count *= 2;
        }
    }
    Ok(format!("{seeds} seeds from {first}, {events} events, {simulated} s simulated"))
}
