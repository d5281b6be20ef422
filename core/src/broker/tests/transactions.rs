//! What readers of committed records are given. Nobody may begin a transaction over the wire yet: the tests go
//! to the partition.

use std::time::Duration;

use bytes::Bytes;

use crate::broker::testing::{Client, TestNode, batch};
use crate::connection::RequestId;
use crate::error::ErrorCode;
use crate::ids::{
    ConnectionId, PartitionIndex, ProducerEpoch, ProducerId, ShardId, TopicPartition,
};
use crate::io::Mark;
use crate::partition::Waiter;
use crate::partition::leader::Acks;
use crate::record::batch::Batch;
use crate::record::builder::{BatchBuilder, Producer};
use crate::record::compress::Codec;
use crate::record::marker::TxnMarker;
use crate::wire::api::fetch::PartitionData;
use crate::wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};

use super::{create, fetch, fetch_request, produce};

const NOBODY: Waiter = Waiter {
    shard: ShardId(0),
    request: RequestId { connection: ConnectionId(u64::MAX), sequence: 0 },
    index: 0,
};

pub(super) fn transactional(id: i64, base_sequence: i32) -> Bytes {
    let producer = Producer { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence };
    let mut builder = BatchBuilder::new(Codec::None).producer(producer).transactional();
    builder.push(1_700_000_000_000, None, Some(&[b'v'; 300]), &[]);
    builder.build().to_bytes()
}

/// Produces as if the coordinator had been asked.
pub(super) fn produce_in_transaction(node: &mut TestNode, id: TopicPartition, records: &Bytes) {
    let now = node.now;
    let shard = &mut node.shards[0];
    let partition = shard.partitions.get_mut(&id).expect("it leads");
    let batch = Batch::split_from(&mut records.clone()).expect("whole");
    let guard = partition.begin_verification(now, &batch).expect("there is room");
    let acks = Acks { version: 11, all_replicas: true, wait: false };
    let (log, fx) = (&mut shard.log, &mut shard.fx);
    let taken = partition.produce(now, records.clone(), acks, Some(guard), NOBODY, log, fx);
    assert!(taken.is_some_and(|taken| taken.is_ok()));
    node.wake_for(1);
    node.pass(Duration::from_secs(2));
}

fn mark(node: &mut TestNode, id: TopicPartition, producer: i64, committed: bool) {
    let now = node.now;
    let shard = &mut node.shards[0];
    let partition = shard.partitions.get_mut(&id).expect("it leads");
    let (log, fx) = (&mut shard.log, &mut shard.fx);
    let (producer_id, producer_epoch) = (ProducerId(producer), ProducerEpoch(0));
    let marker = TxnMarker { producer_id, producer_epoch, coordinator_epoch: 0, committed };
    assert_eq!(partition.append_marker(now, &marker, 0, NOBODY, log, fx), Ok(()));
    node.wake_for(1);
    node.pass(Duration::from_secs(2));
}

fn fetch_committed(node: &mut TestNode, client: Client, offset: i64) -> PartitionData {
    let mut request = fetch_request("t", &[(0, offset)], 0, 1);
    request.isolation_level = 1;
    let mut response = node.call(client, 12, &request);
    response.responses.remove(0).partitions.remove(0)
}

fn latest(node: &mut TestNode, client: Client, isolation_level: i8) -> i64 {
    let partition = ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
    let request = ListOffsetsRequest {
        isolation_level,
        topics: vec![topic],
        ..ListOffsetsRequest::default()
    };
    node.call(client, 8, &request).topics[0].partitions[0].offset
}

fn told(data: &PartitionData) -> Option<Vec<(i64, i64)>> {
    let aborted = data.aborted_transactions.as_ref()?;
    Some(aborted.iter().map(|it| (it.producer_id, it.first_offset)).collect())
}

fn bytes(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, crate::wire::Parts::len)
}

#[test]
fn committed_records_are_given_below_the_last_stable_offset_with_what_was_aborted() {
    for cached in [0, 1 << 20] {
        let mut node = TestNode::with(1, |config| config.log.tail_cache_bytes = cached);
        let client = node.connect(0);
        let topic_id = create(&mut node, client, "t", 1);
        let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
        produce_in_transaction(&mut node, id, &transactional(8, 0));
        produce(&mut node, client, "t", 0, batch(&["plain"], None));
        produce_in_transaction(&mut node, id, &transactional(5, 0));
        produce_in_transaction(&mut node, id, &transactional(6, 0));
        for _ in 0..2 {
            let client = node.connect(0);
            let held_up = fetch_committed(&mut node, client, 0);
            assert_eq!((bytes(&held_up), held_up.last_stable_offset), (0, 0));
            assert_eq!(told(&held_up), Some(vec![]));
            let all = fetch(&mut node, client, "t", 0, 0);
            assert_eq!((all.high_watermark, all.last_stable_offset), (4, 0));
            assert!(bytes(&all) > 900);
            assert_eq!(told(&all), None);
            assert_eq!((latest(&mut node, client, 0), latest(&mut node, client, 1)), (4, 0));
            node.restart();
        }

        // 4 to 6: the aborts in another order than the beginnings; 7 is open.
        mark(&mut node, id, 5, false);
        mark(&mut node, id, 6, true);
        mark(&mut node, id, 8, false);
        produce_in_transaction(&mut node, id, &transactional(7, 0));

        for is_first in [true, false] {
            node.marks.clear();
            let client = node.connect(0);
            assert_eq!((latest(&mut node, client, 0), latest(&mut node, client, 1)), (8, 7));
            let whole = fetch_committed(&mut node, client, 0);
            assert_eq!((whole.high_watermark, whole.last_stable_offset), (8, 7));
            assert_eq!(told(&whole), Some(vec![(8, 0), (5, 2)]), "by their beginnings");
            assert_eq!(told(&fetch_committed(&mut node, client, 4)), Some(vec![(8, 0), (5, 2)]));
            assert_eq!(told(&fetch_committed(&mut node, client, 5)), Some(vec![(8, 0)]));
            assert_eq!(told(&fetch_committed(&mut node, client, 7)), Some(vec![]));
            if is_first {
                assert!(cached > 0 || node.marks.contains(&Mark::FetchFromFile));
            }
            node.restart();
        }
    }
}

#[test]
fn only_as_many_aborted_transactions_are_told_as_the_answer_has_records_of() {
    let mut node = TestNode::with(1, |config| config.log.tail_cache_bytes = 0);
    let client = node.connect(0);
    let topic_id = create(&mut node, client, "t", 1);
    let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
    for producer in 1..=4 {
        produce_in_transaction(&mut node, id, &transactional(producer, 0));
        mark(&mut node, id, producer, false);
    }
    for offset in 0..8 {
        let mut request = fetch_request("t", &[(0, offset)], 0, 1);
        request.isolation_level = 1;
        request.max_bytes = 1;
        let mut response = node.call(client, 12, &request);
        let one = response.responses.remove(0).partitions.remove(0);
        assert_eq!(told(&one), Some(vec![(offset / 2 + 1, offset / 2 * 2)]), "{offset}");
    }
}

#[test]
fn a_transactional_batch_that_nobody_vouches_for_is_refused() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    let refused = produce(&mut node, client, "t", 0, transactional(8, 0));
    assert_eq!(refused.error_code, ErrorCode::TransactionalIdAuthorizationFailed.code());
    assert_eq!(latest(&mut node, client, 0), 0);
}
