//! What goes without being asked.

use super::*;

/// Minutes between two searches.
const CHECK: u64 = 10;
/// Minutes that offsets are kept.
const KEPT: u64 = 7 * 24 * 60;
const KEPT_MS: i64 = 7 * 24 * 3_600_000;

const fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

#[test]
fn offsets_of_a_group_without_members_are_kept_from_their_commit_on() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(1));
    bench.pass(minutes(KEPT - CHECK));
    assert_eq!(bench.offset(), 1);
    bench.commit_offsets(commit(2));
    bench.pass(minutes(2 * CHECK));
    assert_eq!(bench.offset(), 2, "a later commit counts");

    bench.pass(minutes(KEPT));

    assert_eq!((bench.offset(), bench.state()), (-1, "Dead"));
    bench.restart();
    assert_eq!(bench.offset(), -1);
}

#[test]
fn offsets_of_a_group_are_kept_from_when_it_became_empty() {
    let mut bench = Bench::new();
    let (generation, member) = bench.stable_one();
    bench.commit_offsets(commit_by(&member, generation, 1));
    let day = 24 * 60;
    for _ in 0..9 {
        bench.pass(seconds(5));
        assert_eq!(bench.heartbeat(&member, generation), ErrorCode::None);
    }
    bench.now.wall = bench.now.wall.plus(2 * KEPT_MS);
    assert_eq!(bench.heartbeat(&member, generation), ErrorCode::None);
    bench.leave(&[(&member, None)]);
    bench.pass(minutes(KEPT - day));
    assert_eq!(bench.offset(), 1);
    // The moment is stored with the group.
    bench.restart();
    bench.pass(minutes(day - 2 * CHECK));
    assert_eq!(bench.offset(), 1);

    bench.pass(minutes(3 * CHECK));

    assert_eq!((bench.offset(), bench.state()), (-1, "Dead"));
    bench.restart();
    assert_eq!(bench.state(), "Dead");
}

#[test]
fn a_stable_group_keeps_what_it_reads_and_loses_what_it_reads_no_more() {
    let mut bench = Bench::new();
    let mut request = commit(1);
    request.topics.push(commit_topic("old", Uuid([9; 16]), &[(0, 1)]));
    bench.commit_offsets(request);
    let (generation, member) = bench.stable_one();
    bench.now.wall = bench.now.wall.plus(KEPT_MS);
    for _ in 0..130 {
        bench.pass(seconds(5));
        assert_eq!(bench.heartbeat(&member, generation), ErrorCode::None);
    }

    assert_eq!(bench.offset(), 1);
    assert_eq!(bench.fetch(None).len(), 1);
}

#[test]
fn a_group_of_another_kind_keeps_its_offsets_while_it_has_members() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(1));
    let connect = JoinGroup { protocol_type: "connect".into(), ..join_v3() };
    let ticket = bench.join(connect);
    bench.pass(Duration::ZERO);
    let member = bench.joined(ticket).member_id;
    let request = SyncGroup { protocol_type: None, ..sync(&member, 1, vec![own(&member)]) };
    let ticket = bench.ask(Request::SyncGroup(request));
    bench.synced(ticket);
    bench.now.wall = bench.now.wall.plus(KEPT_MS);
    for _ in 0..130 {
        bench.pass(seconds(5));
        assert_eq!(bench.heartbeat(&member, 1), ErrorCode::None);
    }
    assert_eq!(bench.offset(), 1);
}

#[test]
fn an_old_clients_own_retention_counts_from_the_commit() {
    let mut bench = Bench::new();
    let request = OffsetCommit { version: 4, retention_time_ms: 3_600_000, ..commit(1) };
    bench.commit_offsets(request);
    let value = bench.log.records[0].value.as_ref().expect("a value");
    assert_eq!(value[..2], [0, 1], "only version 1 can say so");
    bench.pass(minutes(59));
    assert_eq!(bench.offset(), 1);

    bench.pass(minutes(2 * CHECK));

    assert_eq!(bench.offset(), -1);
}

#[test]
fn an_empty_group_without_offsets_goes_at_the_next_look() {
    let mut bench = Bench::new();
    let (_, member) = bench.stable_one();
    bench.leave(&[(&member, None)]);
    assert_eq!(bench.state(), "Empty");

    bench.pass(minutes(CHECK));

    assert_eq!(bench.state(), "Dead");
    assert_eq!(bench.log.records.last().expect("a record").value, None);
    assert!(bench.coordinator.stored.groups().is_empty());
}

#[test]
fn a_group_that_somebody_is_about_to_join_is_not_taken_away() {
    let mut bench = Bench::new();
    let (_, member) = bench.stable_one();
    bench.leave(&[(&member, None)]);
    bench.pass(seconds(CHECK * 60 - 2));
    let ticket = bench.join(JoinGroup { version: 4, ..join_v3() });
    let member = bench.joined(ticket).member_id;

    bench.pass(seconds(3));

    let ticket = bench.join(rejoin(&member));
    bench.pass(Duration::ZERO);
    assert_eq!(bench.joined(ticket).error, ErrorCode::None);
}

#[test]
fn a_clock_in_doubt_lets_nothing_expire() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(1));
    bench.log.clock_in_doubt = true;
    bench.pass(minutes(2 * KEPT));
    assert_eq!(bench.offset(), 1);

    bench.log.clock_in_doubt = false;
    bench.pass(minutes(CHECK));

    assert_eq!(bench.offset(), -1);
}

#[test]
fn what_the_log_does_not_let_go_is_looked_at_again() {
    let mut bench = Bench::new();
    bench.commit_offsets(commit(1));
    bench.log.refuses = Some(ErrorCode::KafkaStorageError);
    bench.pass(minutes(KEPT + CHECK));
    assert_eq!(bench.offset(), 1);

    bench.log.refuses = None;
    bench.pass(minutes(CHECK));

    assert_eq!(bench.offset(), -1);
}

#[test]
fn many_groups_are_looked_at_in_turns() {
    let mut bench = Bench::new();
    for group in 0..2_500 {
        bench.ask(Request::OffsetCommit(OffsetCommit {
            group_id: format!("g-{group:04}").into(),
            ..commit(1)
        }));
    }
    bench.now.wall = bench.now.wall.plus(KEPT_MS);
    bench.log.batches.clear();
    let at = bench.coordinator.next_deadline().expect("a search");
    bench.advance(at);

    for left in [1_500, 500, 0] {
        assert_eq!(bench.coordinator.next_deadline(), Some(at), "the rest is due at once");
        bench.coordinator.on_timer(bench.now, &mut bench.log);
        assert_eq!(bench.coordinator.stored.offset_count(), left);
    }

    assert_eq!(bench.log.batches, [1_000, 1_000, 500]);
    assert_eq!(bench.coordinator.next_deadline(), Some(at + minutes(CHECK)));
}
