//! The body of a fuzz target: what the log of a coordinator may hold.
//!
//! It returns nothing; a panic is a finding.

use std::sync::Arc;

use bytes::Bytes;

use super::api::{EndTxn, InitProducerId};
use super::{
    Action, LogRecord, Request, Ticket, TransactionConfig, TransactionCoordinator, TransactionLog,
};
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::time::{Instant, Now, UnixMillis};

/// How often a coordinator is woken for one input.
const WAKEUPS_MAX: usize = 20;

/// The log of a coordinator: records as two bytes of length and the key, two bytes of length and the value, of
/// which 0 stands for none. It is replayed and served until all transactions have ended; every producer in it
/// asks for an end, and then for its next epoch.
pub fn log(data: &[u8]) {
    let mut left = data;
    let mut part = || {
        let (head, rest) = left.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*head)))?;
        left = rest;
        Some(Bytes::copy_from_slice(part))
    };
    let mut coordinator = TransactionCoordinator::new(Arc::new(TransactionConfig::default()));
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
    coordinator.loaded(now, &mut log, 1, end, end);
    for (ticket, request) in (0..).zip(requests(&coordinator)) {
        coordinator.handle(now, &mut log, Ticket(ticket), &request);
    }
    for _ in 0..WAKEUPS_MAX {
        while let Some(action) = coordinator.poll_action() {
            match action {
                Action::WriteMarker { id, .. } => {
                    coordinator.on_marker_written(now, &mut log, id, Ok(()));
                }
                Action::WantProducerId => {
                    coordinator.give_producer_id(now, &mut log, Ok(ProducerId(1 << 40)));
                }
            }
        }
        let end = log.end;
        coordinator.on_committed(now, &mut log, end);
        let Some(deadline) = coordinator.next_deadline() else { return };
        now.mono = now.mono.max(deadline);
        coordinator.on_timer(now, &mut log);
    }
}

fn requests(coordinator: &TransactionCoordinator) -> Vec<Request> {
    let of_each = coordinator.views().flat_map(|view| {
        let end = EndTxn {
            version: 4 + (view.producer_id.0 & 1) as i16,
            transactional_id: view.transactional_id.clone(),
            producer_id: view.producer_id,
            producer_epoch: view.producer_epoch,
            committed: view.producer_id.0 & 2 == 0,
        };
        let init = InitProducerId {
            version: 5,
            transactional_id: view.transactional_id.clone(),
            transaction_timeout_ms: 1_000,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
        };
        let again = InitProducerId {
            producer_id: view.producer_id,
            producer_epoch: view.producer_epoch,
            ..init.clone()
        };
        [Request::EndTxn(end), Request::InitProducerId(again), Request::InitProducerId(init)]
    });
    of_each.collect()
}

/// A log that takes everything.
struct Sink {
    end: Offset,
}

impl TransactionLog for Sink {
    fn append(&mut self, records: &[LogRecord]) -> Result<Offset, ErrorCode> {
        let base = self.end;
        self.end = base.plus(records.len() as i64);
        Ok(base)
    }

    fn retention_time(&mut self, now: Now) -> Option<UnixMillis> {
        Some(now.wall)
    }
}
