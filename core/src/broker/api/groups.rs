//! `JoinGroup`, `SyncGroup`, Heartbeat, `LeaveGroup` (keys 11 to 14), `DescribeGroups`, `ListGroups` and
//! `DeleteGroups` (15, 16, 42): what they ask of the coordinators of their groups.
//!
//! Each group is asked of the shard that leads its partition of `__consumer_offsets`. A response is
//! made beforehand with what stands in the request, and filled by
//! [`fill`](crate::broker::groups::fill). `JoinGroup` and `SyncGroup` may wait for the rest of their
//! group; how long is the coordinator's affair.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::coordinator::group::api as group;
use crate::error::ErrorCode;
use crate::time::Now;
use crate::wire::KafkaString;
use crate::wire::api::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use crate::wire::api::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use crate::wire::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::api::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use crate::wire::api::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use crate::wire::api::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use crate::wire::api::sync_group::{SyncGroupRequest, SyncGroupResponse};

/// What may be done with a group where nobody is refused anything: read, delete, describe, describe
/// its settings, alter them (KIP-430).
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// The first version of `SyncGroup` that must name type and name of the protocol (KIP-559).
const PROTOCOL_IN_SYNC: i16 = 5;

/// How often a group that one request names again and again is answered.
// Differs from Kafka, which answers each: a short request could ask for gigabytes.
const REPEATS_MAX: usize = 8;

/// Counts how often a name has come, and returns whether it is answered once more.
pub(in crate::broker) fn is_answered(
    times: &mut BTreeMap<KafkaString, usize>,
    name: &KafkaString,
) -> bool {
    let times = times.entry(name.clone()).or_default();
    *times += 1;
    *times <= REPEATS_MAX
}

impl Shard {
    pub(in crate::broker) fn on_join_group(
        &mut self,
        now: Now,
        ctx: RequestContext,
        client_id: Option<KafkaString>,
        request: JoinGroupRequest,
    ) {
        let response = JoinGroupResponse {
            member_id: request.member_id.clone(),
            protocol_name: Some(KafkaString::default()),
            ..JoinGroupResponse::default()
        };
        let protocols = request.protocols.into_iter();
        let asked = group::Request::JoinGroup(group::JoinGroup {
            version: ctx.version,
            group_id: request.group_id.clone(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            protocol_type: request.protocol_type,
            protocols: protocols
                .map(|protocol| group::JoinProtocol {
                    name: protocol.name,
                    metadata: protocol.metadata,
                })
                .collect(),
            reason: request.reason,
            client_id: client_id.unwrap_or_default(),
            client_host: self.client_host(ctx.id.connection),
        });
        self.ask_coordinator(now, ctx, response, &request.group_id, asked);
    }

    /// Returns where a connection comes from, in Kafka's form.
    fn client_host(&self, id: crate::ids::ConnectionId) -> KafkaString {
        let peer = self.connections.get(&id).map_or("", |connection| connection.peer());
        let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
        format!("/{}", host.trim_matches(['[', ']'])).into()
    }

    pub(in crate::broker) fn on_sync_group(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: SyncGroupRequest,
    ) {
        let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
        if ctx.version >= PROTOCOL_IN_SYNC && !names_protocol {
            let error_code = ErrorCode::InconsistentGroupProtocol.code();
            return self.respond(&ctx, SyncGroupResponse { error_code, ..Default::default() });
        }
        let assignments = request.assignments.into_iter();
        let asked = group::Request::SyncGroup(group::SyncGroup {
            group_id: request.group_id.clone(),
            generation_id: request.generation_id,
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            protocol_type: request.protocol_type,
            protocol_name: request.protocol_name,
            assignments: assignments
                .map(|entry| group::Assignment {
                    member_id: entry.member_id,
                    assignment: entry.assignment,
                })
                .collect(),
        });
        let response = SyncGroupResponse::default();
        self.ask_coordinator(now, ctx, response, &request.group_id, asked);
    }

    pub(in crate::broker) fn on_heartbeat(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: HeartbeatRequest,
    ) {
        let asked = group::Request::Heartbeat(group::Heartbeat {
            group_id: request.group_id.clone(),
            generation_id: request.generation_id,
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
        });
        let response = HeartbeatResponse::default();
        self.ask_coordinator(now, ctx, response, &request.group_id, asked);
    }

    pub(in crate::broker) fn on_leave_group(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: LeaveGroupRequest,
    ) {
        let members = if ctx.version < 3 {
            vec![group::LeavingMember {
                member_id: request.member_id,
                group_instance_id: None,
                reason: None,
            }]
        } else {
            let members = request.members.into_iter();
            members
                .map(|member| group::LeavingMember {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    reason: member.reason,
                })
                .collect()
        };
        let group_id = request.group_id.clone();
        let asked = group::Request::LeaveGroup(group::LeaveGroup { group_id, members });
        let response = LeaveGroupResponse::default();
        self.ask_coordinator(now, ctx, response, &request.group_id, asked);
    }

    pub(in crate::broker) fn on_describe_groups(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &DescribeGroupsRequest,
    ) {
        let operations =
            if request.include_authorized_operations { ALL_OPERATIONS } else { i32::MIN };
        let mut times = BTreeMap::new();
        let names = request.groups.iter().filter(|&name| is_answered(&mut times, name));
        let names: Vec<KafkaString> = names.cloned().collect();
        let response = DescribeGroupsResponse {
            groups: names
                .iter()
                .map(|group_id| DescribedGroup {
                    group_id: group_id.clone(),
                    authorized_operations: operations,
                    ..DescribedGroup::default()
                })
                .collect(),
            ..DescribeGroupsResponse::default()
        };
        let asked = names.into_iter().map(|group_id| {
            let version = ctx.version;
            let asked = group::DescribeGroup { version, group_id: group_id.clone() };
            (group_id, group::Request::DescribeGroup(asked))
        });
        self.ask_coordinators(now, ctx, response.into(), asked.collect());
    }

    pub(in crate::broker) fn on_delete_groups(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &DeleteGroupsRequest,
    ) {
        // A group that is named twice is answered once, as in Kafka.
        let mut seen = BTreeSet::new();
        let names = request.groups_names.iter().filter(|&name| seen.insert(name));
        let names: Vec<KafkaString> = names.cloned().collect();
        let response = DeleteGroupsResponse {
            results: names
                .iter()
                .map(|group_id| DeletableGroupResult { group_id: group_id.clone(), error_code: 0 })
                .collect(),
            ..DeleteGroupsResponse::default()
        };
        let asked = names.into_iter().map(|group_id| {
            let asked = group::DeleteGroup { group_id: group_id.clone() };
            (group_id, group::Request::DeleteGroup(asked))
        });
        self.ask_coordinators(now, ctx, response.into(), asked.collect());
    }

    pub(in crate::broker) fn on_list_groups(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: ListGroupsRequest,
    ) {
        let asked = group::ListGroups {
            states_filter: request.states_filter,
            types_filter: request.types_filter,
        };
        self.ask_all_coordinators(now, ctx, ListGroupsResponse::default().into(), &asked);
    }
}

/// Writes a coordinator's answer to a `JoinGroup` into its response.
pub(in crate::broker) fn fill_join(
    response: &mut JoinGroupResponse,
    outcome: Result<group::JoinGroupAnswer, ErrorCode>,
    version: i16,
) {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(code) => {
            response.error_code = code.code();
            response.protocol_name = named(None, version);
            return;
        }
    };
    let members = answer.members.into_iter();
    *response = JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: answer.error.code(),
        generation_id: answer.generation_id,
        protocol_type: answer.protocol_type,
        protocol_name: named(answer.protocol_name, version),
        leader: answer.leader,
        skip_assignment: answer.skip_assignment,
        member_id: answer.member_id,
        members: members
            .map(|member| JoinGroupResponseMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                metadata: member.metadata,
            })
            .collect(),
    };
}

/// A protocol's name may be null from version 7 on, and is empty before.
fn named(name: Option<KafkaString>, version: i16) -> Option<KafkaString> {
    if version >= 7 { name } else { Some(name.unwrap_or_default()) }
}

/// Writes a coordinator's answer to a `SyncGroup` into its response.
pub(in crate::broker) fn fill_sync(
    response: &mut SyncGroupResponse,
    outcome: Result<group::SyncGroupAnswer, ErrorCode>,
) {
    match outcome {
        Ok(answer) => {
            *response = SyncGroupResponse {
                throttle_time_ms: 0,
                error_code: answer.error.code(),
                protocol_type: answer.protocol_type,
                protocol_name: answer.protocol_name,
                assignment: answer.assignment,
            };
        }
        Err(code) => response.error_code = code.code(),
    }
}

/// Writes a coordinator's answer to a `LeaveGroup` into its response.
pub(in crate::broker) fn fill_leave(
    response: &mut LeaveGroupResponse,
    outcome: Result<group::LeaveGroupAnswer, ErrorCode>,
    version: i16,
) {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(code) => {
            response.error_code = code.code();
            return;
        }
    };
    response.error_code = answer.error.code();
    if version < 3 {
        // The error of the one member is that of the request.
        if answer.error == ErrorCode::None {
            response.error_code = answer.members.first().map_or(0, |member| member.error.code());
        }
        return;
    }
    let members = answer.members.into_iter();
    response.members = members
        .map(|member| MemberResponse {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            error_code: member.error.code(),
        })
        .collect();
}

/// Writes what a coordinator says of one group into a response.
pub(in crate::broker) fn fill_described(
    entry: &mut DescribedGroup,
    outcome: Result<group::DescribeGroupAnswer, ErrorCode>,
) {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(code) => {
            entry.error_code = code.code();
            entry.authorized_operations = i32::MIN;
            return;
        }
    };
    let members = answer.members.into_iter();
    entry.error_code = answer.error.code();
    if answer.error != ErrorCode::None {
        entry.authorized_operations = i32::MIN;
    }
    entry.error_message = answer.error_message.map(Into::into);
    entry.group_state = KafkaString::from_static(answer.group_state);
    entry.protocol_type = answer.protocol_type;
    entry.protocol_data = answer.protocol_data;
    entry.members = members
        .map(|member| DescribedGroupMember {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            member_metadata: member.metadata,
            member_assignment: member.assignment,
        })
        .collect();
}

/// Adds the groups of one coordinator to a response. An error of one makes the whole answer an
/// error, as in Kafka: half a list would be taken for a whole one.
pub(in crate::broker) fn fill_listed(
    response: &mut ListGroupsResponse,
    outcome: Result<group::ListGroupsAnswer, ErrorCode>,
) {
    let groups = outcome.and_then(|answer| {
        if answer.error == ErrorCode::None { Ok(answer.groups) } else { Err(answer.error) }
    });
    match groups {
        Err(code) => {
            response.error_code = code.code();
            response.groups.clear();
        }
        Ok(_) if response.error_code != 0 => {}
        Ok(groups) => response.groups.extend(groups.into_iter().map(|listed| ListedGroup {
            group_id: listed.group_id,
            protocol_type: listed.protocol_type,
            group_state: KafkaString::from_static(listed.group_state),
            group_type: KafkaString::from_static(listed.group_type),
        })),
    }
}
