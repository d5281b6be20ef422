//! Builds record batches: what our own client sends, and what a node writes on its own.
//!
//! Uncompressed batches are byte for byte those of Kafka's own builder.

use bytes::Bytes;

use crate::ids::{NodeId, ProducerEpoch, ProducerId};
use crate::record::batch::{Batch, HEADER_LEN};
use crate::record::compress::{Codec, compress_at};

/// Most bytes of a record besides key, value and headers: every number at its longest.
pub const RECORD_OVERHEAD_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;

/// Bytes of a buffer's capacity that a builder may touch behind the end of the batch.
pub const SLACK: usize = HEAD_MAX;

const TIMESTAMP_TYPE_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;

/// A header of a record that is to be written: name and value.
pub type NewHeader<'a> = (&'a [u8], Option<&'a [u8]>);

/// Identifies the producer of a batch and the batch among its batches (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the batch's first record; -1 for control batches.
    pub base_sequence: i32,
}

/// A batch in the making. Records get the offsets 0, 1, 2 and so on relative to its first.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    attributes: i16,
    producer: Option<Producer>,
    append_time: Option<i64>,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    level: Option<i32>,
    /// Room for the header, then the records.
    bytes: Vec<u8>,
}

impl BatchBuilder {
    /// Begins a batch that will be compressed with `codec`.
    pub fn new(codec: Codec) -> Self {
        Self::within(codec, Vec::new())
    }

    /// Begins a batch whose records are gathered in `buffer`, of which only the capacity counts.
    pub fn within(codec: Codec, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        Self {
            codec,
            attributes: i16::from(codec.number()),
            producer: None,
            append_time: None,
            base_timestamp: -1,
            max_timestamp: -1,
            count: 0,
            level: None,
            bytes: buffer,
        }
    }

    /// Makes the batch one of an idempotent producer.
    #[must_use]
    pub const fn producer(mut self, producer: Producer) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Compresses with this level, where the codec has levels and this is one of them.
    #[must_use]
    pub const fn level(mut self, level: Option<i32>) -> Self {
        self.level = level;
        self
    }

    /// Makes the batch part of its producer's transaction.
    #[must_use]
    pub const fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL_BIT;
        self
    }

    /// Gives all records the append time instead of their own.
    #[must_use]
    pub const fn append_time(mut self, append_time_ms: i64) -> Self {
        self.attributes |= TIMESTAMP_TYPE_BIT;
        self.append_time = Some(append_time_ms);
        self
    }

    /// Adds a record and returns its place in the batch. `timestamp` is Unix milliseconds, -1 for none.
    ///
    /// # Panics
    /// After 2^31-1 records, and for fields whose lengths do not fit the format: whoever fills a batch
    /// bounds both by far less.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[NewHeader<'_>],
    ) -> i32 {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let offset_delta = self.count;
        self.count = self.count.checked_add(1).expect("a batch is bounded by its bytes");
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);

        let fields = nullable_len(key)
            + nullable_len(value)
            + varint_len(headers.len() as i64)
            + headers
                .iter()
                .map(|(name, value)| nullable_len(Some(name)) + nullable_len(*value))
                .sum::<usize>();
        let length = 1 + varint_len(timestamp_delta) + varint_len(i64::from(offset_delta)) + fields;
        assert!(i32::try_from(length).is_ok(), "a record is bounded by the batch's size");

        let out = &mut self.bytes;
        out.reserve(length + 5 + HEAD_MAX);
        let mut head = Head::default();
        head.put(length as i64);
        head.put(0);
        head.put(timestamp_delta);
        head.put(i64::from(offset_delta));
        head.put_field(out, key);
        head.put_field(out, value);
        head.put(headers.len() as i64);
        for (name, value) in headers {
            head.put_field(out, Some(name));
            head.put_field(out, *value);
        }
        head.write(out);
        offset_delta
    }

    /// Returns how many records there are.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Returns whether there is no record.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the size of the batch in bytes as it would be without compression.
    pub const fn uncompressed_size(&self) -> usize {
        self.bytes.len()
    }

    /// Finishes the batch, with base offset 0 and no leader epoch.
    ///
    /// # Panics
    /// Without a record.
    pub fn build(self) -> Batch {
        self.build_whole().0
    }

    /// Finishes the batch as [`build`](Self::build) does, and returns its bytes too, which it shares.
    ///
    /// # Panics
    /// Without a record.
    pub fn build_whole(self) -> (Batch, Bytes) {
        assert!(self.count > 0, "a batch has at least one record");
        let producer = self.producer.unwrap_or(Producer {
            id: ProducerId::NONE,
            epoch: ProducerEpoch(-1),
            base_sequence: -1,
        });
        let mut header = [0; HEADER_LEN];
        header[16] = 2;
        header[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        header[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
        header[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        let max_timestamp = self.append_time.unwrap_or(self.max_timestamp);
        header[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        header[43..51].copy_from_slice(&producer.id.0.to_be_bytes());
        header[51..53].copy_from_slice(&producer.epoch.0.to_be_bytes());
        header[53..57].copy_from_slice(&producer.base_sequence.to_be_bytes());
        header[57..61].copy_from_slice(&self.count.to_be_bytes());
        let mut whole = match self.codec {
            Codec::None => self.bytes,
            Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => {
                let records = compress_at(self.codec, self.level, &self.bytes[HEADER_LEN..]);
                let mut whole = Vec::with_capacity(HEADER_LEN + records.len());
                whole.resize(HEADER_LEN, 0);
                whole.extend_from_slice(&records);
                whole
            }
        };
        Batch::seal_in_place(header, &mut whole);
        let whole = Bytes::from(whole);
        let batch = Batch::split_from(&mut whole.clone()).expect("it was made right here");
        (batch, whole)
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionResult {
    /// Its records are not to be read.
    Abort,
    /// Its records are to be read.
    Commit,
}

/// Builds the control batch that ends a producer's transaction in one partition.
pub fn transaction_marker(
    id: ProducerId,
    epoch: ProducerEpoch,
    result: TransactionResult,
    coordinator_epoch: i32,
    timestamp: i64,
) -> Batch {
    let kind = match result {
        TransactionResult::Abort => 0,
        TransactionResult::Commit => 1,
    };
    let mut value = vec![0, 0];
    value.extend_from_slice(&coordinator_epoch.to_be_bytes());
    let producer = Producer { id, epoch, base_sequence: -1 };
    control(
        kind,
        &value,
        timestamp,
        BatchBuilder::new(Codec::None).producer(producer).transactional(),
    )
}

/// Builds the control batch that begins a leader's epoch in the metadata log (`LeaderChangeMessage`
/// version 0): who leads, among whom, and who voted for it.
pub fn leader_change(
    leader: NodeId,
    voters: &[NodeId],
    granting_voters: &[NodeId],
    timestamp: i64,
) -> Batch {
    let mut value = vec![0, 0];
    value.extend_from_slice(&leader.0.to_be_bytes());
    for nodes in [voters, granting_voters] {
        put_unsigned(&mut value, nodes.len() as u64 + 1);
        for node in nodes {
            value.extend_from_slice(&node.0.to_be_bytes());
            value.push(0);
        }
    }
    value.push(0);
    control(2, &value, timestamp, BatchBuilder::new(Codec::None))
}

/// Builds a control batch of the metadata log from the kind and the value of its only record, as
/// [`ControlRecord`](crate::wire::control_record::ControlRecord) encodes them.
pub fn quorum_control(kind: i16, value: &[u8], timestamp: i64) -> Batch {
    control(kind as u8, value, timestamp, BatchBuilder::new(Codec::None))
}

/// Builds a control batch of the metadata log from the kinds and the values of its records.
pub fn quorum_controls(records: &[(i16, Bytes)], timestamp: i64) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.attributes |= CONTROL_BIT;
    for (kind, value) in records {
        builder.push(timestamp, Some(&[0, 0, 0, *kind as u8]), Some(value), &[]);
    }
    builder.build()
}

fn control(kind: u8, value: &[u8], timestamp: i64, mut builder: BatchBuilder) -> Batch {
    builder.attributes |= CONTROL_BIT;
    builder.push(timestamp, Some(&[0, 0, 0, kind]), Some(value), &[]);
    builder.build()
}

fn nullable_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| varint_len(field.len() as i64) + field.len())
}

/// Most bytes of numbers that stand in a row in a record: length, attributes, both deltas, the mark of a
/// key that is null, and the length of the value.
const HEAD_MAX: usize = 32;

/// Numbers between two fields, written at once: a copy of known size costs less than one byte after the
/// other.
#[derive(Default)]
struct Head {
    bytes: [u8; HEAD_MAX],
    length: usize,
}

impl Head {
    const fn put(&mut self, value: i64) {
        let mut left = zig_zag(value);
        while left >= 0x80 {
            self.bytes[self.length] = left as u8 | 0x80;
            self.length += 1;
            left >>= 7;
        }
        self.bytes[self.length] = left as u8;
        self.length += 1;
    }

    fn put_field(&mut self, out: &mut Vec<u8>, field: Option<&[u8]>) {
        match field {
            None => self.put(-1),
            Some(field) => {
                self.put(field.len() as i64);
                self.write(out);
                out.extend_from_slice(field);
            }
        }
        // Headers may hold any number of nulls.
        if self.length > HEAD_MAX - 10 {
            self.write(out);
        }
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
        self.length = 0;
    }
}

const fn zig_zag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Returns how many bytes a zig-zag number takes.
const fn varint_len(value: i64) -> usize {
    let bits = 64 - (zig_zag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn put_unsigned(out: &mut Vec<u8>, mut left: u64) {
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::ids::{LeaderEpoch, Offset};
    use crate::record::iterate::{Header, OpenBatch};

    #[test]
    fn the_batch_of_another_client_is_built_byte_for_byte() {
        const GOLDEN: &str = "00000000000000000000004100000000\
            02287e7c3c0000000000000000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff\
            000000011e000000026b02760402610231026101";
        let mut builder = BatchBuilder::new(Codec::None);
        let headers: [NewHeader<'_>; 2] = [(b"a", Some(b"1")), (b"a", None)];
        builder.push(1_700_000_000_000, Some(b"k"), Some(b"v"), &headers);
        let mut batch = builder.build();
        batch.assign(Offset::ZERO, LeaderEpoch(0));
        let golden: Vec<u8> = (0..GOLDEN.len() / 2)
            .map(|i| u8::from_str_radix(&GOLDEN[2 * i..2 * i + 2], 16).expect("hex"))
            .collect();
        assert_eq!(batch.to_bytes(), golden);
    }

    #[test]
    fn a_number_takes_as_many_bytes_as_was_reckoned() {
        for value in [0, -1, 1, 63, -64, 64, -65, 8_191, 8_192, 1 << 27, i64::MAX, i64::MIN] {
            let mut head = Head::default();
            head.put(value);
            assert_eq!(head.length, varint_len(value), "{value}");
        }
    }

    fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
    }

    type Fields = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn record() -> impl Strategy<Value = Fields> {
        let name = prop::collection::vec(any::<u8>(), 0..5);
        let headers = prop::collection::vec((name, field()), 0..3);
        (-1..i64::MAX, field(), field(), headers)
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_again(
            records in prop::collection::vec(record(), 1..20), codec in 0..5u8,
        ) {
            let mut builder = BatchBuilder::new(Codec::from_number(codec).expect("below 5"));
            for (timestamp, key, value, headers) in &records {
                let headers: Vec<NewHeader<'_>> = headers
                    .iter()
                    .map(|(name, value)| (&name[..], value.as_deref()))
                    .collect();
                let size = builder.uncompressed_size();
                let fields = key.as_ref().map_or(0, Vec::len)
                    + value.as_ref().map_or(0, Vec::len)
                    + headers.iter().map(|h| 10 + h.0.len() + h.1.map_or(0, <[u8]>::len))
                        .sum::<usize>();
                builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
                prop_assert!(builder.uncompressed_size() - size <= fields + RECORD_OVERHEAD_MAX);
            }
            let batch = builder.build();

            prop_assert!(batch.crc_is_valid());
            let mut whole = batch.to_bytes();
            prop_assert!(Batch::split_from(&mut whole).is_ok() && whole.is_empty());
            let open = OpenBatch::open(&batch, 1 << 20).expect("sound");
            let read: Vec<_> = open.records().map(|record| record.expect("sound")).collect();
            prop_assert_eq!(read.len(), records.len());
            for (index, (placed, written)) in read.iter().zip(&records).enumerate() {
                prop_assert_eq!(placed.offset, Offset(index as i64));
                prop_assert_eq!(placed.timestamp, written.0);
                prop_assert_eq!(placed.record.key, written.1.as_deref());
                prop_assert_eq!(placed.record.value, written.2.as_deref());
                let headers: Vec<Header<'_>> = placed.record.headers.iter().collect();
                let expected: Vec<Header<'_>> = written.3.iter()
                    .map(|(key, value)| Header { key, value: value.as_deref() })
                    .collect();
                prop_assert_eq!(headers, expected);
            }
            prop_assert_eq!(batch.max_timestamp(), records.iter().map(|r| r.0).max().expect("one"));
        }
    }
}
