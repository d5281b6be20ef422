//! What became of records: noted by the task, read by whoever holds a [`Delivery`].

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainspring_core::client::ClientError;
use mainspring_core::ids::Offset;
use mainspring_core::wire::KafkaString;

use super::Stored;
use crate::client::call::Waiter;

/// What became of the records of a chunk.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) inner: Mutex<ReportsInner>,
    pub(super) changed: Condvar,
}

/// The side of reports that brings them. Dropped, it leaves the word that those which are missing will
/// never come.
#[derive(Debug, Default)]
pub(super) struct Owed(pub(super) Arc<Reports>);

impl Drop for Owed {
    fn drop(&mut self) {
        // Nobody can get hold of a report any more who has not done so.
        if Arc::strong_count(&self.0) > 1 {
            self.0.abandon();
        }
    }
}

#[derive(Default)]
pub(super) struct ReportsInner {
    /// For each record its batch among `batches` and its place in it. Empty until the chunk is taken.
    pub(super) places: Vec<(u32, u32)>,
    pub(super) batches: Vec<BatchReport>,
    pub(super) waiters: Vec<(u32, Waiter)>,
    /// Whether no more reports come.
    pub(super) is_abandoned: bool,
    /// When the chunk was taken: the time of records that brought none.
    pub(super) taken_at: i64,
    /// The times of all records, where one brought its own.
    pub(super) timestamps: Vec<i64>,
}

impl std::fmt::Debug for ReportsInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReportsInner").field("batches", &self.batches).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub(super) struct BatchReport {
    pub(super) topic: KafkaString,
    pub(super) partition: i32,
    pub(super) result: Result<Option<Offset>, ClientError>,
    pub(super) log_append_time: Option<i64>,
}

pub(super) const UNREPORTED: u32 = u32::MAX;

impl Reports {
    pub(super) fn lock(&self) -> MutexGuard<'_, ReportsInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a batch's report for some of the chunk's records, and wakes who waits for them.
    pub(super) fn note(&self, report: BatchReport, records: impl Iterator<Item = (usize, u32)>) {
        let woken = {
            let mut inner = self.lock();
            let batch = inner.batches.len() as u32;
            inner.batches.push(report);
            for (index, nth) in records {
                inner.places[index] = (batch, nth);
            }
            let waiters = std::mem::take(&mut inner.waiters);
            let (woken, left): (Vec<_>, Vec<_>) = waiters
                .into_iter()
                .partition(|(index, _)| inner.places[*index as usize].0 != UNREPORTED);
            inner.waiters = left;
            woken
        };
        self.changed.notify_all();
        for (_, waiter) in woken {
            waiter();
        }
    }

    /// Leaves those without an answer who still wait, and tells them.
    pub(super) fn abandon(&self) {
        let waiters = {
            let mut inner = self.lock();
            inner.is_abandoned = true;
            std::mem::take(&mut inner.waiters)
        };
        self.changed.notify_all();
        for (_, waiter) in waiters {
            waiter();
        }
    }
}

impl ReportsInner {
    /// Returns the record's batch among `batches` and its place in it.
    pub(super) fn place(&self, index: u32) -> Option<(u32, u32)> {
        self.places.get(index as usize).copied().filter(|(batch, _)| *batch != UNREPORTED)
    }

    pub(super) fn is_settled(&self, index: u32) -> bool {
        self.is_abandoned || self.place(index).is_some()
    }
}

/// The report of one record, which is there or will be.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(super) reports: Arc<Reports>,
    pub(super) index: u32,
}

impl Delivery {
    /// Returns whether the record was reported.
    pub fn is_done(&self) -> bool {
        self.reports.lock().is_settled(self.index)
    }

    /// Waits for the report for as long as is given, and returns whether it is there.
    pub fn wait(&self, limit: Duration) -> bool {
        let inner = self.reports.lock();
        let index = self.index;
        let waited =
            self.reports.changed.wait_timeout_while(inner, limit, |inner| !inner.is_settled(index));
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.is_settled(index)
    }

    /// Calls `waiter` once the report is there: at once where it is.
    pub fn on_done(&self, waiter: Waiter) {
        let mut inner = self.reports.lock();
        if !inner.is_settled(self.index) {
            inner.waiters.push((self.index, waiter));
            return;
        }
        drop(inner);
        waiter();
    }

    /// Returns where the record was to be stored, as far as that was reported: its topic, and its partition, -1 where
    /// none was chosen.
    pub fn place(&self) -> Option<(KafkaString, i32)> {
        let inner = self.reports.lock();
        let (batch, _) = inner.place(self.index)?;
        let report = &inner.batches[batch as usize];
        Some((report.topic.clone(), report.partition))
    }

    /// Returns the report, `None` where there is none yet.
    pub fn result(&self) -> Option<Result<Stored, ClientError>> {
        let inner = self.reports.lock();
        let Some((batch, nth)) = inner.place(self.index) else {
            return inner.is_abandoned.then_some(Err(ClientError::Abandoned));
        };
        let report = &inner.batches[batch as usize];
        let own = inner.timestamps.get(self.index as usize).copied().unwrap_or(inner.taken_at);
        Some(report.result.clone().map(|base| Stored {
            topic: report.topic.clone(),
            partition: report.partition,
            offset: base.map(|base| base.0 + i64::from(nth)),
            timestamp: report.log_append_time.unwrap_or(own),
        }))
    }
}
