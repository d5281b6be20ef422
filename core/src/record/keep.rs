//! What a log stores of a produced batch of which some records are not stored where they were produced, and how
//! clients are served that.
//!
//! Such a *partial* batch has the offsets and the sequences of the whole one. Its records lie where they were
//! produced, so the header counts fewer records than offsets, which is how it is told. It is not compressed,
//! so that its last record is found without opening it.

use crate::record::batch::Batch;
use crate::record::compress::Codec;
use crate::record::hidden::void_batch;
use crate::record::iterate::{OpenBatch, Records};

/// What is stored of a produced batch.
#[derive(Clone, Debug)]
pub enum Stored {
    /// All of it, as it is.
    Whole(Batch),
    /// Some of its records.
    Partial(Batch),
    /// None of its records.
    Void(Batch),
}

impl Stored {
    /// Returns the batch to append.
    pub fn into_batch(self) -> Batch {
        match self {
            Self::Whole(batch) | Self::Partial(batch) | Self::Void(batch) => batch,
        }
    }
}

/// Returns what is stored of a produced batch where record i of it is kept if `keep[i]` is.
///
/// Kept records lie at their offsets and have their times; the largest time is that of the kept ones.
///
/// # Panics
/// Where `open` is not that batch opened, its records were not all found sound before, or `keep` has another
/// length.
pub fn stored(batch: &Batch, keep: &[bool], open: &OpenBatch) -> Stored {
    if keep.iter().all(|keep| *keep) {
        return Stored::Whole(batch.clone());
    }
    if !keep.contains(&true) {
        return Stored::Void(void_batch(batch));
    }
    let mut payload = Vec::with_capacity(open.payload().len());
    let mut records = Records::new(open.payload(), batch.records_count());
    let mut max_timestamp = -1;
    let mut count = 0;
    for &keep in keep {
        let (raw, record) = records
            .next_raw()
            .expect("there are as many records as there are decisions")
            .expect("they were read to decide on them");
        if keep {
            payload.extend_from_slice(raw);
            count += 1;
            let timestamp = batch.base_timestamp().wrapping_add(record.timestamp_delta);
            max_timestamp = timestamp.max(max_timestamp);
        }
    }
    assert!(records.next_raw().is_none(), "there is a decision on each record");
    if batch.is_log_append_time() {
        max_timestamp = batch.max_timestamp();
    }
    Stored::Partial(batch.partial(payload.into(), count, max_timestamp))
}

/// Returns the offset of the last record that is stored in a batch, relative to its first one.
///
/// Where nothing is missing, the header says it; else the records are walked, and a batch that cannot be
/// walked has what its header says.
pub fn last_stored_delta(batch: &Batch) -> i32 {
    let last = batch.last_offset_delta();
    let count = batch.records_count();
    if i64::from(count) > i64::from(last) || batch.codec() != Codec::None.number() {
        return last;
    }
    let walked = Records::new(batch.rest(), count)
        .try_fold(None, |_, record| record.map(|record| Some(record.offset_delta)));
    match walked {
        Ok(Some(delta)) if (0..=last).contains(&delta) => delta,
        Ok(_) | Err(_) => last,
    }
}

/// Returns the batch as clients are served it: it ends at its last stored record.
pub fn trimmed(batch: &Batch) -> Batch {
    let last = last_stored_delta(batch);
    if last == batch.last_offset_delta() { batch.clone() } else { batch.ending_at(last) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
    use crate::record::builder::{BatchBuilder, Producer};
    use crate::record::hidden::Hidden;

    const PRODUCER: Producer =
        Producer { id: ProducerId(7), epoch: ProducerEpoch(3), base_sequence: 40 };

    fn produced(codec: Codec, timestamps: &[i64]) -> Batch {
        let mut builder = BatchBuilder::new(codec).producer(PRODUCER).transactional();
        for (index, timestamp) in timestamps.iter().enumerate() {
            let key = index.to_string();
            builder.push(*timestamp, Some(key.as_bytes()), Some(b"v"), &[(b"h", None)]);
        }
        builder.build()
    }

    fn keep(batch: &Batch, keep: &[bool]) -> Stored {
        let open = OpenBatch::open(batch, 1 << 20).expect("sound");
        stored(batch, keep, &open)
    }

    fn read(batch: &Batch) -> Vec<(Offset, i64, Bytes)> {
        let open = OpenBatch::open(batch, 1 << 20).expect("sound");
        open.records()
            .map(|record| record.expect("sound"))
            .map(|it| {
                (it.offset, it.timestamp, Bytes::copy_from_slice(it.record.key.expect("one")))
            })
            .collect()
    }

    #[test]
    fn a_batch_of_which_all_is_kept_is_untouched_and_one_of_which_nothing_is_is_void() {
        let batch = produced(Codec::Zstd, &[5, 6]);
        let Stored::Whole(whole) = keep(&batch, &[true, true]) else { panic!("all is kept") };
        assert_eq!(whole.to_bytes(), batch.to_bytes());
        let Stored::Void(void) = keep(&batch, &[false, false]) else { panic!("nothing is kept") };
        assert_eq!(Hidden::of(&void), Some(Hidden::Void));
        assert_eq!(void.last_sequence(), batch.last_sequence());
    }

    #[test]
    fn the_largest_time_of_a_partial_batch_is_that_of_its_records() {
        let batch = produced(Codec::None, &[5, 900, 7]);
        let partial = keep(&batch, &[true, false, true]).into_batch();
        assert_eq!((partial.base_timestamp(), partial.max_timestamp()), (5, 7));
        let mut stamped = batch.clone();
        stamped.stamp_append_time(77);
        let partial = keep(&stamped, &[true, false, false]).into_batch();
        assert!(partial.is_log_append_time());
        assert_eq!(partial.max_timestamp(), 77);
        let timeless = produced(Codec::None, &[-1, 3]);
        assert_eq!(keep(&timeless, &[true, false]).into_batch().max_timestamp(), -1);
    }

    #[test]
    fn a_batch_is_served_up_to_its_last_stored_record() {
        let batch = produced(Codec::Lz4, &[1, 2, 3, 4]);
        let mut partial = keep(&batch, &[false, true, false, false]).into_batch();
        partial.assign(Offset(70), LeaderEpoch(4));
        let served = trimmed(&partial);
        assert_eq!(served.last_offset_delta(), 1);
        assert!(served.crc_is_valid());
        assert_eq!((served.base_offset(), served.leader_epoch()), (Offset(70), LeaderEpoch(4)));
        assert_eq!(read(&served), read(&partial));

        let inner = keep(&batch, &[false, true, false, true]).into_batch();
        assert_eq!(trimmed(&inner).to_bytes(), inner.to_bytes());
        assert_eq!(trimmed(&batch).to_bytes(), batch.to_bytes());
    }

    #[test]
    fn a_batch_that_cannot_be_walked_is_served_as_it_is() {
        let batch = produced(Codec::None, &[1, 2, 3]);
        let partial = keep(&batch, &[true, false, false]).into_batch();
        let mut damaged = partial.to_bytes().to_vec();
        damaged[61] ^= 0x40;
        let damaged = Batch::split_from(&mut damaged.into()).expect("framed");
        assert_eq!(last_stored_delta(&damaged), 2);
    }

    proptest! {
        #[test]
        fn kept_records_lie_where_they_were_produced(
            records in prop::collection::vec((-1_i64..1 << 41, any::<bool>()), 1..40),
            codec in 0_u8..5,
        ) {
            let times: Vec<i64> = records.iter().map(|record| record.0).collect();
            let kept: Vec<bool> = records.iter().map(|record| record.1).collect();
            let batch = produced(Codec::from_number(codec).expect("one"), &times);
            let expected: Vec<_> =
                read(&batch).into_iter().zip(&kept).filter(|it| *it.1).map(|it| it.0).collect();
            let out = keep(&batch, &kept);
            let is_partial = matches!(out, Stored::Partial(_));
            let stored = out.into_batch();
            prop_assert!(stored.crc_is_valid());
            prop_assert_eq!(stored.last_offset_delta(), batch.last_offset_delta());
            prop_assert_eq!(stored.base_sequence(), batch.base_sequence());
            prop_assert_eq!(stored.producer_id(), batch.producer_id());
            prop_assert_eq!(stored.producer_epoch(), batch.producer_epoch());
            prop_assert_eq!(stored.is_transactional(), batch.is_transactional());
            if expected.is_empty() {
                prop_assert_eq!(Hidden::of(&stored), Some(Hidden::Void));
                return Ok(());
            }
            prop_assert_eq!(&read(&stored), &expected);
            prop_assert_eq!(is_partial, expected.len() < times.len());
            prop_assert_eq!(stored.max_timestamp(), expected.iter().map(|it| it.1).max().expect("one"));
            let mut whole = stored.to_bytes();
            prop_assert!(Batch::split_from(&mut whole).is_ok() && whole.is_empty());
            let served = trimmed(&stored);
            prop_assert_eq!(served.last_offset(), expected.last().expect("one").0);
            prop_assert!(served.crc_is_valid());
            prop_assert_eq!(read(&served), expected);
        }
    }
}
