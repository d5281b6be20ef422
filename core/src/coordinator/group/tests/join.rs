//! Coming in.

use super::*;

#[test]
fn a_dynamic_member_is_given_an_id_first_from_version_4_on() {
    let mut bench = Bench::new();

    let ticket = bench.join(JoinGroup { version: 4, ..join_v3() });
    let told = bench.joined(ticket);
    let ticket = bench.join(JoinGroup { version: 4, ..rejoin(&told.member_id) });
    bench.pass(Duration::ZERO);
    let joined = bench.joined(ticket);

    assert_eq!(told.error, ErrorCode::MemberIdRequired);
    assert_eq!(told.member_id, "client-00000000-0000-0000-0000-000000000001");
    assert_eq!((told.generation_id, &*told.leader), (-1, ""));
    assert_eq!((joined.error, joined.generation_id), (ErrorCode::None, 1));
    assert_eq!(joined.member_id, told.member_id);
    assert_eq!(joined.leader, told.member_id);
    assert_eq!(joined.protocol_name, Some("range".into()));
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn a_member_of_version_3_and_a_static_one_join_at_once() {
    let mut bench = Bench::new();
    let dynamic = bench.join(join_v3());
    let named = bench.join(join_static("i"));
    bench.pass(Duration::ZERO);

    let (dynamic, named) = (bench.joined(dynamic), bench.joined(named));

    assert_eq!((dynamic.error, named.error), (ErrorCode::None, ErrorCode::None));
    assert!(named.member_id.starts_with("i-"));
    let leader = [&dynamic, &named].into_iter().find(|one| one.member_id == one.leader);
    let members = &leader.expect("a leader").members;
    let instance = members.iter().find(|one| one.member_id == named.member_id);
    assert_eq!(instance.expect("in the list").group_instance_id, Some("i".into()));
}

#[test]
fn an_id_that_was_handed_out_and_never_joins_is_forgotten_after_its_session() {
    let mut bench = Bench::new();
    let (_, stays) = bench.stable_one();
    let ticket = bench.join(JoinGroup { version: 4, ..join_v3() });
    let late = bench.joined(ticket).member_id;
    // The group rebalances and waits for the id, too.
    let rejoined = bench.join(rejoin(&stays));
    assert!(bench.waits(rejoined));

    bench.pass(Duration::from_millis(SESSION_MS as u64));

    assert_eq!(bench.joined(rejoined).generation_id, 2);
    let ticket = bench.join(rejoin(&late));
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_group_that_nobody_came_into_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let ticket = bench.join(JoinGroup { version: 4, ..join_v3() });
    bench.joined(ticket);
    assert_eq!(bench.state(), "Empty");

    bench.pass(Duration::from_millis(SESSION_MS as u64));

    assert_eq!(bench.state(), "Dead");
    assert!(bench.log.records.is_empty());
}

#[test]
fn a_member_that_brings_too_much_is_refused_and_nothing_of_it_is_kept() {
    let mut bench = Bench::new();
    let mut large = join_v3();
    large.protocols[0].metadata = vec![0; 1 << 20].into();

    let ticket = bench.join(large);

    assert_eq!(bench.joined(ticket).error, ErrorCode::InvalidRequest);
    assert_eq!(bench.state(), "Dead");
}

#[test]
fn members_share_a_bound_of_bytes_and_those_that_are_there_stay() {
    let mut bench = Bench::with(|config| {
        config.initial_rebalance_delay = Duration::ZERO;
        config.members_bytes_max = 10_000;
    });
    let (generation, members) = bench.stable(vec![join_v3(), join_v3()]);
    let of = |bytes: usize, mut request: JoinGroup| {
        request.protocols[0].metadata = vec![0; bytes].into();
        request
    };
    let other = || JoinGroup { group_id: "other".into(), ..join_v3() };

    for version in [3, 9] {
        let ticket = bench.join(of(8_400, JoinGroup { version, ..other() }));
        assert_eq!(bench.joined(ticket).error, ErrorCode::PolicyViolation);
    }
    let ticket = bench.join(of(8_900, rejoin(&members[1])));
    assert_eq!(bench.joined(ticket).error, ErrorCode::PolicyViolation, "nor may one grow");

    assert_eq!(bench.coordinator.groups.len(), 1);
    assert_eq!(bench.heartbeat(&members[1], generation), ErrorCode::None);
    // What is given back may be taken by others.
    bench.leave(&[(&members[0], None), (&members[1], None)]);
    assert_eq!(bench.coordinator.members_bytes, 0);
    let ticket = bench.join(of(8_400, other()));
    bench.pass(Duration::ZERO);
    assert_eq!(bench.joined(ticket).error, ErrorCode::None);
    assert!((8_900..10_000).contains(&bench.coordinator.members_bytes));
}

#[test]
fn assignments_and_ids_that_are_handed_out_count_as_bytes_of_members() {
    let mut bench = Bench::with(|config| {
        config.initial_rebalance_delay = Duration::ZERO;
        config.members_bytes_max = 10_000;
    });
    let ticket = bench.join(join_v3());
    bench.pass(Duration::ZERO);
    let member = bench.joined(ticket).member_id;
    let given = |bytes: usize| {
        let assignment = vec![0; bytes].into();
        let assignment = Assignment { member_id: member.clone(), assignment };
        Request::SyncGroup(sync(&member, 1, vec![assignment]))
    };

    let ticket = bench.ask(given(9_500));

    assert_eq!(bench.synced(ticket).error, ErrorCode::PolicyViolation);
    assert_eq!(bench.state(), "PreparingRebalance");
    let mut handed_out = 0;
    loop {
        let id = handed_out.to_string();
        let ticket =
            bench.join(JoinGroup { version: 9, group_id: id.as_str().into(), ..join_v3() });
        let error = bench.joined(ticket).error;
        if error != ErrorCode::MemberIdRequired {
            break assert_eq!(error, ErrorCode::PolicyViolation);
        }
        handed_out += 1;
    }
    assert!((20..40).contains(&handed_out), "{handed_out}");
    bench.pass(Duration::from_mins(2));
    assert_eq!(bench.coordinator.members_bytes, 0, "all sessions have ended");
}

#[test]
fn an_unknown_member_id_is_refused_with_and_without_a_group() {
    let mut bench = Bench::new();
    let ticket = bench.join(rejoin("stranger"));
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
    bench.stable_one();
    let ticket = bench.join(rejoin("stranger"));
    let answer = bench.joined(ticket);
    assert_eq!((answer.error, &*answer.member_id), (ErrorCode::UnknownMemberId, "stranger"));
}

#[test]
fn sessions_outside_the_bounds_and_empty_group_ids_are_refused() {
    let mut bench = Bench::new();
    for session_timeout_ms in [5_999, 1_800_001, -1, 0] {
        let ticket = bench.join(JoinGroup { session_timeout_ms, ..join_v3() });
        assert_eq!(bench.joined(ticket).error, ErrorCode::InvalidSessionTimeout);
    }
    let ticket = bench.join(JoinGroup { group_id: "".into(), ..join_v3() });
    assert_eq!(bench.joined(ticket).error, ErrorCode::InvalidGroupId);
    for session_timeout_ms in [6_000, 1_800_000] {
        let group_id = session_timeout_ms.to_string().into();
        let ticket = bench.join(JoinGroup { group_id, session_timeout_ms, ..join_v3() });
        assert!(bench.waits(ticket));
    }
}

#[test]
fn protocols_that_not_everybody_knows_are_refused() {
    let mut bench = Bench::new();
    bench.stable_one();
    for request in [
        JoinGroup { protocols: vec![protocol("sticky")], ..join_v3() },
        JoinGroup { protocol_type: "connect".into(), ..join_v3() },
        JoinGroup { protocols: Vec::new(), ..join_v3() },
        JoinGroup { protocols: Vec::new(), group_id: "other".into(), ..join_v3() },
        JoinGroup { protocol_type: "".into(), group_id: "other".into(), ..join_v3() },
    ] {
        let ticket = bench.join(request);
        assert_eq!(bench.joined(ticket).error, ErrorCode::InconsistentGroupProtocol);
    }
    assert!(!bench.coordinator.groups.contains_key("other"));
}

#[test]
fn the_protocol_that_most_like_best_among_the_common_ones_is_taken() {
    let mut bench = Bench::new();
    let lists = [["a", "b", "c"], ["b", "c", "x"], ["c", "b", "y"]];
    let tickets = lists.map(|names| {
        let protocols = names.into_iter().map(protocol).collect();
        bench.join(JoinGroup { protocols, ..join_v3() })
    });

    bench.pass(Duration::ZERO);

    for ticket in tickets {
        assert_eq!(bench.joined(ticket).protocol_name, Some("b".into()));
    }
}

#[test]
fn the_first_generation_waits_its_delay_and_longer_while_new_members_come() {
    let mut bench = Bench::with(|_| {});
    let first = bench.join(join_v3());
    bench.pass(Duration::from_millis(2_900));
    let second = bench.join(join_v3());
    // The delay is extended once for the second.
    bench.pass(seconds(3));
    assert!(bench.waits(first) && bench.waits(second));

    bench.pass(Duration::from_millis(100));

    assert_eq!(bench.joined(first).generation_id, 1);
    assert_eq!(bench.joined(second).generation_id, 1);
}

#[test]
fn the_initial_delay_is_bounded_by_the_rebalance_timeout() {
    let mut bench = Bench::with(|_| {});
    let short = || JoinGroup { rebalance_timeout_ms: 7_000, ..join_v3() };
    let first = bench.join(short());
    for _ in 0..3 {
        bench.pass(Duration::from_millis(2_200));
        let ticket = bench.join(short());
        assert!(bench.waits(ticket));
    }
    assert!(bench.waits(first));

    bench.pass(Duration::from_millis(400));

    assert_eq!(bench.joined(first).generation_id, 1);
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_out() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_v3()]);
    let back = bench.join(rejoin(&members[0]));
    // The other one only heartbeats.
    for _ in 0..REBALANCE_MS / 5_000 {
        assert!(bench.waits(back));
        assert_eq!(bench.heartbeat(&members[1], 1), ErrorCode::RebalanceInProgress);
        bench.pass(seconds(5));
    }

    let answer = bench.joined(back);

    assert_eq!((answer.generation_id, answer.members.len()), (2, 1));
    assert_eq!(bench.heartbeat(&members[1], 1), ErrorCode::UnknownMemberId);
}

#[test]
fn another_leads_when_the_leader_does_not_rejoin() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_v3()]);
    let ticket = bench.join(JoinGroup {
        protocols: vec![JoinProtocol { name: "range".into(), metadata: subscription(&["more"]) }],
        ..rejoin(&members[1])
    });
    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::RebalanceInProgress);

    bench.pass(Duration::from_millis(REBALANCE_MS as u64));

    let answer = bench.joined(ticket);
    assert_eq!((&answer.leader, answer.members.len()), (&members[1], 1));
}

#[test]
fn a_join_with_the_same_words_is_told_the_generation_that_is_there() {
    let mut bench = Bench::new();
    let tickets = [bench.join(join_v3()), bench.join(join_v3())];
    bench.pass(Duration::ZERO);
    let answers = tickets.map(|ticket| bench.joined(ticket));
    let leader = answers.iter().find(|one| one.leader == one.member_id).expect("a leader").clone();
    let other = answers.iter().find(|one| one.leader != one.member_id).expect("another").clone();

    // While the group completes, both are told again; the answer may have been lost.
    for lost in [&leader, &other] {
        let ticket = bench.join(rejoin(&lost.member_id));
        assert_eq!(&bench.joined(ticket), lost);
    }
    let assignments = vec![own(&leader.member_id), own(&other.member_id)];
    let ticket = bench.ask(Request::SyncGroup(sync(&leader.member_id, 1, assignments)));
    bench.synced(ticket);

    // While it is stable, a follower is told again, and the leader asks for a rebalance.
    let ticket = bench.join(rejoin(&other.member_id));
    assert_eq!(&bench.joined(ticket), &other);
    assert_eq!(bench.state(), "Stable");
    let ticket = bench.join(rejoin(&leader.member_id));
    assert!(bench.waits(ticket));
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn new_words_ask_for_a_rebalance() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_v3()]);
    let other = JoinProtocol { name: "range".into(), metadata: subscription(&["another"]) };
    let ticket = bench.join(JoinGroup { protocols: vec![other], ..rejoin(&members[1]) });
    assert!(bench.waits(ticket));
    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::RebalanceInProgress);

    let leader = bench.join(rejoin(&members[0]));

    let (leader, follower) = (bench.joined(leader), bench.joined(ticket));
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    let told = leader.members.iter().find(|one| one.member_id == members[1]).expect("a member");
    assert_eq!(told.metadata, subscription(&["another"]));
}

#[test]
fn a_full_group_takes_nobody_more() {
    let mut bench = Bench::with(|config| {
        config.initial_rebalance_delay = Duration::ZERO;
        config.members_max = 2;
    });
    bench.stable(vec![join_v3(), join_v3()]);

    let ticket = bench.join(join_v3());

    assert_eq!(bench.joined(ticket).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn ids_that_are_handed_out_are_bounded_like_members() {
    let mut bench = Bench::with(|config| config.members_max = 2);
    let v4 = || JoinGroup { version: 4, ..join_v3() };
    let errors: Vec<ErrorCode> = (0..3)
        .map(|_| {
            let ticket = bench.join(v4());
            bench.joined(ticket).error
        })
        .collect();
    assert_eq!(errors[..2], [ErrorCode::MemberIdRequired; 2]);
    assert_eq!(errors[2], ErrorCode::GroupMaxSizeReached);
}

#[test]
fn a_group_too_many_is_refused_and_leaves_nothing() {
    let mut bench = Bench::with(|config| config.groups_max = 1);
    bench.join(join_v3());

    let ticket = bench.join(JoinGroup { group_id: "second".into(), ..join_v3() });

    assert_eq!(bench.joined(ticket).error, ErrorCode::PolicyViolation);
    assert_eq!(bench.coordinator.groups.len(), 1);
}

#[test]
fn a_new_member_that_waits_too_long_is_given_up() {
    let mut bench = Bench::new();
    let hour =
        JoinGroup { rebalance_timeout_ms: 3_600_000, session_timeout_ms: 1_800_000, ..join_v3() };
    bench.stable(vec![hour]);
    let ticket = bench.join(join_v3());
    bench.pass(Duration::from_millis(299_999));
    assert!(bench.waits(ticket));

    bench.pass(Duration::from_millis(1));

    let answer = bench.joined(ticket);
    assert_eq!((answer.error, &*answer.member_id), (ErrorCode::UnknownMemberId, ""));
}

#[test]
fn a_join_that_is_sent_again_takes_the_place_of_the_first() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_v3()]);
    let first = bench.join(rejoin(&members[0]));

    let again = bench.join(rejoin(&members[0]));

    assert_eq!(bench.joined(first).error, ErrorCode::RebalanceInProgress);
    assert!(bench.waits(again));
    let other = bench.join(rejoin(&members[1]));
    assert_eq!(bench.joined(again).generation_id, 2);
    assert_eq!(bench.joined(other).generation_id, 2);
}

#[test]
fn version_0_waits_for_rejoins_as_long_as_the_session() {
    let mut bench = Bench::new();
    let v0 = || JoinGroup { version: 0, rebalance_timeout_ms: -1, ..join_v3() };
    let (_, members) = bench.stable(vec![v0(), v0()]);
    let ticket = bench.join(JoinGroup { member_id: members[0].clone(), ..v0() });
    bench.heartbeat(&members[1], 1);
    bench.pass(Duration::from_millis(SESSION_MS as u64 - 1));
    assert!(bench.waits(ticket));

    bench.pass(Duration::from_millis(1));

    assert_eq!(bench.joined(ticket).members.len(), 1);
}

#[test]
fn a_client_id_that_leaves_no_room_for_the_member_id_is_refused() {
    let mut bench = Bench::new();
    let ticket = bench.join(JoinGroup { client_id: "x".repeat(32_767).into(), ..join_v3() });
    assert_eq!(bench.joined(ticket).error, ErrorCode::InvalidRequest);
    assert_eq!(bench.state(), "Dead");
}
