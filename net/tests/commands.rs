//! The client commands as processes: what they print, and how they fail.

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use support::{Broker, Directory, assert_refused, mainspring};

/// A broker and a directory in which commands run.
struct Bench {
    directory: Directory,
    broker: Broker,
}

impl Bench {
    fn new() -> Self {
        Self { directory: Directory::new(), broker: Broker::start_with(&["--memory"]) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = mainspring(arguments);
        command.current_dir(self.directory.path());
        command.env("MAINSPRING_BOOTSTRAP", self.broker.address("listen"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the command runs")
    }

    /// Runs a command that must succeed and say nothing on standard error; returns what it printed.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*error), (Some(0), ""), "{arguments:?}");
        String::from_utf8(output.stdout).expect("it is text")
    }

    /// Returns the values of a topic as readers of committed records see them.
    fn committed(&self, topic: &str) -> String {
        self.ok(&["consume", topic, "-e", "--isolation", "read_committed"])
    }

    fn feed(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.spawn(arguments);
        let mut stdin = child.stdin.take().expect("it is piped");
        // A command that fails stops reading.
        let _ = stdin.write_all(input);
        drop(stdin);
        child.wait_with_output().expect("the command runs")
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs")
    }
}

fn numbered(count: u32, line: impl Fn(u32) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().concat()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_topic_is_made_described_changed_and_deleted() {
    let bench = Bench::new();
    assert_eq!(bench.ok(&["topic", "list"]).trim(), "NAME  PARTITIONS  REPLICAS");
    let made =
        bench.ok(&["topic", "create", "t", "-p", "3", "-c", "retention.ms=5000", "-o", "json"]);
    let made = json(&made);
    assert_eq!((&made[0]["name"], &made[0]["partitions"]), (&"t".into(), &3.into()));
    bench.ok(&["topic", "alter", "t", "--partitions", "4", "--config", "segment.bytes=2000000"]);
    bench.ok(&["topic", "alter", "t", "--delete-config", "retention.ms"]);
    let described = json(&bench.ok(&["topic", "describe", "t", "-o", "json"]));
    assert_eq!(described[0]["partitions"].as_array().expect("a list").len(), 4);
    assert_eq!(described[0]["partitions"][3]["end_offset"], 0);
    assert_eq!(described[0]["configs"], serde_json::json!({"segment.bytes": "2000000"}));
    let listed = bench.ok(&["topic", "list", "-o", "jsonl"]);
    assert_eq!(json(listed.trim())["name"], "t");
    assert!(bench.ok(&["topic", "describe", "t"]).contains("segment.bytes=2000000"));
    // Nobody can be asked here, and the records do not come back.
    assert_refused(&bench.run(&["topic", "delete", "t"]), 2, "add --yes");
    assert!(bench.ok(&["topic", "list"]).contains("t "));
    bench.ok(&["topic", "delete", "t", "--yes"]);
    assert_eq!(bench.ok(&["topic", "list", "-o", "json"]).trim(), "[]");
}

#[test]
fn records_come_back_as_they_were_sent() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    let lines: String = numbered(1000, |i| format!("k{}\tvalue {i}\n", i % 7));
    fs::write(bench.directory.path().join("lines"), &lines).expect("it is written");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        bench.ok(&["produce", "t", "--file", "lines", "-f", r"%k\t%s", "-z", codec]);
    }
    let read = bench.ok(&["consume", "t", "--until-end", "-f", r"%k\t%s\n"]);
    assert_eq!(read, lines.repeat(5));
    assert_eq!(bench.ok(&["consume", "t", "-e", "-n", "2", "-f", "%o,"]), "0,1,");
    assert_eq!(bench.ok(&["consume", "t", "-e", "-o", "-2", "-f", "%p@%o,"]), "0@4998,0@4999,");
    assert_eq!(bench.ok(&["consume", "t", "-e", "-o", "4999", "-f", "%s"]), "value 999");
    assert_eq!(bench.ok(&["consume", "t", "-e", "-o", "end"]), "");
    assert_eq!(bench.ok(&["consume", "t", "-e", "-o", "@1000", "-n", "1", "-f", "%o"]), "0");
    assert_eq!(bench.ok(&["consume", "t", "-e", "-o", "@2100-01-01"]), "");
}

#[test]
fn a_record_has_its_key_headers_and_partition() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t", "--partitions", "3"]);
    let arguments = ["produce", "t", "-k", "key", "-H", "a=1", "-H", "a=2", "-p", "2"];
    for acks in ["all", "1", "0"] {
        let output = bench.feed(&[&arguments[..], &["--acks", acks]].concat(), b"one\n\nlast");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let printed = bench.ok(&["consume", "t", "-e", "--json"]);
    let records: Vec<_> = printed.lines().map(json).collect();
    assert_eq!(records.len(), 9);
    assert_eq!(records[1]["value"], "");
    let last = &records[8];
    assert_eq!((&last["partition"], &last["key"]), (&2.into(), &"key".into()));
    assert_eq!(last["headers"][1], serde_json::json!({"name": "a", "value": "2"}));
    assert!(last["timestamp"].as_i64().is_some_and(|millis| millis > 1_700_000_000_000));
}

#[test]
fn until_end_ends_also_where_some_partitions_are_empty() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t", "--partitions", "5"]);
    assert_eq!(bench.ok(&["consume", "t", "-e"]), "");
    bench.feed(&["produce", "t", "-p", "3"], b"x\n");
    assert_eq!(bench.ok(&["consume", "t", "-e", "-f", "%p:%s"]), "3:x");
    assert_eq!(bench.ok(&["consume", "t", "-e", "-p", "0,3", "-f", "%p:%s"]), "3:x");
}

#[test]
fn what_follows_is_printed_as_it_comes() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    let mut reader = bench.spawn(&["consume", "t", "-n", "3"]);
    let mut printed = BufReader::new(reader.stdout.take().expect("it is piped"));
    let mut writer = bench.spawn(&["produce", "t"]);
    let mut input: ChildStdin = writer.stdin.take().expect("it is piped");
    for word in ["one\n", "two\n", "three\n"] {
        input.write_all(word.as_bytes()).expect("the command reads");
        let mut line = String::new();
        printed.read_line(&mut line).expect("the command prints");
        assert_eq!(line, word);
    }
    drop(input);
    assert!(writer.wait().expect("it ends").success());
    assert!(reader.wait().expect("it ends").success());
}

#[test]
fn wrong_use_and_what_is_not_there_have_codes_of_their_own() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    let cases: [(&[&str], i32, &str); 52] = [
        (&["topic", "create", "t"], 1, "TOPIC_ALREADY_EXISTS"),
        (&["topic", "create", "u", "--partitions", "0"], 2, "--partitions 0 is less than 1"),
        (&["topic", "create", "u", "--replication", "5"], 1, "INVALID_REPLICATION_FACTOR"),
        (&["topic", "create", "a/b"], 2, "a/b"),
        (&["topic", "create", "u", "-c", "retention.mz=1"], 1, "retention.ms"),
        (&["topic", "create", "u", "-c", "nothing"], 2, "has no ="),
        (&["topic", "alter", "t"], 2, "nothing to change"),
        (&["topic", "alter", "t", "--partitions", "1"], 1, "INVALID_PARTITIONS"),
        (&["topic", "alter", "none", "--partitions", "2"], 3, "none"),
        (&["topic", "describe", "none"], 3, "none"),
        (&["topic", "delete", "none", "--yes"], 3, "none"),
        (&["consume", "none", "-e"], 3, "none"),
        (&["consume", "t", "-e", "-p", "7"], 3, "no partition 7"),
        (&["consume", "t", "-e", "-o", "yesterday"], 2, "yesterday"),
        (&["consume", "t", "-n", "1", "-o", "99"], 1, "OFFSET_OUT_OF_RANGE"),
        (&["consume", "t", "-f", "%q"], 2, "%q means nothing"),
        (&["consume", "none", "-g", "g"], 3, "none"),
        (&["consume", "t", "-g", "g", "-o", "7"], 2, "goes on from its stored offsets"),
        (&["consume", "t", "-g", "g", "-p", "0"], 2, "cannot be used with"),
        (&["consume", "t", "-g", "g", "--assignor", "fair"], 2, "fair"),
        (&["group", "reset", "g"], 2, "--to-earliest"),
        (&["group", "reset", "g", "--to-earliest", "--to-latest"], 2, "cannot be used with"),
        (&["group", "reset", "g", "--to", "yesterday"], 2, "yesterday"),
        (&["group", "reset", "g", "--to-datetime", "soon"], 2, "soon"),
        (&["group", "delete", "g"], 2, "add --yes"),
        (&["produce", "t", "--file", "missing"], 3, "missing"),
        (&["produce", "t", "-f", "%k"], 2, "no %s"),
        (&["produce", "t", "--acks", "2"], 2, "2"),
        (&["produce", "t", "-b", "nowhere"], 2, "is not HOST:PORT"),
        (&["produce", "t", "--txn", "--acks", "1"], 2, "needs all acknowledgements"),
        (&["produce", "t", "--txn", "--txn-timeout", "0"], 2, "above 0"),
        (&["produce", "t", "--txn", "--txn-timeout", "90000"], 1, "INVALID_TRANSACTION_TIMEOUT"),
        (&["produce", "t", "--batch", "3"], 2, "--txn"),
        (&["txn", "list", "--state", "Open"], 2, "choose among Empty, Ongoing"),
        (&["txn", "list", "--pattern", "("], 1, "INVALID_REGULAR_EXPRESSION"),
        (&["produce", "t", "--delay", "soon"], 2, "1h30m"),
        (&["produce", "t", "--at", "tomorrow"], 2, "Unix milliseconds"),
        (&["produce", "t", "--delay", "5m", "--at", "0"], 2, "cannot be used with"),
        (&["produce", "t", "--delay", "5m"], 1, "lacks schedule"),
        (&["produce", "none", "--delay", "5m"], 3, "none"),
        (&["schedule", "list", "none"], 3, "none"),
        (&["schedule", "list", "t", "--before", "soon"], 2, "+1h30m"),
        (&["schedule", "show", "t"], 2, "P@TICKET"),
        (&["schedule", "show", "t", "17"], 2, "0@17"),
        (&["schedule", "show", "t", "9@17"], 3, "partition 9"),
        (&["schedule", "show", "t", "0@17"], 3, "schedule list t"),
        (&["schedule", "show", "t", "--id", "n"], 3, "nothing of this name"),
        (&["schedule", "cancel", "t", "0@17"], 2, "add --yes"),
        (&["schedule", "cancel", "t", "0@17", "--yes"], 3, "schedule list t"),
        (&["schedule", "reschedule", "t", "0@17"], 2, "--delay"),
        (&["txn", "half", "--commit", "0@17"], 2, "one topic"),
        (&["txn", "half", "t", "--rollback", "0@17"], 2, "add --yes"),
    ];
    for (arguments, code, says) in cases {
        assert_refused(&bench.run(arguments), code, says);
    }
}

#[test]
fn an_error_is_json_where_the_output_is() {
    let bench = Bench::new();
    let output = bench.run(&["topic", "describe", "none", "-o", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let error = json(&String::from_utf8(output.stderr).expect("it is text"));
    assert_eq!(error["error"]["code"], 3);
    assert!(error["error"]["next"].as_str().is_some_and(|next| !next.is_empty()));
}

#[test]
fn without_a_broker_every_command_says_so() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = free.local_addr().expect("it is bound").to_string();
    drop(free);
    for (arguments, input) in every_command() {
        let output = with_broker(&arguments, &address, input);
        assert_refused(&output, 1, &format!("cannot reach a broker at {address}"));
    }
}

#[test]
fn a_broker_that_never_answers_is_a_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it is bound").to_string();
    for (mut arguments, input) in every_command() {
        arguments.extend(["--timeout", "0.3"]);
        let output = with_broker(&arguments, &address, input);
        assert_refused(&output, 4, "");
    }
}

fn every_command() -> Vec<(Vec<&'static str>, &'static [u8])> {
    vec![
        (vec!["topic", "list"], b""),
        (vec!["topic", "create", "t"], b""),
        (vec!["topic", "describe", "t"], b""),
        (vec!["topic", "alter", "t", "--partitions", "2"], b""),
        (vec!["topic", "delete", "t", "--yes"], b""),
        (vec!["produce", "t"], b"line\n"),
        (vec!["produce", "t", "--txn"], b"line\n"),
        (vec!["consume", "t"], b""),
        (vec!["consume", "t", "-g", "g"], b""),
        (vec!["group", "list"], b""),
        (vec!["group", "describe", "g"], b""),
        (vec!["group", "lag", "g"], b""),
        (vec!["group", "reset", "g", "--to-earliest", "--yes"], b""),
        (vec!["group", "delete", "g", "--yes"], b""),
        (vec!["schedule", "list"], b""),
        (vec!["schedule", "show", "t", "0@1"], b""),
        (vec!["schedule", "cancel", "t", "--id", "n", "--yes"], b""),
        (vec!["schedule", "deliver-now", "t", "0@1"], b""),
        (vec!["schedule", "reschedule", "t", "0@1", "--delay", "1h"], b""),
        (vec!["txn", "half"], b""),
        (vec!["txn", "half", "t", "--commit", "0@1"], b""),
    ]
}

fn with_broker(arguments: &[&str], address: &str, input: &[u8]) -> Output {
    let mut child = mainspring(arguments)
        .env("MAINSPRING_BOOTSTRAP", address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    // Most commands read nothing.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("the command runs")
}

#[test]
fn a_record_that_is_too_large_is_told_with_its_number() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    let mut input = b"fine\n".to_vec();
    input.extend(vec![b'x'; 3 << 20]);
    let output = bench.feed(&["produce", "t", "-p", "0"], &input);
    assert_refused(&output, 1, "number 2");
    assert_eq!(bench.ok(&["consume", "t", "-e"]), "fine\n");
}

#[test]
fn a_broker_killed_in_the_middle_is_told_with_what_was_acknowledged() {
    let mut bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    let mut writer = bench.spawn(&["produce", "t", "--timeout", "2"]);
    let mut input = writer.stdin.take().expect("it is piped");
    for index in 0..500 {
        writeln!(input, "line {index}").expect("the command reads");
    }
    input.flush().expect("the command reads");
    // What was read back was acknowledged.
    assert_eq!(bench.ok(&["consume", "t", "-n", "500", "-f", "%o\n"]).lines().count(), 500);
    bench.broker.child.kill().expect("it runs");
    for index in 500..1000 {
        // The command stops reading once it has failed.
        let _ = writeln!(input, "line {index}");
    }
    drop(input);
    let output = writer.wait_with_output().expect("the command runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 4)), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("only 500 of 1000 records were acknowledged"), "{text}");
    assert!(text.contains("from record 501 on"), "{text}");
}

#[test]
fn lines_of_a_transaction_count_together_and_not_before_its_end() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    let mut writer = bench.spawn(&["produce", "t", "--txn"]);
    let mut input = writer.stdin.take().expect("it is piped");
    input.write_all(b"one\ntwo\n").expect("the command reads");
    assert_eq!(bench.ok(&["consume", "t", "-n", "2"]), "one\ntwo\n");
    assert_eq!(bench.committed("t"), "");
    drop(input);
    assert!(writer.wait().expect("it ends").success());
    assert_eq!(bench.committed("t"), "one\ntwo\n");
    assert_eq!(
        bench.ok(&["consume", "t", "-g", "g", "-e", "--isolation", "read_committed"]),
        "one\ntwo\n"
    );
}

#[test]
fn a_signal_and_a_line_that_is_wrong_abort_the_transaction() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    let mut writer = bench.spawn(&["produce", "t", "--txn", "--txn-id", "mine"]);
    let mut input = writer.stdin.take().expect("it is piped");
    input.write_all(b"one\n").expect("the command reads");
    assert_eq!(bench.ok(&["consume", "t", "-n", "1"]), "one\n");
    let id = writer.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill is there").success());
    let output = writer.wait_with_output().expect("it ends");
    assert_refused(
        &output,
        1,
        "stopped by SIGINT: the transaction was aborted, its record does not count",
    );
    let described = json(&bench.ok(&["txn", "describe", "mine", "-o", "json"]));
    assert_eq!(described[0]["state"], "CompleteAbort");

    let by_two = ["produce", "t", "--txn", "--batch", "2", "-f", r"%k\t%s"];
    let output = bench.feed(&by_two, b"k\ttwo\nk\tthree\nk\tfour\nfive\n");
    assert_refused(&output, 1, "cannot send line 4");
    assert_refused(&output, 1, "the transaction was aborted, its record does not count");
    assert_refused(&output, 1, "2 records were committed before, send from record 3 on");
    let output = bench.feed(&["produce", "t", "--txn", "-p", "7", "--timeout", "1"], b"six\n");
    assert_refused(&output, 3, "the transaction was aborted");
    assert_refused(&output, 3, "the topic has no such partition");
    assert_eq!(bench.committed("t"), "two\nthree\n");
}

#[test]
fn whoever_holds_readers_back_is_named() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    assert!(bench.feed(&["produce", "t"], b"before\n").status.success());
    let mut writer = bench.spawn(&["produce", "t", "--txn", "--txn-id", "etl-1"]);
    let mut input = writer.stdin.take().expect("it is piped");
    input.write_all(b"one\ntwo\n").expect("the command reads");
    assert_eq!(bench.ok(&["consume", "t", "-n", "3", "-f", "%o,"]), "0,1,2,");
    let described = bench.ok(&["topic", "describe", "t"]);
    assert!(described.contains("the transaction of etl-1 (producer"), "{described}");
    assert!(described.contains("is open since offset 1;"), "{described}");
    let described = json(&bench.ok(&["topic", "describe", "t", "-o", "json"]));
    let partition = &described[0]["partitions"][0];
    assert_eq!(
        (&partition["end_offset"], &partition["last_stable_offset"]),
        (&3.into(), &1.into())
    );
    let producer = partition["held_by"]["producer_id"].as_i64().expect("somebody").to_string();
    let metrics = bench.broker.http("/metrics");
    let lag =
        "mainspring_partition_last_stable_offset_lag{topic=\"t\",partition=\"0\",producer_id=";
    assert!(metrics.contains(&format!("{lag}\"{producer}\"}} 2\n")), "{metrics}");

    let list = |filters: &[&str]| bench.ok(&[&["txn", "list", "-o", "json"], filters].concat());
    let with = ["--state", "Ongoing", "--producer", &producer, "--pattern", "etl-[0-9]"];
    assert_eq!(json(&list(&with))[0]["transactional_id"], "etl-1");
    for without in
        [["--state", "Empty"], ["--producer", "77"], ["--older-than", "600"], ["--pattern", "etl"]]
    {
        assert_eq!(list(&without).trim(), "[]", "{without:?}");
    }
    drop(input);
    assert!(writer.wait().expect("it ends").success());
    let described = json(&bench.ok(&["topic", "describe", "t", "-o", "json"]));
    let partition = &described[0]["partitions"][0];
    assert_eq!(
        (&partition["end_offset"], &partition["last_stable_offset"]),
        (&4.into(), &4.into())
    );
    assert!(partition["held_by"].is_null());
    let metrics = bench.broker.http("/metrics");
    assert!(!metrics.contains(lag) && metrics.contains("mainspring_txn_held_partitions 0\n"));
}

#[test]
fn a_transaction_that_was_open_for_too_long_is_told_as_such() {
    let bench = Bench::new();
    for (id, rest, says) in [
        ("silent", &b""[..], "s, longer than the 0.5 s of --txn-timeout"),
        ("late", b"two\n", "open for longer than the 0.5 s of --txn-timeout, or another"),
    ] {
        bench.ok(&["topic", "create", id]);
        let flags = ["produce", id, "--txn", "--txn-id", id, "--txn-timeout", "0.5"];
        let mut writer = bench.spawn(&flags);
        let mut input = writer.stdin.take().expect("it is piped");
        input.write_all(b"one\n").expect("the command reads");
        assert_eq!(bench.ok(&["consume", id, "-n", "1"]), "one\n");
        while bench.ok(&["txn", "describe", id, "-o", "json"]).contains("\"Ongoing\"") {}
        input.write_all(rest).expect("the command reads");
        drop(input);
        let output = writer.wait_with_output().expect("the command runs");
        assert_refused(&output, 1, says);
        assert_refused(&output, 1, "commit more often with --batch");
        assert_refused(&output, 1, "the transaction was aborted");
        assert_eq!(bench.committed(id), "");
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    let lines: String = numbered(100_000, |i| format!("line {i}\n"));
    assert!(bench.feed(&["produce", "t"], lines.as_bytes()).status.success());
    let mut child = bench.spawn(&["consume", "t", "-e"]);
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("it is piped"))
        .read_line(&mut first)
        .expect("it prints");
    assert_eq!(first, "line 0\n");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let bench = Bench::new();
    bench.ok(&["topic", "create", "t"]);
    assert!(bench.feed(&["produce", "t"], b"x\n").status.success());
    for arguments in [&["topic", "list"][..], &["consume", "t", "-e"], &["topic", "describe", "t"]]
    {
        let full = File::options().write(true).open("/dev/full").expect("the system has it");
        let output = bench.command(arguments).stdout(full).output().expect("the command runs");
        assert_refused(&output, 1, "No space left on device");
    }
}

#[test]
fn the_files_of_a_log_are_shown_and_checked_without_a_broker() {
    let directory = Directory::new();
    let path = directory.path().to_str().expect("a temporary path is text");
    let mut broker = Broker::start(directory.path());
    let bootstrap = broker.address("listen").to_owned();
    assert!(with_broker(&["topic", "create", "t"], &bootstrap, b"").status.success());
    assert!(
        with_broker(&["produce", "t", "-k", "key"], &bootstrap, b"one\ntwo\n").status.success()
    );
    broker.signal("-TERM");
    assert_eq!(broker.wait(), Some(0));

    let verified = mainspring(&["log", "verify", path, "-o", "json"]).output().expect("it runs");
    assert!(verified.status.success(), "{verified:?}");
    let reports = json(&String::from_utf8_lossy(&verified.stdout));
    let report = reports
        .as_array()
        .expect("a list")
        .iter()
        .find(|report| report["partition"] == "t-0")
        .expect("the partition is there");
    assert_eq!((&report["records"], &report["end_offset"]), (&2.into(), &2.into()));

    let segment = directory.path().join("t-0/00000000000000000000.log");
    let dumped = dump(&segment);
    assert!(dumped.contains("payload: two"), "{dumped}");
    let mut bytes = fs::read(&segment).expect("it is there");
    let last = bytes.len() - 1;
    bytes[last] ^= 0x40;
    fs::write(&segment, bytes).expect("it is written");
    let verified = mainspring(&["log", "verify", path]).output().expect("it runs");
    assert_eq!(verified.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&verified.stdout).contains("t-0/00000000000000000000.log at"));
}

fn dump(segment: &Path) -> String {
    let segment = segment.to_str().expect("a temporary path is text");
    let output = mainspring(&["log", "dump", segment, "--records"]).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it is text")
}

#[test]
fn a_benchmark_tells_what_was_stored_and_read_and_what_the_machine_can_do() {
    let bench = Bench::new();
    let measure = |arguments: &[&str]| -> serde_json::Value {
        let fixed = ["bench", arguments[0], "--duration", "1", "--size", "100", "--json"];
        let output = bench.ok(&[&fixed[..], &arguments[1..]].concat());
        serde_json::from_str(&output).expect("one object")
    };
    let produced = measure(&["produce"]);
    let stored = produced["records"].as_u64().expect("a number");
    assert!(stored > 0 && produced["latency_us"]["p99"].as_u64() > Some(0), "{produced}");
    assert!(produced["limits"]["loopback_mb_per_s"].as_u64() > Some(0), "{produced}");

    let consumed = measure(&["consume"]);
    let read = consumed["records"].as_u64().expect("a number");
    // A record that warms up comes before them; a slow machine may not come to the end.
    assert!(read > 0 && read <= stored + 1, "{read} of {stored}");

    let told = measure(&["e2e", "--rate", "200"]);
    let count = told["records"].as_u64().expect("a number");
    assert!((1..=201).contains(&count), "{told}");
    assert!(told["latency_us"]["p50"].as_u64() > Some(0), "{told}");
}
