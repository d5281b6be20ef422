//! Administrative requests: each is sent once, to whom it is for, and its answer given back.
//!
//! A request waits for a connection, but once it is sent it is not sent again: making a topic twice
//! would answer that it exists. What the answer means is left to whoever asked.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::group::requests::LAST_OFFSETS_VERSION_BY_NAME;
use super::network::{Network, NetworkConfig, Target};
use super::producer::accumulator::Place;
use super::{ClientError, Effect, Input};
use crate::ids::NodeId;
use crate::time::{Instant, Now};
use crate::wire::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use crate::wire::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::wire::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use crate::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::wire::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::wire::api::describe_quorum::{
    DescribeQuorumPartition, DescribeQuorumRequest, DescribeQuorumTopic,
};
use crate::wire::api::elect_leaders::{ElectLeadersRequest, ElectLeadersTopic};
use crate::wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use crate::wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::wire::api::list_partition_reassignments::ListPartitionReassignmentsRequest;
use crate::wire::api::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::wire::{ApiKey, KafkaString, Request, Response};

/// Number of topics among the types of resources that have settings.
pub const RESOURCE_TOPIC: i8 = 2;
/// The topic of the metadata log.
const METADATA_TOPIC: KafkaString = KafkaString::from_static("__cluster_metadata");
/// Operation that gives a setting a value.
const SET: i8 = 0;
/// Operation that takes a setting back to its default.
const DELETE: i8 = 1;

/// A request that was handed over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(pub u64);

/// Whom a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminTarget {
    /// Any broker.
    Any,
    /// The broker that takes administrative requests.
    Controller,
    /// This broker.
    Node(NodeId),
    /// The leader of this partition.
    Leader(Place),
}

#[derive(Clone, Debug)]
struct Waiting {
    target: AdminTarget,
    request: Request,
    deadline: Instant,
    /// Answers about the cluster that had come when it was handed over.
    answers: u64,
}

/// Sends administrative requests.
#[derive(Clone, Debug)]
pub struct Admin {
    network: Network<CallId>,
    timeout: Duration,
    waiting: BTreeMap<CallId, Waiting>,
    next_call: u64,
    answers: VecDeque<(CallId, Result<Response, ClientError>)>,
}

impl Admin {
    /// Connects to nothing before the first request. A request that found no connection for
    /// `timeout` fails (`default.api.timeout.ms`), and one for a broker that the cluster does not name, once it has
    /// been asked again.
    pub fn new(network: NetworkConfig, timeout: Duration) -> Self {
        Self {
            network: Network::new(NetworkConfig { allow_auto_topic_creation: false, ..network }),
            timeout,
            waiting: BTreeMap::new(),
            next_call: 0,
            answers: VecDeque::new(),
        }
    }

    /// Hands a request over. Its answer comes by [`Admin::poll_answer`].
    pub fn call(&mut self, now: Now, target: AdminTarget, request: impl Into<Request>) -> CallId {
        let call = CallId(self.next_call);
        self.next_call += 1;
        if let AdminTarget::Leader((topic, _)) = &target {
            self.network.want(topic);
        }
        let deadline = now.mono + self.timeout;
        let answers = self.network.metadata().answers();
        self.waiting.insert(call, Waiting { target, request: request.into(), deadline, answers });
        self.drive(now.mono);
        call
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.network.handle(now.mono, input);
        self.drive(now.mono);
    }

    /// Takes the next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.network.poll_effect()
    }

    /// Takes the next answer.
    pub fn poll_answer(&mut self) -> Option<(CallId, Result<Response, ClientError>)> {
        self.answers.pop_front()
    }

    /// Returns when to come back at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.next_call == 0 {
            return None;
        }
        let waiting = self.waiting.values().map(|waiting| waiting.deadline);
        self.network.next_deadline().into_iter().chain(waiting).min()
    }

    fn drive(&mut self, now: Instant) {
        for (call, waiting) in std::mem::take(&mut self.waiting) {
            if now >= waiting.deadline {
                self.answers.push_back((call, Err(ClientError::TimedOut)));
            } else if !self.send(now, call, &waiting) {
                self.waiting.insert(call, waiting);
            }
        }
        if self.next_call > 0 {
            self.network.maintain(now);
        }
        while let Some(completed) = self.network.poll_completed() {
            self.answers.push_back((completed.tag, completed.result));
        }
    }

    /// Sends a request if there is a connection for it. The cluster must be known before, so that
    /// "the controller" is not taken for any broker.
    fn send(&mut self, now: Instant, call: CallId, waiting: &Waiting) -> bool {
        let metadata = self.network.metadata();
        if metadata.brokers().is_empty() {
            return false;
        }
        let target = match &waiting.target {
            AdminTarget::Any => Target::Any,
            AdminTarget::Controller => Target::Controller,
            AdminTarget::Node(node) => {
                if !metadata.brokers().contains_key(node) {
                    // The first answer may have been on its way, from before the node was there.
                    if metadata.answers() > waiting.answers + 1 {
                        self.answers.push_back((call, Err(ClientError::Disconnected)));
                        return true;
                    }
                    self.network.mark_stale(now);
                    return false;
                }
                Target::Node(*node)
            }
            AdminTarget::Leader((topic, partition)) => {
                if let Some(leader) = metadata.leader(topic, *partition) {
                    Target::Node(leader.node)
                } else {
                    if let Some(error) = metadata.error(topic) {
                        self.answers.push_back((call, Err(error.clone())));
                        return true;
                    }
                    self.network.mark_stale(now);
                    return false;
                }
            }
        };
        let Some(link) = self.network.ready(now, target) else {
            return false;
        };
        let api_key = waiting.request.api_key();
        // Whoever asks names topics, and no ids of them.
        let by_name = matches!(api_key, ApiKey::OffsetCommit | ApiKey::OffsetFetch);
        let max_version =
            if by_name { LAST_OFFSETS_VERSION_BY_NAME } else { api_key.max_version() };
        self.network.send(now, link, &waiting.request, max_version, call);
        true
    }
}

/// Asks for all topics, or for those that are named.
pub fn describe_topics(names: Option<&[KafkaString]>) -> MetadataRequest {
    MetadataRequest {
        topics: names.map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic {
                    name: Some(name.clone()),
                    ..MetadataRequestTopic::default()
                })
                .collect()
        }),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    }
}

/// Asks for a topic to be made; -1 partitions or replicas mean the broker's defaults.
pub fn create_topic(
    name: KafkaString,
    partitions: i32,
    replication_factor: i16,
    configs: &[(KafkaString, KafkaString)],
    timeout: Duration,
) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor,
            configs: configs
                .iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: name.clone(),
                    value: Some(value.clone()),
                })
                .collect(),
            ..CreatableTopic::default()
        }],
        timeout_ms: timeout.as_millis() as i32,
        ..CreateTopicsRequest::default()
    }
}

/// Asks for a topic to be deleted, with all it holds.
pub fn delete_topic(name: &KafkaString, timeout: Duration) -> DeleteTopicsRequest {
    DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(name.clone()), ..DeleteTopicState::default() }],
        topic_names: vec![name.clone()],
        timeout_ms: timeout.as_millis() as i32,
    }
}

/// Asks for a topic to have `count` partitions in all.
pub fn create_partitions(
    name: KafkaString,
    count: i32,
    timeout: Duration,
) -> CreatePartitionsRequest {
    CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic { name, count, assignments: None }],
        timeout_ms: timeout.as_millis() as i32,
        validate_only: false,
    }
}

/// Asks for all settings of a topic.
pub fn describe_topic_configs(name: KafkaString) -> DescribeConfigsRequest {
    DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: name,
            configuration_keys: None,
        }],
        ..DescribeConfigsRequest::default()
    }
}

/// Asks for settings of a topic to be changed; `None` takes one back to its default.
pub fn alter_topic_configs(
    name: KafkaString,
    configs: &[(KafkaString, Option<KafkaString>)],
) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: name,
            configs: configs
                .iter()
                .map(|(name, value)| AlterableConfig {
                    name: name.clone(),
                    config_operation: if value.is_some() { SET } else { DELETE },
                    value: value.clone(),
                })
                .collect(),
        }],
        validate_only: false,
    }
}

/// Asks who leads the metadata log and how far its voters are.
pub fn describe_quorum() -> DescribeQuorumRequest {
    DescribeQuorumRequest {
        topics: vec![DescribeQuorumTopic {
            topic_name: METADATA_TOPIC,
            partitions: vec![DescribeQuorumPartition { partition_index: 0 }],
        }],
    }
}

/// Asks for leaders of partitions, of all where none are named, to be elected: the first replica of each, or, where
/// `unclean`, any replica that lives of those that have no leader.
pub fn elect_leaders(
    partitions: Option<&[Place]>,
    unclean: bool,
    timeout: Duration,
) -> ElectLeadersRequest {
    let topics = partitions.map(|places| {
        let topics = by_topic(places.iter().map(|(topic, partition)| (topic, partition.0)));
        let topics = topics.into_iter();
        topics.map(|(topic, partitions)| ElectLeadersTopic { topic, partitions }).collect()
    });
    ElectLeadersRequest {
        election_type: i8::from(unclean),
        topic_partitions: topics,
        timeout_ms: timeout.as_millis() as i32,
    }
}

/// Asks for partitions to be moved to these replicas, the first of which is to lead; `None` takes a move back.
pub fn reassign_partitions(
    moves: &[(Place, Option<Vec<NodeId>>)],
    timeout: Duration,
) -> AlterPartitionReassignmentsRequest {
    let partitions = moves.iter().map(|((topic, partition), replicas)| {
        let replicas = replicas.as_ref().map(|nodes| nodes.iter().map(|node| node.0).collect());
        (topic, ReassignablePartition { partition_index: partition.0, replicas })
    });
    let topics = by_topic(partitions).into_iter();
    AlterPartitionReassignmentsRequest {
        timeout_ms: timeout.as_millis() as i32,
        topics: topics.map(|(name, partitions)| ReassignableTopic { name, partitions }).collect(),
        ..AlterPartitionReassignmentsRequest::default()
    }
}

/// Asks for all partitions that are on the move.
pub fn list_reassignments(timeout: Duration) -> ListPartitionReassignmentsRequest {
    ListPartitionReassignmentsRequest { timeout_ms: timeout.as_millis() as i32, topics: None }
}

fn by_topic<'a, T>(
    items: impl Iterator<Item = (&'a KafkaString, T)>,
) -> BTreeMap<KafkaString, Vec<T>> {
    let mut topics: BTreeMap<KafkaString, Vec<T>> = BTreeMap::new();
    for (topic, item) in items {
        topics.entry(topic.clone()).or_default().push(item);
    }
    topics
}

/// Asks the leader of a partition for the offset that a timestamp names: -1 the end, -2 the start,
/// else the first record of that time or later.
pub fn list_offset(place: &Place, timestamp: i64) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: place.0.clone(),
            partitions: vec![ListOffsetsPartition {
                partition_index: place.1.0,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::test_broker::{TestBroker, network_config};
    use crate::error::ErrorCode;
    use crate::ids::PartitionIndex;
    use crate::wire::api::create_topics::{CreatableTopicResult, CreateTopicsResponse};
    use crate::wire::api::list_offsets::ListOffsetsResponse;

    const ORDERS: KafkaString = KafkaString::from_static("orders");
    const TIMEOUT: Duration = Duration::from_mins(1);

    fn settle(admin: &mut Admin, broker: &mut TestBroker) {
        loop {
            while let Some(effect) = admin.poll_effect() {
                broker.take(effect);
            }
            let Some(input) = broker.inputs.pop_front() else {
                return;
            };
            admin.handle(broker.now, input);
        }
    }

    #[test]
    fn partitions_of_a_topic_are_moved_in_one_order() {
        let place = |index| (ORDERS, PartitionIndex(index));
        let to = Some(vec![NodeId(2), NodeId(1)]);
        let asked = reassign_partitions(&[(place(0), to), (place(1), None)], TIMEOUT);
        let moves: Vec<_> =
            asked.topics[0].partitions.iter().map(|it| it.replicas.clone()).collect();
        assert_eq!((asked.topics.len(), moves), (1, vec![Some(vec![2, 1]), None]));

        let elected = elect_leaders(Some(&[place(0), place(1)]), false, TIMEOUT);
        let topics = elected.topic_partitions.expect("they are named");
        assert_eq!((topics.len(), &topics[0].partitions), (1, &vec![0, 1]));
        assert_eq!(elect_leaders(None, true, TIMEOUT).topic_partitions, None);
    }

    #[test]
    fn a_topic_is_made_through_the_controller_and_the_answer_given_back_as_it_is() {
        let mut broker = TestBroker::new(&[]);
        let mut admin = Admin::new(network_config(), TIMEOUT);
        let request = create_topic(ORDERS, 3, -1, &[], TIMEOUT);
        let call = admin.call(broker.now, AdminTarget::Controller, request.clone());
        settle(&mut admin, &mut broker);

        let asked = broker.next();
        assert_eq!(asked.body, Request::CreateTopics(request));
        let response = CreateTopicsResponse {
            topics: vec![CreatableTopicResult {
                name: ORDERS,
                error_code: ErrorCode::TopicAlreadyExists.code(),
                ..CreatableTopicResult::default()
            }],
            ..CreateTopicsResponse::default()
        };
        broker.answer(&asked, response.clone());
        settle(&mut admin, &mut broker);

        assert_eq!(admin.poll_answer(), Some((call, Ok(response.into()))));
        assert_eq!(admin.poll_answer(), None);
    }

    #[test]
    fn a_request_that_was_sent_is_not_sent_again_after_its_connection_is_lost() {
        let mut broker = TestBroker::new(&[]);
        let mut admin = Admin::new(network_config(), TIMEOUT);
        let call = admin.call(broker.now, AdminTarget::Controller, delete_topic(&ORDERS, TIMEOUT));
        settle(&mut admin, &mut broker);
        let asked = broker.next();

        admin.handle(broker.now, Input::Disconnected(asked.link));
        settle(&mut admin, &mut broker);

        assert_eq!(admin.poll_answer(), Some((call, Err(ClientError::Disconnected))));
        broker.pass(Duration::from_secs(2));
        admin.handle(broker.now, Input::Wakeup);
        settle(&mut admin, &mut broker);
        assert!(broker.asked.is_empty());
    }

    #[test]
    fn offsets_are_asked_of_the_leader() {
        let mut broker = TestBroker::new(&[("orders", 1)]);
        let mut admin = Admin::new(network_config(), TIMEOUT);
        let place = (ORDERS, PartitionIndex(0));
        let call =
            admin.call(broker.now, AdminTarget::Leader(place.clone()), list_offset(&place, -1));
        settle(&mut admin, &mut broker);

        let asked = broker.next();
        broker.answer(&asked, ListOffsetsResponse::default());
        settle(&mut admin, &mut broker);

        assert_eq!(admin.poll_answer(), Some((call, Ok(ListOffsetsResponse::default().into()))));
    }

    #[test]
    fn a_request_for_a_broker_that_is_not_named_has_the_cluster_asked_again_and_is_given_up() {
        let mut broker = TestBroker::new(&[]);
        let mut admin = Admin::new(network_config(), TIMEOUT);
        let ask = |admin: &mut Admin, now, node| {
            admin.call(now, AdminTarget::Node(NodeId(node)), describe_quorum())
        };
        ask(&mut admin, broker.now, 1);
        settle(&mut admin, &mut broker);
        broker.next();
        let call = ask(&mut admin, broker.now, 2);
        let began = broker.now.mono;
        let answer = loop {
            settle(&mut admin, &mut broker);
            if let Some(answer) = admin.poll_answer() {
                break answer;
            }
            let next = admin.next_deadline().expect("it goes on trying");
            broker.pass(next.since(broker.now.mono));
            admin.handle(broker.now, Input::Wakeup);
        };
        assert_eq!(answer, (call, Err(ClientError::Disconnected)));
        let took = broker.now.mono.since(began);
        assert!(took > Duration::ZERO && took < Duration::from_secs(1), "{took:?}");
    }

    #[test]
    fn stored_offsets_are_asked_for_in_the_last_version_that_names_topics() {
        let mut broker = TestBroker::new(&[]);
        let mut admin = Admin::new(network_config(), TIMEOUT);
        let request = crate::client::group::requests::fetch_offsets(&"g".into(), None, false);
        admin.call(broker.now, AdminTarget::Any, request);
        settle(&mut admin, &mut broker);
        assert_eq!(broker.next().version, 9);
    }

    #[test]
    fn a_request_that_finds_no_broker_fails_at_its_deadline_and_never_spins() {
        let mut broker = TestBroker::new(&[]);
        broker.up = false;
        let mut admin = Admin::new(network_config(), Duration::from_secs(3));
        let call = admin.call(broker.now, AdminTarget::Any, describe_topics(None));
        settle(&mut admin, &mut broker);

        let mut wakes = 0;
        while admin.answers.is_empty() {
            let deadline = admin.next_deadline().expect("something is waited for");
            assert!(deadline > broker.now.mono, "no deadline stands in the past");
            broker.now.mono = deadline;
            admin.handle(broker.now, Input::Wakeup);
            settle(&mut admin, &mut broker);
            wakes += 1;
        }

        assert_eq!(admin.poll_answer(), Some((call, Err(ClientError::TimedOut))));
        assert!(wakes < 20, "{wakes}: the pause between attempts grows");
    }

    #[test]
    fn a_broker_that_knows_an_older_api_versions_is_asked_again_in_its_version() {
        for max in 0..=3 {
            let mut broker = TestBroker::new(&[]);
            broker
                .ranges
                .iter_mut()
                .find(|range| range.api_key == 18)
                .expect("there")
                .max_version = max;
            let mut admin = Admin::new(network_config(), TIMEOUT);
            admin.call(broker.now, AdminTarget::Any, delete_topic(&ORDERS, TIMEOUT));
            settle(&mut admin, &mut broker);
            assert_eq!(broker.asked.len(), 1, "ApiVersions {max}");
        }
    }

    #[test]
    fn a_refusal_of_api_versions_that_cannot_be_read_leads_to_version_0() {
        // What librdkafka 2.16's mock cluster answers: error 35, then a body of no version.
        let refusal: &[u8] = &[0, 0, 0, 17, 0, 0, 0, 0, 0, 35, 1, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0];
        let broker = TestBroker::new(&[]);
        let mut admin = Admin::new(network_config(), TIMEOUT);
        admin.call(broker.now, AdminTarget::Any, describe_topics(None));
        let Some(Effect::Connect { link, .. }) = admin.poll_effect() else {
            panic!("it connects");
        };
        admin.handle(broker.now, Input::Connected(link));
        assert!(matches!(admin.poll_effect(), Some(Effect::Transmit { .. })));

        admin.handle(broker.now, Input::Received(link, refusal.into()));

        let Some(Effect::Transmit { parts, .. }) = admin.poll_effect() else {
            panic!("it asks again");
        };
        let asked: Vec<u8> = parts.iter().flatten().copied().collect();
        assert_eq!(asked[4..8], [0, 18, 0, 0], "ApiVersions, version 0");
    }

    #[test]
    fn an_api_that_the_broker_lacks_is_named() {
        let mut broker = TestBroker::new(&[]);
        broker.ranges.retain(|range| range.api_key != 20);
        let mut admin = Admin::new(network_config(), TIMEOUT);
        let call = admin.call(broker.now, AdminTarget::Any, delete_topic(&ORDERS, TIMEOUT));
        settle(&mut admin, &mut broker);
        assert_eq!(
            admin.poll_answer(),
            Some((call, Err(ClientError::UnsupportedApi("DeleteTopics"))))
        );
    }
}
