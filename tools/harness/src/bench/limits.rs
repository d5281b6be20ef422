//! What the machine itself can do, in the shape that a broker uses it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::broker::Folder;
use crate::checks::Outcome;

/// Overwrites a file that was written before, flushing after each write: MB/s and microseconds each.
pub(super) fn overwrite(length: Duration, size: usize) -> Outcome<(f64, Vec<f64>)> {
    const RING: usize = 64 << 20;
    let folder = Folder::new();
    let file = File::create(folder.path().join("ring")).map_err(text)?;
    let zeros = vec![0; 1 << 20];
    for at in 0..RING >> 20 {
        file.write_all_at(&zeros, (at << 20) as u64).map_err(text)?;
    }
    file.sync_all().map_err(text)?;
    let block = vec![b'x'; size];
    let (mut at, mut times) = (0, Vec::new());
    let start = Instant::now();
    while start.elapsed() < length {
        let began = Instant::now();
        file.write_all_at(&block, at as u64).map_err(text)?;
        file.sync_data().map_err(text)?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
        at = (at + size) % RING;
    }
    let rate = (times.len() * size) as f64 / start.elapsed().as_secs_f64() / 1e6;
    Ok((rate, times))
}

/// Copies bytes over loopback from one thread to another in pieces: MB/s.
pub(super) fn loopback(length: Duration, piece: usize) -> Outcome<f64> {
    let (mut near, mut far) = pair()?;
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0_u64;
        while let Ok(count @ 1..) = far.read(&mut buffer) {
            total += count as u64;
        }
        total
    });
    let block = vec![b'x'; piece];
    let start = Instant::now();
    while start.elapsed() < length {
        near.write_all(&block).map_err(text)?;
    }
    drop(near);
    let total = reader.join().map_err(|_| "the reader of the loopback panicked".to_owned())?;
    Ok(total as f64 / start.elapsed().as_secs_f64() / 1e6)
}

/// Sends `size` bytes and waits for 64 bytes back: microseconds each.
pub(super) fn round_trip(length: Duration, size: usize) -> Outcome<Vec<f64>> {
    let (mut near, mut far) = pair()?;
    let echo = std::thread::spawn(move || {
        let mut buffer = vec![0; size];
        while far.read_exact(&mut buffer).is_ok() && far.write_all(&[0; 64]).is_ok() {}
    });
    let block = vec![b'x'; size];
    let mut answer = [0; 64];
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < length {
        let began = Instant::now();
        near.write_all(&block).map_err(text)?;
        near.read_exact(&mut answer).map_err(text)?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    drop(near);
    echo.join().map_err(|_| "the echo panicked".to_owned())?;
    Ok(times)
}

fn pair() -> Outcome<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
    let near = TcpStream::connect(listener.local_addr().map_err(text)?).map_err(text)?;
    let (far, _) = listener.accept().map_err(text)?;
    near.set_nodelay(true).map_err(text)?;
    far.set_nodelay(true).map_err(text)?;
    Ok((near, far))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
