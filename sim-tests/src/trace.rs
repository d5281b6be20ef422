//! The trace of a run: one hash over everything that happened, and all of it as lines for who wants them.
//!
//! Equal seeds give equal hashes on every machine. A checkpoint stands at each 4,096 events, so
//! that two runs which differ are compared without logging anything.

mod hashing;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::rc::Rc;

use mainspring_core::io::{Effect, Event, Input};

/// Events between two checkpoints.
pub const CHECKPOINT_EVENTS: u64 = 4096;

/// A quick hash with the same result everywhere. Not for anything that an enemy chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }
}

impl TraceHash {
    /// Takes in a number.
    pub fn number(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
    }

    /// Takes in bytes and their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.number(u64::from_be_bytes(word));
        }
        let mut word = [0; 8];
        word[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.number(u64::from_be_bytes(word));
    }

    /// Returns the hash of all that was taken in.
    pub const fn finish(self) -> u64 {
        self.0
    }
}

/// Where the lines of a trace go.
#[derive(Clone)]
pub struct Sink(Rc<RefCell<Writer>>);

struct Writer {
    to: Box<dyn Write>,
    failed: io::Result<()>,
}

impl Sink {
    /// Makes a sink that writes to somewhere.
    pub fn new(to: impl Write + 'static) -> Self {
        Self(Rc::new(RefCell::new(Writer { to: Box::new(to), failed: Ok(()) })))
    }

    fn line(&self, line: fmt::Arguments<'_>) {
        let mut writer = self.0.borrow_mut();
        if writer.failed.is_ok() {
            writer.failed = writeln!(writer.to, "{line}");
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// Returns the first error of any line.
    pub fn close(self) -> io::Result<()> {
        let mut writer = self.0.borrow_mut();
        std::mem::replace(&mut writer.failed, Ok(()))?;
        writer.to.flush()
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Trace {
    hash: TraceHash,
    events: u64,
    checkpoints: Vec<u64>,
    sink: Option<Sink>,
}

impl Trace {
    /// Makes an empty trace. Writing lines costs time and changes no hash.
    pub fn new(sink: Option<Sink>) -> Self {
        Self { sink, ..Self::default() }
    }

    /// Returns the hash over everything so far.
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// Returns how many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Returns the hash at each checkpoint.
    pub fn checkpoints(&self) -> &[u64] {
        &self.checkpoints
    }

    /// Notes that an event begins. Returns whether a checkpoint is due, for the states of the
    /// machines to enter by [`number`](Self::number).
    pub fn begin(&mut self, at: u64, kind: u64, whom: u64) -> bool {
        self.events += 1;
        self.hash.number(at);
        self.hash.number(kind);
        self.hash.number(whom);
        let due = self.events.is_multiple_of(CHECKPOINT_EVENTS);
        if due {
            self.checkpoints.push(self.hash.finish());
        }
        due
    }

    /// Takes in a number.
    pub fn number(&mut self, value: u64) {
        self.hash.number(value);
    }

    /// Takes in bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hash.bytes(bytes);
    }

    /// Writes a line, if somebody wants lines.
    pub fn line(&mut self, line: impl FnOnce() -> String) {
        if let Some(sink) = &self.sink {
            sink.line(format_args!("{:>8} {}", self.events, line()));
        }
    }

    /// Takes in what goes into a shard.
    pub fn input(&mut self, at: u64, node: usize, shard: u16, input: &Input) {
        hashing::input(&mut self.hash, input);
        self.line(|| format!("{at:>15} {node}/{shard} <- {}", describe_input(input)));
    }

    /// Takes in what comes out of a shard.
    pub fn effect(&mut self, at: u64, node: usize, shard: u16, effect: &Effect) {
        hashing::effect(&mut self.hash, effect);
        self.line(|| format!("{at:>15} {node}/{shard} -> {}", describe_effect(effect)));
    }
}

fn describe_input(input: &Input) -> String {
    match input {
        Input::Received(connection, bytes) => format!("received {connection} {}", bytes.len()),
        Input::Completed { token, result: Ok(_) } => format!("completed {token}"),
        Input::Completed { token, result: Err(error) } => format!("failed {token}: {error}"),
        Input::Posted { from, batch } => format!("posted from {from} {batch:?}"),
        other => format!("{other:?}"),
    }
}

fn describe_effect(effect: &Effect) -> String {
    match effect {
        Effect::Write { file, position, body, sync, token } => {
            format!("write {file} at {position} {} bytes {sync:?} {token}", body.len())
        }
        Effect::Transmit { connection, parts } => {
            let bytes: usize = parts.iter().map(bytes::Bytes::len).sum();
            format!("transmit {connection} {bytes}")
        }
        Effect::Observe(Event::Info(_)) => "info".into(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_order_and_content() {
        let hash = |parts: &[&[u8]]| {
            let mut hash = TraceHash::default();
            for part in parts {
                hash.bytes(part);
            }
            hash.finish()
        };
        assert_eq!(hash(&[b"a", b"bc"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"a", b"bc"]), hash(&[b"ab", b"c"]));
        assert_ne!(hash(&[b"a", b"b"]), hash(&[b"b", b"a"]));
        assert_ne!(hash(&[b"\0"]), hash(&[b""]));
    }

    /// Something to write to that can be read afterwards.
    #[derive(Clone, Default)]
    struct Paper(Rc<RefCell<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn writing_lines_changes_no_hash() {
        let run = |sink| {
            let mut trace = Trace::new(sink);
            for step in 0..5000 {
                trace.begin(step, 1, 2);
                trace.input(step, 0, 0, &Input::Wakeup);
            }
            (trace.hash(), trace.checkpoints().to_vec())
        };
        let paper = Paper::default();
        let (with, without) = (run(Some(Sink::new(paper.clone()))), run(None));
        assert_eq!(with, without);
        assert_eq!(with.1.len(), 1);
        let written = paper.0.borrow();
        assert_eq!(String::from_utf8_lossy(&written).lines().count(), 5000);
    }

    #[test]
    fn a_line_that_cannot_be_written_is_an_error_at_the_end() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = Sink::new(Full);
        Trace::new(Some(sink.clone())).line(String::new);
        let error = sink.close().expect_err("nothing could be written");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
