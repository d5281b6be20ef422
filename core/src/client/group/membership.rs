//! How a member comes into a group, stays in it, and leaves it.
//!
//! Heartbeats are sent from the end of a join on. While a join or a sync is held back by the
//! coordinator none is, for it would wait behind: the coordinator takes a member that waits for it
//! as alive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::assignor::{Assignor, Member, RebalanceProtocol, assignment_blob, read_assignment};
use super::{Group, GroupEvent, Purpose, RevokeToken, is_elsewhere};
use crate::client::ClientError;
use crate::client::producer::accumulator::Place;
use crate::error::ErrorCode;
use crate::time::Instant;
use crate::wire::api::heartbeat::HeartbeatRequest;
use crate::wire::api::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::wire::api::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use crate::wire::consumer_protocol::PROTOCOL_TYPE;
use crate::wire::{ApiKey, KafkaString, Response};

/// What the coordinator is given on top of the rebalance timeout to answer a join or a sync.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far a member has come.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Stage {
    /// It is no member and does not want to be.
    Out,
    /// Partitions are being given up before the next join.
    Revoking { token: RevokeToken, places: BTreeSet<Place>, until: Instant, done: bool },
    /// The join is to be sent, or is on its way.
    Joining { retry_at: Instant, is_asked: bool },
    /// The leader waits for the partition counts of all members' topics.
    Assigning { members: Vec<Member>, until: Instant, is_skipped: bool },
    /// The sync is to be sent, or is on its way.
    Syncing { assignments: Vec<SyncGroupRequestAssignment>, is_asked: bool },
    /// It holds what it was given.
    Stable,
    /// It leaves once its commits are settled.
    Leaving { until: Instant, reason: &'static str, asked: bool },
    /// The group does not take it.
    Failed,
}

/// The place of this member in its group.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub(super) stage: Stage,
    pub(super) topics: BTreeSet<KafkaString>,
    pub(super) member_id: KafkaString,
    /// The round that the member is in, -1 for none.
    generation_id: i32,
    /// The round in which the partitions were given to it.
    pub(super) owned_generation: i32,
    /// The generation and the id in which the member was last given partitions.
    pub(super) last_held: Option<(i32, KafkaString)>,
    pub(super) owned: BTreeSet<Place>,
    pub(super) assignor: Option<Assignor>,
    /// The partition counts by which the leader has assigned; empty where another one leads.
    pub(super) watched: BTreeMap<KafkaString, i32>,
    /// Why to join again as soon as the member is stable.
    pub(super) rejoin: Option<&'static str>,
    /// What is told to the coordinator as the reason of the next join.
    reason: &'static str,
    /// Counts joins and leaves, so that answers to older ones are not taken.
    attempt: u64,
    revocations: u64,
    heartbeat_at: Instant,
    is_heartbeat_asked: bool,
    /// Whether it joins again once it has left.
    pub(super) comes_back: bool,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            stage: Stage::Out,
            topics: BTreeSet::new(),
            member_id: KafkaString::default(),
            generation_id: -1,
            owned_generation: -1,
            last_held: None,
            owned: BTreeSet::new(),
            assignor: None,
            watched: BTreeMap::new(),
            rejoin: None,
            reason: "",
            attempt: 0,
            revocations: 0,
            heartbeat_at: Instant::ZERO,
            is_heartbeat_asked: false,
            comes_back: false,
        }
    }
}

impl Membership {
    /// Whether it is a member, or is about to be.
    pub(super) const fn takes_part(&self) -> bool {
        !matches!(self.stage, Stage::Out | Stage::Failed)
    }

    /// Whether commits for what is held can be sent.
    pub(super) const fn may_commit(&self) -> bool {
        matches!(self.stage, Stage::Stable | Stage::Revoking { .. } | Stage::Leaving { .. })
    }

    /// Whether the coordinator holds an answer back, and with it all later ones.
    pub(super) const fn is_parked(&self) -> bool {
        matches!(
            self.stage,
            Stage::Joining { is_asked: true, .. } | Stage::Syncing { is_asked: true, .. }
        )
    }

    /// What was held is lost.
    pub(super) fn lose(&mut self, events: &mut VecDeque<GroupEvent>) {
        self.owned_generation = -1;
        let lost = std::mem::take(&mut self.owned);
        if !lost.is_empty() {
            events.push_back(GroupEvent::Lost(lost));
        }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        let heartbeat = (self.beats() && !self.is_heartbeat_asked).then_some(self.heartbeat_at);
        let own = match &self.stage {
            Stage::Revoking { until, .. }
            | Stage::Assigning { until, .. }
            | Stage::Leaving { until, .. } => Some(*until),
            Stage::Joining { retry_at, is_asked: false } => Some(*retry_at),
            Stage::Joining { .. }
            | Stage::Syncing { .. }
            | Stage::Out
            | Stage::Stable
            | Stage::Failed => None,
        };
        heartbeat.into_iter().chain(own).min()
    }

    /// Whether the coordinator expects heartbeats.
    const fn beats(&self) -> bool {
        matches!(
            self.stage,
            Stage::Revoking { .. }
                | Stage::Assigning { .. }
                | Stage::Syncing { is_asked: false, .. }
                | Stage::Stable
        )
    }
}

impl Group {
    /// Does the next thing that is due; returns whether it did any.
    pub(super) fn drive_membership(&mut self, now: Instant) -> bool {
        let beat = self.beat(now);
        let moved = match &self.membership.stage {
            Stage::Out | Stage::Failed => false,
            Stage::Revoking { places, until, done, .. } => {
                let is_settled = *done && self.offsets.pending_commits() == 0;
                if !is_settled && now < *until {
                    return beat;
                }
                let places = places.clone();
                self.membership.owned.retain(|place| !places.contains(place));
                if !*done {
                    self.events.push_back(GroupEvent::Lost(places));
                }
                self.membership.stage = Stage::Joining { retry_at: Instant::ZERO, is_asked: false };
                true
            }
            Stage::Joining { retry_at, is_asked } => {
                !*is_asked && now >= *retry_at && self.send_join(now)
            }
            Stage::Assigning { until, .. } => {
                (self.network.metadata().is_told_of_all() || now >= *until) && self.assign()
            }
            Stage::Syncing { is_asked, .. } => !*is_asked && self.send_sync(now),
            Stage::Stable => self.rejoin_where_due(now),
            Stage::Leaving { .. } => self.drive_leaving(now),
        };
        beat || moved
    }

    pub(super) fn begin_join(&mut self, now: Instant, reason: &'static str) {
        tracing::debug!(reason, "the member joins its group");
        self.membership.reason = reason;
        self.membership.stage = Stage::Joining { retry_at: now, is_asked: false };
    }

    fn join_after_pause(&mut self, now: Instant) {
        let retry_at = now + self.config.network.retry_backoff;
        self.membership.stage = Stage::Joining { retry_at, is_asked: false };
    }

    /// Joins again where something asks for it; gives up first what must be.
    fn rejoin_where_due(&mut self, now: Instant) -> bool {
        let metadata = self.network.metadata();
        let counts_changed = self.membership.watched.iter().any(|(topic, count)| {
            metadata.topic(topic).map_or(0, |topic| topic.leaders.len() as i32) != *count
        });
        let reason = match self.membership.rejoin.take() {
            Some(reason) => reason,
            None if counts_changed => "the partitions of a topic changed",
            None => return false,
        };
        let places: BTreeSet<Place> = match self.config.protocol() {
            RebalanceProtocol::Eager => self.membership.owned.clone(),
            RebalanceProtocol::Cooperative => self
                .membership
                .owned
                .iter()
                .filter(|(topic, _)| !self.membership.topics.contains(topic))
                .cloned()
                .collect(),
        };
        self.begin_join(now, reason);
        if !places.is_empty() {
            self.revoke(now, places);
        }
        true
    }

    fn revoke(&mut self, now: Instant, places: BTreeSet<Place>) {
        let until = now + self.config.rebalance_timeout;
        self.membership.revocations += 1;
        let token = RevokeToken(self.membership.revocations);
        self.events.push_back(GroupEvent::Revoke { token, places: places.clone() });
        self.membership.stage = Stage::Revoking { token, places, until, done: false };
    }

    fn send_join(&mut self, now: Instant) -> bool {
        let Some(link) = self.coordinator_link(now) else {
            return false;
        };
        let config = &self.config;
        let membership = &mut self.membership;
        membership.attempt += 1;
        membership.rejoin = None;
        membership.is_heartbeat_asked = false;
        let protocols = config
            .assignors
            .iter()
            .map(|assignor| JoinGroupRequestProtocol {
                name: KafkaString::from_static(assignor.name()),
                metadata: assignor.subscription(
                    &membership.topics,
                    &membership.owned,
                    membership.owned_generation,
                    config.rack.as_ref(),
                ),
            })
            .collect();
        let request = JoinGroupRequest {
            group_id: config.group_id.clone(),
            session_timeout_ms: config.session_timeout.as_millis() as i32,
            rebalance_timeout_ms: config.rebalance_timeout.as_millis() as i32,
            member_id: membership.member_id.clone(),
            group_instance_id: config.instance_id.clone(),
            protocol_type: KafkaString::from_static(PROTOCOL_TYPE),
            protocols,
            reason: Some(KafkaString::from_static(membership.reason)),
        };
        if let Stage::Joining { is_asked, .. } = &mut membership.stage {
            *is_asked = true;
        }
        let purpose = Purpose::Join { attempt: membership.attempt };
        let patience = config.rebalance_timeout.max(config.network.request_timeout) + PATIENCE;
        let max_version = ApiKey::JoinGroup.max_version();
        self.network.send_parked(now, link, &request.into(), max_version, purpose, patience);
        true
    }

    pub(super) fn on_joined(
        &mut self,
        now: Instant,
        attempt: u64,
        result: Result<Response, ClientError>,
    ) {
        if attempt != self.membership.attempt {
            return;
        }
        let response = match result {
            Ok(Response::JoinGroup(response)) => response,
            Ok(_) => unreachable!("an answer has the type of its question"),
            Err(error) => return self.on_refused(now, error),
        };
        match ClientError::from_code(response.error_code) {
            None => self.enter(now, response),
            Some(ClientError::Broker(ErrorCode::MemberIdRequired)) => {
                self.membership.member_id = response.member_id.detached();
                self.membership.stage = Stage::Joining { retry_at: now, is_asked: false };
            }
            Some(error) => self.on_refused(now, error),
        }
    }

    /// The round has begun, with this member in it.
    fn enter(&mut self, now: Instant, response: JoinGroupResponse) {
        let name = response.protocol_name.as_ref().map_or("", |name| name.as_str());
        let assignor =
            Assignor::from_name(name).filter(|assignor| self.config.assignors.contains(assignor));
        let is_ours = response.protocol_type.as_ref().is_none_or(|kind| *kind == PROTOCOL_TYPE);
        let (Some(assignor), true) = (assignor, is_ours) else {
            return self.fail(ClientError::Broker(ErrorCode::InconsistentGroupProtocol));
        };
        self.coordinator_answers();
        let membership = &mut self.membership;
        membership.member_id = response.member_id.detached();
        membership.generation_id = response.generation_id;
        membership.assignor = Some(assignor);
        membership.watched.clear();
        membership.heartbeat_at = now + self.config.heartbeat_interval;
        if response.leader != response.member_id {
            membership.stage = Stage::Syncing { assignments: Vec::new(), is_asked: false };
            return self.follow_topics();
        }
        let members: Vec<Member> = response
            .members
            .into_iter()
            .map(|member| {
                let instance_id = member.group_instance_id.as_ref();
                Member::from_blob(&member.member_id, instance_id, member.metadata)
            })
            .collect();
        let topics = members.iter().flat_map(|member| member.topics.iter().cloned());
        membership.watched = topics.map(|topic| (topic, 0)).collect();
        membership.stage = Stage::Assigning {
            members,
            until: now + self.config.network.request_timeout,
            is_skipped: response.skip_assignment,
        };
        self.follow_topics();
    }

    /// The leader decides who reads what.
    fn assign(&mut self) -> bool {
        let out = Stage::Syncing { assignments: Vec::new(), is_asked: false };
        let Stage::Assigning { members, is_skipped, .. } =
            std::mem::replace(&mut self.membership.stage, out)
        else {
            unreachable!("only an assigning leader assigns")
        };
        let metadata = self.network.metadata();
        for (topic, count) in &mut self.membership.watched {
            *count = metadata.topic(topic).map_or(0, |topic| topic.leaders.len() as i32);
        }
        let assignor = self.membership.assignor.expect("a round has a rule");
        if !is_skipped && let Stage::Syncing { assignments, .. } = &mut self.membership.stage {
            let given = assignor.assign(&members, &self.membership.watched);
            assignments.extend(given.into_iter().map(|(member_id, places)| {
                SyncGroupRequestAssignment { member_id, assignment: assignment_blob(&places) }
            }));
        }
        true
    }

    fn send_sync(&mut self, now: Instant) -> bool {
        let Some(link) = self.coordinator_link(now) else {
            return false;
        };
        let membership = &mut self.membership;
        let Stage::Syncing { assignments, is_asked } = &mut membership.stage else {
            unreachable!("only a syncing member syncs")
        };
        *is_asked = true;
        let request = SyncGroupRequest {
            group_id: self.config.group_id.clone(),
            generation_id: membership.generation_id,
            member_id: membership.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
            protocol_type: Some(KafkaString::from_static(PROTOCOL_TYPE)),
            protocol_name: membership
                .assignor
                .map(|assignor| KafkaString::from_static(assignor.name())),
            assignments: std::mem::take(assignments),
        };
        let purpose = Purpose::Sync { attempt: membership.attempt };
        let config = &self.config;
        let patience = config.rebalance_timeout.max(config.network.request_timeout) + PATIENCE;
        let max_version = ApiKey::SyncGroup.max_version();
        self.network.send_parked(now, link, &request.into(), max_version, purpose, patience);
        true
    }

    pub(super) fn on_synced(
        &mut self,
        now: Instant,
        attempt: u64,
        result: Result<Response, ClientError>,
    ) {
        if attempt != self.membership.attempt {
            return;
        }
        let response = match result {
            Ok(Response::SyncGroup(response)) => response,
            Ok(_) => unreachable!("an answer has the type of its question"),
            Err(error) => return self.on_refused(now, error),
        };
        match ClientError::from_code(response.error_code) {
            None => self.settle(now, response),
            Some(error) => self.on_refused(now, error),
        }
    }

    /// Takes what the leader has given.
    fn settle(&mut self, now: Instant, response: SyncGroupResponse) {
        let mut given = match read_assignment(response.assignment) {
            Ok(given) => given,
            Err(error) => return self.fail(ClientError::Malformed(error.to_string())),
        };
        self.coordinator_answers();
        let membership = &mut self.membership;
        let before = given.len();
        // What was subscribed to when the round began may not be wanted any more.
        given.retain(|(topic, _)| membership.topics.contains(topic));
        if given.len() != before {
            membership.rejoin = Some("the subscription changed");
        }
        let added: BTreeSet<Place> = given.difference(&membership.owned).cloned().collect();
        let revoked: BTreeSet<Place> = membership.owned.difference(&given).cloned().collect();
        membership.owned.extend(added.iter().cloned());
        membership.owned_generation = membership.generation_id;
        membership.last_held = Some((membership.generation_id, membership.member_id.clone()));
        membership.heartbeat_at = now + self.config.heartbeat_interval;
        membership.stage = Stage::Stable;
        if !revoked.is_empty() {
            membership.reason = "partitions were given up";
            self.revoke(now, revoked);
        }
        self.events.push_back(GroupEvent::Assigned { added, owned: given });
    }

    /// A join or a sync was refused.
    fn on_refused(&mut self, now: Instant, error: ClientError) {
        tracing::debug!(%error, "the coordinator refuses a join or sync");
        match error.refused_with() {
            Some(ErrorCode::UnknownMemberId) => {
                self.forget_membership(true);
                self.join_after_pause(now);
            }
            Some(ErrorCode::IllegalGeneration) => {
                self.forget_membership(false);
                self.join_after_pause(now);
            }
            Some(ErrorCode::RebalanceInProgress | ErrorCode::CoordinatorLoadInProgress) => {
                self.join_after_pause(now);
            }
            _ if is_elsewhere(&error) => {
                self.lose_coordinator(now);
                self.join_after_pause(now);
            }
            _ if error.is_retriable() => self.join_after_pause(now),
            _ => self.fail(error),
        }
    }

    /// The group knows nothing of this member any more.
    fn forget_membership(&mut self, forgets_id: bool) {
        // Others may read on from here, and commit more: what waits would land on theirs.
        let gone = ClientError::Broker(ErrorCode::IllegalGeneration);
        self.offsets.fail_member_commits(&gone, &mut self.events);
        let membership = &mut self.membership;
        membership.attempt += 1;
        membership.generation_id = -1;
        if forgets_id {
            membership.member_id = KafkaString::default();
        }
        membership.is_heartbeat_asked = false;
        membership.lose(&mut self.events);
    }

    /// The group has gone on without this member: what it held is lost, and it joins anew.
    pub(super) fn lose_membership(&mut self, now: Instant, forgets_id: bool) {
        if self.membership.takes_part() {
            self.forget_membership(forgets_id);
            if !matches!(self.membership.stage, Stage::Leaving { .. }) {
                self.begin_join(now, "the group went on without the member");
            }
        }
    }

    fn beat(&mut self, now: Instant) -> bool {
        let membership = &self.membership;
        if !membership.beats() || membership.is_heartbeat_asked || now < membership.heartbeat_at {
            return false;
        }
        let Some(link) = self.coordinator_link(now) else {
            return false;
        };
        let membership = &mut self.membership;
        membership.is_heartbeat_asked = true;
        membership.heartbeat_at = now + self.config.heartbeat_interval;
        let request = HeartbeatRequest {
            group_id: self.config.group_id.clone(),
            generation_id: membership.generation_id,
            member_id: membership.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
        };
        let purpose = Purpose::Heartbeat { attempt: membership.attempt };
        let max_version = ApiKey::Heartbeat.max_version();
        self.network.send(now, link, &request.into(), max_version, purpose);
        true
    }

    pub(super) fn on_heartbeat(
        &mut self,
        now: Instant,
        attempt: u64,
        result: Result<Response, ClientError>,
    ) {
        if attempt != self.membership.attempt {
            return;
        }
        self.membership.is_heartbeat_asked = false;
        let error = match result {
            Ok(Response::Heartbeat(response)) => ClientError::from_code(response.error_code),
            Ok(_) => unreachable!("an answer has the type of its question"),
            Err(error) => Some(error),
        };
        let Some(error) = error else {
            return self.coordinator_answers();
        };
        if !self.membership.takes_part() {
            return;
        }
        match error.refused_with() {
            Some(ErrorCode::RebalanceInProgress) => {
                self.coordinator_answers();
                if self.membership.stage == Stage::Stable {
                    self.membership.rejoin = Some("the group rebalances");
                }
            }
            Some(ErrorCode::IllegalGeneration) => self.lose_membership(now, false),
            Some(ErrorCode::UnknownMemberId) => self.lose_membership(now, true),
            _ if is_elsewhere(&error) => self.lose_coordinator(now),
            _ if error.is_retriable() => {}
            _ => self.fail(error),
        }
    }

    /// Begins to leave. What is held back by the coordinator is given up with its connection.
    pub(super) fn begin_leave(&mut self, now: Instant, until: Instant, reason: &'static str) {
        let was_parked = self.membership.is_parked();
        self.membership.attempt += 1;
        self.membership.watched.clear();
        self.membership.rejoin = None;
        self.membership.stage = Stage::Leaving { until, reason, asked: false };
        if was_parked {
            self.drop_coordinator_link(now);
        }
    }

    fn drive_leaving(&mut self, now: Instant) -> bool {
        let Stage::Leaving { until, reason, asked } = self.membership.stage else {
            unreachable!("only a leaving member leaves")
        };
        let is_over = now >= until;
        if !is_over && self.offsets.pending_commits() > 0 {
            return false;
        }
        let is_static = self.config.instance_id.is_some();
        if is_over || is_static || self.membership.member_id.is_empty() {
            self.step_out(now);
            return true;
        }
        if asked {
            return false;
        }
        let Some(link) = self.coordinator_link(now) else {
            return false;
        };
        let member_id = self.membership.member_id.clone();
        let request = LeaveGroupRequest {
            group_id: self.config.group_id.clone(),
            member_id: member_id.clone(),
            members: vec![MemberIdentity {
                member_id,
                group_instance_id: None,
                reason: Some(KafkaString::from_static(reason)),
            }],
        };
        self.membership.stage = Stage::Leaving { until, reason, asked: true };
        let purpose = Purpose::Leave { attempt: self.membership.attempt };
        let max_version = ApiKey::LeaveGroup.max_version();
        self.network.send(now, link, &request.into(), max_version, purpose);
        true
    }

    pub(super) fn on_left(
        &mut self,
        now: Instant,
        attempt: u64,
        result: Result<Response, ClientError>,
    ) {
        if attempt != self.membership.attempt {
            return;
        }
        let error = match result {
            Ok(Response::LeaveGroup(response)) => ClientError::from_code(response.error_code),
            Ok(_) => unreachable!("an answer has the type of its question"),
            Err(error) => Some(error),
        };
        match (error, &mut self.membership.stage) {
            (Some(error), Stage::Leaving { asked, .. }) if is_elsewhere(&error) => {
                *asked = false;
                self.lose_coordinator(now);
            }
            // Whatever else is wrong, the session's end settles it.
            (Some(_) | None, _) => self.step_out(now),
        }
    }

    fn step_out(&mut self, now: Instant) {
        let membership = &mut self.membership;
        membership.attempt += 1;
        membership.stage = Stage::Out;
        membership.generation_id = -1;
        membership.owned_generation = -1;
        membership.owned.clear();
        if self.config.instance_id.is_none() {
            membership.member_id = KafkaString::default();
        }
        let left = ClientError::Broker(ErrorCode::UnknownMemberId);
        self.offsets.fail_member_commits(&left, &mut self.events);
        self.events.push_back(GroupEvent::Left);
        if std::mem::take(&mut self.membership.comes_back) {
            self.begin_join(now, "the member subscribes");
        }
    }
}
