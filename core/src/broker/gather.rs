//! Answers about single partitions, brought together into one response.

use std::collections::BTreeMap;

use crate::broker::pending::{Gather, Pending, RequestContext};
use crate::broker::post::{Answer, Ask};
use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::connection::RequestId;
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, ShardId, TopicId, TopicPartition};
use crate::metadata::controller::Asker;
use crate::metadata::decide::PRODUCER_ID_BLOCK;
use crate::metadata::{CommandAnswer, TopicImage};
use crate::time::{Instant, Now};
use crate::wire::api::allocate_producer_ids::AllocateProducerIdsResponse;
use crate::wire::api::alter_partition::AlterPartitionResponse;
use crate::wire::api::alter_partition_reassignments::AlterPartitionReassignmentsResponse;
use crate::wire::api::broker_heartbeat::BrokerHeartbeatResponse;
use crate::wire::api::broker_registration::BrokerRegistrationResponse;
use crate::wire::api::describe_quorum::DescribeQuorumResponse;
use crate::wire::api::elect_leaders::ElectLeadersResponse;
use crate::wire::api::list_partition_reassignments::ListPartitionReassignmentsResponse;
use crate::wire::{ApiKey, KafkaString, Response};

impl Shard {
    /// Asks the owners, and answers at once where all is known at once.
    pub(in crate::broker) fn gather<T>(
        &mut self,
        now: Now,
        mut gather: Gather,
        items: Vec<(ShardId, T)>,
        deadline: Option<Instant>,
        ask: impl Fn(Vec<T>) -> Ask,
    ) {
        let id = gather.ctx.id;
        gather.outstanding = items.len();
        self.pending.insert(id, Pending::Gather(gather));
        if items.is_empty() {
            return self.finish_gather(now, id);
        }
        let mut by_shard: BTreeMap<ShardId, Vec<T>> = BTreeMap::new();
        for (shard, item) in items {
            by_shard.entry(shard).or_default().push(item);
        }
        for (shard, items) in by_shard {
            self.ask(now, shard, id, ask(items));
        }
        if let Some(deadline) = deadline
            && let Some(Pending::Gather(gather)) = self.pending.get_mut(&id)
        {
            gather.deadline = Some(deadline);
            self.timers.arm(deadline, Timer::Request(id));
        }
    }

    /// Takes in the answer about one partition of a request that waits.
    pub(in crate::broker) fn deliver(
        &mut self,
        now: Now,
        id: RequestId,
        index: u32,
        answer: Answer,
    ) {
        match self.pending.get_mut(&id) {
            Some(Pending::Gather(gather)) => {
                let Some(&place) = gather.places.get(index as usize) else { return };
                Self::fill(&self.image, gather, place, answer);
                gather.outstanding -= 1;
                if gather.outstanding == 0 {
                    self.finish_gather(now, id);
                }
            }
            Some(Pending::Fetch(_)) => self.deliver_fetch(now, id, index, answer),
            Some(Pending::Internal(_)) => self.deliver_internal(now, id, index, answer),
            Some(
                Pending::Quorum { .. }
                | Pending::Command { .. }
                | Pending::Metadata { .. }
                | Pending::FindCoordinator { .. },
            )
            | None => {}
        }
    }

    /// Sends a response as it stands; what was not filled says that its time was up.
    fn finish_gather(&mut self, now: Now, id: RequestId) {
        let Some(Pending::Gather(mut gather)) = self.forget(now, id) else { return };
        if gather.is_silent {
            if super::api::produce::has_error(&gather.response) {
                self.close(now, id.connection);
            } else {
                self.send(id, None);
            }
            return;
        }
        self.add_node_endpoints(&gather.ctx, &mut gather.response);
        self.respond(&gather.ctx, gather.response);
        if gather.closes {
            // A connection that is closed owes nothing any more.
            if let Some(connection) = self.connections.get_mut(&id.connection) {
                connection.flush(now.mono, &mut self.fx);
            }
            self.close(now, id.connection);
        }
    }

    pub(in crate::broker) fn on_request_deadline(&mut self, now: Now, id: RequestId) {
        match self.pending.get(&id) {
            Some(Pending::Gather(_)) => self.finish_gather(now, id),
            Some(Pending::Fetch(_)) => {
                self.fx.mark(crate::io::Mark::FetchTimedOut);
                self.read_fetch(now, id);
            }
            Some(Pending::Command { .. }) => {
                if let Some(Pending::Command { ctx, api, .. }) = self.forget(now, id) {
                    let why = "the controller did not answer in time";
                    self.refuse_command(now, &ctx, api, ErrorCode::RequestTimedOut, why);
                }
            }
            Some(Pending::Metadata { .. }) => {
                if let Some(Pending::Metadata { ctx, request, .. }) = self.forget(now, id) {
                    self.answer_metadata(&ctx, &request, ErrorCode::LeaderNotAvailable);
                }
            }
            Some(Pending::FindCoordinator { .. }) => {
                if let Some(Pending::FindCoordinator { ctx, request, .. }) = self.forget(now, id) {
                    self.answer_find_coordinator(&ctx, &request);
                }
            }
            Some(Pending::Quorum { .. } | Pending::Internal(_)) | None => {}
        }
    }

    pub(in crate::broker) fn on_command_answer(
        &mut self,
        now: Now,
        asker: Asker,
        answer: CommandAnswer,
    ) {
        let id = match asker {
            Asker::ProducerIds => return self.on_producer_ids(now, &answer),
            Asker::Registration | Asker::Heartbeat => {
                return self.on_membership_answer(now, asker, &answer);
            }
            Asker::InSync(id, asked_at) => {
                return self.on_in_sync_answer(now, (id, asked_at), &answer);
            }
            Asker::Request(id) | Asker::Peer(id) => id,
        };
        match (self.forget(now, id), answer) {
            (Some(Pending::Command { ctx, .. }), CommandAnswer::Response(response)) => {
                self.respond(&ctx, response);
            }
            (Some(Pending::Command { ctx, .. }), CommandAnswer::ProducerIds(first)) => {
                let response = AllocateProducerIdsResponse {
                    producer_id_start: first,
                    producer_id_len: PRODUCER_ID_BLOCK as i32,
                    ..AllocateProducerIdsResponse::default()
                };
                self.respond(&ctx, response);
            }
            (Some(Pending::Command { ctx, api, .. }), CommandAnswer::Failed(code, why)) => {
                self.refuse_command(now, &ctx, api, code, &why);
            }
            (Some(Pending::Metadata { ctx, request, .. }), CommandAnswer::Failed(..)) => {
                self.answer_metadata(&ctx, &request, ErrorCode::LeaderNotAvailable);
            }
            (Some(Pending::Metadata { ctx, request, .. }), _) => {
                self.answer_metadata(&ctx, &request, ErrorCode::UnknownTopicOrPartition);
            }
            (Some(Pending::FindCoordinator { ctx, request, .. }), _) => {
                self.answer_find_coordinator(&ctx, &request);
            }
            _ => {}
        }
    }

    /// A request to the controller that came to nothing: its connection is closed, which every client
    /// takes for a reason to ask again, since the outcome is not known.
    fn refuse_command(
        &mut self,
        now: Now,
        ctx: &RequestContext,
        api: ApiKey,
        code: ErrorCode,
        why: &str,
    ) {
        if let Some(refusal) = refusal_by_code(api, code) {
            return self.respond(ctx, refusal);
        }
        self.fx.warn(format!("{} was not decided: {code}: {why}", api.name()));
        self.close(now, ctx.id.connection);
    }

    /// Finds a topic by the name or the id that a request gives, and the code where there is none.
    pub(in crate::broker) fn find_topic(
        &self,
        name: &KafkaString,
        id: TopicId,
        by_id: bool,
    ) -> Result<&TopicImage, ErrorCode> {
        let found = if by_id { self.image.topic(id) } else { self.image.topic_by_name(name) };
        found.map(AsRef::as_ref).ok_or(if by_id {
            ErrorCode::UnknownTopicId
        } else {
            ErrorCode::UnknownTopicOrPartition
        })
    }

    /// Finds a partition that this node leads, and the code where it does not.
    pub(in crate::broker) fn find_partition(
        &self,
        topic: Result<&TopicImage, ErrorCode>,
        index: i32,
    ) -> Result<TopicPartition, ErrorCode> {
        let topic = topic?;
        let partition = PartitionIndex(index);
        let state = topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if state.leader != self.config.node.node_id {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        Ok(TopicPartition { topic_id: topic.id, partition })
    }

    pub(in crate::broker) fn fill(
        image: &crate::metadata::MetadataImage,
        gather: &mut Gather,
        (topic, partition): (u32, u32),
        answer: Answer,
    ) {
        let (t, p) = (topic as usize, partition as usize);
        if let Answer::Group(outcome) = answer {
            return super::groups::fill(gather, topic, outcome);
        }
        if matches!(answer, Answer::Late) {
            gather.closes = true;
            if let Response::WriteTxnMarkers(response) = &mut gather.response {
                let outcome = Err(ErrorCode::NotLeaderOrFollower.into());
                return super::api::transactions::fill_marker(response, t, p, &outcome);
            }
            let code = ErrorCode::NotCoordinator;
            if matches!(gather.response, Response::TxnOffsetCommit(_)) {
                return super::groups::fill(gather, topic, Err(code));
            }
            return super::transactions::ask::fill(gather, topic, Err(code));
        }
        if let Answer::Transaction(outcome) = answer {
            return super::transactions::ask::fill(gather, topic, outcome);
        }
        match (&mut gather.response, answer) {
            (Response::Produce(response), Answer::Produced(outcome)) => {
                super::api::produce::fill(image, response, t, p, outcome);
            }
            (Response::WriteTxnMarkers(response), Answer::Produced(outcome)) => {
                super::api::transactions::fill_marker(response, t, p, &outcome);
            }
            (Response::DescribeProducers(response), Answer::Producers(outcome)) => {
                let entry = &mut response.topics[t].partitions[p];
                super::api::transactions::fill_producers(entry, outcome);
            }
            (Response::EntryList(response), Answer::Entries(outcome)) => {
                super::api::entries::fill_list(&mut response.topics[t].partitions[p], outcome);
            }
            (Response::EntryAlter(response), Answer::Produced(outcome)) => {
                super::api::entries::fill_alter(&mut response.topics[t].alterations[p], outcome);
            }
            (Response::ListOffsets(response), Answer::Offset(outcome)) => {
                let entry = &mut response.topics[t].partitions[p];
                super::api::list_offsets::fill(gather.ctx.version, entry, outcome);
            }
            (Response::DeleteRecords(response), Answer::LogStart(outcome)) => {
                super::api::delete_records::fill(&mut response.topics[t].partitions[p], outcome);
            }
            (Response::OffsetForLeaderEpoch(response), Answer::EpochEnd(outcome)) => {
                let entry = &mut response.topics[t].partitions[p];
                super::api::offset_for_leader_epoch::fill(entry, outcome);
            }
            (Response::DescribeLogDirs(response), Answer::Size(size)) => {
                let entry = &mut response.results[0].topics[t].partitions[p];
                entry.partition_size = size.map_or(0, |size| size as i64);
            }
            (response, answer) => {
                unreachable!("{answer:?} is no answer to {:?}", response.api_key());
            }
        }
    }
}

/// Returns the answer to a request that the controller did not decide and whose answer has room for a code:
/// nodes ask again by themselves, and operators may.
fn refusal_by_code(api: ApiKey, code: ErrorCode) -> Option<Response> {
    let error_code = code.code();
    let answers: [(ApiKey, Response); 8] = [
        (
            ApiKey::BrokerRegistration,
            BrokerRegistrationResponse { error_code, ..Default::default() }.into(),
        ),
        (
            ApiKey::BrokerHeartbeat,
            BrokerHeartbeatResponse { error_code, ..Default::default() }.into(),
        ),
        (
            ApiKey::AlterPartition,
            AlterPartitionResponse { error_code, ..Default::default() }.into(),
        ),
        (
            ApiKey::AllocateProducerIds,
            AllocateProducerIdsResponse { error_code, ..Default::default() }.into(),
        ),
        (
            ApiKey::DescribeQuorum,
            DescribeQuorumResponse { error_code, ..Default::default() }.into(),
        ),
        (ApiKey::ElectLeaders, ElectLeadersResponse { error_code, ..Default::default() }.into()),
        (
            ApiKey::AlterPartitionReassignments,
            AlterPartitionReassignmentsResponse { error_code, ..Default::default() }.into(),
        ),
        (
            ApiKey::ListPartitionReassignments,
            ListPartitionReassignmentsResponse { error_code, ..Default::default() }.into(),
        ),
    ];
    answers.into_iter().find(|(of, _)| *of == api).map(|(_, response)| response)
}
