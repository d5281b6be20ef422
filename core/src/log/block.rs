//! A journal block: what one write to the journal holds, how it is sealed and how it is read back.
//!
//! A block is a multiple of 4 KiB. All integers are big-endian.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `MSJB` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 2 | minutes for which nothing may be deleted by age yet, because the clock is in doubt |
//! | 8 | 8 | journal id |
//! | 16 | 8 | sequence: incarnation in the high 24 bits, a counter from 1 in the low 40 |
//! | 24 | 8 | position in its file |
//! | 32 | 8 | durable mark: the highest sequence known durable when the block was built |
//! | 40 | 8 | last wall time that the clock guard accepted, Unix milliseconds |
//! | 48 | 4 | length of the block |
//! | 52 | 4 | bytes of entries |
//! | 56 | 4 | number of entries |
//! | 60 | 4 | CRC-32C of the whole block with this field zero |
//!
//! Entries follow, each with kind u8, version u8, zero u16, length u32 and its body; the rest of the
//! block is zero. The layout of the bodies stands at [`Entry`].
//!
//! Invariants:
//! 1. Sealing is a pure function of the plan; it is the one place where payload is copied.
//! 2. Reading back trusts nothing: not the length, not a count, not the file it was found in.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::ids::{Incarnation, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicPartition, Uuid};
use crate::log::api::Storage;
use crate::record::batch::{Batch, HEADER_LEN};
use crate::time::UnixMillis;

/// Blocks begin and end at multiples of this many bytes.
pub const ALIGNMENT: usize = 4096;
/// Bytes of a block before its first entry.
pub const BLOCK_HEADER_LEN: usize = 64;
/// Version of the journal's format that this build writes and reads.
pub const FORMAT_VERSION: u16 = 1;

const BLOCK_MAGIC: [u8; 4] = *b"MSJB";
const HEAD_MAGIC: [u8; 4] = *b"MSJH";
const ENTRY_HEADER_LEN: usize = 8;
const APPEND_BODY_LEN: usize = 16 + 4 + 8 + 1 + 3;
const TRUNCATE_BODY_LEN: usize = 16 + 4 + 8 + 1 + 3 + 8 + 8 + 8;
const CUT_ANEW: u8 = 1;
const CUT_SEGMENT: u8 = 2;

const KIND_APPEND: u8 = 1;
const KIND_TRUNCATE: u8 = 2;
const KIND_LOG_START: u8 = 3;
const KIND_CREATE: u8 = 4;
const KIND_DELETE: u8 = 5;
const KIND_VOTE: u8 = 6;
const KIND_RESERVE: u8 = 8;
const KIND_CLOSE: u8 = 9;
const ENTRY_VERSION: u8 = 1;

/// Number of a block: rises within a start by one, and from start to start by the incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct BlockSequence(pub u64);

impl BlockSequence {
    const COUNTER_BITS: u32 = 40;

    /// The sequence of the block number `counter`, from 1, of a start.
    pub const fn new(incarnation: Incarnation, counter: u64) -> Self {
        Self(((incarnation.0 as u64) << Self::COUNTER_BITS) | counter)
    }

    /// Returns the start that wrote the block.
    pub const fn incarnation(self) -> Incarnation {
        Incarnation((self.0 >> Self::COUNTER_BITS) as u32)
    }

    /// Returns the number of the block within its start, from 1.
    pub const fn counter(self) -> u64 {
        self.0 & ((1 << Self::COUNTER_BITS) - 1)
    }

    /// Returns whether a block of this sequence may stand right behind one of `previous`.
    pub const fn follows(self, previous: Self) -> bool {
        self.0 == previous.0 + 1
            || (self.incarnation().0 > previous.incarnation().0 && self.counter() == 1)
    }
}

/// One thing that the journal remembers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Entry {
    /// A batch was appended. Body: topic id 16, partition i32, append time i64 (Unix ms), flags u8
    /// (bit 0: the batch begins a segment), 3 zero bytes, then the batch.
    Append {
        /// The log.
        log: TopicPartition,
        /// When, by the broker's wall clock.
        append_ms: UnixMillis,
        /// Whether the batch begins a new segment.
        rolls: bool,
        /// The batch with its base offset and leader epoch.
        batch: Batch,
    },
    /// A log was cut back. Body: topic id 16, partition i32, number u64, flags u8 (bit 0: the log begins
    /// anew at its end, bit 1: a segment is left), 3 zero bytes, end i64, base i64 and length u64 of the
    /// last segment that is left (0 without one), then what is known of producers at the new end, as in a
    /// `.producers` file, or nothing where nobody is known.
    Truncate {
        /// The log.
        log: TopicPartition,
        /// What is left.
        cut: Cut,
    },
    /// The start of a log moved up. Body: topic id 16, partition i32, offset i64.
    LogStart {
        /// The log.
        log: TopicPartition,
        /// Its new first offset.
        start: Offset,
    },
    /// A log was created. Body: topic id 16, partition i32, storage u8 (0 disk, 1 memory), name.
    Create {
        /// The log.
        log: TopicPartition,
        /// Where its bytes live.
        storage: Storage,
        /// Its topic's name.
        name: Bytes,
    },
    /// A log was deleted. Body: topic id 16, partition i32.
    Delete {
        /// The log.
        log: TopicPartition,
    },
    /// This node voted in the metadata quorum. Body: epoch i32, candidate i32.
    Vote {
        /// The epoch of the vote.
        epoch: LeaderEpoch,
        /// For whom.
        candidate: NodeId,
    },
    /// Offsets of a memory log below this one may be given out. Body: topic id 16, partition i32,
    /// offset i64.
    Reserve {
        /// The log.
        log: TopicPartition,
        /// The first offset that may not.
        end: Offset,
    },
    /// Nothing happened; the block exists to carry a durable mark. No body.
    Close,
}

/// What is left of a log that is cut back.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Rises from one truncation of the shard to the next, over all starts: one that is read twice is
    /// carried out once.
    pub number: u64,
    /// The offset after the last one that is left.
    pub end: Offset,
    /// Whether nothing is left and the log begins anew at `end`, wherever it began and ended before.
    pub anew: bool,
    /// Base offset of the last segment that is left, and its length in bytes.
    pub segment: Option<(Offset, u64)>,
    /// What is known of producers at the new end, as in a `.producers` file; empty for nobody.
    pub producers: Bytes,
}

impl Entry {
    /// Returns how many bytes the entry takes in a block.
    pub fn encoded_len(&self) -> usize {
        ENTRY_HEADER_LEN
            + match self {
                Self::Append { batch, .. } => APPEND_BODY_LEN + batch.size(),
                Self::Truncate { cut, .. } => TRUNCATE_BODY_LEN + cut.producers.len(),
                Self::LogStart { .. } | Self::Reserve { .. } => 28,
                Self::Create { name, .. } => 21 + name.len(),
                Self::Delete { .. } => 20,
                Self::Vote { .. } => 8,
                Self::Close => 0,
            }
    }

    fn encode(&self, out: &mut Cursor<'_>) {
        let body_len = (self.encoded_len() - ENTRY_HEADER_LEN) as u32;
        out.put(&[self.kind(), ENTRY_VERSION, 0, 0]);
        out.put(&body_len.to_be_bytes());
        match self {
            Self::Append { log, append_ms, rolls, batch } => {
                out.put_log(*log);
                out.put(&append_ms.0.to_be_bytes());
                out.put(&[u8::from(*rolls), 0, 0, 0]);
                out.put(batch.header());
                out.put(batch.rest());
            }
            Self::Truncate { log, cut } => {
                out.put_log(*log);
                out.put(&cut.number.to_be_bytes());
                let segment_flag = if cut.segment.is_some() { CUT_SEGMENT } else { 0 };
                out.put(&[u8::from(cut.anew) | segment_flag, 0, 0, 0]);
                out.put(&cut.end.0.to_be_bytes());
                let (base, bytes) = cut.segment.unwrap_or((Offset::ZERO, 0));
                out.put(&base.0.to_be_bytes());
                out.put(&bytes.to_be_bytes());
                out.put(&cut.producers);
            }
            Self::LogStart { log, start: offset } | Self::Reserve { log, end: offset } => {
                out.put_log(*log);
                out.put(&offset.0.to_be_bytes());
            }
            Self::Create { log, storage, name } => {
                out.put_log(*log);
                out.put(&[match storage {
                    Storage::Disk => 0,
                    Storage::Memory => 1,
                }]);
                out.put(name);
            }
            Self::Delete { log } => out.put_log(*log),
            Self::Vote { epoch, candidate } => {
                out.put(&epoch.0.to_be_bytes());
                out.put(&candidate.0.to_be_bytes());
            }
            Self::Close => {}
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Append { .. } => KIND_APPEND,
            Self::Truncate { .. } => KIND_TRUNCATE,
            Self::LogStart { .. } => KIND_LOG_START,
            Self::Create { .. } => KIND_CREATE,
            Self::Delete { .. } => KIND_DELETE,
            Self::Vote { .. } => KIND_VOTE,
            Self::Reserve { .. } => KIND_RESERVE,
            Self::Close => KIND_CLOSE,
        }
    }

    fn decode(bytes: &mut Bytes) -> Result<Self, BlockError> {
        if bytes.len() < ENTRY_HEADER_LEN {
            return Err(BlockError::Entries);
        }
        let (kind, version) = (bytes[0], bytes[1]);
        let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        bytes.advance(ENTRY_HEADER_LEN);
        if bytes.len() < length {
            return Err(BlockError::Entries);
        }
        let mut body = bytes.split_to(length);
        if version != ENTRY_VERSION {
            return Err(BlockError::NewerEntry { kind, version });
        }
        let entry = match kind {
            KIND_APPEND => {
                let log = take_log(&mut body)?;
                let append_ms = UnixMillis(take_i64(&mut body)?);
                if body.len() < 4 {
                    return Err(BlockError::Entries);
                }
                let rolls = body[0] & 1 != 0;
                body.advance(4);
                let batch = Batch::split_from(&mut body).map_err(|_| BlockError::Entries)?;
                Self::Append { log, append_ms, rolls, batch }
            }
            KIND_TRUNCATE => {
                Self::Truncate { log: take_log(&mut body)?, cut: take_cut(&mut body)? }
            }
            KIND_LOG_START => {
                Self::LogStart { log: take_log(&mut body)?, start: Offset(take_i64(&mut body)?) }
            }
            KIND_RESERVE => {
                Self::Reserve { log: take_log(&mut body)?, end: Offset(take_i64(&mut body)?) }
            }
            KIND_CREATE => {
                let log = take_log(&mut body)?;
                if body.is_empty() {
                    return Err(BlockError::Entries);
                }
                let storage = match body.get_u8() {
                    0 => Storage::Disk,
                    1 => Storage::Memory,
                    _ => return Err(BlockError::Entries),
                };
                Self::Create { log, storage, name: std::mem::take(&mut body) }
            }
            KIND_DELETE => Self::Delete { log: take_log(&mut body)? },
            KIND_VOTE => {
                let both = take_i64(&mut body)?;
                Self::Vote {
                    epoch: LeaderEpoch((both >> 32) as i32),
                    candidate: NodeId(both as i32),
                }
            }
            KIND_CLOSE => Self::Close,
            _ => return Err(BlockError::NewerEntry { kind, version }),
        };
        if body.is_empty() { Ok(entry) } else { Err(BlockError::Entries) }
    }
}

fn take_log(body: &mut Bytes) -> Result<TopicPartition, BlockError> {
    if body.len() < 20 {
        return Err(BlockError::Entries);
    }
    let mut id = [0; 16];
    body.copy_to_slice(&mut id);
    Ok(TopicPartition { topic_id: Uuid(id), partition: PartitionIndex(body.get_i32()) })
}

fn take_cut(body: &mut Bytes) -> Result<Cut, BlockError> {
    let number = take_i64(body)? as u64;
    if body.len() < 4 {
        return Err(BlockError::Entries);
    }
    let flags = body[0];
    body.advance(4);
    let end = Offset(take_i64(body)?);
    let (base, bytes) = (Offset(take_i64(body)?), take_i64(body)? as u64);
    Ok(Cut {
        number,
        end,
        anew: flags & CUT_ANEW != 0,
        segment: (flags & CUT_SEGMENT != 0).then_some((base, bytes)),
        producers: std::mem::take(body),
    })
}

fn take_i64(body: &mut Bytes) -> Result<i64, BlockError> {
    if body.len() < 8 { Err(BlockError::Entries) } else { Ok(body.get_i64()) }
}

struct Cursor<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn put_log(&mut self, log: TopicPartition) {
        self.put(&log.topic_id.0);
        self.put(&log.partition.0.to_be_bytes());
    }
}

/// What stands in the header of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHeader {
    /// Which journal it belongs to.
    pub journal_id: u64,
    /// Its number.
    pub sequence: BlockSequence,
    /// Where it stands in its file.
    pub position: u64,
    /// The highest sequence known durable when it was built.
    pub durable_mark: BlockSequence,
    /// The last wall time that the clock guard accepted.
    pub wall: UnixMillis,
    /// Minutes for which nothing may be deleted by age yet, because the clock is in doubt.
    pub hold_minutes: u16,
}

/// Everything a block will hold, decided; sealing it is a pure function of it. Copies share the entries.
#[derive(Clone, Debug)]
pub struct BlockPlan {
    header: BlockHeader,
    entries: Arc<[Entry]>,
    entries_len: usize,
}

impl BlockPlan {
    /// Plans a block of these entries.
    pub fn new(header: BlockHeader, entries: Vec<Entry>) -> Self {
        let entries_len = entries.iter().map(Entry::encoded_len).sum();
        Self { header, entries: entries.into(), entries_len }
    }

    /// Returns how many bytes a sealed block with this many bytes of entries has.
    pub const fn sealed_len_of(entries_len: usize) -> usize {
        (BLOCK_HEADER_LEN + entries_len).next_multiple_of(ALIGNMENT)
    }

    /// Returns how many bytes the sealed block has: a multiple of 4 KiB.
    pub const fn sealed_len(&self) -> usize {
        Self::sealed_len_of(self.entries_len)
    }

    /// Returns the header.
    pub const fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Returns the entries in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns every entry with the place of its batch in the sealed block (`None` without batch).
    pub fn placed(&self) -> impl Iterator<Item = (&Entry, Option<Range<usize>>)> + '_ {
        let mut at = BLOCK_HEADER_LEN;
        self.entries.iter().map(move |entry| {
            let end = at + entry.encoded_len();
            let range = match entry {
                Entry::Append { .. } => Some(at + ENTRY_HEADER_LEN + APPEND_BODY_LEN..end),
                Entry::Truncate { .. }
                | Entry::LogStart { .. }
                | Entry::Create { .. }
                | Entry::Delete { .. }
                | Entry::Vote { .. }
                | Entry::Reserve { .. }
                | Entry::Close => None,
            };
            at = end;
            (entry, range)
        })
    }

    /// Writes the block into `out`, which has exactly [`sealed_len`](Self::sealed_len) bytes.
    pub fn seal(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.sealed_len(), "the buffer fits the block");
        let mut cursor = Cursor { out, at: 0 };
        cursor.put(&BLOCK_MAGIC);
        cursor.put(&FORMAT_VERSION.to_be_bytes());
        cursor.put(&self.header.hold_minutes.to_be_bytes());
        cursor.put(&self.header.journal_id.to_be_bytes());
        cursor.put(&self.header.sequence.0.to_be_bytes());
        cursor.put(&self.header.position.to_be_bytes());
        cursor.put(&self.header.durable_mark.0.to_be_bytes());
        cursor.put(&self.header.wall.0.to_be_bytes());
        cursor.put(&(self.sealed_len() as u32).to_be_bytes());
        cursor.put(&(self.entries_len as u32).to_be_bytes());
        cursor.put(&(self.entries.len() as u32).to_be_bytes());
        cursor.put(&[0; 4]);
        for entry in self.entries.iter() {
            entry.encode(&mut cursor);
        }
        let end = cursor.at;
        out[end..].fill(0);
        let crc = block_crc(out);
        out[60..64].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Returns the CRC-32C of a block, in which its own field counts as zero.
pub(super) fn block_crc(block: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&block[..60]);
    digest.update(&[0; 4]);
    digest.update(&block[64..]);
    digest.finalize() as u32
}

/// Why bytes are no block of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// No block begins here, or not all of it is there, or its CRC is wrong.
    #[error("there is no whole block")]
    NoBlock,
    /// A whole block, but of another journal or written for another place.
    #[error("the block belongs elsewhere")]
    Misplaced,
    /// A whole block of a format that this build does not know.
    #[error("the journal has format version {0}, this build reads {FORMAT_VERSION}")]
    NewerFormat(u16),
    /// A whole block with an entry that this build does not know.
    #[error("the journal has an entry of kind {kind} version {version}, unknown to this build")]
    NewerEntry {
        /// The kind.
        kind: u8,
        /// Its version.
        version: u8,
    },
    /// The CRC holds, yet the entries make no sense.
    #[error("the entries of a block make no sense")]
    Entries,
}

/// A block that was read back.
#[derive(Clone, Debug)]
pub struct FoundBlock {
    /// Its header.
    pub header: BlockHeader,
    /// Its length in bytes.
    pub length: u64,
    /// Its entries; batches are slices of the bytes that were read, or of a copy of the entries where
    /// most of the block is padding.
    pub entries: Vec<Entry>,
}

/// Returns the length that a block beginning at the front of `bytes` claims, if one begins there.
pub fn peek_block_len(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < BLOCK_HEADER_LEN || bytes[..4] != BLOCK_MAGIC {
        return None;
    }
    let length = u32::from_be_bytes([bytes[48], bytes[49], bytes[50], bytes[51]]) as usize;
    (length >= ALIGNMENT && length.is_multiple_of(ALIGNMENT)).then_some(length)
}

/// Reads the block at the front of `bytes`, which were found at `position` of a file.
///
/// # Errors
/// [`BlockError`]: nothing of the bytes may be used then.
pub fn read_block(bytes: &Bytes, journal_id: u64, position: u64) -> Result<FoundBlock, BlockError> {
    let length = peek_block_len(bytes).ok_or(BlockError::NoBlock)?;
    if bytes.len() < length {
        return Err(BlockError::NoBlock);
    }
    let mut head = bytes.slice(..length);
    let crc = u32::from_be_bytes([head[60], head[61], head[62], head[63]]);
    if block_crc(&head) != crc {
        return Err(BlockError::NoBlock);
    }
    head.advance(4);
    let version = head.get_u16();
    if version != FORMAT_VERSION {
        return Err(BlockError::NewerFormat(version));
    }
    let hold_minutes = head.get_u16();
    let header = BlockHeader {
        journal_id: head.get_u64(),
        sequence: BlockSequence(head.get_u64()),
        position: head.get_u64(),
        durable_mark: BlockSequence(head.get_u64()),
        wall: UnixMillis(head.get_i64()),
        hold_minutes,
    };
    if header.journal_id != journal_id || header.position != position {
        return Err(BlockError::Misplaced);
    }
    head.advance(4);
    let entries_len = head.get_u32() as usize;
    let count = head.get_u32() as usize;
    head.advance(4);
    if entries_len > head.len() || count > entries_len / ENTRY_HEADER_LEN {
        return Err(BlockError::Entries);
    }
    let mut rest = head.slice(..entries_len);
    if entries_len < length / 2 {
        // Small entries would keep all the padding that was read with them in memory.
        rest = Bytes::copy_from_slice(&rest);
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(Entry::decode(&mut rest)?);
    }
    if !rest.is_empty() {
        return Err(BlockError::Entries);
    }
    Ok(FoundBlock { header, length: length as u64, entries })
}

/// The first 4 KiB of a journal file: since when it belongs to the journal.
///
/// Layout: magic `MSJH` 4, format version u16, zero u16, journal id u64, first sequence u64,
/// CRC-32C u32 of the 24 bytes before it; the rest is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileHead {
    /// Which journal the file belongs to.
    pub journal_id: u64,
    /// The sequence of the first block written after the file was taken into use; every block with
    /// a lower one is from an earlier lap.
    pub first_sequence: BlockSequence,
}

impl FileHead {
    /// Returns the head as it stands in the file, 4 KiB.
    pub fn encode(self) -> Bytes {
        let mut out = vec![0; ALIGNMENT];
        out[..4].copy_from_slice(&HEAD_MAGIC);
        out[4..6].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        out[8..16].copy_from_slice(&self.journal_id.to_be_bytes());
        out[16..24].copy_from_slice(&self.first_sequence.0.to_be_bytes());
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &out[..24]) as u32;
        out[24..28].copy_from_slice(&crc.to_be_bytes());
        out.into()
    }

    /// Reads a head. `Ok(None)` where there is none: the file is free.
    ///
    /// # Errors
    /// [`BlockError::NewerFormat`] where a valid head has a version unknown to this build.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, BlockError> {
        if bytes.len() < 28 || bytes[..4] != HEAD_MAGIC {
            return Ok(None);
        }
        let crc = u32::from_be_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        if crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[..24]) as u32 != crc {
            return Ok(None);
        }
        let version = u16::from_be_bytes([bytes[4], bytes[5]]);
        if version != FORMAT_VERSION {
            return Err(BlockError::NewerFormat(version));
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(word)
        };
        Ok(Some(Self { journal_id: word(8), first_sequence: BlockSequence(word(16)) }))
    }
}

const _: () = assert!(HEADER_LEN > 0 && BLOCK_HEADER_LEN < ALIGNMENT);

#[cfg(test)]
mod tests {
    use super::*;

    fn header(counter: u64) -> BlockHeader {
        BlockHeader {
            journal_id: 7,
            sequence: BlockSequence::new(Incarnation(3), counter),
            position: 8192,
            durable_mark: BlockSequence::new(Incarnation(3), counter - 1),
            wall: UnixMillis(1_700_000_000_000),
            hold_minutes: 1_440,
        }
    }

    fn log() -> TopicPartition {
        TopicPartition { topic_id: Uuid([9; 16]), partition: PartitionIndex(4) }
    }

    fn seal(plan: &BlockPlan) -> Bytes {
        let mut out = vec![0xaa; plan.sealed_len()];
        plan.seal(&mut out);
        out.into()
    }

    fn every_entry() -> Vec<Entry> {
        vec![
            Entry::Create { log: log(), storage: Storage::Memory, name: Bytes::from_static(b"t") },
            Entry::LogStart { log: log(), start: Offset(5) },
            Entry::Reserve { log: log(), end: Offset(1 << 20) },
            Entry::Vote { epoch: LeaderEpoch(6), candidate: NodeId(-2) },
            Entry::Delete { log: log() },
            Entry::Close,
        ]
    }

    #[test]
    fn a_sealed_block_is_read_back_as_it_was_planned() {
        let plan = BlockPlan::new(header(2), every_entry());
        let sealed = seal(&plan);
        let found = read_block(&sealed, 7, 8192).expect("valid");
        assert_eq!(found.header, header(2));
        assert_eq!(format!("{:?}", found.entries), format!("{:?}", every_entry()));
        assert_eq!(found.length as usize, sealed.len());
    }

    #[test]
    fn any_flipped_bit_makes_the_block_unreadable() {
        let sealed = seal(&BlockPlan::new(header(2), every_entry()));
        for bit in (0..sealed.len() * 8).step_by(37) {
            let mut broken = sealed.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(read_block(&broken.into(), 7, 8192).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_block_of_another_place_or_journal_is_not_taken() {
        let sealed = seal(&BlockPlan::new(header(2), every_entry()));
        assert_eq!(read_block(&sealed, 8, 8192).err(), Some(BlockError::Misplaced));
        assert_eq!(read_block(&sealed, 7, 4096).err(), Some(BlockError::Misplaced));
    }

    #[test]
    fn sequences_follow_by_one_or_by_a_start() {
        let at = |incarnation, counter| BlockSequence::new(Incarnation(incarnation), counter);
        assert!(at(3, 5).follows(at(3, 4)));
        assert!(at(4, 1).follows(at(3, 4)));
        assert!(!at(3, 6).follows(at(3, 4)));
        assert!(!at(4, 2).follows(at(3, 4)));
        assert!(!at(2, 1).follows(at(3, 4)));
    }

    #[test]
    fn a_torn_head_is_a_free_file() {
        let head = FileHead { journal_id: 1, first_sequence: BlockSequence(77) };
        let bytes = head.encode();
        assert_eq!(FileHead::decode(&bytes), Ok(Some(head)));
        assert_eq!(FileHead::decode(&bytes[..20]), Ok(None));
        assert_eq!(FileHead::decode(&[0; 64]), Ok(None));
    }
}
