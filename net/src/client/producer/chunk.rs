//! Records that were handed over and wait for the task, encoded as little as can be.

use mainspring_core::client::producer::{Producer, RecordRef, ValuesRef};
use mainspring_core::ids::PartitionIndex;
use mainspring_core::record::builder::RECORD_OVERHEAD_MAX;
use mainspring_core::time::Now;
use mainspring_core::wire::KafkaString;

use super::Outgoing;
use super::report::Owed;

/// Bytes at which a chunk is handed to the task at once.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Records at which it is.
const CHUNK_RECORDS: usize = 8192;

/// A piece of a chunk's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    const NONE: Self = Self { start: u32::MAX, end: u32::MAX };

    pub(super) fn add(data: &mut Vec<u8>, bytes: Option<&[u8]>) -> Self {
        let Some(bytes) = bytes else {
            return Self::NONE;
        };
        let start = data.len() as u32;
        data.extend_from_slice(bytes);
        Self { start, end: data.len() as u32 }
    }

    pub(super) fn of(self, data: &[u8]) -> Option<&[u8]> {
        (self.start != u32::MAX).then(|| &data[self.start as usize..self.end as usize])
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) topic: u32,
    /// -1 for none.
    pub(super) partition: i32,
    pub(super) timestamp: Option<i64>,
    pub(super) key: Span,
    pub(super) value: Span,
    /// Its headers in the chunk's list.
    pub(super) headers: Span,
}

/// Where records go that are no more than a value each: topic and partition, -1 for none.
pub(super) type Plain = (u32, i32);

/// Records that were handed over and not yet taken by the task.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Keys, values and headers, in the order of the records.
    pub(super) data: Vec<u8>,
    /// Where all of its records go, while they are values and nothing else: then there are no entries.
    pub(super) plain: Option<Plain>,
    /// The length of each value, while they are.
    pub(super) lengths: Vec<u32>,
    pub(super) entries: Vec<Entry>,
    pub(super) headers: Vec<(Span, Span)>,
    /// Bytes of the buffer that each record takes, while they are not.
    pub(super) sizes: Vec<u32>,
    pub(super) reports: Owed,
}

impl Chunk {
    /// Makes an empty one of one whose records were all appended, so that its memory is used again.
    pub(super) fn emptied(mut self) -> Self {
        self.data.clear();
        self.plain = None;
        self.lengths.clear();
        self.entries.clear();
        self.headers.clear();
        self.sizes.clear();
        self
    }

    /// Returns how many records there are.
    pub(super) const fn len(&self) -> usize {
        if self.plain.is_some() { self.lengths.len() } else { self.entries.len() }
    }

    /// Whether it is better to begin another one before a record of so many bytes.
    pub(super) const fn is_full(&self, bytes: usize) -> bool {
        let count = self.len();
        count >= CHUNK_RECORDS || (count > 0 && self.data.len() + bytes > CHUNK_BYTES)
    }

    /// Whether values for that place may be put in as such.
    pub(super) fn takes_plain(&self, place: Plain) -> bool {
        self.plain == Some(place) || self.len() == 0
    }

    pub(super) fn push_plain(&mut self, place: Plain, value: &[u8]) {
        self.plain = Some(place);
        self.data.extend_from_slice(value);
        self.lengths.push(value.len() as u32);
    }

    pub(super) fn push(&mut self, topic: u32, record: &Outgoing<'_>, size: usize) {
        self.make_general();
        let first = self.headers.len() as u32;
        for (name, value) in record.headers {
            let name = Span::add(&mut self.data, Some(name));
            let value = Span::add(&mut self.data, *value);
            self.headers.push((name, value));
        }
        self.entries.push(Entry {
            topic,
            partition: record.partition.unwrap_or(-1),
            timestamp: record.timestamp,
            key: Span::add(&mut self.data, record.key),
            value: Span::add(&mut self.data, record.value),
            headers: Span { start: first, end: self.headers.len() as u32 },
        });
        self.sizes.push(size as u32);
    }

    /// Lets it take records of any kind.
    pub(super) fn make_general(&mut self) {
        let Some((topic, partition)) = self.plain.take() else {
            return;
        };
        let mut start = 0;
        for length in self.lengths.drain(..) {
            let value = Span { start, end: start + length };
            start = value.end;
            let (key, headers) = (Span::NONE, Span { start: 0, end: 0 });
            self.entries.push(Entry { topic, partition, timestamp: None, key, value, headers });
            self.sizes.push(length + RECORD_OVERHEAD_MAX as u32);
        }
    }

    /// Appends what comes behind the first `done` records, whose values are `start` bytes where it is
    /// plain, counts both on, and returns whether that was all.
    pub(super) fn append_to(
        &self,
        producer: &mut Producer,
        now: Now,
        topics: &[KafkaString],
        done: &mut usize,
        start: &mut usize,
    ) -> bool {
        if let Some((topic, partition)) = self.plain {
            let values = ValuesRef {
                topic: &topics[topic as usize],
                partition: (partition >= 0).then_some(PartitionIndex(partition)),
                bytes: &self.data[*start..],
                lengths: &self.lengths[*done..],
            };
            let count = producer.append_values(now, &values);
            *start += values.lengths[..count].iter().map(|length| *length as usize).sum::<usize>();
            *done += count;
            return *done == self.lengths.len();
        }
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
        for entry in &self.entries[*done..] {
            headers.clear();
            let range = entry.headers.start as usize..entry.headers.end as usize;
            headers.extend(self.headers[range].iter().map(|(name, value)| {
                (name.of(&self.data).unwrap_or_default(), value.of(&self.data))
            }));
            let record = RecordRef {
                topic: &topics[entry.topic as usize],
                partition: (entry.partition >= 0).then_some(PartitionIndex(entry.partition)),
                timestamp: entry.timestamp,
                key: entry.key.of(&self.data),
                value: entry.value.of(&self.data),
                headers: &headers,
            };
            if producer.append(now, &record).is_err() {
                return false;
            }
            *done += 1;
        }
        true
    }

    /// Gives the sizes of its records, which leave it.
    pub(super) fn take_sizes(&mut self) -> Vec<u32> {
        if self.plain.is_some() {
            // The lengths are needed where they are until all is appended.
            let sizes = self.lengths.iter().map(|length| length + RECORD_OVERHEAD_MAX as u32);
            return sizes.collect();
        }
        std::mem::take(&mut self.sizes)
    }
}
