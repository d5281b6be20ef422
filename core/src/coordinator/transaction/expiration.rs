//! Transactional ids that nobody has used for long go without being asked.

use std::ops::Bound;

use super::stored::tombstone;
use super::{Cx, RECORDS_PER_APPEND, Timer, TransactionCoordinator, fitting};
use crate::time::UnixMillis;
use crate::wire::KafkaString;
use crate::wire::transaction_record::{TransactionRecord, TransactionStatus};

/// How many ids one turn of the search looks at.
const IDS_PER_TURN: usize = 1_000;

impl TransactionCoordinator {
    /// Looks at the next ids for what is past its expiration.
    pub(super) fn on_expiration_turn(&mut self, cx: &mut Cx<'_>) {
        // A clock in doubt lets nothing expire: that could not be undone.
        let wall = cx.log.retention_time(cx.now);
        let from = self.expiration_from.take();
        let turn = match wall {
            Some(_) => self.next_ids(from.as_ref()),
            None => Vec::new(),
        };
        let expired = turn.iter().filter(|id| wall.is_some_and(|wall| self.is_expired(id, wall)));
        let records: Vec<TransactionRecord> = expired.map(tombstone).collect();
        let mut left = records.as_slice();
        while !left.is_empty() {
            let (part, rest) = left.split_at(fitting(left, RECORDS_PER_APPEND));
            if let Err(error) = self.append(cx, part) {
                tracing::warn!(%error, "expired transactional ids are still to be taken away");
                break;
            }
            left = rest;
        }
        let wait = if turn.len() < IDS_PER_TURN {
            self.config.id_expiration_check_interval
        } else {
            self.expiration_from = turn.last().cloned();
            std::time::Duration::ZERO
        };
        self.timers.set(Timer::Expiration, cx.now.mono + wait);
    }

    fn next_ids(&self, from: Option<&KafkaString>) -> Vec<KafkaString> {
        let bounds = (from.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let ids = self.stored.transactions().range::<KafkaString, _>(bounds).map(|(id, _)| id);
        ids.take(IDS_PER_TURN).cloned().collect()
    }

    fn is_expired(&self, id: &str, now: UnixMillis) -> bool {
        self.stored.transaction(id).is_some_and(|transaction| {
            let is_at_rest = match transaction.status {
                TransactionStatus::Empty
                | TransactionStatus::CompleteCommit
                | TransactionStatus::CompleteAbort => true,
                TransactionStatus::Ongoing
                | TransactionStatus::PrepareCommit
                | TransactionStatus::PrepareAbort => false,
            };
            let kept_ms = self.config.id_expiration.as_millis() as i64;
            is_at_rest && now.0.saturating_sub(transaction.updated_ms) >= kept_ms
        })
    }
}
