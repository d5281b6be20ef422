//! A reader of partitions that hold what comes later: it makes their topics, tells every batch as it is served,
//! and at the end, when nothing will be due any more, reads all of them once more.

use bytes::Bytes;
use mainspring_core::record::batch::Batch;
use mainspring_core::record::iterate::OpenBatch;
use mainspring_core::record::marker::TxnMarker;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use mainspring_core::wire::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use mainspring_core::wire::api::list_offsets::ListOffsetsResponse;
use mainspring_core::wire::api::metadata::MetadataResponse;

use super::delayer::{read_recurring_token, read_token};
use super::judge::{CHECK_AFTER_MS, CHECK_INTERVAL_MS, CHECK_MAX};
use super::line::{Answer, Line};
use super::reader::{LATEST, list_offsets};
use super::{Load, SharedRef, place};
use crate::history::{Fact, OperationId, ServedBatch, content_hash};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND, SECOND};

/// Asks for the first offset of a partition.
const EARLIEST: i64 = -2;
/// Nothing stands at the offset that was asked for.
const OUT_OF_RANGE: i16 = 1;
/// Gives committed records alone.
const READ_COMMITTED: i8 = 1;

/// How long it takes at most, all faults over, until what is due has come, in nanoseconds.
const SETTLES: u64 = 20 * SECOND;

#[derive(Clone, Copy, Debug)]
enum About {
    Metadata,
    Create,
    Earliest(usize),
    Latest(usize),
    Fetch(usize),
}

#[derive(Clone, Copy, Debug, Default)]
struct Partition {
    /// What is read next; `None` until the start of the log is known.
    position: Option<i64>,
    /// Its end, once that is asked for at the end.
    latest: Option<i64>,
    /// Whether it was read to its end since nothing will be due any more.
    is_stable: bool,
}

/// The reader.
#[derive(Debug)]
pub struct DelayReader {
    client: usize,
    load: Load,
    shared: SharedRef,
    version: i16,
    line: Line<About>,
    made: bool,
    committed: bool,
    /// How wrong clocks may be: ahead and late, until it is told.
    clocks: Option<(i64, i64)>,
    late: u64,
    /// The final reading has begun.
    last_pass: bool,
    knows_topics: bool,
    partitions: Vec<Partition>,
    finished_at: u64,
    next_fetch: u64,
    finishing: bool,
    done: bool,
}

impl DelayReader {
    /// Makes a reader that fetches with a version of the API from 5 to 17. It counts itself as one that has not
    /// seen everything stable.
    pub fn new(
        client: usize,
        load: Load,
        shared: SharedRef,
        version: i16,
        committed: bool,
        clocks: (i64, i64),
    ) -> Self {
        shared.borrow_mut().unstable += 1;
        shared.borrow_mut().viewers += 1;
        let places = load.topics.len() * load.partitions as usize;
        Self {
            client,
            finished_at: 0,
            load,
            shared,
            version,
            line: Line::default(),
            made: false,
            committed,
            late: clocks.1 as u64 * MILLISECOND,
            clocks: Some(clocks),
            last_pass: false,
            knows_topics: false,
            partitions: vec![Partition::default(); places],
            next_fetch: 0,
            finishing: false,
            done: false,
        }
    }

    fn topic_of(&self, at: usize) -> (&str, i32) {
        let partitions = self.load.partitions as usize;
        (&self.load.topics[at / partitions], (at % partitions) as i32)
    }

    /// Returns whether nobody writes any more, and all that waits must have come.
    fn is_written(&self, now: u64) -> bool {
        let shared = self.shared.borrow();
        let due = shared.delayed.iter().map(|sent| sent.latest).max().unwrap_or(0);
        let since = due.max(self.finished_at) + self.late + SETTLES;
        self.finishing && shared.producers == 0 && now > since
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        if let Some((ahead_ms, late_ms)) = self.clocks.take() {
            hands.tell(Fact::ClocksErr { ahead_ms, late_ms });
        }
        if self.done {
            return;
        }
        hands.wake_at(hands.now + 50 * MILLISECOND);
        if !self.line.is_ready(hands) || self.line.in_flight() > 0 {
            return;
        }
        if !self.made {
            return self.create(hands);
        }
        if !self.knows_topics || self.line.wants_leaders(hands) {
            let topics = self.load.topics.clone();
            self.line.ask_metadata(hands, &topics, About::Metadata);
            return;
        }
        if self.is_written(hands.now) && !self.last_pass {
            self.last_pass = true;
            self.partitions.fill(Partition::default());
        }
        if hands.now < self.next_fetch {
            hands.wake_at(self.next_fetch.min(hands.now + 50 * MILLISECOND));
            return;
        }
        self.next_fetch = hands.now + hands.rng.exponential(self.load.pause);
        let at = if self.last_pass {
            let Some(at) = self.partitions.iter().position(|partition| !partition.is_stable) else {
                self.done = true;
                self.shared.borrow_mut().unstable -= 1;
                return;
            };
            at
        } else {
            hands.rng.index(self.partitions.len())
        };
        let (topic, index) = self.topic_of(at);
        let (topic, index) = (topic.to_owned(), index);
        if !self.line.reaches(hands, &topic, index) {
            return;
        }
        match (self.partitions[at].position, self.partitions[at].latest) {
            (None, _) => self.list(hands, (&topic, index), EARLIEST, About::Earliest(at)),
            (Some(_), None) if self.last_pass => {
                self.list(hands, (&topic, index), LATEST, About::Latest(at));
            }
            (Some(position), _) => self.fetch(hands, at, (&topic, index), position),
        }
    }

    fn list(&mut self, hands: &mut Hands<'_>, place: (&str, i32), which: i64, about: About) {
        let mut request = list_offsets(place.0, place.1, which);
        request.isolation_level = if self.committed { READ_COMMITTED } else { 0 };
        self.line.send_to_leader(hands, place, &request, 6, about);
    }

    fn create(&mut self, hands: &mut Hands<'_>) {
        let config = |name: &str, value: &str| CreatableTopicConfig {
            name: KafkaString::from(name),
            value: Some(KafkaString::from(value)),
        };
        let configs = vec![
            config("mainspring.features", "schedule,half,dedup"),
            config("mainspring.half.check.after.ms", &CHECK_AFTER_MS.to_string()),
            config("mainspring.half.check.interval.ms", &CHECK_INTERVAL_MS.to_string()),
            config("mainspring.half.check.max", &CHECK_MAX.to_string()),
        ];
        let topics = self.load.topics.iter().map(|name| CreatableTopic {
            name: KafkaString::from(name.as_str()),
            num_partitions: self.load.partitions,
            replication_factor: -1,
            configs: configs.clone(),
            ..CreatableTopic::default()
        });
        let request =
            CreateTopicsRequest { topics: topics.collect(), ..CreateTopicsRequest::default() };
        self.line.send(hands, &request, 7, About::Create);
    }

    fn end_if_read(&mut self, hands: &mut Hands<'_>, at: usize) {
        let Partition { position, latest, is_stable } = self.partitions[at];
        let (topic, index) = self.topic_of(at);
        let Some(partition) = place(&self.shared, topic, index) else { return };
        if let (Some(position), Some(latest), true, false) =
            (position, latest, self.last_pass, is_stable)
            && position >= latest
        {
            self.partitions[at].is_stable = true;
            let client = self.client;
            hands.tell(Fact::ViewedWhole { client, partition, position, latest });
        }
    }

    fn fetch(
        &mut self,
        hands: &mut Hands<'_>,
        at: usize,
        (topic, index): (&str, i32),
        position: i64,
    ) {
        let Some(partition) = place(&self.shared, topic, index) else { return };
        let most = [1, 4_000, 60_000, 60_000][hands.rng.index(4)];
        let request = FetchRequest {
            max_wait_ms: 30,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: if self.committed { READ_COMMITTED } else { 0 },
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
        let about = About::Fetch(at);
        self.line.send_to_leader(hands, (topic, index), &request, self.version, about);
    }

    fn answer(&mut self, hands: &mut Hands<'_>, mut answer: Answer<About>) {
        match answer.about {
            About::Create => {
                let response: CreateTopicsResponse = answer.body();
                self.made = response.topics.iter().all(|it| matches!(it.error_code, 0 | 36));
                if !self.made {
                    self.line.wander(hands);
                }
            }
            About::Latest(at) => {
                let response: ListOffsetsResponse = answer.body();
                let found = &response.topics[0].partitions[0];
                if found.error_code == 0 {
                    self.partitions[at].latest = Some(found.offset);
                    self.end_if_read(hands, at);
                } else {
                    self.line.leaders_changed();
                }
            }
            About::Metadata => {
                let response: MetadataResponse = answer.body();
                self.knows_topics =
                    self.line.learn(hands, &self.shared, &response, &self.load.topics);
            }
            About::Earliest(at) => {
                let response: ListOffsetsResponse = answer.body();
                let found = &response.topics[0].partitions[0];
                if found.error_code == 0 {
                    self.partitions[at].position = Some(found.offset);
                } else {
                    self.line.leaders_changed();
                }
            }
            About::Fetch(at) => {
                let response: FetchResponse = answer.body();
                let Some(topic) = response.responses.into_iter().next() else { return };
                let Some(data) = topic.partitions.into_iter().next() else { return };
                self.fetched(hands, at, data);
                self.end_if_read(hands, at);
            }
        }
    }

    fn fetched(&mut self, hands: &mut Hands<'_>, at: usize, data: PartitionData) {
        let (topic, index) = self.topic_of(at);
        let Some(partition) = place(&self.shared, topic, index) else { return };
        if data.error_code != 0 {
            hands.tell(Fact::ReadFailed { partition, code: data.error_code });
            self.line.leaders_changed();
            if data.error_code == OUT_OF_RANGE {
                self.partitions[at].position = None;
            }
            return;
        }
        let Some(from) = self.partitions[at].position else { return };
        let bytes = data.records.map(|parts| parts.to_bytes()).unwrap_or_default();
        let (batches, came) = open(bytes);
        let to = batches.last().map_or(from, |batch| batch.last + 1).max(from);
        self.partitions[at].position = Some(to);
        let viewed = (self.topic_of(at).0.to_owned(), index);
        let client = self.client;
        for SeenEntry { operation, recurs_for, offset, ticket, content } in came {
            if offset < from {
                continue;
            }
            hands.tell(match recurs_for {
                Some(due_ms) => {
                    Fact::Recurred { client, operation, partition, offset, due_ms, content }
                }
                None => Fact::Came { client, operation, partition, offset, ticket, content },
            });
        }
        hands.tell(Fact::Viewed {
            client,
            partition,
            from,
            batches,
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
        });
        self.shared.borrow_mut().viewed.entry(viewed).or_default().insert(client, to);
    }
}

/// A record of a [`Delayer`](super::delayer::Delayer) as it was served.
struct SeenEntry {
    operation: OperationId,
    /// The time that it came for, where it comes again and again.
    recurs_for: Option<i64>,
    offset: i64,
    /// -1 where it has not waited.
    ticket: i64,
    content: u64,
}

/// Opens what was served: batches as they are, and the records of those that send what comes later.
fn open(mut bytes: Bytes) -> (Vec<ServedBatch>, Vec<SeenEntry>) {
    let (mut batches, mut came) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let batch = Batch::split_from(&mut bytes).expect("a node serves whole batches");
        let open =
            OpenBatch::open(&batch, 1 << 22).expect("a node serves batches that can be read");
        let mut last_record = None;
        for placed in open.records() {
            let placed = placed.expect("a node serves records that can be read");
            last_record = Some(placed.offset.0);
            let record = placed.record;
            let number = |name: &[u8]| {
                let header = record.headers.iter().find(|header| header.key == name);
                let text = header.and_then(|header| std::str::from_utf8(header.value?).ok());
                text.and_then(|text| text.parse::<i64>().ok()).unwrap_or(-1)
            };
            let ticket = number(b"mainspring-ticket");
            let recurring = record.key.and_then(read_recurring_token);
            let recurs_for = recurring.map(|_| number(b"mainspring-scheduled-for"));
            let operation = recurring.or_else(|| record.key.and_then(read_token));
            if let (Some(operation), false) = (operation, batch.is_control()) {
                let headers = record.headers.iter().map(|header| (header.key, header.value));
                let content = content_hash(record.key, record.value, headers);
                came.push(SeenEntry {
                    operation,
                    recurs_for,
                    offset: placed.offset.0,
                    ticket,
                    content,
                });
            }
        }
        batches.push(ServedBatch {
            base: batch.base_offset().0,
            last: batch.last_offset().0,
            last_record,
            is_hidden: batch.is_control() && TxnMarker::of(&batch).is_none(),
            crc_valid: batch.crc_is_valid(),
        });
    }
    (batches, came)
}

impl Actor for DelayReader {
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
            ActorEvent::Finish => {
                self.finishing = true;
                self.finished_at = hands.now;
            }
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.done).then(|| {
            let unstable = self.partitions.iter().filter(|partition| !partition.is_stable).count();
            format!("reader {} has not seen {unstable} partitions stable", self.client)
        })
    }
}
