//! How transactions are ended by those who began them.

use super::*;
use crate::coordinator::transaction::decide::LAST_EPOCH;
use TransactionStatus::{
    CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit,
};

/// A bench with a producer at epoch 0 that has begun a transaction.
fn begun(version: i16) -> (Bench, (i64, i16)) {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    assert_eq!(bench.add(version, producer, 0), ErrorCode::None);
    (bench, producer)
}

#[test]
fn a_transaction_goes_through_its_decision_to_its_completion() {
    for (committed, states) in [
        (true, [Empty, Ongoing, PrepareCommit, CompleteCommit]),
        (false, [Empty, Ongoing, PrepareAbort, CompleteAbort]),
    ] {
        let (mut bench, producer) = begun(ADD_V1);
        assert_eq!(bench.end(END_V1, producer, committed), Ok((-1, -1)));
        assert_eq!(bench.log.statuses(), states);
        assert_eq!(bench.stored_producer(), producer, "the older protocol raises no epoch");

        let (mut bench, producer) = begun(ADD);
        assert_eq!(bench.end(END, producer, committed), Ok((producer.0, 1)));
        assert_eq!(bench.log.statuses(), states);
        assert_eq!(bench.stored_producer(), (producer.0, 1));
        assert_eq!(bench.view().partitions, 0);
    }
}

#[test]
fn the_answer_leaves_with_the_last_marker_and_not_before_the_decision_is_committed() {
    let (mut bench, producer) = begun(ADD);

    let ticket = bench.ask(end(END, producer, true));
    assert_eq!(bench.reply(ticket), None, "the decision is not committed");
    assert!(bench.sent.is_empty(), "nor is anything sent");
    bench.commit();
    assert_eq!(bench.reply(ticket), None, "the marker is not written");
    let sent = bench.sent.pop_front().expect("a marker");
    bench.report(&sent, Ok(()));

    // The completion itself need not be committed.
    assert!(bench.coordinator.replies.high_watermark() < bench.log.end());
    assert!(bench.reply(ticket).is_some());
    assert_eq!(bench.add(ADD, (producer.0, 1), 0), ErrorCode::None, "it can go on at once");
}

#[test]
fn the_answer_does_not_wait_for_ever_for_a_marker() {
    let (mut bench, producer) = begun(ADD);

    let ticket = bench.ask(end(END, producer, true));
    bench.commit();
    bench.pass(Duration::from_millis(99));
    assert_eq!(bench.reply(ticket), None);
    bench.pass(Duration::from_millis(1));

    assert!(bench.reply(ticket).is_some());
    assert_eq!(bench.status(), PrepareCommit);
}

#[test]
fn the_answer_waits_for_the_commit_of_the_decision_however_long_that_takes() {
    let (mut bench, producer) = begun(ADD);

    let ticket = bench.ask(end(END, producer, true));
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.reply(ticket), None);
    bench.commit();

    assert!(bench.reply(ticket).is_some());
}

#[test]
fn the_first_decision_wins() {
    for committed in [true, false] {
        let (mut bench, producer) = begun(ADD_V1);
        bench.ask(end(END_V1, producer, committed));
        bench.ask(end(END_V1, producer, !committed));
        bench.ask(end(END, producer, !committed));
        bench.pass(Duration::from_millis(TIMEOUT_MS as u64));
        bench.commit();
        assert!(bench.sent.iter().all(|sent| sent.committed == committed));
        bench.settle();
        let decided = [PrepareCommit, PrepareAbort];
        let statuses = bench.log.statuses();
        assert_eq!(statuses.iter().filter(|one| decided.contains(one)).count(), 1);
        assert_eq!(bench.status(), if committed { CompleteCommit } else { CompleteAbort });
    }
}

#[test]
fn the_older_protocol_answers_the_same_end_alike_and_refuses_another() {
    for committed in [true, false] {
        let (mut bench, producer) = begun(ADD_V1);
        let ticket = bench.ask(end(END_V1, producer, committed));
        bench.commit();
        let sent: Vec<Sent> = bench.sent.drain(..).collect();
        let again = bench.end(END_V1, producer, committed);
        assert_eq!(again, Err(ErrorCode::ConcurrentTransactions), "it is being ended");
        let other = bench.end(END_V1, producer, !committed);
        assert_eq!(other, Err(ErrorCode::InvalidTxnState));
        bench.report(&sent[0], Ok(()));
        bench.settle();

        assert!(bench.reply(ticket).is_some());
        assert_eq!(bench.end(END_V1, producer, committed), Ok((-1, -1)));
        assert_eq!(bench.end(END_V1, producer, !committed), Err(ErrorCode::InvalidTxnState));
    }
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    assert_eq!(bench.end(END_V1, producer, true), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.end(END_V1, producer, false), Err(ErrorCode::InvalidTxnState));
}

/// Kafka's table of what `EndTxn` 5 comes to where no transaction is open: by state, by what is asked, by
/// whether the epoch is the one before or the current one.
#[test]
fn with_an_epoch_for_each_transaction_the_one_before_is_a_repetition() {
    let fenced = Err(ErrorCode::ProducerFenced);
    let invalid = Err(ErrorCode::InvalidTxnState);
    let (same, raised) = (Ok((1_001, 1)), Ok((1_001, 2)));
    for (from, committed, repeated, expected) in [
        (Empty, false, true, fenced),
        (Empty, false, false, raised),
        (Empty, true, true, fenced),
        (Empty, true, false, invalid),
        (CompleteAbort, false, true, same),
        (CompleteAbort, false, false, raised),
        (CompleteAbort, true, true, invalid),
        (CompleteAbort, true, false, invalid),
        (CompleteCommit, false, true, invalid),
        (CompleteCommit, false, false, raised),
        (CompleteCommit, true, true, same),
        (CompleteCommit, true, false, invalid),
    ] {
        let (mut bench, producer) = begun(ADD);
        if from == Empty {
            let mut fresh = Bench::new();
            assert_eq!(fresh.init(), Ok((1_001, 0)));
            assert_eq!(fresh.init(), Ok((1_001, 1)));
            bench = fresh;
        } else {
            assert_eq!(bench.end(END, producer, from == CompleteCommit), Ok((1_001, 1)));
        }
        for restarted in [false, true] {
            let mut bench = bench_like(&bench);
            if restarted {
                bench.restart();
                bench.settle();
            }
            assert_eq!((bench.status(), bench.stored_producer()), (from, (1_001, 1)));
            let epoch = i16::from(!repeated);
            let answer = bench.end(END, (1_001, epoch), committed);
            assert_eq!(answer, expected, "{from:?} {committed} {repeated} {restarted}");
        }
    }
}

fn bench_like(bench: &Bench) -> Bench {
    Bench {
        coordinator: bench.coordinator.clone(),
        log: bench.log.clone(),
        replies: bench.replies.clone(),
        sent: bench.sent.clone(),
        ..*bench
    }
}

#[test]
fn the_repetition_of_an_end_that_goes_on_is_told_to_come_again() {
    for committed in [true, false] {
        let (mut bench, producer) = begun(ADD);
        bench.ask(end(END, producer, committed));
        bench.commit();
        bench.sent.clear();

        let concurrent = Err(ErrorCode::ConcurrentTransactions);
        assert_eq!(bench.end(END, producer, committed), concurrent);
        assert_eq!(bench.end(END, producer, !committed), Err(ErrorCode::InvalidTxnState));
        let next = (producer.0, producer.1 + 1);
        assert_eq!(bench.end(END, next, false), concurrent, "it goes on before it can");
        let fenced = Err(ErrorCode::ProducerFenced);
        assert_eq!(bench.end(END, (producer.0, producer.1 + 2), committed), fenced);
        let other = Err(ErrorCode::InvalidProducerIdMapping);
        assert_eq!(bench.end(END, (producer.0 + 1, producer.1), committed), other);
    }
}

#[test]
fn a_late_end_does_not_touch_the_next_transaction() {
    let (mut bench, first) = begun(ADD);
    let second = bench.end(END, first, true).expect("it commits");
    assert_eq!(bench.add(ADD, second, 0), ErrorCode::None);

    for committed in [true, false] {
        assert_eq!(bench.end(END, first, committed), Err(ErrorCode::ProducerFenced));
        assert_eq!(bench.end(END_V1, first, committed), Err(ErrorCode::ProducerFenced));
    }

    assert_eq!(bench.status(), Ongoing);
}

#[test]
fn nobody_of_the_epoch_before_has_ended_what_ended_without_an_epoch_of_its_own() {
    let mut bench = Bench::new();
    let zombie = bench.init().expect("a producer");
    let producer = bench.init().expect("the next one");
    assert_eq!(bench.add(ADD_V1, producer, 0), ErrorCode::None);
    assert_eq!(bench.end(END_V1, producer, true), Ok((-1, -1)));

    assert_eq!(bench.end(END, zombie, true), Err(ErrorCode::ProducerFenced));
}

#[test]
fn an_abort_with_nothing_begun_sends_nothing_and_raises_the_epoch() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");

    let ticket = bench.ask(end(END, producer, false));
    assert_eq!(bench.status(), PrepareAbort);
    assert_eq!(bench.reply(ticket), None);
    bench.commit();

    assert!(bench.sent.is_empty());
    assert_eq!(bench.status(), CompleteAbort);
    assert!(bench.reply(ticket).is_some());
    assert_eq!(bench.stored_producer(), (producer.0, 1));
}

#[test]
fn an_end_in_old_versions_is_refused_in_old_words_and_an_empty_id_is_none() {
    let (mut bench, (id, epoch)) = begun(ADD_V1);
    assert_eq!(bench.end(1, (id, epoch + 1), true), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(bench.end(2, (id, epoch + 1), true), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.end(2, (id + 1, epoch), true), Err(ErrorCode::InvalidProducerIdMapping));
    let mut nameless = end(END, (id, epoch), true);
    if let Request::EndTxn(request) = &mut nameless {
        request.transactional_id = "".into();
    }
    assert_eq!(bench.producer(nameless), Err(ErrorCode::InvalidRequest));
    let mut unknown = end(END, (id, epoch), true);
    if let Request::EndTxn(request) = &mut unknown {
        request.transactional_id = "other".into();
    }
    assert_eq!(bench.producer(unknown), Err(ErrorCode::InvalidProducerIdMapping));
    assert_eq!(bench.status(), Ongoing);
}

#[test]
fn the_end_with_the_last_epoch_gives_a_fresh_id_and_can_be_repeated() {
    for committed in [true, false] {
        let (bench, producer) = begun(ADD);
        let last = (producer.0, LAST_EPOCH.0);
        let mut bench = bench.with_stored(|value| value.producer_epoch = LAST_EPOCH.0);
        let ticket = bench.ask(end(END, last, committed));
        bench.commit();

        let sent = bench.sent.pop_front().expect("a marker");
        assert_eq!(sent.producer, (producer.0, i16::MAX), "the marker has the last of all epochs");
        assert_eq!(
            errors(bench.call(add(ADD, (1_002, 0), &[0], false))),
            [ErrorCode::ConcurrentTransactions]
        );
        assert_eq!(bench.end(END, last, committed), Err(ErrorCode::ConcurrentTransactions));
        bench.report(&sent, Ok(()));
        bench.settle();
        let Some(Response::EndTxn(answer)) = bench.reply(ticket) else { panic!("an answer") };
        assert_eq!(producer_of(answer), Ok((1_002, 0)));
        assert_eq!(bench.end(END, last, committed), Ok((1_002, 0)), "it is repeated");
        bench.restart();
        bench.settle();
        assert_eq!(bench.end(END, last, committed), Ok((1_002, 0)));
        assert_eq!(bench.end(END, last, !committed), Err(ErrorCode::InvalidTxnState));
        assert_eq!(bench.init_as(last), Ok((1_002, 0)), "it has not heard of its new id");
        assert_eq!(bench.add(ADD, (1_002, 0), 0), ErrorCode::None);
        let gone = Err(ErrorCode::InvalidProducerIdMapping);
        assert_eq!(bench.end(END, last, committed), gone);
    }
}

#[test]
fn the_end_with_the_last_epoch_waits_for_its_fresh_id() {
    let (bench, producer) = begun(ADD);
    let mut bench = bench.with_stored(|value| value.producer_epoch = LAST_EPOCH.0);
    bench.gives_ids = false;

    let ticket = bench.ask(end(END, (producer.0, LAST_EPOCH.0), true));
    bench.settle();
    assert_eq!((bench.status(), bench.wanted), (Ongoing, 1));
    bench.give_id();
    bench.settle();

    let Some(Response::EndTxn(answer)) = bench.reply(ticket) else { panic!("an answer") };
    assert_eq!(producer_of(answer), Ok((1_002, 0)));
}

#[test]
fn an_end_that_the_log_does_not_take_has_not_happened() {
    let (mut bench, producer) = begun(ADD);
    bench.log.refuses = Some(ErrorCode::NotEnoughReplicas);

    let refused = bench.end(END, producer, true);

    assert_eq!(refused, Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!((bench.status(), bench.stored_producer()), (Ongoing, producer));
    bench.log.refuses = None;
    assert_eq!(bench.end(END, producer, false), Ok((producer.0, 1)));
}

#[test]
fn an_operator_aborts_what_is_open_and_nothing_else() {
    let abort = || Request::AbortTransaction(AbortTransaction { transactional_id: ID.into() });
    let answer = Response::AbortTransaction;
    let mut bench = Bench::new();
    assert_eq!(bench.call(abort()), answer(ErrorCode::TransactionalIdNotFound));
    let producer = bench.init().expect("a producer");
    assert_eq!(bench.call(abort()), answer(ErrorCode::InvalidTxnState));
    assert_eq!(bench.add(ADD_V1, producer, 0), ErrorCode::None);

    assert_eq!(bench.call(abort()), answer(ErrorCode::None));

    assert_eq!(bench.status(), CompleteAbort);
    assert_eq!(bench.end(END_V1, producer, true), Err(ErrorCode::ProducerFenced));
    let (mut bench, producer) = begun(ADD);
    bench.ask(end(END, producer, true));
    assert_eq!(bench.ask(abort()), Ticket(4));
    bench.settle();
    assert_eq!(bench.reply(Ticket(4)), Some(answer(ErrorCode::InvalidTxnState)));
    assert_eq!(bench.status(), CompleteCommit);
}
