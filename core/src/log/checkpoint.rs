//! The checkpoint of a shard: up to where its segments are durable, so that journal files may be
//! used again.
//!
//! Written whole beside the old one and renamed over it, in two places: without it nobody knows where
//! logs begin, which offsets of memory logs were given out, or from where on the journal counts, so one
//! that is lost or damaged is read from the other place and never guessed. Journal files are free
//! only when both are durable, so either is good, and the one with the greater cut is later.
//!
//! All integers are big-endian: magic `MSCP`, format version u16, zero u16, length of what follows u64, CRC-32C
//! u32 of it; then cut u64 (journal blocks up to this sequence are covered), vote epoch i32 (-1 none),
//! its candidate i32 (not in version 1), number of logs u32, and for each log: topic id 16, partition i32, storage u8, name length u16 and name,
//! start i64, end i64, reserved i64, `producers_at` i64 (-1 none), number of epochs u32 with epoch i32
//! and start i64 each, number of segments u32 with base i64, end i64, bytes u64, max timestamp i64,
//! first and last append time i64 each.

use bytes::{Buf, BufMut, Bytes};

use crate::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ShardId, TopicName, TopicPartition, Uuid,
};
use crate::io::FileName;
use crate::log::api::Storage;
use crate::log::block::BlockSequence;
use crate::log::partition_log::LogImage;
use crate::log::segment::Extent;
use crate::time::UnixMillis;

const MAGIC: [u8; 4] = *b"MSCP";
const FORMAT_VERSION: u16 = 2;
/// The format without the candidate of the vote.
const WITHOUT_CANDIDATE: u16 = 1;
/// Who was voted for where nobody was, or nobody noted it.
pub(super) const NOBODY: NodeId = NodeId(-1);
const HEADER_LEN: usize = 20;

/// Returns both places of a shard's checkpoint.
pub(super) fn files(shard: ShardId) -> [FileName; 2] {
    [format!("checkpoint/{shard}"), format!("journal/{shard}/checkpoint")].map(FileName::new)
}

/// Returns the file that is written beside `file` and renamed over it.
pub(super) fn temporary(file: &FileName) -> FileName {
    FileName::new(format!("{file}.tmp"))
}

/// What a checkpoint holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Checkpoint {
    pub(super) cut: BlockSequence,
    /// The last vote: its epoch, and for whom; node -1 where that was not noted.
    pub(super) vote: Option<(LeaderEpoch, NodeId)>,
    pub(super) logs: Vec<(TopicPartition, LogImage)>,
}

/// Why a checkpoint cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum CheckpointError {
    #[error("it is damaged")]
    Damaged,
    #[error("it has format version {0}, this build reads {FORMAT_VERSION}")]
    Newer(u16),
}

impl Checkpoint {
    pub(super) fn encode(&self) -> Bytes {
        let mut body = Vec::with_capacity(64 + self.logs.len() * 160);
        body.put_u64(self.cut.0);
        let (epoch, candidate) = self.vote.unwrap_or((LeaderEpoch::UNKNOWN, NOBODY));
        body.put_i32(epoch.0);
        body.put_i32(candidate.0);
        body.put_u32(self.logs.len() as u32);
        for (id, log) in &self.logs {
            body.put_slice(&id.topic_id.0);
            body.put_i32(id.partition.0);
            body.put_u8(match log.storage {
                Storage::Disk => 0,
                Storage::Memory => 1,
            });
            body.put_u16(log.name.as_str().len() as u16);
            body.put_slice(log.name.as_str().as_bytes());
            body.put_i64(log.start.0);
            body.put_i64(log.end.0);
            body.put_i64(log.reserved.0);
            body.put_i64(log.producers_at.map_or(-1, |offset| offset.0));
            body.put_u32(log.epochs.len() as u32);
            for (epoch, start) in &log.epochs {
                body.put_i32(epoch.0);
                body.put_i64(start.0);
            }
            body.put_u32(log.segments.len() as u32);
            for segment in &log.segments {
                body.put_i64(segment.base.0);
                body.put_i64(segment.end.0);
                body.put_u64(segment.bytes);
                body.put_i64(segment.max_timestamp);
                body.put_i64(segment.first_append.0);
                body.put_i64(segment.last_append.0);
            }
        }
        let mut out = Vec::with_capacity(HEADER_LEN + body.len());
        out.put_slice(&MAGIC);
        out.put_u16(FORMAT_VERSION);
        out.put_u16(0);
        out.put_u64(body.len() as u64);
        out.put_u32(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &body) as u32);
        out.extend_from_slice(&body);
        out.into()
    }

    pub(super) fn decode(mut bytes: Bytes) -> Result<Self, CheckpointError> {
        if bytes.len() < HEADER_LEN || bytes[..4] != MAGIC {
            return Err(CheckpointError::Damaged);
        }
        bytes.advance(4);
        let version = bytes.get_u16();
        bytes.advance(2);
        let length = bytes.get_u64();
        let crc = bytes.get_u32();
        if bytes.len() as u64 != length
            || crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes) as u32 != crc
        {
            return Err(CheckpointError::Damaged);
        }
        if !matches!(version, WITHOUT_CANDIDATE | FORMAT_VERSION) {
            return Err(CheckpointError::Newer(version));
        }
        Self::decode_body(version, &mut bytes).ok_or(CheckpointError::Damaged)
    }

    fn decode_body(version: u16, bytes: &mut Bytes) -> Option<Self> {
        let cut = BlockSequence(bytes.try_get_u64().ok()?);
        let epoch = LeaderEpoch(bytes.try_get_i32().ok()?);
        let candidate = match version {
            WITHOUT_CANDIDATE => NOBODY,
            _ => NodeId(bytes.try_get_i32().ok()?),
        };
        let vote = (epoch.0 >= 0).then_some((epoch, candidate));
        let count = bytes.try_get_u32().ok()?;
        let mut logs = Vec::new();
        for _ in 0..count {
            logs.push(Self::decode_log(bytes)?);
        }
        bytes.is_empty().then_some(Self { cut, vote, logs })
    }

    fn decode_log(bytes: &mut Bytes) -> Option<(TopicPartition, LogImage)> {
        let mut topic_id = [0; 16];
        bytes.try_copy_to_slice(&mut topic_id).ok()?;
        let partition = PartitionIndex(bytes.try_get_i32().ok()?);
        let storage = match bytes.try_get_u8().ok()? {
            0 => Storage::Disk,
            1 => Storage::Memory,
            _ => return None,
        };
        let name_len = usize::from(bytes.try_get_u16().ok()?);
        if bytes.len() < name_len {
            return None;
        }
        let name = bytes.split_to(name_len);
        let name = TopicName::parse(std::str::from_utf8(&name).ok()?).ok()?;
        let start = Offset(bytes.try_get_i64().ok()?);
        let end = Offset(bytes.try_get_i64().ok()?);
        let reserved = Offset(bytes.try_get_i64().ok()?);
        let producers_at = bytes.try_get_i64().ok()?;
        let mut epochs = Vec::new();
        for _ in 0..bytes.try_get_u32().ok()? {
            epochs
                .push((LeaderEpoch(bytes.try_get_i32().ok()?), Offset(bytes.try_get_i64().ok()?)));
        }
        let mut segments = Vec::new();
        for _ in 0..bytes.try_get_u32().ok()? {
            segments.push(Extent {
                base: Offset(bytes.try_get_i64().ok()?),
                end: Offset(bytes.try_get_i64().ok()?),
                bytes: bytes.try_get_u64().ok()?,
                max_timestamp: bytes.try_get_i64().ok()?,
                first_append: UnixMillis(bytes.try_get_i64().ok()?),
                last_append: UnixMillis(bytes.try_get_i64().ok()?),
            });
        }
        let rising = epochs.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1)
            && segments.windows(2).all(|pair| pair[0].end <= pair[1].base);
        let image = LogImage {
            name,
            storage,
            start,
            end,
            reserved,
            producers_at: (producers_at >= 0).then_some(Offset(producers_at)),
            epochs,
            segments,
        };
        (rising && start <= end)
            .then_some((TopicPartition { topic_id: Uuid(topic_id), partition }, image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let extent = Extent {
            base: Offset(3),
            end: Offset(9),
            bytes: 700,
            max_timestamp: 5,
            first_append: UnixMillis(4),
            last_append: UnixMillis(6),
        };
        let image = LogImage {
            name: TopicName::parse("orders").expect("a name"),
            storage: Storage::Disk,
            start: Offset(4),
            end: Offset(9),
            reserved: Offset(0),
            producers_at: Some(Offset(9)),
            epochs: vec![(LeaderEpoch(1), Offset(0)), (LeaderEpoch(4), Offset(7))],
            segments: vec![extent],
        };
        let id = TopicPartition { topic_id: Uuid([8; 16]), partition: PartitionIndex(2) };
        Checkpoint {
            cut: BlockSequence(77),
            vote: Some((LeaderEpoch(3), NodeId(2))),
            logs: vec![(id, image)],
        }
    }

    #[test]
    fn a_checkpoint_is_read_back_as_it_was_written() {
        assert_eq!(Checkpoint::decode(checkpoint().encode()), Ok(checkpoint()));
    }

    #[test]
    fn a_checkpoint_of_an_earlier_build_does_not_say_for_whom_the_vote_was() {
        let whole = checkpoint().encode();
        let body = [&whole[HEADER_LEN..HEADER_LEN + 12], &whole[HEADER_LEN + 16..]].concat();
        let mut old = MAGIC.to_vec();
        old.put_u16(WITHOUT_CANDIDATE);
        old.put_u16(0);
        old.put_u64(body.len() as u64);
        old.put_u32(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &body) as u32);
        old.extend_from_slice(&body);
        let expected = Checkpoint { vote: Some((LeaderEpoch(3), NOBODY)), ..checkpoint() };
        assert_eq!(Checkpoint::decode(old.into()), Ok(expected));
    }

    #[test]
    fn a_cut_or_changed_checkpoint_is_damaged() {
        let whole = checkpoint().encode();
        for length in 0..whole.len() {
            assert_eq!(
                Checkpoint::decode(whole.slice(..length)),
                Err(CheckpointError::Damaged),
                "{length}"
            );
        }
        for at in 8..whole.len() {
            let mut broken = whole.to_vec();
            broken[at] ^= 4;
            assert_eq!(Checkpoint::decode(broken.into()), Err(CheckpointError::Damaged), "{at}");
        }
    }
}
