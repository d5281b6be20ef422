//! The producer against a broker whose answers are made by hand.

use super::*;
use crate::client::test_broker::{Asked, TOPIC_ID, TestBroker, network_config};
use crate::error::ErrorCode;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::record::batch::Batch;
use crate::record::iterate::OpenBatch;
use crate::wire::Request;
use crate::wire::api::init_producer_id::InitProducerIdResponse;
use crate::wire::api::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};

const ORDERS: KafkaString = KafkaString::from_static("orders");
const FIRST: PartitionIndex = PartitionIndex(0);

/// A producer that batches nothing together unless it must, and its broker.
struct World {
    producer: Producer,
    broker: TestBroker,
}

impl World {
    fn new(change: impl FnOnce(&mut ProducerConfig)) -> Self {
        let mut config = ProducerConfig::new(network_config());
        config.linger = Duration::ZERO;
        config.batch_bytes = 1;
        change(&mut config);
        let broker = TestBroker::new(&[("orders", 1), ("pair", 2)]);
        Self { producer: Producer::new(config), broker }
    }

    /// One whose producer id is 70.
    fn ready() -> Self {
        let mut world = Self::new(|_| {});
        world.warm_up(70);
        world
    }

    fn warm_up(&mut self, id: i64) {
        let ticket = self.send("warm up");
        self.give_id(id);
        self.accept(0);
        assert_eq!(self.deliveries(), [(ticket, Ok(Some(0)))]);
    }

    fn warm_up_with_linger(&mut self, id: i64) {
        self.send("warm up");
        self.producer.flush(self.broker.now);
        self.settle();
        self.give_id(id);
        self.accept(0);
        assert_eq!(self.deliveries().len(), 1);
    }

    fn send(&mut self, value: &'static str) -> Ticket {
        self.send_to(Some(FIRST), None, value)
    }

    fn send_to(
        &mut self,
        partition: Option<PartitionIndex>,
        key: Option<&'static str>,
        value: &'static str,
    ) -> Ticket {
        let record = NewRecord {
            topic: ORDERS,
            partition,
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: Some(Bytes::from_static(value.as_bytes())),
            ..NewRecord::default()
        };
        let ticket = self.producer.send(self.broker.now, record).expect("room");
        self.settle();
        ticket
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
    fn pass(&mut self, time: Duration) {
        let until = self.broker.now.mono + time;
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

    fn give_id(&mut self, id: i64) {
        let asked = self.broker.next();
        assert!(matches!(asked.body, Request::InitProducerId(_)), "{:?}", asked.body);
        let response =
            InitProducerIdResponse { producer_id: id, producer_epoch: 0, ..Default::default() };
        self.broker.answer(&asked, response);
        self.settle();
    }

    /// The only batch of the next Produce request.
    fn next_batch(&mut self) -> (Asked, Batch) {
        let asked = self.broker.next();
        let batch = only_batch(&asked);
        assert!(batch.crc_is_valid());
        (asked, batch)
    }

    fn answer(&mut self, asked: &Asked, error: ErrorCode, base_offset: i64) {
        self.answer_in_words(asked, error, base_offset, None);
    }

    fn answer_in_words(
        &mut self,
        asked: &Asked,
        error: ErrorCode,
        base_offset: i64,
        words: Option<&str>,
    ) {
        let response = ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: ORDERS,
                topic_id: TOPIC_ID,
                partition_responses: vec![PartitionProduceResponse {
                    error_code: error.code(),
                    base_offset,
                    error_message: words.map(KafkaString::from),
                    ..PartitionProduceResponse::default()
                }],
            }],
            ..ProduceResponse::default()
        };
        self.broker.answer(asked, response);
        self.settle();
    }

    fn accept(&mut self, base_offset: i64) {
        let asked = self.broker.next();
        self.answer(&asked, ErrorCode::None, base_offset);
    }

    /// Refuses every attempt with these words until nothing is pending, and returns how many.
    fn refuse_all(&mut self, error: ErrorCode, words: &str) -> usize {
        let mut refused = 0;
        while self.producer.pending() > 0 {
            while !self.broker.asked.is_empty() {
                let asked = self.broker.next();
                self.answer_in_words(&asked, error, -1, Some(words));
                refused += 1;
            }
            self.pass(Duration::from_millis(100));
        }
        refused
    }

    fn deliveries(&mut self) -> Vec<(Ticket, Result<Option<i64>, ClientError>)> {
        std::iter::from_fn(|| self.producer.poll_delivery())
            .map(|delivery| {
                (delivery.ticket, delivery.result.map(|offset| offset.map(|offset| offset.0)))
            })
            .collect()
    }
}

fn only_batch(asked: &Asked) -> Batch {
    let Request::Produce(request) = &asked.body else { panic!("{:?}", asked.body) };
    assert_eq!((request.topic_data.len(), request.topic_data[0].partition_data.len()), (1, 1));
    let mut records = request.topic_data[0].partition_data[0].records.clone().expect("records");
    let batch = Batch::split_from(&mut records).expect("a batch");
    assert!(records.is_empty(), "exactly one batch");
    batch
}

/// Producer id, epoch and base sequence of a batch.
fn identity(batch: &Batch) -> (i64, i16, i32) {
    (batch.producer_id().0, batch.producer_epoch().0, batch.base_sequence())
}

fn values(batch: &Batch) -> Vec<String> {
    let open = OpenBatch::open(batch, 1 << 20).expect("readable");
    open.records()
        .map(|placed| {
            let value = placed.expect("a record").record.value.expect("a value");
            String::from_utf8(value.to_vec()).expect("text")
        })
        .collect()
}

#[test]
fn nothing_is_connected_to_before_the_first_record() {
    let mut world = World::new(|_| {});
    assert_eq!(world.producer.next_deadline(), None);
    assert_eq!(world.producer.poll_effect(), None);
}

#[test]
fn records_are_sent_under_a_producer_id_with_rising_sequences() {
    let mut world = World::ready();
    let tickets = [world.send("a"), world.send("b")];

    for (sequence, value) in [(1, "a"), (2, "b")] {
        let (asked, batch) = world.next_batch();
        assert_eq!(batch.producer_id(), ProducerId(70));
        assert_eq!(batch.producer_epoch(), ProducerEpoch(0));
        assert_eq!(batch.base_sequence(), sequence);
        assert_eq!(values(&batch), [value]);
        world.answer(&asked, ErrorCode::None, i64::from(sequence) + 100);
    }

    assert_eq!(world.deliveries(), [(tickets[0], Ok(Some(101))), (tickets[1], Ok(Some(102)))]);
    assert_eq!(world.producer.pending(), 0);
}

#[test]
fn records_within_the_linger_share_a_batch_and_get_offsets_one_after_the_other() {
    let mut world = World::new(|config| {
        config.linger = Duration::from_millis(5);
        config.batch_bytes = 16 << 10;
    });
    let tickets = [world.send("a"), world.send("b"), world.send("c")];
    world.give_id(70);
    assert!(world.broker.asked.is_empty(), "the batch waits");

    world.pass(Duration::from_millis(5));

    let (asked, batch) = world.next_batch();
    assert_eq!(values(&batch), ["a", "b", "c"]);
    world.answer(&asked, ErrorCode::None, 10);
    let delivered: Vec<_> =
        tickets.into_iter().zip([Ok(Some(10)), Ok(Some(11)), Ok(Some(12))]).collect();
    assert_eq!(world.deliveries(), delivered);
}

#[test]
fn a_flush_does_not_wait_for_the_linger() {
    let mut world = World::new(|config| {
        config.linger = Duration::from_mins(1);
        config.batch_bytes = 16 << 10;
    });
    world.send("a");
    world.give_id(70);
    world.producer.flush(world.broker.now);
    world.settle();
    assert_eq!(values(&world.next_batch().1), ["a"]);
}

#[test]
fn no_more_than_five_batches_of_a_partition_are_on_their_way() {
    let mut world = World::ready();
    for value in ["a", "b", "c", "d", "e", "f", "g"] {
        world.send(value);
    }
    assert_eq!(world.broker.asked.len(), 5);
    world.accept(1);
    assert_eq!(world.broker.asked.len(), 5);
}

#[test]
fn batches_whose_connection_is_lost_are_sent_again_in_order_under_their_old_sequences() {
    let mut world = World::ready();
    let tickets = [world.send("a"), world.send("b"), world.send("c")];
    let link = world.broker.asked[0].link;
    world.broker.asked.clear();

    world.producer.handle(world.broker.now, Input::Disconnected(link));
    world.settle();
    world.pass(Duration::from_secs(1));

    for (sequence, value) in [(1, "a"), (2, "b"), (3, "c")] {
        let (asked, batch) = world.next_batch();
        assert_eq!((batch.producer_id(), batch.base_sequence()), (ProducerId(70), sequence));
        assert_eq!(values(&batch), [value]);
        world.answer(&asked, ErrorCode::None, i64::from(sequence));
    }
    let delivered: Vec<_> =
        tickets.into_iter().zip([Ok(Some(1)), Ok(Some(2)), Ok(Some(3))]).collect();
    assert_eq!(world.deliveries(), delivered);
}

#[test]
fn a_batch_behind_a_refused_one_is_sent_again_after_it_and_keeps_its_sequence() {
    let mut world = World::ready();
    world.send("a");
    world.send("b");
    let first = world.broker.next();
    let second = world.broker.next();
    world.answer(&first, ErrorCode::NotEnoughReplicas, -1);
    world.answer(&second, ErrorCode::OutOfOrderSequenceNumber, -1);
    assert!(world.broker.asked.is_empty(), "both wait for the pause");

    world.pass(Duration::from_millis(200));

    let (asked, batch) = world.next_batch();
    assert_eq!((values(&batch), batch.base_sequence()), (vec!["a".to_owned()], 1));
    world.answer(&asked, ErrorCode::None, 1);
    let (_, batch) = world.next_batch();
    assert_eq!((values(&batch), batch.base_sequence()), (vec!["b".to_owned()], 2));
}

#[test]
fn a_refusal_that_comes_after_what_it_spoke_of_was_settled_elsewhere_is_no_loss() {
    let mut world = World::ready();
    world.send("a");
    let second = world.send("b");
    let asked_first = world.broker.next();
    let asked_second = world.broker.next();
    world.answer(&asked_first, ErrorCode::NotEnoughReplicas, -1);
    world.pass(Duration::from_millis(200));
    let (again, _) = world.next_batch();
    world.answer(&again, ErrorCode::None, 1);

    // A broker that stood still answers only now, by what it held before.
    world.answer(&asked_second, ErrorCode::OutOfOrderSequenceNumber, -1);
    world.pass(Duration::from_millis(200));

    let (asked, batch) = world.next_batch();
    assert_eq!((values(&batch), identity(&batch)), (vec!["b".to_owned()], (70, 0, 2)));
    world.answer(&asked, ErrorCode::None, 2);
    assert!(world.deliveries().contains(&(second, Ok(Some(2)))));
}

#[test]
fn a_sequence_that_the_broker_has_lost_fails_its_batch_and_the_next_epoch_begins() {
    let mut world = World::ready();
    let lost = world.send("a");
    let asked = world.broker.next();
    world.answer(&asked, ErrorCode::OutOfOrderSequenceNumber, -1);
    let error = ClientError::Broker(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(world.deliveries(), [(lost, Err(error))]);

    world.send("b");

    assert_eq!(identity(&world.next_batch().1), (70, 1, 0));
}

#[test]
fn after_a_refusal_what_follows_gets_sequences_of_the_next_epoch_and_stays_in_order() {
    let mut world = World::ready();
    let refused = world.send("a");
    let follower = world.send("b");
    let first = world.broker.next();
    let second = world.broker.next();
    world.answer(&first, ErrorCode::InvalidRecord, -1);
    // Its sequence has a gap before it, so the broker refuses it; it was certainly not stored.
    world.answer(&second, ErrorCode::OutOfOrderSequenceNumber, -1);
    let error = ClientError::Broker(ErrorCode::InvalidRecord);
    assert_eq!(world.deliveries(), [(refused, Err(error))]);
    world.pass(Duration::from_millis(200));

    let (asked, batch) = world.next_batch();
    assert_eq!((values(&batch), identity(&batch)), (vec!["b".to_owned()], (70, 1, 0)));
    world.answer(&asked, ErrorCode::None, 1);
    assert_eq!(world.deliveries(), [(follower, Ok(Some(1)))]);
}

#[test]
fn a_batch_that_may_be_stored_is_never_sent_under_a_second_sequence() {
    let mut world = World::ready();
    let refused = world.send("a");
    let doubtful = world.send("b");
    let link = world.broker.asked[0].link;
    world.broker.asked.clear();
    // Both may have been stored before the connection was lost.
    world.producer.handle(world.broker.now, Input::Disconnected(link));
    world.settle();
    world.pass(Duration::from_secs(1));

    let first = world.broker.next();
    let second = world.broker.next();
    world.answer(&first, ErrorCode::InvalidRecord, -1);
    world.answer(&second, ErrorCode::OutOfOrderSequenceNumber, -1);
    world.pass(Duration::from_secs(1));

    // The refusal, too, speaks of the second attempt alone.
    let unknown = |code| Err(ClientError::Unknown { last: Some(ClientError::Broker(code).into()) });
    let delivered = [
        (refused, unknown(ErrorCode::InvalidRecord)),
        (doubtful, unknown(ErrorCode::OutOfOrderSequenceNumber)),
    ];
    assert_eq!(world.deliveries(), delivered);
    assert!(world.broker.asked.is_empty());
}

#[test]
fn a_batch_that_is_too_large_is_halved_under_the_same_sequences() {
    let mut world = World::new(|config| {
        config.linger = Duration::from_millis(5);
        config.batch_bytes = 16 << 10;
    });
    let tickets = [world.send("a"), world.send("b"), world.send("c")];
    world.give_id(70);
    world.pass(Duration::from_millis(5));
    let asked = world.broker.next();
    world.answer(&asked, ErrorCode::MessageTooLarge, -1);

    let (first, batch) = world.next_batch();
    assert_eq!((values(&batch), batch.base_sequence()), (vec!["a".to_owned()], 0));
    let (second, batch) = world.next_batch();
    assert_eq!(values(&batch), ["b", "c"]);
    assert_eq!(batch.base_sequence(), 1);
    world.answer(&first, ErrorCode::None, 5);
    world.answer(&second, ErrorCode::None, 6);
    let delivered: Vec<_> =
        tickets.into_iter().zip([Ok(Some(5)), Ok(Some(6)), Ok(Some(7))]).collect();
    assert_eq!(world.deliveries(), delivered);
}

#[test]
fn a_record_that_is_too_large_alone_is_reported_and_holds_nothing_up() {
    let mut world = World::ready();
    let ticket = world.send("a");
    let asked = world.broker.next();
    world.answer(&asked, ErrorCode::MessageTooLarge, -1);
    let error = ClientError::Broker(ErrorCode::MessageTooLarge);
    assert_eq!(world.deliveries(), [(ticket, Err(error))]);
    world.send("b");
    let (_, batch) = world.next_batch();
    assert_eq!((values(&batch), identity(&batch)), (vec!["b".to_owned()], (70, 1, 0)));
}

#[test]
fn a_record_fails_at_its_delivery_timeout_when_no_broker_is_there() {
    let mut world = World::new(|config| config.delivery_timeout = Duration::from_secs(3));
    world.broker.up = false;
    let ticket = world.send("a");
    let keyed = world.send_to(None, Some("k"), "b");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.deliveries(), []);

    world.pass(Duration::from_secs(2));

    let delivered = [(ticket, Err(ClientError::TimedOut)), (keyed, Err(ClientError::TimedOut))];
    assert_eq!(world.deliveries(), delivered);
    assert_eq!(world.producer.pending(), 0);
}

#[test]
fn a_record_that_may_be_stored_says_so_when_its_time_is_over() {
    let mut world = World::ready();
    let ticket = world.send("a");
    let asked = world.broker.next();
    world.answer(&asked, ErrorCode::NotEnoughReplicasAfterAppend, -1);
    world.broker.up = false;
    world.producer.handle(world.broker.now, Input::Disconnected(asked.link));
    world.pass(Duration::from_secs(121));
    let last = Some(ClientError::Broker(ErrorCode::NotEnoughReplicasAfterAppend).into());
    assert_eq!(world.deliveries(), [(ticket, Err(ClientError::Unknown { last }))]);

    // What comes later must not rest on a sequence that may be missing.
    world.broker.up = true;
    world.send("b");
    world.pass(Duration::from_secs(3));
    assert_eq!(identity(&world.next_batch().1), (70, 1, 0));
}

#[test]
fn a_full_buffer_gives_the_record_back_and_takes_it_once_there_is_room() {
    let record = NewRecord { topic: ORDERS, partition: Some(FIRST), ..NewRecord::default() };
    let room_for_two = 2 * record.size();
    let mut world = World::new(|config| config.buffer_bytes = room_for_two);
    for _ in 0..2 {
        assert!(world.producer.send(world.broker.now, record.clone()).is_ok());
    }
    let full = world.producer.send(world.broker.now, record.clone()).expect_err("no room");
    assert_eq!(*full.record, record);

    world.settle();
    world.give_id(70);
    world.accept(0);
    assert!(world.producer.send(world.broker.now, *full.record).is_ok());
}

#[test]
fn without_acknowledgements_a_record_is_delivered_once_it_is_sent() {
    let mut world = World::new(|config| {
        config.acks = Acks::None;
        config.idempotence = false;
    });
    let ticket = world.send("a");
    let (_, batch) = world.next_batch();
    assert_eq!((batch.producer_id(), batch.base_sequence()), (ProducerId::NONE, -1));
    assert_eq!(world.deliveries(), [(ticket, Ok(None))]);
}

#[test]
fn without_idempotence_one_batch_of_a_partition_is_on_its_way_at_a_time() {
    let mut world = World::new(|config| {
        config.acks = Acks::Leader;
        config.idempotence = false;
    });
    world.send("a");
    world.send("b");
    assert_eq!(world.broker.asked.len(), 1);
    world.accept(0);
    assert_eq!(world.broker.asked.len(), 1);
}

#[test]
fn records_wait_for_a_topic_that_is_in_the_making() {
    let mut world = World::new(|_| {});
    world.broker.topics.clear();
    let ticket = world.send_to(None, None, "a");
    world.give_id(70);
    world.pass(Duration::from_millis(500));
    assert_eq!((world.deliveries(), world.broker.asked.len()), (vec![], 0));

    world.broker.topics.insert("orders", 1);
    world.pass(Duration::from_millis(500));

    world.accept(3);
    assert_eq!(world.deliveries(), [(ticket, Ok(Some(3)))]);
}

#[test]
fn a_record_for_a_partition_that_its_topic_does_not_have_fails_once_the_brokers_have_said_so() {
    let mut world = World::ready();
    let ticket = world.send_to(Some(PartitionIndex(7)), None, "a");
    assert_eq!(world.deliveries(), []);

    world.pass(Duration::from_secs(5));

    assert_eq!(world.deliveries(), [(ticket, Err(ClientError::NoPartition(1)))]);
    let next = world.send("b");
    world.accept(1);
    assert_eq!(world.deliveries(), [(next, Ok(Some(1)))]);
}

#[test]
fn a_record_waits_for_a_partition_that_was_added_a_moment_ago() {
    let mut world = World::ready();
    world.send_to(Some(PartitionIndex(7)), None, "a");
    world.pass(Duration::from_millis(150));
    world.broker.topics.insert("orders", 8);

    world.pass(Duration::from_secs(1));

    let Request::Produce(asked) = world.broker.next().body else { panic!("a batch") };
    assert_eq!(asked.topic_data[0].partition_data[0].index, 7);
    assert_eq!(world.deliveries(), []);
}

#[test]
fn a_topic_that_is_not_there_is_told_once_and_its_records_fail_as_what_they_are() {
    let mut world = World::new(|config| config.delivery_timeout = Duration::from_secs(20));
    world.broker.topics.clear();
    let ticket = world.send_to(None, None, "a");
    world.give_id(70);
    assert_eq!(world.producer.take_warnings(), Vec::<String>::new());

    world.pass(Duration::from_secs(21));

    let told = "there is no topic orders; asking for it again by itself";
    assert_eq!(world.producer.take_warnings(), [told]);
    let error = ClientError::Broker(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(world.deliveries(), [(ticket, Err(error))]);
}

#[test]
fn an_id_that_the_broker_does_not_take_is_exchanged_and_nothing_is_lost() {
    let mut world = World::ready();
    let ticket = world.send("a");
    let asked = world.broker.next();
    world.answer(&asked, ErrorCode::InvalidProducerEpoch, -1);
    world.give_id(71);
    world.pass(Duration::from_millis(200));

    let (asked, batch) = world.next_batch();
    assert_eq!(identity(&batch), (71, 0, 0));
    world.answer(&asked, ErrorCode::None, 1);
    assert_eq!(world.deliveries(), [(ticket, Ok(Some(1)))]);
}

#[test]
fn what_may_be_stored_stays_unknown_where_no_other_id_is_given_out() {
    let mut world = World::ready();
    let sent = world.send("sent");
    let (asked, _) = world.next_batch();
    world.producer.handle(world.broker.now, Input::Disconnected(asked.link));
    world.settle();
    world.pass(Duration::from_secs(1));
    let (asked, _) = world.next_batch();
    let refused_twice = world.send("refused twice");
    let (second, _) = world.next_batch();
    world.answer(&asked, ErrorCode::InvalidProducerEpoch, -1);
    world.answer(&second, ErrorCode::InvalidProducerEpoch, -1);
    world.pass(Duration::from_secs(1));
    let asked = world.broker.next();
    assert!(matches!(asked.body, Request::InitProducerId(_)), "{:?}", asked.body);

    let refused = ErrorCode::ClusterAuthorizationFailed;
    let response = InitProducerIdResponse { error_code: refused.code(), ..Default::default() };
    world.broker.answer(&asked, response);
    world.settle();

    let last = ClientError::Broker(ErrorCode::InvalidProducerEpoch);
    let unknown = ClientError::Unknown { last: Some(std::sync::Arc::new(last)) };
    assert_eq!(
        world.deliveries(),
        [(sent, Err(unknown)), (refused_twice, Err(ClientError::Broker(refused)))]
    );
}

#[test]
fn the_second_batch_of_a_partition_waits_until_the_broker_knows_the_first() {
    // A broker without state takes any sequence for the first: were the first batch refused, a
    // second one on its way would be stored before it.
    let mut world = World::new(|_| {});
    world.send("a");
    world.send("b");
    world.give_id(70);
    assert_eq!(world.broker.asked.len(), 1);
    let (asked, _) = world.next_batch();
    world.answer(&asked, ErrorCode::NotEnoughReplicas, -1);
    world.pass(Duration::from_millis(200));
    let (asked, batch) = world.next_batch();
    assert_eq!((values(&batch), identity(&batch)), (vec!["a".to_owned()], (70, 0, 0)));
    world.answer(&asked, ErrorCode::None, 0);
    assert_eq!(values(&world.next_batch().1), ["b"]);
}

#[test]
fn a_record_taken_after_a_halving_does_not_join_a_half_while_others_are_on_their_way() {
    let mut world = World::new(|config| {
        config.linger = Duration::from_millis(5);
        config.batch_bytes = 16 << 10;
    });
    world.send("warm up");
    world.give_id(70);
    world.pass(Duration::from_millis(5));
    world.accept(0);
    world.send("a");
    world.send("b");
    world.pass(Duration::from_millis(5));
    world.send("c");
    world.pass(Duration::from_millis(5));
    let too_large = world.broker.next();
    let (_, on_its_way) = world.next_batch();
    assert_eq!(values(&on_its_way), ["c"]);

    world.answer(&too_large, ErrorCode::MessageTooLarge, -1);
    world.send("d");
    world.pass(Duration::from_millis(5));

    let sent: Vec<_> = (0..3).map(|_| values(&world.next_batch().1)).collect();
    assert_eq!(sent, [["a"], ["b"], ["d"]]);
}

#[test]
fn a_record_whose_every_attempt_was_refused_ends_as_the_last_refusal_in_the_brokers_words() {
    let mut world = World::ready();
    let ticket = world.send("a");
    let asked = world.broker.next();
    world.answer_in_words(&asked, ErrorCode::NotEnoughReplicas, -1, Some("one of two is back"));

    let refused = world.refuse_all(ErrorCode::NotEnoughReplicas, "one replica of two is there");

    assert!(refused > 1, "it was tried again until its time was over");
    let error = ClientError::Refused {
        code: ErrorCode::NotEnoughReplicas,
        message: "one replica of two is there".into(),
    };
    assert!(error.is_refusal());
    assert_eq!(error.to_string(), "NOT_ENOUGH_REPLICAS (19): one replica of two is there");
    assert_eq!(world.deliveries(), [(ticket, Err(error))]);
}

#[test]
fn a_refusal_that_is_final_carries_the_brokers_words_at_once() {
    let mut world = World::ready();
    let ticket = world.send("a");
    let asked = world.broker.next();
    world.answer_in_words(&asked, ErrorCode::InvalidRecord, -1, Some("it has no key"));
    let error =
        ClientError::Refused { code: ErrorCode::InvalidRecord, message: "it has no key".into() };
    assert_eq!(world.deliveries(), [(ticket, Err(error))]);
}

#[test]
fn a_record_with_one_unanswered_attempt_stays_unknown_and_tells_the_brokers_last_words() {
    let mut world = World::ready();
    let ticket = world.send("a");
    let asked = world.broker.next();
    world.producer.handle(world.broker.now, Input::Disconnected(asked.link));
    world.settle();

    world.refuse_all(ErrorCode::NotEnoughReplicas, "one replica of two is there");

    let [(reported, Err(error))] = &world.deliveries()[..] else { panic!("one failure") };
    assert_eq!(*reported, ticket);
    assert!(matches!(error, ClientError::Unknown { .. }), "{error:?}");
    assert!(error.to_string().ends_with("NOT_ENOUGH_REPLICAS (19): one replica of two is there"));
}

#[test]
fn a_disk_error_leaves_a_record_unknown_and_its_words_are_told() {
    let mut world = World::ready();
    world.send("a");

    world.refuse_all(ErrorCode::KafkaStorageError, "3 bytes are free");

    let [(_, Err(error))] = &world.deliveries()[..] else { panic!("one failure") };
    assert!(matches!(error, ClientError::Unknown { .. }), "{error:?}");
    assert!(error.to_string().ends_with("KAFKA_STORAGE_ERROR (56): 3 bytes are free"), "{error}");
}

#[test]
fn that_a_batch_came_too_early_does_not_hide_what_the_broker_said_before() {
    let mut world = World::ready();
    world.send("a");
    let follower = world.send("b");
    let first = world.broker.next();
    let second = world.broker.next();
    world.answer(&first, ErrorCode::NotEnoughReplicas, -1);
    world.answer_in_words(&second, ErrorCode::NotEnoughReplicas, -1, Some("one of two"));
    world.pass(Duration::from_millis(200));
    let first = world.broker.next();
    let second = world.broker.next();
    world.answer(&first, ErrorCode::NotEnoughReplicas, -1);
    world.answer(&second, ErrorCode::OutOfOrderSequenceNumber, -1);

    world.broker.up = false;
    world.producer.handle(world.broker.now, Input::Disconnected(second.link));
    world.pass(Duration::from_secs(121));

    let error =
        ClientError::Refused { code: ErrorCode::NotEnoughReplicas, message: "one of two".into() };
    assert_eq!(world.deliveries()[1], (follower, Err(error)));
}

#[test]
fn a_brokers_words_are_bounded_stay_on_one_line_and_never_only_repeat_the_code() {
    let code = ErrorCode::NotEnoughReplicas;
    let made = |words| ClientError::from_answer(code.code(), words);
    for without in [None, Some(""), Some(" "), Some(code.message())] {
        assert_eq!(made(without), Some(ClientError::Broker(code)));
    }
    let message = "one two [31m".into();
    assert_eq!(made(Some("one\ntwo\u{1b}[31m\n")), Some(ClientError::Refused { code, message }));
    let Some(ClientError::Refused { message, .. }) = made(Some(&"\u{e9}".repeat(5000))) else {
        panic!("words are kept")
    };
    assert_eq!(message.chars().count(), ClientError::WORDS_MAX);
    assert_eq!(ClientError::from_answer(0, Some("all is well")), None);
}

#[test]
fn what_is_appended_leaves_with_the_next_advance_and_is_reported_batch_by_batch() {
    let mut world = World::new(|config| config.batch_bytes = 16 << 10);
    let names = [(&b"a"[..], Some(&b"1"[..])), (b"a", None)];
    let topic = ORDERS;
    let record = RecordRef { headers: &names, value: Some(b"x"), ..RecordRef::new(&topic) };
    let elsewhere = RecordRef { partition: Some(FIRST), ..record };
    let now = world.broker.now;
    let tickets: Vec<Ticket> = [record, elsewhere, record]
        .iter()
        .map(|record| world.producer.append(now, record).expect("room"))
        .collect();
    assert_eq!(tickets, [Ticket(0), Ticket(1), Ticket(2)]);
    assert_eq!(world.producer.poll_effect(), None);
    assert!(world.producer.wants_advance() && world.producer.next_deadline() <= Some(now.mono));

    world.producer.advance(now);
    world.settle();
    world.give_id(70);
    let (asked, batch) = world.next_batch();
    let response = ProduceResponse {
        responses: vec![TopicProduceResponse {
            name: ORDERS,
            topic_id: TOPIC_ID,
            partition_responses: vec![PartitionProduceResponse {
                base_offset: 40,
                log_append_time_ms: 77,
                ..PartitionProduceResponse::default()
            }],
        }],
        ..ProduceResponse::default()
    };
    world.broker.answer(&asked, response);
    world.settle();

    assert_eq!(batch.records_count(), 3);
    let report = world.producer.poll_report().expect("a report");
    // The first waited for the topic's metadata, and what names its partition waited behind it.
    assert_eq!(report.tickets, tickets);
    assert_eq!((report.topic.clone(), report.partition), (ORDERS, Some(FIRST)));
    assert_eq!((&report.result, report.log_append_time), (&Ok(Some(Offset(40))), Some(77)));
    assert_eq!(report.delivery(2).result, Ok(Some(Offset(42))));
    assert_eq!((world.producer.poll_report(), world.producer.pending()), (None, 0));
    assert!(!world.producer.wants_advance());
}

#[test]
fn a_record_that_finds_no_room_is_not_taken_and_the_next_ticket_follows_the_last() {
    let topic = ORDERS;
    let record = RecordRef { partition: Some(FIRST), ..RecordRef::new(&topic) };
    let room_for_one = record.size();
    let mut world = World::new(|config| config.buffer_bytes = room_for_one);
    let now = world.broker.now;
    assert_eq!(world.producer.append(now, &record), Ok(Ticket(0)));
    let full = BufferFull { limit: room_for_one };
    assert_eq!(world.producer.append(now, &record), Err(full));
    world.producer.advance(now);
    world.settle();
    world.give_id(70);
    world.accept(0);
    assert_eq!(world.producer.append(now, &record), Ok(Ticket(1)));
}

#[test]
fn records_without_keys_leave_a_partition_after_a_batch_of_bytes_however_slowly_they_come() {
    let mut world = World::new(|config| config.batch_bytes = 300);
    let topic = KafkaString::from_static("pair");
    let mut seen = Vec::new();
    for base_offset in 0..8 {
        let record = RecordRef { value: Some(&[0; 100]), ..RecordRef::new(&topic) };
        world.producer.append(world.broker.now, &record).expect("room");
        world.producer.advance(world.broker.now);
        world.settle();
        if base_offset == 0 {
            world.give_id(70);
        }
        let asked = world.broker.next();
        let Request::Produce(request) = &asked.body else { panic!("{:?}", asked.body) };
        let index = request.topic_data[0].partition_data[0].index;
        seen.push(index);
        let response = ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: topic.clone(),
                topic_id: TOPIC_ID,
                partition_responses: vec![PartitionProduceResponse {
                    index,
                    base_offset,
                    ..PartitionProduceResponse::default()
                }],
            }],
            ..ProduceResponse::default()
        };
        world.broker.answer(&asked, response);
        world.settle();
    }
    assert_eq!(seen, [0, 0, 0, 1, 1, 1, 0, 0]);
}

#[test]
fn a_batch_is_sent_again_as_often_as_is_allowed_after_pauses_that_double() {
    let mut world = World::new(|config| {
        config.retries = 4;
        config.network.retry_backoff_max = Duration::from_millis(300);
    });
    world.warm_up(70);
    let ticket = world.send("a");
    for pause in [100, 200, 300, 300] {
        let asked = world.broker.next();
        world.answer(&asked, ErrorCode::NotEnoughReplicas, -1);
        world.pass(Duration::from_millis(pause - 1));
        assert!(world.broker.asked.is_empty(), "{pause} ms");
        world.pass(Duration::from_millis(1));
    }
    let asked = world.broker.next();
    world.answer(&asked, ErrorCode::NotEnoughReplicas, -1);
    let error = ClientError::Broker(ErrorCode::NotEnoughReplicas);
    assert_eq!(world.deliveries(), [(ticket, Err(error))]);
}

#[test]
fn a_batch_is_compressed_at_the_level_that_is_set() {
    let size_at = |compression_level| {
        let mut world = World::new(|config| {
            config.codec = Codec::Zstd;
            config.compression_level = compression_level;
        });
        let numbers = (0..4000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string());
        let text: String = numbers.collect();
        let topic = ORDERS;
        let record = RecordRef { value: Some(text.as_bytes()), ..RecordRef::new(&topic) };
        world.producer.append(world.broker.now, &record).expect("room");
        world.producer.flush(world.broker.now);
        world.settle();
        world.give_id(70);
        let (_, batch) = world.next_batch();
        assert_eq!(values(&batch), [text]);
        batch.size()
    };
    assert!(size_at(Some(19)) < size_at(Some(-7)));
    assert_eq!(size_at(None), size_at(Some(3)));
    assert_eq!(size_at(Some(99)), size_at(Some(22)));
}

#[test]
fn a_record_fails_at_its_delivery_timeout_though_its_batch_is_younger() {
    let mut world = World::new(|config| {
        config.delivery_timeout = Duration::from_secs(3);
        config.linger = Duration::from_secs(2);
        config.batch_bytes = 16 << 10;
    });
    world.broker.topics.clear();
    let first = world.send_to(None, None, "a");
    world.pass(Duration::from_secs(2));
    let second = world.send_to(Some(FIRST), None, "b");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.deliveries(), [(first, Err(ClientError::TimedOut))]);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.deliveries(), [(second, Err(ClientError::TimedOut))]);
}

#[test]
fn values_go_where_as_many_records_of_nothing_else_would() {
    let topic = KafkaString::from_static("pair");
    let lengths: Vec<u32> = (0..60).map(|number| [3, 120, 0, 40, 700, 25][number % 6]).collect();
    let bytes = vec![b'x'; lengths.iter().sum::<u32>() as usize];
    let run = |unkeyed, partition, at_once: bool| {
        let mut world = World::new(|config| {
            config.unkeyed = unkeyed;
            config.linger = Duration::from_secs(1);
            config.batch_bytes = 600;
            config.max_request_bytes = 650;
            config.buffer_bytes = 4000;
        });
        let mut happened = Vec::new();
        // At first the topic is not known, then it is.
        for _ in 0..3 {
            let mut taken = 0;
            let mut start = 0;
            while taken < lengths.len() {
                let left = &lengths[taken..];
                let (lengths, bytes) = if at_once {
                    (left, &bytes[start..])
                } else {
                    (&left[..1], &bytes[start..][..left[0] as usize])
                };
                let values = ValuesRef { topic: &topic, partition, bytes, lengths };
                let now = world.broker.now;
                let count = if at_once {
                    world.producer.append_values(now, &values)
                } else {
                    let value = Some(bytes);
                    let record = RecordRef { partition, value, ..RecordRef::new(&topic) };
                    usize::from(world.producer.append(now, &record).is_ok())
                };
                start += left[..count].iter().sum::<u32>() as usize;
                taken += count;
                if count < lengths.len() {
                    break;
                }
            }
            happened.push(format!("{taken} taken, wants {}", world.producer.wants_advance()));
            world.producer.flush(world.broker.now);
            world.settle();
            if matches!(world.broker.asked.front(), Some(asked) if matches!(asked.body, Request::InitProducerId(_)))
            {
                world.give_id(70);
            }
            happened.extend(world.broker.asked.drain(..).map(|asked| format!("{:?}", asked.body)));
            while let Some(report) = world.producer.poll_report() {
                happened.push(format!("{report:?}"));
            }
        }
        happened
    };
    for unkeyed in [Unkeyed::Sticky, Unkeyed::RoundRobin] {
        for partition in [None, Some(PartitionIndex(1))] {
            let (each, all) = (run(unkeyed, partition, false), run(unkeyed, partition, true));
            assert!(each.iter().any(|line| line.contains("Produce")), "nothing was sent: {each:?}");
            assert_eq!(each, all, "{unkeyed:?} {partition:?}");
        }
    }
}

#[test]
fn full_batches_wait_for_their_turn_and_an_open_one_for_more() {
    let mut world = World::new(|config| {
        config.linger = Duration::from_secs(1);
        config.batch_bytes = 200;
    });
    world.warm_up_with_linger(70);
    let value = Some(&[b'x'; 120][..]);
    let topic = ORDERS;
    let record = RecordRef { partition: Some(FIRST), value, ..RecordRef::new(&topic) };
    let mut waiting = Vec::new();
    for _ in 0..4 {
        world.producer.append(world.broker.now, &record).expect("room");
        waiting.push(world.producer.waiting_bytes());
    }
    assert_eq!(waiting, [0, record.size(), 2 * record.size(), 3 * record.size()]);
    world.producer.advance(world.broker.now);
    // They are on their way; the last one may take more.
    assert_eq!(world.producer.waiting_bytes(), 0);
}
