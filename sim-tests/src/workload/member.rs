//! A member of a classic consumer group that speaks the wire by hand.
//!
//! It joins, takes records into work from where its group left off, commits, and keeps its session. At
//! times it leaves, dies without a word, sleeps past its session and then commits as if nothing had
//! happened, or speaks as somebody that it is not. Once faults are over it only does what is right, and
//! tells what it holds when its whole group has been at rest for longer than a session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainspring_core::client::group::assignor::{Assignor, assignment_blob, read_assignment};
use mainspring_core::ids::{PartitionIndex, TopicPartition};
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::find_coordinator::{
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use mainspring_core::wire::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use mainspring_core::wire::api::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use mainspring_core::wire::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use mainspring_core::wire::api::metadata::MetadataResponse;
use mainspring_core::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use mainspring_core::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse,
};
use mainspring_core::wire::api::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};

use super::line::{ANSWER_WITHIN, Answer, Line};
use super::{Load, SharedRef, place};
use crate::history::{Fact, Membership, OperationId};
use crate::net::StreamId;
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND, SECOND};

/// The session that every member asks for.
pub const SESSION: u64 = 6 * SECOND;
/// How long a member may take to join again.
pub const REBALANCE: u64 = 4 * SECOND;
/// How long a group must have been at rest at the end, so that the sessions of the dead are over.
const AT_REST: u64 = SESSION + 3 * SECOND;
/// How soon a group must be at rest once faults are over: a lost connection is noticed, two sessions and
/// two rounds pass, and then it has to stay.
const REST_WITHIN: u64 = 2 * ANSWER_WITHIN + 2 * SESSION + 2 * REBALANCE + AT_REST + 15 * SECOND;

const HEARTBEAT_EVERY: u64 = SESSION / 4;

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE: i16 = 82;

#[derive(Clone, Debug)]
enum About {
    Metadata,
    Coordinator,
    Join,
    Sync,
    Heartbeat,
    Leave,
    Fetch(Vec<(TopicPartition, OperationId)>),
    Commit(Vec<(TopicPartition, OperationId)>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// It has to join.
    Out,
    /// It was let in and waits for its share; a leader has the members to share among.
    Joined { members: Vec<KafkaString> },
    /// It has its share, and does not know where to begin.
    Assigned,
    /// It works.
    Working,
}

/// The member.
#[derive(Debug)]
pub struct Member {
    client: usize,
    group: u32,
    group_id: KafkaString,
    load: Load,
    shared: SharedRef,
    line: Line<About>,
    knows_topics: bool,
    knows_coordinator: bool,
    instance: Option<KafkaString>,
    id: KafkaString,
    generation: i32,
    stage: Stage,
    /// What it holds, each with the next record to work on.
    positions: BTreeMap<TopicPartition, i64>,
    next_heartbeat: u64,
    next_work: u64,
    away_until: u64,
    next_operation: u64,
    /// Turns of work that it still takes; then it only stays.
    turns_left: u64,
    /// When it leaves for good, though nothing is wrong any more.
    leaves_at: Option<u64>,
    /// It left for good.
    gone: bool,
    healed_at: Option<u64>,
    done: bool,
    last_error: Option<(&'static str, i16)>,
}

/// Returns the name of a group.
pub(super) fn group_id(group: u32) -> KafkaString {
    KafkaString::from(format!("group-{group}").as_str())
}

impl Member {
    /// Makes a member; `is_static` gives it an instance id, under which it comes back after its death.
    pub fn new(client: usize, group: u32, is_static: bool, load: Load, shared: SharedRef) -> Self {
        shared.borrow_mut().groups.entry(group).or_default().members.insert(client);
        Self {
            client,
            group,
            group_id: group_id(group),
            turns_left: load.operations,
            load,
            shared,
            line: Line::default(),
            knows_topics: false,
            knows_coordinator: false,
            instance: is_static.then(|| KafkaString::from(format!("static-{client}").as_str())),
            id: KafkaString::default(),
            generation: -1,
            stage: Stage::Out,
            positions: BTreeMap::new(),
            next_heartbeat: 0,
            next_work: 0,
            away_until: 0,
            next_operation: 0,
            leaves_at: None,
            gone: false,
            healed_at: None,
            done: false,
            last_error: None,
        }
    }

    fn membership(&self) -> Membership {
        Membership { id: Arc::from(self.id.as_str()), generation: self.generation }
    }

    fn operation(&mut self) -> OperationId {
        self.next_operation += 1;
        OperationId { client: self.client, number: self.next_operation }
    }

    fn note(&self, hands: &Hands<'_>, generation: Option<i32>) {
        let mut shared = self.shared.borrow_mut();
        shared.groups.entry(self.group).or_default().note(hands.now, self.client, generation);
    }

    fn name_of(&self, partition: TopicPartition) -> Option<KafkaString> {
        let shared = self.shared.borrow();
        let mut topics = shared.topics.iter();
        topics
            .find(|(_, id)| **id == partition.topic_id)
            .map(|(name, _)| KafkaString::from(name.as_str()))
    }

    /// Returns partitions by the names of their topics, in one order.
    fn by_topic(&self, partitions: &[TopicPartition]) -> BTreeMap<KafkaString, Vec<i32>> {
        let mut topics: BTreeMap<KafkaString, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            if let Some(name) = self.name_of(*partition) {
                topics.entry(name).or_default().push(partition.partition.0);
            }
        }
        topics
    }

    /// Returns how many partitions there are to share.
    fn total(&self) -> usize {
        self.load.topics.len() * self.load.partitions as usize
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        let jitter = hands.rng.below(40 * MILLISECOND);
        hands.wake_at(hands.now + 60 * MILLISECOND + jitter);
        if self.gone || hands.now < self.away_until {
            return;
        }
        if !self.line.is_ready(hands) || self.line.in_flight() > 0 {
            return;
        }
        if !self.knows_topics {
            let topics = self.load.topics.clone();
            return self.line.ask_metadata(hands, &topics, About::Metadata);
        }
        if !self.knows_coordinator {
            let request = FindCoordinatorRequest {
                coordinator_keys: vec![self.group_id.clone()],
                ..FindCoordinatorRequest::default()
            };
            return self.line.send(hands, &request, 4, About::Coordinator);
        }
        match self.stage.clone() {
            Stage::Out => self.join(hands),
            Stage::Joined { members } => self.sync(hands, &members),
            Stage::Assigned => self.fetch(hands),
            Stage::Working => self.work(hands),
        }
    }

    fn join(&mut self, hands: &mut Hands<'_>) {
        self.note(hands, None);
        let topics: BTreeSet<KafkaString> =
            self.load.topics.iter().map(|name| KafkaString::from(name.as_str())).collect();
        let metadata = Assignor::Range.subscription(&topics, &BTreeSet::new(), -1, None);
        let request = JoinGroupRequest {
            group_id: self.group_id.clone(),
            session_timeout_ms: (SESSION / MILLISECOND) as i32,
            rebalance_timeout_ms: (REBALANCE / MILLISECOND) as i32,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: KafkaString::from("consumer"),
            protocols: vec![JoinGroupRequestProtocol {
                name: KafkaString::from("range"),
                metadata,
            }],
            ..JoinGroupRequest::default()
        };
        let version = [5, 6, 7, 9][hands.rng.index(4)];
        self.line.send(hands, &request, version, About::Join);
    }

    fn sync(&mut self, hands: &mut Hands<'_>, members: &[KafkaString]) {
        let mut shares: Vec<BTreeSet<(KafkaString, PartitionIndex)>> =
            vec![BTreeSet::new(); members.len()];
        let topics = self.load.topics.iter().map(|name| KafkaString::from(name.as_str()));
        let places = topics.flat_map(|topic| {
            (0..self.load.partitions).map(move |index| (topic.clone(), PartitionIndex(index)))
        });
        if !members.is_empty() {
            for (nth, place) in places.enumerate() {
                shares[nth % members.len()].insert(place);
            }
        }
        let assignments = members
            .iter()
            .zip(&shares)
            .map(|(member_id, share)| SyncGroupRequestAssignment {
                member_id: member_id.clone(),
                assignment: assignment_blob(share),
            })
            .collect();
        let request = SyncGroupRequest {
            group_id: self.group_id.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: Some(KafkaString::from("consumer")),
            protocol_name: Some(KafkaString::from("range")),
            assignments,
        };
        let version = [3, 5][hands.rng.index(2)];
        self.line.send(hands, &request, version, About::Sync);
    }

    fn fetch(&mut self, hands: &mut Hands<'_>) {
        let partitions: Vec<TopicPartition> = self.positions.keys().copied().collect();
        if partitions.is_empty() {
            self.stage = Stage::Working;
            return;
        }
        let asked: Vec<(TopicPartition, OperationId)> =
            partitions.iter().map(|partition| (*partition, self.operation())).collect();
        for (partition, operation) in &asked {
            hands.tell(Fact::AskedCommitted {
                operation: *operation,
                group: self.group,
                partition: *partition,
            });
        }
        let topics = self
            .by_topic(&partitions)
            .into_iter()
            .map(|(name, partition_indexes)| OffsetFetchRequestTopic { name, partition_indexes })
            .collect();
        let request = OffsetFetchRequest {
            group_id: self.group_id.clone(),
            topics: Some(topics),
            ..OffsetFetchRequest::default()
        };
        let version = [5, 7][hands.rng.index(2)];
        self.line.send(hands, &request, version, About::Fetch(asked));
    }

    fn work(&mut self, hands: &mut Hands<'_>) {
        if self.leaves_at.is_some_and(|at| at <= hands.now) {
            if self.shared.borrow().groups[&self.group].members.len() > 1 {
                return self.leave(hands);
            }
            // Whoever else there was has left meanwhile.
            self.leaves_at = None;
        }
        if hands.now >= self.next_heartbeat {
            self.next_heartbeat = hands.now + HEARTBEAT_EVERY;
            let request = HeartbeatRequest {
                group_id: self.group_id.clone(),
                generation_id: self.generation,
                member_id: self.id.clone(),
                group_instance_id: self.instance.clone(),
            };
            return self.line.send(hands, &request, 4, About::Heartbeat);
        }
        if hands.now < self.next_work || self.done || self.turns_left == 0 {
            return;
        }
        self.turns_left -= 1;
        self.next_work = hands.now + hands.rng.exponential(self.load.pause);
        if self.healed_at.is_none() && hands.rng.chance(30) {
            return self.misbehave(hands);
        }
        for (partition, position) in &mut self.positions {
            let to = *position + hands.rng.below(20) as i64;
            hands.tell(Fact::Processed {
                group: self.group,
                partition: *partition,
                from: *position,
                to,
            });
            *position = to;
        }
        if hands.rng.chance(600) {
            let membership = self.membership();
            self.commit(hands, &membership);
        }
    }

    fn leave(&mut self, hands: &mut Hands<'_>) {
        let request = LeaveGroupRequest {
            group_id: self.group_id.clone(),
            members: vec![MemberIdentity {
                member_id: self.id.clone(),
                group_instance_id: self.instance.clone(),
                reason: None,
            }],
            ..LeaveGroupRequest::default()
        };
        self.line.send(hands, &request, 4, About::Leave);
    }

    fn misbehave(&mut self, hands: &mut Hands<'_>) {
        match hands.rng.below(10) {
            0..3 => {
                // Dead without a word, and another process later; a few never come back.
                self.line.drop_stream(hands);
                self.stage = Stage::Out;
                self.id = KafkaString::default();
                self.positions.clear();
                self.note(hands, None);
                self.stay_away(hands);
            }
            3..5 => self.leave(hands),
            5..8 => {
                // Past its session; then it commits before it asks how things are.
                self.away_until = hands.now + SESSION / 2 + hands.rng.below(2 * SESSION);
                self.next_heartbeat = self.away_until + SECOND;
                self.next_work = self.away_until;
            }
            8 => {
                // It may be of the next one already, and the answer that says so is lost.
                let by = [-1, 1_000, 1_000][hands.rng.index(3)];
                let other = Membership { generation: self.generation + by, ..self.membership() };
                self.commit(hands, &other);
            }
            _ => {
                let other = Membership { id: Arc::from("nobody"), ..self.membership() };
                self.commit(hands, &other);
            }
        }
    }

    fn stay_away(&mut self, hands: &mut Hands<'_>) {
        self.away_until = hands.now + hands.rng.exponential(2 * SECOND);
        let mut shared = self.shared.borrow_mut();
        let group = shared.groups.entry(self.group).or_default();
        if group.members.len() > 1 && hands.rng.chance(150) {
            group.members.remove(&self.client);
            self.gone = true;
        }
    }

    fn commit(&mut self, hands: &mut Hands<'_>, member: &Membership) {
        let partitions: Vec<TopicPartition> = self.positions.keys().copied().collect();
        if partitions.is_empty() {
            return;
        }
        let asked: Vec<(TopicPartition, OperationId)> =
            partitions.iter().map(|partition| (*partition, self.operation())).collect();
        for (partition, operation) in &asked {
            hands.tell(Fact::CommitAsked {
                operation: *operation,
                group: self.group,
                member: member.clone(),
                partition: *partition,
                offset: self.positions[partition],
            });
        }
        let topics = self
            .by_topic(&partitions)
            .into_iter()
            .map(|(name, indexes)| OffsetCommitRequestTopic {
                partitions: indexes
                    .into_iter()
                    .map(|partition_index| OffsetCommitRequestPartition {
                        partition_index,
                        committed_offset: place(&self.shared, name.as_str(), partition_index)
                            .map_or(0, |partition| self.positions[&partition]),
                        committed_metadata: None,
                        ..OffsetCommitRequestPartition::default()
                    })
                    .collect(),
                name,
                ..OffsetCommitRequestTopic::default()
            })
            .collect();
        let request = OffsetCommitRequest {
            group_id: self.group_id.clone(),
            generation_id_or_member_epoch: member.generation,
            member_id: KafkaString::from(&*member.id),
            group_instance_id: self.instance.clone(),
            topics,
            ..OffsetCommitRequest::default()
        };
        let version = [7, 8, 9][hands.rng.index(3)];
        self.line.send(hands, &request, version, About::Commit(asked));
    }

    /// Does what a code of the coordinator asks for.
    fn obey(&mut self, hands: &mut Hands<'_>, what: &'static str, code: i16) {
        self.last_error = Some((what, code));
        match code {
            REBALANCE_IN_PROGRESS | ILLEGAL_GENERATION => {
                self.note(hands, None);
                self.stage = Stage::Out;
            }
            UNKNOWN_MEMBER | FENCED_INSTANCE => {
                self.note(hands, None);
                self.id = KafkaString::default();
                self.stage = Stage::Out;
            }
            // It loads, or stops, or is another node by now: asked again soon.
            _ => {
                self.away_until = hands.now + 100 * MILLISECOND;
                self.knows_coordinator &= hands.cluster == 1;
                self.line.wander(hands);
            }
        }
    }

    fn answer(&mut self, hands: &mut Hands<'_>, mut answer: Answer<About>) {
        match answer.about.clone() {
            About::Metadata => {
                let response: MetadataResponse = answer.body();
                self.knows_topics =
                    self.line.learn(hands, &self.shared, &response, &self.load.topics);
            }
            About::Coordinator => {
                let response: FindCoordinatorResponse = answer.body();
                self.knows_coordinator = response.coordinators[0].error_code == 0;
                if self.knows_coordinator {
                    self.line.turn_to(hands, response.coordinators[0].node_id);
                } else {
                    self.obey(hands, "FindCoordinator", response.coordinators[0].error_code);
                }
            }
            About::Join => self.joined(hands, answer.body()),
            About::Sync => self.synced(hands, answer.body()),
            About::Heartbeat => {
                let response: HeartbeatResponse = answer.body();
                if response.error_code != 0 {
                    return self.obey(hands, "Heartbeat", response.error_code);
                }
                if self.stage == Stage::Working {
                    self.note(hands, Some(self.generation));
                    self.rest(hands);
                }
            }
            About::Leave => {
                self.stage = Stage::Out;
                self.id = KafkaString::default();
                self.positions.clear();
                self.note(hands, None);
                if self.leaves_at.is_some() {
                    self.shared
                        .borrow_mut()
                        .groups
                        .entry(self.group)
                        .or_default()
                        .part(self.client);
                    self.gone = true;
                } else {
                    self.stay_away(hands);
                }
            }
            About::Fetch(asked) => self.fetched(hands, &asked, &answer.body()),
            About::Commit(asked) => self.committed(hands, &asked, &answer.body()),
        }
    }

    fn joined(&mut self, hands: &mut Hands<'_>, response: JoinGroupResponse) {
        if response.error_code == MEMBER_ID_REQUIRED {
            self.id = response.member_id;
            return;
        }
        if response.error_code != 0 {
            return self.obey(hands, "JoinGroup", response.error_code);
        }
        self.id = response.member_id;
        self.generation = response.generation_id;
        let leads = response.leader == self.id && !response.skip_assignment;
        let mut members: Vec<KafkaString> =
            response.members.into_iter().map(|member| member.member_id).collect();
        members.sort();
        self.stage = Stage::Joined { members: if leads { members } else { Vec::new() } };
    }

    fn synced(&mut self, hands: &mut Hands<'_>, response: SyncGroupResponse) {
        if response.error_code != 0 {
            return self.obey(hands, "SyncGroup", response.error_code);
        }
        let share = read_assignment(response.assignment).expect("what a leader gave out");
        let partitions: Vec<TopicPartition> = share
            .iter()
            .filter_map(|(topic, index)| place(&self.shared, topic.as_str(), index.0))
            .collect();
        let member = self.membership();
        hands.tell(Fact::Assigned {
            group: self.group,
            member,
            instance: self.instance.as_ref().map(|instance| Arc::from(instance.as_str())),
            partitions: partitions.clone(),
        });
        // Eager: what it held before it does not hold any more.
        self.positions = partitions.into_iter().map(|partition| (partition, 0)).collect();
        self.stage = Stage::Assigned;
        self.next_heartbeat = hands.now + HEARTBEAT_EVERY;
    }

    fn fetched(
        &mut self,
        hands: &mut Hands<'_>,
        asked: &[(TopicPartition, OperationId)],
        response: &OffsetFetchResponse,
    ) {
        if response.error_code != 0 {
            return self.obey(hands, "OffsetFetch", response.error_code);
        }
        for topic in &response.topics {
            for found in &topic.partitions {
                if found.error_code != 0 {
                    return self.obey(hands, "OffsetFetch", found.error_code);
                }
                let Some(partition) =
                    place(&self.shared, topic.name.as_str(), found.partition_index)
                else {
                    continue;
                };
                let question = asked.iter().find(|(of, _)| *of == partition);
                let (_, operation) = question.expect("an answer for what was asked");
                let offset = found.committed_offset;
                hands.tell(Fact::ToldCommitted { operation: *operation, offset });
                if let Some(position) = self.positions.get_mut(&partition) {
                    *position = offset.max(0);
                }
            }
        }
        if self.stage == Stage::Assigned {
            self.stage = Stage::Working;
        }
    }

    fn committed(
        &mut self,
        hands: &mut Hands<'_>,
        asked: &[(TopicPartition, OperationId)],
        response: &OffsetCommitResponse,
    ) {
        let mut trouble = None;
        for topic in &response.topics {
            for outcome in &topic.partitions {
                let partition = place(&self.shared, topic.name.as_str(), outcome.partition_index);
                let question = asked.iter().find(|(of, _)| Some(*of) == partition);
                let (_, operation) = question.expect("an answer for what was asked");
                let code = outcome.error_code;
                hands.tell(Fact::CommitAnswered { operation: *operation, code });
                if code != 0 {
                    trouble = Some(code);
                }
            }
        }
        if let Some(code) = trouble {
            // What was said in another's name says nothing of this member.
            self.last_error = Some(("OffsetCommit", code));
            self.next_heartbeat = hands.now;
        }
    }

    /// Once the whole group has been at rest for long enough: tells what it holds, and asks a last time
    /// where its group stands.
    fn rest(&mut self, hands: &mut Hands<'_>) {
        let (since, members) = {
            let shared = self.shared.borrow();
            let group = &shared.groups[&self.group];
            (group.since, group.members.len())
        };
        let Some(healed_at) = self.healed_at else { return };
        let rests = since.is_some_and(|since| hands.now >= since.max(healed_at) + AT_REST);
        if !rests || self.done {
            return;
        }
        self.done = true;
        hands.tell(Fact::GroupAtRest {
            group: self.group,
            client: self.client,
            generation: self.generation,
            partitions: self.positions.keys().copied().collect(),
            members,
            total: self.total(),
        });
        self.fetch(hands);
    }

    fn finish(&mut self, hands: &mut Hands<'_>) {
        self.healed_at = Some(hands.now);
        self.away_until = 0;
        if self.gone {
            return;
        }
        hands.tell(Fact::GroupHealed { group: self.group, within: REST_WITHIN });
        // The others must take its partitions over, with nothing else happening to them.
        let mut shared = self.shared.borrow_mut();
        let group = shared.groups.entry(self.group).or_default();
        if group.members.len() > 1 && !group.parting && hands.rng.chance(150) {
            group.parting = true;
            self.leaves_at = Some(hands.now + hands.rng.between(SECOND, 5 * SECOND));
        }
    }

    fn lost(&mut self, hands: &Hands<'_>) {
        self.knows_coordinator = false;
        if matches!(self.stage, Stage::Joined { .. }) {
            self.stage = Stage::Out;
        }
        // A node that starts gives every session its full length again, those of the dead too.
        self.note(hands, None);
    }
}

impl Actor for Member {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        match event {
            ActorEvent::Wake => {}
            ActorEvent::Connected(stream) => self.line.connected(stream),
            ActorEvent::Received(stream, bytes) => self.received(hands, stream, &bytes),
            ActorEvent::Disconnected(stream) => {
                self.line.disconnected(hands, stream);
                self.lost(hands);
            }
            ActorEvent::Finish => self.finish(hands),
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.gone && !self.done).then(|| {
            let shared = self.shared.borrow();
            let group = &shared.groups[&self.group];
            format!(
                "member {} of group {} is {:?} in generation {}, {} of {} members are well, its last \
                 error was {:?}",
                self.client,
                self.group,
                self.stage,
                self.generation,
                group.well.len(),
                group.members.len(),
                self.last_error
            )
        })
    }
}

impl Member {
    fn received(&mut self, hands: &mut Hands<'_>, stream: StreamId, bytes: &bytes::BytesMut) {
        for answer in self.line.received(stream, bytes) {
            self.answer(hands, answer);
        }
    }
}
