//! When brokers were last heard: soft state of the controller, begun anew with each leader.
//!
//! What it knows is in no record, so a new leader gives every unfenced broker a full session before it fences
//! one. It decides nothing but who is due; the records come from
//! [`fence`](crate::metadata::decide_brokers::fence). Sources: KIP-631; `docs/cluster.md`, "Controller".

use std::collections::BTreeMap;
use std::time::Duration;

use crate::digest::Digest;
use crate::ids::{NodeId, Offset};
use crate::metadata::decide_brokers::{BrokerState, LOST, SESSION};
use crate::metadata::image::MetadataImage;
use crate::time::Instant;
use crate::wire::api::broker_heartbeat::BrokerHeartbeatRequest;

/// What is known of the brokers that were heard.
#[derive(Clone, Debug)]
pub struct BrokerSessions {
    sessions: BTreeMap<NodeId, Session>,
    session: Duration,
    lost: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    /// When the broker is fenced; `None` while it is fenced.
    deadline: Option<Instant>,
    /// The last offset of the metadata log that it has applied, -1 for none.
    metadata_offset: i64,
    /// Everybody must have applied this offset before the broker may stop.
    shutdown_offset: Option<i64>,
    /// The broker must have applied this offset before it is unfenced: until then it may act in roles that others
    /// were given when it was fenced.
    role_offset: i64,
}

impl Default for BrokerSessions {
    fn default() -> Self {
        Self::new(SESSION, LOST)
    }
}

impl BrokerSessions {
    /// Knows nobody. A broker is fenced after `session` of silence, and `lost` after its connection went.
    pub const fn new(session: Duration, lost: Duration) -> Self {
        Self { sessions: BTreeMap::new(), session, lost }
    }

    /// Gives every unfenced broker of the image a full session, as a new leader does.
    pub fn begin(&mut self, now: Instant, image: &MetadataImage) {
        self.sessions.clear();
        for (node, broker) in image.brokers() {
            let deadline = (!broker.fenced).then(|| now + self.session);
            // Since when one is fenced stands nowhere: what is on record now is enough.
            let role_offset = image.end_offset().0 - 1;
            let (metadata_offset, shutdown_offset) = (-1, None);
            self.sessions
                .insert(node, Session { deadline, metadata_offset, shutdown_offset, role_offset });
        }
    }

    /// Takes in that a start of a broker was registered, which is fenced.
    pub fn registered(&mut self, node: NodeId) {
        let (metadata_offset, shutdown_offset, role_offset) = (-1, None, -1);
        let session = Session { deadline: None, metadata_offset, shutdown_offset, role_offset };
        self.sessions.insert(node, session);
    }

    /// Takes in a heartbeat and the state that was decided on it. `end_offset` is the end of the metadata log
    /// behind that decision's records.
    pub fn heard(
        &mut self,
        now: Instant,
        request: &BrokerHeartbeatRequest,
        state: BrokerState,
        end_offset: Offset,
    ) {
        let node = NodeId(request.broker_id);
        let before = self.sessions.get(&node);
        let shutdown_offset = before.and_then(|known| known.shutdown_offset);
        let role_offset = match (before, state) {
            (Some(known), BrokerState::Fenced) if known.deadline.is_none() => known.role_offset,
            (_, BrokerState::Fenced) => end_offset.0 - 1,
            (known, _) => known.map_or(-1, |known| known.role_offset),
        };
        let session = Session {
            deadline: match state {
                BrokerState::Unfenced | BrokerState::ControlledShutdown => Some(now + self.session),
                BrokerState::Fenced | BrokerState::ShutdownNow => None,
            },
            metadata_offset: request.current_metadata_offset,
            shutdown_offset: match state {
                BrokerState::ControlledShutdown => {
                    Some(shutdown_offset.unwrap_or(end_offset.0 - 1))
                }
                BrokerState::Fenced | BrokerState::Unfenced | BrokerState::ShutdownNow => None,
            },
            role_offset,
        };
        self.sessions.insert(node, session);
    }

    /// Takes in how far a broker has applied the metadata, and nothing else.
    #[cfg(test)]
    pub(in crate::metadata) fn has_applied(&mut self, node: NodeId, metadata_offset: i64) {
        if let Some(session) = self.sessions.get_mut(&node) {
            session.metadata_offset = metadata_offset;
        }
    }

    /// Takes in that a broker's connection was reset and could not be made again at once.
    pub fn connection_lost(&mut self, now: Instant, node: NodeId) {
        if let Some(Session { deadline: Some(deadline), .. }) = self.sessions.get_mut(&node) {
            *deadline = (*deadline).min(now + self.lost);
        }
    }

    /// Takes in that a broker was fenced without having asked for it, by records of which this is the end.
    pub fn fenced(&mut self, node: NodeId, end_offset: Offset) {
        if let Some(session) = self.sessions.get_mut(&node) {
            session.deadline = None;
            session.role_offset = end_offset.0 - 1;
        }
    }

    /// Returns whether a broker that has applied the metadata up to an offset knows what it is no more since it was
    /// fenced.
    pub fn knows_its_roles(&self, node: NodeId, metadata_offset: i64) -> bool {
        self.sessions.get(&node).is_none_or(|session| metadata_offset >= session.role_offset)
    }

    /// Forgets a broker that was taken out of the cluster.
    pub fn unregistered(&mut self, node: NodeId) {
        self.sessions.remove(&node);
    }

    /// Returns who has been silent for too long, by number.
    pub fn due(&self, now: Instant) -> Vec<NodeId> {
        let is_due = |session: &Session| session.deadline.is_some_and(|deadline| deadline <= now);
        self.sessions.iter().filter(|(_, it)| is_due(it)).map(|(&node, _)| node).collect()
    }

    /// Returns when somebody is due next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(|session| session.deadline).min()
    }

    /// Returns the last offset of the metadata log that every active broker but `except` says it has applied;
    /// -1 where one has said nothing yet, and `i64::MAX` where there is no other.
    pub fn lowest_applied(&self, image: &MetadataImage, except: Option<NodeId>) -> i64 {
        image
            .brokers()
            .filter(|&(node, broker)| broker.is_active() && Some(node) != except)
            .map(|(node, _)| self.sessions.get(&node).map_or(-1, |session| session.metadata_offset))
            .min()
            .unwrap_or(i64::MAX)
    }

    /// Returns whether every other active broker knows that this one leads nothing more.
    pub fn others_have_seen_shutdown(&self, image: &MetadataImage, node: NodeId) -> bool {
        // Without an offset the leader has changed: the broker's next heartbeat sets one.
        let Some(offset) = self.sessions.get(&node).and_then(|session| session.shutdown_offset)
        else {
            return false;
        };
        offset <= self.lowest_applied(image, Some(node))
    }

    /// Takes the sessions into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest.number(self.sessions.len() as u64);
        for (node, session) in &self.sessions {
            digest
                .signed(i64::from(node.0))
                .number(session.deadline.map_or(0, Instant::as_nanos))
                .signed(session.metadata_offset)
                .signed(session.shutdown_offset.unwrap_or(-1));
        }
    }
}
