//! Moves of partitions.

use super::Cluster;
use crate::error::ErrorCode;
use crate::ids::NodeId;
use crate::metadata::decide_brokers::{fence, unfence};
use crate::metadata::reassign::{alter_reassignments, list_reassignments};
use crate::wire::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use crate::wire::api::list_partition_reassignments::ListPartitionReassignmentsRequest;

pub(super) fn order(index: i32, replicas: Option<&[i32]>) -> AlterPartitionReassignmentsRequest {
    AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic {
            name: "t".into(),
            partitions: vec![ReassignablePartition {
                partition_index: index,
                replicas: replicas.map(<[i32]>::to_vec),
            }],
        }],
        ..AlterPartitionReassignmentsRequest::default()
    }
}

fn reassign(cluster: &mut Cluster, replicas: Option<&[i32]>) -> ErrorCode {
    let decision = alter_reassignments(&cluster.image, &order(0, replicas));
    cluster.apply(&decision.records);
    let code = decision.response.responses[0].partitions[0].error_code;
    ErrorCode::from_code(code).expect("a code of Kafka")
}

fn lists(cluster: &Cluster) -> [Vec<i32>; 3] {
    let partition = cluster.partition(0);
    [&partition.replicas, &partition.adding, &partition.removing]
        .map(|list| list.iter().map(|node| node.0).collect())
}

#[test]
fn a_move_ends_when_all_its_targets_are_in_sync() {
    let mut cluster = Cluster::with_topic(4, 2, &[&[1, 2]]);
    assert_eq!(reassign(&mut cluster, Some(&[3, 4])), ErrorCode::None);
    assert_eq!(lists(&cluster), [vec![3, 4, 1, 2], vec![3, 4], vec![1, 2]]);
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![1, 2], 1));

    cluster.alter(&cluster.asks_for(0, &[1, 2, 3]));
    assert_eq!(lists(&cluster), [vec![3, 4, 1, 2], vec![3, 4], vec![1, 2]]);
    let answer = cluster.alter(&cluster.asks_for(0, &[1, 2, 3, 4]));

    assert_eq!(answer.error_code, ErrorCode::NewLeaderElected.code());
    assert_eq!(lists(&cluster), [vec![3, 4], vec![], vec![]]);
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![3, 4], 3));
}

#[test]
fn a_move_waits_for_a_target_that_is_fenced() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2]]);
    reassign(&mut cluster, Some(&[2, 3]));
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(2)]));
    assert_eq!(cluster.isr(0), [1, 2], "MIN needs it");
    cluster.alter(&cluster.asks_for(0, &[1, 2, 3]));
    assert_eq!((lists(&cluster)[2].clone(), cluster.isr(0)), (vec![1], vec![1, 3]));
    cluster.apply(&unfence(&cluster.image.clone(), NodeId(2)));
    cluster.alter(&cluster.asks_for(0, &[1, 3, 2]));
    assert_eq!((lists(&cluster), cluster.isr(0)), ([vec![2, 3], vec![], vec![]], vec![3, 2]));
}

#[test]
fn a_leader_that_stays_begins_an_epoch_when_replicas_go() {
    let mut cluster = Cluster::with_topic(3, 1, &[&[1, 2]]);
    let before = cluster.partition(0).leader_epoch;
    reassign(&mut cluster, Some(&[1, 3]));
    let answer = cluster.alter(&cluster.asks_for(0, &[1, 2, 3]));
    assert_eq!((answer.error_code, answer.leader_id), (0, 1));
    assert_eq!(answer.leader_epoch, before.0 + 1);
    assert_eq!(cluster.partition(0).leader_epoch.0, answer.leader_epoch);
    assert_eq!(cluster.partition(0).partition_epoch, answer.partition_epoch);
    assert_eq!(cluster.isr(0), [1, 3]);
}

#[test]
fn a_move_that_adds_nothing_is_over_at_once() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3]]);
    assert_eq!(reassign(&mut cluster, Some(&[3, 1, 2])), ErrorCode::None);
    assert_eq!(lists(&cluster), [vec![3, 1, 2], vec![], vec![]]);
    assert_eq!(cluster.leader(0), 1, "the leader goes on");
    assert_eq!(reassign(&mut cluster, Some(&[3, 1])), ErrorCode::None);
    assert_eq!((lists(&cluster), cluster.isr(0)), ([vec![3, 1], vec![], vec![]], vec![1, 3]));
}

#[test]
fn a_move_is_taken_back() {
    let mut cluster = Cluster::with_topic(4, 2, &[&[1, 2]]);
    assert_eq!(reassign(&mut cluster, None), ErrorCode::NoReassignmentInProgress);
    reassign(&mut cluster, Some(&[3, 4]));
    cluster.alter(&cluster.asks_for(0, &[1, 2, 3]));
    assert_eq!(reassign(&mut cluster, None), ErrorCode::None);
    assert_eq!(lists(&cluster), [vec![1, 2], vec![], vec![]]);
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![1, 2], 1));
}

#[test]
fn a_move_is_not_taken_back_to_replicas_that_are_not_in_sync() {
    let mut cluster = Cluster::with_topic(4, 1, &[&[1]]);
    reassign(&mut cluster, Some(&[2, 3]));
    cluster.alter(&cluster.asks_for(0, &[1, 2]));
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(1)]));
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![2], 2));
    assert_eq!(reassign(&mut cluster, None), ErrorCode::InvalidReplicaAssignment);
}

#[test]
fn targets_that_are_no_set_of_registered_brokers_are_refused() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2]]);
    for target in [&[][..], &[1, 1], &[1, 9]] {
        let refused = ErrorCode::InvalidReplicaAssignment;
        assert_eq!(reassign(&mut cluster, Some(target)), refused, "{target:?}");
    }
    let mut request = order(0, Some(&[1, 2, 3]));
    request.allow_replication_factor_change = false;
    let decision = alter_reassignments(&cluster.image, &request);
    let code = decision.response.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::InvalidReplicationFactor.code());
    assert!(decision.records.is_empty());
}

#[test]
fn what_is_on_the_move_is_listed() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2], &[1, 2]]);
    let all = ListPartitionReassignmentsRequest::default();
    assert!(list_reassignments(&cluster.image, &all).topics.is_empty());
    reassign(&mut cluster, Some(&[1, 3]));
    let listed = list_reassignments(&cluster.image, &all).topics;
    assert_eq!((listed.len(), listed[0].partitions.len()), (1, 1));
    let partition = &listed[0].partitions[0];
    assert_eq!(partition.replicas, [1, 3, 2]);
    assert_eq!(
        (&partition.adding_replicas[..], &partition.removing_replicas[..]),
        (&[3][..], &[2][..])
    );
}
