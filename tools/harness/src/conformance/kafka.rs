//! Apache Kafka as a process, on a fresh directory: one node that is broker and controller.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{GROUP_SETTINGS, SETTINGS, until_coordinated};
use crate::broker::{Folder, terminate, wait};
use crate::checks::Outcome;
use crate::client::{Client, batch};

/// Longest time from its start to a produced record.
const READY_LIMIT: Duration = Duration::from_mins(2);

const LOGGING: &str = "Configuration: {Appenders: {Console: {name: E, target: SYSTEM_ERR, \
    PatternLayout: {pattern: \"[%d] %p %m (%c)%n\"}}}, Loggers: {Root: {level: WARN, \
    AppenderRef: {ref: E}}}}";

/// A running node of Kafka, stopped when it is dropped.
pub(super) struct Kafka {
    child: Child,
    /// Where it listens.
    pub(super) address: String,
    _folder: Folder,
}

impl Kafka {
    /// Starts one from the jars in `libs` and waits until it serves.
    pub(super) fn start(libs: &Path) -> Outcome<Self> {
        let folder = Folder::new();
        let (broker, controller) = (free_port()?, free_port()?);
        let properties = folder.path().join("server.properties");
        let logging = folder.path().join("log4j2.yaml");
        let data = folder.path().join("data");
        let write = |path: &PathBuf, text: &str| {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        write(&logging, LOGGING)?;
        write(&properties, &settings(broker, controller, &data))?;
        let java = || {
            let mut java = Command::new("java");
            java.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
                .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
                .arg("-cp")
                .arg(format!("{}/*", libs.display()))
                .stdin(Stdio::null());
            java
        };
        let format = java()
            .args(["kafka.tools.StorageTool", "format", "-t", "mainspring-conformancA", "-c"])
            .arg(&properties)
            .output()
            .map_err(|error| format!("java: {error}"))?;
        if !format.status.success() {
            let said = [format.stdout, format.stderr].concat();
            return Err(format!("format: {}", String::from_utf8_lossy(&said)));
        }
        let log_path = folder.path().join("log");
        let log = File::create(&log_path).map_err(|error| error.to_string())?;
        let second = log.try_clone().map_err(|error| error.to_string())?;
        let child = java()
            .arg("kafka.Kafka")
            .arg(&properties)
            .stdout(log)
            .stderr(second)
            .spawn()
            .map_err(|error| format!("java: {error}"))?;
        let address = format!("127.0.0.1:{broker}");
        let mut kafka = Self { child, address, _folder: folder };
        kafka.until_ready().map_err(|problem| {
            let said = std::fs::read_to_string(&log_path).unwrap_or_default();
            let end: String =
                said.chars().rev().take(2000).collect::<Vec<_>>().into_iter().rev().collect();
            format!("{problem}; it said: {end}")
        })?;
        until_coordinated(&kafka.address)?;
        Ok(kafka)
    }

    fn until_ready(&mut self) -> Outcome {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let problem = match self.usable() {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            };
            if wait(&mut self.child, Duration::ZERO).is_some() || Instant::now() > deadline {
                return Err(format!("Kafka cannot be used: {problem}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether a record can be produced and a producer id is given.
    fn usable(&self) -> Outcome {
        let mut client = Client::connect(&self.address)?;
        if !client.topics()?.contains(&"warm-up".to_owned()) {
            client.create_topic("warm-up", 1, &[])?;
        }
        let answer = client.produce("warm-up", 0, batch(&[Bytes::from_static(b"x")], None))?;
        if answer.error_code != 0 {
            return Err(format!("produce: error {}", answer.error_code));
        }
        client.init_producer_id()?;
        Ok(())
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        terminate(&self.child);
        if wait(&mut self.child, Duration::from_secs(20)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn settings(broker: u16, controller: u16, data: &Path) -> String {
    let common = [&SETTINGS[..], &GROUP_SETTINGS[..]].concat().join("\n");
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=100
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=16777216
log.roll.ms=9223372036854775807
{common}",
        data.display()
    )
}
