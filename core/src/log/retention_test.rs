//! The clock that retention may trust, over restarts, and records that are past their retention.

use super::*;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::io::Counter;

const HOUR_MS: i64 = 3_600_000;

fn short() -> LogSettings {
    LogSettings { delete: true, retention_ms: 10_000, ..settings() }
}

#[test]
fn a_clock_in_doubt_holds_deletion_over_restarts_for_a_day_of_running_in_all() {
    let mut node = Node::new();
    let log = node.create(1, short());
    node.append(log, b"kept");
    node.pass(2_000);
    node.now.wall = node.now.wall.plus(2 * HOUR_MS);
    node.pass(2_000);
    for _ in 0..3 {
        node.pass(7 * HOUR_MS as u64 + 50 * 60_000);
        assert_eq!(node.store.log_start_offset(log), Some(Offset(0)));
        assert!(node.observed.contains(&Event::RetentionHeld(true)));
        node.restart();
        node.store.configure(log, short());
    }
    // What was not told yet when it was killed counts again: less than an hour for each start.
    node.pass(30 * 60_000);
    assert_eq!(node.store.log_start_offset(log), Some(Offset(0)));
    node.pass(3 * HOUR_MS as u64);
    assert_eq!(node.store.log_start_offset(log), Some(Offset(1)));
    assert!(node.observed.contains(&Event::RetentionHeld(false)));
    node.restart();
    node.store.configure(log, short());
    node.append(log, b"gone soon");
    node.pass(20_000);
    assert_eq!(node.store.log_start_offset(log), Some(Offset(2)), "the end is told, too");
}

#[test]
fn records_past_their_retention_are_counted_and_told_of_once_for_each_topic() {
    let mut node = Node::new();
    let log = node.create(1, short());
    let kept = node.create(2, settings());
    let past = node.now.wall.0 - 10_001;
    for (log, timestamp) in [(kept, past), (log, past + 1), (log, -1), (log, past), (log, past)] {
        let batch = batch_at(b"x", timestamp, None);
        node.store.append(node.now, log, LeaderEpoch(1), batch, &mut node.fx).expect("taken");
        node.settle();
    }
    let counted = |event: &&Event| **event == Event::Count(Counter::RecordsPastRetention, 1);
    assert_eq!(node.observed.iter().filter(counted).count(), 2);
    let words: Vec<&String> = node
        .observed
        .iter()
        .filter_map(|event| match event {
            Event::Warning(text) => Some(text),
            _ => None,
        })
        .collect();
    assert!(matches!(words[..], [text] if text.contains("topic1") && text.contains("10000")));
}

#[test]
fn a_clock_in_doubt_forgets_no_producer() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let producer = Producer { id: ProducerId(7), epoch: ProducerEpoch(0), base_sequence: 0 };
    node.pass(2_000);
    node.now.wall = node.now.wall.plus(2 * HOUR_MS);
    node.pass(2_000);
    // It is not believed, and goes back much further: what comes now is stamped as of long ago.
    node.now.wall = node.now.wall.plus(-10 * 365 * 24 * HOUR_MS);
    let sent = batch(b"once", Some(producer));
    assert_eq!(node.store.check_sequence(node.now, log, &sent), Ok(Sequence::Append));
    node.store.append(node.now, log, LeaderEpoch(1), sent.clone(), &mut node.fx).expect("taken");
    node.settle();
    node.pass(5_000);

    let again = node.store.check_sequence(node.now, log, &sent);

    assert!(matches!(again, Ok(Sequence::Duplicate { .. })), "{again:?}");
}
