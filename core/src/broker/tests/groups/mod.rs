//! Groups and committed offsets, through the door.

mod apis;
mod life;

use std::time::Duration;

use crate::broker::testing::{Client, TestNode};
use crate::wire::KafkaString;
use crate::wire::api::find_coordinator::FindCoordinatorRequest;
use crate::wire::api::heartbeat::HeartbeatRequest;
use crate::wire::api::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use crate::wire::api::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};

use super::{SHARDS, create, metadata, produce};

/// A node whose groups do not wait for more members.
fn started(shards: u16) -> TestNode {
    TestNode::with(shards, |config| {
        config.settings.set("group.initial.rebalance.delay.ms", "0").expect("valid");
    })
}

/// Looks for the coordinator of a group, which makes the topic of committed offsets.
fn find(node: &mut TestNode, client: Client, group: &str) {
    let request = FindCoordinatorRequest { key: group.into(), ..Default::default() };
    assert_eq!(node.call(client, 2, &request).error_code, 0);
}

fn join_request(group: &str, member: &KafkaString) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.clone(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: "subscription".into(),
        }],
        ..JoinGroupRequest::default()
    }
}

/// Sends a `JoinGroup` whose answer may wait for others.
fn send_join(node: &mut TestNode, client: Client, group: &str, member: &KafkaString) {
    node.send(client, 7, &join_request(group, member));
}

fn take_join(node: &mut TestNode, client: Client) -> Option<JoinGroupResponse> {
    node.take::<JoinGroupRequest>(client, 7).map(|(_, response)| response)
}

/// Joins as a new dynamic member: a first `JoinGroup` brings the member id.
fn member_id(node: &mut TestNode, client: Client, group: &str) -> KafkaString {
    let answer = node.call(client, 7, &join_request(group, &KafkaString::default()));
    assert_eq!(answer.error_code, 79, "{answer:?}");
    answer.member_id
}

fn sync(
    node: &mut TestNode,
    client: Client,
    group: &str,
    joined: &JoinGroupResponse,
    assignments: &[(&KafkaString, &str)],
) -> SyncGroupResponse {
    let assignments = assignments.iter();
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments
            .map(|(member, assignment)| SyncGroupRequestAssignment {
                member_id: (*member).clone(),
                assignment: (*assignment).to_owned().into(),
            })
            .collect(),
        ..SyncGroupRequest::default()
    };
    node.call(client, 5, &request)
}

/// Joins alone and takes everything.
fn alone(node: &mut TestNode, client: Client, group: &str) -> JoinGroupResponse {
    find(node, client, group);
    let member = member_id(node, client, group);
    let joined = node.call(client, 7, &join_request(group, &member));
    assert_eq!(joined.error_code, 0, "{joined:?}");
    assert_eq!(joined.leader, member);
    let synced = sync(node, client, group, &joined, &[(&member, "all")]);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
    joined
}

fn heartbeat(
    node: &mut TestNode,
    client: Client,
    group: &str,
    generation: i32,
    member: &KafkaString,
) -> i16 {
    let request = HeartbeatRequest {
        group_id: group.into(),
        generation_id: generation,
        member_id: member.clone(),
        ..HeartbeatRequest::default()
    };
    node.call(client, 4, &request).error_code
}

fn commit_request(group: &str, topic: &str, offsets: &[(i32, i64)]) -> OffsetCommitRequest {
    let partitions = offsets.iter();
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: partitions
                .map(|&(partition_index, committed_offset)| OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset,
                    committed_leader_epoch: 5,
                    committed_metadata: Some("why".into()),
                })
                .collect(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

/// Commits without being a member, and returns the code of each partition.
fn commit(
    node: &mut TestNode,
    client: Client,
    group: &str,
    topic: &str,
    offsets: &[(i32, i64)],
) -> Vec<i16> {
    let response = node.call(client, 9, &commit_request(group, topic, offsets));
    response.topics[0].partitions.iter().map(|partition| partition.error_code).collect()
}

fn committed_request(group: &str, topic: &str, partitions: &[i32]) -> OffsetFetchRequest {
    OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic.into(),
                partition_indexes: partitions.to_vec(),
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    }
}

/// Fetches committed offsets: the code of the group, and the offsets.
fn committed(
    node: &mut TestNode,
    client: Client,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> (i16, Vec<i64>) {
    let response = node.call(client, 9, &committed_request(group, topic, partitions));
    let group = &response.groups[0];
    let offsets = group.topics.iter().flat_map(|topic| &topic.partitions);
    (group.error_code, offsets.map(|partition| partition.committed_offset).collect())
}

/// Lets a loading coordinator come to its end.
fn loaded(node: &mut TestNode) {
    node.pass(Duration::from_millis(1));
}
