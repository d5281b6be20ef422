//! The command line of the simulator: `list`, `run`, `replay`, `shrink` and `explore`.
//!
//! Exit codes are those of every command of Mainspring: 0 done, 1 failed, 2 wrong use, 3 not
//! found.

mod explore;
mod list;
mod nearest;
pub(crate) mod numbers;
mod options;
mod replay;
mod run;
mod shrink;

use options::Command;

use crate::process;

const USAGE: &str = "\
usage: mainspring sim list [-o table|json]
       mainspring sim run SCENARIO [--seeds A..B] [--nodes N] [--faults PROFILE] [--mutant ID]
                                   [--jobs J] [--until STEP] [--json]
       mainspring sim replay SCENARIO --seed N [--faults PROFILE] [--mutant ID] [--until STEP]
                                   [--full] [--html FILE] [--trace FILE]
       mainspring sim replay --schedule FILE [--mutant ID] [--until STEP]
                                   [--full] [--html FILE] [--trace FILE]
       mainspring sim shrink SCENARIO --seed N [--faults PROFILE] [--mutant ID] [--out FILE]
       mainspring sim shrink --schedule FILE [--mutant ID] [--out FILE]
       mainspring sim explore [MODEL...] [--states N] [--depth N] [--mutant ID] [--json]
profiles: all, none, crashes, network, disk, clocks";

const NOT_FOUND: i32 = 3;

const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        flags: &[
            "--seeds", "--seed", "--nodes", "--faults", "--mutant", "--jobs", "--until", "--json",
        ],
        run: run::run,
    },
    Command {
        name: "replay",
        flags: &[
            "--seed",
            "--schedule",
            "--faults",
            "--mutant",
            "--until",
            "--full",
            "--html",
            "--trace",
        ],
        run: replay::replay,
    },
    Command {
        name: "shrink",
        flags: &["--seed", "--schedule", "--faults", "--mutant", "--out"],
        run: shrink::shrink,
    },
];

/// Runs a command. `args` are the words behind `mainspring sim`.
///
/// Returns the exit code.
pub fn main(args: Vec<String>) -> i32 {
    process::keep_panics_quiet();
    let mut args = args.into_iter();
    let Some(word) = args.next() else {
        return wrong("say what to do: list, run, replay, shrink or explore");
    };
    let args: Vec<String> = args.collect();
    if let Some(command) = COMMANDS.iter().find(|command| command.name == word) {
        return options::with_options(command, args);
    }
    match word.as_str() {
        "list" => list::list_as(&args).map_or_else(|what| wrong(&what), list::list),
        "explore" => explore::explore(args),
        "--help" | "-h" | "help" => {
            say(USAGE);
            0
        }
        _ => {
            let known = ["list", "explore", "help"].into_iter();
            let known = known.chain(COMMANDS.iter().map(|command| command.name));
            wrong(&format!("there is no command {word:?}{}", nearest::nearest(&word, known)))
        }
    }
}

#[expect(clippy::print_stdout, reason = "what a command answers goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}

fn wrong(what: &str) -> i32 {
    eprintln!("mainspring sim: {what}; `mainspring sim help` tells more");
    2
}

#[cfg(test)]
mod tests {
    use super::list::list_as;
    use super::options::parse_seeds;
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn seeds_are_a_range_without_its_end_or_one_seed() {
        assert_eq!(parse_seeds("3..7"), Some(3..7));
        assert_eq!(parse_seeds("3"), Some(3..4));
        assert_eq!(parse_seeds("7..3"), None);
        assert_eq!(parse_seeds("x"), None);
    }

    #[test]
    fn a_list_is_a_table_unless_json_is_asked_for() {
        assert_eq!(list_as(&[]), Ok(false));
        assert_eq!(list_as(&args("-o table")), Ok(false));
        assert_eq!(list_as(&args("--output json")), Ok(true));
        for wrong in ["-o", "-o yaml", "json", "-o json more"] {
            assert!(list_as(&args(wrong)).is_err(), "{wrong}");
            assert_eq!(main(args(&format!("list {wrong}"))), 2);
        }
    }

    #[test]
    fn wrong_use_and_unknown_scenarios_have_their_codes() {
        assert_eq!(main(args("fly")), 2);
        assert_eq!(main(args("run nowhere")), 3);
        assert_eq!(main(args("run crash-points --seeds")), 2);
        assert_eq!(main(args("run crash-points --nodes 3")), 2);
        assert_eq!(main(args("replay crash-points --seeds 1..3")), 2);
        assert_eq!(main(args("replay crash-points")), 2);
        assert_eq!(main(args("run crash-points --faults crashes")), 2);
        assert_eq!(main(args("run log --faults crashs")), 2);
        assert_eq!(main(args("run log --jobs 0")), 2);
        assert_eq!(main(args("run --seeds 1..2")), 2);
        assert_eq!(main(args("shrink log --seed x")), 2);
        assert_eq!(main(args("replay --schedule /nowhere/at-all.json")), 3);
        assert_eq!(main(args("run log --mutant P14 --seeds 1..2")), 2);
    }
}
