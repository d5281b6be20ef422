//! Plants bugs and tells which of them the simulator finds.
//!
//! The list holds edits of the source, each anchored by a piece of text that occurs once. They are
//! applied to a copy of the tree, all at once, each behind a number that is set at start; so one build
//! serves all. A kill counts only if the ordinary build passes the same seed. Two controls go with
//! every run: with no bug active the traces are those of the ordinary build, and the canary, which
//! acknowledges what was never written, is found at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::broker::root;
use crate::checks::{Checks, Outcome, ensure};
use crate::network::{self, Found, NetworkTests};
use crate::random::Random;
use crate::recovery::{self, RecoveryTest};
use crate::simulator::Simulator;

/// Longest time that the scenarios look for one mutant, a seed at a time.
const BUDGET: Duration = Duration::from_mins(1);
/// The same for the recovery test, which looks for those of the log room besides.
const TEST_BUDGET: Duration = Duration::from_secs(30);
/// How many mutants are looked for at a time.
const WORKERS: usize = 2;
/// Seeds that the controls run.
const CONTROL_SEEDS: u64 = 20;

/// What the copy's core gets besides the edits.
const SWITCH: &str = "
/// Number of the planted bug that is active, 0 for none.
pub static ACTIVE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Returns whether the planted bug of that number is active.
pub fn mutant(number: u32) -> bool {
    ACTIVE.load(std::sync::atomic::Ordering::Relaxed) == number
}

/// Returns whether any of these planted bugs is active.
pub fn mutants(numbers: &[u32]) -> bool {
    numbers.contains(&ACTIVE.load(std::sync::atomic::Ordering::Relaxed))
}
";

/// Tests that learn from their environment which bug is active: the file, the line behind which they
/// do, and how.
const SWITCHES: [(&str, &str, &str); 2] = [
    (recovery::FILE, recovery::ANCHOR, recovery::SWITCH),
    (network::FILE, network::ANCHOR, network::SWITCH),
];

#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

/// One planted bug.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    /// `P07`, or `canary`.
    id: String,
    /// E, M or H.
    difficulty: String,
    /// The checkers expected to find it.
    expected: Vec<String>,
    /// What the bug is.
    note: String,
    /// Where it survives although it is looked for: the reason.
    #[serde(default)]
    survives: Option<String>,
    /// Which simulations look for it.
    #[serde(default)]
    tier: Tier,
    /// The one scenario that looks for it, which may be on trial; without one all do that are not.
    #[serde(default)]
    scenario: Option<String>,
    /// The file, from the root.
    #[serde(default)]
    file: String,
    /// A piece of its text that occurs once.
    #[serde(default)]
    anchor: String,
    /// What stands there instead.
    #[serde(default)]
    replacement: String,
    /// In place of an edit of its own: the bugs that are active together with it, each of which hides the others.
    #[serde(default)]
    together: Vec<String>,
}

impl Mutant {
    fn number(&self) -> Outcome<u32> {
        match self.id.strip_prefix('P') {
            Some(number) => number.parse().map_err(|_| format!("{}: no number", self.id)),
            None if self.id == "canary" => Ok(9999),
            None => Err(format!("{} is neither P and a number nor canary", self.id)),
        }
    }

    /// Returns what stands in place of the anchor: it asks for all numbers under which the bug is active.
    fn edit(&self, all: &[Self]) -> Outcome<String> {
        let own = self.number()?;
        let mut numbers = vec![own];
        for other in all.iter().filter(|other| other.together.contains(&self.id)) {
            numbers.push(other.number()?);
        }
        if numbers.len() == 1 {
            return Ok(self.replacement.clone());
        }
        Ok(self.replacement.replace(&format!("mutant({own})"), &format!("mutants(&{numbers:?})")))
    }
}

/// Which simulations look for a planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tier {
    /// Those of the core alone.
    #[default]
    Core,
    /// Those of the network code, which `cargo sim` runs.
    Network,
}

/// How much is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// That the edits apply and compile, and the two controls.
    Controls,
    /// Every mutant too.
    All,
    /// The same, with nothing but one object of JSON on standard output.
    Json,
    /// Those of the network code alone, with their controls.
    Network,
}

/// Makes and builds the edited tree, and runs what is asked for, for the bugs of these numbers where `only` names any.
pub(crate) fn run(checks: &mut Checks, mode: Mode, only: &[&str]) {
    if mode == Mode::Json {
        checks.keep_stdout_free();
    }
    let start = Instant::now();
    let mutants = match edit(checks) {
        Ok(mutants) => mutants,
        Err(problem) => return checks.note("planted bugs apply", Err(problem)),
    };
    checks.note("planted bugs apply", Ok(format!("{} edits", mutants.len())));
    if let Some(id) = only.iter().find(|id| !mutants.iter().any(|mutant| mutant.id == **id)) {
        return checks.note("the bugs that are asked for", Err(format!("there is no {id}")));
    }
    let is_asked_for = |mutant: &Mutant| only.is_empty() || only.contains(&mutant.id.as_str());
    let first = Random::new(Random::fresh_seed()).below(1 << 40);
    let core = if mode == Mode::Network { None } else { Core::build(checks, mode, first) };
    if mode == Mode::Controls {
        // The controls of the network code cost another build; they go with every longer run.
        return;
    }
    let has_network = |mutant: &Mutant| mutant.tier == Tier::Network && is_asked_for(mutant);
    let network = mutants.iter().any(has_network).then(|| NetworkTests::build(&tree()));
    if let Some(network) = &network {
        checks.note("planted bugs of the network compile and are not active by themselves", {
            network.as_ref().map_err(Clone::clone).and_then(|network| network.null(first))
        });
    }
    let listed: Vec<&Mutant> = mutants
        .iter()
        .filter(|mutant| mutant.id != "canary" && is_asked_for(mutant))
        .filter(|mutant| mode != Mode::Network || mutant.tier == Tier::Network)
        .collect();
    let network = network.and_then(Result::ok);
    let mut found = Vec::new();
    hunt(core.as_ref(), network.as_ref(), &listed, first, |mutant, kill| {
        note(checks, mutant, kill.as_ref());
        found.push((mutant, kill));
    });
    if mode == Mode::Json {
        println!("{}", summary(&found, start.elapsed()));
    }
}

/// Looks for bugs, several at a time, and hands out what became of each as soon as it is known.
fn hunt<'a>(
    core: Option<&Core>,
    network: Option<&NetworkTests>,
    listed: &[&'a Mutant],
    first: u64,
    mut told: impl FnMut(&'a Mutant, Option<Kill>),
) {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                while let Some(mutant) = listed.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let kill = match mutant.tier {
                        Tier::Core => core.and_then(|core| core.look(mutant, first)),
                        Tier::Network => {
                            network.and_then(|network| find_in_network(network, &mutant.id, first))
                        }
                    };
                    // Whoever receives them does so to the end.
                    let _ = sender.send((*mutant, kill));
                }
            });
        }
        drop(sender);
        for (mutant, kill) in receiver {
            told(mutant, kill);
        }
    });
}

fn note(checks: &mut Checks, mutant: &Mutant, kill: Option<&Kill>) {
    let name = format!("{} ({}) {}", mutant.id, mutant.difficulty, mutant.note);
    let outcome = match (kill, &mutant.survives) {
        (Some(kill), _) => Ok(format!("killed by {kill}, expected {}", mutant.expected.join(" "))),
        (None, Some(reason)) => Ok(format!("survives: {reason}")),
        (None, None) => Err("survived without a reason".to_owned()),
    };
    checks.note(&name, outcome);
}

/// What all of them came to: how many of each difficulty, how soon, and each by itself.
fn summary(found: &[(&Mutant, Option<Kill>)], elapsed: Duration) -> Value {
    let of = |difficulty: &str| {
        let all = found.iter().filter(|(mutant, _)| mutant.difficulty == difficulty);
        let killed = all.clone().filter(|(_, kill)| kill.is_some()).count();
        json!({ "planted": all.count(), "killed": killed })
    };
    let mut times: Vec<f64> =
        found.iter().filter_map(|(_, kill)| Some(kill.as_ref()?.after.as_secs_f64())).collect();
    times.sort_by(f64::total_cmp);
    let survivors = found.iter().filter(|(_, kill)| kill.is_none());
    let survivors: Vec<&str> = survivors.map(|(mutant, _)| mutant.id.as_str()).collect();
    let each: Vec<Value> = found
        .iter()
        .map(|(mutant, kill)| {
            let kill = kill.as_ref();
            json!({
                "id": mutant.id,
                "difficulty": mutant.difficulty,
                "note": mutant.note,
                "checker": kill.map(|kill| &kill.checker),
                "scenario": kill.map(|kill| &kill.scenario),
                "seed": kill.map(|kill| kill.seed),
                "seconds": kill.map(|kill| kill.after.as_secs_f64()),
                "survives": mutant.survives,
            })
        })
        .collect();
    json!({
        "planted": found.len(),
        "killed": times.len(),
        "easy": of("E"),
        "medium": of("M"),
        "hard": of("H"),
        "median_seconds": times.get(times.len() / 2),
        "survivors": survivors,
        "seconds": elapsed.as_secs(),
        "mutants": each,
    })
}

/// Reads the list and makes the edited tree.
fn edit(checks: &mut Checks) -> Outcome<Vec<Mutant>> {
    let text = std::fs::read_to_string(root().join("sim-tests/mutants/list.toml"));
    let text = text.map_err(|error| format!("sim-tests/mutants/list.toml: {error}"))?;
    let list: List = toml::from_str(&text).map_err(|error| error.to_string())?;
    checks.note("every planted bug has a number of its own", numbers(&list.mutant));
    copy(&list.mutant, &tree())?;
    Ok(list.mutant)
}

/// What looks for the bugs of the core.
struct Core {
    ordinary: Simulator,
    edited: Simulator,
    scenarios: Vec<String>,
    /// The recovery test, unless only the controls are run.
    test: Option<RecoveryTest>,
}

impl Core {
    /// Builds the edited simulator and runs the controls. Where it does not come about, that has been
    /// noted.
    fn build(checks: &mut Checks, mode: Mode, first: u64) -> Option<Self> {
        let edited = build_edited();
        checks.note("planted bugs compile", {
            edited.as_ref().map(|_| String::new()).map_err(Clone::clone)
        });
        let edited = edited.ok()?;
        let ordinary = Simulator::ordinary();
        let scenarios = match ordinary.scenarios() {
            Ok(scenarios) => scenarios,
            Err(problem) => {
                checks.note("the simulator", Err(problem));
                return None;
            }
        };
        checks.note("with no bug active the traces are the same", {
            null(&ordinary, &edited, &scenarios, first)
        });
        checks.note("the canary is found at once", {
            find(&ordinary, &edited, &scenarios, "canary", first, Duration::from_secs(20))
                .map(|kill| kill.to_string())
                .ok_or_else(|| "no checker saw it".to_owned())
        });
        let mut test = None;
        if mode != Mode::Controls {
            match RecoveryTest::build(&tree(), with_edits) {
                Ok(built) => {
                    checks.note("with no bug active the recovery test passes", built.null(first));
                    test = Some(built);
                }
                Err(problem) => checks.note("the recovery test", Err(problem)),
            }
        }
        // The standard load is gentle and long, the script is long; what is on trial may find what its clean
        // seeds pass.
        let mut hunting = scenarios;
        hunting.retain(|scenario| !["standard", "storage-script"].contains(&scenario.as_str()));
        hunting.extend(["disk-faults", "storage-script"].map(str::to_owned));
        let (ordinary, edited) = (ordinary.one_by_one(), edited.one_by_one());
        Some(Self { ordinary, edited, scenarios: hunting, test })
    }

    /// Looks for one bug.
    fn look(&self, mutant: &Mutant, first: u64) -> Option<Kill> {
        let id = &mutant.id;
        if let Some(scenario) = &mutant.scenario {
            let only = std::slice::from_ref(scenario);
            return find(&self.ordinary, &self.edited, only, id, first, BUDGET);
        }
        let is_of_log = mutant.file.starts_with("core/src/log");
        find(&self.ordinary, &self.edited, &self.scenarios, id, first, BUDGET).or_else(|| {
            let test = self.test.as_ref().filter(|_| is_of_log)?;
            find_by_test(test, id, first)
        })
    }
}

/// Builds the simulator of the edited tree.
fn build_edited() -> Outcome<Simulator> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(tree()).args(["build", "-q", "--profile", "world", "-p", "mainspring-sim"]);
    with_edits(&mut command);
    let output = command.output().map_err(|error| error.to_string())?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(Simulator::within(&target()))
}

/// Returns where the edited copy lies.
fn tree() -> PathBuf {
    root().join("target/mutants/tree")
}

fn target() -> PathBuf {
    root().join("target/mutants/build")
}

/// Lets cargo build the edited copy beside the ordinary build.
fn with_edits(command: &mut Command) {
    command
        .env("CARGO_TARGET_DIR", target())
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg\u{1f}mutants");
}

fn numbers(mutants: &[Mutant]) -> Outcome<String> {
    let mut seen = BTreeSet::new();
    for mutant in mutants {
        let number = mutant.number()?;
        ensure(seen.insert(number), || format!("{} stands twice", mutant.id))?;
        if !mutant.together.is_empty() {
            let is_known = |id: &String| mutants.iter().any(|other| other.id == *id);
            ensure(mutant.together.iter().all(is_known) && mutant.replacement.is_empty(), || {
                format!("{}: it names bugs that are there, or has an edit", mutant.id)
            })?;
            continue;
        }
        let call = format!("mutant({number})");
        ensure(mutant.replacement.contains(&call), || {
            format!("{}: its replacement does not ask for {call}", mutant.id)
        })?;
    }
    ensure(seen.contains(&9999), || "there is no canary".to_owned())?;
    Ok(format!("{} and the canary", seen.len() - 1))
}

/// Copies the tree with all edits in it. A file is written only if it differs, so that a second run
/// builds little.
fn copy(mutants: &[Mutant], tree: &Path) -> Outcome {
    let text = |error: std::io::Error| error.to_string();
    let source = root();
    let mut applied = 0;
    let edits: Vec<&Mutant> = mutants.iter().filter(|mutant| mutant.together.is_empty()).collect();
    for file in files(&source) {
        let name = file.strip_prefix(&source).unwrap_or(&file).to_owned();
        let mut content = std::fs::read(&file).map_err(text)?;
        for mutant in edits.iter().filter(|mutant| Path::new(&mutant.file) == name) {
            let before = String::from_utf8(content).map_err(|error| error.to_string())?;
            let times = before.matches(&mutant.anchor).count();
            ensure(times == 1, || {
                format!("{}: its anchor stands {times} times in {}", mutant.id, mutant.file)
            })?;
            content = before.replacen(&mutant.anchor, &mutant.edit(mutants)?, 1).into_bytes();
            applied += 1;
        }
        if name == Path::new("core/src/lib.rs") {
            content.extend_from_slice(SWITCH.as_bytes());
        }
        for (file, anchor, switch) in SWITCHES {
            if name == Path::new(file) {
                let before = String::from_utf8(content).map_err(|error| error.to_string())?;
                ensure(before.matches(anchor).count() == 1, || {
                    format!("{file} has no place for the switch of mutants")
                })?;
                content = before.replacen(anchor, &format!("{anchor}{switch}"), 1).into_bytes();
            }
        }
        let target = tree.join(&name);
        if std::fs::read(&target).is_ok_and(|there| there == content) {
            continue;
        }
        std::fs::create_dir_all(target.parent().unwrap_or(tree)).map_err(text)?;
        std::fs::write(&target, content).map_err(text)?;
    }
    ensure(applied == edits.len(), || {
        format!("{} of {} edits name a file that is there", applied, edits.len())
    })
}

/// Returns what the build needs of the tree.
fn files(source: &Path) -> Vec<PathBuf> {
    let mut all = vec![source.join("Cargo.toml"), source.join("Cargo.lock")];
    for part in ["core", "net", "sim-tests", "pybind", "tools"] {
        walk(&source.join(part), &mut all);
    }
    all
}

fn walk(folder: &Path, all: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == "target" || name == "__pycache__" {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), all),
            Ok(kind) if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
}

fn null(
    ordinary: &Simulator,
    edited: &Simulator,
    scenarios: &[String],
    first: u64,
) -> Outcome<String> {
    for scenario in scenarios {
        let one = ordinary.run(scenario, first, CONTROL_SEEDS, None)?;
        let two = edited.run(scenario, first, CONTROL_SEEDS, Some("null"))?;
        ensure(two.failed.is_empty(), || two.said.clone())?;
        let (one, two) = (&one.summary["trace_hash"], &two.summary["trace_hash"]);
        ensure(one == two, || format!("{scenario} from seed {first}: {one} and {two}"))?;
    }
    Ok(String::new())
}

/// Who found a mutant, and where.
struct Kill {
    checker: String,
    scenario: String,
    seed: u64,
    after: Duration,
}

impl std::fmt::Display for Kill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.after.as_secs_f64();
        write!(
            f,
            "{} in {} at seed {} after {seconds:.1} s",
            self.checker, self.scenario, self.seed
        )
    }
}

/// Looks for a seed at which a mutant fails and the ordinary build passes.
fn find(
    ordinary: &Simulator,
    edited: &Simulator,
    scenarios: &[String],
    id: &str,
    first: u64,
    budget: Duration,
) -> Option<Kill> {
    let start = Instant::now();
    let (mut next, mut count) = (first, 4);
    while start.elapsed() < budget {
        for scenario in scenarios {
            // A run that hangs is neither a kill nor a pass.
            let Ok(run) = edited.run(scenario, next, count, Some(id)) else { continue };
            for (seed, checker) in run.failed {
                if ordinary.run(scenario, seed, 1, None).is_ok_and(|clean| clean.failed.is_empty())
                {
                    let (scenario, after) = (scenario.clone(), start.elapsed());
                    return Some(Kill { checker, scenario, seed, after });
                }
            }
        }
        next += count;
        count = (count * 2).min(16);
    }
    None
}

/// The same by the recovery test.
fn find_by_test(test: &RecoveryTest, id: &str, first: u64) -> Option<Kill> {
    let start = Instant::now();
    let number = id.strip_prefix('P')?.parse().ok()?;
    let seed = test.find(number, first, TEST_BUDGET)?;
    Some(Kill {
        checker: "an assertion".to_owned(),
        scenario: "the recovery test".to_owned(),
        seed,
        after: start.elapsed(),
    })
}

/// The same by the simulations of the network code.
fn find_in_network(tests: &NetworkTests, id: &str, first: u64) -> Option<Kill> {
    let start = Instant::now();
    let number = id.strip_prefix('P')?.parse().ok()?;
    let Found { test, seed, said } = tests.find(number, first, BUDGET)?;
    Some(Kill { checker: said, scenario: test, seed, after: start.elapsed() })
}
