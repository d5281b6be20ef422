//! The command line of the simulator: `list`, `run` and `replay`.
//!
//! Exit codes are those of every command of Mainspring: 0 done, 1 failed, 2 wrong use, 3 not
//! found.

mod list;
mod options;
mod replay;
mod run;

use crate::process;

const USAGE: &str = "usage: mainspring sim list [-o table|json]
       mainspring sim run SCENARIO [--seeds A..B] [--nodes N] [--mutant ID] [--jobs J] [--json]
       mainspring sim replay SCENARIO --seed N [--until STEP] [--mutant ID]";

/// Runs a command. `args` are the words behind `mainspring sim`.
///
/// Returns the exit code.
pub fn main(args: Vec<String>) -> i32 {
    process::keep_panics_quiet();
    let mut args = args.into_iter();
    match args.next().as_deref() {
        Some("list") => list::list_as(&args.collect::<Vec<String>>())
            .map_or_else(|what| wrong(&what), list::list),
        Some("run") => options::with_options(args.collect(), run::run),
        Some("replay") => options::with_options(args.collect(), replay::replay),
        Some("--help" | "-h" | "help") => {
            say(USAGE);
            0
        }
        _ => wrong("say list, run or replay"),
    }
}

#[expect(clippy::print_stdout, reason = "what a command answers goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}

fn wrong(what: &str) -> i32 {
    eprintln!("mainspring sim: {what}\n{USAGE}");
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
    }
}
