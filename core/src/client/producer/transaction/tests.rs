//! A transactional producer against a broker whose answers are made by hand.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::client::Input;
use crate::client::producer::accumulator::Accumulator;
use crate::client::producer::accumulator::Ticket;
use crate::client::producer::{NewRecord, ProducerConfig, ValuesRef};
use crate::client::test_broker::{Asked, TOPIC_ID, TestBroker, network_config};
use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex};
use crate::record::batch::Batch;
use crate::wire::api::add_offsets_to_txn::AddOffsetsToTxnResponse;
use crate::wire::api::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponse, AddPartitionsToTxnTopicResult,
};
use crate::wire::api::end_txn::{EndTxnRequest, EndTxnResponse};
use crate::wire::api::find_coordinator::{Coordinator as Found, FindCoordinatorResponse};
use crate::wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::api::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use crate::wire::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use crate::wire::{ApiKey, Request};

mod errors;
mod life;
mod model;

const ORDERS: KafkaString = KafkaString::from_static("orders");
const FIRST: PartitionIndex = PartitionIndex(0);
const ID: KafkaString = KafkaString::from_static("payments");
const GROUP: KafkaString = KafkaString::from_static("readers");

struct World {
    producer: Producer,
    broker: TestBroker,
}

impl World {
    /// One that knows nothing, at brokers of this `transaction.version`.
    fn new(version: i16) -> Self {
        Self::speaking(VERSION, version)
    }

    /// One that speaks no newer kind of transactions.
    fn speaking(newest: i16, version: i16) -> Self {
        let mut config = ProducerConfig::new(network_config());
        config.linger = Duration::ZERO;
        config.batch_bytes = 1;
        config.transactional_id = Some(ID);
        config.transaction_timeout = Duration::from_secs(30);
        config.transaction_version = newest;
        let mut broker = TestBroker::new(&[("orders", 2)]);
        broker.transaction_version = (version, 1);
        Self { producer: Producer::new(config), broker }
    }

    /// One whose producer id is 70 in epoch 0.
    fn ready(version: i16) -> Self {
        Self::new(version).begun()
    }

    fn begun(self) -> Self {
        let mut world = self;
        world.producer.init_transactions(world.broker.now).expect("a new one");
        world.settle();
        world.find();
        world.give_id(70, 0);
        assert_eq!(world.event(), Some((Call::Init, Ok(()))));
        world
    }

    /// One with a transaction that the coordinator knows of, and nothing on its way.
    fn open(version: i16) -> Self {
        let mut world = Self::ready(version);
        world.producer.begin_transaction().expect("ready");
        let ticket = world.send("first");
        if version < 2 {
            world.add_partitions(ErrorCode::None);
        }
        world.produce(ErrorCode::None, 0);
        assert_eq!(world.deliveries(), [(ticket, Ok(Some(0)))]);
        world
    }

    fn settle(&mut self) {
        loop {
            while let Some(effect) = self.producer.poll_effect() {
                self.broker.take(effect);
            }
            let Some(input) = self.broker.inputs.pop_front() else {
                return;
            };
            self.producer.handle(self.broker.now, input);
        }
    }

    /// Lets time pass, waking the producer at each of its deadlines.
    fn pass(&mut self, millis: u64) {
        let until = self.broker.now.mono + Duration::from_millis(millis);
        while let Some(deadline) = self.producer.next_deadline().filter(|at| *at <= until) {
            assert!(deadline > self.broker.now.mono, "no deadline stands in the past");
            let step = deadline - self.broker.now.mono;
            self.broker.pass(step);
            self.producer.handle(self.broker.now, Input::Wakeup);
            self.settle();
        }
        let rest = until - self.broker.now.mono;
        self.broker.pass(rest);
    }

    /// Loses the connection of a request, whose answer never comes.
    fn lose(&mut self, asked: &Asked) {
        let link = asked.link;
        self.broker.asked.retain(|other| other.link != link);
        self.producer.handle(self.broker.now, Input::Disconnected(link));
        self.settle();
    }

    fn send(&mut self, value: &'static str) -> Ticket {
        self.send_to(FIRST, value)
    }

    fn send_to(&mut self, partition: PartitionIndex, value: &'static str) -> Ticket {
        let record = NewRecord {
            topic: ORDERS,
            partition: Some(partition),
            value: Some(Bytes::from_static(value.as_bytes())),
            ..NewRecord::default()
        };
        let ticket = self.producer.send(self.broker.now, record).expect("room");
        self.settle();
        ticket
    }

    fn send_offsets(&mut self, offsets: &[(i32, i64)]) -> Result<(), TransactionError> {
        let place = |partition: i32| (ORDERS, PartitionIndex(partition));
        let offsets =
            offsets.iter().map(|(at, offset)| (place(*at), Offset(*offset).into())).collect();
        let sent = self.producer.send_offsets(self.broker.now, member(), offsets);
        self.settle();
        sent
    }

    fn commit(&mut self) -> Result<(), TransactionError> {
        let result = self.producer.commit_transaction(self.broker.now);
        self.settle();
        result
    }

    fn abort(&mut self) -> Result<(), TransactionError> {
        let result = self.producer.abort_transaction(self.broker.now);
        self.settle();
        result
    }

    fn event(&mut self) -> Option<(Call, Result<(), TransactionError>)> {
        self.producer.poll_transaction().map(|event| (event.call, event.result))
    }

    fn deliveries(&mut self) -> Vec<(Ticket, Result<Option<i64>, ClientError>)> {
        std::iter::from_fn(|| self.producer.poll_delivery())
            .map(|delivery| {
                (delivery.ticket, delivery.result.map(|offset| offset.map(|offset| offset.0)))
            })
            .collect()
    }

    /// The key of the next question for a coordinator, which is answered: this broker.
    fn find(&mut self) -> (KafkaString, i8) {
        self.find_at(1)
    }

    /// As [`find`](Self::find), answered with another broker.
    fn find_at(&mut self, node_id: i32) -> (KafkaString, i8) {
        let asked = self.broker.next();
        let Request::FindCoordinator(request) = &asked.body else { panic!("{:?}", asked.body) };
        let found = (request.coordinator_keys[0].clone(), request.key_type);
        let coordinator = Found { key: found.0.clone(), node_id, ..Found::default() };
        let response =
            FindCoordinatorResponse { coordinators: vec![coordinator], ..Default::default() };
        self.broker.answer(&asked, response);
        self.settle();
        found
    }

    fn give_id(&mut self, producer_id: i64, producer_epoch: i16) -> InitProducerIdRequest {
        let asked = self.broker.next();
        let Request::InitProducerId(request) = asked.body.clone() else {
            panic!("{:?}", asked.body)
        };
        let response = InitProducerIdResponse { producer_id, producer_epoch, ..Default::default() };
        self.broker.answer(&asked, response);
        self.settle();
        request
    }

    /// Answers the next question, which is to take partitions in; returns them.
    fn add_partitions(&mut self, error: ErrorCode) -> Vec<i32> {
        let asked = self.broker.next();
        self.answer_partitions(&asked, error)
    }

    fn answer_partitions(&mut self, asked: &Asked, error: ErrorCode) -> Vec<i32> {
        let Request::AddPartitionsToTxn(request) = &asked.body else { panic!("{:?}", asked.body) };
        assert!(asked.version <= 3, "later versions are for brokers");
        assert_eq!(request.v3_and_below_transactional_id, ID);
        let partitions = request.v3_and_below_topics[0].partitions.clone();
        let results = partitions.iter().map(|index| AddPartitionsToTxnPartitionResult {
            partition_index: *index,
            partition_error_code: error.code(),
        });
        let topic =
            AddPartitionsToTxnTopicResult { name: ORDERS, results_by_partition: results.collect() };
        let response = AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: vec![topic],
            ..Default::default()
        };
        self.broker.answer(asked, response);
        self.settle();
        partitions
    }

    fn add_offsets(&mut self, error: ErrorCode) {
        let asked = self.broker.next();
        let Request::AddOffsetsToTxn(request) = &asked.body else { panic!("{:?}", asked.body) };
        assert_eq!((&request.transactional_id, &request.group_id), (&ID, &GROUP));
        let response = AddOffsetsToTxnResponse { error_code: error.code(), ..Default::default() };
        self.broker.answer(&asked, response);
        self.settle();
    }

    /// Answers the next request to stage offsets: each partition with what `code` says of it.
    fn stage(&mut self, code: impl Fn(i32) -> ErrorCode) -> (i16, TxnOffsetCommitRequest) {
        let asked = self.broker.next();
        let Request::TxnOffsetCommit(request) = asked.body.clone() else {
            panic!("{:?}", asked.body)
        };
        let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|one| TxnOffsetCommitResponsePartition {
                    partition_index: one.partition_index,
                    error_code: code(one.partition_index).code(),
                })
                .collect(),
        });
        let response = TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() };
        self.broker.answer(&asked, response);
        self.settle();
        (asked.version, request)
    }

    /// Answers the next Produce request, and returns its version and its batch.
    fn produce(&mut self, error: ErrorCode, base_offset: i64) -> (i16, Batch) {
        let asked = self.broker.next();
        let batch = only_batch(&asked);
        self.answer_produce(&asked, error, base_offset);
        (asked.version, batch)
    }

    fn answer_produce(&mut self, asked: &Asked, error: ErrorCode, base_offset: i64) {
        let Request::Produce(request) = &asked.body else { panic!("{:?}", asked.body) };
        let index = request.topic_data[0].partition_data[0].index;
        let response = ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: ORDERS,
                topic_id: TOPIC_ID,
                partition_responses: vec![PartitionProduceResponse {
                    index,
                    error_code: error.code(),
                    base_offset,
                    ..PartitionProduceResponse::default()
                }],
            }],
            ..ProduceResponse::default()
        };
        self.broker.answer(asked, response);
        self.settle();
    }

    /// Answers the next question to end the transaction; the epoch that comes after it is given as from
    /// `transaction.version` 2 on.
    fn end(&mut self, error: ErrorCode, next: Option<(i64, i16)>) -> (i16, EndTxnRequest) {
        let asked = self.broker.next();
        let Request::EndTxn(request) = asked.body.clone() else { panic!("{:?}", asked.body) };
        assert_eq!(request.transactional_id, ID);
        let (producer_id, producer_epoch) = next.unwrap_or((-1, -1));
        let response = EndTxnResponse {
            error_code: error.code(),
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        self.broker.answer(&asked, response);
        self.settle();
        (asked.version, request)
    }

    /// What the next request is for.
    fn next_key(&self) -> Option<ApiKey> {
        self.broker.asked.front().map(|asked| asked.body.api_key())
    }
}

fn member() -> GroupMember {
    GroupMember {
        group_id: GROUP,
        generation_id: 4,
        member_id: KafkaString::from_static("m-1"),
        group_instance_id: Some(KafkaString::from_static("i")),
    }
}

/// The batch of a Produce request, which speaks for the transactional id.
fn only_batch(asked: &Asked) -> Batch {
    let Request::Produce(request) = &asked.body else { panic!("{:?}", asked.body) };
    assert_eq!(request.transactional_id, Some(ID));
    assert_eq!((request.topic_data.len(), request.topic_data[0].partition_data.len()), (1, 1));
    let mut records = request.topic_data[0].partition_data[0].records.clone().expect("records");
    let batch = Batch::split_from(&mut records).expect("a batch");
    assert!(batch.is_transactional() && batch.crc_is_valid());
    batch
}

/// Producer id, epoch and base sequence of a batch.
fn identity(batch: &Batch) -> (i64, i16, i32) {
    (batch.producer_id().0, batch.producer_epoch().0, batch.base_sequence())
}

fn of_end(request: &EndTxnRequest) -> (i64, i16, bool) {
    (request.producer_id, request.producer_epoch, request.committed)
}
