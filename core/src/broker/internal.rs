//! What a shard asks for itself, and not for a connection: of other shards as a request is, of other nodes by links.
//!
//! Each ask is answered once, so nothing here has a deadline of its own.

use crate::broker::pending::Pending;
use crate::broker::post::Answer;
use crate::broker::shard::Shard;
use crate::connection::RequestId;
use crate::coordinator::transaction::MarkerId;
use crate::ids::{ConnectionId, Offset, ProducerId, TopicPartition};
use crate::partition::VerificationGuard;
use crate::time::Now;
use crate::wire::Response;

/// Stands for the connection of requests that no connection has brought.
const NOBODY: ConnectionId = ConnectionId::outgoing(u64::MAX >> 1);

/// What an answer is wanted for.
#[derive(Clone, Debug)]
pub(in crate::broker) enum Internal {
    /// Markers of a coordinator, in the order in which they were asked for.
    Markers {
        /// The coordinator's partition.
        coordinator: TopicPartition,
        /// The markers.
        ids: Vec<MarkerId>,
        /// How many are not answered.
        outstanding: usize,
    },
    /// Whether a producer's transaction is under way, for what waits at a partition of this shard.
    Verification {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        producer: ProducerId,
        /// Under which it was asked.
        guard: VerificationGuard,
    },
    /// Whether the question for the verdict on a half message is in its check topic.
    Check {
        /// The partition of the half message.
        partition: TopicPartition,
        /// The half message.
        ticket: Offset,
        /// Which question.
        attempt: u32,
    },
}

impl Shard {
    /// Returns a name for a request of this shard's own, and remembers what it is for.
    pub(in crate::broker) fn internal_request(&mut self, purpose: Internal) -> RequestId {
        self.next_internal += 1;
        let id = RequestId { connection: NOBODY, sequence: self.next_internal };
        self.pending.insert(id, Pending::Internal(purpose));
        id
    }

    /// Takes in what a shard answers.
    pub(in crate::broker) fn deliver_internal(
        &mut self,
        now: Now,
        id: RequestId,
        index: u32,
        answer: Answer,
    ) {
        let Some(Pending::Internal(internal)) = self.pending.get_mut(&id) else { return };
        match internal {
            Internal::Markers { coordinator, ids, outstanding } => {
                let (coordinator, marker) = (*coordinator, ids.get(index as usize).copied());
                *outstanding -= 1;
                if *outstanding == 0 {
                    self.pending.remove(&id);
                }
                if let (Some(marker), Answer::Produced(outcome)) = (marker, answer) {
                    let outcome = outcome.map(|_| ()).map_err(|refusal| refusal.code);
                    self.on_marker_written(now, coordinator, marker, outcome);
                }
            }
            Internal::Verification { partition, producer, guard } => {
                let (key, guard) = ((*partition, *producer), *guard);
                self.pending.remove(&id);
                if let Answer::Transaction(outcome) = answer {
                    self.on_verified(now, key, guard, &outcome);
                }
            }
            Internal::Check { partition, ticket, attempt } => {
                let (partition, ticket, attempt) = (*partition, *ticket, *attempt);
                self.pending.remove(&id);
                let is_there = matches!(answer, Answer::Produced(Ok(_)));
                self.on_check_put(now, partition, ticket, attempt, is_there);
            }
        }
    }

    /// Takes in what another node answers, or that it does not.
    pub(in crate::broker) fn on_internal_response(
        &mut self,
        now: Now,
        id: RequestId,
        response: Option<Response>,
    ) {
        let Some(Pending::Internal(internal)) = self.pending.remove(&id) else { return };
        match internal {
            Internal::Markers { coordinator, ids, .. } => {
                self.on_markers_response(now, coordinator, &ids, response);
            }
            Internal::Verification { partition, producer, guard } => {
                self.on_verification_response(now, (partition, producer), guard, response);
            }
            Internal::Check { partition, ticket, attempt } => {
                self.on_check_response(now, partition, (ticket, attempt), response);
            }
        }
    }
}
