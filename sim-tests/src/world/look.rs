//! Looks past core at what the disks hold, for the checkers.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainspring_core::ids::TopicPartition;
use mainspring_core::observe::ClusterEvent;

use super::ledger::{Ended, Reach};
use super::{Machine, World};
use crate::disk::OperationId;
use crate::history::{Fact, ImageLog, SeenRecord};
use crate::naive;
use crate::workload::reader::read_batches;

/// A batch that was opened: its CRC and its records.
type OpenedBatch = (u32, Arc<[SeenRecord]>);

/// Batches of a node that were opened before, by their base offsets.
#[derive(Debug, Default)]
pub(super) struct Opened(BTreeMap<(TopicPartition, i64), OpenedBatch>);

impl<M: Machine> World<M> {
    /// Reads the disk of a node as power loss would leave it at the least, and as the end of the process
    /// would. Tells what is found.
    pub(super) fn look(&mut self, node: usize) {
        // A disk that lies, rots or fails keeps no promise that could be held.
        if self.nodes[node].has_lied || self.alarm.is_some() {
            return;
        }
        self.look_at(node, true);
        self.look_at(node, false);
    }

    /// Tells how far logs reach on the disk of a node by the end of an operation.
    pub(super) fn stored(&mut self, node: usize, operation: OperationId, ended: Ended) {
        for Reach { partition, end, durable } in self.nodes[node].ledger.end(operation, ended) {
            self.tell(&Fact::Stored { node, partition, end, durable });
        }
    }

    /// Tells what a node reports of its replicas, and of a vote also what its disk keeps of it.
    pub(super) fn reported(&mut self, node: usize, event: ClusterEvent) {
        let fact = if let ClusterEvent::Voted { epoch, candidate } = event {
            let disk = &self.nodes[node].disk;
            let kept = naive::vote(&disk.durable_image());
            let durable = kept.filter(|_| !self.nodes[node].has_lied);
            Fact::Voted { node, vote: (epoch.0, candidate.0), durable }
        } else {
            Fact::Reported { node, event }
        };
        self.tell(&fact);
    }

    fn look_at(&mut self, node: usize, durable: bool) {
        let disk = &self.nodes[node].disk;
        let shards = self.options.shards;
        let found = if durable {
            naive::read(&disk.durable_image(), shards)
        } else {
            naive::read(disk, shards)
        };
        let opened = &mut self.nodes[node].opened;
        let fact = match found.and_then(|logs| image(opened, &logs)) {
            Ok(logs) => Fact::Image { node, durable, logs: Arc::new(logs) },
            Err(message) => Fact::Unreadable { node, durable, message },
        };
        self.tell(&fact);
    }
}

fn image(
    opened: &mut Opened,
    logs: &BTreeMap<TopicPartition, naive::StoredLog>,
) -> Result<BTreeMap<TopicPartition, ImageLog>, String> {
    let mut image = BTreeMap::new();
    for (id, log) in logs {
        let mut batches = Vec::with_capacity(log.batches.len());
        for batch in log.batches.values() {
            let crc = batch.crc();
            let known = opened.0.get(&(*id, batch.base)).filter(|(known, _)| *known == crc);
            let records = if let Some((_, records)) = known {
                Arc::clone(records)
            } else {
                let (records, sound) = read_batches(batch.bytes.clone(), i64::MIN);
                if !sound {
                    return Err(format!("the batch at offset {} of {id} is damaged", batch.base));
                }
                let records: Arc<[SeenRecord]> = records.into();
                opened.0.insert((*id, batch.base), (crc, Arc::clone(&records)));
                records
            };
            batches.push(records);
        }
        let copied_forward =
            matches!(log.name.as_str(), "__consumer_offsets" | "__transaction_state");
        // What went stands in a snapshot.
        let is_behind = |end: &i64| (log.start..=log.end).contains(end);
        let behind_snapshot = log.snapshots.iter().any(is_behind);
        let (start, end) = (log.start, log.end);
        let log = ImageLog { copied_forward, behind_snapshot, start, end, batches };
        image.insert(*id, log);
    }
    Ok(image)
}
