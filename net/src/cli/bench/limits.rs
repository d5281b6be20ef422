//! What this machine does at best, so that figures of two machines can be compared.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::{self, Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Clock;

const COPIED: usize = 64 << 20;
const PIECE: usize = 64 << 10;
const FLUSHES: usize = 32;

/// Measures memory, loopback and the disk of the folder for temporary files; `null` for what failed.
pub(super) fn probe() -> Value {
    json!({
        "memory_copy_mb_per_s": memory(),
        "loopback_mb_per_s": loopback().ok(),
        "disk_flush_us": flush().ok(),
    })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let mut clock = Clock::default();
    let begin = clock.now().mono;
    let result = work();
    (result, clock.now().mono.since(begin))
}

fn rate(bytes: usize, time: Duration) -> u64 {
    (bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9)) as u64
}

fn memory() -> u64 {
    let from = vec![1_u8; COPIED];
    let mut to = vec![2_u8; COPIED];
    let ((), time) = timed(|| black_box(&mut to).copy_from_slice(black_box(&from)));
    rate(COPIED, time)
}

fn loopback() -> io::Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut output = TcpStream::connect(listener.local_addr()?)?;
    let (mut input, _) = listener.accept()?;
    let reader = std::thread::Builder::new().name("loopback".to_owned()).spawn(move || {
        let mut buffer = vec![0; PIECE];
        while matches!(input.read(&mut buffer), Ok(1..)) {}
    })?;
    let piece = vec![7; PIECE];
    let (result, time) = timed(|| {
        let written = (0..COPIED / PIECE).try_for_each(|_| output.write_all(&piece));
        drop(output);
        // It ends with the connection.
        let _ = reader.join();
        written
    });
    result.map(|()| rate(COPIED, time))
}

/// The median time of a flushed write of 4 KiB, in microseconds.
fn flush() -> io::Result<u64> {
    let path = std::env::temp_dir().join(format!("mainspring-bench-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let measured = (|| {
        let mut times = Vec::with_capacity(FLUSHES);
        for _ in 0..=FLUSHES {
            let (result, time) = timed(|| {
                file.rewind()?;
                file.write_all(&[7; 4 << 10])?;
                file.sync_data()
            });
            result?;
            times.push(time);
        }
        times.sort_unstable();
        Ok(times[times.len() / 2].as_micros() as u64)
    })();
    std::fs::remove_file(path)?;
    measured
}
