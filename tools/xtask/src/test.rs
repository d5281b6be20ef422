//! `cargo xtask test`: everything that must pass.

use std::process::ExitCode;
use std::time::Duration;

use crate::parts::{Counting, Parts};
use crate::{cargo, docs, lint, root};

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
    parts.finish()
}

fn rust(parts: &mut Parts) {
    lint::add(parts);
    parts.check("links", &docs::links());
    // The optimised profile keeps every assertion, and its dependencies serve the later parts too.
    let budget = Duration::from_mins(15);
    let tests = cargo(&["test", "-q", "--profile", "world", "--workspace"]);
    parts.run("unit tests", budget, Counting::Lines, tests);
}

fn sim(parts: &mut Parts) {
    if root().join("sim-tests/tests/madsim").is_dir() {
        let mut network = cargo(&["run", "-q", "-p", "xtask", "--", "sim"]);
        network.args(["--seed", "1", "--seeds", "200"]);
        parts.run("network simulation", Duration::from_mins(5), Counting::Lines, network);
    }
}
