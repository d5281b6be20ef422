//! Bodies of fuzz targets for the files that a start reads before anything else.
//!
//! Each takes arbitrary bytes and asserts what must hold whatever they are; a panic is a finding.

use bytes::Bytes;

use crate::ids::{
    Incarnation, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicName, TopicPartition, Uuid,
};
use crate::log::api::Storage;
use crate::log::block::{
    BlockHeader, BlockPlan, BlockSequence, Cut, Entry, FileHead, block_crc, peek_block_len,
    read_block,
};
use crate::log::checkpoint::Checkpoint;
use crate::log::identity::{Identity, Starts};
use crate::log::partition_log::LogImage;
use crate::log::segment::Extent;
use crate::time::UnixMillis;

/// A journal file: the head, then what begins behind eight bytes that claim the journal's id. Each is
/// tried as it is and with a right CRC, so that damage is seen behind the checksum too.
///
/// # Panics
/// Where what was read is not what would be written.
pub fn journal(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    head(&bytes);
    if let Some(covered) = bytes.get(..24) {
        let crc = crc32c(covered).to_be_bytes();
        if let Some(field) = bytes.get_mut(24..28) {
            field.copy_from_slice(&crc);
            head(&bytes);
        }
    }
    let Some((id, rest)) = bytes.split_first_chunk::<8>() else { return };
    let mut rest = rest.to_vec();
    block(*id, &rest);
    if let Some(length) = peek_block_len(&rest).filter(|length| *length <= rest.len()) {
        let crc = block_crc(&rest[..length]).to_be_bytes();
        rest[60..64].copy_from_slice(&crc);
        block(*id, &rest);
    }
}

fn head(bytes: &[u8]) {
    if let Ok(Some(head)) = FileHead::decode(bytes) {
        assert_eq!(FileHead::decode(&head.encode()), Ok(Some(head)));
    }
}

fn block(id: [u8; 8], bytes: &[u8]) {
    const POSITION: u64 = 4096;
    let block = Bytes::copy_from_slice(bytes);
    let Ok(found) = read_block(&block, u64::from_be_bytes(id), POSITION) else { return };
    assert_eq!(peek_block_len(&block).map(|length| length as u64), Some(found.length));
    let plan = BlockPlan::new(found.header, found.entries);
    let mut sealed = vec![0; plan.sealed_len()];
    plan.seal(&mut sealed);
    let again = read_block(&sealed.into(), found.header.journal_id, found.header.position);
    assert_eq!(again.map(|again| again.header), Ok(found.header));
}

/// A checkpoint, as it is and with a right CRC; the identity of a directory; the count of its starts.
///
/// # Panics
/// Where what was read is not what would be written.
pub fn start_files(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    if let Some((header, body)) = sealed.split_at_mut_checked(20) {
        header[8..16].copy_from_slice(&(body.len() as u64).to_be_bytes());
        header[16..20].copy_from_slice(&crc32c(body).to_be_bytes());
    }
    for bytes in [Bytes::copy_from_slice(bytes), sealed.into()] {
        if let Ok(checkpoint) = Checkpoint::decode(bytes) {
            assert_eq!(Checkpoint::decode(checkpoint.encode()), Ok(checkpoint));
        }
    }
    if let Ok(identity) = Identity::decode(bytes) {
        assert_eq!(Identity::decode(identity.encode().as_bytes()), Ok(identity));
    }
    if let Ok((starts, _)) = Starts::decode(bytes) {
        assert_eq!(Starts::decode(&starts.encode_file()), Ok((starts, Some(1))));
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Returns whole files of each kind, for others to damage.
pub fn samples() -> Vec<Vec<u8>> {
    let log = TopicPartition { topic_id: Uuid([5; 16]), partition: PartitionIndex(3) };
    let header = BlockHeader {
        journal_id: 7,
        sequence: BlockSequence::new(Incarnation(2), 9),
        position: 4096,
        durable_mark: BlockSequence::new(Incarnation(2), 8),
        wall: UnixMillis(1_770_000_000_000),
        hold_minutes: 90,
    };
    let entries = vec![
        Entry::Create { log, storage: Storage::Disk, name: Bytes::from_static(b"orders") },
        Entry::LogStart { log, start: Offset(1) },
        Entry::Truncate {
            log,
            cut: Cut {
                number: 5,
                end: Offset(4),
                anew: false,
                segment: Some((Offset(2), 300)),
                producers: Bytes::from_static(b"nobody"),
            },
        },
        Entry::Vote { epoch: LeaderEpoch(4), candidate: NodeId(1) },
        Entry::Reserve { log, end: Offset(1 << 20) },
        Entry::Delete { log },
        Entry::Close,
    ];
    let plan = BlockPlan::new(header, entries);
    let mut block = 7_u64.to_be_bytes().to_vec();
    let start = block.len();
    block.resize(start + plan.sealed_len(), 0);
    plan.seal(&mut block[start..]);
    let head = FileHead { journal_id: 7, first_sequence: BlockSequence::new(Incarnation(2), 1) };
    let segment = Extent {
        base: Offset(3),
        end: Offset(9),
        bytes: 700,
        max_timestamp: 5,
        first_append: UnixMillis(4),
        last_append: UnixMillis(6),
    };
    let image = LogImage {
        name: TopicName::parse("orders").expect("a legal name"),
        storage: Storage::Disk,
        start: Offset(4),
        end: Offset(9),
        reserved: Offset(0),
        producers_at: Some(Offset(9)),
        epochs: vec![(LeaderEpoch(1), Offset(0)), (LeaderEpoch(4), Offset(7))],
        segments: vec![segment],
    };
    let checkpoint = Checkpoint {
        cut: BlockSequence(77),
        vote: Some((LeaderEpoch(3), NodeId(2))),
        logs: vec![(log, image)],
    };
    let starts = Starts { journal_id: 7, incarnation: Incarnation(2) };
    let voter = crate::cluster::Voter {
        node_id: NodeId(7),
        directory_id: Uuid([4; 16]),
        host: "localhost".into(),
        port: 9093,
    };
    let identity = Identity {
        cluster_id: Uuid([3; 16]),
        node_id: NodeId(7),
        directory_id: Uuid([4; 16]),
        voters: vec![voter],
    };
    vec![
        block,
        head.encode().to_vec(),
        checkpoint.encode().to_vec(),
        starts.encode_file().to_vec(),
        identity.encode().into_bytes(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes one byte after the other of every sample, and cuts it there.
    #[test]
    fn damaged_start_files_are_refused_or_read_as_written() {
        let samples = samples();
        assert_eq!(samples.len(), 5);
        for sample in samples {
            for at in 0..sample.len().min(400) {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut damaged = sample.clone();
                    damaged[at] = value;
                    journal(&damaged);
                    start_files(&damaged);
                }
                journal(&sample[..at]);
                start_files(&sample[..at]);
            }
        }
    }
}
