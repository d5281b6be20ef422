//! Staying and leaving.

use super::*;

#[test]
fn heartbeats_tell_what_the_group_does() {
    let mut bench = Bench::new();
    let ticket = bench.join(join_v3());
    bench.pass(Duration::ZERO);
    let member = bench.joined(ticket).member_id;

    assert_eq!(bench.state(), "CompletingRebalance");
    assert_eq!(bench.heartbeat(&member, 1), ErrorCode::None);
    let ticket = bench.ask(Request::SyncGroup(sync(&member, 1, vec![own(&member)])));
    bench.synced(ticket);
    assert_eq!(bench.heartbeat(&member, 1), ErrorCode::None);
    assert_eq!(bench.heartbeat(&member, 2), ErrorCode::IllegalGeneration);
    assert_eq!(bench.heartbeat(&member, 0), ErrorCode::IllegalGeneration);
    assert_eq!(bench.heartbeat("stranger", 1), ErrorCode::UnknownMemberId);
    bench.join(join_v3());
    assert_eq!(bench.heartbeat(&member, 1), ErrorCode::RebalanceInProgress);
    let nowhere = Heartbeat {
        group_id: "none".into(),
        generation_id: 1,
        member_id: member,
        group_instance_id: None,
    };
    let unnamed = Heartbeat { group_id: "".into(), ..nowhere.clone() };
    let answer = bench.call(Request::Heartbeat(nowhere));
    assert_eq!(answer, Response::Heartbeat(ErrorCode::UnknownMemberId));
    let answer = bench.call(Request::Heartbeat(unnamed));
    assert_eq!(answer, Response::Heartbeat(ErrorCode::InvalidGroupId));
}

#[test]
fn a_member_that_falls_silent_is_out_and_the_group_goes_on() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_v3()]);
    for member in &members {
        assert_eq!(bench.heartbeat(member, 1), ErrorCode::None);
    }
    bench.pass(Duration::from_millis(SESSION_MS as u64 - 1));
    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::None);

    bench.pass(Duration::from_millis(1));

    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.heartbeat(&members[1], 1), ErrorCode::UnknownMemberId);
    let ticket = bench.join(rejoin(&members[0]));
    assert_eq!(bench.joined(ticket).members.len(), 1);
}

#[test]
fn whoever_waits_for_the_coordinator_is_not_silent() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_v3()]);
    let ticket = bench.join(rejoin(&members[0]));
    for _ in 0..8 {
        bench.pass(seconds(6));
        assert_eq!(bench.heartbeat(&members[1], 1), ErrorCode::RebalanceInProgress);
    }
    assert!(bench.waits(ticket));

    let other = bench.join(rejoin(&members[1]));

    assert_eq!(bench.joined(ticket).error, ErrorCode::None);
    assert_eq!(bench.joined(other).error, ErrorCode::None);
    // And a fresh session begins with the answer.
    bench.pass(Duration::from_millis(SESSION_MS as u64 - 1));
    assert_eq!(bench.heartbeat(&members[0], 2), ErrorCode::None);
}

#[test]
fn when_the_last_member_goes_the_group_is_empty_and_stored_so() {
    let mut bench = Bench::new();
    let (_, member) = bench.stable_one();

    assert_eq!(bench.leave(&[(&member, None)]), [ErrorCode::None]);

    assert_eq!(bench.state(), "Empty");
    let stored = &bench.coordinator.stored.group(GROUP).expect("a record").value;
    assert_eq!((stored.generation, stored.members.len()), (2, 0));
    assert_eq!((&stored.protocol, &stored.leader), (&None, &None));
    assert_eq!(stored.protocol_type, "consumer");
    assert_eq!(bench.leave(&[(&member, None)]), [ErrorCode::UnknownMemberId]);
}

#[test]
fn a_batch_of_leavers_has_an_answer_for_each() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_static("i"), join_static("j")]);

    let errors = bench.leave(&[
        (&members[0], None),
        ("stranger", None),
        ("", Some("i")),
        ("", Some("nobody")),
        ("", None),
        ("stranger", Some("j")),
        (&members[2], Some("nobody")),
    ]);

    assert_eq!(
        errors,
        [
            ErrorCode::None,
            ErrorCode::UnknownMemberId,
            ErrorCode::None,
            ErrorCode::UnknownMemberId,
            ErrorCode::UnknownMemberId,
            ErrorCode::FencedInstanceId,
            ErrorCode::UnknownMemberId,
        ]
    );
    assert_eq!(bench.heartbeat(&members[2], 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn leaving_an_unknown_group_is_an_error_of_each_member() {
    let mut bench = Bench::new();
    assert_eq!(bench.leave(&[("a", None), ("b", None)]), [ErrorCode::UnknownMemberId; 2]);
    let request = LeaveGroup { group_id: "".into(), members: Vec::new() };
    let response = bench.call(Request::LeaveGroup(request));
    let Response::LeaveGroup(answer) = response else { panic!("another answer") };
    assert_eq!(answer.error, ErrorCode::InvalidGroupId);
}

#[test]
fn an_id_that_was_handed_out_can_leave() {
    let mut bench = Bench::new();
    let ticket = bench.join(JoinGroup { version: 4, ..join_v3() });
    let member = bench.joined(ticket).member_id;

    assert_eq!(bench.leave(&[(&member, None)]), [ErrorCode::None]);

    let ticket = bench.join(rejoin(&member));
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
}

#[test]
fn what_a_leaver_waits_for_is_answered() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_static("i")]);
    let joins = bench.join(rejoin(&members[0]));
    assert!(bench.waits(joins));

    bench.leave(&[(&members[0], None)]);

    assert_eq!(bench.joined(joins).error, ErrorCode::UnknownMemberId);
    let other = bench.join(JoinGroup { member_id: members[1].clone(), ..join_static("i") });
    assert_eq!(bench.joined(other).members.len(), 1);
    let newcomer = bench.join(join_v3());
    let leader = bench.join(JoinGroup { member_id: members[1].clone(), ..join_static("i") });
    let newcomer = bench.joined(newcomer).member_id;
    bench.joined(leader);
    let syncs = bench.ask(Request::SyncGroup(sync(&newcomer, 3, Vec::new())));
    assert!(bench.waits(syncs));
    bench.leave(&[(&newcomer, None)]);
    assert_eq!(bench.synced(syncs).error, ErrorCode::UnknownMemberId);
}
