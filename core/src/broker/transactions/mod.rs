//! The coordinators of transactions on a shard: one for each partition of `__transaction_state` that it leads.
//!
//! A coordinator decides and keeps state; this module gives it its log and its time, brings its replies to
//! whoever asked, and carries out what it wants done: markers go to the leaders of their partitions, on this node
//! or another. It is loaded as the [coordinators of groups](crate::broker::groups) are.
//!
//! Who does what: `load` replays, `ask` brings requests of clients to their coordinators, `markers` writes and
//! sends markers, `verify` holds batches and offsets back until a coordinator has said that their transaction is
//! under way, `guard` turns away what old clients said on connections that they have left, and `late` what other
//! nodes did, `pins` tells metrics who holds readers back.
//!
//! Invariants:
//! 1. Nobody but the coordinator appends to its partition.
//! 2. Every ask is answered once: by the coordinator, or with a code when it goes.
//! 3. A coordinator that could not be loaded whole serves nothing.
//! 4. Every marker that a coordinator wants written is reported to it once, however it went.

pub(in crate::broker) mod ask;
pub(in crate::broker) mod guard;
mod late;
mod load;
pub(in crate::broker) mod markers;
mod pins;
pub(in crate::broker) mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::appender::{OnlyJournal, PartitionAppender};
use crate::broker::loading::Loading;
use crate::broker::post::{Answer, TransactionItem};
use crate::broker::shard::Shard;
use crate::broker::start::Phase;
use crate::broker::timers::Timer;
use crate::config::NodeConfig;
use crate::coordinator::transaction::{
    Action, Request, Ticket, TransactionConfig, TransactionCoordinator,
};
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use crate::io::Mark;
use crate::partition::Waiter;
use crate::time::{Instant, Now};

/// The coordinators of a shard, and who waits for them.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Transactions {
    coordinators: BTreeMap<TopicPartition, Slot>,
    asked: BTreeMap<Ticket, Asked>,
    next_ticket: u64,
    guard: guard::Guard,
    /// What was told of the partitions whose last stable offset is held back: where, and by whom.
    pins: BTreeMap<TopicPartition, (Offset, ProducerId)>,
    pub(in crate::broker) arrivals: late::Arrivals,
}

/// A coordinator, or what will be one.
#[derive(Clone, Debug)]
struct Slot {
    state: State,
    /// When it is woken.
    armed: Option<Instant>,
}

#[derive(Clone, Debug)]
enum State {
    Loading(Box<Loading<TransactionCoordinator>>),
    Serving(Box<TransactionCoordinator>),
    /// Its log could not be read.
    Broken,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
struct Asked {
    partition: TopicPartition,
    waiter: Waiter,
}

impl Transactions {
    pub(in crate::broker) fn digest(&self, digest: &mut Digest) {
        digest.shown(&(&self.asked, &self.guard, &self.arrivals)).number(self.next_ticket);
        for (id, slot) in &self.coordinators {
            digest.signed(i64::from(id.partition.0)).shown(&slot.armed);
            match &slot.state {
                State::Loading(loading) => loading.digest(digest),
                State::Serving(coordinator) => coordinator.digest(digest),
                State::Broken => {}
            }
        }
    }

    /// Returns whether anybody waits for a reply.
    pub(in crate::broker) fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Returns whether a partition keeps transactions here.
    pub(in crate::broker) fn keeps(&self, id: TopicPartition) -> bool {
        self.coordinators.contains_key(&id)
    }
}

impl Shard {
    /// Decides what a coordinator is asked, or says why that cannot be.
    pub(in crate::broker) fn ask_transaction(
        &mut self,
        now: Now,
        waiter: Waiter,
        item: &TransactionItem,
    ) {
        let partition = item.partition;
        let refusal = match (self.phase, &self.poisoned) {
            // Another may be the coordinator by now.
            (Phase::Serving | Phase::Draining, None)
                if self.refused_by_lease(now, partition).is_some() =>
            {
                Some(ErrorCode::NotCoordinator)
            }
            (Phase::Serving | Phase::Draining, None) => {
                match self.transactions.coordinators.get(&partition).map(|slot| &slot.state) {
                    // While it loads it says so by itself.
                    Some(State::Serving(_) | State::Loading(_)) => None,
                    Some(State::Broken) => Some(ErrorCode::CoordinatorNotAvailable),
                    None => Some(ErrorCode::NotCoordinator),
                }
            }
            _ => Some(ErrorCode::NotCoordinator),
        };
        if let Some(code) = refusal {
            return self.answer_waiter(now, waiter, Answer::Transaction(Err(code)));
        }
        if let Some((speaker, id)) = &item.spoken
            && !self.transactions.guard.admits(
                partition,
                id,
                *speaker,
                matches!(item.request, Request::InitProducerId(_)),
            )
        {
            self.fx.mark(Mark::LateRequestRefused);
            return self.answer_waiter(now, waiter, Answer::Late);
        }
        self.transactions.next_ticket += 1;
        let ticket = Ticket(self.transactions.next_ticket);
        self.transactions.asked.insert(ticket, Asked { partition, waiter });
        self.with_transactions(now, partition, |coordinator, log| {
            coordinator.handle(now, log, ticket, &item.request);
            if item.is_ahead {
                coordinator.release(ticket);
            }
        });
    }

    /// Lets a coordinator act, then brings its replies to who asked, does what it wants done and arms its timer.
    fn with_transactions(
        &mut self,
        now: Now,
        id: TopicPartition,
        act: impl FnOnce(&mut TransactionCoordinator, &mut PartitionAppender<'_>),
    ) {
        let Self { transactions, partitions, log, fx, rng, config, image, .. } = self;
        let Some(slot) = transactions.coordinators.get_mut(&id) else { return };
        let (coordinator, is_loading) = match &mut slot.state {
            State::Serving(coordinator) => (&mut **coordinator, false),
            State::Loading(loading) => (&mut loading.coordinator, true),
            State::Broken => return,
        };
        let Some(partition) = partitions.get(&id) else { return };
        let is_copy = false;
        let before = log.log_end_offset(id);
        let only_journal = OnlyJournal::of(&config.node, image, partitions);
        act(
            coordinator,
            &mut PartitionAppender { now, id, partition, log, fx, rng, is_copy, only_journal },
        );
        let mut replies = Vec::new();
        while let Some(reply) = coordinator.poll_reply() {
            replies.push(reply);
        }
        let mut actions = Vec::new();
        while let Some(action) = coordinator.poll_action() {
            actions.push(action);
        }
        let deadline = coordinator.next_deadline();
        if !is_loading {
            self.arm_transactions(now, id, deadline);
        }
        for (ticket, response) in replies {
            if let Some(asked) = self.transactions.asked.remove(&ticket) {
                self.answer_waiter(now, asked.waiter, Answer::Transaction(Ok(response)));
            }
        }
        if self.log.log_end_offset(id) > before {
            self.wake_followers(now, id);
        }
        self.carry_out_for(now, id, actions);
    }

    fn carry_out_for(&mut self, now: Now, id: TopicPartition, actions: Vec<Action>) {
        let mut markers = Vec::new();
        for action in actions {
            match action {
                Action::WantProducerId => self.want_producer_id(now, id),
                marker @ Action::WriteMarker { .. } => markers.push(marker),
            }
        }
        self.send_markers(now, id, markers);
    }

    /// Gives a coordinator the producer id that it wants, or says why there is none.
    pub(in crate::broker) fn give_producer_id(
        &mut self,
        now: Now,
        id: TopicPartition,
        producer_id: Result<ProducerId, ErrorCode>,
    ) {
        self.with_transactions(now, id, |coordinator, log| {
            coordinator.give_producer_id(now, log, producer_id);
        });
    }

    fn arm_transactions(&mut self, now: Now, id: TopicPartition, deadline: Option<Instant>) {
        // Never in this wakeup again: others are served between two pieces of long work.
        let deadline = deadline.map(|at| at.max(now.mono + Duration::from_nanos(1)));
        let Self { transactions, timers, .. } = self;
        let Some(slot) = transactions.coordinators.get_mut(&id) else { return };
        if slot.armed == deadline {
            return;
        }
        if let Some(armed) = slot.armed {
            timers.disarm(armed, Timer::Coordinator(id));
        }
        if let Some(deadline) = deadline {
            timers.arm(deadline, Timer::Coordinator(id));
        }
        slot.armed = deadline;
    }

    pub(in crate::broker) fn on_transactions_timer(&mut self, now: Now, id: TopicPartition) {
        let Some(slot) = self.transactions.coordinators.get_mut(&id) else { return };
        slot.armed = None;
        match slot.state {
            State::Loading(_) => self.go_on_loading_transactions(now, id),
            State::Serving(_) => {
                self.with_transactions(now, id, |coordinator, log| coordinator.on_timer(now, log));
            }
            State::Broken => {}
        }
    }

    /// Takes in that the log of a coordinator is committed up to `high_watermark`: replies and markers leave, and
    /// where little of the log still lives, a step is done to shorten it.
    pub(in crate::broker) fn transactions_committed(
        &mut self,
        now: Now,
        id: TopicPartition,
        high_watermark: Offset,
    ) {
        if !self.transactions.keeps(id) {
            return;
        }
        let log_start_offset = self.log.log_start_offset(id).unwrap_or(Offset::ZERO);
        let mut cleaned_to = None;
        self.with_transactions(now, id, |coordinator, log| {
            coordinator.on_committed(now, log, high_watermark);
            cleaned_to = coordinator.cleaned_to();
            log.is_copy = true;
            // What the log does not take now is tried with the next commit.
            let _ = coordinator.clean(now, log, cleaned_to.unwrap_or(log_start_offset));
        });
        if let Some(start) = cleaned_to.filter(|start| *start > log_start_offset) {
            self.log.move_log_start(now, id, start, &mut self.fx);
        }
    }

    /// Gives up a coordinator: who waits for it looks for another.
    pub(in crate::broker) fn drop_transactions(&mut self, now: Now, id: TopicPartition) {
        if self.transactions.keeps(id) {
            self.arm_transactions(now, id, None);
            self.transactions.coordinators.remove(&id);
            self.transactions.guard.dropped(id);
            self.refuse_asked_of_transactions(now, |asked| asked.partition == id);
        }
    }

    /// Answers everybody, because nothing will be committed any more.
    pub(in crate::broker) fn abandon_transactions(&mut self, now: Now) {
        self.refuse_asked_of_transactions(now, |_| true);
    }

    fn refuse_asked_of_transactions(&mut self, now: Now, which: impl Fn(&Asked) -> bool) {
        let tickets = self.transactions.asked.iter().filter(|(_, asked)| which(asked));
        let tickets: Vec<Ticket> = tickets.map(|(&ticket, _)| ticket).collect();
        for ticket in tickets {
            if let Some(asked) = self.transactions.asked.remove(&ticket) {
                let answer = Answer::Transaction(Err(ErrorCode::NotCoordinator));
                self.answer_waiter(now, asked.waiter, answer);
            }
        }
    }
}

/// Reads the settings and limits of coordinators.
fn transaction_config(node: &NodeConfig) -> Arc<TransactionConfig> {
    let settings = &node.settings;
    let number = |key| settings.number(key).and_then(|number| u64::try_from(number).ok());
    let ms = |key, default| number(key).map_or(default, Duration::from_millis);
    let default = TransactionConfig::default();
    Arc::new(TransactionConfig {
        timeout_max: ms("transaction.max.timeout.ms", default.timeout_max),
        id_expiration: ms("transactional.id.expiration.ms", default.id_expiration),
        dead_records_min: node.limits.coordinator_dead_records_min,
        first_epoch: ProducerEpoch(node.limits.producer_epoch_first),
        ..default
    })
}
