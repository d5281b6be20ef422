//! The coordinators of groups on a shard: one for each partition of `__consumer_offsets` that it leads.
//!
//! A coordinator decides and keeps state; this module gives it its log and its time, and brings its
//! replies to whoever asked. It is loaded by a replay of its partition, piece by piece, while others
//! are served; who asks meanwhile is told so. What it wants appended goes to the partition as one
//! batch, and it hands out its replies as the high watermark moves.
//!
//! Invariants:
//! 1. Nobody but the coordinator appends to its partition.
//! 2. Every ask is answered once: by the coordinator, or with a code when it goes.
//! 3. A coordinator that could not be loaded whole serves nothing: an offset that stands in a damaged
//!    part would come back as an older one, or as none.

mod ask;
mod load;
pub(in crate::broker) mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::appender::PartitionAppender;
use crate::broker::loading::Loading;
use crate::broker::post::{Answer, GroupItem};
use crate::broker::shard::Shard;
use crate::broker::start::Phase;
use crate::broker::timers::Timer;
use crate::broker::transactions::guard::Guard;
use crate::config::NodeConfig;
use crate::coordinator::group::{GroupConfig, GroupCoordinator, Request, Ticket};
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{Offset, TopicPartition};
use crate::io::Mark;
use crate::metadata::TopicImage;
use crate::partition::Waiter;
use crate::record::marker::TxnMarker;
use crate::time::{Instant, Now};

pub(in crate::broker) use ask::fill;

/// The first `transaction.version` in which each transaction has an epoch of its own.
const EPOCH_FOR_EACH: i8 = 2;

/// The coordinators of a shard, and who waits for them.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Groups {
    coordinators: BTreeMap<TopicPartition, Slot>,
    asked: BTreeMap<Ticket, Asked>,
    next_ticket: u64,
    guard: Guard,
}

/// A coordinator, or what will be one.
#[derive(Clone, Debug)]
struct Slot {
    state: State,
    /// When it is woken.
    armed: Option<Instant>,
    /// Whether the states of its groups are about to be told.
    reports: bool,
}

#[derive(Clone, Debug)]
enum State {
    Loading(Box<Loading<GroupCoordinator>>),
    Serving(Box<GroupCoordinator>),
    /// Its log could not be read.
    Broken,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
struct Asked {
    partition: TopicPartition,
    waiter: Waiter,
    /// Whether the reply may wait for other members, and not for the disk alone.
    waits_for_members: bool,
}

impl Groups {
    pub(in crate::broker) fn digest(&self, digest: &mut Digest) {
        digest.shown(&(&self.asked, &self.guard)).number(self.next_ticket);
        for (id, slot) in &self.coordinators {
            digest.signed(i64::from(id.partition.0)).shown(&(slot.armed, slot.reports));
            match &slot.state {
                State::Loading(loading) => loading.digest(digest),
                State::Serving(coordinator) => coordinator.digest(digest),
                State::Broken => {}
            }
        }
    }

    /// Returns whether anybody waits for a reply that needs nothing but the disk.
    pub(in crate::broker) fn is_waiting(&self) -> bool {
        self.asked.values().any(|asked| !asked.waits_for_members)
    }
}

impl Shard {
    /// Decides what a group is asked, or says why that cannot be. Offsets of a transaction wait until a coordinator
    /// has said that it is under way.
    pub(in crate::broker) fn ask_group(&mut self, now: Now, waiter: Waiter, item: GroupItem) {
        let serves = |slot: &Slot| matches!(slot.state, State::Serving(_));
        let Request::TxnOffsetCommit(commit) = &item.request else {
            return self.ask_group_at_once(now, waiter, item);
        };
        if !self.groups.coordinators.get(&item.partition).is_some_and(serves) {
            return self.ask_group_at_once(now, waiter, item);
        }
        let producer = (commit.producer.id, commit.producer.epoch);
        if let Some((speaker, of)) = item.transaction.as_ref().and_then(|of| Some((of.spoken?, of)))
            && !self.groups.guard.admits_offsets(
                item.partition,
                &of.transactional_id,
                producer.0,
                speaker,
            )
        {
            self.fx.mark(Mark::LateRequestRefused);
            return self.answer_waiter(now, waiter, Answer::Late);
        }
        match self.hold_offsets(now, waiter, item, producer) {
            Ok(Some(item)) => self.ask_group_at_once(now, waiter, item),
            Ok(None) => {}
            Err(code) => self.answer_waiter(now, waiter, Answer::Group(Err(code))),
        }
    }

    /// Decides what a group is asked, or says why that cannot be.
    pub(in crate::broker) fn ask_group_at_once(
        &mut self,
        now: Now,
        waiter: Waiter,
        item: GroupItem,
    ) {
        let GroupItem { partition, request, .. } = item;
        let waits_for_members = matches!(request, Request::JoinGroup(_) | Request::SyncGroup(_));
        let refusal = match (self.phase, &self.poisoned) {
            // Who would wait for others has no time left for it.
            (Phase::Draining, None) if waits_for_members => Some(ErrorCode::NotCoordinator),
            // Another may be the coordinator by now.
            (Phase::Serving | Phase::Draining, None)
                if self.refused_by_lease(now, partition).is_some() =>
            {
                Some(ErrorCode::NotCoordinator)
            }
            (Phase::Serving | Phase::Draining, None) => {
                match self.groups.coordinators.get(&partition).map(|slot| &slot.state) {
                    // While it loads it says so by itself.
                    Some(State::Serving(_) | State::Loading(_)) => self.refused_commit(&request),
                    Some(State::Broken) => Some(ErrorCode::CoordinatorNotAvailable),
                    None => Some(ErrorCode::NotCoordinator),
                }
            }
            _ => Some(ErrorCode::NotCoordinator),
        };
        if let Some(code) = refusal {
            return self.answer_waiter(now, waiter, Answer::Group(Err(code)));
        }
        self.groups.next_ticket += 1;
        let ticket = Ticket(self.groups.next_ticket);
        self.groups.asked.insert(ticket, Asked { partition, waiter, waits_for_members });
        self.with_coordinator(now, partition, |coordinator, log| {
            coordinator.handle(now, log, ticket, &request);
        });
        if report::may_change_states(&request) {
            self.report_soon(now, partition);
        }
    }

    /// A commit may name a topic that its asker has not seen deleted yet, and this shard has.
    fn refused_commit(&self, request: &Request) -> Option<ErrorCode> {
        let topics = match request {
            Request::OffsetCommit(commit) => &commit.topics,
            Request::TxnOffsetCommit(commit) => &commit.topics,
            Request::JoinGroup(_)
            | Request::SyncGroup(_)
            | Request::Heartbeat(_)
            | Request::LeaveGroup(_)
            | Request::OffsetFetch(_)
            | Request::OffsetDelete(_)
            | Request::DescribeGroup(_)
            | Request::ListGroups(_)
            | Request::DeleteGroup(_) => return None,
        };
        let is_gone = topics.iter().any(|topic| self.image.is_removed(topic.topic_id));
        is_gone.then_some(ErrorCode::UnknownTopicOrPartition)
    }

    /// Lets a coordinator act, then brings its replies to who asked and arms its timer.
    fn with_coordinator(
        &mut self,
        now: Now,
        id: TopicPartition,
        act: impl FnOnce(&mut GroupCoordinator, &mut PartitionAppender<'_>),
    ) {
        let Self { groups, partitions, log, fx, rng, .. } = self;
        let Some(slot) = groups.coordinators.get_mut(&id) else { return };
        let (coordinator, is_loading) = match &mut slot.state {
            State::Serving(coordinator) => (&mut **coordinator, false),
            State::Loading(loading) => (&mut loading.coordinator, true),
            State::Broken => return,
        };
        let Some(partition) = partitions.get(&id) else { return };
        let is_copy = false;
        let before = log.log_end_offset(id);
        let only_journal = None;
        act(
            coordinator,
            &mut PartitionAppender { now, id, partition, log, fx, rng, is_copy, only_journal },
        );
        let mut replies = Vec::new();
        while let Some(reply) = coordinator.poll_reply() {
            replies.push(reply);
        }
        if !is_loading {
            let deadline = coordinator.next_deadline();
            self.arm_coordinator(now, id, deadline);
        }
        for (ticket, response) in replies {
            if let Some(asked) = self.groups.asked.remove(&ticket) {
                self.answer_waiter(now, asked.waiter, Answer::Group(Ok(response)));
            }
        }
        if self.log.log_end_offset(id) > before {
            self.wake_followers(now, id);
        }
    }

    fn arm_coordinator(&mut self, now: Now, id: TopicPartition, deadline: Option<Instant>) {
        // Never in this wakeup again: others are served between two pieces of long work.
        let deadline = deadline.map(|at| at.max(now.mono + Duration::from_nanos(1)));
        let Self { groups, timers, .. } = self;
        let Some(slot) = groups.coordinators.get_mut(&id) else { return };
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

    pub(in crate::broker) fn on_coordinator_timer(&mut self, now: Now, id: TopicPartition) {
        let Some(slot) = self.groups.coordinators.get_mut(&id) else { return };
        slot.armed = None;
        match slot.state {
            State::Loading(_) => self.go_on_loading(now, id),
            State::Serving(_) => {
                self.with_coordinator(now, id, |coordinator, log| coordinator.on_timer(now, log));
                self.report_soon(now, id);
            }
            State::Broken => {}
        }
    }

    /// Takes in that the log of a coordinator is committed up to `high_watermark`: replies leave, and
    /// where little of the log still lives, a step is done to shorten it.
    pub(in crate::broker) fn coordinator_committed(
        &mut self,
        now: Now,
        id: TopicPartition,
        high_watermark: Offset,
    ) {
        if !self.groups.coordinators.contains_key(&id) {
            return;
        }
        let log_start_offset = self.log.log_start_offset(id).unwrap_or(Offset::ZERO);
        let mut cleaned_to = None;
        self.with_coordinator(now, id, |coordinator, log| {
            coordinator.committed(high_watermark);
            cleaned_to = coordinator.cleaned_to();
            log.is_copy = true;
            // What the log does not take now is tried with the next commit.
            let _ = coordinator.clean(now, log, cleaned_to.unwrap_or(log_start_offset));
        });
        if let Some(start) = cleaned_to.filter(|start| *start > log_start_offset) {
            self.log.move_log_start(now, id, start, &mut self.fx);
        }
    }

    /// Tells every coordinator that a topic is gone, and its offsets with it.
    pub(in crate::broker) fn topic_gone(&mut self, now: Now, topic: &TopicImage) {
        let name = topic.name.as_str().into();
        let ids: Vec<TopicPartition> = self.groups.coordinators.keys().copied().collect();
        for id in ids {
            self.with_coordinator(now, id, |coordinator, log| {
                coordinator.topic_deleted(now, log, &name, topic.id);
            });
        }
    }

    /// Returns why a marker cannot be written into a partition of groups: its coordinator must see it.
    pub(in crate::broker) fn groups_refuse_marker(&self, id: TopicPartition) -> Option<ErrorCode> {
        match self.groups.coordinators.get(&id)?.state {
            State::Serving(_) => None,
            State::Loading(_) | State::Broken => Some(ErrorCode::CoordinatorLoadInProgress),
        }
    }

    /// Lets a coordinator of groups take in a marker that was written into its partition.
    pub(in crate::broker) fn groups_take_marker(
        &mut self,
        now: Now,
        id: TopicPartition,
        marker: &TxnMarker,
        version: i8,
        offset: Offset,
    ) {
        let is_kept = self.groups.coordinators.contains_key(&id);
        if is_kept && !marker.committed && version < EPOCH_FOR_EACH {
            self.groups.guard.aborted(id, marker.producer_id, now.mono);
        }
        let mut visible = Vec::new();
        self.with_coordinator(now, id, |coordinator, _| {
            let TxnMarker { producer_id, producer_epoch, committed, .. } = *marker;
            visible = coordinator.on_marker(producer_id, producer_epoch, committed, offset);
        });
        report::report_visible(visible, &mut self.fx);
    }

    /// Gives up a coordinator: who waits for it looks for another.
    pub(in crate::broker) fn drop_coordinator(&mut self, now: Now, id: TopicPartition) {
        if self.groups.coordinators.contains_key(&id) {
            self.arm_coordinator(now, id, None);
            self.groups.coordinators.remove(&id);
            self.groups.guard.dropped(id);
            self.refuse_asked(now, |asked| asked.partition == id);
        }
    }

    /// Answers members that wait for others, because this shard is stopping.
    pub(in crate::broker) fn stop_coordinators(&mut self, now: Now) {
        self.refuse_asked(now, |asked| asked.waits_for_members);
    }

    /// Answers everybody, because nothing will be committed any more.
    pub(in crate::broker) fn abandon_coordinators(&mut self, now: Now) {
        self.refuse_asked(now, |_| true);
    }

    fn refuse_asked(&mut self, now: Now, which: impl Fn(&Asked) -> bool) {
        let tickets = self.groups.asked.iter().filter(|(_, asked)| which(asked));
        let tickets: Vec<Ticket> = tickets.map(|(&ticket, _)| ticket).collect();
        for ticket in tickets {
            if let Some(asked) = self.groups.asked.remove(&ticket) {
                let answer = Answer::Group(Err(ErrorCode::NotCoordinator));
                self.answer_waiter(now, asked.waiter, answer);
            }
        }
    }
}

/// Reads the settings and limits of coordinators.
fn group_config(node: &NodeConfig) -> Arc<GroupConfig> {
    let settings = &node.settings;
    let number = |key| settings.number(key).and_then(|number| u64::try_from(number).ok());
    let ms = |key, default| number(key).map_or(default, Duration::from_millis);
    let count = |key, default| number(key).map_or(default, |number| number as usize);
    let default = GroupConfig::default();
    Arc::new(GroupConfig {
        session_timeout_min: ms("group.min.session.timeout.ms", default.session_timeout_min),
        session_timeout_max: ms("group.max.session.timeout.ms", default.session_timeout_max),
        initial_rebalance_delay: ms(
            "group.initial.rebalance.delay.ms",
            default.initial_rebalance_delay,
        ),
        members_max: count("group.max.size", default.members_max),
        offset_metadata_bytes_max: count(
            "offset.metadata.max.bytes",
            default.offset_metadata_bytes_max,
        ),
        offsets_retention: number("offsets.retention.minutes")
            .map_or(default.offsets_retention, |minutes| Duration::from_secs(minutes * 60)),
        offsets_retention_check_interval: ms(
            "offsets.retention.check.interval.ms",
            default.offsets_retention_check_interval,
        ),
        dead_records_min: node.limits.coordinator_dead_records_min,
        ..default
    })
}
