//! Before a coordinator serves, and after it has ended.

use super::*;
use crate::wire::tests::golden::{bytes_of, lines};

fn every_request() -> Vec<Request> {
    let group_id = || KafkaString::from(GROUP);
    vec![
        Request::JoinGroup(join_v3()),
        Request::SyncGroup(sync("m", 1, Vec::new())),
        Request::LeaveGroup(LeaveGroup { group_id: group_id(), members: Vec::new() }),
        Request::OffsetCommit(commit(1)),
        Request::OffsetFetch(OffsetFetch {
            group_id: group_id(),
            require_stable: false,
            topics: Some(vec![fetch_topic(TOPIC, TOPIC_ID, &[0])]),
        }),
        Request::OffsetFetch(OffsetFetch {
            group_id: group_id(),
            require_stable: true,
            topics: None,
        }),
        Request::TxnOffsetCommit(stage(producer(1, 0), 1)),
        Request::OffsetDelete(OffsetDelete { group_id: group_id(), topics: Vec::new() }),
        Request::DescribeGroup(DescribeGroup { version: 5, group_id: group_id() }),
        Request::ListGroups(ListGroups::default()),
        Request::DeleteGroup(DeleteGroup { group_id: group_id() }),
    ]
}

fn error_of(response: &Response) -> ErrorCode {
    match response {
        Response::JoinGroup(answer) => answer.error,
        Response::SyncGroup(answer) => answer.error,
        Response::Heartbeat(error) | Response::DeleteGroup(error) => *error,
        Response::LeaveGroup(answer) => answer.error,
        Response::OffsetCommit(answer) | Response::TxnOffsetCommit(answer) => {
            answer.topics[0].partitions[0].1
        }
        Response::OffsetFetch(answer) => answer.error,
        Response::OffsetDelete(answer) => answer.error,
        Response::DescribeGroup(answer) => answer.error,
        Response::ListGroups(answer) => answer.error,
    }
}

#[test]
fn whatever_is_asked_of_a_coordinator_that_loads_is_to_be_asked_again() {
    let mut log = TestLog::default();
    let mut coordinator = GroupCoordinator::new(Arc::new(GroupConfig::default()));
    let now = Now::default();
    for (index, request) in every_request().iter().enumerate() {
        coordinator.handle(now, &mut log, Ticket(index as u64), request);
        let (ticket, response) = coordinator.poll_reply().expect("at once");
        assert_eq!(ticket, Ticket(index as u64));
        assert_eq!(error_of(&response), ErrorCode::CoordinatorLoadInProgress, "{request:?}");
    }
    // A heartbeat is taken blindly: the session begins anew when the log is loaded.
    let heartbeat = Heartbeat {
        group_id: GROUP.into(),
        generation_id: 1,
        member_id: "m".into(),
        group_instance_id: None,
    };
    coordinator.handle(now, &mut log, Ticket(99), &Request::Heartbeat(heartbeat));
    let expected = (Ticket(99), Response::Heartbeat(ErrorCode::None));
    assert_eq!(coordinator.poll_reply(), Some(expected));
}

/// Takes a request's text out of one frame, as decoding does.
fn in_frame(frame: &Bytes, text: &str) -> KafkaString {
    let at = frame.windows(text.len()).position(|part| part == text.as_bytes()).expect("in it");
    KafkaString::from_utf8(frame.slice(at..at + text.len())).expect("text")
}

#[test]
fn nothing_that_is_kept_keeps_a_frame_alive() {
    let frame = Bytes::copy_from_slice(b"g consumer range client /127.0.0.1 instance orders mine");
    let text = |text: &str| in_frame(&frame, text);
    let mut bench = Bench::new();
    let join = |member_id: KafkaString, group_instance_id| JoinGroup {
        group_id: text("g"),
        member_id,
        group_instance_id,
        protocol_type: text("consumer"),
        protocols: vec![JoinProtocol { name: text("range"), metadata: frame.slice(3..9) }],
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        ..join_v3()
    };
    let pending = bench.join(JoinGroup { version: 4, ..join("".into(), None) });
    bench.joined(pending);
    let member = bench.join(join("".into(), Some(text("instance"))));
    bench.pass(Duration::ZERO);
    let member = bench.joined(member).member_id;
    let mut request = sync(&member, 1, Vec::new());
    request.group_id = text("g");
    request.assignments.push(Assignment { member_id: member.clone(), assignment: frame.clone() });
    let ticket = bench.ask(Request::SyncGroup(request));
    bench.synced(ticket);
    let mut request = OffsetCommit { group_id: text("g"), ..commit_by(&member, 1, 5) };
    request.topics[0].name = text("orders");
    request.topics[0].partitions[0].metadata = Some(text("mine"));
    assert_eq!(bench.commit_offsets(request), [ErrorCode::None]);
    let other = OffsetCommit { group_id: text("instance"), ..commit(1) };
    assert_eq!(bench.commit_offsets(other), [ErrorCode::None]);
    let name = text("orders");
    bench.coordinator.topic_deleted(bench.now, &mut bench.log, &name, Uuid([1; 16]));
    let ticket = bench.join(join(member, Some(text("instance"))));
    assert!(bench.waits(ticket), "for the id that was handed out");
    let request = Heartbeat {
        group_id: text("g"),
        generation_id: 2,
        member_id: text("client"),
        group_instance_id: None,
    };
    bench.call(Request::Heartbeat(request));
    bench.replies.clear();
    drop(name);

    assert!(frame.is_unique(), "only the test holds it");
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn replies_leave_in_order_and_only_when_what_they_rest_on_is_committed() {
    let mut bench = Bench::new();
    let first = bench.ask(Request::OffsetCommit(commit(1)));
    let middle = bench.log.end();
    let second = bench.ask(Request::OffsetCommit(commit(2)));
    // A read and an error rest on what they saw.
    let reads = bench.ask(every_request()[4].clone());
    let fails = bench.ask(Request::SyncGroup(sync("m", 1, Vec::new())));
    assert!(bench.replies.is_empty());

    bench.coordinator.committed(middle);
    bench.collect();
    assert_eq!(bench.replies.keys().copied().collect::<Vec<_>>(), [first]);

    bench.coordinator.committed(bench.log.end());
    let order: Vec<Ticket> =
        std::iter::from_fn(|| bench.coordinator.poll_reply()).map(|(ticket, _)| ticket).collect();
    assert_eq!(order, [second, reads, fails]);
}

#[test]
fn everyone_who_has_no_reply_is_told_when_the_coordinator_ends() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_v3()]);
    let joins = bench.join(rejoin(&members[0]));
    let other_group = || KafkaString::from("other");
    let ticket = bench.join(JoinGroup { group_id: other_group(), ..join_v3() });
    let ticket2 = bench.join(JoinGroup { group_id: other_group(), ..join_v3() });
    bench.pass(Duration::from_millis(1));
    let (a, b) = (bench.joined(ticket), bench.joined(ticket2));
    let follower = if a.leader == a.member_id { b.member_id } else { a.member_id };
    let sync = SyncGroup { group_id: other_group(), ..sync(&follower, 1, Vec::new()) };
    let syncs = bench.ask(Request::SyncGroup(sync));
    let commits =
        bench.ask(Request::OffsetCommit(OffsetCommit { group_id: "third".into(), ..commit(1) }));

    let told: BTreeMap<Ticket, Response> = bench.coordinator.unload().into_iter().collect();

    assert_eq!(told.keys().copied().collect::<Vec<_>>(), [joins, syncs, commits]);
    for response in told.values() {
        assert_eq!(error_of(response), ErrorCode::NotCoordinator);
    }
}

#[test]
fn members_come_back_after_a_restart_with_a_fresh_session() {
    let mut bench = Bench::new();
    let (generation, members) = bench.stable(vec![join_v3(), join_static("i")]);
    bench.pass(Duration::from_millis(SESSION_MS as u64 - 100));
    let before = bench.coordinator.replicated_digest();

    bench.restart();

    assert_eq!(bench.coordinator.replicated_digest(), before);
    assert_eq!(bench.state(), "Stable");
    bench.pass(Duration::from_millis(SESSION_MS as u64 - 1));
    assert_eq!(bench.heartbeat(&members[0], generation), ErrorCode::None);
    assert_eq!(bench.heartbeat_as(&members[1], Some("i"), generation), ErrorCode::None);
    let ticket = bench.ask(Request::SyncGroup(sync(&members[0], generation, Vec::new())));
    assert_eq!(&bench.synced(ticket).assignment, members[0].as_bytes());
    bench.pass(Duration::from_millis(SESSION_MS as u64));
    assert_eq!(bench.state(), "Empty");
}

#[test]
fn members_that_stay_silent_after_a_restart_are_out() {
    let mut bench = Bench::new();
    bench.stable(vec![join_v3(), join_static("i")]);
    bench.restart();
    bench.pass(Duration::from_millis(SESSION_MS as u64 - 1));
    assert_eq!(bench.state(), "Stable");

    bench.pass(Duration::from_millis(1));

    assert_eq!(bench.state(), "Empty");
}

#[test]
fn a_static_member_outlives_a_restart_of_the_broker() {
    let mut bench = Bench::new();
    let long = || JoinGroup { session_timeout_ms: 1_800_000, ..join_static("1") };
    let (generation, members) = bench.stable(vec![long()]);
    bench.commit_offsets(OffsetCommit {
        group_instance_id: Some("1".into()),
        ..commit_by(&members[0], generation, 7)
    });

    bench.restart();

    // The consumer was restarted, too, and comes without an id.
    let ticket = bench.join(long());
    let answer = bench.joined(ticket);
    assert_eq!((answer.error, answer.generation_id), (ErrorCode::None, generation));
    assert_eq!(bench.heartbeat_as(&answer.member_id, Some("1"), generation), ErrorCode::None);
    assert_eq!(bench.offset(), 7);
    // A consumer that was not restarted goes on with the id that it has now.
    bench.restart();
    assert_eq!(bench.heartbeat_as(&answer.member_id, Some("1"), generation), ErrorCode::None);
}

#[test]
fn a_join_that_was_not_stored_is_forgotten_by_a_restart() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3()]);
    let newcomer = bench.join(join_v3());
    let leader = bench.join(rejoin(&members[0]));
    let newcomer = bench.joined(newcomer).member_id;
    assert_eq!(bench.joined(leader).generation_id, 2);

    bench.restart();

    assert_eq!(bench.heartbeat(&newcomer, 2), ErrorCode::UnknownMemberId);
    assert_eq!(bench.heartbeat(&members[0], 2), ErrorCode::IllegalGeneration);
    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::None);
}

#[test]
fn a_group_that_is_over_its_size_when_loaded_sheds_members() {
    let mut bench = Bench::new();
    let (_, members) = bench.stable(vec![join_v3(), join_v3(), join_v3()]);
    let config = GroupConfig { members_max: 2, ..GroupConfig::clone(&bench.coordinator.config) };
    bench.coordinator.config = Arc::new(config);

    bench.restart();

    assert_eq!(bench.state(), "PreparingRebalance");
    let tickets: Vec<Ticket> = members.iter().map(|member| bench.join(rejoin(member))).collect();
    let errors: Vec<ErrorCode> =
        tickets.into_iter().map(|ticket| bench.joined(ticket).error).collect();
    assert_eq!(errors, [ErrorCode::None, ErrorCode::None, ErrorCode::GroupMaxSizeReached]);
}

#[test]
fn what_kafka_wrote_is_taken_in_and_kinds_of_another_purpose_are_passed_over() {
    let mut coordinator = GroupCoordinator::new(Arc::new(GroupConfig::default()));
    let mut count = 0;
    for (offset, line) in lines("group_records.jsonl")
        .iter()
        .filter(|line| line["part"].as_str() == Some("record") && !line["value_hex"].is_null())
        .enumerate()
    {
        let offset = Offset(offset as i64);
        let value = Some(bytes_of(&line["value_hex"]));
        coordinator.replay(offset, bytes_of(&line["key_hex"]), value).expect("Kafka's own");
        count += 1;
    }
    assert!(count > 10);
    let mut log = TestLog::default();
    coordinator.loaded(Now::default(), &mut log, Offset(count), Offset(count));

    let group = &coordinator.groups["shipping-svc"];
    assert_eq!((group.members().len(), group.generation_id), (2, 1));
    assert_eq!(group.phase().name(), "Stable");
    assert_eq!(coordinator.stored.offset_count(), 2);
    let offset = coordinator.stored.offset("shipping-svc", "user-profiles", 3);
    assert!(offset.is_some());
    assert!(coordinator.first_unknown.is_some());
}

#[test]
fn a_record_that_cannot_be_read_is_an_error_and_not_a_lost_offset() {
    let mut coordinator = GroupCoordinator::new(Arc::new(GroupConfig::default()));
    let key = Bytes::from_static(b"\0\x01\0\x01g\0\x01t\0\0\0\0");
    let value = Bytes::from_static(&[0, 9, 0]);
    assert!(coordinator.replay(Offset(0), key, Some(value)).is_err());
}
