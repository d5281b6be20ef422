//! Starts, stops, kills and failed disks.

use std::time::Duration;

use crate::broker::testing::{TestNode, batch};
use crate::io::DiskErrorKind;
use crate::wire::api::fetch::FetchRequest;
use crate::wire::api::produce::ProduceRequest;

use super::{
    SHARDS, create, fetch, fetch_request, list_offset, metadata, produce, produce_request,
};

#[test]
fn everything_acknowledged_is_there_after_a_kill() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        let id = create(&mut node, client, "t", 6);
        for partition in 0..6 {
            for _ in 0..3 {
                assert_eq!(
                    produce(&mut node, client, "t", partition, batch(&["v"], None)).error_code,
                    0
                );
            }
        }
        let epoch = metadata(&mut node, client, "t", false).partitions[0].leader_epoch;
        for restarts in 1..3 {
            node.restart();
            assert_eq!(node.ready, usize::from(shards));
            let client = node.connect(shards - 1);
            let topic = metadata(&mut node, client, "t", false);
            assert_eq!((topic.topic_id, topic.partitions.len()), (id, 6));
            assert_eq!(
                topic.partitions[0].leader_epoch,
                epoch + restarts,
                "each start is an epoch"
            );
            for partition in 0..6 {
                let data = fetch(&mut node, client, "t", partition, 0);
                assert_eq!((data.error_code, data.high_watermark), (0, 3));
                assert!(!data.records.expect("records").is_empty());
            }
        }
        assert!(node.warnings.is_empty(), "{:?}", node.warnings);
    }
}

#[test]
fn a_failed_flush_acknowledges_nothing_and_ends_the_node_with_one_line() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 6);
        for disk in &mut node.disks {
            disk.failing = Some((String::new(), DiskErrorKind::Flush));
        }
        let answer = produce(&mut node, client, "t", 0, batch(&["lost"], None));
        assert_eq!(answer.error_code, 56);
        assert_eq!(node.fatal.len(), 1, "{:?}", node.fatal);
        assert!(!node.fatal[0].contains('\n'));
        for partition in 0..6 {
            let records = batch(&["lost"], None);
            assert_eq!(produce(&mut node, client, "t", partition, records).error_code, 56);
            assert_eq!(fetch(&mut node, client, "t", partition, 0).error_code, 56);
        }
    }
}

#[test]
fn stopping_answers_what_it_owes_and_then_says_so() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let (writer, reader) = (node.connect(0), node.connect(shards - 1));
        create(&mut node, writer, "t", 1);
        node.send(reader, 12, &fetch_request("t", &[(0, 0)], 60_000, 1));
        node.hold_disk = true;
        node.send(writer, 9, &produce_request(-1, "t", &[(0, batch(&["x"], None))]));
        node.stop();
        assert_eq!(node.stopped, 0, "a produce is owed its answer");
        node.release();
        let (_, response) = node.take::<ProduceRequest>(writer, 9).expect("answered");
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        assert!(node.take::<FetchRequest>(reader, 12).is_some());
        assert_eq!(node.stopped, usize::from(shards));
        node.restart();
        let client = node.connect(0);
        assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, 1);
    }
}

#[test]
fn a_clone_goes_on_alike() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    let twin = node.shards[0].clone();
    assert_eq!(twin.digest(), node.shards[0].digest());
    produce(&mut node, client, "t", 0, batch(&["x"], None));
    assert_ne!(twin.digest(), node.shards[0].digest());
}

#[test]
fn a_node_in_memory_opens_no_file() {
    let mut node = TestNode::with(3, |config| config.memory_only = true);
    let client = node.connect(0);
    metadata(&mut node, client, "t", true);
    assert_eq!(produce(&mut node, client, "t", 0, batch(&["x"], None)).error_code, 0);
    assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, 1);
    for disk in &node.disks {
        assert!(disk.files.is_empty() && disk.directories.is_empty());
    }
}

#[test]
fn a_node_told_to_stop_at_any_moment_of_its_start_stops_and_starts_again() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 3);
        produce(&mut node, client, "t", 0, batch(&["kept"], None));
        let mut inputs = 0;
        while node.restart_for(inputs) {
            node.stop();
            node.pass(Duration::from_secs(9));
            assert_eq!(node.stopped, usize::from(shards), "after {inputs} inputs");
            assert!(node.fatal.is_empty(), "{:?}", node.fatal);
            inputs += usize::from(shards);
        }
        assert!(inputs > 5, "a start takes more than {inputs} inputs");
        node.restart();
        let client = node.connect(0);
        assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, 1);
    }
}

#[test]
fn a_node_killed_at_any_moment_of_its_start_starts_again() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        let id = create(&mut node, client, "t", 3);
        let mut inputs = 0;
        while node.restart_for(inputs) {
            inputs += usize::from(shards);
        }
        node.restart();
        let client = node.connect(0);
        assert_eq!(metadata(&mut node, client, "t", false).topic_id, id);
    }
}
