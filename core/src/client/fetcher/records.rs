//! The records that a fetch brought, as one value that is cheap to hold, to clone and to hand to
//! another thread: the bytes as they were received or decompressed, and where in them each record is.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Offset;
use crate::record::iterate::{Headers, OpenBatch, RecordError};

/// A length that stands for null.
const NULL: u32 = u32::MAX;

/// Where a record is in its payload.
#[derive(Clone, Copy, Debug)]
struct Span {
    offset: i64,
    timestamp: i64,
    payload: u32,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
    /// Where the headers begin with their number; 0 where there is none.
    headers: u32,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    payloads: Vec<Bytes>,
    spans: Vec<Span>,
}

/// Records of one partition, in order. Clones share everything.
#[derive(Clone, Default)]
pub struct FetchedRecords(Arc<Inner>);

/// One record, as a view of what was fetched.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its time in Unix milliseconds, -1 for none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers in their order.
    pub headers: Headers<'a>,
}

impl FetchedRecords {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.spans.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.spans.is_empty()
    }

    /// Returns how many bytes of memory they keep: all records of their batches, decompressed.
    pub fn bytes(&self) -> usize {
        let payloads: usize = self.0.payloads.iter().map(Bytes::len).sum();
        payloads + self.0.spans.len() * size_of::<Span>()
    }

    /// Returns the record at an index, `None` behind the last.
    pub fn get(&self, index: usize) -> Option<RecordView<'_>> {
        self.0.spans.get(index).map(|span| self.view(span))
    }

    /// Iterates them in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { records: self, spans: self.0.spans.iter() }
    }

    /// Returns the value of the record at an index, and looks at nothing else of it. `None` where it is
    /// null, and behind the last.
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        let span = self.0.spans.get(index).filter(|span| span.value_len != NULL)?;
        let start = span.value as usize;
        Some(&self.0.payloads[span.payload as usize][start..start + span.value_len as usize])
    }

    /// Returns the key of the record at an index without copying it. It keeps the payload of the
    /// whole batch in memory.
    pub fn key_bytes(&self, index: usize) -> Option<Bytes> {
        let span = self.0.spans.get(index)?;
        self.slice(span, span.key, span.key_len)
    }

    /// Returns the value of the record at an index without copying it. It keeps the payload of the
    /// whole batch in memory.
    pub fn value_bytes(&self, index: usize) -> Option<Bytes> {
        let span = self.0.spans.get(index)?;
        self.slice(span, span.value, span.value_len)
    }

    fn slice(&self, span: &Span, start: u32, length: u32) -> Option<Bytes> {
        let range = start as usize..(start as usize).checked_add(length as usize)?;
        (length != NULL).then(|| self.0.payloads[span.payload as usize].slice(range))
    }

    fn view(&self, span: &Span) -> RecordView<'_> {
        let payload = &self.0.payloads[span.payload as usize][..];
        let field = |start: u32, length: u32| {
            (length != NULL).then(|| &payload[start as usize..start as usize + length as usize])
        };
        RecordView {
            offset: Offset(span.offset),
            timestamp: span.timestamp,
            key: field(span.key, span.key_len),
            value: field(span.value, span.value_len),
            headers: match span.headers {
                0 => Headers::default(),
                start => Headers::checked(&payload[start as usize..]),
            },
        }
    }

    /// Adds the records of a batch from `position` on: all of them, or none.
    pub(super) fn add(&mut self, open: &OpenBatch, position: Offset) -> Result<(), RecordError> {
        let inner = Arc::get_mut(&mut self.0).expect("nobody shares what is being read");
        let payload = &open.payload()[..];
        // A length announces at most this, so every place in it can be named.
        if u32::try_from(payload.len()).is_err() {
            return Err(RecordError::Cut);
        }
        let number = inner.payloads.len() as u32;
        let before = inner.spans.len();
        inner.spans.reserve(open.count_max());
        for placed in open.records() {
            let placed = match placed {
                Ok(placed) => placed,
                Err(error) => {
                    inner.spans.truncate(before);
                    return Err(error);
                }
            };
            if placed.offset < position {
                continue;
            }
            let at = |field: &[u8]| (field.as_ptr().addr() - payload.as_ptr().addr()) as u32;
            let place = |field: Option<&[u8]>| {
                field.map_or((0, NULL), |field| (at(field), field.len() as u32))
            };
            let (key, key_len) = place(placed.record.key);
            let (value, value_len) = place(placed.record.value);
            let headers = &placed.record.headers;
            inner.spans.push(Span {
                offset: placed.offset.0,
                timestamp: placed.timestamp,
                payload: number,
                key,
                key_len,
                value,
                value_len,
                headers: if headers.is_empty() { 0 } else { at(headers.with_count()) },
            });
        }
        if inner.spans.len() > before {
            inner.payloads.push(open.payload().clone());
        }
        Ok(())
    }
}

impl fmt::Debug for FetchedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Equal are the records, wherever they lie.
impl PartialEq for FetchedRecords {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (RecordView<'_>, RecordView<'_>)| {
            (one.offset, one.timestamp) == (other.offset, other.timestamp)
                && (one.key, one.value) == (other.key, other.value)
                && one.headers.iter().eq(other.headers.iter())
        };
        self.len() == other.len() && self.iter().zip(other).all(same)
    }
}

impl<'a> IntoIterator for &'a FetchedRecords {
    type Item = RecordView<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterates records in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    records: &'a FetchedRecords,
    spans: std::slice::Iter<'a, Span>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = RecordView<'a>;

    fn next(&mut self) -> Option<RecordView<'a>> {
        self.spans.next().map(|span| self.records.view(span))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}
