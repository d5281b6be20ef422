//! What a log makes of producer files and segments that are damaged, or only read wrongly, and what it still takes then.

use super::*;

/// A node that was closed, so that the journal tells nothing of its producers, whose files are then
/// damaged.
fn node_with_damaged_producer_files() -> (Node, TopicPartition) {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for sequence in 0..100 {
        let batch = batch(&[3; 400], Some(producer(sequence)));
        let taken = node.store.append(node.now, log, LeaderEpoch(1), batch, &mut node.fx);
        taken.expect("the append is taken");
        node.settle();
    }
    node.store.stop(node.now, &mut node.fx);
    node.settle();
    let mut damaged = 0;
    for (name, content) in &mut node.disk.files {
        if [".producers", ".snapshot"].iter().any(|ending| name.ends_with(ending)) {
            content.fill(0);
            damaged += 1;
        }
    }
    assert_eq!(damaged, 2, "a checkpoint was made");
    (node, log)
}

fn producer(base_sequence: i32) -> Producer {
    let (id, epoch) = (crate::ids::ProducerId(5), crate::ids::ProducerEpoch(0));
    Producer { id, epoch, base_sequence }
}

#[test]
fn damaged_producer_files_are_made_again_from_the_segments() {
    let (mut node, log) = node_with_damaged_producer_files();
    for start in 0..3 {
        node.restart();
        for back in 1..=5 {
            let again = batch(&[3; 400], Some(producer(100 - back)));
            let verdict = node.store.check_sequence(node.now, log, &again);
            let right = matches!(verdict, Ok(Sequence::Duplicate { base_offset, .. })
                if base_offset.0 == i64::from(100 - back));
            assert!(right, "start {start}: {verdict:?} for {back} back");
        }
        if start == 0 {
            node.store.stop(node.now, &mut node.fx);
            node.settle();
            let zeros = |(name, content): (&String, &Vec<u8>)| {
                name.ends_with(".producers") && content.iter().all(|byte| *byte == 0)
            };
            assert!(!node.disk.files.iter().any(zeros), "the next checkpoint writes them anew");
        }
    }
}

#[test]
fn damaged_producer_files_of_a_damaged_log_let_no_batch_in() {
    let (mut node, log) = node_with_damaged_producer_files();
    let file = node.disk.files.get_mut("topic1-0/00000000000000000000.log").expect("a segment");
    file[2_000] ^= 1;
    for _ in 0..3 {
        node.restart();
        let batch = batch(b"x", Some(producer(100)));
        let refused = node.store.append(node.now, log, LeaderEpoch(1), batch, &mut node.fx);
        assert_eq!(refused, Err(AppendError::Damaged(Offset(4))));
        assert_eq!(node.fetch(log, Offset(50), 1_000).len(), 2, "the rest is served");
        node.store.stop(node.now, &mut node.fx);
        node.settle();
    }
}

#[test]
fn a_bit_that_flips_on_the_way_from_a_segment_makes_no_log_damaged() {
    let (mut node, log) = node_with_damaged_producer_files();
    node.disk.flips = Some(("topic1-0/00000000000000000000.log".to_owned(), 2_000));

    node.restart();

    assert!(node.disk.flips.is_none(), "it was read wrongly");
    assert_eq!(node.store.damaged_at(log), None);
    let verdict = node.store.check_sequence(node.now, log, &batch(b"x", Some(producer(100))));
    assert_eq!(verdict, Ok(Sequence::Append));
}

/// Both are damaged at one start, and readable again at the next: what was learned in between was not all.
#[test]
fn producer_files_of_an_earlier_checkpoint_are_not_taken_for_those_of_a_later_one() {
    let (mut node, log) = node_with_damaged_producer_files();
    node.restart();
    node.store.stop(node.now, &mut node.fx);
    node.settle();
    node.restart();
    for sequence in 100..105 {
        let batch = batch(&[3; 400], Some(producer(sequence)));
        let taken = node.store.append(node.now, log, LeaderEpoch(1), batch, &mut node.fx);
        taken.expect("the append is taken");
        node.settle();
    }
    let sound = node.disk.files.clone();
    for (name, content) in &mut node.disk.files {
        if [".producers", ".snapshot"].iter().any(|ending| name.ends_with(ending)) {
            content.fill(0);
        } else if name == "topic1-0/00000000000000000000.log" {
            content[2_000] ^= 1;
        }
    }
    node.restart();
    for (back, code) in
        [(1, Ok(())), (0, Err(ErrorCode::CorruptMessage)), (-7, Err(ErrorCode::CorruptMessage))]
    {
        let asked = batch(&[3; 400], Some(producer(105 - back)));
        let verdict = node.store.check_sequence(node.now, log, &asked);
        assert_eq!(verdict.map(|_| ()), code, "{back} back");
    }
    node.store.stop(node.now, &mut node.fx);
    node.settle();
    for (name, content) in sound {
        if [".producers", ".snapshot"].iter().any(|ending| name.ends_with(ending)) {
            node.disk.files.insert(name, content);
        }
    }
    node.disk.files.get_mut("topic1-0/00000000000000000000.log").expect("a segment")[2_000] ^= 1;

    node.restart();

    for sequence in 100..105 {
        let again = batch(&[3; 400], Some(producer(sequence)));
        let verdict = node.store.check_sequence(node.now, log, &again);
        assert!(matches!(verdict, Ok(Sequence::Duplicate { .. })), "{sequence}: {verdict:?}");
    }
}

#[test]
fn a_log_whose_damage_is_cut_away_takes_produce_again_and_knows_its_producers() {
    let (mut node, log) = node_with_damaged_producer_files();
    let file = node.disk.files.get_mut("topic1-0/00000000000000000000.log").expect("a segment");
    file[2_000] ^= 1;
    node.restart();
    assert_eq!(node.store.damaged_at(log), Some(Offset(4)));

    node.store.truncate(node.now, log, Offset(3), &mut node.fx);
    node.settle();

    assert_eq!(node.store.damaged_at(log), None);
    for restarted in [false, true] {
        if restarted {
            node.restart();
        }
        let verdict = |node: &mut Node, base| {
            node.store.check_sequence(node.now, log, &batch(&[3; 400], Some(producer(base))))
        };
        let known = verdict(&mut node, 2);
        assert!(matches!(known, Ok(Sequence::Duplicate { .. })), "{restarted}: {known:?}");
        assert_eq!(verdict(&mut node, 3), Ok(Sequence::Append), "restarted: {restarted}");
    }
}
