//! Batches of logs with features, for tests.

use bytes::Bytes;

use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::record::batch::{Batch, HEADER_LEN};
use crate::record::builder::{BatchBuilder, Producer};
use crate::record::compress::Codec;
use crate::record::hidden::{Change, Note, void_batch};
use crate::record::marker::TxnMarker;

/// A batch of short records.
pub(crate) fn data(records: usize, producer: Option<Producer>, transactional: bool) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(producer) = producer {
        builder = builder.producer(producer);
    }
    if transactional {
        builder = builder.transactional();
    }
    for record in 0..records {
        builder.push(1_700_000_000_000 + record as i64, None, Some(&[b'v'; 9]), &[]);
    }
    builder.build()
}

/// The batch as it is stored if only these of its short records are kept: void without any.
pub(crate) fn keeping(batch: &Batch, kept: &[bool]) -> Batch {
    let mut payload = batch.rest().as_ref();
    let mut out = batch.header().to_vec();
    let mut count = 0;
    for keeps in kept {
        assert!(payload[0] < 0x80, "a test keeps short records");
        let (record, rest) = payload.split_at(1 + usize::from(payload[0] / 2));
        payload = rest;
        if *keeps {
            out.extend_from_slice(record);
            count += 1;
        }
    }
    assert!(payload.is_empty(), "each record is spoken of");
    if count == 0 {
        return void_batch(batch);
    }
    let length = out.len() as i32 - 12;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[57..HEADER_LEN].copy_from_slice(&i32::to_be_bytes(count));
    let stored = Batch::split_from(&mut Bytes::from(out)).expect("whole");
    stored.ending_at(batch.last_offset_delta())
}

/// A note of a version that this build does not know.
pub(crate) fn newer_note() -> Batch {
    let note = note(5);
    let mut rest = note.rest().to_vec();
    let kind = rest.windows(2).position(|two| two == b"MS").expect("its key ends so");
    // Behind it come the length of the value, in one byte, and its version.
    rest[kind + 4] = 1;
    Batch::seal(*note.header(), rest.into())
}

/// A note of about so many bytes.
pub(crate) fn note(bytes: usize) -> Batch {
    let id = Some(vec![b'i'; bytes].into());
    let outcome = crate::record::hidden::Outcome::Fired;
    let (ticket, offset) = (Offset(0), Offset(-1));
    let ended = Change::Ended { ticket, id, outcome, offset, at_ms: 2 };
    Note { at_ms: 1, link: None, changes: vec![ended] }.build()
}

/// A marker of the producer's transaction.
pub(crate) fn marker(producer: i64, epoch: i16, committed: bool) -> Batch {
    let (producer_id, producer_epoch) = (ProducerId(producer), ProducerEpoch(epoch));
    TxnMarker { producer_id, producer_epoch, coordinator_epoch: 0, committed }.build(9)
}
