//! What a transactional producer makes of errors, and of answers that do not come.

use super::*;

fn abortable(code: ErrorCode) -> TransactionError {
    TransactionError::Abortable(ClientError::Broker(code))
}

fn fatal(code: ErrorCode) -> TransactionError {
    TransactionError::Fatal(ClientError::Broker(code))
}

#[test]
fn a_record_that_fails_lets_the_transaction_be_aborted_and_the_next_one_has_a_new_epoch() {
    for version in [1, 2] {
        let mut world = World::open(version);
        let failed = world.send("a");
        let waiting = world.send("b");
        let on_its_way = world.broker.asked.pop_back().expect("both are on their way");
        world.produce(ErrorCode::InvalidRecord, -1);
        let error = ClientError::Broker(ErrorCode::InvalidRecord);
        assert_eq!(world.deliveries(), [(failed, Err(error.clone()))]);
        assert_eq!(world.producer.transaction_error(), Some(abortable(ErrorCode::InvalidRecord)));
        // Nothing but an abort is taken.
        let refused = Err(abortable(ErrorCode::InvalidRecord));
        assert_eq!(world.commit(), refused);
        assert_eq!(world.send_offsets(&[(0, 1)]), refused);
        assert_eq!(world.producer.begin_transaction(), refused);
        let late = world.send("c");
        assert_eq!(world.deliveries(), [(late, Err(error))]);

        world.abort().expect("it helps");

        assert_eq!(world.next_key(), None, "what is on its way may still be stored");
        world.answer_produce(&on_its_way, ErrorCode::OutOfOrderSequenceNumber, -1);
        let early = ClientError::Broker(ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(world.deliveries(), [(waiting, Err(early))]);
        let next = (version == 2).then_some((70, 1));
        assert_eq!(of_end(&world.end(ErrorCode::None, next).1), (70, 0, false));
        if version == 1 {
            let request = world.give_id(70, 1);
            assert_eq!((request.producer_id, request.producer_epoch), (70, 0));
        }
        assert_eq!(world.event(), Some((Call::Abort, Ok(()))));
        assert_eq!(world.producer.transaction_error(), None);
        world.producer.begin_transaction().expect("ready");
        world.send("d");
        if version == 1 {
            world.add_partitions(ErrorCode::None);
        }
        assert_eq!(identity(&world.produce(ErrorCode::None, 1).1), (70, 1, 0));
    }
}

#[test]
fn a_record_that_fails_while_committing_fails_the_commit() {
    let mut world = World::open(2);
    world.send("a");
    world.send_offsets(&[(0, 1)]).expect("an open one");
    world.commit().expect("an open one");
    world.produce(ErrorCode::InvalidProducerEpoch, -1);
    // The coordinator knows whether that is for good.
    let failed = Err(abortable(ErrorCode::InvalidProducerEpoch));
    assert_eq!(world.event(), Some((Call::SendOffsets, failed.clone())));
    assert_eq!(world.event(), Some((Call::Commit, failed)));
    world.find();
    assert_eq!(world.next_key(), None);
    world.abort().expect("it helps");
    world.end(ErrorCode::ProducerFenced, None);
    assert_eq!(world.event(), Some((Call::Abort, Err(TransactionError::Fenced))));
}

#[test]
fn a_record_that_is_not_delivered_in_time_fails_the_transaction() {
    let mut world = World::open(1);
    world.send("a");
    let asked = world.broker.next();
    world.broker.up = false;
    world.lose(&asked);
    world.pass(121_000);
    let unknown = TransactionError::Abortable(ClientError::Unknown { last: None });
    assert_eq!(world.producer.transaction_error(), Some(unknown));
    world.broker.up = true;
    world.abort().expect("it helps");
    world.pass(3_000);
    while world.next_key() == Some(ApiKey::FindCoordinator) {
        world.find();
    }
    world.end(ErrorCode::None, None);
    world.give_id(70, 1);
    assert_eq!(world.event(), Some((Call::Abort, Ok(()))));
}

#[test]
fn a_record_too_large_fails_the_transaction_although_nothing_was_sent() {
    let mut world = World::ready(1);
    world.producer.begin_transaction().expect("ready");
    let record = NewRecord {
        topic: ORDERS,
        value: Some(Bytes::from(vec![0; 2 << 20])),
        ..NewRecord::default()
    };
    world.producer.send(world.broker.now, record).expect("room");
    world.settle();
    let told = world.commit().expect_err("a record is missing");
    assert!(told.is_abortable(), "{told}");
    world.abort().expect("it helps");
    // Nobody knows of the transaction; what is asked for is only an epoch.
    world.give_id(70, 1);
    assert_eq!(world.event(), Some((Call::Abort, Ok(()))));
}

#[test]
fn whoever_is_fenced_is_of_no_more_use() {
    let mut world = World::open(1);
    let waiting = world.send_to(PartitionIndex(1), "a");
    world.add_partitions(ErrorCode::ProducerFenced);
    let fenced = ClientError::Broker(ErrorCode::ProducerFenced);
    assert_eq!(world.deliveries(), [(waiting, Err(fenced.clone()))]);
    let error = Some(TransactionError::Fenced);
    assert_eq!(world.producer.transaction_error(), error);
    assert_eq!(world.commit(), Err(TransactionError::Fenced));
    assert_eq!(world.abort(), Err(TransactionError::Fenced));
    assert_eq!(world.producer.begin_transaction(), Err(TransactionError::Fenced));
    assert_eq!(world.producer.init_transactions(world.broker.now), Err(TransactionError::Fenced));
    let late = world.send("b");
    assert_eq!(world.deliveries(), [(late, Err(fenced))]);
    assert_eq!(world.next_key(), None);
}

#[test]
fn whoever_is_fenced_behind_the_timeout_of_its_transaction_is_told_of_that() {
    let codes =
        [ErrorCode::ProducerFenced, ErrorCode::InvalidProducerEpoch, ErrorCode::InvalidTxnState];
    for (code, (waits, is_expired)) in
        codes.into_iter().flat_map(|code| [(29_999, false), (30_000, true)].map(|it| (code, it)))
    {
        let mut world = World::open(2);
        world.broker.now.mono = world.broker.now.mono + Duration::from_millis(waits);
        world.commit().expect("an open one");
        world.settle();
        world.end(code, None);
        let (call, result) = world.event().expect("it has ended");
        let error = result.expect_err("it was fenced");
        assert_eq!(call, Call::Commit);
        assert!(error.is_fatal(), "{error}");
        assert_eq!(matches!(error, TransactionError::Expired { .. }), is_expired, "{error}");
        assert_eq!(world.producer.begin_transaction(), Err(error));
    }
}

/// What became of a transaction whose next question is answered with this code.
fn after(world: &mut World, answer: impl FnOnce(&mut World)) -> Option<TransactionError> {
    answer(world);
    world.producer.transaction_error()
}

#[test]
fn errors_of_taking_partitions_in_are_told_apart() {
    use ErrorCode as E;
    for (code, error) in [
        (E::InvalidProducerEpoch, Some(TransactionError::Fenced)),
        (E::ProducerFenced, Some(TransactionError::Fenced)),
        (E::TransactionalIdAuthorizationFailed, Some(fatal(E::TransactionalIdAuthorizationFailed))),
        (E::InvalidTxnState, Some(fatal(E::InvalidTxnState))),
        (E::InvalidProducerIdMapping, Some(fatal(E::InvalidProducerIdMapping))),
        (E::TopicAuthorizationFailed, Some(abortable(E::TopicAuthorizationFailed))),
        (E::OperationNotAttempted, Some(abortable(E::OperationNotAttempted))),
        (E::TransactionAbortable, Some(abortable(E::TransactionAbortable))),
        (E::UnknownProducerId, Some(abortable(E::UnknownProducerId))),
        (E::ConcurrentTransactions, None),
        (E::CoordinatorLoadInProgress, None),
        (E::UnknownTopicOrPartition, None),
        (E::NotCoordinator, None),
    ] {
        let mut world = World::open(1);
        world.send_to(PartitionIndex(1), "a");
        let found = after(&mut world, |world| {
            world.add_partitions(code);
        });
        assert_eq!(found, error, "{code}");
    }
}

#[test]
fn errors_of_taking_a_group_in_are_told_apart() {
    use ErrorCode as E;
    for (code, error) in [
        (E::ProducerFenced, Some(TransactionError::Fenced)),
        (E::InvalidProducerEpoch, Some(TransactionError::Fenced)),
        (E::TransactionalIdAuthorizationFailed, Some(fatal(E::TransactionalIdAuthorizationFailed))),
        (E::InvalidTxnState, Some(fatal(E::InvalidTxnState))),
        (E::InvalidRequest, Some(fatal(E::InvalidRequest))),
        (E::GroupAuthorizationFailed, Some(abortable(E::GroupAuthorizationFailed))),
        (E::TransactionAbortable, Some(abortable(E::TransactionAbortable))),
        (E::ConcurrentTransactions, None),
    ] {
        let mut world = World::open(1);
        world.send_offsets(&[(0, 1)]).expect("an open one");
        let found = after(&mut world, |world| world.add_offsets(code));
        assert_eq!(found, error, "{code}");
        let event = error.map(|error| (Call::SendOffsets, Err(error)));
        assert_eq!(world.event(), event, "{code}");
    }
}

#[test]
fn errors_of_staging_offsets_are_told_apart() {
    use ErrorCode as E;
    for (code, error) in [
        (E::ProducerFenced, Some(TransactionError::Fenced)),
        (E::InvalidProducerEpoch, Some(TransactionError::Fenced)),
        (E::IllegalGeneration, Some(abortable(E::IllegalGeneration))),
        (E::UnknownMemberId, Some(abortable(E::UnknownMemberId))),
        (E::FencedInstanceId, Some(abortable(E::FencedInstanceId))),
        (E::GroupAuthorizationFailed, Some(abortable(E::GroupAuthorizationFailed))),
        (E::TransactionAbortable, Some(abortable(E::TransactionAbortable))),
        (E::TransactionalIdAuthorizationFailed, Some(fatal(E::TransactionalIdAuthorizationFailed))),
        (E::UnsupportedForMessageFormat, Some(fatal(E::UnsupportedForMessageFormat))),
        (E::OffsetMetadataTooLarge, Some(fatal(E::OffsetMetadataTooLarge))),
        (E::CoordinatorLoadInProgress, None),
        (E::UnknownTopicOrPartition, None),
    ] {
        let mut world = World::open(2);
        world.send_offsets(&[(0, 1)]).expect("an open one");
        world.find();
        let found = after(&mut world, |world| {
            world.stage(|_| code);
        });
        assert_eq!(found, error, "{code}");
    }
}

#[test]
fn errors_of_the_end_are_told_apart() {
    use ErrorCode as E;
    for (code, commits, error) in [
        (E::ProducerFenced, true, TransactionError::Fenced),
        (E::InvalidProducerEpoch, false, TransactionError::Fenced),
        (E::InvalidTxnState, true, fatal(E::InvalidTxnState)),
        (E::InvalidTxnState, false, fatal(E::InvalidTxnState)),
        (E::InvalidProducerIdMapping, true, fatal(E::InvalidProducerIdMapping)),
        (E::TransactionAbortable, true, abortable(E::TransactionAbortable)),
        // An abort that does not help is the end.
        (E::TransactionAbortable, false, fatal(E::TransactionAbortable)),
        (E::TransactionalIdAuthorizationFailed, true, fatal(E::TransactionalIdAuthorizationFailed)),
    ] {
        let mut world = World::open(2);
        let call = if commits { Call::Commit } else { Call::Abort };
        if commits { world.commit() } else { world.abort() }.expect("an open one");
        world.end(code, None);
        assert_eq!(world.event(), Some((call, Err(error.clone()))), "{code}");
        assert_eq!(world.producer.transaction_error(), Some(error), "{code}");
        if code == E::TransactionAbortable && commits {
            world.abort().expect("it helps");
            world.end(ErrorCode::None, Some((70, 1)));
            assert_eq!(world.event(), Some((Call::Abort, Ok(()))));
        }
    }
}

#[test]
fn errors_of_the_beginning_are_told_apart() {
    use ErrorCode as E;
    for (code, error) in [
        (E::ProducerFenced, TransactionError::Fenced),
        (E::InvalidTransactionTimeout, fatal(E::InvalidTransactionTimeout)),
        (E::TransactionalIdAuthorizationFailed, fatal(E::TransactionalIdAuthorizationFailed)),
        (E::ClusterAuthorizationFailed, fatal(E::ClusterAuthorizationFailed)),
        (E::TransactionAbortable, abortable(E::TransactionAbortable)),
    ] {
        let mut world = World::new(1);
        world.producer.init_transactions(world.broker.now).expect("a new one");
        world.settle();
        world.find();
        let asked = world.broker.next();
        let response = InitProducerIdResponse { error_code: code.code(), ..Default::default() };
        world.broker.answer(&asked, response);
        world.settle();
        assert_eq!(world.event(), Some((Call::Init, Err(error.clone()))), "{code}");
        let again = world.producer.init_transactions(world.broker.now);
        assert_eq!(again.is_ok(), error.is_abortable(), "{code}");
    }
}

#[test]
fn brokers_without_transactions_are_told_of_and_not_asked_for_ever() {
    for (missing, last) in [(ApiKey::FindCoordinator, 0), (ApiKey::InitProducerId, -1)] {
        let mut world = World::new(0);
        let range = world.broker.ranges.iter_mut().find(|range| range.api_key == missing.key());
        range.expect("it is known").max_version = last;
        world.producer.init_transactions(world.broker.now).expect("a new one");
        world.settle();
        if missing == ApiKey::InitProducerId {
            world.find();
        }
        let error = TransactionError::Fatal(ClientError::UnsupportedApi(missing.name()));
        assert_eq!(world.event(), Some((Call::Init, Err(error))));
    }
}

#[test]
fn a_partition_is_asked_for_again_soon_while_the_transaction_before_is_ending() {
    let mut world = World::ready(1);
    world.producer.begin_transaction().expect("ready");
    world.send("a");
    world.add_partitions(ErrorCode::ConcurrentTransactions);
    assert_eq!(world.next_key(), None);
    world.pass(20);
    world.add_partitions(ErrorCode::None);
    world.produce(ErrorCode::None, 0);
    // Within a transaction there is no hurry.
    world.send_to(PartitionIndex(1), "a");
    world.add_partitions(ErrorCode::ConcurrentTransactions);
    world.pass(50);
    assert_eq!(world.next_key(), None);
    world.pass(100);
    world.add_partitions(ErrorCode::None);
}

#[test]
fn a_coordinator_that_has_moved_is_looked_for_and_asked_the_same() {
    let mut world = World::open(1);
    world.commit().expect("an open one");
    world.end(ErrorCode::NotCoordinator, None);
    world.pass(100);
    assert_eq!(world.find(), (ID, 1));
    let asked = world.broker.next();
    assert!(matches!(asked.body, Request::EndTxn(_)));
    // Whoever answers nothing is asked again, too, until it does.
    world.lose(&asked);
    world.pass(1_000);
    assert_eq!(world.find(), (ID, 1));
    assert_eq!(of_end(&world.end(ErrorCode::None, None).1), (70, 0, true));
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
}

#[test]
fn a_coordinator_that_the_cluster_does_not_list_is_looked_for_again() {
    let mut world = World::open(1);
    world.commit().expect("an open one");
    world.end(ErrorCode::NotCoordinator, None);
    world.pass(100);
    // It was fenced meanwhile, and is in no list of brokers any more.
    assert_eq!(world.find_at(9), (ID, 1));
    world.pass(1_000);
    assert_eq!(world.find(), (ID, 1));
    assert_eq!(of_end(&world.end(ErrorCode::None, None).1), (70, 0, true));
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
}

#[test]
fn a_coordinator_of_a_group_that_has_moved_is_looked_for_alone() {
    let mut world = World::open(2);
    world.send_offsets(&[(0, 1)]).expect("an open one");
    world.find();
    world.stage(|_| ErrorCode::RequestTimedOut);
    world.pass(100);
    assert_eq!(world.find(), (GROUP, 0));
    world.stage(|_| ErrorCode::None);
    world.commit().expect("an open one");
    world.end(ErrorCode::None, Some((70, 1)));
    assert_eq!(world.event(), Some((Call::SendOffsets, Ok(()))));
}

#[test]
fn partitions_that_may_have_been_taken_in_are_settled_before_the_end() {
    let mut world = World::ready(1);
    world.producer.begin_transaction().expect("ready");
    let dropped = world.send("a");
    let asked = world.broker.next();
    assert_eq!(asked.body.api_key(), ApiKey::AddPartitionsToTxn);
    world.lose(&asked);
    world.abort().expect("an open one");
    assert_eq!(world.deliveries(), [(dropped, Err(ClientError::Aborted))]);
    world.pass(1_000);
    world.find();
    world.add_partitions(ErrorCode::None);
    assert_eq!(of_end(&world.end(ErrorCode::None, None).1), (70, 0, false));
    assert_eq!(world.event(), Some((Call::Abort, Ok(()))));
}

#[test]
fn a_group_that_may_have_been_taken_in_is_settled_before_the_end() {
    let mut world = World::ready(1);
    world.producer.begin_transaction().expect("ready");
    world.send_offsets(&[(0, 1)]).expect("an open one");
    let asked = world.broker.next();
    world.lose(&asked);
    world.abort().expect("an open one");
    world.pass(1_000);
    world.find();
    world.add_offsets(ErrorCode::None);
    assert_eq!(of_end(&world.end(ErrorCode::None, None).1), (70, 0, false), "nothing is staged");
    let given_up = Err(TransactionError::Abortable(ClientError::Aborted));
    assert_eq!(world.event(), Some((Call::SendOffsets, given_up)));
    assert_eq!(world.event(), Some((Call::Abort, Ok(()))));
}

#[test]
fn what_was_refused_is_not_asked_for_again_by_an_abort() {
    let mut world = World::ready(1);
    world.producer.begin_transaction().expect("ready");
    world.send("a");
    world.add_partitions(ErrorCode::TopicAuthorizationFailed);
    world.abort().expect("it helps");
    assert_eq!(world.event(), Some((Call::Abort, Ok(()))));
    assert_eq!(world.next_key(), None);
}

#[test]
fn a_batch_that_is_halved_stays_part_of_the_transaction() {
    let mut world = World::ready(2);
    let mut config = world.producer.sender.config.clone();
    config.batch_bytes = 1 << 10;
    config.linger = Duration::from_millis(5);
    world.producer.accumulator = Accumulator::new(&config);
    world.producer.begin_transaction().expect("ready");
    world.send("a");
    world.send("b");
    world.pass(5);
    world.produce(ErrorCode::MessageTooLarge, -1);
    let first = world.produce(ErrorCode::None, 0).1;
    let second = world.produce(ErrorCode::None, 1).1;
    assert_eq!([identity(&first), identity(&second)], [(70, 0, 0), (70, 0, 1)]);
    assert_eq!(world.producer.transaction_error(), None);
}
