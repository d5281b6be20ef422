//! A coordinator at a log of its own, asked like by clients, with partitions that take markers.

mod cleaning;
mod end;
mod init;
mod loading;
mod markers;
mod model;
mod partitions;
mod report;
mod timeout;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::api::*;
use super::{TransactionConfig, TransactionCoordinator, TransactionView};
use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex, ProducerEpoch, ProducerId};
use crate::time::{Instant, Now, UnixMillis};
use crate::wire::KafkaString;
use crate::wire::transaction_record::{TransactionRecord, TransactionStatus};

const ID: &str = "t";
const TOPIC: &str = "orders";
const TIMEOUT_MS: i32 = 60_000;
const EPOCH_OF_LEADER: i32 = 7;
/// The newest versions of requests: those of producers with an epoch for each transaction.
const INIT: i16 = 5;
const ADD: i16 = 5;
const END: i16 = 5;
/// The newest versions of requests before.
const ADD_V1: i16 = 3;
const END_V1: i16 = 4;

/// A log in memory.
#[derive(Clone, Default)]
struct TestLog {
    records: Vec<LogRecord>,
    start: i64,
    refuses: Option<ErrorCode>,
    clock_in_doubt: bool,
    /// Partitions whose logs share the journal of this one.
    followed_by: Vec<i32>,
}

impl TransactionLog for TestLog {
    fn append(&mut self, records: &[LogRecord]) -> Result<Offset, ErrorCode> {
        if let Some(error) = self.refuses {
            return Err(error);
        }
        let base = self.records.len() as i64;
        self.records.extend_from_slice(records);
        Ok(Offset(base))
    }

    fn precedes(&self, _topic: &KafkaString, partition: PartitionIndex) -> bool {
        self.followed_by.contains(&partition.0)
    }

    fn retention_time(&mut self, now: Now) -> Option<UnixMillis> {
        (!self.clock_in_doubt).then_some(now.wall)
    }
}

impl TestLog {
    fn end(&self) -> Offset {
        Offset(self.records.len() as i64)
    }

    fn decoded(&self, offset: usize) -> TransactionRecord {
        let record = self.records[offset].clone();
        let decoded = TransactionRecord::decode(record.key, record.value);
        decoded.expect("its own record").expect("of a known kind")
    }

    /// The states that records went through, in order.
    fn statuses(&self) -> Vec<TransactionStatus> {
        let records = (0..self.records.len()).filter_map(|at| self.decoded(at).value);
        records
            .map(|value| TransactionStatus::from_code(value.transaction_status).expect("a state"))
            .collect()
    }
}

/// A marker that the coordinator wanted written.
#[derive(Clone, PartialEq, Debug)]
struct Sent {
    id: MarkerId,
    partition: i32,
    producer: (i64, i16),
    committed: bool,
    transaction_version: i8,
}

struct Bench {
    coordinator: TransactionCoordinator,
    log: TestLog,
    now: Now,
    tickets: u64,
    replies: BTreeMap<Ticket, Response>,
    /// Markers that were not reported.
    sent: VecDeque<Sent>,
    /// How often a producer id was asked for and not given.
    wanted: u32,
    /// The next producer id.
    next_id: i64,
    /// Whether producer ids are given when they are asked for.
    gives_ids: bool,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(configure: impl FnOnce(&mut TransactionConfig)) -> Self {
        let mut config = TransactionConfig::default();
        configure(&mut config);
        let now = Now { mono: Instant::from_nanos(1), wall: UnixMillis(1_700_000_000_000) };
        let mut log = TestLog::default();
        let mut coordinator = TransactionCoordinator::new(Arc::new(config));
        coordinator.loaded(now, &mut log, EPOCH_OF_LEADER, Offset::ZERO, Offset::ZERO);
        Self {
            coordinator,
            log,
            now,
            tickets: 0,
            replies: BTreeMap::new(),
            sent: VecDeque::new(),
            wanted: 0,
            next_id: 1_000,
            gives_ids: true,
        }
    }

    /// Asks, and commits nothing.
    #[expect(clippy::needless_pass_by_value, reason = "calls read better")]
    fn ask(&mut self, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.coordinator.handle(self.now, &mut self.log, ticket, &request);
        self.collect();
        ticket
    }

    /// Takes what comes out.
    fn collect(&mut self) {
        while let Some(action) = self.coordinator.poll_action() {
            match action {
                Action::WriteMarker {
                    id,
                    topic,
                    partition,
                    producer_id,
                    producer_epoch,
                    committed,
                    coordinator_epoch,
                    transaction_version,
                } => {
                    assert_eq!(coordinator_epoch, EPOCH_OF_LEADER);
                    assert!(topic == TOPIC || topic == "__consumer_offsets");
                    let producer = (producer_id.0, producer_epoch.0);
                    let partition = partition.0;
                    let sent = Sent { id, partition, producer, committed, transaction_version };
                    self.sent.push_back(sent);
                }
                Action::WantProducerId => {
                    self.wanted += 1;
                    if self.gives_ids {
                        self.give_id();
                    }
                }
            }
        }
        while let Some((ticket, response)) = self.coordinator.poll_reply() {
            assert!(self.replies.insert(ticket, response).is_none(), "one reply to a ticket");
        }
    }

    fn give_id(&mut self) {
        self.wanted -= 1;
        self.next_id += 1;
        let id = Ok(ProducerId(self.next_id));
        self.coordinator.give_producer_id(self.now, &mut self.log, id);
        self.collect();
    }

    /// Commits the log as far as it is.
    fn commit(&mut self) {
        let end = self.log.end();
        self.coordinator.on_committed(self.now, &mut self.log, end);
        self.collect();
    }

    /// Reports a marker.
    fn report(&mut self, sent: &Sent, result: Result<(), ErrorCode>) {
        self.coordinator.on_marker_written(self.now, &mut self.log, sent.id, result);
        self.collect();
    }

    /// Commits, and writes every marker, until nothing more comes.
    fn settle(&mut self) {
        loop {
            self.commit();
            let Some(sent) = self.sent.pop_front() else { break };
            self.report(&sent, Ok(()));
        }
        self.commit();
    }

    /// Lets time pass, with every timer at its moment.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= end) {
            self.advance(at.max(self.now.mono));
            self.coordinator.on_timer(self.now, &mut self.log);
            self.collect();
        }
        self.advance(end);
    }

    fn advance(&mut self, to: Instant) {
        let passed = to.since(self.now.mono).as_millis() as i64;
        self.now = Now { mono: to, wall: self.now.wall.plus(passed) };
    }

    fn reply(&mut self, ticket: Ticket) -> Option<Response> {
        self.replies.remove(&ticket)
    }

    /// Asks, settles, and returns the reply that must be there then.
    fn call(&mut self, request: Request) -> Response {
        let ticket = self.ask(request);
        self.settle();
        self.reply(ticket).expect("an answer at once")
    }

    fn producer(&mut self, request: Request) -> Result<(i64, i16), ErrorCode> {
        let response = self.call(request);
        let (Response::InitProducerId(answer) | Response::EndTxn(answer)) = response else {
            panic!("another answer")
        };
        producer_of(answer)
    }

    /// Initializes a producer that names no id and no epoch.
    fn init(&mut self) -> Result<(i64, i16), ErrorCode> {
        self.producer(init(None))
    }

    /// Initializes a producer that was one.
    fn init_as(&mut self, producer: (i64, i16)) -> Result<(i64, i16), ErrorCode> {
        self.producer(init(Some(producer)))
    }

    /// Adds a partition, by a client of the older protocol or by a broker.
    fn add(&mut self, version: i16, producer: (i64, i16), partition: i32) -> ErrorCode {
        let response = self.call(add(version, producer, &[partition], false));
        errors(response)[0]
    }

    fn verify(&mut self, version: i16, producer: (i64, i16), partition: i32) -> ErrorCode {
        let response = self.call(add(version, producer, &[partition], true));
        errors(response)[0]
    }

    fn end(
        &mut self,
        version: i16,
        producer: (i64, i16),
        committed: bool,
    ) -> Result<(i64, i16), ErrorCode> {
        self.producer(end(version, producer, committed))
    }

    fn view(&self) -> TransactionView<'_> {
        self.coordinator.views().find(|view| *view.transactional_id == ID).expect("the id is known")
    }

    fn status(&self) -> TransactionStatus {
        self.view().status
    }

    fn stored_producer(&self) -> (i64, i16) {
        (self.view().producer_id.0, self.view().producer_epoch.0)
    }

    /// Ends the coordinator and replays what is in the log; nothing of it counts as committed before the next
    /// commit.
    fn restart(&mut self) {
        self.restart_with(false);
    }

    /// The same; what the log holds may be committed while the next coordinator reads it.
    fn restart_with(&mut self, is_committed: bool) {
        let mut next = TransactionCoordinator::new(self.coordinator.config.clone());
        for (offset, record) in self.log.records.iter().enumerate().skip(self.log.start as usize) {
            let offset = Offset(offset as i64);
            next.replay(offset, record.key.clone(), record.value.clone()).expect("its own records");
        }
        let end = self.log.end();
        let committed = if is_committed { end } else { Offset::ZERO };
        next.on_committed(self.now, &mut self.log, committed);
        next.loaded(self.now, &mut self.log, EPOCH_OF_LEADER, end, committed);
        let before = std::mem::replace(&mut self.coordinator, next);
        self.sent.clear();
        self.wanted = 0;
        for (ticket, response) in before.unload() {
            assert!(self.replies.insert(ticket, response).is_none(), "one reply to a ticket");
        }
        self.collect();
    }

    /// Puts a record of this state at the end of the log, and loads it.
    fn with_stored(
        mut self,
        change: impl FnOnce(&mut crate::wire::transaction_record::TransactionLogValue),
    ) -> Self {
        let at = self.log.records.len() - 1;
        let mut record = self.log.decoded(at);
        change(record.value.as_mut().expect("no tombstone"));
        let (key, value) = record.encode();
        self.log.records.push(LogRecord { key, value });
        self.restart();
        self.settle();
        self
    }
}

fn producer_of(answer: ProducerAnswer) -> Result<(i64, i16), ErrorCode> {
    let producer = (answer.producer_id.0, answer.producer_epoch.0);
    if answer.error == ErrorCode::None {
        return Ok(producer);
    }
    assert_eq!(producer, (-1, -1), "an error comes without a producer");
    Err(answer.error)
}

fn errors(response: Response) -> Vec<ErrorCode> {
    let Response::AddPartitionsToTxn(answer) = response else { panic!("another answer") };
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|(_, error)| *error).collect()
}

fn init_with(version: i16, producer: Option<(i64, i16)>, timeout_ms: i32) -> Request {
    let (id, epoch) = producer.unwrap_or((-1, -1));
    Request::InitProducerId(InitProducerId {
        version,
        transactional_id: ID.into(),
        transaction_timeout_ms: timeout_ms,
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
    })
}

fn init(producer: Option<(i64, i16)>) -> Request {
    init_with(INIT, producer, TIMEOUT_MS)
}

fn add(version: i16, (id, epoch): (i64, i16), partitions: &[i32], verify_only: bool) -> Request {
    let partitions = partitions.iter().copied().map(PartitionIndex).collect();
    Request::AddPartitionsToTxn(AddPartitionsToTxn {
        version,
        transactional_id: ID.into(),
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        verify_only,
        topics: vec![TxnTopic { name: TOPIC.into(), partitions }],
    })
}

fn add_offsets(version: i16, (id, epoch): (i64, i16), partition: i32) -> Request {
    Request::AddOffsetsToTxn(AddOffsetsToTxn {
        version,
        transactional_id: ID.into(),
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        topic: KafkaString::from("__consumer_offsets"),
        partition: PartitionIndex(partition),
    })
}

fn end(version: i16, (id, epoch): (i64, i16), committed: bool) -> Request {
    Request::EndTxn(EndTxn {
        version,
        transactional_id: ID.into(),
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        committed,
    })
}
