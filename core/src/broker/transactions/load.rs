//! The loading of a coordinator of transactions.

use bytes::Bytes;

use crate::broker::loading::{Loading, READ_AGAIN_AFTER, Replayed, Step};
use crate::broker::shard::{Shard, TicketUse};
use crate::broker::transactions::{Slot, State, Transactions, transaction_config};
use crate::coordinator::transaction::TransactionCoordinator;
use crate::digest::Digest;
use crate::ids::{Offset, TopicPartition};
use crate::io::Mark;
use crate::log::ReadError;
use crate::partition::Partition;
use crate::record::batch::Batch;
use crate::time::Now;
use crate::wire::DecodeError;

impl Replayed for TransactionCoordinator {
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
    pub(in crate::broker) fn load_transactions(&mut self, now: Now, id: TopicPartition) {
        if self.transactions.keeps(id) {
            return;
        }
        let config = transaction_config(&self.config.node);
        let loading = Loading::new(TransactionCoordinator::new(config), id, &self.log);
        let state = State::Loading(Box::new(loading));
        self.transactions.coordinators.insert(id, Slot { state, armed: None });
        self.go_on_loading_transactions(now, id);
    }

    /// Replays one piece; the next one comes when it is read, or in a turn of its own.
    pub(super) fn go_on_loading_transactions(&mut self, now: Now, id: TopicPartition) {
        let Self { transactions, log, .. } = self;
        let Some(loading) = transactions.loading(id) else { return };
        match loading.step(id, log) {
            Step::Done => self.serve_transactions(now, id),
            Step::Replay(parts) => {
                let outcome = replay(self.transactions.loading(id), &parts);
                self.transactions_loaded(now, id, outcome);
            }
            Step::Read(range) => {
                self.fx.mark(Mark::CoordinatorReadFromFile);
                let ticket = self.ticket(TicketUse::LoadTransactions(id));
                self.log.read(now, range, ticket, &mut self.fx);
            }
        }
    }

    pub(in crate::broker) fn on_transactions_read(
        &mut self,
        now: Now,
        id: TopicPartition,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let outcome = match result {
            Ok(parts) => replay(self.transactions.loading(id), &parts),
            Err(ReadError::Disk(why)) if self.poisoned.is_none() => {
                // What a disk refuses once it may give the next time; nothing is served before.
                self.fx.mark(Mark::CoordinatorReadAgain);
                let partition = id.partition;
                self.fx.warn(format!(
                    "the transactions in __transaction_state-{partition} wait: {why}"
                ));
                return self.arm_transactions(now, id, Some(now.mono + READ_AGAIN_AFTER));
            }
            Err(error) => Err(error.to_string()),
        };
        self.transactions_loaded(now, id, outcome);
    }

    fn transactions_loaded(&mut self, now: Now, id: TopicPartition, outcome: Result<(), String>) {
        let Some(loading) = self.transactions.loading(id) else { return };
        match outcome {
            Ok(()) if loading.is_done() => self.serve_transactions(now, id),
            Ok(()) => self.arm_transactions(now, id, Some(now.mono)),
            Err(why) => {
                let next = loading.next();
                self.fx.warn(format!(
                    "the transactions in __transaction_state-{} cannot be served: {why} (at offset {next}); \
                     restore the data directory from a copy",
                    id.partition
                ));
                if let Some(slot) = self.transactions.coordinators.get_mut(&id) {
                    slot.state = State::Broken;
                }
            }
        }
    }

    /// The log is replayed to its end: the coordinator serves.
    fn serve_transactions(&mut self, now: Now, id: TopicPartition) {
        let Self { transactions, partitions, .. } = self;
        let Some(slot) = transactions.coordinators.get_mut(&id) else { return };
        let State::Loading(loading) = &mut slot.state else { return };
        let end = loading.end();
        let coordinator = loading.coordinator.clone();
        slot.state = State::Serving(Box::new(coordinator));
        let high_watermark = partitions.get(&id).map_or(Offset::ZERO, Partition::high_watermark);
        let epoch = partitions.get(&id).map_or(0, |partition| partition.leader_epoch().0);
        // Of an empty log nobody can have known before.
        self.transactions.guard.loaded(id, (end > Offset::ZERO).then_some(now.mono));
        self.with_transactions(now, id, |coordinator, log| {
            coordinator.loaded(now, log, epoch, end, high_watermark);
        });
    }
}

impl Transactions {
    fn loading(&mut self, id: TopicPartition) -> Option<&mut Loading<TransactionCoordinator>> {
        match &mut self.coordinators.get_mut(&id)?.state {
            State::Loading(loading) => Some(loading),
            State::Serving(_) | State::Broken => None,
        }
    }
}

fn replay(
    loading: Option<&mut Loading<TransactionCoordinator>>,
    parts: &[Bytes],
) -> Result<(), String> {
    loading.map_or(Ok(()), |loading| loading.replay(parts))
}
