//! Producer ids and sequences.

use bytes::Bytes;

use crate::broker::testing::{TestNode, batch};
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, ProducerEpoch, ProducerId, TopicPartition};
use crate::io::Mark;
use crate::record::builder::Producer;
use crate::wire::api::init_producer_id::InitProducerIdRequest;

use super::{SHARDS, create, produce};

#[test]
fn a_retry_of_an_idempotent_batch_is_answered_with_its_first_offset_even_after_a_kill() {
    let mut node = TestNode::started(3);
    let client = node.connect(1);
    create(&mut node, client, "t", 1);
    let response = node.call(
        client,
        4,
        &InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() },
    );
    assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    let producer = |base_sequence| {
        let (id, epoch) = (ProducerId(response.producer_id), ProducerEpoch(0));
        Some(Producer { id, epoch, base_sequence })
    };
    for sequence in 0..3 {
        let answer = produce(&mut node, client, "t", 0, batch(&["x"], producer(sequence)));
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)));
    }
    let again = produce(&mut node, client, "t", 0, batch(&["x"], producer(1)));
    assert_eq!((again.error_code, again.base_offset), (0, 1));
    let gap = produce(&mut node, client, "t", 0, batch(&["x"], producer(9)));
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(gap.log_start_offset, 0, "clients tell a gap from retention by it");
    assert!(node.marks.contains(&Mark::DuplicateAnswered));
    node.restart();
    let client = node.connect(2);
    let again = produce(&mut node, client, "t", 0, batch(&["x"], producer(2)));
    assert_eq!((again.error_code, again.base_offset), (0, 2));
}

#[test]
fn producer_ids_are_never_given_twice_across_shards_and_starts() {
    let mut node = TestNode::started(3);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        for shard in 0..3 {
            let client = node.connect(shard);
            for _ in 0..400 {
                let request =
                    InitProducerIdRequest { transactional_id: None, ..Default::default() };
                let response = node.call(client, 5, &request);
                assert!(seen.insert(response.producer_id), "{}", response.producer_id);
            }
        }
        node.restart();
    }
    let client = node.connect(0);
    for (id, code) in [("", 42), ("of-nobody-yet", 16)] {
        let request =
            InitProducerIdRequest { transactional_id: Some(id.into()), ..Default::default() };
        assert_eq!(node.call(client, 5, &request).error_code, code);
    }
}

/// A batch of one record by producer 7.
fn sequenced(base_sequence: i32) -> Bytes {
    let (id, epoch) = (ProducerId(7), ProducerEpoch(0));
    batch(&["x"], Some(Producer { id, epoch, base_sequence }))
}

#[test]
fn a_batch_never_passes_one_that_its_owner_was_not_ready_for() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        let topic_id = create(&mut node, client, "t", 1);
        let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
        let owner = usize::from(node.shards[0].owner(id).0);
        // As if the metadata had not come there yet.
        node.shards[owner].partitions.remove(&id).expect("there");
        assert_eq!(produce(&mut node, client, "t", 0, sequenced(0)).error_code, 6);
        let now = node.now;
        node.shards[owner].take_up(now, id);
        assert_eq!(produce(&mut node, client, "t", 0, sequenced(1)).error_code, 45);
        for sequence in 0..3 {
            let answer = produce(&mut node, client, "t", 0, sequenced(sequence));
            assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)));
        }
        assert_eq!(node.shards[owner].early_refusals.len(), 0);
    }
}

#[test]
fn a_batch_never_passes_one_to_a_topic_that_was_not_known() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(shards - 1);
        assert_eq!(produce(&mut node, client, "t", 0, sequenced(0)).error_code, 3);
        create(&mut node, client, "t", 1);
        assert_eq!(produce(&mut node, client, "t", 0, sequenced(1)).error_code, 45);
        assert_eq!(produce(&mut node, client, "t", 0, sequenced(0)).error_code, 0);
        assert_eq!(produce(&mut node, client, "t", 0, sequenced(1)).base_offset, 1);
    }
}

#[test]
fn nobody_waits_for_a_producer_id_whose_connection_is_gone() {
    let mut node = TestNode::started(1);
    let (client, gone) = (node.connect(0), node.connect(0));
    node.hold_disk = true;
    let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    for _ in 0..3 {
        node.send(gone, 5, &request);
    }
    node.send(client, 5, &request);
    assert_eq!(node.shards[0].producer_ids.waiting_len(), 4);
    node.disconnect(gone);
    assert_eq!(node.shards[0].producer_ids.waiting_len(), 1);
    node.release();
    let (_, first) = node.take::<InitProducerIdRequest>(client, 5).expect("answered");
    let next = node.call(client, 5, &request);
    assert_eq!(next.producer_id, first.producer_id + 1, "no id went to nobody");
}
