//! Runs the parts of a long command, each with a name and a budget, and adds up what they report.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::counts::{self, Counts};

/// How a part's result is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// The part is one check, told by its exit code.
    Exit,
    /// Its output reports counts, which are added up.
    Lines,
}

/// The parts that were run, in order.
#[derive(Default)]
pub(crate) struct Parts {
    done: Vec<(String, Counts, Duration, Duration)>,
    total: Counts,
}

impl Parts {
    /// Runs one part. Longer than twice its budget is a failure, and ends it.
    pub(crate) fn run(
        &mut self,
        name: &str,
        budget: Duration,
        counting: Counting,
        mut command: Command,
    ) {
        println!("\n== {name}");
        let start = Instant::now();
        let counts = follow(&mut command, counting, start + budget * 2).unwrap_or_else(|error| {
            println!("{name}: {error}");
            Counts::one(false)
        });
        self.note(name, counts, start.elapsed(), budget);
    }

    /// Counts a part that this machine cannot run.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        println!("\n== {name}\nskipped: {name}: {reason}");
        self.note(name, Counts::one_skipped(), Duration::ZERO, Duration::ZERO);
    }

    /// Counts a part that was checked without a child process.
    pub(crate) fn check(&mut self, name: &str, outcome: &Result<(), String>) {
        println!("\n== {name}");
        if let Err(message) = outcome {
            println!("{message}");
        }
        self.note(name, Counts::one(outcome.is_ok()), Duration::ZERO, Duration::ZERO);
    }

    /// Prints the table of parts and the one line that ends the command.
    pub(crate) fn finish(self) -> ExitCode {
        println!(
            "\n{:<38} {:>7} {:>7} {:>7} {:>8} {:>8}",
            "part", "passed", "failed", "skipped", "s", "budget"
        );
        for (name, counts, took, budget) in &self.done {
            println!(
                "{name:<38} {:>7} {:>7} {:>7} {:>8.1} {:>8}",
                counts.passed,
                counts.failed,
                counts.skipped,
                took.as_secs_f64(),
                budget.as_secs()
            );
        }
        println!("{}", self.total);
        if self.total.failed == 0 && self.total.passed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn note(&mut self, name: &str, counts: Counts, took: Duration, budget: Duration) {
        self.total.add(counts);
        self.done.push((name.to_owned(), counts, took, budget));
    }
}

/// Runs a child to its end, repeating what it prints, and returns what it counted.
fn follow(
    command: &mut Command,
    counting: Counting,
    deadline: Instant,
) -> Result<Counts, std::io::Error> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let pipe = child.stdout.take().expect("standard output was asked for");
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    let mut sum = Counts::default();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                if counting == Counting::Lines {
                    sum.add(counts::read(&line).unwrap_or_default());
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("it ran for twice its budget and was ended");
                end_tree(child.id());
                child.wait()?;
                sum.failed += 1;
                return Ok(sum);
            }
        }
    }
    let success = child.wait()?.success();
    match counting {
        Counting::Exit => Ok(Counts::one(success)),
        // A runner that broke before it could count, or counted nothing, has failed.
        Counting::Lines => {
            let silent = sum == Counts::default();
            if (!success && sum.failed == 0) || silent {
                sum.failed += 1;
            }
            Ok(sum)
        }
    }
}

/// Ends a child and everything that it started, by their process ids.
fn end_tree(pid: u32) {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        if let Ok(child) = child.parse() {
            end_tree(child);
        }
    }
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}
