use bytes::Bytes;

use super::*;
use crate::wire::api::api_versions::{ApiVersion, ApiVersionsResponse};
use crate::wire::api::begin_quorum_epoch::{BeginQuorumEpochRequest, BeginQuorumEpochResponse};
use crate::wire::{ApiKey, Reader, RequestHeader};

const OTHER: NodeId = NodeId(2);
const CLUSTER: Uuid = Uuid([7; 16]);

/// This node, the other one, and what travels between them.
struct Pair {
    now: Instant,
    peers: Peers<u32>,
    fx: Effects,
    hello: PeerHelloResponse,
    /// What the other side was asked, but for versions and greetings.
    asked: Vec<(ConnectionId, i32, i16, Request)>,
    connects: Vec<ConnectionId>,
    aborted: Vec<ConnectionId>,
    accepts: bool,
}

impl Pair {
    fn new() -> Self {
        let identity = Identity {
            cluster_id: CLUSTER,
            node_id: NodeId(1),
            directory_id: Uuid([1; 16]),
            incarnation: 3,
            listed: Arc::from([]),
        };
        let mut fx = Effects::default();
        let mut peers = Peers::new(identity, ShardId(0));
        peers.locate(OTHER, "two".into(), 9, &mut fx);
        let hello = PeerHelloResponse {
            cluster_id: CLUSTER,
            node_id: OTHER.0,
            directory_id: Uuid([2; 16]),
            incarnation: 5,
            ..PeerHelloResponse::default()
        };
        let now = Instant::from_nanos(1);
        let (asked, connects, aborted) = (Vec::new(), Vec::new(), Vec::new());
        Self { now, peers, fx, hello, asked, connects, aborted, accepts: true }
    }

    fn ask(&mut self, tag: u32) {
        self.ask_by(Lane::Control, None, tag);
    }

    fn ask_by(&mut self, lane: Lane, patience: Option<Duration>, tag: u32) {
        let request = BeginQuorumEpochRequest::default().into();
        let Self { peers, fx, .. } = self;
        let question = Question { request, patience, tag };
        peers.ask(self.now, OTHER, lane, question, fx);
        self.settle();
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "links do nothing else")]
    fn settle(&mut self) {
        while let Some(effect) = self.fx.pop() {
            match effect {
                Effect::Connect { connection, .. } => {
                    self.connects.push(connection);
                    if self.accepts {
                        self.peers.on_opened(self.now, connection, &mut self.fx);
                    } else {
                        self.peers.on_disconnected(self.now, connection, &mut self.fx);
                    }
                }
                Effect::Abort { connection } => self.aborted.push(connection),
                Effect::Transmit { connection, parts } => self.serve(connection, &parts),
                other => assert!(matches!(other, Effect::Want { .. }), "{other:?}"),
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is asked waits for the test")]
    fn serve(&mut self, connection: ConnectionId, parts: &[Bytes]) {
        let frame = Bytes::from(parts.concat());
        let mut reader = Reader::new(frame.slice(4..));
        let header = RequestHeader::decode(&mut reader).expect("a header");
        let api = ApiKey::from_key(header.api_key).expect("known");
        let body = Request::decode(api, header.api_version, &mut reader).expect("a body");
        let response = match &body {
            Request::ApiVersions(_) => {
                let range = |api: &ApiKey| ApiVersion {
                    api_key: api.key(),
                    min_version: api.min_version(),
                    max_version: api.max_version(),
                };
                let api_keys = ApiKey::ALL.iter().map(range).collect();
                Response::from(ApiVersionsResponse { api_keys, ..Default::default() })
            }
            Request::PeerHello(_) => Response::from(self.hello.clone()),
            _ => {
                self.asked.push((connection, header.correlation_id, header.api_version, body));
                return;
            }
        };
        self.answer(connection, header.correlation_id, header.api_version, &response);
    }

    fn answer(&mut self, connection: ConnectionId, id: i32, version: i16, response: &Response) {
        let bytes = response.frame(id, version).concat();
        let bytes = BytesMut::from(&bytes[..]);
        self.peers.on_received(self.now, connection, bytes, &mut self.fx);
    }

    fn events(&mut self) -> Vec<PeerEvent<u32>> {
        std::iter::from_fn(|| self.peers.poll_event()).collect()
    }
}

#[test]
fn what_is_asked_before_the_link_stands_goes_out_once_both_sides_know_each_other() {
    let mut pair = Pair::new();
    pair.ask(7);
    let events = pair.events();
    assert!(
        matches!(&events[..], [PeerEvent::Ready { peer, .. }] if peer.incarnation == 5),
        "{events:?}"
    );
    let (connection, id, version, _) = pair.asked.pop().expect("asked");
    assert!(connection.is_outgoing());
    let response = BeginQuorumEpochResponse::default().into();
    pair.answer(connection, id, version, &response);
    let events = pair.events();
    assert!(
        matches!(&events[..], [PeerEvent::Done { tag: 7, response: Some(_), .. }]),
        "{events:?}"
    );
}

#[test]
fn a_node_of_another_cluster_or_another_node_is_asked_nothing() {
    let strange = [
        PeerHelloResponse { cluster_id: Uuid([8; 16]), ..Pair::new().hello },
        PeerHelloResponse { node_id: 3, ..Pair::new().hello },
        PeerHelloResponse { error_code: 104, ..Pair::new().hello },
    ];
    for hello in strange {
        let mut pair = Pair::new();
        pair.hello = hello;
        pair.ask(7);
        let events = pair.events();
        assert!(pair.asked.is_empty());
        assert_eq!(pair.aborted.len(), 1, "{events:?}");
        assert!(
            matches!(
                &events[..],
                [PeerEvent::Refused { .. }, PeerEvent::Done { tag: 7, response: None, .. }]
            ),
            "{events:?}"
        );
        // It is tried again, and said once.
        pair.now = pair.now + Duration::from_secs(2);
        pair.peers.maintain(pair.now, &mut pair.fx);
        pair.settle();
        assert_eq!(pair.connects.len(), 2);
        assert!(pair.events().is_empty());
    }
}

#[test]
fn a_lost_link_whose_new_connection_is_refused_says_that_the_node_is_gone() {
    let mut pair = Pair::new();
    pair.ask(7);
    pair.events();
    pair.accepts = false;
    let connection = pair.connects[0];
    pair.peers.on_disconnected(pair.now, connection, &mut pair.fx);
    let events = pair.events();
    assert!(matches!(&events[..], [PeerEvent::Done { response: None, .. }]), "{events:?}");
    pair.peers.maintain(pair.now, &mut pair.fx);
    pair.settle();
    let events = pair.events();
    assert!(matches!(&events[..], [PeerEvent::Unreachable(OTHER)]), "{events:?}");
}

#[test]
fn a_node_that_answers_nobody_for_seconds_is_told_of_once() {
    let mut pair = Pair::new();
    pair.accepts = false;
    let began = pair.now;
    let mut told = Vec::new();
    pair.ask(7);
    for _ in 0..40 {
        pair.peers.maintain(pair.now, &mut pair.fx);
        pair.settle();
        let away = |event: &PeerEvent<u32>| matches!(event, PeerEvent::Away(OTHER));
        if pair.events().iter().any(away) {
            told.push(pair.now.since(began));
        }
        pair.now = pair.peers.next_deadline().expect("it is tried again").max(pair.now);
    }
    assert_eq!(told.len(), 1, "{told:?}");
    let seconds = Duration::from_secs(2)..Duration::from_secs(5);
    assert!(seconds.contains(&told[0]), "{told:?}");
}

#[test]
fn an_answer_that_does_not_come_ends_the_link() {
    let mut pair = Pair::new();
    pair.ask(7);
    pair.events();
    pair.now = pair.peers.next_deadline().expect("it waits");
    pair.peers.maintain(pair.now, &mut pair.fx);
    pair.settle();
    let events = pair.events();
    assert!(matches!(&events[0], PeerEvent::Done { tag: 7, response: None, .. }), "{events:?}");
    assert_eq!(pair.connects.len(), 2, "it is made again");
}

#[test]
fn an_answer_that_comes_slowly_is_late_only_once_it_stands_still() {
    let mut pair = Pair::new();
    let request = BeginQuorumEpochRequest::default().into();
    let question = Question { request, patience: Some(Duration::from_millis(500)), tag: 7 };
    pair.peers.ask(pair.now, OTHER, Lane::Control, question, &mut pair.fx);
    pair.settle();
    pair.events();
    let (connection, id, version, _) = pair.asked.remove(0);
    let frame = Response::from(BeginQuorumEpochResponse::default()).frame(id, version).concat();
    for byte in frame {
        assert!(pair.events().is_empty(), "it is on its way");
        pair.now = pair.now + Duration::from_millis(900);
        pair.peers.maintain(pair.now, &mut pair.fx);
        let byte = BytesMut::from(&[byte][..]);
        pair.peers.on_received(pair.now, connection, byte, &mut pair.fx);
    }
    let events = pair.events();
    assert!(matches!(&events[0], PeerEvent::Done { tag: 7, response: Some(_), .. }), "{events:?}");
}

#[test]
fn what_a_node_is_asked_about_transactions_fails_when_it_is_forsaken_and_the_rest_does_not() {
    let mut pair = Pair::new();
    let long = Some(Duration::from_secs(30));
    pair.ask_by(Lane::Markers, long, 7);
    pair.ask_by(Lane::Transactions, long, 8);
    pair.ask_by(Lane::Replication, long, 9);
    pair.events();

    let Pair { peers, fx, now, .. } = &mut pair;
    peers.forsake(*now, OTHER, fx);
    pair.settle();

    let tags = pair.events().into_iter().map(|event| {
        let PeerEvent::Done { tag, response: None, .. } = event else { panic!("{event:?}") };
        tag
    });
    assert_eq!(tags.collect::<Vec<_>>(), [8, 7]);
    assert_eq!(pair.aborted.len(), 2);
    pair.ask_by(Lane::Markers, long, 10);
    assert_eq!(pair.asked.len(), 4, "it may be asked again");
}
