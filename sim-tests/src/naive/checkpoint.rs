//! The checkpoint of a shard: which logs there are, and what of them stands in segments.

use bytes::{Buf, Bytes};
use mainspring_core::ids::TopicPartition;

use super::crc::crc32c;
use super::journal::{be32, be64, log};

const HEADER: usize = 20;

/// A segment as a checkpoint describes it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) base: i64,
    pub(super) end: i64,
    pub(super) bytes: u64,
}

/// A log as a checkpoint describes it.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) memory: bool,
    pub(super) name: String,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) reserved: i64,
    pub(super) segments: Vec<Segment>,
}

/// A checkpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Checkpoint {
    pub(super) cut: u64,
    /// The last vote: its epoch and its candidate.
    pub(super) vote: (i32, i32),
    pub(super) logs: Vec<(TopicPartition, Log)>,
}

/// Reads a checkpoint; `None` where it is damaged.
pub(super) fn read(file: &Bytes) -> Option<Checkpoint> {
    if file.len() < HEADER || file[..6] != [b'M', b'S', b'C', b'P', 0, 2] {
        return None;
    }
    let mut body = file.slice(HEADER..);
    if body.len() as u64 != be64(file, 8) || crc32c(&[&body]) != be32(file, 16) {
        return None;
    }
    let cut = body.get_u64();
    let vote = (body.get_i32(), body.get_i32());
    let logs = (0..body.get_u32()).map(|_| read_log(&mut body)).collect();
    Some(Checkpoint { cut, vote, logs })
}

fn read_log(body: &mut Bytes) -> (TopicPartition, Log) {
    let id = log(body);
    let memory = body.get_u8() == 1;
    let length = usize::from(body.get_u16());
    let name = String::from_utf8_lossy(&body.split_to(length)).into_owned();
    let (start, end, reserved) = (body.get_i64(), body.get_i64(), body.get_i64());
    body.advance(8);
    let epochs = body.get_u32() as usize;
    body.advance(epochs * 12);
    let segments = (0..body.get_u32())
        .map(|_| {
            let (base, end) = (body.get_i64(), body.get_i64());
            let bytes = body.get_u64();
            body.advance(24);
            Segment { base, end, bytes }
        })
        .collect();
    (id, Log { memory, name, start, end, reserved, segments })
}
