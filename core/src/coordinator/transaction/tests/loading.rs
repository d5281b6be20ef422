//! What a coordinator comes back with.

use super::*;
use crate::coordinator::transaction::fuzz;
use crate::wire::tests::golden::{bytes_of, lines};

/// Whole records of Kafka's own coordinator, without the tombstone.
fn of_kafka() -> Vec<LogRecord> {
    let lines = lines("transaction_records.jsonl");
    let records = lines.iter().filter(|line| line["value_hex"].is_string());
    records
        .map(|line| LogRecord {
            key: bytes_of(&line["key_hex"]),
            value: Some(bytes_of(&line["value_hex"])),
        })
        .collect()
}

#[test]
fn a_log_that_kafka_wrote_is_served_and_comes_to_its_end() {
    let records = of_kafka();
    assert_eq!(records.len(), 18);
    for record in records {
        let mut bench = Bench::new();
        bench.log.records.push(record);
        bench.restart();
        bench.settle();
        bench.pass(Duration::from_millis(TIMEOUT_MS as u64));
        bench.settle();

        let view = bench.coordinator.views().next().expect("the id");
        let (id, status) = (view.transactional_id.clone(), view.status);
        let before = (view.producer_id.0, view.producer_epoch.0);
        assert!(
            matches!(
                status,
                TransactionStatus::Empty
                    | TransactionStatus::CompleteCommit
                    | TransactionStatus::CompleteAbort
            ),
            "{id} {status:?}"
        );
        let mut request = init(None);
        if let Request::InitProducerId(request) = &mut request {
            request.transactional_id = id;
        }
        assert_eq!(bench.producer(request), Ok((before.0, before.1 + 1)));
    }
}

#[test]
fn a_damaged_log_is_refused_or_served() {
    let mut whole = Vec::new();
    for LogRecord { key, value } in of_kafka() {
        let value = value.unwrap_or_default();
        whole.extend_from_slice(&(key.len() as u16).to_be_bytes());
        whole.extend_from_slice(&key);
        whole.extend_from_slice(&(value.len() as u16).to_be_bytes());
        whole.extend_from_slice(&value);
    }
    fuzz::log(&whole);
    for at in 0..whole.len() {
        for value in [0x00, 0x7f, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            fuzz::log(&damaged);
        }
    }
}

#[test]
fn until_it_is_loaded_a_coordinator_says_so() {
    let mut bench = Bench::new();
    bench.coordinator = TransactionCoordinator::new(bench.coordinator.config.clone());
    let list = ListTransactions {
        state_filters: Vec::new(),
        producer_id_filters: Vec::new(),
        duration_filter_ms: -1,
        pattern: None,
    };
    let describe = DescribeTransaction { transactional_id: ID.into() };
    let abort = AbortTransaction { transactional_id: ID.into() };

    for request in [
        init(None),
        add(ADD, (1, 0), &[0, 1], false),
        add_offsets(4, (1, 0), 0),
        end(END, (1, 0), true),
        Request::DescribeTransaction(describe),
        Request::ListTransactions(list),
        Request::AbortTransaction(abort),
    ] {
        let expected = request.refused(ErrorCode::CoordinatorLoadInProgress);
        let ticket = bench.ask(request);
        assert_eq!(bench.reply(ticket), Some(expected.clone()));
        let moved = expected.refused(ErrorCode::NotCoordinator);
        assert_ne!(moved, expected);
        assert_eq!(moved.refused(ErrorCode::CoordinatorLoadInProgress), expected);
    }
}

#[test]
fn a_decision_is_carried_out_by_the_next_coordinator_once_it_is_committed() {
    for committed in [true, false] {
        let mut bench = Bench::new();
        let producer = bench.init().expect("a producer");
        assert_eq!(errors(bench.call(add(ADD, producer, &[0, 1], false))), [ErrorCode::None; 2]);
        let ticket = bench.ask(end(END, producer, committed));
        bench.commit();
        let before = bench.sent.pop_front().expect("a marker");
        bench.report(&before, Ok(()));

        bench.restart();

        let refused = end(END, producer, committed).refused(ErrorCode::NotCoordinator);
        assert_eq!(bench.reply(ticket), Some(refused));
        assert!(bench.sent.is_empty(), "it is not known to be committed");
        bench.commit();
        assert_eq!(bench.sent.len(), 2, "nobody knows which were written");
        assert_eq!(bench.sent[0], before, "and a late report means the same one");
        bench.settle();
        let expected = if committed {
            TransactionStatus::CompleteCommit
        } else {
            TransactionStatus::CompleteAbort
        };
        assert_eq!(bench.status(), expected);
        assert_eq!(bench.end(END, producer, committed), Ok((producer.0, 1)), "it asks again");
    }
}

#[test]
fn a_decision_that_is_committed_while_the_next_coordinator_loads_is_carried_out() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    assert_eq!(errors(bench.call(add(ADD, producer, &[0, 1], false))), [ErrorCode::None; 2]);
    bench.ask(end(END, producer, true));

    bench.restart_with(true);

    assert_eq!(bench.sent.len(), 2, "nothing more will be committed to remind it");
    bench.settle();
    assert_eq!(bench.status(), TransactionStatus::CompleteCommit);
}

#[test]
fn a_decision_that_was_lost_has_told_nobody() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    assert_eq!(bench.add(ADD, producer, 0), ErrorCode::None);
    let ticket = bench.ask(end(END, producer, true));
    assert!(bench.sent.is_empty());

    bench.log.records.pop();
    bench.restart();
    bench.settle();

    let refused = end(END, producer, true).refused(ErrorCode::NotCoordinator);
    assert_eq!(bench.reply(ticket), Some(refused));
    assert_eq!(bench.status(), TransactionStatus::Ongoing);
    assert_eq!(bench.end(END, producer, false), Ok((producer.0, 1)), "the other end is as good");
}

#[test]
fn who_waits_for_a_producer_id_is_told_that_the_coordinator_has_moved() {
    let mut bench = Bench::new();
    bench.gives_ids = false;
    let ticket = bench.ask(init(None));

    bench.restart();

    let refused = init(None).refused(ErrorCode::NotCoordinator);
    assert_eq!(bench.reply(ticket), Some(refused));
}

#[test]
fn live_and_replayed_state_are_the_same() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    assert_eq!(bench.add(ADD, producer, 3), ErrorCode::None);
    let next = bench.end(END, producer, true).expect("it commits");
    let live = bench.coordinator.replicated_digest();
    bench.restart();
    assert_eq!(bench.coordinator.replicated_digest(), live);

    assert_eq!(bench.add(ADD, next, 3), ErrorCode::None);

    assert_ne!(bench.coordinator.replicated_digest(), live);
}

#[test]
fn a_record_of_a_later_release_is_kept_and_a_damaged_one_is_refused() {
    let mut bench = Bench::with(|config| config.dead_records_min = 1);
    let mut next = TransactionCoordinator::new(bench.coordinator.config.clone());
    let other = bytes::Bytes::from_static(&[0, 9, 1, 2]);
    next.replay(Offset(0), other.clone(), Some(other.clone())).expect("passed over");
    let cut = bytes::Bytes::from_static(&[0, 0, 0]);
    assert!(next.replay(Offset(1), cut, None).is_err());
    bench.log.records.push(LogRecord { key: other.clone(), value: Some(other) });
    next.loaded(bench.now, &mut bench.log, EPOCH_OF_LEADER, Offset(1), Offset(1));
    bench.coordinator = next;
    for _ in 0..10 {
        bench.init().expect("a producer");
    }

    bench.coordinator.clean(bench.now, &mut bench.log, Offset(0)).expect("nothing to do");

    assert_eq!(bench.log.end(), Offset(11), "nothing is copied past it");
}
