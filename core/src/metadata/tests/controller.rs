//! Commands of several nodes, from the request to the answer.

use std::sync::Arc;
use std::time::Duration;

use super::{CLUSTER, registration};
use crate::config::NodeConfig;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, NodeId, ShardId, TopicName, TopicPartition, Uuid};
use crate::io::Effects;
use crate::log::{FlushPolicy, LogConfig, LogSettings, LogStore, Storage};
use crate::metadata::controller::{Asker, Origin};
use crate::metadata::{Command, CommandAnswer, Controller, MetadataImage};
use crate::time::{Now, UnixMillis};
use crate::wire::Response;
use crate::wire::api::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use crate::wire::api::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicResult, CreateTopicsRequest,
};

/// A controller over a log in memory.
struct Leader {
    controller: Controller,
    log: LogStore,
    fx: Effects,
    now: Now,
    ids: u8,
}

impl Leader {
    fn of_three_voters() -> Self {
        let now = Now { wall: UnixMillis(1_700_000_000_000), ..Now::default() };
        let (node, mut fx) = (Arc::new(NodeConfig::default()), Effects::default());
        let mut log = LogStore::new(LogConfig { memory_only: true, ..LogConfig::default() });
        log.start(now, &mut fx);
        let settings = LogSettings {
            storage: Storage::Memory,
            flush: FlushPolicy::Ack,
            segment_bytes: 1 << 30,
            segment_ms: i64::MAX,
            retention_ms: -1,
            retention_bytes: -1,
            index_interval_bytes: 4096,
            memory_max_bytes: u64::MAX,
            delete: false,
            may_use_reserve: true,
        };
        let (id, name) = (TopicPartition::CLUSTER_METADATA, TopicName::cluster_metadata());
        log.create(now, id, &name, settings, &mut fx);
        let image = MetadataImage::default();
        let mut controller = Controller::new(node, Uuid([9; 16]), LeaderEpoch(1), image);
        controller.set_voters(3);
        Self { controller, log, fx, now, ids: 0 }
    }

    fn with_brokers(count: i32) -> Self {
        let mut leader = Self::of_three_voters();
        for node in 1..=count {
            leader.command(&Command::RegisterBroker(CLUSTER, registration(node, node as u8, 1)));
            assert!(!leader.heard(node).is_fenced);
        }
        leader
    }

    fn handle(&mut self, command: &Command) {
        let origin = Origin { shard: ShardId(0), asker: Asker::ProducerIds };
        let Self { controller, log, fx, now, ids } = self;
        let mut next_id = || {
            *ids += 1;
            Uuid([*ids; 16])
        };
        controller.handle(*now, origin, command, &mut next_id, log, fx);
    }

    /// Everything so far is committed, and every shard of every broker has applied it.
    fn settle(&mut self) -> Vec<CommandAnswer> {
        let end = self.controller.image().end_offset();
        for node in 1..=9 {
            self.controller.sessions_mut().has_applied(NodeId(node), end.0 - 1);
        }
        self.settle_here()
    }

    /// Everything so far is committed, and the controller's own node has applied it.
    fn settle_here(&mut self) -> Vec<CommandAnswer> {
        let end = self.controller.image().end_offset();
        self.controller.commit(end);
        self.controller.applied(ShardId(0), end);
        self.controller.take_answers().into_iter().map(|(_, answer)| answer).collect()
    }

    fn command(&mut self, command: &Command) -> CommandAnswer {
        self.handle(command);
        self.settle().pop().expect("answered")
    }

    fn heartbeat(&self, node: i32) -> BrokerHeartbeatRequest {
        let image = self.controller.image();
        BrokerHeartbeatRequest {
            broker_id: node,
            broker_epoch: image.broker(NodeId(node)).map_or(-1, |it| it.broker_epoch),
            current_metadata_offset: image.end_offset().0 - 1,
            ..BrokerHeartbeatRequest::default()
        }
    }

    fn heard(&mut self, node: i32) -> BrokerHeartbeatResponse {
        let answer = self.command(&Command::Heartbeat(self.heartbeat(node)));
        let CommandAnswer::Response(Response::BrokerHeartbeat(response)) = answer else {
            panic!("{answer:?} answers no heartbeat")
        };
        response
    }

    fn create(&mut self, topic: CreatableTopic) -> CreatableTopicResult {
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let answer = self.command(&Command::CreateTopics(request));
        let CommandAnswer::Response(Response::CreateTopics(response)) = answer else {
            panic!("{answer:?} answers no creation")
        };
        response.topics[0].clone()
    }

    /// Replicas, in-sync set and leader of each partition.
    fn partitions(&self, topic: &str) -> Vec<(Vec<i32>, Vec<i32>, i32)> {
        let topic = self.controller.image().topic_by_name(topic).expect("created");
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        topic
            .partitions
            .iter()
            .map(|it| (numbers(&it.replicas), numbers(&it.isr), it.leader.0))
            .collect()
    }

    fn leaders(&self, topic: &str) -> Vec<i32> {
        self.partitions(topic).iter().map(|it| it.2).collect()
    }

    fn fence_silent(&mut self) -> Vec<NodeId> {
        let Self { controller, log, fx, now, .. } = self;
        controller.fence_silent(*now, log, fx).expect("appended")
    }
}

fn topic(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: -1,
        ..CreatableTopic::default()
    }
}

#[test]
fn a_topic_has_as_many_replicas_as_there_are_voters_and_waits_for_them() {
    let mut leader = Leader::with_brokers(2);
    let refused = leader.create(topic("t", 3));
    assert_eq!(refused.error_code, ErrorCode::InvalidReplicationFactor.code());

    leader.command(&Command::RegisterBroker(CLUSTER, registration(3, 3, 1)));
    let refused = leader.create(topic("t", 3));
    assert_eq!(refused.error_code, ErrorCode::InvalidReplicationFactor.code(), "fenced");
    leader.heard(3);

    let created = leader.create(topic("t", 3));
    assert_eq!((created.error_code, created.replication_factor), (0, 3));
    assert_eq!(leader.leaders("t"), [1, 2, 3]);
    let partitions = leader.partitions("t");
    assert!(partitions.iter().all(|(replicas, isr, _)| replicas == isr && isr.len() == 3));
}

#[test]
fn more_voters_than_three_do_not_make_more_replicas() {
    let mut leader = Leader::with_brokers(5);
    leader.controller.set_voters(5);
    assert_eq!(leader.create(topic("t", 1)).replication_factor, 3);
}

#[test]
fn a_fenced_replica_of_an_explicit_assignment_is_not_in_sync() {
    let mut leader = Leader::with_brokers(2);
    leader.command(&Command::RegisterBroker(CLUSTER, registration(3, 3, 1)));
    let assigned = |name: &str, broker_ids: &[i32]| CreatableTopic {
        assignments: vec![CreatableReplicaAssignment {
            partition_index: 0,
            broker_ids: broker_ids.to_vec(),
        }],
        ..topic(name, -1)
    };
    assert_eq!(leader.create(assigned("a", &[3, 2])).error_code, 0);
    assert_eq!(leader.partitions("a"), [(vec![3, 2], vec![2], 2)]);
    let refused = ErrorCode::InvalidReplicaAssignment.code();
    assert_eq!(leader.create(assigned("b", &[3])).error_code, refused);
}

#[test]
fn a_silent_broker_is_fenced_and_others_lead_what_it_led() {
    let mut leader = Leader::with_brokers(3);
    leader.create(topic("t", 3));
    for _ in 0..3 {
        leader.now.mono = leader.now.mono + Duration::from_secs(1);
        leader.heard(1);
        leader.heard(3);
    }
    assert_eq!(leader.controller.sessions().next_deadline(), Some(leader.now.mono));
    assert_eq!(leader.fence_silent(), [NodeId(2)]);
    assert!(leader.fence_silent().is_empty(), "once");
    assert_eq!(leader.leaders("t"), [1, 3, 3]);

    assert!(!leader.heard(2).is_fenced, "it is back");
    let Leader { controller, log, fx, now, .. } = &mut leader;
    let moved = controller.balance_leaders(*now, 10, log, fx).expect("nothing to append");
    assert_eq!(moved, 0, "it is in sync nowhere");
}

#[test]
fn a_heartbeat_is_answered_when_what_it_made_is_committed() {
    let mut leader = Leader::of_three_voters();
    leader.command(&Command::RegisterBroker(CLUSTER, registration(1, 1, 1)));
    leader.handle(&Command::Heartbeat(leader.heartbeat(1)));
    assert!(leader.controller.image().is_active(NodeId(1)));
    assert!(leader.controller.take_answers().is_empty());
    assert_eq!(leader.settle().len(), 1);
}

#[test]
fn a_new_controller_gives_every_broker_a_full_session() {
    let mut leader = Leader::with_brokers(1);
    leader.now.mono = leader.now.mono + Duration::from_mins(1);
    leader.controller.begin_sessions(leader.now);
    let deadline = leader.now.mono + Duration::from_secs(3);
    assert_eq!(leader.controller.sessions().next_deadline(), Some(deadline));
}

#[test]
fn a_registration_that_is_asked_for_again_ends_no_session() {
    let mut leader = Leader::with_brokers(1);
    let deadline = leader.controller.sessions().next_deadline();
    assert!(deadline.is_some());
    leader.command(&Command::RegisterBroker(CLUSTER, registration(1, 1, 1)));
    assert_eq!(leader.controller.sessions().next_deadline(), deadline);
    leader.command(&Command::RegisterBroker(CLUSTER, registration(1, 1, 2)));
    assert_eq!(leader.controller.sessions().next_deadline(), None, "the next start is fenced");
}

#[test]
fn a_refused_registration_says_why() {
    let mut leader = Leader::with_brokers(1);
    let answer = leader.command(&Command::RegisterBroker(CLUSTER, registration(1, 7, 1)));
    let CommandAnswer::Failed(code, why) = answer else { panic!("{answer:?} is no refusal") };
    assert_eq!(code, ErrorCode::DuplicateBrokerRegistration);
    assert!(why.contains("another data directory"), "{why}");

    let mut stale = leader.heartbeat(1);
    stale.broker_epoch -= 1;
    let answer = leader.command(&Command::Heartbeat(stale));
    let CommandAnswer::Response(Response::BrokerHeartbeat(response)) = answer else {
        panic!("{answer:?} answers no heartbeat")
    };
    assert_eq!(response.error_code, ErrorCode::StaleBrokerEpoch.code());
}

#[test]
fn a_topic_is_answered_once_every_living_broker_knows_it_and_holds_no_heartbeat_back() {
    let mut leader = Leader::with_brokers(3);
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "t".into(),
            num_partitions: 1,
            replication_factor: 3,
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    leader.handle(&Command::CreateTopics(request));
    assert!(leader.settle_here().is_empty(), "two brokers may not know it yet");
    leader.handle(&Command::Heartbeat(leader.heartbeat(2)));
    assert_eq!(leader.settle_here().len(), 1, "the heartbeat alone");
    leader.handle(&Command::Heartbeat(leader.heartbeat(3)));
    assert_eq!(leader.settle_here().len(), 2, "the heartbeat, and the topic");
}
