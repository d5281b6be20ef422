//! The consumer against a broker of one topic that keeps offsets, and a group that is always willing.

use super::*;
use crate::client::group::assignor::{Assignor, read_assignment};
use crate::client::test_broker::{Asked, TOPIC_ID, TestBroker, network_config};
use crate::error::ErrorCode;
use crate::ids::LeaderEpoch;
use crate::record::builder::BatchBuilder;
use crate::record::compress::Codec;
use crate::wire::Request;
use crate::wire::api::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use crate::wire::api::find_coordinator::{Coordinator, FindCoordinatorResponse};
use crate::wire::api::heartbeat::HeartbeatResponse;
use crate::wire::api::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use crate::wire::api::leave_group::LeaveGroupResponse;
use crate::wire::api::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use crate::wire::api::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::consumer_protocol::{Blob, ConsumerProtocolSubscription};

mod transactions;

const ORDERS: KafkaString = KafkaString::from_static("orders");

/// A consumer, the log ends of `orders`, and the offsets that its group has stored.
struct World {
    consumer: Consumer,
    broker: TestBroker,
    ends: Vec<i64>,
    stored: BTreeMap<i32, i64>,
    /// What happened at the coordinator, in order.
    log: Vec<String>,
    generation_id: i32,
    heartbeat: ErrorCode,
    /// Partitions that the group keeps from this member.
    withheld: BTreeSet<i32>,
    parked: Vec<Asked>,
    /// Whether fetches are answered as if the topic were gone.
    is_missing: bool,
    requests: usize,
    /// The topics that each join named.
    joined_for: Vec<Vec<String>>,
    /// The topics whose first or last offset was asked for, by Kafka's timestamps.
    listed: Vec<(String, i64)>,
}

impl World {
    fn new(ends: &[i64], change: impl FnOnce(&mut ConsumerConfig)) -> Self {
        let mut config = ConsumerConfig::new(network_config(), Some("g".into()));
        config.fetcher.reset = Some(Start::Earliest);
        if let Some(group) = &mut config.group {
            group.assignors = vec![Assignor::CooperativeSticky];
        }
        change(&mut config);
        Self {
            consumer: Consumer::new(config),
            broker: TestBroker::new(&[("orders", ends.len() as i32)]),
            ends: ends.to_vec(),
            stored: BTreeMap::new(),
            log: Vec::new(),
            generation_id: 0,
            heartbeat: ErrorCode::None,
            withheld: BTreeSet::new(),
            parked: Vec::new(),
            is_missing: false,
            requests: 0,
            joined_for: Vec::new(),
            listed: Vec::new(),
        }
    }

    fn subscribe(&mut self) {
        self.consumer.subscribe(self.broker.now, BTreeSet::from([ORDERS]));
        self.settle();
    }

    /// Lets consumer and broker talk until both are silent.
    fn settle(&mut self) {
        loop {
            while let Some(effect) = self.consumer.poll_effect() {
                self.broker.take(effect);
            }
            if let Some(input) = self.broker.inputs.pop_front() {
                self.consumer.handle(self.broker.now, input);
            } else if let Some(asked) = self.broker.asked.pop_front() {
                self.serve(asked);
            } else {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.broker.now.mono + time;
        while let Some(deadline) = self.consumer.next_deadline().filter(|at| *at <= until) {
            assert!(deadline > self.broker.now.mono, "no deadline stands in the past");
            let step = deadline - self.broker.now.mono;
            self.broker.pass(step);
            // A broker holds a fetch back for its time only.
            self.answer_parked();
            self.consumer.handle(self.broker.now, Input::Wakeup);
            self.settle();
        }
        let rest = until - self.broker.now.mono;
        self.broker.pass(rest);
    }

    fn append(&mut self, partition: usize, count: i64) {
        self.ends[partition] += count;
        self.answer_parked();
        self.settle();
    }

    fn poll(&mut self) -> Option<ConsumerEvent> {
        let event = self.consumer.poll_event(self.broker.now);
        self.settle();
        event
    }

    /// Asks until nothing is told; returns what of each partition was, by offsets.
    fn read(&mut self) -> Vec<(i32, Vec<i64>)> {
        let mut read = Vec::new();
        for _ in 0..2 {
            while let Some(event) = self.poll() {
                if let ConsumerEvent::Records { place, records, .. } = event {
                    read.push((place.1.0, records.iter().map(|record| record.offset.0).collect()));
                }
            }
            // What a fetch that is held back does not ask for comes with the next one.
            self.answer_parked();
            self.settle();
        }
        read
    }

    fn answer_parked(&mut self) {
        for asked in std::mem::take(&mut self.parked) {
            let Request::Fetch(request) = &asked.body else { unreachable!("only these wait") };
            let response = self.fetched(request);
            self.broker.answer(&asked, response);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a consumer asks nothing else")]
    fn serve(&mut self, asked: Asked) {
        self.requests += 1;
        match &asked.body {
            Request::FindCoordinator(_) => {
                let found = Coordinator { key: "g".into(), node_id: 1, ..Default::default() };
                let coordinators = vec![found];
                let response = FindCoordinatorResponse { coordinators, ..Default::default() };
                self.broker.answer(&asked, response);
            }
            Request::JoinGroup(request) => {
                let response = self.joined(request);
                self.broker.answer(&asked, response);
            }
            Request::SyncGroup(request) => {
                let response = self.synced(request);
                self.broker.answer(&asked, response);
            }
            Request::Heartbeat(_) => {
                let error = std::mem::replace(&mut self.heartbeat, ErrorCode::None);
                let response = HeartbeatResponse { error_code: error.code(), ..Default::default() };
                self.broker.answer(&asked, response);
            }
            Request::LeaveGroup(_) => {
                self.log.push("leave".to_owned());
                self.broker.answer(&asked, LeaveGroupResponse::default());
            }
            Request::OffsetCommit(request) => {
                let response = self.committed(request);
                self.broker.answer(&asked, response);
            }
            Request::OffsetFetch(request) => {
                let response = self.told(request);
                self.broker.answer(&asked, response);
            }
            Request::ListOffsets(request) => {
                let response = self.listed(request);
                // The answer would wait behind a fetch.
                self.answer_parked();
                self.broker.answer(&asked, response);
            }
            Request::Fetch(request) => {
                let is_empty =
                    request.topics.iter().flat_map(|topic| &topic.partitions).all(|partition| {
                        partition.fetch_offset >= self.ends[partition.partition as usize]
                    });
                if is_empty && !self.is_missing {
                    self.parked.push(asked);
                } else {
                    let response = self.fetched(request);
                    self.broker.answer(&asked, response);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn joined(&mut self, request: &JoinGroupRequest) -> JoinGroupResponse {
        if request.member_id.is_empty() {
            return JoinGroupResponse {
                error_code: ErrorCode::MemberIdRequired.code(),
                member_id: "m".into(),
                ..Default::default()
            };
        }
        self.generation_id += 1;
        self.log.push("join".to_owned());
        let blob = request.protocols[0].metadata.clone();
        let said = ConsumerProtocolSubscription::from_blob(blob).expect("its own");
        self.joined_for.push(said.topics.iter().map(ToString::to_string).collect());
        let member = JoinGroupResponseMember {
            member_id: "m".into(),
            metadata: request.protocols[0].metadata.clone(),
            ..Default::default()
        };
        JoinGroupResponse {
            generation_id: self.generation_id,
            protocol_type: Some("consumer".into()),
            protocol_name: Some(request.protocols[0].name.clone()),
            leader: "m".into(),
            member_id: "m".into(),
            members: vec![member],
            ..Default::default()
        }
    }

    fn synced(&self, request: &SyncGroupRequest) -> SyncGroupResponse {
        let blob = request.assignments[0].assignment.clone();
        let mut places = read_assignment(blob).expect("its own");
        places.retain(|(_, partition)| !self.withheld.contains(&partition.0));
        let assignment = crate::client::group::assignor::assignment_blob(&places);
        SyncGroupResponse { assignment, ..Default::default() }
    }

    fn committed(&mut self, request: &OffsetCommitRequest) -> OffsetCommitResponse {
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let index = partition.partition_index;
                self.stored.insert(index, partition.committed_offset);
                self.log.push(format!("{index}:{}", partition.committed_offset));
                partitions
                    .push(OffsetCommitResponsePartition { partition_index: index, error_code: 0 });
            }
            let name = topic.name.clone();
            topics.push(OffsetCommitResponseTopic { name, partitions, ..Default::default() });
        }
        OffsetCommitResponse { topics, ..Default::default() }
    }

    fn told(&self, request: &OffsetFetchRequest) -> OffsetFetchResponse {
        let topics = request.groups[0].topics.iter().flatten().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                let committed_offset = self.stored.get(index).copied().unwrap_or(-1);
                OffsetFetchResponsePartitions {
                    partition_index: *index,
                    committed_offset,
                    ..Default::default()
                }
            });
            OffsetFetchResponseTopics {
                name: topic.name.clone(),
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        let group = OffsetFetchResponseGroup {
            group_id: "g".into(),
            topics: topics.collect(),
            ..Default::default()
        };
        OffsetFetchResponse { groups: vec![group], ..Default::default() }
    }

    fn listed(&mut self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let starts = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|one| (topic.name.to_string(), one.timestamp))
        });
        self.listed.extend(starts);
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let is_end = partition.timestamp == -1;
                let offset = if is_end { self.ends[partition.partition_index as usize] } else { 0 };
                ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    offset,
                    ..Default::default()
                }
            });
            ListOffsetsTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
        });
        ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
    }

    fn fetched(&self, request: &FetchRequest) -> FetchResponse {
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions).map(|asked| {
            let end = self.ends[asked.partition as usize];
            if self.is_missing {
                let error_code = ErrorCode::UnknownTopicOrPartition.code();
                let partition_index = asked.partition;
                return PartitionData { partition_index, error_code, ..Default::default() };
            }
            let records = (asked.fetch_offset < end).then(|| {
                let mut builder = BatchBuilder::new(Codec::None);
                for _ in asked.fetch_offset..end {
                    builder.push(5, None, Some(b"v"), &[]);
                }
                let mut batch = builder.build();
                batch.assign(Offset(asked.fetch_offset), LeaderEpoch(3));
                batch.to_bytes().into()
            });
            PartitionData {
                partition_index: asked.partition,
                high_watermark: end,
                records,
                ..Default::default()
            }
        });
        let topic = FetchableTopicResponse {
            topic: ORDERS,
            topic_id: TOPIC_ID,
            partitions: partitions.collect(),
        };
        FetchResponse { responses: vec![topic], ..Default::default() }
    }

    fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

fn orders<const N: usize>(indexes: [i32; N]) -> BTreeSet<Place> {
    indexes.into_iter().map(|index| place("orders", index)).collect()
}

#[test]
fn reading_goes_on_at_the_stored_offset_and_elsewhere_by_the_rule() {
    for (reset, second) in [(Start::Earliest, vec![0, 1, 2]), (Start::Latest, vec![])] {
        let mut world = World::new(&[5, 3], |config| config.fetcher.reset = Some(reset));
        world.stored.insert(0, 3);
        world.subscribe();
        let assigned = ConsumerEvent::Assigned { added: orders([0, 1]), owned: orders([0, 1]) };
        assert_eq!(world.poll(), Some(assigned));
        let mut read = world.read();
        read.sort();
        let mut expected = vec![(0, vec![3, 4]), (1, second)];
        expected.retain(|(_, offsets)| !offsets.is_empty());
        assert_eq!(read, expected);
        assert_eq!(world.consumer.position(&place("orders", 1)), Some(Offset(3)));
    }
}

#[test]
fn without_a_stored_offset_and_a_rule_the_partition_fails_and_may_be_sought() {
    let mut world = World::new(&[2], |config| config.fetcher.reset = None);
    world.subscribe();
    world.poll();
    let first = place("orders", 0);
    let error = ClientError::NoStoredOffset;
    assert_eq!(world.poll(), Some(ConsumerEvent::PartitionFailed { place: first.clone(), error }));
    assert!(world.consumer.seek(world.broker.now, &first, Start::Offset(Offset(1))));
    world.settle();
    assert_eq!(world.read(), [(0, vec![1])]);
    assert!(!world.consumer.seek(world.broker.now, &place("orders", 9), Start::Earliest));
}

#[test]
fn a_partition_that_is_added_later_is_read_from_its_beginning_whatever_the_rule() {
    let mut world = World::new(&[2], |config| config.fetcher.reset = Some(Start::Latest));
    world.subscribe();
    assert_eq!(world.read(), []);
    world.broker.topics.insert("orders", 2);
    world.ends.push(3);
    // The leader looks at its topics again after their age.
    world.pass(Duration::from_mins(6));
    assert_eq!(world.read(), [(1, vec![0, 1, 2])]);
}

#[test]
fn a_topic_that_is_deleted_is_given_up_without_many_questions_and_read_again_when_it_is_back() {
    let mut world = World::new(&[2], |_| {});
    world.subscribe();
    world.read();
    world.broker.topics.remove("orders");
    world.is_missing = true;
    world.answer_parked();
    world.settle();
    let before = world.requests;
    world.pass(Duration::from_secs(10));
    let asked = world.requests - before;
    assert!(asked < 50, "{asked} requests in ten seconds");
    assert_eq!(world.poll(), Some(ConsumerEvent::Revoked(orders([0]))));
    world.read();
    assert!(world.consumer.assignment().is_empty());

    world.broker.topics.insert("orders", 1);
    world.is_missing = false;
    world.stored.clear();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.read(), [(0, vec![0, 1])]);
}

#[test]
fn a_topic_that_brokers_refuse_is_told_of_once_for_each_subscription_and_the_others_are_read() {
    let mut world = World::new(&[2], |_| {});
    let bad = KafkaString::from("no name");
    let topics = BTreeSet::from([ORDERS, bad.clone()]);
    world.broker.refused.insert("no name", ErrorCode::InvalidTopicException);
    let error = ClientError::Broker(ErrorCode::InvalidTopicException);
    let failed = ConsumerEvent::TopicFailed { topic: bad, error };

    for _ in 0..2 {
        world.consumer.subscribe(world.broker.now, topics.clone());
        world.settle();
        let mut told = Vec::new();
        while let Some(event) = world.poll() {
            told.push(event);
        }
        world.pass(Duration::from_mins(10));
        while let Some(event) = world.poll() {
            told.push(event);
        }
        assert_eq!(told.iter().filter(|event| **event == failed).count(), 1, "{told:?}");
    }
    assert_eq!(world.consumer.assignment(), orders([0]));
}

#[test]
fn only_what_was_processed_is_stored_by_itself() {
    let mut world = World::new(&[3], |_| {});
    world.subscribe();
    world.poll();
    assert!(matches!(world.poll(), Some(ConsumerEvent::Records { .. })));
    world.pass(Duration::from_secs(6));
    assert_eq!(world.take_log(), ["join"], "the user still works on the records");
    assert_eq!(world.poll(), None);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.take_log(), ["0:3"]);
    world.pass(Duration::from_mins(1));
    assert_eq!(world.take_log(), [""; 0], "nothing changed");
}

#[test]
fn where_reading_began_is_stored_so_that_a_restart_misses_nothing() {
    let mut world = World::new(&[7], |config| config.fetcher.reset = Some(Start::Latest));
    world.subscribe();
    assert_eq!(world.read(), []);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.stored, BTreeMap::from([(0, 7)]));
}

#[test]
fn what_is_taken_away_is_stored_first_and_nothing_more_of_it_is_told() {
    let mut world = World::new(&[3, 3], |_| {});
    world.subscribe();
    world.read();
    world.take_log();
    world.withheld.insert(1);
    world.heartbeat = ErrorCode::RebalanceInProgress;
    world.pass(Duration::from_secs(3));
    assert_eq!(world.take_log(), ["join"], "it keeps everything meanwhile");
    world.append(0, 1);
    world.append(1, 1);

    assert_eq!(world.poll(), Some(ConsumerEvent::Revoked(orders([1]))));
    assert_eq!(world.take_log(), ["0:3", "1:3"]);
    let assigned = ConsumerEvent::Assigned { added: orders([]), owned: orders([0]) };
    assert_eq!(world.poll(), Some(assigned));
    assert_eq!(world.take_log()[0], "join", "once the user asks again");
    let read = world.read();
    assert!(read.iter().all(|(partition, _)| *partition == 0), "{read:?}");
    assert_eq!(world.consumer.assignment(), orders([0]));
}

#[test]
fn a_partition_that_was_lost_and_comes_back_is_read_whatever_was_being_taken_away() {
    let mut world = World::new(&[3, 3], |_| {});
    world.subscribe();
    world.read();
    world.withheld.insert(1);
    world.heartbeat = ErrorCode::RebalanceInProgress;
    world.pass(Duration::from_secs(3));
    assert_eq!(world.poll(), Some(ConsumerEvent::Revoked(orders([1]))));
    world.withheld.clear();
    world.heartbeat = ErrorCode::UnknownMemberId;
    world.pass(Duration::from_secs(3));
    world.heartbeat = ErrorCode::None;
    world.pass(Duration::from_secs(3));
    world.append(1, 1);

    let read = world.read();

    assert!(read.iter().any(|(partition, _)| *partition == 1), "{read:?}");
    assert_eq!(world.consumer.assignment(), orders([0, 1]));
}

#[test]
fn offsets_can_be_stored_by_hand_while_partitions_are_being_taken_away() {
    let mut world = World::new(&[3, 3], |config| {
        config.auto_commit = None;
        config.auto_store = false;
    });
    world.subscribe();
    world.read();
    world.withheld.insert(1);
    world.heartbeat = ErrorCode::RebalanceInProgress;
    world.pass(Duration::from_secs(3));
    assert_eq!(world.poll(), Some(ConsumerEvent::Revoked(orders([1]))));
    world.take_log();
    world.consumer.store(&place("orders", 1), Offset(2));
    let id = world.consumer.commit(world.broker.now, None).expect("there is a group");
    world.settle();
    assert_eq!(world.take_log(), ["1:2"]);
    let told: Vec<ConsumerEvent> = std::iter::from_fn(|| world.poll()).collect();
    let results = BTreeMap::from([(place("orders", 1), Ok(()))]);
    assert!(told.contains(&ConsumerEvent::Committed { id, results }), "{told:?}");
}

#[test]
fn whoever_does_not_ask_in_time_leaves_the_group_and_comes_back_when_it_does() {
    let mut world = World::new(&[2], |config| {
        let group = config.group.as_mut().expect("there is one");
        group.rebalance_timeout = Duration::from_mins(1);
    });
    world.subscribe();
    world.poll();
    assert!(matches!(world.poll(), Some(ConsumerEvent::Records { .. })));
    world.pass(Duration::from_secs(61));
    assert_eq!(world.take_log(), ["join", "leave"], "and nothing is stored");

    assert_eq!(world.poll(), Some(ConsumerEvent::Lost(orders([0]))));
    assert_eq!(world.take_log(), ["join"]);
    assert_eq!(world.read(), [(0, vec![0, 1])], "they are told again");
}

#[test]
fn whoever_waits_for_records_is_never_too_late() {
    let mut world = World::new(&[0], |_| {});
    world.subscribe();
    assert_eq!(world.read(), []);
    world.take_log();
    world.pass(Duration::from_mins(30));
    assert!(!world.log.contains(&"leave".to_owned()), "{:?}", world.log);
}

#[test]
fn a_paused_partition_is_held_back_and_goes_on_without_a_gap() {
    let mut world = World::new(&[1, 1], |_| {});
    world.subscribe();
    world.poll();
    world.consumer.pause(&orders([0]));
    assert_eq!(world.read(), [(1, vec![0])]);
    world.append(0, 2);
    assert_eq!(world.read(), []);
    world.consumer.resume(world.broker.now, &orders([0]));
    world.settle();
    let read: Vec<i64> = world.read().into_iter().flat_map(|(_, offsets)| offsets).collect();
    assert_eq!(read, [0, 1, 2]);
}

#[test]
fn partitions_may_be_read_by_hand_with_offsets_of_the_group_but_without_membership() {
    let mut world = World::new(&[4, 4], |_| {});
    world.stored.insert(0, 2);
    let places = [(place("orders", 0), None), (place("orders", 1), Some(Start::Latest))];
    world.consumer.assign(world.broker.now, BTreeMap::from(places));
    world.settle();
    assert_eq!(world.read(), [(0, vec![2, 3])]);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.take_log(), ["0:4", "1:4"], "no join");
}

#[test]
fn a_reader_without_a_group_stores_nothing() {
    let mut world = World::new(&[2], |config| {
        config.group = None;
        config.auto_commit = None;
    });
    world.consumer.assign(world.broker.now, BTreeMap::from([(place("orders", 0), None)]));
    world.settle();
    assert_eq!(world.read(), [(0, vec![0, 1])]);
    world.consumer.commit(world.broker.now, None).expect_err("there is no group");
    world.consumer.close(world.broker.now);
    assert_eq!(world.poll(), Some(ConsumerEvent::Closed));
    assert!(world.log.is_empty());
}

#[test]
fn closing_stores_what_was_processed_and_leaves() {
    let mut world = World::new(&[2], |_| {});
    world.subscribe();
    world.read();
    world.append(0, 1);
    assert!(matches!(world.poll(), Some(ConsumerEvent::Records { .. })));
    world.take_log();
    world.consumer.close(world.broker.now);
    world.settle();
    assert_eq!(world.take_log(), ["0:2", "leave"], "nobody asked after the last record");
    assert!(world.consumer.is_closed());
    assert_eq!(world.poll(), Some(ConsumerEvent::Closed));
}

#[test]
fn closing_does_not_take_back_what_was_stored_by_hand() {
    let mut world = World::new(&[5], |_| {});
    world.subscribe();
    while !matches!(world.poll(), Some(ConsumerEvent::Records { .. })) {}
    for offset in [2, 4] {
        let offsets = orders([0]).into_iter().map(|place| (place, Offset(offset).into())).collect();
        world.consumer.commit(world.broker.now, Some(offsets)).expect("it has a group");
        world.settle();
    }
    world.consumer.close(world.broker.now);
    world.settle();
    assert_eq!(world.stored[&0], 4);
}

#[test]
fn a_membership_that_is_lost_takes_its_partitions_and_gets_them_anew() {
    let mut world = World::new(&[2], |_| {});
    world.subscribe();
    world.read();
    world.heartbeat = ErrorCode::UnknownMemberId;
    world.pass(Duration::from_secs(3));
    assert_eq!(world.poll(), Some(ConsumerEvent::Lost(orders([0]))));
    let assigned = ConsumerEvent::Assigned { added: orders([0]), owned: orders([0]) };
    assert_eq!(world.poll(), Some(assigned));
}

#[test]
fn records_that_are_given_back_by_a_seek_do_not_count_as_processed() {
    let mut world = World::new(&[5], |_| {});
    world.subscribe();
    while !matches!(world.poll(), Some(ConsumerEvent::Records { .. })) {}
    let [place] = orders([0]).into_iter().collect::<Vec<_>>().try_into().expect("one");
    assert!(world.consumer.seek(world.broker.now, &place, Start::Offset(Offset(2))));
    world.settle();

    assert_eq!(world.read(), [(0, vec![2, 3, 4])]);
    world.consumer.seek(world.broker.now, &place, Start::Offset(Offset(3)));
    world.consumer.close(world.broker.now);
    world.settle();
    assert_eq!(world.stored[&0], 3);
}

#[test]
fn what_is_given_back_while_a_revocation_waits_is_stored_with_it() {
    let mut world = World::new(&[5, 5], |config| config.fetcher.prefetch_bytes = 0);
    world.subscribe();
    let place = loop {
        assert!(!world.consumer.is_interrupted());
        if let ConsumerEvent::Records { place, .. } = world.poll().expect("records come") {
            break place;
        }
    };
    world.withheld = BTreeSet::from([place.1.0]);
    world.heartbeat = ErrorCode::RebalanceInProgress;
    world.pass(Duration::from_secs(4));
    assert!(world.consumer.is_interrupted());

    assert!(world.consumer.seek(world.broker.now, &place, Start::Offset(Offset(2))));
    world.settle();
    let event = world.poll();

    assert_eq!(event, Some(ConsumerEvent::Revoked(BTreeSet::from([place.clone()]))));
    assert!(!world.consumer.is_interrupted());
    assert_eq!(world.stored[&place.1.0], 2);
    assert!(!world.consumer.seek(world.broker.now, &place, Start::Offset(Offset(1))));
}

#[test]
fn whoever_shows_that_it_works_stays_in_the_group_without_a_question() {
    let mut world = World::new(&[5], |_| {});
    world.subscribe();
    while !matches!(world.poll(), Some(ConsumerEvent::Records { .. })) {}
    world.pass(Duration::from_secs(299));
    world.consumer.touch(world.broker.now);
    world.take_log();
    world.pass(Duration::from_secs(299));
    assert!(world.take_log().iter().all(|entry| !entry.contains("leave")));
    world.pass(Duration::from_secs(2));
    assert!(world.take_log().iter().any(|entry| entry.contains("leave")));
}

fn beginning_with(prefix: &'static str) -> TopicPattern {
    TopicPattern::new(format!("^{prefix}"), move |name| name.starts_with(prefix))
}

#[test]
fn a_pattern_means_the_topics_that_match_and_those_that_come_to() {
    let mut world = World::new(&[0], |config| {
        config.fetcher.reset = Some(Start::Latest);
        config.auto_commit = None;
    });
    world.broker.topics.extend([("__orders", 1), ("bills", 1)]);

    world.consumer.subscribe_pattern(world.broker.now, beginning_with(""));
    world.settle();

    assert_eq!(world.joined_for, [["bills", "orders"]], "internal topics match nothing");
    let both = BTreeSet::from([place("bills", 0), place("orders", 0)]);
    assert!(matches!(world.poll(), Some(ConsumerEvent::Assigned { owned, .. }) if owned == both));
    let starts = [("bills".to_owned(), -1), ("orders".to_owned(), -1)];
    assert_eq!(world.listed, starts, "what was there is read from the rule on");

    world.broker.topics.insert("late", 1);
    world.read();
    world.pass(Duration::from_mins(5) + Duration::from_secs(4));
    world.read();

    assert_eq!(world.joined_for.last().expect("again"), &["bills", "late", "orders"]);
    assert!(world.consumer.assignment().contains(&place("late", 0)));
    assert_eq!(world.listed[2..], [("late".to_owned(), -2)], "what came later, from its beginning");
    assert_eq!(world.consumer.pattern().map(TopicPattern::text), Some("^"));
}

#[test]
fn no_group_is_joined_before_a_topic_matches() {
    let mut world = World::new(&[0], |_| {});
    world.consumer.subscribe_pattern(world.broker.now, beginning_with("late"));
    world.settle();
    world.pass(Duration::from_mins(11));
    assert!(world.joined_for.is_empty());

    world.broker.topics.insert("late", 1);
    world.pass(Duration::from_mins(5));

    assert_eq!(world.joined_for, [["late"]]);
}

#[test]
fn topics_that_are_gone_match_no_more_and_names_take_the_place_of_a_pattern() {
    let mut world = World::new(&[0], |_| {});
    world.broker.topics.insert("orders-2", 1);
    world.consumer.subscribe_pattern(world.broker.now, beginning_with("orders"));
    world.settle();
    world.read();
    world.broker.topics.remove("orders-2");
    for _ in 0..10 {
        world.pass(Duration::from_mins(1));
        world.read();
    }
    assert_eq!(world.joined_for.last().expect("again"), &["orders"]);
    assert_eq!(world.consumer.subscription(), &BTreeSet::from([ORDERS]));

    world.broker.topics.insert("orders-3", 1);
    world.subscribe();
    world.pass(Duration::from_mins(6));

    assert!(world.consumer.pattern().is_none());
    assert_eq!(world.joined_for.last().expect("again"), &["orders"]);
    // A pattern that means nothing gives up what is read.
    world.consumer.subscribe_pattern(world.broker.now, beginning_with("none"));
    world.settle();
    for _ in 0..5 {
        world.pass(Duration::from_secs(3));
        world.read();
    }
    assert_eq!(world.consumer.assignment(), BTreeSet::new());
    world.consumer.close(world.broker.now);
    world.settle();
    while world.poll().is_some() {}
    assert!(world.consumer.is_closed());
    assert_eq!(world.log.last().map(String::as_str), Some("leave"));
}

#[test]
fn a_consumer_that_processed_nothing_of_what_it_was_told_is_closed_too() {
    let mut world = World::new(&[5], |config| config.auto_store = false);
    world.stored.insert(0, 2);
    world.subscribe();
    while !matches!(world.poll(), Some(ConsumerEvent::Records { .. })) {}
    world.consumer.close(world.broker.now);
    world.settle();
    assert!(world.consumer.is_closed());
    assert_eq!(world.stored[&0], 2);
}
