//! Hostile peers of every kind beside a good client, which must be served all the while.
//!
//! After each kind the good client has got answers, the broker still runs, and its memory has grown
//! by no more than the limits of a connection allow. Times are printed and never asserted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainspring_core::record::builder::BatchBuilder;
use mainspring_core::record::compress::Codec;
use mainspring_core::wire::ApiKey;
use mainspring_core::wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use mainspring_core::wire::api::metadata::MetadataRequest;
use mainspring_core::wire::frame_request;

use crate::broker::{Broker, Folder, Serve};
use crate::checks::{Checks, Outcome, ensure};
use crate::client::{Client, batch};
use crate::random::Random;

const MIB: u64 = 1 << 20;
/// Longest that a peer waits to be closed or answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// What peers of one kind do.
type Kind = fn(&Attacked) -> Outcome<String>;

/// Runs all of them against one broker.
pub(crate) fn run(checks: &mut Checks) {
    let folder = Folder::new();
    let ready = Serve::within(folder.path()).start().and_then(|broker| {
        let mut client = Client::connect(&broker.address)?;
        client.create_topic("good", 1, &[])?;
        client.create_topic(
            "opened",
            1,
            &[("compression.type", "lz4"), ("max.message.bytes", "33554432")],
        )?;
        fill_caches(&mut client)?;
        let good = Good::start(&broker.address)?;
        Ok(Attacked { broker, good })
    });
    let attacked = match ready {
        Ok(attacked) => attacked,
        Err(problem) => return checks.note("hostile peers", Err(problem)),
    };
    let kinds: [(&str, u64, Kind); 9] = [
        ("1,000 peers announce frames of 2 GiB", 64, huge_frames),
        ("1,000 peers announce 90 MiB, send 1 KiB and stall", 64, stalled_frames),
        ("2,000 peers are idle", 64, idle),
        ("200 peers send byte by byte", 64, byte_by_byte),
        ("500 peers go away in the middle of a frame", 64, half_frames),
        ("100 peers read no answers", 160, unread),
        ("random bytes instead of frames", 64, random_bytes),
        ("random bodies for every API and version", 128, random_bodies),
        ("batches that decompress to 256 MiB", 400, bombs),
    ];
    for (name, grown_mib_max, kind) in kinds {
        checks.note(name, attacked.during(grown_mib_max * MIB, kind));
    }
    checks.note("the broker has not panicked and the good client was served", attacked.end());
}

/// Produces more than what a broker keeps of recent records in memory (64 MiB), so that what the good client
/// produces takes no more later, and growth is the peers' doing.
fn fill_caches(client: &mut Client) -> Outcome {
    client.create_topic("filled", 1, &[])?;
    let sealed = batch(&[vec![b'x'; 1_000_000].into()], None);
    for _ in 0..100 {
        let code = client.produce("filled", 0, sealed.clone())?.error_code;
        ensure(code == 0, || format!("produce: error {code}"))?;
    }
    Ok(())
}

/// The broker and who uses it well.
struct Attacked {
    broker: Broker,
    good: Good,
}

impl Attacked {
    /// Lets one kind of peer loose, and looks at what it did to the others.
    fn during(&self, grown_max: u64, kind: Kind) -> Outcome<String> {
        let before = self.resident()?;
        self.good.take_slowest();
        let served = self.good.served();
        let detail = kind(self)?;
        self.good.wait_beyond(served)?;
        let grown = self.resident()?.saturating_sub(before);
        let slowest = self.good.take_slowest();
        ensure(grown <= grown_max, || {
            format!("resident memory grew by {} MiB; {detail}", grown / MIB)
        })?;
        Ok(format!(
            "{detail}; memory +{} MiB, good client's slowest round {slowest} ms",
            grown / MIB
        ))
    }

    fn resident(&self) -> Outcome<u64> {
        let path = format!("/proc/{}/statm", self.broker.pid());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        Ok(pages.ok_or("statm has no second number")? * 4096)
    }

    fn connect(&self) -> Outcome<TcpStream> {
        let stream = TcpStream::connect(&self.broker.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(stream)
    }

    fn crowd(&self, count: usize) -> Outcome<Vec<TcpStream>> {
        (0..count).map(|_| self.connect()).collect()
    }

    fn end(mut self) -> Outcome<String> {
        let served = self.good.stop()?;
        let said = self.broker.said();
        ensure(!said.contains("panicked"), || said.clone())?;
        ensure(self.broker.wait(Duration::ZERO).is_none(), || format!("it ended: {said}"))?;
        self.broker.stop(Duration::from_secs(10))?;
        Ok(format!("{served} rounds of produce and fetch"))
    }
}

/// A client that produces and fetches all the while.
struct Good {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Outcome>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rounds: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Good {
    fn start(address: &str) -> Outcome<Self> {
        let shared = Arc::new(Shared::default());
        let mut client = Client::connect(address)?;
        let seen = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut next = 0;
            while !seen.stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                let sent = batch(&[Bytes::from_static(b"good")], None);
                let answer = client.produce("good", 0, sent)?;
                let (code, at) = (answer.error_code, answer.base_offset);
                ensure(code == 0 && at == next, || format!("produce: error {code} at {at}"))?;
                let data = client.fetch("good", 0, next, 1000)?;
                ensure(data.error_code == 0 && data.records.is_some(), || format!("{data:?}"))?;
                next += 1;
                let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                seen.slowest_ms.fetch_max(took, Ordering::Relaxed);
                seen.rounds.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    fn served(&self) -> u64 {
        self.shared.rounds.load(Ordering::Relaxed)
    }

    fn take_slowest(&self) -> u64 {
        self.shared.slowest_ms.swap(0, Ordering::Relaxed)
    }

    /// Waits until a round that began later than `rounds` has ended.
    fn wait_beyond(&self, rounds: u64) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while self.served() < rounds + 2 {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            ensure(!ended && Instant::now() < deadline, || {
                format!("the good client is not served (ended: {ended})")
            })?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn stop(&mut self) -> Outcome<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| "the good client panicked".to_owned())??;
        }
        Ok(self.served())
    }
}

fn huge_frames(attacked: &Attacked) -> Outcome<String> {
    let mut crowd = attacked.crowd(1000)?;
    for peer in &mut crowd {
        // The broker may close while this is written.
        let _ = peer.write_all(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    for peer in &mut crowd {
        ensure(is_closed(peer)?, || "a peer got an answer to 2 GiB".to_owned())?;
    }
    Ok("all closed".into())
}

fn stalled_frames(attacked: &Attacked) -> Outcome<String> {
    let mut crowd = attacked.crowd(1000)?;
    let mut begun = (90_u32 << 20).to_be_bytes().to_vec();
    begun.resize(4 + 1024, 0);
    for peer in &mut crowd {
        peer.write_all(&begun).map_err(|error| error.to_string())?;
    }
    attacked.good.wait_beyond(attacked.good.served())?;
    Ok("all held open".into())
}

fn idle(attacked: &Attacked) -> Outcome<String> {
    let crowd = attacked.crowd(2000)?;
    attacked.good.wait_beyond(attacked.good.served())?;
    Ok(format!("{} held open", crowd.len()))
}

fn byte_by_byte(attacked: &Attacked) -> Outcome<String> {
    let mut crowd = attacked.crowd(200)?;
    let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
    let frame = frame_request(1, Some("slow"), &request, 12).concat();
    for byte in &frame {
        for peer in &mut crowd {
            peer.write_all(&[*byte]).map_err(|error| error.to_string())?;
        }
    }
    for peer in &mut crowd {
        let mut size = [0; 4];
        peer.read_exact(&mut size).map_err(|error| format!("no answer: {error}"))?;
    }
    Ok("all answered".into())
}

fn half_frames(attacked: &Attacked) -> Outcome<String> {
    let request = crate::client::produce_request(
        "good",
        0,
        batch(&[Bytes::from_static(b"never to be stored whole")], None),
    );
    let frame = frame_request(1, Some("gone"), &request, crate::client::PRODUCE).concat();
    for (number, mut peer) in attacked.crowd(500)?.into_iter().enumerate() {
        let cut = 1 + number % (frame.len() - 1);
        peer.write_all(&frame[..cut]).map_err(|error| error.to_string())?;
    }
    Ok("all gone".into())
}

fn unread(attacked: &Attacked) -> Outcome<String> {
    // The answer is a hundred times as long as the question.
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "good".into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_documentation: true,
        ..DescribeConfigsRequest::default()
    };
    let frame = frame_request(1, Some("deaf"), &request, 4).concat();
    let many = frame.repeat(200);
    let mut crowd = attacked.crowd(100)?;
    let mut sent = 0;
    for peer in &mut crowd {
        peer.set_write_timeout(Some(Duration::from_millis(20))).map_err(|e| e.to_string())?;
        // The broker stops reading from such a peer, so at some point no more can be sent.
        for _ in 0..50 {
            match peer.write(&many) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
    }
    attacked.good.wait_beyond(attacked.good.served())?;
    Ok(format!("{} requests sent", sent / frame.len()))
}

fn random_bytes(attacked: &Attacked) -> Outcome<String> {
    let mut random = Random::new(Random::fresh_seed());
    for mut peer in attacked.crowd(300)? {
        let length = 1 + random.below(4000) as usize;
        let bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        let _ = peer.write_all(&bytes);
        let _ = peer.shutdown(std::net::Shutdown::Write);
        ensure(is_closed(&mut peer)?, || "random bytes were answered".to_owned())?;
    }
    Ok("all closed".into())
}

fn random_bodies(attacked: &Attacked) -> Outcome<String> {
    const EACH: u64 = 12;
    let mut random = Random::new(Random::fresh_seed());
    let (mut answered, mut closed) = (0, 0);
    for key in ApiKey::ALL.iter().filter(|key| key.is_served(false)) {
        for version in key.min_version()..=key.max_version() {
            for round in 0..EACH {
                let mut frame = key.key().to_be_bytes().to_vec();
                frame.extend_from_slice(&version.to_be_bytes());
                frame.extend_from_slice(&[0, 0, 0, 1, 0, 0]);
                if key.request_header_version(version) >= 2 {
                    frame.push(0);
                }
                let length = random.below(1 + 20 * round * round);
                // Mostly zeros and small numbers, which get further than noise does.
                let small = round % 2 == 0;
                let bound = if small { 3 } else { 256 };
                frame.extend((0..length).map(|_| random.below(bound) as u8));
                let mut peer = attacked.connect()?;
                let size = u32::try_from(frame.len()).map_err(|error| error.to_string())?;
                let _ = peer.write_all(&[&size.to_be_bytes()[..], &frame].concat());
                let _ = peer.shutdown(std::net::Shutdown::Write);
                if is_closed(&mut peer)? {
                    closed += 1;
                } else {
                    answered += 1;
                }
            }
        }
    }
    ensure(answered > 0 && closed > 0, || format!("{answered} answered, {closed} closed"))?;
    Ok(format!("{answered} answered, {closed} closed"))
}

fn bombs(attacked: &Attacked) -> Outcome<String> {
    let zeros = vec![0; 256 << 20];
    let mut sizes = Vec::new();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(codec);
        builder.push(0, None, Some(&zeros), &[]);
        let bomb = builder.build().to_bytes();
        sizes.push(format!("{codec:?} {} KiB", bomb.len() >> 10));
        // Lz4 is what the topic wants, so that batch stays closed and is stored as it is.
        let is_closed = codec == Codec::Lz4;
        let mut client = Client::connect(&attacked.broker.address)?;
        let code = client.produce("opened", 0, bomb)?.error_code;
        ensure((code == 0) == is_closed, || format!("{codec:?}: error {code}"))?;
    }
    Ok(sizes.join(", "))
}

/// Reads until the peer closes, or answers.
fn is_closed(peer: &mut TcpStream) -> Outcome<bool> {
    match peer.read(&mut [0; 16]) {
        Ok(0) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(true),
        Err(error) => Err(format!("neither closed nor answered: {error}")),
    }
}
