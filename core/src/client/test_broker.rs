//! A broker of a few lines, for unit tests: it reads the frames that a machine transmits and
//! answers what the test says.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::network::NetworkConfig;
use super::{Effect, Input, Link};
use crate::error::ErrorCode;
use crate::ids::Uuid;
use crate::time::{Instant, Now, UnixMillis};
use crate::wire::api::api_versions::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::wire::api::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use crate::wire::{ApiKey, KafkaString, Reader, Request, RequestHeader, Response};

/// The id of every topic of the test broker.
pub(super) const TOPIC_ID: Uuid = Uuid([7; 16]);

/// A request that waits for the test's answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) link: Link,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) body: Request,
}

/// A request by its correlation id, and its answer once the test has given it.
type Owed = (i32, Option<Vec<u8>>);

/// A broker, and the clock.
#[derive(Debug)]
pub(super) struct TestBroker {
    pub(super) now: Now,
    /// Partitions of each topic that exists.
    pub(super) topics: BTreeMap<&'static str, i32>,
    /// Names that it refuses, and with what.
    pub(super) refused: BTreeMap<&'static str, ErrorCode>,
    /// What it serves.
    pub(super) ranges: Vec<ApiVersion>,
    /// Whether it announces our own APIs.
    pub(super) is_ours: bool,
    /// The level of `transaction.version` that it tells, and how often that has changed.
    pub(super) transaction_version: (i16, i64),
    /// Brokers besides node 1, which leads everything.
    pub(super) others: Vec<i32>,
    /// Whether it accepts connections.
    pub(super) up: bool,
    pub(super) asked: VecDeque<Asked>,
    pub(super) inputs: VecDeque<Input>,
    pub(super) connects: usize,
    /// Answers leave in the order of the requests, so a later one waits here.
    owed: BTreeMap<Link, VecDeque<Owed>>,
}

/// Everything of Kafka's that is known, whether a broker of ours serves it or not.
fn every_api() -> Vec<ApiVersion> {
    ApiKey::ALL
        .iter()
        .filter(|api| !api.is_own())
        .map(|api| ApiVersion {
            api_key: api.key(),
            min_version: api.min_version(),
            max_version: api.max_version(),
        })
        .collect()
}

/// Settings with a bootstrap address at which the test broker is.
pub(super) fn network_config() -> NetworkConfig {
    NetworkConfig::new(vec![("localhost".into(), 9092)])
}

impl TestBroker {
    pub(super) fn new(topics: &[(&'static str, i32)]) -> Self {
        Self {
            now: Now { mono: Instant::from_nanos(1), wall: UnixMillis(1_000) },
            topics: topics.iter().copied().collect(),
            refused: BTreeMap::new(),
            ranges: every_api(),
            is_ours: true,
            transaction_version: (0, 0),
            others: Vec::new(),
            up: true,
            asked: VecDeque::new(),
            inputs: VecDeque::new(),
            connects: 0,
            owed: BTreeMap::new(),
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.wall = self.now.wall.plus(time.as_millis() as i64);
    }

    /// Takes an effect. Questions about versions and metadata are answered at once.
    pub(super) fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { link, .. } => {
                self.connects += 1;
                let input =
                    if self.up { Input::Connected(link) } else { Input::ConnectFailed(link) };
                self.inputs.push_back(input);
            }
            Effect::Close { .. } => {}
            Effect::Transmit { link, parts } => {
                let frame = Bytes::from(parts.concat());
                assert_eq!(frame[..4], ((frame.len() - 4) as i32).to_be_bytes());
                let mut reader = Reader::new(frame.slice(4..));
                let header = RequestHeader::decode(&mut reader).expect("a header");
                let api_key = ApiKey::from_key(header.api_key).expect("a known API");
                let body = Request::decode(api_key, header.api_version, &mut reader)
                    .expect("a body of the version that was negotiated");
                assert_eq!(reader.remaining(), 0);
                let asked = Asked {
                    link,
                    version: header.api_version,
                    correlation_id: header.correlation_id,
                    body,
                };
                let silent = matches!(&asked.body, Request::Produce(request) if request.acks == 0);
                if !silent {
                    let owed = self.owed.entry(link).or_default();
                    owed.push_back((asked.correlation_id, None));
                }
                if let Request::ApiVersions(_) = &asked.body {
                    self.answer_versions(&asked);
                } else if let Request::Metadata(request) = &asked.body {
                    let response = self.metadata(request);
                    self.answer(&asked, response);
                } else {
                    self.asked.push_back(asked);
                }
            }
        }
    }

    fn answer_versions(&mut self, asked: &Asked) {
        let own = self.ranges.iter().find(|range| range.api_key == ApiKey::ApiVersions.key());
        let max = own.expect("every broker serves it").max_version;
        let refused = asked.version > max;
        let error = if refused { ErrorCode::UnsupportedVersion } else { ErrorCode::None };
        let own = SupportedFeatureKey {
            name: KafkaString::from_static(ApiKey::OWN_FEATURE),
            min_version: 1,
            max_version: 1,
        };
        let response = Response::from(ApiVersionsResponse {
            error_code: error.code(),
            api_keys: self.ranges.clone(),
            supported_features: self.is_ours.then_some(own).into_iter().collect(),
            finalized_features_epoch: self.transaction_version.1,
            finalized_features: vec![FinalizedFeatureKey {
                name: KafkaString::from_static("transaction.version"),
                max_version_level: self.transaction_version.0,
                min_version_level: self.transaction_version.0,
            }],
            ..ApiVersionsResponse::default()
        });
        let version = if refused { 0 } else { asked.version };
        self.owe(asked, response.frame(asked.correlation_id, version).concat());
    }

    fn owe(&mut self, asked: &Asked, frame: Vec<u8>) {
        let owed = self.owed.get_mut(&asked.link).expect("it was asked on that connection");
        let place = owed.iter_mut().find(|(id, _)| *id == asked.correlation_id);
        place.expect("it is answered once").1 = Some(frame);
        while let Some((_, Some(frame))) = owed.front() {
            self.inputs.push_back(Input::Received(asked.link, BytesMut::from(&frame[..])));
            owed.pop_front();
        }
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let names: Vec<KafkaString> = match &request.topics {
            Some(asked) => asked.iter().filter_map(|topic| topic.name.clone()).collect(),
            None => self.topics.keys().map(|name| KafkaString::from_static(name)).collect(),
        };
        MetadataResponse {
            brokers: std::iter::once(1)
                .chain(self.others.iter().copied())
                .map(|node_id| MetadataResponseBroker {
                    node_id,
                    host: KafkaString::from_static("localhost"),
                    port: 9091 + node_id,
                    rack: None,
                })
                .collect(),
            controller_id: 1,
            topics: names
                .into_iter()
                .map(|name| match self.topics.get(&*name) {
                    Some(&partitions) => MetadataResponseTopic {
                        is_internal: name.starts_with("__"),
                        name: Some(name),
                        topic_id: TOPIC_ID,
                        partitions: (0..partitions)
                            .map(|index| MetadataResponsePartition {
                                partition_index: index,
                                leader_id: 1,
                                leader_epoch: 3,
                                ..MetadataResponsePartition::default()
                            })
                            .collect(),
                        ..MetadataResponseTopic::default()
                    },
                    None => MetadataResponseTopic {
                        error_code: self
                            .refused
                            .get(&*name)
                            .copied()
                            .unwrap_or(ErrorCode::UnknownTopicOrPartition)
                            .code(),
                        name: Some(name),
                        ..MetadataResponseTopic::default()
                    },
                })
                .collect(),
            ..MetadataResponse::default()
        }
    }

    /// Answers a request, in the version that it was asked in.
    pub(super) fn answer(&mut self, asked: &Asked, response: impl Into<Response>) {
        self.owe(asked, response.into().frame(asked.correlation_id, asked.version).concat());
    }

    /// The next request that waits for an answer.
    pub(super) fn next(&mut self) -> Asked {
        self.asked.pop_front().expect("a request was sent")
    }
}
