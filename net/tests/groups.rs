//! Consumer groups from the command line, with the real broker.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use support::{Broker, assert_refused, mainspring};

/// Lets the first round of an empty group begin without waiting for more members.
const AT_ONCE: &str = "group.initial.rebalance.delay.ms=0";

/// A broker whose groups begin at once.
struct Bench {
    broker: Broker,
}

impl Bench {
    fn new() -> Self {
        Self { broker: Broker::start_with(&["--memory", "--set", AT_ONCE]) }
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

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Sends lines to a partition.
    fn produce(&self, topic: &str, partition: u32, lines: impl IntoIterator<Item = u32>) {
        let mut child = self
            .command(&["produce", topic, "-p", &partition.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut input = child.stdin.take().expect("it is piped");
        for line in lines {
            writeln!(input, "{line}").expect("the command reads");
        }
        drop(input);
        assert!(child.wait().expect("it ends").success());
    }

    /// Starts a member that prints `partition value`.
    fn member(&self, arguments: &[&str]) -> Member {
        let all = [&["consume", "t", "-g", "g", "-f", r"%p %s\n"], arguments].concat();
        let mut child = self
            .command(&all)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Member { child, lines }
    }

    /// Describes the group until it looks as it should.
    fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        // Each look takes some milliseconds, and a round takes as long as two heartbeats.
        for _ in 0..20_000 {
            last = self.json(&["group", "describe", "g"])[0].take();
            if is_so(&last) {
                return last;
            }
        }
        panic!("never {what}: {last}")
    }
}

struct Member {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Member {
    fn next(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it prints");
        line.trim_end().to_owned()
    }

    /// Ends it by a signal; returns what else it has printed.
    fn stop(mut self, signal: &str) -> Vec<String> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill is there");
        assert!(status.success());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("it prints");
        let output = self.child.wait_with_output().expect("it ends");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), &*error), (Some(0), ""));
        rest.lines().map(str::to_owned).collect()
    }
}

fn partitions_of(group: &Value) -> Vec<usize> {
    let members = group["members"].as_array().expect("a list");
    members.iter().map(|member| member["partitions"].as_array().expect("a list").len()).collect()
}

#[test]
fn a_group_goes_on_where_it_stopped_and_its_lag_says_how_far_it_is() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    bench.produce("t", 0, 0..10);
    let consume = ["consume", "t", "-g", "g", "-f", "%s,"];
    assert_eq!(bench.ok(&[&consume[..], &["-n", "7"]].concat()), "0,1,2,3,4,5,6,");
    let lag = bench.json(&["group", "lag", "g"]);
    assert_eq!(
        (&lag[0]["offset"], &lag[0]["end_offset"], &lag[0]["lag"]),
        (&7.into(), &10.into(), &3.into())
    );
    assert_eq!(bench.ok(&[&consume[..], &["-e"]].concat()), "7,8,9,");
    assert_eq!(bench.ok(&[&consume[..], &["-e"]].concat()), "");
    assert_eq!(bench.json(&["group", "lag", "g"])[0]["lag"], 0);
    let listed = bench.json(&["group", "list"]);
    assert_eq!((&listed[0]["group_id"], &listed[0]["state"]), (&"g".into(), &"Empty".into()));
}

#[test]
fn a_group_that_begins_at_the_end_reads_only_what_comes() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    bench.produce("t", 0, 0..3);
    assert_eq!(bench.ok(&["consume", "t", "-g", "g", "-o", "end", "-e"]), "");
    // Where reading began was stored, so that nothing is missed between two runs.
    bench.produce("t", 0, 3..5);
    assert_eq!(bench.ok(&["consume", "t", "-g", "g", "-o", "end", "-e", "-f", "%s,"]), "3,4,");
}

#[test]
fn members_share_the_partitions_and_a_signal_hands_them_over_at_once() {
    for assignor in ["range", "cooperative-sticky"] {
        let bench = Bench::new();
        bench.ok(&["topic", "create", "t", "-p", "4"]);
        for partition in 0..4 {
            bench.produce("t", partition, [0]);
        }
        let mut first = bench.member(&["--assignor", assignor]);
        let mut seen: Vec<String> = (0..4).map(|_| first.next()).collect();
        let second = bench.member(&["--assignor", assignor]);
        let group = bench.wait_for("shared", |group| partitions_of(group) == [2, 2]);
        assert_eq!((&group["state"], &group["assignor"]), (&"Stable".into(), &assignor.into()));

        seen.extend(first.stop("-INT"));
        let group = bench.wait_for("handed over", |group| partitions_of(group) == [4]);
        assert!(group["offsets"].as_array().expect("a list").iter().all(|one| one["lag"] == 0));
        for partition in 0..4 {
            bench.produce("t", partition, [1]);
        }
        let mut second = second;
        seen.extend((0..4).map(|_| second.next()));
        seen.extend(second.stop("-TERM"));
        bench.wait_for("left", |group| group["state"] == "Empty");

        seen.sort();
        let expected: Vec<String> = (0..4)
            .flat_map(|partition| (0..2).map(move |value| format!("{partition} {value}")))
            .collect();
        assert_eq!(seen, expected, "{assignor}: each once");
    }
}

#[test]
fn a_static_member_takes_its_partitions_up_again_after_a_kill() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    bench.produce("t", 0, [0]);
    let mut killed = bench.member(&["--instance", "one"]);
    assert_eq!(killed.next(), "0 0");
    killed.child.kill().expect("it runs");
    killed.child.wait().expect("it ends");
    bench.produce("t", 0, [1]);

    let mut again = bench.member(&["--instance", "one"]);
    // What the first one has printed may be printed again: it had no time to store it.
    while again.next() != "0 1" {}
    let group = bench.wait_for("there", |group| partitions_of(group) == [1]);
    assert_eq!(group["members"][0]["instance_id"], "one");

    let mut other = bench.member(&["--instance", "one"]);
    let output = again.child.wait_with_output().expect("it ends, for its name is taken");
    assert_refused(&Output { stdout: Vec::new(), ..output }, 1, "FENCED_INSTANCE_ID");
    bench.produce("t", 0, [2]);
    while other.next() != "0 2" {}
    other.stop("-INT");
}

#[test]
fn a_reset_is_shown_first_and_is_for_groups_without_members() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t", "-p", "2"]);
    bench.produce("t", 0, 0..10);
    bench.produce("t", 1, 0..4);
    assert_refused(
        &bench.run(&["group", "reset", "g", "--to-latest", "--yes"]),
        3,
        "no such group",
    );
    bench.ok(&["consume", "t", "-g", "g", "-e"]);
    let offsets = |rows: &Value, column: &str| -> Vec<i64> {
        let rows = rows.as_array().expect("a list").iter();
        rows.map(|row| row[column].as_i64().expect("an offset")).collect()
    };
    let stored = || offsets(&bench.json(&["group", "lag", "g"]), "offset");

    let dry = bench.json(&["group", "reset", "g", "--shift-by", "-6", "--dry-run"]);
    assert_eq!((offsets(&dry, "before"), offsets(&dry, "after")), (vec![10, 4], vec![4, 0]));
    assert_eq!(stored(), [10, 4], "nothing was stored");
    assert_refused(&bench.run(&["group", "reset", "g", "--to-earliest"]), 2, "add --yes");
    for (arguments, after) in [
        (&["--shift-by", "-6"][..], [4, 0]),
        (&["--to-latest"], [10, 4]),
        (&["--to-offset", "7"], [7, 4]),
        (&["--to-earliest", "--topic", "t:1"], [7, 0]),
        (&["--to", "-1h"], [0, 0]),
        (&["--to-datetime", "2100-01-01"], [10, 4]),
        (&["--to", "start"], [0, 0]),
    ] {
        bench.ok(&[&["group", "reset", "g", "--yes"], arguments].concat());
        assert_eq!(stored(), after, "{arguments:?}");
    }
    assert_eq!(bench.ok(&["consume", "t", "-g", "g", "-e"]).lines().count(), 14);

    let member = bench.member(&[]);
    bench.wait_for("joined", |group| group["state"] == "Stable");
    let refused = bench.run(&["group", "reset", "g", "--to-earliest", "--yes"]);
    assert_refused(&refused, 1, "its state is Stable");
    member.stop("-INT");
}

#[test]
fn a_group_is_deleted_once_it_has_no_members() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    bench.produce("t", 0, [0]);
    let mut member = bench.member(&[]);
    assert_eq!(member.next(), "0 0");
    assert_refused(&bench.run(&["group", "delete", "g", "--yes"]), 1, "NON_EMPTY_GROUP");
    member.stop("-INT");
    bench.ok(&["group", "delete", "g", "--yes"]);
    assert_refused(&bench.run(&["group", "delete", "g", "--yes"]), 3, "GROUP_ID_NOT_FOUND");
    assert_refused(&bench.run(&["group", "describe", "g"]), 3, "no such group");
    assert_eq!(bench.ok(&["group", "list", "-o", "json"]).trim(), "[]");
}

#[test]
fn a_member_outlives_its_broker() {
    let directory = support::Directory::new();
    let path = directory.path().to_str().expect("a temporary path is text").to_owned();
    let start = |listen: &str| Broker::start_on(listen, &["--data-dir", &path, "--set", AT_ONCE]);
    let mut bench = Bench { broker: start("127.0.0.1:0") };
    let address = bench.broker.address("listen").to_owned();
    bench.ok(&["topic", "create", "t"]);
    bench.produce("t", 0, [0]);
    let mut member = bench.member(&[]);
    assert_eq!(member.next(), "0 0");
    for (value, signal) in [(1, "-TERM"), (2, "-KILL")] {
        bench.broker.signal(signal);
        bench.broker.wait();
        bench.broker = start(&address);
        bench.produce("t", 0, [value]);
        let line = member.next();
        // After a kill it may be given what it has printed and not stored.
        assert!(line == format!("0 {value}"), "{line}");
    }
    assert_eq!(member.stop("-INT"), [""; 0]);
    assert_eq!(bench.json(&["group", "lag", "g"])[0]["lag"], 0);
}
