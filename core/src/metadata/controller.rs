//! The leader of the metadata log: decides commands, remembers what is not committed, and says when
//! an answer may leave.
//!
//! A quorum of one: the node votes for itself in a new epoch at each start. What never happens
//! here: an answer before the records that it rests on are committed and every shard has applied
//! them; errors and reads wait too, because what they saw may not be committed.
//!
//! Sources: KIP-595, KIP-631; `docs/architecture.md`, "Decide and apply".

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::config::NodeConfig;
use crate::connection::RequestId;
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, NodeId, Offset, ShardId, TopicPartition, Uuid};
use crate::io::Effects;
use crate::log::{AppendError, LogStore};
use crate::metadata::broker_sessions::BrokerSessions;
use crate::metadata::decide::{Deciding, Decision};
use crate::metadata::decide_brokers::{BrokerState, fence, heartbeat, register_broker};
use crate::metadata::decide_partitions::alter_partition;
use crate::metadata::elections::{balance_leaders, elect_leaders};
use crate::metadata::image::{InternalTopic, MetadataImage};
use crate::metadata::reassign::{alter_reassignments, list_reassignments};
use crate::record::builder::BatchBuilder;
use crate::record::compress::Codec;
use crate::time::{Instant, Now};
use crate::wire::api::alter_configs::AlterConfigsRequest;
use crate::wire::api::alter_partition::AlterPartitionRequest;
use crate::wire::api::alter_partition_reassignments::AlterPartitionReassignmentsRequest;
use crate::wire::api::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use crate::wire::api::broker_registration::{
    BrokerRegistrationRequest, BrokerRegistrationResponse,
};
use crate::wire::api::create_partitions::CreatePartitionsRequest;
use crate::wire::api::create_topics::CreateTopicsRequest;
use crate::wire::api::delete_topics::DeleteTopicsRequest;
use crate::wire::api::describe_quorum::DescribeQuorumRequest;
use crate::wire::api::elect_leaders::ElectLeadersRequest;
use crate::wire::api::incremental_alter_configs::IncrementalAlterConfigsRequest;
use crate::wire::api::list_partition_reassignments::ListPartitionReassignmentsRequest;
use crate::wire::{KafkaString, MetadataRecord, Response};

/// Most partitions that get another leader at once because they are balanced.
const BALANCED_AT_ONCE: usize = 100;
/// The pause before the next ones.
const BALANCE_PAUSE: Duration = Duration::from_secs(1);

/// What the controller is asked to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// CreateTopics.
    CreateTopics(CreateTopicsRequest),
    /// Topics that a Metadata request named and may create.
    AutoCreate(Vec<KafkaString>),
    /// A topic of coordinators, one of which somebody is looking for.
    CreateInternal(InternalTopic),
    /// `DeleteTopics`, in this version.
    DeleteTopics(DeleteTopicsRequest, i16),
    /// `CreatePartitions`.
    CreatePartitions(CreatePartitionsRequest),
    /// `AlterConfigs`.
    AlterConfigs(AlterConfigsRequest),
    /// `IncrementalAlterConfigs`.
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest),
    /// The next block of producer ids for a shard of this broker.
    AllocateProducerIds(NodeId),
    /// `BrokerRegistration` at a node of this cluster.
    RegisterBroker(Uuid, BrokerRegistrationRequest),
    /// `BrokerHeartbeat`.
    Heartbeat(BrokerHeartbeatRequest),
    /// `AlterPartition`, in this version.
    AlterPartition(AlterPartitionRequest, i16),
    /// `ElectLeaders`.
    ElectLeaders(ElectLeadersRequest),
    /// `AlterPartitionReassignments`.
    AlterReassignments(AlterPartitionReassignmentsRequest),
    /// `ListPartitionReassignments`.
    ListReassignments(ListPartitionReassignmentsRequest),
    /// `DescribeQuorum`. It is answered by the shard, which has the quorum.
    DescribeQuorum(DescribeQuorumRequest),
}

/// How a command ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CommandAnswer {
    /// With this answer to the client.
    Response(Response),
    /// The topics that could be created are there.
    AutoCreated,
    /// With a block of producer ids that begins here.
    ProducerIds(i64),
    /// Not at all: the metadata log takes nothing, or it is refused and its answer has no room for words.
    Failed(ErrorCode, Arc<str>),
}

/// Who waits for a command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Asker {
    /// A client's request.
    Request(RequestId),
    /// A request of another node, which takes this one for the controller: it is sent on to nobody.
    Peer(RequestId),
    /// The shard itself, for producer ids.
    ProducerIds,
    /// The node, for the registration of its start.
    Registration,
    /// The node, to say that it lives.
    Heartbeat,
    /// A leader, for the in-sync set of this partition, which it asked for at this partition epoch.
    InSync(TopicPartition, i32),
}

/// A shard, and who waits there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// The shard.
    pub shard: ShardId,
    /// Who waits there.
    pub asker: Asker,
}

/// A batch of the metadata log that became committed.
#[derive(Clone, Debug)]
pub struct Delta {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The offset after the last record.
    pub end_offset: Offset,
    /// When it was appended, in Unix milliseconds.
    pub timestamp: i64,
    /// The epoch that it begins, for a control batch; it has no other records then.
    pub epoch: Option<LeaderEpoch>,
    /// The records, in order.
    pub records: Arc<[MetadataRecord]>,
}

impl Delta {
    /// Takes the batch into an image.
    ///
    /// # Errors
    /// A record that contradicts the image, in words.
    pub fn apply_to(&self, image: &mut MetadataImage) -> Result<(), String> {
        if let Some(epoch) = self.epoch {
            image.apply_leader_change(Offset(self.end_offset.0 - 1), epoch);
        }
        for (record, offset) in self.records.iter().zip(self.base_offset.0..) {
            image.apply(Offset(offset), record).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// An answer that waits for what it rests on.
#[derive(Clone, Debug)]
struct Waiting {
    needs: Offset,
    /// Whether every broker that lives must have applied that, so that what was done can be used anywhere.
    everywhere: bool,
    origin: Origin,
    answer: CommandAnswer,
}

/// The leader of the metadata log.
#[derive(Clone, Debug)]
pub struct Controller {
    node: Arc<NodeConfig>,
    directory_id: Uuid,
    voters: usize,
    sessions: BrokerSessions,
    /// When leaders are looked at again; never on a node alone.
    balance_at: Option<Instant>,
    epoch: LeaderEpoch,
    /// With everything appended, committed or not.
    image: MetadataImage,
    committed_end: Offset,
    applied_ends: BTreeMap<ShardId, Offset>,
    waiting: VecDeque<Waiting>,
}

impl Controller {
    /// Takes over the replayed image as leader of `epoch`.
    pub fn new(
        node: Arc<NodeConfig>,
        directory_id: Uuid,
        epoch: LeaderEpoch,
        image: MetadataImage,
    ) -> Self {
        let applied_ends = (0..node.shards).map(|shard| (ShardId(shard), Offset::ZERO)).collect();
        let committed_end = image.end_offset();
        Self {
            node,
            directory_id,
            voters: 1,
            sessions: BrokerSessions::default(),
            balance_at: None,
            epoch,
            image,
            committed_end,
            applied_ends,
            waiting: VecDeque::new(),
        }
    }

    /// Returns the epoch in which it leads.
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Returns the image with everything appended so far.
    pub const fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Takes in how many voters the quorum has, which new topics follow with their replicas.
    pub const fn set_voters(&mut self, voters: usize) {
        self.voters = voters;
    }

    /// Returns when each broker was heard.
    pub const fn sessions(&self) -> &BrokerSessions {
        &self.sessions
    }

    /// Returns when each broker was heard, to be told of connections.
    pub const fn sessions_mut(&mut self) -> &mut BrokerSessions {
        &mut self.sessions
    }

    /// Gives every unfenced broker a full session, as a new leader does. Without it nobody has one.
    pub fn begin_sessions(&mut self, now: Now) {
        self.sessions.begin(now.mono, &self.image);
        self.balance_at = Some(now.mono + self.node.limits.leader_balance);
    }

    /// Fences every broker whose session has run out, and returns who that was.
    ///
    /// # Errors
    /// [`AppendError`]; they are still due then.
    pub fn fence_silent(
        &mut self,
        now: Now,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Result<Vec<NodeId>, AppendError> {
        let due = self.sessions.due(now.mono);
        self.append(now, &fence(&self.image, &due), log, fx)?;
        for &node in &due {
            self.sessions.fenced(node, self.image.end_offset());
        }
        Ok(due)
    }

    /// Returns when a session runs out next, or leaders are to be looked at.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sessions.next_deadline().into_iter().chain(self.balance_at).min()
    }

    /// Gives partitions back to their preferred leaders, where that is due, and returns how many it were. The rest
    /// of many comes a little later, so that no client has to find all leaders anew at once.
    ///
    /// # Errors
    /// [`AppendError`]; it is due again after the pause.
    pub fn balance_where_due(
        &mut self,
        now: Now,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Result<usize, AppendError> {
        if self.balance_at.is_none_or(|at| at > now.mono) {
            return Ok(0);
        }
        self.balance_at = Some(now.mono + self.node.limits.leader_balance);
        let moved = self.balance_leaders(now, BALANCED_AT_ONCE, log, fx)?;
        if moved == BALANCED_AT_ONCE {
            self.balance_at = Some(now.mono + BALANCE_PAUSE);
        }
        Ok(moved)
    }

    /// Gives at most `max` partitions back to their preferred leaders, and returns how many it were.
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed then.
    pub fn balance_leaders(
        &mut self,
        now: Now,
        max: usize,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Result<usize, AppendError> {
        let Decision { records, response } = balance_leaders(&self.image, max);
        self.append(now, &records, log, fx)?;
        Ok(response)
    }

    /// Returns whether nobody waits for it.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Decides a command; its answer comes out of [`take_answers`](Self::take_answers).
    pub fn handle(
        &mut self,
        now: Now,
        origin: Origin,
        command: &Command,
        next_id: &mut dyn FnMut() -> Uuid,
        log: &mut LogStore,
        fx: &mut Effects,
    ) {
        let (Decision { records, response }, state) = self.decide(command, next_id, log);
        let answer = match self.append(now, &records, log, fx) {
            Ok(()) => {
                self.note_session(now, command, state);
                response
            }
            Err(error) => {
                let why = format!("the metadata log takes nothing: {error}");
                failed(response, ErrorCode::KafkaStorageError, &why)
            }
        };
        let everywhere = is_used_anywhere(command);
        self.waiting.push_back(Waiting {
            needs: self.image.end_offset(),
            everywhere,
            origin,
            answer,
        });
    }

    /// Takes in what a decided command says about the life of its broker.
    fn note_session(&mut self, now: Now, command: &Command, state: Option<BrokerState>) {
        if let (Command::Heartbeat(request), Some(state)) = (command, state) {
            self.sessions.heard(now.mono, request, state, self.image.end_offset());
        }
        if let Command::RegisterBroker(_, request) = command {
            let node = NodeId(request.broker_id);
            // One that asks again after it was unfenced keeps its session.
            if self.image.broker(node).is_some_and(|broker| broker.fenced) {
                self.sessions.registered(node);
            }
        }
    }

    /// Decides a command, and for a heartbeat what its broker is from then on.
    fn decide(
        &self,
        command: &Command,
        next_id: &mut dyn FnMut() -> Uuid,
        log: &LogStore,
    ) -> (Decision<CommandAnswer>, Option<BrokerState>) {
        let mut deciding = Deciding {
            log,
            image: &self.image,
            node: &self.node,
            directory_id: self.directory_id,
            voters: self.voters,
            next_id,
        };
        let image = &self.image;
        let decision = match command {
            Command::Heartbeat(request) => match heartbeat(image, &self.sessions, request) {
                Ok((decision, state)) => return (answered(decision), Some(state)),
                Err(code) => {
                    let error_code = code.code();
                    let response = BrokerHeartbeatResponse {
                        error_code,
                        ..BrokerHeartbeatResponse::default()
                    };
                    answered(Decision { records: Vec::new(), response })
                }
            },
            Command::RegisterBroker(cluster_id, request) => {
                match register_broker(image, *cluster_id, request) {
                    Ok(Decision { records, response: broker_epoch }) => {
                        let response = BrokerRegistrationResponse {
                            broker_epoch,
                            ..BrokerRegistrationResponse::default()
                        };
                        answered(Decision { records, response })
                    }
                    Err((code, why)) => {
                        let response = CommandAnswer::Failed(code, why.into());
                        Decision { records: Vec::new(), response }
                    }
                }
            }
            Command::AlterPartition(request, version) => {
                answered(alter_partition(image, request, *version))
            }
            Command::ElectLeaders(request) => answered(elect_leaders(image, request)),
            Command::AlterReassignments(request) => answered(alter_reassignments(image, request)),
            Command::ListReassignments(request) => {
                let response = list_reassignments(image, request);
                answered(Decision { records: Vec::new(), response })
            }
            Command::DescribeQuorum(_) => {
                let why = "the quorum is described by its driver".into();
                let response = CommandAnswer::Failed(ErrorCode::UnsupportedVersion, why);
                Decision { records: Vec::new(), response }
            }
            Command::CreateTopics(request) => answered(deciding.create_topics(request)),
            Command::AutoCreate(names) => {
                let Decision { records, response: () } = deciding.auto_create(names);
                Decision { records, response: CommandAnswer::AutoCreated }
            }
            Command::CreateInternal(topic) => {
                let Decision { records, response: () } = deciding.create_internal(*topic);
                Decision { records, response: CommandAnswer::AutoCreated }
            }
            Command::DeleteTopics(request, version) => {
                answered(deciding.delete_topics(request, *version))
            }
            Command::CreatePartitions(request) => answered(deciding.create_partitions(request)),
            Command::AlterConfigs(request) => answered(deciding.alter_configs(request)),
            Command::IncrementalAlterConfigs(request) => {
                answered(deciding.incremental_alter_configs(request))
            }
            Command::AllocateProducerIds(broker) => {
                let Decision { records, response } = deciding.allocate_producer_ids(*broker);
                Decision { records, response: CommandAnswer::ProducerIds(response) }
            }
        };
        (decision, None)
    }

    /// Appends records as one batch and takes them into the image at once, so that the next decision
    /// builds on them.
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed then.
    pub fn append(
        &mut self,
        now: Now,
        records: &[MetadataRecord],
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Result<(), AppendError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut builder = BatchBuilder::new(Codec::None);
        for record in records {
            builder.push(now.wall.0, None, Some(&record.encode()), &[]);
        }
        let base_offset =
            log.append(now, TopicPartition::CLUSTER_METADATA, self.epoch, builder.build(), fx)?;
        assert_eq!(base_offset, self.image.end_offset(), "only the controller appends to its log");
        for (record, offset) in records.iter().zip(base_offset.0..) {
            let applied = self.image.apply(Offset(offset), record);
            assert!(applied.is_ok(), "decided against this image: {applied:?}");
        }
        Ok(())
    }

    /// Takes in that a control batch stands at `offset`: one that began this leader's epoch, or says who votes.
    pub fn control_appended(&mut self, offset: Offset) {
        self.image.apply_leader_change(offset, self.epoch);
    }

    /// Takes in how far the log is committed.
    pub fn commit(&mut self, end: Offset) {
        self.committed_end = self.committed_end.max(end);
    }

    /// Takes in how far a shard has applied what is committed.
    pub fn applied(&mut self, shard: ShardId, end: Offset) {
        let applied = self.applied_ends.entry(shard).or_default();
        *applied = (*applied).max(end);
    }

    /// Takes every answer that may leave.
    pub fn take_answers(&mut self) -> Vec<(Origin, CommandAnswer)> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let here = self.applied_ends.values().min().copied().unwrap_or(Offset::ZERO);
        let elsewhere = self.sessions.lowest_applied(&self.image, Some(self.node.node_id));
        let committed = self.committed_end;
        let may_leave = |waiting: &Waiting| {
            let applied = waiting.needs <= here && waiting.needs.0 - 1 <= elsewhere;
            waiting.needs <= committed && (applied || !waiting.everywhere)
        };
        // One that waits for other brokers holds back none that they wait for.
        let mut out = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if may_leave(&waiting) {
                out.push((waiting.origin, waiting.answer));
            } else {
                self.waiting.push_back(waiting);
            }
        }
        out
    }

    /// Takes everybody who waits, because nothing will be committed any more.
    pub fn abandon(&mut self) -> Vec<Origin> {
        self.waiting.drain(..).map(|waiting| waiting.origin).collect()
    }

    /// Takes the controller's state into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        self.image.digest(digest);
        self.sessions.digest(digest);
        digest.shown(&self.balance_at);
        digest
            .signed(i64::from(self.epoch.0))
            .signed(self.committed_end.0)
            .number(self.waiting.len() as u64);
        for (shard, end) in &self.applied_ends {
            digest.number(u64::from(shard.0)).signed(end.0);
        }
    }
}

/// Returns whether what a command has done is used at any broker as soon as it is answered. Where brokers
/// themselves ask, they need it committed alone: they apply it when it comes.
const fn is_used_anywhere(command: &Command) -> bool {
    match command {
        Command::CreateTopics(_)
        | Command::AutoCreate(_)
        | Command::CreateInternal(_)
        | Command::DeleteTopics(..)
        | Command::CreatePartitions(_)
        | Command::AlterConfigs(_)
        | Command::IncrementalAlterConfigs(_)
        | Command::ElectLeaders(_)
        | Command::AlterReassignments(_)
        | Command::ListReassignments(_)
        | Command::DescribeQuorum(_) => true,
        Command::AllocateProducerIds(_)
        | Command::RegisterBroker(..)
        | Command::Heartbeat(_)
        | Command::AlterPartition(..) => false,
    }
}

/// Turns an answer that says that something was done into one that says why it was not.
fn failed(answer: CommandAnswer, code: ErrorCode, why: &str) -> CommandAnswer {
    let CommandAnswer::Response(mut response) = answer else {
        return CommandAnswer::Failed(code, why.into());
    };
    let message = || Some(KafkaString::from(why));
    let fail = |error_code: &mut i16, error_message: &mut Option<KafkaString>| {
        if *error_code == ErrorCode::None.code() {
            *error_code = code.code();
            *error_message = message();
        }
    };
    match &mut response {
        Response::CreateTopics(response) => {
            for topic in &mut response.topics {
                fail(&mut topic.error_code, &mut topic.error_message);
            }
        }
        Response::DeleteTopics(response) => {
            for topic in &mut response.responses {
                fail(&mut topic.error_code, &mut topic.error_message);
            }
        }
        Response::CreatePartitions(response) => {
            for topic in &mut response.results {
                fail(&mut topic.error_code, &mut topic.error_message);
            }
        }
        Response::AlterConfigs(response) => {
            for resource in &mut response.responses {
                fail(&mut resource.error_code, &mut resource.error_message);
            }
        }
        Response::IncrementalAlterConfigs(response) => {
            for resource in &mut response.responses {
                fail(&mut resource.error_code, &mut resource.error_message);
            }
        }
        Response::BrokerRegistration(response) => response.error_code = code.code(),
        Response::BrokerHeartbeat(response) => response.error_code = code.code(),
        Response::AlterPartition(response) => response.error_code = code.code(),
        Response::ElectLeaders(response) => response.error_code = code.code(),
        Response::AlterPartitionReassignments(response) => {
            fail(&mut response.error_code, &mut response.error_message);
        }
        Response::ListPartitionReassignments(response) => {
            fail(&mut response.error_code, &mut response.error_message);
        }
        Response::Produce(_)
        | Response::Fetch(_)
        | Response::ListOffsets(_)
        | Response::Metadata(_)
        | Response::ApiVersions(_)
        | Response::DeleteRecords(_)
        | Response::InitProducerId(_)
        | Response::OffsetForLeaderEpoch(_)
        | Response::DescribeConfigs(_)
        | Response::DescribeLogDirs(_)
        | Response::DescribeCluster(_)
        | Response::DescribeTopicPartitions(_)
        | Response::OffsetCommit(_)
        | Response::OffsetFetch(_)
        | Response::FindCoordinator(_)
        | Response::JoinGroup(_)
        | Response::Heartbeat(_)
        | Response::LeaveGroup(_)
        | Response::SyncGroup(_)
        | Response::DescribeGroups(_)
        | Response::ListGroups(_)
        | Response::DeleteGroups(_)
        | Response::OffsetDelete(_)
        | Response::ListConfigResources(_)
        | Response::Vote(_)
        | Response::BeginQuorumEpoch(_)
        | Response::EndQuorumEpoch(_)
        | Response::DescribeQuorum(_)
        | Response::UpdateFeatures(_)
        | Response::AddPartitionsToTxn(_)
        | Response::AddOffsetsToTxn(_)
        | Response::EndTxn(_)
        | Response::WriteTxnMarkers(_)
        | Response::TxnOffsetCommit(_)
        | Response::DescribeProducers(_)
        | Response::DescribeTransactions(_)
        | Response::ListTransactions(_)
        | Response::Envelope(_)
        | Response::FetchSnapshot(_)
        | Response::AllocateProducerIds(_)
        | Response::PeerHello(_)
        | Response::Form(_)
        | Response::EntryList(_)
        | Response::EntryAlter(_)
        | Response::ReplicaAck(_) => {
            unreachable!("the controller answers no {:?}", response.api_key())
        }
    }
    CommandAnswer::Response(response)
}

fn answered<T: Into<Response>>(decision: Decision<T>) -> Decision<CommandAnswer> {
    Decision {
        records: decision.records,
        response: CommandAnswer::Response(decision.response.into()),
    }
}
