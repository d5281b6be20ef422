//! What a node answers, by claims, with one shard and with three.

mod administration;
mod configs;
mod connections;
mod copying;
mod delayed;
mod exactly_once;
mod features_loading;
mod fetch;
mod fetch_sessions;
mod groups;
mod half;
mod hidden;
mod idempotence;
mod late_markers;
mod leaders;
mod life;
mod offsets;
mod peers;
mod produce;
mod snapshots;
mod topics;
mod transactions;

use bytes::Bytes;

use crate::broker::testing::{Client, TestNode};
use crate::ids::Uuid;
use crate::wire::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use crate::wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::wire::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponseTopic};
use crate::wire::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};

const SHARDS: [u16; 2] = [1, 3];

fn create(node: &mut TestNode, client: Client, name: &str, partitions: i32) -> Uuid {
    let response = create_with(node, client, name, partitions, &[]);
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
    response.topics[0].topic_id
}

fn create_with(
    node: &mut TestNode,
    client: Client,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> CreateTopicsResponse {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        })
        .collect();
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    node.call(client, 7, &request)
}

fn delete(node: &mut TestNode, client: Client, name: &str) {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(name.into()), topic_id: Uuid::ZERO }],
        ..DeleteTopicsRequest::default()
    };
    assert_eq!(node.call(client, 6, &request).responses[0].error_code, 0);
}

fn produce_request(acks: i16, topic: &str, partitions: &[(i32, Bytes)]) -> ProduceRequest {
    let partition_data = partitions
        .iter()
        .map(|(index, records)| PartitionProduceData {
            index: *index,
            records: Some(records.clone()),
        })
        .collect();
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data,
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

fn produce(
    node: &mut TestNode,
    client: Client,
    topic: &str,
    partition: i32,
    records: Bytes,
) -> PartitionProduceResponse {
    let request = produce_request(-1, topic, &[(partition, records)]);
    let mut response = node.call(client, 9, &request);
    response.responses.remove(0).partition_responses.remove(0)
}

fn fetch_request(
    topic: &str,
    partitions: &[(i32, i64)],
    wait: i32,
    min_bytes: i32,
) -> FetchRequest {
    let partitions = partitions
        .iter()
        .map(|&(partition, fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        })
        .collect();
    FetchRequest {
        max_wait_ms: wait,
        min_bytes,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic { topic: topic.into(), partitions, ..FetchTopic::default() }],
        ..FetchRequest::default()
    }
}

fn fetch(
    node: &mut TestNode,
    client: Client,
    topic: &str,
    partition: i32,
    offset: i64,
) -> PartitionData {
    let request = fetch_request(topic, &[(partition, offset)], 0, 1);
    let mut response = node.call(client, 12, &request);
    response.responses.remove(0).partitions.remove(0)
}

fn list_offset(
    node: &mut TestNode,
    client: Client,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let request = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    node.call(client, 11, &request).topics.remove(0).partitions.remove(0)
}

fn metadata(node: &mut TestNode, client: Client, name: &str, auto: bool) -> MetadataResponseTopic {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name.into()),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: auto,
        ..MetadataRequest::default()
    };
    node.call(client, 13, &request).topics.remove(0)
}
