//! What a transactional producer does where nothing goes wrong for good.

use super::*;
use crate::ids::{ProducerEpoch, ProducerId};

#[test]
fn a_producer_begins_with_its_transactional_id_at_the_coordinator_of_that() {
    let mut world = World::new(0);
    assert_eq!(world.producer.poll_effect(), None, "nothing is connected to before");
    world.producer.init_transactions(world.broker.now).expect("a new one");
    world.producer.init_transactions(world.broker.now).expect("whoever waits may wait again");
    world.settle();
    assert_eq!(world.find(), (ID, 1));
    let request = world.give_id(70, 3);
    assert_eq!(request.transactional_id, Some(ID));
    assert_eq!(request.transaction_timeout_ms, 30_000);
    assert_eq!((request.producer_id, request.producer_epoch), (-1, -1));
    assert_eq!(world.event(), Some((Call::Init, Ok(()))));
    assert_eq!(world.event(), None);
}

#[test]
fn partitions_are_taken_in_before_anything_is_sent_to_them_up_to_version_1() {
    let mut world = World::ready(1);
    world.producer.begin_transaction().expect("ready");
    let first = world.send("a");
    assert_eq!(world.next_key(), Some(ApiKey::AddPartitionsToTxn));
    assert_eq!(world.broker.asked.len(), 1, "nothing is sent before");
    assert_eq!(world.add_partitions(ErrorCode::None), [0]);
    let (version, batch) = world.produce(ErrorCode::None, 5);
    assert!(version <= 11, "from 12 on brokers would take the partition in");
    assert_eq!(identity(&batch), (70, 0, 0));
    let second = world.send("b");
    let (_, batch) = world.produce(ErrorCode::None, 6);
    assert_eq!(identity(&batch), (70, 0, 1), "taken in once");
    assert_eq!(world.deliveries(), [(first, Ok(Some(5))), (second, Ok(Some(6)))]);

    world.commit().expect("an open one");

    let (version, request) = world.end(ErrorCode::None, None);
    assert!(version <= 4);
    assert_eq!(of_end(&request), (70, 0, true));
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
    // The next transaction goes on in the same epoch, and takes its partitions in again.
    world.producer.begin_transaction().expect("ready");
    world.send("c");
    assert_eq!(world.add_partitions(ErrorCode::None), [0]);
    assert_eq!(identity(&world.produce(ErrorCode::None, 7).1), (70, 0, 2));
}

#[test]
fn a_producer_that_speaks_the_old_kind_alone_does_so_with_brokers_of_the_new_one() {
    let mut world = World::speaking(1, 2).begun();
    assert_eq!(world.producer.identity(), Some((ProducerId(70), ProducerEpoch(0))));
    for _ in 0..2 {
        world.producer.begin_transaction().expect("ready");
        world.send("a");
        assert_eq!(world.add_partitions(ErrorCode::None), [0]);
        assert!(world.produce(ErrorCode::None, 5).0 <= 11);
        world.commit().expect("an open one");
        assert!(world.end(ErrorCode::None, None).0 <= 4);
        assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
    }
}

#[test]
fn from_version_2_on_brokers_take_partitions_in_and_each_transaction_has_its_epoch() {
    let mut world = World::ready(2);
    world.producer.begin_transaction().expect("ready");
    world.send("a");
    let (version, batch) = world.produce(ErrorCode::None, 5);
    assert!(version >= 12);
    assert_eq!(identity(&batch), (70, 0, 0));
    world.commit().expect("an open one");
    let (version, request) = world.end(ErrorCode::None, Some((70, 1)));
    assert_eq!((version, of_end(&request)), (5, (70, 0, true)));
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));

    world.producer.begin_transaction().expect("ready");
    world.send("b");
    assert_eq!(identity(&world.produce(ErrorCode::None, 6).1), (70, 1, 0));
    // The epochs of an id may come to their end.
    world.abort().expect("an open one");
    world.end(ErrorCode::None, Some((71, 0)));
    world.producer.begin_transaction().expect("ready");
    world.send("c");
    assert_eq!(identity(&world.produce(ErrorCode::None, 7).1), (71, 0, 0));
}

#[test]
fn a_commit_waits_until_everything_is_delivered() {
    let mut world = World::open(2);
    world.send("a");
    world.send("b");
    world.commit().expect("an open one");
    world.commit().expect("whoever waits may wait again");
    assert_eq!(world.broker.asked.len(), 2);
    world.produce(ErrorCode::None, 1);
    assert_eq!(world.next_key(), Some(ApiKey::Produce));
    world.produce(ErrorCode::NotEnoughReplicas, -1);
    assert_eq!(world.next_key(), None, "it is sent again after a pause");
    world.pass(200);
    world.produce(ErrorCode::None, 2);
    world.end(ErrorCode::None, Some((70, 1)));
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
    assert_eq!(world.event(), None);
}

#[test]
fn a_commit_does_not_wait_for_the_linger() {
    let mut world = World::ready(2);
    world.producer.sender.config.linger = Duration::ZERO;
    let mut config = world.producer.sender.config.clone();
    config.linger = Duration::from_mins(1);
    config.batch_bytes = 1 << 10;
    world.producer.accumulator = Accumulator::new(&config);
    world.producer.begin_transaction().expect("ready");
    world.send("a");
    world.send("b");
    assert_eq!(world.next_key(), None);
    world.commit().expect("an open one");
    assert_eq!(world.produce(ErrorCode::None, 0).1.records_count(), 2);
}

#[test]
fn offsets_of_a_group_are_staged_at_its_coordinator_once_the_group_is_taken_in() {
    let mut world = World::ready(1);
    world.producer.begin_transaction().expect("ready");
    world.send_offsets(&[(0, 10), (1, 20)]).expect("an open one");
    world.add_offsets(ErrorCode::None);
    assert_eq!(world.find(), (GROUP, 0));
    let (version, request) = world.stage(|_| ErrorCode::None);
    assert!(version <= 4);
    assert_eq!((request.producer_id, request.producer_epoch), (70, 0));
    assert_eq!(request.generation_id_or_member_epoch, 4);
    assert_eq!(request.member_id, "m-1");
    assert_eq!(request.group_instance_id, Some(KafkaString::from_static("i")));
    let offsets: Vec<(i32, i64)> = request.topics[0]
        .partitions
        .iter()
        .map(|one| (one.partition_index, one.committed_offset))
        .collect();
    assert_eq!(offsets, [(0, 10), (1, 20)]);
    assert_eq!(world.event(), Some((Call::SendOffsets, Ok(()))));
    world.commit().expect("an open one");
    world.end(ErrorCode::None, None);
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
}

#[test]
fn from_version_2_on_the_coordinator_of_the_group_takes_it_in() {
    let mut world = World::ready(2);
    world.producer.begin_transaction().expect("ready");
    world.send_offsets(&[(0, 10)]).expect("an open one");
    world.find();
    let (version, _) = world.stage(|_| ErrorCode::None);
    assert_eq!(version, 5);
    world.commit().expect("an open one");
    assert_eq!(of_end(&world.end(ErrorCode::None, Some((70, 1))).1), (70, 0, true));
}

#[test]
fn a_commit_waits_for_offsets_and_each_call_of_them_is_answered() {
    let mut world = World::open(2);
    world.send_offsets(&[]).expect("an open one");
    assert_eq!(world.event(), Some((Call::SendOffsets, Ok(()))), "nothing is done at once");
    world.send_offsets(&[(0, 10), (1, 20)]).expect("an open one");
    world.send_offsets(&[(0, 11)]).expect("an open one");
    world.commit().expect("an open one");
    world.find();
    let again = |partition| match partition {
        0 => ErrorCode::None,
        _ => ErrorCode::CoordinatorLoadInProgress,
    };
    world.stage(again);
    assert_eq!(world.next_key(), None);
    world.pass(150);
    let (_, request) = world.stage(|_| ErrorCode::None);
    assert_eq!(request.topics[0].partitions.len(), 1, "only what is left");
    assert_eq!(world.event(), Some((Call::SendOffsets, Ok(()))));
    world.find();
    world.stage(|_| ErrorCode::None);
    world.end(ErrorCode::None, Some((70, 1)));
    assert_eq!(world.event(), Some((Call::SendOffsets, Ok(()))));
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
}

#[test]
fn a_transaction_without_anything_in_it_asks_nobody() {
    for version in [1, 2] {
        let mut world = World::ready(version);
        for commits in [true, false] {
            world.producer.begin_transaction().expect("ready");
            let (call, result) =
                if commits { (Call::Commit, world.commit()) } else { (Call::Abort, world.abort()) };
            result.expect("an open one");
            assert_eq!(world.event(), Some((call, Ok(()))));
            assert_eq!(world.next_key(), None);
        }
    }
}

#[test]
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else may be asked")]
fn an_abort_drops_what_was_not_sent_and_waits_for_what_was() {
    for version in [1, 2] {
        let mut world = World::open(version);
        let sent = world.send("a");
        let unsent: Vec<Ticket> = (0..6).map(|_| world.send("b")).collect();
        world.send_offsets(&[(0, 1)]).expect("an open one");
        let on_its_way =
            world.broker.asked.iter().filter(|asked| matches!(asked.body, Request::Produce(_)));
        // With a sequence each, so that none may be left out.
        assert_eq!(on_its_way.count(), 5);

        world.abort().expect("an open one");

        let dropped: Vec<_> =
            unsent[4..].iter().map(|ticket| (*ticket, Err(ClientError::Aborted))).collect();
        assert_eq!(world.deliveries(), dropped);
        let given_up = Err(TransactionError::Abortable(ClientError::Aborted));
        assert_eq!(world.event(), Some((Call::SendOffsets, given_up)));
        let requests: Vec<Asked> = world.broker.asked.drain(..).collect();
        for asked in &requests {
            match &asked.body {
                Request::Produce(_) => world.answer_produce(asked, ErrorCode::None, 9),
                Request::AddOffsetsToTxn(_) => {
                    world.broker.answer(asked, AddOffsetsToTxnResponse::default());
                    world.settle();
                }
                Request::FindCoordinator(_) => {
                    world.broker.asked.push_front(Asked {
                        link: asked.link,
                        version: asked.version,
                        correlation_id: asked.correlation_id,
                        body: asked.body.clone(),
                    });
                    world.find();
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(world.deliveries()[0], (sent, Ok(Some(9))));
        let (_, request) = world.end(ErrorCode::None, (version == 2).then_some((70, 1)));
        assert_eq!(of_end(&request), (70, 0, false));
        assert_eq!(world.event(), Some((Call::Abort, Ok(()))));
        // The sequences go on without a gap.
        world.producer.begin_transaction().expect("ready");
        world.send("c");
        if version == 1 {
            world.add_partitions(ErrorCode::None);
        }
        let expected = if version == 2 { (70, 1, 0) } else { (70, 0, 6) };
        assert_eq!(identity(&world.produce(ErrorCode::None, 20).1), expected);
    }
}

#[test]
fn an_abort_leaves_no_gap_in_the_sequences_of_an_epoch_that_goes_on() {
    let mut world = World::open(1);
    let again = world.send("a");
    world.produce(ErrorCode::NotEnoughReplicas, -1);
    world.abort().expect("an open one");
    assert_eq!((world.deliveries(), world.next_key()), (vec![], None));
    world.pass(200);
    assert_eq!(identity(&world.produce(ErrorCode::None, 1).1), (70, 0, 1));
    assert_eq!(world.deliveries(), [(again, Ok(Some(1)))]);
    assert_eq!(of_end(&world.end(ErrorCode::None, None).1), (70, 0, false));
    assert_eq!(world.event(), Some((Call::Abort, Ok(()))));
    world.producer.begin_transaction().expect("ready");
    world.send("b");
    world.add_partitions(ErrorCode::None);
    assert_eq!(identity(&world.produce(ErrorCode::None, 2).1), (70, 0, 2));
}

#[test]
fn a_record_outside_of_a_transaction_is_refused_and_harms_none() {
    let mut world = World::ready(2);
    let early = world.send("a");
    let values = ValuesRef { topic: &ORDERS, partition: None, bytes: b"xy", lengths: &[1, 1] };
    assert_eq!(world.producer.append_values(world.broker.now, &values), 2);
    let refused: Vec<_> = world.deliveries();
    assert_eq!(refused.len(), 3);
    assert_eq!(refused[0], (early, Err(ClientError::NoTransaction)));
    assert_eq!(world.producer.pending(), 0);
    world.producer.begin_transaction().expect("ready");
    world.send("b");
    world.produce(ErrorCode::None, 0);
    world.commit().expect("an open one");
    let late = world.send("c");
    assert_eq!(world.deliveries()[1], (late, Err(ClientError::NoTransaction)));
    world.end(ErrorCode::None, Some((70, 1)));
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
}

#[test]
fn calls_that_do_not_fit_change_nothing() {
    let misplaced = |result: Result<(), TransactionError>| {
        matches!(result, Err(TransactionError::Misplaced { .. }))
    };
    let mut world = World::new(2);
    assert!(misplaced(world.producer.begin_transaction()));
    assert!(misplaced(world.commit()) && misplaced(world.abort()));
    let mut world = World::ready(2);
    assert!(misplaced(world.commit()) && misplaced(world.abort()));
    assert!(misplaced(world.send_offsets(&[(0, 1)])));
    assert!(misplaced(world.producer.init_transactions(world.broker.now)));
    world.producer.begin_transaction().expect("ready");
    assert!(misplaced(world.producer.begin_transaction()));
    world.send("a");
    world.commit().expect("an open one");
    assert!(misplaced(world.abort()) && misplaced(world.send_offsets(&[(0, 1)])));
    let refused = world.producer.begin_transaction().expect_err("it is committing");
    let words = "to begin a transaction does not fit a producer that is committing";
    assert_eq!(refused.to_string(), words);
    world.produce(ErrorCode::None, 0);
    world.end(ErrorCode::None, Some((70, 1)));
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
}

#[test]
fn the_first_transaction_of_version_2_has_an_epoch_that_version_1_has_not_used() {
    let mut world = World::open(1);
    // The cluster settles on version 2, and the connection is made again.
    world.broker.transaction_version = (2, 2);
    world.send("a");
    let asked = world.broker.next();
    world.lose(&asked);
    world.pass(100);
    let (version, _) = world.produce(ErrorCode::None, 1);
    assert!(version <= 11, "a transaction ends as it began");
    world.commit().expect("an open one");
    assert!(world.end(ErrorCode::None, None).0 <= 4);
    assert_eq!(world.event(), None);
    let request = world.give_id(70, 1);
    assert_eq!((request.producer_id, request.producer_epoch), (70, 0));
    assert_eq!(world.event(), Some((Call::Commit, Ok(()))));
    world.producer.begin_transaction().expect("ready");
    world.send("b");
    let (version, batch) = world.produce(ErrorCode::None, 2);
    assert!(version >= 12);
    assert_eq!(identity(&batch), (70, 1, 0));
}
