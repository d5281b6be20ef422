//! Snapshots of the metadata log: which of them are whole, and what they make of the log.

use bytes::Bytes;

use super::StoredBatch;
use super::journal::be32;

const HEADER: u8 = 3;
const FOOTER: u8 = 4;

/// A snapshot by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Snapshot {
    pub(super) end: i64,
    pub(super) epoch: i32,
}

/// Reads the name of a file in the folder of the metadata log.
pub(super) fn named(name: &str) -> Option<Snapshot> {
    let name = name.strip_prefix("__cluster_metadata-0/")?.strip_suffix(".checkpoint")?;
    let (end, epoch) = name.split_once('-')?;
    if end.len() != 20 || epoch.len() != 10 {
        return None;
    }
    Some(Snapshot { end: end.parse().ok()?, epoch: epoch.parse().ok()? })
}

/// Returns whether a file is that snapshot, whole.
pub(super) fn is_whole(snapshot: Snapshot, mut file: Bytes) -> bool {
    let mut next = 0;
    let mut last = None;
    while !file.is_empty() {
        let Some(batch) = StoredBatch::split_from(&mut file) else { return false };
        let epoch = be32(&batch.bytes, 12) as i32;
        if !batch.is_sound() || batch.base != next || epoch != snapshot.epoch {
            return false;
        }
        let kind = control_kind(&batch);
        if (next == 0) != (kind == Some(HEADER)) || last == Some(FOOTER) {
            return false;
        }
        next = batch.last + 1;
        last = kind;
    }
    last == Some(FOOTER)
}

/// Returns the kind of the first record of a control batch.
fn control_kind(batch: &StoredBatch) -> Option<u8> {
    let is_control = batch.bytes[22] & 0x20 != 0;
    // Length, attributes, both deltas and the length of the key, which tell nothing but where it stands.
    let mut key = 61;
    for _ in 0..5 {
        while batch.bytes.get(key)? & 0x80 != 0 {
            key += 1;
        }
        key += 1;
    }
    if is_control { batch.bytes.get(key + 3).copied() } else { None }
}
