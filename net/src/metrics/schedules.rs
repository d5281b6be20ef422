//! Records that wait at partitions which this node leads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mainspring_core::ids::TopicPartition;
use mainspring_core::io::Waits;

use super::groups::label;
use super::{family, head, sample};

/// Most topics that are told one by one.
const SERIES_MAX: usize = 1000;

/// What is known of partitions at which something waits, or did.
#[derive(Debug, Default)]
pub(crate) struct ScheduleMetrics(Mutex<BTreeMap<TopicPartition, (Arc<str>, Waits)>>);

impl ScheduleMetrics {
    /// Takes in how much waits at a partition, `None` where that is not known here any more.
    pub(crate) fn told(&self, partition: TopicPartition, topic: Arc<str>, waits: Option<Waits>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match waits {
            Some(waits) => known.insert(partition, (topic, waits)),
            None => known.remove(&partition),
        };
    }

    /// Writes all values in Prometheus' text format, as they are at a moment in Unix milliseconds.
    pub(super) fn write(&self, text: &mut String, now_ms: i64) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut topics: BTreeMap<&str, u64> = BTreeMap::new();
        for (topic, waits) in known.values() {
            *topics.entry(topic).or_default() += waits.scheduled;
        }
        let name = "mainspring_scheduled_messages";
        let help =
            "Records that wait for their time, of at most 1,000 topics; at most a second old.";
        head(text, name, help, "gauge");
        let mut labels = String::new();
        for (topic, count) in topics.into_iter().take(SERIES_MAX) {
            labels.clear();
            label(&mut labels, "{topic", topic);
            labels.push('}');
            sample(text, name, &labels, count);
        }
        let name = "mainspring_scheduled_next_seconds";
        let help =
            "Seconds until the next of them is due, 0 once it is late; there while any waits.";
        head(text, name, help, "gauge");
        if let Some(due_ms) = known.values().filter_map(|(_, waits)| waits.next_due_ms).min() {
            let left_ms = u64::try_from(due_ms.saturating_sub(now_ms)).unwrap_or(0);
            sample(text, name, "", left_ms.div_ceil(1000));
        }
        let half = known.values().map(|(_, waits)| waits.half).sum();
        let help = "Half messages without a verdict.";
        family(text, "mainspring_half_messages", help, "gauge", half);
    }
}

#[cfg(test)]
mod tests {
    use mainspring_core::ids::{PartitionIndex, Uuid};

    use super::*;

    #[test]
    fn what_waits_is_told_by_topic_with_the_next_record_of_all() {
        let metrics = ScheduleMetrics::default();
        let place =
            |index| TopicPartition { topic_id: Uuid([7; 16]), partition: PartitionIndex(index) };
        let text = |now_ms| {
            let mut text = String::new();
            metrics.write(&mut text, now_ms);
            text
        };
        let waits = |scheduled, half, next_due_ms| Some(Waits { scheduled, half, next_due_ms });
        metrics.told(place(0), "t".into(), waits(2, 1, Some(90_000)));
        metrics.told(place(1), "t".into(), waits(3, 0, Some(70_001)));

        let told = text(60_000);
        assert!(told.contains("mainspring_scheduled_messages{topic=\"t\"} 5\n"), "{told}");
        assert!(told.contains("mainspring_scheduled_next_seconds 11\n"), "{told}");
        assert!(told.contains("mainspring_half_messages 1\n"), "{told}");
        assert!(text(99_000).contains("mainspring_scheduled_next_seconds 0\n"));

        metrics.told(place(0), "t".into(), None);
        metrics.told(place(1), "t".into(), waits(0, 0, None));
        let none = text(60_000);
        assert!(none.contains("mainspring_scheduled_messages{topic=\"t\"} 0\n"), "{none}");
        assert!(!none.contains("next_seconds 0"), "{none}");
    }
}
