//! What can be said of a log from outside alone: a history of sends and polls, whoever made it, and the
//! anomalies in it.
//!
//! It needs no simulator, so real processes are held to it as well. The kinds of anomalies are those of
//! Jepsen's workload for Kafka (`jepsen/src/jepsen/tests/kafka.clj`), as far as there are no transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One log: a topic and a partition under any name.
pub type Key = String;

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It was confirmed.
    Ok,
    /// It was refused, and nothing of it took effect.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// One thing that a process did. A process does one at a time.
#[derive(Clone, Debug)]
pub enum Action {
    /// It sent a value to a log; the offset where it was told.
    Send {
        /// The log.
        key: Key,
        /// The value, never sent before.
        value: u64,
        /// Where it stands, if that was told.
        offset: Option<i64>,
    },
    /// It read a log on: offsets with values, in the order in which they came.
    Poll {
        /// The log.
        key: Key,
        /// What came.
        records: Vec<(i64, u64)>,
        /// Whether it was given the log as a member of a group.
        subscribed: bool,
    },
    /// It goes on anywhere from here: it sought, was assigned anew, or began again.
    Moved,
}

/// One operation. A history holds them in the order in which they began.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who.
    pub process: u64,
    /// What.
    pub action: Action,
    /// How it ended.
    pub ending: Ending,
}

/// The kinds of anomalies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Sends and polls disagree about the value at an offset.
    InconsistentOffsets,
    /// One value stands at more than one offset.
    Duplicate,
    /// A confirmed value below the highest offset that was read was never read.
    LostWrite,
    /// A confirmed value was never read, though everything was read at the end.
    Unseen,
    /// A refused value was read.
    Aborted,
    /// Between two polls of a process, or within one, values that are known were passed over.
    PollSkip,
    /// A later poll of a process, or a later record of one, has a smaller offset.
    NonmonotonicPoll,
    /// A later confirmed send of a process has a smaller offset.
    NonmonotonicSend,
    /// A subscribed process was given a value twice.
    ConsumedTwice,
}

/// Something in a history that must not be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Anomaly {
    /// Of which kind.
    pub kind: Kind,
    /// What it is.
    pub message: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

#[derive(Debug, Default)]
struct Log {
    /// Every value that was seen at an offset.
    versions: BTreeMap<i64, BTreeSet<u64>>,
    read: BTreeSet<u64>,
    highest_read: Option<i64>,
    confirmed: BTreeMap<u64, Option<i64>>,
    failed: BTreeSet<u64>,
}

/// Returns every anomaly of a history. `read_to_end` says that at the end everything was read, so that what
/// was not seen by then never will be.
pub fn check(history: &[Operation], read_to_end: bool) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let logs = gather(history);
    for (key, log) in &logs {
        check_log(key, log, read_to_end, &mut found);
    }
    check_processes(history, &logs, &mut found);
    found.sort();
    found
}

fn gather(history: &[Operation]) -> BTreeMap<&str, Log> {
    let mut logs: BTreeMap<&str, Log> = BTreeMap::new();
    for Operation { action, ending, .. } in history {
        match action {
            Action::Send { key, value, offset } => {
                let log = logs.entry(key).or_default();
                match ending {
                    Ending::Ok => {
                        log.confirmed.insert(*value, *offset);
                        if let Some(offset) = offset {
                            log.versions.entry(*offset).or_default().insert(*value);
                        }
                    }
                    Ending::Failed => {
                        log.failed.insert(*value);
                    }
                    Ending::Unknown => {}
                }
            }
            Action::Poll { key, records, .. } => {
                let log = logs.entry(key).or_default();
                for (offset, value) in records {
                    log.versions.entry(*offset).or_default().insert(*value);
                    log.read.insert(*value);
                    log.highest_read = log.highest_read.max(Some(*offset));
                }
            }
            Action::Moved => {}
        }
    }
    logs
}

fn check_log(key: &str, log: &Log, read_to_end: bool, found: &mut Vec<Anomaly>) {
    let mut note = |kind, message| found.push(Anomaly { kind, message });
    let mut places: BTreeMap<u64, i64> = BTreeMap::new();
    for (offset, values) in &log.versions {
        if values.len() > 1 {
            let message = format!("offset {offset} of {key} is told to hold {values:?}");
            note(Kind::InconsistentOffsets, message);
        }
        for value in values {
            if let Some(other) = places.insert(*value, *offset) {
                let message = format!("{value} is at offsets {other} and {offset} of {key}");
                note(Kind::Duplicate, message);
            }
        }
    }
    for (value, offset) in &log.confirmed {
        if log.read.contains(value) {
            continue;
        }
        if let (Some(offset), Some(highest)) = (offset, log.highest_read)
            && *offset < highest
        {
            let message =
                format!("{value} at offset {offset} of {key} was never read, {highest} was");
            note(Kind::LostWrite, message);
        } else if read_to_end {
            note(Kind::Unseen, format!("{value} was confirmed to be in {key} and never read"));
        }
    }
    for value in log.failed.intersection(&log.read) {
        note(Kind::Aborted, format!("{value} was refused by {key} and read"));
    }
}

fn check_processes(history: &[Operation], logs: &BTreeMap<&str, Log>, found: &mut Vec<Anomaly>) {
    let mut note = |kind, message| found.push(Anomaly { kind, message });
    let mut polled: BTreeMap<(u64, &str), i64> = BTreeMap::new();
    let mut sent: BTreeMap<(u64, &str), i64> = BTreeMap::new();
    let mut consumed: BTreeSet<(u64, &str, u64)> = BTreeSet::new();
    for Operation { process, action, ending } in history {
        match action {
            Action::Moved => polled.retain(|(other, _), _| other != process),
            Action::Send { key, offset: Some(offset), .. } if *ending == Ending::Ok => {
                let last = sent.insert((*process, key), *offset);
                if let Some(last) = last.filter(|last| last >= offset) {
                    let message = format!(
                        "process {process} sent to {key} at offset {last} and then at {offset}"
                    );
                    note(Kind::NonmonotonicSend, message);
                }
            }
            Action::Send { .. } => {}
            Action::Poll { key, records, subscribed } => {
                for (offset, value) in records {
                    if *subscribed && !consumed.insert((*process, key, *value)) {
                        let message = format!("process {process} was given {value} of {key} twice");
                        note(Kind::ConsumedTwice, message);
                    }
                    let Some(last) = polled.insert((*process, key), *offset) else { continue };
                    if *offset <= last {
                        let message =
                            format!("process {process} read {key} at {last} and then at {offset}");
                        note(Kind::NonmonotonicPoll, message);
                        continue;
                    }
                    let between = logs[key.as_str()].versions.range(last + 1..*offset);
                    let skipped: Vec<i64> = between.map(|(offset, _)| *offset).collect();
                    if !skipped.is_empty() {
                        let message = format!(
                            "process {process} read {key} at {last} and then at {offset}, past \
                             {skipped:?}"
                        );
                        note(Kind::PollSkip, message);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(process: u64, value: u64, offset: i64) -> Operation {
        let action = Action::Send { key: "a".to_owned(), value, offset: Some(offset) };
        Operation { process, action, ending: Ending::Ok }
    }

    fn poll(process: u64, records: &[(i64, u64)]) -> Operation {
        let records = records.to_vec();
        let action = Action::Poll { key: "a".to_owned(), records, subscribed: false };
        Operation { process, action, ending: Ending::Ok }
    }

    fn kinds(history: &[Operation]) -> Vec<Kind> {
        let mut kinds: Vec<Kind> =
            check(history, true).into_iter().map(|anomaly| anomaly.kind).collect();
        kinds.dedup();
        kinds
    }

    #[test]
    fn a_good_history_has_no_anomaly() {
        let history = [
            send(1, 10, 0),
            send(1, 11, 1),
            send(2, 12, 3),
            poll(3, &[(0, 10), (1, 11)]),
            poll(3, &[(3, 12)]),
            poll(4, &[(0, 10), (1, 11), (3, 12)]),
        ];
        assert_eq!(kinds(&history), []);
    }

    #[test]
    fn sends_and_polls_that_disagree_are_found() {
        assert_eq!(
            kinds(&[send(1, 10, 0), poll(2, &[(0, 11)])]),
            [Kind::InconsistentOffsets, Kind::Unseen]
        );
    }

    #[test]
    fn a_value_that_stands_twice_is_found() {
        assert_eq!(kinds(&[send(1, 10, 0), poll(2, &[(0, 10), (1, 10)])]), [Kind::Duplicate]);
    }

    #[test]
    fn a_value_below_what_was_read_that_nobody_read_is_lost() {
        let history = [send(1, 10, 0), send(1, 11, 1), poll(2, &[(1, 11)])];
        assert_eq!(kinds(&history), [Kind::LostWrite]);
    }

    #[test]
    fn a_value_that_nobody_read_at_the_end_is_unseen() {
        let history = [send(1, 10, 0), send(1, 11, 1), poll(2, &[(0, 10)])];
        assert_eq!(kinds(&history), [Kind::Unseen]);
        assert_eq!(check(&history, false), [], "it may still come");
    }

    #[test]
    fn a_refused_value_that_is_read_is_found() {
        let refused = Operation { ending: Ending::Failed, ..send(1, 10, 0) };
        assert_eq!(kinds(&[refused, poll(2, &[(0, 10)])]), [Kind::Aborted]);
    }

    #[test]
    fn a_poll_that_passes_over_or_goes_back_is_found_unless_its_process_moved() {
        let sends = [send(1, 10, 0), send(1, 11, 1), send(1, 12, 2)];
        let whole = poll(9, &[(0, 10), (1, 11), (2, 12)]);
        let with = |polls: &[Operation]| [&sends[..], std::slice::from_ref(&whole), polls].concat();
        assert_eq!(kinds(&with(&[poll(2, &[(0, 10)]), poll(2, &[(2, 12)])])), [Kind::PollSkip]);
        assert_eq!(
            kinds(&with(&[poll(2, &[(1, 11)]), poll(2, &[(0, 10)])])),
            [Kind::NonmonotonicPoll]
        );
        let moved = Operation { process: 2, action: Action::Moved, ending: Ending::Ok };
        assert_eq!(kinds(&with(&[poll(2, &[(1, 11)]), moved, poll(2, &[(0, 10)])])), []);
    }

    #[test]
    fn sends_of_one_process_that_change_places_are_found() {
        let history = [send(1, 10, 1), send(1, 11, 0), poll(2, &[(0, 11), (1, 10)])];
        assert_eq!(kinds(&history), [Kind::NonmonotonicSend]);
    }

    #[test]
    fn a_member_that_is_given_a_value_twice_is_found() {
        let given = || {
            let records = vec![(0, 10)];
            let action = Action::Poll { key: "a".to_owned(), records, subscribed: true };
            Operation { process: 2, action, ending: Ending::Ok }
        };
        let moved = Operation { process: 2, action: Action::Moved, ending: Ending::Ok };
        assert_eq!(kinds(&[send(1, 10, 0), given(), moved, given()]), [Kind::ConsumedTwice]);
    }
}
