//! The command `serve` as a process: how it starts, refuses, stops, and what it says.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::{Broker, Directory, assert_refused, listing, mainspring, run};

#[test]
fn the_ready_line_names_addresses_that_work() {
    let directory = Directory::new();
    let broker = Broker::start(&directory.path().join("data"));
    assert_eq!(broker.ready["event"], "ready");
    assert_eq!(broker.ready["node_id"], 1);
    assert_eq!(broker.ready["cluster_id"].as_str().expect("it is text").len(), 22);
    assert!(broker.ready["recovery_ms"].is_u64());
    TcpStream::connect(broker.address("listen")).expect("clients can connect");
    assert!(broker.http("/healthz").starts_with("HTTP/1.1 200"));
    assert!(broker.http("/readyz").starts_with("HTTP/1.1 200"));
    assert!(broker.http("/metrics").contains("\nmainspring_ready 1\n"));
    assert!(broker.http("/nothing").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_clean_stop_keeps_the_cluster_and_frees_the_directory() {
    let directory = Directory::new();
    let mut first = Broker::start(directory.path());
    first.signal("-TERM");
    assert_eq!(first.wait(), Some(0));
    let mut second = Broker::start(directory.path());
    assert_eq!(first.ready["cluster_id"], second.ready["cluster_id"]);
    second.signal("-INT");
    assert_eq!(second.wait(), Some(0));
}

#[test]
fn a_stop_is_not_held_up_by_connections_that_say_nothing() {
    let directory = Directory::new();
    let mut broker = Broker::start(directory.path());
    let idle: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(broker.address("listen")).expect("clients can connect"))
        .collect();
    let mut half = TcpStream::connect(broker.address("listen")).expect("clients can connect");
    half.write_all(&[0, 0, 0, 50, 0, 18]).expect("it is connected");
    broker.signal("-TERM");
    assert_eq!(broker.wait(), Some(0));
    drop(idle);
}

#[test]
fn a_killed_broker_starts_again() {
    let directory = Directory::new();
    let mut cluster = None;
    for _ in 0..5 {
        let mut broker = Broker::start(directory.path());
        let id = broker.ready["cluster_id"].as_str().expect("it is text").to_owned();
        assert_eq!(*cluster.get_or_insert_with(|| id.clone()), id);
        broker.signal("-KILL");
        assert_eq!(broker.wait(), None);
    }
}

#[test]
fn a_second_process_on_a_directory_is_refused_before_it_touches_anything() {
    let directory = Directory::new();
    let broker = Broker::start(directory.path());
    // Halted, it writes nothing of its own in between.
    broker.signal("-STOP");
    let before = listing(directory.path());
    let path = directory.path().to_str().expect("a temporary path is text");
    let arguments = ["serve", "--data-dir", path, "--listen", "127.0.0.1:0", "--console", "off"];
    let output = run(&arguments, directory.path());
    let after = listing(directory.path());
    broker.signal("-CONT");
    assert_refused(&output, 1, &format!("in use by process {}", broker.child.id()));
    assert_eq!(after, before);
}

#[test]
fn an_address_in_use_is_told_and_nothing_is_left_behind() {
    let directory = Directory::new();
    let broker = Broker::start_with(&["--memory"]);
    for (flag, other, taken) in [
        ("--listen", "--console", broker.address("listen")),
        ("--console", "--listen", broker.address("console")),
    ] {
        let path = directory.path().join("data");
        let path = path.to_str().expect("a temporary path is text");
        let arguments = ["serve", "--data-dir", path, flag, taken, other, "127.0.0.1:0"];
        assert_refused(&run(&arguments, directory.path()), 1, taken);
        let left = fs::read_dir(path).map_or(0, |entries| {
            entries.filter(|entry| entry.as_ref().is_ok_and(|e| e.file_name() != ".lock")).count()
        });
        assert_eq!(left, 0, "{flag}");
    }
}

#[test]
fn a_node_in_memory_opens_no_file() {
    let directory = Directory::new();
    let output = mainspring(&["serve", "--memory", "--listen", "127.0.0.1:0", "--console", "off"]);
    let mut output = output;
    let mut child = output
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the broker starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it says that it is ready");
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{}/fd", child.id()))
        .expect("it runs")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.is_file())
        .collect();
    child.kill().expect("it runs");
    child.wait().expect("it is our child");
    assert!(line.contains(r#""console":null"#), "{line}");
    assert!(open.is_empty(), "{open:?}");
    assert!(listing(directory.path()).is_empty());
}

#[test]
fn wrong_use_is_one_line_with_what_to_do_next() {
    let directory = Directory::new();
    fs::write(directory.path().join("bad.toml"), "\"log.retention.mz\" = 1\n")
        .expect("it is written");
    fs::write(directory.path().join("file"), "x").expect("it is written");
    let cases: [(&[&str], i32, &str); 11] = [
        (&["serve", "--lisen", "x"], 2, "did you mean --listen?"),
        (&["srve"], 2, "did you mean serve?"),
        (&["serve", "--listen", "9092"], 2, "is not HOST:PORT"),
        (&["serve", "--set", "log.retention.ms"], 2, "has no ="),
        (&["serve", "--set", "log.retention.ms=soon"], 2, "log.retention.ms"),
        (&["serve", "--set", "min.insync.replica=1"], 2, "did you mean min.insync.replicas?"),
        (&["serve", "--config", "none.toml"], 3, "none.toml"),
        (&["serve", "--config", "bad.toml"], 2, "did you mean log.retention.ms?"),
        (&["serve", "--listen", "0.0.0.0:0"], 2, "--insecure"),
        (&["serve", "--memory", "--data-dir", "x"], 2, "leave one of them out"),
        (
            &["serve", "--data-dir", "file", "--console", "off", "--listen", "127.0.0.1:0"],
            1,
            "file",
        ),
    ];
    for (arguments, code, says) in cases {
        assert_refused(&run(arguments, directory.path()), code, says);
    }
    assert_eq!(listing(directory.path()).len(), 2, "nothing was made");
}

#[test]
fn a_configuration_is_checked_without_starting_anything() {
    let directory = Directory::new();
    fs::write(directory.path().join("mainspring.toml"), "num.partitions = 7\n")
        .expect("it is written");
    let output = run(&["serve", "--check-config", "--set", "log.retention.ms=5"], directory.path());
    assert_eq!(output.status.code(), Some(0));
    let config: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(config["settings"]["num.partitions"], "7");
    assert_eq!(config["settings"]["log.retention.ms"], "5");
    assert_eq!(listing(directory.path()).len(), 1);
}

#[test]
fn foreign_things_in_the_directory_are_left_alone() {
    let directory = Directory::new();
    let path = directory.path();
    for name in ["lost+found", ".snapshot", "t-0.bak", "t-x", "-0", "t-99999999999", "t-0"] {
        fs::create_dir(path.join(name)).expect("it is made");
    }
    for name in [".DS_Store", "aquota.user", "notes.txt"] {
        fs::write(path.join(name), name).expect("it is written");
    }
    std::os::unix::fs::symlink("/etc", path.join("u-0")).expect("it is made");
    let fifo = path.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is there").success());
    let before = listing(path);
    for _ in 0..2 {
        let mut broker = Broker::start(path);
        broker.signal("-TERM");
        assert_eq!(broker.wait(), Some(0));
    }
    let after = listing(path);
    for entry in before {
        assert!(after.contains(&entry), "{entry} is gone");
    }
    assert_eq!(fs::read_to_string(path.join("notes.txt")).expect("it is there"), "notes.txt");
}
