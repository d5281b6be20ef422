//! Committed offsets.

use super::*;

#[test]
fn nobody_commits_to_a_group_that_is_unknown_or_empty() {
    let mut bench = Bench::new();
    assert_eq!(bench.offset(), -1);

    assert_eq!(bench.commit_offsets(commit(7)), [ErrorCode::None]);
    assert_eq!(bench.commit_offsets(commit(5)), [ErrorCode::None]);

    assert_eq!(bench.offset(), 5, "an offset may go back by a commit");
    assert_eq!(bench.state(), "Empty");
    let stored = bench.fetch(None);
    assert_eq!(stored.len(), 1);
    assert_eq!((&*stored[0].name, stored[0].topic_id), (TOPIC, TOPIC_ID));
    let expected = FetchedOffset {
        partition: PartitionIndex(0),
        offset: 5,
        leader_epoch: LeaderEpoch(4),
        metadata: "mine".into(),
        error: ErrorCode::None,
    };
    assert_eq!(stored[0].partitions, [expected]);
}

#[test]
fn an_acknowledged_commit_survives_a_restart() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(7));
    let before = bench.fetch(None);
    bench.restart();
    assert_eq!(bench.fetch(None), before);
}

#[test]
fn nobody_commits_while_the_group_has_members() {
    let mut bench = Bench::new();
    bench.stable_one();
    assert_eq!(bench.commit_offsets(commit(7)), [ErrorCode::UnknownMemberId]);
    assert_eq!(bench.offset(), -1);
}

#[test]
fn a_member_commits_in_its_generation_and_in_no_other() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    assert_eq!(bench.commit_offsets(commit_by(&member, generation, 3)), [ErrorCode::None]);
    for (request, error) in [
        (commit_by(&member, generation - 1, 9), ErrorCode::IllegalGeneration),
        (commit_by(&member, generation + 1, 9), ErrorCode::IllegalGeneration),
        (commit_by(&member, -1, 9), ErrorCode::IllegalGeneration),
        (commit_by("stranger", generation, 9), ErrorCode::UnknownMemberId),
        (commit_by("", generation, 9), ErrorCode::UnknownMemberId),
    ] {
        assert_eq!(bench.commit_offsets(request), [error]);
    }
    assert_eq!(bench.offset(), 3);
}

#[test]
fn a_commit_is_taken_while_members_rejoin_and_not_while_they_complete() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    bench.join(join_v3());
    assert_eq!(bench.state(), "PreparingRebalance");
    assert_eq!(bench.commit_offsets(commit_by(&member, generation, 4)), [ErrorCode::None]);

    let ticket = bench.join(rejoin(&member));
    let generation = bench.joined(ticket).generation_id;
    assert_eq!(bench.state(), "CompletingRebalance");
    let errors = bench.commit_offsets(commit_by(&member, generation, 5));
    assert_eq!(errors, [ErrorCode::RebalanceInProgress]);
    assert_eq!(bench.offset(), 4);
}

#[test]
fn a_generation_of_an_unknown_group_is_refused_by_version() {
    let mut bench = Bench::new();
    for (version, error) in [(8, ErrorCode::IllegalGeneration), (9, ErrorCode::GroupIdNotFound)] {
        let request = OffsetCommit { version, ..commit_by("m", 1, 5) };
        assert_eq!(bench.commit_offsets(request), [error]);
        let request = OffsetCommit { version, group_id: "".into(), ..commit_by("m", 1, 5) };
        assert_eq!(bench.commit_offsets(request), [error]);
    }
    // A group that only stores offsets has no members.
    bench.commit_offsets(commit(1));
    assert_eq!(bench.commit_offsets(commit_by("m", 1, 5)), [ErrorCode::UnknownMemberId]);
    assert_eq!(bench.offset(), 1);
}

#[test]
fn the_empty_group_id_is_a_store_like_any_other() {
    let mut bench = Bench::new();
    let request = OffsetCommit { group_id: "".into(), ..commit(5) };
    assert_eq!(bench.commit_offsets(request), [ErrorCode::None]);
}

#[test]
fn a_commit_counts_as_a_heartbeat() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    for offset in 0..4 {
        bench.pass(seconds(6));
        assert_eq!(bench.commit_offsets(commit_by(&member, generation, offset)), [ErrorCode::None]);
    }
    assert_eq!(bench.heartbeat(&member, generation), ErrorCode::None);
}

#[test]
fn metadata_that_is_too_long_is_refused_for_its_partition_alone() {
    let mut bench = Bench::new();
    let mut request = commit(1);
    request.topics = vec![commit_topic(TOPIC, TOPIC_ID, &[(0, 1), (1, 2), (2, 3)])];
    request.topics[0].partitions[0].metadata = Some("x".repeat(4096).into());
    request.topics[0].partitions[1].metadata = Some("x".repeat(4097).into());
    request.topics[0].partitions[2].metadata = None;

    let errors = bench.commit_offsets(request);

    assert_eq!(errors, [ErrorCode::None, ErrorCode::OffsetMetadataTooLarge, ErrorCode::None]);
    let stored = bench.fetch(Some(vec![fetch_topic(TOPIC, TOPIC_ID, &[0, 1, 2])]));
    let offsets: Vec<i64> = stored[0].partitions.iter().map(|one| one.offset).collect();
    assert_eq!(offsets, [1, -1, 3]);
    assert_eq!(stored[0].partitions[2].metadata, "");
    assert_eq!(bench.log.batches, [2], "one batch for the whole request");
}

#[test]
fn a_commit_that_the_log_does_not_take_stores_nothing() {
    for (refusal, told) in [
        (ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::KafkaStorageError, ErrorCode::NotCoordinator),
        (ErrorCode::MessageTooLarge, ErrorCode::UnknownServerError),
    ] {
        let mut bench = Bench::new();
        bench.commit_offsets(commit(1));
        bench.log.refuses = Some(refusal);

        assert_eq!(bench.commit_offsets(commit(2)), [told]);

        assert_eq!(bench.offset(), 1);
    }
}

#[test]
fn offsets_of_a_topic_that_had_the_name_before_are_not_handed_out() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(7));
    let mut offset = |topic_id| {
        let asked = vec![fetch_topic(TOPIC, topic_id, &[0])];
        bench.fetch(Some(asked))[0].partitions[0].offset
    };
    assert_eq!(offset(TOPIC_ID), 7);
    assert_eq!(offset(Uuid([8; 16])), -1);
    assert_eq!(offset(Uuid::ZERO), 7, "whoever does not know the id gets what is there");
}

#[test]
fn offsets_go_with_their_topic() {
    let mut bench = Bench::new();
    let mut request = commit(7);
    request.topics.push(commit_topic("other", Uuid([9; 16]), &[(0, 1)]));
    bench.commit_offsets(request);

    let (now, name) = (bench.now, KafkaString::from(TOPIC));
    bench.coordinator.topic_deleted(now, &mut bench.log, &name, TOPIC_ID);

    assert_eq!(bench.offset(), -1);
    assert_eq!(bench.fetch(None).len(), 1);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.coordinator.stored.offset_count(), 1);
    let now = bench.now;
    // An offset of a topic of the same name that was made before stays.
    bench.commit_offsets(commit(8));
    bench.coordinator.topic_deleted(now, &mut bench.log, &name, Uuid([3; 16]));
    assert_eq!(bench.offset(), 8);
    bench.restart();
    assert_eq!(bench.offset(), 8);
}

#[test]
fn offsets_of_many_deleted_topics_go_together_and_are_hidden_until_then() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..50).map(|number| format!("t{number}")).collect();
    let mut request = commit(7);
    for (number, name) in names.iter().enumerate() {
        request.topics.push(commit_topic(name, Uuid([number as u8 + 100; 16]), &[(0, 1)]));
    }
    bench.commit_offsets(request);
    let (now, batches) = (bench.now, bench.log.batches.len());

    for (number, name) in names.iter().enumerate() {
        let (name, topic_id) = (name.as_str().into(), Uuid([number as u8 + 100; 16]));
        bench.coordinator.topic_deleted(now, &mut bench.log, &name, topic_id);
    }

    assert_eq!(bench.log.batches.len(), batches, "nothing is looked for with each deletion");
    let left: Vec<_> = bench.fetch(None).into_iter().map(|topic| topic.name).collect();
    assert_eq!(left, [KafkaString::from(TOPIC)]);
    // A topic that is made anew under one of the names has what is committed for it, and no more.
    let mut again = commit(8);
    again.topics = vec![commit_topic("t3", Uuid([5; 16]), &[(0, 9)])];
    bench.commit_offsets(again);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.log.batches[batches..], [1, 49], "one commit, and one batch of tombstones");
    assert_eq!(bench.coordinator.stored.offset_count(), 2);
    let asked = vec![fetch_topic("t3", Uuid::ZERO, &[0]), fetch_topic("t4", Uuid::ZERO, &[0])];
    let found: Vec<i64> =
        bench.fetch(Some(asked)).iter().map(|topic| topic.partitions[0].offset).collect();
    assert_eq!(found, [9, -1]);
}

#[test]
fn a_member_from_before_the_deletion_does_not_commit_by_name() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    let (now, name) = (bench.now, KafkaString::from(TOPIC));
    bench.coordinator.topic_deleted(now, &mut bench.log, &name, Uuid([3; 16]));
    let by_name = |generation| OffsetCommit { version: 9, ..commit_by(&member, generation, 50) };

    // A topic of this name is there again; the member speaks of the one before.
    let errors = bench.commit_offsets(by_name(generation));
    assert_eq!(errors, [ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(bench.offset(), -1);
    // By id there is no doubt.
    assert_eq!(bench.commit_offsets(commit_by(&member, generation, 2)), [ErrorCode::None]);
    // Nobody has joined, so nobody is in doubt, and other names are not meant.
    let ticket = bench.join(rejoin(&member));
    let generation = bench.joined(ticket).generation_id;
    let ticket = bench.ask(Request::SyncGroup(sync(&member, generation, Vec::new())));
    bench.synced(ticket);
    assert_eq!(bench.commit_offsets(by_name(generation)), [ErrorCode::None]);
    assert_eq!(bench.offset(), 50);
}

#[test]
fn offsets_that_the_log_did_not_let_go_are_taken_away_later() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(7));
    bench.log.refuses = Some(ErrorCode::KafkaStorageError);
    let (now, name) = (bench.now, KafkaString::from(TOPIC));
    bench.coordinator.topic_deleted(now, &mut bench.log, &name, TOPIC_ID);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.offset(), -1, "nobody sees it");
    assert_eq!(bench.coordinator.stored.offset_count(), 1);

    bench.log.refuses = None;
    bench.pass(Duration::from_mins(10));

    assert_eq!(bench.coordinator.stored.offset_count(), 0);
}

#[test]
fn a_topic_that_is_deleted_while_the_log_loads_loses_its_offsets_then() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(7));
    let mut next = GroupCoordinator::new(bench.coordinator.config.clone());
    let record = bench.log.records[0].clone();
    next.topic_deleted(bench.now, &mut bench.log, &TOPIC.into(), TOPIC_ID);
    next.replay(Offset(0), record.key, record.value).expect("its own");

    next.loaded(bench.now, &mut bench.log, Offset(1), Offset(1));

    assert_eq!(next.stored.offset_count(), 0);
    assert_eq!(bench.log.records[1].value, None);
}

#[test]
fn a_partition_too_many_is_refused() {
    let mut bench = Bench::with(|config| config.offsets_max = 2);
    let request = |offsets: &[(i32, i64)]| {
        let topics = vec![commit_topic(TOPIC, TOPIC_ID, offsets)];
        OffsetCommit { topics, ..commit(0) }
    };
    let errors = bench.commit_offsets(request(&[(0, 1), (1, 1), (2, 1)]));
    assert_eq!(errors, [ErrorCode::None, ErrorCode::None, ErrorCode::PolicyViolation]);
    let errors = bench.commit_offsets(request(&[(1, 2), (2, 2)]));
    assert_eq!(errors, [ErrorCode::None, ErrorCode::PolicyViolation]);
}

#[test]
fn offsets_are_deleted_where_nobody_reads_the_topic() {
    let mut bench = Bench::new();
    let mut request = commit(1);
    request.topics.push(commit_topic("old", Uuid([9; 16]), &[(0, 1), (1, 1)]));
    bench.commit_offsets(request);
    let (generation, member) = bench.stable_one();
    let delete = |bench: &mut Bench| {
        let topics =
            vec![fetch_topic(TOPIC, TOPIC_ID, &[0]), fetch_topic("old", Uuid::ZERO, &[0, 5])];
        let response =
            bench.call(Request::OffsetDelete(OffsetDelete { group_id: GROUP.into(), topics }));
        let Response::OffsetDelete(answer) = response else { panic!("another answer") };
        let errors = answer.topics.iter().flat_map(|topic| &topic.partitions);
        (answer.error, errors.map(|(_, error)| *error).collect::<Vec<_>>())
    };

    let (error, errors) = delete(&mut bench);

    assert_eq!(error, ErrorCode::None);
    let expected = [ErrorCode::GroupSubscribedToTopic, ErrorCode::None, ErrorCode::None];
    assert_eq!(errors, expected);
    assert_eq!(bench.offset(), 1);
    assert_eq!(bench.coordinator.stored.offset_count(), 2);
    assert_eq!(bench.heartbeat(&member, generation), ErrorCode::None);
    bench.leave(&[(&member, None)]);
    assert_eq!(delete(&mut bench), (ErrorCode::None, vec![ErrorCode::None; 3]));
    assert_eq!(bench.offset(), -1);
}

#[test]
fn offsets_of_no_group_or_of_a_group_of_another_kind_are_not_deleted() {
    let mut bench = Bench::new();
    let delete = |group: &str| {
        let topics = vec![fetch_topic(TOPIC, TOPIC_ID, &[0])];
        Request::OffsetDelete(OffsetDelete { group_id: group.into(), topics })
    };
    let connect = JoinGroup { protocol_type: "connect".into(), ..join_v3() };
    bench.join(connect);
    for (group, error) in [
        ("none", ErrorCode::GroupIdNotFound),
        ("", ErrorCode::InvalidGroupId),
        (GROUP, ErrorCode::NonEmptyGroup),
    ] {
        let answer = bench.call(delete(group));
        let expected = OffsetDeleteAnswer { error, topics: Vec::new() };
        assert_eq!(answer, Response::OffsetDelete(expected));
    }
}
