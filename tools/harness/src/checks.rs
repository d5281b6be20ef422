//! Named checks and their count.

use std::process::ExitCode;

/// Success, or one sentence about what went wrong.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// What was checked so far.
#[derive(Default)]
pub(crate) struct Checks {
    passed: u64,
    failed: u64,
    skipped: u64,
    stdout_is_data: bool,
}

impl Checks {
    /// From here on standard output is for data, and checks are told on standard error.
    pub(crate) fn keep_stdout_free(&mut self) {
        self.stdout_is_data = true;
    }

    fn say(&self, line: &str) {
        if self.stdout_is_data {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// Counts one check and prints it.
    pub(crate) fn note(&mut self, name: &str, outcome: Outcome<String>) {
        match outcome {
            Ok(detail) => {
                self.passed += 1;
                let colon = if detail.is_empty() { "" } else { ": " };
                self.say(&format!("ok      {name}{colon}{detail}"));
            }
            Err(problem) => {
                self.failed += 1;
                self.say(&format!("FAILED  {name}: {problem}"));
            }
        }
    }

    /// Counts one check that this machine cannot run.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.skipped += 1;
        self.say(&format!("skipped {name}: {reason}"));
    }

    /// Prints the line that ends a command.
    pub(crate) fn finish(self) -> ExitCode {
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped);
        self.say(&format!("{passed} passed, {failed} failed, {skipped} skipped"));
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Makes an outcome of a condition.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}
