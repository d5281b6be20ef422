//! The command line as a process: its codes, what it says, and the files it writes.

#![cfg(not(madsim))]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mainspring_sim::scenarios;
use mainspring_sim::schedule::{Plan, Schedule};

/// A folder of this test alone, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _absent = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder of its own");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// Writes a schedule that fails, because nobody can finish in the millisecond that is left.
    fn failing(&self) -> String {
        let mut schedule = scenarios::find("log").expect("a scenario").schedule(3);
        let Plan::World(plan) = &mut schedule.plan else { panic!("a plan of a world") };
        (plan.heal_at, plan.grace) = (2_000_000_000, 1_000_000);
        let path = self.path("failing.json");
        std::fs::write(&path, schedule.write()).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainspring-sim")).args(args).output().expect("a process")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("a code")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_words_are_answered_by_one_line_and_a_code() {
    for (words, wanted, says) in [
        (&["rum"][..], 2, "did you mean \"run\"?"),
        (&["run", "log", "--sead", "1"], 2, "did you mean \"--seed\"?"),
        (&["run", "log", "--seed", "x"], 2, "--seed does not take \"x\""),
        (&["run", "log", "--faults", "cashes"], 2, "did you mean \"crashes\"?"),
        (&["run", "crash-point"], 3, "did you mean \"crash-points\"?"),
        (&["replay", "log"], 2, "needs --seed N or --schedule FILE"),
        (&["replay", "--schedule", "/nowhere/at-all"], 3, "/nowhere/at-all"),
        (&["shrink", "log"], 2, "needs --seed N or --schedule FILE"),
    ] {
        let output = sim(words);
        let said = err(&output);
        assert_eq!(code(&output), wanted, "{words:?}: {said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{words:?}: {said}");
        assert_eq!(out(&output), "", "{words:?}");
    }
}

#[test]
fn a_run_ends_with_one_object_and_is_quiet_in_a_pipe() {
    let run =
        || sim(&["run", "log", "--seeds", "1..3", "--faults", "crashes", "--jobs", "2", "--json"]);
    let (one, two) = (run(), run());
    assert_eq!((code(&one), err(&one)), (0, String::new()));
    let object = |output: &Output| -> serde_json::Value {
        serde_json::from_str(out(output).lines().last().expect("a line")).expect("JSON")
    };
    let (one, two) = (object(&one), object(&two));
    assert_eq!(one["trace_hash"], two["trace_hash"]);
    assert_eq!((one["scenario"].as_str(), one["seeds"].as_u64()), (Some("log"), Some(2)));
    for field in ["events", "sim_seconds", "wall_seconds"] {
        assert!(one[field].as_f64().is_some_and(|number| number > 0.0), "{field}: {one}");
    }
    assert_eq!(one["failed"].as_array().map(Vec::len), Some(0));
    let faults = one["faults"].as_object().expect("an object");
    assert!(faults.keys().all(|kind| kind != "cut" && kind != "wall-jump"), "{faults:?}");
    assert!(one["marks"]["hit"].as_u64() > Some(0) && one["marks"]["missed"].is_array(), "{one}");
}

#[test]
fn a_replay_says_which_promise_broke_and_writes_its_files() {
    let folder = Folder::new("replay");
    let (failing, html, trace) =
        (folder.failing(), folder.path("it.html"), folder.path("it.trace"));
    let output = sim(&["replay", "--schedule", &failing, "--html", &html, "--trace", &trace]);
    let said = out(&output);
    assert_eq!((code(&output), err(&output)), (1, String::new()));
    assert!(said.contains("I41 is broken at step"), "{said}");
    assert!(said.contains("These contradict each other:"), "{said}");
    assert!(said.contains("moments before (--full tells all)"), "{said}");
    let full = out(&sim(&["replay", "--schedule", &failing, "--full"]));
    assert!(full.lines().count() > 2 * said.lines().count());
    assert!(full.contains("starts, life 1"), "{full}");
    let html = std::fs::read_to_string(html).expect("a page");
    assert!(html.starts_with("<!doctype html>") && html.contains("I41 is broken"));
    let trace = std::fs::read_to_string(trace).expect("a trace");
    assert!(trace.lines().any(|line| line.ends_with("0/0 <- Start")), "{trace:.200}");
    assert!(trace.lines().count() > full.lines().count());
}

#[test]
fn a_failing_run_shrinks_to_a_file_that_fails_in_the_same_way() {
    let folder = Folder::new("shrink");
    let (failing, small) = (folder.failing(), folder.path("small.json"));
    let output = sim(&["shrink", "--schedule", &failing, "--out", &small]);
    let said = out(&output);
    assert_eq!((code(&output), err(&output)), (0, String::new()), "{said}");
    let line = said.lines().last().expect("a line");
    assert!(
        line.starts_with(&format!("replay: mainspring sim replay --schedule {small}")),
        "{line}"
    );
    let schedule = Schedule::read(&std::fs::read_to_string(&small).expect("a file"));
    assert!(schedule.is_ok(), "{schedule:?}");
    let again = sim(&["replay", "--schedule", &small]);
    assert_eq!(code(&again), 1);
    assert!(out(&again).contains("I41 is broken"), "{}", out(&again));
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    let output = sim(&["shrink", "log", "--seed", "1", "--faults", "none"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("does not fail"), "{}", err(&output));
}

#[test]
fn a_file_that_is_no_schedule_is_refused() {
    let folder = Folder::new("refused");
    let path = folder.path("no.json");
    std::fs::write(&path, "{\"format\":\"mainspring-schedule-9\"}").expect("a file");
    let output = sim(&["replay", "--schedule", &path]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("its format is"), "{}", err(&output));
}
