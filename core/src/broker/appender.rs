//! The log of a coordinator: what it wants appended goes to its partition as one batch.

use rand_chacha::ChaCha8Rng;

use crate::broker::groups::report::report_appended;
use crate::broker::shard::Shard;
use crate::coordinator::group::{GroupLog, LogRecord, TransactionalProducer};
use crate::coordinator::transaction::TransactionLog;
use crate::error::ErrorCode;
use crate::ids::{Offset, TopicPartition, Uuid};
use crate::io::{Effects, Mark};
use crate::log::{AppendError, LogStore};
use crate::partition::Partition;
use crate::record::builder::{BatchBuilder, Producer};
use crate::record::compress::Codec;
use crate::time::{Now, UnixMillis};

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

    fn mark(&mut self, mark: Mark) {
        self.fx.mark(mark);
    }

    fn retention_time(&mut self, now: Now) -> Option<UnixMillis> {
        self.log.retention_time(now)
    }
}
