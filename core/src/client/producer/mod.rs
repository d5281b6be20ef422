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

use std::time::Duration;

use bytes::Bytes;

use self::accumulator::{Accumulator, Full, Ticket};
use self::partitioner::Partitioner;
use self::sender::Sender;
use super::network::NetworkConfig;
use super::{ClientError, Effect, Input};
use crate::ids::{Offset, PartitionIndex};
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
    /// Codec of the batches (`compression.type`).
    pub codec: Codec,
    /// Bytes at which a batch is full (`batch.size`).
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more (`linger.ms`).
    pub linger: Duration,
    /// Most bytes of records that wait or are on their way (`buffer.memory`).
    pub buffer_bytes: usize,
    /// Most bytes of one request (`max.request.size`).
    pub max_request_bytes: usize,
    /// Time from taking a record to its report at the latest (`delivery.timeout.ms`, KIP-91).
    pub delivery_timeout: Duration,
}

impl ProducerConfig {
    /// Kafka's defaults, for brokers that `network` names.
    pub const fn new(network: NetworkConfig) -> Self {
        Self {
            network,
            acks: Acks::All,
            idempotence: true,
            codec: Codec::None,
            batch_bytes: 16 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            max_request_bytes: 1 << 20,
            delivery_timeout: Duration::from_mins(2),
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
        part(&self.key) + part(&self.value) + headers + crate::record::builder::RECORD_OVERHEAD_MAX
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
    partitioner: Partitioner,
    sender: Sender,
    wake_at: Option<Instant>,
}

impl Producer {
    /// Connects to nothing before the first record.
    pub fn new(config: ProducerConfig) -> Self {
        Self {
            accumulator: Accumulator::new(&config),
            partitioner: Partitioner::default(),
            sender: Sender::new(config),
            wake_at: None,
        }
    }

    /// Takes a record. Its report comes by [`Producer::poll_delivery`].
    ///
    /// # Errors
    /// [`Full`] where the buffer has no room at present; the record is given back.
    pub fn send(&mut self, now: Now, record: NewRecord) -> Result<Ticket, Full> {
        let ticket = self.accumulator.append(now, record)?;
        self.drive(now.mono);
        Ok(ticket)
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
        let metadata = self.sender.metadata();
        self.accumulator.place(&mut self.partitioner, metadata);
        self.sender.drive(now, &mut self.accumulator);
        self.wake_at = self.accumulator.next_deadline(now);
    }

    /// Takes the next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.sender.poll_effect()
    }

    /// Takes the next report.
    pub fn poll_delivery(&mut self) -> Option<Delivery> {
        self.accumulator.poll_delivery()
    }

    /// Returns how many records have no report yet.
    pub const fn pending(&self) -> usize {
        self.accumulator.pending()
    }

    /// Returns when to come back at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sender.next_deadline().into_iter().chain(self.wake_at).min()
    }
}
