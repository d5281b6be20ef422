//! Markers of the first kind of transactions that come on a connection that their sender has left: they would
//! end the next transaction of the producer.

use std::time::Duration;

use crate::broker::testing::{Client, TestNode};
use crate::ids::{PartitionIndex, TopicPartition};
use crate::io::Mark;
use crate::wire::api::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};

use super::create;
use super::peers::{guest, on_a_listener_for_peers};
use super::transactions::{produce_in_transaction, transactional};

const PRODUCER: i64 = 7;

fn marker(committed: bool) -> WriteTxnMarkersRequest {
    let topic = WritableTxnMarkerTopic { name: "t".into(), partition_indexes: vec![0] };
    let marker = WritableTxnMarker {
        producer_id: PRODUCER,
        transaction_result: committed,
        topics: vec![topic],
        ..WritableTxnMarker::default()
    };
    WriteTxnMarkersRequest { markers: vec![marker] }
}

/// Sends a marker on a connection between nodes, and returns what came of it.
fn ends(node: &mut TestNode, peer: Client, committed: bool) -> i16 {
    let answer = node.call(peer, 1, &marker(committed));
    node.pass(Duration::from_secs(1));
    answer.markers[0].topics[0].partitions[0].error_code
}

/// Returns whether a transaction is open.
fn is_open(node: &TestNode, id: TopicPartition) -> bool {
    let shard = &node.shards[0];
    let partition = shard.partitions.get(&id).expect("it leads");
    partition.last_stable_offset(&shard.log) < partition.high_watermark()
}

fn led() -> (TestNode, TopicPartition) {
    let mut node = on_a_listener_for_peers();
    let client = node.connect(0);
    let topic_id = create(&mut node, client, "t", 1);
    node.pass(Duration::from_secs(1));
    (node, TopicPartition { topic_id, partition: PartitionIndex(0) })
}

#[test]
fn a_marker_on_a_connection_that_its_node_has_left_never_ends_the_next_transaction() {
    let (mut node, id) = led();
    let held_up = guest(&mut node, 2);
    produce_in_transaction(&mut node, id, &transactional(PRODUCER, 0));
    // What was sent there is under way for so long that the node gives that connection up, and asks again.
    let newer = guest(&mut node, 2);
    assert_eq!(ends(&mut node, newer, false), 0);
    produce_in_transaction(&mut node, id, &transactional(PRODUCER, 1));
    assert!(is_open(&node, id));

    assert_eq!(ends(&mut node, held_up, false), 6);

    assert!(is_open(&node, id), "the next transaction");
    assert!(node.marks.contains(&Mark::LateMarkerRefused));
    assert!(node.closed.contains(&held_up.connection), "nobody uses it any more");
    let of_another_node = guest(&mut node, 3);
    assert_eq!(ends(&mut node, of_another_node, true), 0);
    assert!(!is_open(&node, id));
    produce_in_transaction(&mut node, id, &transactional(PRODUCER, 2));
    assert_eq!(ends(&mut node, newer, true), 0, "each node has connections of its own");
    assert!(!is_open(&node, id));
}

#[test]
fn a_marker_of_before_the_partition_was_led_never_ends_a_transaction() {
    let (mut node, id) = led();
    let held_up = guest(&mut node, 2);
    produce_in_transaction(&mut node, id, &transactional(PRODUCER, 0));
    // Another led it for a while, and had the marker.
    node.pass(Duration::from_secs(1));
    let now = node.now;
    node.shards[0].partitions.remove(&id).expect("it led");
    node.shards[0].take_up(now, id);
    node.pass(Duration::from_secs(1));

    assert_eq!(ends(&mut node, held_up, true), 6);

    assert!(is_open(&node, id));
    let newer = guest(&mut node, 2);
    assert_eq!(ends(&mut node, newer, true), 0, "whoever still means it asks again");
    assert!(!is_open(&node, id));
}
