//! Whoever makes topics, uses them by their ids, deletes them and makes them again under the same names.
//!
//! Several share a few names, so that one deletes what another writes to. Each has a group of its own
//! without members, to which it commits. At times one speaks to a topic that is gone.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::{PartitionIndex, TopicId, TopicPartition, Uuid};
use mainspring_core::record::builder::BatchBuilder;
use mainspring_core::record::compress::Codec;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use mainspring_core::wire::api::create_topics::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse,
};
use mainspring_core::wire::api::delete_topics::{
    DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use mainspring_core::wire::api::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use mainspring_core::wire::api::find_coordinator::{
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use mainspring_core::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use mainspring_core::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use mainspring_core::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use mainspring_core::wire::api::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};

use super::SharedRef;
use super::line::{Answer, Line};
use super::reader::read_batches;
use crate::clock::EPOCH_MS;
use crate::history::{Fact, OperationId, SeenRecord, TopicUse, record_hash};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND};

/// A topic of that name is there already.
const EXISTS: i16 = 36;

/// What those who share the names know of each other.
#[derive(Debug, Default)]
pub struct Names {
    /// The topic that has each name, with its number of partitions.
    current: BTreeMap<String, (TopicId, i32)>,
    /// Topics whose deletion was asked for.
    asked: BTreeSet<TopicId>,
    /// How many still work.
    at_work: usize,
}

#[derive(Clone, Debug)]
enum About {
    Coordinator,
    Create { name: String },
    Describe { name: String },
    Delete { topic_id: TopicId },
    Grow { topic_id: TopicId, name: String, count: i32 },
    Produce { partition: TopicPartition, operation: OperationId },
    Read { partition: TopicPartition, from: i64 },
    Commit { partition: TopicPartition, offset: i64 },
    Find { partition: TopicPartition, by_name: bool },
}

/// The churner.
#[derive(Debug)]
pub struct Churner {
    client: usize,
    names: Vec<String>,
    shared: SharedRef,
    pause: u64,
    /// Whether it reads everything once more at the end.
    recorder: bool,
    line: Line<(About, u64)>,
    next: u64,
    next_operation: u64,
    knows_coordinator: bool,
    /// Topics that it has known.
    old: Vec<(TopicId, i32)>,
    finishing: bool,
    /// What is left of the last reading: partitions with what was read of them.
    last: Option<Vec<(TopicPartition, i64, Vec<SeenRecord>)>>,
    done: bool,
}

impl Churner {
    /// Makes one that works on `names`, with a mean time of `pause` nanoseconds between two requests.
    pub fn new(
        client: usize,
        names: Vec<String>,
        shared: SharedRef,
        pause: u64,
        recorder: bool,
    ) -> Self {
        shared.borrow_mut().churned.at_work += 1;
        Self {
            client,
            names,
            shared,
            pause,
            recorder,
            line: Line::default(),
            next: 0,
            next_operation: 0,
            knows_coordinator: false,
            old: Vec::new(),
            finishing: false,
            last: None,
            done: false,
        }
    }

    fn group(&self) -> KafkaString {
        KafkaString::from(format!("churner-{}", self.client).as_str())
    }

    fn operation(&mut self) -> OperationId {
        self.next_operation += 1;
        OperationId { client: self.client, number: self.next_operation }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        hands.wake_at(hands.now + 20 * MILLISECOND);
        if self.done || !self.line.is_ready(hands) || self.line.in_flight() > 0 {
            return;
        }
        if self.finishing {
            return self.finish(hands);
        }
        if hands.now < self.next {
            return hands.wake_at(self.next.min(hands.now + 20 * MILLISECOND));
        }
        self.next = hands.now + hands.rng.exponential(self.pause);
        if !self.knows_coordinator {
            // The first question makes the log of the committed offsets.
            let request = FindCoordinatorRequest {
                coordinator_keys: vec![self.group()],
                ..FindCoordinatorRequest::default()
            };
            return self.line.send(hands, &request, 4, (About::Coordinator, hands.now));
        }
        let name = self.names[hands.rng.index(self.names.len())].clone();
        let current = self.shared.borrow().churned.current.get(&name).copied();
        let Some((topic_id, partitions)) = current else { return self.create(hands, name) };
        let index = hands.rng.below(partitions as u64) as i32;
        let partition = TopicPartition { topic_id, partition: PartitionIndex(index) };
        match hands.rng.below(100) {
            0..45 => self.produce(hands, partition),
            45..65 => self.read(hands, partition, 0),
            65..75 => self.commit(hands, partition),
            75..85 => {
                let by_name = hands.rng.chance(500).then_some(name);
                self.find(hands, partition, by_name);
            }
            85..93 => self.delete(hands, topic_id, &name),
            93..96 if partitions < 4 => self.grow(hands, topic_id, name, partitions + 1),
            _ => self.use_old(hands),
        }
    }

    fn create(&mut self, hands: &mut Hands<'_>, name: String) {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: KafkaString::from(name.as_str()),
                num_partitions: hands.rng.between(1, 2) as i32,
                replication_factor: -1,
                ..CreatableTopic::default()
            }],
            ..CreateTopicsRequest::default()
        };
        self.line.send(hands, &request, 7, (About::Create { name }, hands.now));
    }

    fn describe(&mut self, hands: &mut Hands<'_>, name: String) {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                topic_id: Uuid::ZERO,
                name: Some(KafkaString::from(name.as_str())),
            }]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        self.line.send(hands, &request, 12, (About::Describe { name }, hands.now));
    }

    fn delete(&mut self, hands: &mut Hands<'_>, topic_id: TopicId, name: &str) {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: None, topic_id }],
            timeout_ms: 10_000,
            ..DeleteTopicsRequest::default()
        };
        hands.tell(Fact::AskedDeletion { topic_id });
        let mut shared = self.shared.borrow_mut();
        shared.churned.asked.insert(topic_id);
        shared.churned.current.remove(name);
        drop(shared);
        self.line.send(hands, &request, 6, (About::Delete { topic_id }, hands.now));
    }

    fn grow(&mut self, hands: &mut Hands<'_>, topic_id: TopicId, name: String, count: i32) {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: KafkaString::from(name.as_str()),
                count,
                assignments: None,
            }],
            timeout_ms: 10_000,
            validate_only: false,
        };
        self.line.send(hands, &request, 3, (About::Grow { topic_id, name, count }, hands.now));
    }

    fn produce(&mut self, hands: &mut Hands<'_>, partition: TopicPartition) {
        let operation = self.operation();
        let timestamp = EPOCH_MS + (hands.now / MILLISECOND) as i64;
        let mut builder = BatchBuilder::new(Codec::None);
        let mut records = Vec::new();
        for nth in 0..hands.rng.between(1, 4) {
            let key = format!("{}-{}-{nth}", self.client, operation.number);
            builder.push(timestamp, Some(key.as_bytes()), Some(&[7; 40]), &[]);
            records.push(record_hash(timestamp, Some(key.as_bytes()), Some(&[7; 40])));
        }
        hands.tell(Fact::Invoked { operation, partition, records });
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                topic_id: partition.topic_id,
                partition_data: vec![PartitionProduceData {
                    index: partition.partition.0,
                    records: Some(builder.build().to_bytes()),
                }],
                ..TopicProduceData::default()
            }],
        };
        let about = About::Produce { partition, operation };
        self.line.send(hands, &request, 13, (about, hands.now));
    }

    fn read(&mut self, hands: &mut Hands<'_>, partition: TopicPartition, from: i64) {
        let request = FetchRequest {
            max_wait_ms: if self.finishing { 100 } else { hands.rng.below(400) as i32 },
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic_id: partition.topic_id,
                partitions: vec![FetchPartition {
                    partition: partition.partition.0,
                    fetch_offset: from,
                    partition_max_bytes: 60_000,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        self.line.send(hands, &request, 17, (About::Read { partition, from }, hands.now));
    }

    fn commit(&mut self, hands: &mut Hands<'_>, partition: TopicPartition) {
        // No two commits of a run have the same offset, so that one tells where it came from.
        let offset = self.operation().number as i64 * 1_000 + self.client as i64;
        let request = OffsetCommitRequest {
            group_id: self.group(),
            topics: vec![OffsetCommitRequestTopic {
                topic_id: partition.topic_id,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: partition.partition.0,
                    committed_offset: offset,
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        hands.tell(Fact::OffsetAsked { client: self.client, partition, offset });
        self.line.send(hands, &request, 10, (About::Commit { partition, offset }, hands.now));
    }

    fn find(&mut self, hands: &mut Hands<'_>, partition: TopicPartition, name: Option<String>) {
        let partition_indexes = vec![partition.partition.0];
        let about = (About::Find { partition, by_name: name.is_some() }, hands.now);
        if let Some(name) = name {
            let request = OffsetFetchRequest {
                group_id: self.group(),
                topics: Some(vec![OffsetFetchRequestTopic {
                    name: KafkaString::from(name.as_str()),
                    partition_indexes,
                }]),
                ..OffsetFetchRequest::default()
            };
            return self.line.send(hands, &request, 7, about);
        }
        let topic_id = partition.topic_id;
        let topics = vec![OffsetFetchRequestTopics {
            topic_id,
            partition_indexes,
            ..OffsetFetchRequestTopics::default()
        }];
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: self.group(),
                topics: Some(topics),
                ..OffsetFetchRequestGroup::default()
            }],
            ..OffsetFetchRequest::default()
        };
        self.line.send(hands, &request, 10, about);
    }

    /// Speaks to a topic that it knew at some time.
    fn use_old(&mut self, hands: &mut Hands<'_>) {
        if self.old.is_empty() {
            return;
        }
        let (topic_id, partitions) = self.old[hands.rng.index(self.old.len())];
        let index = hands.rng.below(partitions as u64) as i32;
        let partition = TopicPartition { topic_id, partition: PartitionIndex(index) };
        match hands.rng.below(3) {
            0 => self.produce(hands, partition),
            1 => self.read(hands, partition, 0),
            _ => self.find(hands, partition, None),
        }
    }

    fn know(&mut self, name: &str, topic_id: TopicId, partitions: i32) {
        self.old.push((topic_id, partitions));
        let mut shared = self.shared.borrow_mut();
        let churned = &mut shared.churned;
        let current = churned.current.entry(name.to_owned()).or_insert((topic_id, partitions));
        // An answer may be late: what it tells of is from before the topic grew, or was made anew.
        if current.0 == topic_id {
            current.1 = current.1.max(partitions);
        } else if !churned.asked.contains(&topic_id) {
            *current = (topic_id, partitions);
        }
    }

    fn answer(&mut self, hands: &mut Hands<'_>, mut answer: Answer<(About, u64)>) {
        let (about, asked) = answer.about.clone();
        let used = |hands: &mut Hands<'_>, topic_id, what, code| {
            hands.tell(Fact::Used { topic_id, what, asked, code });
        };
        match about {
            About::Coordinator => {
                let response: FindCoordinatorResponse = answer.body();
                self.knows_coordinator = response.coordinators[0].error_code == 0;
            }
            About::Create { name } => {
                let response: CreateTopicsResponse = answer.body();
                let made = &response.topics[0];
                if made.error_code == 0 {
                    hands.tell(Fact::Created { topic_id: made.topic_id });
                    self.know(&name, made.topic_id, made.num_partitions);
                } else if made.error_code == EXISTS {
                    self.describe(hands, name);
                }
            }
            About::Describe { name } => {
                let response: MetadataResponse = answer.body();
                let found = &response.topics[0];
                if found.error_code == 0 {
                    self.know(&name, found.topic_id, found.partitions.len() as i32);
                }
            }
            About::Delete { topic_id } => {
                let response: DeleteTopicsResponse = answer.body();
                if response.responses[0].error_code == 0 {
                    hands.tell(Fact::Deleted { topic_id });
                }
            }
            About::Grow { topic_id, name, count } => {
                let response: CreatePartitionsResponse = answer.body();
                let mut shared = self.shared.borrow_mut();
                if let (0, Some(current)) =
                    (response.results[0].error_code, shared.churned.current.get_mut(&name))
                    && current.0 == topic_id
                {
                    current.1 = current.1.max(count);
                }
            }
            About::Produce { partition, operation } => {
                let response: ProduceResponse = answer.body();
                let outcome = &response.responses[0].partition_responses[0];
                used(hands, partition.topic_id, TopicUse::Produce, outcome.error_code);
                if outcome.error_code == 0 {
                    hands.tell(Fact::Acked { operation, base_offset: outcome.base_offset });
                }
            }
            About::Read { partition, from } => {
                let response: FetchResponse = answer.body();
                self.read_answered(hands, partition, from, asked, response);
            }
            About::Commit { partition, offset } => {
                let response: OffsetCommitResponse = answer.body();
                let code = response.topics[0].partitions[0].error_code;
                used(hands, partition.topic_id, TopicUse::Commit, code);
                if code == 0 {
                    hands.tell(Fact::OffsetStored { client: self.client, partition, offset });
                }
            }
            About::Find { partition, by_name } => {
                let response: OffsetFetchResponse = answer.body();
                let (code, offset) = found_offset(&response, by_name);
                // By its name another may have been meant, once somebody asks for its deletion.
                let sure =
                    !by_name || !self.shared.borrow().churned.asked.contains(&partition.topic_id);
                if code == 0 && sure {
                    hands.tell(Fact::OffsetFound { client: self.client, partition, offset });
                }
            }
        }
    }

    fn read_answered(
        &mut self,
        hands: &mut Hands<'_>,
        partition: TopicPartition,
        from: i64,
        asked: u64,
        response: FetchResponse,
    ) {
        let topic_id = partition.topic_id;
        let mut code = response.error_code;
        let topic = response.responses.into_iter().next();
        let data = topic.and_then(|topic| topic.partitions.into_iter().next());
        if let Some(data) = &data {
            code = code.max(data.error_code);
        }
        hands.tell(Fact::Used { topic_id, what: TopicUse::Read, asked, code });
        let Some(data) = data.filter(|_| code == 0) else { return };
        let bytes = data.records.map(|parts| parts.to_bytes()).unwrap_or_default();
        let (records, crc_valid) = read_batches(bytes, from);
        if let Some(last) = &mut self.last
            && let Some((at, next, kept)) = last.last_mut()
            && *at == partition
        {
            *next = records.last().map_or(from, |last| last.offset + 1);
            kept.extend(records.iter().cloned());
            if *next >= data.high_watermark {
                let records = std::mem::take(kept);
                last.pop();
                hands.tell(Fact::FinalLog { partition, log_start: 0, records });
            }
        }
        hands.tell(Fact::Read {
            client: self.client,
            partition,
            from,
            records,
            crc_valid,
            high_watermark: data.high_watermark,
            log_start: data.log_start_offset.max(0),
        });
    }

    /// Once all have finished, the recorder reads what is left.
    fn finish(&mut self, hands: &mut Hands<'_>) {
        if self.last.is_none() {
            self.shared.borrow_mut().churned.at_work -= 1;
            self.last = Some(Vec::new());
            // Whoever deletes last may be answered last: nobody reads before.
            self.next = u64::MAX;
        }
        let shared = self.shared.borrow();
        if shared.churned.at_work > 0 {
            return;
        }
        if self.next == u64::MAX {
            self.next = 0;
            let names = self.names.iter().filter(|_| self.recorder);
            let left = names
                .filter_map(|name| shared.churned.current.get(name))
                .filter(|(topic_id, _)| !shared.churned.asked.contains(topic_id))
                .flat_map(|(topic_id, partitions)| {
                    (0..*partitions).map(|index| TopicPartition {
                        topic_id: *topic_id,
                        partition: PartitionIndex(index),
                    })
                })
                .map(|partition| (partition, 0, Vec::new()))
                .collect();
            self.last = Some(left);
        }
        drop(shared);
        match self.last.as_ref().and_then(|left| left.last()) {
            Some((partition, from, _)) => self.read(hands, *partition, *from),
            None => self.done = true,
        }
    }
}

/// Returns the code and the offset of an answer about one partition.
fn found_offset(response: &OffsetFetchResponse, by_name: bool) -> (i16, i64) {
    if by_name {
        let found = response.topics.first().and_then(|topic| topic.partitions.first());
        let (code, offset) =
            found.map_or((0, -1), |found| (found.error_code, found.committed_offset));
        return (response.error_code.max(code), offset);
    }
    let Some(group) = response.groups.first() else { return (-1, -1) };
    let found = group.topics.first().and_then(|topic| topic.partitions.first());
    let (code, offset) = found.map_or((-1, -1), |found| (found.error_code, found.committed_offset));
    (if group.error_code == 0 { code } else { group.error_code }, offset)
}

impl Actor for Churner {
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
            let left = self.last.as_ref().map_or(0, Vec::len);
            format!("churner {} has {left} partitions to read", self.client)
        })
    }
}
