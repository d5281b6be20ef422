//! Offsets: looked up by place, time and epoch, and removed.

use crate::broker::testing::{TestNode, batch};
use crate::wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::wire::api::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use super::{SHARDS, create, fetch, fetch_request, list_offset, produce};

#[test]
fn leader_epochs_fence_clients_that_are_behind_or_ahead() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    produce(&mut node, client, "t", 0, batch(&["x"], None));
    node.restart();
    let client = node.connect(0);
    for (epoch, code) in [(-1, 0), (0, 74), (1, 0), (2, 75)] {
        let mut request = fetch_request("t", &[(0, 0)], 0, 1);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let response = node.call(client, 12, &request);
        assert_eq!(response.responses[0].partitions[0].error_code, code, "epoch {epoch}");
    }
    let mut at = |leader_epoch| {
        let request = OffsetForLeaderEpochRequest {
            topics: vec![OffsetForLeaderTopic {
                topic: "t".into(),
                partitions: vec![OffsetForLeaderPartition {
                    partition: 0,
                    current_leader_epoch: -1,
                    leader_epoch,
                }],
            }],
            ..OffsetForLeaderEpochRequest::default()
        };
        let found = node.call(client, 4, &request).topics.remove(0).partitions.remove(0);
        (found.leader_epoch, found.end_offset)
    };
    assert_eq!(at(0), (0, 1));
    assert_eq!(at(1), (1, 1));
    assert_eq!(at(2), (-1, -1));
}

#[test]
fn records_below_a_moved_log_start_are_gone() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        for _ in 0..4 {
            produce(&mut node, client, "t", 0, batch(&["x"], None));
        }
        let mut move_to = |offset| {
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: "t".into(),
                    partitions: vec![DeleteRecordsPartition { partition_index: 0, offset }],
                }],
                timeout_ms: 1000,
            };
            let found = node.call(client, 2, &request).topics.remove(0).partitions.remove(0);
            (found.error_code, found.low_watermark)
        };
        assert_eq!(move_to(2), (0, 2));
        assert_eq!(move_to(1), (0, 2), "it never moves back");
        assert_eq!(move_to(5).0, 1);
        assert_eq!(move_to(-2).0, 1);
        assert_eq!(fetch(&mut node, client, "t", 0, 1).error_code, 1);
        assert_eq!(list_offset(&mut node, client, "t", 0, -2).offset, 2);
    }
}

#[test]
fn a_partition_listed_twice_is_refused_and_special_times_name_places() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    produce(&mut node, client, "t", 0, batch(&["x", "y"], None));
    for (timestamp, offset) in [(-1, 2), (-2, 0), (-3, 0), (-4, 0), (-5, -1), (-6, -1)] {
        let found = list_offset(&mut node, client, "t", 0, timestamp);
        assert_eq!((found.error_code, found.offset), (0, offset), "{timestamp}");
    }
    let request = |partitions: &[i64]| ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: partitions
                .iter()
                .map(|&timestamp| ListOffsetsPartition { timestamp, ..Default::default() })
                .collect(),
        }],
        ..ListOffsetsRequest::default()
    };
    let mut codes = |version, partitions: &[i64]| -> Vec<i16> {
        let answer = node.call(client, version, &request(partitions));
        answer.topics[0].partitions.iter().map(|partition| partition.error_code).collect()
    };
    assert_eq!(codes(11, &[-1, -1]), [42], "it is answered once");
    for (version, timestamp) in [(6, -3), (7, -4), (8, -5), (10, -6), (11, -7)] {
        assert_eq!(codes(version, &[timestamp]), [35], "version {version} has no {timestamp}");
    }
}

#[test]
fn the_first_offset_comes_with_its_epoch() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    assert_eq!(list_offset(&mut node, client, "t", 0, -2).leader_epoch, 0, "an empty log");
    produce(&mut node, client, "t", 0, batch(&["x"], None));
    node.restart();
    let client = node.connect(0);
    produce(&mut node, client, "t", 0, batch(&["x"], None));
    assert_eq!(list_offset(&mut node, client, "t", 0, -2).leader_epoch, 0);
    assert_eq!(list_offset(&mut node, client, "t", 0, -1).leader_epoch, 1);
}
