//! Copy-forward.

use super::*;

fn bench() -> Bench {
    Bench::with(|config| {
        config.initial_rebalance_delay = Duration::ZERO;
        config.dead_records_min = 100;
    })
}

/// One step, and the move of the log's start that it allows.
fn clean(bench: &mut Bench) -> Option<Offset> {
    let start = Offset(bench.log.start);
    bench.coordinator.clean(bench.now, &mut bench.log, start).expect("the log takes it");
    bench.commit();
    let to = bench.coordinator.cleaned_to();
    if let Some(to) = to {
        assert!(to >= start, "the start never falls");
        bench.log.start = to.0;
    }
    to
}

#[test]
fn what_lives_is_copied_and_the_log_starts_behind_the_rest() {
    let mut bench = bench();
    let (generation, member) = bench.stable_one();
    for offset in 0..300 {
        bench.commit_offsets(commit_by(&member, generation, offset));
    }
    let other = OffsetCommit { group_id: "other".into(), ..commit(77) };
    bench.commit_offsets(other);
    let end = bench.log.end();

    assert_eq!(clean(&mut bench), Some(end));

    assert_eq!(bench.log.records.len() as i64 - end.0, 3, "a group and two offsets");
    bench.restart();
    assert_eq!(bench.offset(), 299);
    assert_eq!(bench.coordinator.stored.offset_count(), 2);
    assert_eq!(bench.heartbeat(&member, generation), ErrorCode::None);
    assert_eq!(clean(&mut bench), None, "nothing is worth it any more");
}

#[test]
fn the_log_keeps_the_originals_until_the_copies_are_committed() {
    let mut bench = bench();
    for offset in 0..300 {
        bench.commit_offsets(commit(offset));
    }
    let end = bench.log.end();
    bench.coordinator.clean(bench.now, &mut bench.log, Offset::ZERO).expect("taken");

    assert_eq!(bench.log.end(), end.plus(1));
    assert_eq!(bench.coordinator.cleaned_to(), None);
    bench.coordinator.clean(bench.now, &mut bench.log, Offset::ZERO).expect("nothing to do");
    assert_eq!(bench.log.end(), end.plus(1), "one step at a time");
    bench.commit();
    assert_eq!(bench.coordinator.cleaned_to(), Some(end));
    assert_eq!(bench.coordinator.cleaned_to(), None, "told once");
}

#[test]
fn a_log_that_mostly_lives_is_left_alone() {
    let mut bench = bench();
    for partition in 0..200 {
        let topics = vec![commit_topic(TOPIC, TOPIC_ID, &[(partition, 1)])];
        bench.commit_offsets(OffsetCommit { topics, ..commit(0) });
    }
    for offset in 0..150 {
        bench.commit_offsets(commit(offset));
    }
    assert_eq!(clean(&mut bench), None);
}

#[test]
fn many_live_records_are_copied_in_bounded_steps_until_it_is_enough() {
    let mut bench = bench();
    for partition in 0..1_300 {
        let topics = vec![commit_topic(TOPIC, TOPIC_ID, &[(partition, 1)])];
        bench.commit_offsets(OffsetCommit { topics, ..commit(0) });
    }
    for offset in 0..1_400 {
        bench.commit_offsets(commit(offset));
    }
    bench.log.batches.clear();
    let mut steps = 0;
    while clean(&mut bench).is_some() {
        steps += 1;
        assert!(steps < 10, "cleaning ends");
    }
    assert!(bench.log.batches.iter().all(|&records| records <= 500));
    assert!(steps >= 3);
    assert!(bench.log.end().0 - bench.log.start <= 2 * 1_300);
    let before = bench.coordinator.replicated_digest();
    bench.restart();
    assert_eq!(bench.coordinator.replicated_digest(), before);
    assert_eq!(bench.offset(), 1_399);
}

#[test]
fn a_log_in_which_nothing_lives_may_start_at_its_end() {
    let mut bench = bench();
    for offset in 0..200 {
        bench.commit_offsets(commit(offset));
    }
    bench.call(Request::DeleteGroup(DeleteGroup { group_id: GROUP.into() }));
    let end = bench.log.end();
    assert_eq!(clean(&mut bench), Some(end));
}

#[test]
fn records_of_an_unknown_purpose_are_never_passed() {
    let mut bench = bench();
    for offset in 0..200 {
        bench.commit_offsets(commit(offset));
    }
    let unknown = LogRecord { key: Bytes::from_static(&[0, 3, 0, 1, b'k']), value: None };
    bench.log.append(&[unknown]).expect("taken");
    bench.restart();
    for offset in 0..200 {
        bench.commit_offsets(commit(offset));
    }

    assert_eq!(clean(&mut bench), Some(Offset(200)));
    let end = bench.log.end();
    assert_eq!(clean(&mut bench), None);
    assert_eq!(bench.log.end(), end, "no copies in vain");
}

#[test]
fn a_log_that_takes_no_copies_stays_as_it_is() {
    let mut bench = bench();
    for offset in 0..200 {
        bench.commit_offsets(commit(offset));
    }
    bench.log.refuses = Some(ErrorCode::KafkaStorageError);
    let refused = bench.coordinator.clean(bench.now, &mut bench.log, Offset::ZERO);
    assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    assert_eq!(bench.coordinator.cleaned_to(), None);
    bench.log.refuses = None;
    assert!(clean(&mut bench).is_some());
}
