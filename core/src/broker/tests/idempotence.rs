//! Producer ids and sequences.

use crate::broker::testing::{TestNode, batch};
use crate::error::ErrorCode;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::io::Mark;
use crate::record::builder::Producer;
use crate::wire::api::init_producer_id::InitProducerIdRequest;

use super::{create, produce};

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
    for (id, code) in [("", 42), ("mine", 35)] {
        let request =
            InitProducerIdRequest { transactional_id: Some(id.into()), ..Default::default() };
        assert_eq!(node.call(client, 5, &request).error_code, code);
    }
}
