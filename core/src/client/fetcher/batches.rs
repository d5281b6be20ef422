//! Reads the records out of what a fetch brought.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::FetchedRecords;
use crate::client::ClientError;
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerId};
use crate::record::batch::{Batch, BatchError};
use crate::record::iterate::OpenBatch;
use crate::wire::api::fetch::AbortedTransaction;

/// What the bytes of a fetch hold.
pub(super) struct ReadBatches {
    /// The records that readers are shown, in order.
    pub(super) records: FetchedRecords,
    /// The offset behind everything that was read.
    pub(super) next_offset: Offset,
    /// Why reading stopped before the end.
    pub(super) error: Option<ClientError>,
}

/// Reads batches from `position` on: whole ones whose CRC holds, without control records and without
/// records of aborted transactions. A last batch that is cut off is left for the next fetch.
pub(super) fn read_batches(
    mut bytes: Bytes,
    position: Offset,
    aborted: &[AbortedTransaction],
    max_batch_bytes: usize,
) -> ReadBatches {
    let mut out =
        ReadBatches { records: FetchedRecords::default(), next_offset: position, error: None };
    let mut aborted: Vec<AbortedTransaction> = aborted.to_vec();
    aborted.sort_by_key(|transaction| transaction.first_offset);
    let mut aborted_from = aborted.iter().peekable();
    let mut aborted_now: BTreeSet<ProducerId> = BTreeSet::new();
    loop {
        match Batch::peek_len(&bytes) {
            Ok(length) if bytes.len() >= length => {}
            Ok(_) | Err(BatchError::Cut { .. }) => return out,
            Err(_) => {
                out.error = Some(ClientError::Broker(ErrorCode::CorruptMessage));
                return out;
            }
        }
        let batch = match Batch::split_from(&mut bytes) {
            Ok(batch) if batch.crc_is_valid() => batch,
            Ok(_) | Err(_) => {
                out.error = Some(ClientError::Broker(ErrorCode::CorruptMessage));
                return out;
            }
        };
        while let Some(transaction) =
            aborted_from.next_if(|transaction| transaction.first_offset <= batch.last_offset().0)
        {
            aborted_now.insert(ProducerId(transaction.producer_id));
        }
        if batch.is_control() {
            // A marker ends the transaction of its producer, whichever way.
            aborted_now.remove(&batch.producer_id());
        } else if !(batch.is_transactional() && aborted_now.contains(&batch.producer_id()))
            && let Err(error) = read_records(&batch, position, max_batch_bytes, &mut out.records)
        {
            out.error = Some(error);
            return out;
        }
        out.next_offset = out.next_offset.max(batch.next_offset());
    }
}

fn read_records(
    batch: &Batch,
    position: Offset,
    max_batch_bytes: usize,
    out: &mut FetchedRecords,
) -> Result<(), ClientError> {
    OpenBatch::open(batch, max_batch_bytes)
        .and_then(|open| out.add(&open, position))
        .map_err(|error| ClientError::Malformed(error.to_string()))
}
