//! The producer machine of core on the simulated network: one send for each record, a few at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::client::producer::accumulator::Ticket;
use mainspring_core::client::producer::{NewRecord, Producer, ProducerConfig};
use mainspring_core::client::{ClientError, Input};
use mainspring_core::ids::{PartitionIndex, TopicPartition};
use mainspring_core::wire::KafkaString;

use super::links::{Links, now};
use super::{Load, SharedRef, bootstrap, place};
use crate::history::{Fact, OperationId, record_hash};
use crate::world::{Actor, ActorEvent, Hands, SECOND};

/// The producer.
#[derive(Debug)]
pub struct MachineProducer {
    client: usize,
    load: Load,
    shared: SharedRef,
    machine: Producer,
    links: Links,
    tickets: BTreeMap<Ticket, OperationId>,
    next_operation: u64,
    sends_left: u64,
    next_send: u64,
    finishing: bool,
    done: bool,
}

impl MachineProducer {
    /// Makes a producer, which counts itself as not finished.
    pub fn new(client: usize, load: Load, shared: SharedRef) -> Self {
        shared.borrow_mut().producers += 1;
        let network = NetworkConfig {
            request_timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(4),
            ..NetworkConfig::new(bootstrap(load.cluster))
        };
        let config = ProducerConfig {
            batch_bytes: 2 << 10,
            delivery_timeout: Duration::from_secs(100),
            ..ProducerConfig::new(network)
        };
        Self {
            client,
            sends_left: load.operations,
            load,
            shared,
            machine: Producer::new(config),
            links: Links::default(),
            tickets: BTreeMap::new(),
            next_operation: 0,
            next_send: 0,
            finishing: false,
            done: false,
        }
    }

    /// Sends a few records to one partition, which the machine may gather in a batch.
    fn send(&mut self, hands: &mut Hands<'_>) {
        let topic = self.load.topics[hands.rng.index(self.load.topics.len())].clone();
        let index = hands.rng.below(self.load.partitions as u64) as i32;
        // The id of a topic is learnt from those who speak the wire by hand.
        let Some(partition) = place(&self.shared, &topic, index) else { return };
        let count = hands.rng.between(1, self.load.records.max(1)).min(self.sends_left);
        for _ in 0..count {
            self.send_one(hands, &topic, index, partition);
        }
    }

    fn send_one(
        &mut self,
        hands: &mut Hands<'_>,
        topic: &str,
        index: i32,
        partition: TopicPartition,
    ) {
        let operation = OperationId { client: self.client, number: self.next_operation };
        self.next_operation += 1;
        self.sends_left -= 1;
        let now = now(hands);
        let key = Bytes::from(format!("{}-{}", self.client, operation.number));
        let length = hands.rng.exponential(self.load.bytes) as usize;
        let value = Bytes::from(vec![hands.rng.below(256) as u8; length]);
        let hash = record_hash(now.wall.0, Some(&key), Some(&value));
        hands.tell(Fact::Invoked { operation, partition, records: vec![hash] });
        let record = NewRecord {
            topic: KafkaString::from(topic),
            partition: Some(PartitionIndex(index)),
            timestamp: Some(now.wall.0),
            key: Some(key),
            value: Some(value),
            headers: Vec::new(),
        };
        match self.machine.send(now, record) {
            Ok(ticket) => {
                self.tickets.insert(ticket, operation);
            }
            Err(_) => hands.tell(Fact::Refused { operation, code: 0 }),
        }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        while let Some(effect) = self.machine.poll_effect() {
            self.links.carry_out(hands, effect);
        }
        while let Some(delivery) = self.machine.poll_delivery() {
            let Some(operation) = self.tickets.remove(&delivery.ticket) else { continue };
            match delivery.result {
                Ok(Some(offset)) => hands.tell(Fact::Acked { operation, base_offset: offset.0 }),
                Err(ClientError::Broker(code) | ClientError::Refused { code, .. }) => {
                    hands.tell(Fact::Refused { operation, code: code.code() });
                }
                Ok(None) | Err(_) => {}
            }
        }
        let due =
            self.machine.next_deadline().map_or(u64::MAX, |at| at.as_nanos().max(hands.now + 1));
        hands.wake_at(due.min(self.next_send.max(hands.now + 1)).min(hands.now + SECOND));
        if self.finishing && !self.done && self.machine.pending() == 0 {
            self.done = true;
            self.shared.borrow_mut().producers -= 1;
        }
    }
}

impl Actor for MachineProducer {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        let now = now(hands);
        let input = match event {
            ActorEvent::Wake => Some(Input::Wakeup),
            ActorEvent::Finish => {
                self.finishing = true;
                self.machine.flush(now);
                None
            }
            event => self.links.input(&event),
        };
        if let Some(input) = input {
            self.machine.handle(now, input);
        }
        if !self.finishing && self.sends_left > 0 && hands.now >= self.next_send {
            self.next_send = hands.now + hands.rng.exponential(self.load.pause);
            self.send(hands);
        }
        if self.finishing || self.sends_left == 0 {
            self.next_send = u64::MAX;
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.done).then(|| {
            format!("producer {} waits for {} records", self.client, self.machine.pending())
        })
    }
}
