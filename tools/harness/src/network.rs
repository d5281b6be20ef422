//! Runs the simulations of the network code over ranges of seeds, for the planted bugs of the network.
//!
//! They are the tests that `cargo sim` runs: an ordinary build of them, and one of the edited copy.
//! Whatever fails a test at a seed that it names counts: an assertion, a task left behind, a run in which
//! everything waits for ever. A process that hangs counts as nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::broker::root;
use crate::checks::{Outcome, ensure};
use crate::simulator::bounded;

/// Where the edited copy takes its mutant from.
pub(crate) const FILE: &str = "sim-tests/tests/madsim/run.rs";
/// The line behind which it does so.
pub(crate) const ANCHOR: &str = "pub(crate) async fn run(test: impl Future<Output = ()>) {\n";
/// What it does there.
pub(crate) const SWITCH: &str = r#"    if let Some(number) = std::env::var("MAINSPRING_MUTANT").ok().and_then(|n| n.parse().ok()) {
        mainspring_core::ACTIVE.store(number, std::sync::atomic::Ordering::Relaxed);
    }
"#;

/// Seeds of one run.
const RANGE: u64 = 10;
/// How long a run may take before it counts as hung.
const LIMIT: Duration = Duration::from_mins(2);

/// The tests as the ordinary build and the edited one have them.
pub(crate) struct NetworkTests {
    ordinary: PathBuf,
    edited: PathBuf,
    names: Vec<String>,
}

/// A test that found a mutant, and at which seed.
pub(crate) struct Found {
    pub(crate) test: String,
    pub(crate) seed: u64,
    /// What it said first.
    pub(crate) said: String,
}

impl NetworkTests {
    /// Builds both. What they take from others is built once, and copied.
    pub(crate) fn build(tree: &Path) -> Outcome<Self> {
        let shared = root().join("target/sim");
        let own = root().join("target/mutants/sim");
        let ordinary = executable(&root(), &shared)?;
        if !own.is_dir() {
            copy_dependencies(&shared.join("sim"), &own.join("sim"))?;
        }
        let edited = executable(tree, &own)?;
        let output = Command::new(&ordinary).arg("--list").output();
        let output = output.map_err(|error| error.to_string())?;
        let names: Vec<String> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.strip_suffix(": test").map(str::to_owned))
            .collect();
        ensure(!names.is_empty(), || "there are no simulations of the network code".to_owned())?;
        Ok(Self { ordinary, edited, names })
    }

    /// Checks that the edited tests without a mutant have the traces of the ordinary ones.
    pub(crate) fn null(&self, first: u64) -> Outcome<String> {
        for name in &self.names {
            let (one, two) =
                (run(&self.ordinary, name, first, 2, 0)?, run(&self.edited, name, first, 2, 0)?);
            ensure(one.failed.is_none() && one.traces.len() == 2, || {
                format!("{name}: {}", one.said)
            })?;
            ensure(one.traces == two.traces, || {
                format!("{name} from seed {first}: {:?} and {:?}", one.traces, two.traces)
            })?;
        }
        Ok(format!("{} tests", self.names.len()))
    }

    /// Looks for a test and a seed at which a mutant fails and the ordinary build passes.
    pub(crate) fn find(&self, number: u32, first: u64, budget: Duration) -> Option<Found> {
        let start = Instant::now();
        let mut next = first;
        while start.elapsed() < budget {
            for name in &self.names {
                let Ok(edited) = run(&self.edited, name, next, RANGE, number) else { continue };
                if let Some(seed) = edited.failed
                    && run(&self.ordinary, name, seed, 1, 0).is_ok_and(|run| run.failed.is_none())
                {
                    return Some(Found { test: name.clone(), seed, said: edited.said });
                }
            }
            next += RANGE;
        }
        None
    }
}

/// What a range of seeds came to.
struct Run {
    /// The first seed that failed.
    failed: Option<u64>,
    /// The traces of those that came to their end, by seed.
    traces: Vec<String>,
    said: String,
}

fn run(test: &Path, name: &str, first: u64, seeds: u64, number: u32) -> Outcome<Run> {
    let mut command = Command::new(test);
    command
        .current_dir(root().join("sim-tests"))
        .args(["--exact", name, "--nocapture"])
        .env("MADSIM_TEST_SEED", first.to_string())
        .env("MADSIM_TEST_NUM", seeds.to_string())
        .env("MADSIM_TEST_JOBS", "1")
        .env("MADSIM_TEST_TIME_LIMIT", "1200")
        .env("MAINSPRING_MUTANT", number.to_string());
    let (status, out, err) = bounded(command, LIMIT, &format!("{name} from seed {first}"))?;
    let mut traces: Vec<String> = out
        .lines()
        .filter_map(|line| Some(line.split_once("trace of seed ")?.1.to_owned()))
        .collect();
    traces.sort_unstable();
    let named = err.split("MADSIM_TEST_SEED=").nth(1);
    let named = named.and_then(|rest| rest.split('`').next()?.split(' ').next()?.parse().ok());
    let failed = if status.success() { None } else { named };
    ensure(status.success() || failed.is_some(), || format!("{name}: {err}"))?;
    Ok(Run { failed, traces, said: first_words(&err) })
}

/// Returns what the first panic said.
fn first_words(said: &str) -> String {
    let mut lines = said.lines().skip_while(|line| !line.contains(" panicked at "));
    let words = lines.nth(1).unwrap_or_default().trim();
    words.chars().take(80).collect()
}

/// Copies what cargo has built of other packages, with its times. Our own are named alike in both trees,
/// so they may not share a directory.
fn copy_dependencies(from: &Path, to: &Path) -> Outcome {
    let text = |error: std::io::Error| error.to_string();
    std::fs::create_dir_all(to).map_err(text)?;
    for part in [".fingerprint", "build", "deps"] {
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(from.join(part)).arg(to);
        let copied = copy.status().map_err(text)?;
        ensure(copied.success(), || format!("cannot copy {part} of {}", from.display()))?;
        for entry in std::fs::read_dir(to.join(part)).map_err(text)? {
            let entry = entry.map_err(text)?;
            if !entry.file_name().to_string_lossy().contains("mainspring") {
                continue;
            }
            let is_folder = entry.file_type().map_err(text)?.is_dir();
            let remove = if is_folder { std::fs::remove_dir_all } else { std::fs::remove_file };
            remove(entry.path()).map_err(text)?;
        }
    }
    Ok(())
}

/// Builds the tests of a tree and returns their path.
fn executable(tree: &Path, target: &Path) -> Outcome<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(tree)
        .args(["test", "-q", "--no-run", "--profile", "sim", "-p", "mainspring-sim"])
        .args(["--test", "madsim", "--message-format", "json"])
        .env("CARGO_TARGET_DIR", target)
        .env("MAINSPRING_SIM", "1")
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg\u{1f}madsim");
    let output = command.output().map_err(|error| error.to_string())?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "madsim")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo names no executable of the simulations".to_owned())
}
