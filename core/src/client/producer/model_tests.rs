//! The producer against a broker that loses connections and answers, and refuses at will.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::client::Link;
use crate::client::test_broker::{Asked, TOPIC_ID, TestBroker, network_config};
use crate::error::ErrorCode;
use crate::record::batch::Batch;
use crate::record::iterate::OpenBatch;
use crate::wire::Request;
use crate::wire::api::init_producer_id::InitProducerIdResponse;
use crate::wire::api::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};

const ORDERS: KafkaString = KafkaString::from_static("orders");
const PARTITIONS: i32 = 2;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A record for this partition is handed over.
    Send(i32),
    /// The broker takes its next request in as it should.
    Serve,
    /// The broker refuses it, and stores nothing.
    Refuse(ErrorCode),
    /// The broker stores what it can of it, and says that it may not have.
    Doubt(ErrorCode),
    /// The broker takes in so many requests of a connection, which then is lost with the answers.
    Lose(u8),
    /// Time passes, in milliseconds.
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..PARTITIONS).prop_map(Step::Send),
        6 => Just(Step::Serve),
        1 => prop_oneof![
            Just(ErrorCode::NotEnoughReplicas),
            Just(ErrorCode::NotLeaderOrFollower),
            Just(ErrorCode::InvalidRecord),
            Just(ErrorCode::MessageTooLarge),
        ].prop_map(Step::Refuse),
        1 => prop_oneof![
            Just(ErrorCode::RequestTimedOut),
            Just(ErrorCode::NotEnoughReplicasAfterAppend),
        ].prop_map(Step::Doubt),
        1 => (0_u8..4).prop_map(Step::Lose),
        2 => (0_u16..400).prop_map(Step::Pass),
    ]
}

/// What a broker remembers of a producer in a partition: its epoch, and the first and last sequence
/// and first offset of its last batches.
#[derive(Default, Debug)]
struct ProducerState {
    epoch: i16,
    batches: Vec<(i32, i32, i64)>,
}

/// A log with the rules of idempotence.
#[derive(Default, Debug)]
struct Log {
    values: Vec<u64>,
    producers: BTreeMap<i64, ProducerState>,
}

impl Log {
    fn append(&mut self, batch: &Batch) -> Result<i64, ErrorCode> {
        let (id, epoch) = (batch.producer_id().0, batch.producer_epoch().0);
        let (first, last) = (batch.base_sequence(), batch.last_sequence());
        if let Some(state) = self.producers.get(&id) {
            if epoch < state.epoch {
                return Err(ErrorCode::InvalidProducerEpoch);
            }
            if epoch == state.epoch {
                let recent = state.batches.iter().rev().take(5);
                if let Some((_, _, offset)) =
                    recent.into_iter().find(|(a, b, _)| (*a, *b) == (first, last))
                {
                    return Ok(*offset);
                }
                let expected = state.batches.last().map_or(0, |(_, last, _)| last + 1);
                if first != expected {
                    return Err(ErrorCode::OutOfOrderSequenceNumber);
                }
            } else if first != 0 {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
        }
        let offset = self.values.len() as i64;
        self.values.extend(values(batch));
        let state = self.producers.entry(id).or_default();
        if state.epoch != epoch {
            *state = ProducerState { epoch, batches: Vec::new() };
        }
        state.batches.push((first, last, offset));
        Ok(offset)
    }
}

/// The values of a batch, which are numbers in this test.
fn values(batch: &Batch) -> Vec<u64> {
    let open = OpenBatch::open(batch, 1 << 20).expect("readable");
    open.records()
        .map(|placed| {
            let value = placed.expect("a record").record.value.expect("a value");
            u64::from_be_bytes(value.try_into().expect("eight bytes"))
        })
        .collect()
}

struct World {
    producer: Producer,
    broker: TestBroker,
    logs: Vec<Log>,
    next_id: i64,
    next_value: u64,
    /// Value and partition of each record by its ticket.
    sent: BTreeMap<Ticket, (u64, i32)>,
    reported: BTreeMap<Ticket, Result<Option<Offset>, ClientError>>,
}

impl World {
    fn new() -> Self {
        let mut config = ProducerConfig::new(network_config());
        config.linger = Duration::from_millis(2);
        config.batch_bytes = 120;
        Self {
            producer: Producer::new(config),
            broker: TestBroker::new(&[("orders", PARTITIONS)]),
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            next_id: 70,
            next_value: 0,
            sent: BTreeMap::new(),
            reported: BTreeMap::new(),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send(partition) => {
                let record = NewRecord {
                    topic: ORDERS,
                    partition: Some(PartitionIndex(partition)),
                    value: Some(Bytes::copy_from_slice(&self.next_value.to_be_bytes())),
                    ..NewRecord::default()
                };
                let ticket = self.producer.send(self.broker.now, record).expect("room");
                self.sent.insert(ticket, (self.next_value, partition));
                self.next_value += 1;
            }
            Step::Serve => self.serve(None, None),
            Step::Refuse(error) => self.serve(Some(error), None),
            Step::Doubt(error) => self.serve(None, Some(error)),
            Step::Lose(taken) => self.lose(taken),
            Step::Pass(millis) => self.pass(Duration::from_millis(u64::from(millis))),
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            while let Some(effect) = self.producer.poll_effect() {
                self.broker.take(effect);
            }
            let Some(input) = self.broker.inputs.pop_front() else {
                break;
            };
            self.producer.handle(self.broker.now, input);
        }
        while let Some(delivery) = self.producer.poll_delivery() {
            let before = self.reported.insert(delivery.ticket, delivery.result);
            assert!(before.is_none(), "{:?} is reported once", delivery.ticket);
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.broker.now.mono + time;
        while let Some(at) = self.producer.next_deadline().filter(|at| *at <= until) {
            let step = at - self.broker.now.mono;
            // One waking at a moment that has passed would be one too many in a row.
            self.broker.pass(step.max(Duration::from_nanos(1)));
            self.producer.handle(self.broker.now, Input::Wakeup);
            self.settle();
        }
        let rest = until - self.broker.now.mono;
        self.broker.pass(rest);
    }

    fn serve(&mut self, refusal: Option<ErrorCode>, doubt: Option<ErrorCode>) {
        let Some(asked) = self.broker.asked.pop_front() else {
            return;
        };
        if matches!(asked.body, Request::InitProducerId(_)) {
            self.next_id += 1;
            let response =
                InitProducerIdResponse { producer_id: self.next_id, ..Default::default() };
            self.broker.answer(&asked, response);
        } else {
            let response = self.produce(&asked, refusal, doubt);
            self.broker.answer(&asked, response);
        }
    }

    fn produce(
        &mut self,
        asked: &Asked,
        refusal: Option<ErrorCode>,
        doubt: Option<ErrorCode>,
    ) -> ProduceResponse {
        let Request::Produce(request) = &asked.body else { panic!("{:?}", asked.body) };
        let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
        let answers = partitions.map(|data| {
            let mut records = data.records.clone().expect("records");
            let batch = Batch::split_from(&mut records).expect("a batch");
            let log = &mut self.logs[data.index as usize];
            let result = match refusal {
                Some(error) => Err(error),
                None => match (log.append(&batch), doubt) {
                    (Ok(_), Some(error)) => Err(error),
                    (result, _) => result,
                },
            };
            PartitionProduceResponse {
                index: data.index,
                error_code: result.err().map_or(0, ErrorCode::code),
                base_offset: result.unwrap_or(-1),
                ..PartitionProduceResponse::default()
            }
        });
        ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: ORDERS,
                topic_id: TOPIC_ID,
                partition_responses: answers.collect(),
            }],
            ..ProduceResponse::default()
        }
    }

    fn lose(&mut self, taken: u8) {
        let Some(link) = self.broker.asked.front().map(|asked| asked.link) else {
            return;
        };
        let (lost, kept): (Vec<Asked>, Vec<Asked>) =
            self.broker.asked.drain(..).partition(|asked| asked.link == link);
        self.broker.asked.extend(kept);
        for asked in lost.iter().take(usize::from(taken)) {
            if matches!(asked.body, Request::Produce(_)) {
                let _ = self.produce(asked, None, None);
            }
        }
        self.disconnect(link);
    }

    fn disconnect(&mut self, link: Link) {
        self.producer.handle(self.broker.now, Input::Disconnected(link));
    }

    /// The broker works from here on, until everything is reported.
    fn heal(&mut self) {
        self.settle();
        for _ in 0..10_000 {
            if self.producer.pending() == 0 {
                return;
            }
            while !self.broker.asked.is_empty() {
                self.serve(None, None);
                self.settle();
            }
            self.pass(Duration::from_millis(50));
        }
        panic!("{} records have no report", self.producer.pending());
    }

    fn check(&self) {
        assert_eq!(self.reported.len(), self.sent.len(), "every record is reported");
        for log in &self.logs {
            let ascends = log.values.is_sorted_by(|a, b| a < b);
            assert!(ascends, "in order and once: {:?}", log.values);
        }
        for (ticket, (value, partition)) in &self.sent {
            let log = &self.logs[*partition as usize];
            let stored = log.values.contains(value);
            match &self.reported[ticket] {
                Ok(Some(offset)) => assert_eq!(log.values[offset.0 as usize], *value),
                Ok(None) => assert!(stored, "{value} was said to be delivered"),
                Err(error) if error.is_refusal() => assert!(!stored, "{value}: {error}"),
                Err(ClientError::Unknown { .. }) => {}
                Err(error) => panic!("{value}: {error}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_reported_once_and_stored_at_most_once_and_in_order(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.heal();
        world.check();
    }
}
