//! Clients in the background against a broker in this process.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use mainspring_core::client::ClientError;
use mainspring_core::client::admin::{AdminTarget, describe_topics};
use mainspring_core::client::consumer::{ConsumerConfig, ConsumerEvent, place};
use mainspring_core::client::fetcher::Start;
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::client::producer::ProducerConfig;
use mainspring_core::client::settings::AdminConfig;
use mainspring_core::config::NodeConfig;
use mainspring_core::ids::Offset;
use mainspring_core::wire::Response;

use super::admin::BackgroundAdmin;
use super::administrator::Administrator;
use super::background::Background;
use super::call::{Abandoned, Call};
use super::consumer::BackgroundConsumer;
use super::producer::{BackgroundProducer, NotTaken, Outgoing};
use super::{GATHER_MAX, Output, frames};
use crate::embedded::{Embedded, EmbeddedOptions};

mod transactions;

const PATIENCE: Duration = Duration::from_secs(30);

fn broker() -> Embedded {
    let listen = "127.0.0.1:0".parse().expect("an address");
    let options = EmbeddedOptions { node: NodeConfig::default(), nodes: 1, listen, data_dir: None };
    Embedded::start(options, || true).expect("it starts")
}

fn network(broker: &Embedded) -> NetworkConfig {
    let address = broker.addresses()[0];
    NetworkConfig::new(vec![(Arc::from(address.ip().to_string()), address.port())])
}

/// Where nothing listens.
fn nowhere() -> NetworkConfig {
    NetworkConfig::new(vec![(Arc::from("127.0.0.1"), 1)])
}

fn answer<T>(call: &Call<T>) -> T {
    assert!(call.wait(PATIENCE), "no answer came");
    call.take().expect("it is taken once").expect("its task lives")
}

fn record(value: &[u8]) -> Outgoing<'_> {
    Outgoing { topic: "t", value: Some(value), ..Outgoing::default() }
}

#[test]
fn records_are_reported_with_their_offsets_and_read_back_in_order() {
    let (broker, background) = (broker(), Background::start(1).expect("a thread"));
    let producer = BackgroundProducer::start(&background, ProducerConfig::new(network(&broker)));
    let values: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let deliveries: Vec<_> = values
        .iter()
        .map(|value| producer.send(&record(value.as_bytes())).expect("there is room"))
        .collect();
    answer(&producer.flush());
    for (offset, delivery) in (0..).zip(&deliveries) {
        let stored = delivery.result().expect("it is flushed").expect("it is stored");
        assert_eq!((stored.partition, stored.offset), (0, Some(offset)));
        assert!(stored.timestamp > 0);
    }
    assert_eq!(producer.pending(), 0);

    let config = ConsumerConfig::new(network(&broker), None);
    let consumer = BackgroundConsumer::start(&background, config);
    let places = BTreeMap::from([(place("t", 0), Some(Start::Earliest))]);
    answer(&consumer.with(|consumer, now| consumer.assign(now, places)));
    let mut read = Vec::new();
    while read.len() < values.len() {
        let ConsumerEvent::Records { records, .. } = answer(&consumer.ask()) else {
            continue;
        };
        read.extend(records.iter().filter_map(|record| record.value.map(<[u8]>::to_vec)));
    }
    assert_eq!(read, values.iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>());
}

#[test]
fn what_is_processed_is_committed_and_nothing_beyond() {
    let (broker, background) = (broker(), Background::start(1).expect("a thread"));
    let producer = BackgroundProducer::start(&background, ProducerConfig::new(network(&broker)));
    for _ in 0..10 {
        producer.send(&record(b"x")).expect("there is room");
    }
    answer(&producer.flush());
    let group = || ConsumerConfig {
        fetcher: mainspring_core::client::fetcher::FetcherConfig {
            reset: Some(Start::Earliest),
            ..ConsumerConfig::new(network(&broker), None).fetcher
        },
        ..ConsumerConfig::new(network(&broker), Some("g".into()))
    };
    let join = |consumer: &BackgroundConsumer| {
        let topics = ["t".into()].into();
        answer(&consumer.with(|consumer, now| consumer.subscribe(now, topics)));
        loop {
            if let ConsumerEvent::Records { place, records, .. } = answer(&consumer.ask()) {
                consumer.begin(&place);
                return records.get(0).expect("there is one").offset;
            }
        }
    };
    let first = BackgroundConsumer::start(&background, group());
    assert_eq!(join(&first), Offset(0));
    first.note(4);
    answer(&first.close(PATIENCE));

    let second = BackgroundConsumer::start(&background, group());
    assert_eq!(join(&second), Offset(4));
    answer(&second.close(PATIENCE));
    assert_eq!(answer(&second.ask()), ConsumerEvent::Closed);
}

#[test]
fn a_full_buffer_takes_nothing_and_a_close_tells_what_is_left() {
    let background = Background::start(1).expect("a thread");
    let config = ProducerConfig { buffer_bytes: 10_000, ..ProducerConfig::new(nowhere()) };
    let producer = BackgroundProducer::start(&background, config);
    let value = [0; 1000];
    let mut taken = Vec::new();
    let refused = loop {
        match producer.send(&record(&value)) {
            Ok(delivery) => taken.push(delivery),
            Err(reason) => break reason,
        }
    };
    assert_eq!(refused, NotTaken::Full);
    assert_eq!(producer.pending(), taken.len());
    let room = producer.room();
    assert!(!room.is_done());
    assert!(matches!(producer.send(&record(&vec![0; 20_000])), Err(NotTaken::TooLarge(_))));

    let left = answer(&producer.close(Duration::from_millis(10)));

    assert_eq!(left, taken.len());
    assert!(room.is_done(), "whoever waits for room is not left waiting");
    for delivery in taken {
        let failed = delivery.result().expect("it is reported").expect_err("it was not sent");
        assert!(matches!(failed, ClientError::Unknown { .. } | ClientError::TimedOut), "{failed}");
    }
    assert_eq!(producer.send(&record(b"")).expect_err("it is closed"), NotTaken::Closed);
    assert_eq!(answer(&producer.close(PATIENCE)), 0);
}

#[test]
fn records_of_a_producer_that_is_dropped_are_reported_all_the_same() {
    let background = Background::start(1).expect("a thread");
    let config = ProducerConfig {
        delivery_timeout: Duration::from_secs(1),
        ..ProducerConfig::new(nowhere())
    };
    let producer = BackgroundProducer::start(&background, config);
    let delivery = producer.send(&record(b"x")).expect("there is room");
    drop(producer);
    assert!(delivery.wait(PATIENCE));
    assert!(delivery.result().expect("it is reported").is_err());
}

#[test]
fn what_a_producer_has_taken_that_is_dropped_is_stored_all_the_same() {
    let (broker, background) = (broker(), Background::start(1).expect("a thread"));
    let config = ProducerConfig {
        linger: Duration::from_millis(200),
        ..ProducerConfig::new(network(&broker))
    };
    let producer = BackgroundProducer::start(&background, config);
    let delivery = producer.send(&record(b"x")).expect("there is room");
    drop(producer);
    assert!(delivery.wait(PATIENCE));
    assert_eq!(delivery.result().expect("it is reported").expect("it is stored").offset, Some(0));
}

#[test]
fn an_administrator_answers_and_after_its_end_fails() {
    let (broker, background) = (broker(), Background::start(1).expect("a thread"));
    let admin = BackgroundAdmin::start(&background, network(&broker), PATIENCE);
    let response = answer(&admin.call(AdminTarget::Any, describe_topics(None)));
    assert!(matches!(response, Ok(Response::Metadata(_))), "{response:?}");
    admin.close();
    let late = admin.call(AdminTarget::Any, describe_topics(None));
    assert!(late.wait(PATIENCE), "no answer came");
    // The task may have come to it, or have ended before.
    let response = late.take().expect("it is taken once").unwrap_or_else(|why| Err(why.into()));
    assert_eq!(response.err(), Some(ClientError::Disconnected));
}

#[test]
fn a_panic_reaches_everyone_who_waits_and_everyone_who_asks_later() {
    let background = Background::start(2).expect("threads");
    let panicked = Some(Err(Abandoned::Panicked));

    let config =
        ProducerConfig { linger: Duration::from_mins(1), ..ProducerConfig::new(nowhere()) };
    let producer = BackgroundProducer::start(&background, config);
    let early = producer.send(&record(b"early")).expect("there is room");
    let flush = producer.flush();
    let late = producer.send(&record(b"late")).expect("there is room");
    producer.break_down();
    for delivery in [early, late] {
        assert!(delivery.wait(PATIENCE), "a delivery is left waiting");
        assert_eq!(delivery.result(), Some(Err(ClientError::Abandoned)));
    }
    for call in [flush, producer.flush()] {
        assert!(call.wait(PATIENCE), "a flush is left waiting");
        assert_eq!(call.take(), panicked);
    }
    let close = producer.close(PATIENCE);
    assert!(close.wait(PATIENCE));
    assert_eq!(close.take(), Some(Err(Abandoned::Panicked)));
    assert_eq!(producer.send(&record(b"")).expect_err("it is gone"), NotTaken::Panicked);
    assert_eq!(producer.pending(), 0);

    let consumer = BackgroundConsumer::start(&background, ConsumerConfig::new(nowhere(), None));
    let (asked, (wakes, woken)) = (consumer.ask(), mpsc::channel());
    asked.on_done(Box::new(move || {
        let _ = wakes.send(());
    }));
    consumer.break_down();
    for call in [asked, consumer.ask()] {
        assert!(call.wait(PATIENCE), "a question is left waiting");
        assert_eq!(call.take(), Some(Err(Abandoned::Panicked)));
    }
    // Who waits may go on a moment before who is to be woken.
    woken.recv_timeout(PATIENCE).expect("nobody was woken");

    let config = AdminConfig { network: nowhere(), api_timeout: PATIENCE };
    let administrator = Administrator::start(&background, config);
    let metadata =
        administrator.run(|mut operations| async move { operations.metadata(None).await });
    administrator.break_down();
    assert!(metadata.wait(PATIENCE), "an operation is left waiting");
    let refusal =
        metadata.take().expect("it is there").expect("its own task lives").expect_err("no");
    assert_eq!(refusal.error, ClientError::Abandoned);
    let panics = administrator.run::<(), _>(|_| async { panic!("on purpose") });
    assert!(panics.wait(PATIENCE));
    assert!(matches!(panics.take(), Some(Err(Abandoned::Panicked))));
}

#[test]
fn whole_answers_are_handed_on_and_what_the_next_one_lacks_is_known() {
    let answer = |size: u32, there: usize| [&size.to_be_bytes()[..], &vec![7; there]].concat();
    assert_eq!(frames(&[]), (0, 0));
    assert_eq!(frames(&[0, 0, 1]), (0, 0));
    assert_eq!(frames(&answer(10, 10)), (14, 0));
    assert_eq!(frames(&answer(10, 4)), (0, 6));
    assert_eq!(frames(&[answer(1, 1), answer(0, 0), answer(9, 0)].concat()), (9, 9));
    // No answer is that large, so it is not waited for.
    assert_eq!(frames(&answer(GATHER_MAX as u32 + 1, 3)), (7, 0));
}

#[test]
fn parts_are_written_from_where_the_last_call_ended() {
    let mut output = Output::default();
    output.add(vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cd")]);
    output.advance(1);
    output.add(vec![Bytes::from_static(b"e")]);
    let mut slices = [IoSlice::new(&[]); 2];
    assert_eq!((output.remaining(), output.chunks_vectored(&mut slices)), (4, 2));
    assert_eq!((&slices[0][..], &slices[1][..]), (&b"b"[..], &b"cd"[..]));
    output.advance(3);
    assert_eq!(output.chunk(), b"e");
    output.advance(1);
    assert_eq!((output.has_remaining(), output.chunk()), (false, &b""[..]));
}
