//! The brokers that are measured beside each other.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainspring_core::wire::api::metadata::{MetadataRequest, MetadataRequestTopic};

use crate::bench::{Plan, Row};
use crate::broker::{Broker, Folder, Serve, root, terminate, wait};
use crate::checks::Outcome;
use crate::client::{Client, batch};

/// One broker, as it is asked to store.
pub(super) struct Arm {
    /// What it is called in the table.
    pub(super) name: &'static str,
    /// Where it listens.
    pub(super) address: String,
    /// Whether what was written can be read.
    pub(super) stores: bool,
    settings: &'static [(&'static str, &'static str)],
    makes_by_itself: bool,
}

impl Arm {
    /// Makes a topic with one partition, as far as the broker knows how.
    pub(super) fn make_topic(&self, topic: &str) -> Outcome {
        self.make_partitions(topic, 1)
    }

    /// Makes a topic with so many partitions, where the broker makes none by itself.
    pub(super) fn make_partitions(&self, topic: &str, count: i32) -> Outcome {
        let mut client = Client::connect(&self.address)?;
        if !self.makes_by_itself {
            client.create_topic(topic, count, self.settings)?;
        }
        // Whoever makes topics when they are first asked for is asked until a leader is there.
        let asked = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![asked]), ..MetadataRequest::default() };
        for _ in 0..200 {
            let answer = client.call(&request, 12)?;
            let found = answer.topics.first().map_or(&[][..], |topic| &topic.partitions);
            if !found.is_empty() && found.iter().all(|partition| partition.leader_id >= 0) {
                std::thread::sleep(Duration::from_millis(50));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{}: no leader for {topic}", self.name))
    }

    /// Deletes a topic, if the broker can.
    pub(super) fn drop_topic(&self, topic: &str) {
        if !self.makes_by_itself {
            let deleted =
                Client::connect(&self.address).and_then(|mut client| client.delete_topic(topic));
            if let Err(problem) = deleted {
                eprintln!("{}: {problem}", self.name);
            }
        }
    }
}

/// All brokers, running.
pub(super) struct Arms {
    all: Vec<Arm>,
    ours: Vec<Broker>,
    others: Vec<Peer>,
    folder: Folder,
}

/// A broker that is not ours.
struct Peer {
    child: Child,
    startup: Option<Duration>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        terminate(&self.child);
        if wait(&mut self.child, Duration::from_secs(15)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Arms {
    /// Starts ours, and the peers that are there.
    pub(super) fn start() -> Outcome<Self> {
        let folder = Folder::new();
        let mut arms = Vec::new();
        let mut ours = Vec::new();
        let mut others = Vec::new();
        for (name, settings) in
            [("mainspring", &[][..]), ("mainspring, lazy", &[("mainspring.flush", "lazy")][..])]
        {
            let own = folder.path().join(name.replace(", ", "-"));
            std::fs::create_dir_all(&own).map_err(|error| error.to_string())?;
            let broker = Serve::within(&own).start()?;
            let address = broker.address.clone();
            ours.push(broker);
            arms.push(Arm { name, address, stores: true, settings, makes_by_itself: false });
        }
        match null_broker() {
            Ok((peer, address)) => {
                let name = "limit: broker that stores nothing (librdkafka's mock)";
                let settings = &[][..];
                arms.push(Arm { name, address, stores: false, settings, makes_by_itself: true });
                others.push(peer);
            }
            Err(reason) => eprintln!("skipped: null broker: {reason}"),
        }
        for (name, flush) in
            [("Apache Kafka 4.3, as shipped", false), ("Apache Kafka 4.3, flushing", true)]
        {
            match kafka(&folder.path().join(name.replace([',', ' ', '.'], "-")), flush) {
                Ok((peer, address)) => {
                    let settings = &[][..];
                    arms.push(Arm {
                        name,
                        address,
                        stores: true,
                        settings,
                        makes_by_itself: false,
                    });
                    others.push(peer);
                }
                Err(reason) => eprintln!("skipped: {name}: {reason}"),
            }
        }
        let arms = Self { all: arms, ours, others, folder };
        arms.warm_up()?;
        Ok(arms)
    }

    /// Returns the arms, ours first.
    pub(super) fn all(&self) -> &[Arm] {
        &self.all
    }

    /// Lets each broker write for a while, since a cold JVM is half as fast.
    fn warm_up(&self) -> Outcome {
        let values = vec![bytes::Bytes::from(vec![b'x'; 1024]); 64];
        let sealed = batch(&values, None);
        for arm in &self.all {
            arm.make_topic("warm-up")?;
            super::saturate(arm, "warm-up", &sealed, Duration::from_secs(4))?;
            arm.drop_topic("warm-up");
        }
        Ok(())
    }

    /// Start-up, restart after kill -9, and memory.
    pub(super) fn life(&self, plan: &Plan) -> Outcome<Vec<Row>> {
        let mut memory = Row::new("resident after the rows above", "MB");
        for broker in &self.ours {
            memory.add("mainspring", resident(broker.pid()));
        }
        let mut start = Row::new("start to ready, empty directory", "ms");
        let mut idle = Row::new("resident, idle, empty directory", "MB");
        let mut again = Row::new("start to ready after kill -9, 256 MiB written", "ms");
        for round in 0..plan.rounds {
            let own = self.folder.path().join(format!("life-{round}"));
            std::fs::create_dir_all(&own).map_err(|error| error.to_string())?;
            let serve = Serve::within(&own);
            let began = Instant::now();
            let broker = serve.start()?;
            start.add("mainspring", began.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(Duration::from_millis(500));
            idle.add("mainspring", resident(broker.pid()));
            let mut client = Client::connect(&broker.address)?;
            client.create_topic("t", 1, &[])?;
            let values = vec![bytes::Bytes::from(vec![b'x'; 1024]); 1024];
            let sealed = batch(&values, None);
            for _ in 0..256 {
                client.produce("t", 0, sealed.clone())?;
            }
            broker.kill();
            let began = Instant::now();
            let broker = serve.start()?;
            again.add("mainspring", began.elapsed().as_secs_f64() * 1e3);
            drop(broker);
            let _ = std::fs::remove_dir_all(&own);
        }
        for (arm, peer) in self.all.iter().skip(self.ours.len()).zip(&self.others) {
            memory.add(arm.name, resident(peer.child.id()));
            if let Some(startup) = peer.startup {
                start.add(arm.name, startup.as_secs_f64() * 1e3);
            }
        }
        Ok(vec![start, again, idle, memory])
    }
}

/// Returns the resident memory of a process in MB.
pub(super) fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0 / 1e6)
}

fn null_broker() -> Outcome<(Peer, String)> {
    let mut child = Command::new(root().join("target/venv/bin/python"))
        .arg(root().join("tools/compat/mock_broker.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{error}; `cargo xtask test --only clients` sets it up"))?;
    let pipe = child.stdout.take().expect("standard output was asked for");
    let mut line = String::new();
    BufReader::new(pipe).read_line(&mut line).map_err(|error| error.to_string())?;
    let address = line.trim().replace("localhost", "127.0.0.1");
    let peer = Peer { child, startup: None };
    if address.is_empty() { Err("it did not start".to_owned()) } else { Ok((peer, address)) }
}

/// Starts Apache Kafka from the folder of jars that `HARNESS_KAFKA_LIBS` names.
fn kafka(folder: &std::path::Path, flush: bool) -> Outcome<(Peer, String)> {
    let libs = std::env::var_os("HARNESS_KAFKA_LIBS").map(PathBuf::from);
    let libs = libs.ok_or("HARNESS_KAFKA_LIBS names no folder of its jars")?;
    let text = |error: std::io::Error| error.to_string();
    std::fs::create_dir_all(folder).map_err(text)?;
    let (port, controller) = (free_port()?, free_port()?);
    let mut properties = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}/data\noffsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         num.network.threads=2\nnum.io.threads=2\n",
        folder.display()
    );
    if flush {
        properties += "log.flush.interval.messages=1\n";
    }
    let file = folder.join("server.properties");
    std::fs::write(&file, properties).map_err(text)?;
    let java = || {
        let mut java = Command::new("java");
        java.env("CLASSPATH", libs.join("*"))
            .args(["-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        java
    };
    let format = java()
        .args(["kafka.tools.StorageTool", "format", "-t", "rqVQ1dq2TjyKJYBMU0oZLw", "-c"])
        .arg(&file)
        .status()
        .map_err(text)?;
    if !format.success() {
        return Err(format!("its format tool ended with {format}"));
    }
    let began = Instant::now();
    let child = java().arg("kafka.Kafka").arg(&file).spawn().map_err(text)?;
    let mut peer = Peer { child, startup: None };
    let address = format!("127.0.0.1:{port}");
    while began.elapsed() < Duration::from_mins(1) {
        let answer = Client::connect(&address).and_then(|mut client| client.metadata(None));
        if answer.is_ok_and(|answer| !answer.brokers.is_empty()) {
            peer.startup = Some(began.elapsed());
            return Ok((peer, address));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("it did not serve within a minute".to_owned())
}

fn free_port() -> Outcome<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}
