//! What a consumer is given, and when.

use std::time::Duration;

use crate::broker::testing::{TestNode, batch};
use crate::ids::{PartitionIndex, ShardId, TopicPartition, Uuid};
use crate::io::Mark;
use crate::wire::api::fetch::{FetchRequest, FetchResponse};
use crate::wire::api::produce::ProduceRequest;

use super::{SHARDS, create, delete, fetch, fetch_request, produce, produce_request};

fn records_of(response: &FetchResponse) -> Vec<usize> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.records.as_ref().expect("records").len()).collect()
}

fn partition_owner(node: &TestNode, topic_id: Uuid, partition: i32) -> ShardId {
    let partition = PartitionIndex(partition);
    node.shards[0].owner(TopicPartition { topic_id, partition })
}

/// How many watches and requests wait anywhere.
fn waits(node: &TestNode) -> usize {
    node.shards.iter().map(|shard| shard.watched.len() + shard.pending.len()).sum()
}

#[test]
fn a_parked_fetch_is_woken_by_bytes_and_ends_at_its_deadline() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let (reader, writer) = (node.connect(0), node.connect(shards - 1));
        create(&mut node, writer, "t", 3);
        let at = fetch_request("t", &[(0, 0), (1, 0), (2, 0)], 5000, 1);
        node.send(reader, 12, &at);
        assert!(node.take_frame(reader).is_none(), "it waits");
        produce(&mut node, writer, "t", 1, batch(&["x"], None));
        let (_, response) = node.take::<FetchRequest>(reader, 12).expect("woken");
        let with_data: Vec<bool> = response.responses[0]
            .partitions
            .iter()
            .map(|p| !p.records.as_ref().expect("records").is_empty())
            .collect();
        assert_eq!(with_data, [false, true, false]);

        node.send(reader, 12, &fetch_request("t", &[(0, 0), (1, 1)], 5000, 1));
        node.pass(Duration::from_millis(4999));
        assert!(node.take_frame(reader).is_none(), "it waits until its deadline");
        node.pass(Duration::from_millis(1));
        let (_, response) = node.take::<FetchRequest>(reader, 12).expect("at the deadline");
        assert_eq!(response.responses[0].partitions[0].error_code, 0);
        assert_eq!(response.session_id, 0);
    }
}

#[test]
fn a_fetch_waits_for_min_bytes_over_all_its_partitions() {
    let mut node = TestNode::started(3);
    let (reader, writer) = (node.connect(0), node.connect(1));
    create(&mut node, writer, "t", 4);
    let one = batch(&["0123456789"], None);
    let least = one.len() as i32 * 2;
    let at: Vec<(i32, i64)> = (0..4).map(|p| (p, 0)).collect();
    node.send(reader, 12, &fetch_request("t", &at, 60_000, least));
    produce(&mut node, writer, "t", 3, one.clone());
    assert!(node.take_frame(reader).is_none(), "half of it is there");
    produce(&mut node, writer, "t", 0, one);
    assert!(node.take::<FetchRequest>(reader, 12).is_some());
}

#[test]
fn every_fetch_shape_is_answered() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        let id = create(&mut node, client, "t", 2);
        produce(&mut node, client, "t", 0, batch(&["x"], None));
        for version in 4..=18 {
            let call = |node: &mut TestNode, name: &str, topic_id, at: &[(i32, i64)]| {
                let mut request = fetch_request(name, at, 0, 1);
                request.topics[0].topic_id = topic_id;
                node.call(client, version, &request)
            };
            let code = |response: &FetchResponse| response.responses[0].partitions[0].error_code;
            let good = call(&mut node, "t", id, &[(0, 0)]);
            assert_eq!(code(&good), 0, "v{version}");
            assert!(!good.responses[0].partitions[0].records.as_ref().expect("some").is_empty());
            assert_eq!(code(&call(&mut node, "t", id, &[(0, 1)])), 0);
            assert_eq!(code(&call(&mut node, "t", id, &[(0, 2)])), 1);
            assert_eq!(code(&call(&mut node, "t", id, &[(0, -1)])), 1);
            assert_eq!(code(&call(&mut node, "t", id, &[(9, 0)])), 3);
            let unknown = if version >= 13 { 100 } else { 3 };
            assert_eq!(code(&call(&mut node, "u", Uuid([9; 16]), &[(0, 0)])), unknown);
            assert!(call(&mut node, "t", id, &[]).responses.is_empty());
            let nothing = FetchRequest { max_wait_ms: 60_000, ..FetchRequest::default() };
            let sent = node.send(client, version, &nothing);
            let (answered, _) = node.take::<FetchRequest>(client, version).expect("at once");
            assert_eq!(answered, sent);
        }
    }
}

#[test]
fn the_first_batch_comes_whole_however_small_the_limit() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 3);
    let records = batch(&[&"x".repeat(1000)], None);
    for partition in 0..3 {
        produce(&mut node, client, "t", partition, records.clone());
        produce(&mut node, client, "t", partition, records.clone());
    }
    let mut request = fetch_request("t", &[(2, 0), (0, 0), (1, 0)], 0, 1);
    request.max_bytes = 10;
    let response = node.call(client, 12, &request);
    let sizes: Vec<usize> = response.responses[0]
        .partitions
        .iter()
        .map(|p| p.records.as_ref().expect("records").len())
        .collect();
    assert_eq!(sizes, [records.len(), 0, 0]);
    request.max_bytes = records.len() as i32 * 3;
    let response = node.call(client, 12, &request);
    let total: usize = response.responses[0]
        .partitions
        .iter()
        .map(|p| p.records.as_ref().expect("records").len())
        .sum();
    assert_eq!(total, records.len() * 3, "as much as the limit allows, in whole batches");
}

#[test]
fn with_its_pool_full_a_fetch_still_brings_one_batch() {
    let mut node = TestNode::with(1, |config| config.limits.answer_pool_bytes = 0);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    let records = batch(&["x"], None);
    for _ in 0..3 {
        produce(&mut node, client, "t", 0, records.clone());
    }
    let data = fetch(&mut node, client, "t", 0, 1);
    assert_eq!(data.records.expect("records").len(), records.len());
}

#[test]
fn a_peer_that_is_gone_leaves_no_fetch_behind() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let (client, reader) = (node.connect(0), node.connect(0));
        create(&mut node, client, "t", 6);
        node.send(reader, 12, &fetch_request("t", &[(0, 0), (3, 0), (5, 0)], 60_000, 1));
        assert!(waits(&node) >= 2);
        node.disconnect(reader);
        assert_eq!(waits(&node), 0);
        assert_eq!(node.shards[0].parked_fetches, 0);
    }
}

#[test]
fn fetches_under_way_never_share_the_same_room() {
    let records = batch(&[&"x".repeat(10_000)], None);
    let size = records.len() as u64;
    let mut node = TestNode::with(1, |config| {
        config.limits.answer_pool_bytes = 3 * size;
        config.log.tail_cache_bytes = 0;
    });
    let writer = node.connect(0);
    create(&mut node, writer, "t", 1);
    for _ in 0..4 {
        produce(&mut node, writer, "t", 0, records.clone());
    }
    node.pass(Duration::from_secs(5));
    node.hold_disk = true;
    let readers = [node.connect(0), node.connect(0), node.connect(0)];
    for reader in readers {
        let mut request = fetch_request("t", &[(0, 0)], 0, 1);
        request.max_bytes = 2 * size as i32;
        node.send(reader, 12, &request);
        assert!(node.take_frame(reader).is_none(), "it waits for the disk");
    }
    assert_eq!(node.shards[0].granted_bytes, 3 * size);
    node.release();
    let batches: Vec<usize> = readers
        .into_iter()
        .map(|reader| {
            let (_, response) = node.take::<FetchRequest>(reader, 12).expect("answered");
            records_of(&response)[0] / records.len()
        })
        .collect();
    assert_eq!(batches, [2, 1, 1], "two, what is left, and the one that always comes");
    assert_eq!((node.shards[0].granted_bytes, node.shards[0].answer_bytes), (0, 0));

    node.hold_disk = true;
    node.send(readers[0], 12, &fetch_request("t", &[(0, 0)], 0, 1));
    assert!(node.shards[0].granted_bytes > 0);
    node.disconnect(readers[0]);
    assert_eq!(node.shards[0].granted_bytes, 0, "who is gone holds nothing");
}

#[test]
fn answers_that_wait_for_an_earlier_one_fill_the_pool_as_well() {
    let records = batch(&[&"x".repeat(10_000)], None);
    let mut node = TestNode::with(1, |config| {
        config.limits.answer_pool_bytes = records.len() as u64 + 1000;
    });
    let (writer, reader) = (node.connect(0), node.connect(0));
    create(&mut node, writer, "t", 1);
    for _ in 0..3 {
        produce(&mut node, writer, "t", 0, records.clone());
    }
    // The first request of this connection waits, and the second is answered behind it.
    node.hold_disk = true;
    node.send(reader, 9, &produce_request(-1, "t", &[(0, batch(&["y"], None))]));
    node.send(reader, 12, &fetch_request("t", &[(0, 0)], 0, 1));
    assert!(node.shards[0].answer_bytes >= records.len() as u64);
    let other = fetch_request("t", &[(0, 0)], 0, 1);
    assert_eq!(records_of(&node.call(writer, 12, &other)), [records.len()], "one batch");
    node.release();
    node.take::<ProduceRequest>(reader, 9).expect("answered");
    node.take::<FetchRequest>(reader, 12).expect("answered");
    assert_eq!(node.shards[0].answer_bytes, 0);
}

#[test]
fn an_answered_fetch_is_watched_nowhere() {
    let mut node = TestNode::started(3);
    let (client, reader) = (node.connect(0), node.connect(0));
    let gone = create(&mut node, client, "gone", 1);
    let stays = create(&mut node, client, "stays", 12);
    let owner = partition_owner(&node, gone, 0);
    // The shard that refuses has nothing to read, so that no read tells it to forget.
    let others = (0..12).filter(|&p| partition_owner(&node, stays, p) != owner);
    let others: Vec<(i32, i64)> = others.map(|p| (p, 0)).collect();
    let mut request = fetch_request("gone", &[(0, 0)], 60_000, 1);
    request.topics.extend(fetch_request("stays", &others, 0, 1).topics);
    node.send(reader, 12, &request);
    assert_eq!(node.shards[0].parked_fetches, 1);
    delete(&mut node, client, "gone");
    node.take::<FetchRequest>(reader, 12).expect("an error answers it");
    assert_eq!(waits(&node), 0);
}

#[test]
fn a_fetch_that_is_woken_while_it_parks_is_watched_nowhere() {
    let mut node = TestNode::started(3);
    let (writer, reader) = (node.connect(0), node.connect(0));
    let topic_id = create(&mut node, writer, "t", 12);
    let owned_by = |shard| {
        let all = (0..12).filter(|&p| partition_owner(&node, topic_id, p) == ShardId(shard));
        all.collect::<Vec<i32>>()
    };
    let (own, other) = (owned_by(0), owned_by(1));
    let at = [(own[0], 0), (own[1], 0), (other[0], 0)];
    // The bytes become readable after the probe of this shard and before that of the other.
    node.queue(reader, 12, &fetch_request("t", &at, 60_000, 1));
    node.queue(writer, 9, &produce_request(-1, "t", &[(own[0], batch(&["x"], None))]));
    node.run();
    let (_, response) = node.take::<FetchRequest>(reader, 12).expect("woken at once");
    assert!(node.marks.contains(&Mark::FetchWoken));
    assert!(records_of(&response)[0] > 0);
    assert_eq!(waits(&node), 0);
}
