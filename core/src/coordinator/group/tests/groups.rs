//! Telling what groups there are, and taking them away.

use super::*;

fn list(bench: &mut Bench, states: &[&str], types: &[&str]) -> Vec<(String, &'static str)> {
    let words = |words: &[&str]| words.iter().map(|word| KafkaString::from(*word)).collect();
    let request = ListGroups { states_filter: words(states), types_filter: words(types) };
    let response = bench.call(Request::ListGroups(request));
    let Response::ListGroups(answer) = response else { panic!("another answer") };
    answer
        .groups
        .iter()
        .map(|group| {
            assert_eq!(group.group_type, "classic");
            (group.group_id.to_string(), group.group_state)
        })
        .collect()
}

fn delete(bench: &mut Bench, group: &str) -> ErrorCode {
    let response = bench.call(Request::DeleteGroup(DeleteGroup { group_id: group.into() }));
    let Response::DeleteGroup(error) = response else { panic!("another answer") };
    error
}

#[test]
fn a_stable_group_tells_its_protocol_and_what_its_members_say_and_do() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_static("i")]);

    let told = bench.describe(6);

    assert_eq!((told.error, told.group_state), (ErrorCode::None, "Stable"));
    assert_eq!((&*told.protocol_type, &*told.protocol_data), ("consumer", "range"));
    let expected = DescribedMember {
        member_id: members[0].clone(),
        group_instance_id: Some("i".into()),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        metadata: subscription(&[TOPIC]),
        assignment: members[0].as_bytes().clone(),
    };
    assert_eq!(told.members, [expected]);

    bench.join(join_v3());
    let told = bench.describe(6);
    assert_eq!((told.group_state, &*told.protocol_data), ("PreparingRebalance", ""));
    assert_eq!(told.members.len(), 2);
    assert!(told.members.iter().all(|one| one.metadata.is_empty()));
    let first = told.members.iter().find(|one| one.member_id == members[0]).expect("is in it");
    assert_eq!(&first.assignment, members[0].as_bytes(), "until the next one is handed out");
}

#[test]
fn a_group_that_does_not_exist_is_dead_and_an_error_from_version_6_on() {
    let mut bench = Bench::new();
    let told = bench.describe(5);
    assert_eq!((told.error, told.group_state), (ErrorCode::None, "Dead"));
    let told = bench.describe(6);
    assert_eq!((told.error, told.group_state), (ErrorCode::GroupIdNotFound, "Dead"));
    assert_eq!(told.error_message.as_deref(), Some("Group g not found."));
}

#[test]
fn groups_are_listed_by_state_and_type_in_any_case_of_letters() {
    let mut bench = Bench::new();
    bench.stable_one();
    bench.commit_offsets(OffsetCommit { group_id: "store".into(), ..commit(1) });
    bench.join(JoinGroup { group_id: "a".into(), ..join_v3() });
    let all = [("a", "PreparingRebalance"), (GROUP, "Stable"), ("store", "Empty")]
        .map(|(group, state)| (group.to_owned(), state));

    assert_eq!(list(&mut bench, &[], &[]), all);
    assert_eq!(list(&mut bench, &[" stable", "EMPTY"], &["Classic"]), all[1..]);
    assert_eq!(list(&mut bench, &["Dead"], &[]), []);
    assert_eq!(list(&mut bench, &[], &["consumer", "share"]), []);
}

#[test]
fn an_empty_group_is_deleted_with_its_offsets_and_does_not_come_back() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    bench.commit_offsets(commit_by(&member, generation, 3));
    assert_eq!(delete(&mut bench, GROUP), ErrorCode::NonEmptyGroup);
    bench.leave(&[(&member, None)]);

    assert_eq!(delete(&mut bench, GROUP), ErrorCode::None);

    assert_eq!(delete(&mut bench, GROUP), ErrorCode::GroupIdNotFound);
    assert_eq!((bench.state(), bench.offset()), ("Dead", -1));
    bench.restart();
    assert_eq!((bench.state(), bench.offset()), ("Dead", -1));
}

#[test]
fn a_group_that_only_stores_offsets_is_deleted_too() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(1));
    assert_eq!(delete(&mut bench, GROUP), ErrorCode::None);
    assert_eq!(bench.offset(), -1);
    assert_eq!(delete(&mut bench, GROUP), ErrorCode::GroupIdNotFound);
    assert_eq!(delete(&mut bench, ""), ErrorCode::GroupIdNotFound);
}

#[test]
fn a_group_that_the_log_does_not_let_go_stays() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(1));
    bench.log.refuses = Some(ErrorCode::NotEnoughReplicas);
    assert_eq!(delete(&mut bench, GROUP), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(bench.offset(), 1);
}

#[test]
fn a_group_of_many_offsets_is_deleted_in_several_batches() {
    let mut bench = Bench::new();
    let offsets: Vec<(i32, i64)> = (0..2_500).map(|partition| (partition, 1)).collect();
    let topics = vec![commit_topic(TOPIC, TOPIC_ID, &offsets)];
    bench.commit_offsets(OffsetCommit { topics, ..commit(1) });

    assert_eq!(delete(&mut bench, GROUP), ErrorCode::None);

    assert_eq!(bench.log.batches, [2_500, 1_000, 1_000, 501]);
    assert_eq!(bench.coordinator.stored.offset_count(), 0);
}

#[test]
fn long_names_do_not_make_a_batch_that_no_log_would_take() {
    let mut bench = Bench::new();
    let group_id = KafkaString::from("g".repeat(30_000));
    let offsets: Vec<(i32, i64)> = (0..5).map(|partition| (partition, 1)).collect();
    let topics = vec![commit_topic(TOPIC, TOPIC_ID, &offsets)];
    bench.commit_offsets(OffsetCommit { group_id: group_id.clone(), topics, ..commit(1) });

    assert_eq!(delete(&mut bench, &group_id), ErrorCode::None);

    assert_eq!(bench.log.batches, [5, 2, 2, 2]);
}

#[test]
fn an_id_that_was_handed_out_goes_with_the_deleted_group() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(1));
    let ticket = bench.join(JoinGroup { version: 4, ..join_v3() });
    let member = bench.joined(ticket).member_id;

    assert_eq!(delete(&mut bench, GROUP), ErrorCode::None);

    let ticket = bench.join(rejoin(&member));
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
    assert_eq!(bench.state(), "Dead");
}
