//! The door of a group coordinator: what it is asked, what it answers, and what it needs around it.
//!
//! One coordinator serves one partition of `__consumer_offsets` and owns the groups that
//! [`partition_of`](super::placement::partition_of) puts there. Requests that name several groups are
//! split before they come here. Names, numbers and defaults are those of the protocol; what differs
//! between versions is decided by the `version` that a request carries, where it carries one.
//!
//! Whoever calls has checked that the client may do it, has resolved topic ids and names against
//! each other, and has answered topics and partitions that do not exist by itself.

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, Uuid};
use crate::io::Mark;
use crate::time::{Now, UnixMillis};
use crate::wire::KafkaString;

/// Names a request until its reply; given by the caller, never used twice by it.
///
/// A reply whose asker is gone still comes in its turn, and is dropped by the caller: a member stays
/// in its group until its session ends, as in Kafka, whatever becomes of its connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// A record as it stands in `__consumer_offsets`. No value is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRecord {
    /// The key, with the number of its kind in front.
    pub key: Bytes,
    /// The value, with its version in front.
    pub value: Option<Bytes>,
}

/// The producer in whose transaction records are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactionalProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// An offset that can be read from now on, because its transaction was committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VisibleOffset {
    /// The group.
    pub group_id: KafkaString,
    /// The name of the topic.
    pub topic: KafkaString,
    /// The partition.
    pub partition: PartitionIndex,
    /// The topic's id; zero where it is not known.
    pub topic_id: TopicId,
    /// The next offset to read.
    pub offset: i64,
}

/// What a coordinator needs around it while it decides.
pub trait GroupLog {
    /// Appends the records as one batch to the coordinator's partition, and returns the offset of
    /// the first. They need not be stable yet: replies wait for the high watermark.
    ///
    /// # Errors
    /// The code that a produce of this batch would be answered with. Nothing was appended then.
    fn append(&mut self, records: &[LogRecord]) -> Result<Offset, ErrorCode>;

    /// Appends the records as one batch of the producer's transaction, as [`append`](Self::append)
    /// does without one. Whoever implements it sees to it that the producer's epoch is no older one
    /// and that the transaction is open: its coordinator has vouched for it, or did when this log
    /// took the first batch of it.
    ///
    /// # Errors
    /// The code that a produce of this batch would be answered with, `INVALID_PRODUCER_EPOCH` and
    /// `INVALID_TXN_STATE` among them. Nothing was appended then.
    fn append_transactional(
        &mut self,
        producer: TransactionalProducer,
        records: &[LogRecord],
    ) -> Result<Offset, ErrorCode>;

    /// Draws an id that was never used, for a member.
    fn next_id(&mut self) -> Uuid;

    /// Reports that a rare state was reached.
    fn mark(&mut self, _mark: Mark) {}

    /// Returns the wall time that retention counts by; `None` while the clock is in doubt, and
    /// nothing expires then.
    fn retention_time(&mut self, now: Now) -> Option<UnixMillis>;
}

/// What a coordinator is asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Join a group, or join it again.
    JoinGroup(JoinGroup),
    /// Hand in the assignment, and fetch one's own.
    SyncGroup(SyncGroup),
    /// Say that a member is alive.
    Heartbeat(Heartbeat),
    /// Take members out.
    LeaveGroup(LeaveGroup),
    /// Store offsets.
    OffsetCommit(OffsetCommit),
    /// Store offsets when a transaction is committed.
    TxnOffsetCommit(TxnOffsetCommit),
    /// Read stored offsets.
    OffsetFetch(OffsetFetch),
    /// Take stored offsets away.
    OffsetDelete(OffsetDelete),
    /// Tell what a group is.
    DescribeGroup(DescribeGroup),
    /// Name the groups.
    ListGroups(ListGroups),
    /// Take a group and its offsets away.
    DeleteGroup(DeleteGroup),
}

/// What a coordinator answers, by the request of the same name.
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    /// To [`Request::JoinGroup`].
    JoinGroup(JoinGroupAnswer),
    /// To [`Request::SyncGroup`].
    SyncGroup(SyncGroupAnswer),
    /// To [`Request::Heartbeat`].
    Heartbeat(ErrorCode),
    /// To [`Request::LeaveGroup`].
    LeaveGroup(LeaveGroupAnswer),
    /// To [`Request::OffsetCommit`].
    OffsetCommit(OffsetCommitAnswer),
    /// To [`Request::TxnOffsetCommit`].
    TxnOffsetCommit(OffsetCommitAnswer),
    /// To [`Request::OffsetFetch`].
    OffsetFetch(OffsetFetchAnswer),
    /// To [`Request::OffsetDelete`].
    OffsetDelete(OffsetDeleteAnswer),
    /// To [`Request::DescribeGroup`].
    DescribeGroup(DescribeGroupAnswer),
    /// To [`Request::ListGroups`].
    ListGroups(ListGroupsAnswer),
    /// To [`Request::DeleteGroup`].
    DeleteGroup(ErrorCode),
}

/// Join a group, or join it again.
#[derive(Clone, PartialEq, Debug)]
pub struct JoinGroup {
    /// Version of the request: from 4 on a dynamic member is given its id first, from 9 on a leader
    /// that comes back is told to skip the assignment (KIP-394, KIP-814).
    pub version: i16,
    /// The group.
    pub group_id: KafkaString,
    /// Without a heartbeat for so long the member is taken out.
    pub session_timeout_ms: i32,
    /// How long the others wait for this member when the group rebalances; -1 (version 0) means the
    /// session timeout.
    pub rebalance_timeout_ms: i32,
    /// The member, empty for a new one.
    pub member_id: KafkaString,
    /// The name of a static member (KIP-345).
    pub group_instance_id: Option<KafkaString>,
    /// Kind of the group, such as `consumer`.
    pub protocol_type: KafkaString,
    /// The protocols that the member knows, the one it likes best first.
    pub protocols: Vec<JoinProtocol>,
    /// Why it joins, for the log (KIP-800).
    pub reason: Option<KafkaString>,
    /// Name that the client gave itself, empty for none.
    pub client_id: KafkaString,
    /// Where it comes from, in Kafka's form: `/127.0.0.1`.
    pub client_host: KafkaString,
}

/// A protocol that a member knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinProtocol {
    /// Its name, such as `range`.
    pub name: KafkaString,
    /// What the member says in it, opaque to the coordinator.
    pub metadata: Bytes,
}

/// How a member joined.
#[derive(Clone, PartialEq, Debug)]
pub struct JoinGroupAnswer {
    /// `NONE`, or why not.
    pub error: ErrorCode,
    /// The generation, -1 with an error.
    pub generation_id: i32,
    /// Kind of the group.
    pub protocol_type: Option<KafkaString>,
    /// The protocol that was voted.
    pub protocol_name: Option<KafkaString>,
    /// The member that assigns, empty with an error.
    pub leader: KafkaString,
    /// Whether the leader keeps the assignment that is there.
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: KafkaString,
    /// All members, for the leader alone.
    pub members: Vec<JoinedMember>,
}

/// A member, as the leader sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: KafkaString,
    /// Its name, if it is static.
    pub group_instance_id: Option<KafkaString>,
    /// What it says in the protocol that was voted.
    pub metadata: Bytes,
}

/// Hand in the assignment, and fetch one's own.
#[derive(Clone, PartialEq, Debug)]
pub struct SyncGroup {
    /// The group.
    pub group_id: KafkaString,
    /// The generation that the member joined.
    pub generation_id: i32,
    /// The member.
    pub member_id: KafkaString,
    /// Its name, if it is static.
    pub group_instance_id: Option<KafkaString>,
    /// Kind of the group, checked where it is there (version 5).
    pub protocol_type: Option<KafkaString>,
    /// The protocol, checked where it is there (version 5).
    pub protocol_name: Option<KafkaString>,
    /// By member, from the leader alone.
    pub assignments: Vec<Assignment>,
}

/// What a member is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// The member.
    pub member_id: KafkaString,
    /// Opaque to the coordinator.
    pub assignment: Bytes,
}

/// What the member is to do.
#[derive(Clone, PartialEq, Debug)]
pub struct SyncGroupAnswer {
    /// `NONE`, or why not.
    pub error: ErrorCode,
    /// Kind of the group.
    pub protocol_type: Option<KafkaString>,
    /// The protocol.
    pub protocol_name: Option<KafkaString>,
    /// Opaque, empty with an error.
    pub assignment: Bytes,
}

/// Say that a member is alive.
#[derive(Clone, PartialEq, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group_id: KafkaString,
    /// The generation that the member joined.
    pub generation_id: i32,
    /// The member.
    pub member_id: KafkaString,
    /// Its name, if it is static.
    pub group_instance_id: Option<KafkaString>,
}

/// Take members out; one of them up to version 2.
#[derive(Clone, PartialEq, Debug)]
pub struct LeaveGroup {
    /// The group.
    pub group_id: KafkaString,
    /// The members.
    pub members: Vec<LeavingMember>,
}

/// A member that leaves or is taken out.
#[derive(Clone, PartialEq, Debug)]
pub struct LeavingMember {
    /// The member; empty where an administrator names a static one by its name alone.
    pub member_id: KafkaString,
    /// Its name, if it is static.
    pub group_instance_id: Option<KafkaString>,
    /// Why, for the log (KIP-800).
    pub reason: Option<KafkaString>,
}

/// Who has left.
#[derive(Clone, PartialEq, Debug)]
pub struct LeaveGroupAnswer {
    /// What went wrong with the whole request. Up to version 2 the error of the one member takes its
    /// place.
    pub error: ErrorCode,
    /// Each member that was named, in order; none where the request failed as a whole.
    pub members: Vec<LeftMember>,
}

/// How it went with one member.
#[derive(Clone, PartialEq, Debug)]
pub struct LeftMember {
    /// As it was named.
    pub member_id: KafkaString,
    /// As it was named.
    pub group_instance_id: Option<KafkaString>,
    /// `NONE`, or why it was not taken out.
    pub error: ErrorCode,
}

/// Store offsets.
#[derive(Clone, PartialEq, Debug)]
pub struct OffsetCommit {
    /// Version of the request: below 9 an unknown group with a generation is `ILLEGAL_GENERATION`;
    /// below 10 topics came by name.
    pub version: i16,
    /// The group.
    pub group_id: KafkaString,
    /// The generation, below zero from whoever uses the group as a mere store.
    pub generation_id: i32,
    /// The member, empty for none.
    pub member_id: KafkaString,
    /// Its name, if it is static.
    pub group_instance_id: Option<KafkaString>,
    /// How long the offsets are kept from this moment on (versions 2 to 4); -1 for the broker's rule.
    pub retention_time_ms: i64,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// Store offsets when a transaction is committed (KIP-98, KIP-447). Whoever calls has seen to it that
/// the producer speaks for its transactional id.
#[derive(Clone, PartialEq, Debug)]
pub struct TxnOffsetCommit {
    /// Version of the request: below 2 a coordinator that loads says so by another code.
    pub version: i16,
    /// Whose transaction it is.
    pub producer: TransactionalProducer,
    /// The group.
    pub group_id: KafkaString,
    /// The generation; below zero, without a member, from clients that do not tell (below version 3).
    pub generation_id: i32,
    /// The member, empty for none.
    pub member_id: KafkaString,
    /// Its name, if it is static.
    pub group_instance_id: Option<KafkaString>,
    /// The offsets. Topics come by name in every version.
    pub topics: Vec<CommitTopic>,
}

/// Offsets of a topic to be stored.
#[derive(Clone, PartialEq, Debug)]
pub struct CommitTopic {
    /// The name of the topic.
    pub name: KafkaString,
    /// Its id; zero where it is not known.
    pub topic_id: TopicId,
    /// The offsets.
    pub partitions: Vec<CommitPartition>,
}

/// An offset to be stored.
#[derive(Clone, PartialEq, Debug)]
pub struct CommitPartition {
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset to read. No bound is put on it.
    pub offset: i64,
    /// Epoch of the last record that was read, -1 for none.
    pub leader_epoch: LeaderEpoch,
    /// The client's own words.
    pub metadata: Option<KafkaString>,
}

/// How it went, topic by topic in the order of the request.
#[derive(Clone, PartialEq, Debug)]
pub struct OffsetCommitAnswer {
    /// The topics.
    pub topics: Vec<TopicErrors>,
}

/// What became of the partitions of one topic.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicErrors {
    /// As it was named.
    pub name: KafkaString,
    /// As it was named.
    pub topic_id: TopicId,
    /// Each partition with `NONE`, or why nothing was done with it.
    pub partitions: Vec<(PartitionIndex, ErrorCode)>,
}

/// Read stored offsets.
#[derive(Clone, PartialEq, Debug)]
pub struct OffsetFetch {
    /// The group.
    pub group_id: KafkaString,
    /// Whether an offset that a transaction may yet change is not told but is an error,
    /// `UNSTABLE_OFFSET_COMMIT` (KIP-447).
    pub require_stable: bool,
    /// What is asked for; `None` for all that is stored.
    pub topics: Option<Vec<FetchTopic>>,
}

/// Partitions of a topic whose offsets are asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct FetchTopic {
    /// The name of the topic.
    pub name: KafkaString,
    /// Its id; zero where it is not known. Offsets of a topic that once had the name, with another
    /// id, are not handed out.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// Stored offsets.
#[derive(Clone, PartialEq, Debug)]
pub struct OffsetFetchAnswer {
    /// `NONE`, or what went wrong with the group. Versions below 2 put it on each partition, and
    /// `topics` is filled for that.
    pub error: ErrorCode,
    /// The topics.
    pub topics: Vec<FetchedTopic>,
}

/// Stored offsets of a topic.
#[derive(Clone, PartialEq, Debug)]
pub struct FetchedTopic {
    /// The name under which they were stored.
    pub name: KafkaString,
    /// The topic's id; zero where it is not known.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<FetchedOffset>,
}

/// A stored offset.
#[derive(Clone, PartialEq, Debug)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset to read, -1 where none is stored.
    pub offset: i64,
    /// Epoch of the last record that was read, -1 for none.
    pub leader_epoch: LeaderEpoch,
    /// The client's own words, empty for none.
    pub metadata: KafkaString,
    /// `NONE`, or why it is not told.
    pub error: ErrorCode,
}

/// Take stored offsets away.
#[derive(Clone, PartialEq, Debug)]
pub struct OffsetDelete {
    /// The group.
    pub group_id: KafkaString,
    /// The offsets.
    pub topics: Vec<FetchTopic>,
}

/// What became of it.
#[derive(Clone, PartialEq, Debug)]
pub struct OffsetDeleteAnswer {
    /// `NONE`, or what went wrong with the whole request; no topics then.
    pub error: ErrorCode,
    /// The topics.
    pub topics: Vec<TopicErrors>,
}

/// Tell what a group is.
#[derive(Clone, PartialEq, Debug)]
pub struct DescribeGroup {
    /// Version of the request: from 6 on a group that does not exist is an error (KIP-1043).
    pub version: i16,
    /// The group.
    pub group_id: KafkaString,
}

/// What a group is.
#[derive(Clone, PartialEq, Debug)]
pub struct DescribeGroupAnswer {
    /// `NONE`, or why it cannot be told.
    pub error: ErrorCode,
    /// The error in words (version 6).
    pub error_message: Option<String>,
    /// The group.
    pub group_id: KafkaString,
    /// Kafka's name of its state, empty where it cannot be told.
    pub group_state: &'static str,
    /// Kind of the group, empty for none.
    pub protocol_type: KafkaString,
    /// The protocol, while the group is stable; else empty.
    pub protocol_data: KafkaString,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member of a group.
#[derive(Clone, PartialEq, Debug)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: KafkaString,
    /// Its name, if it is static.
    pub group_instance_id: Option<KafkaString>,
    /// Name that its client gave itself.
    pub client_id: KafkaString,
    /// Where it came from.
    pub client_host: KafkaString,
    /// What it says in the protocol, while the group is stable; else empty.
    pub metadata: Bytes,
    /// What it is to do, or was before the rebalance that goes on.
    pub assignment: Bytes,
}

/// Name the groups.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct ListGroups {
    /// Only groups in these states, in any case of letters; empty for all.
    pub states_filter: Vec<KafkaString>,
    /// Only groups of these types, in any case of letters; empty for all.
    pub types_filter: Vec<KafkaString>,
}

/// The groups.
#[derive(Clone, PartialEq, Debug)]
pub struct ListGroupsAnswer {
    /// `NONE`, or why they cannot be named.
    pub error: ErrorCode,
    /// The groups, ordered by id.
    pub groups: Vec<ListedGroup>,
}

/// A group.
#[derive(Clone, PartialEq, Debug)]
pub struct ListedGroup {
    /// Its id.
    pub group_id: KafkaString,
    /// Kind of the group, empty for none.
    pub protocol_type: KafkaString,
    /// Kafka's name of its state.
    pub group_state: &'static str,
    /// `classic`.
    pub group_type: &'static str,
}

/// Take a group and its offsets away.
#[derive(Clone, PartialEq, Debug)]
pub struct DeleteGroup {
    /// The group.
    pub group_id: KafkaString,
}
