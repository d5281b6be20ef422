//! The records of a batch, one after the other, without copying and without trust.
//!
//! A record is given out only when it is whole: its announced length, those of its key, value and
//! headers, and their number agree with the bytes. Nothing is allocated on the way.
//!
//! Source: Kafka documentation, "Record"; varints are zig-zag, as in Protocol Buffers.

use bytes::Bytes;

use crate::ids::Offset;
use crate::record::batch::Batch;
use crate::record::compress::{Codec, CompressError, decompress};

/// Why the records of a batch cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A number takes more bytes than it may, or the bytes end within it.
    #[error("a number is cut off or too long")]
    Varint,
    /// A record, key, value or header announces more bytes than there are.
    #[error("a length goes beyond the record")]
    Cut,
    /// A length or count is negative where that means nothing.
    #[error("a length or count is negative")]
    Negative,
    /// A record's length is not that of its parts.
    #[error("a record has another length than its parts")]
    Length,
    /// Bytes are left behind the last record.
    #[error("bytes are left behind the last record")]
    Trailing,
    /// The batch names a codec that does not exist.
    #[error("there is no codec {0}")]
    Codec(u8),
    /// The payload cannot be decompressed.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// One record, as a view of its batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Attribute bits, all unused.
    pub attributes: i8,
    /// Its timestamp relative to the batch's, in milliseconds.
    pub timestamp_delta: i64,
    /// Its offset relative to the batch's.
    pub offset_delta: i32,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone where the topic is compacted.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// One header of a record. Names may repeat, and need not be UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// Its name.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// The headers of one record, in their order; all of them have been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Headers<'a> {
    count: u32,
    /// Their number, then the headers.
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The headers that begin with their number at the front of `bytes`, which were checked before.
    pub(crate) fn checked(bytes: &'a [u8]) -> Self {
        let count = read_varint(&mut &*bytes).expect("the headers were checked with their record");
        Self { count: count as u32, bytes }
    }

    /// Returns the bytes that begin with their number, if there is a header.
    pub(crate) const fn with_count(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns how many there are.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Returns whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Iterates them in their order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut bytes = self.bytes;
        if self.count > 0 {
            read_varint(&mut bytes).expect("the headers were checked with their record");
        }
        (0..self.count).map(move |_| {
            read_header(&mut bytes).expect("the headers were checked with their record")
        })
    }

    /// Returns the last header of that name: where a name repeats, the last one counts.
    pub fn find_last(&self, key: &[u8]) -> Option<Header<'a>> {
        self.iter().filter(|header| header.key == key).last()
    }
}

/// Iterates the records of an uncompressed payload. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    left: i32,
    bytes: &'a [u8],
}

impl<'a> Records<'a> {
    /// Reads `count` records, which must fill `payload` exactly.
    pub const fn new(payload: &'a [u8], count: i32) -> Self {
        Self { left: count, bytes: payload }
    }

    /// Returns the next record with its bytes, its length included.
    pub(in crate::record) fn next_raw(
        &mut self,
    ) -> Option<Result<(&'a [u8], Record<'a>), RecordError>> {
        let before = self.bytes;
        let record = self.next()?;
        let raw = &before[..before.len() - self.bytes.len()];
        Some(record.map(|record| (raw, record)))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = match self.left {
            0 if self.bytes.is_empty() => return None,
            0 => Err(RecordError::Trailing),
            ..0 => Err(RecordError::Negative),
            1.. => {
                self.left -= 1;
                read_record(&mut self.bytes)
            }
        };
        if result.is_err() {
            (self.left, self.bytes) = (0, &[]);
        }
        Some(result)
    }
}

/// A batch whose payload lies open.
#[derive(Clone, Debug)]
pub struct OpenBatch {
    base_offset: Offset,
    base_timestamp: i64,
    append_time: Option<i64>,
    count: i32,
    payload: Bytes,
}

/// A record with its place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlacedRecord<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in Unix milliseconds, -1 for none: the append time where the batch has one.
    pub timestamp: i64,
    /// The record.
    pub record: Record<'a>,
}

impl OpenBatch {
    /// Opens a batch, decompressing it into at most `max_bytes`. Uncompressed payloads are not copied.
    ///
    /// # Errors
    /// [`RecordError`] for a codec that does not exist, a damaged stream, and too many bytes.
    pub fn open(batch: &Batch, max_bytes: usize) -> Result<Self, RecordError> {
        let codec =
            Codec::from_number(batch.codec()).ok_or_else(|| RecordError::Codec(batch.codec()))?;
        let payload = match codec {
            Codec::None => batch.rest().clone(),
            Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => {
                decompress(codec, batch.rest(), max_bytes)?.into()
            }
        };
        Ok(Self {
            base_offset: batch.base_offset(),
            base_timestamp: batch.base_timestamp(),
            append_time: batch.is_log_append_time().then(|| batch.max_timestamp()),
            count: batch.records_count(),
            payload,
        })
    }

    /// Returns the uncompressed records; slices of a record's key or value can be cut from it.
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns how many records there can be at most: as many as are announced, and as fit.
    pub fn count_max(&self) -> usize {
        const RECORD_LEN_MIN: usize = 7;
        (self.count.max(0) as usize).min(self.payload.len() / RECORD_LEN_MIN)
    }

    /// Iterates the records. Ends after the first error.
    pub fn records(&self) -> impl Iterator<Item = Result<PlacedRecord<'_>, RecordError>> + '_ {
        Records::new(&self.payload, self.count).map(|record| {
            record.map(|record| PlacedRecord {
                offset: Offset(self.base_offset.0.wrapping_add(i64::from(record.offset_delta))),
                timestamp: self
                    .append_time
                    .unwrap_or_else(|| self.base_timestamp.wrapping_add(record.timestamp_delta)),
                record,
            })
        })
    }
}

fn read_record<'a>(bytes: &mut &'a [u8]) -> Result<Record<'a>, RecordError> {
    let length = read_varint(bytes)?;
    let length = usize::try_from(length).map_err(|_| RecordError::Negative)?;
    let (mut body, rest) = bytes.split_at_checked(length).ok_or(RecordError::Cut)?;
    *bytes = rest;

    let (&attributes, behind) = body.split_first().ok_or(RecordError::Cut)?;
    body = behind;
    let timestamp_delta = read_varlong(&mut body)?;
    let offset_delta = read_varint(&mut body)?;
    let key = read_nullable(&mut body)?;
    let value = read_nullable(&mut body)?;
    let with_count = body;
    let count = u32::try_from(read_varint(&mut body)?).map_err(|_| RecordError::Negative)?;
    let headers = Headers { count, bytes: with_count };
    for _ in 0..count {
        read_header(&mut body)?;
    }
    if !body.is_empty() {
        return Err(RecordError::Length);
    }
    let attributes = attributes as i8;
    Ok(Record { attributes, timestamp_delta, offset_delta, key, value, headers })
}

fn read_header<'a>(bytes: &mut &'a [u8]) -> Result<Header<'a>, RecordError> {
    let key = read_nullable(bytes)?.ok_or(RecordError::Negative)?;
    Ok(Header { key, value: read_nullable(bytes)? })
}

fn read_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    let length = read_varint(bytes)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| RecordError::Negative)?;
    let (field, rest) = bytes.split_at_checked(length).ok_or(RecordError::Cut)?;
    *bytes = rest;
    Ok(Some(field))
}

/// Reads a zig-zag number of at most five bytes. Bits beyond the 32nd are dropped, as Kafka does.
fn read_varint(bytes: &mut &[u8]) -> Result<i32, RecordError> {
    let value = read_unsigned(bytes, 5)? as u32;
    Ok((value >> 1) as i32 ^ -((value & 1) as i32))
}

/// Reads a zig-zag number of at most ten bytes.
fn read_varlong(bytes: &mut &[u8]) -> Result<i64, RecordError> {
    let value = read_unsigned(bytes, 10)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[inline]
fn read_unsigned(bytes: &mut &[u8], bytes_max: usize) -> Result<u64, RecordError> {
    // Most numbers take one byte.
    if let Some((&byte, rest)) = bytes.split_first()
        && byte < 0x80
    {
        *bytes = rest;
        return Ok(u64::from(byte));
    }
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(bytes_max).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(RecordError::Varint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Key `k`, value `v`, headers a=1 and a=null.
    const RECORD: [u8; 16] = [30, 0, 0, 0, 2, b'k', 2, b'v', 4, 2, b'a', 2, b'1', 2, b'a', 1];

    fn read(payload: &[u8], count: i32) -> Result<usize, RecordError> {
        Records::new(payload, count).try_fold(0, |read, record| record.map(|_| read + 1))
    }

    #[test]
    fn a_record_is_read_with_its_headers_in_order() {
        let record = Records::new(&RECORD, 1).next().expect("one").expect("sound");
        assert_eq!((record.key, record.value), (Some(&b"k"[..]), Some(&b"v"[..])));
        let headers: Vec<Header<'_>> = record.headers.iter().collect();
        assert_eq!(headers[0], Header { key: b"a", value: Some(b"1") });
        assert_eq!(headers[1], Header { key: b"a", value: None });
        assert_eq!(headers.len(), 2);
        assert_eq!(record.headers.find_last(b"a"), Some(headers[1]));
        assert_eq!(record.headers.find_last(b"b"), None);
    }

    #[test]
    fn the_number_of_records_and_their_bytes_must_agree() {
        let two = [RECORD, RECORD].concat();
        assert_eq!(read(&two, 2), Ok(2));
        assert_eq!(read(&two, 1), Err(RecordError::Trailing));
        assert_eq!(read(&two, 3), Err(RecordError::Varint));
        assert_eq!(read(&two, -1), Err(RecordError::Negative));
        assert_eq!(read(&two, i32::MAX), Err(RecordError::Varint));
        assert_eq!(read(&[], 0), Ok(0));
    }

    #[test]
    fn an_iteration_ends_after_its_first_error() {
        assert_eq!(Records::new(&RECORD[..9], 5).count(), 1);
    }

    #[test]
    fn a_record_must_fill_its_length_exactly() {
        let mut longer = RECORD.to_vec();
        longer[0] += 2;
        longer.push(0);
        assert_eq!(read(&longer, 1), Err(RecordError::Length));
        let mut shorter = RECORD;
        shorter[0] -= 2;
        assert!(read(&shorter, 1).is_err());
    }

    #[test]
    fn numbers_are_zig_zag_and_bounded() {
        let varint = |mut bytes: &[u8]| read_varint(&mut bytes);
        let varlong = |mut bytes: &[u8]| read_varlong(&mut bytes);
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MIN));
        assert_eq!(varint(&[0xfe, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MAX));
        assert_eq!(varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]), Err(RecordError::Varint));
        assert_eq!(varint(&[0x80]), Err(RecordError::Varint));
        assert_eq!(varlong(&[[0xff; 9].as_slice(), &[1]].concat()), Ok(i64::MIN));
        assert_eq!(varlong(&[0x80; 11]), Err(RecordError::Varint));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100), count in any::<i32>(),
        ) {
            for record in Records::new(&bytes, count).flatten() {
                let _ = record.headers.iter().count();
            }
        }

        #[test]
        fn a_flipped_byte_never_panics(at in 0..16usize, value in any::<u8>()) {
            let mut bytes = RECORD;
            bytes[at] = value;
            for record in Records::new(&bytes, 1).flatten() {
                let _ = record.headers.iter().count();
            }
        }
    }
}
