//! A client by hand: it says what the test tells it, and no more.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mainspring_core::record::builder::BatchBuilder;
use mainspring_core::record::compress::Codec;
use mainspring_core::wire::api::api_versions::ApiVersionsRequest;
use mainspring_core::wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic};
use mainspring_core::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use mainspring_core::wire::api::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use mainspring_core::wire::{
    ApiKey, KafkaString, Message, Reader, RequestMessage, decode_response_header, frame_request,
};
use mainspring_net::simulated::TcpStream;
use mainspring_sim::rng::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::broker::{ADDRESS, PORT};
use crate::run::now;

impl Answers {
    async fn next(&mut self) -> io::Result<Option<Answer>> {
        loop {
            if let Some(size) = self.received.first_chunk::<4>() {
                let size = u32::from_be_bytes(*size) as usize;
                if self.received.len() >= 4 + size {
                    self.received.advance(4);
                    let frame = self.received.split_to(size).freeze();
                    return Ok(Some(self.open(frame)));
                }
            }
            if self.reader.read_buf(&mut self.received).await? == 0 {
                let is_whole = self.received.is_empty();
                return if is_whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn open(&mut self, frame: Bytes) -> Answer {
        let told = i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
        let mut body = Reader::new(frame);
        let (correlation, api, version) =
            self.asked.pop_front().expect("an answer has a request of its own");
        let header = api.response_header_version(version);
        decode_response_header(&mut body, header).expect("an answer has a header");
        assert_eq!(told, correlation, "answers come in the order of the requests");
        Answer { correlation, api, version, body }
    }
}

/// A topic that is made when it is first asked for.
pub(crate) const TOPIC: &str = "t";

/// One connection, and what it has asked.
pub(crate) struct Peer {
    writer: WriteHalf<TcpStream>,
    answers: Answers,
    next: i32,
}

/// The side of a connection that reads.
struct Answers {
    reader: ReadHalf<TcpStream>,
    received: BytesMut,
    asked: VecDeque<(i32, ApiKey, i16)>,
}

/// One answer.
pub(crate) struct Answer {
    pub(crate) correlation: i32,
    pub(crate) api: ApiKey,
    version: i16,
    body: Reader,
}

impl Answer {
    /// Reads the body.
    pub(crate) fn body<M: Message>(mut self) -> M {
        M::decode(&mut self.body, self.version).expect("an answer follows the protocol")
    }
}

impl Peer {
    /// Connects to the broker.
    pub(crate) async fn connect() -> io::Result<Self> {
        let (reader, writer) = split(TcpStream::connect((ADDRESS, PORT)).await?);
        let answers = Answers { reader, received: BytesMut::new(), asked: VecDeque::new() };
        Ok(Self { writer, answers, next: 0 })
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.answers.reader.unsplit(self.writer).reset();
    }

    /// Returns how many requests are not answered.
    pub(crate) fn owed(&self) -> usize {
        self.answers.asked.len()
    }

    /// Sends a request and returns its correlation id.
    pub(crate) async fn ask<M: RequestMessage>(
        &mut self,
        message: &M,
        version: i16,
    ) -> io::Result<i32> {
        let (id, frame) = self.frame(message, version);
        self.send(&frame).await?;
        Ok(id)
    }

    /// Notes a request as sent and returns its frame.
    pub(crate) fn frame<M: RequestMessage>(&mut self, message: &M, version: i16) -> (i32, Bytes) {
        self.next += 1;
        self.answers.asked.push_back((self.next, M::KEY, version));
        let mut frame = BytesMut::new();
        for part in frame_request(self.next, Some("peer"), message, version) {
            frame.extend_from_slice(&part);
        }
        (self.next, frame.freeze())
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }

    /// Waits for the next answer, which must be that of the oldest request; `None` at a clean end.
    pub(crate) async fn answer(&mut self) -> io::Result<Option<Answer>> {
        self.answers.next().await
    }

    /// Sends bytes in pieces, with pauses, and reads answers as they come until none is owed.
    /// Returns them.
    pub(crate) async fn exchange(
        &mut self,
        bytes: &[u8],
        rng: &mut Rng,
    ) -> io::Result<Vec<Answer>> {
        let Self { writer, answers, .. } = self;
        let sending = async {
            let mut rest = bytes;
            while !rest.is_empty() {
                let most = if rng.chance(300) { 9 } else { 5000 };
                let piece = rest.len().min(rng.between(1, most) as usize);
                writer.write_all(&rest[..piece]).await?;
                writer.flush().await?;
                rest = &rest[piece..];
                if rng.chance(200) {
                    madsim::time::sleep(Duration::from_millis(rng.below(20))).await;
                }
            }
            Ok(())
        };
        let reading = async {
            let mut all = Vec::new();
            while !answers.asked.is_empty() {
                all.push(answers.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?);
            }
            Ok(all)
        };
        tokio::try_join!(sending, reading).map(|((), all)| all)
    }

    /// Reads until the connection ends; whether that was in good order.
    pub(crate) async fn ends_clean(&mut self) -> bool {
        loop {
            match self.answer().await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Asks something harmless, and whether it is answered.
    pub(crate) async fn is_served(&mut self) -> bool {
        self.ask(&ApiVersionsRequest::default(), 0).await.is_ok()
            && matches!(self.answer().await, Ok(Some(_)))
    }

    /// Makes the topic and waits until it is there.
    pub(crate) async fn make_topic(&mut self) -> io::Result<()> {
        loop {
            self.ask(&metadata(), METADATA_VERSION).await?;
            let Some(answer) = self.answer().await? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let answer: MetadataResponse = answer.body();
            if answer.topics.iter().all(|topic| topic.error_code == 0) {
                return Ok(());
            }
            madsim::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) const METADATA_VERSION: i16 = 12;
pub(crate) const PRODUCE_VERSION: i16 = 11;
pub(crate) const FETCH_VERSION: i16 = 11;

/// Asks for the topic, which makes it.
pub(crate) fn metadata() -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(KafkaString::from_static(TOPIC)),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    }
}

/// Sends one record.
pub(crate) fn produce(value: &[u8]) -> ProduceRequest {
    let mut batch = BatchBuilder::new(Codec::None);
    batch.push((now() / 1_000_000) as i64, None, Some(value), &[]);
    ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from_static(TOPIC),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch.build().to_bytes()),
            }],
            ..TopicProduceData::default()
        }],
    }
}

/// Returns where a record was stored, or the error.
pub(crate) fn stored_at(answer: Answer) -> Result<i64, i16> {
    let response: ProduceResponse = answer.body();
    let partition = &response.responses[0].partition_responses[0];
    match partition.error_code {
        0 => Ok(partition.base_offset),
        code => Err(code),
    }
}

/// Asks for records from an offset on.
pub(crate) fn fetch(offset: i64, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: KafkaString::from_static(TOPIC),
            partitions: vec![FetchPartition {
                partition: 0,
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}
