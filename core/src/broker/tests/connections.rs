//! What a peer may send, and for how long.

use std::time::Duration;

use crate::broker::testing::{Client, TestNode};
use crate::wire::api::api_versions::ApiVersionsRequest;
use crate::wire::api::describe_cluster::DescribeClusterRequest;
use crate::wire::frame_request;

use super::{create, list_offset};

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
        assert_eq!(response.finalized_features.len(), if version >= 3 { 2 } else { 0 });
        // One that begins at level 0 breaks old clients.
        let supported = [0, 0, 0, 2, 3][version as usize];
        assert_eq!(response.supported_features.len(), supported);
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

const POOL: usize = 1 << 20;
const SHARE: usize = 16 << 10;
const FRAME: usize = 3 << 20;
const READ: usize = 1 << 20;

fn with_a_small_pool() -> TestNode {
    TestNode::with(1, |config| config.limits.receive_pool_bytes = POOL)
}

/// What is read from a client next, if anything is.
fn wanted(node: &TestNode, client: Client) -> Option<usize> {
    let on = node.reading.get(&client.connection).copied().unwrap_or(true);
    on.then(|| node.want.get(&client.connection).copied().unwrap_or(64 << 10))
}

/// Begins a large frame of a request that nobody knows, and fills the pool with many of them.
fn fill_the_pool(node: &mut TestNode, peers: usize) -> Vec<Client> {
    let clients: Vec<Client> = (0..peers).map(|_| node.connect(0)).collect();
    for &client in &clients {
        let mut first = (FRAME as u32).to_be_bytes().to_vec();
        first.extend([0x7f; 1000]);
        node.send_bytes(client, &first);
    }
    clients
}

#[test]
fn unfinished_frames_stay_within_their_pool_and_all_are_finished_in_turn() {
    let mut node = with_a_small_pool();
    let clients = fill_the_pool(&mut node, 30);
    let mut left: Vec<usize> = vec![FRAME - 1000; clients.len()];
    let bound = POOL + READ + FRAME + clients.len() * (SHARE + (4 << 10));
    while left.iter().any(|&left| left > 0) {
        let before = left.clone();
        for (&client, left) in clients.iter().zip(&mut left) {
            let bytes = wanted(&node, client).unwrap_or(0).min(*left);
            if bytes > 0 {
                node.send_bytes(client, &vec![0x7f; bytes]);
                *left -= bytes;
                assert!(node.shards[0].received_bytes <= bound, "the pool is bounded");
            }
        }
        assert_ne!(left, before, "somebody goes on");
    }
    assert_eq!(node.closed.len(), clients.len(), "no such request: closed once it is whole");
    assert_eq!(node.shards[0].received_bytes, 0);
}

#[test]
fn whoever_frees_the_pool_lets_another_go_on() {
    let mut node = with_a_small_pool();
    let clients = fill_the_pool(&mut node, 4);
    let fill = |node: &mut TestNode, client: Client, bytes| {
        node.send_bytes(client, &vec![0x7f; bytes]);
    };
    for (index, &client) in clients.iter().enumerate() {
        fill(&mut node, client, (380 << 10) - (index << 10));
    }
    let goes_on = |node: &TestNode| -> Vec<bool> {
        clients.iter().map(|&client| wanted(node, client).is_some()).collect()
    };
    assert_eq!(goes_on(&node), [true, false, false, false], "the largest");
    node.disconnect(clients[0]);
    assert_eq!(goes_on(&node)[1..], [true, false, false], "then the next");
    // The one that goes on is too slow, and is closed.
    node.pass(Duration::from_secs(11));
    assert_eq!(node.closed, [clients[1].connection]);
    assert_eq!(goes_on(&node)[2..], [true, true], "and then there is room for all");
}

#[test]
fn small_requests_pass_with_the_pool_full() {
    let mut node = with_a_small_pool();
    let clients = fill_the_pool(&mut node, 4);
    for &client in &clients {
        node.send_bytes(client, &vec![0x7f; 400 << 10]);
    }
    let other = node.connect(0);
    let frame = frame_request(7, Some("test"), &DescribeClusterRequest::default(), 2).concat();
    let (first, rest) = frame.split_at(9);
    node.send_bytes(other, first);
    assert_eq!(wanted(&node, other), Some(4 << 10));
    node.send_bytes(other, rest);
    assert!(node.take::<DescribeClusterRequest>(other, 2).is_some());
}

#[test]
fn a_peer_that_takes_none_of_its_answers_is_dropped() {
    let mut node = TestNode::started(1);
    let (deaf, slow) = (node.connect(0), node.connect(0));
    for client in [deaf, slow] {
        node.deaf.insert(client.connection);
        node.send(client, 2, &DescribeClusterRequest::default());
    }
    for _ in 0..11 {
        node.pass(Duration::from_secs(59));
        node.transmitted(slow, 1);
    }
    assert_eq!(node.closed, [deaf.connection]);
    assert!(node.shards[0].answer_bytes > 0, "the slow one is still owed");
    // What does not parse is closed at once, but not before its last answer has been taken.
    node.send_bytes(slow, &[0xff, 0xff, 0xff, 0xff]);
    node.pass(Duration::from_secs(29));
    assert_eq!(node.closed.len(), 1);
    node.pass(Duration::from_secs(2));
    assert_eq!(node.closed, [deaf.connection, slow.connection]);
    assert_eq!(node.shards[0].answer_bytes, 0);
}
