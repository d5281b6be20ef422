//! Committed offsets: storing them, reading them, taking them away.

use std::collections::BTreeMap;

use super::api::{
    CommitTopic, FetchTopic, FetchedOffset, FetchedTopic, OffsetCommit, OffsetCommitAnswer,
    OffsetDelete, OffsetDeleteAnswer, OffsetFetch, OffsetFetchAnswer, Response, Ticket,
    TopicErrors, TransactionalProducer,
};
use super::live::GroupPhase;
use super::replies::{append_error, commit_refused, no_offset};
use super::retention::DeletedTopics;
use super::staged::Staged;
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

/// What a commit says besides its offsets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit<'a> {
    pub(super) group_id: &'a KafkaString,
    pub(super) committer: Committer,
    /// Whether the client named the topics, and gave no ids.
    pub(super) by_name: bool,
    pub(super) timestamp: i64,
    pub(super) expire_timestamp: i64,
    /// Whose transaction it is part of.
    pub(super) producer: Option<TransactionalProducer>,
}

/// Who commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Committer {
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
                Response::OffsetCommit(commit_refused(&request.topics, error))
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
        let expire_timestamp = match request.retention_time_ms {
            -1 => -1,
            kept => cx.now.wall.0.saturating_add(kept),
        };
        let commit = Commit {
            group_id: &request.group_id,
            committer,
            by_name: request.version < FIRST_VERSION_WITH_TOPIC_IDS,
            timestamp: cx.now.wall.0,
            expire_timestamp,
            producer: None,
        };
        self.store(cx, commit, &request.topics)
    }

    /// Appends what may be stored of the offsets, and tells what became of each.
    pub(super) fn store(
        &mut self,
        cx: &mut Cx<'_>,
        commit: Commit<'_>,
        topics: &[CommitTopic],
    ) -> Result<Vec<TopicErrors>, ErrorCode> {
        let taken = self.stored.offset_count() + self.stored.staged().count();
        let mut room = self.config.offsets_max.saturating_sub(taken);
        let group_id = commit.group_id;
        if !self.stored.has_offsets(group_id)
            && self.stored.groups_with_offsets().len() >= self.config.groups_max
        {
            room = 0;
        }
        let mut records = Vec::new();
        let mut answered = Vec::with_capacity(topics.len());
        for topic in topics {
            let stale = self.is_stale_name(&commit, topic);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for one in &topic.partitions {
                let metadata = one.metadata.clone().unwrap_or_default();
                let partition = one.partition.0;
                let known = match commit.producer {
                    Some(one) => {
                        self.stored.staged().has_of(one.id, group_id, &topic.name, partition)
                    }
                    None => self.stored.offset(group_id, &topic.name, partition).is_some(),
                };
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
                        commit_timestamp: commit.timestamp,
                        expire_timestamp: commit.expire_timestamp,
                        topic_id: topic.topic_id,
                    };
                    let key = offset_key(group_id, &topic.name, partition);
                    records.push(GroupRecord::OffsetCommit(key, Some(value)));
                    ErrorCode::None
                };
                partitions.push((one.partition, error));
            }
            answered.push(TopicErrors {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
            });
        }
        self.append_of(cx, commit.producer, &records).map_err(append_error)?;
        Ok(answered)
    }

    fn validate_commit(&self, request: &OffsetCommit) -> Result<Committer, ErrorCode> {
        let by_nobody = request.generation_id < 0;
        let Some(group) = self.groups.get(&request.group_id) else {
            return if by_nobody {
                Ok(Committer::Nobody)
            } else if self.stored.has_offsets(&request.group_id) {
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
    fn is_stale_name(&self, commit: &Commit<'_>, topic: &CommitTopic) -> bool {
        match commit.committer {
            Committer::Member { joined } if commit.by_name => {
                self.deleted_topics.deleted_after(&topic.name, joined)
            }
            Committer::Member { .. } | Committer::Nobody => false,
        }
    }

    pub(super) fn offset_fetch(&mut self, ticket: Ticket, request: &OffsetFetch) {
        let read = Read {
            stored: self.stored.offsets(&request.group_id),
            staged: request.require_stable.then(|| (self.stored.staged(), &request.group_id)),
            gone: &self.deleted_topics,
        };
        let topics = match &request.topics {
            Some(asked) => asked.iter().map(|topic| read.asked_for(topic)).collect(),
            None => read.everything(),
        };
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
            None if self.stored.has_offsets(&request.group_id) => {}
            None => return Err(ErrorCode::GroupIdNotFound),
        }
        let mut records = Vec::new();
        let mut delete = |topic: &FetchTopic, partition: PartitionIndex| {
            if group.is_some_and(|group| group.is_subscribed_to(&topic.name)) {
                return ErrorCode::GroupSubscribedToTopic;
            }
            let (group_id, name) = (&request.group_id, &topic.name);
            if self.stored.offset(group_id, name, partition.0).is_some()
                || self.stored.staged().has(group_id, name, partition.0)
            {
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

/// What a read of a group's offsets looks at.
struct Read<'a> {
    stored: Option<&'a TopicOffsets>,
    /// What makes an offset unstable, if that matters.
    staged: Option<(&'a Staged, &'a KafkaString)>,
    gone: &'a DeletedTopics,
}

impl Read<'_> {
    fn asked_for(&self, topic: &FetchTopic) -> FetchedTopic {
        let stored = self.stored.and_then(|topics| topics.get(&topic.name));
        let gone = self.gone;
        let partitions = topic
            .partitions
            .iter()
            .map(|&partition| {
                if self.is_unstable(&topic.name, partition.0) {
                    return unstable(partition);
                }
                stored
                    .and_then(|partitions| partitions.get(&partition.0))
                    .filter(|stored| same_topic(stored.topic_id, topic.topic_id))
                    .filter(|stored| !gone.is_gone(&topic.name, stored.topic_id))
                    .map_or_else(|| no_offset(partition), |stored| fetched(partition, stored))
            })
            .collect();
        FetchedTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions }
    }

    fn everything(&self) -> Vec<FetchedTopic> {
        // Offsets under one name may be of several topics, if some were stored long ago.
        let mut topics = BTreeMap::<(&KafkaString, TopicId), Vec<FetchedOffset>>::new();
        for (name, partitions) in self.stored.into_iter().flatten() {
            let there =
                partitions.iter().filter(|(_, stored)| !self.gone.is_gone(name, stored.topic_id));
            for (&partition, stored) in there {
                let index = PartitionIndex(partition);
                let offset = if self.is_unstable(name, partition) {
                    unstable(index)
                } else {
                    fetched(index, stored)
                };
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

    fn is_unstable(&self, topic: &str, partition: i32) -> bool {
        self.staged.is_some_and(|(staged, group)| staged.has(group, topic, partition))
    }
}

/// Returns what is said of an offset that a transaction may yet change.
fn unstable(partition: PartitionIndex) -> FetchedOffset {
    FetchedOffset { error: ErrorCode::UnstableOffsetCommit, ..no_offset(partition) }
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
        error: ErrorCode::None,
    }
}
