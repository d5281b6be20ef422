//! A group as it lives: its state, its members, and who of them waits.
//!
//! All of it is soft: what matters after a restart stands in the group's record. Nothing here
//! answers or appends; that is done by the steps of the protocol ([`join`](super::join),
//! [`sync`](super::sync), [`membership`](super::membership)).
//!
//! Invariants:
//! 1. `awaiting_join` counts the members that wait in `JoinGroup`; `support` counts, for each
//!    protocol, the members that know it; `static_members` names the members with an instance id.
//! 2. `bytes` is what members and ids that were handed out take, as [`Member::bytes`] counts it.
//! 3. An empty group has no members, no leader and no one waiting; any other has a leader, if it
//!    has members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::api::{Assignment, JoinGroup, JoinProtocol, JoinedMember, Ticket};
use crate::error::ErrorCode;
use crate::time::UnixMillis;
use crate::wire::KafkaString;
use crate::wire::consumer_protocol::{Blob, ConsumerProtocolSubscription, PROTOCOL_TYPE};
use crate::wire::group_record::{
    GroupMetadataKey, GroupMetadataValue, GroupRecord, MemberMetadata,
};

/// What the tables take for a member, and for an id that was handed out, besides their texts.
pub(super) const MEMBER_BYTES_MIN: usize = 512;
const PENDING_BYTES_MIN: usize = 256;

/// State of a group, by Kafka's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GroupPhase {
    /// No members.
    Empty,
    /// Waits for all members to join again.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Members do what they were assigned.
    Stable,
}

impl GroupPhase {
    /// Returns Kafka's name of the state.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A member of a group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) group_instance_id: Option<KafkaString>,
    pub(super) client_id: KafkaString,
    pub(super) client_host: KafkaString,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) protocols: Vec<JoinProtocol>,
    pub(super) assignment: Bytes,
    /// Its `JoinGroup` that waits for the others.
    pub(super) joining: Option<Ticket>,
    /// Its `SyncGroup` that waits for the leader.
    pub(super) syncing: Option<Ticket>,
    /// Whether it has not been in a generation yet.
    pub(super) is_new: bool,
    /// When it last joined, by the coordinator's count of joins and deleted topics.
    pub(super) joined: u64,
}

impl Member {
    /// Makes a member of its `JoinGroup`, which it keeps no frame of.
    pub(super) fn new(request: &JoinGroup) -> Self {
        let mut member = Self {
            group_instance_id: request.group_instance_id.as_ref().map(KafkaString::detached),
            client_id: request.client_id.detached(),
            client_host: request.client_host.detached(),
            rebalance_timeout_ms: 0,
            session_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: true,
            joined: 0,
        };
        member.update(request);
        member
    }

    fn update(&mut self, request: &JoinGroup) {
        self.session_timeout_ms = request.session_timeout_ms;
        self.rebalance_timeout_ms = if request.rebalance_timeout_ms == -1 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        };
        self.protocols = request
            .protocols
            .iter()
            .map(|protocol| JoinProtocol {
                name: protocol.name.detached(),
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            })
            .collect();
    }

    /// Returns whether it would join with the same protocols and the same words.
    pub(super) fn matches(&self, protocols: &[JoinProtocol]) -> bool {
        self.protocols == protocols
    }

    /// Returns what it says in a protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|known| known.name == protocol).map(|known| &known.metadata)
    }

    /// Returns how long it may be silent.
    pub(super) fn session_timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.session_timeout_ms).unwrap_or(0))
    }

    /// Returns the bytes of what it joined with.
    pub(super) fn protocol_bytes(&self) -> usize {
        protocol_bytes(&self.protocols)
    }

    /// Returns the bytes that it takes under this id.
    fn bytes(&self, member_id: &str) -> usize {
        MEMBER_BYTES_MIN
            + member_id.len()
            + self.group_instance_id.as_ref().map_or(0, |instance| instance.len())
            + self.client_id.len()
            + self.client_host.len()
            + self.protocol_bytes()
            + self.assignment.len()
    }

    fn names(&self) -> BTreeSet<KafkaString> {
        self.protocols.iter().map(|protocol| protocol.name.clone()).collect()
    }
}

/// Returns the bytes of protocols, with their names.
pub(super) fn protocol_bytes(protocols: &[JoinProtocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

fn pending_bytes(member_id: &str) -> usize {
    PENDING_BYTES_MIN + member_id.len()
}

/// A group as it lives.
#[derive(Clone, Debug)]
pub(super) struct Group {
    phase: GroupPhase,
    previous: GroupPhase,
    /// When the group came into its state, in milliseconds since 1970; `None` in old records.
    pub(super) current_state_timestamp_ms: Option<i64>,
    pub(super) generation_id: i32,
    pub(super) protocol_type: Option<KafkaString>,
    pub(super) protocol_name: Option<KafkaString>,
    leader: Option<KafkaString>,
    members: BTreeMap<KafkaString, Member>,
    static_members: BTreeMap<KafkaString, KafkaString>,
    /// Ids that were handed out and have not joined.
    pending_members: BTreeSet<KafkaString>,
    /// Members that have not fetched their assignment.
    pub(super) pending_sync: BTreeSet<KafkaString>,
    support: BTreeMap<KafkaString, usize>,
    awaiting_join: usize,
    bytes: usize,
    /// Whether somebody new has come since the initial delay began, and what is left of it.
    pub(super) new_member_added: bool,
    pub(super) initial_delay: Option<InitialDelay>,
    /// What the members read; `None` where that is not known.
    subscribed_topics: Option<BTreeSet<KafkaString>>,
}

/// How long an empty group still waits for more members.
#[derive(Clone, Copy, Debug)]
pub(super) struct InitialDelay {
    /// The delay that runs.
    pub(super) current: Duration,
    /// What may be waited after it.
    pub(super) remaining: Duration,
}

impl Group {
    /// Makes an empty group.
    pub(super) const fn new(now: UnixMillis) -> Self {
        Self {
            phase: GroupPhase::Empty,
            previous: GroupPhase::Empty,
            current_state_timestamp_ms: Some(now.0),
            generation_id: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            support: BTreeMap::new(),
            awaiting_join: 0,
            bytes: 0,
            new_member_added: false,
            initial_delay: None,
            subscribed_topics: None,
        }
    }

    /// Makes a group of its record: with members it is stable.
    pub(super) fn from_record(value: &GroupMetadataValue) -> Self {
        let mut group = Self::new(UnixMillis(value.current_state_timestamp));
        group.current_state_timestamp_ms =
            (value.current_state_timestamp != -1).then_some(value.current_state_timestamp);
        group.generation_id = value.generation;
        group.protocol_type = Some(value.protocol_type.clone()).filter(|kind| !kind.is_empty());
        group.protocol_name.clone_from(&value.protocol);
        group.leader.clone_from(&value.leader);
        for stored in &value.members {
            if group.members.contains_key(&stored.member_id) {
                continue;
            }
            let member = Member {
                group_instance_id: stored.group_instance_id.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
                rebalance_timeout_ms: if stored.rebalance_timeout == -1 {
                    stored.session_timeout
                } else {
                    stored.rebalance_timeout
                },
                session_timeout_ms: stored.session_timeout,
                protocols: vec![JoinProtocol {
                    name: value.protocol.clone().unwrap_or_default(),
                    metadata: stored.subscription.clone(),
                }],
                assignment: stored.assignment.clone(),
                joining: None,
                syncing: None,
                is_new: false,
                joined: 0,
            };
            group.insert(stored.member_id.clone(), member);
        }
        group.phase = if group.members.is_empty() { GroupPhase::Empty } else { GroupPhase::Stable };
        group.previous = group.phase;
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }

    /// Returns the record of the group with these assignments; members that are not named get none.
    pub(super) fn to_record(
        &self,
        group_id: &KafkaString,
        assignment: impl Fn(&KafkaString, &Member) -> Bytes,
    ) -> GroupRecord {
        let members = self
            .members
            .iter()
            .map(|(id, member)| MemberMetadata {
                member_id: id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout: member.rebalance_timeout_ms,
                session_timeout: member.session_timeout_ms,
                subscription: self
                    .protocol_name
                    .as_ref()
                    .and_then(|protocol| member.metadata(protocol))
                    .cloned()
                    .unwrap_or_default(),
                assignment: assignment(id, member),
            })
            .collect();
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation_id,
            protocol: self.protocol_name.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.current_state_timestamp_ms.unwrap_or(-1),
            members,
        };
        GroupRecord::GroupMetadata(GroupMetadataKey { group: group_id.clone() }, Some(value))
    }

    /// Returns the state.
    pub(super) const fn phase(&self) -> GroupPhase {
        self.phase
    }

    /// Returns the state before.
    pub(super) const fn previous_phase(&self) -> GroupPhase {
        self.previous
    }

    /// Comes into a state.
    pub(super) fn transition(&mut self, phase: GroupPhase, now: UnixMillis) {
        let from = self.phase;
        let valid = match phase {
            GroupPhase::Empty | GroupPhase::CompletingRebalance => {
                from == GroupPhase::PreparingRebalance
            }
            GroupPhase::PreparingRebalance => from != GroupPhase::PreparingRebalance,
            GroupPhase::Stable => from == GroupPhase::CompletingRebalance,
        };
        assert!(valid, "a group does not go from {} to {}", from.name(), phase.name());
        self.previous = from;
        self.phase = phase;
        self.current_state_timestamp_ms = Some(now.0);
    }

    /// Returns the members.
    pub(super) const fn members(&self) -> &BTreeMap<KafkaString, Member> {
        &self.members
    }

    /// Returns a member.
    pub(super) fn member(&self, member_id: &str) -> Option<&Member> {
        self.members.get(member_id)
    }

    /// Returns the bytes that its members and the ids that were handed out take.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts the bytes anew.
    #[cfg(test)]
    pub(super) fn counted_bytes(&self) -> usize {
        let members: usize = self.members.iter().map(|(id, member)| member.bytes(id)).sum();
        members + self.pending_members.iter().map(|id| pending_bytes(id)).sum::<usize>()
    }

    /// Returns the members, of whom neither texts, blobs nor waiting joins may be changed.
    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = (&KafkaString, &mut Member)> {
        self.members.iter_mut()
    }

    /// Returns a member, under the same restriction.
    pub(super) fn member_mut(&mut self, member_id: &str) -> Option<&mut Member> {
        self.members.get_mut(member_id)
    }

    /// Returns the leader, empty for none.
    pub(super) fn leader(&self) -> KafkaString {
        self.leader.clone().unwrap_or_default()
    }

    /// Returns whether the member leads.
    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader == member_id)
    }

    /// Returns the member that has this instance id.
    pub(super) fn static_member(&self, group_instance_id: &str) -> Option<&KafkaString> {
        self.static_members.get(group_instance_id)
    }

    /// Returns the ids that were handed out and have not joined.
    pub(super) const fn pending_members(&self) -> &BTreeSet<KafkaString> {
        &self.pending_members
    }

    /// Notes an id that was handed out.
    pub(super) fn add_pending_member(&mut self, member_id: KafkaString) {
        let bytes = pending_bytes(&member_id);
        if self.pending_members.insert(member_id) {
            self.bytes += bytes;
        }
    }

    fn remove_pending(&mut self, member_id: &str) {
        if self.pending_members.remove(member_id) {
            self.bytes -= pending_bytes(member_id);
        }
    }

    /// Takes in a member, new or in place of a pending id, that waits in `JoinGroup`.
    pub(super) fn add(
        &mut self,
        member_id: KafkaString,
        mut member: Member,
        ticket: Ticket,
        kind: &KafkaString,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(kind.detached());
        }
        member.joining = Some(ticket);
        self.awaiting_join += 1;
        self.remove_pending(&member_id);
        self.insert(member_id, member);
    }

    fn insert(&mut self, member_id: KafkaString, member: Member) {
        for name in member.names() {
            *self.support.entry(name).or_default() += 1;
        }
        if let Some(instance) = &member.group_instance_id {
            self.static_members.insert(instance.clone(), member_id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.bytes += member.bytes(&member_id);
        let before = self.members.insert(member_id, member);
        assert!(before.is_none(), "a member comes in once");
    }

    fn withdraw(&mut self, names: BTreeSet<KafkaString>) {
        for name in names {
            if let Some(count) = self.support.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.support.remove(&name);
                }
            }
        }
    }

    /// Lets a member that is there join again with what it says now; returns the ticket that it
    /// waited with before.
    pub(super) fn update(
        &mut self,
        member_id: &str,
        request: &JoinGroup,
        ticket: Ticket,
    ) -> Option<Ticket> {
        let member = self.members.get_mut(member_id)?;
        let (names, bytes) = (member.names(), member.protocol_bytes());
        member.update(request);
        self.bytes = self.bytes - bytes + member.protocol_bytes();
        let before = member.joining.replace(ticket);
        let names_after = member.names();
        if before.is_none() {
            self.awaiting_join += 1;
        }
        self.withdraw(names);
        for name in names_after {
            *self.support.entry(name).or_default() += 1;
        }
        before
    }

    /// Puts a new id in the place of a static member's, with everything the member has but who
    /// waits.
    pub(super) fn replace_static(&mut self, from: &str, to: KafkaString) {
        let was_leader = self.is_leader(from);
        let mut member = self.remove(from).expect("a static member that is there");
        member.joining = None;
        member.syncing = None;
        member.is_new = false;
        if was_leader {
            self.leader = Some(to.clone());
        }
        self.insert(to, member);
    }

    /// Ends a member's wait in `JoinGroup`.
    pub(super) fn take_joining(&mut self, member_id: &str) -> Option<Ticket> {
        let ticket = self.members.get_mut(member_id)?.joining.take()?;
        self.awaiting_join -= 1;
        Some(ticket)
    }

    /// Takes out a member or a pending id. If it led, another member leads.
    pub(super) fn remove(&mut self, member_id: &str) -> Option<Member> {
        self.remove_pending(member_id);
        self.pending_sync.remove(member_id);
        let member = self.members.remove(member_id);
        if let Some(member) = &member {
            self.bytes -= member.bytes(member_id);
            self.withdraw(member.names());
            if member.joining.is_some() {
                self.awaiting_join -= 1;
            }
            if let Some(instance) = &member.group_instance_id {
                self.static_members.remove(instance);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        member
    }

    /// Returns how many members wait in `JoinGroup`.
    pub(super) const fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    /// Returns whether nobody is missed any more.
    pub(super) fn all_have_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_members.is_empty()
    }

    /// Returns the dynamic members that have not joined again. Static ones keep their place until
    /// their session ends (KIP-345).
    pub(super) fn dynamic_members_not_rejoined(&self) -> Vec<KafkaString> {
        self.members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.group_instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Sees to it that the leader is one that has joined; false if none has.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &Member| member.joining.is_some();
        if self.leader.as_ref().and_then(|leader| self.members.get(leader)).is_some_and(joined) {
            return true;
        }
        match self.members.iter().find(|(_, member)| joined(member)) {
            Some((id, _)) => {
                self.leader = Some(id.clone());
                true
            }
            None => false,
        }
    }

    /// Begins the next generation: empty, or with the protocol that the members vote for.
    pub(super) fn next_generation(&mut self, now: UnixMillis) {
        self.generation_id = self.generation_id.wrapping_add(1).max(1);
        if self.members.is_empty() {
            self.protocol_name = None;
            self.transition(GroupPhase::Empty, now);
        } else {
            self.protocol_name = self.voted_protocol();
            self.transition(GroupPhase::CompletingRebalance, now);
        }
        self.subscribed_topics = self.compute_subscribed_topics();
        self.pending_sync.clear();
    }

    /// Returns whether somebody with these protocols may join.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[JoinProtocol]) -> bool {
        if self.phase == GroupPhase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_ref().is_some_and(|kind| kind == protocol_type)
            && protocols.iter().any(|protocol| self.supported_by_all(&protocol.name))
    }

    fn supported_by_all(&self, protocol: &str) -> bool {
        self.support.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// Returns the protocol that most members like best among those that all know; of several the
    /// first by name, where Kafka takes any.
    pub(super) fn voted_protocol(&self) -> Option<KafkaString> {
        let mut votes = BTreeMap::<&KafkaString, usize>::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().find(|known| self.supported_by_all(&known.name));
            if let Some(choice) = choice {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// Returns the longest time that a member gives the others.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        let millis = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        Duration::from_millis(u64::try_from(millis.unwrap_or(0)).unwrap_or(0))
    }

    /// Returns the members as the leader sees them.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.clone().unwrap_or_default();
        self.members
            .iter()
            .map(|(id, member)| JoinedMember {
                member_id: id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                metadata: member.metadata(&protocol).cloned().unwrap_or_default(),
            })
            .collect()
    }

    /// Gives every member its assignment, an empty one where it is not named.
    pub(super) fn assign(&mut self, assignments: &BTreeMap<KafkaString, Bytes>) {
        for (id, member) in &mut self.members {
            let before = member.assignment.len();
            member.assignment = assignments.get(id).cloned().unwrap_or_default();
            self.bytes = self.bytes - before + member.assignment.len();
        }
    }

    /// Checks that whoever speaks is this member, and not one whose place was taken.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, or `FENCED_INSTANCE_ID` where another member has the instance id.
    pub(super) fn validate_member(
        &self,
        member_id: &str,
        group_instance_id: Option<&KafkaString>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = group_instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if known != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Returns whether its members are consumers, whose words the coordinator understands.
    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|kind| kind == PROTOCOL_TYPE)
    }

    /// Returns whether it is known what the members read.
    pub(super) const fn knows_subscriptions(&self) -> bool {
        self.subscribed_topics.is_some()
    }

    /// Returns whether a member reads the topic, or might.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed_topics
            .as_ref()
            .map_or_else(|| self.uses_consumer_protocol(), |topics| topics.contains(topic))
    }

    fn compute_subscribed_topics(&self) -> Option<BTreeSet<KafkaString>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol_name.as_ref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let blob = member.metadata(protocol)?.clone();
            let subscription = ConsumerProtocolSubscription::from_blob(blob).ok()?;
            topics.extend(subscription.topics);
        }
        Some(topics)
    }
}

/// Collects an assignment by member; of one that is named twice the last counts.
pub(super) fn by_member(assignments: &[Assignment]) -> BTreeMap<KafkaString, Bytes> {
    assignments
        .iter()
        .map(|given| (given.member_id.clone(), Bytes::copy_from_slice(&given.assignment)))
        .collect()
}
