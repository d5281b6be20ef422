//! Partitions whose readers of committed records are held back, and by whom.
//!
//! The lag of such a partition is what lies between its last stable offset and its high watermark at the moment
//! of the scrape. At most [`SERIES_MAX`] of them are told one by one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use mainspring_core::ids::{Offset, ProducerId, TopicPartition};

use super::groups::{GroupMetrics, label};
use super::{family, head, sample};

/// Most partitions whose lag is told.
const SERIES_MAX: usize = 1000;

/// What is known of partitions that are held back.
#[derive(Debug, Default)]
pub(crate) struct TransactionMetrics(Mutex<BTreeMap<TopicPartition, Pin>>);

#[derive(Debug)]
struct Pin {
    topic: Arc<str>,
    last_stable_offset: Offset,
    producer_id: ProducerId,
}

impl TransactionMetrics {
    /// Takes in what holds a partition back, `None` where nothing does.
    pub(crate) fn pinned(
        &self,
        partition: TopicPartition,
        topic: Arc<str>,
        by: Option<(Offset, ProducerId)>,
    ) {
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match by {
            Some((last_stable_offset, producer_id)) => {
                pins.insert(partition, Pin { topic, last_stable_offset, producer_id });
            }
            None => {
                pins.remove(&partition);
            }
        }
    }

    /// Writes all values in Prometheus' text format.
    pub(super) fn write(&self, text: &mut String, groups: &GroupMetrics) {
        let pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        family(
            text,
            "mainspring_txn_held_partitions",
            "Partitions of which an open transaction keeps records from readers of committed ones.",
            "gauge",
            pins.len() as u64,
        );
        let name = "mainspring_partition_last_stable_offset_lag";
        let help =
            "Such records, with the producer of the transaction; of at most 1,000 partitions.";
        head(text, name, help, "gauge");
        let mut labels = String::new();
        for (partition, pin) in pins.iter().take(SERIES_MAX) {
            let end = groups.high_watermark_of(*partition).unwrap_or(0);
            let lag = end.saturating_sub(pin.last_stable_offset.0);
            labels.clear();
            label(&mut labels, "{topic", &pin.topic);
            write!(labels, ",partition=\"{}\"", partition.partition)
                .expect("writing to a string does not fail");
            write!(labels, ",producer_id=\"{}\"}}", pin.producer_id.0)
                .expect("writing to a string does not fail");
            sample(text, name, &labels, u64::try_from(lag).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use mainspring_core::ids::{PartitionIndex, Uuid};

    use super::*;

    #[test]
    fn a_partition_is_told_while_it_is_held_back() {
        let metrics = TransactionMetrics::default();
        let groups = GroupMetrics::default();
        let place = TopicPartition { topic_id: Uuid([7; 16]), partition: PartitionIndex(3) };
        let text = |metrics: &TransactionMetrics| {
            let mut text = String::new();
            metrics.write(&mut text, &groups);
            text
        };
        groups.high_watermark(place, Offset(12));
        metrics.pinned(place, "t".into(), Some((Offset(5), ProducerId(9))));
        let held = text(&metrics);
        let lag = "lag{topic=\"t\",partition=\"3\",producer_id=\"9\"} 7\n";
        assert!(held.contains(lag), "{held}");
        assert!(held.contains("mainspring_txn_held_partitions 1\n"), "{held}");
        metrics.pinned(place, "t".into(), None);
        let free = text(&metrics);
        assert!(!free.contains("lag{"), "{free}");
        assert!(free.contains("mainspring_txn_held_partitions 0\n"), "{free}");
    }
}
