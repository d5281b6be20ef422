//! Brokers and commands as processes, for the tests that need them.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The bound that the contract gives; everything here takes far less.
const STOPPING: Duration = Duration::from_secs(10);

pub(crate) fn mainspring(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainspring"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MAINSPRING_") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn run(arguments: &[&str], directory: &Path) -> Output {
    mainspring(arguments).current_dir(directory).output().expect("the command runs")
}

/// Asserts that a command failed with a code and exactly one line of three parts.
pub(crate) fn assert_refused(output: &Output, code: i32, says: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(output.stdout.is_empty(), "data only on standard output");
    assert_eq!(text.lines().count(), 1, "{text}");
    let line = text.trim_end();
    assert!(line.starts_with("mainspring: ") && line.contains("; "), "{line}");
    assert!(line.contains(says), "{line}");
    assert!(!line.contains("panicked"), "{line}");
}

/// A broker that runs, killed when dropped.
pub(crate) struct Broker {
    pub(crate) child: Child,
    pub(crate) ready: serde_json::Value,
}

impl Broker {
    pub(crate) fn start(data_dir: &Path) -> Self {
        let data_dir = data_dir.to_str().expect("a temporary path is text");
        Self::start_with(&["--data-dir", data_dir])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", arguments)
    }

    pub(crate) fn start_on(listen: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", listen, "--console", "127.0.0.1:0"];
        all.extend(arguments);
        let mut child = mainspring(&all)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it says that it is ready");
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line:?}"));
        Self { child, ready }
    }

    pub(crate) fn address(&self, name: &str) -> &str {
        self.ready[name].as_str().expect("it is an address")
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().expect("kill is there");
        assert!(status.success());
    }

    /// Waits for the end and returns the exit code.
    #[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            assert!(since.elapsed() < STOPPING, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Asks the console for a path and returns the whole answer.
    pub(crate) fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address("console")).expect("the console is open");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already, as the test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names of all that is below a directory, links not followed.
pub(crate) fn listing(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).expect("it is readable") {
        let path = entry.expect("it is readable").path();
        names.push(path.display().to_string());
        if path.is_dir() && !path.is_symlink() {
            names.extend(listing(&path));
        }
    }
    names.sort();
    names
}

pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mainspring-serve-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory for the test is made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
