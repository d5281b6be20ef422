//! What others may ask about the transactions of a log.

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use crate::log::api::Sequence;
use crate::log::partition_log::ProducerFiles;
use crate::log::producer_state::{EndedTransaction, ProducerState};
use crate::log::store::LogStore;
use crate::record::batch::{Batch, HEADER_LEN};
use crate::record::marker::TxnMarker;
use crate::time::Now;

impl LogStore {
    /// Returns the last stable offset where `high_watermark` is the end of what is committed: the
    /// first offset of any transaction that is open or whose marker is not below it, but never below the
    /// start of the log.
    pub fn last_stable_offset(&self, log: TopicPartition, high_watermark: Offset) -> Offset {
        let Some(log) = self.logs.get(&log) else { return high_watermark };
        let unstable = log.producers.first_unstable(high_watermark).unwrap_or(high_watermark);
        unstable.max(log.start).min(high_watermark)
    }

    /// Returns where the last stable offset is held back from `high_watermark`, and by whose transaction.
    pub fn pinned_by(
        &self,
        log: TopicPartition,
        high_watermark: Offset,
    ) -> Option<(Offset, ProducerId)> {
        let log = self.logs.get(&log)?;
        let (first, id) = log.producers.first_undecided(high_watermark)?;
        (first < high_watermark).then(|| (first.max(log.start), id))
    }

    /// Takes in the end of what is committed, so that transactions that ended below it need not be
    /// remembered for the last stable offset.
    pub fn resolve_transactions(&mut self, log: TopicPartition, high_watermark: Offset) {
        if let Some(log) = self.logs.get_mut(&log) {
            log.producers.resolve(high_watermark);
        }
    }

    /// Returns the aborted transactions with an offset in `from..to`, by their first offsets.
    ///
    /// # Errors
    /// `CORRUPT_MESSAGE` where rot has taken what the log knew of transactions, so that nobody can be
    /// told which of its records are to be read.
    pub fn aborted_transactions(
        &self,
        log: TopicPartition,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<EndedTransaction>, ErrorCode> {
        let log = self.logs.get(&log).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if log.producer_files == ProducerFiles::Unknown {
            return Err(ErrorCode::CorruptMessage);
        }
        Ok(log.producers.aborted(from, to))
    }

    /// Judges a marker that a coordinator wants to write.
    ///
    /// # Errors
    /// As [`ProducerStates::check_marker`](crate::log::producer_state::ProducerStates::check_marker).
    pub fn check_marker(
        &self,
        log: TopicPartition,
        marker: &TxnMarker,
        transaction_version: i8,
    ) -> Result<(), ErrorCode> {
        let log = self.logs.get(&log).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        log.producers.check_marker(marker, transaction_version)
    }

    /// Returns whether a transaction of the producer is open here in this epoch.
    pub fn has_open_transaction(
        &self,
        log: TopicPartition,
        id: ProducerId,
        epoch: ProducerEpoch,
    ) -> bool {
        self.logs.get(&log).is_some_and(|log| log.producers.has_open_transaction(id, epoch))
    }

    /// Returns whether a batch is a repetition of one that the log holds.
    pub fn is_duplicate(&self, now: Now, log: TopicPartition, batch: &Batch) -> bool {
        let verdict = self.logs.get(&log).map(|log| log.producers.check(now.mono, batch));
        matches!(verdict, Some(Ok(Sequence::Duplicate { .. })))
    }

    /// Returns what a log knows of its producers, by id.
    pub fn producers(
        &self,
        log: TopicPartition,
    ) -> impl Iterator<Item = (ProducerId, &ProducerState)> + '_ {
        self.logs.get(&log).into_iter().flat_map(|log| log.producers.iter())
    }
}

/// Returns the offset after the last of the batches that a fetch or a read has brought, `None` for none.
pub fn end_of(parts: &[Bytes]) -> Option<Offset> {
    let (last, before) = parts.split_last()?;
    // A batch comes whole, or as its header and the rest.
    let split = before.last().filter(|header| {
        let total = HEADER_LEN + last.len();
        header.len() == HEADER_LEN && Batch::peek_len(header) == Ok(total)
    });
    let header = split.unwrap_or(last);
    let base = i64::from_be_bytes(*header.first_chunk()?);
    let delta = i32::from_be_bytes(*header.get(23..)?.first_chunk()?);
    Some(Offset(base).plus(i64::from(delta) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaderEpoch;
    use crate::record::builder::BatchBuilder;
    use crate::record::compress::Codec;

    #[test]
    fn the_end_of_what_was_read_is_that_of_its_last_batch_whole_or_in_parts() {
        let batch = |base, records| {
            let mut builder = BatchBuilder::new(Codec::None);
            for _ in 0..records {
                builder.push(1, None, Some(b"value"), &[]);
            }
            let mut batch = builder.build();
            batch.assign(Offset(base), LeaderEpoch(0));
            batch
        };
        let (first, second) = (batch(7, 2), batch(9, 3));
        let split =
            |batch: &Batch| vec![Bytes::copy_from_slice(batch.header()), batch.rest().clone()];
        assert_eq!(end_of(&[]), None);
        assert_eq!(end_of(&[first.to_bytes()]), Some(Offset(9)));
        assert_eq!(end_of(&split(&first)), Some(Offset(9)));
        assert_eq!(end_of(&[first.to_bytes(), second.to_bytes()]), Some(Offset(12)));
        assert_eq!(end_of(&[split(&first), split(&second)].concat()), Some(Offset(12)));
        assert_eq!(end_of(&[vec![first.to_bytes()], split(&second)].concat()), Some(Offset(12)));
        assert_eq!(end_of(&[split(&first), vec![second.to_bytes()]].concat()), Some(Offset(12)));
    }
}
