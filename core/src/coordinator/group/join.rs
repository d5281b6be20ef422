//! `JoinGroup`: who may come in, and when a generation begins.

use std::time::Duration;

use super::api::{JoinGroup, JoinGroupAnswer, Response, Ticket};
use super::live::{Group, GroupPhase, InitialDelay, MEMBER_BYTES_MIN, Member, protocol_bytes};
use super::replies::{append_error, join_refused, sync_refused};
use super::timers::Timer;
use super::{Cx, GroupCoordinator};
use crate::error::ErrorCode;
use crate::ids::Uuid;
use crate::io::Mark;
use crate::wire::KafkaString;
use crate::wire::reader::MAX_STRING_BYTES;

/// First version in which a dynamic member is given its id before it joins (KIP-394).
const FIRST_VERSION_WITH_KNOWN_IDS: i16 = 4;
/// First version in which a leader may be told to skip the assignment (KIP-814).
const FIRST_VERSION_WITH_SKIPPED_ASSIGNMENT: i16 = 9;
/// How often at most a group of absent static members is looked at.
const POLL_OF_ABSENT_MEMBERS: Duration = Duration::from_secs(1);

impl GroupCoordinator {
    pub(super) fn join_group(&mut self, cx: &mut Cx<'_>, ticket: Ticket, request: &JoinGroup) {
        let session_ms = i64::from(request.session_timeout_ms);
        let shortest = self.config.session_timeout_min.as_millis() as i64;
        let longest = self.config.session_timeout_max.as_millis() as i64;
        let refusal = if request.group_id.is_empty() {
            Some(ErrorCode::InvalidGroupId)
        } else if !(shortest..=longest).contains(&session_ms) {
            Some(ErrorCode::InvalidSessionTimeout)
        } else if protocol_bytes(&request.protocols) > self.config.member_bytes_max {
            Some(ErrorCode::InvalidRequest)
        // Differs from Kafka: there is a limit, because nothing may grow without a bound.
        } else if !self.has_room(self.growth(request)) {
            Some(ErrorCode::PolicyViolation)
        } else if request.member_id.is_empty() {
            self.join_new(cx, ticket, request).err()
        } else {
            self.join_again(cx, ticket, request).err()
        };
        if let Some(error) = refusal {
            let member_id = if error == ErrorCode::GroupMaxSizeReached {
                KafkaString::default()
            } else {
                request.member_id.clone()
            };
            self.replies.push(ticket, join_refused(member_id, error));
        }
    }

    /// Returns by how much the request lets the bytes of all members grow.
    fn growth(&self, request: &JoinGroup) -> usize {
        let instance = request.group_instance_id.as_ref();
        let known = self.groups.get(&request.group_id).and_then(|group| {
            let by_name = instance.and_then(|instance| group.static_member(instance));
            group.member(by_name.unwrap_or(&request.member_id))
        });
        let protocols = protocol_bytes(&request.protocols);
        known.map_or_else(
            || {
                let name = instance.map_or(0, |instance| instance.len()) + request.client_id.len();
                // The id that it is given begins with one of the two.
                MEMBER_BYTES_MIN + 2 * name + request.client_host.len() + protocols
            },
            |member| protocols.saturating_sub(member.protocol_bytes()),
        )
    }

    /// Returns whether members may take so many bytes more.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let room = self.config.members_bytes_max.saturating_sub(self.members_bytes);
        bytes == 0 || bytes <= room
    }

    fn join_new(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &JoinGroup,
    ) -> Result<(), ErrorCode> {
        match self.groups.get(&request.group_id) {
            Some(group) => {
                self.accept(group, "")?;
                if !group.supports(&request.protocol_type, &request.protocols) {
                    return Err(ErrorCode::InconsistentGroupProtocol);
                }
            }
            None if request.protocol_type.is_empty() || request.protocols.is_empty() => {
                return Err(ErrorCode::InconsistentGroupProtocol);
            }
            // Differs from Kafka: there is a limit, because nothing may grow without a bound.
            None if self.groups.len() >= self.config.groups_max => {
                return Err(ErrorCode::PolicyViolation);
            }
            None => {}
        }
        let name = request.group_instance_id.as_ref().unwrap_or(&request.client_id);
        let member_id = KafkaString::from(format!("{name}-{}", hyphened(cx.log.next_id())));
        if member_id.len() > MAX_STRING_BYTES {
            return Err(ErrorCode::InvalidRequest);
        }
        let wall = cx.now.wall;
        let group_id = request.group_id.detached();
        let group = self.groups.entry(group_id.clone()).or_insert_with(|| Group::new(wall));
        let taken = request
            .group_instance_id
            .as_ref()
            .and_then(|instance| group.static_member(instance))
            .cloned();
        if let Some(before) = taken {
            self.replace_static(cx, ticket, request, &before, &member_id);
        } else if request.group_instance_id.is_none()
            && request.version >= FIRST_VERSION_WITH_KNOWN_IDS
        {
            group.add_pending_member(member_id.clone());
            let session = Timer::Session(group_id, member_id.clone());
            let timeout = Member::new(request).session_timeout();
            self.timers.set(session, cx.now.mono + timeout);
            self.replies.push(ticket, join_refused(member_id, ErrorCode::MemberIdRequired));
        } else {
            self.add_member(cx, ticket, request, &member_id);
        }
        Ok(())
    }

    fn join_again(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &JoinGroup,
    ) -> Result<(), ErrorCode> {
        let member_id = &request.member_id;
        let group = self.groups.get(&request.group_id).ok_or(ErrorCode::UnknownMemberId)?;
        if let Err(error) = self.accept(group, member_id) {
            self.take_out(&request.group_id, member_id);
            self.complete_join_if_all(cx, &request.group_id);
            return Err(error);
        }
        if !group.supports(&request.protocol_type, &request.protocols) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if group.pending_members().contains(member_id) && request.group_instance_id.is_none() {
            let member_id = member_id.detached();
            self.add_member(cx, ticket, request, &member_id);
            return Ok(());
        }
        group.validate_member(member_id, request.group_instance_id.as_ref())?;
        let member = group.member(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let same = member.matches(&request.protocols);
        match group.phase() {
            // A member that has not heard the answer asks again: it is in this generation.
            GroupPhase::CompletingRebalance if same => {
                let led = group.is_leader(member_id);
                let answer = joined(group, member_id.clone(), led, false, group.leader());
                self.note_join(&request.group_id, member_id);
                self.replies.push(ticket, answer);
            }
            // The leader's word is enough for a rebalance: partitions may have come, of which its
            // own metadata does not tell.
            GroupPhase::Stable if same && !group.is_leader(member_id) => {
                let answer = joined(group, member_id.clone(), false, false, group.leader());
                self.note_join(&request.group_id, member_id);
                self.replies.push(ticket, answer);
            }
            GroupPhase::PreparingRebalance
            | GroupPhase::CompletingRebalance
            | GroupPhase::Stable => {
                let group = self.groups.get_mut(&request.group_id).expect("looked up above");
                if let Some(before) = group.update(member_id, request, ticket) {
                    // The later request takes the place of the one before, whose asker has
                    // usually gone.
                    let answer = join_refused(member_id.clone(), ErrorCode::RebalanceInProgress);
                    self.replies.push(before, answer);
                }
                self.note_join(&request.group_id, member_id);
                self.rebalance(cx, &request.group_id);
            }
            GroupPhase::Empty => return Err(ErrorCode::UnknownMemberId),
        }
        Ok(())
    }

    /// Checks that the group has room for the member. While members rejoin those count that have,
    /// so that a group that is over its size sheds the last ones to come.
    fn accept(&self, group: &Group, member_id: &str) -> Result<(), ErrorCode> {
        let most = self.config.members_max;
        let room = match group.phase() {
            GroupPhase::Empty => true,
            GroupPhase::PreparingRebalance => {
                group.member(member_id).is_some_and(|member| member.joining.is_some())
                    || group.awaiting_join() < most
            }
            GroupPhase::CompletingRebalance | GroupPhase::Stable => {
                group.member(member_id).is_some() || group.members().len() < most
            }
        };
        // Differs from Kafka: ids that were handed out count, so that they are bounded too.
        let ids = !member_id.is_empty() || group.pending_members().len() < most;
        if room && ids { Ok(()) } else { Err(ErrorCode::GroupMaxSizeReached) }
    }

    fn add_member(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &JoinGroup,
        member_id: &KafkaString,
    ) {
        let group_id = request.group_id.detached();
        let group = self.groups.get_mut(&group_id).expect("made or looked up before");
        if group.phase() == GroupPhase::PreparingRebalance
            && group.previous_phase() == GroupPhase::Empty
        {
            group.new_member_added = true;
        }
        group.add(member_id.clone(), Member::new(request), ticket, &request.protocol_type);
        // A new member sends no heartbeats while it waits, and its connection is not asked. One
        // that is still there after this time asks again.
        let session = Timer::Session(group_id.clone(), member_id.clone());
        self.timers.set(session, cx.now.mono + self.config.new_member_join_timeout);
        self.note_join(&group_id, member_id);
        self.rebalance(cx, &group_id);
    }

    /// A static member that comes without an id takes over from the one that had its name (KIP-345).
    fn replace_static(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &JoinGroup,
        before: &KafkaString,
        member_id: &KafkaString,
    ) {
        let group_id = request.group_id.detached();
        let now = self.groups.get(&group_id).expect("looked up before");
        let leader_before = now.leader();
        let mut next = now.clone();
        let joining = next.take_joining(before);
        let syncing = next.member_mut(before).and_then(|member| member.syncing.take());
        next.replace_static(before, member_id.clone());
        next.update(member_id, request, ticket);

        let stays =
            next.phase() == GroupPhase::Stable && next.voted_protocol() == next.protocol_name;
        if stays {
            // The assignment holds, so nobody else is disturbed; the new id must be known after a
            // restart.
            let record = next.to_record(&group_id, |_, member| member.assignment.clone());
            if let Err(error) = self.append(cx, &[record]) {
                let mut answer = joined(&next, KafkaString::default(), false, false, leader_before);
                if let Response::JoinGroup(answer) = &mut answer {
                    answer.error = append_error(error);
                }
                self.replies.push(ticket, answer);
                return;
            }
        }
        if let Some(fenced) = joining {
            let answer = join_refused(before.clone(), ErrorCode::FencedInstanceId);
            self.replies.push(fenced, answer);
        }
        if let Some(fenced) = syncing {
            self.replies.push(fenced, sync_refused(ErrorCode::FencedInstanceId));
        }
        self.timers.cancel(&Timer::Session(group_id.clone(), before.clone()));
        self.groups.insert(group_id.clone(), next);
        self.refresh_session(cx, &group_id, member_id);
        self.note_join(&group_id, member_id);
        if stays {
            cx.log.mark(Mark::StaticMemberReplaced);
            let group = self.groups.get_mut(&group_id).expect("just put there");
            group.take_joining(member_id);
            let answer = if request.version >= FIRST_VERSION_WITH_SKIPPED_ASSIGNMENT {
                let leads = group.is_leader(member_id);
                joined(group, member_id.clone(), leads, leads, group.leader())
            } else {
                // Told that the old id leads, a returning leader fetches its assignment like a
                // follower instead of making one that nobody waits for.
                joined(group, member_id.clone(), false, false, leader_before)
            };
            self.replies.push(ticket, answer);
        } else {
            self.rebalance(cx, &group_id);
        }
    }

    /// Starts a rebalance, or goes on with the one that runs.
    pub(super) fn rebalance(&mut self, cx: &mut Cx<'_>, group_id: &KafkaString) {
        let group = self.groups.get(group_id).expect("a group that is there");
        if group.phase() == GroupPhase::PreparingRebalance {
            self.complete_join_if_all(cx, group_id);
        } else {
            self.prepare_rebalance(cx, group_id);
        }
    }

    /// Asks all members to join again.
    pub(super) fn prepare_rebalance(&mut self, cx: &mut Cx<'_>, group_id: &KafkaString) {
        let group_id = &self.own_id(group_id);
        let group = self.groups.get(group_id).expect("a group that is there");
        if group.phase() == GroupPhase::CompletingRebalance {
            self.fail_sync(cx, group_id, ErrorCode::RebalanceInProgress);
        }
        self.timers.cancel(&Timer::Sync(group_id.clone()));

        let group = self.groups.get_mut(group_id).expect("a group that is there");
        let initial = group.phase() == GroupPhase::Empty;
        group.transition(GroupPhase::PreparingRebalance, cx.now.wall);
        if initial {
            let current = self.config.initial_rebalance_delay;
            let remaining = group.rebalance_timeout().saturating_sub(current);
            group.initial_delay = Some(InitialDelay { current, remaining });
            group.new_member_added = false;
            self.timers.set(Timer::Join(group_id.clone()), cx.now.mono + current);
        } else if group.all_have_joined() {
            self.complete_join(cx, group_id);
        } else {
            let wait = group.rebalance_timeout();
            self.timers.set(Timer::Join(group_id.clone()), cx.now.mono + wait);
        }
    }

    pub(super) fn complete_join_if_all(&mut self, cx: &mut Cx<'_>, group_id: &KafkaString) {
        let group = self.groups.get(group_id).expect("a group that is there");
        // An empty group waits its initial delay even if all have come.
        if group.phase() == GroupPhase::PreparingRebalance
            && group.previous_phase() != GroupPhase::Empty
            && group.all_have_joined()
        {
            self.complete_join(cx, group_id);
        }
    }

    /// Begins a generation with the members that are there.
    fn complete_join(&mut self, cx: &mut Cx<'_>, group_id: &KafkaString) {
        let group_id = &self.own_id(group_id);
        self.timers.cancel(&Timer::Join(group_id.clone()));
        let group = self.groups.get_mut(group_id).expect("a group that is there");
        group.initial_delay = None;
        for late in group.dynamic_members_not_rejoined() {
            group.remove(&late);
            cx.log.mark(Mark::LateMemberDropped);
            self.timers.cancel(&Timer::Session(group_id.clone(), late));
        }
        if !group.elect_joined_leader() && !group.members().is_empty() {
            // Only static members are left, of whom none has come: their sessions decide. A member
            // may have said that nobody need wait for it, and this must not spin.
            let wait = group.rebalance_timeout().max(POLL_OF_ABSENT_MEMBERS);
            self.timers.set(Timer::Join(group_id.clone()), cx.now.mono + wait);
            return;
        }
        group.next_generation(cx.now.wall);
        if group.phase() == GroupPhase::Empty {
            let record = group.to_record(group_id, |_, member| member.assignment.clone());
            if let Err(error) = self.append(cx, &[record]) {
                // Members that the log still knows come back at a restart, and their sessions end.
                tracing::warn!(group = %group_id, %error, "an empty group was not stored");
            }
            self.drop_if_idle(group_id);
            return;
        }
        let members: Vec<KafkaString> = group.members().keys().cloned().collect();
        for member_id in members {
            let group = self.groups.get_mut(group_id).expect("a group that is there");
            group.pending_sync.insert(member_id.clone());
            if let Some(member) = group.member_mut(&member_id) {
                member.is_new = false;
            }
            if let Some(ticket) = group.take_joining(&member_id) {
                let leads = group.is_leader(&member_id);
                let answer = joined(group, member_id.clone(), leads, false, group.leader());
                self.replies.push(ticket, answer);
            }
            self.refresh_session(cx, group_id, &member_id);
        }
        let group = self.groups.get(group_id).expect("a group that is there");
        let wait = group.rebalance_timeout();
        self.timers.set(Timer::Sync(group_id.clone()), cx.now.mono + wait);
    }

    /// Members had time enough to join.
    pub(super) fn on_join_timeout(&mut self, cx: &mut Cx<'_>, group_id: &KafkaString) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        if group.phase() != GroupPhase::PreparingRebalance {
            return;
        }
        if let Some(delay) = group.initial_delay
            && group.new_member_added
            && !delay.remaining.is_zero()
        {
            let current = self.config.initial_rebalance_delay.min(delay.remaining);
            let remaining = delay.remaining.saturating_sub(delay.current);
            group.new_member_added = false;
            group.initial_delay = Some(InitialDelay { current, remaining });
            self.timers.set(Timer::Join(group_id.clone()), cx.now.mono + current);
            return;
        }
        self.complete_join(cx, group_id);
    }

    /// Returns the group's id as it is kept here, so that no timer keeps a frame alive.
    fn own_id(&self, group_id: &str) -> KafkaString {
        self.groups.get_key_value(group_id).expect("a group that is there").0.clone()
    }

    fn note_join(&mut self, group_id: &str, member_id: &str) {
        let order = self.deleted_topics.next();
        if let Some(member) =
            self.groups.get_mut(group_id).and_then(|group| group.member_mut(member_id))
        {
            member.joined = order;
        }
    }
}

/// Returns the answer that tells a member its generation.
fn joined(
    group: &Group,
    member_id: KafkaString,
    with_members: bool,
    skip_assignment: bool,
    leader: KafkaString,
) -> Response {
    Response::JoinGroup(JoinGroupAnswer {
        error: ErrorCode::None,
        generation_id: group.generation_id,
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol_name.clone(),
        leader,
        skip_assignment,
        member_id,
        members: if with_members { group.joined_members() } else { Vec::new() },
    })
}

/// Returns an id as Java writes it.
fn hyphened(id: Uuid) -> String {
    let hex = u128::from_be_bytes(id.0);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        hex >> 96,
        (hex >> 80) & 0xffff,
        (hex >> 64) & 0xffff,
        (hex >> 48) & 0xffff,
        hex & 0xffff_ffff_ffff
    )
}
