//! Edges of cutting a log back that others depend on.

use super::replica::stored;
use super::*;

fn filled(node: &mut Node, count: i64) -> TopicPartition {
    let log = node.create(1, settings());
    for base in 0..count {
        let batch = stored(base, 1, &[base as u8; 500], None);
        node.replicate(log, &batch).expect("it continues the log");
    }
    log
}

#[test]
fn what_was_stable_and_is_not_told_yet_is_not_told_beyond_a_cut() {
    let mut node = Node::new();
    let log = filled(&mut node, 3);
    node.holds = Some(".journal");
    let batch = stored(3, 1, b"gone", None);
    node.replicate(log, &batch).expect("it continues the log");
    let effect = node.held.pop_front().expect("a block is in flight");
    let (token, result) = node.disk.perform(effect).expect("a write");
    // The event is there, and its owner cuts the log before it has heard it.
    node.events.clear();
    node.store.handle_completion(node.now, token, result, &mut node.fx);
    node.store.truncate(node.now, log, Offset(2), &mut node.fx);
    node.settle();
    let ends = node.events.iter().filter_map(|event| match event {
        LogEvent::Stable { end, .. } => Some(end.value()),
        _ => None,
    });
    assert!(ends.max().is_none_or(|end| end <= Offset(2)), "{:?}", node.events);
}

#[test]
fn reads_while_the_place_of_a_cut_is_looked_for_take_nothing_for_damage() {
    for to in [5, 10, 24, 25, 40] {
        for from in [0, 3, 4, 5, 9, 23, 24, 39] {
            if from >= to {
                continue;
            }
            let mut node = Node::new();
            let log = filled(&mut node, 60);
            node.pass(2_000);
            let appended = stored(0, 1, &[0; 500], None).size() as u64;
            node.holds = Some(".log");
            node.store.truncate(node.now, log, Offset(to), &mut node.fx);
            node.settle();
            if !node.store.is_finding(log) {
                continue;
            }
            let search = node.held.pop_front().expect("the search");
            node.holds = None;
            node.observed.clear();
            let range = FileRange {
                log,
                from: Offset(from),
                end: Offset(to),
                max_bytes: 100 * appended,
                at_least_one: true,
            };
            let mut got = Offset(from);
            node.store.read(node.now, range, ReadTicket(1), &mut node.fx);
            node.store.find_by_time(
                node.now,
                log,
                TimeLookup::AtLeast(i64::MAX),
                Offset(to),
                ReadTicket(2),
                &mut node.fx,
            );
            node.store.find_by_time(
                node.now,
                log,
                TimeLookup::Largest,
                Offset(to),
                ReadTicket(3),
                &mut node.fx,
            );
            node.events.clear();
            node.settle();
            for event in &node.events {
                match event {
                    LogEvent::Read { result, .. } => {
                        let mut bytes: Bytes = result.clone().expect("good").concat().into();
                        while !bytes.is_empty() {
                            let batch = Batch::split_from(&mut bytes).expect("whole");
                            assert_eq!(batch.base_offset(), got);
                            got = batch.next_offset();
                        }
                        assert!(got > Offset(from) && got <= Offset(to), "{got:?}");
                    }
                    LogEvent::Found { ticket: ReadTicket(2), result } => {
                        assert_eq!(result.clone().expect("good"), None, "cut at {to}");
                    }
                    LogEvent::Found { result, .. } => {
                        let found = result.clone().expect("good").expect("there is one");
                        assert_eq!(found.offset, Offset(0));
                    }
                    _ => {}
                }
            }
            assert_eq!(node.store.damaged_at(log), None, "cut at {to}, read from {from}");
            let rot = Event::Mark(Mark::RotFoundOnRead);
            assert!(!node.observed.contains(&rot), "cut at {to}, read from {from}");
            node.fx.push(search);
            node.settle();
            assert_eq!(node.store.log_end_offset(log), Some(Offset(to)));
        }
    }
}

/// A node whose log of thirty batches is to begin at 3 and is cut there before the journal has heard of
/// either. The first of both is durable.
fn cut_down_to_a_start_on_its_way() -> (Node, TopicPartition) {
    let mut node = Node::new();
    let log = filled(&mut node, 30);
    node.pass(2_000);
    node.store.begin_checkpoint(&mut node.fx);
    node.settle();
    node.holds = Some(".journal");
    node.store.move_log_start(node.now, log, Offset(3), &mut node.fx);
    node.store.truncate(node.now, log, Offset(3), &mut node.fx);
    node.settle();
    while node.store.log_start_offset(log) < Some(Offset(3)) {
        let step = node.held.pop_front().expect("the journal is at it");
        let (token, result) = node.disk.perform(step).expect("a step of the journal");
        node.store.handle_completion(node.now, token, result, &mut node.fx);
        node.settle();
    }
    (node, log)
}

#[test]
fn what_a_cut_leaves_below_the_start_stays_until_the_cut_is_durable() {
    let (mut node, log) = cut_down_to_a_start_on_its_way();
    assert_eq!(node.store.log_end_offset(log), Some(Offset(3)));
    node.restart();
    assert_eq!(node.store.log_end_offset(log), Some(Offset(30)));
    let all = node.fetch_all(log);
    assert!(all.iter().zip(3..).all(|(batch, base)| batch.base_offset() == Offset(base)));
    assert_eq!(all.len(), 27);
}

#[test]
fn a_segment_that_has_gone_below_the_start_is_asked_for_by_no_later_checkpoint() {
    for crash in [false, true] {
        let (mut node, log) = cut_down_to_a_start_on_its_way();
        node.let_go();
        assert!(!node.disk.files.contains_key("topic1-0/00000000000000000000.log"));
        if crash {
            node.restart();
        }
        for base in 3..6 {
            let batch = stored(base, 2, b"later", None);
            node.replicate(log, &batch).expect("it continues the log");
        }
        node.store.begin_checkpoint(&mut node.fx);
        node.settle();
        assert!(node.store.may_begin_checkpoint(), "the checkpoint has come to its end");
        node.restart();
        assert_eq!(node.fetch_all(log).len(), 3);
    }
}

#[test]
fn a_segment_that_begins_anew_under_a_checkpoint_need_not_be_there_yet() {
    let mut node = Node::new();
    let log = filled(&mut node, 3);
    node.holds = Some(".log");
    node.pass(2_000);
    node.store.begin_checkpoint(&mut node.fx);
    node.store.truncate(node.now, log, Offset(0), &mut node.fx);
    node.settle();
    let write = node.held.pop_front().expect("a segment write is under way");
    node.holds = Some(".journal");
    let batch = stored(0, 2, b"of the same offset", None);
    node.replicate(log, &batch).expect("it continues the log");
    // Files are cut now and the checkpoint goes on; the batch is not in the journal yet.
    node.fx.push(write);
    node.settle();
    assert!(!node.events.iter().any(|event| matches!(event, LogEvent::Poisoned(_))));
    node.let_go();
    node.pass(2_000);
    assert!(node.store.may_begin_checkpoint(), "the checkpoint has come to its end");
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 1);
}
