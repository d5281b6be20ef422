//! Gathers records into batches, and keeps them until they are reported.
//!
//! A record is encoded once, as it is taken. What is kept for it afterwards is its ticket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::partitioner::Partitioner;
use super::{NewRecord, ProducerConfig, RecordRef, Report};
use crate::client::ClientError;
use crate::client::metadata::Metadata;
use crate::ids::{Offset, PartitionIndex};
use crate::record::batch::Batch;
use crate::record::builder::{BatchBuilder, NewHeader, Producer as ProducerOfBatch};
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
    /// Not to be sent again before.
    pub(super) retry_at: Instant,
}

impl PendingBatch {
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
    pub(super) fn seal(&mut self, codec: Codec, producer: Option<ProducerOfBatch>) -> Bytes {
        let content = std::mem::replace(&mut self.content, Content::Open(BatchBuilder::new(codec)));
        let batch = match content {
            Content::Open(builder) => match producer {
                Some(producer) => builder.producer(producer).build(),
                None => builder.build(),
            },
            Content::Closed(batch) if self.producer == producer => batch,
            Content::Closed(batch) => {
                let builder = rebuild(codec, &batch, 0..self.tickets.len());
                match producer {
                    Some(producer) => builder.producer(producer).build(),
                    None => builder.build(),
                }
            }
        };
        self.producer = producer;
        self.is_fresh = false;
        let bytes = batch.to_bytes();
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

/// The batches of one partition that are not on their way, in the order in which they are to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    pub(super) batches: VecDeque<PendingBatch>,
}

/// Gathers records into batches.
#[derive(Clone, Debug)]
pub struct Accumulator {
    codec: Codec,
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
    /// Records whose partition is not known yet, by topic, in order.
    unplaced: BTreeMap<KafkaString, VecDeque<(Ticket, Now, NewRecord)>>,
    pub(super) queues: BTreeMap<Place, Queue>,
    reports: VecDeque<Report>,
    /// Whether a batch was begun or filled, or a record waits for its partition, and the sender has
    /// not been told.
    wants_drive: bool,
}

impl Accumulator {
    pub(super) const fn new(config: &ProducerConfig) -> Self {
        Self {
            codec: config.codec,
            batch_bytes: config.batch_bytes,
            linger: config.linger,
            limit: config.buffer_bytes,
            max_record_bytes: config.max_request_bytes,
            delivery_timeout: config.delivery_timeout,
            reserved: 0,
            pending: 0,
            next_ticket: 0,
            flush_to: 0,
            unplaced: BTreeMap::new(),
            queues: BTreeMap::new(),
            reports: VecDeque::new(),
            wants_drive: false,
        }
    }

    pub(super) fn append(
        &mut self,
        now: Now,
        record: &RecordRef<'_>,
    ) -> Result<Ticket, BufferFull> {
        let size = record.size();
        if size <= self.max_record_bytes && self.reserved + size > self.limit {
            return Err(BufferFull { limit: self.limit });
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.pending += 1;
        if size > self.max_record_bytes {
            self.wants_drive = true;
            let error = Err(ClientError::TooLarge(size));
            self.report(record.topic.detached(), record.partition, vec![ticket], error, None);
            return Ok(ticket);
        }
        self.reserved += size;
        if let Some(partition) = record.partition {
            self.gather(ticket, now, partition, record);
            return Ok(ticket);
        }
        self.wants_drive = true;
        let waits = (ticket, now, record.to_record());
        if let Some(queue) = self.unplaced.get_mut(&**record.topic) {
            queue.push_back(waits);
        } else {
            self.unplaced.insert(record.topic.detached(), VecDeque::from([waits]));
        }
        Ok(ticket)
    }

    /// Returns the topics that records wait for.
    pub(super) fn topics(&self) -> impl Iterator<Item = &KafkaString> {
        self.unplaced.keys().chain(self.queues.keys().map(|(topic, _)| topic))
    }

    /// Places the records whose topics have become known.
    pub(super) fn place(&mut self, partitioner: &mut Partitioner, metadata: &Metadata) {
        let waiting = std::mem::take(&mut self.unplaced);
        for (name, records) in waiting {
            let topic = metadata.topic(&name).filter(|topic| !topic.leaders.is_empty());
            let Some(topic) = topic else {
                if let Some(error) = metadata.error(&name) {
                    self.reserved -=
                        records.iter().map(|(_, _, record)| record.size()).sum::<usize>();
                    let tickets = records.iter().map(|(ticket, ..)| *ticket).collect();
                    self.report(name, None, tickets, Err(error.clone()), None);
                } else {
                    self.unplaced.insert(name, records);
                }
                continue;
            };
            for (ticket, now, record) in records {
                let key = record.key.as_deref();
                let mut partition = partitioner.choose(&name, topic, key);
                if key.is_none()
                    && partitioner.is_sticky()
                    && self.would_close(&name, partition, record.size())
                {
                    partition = partitioner.move_on(&name, topic);
                }
                record.borrow(|record| self.gather(ticket, now, partition, record));
            }
        }
    }

    /// Whether the open batch of a partition has no room for so many bytes more.
    fn would_close(&self, name: &KafkaString, partition: PartitionIndex, size: usize) -> bool {
        let queue = self.queues.get(&(name.clone(), partition));
        queue
            .and_then(|queue| queue.batches.back())
            .is_some_and(|batch| batch.is_fresh && batch.size() + size > self.batch_bytes)
    }

    fn gather(
        &mut self,
        ticket: Ticket,
        now: Now,
        partition: PartitionIndex,
        record: &RecordRef<'_>,
    ) {
        let size = record.size();
        let place = (record.topic.clone(), partition);
        let queue = if let Some(queue) = self.queues.get_mut(&place) {
            queue
        } else {
            self.queues.entry((record.topic.detached(), partition)).or_default()
        };
        let has_room = queue
            .batches
            .back()
            .is_some_and(|batch| batch.is_fresh && batch.size() + size <= self.batch_bytes);
        if !has_room {
            self.wants_drive = true;
            queue.batches.push_back(PendingBatch {
                content: Content::Open(BatchBuilder::new(self.codec)),
                is_fresh: true,
                tickets: Vec::new(),
                reserved: 0,
                created: now.mono,
                producer: None,
                maybe_stored: false,
                last_said: None,
                retry_at: Instant::ZERO,
            });
        }
        let batch = queue.batches.back_mut().expect("one was pushed where there was none");
        let Content::Open(builder) = &mut batch.content else {
            unreachable!("a closed batch has no room")
        };
        let timestamp = record.timestamp.unwrap_or(now.wall.0);
        builder.push(timestamp, record.key, record.value, record.headers);
        batch.tickets.push(ticket);
        batch.reserved += size;
        self.wants_drive |= batch.size() >= self.batch_bytes;
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

    /// Puts a batch back to where it belongs: before everything that was taken after it.
    pub(super) fn put_back(&mut self, place: &Place, batch: PendingBatch) {
        let queue = self.queues.entry(place.clone()).or_default();
        let at = queue.batches.partition_point(|other| other.first_ticket() < batch.first_ticket());
        queue.batches.insert(at, batch);
    }

    /// Parts a batch that was too large and puts the halves back.
    pub(super) fn put_back_halves(&mut self, place: &Place, batch: &PendingBatch) {
        for half in batch.halves(self.codec) {
            self.put_back(place, half);
        }
    }

    /// Ends a batch with its report.
    pub(super) fn finish(
        &mut self,
        place: &Place,
        batch: PendingBatch,
        result: Result<Option<Offset>, ClientError>,
        log_append_time: Option<i64>,
    ) {
        self.reserved -= batch.reserved;
        self.report(place.0.clone(), Some(place.1), batch.tickets, result, log_append_time);
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
        self.reports.push_back(Report { topic, partition, tickets, result, log_append_time });
    }

    /// Fails what has waited longer than the delivery timeout, and returns the partitions where a
    /// batch was among it whose sequence others may follow.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Place> {
        let timeout = self.delivery_timeout;
        let mut expired = Vec::new();
        for (place, queue) in &mut self.queues {
            while queue.batches.front().is_some_and(|batch| now >= batch.created + timeout) {
                let batch = queue.batches.pop_front().expect("there is a first one");
                expired.push((place.clone(), batch));
            }
        }
        let mut sequenced = Vec::new();
        for (place, batch) in expired {
            if batch.producer.is_some() {
                sequenced.push(place.clone());
            }
            let refusal = batch.last_said.clone();
            let error = batch.failure(refusal.unwrap_or(ClientError::TimedOut));
            self.finish(&place, batch, Err(error), None);
        }
        let mut unplaced = Vec::new();
        for (topic, records) in &mut self.unplaced {
            while records.front().is_some_and(|(_, taken, _)| now >= taken.mono + timeout) {
                let (ticket, _, record) = records.pop_front().expect("there is a first one");
                unplaced.push((topic.clone(), ticket, record.size()));
            }
        }
        self.unplaced.retain(|_, records| !records.is_empty());
        for (topic, ticket, size) in unplaced {
            self.reserved -= size;
            self.report(topic, None, vec![ticket], Err(ClientError::TimedOut), None);
        }
        sequenced
    }

    pub(super) fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    pub(super) const fn pending(&self) -> usize {
        self.pending
    }

    /// Returns when, after `now`, a batch is to be sent or given up. What is due at `now` waits for
    /// a broker, and not for the time.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let batches = self.queues.values().filter_map(|queue| {
            let first = queue.batches.front()?;
            let send = if first.is_fresh { first.created + self.linger } else { first.retry_at };
            let send = Some(send).filter(|send| *send > now);
            send.into_iter().chain([first.created + self.delivery_timeout]).min()
        });
        let unplaced = self
            .unplaced
            .values()
            .filter_map(|records| records.front())
            .map(|(_, taken, _)| taken.mono + self.delivery_timeout);
        batches.chain(unplaced).min()
    }

    /// Fails everything that is not on its way. What an earlier attempt may have stored is not
    /// reported as refused.
    pub(super) fn fail_all(&mut self, error: &ClientError) {
        for (place, queue) in std::mem::take(&mut self.queues) {
            for batch in queue.batches {
                let error = batch.failure(error.clone());
                self.finish(&place, batch, Err(error), None);
            }
        }
    }

    /// Takes the first batch of a queue out.
    pub(super) fn take_first(&mut self, place: &Place) -> Option<PendingBatch> {
        self.queues.get_mut(place)?.batches.pop_front()
    }

    /// Forgets the queues that are empty.
    pub(super) fn tidy(&mut self) {
        self.queues.retain(|_, queue| !queue.batches.is_empty());
    }

    pub(super) const fn codec(&self) -> Codec {
        self.codec
    }
}
