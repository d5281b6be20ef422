//! The broker as a process: started, stopped, killed, and asked what it said.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::checks::Outcome;

/// Longest time that a start may take before it counts as hung.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("the manifest lies in tools/harness").to_path_buf()
}

/// Returns the built broker, or what the environment names in its place.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("HARNESS_BROKER").map(PathBuf::from);
    named.unwrap_or_else(|| root().join("target/world/mainspring"))
}

/// A folder on a real disk that goes away with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes an empty one.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = root().join(format!("target/harness/{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the target directory is writable");
        Self(path)
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a broker is started.
#[derive(Clone)]
pub(crate) struct Serve {
    /// Its data directory.
    pub(crate) data: PathBuf,
    /// Where its standard error goes.
    pub(crate) log: PathBuf,
    /// Arguments besides the data directory and the listener.
    pub(crate) arguments: Vec<String>,
    /// Where it listens for clients.
    pub(crate) listen: String,
    /// Variables of its environment.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Serve {
    /// Starts brokers on a data directory inside `folder`.
    pub(crate) fn within(folder: &Path) -> Self {
        Self {
            data: folder.join("data"),
            log: folder.join("log"),
            arguments: vec!["--console".into(), "off".into()],
            listen: "127.0.0.1:0".into(),
            environment: Vec::new(),
        }
    }

    /// Adds settings, `KEY=VALUE`.
    #[must_use]
    pub(crate) fn set(mut self, settings: &[&str]) -> Self {
        for setting in settings {
            self.arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
        }
        self
    }

    /// Adds a variable of the environment.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Starts the process without waiting for anything.
    pub(crate) fn spawn(&self) -> Outcome<Child> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| format!("{}: {error}", self.log.display()))?;
        let mut command = Command::new(binary());
        command.arg("serve").arg("--data-dir").arg(&self.data).args(["--listen", &self.listen]);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        started.map_err(|error| format!("cannot start {}: {error}", binary().display()))
    }

    /// Starts a broker and waits until it says that it serves.
    pub(crate) fn start(&self) -> Outcome<Broker> {
        self.launch()?.ready(READY_LIMIT)
    }

    /// Starts a broker, which may take its time until it serves.
    pub(crate) fn launch(&self) -> Outcome<Starting> {
        let mut child = self.spawn()?;
        let pipe = child.stdout.take().expect("standard output was asked for");
        let (send, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(pipe).read_line(&mut line);
            let _ = send.send(line);
        });
        let (address, ready) = (String::new(), Value::Null);
        let broker = Broker { child, address, ready, log: self.log.clone() };
        Ok(Starting { broker, first_line })
    }
}

/// A broker that has been started and has not said yet that it serves.
pub(crate) struct Starting {
    broker: Broker,
    first_line: mpsc::Receiver<String>,
}

impl Starting {
    /// Waits until it serves.
    pub(crate) fn ready(self, limit: Duration) -> Outcome<Broker> {
        let Self { mut broker, first_line } = self;
        let line = first_line.recv_timeout(limit).unwrap_or_default();
        broker.ready = serde_json::from_str(&line).unwrap_or_default();
        broker.address = broker.ready["listen"].as_str().unwrap_or_default().to_owned();
        if broker.ready["event"] == "ready" && !broker.address.is_empty() {
            return Ok(broker);
        }
        let ended = broker.wait(Duration::from_secs(1));
        Err(format!("no ready line ({line:?}, {ended:?}); it said: {}", broker.said()))
    }
}

/// A running broker, killed when it is dropped.
pub(crate) struct Broker {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
    /// Its ready line.
    pub(crate) ready: Value,
    log: PathBuf,
}

impl Broker {
    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop, and returns how it ended and after how long.
    pub(crate) fn stop(mut self, limit: Duration) -> Outcome<(ExitStatus, Duration)> {
        let start = Instant::now();
        self.terminate();
        let status = self.wait(limit);
        status.map(|status| (status, start.elapsed())).ok_or_else(|| {
            format!("still running {limit:?} after SIGTERM; it said: {}", self.said())
        })
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        terminate(&self.child);
    }

    /// Holds it still, as SIGSTOP does, until [`resume`](Self::resume).
    pub(crate) fn pause(&self) {
        signal(&self.child, Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        signal(&self.child, Signal::CONT);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, limit)
    }

    /// Returns the end of what it wrote to standard error.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends SIGTERM to a child.
pub(crate) fn terminate(child: &Child) {
    signal(child, Signal::TERM);
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits for the end of a child.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
