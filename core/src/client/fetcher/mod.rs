//! Reads partitions that it is told to read, each from where it is told.
//!
//! One fetch at a time is on its way to each broker, without a fetch session. What was fetched is held
//! until it is taken. While more than [`FetcherConfig::prefetch_bytes`] wait, only partitions of
//! which nothing waits are asked for, so that memory is bounded and no partition starves.

mod batches;
mod near;
mod records;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use self::batches::read_batches;
use self::near::Near;
pub use self::records::{FetchedRecords, Iter, RecordView};
use super::metadata::ABSENT_AFTER;
use super::network::{Network, NetworkConfig, Target};
use super::producer::accumulator::Place;
use super::{ClientError, Effect, Input};
use crate::error::ErrorCode;
use crate::ids::{NodeId, Offset, PartitionIndex, TopicId};
use crate::time::{Instant, Now};
use crate::wire::Parts;
use crate::wire::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use crate::wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use crate::wire::{ApiKey, KafkaString, Request, Response};

/// The last version of Fetch that names topics.
const LAST_VERSION_BY_NAME: i16 = 12;
/// Timestamp that asks for the end of the log.
const LATEST: i64 = -1;
/// Timestamp that asks for the start of the log.
const EARLIEST: i64 = -2;

/// Where to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// Behind the last record there is.
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first record with this time or a later one, in Unix milliseconds; behind the last
    /// record where there is none.
    Time(i64),
}

/// A position was not in its log, and reading goes on elsewhere by [`FetcherConfig::reset`]. Retention has taken
/// what was there, or the log was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reset {
    /// The topic and partition.
    pub place: Place,
    /// What was to be read.
    pub position: Offset,
    /// Where reading goes on.
    pub start: Start,
}

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (topic, partition) = &self.place;
        write!(
            f,
            "offset {} is not in the log of {topic}-{partition}; going on at ",
            self.position
        )?;
        match self.start {
            Start::Earliest => f.write_str("its start"),
            Start::Latest => f.write_str("its end"),
            Start::Offset(offset) => write!(f, "offset {offset}"),
            Start::Time(ms) => write!(f, "the first record of {ms} ms"),
        }
    }
}

/// What a fetcher is told at its birth. Names and defaults are those of Kafka's consumer.
#[derive(Clone, Debug)]
pub struct FetcherConfig {
    /// Connections and metadata.
    pub network: NetworkConfig,
    /// Whether records of transactions are read only once these are committed (`isolation.level`).
    pub read_committed: bool,
    /// Bytes that a fetch waits for (`fetch.min.bytes`).
    pub min_bytes: i32,
    /// How long it waits for them (`fetch.max.wait.ms`).
    pub max_wait: Duration,
    /// Most bytes of a fetch (`fetch.max.bytes`).
    pub max_bytes: i32,
    /// Most bytes of a partition in a fetch (`max.partition.fetch.bytes`).
    pub max_partition_bytes: i32,
    /// Bytes of fetched records that may wait, below which more are asked for of partitions of which
    /// some wait already. 0 asks for more of a partition only when all of it is taken.
    pub prefetch_bytes: usize,
    /// Most bytes that one batch may decompress to.
    pub max_batch_bytes: usize,
    /// Where to go on from an offset that is not there (`auto.offset.reset`); `None` fails.
    pub reset: Option<Start>,
    /// Where the client stands: a replica in sync there is read from, else the leader (`client.rack`).
    pub rack: Option<KafkaString>,
}

impl FetcherConfig {
    /// Kafka's defaults, for brokers that `network` names, but going on from the earliest record.
    pub const fn new(network: NetworkConfig) -> Self {
        Self {
            network,
            read_committed: false,
            min_bytes: 1,
            max_wait: Duration::from_millis(500),
            max_bytes: 50 << 20,
            max_partition_bytes: 1 << 20,
            prefetch_bytes: 4 << 20,
            max_batch_bytes: 256 << 20,
            reset: Some(Start::Earliest),
            rack: None,
        }
    }
}

/// What there is to tell.
#[derive(Clone, PartialEq, Debug)]
pub enum FetchEvent {
    /// Records of one partition, in order.
    Records {
        /// The topic and partition.
        place: Place,
        /// The records; empty where a fetch brought only what readers are not shown.
        records: FetchedRecords,
        /// The offset behind them, where reading goes on.
        next_offset: Offset,
        /// The offset behind the last committed record of the partition.
        high_watermark: Offset,
    },
    /// A partition cannot be read on. It rests until it is told where to go on.
    Failed {
        /// The topic and partition.
        place: Place,
        /// Why.
        error: ClientError,
    },
}

impl FetchEvent {
    const fn place(&self) -> &Place {
        match self {
            Self::Records { place, .. } | Self::Failed { place, .. } => place,
        }
    }
}

/// Where a partition stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Position {
    /// The offset must be asked for.
    Unknown(Start),
    /// The next record is this one.
    At(Offset),
    /// It has failed.
    Failed,
}

#[derive(Clone, Debug)]
struct Partition {
    position: Position,
    /// Counts the times that it was told where to begin, so that older answers are not taken.
    generation: u64,
    is_asked: bool,
    /// Bytes of the records that wait to be told.
    waiting_bytes: usize,
    is_paused: bool,
    retry_at: Instant,
    /// Answers in a row that could not be used.
    failures: u32,
    high_watermark: Option<Offset>,
    near: Near,
    /// The offset behind what was told, `None` while the first one is being asked for.
    told_to: Option<Offset>,
}

/// A partition that a request asks about.
#[derive(Clone, Debug)]
struct Asked {
    place: Place,
    topic_id: TopicId,
    generation: u64,
}

/// Why a request was sent.
#[derive(Clone, Debug)]
enum Purpose {
    Offsets(Vec<(Asked, Start)>),
    Fetch(NodeId, Vec<Asked>),
}

/// Reads partitions.
#[derive(Clone, Debug)]
pub struct Fetcher {
    config: FetcherConfig,
    network: Network<Purpose>,
    partitions: BTreeMap<Place, Partition>,
    fetching: BTreeSet<NodeId>,
    generations: u64,
    events: VecDeque<(u64, FetchEvent)>,
    /// Whether a broker did not know a topic since this was last asked.
    misses_topics: bool,
    /// What nobody has taken yet, one of each partition.
    resets: BTreeMap<Place, Reset>,
    /// Partitions that their topics do not have, and the answers there were when that was seen; `None` once it
    /// is told.
    absent: BTreeMap<Place, Option<u64>>,
    /// What is to be told of them, a line each.
    warnings: Vec<String>,
    wake_at: Option<Instant>,
}

impl Fetcher {
    /// Reads nothing yet, and connects to nothing.
    pub fn new(config: FetcherConfig) -> Self {
        Self {
            network: Network::new(config.network.clone()),
            config,
            partitions: BTreeMap::new(),
            fetching: BTreeSet::new(),
            generations: 0,
            events: VecDeque::new(),
            misses_topics: false,
            resets: BTreeMap::new(),
            absent: BTreeMap::new(),
            warnings: Vec::new(),
            wake_at: None,
        }
    }

    /// Begins to read a partition, or goes on elsewhere in one that is read.
    pub fn assign(
        &mut self,
        now: Now,
        topic: &KafkaString,
        partition: PartitionIndex,
        start: Start,
    ) {
        self.generations += 1;
        let position = match start {
            Start::Offset(offset) => Position::At(offset),
            Start::Earliest | Start::Latest | Start::Time(_) => Position::Unknown(start),
        };
        let state = Partition {
            position,
            generation: self.generations,
            is_asked: false,
            waiting_bytes: 0,
            is_paused: false,
            retry_at: Instant::ZERO,
            failures: 0,
            // Going elsewhere in a partition changes nothing of its end.
            high_watermark: self.high_watermark(topic, partition),
            near: Near::default(),
            told_to: match start {
                Start::Offset(offset) => Some(offset),
                Start::Earliest | Start::Latest | Start::Time(_) => None,
            },
        };
        self.partitions.insert((topic.detached(), partition), state);
        self.drive(now.mono);
    }

    /// Stops reading a partition. What was fetched of it is not told any more.
    pub fn unassign(&mut self, topic: &KafkaString, partition: PartitionIndex) {
        self.partitions.remove(&(topic.clone(), partition));
        if !self.partitions.keys().any(|(other, _)| other == topic) {
            let topics = self.partitions.keys().map(|(topic, _)| topic.clone()).collect();
            self.network.want_only(&topics);
        }
    }

    /// Returns the partitions that are read.
    pub fn assigned(&self) -> Vec<Place> {
        self.partitions.keys().cloned().collect()
    }

    /// Returns whether a broker did not know a topic since this was last asked: it may be gone.
    pub const fn take_misses_topics(&mut self) -> bool {
        std::mem::replace(&mut self.misses_topics, false)
    }

    /// Takes the positions that were not in their logs since this was last asked.
    pub fn take_resets(&mut self) -> Vec<Reset> {
        std::mem::take(&mut self.resets).into_values().collect()
    }

    /// Takes what people should be told since this was last asked, a line each: positions that were not in
    /// their logs, and topics that are not there.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let mut told: Vec<String> = self.take_resets().iter().map(ToString::to_string).collect();
        told.append(&mut self.warnings);
        told.extend(self.network.take_warnings());
        told
    }

    /// Holds a partition back: nothing more of it is asked for or told until it is resumed.
    pub fn pause(&mut self, topic: &KafkaString, partition: PartitionIndex) {
        if let Some(state) = self.partitions.get_mut(&(topic.clone(), partition)) {
            state.is_paused = true;
        }
    }

    /// Goes on with a partition that was paused.
    pub fn resume(&mut self, now: Now, topic: &KafkaString, partition: PartitionIndex) {
        if let Some(state) = self.partitions.get_mut(&(topic.clone(), partition)) {
            state.is_paused = false;
        }
        self.drive(now.mono);
    }

    /// Returns the offset behind what was told of a partition: where its reader stands. `None` while
    /// the first offset is being asked for.
    pub fn told_to(&self, topic: &KafkaString, partition: PartitionIndex) -> Option<Offset> {
        self.partitions.get(&(topic.clone(), partition))?.told_to
    }

    /// Returns whether [`Fetcher::poll_event`] has something to tell.
    pub fn has_events(&self) -> bool {
        self.events.iter().any(|(generation, event)| self.is_due(*generation, event))
    }

    /// Returns the offset of the next record to be read, `None` while it is being asked for.
    pub fn position(&self, topic: &KafkaString, partition: PartitionIndex) -> Option<Offset> {
        match self.partitions.get(&(topic.clone(), partition))?.position {
            Position::At(offset) => Some(offset),
            Position::Unknown(_) | Position::Failed => None,
        }
    }

    /// Returns the offset behind the last committed record, as the last fetch told it.
    pub fn high_watermark(&self, topic: &KafkaString, partition: PartitionIndex) -> Option<Offset> {
        self.partitions.get(&(topic.clone(), partition))?.high_watermark
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.network.handle(now.mono, input);
        self.drive(now.mono);
    }

    /// Takes the next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.network.poll_effect()
    }

    /// Takes the next thing to be told, and asks for more of the partition it is about.
    pub fn poll_event(&mut self, now: Now) -> Option<FetchEvent> {
        self.events.retain(|(generation, event)| {
            let known = self.partitions.get(event.place());
            known.is_some_and(|partition| partition.generation == *generation)
        });
        let at =
            self.events.iter().position(|(generation, event)| self.is_due(*generation, event))?;
        let (_, event) = self.events.remove(at)?;
        let partition = self.partitions.get_mut(event.place())?;
        if let FetchEvent::Records { next_offset, records, .. } = &event {
            partition.waiting_bytes -= weight(records);
            partition.told_to = Some(*next_offset);
        }
        self.drive(now.mono);
        Some(event)
    }

    /// Whether an event is about a partition as it is read now, and that is not paused.
    fn is_due(&self, generation: u64, event: &FetchEvent) -> bool {
        self.partitions
            .get(event.place())
            .is_some_and(|known| known.generation == generation && !known.is_paused)
    }

    /// Returns when to come back at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.generations == 0 {
            return None;
        }
        self.network.next_deadline().into_iter().chain(self.wake_at).min()
    }

    fn drive(&mut self, now: Instant) {
        self.take_answers(now);
        for (topic, _) in self.partitions.keys() {
            self.network.want(topic);
        }
        self.ask(now);
        if self.generations > 0 {
            self.network.maintain(now);
        }
        self.take_answers(now);
        let pauses = self.partitions.values().filter(|partition| !partition.is_asked);
        self.wake_at = pauses.map(|partition| partition.retry_at).filter(|at| *at > now).min();
    }

    /// Sends what can be asked to each leader that can take it.
    fn ask(&mut self, now: Instant) {
        let mut offsets: BTreeMap<NodeId, Vec<(Place, Start)>> = BTreeMap::new();
        let mut fetches: BTreeMap<NodeId, Vec<(Place, Offset)>> = BTreeMap::new();
        let mut homeless = false;
        let metadata = self.network.metadata();
        let waiting: usize = self.partitions.values().map(|known| known.waiting_bytes).sum();
        let is_full = waiting >= self.config.prefetch_bytes;
        for (place, partition) in &self.partitions {
            let is_held = is_full && partition.waiting_bytes > 0;
            let waits = partition.is_asked || is_held || partition.is_paused;
            if waits || partition.retry_at > now {
                continue;
            }
            let leader = metadata
                .leader(&place.0, place.1)
                .filter(|leader| metadata.brokers().contains_key(&leader.node));
            match (partition.position, leader) {
                (Position::Failed, _) => {}
                (_, None) => homeless = true,
                (Position::Unknown(start), Some(leader)) => {
                    offsets.entry(leader.node).or_default().push((place.clone(), start));
                }
                (Position::At(offset), Some(leader)) => {
                    let node = partition.near.node(now, leader, metadata);
                    if !self.fetching.contains(&node) {
                        fetches.entry(node).or_default().push((place.clone(), offset));
                    }
                }
            }
        }
        if homeless {
            self.network.mark_stale(now);
            self.fail_unknown_topics();
            self.note_absent();
        }
        for (node, places) in offsets {
            if let Some(link) = self.network.ready(now, Target::Node(node)) {
                self.ask_offsets(now, link, places);
            }
        }
        let mut is_out_of_reach = false;
        for (node, places) in fetches {
            if let Some(link) = self.network.ready(now, Target::Node(node)) {
                self.ask_records(now, link, node, places);
            } else if self.network.failures(node) > 0 {
                for (place, _) in places {
                    let known = self.partitions.get_mut(&place);
                    is_out_of_reach |= known.is_some_and(|it| it.near.failed(now, node));
                }
            }
        }
        if is_out_of_reach {
            // Whoever cannot reach the replica near by asks the leader.
            self.ask(now);
        }
    }

    /// Tells of partitions that topics do not have, once for each, when enough answers have said so.
    fn note_absent(&mut self) {
        let metadata = self.network.metadata();
        let answers = metadata.answers();
        let count = |place: &Place| metadata.lacks(&place.0, place.1);
        let partitions = &self.partitions;
        self.absent.retain(|place, _| partitions.contains_key(place) && count(place).is_some());
        for (place, count) in partitions.keys().filter_map(|place| Some((place, count(place)?))) {
            let since = self.absent.entry(place.clone()).or_insert(Some(answers));
            if since.is_some_and(|since| answers - since >= ABSENT_AFTER) {
                *since = None;
                let error = ClientError::NoPartition(count);
                let (topic, partition) = (&place.0, place.1);
                self.warnings.push(format!(
                    "partition {partition} of topic {topic}: {error}; asking for it again by itself"
                ));
            }
        }
    }

    /// Fails the partitions of topics that can never become known.
    fn fail_unknown_topics(&mut self) {
        let failed: Vec<(Place, ClientError)> = self
            .partitions
            .iter()
            .filter(|(_, partition)| partition.position != Position::Failed)
            .filter_map(|(place, _)| {
                let error = self.network.metadata().error(&place.0)?;
                Some((place.clone(), error.clone()))
            })
            .collect();
        for (place, error) in failed {
            self.fail(&place, error);
        }
    }

    fn asked(&mut self, place: Place) -> Asked {
        let topic_id =
            self.network.metadata().topic(&place.0).map_or(TopicId::ZERO, |topic| topic.topic_id);
        let partition = self.partitions.get_mut(&place).expect("it was chosen from among them");
        partition.is_asked = true;
        Asked { topic_id, generation: partition.generation, place }
    }

    fn ask_offsets(&mut self, now: Instant, link: super::Link, places: Vec<(Place, Start)>) {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        let mut asked = Vec::with_capacity(places.len());
        for (place, start) in places {
            let timestamp = match start {
                Start::Latest => LATEST,
                Start::Earliest | Start::Offset(_) => EARLIEST,
                Start::Time(timestamp) => timestamp,
            };
            let leader = self.network.metadata().leader(&place.0, place.1);
            let partition = ListOffsetsPartition {
                partition_index: place.1.0,
                current_leader_epoch: leader.map_or(-1, |leader| leader.epoch.0),
                timestamp,
            };
            match topics.iter_mut().find(|topic| topic.name == place.0) {
                Some(topic) => topic.partitions.push(partition),
                None => topics
                    .push(ListOffsetsTopic { name: place.0.clone(), partitions: vec![partition] }),
            }
            asked.push((self.asked(place), start));
        }
        let request = Request::ListOffsets(ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(self.config.read_committed),
            topics,
            timeout_ms: self.config.network.request_timeout.as_millis() as i32,
        });
        let max_version = ApiKey::ListOffsets.max_version();
        self.network.send(now, link, &request, max_version, Purpose::Offsets(asked));
    }

    fn ask_records(
        &mut self,
        now: Instant,
        link: super::Link,
        node: NodeId,
        places: Vec<(Place, Offset)>,
    ) {
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut asked = Vec::with_capacity(places.len());
        // A rack counts for the whole request. A leader in it names nobody else.
        let (mut may_name, mut reads_near) = (true, false);
        for (place, offset) in places {
            let leader = self.network.metadata().leader(&place.0, place.1);
            if leader.is_some_and(|leader| leader.node == node) {
                let known = self.partitions.get(&place);
                may_name &= known.is_some_and(|known| known.near.is_wanted(now));
            } else {
                reads_near = true;
            }
            let partition = FetchPartition {
                partition: place.1.0,
                current_leader_epoch: leader.map_or(-1, |leader| leader.epoch.0),
                fetch_offset: offset.0,
                partition_max_bytes: self.config.max_partition_bytes,
                ..FetchPartition::default()
            };
            let asks = self.asked(place);
            match topics.iter_mut().find(|topic| topic.topic == asks.place.0) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(FetchTopic {
                    topic: asks.place.0.clone(),
                    topic_id: asks.topic_id,
                    partitions: vec![partition],
                }),
            }
            asked.push(asks);
        }
        let by_name = topics.iter().any(|topic| topic.topic_id.is_zero());
        let max_version = if by_name { LAST_VERSION_BY_NAME } else { ApiKey::Fetch.max_version() };
        let rack = self.config.rack.clone().filter(|_| may_name || reads_near);
        let request = Request::Fetch(FetchRequest {
            max_wait_ms: self.config.max_wait.as_millis() as i32,
            min_bytes: self.config.min_bytes,
            max_bytes: self.config.max_bytes,
            isolation_level: i8::from(self.config.read_committed),
            topics,
            rack_id: rack.unwrap_or_default(),
            ..FetchRequest::default()
        });
        self.fetching.insert(node);
        self.network.send(now, link, &request, max_version, Purpose::Fetch(node, asked));
    }

    fn take_answers(&mut self, now: Instant) {
        while let Some(completed) = self.network.poll_completed() {
            match (completed.tag, completed.result) {
                (Purpose::Offsets(asked), Ok(Response::ListOffsets(response))) => {
                    for (asked, start) in asked {
                        let result = offset_in(&response, &asked);
                        self.on_offset(now, &asked, start, result);
                    }
                }
                (Purpose::Fetch(node, asked), Ok(Response::Fetch(response))) => {
                    self.fetching.remove(&node);
                    for asked in asked {
                        let data = match ClientError::from_code(response.error_code) {
                            Some(error) => Err(error),
                            None => data_in(&response, &asked),
                        };
                        self.on_data(now, node, &asked, data);
                    }
                }
                (Purpose::Offsets(asked), Err(error)) => {
                    for (asked, _) in asked {
                        self.on_error(now, &asked, error.clone());
                    }
                }
                (Purpose::Fetch(node, asked), Err(error)) => {
                    self.fetching.remove(&node);
                    for asked in asked {
                        self.on_fetch_error(now, node, &asked, error.clone());
                    }
                }
                (Purpose::Offsets(_) | Purpose::Fetch(..), Ok(_)) => {
                    unreachable!("an answer has the type of its question")
                }
            }
        }
    }

    /// Returns the partition that was asked about, unless it has been told to go on elsewhere.
    fn settled(&mut self, asked: &Asked) -> Option<&mut Partition> {
        let partition = self
            .partitions
            .get_mut(&asked.place)
            .filter(|partition| partition.generation == asked.generation)?;
        partition.is_asked = false;
        Some(partition)
    }

    fn on_offset(
        &mut self,
        now: Instant,
        asked: &Asked,
        start: Start,
        result: Result<Offset, ClientError>,
    ) {
        match result {
            Ok(offset) => {
                if let Some(partition) = self.settled(asked) {
                    partition.failures = 0;
                    // No record is that young: go on behind the last one.
                    let nothing = offset.0 < 0 && matches!(start, Start::Time(_));
                    partition.position = if nothing {
                        Position::Unknown(Start::Latest)
                    } else {
                        partition.told_to = Some(offset);
                        Position::At(offset)
                    };
                }
            }
            Err(error) => self.on_error(now, asked, error),
        }
    }

    fn on_error(&mut self, now: Instant, asked: &Asked, error: ClientError) {
        let backoff = self.config.network.retry_backoff;
        let longest = self.config.network.retry_backoff_max;
        let reset = self.config.reset;
        let stale = error.is_stale_metadata();
        let misses_topic = error.is_unknown_topic();
        let Some(partition) = self.settled(asked) else {
            return;
        };
        match (&error, reset) {
            (ClientError::Broker(ErrorCode::OffsetOutOfRange), Some(start)) => {
                let before = partition.position;
                partition.told_to = match start {
                    Start::Offset(offset) => Some(offset),
                    Start::Earliest | Start::Latest | Start::Time(_) => None,
                };
                partition.position = match start {
                    Start::Offset(offset) => Position::At(offset),
                    Start::Earliest | Start::Latest | Start::Time(_) => Position::Unknown(start),
                };
                partition.retry_at = now + backoff;
                if let Position::At(position) = before {
                    let place = asked.place.clone();
                    self.resets.insert(place.clone(), Reset { place, position, start });
                }
            }
            _ if error.is_retriable() => {
                partition.retry_at = now + super::backoff(backoff, longest, partition.failures);
                partition.failures = partition.failures.saturating_add(1);
                self.misses_topics |= misses_topic;
            }
            _ => self.fail(&asked.place, error),
        }
        if stale {
            self.network.mark_stale(now);
        }
    }

    /// Takes in that a fetch has failed: what a replica near by lacks the leader may have.
    fn on_fetch_error(&mut self, now: Instant, node: NodeId, asked: &Asked, error: ClientError) {
        let backoff = self.config.network.retry_backoff;
        let Some(partition) = self.settled(asked) else { return };
        if !partition.near.failed(now, node) {
            return self.on_error(now, asked, error);
        }
        partition.retry_at = now + backoff;
        if error.is_stale_metadata() {
            self.network.mark_stale(now);
        }
    }

    /// Takes in which replica the leader of a partition has named.
    fn on_named(&mut self, now: Instant, node: NodeId, asked: &Asked, replica: NodeId) {
        let metadata = self.network.metadata();
        let leader = metadata.leader(&asked.place.0, asked.place.1);
        let epoch = leader.filter(|it| it.node == node).map(|it| it.epoch);
        let is_known = metadata.brokers().contains_key(&replica);
        let time = self.config.network.metadata_max_age;
        let backoff = self.config.network.retry_backoff;
        let Some(partition) = self.settled(asked) else { return };
        if let Some(epoch) = epoch.filter(|_| is_known && replica != node) {
            partition.near.named(now, replica, epoch, time);
        } else {
            partition.near.is_unknown(now);
            partition.retry_at = now + backoff;
            self.network.mark_stale(now);
        }
    }

    fn fail(&mut self, place: &Place, error: ClientError) {
        if let Some(partition) = self.partitions.get_mut(place) {
            partition.position = Position::Failed;
            let event = FetchEvent::Failed { place: place.clone(), error };
            self.events.push_back((partition.generation, event));
        }
    }

    fn on_data(
        &mut self,
        now: Instant,
        node: NodeId,
        asked: &Asked,
        data: Result<&PartitionData, ClientError>,
    ) {
        let data = match data {
            Ok(data) if data.preferred_read_replica >= 0 => {
                return self.on_named(now, node, asked, NodeId(data.preferred_read_replica));
            }
            Ok(data) => data,
            Err(error) => return self.on_fetch_error(now, node, asked, error),
        };
        let read_committed = self.config.read_committed;
        let max_batch_bytes = self.config.max_batch_bytes;
        let retry_backoff = self.config.network.retry_backoff;
        let Some(partition) = self.settled(asked) else {
            return;
        };
        partition.failures = 0;
        let Position::At(position) = partition.position else {
            return;
        };
        let high_watermark = Offset(data.high_watermark);
        partition.high_watermark = Some(high_watermark);
        let aborted = if read_committed { data.aborted_transactions.as_deref() } else { None };
        let bytes = data.records.as_ref().map(Parts::to_bytes).unwrap_or_default();
        let is_empty = bytes.is_empty();
        let read = read_batches(bytes, position, aborted.unwrap_or_default(), max_batch_bytes);
        if read.next_offset > position {
            partition.position = Position::At(read.next_offset);
            partition.waiting_bytes += weight(&read.records);
            let generation = partition.generation;
            let event = FetchEvent::Records {
                place: asked.place.clone(),
                records: read.records,
                next_offset: read.next_offset,
                high_watermark,
            };
            self.events.push_back((generation, event));
        } else if !is_empty {
            // Bytes that lead nowhere must not be asked for again at once, and for ever.
            partition.retry_at = now + retry_backoff;
        }
        let Some(error) = read.error else { return };
        match self.partitions.get_mut(&asked.place) {
            Some(partition) if partition.near.is_at(node) => {
                partition.near.failed(now, node);
                partition.retry_at = now + retry_backoff;
            }
            _ => self.fail(&asked.place, error),
        }
    }
}

/// What records count that wait to be told: at least something, even where none is shown.
fn weight(records: &FetchedRecords) -> usize {
    records.bytes().max(1)
}

fn no_word(place: &Place) -> ClientError {
    ClientError::Malformed(format!("no word about {}-{}", place.0, place.1))
}

fn offset_in(response: &ListOffsetsResponse, asked: &Asked) -> Result<Offset, ClientError> {
    let (name, index) = &asked.place;
    let partition = response
        .topics
        .iter()
        .filter(|topic| topic.name == *name)
        .flat_map(|topic| &topic.partitions)
        .find(|partition| partition.partition_index == index.0)
        .ok_or_else(|| no_word(&asked.place))?;
    match ClientError::from_code(partition.error_code) {
        None => Ok(Offset(partition.offset)),
        Some(error) => Err(error),
    }
}

fn data_in<'a>(
    response: &'a FetchResponse,
    asked: &Asked,
) -> Result<&'a PartitionData, ClientError> {
    let (name, index) = &asked.place;
    let data = response
        .responses
        .iter()
        .filter(|topic| {
            topic.topic == *name || (!asked.topic_id.is_zero() && topic.topic_id == asked.topic_id)
        })
        .flat_map(|topic| &topic.partitions)
        .find(|data| data.partition_index == index.0)
        .ok_or_else(|| no_word(&asked.place))?;
    match ClientError::from_code(data.error_code) {
        None => Ok(data),
        Some(error) => Err(error),
    }
}
