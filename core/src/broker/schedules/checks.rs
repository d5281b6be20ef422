//! Questions for the verdicts on half messages: each is a record in the topic `checks.<check group>`, on this node or
//! another.

use bytes::Bytes;

use crate::broker::internal::Internal;
use crate::broker::peers::PeerTag;
use crate::broker::post::{Ask, ProduceItem};
use crate::broker::shard::Shard;
use crate::client::producer::partitioner::murmur2;
use crate::coordinator::schedule::Check;
use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex, TopicPartition};
use crate::peer::{Lane, Question};
use crate::record::builder::{BatchBuilder, NewHeader};
use crate::record::compress::Codec;
use crate::record::headers;
use crate::time::Now;
use crate::wire::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::wire::{ApiKey, Response};

impl Shard {
    /// Begins the questions whose time has come, and puts those that may be.
    pub(super) fn ask_for_verdicts(&mut self, now: Now, id: TopicPartition) {
        let Self { partitions, log, fx, .. } = self;
        let Some(partition) = partitions.get_mut(&id) else { return };
        let checks = partition.checks(now, log, fx);
        for check in checks {
            self.put_check(now, id, &check);
        }
    }

    fn put_check(&mut self, now: Now, id: TopicPartition, check: &Check) {
        let topic = format!("checks.{}", check.group);
        let found = self.image.topic_by_name(&topic).and_then(|topic| {
            let count = topic.partitions.len() as u32;
            let hash = murmur2(check.id.as_deref().unwrap_or_default()) & 0x7fff_ffff;
            let partition = PartitionIndex((hash % count.max(1)) as i32);
            let state = topic.partition(partition)?;
            Some((TopicPartition { topic_id: topic.id, partition }, state.leader))
        });
        let Some((target, leader)) = found.filter(|(_, leader)| leader.0 >= 0) else {
            // It is put again, and counts for nothing until it is there.
            return self.on_check_put(now, id, check.ticket, check.attempt, false);
        };
        let records = self.check_record(now, id, check);
        let (ticket, attempt) = (check.ticket, check.attempt);
        let request = self.internal_request(Internal::Check { partition: id, ticket, attempt });
        let version = ApiKey::Produce.max_version();
        if leader == self.config.node.node_id {
            let item = ProduceItem { index: 0, partition: target, records, passes: false };
            let ask = Ask::Produce {
                version,
                all_replicas: true,
                wait: true,
                transaction: None,
                items: vec![item],
            };
            return self.ask(now, self.owner(target), request, ask);
        }
        let data = PartitionProduceData { index: target.partition.0, records: Some(records) };
        let message = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                topic_id: target.topic_id,
                partition_data: vec![data],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        let question =
            Question { request: message.into(), patience: None, tag: PeerTag::Internal(request) };
        let Self { peers, fx, .. } = self;
        peers.links.ask(now.mono, leader, Lane::Transactions, question, fx);
    }

    fn check_record(&self, now: Now, id: TopicPartition, check: &Check) -> Bytes {
        let topic = self.image.topic(id.topic_id);
        let topic = topic.map_or_else(String::new, |topic| topic.name.to_string());
        let state = if check.is_parked { "parked" } else { "asked" };
        let Check { ticket: Offset(ticket), attempt, max, .. } = check;
        // With the feature dedup the check topic holds each question once, whoever repeats it.
        let identity = format!("{}/{}/{ticket}/{attempt}", id.topic_id, id.partition);
        let own = [
            (headers::CHECK_TOPIC, topic),
            (headers::CHECK_PARTITION, id.partition.to_string()),
            (headers::CHECK_TICKET, ticket.to_string()),
            (headers::CHECK_ATTEMPT, attempt.to_string()),
            (headers::CHECK_MAX, max.to_string()),
            (headers::CHECK_STATE, state.to_owned()),
            (headers::DEDUP_ID, identity),
        ];
        // Headers of ours are for the topic of the half message; here they would be asked for again.
        let of_half =
            check.entry.headers.iter().filter(|(name, _)| !name.starts_with(headers::PREFIX));
        let mut all: Vec<NewHeader<'_>> =
            of_half.map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
        all.extend(own.iter().map(|(name, value)| (*name, Some(value.as_bytes()))));
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(now.wall.0, check.id.as_deref(), check.entry.value.as_deref(), &all);
        builder.build().to_bytes()
    }

    /// Takes in whether a question is in the check topic.
    pub(in crate::broker) fn on_check_put(
        &mut self,
        now: Now,
        id: TopicPartition,
        ticket: Offset,
        attempt: u32,
        is_there: bool,
    ) {
        let Self { partitions, log, fx, .. } = self;
        let Some(partition) = partitions.get_mut(&id) else { return };
        partition.check_put(now, ticket, attempt, is_there, log, fx);
        self.wake_followers(now, id);
        self.arm_schedule_by_machine(now, id);
    }

    /// Takes in what another node answers to a question that was produced there.
    pub(in crate::broker) fn on_check_response(
        &mut self,
        now: Now,
        id: TopicPartition,
        (ticket, attempt): (Offset, u32),
        response: Option<Response>,
    ) {
        let code = match response {
            Some(Response::Produce(response)) => {
                let topic = response.responses.first();
                topic.and_then(|topic| topic.partition_responses.first()).map(|it| it.error_code)
            }
            _ => None,
        };
        let is_there = code == Some(ErrorCode::None.code());
        self.on_check_put(now, id, ticket, attempt, is_there);
    }
}
