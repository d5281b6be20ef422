//! What clients are told of the leader that they did not know (KIP-951).

use std::sync::Arc;

use crate::broker::testing::{TestNode, batch};
use crate::config::PeerConfig;
use crate::ids::{NodeId, PartitionIndex, TopicPartition};
use crate::wire::MetadataRecord;
use crate::wire::api::describe_topic_partitions::DescribeTopicPartitionsRequest;
use crate::wire::api::fetch::FetchRequest;
use crate::wire::api::metadata::MetadataRequest;
use crate::wire::api::produce::ProduceRequest;
use crate::wire::metadata_record::{BrokerEndpoint, PartitionChangeRecord, RegisterBrokerRecord};

use super::{SHARDS, create, fetch_request, produce_request};

/// A node where broker 2 leads the only partition of topic `t`, as its metadata say.
fn led_elsewhere(shards: u16) -> TestNode {
    let mut node = TestNode::started(shards);
    let client = node.connect(0);
    let topic_id = create(&mut node, client, "t", 1);
    let endpoint = |name: &str, port| BrokerEndpoint {
        name: name.into(),
        host: "two".into(),
        port,
        security_protocol: 0,
    };
    let records: [MetadataRecord; 2] = [
        RegisterBrokerRecord {
            broker_id: 2,
            fenced: false,
            end_points: vec![endpoint("OTHER", 1), endpoint("PLAINTEXT", 9094)],
            ..RegisterBrokerRecord::default()
        }
        .into(),
        PartitionChangeRecord { partition_id: 0, topic_id, leader: 2, ..Default::default() }.into(),
    ];
    for shard in &mut node.shards {
        for record in &records {
            let offset = shard.image.end_offset();
            shard.image.apply(offset, record).expect("it fits");
        }
        let state = shard.image.topic(topic_id).and_then(|t| t.partition(PartitionIndex(0)));
        assert_eq!(state.expect("there").leader, NodeId(2));
    }
    node
}

#[test]
fn who_asks_the_wrong_node_is_told_the_leader_and_its_address() {
    for shards in SHARDS {
        let mut node = led_elsewhere(shards);
        let client = node.connect(shards - 1);
        for version in 3..=12 {
            let request = produce_request(-1, "t", &[(0, batch(&["x"], None))]);
            let response = node.call::<ProduceRequest>(client, version, &request);
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, 6, "v{version}");
            assert_eq!(response.throttle_time_ms, 0);
            let told = partition.current_leader.leader_id;
            let at: Vec<(i32, &str, i32)> =
                response.node_endpoints.iter().map(|n| (n.node_id, &*n.host, n.port)).collect();
            if version >= 10 {
                assert_eq!((told, &at[..]), (2, &[(2, "two", 9094)][..]), "v{version}");
                assert_eq!(partition.current_leader.leader_epoch, 1);
            } else {
                assert_eq!((told, at.len()), (-1, 0), "v{version}");
            }
        }
        for version in [11, 12, 15, 16, 18] {
            let mut request = fetch_request("t", &[(0, 0)], 0, 1);
            let state = node.shards[0].image.topic_by_name("t").expect("there");
            request.topics[0].topic_id = state.id;
            let response = node.call::<FetchRequest>(client, version, &request);
            let partition = &response.responses[0].partitions[0];
            assert_eq!(partition.error_code, 6, "v{version}");
            let told = (partition.current_leader.leader_id, response.node_endpoints.len());
            assert_eq!(told, if version >= 16 { (2, 1) } else { (-1, 0) }, "v{version}");
        }
    }
}

#[test]
fn whose_epoch_is_fenced_is_told_the_new_one() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    node.restart();
    let client = node.connect(1);
    for version in [12, 16] {
        let mut request = fetch_request("t", &[(0, 0)], 0, 1);
        let topic_id = node.shards[0].image.topic_by_name("t").expect("there").id;
        request.topics[0].topic_id = topic_id;
        request.topics[0].partitions[0].current_leader_epoch = 0;
        let response = node.call::<FetchRequest>(client, version, &request);
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 74);
        let leader = &partition.current_leader;
        let told = (leader.leader_id, leader.leader_epoch, response.node_endpoints.len());
        assert_eq!(told, if version >= 16 { (1, 1, 1) } else { (-1, -1, 0) });
    }
}

#[test]
fn a_partition_not_taken_up_yet_is_led_by_this_node() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let topic_id = create(&mut node, client, "t", 1);
    let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
    node.shards[0].partitions.remove(&id).expect("there");
    let request = produce_request(-1, "t", &[(0, batch(&["x"], None))]);
    let response = node.call::<ProduceRequest>(client, 12, &request);
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!((partition.error_code, partition.current_leader.leader_id), (6, 1));
    assert_eq!(response.node_endpoints[0].port, 9092);
}

#[test]
fn a_fenced_member_of_the_set_is_told_as_eligible_and_offline() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let topic_id = create(&mut node, client, "t", 1);
    let records: [MetadataRecord; 2] = [
        RegisterBrokerRecord { broker_id: 2, fenced: true, ..RegisterBrokerRecord::default() }
            .into(),
        PartitionChangeRecord {
            partition_id: 0,
            topic_id,
            replicas: Some(vec![1, 2, 3]),
            isr: Some(vec![1, 2]),
            ..PartitionChangeRecord::default()
        }
        .into(),
    ];
    let image = &mut node.shards[0].image;
    for record in &records {
        image.apply(image.end_offset(), record).expect("it fits");
    }

    let metadata = node.call(client, 13, &MetadataRequest { topics: None, ..Default::default() });
    let described = node.call(client, 0, &DescribeTopicPartitionsRequest::default());

    let partition = &metadata.topics[0].partitions[0];
    assert_eq!(
        (&partition.replica_nodes[..], &partition.isr_nodes[..]),
        (&[1, 2, 3][..], &[1][..])
    );
    assert_eq!(partition.offline_replicas, [2, 3], "3 never was registered");
    let partition = &described.topics[0].partitions[0];
    assert_eq!(
        (&partition.isr_nodes[..], &partition.offline_replicas[..]),
        (&[1][..], &[2, 3][..])
    );
    assert_eq!(partition.eligible_leader_replicas, Some(vec![2]));
}

#[test]
fn clients_are_told_of_a_controller_that_is_listed_or_of_the_node_that_passes_on() {
    let mut node = led_elsewhere(1);
    let client = node.connect(0);
    let peer = |node_id| PeerConfig { node_id: NodeId(node_id), host: "host".into(), port: 1 };
    let mut config = (*node.shards[0].config.node).clone();
    config.peers = vec![peer(1), peer(2), peer(3)];
    node.shards[0].config.node = Arc::new(config);
    // 3 is about to register, or was fenced.
    for (leader, told) in [(Some(2), 2), (Some(3), 1), (None, 1)] {
        node.shards[0].quorum_leader = leader.map(NodeId);

        let metadata = node.call(client, 13, &MetadataRequest::default());

        let listed: Vec<i32> = metadata.brokers.iter().map(|broker| broker.node_id).collect();
        assert_eq!((&listed[..], metadata.controller_id), (&[1, 2][..], told), "{leader:?}");
    }
    assert_eq!(node.shards[0].controller_among(&[2]), -1);
}
