//! What is promised of transactions, and what a whole log says of those in it.

pub mod anomalies;
pub mod atomicity;
pub mod committed_reads;
pub mod fenced_for_cause;
pub mod pipeline;
pub mod stable_offset;
pub mod staged_offsets;
pub mod unpinned;

use std::collections::BTreeMap;

use super::Checker;
use crate::history::{RecordKind, SeenRecord};

/// Returns the checkers of transactions.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(atomicity::Atomicity::default()),
        Box::new(fenced_for_cause::FencedForCause::default()),
        Box::new(committed_reads::CommittedReads::default()),
        Box::new(anomalies::Anomalies::default()),
        Box::new(stable_offset::StableOffset::default()),
        Box::new(pipeline::Pipeline::default()),
        Box::new(staged_offsets::StagedOffsets::default()),
        Box::new(unpinned::Unpinned::default()),
    ]
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Outcome {
    /// It is part of no transaction.
    Plain,
    /// Its transaction is committed.
    Committed,
    /// Its transaction is aborted.
    Aborted,
    /// Its transaction has no marker.
    Open,
}

/// One transaction in one log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// Whose it is.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first: i64,
    /// The offset of its marker, and whether that commits it.
    pub marker: Option<(i64, bool)>,
}

/// A whole log, read by what the rules of the format say and nothing else.
#[derive(Default, Debug)]
pub(super) struct WholeLog {
    pub start: i64,
    /// Records that are for readers, with what became of them, in order.
    pub records: Vec<(SeenRecord, Outcome)>,
    /// Transactions by their first offsets.
    pub spans: Vec<Span>,
}

impl WholeLog {
    pub(super) fn of(start: i64, records: &[SeenRecord]) -> Self {
        let mut log = Self { start, ..Self::default() };
        // Of each producer: the place of its open transaction, and of the records in it.
        let mut open: BTreeMap<i64, (usize, Vec<usize>)> = BTreeMap::new();
        for record in records {
            match record.kind {
                RecordKind::Plain => log.records.push((record.clone(), Outcome::Plain)),
                RecordKind::Control => {}
                RecordKind::Transactional => {
                    let (_, inside) = open.entry(record.producer_id).or_insert_with(|| {
                        let (producer_id, first) = (record.producer_id, record.offset);
                        log.spans.push(Span { producer_id, first, marker: None });
                        (log.spans.len() - 1, Vec::new())
                    });
                    inside.push(log.records.len());
                    log.records.push((record.clone(), Outcome::Open));
                }
                RecordKind::Marker { committed } => {
                    let Some((span, inside)) = open.remove(&record.producer_id) else { continue };
                    log.spans[span].marker = Some((record.offset, committed));
                    let outcome = if committed { Outcome::Committed } else { Outcome::Aborted };
                    for at in inside {
                        log.records[at].1 = outcome;
                    }
                }
            }
        }
        log
    }

    /// Returns what became of a record, by its hash.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (u64, &SeenRecord, Outcome)> {
        self.records.iter().map(|(record, outcome)| (record.hash, record, *outcome))
    }

    /// Returns what a reader of committed records is shown of a range.
    pub(super) fn shown(&self, from: i64, to: i64) -> impl Iterator<Item = &SeenRecord> {
        let at = self.records.partition_point(|(record, _)| record.offset < from);
        self.records[at..]
            .iter()
            .take_while(move |(record, _)| record.offset < to)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Plain | Outcome::Committed))
            .map(|(record, _)| record)
    }

    /// Returns the last stable offset where the log is committed up to `high_watermark`: that, or the first
    /// offset of a transaction whose marker is not below it.
    pub(super) fn stable(&self, high_watermark: i64) -> i64 {
        let below = self.spans.partition_point(|span| span.first < high_watermark);
        let is_open = |span: &&Span| span.marker.is_none_or(|(at, _)| at >= high_watermark);
        self.spans[..below].iter().find(is_open).map_or(high_watermark, |span| span.first)
    }

    /// Returns the aborted transactions with an offset in a range, as clients are told.
    pub(super) fn aborted(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let below = self.spans.partition_point(|span| span.first < to);
        let overlaps = |span: &&Span| span.marker.is_some_and(|(at, ok)| !ok && at >= from);
        let told = |span: &Span| (span.producer_id, span.first);
        self.spans[..below].iter().filter(overlaps).map(told).collect()
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::testing::{P, op};
    use crate::history::{Fact, RecordKind, SeenRecord};

    /// Returns a record of a producer's transaction.
    pub(in crate::checkers) fn data(offset: i64, producer_id: i64, hash: u64) -> SeenRecord {
        let kind = RecordKind::Transactional;
        SeenRecord { offset, hash, producer_id, producer_epoch: 0, sequence: 0, kind }
    }

    /// Returns the end of a producer's transaction.
    pub(in crate::checkers) fn marker(
        offset: i64,
        producer_id: i64,
        committed: bool,
    ) -> SeenRecord {
        let kind = RecordKind::Marker { committed };
        SeenRecord { kind, sequence: -1, ..data(offset, producer_id, 1) }
    }

    /// Returns the whole of a log.
    pub(in crate::checkers) fn whole(records: &[SeenRecord]) -> Fact {
        Fact::FinalLog { partition: P, log_start: 0, records: records.to_vec() }
    }

    /// Returns what a client says of one send in a transaction.
    pub(in crate::checkers) fn sent(transaction: u64, operation: u64, hash: u64) -> [Fact; 2] {
        let records = vec![hash];
        [
            Fact::Invoked { operation: op(operation), partition: P, records },
            Fact::SentIn { transaction: op(transaction), operation: op(operation) },
        ]
    }

    /// Returns what a client says of the end of a transaction.
    pub(in crate::checkers) fn ended(transaction: u64, committed: bool) -> [Fact; 2] {
        let transaction = op(transaction);
        [
            Fact::EndAsked { transaction, committed },
            Fact::TransactionEnded { transaction, committed },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{data, marker};
    use super::*;

    #[test]
    fn a_log_is_read_by_its_markers() {
        let records = [
            data(0, 1, 10),
            data(1, 2, 11),
            marker(2, 1, false),
            data(3, 1, 12),
            marker(4, 2, true),
            marker(5, 1, true),
            data(6, 2, 13),
        ];
        let log = WholeLog::of(0, &records);
        let shown: Vec<i64> = log.shown(0, 7).map(|record| record.offset).collect();
        assert_eq!(shown, [1, 3]);
        assert_eq!(log.aborted(0, 7), [(1, 0)]);
        assert_eq!(log.aborted(3, 7), [], "its marker is before");
        let stable: Vec<i64> = (0..=7).map(|end| log.stable(end)).collect();
        assert_eq!(stable, [0, 0, 0, 1, 1, 3, 6, 6]);
    }
}
