//! The loading of a coordinator: a replay of its partition, in pieces between which others are served.

use std::time::Duration;

use bytes::Bytes;

use crate::broker::groups::{Slot, State, group_config};
use crate::broker::shard::{Shard, TicketUse};
use crate::coordinator::group::GroupCoordinator;
use crate::digest::Digest;
use crate::ids::{Offset, TopicId, TopicPartition};
use crate::io::Mark;
use crate::log::{FetchPlan, ReadError};
use crate::partition::Partition;
use crate::record::batch::Batch;
use crate::record::iterate::OpenBatch;
use crate::time::Now;
use crate::wire::KafkaString;

/// Bytes that are replayed at a time.
const LOAD_BYTES: u64 = 1 << 20;
/// How long to wait before a log that could not be read is read again.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A coordinator on its way.
#[derive(Clone, Debug)]
pub(super) struct Loading {
    coordinator: GroupCoordinator,
    /// The first offset that was not replayed.
    next: Offset,
    /// The end of the log; nobody appends to it meanwhile.
    end: Offset,
}

impl Loading {
    pub(super) const fn coordinator(&mut self) -> &mut GroupCoordinator {
        &mut self.coordinator
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.signed(self.next.0).signed(self.end.0);
        self.coordinator.digest(digest);
    }

    /// Applies whole batches.
    fn replay(&mut self, parts: &[Bytes]) -> Result<(), String> {
        let before = self.next;
        // A part may end within a batch: header and payload of a recent one lie apart.
        let mut bytes = Bytes::from(parts.concat());
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).map_err(|error| error.to_string())?;
            if batch.last_offset() < self.next {
                continue;
            }
            self.replay_batch(&batch)?;
            self.next = batch.next_offset();
        }
        if self.next == before {
            return Err("it has no batch there".to_owned());
        }
        Ok(())
    }

    fn replay_batch(&mut self, batch: &Batch) -> Result<(), String> {
        if batch.is_control() {
            return Ok(());
        }
        let open = OpenBatch::open(batch, usize::MAX).map_err(|error| error.to_string())?;
        for record in open.records() {
            let record = record.map_err(|error| error.to_string())?;
            let slice = |bytes: &[u8]| open.payload().slice_ref(bytes);
            let key = slice(record.record.key.ok_or("a record has no key")?);
            let value = record.record.value.map(slice);
            let offset = record.offset;
            self.coordinator.replay(offset, key, value).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Shard {
    /// Takes up the coordinator of a partition: its state is what its log says.
    pub(in crate::broker) fn load_coordinator(&mut self, now: Now, id: TopicPartition) {
        if self.groups.coordinators.contains_key(&id) {
            return;
        }
        let config = group_config(&self.config.node);
        let loading = Loading {
            coordinator: GroupCoordinator::new(config),
            next: self.log.log_start_offset(id).unwrap_or(Offset::ZERO),
            end: self.log.log_end_offset(id).unwrap_or(Offset::ZERO),
        };
        let state = State::Loading(Box::new(loading));
        self.groups.coordinators.insert(id, Slot { state, armed: None, reports: false });
        self.go_on_loading(now, id);
    }

    /// Replays one piece; the next one comes when it is read, or in a turn of its own.
    pub(super) fn go_on_loading(&mut self, now: Now, id: TopicPartition) {
        let Some(loading) = self.loading(id) else { return };
        let (next, end) = (loading.next, loading.end);
        if next >= end {
            return self.serve_groups(now, id);
        }
        match self.log.plan_fetch(id, next, end, LOAD_BYTES, true) {
            FetchPlan::Memory(parts) => {
                let outcome = loading_replay(self.loading(id), &parts);
                self.loaded(now, id, outcome);
            }
            FetchPlan::File(range) => {
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
            Ok(parts) => loading_replay(self.loading(id), &parts),
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
        let Some(loading) = self.loading(id) else { return };
        match outcome {
            Ok(()) if loading.next >= loading.end => self.serve_groups(now, id),
            Ok(()) => self.arm_coordinator(now, id, Some(now.mono)),
            Err(why) => {
                let next = loading.next;
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
        let end = loading.end;
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

    fn loading(&mut self, id: TopicPartition) -> Option<&mut Loading> {
        match &mut self.groups.coordinators.get_mut(&id)?.state {
            State::Loading(loading) => Some(loading),
            State::Serving(_) | State::Broken => None,
        }
    }
}

fn loading_replay(loading: Option<&mut Loading>, parts: &[Bytes]) -> Result<(), String> {
    loading.map_or(Ok(()), |loading| loading.replay(parts))
}
