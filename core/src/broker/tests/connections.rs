//! What a peer may send, and for how long.

use std::time::Duration;

use crate::broker::testing::TestNode;
use crate::wire::api::api_versions::ApiVersionsRequest;

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
