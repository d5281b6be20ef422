//! `cargo xtask test`: everything that must pass.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use crate::parts::{Counting, Parts};
use crate::{cargo, docs, fuzz, harness, lint, python, root};

const PARTS: [&str; 4] = ["rust", "sim", "python", "clients"];

/// Runs all parts, or the one that `--only` names.
pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let only = match arguments {
        [] => None,
        ["--only", part] if PARTS.contains(part) => Some(*part),
        _ => {
            println!("usage: cargo xtask test [--only {}]", PARTS.join("|"));
            return ExitCode::from(2);
        }
    };
    let wanted = |part| only.is_none_or(|only| only == part);
    let mut parts = Parts::default();
    if wanted("rust") {
        rust(&mut parts);
    }
    if wanted("sim") {
        sim(&mut parts);
    }
    if wanted("python") {
        python_package(&mut parts);
    }
    if wanted("clients") {
        clients(&mut parts);
    }
    parts.finish()
}

/// The long run of what the test command runs briefly; `--quick` is a twentieth of it.
pub(crate) fn soak(arguments: &[&str]) -> ExitCode {
    let part = match arguments {
        [] => 1,
        ["--quick"] => 20,
        _ => {
            println!("usage: cargo xtask soak [--quick]");
            return ExitCode::from(2);
        }
    };
    let mut parts = Parts::default();
    broker(&mut parts);
    let build = ["build", "-q", "--profile", "world", "-p", "mainspring-harness"];
    parts.run("build of the harness", Duration::from_mins(10), Counting::Exit, cargo(&build));
    kills(&mut parts, 300 / part);
    cluster_kills(&mut parts, 100 / part.min(10));
    recovery(&mut parts, 40_000 / part);
    swarm(&mut parts, 3600 / part);
    clusters(&mut parts, 4000 / part);
    explore(&mut parts, 100_000 / part);
    storage_script(&mut parts, 2_048 / part);
    network(&mut parts, 5000 / part);
    parts.finish()
}

fn rust(parts: &mut Parts) {
    lint::add(parts);
    parts.check("links", &docs::links());
    // The optimised profile keeps every assertion, and its dependencies serve the later parts too.
    let budget = Duration::from_mins(15);
    let tests = cargo(&[
        "test",
        "-q",
        "--no-fail-fast",
        "--profile",
        "world",
        "--workspace",
        "--exclude",
        "mainspring-py",
    ]);
    parts.run("unit tests", budget, Counting::Lines, tests);
    let fuzz = fuzz::driver(&["--executions", "2200000", "--seed", &fresh_seed()]);
    parts.run("random input for every decoder", Duration::from_mins(4), Counting::Lines, fuzz);
    broker(parts);
    let budget = Duration::from_mins(2);
    parts.run("commands and wrong use", budget, Counting::Lines, harness(&["commands"]));
    let budget = Duration::from_mins(1);
    let conformance = harness(&["conformance"]);
    parts.run("conformance with Apache Kafka", budget, Counting::Lines, conformance);
    let budget = Duration::from_mins(2);
    parts.run("cases that users met", budget, Counting::Lines, harness(&["cases"]));
    parts.run("hostile peers", budget, Counting::Lines, harness(&["hostile"]));
    kills(parts, 100);
    cluster_kills(parts, 8);
}

/// Returns a seed that differs from run to run; what is run with it prints it.
fn fresh_seed() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |since| since.as_secs()).to_string()
}

fn sim(parts: &mut Parts) {
    swarm(parts, 240);
    clusters(parts, 60);
    explore(parts, 10_000);
    network(parts, 200);
    if root().join("sim-tests/mutants/list.toml").is_file() {
        let check = harness(&["mutants", "--check"]);
        parts.run("planted bugs", Duration::from_mins(8), Counting::Lines, check);
    }
}

/// Runs the simulator of `core` over fresh seeds, for as long as is told.
fn swarm(parts: &mut Parts, seconds: u32) {
    let build = cargo(&["build", "-q", "--profile", "world", "-p", "mainspring-sim"]);
    parts.run("build of the simulator", Duration::from_mins(5), Counting::Exit, build);
    let budget = Duration::from_secs(u64::from(seconds) + 60);
    let swarm = harness(&["swarm", "--seconds", &seconds.to_string()]);
    parts.run("simulator over fresh seeds", budget, Counting::Lines, swarm);
}

/// Runs the scenarios on trial in the simulator, clusters, transactions and records that come later: the same seeds
/// each time.
fn clusters(parts: &mut Parts, seeds: u32) {
    for (scenario, seeds) in [
        ("cluster", seeds),
        ("transactions", 2 * seeds),
        ("cluster-transactions", seeds / 2),
        ("delays", seeds),
        ("cluster-delays", seeds / 3),
    ] {
        let mut run = cargo(&["run", "-q", "--profile", "world", "-p", "mainspring-sim", "--"]);
        run.args(["run", scenario, "--seeds", &format!("1..{}", seeds + 1)]);
        let name = format!("{scenario} in the simulator");
        parts.run(&name, Duration::from_mins(5), Counting::Exit, run);
    }
}

/// Searches the small worlds, each up to that many distinct states.
fn explore(parts: &mut Parts, states: u32) {
    let mut explore = cargo(&["run", "-q", "--profile", "world", "-p", "mainspring-sim", "--"]);
    explore.args(["explore", "--states", &states.to_string()]);
    // More than a thousand states in a second, for each of two worlds that do not close.
    let budget = Duration::from_mins(3) + Duration::from_secs(u64::from(states) / 500);
    parts.run("every state of small worlds", budget, Counting::Exit, explore);
}

/// Looks at that many of the 2,048 parts of the storage script's crash points.
fn storage_script(parts: &mut Parts, seeds: u32) {
    let mut run = cargo(&["run", "-q", "--profile", "world", "-p", "mainspring-sim", "--"]);
    let seeds_wanted = format!("1..{}", seeds + 1);
    run.args(["run", "storage-script", "--jobs", "2", "--seeds", &seeds_wanted]);
    // A part takes a few seconds.
    let budget = Duration::from_mins(5) + Duration::from_secs(u64::from(seeds) * 4);
    parts.run("crash points of the storage script", budget, Counting::Exit, run);
}

/// Builds the binary that the parts with real processes start.
fn broker(parts: &mut Parts) {
    let build =
        ["build", "-q", "--profile", "world", "-p", "mainspring-net", "--bin", "mainspring"];
    parts.run("build of the broker", Duration::from_mins(10), Counting::Exit, cargo(&build));
}

fn kills(parts: &mut Parts, cycles: u32) {
    let kills = harness(&["kills", "--cycles", &cycles.to_string()]);
    // What is read back grows with the cycles.
    let budget = Duration::from_mins(3) * cycles.div_ceil(100);
    parts.run("kills and power cuts", budget, Counting::Lines, kills);
    let budget = Duration::from_secs(u64::from(cycles) + 80);
    let delays = harness(&["delays", "--cycles", &cycles.to_string()]);
    parts.run("kills while records fire", budget, Counting::Lines, delays);
}

/// Strikes the nodes of a cluster. One of its producers is over librdkafka, where that can be installed.
fn cluster_kills(parts: &mut Parts, cycles: u32) {
    if let Err(reason) = python::environment() {
        println!("the clients' environment: {reason}");
    }
    let kills = harness(&["cluster", "kills", "--cycles", &cycles.to_string()]);
    let budget = Duration::from_secs(45) + Duration::from_secs(8) * cycles;
    parts.run("kills of a cluster's nodes", budget, Counting::Lines, kills);
}

/// Runs the recovery test over fresh seeds; the ordinary tests always take the first ones.
fn recovery(parts: &mut Parts, seeds: u32) {
    let mut test =
        cargo(&["test", "-q", "--profile", "world", "-p", "mainspring-sim", "--test", "recovery"]);
    let first = fresh_seed();
    println!("\nMAINSPRING_FIRST_SEED={first} MAINSPRING_SEEDS={seeds}");
    test.env("MAINSPRING_FIRST_SEED", first).env("MAINSPRING_SEEDS", seeds.to_string());
    // About thirty seeds in a second, and the build.
    let budget = Duration::from_secs(300 + u64::from(seeds) / 20);
    parts.run("recovery over fresh seeds", budget, Counting::Lines, test);
}

fn network(parts: &mut Parts, seeds: u32) {
    let sim = |arguments: &[&str]| {
        let mut sim = cargo(&["run", "-q", "-p", "xtask", "--", "sim"]);
        sim.args(arguments);
        sim
    };
    // The build under the other runtime takes most of it on a fresh machine.
    let budget = Duration::from_mins(8) * seeds.div_ceil(1000);
    let first = fresh_seed();
    let many = sim(&["--seed", &first, "--seeds", &seeds.to_string()]);
    parts.run("network simulation", budget, Counting::Lines, many);
    let twice = sim(&["--seed", &first, "--seeds", "10", "--check"]);
    let budget = Duration::from_mins(5);
    parts.run("network simulation, each seed twice", budget, Counting::Lines, twice);
}

/// Builds the Python package and tests what was built.
fn python_package(parts: &mut Parts) {
    let python = match python::package("world") {
        Ok(python) => python,
        Err(reason) if reason.starts_with("cannot start python3") => {
            return parts.skip("Python package", &reason);
        }
        Err(reason) => return parts.check("Python package", &Err(reason)),
    };
    // About two on two cores, a quarter of it for clusters that fail over.
    let budget = Duration::from_mins(5);
    let mut tests = Command::new(&python);
    tests.current_dir(root().join("python/tests"));
    tests.args(["-X", "dev", "-m", "pytest", "-q", "-p", "no:cacheprovider"]);
    tests.env("PYTHONDONTWRITEBYTECODE", "1");
    parts.run("Python package", budget, Counting::Lines, tests);
    let mut stubs = Command::new(&python);
    stubs.current_dir(root().join("target")).args(["-m", "mypy.stubtest", "mainspring"]);
    parts.run("stubs of the Python package", budget, Counting::Exit, stubs);
    let mut types = Command::new(&python);
    types.current_dir(root().join("target")).args(["-m", "mypy", "--strict", "-p", "mainspring"]);
    parts.run("types of the Python package", budget, Counting::Exit, types);
    others_of_python(parts, &python);
    let others = python::others(&python);
    if others.is_empty() {
        parts.skip("the wheel on other interpreters", "there is no other from 3.11 on");
    }
    for (version, python) in others {
        let name = format!("the wheel on CPython {version}");
        match python::installed_for(&version, &python) {
            Ok(python) => {
                let mut tests = Command::new(python);
                tests.current_dir(root().join("python/tests"));
                tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).args(ANYWHERE);
                tests.env("PYTHONDONTWRITEBYTECODE", "1");
                parts.run(&name, Duration::from_mins(2), Counting::Lines, tests);
            }
            Err(reason) => parts.check(&name, &Err(reason)),
        }
    }
}

/// Tests of the package that need nothing else but pytest.
const ANYWHERE: [&str; 3] = ["test_clients.py", "test_transactions.py", "test_testing.py"];

/// Runs the checks that others have written: of types, and that the wheel keeps to the stable ABI.
fn others_of_python(parts: &mut Parts, python: &Path) {
    let budget = Duration::from_mins(2);
    let mut can = Command::new(python);
    can.args(["-m", "pyright", "--version"]).stdin(Stdio::null()).stdout(Stdio::null());
    // It needs Node.js, and fetches itself.
    if can.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        let mut types = Command::new(python);
        types.current_dir(root()).args(["-m", "pyright", "--pythonpath"]).arg(python);
        parts.run("types of the package and the examples", budget, Counting::Exit, types);
    } else {
        parts.skip("types of the package and the examples", "pyright does not start");
    }
    let wheels = std::fs::read_dir(root().join("target/wheels")).into_iter().flatten().flatten();
    let mut audit = Command::new(python);
    audit.args(["-m", "abi3audit", "--strict"]).args(wheels.map(|wheel| wheel.path()));
    parts.run("stable ABI of the wheel", budget, Counting::Exit, audit);
}

/// Runs every client program against the built broker.
fn clients(parts: &mut Parts) {
    broker(parts);
    let python = match python::environment() {
        Ok(python) => python,
        Err(reason) => return parts.skip("real clients", &reason),
    };
    // Without kcat the runner skips it by name.
    python::kcat();
    let mut clients = Command::new(python);
    clients
        .arg(root().join("tools/compat/run.py"))
        .arg("--binary")
        .arg(root().join("target/world/mainspring"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    parts.run("real clients", Duration::from_mins(8), Counting::Lines, clients);
}
