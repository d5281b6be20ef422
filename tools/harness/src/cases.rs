//! Cases that users of such systems met, in a small form: counts and order are checked, times only
//! as a bound against hanging.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainspring_core::ids::Uuid;
use mainspring_core::wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic};
use mainspring_core::wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::broker::{Broker, Folder, Serve, terminate, wait};
use crate::checks::{Checks, Outcome, ensure};
use crate::client::{Client, batch, fetch_request};
use crate::load::{Address, Writer};

/// Runs all of them.
pub(crate) fn run(checks: &mut Checks) {
    checks.note("every shape of Fetch is answered (C017)", every_fetch_is_answered());
    checks.note("retention.bytes keeps at least that much (C027)", retention_keeps_enough());
    checks.note("foreign things in the data directory stay (C039)", foreign_things_stay());
    checks.note("SIGTERM ends it within ten seconds (C052)", stops_in_time());
    checks.note("SIGTERM before it is ready ends it too (C052)", stops_while_starting());
    match SmallDisk::mount() {
        Err(reason) => checks.skip("a disk that is low says so (C072)", &reason),
        Ok(disk) => checks.note("a disk that is low says so (C072)", low_disk_speaks(&disk)),
    }
}

fn every_fetch_is_answered() -> Outcome<String> {
    const WAIT_MS: i32 = 100;
    let folder = Folder::new();
    let broker = Serve::within(folder.path()).start()?;
    let mut client = Client::connect(&broker.address)?;
    client.create_topic("t", 3, &[("max.message.bytes", "4194304")])?;
    let small = batch(&[Bytes::from_static(b"small")], None);
    let large = batch(&[vec![b'x'; 2 << 20].into()], None);
    let large_size = large.len();
    for (partition, bytes) in [(0, small), (1, large)] {
        let answer = client.produce("t", partition, bytes)?;
        ensure(answer.error_code == 0, || format!("produce: error {}", answer.error_code))?;
    }
    let metadata = client.metadata(Some(&["t"]))?;
    let topic_id = metadata.topics.first().ok_or("no metadata")?.topic_id;
    let bound = Duration::from_millis(WAIT_MS as u64) + Duration::from_secs(5);
    let mut answered = 0;
    for version in [4, 11, 12, 13, 17] {
        // Partition, offset, most bytes of the partition, least and most bytes of the answer, wait.
        let shapes = [
            (vec![(0, 1)], 1 << 20, 1, 1 << 20, WAIT_MS),
            (vec![(0, 0), (9, 0)], 1 << 20, 1, 1 << 20, WAIT_MS),
            (vec![(0, 0)], 1 << 20, 1, 1, WAIT_MS),
            (vec![(2, 0)], 1 << 20, 1, 1 << 20, 0),
            (vec![(0, 0)], 1 << 20, 1 << 20, 1 << 20, WAIT_MS),
            (vec![(1, 0)], 1024, 1, 1 << 20, WAIT_MS),
            (vec![(0, 77)], 1 << 20, 1, 1 << 20, WAIT_MS),
        ];
        for (partitions, partition_max_bytes, min_bytes, max_bytes, max_wait_ms) in shapes {
            let topic = FetchTopic {
                topic: "t".into(),
                topic_id,
                partitions: partitions
                    .iter()
                    .map(|(partition, offset)| FetchPartition {
                        partition: *partition,
                        fetch_offset: *offset,
                        partition_max_bytes,
                        ..FetchPartition::default()
                    })
                    .collect(),
            };
            let topics = vec![topic];
            let request = FetchRequest {
                max_wait_ms,
                min_bytes,
                max_bytes,
                topics,
                ..FetchRequest::default()
            };
            let start = Instant::now();
            let answer = client.call(&request, version)?;
            ensure(start.elapsed() < bound, || format!("{:?} for {request:?}", start.elapsed()))?;
            let found: Vec<_> =
                answer.responses.iter().flat_map(|topic| &topic.partitions).collect();
            ensure(found.len() == partitions.len(), || format!("v{version}: {answer:?}"))?;
            // A first batch that is larger than every limit comes whole (KIP-74).
            if partitions[0] == (1, 0) {
                let size = found[0].records.as_ref().map_or(0, mainspring_core::wire::Parts::len);
                ensure(size >= large_size, || format!("v{version}: {size} of {large_size} bytes"))?;
            }
            if partitions[0] == (0, 77) {
                ensure(found[0].error_code == 1, || format!("v{version}: {:?}", found[0]))?;
            }
            answered += 1;
        }
        if version >= 13 {
            let topic = FetchTopic {
                topic_id: Uuid([7; 16]),
                partitions: vec![FetchPartition::default()],
                ..FetchTopic::default()
            };
            let topics = vec![topic];
            let request = FetchRequest { max_wait_ms: 30_000, topics, ..FetchRequest::default() };
            let start = Instant::now();
            client.call(&request, version)?;
            ensure(start.elapsed() < bound, || "an unknown topic id waits".to_owned())?;
            answered += 1;
        }
    }
    for _ in 0..1000 {
        client.fetch("t", 2, 0, 0)?;
        answered += 1;
    }
    Ok(format!("{answered} fetches"))
}

fn retention_keeps_enough() -> Outcome<String> {
    const MIB: u64 = 1 << 20;
    let folder = Folder::new();
    let broker =
        Serve::within(folder.path()).set(&["log.retention.check.interval.ms=200"]).start()?;
    let mut client = Client::connect(&broker.address)?;
    let settings = [("segment.bytes", "1048576"), ("retention.bytes", "5242880")];
    client.create_topic("t", 1, &settings)?;
    for _ in 0..160 {
        let answer = client.produce("t", 0, batch(&[vec![b'x'; 64 << 10].into()], None))?;
        ensure(answer.error_code == 0, || format!("produce: error {}", answer.error_code))?;
    }
    // A segment goes only if what remains still reaches the limit, so one more may stay.
    let first = settle(&mut client, 5 * MIB, 6 * MIB + MIB / 4)?;
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configs: vec![AlterableConfig {
            name: "retention.bytes".into(),
            config_operation: 0,
            value: Some("3145728".into()),
        }],
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = client.call(&request, 1)?;
    let code = answer.responses.first().map_or(-1, |response| response.error_code);
    ensure(code == 0, || format!("the change was refused: error {code}"))?;
    let second = settle(&mut client, 3 * MIB, 4 * MIB + MIB / 4)?;
    Ok(format!("{first} bytes, later {second}"))
}

/// Waits until what a partition holds lies between two bounds, and checks that it never falls below.
fn settle(client: &mut Client, least: u64, most: u64) -> Outcome<u64> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let start = client.start_of("t", 0)?;
        let log = match client.read("t", 0, start) {
            Ok(log) => log,
            // The start may have moved in between.
            Err(_) if Instant::now() < deadline => continue,
            Err(problem) => return Err(problem),
        };
        ensure(log.bytes >= least, || format!("{} bytes are left of {least}", log.bytes))?;
        let contiguous = log.records.iter().zip(start..).all(|((offset, _), want)| *offset == want);
        ensure(contiguous, || "offsets are not contiguous".to_owned())?;
        if log.bytes <= most {
            return Ok(log.bytes);
        }
        ensure(Instant::now() < deadline, || format!("still {} bytes, not {most}", log.bytes))?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn foreign_things_stay() -> Outcome<String> {
    let folder = Folder::new();
    let serve = Serve::within(folder.path());
    let text = |error: std::io::Error| error.to_string();
    for name in ["lost+found", ".snapshot", "t-0.bak", "t-x", "-0", "t-99999999999", "c-0"] {
        std::fs::create_dir_all(serve.data.join(name)).map_err(text)?;
    }
    for name in [".DS_Store", "aquota.user", "notes.txt", "lost+found/inode"] {
        std::fs::write(serve.data.join(name), name).map_err(text)?;
    }
    std::os::unix::fs::symlink("/nowhere", serve.data.join("u-0")).map_err(text)?;
    let fifo = Command::new("mkfifo").arg(serve.data.join("pipe")).status().map_err(text)?;
    ensure(fifo.success(), || "mkfifo failed".to_owned())?;
    let before = names(&serve.data)?;

    let broker = serve.start()?;
    let mut client = Client::connect(&broker.address)?;
    ensure(client.topics()?.is_empty(), || "a topic was invented".to_owned())?;
    client.create_topic("t", 1, &[])?;
    for number in 0..10 {
        let answer = client.produce("t", 0, batch(&[format!("{number}").into()], None))?;
        ensure(answer.error_code == 0, || format!("produce: error {}", answer.error_code))?;
    }
    broker.stop(Duration::from_secs(10))?;
    for name in ["00000000000000000000.log~", ".nfs0001"] {
        std::fs::write(serve.data.join("t-0").join(name), name).map_err(text)?;
    }
    let broker = serve.start()?;
    let mut client = Client::connect(&broker.address)?;
    let topics = client.topics()?;
    ensure(topics == ["t"], || format!("topics after a restart: {topics:?}"))?;
    let log = client.read("t", 0, 0)?;
    ensure(log.records.len() == 10, || format!("{} records", log.records.len()))?;
    client.delete_topic("t")?;
    broker.stop(Duration::from_secs(10))?;
    let after = names(&serve.data)?;
    for name in &before {
        ensure(after.contains(name), || format!("{name} is gone"))?;
    }
    let note = std::fs::read_to_string(serve.data.join("notes.txt")).map_err(text)?;
    ensure(note == "notes.txt", || "notes.txt was changed".to_owned())?;
    Ok(format!("{} names", before.len()))
}

fn names(folder: &Path) -> Outcome<Vec<String>> {
    let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn stops_in_time() -> Outcome<String> {
    const ROUNDS: u64 = 3;
    let folder = Folder::new();
    let serve = Serve::within(folder.path());
    let address = Address::default();
    let mut broker = serve.start()?;
    address.set(&broker.address);
    let mut client = Client::connect(&broker.address)?;
    client.create_topic("t", 200, &[])?;
    let mut writers: Vec<Writer> =
        (0..8).map(|partition| Writer::start(&address, "t", partition, 7)).collect();
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let idle = busy_connections(&broker)?;
        std::thread::sleep(Duration::from_millis(300));
        let acknowledged: Vec<u64> = writers.iter().map(Writer::acknowledged).collect();
        let (status, took) = broker.stop(Duration::from_secs(10))?;
        ensure(status.success(), || format!("round {round}: it ended with {status}"))?;
        slowest = slowest.max(took);
        drop(idle);
        broker = serve.start()?;
        address.set(&broker.address);
        let mut client = Client::connect(&broker.address)?;
        for (writer, acknowledged) in writers.iter().zip(acknowledged) {
            writer.verify(&mut client, acknowledged, 0)?;
        }
    }
    for writer in &mut writers {
        writer.finish()?;
    }
    Ok(format!("{ROUNDS} rounds, slowest {} ms", slowest.as_millis()))
}

/// Opens connections that make stopping hard: parked fetches, answers that nobody reads, half a frame.
fn busy_connections(broker: &Broker) -> Outcome<Vec<Client>> {
    let mut clients = Vec::new();
    for number in 0..40 {
        let mut client = Client::connect(&broker.address)?;
        client.send(&fetch_request("t", 100 + number, 0, 30_000), crate::client::FETCH)?;
        clients.push(client);
    }
    let mut deaf = Client::connect(&broker.address)?;
    for _ in 0..50 {
        // The broker stops reading from a peer that reads nothing, so the sends may stop short.
        if deaf.send(&fetch_request("t", 0, 0, 0), crate::client::FETCH).is_err() {
            break;
        }
    }
    clients.push(deaf);
    let mut half = Client::connect(&broker.address)?;
    half.raw(&[0, 0, 1, 0, 0, 3])?;
    clients.push(half);
    Ok(clients)
}

fn stops_while_starting() -> Outcome<String> {
    let folder = Folder::new();
    let serve = Serve::within(folder.path());
    serve.start()?.stop(Duration::from_secs(10))?;
    for delay in [0, 2, 5, 10, 20] {
        let mut child = serve.spawn()?;
        std::thread::sleep(Duration::from_millis(delay));
        terminate(&child);
        let Some(status) = wait(&mut child, Duration::from_secs(10)) else {
            let _ = child.kill();
            return Err(format!("still running 10 s after a SIGTERM at {delay} ms"));
        };
        // Before its handler stands the signal ends the process as it ends any other.
        let ended = status.success() || status.code().is_none();
        ensure(ended, || format!("SIGTERM at {delay} ms: {status}"))?;
    }
    serve.start()?.stop(Duration::from_secs(10))?;
    Ok(String::new())
}

/// A file system of 64 MiB in memory.
struct SmallDisk(Folder);

impl SmallDisk {
    fn mount() -> Outcome<Self> {
        let folder = Folder::new();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "none"])
            .arg(folder.path())
            .output()
            .map_err(|error| error.to_string())?;
        if mount.status.success() {
            return Ok(Self(folder));
        }
        Err(format!("no small disk: {}", String::from_utf8_lossy(&mount.stderr).trim()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn low_disk_speaks(disk: &SmallDisk) -> Outcome<String> {
    let folder = Folder::new();
    let mut serve = Serve::within(disk.0.path());
    serve.log = folder.path().join("log");
    let broker = serve.start()?;
    let mut client = Client::connect(&broker.address)?;
    client.create_topic("t", 1, &[])?;
    let value: Bytes = vec![b'x'; 64 << 10].into();
    let mut acknowledged = 0;
    let first = client.produce("t", 0, batch(std::slice::from_ref(&value), None))?;
    ensure(first.error_code == 0, || format!("produce: error {}", first.error_code))?;
    acknowledged += 1;
    // A foreign file takes the rest of the disk.
    let foreign = disk.0.path().join("foreign");
    let mut file = std::fs::File::create(&foreign).map_err(|error| error.to_string())?;
    let zeros = vec![0; 1 << 20];
    while file.write_all(&zeros).is_ok() {}
    drop(file);
    let deadline = Instant::now() + Duration::from_secs(30);
    let refusal = loop {
        let answer = client.produce("t", 0, batch(std::slice::from_ref(&value), None))?;
        if answer.error_code != 0 {
            break answer;
        }
        acknowledged += 1;
        ensure(Instant::now() < deadline, || "nothing was refused on a full disk".to_owned())?;
    };
    let code = mainspring_core::error::ErrorCode::from_code(refusal.error_code);
    ensure(code.is_some_and(mainspring_core::error::ErrorCode::is_retriable), || {
        format!("{code:?} is not retriable")
    })?;
    let message = refusal.error_message.as_ref().map_or_else(String::new, ToString::to_string);
    ensure(message.contains("space") || message.contains("full"), || {
        format!("the refusal does not say why: {message:?}")
    })?;
    let said = broker.said();
    ensure(said.contains("space") || said.contains("full"), || {
        format!("the log is silent: {said}")
    })?;
    let read = client.read("t", 0, 0)?;
    ensure(read.records.len() >= acknowledged, || {
        format!("{acknowledged} acknowledged, {} readable on a full disk", read.records.len())
    })?;
    std::fs::remove_file(&foreign).map_err(|error| error.to_string())?;
    loop {
        let answer = client.produce("t", 0, batch(std::slice::from_ref(&value), None))?;
        if answer.error_code == 0 {
            break;
        }
        ensure(Instant::now() < deadline, || "no service although there is space".to_owned())?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let (status, _) = broker.stop(Duration::from_secs(10))?;
    ensure(status.success(), || format!("it ended with {status}"))?;
    let broker = serve.start()?;
    let read = Client::connect(&broker.address)?.read("t", 0, 0)?;
    ensure(read.records.len() > acknowledged, || "acknowledged records are gone".to_owned())?;
    broker.kill();
    Ok(message)
}
