//! Clients that do sensible and senseless things, over crashes that lose what was not committed, a
//! log that refuses, and time that passes; and what must hold whatever they do.

mod reading;

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::reading::{Reading, decoded};
use super::super::live::{Group, GroupPhase};
use super::*;
use crate::wire::group_record::GroupRecord;

const GROUPS: [&str; 2] = ["g", "h"];
/// Clients of each group: dynamic ones that are given an id first, one that is not, static ones.
const CLIENTS: usize = 5;
const PRODUCERS: i64 = 3;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client does what it should.
    Act(usize),
    /// The client commits an offset.
    Commit(usize),
    /// The client commits one late, in the generation before its own.
    CommitLate(usize),
    /// Somebody outside the group commits one.
    CommitByNobody(usize),
    /// The client commits an offset as part of a producer's transaction, in the generation that is
    /// so much before its own.
    Stage(usize, i64, i32),
    /// Somebody commits one as part of a producer's transaction, and does not say who it is.
    StageByNobody(usize, i64),
    /// A producer's transaction is committed or aborted.
    End(i64, bool),
    /// The client asks once more for what it waits for or has got.
    Repeat(usize),
    /// The client joins with other words.
    Resubscribe(usize),
    /// The client starts anew and knows nothing.
    Forget(usize),
    /// The client leaves.
    Leave(usize),
    /// The client sends a heartbeat of another generation.
    Stray(usize),
    /// Offsets are read.
    Read(usize),
    /// So many more batches are committed.
    Replicate(u8),
    /// Time passes, in milliseconds.
    Pass(u32),
    /// The coordinator's process dies, and the log keeps so many of the batches that were not
    /// committed.
    Crash(u8),
    /// The log takes nothing, or takes records again.
    Refuse(bool),
    /// A group is deleted.
    Delete(usize),
    /// A topic is deleted.
    DeleteTopic,
    /// The log is cleaned.
    Clean,
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..GROUPS.len() * CLIENTS;
    let group = || 0..GROUPS.len();
    let producer = || 1..=PRODUCERS;
    prop_oneof![
        80 => client().prop_map(Step::Act),
        14 => client().prop_map(Step::Commit),
        2 => client().prop_map(Step::CommitLate),
        2 => group().prop_map(Step::CommitByNobody),
        8 => (client(), producer()).prop_map(|(client, one)| Step::Stage(client, one, 0)),
        1 => (client(), producer()).prop_map(|(client, one)| Step::Stage(client, one, 1)),
        2 => (group(), producer()).prop_map(|(group, one)| Step::StageByNobody(group, one)),
        6 => (producer(), any::<bool>()).prop_map(|(one, committed)| Step::End(one, committed)),
        3 => client().prop_map(Step::Repeat),
        2 => client().prop_map(Step::Resubscribe),
        2 => client().prop_map(Step::Forget),
        2 => client().prop_map(Step::Leave),
        2 => client().prop_map(Step::Stray),
        4 => group().prop_map(Step::Read),
        14 => (1_u8..4).prop_map(Step::Replicate),
        10 => (0_u32..4_000).prop_map(Step::Pass),
        1 => (0_u32..400_000).prop_map(Step::Pass),
        2 => (0_u8..2).prop_map(Step::Crash),
        4 => prop::bool::weighted(0.2).prop_map(Step::Refuse),
        1 => group().prop_map(Step::Delete),
        1 => Just(Step::DeleteTopic),
        2 => Just(Step::Clean),
    ]
}

/// What a client believes.
#[derive(Clone, Default, Debug)]
struct Client {
    member_id: KafkaString,
    joined: Option<JoinGroupAnswer>,
    is_assigned: bool,
    waits: Option<Ticket>,
    topics: u8,
}

/// What was asked, and what its answer is checked against.
#[derive(Clone, Debug)]
enum Asked {
    Join(usize),
    Sync(usize, KafkaString, i32),
    Heartbeat(usize),
    Leave,
    Commit { value: i64 },
    Fetch { expected: Vec<Result<i64, ErrorCode>> },
    Other,
}

/// How often something happened, so that a run in which nothing does is noticed.
#[derive(Clone, Default, Debug)]
struct Counts {
    generation: i32,
    assigned: u32,
    commits: u32,
    refused_commits: u32,
    refused_appends: u32,
    crashes: u32,
    lost_records: usize,
    reads: u32,
    unstable_reads: u32,
    ended: u32,
    made_visible: usize,
    overtaken: usize,
    cleanings: u32,
}

struct World {
    bench: Bench,
    high_watermark: usize,
    clients: Vec<Client>,
    asked: BTreeMap<Ticket, Asked>,
    serial: i64,
    /// Epochs of the producers. Every other one counts them up with each transaction.
    epochs: BTreeMap<i64, i16>,
    /// Of the topic that has the name now.
    topic_id: TopicId,
    counts: Counts,
}

impl World {
    fn new() -> Self {
        let bench = Bench::with(|config| {
            config.initial_rebalance_delay = Duration::from_millis(500);
            config.dead_records_min = 8;
        });
        Self {
            bench,
            high_watermark: 0,
            clients: vec![Client::default(); GROUPS.len() * CLIENTS],
            asked: BTreeMap::new(),
            serial: 0,
            epochs: BTreeMap::new(),
            topic_id: TOPIC_ID,
            counts: Counts::default(),
        }
    }

    fn group(client: usize) -> KafkaString {
        GROUPS[client / CLIENTS].into()
    }

    fn instance(client: usize) -> Option<KafkaString> {
        (client % CLIENTS >= 3).then(|| format!("static-{client}").into())
    }

    fn ask(&mut self, asked: Asked, request: Request) -> Ticket {
        let ticket = Ticket(self.bench.tickets + 1);
        self.asked.insert(ticket, asked);
        self.bench.ask(request)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Act(client) => self.act(client),
            Step::Commit(client) => self.commit_by(client, 0),
            Step::CommitLate(client) => self.commit_by(client, 1),
            Step::CommitByNobody(group) => {
                self.commit(GROUPS[group].into(), "".into(), None, -1, None);
            }
            Step::Stage(client, producer, behind) => self.stage_by(client, producer, behind),
            Step::StageByNobody(group, producer) => {
                let producer = Some(self.producer(producer));
                self.commit(GROUPS[group].into(), "".into(), None, -1, producer);
            }
            Step::End(producer, committed) => self.end(producer, committed),
            Step::Repeat(client) => self.repeat(client),
            Step::Resubscribe(client) => {
                self.clients[client].topics = self.clients[client].topics.wrapping_add(1);
                self.join(client);
            }
            Step::Forget(client) => {
                self.clients[client] = Client::default();
            }
            Step::Leave(client) => {
                let member = LeavingMember {
                    member_id: self.clients[client].member_id.clone(),
                    group_instance_id: Self::instance(client),
                    reason: None,
                };
                let request = LeaveGroup { group_id: Self::group(client), members: vec![member] };
                self.ask(Asked::Leave, Request::LeaveGroup(request));
                self.clients[client] = Client::default();
            }
            Step::Stray(client) => self.heartbeat(client, 7, Asked::Other),
            Step::Read(group) => self.read(GROUPS[group]),
            Step::Replicate(batches) => self.replicate(usize::from(batches)),
            Step::Pass(millis) => self.pass(Duration::from_millis(u64::from(millis))),
            Step::Crash(kept) => self.crash(usize::from(kept)),
            Step::Refuse(refuses) => {
                self.bench.log.refuses = refuses.then_some(ErrorCode::NotEnoughReplicas);
                self.counts.refused_appends += u32::from(refuses);
            }
            Step::Delete(group) => {
                let request = DeleteGroup { group_id: GROUPS[group].into() };
                self.ask(Asked::Other, Request::DeleteGroup(request));
            }
            Step::DeleteTopic => {
                let name = KafkaString::from(TOPIC);
                let (bench, gone) = (&mut self.bench, self.topic_id);
                bench.coordinator.topic_deleted(bench.now, &mut bench.log, &name, gone);
                // It is made anew at once; an id never comes again.
                self.topic_id = Uuid((u128::from_be_bytes(gone.0) + 1).to_be_bytes());
            }
            Step::Clean => self.clean(),
        }
        self.deliver();
        self.check_live_groups();
    }

    fn act(&mut self, client: usize) {
        let state = &self.clients[client];
        if state.waits.is_some() {
            return;
        }
        match &state.joined {
            None => self.join(client),
            Some(joined) if !state.is_assigned => {
                let joined = joined.clone();
                self.sync(client, &joined);
            }
            Some(joined) => {
                let generation_id = joined.generation_id;
                self.heartbeat(client, generation_id, Asked::Heartbeat(client));
            }
        }
    }

    fn join(&mut self, client: usize) {
        let state = &self.clients[client];
        let metadata =
            subscription(&[TOPIC, if state.topics.is_multiple_of(2) { "even" } else { "odd" }]);
        let mut protocols = vec![JoinProtocol { name: "range".into(), metadata }];
        if state.topics.is_multiple_of(3) {
            protocols.insert(0, protocol("sticky"));
        }
        let request = JoinGroup {
            version: if client % CLIENTS == 2 { 3 } else { 9 },
            group_id: Self::group(client),
            member_id: state.member_id.clone(),
            group_instance_id: Self::instance(client),
            rebalance_timeout_ms: 8_000 + 500 * client as i32,
            protocols,
            ..join_v3()
        };
        let ticket = self.ask(Asked::Join(client), Request::JoinGroup(request));
        let state = &mut self.clients[client];
        state.waits = Some(ticket);
        state.joined = None;
        state.is_assigned = false;
    }

    fn sync(&mut self, client: usize, joined: &JoinGroupAnswer) {
        self.serial += 1;
        // Every assignment says which request it comes from.
        let assignment = Bytes::from(format!("made by {}", self.serial));
        let request = SyncGroup {
            group_id: Self::group(client),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: Self::instance(client),
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments: joined
                .members
                .iter()
                .filter(|_| !joined.skip_assignment)
                .map(|one| Assignment {
                    member_id: one.member_id.clone(),
                    assignment: assignment.clone(),
                })
                .collect(),
        };
        let asked = Asked::Sync(client, joined.member_id.clone(), joined.generation_id);
        let ticket = self.ask(asked, Request::SyncGroup(request));
        self.clients[client].waits = Some(ticket);
    }

    fn heartbeat(&mut self, client: usize, generation_id: i32, asked: Asked) {
        let request = Heartbeat {
            group_id: Self::group(client),
            generation_id,
            member_id: self.clients[client].member_id.clone(),
            group_instance_id: Self::instance(client),
        };
        self.ask(asked, Request::Heartbeat(request));
    }

    fn repeat(&mut self, client: usize) {
        match self.clients[client].joined.clone() {
            Some(joined) => self.sync(client, &joined),
            None => self.join(client),
        }
    }

    fn commit_by(&mut self, client: usize, behind: i32) {
        let Some(joined) = self.clients[client].joined.clone() else { return };
        let instance = Self::instance(client);
        let generation_id = joined.generation_id - behind;
        self.commit(Self::group(client), joined.member_id, instance, generation_id, None);
    }

    fn stage_by(&mut self, client: usize, producer: i64, behind: i32) {
        let Some(joined) = self.clients[client].joined.clone() else { return };
        let instance = Self::instance(client);
        let generation_id = joined.generation_id - behind;
        let producer = Some(self.producer(producer));
        self.commit(Self::group(client), joined.member_id, instance, generation_id, producer);
    }

    fn producer(&self, id: i64) -> TransactionalProducer {
        producer(id, self.epochs.get(&id).copied().unwrap_or(0))
    }

    fn end(&mut self, id: i64, committed: bool) {
        let raised = i16::from(id % 2 == 0);
        let producer = producer(id, self.producer(id).epoch.0 + raised);
        self.epochs.insert(id, producer.epoch.0);
        let before = Reading::of(&self.bench.log);
        let offset = self.bench.log.append_marker(producer, committed);
        let visible =
            self.bench.coordinator.on_marker(producer.id, producer.epoch, committed, offset);
        let after = Reading::of(&self.bench.log);
        for one in &visible {
            let place = (one.group_id.to_string(), one.partition.0);
            let (_, topic_id, offset) = after.stored[&place];
            assert_eq!((topic_id, offset), (one.topic_id, one.offset));
        }
        let changed =
            after.stored.iter().filter(|(place, now)| before.stored.get(place) != Some(now));
        assert_eq!(changed.count(), visible.len(), "what is new is told, and nothing else");
        self.counts.ended += 1;
        self.counts.made_visible += visible.len();
        if committed {
            self.counts.overtaken += before.staged_of(id) - visible.len();
        }
    }

    fn commit(
        &mut self,
        group_id: KafkaString,
        member_id: KafkaString,
        group_instance_id: Option<KafkaString>,
        generation_id: i32,
        producer: Option<TransactionalProducer>,
    ) {
        // No value is committed twice, so a record tells which request it comes from.
        self.serial += 1;
        let value = self.serial;
        let topics = vec![commit_topic(TOPIC, self.topic_id, &[((value % 3) as i32, value)])];
        let request = OffsetCommit {
            group_id,
            generation_id,
            member_id,
            group_instance_id,
            topics,
            ..commit(0)
        };
        let before = self.bench.log.records.len();
        let is_staged = producer.is_some();
        let asked = match producer {
            None => Request::OffsetCommit(request.clone()),
            Some(producer) => Request::TxnOffsetCommit(TxnOffsetCommit {
                version: 5,
                producer,
                group_id: request.group_id.clone(),
                generation_id: request.generation_id,
                member_id: request.member_id.clone(),
                group_instance_id: request.group_instance_id.clone(),
                topics: request.topics.clone(),
            }),
        };
        self.ask(Asked::Commit { value }, asked);
        if self.bench.log.records.len() > before {
            assert_eq!(is_staged, self.bench.log.transactional.contains_key(&before));
            self.check_commit_gate(&request, is_staged, before);
        }
    }

    /// What is stored comes from a member of the generation that the log knows, or from nobody in a
    /// group without members; in a transaction, also from whoever does not say who it is.
    fn check_commit_gate(&self, request: &OffsetCommit, is_staged: bool, before: usize) {
        let stored = self.last_group(&request.group_id, before);
        let Some(GroupRecord::GroupMetadata(_, Some(group))) = stored else {
            return;
        };
        if request.generation_id >= 0 {
            assert!(group.generation <= request.generation_id, "a commit of a past generation");
        } else if self.counts.refused_appends == 0 && !is_staged {
            assert!(group.members.is_empty(), "nobody commits where there are members");
        }
    }

    fn last_group(&self, group_id: &str, before: usize) -> Option<GroupRecord> {
        self.bench.log.records[..before].iter().rev().filter_map(decoded).find(
            |record| matches!(record, GroupRecord::GroupMetadata(key, _) if key.group == group_id),
        )
    }

    fn read(&mut self, group: &str) {
        let reading = Reading::of(&self.bench.log);
        self.serial += 1;
        let require_stable = self.serial % 2 == 0;
        let expected = (0..3)
            .map(|partition| (group.to_owned(), partition))
            .map(|place| {
                if require_stable && reading.is_staged(&place) {
                    return Err(ErrorCode::UnstableOffsetCommit);
                }
                let last = reading.stored.get(&place);
                let last = last.filter(|(_, topic_id, _)| *topic_id == self.topic_id);
                Ok(last.map_or(-1, |(_, _, offset)| *offset))
            })
            .collect();
        let topics = Some(vec![fetch_topic(TOPIC, self.topic_id, &[0, 1, 2])]);
        let request = OffsetFetch { group_id: group.into(), require_stable, topics };
        self.ask(Asked::Fetch { expected }, Request::OffsetFetch(request));
    }

    fn replicate(&mut self, batches: usize) {
        let mut end = 0;
        let mut left = batches;
        for records in &self.bench.log.batches {
            if end >= self.high_watermark && left == 0 {
                break;
            }
            left -= usize::from(end >= self.high_watermark);
            end += records;
        }
        self.high_watermark = self.high_watermark.max(end);
        self.bench.coordinator.committed(Offset(self.high_watermark as i64));
        self.bench.collect();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.bench.now.mono + time;
        while let Some(at) = self.bench.coordinator.next_deadline().filter(|at| *at <= end) {
            self.bench.advance(at.max(self.bench.now.mono));
            self.bench.coordinator.on_timer(self.bench.now, &mut self.bench.log);
            self.bench.collect();
        }
        self.bench.advance(end);
    }

    fn crash(&mut self, kept: usize) {
        self.counts.crashes += 1;
        let mut end = 0;
        let mut batches = 0;
        let mut left = kept;
        for records in &self.bench.log.batches {
            if end >= self.high_watermark {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            end += records;
            batches += 1;
        }
        self.counts.lost_records += self.bench.log.records.len() - end;
        self.bench.log.truncate(end);
        self.bench.log.batches.truncate(batches);
        self.high_watermark = end;
        self.asked.clear();
        for client in &mut self.clients {
            client.waits = None;
        }
        self.bench.log.refuses = None;
        self.bench.restart();
        self.bench.collect();
    }

    fn clean(&mut self) {
        let bench = &mut self.bench;
        if let Some(to) = bench.coordinator.cleaned_to() {
            assert!(to.0 >= bench.log.start && to.0 <= self.high_watermark as i64);
            let open = Reading::of(&bench.log).first_open();
            assert!(open.is_none_or(|first| to.0 <= first as i64), "an open transaction is passed");
            bench.log.start = to.0;
            self.counts.cleanings += 1;
        }
        let before = Reading::of(&bench.log);
        let start = Offset(bench.log.start);
        // A refusal is no harm.
        let _ = bench.coordinator.clean(bench.now, &mut bench.log, start);
        let after = Reading::of(&bench.log);
        assert_eq!(after.values(), before.values(), "a copy changes nothing");
        for (place, stored) in &after.stored {
            assert!(!before.is_staged(place) || before.stored[place] == *stored, "a copy too many");
        }
    }

    fn deliver(&mut self) {
        for (ticket, response) in std::mem::take(&mut self.bench.replies) {
            let asked = self.asked.remove(&ticket).expect("one reply to what was asked");
            self.check_reply(ticket, asked, response);
        }
    }

    fn check_reply(&mut self, ticket: Ticket, asked: Asked, response: Response) {
        match (asked, response) {
            (Asked::Join(client), Response::JoinGroup(answer)) => {
                let state = &mut self.clients[client];
                if state.waits != Some(ticket) {
                    return;
                }
                state.waits = None;
                state.member_id = answer.member_id.clone();
                let again = [
                    ErrorCode::MemberIdRequired,
                    ErrorCode::RebalanceInProgress,
                    ErrorCode::InconsistentGroupProtocol,
                ];
                let anew = [
                    ErrorCode::UnknownMemberId,
                    ErrorCode::FencedInstanceId,
                    ErrorCode::CoordinatorNotAvailable,
                ];
                if answer.error == ErrorCode::None {
                    let generation = &mut self.counts.generation;
                    *generation = answer.generation_id.max(*generation);
                    assert_ne!(answer.leader, "");
                    state.joined = Some(answer);
                } else if !again.contains(&answer.error) {
                    assert!(anew.contains(&answer.error), "{}", answer.error);
                    state.member_id = KafkaString::default();
                }
            }
            (Asked::Sync(client, member_id, generation_id), Response::SyncGroup(answer)) => {
                if answer.error == ErrorCode::None {
                    self.check_assignment(client, &member_id, generation_id, &answer.assignment);
                    self.counts.assigned += 1;
                }
                let state = &mut self.clients[client];
                if state.waits == Some(ticket) {
                    state.waits = None;
                    state.is_assigned = answer.error == ErrorCode::None;
                    if !state.is_assigned {
                        state.joined = None;
                    }
                    if answer.error == ErrorCode::UnknownMemberId
                        || answer.error == ErrorCode::FencedInstanceId
                    {
                        state.member_id = KafkaString::default();
                    }
                }
            }
            (Asked::Heartbeat(client), Response::Heartbeat(error)) => {
                let state = &mut self.clients[client];
                if error != ErrorCode::None {
                    state.joined = None;
                    state.is_assigned = false;
                }
                if error == ErrorCode::UnknownMemberId || error == ErrorCode::FencedInstanceId {
                    state.member_id = KafkaString::default();
                }
            }
            (
                Asked::Commit { value },
                Response::OffsetCommit(answer) | Response::TxnOffsetCommit(answer),
            ) => {
                let committed = &self.bench.log.records[..self.high_watermark];
                let stored = committed.iter().any(|record| committed_value(record) == Some(value));
                let acknowledged = answer.topics[0].partitions[0].1 == ErrorCode::None;
                assert_eq!(stored, acknowledged, "{value}: what is acknowledged is committed");
                self.counts.commits += u32::from(acknowledged);
                self.counts.refused_commits += u32::from(!acknowledged);
            }
            (Asked::Fetch { expected }, Response::OffsetFetch(answer)) => {
                let offsets: Vec<Result<i64, ErrorCode>> =
                    answer.topics[0].partitions.iter().map(told).collect();
                assert_eq!(offsets, expected, "a read sees what was applied before it");
                self.counts.reads += 1;
                self.counts.unstable_reads += u32::from(offsets.iter().any(Result::is_err));
            }
            (Asked::Leave, Response::LeaveGroup(answer)) => {
                assert_eq!(answer.members.len(), 1);
            }
            (Asked::Other, Response::Heartbeat(_) | Response::DeleteGroup(_)) => {}
            (asked, response) => panic!("{asked:?} was answered by {response:?}"),
        }
    }

    /// Whoever is told an assignment is told what a committed record says.
    fn check_assignment(
        &self,
        client: usize,
        member_id: &KafkaString,
        generation_id: i32,
        assignment: &Bytes,
    ) {
        let group_id = Self::group(client);
        let known = self.bench.log.records[..self.high_watermark].iter().rev().any(|record| {
            let Some(GroupRecord::GroupMetadata(key, Some(group))) = decoded(record) else {
                return false;
            };
            key.group == *group_id
                && group.generation == generation_id
                && group
                    .members
                    .iter()
                    .any(|one| one.member_id == *member_id && one.assignment == *assignment)
        });
        assert!(known, "{group_id}: {member_id} of {generation_id} was told {assignment:?}");
    }

    /// Within one life of a group generations do not fall, and the assignments of one generation
    /// come from one request of its leader.
    fn check_log(&self) {
        let mut generations = BTreeMap::<KafkaString, (i32, BTreeSet<Bytes>)>::new();
        for record in &self.bench.log.records {
            match decoded(record) {
                Some(GroupRecord::GroupMetadata(key, None)) => {
                    generations.remove(&key.group);
                }
                Some(GroupRecord::GroupMetadata(key, Some(group))) => {
                    let state = generations.entry(key.group).or_default();
                    assert!(group.generation >= state.0, "a generation falls");
                    if group.generation > state.0 {
                        state.1.clear();
                    }
                    state.0 = group.generation;
                    let given = group.members.iter().map(|one| one.assignment.clone());
                    state.1.extend(given.filter(|one| !one.is_empty()));
                    assert!(state.1.len() <= 1, "two assignments in one generation");
                }
                Some(GroupRecord::OffsetCommit(..)) | None => {}
            }
        }
    }

    /// A stable group is what its record says.
    fn check_live_groups(&self) {
        let coordinator = &self.bench.coordinator;
        let bytes: usize = coordinator.groups.values().map(Group::counted_bytes).sum();
        assert_eq!(coordinator.members_bytes, bytes);
        for (id, group) in &coordinator.groups {
            assert!(group.awaiting_join() <= group.members().len());
            match group.phase() {
                GroupPhase::Stable => {
                    let stored = &coordinator.stored.group(id).expect("a record").value;
                    let record = group.to_record(id, |_, member| member.assignment.clone());
                    let GroupRecord::GroupMetadata(_, Some(live)) = record else { continue };
                    assert_eq!(stored.members, live.members, "{id}");
                    assert_eq!(
                        (stored.generation, &stored.leader),
                        (live.generation, &live.leader)
                    );
                }
                GroupPhase::Empty => {
                    assert!(group.members().is_empty());
                    let idle = group.pending_members().is_empty();
                    assert!(!idle || coordinator.stored.group(id).is_some(), "{id} is left over");
                }
                GroupPhase::PreparingRebalance | GroupPhase::CompletingRebalance => {}
            }
        }
    }

    fn check_replay(&self) {
        let mut twin = GroupCoordinator::new(self.bench.coordinator.config.clone());
        self.bench.log.replay(&mut twin);
        let live = self.bench.coordinator.replicated_digest();
        assert_eq!(twin.replicated_digest(), live, "a replay of the log is what lives");
    }

    /// All faults end; whoever waits must be answered, without anybody asking more.
    fn come_to_rest(&mut self) {
        self.bench.log.refuses = None;
        // A new member may wait five minutes, and any other as long as the rebalance timeout; one
        // waits for the other at most once.
        self.pass(Duration::from_mins(12));
        self.replicate(usize::MAX);
        self.deliver();
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
    }
}

fn committed_value(record: &LogRecord) -> Option<i64> {
    match decoded(record) {
        Some(GroupRecord::OffsetCommit(_, Some(value))) => Some(value.offset),
        Some(GroupRecord::OffsetCommit(_, None) | GroupRecord::GroupMetadata(..)) | None => None,
    }
}

fn run(steps: &[Step]) -> Counts {
    let mut world = World::new();
    for (index, step) in steps.iter().enumerate() {
        world.step(*step);
        if index % 32 == 0 {
            world.check_replay();
        }
    }
    world.come_to_rest();
    world.check_replay();
    world.check_log();
    world.counts
}

#[test]
fn whatever_clients_do_and_whatever_fails_groups_keep_their_promises() {
    let total = RefCell::new(Counts::default());
    let mut runner = TestRunner::new(Config { cases: 96, ..Config::default() });
    let steps = prop::collection::vec(step(), 200..800);

    runner
        .run(&steps, |steps| {
            let counts = run(&steps);
            let mut total = total.borrow_mut();
            total.generation = total.generation.max(counts.generation);
            total.assigned += counts.assigned;
            total.commits += counts.commits;
            total.refused_commits += counts.refused_commits;
            total.refused_appends += counts.refused_appends;
            total.crashes += counts.crashes;
            total.lost_records += counts.lost_records;
            total.reads += counts.reads;
            total.unstable_reads += counts.unstable_reads;
            total.ended += counts.ended;
            total.made_visible += counts.made_visible;
            total.overtaken += counts.overtaken;
            total.cleanings += counts.cleanings;
            Ok(())
        })
        .expect("every case");

    let total = total.into_inner();
    assert!(total.generation > 8, "{total:?}");
    assert!(total.assigned > 300, "{total:?}");
    assert!(total.commits > 300 && total.refused_commits > 100, "{total:?}");
    assert!(total.refused_appends > 50 && total.reads > 300, "{total:?}");
    assert!(total.crashes > 200 && total.lost_records > 50, "{total:?}");
    assert!(total.cleanings > 5, "{total:?}");
    assert!(total.unstable_reads > 100 && total.ended > 300, "{total:?}");
    assert!(total.made_visible > 100 && total.overtaken > 10, "{total:?}");
}
