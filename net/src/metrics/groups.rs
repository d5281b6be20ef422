//! Groups by state, and how far they are behind.
//!
//! The lag of a group at a partition is what lies between its committed offset, or the start of the
//! log where that has passed it, and the high watermark. Both ends are taken at the moment of the
//! scrape, and it is never below zero. At most [`SERIES_MAX`] partitions of groups are told.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainspring_core::ids::{Offset, PartitionIndex, TopicId, TopicPartition};

use super::{family, head, sample};

/// Most pairs of a group and a partition whose lag is told.
const SERIES_MAX: usize = 1000;

/// Kafka's names of the states of a group.
const STATES: [&str; 4] = ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable"];

/// What is known of groups.
#[derive(Debug, Default)]
pub(crate) struct GroupMetrics(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The first offset and the high watermark of each partition.
    bounds: BTreeMap<TopicPartition, (i64, i64)>,
    /// Committed offsets, with the ids of their topics.
    committed: BTreeMap<Series, (TopicId, i64)>,
    /// Whether a committed offset was left out.
    is_full: bool,
    /// Groups by state, of each coordinator.
    states: BTreeMap<TopicPartition, Vec<(&'static str, usize)>>,
}

/// A partition that a group has committed an offset of.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    group: Arc<str>,
    topic: Arc<str>,
    partition: PartitionIndex,
}

impl GroupMetrics {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in how far a partition is committed.
    pub(crate) fn high_watermark(&self, partition: TopicPartition, high_watermark: Offset) {
        self.known().bounds.entry(partition).or_default().1 = high_watermark.0;
    }

    /// Returns how far a partition is committed, where that is known.
    pub(super) fn high_watermark_of(&self, partition: TopicPartition) -> Option<i64> {
        self.known().bounds.get(&partition).map(|(_, high_watermark)| *high_watermark)
    }

    /// Takes in both ends of what can be read of a partition.
    pub(crate) fn bounds(&self, partition: TopicPartition, start: Offset, high_watermark: Offset) {
        self.known().bounds.insert(partition, (start.0, high_watermark.0));
    }

    /// Takes in that a partition is gone.
    pub(crate) fn gone(&self, partition: TopicPartition) {
        let mut known = self.known();
        known.bounds.remove(&partition);
        known.states.remove(&partition);
    }

    /// Takes in that an offset was committed, or is gone.
    pub(crate) fn committed(
        &self,
        group: Arc<str>,
        topic: Arc<str>,
        partition: PartitionIndex,
        committed: Option<(TopicId, i64)>,
    ) {
        self.known().commit(Series { group, topic, partition }, committed);
    }

    /// Takes in how many groups of a coordinator are in each state.
    pub(crate) fn states(&self, coordinator: TopicPartition, states: Vec<(&'static str, usize)>) {
        self.known().states.insert(coordinator, states);
    }

    /// Writes all values in Prometheus' text format.
    pub(super) fn write(&self, text: &mut String) {
        let known = self.known();
        let name = "mainspring_groups";
        head(text, name, "Groups by state, at most a second old.", "gauge");
        for state in STATES {
            let of_state = known.states.values().flatten().filter(|(name, _)| *name == state);
            let count: usize = of_state.map(|(_, count)| count).sum();
            sample(text, name, &format!("{{state=\"{state}\"}}"), count as u64);
        }
        let name = "mainspring_group_lag_records";
        let help = "Records between the committed offset of a group and the end of a partition.";
        head(text, name, help, "gauge");
        let mut labels = String::new();
        for (series, &(topic_id, committed)) in &known.committed {
            let partition = TopicPartition { topic_id, partition: series.partition };
            let Some(&(start, end)) = known.bounds.get(&partition) else { continue };
            let lag = end.saturating_sub(committed.max(start));
            labels.clear();
            label(&mut labels, "{group", &series.group);
            label(&mut labels, ",topic", &series.topic);
            write!(labels, ",partition=\"{}\"}}", series.partition)
                .expect("writing to a string does not fail");
            sample(text, name, &labels, u64::try_from(lag).unwrap_or(0));
        }
        family(
            text,
            "mainspring_group_lag_is_cut",
            "1 once there were more than 1,000 lags: the rest is left out.",
            "gauge",
            u64::from(known.is_full),
        );
    }
}

impl Known {
    fn commit(&mut self, key: Series, committed: Option<(TopicId, i64)>) {
        let Some(committed) = committed else {
            self.committed.remove(&key);
            return;
        };
        if self.committed.len() < SERIES_MAX || self.committed.contains_key(&key) {
            self.committed.insert(key, committed);
        } else {
            self.is_full = true;
        }
    }
}

/// Writes a label with its value in quotes, escaped as Prometheus wants it.
pub(super) fn label(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str("=\"");
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use mainspring_core::ids::Uuid;

    use super::*;

    fn partition(index: i32) -> TopicPartition {
        TopicPartition { topic_id: Uuid([3; 16]), partition: PartitionIndex(index) }
    }

    fn bounds(metrics: &GroupMetrics, index: i32, start: i64, end: i64) {
        metrics.bounds(partition(index), Offset(start), Offset(end));
    }

    fn committed(metrics: &GroupMetrics, group: &str, index: i32, offset: Option<i64>) {
        let committed = offset.map(|offset| (Uuid([3; 16]), offset));
        metrics.committed(group.into(), "t".into(), PartitionIndex(index), committed);
    }

    fn text(metrics: &GroupMetrics) -> String {
        let mut text = String::new();
        metrics.write(&mut text);
        text
    }

    #[test]
    fn lag_is_never_negative_and_never_counts_what_cannot_be_read() {
        let metrics = GroupMetrics::default();
        bounds(&metrics, 0, 10, 100);
        for (offset, lag) in [(40, 60), (100, 0), (150, 0), (3, 90), (-1, 90)] {
            committed(&metrics, "g", 0, Some(offset));
            let line = format!(
                "mainspring_group_lag_records{{group=\"g\",topic=\"t\",partition=\"0\"}} {lag}\n"
            );
            assert!(text(&metrics).contains(&line), "{offset}: {}", text(&metrics));
        }
        committed(&metrics, "g", 0, None);
        assert!(!text(&metrics).contains("group=\"g\""));
    }

    #[test]
    fn a_topic_that_is_gone_has_no_lag() {
        let metrics = GroupMetrics::default();
        bounds(&metrics, 0, 0, 5);
        committed(&metrics, "g", 0, Some(1));
        metrics.gone(partition(0));
        assert!(!text(&metrics).contains("group=\"g\""));
    }

    #[test]
    fn names_are_escaped_and_their_number_is_bounded() {
        let metrics = GroupMetrics::default();
        bounds(&metrics, 0, 0, 5);
        committed(&metrics, "a\"b\\c\nd", 0, Some(5));
        let escaped = r#"{group="a\"b\\c\nd",topic="t","#;
        assert!(text(&metrics).contains(escaped), "{}", text(&metrics));
        assert!(text(&metrics).contains("mainspring_group_lag_is_cut 0\n"));
        for group in 0..2 * SERIES_MAX {
            committed(&metrics, &format!("group-{group}"), 0, Some(0));
        }
        let text = text(&metrics);
        let samples = text.lines().filter(|line| line.starts_with("mainspring_group_lag_records{"));
        assert_eq!(samples.count(), SERIES_MAX);
        assert!(text.contains("mainspring_group_lag_is_cut 1\n"));
    }

    #[test]
    fn groups_of_all_coordinators_are_counted_by_state() {
        let metrics = GroupMetrics::default();
        for index in 0..3 {
            metrics.states(partition(index), vec![("Stable", 2), ("Empty", 1)]);
        }
        assert!(text(&metrics).contains("mainspring_groups{state=\"Stable\"} 6\n"));
        assert!(text(&metrics).contains("mainspring_groups{state=\"PreparingRebalance\"} 0\n"));
        metrics.gone(partition(1));
        assert!(text(&metrics).contains("mainspring_groups{state=\"Empty\"} 2\n"));
    }
}
