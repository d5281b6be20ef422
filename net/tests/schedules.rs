//! Records that wait, from the command line, with the real broker.

mod support;

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Broker, assert_refused, mainspring};

/// A broker with a topic whose records may wait.
struct Bench {
    broker: Broker,
}

impl Bench {
    fn new(partitions: &str) -> Self {
        let bench = Self { broker: Broker::start_with(&["--memory"]) };
        let features = "mainspring.features=schedule,half";
        bench.ok(&["topic", "create", "t", "-p", partitions, "-c", features]);
        bench
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = mainspring(arguments);
        command.env("MAINSPRING_BOOTSTRAP", self.broker.address("listen"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the command runs")
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*error), (Some(0), ""), "{arguments:?}");
        String::from_utf8(output.stdout).expect("it is text")
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Sends a line to a partition.
    fn send(&self, partition: &str, line: &str, flags: &[&str]) {
        let mut child = self
            .command(&[&["produce", "t", "-p", partition], flags].concat())
            .stdin(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut input = child.stdin.take().expect("it is piped");
        writeln!(input, "{line}").expect("the command reads");
        drop(input);
        assert!(child.wait().expect("it ends").success());
    }

    /// Returns what can be read.
    fn seen(&self) -> String {
        self.ok(&["consume", "t", "-e"])
    }

    /// Returns the tickets of a list in its order, each with its partition.
    fn listed(&self, arguments: &[&str]) -> Vec<String> {
        let rows = self.json(arguments);
        rows.iter().map(|row| format!("{}@{}", row["partition"], row["ticket"])).collect()
    }
}

#[test]
fn what_waits_is_listed_over_all_partitions_the_next_one_first() {
    let bench = Bench::new("2");
    bench.send("0", "b", &["--delay", "2h"]);
    bench.send("1", "a", &["--delay", "1h"]);
    bench.send("1", "c", &["--at", "2100-01-01", "-H", "mainspring-id=century"]);
    let all = bench.listed(&["schedule", "list"]);
    let tickets: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!((tickets.len(), &tickets[1][..1], &tickets[2][..1]), (3, "0", "1"), "{all:?}");
    assert_eq!(bench.listed(&["schedule", "list", "t", "--before", "+90m"]), all[..1]);
    assert_eq!(bench.listed(&["schedule", "list", "--limit", "2"]), all[..2]);
    assert_eq!(bench.listed(&["schedule", "list", "--all"]).len(), 3);
    assert_eq!(bench.seen(), "");

    let shown = bench.json(&["schedule", "show", "t", "--id", "century"]);
    assert_eq!(
        (&shown[0]["due_ms"], &shown[0]["state"]),
        (&json!(4_102_444_800_000_i64), &json!("scheduled"))
    );
    let table = bench.ok(&["schedule", "list", "t"]);
    assert!(table.starts_with("TOPIC  RECORD  DUE"), "{table}");
    assert!(table.contains("2100-01-01T00:00:00.000Z  scheduled  century"), "{table}");
    let lines = bench.ok(&["schedule", "list", "-o", "jsonl"]);
    assert_eq!(lines.lines().count(), 3);
}

#[test]
fn a_cancelled_record_never_comes_and_is_remembered_as_such() {
    let bench = Bench::new("1");
    bench.send("0", "one", &["--delay", "1h"]);
    let record = bench.listed(&["schedule", "list"]).remove(0);
    assert_refused(&bench.run(&["schedule", "cancel", "t", &record]), 2, "add --yes");
    bench.ok(&["schedule", "cancel", "t", &record, "--yes"]);
    assert_eq!(bench.json(&["schedule", "list"]), [] as [Value; 0]);
    assert_eq!(bench.json(&["schedule", "show", "t", &record])[0]["state"], "cancelled");
    let late = bench.run(&["schedule", "deliver-now", "t", &record]);
    assert_refused(&late, 1, &format!("schedule show t {record}"));
    assert_eq!(bench.seen(), "");
}

#[test]
fn a_record_comes_now_or_at_another_time() {
    let bench = Bench::new("1");
    bench.send("0", "one", &["--delay", "1h", "-H", "mainspring-id=one"]);
    bench.send("0", "two", &["--delay", "1h"]);
    let two = bench.listed(&["schedule", "list"]).pop().expect("there are two");
    let altered = bench.json(&["schedule", "deliver-now", "t", "--id", "one"]);
    assert_eq!(altered, [json!({"topic": "t", "partition": 0, "ticket": null, "id": "one"})]);
    assert_eq!(bench.ok(&["consume", "t", "-n", "1"]), "one\n");
    let shown = bench.json(&["schedule", "show", "t", "--id", "one"]);
    assert_eq!(shown[0]["state"], "delivered");
    assert!(shown[0]["offset"].as_i64().is_some_and(|offset| offset > 0), "{shown:?}");
    let late = bench.run(&["schedule", "cancel", "t", "--id", "one", "--yes"]);
    assert_refused(&late, 1, "INVALID_RECORD");

    bench.ok(&["schedule", "reschedule", "t", &two, "--at", "2100-01-01"]);
    assert_eq!(bench.json(&["schedule", "list"])[0]["due_ms"], 4_102_444_800_000_i64);
    bench.ok(&["schedule", "reschedule", "t", &two, "--delay", "1ms"]);
    assert_eq!(bench.ok(&["consume", "t", "-n", "2"]), "one\ntwo\n");
}

#[test]
fn one_name_in_two_partitions_is_asked_about() {
    let bench = Bench::new("2");
    for partition in ["0", "1"] {
        bench.send(partition, partition, &["--delay", "1h", "-H", "mainspring-id=n"]);
    }
    let cancel = ["schedule", "cancel", "t", "--id", "n", "--yes"];
    assert_refused(&bench.run(&cancel), 2, "--partition");
    bench.ok(&[&cancel[..], &["--partition", "1"]].concat());
    assert_eq!(bench.json(&["schedule", "list"])[0]["partition"], 0);
    bench.ok(&cancel);
    assert_eq!(bench.json(&["schedule", "list"]), [] as [Value; 0]);
}

#[test]
fn a_replaced_record_says_by_which() {
    let bench = Bench::new("1");
    let named = ["--delay", "1h", "-H", "mainspring-id=n"];
    bench.send("0", "first", &named);
    let first = bench.listed(&["schedule", "list"]).remove(0);
    bench.send("0", "second", &named);
    let all = bench.json(&["schedule", "list"]);
    assert_eq!(all.len(), 1);
    assert_eq!(
        bench.json(&["schedule", "show", "t", "--id", "n"]),
        all,
        "the name is the second's"
    );
    let shown = bench.json(&["schedule", "show", "t", &first]);
    assert_eq!((&shown[0]["state"], &shown[0]["offset"]), (&json!("replaced"), &all[0]["ticket"]));
}

#[test]
fn half_messages_are_listed_and_decided_by_hand() {
    let bench = Bench::new("1");
    for name in ["a", "b"] {
        let id = format!("mainspring-id={name}");
        bench.send("0", name, &["-H", "mainspring-half=g", "-H", &id]);
    }
    assert_eq!(bench.json(&["schedule", "list"]), [] as [Value; 0], "they come by no time");
    let half = bench.listed(&["txn", "half", "t"]);
    assert_eq!((half.len(), bench.json(&["txn", "half"])[0]["state"].as_str()), (2, Some("half")));
    assert_eq!(bench.json(&["txn", "half", "--parked"]), [] as [Value; 0]);
    bench.ok(&["txn", "half", "t", "--commit", &half[0]]);
    bench.ok(&["txn", "half", "t", "--commit", &half[0]]);
    bench.ok(&["txn", "half", "t", "--rollback", &half[1], "--yes"]);
    let other = bench.run(&["txn", "half", "t", "--commit", &half[1]]);
    assert_refused(&other, 1, "INVALID_RECORD");
    assert_eq!(bench.ok(&["consume", "t", "-n", "1"]), "a\n");
    assert_eq!(bench.json(&["txn", "half"]), [] as [Value; 0]);
    assert_eq!(bench.seen(), "a\n");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "metrics of a real process are behind in real time")]
fn metrics_tell_within_a_second_what_waits() {
    let bench = Bench::new("2");
    bench.send("0", "one", &["--delay", "1h"]);
    bench.send("1", "two", &["--delay", "2h"]);
    bench.send("1", "half", &["-H", "mainspring-half=g", "-H", "mainspring-id=h"]);
    let begun = Instant::now();
    loop {
        let told = bench.broker.http("/metrics");
        let has = |line: &str| told.contains(line);
        if has("mainspring_scheduled_messages{topic=\"t\"} 2\n")
            && has("mainspring_half_messages 1\n")
            && has("\nmainspring_scheduled_next_seconds 3")
        {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{told}");
    }
}
