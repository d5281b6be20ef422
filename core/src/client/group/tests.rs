//! The group machine against a coordinator whose answers are made by hand.

use super::assignor::{Member, assignment_blob, read_assignment};
use super::*;
use crate::client::test_broker::{Asked, TestBroker, network_config};
use crate::ids::PartitionIndex;
use crate::wire::api::find_coordinator::{Coordinator as Found, FindCoordinatorResponse};
use crate::wire::api::heartbeat::HeartbeatResponse;
use crate::wire::api::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use crate::wire::api::leave_group::LeaveGroupResponse;
use crate::wire::api::offset_commit::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::wire::api::offset_fetch::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::wire::api::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::{ApiKey, Request};

const HEARTBEAT: Duration = Duration::from_secs(3);
const BACKOFF: Duration = Duration::from_millis(100);

/// A member of the group `g`, and its broker.
struct World {
    group: Group,
    broker: TestBroker,
}

impl World {
    fn new(assignors: &[Assignor]) -> Self {
        Self::with(assignors, |_| {})
    }

    fn with(assignors: &[Assignor], change: impl FnOnce(&mut GroupConfig)) -> Self {
        let mut config = GroupConfig::new(network_config(), "g".into());
        config.assignors = assignors.to_vec();
        change(&mut config);
        let broker = TestBroker::new(&[("orders", 4), ("more", 2)]);
        Self { group: Group::new(config), broker }
    }

    /// One that alone holds the four partitions of `orders`.
    fn alone(assignor: Assignor) -> Self {
        let mut world = Self::new(&[assignor]);
        world.subscribe(&["orders"]);
        world.find();
        world.give_id();
        world.enter(1, &[]);
        world.sync(&orders([0, 1, 2, 3]));
        assert_eq!(world.group.owned(), &orders([0, 1, 2, 3]));
        world.events();
        world
    }

    fn subscribe(&mut self, topics: &[&str]) {
        let topics = topics.iter().map(|topic| KafkaString::from(*topic)).collect();
        self.group.subscribe(self.broker.now, topics);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            while let Some(effect) = self.group.poll_effect() {
                self.broker.take(effect);
            }
            let Some(input) = self.broker.inputs.pop_front() else {
                return;
            };
            self.group.handle(self.broker.now, input);
        }
    }

    /// Lets time pass, waking the machine at each of its deadlines.
    fn pass(&mut self, time: Duration) {
        let until = self.broker.now.mono + time;
        while let Some(deadline) = self.group.next_deadline().filter(|at| *at <= until) {
            assert!(deadline > self.broker.now.mono, "no deadline stands in the past");
            let step = deadline - self.broker.now.mono;
            self.broker.pass(step);
            self.group.handle(self.broker.now, Input::Wakeup);
            self.settle();
        }
        let rest = until - self.broker.now.mono;
        self.broker.pass(rest);
    }

    fn events(&mut self) -> Vec<GroupEvent> {
        std::iter::from_fn(|| self.group.poll_event()).collect()
    }

    fn answer(&mut self, asked: &Asked, response: impl Into<crate::wire::Response>) {
        self.broker.answer(asked, response);
        self.settle();
    }

    /// Tells that the broker coordinates the group.
    fn find(&mut self) {
        let asked = self.broker.next();
        assert!(matches!(asked.body, Request::FindCoordinator(_)), "{:?}", asked.body);
        let found = Found { key: "g".into(), node_id: 1, ..Found::default() };
        let response = FindCoordinatorResponse { coordinators: vec![found], ..Default::default() };
        self.answer(&asked, response);
    }

    fn next_join(&mut self) -> (Asked, JoinGroupRequest) {
        let asked = self.broker.next();
        let Request::JoinGroup(request) = asked.body.clone() else { panic!("{:?}", asked.body) };
        (asked, request)
    }

    fn next_sync(&mut self) -> (Asked, SyncGroupRequest) {
        let asked = self.broker.next();
        let Request::SyncGroup(request) = asked.body.clone() else { panic!("{:?}", asked.body) };
        (asked, request)
    }

    /// Sends the join back with the id `m`.
    fn give_id(&mut self) {
        let (asked, request) = self.next_join();
        assert_eq!(request.member_id, "");
        self.answer(&asked, refuse_join(ErrorCode::MemberIdRequired));
    }

    /// Lets the member into a round, as the leader of itself and `others`.
    fn enter(&mut self, generation_id: i32, others: &[JoinGroupResponseMember]) {
        let (asked, request) = self.next_join();
        assert_eq!(request.member_id, "m");
        let own = JoinGroupResponseMember {
            member_id: "m".into(),
            metadata: request.protocols[0].metadata.clone(),
            ..Default::default()
        };
        let response = JoinGroupResponse {
            leader: "m".into(),
            members: [&[own], others].concat(),
            protocol_name: Some(request.protocols[0].name.clone()),
            ..joined(generation_id)
        };
        self.answer(&asked, response);
    }

    fn sync(&mut self, places: &BTreeSet<Place>) {
        let (asked, _) = self.next_sync();
        let response =
            SyncGroupResponse { assignment: assignment_blob(places), ..Default::default() };
        self.answer(&asked, response);
    }

    fn next_heartbeat(&mut self) -> Asked {
        self.pass(HEARTBEAT);
        let asked = self.broker.next();
        assert!(matches!(asked.body, Request::Heartbeat(_)), "{:?}", asked.body);
        asked
    }

    fn beat(&mut self, error: ErrorCode) {
        let asked = self.next_heartbeat();
        let response = HeartbeatResponse { error_code: error.code(), ..Default::default() };
        self.answer(&asked, response);
    }

    fn commit(&mut self, offset: i64) -> OffsetsId {
        let offsets = orders([0, 3]).into_iter().map(|place| (place, Offset(offset).into()));
        let id = self.group.commit(self.broker.now, offsets.collect());
        self.settle();
        id
    }

    fn answer_commit(&mut self, error: ErrorCode) -> i32 {
        let asked = self.broker.next();
        let Request::OffsetCommit(request) = &asked.body else { panic!("{:?}", asked.body) };
        let generation_id = request.generation_id_or_member_epoch;
        let partitions =
            request.topics[0].partitions.iter().map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
            });
        let topic = OffsetCommitResponseTopic {
            name: request.topics[0].name.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        };
        let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
        self.answer(&asked, response);
        generation_id
    }

    /// The token of the only event, by which partitions are to be given up.
    fn told_to_revoke(&mut self) -> (RevokeToken, BTreeSet<Place>) {
        match self.events().as_slice() {
            [GroupEvent::Revoke { token, places }] => (*token, places.clone()),
            other => panic!("{other:?}"),
        }
    }
}

fn orders<const N: usize>(indexes: [i32; N]) -> BTreeSet<Place> {
    indexes.into_iter().map(|index| ("orders".into(), PartitionIndex(index))).collect()
}

/// An entry into a round of which another member is the leader.
fn joined(generation_id: i32) -> JoinGroupResponse {
    JoinGroupResponse {
        generation_id,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        leader: "other".into(),
        member_id: "m".into(),
        ..Default::default()
    }
}

fn refuse_join(error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: error.code(),
        member_id: "m".into(),
        ..JoinGroupResponse::default()
    }
}

fn another(assignor: Assignor, topics: &[&str]) -> JoinGroupResponseMember {
    let topics = topics.iter().map(|topic| KafkaString::from(*topic)).collect();
    JoinGroupResponseMember {
        member_id: "other".into(),
        metadata: assignor.subscription(&topics, &BTreeSet::new(), -1, None),
        ..Default::default()
    }
}

fn own_claim(request: &JoinGroupRequest) -> Member {
    Member::from_blob(&"m".into(), None, request.protocols[0].metadata.clone())
}

#[test]
fn nothing_is_connected_to_before_something_is_asked_for() {
    let mut world = World::new(&[Assignor::Range]);
    world.settle();
    assert_eq!((world.broker.connects, world.group.next_deadline()), (0, None));
}

#[test]
fn a_member_joins_under_the_id_it_is_given_and_holds_what_it_is_assigned() {
    let mut world = World::new(&[Assignor::Range, Assignor::CooperativeSticky]);
    world.subscribe(&["orders"]);
    world.find();
    world.give_id();
    let (asked, request) = world.next_join();
    assert_eq!(request.member_id, "m");
    assert_eq!((request.session_timeout_ms, request.rebalance_timeout_ms), (45_000, 300_000));
    let names: Vec<&str> = request.protocols.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["range", "cooperative-sticky"]);
    world.answer(&asked, joined(7));

    let (asked, request) = world.next_sync();
    assert_eq!((request.generation_id, request.assignments.len()), (7, 0));
    let assignment = assignment_blob(&orders([1, 2]));
    world.answer(&asked, SyncGroupResponse { assignment, ..Default::default() });

    let added = orders([1, 2]);
    assert_eq!(world.events(), [GroupEvent::Assigned { owned: added.clone(), added }]);
    assert_eq!(world.group.owned_generation(), 7);
    let asked = world.next_heartbeat();
    let Request::Heartbeat(request) = &asked.body else { unreachable!("it is one") };
    assert_eq!((request.generation_id, &*request.member_id), (7, "m"));
}

#[test]
fn the_leader_assigns_the_topics_of_all_members() {
    let mut world = World::new(&[Assignor::Range]);
    world.subscribe(&["orders"]);
    world.find();
    world.give_id();
    world.enter(1, &[another(Assignor::Range, &["orders", "more", "missing"])]);

    let (_, request) = world.next_sync();
    let given: BTreeMap<&str, usize> = request
        .assignments
        .iter()
        .map(|one| (&*one.member_id, read_assignment(one.assignment.clone()).expect("ours").len()))
        .collect();
    assert_eq!(given, BTreeMap::from([("m", 2), ("other", 4)]));
}

#[test]
fn a_returning_leader_whose_assignment_is_skipped_sends_none_and_still_watches() {
    let mut world = World::with(&[Assignor::Range], |config| {
        config.instance_id = Some("instance".into());
    });
    world.subscribe(&["orders"]);
    world.find();
    let (asked, request) = world.next_join();
    assert_eq!(request.group_instance_id.as_deref(), Some("instance"));
    let member = JoinGroupResponseMember {
        member_id: "m".into(),
        metadata: request.protocols[0].metadata.clone(),
        ..Default::default()
    };
    let response = JoinGroupResponse {
        leader: "m".into(),
        skip_assignment: true,
        members: vec![member],
        ..joined(3)
    };
    world.answer(&asked, response);
    let (asked, request) = world.next_sync();
    assert_eq!(request.assignments, []);
    let assignment = assignment_blob(&orders([0, 1, 2, 3]));
    world.answer(&asked, SyncGroupResponse { assignment, ..Default::default() });
    world.events();

    world.broker.topics.insert("orders", 5);
    world.pass(Duration::from_mins(6));
    assert!(world.broker.asked.iter().any(|asked| matches!(asked.body, Request::Heartbeat(_))));
    assert_eq!(world.told_to_revoke().1, orders([0, 1, 2, 3]), "a partition was added");
}

#[test]
fn an_eager_member_gives_everything_up_and_stores_offsets_before_it_joins_again() {
    let mut world = World::alone(Assignor::Range);
    world.beat(ErrorCode::RebalanceInProgress);
    let (token, places) = world.told_to_revoke();
    assert_eq!(places, orders([0, 1, 2, 3]));
    let id = world.commit(9);
    world.group.revoked(world.broker.now, token);
    world.settle();
    assert_eq!(world.broker.asked.len(), 1, "the join waits for the commit");

    assert_eq!(world.answer_commit(ErrorCode::None), 1);
    let stored = orders([0, 3]).into_iter().map(|place| (place, Ok(()))).collect();
    assert_eq!(world.events(), [GroupEvent::Committed { id, results: stored }]);
    let (_, request) = world.next_join();
    assert_eq!(own_claim(&request).owned, BTreeSet::new());
    assert_eq!(request.reason.as_deref(), Some("the group rebalances"));
}

#[test]
fn a_cooperative_member_keeps_what_it_has_and_gives_up_only_what_is_taken() {
    let mut world = World::alone(Assignor::CooperativeSticky);
    world.beat(ErrorCode::RebalanceInProgress);
    assert_eq!(world.events(), [], "nothing is given up before the join");
    let (asked, request) = world.next_join();
    let claim = own_claim(&request);
    assert_eq!((claim.owned, claim.generation_id), (orders([0, 1, 2, 3]), 1));
    let protocol_name = Some("cooperative-sticky".into());
    world.answer(&asked, JoinGroupResponse { protocol_name, ..joined(2) });
    world.sync(&orders([0, 1]));

    let events = world.events();
    let [GroupEvent::Revoke { token, places }, GroupEvent::Assigned { added, owned }] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((places, added, owned), (&orders([2, 3]), &orders([]), &orders([0, 1])));
    assert!(world.broker.asked.is_empty(), "what is read cannot be given to others");
    world.group.revoked(world.broker.now, *token);
    world.settle();
    let claim = own_claim(&world.next_join().1);
    assert_eq!((claim.owned, claim.generation_id), (orders([0, 1]), 2));
}

#[test]
fn partitions_that_are_not_given_up_in_time_are_lost() {
    let mut world = World::alone(Assignor::Range);
    world.beat(ErrorCode::RebalanceInProgress);
    let (token, places) = world.told_to_revoke();
    world.pass(Duration::from_mins(6));
    assert_eq!(world.events(), [GroupEvent::Lost(places)]);
    world.group.revoked(world.broker.now, token);
    assert!(world.group.owned().is_empty());
}

#[test]
fn that_older_partitions_were_given_up_says_nothing_about_those_of_today() {
    let mut world = World::alone(Assignor::Range);
    world.beat(ErrorCode::RebalanceInProgress);
    let (old, _) = world.told_to_revoke();
    world.beat(ErrorCode::IllegalGeneration);
    world.events();
    world.enter(2, &[]);
    world.sync(&orders([0, 1]));
    world.events();
    world.beat(ErrorCode::RebalanceInProgress);
    let (today, _) = world.told_to_revoke();

    world.group.revoked(world.broker.now, old);
    world.settle();
    assert!(world.broker.asked.is_empty(), "it still reads");
    world.group.revoked(world.broker.now, today);
    world.settle();
    world.next_join();
}

#[test]
fn a_member_that_the_group_does_not_know_loses_everything_and_joins_anew() {
    for (error, id) in [(ErrorCode::UnknownMemberId, ""), (ErrorCode::IllegalGeneration, "m")] {
        let mut world = World::alone(Assignor::CooperativeSticky);
        world.beat(error);
        assert_eq!(world.events(), [GroupEvent::Lost(orders([0, 1, 2, 3]))]);
        let (_, request) = world.next_join();
        assert_eq!(request.member_id, id);
        let claim = own_claim(&request);
        assert_eq!((claim.owned, claim.generation_id), (orders([]), -1));
    }
}

#[test]
fn a_member_whose_name_another_has_taken_stops_for_good() {
    let mut world = World::alone(Assignor::Range);
    world.beat(ErrorCode::FencedInstanceId);
    let fenced = ClientError::Broker(ErrorCode::FencedInstanceId);
    let lost = GroupEvent::Lost(orders([0, 1, 2, 3]));
    assert_eq!(world.events(), [lost, GroupEvent::Failed(fenced)]);
    world.pass(Duration::from_mins(1));
    assert!(world.broker.asked.is_empty());
}

#[test]
fn a_coordinator_that_is_elsewhere_is_looked_for_and_the_membership_goes_on() {
    let mut world = World::alone(Assignor::Range);
    let id = world.commit(5);
    world.answer_commit(ErrorCode::NotCoordinator);
    world.pass(BACKOFF);
    world.find();
    assert_eq!(world.answer_commit(ErrorCode::CoordinatorLoadInProgress), 1);
    world.pass(BACKOFF);
    world.answer_commit(ErrorCode::None);
    let stored = orders([0, 3]).into_iter().map(|place| (place, Ok(()))).collect();
    assert_eq!(world.events(), [GroupEvent::Committed { id, results: stored }]);
    assert_eq!(world.group.owned().len(), 4);
}

#[test]
fn a_lost_connection_costs_no_membership() {
    let mut world = World::alone(Assignor::Range);
    let asked = world.next_heartbeat();
    world.group.handle(world.broker.now, Input::Disconnected(asked.link));
    world.settle();
    world.pass(BACKOFF);
    world.find();
    world.beat(ErrorCode::None);
    assert_eq!((world.events(), world.group.owned().len()), (vec![], 4));
}

#[test]
fn where_nobody_listens_the_pauses_grow() {
    let mut world = World::new(&[Assignor::Range]);
    world.broker.up = false;
    world.subscribe(&["orders"]);
    world.pass(Duration::from_mins(1));
    assert!((30..90).contains(&world.broker.connects), "{}", world.broker.connects);
}

#[test]
fn a_commit_during_a_round_waits_for_it_and_goes_only_for_what_is_still_held() {
    let mut world = World::alone(Assignor::CooperativeSticky);
    world.beat(ErrorCode::RebalanceInProgress);
    let (asked, _) = world.next_join();
    let id = world.commit(8);
    assert!(world.broker.asked.is_empty(), "it would wait behind the join");
    let protocol_name = Some("cooperative-sticky".into());
    world.answer(&asked, JoinGroupResponse { protocol_name, ..joined(2) });
    // Partition 3 was taken and another one gave it up at once, so that it is not held any more.
    world.group.membership.owned.remove(&("orders".into(), PartitionIndex(3)));
    world.sync(&orders([0, 1, 2]));

    assert_eq!(world.answer_commit(ErrorCode::None), 2, "in the generation that came of it");
    let gone = Err(ClientError::Broker(ErrorCode::IllegalGeneration));
    let results = orders([0, 3]).into_iter().zip([Ok(()), gone]).collect();
    let events = world.events();
    assert!(events.contains(&GroupEvent::Committed { id, results }), "{events:?}");
}

#[test]
fn a_commit_that_the_group_refuses_for_good_ends_with_its_code() {
    let mut world = World::alone(Assignor::Range);
    for error in [ErrorCode::OffsetMetadataTooLarge, ErrorCode::UnknownTopicOrPartition] {
        let id = world.commit(5);
        world.answer_commit(error);
        let refused = || Err(ClientError::Broker(error));
        let results = orders([0, 3]).into_iter().map(|place| (place, refused())).collect();
        assert_eq!(world.events(), [GroupEvent::Committed { id, results }]);
    }
    world.commit(5);
    world.answer_commit(ErrorCode::UnknownMemberId);
    assert!(world.events().contains(&GroupEvent::Lost(orders([0, 1, 2, 3]))));
}

#[test]
fn commits_are_sent_one_after_the_other() {
    let mut world = World::alone(Assignor::Range);
    world.commit(5);
    world.commit(6);
    assert_eq!(world.broker.asked.len(), 1);
    world.answer_commit(ErrorCode::None);
    assert_eq!(world.broker.asked.len(), 1);
}

#[test]
fn a_commit_that_is_never_answered_ends_at_its_deadline() {
    let mut world = World::with(&[Assignor::Range], |config| {
        config.api_timeout = Duration::from_secs(2);
    });
    world.broker.up = false;
    let id = world.commit(1);
    world.pass(Duration::from_secs(3));
    let late = || Err(ClientError::TimedOut);
    let results = orders([0, 3]).into_iter().map(|place| (place, late())).collect();
    assert_eq!(world.events(), [GroupEvent::Committed { id, results }]);
}

#[test]
fn a_reader_without_membership_stores_under_no_generation() {
    let mut world = World::new(&[Assignor::Range]);
    world.commit(4);
    world.find();
    let Some(Request::OffsetCommit(request)) = world.broker.asked.front().map(|one| &one.body)
    else {
        panic!("{:?}", world.broker.asked)
    };
    assert_eq!((request.generation_id_or_member_epoch, &*request.member_id), (-1, ""));
}

#[test]
fn stored_offsets_are_read_from_both_forms_of_the_answer() {
    for max_version in [1, 7, 8, 9, 10] {
        let mut world = World::new(&[Assignor::Range]);
        let range = world.broker.ranges.iter_mut().find(|range| range.api_key == 9);
        range.expect("there").max_version = max_version;
        let id = world.group.fetch(world.broker.now, orders([0, 3]));
        world.settle();
        world.find();
        let asked = world.broker.next();
        assert_eq!(asked.version, max_version.min(9));
        let one = |index: i32| OffsetFetchResponsePartition {
            partition_index: index,
            committed_offset: if index == 0 { 17 } else { -1 },
            metadata: Some("words".into()),
            ..Default::default()
        };
        let of_group = |index: i32| OffsetFetchResponsePartitions {
            partition_index: index,
            committed_offset: one(index).committed_offset,
            metadata: one(index).metadata,
            ..Default::default()
        };
        let group = OffsetFetchResponseGroup {
            group_id: "g".into(),
            topics: vec![OffsetFetchResponseTopics {
                name: "orders".into(),
                partitions: vec![of_group(0), of_group(3)],
                ..Default::default()
            }],
            ..Default::default()
        };
        let topic =
            OffsetFetchResponseTopic { name: "orders".into(), partitions: vec![one(0), one(3)] };
        let response =
            OffsetFetchResponse { topics: vec![topic], groups: vec![group], ..Default::default() };
        world.answer(&asked, response);

        let stored = StoredOffset { metadata: "words".into(), ..StoredOffset::from(Offset(17)) };
        let results = orders([0, 3]).into_iter().zip([Ok(Some(stored)), Ok(None)]).collect();
        assert_eq!(world.events(), [GroupEvent::Fetched { id, results }], "{max_version}");
    }
}

#[test]
fn offsets_that_are_not_settled_are_asked_for_again() {
    let mut world = World::new(&[Assignor::Range]);
    world.group.fetch(world.broker.now, orders([0]));
    world.settle();
    world.find();
    let asked = world.broker.next();
    let topic = OffsetFetchResponseTopics {
        name: "orders".into(),
        partitions: vec![OffsetFetchResponsePartitions {
            error_code: ErrorCode::UnstableOffsetCommit.code(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let group = OffsetFetchResponseGroup { topics: vec![topic], ..Default::default() };
    world.answer(&asked, OffsetFetchResponse { groups: vec![group], ..Default::default() });
    assert_eq!(world.events(), []);
    world.pass(BACKOFF);
    assert!(matches!(world.broker.next().body, Request::OffsetFetch(_)));
}

#[test]
fn a_member_says_who_it_was_for_transactions_even_after_it_has_lost_its_place() {
    let world = World::new(&[Assignor::Range]);
    assert_eq!(world.group.member(), GroupMember::nobody("g".into()));
    let mut world = World::alone(Assignor::Range);
    world.group.config.instance_id = Some("instance".into());
    let held = GroupMember {
        group_id: "g".into(),
        generation_id: 1,
        member_id: "m".into(),
        group_instance_id: Some("instance".into()),
    };
    assert_eq!(world.group.member(), held);

    world.beat(ErrorCode::UnknownMemberId);

    assert_eq!(world.group.owned_generation(), -1);
    assert_eq!(world.group.member(), held, "so that the coordinator can refuse it");
}

#[test]
fn a_member_leaves_after_its_commits_and_a_static_one_only_goes_silent() {
    let mut world = World::alone(Assignor::Range);
    world.commit(5);
    world.group.leave(world.broker.now, Duration::from_secs(30), "done");
    world.settle();
    assert_eq!(world.answer_commit(ErrorCode::None), 1);
    let asked = world.broker.next();
    let Request::LeaveGroup(request) = &asked.body else { panic!("{:?}", asked.body) };
    assert_eq!(request.members[0].member_id, "m");
    assert_eq!(request.members[0].reason.as_deref(), Some("done"));
    world.answer(&asked, LeaveGroupResponse::default());
    assert_eq!(world.events().last(), Some(&GroupEvent::Left));

    let mut world = World::alone(Assignor::Range);
    world.group.config.instance_id = Some("instance".into());
    world.group.leave(world.broker.now, Duration::from_secs(30), "done");
    world.settle();
    assert_eq!(world.events(), [GroupEvent::Left]);
    world.pass(Duration::from_mins(1));
    assert!(world.broker.asked.is_empty());
}

#[test]
fn leaving_does_not_wait_for_a_join_that_the_coordinator_holds_back() {
    let mut world = World::alone(Assignor::CooperativeSticky);
    world.beat(ErrorCode::RebalanceInProgress);
    let (asked, _) = world.next_join();
    world.group.leave(world.broker.now, Duration::from_secs(30), "done");
    world.settle();
    world.pass(Duration::from_secs(1));
    let left = world.broker.next();
    assert!(matches!(left.body, Request::LeaveGroup(_)), "{:?}", left.body);
    assert_ne!(left.link, asked.link);
    world.answer(&left, LeaveGroupResponse::default());
    assert_eq!(world.events(), [GroupEvent::Left]);
}

#[test]
fn a_subscription_that_changes_is_joined_for() {
    let mut world = World::alone(Assignor::CooperativeSticky);
    world.subscribe(&["more"]);
    let (token, places) = world.told_to_revoke();
    assert_eq!(places, orders([0, 1, 2, 3]), "they are not wanted any more");
    world.group.revoked(world.broker.now, token);
    world.settle();
    let topics = own_claim(&world.next_join().1).topics;
    assert_eq!(topics, BTreeSet::from(["more".into()]));
}

#[test]
fn a_rule_that_was_not_offered_and_an_assignment_that_is_none_end_the_membership() {
    let mut world = World::new(&[Assignor::Range]);
    world.subscribe(&["orders"]);
    world.find();
    world.give_id();
    let (asked, _) = world.next_join();
    world.answer(&asked, JoinGroupResponse { protocol_name: Some("own".into()), ..joined(1) });
    let refused = ClientError::Broker(ErrorCode::InconsistentGroupProtocol);
    assert_eq!(world.events(), [GroupEvent::Failed(refused)]);

    let mut world = World::new(&[Assignor::Range]);
    world.subscribe(&["orders"]);
    world.find();
    world.give_id();
    let (asked, _) = world.next_join();
    world.answer(&asked, joined(1));
    let (asked, _) = world.next_sync();
    let assignment = bytes::Bytes::from_static(&[0, 0, 0x7f, 0, 0, 0, 1]);
    world.answer(&asked, SyncGroupResponse { assignment, ..Default::default() });
    let events = world.events();
    let [GroupEvent::Failed(ClientError::Malformed(_))] = events.as_slice() else {
        panic!("{events:?}")
    };
}

#[test]
fn a_coordinator_without_groups_is_told_in_words() {
    let mut world = World::new(&[Assignor::Range]);
    let key = ApiKey::FindCoordinator.key();
    world.broker.ranges.retain(|range| range.api_key != key);
    world.subscribe(&["orders"]);
    let unserved = ClientError::UnsupportedApi("FindCoordinator");
    assert_eq!(world.events(), [GroupEvent::Failed(unserved)]);
}
