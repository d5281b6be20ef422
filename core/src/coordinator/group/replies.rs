//! Replies that wait until what they rest on is committed, and refusals in the form of each request.
//!
//! A reply may rest on any record that was applied before it was decided, errors and reads too. So
//! all of them leave in the order of the decisions, and none before the high watermark has come to
//! the end of the log at that time.

use std::collections::VecDeque;

use bytes::Bytes;

use super::api::{CommitTopic, FetchTopic};
use super::api::{
    DescribeGroupAnswer, FetchedOffset, FetchedTopic, JoinGroupAnswer, LeaveGroupAnswer,
    ListGroupsAnswer, OffsetCommitAnswer, OffsetDeleteAnswer, OffsetFetch, OffsetFetchAnswer,
    Request, Response, SyncGroupAnswer, Ticket, TopicErrors, TxnOffsetCommit,
};
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex};
use crate::wire::KafkaString;

/// First version of `TxnOffsetCommit` whose clients know that a coordinator may be loading.
const FIRST_TXN_VERSION_WITH_LOADING: i16 = 2;

/// A reply, and the end of the log that must be committed before it leaves.
#[derive(Clone, Debug)]
pub(super) struct Held {
    needs: Offset,
    pub(super) ticket: Ticket,
    pub(super) response: Response,
}

/// Replies in the order of their decisions.
#[derive(Clone, Default, Debug)]
pub(super) struct Replies {
    held: VecDeque<Held>,
    end: Offset,
    high_watermark: Offset,
}

impl Replies {
    /// Notes that the log ends there, with everything applied.
    pub(super) fn rest_on(&mut self, end: Offset) {
        assert!(end >= self.end, "a coordinator's log does not shrink under it");
        self.end = end;
    }

    /// Returns the end of the log, with everything applied.
    pub(super) const fn end(&self) -> Offset {
        self.end
    }

    /// Returns what is committed.
    pub(super) const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Notes that everything below is committed.
    pub(super) fn committed(&mut self, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(high_watermark);
    }

    /// Puts in a reply that rests on everything applied so far.
    pub(super) fn push(&mut self, ticket: Ticket, response: Response) {
        self.held.push_back(Held { needs: self.end, ticket, response });
    }

    /// Takes the next reply that may leave.
    pub(super) fn pop(&mut self) -> Option<Held> {
        if self.held.front()?.needs > self.high_watermark {
            return None;
        }
        self.held.pop_front()
    }

    /// Takes every reply, committed or not.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Held> {
        self.held.drain(..)
    }

    /// Returns the replies that are held.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }
}

impl Request {
    /// Returns the answer that says no to the whole request.
    pub fn refused(&self, error: ErrorCode) -> Response {
        match self {
            Self::JoinGroup(request) => join_refused(request.member_id.clone(), error),
            Self::SyncGroup(_) => sync_refused(error),
            Self::Heartbeat(_) => Response::Heartbeat(error),
            Self::LeaveGroup(_) => {
                Response::LeaveGroup(LeaveGroupAnswer { error, members: Vec::new() })
            }
            Self::OffsetCommit(request) => {
                Response::OffsetCommit(commit_refused(&request.topics, error))
            }
            Self::TxnOffsetCommit(request) => {
                Response::TxnOffsetCommit(commit_refused(&request.topics, request.told(error)))
            }
            Self::OffsetFetch(request) => fetch_refused(request, error),
            Self::OffsetDelete(_) => {
                Response::OffsetDelete(OffsetDeleteAnswer { error, topics: Vec::new() })
            }
            Self::DescribeGroup(request) => describe_refused(request.group_id.clone(), error),
            Self::ListGroups(_) => {
                Response::ListGroups(ListGroupsAnswer { error, groups: Vec::new() })
            }
            Self::DeleteGroup(_) => Response::DeleteGroup(error),
        }
    }
}

impl Response {
    /// Returns the answer that says no instead, to the same request.
    #[must_use]
    pub fn refused(&self, error: ErrorCode) -> Self {
        match self {
            Self::JoinGroup(answer) => join_refused(answer.member_id.clone(), error),
            Self::SyncGroup(_) => sync_refused(error),
            Self::Heartbeat(_) => Self::Heartbeat(error),
            Self::LeaveGroup(_) => {
                Self::LeaveGroup(LeaveGroupAnswer { error, members: Vec::new() })
            }
            Self::OffsetCommit(answer) => Self::OffsetCommit(answer.refused(error)),
            Self::TxnOffsetCommit(answer) => Self::TxnOffsetCommit(answer.refused(error)),
            Self::OffsetFetch(answer) => {
                let mut topics = answer.topics.clone();
                for offset in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    *offset = no_offset(offset.partition);
                }
                Self::OffsetFetch(OffsetFetchAnswer { error, topics })
            }
            Self::OffsetDelete(_) => {
                Self::OffsetDelete(OffsetDeleteAnswer { error, topics: Vec::new() })
            }
            Self::DescribeGroup(answer) => describe_refused(answer.group_id.clone(), error),
            Self::ListGroups(_) => Self::ListGroups(ListGroupsAnswer { error, groups: Vec::new() }),
            Self::DeleteGroup(_) => Self::DeleteGroup(error),
        }
    }
}

impl OffsetCommitAnswer {
    fn refused(&self, error: ErrorCode) -> Self {
        let mut topics = self.topics.clone();
        for (_, was) in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            *was = error;
        }
        Self { topics }
    }
}

impl TxnOffsetCommit {
    /// Returns the code in words that the client knows: old ones may end by that of a coordinator
    /// that loads (KAFKA-7296).
    fn told(&self, error: ErrorCode) -> ErrorCode {
        if self.version < FIRST_TXN_VERSION_WITH_LOADING
            && error == ErrorCode::CoordinatorLoadInProgress
        {
            return ErrorCode::CoordinatorNotAvailable;
        }
        error
    }
}

/// Returns the answer to a `JoinGroup` that failed.
pub(super) const fn join_refused(member_id: KafkaString, error: ErrorCode) -> Response {
    Response::JoinGroup(JoinGroupAnswer {
        error,
        generation_id: -1,
        protocol_type: None,
        protocol_name: None,
        leader: KafkaString::from_static(""),
        skip_assignment: false,
        member_id,
        members: Vec::new(),
    })
}

/// Returns the answer to a `SyncGroup` that failed.
pub(super) const fn sync_refused(error: ErrorCode) -> Response {
    Response::SyncGroup(SyncGroupAnswer {
        error,
        protocol_type: None,
        protocol_name: None,
        assignment: Bytes::new(),
    })
}

/// Returns the answer to a commit that failed as a whole.
pub(super) fn commit_refused(topics: &[CommitTopic], error: ErrorCode) -> OffsetCommitAnswer {
    let topics = topics
        .iter()
        .map(|topic| TopicErrors {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(|one| (one.partition, error)).collect(),
        })
        .collect();
    OffsetCommitAnswer { topics }
}

fn fetch_refused(request: &OffsetFetch, error: ErrorCode) -> Response {
    let none = |topic: &FetchTopic| FetchedTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(|&partition| no_offset(partition)).collect(),
    };
    let topics = request.topics.iter().flatten().map(none).collect();
    Response::OffsetFetch(OffsetFetchAnswer { error, topics })
}

fn describe_refused(group_id: KafkaString, error: ErrorCode) -> Response {
    Response::DescribeGroup(DescribeGroupAnswer {
        error,
        error_message: None,
        group_id,
        group_state: "",
        protocol_type: KafkaString::default(),
        protocol_data: KafkaString::default(),
        members: Vec::new(),
    })
}

/// Returns what is said of a partition without a stored offset.
pub(super) const fn no_offset(partition: PartitionIndex) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: -1,
        leader_epoch: LeaderEpoch::UNKNOWN,
        metadata: KafkaString::from_static(""),
        error: ErrorCode::None,
    }
}

/// Returns what a client is told where the log has taken nothing, in Kafka's words: it is to look
/// for the coordinator again, or to give up where trying again would not help.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are told as they are")]
pub(super) const fn append_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize
        | ErrorCode::CorruptMessage => ErrorCode::UnknownServerError,
        other => other,
    }
}
