//! `SyncGroup`: the leader hands in the assignment, and every member fetches its own.

use bytes::Bytes;

use super::api::{Response, SyncGroup, SyncGroupAnswer, Ticket};
use super::live::{Group, GroupPhase, by_member};
use super::replies::{append_error, sync_refused};
use super::timers::Timer;
use super::{Cx, GroupCoordinator};
use crate::error::ErrorCode;
use crate::io::Mark;
use crate::wire::KafkaString;

impl GroupCoordinator {
    pub(super) fn sync_group(&mut self, cx: &mut Cx<'_>, ticket: Ticket, request: &SyncGroup) {
        if let Err(error) = self.try_sync(cx, ticket, request) {
            self.replies.push(ticket, sync_refused(error));
        }
    }

    fn try_sync(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &SyncGroup,
    ) -> Result<(), ErrorCode> {
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let group = self.groups.get_mut(&request.group_id).ok_or(ErrorCode::UnknownMemberId)?;
        group.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != group.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs =
            |said: &Option<KafkaString>, is: &Option<KafkaString>| said.is_some() && said != is;
        if differs(&request.protocol_type, &group.protocol_type)
            || differs(&request.protocol_name, &group.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match group.phase() {
            GroupPhase::Empty => Err(ErrorCode::UnknownMemberId),
            GroupPhase::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupPhase::CompletingRebalance => {
                let leads = group.is_leader(&request.member_id);
                let member = group.member_mut(&request.member_id).expect("validated above");
                if let Some(before) = member.syncing.replace(ticket) {
                    self.replies.push(before, sync_refused(ErrorCode::RebalanceInProgress));
                }
                self.has_synced(&request.group_id, &request.member_id);
                if leads {
                    self.store_assignment(cx, request);
                }
                Ok(())
            }
            GroupPhase::Stable => {
                let answer = synced(group, &request.member_id);
                self.has_synced(&request.group_id, &request.member_id);
                self.replies.push(ticket, answer);
                Ok(())
            }
        }
    }

    fn store_assignment(&mut self, cx: &mut Cx<'_>, request: &SyncGroup) {
        let group_id = request.group_id.detached();
        let assignments = by_member(&request.assignments);
        let group = self.groups.get(&group_id).expect("looked up before");
        let record =
            group.to_record(&group_id, |id, _| assignments.get(id).cloned().unwrap_or_default());
        let before: usize = group.members().values().map(|member| member.assignment.len()).sum();
        let after: usize = assignments.values().map(Bytes::len).sum();
        let stored = if self.has_room(after.saturating_sub(before)) {
            self.append(cx, &[record])
        } else {
            Err(ErrorCode::PolicyViolation)
        };
        match stored {
            Ok(()) => {
                let group = self.groups.get_mut(&group_id).expect("looked up before");
                group.assign(&assignments);
                group.transition(GroupPhase::Stable, cx.now.wall);
                self.answer_sync(cx, &group_id, ErrorCode::None);
            }
            Err(error) => {
                self.fail_sync(cx, &group_id, append_error(error));
                self.rebalance(cx, &group_id);
            }
        }
    }

    /// Takes the assignment away, and tells those that wait for it why.
    pub(super) fn fail_sync(&mut self, cx: &Cx<'_>, group_id: &KafkaString, error: ErrorCode) {
        let group = self.groups.get_mut(group_id).expect("a group that is there");
        group.assign(&std::collections::BTreeMap::new());
        self.answer_sync(cx, group_id, error);
    }

    fn answer_sync(&mut self, cx: &Cx<'_>, group_id: &KafkaString, error: ErrorCode) {
        let group = self.groups.get_mut(group_id).expect("a group that is there");
        let waiting: Vec<(KafkaString, Ticket)> = group
            .members_mut()
            .filter_map(|(id, member)| Some((id.clone(), member.syncing.take()?)))
            .collect();
        for (member_id, ticket) in waiting {
            let group = self.groups.get(group_id).expect("a group that is there");
            let answer = if error == ErrorCode::None {
                synced(group, &member_id)
            } else {
                sync_refused(error)
            };
            self.replies.push(ticket, answer);
            // A session that ended while the member waited was passed over.
            self.refresh_session(cx, group_id, &member_id);
        }
    }

    fn has_synced(&mut self, group_id: &KafkaString, member_id: &KafkaString) {
        let group = self.groups.get_mut(group_id).expect("a group that is there");
        group.pending_sync.remove(member_id);
        if group.pending_sync.is_empty() {
            self.timers.cancel(&Timer::Sync(group_id.clone()));
        }
    }

    /// Members had time enough to fetch their assignment: those that have not are taken out.
    pub(super) fn on_sync_timeout(&mut self, cx: &mut Cx<'_>, group_id: &KafkaString) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let in_generation =
            matches!(group.phase(), GroupPhase::CompletingRebalance | GroupPhase::Stable);
        if !in_generation || group.pending_sync.is_empty() {
            return;
        }
        cx.log.mark(Mark::SyncTimedOut);
        for late in std::mem::take(&mut group.pending_sync) {
            group.remove(&late);
            self.timers.cancel(&Timer::Session(group_id.clone(), late));
        }
        self.prepare_rebalance(cx, group_id);
    }
}

fn synced(group: &Group, member_id: &str) -> Response {
    Response::SyncGroup(SyncGroupAnswer {
        error: ErrorCode::None,
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol_name.clone(),
        assignment: group.member(member_id).map(|one| one.assignment.clone()).unwrap_or_default(),
    })
}
