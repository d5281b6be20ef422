//! How the leader of a partition with features takes in its log from the start, one piece at a time.
//!
//! A read from a file goes by its ticket: what one brings that an earlier leadership of this node began is not
//! taken, since that log may have been another. A log that cannot be taken in is not served at all: nobody could
//! say what of it is for clients, nor what it holds for later.

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::io::Effects;
use crate::log::{FetchPlan, FileRange, LogStore, ReadTicket};
use crate::partition::leader::Partition;
use crate::record::batch::Batch;
use crate::time::Now;

/// Bytes that are read at a time.
const LOAD_BYTES: u64 = 1 << 20;

/// What is to be done next with a log that is read from its start.
#[derive(Clone, Debug)]
pub enum LoadStep {
    /// Nothing: the machine serves.
    Done,
    /// Go on with the next piece.
    More,
    /// Read this under a ticket that [`reads_log`](Partition::reads_log) is told, and give what it brings to
    /// [`Partition::load_features`].
    Read(FileRange),
    /// Nothing: a piece is being read, the log is being cut back, or it cannot be taken in.
    Wait,
}

impl Partition {
    /// Goes on reading the log from its start, if that is not done yet.
    ///
    /// # Errors
    /// Why the log cannot be read, in words.
    pub fn load_step(
        &mut self,
        now: Now,
        log: &mut LogStore,
        fx: &mut Effects,
    ) -> Result<LoadStep, String> {
        let Some(scheduled) = self.scheduled.as_deref_mut().filter(|it| !it.is_loaded) else {
            return Ok(LoadStep::Done);
        };
        // Where the end is still looked for, it may lie below what the log says.
        let has_end = !log.is_finding(self.id);
        if scheduled.loading.is_some() || scheduled.broken.is_some() || !has_end {
            return Ok(LoadStep::Wait);
        }
        // What lies below was taken away meanwhile, and nothing there counted.
        let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        scheduled.next = scheduled.next.max(start);
        if let Some(view) = &mut self.view {
            view.pass_over(start);
        }
        let end = log.log_end_offset(self.id).unwrap_or(Offset::ZERO);
        if scheduled.next >= end {
            scheduled.is_loaded = true;
            scheduled.machine.loaded(now, self.leader_epoch);
            self.settle(log);
            self.scheduled_committed(now, log, fx);
            return Ok(LoadStep::Done);
        }
        match log.plan_fetch(self.id, scheduled.next, end, LOAD_BYTES, true) {
            FetchPlan::Memory(parts) => self.load_features(&parts).map(|()| LoadStep::More),
            FetchPlan::File(range) => Ok(LoadStep::Read(range)),
        }
    }

    /// Takes in that the log is being read under that ticket.
    pub fn reads_log(&mut self, ticket: ReadTicket) {
        if let Some(scheduled) = &mut self.scheduled {
            scheduled.loading = Some(ticket);
        }
    }

    /// Takes in that a read of the log has ended. Returns whether it is the one that is waited for.
    pub fn ends_reading(&mut self, ticket: ReadTicket) -> bool {
        let loading = self.scheduled.as_mut().map(|scheduled| &mut scheduled.loading);
        loading.and_then(|it| it.take_if(|it| *it == ticket)).is_some()
    }

    /// Takes in whole batches of the log, from where it was read to.
    ///
    /// # Errors
    /// Why they cannot be applied, in words.
    pub fn load_features(&mut self, parts: &[Bytes]) -> Result<(), String> {
        let Self { scheduled: Some(scheduled), view, .. } = self else { return Ok(()) };
        let before = scheduled.next;
        // A part may end within a batch: header and payload of a recent one lie apart.
        let mut bytes = Bytes::from(parts.concat());
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).map_err(|error| error.to_string())?;
            if batch.last_offset() >= scheduled.next {
                if let Some(view) = view {
                    view.note(&batch);
                }
                scheduled.take(&batch)?;
            }
        }
        if scheduled.next == before {
            return Err("it has no batch there".to_owned());
        }
        Ok(())
    }

    /// Serves no client any more until the node leads anew: the log says what it cannot read.
    pub fn break_features(&mut self, why: &str) {
        if let Some(scheduled) = &mut self.scheduled {
            scheduled.is_loaded = false;
            scheduled.broken = Some(why.into());
        }
    }

    /// Returns whether clients can be served: not where the log of a topic with features cannot be taken in.
    ///
    /// # Errors
    /// `KAFKA_STORAGE_ERROR` 56.
    pub(super) fn check_readable(&self) -> Result<(), ErrorCode> {
        let is_broken = self.scheduled.as_ref().is_some_and(|it| it.broken.is_some());
        if is_broken { Err(ErrorCode::KafkaStorageError) } else { Ok(()) }
    }
}
