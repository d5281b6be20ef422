//! The end of a shard: a clean stop, or a log directory that has failed.

use std::sync::Arc;

use crate::broker::pending::{FetchStage, Pending};
use crate::broker::post::{Answer, Post};
use crate::broker::shard::Shard;
use crate::broker::start::Phase;
use crate::broker::timers::Timer;
use crate::connection::RequestId;
use crate::error::ErrorCode;
use crate::ids::{ConnectionId, TopicPartition};
use crate::io::{Effect, Mark};
use crate::metadata::CommandAnswer;
use crate::time::Now;

impl Shard {
    pub(in crate::broker) fn stop(&mut self, now: Now) {
        if self.phase.is_stopping() {
            return;
        }
        if !self.phase.has_logs() {
            // Nothing was acknowledged in this life, and recovery can be cut off anywhere.
            self.phase = Phase::Closed;
            self.fx.mark(Mark::StoppedBeforeServing);
            self.fx.push(Effect::Stopped);
            return;
        }
        self.phase = Phase::Draining;
        self.timers.arm(now.mono + self.limits().stop_wait, Timer::Stop);
        let parked: Vec<RequestId> = self
            .pending
            .iter()
            .filter(|(_, pending)| {
                matches!(pending, Pending::Fetch(fetch) if fetch.stage == FetchStage::Parked)
            })
            .map(|(&id, _)| id)
            .collect();
        for id in parked {
            self.read_fetch(now, id);
        }
        self.stop_coordinators(now);
        self.ask_to_leave(now);
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        self.dirty.extend(connections);
    }

    /// Goes on stopping as far as it can. Returns whether something was done.
    pub(in crate::broker) fn advance_stop(&mut self, now: Now) -> bool {
        if self.phase != Phase::Draining {
            return false;
        }
        // Another node asks the next leader what this one does not answer.
        let is_owed =
            |pending: &Pending| !matches!(pending, Pending::Quorum { .. } | Pending::Internal(_));
        let owes = self.pending.values().any(is_owed)
            || self.partitions.values().any(crate::partition::Partition::is_waiting)
            || self.groups.is_waiting()
            || self.transactions.is_waiting()
            || self.controller.as_ref().is_some_and(|controller| !controller.is_idle());
        // Others take over what this node leads before it goes.
        let leaves = !self.is_alone() && self.has_role && !self.membership.may_go;
        if (owes || leaves) && self.poisoned.is_none() {
            return false;
        }
        self.close_logs(now);
        true
    }

    pub(in crate::broker) fn on_stop_timer(&mut self, now: Now) {
        match self.phase {
            Phase::Draining => self.close_logs(now),
            Phase::Closing => {
                self.fx.warn(
                    "the logs could not be closed in time; everything acknowledged is in the \
                     journal, and the next start recovers it",
                );
                self.on_closed(now);
            }
            Phase::Idle
            | Phase::Recovering
            | Phase::Replaying
            | Phase::Joining
            | Phase::AwaitingImage
            | Phase::Serving
            | Phase::Closed => {}
        }
    }

    fn close_logs(&mut self, now: Now) {
        self.stop_quorum(now);
        self.phase = Phase::Closing;
        // Whatever the disk does, the end comes in time.
        self.timers.arm(now.mono + self.limits().close_wait, Timer::Stop);
        self.log.stop(now, &mut self.fx);
    }

    pub(in crate::broker) fn on_closed(&mut self, now: Now) {
        if self.phase == Phase::Closed {
            return;
        }
        for connection in self.connections.values_mut() {
            // What was decided by the last events of the logs still leaves.
            connection.flush(now.mono, &mut self.fx);
            let before = connection.answer_bytes();
            connection.close(&mut self.fx);
            self.answer_bytes -= before - connection.answer_bytes();
        }
        self.phase = Phase::Closed;
        self.fx.push(Effect::Stopped);
    }

    /// Nothing of this node may be acknowledged any more: everything is answered with 56.
    pub(in crate::broker) fn on_poisoned(&mut self, now: Now, why: &Arc<str>, is_own: bool) {
        if self.poisoned.is_some() {
            return;
        }
        self.poisoned = Some(Arc::clone(why));
        if is_own {
            self.broadcast(&Post::Poisoned(Arc::clone(why)));
            self.fx.push(Effect::Fatal { message: format!("the log directory has failed: {why}") });
        }
        let ids: Vec<TopicPartition> = self.partitions.keys().copied().collect();
        for id in ids {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            let (produces, moves) = (partition.abandon(), partition.abandon_moves());
            for waiter in produces {
                let refusal = ErrorCode::KafkaStorageError.into();
                self.answer_waiter(now, waiter, Answer::Produced(Err(refusal)));
            }
            for waiter in moves {
                let refusal = ErrorCode::KafkaStorageError;
                self.answer_waiter(now, waiter, Answer::LogStart(Err(refusal)));
            }
        }
        self.abandon_coordinators(now);
        self.abandon_transactions(now);
        let waiting = self.controller.as_mut().map(crate::metadata::Controller::abandon);
        for origin in waiting.unwrap_or_default() {
            let answer = CommandAnswer::Failed(ErrorCode::KafkaStorageError, Arc::clone(why));
            self.answer_command(now, origin, answer);
        }
    }
}
