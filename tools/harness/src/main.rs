//! Tests with real processes: kills, power cuts, cases that users met, mutants, benchmarks.
//!
//! It starts the built broker, talks to it over loopback with a client of its own, and counts what
//! holds. Each command ends with one line, `N passed, N failed, N skipped`.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod bench;
mod broker;
mod cases;
mod checks;
mod client;
mod cluster;
mod commands;
mod conformance;
mod delays;
mod groups;
mod hostile;
mod kills;
mod later;
mod load;
mod mutants;
mod network;
mod random;
mod recovery;
mod simulator;

use std::process::ExitCode;

use checks::{Checks, Outcome};

const HELP: &str = "\
harness COMMAND

  bench [--quick] [--json]         the benchmark matrix with its yardsticks
  bench client [--json]            what the client machines cost for each record, without sockets
  bench delay [--quick] [--json]   records that come later: what they cost, and how late they are
  bench txn [--quick] [--json]     transactions a second, their commits, and their cost over produce
  cases [--groups N]               cases that users met, in a small form; with 50,000 groups in full
  cluster kills [--cycles N] [--seed S]
                                   nodes of a cluster killed, held still and stopped under load
  commands                         wrong use, and commands that fail
  conformance [--record | --accept | --kafka] [--only WORD]
                                   scripts of requests, answered by Apache Kafka and by Mainspring
  delays [--cycles N] [--seed S]   kill -9 while records that come later fire
  mutants [--check | --json | --network]
                                   planted bugs, and which of them the simulator finds
  swarm [--seconds N]              the simulator over fresh seeds
  hostile                          peers that mean harm, beside one that does not
  kills [--cycles N] [--seed S]    kill -9 and power cuts under load, and a broken disk that must be caught
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|command| command == "bench") {
        let asked = |option: &str| arguments.iter().any(|argument| argument == option);
        let result = if asked("client") {
            bench::client::run(asked("--json"));
            Ok(())
        } else if asked("delay") {
            bench::delay::run(asked("--quick"), asked("--json"))
        } else if asked("txn") {
            bench::txn::run(asked("--quick"), asked("--json"))
        } else {
            bench::run(asked("--quick"), asked("--json"))
        };
        return match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                println!("harness: {problem}");
                ExitCode::FAILURE
            }
        };
    }
    let mut checks = Checks::default();
    let result = match arguments.first().map(String::as_str) {
        Some("cases") => options(&arguments, &["--groups"]).map(|[groups]| {
            cases::run(&mut checks);
            later::run(&mut checks);
            groups::run(&mut checks, groups);
        }),
        Some("swarm") => options(&arguments, &["--seconds"])
            .map(|[seconds]| simulator::swarm(&mut checks, seconds.unwrap_or(60))),
        Some("mutants") => match arguments.get(1).map(String::as_str) {
            Some("--json") => Ok(mutants::Mode::Json),
            Some("--check") => Ok(mutants::Mode::Controls),
            Some("--network") => Ok(mutants::Mode::Network),
            Some("--only") if arguments.len() < 3 => Err("--only needs numbers of bugs".to_owned()),
            None | Some("--only") => Ok(mutants::Mode::All),
            Some(other) => Err(format!("there is no option {other}")),
        }
        .map(|mode| {
            let is_some = arguments.get(1).is_some_and(|option| option == "--only");
            let ids = arguments.get(2).filter(|_| is_some);
            let only: Vec<&str> = ids.map_or_else(Vec::new, |ids| ids.split(',').collect());
            mutants::run(&mut checks, mode, &only);
        }),
        Some("hostile") => options(&arguments, &[]).map(|[]| hostile::run(&mut checks)),
        Some("conformance") => conformance(&mut checks, &arguments),
        Some("commands") => options(&arguments, &[]).map(|[]| commands::run(&mut checks)),
        Some("kills") => options(&arguments, &["--cycles", "--seed"])
            .map(|[cycles, seed]| kills::run(&mut checks, cycles.unwrap_or(100), seed)),
        Some("delays") => options(&arguments, &["--cycles", "--seed"])
            .map(|[cycles, seed]| delays::run(&mut checks, cycles.unwrap_or(100), seed)),
        Some("cluster") if arguments.get(1).is_some_and(|part| part == "kills") => {
            options(&arguments[1..], &["--cycles", "--seed"])
                .map(|[cycles, seed]| cluster::kills(&mut checks, cycles.unwrap_or(100), seed))
        }
        _ => {
            println!("{HELP}");
            return ExitCode::from(2);
        }
    };
    if let Err(message) = result {
        println!("harness: {message}");
        return ExitCode::from(2);
    }
    checks.finish()
}

/// Compares with Apache Kafka.
fn conformance(checks: &mut Checks, arguments: &[String]) -> Outcome {
    let mut mode = conformance::Mode::Compare;
    let mut only = "";
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--record" => mode = conformance::Mode::Record,
            "--accept" => mode = conformance::Mode::Accept,
            "--kafka" => mode = conformance::Mode::Kafka,
            "--only" => only = rest.next().ok_or("--only needs a word")?,
            other => return Err(format!("there is no option {other}")),
        }
    }
    conformance::run(checks, mode, only)
}

/// Reads options that take a number each.
fn options<const N: usize>(arguments: &[String], names: &[&str; N]) -> Outcome<[Option<u64>; N]> {
    let mut values = [None; N];
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        let at = names.iter().position(|name| name == argument);
        let at = at.ok_or_else(|| format!("there is no option {argument}"))?;
        let value = rest.next().and_then(|value| value.parse().ok());
        values[at] = Some(value.ok_or_else(|| format!("{argument} needs a number"))?);
    }
    Ok(values)
}
