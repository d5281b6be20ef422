//! Runs the simulator's recovery test over ranges of seeds, for the mutants.
//!
//! The test is many times faster than a scenario for each seed, so it reaches what seldom happens. Only
//! an assertion at a named seed counts: that a range is too short for the test's own floors does not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broker::root;
use crate::checks::{Outcome, ensure};
use crate::simulator::bounded;

/// Where the edited copy takes its mutant from.
pub(crate) const FILE: &str = "sim-tests/tests/recovery.rs";
/// The line behind which it does so.
pub(crate) const ANCHOR: &str = "fn what_was_stable_survives_every_crash() {\n";
/// What it does there.
pub(crate) const SWITCH: &str = r#"    if let Some(number) = std::env::var("MAINSPRING_MUTANT").ok().and_then(|n| n.parse().ok()) {
        mainspring_core::ACTIVE.store(number, std::sync::atomic::Ordering::Relaxed);
    }
"#;

/// Seeds of one run, enough for the test's floors.
const RANGE: u64 = 100;
/// How long a run may take before it counts as hung.
const LIMIT: Duration = Duration::from_mins(2);

/// The test as the ordinary build and the edited one have it.
pub(crate) struct RecoveryTest {
    ordinary: PathBuf,
    edited: PathBuf,
}

impl RecoveryTest {
    /// Builds both.
    pub(crate) fn build(tree: &Path, edited: impl Fn(&mut Command)) -> Outcome<Self> {
        Ok(Self { ordinary: executable(&root(), |_| {})?, edited: executable(tree, edited)? })
    }

    /// Checks that the edited test without a mutant passes where the ordinary one does.
    pub(crate) fn null(&self, first: u64) -> Outcome<String> {
        ensure(passes(&self.ordinary, first)?, || format!("the ordinary test fails from {first}"))?;
        ensure(passes(&self.edited, first)?, || format!("the edited test fails from {first}"))?;
        Ok(String::new())
    }

    /// Looks for a seed at which a mutant fails and the ordinary build passes.
    pub(crate) fn find(&self, number: u32, first: u64, budget: Duration) -> Option<u64> {
        let start = Instant::now();
        let mut next = first;
        while start.elapsed() < budget {
            // A run that hangs is neither a kill nor a pass.
            if let Ok((false, Some(seed))) = run(&self.edited, next, number)
                && passes(&self.ordinary, seed).unwrap_or(false)
            {
                return Some(seed);
            }
            next += RANGE;
        }
        None
    }
}

fn passes(test: &Path, first: u64) -> Outcome<bool> {
    run(test, first, 0).map(|(passed, _)| passed)
}

/// Returns whether a range of seeds passed, and the seed at which an assertion failed.
fn run(test: &Path, first: u64, number: u32) -> Outcome<(bool, Option<u64>)> {
    let mut command = Command::new(test);
    command
        .env("MAINSPRING_FIRST_SEED", first.to_string())
        .env("MAINSPRING_SEEDS", RANGE.to_string())
        .env("MAINSPRING_MUTANT", number.to_string());
    let (status, out, err) = bounded(command, LIMIT, &format!("recovery from seed {first}"))?;
    let seed = out.lines().chain(err.lines()).find_map(|line| {
        line.strip_prefix("MAINSPRING_FIRST_SEED=")?.split(' ').next()?.parse().ok()
    });
    Ok((status.success(), seed))
}

/// Builds the test of a tree and returns its path.
fn executable(tree: &Path, prepare: impl Fn(&mut Command)) -> Outcome<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(tree).args(["test", "-q", "--no-run", "--profile", "world"]);
    command.args(["-p", "mainspring-sim", "--test", "recovery", "--message-format", "json"]);
    prepare(&mut command);
    let output = command.output().map_err(|error| error.to_string())?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        // The simulator's binary is built along, and named too.
        .filter(|message| message["target"]["name"] == "recovery")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo names no executable of the recovery test".to_owned())
}
