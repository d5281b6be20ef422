//! What changes a log: its creation and deletion, appends, moves of its start, and votes.
//!
//! All of it takes effect at once and goes to the journal, whose flush makes it stable; a log in memory
//! needs none.

use std::sync::Arc;

use bytes::Bytes;

use crate::buggify::Site;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicName, TopicPartition};
use crate::io::{Counter, Effects, Mark};
use crate::log::api::{AppendError, FlushPolicy, LogEvent, LogSettings, Sequence, Storage};
use crate::log::block::Entry;
use crate::log::checkpoint::NOBODY;
use crate::log::journal::Need;
use crate::log::partition_log::{AppendLimits, PartitionLog, ProducerFiles};
use crate::log::store::{LogStore, Phase};
use crate::observe::ClusterEvent;
use crate::record::batch::Batch;
use crate::time::{Now, UnixMillis};

/// Offsets of a memory log that one journal entry reserves.
const RESERVE_OFFSETS: i64 = 1 << 20;

impl LogStore {
    /// Creates a log, empty at offset 0. Usable at once; [`LogEvent::Created`] says it is durable.
    pub fn create(
        &mut self,
        now: Now,
        log: TopicPartition,
        name: &TopicName,
        settings: LogSettings,
        fx: &mut Effects,
    ) {
        assert!(!self.logs.contains_key(&log), "a log is created once");
        let storage = if self.config.memory_only { Storage::Memory } else { settings.storage };
        let settings = LogSettings { storage, ..settings };
        let partition = PartitionLog::new(log, name.clone(), settings, self.append_limits());
        self.logs.insert(log, partition);
        if let Some(journal) = &mut self.journal {
            let name = Bytes::copy_from_slice(name.as_str().as_bytes());
            journal.enqueue(Entry::Create { log, storage, name }, Need::Flushed);
        } else {
            self.events.push_back(LogEvent::Created(log));
        }
        self.pump(now, fx);
    }

    pub(super) const fn append_limits(&self) -> AppendLimits {
        AppendLimits { producer_ids_max: self.config.producer_ids_max }
    }

    /// Changes a log's settings; where its bytes live stays as it was created.
    pub fn configure(&mut self, log: TopicPartition, settings: LogSettings) {
        if let Some(partition) = self.logs.get_mut(&log) {
            let storage = partition.settings.storage;
            partition.settings = LogSettings { storage, ..settings };
            self.shorten_memory(log);
        }
    }

    /// Deletes a log and, once that is durable, its files.
    pub fn delete(&mut self, now: Now, log: TopicPartition, fx: &mut Effects) {
        let Some(partition) = self.logs.remove(&log) else { return };
        if !partition.is_memory() {
            self.unwritten_bytes -= partition.unwritten_bytes();
        }
        if let Some(due) = partition.write_due {
            self.write_due.remove(&(due, log));
        }
        if let Some(journal) = &mut self.journal {
            journal.enqueue(Entry::Delete { log }, Need::Flushed);
            self.begin_deletion(partition);
        } else {
            self.events.push_back(LogEvent::Deleted(log));
        }
        self.pump(now, fx);
    }

    /// Counts records that are past the retention of their log already, and tells of them once for each
    /// topic: they go as soon as nothing newer shares their segment.
    fn note_past_retention(&mut self, log: TopicPartition, batch: &Batch, fx: &mut Effects) {
        let count = u64::try_from(batch.records_count()).unwrap_or(0);
        fx.count(Counter::RecordsPastRetention, count);
        let of_topic = |partition| TopicPartition { topic_id: log.topic_id, partition };
        let range = of_topic(PartitionIndex(i32::MIN))..=of_topic(PartitionIndex(i32::MAX));
        let told = self.logs.range(range).any(|(_, other)| other.told_of_past);
        let partition = self.logs.get_mut(&log).expect("the caller has found it");
        if std::mem::replace(&mut partition.told_of_past, true) || told {
            return;
        }
        fx.warn(format!(
            "topic {} takes records of {} ms (Unix time), which is longer ago than its retention.ms of \
             {}: retention removes them soon; this is said once",
            partition.name,
            batch.max_timestamp(),
            partition.settings.retention_ms
        ));
    }

    /// Appends a batch at the end of a log, which gives it base offset and leader epoch.
    ///
    /// The caller has checked the batch (CRC, sequence, size). It leaves with the
    /// [end of the turn](Self::end_turn); its stability comes as [`LogEvent::Stable`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written then. For want of room the batch counts as
    /// [refused](Self::refuse_first).
    pub fn append(
        &mut self,
        now: Now,
        log: TopicPartition,
        leader_epoch: LeaderEpoch,
        mut batch: Batch,
        fx: &mut Effects,
    ) -> Result<Offset, AppendError> {
        if let Phase::Poisoned(why) = &self.phase {
            return Err(AppendError::Poisoned(Arc::clone(why)));
        }
        assert!(!matches!(self.phase, Phase::Recovering(_)), "appends wait for recovery");
        let partition = self.logs.get_mut(&log).ok_or(AppendError::Unknown)?;
        if let Some(at) = partition.damaged {
            return Err(AppendError::Damaged(at));
        }
        if self.is_finding(log) {
            return Err(AppendError::Cutting);
        }
        let refused = if self.logs[&log].is_memory() {
            self.logs[&log].memory_refusal(&batch)
        } else {
            self.space_refusal(log, &batch, fx).map(AppendError::DiskFull)
        };
        if let Some(refused) = refused {
            self.refuse_first(now, log, &batch);
            return Err(refused);
        }
        let partition = self.logs.get_mut(&log).expect("it was just found");
        let base = partition.end;
        batch.assign(base, leader_epoch);
        report(self.config.reports, log, &batch, true, fx);
        let append_ms = now.wall;
        let rolls = partition.rolls(append_ms, batch.size() as u64)
            || (partition.holds_in_active() && self.buggify.strikes(Site::EarlyRoll));
        if rolls && base > partition.start {
            fx.mark(Mark::SegmentRolled);
        }
        if partition.is_past_retention(self.retention.accepted_wall(now), &batch) {
            self.note_past_retention(log, &batch, fx);
        }
        let size = batch.size() as u64;
        fx.count(Counter::BatchesAppended, 1);
        fx.count(Counter::RecordsAppended, u64::try_from(batch.records_count()).unwrap_or(0));
        fx.count(Counter::BytesAppended, size);
        self.take_in(now, log, batch, append_ms, rolls);
        self.has_appended = true;
        self.update_congestion(fx);
        Ok(base)
    }

    /// Appends a batch as its leader has stored it: with its base offset, its leader epoch and all of
    /// its bytes. `append_ms` is when the leader appended it. Control batches come the same way.
    ///
    /// What the log knows of producers follows without a word: the leader has judged sequences. The
    /// caller has checked the CRC. It leaves with the [end of the turn](Self::end_turn); stability comes as
    /// [`LogEvent::Stable`].
    ///
    /// # Errors
    /// [`AppendError`], [`Apart`](AppendError::Apart) where the batch does not continue the log; nothing
    /// was written then.
    pub fn append_replica(
        &mut self,
        now: Now,
        log: TopicPartition,
        batch: Batch,
        append_ms: UnixMillis,
        fx: &mut Effects,
    ) -> Result<(), AppendError> {
        if let Phase::Poisoned(why) = &self.phase {
            return Err(AppendError::Poisoned(Arc::clone(why)));
        }
        assert!(!matches!(self.phase, Phase::Recovering(_)), "appends wait for recovery");
        let partition = self.logs.get(&log).ok_or(AppendError::Unknown)?;
        if let Some(at) = partition.damaged {
            return Err(AppendError::Damaged(at));
        }
        if self.is_finding(log) {
            return Err(AppendError::Cutting);
        }
        let (base, epoch, end) = (batch.base_offset(), batch.leader_epoch(), partition.end);
        let last_epoch = partition.epochs.latest().map_or(LeaderEpoch(0), |(latest, _)| latest);
        let has_room = base.0.checked_add(i64::from(u32::MAX)).is_some();
        if base != end || epoch < last_epoch || batch.last_offset_delta() < 0 || !has_room {
            return Err(AppendError::Apart { base, epoch, end });
        }
        if !partition.is_memory()
            && let Some(why) = self.space_refusal(log, &batch, fx)
        {
            return Err(AppendError::DiskFull(why));
        }
        let partition = &self.logs[&log];
        let rolls = partition.rolls(append_ms, batch.size() as u64)
            || (partition.holds_in_active() && self.buggify.strikes(Site::EarlyRoll));
        if rolls && base > partition.start {
            fx.mark(Mark::SegmentRolled);
        }
        report(self.config.reports, log, &batch, false, fx);
        self.take_in(now, log, batch, append_ms, rolls);
        self.has_appended = true;
        self.update_congestion(fx);
        Ok(())
    }

    /// Takes in a batch with its offsets: into memory, and into the journal where the log has one.
    fn take_in(
        &mut self,
        now: Now,
        log: TopicPartition,
        batch: Batch,
        append_ms: UnixMillis,
        rolls: bool,
    ) {
        let partition = self.logs.get_mut(&log).expect("the caller has found it");
        if partition.is_memory() {
            self.append_in_memory(now, log, &batch, append_ms, rolls);
            return;
        }
        let need = match partition.settings.flush {
            FlushPolicy::Ack => Need::Flushed,
            FlushPolicy::Lazy => Need::Written,
        };
        let journal = self.journal.as_mut().expect("a store with a disk has a journal");
        journal.enqueue(Entry::Append { log, append_ms, rolls, batch: batch.clone() }, need);
        self.unwritten_bytes += batch.size() as u64;
        partition.take_in(now.mono, batch, append_ms, rolls);
    }

    fn append_in_memory(
        &mut self,
        now: Now,
        log: TopicPartition,
        batch: &Batch,
        append_ms: UnixMillis,
        rolls: bool,
    ) {
        let partition = self.logs.get_mut(&log).expect("the log was found");
        // The copy lets go of the connection's receive buffer.
        let copy = Batch::split_from(&mut batch.to_bytes()).expect("a batch is whole");
        partition.take_in(now.mono, copy, append_ms, rolls);
        if let Some(journal) = &mut self.journal
            && partition.end > partition.reserved
        {
            partition.reserved = partition.end.plus(RESERVE_OFFSETS);
            journal.enqueue(Entry::Reserve { log, end: partition.reserved }, Need::Flushed);
        }
        self.stabilize_memory(log);
    }

    /// Lets go of what a log in memory is larger by than it should be, as far as it may.
    pub(super) fn shorten_memory(&mut self, log: TopicPartition) {
        let Some(partition) = self.logs.get_mut(&log).filter(|log| log.is_memory()) else { return };
        while partition.size() > partition.settings.memory_max_bytes
            && partition.tail.len() > 1
            && partition.tail[0].next <= partition.stable
            && partition.lets_go(partition.tail[0].next)
        {
            let front = partition.tail.pop_front().expect("there is one");
            partition.move_start(front.next);
            self.events.push_back(LogEvent::LogStartMoved { log, start: front.next });
        }
        partition.wish_for_memory();
    }

    /// Checks a produced batch against what the log knows of its producer (KIP-98), and makes room
    /// for a producer that it does not know.
    ///
    /// # Errors
    /// The wire code to answer with: 45 for a gap, 47 for an old epoch, and so on; 2 where the log is damaged, so that
    /// not all is known of its producers.
    pub fn check_sequence(
        &mut self,
        now: Now,
        log: TopicPartition,
        batch: &Batch,
    ) -> Result<Sequence, ErrorCode> {
        let ids_max = self.config.producer_ids_max;
        let partition = self.logs.get_mut(&log).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let verdict = partition.producers.check(now.mono, batch);
        let is_known = matches!(verdict, Ok(Sequence::Duplicate { .. }));
        if partition.producer_files == ProducerFiles::Unknown && !is_known {
            return Err(ErrorCode::CorruptMessage);
        }
        let verdict = verdict?;
        if verdict == Sequence::Append {
            partition.producers.admit(now.mono, batch, ids_max)?;
        }
        Ok(verdict)
    }

    /// Remembers that a batch was refused for a passing reason, so that a later one of the same
    /// pipeline cannot pass it.
    pub fn refuse_first(&mut self, now: Now, log: TopicPartition, batch: &Batch) {
        if let Some(partition) = self.logs.get_mut(&log) {
            partition.producers.refuse_first(now.mono, batch);
        }
    }

    /// Moves the start of a log up; [`LogEvent::LogStartMoved`] says that it is durable.
    ///
    /// `start` is at most the stable end. Moving it to where it is already answers at once.
    pub fn move_log_start(
        &mut self,
        now: Now,
        log: TopicPartition,
        start: Offset,
        fx: &mut Effects,
    ) {
        let Some(partition) = self.logs.get_mut(&log) else { return };
        assert!(start <= partition.stable, "only what is stable is deleted");
        if start <= partition.start {
            let start = partition.start;
            self.events.push_back(LogEvent::LogStartMoved { log, start });
            return;
        }
        if partition.is_memory() {
            while partition.tail.front().is_some_and(|batch| batch.next <= start) {
                partition.tail.pop_front();
            }
            partition.move_start(start);
            self.events.push_back(LogEvent::LogStartMoved { log, start });
            return;
        }
        let journal = self.journal.as_mut().expect("a store with a disk has a journal");
        journal.enqueue(Entry::LogStart { log, start }, Need::Flushed);
        partition.coming_start = partition.coming_start.max(start);
        partition.dirty = true;
        self.pump(now, fx);
    }

    /// Records durably that this node votes for `candidate` in `epoch`; ends with [`LogEvent::Voted`].
    ///
    /// A vote for node -1 says that the epoch was seen and nobody voted for: one for a node may follow.
    ///
    /// # Panics
    /// Where the epoch is lower than that of the last vote, or the same and the vote was for another: a
    /// node votes once in an epoch. Voting for the same one again is answered again.
    pub fn vote(&mut self, now: Now, epoch: LeaderEpoch, candidate: NodeId, fx: &mut Effects) {
        if let Some((voted, chosen)) = self.vote {
            let is_free = voted == epoch && (chosen == candidate || chosen == NOBODY);
            assert!(epoch > voted || is_free, "a node votes once in an epoch");
        }
        self.vote = Some((epoch, candidate));
        if let Some(journal) = &mut self.journal {
            journal.enqueue(Entry::Vote { epoch, candidate }, Need::Flushed);
            self.pump(now, fx);
        } else {
            self.events.push_back(LogEvent::Voted { epoch, candidate });
        }
    }
}

/// Tells checkers of a batch that stands at the end of a log from now on.
fn report(reports: bool, log: TopicPartition, batch: &Batch, as_leader: bool, fx: &mut Effects) {
    if reports {
        fx.cluster(ClusterEvent::Appended {
            partition: log,
            base_offset: batch.base_offset(),
            end_offset: batch.next_offset(),
            leader_epoch: batch.leader_epoch(),
            crc: batch.crc(),
            as_leader,
        });
    }
}
