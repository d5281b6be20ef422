//! `cargo xtask fuzz`: random input for every decoder, to grow the kept inputs.

use std::process::{Command, ExitCode, Stdio};

use crate::root;

/// Runs each fuzz target for a while.
pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let seconds = match arguments {
        [] => 60,
        ["--seconds", text] => match text.parse::<u32>() {
            Ok(seconds) => seconds,
            Err(_) => return wrong(),
        },
        _ => return wrong(),
    };
    let cargo_fuzz = || {
        let mut command = Command::new("cargo");
        command.current_dir(root().join("core")).args(["+nightly", "fuzz"]);
        command
    };
    let there = cargo_fuzz().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        println!(
            "fuzzing needs a nightly toolchain and cargo-fuzz (`cargo install cargo-fuzz`); the kept \
             inputs are replayed by `cargo xtask test --only rust` without either"
        );
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

fn wrong() -> ExitCode {
    println!("usage: cargo xtask fuzz [--seconds N]");
    ExitCode::from(2)
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
