//! Members with a name of their own (KIP-345).

use super::*;

fn back(instance: &str, member: &str) -> JoinGroup {
    JoinGroup { member_id: member.into(), ..join_static(instance) }
}

#[test]
fn a_static_member_that_comes_back_keeps_its_assignment_and_disturbs_nobody() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_static("i"), join_static("j")]);
    let leader = bench.coordinator.groups[GROUP].leader();
    let (instance, old, other) = if leader == members[0] {
        ("j", &members[1], &members[0])
    } else {
        ("i", &members[0], &members[1])
    };

    let ticket = bench.join(join_static(instance));

    assert!(bench.waits(ticket), "its new id is not committed");
    let answer = bench.joined(ticket);
    assert_eq!((answer.error, answer.generation_id), (ErrorCode::None, 1));
    assert_ne!(&answer.member_id, old);
    assert_eq!((&answer.leader, answer.skip_assignment), (&leader, false));
    assert_eq!(bench.state(), "Stable");
    let ticket = bench.ask(Request::SyncGroup(sync(&answer.member_id, 1, Vec::new())));
    assert_eq!(&bench.synced(ticket).assignment, old.as_bytes(), "what the old id was assigned");
    assert_eq!(bench.heartbeat(other, 1), ErrorCode::None);
    assert_eq!(bench.heartbeat_as(old, Some(instance), 1), ErrorCode::FencedInstanceId);
    assert_eq!(bench.heartbeat(old, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_leader_that_comes_back_is_told_to_skip_the_assignment_from_version_9_on() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_static("i"), join_v3()]);
    let leader = bench.coordinator.groups[GROUP].leader();
    if leader != members[0] {
        // Let the static one lead.
        bench.leave(&[(&leader, None)]);
        let ticket = bench.join(back("i", &members[0]));
        bench.joined(ticket);
        let ticket = bench.ask(Request::SyncGroup(sync(&members[0], 2, vec![own(&members[0])])));
        bench.synced(ticket);
    }
    let count = bench.coordinator.groups[GROUP].members().len();

    let ticket = bench.join(join_static("i"));
    let new = bench.joined(ticket);

    assert_eq!((&new.leader, new.skip_assignment), (&new.member_id, true));
    assert_eq!(new.members.len(), count);

    // An older client would make an assignment that nobody waits for, so it is told otherwise.
    let ticket = bench.join(JoinGroup { version: 8, ..join_static("i") });
    let newer = bench.joined(ticket);
    assert_eq!((&newer.leader, newer.skip_assignment), (&new.member_id, false));
    assert!(newer.members.is_empty());
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn a_static_member_with_another_protocol_asks_for_a_rebalance() {
    let mut bench = Bench::new();
    bench.stable(vec![join_static("i")]);

    let protocols = vec![protocol("sticky"), protocol("range")];
    let ticket = bench.join(JoinGroup { protocols, ..join_static("i") });

    let answer = bench.joined(ticket);
    assert_eq!((answer.generation_id, answer.protocol_name), (2, Some("sticky".into())));
}

#[test]
fn a_rejoin_between_join_and_sync_starts_a_new_round_and_fences_the_old_id() {
    let mut bench = Bench::new();
    let tickets = [bench.join(join_v3()), bench.join(join_static("i"))];
    bench.pass(Duration::ZERO);
    let [leader, named] = tickets.map(|ticket| bench.joined(ticket).member_id);
    let waits = bench.ask(Request::SyncGroup(SyncGroup {
        group_instance_id: Some("i".into()),
        ..sync(&named, 1, Vec::new())
    }));
    assert!(bench.waits(waits));

    let ticket = bench.join(join_static("i"));

    assert_eq!(bench.synced(waits).error, ErrorCode::FencedInstanceId);
    assert_eq!(bench.heartbeat_as(&named, Some("i"), 1), ErrorCode::FencedInstanceId);
    assert_eq!(bench.heartbeat(&leader, 1), ErrorCode::RebalanceInProgress);
    let second = bench.join(rejoin(&leader));
    assert_eq!(bench.joined(ticket).generation_id, 2);
    assert_eq!(bench.joined(second).generation_id, 2);
}

#[test]
fn a_rejoin_while_the_old_id_waits_in_join_fences_it() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_static("i"), join_v3()]);
    let protocols = vec![JoinProtocol { name: "range".into(), metadata: subscription(&["x"]) }];
    let old = bench.join(JoinGroup { protocols, ..back("i", &members[0]) });
    assert!(bench.waits(old));

    let new = bench.join(join_static("i"));

    let fenced = bench.joined(old);
    assert_eq!((fenced.error, &fenced.member_id), (ErrorCode::FencedInstanceId, &members[0]));
    assert!(bench.waits(new));
    let other = bench.join(rejoin(&members[1]));
    assert_eq!(bench.joined(new).generation_id, 2);
    assert_eq!(bench.joined(other).generation_id, 2);
}

#[test]
fn a_second_live_process_with_the_same_name_is_fenced() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_static("i")]);
    let ticket = bench.join(join_static("i"));
    bench.joined(ticket);

    let ticket = bench.join(back("i", &members[0]));
    assert_eq!(bench.joined(ticket).error, ErrorCode::FencedInstanceId);
    let ticket = bench.ask(Request::SyncGroup(SyncGroup {
        group_instance_id: Some("i".into()),
        ..sync(&members[0], 1, Vec::new())
    }));
    assert_eq!(bench.synced(ticket).error, ErrorCode::FencedInstanceId);
    let commit =
        OffsetCommit { group_instance_id: Some("i".into()), ..commit_by(&members[0], 1, 5) };
    assert_eq!(bench.commit_offsets(commit), [ErrorCode::FencedInstanceId]);
    let errors = bench.leave(&[(&members[0], Some("i"))]);
    assert_eq!(errors, [ErrorCode::FencedInstanceId]);
}

#[test]
fn an_unknown_name_with_a_member_id_is_an_unknown_member() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_static("i")]);
    let ticket = bench.join(back("nobody", &members[0]));
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_that_does_not_rejoin_keeps_its_place_until_its_session_ends() {
    let mut bench = Bench::new();
    let long = JoinGroup { session_timeout_ms: 300_000, ..join_static("i") };
    let (_, members) = bench.stable(vec![join_v3(), long]);
    let ticket = bench.join(rejoin(&members[0]));

    bench.pass(Duration::from_millis(REBALANCE_MS as u64));

    let answer = bench.joined(ticket);
    assert_eq!((answer.error, answer.members.len()), (ErrorCode::None, 2));
}

#[test]
fn absent_static_members_that_nobody_need_wait_for_do_not_make_the_coordinator_spin() {
    let mut bench = Bench::new();
    let hasty = JoinGroup { rebalance_timeout_ms: 0, ..join_static("i") };
    let (_, members) = bench.stable(vec![join_v3(), hasty]);
    bench.leave(&[(&members[0], None)]);

    bench.coordinator.on_timer(bench.now, &mut bench.log);

    assert_eq!(bench.state(), "PreparingRebalance");
    assert!(bench.coordinator.next_deadline() > Some(bench.now.mono));
    bench.pass(Duration::from_millis(SESSION_MS as u64));
    assert_eq!(bench.state(), "Empty");
}

#[test]
fn where_the_new_id_is_not_stored_the_old_one_stays() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_static("i")]);
    bench.log.refuses = Some(ErrorCode::NotEnoughReplicas);

    let ticket = bench.join(join_static("i"));

    let answer = bench.joined(ticket);
    let told = (answer.error, &*answer.member_id);
    assert_eq!(told, (ErrorCode::CoordinatorNotAvailable, ""));
    assert_eq!(bench.heartbeat_as(&members[0], Some("i"), 1), ErrorCode::None);
    bench.pass(Duration::from_millis(SESSION_MS as u64));
    assert_eq!(bench.heartbeat_as(&members[0], Some("i"), 1), ErrorCode::UnknownMemberId);
}
