//! `OffsetCommit`, `OffsetFetch` and `OffsetDelete` (keys 8, 9, 47): what they ask of the coordinators.
//!
//! Names and ids of topics are resolved here, against what this shard has applied; topics and
//! partitions that do not exist are answered here too, and never come before a coordinator.

use std::collections::BTreeMap;

use crate::broker::api::groups::is_answered;
use crate::broker::pending::RequestContext;
use crate::broker::post::TransactionRef;
use crate::broker::shard::Shard;
use crate::broker::transactions::verify::COMMIT_ADDS;
use crate::coordinator::group::api as group;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, PartitionIndex, ProducerEpoch, ProducerId, TopicId, Uuid};
use crate::metadata::TopicImage;
use crate::time::Now;
use crate::wire::KafkaString;
use crate::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::wire::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use crate::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::wire::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};

/// The first version of `OffsetCommit` and `OffsetFetch` that names topics by their ids.
const BY_ID: i16 = 10;
/// The first version of `OffsetFetch` that asks for several groups.
const GROUPS: i16 = 8;
/// The first version of `OffsetFetch` with an error of the whole.
const TOP_LEVEL_ERROR: i16 = 2;

/// The part of a commit that comes before a coordinator.
#[derive(Default)]
struct ToCommit {
    topics: Vec<group::CommitTopic>,
    /// Where each of their partitions stands in the response.
    places: Vec<(u32, u32)>,
}

impl ToCommit {
    /// Takes in the partitions of the `t`th topic that are there, and returns the codes of all: those of the
    /// others, and what counts until the coordinator has answered.
    fn take(
        &mut self,
        t: usize,
        topic: Result<&TopicImage, ErrorCode>,
        partitions: impl ExactSizeIterator<Item = group::CommitPartition>,
    ) -> Vec<(i32, i16)> {
        let mut codes = Vec::with_capacity(partitions.len());
        let mut valid = Vec::new();
        for (p, partition) in partitions.enumerate() {
            let index = partition.partition;
            let code = exists(topic, index).err().unwrap_or(ErrorCode::RequestTimedOut);
            if code == ErrorCode::RequestTimedOut {
                self.places.push((t as u32, p as u32));
                valid.push(partition);
            }
            codes.push((index.0, code.code()));
        }
        if let (Ok(topic), false) = (topic, valid.is_empty()) {
            self.topics.push(group::CommitTopic {
                name: topic.name.as_str().into(),
                topic_id: topic.id,
                partitions: valid,
            });
        }
        codes
    }
}

impl Shard {
    pub(in crate::broker) fn on_offset_commit(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: OffsetCommitRequest,
    ) {
        let mut response = OffsetCommitResponse::default();
        let mut to_commit = ToCommit::default();
        for (t, asked) in request.topics.into_iter().enumerate() {
            let found = self.find_topic(&asked.name, asked.topic_id, ctx.version >= BY_ID);
            let partitions = asked.partitions.into_iter().map(|it| group::CommitPartition {
                partition: PartitionIndex(it.partition_index),
                offset: it.committed_offset,
                leader_epoch: LeaderEpoch(it.committed_leader_epoch),
                metadata: it.committed_metadata,
            });
            let codes = to_commit.take(t, found, partitions);
            let partitions = codes.into_iter().map(|(partition_index, error_code)| {
                OffsetCommitResponsePartition { partition_index, error_code }
            });
            let partitions = partitions.collect();
            response.topics.push(OffsetCommitResponseTopic {
                name: asked.name,
                topic_id: asked.topic_id,
                partitions,
            });
        }
        let ToCommit { topics, places } = to_commit;
        if topics.is_empty() {
            return self.respond(&ctx, response);
        }
        let asked = group::Request::OffsetCommit(group::OffsetCommit {
            version: ctx.version,
            group_id: request.group_id.clone(),
            generation_id: request.generation_id_or_member_epoch,
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            retention_time_ms: request.retention_time_ms,
            topics,
        });
        self.ask_coordinator_about(
            now,
            ctx,
            response.into(),
            places,
            &request.group_id,
            asked,
            None,
        );
    }

    /// `TxnOffsetCommit`: offsets that count once their transaction is committed (KIP-98, KIP-447).
    pub(in crate::broker) fn on_txn_offset_commit(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: TxnOffsetCommitRequest,
    ) {
        let mut response = TxnOffsetCommitResponse::default();
        let mut to_commit = ToCommit::default();
        for (t, asked) in request.topics.into_iter().enumerate() {
            let found = self.find_topic(&asked.name, Uuid::ZERO, false);
            let partitions = asked.partitions.into_iter().map(|it| group::CommitPartition {
                partition: PartitionIndex(it.partition_index),
                offset: it.committed_offset,
                leader_epoch: LeaderEpoch(it.committed_leader_epoch),
                metadata: it.committed_metadata,
            });
            let codes = to_commit.take(t, found, partitions);
            let partitions = codes.into_iter().map(|(partition_index, error_code)| {
                TxnOffsetCommitResponsePartition { partition_index, error_code }
            });
            let partitions = partitions.collect();
            response.topics.push(TxnOffsetCommitResponseTopic { name: asked.name, partitions });
        }
        let ToCommit { topics, places } = to_commit;
        if topics.is_empty() {
            return self.respond(&ctx, response);
        }
        let asked = group::Request::TxnOffsetCommit(group::TxnOffsetCommit {
            version: ctx.version,
            producer: group::TransactionalProducer {
                id: ProducerId(request.producer_id),
                epoch: ProducerEpoch(request.producer_epoch),
            },
            group_id: request.group_id.clone(),
            generation_id: request.generation_id_or_member_epoch,
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            topics,
        });
        let transaction = TransactionRef {
            transactional_id: request.transactional_id.detached(),
            adds: ctx.version >= COMMIT_ADDS,
            spoken: (ctx.version < COMMIT_ADDS).then(|| self.speaker(&ctx)),
        };
        self.ask_coordinator_about(
            now,
            ctx,
            response.into(),
            places,
            &request.group_id,
            asked,
            Some(transaction),
        );
    }

    pub(in crate::broker) fn on_offset_delete(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: OffsetDeleteRequest,
    ) {
        let mut response = OffsetDeleteResponse::default();
        // The group is looked at before its topics, so it is asked about even where none is there; the
        // first place stands for it.
        let (mut topics, mut places) = (Vec::new(), vec![(0, 0)]);
        for (t, asked) in request.topics.into_iter().enumerate() {
            let found = self.find_topic(&asked.name, Uuid::ZERO, false);
            let mut partitions = Vec::with_capacity(asked.partitions.len());
            let mut valid = Vec::new();
            for (p, partition) in asked.partitions.into_iter().enumerate() {
                let index = PartitionIndex(partition.partition_index);
                let code = exists(found, index).err().unwrap_or(ErrorCode::RequestTimedOut);
                if code == ErrorCode::RequestTimedOut {
                    places.push((t as u32, p as u32));
                    valid.push(index);
                }
                partitions.push(OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code.code(),
                });
            }
            if let (Ok(topic), false) = (found, valid.is_empty()) {
                topics.push(group::FetchTopic {
                    name: topic.name.as_str().into(),
                    topic_id: topic.id,
                    partitions: valid,
                });
            }
            response.topics.push(OffsetDeleteResponseTopic { name: asked.name, partitions });
        }
        let group_id = request.group_id.clone();
        let asked = group::Request::OffsetDelete(group::OffsetDelete { group_id, topics });
        self.ask_coordinator_about(
            now,
            ctx,
            response.into(),
            places,
            &request.group_id,
            asked,
            None,
        );
    }

    pub(in crate::broker) fn on_offset_fetch(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: OffsetFetchRequest,
    ) {
        if ctx.version >= GROUPS {
            let stable = request.require_stable;
            return self.on_offset_fetch_of_groups(now, ctx, request.groups, stable);
        }
        // What version 1 puts its error on, where there is one.
        let asked_topics = request.topics.as_deref().unwrap_or_default();
        let response = OffsetFetchResponse {
            topics: asked_topics.iter().map(unfilled).collect(),
            ..OffsetFetchResponse::default()
        };
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter();
            topics.map(|topic| self.named_topic(&topic.name, &topic.partition_indexes)).collect()
        });
        let asked = group::Request::OffsetFetch(group::OffsetFetch {
            group_id: request.group_id.clone(),
            require_stable: request.require_stable,
            topics,
        });
        self.ask_coordinator(now, ctx, response, &request.group_id, asked);
    }

    fn on_offset_fetch_of_groups(
        &mut self,
        now: Now,
        ctx: RequestContext,
        groups: Vec<OffsetFetchRequestGroup>,
        require_stable: bool,
    ) {
        let mut response = OffsetFetchResponse::default();
        let mut asked = Vec::new();
        let mut times = BTreeMap::new();
        for entry in groups.into_iter().filter(|entry| is_answered(&mut times, &entry.group_id)) {
            let mut unknown = Vec::new();
            let topics = entry.topics.map(|topics| {
                let topics = topics.into_iter();
                topics
                    .filter_map(|topic| {
                        if ctx.version < BY_ID {
                            return Some(self.named_topic(&topic.name, &topic.partition_indexes));
                        }
                        let Some(found) = self.image.topic(topic.topic_id) else {
                            unknown.push(without_topic(&topic));
                            return None;
                        };
                        let name = found.name.as_str().into();
                        Some(self.named_topic(&name, &topic.partition_indexes))
                    })
                    .collect()
            });
            response.groups.push(OffsetFetchResponseGroup {
                group_id: entry.group_id.clone(),
                topics: unknown,
                error_code: 0,
            });
            let group_id = entry.group_id.clone();
            let request = group::OffsetFetch { group_id, require_stable, topics };
            asked.push((entry.group_id, group::Request::OffsetFetch(request)));
        }
        self.ask_coordinators(now, ctx, response.into(), asked);
    }

    /// Names a topic with its id, if it has one now.
    fn named_topic(&self, name: &KafkaString, partitions: &[i32]) -> group::FetchTopic {
        group::FetchTopic {
            name: name.clone(),
            topic_id: self.image.topic_by_name(name).map_or(Uuid::ZERO, |topic| topic.id),
            partitions: partitions.iter().copied().map(PartitionIndex).collect(),
        }
    }
}

/// Returns the code that a topic or partition which is not there is answered with.
fn exists(
    topic: Result<&TopicImage, ErrorCode>,
    partition: PartitionIndex,
) -> Result<(), ErrorCode> {
    topic?.partition(partition).map(|_| ()).ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn unfilled(
    topic: &crate::wire::api::offset_fetch::OffsetFetchRequestTopic,
) -> OffsetFetchResponseTopic {
    let partitions = topic.partition_indexes.iter();
    OffsetFetchResponseTopic {
        name: topic.name.clone(),
        partitions: partitions
            .map(|&partition_index| OffsetFetchResponsePartition {
                partition_index,
                committed_offset: -1,
                ..OffsetFetchResponsePartition::default()
            })
            .collect(),
    }
}

fn without_topic(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter();
    OffsetFetchResponseTopics {
        topic_id: topic.topic_id,
        partitions: partitions
            .map(|&partition_index| OffsetFetchResponsePartitions {
                partition_index,
                committed_offset: -1,
                error_code: ErrorCode::UnknownTopicId.code(),
                ..OffsetFetchResponsePartitions::default()
            })
            .collect(),
        ..OffsetFetchResponseTopics::default()
    }
}

/// Writes the outcome of a commit into the places of its partitions.
pub(in crate::broker) fn fill_commit(
    response: &mut OffsetCommitResponse,
    places: &[(u32, u32)],
    outcome: &Result<group::OffsetCommitAnswer, ErrorCode>,
) {
    let codes = codes(outcome.as_ref().map(|answer| &answer.topics[..]), places.len());
    for (&(t, p), code) in places.iter().zip(codes) {
        response.topics[t as usize].partitions[p as usize].error_code = code.code();
    }
}

/// Writes the outcome of a commit in a transaction into the places of its partitions.
pub(in crate::broker) fn fill_staged(
    response: &mut TxnOffsetCommitResponse,
    places: &[(u32, u32)],
    outcome: &Result<group::OffsetCommitAnswer, ErrorCode>,
) {
    let codes = codes(outcome.as_ref().map(|answer| &answer.topics[..]), places.len());
    for (&(t, p), code) in places.iter().zip(codes) {
        response.topics[t as usize].partitions[p as usize].error_code = code.code();
    }
}

/// Writes the outcome of a deletion into the places of its partitions. An error of the whole leaves
/// no topics, as in Kafka.
pub(in crate::broker) fn fill_delete(
    response: &mut OffsetDeleteResponse,
    places: &[(u32, u32)],
    outcome: &Result<group::OffsetDeleteAnswer, ErrorCode>,
) {
    let whole = match outcome {
        Ok(answer) => answer.error,
        Err(code) => *code,
    };
    if whole != ErrorCode::None {
        response.error_code = whole.code();
        response.topics.clear();
        return;
    }
    let codes = codes(outcome.as_ref().map(|answer| &answer.topics[..]), places.len());
    for (&(t, p), code) in places.iter().skip(1).zip(codes) {
        response.topics[t as usize].partitions[p as usize].error_code = code.code();
    }
}

/// Lists the codes of all partitions in the order of the request.
fn codes(topics: Result<&[group::TopicErrors], &ErrorCode>, count: usize) -> Vec<ErrorCode> {
    match topics {
        Ok(topics) => {
            let partitions = topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|&(_, code)| code).collect()
        }
        Err(&code) => vec![code; count],
    }
}

/// Writes the offsets of the one group of an old version into the response.
pub(in crate::broker) fn fill_fetch(
    response: &mut OffsetFetchResponse,
    outcome: Result<group::OffsetFetchAnswer, ErrorCode>,
    version: i16,
) {
    let (whole, topics) = match outcome {
        Ok(answer) => (answer.error, answer.topics),
        Err(code) => (code, Vec::new()),
    };
    if whole == ErrorCode::None {
        let topics = topics.into_iter();
        response.topics = topics
            .map(|topic| OffsetFetchResponseTopic {
                name: topic.name,
                partitions: topic.partitions.into_iter().map(old_partition).collect(),
            })
            .collect();
    } else if version >= TOP_LEVEL_ERROR {
        response.error_code = whole.code();
        response.topics.clear();
    } else {
        for topic in &mut response.topics {
            for partition in &mut topic.partitions {
                partition.error_code = whole.code();
            }
        }
    }
}

fn old_partition(found: group::FetchedOffset) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: found.partition.0,
        committed_offset: found.offset,
        committed_leader_epoch: found.leader_epoch.0,
        metadata: Some(found.metadata),
        error_code: found.error.code(),
    }
}

/// Writes the offsets of one group among several into the response.
pub(in crate::broker) fn fill_fetch_of_group(
    entry: &mut OffsetFetchResponseGroup,
    outcome: Result<group::OffsetFetchAnswer, ErrorCode>,
    version: i16,
) {
    let answer = match outcome {
        Ok(answer) if answer.error == ErrorCode::None => answer,
        Ok(group::OffsetFetchAnswer { error: code, .. }) | Err(code) => {
            entry.error_code = code.code();
            entry.topics.clear();
            return;
        }
    };
    let is_nameless = |id: TopicId| version >= BY_ID && id.is_zero();
    let topics = answer.topics.into_iter().filter(|topic| !is_nameless(topic.topic_id));
    let found = topics.map(|topic| OffsetFetchResponseTopics {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic.partitions.into_iter().map(new_partition).collect(),
    });
    let unknown = std::mem::take(&mut entry.topics);
    entry.topics = found.chain(unknown).collect();
}

fn new_partition(found: group::FetchedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: found.partition.0,
        committed_offset: found.offset,
        committed_leader_epoch: found.leader_epoch.0,
        metadata: Some(found.metadata),
        error_code: found.error.code(),
    }
}
