//! The features of a topic at the leader of a partition: what its log remembers of records that come later.
//!
//! The [machine](Schedule) decides and keeps the state; this gives it every batch of the log in order, at first
//! from the start of the log, then as each is appended, and appends what it decides. A note and the batch that it
//! names are appended one right behind the other.
//!
//! Invariants:
//! 1. The machine has been given every batch from the log's start to its end, or says that it loads.
//! 2. The log is held at the first note that counts by what is *committed*: a copy frees nothing before it is.

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::sync::Arc;

use crate::broker::post::{ProduceRefusal, Produced};
use crate::coordinator::schedule::{Check, Schedule, ScheduleSettings};
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::io::{Effects, Mark};
use crate::log::{AppendError, LogStore, ReadTicket};
use crate::partition::client_view::ClientView;
use crate::partition::copying::Copying;
use crate::partition::leader::{Partition, Waiter};
use crate::partition::pace::Pace;
use crate::record::batch::Batch;
use crate::record::cron;
use crate::record::features::{Command, CommandTarget};
use crate::record::hidden::{Note, void_batch_behind};
use crate::record::keep::{Stored, stored};
use crate::record::produce::TimestampType;
use crate::time::{Instant, Now};

pub use crate::partition::listing::{Listing, Query, Which};

/// Most batches of delivered records that are made at one moment.
const DELIVERED_MAX: usize = 8;
/// Most notes of questions that are made at one moment, and how often at most questions are given out in it.
const ASKED_MAX: usize = 8;
/// Most bytes that a note takes, or what is stored of a batch that was opened for its wishes; or
/// `max.message.bytes`, where that is more. Both are uncompressed.
const WRITTEN_BYTES_MAX: usize = 8 << 20;
/// Most batches of delivered records that are not committed yet: no more are made before.
const UNCOMMITTED_MAX: usize = 8;

/// What a partition with features has besides.
#[derive(Clone, Debug)]
pub struct Scheduled {
    pub(super) machine: Schedule,
    pub(super) settings: Arc<ScheduleSettings>,
    /// The first offset that the machine was not given.
    pub(super) next: Offset,
    pub(super) is_loaded: bool,
    /// The read of the log that is under way while it is taken in.
    pub(super) loading: Option<ReadTicket>,
    /// Why the log cannot be taken in.
    pub(super) broken: Option<Arc<str>>,
    /// From where on the log is needed, once it is committed up to the offset before.
    holds: VecDeque<(Offset, Option<Offset>)>,
    held: Option<Offset>,
    /// Notes that are being read, and by which read where it is one from a file.
    pub(super) reading: BTreeMap<Offset, Option<ReadTicket>>,
    /// Ends of the batches of delivered records that are not committed.
    pub(super) delivered: VecDeque<Offset>,
    /// Lists that say what is not committed yet, up to the offset.
    pub(super) listed: VecDeque<(Offset, Waiter, Listing)>,
    /// How often what still counts is written again.
    pub(super) copying: Copying,
    delivering: Pace,
    asking: Pace,
}

/// What a produced batch comes to.
pub(super) struct Admitted {
    /// What is written in front of it.
    pub(super) note: Option<Batch>,
    /// What is stored of it.
    pub(super) batch: Batch,
    /// Whether its answer rests on what every replica in sync must have, whatever the producer asks for: what is
    /// noted with it, or what is noted already and makes it nothing.
    pub(super) waits_for_all: bool,
}

impl Scheduled {
    /// Begins for a log that is to be read from its start.
    pub fn new(settings: Arc<ScheduleSettings>, start: Offset) -> Self {
        Self {
            machine: Schedule::new(Arc::clone(&settings), cron::next),
            settings,
            next: start,
            is_loaded: false,
            loading: None,
            broken: None,
            holds: VecDeque::new(),
            held: Some(start),
            reading: BTreeMap::new(),
            delivered: VecDeque::new(),
            listed: VecDeque::new(),
            copying: Copying::default(),
            delivering: Pace::default(),
            asking: Pace::default(),
        }
    }

    /// Returns the machine, once it has the whole log.
    pub fn machine(&self) -> Option<&Schedule> {
        self.is_loaded.then_some(&self.machine)
    }

    /// Returns when the machine is to be looked at next.
    pub fn next_deadline(&mut self, now: Now) -> Option<Instant> {
        if self.is_loaded { self.machine.next_deadline(now) } else { None }
    }

    /// Returns when to go on with what was more than is done at one moment.
    pub fn resumes(&self, now: Now) -> Option<Instant> {
        let paces = [self.copying.next(), self.delivering.resumes(now), self.asking.resumes(now)];
        paces.into_iter().flatten().min()
    }

    /// Takes in the next batch of the log.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<(), String> {
        if batch.base_offset() > self.next {
            // What it said would be missing for good.
            let (next, base) = (self.next, batch.base_offset());
            return Err(format!("the batch at {next} is missing, the next one is at {base}"));
        }
        self.machine.apply(batch).map_err(|error| error.to_string())?;
        self.next = batch.next_offset();
        let floor = self.machine.floor();
        if self.holds.back().map_or(self.held, |(_, floor)| *floor) != floor {
            self.holds.push_back((self.next, floor));
        }
        Ok(())
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        self.machine.digest(digest);
        digest.signed(self.next.0).number(u64::from(self.is_loaded)).shown(&(
            &self.loading,
            &self.broken,
            &self.holds,
            &self.held,
            &self.reading,
            &self.delivered,
            &self.listed,
            (&self.copying, &self.delivering, &self.asking),
        ));
    }
}

impl Partition {
    /// Takes over the settings of features, where the topic has or had any: what was taken for them is kept to.
    /// Then the log is to be [read](Self::load_step).
    pub fn open_features(&mut self, log: &mut LogStore) {
        match (self.config.features.clone(), &mut self.scheduled) {
            (Some(settings), Some(scheduled)) => {
                scheduled.settings = Arc::clone(&settings);
                scheduled.machine.configure(settings);
            }
            (Some(settings), None) => {
                let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
                self.scheduled = Some(Box::new(Scheduled::new(settings, start)));
                self.set_view(Some(ClientView::new(start)), log);
            }
            (None, _) => {}
        }
    }

    /// Returns what the partition has for features, `None` for an ordinary one.
    pub fn scheduled(&self) -> Option<&Scheduled> {
        self.scheduled.as_deref()
    }

    /// The same, to be changed.
    pub fn scheduled_mut(&mut self) -> Option<&mut Scheduled> {
        self.scheduled.as_deref_mut()
    }

    /// Appends a batch, and gives it to the view and to the machine.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written then, or what was cannot be read and the partition serves no more.
    pub(super) fn append_own(
        &mut self,
        now: Now,
        batch: Batch,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Result<Offset, AppendError> {
        let kept = self.scheduled.is_some().then(|| batch.clone());
        let base = self.append_batch(now, batch, log, fx)?;
        // While the log is read, the batch comes with the rest of it.
        let scheduled = self.scheduled.as_deref_mut().filter(|it| it.is_loaded);
        if let (Some(mut batch), Some(scheduled)) = (kept, scheduled) {
            batch.assign(base, self.leader_epoch);
            if let Err(why) = scheduled.take(&batch) {
                fx.warn(format!("what this node has written at {base} it cannot read: {why}"));
                self.break_features(&why);
                return Err(AppendError::Damaged(base));
            }
        }
        Ok(base)
    }

    /// Decides what a produced batch comes to: what of it waits, and what is stored.
    ///
    /// # Errors
    /// Why it is refused as a whole.
    pub(super) fn admit(
        &self,
        now: Now,
        batch: &Batch,
        log: &LogStore,
    ) -> Result<Option<Admitted>, ProduceRefusal> {
        let Some(scheduled) = &self.scheduled else { return Ok(None) };
        let max = self.config().rules.decompressed_max_bytes;
        let wishes = scheduled.settings.features.wishes(batch, now.wall.0, max);
        let Some((wishes, open)) = wishes.map_err(ProduceRefusal::from)? else {
            return Ok(None);
        };
        if !scheduled.is_loaded || self.in_sync().live() < self.min_insync_replicas() {
            return Err(ErrorCode::NotEnoughReplicas.into());
        }
        let end = log.log_end_offset(self.id).unwrap_or(Offset::ZERO);
        let high_watermark = self.high_watermark();
        let admission = scheduled.machine.admit(now, end, high_watermark, batch, &wishes, &open);
        let admission = admission.map_err(ProduceRefusal::from)?;
        let kept = stored(batch, &admission.keep, &open);
        let batch = if matches!(kept, Stored::Void(_)) && admission.has_note() {
            // One without a note would else be taken for it, if it came behind a note whose batch failed.
            void_batch_behind(batch, end)
        } else {
            kept.into_batch()
        };
        let note = admission.note(&batch).map(|note| note.build());
        let is_whole = !admission.keep.contains(&false);
        let written = note.iter().chain((!is_whole).then_some(&batch));
        self.check_size(written.map(Batch::size).max().unwrap_or(0), log)?;
        let waits_for_all = note.is_some() || !is_whole;
        Ok(Some(Admitted { note, batch, waits_for_all }))
    }

    /// What a small compressed batch unpacks to is bounded, as batches of clients are: it goes through the journal
    /// and to followers in one piece.
    fn check_size(&self, bytes: usize, log: &LogStore) -> Result<(), ProduceRefusal> {
        let max = self.config().rules.max_message_bytes.max(WRITTEN_BYTES_MAX);
        let max = max.min(log.batch_bytes_max());
        if bytes <= max {
            return Ok(());
        }
        let message = format!(
            "what is kept of the batch until it is due takes {bytes} bytes uncompressed, at most {max} are taken"
        );
        let code = ErrorCode::MessageTooLarge;
        Err(ProduceRefusal { message: Some(message.into()), ..ProduceRefusal::from(code) })
    }

    /// Returns the notes whose records are needed soon and are neither at hand nor being read.
    pub fn notes_to_read(&mut self, now: Now) -> Vec<Offset> {
        let Some(scheduled) = self.scheduled.as_deref_mut().filter(|it| it.is_loaded) else {
            return Vec::new();
        };
        let mut wanted = scheduled.machine.wanted(now);
        wanted.retain(|offset| match scheduled.reading.entry(*offset) {
            btree_map::Entry::Vacant(vacant) => {
                vacant.insert(None);
                true
            }
            btree_map::Entry::Occupied(_) => false,
        });
        wanted
    }

    /// Takes in that a note is being read from a file.
    pub fn reads_note(&mut self, offset: Offset, ticket: ReadTicket) {
        if let Some(scheduled) = &mut self.scheduled {
            scheduled.reading.insert(offset, Some(ticket));
        }
    }

    /// Returns whether that read of a note is waited for. One that an earlier leadership of this node began is
    /// not: the log may have been another.
    pub fn awaits_note(&self, offset: Offset, ticket: ReadTicket) -> bool {
        let reading = self.scheduled.as_ref().and_then(|it| it.reading.get(&offset));
        reading == Some(&Some(ticket))
    }

    /// Takes in a note that was read, or that it could not be.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    pub fn note_read(
        &mut self,
        now: Now,
        offset: Offset,
        batch: Option<&Batch>,
    ) -> Result<(), String> {
        let Some(scheduled) = &mut self.scheduled else { return Ok(()) };
        scheduled.reading.remove(&offset);
        let taken = batch.map(|batch| scheduled.machine.take_records(now, batch));
        if !matches!(taken, Some(Ok(()))) {
            scheduled.machine.not_read(now, offset);
        }
        taken.unwrap_or(Ok(())).map_err(|error| error.to_string())
    }

    /// Delivers what is due and at hand. Returns whether anything was appended.
    pub fn deliver(&mut self, now: Now, log: &mut LogStore, fx: &mut Effects) -> bool {
        let mut any = false;
        while self.may_deliver(log)
            && let Some(scheduled) = &mut self.scheduled
            && scheduled.machine.is_due(now)
            && scheduled.delivering.takes(now, DELIVERED_MAX)
            && let Some((note, mut batch)) = scheduled.machine.fire(now)
        {
            if self.config.rules.timestamp_type == TimestampType::LogAppendTime {
                batch.stamp_append_time(now.wall.0);
            }
            let note = Note { link: Some(batch.crc()), ..note };
            let appended = self
                .append_own(now, note.build(), log, fx)
                .and_then(|_| self.append_own(now, batch, log, fx));
            if appended.is_err() {
                // It stays due, and is tried again.
                break;
            }
            fx.mark(Mark::EntriesDelivered);
            let end = log.log_end_offset(self.id).unwrap_or(Offset::ZERO);
            if let Some(scheduled) = &mut self.scheduled {
                scheduled.delivered.push_back(end);
            }
            any = true;
        }
        any
    }

    /// Notes which half messages are to be asked for, and returns the questions that may be put.
    pub fn checks(&mut self, now: Now, log: &mut LogStore, fx: &mut Effects) -> Vec<Check> {
        if self.in_sync().live() < self.min_insync_replicas() {
            return Vec::new();
        }
        while let Some(scheduled) = self.scheduled.as_deref_mut().filter(|it| it.is_loaded)
            && scheduled.machine.has_checks_due(now)
            && scheduled.asking.takes(now, ASKED_MAX)
            && let Some(note) = scheduled.machine.checks_due(now)
        {
            if self.append_own(now, note.build(), log, fx).is_err() {
                break;
            }
        }
        let high_watermark = self.high_watermark();
        let Some(scheduled) = self.scheduled.as_deref_mut().filter(|it| it.is_loaded) else {
            return Vec::new();
        };
        let checks = scheduled.machine.checks_to_send(now, high_watermark);
        if checks.len() >= Check::GIVEN_MAX {
            scheduled.asking.takes(now, ASKED_MAX);
            scheduled.asking.pause();
        }
        checks
    }

    /// Takes in whether a question is in the check topic.
    pub fn check_put(
        &mut self,
        now: Now,
        ticket: Offset,
        attempt: u32,
        is_there: bool,
        log: &mut LogStore,
        fx: &mut Effects,
    ) {
        let Some(scheduled) = self.scheduled.as_deref_mut().filter(|it| it.is_loaded) else {
            return;
        };
        let note = if is_there { scheduled.machine.check_sent(now, ticket, attempt) } else { None };
        let noted = match note {
            Some(note) => self.append_own(now, note.build(), log, fx).is_ok(),
            None => is_there,
        };
        if !noted && let Some(scheduled) = &mut self.scheduled {
            scheduled.machine.check_failed(now, ticket);
        }
    }

    fn may_deliver(&self, log: &LogStore) -> bool {
        let Some(scheduled) = &self.scheduled else { return false };
        scheduled.is_loaded
            && scheduled.delivered.len() < UNCOMMITTED_MAX
            && !log.is_congested()
            && self.in_sync().live() >= self.min_insync_replicas()
    }

    /// Takes in how far the log is committed: from where on it is needed, and what may be delivered next.
    pub fn scheduled_committed(&mut self, now: Now, log: &mut LogStore, fx: &mut Effects) {
        let high_watermark = self.high_watermark();
        let Some(scheduled) = &mut self.scheduled else { return };
        while scheduled.delivered.pop_front_if(|end| *end <= high_watermark).is_some() {}
        let mut floor = None;
        while let Some((_, held)) = scheduled.holds.pop_front_if(|(end, _)| *end <= high_watermark)
        {
            floor = Some(held);
        }
        if let Some(held) = floor {
            scheduled.held = held;
        }
        let held = scheduled.is_loaded.then_some(scheduled.held);
        if let Some(held) = held {
            self.set_floor(now, held, log, fx);
        }
    }

    /// Does something to an entry. `None` where the answer comes out of [`take_committed`](Self::take_committed).
    pub fn alter_entry(
        &mut self,
        now: Now,
        target: &CommandTarget,
        command: Command,
        waiter: Waiter,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Option<Result<Produced, ProduceRefusal>> {
        let done = Produced {
            base_offset: Offset(-1),
            log_append_time_ms: -1,
            log_start_offset: Offset(-1),
        };
        if let Err(code) = self.check_readable() {
            return Some(Err(code.into()));
        }
        let high_watermark = self.high_watermark();
        let Some(scheduled) = &self.scheduled else {
            return Some(Err(ErrorCode::InvalidRecord.into()));
        };
        if !scheduled.is_loaded || self.in_sync().live() < self.min_insync_replicas() {
            return Some(Err(ErrorCode::NotEnoughReplicas.into()));
        }
        let decided = scheduled.machine.alter(now, high_watermark, target, command);
        let note = match decided {
            Err(refusal) => return Some(Err(refusal.into())),
            Ok(None) => {
                // It is done already, as far as that is committed.
                let end = log.log_end_offset(self.id).unwrap_or(Offset::ZERO);
                if end <= high_watermark {
                    return Some(Ok(done));
                }
                self.wait_for_all(end.plus(-1), waiter);
                return None;
            }
            Ok(Some(note)) => note,
        };
        match self.append_own(now, note.build(), log, fx) {
            Ok(base) => self.wait_for_all(base, waiter),
            Err(error) => return Some(Err(error.code().into())),
        }
        None
    }
}

#[cfg(test)]
#[path = "scheduled_test.rs"]
mod tests;
