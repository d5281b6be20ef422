//! Staying in a group and leaving it: heartbeats, sessions, `LeaveGroup`.

use super::api::{
    Heartbeat, LeaveGroup, LeaveGroupAnswer, LeavingMember, LeftMember, Response, Ticket,
};
use super::live::GroupPhase;
use super::replies::{join_refused, sync_refused};
use super::timers::Timer;
use super::{Cx, GroupCoordinator};
use crate::error::ErrorCode;
use crate::io::Mark;
use crate::wire::KafkaString;

impl GroupCoordinator {
    pub(super) fn heartbeat(&mut self, cx: &Cx<'_>, ticket: Ticket, request: &Heartbeat) {
        let error = self.try_heartbeat(cx, request).err().unwrap_or(ErrorCode::None);
        self.replies.push(ticket, Response::Heartbeat(error));
    }

    fn try_heartbeat(&mut self, cx: &Cx<'_>, request: &Heartbeat) -> Result<(), ErrorCode> {
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let group = self.groups.get(&request.group_id).ok_or(ErrorCode::UnknownMemberId)?;
        group.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != group.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let phase = group.phase();
        match phase {
            GroupPhase::Empty => Err(ErrorCode::UnknownMemberId),
            GroupPhase::PreparingRebalance => {
                self.refresh_session(cx, &request.group_id, &request.member_id);
                Err(ErrorCode::RebalanceInProgress)
            }
            GroupPhase::CompletingRebalance | GroupPhase::Stable => {
                self.refresh_session(cx, &request.group_id, &request.member_id);
                Ok(())
            }
        }
    }

    /// Begins a member's session again.
    pub(super) fn refresh_session(&mut self, cx: &Cx<'_>, group_id: &str, member_id: &str) {
        let Some((group_id, group)) = self.groups.get_key_value(group_id) else { return };
        let Some((member_id, member)) = group.members().get_key_value(member_id) else { return };
        let session = Timer::Session(group_id.clone(), member_id.clone());
        self.timers.set(session, cx.now.mono + member.session_timeout());
    }

    /// A member, or an id that was handed out, was silent for its session.
    pub(super) fn on_session_timeout(
        &mut self,
        cx: &mut Cx<'_>,
        group_id: &KafkaString,
        member_id: &KafkaString,
    ) {
        let Some(group) = self.groups.get(group_id) else { return };
        let was_member = group.member(member_id).is_some();
        let expired = match group.member(member_id) {
            None => group.pending_members().contains(member_id),
            // Whoever waits for the coordinator is not silent, unless it never was in a generation:
            // its connection may be gone, and nobody else would notice.
            Some(member) => member.is_new || (member.joining.is_none() && member.syncing.is_none()),
        };
        if expired {
            self.take_out(group_id, member_id);
            cx.log.mark(Mark::SessionExpired);
            // An id that never came is no loss for those that are there.
            self.after_departure(cx, group_id, was_member);
        }
    }

    /// Takes a member or a pending id out; what it waits for is answered.
    pub(super) fn take_out(&mut self, group_id: &KafkaString, member_id: &KafkaString) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let member = group.remove(member_id);
        self.timers.cancel(&Timer::Session(group_id.clone(), member_id.clone()));
        if let Some(ticket) = member.as_ref().and_then(|member| member.joining) {
            let answer = join_refused(KafkaString::default(), ErrorCode::UnknownMemberId);
            self.replies.push(ticket, answer);
        }
        if let Some(ticket) = member.as_ref().and_then(|member| member.syncing) {
            self.replies.push(ticket, sync_refused(ErrorCode::UnknownMemberId));
        }
    }

    /// Goes on without members that were taken out.
    fn after_departure(&mut self, cx: &mut Cx<'_>, group_id: &KafkaString, rebalance: bool) {
        let Some(group) = self.groups.get(group_id) else { return };
        match group.phase() {
            GroupPhase::Empty => {}
            GroupPhase::PreparingRebalance => self.complete_join_if_all(cx, group_id),
            GroupPhase::CompletingRebalance | GroupPhase::Stable => {
                if rebalance {
                    self.prepare_rebalance(cx, group_id);
                }
            }
        }
        self.drop_if_idle(group_id);
    }

    pub(super) fn leave_group(&mut self, cx: &mut Cx<'_>, ticket: Ticket, request: &LeaveGroup) {
        let answer = if request.group_id.is_empty() {
            LeaveGroupAnswer { error: ErrorCode::InvalidGroupId, members: Vec::new() }
        } else {
            let mut members = Vec::with_capacity(request.members.len());
            for member in &request.members {
                let error = self.leave(&request.group_id, member).err().unwrap_or(ErrorCode::None);
                members.push(LeftMember {
                    member_id: member.member_id.clone(),
                    group_instance_id: member.group_instance_id.clone(),
                    error,
                });
            }
            LeaveGroupAnswer { error: ErrorCode::None, members }
        };
        let left = answer.members.iter().any(|member| member.error == ErrorCode::None);
        if left {
            self.after_departure(cx, &request.group_id, true);
        }
        self.replies.push(ticket, Response::LeaveGroup(answer));
    }

    fn leave(&mut self, group_id: &KafkaString, leaving: &LeavingMember) -> Result<(), ErrorCode> {
        let group = self.groups.get(group_id).ok_or(ErrorCode::UnknownMemberId)?;
        let instance = leaving.group_instance_id.as_ref();
        let member_id = if leaving.member_id.is_empty() {
            // An administrator knows a static member by its name alone.
            let member_id = instance.and_then(|instance| group.static_member(instance));
            member_id.cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else {
            if !group.pending_members().contains(&leaving.member_id) {
                group.validate_member(&leaving.member_id, instance)?;
            }
            leaving.member_id.clone()
        };
        let reason = leaving.reason.as_deref().unwrap_or("not provided");
        tracing::debug!(group = %group_id, member = %member_id, reason, "a member leaves");
        self.take_out(group_id, &member_id);
        Ok(())
    }
}
