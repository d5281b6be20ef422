//! What a producer is answered, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::testing::{TestNode, batch};
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicPartition};
use crate::io::{DiskErrorKind, Mark};
use crate::metadata::PartitionImage;
use crate::partition::InSync;
use crate::wire::api::describe_cluster::DescribeClusterRequest;
use crate::wire::api::produce::ProduceRequest;

use super::{SHARDS, create, create_with, fetch, list_offset, produce, produce_request};

#[test]
fn nothing_is_acknowledged_or_read_before_it_is_stable() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        for acks in [1, -1] {
            let before = list_offset(&mut node, client, "t", 0, -1).offset;
            node.hold_disk = true;
            let request = produce_request(acks, "t", &[(0, batch(&["x"], None))]);
            let id = node.send(client, 9, &request);
            assert!(node.take_frame(client).is_none(), "acks={acks} waits for the flush");
            let other = node.connect(0);
            assert_eq!(list_offset(&mut node, other, "t", 0, -1).offset, before);
            assert!(fetch(&mut node, other, "t", 0, before).records.expect("empty").is_empty());
            node.release();
            let (answered, response) = node.take::<ProduceRequest>(client, 9).expect("answered");
            assert_eq!(answered, id);
            assert_eq!(response.responses[0].partition_responses[0].base_offset, before);
        }
    }
}

#[test]
fn a_request_to_several_partitions_waits_for_one_flush() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 3);
    node.pass(Duration::from_secs(2));
    let batches: Vec<_> = (0..3).map(|index| (index, batch(&["x"], None))).collect();
    node.hold_disk = true;
    let before = node.disks[0].flushes;
    node.send(client, 9, &produce_request(-1, "t", &batches));
    assert_eq!(node.disks[0].flushes, before + 1);
    node.release_held();
    let (_, answer) = node.take::<ProduceRequest>(client, 9).expect("one flush was enough");
    let stored = &answer.responses[0].partition_responses;
    assert!(stored.len() == 3 && stored.iter().all(|it| it.error_code == 0), "{answer:?}");
}

#[test]
fn acks_0_has_no_answer_and_an_error_closes_the_connection() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    node.send(client, 9, &produce_request(0, "t", &[(0, batch(&["x"], None))]));
    assert!(node.take_frame(client).is_none());
    assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, 1);
    node.send(client, 9, &produce_request(0, "t", &[(7, batch(&["x"], None))]));
    assert_eq!(node.closed, [client.connection]);
}

#[test]
fn produce_is_refused_by_kafkas_codes() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 2);
    let good = batch(&["x"], None);
    assert_eq!(produce(&mut node, client, "absent", 0, good.clone()).error_code, 3);
    assert_eq!(produce(&mut node, client, "t", 2, good.clone()).error_code, 3);
    let bad_acks = produce_request(2, "t", &[(0, good.clone())]);
    assert_eq!(node.call(client, 9, &bad_acks).responses[0].partition_responses[0].error_code, 21);
    let twice =
        produce_request(-1, "t", &[(0, good.clone()), (0, good.clone()), (1, good.clone())]);
    let codes: Vec<i16> = node.call(client, 9, &twice).responses[0]
        .partition_responses
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(codes, [42, 42, 0]);
    let mut damaged = good.to_vec();
    *damaged.last_mut().expect("bytes") ^= 1;
    let answer = produce(&mut node, client, "t", 0, damaged.into());
    assert_eq!((answer.error_code, answer.base_offset), (2, -1));
    assert!(answer.error_message.is_some());
    for version in 0..3 {
        let old = node.call(client, version, &produce_request(1, "t", &[(0, good.clone())]));
        assert_eq!(old.responses[0].partition_responses[0].error_code, 35);
    }
    // A transactional id alone makes no transaction.
    let named = ProduceRequest {
        transactional_id: Some("id".into()),
        ..produce_request(-1, "t", &[(0, good)])
    };
    let answer = node.call(client, 9, &named);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn append_time_stamps_the_stored_batch_and_the_answer() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let configs = [("message.timestamp.type", "LogAppendTime")];
    create_with(&mut node, client, "t", 1, &configs);
    let answer = produce(&mut node, client, "t", 0, batch(&["x"], None));
    assert_eq!(answer.log_append_time_ms, node.now.wall.0);
    let read = fetch(&mut node, client, "t", 0, 0).records.expect("records").to_bytes();
    let stored = crate::record::batch::Batch::split_from(&mut read.clone()).expect("a whole batch");
    assert!(stored.is_log_append_time() && stored.crc_is_valid());
}

#[test]
fn pipelined_requests_share_a_flush_and_are_answered_in_order() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 4);
    node.hold_disk = true;
    let mut sent = Vec::new();
    for partition in 0..4 {
        let request = produce_request(-1, "t", &[(partition, batch(&["x"], None))]);
        sent.push(node.send(client, 9, &request));
    }
    let described = node.send(client, 2, &DescribeClusterRequest::default());
    assert!(node.take_frame(client).is_none());
    node.release();
    for id in sent {
        assert_eq!(node.take::<ProduceRequest>(client, 9).expect("answered").0, id);
    }
    let last = node.take::<DescribeClusterRequest>(client, 2).expect("answered");
    assert_eq!(last.0, described);
}

#[test]
fn a_full_disk_refuses_produce_with_words_and_everything_else_goes_on() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    produce(&mut node, client, "t", 0, batch(&["kept"], None));
    node.disks[0].failing = Some(("t-0".to_owned(), DiskErrorKind::NoSpace));
    let mut refused = None;
    for _ in 0..200 {
        let answer = produce(&mut node, client, "t", 0, batch(&[&"x".repeat(20_000)], None));
        if answer.error_code != 0 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the disk is full");
    assert_eq!(refused.error_code, 56);
    assert!(refused.error_message.is_some());
    assert!(node.fatal.is_empty(), "{:?}", node.fatal);
    let data = fetch(&mut node, client, "t", 0, 0);
    assert_eq!(data.error_code, 0);
}

#[test]
fn a_producer_waits_while_too_much_is_unwritten_and_goes_on_in_order() {
    let mut node = TestNode::with(3, |config| config.log.unwritten_max_bytes = 10_000);
    let (client, other) = (node.connect(0), node.connect(1));
    create(&mut node, client, "t", 6);
    node.hold_disk = true;
    let large = batch(&[&"x".repeat(4000)], None);
    let mut sent = Vec::new();
    for partition in 0..6 {
        for _ in 0..4 {
            let request = produce_request(-1, "t", &[(partition, large.clone())]);
            sent.push(node.send(client, 9, &request));
        }
    }
    assert!(node.marks.contains(&Mark::BackPressure));
    assert_eq!(node.reading.get(&client.connection), Some(&false), "it is not read from");
    let described = node.call(other, 2, &DescribeClusterRequest::default());
    assert_eq!(described.error_code, 0, "others are served");
    node.release();
    for id in sent {
        for _ in 0..100 {
            if let Some((answered, response)) = node.take::<ProduceRequest>(client, 9) {
                assert_eq!(answered, id);
                assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
                break;
            }
            node.pass(Duration::from_millis(100));
        }
    }
    assert_eq!(node.reading.get(&client.connection), Some(&true));
    assert_eq!(list_offset(&mut node, client, "t", 5, -1).offset, 4);
}

#[test]
fn acks_all_asks_for_as_many_replicas_in_sync_as_the_topic_says_and_never_for_more_than_it_has() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let created = create_with(&mut node, client, "t", 1, &[("min.insync.replicas", "2")]);
    let topic_id = created.topics[0].topic_id;
    assert_eq!(produce(&mut node, client, "t", 0, batch(&["x"], None)).error_code, 0);

    let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
    let partition = node.shards[0].partitions.get_mut(&id).expect("there");
    let state = PartitionImage {
        replicas: vec![NodeId(1), NodeId(2), NodeId(3)],
        isr: vec![NodeId(1)],
        leader: NodeId(1),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        adding: Vec::new(),
        removing: Vec::new(),
    };
    let now = node.now.mono;
    let in_sync = InSync::new(now, NodeId(1), &state, BTreeSet::new(), (Offset(0), Offset(1)));
    partition.raise_epoch(partition.leader_epoch(), in_sync);
    assert_eq!(produce(&mut node, client, "t", 0, batch(&["x"], None)).error_code, 19);
    let one = produce_request(1, "t", &[(0, batch(&["x"], None))]);
    assert_eq!(node.call(client, 9, &one).responses[0].partition_responses[0].error_code, 0);
}
