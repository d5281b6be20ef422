//! The fetcher against a broker whose answers are made by hand.

use super::batches::{ReadBatches, read_batches};
use bytes::Bytes;

use super::*;
use crate::client::test_broker::{Asked, TOPIC_ID, TestBroker, network_config};
use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
use crate::record::builder::{
    BatchBuilder, Producer as ProducerOfBatch, TransactionResult, transaction_marker,
};
use crate::record::compress::Codec;
use crate::wire::api::fetch::AbortedTransaction;
use crate::wire::api::fetch::FetchableTopicResponse;
use crate::wire::api::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};

const ORDERS: KafkaString = KafkaString::from_static("orders");
const FIRST: PartitionIndex = PartitionIndex(0);

/// A batch of the values, from `base` on.
fn batch(base: i64, codec: Codec, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for value in values {
        builder.push(5, Some(b"k"), Some(value.as_bytes()), &[(b"h", None)]);
    }
    let mut batch = builder.build();
    batch.assign(Offset(base), LeaderEpoch(3));
    batch.to_bytes()
}

fn fetched(partition: PartitionData) -> FetchResponse {
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: ORDERS,
            topic_id: TOPIC_ID,
            partitions: vec![partition],
        }],
        ..FetchResponse::default()
    }
}

fn listed(partition: ListOffsetsPartitionResponse) -> ListOffsetsResponse {
    ListOffsetsResponse {
        topics: vec![ListOffsetsTopicResponse { name: ORDERS, partitions: vec![partition] }],
        ..ListOffsetsResponse::default()
    }
}

/// Lets machine and broker talk until both are silent.
fn settle(fetcher: &mut Fetcher, broker: &mut TestBroker) {
    loop {
        while let Some(effect) = fetcher.poll_effect() {
            broker.take(effect);
        }
        let Some(input) = broker.inputs.pop_front() else {
            return;
        };
        fetcher.handle(broker.now, input);
    }
}

fn reading(start: Start) -> (Fetcher, TestBroker) {
    reading_ahead(start, 0)
}

/// One that asks for more while less than so many bytes wait.
fn reading_ahead(start: Start, prefetch_bytes: usize) -> (Fetcher, TestBroker) {
    let mut broker = TestBroker::new(&[("orders", 1)]);
    let config = FetcherConfig { prefetch_bytes, ..FetcherConfig::new(network_config()) };
    let mut fetcher = Fetcher::new(config);
    fetcher.assign(broker.now, &ORDERS, FIRST, start);
    settle(&mut fetcher, &mut broker);
    (fetcher, broker)
}

fn asked_offset(body: &Request) -> i64 {
    let Request::Fetch(request) = body else { panic!("a fetch, not {body:?}") };
    assert_eq!((request.session_id, request.session_epoch), (0, -1));
    request.topics[0].partitions[0].fetch_offset
}

fn values(event: Option<FetchEvent>) -> Vec<(i64, String)> {
    let Some(FetchEvent::Records { records, .. }) = event else { panic!("{event:?}") };
    records
        .iter()
        .map(|record| {
            let value = record.value.expect("a value").to_vec();
            (record.offset.0, String::from_utf8(value).expect("text"))
        })
        .collect()
}

#[test]
fn records_are_read_in_order_from_the_offset_that_was_named() {
    let (mut fetcher, mut broker) = reading(Start::Offset(Offset(11)));
    let asked = broker.next();
    assert_eq!(asked_offset(&asked.body), 11);
    // The broker sends the whole batch that holds the offset, a compressed one, and a cut one.
    let mut records = batch(10, Codec::None, &["a", "b"]).to_vec();
    records.extend_from_slice(&batch(12, Codec::Lz4, &["c"]));
    records.extend_from_slice(&batch(13, Codec::None, &["d"])[..40]);

    let partition = PartitionData {
        high_watermark: 13,
        records: Some(records.into()),
        ..PartitionData::default()
    };
    broker.answer(&asked, fetched(partition));
    settle(&mut fetcher, &mut broker);

    assert!(broker.asked.is_empty(), "nothing more is asked for before it is taken");
    let event = fetcher.poll_event(broker.now);
    assert_eq!(values(event), [(11, "b".to_owned()), (12, "c".to_owned())]);
    settle(&mut fetcher, &mut broker);
    assert_eq!(asked_offset(&broker.next().body), 13);
    assert_eq!(fetcher.high_watermark(&ORDERS, FIRST), Some(Offset(13)));
}

#[test]
fn more_is_asked_for_while_records_wait_until_they_are_as_many_bytes_as_may() {
    let answer = |fetcher: &mut Fetcher, broker: &mut TestBroker, base: i64| {
        let asked = broker.next();
        assert_eq!(asked_offset(&asked.body), base);
        let records = Some(batch(base, Codec::None, &["a"]).into());
        broker.answer(&asked, fetched(PartitionData { records, ..PartitionData::default() }));
        settle(fetcher, broker);
    };
    let (mut fetcher, mut broker) = reading_ahead(Start::Offset(Offset(0)), 100);
    answer(&mut fetcher, &mut broker, 0);
    answer(&mut fetcher, &mut broker, 1);
    assert!(broker.asked.is_empty(), "two records and what is kept of them are 100 bytes");
    assert_eq!(fetcher.told_to(&ORDERS, FIRST), Some(Offset(0)));

    assert_eq!(values(fetcher.poll_event(broker.now)), [(0, "a".to_owned())]);
    settle(&mut fetcher, &mut broker);
    answer(&mut fetcher, &mut broker, 2);

    assert!(broker.asked.is_empty());
    assert_eq!(values(fetcher.poll_event(broker.now)), [(1, "a".to_owned())]);
    assert_eq!(values(fetcher.poll_event(broker.now)), [(2, "a".to_owned())]);
}

#[test]
fn what_waits_of_a_partition_that_is_sought_is_not_told_and_does_not_count() {
    let (mut fetcher, mut broker) = reading(Start::Offset(Offset(0)));
    let asked = broker.next();
    let records = Some(batch(0, Codec::None, &["a", "b"]).into());
    broker.answer(&asked, fetched(PartitionData { records, ..PartitionData::default() }));
    settle(&mut fetcher, &mut broker);
    fetcher.assign(broker.now, &ORDERS, FIRST, Start::Offset(Offset(1)));
    settle(&mut fetcher, &mut broker);
    assert_eq!(asked_offset(&broker.next().body), 1);
    assert_eq!(fetcher.poll_event(broker.now), None);
}

#[test]
fn keys_values_and_headers_are_told_as_they_stand_null_and_empty_apart() {
    let (mut fetcher, mut broker) = reading(Start::Offset(Offset(0)));
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(7, None, Some(b""), &[(b"a", Some(b"1")), (b"a", None)]);
    let asked = broker.next();
    let records = Some(builder.build().to_bytes().into());
    broker.answer(&asked, fetched(PartitionData { records, ..PartitionData::default() }));
    settle(&mut fetcher, &mut broker);

    let Some(FetchEvent::Records { records, .. }) = fetcher.poll_event(broker.now) else {
        panic!("records")
    };
    let record = records.get(0).expect("a record");
    assert_eq!((record.offset, record.timestamp), (Offset(0), 7));
    assert_eq!((record.key, record.value), (None, Some(&b""[..])));
    let headers: Vec<_> = record.headers.iter().map(|header| (header.key, header.value)).collect();
    assert_eq!(headers, [(&b"a"[..], Some(&b"1"[..])), (b"a", None)]);
    assert_eq!((records.key_bytes(0), records.value_bytes(0)), (None, Some(Bytes::new())));
    assert_eq!((records.value(0), records.value(records.len())), (Some(&b""[..]), None));
    assert_eq!((records.len(), records.get(1).is_none()), (1, true));
}

#[test]
fn a_start_by_time_asks_for_the_offset_and_goes_behind_the_end_where_there_is_none() {
    let (mut fetcher, mut broker) = reading(Start::Time(1_234));
    let timestamp_of = |body: &Request| {
        let Request::ListOffsets(request) = body else { panic!("{body:?}") };
        request.topics[0].partitions[0].timestamp
    };
    let asked = broker.next();
    assert_eq!(timestamp_of(&asked.body), 1_234);
    broker.answer(&asked, listed(ListOffsetsPartitionResponse::default()));
    settle(&mut fetcher, &mut broker);

    let asked = broker.next();
    assert_eq!(timestamp_of(&asked.body), LATEST);
    let end = ListOffsetsPartitionResponse { offset: 42, ..Default::default() };
    broker.answer(&asked, listed(end));
    settle(&mut fetcher, &mut broker);

    assert_eq!(asked_offset(&broker.next().body), 42);
}

#[test]
fn an_offset_that_is_gone_begins_again_where_the_settings_say() {
    let (mut fetcher, mut broker) = reading(Start::Offset(Offset(5)));
    let asked = broker.next();
    let gone = PartitionData {
        error_code: ErrorCode::OffsetOutOfRange.code(),
        ..PartitionData::default()
    };
    broker.answer(&asked, fetched(gone));
    settle(&mut fetcher, &mut broker);
    let told: Vec<String> = fetcher.take_resets().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["offset 5 is not in the log of orders-0; going on at its start"]);
    assert_eq!(fetcher.take_resets(), []);

    broker.pass(Duration::from_millis(100));
    fetcher.handle(broker.now, Input::Wakeup);
    settle(&mut fetcher, &mut broker);

    let asked = broker.next();
    let start = ListOffsetsPartitionResponse { offset: 9, ..Default::default() };
    broker.answer(&asked, listed(start));
    settle(&mut fetcher, &mut broker);
    assert_eq!(asked_offset(&broker.next().body), 9);
}

#[test]
fn without_a_rule_for_it_a_gone_offset_fails_the_partition() {
    let mut broker = TestBroker::new(&[("orders", 1)]);
    let mut fetcher =
        Fetcher::new(FetcherConfig { reset: None, ..FetcherConfig::new(network_config()) });
    fetcher.assign(broker.now, &ORDERS, FIRST, Start::Offset(Offset(5)));
    settle(&mut fetcher, &mut broker);
    let asked = broker.next();
    let gone = PartitionData {
        error_code: ErrorCode::OffsetOutOfRange.code(),
        ..PartitionData::default()
    };
    broker.answer(&asked, fetched(gone));
    settle(&mut fetcher, &mut broker);

    let error = ClientError::Broker(ErrorCode::OffsetOutOfRange);
    let place = (ORDERS, FIRST);
    assert_eq!(fetcher.poll_event(broker.now), Some(FetchEvent::Failed { place, error }));
    settle(&mut fetcher, &mut broker);
    assert!(broker.asked.is_empty());
}

#[test]
fn a_damaged_batch_is_told_and_what_stands_before_it_is_kept() {
    let (mut fetcher, mut broker) = reading(Start::Offset(Offset(0)));
    let asked = broker.next();
    let mut records = batch(0, Codec::None, &["a"]).to_vec();
    let mut damaged = batch(1, Codec::None, &["b"]).to_vec();
    *damaged.last_mut().expect("bytes") ^= 1;
    records.extend_from_slice(&damaged);
    let records = Some(records.into());
    broker.answer(&asked, fetched(PartitionData { records, ..PartitionData::default() }));
    settle(&mut fetcher, &mut broker);

    assert_eq!(values(fetcher.poll_event(broker.now)), [(0, "a".to_owned())]);
    let Some(FetchEvent::Failed { error, .. }) = fetcher.poll_event(broker.now) else {
        panic!("the damage")
    };
    assert_eq!(error, ClientError::Broker(ErrorCode::CorruptMessage));
}

#[test]
fn bytes_that_are_no_batch_fail_the_partition_instead_of_being_asked_for_for_ever() {
    let (mut fetcher, mut broker) = reading(Start::Offset(Offset(0)));
    let asked = broker.next();
    let mut records = batch(0, Codec::None, &["a"]).to_vec();
    records[16] = 1;
    let records = Some(records.into());
    broker.answer(&asked, fetched(PartitionData { records, ..PartitionData::default() }));
    settle(&mut fetcher, &mut broker);

    let event = fetcher.poll_event(broker.now);
    assert!(matches!(event, Some(FetchEvent::Failed { .. })), "{event:?}");
}

#[test]
fn a_fetch_that_brings_only_older_records_is_repeated_after_a_pause() {
    let (mut fetcher, mut broker) = reading(Start::Offset(Offset(7)));
    let asked = broker.next();
    let records = Some(batch(0, Codec::None, &["a"]).into());
    broker.answer(&asked, fetched(PartitionData { records, ..PartitionData::default() }));
    settle(&mut fetcher, &mut broker);
    assert!(broker.asked.is_empty());

    broker.pass(Duration::from_millis(100));
    fetcher.handle(broker.now, Input::Wakeup);
    settle(&mut fetcher, &mut broker);

    assert_eq!(asked_offset(&broker.next().body), 7);
}

#[test]
fn an_answer_to_a_question_before_a_seek_is_not_taken() {
    let (mut fetcher, mut broker) = reading(Start::Offset(Offset(0)));
    let asked = broker.next();
    fetcher.assign(broker.now, &ORDERS, FIRST, Start::Offset(Offset(100)));
    let records = Some(batch(0, Codec::None, &["old"]).into());
    broker.answer(&asked, fetched(PartitionData { records, ..PartitionData::default() }));
    settle(&mut fetcher, &mut broker);

    assert_eq!(fetcher.poll_event(broker.now), None);
    assert_eq!(asked_offset(&broker.next().body), 100);
}

#[test]
fn a_lost_connection_is_made_again_after_a_pause() {
    let (mut fetcher, mut broker) = reading(Start::Offset(Offset(0)));
    let asked = broker.next();
    let connects = broker.connects;
    fetcher.handle(broker.now, Input::Disconnected(asked.link));
    settle(&mut fetcher, &mut broker);
    assert!(broker.asked.is_empty());

    for _ in 0..5 {
        let deadline = fetcher.next_deadline().expect("something is waited for");
        assert!(deadline > broker.now.mono, "no deadline stands in the past");
        broker.now.mono = deadline;
        fetcher.handle(broker.now, Input::Wakeup);
        settle(&mut fetcher, &mut broker);
        if !broker.asked.is_empty() {
            break;
        }
    }

    assert_eq!(asked_offset(&broker.next().body), 0);
    assert!(broker.connects > connects);
}

/// A batch of one value in a transaction of the producer.
fn staged(base: i64, id: i64, value: &str) -> Bytes {
    let producer =
        ProducerOfBatch { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence: 0 };
    let mut builder = BatchBuilder::new(Codec::None).producer(producer).transactional();
    builder.push(5, None, Some(value.as_bytes()), &[]);
    let mut batch = builder.build();
    batch.assign(Offset(base), LeaderEpoch(3));
    batch.to_bytes()
}

fn marker(base: i64, id: i64, result: TransactionResult) -> Bytes {
    let mut batch = transaction_marker(ProducerId(id), ProducerEpoch(0), result, 1, 5);
    batch.assign(Offset(base), LeaderEpoch(3));
    batch.to_bytes()
}

fn offsets(read: &ReadBatches) -> Vec<i64> {
    read.records.iter().map(|record| record.offset.0).collect()
}

const fn aborted(producer_id: i64, first_offset: i64) -> AbortedTransaction {
    AbortedTransaction { producer_id, first_offset }
}

#[test]
fn a_committed_reader_sees_no_aborted_records_and_no_markers() {
    let bytes = [
        staged(0, 9, "aborted"),
        marker(1, 9, TransactionResult::Abort),
        staged(2, 9, "committed"),
        marker(3, 9, TransactionResult::Commit),
    ]
    .concat();

    let committed = read_batches(bytes.clone().into(), Offset(0), &[aborted(9, 0)], 1 << 20);
    let all = read_batches(bytes.into(), Offset(0), &[], 1 << 20);

    assert_eq!(committed.next_offset, Offset(4));
    assert_eq!(offsets(&committed), [2]);
    assert_eq!(offsets(&all), [0, 2]);
}

#[test]
fn transactions_of_several_producers_are_told_apart_in_whatever_order_they_are_listed() {
    let bytes = [
        staged(10, 1, "aborted"),
        staged(11, 2, "committed"),
        batch(12, Codec::None, &["of no transaction"]),
        staged(13, 3, "aborted"),
        marker(14, 2, TransactionResult::Commit),
        staged(15, 1, "aborted"),
        marker(16, 1, TransactionResult::Abort),
        staged(17, 2, "aborted"),
        staged(18, 1, "committed"),
        marker(19, 3, TransactionResult::Abort),
        marker(20, 1, TransactionResult::Commit),
        marker(21, 2, TransactionResult::Abort),
    ]
    .concat();
    let list = [aborted(2, 17), aborted(3, 13), aborted(1, 10)];

    let read = read_batches(bytes.clone().into(), Offset(10), &list, 1 << 20);
    assert_eq!((offsets(&read), read.next_offset), (vec![11, 12, 18], Offset(22)));

    // A fetch that begins within an aborted transaction.
    let from = staged(10, 1, "").len() + staged(11, 2, "").len();
    let rest = Bytes::from(bytes).slice(from + "aborted".len() + "committed".len()..);
    let read = read_batches(rest, Offset(12), &list, 1 << 20);
    assert_eq!((offsets(&read), read.next_offset), (vec![12, 18], Offset(22)));
}

#[test]
fn a_committed_reader_asks_for_committed_records_and_passes_what_it_is_not_shown() {
    let mut broker = TestBroker::new(&[("orders", 1)]);
    let config = FetcherConfig { read_committed: true, ..FetcherConfig::new(network_config()) };
    let mut fetcher = Fetcher::new(config);
    fetcher.assign(broker.now, &ORDERS, FIRST, Start::Latest);
    settle(&mut fetcher, &mut broker);
    let asked = broker.next();
    let Request::ListOffsets(request) = &asked.body else { panic!("{:?}", asked.body) };
    assert_eq!(request.isolation_level, 1, "the end is that of what is stable");
    let partition = ListOffsetsPartitionResponse { offset: 4, ..Default::default() };
    broker.answer(&asked, listed(partition));
    settle(&mut fetcher, &mut broker);
    let asked = broker.next();
    let Request::Fetch(request) = &asked.body else { panic!("{:?}", asked.body) };
    assert_eq!(request.isolation_level, 1);
    let records = [staged(4, 9, "aborted"), marker(5, 9, TransactionResult::Abort)].concat();
    let partition = PartitionData {
        high_watermark: 9,
        last_stable_offset: 6,
        aborted_transactions: Some(vec![aborted(9, 4)]),
        records: Some(records.into()),
        ..PartitionData::default()
    };
    broker.answer(&asked, fetched(partition));
    settle(&mut fetcher, &mut broker);

    let event = fetcher.poll_event(broker.now);

    let Some(FetchEvent::Records { records, next_offset, .. }) = event else { panic!("{event:?}") };
    assert_eq!((records.len(), next_offset), (0, Offset(6)));
    assert_eq!(fetcher.told_to(&ORDERS, FIRST), Some(Offset(6)));
    settle(&mut fetcher, &mut broker);
    assert_eq!(asked_offset(&broker.next().body), 6, "nothing is asked for twice");
}

/// One in a rack, which node 1 has sent to node 2 for the first partition.
fn reading_near() -> (Fetcher, TestBroker, Asked) {
    let mut broker = TestBroker::new(&[("orders", 1)]);
    broker.others = vec![2];
    let rack = Some("east".into());
    let mut fetcher = Fetcher::new(FetcherConfig { rack, ..FetcherConfig::new(network_config()) });
    fetcher.assign(broker.now, &ORDERS, FIRST, Start::Offset(Offset(10)));
    settle(&mut fetcher, &mut broker);
    let first = broker.next();
    broker.answer(&first, fetched(named(2)));
    settle(&mut fetcher, &mut broker);
    (fetcher, broker, first)
}

fn named(node: i32) -> PartitionData {
    PartitionData {
        preferred_read_replica: node,
        high_watermark: 20,
        records: Some(Parts::default()),
        ..PartitionData::default()
    }
}

fn refused(code: ErrorCode) -> PartitionData {
    PartitionData { error_code: code.code(), ..PartitionData::default() }
}

fn rack_of(asked: &Asked) -> &str {
    let Request::Fetch(request) = &asked.body else { panic!("a fetch, not {asked:?}") };
    &request.rack_id
}

#[test]
fn a_client_in_a_rack_reads_from_the_replica_that_the_leader_names() {
    let (mut fetcher, mut broker, first) = reading_near();

    let second = broker.next();
    let records = Some(batch(10, Codec::None, &["a"]).into());
    let data = PartitionData { high_watermark: 11, records, ..PartitionData::default() };
    broker.answer(&second, fetched(data));
    settle(&mut fetcher, &mut broker);

    assert_eq!((rack_of(&first), rack_of(&second)), ("east", "east"));
    assert_ne!(first.link, second.link);
    assert_eq!(asked_offset(&second.body), 10);
    assert_eq!(values(fetcher.poll_event(broker.now)), [(10, "a".to_owned())]);
    settle(&mut fetcher, &mut broker);
    assert_eq!(broker.next().link, second.link, "it stays there");
}

#[test]
fn what_a_replica_near_by_lacks_the_leader_is_asked_for_without_a_rack() {
    let (mut fetcher, mut broker, first) = reading_near();

    let second = broker.next();
    broker.answer(&second, fetched(refused(ErrorCode::OffsetOutOfRange)));
    settle(&mut fetcher, &mut broker);
    broker.pass(Duration::from_secs(1));
    fetcher.handle(broker.now, Input::Wakeup);
    settle(&mut fetcher, &mut broker);

    let third = broker.next();
    assert_eq!((third.link, rack_of(&third)), (first.link, ""));
    assert_eq!(asked_offset(&third.body), 10, "the position is not reset");
    assert!(fetcher.take_resets().is_empty());
}

#[test]
fn a_replica_is_asked_no_longer_than_metadata_is_believed() {
    let (mut fetcher, mut broker, first) = reading_near();
    let second = broker.next();

    broker.pass(Duration::from_mins(6));
    broker.answer(&second, fetched(PartitionData { high_watermark: 10, ..named(-1) }));
    settle(&mut fetcher, &mut broker);

    let third = broker.next();
    assert_eq!((third.link, rack_of(&third)), (first.link, "east"));
}

#[test]
fn a_replica_that_nobody_knows_is_not_asked_for_without_a_pause() {
    let mut broker = TestBroker::new(&[("orders", 1)]);
    let rack = Some("east".into());
    let mut fetcher = Fetcher::new(FetcherConfig { rack, ..FetcherConfig::new(network_config()) });
    fetcher.assign(broker.now, &ORDERS, FIRST, Start::Offset(Offset(10)));
    settle(&mut fetcher, &mut broker);

    let first = broker.next();
    broker.answer(&first, fetched(named(7)));
    settle(&mut fetcher, &mut broker);

    assert!(broker.asked.is_empty());
    broker.pass(Duration::from_secs(1));
    fetcher.handle(broker.now, Input::Wakeup);
    settle(&mut fetcher, &mut broker);
    assert_eq!(rack_of(&broker.next()), "", "the leader is to serve itself");
}

#[test]
fn a_replica_that_cannot_be_reached_is_left_for_the_leader() {
    let (mut fetcher, mut broker, first) = reading_near();
    let second = broker.next();
    broker.up = false;

    broker.inputs.push_back(Input::Disconnected(second.link));
    settle(&mut fetcher, &mut broker);
    broker.pass(Duration::from_secs(1));
    fetcher.handle(broker.now, Input::Wakeup);
    settle(&mut fetcher, &mut broker);

    let third = broker.next();
    assert_eq!((third.link, rack_of(&third)), (first.link, ""));
}
