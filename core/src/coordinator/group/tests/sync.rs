//! Handing in the assignment and fetching it.

use super::*;

/// Two members that have joined; the first leads.
fn two_joined(bench: &mut Bench) -> (KafkaString, KafkaString) {
    let tickets = [bench.join(join_v3()), bench.join(join_v3())];
    bench.pass(Duration::ZERO);
    let answers = tickets.map(|ticket| bench.joined(ticket));
    let leader = answers[0].leader.clone();
    let other = answers.into_iter().find(|one| one.member_id != leader).expect("another");
    (leader, other.member_id)
}

#[test]
fn followers_wait_for_the_leader_and_each_gets_its_own() {
    let mut bench = Bench::new();
    let (leader, other) = two_joined(&mut bench);
    let follows = bench.ask(Request::SyncGroup(sync(&other, 1, Vec::new())));
    assert!(bench.waits(follows));
    assert_eq!(bench.state(), "CompletingRebalance");

    let assignments = vec![own(&leader), own(&other)];
    let leads = bench.ask(Request::SyncGroup(sync(&leader, 1, assignments)));

    // Decided, appended, and not yet told: the record is not committed.
    assert_eq!(bench.log.records.len(), 1);
    assert!(bench.waits(follows) && bench.waits(leads));
    let answer = bench.synced(follows);
    assert_eq!((answer.error, &answer.assignment), (ErrorCode::None, other.as_bytes()));
    assert_eq!(answer.protocol_name, Some("range".into()));
    assert_eq!(&bench.synced(leads).assignment, leader.as_bytes());
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn a_member_that_the_leader_does_not_name_gets_nothing_to_do() {
    let mut bench = Bench::new();
    let (leader, other) = two_joined(&mut bench);
    let follows = bench.ask(Request::SyncGroup(sync(&other, 1, Vec::new())));
    let strange = Assignment { member_id: "stranger".into(), assignment: "x".into() };
    bench.ask(Request::SyncGroup(sync(&leader, 1, vec![own(&leader), strange])));

    let answer = bench.synced(follows);

    assert_eq!((answer.error, answer.assignment.len()), (ErrorCode::None, 0));
}

#[test]
fn a_sync_that_is_repeated_gets_the_same_assignment() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    for _ in 0..2 {
        let strange = Assignment { member_id: member.clone(), assignment: "other".into() };
        let ticket = bench.ask(Request::SyncGroup(sync(&member, generation, vec![strange])));
        assert_eq!(&bench.synced(ticket).assignment, member.as_bytes());
    }
    assert_eq!(bench.log.records.len(), 1, "nothing more was stored");
}

#[test]
fn a_sync_of_another_generation_member_or_protocol_is_refused() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    let good = sync(&member, generation, Vec::new());
    for (request, error) in [
        (SyncGroup { group_id: "".into(), ..good.clone() }, ErrorCode::InvalidGroupId),
        (SyncGroup { group_id: "none".into(), ..good.clone() }, ErrorCode::UnknownMemberId),
        (SyncGroup { member_id: "none".into(), ..good.clone() }, ErrorCode::UnknownMemberId),
        (SyncGroup { generation_id: 0, ..good.clone() }, ErrorCode::IllegalGeneration),
        (SyncGroup { generation_id: 2, ..good.clone() }, ErrorCode::IllegalGeneration),
        (
            SyncGroup { protocol_type: Some("connect".into()), ..good.clone() },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            SyncGroup { protocol_name: Some("sticky".into()), ..good.clone() },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (SyncGroup { protocol_type: None, protocol_name: None, ..good }, ErrorCode::None),
    ] {
        let ticket = bench.ask(Request::SyncGroup(request));
        assert_eq!(bench.synced(ticket).error, error);
    }
}

#[test]
fn a_rebalance_ends_the_wait_for_the_assignment() {
    let mut bench = Bench::new();
    let (leader, other) = two_joined(&mut bench);
    let follows = bench.ask(Request::SyncGroup(sync(&other, 1, Vec::new())));

    bench.join(join_v3());

    assert_eq!(bench.synced(follows).error, ErrorCode::RebalanceInProgress);
    let ticket = bench.ask(Request::SyncGroup(sync(&leader, 1, vec![own(&leader)])));
    assert_eq!(bench.synced(ticket).error, ErrorCode::RebalanceInProgress);
    assert!(bench.log.records.is_empty(), "an assignment that comes too late is not stored");
}

#[test]
fn a_member_that_never_syncs_is_out() {
    let mut bench = Bench::new();
    let (leader, other) = two_joined(&mut bench);
    let leads = bench.ask(Request::SyncGroup(sync(&leader, 1, vec![own(&leader), own(&other)])));
    bench.synced(leads);
    for _ in 0..REBALANCE_MS / 5_000 {
        assert_eq!(bench.heartbeat(&leader, 1), ErrorCode::None);
        assert_eq!(bench.heartbeat(&other, 1), ErrorCode::None);
        bench.pass(seconds(5));
    }

    assert_eq!(bench.heartbeat(&leader, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.heartbeat(&other, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_leader_that_never_syncs_loses_the_lead() {
    let mut bench = Bench::new();
    let (leader, other) = two_joined(&mut bench);
    let follows = bench.ask(Request::SyncGroup(sync(&other, 1, Vec::new())));
    for _ in 0..REBALANCE_MS / 5_000 {
        assert!(bench.waits(follows));
        bench.heartbeat(&leader, 1);
        bench.pass(seconds(5));
    }

    assert_eq!(bench.synced(follows).error, ErrorCode::RebalanceInProgress);
    let ticket = bench.join(rejoin(&other));
    let answer = bench.joined(ticket);
    assert_eq!((answer.generation_id, &answer.leader), (2, &other));
}

#[test]
fn everyone_is_told_where_the_log_does_not_take_the_assignment() {
    for (refusal, told) in [
        (ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::UnknownTopicOrPartition, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::RequestTimedOut, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::KafkaStorageError, ErrorCode::NotCoordinator),
        (ErrorCode::MessageTooLarge, ErrorCode::UnknownServerError),
        (ErrorCode::RecordListTooLarge, ErrorCode::UnknownServerError),
    ] {
        let mut bench = Bench::new();
        let (leader, other) = two_joined(&mut bench);
        let follows = bench.ask(Request::SyncGroup(sync(&other, 1, Vec::new())));
        bench.log.refuses = Some(refusal);

        let assignments = vec![own(&leader), own(&other)];
        let leads = bench.ask(Request::SyncGroup(sync(&leader, 1, assignments)));

        assert_eq!(bench.synced(leads).error, told);
        assert_eq!(bench.synced(follows).error, told);
        assert_eq!(bench.state(), "PreparingRebalance");
        assert!(bench.coordinator.stored.groups().is_empty());
        // Once the log takes records again, the group goes on.
        bench.log.refuses = None;
        let (first, second) = (bench.join(rejoin(&leader)), bench.join(rejoin(&other)));
        assert_eq!(bench.joined(first).generation_id, 2);
        assert_eq!(bench.joined(second).generation_id, 2);
    }
}

#[test]
fn a_sync_that_is_sent_again_takes_the_place_of_the_first() {
    let mut bench = Bench::new();
    let (leader, other) = two_joined(&mut bench);
    let first = bench.ask(Request::SyncGroup(sync(&other, 1, Vec::new())));
    let again = bench.ask(Request::SyncGroup(sync(&other, 1, Vec::new())));
    bench.ask(Request::SyncGroup(sync(&leader, 1, vec![own(&other)])));

    assert_eq!(bench.synced(first).error, ErrorCode::RebalanceInProgress);
    assert_eq!(&bench.synced(again).assignment, other.as_bytes());
}
