//! The partitions with features on a shard: their logs are read when they are taken up, what is due is delivered,
//! and records that wait are read from disk before they are due.
//!
//! The [partition](crate::partition::Scheduled) decides; this gives it time and its log.

mod checks;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::loading::READ_AGAIN_AFTER;
use crate::broker::post::{AlterEntryItem, Answer, EntriesItem};
use crate::broker::shard::{Shard, TicketUse};
use crate::broker::timers::Timer;
use crate::error::ErrorCode;
use crate::ids::{Offset, TopicPartition};
use crate::io::Mark;
use crate::log::{FetchPlan, ReadError, ReadTicket};
use crate::partition::loading::LoadStep;
use crate::partition::{Partition, Waiter};
use crate::record::batch::Batch;
use crate::time::{Instant, Now};

/// How long to wait before what could not be delivered is tried again, where no event tells.
const DELIVER_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often at most what is at hand at once is looked at in one turn; the rest comes with the next timer.
const ROUNDS_MAX: usize = 64;

/// What a shard knows of its partitions with features beside themselves.
#[derive(Clone, Debug, Default)]
pub(in crate::broker) struct Schedules {
    /// When they are woken.
    wakes: BTreeMap<TopicPartition, Instant>,
    /// What metrics are told of them.
    reports: report::Reports,
}

impl Shard {
    /// Reads the next piece of the log of a partition with features; the one after it comes when it is read, or in
    /// a turn of its own.
    pub(in crate::broker) fn load_schedule(&mut self, now: Now, id: TopicPartition) {
        let Self { partitions, log, fx, .. } = self;
        let Some(partition) = partitions.get_mut(&id).filter(|it| it.config().features.is_some())
        else {
            return;
        };
        partition.open_features(log);
        match partition.load_step(now, log, fx) {
            Ok(LoadStep::Done) => {
                self.serve_schedule(now, id);
                self.wake_fetches(now, id);
            }
            Ok(LoadStep::More) => self.arm_schedule(id, Some(now.mono)),
            Ok(LoadStep::Read(range)) => {
                let ticket = self.ticket(TicketUse::LoadSchedule(id));
                if let Some(partition) = self.partitions.get_mut(&id) {
                    partition.reads_log(ticket);
                }
                self.log.read(now, range, ticket, &mut self.fx);
            }
            Ok(LoadStep::Wait) => {}
            Err(why) => self.schedule_broken(now, id, &why),
        }
    }

    pub(in crate::broker) fn on_schedule_read(
        &mut self,
        now: Now,
        id: TopicPartition,
        ticket: ReadTicket,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if !partition.ends_reading(ticket) {
            return;
        }
        match result {
            Ok(parts) => match partition.load_features(&parts) {
                Ok(()) => self.arm_schedule(id, Some(now.mono)),
                Err(why) => self.schedule_broken(now, id, &why),
            },
            // What retention took meanwhile did not count.
            Err(ReadError::Gone) => self.arm_schedule(id, Some(now.mono)),
            Err(ReadError::Disk(why)) if self.poisoned.is_none() => {
                self.fx.mark(Mark::CoordinatorReadAgain);
                let name = self.name_of(id);
                self.fx.warn(format!("what waits in {name} is not served yet: {why}"));
                self.arm_schedule(id, Some(now.mono + READ_AGAIN_AFTER));
            }
            Err(error) => self.schedule_broken(now, id, &error.to_string()),
        }
    }

    fn schedule_broken(&mut self, now: Now, id: TopicPartition, why: &str) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.break_features(why);
        }
        let name = self.name_of(id);
        self.fx.warn(format!(
            "{name} cannot be served: its log holds what this build cannot read of records that wait: {why}; \
             run the build that wrote it, or restore the data directory from a copy"
        ));
        self.refuse_lists(now, id, ErrorCode::KafkaStorageError);
        self.wake_fetches(now, id);
    }

    fn name_of(&self, id: TopicPartition) -> String {
        let topic = self.image.topic(id.topic_id);
        let name = topic.map_or_else(|| id.topic_id.to_string(), |topic| topic.name.to_string());
        format!("{name}-{}", id.partition)
    }

    /// Does what is due at a partition with features: reads, delivers, and arms its timer.
    pub(in crate::broker) fn serve_schedule(&mut self, now: Now, id: TopicPartition) {
        if self.partitions.get(&id).is_none_or(|it| it.scheduled().is_none()) {
            return;
        }
        if !self.phase.is_stopping() && self.refused_by_lease(now, id).is_none() {
            // What is at hand at once may be all that something waits for, and what is done may want more.
            for _ in 0..ROUNDS_MAX {
                self.read_notes(now, id);
                let Self { partitions, log, fx, .. } = self;
                if partitions.get_mut(&id).is_some_and(|it| it.deliver(now, log, fx)) {
                    self.wake_followers(now, id);
                }
                self.ask_for_verdicts(now, id);
                self.copy_forward(now, id);
                if !self.read_notes(now, id) {
                    break;
                }
            }
        }
        self.arm_schedule_by_machine(now, id);
        self.report_schedule_soon(now, id);
    }

    /// Writes again what waits at the front of a log that is to be shortened.
    fn copy_forward(&mut self, now: Now, id: TopicPartition) {
        let Self { partitions, log, fx, .. } = self;
        if partitions.get_mut(&id).is_some_and(|it| it.copy_forward(now, log, fx)) {
            self.wake_followers(now, id);
        }
    }

    fn arm_schedule_by_machine(&mut self, now: Now, id: TopicPartition) {
        let scheduled = self.partitions.get_mut(&id).and_then(|it| it.scheduled_mut());
        let Some(scheduled) = scheduled.filter(|it| it.machine().is_some()) else { return };
        let deadline = scheduled.next_deadline(now);
        // What is due and did not go waits for a read, a commit, or what no event tells.
        let later = |at: Instant| if at <= now.mono { now.mono + DELIVER_AGAIN_AFTER } else { at };
        let deadline = deadline.into_iter().chain(scheduled.resumes(now)).map(later).min();
        self.arm_schedule(id, deadline);
    }

    /// Takes in that more of the log of a partition is committed.
    pub(in crate::broker) fn schedule_committed(&mut self, now: Now, id: TopicPartition) {
        let Self { partitions, log, fx, .. } = self;
        if let Some(partition) = partitions.get_mut(&id).filter(|it| it.scheduled().is_some()) {
            partition.scheduled_committed(now, log, fx);
            self.answer_lists(now, id);
            self.serve_schedule(now, id);
        }
    }

    /// Answers the lists of which all is committed, unless others may lead by now: then they would not be true.
    fn answer_lists(&mut self, now: Now, id: TopicPartition) {
        let is_mute = self.refused_by_lease(now, id).is_some();
        while !is_mute
            && let Some((waiter, listing)) =
                self.partitions.get_mut(&id).and_then(Partition::take_listed)
        {
            self.answer_waiter(now, waiter, Answer::Entries(Ok(listing)));
        }
    }

    /// Reads the notes whose records are needed. Returns whether any was at hand at once.
    fn read_notes(&mut self, now: Now, id: TopicPartition) -> bool {
        let Some(partition) = self.partitions.get_mut(&id) else { return false };
        let mut any = false;
        for offset in partition.notes_to_read(now) {
            let end = offset.plus(1);
            match self.log.plan_fetch(id, offset, end, 0, true) {
                FetchPlan::Memory(parts) => any |= self.take_note(now, id, offset, &parts),
                FetchPlan::File(range) => {
                    let ticket = self.ticket(TicketUse::ReadNote(id, offset));
                    if let Some(partition) = self.partitions.get_mut(&id) {
                        partition.reads_note(offset, ticket);
                    }
                    self.log.read(now, range, ticket, &mut self.fx);
                }
            }
        }
        any
    }

    /// Gives a partition a note that was read. Returns whether it was one.
    fn take_note(&mut self, now: Now, id: TopicPartition, offset: Offset, parts: &[Bytes]) -> bool {
        let Some(partition) = self.partitions.get_mut(&id) else { return false };
        let mut bytes = Bytes::from(parts.concat());
        let batch = Batch::split_from(&mut bytes).ok().filter(|it| it.base_offset() == offset);
        let Err(why) = partition.note_read(now, offset, batch.as_ref()) else {
            return batch.is_some();
        };
        let name = self.name_of(id);
        self.fx.warn(format!("a record that waits in {name} at {offset} is late: {why}"));
        false
    }

    pub(in crate::broker) fn on_note_read(
        &mut self,
        now: Now,
        id: TopicPartition,
        (offset, ticket): (Offset, ReadTicket),
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        if self.partitions.get(&id).is_none_or(|it| !it.awaits_note(offset, ticket)) {
            return;
        }
        match result {
            Ok(parts) => {
                self.take_note(now, id, offset, &parts);
            }
            Err(error) => {
                // It is asked for again after a while.
                let name = self.name_of(id);
                self.fx.warn(format!("a record that waits in {name} at {offset} is late: {error}"));
                if let Some(partition) = self.partitions.get_mut(&id) {
                    // Nothing was read: nothing can be wrong with it.
                    let _ = partition.note_read(now, offset, None);
                }
            }
        }
        self.serve_schedule(now, id);
    }

    /// Lists what waits at a partition, once that is committed.
    pub(in crate::broker) fn list_entries(
        &mut self,
        now: Now,
        refused: Option<ErrorCode>,
        item: &EntriesItem,
        waiter: Waiter,
    ) {
        let Self { partitions, log, .. } = self;
        let listed = match (refused, partitions.get_mut(&item.partition)) {
            (Some(code), _) => Err(code),
            (None, None) => Err(ErrorCode::NotLeaderOrFollower),
            (None, Some(partition)) => partition.list_entries(&item.query, waiter, log),
        };
        if let Some(answer) = listed.transpose() {
            self.answer_waiter(now, waiter, Answer::Entries(answer));
        }
    }

    /// Answers everybody who waits for a list of a partition, because it will not be committed here.
    pub(in crate::broker) fn refuse_lists(
        &mut self,
        now: Now,
        id: TopicPartition,
        code: ErrorCode,
    ) {
        let partition = self.partitions.get_mut(&id);
        for waiter in partition.map_or_else(Vec::new, Partition::abandon_lists) {
            self.answer_waiter(now, waiter, Answer::Entries(Err(code)));
        }
    }

    /// Does something to what waits at a partition; answered once that is committed.
    pub(in crate::broker) fn alter_entry(
        &mut self,
        now: Now,
        refused: Option<ErrorCode>,
        item: &AlterEntryItem,
        waiter: Waiter,
    ) {
        let id = item.partition;
        let Self { partitions, log, fx, .. } = self;
        let answer = match (refused, partitions.get_mut(&id)) {
            (Some(code), _) => Some(Err(code.into())),
            (None, None) => Some(Err(ErrorCode::NotLeaderOrFollower.into())),
            (None, Some(partition)) => {
                partition.alter_entry(now, &item.target, item.command, waiter, log, fx)
            }
        };
        if let Some(answer) = answer {
            self.answer_waiter(now, waiter, Answer::Produced(answer));
        }
    }

    pub(in crate::broker) fn on_schedule_timer(&mut self, now: Now, id: TopicPartition) {
        self.schedules.wakes.remove(&id);
        let scheduled = self.partitions.get(&id).and_then(|it| it.scheduled());
        match scheduled.map(|it| it.machine().is_some()) {
            Some(true) => self.serve_schedule(now, id),
            Some(false) => self.load_schedule(now, id),
            None => {}
        }
    }

    /// Arms, moves or takes away the timer of a partition.
    pub(in crate::broker) fn arm_schedule(
        &mut self,
        id: TopicPartition,
        deadline: Option<Instant>,
    ) {
        let armed = self.schedules.wakes.get(&id).copied();
        if armed == deadline {
            return;
        }
        if let Some(armed) = armed {
            self.timers.disarm(armed, Timer::Schedule(id));
            self.schedules.wakes.remove(&id);
        }
        if let Some(deadline) = deadline {
            self.timers.arm(deadline, Timer::Schedule(id));
            self.schedules.wakes.insert(id, deadline);
        }
    }
}
