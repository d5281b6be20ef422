//! Offsets that transactions commit.

use super::*;

#[test]
fn a_staged_offset_is_seen_once_its_marker_commits_it_and_never_if_it_aborts() {
    for committed in [true, false] {
        let mut bench = Bench::new();
        bench.commit_offsets(commit(3));
        assert_eq!(bench.stage_offsets(stage(producer(1, 0), 7)), [ErrorCode::None]);
        assert_eq!(bench.offset(), 3, "nobody sees it before the end");

        let visible = bench.end(producer(1, 0), committed);

        let expected = VisibleOffset {
            group_id: GROUP.into(),
            topic: TOPIC.into(),
            partition: PartitionIndex(0),
            topic_id: TOPIC_ID,
            offset: 7,
        };
        assert_eq!(visible, if committed { vec![expected] } else { Vec::new() });
        let offset = if committed { 7 } else { 3 };
        assert_eq!((bench.offset(), bench.stable_offset()), (offset, Ok(offset)));
        let before = bench.coordinator.replicated_digest();
        bench.restart();
        assert_eq!(bench.offset(), offset);
        assert_eq!(bench.coordinator.replicated_digest(), before);
        assert_eq!(bench.coordinator.stored.staged().count(), 0);
    }
}

#[test]
fn whoever_wants_it_stable_waits_for_the_end_of_the_transaction_and_others_do_not() {
    let mut bench = Bench::new();
    let mut request = commit(3);
    request.topics = vec![commit_topic(TOPIC, TOPIC_ID, &[(0, 3), (1, 4)])];
    bench.commit_offsets(request);
    bench.stage_offsets(stage(producer(1, 0), 7));
    let tell = |bench: &mut Bench, topics| {
        let found = bench.fetch_as(true, topics);
        let told = |one: &FetchedOffset| (one.partition.0, one.offset, one.error);
        found[0].partitions.iter().map(told).collect::<Vec<_>>()
    };
    let unstable = (0, -1, ErrorCode::UnstableOffsetCommit);
    let asked = || Some(vec![fetch_topic(TOPIC, TOPIC_ID, &[0, 1])]);

    assert_eq!(tell(&mut bench, asked()), [unstable, (1, 4, ErrorCode::None)]);
    assert_eq!(tell(&mut bench, None), [unstable, (1, 4, ErrorCode::None)]);
    assert_eq!(bench.offset(), 3);
    // The same after a restart, until the marker.
    bench.restart();
    assert_eq!(tell(&mut bench, asked()), [unstable, (1, 4, ErrorCode::None)]);
    bench.end(producer(1, 0), false);
    assert_eq!(tell(&mut bench, asked()), [(0, 3, ErrorCode::None), (1, 4, ErrorCode::None)]);
}

#[test]
fn what_a_marker_has_decided_is_told_when_the_marker_is_committed() {
    let mut bench = Bench::new();
    bench.stage_offsets(stage(producer(1, 0), 7));
    let before = bench.log.end();
    let marker = bench.log.append_marker(producer(1, 0), true);
    bench.coordinator.on_marker(ProducerId(1), ProducerEpoch(0), true, marker);
    let asked = OffsetFetch { group_id: GROUP.into(), require_stable: true, topics: None };

    let reads = bench.ask(Request::OffsetFetch(asked));

    bench.coordinator.committed(before);
    bench.collect();
    assert!(bench.waits(reads), "the marker may yet be lost");
    bench.commit();
    assert!(!bench.waits(reads));
}

#[test]
fn of_staged_and_plain_commits_the_later_record_counts() {
    // The plain commit after the staged one.
    let mut bench = Bench::new();
    bench.stage_offsets(stage(producer(1, 0), 7));
    bench.commit_offsets(commit(3));
    assert_eq!(bench.end(producer(1, 0), true), []);
    assert_eq!(bench.offset(), 3);
    bench.restart();
    assert_eq!(bench.offset(), 3);
    // Before it.
    bench.stage_offsets(stage(producer(1, 1), 8));
    bench.end(producer(1, 1), true);
    assert_eq!(bench.offset(), 8);
    bench.restart();
    assert_eq!(bench.offset(), 8);
    // Two transactions, of which the one that staged first ends last.
    bench.stage_offsets(stage(producer(1, 2), 9));
    bench.stage_offsets(stage(producer(2, 0), 10));
    bench.end(producer(2, 0), true);
    assert_eq!(bench.stable_offset(), Err(ErrorCode::UnstableOffsetCommit));
    assert_eq!(bench.end(producer(1, 2), true), []);
    assert_eq!(bench.offset(), 10);
    bench.restart();
    assert_eq!(bench.offset(), 10);
}

#[test]
fn the_last_of_several_offsets_of_one_transaction_counts() {
    let mut bench = Bench::new();
    bench.stage_offsets(stage(producer(1, 0), 7));
    bench.stage_offsets(stage(producer(1, 0), 5));
    bench.end(producer(1, 0), true);
    assert_eq!(bench.offset(), 5);
    assert_eq!(bench.coordinator.stored.offset_count(), 1);
}

#[test]
fn a_marker_ends_its_own_producers_transaction_up_to_its_epoch() {
    let mut bench = Bench::new();
    bench.stage_offsets(stage(producer(1, 4), 7));
    for other in [producer(2, 4), producer(1, 3)] {
        assert_eq!(bench.end(other, true), []);
        assert_eq!(bench.stable_offset(), Err(ErrorCode::UnstableOffsetCommit));
    }
    // Whoever ends a transaction for its producer fences it: the epoch is higher (KIP-890).
    bench.end(producer(1, 5), true);
    assert_eq!(bench.stable_offset(), Ok(7));
    // The marker once more is no harm.
    assert_eq!(bench.end(producer(1, 5), true), []);
    assert_eq!(bench.offset(), 7);
}

#[test]
fn a_member_stages_in_its_generation_and_whoever_says_nothing_is_let() {
    let mut bench = Bench::new();
    let (generation, members) = bench.stable(vec![join_static("i")]);
    let member = &members[0];
    let named = |member: &str, instance: &str, generation| TxnOffsetCommit {
        group_instance_id: Some(instance.into()),
        ..stage_by(member, generation, 9)
    };
    for (request, error) in [
        (stage_by(member, generation, 4), ErrorCode::None),
        (named(member, "i", generation), ErrorCode::None),
        (stage(producer(1, 0), 5), ErrorCode::None),
        (stage_by(member, generation - 1, 9), ErrorCode::IllegalGeneration),
        (stage_by(member, generation + 1, 9), ErrorCode::IllegalGeneration),
        (stage_by(member, -1, 9), ErrorCode::IllegalGeneration),
        (stage_by("stranger", generation, 9), ErrorCode::UnknownMemberId),
        (stage_by("", generation, 9), ErrorCode::UnknownMemberId),
        (named("stranger", "i", generation), ErrorCode::FencedInstanceId),
        (named(member, "other", generation), ErrorCode::UnknownMemberId),
        (named("", "i", -1), ErrorCode::FencedInstanceId),
    ] {
        assert_eq!(bench.stage_offsets(request.clone()), [error], "{request:?}");
    }
    bench.end(producer(1, 0), true);
    assert_eq!(bench.offset(), 5, "what was refused is not staged");
}

#[test]
fn a_group_that_nobody_knows_is_a_store_for_whoever_is_no_member() {
    let mut bench = Bench::new();
    assert_eq!(bench.stage_offsets(stage_by("m", 1, 5)), [ErrorCode::IllegalGeneration]);
    let unnamed = TxnOffsetCommit { group_id: "".into(), ..stage(producer(1, 0), 5) };
    assert_eq!(bench.stage_offsets(unnamed), [ErrorCode::InvalidGroupId]);
    assert_eq!(bench.state(), "Dead");

    // What old clients send, and an empty member's words.
    assert_eq!(bench.stage_offsets(stage_by("m", -1, 5)), [ErrorCode::None]);

    assert_eq!(bench.state(), "Empty", "a group with a staged offset is one");
    let listed = bench.call(Request::ListGroups(ListGroups::default()));
    let Response::ListGroups(listed) = listed else { panic!("another answer") };
    assert_eq!(listed.groups.len(), 1);
    assert_eq!(bench.stage_offsets(stage_by("m", 1, 5)), [ErrorCode::UnknownMemberId]);
    assert_eq!(bench.commit_offsets(commit_by("m", 1, 5)), [ErrorCode::UnknownMemberId]);
    bench.end(producer(1, 0), false);
    assert_eq!(bench.state(), "Dead");
}

#[test]
fn a_rebalance_does_not_hinder_a_transaction() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    bench.join(join_v3());
    assert_eq!(bench.state(), "PreparingRebalance");
    assert_eq!(bench.stage_offsets(stage_by(&member, generation, 4)), [ErrorCode::None]);
    let ticket = bench.join(rejoin(&member));
    let generation = bench.joined(ticket).generation_id;
    assert_eq!(bench.state(), "CompletingRebalance");
    assert_eq!(bench.stage_offsets(stage_by(&member, generation, 5)), [ErrorCode::None]);
}

#[test]
fn a_transaction_is_no_heartbeat() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    for offset in 0..2 {
        bench.pass(seconds(6));
        bench.stage_offsets(stage_by(&member, generation, offset));
    }
    assert_eq!(bench.state(), "Empty");
}

#[test]
fn what_the_log_does_not_take_is_not_staged() {
    for (refusal, told) in [
        (ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::InvalidProducerEpoch, ErrorCode::InvalidProducerEpoch),
        (ErrorCode::InvalidTxnState, ErrorCode::InvalidTxnState),
    ] {
        let mut bench = Bench::new();
        bench.log.refuses = Some(refusal);
        assert_eq!(bench.stage_offsets(stage(producer(1, 0), 2)), [told]);
        assert_eq!(bench.stable_offset(), Ok(-1));
        assert_eq!(bench.coordinator.stored.staged().first(), None);
    }
}

#[test]
fn an_old_client_is_not_told_that_the_coordinator_loads() {
    let mut coordinator = GroupCoordinator::new(Arc::new(GroupConfig::default()));
    for (version, told) in
        [(1, ErrorCode::CoordinatorNotAvailable), (2, ErrorCode::CoordinatorLoadInProgress)]
    {
        let request =
            Request::TxnOffsetCommit(TxnOffsetCommit { version, ..stage(producer(1, 0), 2) });
        coordinator.handle(Now::default(), &mut TestLog::default(), Ticket(1), &request);
        let Some((_, Response::TxnOffsetCommit(answer))) = coordinator.poll_reply() else {
            panic!("another answer")
        };
        assert_eq!(answer.topics[0].partitions[0].1, told);
    }
}

#[test]
fn staged_offsets_have_limits_like_stored_ones() {
    let mut bench = Bench::with(|config| {
        config.offsets_max = 3;
        config.groups_max = 1;
    });
    let staged = |id, offsets: &[(i32, i64)]| TxnOffsetCommit {
        topics: vec![commit_topic(TOPIC, TOPIC_ID, offsets)],
        ..stage(producer(id, 0), 0)
    };
    let (none, full) = (ErrorCode::None, ErrorCode::PolicyViolation);
    assert_eq!(bench.stage_offsets(staged(1, &[(0, 1), (1, 1)])), [none, none]);
    assert_eq!(bench.stage_offsets(staged(1, &[(0, 2), (1, 2)])), [none, none]);
    assert_eq!(bench.stage_offsets(staged(2, &[(0, 1), (1, 1)])), [none, full]);
    let other = TxnOffsetCommit { group_id: "other".into(), ..stage(producer(1, 0), 1) };
    assert_eq!(bench.stage_offsets(other.clone()), [full]);
    bench.end(producer(1, 0), false);
    assert_eq!(bench.stage_offsets(other.clone()), [full], "another group has one");
    bench.end(producer(2, 0), false);
    assert_eq!(bench.stage_offsets(other), [none]);

    let mut long = stage(producer(3, 0), 1);
    long.group_id = "other".into();
    long.topics[0].partitions[0].metadata = Some("x".repeat(4097).into());
    assert_eq!(bench.stage_offsets(long), [ErrorCode::OffsetMetadataTooLarge]);
}

#[test]
fn a_group_that_is_deleted_takes_its_staged_offsets_with_it() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(3));
    let mut request = stage(producer(1, 0), 7);
    request.topics.push(commit_topic("other", Uuid([9; 16]), &[(2, 1)]));
    bench.stage_offsets(request);

    let delete = Request::DeleteGroup(DeleteGroup { group_id: GROUP.into() });
    assert_eq!(bench.call(delete.clone()), Response::DeleteGroup(ErrorCode::None));

    assert_eq!((bench.state(), bench.stable_offset()), ("Dead", Ok(-1)));
    assert_eq!(bench.call(delete), Response::DeleteGroup(ErrorCode::GroupIdNotFound));
    assert_eq!(bench.end(producer(1, 0), true), [], "nothing comes back");
    bench.restart();
    assert_eq!((bench.state(), bench.offset()), ("Dead", -1));
}

#[test]
fn a_staged_offset_that_is_deleted_does_not_come_back() {
    let mut bench = Bench::new();
    bench.stage_offsets(stage(producer(1, 0), 7));
    let topics = vec![fetch_topic(TOPIC, TOPIC_ID, &[0])];
    let delete = OffsetDelete { group_id: GROUP.into(), topics };
    bench.call(Request::OffsetDelete(delete));
    assert_eq!(bench.stable_offset(), Ok(-1));
    assert_eq!(bench.end(producer(1, 0), true), []);
    // A commit after it is no concern of the deletion.
    bench.stage_offsets(stage(producer(1, 0), 8));
    bench.end(producer(1, 0), true);
    assert_eq!(bench.offset(), 8);
}

#[test]
fn a_group_with_staged_offsets_loses_nothing_to_its_retention() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(3));
    let mut request = stage(producer(1, 0), 7);
    request.topics = vec![commit_topic("other", Uuid([9; 16]), &[(2, 1)])];
    bench.stage_offsets(request);
    let kept = Duration::from_mins(7 * 24 * 60 + 20);

    bench.pass(kept);
    assert_eq!(bench.offset(), 3);
    bench.end(producer(1, 0), false);
    bench.pass(Duration::from_mins(10));
    assert_eq!((bench.offset(), bench.state()), (-1, "Dead"));
    // With a group of its own.
    let (generation, member) = bench.stable_one();
    bench.stage_offsets(stage_by(&member, generation, 5));
    bench.leave(&[(&member, None)]);
    bench.pass(kept);
    assert_eq!(bench.state(), "Empty");
    bench.end(producer(1, 0), true);
    assert_eq!(bench.offset(), 5);
}

#[test]
fn staged_offsets_go_with_their_topic_and_never_with_one_of_the_same_name() {
    let gone = Uuid([3; 16]);
    let staged = |id, topic_id, offset| TxnOffsetCommit {
        topics: vec![commit_topic(TOPIC, topic_id, &[(0, offset)])],
        ..stage(producer(id, 0), 0)
    };
    let delete = |bench: &mut Bench| {
        let (now, name) = (bench.now, KafkaString::from(TOPIC));
        bench.coordinator.topic_deleted(now, &mut bench.log, &name, gone);
        bench.pass(Duration::ZERO);
    };
    // Alone it goes at once.
    let mut bench = Bench::new();
    bench.stage_offsets(staged(1, gone, 7));
    delete(&mut bench);
    assert_eq!(bench.coordinator.stored.staged().count(), 0);
    assert_eq!(bench.end(producer(1, 0), true), []);

    // Beside an offset of the topic that is there, stored or staged, it waits for its end.
    for other_is_staged in [false, true] {
        let mut bench = Bench::new();
        if other_is_staged {
            bench.stage_offsets(staged(2, TOPIC_ID, 5));
        } else {
            bench.commit_offsets(commit(5));
        }
        bench.stage_offsets(staged(1, gone, 7));
        delete(&mut bench);
        if other_is_staged {
            bench.end(producer(2, 0), true);
        }
        assert_eq!(bench.offset(), 5);
        bench.end(producer(1, 0), false);
        assert_eq!(bench.offset(), 5);
        bench.pass(Duration::from_mins(10));
        assert_eq!(bench.offset(), 5);
    }

    // One that was stored for the topic that is gone does not pull what is staged for the other.
    let mut bench = Bench::new();
    let mut old = commit(3);
    old.topics[0].topic_id = gone;
    bench.commit_offsets(old);
    bench.stage_offsets(staged(1, TOPIC_ID, 7));
    delete(&mut bench);
    assert_eq!(bench.offset(), -1);
    bench.end(producer(1, 0), true);
    assert_eq!(bench.offset(), 7);
    // And if its transaction is aborted, the old one goes with the next search.
    let mut old = commit(3);
    old.topics[0].topic_id = gone;
    bench.commit_offsets(old);
    bench.stage_offsets(staged(1, TOPIC_ID, 8));
    delete(&mut bench);
    bench.end(producer(1, 0), false);
    bench.pass(Duration::from_mins(10));
    assert_eq!(bench.coordinator.stored.offset_count(), 0);
}

#[test]
fn a_member_from_before_the_deletion_of_a_topic_does_not_stage_by_name() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    let (now, name) = (bench.now, KafkaString::from(TOPIC));
    bench.coordinator.topic_deleted(now, &mut bench.log, &name, Uuid([3; 16]));
    let errors = bench.stage_offsets(stage_by(&member, generation, 50));
    assert_eq!(errors, [ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(bench.stage_offsets(stage(producer(1, 0), 2)), [ErrorCode::None]);
}

#[test]
fn topics_of_staged_offsets_are_told_so_that_a_deletion_is_noticed_after_a_restart() {
    let mut bench = Bench::new();
    bench.stage_offsets(stage(producer(1, 0), 7));
    bench.restart();
    let topics: Vec<_> = bench.coordinator.topics().into_iter().collect();
    assert_eq!(topics, [(KafkaString::from(TOPIC), TOPIC_ID)]);
}

#[test]
fn everyone_who_stages_is_told_when_the_coordinator_ends() {
    let mut bench = Bench::new();
    bench.ask(Request::TxnOffsetCommit(stage(producer(1, 0), 7)));
    let told = bench.coordinator.unload();
    let Response::TxnOffsetCommit(answer) = &told[0].1 else { panic!("another answer") };
    assert_eq!(answer.topics[0].partitions[0].1, ErrorCode::NotCoordinator);
}

mod cleaning {
    use super::*;

    fn bench() -> Bench {
        Bench::with(|config| config.dead_records_min = 100)
    }

    fn dead_records(bench: &mut Bench) {
        for offset in 0..200 {
            bench.commit_offsets(OffsetCommit { group_id: "dead".into(), ..commit(offset) });
        }
    }

    fn clean(bench: &mut Bench) -> Option<Offset> {
        let start = Offset(bench.log.start);
        bench.coordinator.clean(bench.now, &mut bench.log, start).expect("the log takes it");
        bench.commit();
        let to = bench.coordinator.cleaned_to();
        bench.log.start = to.unwrap_or(start).0;
        to
    }

    #[test]
    fn an_open_transaction_is_never_passed_and_costs_no_copies_in_vain() {
        let mut bench = bench();
        dead_records(&mut bench);
        bench.stage_offsets(stage(producer(1, 0), 7));
        let first = Offset(bench.log.end().0 - 1);
        dead_records(&mut bench);

        assert_eq!(clean(&mut bench), Some(first));
        let end = bench.log.end();
        assert_eq!(clean(&mut bench), None);
        assert_eq!(bench.log.end(), end);
        bench.restart();
        bench.end(producer(1, 0), true);
        assert!(clean(&mut bench).is_some_and(|to| to > first));
        bench.restart();
        assert_eq!(bench.offset(), 7);
    }

    #[test]
    fn a_transaction_whose_offsets_were_deleted_is_not_passed_either() {
        let mut bench = bench();
        dead_records(&mut bench);
        bench.stage_offsets(stage(producer(1, 0), 7));
        let first = Offset(bench.log.end().0 - 1);
        bench.call(Request::DeleteGroup(DeleteGroup { group_id: GROUP.into() }));
        dead_records(&mut bench);

        assert_eq!(clean(&mut bench), Some(first));
    }

    #[test]
    fn an_offset_that_is_staged_is_not_copied_over_what_the_transaction_commits() {
        let mut bench = bench();
        bench.commit_offsets(commit(3));
        dead_records(&mut bench);
        bench.stage_offsets(stage(producer(1, 0), 7));
        dead_records(&mut bench);

        let end = bench.log.end();
        assert_eq!(clean(&mut bench), None, "the first record of all is still needed");
        assert_eq!(bench.log.end(), end);
        bench.end(producer(1, 0), true);
        assert_eq!(bench.offset(), 7);
        // Where it stands now it is copied like any other.
        assert!(clean(&mut bench).is_some());
        bench.restart();
        assert_eq!(bench.offset(), 7);
        assert_eq!(bench.coordinator.stored.offset_count(), 2);
    }

    #[test]
    fn what_waits_for_no_transaction_is_copied_from_before_it() {
        let mut bench = bench();
        bench.commit_offsets(OffsetCommit { group_id: "other".into(), ..commit(1) });
        dead_records(&mut bench);
        bench.stage_offsets(stage(producer(1, 0), 7));
        let first = Offset(bench.log.end().0 - 1);
        let batches = bench.log.batches.len();

        assert_eq!(clean(&mut bench), Some(first));

        assert_eq!(bench.log.batches[batches..], [2], "both offsets that stand before it");
    }
}
