//! The APIs between nodes, and who may ask them.

use super::{create, produce_request};
use crate::broker::testing::{Client, TestNode, batch};
use crate::wire::api::api_versions::ApiVersionsRequest;
use crate::wire::api::broker_heartbeat::BrokerHeartbeatRequest;
use crate::wire::api::broker_registration::BrokerRegistrationRequest;
use crate::wire::api::peer_hello::PeerHelloRequest;
use crate::wire::api::replica_ack::ReplicaAckRequest;
use crate::wire::api::vote::VoteRequest;
use crate::wire::{ApiKey, Reader, Request, Response, decode_response_header};

pub(super) fn on_a_listener_for_peers() -> TestNode {
    TestNode::with(1, |config| config.listeners[0].peers = true)
}

fn advertised(node: &mut TestNode, client: Client) -> Vec<i16> {
    let response = node.call(client, 0, &ApiVersionsRequest::default());
    response.api_keys.iter().map(|range| range.api_key).collect()
}

/// The smallest request of an API in its newest version, as a whole frame.
fn frame(api: ApiKey) -> Vec<u8> {
    let version = api.max_version();
    let mut entropy = crate::wire::tests::entropy::Entropy::new(Vec::new());
    Request::arbitrary(api, version, &mut entropy).frame(7, None, version).concat()
}

fn not_for_clients() -> impl Iterator<Item = ApiKey> {
    ApiKey::ALL.iter().copied().filter(|api| !api.is_served(false))
}

#[test]
fn to_clients_there_are_no_apis_between_nodes() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let told = advertised(&mut node, client);
    assert_eq!(not_for_clients().count(), 13);
    for (index, api) in not_for_clients().enumerate() {
        let client = node.connect(0);

        node.send_bytes(client, &frame(api));

        assert!(!told.contains(&api.key()), "{api:?}");
        assert_eq!(node.closed.len(), index + 1, "{api:?}");
        assert!(node.take_frame(client).is_none(), "{api:?}");
    }
}

#[test]
fn peers_are_told_of_every_api_that_is_decoded() {
    let mut node = on_a_listener_for_peers();
    let peer = node.connect(0);
    let told = advertised(&mut node, peer);
    assert!(told.iter().copied().eq(ApiKey::ALL.iter().map(|api| api.key())), "{told:?}");
}

#[test]
fn whoever_has_not_said_which_node_it_is_is_refused_by_a_code() {
    let mut node = on_a_listener_for_peers();
    let peer = node.connect(0);
    let said = |api: &ApiKey| !matches!(api, ApiKey::ReplicaAck | ApiKey::PeerHello);
    for api in not_for_clients().filter(said) {
        node.send_bytes(peer, &frame(api));

        let version = api.max_version();
        let mut reader = Reader::new(node.take_frame(peer).expect("answered"));
        let header = api.response_header_version(version);
        assert_eq!(decode_response_header(&mut reader, header), Ok(7));
        let response = Response::decode(api, version, &mut reader).expect("an answer of the API");
        // Where each part of an answer has a code of its own, one about nothing has none.
        let code = &response.to_json(version)["errorCode"];
        assert!(*code == 35 || code.is_null(), "{api:?}: {code}");
    }
    assert!(node.closed.is_empty());
}

#[test]
fn an_acknowledgement_of_a_replica_is_never_answered() {
    let mut node = on_a_listener_for_peers();
    let peer = node.connect(0);
    node.send(peer, 0, &ReplicaAckRequest::default());
    assert!(node.take_frame(peer).is_none());
    let vote = node.call(peer, 2, &VoteRequest::default());
    assert_eq!(vote.error_code, 35, "what comes behind it is answered");
}

#[test]
fn a_node_that_stops_still_reads_what_its_peers_say() {
    for peers in [true, false] {
        let mut node = TestNode::with(1, |config| config.listeners[0].peers = peers);
        let (writer, other) = (node.connect(0), node.connect(0));
        create(&mut node, writer, "t", 1);
        node.hold_disk = true;
        node.send(writer, 9, &produce_request(-1, "t", &[(0, batch(&["x"], None))]));

        node.stop();

        assert_eq!(node.stopped, 0, "a produce is owed its answer");
        assert_eq!(node.reading.get(&other.connection).copied().unwrap_or(true), peers);
        if peers {
            let vote = node.call(other, 2, &VoteRequest::default());
            assert_eq!(vote.error_code, 35, "it is answered, by a node that is alone");
        }
        node.release();
        assert_eq!(node.stopped, 1);
    }
}

/// Says who it is, and returns the connection.
pub(super) fn guest(node: &mut TestNode, number: i32) -> Client {
    let peer = node.connect(0);
    let mut hello =
        PeerHelloRequest { node_id: number, wanted_node_id: 1, ..PeerHelloRequest::default() };
    hello.directory_id = crate::ids::Uuid([number as u8; 16]);
    let answer = node.call(peer, 0, &hello);
    assert_eq!(answer.error_code, 0, "{answer:?}");
    // Only who names the cluster belongs to it.
    let peer = node.connect(0);
    hello.cluster_id = answer.cluster_id;
    assert_eq!(node.call(peer, 0, &hello).error_code, 0);
    peer
}

#[test]
fn no_node_speaks_for_another() {
    let mut node = on_a_listener_for_peers();
    let peer = guest(&mut node, 2);
    let beat =
        |broker_id| BrokerHeartbeatRequest { broker_id, ..BrokerHeartbeatRequest::default() };
    let version = ApiKey::BrokerHeartbeat.max_version();
    assert_eq!(node.call(peer, version, &beat(3)).error_code, 35, "it is node 2");
    assert_ne!(node.call(peer, version, &beat(2)).error_code, 35);
    let register =
        |broker_id| BrokerRegistrationRequest { broker_id, ..BrokerRegistrationRequest::default() };
    let version = ApiKey::BrokerRegistration.max_version();
    assert_eq!(node.call(peer, version, &register(1)).error_code, 35, "it is node 2");
}
