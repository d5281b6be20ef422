//! Copy-forward: what lives in the oldest part of the log is appended again, and then the log may start
//! behind that part, as in a log of groups.

use super::{Cx, TransactionCoordinator, TransactionLog, fitting};
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::io::Mark;
use crate::time::Now;
use crate::wire::transaction_record::TransactionRecord;

/// How many records one step copies, at most.
const RECORDS_PER_STEP: usize = 500;

impl TransactionCoordinator {
    /// Does one bounded step of copying, if the log that starts at `log_start_offset` holds more dead records
    /// than live ones, and enough of them to be worth it. Call it again after
    /// [`cleaned_to`](Self::cleaned_to) has told where the log may start.
    ///
    /// # Errors
    /// What the log said. Nothing has changed then.
    pub fn clean(
        &mut self,
        now: Now,
        log: &mut dyn TransactionLog,
        log_start_offset: Offset,
    ) -> Result<(), ErrorCode> {
        let kept = self.first_unknown.is_some_and(|first| first <= log_start_offset);
        if !self.is_loaded || self.cleaned.is_some() || kept {
            return Ok(());
        }
        let live = self.stored.by_place().len() as i64;
        let dead = self.replies.end().0 - log_start_offset.0 - live;
        if dead < live.max(self.config.dead_records_min) {
            return Ok(());
        }
        let oldest = self.stored.by_place().values().take(RECORDS_PER_STEP);
        let mut records: Vec<TransactionRecord> = oldest
            .map(|id| {
                let transaction = self.stored.transaction(id);
                transaction.expect("the index names ids that live").to_record(id)
            })
            .collect();
        records.truncate(fitting(&records, RECORDS_PER_STEP));
        if !records.is_empty() {
            self.append(&mut Cx { now, log: &mut *log }, &records)?;
        }
        log.mark(Mark::CoordinatorCleaned);
        let end = self.replies.end();
        let first_live = self.stored.by_place().keys().next().copied().unwrap_or(end);
        let start = self.first_unknown.map_or(first_live, |first| first.min(first_live));
        // Only when the copies are committed is what they are copies of not needed any more.
        self.cleaned = Some((end, start));
        Ok(())
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
