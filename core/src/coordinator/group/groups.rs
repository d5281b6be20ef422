//! Telling what groups there are, and taking one away.

use super::api::{
    DescribeGroup, DescribeGroupAnswer, DescribedMember, ListGroups, ListGroupsAnswer, ListedGroup,
    Response, Ticket,
};
use super::live::GroupPhase;
use super::offsets::offset_key;
use super::replies::append_error;
use super::{Cx, GroupCoordinator};
use crate::error::ErrorCode;
use crate::wire::KafkaString;
use crate::wire::group_record::{GroupMetadataKey, GroupRecord};

/// First version in which a group that does not exist is an error (KIP-1043).
const FIRST_VERSION_WITH_NOT_FOUND: i16 = 6;
/// Kafka's name for a group that does not exist.
const DEAD: &str = "Dead";
/// The type of all groups here.
const CLASSIC: &str = "classic";

impl GroupCoordinator {
    pub(super) fn describe_group(&mut self, ticket: Ticket, request: &DescribeGroup) {
        let answer = self.described(request);
        self.replies.push(ticket, Response::DescribeGroup(answer));
    }

    fn described(&self, request: &DescribeGroup) -> DescribeGroupAnswer {
        let mut answer = DescribeGroupAnswer {
            error: ErrorCode::None,
            error_message: None,
            group_id: request.group_id.clone(),
            group_state: GroupPhase::Empty.name(),
            protocol_type: KafkaString::default(),
            protocol_data: KafkaString::default(),
            members: Vec::new(),
        };
        let Some(group) = self.groups.get(&request.group_id) else {
            if !self.stored.has_offsets(&request.group_id) {
                answer.group_state = DEAD;
                if request.version >= FIRST_VERSION_WITH_NOT_FOUND {
                    answer.error = ErrorCode::GroupIdNotFound;
                    answer.error_message = Some(format!("Group {} not found.", request.group_id));
                }
            }
            return answer;
        };
        let stable = group.phase() == GroupPhase::Stable;
        answer.group_state = group.phase().name();
        answer.protocol_type = group.protocol_type.clone().unwrap_or_default();
        if stable {
            answer.protocol_data = group.protocol_name.clone().unwrap_or_default();
        }
        answer.members = group
            .members()
            .iter()
            .map(|(id, member)| {
                let metadata = member.metadata(&answer.protocol_data).filter(|_| stable);
                DescribedMember {
                    member_id: id.clone(),
                    group_instance_id: member.group_instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    metadata: metadata.cloned().unwrap_or_default(),
                    assignment: member.assignment.clone(),
                }
            })
            .collect();
        answer
    }

    pub(super) fn list_groups(&mut self, ticket: Ticket, request: &ListGroups) {
        let wanted = |filter: &[KafkaString], word: &str| {
            filter.is_empty() || filter.iter().any(|one| one.trim().eq_ignore_ascii_case(word))
        };
        let mut groups = Vec::new();
        if wanted(&request.types_filter, CLASSIC) {
            let with_offsets = self.stored.groups_with_offsets();
            let offsets_only = with_offsets.iter().filter(|id| !self.groups.contains_key(*id));
            let live = self.groups.iter().map(|(id, group)| {
                (id, group.protocol_type.clone().unwrap_or_default(), group.phase().name())
            });
            let simple =
                offsets_only.map(|id| (id, KafkaString::default(), GroupPhase::Empty.name()));
            groups = live
                .chain(simple)
                .filter(|(_, _, state)| wanted(&request.states_filter, state))
                .map(|(id, protocol_type, group_state)| ListedGroup {
                    group_id: id.clone(),
                    protocol_type,
                    group_state,
                    group_type: CLASSIC,
                })
                .collect();
            groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        }
        let answer = ListGroupsAnswer { error: ErrorCode::None, groups };
        self.replies.push(ticket, Response::ListGroups(answer));
    }

    pub(super) fn delete_group(&mut self, cx: &mut Cx<'_>, ticket: Ticket, group_id: &KafkaString) {
        let error = self.try_delete_group(cx, group_id).err().unwrap_or(ErrorCode::None);
        self.replies.push(ticket, Response::DeleteGroup(error));
    }

    fn try_delete_group(
        &mut self,
        cx: &mut Cx<'_>,
        group_id: &KafkaString,
    ) -> Result<(), ErrorCode> {
        match self.groups.get(group_id) {
            Some(group) if group.phase() != GroupPhase::Empty => {
                return Err(ErrorCode::NonEmptyGroup);
            }
            None if !self.stored.has_offsets(group_id) => {
                return Err(ErrorCode::GroupIdNotFound);
            }
            Some(_) | None => {}
        }
        // A tombstone also takes away what transactions have staged.
        let mut records: Vec<GroupRecord> = self
            .stored
            .offset_names(group_id)
            .iter()
            .map(|(topic, partition)| offset_key(group_id, topic, *partition))
            .map(|key| GroupRecord::OffsetCommit(key, None))
            .collect();
        records.push(group_tombstone(group_id));
        self.append_in_parts(cx, &records).map_err(append_error)?;
        self.forget(group_id);
        Ok(())
    }
}

/// Returns the record that takes a group away.
pub(super) fn group_tombstone(group_id: &KafkaString) -> GroupRecord {
    GroupRecord::GroupMetadata(GroupMetadataKey { group: group_id.clone() }, None)
}
