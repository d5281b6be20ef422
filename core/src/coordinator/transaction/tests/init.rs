//! `InitProducerId`: who gets which id and epoch.

use super::*;
use crate::coordinator::transaction::decide::LAST_EPOCH;

#[test]
fn the_first_producer_gets_a_fresh_id_and_each_after_it_the_next_epoch() {
    let mut bench = Bench::new();

    assert_eq!(bench.init(), Ok((1_001, 0)));
    assert_eq!(bench.init(), Ok((1_001, 1)));
    assert_eq!(bench.init(), Ok((1_001, 2)));

    assert_eq!(bench.status(), TransactionStatus::Empty);
    assert_eq!(bench.next_id, 1_001, "one id");
}

#[test]
fn a_producer_is_told_its_epoch_only_when_that_is_committed() {
    let mut bench = Bench::new();

    let ticket = bench.ask(init(None));

    assert_eq!(bench.log.end(), Offset(1));
    assert_eq!(bench.reply(ticket), None);
    bench.commit();
    assert!(bench.reply(ticket).is_some());
}

#[test]
fn a_producer_that_names_itself_is_raised_and_the_repeated_request_is_answered_alike() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");

    let raised = bench.init_as(producer);
    let repeated = bench.init_as(producer);
    bench.restart();
    let after_a_restart = bench.init_as(producer);

    assert_eq!(raised, Ok((1_001, 1)));
    assert_eq!(repeated, raised);
    assert_eq!(after_a_restart, raised, "the epoch before is in the log");
}

#[test]
fn a_producer_is_fenced_once_another_has_come_and_by_its_old_words_in_old_versions() {
    let mut bench = Bench::new();
    let old = bench.init().expect("a producer");
    let between = bench.init_as(old).expect("the same producer");
    bench.init().expect("another one");

    assert_eq!(bench.init_as(old), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.init_as(between), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.init_as((999, 0)), Err(ErrorCode::ProducerFenced));
    let old_version = bench.producer(init_with(3, Some(old), TIMEOUT_MS));
    assert_eq!(old_version, Err(ErrorCode::InvalidProducerEpoch));
}

#[test]
fn a_bad_request_is_refused_and_stores_nothing() {
    let mut bench = Bench::with(|config| config.ids_max = 0);
    let mut nameless = init(None);
    if let Request::InitProducerId(request) = &mut nameless {
        request.transactional_id = "".into();
    }

    assert_eq!(bench.producer(nameless), Err(ErrorCode::InvalidRequest));
    assert_eq!(bench.init_as((5, -1)), Err(ErrorCode::InvalidRequest));
    assert_eq!(bench.init_as((-1, 5)), Err(ErrorCode::InvalidRequest));
    for timeout_ms in [0, -1, 900_001, i32::MAX] {
        let answer = bench.producer(init_with(INIT, None, timeout_ms));
        assert_eq!(answer, Err(ErrorCode::InvalidTransactionTimeout), "{timeout_ms}");
    }
    assert_eq!(bench.init(), Err(ErrorCode::PolicyViolation), "too many ids");
    assert_eq!(bench.log.end(), Offset::ZERO);
}

#[test]
fn an_open_transaction_is_aborted_before_the_next_producer_gets_its_epoch() {
    let mut bench = Bench::new();
    let old = bench.init().expect("a producer");
    assert_eq!(bench.add(ADD, old, 0), ErrorCode::None);

    let ticket = bench.ask(init(None));
    bench.commit();

    assert_eq!(bench.status(), TransactionStatus::PrepareAbort);
    assert_eq!(bench.stored_producer(), (1_001, 1), "fenced by an epoch that nobody is given");
    assert_eq!(bench.reply(ticket), None, "it waits for the abort");
    assert_eq!(
        bench.init(),
        Err(ErrorCode::ConcurrentTransactions),
        "the abort has settled with it"
    );
    let answer = bench.reply(ticket).expect("an answer");
    assert_eq!(answer, init(None).refused(ErrorCode::ConcurrentTransactions));
    assert_eq!(bench.status(), TransactionStatus::CompleteAbort);
    assert_eq!(bench.init(), Ok((1_001, 2)));
    assert_eq!(bench.end(END, old, true), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.add(ADD, old, 0), ErrorCode::ProducerFenced);
}

#[test]
fn whoever_has_not_the_epoch_of_the_open_transaction_does_not_abort_it() {
    let mut bench = Bench::new();
    let first = bench.init().expect("a producer");
    let second = bench.init_as(first).expect("the same producer");
    assert_eq!(bench.add(ADD, second, 0), ErrorCode::None);

    assert_eq!(bench.init_as(first), Err(ErrorCode::ProducerFenced), "it comes late");
    assert_eq!(bench.status(), TransactionStatus::Ongoing);
    assert_eq!(bench.init_as(second), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(bench.init_as(second), Ok((1_001, 2)), "the abort has raised its epoch");
}

#[test]
fn an_epoch_that_is_used_up_is_followed_by_a_fresh_id_and_the_old_one_is_still_known() {
    let mut bench = Bench::new();
    bench.init().expect("a producer");
    let mut bench = bench.with_stored(|value| value.producer_epoch = LAST_EPOCH.0);
    let last = (1_001, LAST_EPOCH.0);

    assert_eq!(bench.init_as(last), Ok((1_002, 0)));
    assert_eq!(bench.init_as(last), Ok((1_002, 0)), "the request is repeated");
    bench.restart();
    assert_eq!(bench.init_as(last), Ok((1_002, 0)), "it is repeated after a restart");
    assert_eq!(bench.init_as((1_001, 5)), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.init_as((1_002, 0)), Ok((1_002, 1)));
    assert_eq!(bench.init_as(last), Err(ErrorCode::ProducerFenced));
}

#[test]
fn a_newcomer_after_a_used_up_epoch_leaves_no_way_back() {
    let mut bench = Bench::new();
    bench.init().expect("a producer");
    let mut bench = bench.with_stored(|value| value.producer_epoch = i16::MAX);

    assert_eq!(bench.init(), Ok((1_002, 0)));
    assert_eq!(bench.init_as((1_001, LAST_EPOCH.0)), Err(ErrorCode::ProducerFenced));
}

#[test]
fn a_producer_id_is_asked_for_once_and_served_in_turn() {
    let mut bench = Bench::new();
    bench.gives_ids = false;
    let other = |name: &str| {
        let mut request = init(None);
        if let Request::InitProducerId(request) = &mut request {
            request.transactional_id = name.into();
        }
        request
    };

    let tickets: Vec<Ticket> = ["a", "b", "c"].map(|name| bench.ask(other(name))).into();
    assert_eq!(bench.wanted, 1);
    bench.give_id();
    bench.settle();
    assert!(bench.reply(tickets[0]).is_some());
    assert_eq!(bench.reply(tickets[1]), None);
    assert_eq!(bench.wanted, 1, "another one for those who still wait");
    bench.wanted = 0;
    bench.coordinator.give_producer_id(bench.now, &mut bench.log, Err(ErrorCode::NotController));
    bench.settle();

    for ticket in &tickets[1..] {
        let refused = init(None).refused(ErrorCode::CoordinatorLoadInProgress);
        assert_eq!(bench.reply(*ticket), Some(refused));
    }
    assert_eq!((bench.wanted, bench.log.end()), (0, Offset(1)));
}

#[test]
fn an_id_that_was_not_stored_serves_the_next() {
    let mut bench = Bench::new();
    bench.log.refuses = Some(ErrorCode::NotEnoughReplicas);
    assert_eq!(bench.init(), Err(ErrorCode::CoordinatorNotAvailable));

    bench.log.refuses = None;

    assert_eq!(bench.init(), Ok((1_001, 0)));
    assert_eq!(bench.next_id, 1_001);
}
