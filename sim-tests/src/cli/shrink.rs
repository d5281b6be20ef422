//! `sim shrink`: a failing run made small enough to read.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use super::numbers::{seconds, thousands};
use super::options::Options;
use super::{say, wrong};
use crate::shrink::{Shrunk, Size, shrink as make_smaller};

/// Makes a schedule smaller and writes it to a file.
pub(super) fn shrink(options: &Options) -> i32 {
    let schedule = match options.one("shrink") {
        Ok(schedule) => schedule,
        Err(what) => return wrong(&what),
    };
    let name = format!("{} seed {}", schedule.scenario, schedule.seed);
    let terminal = std::io::stderr().is_terminal();
    let mut progress = |size: &Size, runs: u64| {
        if terminal {
            let Size { events, faults, clients, .. } = *size;
            eprint!("\r{events} events, {faults} faults, {clients} clients after {runs} runs   ");
        }
    };
    let shrunk = make_smaller(&schedule, &mut progress);
    if terminal {
        eprint!("\r\x1b[K");
    }
    let Some(shrunk) = shrunk else {
        eprintln!("mainspring sim: {name} does not fail, so there is nothing to make smaller");
        return 1;
    };
    let file = options.out.clone().unwrap_or_else(|| {
        PathBuf::from(format!("{}-{}.schedule.json", schedule.scenario, schedule.seed))
    });
    if let Err(error) = std::fs::write(&file, shrunk.schedule.write()) {
        eprintln!("mainspring sim: {}: {error}", file.display());
        return 1;
    }
    let Shrunk { alarm, before, after, runs, .. } = &shrunk;
    let mutant = options.mutant.as_ref().map_or_else(String::new, |id| format!(" --mutant {id}"));
    say(&format!(
        "{name}: {}, {} runs\n{}\nreplay: mainspring sim replay --schedule {}{mutant}   # {} at step {}",
        alarm.checker,
        thousands(*runs),
        table(before, after),
        file.display(),
        alarm.checker,
        alarm.step
    ));
    0
}

fn table(before: &Size, after: &Size) -> String {
    let row =
        |what: &str, before: String, after: String| format!("{what:<10}{before:>14}{after:>14}");
    let count = |number: usize| thousands(number as u64);
    // A plan of steps has no clients.
    let parts = if before.clients == 0 { "steps" } else { "faults" };
    let mut rows = vec![
        row("", "before".into(), "after".into()),
        row("events", thousands(before.events), thousands(after.events)),
        row(parts, count(before.faults), count(after.faults)),
    ];
    if before.clients > 0 {
        rows.push(row("clients", count(before.clients), count(after.clients)));
    }
    rows.push(row("seconds", seconds(before.time), seconds(after.time)));
    rows.join("\n")
}
