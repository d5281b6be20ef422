//! What a node answers, by claims, with one shard and with three.

use std::time::Duration;

use bytes::Bytes;

use crate::broker::testing::{Client, TestNode, batch};
use crate::error::ErrorCode;
use crate::ids::{ProducerEpoch, ProducerId, Uuid};
use crate::io::{DiskErrorKind, Mark};
use crate::record::builder::Producer;
use crate::wire::KafkaString;
use crate::wire::api::alter_configs;
use crate::wire::api::api_versions::ApiVersionsRequest;
use crate::wire::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::wire::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::wire::api::describe_cluster::DescribeClusterRequest;
use crate::wire::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::wire::api::describe_log_dirs::DescribeLogDirsRequest;
use crate::wire::api::describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest};
use crate::wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use crate::wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use crate::wire::api::init_producer_id::InitProducerIdRequest;
use crate::wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::wire::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponseTopic};
use crate::wire::api::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
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

#[test]
fn a_topic_named_by_metadata_is_created_and_takes_and_gives_records() {
    for shards in SHARDS {
        let mut node =
            TestNode::with(shards, |c| c.settings.set("num.partitions", "4").expect("valid"));
        for shard in 0..shards {
            let client = node.connect(shard);
            let name = format!("topic-{shard}");
            let topic = metadata(&mut node, client, &name, true);
            assert_eq!((topic.error_code, topic.partitions.len()), (0, 4));
            assert!(!topic.topic_id.is_zero());
            for partition in 0..4 {
                let records = batch(&["a", "b"], None);
                let answer = produce(&mut node, client, &name, partition, records.clone());
                assert_eq!((answer.error_code, answer.base_offset), (0, 0), "{answer:?}");
                assert_eq!(answer.log_start_offset, 0);
                let answer = produce(&mut node, client, &name, partition, records.clone());
                assert_eq!(answer.base_offset, 2);
                let data = fetch(&mut node, client, &name, partition, 0);
                assert_eq!((data.error_code, data.high_watermark), (0, 4));
                let read = data.records.expect("records");
                assert_eq!(read.len(), 2 * records.len());
                assert_eq!(read.to_bytes()[16..records.len()], records[16..], "bytes are kept");
                assert_eq!(list_offset(&mut node, client, &name, partition, -1).offset, 4);
                assert_eq!(list_offset(&mut node, client, &name, partition, -2).offset, 0);
                let found = list_offset(&mut node, client, &name, partition, 1_700_000_000_000);
                assert_eq!((found.error_code, found.offset), (0, 0));
                let found = list_offset(&mut node, client, &name, partition, i64::MAX);
                assert_eq!((found.error_code, found.offset, found.timestamp), (0, -1, -1));
            }
        }
    }
}

#[test]
fn without_leave_metadata_creates_nothing_and_bad_names_are_told() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    assert_eq!(metadata(&mut node, client, "absent", false).error_code, 3);
    assert_eq!(metadata(&mut node, client, "a/b", true).error_code, 17);
    assert_eq!(metadata(&mut node, client, "__consumer_offsets", true).error_code, 3);
    let all = node.call(client, 13, &MetadataRequest { topics: None, ..Default::default() });
    assert_eq!((all.topics.len(), all.brokers.len(), all.controller_id), (0, 1, 1));
    assert_eq!(all.brokers[0].port, 9092);
    let oldest =
        node.call(client, 0, &MetadataRequest { topics: Some(vec![]), ..Default::default() });
    assert_eq!(oldest.brokers.len(), 1);
}

#[test]
fn nothing_is_acknowledged_or_read_before_it_is_stable() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        for acks in [1, -1] {
            let before = list_offset(&mut node, client, "t", 0, -1).offset;
            node.hold_disk = true;
            let request = produce_request(acks, "t", &[(0, batch(&["x"], None))]);
            let id = node.send(client, 9, &request);
            assert!(node.take_frame(client).is_none(), "acks={acks} waits for the flush");
            let other = node.connect(0);
            assert_eq!(list_offset(&mut node, other, "t", 0, -1).offset, before);
            assert!(fetch(&mut node, other, "t", 0, before).records.expect("empty").is_empty());
            node.release();
            let (answered, response) = node.take::<ProduceRequest>(client, 9).expect("answered");
            assert_eq!(answered, id);
            assert_eq!(response.responses[0].partition_responses[0].base_offset, before);
        }
    }
}

#[test]
fn acks_0_has_no_answer_and_an_error_closes_the_connection() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    node.send(client, 9, &produce_request(0, "t", &[(0, batch(&["x"], None))]));
    assert!(node.take_frame(client).is_none());
    assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, 1);
    node.send(client, 9, &produce_request(0, "t", &[(7, batch(&["x"], None))]));
    assert_eq!(node.closed, [client.connection]);
}

#[test]
fn everything_acknowledged_is_there_after_a_kill() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        let id = create(&mut node, client, "t", 6);
        for partition in 0..6 {
            for _ in 0..3 {
                assert_eq!(
                    produce(&mut node, client, "t", partition, batch(&["v"], None)).error_code,
                    0
                );
            }
        }
        let epoch = metadata(&mut node, client, "t", false).partitions[0].leader_epoch;
        for restarts in 1..3 {
            node.restart();
            assert_eq!(node.ready, usize::from(shards));
            let client = node.connect(shards - 1);
            let topic = metadata(&mut node, client, "t", false);
            assert_eq!((topic.topic_id, topic.partitions.len()), (id, 6));
            assert_eq!(
                topic.partitions[0].leader_epoch,
                epoch + restarts,
                "each start is an epoch"
            );
            for partition in 0..6 {
                let data = fetch(&mut node, client, "t", partition, 0);
                assert_eq!((data.error_code, data.high_watermark), (0, 3));
                assert!(!data.records.expect("records").is_empty());
            }
        }
        assert!(node.warnings.is_empty(), "{:?}", node.warnings);
    }
}

#[test]
fn a_retry_of_an_idempotent_batch_is_answered_with_its_first_offset_even_after_a_kill() {
    let mut node = TestNode::started(3);
    let client = node.connect(1);
    create(&mut node, client, "t", 1);
    let response = node.call(
        client,
        4,
        &InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() },
    );
    assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    let producer = |base_sequence| {
        let (id, epoch) = (ProducerId(response.producer_id), ProducerEpoch(0));
        Some(Producer { id, epoch, base_sequence })
    };
    for sequence in 0..3 {
        let answer = produce(&mut node, client, "t", 0, batch(&["x"], producer(sequence)));
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)));
    }
    let again = produce(&mut node, client, "t", 0, batch(&["x"], producer(1)));
    assert_eq!((again.error_code, again.base_offset), (0, 1));
    let gap = produce(&mut node, client, "t", 0, batch(&["x"], producer(9)));
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    assert!(node.marks.contains(&Mark::DuplicateAnswered));
    node.restart();
    let client = node.connect(2);
    let again = produce(&mut node, client, "t", 0, batch(&["x"], producer(2)));
    assert_eq!((again.error_code, again.base_offset), (0, 2));
}

#[test]
fn producer_ids_are_never_given_twice_across_shards_and_starts() {
    let mut node = TestNode::started(3);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        for shard in 0..3 {
            let client = node.connect(shard);
            for _ in 0..400 {
                let request =
                    InitProducerIdRequest { transactional_id: None, ..Default::default() };
                let response = node.call(client, 5, &request);
                assert!(seen.insert(response.producer_id), "{}", response.producer_id);
            }
        }
        node.restart();
    }
    let client = node.connect(0);
    for (id, code) in [("", 42), ("mine", 35)] {
        let request =
            InitProducerIdRequest { transactional_id: Some(id.into()), ..Default::default() };
        assert_eq!(node.call(client, 5, &request).error_code, code);
    }
}

#[test]
fn a_parked_fetch_is_woken_by_bytes_and_ends_at_its_deadline() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let (reader, writer) = (node.connect(0), node.connect(shards - 1));
        create(&mut node, writer, "t", 3);
        let at = fetch_request("t", &[(0, 0), (1, 0), (2, 0)], 5000, 1);
        node.send(reader, 12, &at);
        assert!(node.take_frame(reader).is_none(), "it waits");
        produce(&mut node, writer, "t", 1, batch(&["x"], None));
        let (_, response) = node.take::<FetchRequest>(reader, 12).expect("woken");
        let with_data: Vec<bool> = response.responses[0]
            .partitions
            .iter()
            .map(|p| !p.records.as_ref().expect("records").is_empty())
            .collect();
        assert_eq!(with_data, [false, true, false]);

        node.send(reader, 12, &fetch_request("t", &[(0, 0), (1, 1)], 5000, 1));
        node.pass(Duration::from_millis(4999));
        assert!(node.take_frame(reader).is_none(), "it waits until its deadline");
        node.pass(Duration::from_millis(1));
        let (_, response) = node.take::<FetchRequest>(reader, 12).expect("at the deadline");
        assert_eq!(response.responses[0].partitions[0].error_code, 0);
        assert_eq!(response.session_id, 0);
    }
}

#[test]
fn a_fetch_waits_for_min_bytes_over_all_its_partitions() {
    let mut node = TestNode::started(3);
    let (reader, writer) = (node.connect(0), node.connect(1));
    create(&mut node, writer, "t", 4);
    let one = batch(&["0123456789"], None);
    let least = one.len() as i32 * 2;
    let at: Vec<(i32, i64)> = (0..4).map(|p| (p, 0)).collect();
    node.send(reader, 12, &fetch_request("t", &at, 60_000, least));
    produce(&mut node, writer, "t", 3, one.clone());
    assert!(node.take_frame(reader).is_none(), "half of it is there");
    produce(&mut node, writer, "t", 0, one);
    assert!(node.take::<FetchRequest>(reader, 12).is_some());
}

#[test]
fn every_fetch_shape_is_answered() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        let id = create(&mut node, client, "t", 2);
        produce(&mut node, client, "t", 0, batch(&["x"], None));
        for version in 4..=18 {
            let call = |node: &mut TestNode, name: &str, topic_id, at: &[(i32, i64)]| {
                let mut request = fetch_request(name, at, 0, 1);
                request.topics[0].topic_id = topic_id;
                node.call(client, version, &request)
            };
            let code = |response: &crate::wire::api::fetch::FetchResponse| {
                response.responses[0].partitions[0].error_code
            };
            let good = call(&mut node, "t", id, &[(0, 0)]);
            assert_eq!(code(&good), 0, "v{version}");
            assert!(!good.responses[0].partitions[0].records.as_ref().expect("some").is_empty());
            assert_eq!(code(&call(&mut node, "t", id, &[(0, 1)])), 0);
            assert_eq!(code(&call(&mut node, "t", id, &[(0, 2)])), 1);
            assert_eq!(code(&call(&mut node, "t", id, &[(0, -1)])), 1);
            assert_eq!(code(&call(&mut node, "t", id, &[(9, 0)])), 3);
            let unknown = if version >= 13 { 100 } else { 3 };
            assert_eq!(code(&call(&mut node, "u", Uuid([9; 16]), &[(0, 0)])), unknown);
            assert!(call(&mut node, "t", id, &[]).responses[0].partitions.is_empty());
            let nothing = FetchRequest { max_wait_ms: 60_000, ..FetchRequest::default() };
            let sent = node.send(client, version, &nothing);
            let (answered, _) = node.take::<FetchRequest>(client, version).expect("at once");
            assert_eq!(answered, sent);
        }
    }
}

#[test]
fn the_first_batch_comes_whole_however_small_the_limit() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 3);
    let records = batch(&[&"x".repeat(1000)], None);
    for partition in 0..3 {
        produce(&mut node, client, "t", partition, records.clone());
        produce(&mut node, client, "t", partition, records.clone());
    }
    let mut request = fetch_request("t", &[(2, 0), (0, 0), (1, 0)], 0, 1);
    request.max_bytes = 10;
    let response = node.call(client, 12, &request);
    let sizes: Vec<usize> = response.responses[0]
        .partitions
        .iter()
        .map(|p| p.records.as_ref().expect("records").len())
        .collect();
    assert_eq!(sizes, [records.len(), 0, 0]);
    request.max_bytes = records.len() as i32 * 3;
    let response = node.call(client, 12, &request);
    let total: usize = response.responses[0]
        .partitions
        .iter()
        .map(|p| p.records.as_ref().expect("records").len())
        .sum();
    assert_eq!(total, records.len() * 3, "as much as the limit allows, in whole batches");
}

#[test]
fn with_its_pool_full_a_fetch_still_brings_one_batch() {
    let mut node = TestNode::with(1, |config| config.limits.answer_pool_bytes = 0);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    let records = batch(&["x"], None);
    for _ in 0..3 {
        produce(&mut node, client, "t", 0, records.clone());
    }
    let data = fetch(&mut node, client, "t", 0, 1);
    assert_eq!(data.records.expect("records").len(), records.len());
}

#[test]
fn leader_epochs_fence_clients_that_are_behind_or_ahead() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    produce(&mut node, client, "t", 0, batch(&["x"], None));
    node.restart();
    let client = node.connect(0);
    for (epoch, code) in [(-1, 0), (0, 74), (1, 0), (2, 75)] {
        let mut request = fetch_request("t", &[(0, 0)], 0, 1);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let response = node.call(client, 12, &request);
        assert_eq!(response.responses[0].partitions[0].error_code, code, "epoch {epoch}");
    }
    let mut at = |leader_epoch| {
        let request = OffsetForLeaderEpochRequest {
            topics: vec![OffsetForLeaderTopic {
                topic: "t".into(),
                partitions: vec![OffsetForLeaderPartition {
                    partition: 0,
                    current_leader_epoch: -1,
                    leader_epoch,
                }],
            }],
            ..OffsetForLeaderEpochRequest::default()
        };
        let found = node.call(client, 4, &request).topics.remove(0).partitions.remove(0);
        (found.leader_epoch, found.end_offset)
    };
    assert_eq!(at(0), (0, 1));
    assert_eq!(at(1), (1, 1));
    assert_eq!(at(2), (-1, -1));
}

#[test]
fn produce_is_refused_by_kafkas_codes() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 2);
    let strict = create_with(&mut node, client, "strict", 1, &[("min.insync.replicas", "2")]);
    assert_eq!(strict.topics[0].error_code, 0);
    let good = batch(&["x"], None);
    assert_eq!(produce(&mut node, client, "absent", 0, good.clone()).error_code, 3);
    assert_eq!(produce(&mut node, client, "t", 2, good.clone()).error_code, 3);
    assert_eq!(produce(&mut node, client, "strict", 0, good.clone()).error_code, 19);
    let one = produce_request(1, "strict", &[(0, good.clone())]);
    assert_eq!(node.call(client, 9, &one).responses[0].partition_responses[0].error_code, 0);
    let bad_acks = produce_request(2, "t", &[(0, good.clone())]);
    assert_eq!(node.call(client, 9, &bad_acks).responses[0].partition_responses[0].error_code, 21);
    let twice =
        produce_request(-1, "t", &[(0, good.clone()), (0, good.clone()), (1, good.clone())]);
    let codes: Vec<i16> = node.call(client, 9, &twice).responses[0]
        .partition_responses
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(codes, [42, 42, 0]);
    let mut damaged = good.to_vec();
    *damaged.last_mut().expect("bytes") ^= 1;
    let answer = produce(&mut node, client, "t", 0, damaged.into());
    assert_eq!((answer.error_code, answer.base_offset), (2, -1));
    assert!(answer.error_message.is_some());
    for version in 0..3 {
        let old = node.call(client, version, &produce_request(1, "t", &[(0, good.clone())]));
        assert_eq!(old.responses[0].partition_responses[0].error_code, 35);
    }
    let transactional = ProduceRequest {
        transactional_id: Some("id".into()),
        ..produce_request(-1, "t", &[(0, good)])
    };
    let answer = node.call(client, 9, &transactional);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 35);
}

#[test]
fn append_time_stamps_the_stored_batch_and_the_answer() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let configs = [("message.timestamp.type", "LogAppendTime")];
    create_with(&mut node, client, "t", 1, &configs);
    let answer = produce(&mut node, client, "t", 0, batch(&["x"], None));
    assert_eq!(answer.log_append_time_ms, node.now.wall.0);
    let read = fetch(&mut node, client, "t", 0, 0).records.expect("records").to_bytes();
    let stored = crate::record::batch::Batch::split_from(&mut read.clone()).expect("a whole batch");
    assert!(stored.is_log_append_time() && stored.crc_is_valid());
}

#[test]
fn a_created_topic_is_known_at_every_shard_when_the_answer_leaves() {
    let mut node = TestNode::started(3);
    let client = node.connect(1);
    let id = create(&mut node, client, "t", 5);
    for shard in 0..3 {
        let client = node.connect(shard);
        assert_eq!(metadata(&mut node, client, "t", false).topic_id, id);
    }
    node.hold_disk = true;
    let topic = CreatableTopic {
        name: "u".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    node.send(client, 7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    assert!(node.take_frame(client).is_none(), "the record is not committed yet");
    let other = node.connect(0);
    assert_eq!(metadata(&mut node, other, "u", false).error_code, 3);
    node.release();
    assert!(node.take::<CreateTopicsRequest>(client, 7).is_some());
    assert_eq!(metadata(&mut node, other, "u", false).error_code, 0);
}

#[test]
fn topic_creation_is_refused_by_kafkas_codes() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "a.b", 1);
    let mut code =
        |name: &str, partitions: i32, factor: i16, config: Option<(&str, Option<&str>)>| {
            let configs = config
                .into_iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: name.into(),
                    value: value.map(KafkaString::from),
                })
                .collect();
            let topic = CreatableTopic {
                name: name.into(),
                num_partitions: partitions,
                replication_factor: factor,
                configs,
                ..CreatableTopic::default()
            };
            let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
            node.call(client, 7, &request).topics[0].error_code
        };
    assert_eq!(code("a.b", 1, 1, None), 36);
    assert_eq!(code("a_b", 1, 1, None), 17, "collides with a.b");
    assert_eq!(code("a b", 1, 1, None), 17);
    assert_eq!(code("c", 0, 1, None), 37);
    assert_eq!(code("c", 1, 2, None), 38);
    assert_eq!(code("c", 1, 0, None), 38);
    assert_eq!(code("c", 1, 1, Some(("cleanup.policy", Some("compact")))), 40);
    assert_eq!(code("c", 1, 1, Some(("no.such.setting", Some("1")))), 40);
    assert_eq!(code("c", 1, 1, Some(("retention.ms", None))), 40);
    assert_eq!(code("c", -1, -1, Some(("retention.ms", Some("1000")))), 0);
}

#[test]
fn a_deleted_topic_is_gone_everywhere_and_stays_gone_after_a_kill() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        let first = create(&mut node, client, "t", 3);
        produce(&mut node, client, "t", 0, batch(&["x"], None));
        let by_id = DeleteTopicState { name: None, topic_id: first };
        let request = DeleteTopicsRequest { topics: vec![by_id], ..Default::default() };
        let response = node.call(client, 6, &request);
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(response.responses[0].name.as_deref(), Some("t"));
        assert_eq!(metadata(&mut node, client, "t", false).error_code, 3);
        let again = node.call(client, 6, &request);
        assert_eq!(again.responses[0].error_code, 100);
        node.restart();
        let client = node.connect(0);
        assert_eq!(metadata(&mut node, client, "t", false).error_code, 3);
        assert_ne!(create(&mut node, client, "t", 3), first);
        assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, 0);
        assert!(node.warnings.is_empty(), "{:?}", node.warnings);
    }
}

#[test]
fn added_partitions_can_be_used_and_a_number_that_does_not_grow_is_refused() {
    let mut node = TestNode::started(3);
    let client = node.connect(2);
    create(&mut node, client, "t", 2);
    let mut grow = |count| {
        let topic = CreatePartitionsTopic { name: "t".into(), count, assignments: None };
        let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
        node.call(client, 3, &request).results[0].error_code
    };
    assert_eq!((grow(2), grow(1), grow(7)), (37, 37, 0));
    assert_eq!(produce(&mut node, client, "t", 6, batch(&["x"], None)).error_code, 0);
}

#[test]
fn records_below_a_moved_log_start_are_gone() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        for _ in 0..4 {
            produce(&mut node, client, "t", 0, batch(&["x"], None));
        }
        let mut move_to = |offset| {
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: "t".into(),
                    partitions: vec![DeleteRecordsPartition { partition_index: 0, offset }],
                }],
                timeout_ms: 1000,
            };
            let found = node.call(client, 2, &request).topics.remove(0).partitions.remove(0);
            (found.error_code, found.low_watermark)
        };
        assert_eq!(move_to(2), (0, 2));
        assert_eq!(move_to(1), (0, 2), "it never moves back");
        assert_eq!(move_to(5).0, 1);
        assert_eq!(move_to(-2).0, 1);
        assert_eq!(fetch(&mut node, client, "t", 0, 1).error_code, 1);
        assert_eq!(list_offset(&mut node, client, "t", 0, -2).offset, 2);
    }
}

#[test]
fn settings_of_topics_are_changed_shown_and_in_force() {
    let mut node = TestNode::started(3);
    let client = node.connect(1);
    create(&mut node, client, "t", 2);
    let mut alter = |name: &str, operation: i8, value: Option<&str>| {
        let config = AlterableConfig {
            name: name.into(),
            config_operation: operation,
            value: value.map(KafkaString::from),
        };
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![config],
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            ..IncrementalAlterConfigsRequest::default()
        };
        node.call(client, 1, &request).responses[0].error_code
    };
    assert_eq!(alter("max.message.bytes", 0, Some("100")), 0);
    assert_eq!(alter("max.message.bytes", 2, Some("100")), 40, "no list");
    assert_eq!(alter("max.message.bytes", 0, Some("many")), 40);
    assert_eq!(alter("mainspring.storage", 0, Some("memory")), 40);
    assert_eq!(alter("cleanup.policy", 2, Some("compact")), 40);
    let large = batch(&[&"x".repeat(200)], None);
    assert_eq!(produce(&mut node, client, "t", 1, large).error_code, 10);

    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let shown = node.call(client, 4, &request).results.remove(0);
    assert_eq!(shown.error_code, 0);
    assert!(shown.configs.len() >= 33, "Kafka's whole list");
    let find = |name: &str| shown.configs.iter().find(|c| c.name == name).expect("shown");
    let changed = find("max.message.bytes");
    assert_eq!((changed.value.as_deref(), changed.config_source), (Some("100"), 1));
    assert_eq!(changed.config_type, 3);
    assert_eq!(find("retention.ms").config_source, 5);
    assert!(find("cleanup.policy").documentation.is_some());
}

#[test]
fn one_topic_is_described_page_by_page() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "a", 3);
    create(&mut node, client, "b", 2);
    let mut request =
        DescribeTopicPartitionsRequest { response_partition_limit: 2, ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let response = node.call(client, 0, &request);
        for topic in &response.topics {
            let name = topic.name.clone().expect("named").to_string();
            seen.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition_index)));
        }
        match response.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => break,
        }
    }
    let expected: Vec<(String, i32)> = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
        .iter()
        .map(|&(name, index)| (name.to_owned(), index))
        .collect();
    assert_eq!(seen, expected);
    let absent = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest { name: "absent".into() }],
        ..DescribeTopicPartitionsRequest::default()
    };
    assert_eq!(node.call(client, 0, &absent).topics[0].error_code, 3);
}

#[test]
fn the_cluster_and_its_log_directories_are_described() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 3);
    produce(&mut node, client, "t", 1, batch(&["x"], None));
    let cluster = node.call(client, 2, &DescribeClusterRequest::default());
    assert_eq!((cluster.brokers.len(), cluster.controller_id), (1, 1));
    assert_eq!(cluster.cluster_id.as_str(), node.shards[2].cluster_id().to_string());
    let dirs = node.call(client, 4, &DescribeLogDirsRequest { topics: None });
    let sizes: Vec<bool> =
        dirs.results[0].topics[0].partitions.iter().map(|p| p.partition_size > 0).collect();
    assert_eq!(sizes, [false, true, false]);
}

#[test]
fn api_versions_of_an_unknown_version_gets_the_frame_of_kafka() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let mut frame = vec![0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 7];
    frame.extend([0xff; 4]);
    node.send_bytes(client, &frame);
    let expected = [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
    assert_eq!(node.take_frame(client).expect("answered"), expected[..]);
    for version in 0..=4 {
        let request = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1.0".into(),
        };
        let response = node.call(client, version, &request);
        assert_eq!(response.error_code, 0);
        let produce = response.api_keys.iter().find(|api| api.api_key == 0).expect("served");
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
        assert_eq!(response.finalized_features.len(), usize::from(version >= 3));
    }
    let nameless = node.call(client, 3, &ApiVersionsRequest::default());
    assert_eq!((nameless.error_code, nameless.api_keys.len()), (42, 0));
}

#[test]
fn what_is_not_served_or_does_not_parse_closes_the_connection() {
    let mut node = TestNode::started(1);
    let bad: [&[u8]; 4] = [
        &[0, 0, 0, 10, 0, 10, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0, 0, 0, 10, 0, 1, 0, 99, 0, 0, 0, 1, 0, 0],
        &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
    ];
    for (index, bytes) in bad.into_iter().enumerate() {
        let client = node.connect(0);
        node.send_bytes(client, bytes);
        assert_eq!(node.closed.len(), index + 1, "{bytes:?}");
        assert!(node.take_frame(client).is_none());
    }
}

#[test]
fn pipelined_requests_share_a_flush_and_are_answered_in_order() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 4);
    node.hold_disk = true;
    let mut sent = Vec::new();
    for partition in 0..4 {
        let request = produce_request(-1, "t", &[(partition, batch(&["x"], None))]);
        sent.push(node.send(client, 9, &request));
    }
    let described = node.send(client, 2, &DescribeClusterRequest::default());
    assert!(node.take_frame(client).is_none());
    node.release();
    for id in sent {
        assert_eq!(node.take::<ProduceRequest>(client, 9).expect("answered").0, id);
    }
    let last = node.take::<DescribeClusterRequest>(client, 2).expect("answered");
    assert_eq!(last.0, described);
}

#[test]
fn a_full_disk_refuses_produce_with_words_and_everything_else_goes_on() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    produce(&mut node, client, "t", 0, batch(&["kept"], None));
    node.disks[0].failing = Some(("t-0".to_owned(), DiskErrorKind::NoSpace));
    let mut refused = None;
    for _ in 0..200 {
        let answer = produce(&mut node, client, "t", 0, batch(&[&"x".repeat(20_000)], None));
        if answer.error_code != 0 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the disk is full");
    assert_eq!(refused.error_code, 56);
    assert!(refused.error_message.is_some());
    assert!(node.fatal.is_empty(), "{:?}", node.fatal);
    let data = fetch(&mut node, client, "t", 0, 0);
    assert_eq!(data.error_code, 0);
}

#[test]
fn a_failed_flush_acknowledges_nothing_and_ends_the_node_with_one_line() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 6);
        for disk in &mut node.disks {
            disk.failing = Some((String::new(), DiskErrorKind::Flush));
        }
        let answer = produce(&mut node, client, "t", 0, batch(&["lost"], None));
        assert_eq!(answer.error_code, 56);
        assert_eq!(node.fatal.len(), 1, "{:?}", node.fatal);
        assert!(!node.fatal[0].contains('\n'));
        for partition in 0..6 {
            let records = batch(&["lost"], None);
            assert_eq!(produce(&mut node, client, "t", partition, records).error_code, 56);
            assert_eq!(fetch(&mut node, client, "t", partition, 0).error_code, 56);
        }
    }
}

#[test]
fn stopping_answers_what_it_owes_and_then_says_so() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let (writer, reader) = (node.connect(0), node.connect(shards - 1));
        create(&mut node, writer, "t", 1);
        node.send(reader, 12, &fetch_request("t", &[(0, 0)], 60_000, 1));
        node.hold_disk = true;
        node.send(writer, 9, &produce_request(-1, "t", &[(0, batch(&["x"], None))]));
        node.stop();
        assert_eq!(node.stopped, 0, "a produce is owed its answer");
        node.release();
        let (_, response) = node.take::<ProduceRequest>(writer, 9).expect("answered");
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        assert!(node.take::<FetchRequest>(reader, 12).is_some());
        assert_eq!(node.stopped, usize::from(shards));
        node.restart();
        let client = node.connect(0);
        assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, 1);
    }
}

#[test]
fn an_idle_connection_is_closed_and_one_that_waits_is_not() {
    let mut node = TestNode::started(1);
    let (idle, busy) = (node.connect(0), node.connect(0));
    create(&mut node, busy, "t", 1);
    for _ in 0..11 {
        node.pass(Duration::from_secs(59));
        list_offset(&mut node, busy, "t", 0, -1);
    }
    assert_eq!(node.closed, [idle.connection]);
}

#[test]
fn a_frame_that_trickles_in_is_closed() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    node.send_bytes(client, &[0, 0, 0, 100, 0]);
    node.pass(Duration::from_secs(9));
    assert!(node.closed.is_empty());
    node.pass(Duration::from_secs(2));
    assert_eq!(node.closed, [client.connection]);
}

#[test]
fn a_clone_goes_on_alike() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    let twin = node.shards[0].clone();
    assert_eq!(twin.digest(), node.shards[0].digest());
    produce(&mut node, client, "t", 0, batch(&["x"], None));
    assert_ne!(twin.digest(), node.shards[0].digest());
}

#[test]
fn a_node_in_memory_opens_no_file() {
    let mut node = TestNode::with(3, |config| config.memory_only = true);
    let client = node.connect(0);
    metadata(&mut node, client, "t", true);
    assert_eq!(produce(&mut node, client, "t", 0, batch(&["x"], None)).error_code, 0);
    assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, 1);
    for disk in &node.disks {
        assert!(disk.files.is_empty() && disk.directories.is_empty());
    }
}

#[test]
fn a_producer_waits_while_too_much_is_unwritten_and_goes_on_in_order() {
    let mut node = TestNode::with(3, |config| config.log.unwritten_max_bytes = 10_000);
    let (client, other) = (node.connect(0), node.connect(1));
    create(&mut node, client, "t", 6);
    node.hold_disk = true;
    let large = batch(&[&"x".repeat(4000)], None);
    let mut sent = Vec::new();
    for partition in 0..6 {
        for _ in 0..4 {
            let request = produce_request(-1, "t", &[(partition, large.clone())]);
            sent.push(node.send(client, 9, &request));
        }
    }
    assert!(node.marks.contains(&Mark::BackPressure));
    assert_eq!(node.reading.get(&client.connection), Some(&false), "it is not read from");
    let described = node.call(other, 2, &DescribeClusterRequest::default());
    assert_eq!(described.error_code, 0, "others are served");
    node.release();
    for id in sent {
        for _ in 0..100 {
            if let Some((answered, response)) = node.take::<ProduceRequest>(client, 9) {
                assert_eq!(answered, id);
                assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
                break;
            }
            node.pass(Duration::from_millis(100));
        }
    }
    assert_eq!(node.reading.get(&client.connection), Some(&true));
    assert_eq!(list_offset(&mut node, client, "t", 5, -1).offset, 4);
}

#[test]
fn a_folder_that_is_not_ours_is_never_taken_for_a_topic() {
    let mut node = TestNode::started(1);
    node.disks[0].directories.insert("t-1".to_owned());
    node.restart();
    let client = node.connect(0);
    let refused = create_with(&mut node, client, "t", 2, &[]);
    assert_eq!(refused.topics[0].error_code, 44);
    assert!(refused.topics[0].error_message.as_deref().expect("words").contains("t-1"));
    assert_eq!(create_with(&mut node, client, "t", 1, &[]).topics[0].error_code, 0);
}

#[test]
fn deleting_a_topic_answers_everybody_who_waits_at_it() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let (client, reader) = (node.connect(0), node.connect(shards - 1));
        create(&mut node, client, "t", 2);
        node.send(reader, 12, &fetch_request("t", &[(0, 0), (1, 0)], 60_000, 1));
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some("t".into()), topic_id: Uuid::ZERO }],
            ..DeleteTopicsRequest::default()
        };
        assert_eq!(node.call(client, 6, &request).responses[0].error_code, 0);
        let (_, response) = node.take::<FetchRequest>(reader, 12).expect("answered at once");
        let codes: Vec<i16> =
            response.responses[0].partitions.iter().map(|p| p.error_code).collect();
        assert!(codes.contains(&3), "{codes:?}");
    }
}

#[test]
fn a_peer_that_is_gone_leaves_no_fetch_behind() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let (client, reader) = (node.connect(0), node.connect(0));
        create(&mut node, client, "t", 6);
        let waits = |node: &TestNode| -> usize {
            node.shards.iter().map(|shard| shard.watched.len() + shard.pending.len()).sum()
        };
        node.send(reader, 12, &fetch_request("t", &[(0, 0), (3, 0), (5, 0)], 60_000, 1));
        assert!(waits(&node) >= 2);
        node.disconnect(reader);
        assert_eq!(waits(&node), 0);
        assert_eq!(node.shards[0].parked_fetches, 0);
    }
}

#[test]
fn a_node_told_to_stop_at_any_moment_of_its_start_stops_and_starts_again() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 3);
        produce(&mut node, client, "t", 0, batch(&["kept"], None));
        let mut inputs = 0;
        while node.restart_for(inputs) {
            node.stop();
            node.pass(Duration::from_secs(9));
            assert_eq!(node.stopped, usize::from(shards), "after {inputs} inputs");
            assert!(node.fatal.is_empty(), "{:?}", node.fatal);
            inputs += usize::from(shards);
        }
        assert!(inputs > 5, "a start takes more than {inputs} inputs");
        node.restart();
        let client = node.connect(0);
        assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, 1);
    }
}

#[test]
fn a_node_killed_at_any_moment_of_its_start_starts_again() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        let id = create(&mut node, client, "t", 3);
        let mut inputs = 0;
        while node.restart_for(inputs) {
            inputs += usize::from(shards);
        }
        node.restart();
        let client = node.connect(0);
        assert_eq!(metadata(&mut node, client, "t", false).topic_id, id);
    }
}

#[test]
fn altering_replaces_the_whole_set_and_validating_changes_nothing() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create_with(&mut node, client, "t", 1, &[("retention.ms", "5000"), ("segment.ms", "7000")]);
    let mut alter = |name: &str, value: &str, validate_only| {
        let config =
            alter_configs::AlterableConfig { name: name.into(), value: Some(value.into()) };
        let resource = alter_configs::AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![config],
        };
        let request =
            alter_configs::AlterConfigsRequest { resources: vec![resource], validate_only };
        let code = node.call(client, 2, &request).responses[0].error_code;
        let topic = node.shards[0].image.topic_by_name("t").expect("there").clone();
        let set: Vec<(String, String)> = topic.configs.clone().into_iter().collect();
        (code, set)
    };
    let both = vec![
        ("retention.ms".to_owned(), "5000".to_owned()),
        ("segment.ms".to_owned(), "7000".to_owned()),
    ];
    assert_eq!(alter("retention.ms", "6000", true), (0, both.clone()));
    assert_eq!(alter("retention.ms", "-2", false), (40, both));
    let replaced = vec![("retention.ms".to_owned(), "6000".to_owned())];
    assert_eq!(alter("retention.ms", "6000", false), (0, replaced));
}

#[test]
fn settings_of_a_broker_are_shown_and_not_changed() {
    let mut node = TestNode::with(1, |c| c.settings.set("num.partitions", "3").expect("valid"));
    let client = node.connect(0);
    let mut describe = |name: &str| {
        let resource = DescribeConfigsResource {
            resource_type: 4,
            resource_name: name.into(),
            configuration_keys: Some(vec!["num.partitions".into()]),
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            ..DescribeConfigsRequest::default()
        };
        node.call(client, 4, &request).results.remove(0)
    };
    let shown = describe("1");
    assert_eq!((shown.error_code, shown.configs.len()), (0, 1));
    let setting = &shown.configs[0];
    assert_eq!((setting.value.as_deref(), setting.config_source), (Some("3"), 4));
    assert!(setting.read_only);
    assert_eq!(describe("2").error_code, 42);
    let resource =
        AlterConfigsResource { resource_type: 4, resource_name: "1".into(), configs: Vec::new() };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        ..IncrementalAlterConfigsRequest::default()
    };
    assert_eq!(node.call(client, 1, &request).responses[0].error_code, 42);
}

#[test]
fn a_partition_listed_twice_is_refused_and_special_times_name_places() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    produce(&mut node, client, "t", 0, batch(&["x", "y"], None));
    for (timestamp, offset) in [(-1, 2), (-2, 0), (-3, 0), (-4, 0), (-5, -1), (-6, -1)] {
        let found = list_offset(&mut node, client, "t", 0, timestamp);
        assert_eq!((found.error_code, found.offset), (0, offset), "{timestamp}");
    }
    let partition = ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() };
    let request = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![partition.clone(), partition],
        }],
        ..ListOffsetsRequest::default()
    };
    let codes: Vec<i16> =
        node.call(client, 11, &request).topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [42, 42]);
}
