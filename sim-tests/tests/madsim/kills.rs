//! Producing and consuming over the real network code while its process is killed and its power
//! cut: nothing acknowledged is lost, nothing stands twice, and the order stays.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use madsim::runtime::Handle;
use mainspring_core::client::fetcher::{FetchEvent, Fetcher, FetcherConfig, Start};
use mainspring_core::client::producer::{NewRecord, Producer, ProducerConfig};
use mainspring_core::ids::{Offset, PartitionIndex};
use mainspring_core::wire::KafkaString;
use mainspring_net::client::Driver;
use mainspring_sim::rng::{Rng, Stream};

use crate::broker::{Broker, network};

const TOPIC: KafkaString = KafkaString::from_static("t");
const RECORDS: usize = 400;
const CRASHES: usize = 6;
/// Records on their way at the same time.
const AHEAD: usize = 30;

#[madsim::test]
async fn nothing_acknowledged_is_lost_or_doubled_over_kills_and_power_cuts() {
    let seed = Handle::current().seed();
    let broker = Broker::start(seed);
    let client = Handle::current()
        .create_node()
        .name("client")
        .ip(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)))
        .build();
    let mut rng = Rng::new(seed, Stream::Faults);
    let sending = client.spawn(produce(Rng::new(seed, Stream::Workload)));
    for _ in 0..CRASHES {
        madsim::time::sleep(Duration::from_millis(rng.between(200, 3000))).await;
        broker.crash(rng.chance(500)).await;
    }
    let acknowledged = sending.await.expect("the producer ends");
    assert_eq!(acknowledged.len(), RECORDS, "every record is delivered in the end");
    // Whatever was acknowledged survives one more cut, too.
    broker.crash(true).await;
    let read = client.spawn(consume()).await.expect("the reader ends");

    let expected: Vec<Bytes> = (0..RECORDS).map(value).collect();
    let values: Vec<Bytes> = read.iter().map(|(_, value)| value.clone()).collect();
    assert!(values == expected, "{} records stand, {} were sent", values.len(), RECORDS);
    for (offset, value) in acknowledged {
        assert!(read.contains(&(offset, value)), "offset {offset} holds another record");
    }
}

fn value(index: usize) -> Bytes {
    let mut value = format!("record {index} ").into_bytes();
    value.resize(value.len() + index * 7 % 900, b'.');
    value.into()
}

/// Sends all records, and returns where each was acknowledged.
async fn produce(mut rng: Rng) -> Vec<(Offset, Bytes)> {
    let config = ProducerConfig {
        delivery_timeout: Duration::from_mins(10),
        ..ProducerConfig::new(network())
    };
    let mut driver = Driver::new(Producer::new(config));
    let mut tickets = Vec::new();
    let mut acknowledged = Vec::new();
    while acknowledged.len() < RECORDS {
        let now = driver.now();
        if tickets.len() < RECORDS && tickets.len() - acknowledged.len() < AHEAD {
            let record = NewRecord {
                topic: TOPIC,
                partition: Some(PartitionIndex(0)),
                value: Some(value(tickets.len())),
                ..NewRecord::default()
            };
            tickets.push(driver.machine().send(now, record).expect("there is room"));
            let pause = Duration::from_millis(rng.below(60));
            driver.turn(Some(now.mono + pause)).await;
        } else {
            driver.turn(None).await;
        }
        while let Some(delivery) = driver.machine().poll_delivery() {
            let index = tickets.iter().position(|ticket| *ticket == delivery.ticket);
            let index = index.expect("only what was sent is reported");
            let offset = delivery.result.expect("it is delivered before its time is up");
            acknowledged.push((offset.expect("acks=all tells the offset"), value(index)));
        }
    }
    acknowledged
}

/// Reads the topic from its start until nothing comes for a while.
async fn consume() -> Vec<(Offset, Bytes)> {
    let mut driver = Driver::new(Fetcher::new(FetcherConfig::new(network())));
    let now = driver.now();
    driver.machine().assign(now, &TOPIC, PartitionIndex(0), Start::Earliest);
    let mut read = Vec::new();
    let mut last = driver.now().mono;
    while driver.now().mono < last + Duration::from_secs(30) {
        let now = driver.now();
        let Some(event) = driver.machine().poll_event(now) else {
            driver.turn(None).await;
            continue;
        };
        match event {
            FetchEvent::Records { records, .. } => {
                read.extend(records.iter().map(|record| {
                    let value = record.value.expect("values were sent");
                    (record.offset, Bytes::copy_from_slice(value))
                }));
                last = now.mono;
            }
            FetchEvent::Failed { error, .. } => panic!("the topic is there: {error}"),
        }
    }
    read
}
