//! The journal of a shard: heads, blocks, and the chain that they make.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use mainspring_core::ids::{PartitionIndex, TopicPartition, Uuid};

use super::crc::crc32c;

const ALIGNMENT: usize = 4096;
const HEADER: usize = 64;
/// Bits of a sequence below the incarnation.
const COUNTER_BITS: u32 = 40;

/// One entry of a block.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Append {
        log: TopicPartition,
        batch: Bytes,
    },
    /// `anew` where nothing is left and the log begins at `end`.
    Truncate {
        log: TopicPartition,
        number: u64,
        end: i64,
        anew: bool,
    },
    LogStart {
        log: TopicPartition,
        start: i64,
    },
    Create {
        log: TopicPartition,
        memory: bool,
        name: String,
    },
    Delete {
        log: TopicPartition,
    },
    Reserve {
        log: TopicPartition,
        end: i64,
    },
    Vote {
        epoch: i32,
        candidate: i32,
    },
}

/// Returns whether a block may stand right behind another.
const fn follows(sequence: u64, previous: u64) -> bool {
    let first = sequence & ((1 << COUNTER_BITS) - 1) == 1;
    sequence == previous + 1 || (first && sequence >> COUNTER_BITS > previous >> COUNTER_BITS)
}

/// Reads the entries of every block behind `cut`, as far as each follows the one before.
///
/// # Errors
/// A sound block with an entry that the format does not know.
pub(super) fn read(files: &[Bytes], cut: u64) -> Result<Vec<Entry>, String> {
    let mut blocks: BTreeMap<u64, Bytes> = BTreeMap::new();
    for file in files {
        gather(file, cut, &mut blocks);
    }
    let mut entries = Vec::new();
    let mut previous = cut;
    for (sequence, body) in blocks {
        // One that follows nothing is what a power loss left behind a gap. A later start went on from
        // before the gap.
        if follows(sequence, previous) {
            previous = sequence;
            decode(body, &mut entries)?;
        }
    }
    Ok(entries)
}

/// Takes the sound blocks of a file, by their sequences. What is not one is passed over: a later start may
/// have gone on behind a block that it could read and that was not durable yet.
fn gather(file: &Bytes, cut: u64, blocks: &mut BTreeMap<u64, Bytes>) {
    if file.len() < ALIGNMENT || file[..4] != *b"MSJH" {
        return;
    }
    if crc32c(&[&file[..24]]) != be32(file, 24) || file[4..6] != [0, 1] {
        return;
    }
    let (journal, first) = (be64(file, 8), be64(file, 16));
    let mut at = ALIGNMENT;
    while at + ALIGNMENT <= file.len() {
        at += match sound_block(&file[at..], journal, first, at, cut) {
            Some((sequence, length)) => {
                if sequence > cut {
                    let bytes = be32(file, at + 52) as usize;
                    blocks.insert(sequence, file.slice(at + HEADER..at + HEADER + bytes));
                }
                length
            }
            None => ALIGNMENT,
        };
    }
}

/// Returns sequence and length of the block at the front of `rest`, if one stands there. The CRC of what
/// a checkpoint covers is not looked at.
fn sound_block(rest: &[u8], journal: u64, first: u64, at: usize, cut: u64) -> Option<(u64, usize)> {
    if rest[..4] != *b"MSJB" {
        return None;
    }
    let length = be32(rest, 48) as usize;
    if length < ALIGNMENT || !length.is_multiple_of(ALIGNMENT) || length > rest.len() {
        return None;
    }
    let block = &rest[..length];
    let (sequence, position) = (be64(block, 16), be64(block, 24));
    let ours = be64(block, 8) == journal && position == at as u64 && sequence >= first;
    let sound =
        sequence <= cut || crc32c(&[&block[..60], &[0; 4], &block[64..]]) == be32(block, 60);
    (ours && sound).then_some((sequence, length))
}

fn decode(mut body: Bytes, entries: &mut Vec<Entry>) -> Result<(), String> {
    while !body.is_empty() {
        let (kind, version) = (body.get_u8(), body.get_u8());
        body.advance(2);
        let length = body.get_u32() as usize;
        let mut entry = body.split_to(length);
        if version != 1 {
            return Err(format!("a journal entry of kind {kind} has version {version}"));
        }
        match kind {
            1 => {
                let log = log(&mut entry);
                entry.advance(12);
                entries.push(Entry::Append { log, batch: entry });
            }
            2 => {
                let (log, number) = (log(&mut entry), entry.get_u64());
                let anew = entry.get_u8() & 1 == 1;
                entry.advance(3);
                entries.push(Entry::Truncate { log, number, end: entry.get_i64(), anew });
            }
            3 => entries.push(Entry::LogStart { log: log(&mut entry), start: entry.get_i64() }),
            4 => {
                let log = log(&mut entry);
                let memory = entry.get_u8() == 1;
                let name = String::from_utf8_lossy(&entry).into_owned();
                entries.push(Entry::Create { log, memory, name });
            }
            5 => entries.push(Entry::Delete { log: log(&mut entry) }),
            8 => entries.push(Entry::Reserve { log: log(&mut entry), end: entry.get_i64() }),
            6 => entries.push(Entry::Vote { epoch: entry.get_i32(), candidate: entry.get_i32() }),
            9 => {}
            _ => return Err(format!("a journal entry has kind {kind}")),
        }
    }
    Ok(())
}

/// Reads a topic id and a partition.
pub(super) fn log(bytes: &mut Bytes) -> TopicPartition {
    let mut topic_id = [0; 16];
    bytes.copy_to_slice(&mut topic_id);
    TopicPartition { topic_id: Uuid(topic_id), partition: PartitionIndex(bytes.get_i32()) }
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    let mut part = &bytes[at..at + 4];
    part.get_u32()
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    let mut part = &bytes[at..at + 8];
    part.get_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_by_one_or_as_the_first_of_a_later_start() {
        let start = |incarnation: u64, counter: u64| incarnation << COUNTER_BITS | counter;
        assert!(follows(start(1, 2), start(1, 1)));
        assert!(follows(start(3, 1), start(1, 9)));
        assert!(!follows(start(1, 3), start(1, 1)));
        assert!(!follows(start(2, 2), start(1, 1)));
    }
}
