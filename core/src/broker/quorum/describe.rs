//! `DescribeQuorum` (key 55): who leads the metadata log and how far its voters are (KIP-595, 836, 853).
//!
//! Any broker is asked; the leader answers, because it alone knows of the others. What is told of a voter's end
//! is what it has proven to be on its disk, not what it holds in memory besides.

use crate::broker::pending::RequestContext;
use crate::broker::quorum::METADATA;
use crate::broker::quorum::asks::TOPIC;
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::log::Stable;
use crate::metadata::Command;
use crate::quorum::VoterState;
use crate::time::{Instant, Now};
use crate::wire::ApiKey;
use crate::wire::api::describe_quorum::{
    DescribeQuorumNode, DescribeQuorumPartitionResponse, DescribeQuorumRequest,
    DescribeQuorumResponse, DescribeQuorumTopicResponse, QuorumReplicaState,
};
use crate::wire::api::quorum_parts::QuorumListener;

impl Shard {
    pub(in crate::broker) fn on_describe_quorum(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: DescribeQuorumRequest,
    ) {
        self.ask_controller(now, ctx, ApiKey::DescribeQuorum, Command::DescribeQuorum(request));
    }

    /// Answers as the leader of the metadata log.
    pub(in crate::broker) fn describe_quorum(
        &self,
        now: Now,
        request: &DescribeQuorumRequest,
    ) -> DescribeQuorumResponse {
        let known = self.quorum_state(now);
        let topics = request.topics.iter().map(|topic| DescribeQuorumTopicResponse {
            topic_name: topic.topic_name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| match &known {
                    Some(known) if topic.topic_name == TOPIC && partition.partition_index == 0 => {
                        known.clone()
                    }
                    Some(_) | None => DescribeQuorumPartitionResponse {
                        partition_index: partition.partition_index,
                        error_code: ErrorCode::UnknownTopicOrPartition.code(),
                        error_message: Some(ErrorCode::UnknownTopicOrPartition.message().into()),
                        ..DescribeQuorumPartitionResponse::default()
                    },
                })
                .collect(),
        });
        let topics = topics.collect();
        let nodes = self.config.node.peers.iter().map(|peer| DescribeQuorumNode {
            node_id: peer.node_id.0,
            listeners: vec![QuorumListener {
                name: "PEERS".into(),
                host: (&*peer.host).into(),
                port: peer.port,
            }],
        });
        DescribeQuorumResponse { topics, nodes: nodes.collect(), ..Default::default() }
    }

    fn quorum_state(&self, now: Now) -> Option<DescribeQuorumPartitionResponse> {
        let machine = &self.quorum.as_ref()?.machine;
        let own_end = self.log.stable_end(METADATA).map_or(Offset::ZERO, Stable::value);
        let wall = |at: Instant| now.wall.0 - now.mono.since(at).as_millis() as i64;
        let voters = machine.voters().iter().map(|voter| {
            let state = machine.voter_state(voter.node);
            let (end, heard) = match state {
                VoterState::Leader => (own_end.0, now.wall.0),
                VoterState::Follower { proven, fetched_at } => {
                    (proven.map_or(-1, |end| end.0), fetched_at.map_or(-1, wall))
                }
            };
            QuorumReplicaState {
                replica_id: voter.node.0,
                replica_directory_id: voter.directory,
                log_end_offset: end,
                last_fetch_timestamp: heard,
                last_caught_up_timestamp: if end == own_end.0 { heard } else { -1 },
            }
        });
        let observers = machine.observers().map(|(replica, end, fetched_at)| QuorumReplicaState {
            replica_id: replica.node.0,
            replica_directory_id: replica.directory,
            log_end_offset: end.0,
            last_fetch_timestamp: wall(fetched_at),
            last_caught_up_timestamp: if end >= own_end { wall(fetched_at) } else { -1 },
        });
        Some(DescribeQuorumPartitionResponse {
            observers: observers.collect(),
            leader_id: machine.leader().map_or(-1, |leader| leader.0),
            leader_epoch: machine.epoch().0,
            high_watermark: machine.high_watermark().0,
            current_voters: voters.collect(),
            ..DescribeQuorumPartitionResponse::default()
        })
    }
}
