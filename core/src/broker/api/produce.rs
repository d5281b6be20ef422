//! Produce (key 0): one batch for each partition, answered when it is stable.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::early_refusals::Target;
use crate::broker::pending::{Gather, RequestContext};
use crate::broker::post::{Ask, ProduceItem, ProduceRefusal, Produced, TransactionRef};
use crate::broker::shard::Shard;
use crate::broker::transactions::verify::PRODUCE_ADDS;
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicPartition};
use crate::metadata::MetadataImage;
use crate::record::batch::Batch;
use crate::time::Now;
use crate::wire::api::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use crate::wire::{KafkaString, Response};

/// The shortest wait. Kafka's own flush is no part of the client's timeout; ours is, so a timeout of
/// a few milliseconds must not beat the disk.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

impl Shard {
    pub(in crate::broker) fn on_produce(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &ProduceRequest,
    ) {
        let refused = refused_whole(request, ctx.version);
        let by_id = ctx.version >= 13;
        let mut times = BTreeMap::new();
        let count: usize = request.topic_data.iter().map(|topic| topic.partition_data.len()).sum();
        for topic in request.topic_data.iter().filter(|_| count > 1) {
            for partition in &topic.partition_data {
                *times.entry((&topic.name, topic.topic_id, partition.index)).or_insert(0_u32) += 1;
            }
        }
        let mut early_refusals = std::mem::take(&mut self.early_refusals);
        let mut response = ProduceResponse::default();
        let (mut items, mut places) = (Vec::new(), Vec::new());
        // Kafka's answer is made of partitions: a topic that names none is not in it.
        let topics = request.topic_data.iter().filter(|topic| !topic.partition_data.is_empty());
        for (t, topic) in topics.enumerate() {
            let found = match self.find_topic(&topic.name, topic.topic_id, by_id) {
                // Differs from Kafka, which lets the client id `__admin_client` through: what a
                // coordinator did not decide would contradict what it holds.
                Ok(topic) if topic.is_internal() => Err(ErrorCode::InvalidTopicException),
                found => found,
            };
            let mut entry = TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: Vec::with_capacity(topic.partition_data.len()),
            };
            for (p, partition) in topic.partition_data.iter().enumerate() {
                let key = (&topic.name, topic.topic_id, partition.index);
                let named_twice = times.get(&key).is_some_and(|&times| times > 1);
                let checked = match refused {
                    Some(code) => Err(code),
                    // Differs from Kafka, which drops the first of the two without a word.
                    None if named_twice => Err(ErrorCode::InvalidRequest),
                    None => self.find_partition(found, partition.index),
                };
                let records = partition.records.clone().unwrap_or_default();
                let target = || target(topic, partition.index, by_id);
                if let Err(code) = checked
                    && is_passing(code)
                {
                    early_refusals.refuse(now.mono, target().detached(), &records);
                }
                let code = match checked {
                    Ok(id) => {
                        let index = places.len() as u32;
                        places.push((t as u32, p as u32));
                        let passes = early_refusals.is_passing(now.mono, target, &records);
                        let item = ProduceItem { index, partition: id, records, passes };
                        items.push((self.owner(id), item));
                        ErrorCode::RequestTimedOut
                    }
                    Err(code) => code,
                };
                let mut answer = PartitionProduceResponse {
                    index: partition.index,
                    error_code: code.code(),
                    base_offset: -1,
                    ..PartitionProduceResponse::default()
                };
                if code == ErrorCode::NotLeaderOrFollower {
                    answer.current_leader = current_leader(&self.image, &entry, partition.index);
                }
                entry.partition_responses.push(answer);
            }
            response.responses.push(entry);
        }
        self.early_refusals = early_refusals;
        let asked = Duration::from_millis(request.timeout_ms.max(0) as u64);
        let deadline = now.mono + asked.clamp(TIMEOUT_MIN, TIMEOUT_MAX);
        let gather = Gather {
            ctx,
            response: response.into(),
            places,
            outstanding: 0,
            deadline: None,
            is_silent: request.acks == 0,
            closes: false,
        };
        let (version, acks) = (ctx.version, request.acks);
        let transaction = request.transactional_id.as_ref().map(|id| TransactionRef {
            transactional_id: id.detached(),
            adds: version >= PRODUCE_ADDS,
            spoken: None,
        });
        self.gather(now, gather, items, Some(deadline), |items| Ask::Produce {
            version,
            all_replicas: acks == -1,
            wait: acks != 0,
            transaction: transaction.clone(),
            items,
        });
    }
}

/// Returns whether a partition that was not found may be found by the next try.
const fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::NotLeaderOrFollower
    )
}

fn target(topic: &TopicProduceData, index: i32, by_id: bool) -> Target {
    if by_id {
        let partition = PartitionIndex(index);
        Target::Id(TopicPartition { topic_id: topic.topic_id, partition })
    } else {
        Target::Name(topic.name.clone(), index)
    }
}

/// What refuses a request as a whole.
fn refused_whole(request: &ProduceRequest, version: i16) -> Option<ErrorCode> {
    if version < 3 {
        // Advertised only because old librdkafka turns compression off otherwise (KAFKA-18659).
        return Some(ErrorCode::UnsupportedVersion);
    }
    if !matches!(request.acks, -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    // Which of two would the transactional id belong to?
    has_two_producers(request).then_some(ErrorCode::InvalidProducerIdMapping)
}

/// Returns whether transactional batches of a request are of several producers.
fn has_two_producers(request: &ProduceRequest) -> bool {
    if request.transactional_id.is_none() {
        return false;
    }
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let batches = partitions.filter_map(|partition| {
        let batch = Batch::split_from(&mut partition.records.clone()?).ok()?;
        batch.is_transactional().then(|| batch.producer_id())
    });
    let mut batches = batches.peekable();
    let first = batches.peek().copied();
    batches.any(|id| Some(id) != first)
}

/// Writes the outcome for one partition into the response.
pub(in crate::broker) fn fill(
    image: &MetadataImage,
    response: &mut ProduceResponse,
    topic: usize,
    partition: usize,
    outcome: Result<Produced, ProduceRefusal>,
) {
    let mut entry = PartitionProduceResponse {
        index: response.responses[topic].partition_responses[partition].index,
        ..PartitionProduceResponse::default()
    };
    match outcome {
        Ok(produced) => {
            entry.error_code = ErrorCode::None.code();
            entry.base_offset = produced.base_offset.0;
            entry.log_append_time_ms = produced.log_append_time_ms;
            entry.log_start_offset = produced.log_start_offset.0;
        }
        Err(refusal) => {
            entry.error_code = refusal.code.code();
            entry.base_offset = -1;
            entry.log_start_offset = refusal.log_start_offset.0;
            let message = refusal.message.unwrap_or_else(|| refusal.code.message().into());
            entry.error_message = Some(KafkaString::from(message.as_ref()));
            entry.record_errors = refusal
                .records
                .into_iter()
                .map(|record| BatchIndexAndErrorMessage {
                    batch_index: record.index,
                    batch_index_error_message: Some(record.message.into()),
                })
                .collect();
            if refusal.code == ErrorCode::NotLeaderOrFollower {
                let topic = &response.responses[topic];
                entry.current_leader = current_leader(image, topic, entry.index);
            }
        }
    }
    response.responses[topic].partition_responses[partition] = entry;
}

fn current_leader(
    image: &MetadataImage,
    topic: &TopicProduceResponse,
    partition: i32,
) -> LeaderIdAndEpoch {
    let found = image.topic(topic.topic_id).or_else(|| image.topic_by_name(&topic.name));
    found.and_then(|topic| topic.partition(partition.into())).map_or_else(
        LeaderIdAndEpoch::default,
        |state| LeaderIdAndEpoch { leader_id: state.leader.0, leader_epoch: state.leader_epoch.0 },
    )
}

/// Returns whether any partition failed.
pub(in crate::broker) fn has_error(response: &Response) -> bool {
    let Response::Produce(response) = response else { return false };
    response.responses.iter().flat_map(|t| &t.partition_responses).any(|p| p.error_code != 0)
}
