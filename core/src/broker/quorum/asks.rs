//! What the quorum asks of other nodes, in Kafka's messages, and what their answers mean.

use bytes::Bytes;

use crate::broker::peers::PeerTag;
use crate::broker::quorum::METADATA;
use crate::broker::quorum::snapshots::snapshot_request;
use crate::broker::quorum::voters::voters_of;
use crate::broker::shard::Shard;
use crate::ids::{LeaderEpoch, NodeId, Offset, SnapshotId};
use crate::observe::ClusterEvent;
use crate::peer::{Lane, Question};
use crate::quorum::messages::{
    Ask, FetchAnswer, FetchAsk, FetchOutcome, Standing, VoteAnswer, VoteAsk,
};
use crate::quorum::{ReplicaKey, Step};
use crate::record::batch::Batch;
use crate::time::Now;
use crate::wire::api::begin_quorum_epoch::{
    BeginQuorumEpochPartition, BeginQuorumEpochRequest, BeginQuorumEpochTopic,
};
use crate::wire::api::end_quorum_epoch::{
    EndQuorumEpochPartition, EndQuorumEpochRequest, EndQuorumEpochTopic, ReplicaInfo,
};
use crate::wire::api::fetch::{
    FetchPartition, FetchRequest, FetchTopic, PartitionData, ReplicaState,
};
use crate::wire::api::replica_ack::{ReplicaAckPartition, ReplicaAckRequest, ReplicaAckTopic};
use crate::wire::api::vote::{VotePartition, VoteRequest, VoteTopic};
use crate::wire::{KafkaString, Request, Response};

/// Name of the metadata log on the wire.
pub(super) const TOPIC: KafkaString = KafkaString::from_static("__cluster_metadata");
/// Most bytes of the metadata log that are fetched at a time.
const FETCH_BYTES: i32 = 1 << 20;

impl Shard {
    /// Sends what the machine asks of a node.
    pub(super) fn ask_node(&mut self, now: Now, node: NodeId, ask: Ask) {
        let me = self.config.node.node_id;
        let (lane, request, patience) = match &ask {
            Ask::Vote(vote) => (Lane::Control, vote_request(vote), None),
            Ask::BeginEpoch { epoch } => (Lane::Control, begin_request(me, *epoch), None),
            Ask::EndEpoch { epoch, preferred } => {
                (Lane::Control, end_request(me, *epoch, preferred), None)
            }
            Ask::Fetch(fetch) => {
                let wait = self.config.node.limits.replica_fetch_wait;
                let request = fetch_request(me, fetch, wait.as_millis() as i32);
                (Lane::Quorum, request, Some(wait))
            }
            Ask::Snapshot(asked) => {
                let directory = self.identity.directory_id;
                let most = self.config.node.limits.metadata_snapshot_piece_bytes;
                let request = snapshot_request(ReplicaKey { node: me, directory }, asked, most);
                (Lane::Quorum, request, None)
            }
            Ask::Ack { epoch, proven } => {
                let request = ack_request(me, *epoch, *proven);
                self.peers.links.tell(node, Lane::Quorum, &request, &mut self.fx);
                return;
            }
        };
        let tag = PeerTag::of_quorum(ask);
        let question = Question { request, patience, tag };
        self.peers.links.ask(now.mono, node, lane, question, &mut self.fx);
    }

    /// Takes the answer of a node to what the machine asked, or that there is none.
    pub(in crate::broker) fn on_quorum_answer(
        &mut self,
        now: Now,
        node: NodeId,
        ask: &Ask,
        response: Option<Response>,
    ) {
        match (ask, response) {
            (Ask::Vote(vote), Some(Response::Vote(response))) => {
                let partition = response.topics.first().and_then(|topic| topic.partitions.first());
                let Some(partition) = partition else {
                    return self.on_ask_failed(now, node, ask);
                };
                let answer = VoteAnswer {
                    epoch: LeaderEpoch(partition.leader_epoch),
                    leader: leader(partition.leader_id),
                    granted: partition.vote_granted,
                };
                self.with_quorum(now, |machine, log| {
                    machine.on_vote_answer(now.mono, node, vote, answer, log);
                });
            }
            (Ask::BeginEpoch { .. }, Some(Response::BeginQuorumEpoch(response))) => {
                let partition = response.topics.first().and_then(|topic| topic.partitions.first());
                let standing = partition.map(|partition| Standing {
                    epoch: LeaderEpoch(partition.leader_epoch),
                    leader: leader(partition.leader_id),
                });
                self.on_standing(now, node, ask, standing);
            }
            (Ask::EndEpoch { .. }, Some(Response::EndQuorumEpoch(response))) => {
                let partition = response.topics.first().and_then(|topic| topic.partitions.first());
                let standing = partition.map(|partition| Standing {
                    epoch: LeaderEpoch(partition.leader_epoch),
                    leader: leader(partition.leader_id),
                });
                self.on_standing(now, node, ask, standing);
            }
            (Ask::Fetch(fetch), Some(Response::Fetch(response))) => {
                let topic = response.responses.into_iter().next();
                match topic.and_then(|topic| topic.partitions.into_iter().next()) {
                    Some(partition) => self.on_metadata_fetched(now, node, fetch, partition),
                    None => self.on_ask_failed(now, node, ask),
                }
            }
            (Ask::Snapshot(asked), Some(Response::FetchSnapshot(response))) => {
                let topic = response.topics.into_iter().next();
                match topic.and_then(|topic| topic.partitions.into_iter().next()) {
                    Some(piece) => self.on_snapshot_piece(now, node, asked, &piece),
                    None => self.on_ask_failed(now, node, ask),
                }
            }
            (ask, _) => self.on_ask_failed(now, node, ask),
        }
    }

    fn on_standing(&mut self, now: Now, node: NodeId, ask: &Ask, standing: Option<Standing>) {
        match standing {
            Some(standing) => {
                self.with_quorum(now, |machine, log| {
                    machine.on_standing(now.mono, node, standing, log);
                });
            }
            None => self.on_ask_failed(now, node, ask),
        }
    }

    fn on_metadata_fetched(
        &mut self,
        now: Now,
        node: NodeId,
        ask: &FetchAsk,
        partition: PartitionData,
    ) {
        let answer = fetch_answer(&partition);
        let step = self.with_quorum(now, |machine, log| {
            machine.on_fetch_answer(now.mono, node, ask, answer, log)
        });
        let mut agreed = None;
        match step {
            Some(Step::Append { high_watermark }) => {
                let records = partition.records.map(|records| records.to_bytes());
                match self.take_fetched(now, records.unwrap_or_default()) {
                    Ok(()) => agreed = Some(high_watermark),
                    Err(_) if self.log.is_cutting(METADATA) => {
                        return self.on_ask_failed(now, node, &Ask::Fetch(*ask));
                    }
                    Err(why) => {
                        self.fx.warn(format!(
                            "what node {node} sent of the metadata log is not taken: {why}"
                        ));
                        return self.on_ask_failed(now, node, &Ask::Fetch(*ask));
                    }
                }
            }
            Some(Step::Truncate(to)) => {
                self.fx.mark(crate::io::Mark::MetadataTruncated);
                self.fx.cluster(ClusterEvent::Truncated { partition: METADATA, end: to });
                self.log.truncate(now, METADATA, to, &mut self.fx);
                self.with_quorum(now, |machine, _| machine.cut(to));
            }
            Some(Step::Receive(id)) => return self.receive_snapshot(now, id),
            Some(Step::Broken(why)) => {
                let message = format!(
                    "this node cannot follow node {node} in the metadata log: {why}; nothing was \
                     changed"
                );
                self.fx.push(crate::io::Effect::Fatal { message });
                return;
            }
            Some(Step::Nothing) | None => {}
        }
        self.with_quorum(now, |machine, log| machine.appended(now.mono, agreed, log));
    }

    /// Appends what a leader sent. Nothing of it is trusted.
    fn take_fetched(&mut self, now: Now, mut records: Bytes) -> Result<(), String> {
        while !records.is_empty() {
            let batch = Batch::split_from(&mut records).map_err(|error| error.to_string())?;
            if !batch.crc_is_valid() {
                return Err(format!("the CRC at offset {} is wrong", batch.base_offset()));
            }
            let voters = voters_of(&batch)?;
            let offset = batch.base_offset();
            self.log
                .append_replica(now, METADATA, batch, now.wall, &mut self.fx)
                .map_err(|error| error.to_string())?;
            if let Some(voters) = voters {
                self.voters_changed(now, offset, voters);
            }
        }
        Ok(())
    }
}

/// Returns the node of a leader's number on the wire.
pub(super) fn leader(id: i32) -> Option<NodeId> {
    (id >= 0).then_some(NodeId(id))
}

fn fetch_answer(partition: &PartitionData) -> FetchAnswer {
    let current = &partition.current_leader;
    let diverging = &partition.diverging_epoch;
    let snapshot = &partition.snapshot_id;
    let outcome = if partition.error_code != 0 {
        FetchOutcome::NotLeader
    } else if snapshot.end_offset > 0 && snapshot.epoch >= 0 {
        FetchOutcome::Snapshot(SnapshotId {
            end_offset: Offset(snapshot.end_offset),
            epoch: LeaderEpoch(snapshot.epoch),
        })
    } else if diverging.end_offset >= 0 {
        FetchOutcome::Diverging {
            epoch: LeaderEpoch(diverging.epoch),
            end: Offset(diverging.end_offset),
        }
    } else {
        FetchOutcome::Records { high_watermark: Offset(partition.high_watermark.max(0)) }
    };
    FetchAnswer {
        epoch: LeaderEpoch(current.leader_epoch),
        leader: leader(current.leader_id),
        outcome,
    }
}

fn vote_request(ask: &VoteAsk) -> Request {
    let partition = VotePartition {
        partition_index: 0,
        replica_epoch: ask.epoch.0,
        replica_id: ask.candidate.node.0,
        replica_directory_id: ask.candidate.directory,
        voter_directory_id: ask.voter.directory,
        last_offset_epoch: ask.last_epoch.0,
        last_offset: ask.end.0,
        pre_vote: ask.pre_vote,
    };
    VoteRequest {
        voter_id: ask.voter.node.0,
        topics: vec![VoteTopic { topic_name: TOPIC, partitions: vec![partition] }],
        ..VoteRequest::default()
    }
    .into()
}

fn begin_request(me: NodeId, epoch: LeaderEpoch) -> Request {
    let partition = BeginQuorumEpochPartition {
        leader_id: me.0,
        leader_epoch: epoch.0,
        ..BeginQuorumEpochPartition::default()
    };
    BeginQuorumEpochRequest {
        topics: vec![BeginQuorumEpochTopic { topic_name: TOPIC, partitions: vec![partition] }],
        ..BeginQuorumEpochRequest::default()
    }
    .into()
}

fn end_request(me: NodeId, epoch: LeaderEpoch, preferred: &[NodeId]) -> Request {
    let candidate = |node: &NodeId| ReplicaInfo { candidate_id: node.0, ..ReplicaInfo::default() };
    let partition = EndQuorumEpochPartition {
        leader_id: me.0,
        leader_epoch: epoch.0,
        preferred_candidates: preferred.iter().map(candidate).collect(),
        ..EndQuorumEpochPartition::default()
    };
    EndQuorumEpochRequest {
        topics: vec![EndQuorumEpochTopic { topic_name: TOPIC, partitions: vec![partition] }],
        ..EndQuorumEpochRequest::default()
    }
    .into()
}

fn fetch_request(me: NodeId, ask: &FetchAsk, max_wait_ms: i32) -> Request {
    let partition = FetchPartition {
        partition: 0,
        current_leader_epoch: ask.epoch.0,
        fetch_offset: ask.from.0,
        last_fetched_epoch: ask.last_epoch.0,
        partition_max_bytes: FETCH_BYTES,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic_id: METADATA.topic_id,
        partitions: vec![partition],
        ..FetchTopic::default()
    };
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        topics: vec![topic],
        replica_state: ReplicaState { replica_id: me.0, ..ReplicaState::default() },
        ..FetchRequest::default()
    }
    .into()
}

fn ack_request(me: NodeId, epoch: LeaderEpoch, proven: Offset) -> Request {
    let partition =
        ReplicaAckPartition { partition: 0, leader_epoch: epoch.0, stable_offset: proven.0 };
    ReplicaAckRequest {
        node_id: me.0,
        topics: vec![ReplicaAckTopic { topic_id: METADATA.topic_id, partitions: vec![partition] }],
        ..ReplicaAckRequest::default()
    }
    .into()
}
