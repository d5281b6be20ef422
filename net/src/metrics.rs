//! What a node counts, and its Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mainspring_core::io::Counter;

use crate::clock::Clock;
pub(crate) use groups::GroupMetrics;
pub(crate) use schedules::ScheduleMetrics;
pub(crate) use transactions::TransactionMetrics;

mod groups;
mod schedules;
mod transactions;

/// Counters of one process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counters: Mutex<BTreeMap<Counter, u64>>,
    /// What is known of groups.
    pub(crate) groups: GroupMetrics,
    /// What is known of records that wait.
    pub(crate) schedules: ScheduleMetrics,
    /// What is known of transactions.
    pub(crate) transactions: TransactionMetrics,
    /// Connections of clients that are open.
    pub(crate) connections: AtomicU64,
    /// Connections that were closed at once because too many were open.
    pub(crate) refused: AtomicU64,
    /// 1 while producers are refused because the disk is full or nearly so.
    pub(crate) disk_full: AtomicU64,
    /// 1 while nothing is deleted by age, because the wall clock is in doubt.
    pub(crate) retention_held: AtomicU64,
    /// 1 once clients are served, else 0.
    pub(crate) ready: AtomicU64,
}

impl Metrics {
    /// Moves a counter.
    pub(crate) fn count(&self, counter: Counter, by: u64) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        *counters.entry(counter).or_default() += by;
    }

    /// Writes all values in Prometheus' text format, every known counter among them, also at zero.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (counter, name, help) in COUNTERS {
            let value = counters.get(&counter).copied().unwrap_or(0);
            family(&mut text, name, help, "counter", value);
        }
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let refused = load(&self.refused);
        family(
            &mut text,
            "mainspring_connections_refused_total",
            "Connections closed at once because too many were open.",
            "counter",
            refused,
        );
        let open = load(&self.connections);
        family(&mut text, "mainspring_connections", "Open client connections.", "gauge", open);
        let ready = load(&self.ready);
        family(&mut text, "mainspring_ready", "1 while clients are served.", "gauge", ready);
        let full = load(&self.disk_full);
        family(
            &mut text,
            "mainspring_disk_full",
            "1 while producers are refused because the disk is full or nearly so.",
            "gauge",
            full,
        );
        let held = load(&self.retention_held);
        family(
            &mut text,
            "mainspring_retention_held",
            "1 while nothing is deleted by age, because the wall clock is in doubt.",
            "gauge",
            held,
        );
        self.groups.write(&mut text);
        self.transactions.write(&mut text, &self.groups);
        self.schedules.write(&mut text, Clock::default().now().wall.0);
        text
    }
}

const COUNTERS: [(Counter, &str, &str); 17] = [
    (Counter::JournalBlocks, "mainspring_journal_blocks_total", "Journal blocks written."),
    (Counter::JournalBytes, "mainspring_journal_bytes_total", "Bytes of journal blocks written."),
    (Counter::JournalFlushes, "mainspring_journal_flushes_total", "Journal writes flushed."),
    (Counter::Checkpoints, "mainspring_checkpoints_total", "Checkpoints completed."),
    (Counter::BatchesAppended, "mainspring_batches_appended_total", "Record batches appended."),
    (Counter::RecordsAppended, "mainspring_records_appended_total", "Records appended."),
    (Counter::BytesAppended, "mainspring_appended_bytes_total", "Payload bytes appended."),
    (
        Counter::DuplicateBatches,
        "mainspring_duplicate_batches_total",
        "Batches recognised as duplicates of an idempotent producer.",
    ),
    (
        Counter::SegmentBytesRead,
        "mainspring_segment_read_bytes_total",
        "Bytes read from segment files for fetches.",
    ),
    (
        Counter::SegmentsDeleted,
        "mainspring_segments_deleted_total",
        "Segments deleted by retention.",
    ),
    (
        Counter::RecordsPastRetention,
        "mainspring_records_past_retention_total",
        "Records that were past retention.ms when they were appended.",
    ),
    (Counter::Requests, "mainspring_requests_total", "Requests answered."),
    (
        Counter::ProtocolErrors,
        "mainspring_protocol_errors_total",
        "Connections closed because their peer broke the protocol.",
    ),
    (Counter::FetchesParked, "mainspring_fetches_parked_total", "Fetches that waited for data."),
    (Counter::BytesFetched, "mainspring_fetched_bytes_total", "Payload bytes sent to consumers."),
    (
        Counter::OffsetsCommitted,
        "mainspring_committed_offsets_total",
        "Offsets that groups committed.",
    ),
    (
        Counter::GroupAssignments,
        "mainspring_group_assignments_total",
        "Assignments that groups stored at the end of a rebalance.",
    ),
];

fn family(text: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    head(text, name, help, kind);
    sample(text, name, "", value);
}

/// Begins a family of samples.
fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
        .expect("writing to a string does not fail");
}

/// Writes one sample; `labels` with their braces, or nothing.
fn sample(text: &mut String, name: &str, labels: &str, value: u64) {
    writeln!(text, "{name}{labels} {value}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_help_type_and_samples() {
        let metrics = Metrics::default();
        metrics.count(Counter::Requests, 2);
        metrics.count(Counter::Requests, 3);
        let text = metrics.text();
        assert!(text.contains("\nmainspring_requests_total 5\n"), "{text}");
        assert!(text.contains("\nmainspring_checkpoints_total 0\n"), "{text}");
        assert!(text.contains("# TYPE mainspring_connections gauge\nmainspring_connections 0\n"));
        for family in text.split("# HELP ").skip(1) {
            let (name, rest) = family.split_once(' ').expect("a name");
            let mut lines = rest.lines().skip(1);
            let kind = lines.next().expect("a type");
            assert!(kind.starts_with(&format!("# TYPE {name} ")), "{family}");
            for sample in lines {
                let end = sample.find(['{', ' ']).expect("a sample has a value");
                assert_eq!(&sample[..end], name, "{family}");
            }
        }
    }

    #[test]
    fn the_documentation_lists_exactly_the_metrics_there_are() {
        let page = include_str!("../../docs/operating.md");
        let documented: Vec<&str> =
            page.lines().filter(|line| line.starts_with("| `mainspring_")).collect();
        let text = Metrics::default().text();
        let served: Vec<String> = text
            .split("# HELP ")
            .skip(1)
            .map(|family| {
                let mut lines = family.lines();
                let (name, help) = lines.next().and_then(|l| l.split_once(' ')).expect("a help");
                let kind = lines.next().and_then(|l| l.rsplit(' ').next()).expect("a type");
                format!("| `{name}` | {kind} | {help} |")
            })
            .collect();
        assert_eq!(documented, served);
    }
}
