//! A producer that speaks the wire by hand: it keeps up to five batches of each partition in
//! flight, sends the same sequences again after every reconnect, and at times sends a batch again
//! that was acknowledged already. When nothing is under way it may go on in its next epoch, as clients
//! do after an error (KIP-360), and then a batch of the epoch before comes late.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{ProducerEpoch, ProducerId};
use mainspring_core::record::builder::{BatchBuilder, Producer as BatchProducer};
use mainspring_core::record::compress::Codec;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use mainspring_core::wire::api::metadata::MetadataResponse;
use mainspring_core::wire::api::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};

use super::line::{Answer, Line};
use super::{Load, PATIENCE, SharedRef, place};
use crate::clock::EPOCH_MS;
use crate::history::{Fact, OperationId, record_hash};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND};

/// Most bytes of the values of a batch: below the `message.max.bytes` of every scenario, 24,000.
const LARGEST_BATCH: u64 = 22_000;
/// Batches of one partition that may be in flight: as many as a broker remembers.
const IN_FLIGHT: usize = 5;
const PRODUCE_VERSION: i16 = 11;

#[derive(Clone, Debug)]
struct Batch {
    operation: OperationId,
    bytes: Bytes,
    sent: bool,
}

#[derive(Debug, Default)]
struct Partition {
    next_sequence: i32,
    /// Not acknowledged yet, in the order of their sequences.
    waiting: VecDeque<Batch>,
    /// The last one that was acknowledged, with nothing sent behind it.
    last: Option<Batch>,
    /// The sequence that would have followed in the epoch before this one.
    late_sequence: Option<i32>,
    /// Something of this epoch was acknowledged.
    in_epoch: bool,
}

/// Why a batch is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// To be stored.
    Needed,
    /// It was acknowledged already.
    Again,
    /// It belongs to an epoch that is over.
    Late,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
enum About {
    Metadata,
    ProducerId,
    Produce { place: usize, operation: OperationId, why: Why },
}

/// The producer.
#[derive(Debug)]
pub struct Producer {
    client: usize,
    load: Load,
    shared: SharedRef,
    acks: i16,
    line: Line<About>,
    identity: Option<(i64, i16)>,
    knows_topics: bool,
    partitions: Vec<Partition>,
    next_operation: u64,
    sends_left: u64,
    next_send: u64,
    finishing: bool,
    done: bool,
    /// The last answer that was an error.
    last_error: Option<(&'static str, i16)>,
    /// How often it was refused since it has been finishing.
    refusals: u32,
}

impl Producer {
    /// Makes a producer, which counts itself as not finished.
    pub fn new(client: usize, load: Load, shared: SharedRef, acks: i16) -> Self {
        shared.borrow_mut().producers += 1;
        let places = load.topics.len() * load.partitions as usize;
        Self {
            client,
            sends_left: load.operations,
            load,
            shared,
            acks,
            line: Line::default(),
            identity: None,
            knows_topics: false,
            partitions: (0..places).map(|_| Partition::default()).collect(),
            next_operation: 0,
            next_send: 0,
            finishing: false,
            done: false,
            last_error: None,
            refusals: 0,
        }
    }

    fn topic_of(&self, place: usize) -> (&str, i32) {
        let partitions = self.load.partitions as usize;
        (&self.load.topics[place / partitions], (place % partitions) as i32)
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        hands.wake_at(hands.now + 50 * MILLISECOND);
        if self.done || !self.line.is_ready(hands) {
            return;
        }
        if !self.knows_topics {
            if self.line.in_flight() == 0 {
                let topics = self.load.topics.clone();
                self.line.ask_metadata(hands, &topics, About::Metadata);
            }
            return;
        }
        let Some((producer_id, producer_epoch)) = self.identity else {
            if self.line.in_flight() == 0 {
                let request = InitProducerIdRequest {
                    transactional_id: None,
                    transaction_timeout_ms: 60_000,
                    ..InitProducerIdRequest::default()
                };
                self.line.send(hands, &request, 4, About::ProducerId);
            }
            return;
        };
        if self.line.wants_leaders(hands) {
            let topics = self.load.topics.clone();
            self.line.ask_metadata(hands, &topics, About::Metadata);
        }
        self.send_waiting(hands);
        if !self.finishing && self.sends_left > 0 && hands.now >= self.next_send {
            self.next_send = hands.now + hands.rng.exponential(self.load.pause);
            if hands.rng.chance(30) {
                self.bump(producer_epoch);
            } else if hands.rng.chance(50) {
                self.send_late(hands, producer_id, producer_epoch);
            } else {
                self.begin(hands, producer_id, producer_epoch);
            }
        }
        hands
            .wake_at(self.next_send.max(hands.now + MILLISECOND).min(hands.now + 50 * MILLISECOND));
        if self.finishing && self.partitions.iter().all(|partition| partition.waiting.is_empty()) {
            self.done = true;
            self.shared.borrow_mut().producers -= 1;
        }
    }

    /// Goes on in the next epoch, if nothing is under way.
    fn bump(&mut self, producer_epoch: i16) {
        let idle = self.partitions.iter().all(|partition| partition.waiting.is_empty());
        let Some((_, epoch)) = self.identity.as_mut().filter(|_| idle) else { return };
        *epoch = producer_epoch + 1;
        for partition in &mut self.partitions {
            *partition = Partition {
                late_sequence: Some(partition.next_sequence).filter(|_| partition.in_epoch),
                ..Partition::default()
            };
        }
    }

    /// Sends what would have come next in the epoch before, where the new one has begun: it is to be
    /// refused.
    fn send_late(&mut self, hands: &mut Hands<'_>, producer_id: i64, producer_epoch: i16) {
        let chosen = hands.rng.index(self.partitions.len());
        if !self.reaches(hands, chosen) {
            return;
        }
        let state = &self.partitions[chosen];
        let Some(late) = state.late_sequence.filter(|_| state.in_epoch) else { return };
        // With the sequence that the new epoch expects, nothing but the epoch tells that it is late.
        let sequence = if hands.rng.chance(500) { late } else { state.next_sequence };
        let (topic, index) = self.topic_of(chosen);
        let Some(partition) = place(&self.shared, topic, index) else { return };
        let mut builder = BatchBuilder::new(Codec::None).producer(BatchProducer {
            id: ProducerId(producer_id),
            epoch: ProducerEpoch(producer_epoch - 1),
            base_sequence: sequence,
        });
        let timestamp = EPOCH_MS + (hands.now / MILLISECOND) as i64;
        let operation = OperationId { client: self.client, number: self.next_operation };
        self.next_operation += 1;
        let key = format!("{}-{}-late", self.client, operation.number);
        builder.push(timestamp, Some(key.as_bytes()), None, &[]);
        let records = vec![record_hash(timestamp, Some(key.as_bytes()), None)];
        hands.tell(Fact::Invoked { operation, partition, records });
        let batch = Batch { operation, bytes: builder.build().to_bytes(), sent: true };
        self.produce(hands, chosen, &batch, Why::Late);
    }

    fn begin(&mut self, hands: &mut Hands<'_>, producer_id: i64, producer_epoch: i16) {
        let chosen = hands.rng.index(self.partitions.len());
        if self.partitions[chosen].waiting.len() >= IN_FLIGHT {
            return;
        }
        let (topic, index) = self.topic_of(chosen);
        let Some(partition) = place(&self.shared, topic, index) else { return };
        let count = hands.rng.between(1, self.load.records) as i32;
        let sequence = self.partitions[chosen].next_sequence;
        let codecs =
            [Codec::None, Codec::None, Codec::Lz4, Codec::Zstd, Codec::Snappy, Codec::Gzip];
        let codec = codecs[hands.rng.index(codecs.len())];
        let mut builder = BatchBuilder::new(codec).producer(BatchProducer {
            id: ProducerId(producer_id),
            epoch: ProducerEpoch(producer_epoch),
            base_sequence: sequence,
        });
        let timestamp = EPOCH_MS + (hands.now / MILLISECOND) as i64;
        let operation = OperationId { client: self.client, number: self.next_operation };
        self.next_operation += 1;
        let mut records = Vec::new();
        // The tail of the distribution is long, and a batch above the limit is rightly refused.
        let most = LARGEST_BATCH / count as u64;
        for nth in 0..count {
            let key = format!("{}-{}-{nth}", self.client, operation.number);
            let length = hands.rng.exponential(self.load.bytes).min(most) as usize;
            let mut value = vec![0; length];
            let fill = hands.rng.bits().to_be_bytes();
            for (at, byte) in value.iter_mut().enumerate() {
                *byte = fill[at % 8];
            }
            builder.push(timestamp, Some(key.as_bytes()), Some(&value), &[]);
            records.push(record_hash(timestamp, Some(key.as_bytes()), Some(&value)));
        }
        hands.tell(Fact::Invoked { operation, partition, records });
        let batch = Batch { operation, bytes: builder.build().to_bytes(), sent: false };
        let state = &mut self.partitions[chosen];
        state.next_sequence = (i64::from(sequence) + i64::from(count)) as i32 & i32::MAX;
        state.waiting.push_back(batch);
        state.last = None;
        self.sends_left -= 1;
        self.send_waiting(hands);
    }

    fn send_waiting(&mut self, hands: &mut Hands<'_>) {
        for chosen in 0..self.partitions.len() {
            if !self.reaches(hands, chosen) {
                continue;
            }
            for nth in 0..self.partitions[chosen].waiting.len() {
                if !self.partitions[chosen].waiting[nth].sent {
                    self.partitions[chosen].waiting[nth].sent = true;
                    let batch = self.partitions[chosen].waiting[nth].clone();
                    self.produce(hands, chosen, &batch, Why::Needed);
                }
            }
            // A late duplicate of what was acknowledged, as a network may deliver it.
            if let Some(last) = self.partitions[chosen].last.clone()
                && hands.rng.chance(20)
            {
                self.produce(hands, chosen, &last, Why::Again);
            }
        }
    }

    fn reaches(&mut self, hands: &mut Hands<'_>, chosen: usize) -> bool {
        let partitions = self.load.partitions as usize;
        let (topic, index) = (&self.load.topics[chosen / partitions], chosen % partitions);
        self.line.reaches(hands, topic, index as i32)
    }

    fn produce(&mut self, hands: &mut Hands<'_>, chosen: usize, batch: &Batch, why: Why) {
        let (topic, index) = self.topic_of(chosen);
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: KafkaString::from(topic),
                partition_data: vec![PartitionProduceData {
                    index,
                    records: Some(batch.bytes.clone()),
                }],
                ..TopicProduceData::default()
            }],
        };
        let about = About::Produce { place: chosen, operation: batch.operation, why };
        let place = (topic.to_owned(), index);
        self.line.send_to_leader(hands, (&place.0, place.1), &request, PRODUCE_VERSION, about);
    }

    /// Everything unacknowledged is to be sent again, in its order.
    fn send_again(&mut self) {
        for partition in &mut self.partitions {
            for batch in &mut partition.waiting {
                batch.sent = false;
            }
        }
    }

    /// What was under way on a connection that is lost is to be sent again.
    fn send_lost_again(&mut self, lost: &[About]) {
        for about in lost {
            if let About::Produce { place, operation, why: Why::Needed } = about {
                let waiting = &mut self.partitions[*place].waiting;
                let batch = waiting.iter_mut().find(|batch| batch.operation == *operation);
                if let Some(batch) = batch {
                    batch.sent = false;
                }
            }
        }
    }

    fn answer(&mut self, hands: &mut Hands<'_>, mut answer: Answer<About>) {
        match answer.about {
            About::Metadata => {
                let response: MetadataResponse = answer.body();
                self.knows_topics =
                    self.line.learn(hands, &self.shared, &response, &self.load.topics);
            }
            About::ProducerId => {
                let response: InitProducerIdResponse = answer.body();
                if response.error_code == 0 {
                    self.identity = Some((response.producer_id, response.producer_epoch));
                } else {
                    self.last_error = Some(("InitProducerId", response.error_code));
                    self.line.wander(hands);
                }
            }
            About::Produce { place, operation, why } => {
                let response: ProduceResponse = answer.body();
                let outcome = &response.responses[0].partition_responses[0];
                self.produced(
                    hands,
                    place,
                    operation,
                    why,
                    outcome.error_code,
                    outcome.base_offset,
                );
            }
        }
    }

    fn produced(
        &mut self,
        hands: &mut Hands<'_>,
        chosen: usize,
        operation: OperationId,
        why: Why,
        code: i16,
        base_offset: i64,
    ) {
        let code = ErrorCode::from_code(code).expect("a node answers with known codes");
        if code.is_none() {
            hands.tell(Fact::Acked { operation, base_offset });
            if why == Why::Late {
                return;
            }
            let state = &mut self.partitions[chosen];
            let Some(at) = state.waiting.iter().position(|batch| batch.operation == operation)
            else {
                return;
            };
            let acked = state.waiting.remove(at);
            state.in_epoch = true;
            state.last = if state.waiting.is_empty() { acked } else { None };
            return;
        }
        self.last_error = Some(("Produce", code.code()));
        match why {
            Why::Needed => {}
            Why::Again => {
                hands.tell(Fact::Judged { operation, code: code.code() });
                return;
            }
            Why::Late => {
                hands.tell(Fact::Fenced { operation });
                return;
            }
        }
        if self.finishing && self.load.gives_up {
            self.refusals += 1;
            if self.refusals > PATIENCE {
                hands.tell(Fact::Refused { operation, code: 0 });
                self.partitions[chosen] = Partition::default();
                return;
            }
        }
        if code == ErrorCode::UnknownTopicOrPartition {
            self.knows_topics = false;
        }
        self.line.leaders_changed();
        if code.is_retriable() || code == ErrorCode::OutOfOrderSequenceNumber {
            // One that failed for a passing reason takes those behind it along: begin anew.
            self.line.drop_stream(hands);
            self.send_again();
            return;
        }
        // Refused for good: its sequence was not used, so those behind it can only go under another
        // producer id. What becomes of them is not known.
        hands.tell(Fact::Refused { operation, code: code.code() });
        self.identity = None;
        for partition in &mut self.partitions {
            *partition = Partition::default();
        }
        self.line.drop_stream(hands);
    }
}

impl Actor for Producer {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        match event {
            ActorEvent::Wake => {}
            ActorEvent::Connected(stream) => self.line.connected(stream),
            ActorEvent::Received(stream, bytes) => {
                for answer in self.line.received(stream, &bytes) {
                    self.answer(hands, answer);
                }
            }
            ActorEvent::Disconnected(stream) => {
                let lost = self.line.disconnected(hands, stream);
                self.send_lost_again(&lost);
            }
            ActorEvent::Finish => self.finishing = true,
        }
        if self.line.in_flight() == 0 {
            // Nothing is under way, so nothing sent can still be answered.
            self.send_again();
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        if self.done {
            return None;
        }
        let waiting: BTreeMap<usize, usize> = self
            .partitions
            .iter()
            .enumerate()
            .filter(|(_, partition)| !partition.waiting.is_empty())
            .map(|(at, partition)| (at, partition.waiting.len()))
            .collect();
        Some(format!(
            "producer {} waits for batches of places {waiting:?}, knows its topics: {}, itself: {:?}, its \
             last error was {:?}",
            self.client, self.knows_topics, self.identity, self.last_error
        ))
    }
}
