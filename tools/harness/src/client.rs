//! A small blocking client over core's own codec: one connection, requests in order.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mainspring_core::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::builder::{BatchBuilder, Producer};
use mainspring_core::record::compress::Codec;
use mainspring_core::record::iterate::OpenBatch;
use mainspring_core::wire::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use mainspring_core::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use mainspring_core::wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use mainspring_core::wire::api::init_producer_id::InitProducerIdRequest;
use mainspring_core::wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use mainspring_core::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use mainspring_core::wire::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use mainspring_core::wire::api_key::RequestMessage;
use mainspring_core::wire::{Message, Reader, decode_response_header, frame_request};

use crate::checks::Outcome;

/// Version of Produce that is spoken: the last one with topic names and tagged fields.
pub(crate) const PRODUCE: i16 = 9;
/// Version of Fetch that is spoken.
pub(crate) const FETCH: i16 = 12;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: &str) -> Outcome<Self> {
        Self::connect_for(address, Duration::from_secs(30))
    }

    /// Connects; each answer may take that long.
    pub(crate) fn connect_for(address: &str, patience: Duration) -> Outcome<Self> {
        let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
        let limit = patience.min(Duration::from_secs(5));
        let stream = TcpStream::connect_timeout(&address, limit).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(patience)).map_err(text)?;
        stream.set_write_timeout(Some(patience)).map_err(text)?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn send<M: RequestMessage>(&mut self, request: &M, version: i16) -> Outcome {
        self.correlation_id += 1;
        let parts = frame_request(self.correlation_id, Some("harness"), request, version);
        self.raw(&parts.concat())
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Outcome {
        self.stream.write_all(bytes).map_err(text)
    }

    /// Takes the next answer, whose request was an `M`.
    pub(crate) fn receive<M: RequestMessage>(&mut self, version: i16) -> Outcome<M::Response> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).map_err(text)?;
        let mut body = BytesMut::zeroed(u32::from_be_bytes(size) as usize);
        self.stream.read_exact(&mut body).map_err(text)?;
        let mut reader = Reader::new(body.freeze());
        decode_response_header(&mut reader, M::KEY.response_header_version(version))
            .map_err(text)?;
        M::Response::decode(&mut reader, version).map_err(text)
    }

    /// Sends a request and takes its answer.
    pub(crate) fn call<M: RequestMessage>(
        &mut self,
        request: &M,
        version: i16,
    ) -> Outcome<M::Response> {
        self.send(request, version)?;
        self.receive::<M>(version)
    }

    /// Makes a topic.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Outcome {
        self.create_replicated(name, partitions, 1, configs)
    }

    /// Makes a topic with several replicas of each partition.
    pub(crate) fn create_replicated(
        &mut self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> Outcome {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor,
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let answer = self.call(&request, 7)?;
        let result = answer.topics.first().ok_or("an answer about no topic")?;
        if result.error_code == 0 {
            return Ok(());
        }
        Err(format!("{name}: error {} {:?}", result.error_code, result.error_message))
    }

    /// Deletes a topic.
    pub(crate) fn delete_topic(&mut self, name: &str) -> Outcome {
        let topic = DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() };
        let topics = vec![topic];
        let request =
            DeleteTopicsRequest { topics, timeout_ms: 10_000, ..DeleteTopicsRequest::default() };
        let answer = self.call(&request, 6)?;
        match answer.responses.first() {
            Some(result) if result.error_code == 0 => Ok(()),
            other => Err(format!("{name}: {other:?}")),
        }
    }

    /// Asks for metadata of all topics, or of the named ones, without making any.
    pub(crate) fn metadata(&mut self, names: Option<&[&str]>) -> Outcome<MetadataResponse> {
        let topics = names.map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic {
                    name: Some((*name).into()),
                    ..MetadataRequestTopic::default()
                })
                .collect()
        });
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        self.call(&request, 12)
    }

    /// Returns the names of all topics.
    pub(crate) fn topics(&mut self) -> Outcome<Vec<String>> {
        let answer = self.metadata(None)?;
        Ok(answer
            .topics
            .iter()
            .filter_map(|topic| Some(topic.name.as_ref()?.to_string()))
            .collect())
    }

    /// Asks for a producer id.
    pub(crate) fn init_producer_id(&mut self) -> Outcome<(i64, i16)> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        let answer = self.call(&request, 4)?;
        if answer.error_code == 0 {
            return Ok((answer.producer_id, answer.producer_epoch));
        }
        Err(format!("no producer id: error {}", answer.error_code))
    }

    /// Produces one batch and returns the answer for its partition.
    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> Outcome<PartitionProduceResponse> {
        let answer = self.call(&produce_request(topic, partition, batch), PRODUCE)?;
        produced(answer)
    }

    /// Fetches from one partition, waiting up to `max_wait_ms` for a first byte.
    pub(crate) fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait_ms: i32,
    ) -> Outcome<PartitionData> {
        let request = fetch_request(topic, partition, offset, max_wait_ms);
        let answer = self.call(&request, FETCH)?;
        let topic = answer.responses.into_iter().next();
        let data = topic.and_then(|topic| topic.partitions.into_iter().next());
        data.ok_or_else(|| format!("an answer about no partition, error {}", answer.error_code))
    }

    /// Returns the first offset of a partition.
    pub(crate) fn start_of(&mut self, topic: &str, partition: i32) -> Outcome<i64> {
        let partition = ListOffsetsPartition {
            partition_index: partition,
            timestamp: -2,
            ..ListOffsetsPartition::default()
        };
        let topic = ListOffsetsTopic { name: topic.into(), partitions: vec![partition] };
        let topics = vec![topic];
        let request =
            ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
        let answer = self.call(&request, 7)?;
        let found = answer.topics.first().and_then(|topic| topic.partitions.first());
        match found {
            Some(found) if found.error_code == 0 => Ok(found.offset),
            other => Err(format!("no first offset: {other:?}")),
        }
    }

    /// Reads a partition from `from` to its high watermark, and returns its log start, the records
    /// as (offset, value), and the bytes of their batches.
    pub(crate) fn read(&mut self, topic: &str, partition: i32, from: i64) -> Outcome<ReadLog> {
        let mut log = ReadLog { next: from, ..ReadLog::default() };
        loop {
            let data = self.fetch(topic, partition, log.next, 0)?;
            if data.error_code != 0 {
                return Err(format!(
                    "fetch of {topic}-{partition}@{}: error {}",
                    log.next, data.error_code
                ));
            }
            let (before, high_watermark) = (log.next, data.high_watermark);
            log.take(data).map_err(|why| format!("{topic}-{partition}@{before}: {why}"))?;
            if log.next >= high_watermark || log.next == before {
                return Ok(log);
            }
        }
    }
}

/// What reading a partition found.
pub(crate) struct ReadLog {
    /// The partition's first offset.
    pub(crate) start: i64,
    /// Offset after the last record.
    pub(crate) next: i64,
    /// Offsets and values.
    pub(crate) records: Vec<(i64, Bytes)>,
    /// Bytes of all batches.
    pub(crate) bytes: u64,
    /// Leader epoch of the last batch.
    pub(crate) epoch: LeaderEpoch,
}

impl ReadLog {
    /// Takes in what an answer to a fetch from `next` holds.
    pub(crate) fn take(&mut self, data: PartitionData) -> Outcome {
        self.start = data.log_start_offset;
        let mut bytes = data.records.unwrap_or_default().to_bytes();
        self.bytes += bytes.len() as u64;
        // The protocol lets a broker cut the last batch of an answer.
        while Batch::peek_len(&bytes).is_ok_and(|length| length <= bytes.len()) {
            let batch = Batch::split_from(&mut bytes).map_err(text)?;
            if !batch.crc_is_valid() {
                return Err(format!("wrong CRC of the batch at {}", batch.base_offset().0));
            }
            self.epoch = batch.leader_epoch();
            let open = OpenBatch::open(&batch, 64 << 20).map_err(text)?;
            for record in open.records() {
                let record = record.map_err(text)?;
                if record.offset.0 >= self.next {
                    let value = record.record.value.unwrap_or_default();
                    self.records.push((record.offset.0, Bytes::copy_from_slice(value)));
                }
            }
            self.next = batch.next_offset().0.max(self.next);
        }
        Ok(())
    }
}

impl Default for ReadLog {
    fn default() -> Self {
        Self { start: 0, next: 0, records: Vec::new(), bytes: 0, epoch: LeaderEpoch(-1) }
    }
}

/// Returns a Produce request with one batch and acks=all.
pub(crate) fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index: partition, records: Some(batch) };
    let topic = TopicProduceData {
        name: topic.into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    }
}

/// Returns the one partition's answer.
pub(crate) fn produced(answer: ProduceResponse) -> Outcome<PartitionProduceResponse> {
    let topic = answer.responses.into_iter().next();
    let partition = topic.and_then(|topic| topic.partition_responses.into_iter().next());
    partition.ok_or_else(|| "an answer about no partition".to_owned())
}

/// Returns a Fetch request for one partition.
pub(crate) fn fetch_request(
    topic: &str,
    partition: i32,
    offset: i64,
    max_wait_ms: i32,
) -> FetchRequest {
    let partition = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 4 << 20,
        ..FetchPartition::default()
    };
    let topic =
        FetchTopic { topic: topic.into(), partitions: vec![partition], ..FetchTopic::default() };
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 8 << 20,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}

/// Returns a batch of values, of an idempotent producer where one is given.
pub(crate) fn batch(values: &[Bytes], producer: Option<(i64, i16, i32)>) -> Bytes {
    let builder = BatchBuilder::new(Codec::None);
    match producer {
        Some(producer) => filled(builder.producer(known(producer)), values),
        None => filled(builder, values),
    }
}

/// Returns a batch of values that is part of a producer's transaction.
pub(crate) fn transactional_batch(values: &[Bytes], producer: (i64, i16, i32)) -> Bytes {
    filled(BatchBuilder::new(Codec::None).producer(known(producer)).transactional(), values)
}

fn known((id, epoch, base_sequence): (i64, i16, i32)) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence }
}

fn filled(mut builder: BatchBuilder, values: &[Bytes]) -> Bytes {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_millis() as i64);
    for value in values {
        builder.push(now, None, Some(value), &[]);
    }
    builder.build().to_bytes()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
