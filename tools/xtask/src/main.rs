//! The one door to what a developer runs: `cargo xtask test`, `lint`, `sim` and so on.
//!
//! It turns arguments into environment and child processes and adds up their results. It has no
//! dependencies, so that it builds in a second, and it never tests anything by itself: what needs
//! libraries is `tools/harness`.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod counts;
mod docs;
mod fuzz;
mod lint;
mod parts;
mod python;
mod sim;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask COMMAND

  test [--only rust|sim|python|clients]   everything that must pass; ends with `N passed, N failed`
  lint                                    formatting, clippy, tidy
  docs                                    reference of the code, links between pages
  sim [--seed S] [--seeds N] [--check] [--test NAME]
                                          the network code under the deterministic runtime
  soak [--quick]                          long simulation, kills and power cuts
  fuzz [--executions N] [--seed S] [--target NAME]
                                          random input for every decoder
  fuzz --libfuzzer SECONDS                the same with cargo-fuzz, on a nightly compiler
  bench [--quick] [--json]                the benchmark matrix with its yardsticks
  bench client [--json]                 what our client costs for each record, without sockets
  bench txn [--quick] [--json]          transactions a second, beside Apache Kafka where its jars are named
  bench delay [--quick] [--json]        records that come later: what they cost, and how late they are
  bench python [--count N] [--rounds N]   clients in Python, ours beside others
  bench groups [--members N] [--rounds N] how soon a large group is stable
  pipeline [--kills N] [--seed S]         workers with transactions on three nodes, which are killed
  orphans [--rounds N] [--lanes N]        producers that are killed with a transaction open
  rskafka [--bootstrap HOST:PORT]         the tests of the crate rskafka, which build librdkafka
  conformance [--record | --accept | --kafka] [--only WORD]
                                          answers side by side with those of Apache Kafka
  mutants [--json | --network]            plants each listed bug and tells which ones are found
";

/// Returns the root of the repository, whatever folder the command was given in.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("the manifest lies in tools/xtask").to_path_buf()
}

/// Returns a call of cargo in the root of the repository.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// Returns a call of the harness, built optimised with every assertion.
fn harness(arguments: &[&str]) -> Command {
    let mut command =
        cargo(&["run", "-q", "--profile", "world", "-p", "mainspring-harness", "--bin", "harness"]);
    command.arg("--").args(arguments);
    command
}

/// Runs a command that speaks for itself.
fn run(mut command: Command) -> ExitCode {
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
        Err(error) => {
            println!("cannot start {}: {error}", command.get_program().display());
            ExitCode::FAILURE
        }
    }
}

/// Builds the broker and compares its answers with those of Apache Kafka.
fn conformance(rest: &[&str]) -> ExitCode {
    let build =
        ["build", "-q", "--profile", "world", "-p", "mainspring-net", "--bin", "mainspring"];
    let built = run(cargo(&build));
    if built != ExitCode::SUCCESS {
        return built;
    }
    let mut command = harness(&["conformance"]);
    command.args(rest);
    run(command)
}

/// Builds the simulator and looks for every planted bug.
fn mutants(rest: &[&str]) -> ExitCode {
    let built = run(cargo(&["build", "-q", "--profile", "world", "-p", "mainspring-sim"]));
    if built != ExitCode::SUCCESS {
        return built;
    }
    let mut command = harness(&["mutants"]);
    command.args(rest);
    run(command)
}

/// Runs one of the client programs that make their own broker, which is built optimised with every assertion.
fn with_clients(program: &str, rest: &[&str]) -> ExitCode {
    let build =
        ["build", "-q", "--profile", "world", "-p", "mainspring-net", "--bin", "mainspring"];
    let built = run(cargo(&build));
    if built != ExitCode::SUCCESS {
        return built;
    }
    // Our own client is one of them.
    let ours = python::package("world");
    match ours.and_then(|_| python::environment()) {
        Ok(python) => {
            let mut command = Command::new(python);
            command.arg(root().join("tools/compat").join(program)).arg("--binary");
            command.arg(root().join("target/world/mainspring")).args(rest);
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            run(command)
        }
        Err(reason) => {
            println!("{program} needs clients in Python: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Runs an independent client's own tests against the broker as it is shipped.
fn rskafka(rest: &[&str]) -> ExitCode {
    let build = ["build", "-q", "--release", "-p", "mainspring-net", "--bin", "mainspring"];
    let built = run(cargo(&build));
    if built != ExitCode::SUCCESS {
        return built;
    }
    let mut command = Command::new("python3");
    command.arg(root().join("tools/compat/rskafka.py")).args(rest);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    run(command)
}

/// Measures clients in Python, ours as it is shipped.
fn bench_python(rest: &[&str]) -> ExitCode {
    match python::rivals() {
        Ok(python) => {
            let mut command = Command::new(python);
            command.arg(root().join("tools/compat/bench_clients.py")).args(rest);
            run(command)
        }
        Err(reason) => {
            println!("the package cannot be measured: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the broker as it is shipped and measures it.
fn bench(rest: &[&str]) -> ExitCode {
    if let Some(("python", rest)) = rest.split_first().map(|(first, rest)| (*first, rest)) {
        return bench_python(rest);
    }
    let build = ["build", "-q", "--release", "-p", "mainspring-net", "--bin", "mainspring"];
    let built = run(cargo(&build));
    if built != ExitCode::SUCCESS {
        return built;
    }
    let broker = root().join("target/release/mainspring");
    let python = python::environment();
    if let Some(("groups", rest)) = rest.split_first().map(|(first, rest)| (*first, rest)) {
        return match python {
            Ok(python) => crowd(python, &broker, rest),
            Err(reason) => {
                println!("the members are clients in Python: {reason}");
                ExitCode::FAILURE
            }
        };
    }
    if let Err(reason) = python {
        println!("without the null broker: {reason}");
    }
    let mut command = harness(&["bench"]);
    command.args(rest).env("HARNESS_BROKER", broker);
    run(command)
}

/// Lets a crowd of real clients join one group, beside Apache Kafka where its jars are named.
fn crowd(python: PathBuf, broker: &Path, rest: &[&str]) -> ExitCode {
    let mut command = Command::new(python);
    command.arg(root().join("tools/compat/crowd.py")).arg("--binary").arg(broker).args(rest);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(libraries) = std::env::var_os("HARNESS_KAFKA_LIBS") {
        command.arg("--kafka").arg(libraries);
    }
    run(command)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match arguments.first().map(String::as_str) {
        Some("test") => test::run(&rest),
        Some("lint") => lint::run(),
        Some("docs") => docs::run(),
        Some("sim") => sim::run(&rest),
        Some("soak") => test::soak(&rest),
        Some("mutants") => mutants(&rest),
        Some("conformance") => conformance(&rest),
        Some("pipeline") => with_clients("pipeline.py", &rest),
        Some("orphans") => with_clients("orphans.py", &rest),
        Some("rskafka") => rskafka(&rest),
        Some("bench") => bench(&rest),
        Some("fuzz") => fuzz::run(&rest),
        Some("help" | "--help" | "-h") | None => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(other) => {
            println!("xtask: there is no command `{other}`; `cargo xtask help` lists them");
            ExitCode::from(2)
        }
    }
}
