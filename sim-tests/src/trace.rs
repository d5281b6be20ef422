//! The trace of a run: one hash over everything that happened, and the last lines of it as text.
//!
//! Equal seeds give equal hashes on every machine. A checkpoint stands at each 4,096 events, so
//! that two runs which differ are compared without logging anything.

mod hashing;

use std::collections::VecDeque;

use mainspring_core::io::{Effect, Event, Input};

/// Events between two checkpoints.
pub const CHECKPOINT_EVENTS: u64 = 4096;

/// How many lines are kept for a person to read after an alarm.
const LINES: usize = 200;

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

/// What happened so far.
#[derive(Debug, Default)]
pub struct Trace {
    hash: TraceHash,
    events: u64,
    checkpoints: Vec<u64>,
    lines: Option<VecDeque<String>>,
}

impl Trace {
    /// Makes an empty trace. Keeping lines costs time and changes no hash.
    pub fn new(keep_lines: bool) -> Self {
        Self { lines: keep_lines.then(VecDeque::new), ..Self::default() }
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

    /// Returns the kept lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().flatten().map(String::as_str)
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

    /// Keeps a line, if lines are kept.
    pub fn line(&mut self, line: impl FnOnce() -> String) {
        let step = self.events;
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(format!("{step:>8} {}", line()));
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

    #[test]
    fn keeping_lines_changes_no_hash() {
        let run = |keep| {
            let mut trace = Trace::new(keep);
            for step in 0..5000 {
                trace.begin(step, 1, 2);
                trace.input(step, 0, 0, &Input::Wakeup);
            }
            (trace.hash(), trace.checkpoints().to_vec(), trace.lines().count())
        };
        let (with, without) = (run(true), run(false));
        assert_eq!((with.0, &with.1), (without.0, &without.1));
        assert_eq!((with.2, without.2, with.1.len()), (LINES, 0, 1));
    }
}
