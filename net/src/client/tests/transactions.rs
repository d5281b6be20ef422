//! Transactions of a producer in the background.

use mainspring_core::client::fetcher::FetcherConfig;
use mainspring_core::client::group::StoredOffset;
use mainspring_core::client::producer::accumulator::Place;

use super::*;
use crate::client::producer::Delivery;
use crate::client::producer_transactions::{
    GroupOffsets, TransactionCall, TransactionError, Undone,
};

const ID: &str = "etl";

fn transactional(network: NetworkConfig) -> ProducerConfig {
    ProducerConfig { transactional_id: Some(ID.into()), ..ProducerConfig::new(network) }
}

struct World {
    broker: Embedded,
    background: Background,
}

impl World {
    fn new() -> Self {
        Self { broker: broker(), background: Background::start(1).expect("a thread") }
    }

    fn producer(&self) -> BackgroundProducer {
        BackgroundProducer::start(&self.background, transactional(network(&self.broker)))
    }

    fn consumer(&self, group: Option<&str>, read_committed: bool) -> BackgroundConsumer {
        let defaults = ConsumerConfig::new(network(&self.broker), group.map(Into::into));
        let fetcher = FetcherConfig {
            reset: Some(Start::Earliest),
            read_committed,
            max_wait: Duration::from_millis(50),
            ..defaults.fetcher
        };
        let group = defaults.group.map(|mut group| {
            group.require_stable = read_committed;
            group
        });
        BackgroundConsumer::start(&self.background, ConsumerConfig { fetcher, group, ..defaults })
    }

    /// Reads a topic from its beginning until it finds this value.
    fn read_until(&self, topic: &str, last: &str, read_committed: bool) -> Vec<String> {
        let consumer = self.consumer(None, read_committed);
        let places = BTreeMap::from([(place(topic, 0), Some(Start::Earliest))]);
        answer(&consumer.with(|consumer, now| consumer.assign(now, places)));
        let mut read = Vec::new();
        while read.last().is_none_or(|value| value != last) {
            if let ConsumerEvent::Records { records, .. } = answer(&consumer.ask()) {
                let values = records.iter().filter_map(|record| record.value);
                read.extend(values.map(|value| String::from_utf8_lossy(value).into_owned()));
            }
        }
        read
    }

    /// Sends a record that belongs to no transaction and waits for it.
    fn plain(&self, topic: &str, value: &str) {
        let config = ProducerConfig::new(network(&self.broker));
        let producer = BackgroundProducer::start(&self.background, config);
        send_to(&producer, topic, value);
        answer(&producer.flush());
    }
}

fn begin(producer: &BackgroundProducer) {
    assert_eq!(answer(&producer.begin_transaction()), Ok(()));
}

fn commit(producer: &BackgroundProducer) {
    assert_eq!(answer(&producer.commit_transaction()), Ok(()));
}

fn send_to(producer: &BackgroundProducer, topic: &str, value: &str) -> Delivery {
    let record = Outgoing { topic, value: Some(value.as_bytes()), ..Outgoing::default() };
    producer.send(&record).expect("it is taken")
}

fn send(producer: &BackgroundProducer, value: &str) -> Delivery {
    send_to(producer, "t", value)
}

fn misplaced(result: &Result<(), Undone>, wanted: TransactionCall) -> bool {
    matches!(result, Err(Undone::Refused(TransactionError::Misplaced { call, .. })) if *call == wanted)
}

#[test]
fn what_was_taken_before_a_commit_is_seen_behind_it_and_not_before() {
    let world = World::new();
    let producer = world.producer();
    begin(&producer);
    let deliveries: Vec<_> = (0..1000).map(|number| send(&producer, &number.to_string())).collect();
    answer(&producer.flush());
    world.plain("t", "open");
    assert_eq!(world.read_until("t", "open", false).len(), 1001);
    send(&producer, "last");

    commit(&producer);

    assert!(deliveries.iter().all(Delivery::is_done));
    let read = world.read_until("t", "last", true);
    assert_eq!((read.len(), read[1000].as_str()), (1002, "open"));
    let refused = producer.send(&record(b"late")).expect_err("no transaction is open");
    assert_eq!(refused, NotTaken::NoTransaction);
}

#[test]
fn what_is_aborted_is_not_seen_and_what_did_not_leave_fails() {
    let world = World::new();
    let mut config = transactional(network(&world.broker));
    config.linger = Duration::from_mins(1);
    let producer = BackgroundProducer::start(&world.background, config);
    begin(&producer);
    let sent = send(&producer, "sent");
    answer(&producer.flush());
    let kept = send(&producer, "kept");

    assert_eq!(answer(&producer.abort_transaction()), Ok(()));

    assert!(matches!(sent.result(), Some(Ok(_))));
    assert_eq!(kept.result(), Some(Err(ClientError::Aborted)));
    begin(&producer);
    send(&producer, "next");
    commit(&producer);
    assert_eq!(world.read_until("t", "next", true), ["next"]);
    assert_eq!(world.read_until("t", "next", false), ["sent", "next"]);
}

#[test]
fn offsets_of_a_group_are_stored_with_the_records_or_not_at_all() {
    let world = World::new();
    world.plain("in", "1");
    let consumer = world.consumer(Some("g"), true);
    let topics = ["in".into()].into();
    answer(&consumer.with(|consumer, now| consumer.subscribe(now, topics)));
    while !matches!(answer(&consumer.ask()), ConsumerEvent::Records { .. }) {}
    let producer = world.producer();
    let offsets = || BTreeMap::from([(place("in", 0), StoredOffset::from(Offset(1)))]);
    let stage = || {
        let places: Vec<Place> = offsets().into_keys().collect();
        let member = consumer.with(move |consumer, _| consumer.transaction_member(&places));
        let member = answer(&member).expect("it is held");
        answer(&producer.send_offsets(GroupOffsets { member, offsets: offsets() }))
    };
    let stored = || {
        let fetched = answer(&consumer.committed([place("in", 0)].into())).expect("a group");
        let stored = fetched[&place("in", 0)].clone().expect("no error");
        stored.map(|stored| stored.offset.0)
    };
    begin(&producer);
    send(&producer, "aborted");
    assert_eq!(stage(), Ok(()));
    assert_eq!(answer(&producer.abort_transaction()), Ok(()));
    assert_eq!(stored(), None);

    begin(&producer);
    send(&producer, "committed");
    assert_eq!(stage(), Ok(()));
    commit(&producer);
    assert_eq!(stored(), Some(1));
    assert_eq!(world.read_until("t", "committed", true), ["committed"]);
    assert!(misplaced(&stage(), TransactionCall::SendOffsets));
}

#[test]
fn a_second_producer_with_the_id_fences_the_first_and_ends_its_transaction() {
    let world = World::new();
    let first = world.producer();
    begin(&first);
    send(&first, "lost");
    answer(&first.flush());

    let second = world.producer();
    begin(&second);
    send(&second, "kept");
    commit(&second);

    assert_eq!(world.read_until("t", "kept", true), ["kept"]);
    let fenced = Err(Undone::Refused(TransactionError::Fenced));
    assert_eq!(answer(&first.commit_transaction()), fenced);
    assert_eq!(first.send(&record(b"x")).expect_err("it is fenced"), NotTaken::TransactionFailed);
    assert_eq!(first.transaction_error(), Some(TransactionError::Fenced));
    assert_eq!(answer(&first.begin_transaction()), fenced);
    assert_eq!(answer(&first.abort_transaction()), fenced);
    assert_eq!(answer(&first.close(PATIENCE)), 0, "at once");
}

#[test]
fn the_place_of_another_is_taken_before_any_transaction_begins() {
    let world = World::new();
    let first = world.producer();
    begin(&first);
    send(&first, "open");
    answer(&first.flush());
    world.plain("t", "behind");

    let _second = world.producer();

    assert_eq!(world.read_until("t", "behind", true), ["behind"]);
}

#[test]
fn calls_out_of_their_order_are_refused_and_change_nothing() {
    let world = World::new();
    let producer = world.producer();
    assert_eq!(producer.send(&record(b"x")).expect_err("none is open"), NotTaken::NoTransaction);
    assert!(misplaced(&answer(&producer.commit_transaction()), TransactionCall::Commit));
    assert!(misplaced(&answer(&producer.abort_transaction()), TransactionCall::Abort));
    begin(&producer);
    send(&producer, "1");
    assert!(misplaced(&answer(&producer.begin_transaction()), TransactionCall::Begin));
    send(&producer, "2");
    commit(&producer);
    assert!(misplaced(&answer(&producer.commit_transaction()), TransactionCall::Commit));
    assert_eq!(world.read_until("t", "2", true), ["1", "2"]);

    let config = ProducerConfig::new(network(&world.broker));
    let plain = BackgroundProducer::start(&world.background, config);
    for call in [plain.begin_transaction(), plain.commit_transaction(), plain.abort_transaction()] {
        assert_eq!(answer(&call), Err(Undone::NoTransactionalId));
    }
    plain.send(&record(b"x")).expect("it goes on");
}

#[test]
fn a_record_that_fails_lets_nothing_but_an_abort() {
    let world = World::new();
    let producer = world.producer();
    begin(&producer);
    send(&producer, "good");
    let bad = send_to(&producer, "no such name!", "bad");
    assert!(bad.wait(PATIENCE));
    assert!(matches!(bad.result(), Some(Err(ClientError::Broker(_)))));

    let refused = answer(&producer.commit_transaction());

    let abortable = |error: &TransactionError| error.is_abortable();
    assert!(matches!(&refused, Err(Undone::Refused(error)) if abortable(error)), "{refused:?}");
    assert_eq!(producer.send(&record(b"x")).expect_err("it failed"), NotTaken::TransactionFailed);
    assert!(producer.transaction_error().as_ref().is_some_and(abortable));
    assert!(answer(&producer.begin_transaction()).is_err(), "it is to be aborted first");
    assert_eq!(answer(&producer.abort_transaction()), Ok(()));
    assert_eq!(producer.transaction_error(), None);
    begin(&producer);
    send(&producer, "next");
    commit(&producer);
    assert_eq!(world.read_until("t", "next", true), ["next"]);
}

#[test]
fn every_call_is_answered_within_its_time() {
    let background = Background::start(1).expect("a thread");
    let config =
        ProducerConfig { max_block: Duration::from_millis(20), ..transactional(nowhere()) };
    let producer = BackgroundProducer::start(&background, config);
    let timed_out = |call| Err(Undone::TimedOut(call));
    assert_eq!(answer(&producer.begin_transaction()), timed_out(TransactionCall::Begin));
    assert_eq!(answer(&producer.close(PATIENCE)), 0, "nothing is open");
    let late = producer.begin_transaction();
    assert!(late.wait(PATIENCE));
    assert_eq!(late.take(), Some(Err(Abandoned::Ended)));
}

#[test]
fn a_producer_that_is_closed_aborts_what_is_open() {
    let world = World::new();
    let producer = world.producer();
    begin(&producer);
    send(&producer, "open");
    answer(&producer.flush());
    send(&producer, "kept");
    assert_eq!(answer(&producer.close(PATIENCE)), 0);
    assert_eq!(producer.commit_transaction().take(), Some(Err(Abandoned::Ended)));
    world.plain("t", "behind");
    assert_eq!(world.read_until("t", "behind", true), ["behind"]);
}

#[test]
fn one_transaction_waits_for_the_end_of_the_one_before() {
    let world = World::new();
    let producer = world.producer();
    begin(&producer);
    for round in 0..20 {
        send(&producer, &round.to_string());
        let (committed, begun) = (producer.commit_transaction(), producer.begin_transaction());
        assert_eq!(answer(&begun), Ok(()));
        assert_eq!(answer(&committed), Ok(()));
    }
    send(&producer, "end");
    commit(&producer);
    assert_eq!(world.read_until("t", "end", true).len(), 21);
}

#[test]
fn a_panic_reaches_whoever_waits_for_a_transaction() {
    let background = Background::start(2).expect("threads");
    let producer = BackgroundProducer::start(&background, transactional(nowhere()));
    let call = producer.begin_transaction();
    producer.break_down();
    assert!(call.wait(PATIENCE));
    assert_eq!(call.take(), Some(Err(Abandoned::Panicked)));
}
