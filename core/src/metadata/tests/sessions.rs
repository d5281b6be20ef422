//! Heartbeats and sessions.

use std::time::Duration;

use super::{Cluster, registration};
use crate::error::ErrorCode;
use crate::ids::{NodeId, Offset};
use crate::metadata::broker_sessions::BrokerSessions;
use crate::metadata::decide_brokers::{BrokerState, fence, heartbeat};
use crate::time::Instant;
use crate::wire::api::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};

const fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

struct Controller {
    cluster: Cluster,
    sessions: BrokerSessions,
}

impl Controller {
    fn of(cluster: Cluster) -> Self {
        let mut sessions = BrokerSessions::default();
        sessions.begin(at(0), &cluster.image);
        Self { cluster, sessions }
    }

    fn request(&self, node: i32) -> BrokerHeartbeatRequest {
        BrokerHeartbeatRequest {
            broker_id: node,
            broker_epoch: self.cluster.image.broker(NodeId(node)).map_or(-1, |it| it.broker_epoch),
            current_metadata_offset: self.cluster.image.end_offset().0 - 1,
            ..BrokerHeartbeatRequest::default()
        }
    }

    fn heard(
        &mut self,
        now: Instant,
        request: &BrokerHeartbeatRequest,
    ) -> Result<(BrokerHeartbeatResponse, BrokerState), ErrorCode> {
        let (decision, state) = heartbeat(&self.cluster.image, &self.sessions, request)?;
        self.cluster.apply(&decision.records);
        self.sessions.heard(now, request, state, self.cluster.image.end_offset());
        Ok((decision.response, state))
    }
}

#[test]
fn a_broker_is_due_after_a_session_of_silence() {
    let mut controller = Controller::of(Cluster::of(2));
    assert_eq!(controller.sessions.next_deadline(), Some(at(3_000)));
    let request = controller.request(1);
    controller.heard(at(500), &request).expect("registered");
    assert_eq!(controller.sessions.due(at(2_999)), []);
    assert_eq!(controller.sessions.due(at(3_000)), [NodeId(2)]);
    controller.sessions.fenced(NodeId(2), Offset(0));
    assert_eq!(controller.sessions.next_deadline(), Some(at(3_500)));
}

#[test]
fn a_lost_connection_makes_a_broker_due_soon_unless_it_is_heard_again() {
    let mut controller = Controller::of(Cluster::of(2));
    for node in [1, 2] {
        controller.sessions.connection_lost(at(1_000), NodeId(node));
    }
    let request = controller.request(1);
    controller.heard(at(1_200), &request).expect("registered");
    assert_eq!(controller.sessions.due(at(1_300)), [NodeId(2)]);
    // Nor does a late loss give anybody more time.
    let mut late = Controller::of(Cluster::of(1));
    late.sessions.connection_lost(at(2_900), NodeId(1));
    assert_eq!(late.sessions.next_deadline(), Some(at(3_000)));
}

#[test]
fn a_broker_serves_once_it_has_seen_its_own_registration() {
    let mut controller = Controller::of(Cluster::of(1));
    let epoch = controller.cluster.register(&registration(2, 2, 1)).expect("a new node");
    controller.sessions.registered(NodeId(2));
    let mut request = controller.request(2);
    request.current_metadata_offset = epoch - 1;
    let (answer, state) = controller.heard(at(0), &request).expect("registered");
    assert_eq!((answer.is_caught_up, answer.is_fenced, state), (false, true, BrokerState::Fenced));
    request.current_metadata_offset = epoch;
    let (answer, state) = controller.heard(at(0), &request).expect("registered");
    assert_eq!(
        (answer.is_caught_up, answer.is_fenced, state),
        (true, false, BrokerState::Unfenced)
    );
    assert!(controller.cluster.image.is_active(NodeId(2)));
}

#[test]
fn a_broker_that_was_fenced_is_back_once_it_has_applied_that() {
    let mut controller = Controller::of(Cluster::of(2));
    let records = fence(&controller.cluster.image, &[NodeId(2)]);
    controller.cluster.apply(&records);
    let end = controller.cluster.image.end_offset();
    controller.sessions.fenced(NodeId(2), end);
    let mut request = controller.request(2);
    request.current_metadata_offset = end.0 - 2;
    for _ in 0..2 {
        let (answer, state) = controller.heard(at(0), &request).expect("registered");
        assert_eq!((answer.is_fenced, state), (true, BrokerState::Fenced), "it may still lead");
    }
    request.current_metadata_offset = end.0 - 1;
    let (answer, state) = controller.heard(at(0), &request).expect("registered");
    assert_eq!((answer.is_fenced, state), (false, BrokerState::Unfenced));
}

#[test]
fn a_broker_that_wants_to_be_fenced_is() {
    let mut controller = Controller::of(Cluster::of(2));
    let mut request = controller.request(1);
    request.want_fence = true;
    let (answer, _) = controller.heard(at(0), &request).expect("registered");
    assert!(answer.is_fenced && !answer.should_shut_down);
    assert_eq!(controller.sessions.due(Instant::from_nanos(u64::MAX)), [NodeId(2)]);
}

#[test]
fn a_leader_stops_once_every_other_broker_knows_that_it_leads_nothing() {
    let mut controller = Controller::of(Cluster::with_topic(3, 2, &[&[1, 2, 3]]));
    for node in 1..=3 {
        let request = controller.request(node);
        controller.heard(at(0), &request).expect("registered");
    }
    let stop = BrokerHeartbeatRequest { want_shut_down: true, ..controller.request(1) };
    let (answer, state) = controller.heard(at(10), &stop).expect("registered");
    assert_eq!((answer.should_shut_down, state), (false, BrokerState::ControlledShutdown));
    assert_eq!(controller.cluster.leader(0), 2);
    let (answer, _) = controller.heard(at(20), &stop).expect("registered");
    assert!(!answer.should_shut_down, "nobody else has seen it");
    for node in [2, 3] {
        let request = controller.request(node);
        controller.heard(at(30), &request).expect("registered");
    }
    let (answer, state) = controller.heard(at(40), &stop).expect("registered");
    assert_eq!((answer.should_shut_down, state), (true, BrokerState::ShutdownNow));
    assert!(controller.cluster.image.broker(NodeId(1)).expect("there").fenced);
}

#[test]
fn a_broker_that_leads_nothing_or_is_fenced_stops_at_once() {
    let mut controller = Controller::of(Cluster::of(2));
    let stop = BrokerHeartbeatRequest { want_shut_down: true, ..controller.request(1) };
    assert!(controller.heard(at(0), &stop).expect("registered").0.should_shut_down);
    assert!(controller.heard(at(1), &stop).expect("registered").0.should_shut_down, "asked again");
}

#[test]
fn a_stop_goes_on_under_a_new_controller() {
    let mut controller = Controller::of(Cluster::with_topic(2, 1, &[&[1, 2]]));
    let stop = BrokerHeartbeatRequest { want_shut_down: true, ..controller.request(1) };
    controller.heard(at(0), &stop).expect("registered");
    let mut next = Controller::of(controller.cluster);
    let request = next.request(2);
    next.heard(at(0), &request).expect("registered");
    next.heard(at(1), &stop).expect("registered");
    let (answer, _) = next.heard(at(2), &stop).expect("registered");
    assert!(answer.should_shut_down);
}

#[test]
fn heartbeats_of_unknown_and_of_older_starts_are_refused() {
    let mut controller = Controller::of(Cluster::of(1));
    let mut request = controller.request(1);
    request.broker_epoch -= 1;
    assert_eq!(controller.heard(at(0), &request), Err(ErrorCode::StaleBrokerEpoch));
    let request = controller.request(9);
    assert_eq!(controller.heard(at(0), &request), Err(ErrorCode::BrokerIdNotRegistered));
}

#[test]
fn what_every_active_broker_has_applied_is_known() {
    let mut controller = Controller::of(Cluster::of(2));
    let lowest = |controller: &Controller| {
        controller.sessions.lowest_applied(&controller.cluster.image, None)
    };
    let mut request = controller.request(1);
    request.current_metadata_offset = 7;
    controller.heard(at(0), &request).expect("registered");
    assert_eq!(lowest(&controller), -1, "the other has said nothing");
    let mut request = controller.request(2);
    request.current_metadata_offset = 5;
    controller.heard(at(0), &request).expect("registered");
    assert_eq!(lowest(&controller), 5);
    let session = Duration::from_secs(3);
    assert_eq!(controller.sessions.next_deadline(), Some(at(0) + session));
}
