//! A cluster in a test: an image, and the decisions that change it.

mod brokers;
mod controller;
mod model;
mod partitions;
mod reassignments;
mod sessions;
mod snapshots;

use crate::error::ErrorCode;
use crate::ids::{Incarnation, NodeId, PartitionIndex, TopicPartition, Uuid};
use crate::metadata::decide::Refusal;
use crate::metadata::decide_brokers::{incarnation_id, register_broker, unfence};
use crate::metadata::decide_partitions::alter_partition;
use crate::metadata::{MetadataImage, PartitionImage};
use crate::wire::MetadataRecord;
use crate::wire::api::alter_partition::{
    AlterPartitionPartition, AlterPartitionPartitionResponse, AlterPartitionRequest,
    AlterPartitionTopic, BrokerState,
};
use crate::wire::api::broker_registration::BrokerRegistrationRequest;
use crate::wire::metadata_record::{ConfigRecord, PartitionRecord, TopicRecord};

const CLUSTER: Uuid = Uuid([0xc1; 16]);
const TOPIC: Uuid = Uuid([0x70; 16]);

#[derive(Clone, Default)]
struct Cluster {
    image: MetadataImage,
}

impl Cluster {
    /// Brokers from 1 on that serve, and no topic.
    fn of(brokers: i32) -> Self {
        let mut cluster = Self::default();
        for node in 1..=brokers {
            cluster.start(node, 1);
        }
        cluster
    }

    /// The same with a topic `t` of MIN `min` and a partition for each list of replicas, all in sync.
    fn with_topic(brokers: i32, min: usize, partitions: &[&[i32]]) -> Self {
        let mut cluster = Self::of(brokers);
        cluster.apply(&[
            TopicRecord { name: "t".into(), topic_id: TOPIC }.into(),
            ConfigRecord {
                resource_type: 2,
                resource_name: "t".into(),
                name: "min.insync.replicas".into(),
                value: Some(min.to_string().into()),
            }
            .into(),
        ]);
        for (replicas, partition_id) in partitions.iter().zip(0..) {
            let record = PartitionRecord {
                partition_id,
                topic_id: TOPIC,
                replicas: replicas.to_vec(),
                isr: replicas.to_vec(),
                leader: replicas[0],
                leader_epoch: 0,
                partition_epoch: 0,
                ..PartitionRecord::default()
            };
            cluster.apply(&[record.into()]);
        }
        cluster
    }

    fn apply(&mut self, records: &[MetadataRecord]) {
        for record in records {
            let offset = self.image.end_offset();
            self.image.apply(offset, record).expect("decided against this image");
        }
    }

    fn register(&mut self, request: &BrokerRegistrationRequest) -> Result<i64, Refusal> {
        let decision = register_broker(&self.image, CLUSTER, request)?;
        self.apply(&decision.records);
        Ok(decision.response)
    }

    /// A start of a node with the directory of its number: registered and caught up.
    fn start(&mut self, node: i32, incarnation: u32) {
        self.register(&registration(node, node as u8, incarnation)).expect("may register");
        self.apply(&unfence(&self.image, NodeId(node)));
    }

    fn partition(&self, index: i32) -> &PartitionImage {
        let topic = self.image.topic(TOPIC).expect("there");
        topic.partition(PartitionIndex(index)).expect("there")
    }

    fn isr(&self, index: i32) -> Vec<i32> {
        self.partition(index).isr.iter().map(|node| node.0).collect()
    }

    fn leader(&self, index: i32) -> i32 {
        self.partition(index).leader.0
    }

    /// What the leader of a partition asks for when it wants this in-sync set.
    fn asks_for(&self, index: i32, isr: &[i32]) -> AlterPartitionRequest {
        let partition = self.partition(index);
        let epoch_of = |node: i32| self.image.broker(NodeId(node)).map_or(-1, |it| it.broker_epoch);
        let members = isr
            .iter()
            .map(|&broker_id| BrokerState { broker_id, broker_epoch: epoch_of(broker_id) });
        AlterPartitionRequest {
            broker_id: partition.leader.0,
            broker_epoch: epoch_of(partition.leader.0),
            topics: vec![AlterPartitionTopic {
                topic_id: TOPIC,
                partitions: vec![AlterPartitionPartition {
                    partition_index: index,
                    leader_epoch: partition.leader_epoch.0,
                    partition_epoch: partition.partition_epoch,
                    new_isr_with_epochs: members.collect(),
                    ..AlterPartitionPartition::default()
                }],
            }],
        }
    }

    /// Carries out a request for one partition and returns its answer.
    fn alter(&mut self, request: &AlterPartitionRequest) -> AlterPartitionPartitionResponse {
        let decision = alter_partition(&self.image, request, 3);
        assert_eq!(decision.response.error_code, ErrorCode::None.code());
        self.apply(&decision.records);
        decision.response.topics[0].partitions[0].clone()
    }
}

fn registration(node: i32, directory: u8, incarnation: u32) -> BrokerRegistrationRequest {
    let directory_id = Uuid([directory; 16]);
    BrokerRegistrationRequest {
        broker_id: node,
        cluster_id: CLUSTER.to_string().into(),
        incarnation_id: incarnation_id(directory_id, Incarnation(incarnation)),
        log_dirs: vec![directory_id],
        rack: None,
        ..BrokerRegistrationRequest::default()
    }
}

fn partition_id(index: i32) -> TopicPartition {
    TopicPartition { topic_id: TOPIC, partition: PartitionIndex(index) }
}
