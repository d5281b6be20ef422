//! Markers: sent after the decision is committed, and until they are written.

use super::*;

/// A bench whose transaction in partitions 0, 1 and 2 is decided; nothing is committed yet.
fn decided(version: i16, committed: bool) -> Bench {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    let is_v2 = version == END;
    let adding = add(if is_v2 { ADD } else { ADD_V1 }, producer, &[0, 1, 2], false);
    assert_eq!(errors(bench.call(adding)), [ErrorCode::None; 3]);
    bench.ask(end(version, producer, committed));
    bench
}

#[test]
fn a_marker_is_sent_when_the_decision_is_committed_and_not_before() {
    for committed in [true, false] {
        let mut bench = Bench::new();
        let producer = bench.init().expect("a producer");
        let added = errors(bench.call(add(ADD, producer, &[0, 1, 2], false)));
        assert_eq!(added, [ErrorCode::None; 3]);
        let mut other = init(None);
        if let Request::InitProducerId(request) = &mut other {
            request.transactional_id = "u".into();
        }
        bench.ask(other);
        bench.ask(end(END, producer, committed));
        let end = bench.log.end();
        // Up to the decision, and not with it.
        bench.coordinator.on_committed(bench.now, &mut bench.log, end.plus(-1));
        bench.collect();
        bench.pass(Duration::from_secs(10));
        assert!(bench.sent.is_empty());

        bench.commit();

        let partitions: Vec<i32> = bench.sent.iter().map(|sent| sent.partition).collect();
        assert_eq!(partitions, [0, 1, 2]);
        for sent in &bench.sent {
            assert_eq!((sent.committed, sent.producer), (committed, (1_001, 1)));
            assert_eq!(sent.transaction_version, 2);
        }
    }
}

#[test]
fn a_marker_of_the_older_protocol_has_the_epoch_of_the_records() {
    let mut bench = decided(END_V1, true);
    bench.commit();

    assert_eq!(bench.sent.len(), 3);
    for sent in &bench.sent {
        assert_eq!((sent.producer, sent.transaction_version), ((1_001, 0), 0));
    }
}

#[test]
fn a_transaction_is_complete_with_its_last_marker() {
    let mut bench = decided(END, true);
    bench.commit();
    let sent: Vec<Sent> = bench.sent.drain(..).collect();

    bench.report(&sent[1], Ok(()));
    bench.report(&sent[0], Ok(()));
    bench.report(&sent[0], Ok(()));
    bench.commit();
    assert_eq!(bench.status(), TransactionStatus::PrepareCommit);
    let missing: Vec<i32> =
        bench.coordinator.missing_markers().map(|marker| marker.partition.0).collect();
    assert_eq!(missing, [2]);
    bench.report(&sent[2], Ok(()));

    assert_eq!(bench.status(), TransactionStatus::CompleteCommit);
    let end = bench.log.end();
    bench.report(&sent[2], Ok(()));
    bench.commit();
    assert_eq!(bench.log.end(), end, "a report that comes twice is nothing");
}

#[test]
fn a_marker_that_fails_is_sent_again_ever_more_slowly_and_for_ever() {
    let mut bench = decided(END, false);
    bench.commit();
    let sent = bench.sent.pop_front().expect("a marker");
    bench.sent.clear();

    for wait in [100, 200, 400, 800, 1_000, 1_000, 1_000] {
        bench.report(&sent, Err(ErrorCode::NotLeaderOrFollower));
        // Another word about one that is not on its way changes nothing.
        bench.report(&sent, Err(ErrorCode::NotLeaderOrFollower));
        bench.pass(Duration::from_millis(wait - 1));
        assert!(bench.sent.is_empty(), "{wait}");
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.sent.pop_front().as_ref(), Some(&sent), "{wait}");
        assert!(bench.sent.is_empty());
    }
    for code in [ErrorCode::InvalidProducerEpoch, ErrorCode::TransactionCoordinatorFenced] {
        bench.report(&sent, Err(code));
        bench.pass(Duration::from_secs(1));
        assert_eq!(bench.sent.pop_front().as_ref(), Some(&sent), "{code:?}");
    }

    let missing = bench.coordinator.missing_markers().next().expect("it is named");
    assert_eq!(missing.partition, PartitionIndex(0));
    assert_eq!(missing.error, ErrorCode::TransactionCoordinatorFenced);
    assert_eq!(missing.failures, 9);
}

#[test]
fn a_partition_that_is_gone_needs_no_marker() {
    let mut bench = decided(END, true);
    bench.commit();
    let sent: Vec<Sent> = bench.sent.drain(..).collect();

    bench.report(&sent[0], Ok(()));
    bench.report(&sent[1], Err(ErrorCode::UnknownTopicOrPartition));
    bench.report(&sent[2], Err(ErrorCode::UnknownTopicOrPartition));

    assert_eq!(bench.status(), TransactionStatus::CompleteCommit);
}

#[test]
fn a_completion_that_the_log_does_not_take_is_tried_again() {
    let mut bench = decided(END, true);
    bench.commit();
    bench.log.refuses = Some(ErrorCode::NotEnoughReplicas);
    bench.settle();
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.status(), TransactionStatus::PrepareCommit);

    bench.log.refuses = None;
    bench.pass(Duration::from_secs(1));
    bench.settle();

    assert_eq!(bench.status(), TransactionStatus::CompleteCommit);
    assert_eq!(bench.coordinator.missing_markers().count(), 0);
}

#[test]
fn the_markers_of_one_transaction_do_not_wait_for_another() {
    let mut bench = decided(END, true);
    let mut other = init(None);
    if let Request::InitProducerId(request) = &mut other {
        request.transactional_id = "u".into();
    }
    bench.ask(other);
    bench.commit();
    let [mut adding, mut ending] = [add(ADD, (1_002, 0), &[7], false), end(END, (1_002, 0), false)];
    if let (Request::AddPartitionsToTxn(adding), Request::EndTxn(ending)) =
        (&mut adding, &mut ending)
    {
        adding.transactional_id = "u".into();
        ending.transactional_id = "u".into();
    }
    bench.ask(adding);
    bench.sent.clear();

    let ticket = bench.ask(ending);
    bench.settle();

    assert!(bench.reply(ticket).is_some());
    assert_eq!(bench.status(), TransactionStatus::PrepareCommit);
}

/// A bench whose log precedes those of partitions 0 and 1.
fn preceding() -> (Bench, (i64, i16)) {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    bench.log.followed_by = vec![0, 1];
    (bench, producer)
}

#[test]
fn markers_that_stand_behind_the_decision_are_sent_with_it_and_answered_for_when_it_is_committed() {
    let (mut bench, producer) = preceding();
    assert_eq!(errors(bench.call(add(ADD, producer, &[0, 1], false))), [ErrorCode::None; 2]);
    let ticket = bench.ask(end(END, producer, true));
    let sent: Vec<Sent> = bench.sent.drain(..).collect();
    assert_eq!(sent.iter().map(|sent| sent.partition).collect::<Vec<_>>(), [0, 1]);
    for sent in &sent {
        bench.report(sent, Ok(()));
    }
    assert_eq!(bench.status(), TransactionStatus::CompleteCommit);
    assert_eq!(bench.reply(ticket), None, "nothing is committed");
    bench.commit();
    assert!(bench.reply(ticket).is_some());
    assert!(bench.sent.is_empty(), "none is sent again");
}

#[test]
fn markers_wait_for_the_commit_of_the_decision_where_one_of_them_might_be_seen_before() {
    let (mut bench, producer) = preceding();
    assert_eq!(errors(bench.call(add(ADD, producer, &[0, 1, 2], false))), [ErrorCode::None; 3]);
    bench.ask(end(END, producer, true));
    assert!(bench.sent.is_empty());
    bench.commit();
    assert_eq!(bench.sent.len(), 3);
}

#[test]
fn a_marker_is_tried_again_before_the_commit_only_where_it_still_stands_behind_the_decision() {
    let (mut bench, producer) = preceding();
    assert_eq!(errors(bench.call(add(ADD, producer, &[0, 1], false))), [ErrorCode::None; 2]);
    bench.ask(end(END, producer, true));
    let sent: Vec<Sent> = bench.sent.drain(..).collect();
    for sent in &sent {
        bench.report(sent, Err(ErrorCode::KafkaStorageError));
    }
    // The topic of partition 1 was made anew.
    bench.log.followed_by = vec![0];
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.sent.iter().map(|sent| sent.partition).collect::<Vec<_>>(), [0]);
    bench.commit();
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.sent.iter().map(|sent| sent.partition).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_word_that_partitions_are_taken_in_is_released_ahead_and_no_other() {
    let (mut bench, producer) = preceding();
    bench.commit();
    let ahead = |bench: &mut Bench, request: Request| {
        bench.tickets += 1;
        let ticket = Ticket(bench.tickets);
        bench.coordinator.handle(bench.now, &mut bench.log, ticket, &request);
        bench.coordinator.release(ticket);
        bench.collect();
        bench.reply(ticket)
    };
    let added = ahead(&mut bench, add(ADD, producer, &[0], false)).expect("at once");
    assert_eq!(errors(added), [ErrorCode::None]);
    let fenced = (producer.0, producer.1 - 1);
    assert_eq!(ahead(&mut bench, add(ADD, fenced, &[0], false)), None, "a refusal waits");
    assert_eq!(ahead(&mut bench, end(END, producer, true)), None, "it waits as it did");
}
