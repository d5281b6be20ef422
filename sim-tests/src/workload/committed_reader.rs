//! A reader of committed records that speaks the wire by hand: it takes out of what it fetches what the list of
//! aborted transactions says, as clients do, and tells how far each partition is stable. At the end it waits
//! until everything that is committed is stable.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainspring_core::record::batch::Batch;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use mainspring_core::wire::api::list_offsets::ListOffsetsResponse;
use mainspring_core::wire::api::metadata::MetadataResponse;

use super::line::{Answer, Line};
use super::reader::{list_offsets, read_batches};
use super::{Load, SharedRef, place};
use crate::history::{Fact, RecordKind, SeenRecord};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND};

/// Asks for the first offset of a partition.
const EARLIEST: i64 = -2;
/// Nothing stands at the offset that was asked for.
const OUT_OF_RANGE: i16 = 1;
/// Gives committed records alone.
const READ_COMMITTED: i8 = 1;

#[derive(Clone, Copy, Debug)]
enum About {
    Metadata,
    Earliest(usize),
    Fetch(usize),
}

#[derive(Clone, Copy, Debug, Default)]
struct Partition {
    /// What is read next; `None` until the start of the log is known.
    position: Option<i64>,
    /// Whether it was read to its high watermark since nobody writes any more.
    is_stable: bool,
}

/// The reader.
#[derive(Debug)]
pub struct CommittedReader {
    client: usize,
    load: Load,
    shared: SharedRef,
    version: i16,
    line: Line<About>,
    knows_topics: bool,
    partitions: Vec<Partition>,
    operations_left: u64,
    next_fetch: u64,
    finishing: bool,
    done: bool,
}

impl CommittedReader {
    /// Makes a reader that fetches with a version of the API from 5 to 17. It counts itself as one that has not
    /// seen everything stable.
    pub fn new(client: usize, load: Load, shared: SharedRef, version: i16) -> Self {
        shared.borrow_mut().unstable += 1;
        let places = load.topics.len() * load.partitions as usize;
        Self {
            client,
            operations_left: load.operations,
            load,
            shared,
            version,
            line: Line::default(),
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

    /// Returns whether nobody writes any more.
    fn is_written(&self) -> bool {
        let shared = self.shared.borrow();
        self.finishing && shared.producers + shared.pipelines == 0
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        if self.done || (self.operations_left == 0 && !self.finishing) {
            return;
        }
        hands.wake_at(hands.now + 50 * MILLISECOND);
        if !self.line.is_ready(hands) || self.line.in_flight() > 0 {
            return;
        }
        if !self.knows_topics || self.line.wants_leaders(hands) {
            let topics = self.load.topics.clone();
            self.line.ask_metadata(hands, &topics, About::Metadata);
            return;
        }
        let is_written = self.is_written();
        let at = if is_written {
            let Some(at) = self.partitions.iter().position(|partition| !partition.is_stable) else {
                self.done = true;
                self.shared.borrow_mut().unstable -= 1;
                return;
            };
            at
        } else {
            hands.rng.index(self.partitions.len())
        };
        if hands.now < self.next_fetch {
            return;
        }
        // What is left at the end may be much, in many small segments, each of which takes a request.
        let pause = if is_written { 0 } else { self.load.pause };
        self.next_fetch = hands.now + hands.rng.exponential(pause);
        let (topic, index) = self.topic_of(at);
        let (topic, index) = (topic.to_owned(), index);
        if !self.line.reaches(hands, &topic, index) {
            return;
        }
        self.operations_left = self.operations_left.saturating_sub(1);
        match self.partitions[at].position {
            None => {
                let mut request = list_offsets(&topic, index, EARLIEST);
                request.isolation_level = READ_COMMITTED;
                let about = About::Earliest(at);
                self.line.send_to_leader(hands, (&topic, index), &request, 6, about);
            }
            Some(position) => self.fetch(hands, at, (&topic, index), position),
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
        let most = [1, 300, 4_000, 60_000][hands.rng.index(4)];
        let request = FetchRequest {
            max_wait_ms: 30,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: READ_COMMITTED,
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
        let aborted: Vec<(i64, i64)> = data
            .aborted_transactions
            .unwrap_or_default()
            .iter()
            .map(|aborted| (aborted.producer_id, aborted.first_offset))
            .collect();
        let to = end_of(bytes.clone()).unwrap_or(from).max(from);
        let records = committed(bytes, from, &aborted);
        self.partitions[at].position = Some(to);
        if self.is_written() && to == data.high_watermark {
            self.partitions[at].is_stable = true;
        }
        hands.tell(Fact::ReadCommitted {
            client: self.client,
            partition,
            from,
            to,
            records,
            high_watermark: data.high_watermark,
            last_stable_offset: Some(data.last_stable_offset),
            aborted: Some(aborted),
        });
    }
}

/// Returns the offset behind the last of the batches.
fn end_of(mut bytes: Bytes) -> Option<i64> {
    let mut end = None;
    while !bytes.is_empty() {
        end = Some(Batch::split_from(&mut bytes).ok()?.last_offset().0 + 1);
    }
    end
}

/// Returns the records from an offset on that are no part of the aborted transactions, by the rule for clients:
/// from its first offset on, up to its marker, what its producer wrote is left out.
fn committed(bytes: Bytes, from: i64, aborted: &[(i64, i64)]) -> Vec<SeenRecord> {
    let mut begins: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for (producer_id, first_offset) in aborted {
        begins.entry(*first_offset).or_default().insert(*producer_id);
    }
    let mut left_out: BTreeSet<i64> = BTreeSet::new();
    let (records, is_sound) = read_batches(bytes, i64::MIN);
    assert!(is_sound, "a node serves batches that can be read");
    let mut shown = Vec::new();
    for record in records {
        while let Some(first) = begins.first_entry().filter(|first| *first.key() <= record.offset) {
            left_out.extend(first.remove());
        }
        match record.kind {
            RecordKind::Marker { .. } => {
                left_out.remove(&record.producer_id);
            }
            RecordKind::Control => {}
            RecordKind::Transactional if left_out.contains(&record.producer_id) => {}
            RecordKind::Plain | RecordKind::Transactional => shown.push(record),
        }
    }
    shown.retain(|record| record.offset >= from);
    shown
}

impl Actor for CommittedReader {
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
            let unstable = self.partitions.iter().filter(|partition| !partition.is_stable).count();
            format!("reader {} has not seen {unstable} partitions stable", self.client)
        })
    }
}
