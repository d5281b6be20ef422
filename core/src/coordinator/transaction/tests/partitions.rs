//! What is in a transaction.

use super::*;

#[test]
fn partitions_are_added_once_and_only_what_is_new_is_stored() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");

    assert_eq!(errors(bench.call(add(ADD_V1, producer, &[3, 1, 3], false))).len(), 3);
    let end = bench.log.end();
    assert_eq!(bench.add(ADD_V1, producer, 1), ErrorCode::None);
    assert_eq!(bench.log.end(), end, "it is in already");
    assert_eq!(bench.add(ADD_V1, producer, 2), ErrorCode::None);

    assert_eq!((bench.view().partitions, bench.status()), (3, TransactionStatus::Ongoing));
    assert_eq!(bench.log.end(), end.plus(1));
}

#[test]
fn an_answer_that_a_partition_is_in_waits_until_that_is_committed() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");

    let added = bench.ask(add(ADD, producer, &[0], false));
    let verified = bench.ask(add(ADD, producer, &[0], true));

    assert!(bench.reply(added).is_none() && bench.reply(verified).is_none());
    bench.commit();
    assert_eq!(errors(bench.reply(added).expect("an answer")), [ErrorCode::None]);
    assert_eq!(errors(bench.reply(verified).expect("an answer")), [ErrorCode::None]);
}

#[test]
fn the_offsets_of_a_group_are_a_partition_of_the_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");

    let answer = bench.call(add_offsets(4, producer, 9));
    bench.ask(end(END, producer, true));
    bench.commit();

    assert_eq!(answer, Response::AddOffsetsToTxn(ErrorCode::None));
    assert_eq!(bench.sent.len(), 1);
    assert_eq!(bench.sent[0].partition, 9);
}

#[test]
fn verifying_adds_nothing_and_tells_each_partition_apart() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    assert_eq!(bench.verify(5, producer, 0), ErrorCode::TransactionAbortable);
    assert_eq!(bench.status(), TransactionStatus::Empty);
    assert_eq!(bench.add(ADD, producer, 0), ErrorCode::None);

    let of_both = errors(bench.call(add(5, producer, &[0, 1], true)));
    let of_both_before = errors(bench.call(add(4, producer, &[0, 1], true)));

    assert_eq!(of_both, [ErrorCode::None, ErrorCode::TransactionAbortable]);
    assert_eq!(of_both_before, of_both);
    assert_eq!(bench.verify(5, (producer.0, 1), 0), ErrorCode::ProducerFenced);
    assert_eq!(bench.view().partitions, 1);
}

#[test]
fn only_the_producer_as_it_stands_may_add() {
    let mut bench = Bench::new();
    assert_eq!(bench.add(ADD_V1, (1_001, 0), 0), ErrorCode::InvalidProducerIdMapping);
    let (id, epoch) = bench.init().expect("a producer");

    assert_eq!(bench.add(ADD_V1, (id + 1, epoch), 0), ErrorCode::InvalidProducerIdMapping);
    for version in [2, 3, 4, 5] {
        assert_eq!(bench.add(version, (id, epoch + 1), 0), ErrorCode::ProducerFenced);
        assert_eq!(bench.add(version, (id, epoch - 1), 0), ErrorCode::ProducerFenced);
    }
    assert_eq!(bench.add(1, (id, epoch + 1), 0), ErrorCode::InvalidProducerEpoch);
    let offsets = bench.call(add_offsets(1, (id, epoch + 1), 0));
    assert_eq!(offsets, Response::AddOffsetsToTxn(ErrorCode::InvalidProducerEpoch));
    let offsets = bench.call(add_offsets(2, (id, epoch + 1), 0));
    assert_eq!(offsets, Response::AddOffsetsToTxn(ErrorCode::ProducerFenced));
    let mut nameless = add(ADD, (id, epoch), &[0], false);
    if let Request::AddPartitionsToTxn(request) = &mut nameless {
        request.transactional_id = "".into();
    }
    assert_eq!(errors(bench.call(nameless)), [ErrorCode::InvalidRequest]);
    assert_eq!(bench.log.end(), Offset(1));
}

#[test]
fn nothing_is_added_while_the_transaction_is_being_ended() {
    for version in [ADD_V1, ADD] {
        let mut bench = Bench::new();
        let producer = bench.init().expect("a producer");
        assert_eq!(bench.add(version, producer, 0), ErrorCode::None);
        bench.ask(end(if version == ADD { END } else { END_V1 }, producer, true));
        bench.commit();
        let next = bench.stored_producer();

        let asked = [
            bench.ask(add(version, next, &[0], false)),
            bench.ask(add(ADD, next, &[1], true)),
            bench.ask(add_offsets(4, next, 1)),
        ];
        bench.commit();

        let [first, verified, offsets] = asked.map(|ticket| bench.reply(ticket).expect("at once"));
        assert_eq!(errors(first), [ErrorCode::ConcurrentTransactions]);
        assert_eq!(errors(verified), [ErrorCode::ConcurrentTransactions]);
        assert_eq!(offsets, Response::AddOffsetsToTxn(ErrorCode::ConcurrentTransactions));
        assert_eq!(bench.status(), TransactionStatus::PrepareCommit);
    }
}

#[test]
fn a_transaction_grows_no_larger_than_its_end_can_be_stored() {
    let mut bench = Bench::with(|config| {
        config.partitions_max = 3;
        config.partition_bytes_max = 100;
    });
    let producer = bench.init().expect("a producer");

    let four = errors(bench.call(add(ADD_V1, producer, &[0, 1, 2, 3], false)));
    assert_eq!(four, [ErrorCode::PolicyViolation; 4]);
    let three = errors(bench.call(add(ADD_V1, producer, &[0, 1, 2], false)));
    assert_eq!(three, [ErrorCode::None; 3]);
    assert_eq!(bench.add(ADD_V1, producer, 3), ErrorCode::PolicyViolation);

    assert_eq!(bench.view().partitions, 3);
    let mut long = add(ADD_V1, producer, &[0], false);
    if let Request::AddPartitionsToTxn(request) = &mut long {
        request.topics[0].name = "x".repeat(100).into();
    }
    let mut bench = Bench::with(|config| config.partition_bytes_max = 100);
    assert_eq!(bench.init(), Ok(producer));
    assert_eq!(errors(bench.call(long)), [ErrorCode::PolicyViolation]);
}

#[test]
fn what_the_log_does_not_take_has_not_happened() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    bench.log.refuses = Some(ErrorCode::NotLeaderOrFollower);

    assert_eq!(bench.add(ADD_V1, producer, 0), ErrorCode::NotCoordinator);

    bench.log.refuses = None;
    assert_eq!(bench.status(), TransactionStatus::Empty);
    assert_eq!(bench.verify(ADD, producer, 0), ErrorCode::TransactionAbortable);
}
