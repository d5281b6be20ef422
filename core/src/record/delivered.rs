//! The record that a delivered entry becomes.

use crate::ids::Offset;
use crate::record::builder::{BatchBuilder, NewHeader};
use crate::record::headers;
use crate::record::hidden::Entry;

/// Adds the record of an entry that is delivered at `now_ms` to a batch, and returns its place in it.
///
/// It has the key, the value and the headers that it was produced with, and `now_ms` as its time; its producer's
/// time (where it had one), when it was due and its ticket are in headers behind those. All times are Unix milliseconds.
pub fn delivered(
    entry: &Entry,
    ticket: Offset,
    scheduled_for_ms: i64,
    builder: &mut BatchBuilder,
    now_ms: i64,
) -> i32 {
    let sent_at = entry.timestamp.to_string();
    let scheduled_for = scheduled_for_ms.to_string();
    let ticket = ticket.0.to_string();
    let mut all: Vec<NewHeader<'_>> =
        entry.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
    if entry.timestamp >= 0 {
        all.push((headers::SENT_AT, Some(sent_at.as_bytes())));
    }
    all.push((headers::SCHEDULED_FOR, Some(scheduled_for.as_bytes())));
    all.push((headers::TICKET, Some(ticket.as_bytes())));
    builder.push(now_ms, entry.key.as_deref(), entry.value.as_deref(), &all)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::compress::Codec;
    use crate::record::iterate::OpenBatch;

    #[test]
    fn a_delivered_record_is_the_produced_one_and_tells_when_it_was_sent_and_due() {
        let entry = Entry {
            due_ms: 500,
            id: None,
            timestamp: 99,
            key: Some(Bytes::from_static(b"k")),
            value: None,
            headers: vec![
                (Bytes::from_static(b"mainspring-ticket"), Some(Bytes::from_static(b"copied"))),
                (Bytes::from_static(b"h"), None),
            ],
            cron: None,
            half: None,
        };
        let mut builder = BatchBuilder::new(Codec::None);
        assert_eq!(delivered(&entry, Offset(12), 500, &mut builder, 507), 0);
        let timeless = Entry { timestamp: -1, ..entry };
        assert_eq!(delivered(&timeless, Offset(13), 500, &mut builder, 507), 1);
        let batch = builder.build();
        let open = OpenBatch::open(&batch, 1 << 20).expect("sound");
        let records: Vec<_> = open.records().map(|record| record.expect("sound")).collect();
        let first = &records[0];
        assert_eq!(
            (first.timestamp, first.record.key, first.record.value),
            (507, Some(&b"k"[..]), None)
        );
        let value = |index: usize, name| records[index].record.headers.find_last(name)?.value;
        assert_eq!(value(0, headers::SENT_AT), Some(&b"99"[..]));
        assert_eq!(value(0, headers::SCHEDULED_FOR), Some(&b"500"[..]));
        assert_eq!(value(0, headers::TICKET), Some(&b"12"[..]));
        assert_eq!(first.record.headers.len(), 5);
        assert_eq!(value(1, headers::SENT_AT), None);
        assert_eq!(value(1, headers::TICKET), Some(&b"13"[..]));
    }
}
