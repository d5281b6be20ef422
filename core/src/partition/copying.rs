//! Writing again what still counts, so that the log of a partition with features may begin later.
//!
//! It goes on step by step, by the clock: what is written is stable at once where the log is in memory, and
//! would call for the next step in the same turn for ever. And it ends: by size a log is
//! [wished](LogStore::expect_copies) no smaller than twice what would be written again.

use std::time::Duration;

use crate::io::Effects;
use crate::log::LogStore;
use crate::partition::leader::Partition;
use crate::time::{Instant, Now};

/// Bytes of records that are written again at a time.
const COPY_BYTES: usize = 1 << 20;
/// How long after one step the next one comes at the earliest.
const COPY_EVERY: Duration = Duration::from_millis(10);
/// How long after one that could not be made, because there is no room or too few replicas have what there is.
const COPY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// When more may be written again.
#[derive(Clone, Default, Debug)]
pub(super) struct Copying {
    /// No step is made before.
    not_before: Option<Instant>,
}

impl Copying {
    /// Returns when there is to be a step, if one is waited for that no event will tell of.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.not_before
    }
}

impl Partition {
    /// Writes again some of what still counts below where the log is wanted to begin, if it is time. Returns
    /// whether anything was.
    pub fn copy_forward(&mut self, now: Now, log: &mut LogStore, fx: &mut Effects) -> bool {
        // Retention and DeleteRecords wait for it alike.
        let wish = self.wish(log);
        let is_hindered = self.in_sync().live() < self.min_insync_replicas() || log.is_congested();
        let bytes = COPY_BYTES.min(self.config.rules.max_message_bytes);
        let Some(scheduled) = self.scheduled.as_deref_mut().filter(|it| it.is_loaded) else {
            return false;
        };
        let Some(wish) = wish else {
            scheduled.machine.stop_copying();
            scheduled.copying.not_before = None;
            return false;
        };
        if scheduled.copying.not_before.is_some_and(|at| now.mono < at) {
            return false;
        }
        if is_hindered {
            scheduled.copying.not_before = Some(now.mono + COPY_AGAIN_AFTER);
            return false;
        }
        let Some(note) = scheduled.machine.copies(now, wish, bytes) else {
            // It waits for records to be read, a transaction to end, or what was written to be committed.
            scheduled.copying.not_before = None;
            return false;
        };
        let is_written = self.append_own(now, note.build(), log, fx).is_ok();
        if let Some(scheduled) = &mut self.scheduled {
            let wait = if is_written { COPY_EVERY } else { COPY_AGAIN_AFTER };
            scheduled.copying.not_before = Some(now.mono + wait);
        }
        is_written
    }
}
