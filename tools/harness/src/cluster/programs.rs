//! Producers that are programs of their own: lines go in, and their exit code says whether every line was
//! acknowledged.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::broker::{binary, root, wait};
use crate::checks::{Outcome, ensure};
use crate::load::value_of;

/// How long a program may take for its last answers.
const LAST_ANSWERS: Duration = Duration::from_mins(1);

/// A program that sends what it is given to one partition.
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    feed: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    given: AtomicU64,
}

impl Program {
    /// Starts `mainspring produce`.
    pub(crate) fn own(bootstrap: &str, topic: &str, partition: i32) -> Outcome<Self> {
        let mut command = Command::new(binary());
        command.args(["produce", topic, "-p", &partition.to_string(), "--bootstrap", bootstrap]);
        command.args(["--timeout", "120"]);
        Self::start("mainspring produce", command)
    }

    /// Starts a program over librdkafka, by the interpreter that [`interpreter`] has found.
    pub(crate) fn librdkafka(
        python: PathBuf,
        bootstrap: &str,
        topic: &str,
        partition: i32,
    ) -> Outcome<Self> {
        let mut command = Command::new(python);
        command.arg(root().join("tools/compat/steady_producer.py"));
        command.args([bootstrap, topic, &partition.to_string()]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Self::start("librdkafka's producer", command)
    }

    fn start(name: &'static str, mut command: Command) -> Outcome<Self> {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = started.map_err(|error| format!("{name}: {error}"))?;
        let pipe = child.stdin.take().expect("standard input was asked for");
        let shared = Arc::new(Shared::default());
        let inner = Arc::clone(&shared);
        let feed = std::thread::spawn(move || feed(pipe, &inner));
        Ok(Self { name, child, feed: Some(feed), shared })
    }

    /// Returns whether it has ended before its time.
    pub(crate) fn gave_up(&mut self) -> bool {
        wait(&mut self.child, Duration::ZERO).is_some()
    }

    /// Ends its input, waits until everything is acknowledged, and returns how many records that is.
    pub(crate) fn finish(&mut self) -> Outcome<u64> {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(feed) = self.feed.take() {
            feed.join().map_err(|_| "a feeder panicked".to_owned())?;
        }
        let name = self.name;
        let ended = wait(&mut self.child, LAST_ANSWERS);
        let status = ended.ok_or_else(|| format!("{name} still waits after {LAST_ANSWERS:?}"))?;
        ensure(status.success(), || format!("{name} ended with {status}"))?;
        Ok(self.shared.given.load(Ordering::SeqCst))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives a line every millisecond or two.
fn feed(mut pipe: ChildStdin, shared: &Shared) {
    while !shared.stop.load(Ordering::SeqCst) {
        let number = shared.given.load(Ordering::SeqCst);
        let mut line = value_of(number).to_vec();
        line.push(b'\n');
        if pipe.write_all(&line).is_err() {
            return;
        }
        shared.given.store(number + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the interpreter of the environment in which the client programs run, where it has librdkafka.
pub(crate) fn interpreter() -> Option<PathBuf> {
    let python = root().join("target/venv/bin/python");
    let asked = Command::new(&python)
        .args(["-c", "import confluent_kafka"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success()).then_some(python)
}
