//! The command line: every command of the binary `mainspring`.
//!
//! Data goes to standard output, everything else to standard error. A failure is one line.

mod bench;
mod cluster;
mod cluster_moves;
mod connect;
mod consume;
mod consume_group;
mod failure;
mod format;
mod group;
mod group_reset;
mod half;
mod later;
mod log;
mod output;
mod produce;
mod produce_txn;
mod schedule;
mod secret;
mod serve;
mod settings;
#[cfg(feature = "sim")]
mod sim;
mod time;
mod topic;
mod txn;
mod voters;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use failure::{Failure, one_line};
use output::Stop;

/// A Kafka-compatible message queue
#[derive(Debug, Parser)]
#[command(name = "mainspring", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a broker
    Serve(serve::Args),
    /// List, make, describe, change and delete topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Send lines as records
    Produce(produce::Args),
    /// Print records
    Consume(consume::Args),
    /// Measure a broker with this program's own client
    Bench(bench::Args),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(group::Command),
    /// Look at the nodes of a cluster, and say where partitions are led and stored
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Look at records that wait for their time, cancel them, or give them another time
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// List and describe transactions, and end one that hangs; half messages and their verdicts
    #[command(subcommand)]
    Txn(txn::Command),
    /// Show or check the files of a log, without a broker
    #[command(subcommand)]
    Log(log::Command),
    /// Simulate a broker and its faults: list, run, replay
    #[cfg(feature = "sim")]
    #[command(disable_help_flag = true)]
    Sim(sim::Args),
}

/// Runs the command that the arguments name and returns its exit code.
///
/// The first argument is the program's name. 0 done, 1 failed, 2 wrong use, 3 not found, 4 timed
/// out, 5 not allowed.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let as_json = wants_json(&args);
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(error) => return not_understood(&error, as_json),
    };
    start_logging();
    let done = match command {
        Command::Serve(args) => serve::run(&args),
        Command::Topic(command) => topic::run(command),
        Command::Produce(args) => produce::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Group(command) => group::run(command),
        Command::Cluster(command) => cluster::run(command),
        Command::Schedule(command) => schedule::run(command),
        Command::Txn(command) => txn::run(command),
        Command::Log(command) => log::run(&command),
        #[cfg(feature = "sim")]
        Command::Sim(args) => return sim::run(args),
    };
    match done {
        Ok(()) | Err(Stop::NobodyReads) => 0,
        Err(Stop::Failed(failure)) => report(&failure, as_json),
    }
}

/// Prints a failure, as JSON where the output was asked for as JSON, and returns its exit code.
fn report(failure: &Failure, as_json: bool) -> u8 {
    let line = if as_json { failure.json() } else { failure.to_string() };
    // Without standard error there is still the exit code.
    let _ = writeln!(io::stderr(), "{line}");
    failure.code as u8
}

fn wants_json(args: &[OsString]) -> bool {
    let json = |text: &str| text == "json" || text == "jsonl";
    let texts: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    texts.windows(2).any(|pair| matches!(pair[0], "-o" | "--output") && json(pair[1]))
        || texts.iter().any(|text| {
            text.strip_prefix("-o").or_else(|| text.strip_prefix("--output=")).is_some_and(json)
        })
}

/// Turns clap's several lines into help on standard output or one line on standard error.
fn not_understood(error: &clap::Error, as_json: bool) -> u8 {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Whoever asks for help and does not read it misses nothing else.
        let _ = error.print();
        return 0;
    }
    if kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = write!(io::stderr(), "{}", error.render());
        return 2;
    }
    let text = error.render().to_string();
    let said = text.split("\n\n").next().unwrap_or(&text);
    let said = one_line(said.strip_prefix("error: ").unwrap_or(said));
    let suggestion =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
            .into_iter()
            .find_map(|kind| error.get(kind))
            .and_then(first);
    let next = match suggestion {
        Some(name) => format!("did you mean {name}?"),
        None => format!("see {} --help", command_of(&text)),
    };
    report(&Failure::usage("wrong use", said, next), as_json)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other kinds of clap's values hold no names"
)]
fn first(value: &ContextValue) -> Option<String> {
    match value {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

/// Finds the command whose usage clap showed.
fn command_of(text: &str) -> String {
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    let mut command = vec!["mainspring"];
    let mut known = Cli::command();
    for word in usage.unwrap_or_default().split(' ').skip(1) {
        let Some(inner) = known.find_subcommand(word).cloned() else { break };
        command.push(word);
        known = inner;
    }
    command.join(" ")
}

/// Sends log lines to standard error, from the level that `MAINSPRING_LOG` names on.
fn start_logging() {
    let level = std::env::var("MAINSPRING_LOG").ok().and_then(|text| text.parse().ok());
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A program that calls this twice, or has a log of its own, keeps what it has.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::INFO))
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_errors_are_for_those_who_asked_for_json() {
        let asks = |args: &[&str]| wants_json(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(asks(&["mainspring", "topic", "list", "-o", "json"]));
        assert!(asks(&["mainspring", "topic", "list", "-ojsonl"]));
        assert!(asks(&["mainspring", "topic", "list", "--output=json"]));
        assert!(!asks(&["mainspring", "topic", "list", "-o", "table"]));
        assert!(!asks(&["mainspring", "produce", "json"]));
    }
}
