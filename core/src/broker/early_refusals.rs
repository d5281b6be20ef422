//! Batches of idempotent producers that were refused before any log was asked.
//!
//! A shard that does not know a topic yet, or has not taken a partition up yet, refuses a batch so
//! that the client tries again. The batch behind it in the same pipeline may come a moment later, when
//! the shard is ready; without the producer's state the log would take it, and the first one would be
//! out of order for good. So what was refused is remembered until it has come. (A log remembers what
//! it refuses itself: [`ProducerStates`](crate::log::producer_state::ProducerStates).)

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::ids::{ProducerEpoch, ProducerId, TopicPartition};
use crate::record::batch::Batch;
use crate::time::Instant;
use crate::wire::KafkaString;

/// How long a refused batch is waited for.
const WAIT: Duration = Duration::from_mins(10);
/// Most batches remembered; the oldest is forgotten first.
const BATCHES_MAX: usize = 10_000;
/// Longest name of a topic.
const TOPIC_NAME_LEN_MAX: usize = 249;

/// Where a batch was to go.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::broker) enum Target {
    /// To a partition, by the topic's id.
    Id(TopicPartition),
    /// To a partition of a topic whose id nobody gave.
    Name(KafkaString, i32),
}

impl Target {
    /// Returns it without a hold on the frame that it came in.
    pub(in crate::broker) fn detached(self) -> Self {
        match self {
            Self::Name(name, partition) => Self::Name(name.detached(), partition),
            Self::Id(id) => Self::Id(id),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    epoch: ProducerEpoch,
    base_sequence: i32,
    at: Instant,
}

/// The first batch of each producer that was refused early, for each partition.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct EarlyRefusals {
    first: BTreeMap<(Target, ProducerId), Refused>,
    by_age: BTreeSet<(Instant, (Target, ProducerId))>,
}

impl EarlyRefusals {
    /// Remembers that a batch was refused, if it is one of an idempotent producer.
    pub(in crate::broker) fn refuse(&mut self, now: Instant, target: Target, records: &Bytes) {
        let Some((id, epoch, base_sequence)) = producer_of(records) else { return };
        // No topic can have a longer name, so nothing can come to it later either.
        if matches!(&target, Target::Name(name, _) if name.len() > TOPIC_NAME_LEN_MAX) {
            return;
        }
        let refused = Refused { epoch, base_sequence, at: now };
        let key = (target, id);
        if let Some(known) = self.first.get_mut(&key) {
            let replaces = epoch > known.epoch
                || (epoch == known.epoch && base_sequence <= known.base_sequence)
                || now.since(known.at) >= WAIT;
            if replaces {
                self.by_age.remove(&(known.at, key.clone()));
                self.by_age.insert((now, key));
                *known = refused;
            }
            return;
        }
        if self.first.len() >= BATCHES_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.first.remove(&oldest);
        }
        self.by_age.insert((now, key.clone()));
        self.first.insert(key, refused);
    }

    /// Returns whether a batch would pass an earlier one that was refused. One that does not has
    /// come, or makes the other pointless, and nothing is waited for any more.
    pub(in crate::broker) fn is_passing(
        &mut self,
        now: Instant,
        target: impl FnOnce() -> Target,
        records: &Bytes,
    ) -> bool {
        if self.first.is_empty() {
            return false;
        }
        let Some((id, epoch, base_sequence)) = producer_of(records) else { return false };
        let key = (target(), id);
        let Some(refused) = self.first.get(&key) else { return false };
        if epoch < refused.epoch {
            return false;
        }
        let is_later = epoch == refused.epoch && base_sequence > refused.base_sequence;
        if is_later && now.since(refused.at) < WAIT {
            return true;
        }
        self.by_age.remove(&(refused.at, key.clone()));
        self.first.remove(&key);
        false
    }

    /// Returns how many are remembered.
    #[cfg(test)]
    pub(in crate::broker) fn len(&self) -> usize {
        self.first.len()
    }
}

/// Returns producer, epoch and first sequence of a batch, `None` where it has none.
fn producer_of(records: &Bytes) -> Option<(ProducerId, ProducerEpoch, i32)> {
    let batch = Batch::split_from(&mut records.clone()).ok()?;
    (batch.producer_id().0 >= 0)
        .then(|| (batch.producer_id(), batch.producer_epoch(), batch.base_sequence()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing::batch;
    use crate::ids::{PartitionIndex, Uuid};
    use crate::record::builder::Producer;

    const NOW: Instant = Instant::from_nanos(7);

    fn target(partition: i32) -> Target {
        let topic_id = Uuid([1; 16]);
        Target::Id(TopicPartition { topic_id, partition: PartitionIndex(partition) })
    }

    fn records(id: i64, epoch: i16, base_sequence: i32) -> Bytes {
        let (id, epoch) = (ProducerId(id), ProducerEpoch(epoch));
        batch(&["x"], Some(Producer { id, epoch, base_sequence }))
    }

    fn passes(refusals: &mut EarlyRefusals, at: Instant, records: &Bytes) -> bool {
        refusals.is_passing(at, || target(0), records)
    }

    #[test]
    fn a_later_batch_waits_until_the_refused_one_has_come() {
        let mut refusals = EarlyRefusals::default();
        refusals.refuse(NOW, target(0), &records(5, 1, 10));
        refusals.refuse(NOW, target(0), &records(5, 1, 11));
        assert!(passes(&mut refusals, NOW, &records(5, 1, 11)));
        assert!(!passes(&mut refusals, NOW, &records(6, 1, 11)), "another producer");
        assert!(!refusals.is_passing(NOW, || target(1), &records(5, 1, 11)), "elsewhere");
        assert!(!passes(&mut refusals, NOW, &records(5, 0, 11)), "an older epoch");
        assert!(passes(&mut refusals, NOW, &records(5, 1, 12)));
        assert!(!passes(&mut refusals, NOW, &records(5, 1, 10)), "it has come");
        assert!(!passes(&mut refusals, NOW, &records(5, 1, 11)));
        assert_eq!(refusals.len(), 0);
    }

    #[test]
    fn a_new_epoch_or_ten_minutes_end_the_wait() {
        let mut refusals = EarlyRefusals::default();
        refusals.refuse(NOW, target(0), &records(5, 1, 10));
        assert!(!passes(&mut refusals, NOW, &records(5, 2, 11)));
        assert_eq!(refusals.len(), 0);
        refusals.refuse(NOW, target(0), &records(5, 1, 10));
        assert!(!passes(&mut refusals, NOW + WAIT, &records(5, 1, 11)));
        assert_eq!(refusals.len(), 0);
    }

    #[test]
    fn a_name_that_no_topic_can_have_is_not_remembered() {
        let mut refusals = EarlyRefusals::default();
        let name = |length: usize| Target::Name("x".repeat(length).as_str().into(), 0);
        refusals.refuse(NOW, name(250), &records(5, 1, 10));
        assert_eq!(refusals.len(), 0);
        refusals.refuse(NOW, name(249), &records(5, 1, 10));
        assert_eq!(refusals.len(), 1);
    }

    #[test]
    fn what_has_no_producer_is_not_remembered_and_the_rest_is_bounded() {
        let mut refusals = EarlyRefusals::default();
        refusals.refuse(NOW, target(0), &batch(&["x"], None));
        refusals.refuse(NOW, target(0), &Bytes::from_static(b"no batch"));
        assert_eq!(refusals.len(), 0);
        for index in 0..=BATCHES_MAX as i32 {
            let at = Instant::from_nanos(index as u64);
            refusals.refuse(at, target(index), &records(5, 0, 0));
        }
        assert_eq!(refusals.len(), BATCHES_MAX);
        assert!(!passes(&mut refusals, NOW, &records(5, 0, 1)), "the oldest is forgotten");
    }
}
