//! What other nodes ask of the quorum. A request is read by the shard of its connection, decided by shard 0
//! and answered by the shard that has the connection.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::formation::form_response;
use crate::broker::pending::{Pending, RequestContext};
use crate::broker::post::Post;
use crate::broker::quorum::asks::{TOPIC, leader};
use crate::broker::quorum::snapshots::{snapshot_ask, snapshot_response};
use crate::broker::quorum::{METADATA, MetadataLog};
use crate::broker::shard::{Shard, TicketUse};
use crate::cluster::Cluster;
use crate::connection::RequestId;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, NodeId, Offset, ShardId, SnapshotId, TopicPartition};
use crate::log::{FetchPlan, ReadError};
use crate::quorum::messages::{
    Ask, FetchAnswer, FetchAsk, FetchOutcome, Standing, VoteAnswer, VoteAsk,
};
use crate::quorum::{Caller, FetchVerdict, LogView, ReplicaKey};
use crate::time::{Instant, Now};
use crate::wire::api::begin_quorum_epoch::{
    BeginQuorumEpochPartitionResponse, BeginQuorumEpochResponse, BeginQuorumEpochTopicResponse,
};
use crate::wire::api::end_quorum_epoch::{
    EndQuorumEpochPartitionResponse, EndQuorumEpochResponse, EndQuorumEpochTopicResponse,
};
use crate::wire::api::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    PartitionData, SnapshotId as WireSnapshotId,
};
use crate::wire::api::fetch_snapshot::{FetchSnapshotRequest, FetchSnapshotResponse};
use crate::wire::api::replica_ack::ReplicaAckRequest;
use crate::wire::api::vote::{VotePartitionResponse, VoteRequest, VoteResponse, VoteTopicResponse};
use crate::wire::{Request, Response};

/// A fetch of another node that waits for something to send.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Parked {
    replica: ReplicaKey,
    ask: FetchAsk,
    max_bytes: u64,
    pub(super) until: Instant,
    /// What the node was told last of the high watermark.
    told: Offset,
}

/// What another node asks, as it travels to shard 0.
#[derive(Clone, Debug)]
pub struct NodeAsk {
    /// Who asks.
    pub replica: ReplicaKey,
    /// What.
    pub ask: Ask,
    /// Most bytes of records, for a fetch.
    pub max_bytes: u64,
    /// How long its answer may be held back, in milliseconds.
    pub wait_ms: u64,
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To a vote.
    Vote(VoteAnswer),
    /// To the beginning of an epoch.
    Begun(Standing),
    /// To the end of an epoch.
    Ended(Standing),
    /// To a fetch, with the log's start and whole batches.
    Fetched(FetchAnswer, Offset, Vec<Bytes>),
    /// To one that asks for a piece of a snapshot.
    Snapshot(Box<SnapshotReply>),
    /// To one that tells of a cluster or asks for it: that of this node, or why it takes no other.
    Formed(Result<Option<Arc<Cluster>>, String>),
}

/// A piece of a snapshot, or why there is none.
#[derive(Clone, Debug)]
pub struct SnapshotReply {
    /// Why there is none.
    pub code: ErrorCode,
    /// Who leads.
    pub standing: Standing,
    /// The snapshot.
    pub id: SnapshotId,
    /// How large it is, in bytes.
    pub size: u64,
    /// The first byte of the piece.
    pub position: u64,
    /// The piece.
    pub bytes: Bytes,
}

impl Shard {
    /// Takes a request for the quorum off a connection of a peer. Returns whether it was one.
    pub(in crate::broker) fn on_quorum_request(
        &mut self,
        now: Now,
        ctx: &RequestContext,
        request: &Request,
    ) -> bool {
        let Some(peer) = self.peer_of(ctx.id.connection) else { return false };
        if let Request::FetchSnapshot(request) = request
            && let Some(code) = self.snapshot_refusal(request)
        {
            let error_code = code.code();
            self.respond(ctx, FetchSnapshotResponse { error_code, ..Default::default() });
            return true;
        }
        let Some(asked) = node_ask(peer, request) else { return false };
        let answered = !matches!(asked.ask, Ask::Ack { .. });
        if answered {
            self.pending.insert(ctx.id, Pending::Quorum { ctx: *ctx });
        } else {
            self.send(ctx.id, None);
        }
        if self.config.shard == ShardId(0) {
            self.on_node_ask(now, ShardId(0), ctx.id, asked);
        } else {
            self.post(ShardId(0), Post::NodeAsk { request: ctx.id, asked });
        }
        true
    }

    /// Returns why nothing is looked up for a request for a piece of a snapshot.
    fn snapshot_refusal(&self, request: &FetchSnapshotRequest) -> Option<ErrorCode> {
        let ours = self.identity.cluster_id.to_string();
        if request.cluster_id.as_ref().is_some_and(|theirs| *theirs != ours.as_str()) {
            return Some(ErrorCode::InconsistentClusterId);
        }
        snapshot_ask(request).is_none().then_some(ErrorCode::InvalidRequest)
    }

    /// Decides what another node asks. On shard 0.
    pub(in crate::broker) fn on_node_ask(
        &mut self,
        now: Now,
        shard: ShardId,
        request: RequestId,
        asked: NodeAsk,
    ) {
        let NodeAsk { replica, ask, max_bytes, wait_ms } = asked;
        let node = replica.node;
        match ask {
            Ask::Vote(vote) => {
                let Some(quorum) = &mut self.quorum else { return };
                quorum.next_caller += 1;
                let caller = Caller(quorum.next_caller);
                quorum.callers.insert(caller, (shard, request));
                self.with_quorum(now, |machine, log| {
                    machine.on_vote_asked(now.mono, caller, &vote, log);
                });
            }
            Ask::BeginEpoch { epoch } => {
                let standing = self.with_quorum(now, |machine, log| {
                    machine.on_epoch_begun(now.mono, node, epoch, log)
                });
                if let Some(standing) = standing {
                    self.reply_to_node(shard, request, Reply::Begun(standing));
                }
            }
            Ask::EndEpoch { epoch, preferred } => {
                let standing = self.with_quorum(now, |machine, log| {
                    machine.on_epoch_ended(now.mono, node, epoch, &preferred, log)
                });
                if let Some(standing) = standing {
                    self.reply_to_node(shard, request, Reply::Ended(standing));
                }
            }
            Ask::Ack { epoch, proven } => {
                self.with_quorum(now, |machine, log| machine.on_ack(replica, epoch, proven, log));
                self.answer_parked(now);
            }
            Ask::Snapshot(ask) => {
                self.serve_snapshot(now, (shard, request), replica, (ask, max_bytes));
            }
            Ask::Fetch(ask) => {
                let until = now.mono + std::time::Duration::from_millis(wait_ms);
                // What it is told of the high watermark is worth an answer of its own.
                let told = self
                    .quorum
                    .as_ref()
                    .map_or(Offset::ZERO, |quorum| quorum.machine.high_watermark().min(ask.from));
                let parked = Parked { replica, ask, max_bytes, until, told };
                self.serve_fetch(now, (shard, request), parked);
                self.admit_voter(now, replica);
                self.arm_quorum_timer();
            }
        }
    }

    /// Looks at every fetch that waits once more.
    pub(super) fn answer_parked(&mut self, now: Now) {
        let Some(quorum) = &mut self.quorum else { return };
        for (key, parked) in std::mem::take(&mut quorum.parked) {
            self.serve_fetch(now, key, parked);
        }
    }

    fn serve_fetch(&mut self, now: Now, key: (ShardId, RequestId), parked: Parked) {
        let verdict = self.with_quorum(now, |machine, log| {
            machine.on_fetch(now.mono, parked.replica, &parked.ask, log)
        });
        let log = MetadataLog(&self.log);
        let (start, end, from) = (log.start(), log.end(), parked.ask.from);
        let answer = match verdict {
            Some(FetchVerdict::Answer(answer)) => answer,
            Some(FetchVerdict::Read) => {
                let Some(quorum) = &mut self.quorum else { return };
                let news = quorum.machine.high_watermark() > parked.told;
                if from >= end && !news && now.mono < parked.until {
                    quorum.parked.insert(key, parked);
                    return;
                }
                quorum.machine.fetch_answer()
            }
            None => return,
        };
        let (shard, request) = key;
        if !matches!(answer.outcome, FetchOutcome::Records { .. }) || from >= end {
            return self.reply_to_node(shard, request, Reply::Fetched(answer, start, Vec::new()));
        }
        match self.log.plan_fetch(METADATA, from, end, parked.max_bytes, true) {
            FetchPlan::Memory(records) => {
                self.reply_to_node(shard, request, Reply::Fetched(answer, start, records));
            }
            FetchPlan::File(range) => {
                let ticket = self.ticket(TicketUse::Metadata(shard, request));
                self.log.read(now, range, ticket, &mut self.fx);
            }
        }
    }

    /// Takes what was read of the metadata log for another node.
    pub(in crate::broker) fn on_metadata_read_for_node(
        &mut self,
        (shard, request): (ShardId, RequestId),
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let Some(quorum) = &self.quorum else { return };
        let answer = quorum.machine.fetch_answer();
        let start = MetadataLog(&self.log).start();
        let records = match result {
            Ok(records) => records,
            // It begins later by now, which the next answer tells.
            Err(ReadError::Gone) => Vec::new(),
            Err(error) => {
                self.fx.warn(format!("the metadata log cannot be read for another node: {error}"));
                Vec::new()
            }
        };
        self.reply_to_node(shard, request, Reply::Fetched(answer, start, records));
    }

    /// Brings a reply to the shard that has the connection.
    pub(in crate::broker) fn reply_to_node(
        &mut self,
        shard: ShardId,
        request: RequestId,
        reply: Reply,
    ) {
        if shard == self.config.shard {
            self.on_quorum_reply(request, reply);
        } else {
            self.post(shard, Post::QuorumReply { request, reply });
        }
    }

    /// Answers a request for the quorum.
    pub(in crate::broker) fn on_quorum_reply(&mut self, request: RequestId, reply: Reply) {
        if !matches!(self.pending.get(&request), Some(Pending::Quorum { .. })) {
            return;
        }
        let Some(Pending::Quorum { ctx }) = self.pending.remove(&request) else { return };
        let response = match reply {
            Reply::Vote(answer) => vote_response(answer),
            Reply::Begun(standing) => begin_response(standing),
            Reply::Ended(standing) => end_response(standing),
            Reply::Fetched(answer, start, records) => fetch_response(answer, start, records),
            Reply::Snapshot(reply) => snapshot_response(*reply),
            Reply::Formed(answer) => form_response(answer),
        };
        self.respond(&ctx, response);
    }
}

/// Reads what a request asks of the quorum; `None` where it is for something else, or makes no sense.
fn node_ask(replica: ReplicaKey, request: &Request) -> Option<NodeAsk> {
    if let Request::Fetch(request) = request {
        let (ask, max_bytes) = metadata_fetch(request)?;
        let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
        return Some(NodeAsk { replica, ask, max_bytes, wait_ms });
    }
    if let Request::FetchSnapshot(request) = request {
        let (ask, max_bytes) = snapshot_ask(request)?;
        return Some(NodeAsk { replica, ask: Ask::Snapshot(ask), max_bytes, wait_ms: 0 });
    }
    let ask = if let Request::Vote(request) = request {
        // Nobody stands for another.
        let ask = vote(request).filter(|ask| ask.candidate == replica)?;
        Ask::Vote(ask)
    } else if let Request::BeginQuorumEpoch(request) = request {
        let partition = request.topics.first()?.partitions.first()?;
        leader(partition.leader_id).filter(|&leader| leader == replica.node)?;
        Ask::BeginEpoch { epoch: LeaderEpoch(partition.leader_epoch) }
    } else if let Request::EndQuorumEpoch(request) = request {
        let partition = request.topics.first()?.partitions.first()?;
        leader(partition.leader_id).filter(|&leader| leader == replica.node)?;
        let preferred = partition.preferred_candidates.iter();
        Ask::EndEpoch {
            epoch: LeaderEpoch(partition.leader_epoch),
            preferred: preferred.map(|replica| NodeId(replica.candidate_id)).collect(),
        }
    } else if let Request::ReplicaAck(request) = request {
        ack(request)?
    } else {
        return None;
    };
    Some(NodeAsk { replica, ask, max_bytes: 0, wait_ms: 0 })
}

fn vote(request: &VoteRequest) -> Option<VoteAsk> {
    let partition = request.topics.first()?.partitions.first()?;
    Some(VoteAsk {
        epoch: LeaderEpoch(partition.replica_epoch),
        candidate: ReplicaKey {
            node: NodeId(partition.replica_id),
            directory: partition.replica_directory_id,
        },
        voter: ReplicaKey {
            node: NodeId(request.voter_id),
            directory: partition.voter_directory_id,
        },
        last_epoch: LeaderEpoch(partition.last_offset_epoch),
        end: Offset(partition.last_offset),
        pre_vote: partition.pre_vote,
    })
}

/// Returns the part of an acknowledgement that is about the metadata log.
fn ack(request: &ReplicaAckRequest) -> Option<Ask> {
    let topic = request.topics.first().filter(|topic| topic.topic_id == METADATA.topic_id)?;
    let partition = topic.partitions.first()?;
    Some(Ask::Ack {
        epoch: LeaderEpoch(partition.leader_epoch),
        proven: Offset(partition.stable_offset),
    })
}

fn metadata_fetch(request: &FetchRequest) -> Option<(Ask, u64)> {
    const ID: TopicPartition = METADATA;
    let topic = request.topics.first().filter(|topic| topic.topic_id == ID.topic_id)?;
    let partition = topic.partitions.first()?;
    if partition.fetch_offset < 0 {
        return None;
    }
    let ask = FetchAsk {
        epoch: LeaderEpoch(partition.current_leader_epoch),
        from: Offset(partition.fetch_offset),
        last_epoch: LeaderEpoch(partition.last_fetched_epoch),
    };
    let max_bytes = u64::try_from(partition.partition_max_bytes).unwrap_or(0).min(1 << 20);
    Some((Ask::Fetch(ask), max_bytes))
}

fn id(leader: Option<NodeId>) -> i32 {
    leader.map_or(-1, |leader| leader.0)
}

fn vote_response(answer: VoteAnswer) -> Response {
    let partition = VotePartitionResponse {
        leader_id: id(answer.leader),
        leader_epoch: answer.epoch.0,
        vote_granted: answer.granted,
        ..VotePartitionResponse::default()
    };
    let topic = VoteTopicResponse { topic_name: TOPIC, partitions: vec![partition] };
    VoteResponse { topics: vec![topic], ..VoteResponse::default() }.into()
}

fn begin_response(standing: Standing) -> Response {
    let partition = BeginQuorumEpochPartitionResponse {
        leader_id: id(standing.leader),
        leader_epoch: standing.epoch.0,
        ..BeginQuorumEpochPartitionResponse::default()
    };
    let topic = BeginQuorumEpochTopicResponse { topic_name: TOPIC, partitions: vec![partition] };
    BeginQuorumEpochResponse { topics: vec![topic], ..BeginQuorumEpochResponse::default() }.into()
}

fn end_response(standing: Standing) -> Response {
    let partition = EndQuorumEpochPartitionResponse {
        leader_id: id(standing.leader),
        leader_epoch: standing.epoch.0,
        ..EndQuorumEpochPartitionResponse::default()
    };
    let topic = EndQuorumEpochTopicResponse { topic_name: TOPIC, partitions: vec![partition] };
    EndQuorumEpochResponse { topics: vec![topic], ..EndQuorumEpochResponse::default() }.into()
}

fn fetch_response(answer: FetchAnswer, start: Offset, records: Vec<Bytes>) -> Response {
    let current_leader =
        LeaderIdAndEpoch { leader_id: id(answer.leader), leader_epoch: answer.epoch.0 };
    let mut partition = PartitionData {
        partition_index: 0,
        high_watermark: -1,
        log_start_offset: start.0,
        current_leader,
        records: Some(records.into()),
        ..PartitionData::default()
    };
    match answer.outcome {
        FetchOutcome::Records { high_watermark } => partition.high_watermark = high_watermark.0,
        FetchOutcome::Diverging { epoch, end } => {
            partition.diverging_epoch = EpochEndOffset { epoch: epoch.0, end_offset: end.0 };
        }
        FetchOutcome::Snapshot(SnapshotId { end_offset, epoch }) => {
            partition.snapshot_id = WireSnapshotId { end_offset: end_offset.0, epoch: epoch.0 };
        }
        FetchOutcome::NotLeader => partition.error_code = ErrorCode::NotLeaderOrFollower.code(),
    }
    let topic = FetchableTopicResponse {
        topic_id: METADATA.topic_id,
        partitions: vec![partition],
        ..FetchableTopicResponse::default()
    };
    FetchResponse { responses: vec![topic], ..FetchResponse::default() }.into()
}
