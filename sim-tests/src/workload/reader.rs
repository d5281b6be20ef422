//! A reader: it fetches every partition from its start, asks for ends, and at the end of the run
//! one reader reads everything once more for the record.

use bytes::Bytes;
use mainspring_core::record::batch::Batch;
use mainspring_core::record::iterate::OpenBatch;
use mainspring_core::record::marker::TxnMarker;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use mainspring_core::wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use mainspring_core::wire::api::metadata::MetadataResponse;

use super::line::{Answer, Line};
use super::{Load, PATIENCE, SharedRef, place};
use crate::history::{Fact, OperationId, RecordKind, SeenRecord, record_hash};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND};

/// Most bytes of a batch whose payload is opened.
const OPEN_MAX: usize = 4 << 20;

/// Asks for the first offset of a partition.
const EARLIEST: i64 = -2;
/// Asks for its end.
pub(super) const LATEST: i64 = -1;
/// Nothing stands at the offset that was asked for.
const OUT_OF_RANGE: i16 = 1;
/// There is no topic of that name.
const UNKNOWN_TOPIC: i16 = 3;
/// There is no topic of that id.
const UNKNOWN_TOPIC_ID: i16 = 100;

#[derive(Clone, Copy, Debug)]
enum About {
    Metadata,
    Fetch(usize),
    Earliest(usize),
    Latest(usize, OperationId),
    /// The place, a record that is known, and its time.
    Time(usize, i64, i64),
}

#[derive(Clone, Debug, Default)]
struct Partition {
    /// What is read next; `None` until the start of the log is known.
    position: Option<i64>,
    log_start: i64,
    /// Where the final reading ends, once that is known.
    end: Option<i64>,
    /// A record that was read last, or one before it, and its time.
    known: Option<(i64, i64)>,
    records: Vec<SeenRecord>,
    told: bool,
}

/// The reader.
#[derive(Debug)]
pub struct Reader {
    client: usize,
    load: Load,
    shared: SharedRef,
    version: i16,
    /// Whether it reads everything once more at the end.
    recorder: bool,
    retention: Option<u64>,
    line: Line<About>,
    knows_topics: bool,
    partitions: Vec<Partition>,
    next_operation: u64,
    operations_left: u64,
    finishing: bool,
    /// The final reading has begun.
    last_pass: bool,
    /// How often it was refused in the final reading.
    refusals: u32,
    done: bool,
}

impl Reader {
    /// Makes a reader that fetches with a version of the API from 4 to 17.
    /// A recorder also tells the checkers from what age on records may go by themselves.
    pub fn new(
        client: usize,
        load: Load,
        shared: SharedRef,
        version: i16,
        recorder: bool,
        retention: Option<u64>,
    ) -> Self {
        let places = load.topics.len() * load.partitions as usize;
        Self {
            client,
            operations_left: load.operations,
            load,
            shared,
            version,
            recorder,
            retention: retention.filter(|_| recorder),
            line: Line::default(),
            knows_topics: false,
            partitions: vec![Partition::default(); places],
            next_operation: 0,
            finishing: false,
            last_pass: false,
            refusals: 0,
            done: false,
        }
    }

    fn topic_of(&self, place: usize) -> (&str, i32) {
        let partitions = self.load.partitions as usize;
        (&self.load.topics[place / partitions], (place % partitions) as i32)
    }

    fn reaches(&mut self, hands: &mut Hands<'_>, place: usize) -> bool {
        let partitions = self.load.partitions as usize;
        let (topic, index) = (&self.load.topics[place / partitions], place % partitions);
        self.line.reaches(hands, topic, index as i32)
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        if let Some(age) = self.retention.take() {
            hands.tell(Fact::Retention { age });
        }
        let rests = self.operations_left == 0 && !self.finishing && self.line.in_flight() == 0;
        if rests {
            return;
        }
        hands.wake_at(hands.now + 50 * MILLISECOND);
        if self.done {
            return;
        }
        if self.finishing && self.shared.borrow().is_written() && !self.last_pass {
            if !self.recorder {
                self.done = true;
                return;
            }
            // A connection of its own, so that no answer of before is taken for the end's.
            self.last_pass = true;
            self.line.drop_stream(hands);
            self.partitions.fill(Partition::default());
        }
        if !self.line.is_ready(hands) || self.line.in_flight() > 0 {
            return;
        }
        if !self.knows_topics || self.line.wants_leaders(hands) {
            let topics = self.load.topics.clone();
            self.line.ask_metadata(hands, &topics, About::Metadata);
            return;
        }
        if self.last_pass {
            let unread = self.partitions.iter().position(|partition| !partition.told);
            if unread.is_some_and(|at| !self.reaches(hands, at)) {
                return;
            }
            match unread {
                Some(at) if self.partitions[at].position.is_none() => self.ask_earliest(hands, at),
                Some(at) if self.partitions[at].end.is_none() => self.ask_latest(hands, at),
                Some(at) => self.fetch(hands, at),
                None => self.done = true,
            }
            return;
        }
        if self.operations_left == 0 {
            return;
        }
        let at = hands.rng.index(self.partitions.len());
        if !self.reaches(hands, at) {
            return;
        }
        self.operations_left -= 1;
        if self.partitions[at].position.is_none() {
            self.ask_earliest(hands, at);
        } else if hands.rng.chance(100) {
            self.ask_latest(hands, at);
        } else if self.partitions[at].known.is_some() && hands.rng.chance(100) {
            self.ask_time(hands, at);
        } else {
            self.fetch(hands, at);
        }
    }

    fn ask_earliest(&mut self, hands: &mut Hands<'_>, at: usize) {
        let (topic, index) = self.topic_of(at);
        let request = list_offsets(topic, index, EARLIEST);
        let place = (topic.to_owned(), index);
        self.line.send_to_leader(hands, (&place.0, place.1), &request, 6, About::Earliest(at));
    }

    fn ask_latest(&mut self, hands: &mut Hands<'_>, at: usize) {
        let (topic, index) = self.topic_of(at);
        let Some(partition) = place(&self.shared, topic, index) else { return };
        let request = list_offsets(topic, index, LATEST);
        let place = (topic.to_owned(), index);
        let operation = OperationId { client: self.client, number: self.next_operation };
        self.next_operation += 1;
        hands.tell(Fact::AskedLatest { operation, partition });
        let about = About::Latest(at, operation);
        self.line.send_to_leader(hands, (&place.0, place.1), &request, 6, about);
    }

    /// Looks for the time of what was read last.
    fn ask_time(&mut self, hands: &mut Hands<'_>, at: usize) {
        let Some((known, time)) = self.partitions[at].known else { return };
        let (topic, index) = self.topic_of(at);
        let request = list_offsets(topic, index, time);
        let place = (topic.to_owned(), index);
        let about = About::Time(at, known, time);
        self.line.send_to_leader(hands, (&place.0, place.1), &request, 6, about);
    }

    fn fetch(&mut self, hands: &mut Hands<'_>, at: usize) {
        let (topic, index) = self.topic_of(at);
        let Some(partition) = place(&self.shared, topic, index) else { return };
        let Some(position) = self.partitions[at].position else { return };
        let most = [1, 300, 4_000, 60_000][hands.rng.index(4)];
        let request = FetchRequest {
            max_wait_ms: if self.last_pass { 100 } else { 30 },
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic: KafkaString::from(topic),
                topic_id: partition.topic_id,
                partitions: vec![FetchPartition {
                    partition: index,
                    fetch_offset: position,
                    partition_max_bytes: most,
                    ..FetchPartition::default()
                }],
            }],
            ..FetchRequest::default()
        };
        let place = (topic.to_owned(), index);
        let about = About::Fetch(at);
        self.line.send_to_leader(hands, (&place.0, place.1), &request, self.version, about);
    }

    fn answer(&mut self, hands: &mut Hands<'_>, mut answer: Answer<About>) {
        match answer.about {
            About::Metadata => {
                let response: MetadataResponse = answer.body();
                self.knows_topics =
                    self.line.learn(hands, &self.shared, &response, &self.load.topics);
            }
            About::Earliest(at) => {
                let response: ListOffsetsResponse = answer.body();
                let found = &response.topics[0].partitions[0];
                if found.error_code == 0 {
                    let state = &mut self.partitions[at];
                    state.position = Some(found.offset);
                    state.log_start = state.log_start.max(found.offset);
                    self.tell_if_read(hands, at);
                } else {
                    self.line.leaders_changed();
                }
            }
            About::Latest(at, operation) => {
                let response: ListOffsetsResponse = answer.body();
                let found = &response.topics[0].partitions[0];
                if found.error_code == 0 {
                    hands.tell(Fact::Latest { operation, offset: found.offset });
                    self.partitions[at].end = Some(found.offset);
                    self.tell_if_read(hands, at);
                } else {
                    self.line.leaders_changed();
                }
            }
            About::Time(at, known, time) => {
                let response: ListOffsetsResponse = answer.body();
                let found = &response.topics[0].partitions[0];
                let (topic, index) = self.topic_of(at);
                let Some(partition) = place(&self.shared, topic, index) else { return };
                if found.error_code == 0 {
                    let found = (found.offset >= 0).then_some((found.offset, found.timestamp));
                    hands.tell(Fact::FoundByTime { partition, time, known, found });
                } else {
                    self.line.leaders_changed();
                }
            }
            About::Fetch(at) => {
                let response: FetchResponse = answer.body();
                let Some(topic) = response.responses.into_iter().next() else { return };
                let Some(data) = topic.partitions.into_iter().next() else { return };
                self.fetched(hands, at, data);
            }
        }
    }

    fn fetched(&mut self, hands: &mut Hands<'_>, at: usize, data: PartitionData) {
        let (topic, index) = self.topic_of(at);
        let Some(partition) = place(&self.shared, topic, index) else { return };
        if data.error_code != 0 {
            let damaged = data.error_code == 2;
            hands.tell(Fact::ReadFailed { partition, code: data.error_code });
            self.line.leaders_changed();
            if matches!(data.error_code, UNKNOWN_TOPIC | UNKNOWN_TOPIC_ID) {
                self.knows_topics = false;
            }
            if self.last_pass && self.load.gives_up && !damaged {
                self.refusals += 1;
                self.partitions[at].told |= self.refusals > PATIENCE;
            }
            if data.error_code == OUT_OF_RANGE {
                self.partitions[at].position = None;
            }
            if damaged
                && self.last_pass
                && let Some(position) = &mut self.partitions[at].position
            {
                // Told as damaged, it is no loss in silence; what lies behind it is served.
                hands.tell(Fact::ToldDamaged { partition, offset: *position });
                *position += 1;
                self.tell_if_read(hands, at);
            }
            return;
        }
        let bytes = data.records.map(|parts| parts.to_bytes()).unwrap_or_default();
        let Some(from) = self.partitions[at].position else { return };
        self.partitions[at].known = last_time(bytes.clone()).or(self.partitions[at].known);
        let (records, crc_valid) = read_batches(bytes, from);
        let next = records.last().map_or(from, |last| last.offset + 1);
        let log_start = data.log_start_offset.max(0);
        let state = &mut self.partitions[at];
        state.position = Some(next);
        state.log_start = state.log_start.max(log_start);
        if self.last_pass {
            state.records.extend(records.iter().cloned());
            // Who ended a transaction may have been answered before its markers were written; they are part of it.
            let is_stable = !(0..data.high_watermark).contains(&data.last_stable_offset);
            let end = if is_stable { data.high_watermark } else { i64::MAX };
            state.end =
                state.end.map(|before| if before == i64::MAX { end } else { before.max(end) });
        }
        if self.version >= 5 {
            hands.tell(Fact::Read {
                client: self.client,
                partition,
                from,
                records,
                crc_valid,
                high_watermark: data.high_watermark,
                log_start,
            });
        }
        self.tell_if_read(hands, at);
    }

    fn tell_if_read(&mut self, hands: &mut Hands<'_>, at: usize) {
        let (topic, index) = self.topic_of(at);
        let Some(partition) = place(&self.shared, topic, index) else { return };
        let state = &mut self.partitions[at];
        let is_read = state.position.zip(state.end).is_some_and(|(position, end)| position >= end);
        if self.last_pass && !state.told && is_read {
            state.told = true;
            // What went while it was read is no part of the log any more.
            let mut records = std::mem::take(&mut state.records);
            records.retain(|record| record.offset >= state.log_start);
            hands.tell(Fact::FinalLog { partition, log_start: state.log_start, records });
        }
    }
}

/// Returns the question for one offset of a partition.
pub(super) fn list_offsets(
    topic: &str,
    partition_index: i32,
    timestamp: i64,
) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 0,
        topics: vec![ListOffsetsTopic {
            name: KafkaString::from(topic),
            partitions: vec![ListOffsetsPartition {
                partition_index,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    }
}

/// Returns the end of the last batch with records, and a time that one of them has.
fn last_time(mut bytes: Bytes) -> Option<(i64, i64)> {
    let mut last = None;
    while let Ok(batch) = Batch::split_from(&mut bytes) {
        if !batch.is_control() {
            last = Some((batch.last_offset().0, batch.max_timestamp()));
        }
    }
    last
}

/// Opens fetched batches; what lies before `from` is left out. Also tells whether every CRC holds.
pub(crate) fn read_batches(mut bytes: Bytes, from: i64) -> (Vec<SeenRecord>, bool) {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let Ok(batch) = Batch::split_from(&mut bytes) else { return (records, false) };
        let Ok(open) = OpenBatch::open(&batch, OPEN_MAX) else { return (records, false) };
        if !batch.crc_is_valid() {
            return (records, false);
        }
        let kind = kind_of(&batch);
        for (nth, placed) in open.records().enumerate() {
            let Ok(placed) = placed else { return (records, false) };
            if placed.offset.0 < from {
                continue;
            }
            let base = batch.base_sequence();
            let sequence =
                if base < 0 { -1 } else { ((i64::from(base) + nth as i64) & 0x7fff_ffff) as i32 };
            records.push(SeenRecord {
                offset: placed.offset.0,
                hash: record_hash(placed.timestamp, placed.record.key, placed.record.value),
                producer_id: batch.producer_id().0,
                producer_epoch: batch.producer_epoch().0,
                sequence,
                kind,
            });
        }
    }
    (records, true)
}

/// Returns what the records of a batch are to transactions.
fn kind_of(batch: &Batch) -> RecordKind {
    match TxnMarker::of(batch) {
        Some(marker) => RecordKind::Marker { committed: marker.committed },
        None if batch.is_control() => RecordKind::Control,
        None if batch.is_transactional() => RecordKind::Transactional,
        None => RecordKind::Plain,
    }
}

impl Actor for Reader {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        match event {
            ActorEvent::Wake => {}
            ActorEvent::Connected(stream) => self.line.connected(stream),
            ActorEvent::Received(stream, bytes) => {
                for answer in self.line.received(stream, &bytes) {
                    self.answer(hands, answer);
                }
            }
            ActorEvent::Disconnected(stream) => {
                self.line.disconnected(hands, stream);
            }
            ActorEvent::Finish => self.finishing = true,
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.done).then(|| {
            let unread = self.partitions.iter().filter(|partition| !partition.told).count();
            format!("reader {} has {unread} partitions to read", self.client)
        })
    }
}
