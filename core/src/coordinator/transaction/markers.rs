//! Markers: what is decided is told to every partition, however often that must be tried, and then the
//! transaction is complete.

use std::collections::BTreeMap;
use std::time::Duration;

use super::api::{Action, MarkerId, Response, Ticket, TransactionLog};
use super::decide::{Decision, V1, V2};
use super::{Cx, Timer, TransactionCoordinator};
use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex};
use crate::io::Mark;
use crate::time::Now;
use crate::wire::KafkaString;
use crate::wire::transaction_record::TransactionStatus;

/// A marker that is not known to be written.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    pub(super) topic: KafkaString,
    pub(super) partition: PartitionIndex,
    /// How often it has failed.
    pub(super) failures: u32,
    /// How it failed last.
    pub(super) error: ErrorCode,
    /// Whether it is on its way.
    is_sent: bool,
}

/// A transaction that is decided and not complete.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) transactional_id: KafkaString,
    /// What is not known to have its marker, by the partition's number; `None` until they are sent.
    pub(super) markers: Option<BTreeMap<u32, Marker>>,
    /// Who is answered when it is complete, or has waited long enough.
    pub(super) waiting: Vec<(Ticket, Response)>,
}

impl Ending {
    pub(super) const fn new(transactional_id: KafkaString) -> Self {
        Self { transactional_id, markers: None, waiting: Vec::new() }
    }
}

impl TransactionCoordinator {
    /// Answers when the transaction that was decided there is complete, or when that takes too long.
    pub(super) fn wait_for_end(
        &mut self,
        now: Now,
        decided_at: Offset,
        ticket: Ticket,
        response: Response,
    ) {
        let ending = self.endings.get_mut(&decided_at).expect("it was just decided");
        ending.waiting.push((ticket, response));
        self.timers.set(Timer::Answer(decided_at), now.mono + self.config.end_wait);
    }

    /// Lets the answers leave that wait for an end; they rest on the decision alone.
    pub(super) fn answer_waiting(&mut self, decided_at: Offset) {
        let Some(ending) = self.endings.get_mut(&decided_at) else { return };
        for (ticket, response) in std::mem::take(&mut ending.waiting) {
            self.replies.push_at(decided_at.plus(1), ticket, response);
        }
    }

    /// Sends the markers of what has been committed.
    pub(super) fn start_endings(&mut self, cx: &mut Cx<'_>) {
        let committed = self.replies.high_watermark();
        let decided = self.endings.range(self.started_to..committed);
        let decided: Vec<Offset> = decided.map(|(decided_at, _)| *decided_at).collect();
        self.started_to = committed;
        for decided_at in decided {
            self.start_ending(cx, decided_at);
        }
    }

    /// Sends the markers of what was just decided, where each of them is durable only together with the
    /// decision. Otherwise that waits for the commit of the decision.
    pub(super) fn start_ahead(&mut self, cx: &mut Cx<'_>, decided_at: Offset) {
        let Some(ending) = self.endings.get(&decided_at) else { return };
        let Some(transaction) = self.stored.transaction(&ending.transactional_id) else { return };
        let precedes_all = transaction.partitions.iter().all(|(topic, partitions)| {
            let mut partitions = partitions.iter();
            partitions.all(|&partition| cx.log.precedes(topic, PartitionIndex(partition)))
        });
        if precedes_all && !transaction.partitions.is_empty() {
            self.start_ending(cx, decided_at);
        }
    }

    fn start_ending(&mut self, cx: &mut Cx<'_>, decided_at: Offset) {
        let Some(ending) = self.endings.get_mut(&decided_at) else { return };
        if ending.markers.is_some() {
            return;
        }
        let transaction = self.stored.transaction(&ending.transactional_id);
        let transaction = transaction.expect("what is decided is kept until it is complete");
        let partitions = transaction.partitions.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|partition| Marker {
                topic: topic.clone(),
                partition: PartitionIndex(*partition),
                failures: 0,
                error: ErrorCode::None,
                is_sent: false,
            })
        });
        let markers: BTreeMap<u32, Marker> = (0..).zip(partitions).collect();
        let indexes: Vec<u32> = markers.keys().copied().collect();
        ending.markers = Some(markers);
        for index in indexes {
            self.send_marker(cx, MarkerId { decided_at, index });
        }
        self.complete_if_written(cx, decided_at);
    }

    pub(super) fn send_marker(&mut self, cx: &Cx<'_>, id: MarkerId) {
        let Some(ending) = self.endings.get_mut(&id.decided_at) else { return };
        let Some(marker) = ending.markers.as_mut().and_then(|all| all.get_mut(&id.index)) else {
            return;
        };
        let is_committed = id.decided_at < self.replies.high_watermark();
        if !is_committed && !cx.log.precedes(&marker.topic, marker.partition) {
            // Its topic went meanwhile, and may have come again as another.
            self.timers.set(Timer::Marker(id), cx.now.mono + self.config.retry_min);
            return;
        }
        let transaction = self.stored.transaction(&ending.transactional_id);
        let transaction = transaction.expect("what is decided is kept until it is complete");
        marker.is_sent = true;
        self.actions.push_back(Action::WriteMarker {
            id,
            topic: marker.topic.clone(),
            partition: marker.partition,
            producer_id: transaction.producer_id,
            producer_epoch: transaction.producer_epoch,
            committed: transaction.status == TransactionStatus::PrepareCommit,
            coordinator_epoch: self.coordinator_epoch,
            transaction_version: if transaction.client_version < V2 { V1 } else { V2 } as i8,
        });
    }

    /// Takes in how a marker went. A partition that is gone (`UNKNOWN_TOPIC_OR_PARTITION`, which the driver
    /// says only where the metadata has no such topic) needs none; after every other error it is sent again.
    /// A report of a marker that nobody waits for is nothing.
    ///
    /// An error must mean that this attempt does not take effect later: a marker of the older protocol has the
    /// epoch of the next transaction too, and would end that one.
    pub fn on_marker_written(
        &mut self,
        now: Now,
        log: &mut dyn TransactionLog,
        id: MarkerId,
        result: Result<(), ErrorCode>,
    ) {
        let Some(markers) =
            self.endings.get_mut(&id.decided_at).and_then(|one| one.markers.as_mut())
        else {
            return;
        };
        let Some(marker) = markers.get_mut(&id.index) else { return };
        match result {
            Ok(()) | Err(ErrorCode::UnknownTopicOrPartition | ErrorCode::None) => {
                markers.remove(&id.index);
                self.timers.cancel(&Timer::Marker(id));
                self.complete_if_written(&mut Cx { now, log }, id.decided_at);
            }
            Err(error) => {
                if !marker.is_sent {
                    return;
                }
                marker.is_sent = false;
                let wait = backoff(self.config.retry_min, self.config.retry_max, marker.failures);
                marker.failures = marker.failures.saturating_add(1);
                marker.error = error;
                self.timers.set(Timer::Marker(id), now.mono + wait);
                log.mark(Mark::MarkerRetried);
            }
        }
    }

    fn complete_if_written(&mut self, cx: &mut Cx<'_>, decided_at: Offset) {
        let markers = self.endings.get(&decided_at).and_then(|ending| ending.markers.as_ref());
        if markers.is_some_and(BTreeMap::is_empty) {
            self.complete(cx, decided_at);
        }
    }

    /// Stores that every partition has its marker, and answers those who wait for that.
    pub(super) fn complete(&mut self, cx: &mut Cx<'_>, decided_at: Offset) {
        let Some(ending) = self.endings.get(&decided_at) else { return };
        assert!(ending.markers.as_ref().is_some_and(BTreeMap::is_empty), "all have their marker");
        let id = ending.transactional_id.clone();
        let transaction = self.stored.transaction(&id);
        let transaction = transaction.expect("what is decided is kept until it is complete");
        let next = transaction.completed(cx.now.wall);
        match self.store(cx, &id, &Decision { next, takes_id: false }) {
            Ok(_) => {
                self.timers.cancel(&Timer::Answer(decided_at));
                self.answer_waiting(decided_at);
                self.endings.remove(&decided_at);
            }
            Err(error) => {
                tracing::info!(%error, %id, "a transaction is still to be completed");
                self.timers.set(Timer::Complete(decided_at), cx.now.mono + self.config.retry_max);
            }
        }
    }
}

/// Returns how long to wait after a failure, of which there were so many before.
fn backoff(least: Duration, most: Duration, failures: u32) -> Duration {
    least.saturating_mul(1 << failures.min(16)).min(most)
}
