//! Damage to the acknowledged part of a journal: bits of blocks that a later block proves durable.
//!
//! Behind the last proof a flipped bit looks like a write that a crash cut short, and no reader can
//! tell; so nothing there is damaged.

use bytes::Bytes;
use mainspring_core::log::block::{BlockSequence, FileHead, peek_block_len, read_block};

use crate::disk::SimDisk;
use crate::rng::Rng;

/// Blocks and heads of files begin at multiples of this.
const ALIGNMENT: u64 = 4096;

/// A part of a journal file that must not change.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Part {
    file: String,
    position: u64,
    length: u64,
    /// The block in it, or the first that its file may hold.
    sequence: BlockSequence,
    /// Up to where it proves the journal durable.
    proves: BlockSequence,
}

/// Flips a bit in a part that another part proves durable. Returns where.
pub(super) fn rot(disk: &mut SimDisk, rng: &mut Rng) -> Option<String> {
    let parts = parts(disk);
    let victims: Vec<&Part> = parts
        .iter()
        .filter(|part| {
            let others = parts.iter().filter(|other| other != part);
            others.map(|other| other.proves).max() >= Some(part.sequence)
        })
        .collect();
    if victims.is_empty() {
        return None;
    }
    let victim = victims[rng.index(victims.len())];
    let at = victim.position + rng.below(victim.length);
    let (block, file) = (victim.sequence.0, victim.file.clone());
    disk.rot(&file, at, rng.below(8) as u8).then(|| format!("{file} at {at}, in block {block}"))
}

/// Returns the blocks of the journal, those of earlier laps left out.
fn parts(disk: &SimDisk) -> Vec<Part> {
    let mut found = Vec::new();
    for file in disk.files().into_iter().filter(|name| name.starts_with("journal/")) {
        let Some(bytes) = disk.page_image(&file).map(Bytes::copy_from_slice) else { continue };
        let Ok(Some(head)) = FileHead::decode(&bytes) else { continue };
        let mut at = ALIGNMENT as usize;
        while at + ALIGNMENT as usize <= bytes.len() {
            let rest = bytes.slice(at..);
            let length = peek_block_len(&rest).unwrap_or(ALIGNMENT as usize);
            if let Ok(block) = read_block(&rest, head.journal_id, at as u64)
                && block.header.sequence >= head.first_sequence
            {
                found.push(Part {
                    file: file.clone(),
                    position: at as u64,
                    length: block.length,
                    sequence: block.header.sequence,
                    proves: block.header.durable_mark,
                });
                at += length;
            } else {
                at += ALIGNMENT as usize;
            }
        }
    }
    found
}
