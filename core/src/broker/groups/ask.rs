//! How a connection's shard asks the coordinators of groups.

use crate::broker::api::{committed_offsets, groups};
use crate::broker::pending::{Gather, RequestContext};
use crate::broker::post::{Answer, Ask, GroupItem, TransactionRef};
use crate::broker::shard::Shard;
use crate::coordinator::group::api as group;
use crate::coordinator::group::partition_of;
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, ShardId, TopicPartition};
use crate::metadata::image::CONSUMER_OFFSETS;
use crate::time::Now;
use crate::wire::{KafkaString, Response};

impl Shard {
    /// Finds the partition of `__consumer_offsets` that a group is kept in, if this node leads it.
    fn coordinator_of(&self, group_id: &str) -> Result<TopicPartition, ErrorCode> {
        // Before anybody asked for a coordinator nobody is one: who asks is told to look for it.
        let topic = self.image.topic_by_name(CONSUMER_OFFSETS).ok_or(ErrorCode::NotCoordinator)?;
        let partition =
            PartitionIndex(partition_of(group_id, topic.partitions.len().max(1) as i32));
        match topic.partition(partition) {
            Some(state) if state.leader == self.config.node.node_id => {
                Ok(TopicPartition { topic_id: topic.id, partition })
            }
            _ => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Asks the coordinator of one group; its answer is the whole response.
    pub(in crate::broker) fn ask_coordinator(
        &mut self,
        now: Now,
        ctx: RequestContext,
        response: impl Into<Response>,
        group_id: &KafkaString,
        request: group::Request,
    ) {
        let places = vec![(0, 0)];
        self.ask_coordinator_about(now, ctx, response.into(), places, group_id, request, None);
    }

    /// Asks the coordinator of one group about partitions that have these places in the response.
    #[expect(clippy::too_many_arguments, reason = "each comes from another place")]
    pub(in crate::broker) fn ask_coordinator_about(
        &mut self,
        now: Now,
        ctx: RequestContext,
        response: Response,
        places: Vec<(u32, u32)>,
        group_id: &KafkaString,
        request: group::Request,
        transaction: Option<TransactionRef>,
    ) {
        debug_assert!(!places.is_empty(), "the answer goes somewhere");
        let mut gather = waiting(ctx, response, places);
        let mut items = Vec::new();
        match self.coordinator_of(group_id) {
            Ok(partition) => {
                let version = ctx.version;
                let item = GroupItem { index: 0, partition, request, transaction, version };
                items.push((self.owner(partition), item));
            }
            Err(code) => {
                let place = gather.places[0];
                Self::fill(&self.image, &mut gather, place, Answer::Group(Err(code)));
            }
        }
        self.gather(now, gather, items, None, Ask::Group);
    }

    /// Asks the coordinators of several groups; each answers the entry of its group's place.
    pub(in crate::broker) fn ask_coordinators(
        &mut self,
        now: Now,
        ctx: RequestContext,
        response: Response,
        asked: Vec<(KafkaString, group::Request)>,
    ) {
        let places = (0..asked.len() as u32).map(|index| (index, 0)).collect();
        let mut gather = waiting(ctx, response, places);
        let mut items = Vec::new();
        for ((group_id, request), index) in asked.into_iter().zip(0..) {
            match self.coordinator_of(&group_id) {
                Ok(partition) => {
                    let (transaction, version) = (None, ctx.version);
                    let item = GroupItem { index, partition, request, transaction, version };
                    items.push((self.owner(partition), item));
                }
                Err(code) => {
                    let answer = Answer::Group(Err(code));
                    Self::fill(&self.image, &mut gather, (index, 0), answer);
                }
            }
        }
        self.gather(now, gather, items, None, Ask::Group);
    }

    /// Asks every coordinator of this node for its groups.
    pub(in crate::broker) fn ask_all_coordinators(
        &mut self,
        now: Now,
        ctx: RequestContext,
        response: Response,
        asked: &group::ListGroups,
    ) {
        let found = self.image.topic_by_name(CONSUMER_OFFSETS);
        let (id, count) = found.map_or_else(
            || (crate::ids::Uuid::ZERO, 0),
            |topic| (topic.id, topic.partitions.len() as i32),
        );
        let places = (0..count).map(|index| (index as u32, 0)).collect();
        let items: Vec<(ShardId, GroupItem)> = (0..count)
            .map(|index| {
                let partition = TopicPartition { topic_id: id, partition: PartitionIndex(index) };
                let request = group::Request::ListGroups(asked.clone());
                let (index, version) = (index as u32, ctx.version);
                let transaction = None;
                let item = GroupItem { index, partition, request, transaction, version };
                (self.owner(partition), item)
            })
            .collect();
        self.gather(now, waiting(ctx, response, places), items, None, Ask::Group);
    }
}

/// A response that waits for coordinators. How long a member waits for its group is theirs to
/// decide, and the rest waits for the disk alone, so there is no deadline here.
const fn waiting(ctx: RequestContext, response: Response, places: Vec<(u32, u32)>) -> Gather {
    Gather {
        ctx,
        response,
        places,
        outstanding: 0,
        deadline: None,
        is_silent: false,
        closes: false,
    }
}

/// Writes what a coordinator answered, or why none did, into a response.
pub(in crate::broker) fn fill(
    gather: &mut Gather,
    place: u32,
    outcome: Result<group::Response, ErrorCode>,
) {
    let version = gather.ctx.version;
    let at = place as usize;
    match &mut gather.response {
        Response::JoinGroup(response) => {
            groups::fill_join(response, outcome.map(joined), version);
        }
        Response::SyncGroup(response) => groups::fill_sync(response, outcome.map(synced)),
        Response::Heartbeat(response) => {
            response.error_code = outcome.map_or_else(|code| code, beaten).code();
        }
        Response::LeaveGroup(response) => {
            groups::fill_leave(response, outcome.map(left), version);
        }
        Response::OffsetCommit(response) => {
            committed_offsets::fill_commit(response, &gather.places, &outcome.map(committed));
        }
        Response::TxnOffsetCommit(response) => {
            committed_offsets::fill_staged(response, &gather.places, &outcome.map(staged));
        }
        Response::OffsetDelete(response) => {
            committed_offsets::fill_delete(response, &gather.places, &outcome.map(deleted));
        }
        Response::OffsetFetch(response) => match response.groups.get_mut(at) {
            Some(entry) => {
                committed_offsets::fill_fetch_of_group(entry, outcome.map(fetched), version);
            }
            None => committed_offsets::fill_fetch(response, outcome.map(fetched), version),
        },
        Response::DescribeGroups(response) => {
            groups::fill_described(&mut response.groups[at], outcome.map(described));
        }
        Response::DeleteGroups(response) => {
            let code = outcome.map_or_else(|code| code, group_deleted);
            response.results[at].error_code = code.code();
        }
        Response::ListGroups(response) => groups::fill_listed(response, outcome.map(listed)),
        Response::Produce(_)
        | Response::Fetch(_)
        | Response::ListOffsets(_)
        | Response::Metadata(_)
        | Response::FindCoordinator(_)
        | Response::ApiVersions(_)
        | Response::CreateTopics(_)
        | Response::DeleteTopics(_)
        | Response::DeleteRecords(_)
        | Response::InitProducerId(_)
        | Response::OffsetForLeaderEpoch(_)
        | Response::DescribeConfigs(_)
        | Response::AlterConfigs(_)
        | Response::DescribeLogDirs(_)
        | Response::CreatePartitions(_)
        | Response::IncrementalAlterConfigs(_)
        | Response::DescribeCluster(_)
        | Response::ListConfigResources(_)
        | Response::DescribeTopicPartitions(_)
        | Response::ElectLeaders(_)
        | Response::AlterPartitionReassignments(_)
        | Response::ListPartitionReassignments(_)
        | Response::Vote(_)
        | Response::BeginQuorumEpoch(_)
        | Response::EndQuorumEpoch(_)
        | Response::DescribeQuorum(_)
        | Response::AlterPartition(_)
        | Response::UpdateFeatures(_)
        | Response::AddPartitionsToTxn(_)
        | Response::AddOffsetsToTxn(_)
        | Response::EndTxn(_)
        | Response::WriteTxnMarkers(_)
        | Response::DescribeProducers(_)
        | Response::DescribeTransactions(_)
        | Response::ListTransactions(_)
        | Response::Envelope(_)
        | Response::FetchSnapshot(_)
        | Response::BrokerRegistration(_)
        | Response::BrokerHeartbeat(_)
        | Response::AllocateProducerIds(_)
        | Response::PeerHello(_)
        | Response::Form(_)
        | Response::EntryList(_)
        | Response::EntryAlter(_)
        | Response::ReplicaAck(_) => {
            unreachable!("no coordinator answers {:?}", gather.response.api_key());
        }
    }
}

macro_rules! answers {
    ($($name:ident $variant:ident $answer:ty;)*) => {$(
        fn $name(response: group::Response) -> $answer {
            match response {
                group::Response::$variant(answer) => answer,
                other => unreachable!("{other:?} answers no {}", stringify!($variant)),
            }
        }
    )*};
}

answers! {
    joined JoinGroup group::JoinGroupAnswer;
    synced SyncGroup group::SyncGroupAnswer;
    beaten Heartbeat ErrorCode;
    left LeaveGroup group::LeaveGroupAnswer;
    committed OffsetCommit group::OffsetCommitAnswer;
    staged TxnOffsetCommit group::OffsetCommitAnswer;
    fetched OffsetFetch group::OffsetFetchAnswer;
    deleted OffsetDelete group::OffsetDeleteAnswer;
    described DescribeGroup group::DescribeGroupAnswer;
    listed ListGroups group::ListGroupsAnswer;
    group_deleted DeleteGroup ErrorCode;
}
