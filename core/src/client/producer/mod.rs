//! The producer: records in, batches out, one report for each record.
//!
//! An [`accumulator::Accumulator`] gathers records into batches, a [`sender::Sender`] speaks to the
//! brokers; [`Producer`] holds both and places records that name no partition.

pub mod accumulator;
#[cfg(test)]
mod model_tests;
pub mod partitioner;
pub mod sender;
mod sequences;
#[cfg(test)]
mod tests;
pub mod transaction;

use std::time::Duration;

use bytes::Bytes;

use self::accumulator::{Accumulator, BufferFull, Full, Ticket};
use self::partitioner::Unkeyed;
use self::sender::Sender;
use super::network::NetworkConfig;
use super::{ClientError, Effect, Input};
use crate::ids::{Offset, PartitionIndex, ProducerEpoch, ProducerId};
use crate::record::builder::{NewHeader, RECORD_OVERHEAD_MAX};
use crate::record::compress::Codec;
use crate::time::{Instant, Now};
use crate::wire::KafkaString;

/// How many acknowledgements a record waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// None: a record counts as delivered once it is sent.
    None,
    /// That of the leader.
    Leader,
    /// Those of all replicas that count.
    All,
}

impl Acks {
    const fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// What a producer is told at its birth. Names and defaults are those of Kafka's client.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// Connections and metadata.
    pub network: NetworkConfig,
    /// Acknowledgements (`acks`).
    pub acks: Acks,
    /// Whether records are stored once and in order (`enable.idempotence`); needs [`Acks::All`].
    pub idempotence: bool,
    /// The name under which this producer commits transactions, and takes the place of whoever had it
    /// before (`transactional.id`); needs idempotence. With it, records are sent in transactions alone.
    pub transactional_id: Option<KafkaString>,
    /// How long a transaction may stay open before its coordinator aborts it
    /// (`transaction.timeout.ms`).
    pub transaction_timeout: Duration,
    /// The newest kind of transactions that is spoken, where brokers settle on one as new: 1 for that of
    /// clients before KIP-890.
    pub transaction_version: i16,
    /// Where records without a key go (`partitioner.class`).
    pub unkeyed: Unkeyed,
    /// Codec of the batches (`compression.type`).
    pub codec: Codec,
    /// Level of the codec (`compression.zstd.level`, `compression.gzip.level`), `None` for its own
    /// default. Codecs without levels pay no heed to it.
    pub compression_level: Option<i32>,
    /// Bytes at which a batch is full (`batch.size`).
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more (`linger.ms`).
    pub linger: Duration,
    /// Most bytes of records that wait or are on their way (`buffer.memory`).
    pub buffer_bytes: usize,
    /// Most bytes of one request (`max.request.size`).
    pub max_request_bytes: usize,
    /// How often a batch is sent again that was not taken (`retries`). The delivery timeout ends it in
    /// any case.
    pub retries: u32,
    /// Time from taking a record to its report at the latest (`delivery.timeout.ms`, KIP-91).
    pub delivery_timeout: Duration,
    /// How long whoever sends waits for room in the buffer (`max.block.ms`). The machine itself
    /// never waits: drivers do.
    pub max_block: Duration,
}

impl ProducerConfig {
    /// Kafka's defaults, for brokers that `network` names.
    pub const fn new(network: NetworkConfig) -> Self {
        Self {
            network,
            acks: Acks::All,
            idempotence: true,
            transactional_id: None,
            transaction_timeout: Duration::from_mins(1),
            transaction_version: transaction::VERSION,
            unkeyed: Unkeyed::Sticky,
            codec: Codec::None,
            compression_level: None,
            batch_bytes: 16 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            max_request_bytes: 1 << 20,
            retries: u32::MAX,
            delivery_timeout: Duration::from_mins(2),
            max_block: Duration::from_mins(1),
        }
    }
}

/// A record to be sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewRecord {
    /// Name of the topic.
    pub topic: KafkaString,
    /// The partition; chosen by the key, or in turn, where none is named.
    pub partition: Option<PartitionIndex>,
    /// Unix milliseconds; the time of sending where none is named.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// Headers in their order; names may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl NewRecord {
    /// Returns about how many bytes the record takes in a batch; never fewer than it does.
    pub fn size(&self) -> usize {
        let part = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + part(value) + 10).sum();
        part(&self.key) + part(&self.value) + headers + RECORD_OVERHEAD_MAX
    }

    /// Hands the record to `take` as one that is borrowed.
    pub fn borrow<T>(&self, take: impl FnOnce(&RecordRef<'_>) -> T) -> T {
        let headers: Vec<NewHeader<'_>> =
            self.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
        take(&RecordRef {
            topic: &self.topic,
            partition: self.partition,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }
}

/// A record to be sent that stays its owner's: [`Producer::append`] encodes it where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordRef<'a> {
    /// Name of the topic. The same one in a row is found fastest.
    pub topic: &'a KafkaString,
    /// The partition; chosen by the key, or as [`Unkeyed`] says, where none is named.
    pub partition: Option<PartitionIndex>,
    /// Unix milliseconds; the time of taking where none is named.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// Headers in their order, names with values; names may repeat.
    pub headers: &'a [NewHeader<'a>],
}

impl<'a> RecordRef<'a> {
    /// A record of a topic with nothing in it.
    pub const fn new(topic: &'a KafkaString) -> Self {
        Self { topic, partition: None, timestamp: None, key: None, value: None, headers: &[] }
    }

    /// Returns about how many bytes the record takes in a batch; never fewer than it does.
    pub fn size(&self) -> usize {
        let part = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + part(*value) + 10).sum();
        part(self.key) + part(self.value) + headers + RECORD_OVERHEAD_MAX
    }

    /// Returns a copy that owns its bytes.
    pub fn to_record(&self) -> NewRecord {
        NewRecord {
            topic: self.topic.clone(),
            partition: self.partition,
            timestamp: self.timestamp,
            key: self.key.map(Bytes::copy_from_slice),
            value: self.value.map(Bytes::copy_from_slice),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| {
                    (Bytes::copy_from_slice(name), value.map(Bytes::copy_from_slice))
                })
                .collect(),
        }
    }
}

/// Records of one topic that have nothing but a value, for [`Producer::append_values`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValuesRef<'a> {
    /// Name of the topic.
    pub topic: &'a KafkaString,
    /// The partition of all of them; chosen as [`Unkeyed`] says where none is named.
    pub partition: Option<PartitionIndex>,
    /// The values, one behind the other.
    pub bytes: &'a [u8],
    /// How many bytes each of them has.
    pub lengths: &'a [u32],
}

/// What became of the records of one batch, or of records that never came into one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The topic of all of them.
    pub topic: KafkaString,
    /// Their partition; `None` where the topic never became known.
    pub partition: Option<PartitionIndex>,
    /// The records, in the order of their taking, so that tickets ascend. Never empty.
    pub tickets: Vec<Ticket>,
    /// The offset of the first; that of the record at `tickets[i]` is `i` more. `None` where the
    /// broker does not tell it (no acknowledgements).
    pub result: Result<Option<Offset>, ClientError>,
    /// The time that the broker gave all of them, in Unix milliseconds, where the topic has
    /// `message.timestamp.type=LogAppendTime`. Otherwise each has its own.
    pub log_append_time: Option<i64>,
}

impl Report {
    /// Returns what it says of the record at `tickets[index]`.
    pub fn delivery(&self, index: usize) -> Delivery {
        Delivery {
            ticket: self.tickets[index],
            topic: self.topic.clone(),
            partition: self.partition,
            result: self.result.clone().map(|base| base.map(|base| base.plus(index as i64))),
        }
    }
}

/// What became of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The record.
    pub ticket: Ticket,
    /// Its topic.
    pub topic: KafkaString,
    /// Its partition; `None` where the topic never became known.
    pub partition: Option<PartitionIndex>,
    /// Its offset; `None` where the broker does not tell it (no acknowledgements).
    pub result: Result<Option<Offset>, ClientError>,
}

/// A producer.
#[derive(Clone, Debug)]
pub struct Producer {
    accumulator: Accumulator,
    sender: Sender,
    wake_at: Option<Instant>,
    /// A report of which `poll_delivery` has given so many records.
    in_part: Option<(Report, usize)>,
}

impl Producer {
    /// Connects to nothing before the first record.
    pub fn new(config: ProducerConfig) -> Self {
        Self {
            accumulator: Accumulator::new(&config),
            sender: Sender::new(config),
            wake_at: None,
            in_part: None,
        }
    }

    /// Takes a record, and sends what is due. Its report comes by [`Producer::poll_delivery`].
    ///
    /// # Errors
    /// [`Full`] where the buffer has no room at present; the record is given back.
    pub fn send(&mut self, now: Now, record: NewRecord) -> Result<Ticket, Full> {
        let taken = record.borrow(|record| self.append(now, record));
        match taken {
            Ok(ticket) => {
                self.drive(now.mono);
                Ok(ticket)
            }
            Err(BufferFull { limit }) => Err(Full { record: Box::new(record), limit }),
        }
    }

    /// Takes a copy of a record and sends nothing yet: after one or many,
    /// [`advance`](Self::advance) does. Its report comes by [`poll_report`](Self::poll_report).
    /// Tickets follow one another without a gap.
    ///
    /// # Errors
    /// [`BufferFull`] where the buffer has no room at present. Nothing was taken then.
    pub fn append(&mut self, now: Now, record: &RecordRef<'_>) -> Result<Ticket, BufferFull> {
        if let Some(error) = self.sender.refuses_records() {
            return Ok(self.accumulator.refuse(record.topic, record.partition, 1, error));
        }
        self.accumulator.append(now, record, self.sender.metadata())
    }

    /// Takes copies of values as [`append`](Self::append) takes each of them, at less cost. Returns how
    /// many it took: fewer than there are where the buffer has no room at present.
    ///
    /// # Panics
    /// Where the lengths come to more than there are bytes.
    pub fn append_values(&mut self, now: Now, values: &ValuesRef<'_>) -> usize {
        let count = values.lengths.len();
        if let Some(error) = self.sender.refuses_records().filter(|_| count > 0) {
            self.accumulator.refuse(values.topic, values.partition, count, error);
            return count;
        }
        self.accumulator.append_values(now, values, self.sender.metadata())
    }

    /// Returns whether what was appended since the last [`advance`](Self::advance) needs one: a
    /// batch was begun, so that a deadline stands, or filled, so that it can leave.
    pub const fn wants_advance(&self) -> bool {
        self.accumulator.wants_drive()
    }

    /// Sends what is due of what was appended.
    pub fn advance(&mut self, now: Now) {
        self.drive(now.mono);
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.sender.handle(now.mono, input);
        self.drive(now.mono);
    }

    /// Sends everything that has been taken so far without waiting for more.
    pub fn flush(&mut self, now: Now) {
        self.accumulator.flush();
        self.drive(now.mono);
    }

    fn drive(&mut self, now: Instant) {
        self.accumulator.place(self.sender.metadata());
        self.sender.drive(now, &mut self.accumulator);
        self.wake_at = self.accumulator.next_deadline(now);
    }

    /// Takes what people should be told since this was last asked, a line each: topics that are not there.
    pub fn take_warnings(&mut self) -> Vec<String> {
        self.sender.take_warnings()
    }

    /// Takes the next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.sender.poll_effect()
    }

    /// Takes the next report: one for each batch that came to its end.
    ///
    /// A program asks either for reports or for deliveries: what is left of a report that
    /// [`poll_delivery`](Self::poll_delivery) has begun is given there.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.accumulator.poll_report()
    }

    /// Takes the next report of a single record.
    pub fn poll_delivery(&mut self) -> Option<Delivery> {
        let (report, given) = match self.in_part.take() {
            Some(rest) => rest,
            None => (self.accumulator.poll_report()?, 0),
        };
        let delivery = report.delivery(given);
        if given + 1 < report.tickets.len() {
            self.in_part = Some((report, given + 1));
        }
        Some(delivery)
    }

    /// Returns the producer id and epoch in force, once there is one.
    pub const fn identity(&self) -> Option<(ProducerId, ProducerEpoch)> {
        self.sender.identity()
    }

    /// Returns how many records have not come to their end yet.
    pub const fn pending(&self) -> usize {
        self.accumulator.pending()
    }

    /// Returns how many bytes of the buffer are in full batches that wait for their turn. Looks at every
    /// batch that is not on its way.
    pub fn waiting_bytes(&self) -> usize {
        self.accumulator.waiting_bytes()
    }

    /// Returns when to come back at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.wants_advance() {
            return Some(Instant::ZERO);
        }
        self.sender.next_deadline().into_iter().chain(self.wake_at).min()
    }
}
