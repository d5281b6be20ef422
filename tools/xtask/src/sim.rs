//! `cargo sim`: the network code under the deterministic runtime.

use std::process::{Command, ExitCode, Stdio};

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
        // A determinism check looks at one seed in a process, so it takes a process each.
        let runs = if wanted.check { wanted.seeds } else { 1 };
        for run in 0..runs {
            let seed = wanted.seed + run;
            let mut test = Command::new(&binary);
            test.current_dir(root().join("sim-tests"))
                .args(["--exact", &name, "--nocapture"])
                .env("MADSIM_TEST_SEED", seed.to_string())
                .env("MADSIM_TEST_TIME_LIMIT", "600");
            if wanted.check {
                test.env("MADSIM_TEST_CHECK_DETERMINISM", "1");
            } else {
                test.env("MADSIM_TEST_NUM", wanted.seeds.to_string()).env("MADSIM_TEST_JOBS", "2");
            }
            let output = test.stdin(Stdio::null()).output();
            if output.as_ref().is_ok_and(|output| output.status.success()) {
                passed += 1;
            } else {
                failed += 1;
                if let Ok(output) = output {
                    println!("{}", String::from_utf8_lossy(&output.stdout));
                    println!("{}", String::from_utf8_lossy(&output.stderr));
                }
                println!("replay: cargo sim --test {name} --seed {seed} --seeds {}", wanted.seeds);
            }
        }
        println!("{name}: {} seeds from {}", wanted.seeds, wanted.seed);
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
