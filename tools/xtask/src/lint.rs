//! Formatting, clippy and the tidy report.

use std::process::ExitCode;
use std::time::Duration;

use crate::parts::{Counting, Parts};
use crate::{cargo, tidy};

/// Runs the lints alone.
pub(crate) fn run() -> ExitCode {
    let mut parts = Parts::default();
    add(&mut parts);
    parts.finish()
}

/// Adds the lints to a longer command.
pub(crate) fn add(parts: &mut Parts) {
    let budget = Duration::from_mins(1);
    parts.run("format", budget, Counting::Exit, cargo(&["fmt", "--all", "--check"]));
    let clippy = ["clippy", "-q", "--workspace", "--all-targets", "--", "-D", "warnings"];
    parts.run("clippy", Duration::from_mins(5), Counting::Exit, cargo(&clippy));
    parts.check("tidy", &tidy::check());
}
