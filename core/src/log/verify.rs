//! Reads a segment file batch by batch and says everything that is wrong with it.
//!
//! Bytes come in pieces of any size, so that a file of a gigabyte needs no more memory than its largest
//! batch. This is the tool behind `mainspring log verify` and `log dump`; it repairs nothing and
//! decides nothing.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::ids::{LeaderEpoch, Offset};
use crate::record::batch::{Batch, BatchError};

/// Largest batch that is believed to be one, in bytes: nothing larger can have been appended.
pub const BATCH_MAX: usize = 1 << 30;

/// A batch and where it stands.
#[derive(Clone, Debug)]
pub struct ScannedBatch {
    /// Its first byte in the file.
    pub position: u64,
    /// The batch, framed but not otherwise believed.
    pub batch: Batch,
    /// What is wrong with it.
    pub faults: Vec<SegmentFault>,
}

/// What is wrong with a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SegmentFault {
    /// The bytes are no batch; nothing behind them can be read.
    NoBatch(BatchError),
    /// The batch claims to be larger than any can be; nothing behind it can be read.
    TooLarge(usize),
    /// The batch is not what was written.
    Crc {
        /// What the header claims.
        claimed: u32,
        /// What the bytes say.
        computed: u32,
    },
    /// The batch does not follow the one before it.
    Offset {
        /// Where the batch should begin.
        expected: Offset,
        /// Where it begins.
        found: Offset,
    },
    /// The batch's offsets run backwards or beyond what offsets can be.
    Range,
    /// The batch is of an older epoch than the one before it.
    Epoch {
        /// The epoch of the batch before.
        before: LeaderEpoch,
        /// Its own.
        found: LeaderEpoch,
    },
}

impl fmt::Display for SegmentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBatch(error) => fmt::Display::fmt(error, f),
            Self::TooLarge(bytes) => write!(f, "a record batch announces {bytes} bytes"),
            Self::Crc { claimed, computed } => {
                write!(f, "the CRC should be {claimed:08x} and is {computed:08x}")
            }
            Self::Offset { expected, found } => {
                write!(f, "the batch begins at offset {found}, expected {expected}")
            }
            Self::Range => f.write_str("the batch ends before it begins"),
            Self::Epoch { before, found } => {
                write!(f, "the batch has leader epoch {found} after {before}")
            }
        }
    }
}

/// What a scan has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentSummary {
    /// Whole batches.
    pub batches: u64,
    /// Records that they claim to hold.
    pub records: u64,
    /// Bytes up to the end of the last whole batch.
    pub bytes: u64,
    /// Faults, of batches and of what is no batch.
    pub faults: u64,
    /// The offset after the last batch, `None` without a batch.
    pub end_offset: Option<Offset>,
}

/// A scan in progress.
#[derive(Clone, Debug)]
pub struct SegmentScan {
    buffer: BytesMut,
    expected: Option<Offset>,
    epoch: LeaderEpoch,
    summary: SegmentSummary,
    stopped: bool,
}

impl SegmentScan {
    /// Begins at the start of a segment. `base_offset` is the one in the file's name; the first batch
    /// must begin there, or anywhere where it is `None`.
    pub fn new(base_offset: Option<Offset>) -> Self {
        Self {
            buffer: BytesMut::new(),
            expected: base_offset,
            epoch: LeaderEpoch::UNKNOWN,
            summary: SegmentSummary::default(),
            stopped: false,
        }
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.stopped {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Takes the next whole batch. `None` asks for more bytes; after the last ones
    /// [`finish`](Self::finish) tells what is left.
    ///
    /// # Errors
    /// [`SegmentFault`] where nothing behind this can be read; the scan has ended then.
    pub fn next_batch(&mut self) -> Option<Result<ScannedBatch, SegmentFault>> {
        if self.stopped {
            return None;
        }
        let total = match Batch::peek_len(&self.buffer) {
            Ok(total) if total > BATCH_MAX => {
                return Some(Err(self.stop(SegmentFault::TooLarge(total))));
            }
            Ok(total) if total > self.buffer.len() => return None,
            Ok(total) => total,
            Err(BatchError::Cut { .. }) => return None,
            Err(error) => return Some(Err(self.stop(SegmentFault::NoBatch(error)))),
        };
        let mut whole: Bytes = self.buffer.split_to(total).freeze();
        let batch = match Batch::split_from(&mut whole) {
            Ok(batch) => batch,
            Err(error) => return Some(Err(self.stop(SegmentFault::NoBatch(error)))),
        };
        let faults = self.judge(&batch);
        let position = self.summary.bytes;
        self.summary.batches += 1;
        self.summary.records += u64::try_from(batch.records_count()).unwrap_or(0);
        self.summary.bytes += total as u64;
        self.summary.faults += faults.len() as u64;
        self.summary.end_offset = Some(batch.next_offset());
        Some(Ok(ScannedBatch { position, batch, faults }))
    }

    /// Ends the scan: what was seen, and the fault at the end where bytes are left that are no whole
    /// batch.
    pub fn finish(mut self) -> (SegmentSummary, Option<SegmentFault>) {
        let left = self.buffer.len();
        let fault = (!self.stopped && left > 0).then(|| {
            let need = Batch::peek_len(&self.buffer).unwrap_or(crate::record::batch::HEADER_LEN);
            self.stop(SegmentFault::NoBatch(BatchError::Cut { have: left, need }))
        });
        (self.summary, fault)
    }

    /// Returns what was seen so far.
    pub const fn summary(&self) -> &SegmentSummary {
        &self.summary
    }

    fn stop(&mut self, fault: SegmentFault) -> SegmentFault {
        self.stopped = true;
        self.summary.faults += 1;
        self.buffer.clear();
        fault
    }

    fn judge(&mut self, batch: &Batch) -> Vec<SegmentFault> {
        let mut faults = Vec::new();
        let computed = batch.compute_crc();
        if computed != batch.crc() {
            faults.push(SegmentFault::Crc { claimed: batch.crc(), computed });
        }
        let found = batch.base_offset();
        if let Some(expected) = self.expected.filter(|&expected| expected != found) {
            faults.push(SegmentFault::Offset { expected, found });
        }
        if found.0 < 0 || batch.last_offset_delta() < 0 || batch.next_offset() <= found {
            faults.push(SegmentFault::Range);
        }
        self.expected = Some(batch.next_offset());
        if batch.leader_epoch() < self.epoch {
            faults.push(SegmentFault::Epoch { before: self.epoch, found: batch.leader_epoch() });
        }
        self.epoch = batch.leader_epoch();
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::record::builder::BatchBuilder;
    use crate::record::compress::Codec;

    fn batch(base_offset: i64, epoch: i32, records: i32) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..records {
            builder.push(5, None, Some(b"value"), &[]);
        }
        let mut batch = builder.build();
        batch.assign(Offset(base_offset), LeaderEpoch(epoch));
        batch.to_bytes().to_vec()
    }

    /// Scans a file given in pieces; returns the faults in order and the summary.
    fn scan(file: &[u8], piece: usize) -> (Vec<SegmentFault>, SegmentSummary) {
        let mut scan = SegmentScan::new(Some(Offset(10)));
        let mut faults = Vec::new();
        for piece in file.chunks(piece) {
            scan.push(piece);
            while let Some(item) = scan.next_batch() {
                match item {
                    Ok(scanned) => faults.extend(scanned.faults),
                    Err(fault) => faults.push(fault),
                }
            }
        }
        let (summary, last) = scan.finish();
        faults.extend(last);
        (faults, summary)
    }

    #[test]
    fn a_sound_segment_has_no_fault_in_pieces_of_any_size() {
        let file = [batch(10, 0, 2), batch(12, 0, 1), batch(13, 4, 3)].concat();
        for piece in [1, 7, 61, 100, file.len()] {
            let (faults, summary) = scan(&file, piece);
            assert_eq!(faults, []);
            let expected = SegmentSummary {
                batches: 3,
                records: 6,
                bytes: file.len() as u64,
                faults: 0,
                end_offset: Some(Offset(16)),
            };
            assert_eq!(summary, expected);
        }
    }

    #[test]
    fn a_flipped_bit_a_hole_and_a_fallen_epoch_are_found_and_the_scan_goes_on() {
        let mut rotten = batch(10, 5, 2);
        let last = rotten.len() - 1;
        rotten[last] ^= 1;
        let file = [rotten, batch(13, 5, 1), batch(14, 4, 1), batch(15, 4, 1)].concat();
        let (faults, summary) = scan(&file, 50);
        assert!(matches!(faults[0], SegmentFault::Crc { .. }));
        let hole = SegmentFault::Offset { expected: Offset(12), found: Offset(13) };
        let fallen = SegmentFault::Epoch { before: LeaderEpoch(5), found: LeaderEpoch(4) };
        assert_eq!(faults[1..], [hole, fallen]);
        assert_eq!((summary.batches, summary.faults), (4, 3));
    }

    #[test]
    fn a_torn_tail_and_zeros_are_named_with_what_is_before_them() {
        let whole = batch(10, 0, 1);
        let torn = [&whole[..], &batch(11, 0, 1)[..70]].concat();
        let (faults, summary) = scan(&torn, 33);
        assert!(matches!(faults[..], [SegmentFault::NoBatch(BatchError::Cut { have: 70, .. })]));
        assert_eq!(summary.bytes, whole.len() as u64);
        let padded = [&whole[..], &[0; 200]].concat();
        let (faults, summary) = scan(&padded, 33);
        assert_eq!(faults, [SegmentFault::NoBatch(BatchError::Magic(0))]);
        assert_eq!((summary.batches, summary.faults), (1, 1));
    }

    #[test]
    fn a_batch_that_announces_a_gigabyte_is_not_waited_for() {
        let mut huge = batch(10, 0, 1);
        huge[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
        let (faults, _) = scan(&huge, 33);
        assert!(matches!(faults[..], [SegmentFault::TooLarge(_)]));
    }
}
