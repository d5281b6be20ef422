//! The loading of a coordinator of groups.

use bytes::Bytes;

use crate::broker::groups::{Groups, Slot, State, group_config};
use crate::broker::loading::{Loading, READ_AGAIN_AFTER, Replayed, Step};
use crate::broker::shard::{Shard, TicketUse};
use crate::coordinator::group::{GroupCoordinator, TransactionalProducer};
use crate::digest::Digest;
use crate::ids::{Offset, TopicId, TopicPartition};
use crate::io::Mark;
use crate::log::ReadError;
use crate::partition::Partition;
use crate::record::batch::Batch;
use crate::record::marker::TxnMarker;
use crate::time::Now;
use crate::wire::{DecodeError, KafkaString};

impl Replayed for GroupCoordinator {
    fn replay(
        &mut self,
        batch: &Batch,
        offset: Offset,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError> {
        if batch.is_transactional() {
            let producer =
                TransactionalProducer { id: batch.producer_id(), epoch: batch.producer_epoch() };
            return self.replay_transactional(offset, producer, key, value);
        }
        Self::replay(self, offset, key, value)
    }

    fn replay_control(&mut self, batch: &Batch) {
        if let Some(marker) = TxnMarker::of(batch) {
            let TxnMarker { producer_id, producer_epoch, committed, .. } = marker;
            self.on_marker(producer_id, producer_epoch, committed, batch.base_offset());
        }
    }

    fn digest(&self, digest: &mut Digest) {
        Self::digest(self, digest);
    }
}

impl Shard {
    /// Takes up the coordinator of a partition: its state is what its log says.
    pub(in crate::broker) fn load_coordinator(&mut self, now: Now, id: TopicPartition) {
        if self.groups.coordinators.contains_key(&id) {
            return;
        }
        let config = group_config(&self.config.node);
        let loading = Loading::new(GroupCoordinator::new(config), id, &self.log);
        let state = State::Loading(Box::new(loading));
        self.groups.coordinators.insert(id, Slot { state, armed: None, reports: false });
        self.go_on_loading(now, id);
    }

    /// Replays one piece; the next one comes when it is read, or in a turn of its own.
    pub(super) fn go_on_loading(&mut self, now: Now, id: TopicPartition) {
        let Self { groups, log, .. } = self;
        let Some(loading) = groups.loading(id) else { return };
        match loading.step(id, log) {
            Step::Done => self.serve_groups(now, id),
            Step::Replay(parts) => {
                let outcome = loading_replay(self.groups.loading(id), &parts);
                self.loaded(now, id, outcome);
            }
            Step::Read(range) => {
                self.fx.mark(Mark::CoordinatorReadFromFile);
                let ticket = self.ticket(TicketUse::LoadGroups(id));
                self.log.read(now, range, ticket, &mut self.fx);
            }
        }
    }

    pub(in crate::broker) fn on_load_read(
        &mut self,
        now: Now,
        id: TopicPartition,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let outcome = match result {
            Ok(parts) => loading_replay(self.groups.loading(id), &parts),
            Err(ReadError::Disk(why)) if self.poisoned.is_none() => {
                // What a disk refuses once it may give the next time; nothing is served before.
                self.fx.mark(Mark::CoordinatorReadAgain);
                self.fx
                    .warn(format!("the groups in __consumer_offsets-{} wait: {why}", id.partition));
                return self.arm_coordinator(now, id, Some(now.mono + READ_AGAIN_AFTER));
            }
            Err(error) => Err(error.to_string()),
        };
        self.loaded(now, id, outcome);
    }

    fn loaded(&mut self, now: Now, id: TopicPartition, outcome: Result<(), String>) {
        let Some(loading) = self.groups.loading(id) else { return };
        match outcome {
            Ok(()) if loading.is_done() => self.serve_groups(now, id),
            Ok(()) => self.arm_coordinator(now, id, Some(now.mono)),
            Err(why) => {
                let next = loading.next();
                self.fx.warn(format!(
                    "the groups in __consumer_offsets-{} cannot be served: {why} (at offset {next}); \
                     restore the data directory from a copy, or delete the topic, which forgets all \
                     committed offsets",
                    id.partition
                ));
                if let Some(slot) = self.groups.coordinators.get_mut(&id) {
                    slot.state = State::Broken;
                }
            }
        }
    }

    /// The log is replayed to its end: the coordinator serves.
    fn serve_groups(&mut self, now: Now, id: TopicPartition) {
        let Self { groups, image, partitions, .. } = self;
        let Some(slot) = groups.coordinators.get_mut(&id) else { return };
        let State::Loading(loading) = &mut slot.state else { return };
        let end = loading.end();
        let coordinator = loading.coordinator.clone();
        // A topic may have been deleted, and this shard killed before its offsets went.
        let gone: Vec<(KafkaString, TopicId)> = coordinator
            .topics()
            .into_iter()
            .filter(|(_, topic_id)| image.is_removed(*topic_id))
            .collect();
        slot.state = State::Serving(Box::new(coordinator));
        // Of an empty log nobody can have known before.
        groups.guard.loaded(id, (end > Offset::ZERO).then_some(now.mono));
        let high_watermark = partitions.get(&id).map_or(Offset::ZERO, Partition::high_watermark);
        self.with_coordinator(now, id, |coordinator, log| {
            for (name, topic_id) in &gone {
                coordinator.topic_deleted(now, log, name, *topic_id);
            }
            coordinator.loaded(now, log, end, high_watermark);
        });
        self.report_loaded(now, id);
    }
}

impl Groups {
    fn loading(&mut self, id: TopicPartition) -> Option<&mut Loading<GroupCoordinator>> {
        match &mut self.coordinators.get_mut(&id)?.state {
            State::Loading(loading) => Some(loading),
            State::Serving(_) | State::Broken => None,
        }
    }
}

fn loading_replay(
    loading: Option<&mut Loading<GroupCoordinator>>,
    parts: &[Bytes],
) -> Result<(), String> {
    loading.map_or(Ok(()), |loading| loading.replay(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, NodeId, PartitionIndex, ProducerEpoch, ProducerId};
    use crate::record::builder::{
        BatchBuilder, Producer, TransactionResult, leader_change, transaction_marker,
    };
    use crate::record::compress::Codec;
    use crate::record::iterate::OpenBatch;
    use crate::wire::group_record::{GroupRecord, OffsetCommitKey, OffsetCommitValue};

    const PRODUCER: Producer =
        Producer { id: ProducerId(7), epoch: ProducerEpoch(3), base_sequence: 0 };

    fn staged(partition: i32, offset: i64) -> Batch {
        let key = OffsetCommitKey { group: "g".into(), topic: "orders".into(), partition };
        let value = OffsetCommitValue { offset, ..OffsetCommitValue::default() };
        let (key, value) = GroupRecord::OffsetCommit(key, Some(value)).encode();
        let mut builder = BatchBuilder::new(Codec::None).producer(PRODUCER).transactional();
        builder.push(5, Some(&key), value.as_deref(), &[]);
        builder.build()
    }

    fn marker(result: TransactionResult) -> Batch {
        transaction_marker(PRODUCER.id, PRODUCER.epoch, result, 1, 5)
    }

    /// Lets a coordinator take in whole batches, one behind the other.
    fn replayed(batches: &[Batch]) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(std::sync::Arc::default());
        for (batch, at) in batches.iter().zip(0..) {
            let mut batch = batch.clone();
            batch.assign(Offset(at), LeaderEpoch(0));
            if batch.is_control() {
                coordinator.replay_control(&batch);
                continue;
            }
            let open = OpenBatch::open(&batch, usize::MAX).expect("whole");
            for record in open.records() {
                let record = record.expect("whole");
                let bytes = |part: Option<&[u8]>| part.map(Bytes::copy_from_slice);
                let key = bytes(record.record.key).expect("a key");
                let value = bytes(record.record.value);
                Replayed::replay(&mut coordinator, &batch, record.offset, key, value)
                    .expect("a record");
            }
        }
        coordinator
    }

    fn told(coordinator: &GroupCoordinator) -> Vec<(PartitionIndex, i64)> {
        coordinator.offsets().map(|(_, _, index, _, offset)| (index, offset)).collect()
    }

    #[test]
    fn markers_reach_the_coordinator_and_what_waits_for_one_is_not_told() {
        let mut batches = vec![
            staged(0, 10),
            marker(TransactionResult::Commit),
            staged(0, 20),
            marker(TransactionResult::Abort),
            staged(1, 30),
            leader_change(NodeId(1), &[], &[], 5),
        ];
        assert_eq!(told(&replayed(&batches)), [(PartitionIndex(0), 10)]);

        batches.push(marker(TransactionResult::Commit));

        let expected = [(PartitionIndex(0), 10), (PartitionIndex(1), 30)];
        assert_eq!(told(&replayed(&batches)), expected);
    }
}
