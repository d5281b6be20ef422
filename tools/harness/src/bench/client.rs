//! What the client machines of core cost for each record, in processor time and without sockets:
//! beside them stands a broker of a few lines that keeps nothing, whose own work is not counted.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mainspring_core::client::fetcher::{FetchEvent, Fetcher, FetcherConfig, Start};
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::client::producer::{Producer, ProducerConfig, RecordRef};
use mainspring_core::client::{Effect, Input};
use mainspring_core::ids::{LeaderEpoch, Offset, PartitionIndex, Uuid};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::builder::BatchBuilder;
use mainspring_core::record::compress::Codec;
use mainspring_core::time::{Instant, Now, UnixMillis};
use mainspring_core::wire::api::api_versions::{ApiVersion, ApiVersionsResponse};
use mainspring_core::wire::api::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use mainspring_core::wire::api::init_producer_id::InitProducerIdResponse;
use mainspring_core::wire::api::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use mainspring_core::wire::api::produce::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use mainspring_core::wire::{ApiKey, KafkaString, Reader, Request, RequestHeader, Response};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

static TOPIC: KafkaString = KafkaString::from_static("orders");
const TOPIC_ID: Uuid = Uuid([7; 16]);
/// Records between two `advance`: what a program hands over in one go.
const GROUP: usize = 1000;

/// Measures both machines and prints a line for each case.
pub(crate) fn run(as_json: bool) {
    let mut lines = Vec::new();
    let mut tell = |machine: &str, what: String, nanos: f64| {
        if !as_json {
            println!("{machine:<9} {what:<64} {nanos:>8.1} ns a record");
        }
        lines.push(json!({ "machine": machine, "case": what, "ns": nanos }));
    };
    for size in [100, 1024] {
        for batch in [16, 256] {
            for partitions in [1, 6, 1000] {
                for keyed in [false, true] {
                    let what = format!(
                        "{size} B, batches of {batch} KiB, {partitions} partitions{}",
                        if keyed { ", with keys" } else { "" }
                    );
                    let run = |group| produce(size, batch << 10, partitions, keyed, group);
                    tell("producer", what.clone(), best(|| run(GROUP)));
                    if partitions == 1 {
                        tell("producer", format!("{what}, one by one"), best(|| run(1)));
                    }
                }
            }
        }
    }
    for size in [100, 1024] {
        for (codec, name) in [(Codec::None, "plain"), (Codec::Lz4, "lz4")] {
            let nanos = best(|| fetch(size, codec));
            tell("fetcher", format!("{size} B, {name}"), nanos);
        }
    }
    if as_json {
        println!("{}", json!({ "client": lines }));
    }
}

/// The least of some rounds: what others do to the machine only adds.
fn best(round: impl Fn() -> f64) -> f64 {
    (0..5).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// Runs the clock only while the machine works.
#[derive(Default)]
struct Stopwatch {
    spent: Duration,
}

impl Stopwatch {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = Self::now();
        let result = work();
        self.spent += Self::now().saturating_sub(begin);
        result
    }

    /// Processor time of this thread: what others do to the machine is not in it.
    fn now() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

fn network() -> NetworkConfig {
    NetworkConfig::new(vec![("localhost".into(), 9092)])
}

fn produce(size: usize, batch_bytes: usize, partitions: i32, keyed: bool, group: usize) -> f64 {
    let config = ProducerConfig {
        linger: Duration::from_millis(5),
        batch_bytes,
        ..ProducerConfig::new(network())
    };
    let mut producer = Producer::new(config);
    let mut broker = NullBroker::new(partitions, Bytes::new());
    let value = vec![b'v'; size];
    let total = (200_000_000 / (size + 100)).min(1_000_000);
    let mut watch = Stopwatch::default();
    let mut reported = 0;
    // The first record brings connection, metadata and id.
    producer.append(broker.now, &RecordRef::new(&TOPIC)).expect("room");
    producer.flush(broker.now);
    while reported < total {
        let now = broker.now;
        watch.time(|| {
            let mut key = [0; 8];
            for number in 0..GROUP {
                let number = (reported + number) as u64;
                key.copy_from_slice(&(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
                let record = RecordRef {
                    key: keyed.then_some(&key),
                    value: Some(&value),
                    ..RecordRef::new(&TOPIC)
                };
                if producer.append(now, &record).is_err() {
                    break;
                }
                if group == 1 && producer.wants_advance() {
                    producer.advance(now);
                }
            }
            producer.advance(now);
        });
        broker.now.mono = broker.now.mono + Duration::from_micros(100);
        loop {
            let effects: Vec<Effect> =
                watch.time(|| std::iter::from_fn(|| producer.poll_effect()).collect());
            for effect in effects {
                broker.take(effect);
            }
            let Some(input) = broker.inputs.pop_front() else {
                break;
            };
            let now = broker.now;
            watch.time(|| {
                producer.handle(now, input);
                while let Some(report) = producer.poll_report() {
                    reported += black_box(report.tickets.len());
                }
            });
        }
        if producer.next_deadline().is_some_and(|at| at <= broker.now.mono) {
            let now = broker.now;
            watch.time(|| producer.handle(now, Input::Wakeup));
        }
    }
    watch.spent.as_nanos() as f64 / reported as f64
}

fn fetch(size: usize, codec: Codec) -> f64 {
    let mut records = BytesMut::new();
    let mut offset = 0;
    while records.len() < 1 << 20 {
        let mut builder = BatchBuilder::new(codec);
        let value: Vec<u8> = (0..size).map(|at| b'a' + (at * 7 + at / 13) as u8 % 26).collect();
        while builder.uncompressed_size() + size < 64 << 10 {
            builder.push(1_700_000_000_000, None, Some(&value), &[]);
        }
        let count = builder.len() as i64;
        let mut batch: Batch = builder.build();
        batch.assign(Offset(offset), LeaderEpoch(3));
        offset += count;
        records.extend_from_slice(&batch.to_bytes());
        if codec != Codec::None && offset > 20_000 {
            break;
        }
    }
    let mut broker = NullBroker::new(1, records.freeze());
    let mut fetcher = Fetcher::new(FetcherConfig::new(network()));
    fetcher.assign(broker.now, &TOPIC, PartitionIndex(0), Start::Offset(Offset(0)));
    let mut watch = Stopwatch::default();
    let (mut read, mut bytes) = (0_usize, 0_usize);
    while read < 1_000_000 {
        while let Some(effect) = fetcher.poll_effect() {
            broker.take(effect);
        }
        let now = broker.now;
        if let Some(input) = broker.inputs.pop_front() {
            watch.time(|| fetcher.handle(now, input));
        }
        while let Some(event) = watch.time(|| fetcher.poll_event(now)) {
            let FetchEvent::Records { records, .. } = event else { panic!("{event:?}") };
            watch.time(|| {
                for record in &records {
                    bytes += record.value.map_or(0, <[u8]>::len);
                }
                read += records.len();
                drop(records);
            });
            // The same records once more.
            fetcher.assign(now, &TOPIC, PartitionIndex(0), Start::Offset(Offset(0)));
        }
        broker.now.mono = broker.now.mono + Duration::from_micros(100);
    }
    assert_eq!(black_box(bytes), read * size, "every value was seen");
    watch.spent.as_nanos() as f64 / read as f64
}

/// A broker that acknowledges everything, and always has the same records.
struct NullBroker {
    now: Now,
    partitions: i32,
    records: Bytes,
    offset: i64,
    inputs: VecDeque<Input>,
}

impl NullBroker {
    fn new(partitions: i32, records: Bytes) -> Self {
        let now = Now { mono: Instant::from_nanos(1), wall: UnixMillis(1_700_000_000_000) };
        Self { now, partitions, records, offset: 0, inputs: VecDeque::new() }
    }

    fn take(&mut self, effect: Effect) {
        let (link, parts) = match effect {
            Effect::Connect { link, .. } => return self.inputs.push_back(Input::Connected(link)),
            Effect::Transmit { link, parts } => (link, parts),
            Effect::Close { .. } => return,
        };
        let frame = Bytes::from(parts.concat());
        let mut reader = Reader::new(frame.slice(4..));
        let header = RequestHeader::decode(&mut reader).expect("a header");
        let api = ApiKey::from_key(header.api_key).expect("a known API");
        let body = Request::decode(api, header.api_version, &mut reader).expect("a body");
        let response = self.answer(body);
        let bytes = response.frame(header.correlation_id, header.api_version).concat();
        self.inputs.push_back(Input::Received(link, BytesMut::from(&bytes[..])));
    }

    fn answer(&mut self, body: Request) -> Response {
        if let Request::Produce(request) = body {
            let responses = request.topic_data.into_iter().map(|topic| TopicProduceResponse {
                partition_responses: topic
                    .partition_data
                    .into_iter()
                    .map(|data| PartitionProduceResponse {
                        index: data.index,
                        base_offset: self.offset,
                        ..PartitionProduceResponse::default()
                    })
                    .collect(),
                name: topic.name,
                topic_id: topic.topic_id,
            });
            let responses = responses.collect();
            self.offset += 1;
            return ProduceResponse { responses, ..ProduceResponse::default() }.into();
        }
        if let Request::Fetch(_) = body {
            let data = PartitionData {
                high_watermark: i64::MAX,
                records: Some(self.records.clone().into()),
                ..PartitionData::default()
            };
            let topic = FetchableTopicResponse {
                topic: TOPIC.clone(),
                topic_id: TOPIC_ID,
                partitions: vec![data],
            };
            return FetchResponse { responses: vec![topic], ..FetchResponse::default() }.into();
        }
        if let Request::Metadata(_) = body {
            return self.metadata().into();
        }
        if let Request::InitProducerId(_) = body {
            return InitProducerIdResponse { producer_id: 70, ..Default::default() }.into();
        }
        let api_keys = ApiKey::ALL.iter().map(|api| ApiVersion {
            api_key: api.key(),
            min_version: api.min_version(),
            max_version: api.max_version(),
        });
        ApiVersionsResponse { api_keys: api_keys.collect(), ..Default::default() }.into()
    }

    fn metadata(&self) -> MetadataResponse {
        let partitions = (0..self.partitions).map(|index| MetadataResponsePartition {
            partition_index: index,
            leader_id: 1,
            leader_epoch: 3,
            ..MetadataResponsePartition::default()
        });
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: KafkaString::from_static("localhost"),
                port: 9092,
                rack: None,
            }],
            controller_id: 1,
            topics: vec![MetadataResponseTopic {
                name: Some(TOPIC.clone()),
                topic_id: TOPIC_ID,
                partitions: partitions.collect(),
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponse::default()
        }
    }
}
