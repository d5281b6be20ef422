//! Logs with batches that are not for clients: room on the disk, times, and how far retention may go.

use super::replica::stored;
use super::*;
use crate::error::ErrorCode;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::record::builder::BatchBuilder;
use crate::record::hidden::{Change, CheckStep, Note, void_batch};
use crate::record::testing::{data, keeping, note};

#[test]
fn on_a_disk_that_is_nearly_full_only_what_no_client_has_just_produced_is_taken() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.append(log, b"before");
    node.disk.free = 10 << 20;
    node.pass(3_000);
    let id = ProducerId(3);
    let producer = Producer { id, epoch: ProducerEpoch(0), base_sequence: 0 };
    let linked = Note { at_ms: 1, link: Some(7), changes: Vec::new() }.build();
    for refused in
        [void_batch(&data(2, Some(producer), true)), void_batch(&data(2, None, false)), linked]
    {
        let refused = node.store.append(node.now, log, LeaderEpoch(1), refused, &mut node.fx);
        assert!(matches!(refused, Err(AppendError::DiskFull(_))), "{refused:?}");
    }
    let refused = node.store.append(node.now, log, LeaderEpoch(1), note(9), &mut node.fx);
    assert!(matches!(refused, Err(AppendError::DiskFull(_))), "what is written again: {refused:?}");
    let step = CheckStep::Sent;
    let checked = vec![Change::Check { ticket: Offset(0), attempt: 1, step }];
    let checked = Note { at_ms: 1, link: None, changes: checked }.build();
    let taken = node.store.append(node.now, log, LeaderEpoch(1), checked, &mut node.fx);
    assert_eq!(taken, Ok(Offset(1)));
}

#[test]
fn a_lookup_by_time_finds_records_and_nothing_that_stands_for_them() {
    for append_time in [false, true] {
        let mut node = Node::new();
        let log = node.create(1, settings());
        let mut builder = BatchBuilder::new(Codec::None);
        if append_time {
            builder = builder.append_time(50);
        }
        for _ in 0..3 {
            builder.push(50, None, Some(b"v"), &[]);
        }
        let sent = builder.build();
        let partial = keeping(&sent, &[false, true, false]);
        for batch in [void_batch(&sent), note(5), partial, note(5)] {
            node.store.append(node.now, log, LeaderEpoch(1), batch, &mut node.fx).expect("taken");
            node.settle();
        }
        for _ in 0..2 {
            for lookup in [TimeLookup::AtLeast(0), TimeLookup::AtLeast(50), TimeLookup::Largest] {
                let found = node.find(log, lookup).map(|it| (it.offset, it.timestamp));
                assert_eq!(found, Some((Offset(5), 50)), "{append_time} {lookup:?}");
            }
            assert_eq!(node.find(log, TimeLookup::AtLeast(51)), None);
            node.restart();
        }
    }
}

#[test]
fn retention_goes_no_further_than_it_may_and_says_how_far_it_would() {
    let mut node = Node::new();
    let log = node.create(1, LogSettings { delete: true, retention_bytes: 0, ..settings() });
    node.store.hold(log, Some(Offset(0)));
    for _ in 0..60 {
        node.append(log, &[1; 900]);
    }
    node.pass(5_000);
    assert_eq!(node.store.log_start_offset(log), Some(Offset(0)));
    let bases: Vec<Offset> =
        node.store.logs[&log].segments.iter().map(|segment| segment.extent.base).collect();
    let active = *bases.last().expect("some");
    assert_eq!(node.store.retention_wish(log), Some(active));
    // No smaller than twice what would be written again.
    let size = node.store.size(log).expect("known");
    node.store.expect_copies(log, size / 4);
    node.pass(5_000);
    let wish = node.store.retention_wish(log).expect("some may go");
    assert!(bases.contains(&wish) && wish > bases[0] && wish < active, "{wish:?}");
    node.store.expect_copies(log, size / 2);
    node.pass(5_000);
    assert_eq!(node.store.retention_wish(log), None);
    node.store.expect_copies(log, 0);
    // It goes by whole segments.
    node.store.hold(log, Some(bases[2].plus(1)));
    node.pass(5_000);
    assert_eq!(node.store.log_start_offset(log), Some(bases[2]));
    assert_eq!(node.store.retention_wish(log), Some(active));
    assert_eq!((node.store.is_held(log), node.fetch(log, bases[2], 1).len()), (true, 1));
    // Who moves it knows why.
    node.store.move_log_start(node.now, log, bases[3], &mut node.fx);
    node.settle();
    assert_eq!(node.store.log_start_offset(log), Some(bases[3]));
    node.store.hold(log, None);
    node.pass(5_000);
    assert_eq!(node.store.log_start_offset(log), Some(active));
    assert_eq!((node.store.is_held(log), node.store.retention_wish(log)), (false, None));
}

#[test]
fn a_log_in_memory_keeps_what_it_may_not_let_go_and_says_so() {
    let mut node = Node::new();
    let small = LogSettings { storage: Storage::Memory, memory_max_bytes: 5_000, ..settings() };
    let log = node.create(1, small);
    node.store.hold(log, Some(Offset(2)));
    for _ in 0..10 {
        node.append(log, &[1; 900]);
    }
    assert_eq!(node.store.log_start_offset(log), Some(Offset(2)));
    node.store.expect_copies(log, 4_000);
    node.append(log, &[1; 900]);
    assert_eq!(node.store.retention_wish(log), Some(Offset(3)), "to twice of that");
    node.store.expect_copies(log, 0);
    node.append(log, &[1; 900]);
    let wish = node.store.retention_wish(log).expect("it is too large");
    node.store.hold(log, Some(wish));
    node.append(log, &[1; 900]);
    assert_eq!(node.store.log_start_offset(log), Some(wish));
    node.store.hold(log, None);
    node.append(log, &[1; 900]);
    assert!(node.store.size(log).expect("known") <= 5_000);
}

#[test]
fn a_log_in_memory_that_may_let_nothing_go_is_bounded_and_takes_what_ends_that() {
    let mut node = Node::new();
    let small = LogSettings { storage: Storage::Memory, memory_max_bytes: 5_000, ..settings() };
    let log = node.create(1, small);
    node.store.hold(log, Some(Offset(0)));
    let refused = loop {
        let (batch, fx) = (stored(0, 1, &[1; 900], None), &mut node.fx);
        match node.store.append(node.now, log, LeaderEpoch(1), batch, fx) {
            Ok(_) => node.settle(),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, AppendError::MemoryFull { bytes: 10_001..12_000 }), "{refused:?}");
    assert_eq!(refused.code(), ErrorCode::KafkaStorageError);
    let producer = Producer { id: ProducerId(3), epoch: ProducerEpoch(0), base_sequence: 0 };
    let linked = Note { at_ms: 1, link: Some(7), changes: Vec::new() }.build();
    for batch in [void_batch(&data(2, Some(producer), true)), linked] {
        let refused = node.store.append(node.now, log, LeaderEpoch(1), batch, &mut node.fx);
        assert!(matches!(refused, Err(AppendError::MemoryFull { .. })), "{refused:?}");
    }
    node.store.append(node.now, log, LeaderEpoch(1), note(9), &mut node.fx).expect("ours");

    node.store.hold(log, None);

    node.append(log, &[1; 900]);
    assert!(node.store.size(log).expect("known") <= 5_000);
}

#[test]
fn a_log_in_memory_that_is_allowed_less_is_shortened_at_once_and_goes_on() {
    let mut node = Node::new();
    let small = LogSettings { storage: Storage::Memory, memory_max_bytes: 50_000, ..settings() };
    let log = node.create(1, small);
    for _ in 0..40 {
        node.append(log, &[1; 900]);
    }
    node.store.configure(log, LogSettings { memory_max_bytes: 5_000, ..small });
    assert!(node.store.size(log).expect("known") <= 5_000);
    node.append(log, &[1; 900]);
    assert!(node.store.size(log).expect("known") <= 5_000);
}
