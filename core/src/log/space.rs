//! Room on the disk: how it is watched, and who is refused when it runs out.
//!
//! Producers are refused before the last bytes are gone: what is left serves metadata, deletions and
//! the segments of what was acknowledged. A write that finds no space says so too, and is tried again.
//! Both are told in words, to people and in the answers, and both end by themselves.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::TopicPartition;
use crate::io::{Completion, DiskError, Effect, Effects, Event, Mark};
use crate::log::api::AppendError;
use crate::log::operations::{Op, Purpose};
use crate::log::partition_log::PartitionLog;
use crate::log::store::LogStore;
use crate::record::batch::Batch;
use crate::record::hidden::{Hidden, Note};
use crate::time::{Instant, Now};

/// How often the free space is asked for.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Largest reserve that is kept unless one is configured.
const RESERVE_MAX: u64 = 1 << 30;

/// What is known of the room on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SpaceWatch {
    next: Instant,
    asked: bool,
    free: Option<u64>,
    total: u64,
    reserve: u64,
    /// Why producers are refused although there is some room.
    low: Option<Arc<str>>,
    /// Why producers are refused because a write found none.
    full: Option<Arc<str>>,
}

impl SpaceWatch {
    /// Returns why producers are refused, if they are.
    pub(super) fn refusal(&self) -> Option<&Arc<str>> {
        self.full.as_ref().or(self.low.as_ref())
    }

    /// Returns when the free space is asked for next.
    pub(super) fn next(&self) -> Option<Instant> {
        (!self.asked).then_some(self.next)
    }

    /// Returns the bytes of the disk and those that are free, `None` if not known.
    pub(super) fn sizes(&self) -> Option<(u64, u64)> {
        self.free.map(|free| (self.total, free))
    }

    /// Returns how many bytes a file may take without touching the reserve, `None` if not known.
    pub(super) fn spare(&self) -> Option<u64> {
        self.free.map(|free| free.saturating_sub(self.reserve))
    }
}

impl LogStore {
    /// Returns the bytes of the disk of the data directory and those that may still be written, as it
    /// told at most two seconds ago; `None` where there is no directory or it has not told yet.
    pub fn disk_sizes(&self) -> Option<(u64, u64)> {
        self.space.sizes()
    }

    /// Asks how much room there is, if it is time.
    pub(super) fn ask_for_space(&mut self, now: Now, fx: &mut Effects) {
        if self.space.asked || self.space.next > now.mono || self.config.memory_only {
            return;
        }
        self.space.asked = true;
        self.ops.submit(Op::Space, Purpose::Space, fx);
    }

    /// Takes the answer. A driver that cannot tell is asked again and believed to have room.
    pub(super) fn on_space(&mut self, now: Now, answer: Option<&Completion>, fx: &mut Effects) {
        self.space.asked = false;
        self.space.next = now.mono + ASK_EVERY;
        let Some(&Completion::Space { free, total }) = answer else { return };
        let reserve =
            self.config.disk_reserve_bytes.unwrap_or_else(|| (total / 20).min(RESERVE_MAX));
        self.space.free = Some(free);
        self.space.total = total;
        self.space.reserve = reserve;
        if free >= reserve {
            if self.space.low.take().is_some() {
                self.tell_space(fx);
            }
        } else if self.space.low.is_none() {
            let why: Arc<str> = format!(
                "the disk of the data directory is nearly full: {free} of {total} bytes are free, \
                 {reserve} are kept in reserve, so producers are refused; free some space, lower \
                 retention, or set mainspring.disk.reserve.bytes"
            )
            .into();
            fx.warn(why.to_string());
            self.space.low = Some(why);
            fx.push(Effect::Observe(Event::DiskFull(true)));
        }
    }

    /// A write found no space.
    pub(super) fn on_no_space(&mut self, error: &DiskError, fx: &mut Effects) {
        if self.space.full.is_none() {
            let why: Arc<str> = format!(
                "the disk of the data directory is full ({error}), so producers are refused; free \
                 some space or lower retention, and producing goes on by itself"
            )
            .into();
            fx.warn(why.to_string());
            self.space.full = Some(why);
            fx.push(Effect::Observe(Event::DiskFull(true)));
        }
    }

    /// A write or removal went through.
    pub(super) fn on_space_again(&mut self, fx: &mut Effects) {
        if self.space.full.take().is_some() {
            self.tell_space(fx);
        }
    }

    fn tell_space(&self, fx: &mut Effects) {
        if self.space.refusal().is_none() {
            fx.info("there is space on the disk again; producing goes on");
            fx.push(Effect::Observe(Event::DiskFull(false)));
        }
    }

    /// Returns why an append to this log is refused for want of room. Metadata may use the reserve,
    /// and so may committed offsets, the ends of transactions, and notes that belong to no produced
    /// batch and write nothing again, as long as there is any room at all.
    pub(super) fn space_refusal(
        &self,
        log: TopicPartition,
        batch: &Batch,
        fx: &mut Effects,
    ) -> Option<Arc<str>> {
        if log == TopicPartition::CLUSTER_METADATA {
            return None;
        }
        let may_use_reserve = self.logs.get(&log).is_some_and(|log| log.settings.may_use_reserve);
        let space = &self.space;
        let refusal = space.refusal()?;
        // What is written again makes no room before a whole segment can go.
        let may_use_reserve = may_use_reserve || is_own(batch, false);
        let why = if may_use_reserve { space.full.as_ref()? } else { refusal };
        fx.mark(Mark::DiskFull);
        Some(Arc::clone(why))
    }
}

impl PartitionLog {
    /// Returns why a log in memory takes no more of producers: it is twice as large as it should be, because
    /// nothing may [go](LogStore::hold). What ends transactions, and what lets records go, passes.
    pub(super) fn memory_refusal(&self, batch: &Batch) -> Option<AppendError> {
        let bytes = self.size();
        let is_full = bytes > self.settings.memory_max_bytes.saturating_mul(2);
        let refuses = is_full && !self.settings.may_use_reserve && !is_own(batch, true);
        refuses.then_some(AppendError::MemoryFull { bytes })
    }
}

/// Returns whether a batch is the log's own: it ends a transaction, or says something that no client has just
/// produced. What is written again so that a log may be shorter counts where it `may_restate`.
fn is_own(batch: &Batch, may_restate: bool) -> bool {
    batch.is_control()
        && match Hidden::of(batch) {
            None => true,
            Some(Hidden::Void) => false,
            Some(Hidden::Note) => Note::read(batch)
                .is_ok_and(|note| note.link.is_none() && (may_restate || !note.restates())),
        }
}
