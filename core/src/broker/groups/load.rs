//! The loading of a coordinator of groups.

use bytes::Bytes;

use crate::broker::groups::{Groups, Slot, State, group_config};
use crate::broker::loading::{Loading, READ_AGAIN_AFTER, Replayed, Step};
use crate::broker::shard::{Shard, TicketUse};
use crate::coordinator::group::GroupCoordinator;
use crate::digest::Digest;
use crate::ids::{Offset, TopicId, TopicPartition};
use crate::io::Mark;
use crate::log::ReadError;
use crate::partition::Partition;
use crate::record::batch::Batch;
use crate::time::Now;
use crate::wire::{DecodeError, KafkaString};

impl Replayed for GroupCoordinator {
    fn replay(
        &mut self,
        _batch: &Batch,
        offset: Offset,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError> {
        Self::replay(self, offset, key, value)
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
