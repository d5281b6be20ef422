//! Members of a classic group and a coordinator that crashes: a model of one group.
//!
//! A member joins, syncs, commits, beats, leaves or falls silent, as it is chosen. In a generation no
//! partition is handed to two members; a commit from a generation is refused once a later one has been
//! handed out; and what was accepted is what every later reader is told, crashes included.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mainspring_core::config::NodeConfig;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{ConnectionId, Uuid};
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::find_coordinator::{
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use mainspring_core::wire::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use mainspring_core::wire::api::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use mainspring_core::wire::api::leave_group::LeaveGroupRequest;
use mainspring_core::wire::api::metadata::{MetadataRequest, MetadataRequestTopic};
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

use super::messages::{decoded, framed};
use super::node::{Crash, Move, Node};
use super::search::{Broken, Model, Steps};
use crate::disk::SimDisk;
use crate::trace::TraceHash;
use crate::world::MILLISECOND;

const GROUP: &str = "g";
const TOPIC: &str = "t";
const METADATA_VERSION: i16 = 12;
const FIND_VERSION: i16 = 3;
/// The last version in which a member gets its id along with its first round.
const JOIN_VERSION: i16 = 3;
const SYNC_VERSION: i16 = 2;
const BEAT_VERSION: i16 = 2;
const COMMIT_VERSION: i16 = 5;
const FETCH_VERSION: i16 = 5;
const LEAVE_VERSION: i16 = 2;
/// How long a member may be silent, and how long a round waits, in milliseconds.
const SESSION_MS: i32 = 150;

/// What a group model is made of.
#[derive(Clone, Copy, Debug)]
pub struct GroupModelOptions {
    /// Members.
    pub members: usize,
    /// Partitions of the topic.
    pub partitions: i32,
    /// How often each member enters a round, at most.
    pub joins: u8,
    /// How often each member commits, at most.
    pub commits: u8,
    /// How often each member beats, at most.
    pub beats: u8,
    /// How many members leave, at most.
    pub leaves: u8,
    /// How often somebody asks for the committed offsets, at most.
    pub reads: u8,
    /// Deaths of the process, at most.
    pub kills: u8,
    /// Power cuts, at most.
    pub power_cuts: u8,
    /// Timers fire up to that long after the beginning, in milliseconds.
    pub horizon_ms: u64,
}

/// What a client waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    Join,
    Sync {
        generation: i32,
    },
    Beat,
    /// `newest` is the latest generation that had been handed out when it was sent.
    Commit {
        generation: i32,
        newest: i32,
        partition: i32,
        offset: i64,
    },
    Leave,
    /// The offsets of each partition may not be less than what was accepted when it was sent.
    Read {
        floor: [i64; 2],
    },
}

/// Where a member stands.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    Out,
    Entering,
    Stable { generation: i32, owns: Vec<i32> },
    Gone,
}

#[derive(Clone)]
struct Client {
    connection: Option<ConnectionId>,
    waits: VecDeque<Ask>,
    id: KafkaString,
    stage: Stage,
    joins: u8,
    commits: u8,
    beats: u8,
}

/// A state of the model.
#[derive(Clone)]
pub struct GroupState {
    node: Node,
    /// The members, and behind them one who only reads offsets.
    clients: Vec<Client>,
    /// Who owned a partition in a generation.
    owners: BTreeMap<(i32, i32), usize>,
    /// The latest generation that was handed out.
    newest: i32,
    /// What was accepted of each partition last, and what was asked for last.
    accepted: [i64; 2],
    asked: [i64; 2],
    leaves: u8,
    reads: u8,
    crashes: [u8; 2],
}

/// The model.
pub struct GroupModel {
    options: GroupModelOptions,
    /// What a start on an image tells of the committed offsets.
    told: BTreeMap<u64, [i64; 2]>,
    /// The same for what crashes may leave of a disk.
    after: BTreeMap<u64, Vec<[i64; 2]>>,
    crashes: u64,
    generations: i32,
    refused: u64,
    accepted: u64,
}

/// What a member does of its own accord.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Commit(i32),
    Beat,
    Leave,
    Read,
}

impl GroupModel {
    /// Makes the model.
    pub fn new(options: GroupModelOptions) -> Self {
        assert!((1..=2).contains(&options.partitions), "one or two partitions are followed");
        Self {
            options,
            told: BTreeMap::new(),
            after: BTreeMap::new(),
            crashes: 0,
            generations: 0,
            refused: 0,
            accepted: 0,
        }
    }

    fn send(state: &mut GroupState, place: usize, ask: Ask, frame: Bytes) {
        if let Some(connection) = state.clients[place].connection {
            state.clients[place].waits.push_back(ask);
            state.node.send(connection, frame);
        }
    }

    /// Lets whoever has no connection make one, and whoever is out and may enter do so.
    fn follow(&self, state: &mut GroupState) -> Result<(), Broken> {
        for connection in state.node.take_closed() {
            for client in &mut state.clients {
                if client.connection == Some(connection) {
                    client.lose_connection();
                }
            }
        }
        if !state.node.is_ready() {
            return Ok(());
        }
        for place in 0..state.clients.len() {
            if state.clients[place].connection.is_none() {
                state.clients[place].connection = Some(state.node.connect(0)?);
            }
            let client = &mut state.clients[place];
            if place < self.options.members && client.stage == Stage::Out && client.joins > 0 {
                client.joins -= 1;
                client.stage = Stage::Entering;
                let request = JoinGroupRequest {
                    group_id: GROUP.into(),
                    session_timeout_ms: SESSION_MS,
                    rebalance_timeout_ms: SESSION_MS,
                    member_id: client.id.clone(),
                    protocol_type: "explorer".into(),
                    protocols: vec![JoinGroupRequestProtocol {
                        name: "range".into(),
                        metadata: Bytes::from(vec![place as u8]),
                    }],
                    ..JoinGroupRequest::default()
                };
                Self::send(state, place, Ask::Join, framed(&request, JOIN_VERSION, 0));
            }
        }
        Ok(())
    }

    fn answer(&mut self, state: &mut GroupState, connection: ConnectionId) -> Result<(), Broken> {
        let place = state.clients.iter().position(|client| client.connection == Some(connection));
        let (Some(frame), Some(place)) = (state.node.take_answer(connection), place) else {
            return Ok(());
        };
        let Some(ask) = state.clients[place].waits.pop_front() else {
            return Err(Broken::new("I13", "an answer to no request"));
        };
        match ask {
            Ask::Join => self.joined(state, place, frame),
            Ask::Sync { generation } => {
                let answer: SyncGroupResponse =
                    decoded::<SyncGroupRequest, _>(frame, SYNC_VERSION)?;
                self.synced(state, place, generation, &answer)
            }
            Ask::Beat => {
                let answer: HeartbeatResponse =
                    decoded::<HeartbeatRequest, _>(frame, BEAT_VERSION)?;
                refused(&mut state.clients[place], answer.error_code)
            }
            Ask::Commit { generation, newest, partition, offset } => {
                let answer: OffsetCommitResponse =
                    decoded::<OffsetCommitRequest, _>(frame, COMMIT_VERSION)?;
                let code = answer.topics[0].partitions[0].error_code;
                if code != 0 {
                    self.refused += 1;
                    return refused(&mut state.clients[place], code);
                }
                self.accepted += 1;
                if generation < newest {
                    let message = format!(
                        "member {place} committed in generation {generation}, though {newest} had \
                         been handed out"
                    );
                    return Err(Broken::new("I26", message));
                }
                let known = &mut state.accepted[partition as usize];
                *known = offset.max(*known);
                Ok(())
            }
            Ask::Leave => {
                state.clients[place].stage = Stage::Gone;
                Ok(())
            }
            Ask::Read { floor } => {
                let Some(told) = Self::offsets(frame)? else { return Ok(()) };
                judge(told, floor, state.asked)
            }
        }
    }

    fn joined(&self, state: &mut GroupState, place: usize, frame: Bytes) -> Result<(), Broken> {
        let answer: JoinGroupResponse = decoded::<JoinGroupRequest, _>(frame, JOIN_VERSION)?;
        let client = &mut state.clients[place];
        if answer.error_code != 0 {
            return refused(client, answer.error_code);
        }
        client.id = answer.member_id.detached();
        let generation = answer.generation_id;
        let mut ids: Vec<KafkaString> =
            answer.members.iter().map(|member| member.member_id.detached()).collect();
        ids.sort();
        let assignments = ids
            .iter()
            .enumerate()
            .map(|(nth, id)| SyncGroupRequestAssignment {
                member_id: id.clone(),
                assignment: (0..self.options.partitions)
                    .filter(|partition| *partition as usize % ids.len() == nth)
                    .map(|partition| partition as u8)
                    .collect(),
            })
            .collect();
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: client.id.clone(),
            assignments,
            ..SyncGroupRequest::default()
        };
        Self::send(state, place, Ask::Sync { generation }, framed(&request, SYNC_VERSION, 0));
        Ok(())
    }

    fn synced(
        &mut self,
        state: &mut GroupState,
        place: usize,
        generation: i32,
        answer: &SyncGroupResponse,
    ) -> Result<(), Broken> {
        let client = &mut state.clients[place];
        if answer.error_code != 0 {
            return refused(client, answer.error_code);
        }
        let owns: Vec<i32> =
            answer.assignment.iter().map(|partition| i32::from(*partition)).collect();
        for partition in &owns {
            let owner = *state.owners.entry((generation, *partition)).or_insert(place);
            if owner != place {
                let message = format!(
                    "members {owner} and {place} both own {partition} in generation {generation}"
                );
                return Err(Broken::new("I25", message));
            }
        }
        client.stage = Stage::Stable { generation, owns };
        state.newest = state.newest.max(generation);
        self.generations = self.generations.max(generation);
        Ok(())
    }

    /// Reads the committed offsets, -1 where there is none; `None` while the coordinator loads.
    fn offsets(frame: Bytes) -> Result<Option<[i64; 2]>, Broken> {
        let answer: OffsetFetchResponse = decoded::<OffsetFetchRequest, _>(frame, FETCH_VERSION)?;
        let mut told = [-1; 2];
        let loading = [ErrorCode::CoordinatorLoadInProgress, ErrorCode::NotCoordinator];
        let mut codes = vec![answer.error_code];
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            codes.push(partition.error_code);
            told[partition.partition_index as usize] = partition.committed_offset;
        }
        if codes.iter().any(|code| loading.iter().any(|loading| loading.code() == *code)) {
            return Ok(None);
        }
        if codes.iter().any(|code| *code != 0) {
            return Err(Broken::new("L3", format!("offsets were refused with {codes:?}")));
        }
        Ok(Some(told))
    }

    fn read_request(&self) -> Bytes {
        let request = OffsetFetchRequest {
            group_id: GROUP.into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: TOPIC.into(),
                partition_indexes: (0..self.options.partitions).collect(),
            }]),
            ..OffsetFetchRequest::default()
        };
        framed(&request, FETCH_VERSION, 0)
    }

    /// Returns what a start on this image tells of the committed offsets.
    fn told_by(&mut self, config: &Arc<NodeConfig>, image: SimDisk) -> Result<[i64; 2], Broken> {
        let key = image.state_hash();
        if let Some(told) = self.told.get(&key) {
            return Ok(*told);
        }
        let mut node = Node::new(Arc::clone(config), 4096);
        node.start_with(image)?;
        node.settle(true)?;
        node.settle(false)?;
        let connection = node.connect(0)?;
        node.send(connection, self.read_request());
        node.settle(false)?;
        let frame = node.take_answer(connection);
        let frame = frame.ok_or_else(|| Broken::new("L3", "no answer about offsets"))?;
        let told = Self::offsets(frame)?.unwrap_or([-1; 2]);
        self.told.insert(key, told);
        Ok(told)
    }

    fn deeds(&self, state: &GroupState, place: usize) -> Vec<Deed> {
        let client = &state.clients[place];
        let mut deeds = Vec::new();
        if client.connection.is_none() {
            return deeds;
        }
        if place == self.options.members {
            if state.reads < self.options.reads {
                deeds.push(Deed::Read);
            }
            return deeds;
        }
        let Stage::Stable { owns, .. } = &client.stage else { return deeds };
        if client.commits > 0 {
            deeds.extend(owns.iter().map(|partition| Deed::Commit(*partition)));
        }
        if client.beats > 0 {
            deeds.push(Deed::Beat);
        }
        if state.leaves < self.options.leaves && !client.waits.contains(&Ask::Leave) {
            deeds.push(Deed::Leave);
        }
        deeds
    }

    fn done(&self, state: &GroupState, place: usize, deed: Deed) -> GroupState {
        let mut next = state.clone();
        let (newest, client) = (next.newest, &mut next.clients[place]);
        let generation =
            if let Stage::Stable { generation, .. } = client.stage { generation } else { -1 };
        let member_id = client.id.clone();
        let (ask, frame) = match deed {
            Deed::Commit(partition) => {
                client.commits -= 1;
                let offset = next.asked[partition as usize] + 1;
                next.asked[partition as usize] = offset;
                let request = OffsetCommitRequest {
                    group_id: GROUP.into(),
                    generation_id_or_member_epoch: generation,
                    member_id,
                    topics: vec![OffsetCommitRequestTopic {
                        name: TOPIC.into(),
                        partitions: vec![OffsetCommitRequestPartition {
                            partition_index: partition,
                            committed_offset: offset,
                            committed_metadata: Some("".into()),
                            ..OffsetCommitRequestPartition::default()
                        }],
                        ..OffsetCommitRequestTopic::default()
                    }],
                    ..OffsetCommitRequest::default()
                };
                let ask = Ask::Commit { generation, newest, partition, offset };
                (ask, framed(&request, COMMIT_VERSION, 0))
            }
            Deed::Beat => {
                client.beats -= 1;
                let request = HeartbeatRequest {
                    group_id: GROUP.into(),
                    generation_id: generation,
                    member_id,
                    ..HeartbeatRequest::default()
                };
                (Ask::Beat, framed(&request, BEAT_VERSION, 0))
            }
            Deed::Leave => {
                next.leaves += 1;
                let request = LeaveGroupRequest {
                    group_id: GROUP.into(),
                    member_id,
                    ..LeaveGroupRequest::default()
                };
                (Ask::Leave, framed(&request, LEAVE_VERSION, 0))
            }
            Deed::Read => {
                next.reads += 1;
                (Ask::Read { floor: next.accepted }, self.read_request())
            }
        };
        Self::send(&mut next, place, ask, frame);
        next
    }

    fn started(&self, next: &mut GroupState, disk: SimDisk) -> Result<(), Broken> {
        next.node.start_with(disk)?;
        if next.crashes == [self.options.kills, self.options.power_cuts] {
            // Nothing can strike any more while it starts.
            next.node.settle(true)?;
        }
        self.follow(next)
    }

    fn made(&mut self, state: &GroupState, choice: Move) -> Result<GroupState, Broken> {
        let mut next = state.clone();
        next.node.make(choice)?;
        if let Move::Answer(connection) = choice {
            self.answer(&mut next, connection)?;
        }
        self.follow(&mut next)?;
        Ok(next)
    }
}

impl Client {
    /// The connection is gone, with all that was under way.
    fn lose_connection(&mut self) {
        self.connection = None;
        self.waits.clear();
        if self.stage == Stage::Entering {
            self.stage = Stage::Out;
        }
    }
}

/// A member is told that something is wrong: it enters the next round if it may.
fn refused(client: &mut Client, code: i16) -> Result<(), Broken> {
    if code == 0 {
        return Ok(());
    }
    let code = ErrorCode::from_code(code);
    match code {
        Some(ErrorCode::UnknownMemberId) => client.id = "".into(),
        Some(
            ErrorCode::RebalanceInProgress
            | ErrorCode::IllegalGeneration
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator,
        ) => {}
        other => return Err(Broken::new("L3", format!("a member got {other:?}"))),
    }
    if client.stage != Stage::Gone {
        client.stage = Stage::Out;
    }
    Ok(())
}

/// Holds what was told against what was accepted before, and what was asked for at all.
fn judge(told: [i64; 2], accepted: [i64; 2], asked: [i64; 2]) -> Result<(), Broken> {
    for (partition, told) in told.into_iter().enumerate() {
        let (accepted, asked) = (accepted[partition], asked[partition]);
        if told < accepted || told > asked {
            let message = format!(
                "of partition {partition} {accepted} was accepted and {asked} asked for last, and \
                 {told} is told"
            );
            return Err(Broken::new("I26", message));
        }
    }
    Ok(())
}

impl Model for GroupModel {
    type State = GroupState;
    type Step = String;

    fn begin(&mut self) -> Result<GroupState, Broken> {
        let mut node = Node::new(Arc::new(config(self.options.partitions)), 4096);
        node.start()?;
        node.settle(true)?;
        let connection = node.connect(0)?;
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                topic_id: Uuid::ZERO,
                name: Some(TOPIC.into()),
            }]),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        node.send(connection, framed(&request, METADATA_VERSION, 0));
        node.settle(false)?;
        node.take_answer(connection);
        let request =
            FindCoordinatorRequest { key: GROUP.into(), ..FindCoordinatorRequest::default() };
        let mut code = -1;
        for _ in 0..10 {
            node.send(connection, framed(&request, FIND_VERSION, 0));
            node.settle(false)?;
            let Some(frame) = node.take_answer(connection) else { break };
            let answer: FindCoordinatorResponse =
                decoded::<FindCoordinatorRequest, _>(frame, FIND_VERSION)?;
            code = answer.error_code;
            if code == 0 {
                break;
            }
        }
        if code != 0 {
            return Err(Broken::new("L3", format!("there is no coordinator: {code}")));
        }
        node.disconnect(connection)?;
        node.begin_anew()?;
        let client = Client {
            connection: None,
            waits: VecDeque::new(),
            id: "".into(),
            stage: Stage::Out,
            joins: self.options.joins,
            commits: self.options.commits,
            beats: self.options.beats,
        };
        let mut state = GroupState {
            node,
            clients: vec![client; self.options.members + 1],
            owners: BTreeMap::new(),
            newest: 0,
            accepted: [-1; 2],
            asked: [-1; 2],
            leaves: 0,
            reads: 0,
            crashes: [0; 2],
        };
        self.follow(&mut state)?;
        Ok(state)
    }

    fn steps(&mut self, state: &GroupState) -> Steps<String, GroupState> {
        let mut steps = Vec::new();
        let mut moves = state.node.moves(self.options.horizon_ms * MILLISECOND);
        if !state.node.is_ready() {
            moves.retain(|choice| !matches!(choice, Move::Timer));
            moves.truncate(1);
        }
        for choice in moves {
            let step = || state.node.describe(choice);
            let next = self.made(state, choice).map_err(|broken| (step(), broken))?;
            steps.push((step(), next));
        }
        for place in 0..state.clients.len() {
            for deed in self.deeds(state, place) {
                steps.push((format!("client {place}: {deed:?}"), self.done(state, place, deed)));
            }
        }
        let most = [self.options.kills, self.options.power_cuts];
        for (kind, crash) in [Crash::Kill, Crash::PowerCut].into_iter().enumerate() {
            if state.crashes[kind] == most[kind] {
                continue;
            }
            for (nth, disk) in state.node.after(crash, 8).into_iter().enumerate() {
                self.crashes += 1;
                let mut next = state.clone();
                next.crashes[kind] += 1;
                for client in &mut next.clients {
                    client.lose_connection();
                }
                let step = || format!("{crash:?}, image {nth}");
                self.started(&mut next, disk).map_err(|broken| (step(), broken))?;
                steps.push((step(), next));
            }
        }
        Ok(steps)
    }

    fn key(&self, state: &GroupState) -> u64 {
        let mut hash = TraceHash::default();
        state.node.hash(&mut hash);
        for client in &state.clients {
            let Client { connection, waits, id, stage, joins, commits, beats } = client;
            hash.number(connection.map_or(0, |connection| connection.0));
            hash.bytes(id.as_bytes());
            hash.bytes(format!("{waits:?}{stage:?}{joins} {commits} {beats}").as_bytes());
        }
        for ((generation, partition), owner) in &state.owners {
            hash.number(*generation as u64);
            hash.number(*partition as u64);
            hash.number(*owner as u64);
        }
        hash.number(state.newest as u64);
        for offset in state.accepted.iter().chain(&state.asked) {
            hash.number(*offset as u64);
        }
        for count in [state.leaves, state.reads, state.crashes[0], state.crashes[1]] {
            hash.number(u64::from(count));
        }
        hash.finish()
    }

    fn check(&mut self, state: &GroupState) -> Result<(), Broken> {
        let key = state.node.disk().state_hash();
        if !self.after.contains_key(&key) {
            let config = Arc::clone(state.node.config());
            let mut told = Vec::new();
            for crash in [Crash::Kill, Crash::PowerCut] {
                for image in state.node.after(crash, 8) {
                    told.push(self.told_by(&config, image)?);
                }
            }
            told.sort_unstable();
            told.dedup();
            self.after.insert(key, told);
        }
        for told in &self.after[&key] {
            judge(*told, state.accepted, state.asked)?;
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("crashes", self.crashes),
            ("disks", self.after.len() as u64),
            ("images recovered", self.told.len() as u64),
            ("generations", self.generations as u64),
            ("commits accepted", self.accepted),
            ("commits refused", self.refused),
        ]
    }
}

fn config(partitions: i32) -> NodeConfig {
    let mut config = NodeConfig::default();
    config.log.journal_first_file_bytes = 128 << 10;
    config.log.journal_file_bytes = 128 << 10;
    config.log.journal_max_bytes = 1 << 20;
    config.log.journal_block_bytes = 16 << 10;
    for (key, value) in [
        ("num.partitions", partitions.to_string().as_str()),
        ("offsets.topic.num.partitions", "1"),
        ("message.max.bytes", "12000"),
        ("group.min.session.timeout.ms", "100"),
        ("group.initial.rebalance.delay.ms", "0"),
    ] {
        config.settings.set(key, value).expect("a setting that is known");
    }
    config
}
