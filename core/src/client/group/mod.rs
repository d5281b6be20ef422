//! Membership of a classic consumer group, and the group's stored offsets.
//!
//! The machine finds the coordinator, joins, assigns where it is the leader, keeps the membership by
//! heartbeats, and stores and asks for offsets. It never takes a partition from its user by itself:
//! it tells what is to be given up ([`GroupEvent::Revoke`]) and joins again once the user has said
//! that it is ([`Group::revoked`]), so that offsets can be stored in between. Only what is lost is
//! lost without asking: the group has given it to others already.
//!
//! It uses no topics' records: [`consumer`](super::consumer) reads what it is given here.
//!
//! Invariants:
//! 1. Between two members of a group that both follow the rules no partition is held twice: what is
//!    given up is told before the join that gives it away.
//! 2. A commit is sent only in the generation that the partition is held in, or as that of a reader
//!    without membership.
//! 3. Every commit and every question for offsets is answered once.
//!
//! Source: Kafka protocol guide; KIP-62 (rebalance timeout), 345 (static members), 394 (member ids),
//! 429 (cooperative), 447 (stable offsets), 800 (reasons), 814 (a leader's skipped assignment).

pub mod assignor;
mod coordinator;
pub mod fuzz;
mod membership;
mod offsets;
pub mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use self::assignor::{Assignor, RebalanceProtocol};
use self::coordinator::Coordinator;
use self::membership::{Membership, Stage};
use self::offsets::Offsets;
use super::metadata::Metadata;
use super::network::{Network, NetworkConfig};
use super::producer::accumulator::Place;
use super::{ClientError, Effect, Input};
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset};
use crate::time::{Instant, Now};
use crate::wire::KafkaString;

/// What a group machine is told at its birth. Names and defaults are those of Kafka's consumer.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Connections and metadata.
    pub network: NetworkConfig,
    /// The group (`group.id`).
    pub group_id: KafkaString,
    /// The name that makes it a static member (`group.instance.id`).
    pub instance_id: Option<KafkaString>,
    /// Where the member is (`client.rack`); leaders of other clients may look at it.
    pub rack: Option<KafkaString>,
    /// Silence after which the coordinator takes a member for dead (`session.timeout.ms`).
    pub session_timeout: Duration,
    /// Pause between heartbeats (`heartbeat.interval.ms`).
    pub heartbeat_interval: Duration,
    /// How long the group waits for a member to give up partitions and join again
    /// (`max.poll.interval.ms`).
    pub rebalance_timeout: Duration,
    /// Rules that this member can live with, the preferred one first
    /// (`partition.assignment.strategy`). One that is eager makes the member eager.
    pub assignors: Vec<Assignor>,
    /// Whether offsets of open transactions are waited for (`isolation.level`).
    pub require_stable: bool,
    /// Longest time that a commit or a question for offsets takes (`default.api.timeout.ms`).
    pub api_timeout: Duration,
}

impl GroupConfig {
    /// Kafka's defaults, for the brokers that `network` names.
    pub fn new(network: NetworkConfig, group_id: KafkaString) -> Self {
        Self {
            network,
            group_id,
            instance_id: None,
            rack: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            rebalance_timeout: Duration::from_mins(5),
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            require_stable: false,
            api_timeout: Duration::from_mins(1),
        }
    }

    /// How partitions change hands: cooperatively only where every rule allows it.
    fn protocol(&self) -> RebalanceProtocol {
        let protocols = self.assignors.iter().map(|assignor| assignor.protocol());
        protocols.min().unwrap_or(RebalanceProtocol::Eager)
    }
}

/// An offset that is stored for a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredOffset {
    /// The offset of the next record to be read.
    pub offset: Offset,
    /// Epoch of the leader that the record before it was read from, if known.
    pub leader_epoch: LeaderEpoch,
    /// Words of whoever stored it.
    pub metadata: KafkaString,
}

/// Who has read the records whose offsets are sent: what a consumer says of itself (KIP-447).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMember {
    /// The group.
    pub group_id: KafkaString,
    /// The generation, or the epoch of the member; -1 from whoever is no member.
    pub generation_id: i32,
    /// The member, empty for none.
    pub member_id: KafkaString,
    /// Its name, if it is static.
    pub group_instance_id: Option<KafkaString>,
}

impl GroupMember {
    /// Whoever stores offsets of a group without being a member: nothing fences it.
    pub const fn nobody(group_id: KafkaString) -> Self {
        Self {
            group_id,
            generation_id: -1,
            member_id: KafkaString::from_static(""),
            group_instance_id: None,
        }
    }
}

impl From<Offset> for StoredOffset {
    fn from(offset: Offset) -> Self {
        Self { offset, leader_epoch: LeaderEpoch::UNKNOWN, metadata: KafkaString::default() }
    }
}

/// A commit, or a question for offsets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OffsetsId(pub u64);

/// One time that partitions are to be given up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RevokeToken(pub u64);

/// What there is to tell.
#[derive(Clone, PartialEq, Debug)]
pub enum GroupEvent {
    /// These partitions are to be given up: reading ends, offsets are stored, and then
    /// [`Group::revoked`] is called. The group waits for the rebalance timeout at most.
    Revoke {
        /// What [`Group::revoked`] is told with.
        token: RevokeToken,
        /// The partitions.
        places: BTreeSet<Place>,
    },
    /// These partitions belong to others already. Nothing can be stored for them.
    Lost(BTreeSet<Place>),
    /// A round has ended.
    Assigned {
        /// The partitions that are new.
        added: BTreeSet<Place>,
        /// All that are held.
        owned: BTreeSet<Place>,
    },
    /// A commit has ended.
    Committed {
        /// Which one.
        id: OffsetsId,
        /// What became of each partition.
        results: BTreeMap<Place, Result<(), ClientError>>,
    },
    /// A question for offsets is answered.
    Fetched {
        /// Which one.
        id: OffsetsId,
        /// What is stored for each partition, `None` where nothing is.
        results: BTreeMap<Place, Result<Option<StoredOffset>, ClientError>>,
    },
    /// The group cannot be taken part in. Nothing is tried any more.
    Failed(ClientError),
    /// The group was left.
    Left,
}

/// Why a request was sent.
#[derive(Clone, Debug)]
enum Purpose {
    Find,
    Join { attempt: u64 },
    Sync { attempt: u64 },
    Heartbeat { attempt: u64 },
    Leave { attempt: u64 },
    Commit(OffsetsId),
    Fetch(OffsetsId),
}

/// A member of a group, or a reader without membership that stores offsets in it.
#[derive(Clone, Debug)]
pub struct Group {
    config: GroupConfig,
    network: Network<Purpose>,
    coordinator: Coordinator,
    membership: Membership,
    offsets: Offsets,
    events: VecDeque<GroupEvent>,
    started: bool,
    wake_at: Option<Instant>,
}

impl Group {
    /// Speaks to nobody before something is asked of it.
    pub fn new(config: GroupConfig) -> Self {
        assert!(!config.assignors.is_empty(), "a member names the rules it can live with");
        Self {
            network: Network::new(config.network.clone()),
            config,
            coordinator: Coordinator::default(),
            membership: Membership::default(),
            offsets: Offsets::default(),
            events: VecDeque::new(),
            started: false,
            wake_at: None,
        }
    }

    /// Returns the settings.
    pub const fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// Joins the group for these topics, or goes on with them in place of others.
    pub fn subscribe(&mut self, now: Now, topics: BTreeSet<KafkaString>) {
        self.started = true;
        self.membership.topics = topics;
        self.follow_topics();
        match self.membership.stage {
            Stage::Out => self.begin_join(now.mono, "the member subscribes"),
            // A join that has not been sent will name the new topics; one that has is repeated.
            Stage::Revoking { .. }
            | Stage::Joining { .. }
            | Stage::Assigning { .. }
            | Stage::Syncing { .. }
            | Stage::Stable => self.membership.rejoin = Some("the subscription changed"),
            Stage::Leaving { .. } => self.membership.comes_back = true,
            Stage::Failed => {}
        }
        self.drive(now.mono);
    }

    /// Begins to follow all topics there are, or goes back to those that matter to the group.
    pub fn follow_every_topic(&mut self, now: Now, every: bool) {
        self.started |= every;
        self.network.want_every(every);
        self.drive(now.mono);
    }

    /// The partitions of a [`GroupEvent::Revoke`] have been given up. The join that follows waits
    /// for commits that are still on their way. Nothing where they are lost by now.
    pub fn revoked(&mut self, now: Now, revocation: RevokeToken) {
        if let Stage::Revoking { token, done, .. } = &mut self.membership.stage {
            *done |= *token == revocation;
        }
        self.drive(now.mono);
    }

    /// Leaves the group once the commits that were asked for are settled, after `patience` at the
    /// latest. [`GroupEvent::Left`] tells the end. The partitions must have been given up. A static
    /// member keeps its place until its session ends, so that it may come back.
    pub fn leave(&mut self, now: Now, patience: Duration, reason: &'static str) {
        let until = now.mono + patience;
        if self.membership.takes_part() {
            self.begin_leave(now.mono, until, reason);
        } else {
            self.events.push_back(GroupEvent::Left);
        }
        self.drive(now.mono);
    }

    /// Says that the topics seem to have changed: they are looked at again, after a pause.
    pub fn look_again(&mut self, now: Now) {
        if self.started {
            self.network.mark_stale(now.mono);
            self.drive(now.mono);
        }
    }

    /// Stores offsets. The answer comes as [`GroupEvent::Committed`].
    pub fn commit(&mut self, now: Now, offsets: BTreeMap<Place, StoredOffset>) -> OffsetsId {
        self.started = true;
        // One that subscribes stores nothing in a group that it has not joined.
        let is_member = self.membership.takes_part() || !self.membership.topics.is_empty();
        let generation_id = is_member.then_some(self.membership.owned_generation);
        let id = self.offsets.commit(now.mono + self.config.api_timeout, offsets, generation_id);
        self.drive(now.mono);
        id
    }

    /// Asks for stored offsets. The answer comes as [`GroupEvent::Fetched`].
    pub fn fetch(&mut self, now: Now, places: BTreeSet<Place>) -> OffsetsId {
        self.started = true;
        let id = self.offsets.fetch(now.mono + self.config.api_timeout, places);
        self.drive(now.mono);
        id
    }

    /// Returns how many commits are not settled.
    pub fn pending_commits(&self) -> usize {
        self.offsets.pending_commits()
    }

    /// Returns the partitions that are held.
    pub const fn owned(&self) -> &BTreeSet<Place> {
        &self.membership.owned
    }

    /// Returns the id that the coordinator has given the member; empty before.
    pub const fn member_id(&self) -> &KafkaString {
        &self.membership.member_id
    }

    /// Returns the generation of the assignment that is held, -1 for none.
    pub const fn owned_generation(&self) -> i32 {
        self.membership.owned_generation
    }

    /// Returns who this member is to whoever commits offsets for it in a transaction. What a member has
    /// lost, it still says as whom it had it: so the coordinator can refuse it.
    pub fn member(&self) -> GroupMember {
        let held = self.membership.last_held.clone();
        let (generation_id, member_id) = held.unwrap_or_else(|| (-1, KafkaString::default()));
        GroupMember {
            group_id: self.config.group_id.clone(),
            generation_id,
            member_id,
            group_instance_id: self.config.instance_id.clone().filter(|_| generation_id >= 0),
        }
    }

    /// Returns the rule that the group has agreed on.
    pub const fn assignor(&self) -> Option<Assignor> {
        self.membership.assignor
    }

    /// Returns what is known of the topics.
    pub const fn metadata(&self) -> &Metadata {
        self.network.metadata()
    }

    /// Takes what people should be told since this was last asked, a line each: topics that are not there.
    pub fn take_warnings(&mut self) -> Vec<String> {
        self.network.take_warnings()
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.network.handle(now.mono, input);
        self.drive(now.mono);
    }

    /// Takes the next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.network.poll_effect()
    }

    /// Takes the next thing to be told.
    pub fn poll_event(&mut self) -> Option<GroupEvent> {
        self.events.pop_front()
    }

    /// Returns when to come back at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.started {
            return None;
        }
        self.network.next_deadline().into_iter().chain(self.wake_at).min()
    }

    /// Does what is due. Every step that changes something may make another one due.
    fn drive(&mut self, now: Instant) {
        if !self.started {
            return;
        }
        loop {
            self.take_answers(now);
            let found = self.find_coordinator(now);
            let moved = self.drive_membership(now);
            let asked = self.drive_offsets(now);
            if !(found || moved || asked) {
                break;
            }
        }
        self.network.maintain(now);
        self.take_answers(now);
        self.wake_at = self
            .coordinator
            .wake_at(self.needs_coordinator())
            .into_iter()
            .chain(self.membership.wake_at())
            .chain(self.offsets.wake_at())
            .filter(|at| *at > now)
            .min();
    }

    fn take_answers(&mut self, now: Instant) {
        while let Some(completed) = self.network.poll_completed() {
            let result = completed.result;
            match completed.tag {
                Purpose::Find => self.on_found(now, result),
                Purpose::Join { attempt } => self.on_joined(now, attempt, result),
                Purpose::Sync { attempt } => self.on_synced(now, attempt, result),
                Purpose::Heartbeat { attempt } => self.on_heartbeat(now, attempt, result),
                Purpose::Leave { attempt } => self.on_left(now, attempt, result),
                Purpose::Commit(id) => self.on_committed(now, id, result),
                Purpose::Fetch(id) => self.on_fetched(now, id, result),
            }
        }
    }

    /// Whether anything is to be said to the coordinator.
    fn needs_coordinator(&self) -> bool {
        match self.membership.stage {
            Stage::Out | Stage::Failed => self.offsets.is_waiting(),
            Stage::Revoking { .. }
            | Stage::Joining { .. }
            | Stage::Assigning { .. }
            | Stage::Syncing { .. }
            | Stage::Stable
            | Stage::Leaving { .. } => true,
        }
    }

    /// Follows the topics that matter: the own ones, and for a leader those of all members.
    fn follow_topics(&mut self) {
        let membership = &self.membership;
        let topics = membership.topics.iter().chain(membership.watched.keys()).cloned().collect();
        self.network.want_only(&topics);
    }

    /// The group cannot be taken part in.
    fn fail(&mut self, error: ClientError) {
        self.membership.lose(&mut self.events);
        self.membership.stage = Stage::Failed;
        self.offsets.fail_commits(&error, &mut self.events);
        self.events.push_back(GroupEvent::Failed(error));
    }
}

/// Returns whether an error means that another broker coordinates the group, or none does.
const fn is_elsewhere(error: &ClientError) -> bool {
    match error {
        ClientError::Broker(code) | ClientError::Refused { code, .. } => {
            matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
        }
        ClientError::Disconnected | ClientError::TimedOut => true,
        ClientError::UnknownCode(_)
        | ClientError::UnsupportedApi(_)
        | ClientError::Malformed(_)
        | ClientError::Unknown { .. }
        | ClientError::NoStoredOffset
        | ClientError::NoPartition(_)
        | ClientError::TooLarge(_)
        | ClientError::NoTransaction
        | ClientError::Aborted
        | ClientError::Abandoned => false,
    }
}
