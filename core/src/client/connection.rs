//! One connection to a broker: negotiation of versions, frames, requests in flight.
//!
//! It begins with `ApiVersions` in the newest version known here. A broker that does not know that
//! version answers with error 35 in version 0, naming its own range (KIP-511); the question is then
//! put again. Answers come in the order of the requests.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

use super::ClientError;
use crate::error::ErrorCode;
use crate::time::Instant;
use crate::wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::frame::SIZE_BYTES;
use crate::wire::{
    ApiKey, KafkaString, Message, Reader, Request, Response, decode_response_header,
};

/// Name that the client gives its software in `ApiVersions`.
const SOFTWARE_NAME: &str = "mainspring";

/// How far a connection has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It is being made, until then.
    Connecting { deadline: Instant },
    /// The broker has been asked for its versions, in this one.
    Negotiating { version: i16 },
    /// Requests can be sent; the ranges that the broker serves.
    Ready { ranges: BTreeMap<ApiKey, (i16, i16)>, features: FinalizedFeatures },
}

/// The features that a broker has told of.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FinalizedFeatures {
    /// Counts the changes of what the cluster has settled on, -1 where the broker does not know.
    pub epoch: i64,
    /// The levels by their names.
    pub levels: BTreeMap<KafkaString, i16>,
}

/// A request that has not been answered.
#[derive(Clone, Debug)]
struct InFlight<T> {
    correlation_id: i32,
    api_key: ApiKey,
    version: i16,
    deadline: Instant,
    /// Whether the broker may hold the answer back for long, and all later ones with it.
    is_parked: bool,
    /// `None` for the connection's own question about versions.
    tag: Option<T>,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Completed<T> {
    /// What the request was sent for.
    pub tag: T,
    /// The version it was sent in.
    pub version: i16,
    /// The answer.
    pub result: Result<Response, ClientError>,
}

/// One connection to a broker.
#[derive(Clone, Debug)]
pub struct Connection<T> {
    state: State,
    client_id: KafkaString,
    buffer: BytesMut,
    next_correlation_id: i32,
    in_flight: VecDeque<InFlight<T>>,
    request_timeout: std::time::Duration,
    max_frame_bytes: usize,
    /// When the last bytes came of an answer that is not whole.
    moved_at: Option<Instant>,
}

impl<T> Connection<T> {
    /// Begins a connection that is to stand before `deadline`.
    pub fn new(
        client_id: KafkaString,
        deadline: Instant,
        request_timeout: std::time::Duration,
        max_frame_bytes: usize,
    ) -> Self {
        Self {
            state: State::Connecting { deadline },
            client_id,
            buffer: BytesMut::new(),
            next_correlation_id: 0,
            in_flight: VecDeque::new(),
            request_timeout,
            max_frame_bytes,
            moved_at: None,
        }
    }

    /// Returns whether requests can be sent.
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Returns how many requests wait for an answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns whether the broker may hold answers back for long.
    pub fn is_parked(&self) -> bool {
        self.in_flight.iter().any(|request| request.is_parked)
    }

    /// Returns when the connection is to be given up.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Connecting { deadline } => Some(deadline),
            State::Negotiating { .. } | State::Ready { .. } => {
                let front = self.in_flight.front()?;
                // A large answer over a slow line is late only once it stands still.
                let moved = self.moved_at.filter(|_| front.is_parked);
                let until = moved.map(|at| at + self.request_timeout);
                Some(until.map_or(front.deadline, |until| front.deadline.max(until)))
            }
        }
    }

    /// The connection stands: returns the frame that asks for versions.
    pub fn on_connected(&mut self, now: Instant) -> Vec<Bytes> {
        self.ask_versions(now, ApiKey::ApiVersions.max_version())
    }

    fn ask_versions(&mut self, now: Instant, version: i16) -> Vec<Bytes> {
        self.state = State::Negotiating { version };
        let request = ApiVersionsRequest {
            client_software_name: KafkaString::from_static(SOFTWARE_NAME),
            client_software_version: KafkaString::from_static(env!("CARGO_PKG_VERSION")),
        };
        let deadline = now + self.request_timeout;
        self.transmit(&request.into(), version, None, deadline, false)
    }

    /// Returns the highest version of an API that both sides speak, at most `max_version`.
    pub fn version(&self, api_key: ApiKey, max_version: i16) -> Option<i16> {
        let State::Ready { ranges, .. } = &self.state else {
            return None;
        };
        let &(min, max) = ranges.get(&api_key)?;
        let version = max.min(max_version).min(api_key.max_version());
        (version >= min && version >= api_key.min_version()).then_some(version)
    }

    /// Returns the features that the broker has told of, once it has answered.
    pub const fn features(&self) -> Option<&FinalizedFeatures> {
        match &self.state {
            State::Ready { features, .. } => Some(features),
            State::Connecting { .. } | State::Negotiating { .. } => None,
        }
    }

    /// Returns the frame of a request, which is from then on in flight.
    pub fn send(&mut self, now: Instant, request: &Request, version: i16, tag: T) -> Vec<Bytes> {
        assert!(self.is_ready(), "requests are sent once the versions are known");
        self.transmit(request, version, Some(tag), now + self.request_timeout, false)
    }

    /// Returns the frame of a request whose answer the broker may hold back until `deadline`.
    pub fn send_parked(
        &mut self,
        request: &Request,
        version: i16,
        tag: T,
        deadline: Instant,
    ) -> Vec<Bytes> {
        assert!(self.is_ready(), "requests are sent once the versions are known");
        self.transmit(request, version, Some(tag), deadline, true)
    }

    /// Returns the frame of a request that is not answered.
    pub fn send_unanswered(&mut self, request: &Request, version: i16) -> Vec<Bytes> {
        assert!(self.is_ready(), "requests are sent once the versions are known");
        let correlation_id = self.next_correlation_id();
        request.frame(correlation_id, Some(&self.client_id), version)
    }

    fn next_correlation_id(&mut self) -> i32 {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        correlation_id
    }

    fn transmit(
        &mut self,
        request: &Request,
        version: i16,
        tag: Option<T>,
        deadline: Instant,
        is_parked: bool,
    ) -> Vec<Bytes> {
        let correlation_id = self.next_correlation_id();
        self.in_flight.push_back(InFlight {
            correlation_id,
            api_key: request.api_key(),
            version,
            deadline,
            is_parked,
            tag,
        });
        request.frame(correlation_id, Some(&self.client_id), version)
    }

    /// Takes bytes in. Returns the frame of a question that follows from them, if any.
    ///
    /// # Errors
    /// Where the broker breaks the protocol: the connection is of no more use.
    pub fn on_received(
        &mut self,
        now: Instant,
        bytes: BytesMut,
        completed: &mut VecDeque<Completed<T>>,
    ) -> Result<Option<Vec<Bytes>>, ClientError> {
        if self.buffer.is_empty() {
            self.buffer = bytes;
        } else {
            self.buffer.unsplit(bytes);
        }
        let mut question = None;
        while let Some(frame) = self.take_frame()? {
            if let Some(parts) = self.on_frame(now, &frame, completed)? {
                question = Some(parts);
            }
        }
        self.moved_at = (!self.buffer.is_empty()).then_some(now);
        if self.buffer.is_empty() {
            // Its empty end would keep the memory of the answers.
            self.buffer = BytesMut::new();
        }
        Ok(question)
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(size) = self.buffer.first_chunk::<SIZE_BYTES>() else {
            return Ok(None);
        };
        let size = i32::from_be_bytes(*size);
        let size = usize::try_from(size)
            .ok()
            .filter(|&size| size <= self.max_frame_bytes)
            .ok_or_else(|| ClientError::Malformed(format!("a frame of {size} bytes")))?;
        if self.buffer.len() < SIZE_BYTES + size {
            return Ok(None);
        }
        self.buffer.advance(SIZE_BYTES);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    fn on_frame(
        &mut self,
        now: Instant,
        frame: &Bytes,
        completed: &mut VecDeque<Completed<T>>,
    ) -> Result<Option<Vec<Bytes>>, ClientError> {
        let malformed = |error: crate::wire::DecodeError| ClientError::Malformed(error.to_string());
        let Some(request) = self.in_flight.pop_front() else {
            return Err(ClientError::Malformed("an answer that nobody asked for".to_owned()));
        };
        let header_version = request.api_key.response_header_version(request.version);
        let mut reader = Reader::new(frame.clone());
        let correlation_id =
            decode_response_header(&mut reader, header_version).map_err(malformed)?;
        if correlation_id != request.correlation_id {
            return Err(ClientError::Malformed(format!(
                "an answer to request {correlation_id} where {} was expected",
                request.correlation_id
            )));
        }
        let Some(tag) = request.tag else {
            return self.on_versions(now, frame.slice(reader.position()..)).map_err(|error| {
                ClientError::Malformed(format!("in the answer about versions: {error}"))
            });
        };
        let result =
            Response::decode(request.api_key, request.version, &mut reader).map_err(malformed);
        completed.push_back(Completed { tag, version: request.version, result });
        Ok(None)
    }

    fn on_versions(
        &mut self,
        now: Instant,
        body: Bytes,
    ) -> Result<Option<Vec<Bytes>>, ClientError> {
        let State::Negotiating { version: asked } = self.state else {
            unreachable!("only a negotiating connection has asked for versions")
        };
        let code = body.first_chunk::<2>().map_or(0, |code| i16::from_be_bytes(*code));
        let refused = code == ErrorCode::UnsupportedVersion.code();
        if refused {
            // A refusal has the form of version 0, whatever was asked, and names what is served; where
            // it does neither, as librdkafka's mock cluster, version 0 is what every broker serves.
            let served = ApiVersionsResponse::decode(&mut Reader::new(body), 0).ok();
            let theirs = served
                .iter()
                .flat_map(|response| &response.api_keys)
                .find(|range| range.api_key == ApiKey::ApiVersions.key())
                .map_or(0, |range| range.max_version.max(0));
            if theirs >= asked {
                return Err(ClientError::UnsupportedApi(ApiKey::ApiVersions.name()));
            }
            return Ok(Some(self.ask_versions(now, theirs)));
        }
        let response = ApiVersionsResponse::decode(&mut Reader::new(body), asked)
            .map_err(|error| ClientError::Malformed(error.to_string()))?;
        if let Some(error) = ClientError::from_code(code) {
            return Err(error);
        }
        let ranges = response.api_keys.iter().filter_map(|range| {
            let api_key = ApiKey::from_key(range.api_key)?;
            Some((api_key, (range.min_version, range.max_version)))
        });
        let mut ranges: BTreeMap<ApiKey, (i16, i16)> = ranges.collect();
        // Our own APIs are told of by a feature, and not among the keys.
        let has_own = response.supported_features.iter().any(|feature| {
            &*feature.name == ApiKey::OWN_FEATURE
                && (feature.min_version..=feature.max_version).contains(&1)
        });
        if has_own {
            for api_key in ApiKey::OWN_FOR_CLIENTS {
                ranges.entry(api_key).or_insert((0, 0));
            }
        }
        let levels = response.finalized_features.iter();
        let levels =
            levels.map(|feature| (feature.name.detached(), feature.max_version_level)).collect();
        let features = FinalizedFeatures { epoch: response.finalized_features_epoch, levels };
        self.state = State::Ready { ranges, features };
        Ok(None)
    }

    /// The connection is gone: every request in flight ends with `error`.
    pub fn fail(self, error: &ClientError, completed: &mut VecDeque<Completed<T>>) {
        for request in self.in_flight {
            if let Some(tag) = request.tag {
                let result = Err(error.clone());
                completed.push_back(Completed { tag, version: request.version, result });
            }
        }
    }
}
