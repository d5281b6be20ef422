//! `cargo xtask fuzz`: random input for every decoder.

use std::process::{Command, ExitCode, Stdio};

use crate::{cargo, root};

/// Executions of a run by hand, over all targets together.
const EXECUTIONS: &str = "50000000";

/// Returns the call of our own driver, which needs no special compiler.
pub(crate) fn driver(arguments: &[&str]) -> Command {
    let mut command =
        cargo(&["run", "-q", "--profile", "world", "-p", "mainspring-harness", "--bin", "fuzz"]);
    command.arg("--").args(arguments);
    command
}

/// Runs every target: with our own driver, or for `--libfuzzer SECONDS` each with cargo-fuzz, which
/// follows the code that an input reaches.
pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match arguments {
        ["--libfuzzer", seconds] if seconds.parse::<u32>().is_ok() => libfuzzer(seconds),
        [] => crate::run(driver(&["--executions", EXECUTIONS])),
        ["--libfuzzer", ..] => {
            println!("usage: cargo xtask fuzz [--executions N] [--seed S] [--target NAME]");
            println!("       cargo xtask fuzz --libfuzzer SECONDS");
            ExitCode::from(2)
        }
        options => crate::run(driver(options)),
    }
}

fn libfuzzer(seconds: &str) -> ExitCode {
    let cargo_fuzz = || {
        let mut command = Command::new("cargo");
        command.current_dir(root().join("core")).args(["+nightly", "fuzz"]);
        command
    };
    let there = cargo_fuzz().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        println!("this needs a nightly toolchain and cargo-fuzz (`cargo install cargo-fuzz`)");
        return ExitCode::FAILURE;
    }
    let (mut passed, mut failed) = (0, 0);
    for target in targets() {
        let limit = format!("-max_total_time={seconds}");
        let status = cargo_fuzz().args(["run", &target, "--", &limit]).status();
        if status.is_ok_and(|status| status.success()) {
            passed += 1;
        } else {
            failed += 1;
            println!("{target} found something; its input lies below core/fuzz/artifacts");
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the names of the targets, one for each file.
fn targets() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("core/fuzz/fuzz_targets"));
    let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned())).collect();
    names.sort();
    names
}
