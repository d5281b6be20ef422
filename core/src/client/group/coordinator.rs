//! Which broker coordinates the group.

use std::time::Duration;

use super::requests::{find_coordinator, found_coordinator};
use super::{Group, Purpose};
use crate::client::network::Target;
use crate::client::{ClientError, Link};
use crate::ids::NodeId;
use crate::time::Instant;
use crate::wire::{ApiKey, Response};

/// Longest pause between two questions (`retry.backoff.max.ms`).
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What is known of the coordinator.
#[derive(Clone, Debug, Default)]
pub(super) struct Coordinator {
    node: Option<NodeId>,
    /// Failed attempts to connect to it when it was found; more of them mean that it is gone.
    failures: u32,
    /// How often the cluster had told of its brokers then. One that a later answer lacks is gone, too.
    answers: u64,
    is_asked: bool,
    retry_at: Instant,
    tries: u32,
}

impl Coordinator {
    pub(super) fn wake_at(&self, is_needed: bool) -> Option<Instant> {
        (is_needed && self.node.is_none() && !self.is_asked).then_some(self.retry_at)
    }
}

impl Group {
    /// Asks where the coordinator is, if that is to be known and is not.
    pub(super) fn find_coordinator(&mut self, now: Instant) -> bool {
        if let Some(node) = self.coordinator.node {
            let metadata = self.network.metadata();
            let is_left_out = !metadata.brokers().contains_key(&node)
                && metadata.answers() > self.coordinator.answers;
            if is_left_out || self.network.failures(node) > self.coordinator.failures {
                self.lose_coordinator(now);
            }
        }
        let coordinator = &self.coordinator;
        if coordinator.node.is_some()
            || coordinator.is_asked
            || now < coordinator.retry_at
            || !self.needs_coordinator()
        {
            return false;
        }
        // One that is cut off from its cluster may name itself for ever.
        let target = if coordinator.tries > 1 { Target::Others } else { Target::Any };
        let Some(link) = self.network.ready(now, target) else {
            return false;
        };
        let request = find_coordinator(&self.config.group_id);
        let max_version = ApiKey::FindCoordinator.max_version();
        self.coordinator.is_asked = true;
        self.network.send(now, link, &request.into(), max_version, Purpose::Find);
        true
    }

    pub(super) fn on_found(&mut self, now: Instant, result: Result<Response, ClientError>) {
        self.coordinator.is_asked = false;
        let found = match result {
            Ok(Response::FindCoordinator(response)) => found_coordinator(&response),
            Ok(_) => unreachable!("an answer has the type of its question"),
            Err(error) => Err(error),
        };
        match found {
            Ok(node) => {
                self.coordinator.node = Some(node);
                self.coordinator.failures = self.network.failures(node);
                self.coordinator.answers = self.network.metadata().answers();
            }
            Err(error) if error.is_retriable() => self.lose_coordinator(now),
            Err(error) => {
                self.offsets.fail_all(&error, &mut self.events);
                self.fail(error);
            }
        }
    }

    /// The coordinator is gone, or is another one: it is looked for after a pause.
    pub(super) fn lose_coordinator(&mut self, now: Instant) {
        let backoff = self.config.network.retry_backoff;
        let pause = backoff.saturating_mul(1 << self.coordinator.tries.min(16));
        self.coordinator.node = None;
        self.coordinator.retry_at = now + pause.min(RETRY_BACKOFF_MAX.max(backoff));
        self.coordinator.tries = self.coordinator.tries.saturating_add(1);
    }

    /// The coordinator has answered as one.
    pub(super) const fn coordinator_answers(&mut self) {
        self.coordinator.tries = 0;
    }

    /// Gives up what the coordinator holds back, with the connection.
    pub(super) fn drop_coordinator_link(&mut self, now: Instant) {
        if let Some(node) = self.coordinator.node {
            self.network.disconnect(now, node);
            self.coordinator.failures = self.network.failures(node);
        }
    }

    /// Returns a connection to the coordinator on which a request can be sent at once.
    pub(super) fn coordinator_link(&mut self, now: Instant) -> Option<Link> {
        let node = self.coordinator.node?;
        if !self.network.metadata().brokers().contains_key(&node) {
            self.network.mark_stale(now);
            return None;
        }
        self.network.ready(now, Target::Node(node))
    }
}
