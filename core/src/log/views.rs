//! What others may ask about a log without changing anything.

use bytes::Bytes;

use crate::digest::Digest;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicName, TopicPartition};
use crate::log::api::{FetchPlan, FileRange, FlushPolicy, Storage};
use crate::log::partition_log::PartitionLog;
use crate::log::stable::Stable;
use crate::log::store::LogStore;
use crate::record::batch::Batch;

impl LogStore {
    /// Returns every log there is, in order, with its topic's name.
    pub fn logs(&self) -> impl Iterator<Item = (TopicPartition, &TopicName)> + '_ {
        self.logs.iter().map(|(id, log)| (*id, &log.name))
    }

    /// Returns what stands in the way of a folder for this partition: a name in the data directory
    /// that is not ours.
    pub fn name_conflict(&self, name: &TopicName, partition: PartitionIndex) -> Option<String> {
        let folder = format!("{name}-{partition}");
        self.foreign.contains(&folder).then_some(folder)
    }

    /// Returns the first offset of a log, `None` for an unknown one.
    pub fn log_start_offset(&self, log: TopicPartition) -> Option<Offset> {
        self.logs.get(&log).map(|log| log.start)
    }

    /// Returns the offset after the last record of a log, stable or not.
    pub fn log_end_offset(&self, log: TopicPartition) -> Option<Offset> {
        self.logs.get(&log).map(|log| log.end)
    }

    /// Returns the offset after the last stable record of a log.
    pub fn stable_end(&self, log: TopicPartition) -> Option<Stable<Offset>> {
        let log = self.logs.get(&log)?;
        Some(match (log.settings.storage, log.settings.flush) {
            (Storage::Memory, _) => Stable::memory(log.stable),
            (Storage::Disk, FlushPolicy::Ack) => Stable::flushed(log.stable),
            (Storage::Disk, FlushPolicy::Lazy) => Stable::written(log.stable),
        })
    }

    /// Returns whether what is appended to a log goes to the journal, and is stable when that is flushed.
    pub fn waits_for_flush(&self, log: TopicPartition) -> bool {
        self.logs.get(&log).is_some_and(|log| {
            log.settings.storage == Storage::Disk && log.settings.flush == FlushPolicy::Ack
        })
    }

    /// Returns whether a log knows the producer of what is said to be a batch.
    pub fn knows_producer_of(&self, log: TopicPartition, records: &Bytes) -> bool {
        let batch = Batch::split_from(&mut records.clone());
        let (Ok(batch), Some(log)) = (batch, self.logs.get(&log)) else { return false };
        log.producers.get(batch.producer_id()).is_some()
    }

    /// Returns whether a log knows a producer.
    pub fn knows_producer(&self, log: TopicPartition, id: ProducerId) -> bool {
        self.logs.get(&log).is_some_and(|log| log.producers.get(id).is_some())
    }

    /// Returns whether the place of a cut is still searched for, so that nothing is taken.
    pub fn is_cutting(&self, log: TopicPartition) -> bool {
        self.is_finding(log)
    }

    /// Returns whether a log [begins anew](LogStore::reset), and that is not durable yet: nobody may count on its
    /// bounds, because a crash brings back what was there before.
    pub fn begins_anew(&self, log: TopicPartition) -> bool {
        self.logs.get(&log).is_some_and(PartitionLog::begins_anew)
    }

    /// Returns the bytes of a log, segments and unwritten batches together.
    pub fn size(&self, log: TopicPartition) -> Option<u64> {
        self.logs.get(&log).map(PartitionLog::size)
    }

    /// Returns where rot was found in a log, if so.
    pub fn damaged_at(&self, log: TopicPartition) -> Option<Offset> {
        self.logs.get(&log).and_then(|log| log.damaged)
    }

    /// Returns the largest epoch at most `epoch` that the log knows and the offset where it ends
    /// (KIP-101, KIP-279), `None` where it knows none. An epoch before all that it knows ends where
    /// these begin, as in Kafka: its records went with retention.
    pub fn end_of_epoch(
        &self,
        log: TopicPartition,
        epoch: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        let log = self.logs.get(&log)?;
        let older_than_all = || log.epochs.first().map(|(_, start)| (epoch, start));
        log.epochs.end_of(epoch, log.end).or_else(older_than_all)
    }

    /// Returns the largest epoch at most `epoch` that the log knows and the offset where it ends, `None` where it
    /// knows none.
    pub fn known_end_of_epoch(
        &self,
        log: TopicPartition,
        epoch: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        let log = self.logs.get(&log)?;
        log.epochs.end_of(epoch, log.end)
    }

    /// Returns the epoch of the record at an offset, `None` where it is not known.
    pub fn epoch_at(&self, log: TopicPartition, offset: Offset) -> Option<LeaderEpoch> {
        self.logs.get(&log)?.epochs.epoch_at(offset)
    }

    /// Returns the epoch of the last record, `None` for an empty log.
    pub fn latest_epoch(&self, log: TopicPartition) -> Option<LeaderEpoch> {
        self.logs.get(&log)?.epochs.latest().map(|(epoch, _)| epoch)
    }

    /// Plans a fetch of whole batches from `from` on, below `end`, of at most `max_bytes`.
    ///
    /// `from` must lie between the log's start and `end`.
    pub fn plan_fetch(
        &self,
        log: TopicPartition,
        from: Offset,
        end: Offset,
        max_bytes: u64,
        at_least_one: bool,
    ) -> FetchPlan {
        let Some(partition) = self.logs.get(&log) else { return FetchPlan::Memory(Vec::new()) };
        if from >= end {
            return FetchPlan::Memory(Vec::new());
        }
        if from < partition.tail_start() {
            return FetchPlan::File(FileRange { log, from, end, max_bytes, at_least_one });
        }
        let first = partition.tail.partition_point(|batch| batch.next <= from);
        let mut parts = Vec::new();
        let mut bytes = 0;
        for batch in partition.tail.range(first..) {
            let fits = bytes + batch.size <= max_bytes || (bytes == 0 && at_least_one);
            if batch.next > end || !fits {
                break;
            }
            bytes += batch.size;
            batch.push_parts(&mut parts);
        }
        FetchPlan::Memory(parts)
    }

    /// Returns how many bytes could be fetched from `from` up to `end`, counting no further than `enough`.
    pub fn readable_bytes(
        &self,
        log: TopicPartition,
        from: Offset,
        end: Offset,
        enough: u64,
    ) -> u64 {
        self.logs.get(&log).map_or(0, |log| log.readable(from, end, enough))
    }

    /// Takes the store's state into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        if let Some(journal) = &self.journal {
            journal.digest(digest);
        }
        digest.number(self.logs.len() as u64);
        for log in self.logs.values() {
            log.digest(digest);
        }
        self.digest_reads(digest);
        self.digest_phase(digest);
        self.ops.digest(digest);
        self.checkpoint.digest(digest);
        digest.number(self.unwritten_bytes).number(self.cache_bytes).shown(&self.cache);
        digest.shown(&self.write_due).shown(&self.unproven).shown(&self.vote);
        digest.shown(&(self.cleanups, &self.leaving, &self.moving, &self.doomed, &self.emptying));
        digest.shown(&(&self.recovered_deletions, &self.recovered_removals, &self.foreign));
        digest.shown(&(&self.cutting, self.cuts_made)).shown(&self.snapshots);
        digest.shown(&self.retention).shown(&self.space).number(u64::from(self.congested));
    }
}
