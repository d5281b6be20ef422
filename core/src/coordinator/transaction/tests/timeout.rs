//! Transactions that are open for too long, and ids that nobody uses.

use super::*;
use crate::coordinator::transaction::decide::LAST_EPOCH;

const TIMEOUT: Duration = Duration::from_millis(TIMEOUT_MS as u64);

fn begun(version: i16) -> (Bench, (i64, i16)) {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    assert_eq!(bench.add(version, producer, 0), ErrorCode::None);
    (bench, producer)
}

#[test]
fn a_transaction_is_aborted_at_its_timeout_and_its_producer_fenced() {
    for version in [ADD_V1, ADD] {
        let (mut bench, producer) = begun(version);
        bench.pass(TIMEOUT / 2);
        assert_eq!(bench.add(version, producer, 1), ErrorCode::None, "which is no new beginning");
        bench.pass((TIMEOUT / 2).saturating_sub(Duration::from_millis(1)));
        assert_eq!(bench.status(), TransactionStatus::Ongoing);

        bench.pass(Duration::from_millis(1));

        assert_eq!(bench.status(), TransactionStatus::PrepareAbort);
        assert!(bench.sent.is_empty(), "nothing is sent before the decision is committed");
        bench.settle();
        assert_eq!(bench.status(), TransactionStatus::CompleteAbort);
        assert_eq!(bench.stored_producer(), (producer.0, 1));
        assert_eq!(bench.end(END_V1, producer, true), Err(ErrorCode::ProducerFenced));
        assert_eq!(bench.end(END, producer, true), Err(ErrorCode::InvalidTxnState));
        assert_eq!(bench.end(END, producer, false), Ok((producer.0, 1)), "which is what it wants");
        assert_eq!(bench.init_as(producer), Ok((producer.0, 1)), "and the way on for others");
    }
}

#[test]
fn a_transaction_that_has_ended_has_no_timeout() {
    let (mut bench, producer) = begun(ADD);
    bench.pass(TIMEOUT / 2);
    let next = bench.end(END, producer, true).expect("it commits");
    assert_eq!(bench.add(ADD, next, 0), ErrorCode::None);

    bench.pass(TIMEOUT.saturating_sub(Duration::from_millis(1)));
    assert_eq!(bench.status(), TransactionStatus::Ongoing, "the next one has its own clock");
    bench.pass(Duration::from_millis(1));

    assert_eq!(bench.status(), TransactionStatus::PrepareAbort);
}

#[test]
fn a_timeout_begins_anew_when_a_coordinator_is_loaded() {
    let (mut bench, _) = begun(ADD);
    bench.pass(TIMEOUT / 2);

    bench.restart();

    bench.pass(TIMEOUT.saturating_sub(Duration::from_millis(1)));
    assert_eq!(bench.status(), TransactionStatus::Ongoing);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.status(), TransactionStatus::PrepareAbort);
}

#[test]
fn a_timeout_that_the_log_does_not_take_is_tried_again() {
    let (mut bench, _) = begun(ADD);
    bench.log.refuses = Some(ErrorCode::NotEnoughReplicas);
    bench.pass(TIMEOUT * 2);
    assert_eq!(bench.stored_producer(), (1_001, 0), "the epoch is raised with the decision alone");

    bench.log.refuses = None;
    bench.pass(Duration::from_secs(1));

    assert_eq!(bench.status(), TransactionStatus::PrepareAbort);
    assert_eq!(bench.stored_producer(), (1_001, 1));
}

#[test]
fn the_abort_of_the_last_epoch_gives_a_fresh_id_and_nobody_the_epoch_above() {
    let (bench, producer) = begun(ADD);
    let mut bench = bench.with_stored(|value| value.producer_epoch = LAST_EPOCH.0);
    bench.gives_ids = false;
    bench.pass(TIMEOUT);
    assert_eq!((bench.status(), bench.wanted), (TransactionStatus::Ongoing, 1));

    bench.give_id();
    bench.commit();

    assert_eq!(bench.sent[0].producer, (producer.0, i16::MAX));
    let last = (producer.0, LAST_EPOCH.0);
    assert_eq!(bench.end(END, last, false), Err(ErrorCode::ConcurrentTransactions));
    bench.settle();
    assert_eq!(bench.stored_producer(), (1_002, 0));
    assert_eq!(bench.end(END, last, false), Ok((1_002, 0)));
}

#[test]
fn an_abort_that_finds_no_producer_id_is_tried_again() {
    let (bench, _) = begun(ADD);
    let mut bench = bench.with_stored(|value| value.producer_epoch = LAST_EPOCH.0);
    bench.gives_ids = false;
    bench.pass(TIMEOUT);
    bench.wanted = 0;
    bench.coordinator.give_producer_id(bench.now, &mut bench.log, Err(ErrorCode::NotController));
    bench.collect();
    assert_eq!(bench.wanted, 0);

    bench.gives_ids = true;
    bench.pass(Duration::from_secs(1));

    assert_eq!(bench.status(), TransactionStatus::PrepareAbort);
}

#[test]
fn a_log_with_the_last_of_all_epochs_in_an_open_transaction_still_comes_to_its_end() {
    let (bench, producer) = begun(ADD);
    let mut bench = bench.with_stored(|value| value.producer_epoch = i16::MAX);

    bench.pass(TIMEOUT);
    bench.commit();

    let sent = bench.sent[0].clone();
    assert_eq!((sent.producer, sent.transaction_version), ((producer.0, i16::MAX), 0));
    bench.settle();
    assert_eq!(bench.stored_producer(), (1_002, 0));
}

#[test]
fn an_id_expires_when_it_has_been_at_rest_for_long_enough() {
    let day = Duration::from_hours(24);
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    bench.pass(day * 6);
    assert_eq!(bench.add(ADD, producer, 0), ErrorCode::None);
    let next = bench.end(END, producer, true).expect("it commits");
    bench.pass((day * 7).saturating_sub(Duration::from_hours(1)));
    assert_eq!(bench.status(), TransactionStatus::CompleteCommit);
    bench.log.clock_in_doubt = true;
    bench.pass(day * 30);
    assert_eq!(bench.status(), TransactionStatus::CompleteCommit, "a clock in doubt ends nothing");

    bench.log.clock_in_doubt = false;
    bench.pass(Duration::from_hours(1));

    assert_eq!(bench.coordinator.views().count(), 0);
    let last = bench.log.records.last().expect("a tombstone");
    assert_eq!(last.value, None);
    assert_eq!(bench.add(ADD, next, 0), ErrorCode::InvalidProducerIdMapping);
    bench.restart();
    bench.settle();
    assert_eq!(bench.coordinator.views().count(), 0);
    assert_eq!(bench.init(), Ok((1_002, 0)), "another producer");
}

#[test]
fn an_id_with_a_transaction_does_not_expire() {
    let mut bench = Bench::with(|config| {
        config.id_expiration = Duration::from_secs(1);
        config.id_expiration_check_interval = Duration::from_secs(1);
    });
    let producer = bench.init().expect("a producer");
    assert_eq!(bench.add(ADD, producer, 0), ErrorCode::None);
    bench.pass(TIMEOUT.saturating_sub(Duration::from_secs(1)));
    assert_eq!(bench.status(), TransactionStatus::Ongoing);

    bench.ask(end(END, producer, true));
    bench.pass(TIMEOUT);

    assert_eq!(bench.status(), TransactionStatus::PrepareCommit);
}

#[test]
fn many_ids_expire_in_several_turns() {
    let mut bench = Bench::new();
    for n in 0..2_500 {
        let mut request = init(None);
        if let Request::InitProducerId(request) = &mut request {
            request.transactional_id = format!("t{n}").into();
        }
        bench.ask(request);
    }
    bench.commit();

    bench.pass(Duration::from_hours(8 * 24));

    assert_eq!(bench.coordinator.views().count(), 0);
    assert_eq!(bench.log.end(), Offset(5_000));
}
