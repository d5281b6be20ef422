//! Wrong use, and commands that fail: the right exit code, one line on standard error, and nothing
//! but data on standard output.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::broker::{Folder, Serve, binary};
use crate::checks::{Checks, Outcome, ensure};
use crate::client::Client;

/// Runs all of them.
pub(crate) fn run(checks: &mut Checks) {
    let folder = Folder::new();
    configuration(checks, folder.path());
    directories(checks, folder.path());
    without_a_broker(checks, folder.path());
    with_a_broker(checks);
}

/// Runs the command with standard input at its end.
fn call(arguments: &[&str], input: &[u8]) -> Outcome<Output> {
    let mut child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut pipe = child.stdin.take().expect("standard input was asked for");
    // A command that refuses at once does not read its input.
    let _ = pipe.write_all(input);
    drop(pipe);
    child.wait_with_output().map_err(|error| error.to_string())
}

/// Checks the code and the one line of a command that fails.
fn fails(checks: &mut Checks, arguments: &[&str], code: i32, words: &[&str]) {
    let name = format!("`mainspring {}` ends with {code} and one line", arguments.join(" "));
    checks.note(&name, call(arguments, b"").and_then(|output| judge(&output, code, words)));
}

fn judge(output: &Output, code: i32, words: &[&str]) -> Outcome<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(code), || format!("{}: {said}", output.status))?;
    // Log lines begin with their time; what is for the user begins with the command's name.
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("20")).collect();
    ensure(lines.len() == 1, || format!("{} lines: {said}", lines.len()))?;
    ensure(lines[0].starts_with("mainspring: "), || said.to_string())?;
    ensure(!said.contains("panicked"), || said.to_string())?;
    ensure(output.stdout.is_empty(), || "data on standard output".to_owned())?;
    for word in words {
        ensure(lines[0].contains(word), || format!("{word:?} is not in: {}", lines[0]))?;
    }
    Ok(String::new())
}

fn configuration(checks: &mut Checks, folder: &Path) {
    let data = folder.join("config-data").to_string_lossy().into_owned();
    let missing = folder.join("missing.toml").to_string_lossy().into_owned();
    let serve = ["serve", "--data-dir", &data, "--console", "off", "--check-config"];
    let with = |more: &[&'static str]| -> Vec<String> {
        serve.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let cases: [(&[&'static str], &[&str]); 5] = [
        (&["--set", "log.retention.mz=1"], &["log.retention.ms"]),
        (&["--set", "log.retention.ms=soon"], &["log.retention.ms", "number"]),
        (&["--listen", "0.0.0.0:0"], &["--insecure"]),
        (&["--listen", "127.0.0.1:99999"], &["--listen", "port"]),
        (&["--bogus"], &["--bogus", "--help"]),
    ];
    for (more, words) in cases {
        let arguments = with(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        fails(checks, &arguments, 2, words);
    }
    fails(checks, &["serve", "--config", &missing, "--check-config"], 3, &["missing.toml"]);
    checks.note("--check-config makes no data directory", {
        ensure(!folder.join("config-data").exists(), || "it did".to_owned()).map(|()| String::new())
    });
}

fn directories(checks: &mut Checks, folder: &Path) {
    let file = folder.join("a-file");
    let made = File::create(&file).map(drop).map_err(|error| error.to_string());
    let file = file.to_string_lossy().into_owned();
    if let Err(error) = made {
        return checks.note("a file in place of the directory", Err(error));
    }
    let common = ["--listen", "127.0.0.1:0", "--console", "off", "--data-dir"];
    let serve = |data: &'static str| -> Vec<&str> {
        ["serve"].into_iter().chain(common).chain([data]).collect()
    };
    let arguments: Vec<&str> = ["serve"].into_iter().chain(common).chain([&*file]).collect();
    fails(checks, &arguments, 1, &["directory"]);
    fails(checks, &serve("/proc/nowhere"), 1, &["/proc/nowhere"]);

    checks.note("a second process on the directory is refused and changes nothing", {
        let serve = Serve::within(folder);
        serve.start().and_then(|first| {
            let data = serve.data.to_string_lossy().into_owned();
            let arguments: Vec<&str> =
                ["serve"].into_iter().chain(common).chain([&*data]).collect();
            let detail = call(&arguments, b"").and_then(|output| judge(&output, 1, &[&data]))?;
            let mut client = Client::connect(&first.address)?;
            client.create_topic("still-there", 1, &[])?;
            Ok(detail)
        })
    });
}

fn without_a_broker(checks: &mut Checks, folder: &Path) {
    let nobody = ["--bootstrap", "127.0.0.1:1"];
    let with =
        |words: &[&'static str]| -> Vec<&str> { words.iter().copied().chain(nobody).collect() };
    for command in [
        &["topic", "list"][..],
        &["topic", "create", "t"],
        &["topic", "describe", "t"],
        &["consume", "t", "--until-end"],
    ] {
        fails(checks, &with(command), 1, &["127.0.0.1:1", "mainspring serve"]);
    }
    fails(checks, &["frobnicate"], 2, &["frobnicate"]);
    fails(checks, &["log", "verify", &folder.join("none").to_string_lossy()], 3, &["none"]);
    fails(checks, &["log", "dump", &folder.join("none.txt").to_string_lossy()], 2, &["none.txt"]);
}

fn with_a_broker(checks: &mut Checks) {
    let folder = Folder::new();
    let broker = match Serve::within(folder.path()).start() {
        Ok(broker) => broker,
        Err(problem) => return checks.note("commands beside a broker", Err(problem)),
    };
    let at = ["--bootstrap", &broker.address];
    let with = |words: &[&'static str]| -> Vec<String> {
        words.iter().copied().chain(at).map(str::to_owned).collect()
    };
    let cases: [(&[&'static str], i32, &[&str]); 6] = [
        (&["topic", "describe", "nosuch"], 3, &["nosuch"]),
        (&["topic", "delete", "nosuch", "--yes"], 3, &["nosuch"]),
        (&["topic", "create", "t", "--partitions", "0"], 2, &["partitions"]),
        (&["topic", "create", "t", "--replication", "5"], 1, &["replica"]),
        (&["topic", "create", "a/b"], 2, &["a/b"]),
        (&["consume", "nosuch", "--until-end"], 3, &["nosuch"]),
    ];
    for (words, code, said) in cases {
        let arguments = with(words);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        fails(checks, &arguments, code, said);
    }
    checks.note("what produce sends, consume prints, and the counts agree", {
        let lines = (0..1000)
            .fold(String::new(), |lines, number| lines + "line " + &number.to_string() + "\n");
        let produce = with(&["produce", "lines"]);
        let produce: Vec<&str> = produce.iter().map(String::as_str).collect();
        call(&produce, lines.as_bytes()).and_then(|sent| {
            ensure(sent.status.success(), || String::from_utf8_lossy(&sent.stderr).into_owned())?;
            let consume = with(&["consume", "lines", "--until-end", "-o", "start"]);
            let consume: Vec<&str> = consume.iter().map(String::as_str).collect();
            let read = call(&consume, b"")?;
            ensure(read.status.success(), || String::from_utf8_lossy(&read.stderr).into_owned())?;
            let read = String::from_utf8_lossy(&read.stdout).into_owned();
            ensure(read == lines, || format!("{} of 1000 lines came back", read.lines().count()))?;
            Ok(String::new())
        })
    });
    checks.note("a full standard output is an error, not a silence", {
        File::options().write(true).open("/dev/full").map_err(|error| error.to_string()).and_then(
            |full| {
                let arguments = with(&["consume", "lines", "--until-end", "-o", "start"]);
                let output = Command::new(binary())
                    .args(arguments)
                    .stdin(Stdio::null())
                    .stdout(full)
                    .stderr(Stdio::piped())
                    .output()
                    .map_err(|error| error.to_string())?;
                judge(&output, 1, &[])
            },
        )
    });
    checks.note("a broker that is killed in the middle of produce shows in its exit code", {
        let arguments = with(&["produce", "lines", "--timeout", "2"]);
        killed_in_the_middle(&arguments, broker)
    });
}

fn killed_in_the_middle(arguments: &[String], broker: crate::broker::Broker) -> Outcome<String> {
    let mut child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut pipe = child.stdin.take().expect("standard input was asked for");
    let mut broker = Some(broker);
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut number = 0;
    while Instant::now() < deadline {
        // It may give up and close its end; its exit code tells.
        if writeln!(pipe, "line {number}").is_err() {
            break;
        }
        number += 1;
        if number == 500
            && let Some(broker) = broker.take()
        {
            broker.kill();
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    drop(pipe);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let code = output.status.code().unwrap_or_default();
    ensure(code == 1 || code == 4, || format!("it ended with {}", output.status))?;
    judge(&output, code, &[])
}
