//! Whoever is asked for the verdicts on half messages: it makes the check topic, tells every question that it reads,
//! hands it to those who give verdicts, and asks at the end what waits at each partition.

use mainspring_core::record::batch::Batch;
use mainspring_core::record::iterate::{OpenBatch, Record};
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use mainspring_core::wire::api::entry_list::{
    EntryListPartition, EntryListRequest, EntryListResponse, EntryListTopic,
};
use mainspring_core::wire::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use mainspring_core::wire::api::list_offsets::ListOffsetsResponse;
use mainspring_core::wire::api::metadata::MetadataResponse;

use super::delayer::{CHECK_GROUP, read_token};
use super::line::{Answer, Line};
use super::reader::{LATEST, list_offsets};
use super::{Load, SharedRef, place};
use crate::history::{Fact, content_hash};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND, SECOND};

/// When the verdict is asked for first, and then again, in milliseconds.
pub const CHECK_AFTER_MS: i64 = 1_500;
/// See [`CHECK_AFTER_MS`].
pub const CHECK_INTERVAL_MS: i64 = 1_000;
/// How often it is asked for.
pub const CHECK_MAX: u32 = 3;

/// The version of Fetch that is spoken.
const FETCH_VERSION: i16 = 12;
/// Entries of one answer; few, so that lists are gone on with.
const LIMIT: i32 = 7;
/// How long it takes at most, all faults over, until what is to be asked has been asked, in nanoseconds.
const SETTLES: u64 = 30 * SECOND;

#[derive(Clone, Copy, Debug)]
enum About {
    Metadata,
    Create,
    Latest,
    Fetch,
    List(usize),
}

/// What waits at one partition, as far as it was told.
#[derive(Clone, Debug, Default)]
struct List {
    entries: Vec<(i64, i8)>,
    /// Where it goes on: behind this due time and ticket.
    after: Option<(i64, i64)>,
    is_whole: bool,
}

/// Who is asked.
#[derive(Debug)]
pub struct Judge {
    load: Load,
    shared: SharedRef,
    line: Line<About>,
    made: bool,
    knows_topics: bool,
    late: u64,
    position: i64,
    /// The end of the check topic, once nothing more will be asked.
    latest: Option<i64>,
    lists: Vec<List>,
    finished_at: Option<u64>,
    next_fetch: u64,
    done: bool,
}

impl Judge {
    /// Makes one, which counts itself as one that has not seen everything stable. Clocks may be late by that many
    /// milliseconds.
    pub fn new(load: Load, shared: SharedRef, late_ms: i64) -> Self {
        shared.borrow_mut().unstable += 1;
        let places = load.topics.len() * load.partitions as usize;
        Self {
            load,
            shared,
            line: Line::default(),
            made: false,
            knows_topics: false,
            late: late_ms as u64 * MILLISECOND,
            position: 0,
            latest: None,
            lists: vec![List::default(); places],
            finished_at: None,
            next_fetch: 0,
            done: false,
        }
    }

    fn topic() -> String {
        format!("checks.{CHECK_GROUP}")
    }

    /// The topics that are asked for: those of half messages once somebody has made them, with their features.
    fn topics(&self) -> Vec<String> {
        let shared = self.shared.borrow();
        let made = self.load.topics.iter().filter(|topic| shared.topics.contains_key(*topic));
        made.cloned().chain([Self::topic()]).collect()
    }

    fn topic_of(&self, at: usize) -> (String, i32) {
        let partitions = self.load.partitions as usize;
        (self.load.topics[at / partitions].clone(), (at % partitions) as i32)
    }

    /// Returns whether nobody writes any more, and all that was to be asked must have been.
    fn is_over(&self, now: u64) -> bool {
        let shared = self.shared.borrow();
        let due = shared.delayed.iter().map(|sent| sent.latest).max().unwrap_or(0);
        let finished = self.finished_at.filter(|_| shared.producers == 0);
        finished.is_some_and(|finished| now > due.max(finished) + self.late + SETTLES)
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
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
            let topics = self.topics();
            self.line.ask_metadata(hands, &topics, About::Metadata);
            return;
        }
        if hands.now < self.next_fetch {
            return;
        }
        self.next_fetch = hands.now + hands.rng.exponential(self.load.pause);
        if self.latest.is_none_or(|latest| self.position < latest) {
            self.read(hands);
        } else if let Some(at) = self.lists.iter().position(|list| !list.is_whole) {
            self.list(hands, at);
        } else {
            self.done = true;
            self.shared.borrow_mut().unstable -= 1;
        }
    }

    fn create(&mut self, hands: &mut Hands<'_>) {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: KafkaString::from(Self::topic().as_str()),
                num_partitions: 1,
                replication_factor: -1,
                configs: vec![CreatableTopicConfig {
                    name: KafkaString::from("mainspring.features"),
                    value: Some(KafkaString::from("dedup")),
                }],
                ..CreatableTopic::default()
            }],
            ..CreateTopicsRequest::default()
        };
        self.line.send(hands, &request, 7, About::Create);
    }

    fn read(&mut self, hands: &mut Hands<'_>) {
        let topic = Self::topic();
        if !self.line.reaches(hands, &topic, 0) {
            return;
        }
        if self.latest.is_none() && self.is_over(hands.now) {
            let request = list_offsets(&topic, 0, LATEST);
            self.line.send_to_leader(hands, (&topic, 0), &request, 6, About::Latest);
            return;
        }
        let request = FetchRequest {
            max_wait_ms: 30,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic: KafkaString::from(topic.as_str()),
                partitions: vec![FetchPartition {
                    partition: 0,
                    fetch_offset: self.position,
                    partition_max_bytes: 60_000,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        self.line.send_to_leader(hands, (&topic, 0), &request, FETCH_VERSION, About::Fetch);
    }

    /// Asks for what waits at a partition, from where the last answer ended.
    fn list(&mut self, hands: &mut Hands<'_>, at: usize) {
        let (topic, index) = self.topic_of(at);
        if !self.line.reaches(hands, &topic, index) {
            return;
        }
        let (after_due_ms, after_ticket) = self.lists[at].after.unwrap_or((i64::MIN, -1));
        let partition = EntryListPartition { partition_index: index, after_due_ms, after_ticket };
        let request = EntryListRequest {
            topics: vec![EntryListTopic {
                name: KafkaString::from(topic.as_str()),
                partitions: vec![partition],
            }],
            limit: LIMIT,
            ..EntryListRequest::default()
        };
        self.line.send_to_leader(hands, (&topic, index), &request, 0, About::List(at));
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
            About::Metadata => {
                let response: MetadataResponse = answer.body();
                let topics = self.topics();
                self.knows_topics = self.line.learn(hands, &self.shared, &response, &topics);
            }
            About::Latest => {
                let response: ListOffsetsResponse = answer.body();
                let found = &response.topics[0].partitions[0];
                if found.error_code == 0 {
                    self.latest = Some(found.offset);
                } else {
                    self.line.leaders_changed();
                }
            }
            About::Fetch => {
                let response: FetchResponse = answer.body();
                let topic = response.responses.into_iter().next();
                if let Some(data) = topic.and_then(|topic| topic.partitions.into_iter().next()) {
                    self.fetched(hands, data);
                }
            }
            About::List(at) => {
                let response: EntryListResponse = answer.body();
                let topic = response.topics.into_iter().next();
                let Some(listed) = topic.and_then(|topic| topic.partitions.into_iter().next())
                else {
                    return;
                };
                if listed.error_code != 0 {
                    self.line.leaders_changed();
                    return;
                }
                let list = &mut self.lists[at];
                list.entries.extend(listed.entries.iter().map(|it| (it.ticket, it.state)));
                list.after = listed.entries.last().map(|it| (it.due_ms, it.ticket));
                list.is_whole = !listed.has_more;
                let (topic, index) = self.topic_of(at);
                if let (Some(partition), true) =
                    (place(&self.shared, &topic, index), self.lists[at].is_whole)
                {
                    let entries = self.lists[at].entries.clone();
                    hands.tell(Fact::Waits { partition, entries });
                }
            }
        }
    }

    fn fetched(&mut self, hands: &mut Hands<'_>, data: PartitionData) {
        if data.error_code != 0 {
            self.line.leaders_changed();
            return;
        }
        let mut bytes = data.records.map(|parts| parts.to_bytes()).unwrap_or_default();
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).expect("a node serves whole batches");
            let open =
                OpenBatch::open(&batch, 1 << 22).expect("a node serves batches that can be read");
            for placed in open.records() {
                let placed = placed.expect("a node serves records that can be read");
                if placed.offset.0 >= self.position && !batch.is_control() {
                    self.question(hands, placed.offset.0, &placed.record);
                }
            }
            self.position = self.position.max(batch.last_offset().0 + 1);
        }
    }

    fn question(&self, hands: &mut Hands<'_>, offset: i64, record: &Record<'_>) {
        let text = |name: &str| {
            let header = record.headers.iter().find(|header| header.key == name.as_bytes());
            header.and_then(|header| std::str::from_utf8(header.value?).ok()).unwrap_or_default()
        };
        let number = |name: &str| text(name).parse().unwrap_or(-1_i64);
        let operation = record.key.and_then(read_token).expect("a question names what it is about");
        let index = number("mainspring-check-partition") as i32;
        let partition = place(&self.shared, text("mainspring-check-topic"), index)
            .expect("a question names a topic that there is");
        let headers = record.headers.iter().map(|header| (header.key, header.value));
        hands.tell(Fact::Questioned {
            operation,
            partition,
            offset,
            ticket: number("mainspring-check-ticket"),
            attempt: number("mainspring-check-attempt") as u32,
            is_parked: text("mainspring-check-state") == "parked",
            content: content_hash(record.key, record.value, headers),
        });
        let mut shared = self.shared.borrow_mut();
        let sent = shared.delayed.iter().find(|sent| sent.operation == operation).cloned();
        shared.questions.extend(sent);
    }
}

impl Actor for Judge {
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
            ActorEvent::Finish => self.finished_at = Some(hands.now),
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.done).then(|| {
            let lists = self.lists.iter().filter(|list| !list.is_whole).count();
            format!("who is asked has read {} questions and not {lists} lists", self.position)
        })
    }
}
