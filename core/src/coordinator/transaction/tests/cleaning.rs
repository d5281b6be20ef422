//! Copy-forward.

use super::*;

#[test]
fn a_log_is_shortened_once_the_copies_are_committed() {
    let mut bench = Bench::with(|config| config.dead_records_min = 4);
    let mut producer = bench.init().expect("a producer");
    for _ in 0..5 {
        assert_eq!(bench.add(ADD, producer, 0), ErrorCode::None);
        producer = bench.end(END, producer, true).expect("it commits");
    }
    let end = bench.log.end();
    let before = bench.view().partitions;

    bench.coordinator.clean(bench.now, &mut bench.log, Offset::ZERO).expect("a step");
    assert_eq!(bench.log.end(), end.plus(1));
    assert_eq!(bench.coordinator.cleaned_to(), None, "the copy is not committed");
    bench.commit();
    assert_eq!(bench.coordinator.cleaned_to(), Some(end));
    assert_eq!(bench.coordinator.cleaned_to(), None, "it is said once");
    bench.log.start = end.0;
    bench.restart();
    bench.settle();

    assert_eq!(bench.view().partitions, before);
    assert_eq!(bench.stored_producer(), producer);
    assert_eq!(bench.coordinator.clean(bench.now, &mut bench.log, end), Ok(()));
    assert_eq!(bench.log.end(), end.plus(1), "there is nothing to gain");
}

#[test]
fn a_copy_is_no_new_beginning_and_no_new_decision() {
    let mut bench = Bench::with(|config| config.dead_records_min = 1);
    for _ in 0..5 {
        bench.init().expect("a producer");
    }
    let producer = bench.init().expect("a producer");
    assert_eq!(bench.add(ADD, producer, 0), ErrorCode::None);
    bench.pass(Duration::from_secs(30));
    bench.coordinator.clean(bench.now, &mut bench.log, Offset::ZERO).expect("a step");
    bench.commit();
    assert!(bench.coordinator.cleaned_to().is_some());
    bench.pass(Duration::from_secs(30));
    assert_eq!(bench.status(), TransactionStatus::PrepareAbort, "the clock went on");
    bench.commit();
    let sent: Vec<Sent> = bench.sent.drain(..).collect();

    bench.coordinator.clean(bench.now, &mut bench.log, Offset::ZERO).expect("a step");
    bench.commit();

    assert!(bench.sent.is_empty(), "the markers are on their way");
    bench.report(&sent[0], Ok(()));
    assert_eq!(bench.status(), TransactionStatus::CompleteAbort);
}

#[test]
fn a_log_of_tombstones_alone_becomes_empty() {
    let mut bench = Bench::with(|config| {
        config.dead_records_min = 1;
        config.id_expiration = Duration::from_secs(1);
    });
    bench.init().expect("a producer");
    bench.pass(Duration::from_hours(2));
    bench.commit();
    let end = bench.log.end();

    bench.coordinator.clean(bench.now, &mut bench.log, Offset::ZERO).expect("a step");

    assert_eq!((bench.log.end(), bench.coordinator.cleaned_to()), (end, Some(end)));
}
