//! Topics: made, found, grown, described and deleted.

use std::time::Duration;

use crate::broker::testing::{TestNode, batch};
use crate::ids::{PartitionIndex, ShardId, TopicPartition};
use crate::wire::KafkaString;
use crate::wire::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::wire::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use crate::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::wire::api::describe_cluster::DescribeClusterRequest;
use crate::wire::api::describe_log_dirs::DescribeLogDirsRequest;
use crate::wire::api::describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest};
use crate::wire::api::fetch::FetchRequest;
use crate::wire::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

use super::{
    SHARDS, create, create_with, delete, fetch, fetch_request, list_offset, metadata, produce,
};

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
    node.pass(Duration::from_secs(2));
    let dirs = node.call(client, 4, &DescribeLogDirsRequest { topics: None });
    let sizes: Vec<bool> =
        dirs.results[0].topics[0].partitions.iter().map(|p| p.partition_size > 0).collect();
    assert_eq!(sizes, [false, true, false]);
    let disk = &dirs.results[0];
    assert_eq!((disk.total_bytes, disk.usable_bytes), (1 << 30, node.disks[0].free as i64));
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
        delete(&mut node, client, "t");
        let (_, response) = node.take::<FetchRequest>(reader, 12).expect("answered at once");
        let codes: Vec<i16> =
            response.responses[0].partitions.iter().map(|p| p.error_code).collect();
        assert!(codes.contains(&3), "{codes:?}");
    }
}

#[test]
fn a_topic_named_twice_is_described_once_and_operations_are_told_where_asked_for() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    let named = MetadataRequestTopic { name: Some("t".into()), ..MetadataRequestTopic::default() };
    let mut request = MetadataRequest {
        topics: Some(vec![named.clone(), named]),
        include_topic_authorized_operations: true,
        ..MetadataRequest::default()
    };
    let operations = |answer: &MetadataResponse| -> Vec<i32> {
        answer.topics.iter().map(|topic| topic.topic_authorized_operations).collect()
    };
    assert_eq!(operations(&node.call(client, 12, &request)), [3576]);
    request.include_topic_authorized_operations = false;
    assert_eq!(operations(&node.call(client, 12, &request)), [i32::MIN]);
}

#[test]
fn a_topic_made_again_under_its_name_belongs_to_the_same_shards() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    let owners = |node: &TestNode, topic_id| -> Vec<ShardId> {
        let partitions = (0..8).map(PartitionIndex);
        let ids = partitions.map(|partition| TopicPartition { topic_id, partition });
        ids.map(|id| node.shards[1].owner(id)).collect()
    };
    let first = create(&mut node, client, "again", 8);
    let before = owners(&node, first);
    assert!(before.iter().any(|owner| *owner != before[0]), "they are spread: {before:?}");

    delete(&mut node, client, "again");
    let second = create(&mut node, client, "again", 8);

    assert_ne!(first, second);
    assert_eq!(owners(&node, second), before);
}
