//! One record batch: a view of its 61-byte header, and the rest untouched.
//!
//! Base offset and leader epoch lie outside the CRC, so they are patched in the copied header
//! without touching the payload; everything else is covered by it.

use std::fmt;

use bytes::{Buf, Bytes};

use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Bytes of a batch header, from the base offset to the record count.
pub const HEADER_LEN: usize = 61;
/// Bytes before the length field's end: what the length field does not count.
pub const LENGTH_OVERHEAD: usize = 12;
/// The first byte that the CRC covers.
const CRC_FROM: usize = 21;

const TIMESTAMP_TYPE_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;

/// Why bytes are no batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than a header, or than the length field announces.
    #[error("a record batch is cut off after {have} of {need} bytes")]
    Cut {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// The length field is smaller than a header.
    #[error("a record batch announces {0} bytes, fewer than its header has")]
    Length(i32),
    /// Not format version 2.
    #[error("a record batch has magic {0}, expected 2")]
    Magic(i8),
}

/// A record batch whose header can be patched while its payload stays where it arrived.
#[derive(Clone)]
pub struct Batch {
    header: [u8; HEADER_LEN],
    rest: Bytes,
}

impl Batch {
    /// Takes the first batch off `bytes`, checking its framing and magic but not its CRC.
    ///
    /// # Errors
    /// [`BatchError`] where the bytes do not begin with a whole batch of version 2.
    pub fn split_from(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let total = Self::peek_len(bytes)?;
        if bytes.len() < total {
            return Err(BatchError::Cut { have: bytes.len(), need: total });
        }
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&bytes[..HEADER_LEN]);
        let mut whole = bytes.split_to(total);
        whole.advance(HEADER_LEN);
        Ok(Self { header, rest: whole })
    }

    /// Puts a header in front of its payload, computing the length field and the CRC.
    ///
    /// # Panics
    /// Where the payload is longer than the length field can say.
    pub(in crate::record) fn seal(header: [u8; HEADER_LEN], rest: Bytes) -> Self {
        let mut batch = Self { header, rest };
        let length = i32::try_from(batch.size() - LENGTH_OVERHEAD);
        let length = length.expect("payloads are bounded far below 2 GiB");
        batch.header[8..12].copy_from_slice(&length.to_be_bytes());
        batch.reseal();
        batch
    }

    /// Puts a header in front of its payload, in the room that `whole` has for it, computing the length
    /// field and the CRC. Base offset 0, no leader epoch.
    ///
    /// # Panics
    /// Where the payload is longer than the length field can say.
    pub(in crate::record) fn seal_in_place(mut header: [u8; HEADER_LEN], whole: &mut [u8]) {
        let length = i32::try_from(whole.len() - LENGTH_OVERHEAD);
        let length = length.expect("payloads are bounded far below 2 GiB");
        header[..8].copy_from_slice(&Offset::ZERO.0.to_be_bytes());
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&LeaderEpoch::UNKNOWN.0.to_be_bytes());
        whole[..HEADER_LEN].copy_from_slice(&header);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &whole[CRC_FROM..]);
        whole[CRC_FROM - 4..CRC_FROM].copy_from_slice(&(crc as u32).to_be_bytes());
    }

    /// Puts a header that was taken from a batch in front of the payload that was behind it.
    pub(crate) const fn from_parts(header: [u8; HEADER_LEN], rest: Bytes) -> Self {
        Self { header, rest }
    }

    /// Returns the same records in a batch that ends earlier, with a CRC of its own. Offsets, sequences
    /// and epochs of what is left are as before.
    pub(crate) fn ending_at(&self, last_offset_delta: i32) -> Self {
        let mut shorter = self.clone();
        shorter.header[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        shorter.reseal();
        shorter
    }

    /// Puts another compression of the same records in place of the payload.
    pub(in crate::record) fn recompressed(&self, codec: u8, rest: Bytes) -> Self {
        let mut header = self.header;
        header[22] = (header[22] & !0x07) | (codec & 0x07);
        Self::seal(header, rest)
    }

    /// Puts some of its records, uncompressed, in place of the payload; offsets and sequences stay.
    pub(in crate::record) fn partial(&self, rest: Bytes, count: i32, max_timestamp: i64) -> Self {
        let mut header = self.header;
        header[22] &= !0x07;
        header[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        header[57..61].copy_from_slice(&count.to_be_bytes());
        Self::seal(header, rest)
    }

    /// Returns how many bytes the batch at the front of `bytes` has, by its length field.
    ///
    /// # Errors
    /// [`BatchError`] where not even a header is there, or it is not of version 2.
    pub fn peek_len(bytes: &[u8]) -> Result<usize, BatchError> {
        if bytes.len() < HEADER_LEN {
            return Err(BatchError::Cut { have: bytes.len(), need: HEADER_LEN });
        }
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let length = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let total =
            usize::try_from(length).map_err(|_| BatchError::Length(length))? + LENGTH_OVERHEAD;
        if total < HEADER_LEN {
            return Err(BatchError::Length(length));
        }
        Ok(total)
    }

    /// Returns the header as it stands now.
    pub const fn header(&self) -> &[u8; HEADER_LEN] {
        &self.header
    }

    /// Returns everything behind the header.
    pub const fn rest(&self) -> &Bytes {
        &self.rest
    }

    /// Returns the size of the whole batch in bytes.
    pub fn size(&self) -> usize {
        HEADER_LEN + self.rest.len()
    }

    /// Returns one contiguous copy of the batch.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.size());
        out.extend_from_slice(&self.header);
        out.extend_from_slice(&self.rest);
        out.into()
    }

    /// Gives back the memory of its payload, where nobody else holds it.
    pub(crate) fn into_buffer(self) -> Option<Vec<u8>> {
        let mut rest = self.rest.try_into_mut().ok()?;
        // What is in it would be moved to its front.
        rest.clear();
        Some(Vec::from(rest))
    }

    /// Computes the CRC-32C of what the header's CRC should cover.
    pub fn compute_crc(&self) -> u32 {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&self.header[CRC_FROM..]);
        digest.update(&self.rest);
        digest.finalize() as u32
    }

    /// Returns whether the CRC in the header is right. Walks the payload once.
    pub fn crc_is_valid(&self) -> bool {
        self.compute_crc() == self.crc()
    }

    /// Gives the batch its place in a log. Not covered by the CRC.
    pub fn assign(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        self.header[..8].copy_from_slice(&base_offset.0.to_be_bytes());
        self.header[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
    }

    /// Stamps the append time (`message.timestamp.type=LogAppendTime`) and computes the CRC anew.
    pub fn stamp_append_time(&mut self, append_time_ms: i64) {
        let attributes = self.attributes() | TIMESTAMP_TYPE_BIT;
        self.header[21..23].copy_from_slice(&attributes.to_be_bytes());
        self.header[35..43].copy_from_slice(&append_time_ms.to_be_bytes());
        self.reseal();
    }

    /// Clears the timestamp-type bit, as Kafka does on `CreateTime` topics, and computes the CRC anew.
    pub fn clear_append_time(&mut self) {
        let attributes = self.attributes() & !TIMESTAMP_TYPE_BIT;
        self.header[21..23].copy_from_slice(&attributes.to_be_bytes());
        self.reseal();
    }

    /// Corrects the largest timestamp and computes the CRC anew.
    pub(in crate::record) fn set_max_timestamp(&mut self, max_timestamp: i64) {
        self.header[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        self.reseal();
    }

    fn reseal(&mut self) {
        let crc = self.compute_crc();
        self.header[17..21].copy_from_slice(&crc.to_be_bytes());
    }

    fn i16_at(&self, at: usize) -> i16 {
        i16::from_be_bytes([self.header[at], self.header[at + 1]])
    }

    fn i32_at(&self, at: usize) -> i32 {
        let h = &self.header;
        i32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]])
    }

    fn i64_at(&self, at: usize) -> i64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.header[at..at + 8]);
        i64::from_be_bytes(bytes)
    }

    /// Returns the offset of the first record.
    pub fn base_offset(&self) -> Offset {
        Offset(self.i64_at(0))
    }

    /// Returns the offset of the last record, inclusive.
    pub fn last_offset(&self) -> Offset {
        Offset(self.i64_at(0).wrapping_add(i64::from(self.last_offset_delta())))
    }

    /// Returns the offset that follows the batch.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.wrapping_add(1))
    }

    /// Returns the epoch of the leader that appended the batch.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.i32_at(12))
    }

    /// Returns the CRC that the header claims.
    pub fn crc(&self) -> u32 {
        self.i32_at(17) as u32
    }

    /// Returns the attribute bits.
    pub fn attributes(&self) -> i16 {
        self.i16_at(21)
    }

    /// Returns the number of the codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd, more are unknown.
    pub fn codec(&self) -> u8 {
        (self.attributes() & 0x07) as u8
    }

    /// Returns whether the timestamps are append times.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & TIMESTAMP_TYPE_BIT != 0
    }

    /// Returns whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Returns whether the batch holds control records.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// Returns the offset of the last record relative to the first.
    pub fn last_offset_delta(&self) -> i32 {
        self.i32_at(23)
    }

    /// Returns the timestamp of the first record in Unix milliseconds, -1 for none.
    pub fn base_timestamp(&self) -> i64 {
        self.i64_at(27)
    }

    /// Returns the largest timestamp in Unix milliseconds as the header claims it, -1 for none.
    pub fn max_timestamp(&self) -> i64 {
        self.i64_at(35)
    }

    /// Returns the producer id, [`ProducerId::NONE`] without idempotence.
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(self.i64_at(43))
    }

    /// Returns the producer epoch, -1 without idempotence.
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(self.i16_at(51))
    }

    /// Returns the sequence number of the first record, -1 without idempotence.
    pub fn base_sequence(&self) -> i32 {
        self.i32_at(53)
    }

    /// Returns the sequence number of the last record; sequences wrap from 2^31-1 to 0.
    pub fn last_sequence(&self) -> i32 {
        let base = self.base_sequence();
        if base < 0 {
            return base;
        }
        ((i64::from(base) + i64::from(self.last_offset_delta())) & 0x7fff_ffff) as i32
    }

    /// Returns the number of records that the header claims.
    pub fn records_count(&self) -> i32 {
        self.i32_at(57)
    }

    /// Returns whether it has more offsets than records, as one of which some records are not kept.
    pub fn is_partial(&self) -> bool {
        i64::from(self.records_count()) <= i64::from(self.last_offset_delta())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Batch({}..={} epoch {} crc {:08x} {} bytes)",
            self.base_offset(),
            self.last_offset(),
            self.leader_epoch(),
            self.crc(),
            self.size()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of one record (key `k`, value `v`, headers a=1 and a=null) made by another client.
    const GOLDEN: &str = "00000000000000000000004100000000\
        02287e7c3c0000000000000000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff\
        000000011e000000026b02760402610231026101";

    fn golden() -> Bytes {
        (0..GOLDEN.len() / 2)
            .map(|i| u8::from_str_radix(&GOLDEN[2 * i..2 * i + 2], 16).expect("hex"))
            .collect::<Vec<_>>()
            .into()
    }

    #[test]
    fn a_batch_of_another_client_is_read_and_its_crc_holds() {
        let mut bytes = golden();
        let batch = Batch::split_from(&mut bytes).expect("whole");
        assert!(bytes.is_empty());
        assert!(batch.crc_is_valid());
        assert_eq!(batch.records_count(), 1);
        assert_eq!(batch.max_timestamp(), 1_700_000_000_000);
    }

    #[test]
    fn assigning_an_offset_leaves_the_crc_valid() {
        let mut batch = Batch::split_from(&mut golden()).expect("whole");
        batch.assign(Offset(77), LeaderEpoch(5));
        assert!(batch.crc_is_valid());
        assert_eq!((batch.base_offset(), batch.leader_epoch()), (Offset(77), LeaderEpoch(5)));
    }

    #[test]
    fn stamping_the_append_time_computes_a_new_crc() {
        let mut batch = Batch::split_from(&mut golden()).expect("whole");
        batch.stamp_append_time(42);
        assert!(batch.crc_is_valid());
        assert!(batch.is_log_append_time());
        assert_eq!(batch.max_timestamp(), 42);
    }

    #[test]
    fn every_cut_batch_is_refused() {
        let whole = golden();
        for len in 0..whole.len() {
            assert!(Batch::split_from(&mut whole.slice(..len)).is_err(), "{len}");
        }
    }
}
