//! Reads a journal back after a start: which blocks are the log, and where it ends.
//!
//! What is no part of the log is told from it by content: blocks of an earlier lap by the head of
//! their file, torn writes by their CRC, blocks beyond a hole by their sequence, misdirected ones by
//! journal id and position. A chain that breaks is a torn tail, never acknowledged and safe to cut,
//! unless something later proves that what is missing was durable: then it is rot, and nothing is cut.

use bytes::Bytes;

use crate::buggify::{Buggify, Site};
use crate::digest::Digest;
use crate::io::FileName;
use crate::log::block::{
    ALIGNMENT, BlockError, BlockSequence, Entry, FileHead, peek_block_len, read_block,
};
use crate::time::UnixMillis;

/// Bytes of one read.
const CHUNK: u64 = 1 << 20;
/// How much of a place where the journal seems to end is read once more; a larger block is read whole.
const DOUBTED_BYTES: u64 = 64 << 10;
/// How often the place where the journal seems to end is read, where no two reads in a row agree.
const READS_MAX: u32 = 9;

/// A journal file as it was found.
#[derive(Clone, Debug)]
pub(super) struct FoundFile {
    pub(super) name: FileName,
    pub(super) length: u64,
    pub(super) first_sequence: BlockSequence,
}

/// Why a journal cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum ScanError {
    /// Something acknowledged is missing.
    #[error(
        "the journal is damaged in {file} at byte {position}: block {missing} was durable, as \
         {witness} proves, and is not readable"
    )]
    Rot { file: FileName, position: u64, missing: u64, witness: String },
    /// A newer build wrote it.
    #[error("{file} at byte {position}: {error}")]
    Unknown { file: FileName, position: u64, error: BlockError },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Blocks are taken as long as each follows the one before.
    Chain,
    /// The chain has ended; what is left is searched for proof that it should not have.
    Search,
    Done,
}

/// What a journal holds.
#[derive(Clone, Debug)]
pub(super) struct Scanned {
    /// All entries of the chain, with the block they stand in.
    pub(super) entries: Vec<(BlockSequence, Entry)>,
    /// The last block of the chain.
    pub(super) last: BlockSequence,
    /// File (by its place in the list given) and position behind the last block.
    pub(super) end: Option<(usize, u64)>,
    /// The highest sequence that something proves durable.
    pub(super) durable: BlockSequence,
    /// The last wall time that the clock guard of an earlier start accepted, and the minutes that were
    /// left of its hold on deletion by age.
    pub(super) wall: Option<(UnixMillis, u16)>,
    /// Whether bytes of a torn block stand behind the end.
    pub(super) torn: bool,
}

/// A place where the chain seems to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Doubt {
    file: usize,
    position: u64,
    /// The checksum of what the last read from there brought, `None` where none began there yet.
    brought: Option<u64>,
    reads: u32,
}

/// The scan of one journal. Feed it the reads it asks for.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    journal_id: u64,
    files: Vec<FoundFile>,
    /// Places in `files`, by first sequence.
    order: Vec<usize>,
    at: usize,
    position: u64,
    want: u64,
    phase: Phase,
    last: BlockSequence,
    broken_at: Option<(FileName, u64)>,
    /// Where the chain seemed to end and was read once more: a bit may have flipped on the way and not
    /// on the disk, and what is taken for a torn tail is cut.
    doubted: Option<Doubt>,
    /// Whether the chain follows into the next file once the rest of this one holds no proof of more.
    goes_on: bool,
    headless: Vec<(FileName, BlockSequence)>,
    cut: BlockSequence,
    out: Scanned,
    buggify: Buggify,
}

impl Scan {
    /// Takes in where it stands.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.number(self.at as u64).number(self.position).number(self.want);
        digest.shown(&self.doubted);
    }

    /// Begins where entries above `cut`, which a checkpoint covers, may stand.
    ///
    /// `headless` are files without a valid head, with the sequence that their first block claims.
    ///
    /// # Errors
    /// [`ScanError::Rot`] where the file that should come first is not there.
    pub(super) fn new(
        journal_id: u64,
        files: Vec<FoundFile>,
        cut: Option<BlockSequence>,
        headless: Vec<(FileName, BlockSequence)>,
        buggify: Buggify,
    ) -> Result<Self, ScanError> {
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by_key(|&file| files[file].first_sequence);
        let first = |place: usize| files[place].first_sequence;
        let start = cut.map_or(0, |cut| {
            let last = order.iter().rposition(|&file| first(file).0 <= cut.0 + 1).unwrap_or(0);
            // A file that was too short for its first block was left at once: two begin alike then.
            order
                .iter()
                .take(last)
                .position(|&file| first(file) == first(order[last]))
                .unwrap_or(last)
        });
        order.drain(..start);
        let last = order.first().map_or_else(BlockSequence::default, |&file| {
            BlockSequence(files[file].first_sequence.0.saturating_sub(1))
        });
        if let (Some(cut), Some(&first)) = (cut, order.first()) {
            let found = files[first].first_sequence;
            if found.0 > cut.0 + 1 && !found.follows(cut) {
                return Err(ScanError::Rot {
                    file: files[first].name.clone(),
                    position: 0,
                    missing: cut.0 + 1,
                    witness: format!("the head of {}", files[first].name),
                });
            }
        }
        let phase = if order.is_empty() { Phase::Done } else { Phase::Chain };
        let end = order.first().map(|&file| (file, ALIGNMENT as u64));
        let durable = cut.unwrap_or_default();
        Ok(Self {
            journal_id,
            files,
            order,
            at: 0,
            position: ALIGNMENT as u64,
            want: CHUNK,
            phase,
            last,
            broken_at: None,
            doubted: None,
            goes_on: false,
            headless,
            cut: cut.unwrap_or_default(),
            out: Scanned { entries: Vec::new(), last, end, durable, wall: None, torn: false },
            buggify,
        })
    }

    /// Returns the read that the scan waits for: file, position and length.
    pub(super) fn next_read(&mut self) -> Option<(FileName, u64, u64)> {
        if self.phase == Phase::Done {
            return None;
        }
        if self.want == CHUNK && self.buggify.strikes(Site::SmallScan) {
            self.want = ALIGNMENT as u64;
        }
        let file = &self.files[self.order[self.at]];
        let length = self.want.min(file.length.saturating_sub(self.position)).max(1);
        Some((file.name.clone(), self.position, length))
    }

    /// Takes what the read found and goes on.
    pub(super) fn on_read(&mut self, bytes: &Bytes) -> Result<(), ScanError> {
        match self.phase {
            Phase::Chain => self.follow(bytes),
            Phase::Search => self.search(bytes),
            Phase::Done => Ok(()),
        }
    }

    /// Ends the scan.
    ///
    /// # Errors
    /// [`ScanError::Rot`] where a file without a head holds what comes after the end, since a head is
    /// durable before the first block of its file; and where the journal ends before the cut, since a
    /// checkpoint is made of durable blocks only.
    pub(super) fn finish(self) -> Result<Scanned, ScanError> {
        assert_eq!(self.phase, Phase::Done, "the scan is over");
        if let Some((file, claims)) = self.headless.iter().find(|(_, claims)| *claims > self.last) {
            return Err(ScanError::Rot {
                file: file.clone(),
                position: 0,
                missing: self.last.0 + 1,
                witness: format!("block {} behind its head", claims.0),
            });
        }
        if self.last < self.cut {
            return Err(self.rot("the checkpoint".to_owned()));
        }
        Ok(Scanned { last: self.last, ..self.out })
    }

    fn follow(&mut self, bytes: &Bytes) -> Result<(), ScanError> {
        let place = self.order[self.at];
        let file = self.files[place].clone();
        let mut offset = 0_usize;
        loop {
            let rest = bytes.slice(offset..);
            let here = self.position + offset as u64;
            let available = file.length.saturating_sub(here);
            if available >= ALIGNMENT as u64
                && let Some(length) = peek_block_len(&rest)
                && length as u64 <= available
                && rest.len() < length
            {
                if offset == 0 && bytes.len() as u64 >= self.want {
                    // Larger than what was read: read all of it.
                    self.want = length as u64;
                    return Ok(());
                }
                if offset > 0 {
                    self.position = here;
                    self.want = CHUNK.max(length as u64);
                    return Ok(());
                }
            }
            if rest.len() < ALIGNMENT && available >= ALIGNMENT as u64 && offset > 0 {
                self.position = here;
                self.want = CHUNK;
                return Ok(());
            }
            match read_block(&rest, self.journal_id, here) {
                Ok(block)
                    if block.header.sequence >= file.first_sequence
                        && block.header.sequence.follows(self.last) =>
                {
                    if block.header.durable_mark > self.last {
                        // The chain goes on over a start, yet what the mark covers is not here.
                        self.broken_at = Some((file.name.clone(), here));
                        return Err(self.rot(format!("{} at byte {here}", file.name)));
                    }
                    let sequence = block.header.sequence;
                    self.last = sequence;
                    self.out.durable = self.out.durable.max(block.header.durable_mark);
                    self.out.wall = Some((block.header.wall, block.header.hold_minutes));
                    self.out
                        .entries
                        .extend(block.entries.into_iter().map(|entry| (sequence, entry)));
                    offset += block.length as usize;
                    self.out.end = Some((place, self.position + offset as u64));
                }
                Err(error @ (BlockError::NewerFormat(_) | BlockError::NewerEntry { .. })) => {
                    return Err(ScanError::Unknown { file: file.name, position: here, error });
                }
                Ok(_) | Err(_) if self.is_doubtful(place, here, &rest) => {
                    self.position = here;
                    self.want = DOUBTED_BYTES;
                    return Ok(());
                }
                Ok(_) | Err(_) => return self.end_of_chain_in_file(here, &rest),
            }
        }
    }

    /// Returns whether the place where the chain seems to end is to be read once more: reads of it must agree.
    fn is_doubtful(&mut self, file: usize, position: u64, rest: &[u8]) -> bool {
        let before = self.doubted.filter(|doubt| (doubt.file, doubt.position) == (file, position));
        let Some(before) = before else {
            // This read began elsewhere and is as long as it happens to be.
            self.doubted = Some(Doubt { file, position, brought: None, reads: 1 });
            return true;
        };
        let brought = Some(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, rest));
        self.doubted = Some(Doubt { brought, reads: before.reads + 1, ..before });
        before.brought != brought && before.reads < READS_MAX
    }

    /// No block follows at `position` of the file: the journal goes on in the next, or it ends.
    fn end_of_chain_in_file(&mut self, position: u64, rest: &Bytes) -> Result<(), ScanError> {
        // One that begins no later than what was found was left before anything was written to it.
        while let Some(&next) = self.order.get(self.at + 1)
            && self.files[next].first_sequence <= self.last
        {
            self.order.remove(self.at + 1);
        }
        if let Some(&next) = self.order.get(self.at + 1)
            && self.files[next].first_sequence.follows(self.last)
        {
            if self.files[next].first_sequence.counter() > 1 {
                self.go_on_in_next();
                return Ok(());
            }
            // The first block of a start follows anything: that nothing is missing before it, the rest
            // of this file must tell.
            self.broken_at = Some((self.files[self.order[self.at]].name.clone(), position));
            self.goes_on = true;
            self.phase = Phase::Search;
            self.position = position;
            self.want = CHUNK;
            return self.end_if_past_file();
        }
        self.out.torn = peek_block_len(rest).is_some();
        self.broken_at = Some((self.files[self.order[self.at]].name.clone(), position));
        self.phase = Phase::Search;
        self.position = position;
        self.want = CHUNK;
        self.end_if_past_file()
    }

    /// Follows the chain into the next file.
    fn go_on_in_next(&mut self) {
        self.at += 1;
        self.phase = Phase::Chain;
        self.goes_on = false;
        self.position = ALIGNMENT as u64;
        self.want = CHUNK;
        // A file is taken into use only when everything before it is durable, but by a start that still writes again
        // what it found. Marks tell that it has come further.
        let first = self.files[self.order[self.at]].first_sequence;
        if self.out.durable.incarnation() == first.incarnation() {
            self.out.durable = self.out.durable.max(self.last);
        }
        self.out.end = Some((self.order[self.at], ALIGNMENT as u64));
    }

    /// The head of a later file says up to where the journal was durable when it was taken into use.
    fn check_heads(&self) -> Result<(), ScanError> {
        for &file in &self.order[self.at + 1..] {
            let first = self.files[file].first_sequence;
            if first.counter() > 1 && first.0 - 1 > self.last.0 {
                return Err(self.rot(format!("the head of {}", self.files[file].name)));
            }
        }
        Ok(())
    }

    fn search(&mut self, bytes: &Bytes) -> Result<(), ScanError> {
        let place = self.order[self.at];
        let file = self.files[place].clone();
        let mut offset = 0_usize;
        while offset + ALIGNMENT <= bytes.len() {
            let here = self.position + offset as u64;
            let rest = bytes.slice(offset..);
            if let Some(length) = peek_block_len(&rest)
                && here + length as u64 <= file.length
                && (mark_of(&rest) > self.last || self.begins_a_start(&rest))
            {
                if rest.len() < length {
                    self.position = here;
                    self.want = CHUNK.max(length as u64);
                    if offset > 0 || (bytes.len() as u64) < self.want {
                        return Ok(());
                    }
                }
                if let Ok(block) = read_block(&rest, self.journal_id, here)
                    && block.header.sequence >= file.first_sequence
                {
                    if block.header.durable_mark > self.last {
                        return Err(self.rot(format!("{} at byte {here}", file.name)));
                    }
                    // What that start could read above its mark it wrote again, behind what it read. So
                    // what is missing before it was never durable: a flush had failed, the start read it
                    // out of the page cache, and then the power went.
                    self.phase = Phase::Chain;
                    self.goes_on = false;
                    self.out.torn = false;
                    self.position = here;
                    self.want = CHUNK;
                    return Ok(());
                }
            }
            offset += ALIGNMENT;
        }
        self.position += (offset as u64).max(ALIGNMENT as u64);
        self.want = CHUNK;
        self.end_if_past_file()
    }

    /// Returns whether the block at the front of `bytes` claims to be the first of a later start, which
    /// knew of nothing durable that is not here.
    fn begins_a_start(&self, bytes: &[u8]) -> bool {
        let sequence = word_at(bytes, 16);
        sequence.counter() == 1 && sequence.follows(self.last) && mark_of(bytes) <= self.last
    }

    fn end_if_past_file(&mut self) -> Result<(), ScanError> {
        while self.position + ALIGNMENT as u64 > self.files[self.order[self.at]].length {
            if self.goes_on {
                self.go_on_in_next();
                return Ok(());
            }
            self.check_heads()?;
            self.at += 1;
            self.position = ALIGNMENT as u64;
            if self.at == self.order.len() {
                self.phase = Phase::Done;
                return Ok(());
            }
        }
        Ok(())
    }

    fn rot(&self, witness: String) -> ScanError {
        let (file, position) = self.broken_at.clone().expect("the chain is broken somewhere");
        ScanError::Rot { file, position, missing: self.last.0 + 1, witness }
    }
}

/// Returns the durable mark that a block at the front of `bytes` claims.
fn mark_of(bytes: &[u8]) -> BlockSequence {
    word_at(bytes, 32)
}

fn word_at(bytes: &[u8], at: usize) -> BlockSequence {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    BlockSequence(u64::from_be_bytes(word))
}

/// Returns the sequence that the first block of a file claims to have, by its header alone. `bytes` are
/// the head and what follows it; without a journal id, a block of any journal counts.
pub(super) fn first_block_claim(bytes: &[u8], journal_id: Option<u64>) -> Option<BlockSequence> {
    let block = bytes.get(ALIGNMENT..)?;
    peek_block_len(block)?;
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&block[at..at + 8]);
        u64::from_be_bytes(word)
    };
    let is_ours = journal_id.is_none_or(|id| id == word(8));
    (is_ours && word(24) == ALIGNMENT as u64).then(|| BlockSequence(word(16)))
}

/// Reads the head of a journal file.
pub(super) fn read_head(bytes: &[u8], name: &FileName) -> Result<Option<FileHead>, ScanError> {
    FileHead::decode(bytes).map_err(|error| ScanError::Unknown {
        file: name.clone(),
        position: 0,
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Incarnation;
    use crate::log::block::{BlockHeader, BlockPlan};

    const LENGTH: u64 = 64 << 10;

    struct Disk(Vec<Vec<u8>>);

    fn sequence(incarnation: u32, counter: u64) -> BlockSequence {
        BlockSequence::new(Incarnation(incarnation), counter)
    }

    impl Disk {
        fn new(files: usize) -> Self {
            Self(vec![vec![0; LENGTH as usize]; files])
        }

        fn head(&mut self, file: usize, first: BlockSequence) {
            let head = FileHead { journal_id: 1, first_sequence: first };
            self.0[file][..ALIGNMENT].copy_from_slice(&head.encode());
        }

        fn block(&mut self, file: usize, position: u64, at: BlockSequence, mark: BlockSequence) {
            let header = BlockHeader {
                journal_id: 1,
                sequence: at,
                position,
                durable_mark: mark,
                wall: UnixMillis(5),
                hold_minutes: 0,
            };
            let plan = BlockPlan::new(header, vec![Entry::Close]);
            let from = position as usize;
            plan.seal(&mut self.0[file][from..from + plan.sealed_len()]);
        }

        fn scan(&self, cut: Option<BlockSequence>) -> Result<Scanned, ScanError> {
            self.scan_flipping(cut, &[])
        }

        /// Scans; some reads, counted from 0, have a bit flipped at a place of their own.
        fn scan_flipping(
            &self,
            cut: Option<BlockSequence>,
            flips: &[(usize, usize)],
        ) -> Result<Scanned, ScanError> {
            let (mut files, mut headless) = (Vec::new(), Vec::new());
            for (number, bytes) in self.0.iter().enumerate() {
                let name = FileName::new(format!("journal/0/{number}"));
                if let Some(head) = read_head(bytes, &name)? {
                    files.push(FoundFile {
                        name,
                        length: LENGTH,
                        first_sequence: head.first_sequence,
                    });
                } else if let Some(claims) = first_block_claim(bytes, Some(1)) {
                    headless.push((name, claims));
                }
            }
            let mut scan = Scan::new(1, files, cut, headless, Buggify::default())?;
            let mut reads = 0;
            while let Some((name, position, length)) = scan.next_read() {
                let number = usize::from(name.as_str().as_bytes()[10] - b'0');
                let end = (position + length).min(LENGTH) as usize;
                let mut bytes = self.0[number][position as usize..end].to_vec();
                for (_, at) in flips.iter().filter(|(read, _)| *read == reads) {
                    if let Some(byte) = bytes.get_mut(*at) {
                        *byte ^= 1;
                    }
                }
                reads += 1;
                scan.on_read(&bytes.into())?;
            }
            scan.finish()
        }
    }

    fn three_blocks() -> Disk {
        let mut disk = Disk::new(2);
        disk.head(0, sequence(1, 1));
        for counter in 1..=3 {
            disk.block(0, 4096 * counter, sequence(1, counter), sequence(1, counter - 1));
        }
        disk
    }

    #[test]
    fn a_chain_is_followed_to_its_end() {
        let scanned = three_blocks().scan(None).expect("clean");
        assert_eq!(scanned.last, sequence(1, 3));
        assert_eq!(scanned.durable, sequence(1, 2));
        assert_eq!(scanned.end, Some((0, 4 * 4096)));
        assert_eq!(scanned.entries.len(), 3);
    }

    #[test]
    fn a_torn_last_block_is_cut() {
        let mut disk = three_blocks();
        disk.0[0][3 * 4096 + 100] ^= 1;
        let scanned = disk.scan(None).expect("a torn tail is no damage");
        assert_eq!(scanned.last, sequence(1, 2));
        assert!(scanned.torn);
    }

    #[test]
    fn a_bit_that_flips_on_the_way_from_the_disk_cuts_nothing() {
        for flip in [0, 4096, 2 * 4096 + 3, 2 * 4096 + 20, 2 * 4096 + 100] {
            let scanned = three_blocks().scan_flipping(None, &[(0, flip)]).expect("clean");
            assert_eq!(scanned.last, sequence(1, 3), "a bit at {flip}");
            assert_eq!(scanned.end, Some((0, 4 * 4096)));
        }
    }

    #[test]
    fn what_several_reads_tell_differently_cuts_nothing() {
        let flips = [(0, 2 * 4096 + 20), (1, 20), (2, 100), (3, 21)];
        let scanned = three_blocks().scan_flipping(None, &flips).expect("clean");
        assert_eq!((scanned.last, scanned.torn), (sequence(1, 3), false));

        // What is on the disk is told alike.
        let mut disk = three_blocks();
        disk.0[0][3 * 4096 + 100] ^= 1;
        let scanned = disk.scan_flipping(None, &[(1, 20)]).expect("a torn tail is no damage");
        assert_eq!((scanned.last, scanned.torn), (sequence(1, 2), true));
    }

    #[test]
    fn a_missing_block_that_a_later_one_proves_durable_is_rot() {
        let mut disk = three_blocks();
        disk.0[0][2 * 4096 + 100] ^= 1;
        assert!(matches!(disk.scan(None), Err(ScanError::Rot { position: 8192, .. })));
    }

    #[test]
    fn a_block_that_the_checkpoint_covers_was_durable_and_its_loss_is_rot() {
        let mut disk = three_blocks();
        disk.0[0][3 * 4096 + 100] ^= 1;
        assert_eq!(disk.scan(Some(sequence(1, 2))).expect("a torn tail").last, sequence(1, 2));
        let found = disk.scan(Some(sequence(1, 3)));
        assert!(matches!(found, Err(ScanError::Rot { position: 12_288, .. })), "{found:?}");
    }

    #[test]
    fn a_block_beyond_a_hole_that_proves_nothing_is_ignored() {
        let mut disk = three_blocks();
        disk.block(0, 5 * 4096, sequence(1, 5), sequence(1, 3));
        assert_eq!(disk.scan(None).expect("clean").last, sequence(1, 3));
    }

    #[test]
    fn blocks_of_an_earlier_lap_are_ignored() {
        let mut disk = three_blocks();
        disk.head(1, sequence(1, 4));
        disk.block(1, 4096, sequence(1, 4), sequence(1, 3));
        disk.head(0, sequence(1, 5));
        disk.block(0, 4096, sequence(1, 5), sequence(1, 4));
        let scanned = disk.scan(Some(sequence(1, 3))).expect("clean");
        assert_eq!(scanned.last, sequence(1, 5));
        assert_eq!(scanned.end, Some((0, 8192)));
    }

    #[test]
    fn the_journal_goes_on_in_the_next_file_and_over_a_start() {
        let mut disk = three_blocks();
        disk.head(1, sequence(2, 1));
        disk.block(1, 4096, sequence(2, 1), sequence(1, 3));
        let scanned = disk.scan(None).expect("clean");
        assert_eq!((scanned.last, scanned.end), (sequence(2, 1), Some((1, 8192))));
        assert_eq!(scanned.durable, sequence(1, 3));
    }

    #[test]
    fn a_head_proves_nothing_that_its_start_had_still_to_write_again() {
        let mut disk = three_blocks();
        disk.head(1, sequence(2, 1));
        assert_eq!(disk.scan(None).expect("clean").durable, sequence(1, 2));

        // Of what it found a part was written again before that file was taken into use.
        let mut disk = three_blocks();
        disk.block(0, 4 * 4096, sequence(2, 1), sequence(1, 2));
        disk.head(1, sequence(2, 2));
        assert_eq!(disk.scan(None).expect("clean").durable, sequence(1, 2));

        disk.block(0, 5 * 4096, sequence(2, 2), sequence(2, 1));
        disk.head(1, sequence(2, 3));
        assert_eq!(disk.scan(None).expect("clean").durable, sequence(2, 2));
    }

    #[test]
    fn a_file_that_was_left_before_its_first_block_is_no_gap() {
        for (left, used) in [(1, 2), (2, 1)] {
            for cut in [None, Some(sequence(1, 2)), Some(sequence(1, 3)), Some(sequence(1, 4))] {
                let mut disk = three_blocks();
                disk.0.extend(Disk::new(2).0);
                disk.head(left, sequence(1, 4));
                disk.head(used, sequence(1, 4));
                disk.block(used, 4096, sequence(1, 4), sequence(1, 3));
                disk.head(3, sequence(1, 5));
                disk.block(3, 4096, sequence(1, 5), sequence(1, 4));
                let scanned = disk.scan(cut).expect("nothing is missing");
                assert_eq!((scanned.last, scanned.end), (sequence(1, 5), Some((3, 8192))));
            }
        }
    }

    #[test]
    fn a_head_taken_into_use_proves_the_blocks_before_it() {
        let mut disk = three_blocks();
        disk.head(1, sequence(1, 4));
        disk.0[0][3 * 4096 + 100] ^= 1;
        assert!(matches!(disk.scan(None), Err(ScanError::Rot { .. })));
    }

    #[test]
    fn a_block_left_from_before_a_crash_does_not_extend_a_later_start() {
        let mut disk = three_blocks();
        // Start 1 lost block 3 but its block 4 reached the disk; start 2 wrote over the gap.
        disk.block(0, 4 * 4096, sequence(1, 4), sequence(1, 2));
        disk.block(0, 3 * 4096, sequence(2, 1), sequence(1, 2));
        let scanned = disk.scan(None).expect("clean");
        assert_eq!(scanned.last, sequence(2, 1));
    }

    #[test]
    fn a_block_that_a_later_start_wrote_again_is_not_missed() {
        let mut disk = three_blocks();
        // Block 3 was in the page cache alone; start 2 read it there, wrote it again, and went on.
        disk.block(0, 4 * 4096, sequence(2, 1), sequence(1, 2));
        disk.block(0, 5 * 4096, sequence(2, 2), sequence(2, 1));
        disk.head(1, sequence(2, 3));
        disk.block(1, 4096, sequence(2, 3), sequence(2, 2));
        for lost in [3 * 4096 + 100, 3 * 4096 + 3] {
            let mut disk = Disk(disk.0.clone());
            disk.0[0][lost] ^= 1;
            let scanned = disk.scan(None).expect("nothing that was durable is missing");
            assert_eq!((scanned.last, scanned.end), (sequence(2, 3), Some((1, 8192))));
        }
    }

    #[test]
    fn a_later_start_that_knew_the_missing_block_durable_tells_of_rot() {
        let mut disk = three_blocks();
        disk.block(0, 4 * 4096, sequence(2, 1), sequence(1, 3));
        disk.0[0][3 * 4096 + 100] ^= 1;
        assert!(matches!(disk.scan(None), Err(ScanError::Rot { position: 12_288, .. })));
    }

    #[test]
    fn a_lost_head_of_a_file_in_use_is_rot() {
        let mut disk = three_blocks();
        disk.head(1, sequence(1, 4));
        disk.block(1, 4096, sequence(1, 4), sequence(1, 3));
        disk.0[1][10] ^= 1;
        assert!(matches!(disk.scan(None), Err(ScanError::Rot { .. })));
    }

    #[test]
    fn a_lost_file_between_the_checkpoint_and_the_rest_is_rot() {
        let mut disk = Disk::new(1);
        disk.head(0, sequence(1, 9));
        disk.block(0, 4096, sequence(1, 9), sequence(1, 8));
        assert!(matches!(disk.scan(Some(sequence(1, 5))), Err(ScanError::Rot { .. })));
    }

    #[test]
    fn rot_before_a_file_that_a_start_began_and_never_wrote_to_is_found() {
        let mut disk = three_blocks();
        disk.head(1, sequence(2, 1));
        let clean = disk.scan(None).expect("clean");
        assert_eq!((clean.last, clean.end), (sequence(1, 3), Some((1, 4096))));
        disk.0[0][2 * 4096 + 100] ^= 1;
        assert!(matches!(disk.scan(None), Err(ScanError::Rot { position: 8192, .. })));
    }

    #[test]
    fn rot_before_a_file_that_a_later_start_began_is_found() {
        let mut disk = three_blocks();
        disk.head(1, sequence(2, 1));
        disk.block(1, 4096, sequence(2, 1), sequence(1, 3));
        disk.0[0][2 * 4096 + 100] ^= 1;
        assert!(matches!(disk.scan(None), Err(ScanError::Rot { .. })));
    }
}
