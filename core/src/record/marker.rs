//! The control batch that ends a transaction in one partition (KIP-98).

use crate::ids::{ProducerEpoch, ProducerId};
use crate::record::batch::Batch;
use crate::record::builder::{TransactionResult, transaction_marker};
use crate::record::hidden::Hidden;

/// What a marker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnMarker {
    /// Whose transaction ends.
    pub producer_id: ProducerId,
    /// The epoch in which it ends: since `transaction.version` 2 one more than that of its records.
    pub producer_epoch: ProducerEpoch,
    /// The epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
    /// Whether the records of the transaction are to be read.
    pub committed: bool,
}

impl TxnMarker {
    /// Builds the batch. `timestamp` is Unix milliseconds.
    pub fn build(&self, timestamp: i64) -> Batch {
        let result =
            if self.committed { TransactionResult::Commit } else { TransactionResult::Abort };
        transaction_marker(
            self.producer_id,
            self.producer_epoch,
            result,
            self.coordinator_epoch,
            timestamp,
        )
    }

    /// Reads a batch; `None` where it is no marker of a transaction.
    pub fn of(batch: &Batch) -> Option<Self> {
        if !batch.is_control() || batch.codec() != 0 || Hidden::of(batch).is_some() {
            return None;
        }
        // Length, attributes, timestamp and offset delta: each marker has them in one byte or more.
        let mut at = batch.rest().as_ref();
        skip_varint(&mut at)?;
        at = at.get(1..)?;
        skip_varint(&mut at)?;
        skip_varint(&mut at)?;
        // A key of 4 bytes (version, type), then a value of 6 (version, coordinator epoch).
        let (&[key_len, _, _, kind_high, kind_low, value_len, _, _, a, b, c, d], _) =
            at.split_first_chunk::<12>()?;
        let is_marker = key_len == 8 && kind_high == 0 && kind_low <= 1 && value_len == 12;
        is_marker.then(|| Self {
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            coordinator_epoch: i32::from_be_bytes([a, b, c, d]),
            committed: kind_low == 1,
        })
    }
}

fn skip_varint(at: &mut &[u8]) -> Option<()> {
    let end = at.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    *at = &at[end + 1..];
    Some(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ids::NodeId;
    use crate::record::builder::{BatchBuilder, leader_change};
    use crate::record::compress::Codec;

    fn marker(committed: bool) -> TxnMarker {
        TxnMarker {
            producer_id: ProducerId(1 << 40),
            producer_epoch: ProducerEpoch(7),
            coordinator_epoch: 0x0102_0304,
            committed,
        }
    }

    #[test]
    fn a_marker_is_read_as_it_was_built() {
        for committed in [false, true] {
            let batch = marker(committed).build(1_770_000_000_000);
            assert!(batch.is_control() && batch.is_transactional() && batch.crc_is_valid());
            assert_eq!(TxnMarker::of(&batch), Some(marker(committed)));
        }
    }

    #[test]
    fn what_is_no_marker_is_none() {
        let mut plain = BatchBuilder::new(Codec::None);
        plain.push(5, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
        assert_eq!(TxnMarker::of(&plain.build()), None, "no control batch");
        assert_eq!(TxnMarker::of(&leader_change(NodeId(1), &[], &[], 5)), None, "of a quorum");
    }

    #[test]
    fn a_damaged_marker_never_panics() {
        let whole = marker(true).build(5).to_bytes();
        for at in 61..whole.len() {
            let mut cut = whole.slice(..at).to_vec();
            let length = cut.len() as i32 - 12;
            cut[8..12].copy_from_slice(&length.to_be_bytes());
            let batch = Batch::split_from(&mut Bytes::from(cut)).expect("whole");
            let read = TxnMarker::of(&batch);
            assert!(read.is_none() || at + 1 == whole.len(), "only the count of headers may lack");
        }
    }
}
