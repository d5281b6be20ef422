//! What operators of a cluster ask of any node: the quorum, elections and moves.

use crate::broker::testing::TestNode;
use crate::error::ErrorCode;
use crate::wire::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use crate::wire::api::describe_quorum::{
    DescribeQuorumPartition, DescribeQuorumRequest, DescribeQuorumTopic,
};
use crate::wire::api::elect_leaders::{ElectLeadersRequest, ElectLeadersTopic};
use crate::wire::api::list_partition_reassignments::ListPartitionReassignmentsRequest;

use super::{SHARDS, create};

fn describe(topic_name: &'static str, partition_index: i32) -> DescribeQuorumRequest {
    let partitions = vec![DescribeQuorumPartition { partition_index }];
    let topic = DescribeQuorumTopic { topic_name: topic_name.into(), partitions };
    DescribeQuorumRequest { topics: vec![topic] }
}

#[test]
fn a_node_alone_is_its_own_quorum_and_says_how_far_it_is() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(shards - 1);
        create(&mut node, client, "t", 1);
        for version in 0..=2 {
            let answer = node.call(client, version, &describe("__cluster_metadata", 0));
            assert_eq!(answer.error_code, 0);
            let found = &answer.topics[0].partitions[0];
            assert_eq!((found.error_code, found.leader_id), (0, 1));
            assert!(found.leader_epoch > 0 && found.high_watermark > 0, "{found:?}");
            let voters: Vec<(i32, i64)> =
                found.current_voters.iter().map(|v| (v.replica_id, v.log_end_offset)).collect();
            assert_eq!(voters, [(1, found.high_watermark)], "v{version}");
            assert!(found.observers.is_empty());
        }
    }
}

#[test]
fn other_logs_have_no_quorum() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    for request in [describe("t", 0), describe("__cluster_metadata", 1)] {
        let answer = node.call(client, 2, &request);
        let found = &answer.topics[0].partitions[0];
        assert_eq!(found.error_code, ErrorCode::UnknownTopicOrPartition.code());
    }
}

#[test]
fn elections_and_moves_are_decided_by_the_controller() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(shards - 1);
        create(&mut node, client, "t", 1);

        let topic = ElectLeadersTopic { topic: "t".into(), partitions: vec![0, 7] };
        let request =
            ElectLeadersRequest { topic_partitions: Some(vec![topic]), ..Default::default() };
        let answer = node.call(client, 2, &request);
        let results = &answer.replica_election_results[0].partition_result;
        let codes: Vec<i16> = results.iter().map(|result| result.error_code).collect();
        let expected = [ErrorCode::ElectionNotNeeded, ErrorCode::UnknownTopicOrPartition];
        assert_eq!(codes, expected.map(ErrorCode::code));

        let partition = ReassignablePartition { partition_index: 0, replicas: Some(vec![9]) };
        let topic = ReassignableTopic { name: "t".into(), partitions: vec![partition] };
        let request =
            AlterPartitionReassignmentsRequest { topics: vec![topic], ..Default::default() };
        let answer = node.call(client, 1, &request);
        let refused = &answer.responses[0].partitions[0];
        assert_eq!(refused.error_code, ErrorCode::InvalidReplicaAssignment.code());

        let answer = node.call(client, 0, &ListPartitionReassignmentsRequest::default());
        assert_eq!((answer.error_code, answer.topics.len()), (0, 0));
    }
}
