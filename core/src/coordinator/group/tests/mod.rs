//! A coordinator at a log of its own, asked like by clients.

mod cleaning;
mod groups;
mod join;
mod loading;
mod membership;
mod model;
mod offsets;
mod retention;
mod static_members;
mod sync;
mod transactional;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::api::*;
use super::{GroupConfig, GroupCoordinator, GroupLog, LogRecord};
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, Uuid};
use crate::time::{Instant, Now, UnixMillis};
use crate::wire::KafkaString;
use crate::wire::consumer_protocol::{Blob, ConsumerProtocolSubscription};

const GROUP: &str = "g";
const TOPIC: &str = "orders";
const TOPIC_ID: TopicId = Uuid([7; 16]);
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;

/// A record of a transaction, or its marker.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Part {
    Staged(TransactionalProducer),
    Marker(TransactionalProducer, bool),
}

/// A log in memory, with everything else that a coordinator needs.
#[derive(Clone, Default)]
struct TestLog {
    records: Vec<LogRecord>,
    /// What of it is part of a transaction, or ends one, by offset.
    transactional: BTreeMap<usize, Part>,
    start: i64,
    /// Lengths of the batches, in order.
    batches: Vec<usize>,
    refuses: Option<ErrorCode>,
    ids: u128,
    clock_in_doubt: bool,
}

impl GroupLog for TestLog {
    fn append(&mut self, records: &[LogRecord]) -> Result<Offset, ErrorCode> {
        if let Some(error) = self.refuses {
            return Err(error);
        }
        let base = self.records.len() as i64;
        self.records.extend_from_slice(records);
        self.batches.push(records.len());
        Ok(Offset(base))
    }

    fn append_transactional(
        &mut self,
        producer: TransactionalProducer,
        records: &[LogRecord],
    ) -> Result<Offset, ErrorCode> {
        let base = self.append(records)?;
        let offsets = base.0 as usize..self.records.len();
        self.transactional.extend(offsets.map(|offset| (offset, Part::Staged(producer))));
        Ok(base)
    }

    fn next_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid(self.ids.to_be_bytes())
    }

    fn retention_time(&mut self, now: Now) -> Option<UnixMillis> {
        (!self.clock_in_doubt).then_some(now.wall)
    }
}

impl TestLog {
    fn end(&self) -> Offset {
        Offset(self.records.len() as i64)
    }

    fn append_marker(&mut self, producer: TransactionalProducer, committed: bool) -> Offset {
        let offset = self.end();
        let version_and_kind = [0, 0, 0, u8::from(committed)];
        let key = Bytes::copy_from_slice(&version_and_kind);
        self.records.push(LogRecord { key, value: None });
        self.batches.push(1);
        self.transactional.insert(offset.0 as usize, Part::Marker(producer, committed));
        offset
    }

    fn truncate(&mut self, end: usize) {
        self.records.truncate(end);
        self.transactional.split_off(&end);
    }

    /// Lets a coordinator take in all of it.
    fn replay(&self, coordinator: &mut GroupCoordinator) {
        for (offset, record) in self.records.iter().enumerate().skip(self.start as usize) {
            let at = Offset(offset as i64);
            let LogRecord { key, value } = record.clone();
            match self.transactional.get(&offset) {
                None => coordinator.replay(at, key, value).expect("its own records"),
                Some(&Part::Staged(producer)) => coordinator
                    .replay_transactional(at, producer, key, value)
                    .expect("its own records"),
                Some(&Part::Marker(producer, committed)) => {
                    coordinator.on_marker(producer.id, producer.epoch, committed, at);
                }
            }
        }
    }
}

struct Bench {
    coordinator: GroupCoordinator,
    log: TestLog,
    now: Now,
    tickets: u64,
    replies: BTreeMap<Ticket, Response>,
}

impl Bench {
    /// A coordinator that does not wait for more members.
    fn new() -> Self {
        Self::with(|config| config.initial_rebalance_delay = Duration::ZERO)
    }

    fn with(configure: impl FnOnce(&mut GroupConfig)) -> Self {
        let mut config = GroupConfig::default();
        configure(&mut config);
        let now = Now { mono: Instant::from_nanos(1), wall: UnixMillis(1_700_000_000_000) };
        let mut log = TestLog::default();
        let mut coordinator = GroupCoordinator::new(Arc::new(config));
        coordinator.loaded(now, &mut log, Offset::ZERO, Offset::ZERO);
        Self { coordinator, log, now, tickets: 0, replies: BTreeMap::new() }
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

    fn collect(&mut self) {
        while let Some((ticket, response)) = self.coordinator.poll_reply() {
            assert!(self.replies.insert(ticket, response).is_none(), "one reply to a ticket");
        }
    }

    fn commit(&mut self) {
        self.coordinator.committed(self.log.end());
        self.collect();
    }

    /// Lets time pass, with every timer at its moment, and commits what comes of it.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= end) {
            self.advance(at.max(self.now.mono));
            self.coordinator.on_timer(self.now, &mut self.log);
            self.commit();
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

    /// Asks, commits, and returns the reply that must be there at once.
    fn call(&mut self, request: Request) -> Response {
        let ticket = self.ask(request);
        self.commit();
        self.reply(ticket).expect("an answer at once")
    }

    fn join(&mut self, request: JoinGroup) -> Ticket {
        self.ask(Request::JoinGroup(request))
    }

    fn joined(&mut self, ticket: Ticket) -> JoinGroupAnswer {
        self.commit();
        let response = self.reply(ticket);
        let Some(Response::JoinGroup(answer)) = response else { panic!("another answer") };
        answer
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.replies.contains_key(&ticket)
    }

    fn synced(&mut self, ticket: Ticket) -> SyncGroupAnswer {
        self.commit();
        let response = self.reply(ticket);
        let Some(Response::SyncGroup(answer)) = response else { panic!("another answer") };
        answer
    }

    fn heartbeat(&mut self, member: &str, generation_id: i32) -> ErrorCode {
        self.heartbeat_as(member, None, generation_id)
    }

    fn heartbeat_as(
        &mut self,
        member: &str,
        instance: Option<&str>,
        generation_id: i32,
    ) -> ErrorCode {
        let request = Heartbeat {
            group_id: GROUP.into(),
            generation_id,
            member_id: member.into(),
            group_instance_id: instance.map(KafkaString::from),
        };
        let response = self.call(Request::Heartbeat(request));
        let Response::Heartbeat(error) = response else { panic!("another answer") };
        error
    }

    fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let members = members
            .iter()
            .map(|(member, instance)| LeavingMember {
                member_id: (*member).into(),
                group_instance_id: instance.map(KafkaString::from),
                reason: Some("done".into()),
            })
            .collect();
        let request = LeaveGroup { group_id: GROUP.into(), members };
        let response = self.call(Request::LeaveGroup(request));
        let Response::LeaveGroup(answer) = response else { panic!("another answer") };
        assert_eq!(answer.error, ErrorCode::None);
        answer.members.iter().map(|member| member.error).collect()
    }

    fn commit_offsets(&mut self, request: OffsetCommit) -> Vec<ErrorCode> {
        let response = self.call(Request::OffsetCommit(request));
        let Response::OffsetCommit(answer) = response else { panic!("another answer") };
        answer
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|(_, error)| *error))
            .collect()
    }

    fn fetch(&mut self, topics: Option<Vec<FetchTopic>>) -> Vec<FetchedTopic> {
        self.fetch_as(false, topics)
    }

    fn fetch_as(
        &mut self,
        require_stable: bool,
        topics: Option<Vec<FetchTopic>>,
    ) -> Vec<FetchedTopic> {
        let request = OffsetFetch { group_id: GROUP.into(), require_stable, topics };
        let response = self.call(Request::OffsetFetch(request));
        let Response::OffsetFetch(answer) = response else { panic!("another answer") };
        assert_eq!(answer.error, ErrorCode::None);
        answer.topics
    }

    fn stage_offsets(&mut self, request: TxnOffsetCommit) -> Vec<ErrorCode> {
        let response = self.call(Request::TxnOffsetCommit(request));
        let Response::TxnOffsetCommit(answer) = response else { panic!("another answer") };
        answer
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|(_, error)| *error))
            .collect()
    }

    /// Writes the marker of a producer's transaction, and commits it.
    fn end(&mut self, producer: TransactionalProducer, committed: bool) -> Vec<VisibleOffset> {
        let offset = self.log.append_marker(producer, committed);
        let visible = self.coordinator.on_marker(producer.id, producer.epoch, committed, offset);
        self.commit();
        visible
    }

    /// What is said of partition 0 of the topic to whoever wants it stable.
    fn stable_offset(&mut self) -> Result<i64, ErrorCode> {
        let asked = Some(vec![fetch_topic(TOPIC, TOPIC_ID, &[0])]);
        told(&self.fetch_as(true, asked)[0].partitions[0])
    }

    /// The stored offset of partition 0 of the topic, -1 for none.
    fn offset(&mut self) -> i64 {
        self.fetch(Some(vec![fetch_topic(TOPIC, TOPIC_ID, &[0])]))[0].partitions[0].offset
    }

    fn state(&mut self) -> &'static str {
        self.describe(5).group_state
    }

    fn describe(&mut self, version: i16) -> DescribeGroupAnswer {
        let request = DescribeGroup { version, group_id: GROUP.into() };
        let response = self.call(Request::DescribeGroup(request));
        let Response::DescribeGroup(answer) = response else { panic!("another answer") };
        answer
    }

    /// Lets these members form a stable generation, each assigned its own id; the first leads.
    /// Returns the generation.
    fn stable(&mut self, joins: Vec<JoinGroup>) -> (i32, Vec<KafkaString>) {
        let tickets: Vec<Ticket> = joins.into_iter().map(|join| self.join(join)).collect();
        self.pass(Duration::from_millis(1));
        let answers: Vec<JoinGroupAnswer> =
            tickets.into_iter().map(|ticket| self.joined(ticket)).collect();
        let leader = answers.iter().find(|one| one.leader == one.member_id).expect("a leader");
        let generation = leader.generation_id;
        let assignments = leader.members.iter().map(|one| own(&one.member_id)).collect();
        let members: Vec<KafkaString> = answers.iter().map(|one| one.member_id.clone()).collect();
        let leads = sync(&leader.member_id, generation, assignments);
        let ticket = self.ask(Request::SyncGroup(leads));
        assert_eq!(self.synced(ticket).error, ErrorCode::None);
        for member in members.iter().filter(|one| **one != leader.member_id) {
            let ticket = self.ask(Request::SyncGroup(sync(member, generation, Vec::new())));
            assert_eq!(self.synced(ticket).assignment, member.as_bytes());
        }
        (generation, members)
    }

    /// A stable group of one dynamic member.
    fn stable_one(&mut self) -> (i32, KafkaString) {
        let (generation, members) = self.stable(vec![join_v3()]);
        (generation, members[0].clone())
    }

    /// Ends the coordinator and replays what is in the log.
    fn restart(&mut self) {
        let config = self.coordinator.config.clone();
        let mut next = GroupCoordinator::new(config);
        self.log.replay(&mut next);
        let end = self.log.end();
        next.loaded(self.now, &mut self.log, end, Offset::ZERO);
        next.committed(end);
        self.coordinator = next;
    }
}

/// What a member that is assigned its own id is assigned.
fn own(member_id: &KafkaString) -> Assignment {
    Assignment { member_id: member_id.clone(), assignment: member_id.as_bytes().clone() }
}

fn subscription(topics: &[&str]) -> Bytes {
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| KafkaString::from(*topic)).collect(),
        ..ConsumerProtocolSubscription::default()
    };
    subscription.to_blob(3)
}

fn protocol(name: &str) -> JoinProtocol {
    JoinProtocol { name: name.into(), metadata: subscription(&[TOPIC]) }
}

/// A dynamic consumer that joins at once, as up to version 3.
fn join_v3() -> JoinGroup {
    JoinGroup {
        version: 3,
        group_id: GROUP.into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        member_id: KafkaString::default(),
        group_instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range")],
        reason: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
    }
}

/// The same member again.
fn rejoin(member: &str) -> JoinGroup {
    JoinGroup { version: 9, member_id: member.into(), ..join_v3() }
}

fn join_static(instance: &str) -> JoinGroup {
    JoinGroup { version: 9, group_instance_id: Some(instance.into()), ..join_v3() }
}

fn sync(member: &str, generation_id: i32, assignments: Vec<Assignment>) -> SyncGroup {
    SyncGroup {
        group_id: GROUP.into(),
        generation_id,
        member_id: member.into(),
        group_instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments,
    }
}

/// A commit of partition 0 of the topic, by nobody.
fn commit(offset: i64) -> OffsetCommit {
    OffsetCommit {
        version: 10,
        group_id: GROUP.into(),
        generation_id: -1,
        member_id: KafkaString::default(),
        group_instance_id: None,
        retention_time_ms: -1,
        topics: vec![commit_topic(TOPIC, TOPIC_ID, &[(0, offset)])],
    }
}

/// A commit of partition 0 of the topic, by a member.
fn commit_by(member: &str, generation_id: i32, offset: i64) -> OffsetCommit {
    OffsetCommit { generation_id, member_id: member.into(), ..commit(offset) }
}

const fn producer(id: i64, epoch: i16) -> TransactionalProducer {
    TransactionalProducer { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

/// An offset of partition 0 of the topic as part of a transaction, by nobody.
fn stage(producer: TransactionalProducer, offset: i64) -> TxnOffsetCommit {
    TxnOffsetCommit {
        version: 3,
        producer,
        group_id: GROUP.into(),
        generation_id: -1,
        member_id: KafkaString::default(),
        group_instance_id: None,
        topics: vec![commit_topic(TOPIC, TOPIC_ID, &[(0, offset)])],
    }
}

/// The same, by a member.
fn stage_by(member: &str, generation_id: i32, offset: i64) -> TxnOffsetCommit {
    TxnOffsetCommit { generation_id, member_id: member.into(), ..stage(producer(1, 0), offset) }
}

fn commit_topic(name: &str, topic_id: TopicId, offsets: &[(i32, i64)]) -> CommitTopic {
    let partitions = offsets
        .iter()
        .map(|(partition, offset)| CommitPartition {
            partition: PartitionIndex(*partition),
            offset: *offset,
            leader_epoch: LeaderEpoch(4),
            metadata: Some("mine".into()),
        })
        .collect();
    CommitTopic { name: name.into(), topic_id, partitions }
}

fn fetch_topic(name: &str, topic_id: TopicId, partitions: &[i32]) -> FetchTopic {
    let partitions = partitions.iter().copied().map(PartitionIndex).collect();
    FetchTopic { name: name.into(), topic_id, partitions }
}

/// What an answer says of an offset.
fn told(found: &FetchedOffset) -> Result<i64, ErrorCode> {
    if found.error == ErrorCode::None { Ok(found.offset) } else { Err(found.error) }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
