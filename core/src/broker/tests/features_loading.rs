//! The log of a partition with features, as whoever begins to lead it takes it in.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::testing::{TestNode, batch};
use crate::ids::{LeaderEpoch, PartitionIndex, TopicPartition};
use crate::partition::Partition;
use crate::record::testing::newer_note;
use crate::wire::api::entry_alter::EntryAlteration;
use crate::wire::api::entry_list::{EntryListPartition, EntryListRequest, EntryListTopic};

use super::delayed::{accepted, alter, list, node, read_from, send, values};
use super::{create_with, fetch, list_offset, produce_request};

/// A node whose partition has a delayed record at the front of a log of several pieces, in files.
fn long_log() -> (TestNode, TopicPartition) {
    let mut node = TestNode::with(1, |config| config.log.tail_cache_bytes = 0);
    let client = node.connect(0);
    create_with(&mut node, client, "t", 1, &[("mainspring.features", "schedule")]);
    accepted(&mut node, client, &[("later", &[("mainspring-delay-ms", "60000")])]);
    let filler = "f".repeat(400_000);
    for _ in 0..6 {
        accepted(&mut node, client, &[(&filler, &[])]);
    }
    let topic_id = node.shards[0].image.topic_by_name("t").expect("there").id;
    node.restart();
    (node, TopicPartition { topic_id, partition: PartitionIndex(0) })
}

/// The node leads in the next epoch.
fn lead_anew(node: &mut TestNode, id: TopicPartition) {
    node.lead(id, |_, partition, _, _| {
        let (epoch, in_sync) = (partition.leader_epoch(), partition.in_sync().clone());
        partition.raise_epoch(LeaderEpoch(epoch.0 + 1), in_sync);
    });
    let now = node.now;
    node.shards[0].load_schedule(now, id);
    node.wake_for(1);
}

#[test]
fn what_an_earlier_leadership_has_read_of_the_log_is_not_taken_for_its_beginning() {
    let (mut node, id) = long_log();
    node.hold_disk = true;
    lead_anew(&mut node, id);
    node.release_held();
    // The second piece is being read.
    node.pass(Duration::ZERO);
    lead_anew(&mut node, id);
    node.release_held();
    node.release();
    node.pass(Duration::from_millis(10));
    let client = node.connect(0);
    assert_eq!(list(&mut node, client, 0).len(), 1);
    assert_eq!(node.warnings, [""; 0]);
}

#[test]
fn settings_that_change_while_the_log_is_read_begin_no_second_read() {
    let (mut node, id) = long_log();
    node.hold_disk = true;
    lead_anew(&mut node, id);
    let now = node.now;
    node.shards[0].reconfigure(now, id.topic_id);
    node.wake_for(1);
    node.release();
    node.pass(Duration::from_millis(10));
    let client = node.connect(0);
    assert_eq!(list(&mut node, client, 0).len(), 1);
    assert_eq!(node.warnings, [""; 0]);
}

#[test]
fn a_window_is_as_long_as_it_says_though_the_wall_clock_leaps_while_the_node_is_down() {
    let (mut node, client) = node(1, "dedup");
    let same = [("v", &[("mainspring-dedup-id", "d")][..])];
    accepted(&mut node, client, &same);
    for _ in 0..2 {
        // The window is five minutes.
        node.now.wall = node.now.wall.plus(3_600_000);
        node.restart();
        let client = node.connect(0);
        node.pass(Duration::from_millis(10));
        accepted(&mut node, client, &[("other", &[("mainspring-dedup-id", "other")])]);
        accepted(&mut node, client, &same);
    }
    let client = node.connect(0);
    assert_eq!(values(&read_from(&mut node, client, 0)), [&b"v"[..], b"other"]);
}

#[test]
fn a_partition_whose_notes_a_later_build_wrote_says_so_and_hangs_nobody() {
    let (mut node, client) = node(1, "schedule");
    accepted(&mut node, client, &[("v", &[])]);
    let topic_id = node.shards[0].image.topic_by_name("t").expect("there").id;
    node.append(TopicPartition { topic_id, partition: PartitionIndex(0) }, newer_note());
    node.restart();
    let client = node.connect(0);

    assert_eq!(send(&mut node, client, &[("v", &[])]).error_code, 56);
    assert_eq!(fetch(&mut node, client, "t", 0, 0).error_code, 56);
    assert_eq!(list_offset(&mut node, client, "t", 0, -1).error_code, 56);
    assert!(node.warnings.iter().any(|it| it.contains("t-0 cannot be served")), "it is said");
    let partitions = vec![EntryListPartition::default()];
    let topics = vec![EntryListTopic { name: "t".into(), partitions }];
    let answer = node.call(client, 0, &EntryListRequest { topics, ..Default::default() });
    assert_eq!(answer.topics[0].partitions[0].error_code, 56);
    let of = EntryAlteration { ticket: 0, operation: 1, delay_ms: -1, ..Default::default() };
    assert_eq!(alter(&mut node, client, of), 56);
}

#[test]
fn a_log_whose_end_is_looked_for_is_taken_in_when_it_is_found() {
    let (mut node, id) = long_log();
    let client = node.connect(0);
    accepted(&mut node, client, &[("a", &[]), ("b", &[]), ("c", &[])]);
    // What is cut is in files alone.
    node.pass(Duration::from_secs(5));
    node.hold_disk = true;
    node.lead(id, |now, partition, log, fx| {
        // As a follower it was told to cut within a batch; then it was elected.
        let end = log.log_end_offset(id).expect("there");
        log.truncate(now, id, end.plus(-1), fx);
        assert!(log.is_finding(id));
        let epoch = LeaderEpoch(partition.leader_epoch().0 + 1);
        let (config, in_sync) = (Arc::clone(partition.config()), partition.in_sync().clone());
        *partition = Partition::new(id, config, epoch, in_sync, None, log);
    });
    let now = node.now;
    node.shards[0].load_schedule(now, id);
    node.wake_for(1);
    for _ in 0..20 {
        node.release_held();
        node.pass(Duration::ZERO);
    }
    node.release();
    node.pass(Duration::from_millis(10));
    node.pass(Duration::from_millis(10));
    assert_eq!(list(&mut node, client, 0).len(), 1);
    assert_eq!(node.warnings, [""; 0]);
}

#[test]
fn where_a_log_ends_once_it_is_found_is_not_taken_for_what_was_flushed_before() {
    let (mut node, id) = long_log();
    let client = node.connect(0);
    accepted(&mut node, client, &[("a", &[]), ("b", &[]), ("c", &[])]);
    node.pass(Duration::from_secs(5));
    let client = node.connect(0);
    node.hold_disk = true;
    node.lead(id, |now, partition, log, fx| {
        let end = log.log_end_offset(id).expect("there");
        log.truncate(now, id, end.plus(-1), fx);
        let epoch = LeaderEpoch(partition.leader_epoch().0 + 1);
        let (config, in_sync) = (Arc::clone(partition.config()), partition.in_sync().clone());
        *partition = Partition::new(id, config, epoch, in_sync, None, log);
    });
    // It is found, and what comes then stays unflushed.
    while node.shards[0].log.is_finding(id) {
        node.release_held();
    }
    let shard = &node.shards[0];
    let (end, partition) = (shard.log.log_end_offset(id), &shard.partitions[&id]);
    assert!(partition.high_watermark() <= end.expect("there"), "{end:?}");

    node.send(client, 9, &produce_request(-1, "t", &[(0, batch(&["d"], None))]));

    assert_eq!(node.take_frame(client), None);
    node.release();
    node.pass(Duration::from_millis(10));
    assert!(node.take_frame(client).is_some(), "it is flushed");
}
