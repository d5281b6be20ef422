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
}

impl Checks {
    /// Counts one check and prints it.
    pub(crate) fn note(&mut self, name: &str, outcome: Outcome<String>) {
        match outcome {
            Ok(detail) => {
                self.passed += 1;
                println!("ok      {name}{}{detail}", if detail.is_empty() { "" } else { ": " });
            }
            Err(problem) => {
                self.failed += 1;
                println!("FAILED  {name}: {problem}");
            }
        }
    }

    /// Counts one check that this machine cannot run.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.skipped += 1;
        println!("skipped {name}: {reason}");
    }

    /// Prints the line that ends a command.
    pub(crate) fn finish(self) -> ExitCode {
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Makes an outcome of a condition.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}
