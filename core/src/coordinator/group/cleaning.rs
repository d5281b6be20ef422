//! Copy-forward: what lives in the oldest part of the log is appended again, and then the log may
//! start behind that part. So a log stays as long as a few times what lives in it, and is shortened
//! by ordinary appends that every reader of it understands.
//!
//! An offset that a transaction has staged is not copied: its copy would be the later record, and
//! would count in place of what the transaction commits.

use super::{Cx, GroupCoordinator, GroupLog, fitting};
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::io::Mark;
use crate::time::Now;
use crate::wire::group_record::GroupRecord;

/// How many records one step copies, at most.
const RECORDS_PER_STEP: usize = 500;

impl GroupCoordinator {
    /// Does one bounded step of copying, if the log that starts at `log_start_offset` holds more dead
    /// records than live ones, and enough of them to be worth it. Call it again after
    /// [`cleaned_to`](Self::cleaned_to) has told where the log may start.
    ///
    /// # Errors
    /// What the log said. Nothing has changed then.
    pub fn clean(
        &mut self,
        now: Now,
        log: &mut dyn GroupLog,
        log_start_offset: Offset,
    ) -> Result<(), ErrorCode> {
        if !self.is_loaded || self.cleaned.is_some() {
            return Ok(());
        }
        let live = (self.stored.by_place().len() + self.stored.staged().count()) as i64;
        let dead = self.replies.end().0 - log_start_offset.0 - live;
        if dead < live.max(self.config.dead_records_min) {
            return Ok(());
        }
        let kept_from = self.kept_from();
        if kept_from.is_some_and(|first| first <= log_start_offset) {
            return Ok(());
        }
        let mut records: Vec<GroupRecord> = self
            .stored
            .by_place()
            .range(..kept_from.unwrap_or(Offset(i64::MAX)))
            .take(RECORDS_PER_STEP)
            .map(|(_, key)| self.stored.record(key).expect("the index names keys that live"))
            .collect();
        records.truncate(fitting(&records, RECORDS_PER_STEP));
        self.append(&mut Cx { now, log: &mut *log }, &records)?;
        log.mark(Mark::CoordinatorCleaned);
        let end = self.replies.end();
        let first_live = self.stored.by_place().keys().next().copied().unwrap_or(end);
        let start = kept_from.map_or(first_live, |first| first.min(first_live));
        // Only when the copies are committed is what they are copies of not needed any more.
        self.cleaned = Some((end, start));
        Ok(())
    }

    /// Returns from where on the log is kept for another reason than records that live: because of a
    /// record of an unknown purpose, of an open transaction, or of what was stored before an offset
    /// that is staged. No transaction can begin before that place later on.
    fn kept_from(&self) -> Option<Offset> {
        let staged = self.stored.staged();
        let stored_before = staged
            .iter()
            .filter_map(|((group, topic, partition), _)| {
                self.stored.offset(group, topic, *partition)
            })
            .map(|stored| stored.at);
        stored_before.chain(staged.first()).chain(self.first_unknown).min()
    }

    /// Returns, once, where the log may start after a step of [`clean`](Self::clean) is committed.
    pub fn cleaned_to(&mut self) -> Option<Offset> {
        let (needs, start) = self.cleaned?;
        if needs > self.replies.high_watermark() {
            return None;
        }
        self.cleaned = None;
        Some(start)
    }
}
