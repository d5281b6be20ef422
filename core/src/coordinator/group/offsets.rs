//! Committed offsets: storing them, reading them, taking them away.

use std::collections::BTreeMap;

use super::api::{
    CommitTopic, FetchTopic, FetchedOffset, FetchedTopic, OffsetCommit, OffsetCommitAnswer,
    OffsetDelete, OffsetDeleteAnswer, OffsetFetch, OffsetFetchAnswer, Response, Ticket,
    TopicErrors,
};
use super::live::GroupPhase;
use super::replies::{append_error, commit_refused, no_offset};
use super::retention::DeletedTopics;
use super::stored::{StoredOffset, TopicOffsets};
use super::{Cx, GroupCoordinator};
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicId};
use crate::io::Mark;
use crate::wire::KafkaString;
use crate::wire::group_record::{GroupRecord, OffsetCommitKey, OffsetCommitValue};

/// First version in which an unknown group has a code of its own (KIP-848).
const FIRST_VERSION_WITH_UNKNOWN_GROUP: i16 = 9;
/// First version in which topics come by id.
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 10;

/// Who commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Committer {
    /// Whoever uses the group as a mere store.
    Nobody,
    /// A member, which last joined then.
    Member { joined: u64 },
}

impl GroupCoordinator {
    pub(super) fn offset_commit(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &OffsetCommit,
    ) {
        let answer = match self.try_commit(cx, request) {
            Ok(topics) => Response::OffsetCommit(OffsetCommitAnswer { topics }),
            Err(error) => {
                cx.log.mark(Mark::CommitRefused);
                commit_refused(&request.topics, error)
            }
        };
        self.replies.push(ticket, answer);
    }

    fn try_commit(
        &mut self,
        cx: &mut Cx<'_>,
        request: &OffsetCommit,
    ) -> Result<Vec<TopicErrors>, ErrorCode> {
        let committer = self.validate_commit(request)?;
        if let Some(group) = self.groups.get(&request.group_id)
            && matches!(group.phase(), GroupPhase::Stable | GroupPhase::PreparingRebalance)
        {
            // Clients of the first consumer protocol count on a commit as on a heartbeat.
            self.refresh_session(cx, &request.group_id, &request.member_id);
        }
        let now_ms = cx.now.wall.0;
        let expire_timestamp = match request.retention_time_ms {
            -1 => -1,
            kept => now_ms.saturating_add(kept),
        };
        let mut room = self.config.offsets_max.saturating_sub(self.stored.offset_count());
        let has_offsets = self.stored.offsets(&request.group_id).is_some();
        if !has_offsets && self.stored.all_offsets().len() >= self.config.groups_max {
            room = 0;
        }
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let stale = self.is_stale_name(request, committer, topic);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for one in &topic.partitions {
                let metadata = one.metadata.clone().unwrap_or_default();
                let known =
                    self.stored.offset(&request.group_id, &topic.name, one.partition.0).is_some();
                let error = if metadata.len() > self.config.offset_metadata_bytes_max {
                    ErrorCode::OffsetMetadataTooLarge
                } else if stale {
                    ErrorCode::UnknownTopicOrPartition
                } else if !known && room == 0 {
                    // Differs from Kafka: there is a limit, because nothing may grow without a
                    // bound.
                    ErrorCode::PolicyViolation
                } else {
                    room -= usize::from(!known);
                    let value = OffsetCommitValue {
                        offset: one.offset,
                        leader_epoch: one.leader_epoch.0,
                        metadata,
                        commit_timestamp: now_ms,
                        expire_timestamp,
                        topic_id: topic.topic_id,
                    };
                    let key = offset_key(&request.group_id, &topic.name, one.partition.0);
                    records.push(GroupRecord::OffsetCommit(key, Some(value)));
                    ErrorCode::None
                };
                partitions.push((one.partition, error));
            }
            topics.push(TopicErrors {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
            });
        }
        self.append(cx, &records).map_err(append_error)?;
        Ok(topics)
    }

    fn validate_commit(&self, request: &OffsetCommit) -> Result<Committer, ErrorCode> {
        let by_nobody = request.generation_id < 0;
        let Some(group) = self.groups.get(&request.group_id) else {
            return if by_nobody {
                Ok(Committer::Nobody)
            } else if self.stored.offsets(&request.group_id).is_some() {
                Err(ErrorCode::UnknownMemberId)
            } else if request.version >= FIRST_VERSION_WITH_UNKNOWN_GROUP {
                Err(ErrorCode::GroupIdNotFound)
            } else {
                Err(ErrorCode::IllegalGeneration)
            };
        };
        if by_nobody && group.phase() == GroupPhase::Empty {
            return Ok(Committer::Nobody);
        }
        group.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != group.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        if group.phase() == GroupPhase::CompletingRebalance {
            // The member has joined this generation, so it is told to finish doing so.
            return Err(ErrorCode::RebalanceInProgress);
        }
        let joined = group.member(&request.member_id).map_or(0, |member| member.joined);
        Ok(Committer::Member { joined })
    }

    /// Returns whether the name may mean a topic that is gone: a member that joined before the
    /// deletion speaks of the topic that it then knew, and not of one that has the name since.
    // Differs from Kafka: it would store the offset for the topic that has the name now.
    fn is_stale_name(
        &self,
        request: &OffsetCommit,
        committer: Committer,
        topic: &CommitTopic,
    ) -> bool {
        match committer {
            Committer::Member { joined } if request.version < FIRST_VERSION_WITH_TOPIC_IDS => {
                self.deleted_topics.deleted_after(&topic.name, joined)
            }
            Committer::Member { .. } | Committer::Nobody => false,
        }
    }

    pub(super) fn offset_fetch(&mut self, ticket: Ticket, request: &OffsetFetch) {
        let stored = self.stored.offsets(&request.group_id);
        let gone = &self.deleted_topics;
        let topics = request.topics.as_ref().map_or_else(
            || everything(stored, gone),
            |asked| asked.iter().map(|topic| asked_for(stored, topic, gone)).collect(),
        );
        let answer = OffsetFetchAnswer { error: ErrorCode::None, topics };
        self.replies.push(ticket, Response::OffsetFetch(answer));
    }

    pub(super) fn offset_delete(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &OffsetDelete,
    ) {
        let answer = match self.try_offset_delete(cx, request) {
            Ok(topics) => OffsetDeleteAnswer { error: ErrorCode::None, topics },
            Err(error) => OffsetDeleteAnswer { error, topics: Vec::new() },
        };
        self.replies.push(ticket, Response::OffsetDelete(answer));
    }

    fn try_offset_delete(
        &mut self,
        cx: &mut Cx<'_>,
        request: &OffsetDelete,
    ) -> Result<Vec<TopicErrors>, ErrorCode> {
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let group = self.groups.get(&request.group_id);
        match group {
            Some(group) if group.phase() == GroupPhase::Empty || group.uses_consumer_protocol() => {
            }
            Some(_) => return Err(ErrorCode::NonEmptyGroup),
            None if self.stored.offsets(&request.group_id).is_some() => {}
            None => return Err(ErrorCode::GroupIdNotFound),
        }
        let mut records = Vec::new();
        let mut delete = |topic: &FetchTopic, partition: PartitionIndex| {
            if group.is_some_and(|group| group.is_subscribed_to(&topic.name)) {
                return ErrorCode::GroupSubscribedToTopic;
            }
            if self.stored.offset(&request.group_id, &topic.name, partition.0).is_some() {
                let key = offset_key(&request.group_id, &topic.name, partition.0);
                records.push(GroupRecord::OffsetCommit(key, None));
            }
            ErrorCode::None
        };
        let topics = request
            .topics
            .iter()
            .map(|topic| TopicErrors {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: topic
                    .partitions
                    .iter()
                    .map(|&partition| (partition, delete(topic, partition)))
                    .collect(),
            })
            .collect();
        self.append(cx, &records).map_err(append_error)?;
        Ok(topics)
    }
}

/// Returns the key of a committed offset.
pub(super) fn offset_key(
    group: &KafkaString,
    topic: &KafkaString,
    partition: i32,
) -> OffsetCommitKey {
    OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition }
}

fn asked_for(
    stored: Option<&TopicOffsets>,
    topic: &FetchTopic,
    gone: &DeletedTopics,
) -> FetchedTopic {
    let stored = stored.and_then(|topics| topics.get(&topic.name));
    let partitions = topic
        .partitions
        .iter()
        .map(|&partition| {
            stored
                .and_then(|partitions| partitions.get(&partition.0))
                .filter(|stored| same_topic(stored.topic_id, topic.topic_id))
                .filter(|stored| !gone.is_gone(&topic.name, stored.topic_id))
                .map_or_else(|| no_offset(partition), |stored| fetched(partition, stored))
        })
        .collect();
    FetchedTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions }
}

fn everything(stored: Option<&TopicOffsets>, gone: &DeletedTopics) -> Vec<FetchedTopic> {
    // Offsets under one name may be of several topics, if some were stored long ago.
    let mut topics = BTreeMap::<(&KafkaString, TopicId), Vec<FetchedOffset>>::new();
    for (name, partitions) in stored.into_iter().flatten() {
        let there = partitions.iter().filter(|(_, stored)| !gone.is_gone(name, stored.topic_id));
        for (&partition, stored) in there {
            let offset = fetched(PartitionIndex(partition), stored);
            topics.entry((name, stored.topic_id)).or_default().push(offset);
        }
    }
    topics
        .into_iter()
        .map(|((name, topic_id), partitions)| FetchedTopic {
            name: name.clone(),
            topic_id,
            partitions,
        })
        .collect()
}

fn same_topic(stored: TopicId, asked: TopicId) -> bool {
    stored.is_zero() || asked.is_zero() || stored == asked
}

fn fetched(partition: PartitionIndex, stored: &StoredOffset) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: stored.offset,
        leader_epoch: stored.leader_epoch,
        metadata: stored.metadata.clone(),
    }
}
