//! The body of a fuzz target: what the log of a coordinator may hold.
//!
//! It returns nothing; a panic is a finding.

use std::sync::Arc;

use bytes::Bytes;

use super::{GroupConfig, GroupCoordinator, GroupLog, LogRecord, TransactionalProducer};
use crate::error::ErrorCode;
use crate::ids::{Offset, Uuid};
use crate::time::{Instant, Now, UnixMillis};

/// How often a coordinator is woken for one input.
const WAKEUPS_MAX: usize = 20;

/// The log of a coordinator: records as two bytes of length and the key, two bytes of length and the
/// value, of which 0 stands for none. It is replayed and served until all sessions have ended.
pub fn log(data: &[u8]) {
    let mut left = data;
    let mut part = || {
        let (head, rest) = left.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*head)))?;
        left = rest;
        Some(Bytes::copy_from_slice(part))
    };
    let mut coordinator = GroupCoordinator::new(Arc::new(GroupConfig::default()));
    let mut end = Offset::ZERO;
    while let (Some(key), Some(value)) = (part(), part()) {
        let value = Some(value).filter(|value| !value.is_empty());
        if coordinator.replay(end, key, value).is_err() {
            return;
        }
        end = end.plus(1);
    }
    let mut log = Sink { end };
    let mut now = Now { mono: Instant::from_nanos(1), wall: UnixMillis(1_700_000_000_000) };
    coordinator.loaded(now, &mut log, end, end);
    for _ in 0..WAKEUPS_MAX {
        let Some(deadline) = coordinator.next_deadline() else { return };
        now.mono = now.mono.max(deadline);
        coordinator.on_timer(now, &mut log);
        coordinator.committed(log.end);
    }
}

/// A log that takes everything.
struct Sink {
    end: Offset,
}

impl GroupLog for Sink {
    fn append(&mut self, records: &[LogRecord]) -> Result<Offset, ErrorCode> {
        let base = self.end;
        self.end = base.plus(records.len() as i64);
        Ok(base)
    }

    fn append_transactional(
        &mut self,
        _: TransactionalProducer,
        records: &[LogRecord],
    ) -> Result<Offset, ErrorCode> {
        self.append(records)
    }

    fn next_id(&mut self) -> Uuid {
        Uuid([1; 16])
    }

    fn retention_time(&mut self, now: Now) -> Option<UnixMillis> {
        Some(now.wall)
    }
}
