//! Gathers records into batches, and keeps them until they are reported.
//!
//! A record is encoded once, as it is taken: straight into the batch of its partition, where the topic
//! is known. What is kept for it afterwards is its ticket. Records of one topic that must wait for
//! the topic's metadata hold back those behind them, so that tickets ascend in every partition.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::partitioner::{Partitioner, Unkeyed};
use super::{NewRecord, ProducerConfig, RecordRef, Report, ValuesRef};
use crate::client::ClientError;
use crate::client::metadata::Metadata;
use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex};
use crate::record::batch::Batch;
use crate::record::builder::{
    BatchBuilder, NewHeader, Producer as ProducerOfBatch, RECORD_OVERHEAD_MAX, SLACK,
};
use crate::record::compress::Codec;
use crate::record::iterate::OpenBatch;
use crate::time::{Instant, Now};
use crate::wire::KafkaString;

/// A record that was taken; numbered in the order of taking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// A topic's name and a partition's number.
pub type Place = (KafkaString, PartitionIndex);

/// The buffer has no room for a record at present.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("the buffer of {limit} bytes is full")]
pub struct Full {
    /// The record, unharmed.
    pub record: Box<NewRecord>,
    /// Bytes that the buffer may hold (`buffer.memory`).
    pub limit: usize,
}

/// The buffer has no room for a record at present, and has not taken it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the buffer of {limit} bytes is full")]
pub struct BufferFull {
    /// Bytes that the buffer may hold (`buffer.memory`).
    pub limit: usize,
}

/// The bytes of a batch.
#[derive(Clone, Debug)]
enum Content {
    /// It takes records still.
    Open(BatchBuilder),
    /// It has been closed, and is as it was or will be sent.
    Closed(Batch),
}

/// A batch on its way.
#[derive(Clone, Debug)]
pub(super) struct PendingBatch {
    content: Content,
    /// Whether it may take more records: it was never sent, so nothing taken later is on its way.
    is_fresh: bool,
    tickets: Vec<Ticket>,
    /// Bytes taken from the buffer.
    reserved: usize,
    created: Instant,
    /// The producer and sequence that it was sent with.
    pub(super) producer: Option<ProducerOfBatch>,
    /// Whether the broker may have stored it, for all that is known.
    pub(super) maybe_stored: bool,
    /// What the broker last answered about it.
    pub(super) last_said: Option<ClientError>,
    /// How often it was sent, and not taken.
    pub(super) failures: u32,
    /// Not to be sent again before.
    pub(super) retry_at: Instant,
}

impl PendingBatch {
    /// Makes one of a record that was sent before.
    #[cfg(test)]
    pub(super) fn sent(ticket: Ticket, producer: ProducerOfBatch) -> Self {
        Self {
            content: Content::Open(BatchBuilder::new(Codec::None)),
            is_fresh: false,
            tickets: vec![ticket],
            reserved: 0,
            created: Instant::ZERO,
            producer: Some(producer),
            maybe_stored: false,
            last_said: None,
            failures: 0,
            retry_at: Instant::ZERO,
        }
    }

    /// Returns how many records it holds.
    pub(super) const fn count(&self) -> usize {
        self.tickets.len()
    }

    /// Returns its size in bytes as it would be sent, or would without compression while it is open.
    pub(super) fn size(&self) -> usize {
        match &self.content {
            Content::Open(builder) => builder.uncompressed_size(),
            Content::Closed(batch) => batch.size(),
        }
    }

    /// Closes it under a producer and sequence, and returns its bytes.
    pub(super) fn seal(
        &mut self,
        codec: Codec,
        level: Option<i32>,
        producer: Option<ProducerOfBatch>,
        is_transactional: bool,
    ) -> Bytes {
        let content = std::mem::replace(&mut self.content, Content::Open(BatchBuilder::new(codec)));
        let builder = match content {
            Content::Open(builder) => builder,
            Content::Closed(batch) if self.producer == producer => {
                let bytes = batch.to_bytes();
                self.content = Content::Closed(batch);
                return bytes;
            }
            Content::Closed(batch) => rebuild(codec, &batch, 0..self.tickets.len()),
        };
        let builder = builder.level(level);
        let builder = if is_transactional { builder.transactional() } else { builder };
        let (batch, bytes) = match producer {
            Some(producer) => builder.producer(producer).build_whole(),
            None => builder.build_whole(),
        };
        self.producer = producer;
        self.is_fresh = false;
        self.content = Content::Closed(batch);
        bytes
    }

    /// Returns its first ticket, which orders the batches of a partition.
    pub(super) fn first_ticket(&self) -> Ticket {
        self.tickets[0]
    }

    /// Returns as what it fails where nothing but `reason` speaks against it. No reason tells
    /// anything about the attempts before.
    pub(super) fn failure(&self, reason: ClientError) -> ClientError {
        if self.maybe_stored {
            ClientError::Unknown { last: self.last_said.clone().map(Arc::new) }
        } else {
            reason
        }
    }

    /// Parts it in two halves, in order, neither of which has been stored.
    fn halves(&self, codec: Codec) -> [Self; 2] {
        let Content::Closed(batch) = &self.content else {
            unreachable!("what was refused for its size has been sent")
        };
        let middle = self.tickets.len() / 2;
        let half = |range: std::ops::Range<usize>, reserved: usize| Self {
            content: Content::Open(rebuild(codec, batch, range.clone())),
            is_fresh: false,
            tickets: self.tickets[range.clone()].to_vec(),
            reserved,
            created: self.created,
            producer: self.producer.map(|producer| ProducerOfBatch {
                base_sequence: next_sequence(producer.base_sequence, range.start),
                ..producer
            }),
            maybe_stored: false,
            last_said: None,
            failures: 0,
            retry_at: Instant::ZERO,
        };
        let reserved = self.reserved / 2;
        [half(0..middle, reserved), half(middle..self.tickets.len(), self.reserved - reserved)]
    }
}

/// The sequence `count` records later; after 2^31 - 1 comes 0.
pub(super) const fn next_sequence(sequence: i32, count: usize) -> i32 {
    ((sequence as u32).wrapping_add(count as u32) & 0x7fff_ffff) as i32
}

/// Encodes some of the records of one of our own batches again.
fn rebuild(codec: Codec, batch: &Batch, range: std::ops::Range<usize>) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    let open = OpenBatch::open(batch, usize::MAX).expect("a batch that was built here");
    for record in open.records().skip(range.start).take(range.len()) {
        let placed = record.expect("a batch that was built here");
        let headers: Vec<NewHeader<'_>> =
            placed.record.headers.iter().map(|header| (header.key, header.value)).collect();
        builder.push(placed.timestamp, placed.record.key, placed.record.value, &headers);
    }
    builder
}

/// A partition that records were taken for, by its place in the list of them. It keeps its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct QueueId(pub(super) u32);

/// The batches of one partition that are not on their way, in the order in which they are to be.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) place: Place,
    pub(super) batches: VecDeque<PendingBatch>,
    /// Whether it is listed among those that have batches.
    is_listed: bool,
    /// Records of the batch that was closed last, because it was full: the next one may be as large.
    filled_with: usize,
}

/// What is kept of a topic between records.
#[derive(Clone, Debug)]
struct Topic {
    name: KafkaString,
    partitioner: Partitioner,
    /// The version of the metadata that the next two are from.
    version: u64,
    /// How many partitions it has, 0 where that is not known.
    count: u32,
    /// Where records without keys go, while that is to be the same partition.
    sticky: Option<PartitionIndex>,
    /// Bytes of records that went there without a key.
    sticky_bytes: usize,
    /// The queues of its first partitions.
    queues: Vec<Option<QueueId>>,
    /// Those of partitions with greater numbers.
    distant: BTreeMap<PartitionIndex, QueueId>,
    /// Records that wait for the topic's metadata, or behind such, in order.
    unplaced: VecDeque<(Ticket, Now, NewRecord)>,
}

/// Partitions with smaller numbers are found by their number.
const NEAR: usize = 1 << 12;
/// Most bytes of buffers that are kept for the next batches: memory that was touched before is much
/// cheaper than fresh memory.
const SPARE_BYTES_MAX: usize = 16 << 20;

/// Gathers records into batches.
#[derive(Clone, Debug)]
pub struct Accumulator {
    unkeyed: Unkeyed,
    codec: Codec,
    level: Option<i32>,
    batch_bytes: usize,
    linger: Duration,
    limit: usize,
    max_record_bytes: usize,
    delivery_timeout: Duration,
    reserved: usize,
    pending: usize,
    next_ticket: u64,
    /// Batches up to this ticket do not wait for more records.
    flush_to: u64,
    topics: Vec<Topic>,
    by_name: BTreeMap<KafkaString, usize>,
    /// The topic of the last record.
    last_topic: usize,
    /// Topics with records that wait for metadata.
    unplaced: usize,
    /// Topics that nobody has been told of, from this one on.
    untold: usize,
    queues: Vec<Queue>,
    /// The queues that have batches.
    listed: Vec<QueueId>,
    reports: VecDeque<Report>,
    /// Why the first record failed since this was last asked.
    failure: Option<ClientError>,
    /// Buffers of batches that have ended.
    spare: Vec<Vec<u8>>,
    /// Whether a batch was begun or filled, or a record waits for its partition, and the sender has
    /// not been told.
    wants_drive: bool,
}

impl Accumulator {
    pub(super) const fn new(config: &ProducerConfig) -> Self {
        Self {
            unkeyed: config.unkeyed,
            codec: config.codec,
            level: config.compression_level,
            batch_bytes: config.batch_bytes,
            linger: config.linger,
            limit: config.buffer_bytes,
            max_record_bytes: config.max_request_bytes,
            delivery_timeout: config.delivery_timeout,
            reserved: 0,
            pending: 0,
            next_ticket: 0,
            flush_to: 0,
            topics: Vec::new(),
            by_name: BTreeMap::new(),
            last_topic: 0,
            unplaced: 0,
            untold: 0,
            queues: Vec::new(),
            listed: Vec::new(),
            reports: VecDeque::new(),
            failure: None,
            spare: Vec::new(),
            wants_drive: false,
        }
    }

    pub(super) fn append(
        &mut self,
        now: Now,
        record: &RecordRef<'_>,
        metadata: &Metadata,
    ) -> Result<Ticket, BufferFull> {
        self.append_to(now, record, metadata).map(|(ticket, _)| ticket)
    }

    /// Takes records that have nothing but a value, as `append` takes each of them. Returns how many
    /// it took: fewer where the buffer has no room.
    pub(super) fn append_values(
        &mut self,
        now: Now,
        values: &ValuesRef<'_>,
        metadata: &Metadata,
    ) -> usize {
        let (mut lengths, mut bytes) = (values.lengths, values.bytes);
        while let Some(length) = lengths.first() {
            let (value, rest) = bytes.split_at(*length as usize);
            let record = RecordRef {
                partition: values.partition,
                value: Some(value),
                ..RecordRef::new(values.topic)
            };
            let Ok((_, queue)) = self.append_to(now, &record, metadata) else {
                break;
            };
            (lengths, bytes) = (&lengths[1..], rest);
            if let Some(queue) = queue {
                let is_free = values.partition.is_none();
                (lengths, bytes) = self.gather_more(queue, now, is_free, lengths, bytes);
            }
        }
        values.lengths.len() - lengths.len()
    }

    fn append_to(
        &mut self,
        now: Now,
        record: &RecordRef<'_>,
        metadata: &Metadata,
    ) -> Result<(Ticket, Option<QueueId>), BufferFull> {
        let size = record.size();
        let is_too_large = size > self.max_record_bytes;
        if self.reserved + size > self.limit && !is_too_large {
            return Err(BufferFull { limit: self.limit });
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.pending += 1;
        if is_too_large {
            self.wants_drive = true;
            let error = Err(ClientError::TooLarge(size));
            self.report(record.topic.detached(), record.partition, vec![ticket], error, None);
            return Ok((ticket, None));
        }
        self.reserved += size;
        let topic = self.topic_of(record.topic);
        if self.topics[topic].unplaced.is_empty()
            && let Some(queue) = self.choose(topic, record, size, metadata)
        {
            self.gather(queue, ticket, now, record, size);
            return Ok((ticket, Some(queue)));
        }
        self.wants_drive = true;
        let waiting = &mut self.topics[topic].unplaced;
        self.unplaced += usize::from(waiting.is_empty());
        waiting.push_back((ticket, now, record.to_record()));
        Ok((ticket, None))
    }

    /// Returns the place of a topic in the list of them.
    fn topic_of(&mut self, name: &KafkaString) -> usize {
        let last = self.topics.get(self.last_topic);
        if last.is_none_or(|last| last.name != *name) {
            self.last_topic = if let Some(known) = self.by_name.get(name) {
                *known
            } else {
                let name = name.detached();
                self.by_name.insert(name.clone(), self.topics.len());
                self.topics.push(Topic {
                    name,
                    partitioner: Partitioner::new(self.unkeyed),
                    version: 0,
                    count: 0,
                    sticky: None,
                    sticky_bytes: 0,
                    queues: Vec::new(),
                    distant: BTreeMap::new(),
                    unplaced: VecDeque::new(),
                });
                self.topics.len() - 1
            };
        }
        self.last_topic
    }

    /// Returns the queue that a record goes to, `None` while its topic is not known.
    fn choose(
        &mut self,
        topic: usize,
        record: &RecordRef<'_>,
        size: usize,
        metadata: &Metadata,
    ) -> Option<QueueId> {
        if let Some(partition) = record.partition {
            return Some(self.queue_of(topic, partition));
        }
        let state = &mut self.topics[topic];
        if state.version != metadata.version() {
            state.version = metadata.version();
            let known = metadata.topic(&state.name);
            state.count = known.map_or(0, |known| known.leaders.len() as u32);
            state.sticky = None;
        }
        if state.count == 0 {
            return None;
        }
        if let Some(key) = record.key {
            let partition = Partitioner::of_key(key, state.count);
            return Some(self.queue_of(topic, partition));
        }
        if self.unkeyed == Unkeyed::RoundRobin {
            let partition = state.partitioner.move_on(metadata.topic(&state.name)?);
            return Some(self.queue_of(topic, partition));
        }
        let mut partition = state.sticky;
        if partition.is_none() || state.sticky_bytes >= self.batch_bytes {
            partition = Some(self.settle_on(topic, metadata, partition.is_some())?);
        }
        let mut id = self.queue_of(topic, partition?);
        if self.would_close(id, size) {
            let next = self.settle_on(topic, metadata, true)?;
            id = self.queue_of(topic, next);
        }
        self.topics[topic].sticky_bytes += size;
        Some(id)
    }

    /// Chooses where records without keys go from here on: where they went last, or elsewhere.
    fn settle_on(
        &mut self,
        topic: usize,
        metadata: &Metadata,
        elsewhere: bool,
    ) -> Option<PartitionIndex> {
        let state = &mut self.topics[topic];
        let known = metadata.topic(&state.name)?;
        let partition = if elsewhere {
            state.partitioner.move_on(known)
        } else {
            state.partitioner.choose(known, None)
        };
        state.sticky = Some(partition);
        state.sticky_bytes = 0;
        Some(partition)
    }

    /// Returns the queue of a partition.
    fn queue_of(&mut self, topic: usize, partition: PartitionIndex) -> QueueId {
        let Topic { name, queues, distant, .. } = &mut self.topics[topic];
        let near = usize::try_from(partition.0).ok().filter(|index| *index < NEAR);
        let known = match near {
            Some(index) => queues.get(index).copied().flatten(),
            None => distant.get(&partition).copied(),
        };
        if let Some(id) = known {
            return id;
        }
        let id = QueueId(self.queues.len() as u32);
        self.queues.push(Queue {
            place: (name.clone(), partition),
            batches: VecDeque::new(),
            is_listed: false,
            filled_with: 0,
        });
        if let Some(index) = near {
            queues.resize(queues.len().max(index + 1), None);
            queues[index] = Some(id);
        } else {
            distant.insert(partition, id);
        }
        id
    }

    /// Whether the open batch of a partition has no room for so many bytes more.
    fn would_close(&self, id: QueueId, size: usize) -> bool {
        let last = self.queues[id.0 as usize].batches.back();
        last.is_some_and(|batch| batch.is_fresh && batch.size() + size > self.batch_bytes)
    }

    /// Returns the topics that records were taken for since this was last asked.
    pub(super) fn take_new_topics(&mut self) -> impl Iterator<Item = &KafkaString> {
        let from = std::mem::replace(&mut self.untold, self.topics.len());
        self.topics[from..].iter().map(|topic| &topic.name)
    }

    /// Places the records whose topics have become known.
    pub(super) fn place(&mut self, metadata: &Metadata) {
        if self.unplaced == 0 {
            return;
        }
        for topic in 0..self.topics.len() {
            let state = &mut self.topics[topic];
            if state.unplaced.is_empty() {
                continue;
            }
            let is_known =
                metadata.topic(&state.name).is_some_and(|known| !known.leaders.is_empty());
            let error = metadata.error(&state.name);
            if !is_known && error.is_none() {
                continue;
            }
            self.unplaced -= 1;
            let waiting = std::mem::take(&mut state.unplaced);
            if let Some(error) = error.filter(|_| !is_known) {
                let name = state.name.clone();
                let sizes = waiting.iter().map(|(_, _, record)| record.size());
                self.reserved -= sizes.sum::<usize>();
                let tickets = waiting.iter().map(|(ticket, ..)| *ticket).collect();
                self.report(name, None, tickets, Err(error.clone()), None);
                continue;
            }
            for (ticket, taken, record) in waiting {
                record.borrow(|record| {
                    let size = record.size();
                    let queue = self.choose(topic, record, size, metadata);
                    let queue = queue.expect("the topic is known");
                    self.gather(queue, ticket, taken, record, size);
                });
            }
        }
    }

    fn gather(
        &mut self,
        id: QueueId,
        ticket: Ticket,
        now: Now,
        record: &RecordRef<'_>,
        size: usize,
    ) {
        let queue = &mut self.queues[id.0 as usize];
        let last = queue.batches.back().filter(|batch| batch.is_fresh);
        let has_room = last.is_some_and(|batch| batch.size() + size <= self.batch_bytes);
        if !has_room {
            self.wants_drive = true;
            if let Some(full) = last {
                queue.filled_with = full.tickets.len() + 1;
            }
            let buffer = self.spare.pop().unwrap_or_else(|| {
                Vec::with_capacity(if queue.filled_with > 0 { self.batch_bytes + SLACK } else { 0 })
            });
            queue.batches.push_back(PendingBatch {
                content: Content::Open(BatchBuilder::within(self.codec, buffer)),
                is_fresh: true,
                tickets: Vec::with_capacity(queue.filled_with),
                reserved: 0,
                created: now.mono,
                producer: None,
                maybe_stored: false,
                last_said: None,
                failures: 0,
                retry_at: Instant::ZERO,
            });
            if !queue.is_listed {
                queue.is_listed = true;
                self.listed.push(id);
            }
        }
        let batch = queue.batches.back_mut().expect("one was pushed where there was none");
        let Content::Open(builder) = &mut batch.content else {
            unreachable!("a closed batch has no room")
        };
        let timestamp = record.timestamp.unwrap_or(now.wall.0);
        builder.push(timestamp, record.key, record.value, record.headers);
        let is_full = builder.uncompressed_size() >= self.batch_bytes;
        batch.tickets.push(ticket);
        batch.reserved += size;
        self.wants_drive |= is_full;
    }

    /// Puts values into the batch that has just taken one, for as long as the next one would go there
    /// too; gives back what is left. `is_free` says that their partition is ours to choose.
    fn gather_more<'a>(
        &mut self,
        id: QueueId,
        now: Now,
        is_free: bool,
        mut lengths: &'a [u32],
        mut bytes: &'a [u8],
    ) -> (&'a [u32], &'a [u8]) {
        if is_free && self.unkeyed == Unkeyed::RoundRobin {
            return (lengths, bytes);
        }
        let topic = &mut self.topics[self.last_topic];
        let batch = self.queues[id.0 as usize].batches.back_mut();
        let Some(PendingBatch { content: Content::Open(builder), tickets, reserved, .. }) = batch
        else {
            return (lengths, bytes);
        };
        let (mut count, mut taken) = (0, 0);
        while let Some(length) = lengths.first() {
            let size = *length as usize + RECORD_OVERHEAD_MAX;
            let has_stayed = is_free && topic.sticky_bytes + taken >= self.batch_bytes;
            if has_stayed
                || size > self.max_record_bytes
                || self.reserved + taken + size > self.limit
                || builder.uncompressed_size() + size > self.batch_bytes
            {
                break;
            }
            let (value, rest) = bytes.split_at(*length as usize);
            builder.push(now.wall.0, None, Some(value), &[]);
            (lengths, bytes) = (&lengths[1..], rest);
            count += 1;
            taken += size;
        }
        self.wants_drive |= builder.uncompressed_size() >= self.batch_bytes;
        tickets.extend((self.next_ticket..self.next_ticket + count).map(Ticket));
        *reserved += taken;
        self.reserved += taken;
        self.next_ticket += count;
        self.pending += count as usize;
        if is_free {
            topic.sticky_bytes += taken;
        }
        (lengths, bytes)
    }

    /// Returns whether something was taken that changes what is due, or when.
    pub(super) const fn wants_drive(&self) -> bool {
        self.wants_drive
    }

    /// Notes that the sender looks at everything.
    pub(super) const fn driven(&mut self) {
        self.wants_drive = false;
    }

    /// Lets no batch that is there wait for more records.
    pub(super) const fn flush(&mut self) {
        self.flush_to = self.next_ticket;
    }

    /// Returns whether the first batch of a queue may be sent.
    pub(super) fn is_due(&self, now: Instant, queue: &Queue) -> bool {
        let Some(first) = queue.batches.front() else {
            return false;
        };
        if first.retry_at > now {
            return false;
        }
        queue.batches.len() > 1
            || !first.is_fresh
            || first.size() >= self.batch_bytes
            || now >= first.created + self.linger
            || first.tickets.first().is_some_and(|ticket| ticket.0 < self.flush_to)
            // Where the buffer is full nothing more can come.
            || self.reserved * 10 >= self.limit * 9
    }

    /// Returns the queues that have batches.
    pub(super) fn queues(&self) -> impl Iterator<Item = (QueueId, &Queue)> {
        self.listed
            .iter()
            .map(|id| (*id, &self.queues[id.0 as usize]))
            .filter(|(_, queue)| !queue.batches.is_empty())
    }

    /// Returns a queue.
    pub(super) fn queue(&self, id: QueueId) -> &Queue {
        &self.queues[id.0 as usize]
    }

    /// Returns a queue, to take what is in it.
    pub(super) fn queue_mut(&mut self, id: QueueId) -> &mut Queue {
        &mut self.queues[id.0 as usize]
    }

    /// Puts a batch back to where it belongs: before everything that was taken after it.
    pub(super) fn put_back(&mut self, id: QueueId, batch: PendingBatch) {
        let queue = &mut self.queues[id.0 as usize];
        let at = queue.batches.partition_point(|other| other.first_ticket() < batch.first_ticket());
        queue.batches.insert(at, batch);
        if !queue.is_listed {
            queue.is_listed = true;
            self.listed.push(id);
        }
    }

    /// Parts a batch that was too large and puts the halves back.
    pub(super) fn put_back_halves(&mut self, id: QueueId, batch: &PendingBatch) {
        for half in batch.halves(self.codec) {
            self.put_back(id, half);
        }
    }

    /// Ends a batch with its report.
    pub(super) fn finish(
        &mut self,
        id: QueueId,
        batch: PendingBatch,
        result: Result<Option<Offset>, ClientError>,
        log_append_time: Option<i64>,
    ) {
        self.reserved -= batch.reserved;
        let (topic, partition) = self.queues[id.0 as usize].place.clone();
        self.report(topic, Some(partition), batch.tickets, result, log_append_time);
        if let Content::Closed(batch) = batch.content
            && (self.spare.len() + 1) * self.batch_bytes <= SPARE_BYTES_MAX
            && self.codec == Codec::None
            && let Some(buffer) = batch.into_buffer()
            && buffer.capacity() == self.batch_bytes + SLACK
        {
            self.spare.push(buffer);
        }
    }

    fn report(
        &mut self,
        topic: KafkaString,
        partition: Option<PartitionIndex>,
        tickets: Vec<Ticket>,
        result: Result<Option<Offset>, ClientError>,
        log_append_time: Option<i64>,
    ) {
        self.pending -= tickets.len();
        if let (None, Err(error)) = (&self.failure, &result) {
            self.failure = Some(error.clone());
        }
        self.reports.push_back(Report { topic, partition, tickets, result, log_append_time });
    }

    /// Fails what has waited longer than the delivery timeout, and returns the partitions where a
    /// batch was among it whose sequence others may follow.
    pub(super) fn expire(&mut self, now: Instant, metadata: &Metadata) -> Vec<QueueId> {
        let timeout = self.delivery_timeout;
        let mut expired = Vec::new();
        for id in &self.listed {
            let batches = &mut self.queues[id.0 as usize].batches;
            while batches.front().is_some_and(|batch| now >= batch.created + timeout) {
                expired.push((*id, batches.pop_front().expect("there is a first one")));
            }
        }
        let mut sequenced = Vec::new();
        for (id, batch) in expired {
            if batch.producer.is_some() {
                sequenced.push(id);
            }
            let refusal = batch.last_said.clone();
            let error = batch.failure(refusal.unwrap_or(ClientError::TimedOut));
            self.finish(id, batch, Err(error), None);
        }
        if self.unplaced > 0 {
            self.expire_unplaced(now, metadata);
        }
        sequenced
    }

    fn expire_unplaced(&mut self, now: Instant, metadata: &Metadata) {
        let timeout = self.delivery_timeout;
        for topic in 0..self.topics.len() {
            let state = &mut self.topics[topic];
            let is_late = |taken: &Now| now >= taken.mono + timeout;
            let late = state.unplaced.iter().take_while(|(_, taken, _)| is_late(taken)).count();
            if late == 0 {
                continue;
            }
            let mut tickets = Vec::with_capacity(late);
            for (ticket, _, record) in state.unplaced.drain(..late) {
                self.reserved -= record.size();
                tickets.push(ticket);
            }
            self.unplaced -= usize::from(state.unplaced.is_empty());
            let name = state.name.clone();
            let error = if metadata.is_missing(&name) {
                ClientError::Broker(ErrorCode::UnknownTopicOrPartition)
            } else {
                ClientError::TimedOut
            };
            self.report(name, None, tickets, Err(error), None);
        }
    }

    /// Fails what waits in a queue, and returns whether a batch was among it whose sequence others may follow.
    /// What an earlier attempt may have stored is not reported as refused.
    pub(super) fn fail_queue(&mut self, id: QueueId, error: &ClientError) -> bool {
        let batches = std::mem::take(&mut self.queues[id.0 as usize].batches);
        let is_sequenced = batches.iter().any(|batch| batch.producer.is_some());
        for batch in batches {
            let error = batch.failure(error.clone());
            self.finish(id, batch, Err(error), None);
        }
        is_sequenced
    }

    pub(super) fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    pub(super) const fn pending(&self) -> usize {
        self.pending
    }

    /// Returns how many bytes of the buffer are in batches that wait for nothing but their turn.
    pub(super) fn waiting_bytes(&self) -> usize {
        let mut bytes = 0;
        for (_, queue) in self.queues() {
            let is_open = |batch: &PendingBatch| batch.is_fresh && batch.size() < self.batch_bytes;
            let open = usize::from(queue.batches.back().is_some_and(is_open));
            let closed = queue.batches.iter().take(queue.batches.len() - open);
            bytes += closed.map(|batch| batch.reserved).sum::<usize>();
        }
        bytes
    }

    /// Returns when, after `now`, a batch is to be sent or given up. What is due at `now` waits for
    /// a broker, and not for the time.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let batches = self.queues().filter_map(|(_, queue)| {
            let first = queue.batches.front()?;
            let send = if first.is_fresh { first.created + self.linger } else { first.retry_at };
            let send = Some(send).filter(|send| *send > now);
            send.into_iter().chain([first.created + self.delivery_timeout]).min()
        });
        let topics = if self.unplaced > 0 { &self.topics[..] } else { &[] };
        let unplaced = topics
            .iter()
            .filter_map(|topic| topic.unplaced.front())
            .map(|(_, taken, _)| taken.mono + self.delivery_timeout);
        batches.chain(unplaced).min()
    }

    /// Fails everything that is not on its way. What an earlier attempt may have stored is not
    /// reported as refused.
    pub(super) fn fail_all(&mut self, error: &ClientError) {
        for id in std::mem::take(&mut self.listed) {
            self.queues[id.0 as usize].is_listed = false;
            self.fail_queue(id, error);
        }
    }

    /// Fails everything that has no sequence yet, and so has never been sent by an idempotent producer.
    pub(super) fn fail_unsent(&mut self, error: &ClientError) {
        for id in self.listed.clone() {
            let batches = std::mem::take(&mut self.queues[id.0 as usize].batches);
            let (sent, unsent) = batches.into_iter().partition(|batch| batch.producer.is_some());
            self.queues[id.0 as usize].batches = sent;
            let unsent: VecDeque<PendingBatch> = unsent;
            for batch in unsent {
                self.finish(id, batch, Err(error.clone()), None);
            }
        }
        for topic in 0..self.topics.len() {
            let waiting = std::mem::take(&mut self.topics[topic].unplaced);
            if waiting.is_empty() {
                continue;
            }
            self.unplaced -= 1;
            self.reserved -= waiting.iter().map(|(_, _, record)| record.size()).sum::<usize>();
            let tickets = waiting.iter().map(|(ticket, ..)| *ticket).collect();
            let name = self.topics[topic].name.clone();
            self.report(name, None, tickets, Err(error.clone()), None);
        }
    }

    /// Reports so many records as failed that are not taken, and returns the ticket of the first.
    pub(super) fn refuse(
        &mut self,
        topic: &KafkaString,
        partition: Option<PartitionIndex>,
        count: usize,
        error: ClientError,
    ) -> Ticket {
        let first = self.next_ticket;
        self.next_ticket += count as u64;
        let tickets = (first..self.next_ticket).map(Ticket).collect();
        self.wants_drive = true;
        self.reports.push_back(Report {
            topic: topic.detached(),
            partition,
            tickets,
            result: Err(error),
            log_append_time: None,
        });
        Ticket(first)
    }

    /// Returns, once, why the first record failed since this was last asked.
    pub(super) const fn take_failure(&mut self) -> Option<ClientError> {
        self.failure.take()
    }

    /// Takes the first batch of a queue out.
    pub(super) fn take_first(&mut self, id: QueueId) -> Option<PendingBatch> {
        self.queues[id.0 as usize].batches.pop_front()
    }

    /// Takes the queues that are empty off the list.
    pub(super) fn tidy(&mut self) {
        let queues = &mut self.queues;
        self.listed.retain(|id| {
            let queue = &mut queues[id.0 as usize];
            queue.is_listed = !queue.batches.is_empty();
            queue.is_listed
        });
    }

    pub(super) const fn level(&self) -> Option<i32> {
        self.level
    }

    pub(super) const fn codec(&self) -> Codec {
        self.codec
    }
}
