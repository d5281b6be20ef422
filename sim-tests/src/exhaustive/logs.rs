//! Producers, readers and crashes: a model of one node's logs.
//!
//! Every producer has all of its batches under way at once. An idempotent one sends again, over a new
//! connection, what it has no answer for; a plain one never does. A reader fetches once in each life
//! of its connection. What was acknowledged or read must be in every image that a crash may leave
//! from then on, and the high watermark never passes what is durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use mainspring_core::config::NodeConfig;
use mainspring_core::ids::{
    ConnectionId, PartitionIndex, ProducerEpoch, ProducerId, TopicPartition, Uuid,
};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::builder::{BatchBuilder, Producer};
use mainspring_core::record::compress::Codec;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use mainspring_core::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use mainspring_core::wire::api::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};

use super::images::{Contents, Images};
use super::messages::{decoded, framed};
use super::node::{Crash, Move, Node};
use super::search::{Broken, Model, Steps};
use crate::clock::EPOCH_MS;
use crate::disk::SimDisk;
use crate::log_bench::hashes;
use crate::trace::TraceHash;
use crate::world::MILLISECOND;

const TOPIC: &str = "t";
const METADATA_VERSION: i16 = 12;
const PRODUCE_VERSION: i16 = 11;
const FETCH_VERSION: i16 = 12;

/// What a log model is made of.
#[derive(Clone, Copy, Debug)]
pub struct LogModelOptions {
    /// Shards of the node.
    pub shards: u16,
    /// Partitions of the topic; batch `n` of a producer goes to partition `n` modulo that.
    pub partitions: i32,
    /// Batches of the idempotent producer.
    pub idempotent: u8,
    /// Batches of the plain producer.
    pub plain: u8,
    /// Bytes of the value of the plain producer's records; more than a sector makes blocks that tear.
    pub plain_bytes: usize,
    /// Whether there is a reader.
    pub reads: bool,
    /// Deaths of the process, at most.
    pub kills: u8,
    /// Power cuts, at most.
    pub power_cuts: u8,
    /// Breaks of a producer's connection, at most.
    pub resets: u8,
    /// Timers fire up to that long after the beginning, in milliseconds.
    pub horizon_ms: u64,
    /// Bytes of the first file of the journal.
    pub journal_bytes: u64,
    /// Pending pieces up to which a power cut leaves every subset.
    pub units: usize,
}

/// One batch that is to be produced.
#[derive(Debug)]
struct Planned {
    frame: Bytes,
    partition: i32,
    /// The hashes of its records.
    records: Vec<u64>,
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Unsent,
    UnderWay,
    Acked,
    /// Its connection went before the answer came, and it is not sent again.
    Unknown,
}

#[derive(Clone)]
struct Client {
    connection: Option<ConnectionId>,
    /// What was sent on the connection and not answered, in order.
    sent: VecDeque<usize>,
    fates: Vec<Fate>,
}

/// A state of the model.
#[derive(Clone)]
pub struct LogState {
    node: Node,
    clients: Vec<Client>,
    /// What was acknowledged or read: the hash of each record.
    seen: BTreeMap<(i32, i64), u64>,
    kills: u8,
    power_cuts: u8,
    resets: u8,
}

/// A step of the model.
pub struct LogStep(String);

impl fmt::Display for LogStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The model.
pub struct LogModel {
    options: LogModelOptions,
    topic: Uuid,
    /// The batches of each client; the reader has one request.
    plans: Vec<Vec<Planned>>,
    known_records: BTreeSet<u64>,
    images: Images,
    /// What the crashes at a disk may leave, by its hash.
    after: BTreeMap<u64, Rc<[Rc<Contents>]>>,
    checked: BTreeSet<*const Contents>,
    horizon: u64,
    crashes: u64,
    begun_with: u64,
}

/// The clients, by their places.
const IDEMPOTENT: usize = 0;
const READER: usize = 2;

impl LogModel {
    /// Makes the model.
    pub fn new(options: LogModelOptions) -> Self {
        let mut model = Self {
            options,
            topic: Uuid::ZERO,
            plans: Vec::new(),
            known_records: BTreeSet::new(),
            images: Images::default(),
            after: BTreeMap::new(),
            checked: BTreeSet::new(),
            horizon: 0,
            crashes: 0,
            begun_with: 0,
        };
        let idempotent = (0..options.idempotent).map(|nth| model.plan(nth, true)).collect();
        let plain = (0..options.plain).map(|nth| model.plan(nth, false)).collect();
        let read = Planned { frame: fetch(options.partitions), partition: 0, records: Vec::new() };
        model.plans = vec![idempotent, plain, Vec::from_iter(options.reads.then_some(read))];
        for plan in model.plans.iter().flatten() {
            model.known_records.extend(&plan.records);
        }
        model
    }

    fn plan(&self, nth: u8, is_idempotent: bool) -> Planned {
        let mut builder = BatchBuilder::new(Codec::None);
        if is_idempotent {
            builder = builder.producer(Producer {
                id: ProducerId(1_000),
                epoch: ProducerEpoch(0),
                base_sequence: i32::from(nth) / self.options.partitions,
            });
        }
        let bytes = if is_idempotent { 20 } else { self.options.plain_bytes };
        let value = vec![nth + 1; bytes];
        builder.push(EPOCH_MS, Some(&[u8::from(is_idempotent), nth]), Some(&value), &[]);
        let batch = builder.build();
        let partition = i32::from(nth) % self.options.partitions;
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: KafkaString::from(TOPIC),
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(batch.to_bytes()),
                }],
                ..TopicProduceData::default()
            }],
        };
        Planned {
            frame: framed(&request, PRODUCE_VERSION, i32::from(nth)),
            partition,
            records: hashes(&batch).into_iter().map(|(_, hash)| hash).collect(),
        }
    }

    fn log(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic_id: self.topic, partition: PartitionIndex(partition) }
    }

    /// Lets every client that has no connection make one and send what it has to send.
    fn connect(&self, state: &mut LogState) -> Result<(), Broken> {
        if !state.node.is_ready() {
            return Ok(());
        }
        for (place, plans) in self.plans.iter().enumerate() {
            let client = &mut state.clients[place];
            let wants = |fate: &Fate| matches!(fate, Fate::Unsent | Fate::UnderWay);
            if client.connection.is_some() || !client.fates.iter().any(wants) {
                continue;
            }
            let connection = state.node.connect(place as u16 % self.options.shards)?;
            client.connection = Some(connection);
            for (nth, fate) in client.fates.iter_mut().enumerate() {
                if wants(fate) {
                    *fate = Fate::UnderWay;
                    client.sent.push_back(nth);
                    state.node.send(connection, plans[nth].frame.clone());
                }
            }
        }
        Ok(())
    }

    /// The connection of a client is gone.
    fn disconnected(place: usize, client: &mut Client) {
        client.connection = None;
        client.sent.clear();
        if place != IDEMPOTENT {
            for fate in &mut client.fates {
                if *fate == Fate::UnderWay {
                    *fate = Fate::Unknown;
                }
            }
        }
    }

    fn answer(&self, state: &mut LogState, connection: ConnectionId) -> Result<(), Broken> {
        let place = state.clients.iter().position(|client| client.connection == Some(connection));
        let (Some(frame), Some(place)) = (state.node.take_answer(connection), place) else {
            return Ok(());
        };
        let Some(nth) = state.clients[place].sent.pop_front() else {
            return Err(Broken::new("I13", "an answer to no request"));
        };
        state.clients[place].fates[nth] = Fate::Acked;
        if place == READER {
            return Self::read(state, frame);
        }
        let plan = &self.plans[place][nth];
        let response: ProduceResponse = decoded::<ProduceRequest, _>(frame, PRODUCE_VERSION)?;
        let outcome = &response.responses[0].partition_responses[0];
        if outcome.error_code != 0 {
            let message = format!("batch {nth} of client {place} got {}", outcome.error_code);
            return Err(Broken::new("L3", message));
        }
        for (more, hash) in plan.records.iter().enumerate() {
            let offset = outcome.base_offset + more as i64;
            see(&mut state.seen, plan.partition, offset, *hash)?;
        }
        Ok(())
    }

    fn read(state: &mut LogState, frame: Bytes) -> Result<(), Broken> {
        let response: FetchResponse = decoded::<FetchRequest, _>(frame, FETCH_VERSION)?;
        for partition in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            if partition.error_code != 0 {
                return Err(Broken::new("L3", format!("a fetch got {}", partition.error_code)));
            }
            let mut bytes = partition.records.map(|parts| parts.to_bytes()).unwrap_or_default();
            while !bytes.is_empty() {
                let batch = Batch::split_from(&mut bytes)
                    .map_err(|error| Broken::new("I13", format!("a fetch returned {error}")))?;
                if !batch.crc_is_valid() {
                    return Err(Broken::new("I13", "a fetch returned a wrong CRC"));
                }
                for (offset, hash) in hashes(&batch) {
                    if offset >= partition.high_watermark {
                        let message = format!("offset {offset} was read above the watermark");
                        return Err(Broken::new("I13", message));
                    }
                    see(&mut state.seen, partition.partition_index, offset, hash)?;
                }
            }
        }
        Ok(())
    }

    /// Clients whose connections the node has closed notice it, and connect where they can.
    fn follow(&self, state: &mut LogState) -> Result<(), Broken> {
        for connection in state.node.take_closed() {
            for (place, client) in state.clients.iter_mut().enumerate() {
                if client.connection == Some(connection) {
                    Self::disconnected(place, client);
                }
            }
        }
        self.connect(state)
    }

    fn made(&self, state: &LogState, choice: Move) -> Result<LogState, Broken> {
        let mut next = state.clone();
        next.node.make(choice)?;
        if let Move::Answer(connection) = choice {
            self.answer(&mut next, connection)?;
        }
        self.follow(&mut next)?;
        Ok(next)
    }

    fn crashed(
        &mut self,
        state: &LogState,
        crash: Crash,
        disk: SimDisk,
    ) -> Result<LogState, Broken> {
        self.crashes += 1;
        let mut next = state.clone();
        match crash {
            Crash::Kill => next.kills += 1,
            Crash::PowerCut => next.power_cuts += 1,
        }
        for (place, client) in next.clients.iter_mut().enumerate() {
            Self::disconnected(place, client);
        }
        next.node.start_with(disk)?;
        if next.kills == self.options.kills && next.power_cuts == self.options.power_cuts {
            // Nothing can strike any more while it starts.
            next.node.settle(true)?;
            self.follow(&mut next)?;
        }
        Ok(next)
    }

    /// Returns what may be found after a crash at this moment.
    fn contents_after(&mut self, node: &Node) -> Result<Rc<[Rc<Contents>]>, Broken> {
        let key = node.disk().state_hash();
        if let Some(known) = self.after.get(&key) {
            return Ok(Rc::clone(known));
        }
        let mut found: Vec<Rc<Contents>> = Vec::new();
        let config = Arc::clone(node.config());
        for crash in [Crash::Kill, Crash::PowerCut] {
            for image in node.after(crash, self.options.units) {
                let contents = self.images.contents(&image, &config.log, config.shards)?;
                if !found.contains(&contents) {
                    self.check_contents(&contents)?;
                    found.push(contents);
                }
            }
        }
        let found: Rc<[Rc<Contents>]> = found.into();
        self.after.insert(key, Rc::clone(&found));
        Ok(found)
    }

    /// Holds what a start serves against what may have been sent at all.
    fn check_contents(&mut self, contents: &Rc<Contents>) -> Result<(), Broken> {
        if !self.checked.insert(Rc::as_ptr(contents)) {
            return Ok(());
        }
        for partition in 0..self.options.partitions {
            let Some(content) = contents.get(&self.log(partition)) else { continue };
            for (place, (offset, hash)) in content.records.iter().enumerate() {
                if *offset != content.start + place as i64 {
                    return Err(Broken::new("I04", format!("a gap at {offset} of {partition}")));
                }
                if !self.known_records.contains(hash) {
                    return Err(Broken::new("I16", format!("nobody wrote what is at {offset}")));
                }
            }
            // Batches of the idempotent producer stand once, in order, from the first.
            let order: Vec<u64> = self.plans[IDEMPOTENT]
                .iter()
                .filter(|plan| plan.partition == partition)
                .flat_map(|plan| plan.records.iter().copied())
                .collect();
            let there: Vec<u64> = content
                .records
                .iter()
                .map(|(_, hash)| *hash)
                .filter(|hash| order.contains(hash))
                .collect();
            if !order.starts_with(&there) {
                let message = format!("partition {partition} holds {there:x?} of {order:x?}");
                return Err(Broken::new("I18", message));
            }
        }
        Ok(())
    }
}

/// Remembers what somebody was told about an offset.
fn see(
    seen: &mut BTreeMap<(i32, i64), u64>,
    partition: i32,
    offset: i64,
    hash: u64,
) -> Result<(), Broken> {
    match seen.insert((partition, offset), hash) {
        Some(before) if before != hash => {
            Err(Broken::new("I01", format!("offset {offset} of {partition} was something else")))
        }
        _ => Ok(()),
    }
}

impl Model for LogModel {
    type State = LogState;
    type Step = LogStep;

    fn begin(&mut self) -> Result<LogState, Broken> {
        let mut node = Node::new(Arc::new(config(&self.options)), 4096);
        node.start()?;
        node.settle(true)?;
        let connection = node.connect(0)?;
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                topic_id: Uuid::ZERO,
                name: Some(KafkaString::from(TOPIC)),
            }]),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        node.send(connection, framed(&request, METADATA_VERSION, 0));
        node.settle(false)?;
        let frame = node.take_answer(connection);
        let frame = frame.ok_or_else(|| Broken::new("L3", "no answer about the topic"))?;
        let response: MetadataResponse = decoded::<MetadataRequest, _>(frame, METADATA_VERSION)?;
        self.topic = response.topics[0].topic_id;
        node.disconnect(connection)?;
        node.begin_anew()?;
        self.begun_with = node.disk().with_in_flight().pending_units() as u64;
        self.horizon = self.options.horizon_ms * MILLISECOND;
        let clients = self
            .plans
            .iter()
            .map(|plans| Client {
                connection: None,
                sent: VecDeque::new(),
                fates: vec![Fate::Unsent; plans.len()],
            })
            .collect();
        let mut state =
            LogState { node, clients, seen: BTreeMap::new(), kills: 0, power_cuts: 0, resets: 0 };
        self.connect(&mut state)?;
        Ok(state)
    }

    fn steps(&mut self, state: &LogState) -> Steps<LogStep, LogState> {
        let mut steps = Vec::new();
        let mut moves = state.node.moves(self.horizon);
        if !state.node.is_ready() {
            // A start has nobody to race with, so its operations end in their order.
            moves.retain(|choice| !matches!(choice, Move::Timer));
            moves.truncate(1);
        }
        for choice in moves {
            let step = || LogStep(state.node.describe(choice));
            let next = self.made(state, choice).map_err(|broken| (step(), broken))?;
            steps.push((step(), next));
        }
        let left = [
            (Crash::Kill, self.options.kills.saturating_sub(state.kills)),
            (Crash::PowerCut, self.options.power_cuts.saturating_sub(state.power_cuts)),
        ];
        for (crash, left) in left {
            if left == 0 {
                continue;
            }
            for (nth, disk) in state.node.after(crash, self.options.units).into_iter().enumerate() {
                let step = || LogStep(format!("{crash:?}, image {nth}"));
                let next = self.crashed(state, crash, disk).map_err(|broken| (step(), broken))?;
                steps.push((step(), next));
            }
        }
        if state.resets < self.options.resets
            && let Some(connection) = state.clients[IDEMPOTENT].connection
            && !state.clients[IDEMPOTENT].sent.is_empty()
        {
            let step = || LogStep("the idempotent producer's connection breaks".into());
            let mut next = state.clone();
            next.resets += 1;
            let done = next.node.disconnect(connection).and_then(|()| {
                Self::disconnected(IDEMPOTENT, &mut next.clients[IDEMPOTENT]);
                self.follow(&mut next)
            });
            done.map_err(|broken| (step(), broken))?;
            steps.push((step(), next));
        }
        Ok(steps)
    }

    fn key(&self, state: &LogState) -> u64 {
        let mut hash = TraceHash::default();
        state.node.hash(&mut hash);
        for client in &state.clients {
            hash.number(client.connection.map_or(0, |connection| connection.0));
            for sent in &client.sent {
                hash.number(*sent as u64);
            }
            for fate in &client.fates {
                hash.number(*fate as u64 + 100);
            }
        }
        for ((partition, offset), record) in &state.seen {
            hash.number(*partition as u64);
            hash.number(*offset as u64);
            hash.number(*record);
        }
        for (log, end) in state.node.watermarks() {
            hash.number(log.partition.0 as u64);
            hash.number(*end as u64);
        }
        for count in [state.kills, state.power_cuts, state.resets] {
            hash.number(u64::from(count));
        }
        hash.finish()
    }

    fn check(&mut self, state: &LogState) -> Result<(), Broken> {
        for contents in self.contents_after(&state.node)?.iter() {
            for (&(partition, offset), hash) in &state.seen {
                let found = contents
                    .get(&self.log(partition))
                    .and_then(|content| content.records.iter().find(|record| record.0 == offset));
                if found != Some(&(offset, *hash)) {
                    let message = format!(
                        "offset {offset} of partition {partition} was acknowledged or read, and a \
                         crash may leave {found:?} there"
                    );
                    return Err(Broken::new("I03", message));
                }
            }
            for (log, watermark) in state.node.watermarks() {
                let end = contents
                    .get(log)
                    .map_or(0, |content| content.start + content.records.len() as i64);
                if log.topic_id == self.topic && end < *watermark {
                    let message = format!("{log} is committed up to {watermark}, durable to {end}");
                    return Err(Broken::new("I06", message));
                }
            }
        }
        // Nothing is on its way and nothing under way: whoever waits will wait for ever.
        let at_rest = state.node.moves(0).is_empty();
        let waits = |client: &Client| client.fates.contains(&Fate::UnderWay);
        if at_rest && (!state.node.is_ready() || state.clients.iter().any(waits)) {
            return Err(Broken::new("L3", "nothing moves, and a client or the start waits"));
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("pending at the beginning", self.begun_with),
            ("crashes", self.crashes),
            ("disks", self.after.len() as u64),
            ("images recovered", self.images.recovered()),
            ("second recoveries", self.images.second_recoveries),
        ]
    }
}

fn config(options: &LogModelOptions) -> NodeConfig {
    let mut config = NodeConfig { shards: options.shards, ..NodeConfig::default() };
    config.log.journal_first_file_bytes = options.journal_bytes;
    config.log.journal_file_bytes = options.journal_bytes;
    config.log.journal_max_bytes = 1 << 20;
    config.log.journal_block_bytes = 16 << 10;
    config.log.tail_cache_bytes = 64 << 10;
    config.settings.set("num.partitions", &options.partitions.to_string()).expect("it is known");
    // A batch must fit a journal file.
    config.settings.set("message.max.bytes", "12000").expect("it is known");
    config
}

fn fetch(partitions: i32) -> Bytes {
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 0,
        topics: vec![FetchTopic {
            topic: KafkaString::from(TOPIC),
            partitions: (0..partitions)
                .map(|partition| FetchPartition {
                    partition,
                    partition_max_bytes: 1 << 20,
                    ..FetchPartition::default()
                })
                .collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    framed(&request, FETCH_VERSION, 0)
}
