//! The log of a coordinator: what it wants appended goes to its partition as one batch.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;

use crate::broker::groups::report::report_appended;
use crate::broker::shard::Shard;
use crate::config::NodeConfig;
use crate::coordinator::group::{GroupLog, LogRecord, TransactionalProducer};
use crate::coordinator::transaction::TransactionLog;
use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex, TopicPartition, Uuid};
use crate::io::{Effects, Mark};
use crate::log::{AppendError, LogStore};
use crate::metadata::MetadataImage;
use crate::partition::Partition;
use crate::record::builder::{BatchBuilder, Producer};
use crate::record::compress::Codec;
use crate::time::{Now, UnixMillis};
use crate::wire::KafkaString;

/// The partitions of a node that has nothing but one journal: one shard, no other nodes, a disk. What is appended
/// to any of their logs on the disk is durable only together with all that was appended before.
#[derive(Clone, Copy)]
pub(in crate::broker) struct OnlyJournal<'a> {
    image: &'a MetadataImage,
    partitions: &'a BTreeMap<TopicPartition, Partition>,
}

impl<'a> OnlyJournal<'a> {
    /// Returns the partitions of such a node, `None` of any other.
    pub(in crate::broker) fn of(
        node: &NodeConfig,
        image: &'a MetadataImage,
        partitions: &'a BTreeMap<TopicPartition, Partition>,
    ) -> Option<Self> {
        is_only_journal(node).then_some(Self { image, partitions })
    }

    /// Returns whether what is appended to a partition is told to nobody before the journal is flushed.
    fn holds(self, topic: &str, partition: PartitionIndex, log: &LogStore) -> bool {
        self.image.topic_by_name(topic).is_some_and(|topic| {
            let id = TopicPartition { topic_id: topic.id, partition };
            self.partitions.contains_key(&id) && log.waits_for_flush(id)
        })
    }
}

const fn is_only_journal(node: &NodeConfig) -> bool {
    node.peers.len() < 2 && node.shards <= 1 && !node.memory_only
}

impl Shard {
    /// Returns whether what is appended to a log here is durable only together with all that was appended before
    /// on this node, and is told to nobody earlier.
    pub(in crate::broker) fn comes_behind_all(&self, id: TopicPartition) -> bool {
        is_only_journal(&self.config.node) && self.log.waits_for_flush(id)
    }
}

/// What a coordinator needs around it while it acts.
pub(in crate::broker) struct PartitionAppender<'a> {
    pub(in crate::broker) now: Now,
    pub(in crate::broker) id: TopicPartition,
    pub(in crate::broker) partition: &'a Partition,
    pub(in crate::broker) log: &'a mut LogStore,
    pub(in crate::broker) fx: &'a mut Effects,
    pub(in crate::broker) rng: &'a mut ChaCha8Rng,
    /// Whether what is appended is in the log already, and no news.
    pub(in crate::broker) is_copy: bool,
    pub(in crate::broker) only_journal: Option<OnlyJournal<'a>>,
}

impl PartitionAppender<'_> {
    fn append_batch(
        &mut self,
        mut builder: BatchBuilder,
        records: &[LogRecord],
    ) -> Result<Offset, ErrorCode> {
        for record in records {
            builder.push(self.now.wall.0, Some(&record.key), record.value.as_deref(), &[]);
        }
        let batch = builder.build();
        if batch.size() > self.partition.config().rules.max_message_bytes {
            return Err(ErrorCode::MessageTooLarge);
        }
        // What a coordinator appends is as acks=all.
        if self.partition.in_sync().live() < self.partition.min_insync_replicas() {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        let epoch = self.partition.leader_epoch();
        let appended = self.log.append(self.now, self.id, epoch, batch, self.fx);
        // A coordinator whose log has gone is none any more.
        appended.map_err(|error| {
            let is_gone = matches!(error, AppendError::Unknown);
            if is_gone { ErrorCode::NotLeaderOrFollower } else { error.code() }
        })
    }
}

impl GroupLog for PartitionAppender<'_> {
    fn append(&mut self, records: &[LogRecord]) -> Result<Offset, ErrorCode> {
        let base_offset = self.append_batch(BatchBuilder::new(Codec::None), records)?;
        if !self.is_copy {
            report_appended(records, self.fx);
        }
        Ok(base_offset)
    }

    fn append_transactional(
        &mut self,
        producer: TransactionalProducer,
        records: &[LogRecord],
    ) -> Result<Offset, ErrorCode> {
        // Batches of coordinators count no sequences, and say so as Kafka's do.
        let producer = Producer { id: producer.id, epoch: producer.epoch, base_sequence: 0 };
        let builder = BatchBuilder::new(Codec::None).producer(producer).transactional();
        self.append_batch(builder, records)
    }

    fn next_id(&mut self) -> Uuid {
        Shard::random_id(self.rng)
    }

    fn mark(&mut self, mark: Mark) {
        self.fx.mark(mark);
    }

    fn retention_time(&mut self, now: Now) -> Option<UnixMillis> {
        self.log.retention_time(now)
    }
}

impl TransactionLog for PartitionAppender<'_> {
    fn append(&mut self, records: &[LogRecord]) -> Result<Offset, ErrorCode> {
        self.append_batch(BatchBuilder::new(Codec::None), records)
    }

    fn precedes(&self, topic: &KafkaString, partition: PartitionIndex) -> bool {
        let journal = self.only_journal.filter(|_| self.log.waits_for_flush(self.id));
        journal.is_some_and(|journal| journal.holds(topic.as_str(), partition, self.log))
    }

    fn mark(&mut self, mark: Mark) {
        self.fx.mark(mark);
    }

    fn retention_time(&mut self, now: Now) -> Option<UnixMillis> {
        self.log.retention_time(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PeerConfig;
    use crate::ids::NodeId;

    #[test]
    fn only_a_lone_node_of_one_shard_with_a_disk_has_one_journal_alone() {
        let lone = NodeConfig { shards: 1, ..NodeConfig::default() };
        assert!(is_only_journal(&lone));
        assert!(!is_only_journal(&NodeConfig { shards: 2, ..lone.clone() }));
        assert!(!is_only_journal(&NodeConfig { memory_only: true, ..lone.clone() }));
        let peer = |node_id| PeerConfig { node_id: NodeId(node_id), host: "host".into(), port: 1 };
        let peers = vec![peer(1), peer(2), peer(3)];
        assert!(!is_only_journal(&NodeConfig { peers, ..lone }));
    }
}
